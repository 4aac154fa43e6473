"""Scratch files that are written over: the one next in size goes first, and nothing of it is left."""

import errno

import numpy as np
import pytest

from jobeff.store import scratch
from jobeff.store.scratch import WORTH_IT, give_back, opened, save

LARGE = WORTH_IT // 8


@pytest.fixture
def month(tmp_path):
    """The folder of a month in the folder of its cluster."""
    folder = tmp_path / "run" / "c1" / "2021-02"
    folder.mkdir(parents=True)
    return folder


def given(month, **sizes):
    """Files of another month that are given back; their inodes."""
    other = month.with_name("2021-01")
    other.mkdir()
    for name, size in sizes.items():
        (other / name).write_bytes(b"x" * size)
    inodes = {name: (other / name).stat().st_ino for name in sizes}
    give_back(other, [other / name for name in sizes])
    assert list(other.iterdir()) == []
    return inodes


def saved(month, count):
    """Which file took an array of so many numbers."""
    array = np.arange(count)
    path = month / f"{count}.npy"
    save(path, array)
    assert np.array_equal(np.load(path), array)
    with path.open("rb") as file:
        np.load(file)
        assert file.read() == b"", "something of what stood there before is left"
    return path.stat().st_ino


def test_the_one_that_comes_next_to_the_size(month):
    inodes = given(month, small=1000, middle=4 * WORTH_IT, large=8 * WORTH_IT)
    assert saved(month, 10) not in inodes.values(), "a short file is not worth it"
    assert saved(month, 5 * LARGE) == inodes["middle"], "which is smaller, but not by as much as the other is larger"
    assert saved(month, 2 * LARGE) == inodes["small"]
    assert saved(month, 20 * LARGE) == inodes["large"]
    assert saved(month, 4 * LARGE) not in inodes.values(), "all have been taken"


def test_of_another_cluster_and_of_none(month):
    inodes = given(month, one=WORTH_IT)
    other = month.parents[1] / "c2" / "2021-02"
    other.mkdir(parents=True)
    assert saved(other, LARGE) == inodes["one"]
    assert saved(month, LARGE) not in inodes.values()


def test_somebody_else_is_quicker(month, monkeypatch):
    """Between looking and taking; the next one is taken then."""
    inodes = given(month, first=WORTH_IT, second=2 * WORTH_IT)
    rename = scratch.Path.rename

    def slower(path, to):
        if path.name.endswith("first"):
            path.unlink()
        return rename(path, to)

    monkeypatch.setattr(scratch.Path, "rename", slower)
    assert saved(month, LARGE) == inodes["second"]


def test_a_folder_that_somebody_has_removed_already_fails_nothing(tmp_path):
    with scratch.temporary_folder(tmp_path) as folder:
        folder.rmdir()
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_says_where(month):
    given(month, one=WORTH_IT)
    with pytest.raises(OSError, match="No space") as failed, opened(month / "x", WORTH_IT):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert failed.value.filename == str(month / "x")
