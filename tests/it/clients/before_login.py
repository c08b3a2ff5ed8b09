"""Stops, or says what it must not, between the key exchange and the login; tells what it got and how long it could stay."""
import sys
import time
import paramiko
from userauth import message

host, port, user, key, case = sys.argv[1:6]

(SERVICE_REQUEST, USERAUTH_SUCCESS, GLOBAL_REQUEST, OPEN, REQUEST) = (5, 52, 80, 90, 98)
PATIENCE_SECONDS = 20

received = []


def watch(transport):
    read = transport.packetizer.read_message

    def reading():
        kind, packet = read()
        received.append(kind)
        return kind, packet

    transport.packetizer.read_message = reading


def channel_messages(transport):
    window = 1 << 20, 1 << 15
    for payload in (
        message(USERAUTH_SUCCESS),
        message(OPEN, "session", 0, *window),
        message(OPEN, "direct-tcpip", 1, *window, "127.0.0.1", 22, "127.0.0.1", 1),
        message(GLOBAL_REQUEST, "tcpip-forward", True, "127.0.0.1", 0),
        message(REQUEST, 0, "exec", True, "echo got in"),
    ):
        try:
            transport._send_message(payload)
        except (EOFError, OSError, paramiko.SSHException):
            return


def after_keys(transport):
    pass


def messages_after_keys(transport):
    channel_messages(transport)


def messages_after_service(transport):
    transport._send_message(message(SERVICE_REQUEST, "ssh-userauth"))
    channel_messages(transport)


begun = time.monotonic()
transport = paramiko.Transport((host, int(port)))
transport.start_client(timeout=10)
watch(transport)
globals()[case](transport)
while transport.is_active() and time.monotonic() - begun < PATIENCE_SECONDS:
    time.sleep(0.02)
print(f"{time.monotonic() - begun:.2f}", *received)
