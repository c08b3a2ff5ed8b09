"""Asks for terminals that no one has; prints `case: what the program said`."""
import sys
import asyncio
import raw

host, port, user, key = sys.argv[1:5]

CASES = {
    "0x0": ("xterm", (0, 0)),
    "65535x65535": ("xterm", (65535, 65535)),
    "huge": ("xterm", (0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF)),
    "escape in TERM": ("\x1b[31mred", (80, 24)),
    "newline in TERM": ("xterm\nINJECTED=1", (80, 24)),
    "512 bytes of TERM": ("x" * 512, (80, 24)),
}


async def main():
    async with raw.connect(host, port, user, key) as connection:
        for name, (term, size) in CASES.items():
            command = "stty size; echo injected:${INJECTED:-0}; printf %s \"$TERM\" | head -c 60; echo ok"
            result = await connection.run(command, term_type=term, term_size=size)
            print(f"{name}: {ascii(result.stdout)}")


asyncio.run(main())
