"""Measures servers side by side. See script/bench."""
import resource
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager

import machine
import report
from arguments import parse
from consumption import stolen_seconds
from engine import Events
from figures import FIGURES
from processes import Failed
from results import Results
from ssh import AES, make_keys
from targets.base import Unavailable
from targets.docker import DockerExec, DockerRun
from targets.ours import Ours
from targets.peer import Peer
from targets.sshd import SshdInContainer, SshdOnHost

# For one client at a time this is always full.
POOL = 4
DESCRIPTORS = 8192
# Nothing is done twice after that.
RUN_SECONDS = 540


class Bench:
    """What the figures share: targets, sizes, and where to put what they measure."""

    def __init__(self, arguments):
        self.folder = arguments.folder
        # script/bench cleans up by the folder's name.
        self.run = self.folder.name
        self.binary = arguments.binary
        self.quick, self.size = arguments.quick, arguments.size
        self.targets, self.skipped = [], {}
        self.results = Results()
        self.figure, self.looks = "", {}
        self.began = time.monotonic()
        self.folders = 0

    def say(self, text):
        print(f"bench: {time.monotonic() - self.began:4.0f} s  {text}", file=sys.stderr, flush=True)

    def look(self, when):
        self.looks[when] = machine.look_around()

    def scale(self, full, quick):
        return quick if self.quick else full

    def new_folder(self, name):
        self.folders += 1
        folder = self.folder / f"{name}-{self.folders}"
        folder.mkdir()
        return folder

    def candidates(self, peer):
        found = [SshdOnHost(self.folder, self.run), SshdInContainer(self.folder, self.run)]
        found += [DockerExec(self.run), DockerRun(self.run)]
        found += [Ours(self, launcher, warm) for launcher in ("exec", "init") for warm in (0, POOL)]
        return [*found, *([Peer(peer)] if peer else [])]

    def start(self, stack, target):
        """Tells whether it can be measured; if not, why is said and kept."""
        stack.callback(self.stop, target)
        try:
            target.start()
            return True
        except (Unavailable, Failed) as error:
            self.say(f"{target.name} is skipped: {error}")
            self.skipped[target.name] = str(error)
            return False

    def leave_out(self, target, error):
        """Of the figure that is being measured."""
        self.say(f"{target.name} is left out: {error}")
        self.skipped[f"{target.name}, {self.figure}"] = str(error)

    def stop(self, target):
        try:
            target.stop()
        except Exception as error:  # The others have to be stopped all the same.
            self.say(f"{target.name} could not be stopped: {error}")

    def streaming(self):
        """One target of each kind: how somebody got in makes no difference to what follows."""
        kinds = {}
        for target in self.targets:
            if target.kind != "docker run":
                kinds.setdefault(target.kind if target.kind != "sshd" else target.name, target)
        return list(kinds.values())

    def with_pool_of(self, stack, count):
        """All targets, with pools of this size where they have one."""
        found = []
        for target in self.targets:
            if isinstance(target, Ours) and target.warm:
                target = Ours(self, target.launcher, count)
                if not self.start(stack, target):
                    continue
            found.append(target)
        return found

    def without_containers(self, stack):
        """sshd, and one of ours where a connection has no container as long as nothing runs on it."""
        found = [target for target in self.targets if target.kind == "sshd"]
        ours = next((target for target in self.targets if isinstance(target, Ours)), None)
        if ours:
            idle = Ours(self, ours.launcher, mode="session")
            idle.name = ours.name
            found += [idle] if self.start(stack, idle) else []
        return found

    def connections(self, stack, targets, cipher=AES):
        """To each that lets itself be connected to."""
        found = {}
        for target in targets:
            try:
                found[target] = stack.enter_context(self.connection(target, cipher))
            except Failed as error:
                self.leave_out(target, error)
        return found

    @contextmanager
    def connection(self, target, cipher):
        with target.connection(self.folder, cipher) as connection:
            yield connection
        target.settle()

    def rounds(self, targets, count, seconds, measure, warm_up=True):
        """A B C A B C …, so that drift hits all alike; the first round does not count. At least one does; no more is
        begun that would end after `seconds`, if it takes as long as the one before."""
        remaining, deadline, lasted = list(targets), min(time.monotonic() + seconds, self.began + RUN_SECONDS), 0
        for number in range(-1 if warm_up else 0, count):
            began = time.monotonic()
            if number > 0 and began + lasted > deadline:
                return self.say(f"no time for more than {number} of {count} rounds")
            for target in list(remaining):
                try:
                    figures = measure(target)
                    self.add(target, figures if number >= 0 else {})
                except Failed as error:
                    self.leave_out(target, error)
                    remaining.remove(target)
            lasted = time.monotonic() - began

    def add(self, target, figures):
        for row, samples in figures.items():
            for sample in samples if isinstance(samples, list) else [samples]:
                self.results.add(row, target.name, sample)


def main():
    arguments = parse(sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, give_up)
    raise_descriptors()
    bench = Bench(arguments)
    about = {"machine": machine.describe(bench.binary)}
    bench.look("before all")
    stolen = stolen_seconds()
    measure(bench, arguments)
    about["stolen seconds"] = stolen_seconds() - stolen
    bench.look("after all")
    about |= {"seconds": time.monotonic() - bench.began, "quick": bench.quick, "transfer bytes": bench.size}
    about |= {"looks": bench.looks, "warnings": list(machine.warnings(bench.looks))}
    report.show(bench, about)
    report.write(bench, about, arguments)
    return 0 if bench.results.samples else 1


def measure(bench, arguments):
    make_keys(bench.folder)
    candidates = bench.candidates(arguments.peer)
    names = [target.name for target in candidates]
    wanted = arguments.targets or names
    if unknown := [name for name in wanted if name not in names]:
        sys.exit(f"bench: no target `{unknown[0]}`; there are {', '.join(names)}")
    with ExitStack() as stack:
        bench.events = Events(bench.folder, bench.run)
        stack.callback(bench.events.end)
        bench.targets = [target for target in candidates if target.name in wanted and bench.start(stack, target)]
        for name in arguments.only:
            bench.figure = name
            bench.say(f"measuring: {name}")
            bench.look(f"before `{name}`")
            try:
                FIGURES[name].measure(bench)
            except (Failed, OSError, subprocess.SubprocessError) as error:
                bench.say(f"{name} was not measured to its end: {error}")
                bench.skipped[f"the rest of {name}"] = str(error)


def raise_descriptors():
    """Servers inherit it; 500 connections need more than many systems start with."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(DESCRIPTORS, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def give_up(number, _):
    """Once: what follows is the clean-up."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
