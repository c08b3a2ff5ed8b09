"""Asks for a terminal, which has to be refused, and runs a program on the same channel."""
import sys
import asyncio
import raw

host, port, user, key = sys.argv[1:5]


async def main():
    async with raw.connect(host, port, user, key) as connection:
        channel = await raw.open_session(connection)
        channel.request("pty-req", raw.string(b"xterm"), *[raw.uint32(number) for number in (80, 24, 0, 0)], raw.string(b"\0"))
        await channel.wait(lambda: channel.replies() > 0, 10)
        print("refused" if raw.FAILURE in channel.messages else "granted")
        channel.request("exec", raw.string(b"tty; echo done"))
        await channel.closed(20)
        print(channel.output.decode(), end="")


asyncio.run(main())
