"""From the start of a client to its end, with all that the login costs."""
from consumption import machine_cpu_seconds
from processes import run
from row import Row

BUDGET_SECONDS = 80
# A login is over before its container is gone.
ROWS = [
    Row("login", "login to exit of `true`", "ms", "`ssh host true`, from the start of the client to its end; without "
        "SSH the same command of `docker`. Where there is a pool, it is full.", ("p50", "p90")),
    Row("login client cpu", "CPU of the client per login", "ms", "User and system time of that client. It does not get "
        "faster with the server."),
    Row("login cpu", "CPU of the server per login", "ms", "User and system time of the server's processes, from before "
        "the login until all is cleaned up after it; of sshd with its children, to which the user's program belongs. "
        "dockerd and containerd are apart.", ("mean",), 2),
    Row("login machine cpu", "CPU of the whole machine per login", "ms", "The same for everything that ran meanwhile: "
        "client, server, engine, and what makes the next container for the pool.", ("mean",), 0),
    Row("gone", "disconnect to container gone", "ms", "From the client's end until the engine says that its container "
        "is removed.", ("p50", "p90"), 0),
]


def measure(bench):
    def login(target):
        server, machine = target.cpu_seconds(), machine_cpu_seconds()
        ended = run(target.words("true"))
        target.settle()
        figures = {
            "login": ended.seconds * 1e3,
            "login client cpu": ended.cpu_seconds * 1e3,
            "login machine cpu": (machine_cpu_seconds() - machine) * 1e3,
        }
        if server is not None:
            figures["login cpu"] = (target.cpu_seconds() - server) * 1e3
        gone = target.gone_seconds(ended.at)
        if gone is not None:
            figures["gone"] = gone * 1e3
        return figures

    bench.rounds(bench.targets, bench.scale(20, 3), BUDGET_SECONDS, login)
