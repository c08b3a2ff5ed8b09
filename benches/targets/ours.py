"""The server, as the release build and its defaults have it, but for the launcher and the pool."""
import json
import os
import time

from consumption import cpu_seconds, memory_bytes
from engine import GUEST, LABEL, has_image
from processes import Failed, Kept, run, wait_until
from ssh import to_loopback
from targets.base import Target, Unavailable

START_SECONDS = 20
# Each of the first containers in turn.
WARM_SECONDS_EACH = 5
STOP_SECONDS = 45
SETTLE_SECONDS = 60
# A container is told of as running a little before the server has taken note, and as gone before the engine is done.
PAUSE_SECONDS = 0.1


class Ours(Target):
    def __init__(self, bench, launcher, warm=0, mode="connection"):
        self.bench, self.launcher, self.warm, self.mode = bench, launcher, warm, mode
        self.name = f"{'warm' if warm else 'cold'}-{launcher}"
        self.kind = f"ours, {launcher}"
        pool = f"a pool of {warm}" if warm else "a container started for each login"
        self.about = f"this server, `launcher: {launcher}`, {pool}"
        self.process = None
        # Containers that have to have gone by now.
        self.gone = 0

    def start(self):
        if not has_image(GUEST):
            raise Unavailable(f"no image {GUEST}; script/build-guest-image makes it")
        self.folder = self.bench.new_folder(self.name)
        (self.folder / "config.yaml").write_text(json.dumps(self.config(), indent=2))
        words = [self.bench.binary, "serve", "--config", str(self.folder / "config.yaml")]
        with open(self.folder / "log", "wb") as log:
            self.process = Kept(self.bench.folder, words, stderr=log)
        port = wait_until("the server listens", START_SECONDS, lambda: self.port() or self.process.has_ended())
        if self.process.has_ended():
            raise Unavailable(f"the server refuses this configuration: {self.complaint()}")
        self.ssh = to_loopback(self.bench.folder, port, "root")
        self.instance = (self.folder / "state/instance-id").read_text().strip()
        try:
            self.check()
        except Failed as error:
            raise Unavailable(str(error)) from error

    def config(self):
        docker = {
            "container": {"image": GUEST, "labels": {LABEL: self.bench.run}},
            "imagePullPolicy": "Never", "launcher": self.launcher, "mode": self.mode,
        }
        config = {
            "ssh": {"listen": "127.0.0.1:0"},
            "auth": {"authorizedKeysFile": str(self.bench.folder / "authorized_keys")},
            "docker": {"config": docker},
            "policy": {"forwarding": {"local": "enable"}},
            "stateDir": str(self.folder / "state"),
            "log": {"format": "json"},
        }
        if host := os.environ.get("DOCKER_HOST"):
            config["docker"]["host"] = host
        if self.warm:
            config["pool"] = {"warm": self.warm}
        return config

    def port(self):
        for line in self.log_lines():
            fields = line.get("fields", line)
            if fields.get("message") == "listening":
                return int(fields["address"].rsplit(":", 1)[1])
        return None

    def log_lines(self):
        for line in (self.folder / "log").read_text().splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                pass

    def complaint(self):
        """What is wrong with the configuration is for people, and so the only line without a time stamp."""
        lines = [line for line in (self.folder / "log").read_text().splitlines() if line and not line.startswith("{")]
        return lines[0].removeprefix(f"{self.folder}/") if lines else "without a word"

    def check(self):
        """That it is what it is said to be: some servers ignore what they do not know yet."""
        if not self.bench.events.wait(self.instance, self.warm, 0, max(1, self.warm * WARM_SECONDS_EACH)):
            raise Failed(f"there are not {self.warm} containers that wait for somebody")
        with open(self.folder / "first", "w+b") as output:
            run(self.words("tr '\\0' ' ' </proc/1/cmdline"), stdout=output)
            output.seek(0)
            is_exec = b"sleep infinity" in output.read()
        self.settle()
        if is_exec != (self.launcher == "exec"):
            raise Failed(f"`launcher: {self.launcher}` has no effect")

    def settle(self, logins=1):
        self.gone += logins
        if not self.bench.events.wait(self.instance, self.warm, self.gone, SETTLE_SECONDS):
            self.bench.say(f"{self.name}: after {SETTLE_SECONDS} s there are not {self.warm} containers")
            self.gone = len(self.bench.events.gone_of(self.instance))
        time.sleep(PAUSE_SECONDS)

    def gone_seconds(self, since):
        gone = self.bench.events.gone_of(self.instance)
        return gone[-1] - since if gone else None

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def connected_cpu_seconds(self):
        return self.cpu_seconds()

    def memory_bytes(self):
        return memory_bytes([self.process.pid])

    def stop(self):
        if self.process:
            self.process.end(STOP_SECONDS)
