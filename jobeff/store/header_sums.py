"""Checksums of the header lines of a month, kept beside it: a frame's own checksum is of its raw text only.

``archive/<cluster>/.<YYYY-MM>.headers`` has a record of `RECORD` for each frame that was appended. A frame without one
was made by hand, or by an older jobeff, and cannot be verified. Records are durable before the text is, and those of
text that was taken back go with it.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.store.files import FILE_MODE, atomic_write, naming
from jobeff.store.framing import Text, checksums

RECORD = np.dtype([("begin", "<i8"), ("length", "<i4"), ("crc32", "<u4"), ("check", "<u4")])
"""Where the raw text begins; length and CRC-32 of the header line that ends there; CRC-32 of these three."""

_PACK = struct.Struct("<qiI")
_CHECK = struct.Struct("<I")

Records = npt.NDArray[np.void]
Int64s = npt.NDArray[np.int64]


class Wrong(NamedTuple):
    """What does not fit.

    Attributes
    ----------
    frames
        Indexes of frames whose header is not what was written.
    records
        Indexes of records that are damaged.
    unknown
        Indexes of frames of whose header no sound record tells.
    """

    frames: Int64s
    records: Int64s
    unknown: Int64s


def beside(month: Path) -> Path:
    """Where the records of a month lie.

    Parameters
    ----------
    month
        Its file, plain or compressed.

    Returns
    -------
    Path
        Beside it; offsets are those of the plain text.
    """
    return month.with_name(f".{month.name.partition('.')[0]}.headers")


def record(begin: int, header: bytes) -> bytes:
    """The record of a frame.

    Parameters
    ----------
    begin
        Where its raw text begins.
    header
        The line before it.

    Returns
    -------
    bytes
        See `RECORD`.
    """
    packed = _PACK.pack(begin, len(header), zlib.crc32(header))
    return packed + _CHECK.pack(zlib.crc32(packed))


def append(month: Path, records: bytes, new: bool) -> None:
    """Add records, and make them durable.

    Parameters
    ----------
    month
        Its file.
    records
        From `record`.
    new
        Whether the month has just been begun, so that what is there is of another one.
    """
    path = beside(month)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, FILE_MODE)
    with naming(path), os.fdopen(handle, "ab") as out:
        size = os.fstat(out.fileno()).st_size
        os.ftruncate(out.fileno(), 0 if new else size - size % RECORD.itemsize)
        out.write(records)
        out.flush()
        os.fsync(out.fileno())


def cut(month: Path, end: int) -> None:
    """Drop the records of text that was taken back.

    Parameters
    ----------
    month
        Its file.
    end
        Size that it has now.
    """
    found = load(month)
    kept = found[found["begin"] <= end]
    if len(kept) < len(found):
        write(month, kept)


def write(month: Path, records: Records) -> None:
    """Put other records in the place of all that are there.

    Parameters
    ----------
    month, records
        As `load` gives them.
    """
    with atomic_write(beside(month)) as file:
        file.write(records.tobytes())


def load(month: Path) -> Records:
    """Read the records of a month.

    Parameters
    ----------
    month
        Its file.

    Returns
    -------
    ndarray of RECORD
        In the order written; none where there are none.
    """
    try:
        data = beside(month).read_bytes()
    except FileNotFoundError:
        return np.empty(0, dtype=RECORD)
    return np.frombuffer(data, dtype=RECORD, count=len(data) // RECORD.itemsize)


def is_sound(one: np.void) -> bool:
    """Whether a record is as it was written.

    Parameters
    ----------
    one
        From `load`.

    Returns
    -------
    bool
        By its own checksum.
    """
    return zlib.crc32(one.tobytes()[: _PACK.size]) == int(one["check"])


def _records_of(noted: Int64s, begin: Int64s) -> tuple[Int64s, Int64s]:
    """Which frames have a record, and which record a frame has; that of one without means nothing."""
    if np.array_equal(noted, begin):  # as nearly all months have them
        return np.arange(len(begin)), np.arange(len(begin))
    order = np.argsort(noted, kind="stable")
    at = np.searchsorted(noted[order], begin, side="right") - 1  # of several the last
    mine = order[np.maximum(at, 0)]
    return np.flatnonzero((at >= 0) & (noted[mine] == begin)), mine


def wrong(text: Text, begin: Int64s, records: Records, header: Int64s | None = None) -> Wrong:
    """Find frames whose header is not what was written.

    Parameters
    ----------
    text
        The whole month.
    begin
        Shape (frames,): where their raw texts begin.
    records
        From `load`.
    header
        Shape (frames,): what is known of the header lines, see `jobeff.store.framing.Frames`.

    Returns
    -------
    Wrong
        Frames without a record are not wrong, but unknown.
    """
    if len(records) == 0 or len(begin) == 0:
        return Wrong(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), np.arange(len(begin)))
    known, mine = _records_of(np.ascontiguousarray(records["begin"]), begin)
    end, length, said = begin[known], records["length"][mine[known]].astype(np.int64), records["crc32"][mine[known]]
    fits = (
        np.zeros(len(known), dtype=np.bool_)
        if header is None
        else (length > 0) & (header[known] == length << 32 | said)
    )
    there = np.flatnonzero(~fits & (length > 0) & (length <= end))
    fits[there] = checksums(text, end[there] - length[there], length[there]) == said[there]
    frames: list[int] = []
    damaged: list[int] = []
    for frame in known[~fits].tolist():
        (frames if is_sound(records[mine[frame]]) else damaged).append(frame)
    unknown = np.ones(len(begin), dtype=np.bool_)
    unknown[known] = False
    unknown[damaged] = True
    return Wrong(np.array(frames, dtype=np.int64), mine[np.array(damaged, dtype=np.int64)], np.flatnonzero(unknown))
