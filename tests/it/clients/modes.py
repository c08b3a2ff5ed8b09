"""Runs one command on a terminal without echo whose erase character is Ctrl-H."""
import sys
import asyncio
import asyncssh
import raw

host, port, user, key, command = sys.argv[1:6]


async def main():
    modes = {asyncssh.PTY_ECHO: 0, asyncssh.PTY_VERASE: 8}
    async with raw.connect(host, port, user, key) as connection:
        result = await connection.run(command, term_type="xterm", term_modes=modes)
        print(result.stdout)


asyncio.run(main())
