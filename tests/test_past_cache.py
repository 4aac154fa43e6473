"""Files that go past the system's cache, or through it where there is no such way; those of a batch are the same."""

import errno
import fcntl
import mmap
import os

import numpy as np
import pytest

from jobeff.store import batch, past_cache

SIZES = [0, 1, past_cache.BLOCK, 5 * past_cache.BLOCK, 5 * past_cache.BLOCK + 1]
WAYS = ["as it is", "no such thing", "not on this file system", "not these blocks", "half at once"]


def content(size):
    room = past_cache.room(size)
    room[:] = np.random.default_rng(size).integers(0, 256, size)
    return memoryview(room)


def refused(*_):
    raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))


@pytest.fixture(params=WAYS)
def way(request, monkeypatch, way_fails):
    """How far the system goes along."""
    pwrite = os.pwrite
    if request.param == "no such thing":
        monkeypatch.setattr(past_cache, "DIRECT", 0)
    if request.param == "not on this file system":
        way_fails(errno.EINVAL)
    if request.param == "not these blocks":
        monkeypatch.setattr(os, "pwrite", refused)
    if request.param == "half at once":
        half = past_cache.BLOCK
        monkeypatch.setattr(os, "pwrite", lambda handle, data, at: pwrite(handle, data[: min(half, len(data))], at))
    return request.param


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.usefixtures("way")
def test_a_file_holds_what_was_put(tmp_path, size):
    data = content(size)
    with (tmp_path / "file").open("wb") as file:
        past_cache.fill(file.fileno(), data)
    assert (tmp_path / "file").read_bytes() == data


@pytest.mark.parametrize("way", ["not these blocks", "half at once"], indirect=True)
@pytest.mark.usefixtures("way")
def test_what_is_left_goes_through_the_cache(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(past_cache, "begin_to_write", begun.append)
    with (tmp_path / "file").open("wb") as file:
        past_cache.fill(file.fileno(), content(past_cache.BLOCK + 1))
        assert not fcntl.fcntl(file, fcntl.F_GETFL) & os.O_DIRECT
        assert begun == [file.fileno()]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_does_not_take_it_is_an_error(tmp_path, number, monkeypatch):
    def failing(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", failing)
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match=os.strerror(number)):
        past_cache.fill(file.fileno(), content(past_cache.BLOCK))


def test_a_way_that_fails_otherwise_is_an_error(tmp_path, way_fails):
    """Only that a file system knows no such way is passed over."""
    way_fails(errno.EIO)
    with (tmp_path / "file").open("wb") as file, pytest.raises(OSError, match="Input/output error"):
        past_cache.fill(file.fileno(), content(past_cache.BLOCK))


def test_memory_begins_where_a_block_may():
    for count in (1, 1000, 1 << 16):
        room = past_cache.room(count)
        assert (len(room), room.dtype) == (count, np.uint8)
        assert room.ctypes.data % mmap.PAGESIZE == 0


@pytest.mark.parametrize("at_once", [past_cache.BLOCK, 4 * past_cache.BLOCK, batch.AT_ONCE])
@pytest.mark.usefixtures("way")
def test_files_of_a_batch_that_are_not_read_soon_are_the_same(tmp_path, monkeypatch, at_once):
    """However many are handed over at once, and whatever their memory is used for once they have been put."""
    monkeypatch.setattr(batch, "AT_ONCE", at_once)
    datas = {f"{size}-{again}": bytes(content(size)) for again in range(3) for size in SIZES}
    room = past_cache.room(max(SIZES))
    with batch.Batch(tmp_path, read_soon=False) as some_files:
        for name, data in datas.items():
            room[: len(data)] = np.frombuffer(data, dtype=np.uint8)
            some_files.put(tmp_path / name[-1] / name, memoryview(room)[: len(data)])
            room[:] = 0
        assert not any(path.name in datas for path in tmp_path.rglob("*"))
        some_files.commit(durable=False)
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*/*")} == datas


@pytest.mark.parametrize("last", [True, False], ids=["the last one", "another one"])
def test_a_file_of_a_batch_that_could_not_be_written_is_named(tmp_path, monkeypatch, last):
    def failing(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", failing)
    monkeypatch.setattr(batch, "AT_ONCE", past_cache.BLOCK)
    with batch.Batch(tmp_path, read_soon=False) as some_files:
        some_files.put(tmp_path / "a", content(past_cache.BLOCK))
        if not last:
            some_files.put(tmp_path / "b", content(past_cache.BLOCK))  # hands over the one before
        with pytest.raises(OSError, match=r"No space left on device: '.*/a'"):
            some_files.commit() if last else some_files.put(tmp_path / "c", content(past_cache.BLOCK))
    assert list(tmp_path.iterdir()) == []
