"""An append to the archive that was killed: what is whole is kept with its sums, the rest is as if it had not begun."""

import os
import shutil

import pytest
from conftest import MEMORY

from jobeff.errors import JobeffError
from jobeff.store import archive, files, header_sums
from jobeff.store.archive import RawFile

BEFORE = [RawFile("n1", 1, b"1 x\n22 yy\n", False), RawFile("n2", 2, b"3 z", True), RawFile("n2", 3, b"", False)]
MORE = [RawFile("n1", 5, b"5 ==>\n", False), RawFile("n3", 6, b"6 w", False), RawFile("n1", 7, b"", True),
        RawFile("n2", 8, b"8\n8\n", False)]  # fmt: skip


@pytest.fixture
def root(tmp_path):
    """In memory where that is possible: all is made hundreds of times, and each time durable."""
    folder = tmp_path if MEMORY is None else MEMORY / f"jobeff-{os.getpid()}-{tmp_path.name}"
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=[BEFORE, []], ids=["to a month", "to none"])
def month(request, root):
    """A month, and what it and its sums of headers are before and after an append."""
    path = archive.month_file(root, "c1", "2021-06")
    if request.param:
        archive.append(path, "c1", request.param)
    before = contents(path)
    archive.append(path, "c1", MORE)
    return path, before, contents(path)


def contents(path):
    return [one.read_bytes() if one.exists() else b"" for one in (path, header_sums.beside(path))]


def killed(path, before, text, sums):
    """As the kill leaves it: the note, so much of the text, and all or none of the sums."""
    path.write_bytes(text)
    header_sums.beside(path).write_bytes(sums)
    archive._note(path).write_bytes(archive._noted(len(before)))


def missing(path):
    """What is not in the month after the append was taken back: as collect, which takes it from the site again."""
    there = path.read_bytes()
    return [raw for raw in MORE if f"==> c1/{raw.node}/{raw.job_id} ".encode() not in there]


def ends_of(before, after):
    """Where each appended frame ends, with the newline that its text may lack."""
    at, ends = len(before), []
    for raw in MORE:
        at = after.index(b" <==\n", at) + 5 + len(raw.text) + (not raw.text.endswith(b"\n"))
        ends.append(at)
    return ends


def assert_taken_back(path, before, after, whole):
    """Nothing but whole frames is there, and appending what is missing gives what no kill would have given."""
    archive.undo_append(path)
    assert not archive._note(path).exists()
    assert {one.name for one in path.parent.iterdir()} == {path.name, header_sums.beside(path).name}
    assert missing(path) == MORE[whole:]
    assert after[0].startswith(path.read_bytes())
    assert path.read_bytes().startswith(before[0])
    assert archive.committed_size(path) == path.stat().st_size
    archive.append(path, "c1", missing(path))
    assert contents(path) == after


def test_killed_anywhere_it_is_as_if_it_had_come_so_far(month):
    path, before, after = month
    ends = ends_of(before[0], after[0])
    for cut in range(len(before[0]), len(after[0]) + 1):
        for sums in (before[1], before[1] + after[1][len(before[1]) :][:27], after[1]):
            killed(path, before[0], after[0][:cut], sums)
            assert archive.committed_size(path) == len(before[0])
            assert_taken_back(path, before, after, sum(cut >= end for end in ends))


@pytest.mark.parametrize("harm", [b"\0", b"\0" * 30, b"x" * 3], ids=["a NUL", "NULs", "letters"])
def test_what_a_power_cut_leaves_unwritten_in_it_goes_with_all_behind(month, harm):
    """Pages of text that was not synced can be NULs while later ones are there."""
    path, before, after = month
    ends = ends_of(before[0], after[0])
    for at in range(len(before[0]), len(after[0])):
        text = after[0][:at] + harm + after[0][at + len(harm) :]
        if text == after[0]:
            continue
        killed(path, before[0], text, after[1])
        archive.undo_append(path)
        kept = path.read_bytes()
        assert after[0].startswith(kept), at
        assert len(MORE) - len(missing(path)) >= sum(at >= end for end in ends), at
        archive.append(path, "c1", missing(path))
        assert contents(path) == after, at


def test_killed_within_undoing_it_is_undone_again(month, monkeypatch):
    """At each call that changes a file, of Python's own."""
    path, before, after = month
    text = after[0][: ends_of(before[0], after[0])[1] + 9]
    calls = []

    class Killed(BaseException):
        pass

    def counted(name, function):
        def call(*arguments, **options):
            calls.append(name)
            if len(calls) == stop:
                raise Killed
            return function(*arguments, **options)

        return call

    killed(path, before[0], text, after[1])
    archive.undo_append(path)  # kernels that are compiled at their first call are kept in files too
    for name in ("fsync", "ftruncate", "replace", "unlink", "open"):
        monkeypatch.setattr(os, name, counted(name, getattr(os, name)))
    stop = 0
    killed(path, before[0], text, after[1])
    calls.clear()
    archive.undo_append(path)
    steps = len(calls)
    assert calls.count("fsync") >= 4
    for step in range(1, steps + 1):
        killed(path, before[0], text, after[1])
        calls.clear()
        stop = step
        with pytest.raises(Killed):
            archive.undo_append(path)
        stop = 0
        if archive._note(path).exists():
            assert archive.committed_size(path) == len(before[0])
        files.temporary_path(header_sums.beside(path)).unlink(missing_ok=True)
        assert_taken_back(path, before, after, 2)


def test_what_is_kept_is_on_disk_before_the_note_is_gone(month, monkeypatch):
    path, before, after = month
    killed(path, before[0], after[0], after[1])
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(os.fstat(handle).st_ino), fsync(handle)))
    unlink = type(path).unlink

    def gone(one, missing_ok=False):
        synced.append(one.name)
        unlink(one, missing_ok)

    monkeypatch.setattr(type(path), "unlink", gone)
    archive.undo_append(path)
    assert path.stat().st_ino in synced[: synced.index(archive._note(path).name)]
    assert synced[-1] == path.parent.stat().st_ino


@pytest.mark.parametrize("said", [b"", b"x", b"0", b"0 00000000", b"9" * 40])
def test_a_note_that_is_damaged_takes_nothing_back(month, said):
    path, _, after = month
    archive._note(path).write_bytes(said)
    assert archive.committed_size(path) == len(after[0])
    archive.undo_append(path)
    assert contents(path) == after
    assert not archive._note(path).exists()


def test_a_note_with_a_bit_turned_over_takes_nothing_back(month):
    path, _, after = month
    note = archive._noted(len(after[0]))
    for bit in range(8 * len(note)):
        turned = bytearray(note)
        turned[bit // 8] ^= 1 << bit % 8
        archive._note(path).write_bytes(bytes(turned))
        archive.undo_append(path)
        assert contents(path) == after


def test_a_link_in_the_place_of_a_month_is_not_followed(month, root):
    path, before, after = month
    target = path.rename(root / "elsewhere")
    path.symlink_to(target)
    archive._note(path).write_bytes(archive._noted(len(before[0]) // 2))
    archive.undo_append(path)
    assert target.read_bytes() == after[0]
    with pytest.raises(JobeffError, match="not a regular file"):
        archive.append(path, "c1", MORE)


def test_a_note_of_a_month_that_was_never_made(tmp_path):
    path = archive.month_file(tmp_path, "c1", "2021-06")
    path.parent.mkdir(parents=True)
    archive._note(path).write_bytes(archive._noted(0))
    archive.undo_append(path)
    assert list(path.parent.iterdir()) == []
