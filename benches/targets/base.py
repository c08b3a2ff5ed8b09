"""Something to measure."""
from contextlib import contextmanager


class Unavailable(Exception):
    """It cannot be measured here, and why."""


class Target:
    name = ""
    about = ""
    # How to get there by SSH, if that is the way.
    ssh = None
    # Targets of one kind differ in how a login comes about, and not in what a program's bytes go through.
    kind = ""

    def start(self):
        """Makes it ready and checks it. Raises `Unavailable`."""

    def stop(self):
        """Leaves nothing, whatever `start` came to."""

    def words(self, remote, terminal=False):
        """The command line of a client that logs in, runs this with a shell, and leaves."""
        return self.ssh.words(remote, terminal=terminal)

    @contextmanager
    def connection(self, folder, cipher):
        """What runs commands where somebody is logged in already: has `words(remote)`."""
        with self.ssh.connection(folder, cipher) as connection:
            yield connection

    def settle(self, logins=1):
        """Waits until all work is done that so many logins have left behind."""

    def gone_seconds(self, since):
        """From `since` to the end of the container that went last; None where nothing goes or nobody tells."""

    def cpu_seconds(self):
        """Of the server so far, once it has settled; None where it has none or nobody knows."""

    def connected_cpu_seconds(self):
        """Of the server's living processes, without the users' programs: for what happens on one connection."""

    def memory_bytes(self):
        """Of the server's processes."""
