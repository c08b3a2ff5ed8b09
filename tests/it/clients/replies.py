"""Sends every type of request with want_reply, alone and pipelined, and prints `type: number of replies`."""
import sys
import asyncio
import raw

host, port, user, key = sys.argv[1:5]

PTY = (raw.string(b"xterm"), *[raw.uint32(number) for number in (80, 24, 0, 0)], raw.string(b"\0"))
SINGLE = {
    "pty-req": PTY,
    "env": (raw.string(b"FOO"), raw.string(b"bar")),
    "env refused": (raw.string(b"NOT_ACCEPTED"), raw.string(b"x")),
    "shell": (),
    "exec": (raw.string(b"sleep 2"),),
    "subsystem": (raw.string(b"sftp"),),
    "subsystem unknown": (raw.string(b"nosuch"),),
    "x11-req": (raw.boolean(False), raw.string(b"MIT-MAGIC-COOKIE-1"), raw.string(b"00" * 16), raw.uint32(0)),
    "auth-agent-req@openssh.com": (),
    "nosuch@example.org": (),
    "xon-xoff": (raw.boolean(False),),
}
RUNNING = {
    "window-change": tuple(raw.uint32(number) for number in (90, 30, 0, 0)),
    "signal": (raw.string(b"USR1"),),
    "break": (raw.uint32(0),),
}


async def count(channel, name, send):
    """Waits for one reply, and then a little for one too many."""
    before = channel.replies()
    send()
    try:
        await channel.wait(lambda: channel.replies() > before, 20)
    except asyncio.TimeoutError:
        pass
    await asyncio.sleep(0.1)
    print(f"{name}: {channel.replies() - before}")


async def main():
    async with raw.connect(host, port, user, key) as connection:
        warm = await raw.open_session(connection)
        warm.request("exec", raw.string(b"true"))
        await warm.closed(20)
        for name, arguments in SINGLE.items():
            channel = await raw.open_session(connection)
            await count(channel, name, lambda: channel.request(name.split(" ")[0], *arguments))
            channel.send_close()
        channel = await raw.open_session(connection)
        channel.request("pty-req", *PTY)
        channel.request("exec", raw.string(b"trap '' USR1; echo trapped; sleep 100"))
        # A signal that comes before the trap ends the program, and a channel that has ended answers nothing.
        await channel.wait(lambda: b"trapped" in channel.output, 20)
        for name, arguments in RUNNING.items():
            await count(channel, name, lambda: channel.request(name, *arguments))
        channel.send_close()
        channel = await raw.open_session(connection)
        channel.request("pty-req", *PTY)
        channel.request("env", raw.string(b"FOO"), raw.string(b"bar"))
        channel.request("exec", raw.string(b"sleep 1"))
        try:
            await channel.wait(lambda: channel.replies() >= 3, 20)
        except asyncio.TimeoutError:
            pass
        await asyncio.sleep(0.1)
        print(f"three pipelined: {channel.replies() / 3:g}")


asyncio.run(main())
