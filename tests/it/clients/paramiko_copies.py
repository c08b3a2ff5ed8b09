"""Connects, runs, and copies a file there and back, with paramiko."""
import io
import sys
import paramiko

host, port, user, key = sys.argv[1:5]

client = paramiko.SSHClient()
client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
client.connect(
    host, int(port), user, key_filename=key, allow_agent=False, look_for_keys=False, timeout=10, auth_timeout=10,
    banner_timeout=10,
)
_, stdout, _ = client.exec_command("echo hello; exit 3", timeout=20)
print(stdout.read().decode(), end="")
print(stdout.channel.recv_exit_status())
data = bytes(range(256)) * 12_000
sftp = client.open_sftp()
sftp.putfo(io.BytesIO(data), "/tmp/f")
back = io.BytesIO()
sftp.getfo("/tmp/f", back)
print("equal" if back.getvalue() == data else "different")
client.close()
