"""What Gateway does on one connection: probes, an upload by sftp, a worker, a backend, and a port forwarded to it.

The backend is a stub that says what the real one says, and echoes. Prints one line per stage that worked.
"""

import asyncio
import re
import sys

import asyncssh

HOST, PORT, USER, KEY = sys.argv[1:5]
FOLDER = ".cache/JetBrains/RemoteDev"
WORKER = b"#!/bin/sh\necho \"worker $(uname -s)-$(uname -m) in $PWD\"\n"
BACKEND = b"""#!/usr/bin/env python3
import asyncio, sys

async def echo(reader, writer):
    while chunk := await reader.read(65536):
        writer.write(chunk)
        await writer.drain()
    writer.close()

async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    print(f"Join link: tcp://127.0.0.1:{port}#jt=0599bf3d&p=IU&fp=73F421C8", flush=True)
    await server.serve_forever()

assert sys.argv[1] == "run", sys.argv
asyncio.run(main())
"""
PROBES = ["uname -sm", "echo $SHELL", "df -Pk ~", "id -un", "cat /etc/os-release", "printenv HOME", "nproc"]


async def probe(connection):
    """All at once, as a library with threads does it."""
    answers = await asyncio.gather(*(connection.run(command, check=True) for command in PROBES))
    assert answers[0].stdout.startswith("Linux ") and all(answer.stdout.strip() for answer in answers)
    print("probed")


async def upload(connection):
    async with connection.start_sftp_client() as sftp:
        await sftp.makedirs(f"{FOLDER}/remote-dev-worker", exist_ok=True)
        await sftp.makedirs(f"{FOLDER}/dist/stub/bin", exist_ok=True)
        home = await sftp.realpath(".")
        for path, content in [("remote-dev-worker/worker", WORKER), ("dist/stub/bin/remote-dev-server.sh", BACKEND)]:
            async with sftp.open(f"{FOLDER}/{path}.part", "wb") as file:
                await file.write(content)
            await sftp.posix_rename(f"{FOLDER}/{path}.part", f"{FOLDER}/{path}")
            await sftp.chmod(f"{FOLDER}/{path}", 0o755)
            attributes = await sftp.stat(f"{FOLDER}/{path}")
            assert attributes.size == len(content) and attributes.permissions & 0o777 == 0o755
    print("uploaded")
    return home


async def work(connection, home):
    answer = await connection.run(f"cd ~ && '{home}/{FOLDER}/remote-dev-worker/worker'", check=True)
    assert answer.stdout.startswith("worker Linux-"), answer.stdout
    print("worker ran")


async def start(connection, home):
    """Its channel stays for as long as it runs."""
    backend = await connection.create_process(f"'{home}/{FOLDER}/dist/stub/bin/remote-dev-server.sh' run ~/project")
    link = re.match(r"Join link: tcp://127\.0\.0\.1:(\d+)#jt=", await backend.stdout.readline())
    print("backend started")
    return backend, int(link[1])


async def talk(port, size):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    data = bytes(range(256)) * (size // 256)

    async def say():
        writer.write(data)
        await writer.drain()
        writer.write_eof()

    _, heard = await asyncio.gather(say(), reader.read())
    assert heard == data, f"{len(heard)} of {len(data)} bytes"
    writer.close()


async def main():
    options = {"known_hosts": None, "username": USER, "client_keys": [KEY], "keepalive_interval": 15}
    async with asyncssh.connect(HOST, int(PORT), **options) as connection:
        await probe(connection)
        home = await upload(connection)
        await work(connection, home)
        backend, port = await start(connection, home)
        listener = await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", port)
        await asyncio.gather(*(talk(listener.get_port(), 1 << 20) for _ in range(5)))
        # The IDE goes on asking while it works.
        await asyncio.gather(talk(listener.get_port(), 4 << 20), probe(connection))
        print("talked")
        # The brackets keep the pattern from finding the shell that looks for it.
        await connection.run("pkill -f '[R]emoteDev/dist'", check=True)
        await backend.wait_closed()
    print("ended")


asyncio.run(asyncio.wait_for(main(), 60))
