"""load slurm: accounting to its database; each record once, however often it is loaded."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from jobeff.config import Cluster
from jobeff.errors import ConfigError, SetAside, SourceError, shown
from jobeff.names import is_name
from jobeff.sources import accounting, sacct_json, slurm_logs
from jobeff.steps.accounting_rows import COUNTS, count_read, upsert
from jobeff.steps.load_sacct import Asking, ask_days
from jobeff.steps.site import Site, StepResult, timed
from jobeff.steps.source_files import NEITHER, kind_of, name_of
from jobeff.store import tables
from jobeff.store.locks import lock
from jobeff.store.sqlite import atomic, mark_updated

BLOCK = 1 << 20


class Log(NamedTuple):
    """An accounting log and the cluster that it is of."""

    path: Path
    cluster: str


class Loaded(NamedTuple):
    """How far a log has been loaded: bytes of whole lines, their checksum and number; when it was modified."""

    bytes: int
    crc32: int
    mtime_ns: int
    lines: int


def load_slurm(
    site: Site,
    files: Sequence[Path] = (),
    cluster: str | None = None,
    replace: bool = False,
    asking: Asking | None = None,
) -> StepResult:
    """Load accounting: logs, and what ``sacct`` says itself.

    Parameters
    ----------
    site
        Where to work.
    files
        Logs to load; by default all that the configuration names.
    cluster
        Cluster of `files`, or of `asking`; of the files it may be left out where there is one cluster only.
    replace
        Take a log that has been rewritten since it was loaded, and let its records win.
    asking
        Ask ``sacct``, and load no logs. By default it is asked of the clusters that the configuration says so of,
        beside their logs.

    Returns
    -------
    StepResult
        Lines, rows new, changed and unchanged, jobs never started; lines and whole sources set aside.

    Raises
    ------
    SourceError
        A file that was named, or every source, is missing or unreadable.
    """
    with timed("load slurm", *COUNTS, "logs unchanged") as result:
        sources = _Sources(result)
        logs = [] if asking else _given(site, files, cluster) if files else _configured(site, sources, result.aside)
        asked = [] if files else _asked(site, cluster, asking)
        if not logs and not asked:
            sources.raise_if_none_works()
        with lock(site.root, "accounting"):
            connection = tables.open_database(tables.database(site.root, "accounting"), "accounting")
            try:
                with site.progress.task("load accounting", len(logs), "logs") as advance:
                    for log in logs:
                        with sources.one(log.path, named=bool(files)):
                            _load(site, connection, log, replace, result)
                        advance(1)
                for one in asked:
                    with sources.one(one.name):
                        ask_days(site, connection, one, asking or Asking(), result)
                sources.raise_if_none_works()
                with atomic(connection):
                    mark_updated(connection, "jobs", site.config.clock)
            finally:
                connection.close()
    return result


class _Sources:
    """Sources that work and that do not: one that does not is set aside, unless none does or it was asked for."""

    def __init__(self, result: StepResult) -> None:
        self._aside = result.aside
        self._works = False
        self._first: SourceError | None = None

    @contextlib.contextmanager
    def one(self, where: object, *, named: bool = False) -> Iterator[None]:
        try:
            yield
        except (SourceError, OSError) as error:
            told = error if isinstance(error, SourceError) else _unreadable(where, error.strerror or str(error))
            if named:
                raise told from error
            self._first = self._first or told
            self._aside.add("source", shown(str(where)), str(told))
        else:
            self._works = True

    def raise_if_none_works(self) -> None:
        if self._first and not self._works:
            raise self._first


def _given(site: Site, files: Sequence[Path], cluster: str | None) -> list[Log]:
    clusters = site.config.clusters
    if cluster is None and len(clusters) > 1:
        raise ConfigError("say which cluster the files are of", todo=f"--cluster {'|'.join(clusters)}")
    name = cluster or next(iter(clusters))
    refuse_unknown(site, name)
    for path in files:
        _require(path)
    return [Log(path, name) for path in files]


def refuse_unknown(site: Site, cluster: str) -> None:
    """Refuse a cluster that nobody has configured: jobs under a name that is misspelt would count once more.

    Parameters
    ----------
    site, cluster
        Its configuration, and the name that is given; a virtual cluster of a configured one will do.

    Raises
    ------
    ConfigError
        There is no such cluster.
    """
    known = site.config.clusters
    if not is_name(cluster):
        raise ConfigError(f"not a cluster: {shown(cluster)}")
    if site.config.raw_cluster(cluster) not in known:
        todo = f"Known are {', '.join(known)}; another one is added to the configuration first"
        raise ConfigError(f"there is no cluster {shown(cluster)}", safe="Nothing was loaded", todo=todo)


def _asked(site: Site, cluster: str | None, asking: Asking | None) -> list[Cluster]:
    """Clusters that ``sacct`` is asked of."""
    clusters = site.config.clusters
    if asking is None:
        return [one for one in clusters.values() if one.sacct]
    if cluster is not None and cluster not in clusters:
        raise ConfigError(f"there is no cluster {shown(cluster)}", todo=f"--cluster {'|'.join(clusters)}")
    return [one for one in clusters.values() if cluster in (None, one.name)]


def _configured(site: Site, sources: _Sources, aside: SetAside) -> list[Log]:
    """All logs of all clusters, in order of their names; a folder below the accounting folder is a virtual cluster."""
    logs: list[Log] = []
    for cluster in site.config.clusters.values():
        for path in cluster.accounting:
            with sources.one(path):
                _require(path)
                logs.extend(_logs_below(path, cluster, sources, aside) if path.is_dir() else [Log(path, cluster.name)])
    return logs


def _logs_below(folder: Path, cluster: Cluster, sources: _Sources, aside: SetAside) -> Iterator[Log]:
    for entry in _entries(folder):
        if kind_of(entry) == "folder":
            if not is_name(f"{cluster.name}.{entry.name}"):
                aside.add("accounting folder", shown(entry.path), "a virtual cluster cannot be called so")
                continue
            with sources.one(entry.path):
                for one in _entries(Path(entry.path)):
                    if kind_of(one) == "file":
                        yield Log(Path(one.path), f"{cluster.name}.{entry.name}")
                    else:
                        aside.add("accounting log", shown(one.path), "not a regular file")
        elif kind_of(entry) == "file":
            yield Log(Path(entry.path), cluster.name)
        else:
            aside.add("accounting log", shown(entry.path), NEITHER)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as error:
        raise _unreadable(folder, error.strerror or str(error)) from error


def _require(path: Path) -> None:
    if not path.exists():
        raise _unreadable(path, "no such file or folder")
    if not path.is_file() and not path.is_dir():
        raise _unreadable(path, "neither a file nor a folder")
    if not os.access(path, os.R_OK):
        raise _unreadable(path, "permission denied")


def _unreadable(path: object, why: str) -> SourceError:
    return SourceError(
        "cannot read accounting",
        where=shown(str(path)),
        why=why,
        safe="Nothing of it was loaded",
        todo="Mend the path or the configuration",
    )


def _load(site: Site, connection: sqlite3.Connection, log: Log, replace: bool, result: StepResult) -> None:
    """Load what a log has more than when it was last loaded, in one transaction."""
    path = log.path.absolute()
    about = path.stat()
    known = connection.execute(
        "select bytes, crc32, mtime_ns, lines from loaded where path = ? and cluster = ?", (name_of(path), log.cluster)
    ).fetchone()
    before = Loaded(*known) if known and not replace else Loaded(0, 0, 0, 0)
    if known and (about.st_size, about.st_mtime_ns) == (before.bytes, before.mtime_ns):
        result.count("logs unchanged")
        return
    counts = accounting.ReadCounts()
    with path.open("rb") as stream:
        part = _new_part(site, log, stream, before, result, counts)
        if part is None:
            return
        with atomic(connection):
            upsert(connection, part.jobs, result, replace=replace)
            size, checksum, lines = part.reached()
            connection.execute(
                "insert or replace into loaded values (?, ?, ?, ?, ?, ?)",
                (name_of(path), log.cluster, size, checksum, about.st_mtime_ns, lines),
            )
    count_read(result, counts)


class _Part(NamedTuple):
    """Jobs of a log that have not been loaded, and how far it is loaded once they have been read."""

    jobs: Iterator[accounting.AccountingJob]
    reached: Callable[[], tuple[int, int, int]]


def _new_part(
    site: Site, log: Log, stream: BinaryIO, before: Loaded, result: StepResult, counts: accounting.ReadCounts
) -> _Part | None:
    of = site.config.clusters.get(site.config.raw_cluster(log.cluster))
    fmt = of.accounting_format if of else "auto"
    common: dict[str, Any] = {
        "cluster": log.cluster,
        "clock": site.config.clock,
        "where": shown(str(log.path)),
        "counts": counts,
    }
    if slurm_logs.is_document(stream, fmt):
        return _document(stream, before, result, common)
    header = _first_known_line(stream)
    if _checksum(stream, before.bytes)[0] != before.crc32:
        why = "it has been rewritten since it was loaded; 'jobeff load slurm --replace' takes it"
        result.aside.add("accounting log", shown(str(log.path.absolute())), why)
        return None
    stream.seek(before.bytes)
    lines = accounting.LogLines(stream, number=before.lines, offset=before.bytes)
    jobs = slurm_logs.read(lines, header=header if before.bytes else None, fmt=fmt, aside=result.aside, **common)
    return _Part(jobs, lambda: (lines.offset, _checksum(stream, lines.offset)[0], lines.number))


def _document(stream: BinaryIO, before: Loaded, result: StepResult, common: dict[str, Any]) -> _Part:
    """A JSON document is one thing: where it is another one than before all of it is taken.

    That is safe: of two records of a job the one that ends later counts, and nothing goes that is no longer in it.
    """
    checksum, size = _checksum(stream, None)
    stream.seek(0)
    jobs: Iterator[accounting.AccountingJob] = iter(())
    if (size, checksum) == (before.bytes, before.crc32) and size:
        result.count("logs unchanged")
    else:
        jobs = sacct_json.read(stream, aside=result.aside, **common)
    return _Part(jobs, lambda: (size, checksum, 0))


def _first_known_line(stream: BinaryIO) -> bytes | None:
    """The line that tells a log's format, which is needed when its tail is loaded."""
    for _, line in accounting.LogLines(stream):
        if slurm_logs.detect(line) is not None:
            return line
    return None


def _checksum(stream: BinaryIO, size: int | None) -> tuple[int, int]:
    """CRC-32 of the first `size` bytes, or of all there are, and of how many that is."""
    stream.seek(0)
    checksum = done = 0
    while (size is None or done < size) and (block := stream.read(BLOCK if size is None else min(BLOCK, size - done))):
        checksum = zlib.crc32(block, checksum)
        done += len(block)
    return checksum, done
