"""Opens a forwarded connection each way with paramiko; prints what came back by each."""
import sys
import socket
import threading
import paramiko

host, port, user, key, listen, there = sys.argv[1:7]
WORDS = bytes(range(256)) * 4000

client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect(
    host, int(port), user, key_filename=key, allow_agent=False, look_for_keys=False, timeout=10, auth_timeout=10,
    banner_timeout=10,
)
transport = client.get_transport()
_, stdout, _ = client.exec_command(listen, timeout=20)
inside = stdout.readline().split()[-1]


def exchange(peer):
    peer.settimeout(20)

    def say():
        peer.sendall(WORDS)
        peer.shutdown(1)

    thread = threading.Thread(target=say)
    thread.start()
    back = b""
    while chunk := peer.recv(65536):
        back += chunk
    thread.join()
    peer.close()
    return "equal" if back == WORDS else f"{len(back)} of {len(WORDS)} bytes"


def take_in(channel, origin, server):
    """Somebody inside has called: everything goes on to `there`, and back."""
    peer = socket.create_connection(("127.0.0.1", int(there)), 20)

    def pass_on(source, sink):
        while chunk := source.recv(65536):
            sink.sendall(chunk)
        sink.shutdown(socket.SHUT_WR if isinstance(sink, socket.socket) else 1)

    for pair in ((channel, peer), (peer, channel)):
        threading.Thread(target=pass_on, args=pair, daemon=True).start()


print("local", exchange(transport.open_channel("direct-tcpip", ("127.0.0.1", int(inside)), ("127.0.0.1", 1), timeout=10)))
listens = transport.request_port_forward("127.0.0.1", 0, take_in)
print("remote", exchange(transport.open_channel("direct-tcpip", ("127.0.0.1", listens), ("127.0.0.1", 1), timeout=10)))
transport.cancel_port_forward("127.0.0.1", listens)
client.close()
