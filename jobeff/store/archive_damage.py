"""Where a month of the archive is not as it was written, and what of it is known to be lost for good."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jobeff.errors import SetAside
from jobeff.store import header_sums
from jobeff.store.files import atomic_write
from jobeff.store.framing import Frames, Text, checksums, first_frame, scan

LAST_LINE = re.compile(rb"==> [^\n]{1,700} <==\n\Z")
LONGEST_HEADER = 800
BLOCK = 1 << 20


class BadPlace(NamedTuple):
    """Bytes of a month that cannot be used.

    Attributes
    ----------
    begin, end
        Where they stand.
    header
        Where the header of their frame begins; `begin` where no frame is known.
    node, job_id
        Whose raw text they are, as the header says; empty and 0 where there is none.
    crc32
        What the checksum of the text should be; -1 where that is not known.
    why
        In words.
    """

    begin: int
    end: int
    header: int
    node: str
    job_id: int
    crc32: int
    why: str


def bad_places(text: Text, end: int, cluster: str, month: Path) -> list[BadPlace]:
    """Find all that is not as it was written.

    Parameters
    ----------
    text
        The whole month, plain.
    end
        Where to stop: behind a whole frame.
    cluster, month
        Its name, and the month's file.

    Returns
    -------
    list of BadPlace
        In order: raw texts whose checksum is wrong, headers that are not what was written, and bytes that are no frame.
    """
    found: list[BadPlace] = []
    records, spans = header_sums.load(month), [(0, end)]
    for first, last in spans:
        frames = scan(text, first, cluster, "", SetAside(), last)
        # A length that is damaged can lead exactly to a later frame: others stand within.
        within = _damaged_texts(text, frames, found) | _wrong_headers(text, frames, records, found)
        spans += [(first_frame(text, begin, stop), stop) for begin, stop in within]
        if first == 0:
            _gaps(text, frames, end, found)
    return sorted(found)


def _damaged_texts(text: Text, frames: Frames, found: list[BadPlace]) -> set[tuple[int, int]]:
    wrong = np.flatnonzero((frames.crc32 >= 0) & (checksums(text, frames.begin, frames.bytes) != frames.crc32))
    for frame in wrong.tolist():
        begin, node = int(frames.begin[frame]), frames.nodes[frames.node[frame]]
        end, job_id = begin + int(frames.bytes[frame]), int(frames.job_id[frame])
        crc32 = int(frames.crc32[frame])
        found.append(BadPlace(begin, end, _header_begin(text, begin), node, job_id, crc32, "its checksum is wrong"))
    return {(int(frames.begin[i]), int(frames.begin[i] + frames.bytes[i])) for i in wrong}


def _wrong_headers(
    text: Text, frames: Frames, records: header_sums.Records, found: list[BadPlace]
) -> set[tuple[int, int]]:
    wrong = header_sums.wrong(text, frames.begin, records, frames.header).frames
    spans = {(int(frames.begin[i]), int(frames.begin[i] + frames.bytes[i])) for i in wrong}
    for begin, end in spans:
        header, inner = _header_begin(text, begin), first_frame(text, begin, end)
        found.append(BadPlace(header, inner, header, "", 0, -1, "its header is not what was written"))
    return spans


def _header_begin(text: Text, begin: int) -> int:
    """Where the header line that ends at an offset begins."""
    line = LAST_LINE.search(text[max(0, begin - LONGEST_HEADER) : begin])
    return begin - len(line[0]) if line else begin


def _gaps(text: Text, frames: Frames, end: int, found: list[BadPlace]) -> None:
    """What stands between frames: at most newlines."""
    ends = [0, *(frames.begin + frames.bytes).tolist()]
    headers = [*(_header_begin(text, begin) for begin in frames.begin.tolist()), end]
    for first, last in zip(ends, headers, strict=True):
        if bytes(text[first:last]).strip(b"\n"):
            found.append(BadPlace(first, last, first, "", 0, -1, "no frame begins here"))


def _lost_path(month: Path) -> Path:
    return month.with_name(f".{month.name.partition('.')[0]}.lost.json")


def lost(month: Path) -> list[dict[str, Any]]:
    """What is known to be lost of a month.

    Parameters
    ----------
    month
        Its file.

    Returns
    -------
    list of dict
        ``begin``, ``end``, ``crc32`` of what stands there now; ``what`` and ``since`` for people.
    """
    try:
        found: list[dict[str, Any]] = json.loads(_lost_path(month).read_bytes())
    except FileNotFoundError:
        return []
    except ValueError:  # it only keeps `check` from telling again what has been told
        return []
    return found


def set_lost(month: Path, places: Iterable[dict[str, Any]]) -> None:
    """Note what is lost of a month for good, so that it does not count as damage for ever.

    Parameters
    ----------
    month, places
        See `lost`.
    """
    with atomic_write(_lost_path(month)) as file:
        file.write(json.dumps(list(places), indent=1).encode())


def is_known(text: Text, place: BadPlace, known: list[dict[str, Any]]) -> bool:
    """Whether a bad place is known to be lost, and is still what it was then.

    Parameters
    ----------
    text
        The month.
    place, known
        From `bad_places` and `lost`.

    Returns
    -------
    bool
        False where more of it was damaged since.
    """
    now = zlib.crc32(text[place.begin : place.end])
    return any((one["begin"], one["end"], one["crc32"]) == (place.begin, place.end, now) for one in known)


def still_lost(text: Text, month: Path) -> list[dict[str, Any]]:
    """Parts of a month that are lost for good, and still are what they were as that was noted.

    Parameters
    ----------
    text
        The whole month, plain.
    month
        Its file.

    Returns
    -------
    list of dict
        See `lost`; the month as a whole is not among them, see `is_told`.
    """
    return [one for one in lost(month) if one["end"] and zlib.crc32(text[one["begin"] : one["end"]]) == one["crc32"]]


def state_of(month: Path) -> int:
    """What tells whether a file has been put in the place of a month, or written anew.

    Parameters
    ----------
    month
        Its file, plain or compressed.

    Returns
    -------
    int
        CRC-32; 0 where there is no file.
    """
    try:
        with month.open("rb") as file:
            crc32 = 0
            while data := file.read(BLOCK):
                crc32 = zlib.crc32(data, crc32)
            return crc32
    except FileNotFoundError:
        return 0


def is_told(month: Path) -> bool:
    """Whether it is known that nothing can be made of a month as it is now.

    Parameters
    ----------
    month
        Its file.

    Returns
    -------
    bool
        False where it is another one since.
    """
    notes = [one for one in lost(month) if one["end"] == 0]
    return bool(notes) and state_of(month) in [one["crc32"] for one in notes]
