"""collect: raw files of finished jobs, from the node folders to the archive, each once and before it is purged."""

from __future__ import annotations

import itertools
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jobeff.engine import samples
from jobeff.sources import jobstats
from jobeff.steps.collected import BATCH_BYTES, Attempt, Frame, Index, months_of, read_frame
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import archive
from jobeff.store.files import atomic_write, lock

SETTLED = 2
"""A job's last sample has been written this many intervals after its end."""

DAY_S = 86_400


class Taken(NamedTuple):
    """A raw file that is to be archived, with the jobs it can belong to."""

    file: archive.RawFile
    attempts: list[Attempt]
    modified: int


def collect(site: Site) -> StepResult:
    """Archive the raw files of finished jobs, and orphans before they are purged.

    Parameters
    ----------
    site
        Where to work.

    Returns
    -------
    StepResult
        Files archived, orphans among them, moved to another month; bytes of text; what could not be read.
    """
    for cluster in site.config.clusters.values():
        jobstats.require_folders(cluster)
    with timed("collect", "raw files", "orphans", "text bytes") as result, lock(site.root, "archive"):
        site.warm()
        for name in site.config.clusters:
            index = Index(site, name, result.aside)
            try:
                _Collector(site, name, index, result).run()
            finally:
                index.close()
    return result


class _Collector:
    """Collects one cluster."""

    def __init__(self, site: Site, cluster: str, index: Index, result: StepResult) -> None:
        self.site, self.index, self.result = site, index, result
        self.cluster = site.config.clusters[cluster]
        self.now = int(time.time())

    def run(self) -> None:
        """Take what is new, a batch at a time, then look again at what accounting says of older frames."""
        for batch in _batches(self._new_files()):
            self._archive(batch)
        self._rehome()

    def _new_files(self) -> Iterator[Taken]:
        found = jobstats.find(self.cluster, self.result.aside)
        for node, some in itertools.groupby(found, key=lambda file: file.node):
            files = sorted(some, key=lambda file: file.job_id)
            ids = [file.job_id for file in files]
            attempts, frames = self.index.attempts(ids), self.index.frames(node, ids)
            for file in files:
                taken = self._take(file, attempts.get(file.job_id, []), frames.get(file.job_id, []))
                if taken is not None:
                    yield taken

    def _take(self, file: jobstats.Found, attempts: list[Attempt], frames: list[Frame]) -> Taken | None:
        """Read a file if it is time for it and the archive does not have it."""
        if not attempts and frames:
            return None
        ends = [attempt.end for attempt in attempts if attempt.end <= self.now + DAY_S]  # later ones cannot be true
        if ends and max(ends) + SETTLED * self.cluster.interval > self.now:
            return None
        if frames and self._has_all(file.node, attempts, frames):
            return None
        try:
            about = Path(file.path).lstat()
        except FileNotFoundError:
            return None
        if not ends and self.now - about.st_mtime < self.site.config.orphan_days * DAY_S:
            return None
        text = jobstats.read(file.path, self.result.aside)
        if text is None:
            return None
        raw = archive.RawFile(file.node, file.job_id, text, file.extended)
        return Taken(raw, attempts, int(about.st_mtime))

    def _has_all(self, node: str, attempts: list[Attempt], frames: list[Frame]) -> bool:
        """Whether the file was collected when all jobs it can be of had ended, and stands in the months of all."""
        known = max(frame.known_end for frame in frames)
        months = {frame.month for frame in frames}
        return all(attempt.end <= known and attempt.month in months for attempt in attempts if attempt.booked(node))

    def _archive(self, batch: list[Taken]) -> None:
        """Append the files of a batch to the months that they belong to and are not in as they are now."""
        places = [
            self._months_of(taken, first, last)
            for taken, (first, last) in zip(batch, _time_ranges([taken.file for taken in batch]), strict=True)
        ]
        # What a month holds is known before anything is appended: it may have these files, or end within a frame.
        self.index.catch_up(set().union(*places), appended=False)
        months: dict[str, list[archive.RawFile]] = {}
        unchanged = []
        for taken, wanted, frames in zip(batch, places, self._frames_of(batch), strict=True):
            raw = taken.file
            crc32 = zlib.crc32(raw.text)
            have = {frame.month for frame in frames if (frame.bytes, frame.crc32) == (len(raw.text), crc32)}
            if wanted <= have:
                known_end = min(self.now, max((attempt.end for attempt in taken.attempts), default=0))
                unchanged.append((raw.node, raw.job_id, known_end))
                continue
            for month in wanted - have:
                months.setdefault(month, []).append(raw)
            self.result.count("orphans", not taken.attempts)
            self.result.count("raw files")
            self.result.count("text bytes", len(raw.text))
        self.index.set_known(unchanged)
        self._append(months)

    def _frames_of(self, batch: list[Taken]) -> Iterator[list[Frame]]:
        """What the archive has of each file of a batch, asked once per node."""
        for node, some in itertools.groupby(batch, key=lambda taken: taken.file.node):
            ids = [taken.file.job_id for taken in some]
            frames = self.index.frames(node, ids)
            yield from (frames.get(job_id, []) for job_id in ids)

    def _months_of(self, taken: Taken, first: int | None, last: int | None) -> set[str]:
        if taken.attempts:
            found = months_of(taken.attempts, taken.file.node, first, last, self.cluster.interval)
            # A file is never without a month: where no job fits, that of the latest.
            return found or {max(taken.attempts, key=lambda attempt: attempt.end).month}
        seen = last if last is not None and last <= self.now + DAY_S else taken.modified
        return {self.site.config.clock.month(max(0, seen))}

    def _append(self, months: dict[str, list[archive.RawFile]]) -> None:
        for month in months:
            self._inflate(month)
        # A month that was compressed may end within a frame, which could not be moved away before.
        self.index.catch_up(months, appended=False)
        for month, files in sorted(months.items()):
            archive.append(archive.month_file(self.site.root, self.cluster.name, month), self.cluster.name, files)
        self.index.catch_up(months, appended=True)
        self.index.met.update(months)

    def _inflate(self, month: str) -> None:
        """Make a compressed month plain again, since text is appended to it."""
        path = archive.month_files(self.site.root, self.cluster.name).get(month)
        if path is None or path.suffix == ".txt":
            return
        whole = archive.month_file(self.site.root, self.cluster.name, month)
        scratch = self.site.root / "db" / "scratch"
        with archive.plain(path, scratch) as plain, archive.mapped(plain) as text, atomic_write(whole) as out:
            out.write(text)
        path.unlink()

    def _rehome(self) -> None:
        """Copy frames to months in which, as accounting says by now, their jobs ended."""
        for node, job_id, frames, attempts in self.index.newly_named():
            have = {frame.month for frame in frames}
            for frame in {frame.bytes: frame for frame in frames}.values():
                missing = months_of(attempts, node, frame.first, frame.last, self.cluster.interval) - have
                if missing:
                    self.index.catch_up(missing, appended=False)
                    text = read_frame(self.site, self.cluster.name, frame)
                    raw = archive.RawFile(node, job_id, text, frame.extended)
                    self._append({month: [raw] for month in missing})
                    self.result.count("copied to another month")


def _time_ranges(files: list[archive.RawFile]) -> Iterator[tuple[int | None, int | None]]:
    """First and last TIME of raw files; None where there is no valid row."""
    ends = np.cumsum([len(file.text) for file in files])
    begins = np.concatenate([[0], ends[:-1]])
    text = np.frombuffer(b"".join(file.text for file in files), dtype=np.uint8)
    columns, _ = samples.parse(text, begins, ends, np.array([file.extended for file in files]))
    return zip(columns["first"].to_pylist(), columns["last"].to_pylist(), strict=True)


def _batches(files: Iterator[Taken]) -> Iterator[list[Taken]]:
    """Group files so that a group's text is not much longer than `BATCH_BYTES`."""
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
