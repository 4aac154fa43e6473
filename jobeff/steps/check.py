"""check: archive, shards, accounting and efficiency against each other, a month at a time."""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobeff.errors import JobeffError
from jobeff.names import is_month, is_name
from jobeff.steps import check_report as kinds
from jobeff.steps import compute, computing
from jobeff.steps.changes import months_of
from jobeff.steps.check_databases import check_databases
from jobeff.steps.check_raw import Unit, check_raw, ingested, ingested_month
from jobeff.steps.check_report import Finding, Report
from jobeff.steps.check_rows import Rows, check_rows, rows_of, stale_rows
from jobeff.steps.site import Site, StepResult
from jobeff.store import archive, shards, tables
from jobeff.store.scratch import scratch

TRIES = 3
"""So often a month is looked at that another run changes meanwhile."""


@dataclass(frozen=True)
class Part:
    """One of several parts of all there is, which together are all of it."""

    number: int = 1
    of: int = 1

    def has(self, *names: str) -> bool:
        """Whether something with these names is in this part; always the same, whatever else there is."""
        return zlib.crc32("/".join(names).encode()) % self.of == self.number - 1


def check(site: Site, read_data: bool = False, part: Part | None = None) -> Report:
    """Compare what there is.

    Parameters
    ----------
    site
        Where to work. Nothing is changed, and nobody waits.
    read_data
        Read every byte, and compute every month again.
    part
        Look at these months, and blocks of the databases, only.

    Returns
    -------
    Report
        What was found.
    """
    part, report = part or Part(), Report()
    some = (part.number, part.of) if part.of > 1 else None
    good = check_databases(site.root, read_data, some, report, site.progress)
    with contextlib.ExitStack() as stack:
        executor, folder = stack.enter_context(site.executor()), stack.enter_context(scratch(site.root))
        checker = _Checker(site, executor, folder, read_data, part, report)
        checker.open(good, stack)
        checker.run()
    return report


def look_at_raw(site: Site, months: Iterable[tuple[str, str]]) -> Report:
    """Compare the archive of some months with their shards, every byte of it.

    Parameters
    ----------
    site, months
        Which clusters and months.

    Returns
    -------
    Report
        What was found.
    """
    report = Report()
    with site.executor() as executor, scratch(site.root) as folder:
        todo = list(months)
        with site.progress.task("look again", len(todo), "months") as advance:
            for cluster, month in todo:
                known = ingested_month(site, cluster, month, report)
                check_raw(Unit(site, executor, folder, cluster, month, True), known, report)
                advance(1)
    return report


@dataclass
class _Checker:
    """Looks at one month after the other."""

    site: Site
    executor: Executor
    scratch: Path
    read_data: bool
    part: Part
    report: Report
    inputs: computing.Inputs | None = None
    efficiency: sqlite3.Connection | None = None
    rows: dict[str, list[Rows]] = field(default_factory=dict)

    def open(self, good: set[str], stack: contextlib.ExitStack) -> None:
        """Open accounting and efficiency, so far as they are there and can be read."""
        root = self.site.root
        if "accounting" not in good:
            self.report.unchecked.append(("jobs and rows", "there is no accounting database that can be read"))
            return
        path = tables.database(root, "accounting")
        accounting = stack.enter_context(contextlib.closing(tables.read_database(path, "accounting")))
        self.inputs = computing.Inputs(
            self.site, self.site.config.shards, accounting, self.scratch, StepResult("check")
        )
        efficiency = tables.database(root, "efficiency")
        if "efficiency" in good:
            found = stack.enter_context(contextlib.closing(tables.read_database(efficiency, "efficiency")))
            version = found.execute("pragma user_version").fetchone()[0]
            if version < len(tables.SCHEMAS["efficiency"]):
                why = "an older jobeff wrote them; the next 'jobeff update' brings them up to date"
                self.report.unchecked.append(("efficiency rows", why))
            else:
                found.execute("attach ? as accounting", (f"{path.absolute().as_uri()}?mode=ro",))
                self.efficiency = found
        elif efficiency.exists():
            self.report.unchecked.append(("efficiency rows", "their database cannot be relied on"))

    def run(self) -> None:
        """Look at everything."""
        known = {cluster: ingested(self.site, cluster, self.report) for cluster in self._clusters()}
        with self._sound("accounting", "efficiency"):
            self._open_rows(known)
        units = [(c, m) for c, about in known.items() for m in self._months(c, about) if self.part.has(c, m)]
        with self.site.progress.task("check", len(units), "months") as advance:
            for cluster, month in units:
                self._month(cluster, month)
                advance(1)

    def _open_rows(self, known: dict[str, dict[str, dict[str, Any]]]) -> None:
        if self.inputs is None:
            return
        config = self.site.config
        for cluster in compute.clusters(self.inputs.accounting):
            raw = config.raw_cluster(cluster)
            about = known.get(raw, {})
            self.rows.setdefault(raw, []).append(self._rows_of(self.inputs, cluster, about))
        if self.efficiency is not None:
            every = [one for some in self.rows.values() for one in some]
            stale_rows(self.efficiency, every, config.raw_cluster, self.part.has, self.report)

    def _rows_of(self, inputs: computing.Inputs, cluster: str, known: dict[str, dict[str, Any]]) -> Rows:
        return rows_of(inputs, self.efficiency, cluster, known, self.part.of == 1)

    def _named(self) -> list[str]:
        """Clusters of accounting; where it turns out not to be readable, go on without it."""
        with self._sound("accounting"):
            return compute.clusters(self.inputs.accounting) if self.inputs is not None else []
        self.inputs = None
        return []

    def _clusters(self) -> list[str]:
        """Clusters that anything is there of."""
        found = set(self.site.config.clusters)
        for folder in (self.site.root / "archive", self.site.config.shards):
            if folder.is_dir():
                found |= {path.name for path in folder.iterdir() if path.is_dir() and is_name(path.name)}
        return sorted(found | {self.site.config.raw_cluster(cluster) for cluster in self._named()})

    def _months(self, cluster: str, known: dict[str, Any]) -> list[str]:
        months = {*archive.month_files(self.site.root, cluster), *filter(is_month, known)}
        months |= shards.months_with(self.site.config.shards, cluster)
        if self.inputs is not None:
            with self._sound("accounting"):
                for one in self.rows.get(cluster, []):
                    months |= {*months_of(self.inputs.accounting, one.cluster)}
        return sorted(months)

    def _month(self, cluster: str, month: str) -> None:
        """Look at a month; once more where another run has changed it meanwhile."""
        for _ in range(TRIES):
            found, before = Report(), self._state(cluster, month)
            try:
                self._look(cluster, month, found)
            except (JobeffError, OSError) as error:
                found.unchecked.append((f"{cluster} {month}", str(error)))
            if self._state(cluster, month) == before or not (found.damage or found.unchecked):
                self.report.take(found)
                return
            with self._sound("accounting", "efficiency"):
                known = ingested(self.site, cluster, Report())
                if self.inputs is not None:
                    names = [one.cluster for one in self.rows.get(cluster, [])]
                    self.rows[cluster] = [self._rows_of(self.inputs, name, known) for name in names]
        self.report.unchecked.append((f"{cluster} {month}", "another run keeps changing it"))

    def _look(self, cluster: str, month: str, report: Report) -> None:
        unit = Unit(self.site, self.executor, self.scratch, cluster, month, self.read_data)
        known = ingested_month(self.site, cluster, month, Report())
        raw = check_raw(unit, known, report)
        if self.inputs is not None:
            with self._sound("accounting", "efficiency", report=report):
                check_rows(unit, self.inputs, self.efficiency, self.rows.get(cluster, []), raw, report)

    def _state(self, cluster: str, month: str) -> tuple[object, ...]:
        """What tells that nobody has changed a month meanwhile."""
        note = shards.note(self.site.config.shards, cluster, month)
        files = [note, *(tables.database(self.site.root, name) for name in ("accounting", "efficiency"))]
        path = archive.month_files(self.site.root, cluster).get(month)
        return tuple((f.stat().st_mtime_ns, f.stat().st_size) if f.exists() else None for f in [*files, path] if f)

    @contextlib.contextmanager
    def _sound(self, *names: str, report: Report | None = None) -> Iterator[None]:
        """Where a database turns out not to be readable after all, go on without it."""
        try:
            yield
        except (sqlite3.Error, ValueError, TypeError, OverflowError) as error:
            for name in names:
                why = f"it cannot be read to its end: {error}"
                (report or self.report).add(
                    Finding(kinds.DATABASE, str(tables.database(self.site.root, name)), why, what=(name,))
                )
