"""Signals to whole commands, and commands whose workers die: how they end, what they leave, what the next run gives."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import hurt
import pytest
import sites
from conftest import dump
from test_compute import files_of
from test_lost_workers import GUILTY, JOBS, by_id, state

from jobeff.steps.site import Site
from jobeff.steps.update import update
from jobeff.store import tables

LIMIT_S = 30
"""What takes 5 s at most; more for machines that do much else."""

TESTS = Path(__file__).parent
ENDLESS = "with recursive n(id) as (select 1 union all select id + 1 from n) select sum(id) from n"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A site that has run no command yet."""
    site = sites.make(tmp_path_factory.mktemp("sites") / "fresh")
    sites.Night(JOBS, files_of(*JOBS)).fall(site.root, "day")
    return site.root


@pytest.fixture(scope="module")
def expected(fresh, tmp_path_factory):
    root = shutil.copytree(fresh, tmp_path_factory.mktemp("sites") / "expected")
    update(Site(sites.config(root)))
    return state(root)


@pytest.fixture
def root(fresh, tmp_path):
    return shutil.copytree(fresh, tmp_path / "site")


def hurt_update(root, folder, how, **more):
    what = hurt.Hurt(how, folder, **more)
    return hurt.command(what, "-c", root / "jobeff.toml", "--workers", 2, "-q", "update")


@pytest.fixture(autouse=True)
def hung_up():
    """These tests may themselves run under nohup, whose children ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def running(command, **more):
    """A command in a session of its own; at the end none of it must be left."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)]), **more}
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stderr=errors, stdout=subprocess.PIPE, env=environment, start_new_session=True
        ) as process,
    ):
        try:
            yield process
            process.wait(LIMIT_S)
            until(lambda: not session(process.pid), LIMIT_S)
            errors.seek(0)
            process.said = errors.read()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def session(leader):
    """Processes of a session, by what they were started as."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == leader and fields[0] not in "ZX":
                found[int(folder.name)] = (folder / "cmdline").read_bytes()
    return found


def until(condition, limit_s=4 * LIMIT_S):
    end = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def same_after_another_run(root, expected):
    assert sum(result.aside.total for result in update(Site(sites.config(root)))) == 0
    assert state(root) == expected


SIGNALS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


@pytest.mark.parametrize(
    ("number", "name", "how"),
    [
        (signal.SIGINT, "build_shards", "asleep"),
        (signal.SIGTERM, "reduce_nodes", "stopped"),
        (signal.SIGHUP, "finish_month", "asleep"),
    ],
)
def test_a_signal_ends_it_while_workers_are_busy_or_stopped(root, expected, tmp_path, number, name, how):
    with running(hurt_update(root, tmp_path, how, times=9, names=(name,))) as process:
        until((tmp_path / "hurt-0").exists)
        for _ in range(3):  # somebody is in a hurry
            process.send_signal(number)
        assert process.wait(LIMIT_S) == SIGNALS[number]
    assert b"Traceback" not in process.said
    same_after_another_run(root, expected)


def test_ctrl_c_of_a_terminal_reaches_all_processes(root, expected, tmp_path):
    with running(hurt_update(root, tmp_path, "asleep", times=9)) as process:
        until((tmp_path / "hurt-0").exists)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(LIMIT_S) == 130
    assert process.said.count(b"\n") == 2  # click's, behind the ^C, and ours
    same_after_another_run(root, expected)


def test_a_killed_run_leaves_no_process_and_no_lock(root, expected, tmp_path):
    with running(hurt_update(root, tmp_path, "asleep", times=9, names=("build_shards",))) as process:
        until((tmp_path / "hurt-1").exists)
        worker = max(session(process.pid))
        os.kill(worker, signal.SIGSTOP)
        process.kill()
    same_after_another_run(root, expected)


@pytest.mark.parametrize(("workers", "number"), [(2, signal.SIGINT), (0, signal.SIGTERM), (2, signal.SIGKILL)])
def test_a_signal_while_kernels_are_compiled(root, tmp_path, workers, number):
    command = [sys.executable, "-m", "jobeff", "-c", root / "jobeff.toml", "--workers", str(workers), "-q", "update"]
    with running(command, NUMBA_CACHE_DIR=str(tmp_path)) as process:
        until(lambda: any(b"warm.store" in line for line in session(process.pid).values()))
        os.killpg(process.pid, number) if number == signal.SIGINT else process.send_signal(number)
        assert process.wait(LIMIT_S) == SIGNALS.get(number, -number)
    assert b"Traceback" not in process.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_heard_within_a_library(number):
    """A statement that goes on within SQLite, in the main thread, until the end of the process."""
    code = (
        "import sqlite3, threading; from jobeff.cli import signals\n"
        "with signals.heard():\n"
        "  threading.Timer(0.5, print, ['begun'], {'flush': True}).start()\n"
        f"  sqlite3.connect(':memory:').execute('{ENDLESS}').fetchall()\n"
    )
    with running([sys.executable, "-c", code]) as process:
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(LIMIT_S) == SIGNALS[number]


def test_what_was_ignored_from_the_start_stays_so():
    """As by nohup."""
    code = (
        "import os, signal; from jobeff.cli import signals\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "with signals.heard(): os.kill(os.getpid(), signal.SIGHUP)"
    )
    with running([sys.executable, "-c", code]) as process:
        assert process.wait(LIMIT_S) == 0


def test_a_node_that_its_worker_dies_of_is_named_and_exit_is_3(root, expected, tmp_path):
    command = hurt_update(root, tmp_path, "segfault", times=999, node=GUILTY)
    with running(command) as process:
        assert process.wait(4 * LIMIT_S) == 3
    assert f"c1/{GUILTY} 20".encode() in process.said
    assert b"killed by signal 11 (SIGSEGV)" in process.said
    guilty = {job.job_id for job in JOBS if GUILTY in job.nodes}
    rows = {row[0]: row for row in dump(tables.database(root, "efficiency"))}
    assert rows == {job_id: row for job_id, row in by_id(expected).items() if job_id not in guilty}
    same_after_another_run(root, expected)


def test_a_worker_that_is_stopped_for_good_is_replaced(root, expected, tmp_path):
    with running(hurt_update(root, tmp_path, "stopped", times=2)) as process:
        assert process.wait(4 * LIMIT_S) == 0
    assert state(root) == expected
