"""OpenSSH's client: the same for all servers."""
import shlex
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass

from processes import Failed, Kept, wait_until

AES = "aes256-gcm@openssh.com"
CHACHA = "chacha20-poly1305@openssh.com"
KEX = "curve25519-sha256"
CONNECT_SECONDS = 20

COMMON = [
    "BatchMode=yes", "LogLevel=ERROR", "Compression=no", "ControlPath=none",
    "ControlPersist=no", f"KexAlgorithms={KEX}",
    # Newer clients send keystrokes every 20 ms.
    "IgnoreUnknown=ObscureKeystrokeTiming", "ObscureKeystrokeTiming=no",
]


@dataclass
class Ssh:
    """How to get to a server: a program, its options, and the destination."""
    program: list
    options: list
    destination: list
    # For other clients than OpenSSH's.
    port: int = 0
    user: str = ""
    key: str = ""

    def words(self, remote, cipher=AES, terminal=False):
        return [*self.client(cipher), *(["-tt"] if terminal else []), *self.destination, remote]

    def client(self, cipher):
        return [*self.program, *as_options([*COMMON, f"Ciphers={cipher}"]), *self.options]

    @contextmanager
    def connection(self, folder, cipher=AES):
        """One that stays open, and how to run commands over it."""
        # Short: the path of a socket has at most 108 bytes.
        socket = folder / f"m{len(list(folder.glob('m*.log')))}"
        log = socket.with_suffix(".log")
        # Of two values ssh takes the first.
        with open(log, "wb") as file:
            words = [*self.program, "-o", f"ControlPath={socket}", *self.client(cipher)[len(self.program):]]
            master = Kept(folder, [*words, "-M", "-N", *self.destination], stderr=file)
        try:
            wait_until("a connection", CONNECT_SECONDS, lambda: socket.exists() or master.has_ended())
            if master.has_ended():
                raise Failed(f"no connection: {log.read_text().strip() or 'without a word'}")
            over = [*self.program, "-F", "/dev/null", "-o", "LogLevel=ERROR", "-S", str(socket)]
            yield Connection(over, ["-p", "1", "over-its-socket"])
        finally:
            master.end()


@dataclass
class Connection:
    over: list
    # Never looked up: the socket knows.
    destination: list

    def words(self, remote):
        return [*self.over, *self.destination, remote]

    def check(self):
        """Asks the process that keeps the connection, and nothing of the server."""
        return [*self.over, "-O", "check", *self.destination]


def to_loopback(folder, port, user):
    key = str(folder / "client")
    options = [
        "IdentitiesOnly=yes", "IdentityAgent=none", "PreferredAuthentications=publickey",
        "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "GlobalKnownHostsFile=/dev/null",
    ]
    own = ["-F", "/dev/null", "-i", key, "-p", str(port), *as_options(options)]
    return Ssh(["ssh"], own, [f"{user}@127.0.0.1"], port, user, key)


def of_command(command):
    """`ssh -p 2022 foo@host`: the user's own configuration and keys count."""
    [program, *rest] = shlex.split(command)
    return Ssh([program], [], rest)


def as_options(options):
    return [word for option in options for word in ("-o", option)]


def make_keys(folder):
    for name in ("client", "host"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "coracle-bench", "-f", str(folder / name)]
        subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
    (folder / "authorized_keys").write_text((folder / "client.pub").read_text())
