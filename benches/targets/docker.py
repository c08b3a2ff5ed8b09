"""The engine without SSH."""
from contextlib import contextmanager

from engine import GUEST, LABEL, docker, has_image
from targets.base import Target, Unavailable


class DockerTarget(Target):
    def __init__(self, run):
        self.run = run

    def start(self):
        if not has_image(GUEST):
            raise Unavailable(f"no image {GUEST}; script/build-guest-image makes it")


class DockerExec(DockerTarget):
    name = "docker-exec"
    about = "`docker exec` in a container that runs already, without SSH"
    kind = "docker exec"
    container = None

    def start(self):
        super().start()
        words = ["run", "--detach", "--init", "--label", f"{LABEL}={self.run}", GUEST, "sleep", "infinity"]
        self.container = docker(*words)

    def stop(self):
        if self.container:
            docker("rm", "--force", "--volumes", self.container)

    def words(self, remote, terminal=False):
        flags = "-it" if terminal else "-i"
        return ["docker", "exec", flags, self.container, "/bin/sh", "-c", remote]

    @contextmanager
    def connection(self, folder, cipher):
        yield self


class DockerRun(DockerTarget):
    name = "docker-run"
    about = "`docker run --rm`, without SSH"
    kind = "docker run"

    def words(self, remote, terminal=False):
        flags = "-it" if terminal else "-i"
        label = f"{LABEL}={self.run}"
        return ["docker", "run", "--rm", flags, "--label", label, GUEST, "/bin/sh", "-c", remote]
