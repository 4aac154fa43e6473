"""Raw files into the archive: each once, in the months in which its jobs ended; what collect and import share."""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.engine import samples
from jobeff.steps.collected import BATCH_BYTES, Attempt, Frame, Index, months_of
from jobeff.steps.site import Site, StepResult
from jobeff.store import archive
from jobeff.store.files import atomic_write
from jobeff.store.scratch import scratch_root

DAY_S = 86_400


class Taken(NamedTuple):
    """A raw file that is to be archived, with the jobs it can belong to.

    `modified` is when it was last written, which dates it where nothing else does; None where that is not known.
    """

    file: archive.RawFile
    attempts: list[Attempt]
    modified: int | None


class Archiver:
    """Adds raw files to the archive of one cluster.

    Parameters
    ----------
    site, cluster, index
        Where to work; the caller holds the lock of the archive.
    result
        Takes the counts ``raw files``, ``orphans`` and ``text bytes`` of what was added, and what is set aside.
    current
        Whether these are the files that the site has now, so that one that is archived as it is needs no second look.
    """

    def __init__(self, site: Site, cluster: str, index: Index, result: StepResult, current: bool = True) -> None:
        self.site, self.cluster, self.index, self.result, self.current = site, cluster, index, result, current
        self.now = int(time.time())

    def add(self, batch: Sequence[Taken]) -> int:
        """Append raw files to the months that they belong to and are not in as they are now.

        Parameters
        ----------
        batch
            Each once, node by node.

        Returns
        -------
        int
            How many the archive had already.
        """
        places = [
            self._months_of(taken, first, last)
            for taken, (first, last) in zip(batch, _time_ranges([taken.file for taken in batch]), strict=True)
        ]
        # What a month holds is known before anything is appended: it may have these files, or end within a frame.
        self.index.catch_up(set().union(*places), appended=False)
        months: dict[str, list[archive.RawFile]] = {}
        unchanged = []
        for taken, wanted, have in zip(batch, places, self._months_with(batch), strict=True):
            raw = taken.file
            if have and (wanted <= have or not taken.attempts):
                known_end = min(self.now, max((attempt.end for attempt in taken.attempts), default=0))
                unchanged.append((raw.node, raw.job_id, known_end))
                continue
            if not wanted:
                where = f"{self.cluster}/{raw.node}/{raw.job_id}"
                why = "it has no valid row and accounting does not know its job, so nothing tells its month"
                self.result.aside.add("raw file", where, why)
                continue
            for month in wanted - have:
                months.setdefault(month, []).append(raw)
            self.result.count("orphans", not taken.attempts)
            self.result.count("raw files")
            self.result.count("text bytes", len(raw.text))
        if self.current:
            self.index.set_known(unchanged)
        self.append(months)
        return len(unchanged)

    def append(self, months: dict[str, list[archive.RawFile]]) -> None:
        """Append raw files to given months.

        Parameters
        ----------
        months
            Raw files by month.
        """
        for month in months:
            self._inflate(month)
        # A month that was compressed may end within a frame, which could not be moved away before.
        self.index.catch_up(months, appended=False)
        for month, files in sorted(months.items()):
            archive.append(archive.month_file(self.site.root, self.cluster, month), self.cluster, files)
        self.index.catch_up(months, appended=self.current)
        self.index.met.update(months)

    def _frames_of(self, batch: Sequence[Taken]) -> Iterator[list[Frame]]:
        """What the archive has of each file of a batch, asked once per node."""
        for node, some in itertools.groupby(batch, key=lambda taken: taken.file.node):
            ids = [taken.file.job_id for taken in some]
            frames = self.index.frames(node, ids)
            yield from (frames.get(job_id, []) for job_id in ids)

    def _months_with(self, batch: Sequence[Taken]) -> list[set[str]]:
        """Months that have each file of a batch, or its samples in the other form."""
        pairs = [(taken.file, frames) for taken, frames in zip(batch, self._frames_of(batch), strict=True)]
        unlike = {frame for raw, frames in pairs for frame in frames if not _is_text(frame, raw)}
        try:
            texts = read_frames(self.site, self.cluster, unlike)
        except archive.UnreadableMonthError:
            texts = {}  # a file that is archived twice does less harm than one that is not
        return [
            {
                frame.month
                for frame in frames
                if frame not in unlike or (frame in texts and self._is_other_form(frame, texts[frame], raw))
            }
            for raw, frames in pairs
        ]

    def _is_other_form(self, frame: Frame, text: bytes, raw: archive.RawFile) -> bool:
        """Whether a frame has a file's samples in the other of the two forms, so that the file has nothing to add.

        Which form was there first is known of no frame once the index is lost, so it must not matter.
        """
        if _is_extended(text, frame.extended) == _is_extended(raw.text, raw.extended):
            return False
        have, times = _times(text, frame.extended), _times(raw.text, raw.extended)
        half = self.site.config.interval(self.cluster) // 2  # the two may have been written a moment apart
        return bool(np.all(np.searchsorted(have, times - half) < np.searchsorted(have, times + half, "right")))

    def _months_of(self, taken: Taken, first: int | None, last: int | None) -> set[str]:
        if taken.attempts:
            interval = self.site.config.interval(self.cluster)
            found = months_of(taken.attempts, taken.file.node, first, last, interval)
            # A file is never without a month: where no job fits, that of the latest.
            return found or {max(taken.attempts, key=lambda attempt: attempt.end).month}
        seen = last if last is not None and last <= self.now + DAY_S else taken.modified
        return set() if seen is None else {self.site.config.clock.month(max(0, seen))}

    def _inflate(self, month: str) -> None:
        """Make a compressed month plain again, since text is appended to it."""
        path = archive.month_files(self.site.root, self.cluster).get(month)
        if path is None or path.suffix == ".txt":
            return
        whole = archive.month_file(self.site.root, self.cluster, month)
        scratch = scratch_root(self.site.root)
        with archive.plain(path, scratch) as plain, archive.mapped(plain) as text, atomic_write(whole) as out:
            out.write(text)
        path.unlink()


def read_frames(site: Site, cluster: str, frames: Iterable[Frame]) -> dict[Frame, bytes]:
    """The raw text of frames; each month is opened once.

    Parameters
    ----------
    site
        Site that holds the archive.
    cluster, frames
        Which ones.

    Returns
    -------
    dict
        As it was collected, by frame.

    Raises
    ------
    UnreadableMonthError
        A compressed month cannot be read.
    """
    found = {}
    files = archive.month_files(site.root, cluster)
    for month, some in itertools.groupby(sorted(frames, key=lambda one: one.month), key=lambda one: one.month):
        with archive.plain(files[month], scratch_root(site.root)) as plain, archive.mapped(plain) as text:
            found.update({frame: bytes(text[frame.offset : frame.offset + frame.bytes]) for frame in some})
    return found


def _is_text(frame: Frame, raw: archive.RawFile) -> bool:
    """Whether a frame has the text of a file."""
    return (frame.bytes, frame.crc32) == (len(raw.text), zlib.crc32(raw.text))


def _is_extended(text: bytes, without_header: bool) -> bool:
    """Whether a raw file has the extended form, which its header tells where it has one."""
    header = text.lstrip().partition(b"\n")[0].split()
    return b"GB_MAX_USED" in header if header[:1] == [b"LOCALTIME"] else without_header


def _times(text: bytes, extended: bool) -> npt.NDArray[np.int64]:
    """TIME of a raw file's valid rows, in order."""
    whole = np.frombuffer(text, dtype=np.uint8)
    found, _ = samples.parse_arrays(whole, np.array([0]), np.array([len(text)]), np.array([extended]))
    return np.sort(found["time"])


def _time_ranges(files: Sequence[archive.RawFile]) -> Iterator[tuple[int | None, int | None]]:
    """First and last TIME of raw files; None where there is no valid row."""
    ends = np.cumsum([len(file.text) for file in files])
    begins = np.concatenate([[0], ends[:-1]])
    text = np.frombuffer(b"".join(file.text for file in files), dtype=np.uint8)
    columns, _ = samples.parse(text, begins, ends, np.array([file.extended for file in files]))
    return zip(columns["first"].to_pylist(), columns["last"].to_pylist(), strict=True)


def batches(files: Iterator[Taken]) -> Iterator[list[Taken]]:
    """Group raw files so that a group's text is not much longer than `BATCH_BYTES`.

    Parameters
    ----------
    files
        In any order.

    Yields
    ------
    list of Taken
        At least one.
    """
    batch: list[Taken] = []
    size = 0
    for taken in files:
        batch.append(taken)
        size += len(taken.file.text)
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
