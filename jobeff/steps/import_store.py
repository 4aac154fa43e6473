"""import: stores that older tools have left, into archive and accounting, by the rules of collect and load slurm."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from jobeff.errors import ConfigError, JobeffError, SetAside, shown
from jobeff.sources import accounting, legacy, legacy_raw
from jobeff.steps.accounting_rows import upsert
from jobeff.steps.archiving import Archiver, Taken
from jobeff.steps.collected import BATCH_BYTES, Index
from jobeff.steps.load import refuse_unknown
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import archive, tables
from jobeff.store.locks import lock
from jobeff.store.sqlite import atomic, mark_updated

JOBS_AT_ONCE = 200_000
FILES_AT_ONCE = 100_000


def import_stores(
    site: Site, paths: Sequence[Path], cluster: str | None = None, kind: str | None = None
) -> list[StepResult]:
    """Import raw files and accounting; what is there already stays as it is.

    Parameters
    ----------
    site
        Where to work.
    paths
        Files, or folders of them; `jobeff.sources.legacy` says which.
    cluster
        Cluster of what does not name one; may be left out where the configuration has one only.
    kind
        Take only what is of this kind, one of `jobeff.sources.legacy.KINDS`.

    Returns
    -------
    list of StepResult
        ``import jobs`` and ``import raw``, as far as there was such: new, changed, unchanged; what was set aside.

    Raises
    ------
    ConfigError
        It cannot be told which cluster a file is of; nothing was imported.
    JobeffError
        A file is missing, or accounting, which tells the months of raw files; nothing was imported.
    """
    aside = SetAside()
    parts = [part for path in _files(paths, aside) for part in _parts(path, kind, aside)]
    tables_of_jobs = [(part, _cluster_of_jobs(site, part, cluster)) for part in parts if part.kind == "accounting"]
    stores = [(part, _cluster_of_raw(site, part, cluster, aside)) for part in parts if part.kind != "accounting"]
    results = []
    if tables_of_jobs:  # first, since accounting tells where raw files belong
        results.append(_import_jobs(site, tables_of_jobs))
    if stores or not results:
        results.append(_import_raw(site, [(part, name) for part, name in stores if name]))
    results[-1].aside.merge(aside)
    return results


def _files(paths: Sequence[Path], aside: SetAside) -> Iterator[Path]:
    """Regular files, also those in folders; links are followed only where they were named."""

    def unreadable(error: OSError) -> None:
        aside.add("folder", shown(str(error.filename)), error.strerror or str(error))

    for path in paths:
        if not path.exists():
            raise JobeffError(
                "cannot import", where=shown(str(path)), why="no such file or folder", safe="Nothing was imported"
            )
        if path.is_file():
            yield path
        elif path.is_dir():
            for folder, folders, names in os.walk(path, onerror=unreadable):
                folders.sort()
                names += [name for name in folders if Path(folder, name).is_symlink()]
                for name in sorted(name for name in names if not name.startswith(".")):
                    found = Path(folder, name)
                    if found.is_file() and not found.is_symlink():
                        yield found
                    else:
                        aside.add("file", shown(str(found)), "not a regular file")
        else:
            aside.add("file", shown(str(path)), "not a regular file")


def _parts(path: Path, kind: str | None, aside: SetAside) -> list[legacy.Part]:
    found = legacy.parts(path, aside)
    chosen = [part for part in found if kind in (None, part.kind)]
    if found and not chosen:
        aside.add("file", shown(str(path)), f"it holds {', '.join(part.kind for part in found)} only")
    return chosen


def _only_cluster(site: Site, part: legacy.Part) -> str:
    if len(site.config.clusters) > 1:
        raise ConfigError(
            "say which cluster a file is of",
            where=shown(str(part.path)),
            safe="Nothing was imported",
            todo=f"--cluster {'|'.join(site.config.clusters)}",
        )
    return next(iter(site.config.clusters))


def _cluster_of_jobs(site: Site, part: legacy.Part, cluster: str | None) -> str:
    if cluster:
        refuse_unknown(site, cluster)
    return cluster or ("" if legacy.names_cluster(part) else _only_cluster(site, part))


def _cluster_of_raw(site: Site, part: legacy.Part, cluster: str | None, aside: SetAside) -> str:
    """The cluster of raw files; of a file per node its folder may name it. Empty where it is not configured."""
    clusters, folder = site.config.clusters, part.path.absolute().parent.name
    if cluster is not None:
        if cluster not in clusters:
            raise ConfigError(f"there is no cluster {shown(cluster)}", todo=f"Known are {', '.join(clusters)}")
        return cluster
    if part.kind == "node" and folder in clusters:
        return folder
    if part.exported:
        why = f"its folder names the cluster {shown(folder)}, which is not configured; --cluster says another"
        aside.add("file", shown(str(part.path)), why)
        return ""
    return _only_cluster(site, part)


def _import_jobs(site: Site, parts: Sequence[tuple[legacy.Part, str]]) -> StepResult:
    counts = accounting.ReadCounts()
    names = ("new", "changed", "unchanged", "never started", "running")
    with timed("import jobs", *names) as result, lock(site.root, "accounting"):
        path = tables.database(site.root, "accounting")
        with (
            contextlib.closing(tables.open_database(path, "accounting")) as connection,
            site.progress.task("import jobs", len(parts), "tables") as advance,
        ):
            for part, cluster in parts:
                jobs = legacy.read_jobs(part, cluster, site.config.clock, result.aside, counts)
                for first in jobs:
                    with atomic(connection):
                        some = itertools.islice(jobs, JOBS_AT_ONCE - 1)
                        upsert(connection, itertools.chain([first], some), result)
                advance(1)
            with atomic(connection):
                mark_updated(connection, "jobs", site.config.clock)
        result.count("never started", counts.never_started)
        result.count("running", counts.running)
    return result


def _import_raw(site: Site, parts: Sequence[tuple[legacy.Part, str]]) -> StepResult:
    if parts and not tables.database(site.root, "accounting").is_file():
        raise JobeffError(
            "cannot import raw files yet",
            where=str(tables.database(site.root, "accounting")),
            why="accounting tells in which month each belongs, and there is none",
            safe="Nothing was imported",
            todo="'jobeff load slurm' first, or import the old accounting table",
        )
    with timed("import raw", "raw files", "unchanged", "orphans", "text bytes") as result:
        if not parts:
            return result
        with lock(site.root, "archive"), site.progress.task("import raw", len(parts), "stores") as advance:
            site.warm()
            for cluster in sorted({cluster for _, cluster in parts}):
                index = Index(site, cluster, result.aside)
                try:
                    importer = _RawImport(site, cluster, index, result)
                    for part, name in parts:
                        if name == cluster:
                            importer.take(legacy_raw.read_raw(part, result.aside))
                            advance(1)
                    importer.flush()
                    index.forget_unmet()
                finally:
                    index.close()
        if result.counts["orphans"]:
            site.progress.line("accounting does not know all jobs; load what is missing of it and import again")
    return result


class _RawImport:
    """Archives raw files of one cluster, a batch at a time."""

    def __init__(self, site: Site, cluster: str, index: Index, result: StepResult) -> None:
        self.site, self.index, self.result = site, index, result
        self.archiver = Archiver(site, cluster, index, result, current=False)
        self.batch: dict[tuple[str, int, bytes], legacy_raw.RawRow] = {}
        self.size = 0

    def take(self, rows: Iterator[legacy_raw.RawRow]) -> None:
        """Take the raw files of a store."""
        for row in rows:
            key = (row.node, row.job_id, row.text)
            if key in self.batch:
                self.result.count("unchanged")
                continue
            self.batch[key] = row
            self.size += len(row.text)
            if self.size >= BATCH_BYTES or len(self.batch) >= FILES_AT_ONCE:
                self.flush()

    def flush(self) -> None:
        """Archive what has been taken so far."""
        rows = sorted(self.batch.values(), key=lambda row: (row.node, row.job_id))
        if not rows:
            return
        attempts = self.index.attempts({row.job_id for row in rows})
        named = {row.month for row in rows if row.month is not None}
        begins = {month: self.site.config.clock.month_span(month)[0] for month in named}
        taken = [
            Taken(
                archive.RawFile(row.node, row.job_id, row.text, row.extended),
                attempts.get(row.job_id, []),
                begins.get(row.month or ""),
            )
            for row in rows
        ]
        self.result.count("unchanged", self.archiver.add(taken))
        self.batch, self.size = {}, 0
