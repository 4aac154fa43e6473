"""Faults of one module tried as plain Python, each in a fork of a process that has collected the tests."""

from __future__ import annotations

import importlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from mutation.faults import ROOT, Fault
from mutation.trying import Result, tried


def try_in_forks(path: Path, found: list[tuple[Fault, list[str]]], limit: float) -> Iterator[Result]:
    """Try faults of one module, each with tests: what becomes of each."""
    environment = {
        **os.environ, "PYTHONPATH": str(ROOT / "scripts"), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_DISABLE_JIT": "1",
    }  # fmt: skip
    with tempfile.NamedTemporaryFile() as file:
        pickle.dump((path, found, limit), file)
        file.flush()
        command = [sys.executable, "-m", "mutation.forks", file.name]
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
            for _ in found:
                what, _, by = process.stdout.readline().rstrip("\n").partition("\t")
                yield what or "fails to run", by


def main(file: Path) -> int:
    """What `try_in_forks` starts."""
    path, found, limit = pickle.loads(file.read_bytes())  # noqa: S301  (we have written it)
    files = sorted({test.partition("::")[0] for _, tests in found for test in tests})
    forks = Forks(path, found, limit)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    return int(pytest.main(["-q", "-s", "-p", "no:cacheprovider", "--hypothesis-profile", "faults", *files], [forks]))


class Forks:
    """A plugin of pytest: it collects tests once, and tries each fault of a module in a fork."""

    def __init__(self, path: Path, tries: list[tuple[Fault, list[str]]], limit: float) -> None:
        self._path, self._tries, self._limit = path, tries, limit
        self._told, self._failed = os.dup(1), False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note that a test has failed."""
        self._failed |= report.failed

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Print what became of each fault."""
        items: dict[str, list[pytest.Item]] = defaultdict(list)
        for item in session.items:
            items[item.nodeid.partition("[")[0]].append(item)
        for fault, tests in self._tries:

            def attempt(tests: list[str], with_fault: bool, fault: Fault = fault) -> Result:
                return self._fork(fault if with_fault else None, [item for test in tests for item in items[test]])

            os.write(self._told, "\t".join(tried(tests, attempt)).encode() + b"\n")
        return True

    def _fork(self, fault: Fault | None, items: list[pytest.Item]) -> Result:
        with tempfile.TemporaryFile() as failed:
            process = os.fork()
            if process == 0:
                self._try(fault, items, failed.fileno())
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            failed.seek(0)
            by = failed.read().decode()
        if status == -signal.SIGPROF:
            return "hangs", ""
        return ("seen", by or f"status {status}") if status else ("not seen", "")

    def _try(self, fault: Fault | None, items: list[pytest.Item], failed: int) -> None:
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(1, 2)
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, self._limit)
        try:
            if fault is not None:
                self._write(fault, items)
            for item in items:
                item.ihook.pytest_runtest_protocol(item=item, nextitem=None)  # with the warnings that it passes over
                if self._failed:
                    os.write(failed, item.nodeid.encode())
                    os._exit(1)
            os._exit(0)
        finally:
            os._exit(1)

    def _write(self, fault: Fault, items: list[pytest.Item]) -> None:
        """Have all modules, and tests that were given them, use the functions with the fault in them."""
        module = importlib.import_module(".".join(self._path.with_suffix("").parts))
        old = dict(vars(module))
        exec(compile(fault.source(), str(ROOT / self._path), "exec"), vars(module))  # noqa: S102  (our own source)
        new = {id(value): vars(module)[name] for name, value in old.items() if callable(value)}
        for other in [one for name, one in sys.modules.items() if name.startswith(("jobeff.", "test_"))]:
            for name, value in list(vars(other).items()):
                if other is not module and id(value) in new:
                    setattr(other, name, new[id(value)])
        for item in items:
            given = item.callspec.params if hasattr(item, "callspec") else {}
            given.update({name: new[id(value)] for name, value in given.items() if id(value) in new})


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
