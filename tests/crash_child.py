"""Runs commands in children of one process that has compiled the kernels, under strace where faults are made.

Reads requests from standard input and answers on standard output, a JSON object on a line each.
"""

import errno
import functools
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from jobeff.engine import warm


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warm.run_all()
    warm.run_all = lambda: None  # children have what this process has
    from jobeff.cli import main
    from jobeff.steps import compute, export, export_raw, import_store, rebuild, update  # noqa: F401

    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(main, **json.loads(line))), file=answers, flush=True)


def run(main, commands, cwd, strace=(), wrap=None, kill_after=None, file_size=None):
    """Run commands, each after its delay; gives their exit statuses, that of a signal as a negative number.

    What else is asked for happens to the first of them.
    """
    children = []
    for command in commands:
        wait_for, go = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(go)
            child(main, cwd, command["arguments"], command["err"], wait_for, file_size, wrap)
        os.close(wait_for)
        children.append((command["delay"], pid, go))
    first = children[0][1]
    tracer = traced(first, strace) if strace else None
    began = time.monotonic()
    for delay, _, go in sorted(children):
        time.sleep(max(0, began + delay - time.monotonic()))
        os.write(go, b"x")
        os.close(go)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(first, signal.SIGKILL)  # not waited for yet, so the id is still its own
    ended = [os.waitpid(pid, 0)[1] for _, pid, _ in children]
    seconds = time.monotonic() - began
    if tracer is not None:
        tracer.wait()
    return {"statuses": [os.waitstatus_to_exitcode(status) for status in ended], "seconds": seconds}


def traced(pid, options):
    """Attach strace to a child that still waits."""
    tracer = subprocess.Popen(["strace", "-f", "-qq", *options, "-p", str(pid)])
    while "TracerPid:\t0\n" in Path(f"/proc/{pid}/status").read_text():
        if tracer.poll() is not None:
            os.kill(pid, signal.SIGKILL)
            raise SystemExit("strace cannot attach")
        time.sleep(0.001)
    return tracer


def child(main, cwd, arguments, err, wait_for, file_size, wrap):
    status = 70
    try:
        os.chdir(cwd)
        for number, to in ((0, os.devnull), (1, err), (2, err)):
            os.dup2(os.open(to, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), number)
        os.read(wait_for, 1)
        if file_size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, resource.RLIM_INFINITY))
        if wrap is not None:
            wrapped(**wrap)
        main(arguments)
    except SystemExit as done:
        status = done.code
    except BaseException:  # as the interpreter would do
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


CALLS = ("fsync", "replace", "rename", "unlink", "ftruncate", "truncate", "mkdir", "pwrite")


def wrapped(log=None, call=None, number=0, fault=None):
    """Do without strace: make a fault where Python itself calls the system, or SQLite is told to commit."""
    counts = Counter()

    def met(name, path=None):
        counts[name] += 1
        if log is not None:
            with Path(log).open("a") as file:
                file.write(f"{name}\n")
        if (name, counts[name]) == (call, number):
            where = [str(path)] if isinstance(path, str | Path) else []
            if fault == "KILL":
                os.kill(os.getpid(), signal.SIGKILL)
            if name == "commit":
                raise sqlite3.OperationalError("database or disk is full")
            code = getattr(errno, fault)
            raise OSError(code, os.strerror(code), *where)

    def before(name, function):
        def wrapper(*arguments, **options):
            met(name, *arguments[:1])
            return function(*arguments, **options)

        return wrapper

    class Connection(sqlite3.Connection):
        def execute(self, sql, *parameters):
            if sql == "commit":
                met("commit")
            return super().execute(sql, *parameters)

    for name in CALLS:
        setattr(os, name, before(name, getattr(os, name)))
    sqlite3.connect = functools.partial(sqlite3.connect, factory=Connection)


if __name__ == "__main__":
    serve()
