"""Whole commands, start-up included: how long they take, and how much memory each of their processes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

POLL_S = 0.25
"""Looking takes time from what is measured, so memory is looked at four times a second only."""


class Run(NamedTuple):
    """A command that has ended: seconds, and the most memory (MB, resident) of any one of its processes."""

    seconds: float
    peak_mb: float


def jobeff(root: Path, *arguments: str, cores: Sequence[int] | None = None) -> Run:
    """Run a jobeff command.

    Parameters
    ----------
    root
        Of the site.
    arguments
        Of the command.
    cores
        Which processor cores it may use; all by default.

    Returns
    -------
    Run
        How it went.

    Raises
    ------
    RuntimeError
        It failed.
    """
    command = [sys.executable, "-m", "jobeff", "-c", str(root / "jobeff.toml"), "-q", *arguments]
    return run(command, cores)


def least(root: Path, repeat: int, before: Callable[[], None], *arguments: str) -> float:
    """Run a jobeff command with two workers some times.

    Parameters
    ----------
    root
        Of the site.
    repeat
        How often.
    before
        Done each time before it.
    arguments
        Of the command.

    Returns
    -------
    float
        The least seconds, without what was done before.

    Raises
    ------
    RuntimeError
        It failed.
    """
    tries = []
    for _ in range(repeat):
        before()
        tries.append(jobeff(root, "--workers", "2", *arguments).seconds)
    return min(tries)


def run(command: Sequence[str], cores: Sequence[int] | None = None) -> Run:
    """Run a command.

    Parameters
    ----------
    command
        Program and arguments.
    cores
        Which processor cores it may use; all by default.

    Returns
    -------
    Run
        How it went.

    Raises
    ------
    RuntimeError
        It failed.
    """
    # As users have it, for whom pip has compiled the modules.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    # What it prints is not ours to print: with --json, ours is one value.
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, start_new_session=True, env=environment, **streams) as process:  # noqa: S603
        if cores is not None:
            os.sched_setaffinity(process.pid, cores)
        peaks: dict[int, float] = {}
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks, done))
        watcher.start()
        _, errors = process.communicate()
        seconds = time.perf_counter() - began
        done.set()
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors.decode(errors='replace')}")
    return Run(seconds, max(peaks.values(), default=0.0))


def _watch(session: int, peaks: dict[int, float], done: threading.Event) -> None:
    """Keep the most memory that each process of a session has had."""
    others: set[str] = set()  # not looked at again
    while not done.wait(POLL_S):
        for name in {entry for entry in os.listdir("/proc") if entry.isdecimal()} - others:  # noqa: PTH208
            path = Path("/proc") / name
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (path / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session:
                    peaks[int(name)] = max(peaks.get(int(name), 0.0), _resident_mb(path))
                else:
                    others.add(name)


def _resident_mb(path: Path) -> float:
    """Memory of a process that is its own, not pages of files that it has mapped."""
    for line in (path / "status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0
