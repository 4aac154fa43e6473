"""export raw: the archive as one SQLite file per node, as older tools keep it."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobeff.errors import ConfigError, shown
from jobeff.progress import Advance
from jobeff.steps.export import check_target, refuse_ours, told
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import archive, framing
from jobeff.store.batch import syncing
from jobeff.store.files import claimed, create, temporary_path

TEXT_AT_ONCE = 256 << 20
"""Bytes of a month that are shared out to their nodes together: each node's file is opened once for them."""

APPLICATION_ID = 0x6A6F6265
"""In the header of files that were exported; no other is ever replaced."""

# Older tools know the first two columns. `extended`: without a header the text is of the extended form; `month`: where
# a raw file of which no job and no time is known belongs.
SCHEMA = f"""
pragma application_id = {APPLICATION_ID};
create table jobs (
    job_id integer not null, jobstats blob not null, extended integer not null default 0, month text
);
create index jobs_job_id on jobs (job_id);
"""
INSERT = """
insert into jobs select ?1, ?2, ?3, ?4
where not exists (select 1 from jobs where job_id = ?1 and extended = ?3 and jobstats = ?2)
"""


def export_raw(site: Site, folder: Path, cluster: str | None = None) -> StepResult:
    """Write each raw file of the archive once: ``<folder>/<cluster>/<node>.sqlite``, table ``jobs(job_id, jobstats)``.

    Parameters
    ----------
    site
        Where to work.
    folder
        Files of an earlier export in it are replaced, each when all are whole.
    cluster
        The only one to export; by default all that are configured.

    Returns
    -------
    StepResult
        Files written, raw files in them, those that stand in two months, bytes of text; damaged frames.

    Raises
    ------
    ConfigError
        The folder holds other people's files by such names, or the cluster is not known.
    """
    if cluster is not None and cluster not in site.config.clusters:
        raise ConfigError(f"there is no cluster {shown(cluster)}", todo=f"Known are {', '.join(site.config.clusters)}")
    refuse_ours(site.config, folder)
    with timed("export raw", "nodes", "raw files", "repeated", "text bytes") as result:
        for name in [cluster] if cluster else list(site.config.clusters):
            with claimed(folder / name / ".export.lock"):
                _Export(site, name, folder / name, result).run()
    return result


class _Export:
    """Exports one cluster."""

    def __init__(self, site: Site, cluster: str, folder: Path, result: StepResult) -> None:
        self.site, self.cluster, self.folder, self.result = site, cluster, folder, result
        self.begun: set[str] = set()

    def run(self) -> None:
        """Write all files beside the old ones, then let them take their place."""
        months = archive.month_files(self.site.root, self.cluster)
        total = sum(archive.committed_size(path) for path in months.values())
        try:
            with syncing(self.folder) as sync:
                with self.site.progress.task(f"export raw {self.cluster}", total, "bytes") as advance:
                    for month, path in months.items():
                        self._month(month, path, advance)
                self._publish(sync)
        except BaseException:
            for node in self.begun:
                temporary_path(self._path(node)).unlink(missing_ok=True)
            raise

    def _path(self, node: str) -> Path:
        return self.folder / f"{node}.sqlite"

    def _month(self, month: str, path: Path, advance: Advance) -> None:
        try:
            with (
                tempfile.TemporaryDirectory() as scratch,
                archive.plain(path, Path(scratch)) as plain,
                archive.mapped(plain) as text,
            ):
                end = archive.committed_size(plain)
                found = framing.scan(text, 0, self.cluster, str(path), self.result.aside, end)
                if found.torn:
                    self.result.aside.add("archive tail", f"{path} byte {found.end}", "a frame is cut off there")
                for chosen in _parts(found):
                    self._share_out(month, str(path), text, found, chosen)
                    advance(int(found.bytes[chosen].sum()))
        except archive.UnreadableMonthError as error:
            self.result.aside.add("archive month", str(path), str(error))

    def _share_out(
        self, month: str, where: str, text: framing.Text, found: framing.Frames, chosen: npt.NDArray[np.int64]
    ) -> None:
        """Add some frames of a month to the files of their nodes."""
        crc32 = framing.checksums(text, found.begin[chosen], found.bytes[chosen])
        sound = (found.crc32[chosen] == crc32) | (found.crc32[chosen] < 0)
        for frame in chosen[~sound].tolist():
            at = f"{where} byte {found.begin[frame]}"
            self.result.aside.add("archive frame", at, "its checksum is not that of its text")
        chosen = chosen[sound]
        chosen = chosen[np.argsort(found.node[chosen], kind="stable")]
        for part in np.split(chosen, np.flatnonzero(np.diff(found.node[chosen])) + 1):
            if len(part):
                with self._open(found.nodes[found.node[part[0]]]) as connection:
                    rows = _rows(text, found, part, month)
                    added = connection.executemany(INSERT, rows).rowcount
                self.result.count("raw files", added)
                self.result.count("repeated", len(part) - added)
        self.result.count("text bytes", int(found.bytes[chosen].sum()))

    @contextlib.contextmanager
    def _open(self, node: str) -> Iterator[sqlite3.Connection]:
        """The file of a node as it is being made, in one transaction."""
        new = node not in self.begun
        temporary = temporary_path(self._path(node))
        if new:
            self._check(node)
            self.begun.add(node)
            create(temporary).close()
        with told(self._path(node)), contextlib.closing(sqlite3.connect(temporary, isolation_level=None)) as connection:
            # It is thrown away unless it becomes whole, so nothing has to be undone.
            connection.execute("pragma journal_mode = off")
            connection.execute("pragma synchronous = off")
            if new:
                connection.executescript(SCHEMA)
            connection.execute("begin")
            yield connection
            connection.execute("commit")

    def _check(self, node: str) -> None:
        """See that a file to be replaced is one of ours."""
        path = self._path(node)
        check_target(self.site.config, path, force=True)
        if path.exists():
            with path.open("rb") as file:
                ours = int.from_bytes(file.read(72)[68:], "big") == APPLICATION_ID
            if not ours:
                why, todo = "it is there, and is no export", "Name a folder of its own"
                raise ConfigError("cannot export", where=str(path), why=why, safe="It was left as it is", todo=todo)

    def _publish(self, sync: Callable[[Sequence[Path]], None]) -> None:
        """Give the files their names once all are durable; a file of a node that the archive lacks stays."""
        paths = [self._path(node) for node in sorted(self.begun)]
        sync([temporary_path(path) for path in paths])
        for path in paths:
            temporary_path(path).replace(path)
        sync([self.folder])
        self.result.count("nodes", len(paths))


def _parts(found: framing.Frames) -> list[npt.NDArray[np.int64]]:
    """Frames in order, cut so that each part has about `TEXT_AT_ONCE` bytes of text."""
    part = np.cumsum(found.bytes) // TEXT_AT_ONCE
    return np.split(np.arange(len(part)), np.flatnonzero(np.diff(part)) + 1) if len(part) else []


def _rows(
    text: framing.Text, found: framing.Frames, chosen: npt.NDArray[np.int64], month: str
) -> Iterator[tuple[int, bytes, int, str]]:
    for job_id, begin, size, extended in zip(
        *(column[chosen].tolist() for column in (found.job_id, found.begin, found.bytes, found.extended)), strict=True
    ):
        yield job_id, bytes(text[begin : begin + size]), int(extended), month
