"""How a command ends, as the server words it: `status N` or `signal NAME`."""
import sys
import asyncio
import raw

host, port, user, key, command = sys.argv[1:6]


async def main():
    async with raw.connect(host, port, user, key) as connection:
        result = await connection.run(command)
    if result.exit_signal:
        print("signal", result.exit_signal[0])
    else:
        print("status", result.exit_status)


asyncio.run(main())
