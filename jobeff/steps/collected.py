"""The index of what the archive holds of late, so that each raw file is taken once.

It is a view of the archive: where it lags behind, or is lost, it is read from there again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.engine import samples
from jobeff.errors import JobeffError, SetAside
from jobeff.steps.site import Site
from jobeff.store import archive, framing, tables, upsert
from jobeff.store.scratch import scratch_root
from jobeff.store.sqlite import atomic, identity

MONTHS_KEPT = 4
"""Raw files live 30 days at the site; the index goes back as many of the archive's newest months."""

BATCH_BYTES = 64 << 20
IDS_AT_ONCE = 50_000
TAIL = " tail="
FRAME_COLUMNS = (
    "cluster", "job_id", "node", "month", "offset", "bytes", "first", "last", "extended", "crc32", "known_end",
)  # fmt: skip


class Frame(NamedTuple):
    """A raw file in the archive.

    `first` and `last` are None where it has no valid row. `known_end` is when the last of its jobs ended that
    accounting named as it was collected; 0 where that is not known.
    """

    month: str
    offset: int
    bytes: int
    first: int | None
    last: int | None
    extended: bool
    crc32: int
    known_end: int


class Attempt(NamedTuple):
    """A finished job as far as its raw files are concerned; its nodes as ``,r1,r2,``."""

    start: int
    end: int
    month: str
    nodes: str

    def booked(self, node: str) -> bool:
        """Whether a node was booked."""
        return f",{node}," in self.nodes


class Index:
    """The index of one cluster.

    Parameters
    ----------
    site
        Where to work; the caller holds the lock of the archive.
    cluster
        Its name.
    aside
        Takes torn tails and what is no frame.
    """

    def __init__(self, site: Site, cluster: str, aside: SetAside) -> None:
        self.site, self.cluster, self.aside = site, cluster, aside
        self.connection = tables.open_database(tables.database(site.root, "collected"), "collected")
        self.accounting = tables.read_database(tables.database(site.root, "accounting"), "accounting")
        self.met: set[str] = set()
        for note in (site.root / "archive" / cluster).glob(".*.txt.appending"):
            archive.undo_append(note.with_name(note.name.removeprefix(".").removesuffix(".appending")))
        self._remove_copies()
        newest = list(archive.month_files(site.root, cluster))[-MONTHS_KEPT:]
        self.catch_up({*newest, *self._indexed()}, appended=False)

    def close(self) -> None:
        """Close the databases."""
        self.connection.close()
        self.accounting.close()

    def forget_unmet(self) -> None:
        """Forget months that no raw file at the site was met for."""
        newest = list(archive.month_files(self.site.root, self.cluster))[-MONTHS_KEPT:]
        self._forget(month for month in self._indexed() if month not in {*newest, *self.met})

    def catch_up(self, months: Iterable[str], appended: bool) -> None:
        """Index what has been appended to some months since.

        Parameters
        ----------
        months
            ``YYYY-MM``.
        appended
            Whether this run has appended it.
        """
        indexed = self._indexed()
        files = archive.month_files(self.site.root, self.cluster)
        for month in sorted(months):
            if month in files:
                self._catch_up_month(month, *indexed.get(month, (0, "")), appended)

    def attempts(self, job_ids: Iterable[int]) -> dict[int, list[Attempt]]:
        """Finished jobs of some ids, also those of the virtual clusters that are part of this one.

        Parameters
        ----------
        job_ids
            Any ids.

        Returns
        -------
        dict
            By id; an id that accounting does not name is not in it.
        """
        found: dict[int, list[Attempt]] = {}
        query = """select job_id, start, end, substr(date, 1, 7), ',' || nodes || ','
                   from ids cross join jobs indexed by jobs_job_id_cluster using (job_id)
                   where (cluster = ?1 or substr(cluster, 1, length(?1) + 1) = ?1 || '.') and nodes <> ''"""
        with tables.temporary_ids(self.accounting, job_ids):
            for job_id, *attempt in self.accounting.execute(query, (self.cluster,)):
                found.setdefault(job_id, []).append(Attempt(*attempt))
        return found

    def frames(self, node: str, job_ids: Iterable[int]) -> dict[int, list[Frame]]:
        """Frames of some ids on a node; their months are noted as met.

        Parameters
        ----------
        node
            Its name.
        job_ids
            Any ids.

        Returns
        -------
        dict
            By id.
        """
        found: dict[int, list[Frame]] = {}
        query = """select job_id, month, offset, bytes, first, last, extended, crc32, known_end
                   from ids cross join frames using (job_id) where cluster = ? and node = ?"""
        with tables.temporary_ids(self.connection, job_ids):
            for job_id, *frame in self.connection.execute(query, (self.cluster, node)):
                found.setdefault(job_id, []).append(Frame(*frame))
                self.met.add(frame[0])
        return found

    def set_known(self, files: Iterable[tuple[str, int, int]]) -> None:
        """Note that raw files were found to be as archived, once their jobs had ended.

        Parameters
        ----------
        files
            Node, job id, and when the last of the jobs ended.
        """
        update = "update frames set known_end = ? where cluster = ? and job_id = ? and node = ?"
        with atomic(self.connection):
            self.connection.executemany(update, ((end, self.cluster, job_id, node) for node, job_id, end in files))

    def newly_named(self) -> Iterator[tuple[str, int, list[Frame], list[Attempt]]]:
        """Frames of jobs that accounting has named since this was last asked and answered to the end.

        Yields
        ------
        tuple
            Node, job id, frames, attempts.
        """
        ids = self._newly_named_ids()
        for begin in range(0, len(ids), IDS_AT_ONCE):
            some = ids[begin : begin + IDS_AT_ONCE]
            attempts = self.attempts(some)
            for (node, job_id), frames in self._frames_of(some).items():
                yield node, job_id, frames, attempts.get(job_id, [])
        newest = self.accounting.execute("select coalesce(max(seq), 0) from jobs").fetchone()[0]
        with atomic(self.connection):
            placed = (self.cluster, identity(self.accounting), newest)
            self.connection.execute("insert or replace into placed values (?, ?, ?)", placed)

    def _frames_of(self, job_ids: Iterable[int]) -> dict[tuple[str, int], list[Frame]]:
        found: dict[tuple[str, int], list[Frame]] = {}
        query = """select node, job_id, month, offset, bytes, first, last, extended, crc32, known_end
                   from ids cross join frames using (job_id) where cluster = ?"""
        with tables.temporary_ids(self.connection, job_ids):
            for node, job_id, *frame in self.connection.execute(query, (self.cluster,)):
                found.setdefault((node, job_id), []).append(Frame(*frame))
        return found

    def _newly_named_ids(self) -> list[int]:
        query = "select accounting_seq from placed where cluster = ? and accounting = ?"
        placed = self.connection.execute(query, (self.cluster, identity(self.accounting))).fetchone()
        if placed is None:
            rows = self.connection.execute("select distinct job_id from frames where cluster = ?", (self.cluster,))
        else:
            rows = self.accounting.execute("select distinct job_id from jobs where seq > ? and nodes <> ''", placed)
        return [job_id for (job_id,) in rows]

    def _indexed(self) -> dict[str, tuple[int, str]]:
        query = "select month, bytes, file from indexed where cluster = ?"
        return {month: (size, file) for month, size, file in self.connection.execute(query, (self.cluster,))}

    def _catch_up_month(self, month: str, begin: int, known_file: str, appended: bool) -> None:
        path = archive.month_files(self.site.root, self.cluster)[month]
        known, _, tail = known_file.rpartition(TAIL)
        reached = begin
        if _state(path) in (known, known_file):
            return
        try:
            with archive.plain(path, scratch_root(self.site.root)) as plain, archive.mapped(plain) as text:
                # What has been lost is collected again, where its source still is. Where it stands elsewhere
                # now, what is behind `begin` is no torn tail, but a part of a whole frame.
                moved = known and tail != str(framing.tail_crc32(text, begin))
                if moved or len(text) < begin or not _is_frame(text, begin):
                    self._forget([month])
                    begin = 0
                found = framing.scan(text, begin, self.cluster, str(path), self.aside)
                was_whole = found.end < reached <= len(text)
                rows = self._rows(month, text, found, appended)
                tail = str(framing.tail_crc32(text, found.end))
        except JobeffError as error:
            self.aside.add("archive month", str(path), str(error))
            return
        if found.torn and was_whole:  # bytes have come into a frame of which the shards may have the samples
            why = f"it is not what it was up to byte {reached}, from byte {found.end} on; 'jobeff repair' mends it"
            self.aside.add("archive month", str(path), why)
        elif found.torn and path.suffix == ".txt":
            archive.set_torn_aside(path, found.end, self.aside)
        with atomic(self.connection):
            upsert.replace(self.connection, "frames", FRAME_COLUMNS, rows)
            indexed = (self.cluster, month, found.end, f"{_state(path)}{TAIL}{tail}")
            self.connection.execute("insert or replace into indexed values (?, ?, ?, ?)", indexed)

    def _remove_copies(self) -> None:
        """Remove a compressed month whose text a plain one begins with; a run that made it plain again died."""
        for compressed, path in archive.hidden_months(self.site.root, self.cluster):
            try:
                with archive.plain(compressed, scratch_root(self.site.root)) as inflated:
                    copied = _begins_with(path, inflated)
            except archive.UnreadableMonthError:
                copied = False
            if copied:
                compressed.unlink()
            else:
                why = f"{path.name} is read in its place and has another text"
                self.aside.add("archive month", str(compressed), why)

    def _forget(self, months: Iterable[str]) -> None:
        keys = [(self.cluster, month) for month in months]
        with atomic(self.connection):
            self.connection.executemany("delete from frames where cluster = ? and month = ?", keys)
            self.connection.executemany("delete from indexed where cluster = ? and month = ?", keys)

    def _rows(self, month: str, text: framing.Text, found: framing.Frames, appended: bool) -> list[tuple[object, ...]]:
        """Rows of the table `frames`; of frames that this run appended it is known which jobs' end they have seen."""
        rows: list[tuple[object, ...]] = []
        whole = np.frombuffer(text, dtype=np.uint8)
        attempts = self.attempts(np.unique(found.job_id).tolist()) if appended else {}
        now = int(time.time())  # a job that ends later has not been seen to end, whatever accounting says
        ends = {job_id: min(now, max(attempt.end for attempt in some)) for job_id, some in attempts.items()}
        for chosen in batches(found.bytes):
            begin, length = found.begin[chosen], found.bytes[chosen]
            job_id = found.job_id[chosen].tolist()
            columns, _ = samples.parse(whole, begin, begin + length, found.extended[chosen])
            rows.extend(
                zip(
                    [self.cluster] * len(chosen),
                    job_id,
                    [found.nodes[node] for node in found.node[chosen]],
                    [month] * len(chosen),
                    begin.tolist(),
                    length.tolist(),
                    columns["first"].to_pylist(),
                    columns["last"].to_pylist(),
                    found.extended[chosen].tolist(),
                    framing.checksums(whole, begin, length).tolist(),
                    [ends.get(one, 0) for one in job_id],
                    strict=True,
                )
            )
        return rows


def _begins_with(path: Path, beginning: Path) -> bool:
    """Whether a file begins with all that another one holds."""
    with path.open("rb") as whole, beginning.open("rb") as part:
        while block := part.read(1 << 20):
            if whole.read(len(block)) != block:
                return False
    return True


def _state(path: Path) -> str:
    """What tells that a month has not changed since."""
    return f"{path.name} {path.stat().st_size}"


def batches(lengths: npt.NDArray[np.int64]) -> Iterable[npt.NDArray[np.int64]]:
    """Cut raw files into batches whose text is not much longer than `BATCH_BYTES`.

    Parameters
    ----------
    lengths
        Shape (files,), bytes.

    Returns
    -------
    iterable of ndarray
        Indexes of the files of each batch.
    """
    if len(lengths) == 0:
        return []
    batch = np.cumsum(lengths) // BATCH_BYTES
    return np.split(np.arange(len(lengths)), np.flatnonzero(np.diff(batch)) + 1)


def months_of(attempts: list[Attempt], node: str, first: int | None, last: int | None, interval: int) -> set[str]:
    """Months that a raw file belongs to: those in which a job ended that it can say something of.

    Parameters
    ----------
    attempts
        Of the file's job id.
    node
        Where it was written.
    first, last
        Epochs of its first and last valid row, or None.
    interval
        Seconds between samples.

    Returns
    -------
    set of str
        Of the attempts that booked the node; where none did, of those at whose time it was written.
    """
    booked = {attempt.month for attempt in attempts if attempt.booked(node)}
    if booked or first is None or last is None:
        return booked
    return {a.month for a in attempts if a.start - interval <= last and first <= a.end + interval}


def _is_frame(text: framing.Text, begin: int) -> bool:
    """Whether a frame begins at an offset, or what a run that died has written of one, or the text ends there."""
    return b"==> ".startswith(bytes(text[begin : begin + 5]).lstrip(b"\n")[:4])
