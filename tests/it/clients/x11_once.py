"""Forwards X11 for one connection only and runs the same client of it twice; prints what each of them said."""
import sys
import asyncio
import asyncssh
import raw

host, port, user, key, display, cookies, command = sys.argv[1:8]


async def main():
    async with raw.connect(host, port, user, key) as connection:
        result = await connection.run(
            command, x11_forwarding=True, x11_display=display, x11_auth_path=cookies, x11_single_connection=True,
            input="", check=False,
        )
        print(result.stdout, end="")


asyncio.run(main())
