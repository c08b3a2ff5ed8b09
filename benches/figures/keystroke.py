"""Somebody types at a terminal and waits for each letter."""
import os
import pty
import select
import subprocess
import time
from contextlib import ExitStack

from processes import Failed, Kept
from row import Row

BUDGET_SECONDS = 30
KEYS_PER_ROUND = 50
# Nobody types at once what comes next.
PAUSE_SECONDS = 0.002
ECHO_SECONDS = 5
START_SECONDS = 20
ROWS = [
    Row("keystroke", "keystroke echo", "µs", "`ssh -tt host 'cat >/dev/null'` at a local terminal: from writing one letter "
        "to reading its echo, which comes from the terminal's line discipline on the server's side; 2 ms between "
        "letters.", ("p50", "p99"), 0),
]


def measure(bench):
    with ExitStack() as stack:
        typists = {}
        for target in bench.streaming():
            try:
                typists[target] = stack.enter_context(Typist(bench.folder, target))
            except Failed as error:
                bench.leave_out(target, error)
        bench.rounds(list(typists), bench.scale(20, 2), BUDGET_SECONDS, lambda target: {"keystroke": typists[target].line()})


class Typist:
    """A client at a terminal of its own, and what somebody does there."""

    def __init__(self, folder, target):
        self.target = target
        # Its modes are what the other side's terminal gets; the client switches off this side's echo.
        self.screen, terminal = pty.openpty()
        words = target.words("echo ready; exec cat >/dev/null", terminal=True)
        self.client = Kept(folder, words, stdin=terminal, stdout=terminal, stderr=subprocess.DEVNULL)
        os.close(terminal)

    def __enter__(self):
        try:
            self.read_until(b"ready\r\n", START_SECONDS)
        except Failed:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.client.end()
        os.close(self.screen)
        self.target.settle()

    def line(self):
        """Types one, and tells how long each echo took, in microseconds."""
        samples = [self.key() for _ in range(KEYS_PER_ROUND)]
        # A terminal keeps at most 4096 letters of a line.
        os.write(self.screen, b"\n")
        self.read_until(b"\r\n", ECHO_SECONDS)
        return samples

    def key(self):
        time.sleep(PAUSE_SECONDS)
        began = time.perf_counter()
        os.write(self.screen, b"x")
        self.read_until(b"x", ECHO_SECONDS)
        return (time.perf_counter() - began) * 1e6

    def read_until(self, expected, seconds):
        seen, deadline = b"", time.monotonic() + seconds
        poll = select.poll()
        poll.register(self.screen, select.POLLIN)
        while not seen.endswith(expected):
            if not poll.poll(max(0, deadline - time.monotonic()) * 1000):
                raise Failed(f"no {expected!r} within {seconds} s but {seen[-200:]!r}")
            try:
                seen += os.read(self.screen, 4096)
            except OSError as error:
                raise Failed(f"the client ended: {seen[-200:]!r}") from error
