"""load slurm: accounting logs to the accounting database; each line once, however often it is loaded."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from jobeff.config import Cluster
from jobeff.errors import ConfigError, JobeffError, SetAside, shown
from jobeff.names import is_name
from jobeff.sources import accounting
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import tables
from jobeff.store.files import lock
from jobeff.store.sqlite import atomic, mark_updated

COLUMNS = ", ".join(accounting.AccountingJob._fields)
PLACES = ", ".join("?" * len(accounting.AccountingJob._fields))
KEY = "cluster, job_id, start"
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


def load_slurm(site: Site, files: Sequence[Path] = (), cluster: str | None = None, replace: bool = False) -> StepResult:
    """Load accounting logs.

    Parameters
    ----------
    site
        Where to work.
    files
        Logs to load; by default all that the configuration names.
    cluster
        Cluster of `files`; may be left out where the configuration has one cluster only.
    replace
        Take a log that has been rewritten since it was loaded, and let its records win.

    Returns
    -------
    StepResult
        Lines, rows new, changed and unchanged, jobs never started; lines set aside.

    Raises
    ------
    JobeffError
        A folder or file is missing or unreadable; nothing was loaded.
    """
    unnamed = SetAside()
    logs = _given(site, files, cluster) if files else _configured(site, unnamed)
    counts = ("lines", "new", "changed", "unchanged", "never started", "running", "steps", "logs unchanged")
    with timed("load slurm", *counts) as result, lock(site.root, "accounting"):
        result.aside.merge(unnamed)
        connection = tables.open_database(tables.database(site.root, "accounting"), "accounting")
        try:
            with site.progress.task("load accounting", len(logs), "logs") as advance:
                for log in logs:
                    _load(site, connection, log, replace, result)
                    advance(1)
            with atomic(connection):
                mark_updated(connection, "jobs", site.config.clock)
        finally:
            connection.close()
    return result


def _given(site: Site, files: Sequence[Path], cluster: str | None) -> list[Log]:
    clusters = site.config.clusters
    if cluster is None and len(clusters) > 1:
        raise ConfigError("say which cluster the files are of", todo=f"--cluster {'|'.join(clusters)}")
    name = cluster or next(iter(clusters))
    if not is_name(name):
        raise ConfigError(f"not a cluster: {shown(name)}")
    for path in files:
        _require(path)
    return [Log(path, name) for path in files]


def _configured(site: Site, aside: SetAside) -> list[Log]:
    """All logs of all clusters, in order of their names; a folder below the accounting folder is a virtual cluster."""
    logs: list[Log] = []
    for cluster in site.config.clusters.values():
        for path in cluster.accounting:
            _require(path)
            logs.extend(_logs_below(path, cluster, aside) if path.is_dir() else [Log(path, cluster.name)])
    return logs


def _logs_below(folder: Path, cluster: Cluster, aside: SetAside) -> Iterator[Log]:
    for entry in _entries(folder):
        if entry.is_dir(follow_symlinks=False):
            if not is_name(f"{cluster.name}.{entry.name}"):
                aside.add("accounting folder", shown(entry.path), "a virtual cluster cannot be called so")
                continue
            for below in _entries(Path(entry.path)):
                if below.is_file():
                    yield Log(Path(below.path), f"{cluster.name}.{entry.name}")
        elif entry.is_file():
            yield Log(Path(entry.path), cluster.name)


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


def _unreadable(path: Path, why: str) -> JobeffError:
    return JobeffError(
        "cannot read accounting",
        where=str(path),
        why=why,
        safe="Nothing was loaded",
        todo="Mend the path or the configuration",
    )


def _load(site: Site, connection: sqlite3.Connection, log: Log, replace: bool, result: StepResult) -> None:
    """Load what a log has more than when it was last loaded, in one transaction."""
    path = log.path.absolute()
    about = path.stat()
    known = connection.execute(
        "select bytes, crc32, mtime_ns, lines from loaded where path = ? and cluster = ?", (str(path), log.cluster)
    ).fetchone()
    before = Loaded(*known) if known else Loaded(0, 0, 0, 0)
    if known and not replace and (about.st_size, about.st_mtime_ns) == (before.bytes, before.mtime_ns):
        result.count("logs unchanged")
        return
    with path.open("rb") as stream:
        header = _first_known_line(stream)
        if replace:
            before = Loaded(0, 0, 0, 0)
        elif _checksum(stream, before.bytes) != before.crc32:
            why = "it has been rewritten since it was loaded; 'jobeff load slurm --replace' takes it"
            result.aside.add("accounting log", shown(str(path)), why)
            return
        stream.seek(before.bytes)
        lines = accounting.LogLines(stream, number=before.lines, offset=before.bytes)
        counts = accounting.ReadCounts()
        fmt = site.config.clusters[log.cluster].accounting_format if log.cluster in site.config.clusters else "auto"
        jobs = accounting.read(
            lines,
            cluster=log.cluster,
            clock=site.config.clock,
            where=str(log.path),
            aside=result.aside,
            counts=counts,
            header=header if before.bytes else None,
            fmt=fmt,
        )
        with atomic(connection):
            upsert(connection, jobs, replace, result)
            checksum = _checksum(stream, lines.offset)
            after = Loaded(lines.offset, checksum, about.st_mtime_ns, lines.number)
            connection.execute(
                "insert or replace into loaded values (?, ?, ?, ?, ?, ?)",
                (str(path), log.cluster, *after),
            )
    result.count("lines", counts.lines)
    result.count("never started", counts.never_started)
    result.count("running", counts.running)
    result.count("steps", counts.steps)


def _first_known_line(stream: BinaryIO) -> bytes | None:
    """The line that tells a log's format, which is needed when its tail is loaded."""
    for _, line in accounting.LogLines(stream):
        if accounting.detect(line) is not None:
            return line
    return None


def _checksum(stream: BinaryIO, size: int) -> int:
    """CRC-32 of the first `size` bytes, or of all there are."""
    stream.seek(0)
    checksum = 0
    while size > 0 and (block := stream.read(min(BLOCK, size))):
        checksum = zlib.crc32(block, checksum)
        size -= len(block)
    return checksum


def upsert(
    connection: sqlite3.Connection, jobs: Iterator[accounting.AccountingJob], replace: bool, result: StepResult
) -> None:
    """Add jobs; of two records of one job the one that ends later counts, whatever the order they come in.

    Where both end together the greater text decides: a line that was loaded before it was whole is less than the whole.

    Parameters
    ----------
    connection
        Accounting database, within `jobeff.store.sqlite.atomic`.
    jobs
        In any order, also several of one job.
    replace
        Have these win, whenever they end.
    result
        Takes the counts ``new``, ``changed`` and ``unchanged``.
    """
    connection.execute("create temp table incoming as select * from jobs limit 0")
    connection.execute(f"create unique index temp.incoming_key on incoming ({KEY})")
    try:
        ranks = ("end", "submit", "limit_s", *accounting.AccountingJob._fields)
        excluded, incoming, old, new = (
            "(" + ", ".join(f"coalesce({side}.{name}, -1)" for name in ranks) + ")"
            for side in ("excluded", "incoming", "old", "new")
        )
        later = f"where {excluded} > {incoming}" if not replace else "where true"
        updates = ", ".join(f"{name} = excluded.{name}" for name in accounting.AccountingJob._fields)
        connection.executemany(
            f"insert into incoming ({COLUMNS}) values ({PLACES}) on conflict ({KEY}) do update set {updates} {later}",
            jobs,
        )
        total = connection.execute("select count(*) from incoming").fetchone()[0]
        same = " and ".join(f"old.{name} is new.{name}" for name in accounting.AccountingJob._fields)
        older = "" if replace else f"and {new} > {old}"
        # A changed row is taken out and put in again, so that its seq is a new one.
        changed = connection.execute(
            f"""insert into replaced (seq, cluster, proj_id, start, end, cores)
                select old.seq, old.cluster, old.proj_id, old.start, old.end, old.cores from incoming as new
                join jobs as old on old.cluster = new.cluster and old.job_id = new.job_id and old.start = new.start
                where not ({same}) {older}"""
        ).rowcount
        connection.execute(
            "delete from jobs where seq in (select seq from replaced order by id desc limit ?)", (changed,)
        )
        added = connection.execute(
            f"insert or ignore into jobs ({COLUMNS}) select {COLUMNS} from incoming order by rowid"
        ).rowcount
    finally:
        connection.execute("drop table temp.incoming")
    result.count("new", added - changed)
    result.count("changed", changed)
    result.count("unchanged", total - added)
