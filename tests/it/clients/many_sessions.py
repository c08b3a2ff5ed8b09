"""Opens sessions on one connection and keeps them: prints how many it got, then each reason it was refused for."""
import sys
import asyncio
import collections
import asyncssh
import raw

host, port, user, key, most = sys.argv[1:6]


async def main():
    async with raw.connect(host, port, user, key) as connection:
        opened = await asyncio.gather(
            *(raw.open_session(connection) for _ in range(int(most))), return_exceptions=True
        )
        refused = collections.Counter(error.code for error in opened if isinstance(error, asyncssh.ChannelOpenError))
        got = [channel for channel in opened if isinstance(channel, raw.Channel)]
        print(len(got), *(f"{code}:{count}" for code, count in sorted(refused.items())))
        got[0].request("exec", raw.string(b"echo works"))
        await got[0].closed(20)
        print(got[0].output.decode(), end="")


asyncio.run(main())
