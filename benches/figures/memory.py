"""What connections cost on which nothing happens."""
import asyncio
from contextlib import AsyncExitStack, ExitStack

from figures.next_command import connect
from row import Row

COUNTS = (0, 100, 500)
OPEN_AT_ONCE = 10
WARM_UP = 10
SETTLE_SECONDS = 0.5
MIB, KIB = 1 << 20, 1 << 10
HOW = ("Proportional set size (PSS) of the server's processes. Ours runs with `mode: session`, where a connection has no "
       "container until something runs on it.")
ROWS = [
    *(Row(f"memory {count}", f"memory with {count} idle connections", "MiB", HOW) for count in COUNTS),
    Row("memory each", "memory per idle connection", "KiB", "The difference between most and none, shared among them."),
]


def measure(bench):
    try:
        import asyncssh
    except ImportError:
        return bench.say("no asyncssh here, which script/bootstrap --test installs: memory is not measured")
    with ExitStack() as stack:
        for target in bench.without_containers(stack):
            try:
                asyncio.run(grow(bench, target))
            except (OSError, asyncssh.Error) as error:
                bench.leave_out(target, repr(error))


async def grow(bench, target):
    # What is made once, for the first who come, is no matter of how many there are.
    async with AsyncExitStack() as stack:
        await open_more(stack, target, WARM_UP)
    counts = bench.scale(COUNTS, COUNTS[:2])
    sizes, there = [], 0
    async with AsyncExitStack() as stack:
        for count in counts:
            await open_more(stack, target, count - there)
            there = count
            await asyncio.sleep(SETTLE_SECONDS)
            sizes.append(target.memory_bytes())
            bench.add(target, {f"memory {count}": sizes[-1] / MIB})
    bench.add(target, {"memory each": (sizes[-1] - sizes[0]) / (counts[-1] - counts[0]) / KIB})


async def open_more(stack, target, count):
    while count > 0:
        some = min(count, OPEN_AT_ONCE)
        for connection in await asyncio.gather(*(connect(target) for _ in range(some))):
            stack.push_async_exit(connection)
        count -= some
