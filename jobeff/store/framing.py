"""Frames: where the raw files stand in the text of a month, whole, made by hand, or damaged."""

from __future__ import annotations

import itertools
import mmap
import re
import zlib
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from jobeff.errors import SetAside, shown
from jobeff.names import is_name, job_id_or_none
from jobeff.store.crc_table import crc32_table

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
FRAMES_AT_FIRST, FRAMES_AT_ONCE = 64, 8192
CHAINS = 8
"""Followed at once, so that one's next header is fetched while those of the others are read."""
NODES_AT_FIRST = 1024
FRAMES_FOR_KERNEL = 16

Text = mmap.mmap | bytes
Int64s = npt.NDArray[np.int64]


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
    header
        Shape (frames,): length of the line before the raw text and its CRC-32, as ``length << 32 | crc32``; -1 where
        nobody has asked.
    end
        Offset behind the last whole frame.
    torn
        Bytes behind `end` that are no whole frame.
    """

    nodes: list[str]
    node: Int64s
    job_id: Int64s
    begin: Int64s
    bytes: Int64s
    crc32: Int64s
    extended: npt.NDArray[np.bool_]
    header: Int64s
    end: int
    torn: int

    def without(self, some: Int64s) -> Frames:
        """All but some of the frames, by index."""
        keep = np.ones(len(self.node), dtype=np.bool_)
        keep[some] = False
        node, job_id, begin, length, crc32, header = (
            column[keep] for column in (self.node, self.job_id, self.begin, self.bytes, self.crc32, self.header)
        )
        return Frames(self.nodes, node, job_id, begin, length, crc32, self.extended[keep], header, self.end, self.torn)


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
    found = _Found([], [], {})
    size = len(text) if end is None else end
    if begin >= size:
        return found.frames(size, size)
    whole = _WholeFrames(text, cluster, size)
    at = begin
    framed = True  # whether the last frame was not made by hand, so that the next one hardly is
    while at < size:
        if framed and text[at : at + 4] == b"==> ":
            at = whole.skip(at, found)
            if at == size:
                break
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
        framed = header[4] is not None
        node = _node_index(header, cluster, found.nodes)
        if node < 0:
            aside.add("archive frame", f"{where} byte {at}", f"not a {cluster}/node/job: {shown(header[0][:-1])}")
        else:
            stop = after if framed else _stripped(text, content, after)
            crc32 = int(header[5], 16) if framed else -1
            found.rows.append((node, int(header[3]), content, stop - content, crc32, int(header[6] is not None), -1))
        at = after
    return found.frames(min(at, size), size)


@dataclass
class _Found:
    """Frames found so far, in order: arrays of shape (frames, 7), and the rows of the next one; nodes met."""

    arrays: list[Int64s]
    rows: list[tuple[int, ...]]
    nodes: dict[bytes, int]

    def add(self, frames: Int64s) -> None:
        """Add frames behind all others."""
        if self.rows:
            self.arrays.append(np.array(self.rows, dtype=np.int64))
            self.rows = []
        self.arrays.append(frames)

    def frames(self, end: int, size: int) -> Frames:
        """All frames, the last whole one of them ending at `end`."""
        self.add(np.empty((0, 7), dtype=np.int64))
        node, job_id, begin, length, crc32, extended, header = np.ascontiguousarray(np.concatenate(self.arrays).T)
        names = [name.decode("ascii") for name in self.nodes]
        return Frames(names, node, job_id, begin, length, crc32, extended.astype(np.bool_), header, end, size - end)


class _WholeFrames:
    """Frames that are exactly as they are written, found by a kernel; it stops at the first place that is not so."""

    def __init__(self, text: Text, cluster: str, size: int) -> None:
        # Imported here: those who only look at the archive's files need not wait for numba.
        from jobeff.store import frame_kernels  # noqa: PLC0415

        self._kernels = frame_kernels
        self._whole = text
        self._text = np.frombuffer(text, dtype=np.uint8)
        self._header = f"\n==> {cluster}/".encode()
        self._prefix = np.frombuffer(self._header[1:], dtype=np.uint8)
        self._size = size
        self._state = np.empty((CHAINS + 1, frame_kernels.STATES), dtype=np.int64)
        self._know_none(NODES_AT_FIRST)

    def _know_none(self, room: int) -> None:
        self._spans = np.empty((room, 2), dtype=np.int64)
        self._table = np.full(4 * room, -1, dtype=np.int64)
        self._known = 0
        self._indexes = np.full(room, -1, dtype=np.int64)  # of the nodes in `spans`, among all

    def skip(self, at: int, found: _Found) -> int:
        """Find the whole frames from an offset on; returns the offset behind them."""
        begins, stop, room = [at], self._size, FRAMES_AT_FIRST
        while at < self._size:
            if self._known == len(self._spans):
                self._know_none(2 * len(self._spans))
            frames, before = np.empty((room, self._kernels.COLUMNS), dtype=np.int64), at
            at, self._known, filled = self._kernels.jump(
                self._text, np.array(begins), stop, self._size, self._prefix,
                self._spans, self._known, self._table, frames, self._state,
            )  # fmt: skip
            if filled == 0 and self._known < len(self._spans):
                break
            if filled:
                frames = frames[:filled].copy()
                self._kernels.sum_headers(self._text, frames, crc32_table())
                frames[:, 0] = self._among_all(frames[:, 0], found.nodes)
                found.add(frames)
            begins, stop, room = [at], self._size, FRAMES_AT_FIRST
            if filled >= FRAMES_AT_FIRST:  # else what was read in vain, behind a damaged place, might be far more
                wanted = min(4 * filled, FRAMES_AT_ONCE)
                stop, room = min(at + wanted * (at - before) // filled, self._size), 2 * wanted
                begins = self._begins(at, stop)
        return int(at)

    def _begins(self, at: int, stop: int) -> list[int]:
        """Where to begin if all parts of a text are gone through at once; what is there may be no frame, see `jump`."""
        begins = [at]
        cuts = [at + (stop - at) * part // CHAINS for part in range(1, CHAINS + 1)]
        for first, last in itertools.pairwise(cuts):
            header = self._whole.find(self._header, first, last)
            if header >= 0:
                begins.append(header + 1)
        return begins

    def _among_all(self, nodes: Int64s, all_nodes: dict[bytes, int]) -> Int64s:
        """Indexes among all nodes, of those in `spans`; in their order new ones come behind the others."""
        for node in dict.fromkeys(nodes[self._indexes[nodes] < 0].tolist()):
            begin, end = self._spans[node]
            self._indexes[node] = all_nodes.setdefault(self._text[begin:end].tobytes(), len(all_nodes))
        return self._indexes[nodes]


def checksums(text: Text | npt.NDArray[np.uint8], begin: Int64s, length: Int64s) -> Int64s:
    """CRC-32 of raw files.

    Parameters
    ----------
    text
        The whole month.
    begin, length
        Shape (files,): where each stands.

    Returns
    -------
    ndarray of int64
        Shape (files,).
    """
    if len(begin) >= FRAMES_FOR_KERNEL:
        # Imported here: those who look at a few frames need not wait for numba.
        from jobeff.store import crc_kernels  # noqa: PLC0415

        if crc_kernels.can_multiply():
            return crc_kernels.of_places(np.frombuffer(text, dtype=np.uint8), begin, begin + length)
    view = memoryview(cast("bytes", text))
    spans = zip(begin.tolist(), (begin + length).tolist(), strict=True)
    return np.array([zlib.crc32(view[first:last]) for first, last in spans], dtype=np.int64)


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
