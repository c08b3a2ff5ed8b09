"""Seconds from the connect to the login, from an address of this machine's own."""
import sys
import time
import asyncio
import asyncssh

host, port, user, key, source = sys.argv[1:6]


async def main():
    begun = time.monotonic()
    async with asyncssh.connect(
        host, int(port), username=user, client_keys=[key], known_hosts=None, agent_path=None, config=None,
        local_addr=(source, 0),
    ):
        print(f"{time.monotonic() - begun:.3f}")


asyncio.run(main())
