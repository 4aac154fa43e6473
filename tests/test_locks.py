"""One run at a time writes a target; what a dead one held is free."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from jobeff.errors import JobeffError, LockedError
from jobeff.store import locks, scratch


@pytest.mark.parametrize("about", [b"", b"[]", b'{"pid": 1}', b"\xff", b'{"pid": 1, "host": "h"'])
def test_a_holder_that_has_not_said_who_it_is(tmp_path, about):
    (tmp_path / "db").mkdir()
    path = tmp_path / "db" / ".shards.lock"
    path.write_bytes(about)
    told = pytest.raises(LockedError, match="its holder has not said who it is yet")
    with path.open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with told, locks.lock(tmp_path, "shards"):
            pass


def test_a_file_system_without_locks_is_told(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", none)
    told = pytest.raises(JobeffError, match=rf"cannot lock shards at .*: .*{os.strerror(errno.ENOLCK)}")
    with told, locks.lock(tmp_path, "shards"):
        pass


def test_a_lock_that_is_no_file_is_named(tmp_path):
    (tmp_path / "db").mkdir()
    os.mkfifo(tmp_path / "db" / ".x.lock")
    with pytest.raises(JobeffError, match=r"not a regular file at .*\.x\.lock"), locks.lock(tmp_path, "x"):
        pass


HOLD = """
import pathlib, sys
from jobeff.store.locks import lock
from jobeff.store.scratch import scratch
with lock(pathlib.Path(sys.argv[1]), "x"), scratch(pathlib.Path(sys.argv[1])) as folder:
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_what_a_dead_run_held_is_free_at_once_whatever_its_process_id(tmp_path):
    """The lock says who holds it; a scratch folder of a run that lives stays, also where its id is nobody's here."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        held = scratch.Path(holder.stdout.readline().strip())
        with pytest.raises(LockedError, match=f"held by process {holder.pid} on .* since"), locks.lock(tmp_path, "x"):
            pass
        with scratch.scratch(tmp_path) as mine:
            assert held.is_dir()
            left = mine.parent / f"{os.getpid()}-left"
            left.mkdir()
            (mine.parent / f"{left.name}.lock").touch()
            with scratch.scratch(tmp_path):
                assert not left.exists()
                assert mine.is_dir()
        holder.kill()
    with locks.lock(tmp_path, "x"), scratch.scratch(tmp_path) as mine:
        assert sorted(path.name for path in mine.parent.iterdir()) == [mine.name, f"{mine.name}.lock"]
    assert list(mine.parent.iterdir()) == []


def test_locks_are_those_of_the_kernel(tmp_path):
    """So that they die with their holder."""
    with locks.lock(tmp_path, "x"), (tmp_path / "db" / ".x.lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
