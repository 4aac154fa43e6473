"""Files that are read from disk before they are needed: which, from where on, and that nothing hangs on it."""

import os
import shutil
import threading
from dataclasses import replace

import pytest
import sites
from test_ingest import a_night

from jobeff.engine import pool
from jobeff.steps.collect import collect
from jobeff.steps.compute import compute
from jobeff.steps.ingest import all_behind, ingest, largest_text
from jobeff.steps.load import load_slurm
from jobeff.steps.rebuild import rebuild
from jobeff.steps.site import Site
from jobeff.store import ahead, archive, memory


@pytest.fixture
def asked(monkeypatch):
    """What the system is asked to read: file, offset and size."""
    found = []

    def advise(handle, begin, size, advice):
        assert advice == os.POSIX_FADV_WILLNEED
        found.append((os.path.basename(os.readlink(f"/proc/self/fd/{handle}")), begin, size))  # noqa: PTH119, PTH115

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr(ahead, "_is_there", lambda *_: False)
    return found


def test_each_file_is_read_once_and_one_beyond_the_present(tmp_path, monkeypatch):
    read, files = [], [(tmp_path / str(number), number) for number in range(5)]
    monkeypatch.setattr(ahead, "_read", lambda path, begin, _: read.append((path, begin)))
    counts = []
    with ahead.reading_ahead(files) as reached:
        for number in (0, 1, 0, 3, 4):
            reached(files[number][0])
            while len(read) < min(5, max(2, number + 2)):
                pass
            counts.append(len(read))
    assert read == files
    assert counts == [2, 3, 3, 5, 5]


def test_all_of_a_file_is_read_from_where_it_is_needed(tmp_path, asked, monkeypatch):
    path = tmp_path / "text"
    path.write_bytes(bytes(2 * ahead.AT_ONCE + 5))
    ahead._read(path, 7, threading.Event())
    assert asked == [("text", 7 + part * ahead.AT_ONCE, ahead.AT_ONCE) for part in range(2)]
    asked.clear()
    monkeypatch.setattr(ahead, "LOOKED_AT", ahead.AT_ONCE)
    monkeypatch.setattr(ahead, "_is_there", lambda _, at: at != 2 * ahead.AT_ONCE + 4)
    ahead._read(path, 0, threading.Event())
    assert asked == [("text", 2 * ahead.AT_ONCE, ahead.AT_ONCE)]  # all else is there
    asked.clear()
    ahead._read(path, 2 * ahead.AT_ONCE + 5, threading.Event())
    assert asked == []
    ahead.begin_to_read(path)
    assert asked == [("text", 0, 0)]


def test_what_would_take_much_of_the_memory_is_not_read_ahead(tmp_path, asked, monkeypatch):
    path = tmp_path / "text"
    path.write_bytes(bytes(100))
    assert memory.available() > 1 << 28
    for there, times in ((800, 1), (799, 0)):
        monkeypatch.setattr(memory, "available", lambda there=there: there)
        asked.clear()
        ahead._read(path, 0, threading.Event())
        assert len(asked) == times


GROUP = {"memory.max": "max", "user/memory.max": "700", "user/job/memory.max": "900", "user/job/step/memory.max": "max"}
OLD = {"memory/memory.limit_in_bytes": str((1 << 63) - 4096), "memory/job/memory.limit_in_bytes": "600"}


@pytest.mark.parametrize(
    ("mine", "files", "limit"),
    [
        ("0::/user/job/step\n", GROUP, 700),
        ("0::/user/job/step\n", {**GROUP, "user/memory.max": "max"}, 900),
        ("0::/\n", GROUP, None),
        ("0::/\n", {"memory.max": "500"}, 500),  # a container sees its own group as the root
        ("0::/../job\n", {**GROUP, "job/memory.max": "600"}, None),  # of another tree, so that job is not ours
        ("5:cpu,cpuacct:/job\n4:memory:/job\n0::/\n", OLD, 600),
        ("4:memory:/\n", OLD, None),
        ("nonsense\n", GROUP, None),
        (None, GROUP, None),
    ],
)
def test_memory_is_what_control_groups_leave(tmp_path, monkeypatch, mine, files, limit):
    if mine is not None:
        (tmp_path / "mine").write_text(mine)
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(f"{text}\n")
    monkeypatch.setattr(memory, "MINE", tmp_path / "mine")
    monkeypatch.setattr(memory, "GROUPS", tmp_path / "groups")
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert memory.available() == (machine if limit is None else limit)


def test_it_ends_with_what_it_is_for(tmp_path, monkeypatch):
    files = [(tmp_path / name, 0) for name in "ab"]
    for path, _ in files:
        path.write_bytes(bytes(4 * ahead.AT_ONCE))
    begun, go_on, read = threading.Event(), threading.Event(), []

    def advise(_handle, begin, *_):
        read.append(begin)
        begun.set()
        go_on.wait(20)

    monkeypatch.setattr(os, "posix_fadvise", advise)
    monkeypatch.setattr(ahead, "_is_there", lambda *_: False)
    with pytest.raises(ValueError, match="an error of the run"), ahead.reading_ahead(files) as reached:
        reached(files[0][0])
        begun.wait(20)
        threading.Timer(0.05, go_on.set).start()
        raise ValueError("an error of the run")
    assert read == [0]


def test_what_cannot_be_read_is_left_to_who_needs_it(tmp_path, monkeypatch):
    ahead._read(tmp_path / "gone", 0, threading.Event())
    ahead.begin_to_read(tmp_path / "gone")
    os.mkfifo(tmp_path / "pipe")
    ahead._read(tmp_path / "pipe", 0, threading.Event())
    ahead.begin_to_read(tmp_path / "pipe")  # nobody will ever write to it
    (tmp_path / "text").write_bytes(b"x")
    monkeypatch.delattr(os, "posix_fadvise")  # other systems have no such thing
    ahead._read(tmp_path / "text", 0, threading.Event())
    ahead.begin_to_read(tmp_path / "text")


def test_what_has_just_been_written_is_there_and_what_is_no_byte_is_not(tmp_path):
    path = tmp_path / "text"
    path.write_bytes(b"xyz")
    with path.open("rb") as file:
        assert ahead._is_there(file.fileno(), 2)
        assert not ahead._is_there(file.fileno(), 3)
    assert not ahead._is_there(-1, 0)


@pytest.mark.parametrize("step", [ingest, rebuild])
def test_months_are_read_in_the_order_in_which_they_are_ingested(tmp_path, monkeypatch, step):
    site = sites.make(tmp_path / "site")
    for number in range(2):
        a_night(number).fall(site.root, f"night-{number}")
    load_slurm(site)
    collect(site)
    read = []
    monkeypatch.setattr(ahead, "_read", lambda path, begin, _: read.append((path, begin)))
    step(site)
    months = list(archive.month_files(site.root, "c1").values())
    assert len(months) == 2
    assert read == [(path, 0) for path in months]


@pytest.mark.parametrize(
    ("workers", "text_bytes", "months"),
    [(0, 0, 2), (1, 0, 2), (2, 0, 2), (3, 0, 3), (32, 0, 32), (32, 1 << 30, 12), (32, 24 << 30, 2), (4, 1 << 30, 4)],
)
def test_months_at_once_are_as_many_as_workers_while_memory_holds_their_text(
    tmp_path, monkeypatch, workers, text_bytes, months
):
    monkeypatch.setattr(memory, "available", lambda: 24 << 30)
    assert sites.make(tmp_path, workers).months_at_once(text_bytes) == months


def test_rebuild_and_ingest_work_on_as_many_months_as_there_are_workers(tmp_path, monkeypatch):
    """Half of what a month takes is one worker's: of many workers, those of two months would be too few."""
    begun = []
    run_chains = pool.run_chains
    monkeypatch.setattr(pool, "run_chains", lambda *given: begun.append(given[2]) or run_chains(*given))
    site = sites.make(tmp_path)
    for number in range(2):
        a_night(number).fall(site.root, f"night-{number}")
    load_slurm(site)
    collect(site)
    months = [month.size for month in all_behind(site, site.config.shards)]
    assert len(months) == 2
    monkeypatch.setattr(Site, "width", 7)
    for command in (ingest, rebuild, lambda site: compute(site, everything=True)):
        begun.clear()
        command(site)
        assert 7 in begun
    monkeypatch.setattr(memory, "available", lambda: 6 * max(months))
    for command, more in ((ingest, 3), (rebuild, 3)):
        begun.clear()
        shutil.rmtree(site.config.shards)
        command(site)
        assert more in begun
        assert 7 not in begun
    (month,) = [one for one in all_behind(site, site.config.shards / "none") if one.size == max(months)]
    assert site.months_at_once(largest_text([month])) == 3
    assert site.months_at_once(largest_text([replace(month, path=month.path.with_suffix(".txt.gz"))])) == 2
