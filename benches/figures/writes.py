"""A program that writes little at a time."""
from contextlib import ExitStack

from processes import run
from row import Row

BUDGET_SECONDS = 30
WRITE_BYTES = 64
WRITES_SECONDS = 120
ROWS = [
    Row("writes", f"writes of {WRITE_BYTES} bytes", "1000/s", f"`dd bs={WRITE_BYTES} count=200000`, which writes each block "
        "by itself, into `/dev/null` here: how many thousand per second.", digits=0),
]


def measure(bench):
    count = bench.scale(200_000, 20_000)
    with ExitStack() as stack:
        connections = bench.connections(stack, bench.streaming())

        def one(target):
            words = connections[target].words(f"dd if=/dev/zero bs={WRITE_BYTES} count={count} 2>/dev/null")
            return {"writes": count / 1e3 / run(words, WRITES_SECONDS).seconds}

        bench.rounds(list(connections), bench.scale(5, 1), BUDGET_SECONDS, one)
