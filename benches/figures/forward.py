"""A stream through a forward, from a server on the other side's loopback."""
import subprocess
from contextlib import ExitStack, contextmanager

from processes import Failed, kill, run
from row import Row
from ssh import AES, CHACHA

# For each cipher.
BUDGET_SECONDS = 30
TRANSFER_SECONDS = 60
CIPHERS = {AES: "aes256-gcm", CHACHA: "chacha20-poly1305"}
MEANING = ("`ssh -W` over a connection that is open, to a program on the other side's loopback that sends SIZE bytes of "
           "zeros to whoever connects; into `/dev/null` here.")
ROWS = [
    Row(f"forwarded {cipher}", f"forwarded download, {cipher}", "MB/s", MEANING, digits=0) for cipher in CIPHERS.values()
]
# Where there is git there is Perl. It tells its port, and ends with its standard input.
SOURCE = """
$| = 1;
my ($bytes, $block) = (SIZE, "\\0" x 262144);
my $listener = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1") or die $@;
print $listener->sockport, "\\n";
if (!fork) {
    $SIG{CHLD} = "IGNORE";
    while (my $client = $listener->accept) {
        next if fork;
        for (my $left = $bytes; $left > 0;) {
            $left -= syswrite($client, $block, $left < length $block ? $left : length $block) || last;
        }
        exit;
    }
    exit;
}
1 while <STDIN>;
kill "TERM", -getpgrp;
"""


def measure(bench):
    for cipher, name in CIPHERS.items():
        with ExitStack() as stack:
            connections = bench.connections(stack, [target for target in bench.streaming() if target.ssh], cipher)
            ports = {}
            for target, connection in connections.items():
                try:
                    ports[target] = stack.enter_context(source(connection, bench.size))
                except Failed as error:
                    bench.leave_out(target, error)

            def one(target):
                ended = run([*connections[target].over, "-W", f"127.0.0.1:{ports[target]}",
                             *connections[target].destination], TRANSFER_SECONDS)
                return {f"forwarded {name}": bench.size / 1e6 / ended.seconds}

            bench.rounds(list(ports), bench.scale(3, 1), BUDGET_SECONDS, one, warm_up=False)


@contextmanager
def source(connection, size):
    """A program that sends so many bytes to each who connects, and its port."""
    perl = SOURCE.replace("SIZE", str(size)).replace("\n", " ").replace("'", "'\\''")
    words = connection.words(f"exec perl -MIO::Socket::INET -e '{perl}'")
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        told = process.stdout.readline().strip()
        if not told.isdigit():
            raise Failed("there is no Perl on the other side")
        yield int(told)
    finally:
        process.stdin.close()
        try:
            process.wait(TRANSFER_SECONDS)
        except subprocess.TimeoutExpired:
            kill(process)
        process.stdout.close()
