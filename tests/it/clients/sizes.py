"""Runs one command on a terminal of 100 by 40, many times over one connection, and prints each answer."""
import sys
import asyncio
import raw

host, port, user, key, command, rounds = sys.argv[1:7]


async def main():
    async with raw.connect(host, port, user, key) as connection:
        for _ in range(int(rounds)):
            result = await connection.run(command, term_type="xterm", term_size=(100, 40))
            print(result.stdout.strip())


asyncio.run(main())
