"""The server under test and the engine it uses, both to be killed and started again."""
import asyncio
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

IMAGE = "coracle/guest:latest"
START_SECONDS = 30
STOP_SECONDS = 60
# A private engine gets a bridge of its own: without one, or with none, dockerd would remove everybody's.
BRIDGE = "coracle-soak0"
BRIDGE_ADDRESS = "10.213.77.1/24"
SHARED_SOCKET = "unix:///var/run/docker.sock"


class Outages:
    """When something was away: failures meanwhile are explained."""

    def __init__(self, after):
        self.spans = []
        self.after = after

    def begin(self):
        self.spans.append([time.monotonic(), None])

    def end(self):
        self.spans[-1][1] = time.monotonic()

    def touch(self, start, end):
        return any(begin <= end and (over is None or start <= over + self.after) for begin, over in self.spans)


async def until(what, seconds, condition):
    deadline = time.monotonic() + seconds
    while not (value := await asyncio.to_thread(condition)):
        if time.monotonic() > deadline:
            raise TimeoutError(what)
        await asyncio.sleep(0.1)
    return value


class Engine:
    """A second dockerd, or one that is there and shared."""

    def __init__(self, folder, shared):
        self.folder = folder / "engine"
        self.shared = shared
        self.host = os.environ.get("DOCKER_HOST", SHARED_SOCKET) if shared else f"unix://{self.folder}/docker.sock"
        self.process = None
        # Its containers need a moment to be told of as gone.
        self.outages = Outages(after=5)
        self.restarts = 0

    def docker(self, *arguments, timeout=60):
        command = ["docker", "-H", self.host, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout)

    def version(self):
        return self.docker("version", "--format", "{{.Server.Version}}").stdout.strip()

    async def start(self):
        if self.shared:
            return
        if self.process is None:
            self.folder.mkdir()
            subprocess.run(["ip", "link", "add", BRIDGE, "type", "bridge"], check=True)
            subprocess.run(["ip", "address", "add", BRIDGE_ADDRESS, "dev", BRIDGE], check=True)
            subprocess.run(["ip", "link", "set", BRIDGE, "up"], check=True)
        pid = self.folder / "pid"
        pid.unlink(missing_ok=True)
        options = {
            "host": self.host, "data-root": self.folder / "data", "exec-root": self.folder / "exec", "pidfile": pid,
            "bridge": BRIDGE, "iptables": "false", "ip6tables": "false", "ip-masq": "false", "ip-forward": "false",
            "containerd-namespace": "coracle-soak", "containerd-plugins-namespace": "coracle-soak-plugins",
        }
        command = ["dockerd", *(f"--{name}={value}" for name, value in options.items())]
        log = open(self.folder.parent / "engine.log", "ab")
        self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        log.close()
        await until("the engine answers", START_SECONDS * 2, lambda: self.version() != "")

    async def load_image(self):
        if self.shared:
            return
        save = f"docker save {IMAGE} | docker -H {self.host} load --quiet"
        await asyncio.to_thread(subprocess.run, save, shell=True, check=True, stdout=subprocess.DEVNULL)

    async def restart(self):
        """Stopped in good order, or killed with all that belongs to it, as by a loss of power."""
        self.restarts += 1
        self.outages.begin()
        how = random.choice([signal.SIGTERM, signal.SIGKILL])
        await self.end(how)
        if how == signal.SIGKILL:
            self.kill_containers()
        await asyncio.sleep(random.uniform(0, 3))
        await self.start()
        self.outages.end()

    async def end(self, with_signal):
        self.process.send_signal(with_signal)
        await until("the engine ends", STOP_SECONDS, lambda: self.process.poll() is not None)

    async def remove(self):
        if self.shared or self.process is None:
            return
        if self.process.poll() is None:
            await self.end(signal.SIGTERM)
        self.kill_containers()
        subprocess.run(["ip", "link", "delete", BRIDGE], check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def kill_containers(self):
        """A killed engine leaves containerd and its containers, each under a shim; all of these name our folder."""
        parents, ours = {}, set()
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if Path(os.fsdecode(words.split(b"\0")[0])).name.startswith("containerd") and f"{self.folder}/".encode() in words:
                ours.add(int(entry.name))
        for pid in [*(pid for pid, parent in parents.items() if parent in ours), *ours]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            if (place := line.split()[1]).startswith(f"{self.folder}/"):
                subprocess.run(["umount", "--lazy", place], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.folder / "exec", ignore_errors=True)


class Server:
    """The real server, always on the same port and with the same state."""

    def __init__(self, folder, program, engine):
        self.folder = folder
        self.program = program
        self.engine = engine
        self.process = None
        self.port = free_port()
        self.outages = Outages(after=1)
        self.kills = 0
        for name in ("client", "stranger"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "soak", "-f", str(folder / name)]
            subprocess.run(command, check=True)
        (folder / "config.yaml").write_text(self.config())

    def config(self):
        return f"""
stateDir: {self.folder}/state
log: {{level: info}}
ssh: {{listen: "127.0.0.1:{self.port}", loginGraceTime: 5s, keepAlive: {{interval: 2s, maxMissed: 2}}}}
auth: {{authorizedKeysFile: {self.folder}/client.pub}}
shutdown: {{grace: 2s}}
docker:
  host: {self.engine.host}
  config:
    container: {{image: "{IMAGE}"}}
    host: {{networkMode: none}}
    imagePullPolicy: Never
    timeout: 20s
"""

    async def start(self):
        log = open(self.folder / "server.log", "ab")
        command = [self.program, "serve", "--config", self.folder / "config.yaml"]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        log.close()
        await until("the server listens", START_SECONDS, self.greets)

    def greets(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"the server ended with {self.process.returncode}; see {self.folder}/server.log")
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    async def kill(self):
        """SIGKILL, and a start on what that left."""
        self.kills += 1
        self.outages.begin()
        self.process.kill()
        await asyncio.to_thread(self.process.wait)
        await asyncio.sleep(random.uniform(0, 1))
        await self.start()
        self.outages.end()

    async def stop(self):
        """SIGTERM; gives the exit status."""
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, STOP_SECONDS)

    def instance(self):
        return (self.folder / "state/instance-id").read_text().strip()

    def containers(self):
        listed = self.engine.docker("ps", "-aq", "--filter", f"label=coracle.instance={self.instance()}")
        if listed.returncode != 0:
            raise RuntimeError(listed.stderr.strip())
        return listed.stdout.split()

    def figures(self):
        """Memory in MiB and open descriptors."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) / 1024, len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def complaints(self):
        """Lines of the log that must never be there."""
        lines = (self.folder / "server.log").read_text(errors="replace").splitlines()
        return [line for line in lines if "panicked at" in line or " ERROR " in line]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
