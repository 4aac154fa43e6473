"""ingest: archive text to shards; the tail of each month, or all of it, by the same code."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobeff.engine import build, plan, pool, scan, verify
from jobeff.engine.reduce import Month, Span
from jobeff.errors import SetAside, shown
from jobeff.order import distinct
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import ahead, archive, framing, header_sums, shards
from jobeff.store.archive_damage import is_told
from jobeff.store.fences import lock_shards
from jobeff.store.scratch import give_back, scratch_root

GROUPS_PER_WORKER = 4
"""A month is cut into so many tasks per worker, so that one that is slower than its bytes does not hold up the rest."""

COUNTS = ("raw files", "rows", "damaged rows", "text bytes")
NEW: dict[str, Any] = {"archive_bytes": 0, "tail_crc32": 0, "restarts": 0, "nodes": []}


def ingest(site: Site) -> StepResult:
    """Bring the shards up to date with the archive.

    Parameters
    ----------
    site
        Where to work.

    Returns
    -------
    StepResult
        Raw files and rows added, damaged rows, bytes of text read; frames set aside.
    """
    with lock_shards(site.root, site.run), timed("ingest", *COUNTS) as result, site.scratch() as temporary:
        months = all_behind(site, site.config.shards)
        set_aside_no_files(site, result)
        if not months:
            return result
        with site.executor() as executor:
            total = sum(month.size - month.known["archive_bytes"] for month in months)
            with (
                site.progress.task("ingest", max(0, total), "bytes") as advance,
                reading_ahead(site, months) as reached,
            ):
                stages = Stages(site, temporary, result, advance, reached)
                chains = site.wrapped([stages.ingested(month) for month in months])
                for _ in pool.run_chains(executor, chains, site.months_at_once(largest_text(months))):
                    pass
                site.planned()
    return result


@dataclass(frozen=True)
class Behind:
    """A month of the archive that has more than its shards.

    Attributes
    ----------
    shards, cluster, name, path
        Where the shards lie; which month; its file.
    known
        What `jobeff.store.shards.ingested` says of it.
    size
        Bytes that the file has, or will have as plain text at least.
    upto
        Offset behind a frame beyond which nothing is read; None: all of it.
    """

    shards: Path
    cluster: str
    name: str
    path: Path
    known: dict[str, Any]
    size: int
    upto: int | None = None


def all_behind(site: Site, folder: Path, unsure: bool = False) -> list[Behind]:
    """Find the months of all clusters that have to be ingested.

    Parameters
    ----------
    site, folder, unsure
        See `months_behind`.

    Returns
    -------
    list of Behind
        In order.
    """

    def find() -> list[Behind]:
        return [month for cluster in site.config.clusters for month in months_behind(site, folder, cluster, unsure)]

    found: list[Behind] = site.recalled("behind", find)
    return found


def months_behind(site: Site, folder: Path, cluster: str, unsure: bool = False) -> list[Behind]:
    """Find the months that have to be ingested.

    Parameters
    ----------
    site
        Where to work.
    folder
        One generation of shards.
    cluster
        Of the archive.
    unsure
        See `shards.ingested`.

    Returns
    -------
    list of Behind
        In order.
    """
    done = shards.ingested(folder, cluster, unsure)
    found = []
    for name, path in archive.month_files(site.root, cluster).items():
        known, state = done.get(name, NEW), _state(path)
        if {key: known.get(key) for key in state} != state:
            found.append(Behind(folder, cluster, name, path, known, state["size"]))
    return found


def largest_text(months: list[Behind]) -> int:
    """How much text the largest month can have.

    Parameters
    ----------
    months
        What will be ingested.

    Returns
    -------
    int
        In bytes; of one that is compressed nobody knows before it is inflated.
    """
    return max((_text_at_most(month) for month in months), default=0)


def _text_at_most(month: Behind) -> int:
    return month.size * (archive.LARGEST_RATIO if month.path.suffix in archive.COMPRESSED else 1)


def reading_ahead(site: Site, months: list[Behind]) -> contextlib.AbstractContextManager[Callable[[Path], None]]:
    """Have the text of months read before they are ingested, as far as that is done on this machine.

    Parameters
    ----------
    site, months
        Where to work, and what will be ingested, in that order.

    Returns
    -------
    context manager
        See `jobeff.store.ahead.reading_ahead`.
    """
    if not site.is_local:
        return contextlib.nullcontext(lambda _: None)
    return ahead.reading_ahead([(month.path, month.known["archive_bytes"]) for month in months])


def set_aside_no_files(site: Site, result: StepResult) -> None:
    """Name what lies in the archive and is not read.

    Parameters
    ----------
    site, result
        Where to look, and what is told.
    """
    for cluster in site.config.clusters:
        for path in archive.no_files(site.root, cluster):
            result.aside.add("archive month", shown(str(path)), f"{archive.NO_FILE}, so it is not read")


def _state(path: Path) -> dict[str, Any]:
    """What tells that a month has not changed since."""
    return {"file": path.name, "size": archive.committed_size(path)}


@dataclass(frozen=True)
class Stages:
    """The stages of ingesting a month, each a list of tasks.

    Attributes
    ----------
    site, scratch, result
        Where to work; folder for what tasks share; takes counts and what is set aside.
    advance
        Told how many bytes have been read.
    reached
        Told which file is needed now; see `reading_ahead`.
    sync_soon
        None where shards and their notes must outlast a power cut as soon as these are written. Else whoever publishes
        them sees to it, and this is told of each note; see `syncing_soon`.
    before
        Shards that may be the same already as those that are made.
    """

    site: Site
    scratch: Path
    result: StepResult
    advance: Any
    reached: Callable[[Path], None]
    sync_soon: Callable[[Path], None] | None = None
    before: Path | None = None

    @property
    def durable(self) -> bool:
        """Whether shards and their notes must outlast a power cut as soon as they are written."""
        return self.sync_soon is None

    @property
    def text_outlasts(self) -> bool:
        """Whether text that was inflated is read later too, by the parts and the second half of a run on Slurm."""
        return self.site.away is not None

    def ingested(self, month: Behind, planned: Month | None = None, spans: tuple[Span, ...] = ()) -> Ingesting:
        """Ingest what a month has more than is known.

        Parameters
        ----------
        month
            From `months_behind`.
        planned, spans
            Where its jobs are to be computed at once: the planned month, and its nodes.

        Returns
        -------
        list of Path or None
            Files with what the nodes know of the jobs; None where it has to be read from the shards.
        """
        self.reached(month.path)
        state: dict[str, Any] = self._recalled("state", month, lambda: _state(month.path))
        text_path = month.path
        try:
            text_path = yield from self._plain(month)
            size = archive.committed_size(text_path) if text_path == month.path else text_path.stat().st_size
            size = size if month.upto is None else min(size, month.upto)
            about, reduced = yield from self._built(month, text_path, size, planned, spans)
        except archive.UnreadableMonthError as error:
            self.result.aside.add("archive month", str(month.path), str(error))
            return None
        finally:
            if text_path != month.path and not self.text_outlasts:
                text_path.unlink()
        if "waiting" in about:
            state = {}  # so the month is behind, and the nodes that are not will find that they have come this far
        shards.set_ingested(month.shards, month.cluster, month.name, {**about, **state}, self.durable)
        if self.sync_soon is not None:
            self.sync_soon(shards.note(month.shards, month.cluster, month.name))
        return reduced

    def _plain(self, month: Behind) -> Generator[Any, Any, Path]:
        """A month as plain text, in scratch where it is compressed."""
        if month.path.suffix not in archive.COMPRESSED:
            return month.path
        text_path = self.scratch / month.cluster / f"{month.name}-text" / month.path.stem
        task = scan.InflateTask(month.path, text_path, durable=self.text_outlasts)
        (why,) = yield [(scan.inflate_month, task)]
        if why:
            raise archive.UnreadableMonthError(why)
        return text_path

    def _built(
        self, month: Behind, text_path: Path, size: int, planned: Month | None, spans: tuple[Span, ...]
    ) -> Generator[Any, Any, tuple[dict[str, Any], list[Path] | None]]:
        where = str(month.path)
        with archive.mapped(text_path) as text:
            begin, restarts, nodes, why = self._recalled("begin", month, lambda: self._begin(month, text, size))
            if why:
                self.result.aside.add("archive month", where, why)
            folder = self.scratch / month.cluster / f"{month.name}-frames"
            task = scan.ScanTask(text_path, month.cluster, month.path, begin, size, folder)
            (found,) = yield [(scan.scan_month, task)]
            self.result.aside.merge(found.aside)
            if found.torn:
                torn = f"{found.torn} bytes are no whole frame; 'jobeff collect' moves them away"
                self.result.aside.add("archive tail", f"{where} byte {found.end}", torn)
            tasks = self._tasks(month, task, found, nodes, planned, spans, anew=bool(why))
            built = yield [(build.build_shards, task) for task in tasks]
            if self.site.is_local:  # elsewhere a worker that was given up may go on
                give_back(folder, scan.frame_files(folder))
            damaged, lost = found.damaged + self._count(built), {node for one in built for node in one.lost}
            if why:
                _remove_others(month, set(found.nodes) - lost)
            reduced = [one.out for one in built if one.out is not None]
            # A damaged length can lead exactly to a later frame; those between are found in the damaged one's text.
            for number, (first, last) in enumerate(damaged):
                inner = framing.first_frame(text, first, last)
                if inner == last:
                    continue
                folder = self.scratch / month.cluster / f"{month.name}-frames-{number}"
                task = scan.ScanTask(text_path, month.cluster, month.path, inner, last, folder)
                (within,) = yield [(scan.scan_month, task)]
                self.result.aside.merge(within.aside)
                damaged += within.damaged  # each is shorter than the one that it stands in
                within.end = found.end
                more = self._tasks(month, task, within, nodes, None, (), again=True)
                built = yield [(build.build_shards, task) for task in more]
                damaged += self._count(built)
                lost.update(node for one in built for node in one.lost)
            end = begin if lost else found.end
            tail = framing.tail_crc32(text, end)
        nodes = sorted({*nodes, *shards.nodes_with(month.shards, month.cluster, month.name)})
        about = {"archive_bytes": end, "tail_crc32": tail, "restarts": restarts, "nodes": nodes}
        if lost:
            about["waiting"] = sorted(lost)
        # What was found only in the end is in the shards, but not in what the nodes have been reduced to.
        return about, reduced if planned is not None and begin == 0 and not damaged and not lost else None

    def _recalled(self, what: str, month: Behind, find: Callable[[], Any]) -> Any:
        return self.site.recalled(f"{what}-{month.cluster}-{month.name}", find)

    @staticmethod
    def _begin(month: Behind, text: framing.Text, size: int) -> tuple[int, int, list[str], str]:
        """Where to begin; how often a month has been begun anew, which nodes have a shard; why it is, if now."""
        begin, restarts, nodes = (month.known[key] for key in ("archive_bytes", "restarts", "nodes"))
        if begin <= size and framing.tail_crc32(text, begin) == month.known["tail_crc32"]:
            return begin, restarts, nodes, ""
        if verify.is_damaged(text, month.cluster, month.path, size):
            told = is_told(month.path)
            mend = "'jobeff repair' could not mend it, a whole copy would" if told else "'jobeff repair' mends it"
            why = (
                f"it is not what it was up to byte {begin}, so none of it is read; {mend}. "
                f"Who has written it anew removes {header_sums.beside(month.path).name}"
            )
            raise archive.UnreadableMonthError(why)
        why = f"it is not what it was up to byte {begin}; its shards are made again from what is there"
        return 0, restarts + 1, [], why

    def _tasks(
        self,
        month: Behind,
        scanned: scan.ScanTask,
        found: scan.ScanResult,
        known: list[str],
        planned: Month | None,
        spans: tuple[Span, ...],
        again: bool = False,
        anew: bool = False,
    ) -> list[build.BuildTask]:
        groups = plan.balanced(range(len(found.nodes)), found.weights, GROUPS_PER_WORKER * self.site.width)
        by_node = {span.node: span for span in spans}
        tasks = []
        for number, group in enumerate(groups):
            nodes = [(found.nodes[i], *found.spans[i]) for i in group]
            tasks.append(
                build.BuildTask(
                    scanned.month_text, month.path, month.shards, month.cluster, month.name, scanned.folder, nodes,
                    found.end, set(known), again, anew, self.durable, self.before, planned,
                    {node: by_node[node] for node, _, _ in nodes if node in by_node},
                    None if planned is None else planned.folder / f"reduced-{number}",
                )
            )  # fmt: skip
        return tasks

    def _count(self, results: list[build.BuildResult]) -> list[tuple[int, int]]:
        """Count; returns where frames whose checksum is wrong begin and end."""
        damaged = []
        for built in results:
            counts = (built.files, built.rows, built.rejected, built.text_bytes)
            for name, count in zip(COUNTS, counts, strict=True):
                self.result.count(name, count)
            self.result.aside.merge(built.aside)
            damaged.extend(built.damaged)
            self.advance(built.text_bytes)
        return damaged


def _remove_others(month: Behind, made: set[str]) -> None:
    """Remove shards that were made of what a month was before it was written anew, and have not been made again."""
    for node in shards.nodes_with(month.shards, month.cluster, month.name).keys() - made:
        shards.shard_path(month.shards, month.cluster, node, month.name).unlink()


Ingesting = Generator[Any, Any, "list[Path] | None"]


def changed_jobs(site: Site, cluster: str, month: str, begin: int, end: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Ids of the jobs whose raw files stand in a part of a month.

    Parameters
    ----------
    site
        Where to work.
    cluster, month
        Which month.
    begin, end
        Offsets in it; both behind a whole frame.

    Returns
    -------
    ndarray of int64
        Each id once.
    """
    path = archive.month_files(site.root, cluster).get(month)
    if path is None or begin >= end:
        return np.array([], dtype=np.int64)
    with archive.plain(path, scratch_root(site.root)) as text_path, archive.mapped(text_path) as text:
        frames = framing.scan(text, begin, cluster, str(path), SetAside())
    return distinct(frames.job_id[frames.begin < end])
