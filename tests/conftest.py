"""What many tests share."""

import fcntl
import os
import shutil
import signal
import sqlite3
import sys
import traceback
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from jobeff.cli import main
from jobeff.engine import pool

SHM = Path("/dev/shm")  # noqa: S108
MEMORY = SHM if SHM.is_dir() and shutil.disk_usage(SHM).free > 1 << 30 else None
"""Where hundreds of small sites are made in turn without waiting for a disk; None: wherever temporary files go."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

settings.register_profile(
    "ci", deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.register_profile("faults", settings.get_profile("ci"), max_examples=30, database=None, derandomize=True)
settings.load_profile("ci")

pool.COMPILING_AFTER_S = 3600  # what a command says shall not depend on how busy the machine is

# In the background of a shell Ctrl-C is ignored, by all that is started here too: a test of it would wait for ever.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Have lines that are measured say which test runs through them.

    Of itself coverage looks for a function with such a name, and finds one of hypothesis for all that hypothesis runs.
    """
    measured = sys.modules["coverage"].Coverage.current() if "coverage" in sys.modules else None
    if measured is not None:
        measured.switch_context(f"{item.module.__name__}.{item.originalname}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real input."""
    if not SHARED.is_dir():
        pytest.skip(f"real input is not on this machine ({SHARED})")
    return SHARED


@pytest.fixture(scope="session")
def executors():
    """Executors by number of workers, kept open for the session."""
    with pool.executor(1) as one, pool.executor(2) as two:
        yield {0: pool.InProcess(), 1: one, 2: two}


@pytest.fixture
def run(capsys):
    """Runs a command; gives its exit status, output and errors. What main changes of its process is put back."""
    umask, handler = os.umask(0o022), signal.getsignal(signal.SIGTERM)

    def command(*arguments):
        with pytest.raises(SystemExit) as done:
            main([str(argument) for argument in arguments])
        return done.value.code, *capsys.readouterr()

    yield command
    os.umask(umask)
    signal.signal(signal.SIGTERM, handler)


def dump(path: Path, table: str = "jobs") -> list[tuple]:
    """All rows of a table, in order, without the column that counts writes."""
    connection = sqlite3.connect(path)
    try:
        columns = [row[1] for row in connection.execute(f"pragma table_info({table})") if row[1] != "seq"]
        quoted = ", ".join(f'"{column}"' for column in columns)
        return sorted(connection.execute(f"select {quoted} from {table}"), key=repr)
    finally:
        connection.close()


def in_a_copy(work) -> int:
    """Do something in a copy of this process, which ends then as if killed; gives its exit status.

    It waits for that process alone: `os.wait` would also give one that another test has left behind.
    """
    if pid := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        work()
    except BaseException:
        traceback.print_exc()
        os._exit(99)
    os._exit(0)


@pytest.fixture
def way_fails(monkeypatch):
    """Have the system refuse to write any file past its cache, with an error of some number."""
    control = fcntl.fcntl

    def fail(number):
        def asked(handle, *arguments):
            if arguments[1:]:
                raise OSError(number, os.strerror(number))
            return control(handle, *arguments)

        monkeypatch.setattr(fcntl, "fcntl", asked)

    return fail
