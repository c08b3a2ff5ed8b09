"""OpenSSH's server, on this host and in a container."""
import os
import pwd
import shutil
import socket
import subprocess
from pathlib import Path

from consumption import children_cpu_seconds, cpu_seconds, memory_bytes, name_of, with_descendants
from engine import GUEST_SSHD, LABEL, docker, has_image
from processes import Failed, Kept, wait_until
from ssh import to_loopback
from targets.base import Target, Unavailable

START_SECONDS = 15
SETTLE_SECONDS = 10
PROGRAM = "/usr/sbin/sshd"
USER = "bench"
PASSWD = f"{USER}:x:64999:64999::/:/bin/sh"
SHADOW = f"{USER}:*:19000:0:99999:7:::"

# PAM would add to each login.
CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {host_key}
AuthorizedKeysFile {authorized_keys}
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
UseDNS no
PrintMotd no
PrintLastLog no
MaxStartups 1000
MaxSessions 100
PidFile none
"""

# What sshd has to see of the world is laid over the host's in a mount namespace of its own: a user with /bin/sh, and
# folders for what it writes about logins.
HOST = """
set -e
exec 3<"$1/authorized_keys"
mount -t tmpfs tmpfs /var/log
mount --bind "$1/passwd" /etc/passwd
mount --bind "$1/shadow" /etc/shadow
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 755 /run/sshd
cat <&3 >/run/sshd/authorized_keys
exec 3<&-
exec "$2" -D -e -f "$1/config"
"""

CONTAINER = f"""
set -e
mkdir -p -m 755 /run/sshd
cat /bench/authorized_keys >/run/sshd/authorized_keys
cat /bench/host >/run/sshd/host
chmod 600 /run/sshd/host
echo '{PASSWD}' >>/etc/passwd
echo '{SHADOW}' >>/etc/shadow
touch /var/log/lastlog /var/log/wtmp
exec {PROGRAM} -D -e -f /bench/config
"""


class Sshd(Target):
    kind = "sshd"
    listener = None

    def __init__(self, folder, run):
        self.run, self.shared = run, folder
        self.folder = folder / self.name

    def prepare(self, host_key, authorized_keys):
        self.folder.mkdir(mode=0o755)
        for name in ("client", "host", "authorized_keys"):
            shutil.copy(self.shared / name, self.folder)
        self.port = free_port()
        config = CONFIG.format(port=self.port, host_key=host_key, authorized_keys=authorized_keys)
        (self.folder / "config").write_text(config)

    def settle(self, logins=1):
        wait_until("sshd has seen everybody off", SETTLE_SECONDS, lambda: len(self.processes()) == 1)

    def processes(self):
        return [pid for pid in with_descendants(self.listener) if name_of(pid).startswith("sshd")]

    def cpu_seconds(self):
        return cpu_seconds(self.listener) + children_cpu_seconds(self.listener)

    def connected_cpu_seconds(self):
        return sum(map(cpu_seconds, self.processes()))

    def memory_bytes(self):
        return memory_bytes(self.processes())


class SshdOnHost(Sshd):
    name = "sshd-host"
    about = "OpenSSH's `sshd` on the host, without PAM; a user whose shell is `/bin/sh`"
    process = None

    def start(self):
        if not Path(PROGRAM).exists():
            raise Unavailable(f"no {PROGRAM}; script/bootstrap --test installs it")
        is_root = os.geteuid() == 0
        keys = "/run/sshd/authorized_keys" if is_root else f"{self.folder}/authorized_keys"
        self.prepare(f"{self.folder}/host", keys)
        user = USER if is_root else pwd.getpwuid(os.geteuid()).pw_name
        words = [PROGRAM, "-D", "-e", "-f", f"{self.folder}/config"]
        if is_root:
            self.write_accounts()
            words = ["unshare", "--mount", "sh", "-c", HOST, "sh", str(self.folder), PROGRAM]
        with open(self.folder / "log", "wb") as log:
            self.process = Kept(self.shared, words, stderr=log)
        self.listener = self.process.pid
        self.ssh = to_loopback(self.folder, self.port, user)
        wait_until("sshd listens", START_SECONDS, lambda: answers(self.port) or self.process.has_ended())
        if self.process.has_ended():
            raise Unavailable((self.folder / "log").read_text().strip().splitlines()[-1])

    def write_accounts(self):
        (self.folder / "passwd").write_text(f"{Path('/etc/passwd').read_text().rstrip()}\n{PASSWD}\n")
        # Not the host's: nobody's hash has any business here.
        (self.folder / "shadow").write_text(f"{SHADOW}\n")

    def stop(self):
        if self.process:
            self.process.end()


class SshdInContainer(Sshd):
    name = "sshd-container"
    about = "the same in a container of the guest image, on the host's network"
    container = None

    def start(self):
        if not has_image(GUEST_SSHD):
            raise Unavailable(f"no image {GUEST_SSHD}; script/build-guest-image sshd makes it")
        self.prepare("/run/sshd/host", "/run/sshd/authorized_keys")
        words = ["run", "--detach", "--init", "--network", "host", "--label", f"{LABEL}={self.run}"]
        words += ["--volume", f"{self.folder}:/bench:ro", "--user", "0", "--entrypoint", "/bin/sh"]
        try:
            self.container = docker(*words, GUEST_SSHD, "-c", CONTAINER)
        except (Failed, subprocess.TimeoutExpired) as error:
            raise Unavailable(str(error)) from error
        self.ssh = to_loopback(self.folder, self.port, USER)
        wait_until("sshd listens", START_SECONDS, lambda: answers(self.port))
        first = int(docker("inspect", "--format", "{{.State.Pid}}", self.container))
        self.listener = next(pid for pid in with_descendants(first) if name_of(pid) == "sshd")

    def stop(self):
        if self.container:
            docker("rm", "--force", "--volumes", self.container)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False
