"""Sends variables that no well-meaning client sends, then runs `echo ok` on the same channel and prints its output."""
import sys
import asyncio
import raw

host, port, user, key, case = sys.argv[1:6]


async def main():
    async with raw.connect(host, port, user, key) as connection:
        channel = await raw.open_session(connection)
        if case == "nul":
            pairs = [(b"FOO", b"a\0b"), (b"F\0OO", b"x"), (b"", b"empty"), (b"FOO=BAR", b"x")]
        elif case == "bytes":
            pairs = [(b"FOO", b"\xff\xfe")]
        else:
            pairs = [(b"FOO%d" % number, b"x" * 10) for number in range(10_000)]
        for name, value in pairs:
            channel.request("env", raw.string(name), raw.string(value), want_reply=False)
        channel.request("exec", raw.string(b"echo ok"))
        await channel.closed(20)
        sys.stdout.write(channel.output.decode())


asyncio.run(main())
