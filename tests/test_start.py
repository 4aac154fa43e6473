"""What is started before the command line is read, and for whom."""

import inspect
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobeff import start
from jobeff.cli import cli


def test_commands_with_workers_are_those_that_ask_for_some():
    asking = {name for name, one in cli.commands.items() if "options.site()" in inspect.getsource(one.callback)}
    assert asking == start.WITH_WORKERS


@pytest.mark.parametrize(
    ("line", "has"),
    [
        ("rebuild", True),
        ("-c a.toml --workers 2 compute --all", True),
        ("--workers 10 update", True),
        ("--workers 0 update", False),
        ("--workers=0 update", False),
        ("update --help", False),
        ("--help", False),
        ("job 7", False),
        ("", False),
        ("--engine dask://here:1 rebuild", False),
        ("--engine=dask://here:1 rebuild", False),
    ],
)
def test_workers_are_made_ready_where_there_will_be_some(line, has):
    assert start.has_workers(line.split()) is has


def test_what_forks_workers_is_started_before_the_command_line_is_read():
    """With what it takes over from this process as the command has it."""
    code = """
import os, sys
from jobeff import start
from jobeff.engine import forking
sys.argv = ["jobeff", "rebuild", "--no-such-option"]
forking.prepare = lambda: print("click" in sys.modules, os.environ["OPENBLAS_NUM_THREADS"], os.fstat(0).st_rdev)
start.command()
"""
    environment = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    command = ["sh", "-c", 'exec "$0" -c "$1" <&-', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stdout) == (2, f"False 1 {Path(os.devnull).stat().st_rdev}\n")
    assert "no-such-option" in done.stderr


def test_workers_that_cannot_be_made_ready_are_told_by_the_command_that_needs_them(tmp_path):
    (tmp_path / "jobeff.toml").write_text('[clusters.c]\naccounting = "a"\njobstats = ["j"]\n')
    code = f"""
import sys
from jobeff import start
from jobeff.engine import forking
sys.argv = ["jobeff", "-c", {str(tmp_path / "jobeff.toml")!r}, "rebuild"]
tried = []
def failing():
    tried.append(1)
    print(len(tried), flush=True)
    raise BlockingIOError(11, "Resource temporarily unavailable")
forking.prepare = failing
start.command()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "1\n2\n")
    assert done.stderr.startswith("jobeff: error: ")
    assert "Resource temporarily unavailable" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_command_that_ends_at_once_leaves_no_process_behind():
    mark = f"JOBEFF_TEST={os.getpid()}"
    environment = dict(os.environ, JOBEFF_TEST=str(os.getpid()))
    command = [sys.executable, "-m", "jobeff", "rebuild", "--no-such-option"]
    done = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert done.returncode == 2
    until = time.monotonic() + 20
    while (left := [path for path in Path("/proc").glob("[0-9]*") if _has(path, mark)]) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def _has(process, mark):
    """Whether a process was started with a variable; one that has just ended was not."""
    try:
        return mark.encode() in (process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
