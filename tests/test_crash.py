"""Faults while files are written: nothing is lost, no number is wrong, nothing left over; `scripts/soak` has more."""

import errno
import json
import os
import random
import re
import sqlite3
import threading

import crash
import numpy as np
import pytest
from conftest import MEMORY
from crash_dump import database, differences, dump, torn

from jobeff.errors import JobeffError
from jobeff.store import batch, files, scratch, shards, tables
from jobeff.store.sqlite import atomic

CASES = (
    "update", "load slurm", "load storage", "collect", "import", "ingest", "compute", "compute all", "rebuild",
    "rebuild anew", "summarise", "export raw", "export databases",
)  # fmt: skip
POINTS = {crash.KILL: 3, "error=ENOSPC": 1, "error=EIO": 1}
RACES = 20

strace = pytest.mark.skipif(not crash.traceable(), reason="strace is not here, or must not trace")


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crash")
    if MEMORY is not None:
        folder = MEMORY / f"jobeff-{os.getpid()}-{folder.name}"
    runner = crash.Runner(folder / "run")
    try:
        yield {case.name: case for case in crash.cases(folder / "cases", runner, CASES.__contains__)}
    finally:
        runner.close()
        files.remove_tree(folder)


def some(points, fault, count, seed):
    """A few points, the same in each run."""
    calls = crash.FAILABLE.get(fault.removeprefix("error="), crash.CHANGES).split(",")
    found = [point for point in points if point.call in calls or point.wrapped]
    return random.Random(seed).sample(found, min(count, len(found)))


@strace
@pytest.mark.parametrize("fault", POINTS)
@pytest.mark.parametrize("name", CASES)
def test_a_fault_where_a_file_is_changed(cases, name, fault):
    case = cases[name]
    for point in some(case.points(), fault, POINTS[fault], f"{name} {fault}"):
        assert case.hit(point, fault) == [], point


@strace
@pytest.mark.parametrize("name", CASES)
def test_what_has_its_name_is_on_disk(cases, name):
    """A power cut takes what has not been synced; so files are, before they are renamed, and folders afterwards."""
    wrong = cases[name].not_durable()
    if name.startswith("rebuild"):  # its new generation is made durable as a whole, before it is called complete
        wrong = [what for what in wrong if "/.rebuild/" not in what]
    assert wrong == []


@pytest.mark.parametrize("fault", [crash.KILL, "error=ENOSPC"])
@pytest.mark.parametrize("name", ["collect", "compute all"])
def test_a_fault_without_strace(cases, name, fault):
    """So much can be tried everywhere; of SQLite the commits only."""
    case = cases[name]
    points = case.python_points()
    assert {"commit", "fsync"} <= {point.call for point in points}
    for point in some(points, fault, 2, f"{name} {fault}"):
        assert case.hit(point, fault) == [], point


@pytest.mark.parametrize("name", ["ingest", "collect", "compute", "load slurm"])
def test_files_that_may_not_grow(cases, name):
    case = cases[name]
    for size in (2000, 9000, 20_826):
        assert case.cut_short(size) == []


@pytest.mark.parametrize("name", ["collect", "compute all"])
def test_a_full_disk(cases, name, tmp_path):
    if not crash.mountable(tmp_path / "mount"):
        pytest.skip("file systems cannot be mounted here")
    for free in (8 << 10, 64 << 10):
        assert cases[name].fill(free) == []


@pytest.mark.parametrize("number", range(RACES))
def test_two_runs_at_once(cases, number):
    chance = random.Random(number)
    case = cases[chance.choice(CASES)]
    assert case.race(chance.uniform(0, case.seconds)) == []


def test_the_harness_sees_what_it_looks_for(cases):
    """A row that is not the true one, a file left over, a column that is gone."""
    case = cases["compute all"]
    root = case.fresh()
    crash_run = case.runner.run(root, case.arguments)
    assert crash_run.status == case.status
    assert differences(dump(root), case.new) == []
    path = tables.database(root, "efficiency")
    with sqlite3.connect(path) as connection:
        connection.execute("update jobs set mem_peak = mem_peak + 1 where job_id = (select max(job_id) from jobs)")
    connection.close()
    (root / "db" / ".x.tmp").write_bytes(b"")
    (root / "shards" / "x").mkdir()
    (root / "shards" / "x").chmod(0o755)
    found = "\n".join(differences(dump(root), case.new))
    assert re.search(r"^db/efficiency.sqlite differs: digests: .*; jobs: more ", found, re.MULTILINE)
    assert "db/.x.tmp is left over" in found
    assert "shards/x mode is left over" in found
    assert "rows that are neither old nor new" in "\n".join(torn(dump(root), case.old, case.new))


# What it has found


def test_a_full_disk_does_not_become_zeros():
    """numpy's own save leaves zeros where the disk was full for a moment, and says nothing."""
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        scratch.save(scratch.Path("/dev/full"), np.arange(3))


@pytest.mark.parametrize(
    "array",
    [np.arange(5), np.empty((0, 7)), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array([True, False]),
     np.arange(6, dtype=np.int32)[::2]],
)  # fmt: skip
def test_arrays_come_back(tmp_path, array):
    scratch.save(tmp_path / "x.npy", array)
    found = np.load(tmp_path / "x.npy")
    assert (found.dtype, found.shape, found.tolist()) == (array.dtype, array.shape, array.tolist())


def test_a_transaction_that_sqlite_itself_takes_back_says_why(tmp_path):
    with tables.open_database(tmp_path / "x.sqlite", "accounting") as connection:
        connection.execute("pragma max_page_count = 30")
        from jobeff.steps.accounting_rows import upsert
        from jobeff.steps.site import StepResult

        rows = [(f"p{i}" * 99,) for i in range(999)]
        with pytest.raises(JobeffError, match="database or disk is full"), atomic(connection):
            connection.execute("create table big (x text)")
            connection.executemany("insert into big values (?)", rows)
            upsert(connection, [], StepResult("x"))
    connection.close()


# Files


@pytest.mark.parametrize("read_soon", [True, False])
def test_a_batch_that_fails_leaves_nothing(tmp_path, read_soon):
    (tmp_path / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), batch.Batch(tmp_path, read_soon) as some_files:
        for name in ("old", "new"):
            some_files.put(tmp_path / name, memoryview(b"half"))
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "old"


@pytest.mark.parametrize("count", [2, batch.SYNCED_ONE_BY_ONE + 1])
@pytest.mark.parametrize("tells", [True, False])
def test_of_a_batch_that_cannot_be_made_durable_the_file_is_named(tmp_path, monkeypatch, count, tells):
    """syncfs may fail for somebody else's file, and does not tell on an old kernel; so each file is asked."""
    asked = []

    def fsync(_handle):
        raise OSError(errno.EIO, "Input/output error")

    def syncfs(_handle):
        asked.append(1)
        return -1

    monkeypatch.setattr(batch, "_syncfs", syncfs)
    monkeypatch.setattr(batch, "_tells_errors", lambda: tells)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match=r"Input/output error: '.*/\.0\.tmp'"), batch.Batch(tmp_path) as some_files:
        for number in range(count):
            some_files.put(tmp_path / str(number), memoryview(b""))
        some_files.commit()
    assert len(asked) == (tells and count > batch.SYNCED_ONE_BY_ONE)
    assert list(tmp_path.iterdir()) == []


def test_what_is_synced_soon_is_not_waited_for(tmp_path, monkeypatch):
    """While one file is being made durable, another one is not asked for."""
    begun, goes_on, synced = threading.Event(), threading.Event(), []

    def sync_path(path):
        begun.set()
        assert goes_on.wait(60)
        synced.append(path.name)

    monkeypatch.setattr(batch, "sync_path", sync_path)
    with batch.syncing_soon() as sync_soon:
        sync_soon(tmp_path / "a")
        assert begun.wait(60)
        sync_soon(tmp_path / "b")
        assert synced == []
        goes_on.set()
    assert synced == ["a"]


@pytest.mark.parametrize("again", [True, False])
def test_what_cannot_be_synced_soon_is_told(tmp_path, again):
    path = tmp_path / "gone"
    with pytest.raises(FileNotFoundError, match="gone"), batch.syncing_soon() as sync_soon:
        sync_soon(path)
        while again:  # until the first one has ended
            sync_soon(path)


def test_an_error_is_not_hidden_by_one_of_what_is_synced_soon(tmp_path):
    with pytest.raises(ZeroDivisionError), batch.syncing_soon() as sync_soon:
        sync_soon(tmp_path / "gone")
        raise ZeroDivisionError


def occupy(path, kind):
    """Put something at a temporary name that must not be opened."""
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.parent / "target")
        (path.parent / "target").write_text("kept")


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_what_stands_at_a_temporary_name_is_not_opened(tmp_path, kind):
    for name in ("a", "b"):
        occupy(files.temporary_path(tmp_path / name), kind) if name == "a" or kind == "pipe" else None
    with files.atomic_write(tmp_path / "a") as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert kind == "pipe" or (tmp_path / "target").read_text() == "kept"
    with batch.Batch(tmp_path) as some_files:
        some_files.put(tmp_path / "b", memoryview(b"whole"))
        some_files.commit()
    assert (tmp_path / "b").read_text() == "whole"


@pytest.mark.parametrize("can", [True, False], ids=["Linux", "elsewhere"])
def test_files_of_a_batch_go_to_disk_before_they_have_to_be_there(tmp_path, monkeypatch, can):
    """All that a file has is given to the system as it is closed; elsewhere all else is the same."""
    begun = []

    def sync_file_range(handle, begin, size, flags):
        begun.append((os.fstat(handle).st_size, begin.value, size.value, flags))
        return -1

    monkeypatch.setattr(files, "_sync_file_range", sync_file_range if can else None)
    with batch.Batch(tmp_path) as some_files:
        for name in ("a", "b"):
            some_files.put(tmp_path / name, memoryview(b"whole"))
        some_files.commit(durable=False)
    assert begun == [(5, 0, 0, 2)] * 2 * can
    assert [(tmp_path / name).read_text() for name in ("a", "b")] == ["whole"] * 2


# Versions


@pytest.mark.parametrize("name", ["compute all", "compute", "rebuild"])
def test_an_efficiency_database_of_a_newer_version_is_not_replaced(cases, name):
    root = cases[name].fresh()
    path = tables.database(root, "efficiency")
    with sqlite3.connect(path) as connection:
        connection.execute("pragma user_version = 99")
    connection.close()
    before = dump(root)
    ended = cases[name].runner.run(root, cases[name].arguments)
    assert "it has schema version 99, this program knows up to" in ended.err
    assert ended.status == 1
    assert differences(dump(root), before) == []


@pytest.mark.parametrize("name", tables.SCHEMAS)
def test_a_database_of_a_newer_version_is_refused_untouched(tmp_path, name):
    path = tmp_path / f"{name}.sqlite"
    tables.open_database(path, name).close()
    newer = len(tables.SCHEMAS[name]) + 1
    with sqlite3.connect(path) as connection:
        connection.execute(f"pragma user_version = {newer}")
    connection.close()
    before = path.read_bytes()
    for opened in (tables.open_database, tables.read_database):
        with pytest.raises(JobeffError, match=f"has schema version {newer}, this program knows up to {newer - 1}"):
            opened(path, name)
    assert path.read_bytes() == before
    assert [left.name for left in tmp_path.iterdir()] == [path.name]


OLDER = [(name, version) for name, scripts in tables.SCHEMAS.items() for version in range(1, len(scripts))]


@pytest.mark.parametrize(("name", "version"), OLDER)
def test_a_database_of_an_older_version_is_brought_up_to_date_whole_or_not_at_all(tmp_path, name, version, monkeypatch):
    path, new = (tables.database(tmp_path / folder, name) for folder in ("old", "new"))
    tables.open_database(new, name).close()
    scripts = tables.SCHEMAS[name]
    monkeypatch.setitem(tables.SCHEMAS, name, scripts[:version])
    tables.open_database(path, name).close()
    old = database(tmp_path, path, tmp_path)
    monkeypatch.setitem(tables.SCHEMAS, name, (*scripts, "create table x (y); create table x (y)"))
    with pytest.raises(JobeffError, match="table x already exists"):
        tables.open_database(path, name)
    assert database(tmp_path, path, tmp_path) == old
    monkeypatch.setitem(tables.SCHEMAS, name, scripts)
    tables.open_database(path, name).close()
    assert database(tmp_path, path, tmp_path) == database(tmp_path, new, tmp_path)


def test_databases_are_safe_against_a_power_cut(tmp_path):
    with tables.open_database(tmp_path / "x.sqlite", "projects") as connection:
        modes = [connection.execute(f"pragma {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
    connection.close()
    assert modes == ["delete", 2]


@pytest.mark.parametrize("name", ["ingest", "compute", "compute all", "rebuild"])
def test_shards_of_a_newer_version_are_refused_untouched(cases, monkeypatch, name):
    root = cases[name].fresh()
    paths = sorted(root.glob("shards/*/*/*.parquet"))
    with monkeypatch.context() as patched:
        patched.setattr(shards, "VERSION", shards.VERSION + 1)
        patched.setattr(shards, "_encoder", shards._encoder.__wrapped__)  # the one that is kept writes the version too
        for path in paths:
            table, about = shards.read(path)
            shards.write(path, table, {key: value for key, value in about.items() if key != "version"})
    for path in root.glob("shards/*/.ingested/*.json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "version": shards.VERSION + 1}))
    before = [path.read_bytes() for path in paths]
    ended = cases[name].runner.run(root, cases[name].arguments)
    assert f"it has version {shards.VERSION + 1}, this program knows up to {shards.VERSION}" in ended.err
    assert ended.status == 1
    assert [path.read_bytes() for path in paths] == before
