"""Asks for more forwards than it may have, in ways that no OpenSSH client would; says what it was told."""
import sys
import asyncio
import collections
import asyncssh
import raw

host, port, user, key, case = sys.argv[1:6]

(GLOBAL_SUCCESS, GLOBAL_FAILURE) = (81, 82)
WINDOW = 1 << 20, 32768


async def dial(connection, there, at, kind=b"direct-tcpip"):
    """A channel, or the code it was refused with."""
    channel = raw.Channel(connection, asyncio.get_running_loop(), None, "strict", *WINDOW)
    try:
        await channel._open(kind, raw.string(there), raw.uint32(at), raw.string("127.0.0.1"), raw.uint32(1))
        return channel
    except asyncssh.ChannelOpenError as error:
        return error.code


async def listen(connection, at=0):
    """The port, or 0."""
    kind, packet = await connection._make_global_request(b"tcpip-forward", raw.string("localhost"), raw.uint32(at))
    return packet.get_uint32() if kind == GLOBAL_SUCCESS and at == 0 else at if kind == GLOBAL_SUCCESS else 0


async def cancel(connection, at):
    kind, _ = await connection._make_global_request(b"cancel-tcpip-forward", raw.string("localhost"), raw.uint32(at))
    return kind == GLOBAL_SUCCESS


async def run(connection, command, seconds=20):
    channel = await raw.open_session(connection)
    channel.request("exec", raw.string(command.encode()))
    await channel.closed(seconds)
    return channel.output.decode().strip()


def count(outcomes):
    return collections.Counter("open" if isinstance(one, raw.Channel) else one for one in outcomes)


async def still_works(connection):
    print(await run(connection, "echo works"))


async def dials(connection):
    """Nobody is there: 2 is CONNECT_FAILED, 4 RESOURCE_SHORTAGE."""
    outcomes = count(await asyncio.gather(*(dial(connection, "127.0.0.1", 9) for _ in range(3000))))
    print(sum(outcomes.values()), sorted(outcomes))
    print(await dial(connection, "127.0.0.1", 9), await dial(connection, "127.0.0.1", 65536 + 9))
    await still_works(connection)


async def holes(connection):
    """Somebody listens and takes nobody in any more: whoever dials waits."""
    hole = await raw.open_session(connection)
    hole.request("exec", raw.string(
        b"perl -MSocket -e 'socket(L,PF_INET,SOCK_STREAM,0); bind(L,sockaddr_in(7777,INADDR_LOOPBACK)); listen(L,0);"
        b" for (1..8) { socket(my $s,PF_INET,SOCK_STREAM,0); push @s,$s; fcntl($s,4,2048);"
        b" connect($s,sockaddr_in(7777,INADDR_LOOPBACK)) } $|=1; print qq(ready\\n); sleep 1000'"
    ))
    await hole.wait(lambda: b"ready" in hole.output, 20)
    waiting = [asyncio.ensure_future(dial(connection, "127.0.0.1", 7777)) for _ in range(300)]
    while sum(one.done() for one in waiting) < 44:
        await asyncio.sleep(0.02)
    await still_works(connection)
    print(sum(one.done() for one in waiting), {one.result() for one in waiting if one.done()})


async def listeners(connection):
    print(await cancel(connection, 4321))
    ports = [await listen(connection) for _ in range(100)]
    got = [at for at in ports if at]
    print(len(got), len(set(got)))
    print(await listen(connection, got[0]), await cancel(connection, got[0]), await cancel(connection, got[0]))
    print(bool(await listen(connection)), await listen(connection))
    await still_works(connection)


async def refused_callers(connection):
    """asyncssh refuses channels for listeners that it does not know."""
    at = await listen(connection)
    print(await run(connection, f"for i in $(seq 60); do nc 127.0.0.1 {at} </dev/null & done; wait; echo closed", 60))
    await still_works(connection)


async def silent(connection):
    """Nobody answers for the callers."""
    opened = []
    connection._packet_handlers = dict(connection._packet_handlers)
    connection._packet_handlers[raw.OPEN] = lambda *_: opened.append(1) or True
    at = await listen(connection)
    callers = await raw.open_session(connection)
    callers.request("exec", raw.string(f"for i in $(seq 40); do nc 127.0.0.1 {at} </dev/null & done; wait".encode()))
    while len(opened) < 16:
        await asyncio.sleep(0.02)
    await still_works(connection)
    print(len(opened))


async def odd_answers(connection):
    """Answers what was not asked, and twice what was."""
    def confirm(ours, theirs):
        connection.send_packet(raw.OPEN_CONFIRMATION, raw.uint32(theirs), raw.uint32(ours), *map(raw.uint32, WINDOW))

    def answer(_handler, _kind, _id, packet):
        packet.get_string()
        theirs = packet.get_uint32()
        confirm(5000 + theirs, theirs)
        confirm(6000 + theirs, theirs)
        for kind, rest in ((raw.DATA, [raw.string("words")]), (raw.EOF, []), (raw.CLOSE, []), (raw.DATA, [raw.string("more")])):
            connection.send_packet(kind, raw.uint32(theirs), *rest)
        return True

    connection._packet_handlers = dict(connection._packet_handlers)
    connection._packet_handlers[raw.OPEN] = answer
    connection._channels = Lenient(connection._channels)
    at = await listen(connection)
    session = await raw.open_session(connection)
    for _ in range(50):
        confirm(session._recv_chan, session._send_chan)
    print(await run(connection, f"for i in $(seq 30); do nc 127.0.0.1 {at} </dev/null | grep -c . ; done | sort | uniq -c", 60))
    await still_works(connection)


class Lenient(dict):
    """Channels; what comes for one that is not known goes nowhere."""

    def __missing__(self, _number):
        return self

    def process_packet(self, *_):
        return True

    def log_received_packet(self, *_):
        pass


async def requests(connection):
    """Both sorts of doors, twice on a channel, and once the program runs."""
    channel = await raw.open_session(connection)
    agent = lambda: channel.request("auth-agent-req@openssh.com")
    x11 = lambda protocol, cookie: channel.request(
        "x11-req", raw.boolean(False), raw.string(protocol), raw.string(cookie), raw.uint32(2)
    )
    cookie = "00112233445566778899aabbccddeeff"
    asked = 0
    for ask in (agent, agent, lambda: x11("OTHER", cookie), lambda: x11("MIT-MAGIC-COOKIE-1", "zz"),
                lambda: x11("MIT-MAGIC-COOKIE-1", cookie), lambda: x11("MIT-MAGIC-COOKIE-1", cookie)):
        ask()
        asked += 1
        await channel.wait(lambda: channel.replies() == asked, 20)
    print([kind == raw.SUCCESS for kind in channel.messages if kind in (raw.SUCCESS, raw.FAILURE)])
    channel.request("exec", raw.string(b"test -S $SSH_AUTH_SOCK && test -s $XAUTHORITY && echo $DISPLAY; read line"))
    await channel.wait(lambda: b"\n" in channel.output, 20)
    print(channel.output.decode().strip())
    asked = channel.replies()
    agent()
    await channel.wait(lambda: channel.replies() == asked + 1, 20)
    print(channel.messages[-1] == raw.FAILURE)
    await still_works(connection)


async def main():
    async with raw.connect(host, port, user, key) as connection:
        await globals()[case](connection)


asyncio.run(main())
