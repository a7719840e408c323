"""Runs a program on a terminal of its own, types, and prints what it said.

    terminal.py STEPS PROGRAM [ARG...]

STEPS is a JSON list: ["until", text] waits for a text that was not there before, ["type", text] types,
["size", columns, rows]. Printed is {"said": …, "code": …, "same": whether the terminal is as it was}.
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

PATIENCE = 20

steps, program = json.loads(sys.argv[1]), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    os.execvp(program[0], program)
before = termios.tcgetattr(terminal)
said, seen = b"", 0


def read(deadline):
    """Some more of what it says; False: there is no more."""
    global said
    if time.monotonic() > deadline:
        os.kill(pid, signal.SIGKILL)
        sys.exit(f"it took too long; it said: {said.decode(errors='replace')!r}")
    if not select.select([terminal], [], [], 0.1)[0]:
        return True
    try:
        more = os.read(terminal, 65536)
    except OSError:
        return False
    said += more
    return bool(more)


for step, *values in steps:
    deadline = time.monotonic() + PATIENCE
    if step == "type":
        os.write(terminal, values[0].encode())
    elif step == "size":
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", values[1], values[0], 0, 0))
    elif step == "until":
        while (at := said.find(values[0].encode(), seen)) < 0:
            if not read(deadline):
                sys.exit(f"{values[0]!r} never came; it said: {said.decode(errors='replace')!r}")
        seen = at + len(values[0].encode())
deadline = time.monotonic() + PATIENCE
while read(deadline):
    pass
_, status = os.waitpid(pid, 0)
after = termios.tcgetattr(terminal)
code = os.waitstatus_to_exitcode(status)
print(json.dumps({"said": said.decode(errors="replace"), "code": code, "same": before == after}))
