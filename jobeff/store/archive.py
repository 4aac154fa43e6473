"""The archive: every raw file ever collected, as plain text, append-only, one frame per raw file.

``archive/<cluster>/<YYYY-MM>.txt`` holds the jobs that finished in that month. A frame is one line ::

    ==> rackham/r31/42248156 bytes=7253 crc32=0a1b2c3d <==

and then exactly that many bytes. ``form=extended`` stands behind crc32 where the file lacks the header that would tell
its form. Frames made by hand with ``tail -v -n +1 rackham/r31/42248156 ...`` are read too, and
compressed months as well.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import shutil
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from jobeff.errors import JobeffError, SetAside
from jobeff.names import is_month
from jobeff.store import header_sums
from jobeff.store.aside import aside_name
from jobeff.store.files import FILE_MODE, atomic_write, make_folder, naming, sync_folder
from jobeff.store.framing import HEADER, Text, checksums, scan
from jobeff.store.scratch import temporary_folder

COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
LARGEST_RATIO = 1000
"""A compressed month that inflates to more than this many times its size is a bomb."""

BLOCK = 1 << 20
NO_FILE = "it is not a regular file"


class UnreadableMonthError(JobeffError):
    """A compressed month does not inflate to what it should."""


class RawFile(NamedTuple):
    """A raw file on its way into the archive."""

    node: str
    job_id: int
    text: bytes
    extended: bool


def month_files(root: Path, cluster: str) -> dict[str, Path]:
    """Find the months of a cluster's archive.

    Parameters
    ----------
    root
        Data root.
    cluster
        Its name.

    Returns
    -------
    dict
        File by month, in order of months; a plain file goes before a compressed one of the same month.
    """
    found: dict[str, Path] = {}
    folder = root / "archive" / cluster
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if _is_named(path) and path.is_file() and not path.is_symlink():
            found.setdefault(path.name.partition(".")[0], path)
    return dict(sorted(found.items()))


def no_files(root: Path, cluster: str) -> list[Path]:
    """What is called like a month but is a link, a pipe, a device or a folder, so that it is not read.

    Parameters
    ----------
    root, cluster
        As for `month_files`.

    Returns
    -------
    list of Path
        In order.
    """
    folder = root / "archive" / cluster
    named = (path for path in sorted(folder.iterdir()) if _is_named(path)) if folder.is_dir() else ()
    return [path for path in named if path.is_symlink() or not path.is_file()]


def _is_named(path: Path) -> bool:
    month, _, rest = path.name.partition(".")
    return is_month(month) and rest in ("txt", "txt.gz", "txt.zst")


def month_file(root: Path, cluster: str, month: str) -> Path:
    """Where frames of a month are appended.

    Parameters
    ----------
    root, cluster, month
        Data root, name, ``YYYY-MM``.

    Returns
    -------
    Path
        The plain file, whether it is there or not.
    """
    return root / "archive" / cluster / f"{month}.txt"


@contextlib.contextmanager
def plain(path: Path, scratch: Path) -> Iterator[Path]:
    """A month as plain text: itself, or inflated into a scratch folder for as long as it is needed.

    Parameters
    ----------
    path
        From `month_files`.
    scratch
        For the inflated copy; see `jobeff.store.scratch.temporary_folder`.

    Yields
    ------
    Path
        A plain file.

    Raises
    ------
    UnreadableMonthError
        The file does not inflate, or to more than `LARGEST_RATIO` times its size.
    """
    if path.suffix not in COMPRESSED:
        yield path
        return
    with temporary_folder(scratch) as folder:
        copy = folder / path.stem
        inflate(path, copy)
        yield copy


def inflate(path: Path, copy: Path) -> None:
    """Write the text of a compressed month.

    Parameters
    ----------
    path
        From `month_files`; its suffix is one of `COMPRESSED`.
    copy
        The plain file to write; where this fails a part of it may be there.

    Raises
    ------
    UnreadableMonthError
        See `plain`.
    """
    with naming(copy), copy.open("wb") as out:
        for block in _inflated(path, COMPRESSED[path.suffix]):
            out.write(block)


def _inflated(path: Path, codec: str) -> Iterator[bytes]:
    """The text of a compressed month, block by block."""
    import pyarrow as pa  # noqa: PLC0415  (only months that somebody compressed need it)

    cap, size = path.stat().st_size * LARGEST_RATIO, 0
    try:
        stream = pa.input_stream(str(path), compression=codec)
        while block := stream.read(1 << 20):
            size += len(block)
            if size > cap:
                raise UnreadableMonthError(
                    "a compressed month is too large to be true",
                    where=str(path),
                    why=f"it inflates to more than {LARGEST_RATIO} times its size",
                    safe="Nothing was taken from it",
                )
            yield block
    except OSError as error:
        raise UnreadableMonthError(
            "cannot inflate a compressed month", where=str(path), why=str(error), safe="Nothing was taken from it"
        ) from error


@contextlib.contextmanager
def mapped(path: Path) -> Iterator[Text]:
    """The bytes of a plain month without copying them.

    Parameters
    ----------
    path
        A plain file.

    Yields
    ------
    mmap or bytes
        Read-only; empty bytes for an empty file.
    """
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""
            return
        # Not closed here: it goes with the last array that looks into it.
        text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        text.madvise(mmap.MADV_SEQUENTIAL)  # or each page would be noted as one that is used again and again
        yield text


def append(path: Path, cluster: str, files: Iterable[RawFile]) -> int:
    """Append raw files to a month and make them durable.

    The size before is noted beside the month until the new text is durable: `undo_append` takes back what a run that
    died within it had written, and `committed_size` keeps readers from it.

    Parameters
    ----------
    path
        From `month_file`; the caller holds the archive's lock and has called `undo_append` and `set_torn_aside`.
    cluster
        Its name.
    files
        In the order they shall stand in.

    Returns
    -------
    int
        Size of the month now.
    """
    make_folder(path.parent)
    new = not os.path.lexists(path)
    if not new and (path.is_symlink() or not path.is_file()):
        safe, todo = "Nothing was appended", "Put the month there as a regular file"
        raise JobeffError("cannot append to the archive", where=str(path), why=NO_FILE, safe=safe, todo=todo)
    with atomic_write(_note(path)) as note:
        note.write(_noted(0 if new else path.stat().st_size))
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, FILE_MODE)
    with naming(path), os.fdopen(handle, "ab", buffering=1 << 20) as out:
        if _lacks_newline(path):
            out.write(b"\n")
        headers = bytearray()
        for file in files:
            form = " form=extended" if file.extended and file.text.split(None, 1)[:1] != [b"LOCALTIME"] else ""
            length, crc = len(file.text), zlib.crc32(file.text)
            header = f"==> {cluster}/{file.node}/{file.job_id} bytes={length} crc32={crc:08x}{form} <==\n".encode()
            out.write(header)
            headers += header_sums.record(out.tell(), header)
            out.write(file.text)
            if not file.text.endswith(b"\n"):
                out.write(b"\n")
        out.flush()
        header_sums.append(path, bytes(headers), new)
        os.fsync(out.fileno())
        size = out.tell()
    sync_folder(path.parent)
    _note(path).unlink()
    sync_folder(path.parent)  # else the note could come back, and hide from readers what they have had already
    return size


def committed_size(path: Path) -> int:
    """Size of a month without what is being appended to it, or was when a run died.

    Parameters
    ----------
    path
        From `month_files`.

    Returns
    -------
    int
        Bytes that are there to stay.
    """
    size = path.stat().st_size
    try:
        note = _note(path).read_bytes()
    except FileNotFoundError:
        return size
    said = note.partition(b" ")[0]
    return min(int(said), size) if said.isdigit() and note == _noted(int(said)) else size


def undo_append(path: Path) -> None:
    """Take back what a run that died had begun to append, but for frames that had become whole.

    Parameters
    ----------
    path
        From `month_file`; the caller holds the archive's lock.
    """
    if not _note(path).exists():
        return
    if path.is_file() and not path.is_symlink():
        begin = committed_size(path)
        end, records = _whole_from(path, begin)
        with naming(path), path.open("rb+") as file:
            file.truncate(end)
            os.fsync(file.fileno())  # what is kept was perhaps never synced, and nothing tells so any more
        header_sums.cut(path, begin)
        header_sums.append(path, records, new=begin == 0)
    _note(path).unlink()
    sync_folder(path.parent)


def _whole_from(path: Path, begin: int) -> tuple[int, bytes]:
    """Offset behind the frames that are whole from an offset on, up to the first that is not, and their records."""
    records, at = bytearray(), begin
    with mapped(path) as text:
        frames = scan(text, begin, path.parent.name, str(path), SetAside())
        found = checksums(text, frames.begin, frames.bytes)
        spans = zip(frames.begin.tolist(), (frames.begin + frames.bytes).tolist(), found == frames.crc32, strict=True)
        for first, last, right in spans:
            header = text.rfind(b"\n", 0, first - 1) + 1
            line_end = b"" if text[first:last].endswith(b"\n") else b"\n"
            before = (b"", b"\n") if at == begin else (b"",)
            is_frame = right and HEADER.fullmatch(text, header, first) is not None
            if not is_frame or text[at:header] not in before or text[last : last + len(line_end)] != line_end:
                break
            records += header_sums.record(first, text[header:first])
            at = last + len(line_end)
    return at, bytes(records)


def hidden_months(root: Path, cluster: str) -> list[tuple[Path, Path]]:
    """Compressed months that are not read because there is a plain one of the same month.

    Parameters
    ----------
    root, cluster
        As for `month_files`.

    Returns
    -------
    list of tuple
        Compressed file, plain file.
    """
    plain_ones = (path for path in month_files(root, cluster).values() if path.suffix == ".txt")
    pairs = ((path.with_name(f"{path.name}{suffix}"), path) for path in plain_ones for suffix in COMPRESSED)
    return [(compressed, path) for compressed, path in pairs if compressed.is_file()]


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.appending")


def _noted(size: int) -> bytes:
    """What a note says. One that is damaged counts for nothing: all that is there would be taken back."""
    return f"{size} {zlib.crc32(str(size).encode()):08x}".encode()


def _lacks_newline(path: Path) -> bool:
    """Whether a file made by hand ends within a line."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def set_torn_aside(path: Path, end: int, aside: SetAside) -> Path:
    """Move what stands behind the last whole frame, left by a run that died, into a file of its own.

    Parameters
    ----------
    path
        A plain month.
    end
        Offset behind the last whole frame.
    aside
        Told where the bytes went.

    Returns
    -------
    Path
        That file.
    """
    with path.open("rb+") as file:
        copy = aside_name(path, f"torn-{end}", lambda found: _is_tail(file, end, found))
        if not copy.exists():
            file.seek(end)
            with atomic_write(copy) as out:
                shutil.copyfileobj(file, out)
        aside.add("archive tail", f"{path} byte {end}", f"a frame was cut off there; moved to {copy.name}")
        file.truncate(end)
        os.fsync(file.fileno())
    header_sums.cut(path, end)
    return copy


def _is_tail(file: IO[bytes], end: int, found: Path) -> bool:
    """Whether another file holds just what stands behind an offset."""
    size = file.seek(0, os.SEEK_END) - end
    if not found.is_file() or found.stat().st_size != size:
        return False
    file.seek(end)
    with found.open("rb") as other:
        return all(file.read(BLOCK) == other.read(BLOCK) for _ in range(0, size, BLOCK))
