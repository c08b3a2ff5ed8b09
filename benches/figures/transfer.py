"""A stream through one connection, each way."""
import subprocess
from contextlib import ExitStack

from processes import kill, run
from row import Row
from ssh import AES, CHACHA

# For each cipher.
BUDGET_SECONDS = 115
TRANSFER_SECONDS = 120
GIB = 1 << 30
CIPHERS = {AES: "aes256-gcm", CHACHA: "chacha20-poly1305"}
DIRECTIONS = ("download", "upload")
DOWNLOAD = "`head -c SIZE /dev/zero` on the other side, into `/dev/null` here, over a connection that is open."
UPLOAD = "`head -c SIZE /dev/zero` here, into `cat >/dev/null` on the other side."
ROWS = [
    *(
        Row(f"{direction} {cipher}", f"{direction}, {cipher}", "MB/s", meaning, digits=0)
        for direction, meaning in zip(DIRECTIONS, (DOWNLOAD, UPLOAD)) for cipher in CIPHERS.values()
    ),
    Row("download raw", "download without SSH", "MB/s", "The same through `docker exec`.", digits=0, compares=False),
    Row("upload raw", "upload without SSH", "MB/s", "The same through `docker exec`.", digits=0, compares=False),
    *(
        Row(f"{direction} {cipher} cpu", f"CPU of the server per GiB, {direction}, {cipher}", "s", "User and system time "
            "of the server's processes, without the user's program.", digits=2)
        for direction in DIRECTIONS for cipher in CIPHERS.values()
    ),
]


def measure(bench):
    for cipher, name in CIPHERS.items():
        # Without SSH there is no cipher: once is enough.
        targets = [target for target in bench.streaming() if target.ssh or cipher == AES]
        with ExitStack() as stack:
            connections = bench.connections(stack, targets, cipher)

            def both(target):
                figures = {}
                for direction, stream in zip(DIRECTIONS, (download, upload)):
                    before = target.connected_cpu_seconds()
                    ended = stream(connections[target], bench.size)
                    row = f"{direction} {name if target.ssh else 'raw'}"
                    figures[row] = bench.size / 1e6 / ended.seconds
                    if before is not None:
                        figures[f"{row} cpu"] = (target.connected_cpu_seconds() - before) * GIB / bench.size
                return figures

            # A round is its own warm-up: what is warmed up in its first moments is little of it.
            bench.rounds(list(connections), bench.scale(3, 1), BUDGET_SECONDS, both, warm_up=False)


def download(connection, size):
    return run(connection.words(f"head -c {size} /dev/zero"), TRANSFER_SECONDS)


def upload(connection, size):
    source = subprocess.Popen(["head", "-c", str(size), "/dev/zero"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        return run(connection.words("cat >/dev/null"), TRANSFER_SECONDS, stdin=source.stdout)
    finally:
        source.stdout.close()
        kill(source)
