"""Closes a channel whose program ignores its hang-up, and keeps the connection until standard input ends."""
import asyncio
import sys
import raw

host, port, user, key = sys.argv[1:5]


async def main():
    async with raw.connect(host, port, user, key) as connection:
        channel = await raw.open_session(connection)
        channel.request("exec", raw.string(b"trap '' HUP; echo started; while :; do sleep 1; done"))
        await channel.wait(lambda: b"started" in channel.output, 20)
        channel.send_close()
        print("closed", flush=True)
        await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
