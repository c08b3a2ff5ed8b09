"""Median times in milliseconds that a wrong key and an unknown user take to be refused, measured in turn."""
import sys
import time
import asyncio
import statistics
import asyncssh

host, port, user, key, stranger, unknown, rounds = sys.argv[1:8]


class Watch(asyncssh.SSHClient):
    """Times from the only key offered to the refusal that leaves none."""

    def __init__(self, path):
        self.keys = [path]
        self.start = None

    def public_key_auth_requested(self):
        if self.keys:
            self.start = time.perf_counter()
            return asyncssh.read_private_key(self.keys.pop())
        self.end = time.perf_counter()
        return None


async def refusal(name, path):
    watch = Watch(path)
    try:
        await asyncssh.create_connection(
            lambda: watch, host, int(port), username=name, known_hosts=None, agent_path=None, config=None,
            client_keys=None, preferred_auth="publickey",
        )
        sys.exit("it got in")
    except asyncssh.PermissionDenied:
        return (watch.end - watch.start) * 1000


async def main():
    wrong, nobody = [], []
    for _ in range(int(rounds)):
        wrong.append(await refusal(user, stranger))
        nobody.append(await refusal(unknown, key))
    print(statistics.median(wrong), statistics.median(nobody))


asyncio.run(main())
