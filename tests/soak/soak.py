"""Runs clients against a server whose world falls apart now and then, and looks at what is left. See script/soak."""
import argparse
import asyncio
import datetime
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from clients import Book, Clients
from house import Engine, Server, until

CLIENTS_AT_ONCE = 8
SESSIONS_PER_SECOND = 6
SERVER_KILL_SECONDS = (10, 30)
ENGINE_RESTART_SECONDS = (20, 50)
WARM_UP_SECONDS = 15
# For the last containers to go, after the last client.
REMOVAL_SECONDS = 60
# How much more than when warm the server may hold in the end.
MEMORY_MIB_MAX = 32
DESCRIPTORS_MAX = 4


class Soak:
    def __init__(self, minutes, program, shared_engine):
        self.folder = Path(tempfile.mkdtemp(prefix="coracle-soak-"))
        self.engine = Engine(self.folder, shared_engine)
        self.server = Server(self.folder, program, self.engine)
        self.book = Book()
        self.clients = Clients(self.server, self.engine, self.folder, self.book)
        self.end = time.monotonic() + minutes * 60
        self.half = time.monotonic() + minutes * 30
        self.seconds = minutes * 60
        self.figures = {}

    async def run(self):
        await self.engine.start()
        await self.engine.load_image()
        await self.server.start()
        print(f"soak: server {self.server.program} on port {self.server.port}, log in {self.folder}/server.log")
        self.half, self.end = time.monotonic() + self.seconds / 2, time.monotonic() + self.seconds
        async with asyncio.TaskGroup() as group:
            group.create_task(self.trouble_the_server())
            if not self.engine.shared:
                group.create_task(self.trouble_the_engine())
            for _ in range(CLIENTS_AT_ONCE):
                group.create_task(self.client())
        await self.look()

    async def client(self):
        while time.monotonic() < self.end:
            began = time.monotonic()
            await self.clients.one()
            # All together no more than the rate, however fast they fail.
            pause = CLIENTS_AT_ONCE / SESSIONS_PER_SECOND - (time.monotonic() - began)
            await asyncio.sleep(max(pause, random.uniform(0, 0.5)))

    async def trouble_the_server(self):
        """Kills it in the first half; the second half shows whether one that lives on keeps growing."""
        while await self.sleep_before(self.half, random.uniform(*SERVER_KILL_SECONDS)):
            await self.server.kill()
        await self.sleep_before(self.end, self.half - time.monotonic())
        await self.server.kill()
        self.figures["started"] = self.server.figures()
        await self.sleep_before(self.end, WARM_UP_SECONDS)
        self.figures["warm"] = self.server.figures()

    async def trouble_the_engine(self):
        """Leaves the last tenth in peace."""
        quiet = self.end - max(self.seconds / 10, 10)
        while await self.sleep_before(quiet, random.uniform(*ENGINE_RESTART_SECONDS)):
            await self.engine.restart()

    async def sleep_before(self, moment, seconds):
        """Sleeps, and tells whether the moment has not come."""
        await asyncio.sleep(max(0, min(seconds, moment - time.monotonic())))
        return time.monotonic() < moment

    async def look(self):
        """What is left once everybody has gone."""
        try:
            await until("all containers gone", REMOVAL_SECONDS, lambda: not self.server.containers())
            # Half-open connections last until the login grace time.
            await until("few descriptors", REMOVAL_SECONDS, lambda: self.growth()[1] <= DESCRIPTORS_MAX)
        except TimeoutError as late:
            print(f"soak: waited {REMOVAL_SECONDS} s in vain: {late}")
        self.figures["end"] = self.server.figures()
        self.left = self.server.containers()
        status = await self.server.stop()
        if status != 0:
            self.book.fault("server", f"ended with {status} on SIGTERM")
        self.left = sorted({*self.left, *self.server.containers()})
        for line in self.server.complaints():
            self.book.fault("server", line)

    def growth(self):
        """Memory since it was warm, which is under load; descriptors since the start, which is idle."""
        memory, descriptors = self.figures.get("end") or self.server.figures()
        return memory - self.figures["warm"][0], descriptors - self.figures["started"][1]

    def report(self):
        book, engine = self.book, "shared" if self.engine.shared else f"its own, {self.engine_version}"
        sessions = ", ".join(f"{count} {kind}" for kind, count in book.sessions.most_common())
        rows = [
            ("date", datetime.date.today().isoformat()),
            ("duration", f"{self.seconds / 60:g} min"),
            ("machine", f"{os.cpu_count()} cores, {memory_gib():.0f} GiB"),
            ("engine", engine),
            ("build", "release" if "/release/" in str(self.server.program) else "debug"),
            ("sessions", f"{book.sessions.total()}: {sessions}"),
            ("server killed", self.server.kills),
            ("engine restarted", self.engine.restarts),
            ("failed with a reason", book.told.total()),
            ("cut off by the server's death", book.cut_off),
            ("failed for no cause, or without a word", len(book.faults)),
            ("containers left", len(self.left)),
        ]
        for moment in ("started", "warm", "end"):
            memory, descriptors = self.figures[moment]
            rows.append((f"server {moment}", f"{memory:.1f} MiB, {descriptors} descriptors"))
        print("\n| what | figure |\n| --- | --- |")
        for what, figure in rows:
            print(f"| {what} | {figure} |")
        print("\nreasons that clients read:")
        for reason, count in book.told.most_common():
            print(f"  {count:4} {reason}")
        for fault in book.faults[:50]:
            print(f"FAULT {fault}")

    def verdict(self):
        memory, descriptors = self.growth()
        problems = []
        if self.left:
            problems.append(f"containers left: {' '.join(self.left)}")
        if memory > MEMORY_MIB_MAX:
            problems.append(f"memory grew by {memory:.1f} MiB")
        if descriptors > DESCRIPTORS_MAX:
            problems.append(f"{descriptors} more descriptors than at the start")
        if self.book.faults:
            problems.append(f"{len(self.book.faults)} faults")
        return problems

    async def clean_up(self):
        if self.server.process and self.server.process.poll() is None:
            self.server.process.kill()
        await self.engine.remove()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=int, required=True)
    parser.add_argument("--server", type=Path, required=True)
    parser.add_argument("--shared-engine", action="store_true")
    arguments = parser.parse_args()
    soak = Soak(arguments.minutes, arguments.server, arguments.shared_engine)
    # Ctrl-C and SIGTERM clean up, too.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    try:
        await soak.run()
        soak.engine_version = await asyncio.to_thread(soak.engine.version)
        soak.report()
        problems = soak.verdict()
    finally:
        await soak.clean_up()
    for problem in problems:
        print(f"soak: {problem}")
    if problems:
        print(f"soak: FAILED, see {soak.folder}")
        return 1
    shutil.rmtree(soak.folder, ignore_errors=True)
    print("soak: passed")
    return 0


def memory_gib():
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
