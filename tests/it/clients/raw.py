"""Channels whose messages are sent as given and counted as they come: asyncssh does the transport and the login."""
import asyncio
import asyncssh
from asyncssh.channel import SSHClientChannel
from asyncssh.packet import Boolean, String, UInt32

(OPEN, OPEN_CONFIRMATION, OPEN_FAILURE, WINDOW_ADJUST, DATA, EXTENDED_DATA, EOF, CLOSE, REQUEST, SUCCESS, FAILURE) = range(90, 101)

string = String
uint32 = UInt32
boolean = Boolean


class Channel(SSHClientChannel):
    """Keeps every message that comes, and answers none but CLOSE."""

    def __init__(self, *args):
        super().__init__(*args)
        self.messages = []
        self.output = b""
        self.errors = b""
        self.status = None
        self.signal = None
        self.close_sent = False
        self.changed = asyncio.Event()

    def process_packet(self, kind, packet_id, packet):
        self.messages.append(kind)
        if kind == DATA:
            self.output += packet.get_string()
        elif kind == EXTENDED_DATA:
            packet.get_uint32()
            self.errors += packet.get_string()
        elif kind == REQUEST:
            name = packet.get_string()
            packet.get_boolean()
            if name == b"exit-status":
                self.status = packet.get_uint32()
            elif name == b"exit-signal":
                self.signal = packet.get_string().decode()
        elif kind == CLOSE:
            self.send_close()
        self.changed.set()
        return True

    def process_connection_close(self, exc):
        self.messages.append(CLOSE)
        self.changed.set()
        super().process_connection_close(exc)

    def send_close(self):
        if not self.close_sent:
            self.close_sent = True
            self.send_packet(CLOSE)
            # Else asyncssh closes the channel once more when the connection ends.
            self._send_state = "closed"

    def request(self, name, *args, want_reply=True):
        self.send_packet(REQUEST, String(name), Boolean(want_reply), *args)

    def replies(self):
        return sum(kind in (SUCCESS, FAILURE) for kind in self.messages)

    async def wait(self, condition, seconds):
        async def waiting():
            while not condition():
                self.changed.clear()
                await self.changed.wait()

        try:
            await asyncio.wait_for(waiting(), seconds)
        except asyncio.TimeoutError:
            raise asyncio.TimeoutError(f"messages {self.messages}, output {self.output[-200:]!r}, status {self.status}")

    async def closed(self, seconds):
        await self.wait(lambda: CLOSE in self.messages, seconds)


def connect(host, port, user, key, **options):
    return asyncssh.connect(
        host, int(port), username=user, client_keys=[key], known_hosts=None, agent_path=None, config=None, **options
    )


async def open_session(connection, window=2 << 20):
    channel = Channel(connection, asyncio.get_running_loop(), None, "strict", window, 32768)
    await channel._open(b"session")
    return channel
