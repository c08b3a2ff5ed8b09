"""Runs a program at a terminal of its own, answers its questions, and prints as JSON how that went.

at_terminal.py '[["Password: ", "secret\\n"], …]' PROGRAM ARGUMENT…

Each answer is typed once its question is on the screen. Three stand for something else: "<code>" for the one-time
password of this moment by the otpauth:// URL on the screen, "<SIGTERM>" and "<SIGHUP>" for the signal.
"""

import base64
import hashlib
import hmac
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time

DEADLINE_SECONDS = 30


def main():
    answers = json.loads(sys.argv[1])
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.argv[2], sys.argv[2:])
    screen = Screen(terminal)
    shown_when_asked = []
    for question, answer in answers:
        screen.wait_for(question)
        shown_when_asked.append(shows_what_is_typed(terminal))
        if answer in ("<SIGTERM>", "<SIGHUP>"):
            os.kill(pid, getattr(signal, answer.strip("<>")))
        elif answer == "<code>":
            os.write(terminal, (code(screen.text) + "\n").encode())
        else:
            os.write(terminal, answer.encode())
    screen.wait_for(None)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    shown_after = shows_what_is_typed(terminal)
    report = dict(screen=screen.text, status=status, shown_when_asked=shown_when_asked, shown_after=shown_after)
    print(json.dumps(report))


class Screen:
    def __init__(self, terminal):
        self.terminal = terminal
        self.text = ""
        self.seen = 0

    def wait_for(self, text):
        """Reads on until `text` is there, after what was waited for before; None: until the end."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while text is None or text not in self.text[self.seen :]:
            ready, _, _ = select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))
            if not ready:
                sys.exit(f"{text!r} did not come; the screen:\n{self.text}")
            try:
                chunk = os.read(self.terminal, 65536)
            except OSError:
                chunk = b""  # The program has ended.
            if not chunk and text is None:
                return
            if not chunk:
                sys.exit(f"ended before {text!r}; the screen:\n{self.text}")
            self.text += chunk.decode(errors="replace")
        self.seen = self.text.index(text, self.seen) + len(text)


def shows_what_is_typed(terminal):
    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)


def code(screen):
    """RFC 6238 with the defaults."""
    secret = base64.b32decode(re.search(r"otpauth://totp/\S*[?&]secret=([A-Z2-7]+)", screen)[1])
    digest = hmac.new(secret, struct.pack(">Q", int(time.time()) // 30), hashlib.sha1).digest()
    offset = digest[-1] & 15
    return f"{(struct.unpack_from('>I', digest, offset)[0] & 0x7FFFFFFF) % 10**6:06}"


main()
