"""Asks for what docs/protocol.md says is refused or ignored, and prints the answers. A command runs at the end."""
import sys
import asyncio
import raw
from asyncssh.connection import SSHConnection

host, port, user, key = sys.argv[1:5]

REQUEST_SUCCESS, REQUEST_FAILURE = 81, 82
# By the number that we give the channel.
TYPES = {
    100: ("x11", raw.string(b"127.0.0.1"), raw.uint32(1)),
    101: ("forwarded-tcpip", raw.string(b"localhost"), raw.uint32(1), raw.string(b"127.0.0.1"), raw.uint32(1)),
    102: ("auth-agent@openssh.com",),
    103: ("forwarded-streamlocal@openssh.com", raw.string(b"/run/x"), raw.string(b"")),
    104: ("tun@openssh.com", raw.uint32(1), raw.uint32(0)),
    105: ("nosuch@example.org",),
}
refusals = {number: [] for number in TYPES}


def note_refusal(_connection, _kind, _packet_id, packet):
    refusals[packet.get_uint32()].append(packet.get_uint32())
    return True


async def main():
    SSHConnection._packet_handlers[raw.OPEN_FAILURE] = note_refusal
    async with raw.connect(host, port, user, key) as connection:
        for number, (kind, *arguments) in TYPES.items():
            opening = raw.string(kind.encode()), raw.uint32(number), raw.uint32(1 << 20), raw.uint32(32768)
            connection.send_packet(raw.OPEN, *opening, *arguments)

        for name in ("keepalive@openssh.com", "no-more-sessions@openssh.com", "hostkeys-prove-00@openssh.com", "nosuch@example.org"):
            kind, _ = await connection._make_global_request(name.encode())
            print(f"{name}: {'refused' if kind == REQUEST_FAILURE else kind}")

        channel = await raw.open_session(connection)
        for name, *arguments in (
            ("eow@openssh.com",),
            ("exit-status", raw.uint32(0)),
            ("xon-xoff", raw.boolean(True)),
            ("break", raw.uint32(0)),
        ):
            before = channel.replies()
            channel.request(name, *arguments)
            await channel.wait(lambda: channel.replies() > before, 20)
            print(f"{name}: {'refused' if channel.messages[-1] == raw.FAILURE else channel.messages[-1]}")

        channel.request("exec", raw.string(b"wc -c"))
        channel.send_packet(raw.DATA, raw.string(b"abc"))
        channel.send_packet(raw.EXTENDED_DATA, raw.uint32(1), raw.string(b"defgh"))
        channel.send_packet(raw.EOF)
        await channel.closed(30)
        print(f"input: {channel.output.decode().strip()} bytes")

        # What was opened first was answered before all this.
        for number, (kind, *_) in TYPES.items():
            print(f"{kind}: {refusals[number]}")


asyncio.run(main())
