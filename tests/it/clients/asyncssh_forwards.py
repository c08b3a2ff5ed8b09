"""Forwards a port and a socket of the file system each way, with asyncssh; prints what came back by each."""
import sys
import asyncio
import asyncssh
import raw

host, port, user, key, listen, there = sys.argv[1:7]
WORDS = bytes(range(256)) * 4000


async def exchange(reader, writer):
    writer.write(WORDS)
    writer.write_eof()
    back = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return "equal" if back == WORDS else f"{len(back)} of {len(WORDS)} bytes"


async def main():
    async with raw.connect(host, port, user, key) as connection:
        server = await connection.create_process(listen)
        inside = (await server.stdout.readline()).split()[-1]
        async with await connection.forward_local_port("127.0.0.1", 0, "127.0.0.1", int(inside)) as local:
            print("local", await exchange(*await asyncio.open_connection("127.0.0.1", local.get_port())))
        print("direct", await exchange(*await connection.open_connection("127.0.0.1", int(inside), encoding=None)))
        async with await connection.forward_remote_port("localhost", 0, "127.0.0.1", int(there)) as remote:
            print("remote", await exchange(*await connection.open_connection("127.0.0.1", remote.get_port(), encoding=None)))
        async with await connection.forward_remote_path_to_port("/tmp/asyncssh.sock", "127.0.0.1", int(there)):
            print("sockets", await exchange(*await connection.open_unix_connection("/tmp/asyncssh.sock", encoding=None)))


asyncio.run(main())
