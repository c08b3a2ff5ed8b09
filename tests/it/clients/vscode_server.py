#!/usr/bin/env python3
"""Stands for the server of VS Code: says where it listens, answers HTTP, and speaks an echo after an upgrade."""

import asyncio
import sys
import uuid

COMMIT = "8b617bd08fd9e3fc94d14adb8d358b56e3f72314"
RUN = uuid.uuid4().hex


async def serve(reader, writer):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    if "\r\nupgrade: websocket\r\n" in head.lower():
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    else:
        body = f"{COMMIT} {RUN}".encode()
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    writer.close()


async def main():
    assert "--start-server" in sys.argv and "--host=127.0.0.1" in sys.argv and "--port=0" in sys.argv, sys.argv
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    print("Extension host agent listening on", server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
