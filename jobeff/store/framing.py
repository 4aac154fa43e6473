"""Frames: where the raw files stand in the text of a month, whole, made by hand, or damaged."""

from __future__ import annotations

import mmap
import re
import zlib
from array import array
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobeff.errors import SetAside, shown
from jobeff.names import is_name, job_id_or_none

HEADER = re.compile(
    rb"==> ([^/\s]{1,200})/([^/\s]{1,200})/([^/\s]{1,200})"
    rb"(?: bytes=(\d{1,15}) crc32=([0-9a-f]{8})( form=extended)?)? <==\n"
)
NEXT_HEADER = re.compile(rb"\n==> [^/\s]{1,200}/[^/\s]{1,200}/[^/\s]{1,200}(?: bytes=[^\n]{1,80})? <==\n")
# Where text is damaged a header may have lost the line end before it; one with a checksum is hardly anything else.
FRAMED_HEADER = re.compile(
    rb"==> [^/\s]{1,200}/[^/\s]{1,200}/[^/\s]{1,200} bytes=\d{1,15} crc32=[0-9a-f]{8}[^\n]{0,20} <==\n"
)
TAIL_BYTES = 4096

Text = mmap.mmap | bytes


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
