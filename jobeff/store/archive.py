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
import re
import shutil
import zlib
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.errors import JobeffError, SetAside, shown
from jobeff.names import is_month, is_name, job_id_or_none
from jobeff.store.files import FILE_MODE, atomic_write, make_folder, naming, sync_folder

HEADER = re.compile(
    rb"==> ([^/\s]{1,200})/([^/\s]{1,200})/([^/\s]{1,200})"
    rb"(?: bytes=(\d{1,15}) crc32=([0-9a-f]{8})( form=extended)?)? <==\n"
)
NEXT_HEADER = re.compile(rb"\n==> [^/\s]{1,200}/[^/\s]{1,200}/[^/\s]{1,200}(?: bytes=[^\n]{1,80})? <==\n")
# Where text is damaged a header may have lost the line end before it; one with a checksum is hardly anything else.
FRAMED_HEADER = re.compile(
    rb"==> [^/\s]{1,200}/[^/\s]{1,200}/[^/\s]{1,200} bytes=\d{1,15} crc32=[0-9a-f]{8}[^\n]{0,20} <==\n"
)
COMPRESSED = {".gz": "gzip", ".zst": "zstd"}
TAIL_BYTES = 4096
LARGEST_RATIO = 1000
"""A compressed month that inflates to more than this many times its size is a bomb."""


Text = mmap.mmap | bytes


class UnreadableMonthError(JobeffError):
    """A compressed month does not inflate to what it should."""


class RawFile(NamedTuple):
    """A raw file on its way into the archive."""

    node: str
    job_id: int
    text: bytes
    extended: bool


@dataclass(frozen=True)
class Frames:
    """Where the raw files of one month stand.

    Attributes
    ----------
    nodes
        Names of the nodes met.
    node, job_id, begin, bytes, crc32, extended
        Shape (frames,): index into `nodes`, id, byte offset and length of the raw text, its checksum (-1 where the
        frame has none), and whether it is in the extended form where it has no header.
    end
        Offset behind the last whole frame.
    torn
        Bytes behind `end` that are no whole frame.
    """

    nodes: list[str]
    node: npt.NDArray[np.int64]
    job_id: npt.NDArray[np.int64]
    begin: npt.NDArray[np.int64]
    bytes: npt.NDArray[np.int64]
    crc32: npt.NDArray[np.int64]
    extended: npt.NDArray[np.bool_]
    end: int
    torn: int


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
        month, _, rest = path.name.partition(".")
        if is_month(month) and rest in ("txt", "txt.gz", "txt.zst") and path.is_file() and not path.is_symlink():
            found.setdefault(month, path)
    return dict(sorted(found.items()))


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
        Folder for the inflated copy.

    Yields
    ------
    Path
        A plain file.

    Raises
    ------
    UnreadableMonthError
        The file does not inflate, or to more than `LARGEST_RATIO` times its size.
    """
    codec = COMPRESSED.get(path.suffix)
    if codec is None:
        yield path
        return
    import pyarrow as pa  # noqa: PLC0415  (only months that somebody compressed need it)

    make_folder(scratch)
    _remove_left_copies(scratch)
    copy = scratch / f"{os.getpid()}-{path.parent.name}-{path.stem}"
    cap = path.stat().st_size * LARGEST_RATIO
    try:
        with pa.input_stream(str(path), compression=codec) as stream, copy.open("wb") as out:
            while block := stream.read(1 << 20):
                out.write(block)
                if out.tell() > cap:
                    raise UnreadableMonthError(
                        "a compressed month is too large to be true",
                        where=str(path),
                        why=f"it inflates to more than {LARGEST_RATIO} times its size",
                        safe="Nothing was taken from it",
                    )
        yield copy
    except OSError as error:
        raise UnreadableMonthError(
            "cannot inflate a compressed month", where=str(path), why=str(error), safe="Nothing was taken from it"
        ) from error
    finally:
        copy.unlink(missing_ok=True)


def _remove_left_copies(scratch: Path) -> None:
    """Remove the copies of processes that died."""
    for left in scratch.iterdir():
        pid = left.name.partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
            left.unlink(missing_ok=True)


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
        yield mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def scan(text: Text, begin: int, cluster: str, where: str, aside: SetAside, end: int | None = None) -> Frames:
    """Find the frames of a month by jumping from one to the next.

    Parameters
    ----------
    text
        The whole month.
    begin
        Offset of a frame to begin at.
    cluster
        The only cluster whose frames belong here.
    where
        The file's name for messages.
    aside
        Takes what is no frame.
    end
        Offset to stop at; the end of the month by default.

    Returns
    -------
    Frames
        In order of the file.
    """
    columns = [array("q") for _ in range(6)]
    nodes: dict[bytes, int] = {}
    size = len(text) if end is None else end
    at = begin
    while at < size:
        header = HEADER.match(text, at)
        if header is None:
            if text[at : at + 1] == b"\n":
                at += 1
                continue
            after = _recover(text, at, size)
            if after == size:
                break
            aside.add("archive bytes", f"{where} bytes {at}-{after}", "no frame begins here")
            at = after
            continue
        content = header.end()
        after = _content_end(text, header, size)
        if after < 0:  # longer than the file, or its length is damaged
            resumed = _recover(text, content - 1, size)
            if resumed == size:
                break
            aside.add("archive frame", f"{where} byte {at}", "its length does not lead to the next frame")
            at = resumed
            continue
        node = _node_index(header, cluster, nodes)
        if node < 0:
            aside.add("archive frame", f"{where} byte {at}", f"not a {cluster}/node/job: {shown(header[0][:-1])}")
        else:
            stop = after if header[4] else _stripped(text, content, after)
            row = (node, int(header[3]), content, stop - content, int(header[5], 16) if header[5] else -1)
            for column, value in zip(columns, (*row, header[6] is not None), strict=True):
                column.append(value)
        at = after
    at = min(at, size)
    parts = [np.array(column, dtype=np.int64) for column in columns]
    names = [name.decode("ascii") for name in nodes]
    return Frames(names, parts[0], parts[1], parts[2], parts[3], parts[4], parts[5].astype(np.bool_), at, size - at)


def first_frame(text: Text, begin: int, end: int) -> int:
    """Offset of the first frame header at the beginning of a line.

    Parameters
    ----------
    text
        The whole month.
    begin, end
        Where to look.

    Returns
    -------
    int
        `end` where there is none.
    """
    return _resync(text, begin, end)


def _content_end(text: Text, header: re.Match[bytes], size: int) -> int:
    """Offset behind a frame's raw bytes, or -1 where its length cannot be true."""
    if header[4] is None:
        return _resync(text, header.end() - 1, size)
    after = header.end() + int(header[4])
    if after > size:
        return -1
    if after == size or text[after : after + 4] == b"==> ":
        return after
    if text[after : after + 1] == b"\n" and (after + 1 == size or text[after + 1 : after + 5] == b"==> "):
        return after
    # What follows is no frame: either it is damaged, or this frame's length is. The checksum tells which.
    return after if zlib.crc32(text[header.end() : after]) == int(header[5], 16) else -1


def _resync(text: Text, at: int, size: int) -> int:
    """Offset of the next frame header at the beginning of a line behind `at`; `size` where there is none."""
    found = NEXT_HEADER.search(text, at, size)
    return found.start() + 1 if found else size


def _recover(text: Text, at: int, size: int) -> int:
    """Offset of the next frame header behind damaged text at `at`; `size` where there is none."""
    line = _resync(text, at, size)
    found = FRAMED_HEADER.search(text, at + 1, line)
    return found.start() if found else line


def _stripped(text: Text, begin: int, end: int) -> int:
    """End of a hand-made frame without the newlines behind it, whose number ``tail`` does not keep."""
    while end > begin and text[end - 1 : end] == b"\n":
        end -= 1
    return end


def _node_index(header: re.Match[bytes], cluster: str, nodes: dict[bytes, int]) -> int:
    """Index of a frame's node; -1 where its cluster, node or job id may not stand here."""
    if header[1] != cluster.encode() or job_id_or_none(header[3].decode("latin-1")) is None:
        return -1
    if header[2] not in nodes:
        if not is_name(header[2].decode("latin-1")):
            return -1
        nodes[header[2]] = len(nodes)
    return nodes[header[2]]


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
    new = not path.exists()
    with atomic_write(_note(path)) as note:
        note.write(str(0 if new else path.stat().st_size).encode())
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, FILE_MODE)
    with naming(path), os.fdopen(handle, "ab", buffering=1 << 20) as out:
        if _lacks_newline(path):
            out.write(b"\n")
        for file in files:
            form = " form=extended" if file.extended and file.text.split(None, 1)[:1] != [b"LOCALTIME"] else ""
            length, crc = len(file.text), zlib.crc32(file.text)
            out.write(f"==> {cluster}/{file.node}/{file.job_id} bytes={length} crc32={crc:08x}{form} <==\n".encode())
            out.write(file.text)
            if not file.text.endswith(b"\n"):
                out.write(b"\n")
        out.flush()
        os.fsync(out.fileno())
        size = out.tell()
    sync_folder(path.parent)
    _note(path).unlink()
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
    try:
        return min(int(_note(path).read_bytes()), path.stat().st_size)
    except FileNotFoundError:
        return path.stat().st_size


def tail_crc32(text: Text, end: int) -> int:
    """Checksum of the last bytes before an offset, by which a month is known to be the one that was read up to there.

    Parameters
    ----------
    text
        The whole month.
    end
        Offset.

    Returns
    -------
    int
        CRC-32; -1 where the month is shorter.
    """
    return zlib.crc32(text[max(0, end - TAIL_BYTES) : end]) if end <= len(text) else -1


def undo_append(path: Path) -> None:
    """Take back what a run that died had begun to append, but for frames that had become whole.

    Parameters
    ----------
    path
        From `month_file`; the caller holds the archive's lock.
    """
    if not _note(path).exists():
        return
    if path.exists():
        os.truncate(path, _whole_from(path, committed_size(path)))
    _note(path).unlink()
    sync_folder(path.parent)


def _whole_from(path: Path, begin: int) -> int:
    """Offset behind the frames that are whole from an offset on; that offset where one of them is not."""
    with mapped(path) as text:
        frames = scan(text, begin, path.parent.name, str(path), SetAside())
        spans = zip(frames.begin.tolist(), frames.bytes.tolist(), frames.crc32.tolist(), strict=True)
        return frames.end if all(zlib.crc32(text[b : b + n]) == crc for b, n, crc in spans) else begin


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


def _lacks_newline(path: Path) -> bool:
    """Whether a file made by hand ends within a line."""
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"


def set_torn_aside(path: Path, end: int, aside: SetAside) -> None:
    """Move what stands behind the last whole frame, left by a run that died, into a file of its own.

    Parameters
    ----------
    path
        A plain month.
    end
        Offset behind the last whole frame.
    aside
        Told where the bytes went.
    """
    with path.open("rb+") as file:
        file.seek(end)
        copy = path.with_name(f"{path.name}.torn-{end}")
        with atomic_write(copy) as out:
            shutil.copyfileobj(file, out)
        aside.add("archive tail", f"{path} byte {end}", f"a frame was cut off there; moved to {copy.name}")
        file.truncate(end)
        os.fsync(file.fileno())
