"""Signals to programs by the `signal` request; each case prints what the program and the channel said."""
import sys
import time
import asyncio
import raw

host, port, user, key, case = sys.argv[1:6]

TRAPPING = b"""trap 'echo got USR1' USR1; trap 'echo got TERM' TERM; trap 'echo got INT' INT
echo ready; while :; do sleep 0.02; done"""


async def started(connection, command, eof=False):
    channel = await raw.open_session(connection)
    channel.request("exec", raw.string(command))
    if eof:
        channel.send_packet(raw.EOF)
    await channel.wait(lambda: b"ready" in channel.output, 20)
    return channel


async def trapped(connection):
    channel = await started(connection, TRAPPING)
    for name in ("USR1", "TERM", "INT", "KILL"):
        start = time.monotonic()
        channel.request("signal", raw.string(name), want_reply=False)
        if name == "KILL":
            await channel.closed(10)
        else:
            await channel.wait(lambda: f"got {name}".encode() in channel.output, 10)
        print(f"{name} after {int((time.monotonic() - start) * 1000)}")
    if channel.signal != "KILL" and channel.status != 137:
        sys.exit(f"ended by signal {channel.signal} or status {channel.status}")


async def after_eof(connection):
    channel = await started(connection, b"trap 'echo got TERM; exit 3' TERM; cat; echo ready; while :; do sleep 0.02; done", eof=True)
    channel.request("signal", raw.string("TERM"), want_reply=False)
    await channel.closed(10)
    print(channel.output.decode())
    if channel.status != 3:
        sys.exit(f"status {channel.status}")


async def group(connection):
    channel = await started(connection, b"sh -c 'echo ready; sleep 4711; echo x'")
    channel.request("signal", raw.string("TERM"), want_reply=False)
    await channel.closed(10)
    print("ended without x" if b"x" not in channel.output else "ended with x")
    other = await raw.open_session(connection)
    other.request("exec", raw.string(b"ps -eo args | grep -c '^sleep 4711'"))
    await other.closed(10)
    print(other.output.decode().strip(), "left")


async def answered(connection):
    channel = await started(connection, TRAPPING)
    for name in ("USR1", "TERM"):
        granted, refused = (channel.messages.count(kind) for kind in (raw.SUCCESS, raw.FAILURE))
        channel.request("signal", raw.string(name))
        await channel.wait(lambda: channel.replies() > granted + refused, 10)
        if channel.messages.count(raw.FAILURE) > refused:
            print(f"{name} refused")
            continue
        await channel.wait(lambda: f"got {name}".encode() in channel.output, 10)
        print(f"{name} granted, arrived")
    channel.send_close()


async def main():
    async with raw.connect(host, port, user, key) as connection:
        await {"trapped": trapped, "after_eof": after_eof, "group": group, "answered": answered}[case](connection)


asyncio.run(main())
