"""What clients do: one coroutine per kind, each of which says how it went."""
import asyncio
import os
import random
import re
import signal
import time
from collections import Counter

# A client that takes longer hangs; no workload needs a tenth of it.
CLIENT_SECONDS = 60
COPY_BYTES = 1 << 20
PIPE_BYTES = 4 << 20


class Book:
    """What happened."""

    def __init__(self):
        self.sessions = Counter()
        self.told = Counter()
        self.cut_off = 0
        self.faults = []

    def fault(self, kind, what):
        self.faults.append(f"{kind}: {what}")


class Clients:
    def __init__(self, server, engine, folder, book):
        self.server = server
        self.engine = engine
        self.folder = folder
        self.book = book
        self.kinds = [
            (self.run, 6), (self.pipe, 2), (self.copy, 2), (self.sftp, 1), (self.terminal, 1),
            (self.killed, 4), (self.frozen, 1), (self.half_open, 2), (self.stranger, 1),
        ]

    async def one(self):
        """One session of a random kind."""
        kinds, weights = zip(*self.kinds)
        [kind] = random.choices(kinds, weights)
        self.book.sessions[kind.__name__] += 1
        await kind()

    def command(self, program, key="client"):
        options = [
            "BatchMode=yes", "IdentitiesOnly=yes", "IdentityAgent=none", "StrictHostKeyChecking=accept-new",
            "GlobalKnownHostsFile=/dev/null", "LogLevel=ERROR", f"UserKnownHostsFile={self.folder}/known_hosts",
        ]
        port = "-p" if program == "ssh" else "-P"
        words = [program, "-F", "/dev/null", "-i", str(self.folder / key), port, str(self.server.port)]
        return words + [word for option in options for word in ("-o", option)]

    async def start(self, words, stdin=asyncio.subprocess.DEVNULL):
        pipe = asyncio.subprocess.PIPE
        return await asyncio.create_subprocess_exec(*words, stdin=stdin, stdout=pipe, stderr=pipe, start_new_session=True)

    async def finish(self, kind, words, expected, stdin=None):
        """Runs a client to its end; `expected` tells whether status and output are the right ones."""
        began = time.monotonic()
        process = await self.start(words, asyncio.subprocess.PIPE if stdin is not None else asyncio.subprocess.DEVNULL)
        try:
            output, errors = await asyncio.wait_for(process.communicate(stdin), CLIENT_SECONDS)
        except TimeoutError:
            kill(process)
            await process.wait()
            return self.book.fault(kind, f"no end within {CLIENT_SECONDS} s")
        if self.server_died_under(began, errors) or not expected(process.returncode, output):
            self.judge(kind, began, process.returncode, errors.decode(errors="replace"))

    def server_died_under(self, began, errors):
        """OpenSSH's client then drops what it has not shown yet, and keeps to the status if it has that already."""
        return b"closed by remote host" in errors and self.server.outages.touch(began, time.monotonic())

    def judge(self, kind, began, status, errors):
        """A failure must have a cause that we made, and unless that cut the line it must have been told."""
        now = time.monotonic()
        server_was_away = self.server.outages.touch(began, now)
        engine_was_away = self.engine.outages.touch(began, now)
        told = re.search(r"^(?:\x1b\[K)?coracle: (.*) \(connection \w+\)$", errors.replace("\r", "\n"), re.MULTILINE)
        if told:
            self.book.told[re.sub(r"`[^`]*`", "`…`", told[1])] += 1
            if not (engine_was_away or server_was_away):
                self.book.fault(kind, f"for no cause of ours: {told[0].strip()}")
        elif server_was_away:
            self.book.cut_off += 1
        else:
            self.book.fault(kind, f"status {status} without a reason: {errors.strip()[-300:]!r}")

    async def run(self):
        number = random.randrange(1, 100)
        words = [*self.command("ssh"), "soak@127.0.0.1", f"echo {number}; exit {number}"]
        await self.finish("run", words, lambda status, output: (status, output) == (number, b"%d\n" % number))

    async def pipe(self):
        data = os.urandom(PIPE_BYTES)
        words = [*self.command("ssh"), "soak@127.0.0.1", "cat"]
        await self.finish("pipe", words, lambda status, output: self.same("pipe", status, output, data), data)

    async def copy(self):
        """There and back within one connection: the way back needs the same container."""
        data = os.urandom(COPY_BYTES)
        words = [*self.command("ssh"), "soak@127.0.0.1", "cat > /tmp/f; sha256sum < /tmp/f >&2; cat /tmp/f"]
        await self.finish("copy", words, lambda status, output: self.same("copy", status, output, data), data)
        name = f"{self.folder}/copy-{random.randrange(1 << 30)}"
        with open(name, "wb") as file:
            file.write(data)
        words = [*self.command("scp"), *random.choice([[], ["-O"]]), name, "soak@127.0.0.1:/tmp/f"]
        await self.finish("copy", words, lambda status, _: status == 0)
        os.unlink(name)

    async def sftp(self):
        words = [*self.command("sftp"), "-b", "-", "soak@127.0.0.1"]
        script = b"mkdir /tmp/d\nput /etc/hostname /tmp/d/h\nrename /tmp/d/h /tmp/d/i\nls /tmp/d\nrm /tmp/d/i\n"
        await self.finish("sftp", words, lambda status, output: status == 0 and b"/tmp/d/i" in output, script)

    async def terminal(self):
        words = [*self.command("ssh"), "-tt", "soak@127.0.0.1"]
        expected = lambda status, output: status == 5 and b"yes-42" in output
        await self.finish("terminal", words, expected, b"test -t 0 && echo yes-$((6*7))\nexit 5\n")

    async def killed(self):
        """Killed at any moment of its life."""
        process = await self.start([*self.command("ssh"), "soak@127.0.0.1", "echo started; sleep 60"])
        await asyncio.sleep(random.uniform(0, 1.5))
        kill(process)
        await process.communicate()

    async def frozen(self):
        """Stops answering, so that only keep-alive can notice."""
        process = await self.start([*self.command("ssh"), "soak@127.0.0.1", "yes"])
        await asyncio.sleep(random.uniform(0, 1))
        kill(process, signal.SIGSTOP)
        await asyncio.sleep(random.uniform(1, 8))
        kill(process)
        await process.communicate()

    async def half_open(self):
        """Never logs in."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        except OSError:
            return
        if random.random() < 0.5:
            writer.write(b"SSH-2.0-soak\r\n")
        try:
            await asyncio.wait_for(reader.read(4096), 2)
            await asyncio.sleep(random.uniform(0, 7))
        except (OSError, TimeoutError):
            pass
        writer.transport.abort()

    async def stranger(self):
        words = [*self.command("ssh", key="stranger"), "soak@127.0.0.1", "true"]
        process = await self.start(words)
        await process.communicate()
        if process.returncode != 255:
            self.book.fault("stranger", f"was let in: status {process.returncode}")

    def same(self, kind, status, output, data):
        if status == 0 and output != data:
            self.book.fault(kind, f"{len(output)} bytes came back, not the {len(data)} that were sent")
        return status == 0


def kill(process, with_signal=signal.SIGKILL):
    try:
        os.killpg(process.pid, with_signal)
    except ProcessLookupError:
        pass
