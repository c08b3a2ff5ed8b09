"""Authentication requests (RFC 4252) sent as given: paramiko does the key exchange, and afterwards the channels."""
import queue
import paramiko
from paramiko.message import Message

(DISCONNECT, IGNORE, SERVICE_REQUEST, SERVICE_ACCEPT) = (1, 2, 5, 6)
(REQUEST, FAILURE, SUCCESS, BANNER) = range(50, 54)
(PK_OK, INFO_RESPONSE) = (60, 61)
PATIENCE_SECONDS = 20


def message(kind, *fields):
    made = Message()
    made.add_byte(bytes([kind]))
    for field in fields:
        if isinstance(field, bool):
            made.add_boolean(field)
        elif isinstance(field, int):
            made.add_int(field)
        else:
            made.add_string(field)
    return made


class Connection:
    """Each request gives the server's answer as a line: `failure METHODS`, with ` partial` where it was one of several."""

    def __init__(self, host, port):
        self.answers = queue.Queue()
        self.transport = paramiko.Transport((host, int(port)))
        self.read = self.transport.packetizer.read_message
        self.transport.packetizer.read_message = self.watch
        self.transport.start_client(timeout=PATIENCE_SECONDS)
        self.send(SERVICE_REQUEST, "ssh-userauth")
        assert self.answer() == "service"

    def watch(self):
        """Keeps what belongs to the login from paramiko."""
        try:
            kind, packet = self.read()
        except Exception:
            self.answers.put((DISCONNECT, None))
            raise
        if kind == DISCONNECT:
            self.answers.put((kind, Message(packet.asbytes())))
        elif kind == SERVICE_ACCEPT or 50 <= kind < 80:
            self.answers.put((kind, packet))
            kind, packet = IGNORE, Message()
        return kind, packet

    def send(self, *fields):
        try:
            self.transport._send_message(message(*fields))
        except (EOFError, OSError, paramiko.SSHException):
            # The server has hung up; what it said before is among the answers.
            pass

    def answer(self):
        kind, packet = self.answers.get(timeout=PATIENCE_SECONDS)
        if kind == DISCONNECT and packet is None:
            self.answers.put((kind, packet))
        if kind == BANNER:
            return self.answer()
        if kind == DISCONNECT:
            if packet is None:
                return "closed"
            packet.get_int()
            return "disconnect " + packet.get_text()
        if kind == FAILURE:
            methods, partial = packet.get_text(), packet.get_boolean()
            return "failure " + methods + (" partial" if partial else "")
        return {SERVICE_ACCEPT: "service", SUCCESS: "success", PK_OK: "pk_ok or info"}[kind]

    def request(self, user, method, *fields):
        self.send(REQUEST, user, "ssh-connection", method, *fields)
        return self.answer()

    def password(self, user, password):
        return self.request(user, "password", False, password)

    def offer(self, user, algorithm, blob):
        return self.request(user, "publickey", False, algorithm, blob)

    def sign(self, user, algorithm, blob, signed):
        """`signed` makes the signature of what it is given."""
        head = message(REQUEST, user, "ssh-connection", "publickey", True, algorithm, blob).asbytes()
        session = Message()
        session.add_string(self.transport.session_id)
        return self.request(user, "publickey", True, algorithm, blob, signed(session.asbytes() + head))

    def sign_with(self, user, key):
        return self.sign(user, key.get_name(), key.asbytes(), lambda data: key.sign_ssh_data(data).asbytes())

    def code(self, user, code):
        asked = self.request(user, "keyboard-interactive", "", "")
        if asked != "pk_ok or info":
            return asked
        self.send(INFO_RESPONSE, 1, code)
        return self.answer()

    def run(self, command):
        """After a success."""
        channel = self.transport.open_session(timeout=PATIENCE_SECONDS)
        channel.settimeout(PATIENCE_SECONDS)
        channel.exec_command(command)
        output = channel.makefile("rb").read()
        assert channel.recv_exit_status() == 0
        return output.decode().strip()
