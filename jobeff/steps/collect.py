"""collect: raw files of finished jobs, from the node folders to the archive, each once and before it is purged."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

from jobeff.errors import SourceError
from jobeff.progress import Advance
from jobeff.sources import jobstats
from jobeff.steps.archiving import DAY_S, Archiver, Taken, batches, read_frames
from jobeff.steps.collected import Attempt, Frame, Index, months_of
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import archive, tables
from jobeff.store.locks import lock

SETTLED = 2
"""A job's last sample has been written this many intervals after its end."""


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

    Raises
    ------
    SourceError
        No cluster's folders can be read.
    """
    with timed("collect", "raw files", "orphans", "text bytes") as result:
        clusters = _readable(site, result)
        with lock(site.root, "archive"):
            tables.read_database(tables.database(site.root, "accounting"), "accounting").close()
            site.warm()  # after what can fail at once: it takes a while where kernels have to be compiled
            for name in clusters:
                index = Index(site, name, result.aside)
                try:
                    _Collector(site, name, index, result).run()
                    index.forget_unmet()
                finally:
                    index.close()
    return result


def _readable(site: Site, result: StepResult) -> list[str]:
    """Clusters whose folders can be read; the others are set aside."""
    unreadable: dict[str, SourceError] = {}
    for name, cluster in site.config.clusters.items():
        try:
            jobstats.require_folders(cluster)
        except SourceError as error:
            unreadable[name] = error
            result.aside.add("source", name, str(error))
    readable = [name for name in site.config.clusters if name not in unreadable]
    if unreadable and not any(site.config.clusters[name].jobstats for name in readable):
        raise next(iter(unreadable.values()))
    return readable


class _Collector:
    """Collects one cluster."""

    def __init__(self, site: Site, cluster: str, index: Index, result: StepResult) -> None:
        self.site, self.index, self.result = site, index, result
        self.cluster = site.config.clusters[cluster]
        self.now = int(time.time())
        self.archiver = Archiver(site, cluster, index, result)

    def run(self) -> None:
        """Take what is new, a batch at a time, then look again at what accounting says of older frames."""
        nodes = len(jobstats.nodes(self.cluster))
        with self.site.progress.task(f"collect {self.cluster.name}", nodes, "nodes") as advance:
            for batch in batches(self._new_files(advance)):
                self.archiver.add(batch)
        self._rehome()

    def _new_files(self, advance: Advance) -> Iterator[Taken]:
        found = jobstats.find(self.cluster, self.result.aside)
        for node, some in itertools.groupby(found, key=lambda file: file.node):
            yield from self._of_node(node, some)
            advance(1)

    def _of_node(self, node: str, some: Iterator[jobstats.Found]) -> Iterator[Taken]:
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

    def _rehome(self) -> None:
        """Copy frames to months in which, as accounting says by now, their jobs ended."""
        for node, job_id, frames, attempts in self.index.newly_named():
            have = {frame.month for frame in frames}
            for frame in {frame.bytes: frame for frame in frames}.values():
                missing = months_of(attempts, node, frame.first, frame.last, self.cluster.interval) - have
                if missing:
                    self.index.catch_up(missing, appended=False)
                    text = read_frames(self.site, self.cluster.name, [frame])[frame]
                    raw = archive.RawFile(node, job_id, text, frame.extended)
                    self.archiver.append({month: [raw] for month in missing})
                    self.result.count("copied to another month")
