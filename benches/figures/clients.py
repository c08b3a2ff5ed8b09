"""Many who log in at the same moment."""
import os
from contextlib import ExitStack

from processes import run_together
from row import Row

BUDGET_SECONDS = {1: 15, 8: 30, 32: 75}
CLIENTS_SECONDS = 120
POOL = 32
ROWS = [
    *(
        Row(f"clients {count}", f"clients at once: {count}", "ms", "So many × `ssh host true`, started one right after the "
            f"other; each from its own start to its own end. The pool is one of {POOL}.", ("p50", "p90"), 0)
        for count in BUDGET_SECONDS
    ),
    *(
        Row(f"clients {count} failed", f"clients at once: {count}, failed", "", "How many of them, of all rounds, ended with "
            "another status than 0.", ("sum",), 0, compares=False)
        for count in BUDGET_SECONDS
    ),
    *(
        Row(f"clients {count} cpu", f"clients at once: {count}, their own CPU", "ms", "User and system time of all of these "
            "clients, shared among the cores. No server lets the last of them be done sooner.", digits=0, compares=False)
        for count in BUDGET_SECONDS
    ),
]


def measure(bench):
    rounds = {1: bench.scale(5, 3), 8: bench.scale(2, 1), 32: 2}
    with ExitStack() as stack:
        targets = bench.with_pool_of(stack, POOL if not bench.quick else 8)
        for count in bench.scale((1, 8, 32), (1, 8)):
            bench.rounds(targets, rounds[count], BUDGET_SECONDS[count], lambda target: crowd(target, count), warm_up=False)


def crowd(target, count):
    ended = run_together([target.words("true")] * count, CLIENTS_SECONDS)
    came = [one for one in ended if one.status == 0]
    # Who was not let in has no container.
    target.settle(len(came))
    return {
        f"clients {count}": [one.seconds * 1e3 for one in came],
        f"clients {count} failed": count - len(came),
        f"clients {count} cpu": sum(one.cpu_seconds for one in ended) / os.cpu_count() * 1e3,
    }
