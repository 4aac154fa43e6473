"""Faults tried in copies of the source tree, each test run a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

from mutation.faults import ROOT, Fault
from mutation.trying import Result, tried

SLEEPS = 60
"""A copy hangs too if none of its processes wants the processor or a disk, as often as this when we look in turn."""


class Copy:
    """A copy of the source tree, in which faults are tried."""

    def __init__(self, tree: Path, limit: float) -> None:
        self._tree, self._limit = tree, int(limit)

    def try_one(self, fault: Fault, tests: list[str]) -> Result:
        """Write a fault into the copy and run tests there."""
        source, faulty = (ROOT / fault.path).read_bytes(), fault.source()

        def attempt(tests: list[str], with_fault: bool) -> Result:
            (self._tree / fault.path).write_bytes(faulty if with_fault else source)
            return self._run(tests)

        try:
            return tried(tests, attempt)
        finally:
            (self._tree / fault.path).write_bytes(source)

    def _run(self, tests: list[str]) -> Result:
        options = ["-x", "-q", "-p", "no:cacheprovider", "--hypothesis-profile", "faults"]
        environment = {**os.environ, "PYTHONPATH": str(self._tree), "PYTHONDONTWRITEBYTECODE": "1"}
        with tempfile.TemporaryFile() as told:
            process = subprocess.Popen(
                [sys.executable, "-m", "pytest", *options, *tests],
                cwd=self._tree, env=environment, stdout=told, stderr=told, start_new_session=True,
            )  # fmt: skip
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (self._limit, self._limit))
            try:
                status = _ended(process)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            told.seek(0)
            failed = re.search(r"^(?:FAILED|ERROR|ImportError while loading) (\S+)", told.read().decode(), re.MULTILINE)
        if status in (None, -signal.SIGXCPU, -signal.SIGKILL):
            return "hangs", ""
        if status == 0:
            return "not seen", ""
        if failed:
            return "seen", failed[1]
        return ("seen", signal.Signals(-status).name) if status < 0 else ("fails to run", "")


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    """Wait for a process; its exit status, or None if all of its session sleeps for good."""
    sleeps = 0
    while sleeps < SLEEPS:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(1)
        sleeps = sleeps + 1 if set(_states(process.pid)) <= {"S", "Z"} else 0
    return None


def _states(session: int) -> Iterator[str]:
    """What each process of a session does, in the letters of proc(5)."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, its_session, *_ = path.read_text().rpartition(")")[2].split()
            if int(its_session) == session:
                yield state


def copies(folder: Path, number: int, limit: float) -> SimpleQueue[Copy]:
    """Copies of the source tree, as git knows it, with the kernels that are compiled."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout  # noqa: S607
    compiled = [path.relative_to(ROOT) for path in (ROOT / "jobeff").glob("*/__pycache__/*.nb?")]
    trees: SimpleQueue[Copy] = SimpleQueue()
    (folder / "shared").symlink_to(ROOT.parent / "shared")  # real input, where it is there
    for i in range(number):
        for name in [*files.decode().split("\0")[:-1], *compiled]:
            target = folder / str(i) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target)
        trees.put(Copy(folder / str(i), limit))
    return trees
