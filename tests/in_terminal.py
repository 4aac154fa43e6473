"""Runs commands in a real terminal of 80 columns: python tests/in_terminal.py < COMMANDS, each line its words as JSON.

Prints for each what came out of the terminal, as a line of JSON with ``code`` and ``out``. Each is a fork of this
process, which has imported little.
"""

import json
import os
import sys
import termios

from jobeff.cli import main


def run(words):
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    child = os.fork()
    if child == 0:
        os.close(ours)
        os.login_tty(theirs)
        code = 1
        try:
            main(words)
        except SystemExit as done:
            sys.stdout.flush()
            code = int(done.code or 0)
        finally:
            os._exit(code)
    os.close(theirs)
    out = b""
    while True:
        try:
            some = os.read(ours, 65536)
        except OSError:  # Linux: nobody has the terminal open any more
            break
        if not some:
            break
        out += some
    os.close(ours)
    _, status = os.waitpid(child, 0)
    return {"code": os.waitstatus_to_exitcode(status), "out": out.decode()}


if __name__ == "__main__":
    os.environ |= {"TERM": "xterm-256color"}
    os.environ.pop("COLUMNS", None)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
