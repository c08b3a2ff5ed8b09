"""Connects, runs, and copies a file there and back by sftp and by scp, with asyncssh."""
import os
import sys
import asyncio
import tempfile
import asyncssh
import raw

host, port, user, key = sys.argv[1:5]


async def main():
    async with raw.connect(host, port, user, key) as connection:
        result = await connection.run("echo hello; exit 3")
        print(result.stdout, end="")
        print(result.exit_status)
        data = bytes(range(256)) * 12_000
        with tempfile.TemporaryDirectory() as folder:
            there, back = os.path.join(folder, "there"), os.path.join(folder, "back")
            with open(there, "wb") as file:
                file.write(data)
            async with connection.start_sftp_client() as sftp:
                await sftp.put(there, "/tmp/f")
                await sftp.get("/tmp/f", back)
            print("equal" if open(back, "rb").read() == data else "different")
            await asyncssh.scp(there, (connection, "/tmp/g"))
            await asyncssh.scp((connection, "/tmp/g"), back + "2")
            print("equal" if open(back + "2", "rb").read() == data else "different")


asyncio.run(main())
