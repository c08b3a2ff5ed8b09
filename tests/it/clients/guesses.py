"""Wrong passwords from one address, a connection each, until it is refused: prints how many were judged."""
import sys
import socket
import paramiko

host, port, user, key, source, most = sys.argv[1:7]

for judged in range(int(most)):
    try:
        stream = socket.create_connection((host, int(port)), timeout=10, source_address=(source, 0))
        transport = paramiko.Transport(stream)
        transport.start_client(timeout=10)
    except (OSError, EOFError, paramiko.SSHException):
        print(judged)
        break
    try:
        transport.auth_password(user, "wrong")
        sys.exit("it got in")
    except paramiko.AuthenticationException:
        pass
    finally:
        transport.close()
else:
    print(most)
