"""One command after another on a connection that is open."""
import asyncio
import time
from contextlib import AsyncExitStack, ExitStack

from processes import run
from row import Row
from ssh import AES, KEX

BUDGET_SECONDS = 15
COMMANDS_PER_ROUND = 5
COMMAND_SECONDS = 20
ROWS = [
    Row("next", "next command on a connection", "ms", "asyncssh opens a channel, runs `true`, and has its exit status; one "
        "after another on one connection. Nothing is started on the client's side.", ("p50", "p90")),
    Row("next ssh", "next command by `ssh`", "ms", "The same by `ssh` over a ControlMaster's connection, from the start of "
        "that `ssh` to its end."),
    Row("next client", "of which `ssh` by itself", "ms", "`ssh -O check`, which asks the ControlMaster and not the "
        "server."),
]


def measure(bench):
    asyncio.run(measure_channels(bench))
    measure_ssh(bench)


async def measure_channels(bench):
    try:
        import asyncssh
    except ImportError:
        return bench.say("no asyncssh here (script/bootstrap --test installs it): the next command is measured by ssh only")
    connections = {}
    async with AsyncExitStack() as stack:
        for target in bench.streaming():
            if target.ssh and target.ssh.port:
                try:
                    connections[target] = await stack.enter_async_context(connect(target))
                except (OSError, asyncssh.Error) as error:
                    bench.leave_out(target, repr(error))
        connected = list(connections)
        for number in range(-1, bench.scale(10, 2)):
            for target in list(connections):
                try:
                    samples = [await command(connections[target]) for _ in range(COMMANDS_PER_ROUND)]
                    bench.add(target, {"next": samples} if number >= 0 else {})
                except (OSError, asyncssh.Error, TimeoutError) as error:
                    bench.leave_out(target, repr(error))
                    del connections[target]
    for target in connected:
        target.settle()


def connect(target):
    import asyncssh
    ssh = target.ssh
    return asyncssh.connect(
        "127.0.0.1", ssh.port, username=ssh.user, client_keys=[ssh.key], known_hosts=None, config=[], agent_path=None,
        kex_algs=[KEX], encryption_algs=[AES],
    )


async def command(connection):
    began = time.perf_counter()
    await asyncio.wait_for(connection.run("true", check=True), COMMAND_SECONDS)
    return (time.perf_counter() - began) * 1e3


def measure_ssh(bench):
    with ExitStack() as stack:
        connections = bench.connections(stack, [target for target in bench.streaming() if target.ssh])

        def one(target):
            over = connections[target]
            whole = run(over.words("true"))
            return {"next ssh": whole.seconds * 1e3, "next client": run(over.check()).seconds * 1e3}

        bench.rounds(list(connections), bench.scale(30, 3), BUDGET_SECONDS, one)
