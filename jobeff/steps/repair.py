"""repair: what `check` finds damaged is made again from what is not.

Each part is mended by itself and in an order in which it needs only parts before it: the archive, the shards, what is
loaded, what is computed. So a run that is killed is finished by the next.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jobeff.errors import JobeffError, SetAside
from jobeff.steps import check_report as kinds
from jobeff.steps.check import check, look_at_raw
from jobeff.steps.check_raw import Unit, raw_files
from jobeff.steps.check_report import Finding, Report, databases_damaged
from jobeff.steps.collect import collect
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.load import load_slurm
from jobeff.steps.repair_archive import MonthMender, note_month_lost
from jobeff.steps.repair_databases import SOURCES, Sums, forget_unproven, mend_loaded
from jobeff.steps.repair_rows import watched
from jobeff.steps.repair_shards import mend_notes, mend_shards
from jobeff.steps.site import Site, StepResult, timed
from jobeff.steps.summarise import summarise
from jobeff.store import archive, framing, shards, tables
from jobeff.store.archive_damage import is_told
from jobeff.store.aside import set_aside
from jobeff.store.fences import lock_shards
from jobeff.store.locks import lock

DERIVED = ("collected", "corehour_usage", "current_projects")
"""Databases that are made again from others, by the steps of every night."""

SAID_LATER = ("archive month", "archive frame", "archive bytes", "archive tail", "shard")
IN_ARCHIVE = {kinds.FRAME, kinds.TAIL, kinds.MONTH, kinds.GONE, kinds.SHARD}
ROWS = {kinds.STALE, kinds.MISSING, kinds.DIFFERS}


def repair(site: Site) -> list[StepResult]:
    """Mend what is damaged, and say what cannot be.

    Parameters
    ----------
    site
        Where to work.

    Returns
    -------
    list of StepResult
        What was done. What is set aside is lost, or could not be mended.
    """
    results: list[StepResult] = []
    with site.executor():
        site.progress.line("repair: looking for damage")
        with timed("check", "damaged") as result:
            found = check(site, read_data=True)
            result.count("damaged", len(found.damage))
        results.append(result)
        if not found.damage:
            return results
        _Repair(site, found, results).run()
    return results


class _Repair:
    """One run; each step's result is added as it ends.

    Parameters
    ----------
    site, found, results
        Where to work, what is damaged, and where the results go.
    again
        Whether this mends what another run's damage has hidden.
    """

    def __init__(self, site: Site, found: Report, results: list[StepResult], again: bool = False) -> None:
        self.site, self.found, self.results, self.again = site, found, results, again
        self.names = databases_damaged(found.damage)
        self.unproven: Sums = {}
        self.torn: list[tuple[str, str, Finding]] = []

    def run(self) -> None:
        """Mend one thing after the other."""
        raw = [one for one in self.found.damage if one.kind in IN_ARCHIVE]
        if raw:
            self._raw(raw)
        loaded = [name for name in SOURCES if name in self.names]
        for name in loaded:
            with self._step(f"repair {name}") as result:
                self.unproven |= mend_loaded(self.site, name, result)
        for name in DERIVED:
            if name in self.names:
                set_aside(tables.database(self.site.root, name))
        path = tables.database(self.site.root, "accounting")
        if not path.exists():  # what is computed from it could not be mended
            self._run("load slurm", lambda: load_slurm(self.site))
        accounting = path.exists()
        if raw or "collected" in self.names:
            if accounting:
                self._again("collect", collect)
            self._again("ingest", ingest)
        if accounting:
            self._computed()
        self._last()

    def _raw(self, raw: list[Finding]) -> None:
        months = sorted({(one.cluster, one.month) for one in raw if one.month})
        with self._step("repair archive") as result, lock(self.site.root, "archive"), lock_shards(self.site.root):
            for cluster in sorted({one.cluster for one in raw}):
                mend_notes(self.site, cluster, result)
            with self.site.progress.task("repair archive", len(months), "months") as advance:
                for cluster, month in months:
                    self._month(cluster, month, raw, result)
                    advance(1)
        if any(not one.what for one in raw):
            self._again("ingest", ingest)
        with self._step("repair shards") as result, lock_shards(self.site.root):
            again = look_at_raw(self.site, months)
            damaged: dict[tuple[str, str], set[str]] = {}
            for one in again.findings:
                if one.kind == kinds.SHARD and one.what:
                    damaged.setdefault((one.cluster, one.month), set()).add(one.what[0])
            with self.site.progress.task("repair shards", sum(map(len, damaged.values())), "nodes") as advance:
                for (cluster, month), nodes in sorted(damaged.items()):
                    mend_shards(self.site, cluster, month, nodes, result, advance)

    def _month(self, cluster: str, month: str, raw: list[Finding], result: StepResult) -> None:
        mine = [one for one in raw if (one.cluster, one.month) == (cluster, month)]
        path = archive.month_files(self.site.root, cluster).get(month)
        whole = archive.month_file(self.site.root, cluster, month)
        wanted = {one.kind for one in mine}
        if path is None:
            if kinds.GONE in wanted:
                why = "the archive has lost this month, and nothing else holds its text; its shards are kept"
                note_month_lost(whole, why)
                result.aside.add("archive month", str(whole), why)
            return
        if not wanted & {kinds.FRAME, kinds.TAIL, kinds.MONTH}:
            return
        if path != whole:
            why = (
                "it is compressed, and text in it cannot be written back; its shards and rows are kept, and until a "
                "whole copy of it is put there 'check' counts it as lost for good"
            )
            note_month_lost(path, why)
            result.aside.add("archive month", str(path), why)
            return
        known = shards.ingested(self.site.config.shards, cluster).get(month)
        reached = known["archive_bytes"] if known else 0
        with self.site.executor() as executor:
            there = raw_files(Unit(self.site, executor, self.site.root, cluster, month, False))
        archive.undo_append(path)
        mender = MonthMender(self.site, cluster, month, reached, there.nodes, there.files, result)
        whole_before = mender.is_sound()
        moved = mender.run()
        if is_told(path):  # as it is; who takes its tail away has another month, and nothing is told of that
            return
        self._tail(path, cluster, int(there.files.offset.max(initial=-1)), result)
        mender.note_lost(moved)
        if moved and known:
            self._begin_anew(cluster, month, known)
            return
        if not known:
            return
        with archive.mapped(path) as text:
            tail = framing.tail_crc32(text, reached)
            after = _frame_at(text, min(reached, len(text)), cluster)
            new_tail = framing.tail_crc32(text, after)
        size = path.stat().st_size
        wrong = reached > size or (whole_before and tail != known["tail_crc32"])
        if wrong and size == known["size"]:
            # The month is as long as it was, and whole, so the note is wrong; ingest makes it again of what shards say.
            set_aside(shards.note(self.site.config.shards, cluster, month))
        elif after < reached <= size:
            # A frame was appended where a torn one had been moved away: it is read once more, from its beginning.
            anew = {"archive_bytes": after, "tail_crc32": new_tail, "size": after, "restarts": known["restarts"] + 1}
            shards.set_ingested(self.site.config.shards, cluster, month, {**known, **anew})
        elif reached <= size and tail != known["tail_crc32"]:
            # Either the note is wrong, or text is lost there. Ingest would begin again, and drop what shards still have
            # of it; what they hold is compared with the archive in any case.
            shards.set_ingested(self.site.config.shards, cluster, month, {**known, "tail_crc32": tail})

    def _begin_anew(self, cluster: str, month: str, known: dict[str, Any]) -> None:
        """Have the next step make the shards of a month again: all that they held is in the archive, or comes again."""
        folder = self.site.config.shards
        for node in shards.nodes_with(folder, cluster, month):
            shards.shard_path(folder, cluster, node, month).unlink()
        none = {"archive_bytes": 0, "tail_crc32": framing.tail_crc32(b"", 0), "nodes": []}
        shards.set_ingested(folder, cluster, month, {**none, "restarts": known["restarts"] + 1})

    def _tail(self, path: Path, cluster: str, held: int, result: StepResult) -> None:
        """Move a torn tail aside; collect takes its raw file again where it still is.

        What stands before it may have been a frame only for the sake of the header behind it, and be torn now too.
        """
        while self._torn(path, cluster, held):
            result.count("torn tails moved aside")

    def _torn(self, path: Path, cluster: str, held: int) -> bool:
        """Whether there was one; it has been moved aside then.

        Of a frame of which a shard has the samples, only what is behind its text is one: without it, they would go too.
        """
        with archive.mapped(path) as text:
            found = framing.scan(text, 0, cluster, str(path), SetAside())
            header = framing.HEADER.match(text, found.end) if found.torn else None
            size, end = len(text), found.end
            name = header[0].decode("latin-1").split()[1] if header else ""
            if header and header[4] and end <= held and header.end() + int(header[4]) < size:
                name, end = "", header.end() + int(header[4])
        torn = size - end
        if torn > 0:
            copy = archive.set_torn_aside(path, end, SetAside())
            why = f"{torn} bytes behind byte {end} were no whole frame; they are in {copy.name}"
            self.torn.append((name, cluster, Finding(kinds.TAIL, str(path), why)))
        return torn > 0

    def _computed(self) -> None:
        rows = any(one.kind in ROWS for one in self.found.damage)
        everything = rows or "efficiency" in self.names or "accounting" in self.names
        if everything:
            self._compute_all()
        else:
            self._run("compute", lambda: compute(self.site))
        if everything or self.names:
            self._run("summarise", lambda: summarise(self.site, everything=True))
        if "corehour_history" in self.names:
            with self._step("repair corehour_history") as result:
                again = forget_unproven(self.site, self.unproven, result)
            if again:
                self._run("summarise", lambda: summarise(self.site, everything=True))

    def _compute_all(self) -> None:
        """Compute all rows anew, and name those that nothing gives any more."""
        path, aside = tables.database(self.site.root, "efficiency"), SetAside()
        with watched(self.site, path, aside):
            if "efficiency" in self.names and path.exists():
                set_aside(path)  # so that no row of it is taken over
            self._run("compute", lambda: compute(self.site, everything=True))
        self.results[-1].aside.forget("efficiency rows")  # said here with more of their names
        self.results[-1].aside.merge(aside)

    def _last(self) -> None:
        """Look again, mend what is seen only now, once, and name what is still damaged."""
        with self._step("check") as result:
            left = check(self.site, read_data=True)
            if any(one.kind in ROWS for one in left.damage) and tables.database(self.site.root, "accounting").exists():
                self._compute_all()
                left = check(self.site, read_data=True)
            hidden = not self.again and not set(left.damage) <= set(self.found.damage)
            if not hidden:
                for one in left.damage:
                    result.aside.add(one.kind, one.where, f"{one.why}; it could not be mended")
                for where, why in left.unchecked:
                    result.aside.add("unchecked", where, why)
            for name, cluster, one in self.torn:
                if not _is_archived(self.site, cluster, name):
                    result.aside.add(one.kind, one.where, one.why)
        if hidden:
            _Repair(self.site, left, self.results, again=True).run()

    @contextlib.contextmanager
    def _step(self, name: str) -> Iterator[StepResult]:
        with timed(name) as result:
            self.results.append(result)
            self.site.progress.line(f"{name} ...")
            yield result

    def _again(self, name: str, step: Callable[[Site], StepResult]) -> None:
        """A step that meets what is damaged once more; what is left of it is named in the end."""
        self._run(name, lambda: step(self.site))
        for kind in SAID_LATER:
            self.results[-1].aside.forget(kind)

    def _run(self, name: str, step: Callable[[], StepResult]) -> None:
        """A step of every night; where it fails the others go on, and it is named."""
        self.site.progress.line(f"{name} ...")
        try:
            self.results.append(step())
        except (JobeffError, OSError, sqlite3.Error) as error:
            result = StepResult(name, failed=str(error))
            result.aside.add("step", name, str(error))
            self.results.append(result)


def _frame_at(text: framing.Text, offset: int, cluster: str) -> int:
    """Where the frame begins that stands across an offset; the offset itself where none does."""
    frames = framing.scan(text, 0, cluster, "", SetAside())
    for frame in range(len(frames.begin))[max(0, int(np.searchsorted(frames.begin, offset)) - 1) :][:2]:
        begin, end = int(frames.begin[frame]), int(frames.begin[frame] + frames.bytes[frame])
        header = text.rfind(b"\n", 0, begin - 1) + 1
        if header < offset < end:
            return header
    return offset


def _is_archived(site: Site, cluster: str, name: str) -> bool:
    """Whether the archive has a raw file, named as in a frame's header."""
    if not name:
        return False
    _, node, job_id = name.split("/")
    for path in archive.month_files(site.root, cluster).values():
        with archive.plain(path, site.root / "db" / "scratch") as plain, archive.mapped(plain) as text:
            found = framing.scan(text, 0, cluster, str(path), SetAside())
            if node in found.nodes and ((found.node == found.nodes.index(node)) & (found.job_id == int(job_id))).any():
                return True
    return False
