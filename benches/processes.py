"""Programs that are run to their end and timed, and programs that stay until they are ended."""
import os
import select
import subprocess
import tempfile
import time
from dataclasses import dataclass

END_SECONDS = 10


class Failed(Exception):
    """A program did not do what it is there for."""


@dataclass
class Ended:
    seconds: float
    status: int
    # Of the program itself: user and system.
    cpu_seconds: float
    # When, in seconds since 1970.
    at: float
    errors: str

    def check(self):
        if self.status != 0:
            last = (self.errors.strip().splitlines() or ["without a word"])[-1]
            raise Failed(f"status {self.status}: {last}")
        return self


def run(words, timeout=60, **streams):
    """One program, which must succeed."""
    [ended] = run_together([words], timeout, **streams)
    return ended.check()


def run_together(commands, timeout=60, **streams):
    """Starts all at once and times each from its own start to its own end."""
    with tempfile.TemporaryFile() as errors:
        running = [start(words, errors, streams) for words in commands]
        try:
            return wait_for_all(running, timeout, errors)
        finally:
            for process, _ in running:
                kill(process)


def start(words, errors, streams):
    streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **streams}
    began = time.perf_counter()
    return subprocess.Popen(words, stderr=errors, start_new_session=True, **streams), began


def wait_for_all(running, timeout, errors):
    """By descriptors of processes: `Popen.wait` with a time-out polls, and so rounds up."""
    poll, waiting, ended = select.poll(), {}, {}
    deadline = time.perf_counter() + timeout
    try:
        for process, began in running:
            descriptor = os.pidfd_open(process.pid)
            poll.register(descriptor, select.POLLIN)
            waiting[descriptor] = (process, began)
        while waiting:
            ready = poll.poll(max(0, deadline - time.perf_counter()) * 1000)
            now = time.perf_counter()
            if not ready:
                raise Failed(f"no end within {timeout} s")
            for descriptor, _ in ready:
                process, began = waiting.pop(descriptor)
                poll.unregister(descriptor)
                os.close(descriptor)
                ended[process.pid] = reap(process, now - began)
    finally:
        for descriptor in waiting:
            os.close(descriptor)
    errors.seek(0)
    told = errors.read().decode(errors="replace")
    for one in ended.values():
        one.errors = told
    return [ended[process.pid] for process, _ in running]


def reap(process, seconds):
    at = time.time()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Ended(seconds, process.returncode, usage.ru_utime + usage.ru_stime, at, "")


def kill(process):
    if process.returncode is None:
        process.kill()
        process.wait()


class Kept:
    """A process that stays. It leaves its id in a file, so that script/bench finds it if we are killed."""

    def __init__(self, folder, words, **streams):
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
        self.process = subprocess.Popen(words, start_new_session=True, **streams)
        self.note = folder / "pids" / str(self.process.pid)
        self.note.parent.mkdir(exist_ok=True)
        self.note.touch()

    @property
    def pid(self):
        return self.process.pid

    def has_ended(self):
        return self.process.poll() is not None

    def end(self, seconds=END_SECONDS):
        if not self.has_ended():
            self.process.terminate()
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                kill(self.process)
        self.note.unlink(missing_ok=True)


def wait_until(what, seconds, condition):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise Failed(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return value
