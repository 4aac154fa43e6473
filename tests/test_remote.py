"""What a worker on another machine does before and around a task, tried in this process."""

import errno
import fcntl
import os
import re
import socket
from dataclasses import dataclass
from pathlib import Path

import pytest
from hurt import double, refuse

from jobeff.code import code
from jobeff.engine import pool, remote
from jobeff.engine.processes import TaskLostError
from jobeff.store import fences
from jobeff.store.files import UMASK


@dataclass
class Writes(pool.Task):
    writes_shards = True


@dataclass
class Reads(pool.Task):
    pass


@pytest.fixture
def order(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "WAIT_S", 0.0)
    monkeypatch.setattr(remote, "warmed", lambda: None)
    (tmp_path / "db").mkdir()
    return remote.Order(fences.issue(tmp_path), tmp_path, code())


def is_locked(path):
    with path.open("rb+") as file:
        return not remote._is_free(file.fileno())


def test_a_task_is_done_with_its_ticket_held_and_our_rights(order):
    def look(*tasks, also):
        building = fences._building(order.root)
        seen = os.umask(UMASK)
        return tasks, also, is_locked(order.ticket), building.exists() and is_locked(building), seen

    before = os.umask(0o077)
    try:
        for task, shards in ((Reads(), False), (Writes(), True)):
            found = remote.done(order, look, task, 7, also="x")
            assert found == ((task, 7), "x", True, shards, UMASK)
            assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert not is_locked(order.ticket)
    assert not is_locked(fences._building(order.root))


def test_an_error_of_a_task_lets_go_of_all(order):
    with pytest.raises(ValueError, match="no 3"):
        remote.done(order, refuse, 3)
    assert not is_locked(order.ticket)
    assert remote.done(order, double, 3) == 6


def test_what_is_not_wanted_any_more_is_not_done(order):
    order.ticket.unlink()
    with pytest.raises(TaskLostError, match="has refused it: its ticket has been taken away"):
        remote.done(order, refuse, 1)


def test_what_another_is_at_is_not_done(order):
    with fences.held(order.ticket, 0), pytest.raises(TaskLostError, match="has refused it: an earlier attempt"):
        remote.done(order, refuse, 1)


def test_shards_are_not_written_while_a_run_makes_sure_that_nobody_does(order):
    building = fences._building(order.root)
    with building.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(TaskLostError, match="has refused it: another run makes sure that nobody writes shards"):
            remote.done(order, refuse, Writes())
        assert remote.done(order, repr, Reads()) == "Reads()"


def test_another_program_does_nothing(order):
    other = remote.Order(order.ticket, order.root, "9.9-other")
    host = socket.gethostname()
    with pytest.raises(remote.WrongWorkerError) as told:
        remote.done(other, refuse, 1)
    assert str(told.value).startswith(
        f"cannot use a Dask worker at {host}: it runs jobeff {code()}, and this is 9.9-other. "
    )


def test_kernels_are_warmed_once_in_a_process(monkeypatch):
    times = []
    monkeypatch.setattr(remote.warm, "run_all", lambda: times.append(1))
    remote.warmed.cache_clear()
    try:
        remote.warmed()
        remote.warmed()
    finally:
        remote.warmed.cache_clear()
    assert times == [1]


@pytest.fixture
def probe(tmp_path):
    """A probe whose file is locked, as a command has it."""
    path = tmp_path / "probe"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("words")
        file.flush()
        yield remote.Probe(path, "words", code())


def test_a_worker_that_sees_all_can_be_used(probe):
    assert remote.refusal(probe) == ""


HOST = socket.gethostname()


def other_program(probe):
    return remote.Probe(probe.file, probe.text, "9.9"), f"{HOST} runs jobeff {code()}, and this is 9.9"


def no_file(probe):
    path = probe.file.with_name("gone")
    return remote.Probe(path, probe.text, code()), f"{HOST} cannot use {path}: {os.strerror(errno.ENOENT)}"


def other_file(probe):
    return remote.Probe(probe.file, "others", code()), f"{HOST} has another file at {probe.file}"


def no_lock(probe):
    path = probe.file.with_name("free")
    path.write_text("words")
    words = f"{HOST} does not see that {path} is locked; mount its file system with locks for all"
    return remote.Probe(path, "words", code()), words


@pytest.mark.parametrize("wrong", [other_program, no_file, other_file, no_lock])
def test_a_worker_says_why_it_cannot_be_used(probe, wrong):
    asked, words = wrong(probe)
    assert remote.refusal(asked) == words


def test_workers_that_can_all_be_used_are_not_refused():
    assert remote.refuse(["", ""]) is None


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (["", "h1 is old"], "at h1: is old."),
        (["h2 is new", "", "h1 is old", "h1 is old"], "at h1 (and 1 more): is old."),
        (["h3 a", "h2 b", "h1 c d"], "at h1 (and 2 more): c d."),
    ],
)
def test_the_first_worker_that_cannot_be_used_is_named_and_the_others_counted(found, words):
    with pytest.raises(remote.WrongWorkerError, match=re.escape(f"cannot use a Dask worker {words} ")):
        remote.refuse(found)


def test_a_ticket_is_no_link_of_another(tmp_path):
    (tmp_path / "link").symlink_to(fences.issue(tmp_path))
    for use in (lambda: fences.withdraw(tmp_path / "link"), lambda: fences.held(tmp_path / "link", 0).__enter__()):
        with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
            use()
    assert Path(tmp_path / "link").is_symlink()
