"""Parts of files are put into another one, past the cache or through it, and are the same."""

import contextlib
import errno
import os

import pytest

from jobeff.store import past_cache, placing

SIZE = 4096
CONTENT = os.urandom(5 * SIZE)


@pytest.fixture
def files(tmp_path):
    source, path = tmp_path / "source", tmp_path / "target"
    source.write_bytes(CONTENT)
    path.write_bytes(bytes(8 * SIZE))
    return source, path


def refused(*_):
    raise OSError(errno.EINVAL, "Invalid argument")


def put_parts(source, path):
    with placing.open_page_file(path) as file:
        file.put(source, SIZE, 3 * SIZE, 5 * SIZE)
        file.put(source, SIZE, SIZE, 0)
        file.put(source, 0, 100, 10)  # no whole page of a disk: only the cache takes it
        file.put(source, 3 * SIZE, 5 * SIZE, 2 * SIZE)
        file.file.seek(0)
        file.file.write(b"header")
    return path.read_bytes()


WANTED = bytearray(8 * SIZE)
WANTED[5 * SIZE : 7 * SIZE] = CONTENT[SIZE : 3 * SIZE]
WANTED[10:110] = CONTENT[:100]
WANTED[2 * SIZE : 4 * SIZE] = CONTENT[3 * SIZE : 5 * SIZE]
WANTED[:6] = b"header"


@pytest.mark.parametrize(
    "way", ["as it is", "no such thing", "not on this file system", "not these pages", "half at once"]
)
def test_parts_are_put_where_they_belong(files, way, monkeypatch, way_fails):
    written = []
    pwrite = os.pwrite

    def counted(handle, data, offset):
        size = len(data) // 2 // SIZE * SIZE or len(data) if way == "half at once" else len(data)
        written.append(pwrite(handle, data[:size], offset) if way != "not these pages" else refused())
        return written[-1]

    monkeypatch.setattr(os, "pwrite", counted)
    if way == "no such thing":
        monkeypatch.setattr(past_cache, "DIRECT", 0)
    if way == "not on this file system":
        way_fails(errno.EINVAL)
    assert put_parts(*files) == WANTED
    assert bool(written) == (way in ("as it is", "half at once"))


def test_the_cache_too_may_take_less_than_it_is_given(files, monkeypatch):
    """The system sends 2 GiB at most at once."""
    sendfile = os.sendfile
    monkeypatch.setattr(past_cache, "DIRECT", 0)
    monkeypatch.setattr(os, "sendfile", lambda out, source, offset, size: sendfile(out, source, offset, size // 2 or 1))
    assert put_parts(*files) == WANTED


def test_a_disk_that_does_not_take_these_pages_is_not_asked_again_and_nothing_stays_open(files, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "pwrite", lambda handle, _, offset: asked.append((handle, offset)) or refused())
    assert put_parts(*files) == WANTED
    [(handle, offset)] = asked
    assert offset == 5 * SIZE
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(handle)


@pytest.mark.parametrize(("at", "times"), [(SIZE, 2), (2 * SIZE, 2), (3 * SIZE, 1), (5 * SIZE, 0)])
def test_the_disk_is_asked_to_keep_what_it_has_now_and_then(files, at, times, monkeypatch):
    asked = []
    monkeypatch.setattr(placing, "SYNCED_AT", at)
    monkeypatch.setattr(placing, "syncing_soon", lambda: contextlib.nullcontext(asked.append))
    assert put_parts(*files) == WANTED
    assert asked == [files[1]] * times


@pytest.mark.parametrize("direct", [True, False])
def test_a_source_that_became_shorter_is_an_error(files, direct, monkeypatch):
    if not direct:
        monkeypatch.setattr(past_cache, "DIRECT", 0)
    source, path = files
    with placing.open_page_file(path) as file, pytest.raises(OSError, match="the file became shorter"):
        file.put(source, 4 * SIZE, 5 * SIZE + 1, 0)
    assert path.read_bytes() == bytes(8 * SIZE)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_does_not_take_it_is_an_error(files, number, monkeypatch):
    def failing(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", failing)
    source, path = files
    with placing.open_page_file(path) as file, pytest.raises(OSError, match=os.strerror(number)):
        file.put(source, 0, SIZE, 0)


def test_a_way_that_fails_otherwise_is_an_error(files, way_fails):
    """Only that a file system knows no such way is passed over."""
    way_fails(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"), placing.open_page_file(files[1]):
        pass
