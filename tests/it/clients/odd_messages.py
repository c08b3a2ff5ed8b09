"""Messages that no sane client sends. Where the connection is to live, a command runs on it afterwards."""
import sys
import asyncio
import raw
from asyncssh.connection import SSHConnection

host, port, user, key, case = sys.argv[1:6]

GLOBAL_REQUEST, REQUEST_SUCCESS, REQUEST_FAILURE = 80, 81, 82


refused = 0


def count_refusal(_connection, _kind, _packet_id, _packet):
    """asyncssh itself knows nothing of the channels that are opened behind its back."""
    global refused
    refused += 1
    return True


async def command_works(connection):
    channel = await raw.open_session(connection)
    channel.request("exec", raw.string(b"echo ok"))
    await channel.closed(120)
    if channel.output != b"ok\n":
        sys.exit(f"a later command printed {channel.output!r}, {channel.errors!r}")


async def two_execs(connection):
    channel = await raw.open_session(connection)
    channel.request("exec", raw.string(b"sleep 1; echo first"))
    channel.request("exec", raw.string(b"echo second"))
    channel.request("shell")
    channel.request("subsystem", raw.string(b"sftp"))
    await channel.closed(120)
    kinds = [kind for kind in channel.messages if kind in (raw.SUCCESS, raw.FAILURE)]
    if kinds != [raw.SUCCESS, raw.FAILURE, raw.FAILURE, raw.FAILURE]:
        sys.exit(f"replies {kinds}")
    sys.stdout.write(channel.output.decode())


async def unknown_numbers(connection):
    for number in (150, 170, 191):
        connection.send_packet(number, b"x" * 10)
    await command_works(connection)


async def unknown_requests(connection, times=200):
    for _ in range(times):
        connection.send_packet(GLOBAL_REQUEST, raw.string(b"nosuch@example.org"), raw.boolean(False))
    await command_works(connection)


async def refused_opens(connection, times=200):
    for number in range(times):
        window = raw.uint32(1 << 20), raw.uint32(32768)
        connection.send_packet(raw.OPEN, raw.string(b"nosuch@example.org"), raw.uint32(10_000 + number), *window)
    await command_works(connection)
    # russh refuses an unknown type twice (docs/limitations.md).
    if refused not in (times, 2 * times):
        sys.exit(f"{refused} of {times} opens refused")


async def unsolicited_replies(connection, times=200):
    for _ in range(times):
        connection.send_packet(REQUEST_SUCCESS)
        connection.send_packet(REQUEST_FAILURE)
    await command_works(connection)


async def unknown_channels(connection, times=50):
    for number in range(times):
        unknown = raw.uint32(77_000 + number)
        connection.send_packet(raw.DATA, unknown, raw.string(b"x"))
        connection.send_packet(raw.WINDOW_ADJUST, unknown, raw.uint32(1))
        connection.send_packet(raw.REQUEST, unknown, raw.string(b"shell"), raw.boolean(True))
        connection.send_packet(raw.SUCCESS, unknown)
        connection.send_packet(raw.EOF, unknown)
        connection.send_packet(raw.CLOSE, unknown)
    await command_works(connection)


async def flood(connection):
    await unknown_requests(connection, 20_000)
    await refused_opens(connection, 20_000)
    await unsolicited_replies(connection, 20_000)


async def main():
    async with raw.connect(host, port, user, key) as connection:
        SSHConnection._packet_handlers[raw.OPEN_FAILURE] = count_refusal
        await globals()[case](connection)


asyncio.run(main())
