"""Stores that older tools have left: raw files and accounting, told apart by their content.

- ``rawdata``: SQLite, table ``efficiency_rawdata(job_id, node, jobstats)``, jobstats being base64 of zlib of the text
- ``lines``: its backup, lines of job id, node and that base64 with tabs between, also gzipped
- ``node``: SQLite, one file per node named like it, table ``jobs(job_id, jobstats)``, plain or zlib; our export too
- ``accounting``: SQLite, table ``slurm_accounting``, or ``jobs`` with such columns
"""

from __future__ import annotations

import contextlib
import gzip
import re
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from jobeff.clock import Clock
from jobeff.errors import SetAside, shown
from jobeff.names import is_name
from jobeff.sources import accounting, slurm_logs

KINDS = ("rawdata", "lines", "node", "accounting")
SQLITE = b"SQLite format 3\0"
GZIP = b"\x1f\x8b"
SUFFIXES = (".sqlite", ".sqlite3", ".db")
LARGEST_RATIO = 500
"""What inflates to more than this many times its size is a bomb; the usage of an idle node of 128 cores reaches 107."""

LONGEST_VALUE = 512 << 20
"""A store with a longer value is not read further."""

SMALL = 1 << 20
"""What inflates to no more is taken however well it was compressed."""

_LINE = re.compile(rb"^[0-9]{1,19}\t[^\t\n]{1,200}\t[A-Za-z0-9+/=]", re.MULTILINE)
# What sacct calls it, and what the old tables do.
_ACCOUNTING = {
    "JobIDRaw": ("job_id",), "JobID": ("job_id_text",), "Cluster": ("cluster",), "Partition": ("partition",),
    "Account": ("proj_id", "account"), "User": ("user",), "Submit": ("submit",), "Start": ("start",), "End": ("end",),
    "State": ("jobstate", "state"), "NCPUS": ("cores",), "Timelimit": ("limit_s",), "NodeList": ("nodes",),
    "JobName": ("jobname",),
}  # fmt: skip
_NEEDED = ("JobIDRaw", "Account", "User", "Start", "End", "State", "NCPUS", "NodeList")


class Part(NamedTuple):
    """What can be taken from a file: its kind, the table, that table's columns, and the node that the file names."""

    path: Path
    kind: str
    table: str = ""
    columns: tuple[str, ...] = ()
    node: str = ""

    @property
    def exported(self) -> bool:
        """Whether jobeff wrote it."""
        return self.kind == "node" and "extended" in self.columns


def parts(path: Path, aside: SetAside) -> list[Part]:
    """Find out what a file holds.

    Parameters
    ----------
    path
        A regular file.
    aside
        Takes a file that holds nothing known.

    Returns
    -------
    list of Part
        One per table.
    """
    found: list[Part] = []
    why = "neither a store that is known nor lines of job id, node and base64"
    try:
        with path.open("rb") as file:
            begin = file.read(len(SQLITE))
        if begin == SQLITE:
            why = "none of its tables is known"
            found = list(_tables(path))
        else:
            with stream(path) as opened:
                if _LINE.search(opened.read(SMALL)):
                    found = [Part(path, "lines")]
    except (OSError, EOFError, zlib.error, sqlite3.Error, ValueError) as error:
        why = shown(str(error))
    if not found:
        aside.add("file", shown(str(path)), why)
    named = [part for part in found if part.kind != "node" or is_name(part.node)]
    if len(named) < len(found):
        aside.add("file", shown(str(path)), "it is not called like the node that it is of")
    return named


def _tables(path: Path) -> Iterator[Part]:
    with _opened(path) as connection:
        # A virtual table, which has no page of its own, is code of whatever SQLite was built with.
        names = connection.execute("select name from sqlite_master where type = 'table' and rootpage > 0").fetchall()
        for (name,) in names:
            table = name.decode("utf-8", "backslashreplace")
            if table not in ("efficiency_rawdata", "jobs", "slurm_accounting"):
                continue
            columns = tuple(
                row[1].decode("utf-8", "replace").lower() for row in connection.execute(f"pragma table_info({table})")
            )
            if table == "efficiency_rawdata" and {"job_id", "node", "jobstats"} <= {*columns}:
                yield Part(path, "rawdata", table, columns)
            elif table == "jobs" and {"job_id", "jobstats"} <= {*columns}:
                node = path.name
                for suffix in SUFFIXES:
                    node = node.removesuffix(suffix)
                yield Part(path, "node", table, columns, node)
            elif table != "efficiency_rawdata" and all(_column(name, columns) for name in _NEEDED):
                yield Part(path, "accounting", table, columns)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    """A store for reading; texts come as bytes, whatever they hold."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
    with contextlib.closing(connection):
        connection.text_factory = bytes
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LONGEST_VALUE)  # also of what a schema makes up
        connection.execute("pragma trusted_schema = off")
        yield connection


def select(part: Part, expressions: str, aside: SetAside) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Read rows of a table.

    Parameters
    ----------
    part
        Of any kind but ``lines``.
    expressions
        What to select.
    aside
        Takes damage of the store, which ends the rows.

    Yields
    ------
    tuple
        Where the row stands, and the row; texts as bytes.
    """
    number = 0
    where = f"{shown(str(part.path))} {part.table} row"
    try:
        with _opened(part.path) as connection:
            for number, row in enumerate(connection.execute(f"select {expressions} from {part.table}"), 1):
                yield f"{where} {number}", row
    except sqlite3.Error as error:
        aside.add("store", f"{where} {number + 1}", f"cannot be read from here on: {shown(str(error))}")


class Inflated:
    """A gzipped file, refused when it turns out to be a bomb.

    Parameters
    ----------
    file
        Opened for reading.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._gzip, self._size = file, gzip.GzipFile(fileobj=file), 0

    def read(self, size: int) -> bytes:
        """Read some bytes."""
        return self._counted(self._gzip.read(size))

    def readline(self, size: int) -> bytes:
        """Read a line, or as much of it."""
        return self._counted(self._gzip.readline(size))

    def _counted(self, text: bytes) -> bytes:
        self._size += len(text)
        if self._size > max(SMALL, LARGEST_RATIO * self._file.tell()):
            raise ValueError(f"it inflates to more than {LARGEST_RATIO} times its size")
        return text


@contextlib.contextmanager
def stream(path: Path) -> Iterator[IO[bytes] | Inflated]:
    """Open a file, gzipped or not.

    Parameters
    ----------
    path
        A regular file.

    Yields
    ------
    file
        Its text.
    """
    with path.open("rb") as file:
        packed = file.read(len(GZIP)) == GZIP
        file.seek(0)
        yield Inflated(file) if packed else file


# Accounting


def names_cluster(part: Part) -> bool:
    """Whether each row of an accounting table says which cluster it is of.

    Parameters
    ----------
    part
        Of kind ``accounting``.

    Returns
    -------
    bool
        Else the cluster has to be told.
    """
    return "cluster" in part.columns


def read_jobs(
    part: Part, cluster: str, clock: Clock, aside: SetAside, counts: accounting.ReadCounts
) -> Iterator[accounting.AccountingJob]:
    """Read the jobs of an accounting table, by the same rules as those of a log.

    Parameters
    ----------
    part
        Of kind ``accounting``.
    cluster
        Of rows that do not name one.
    clock, aside, counts
        As for `jobeff.sources.slurm_logs.read`.

    Yields
    ------
    AccountingJob
        In order of the table.
    """
    found = {name: _column(name, part.columns) for name in _ACCOUNTING}
    expressions = ", ".join(f'"{column}"' if column else "null" for column in found.values())
    where = f"{shown(str(part.path))} {part.table} row"
    rows = enumerate((row for _, row in select(part, expressions, aside)), 1)
    header = "|".join(_ACCOUNTING).encode()
    lines = _records(rows, where, aside, counts)
    yield from slurm_logs.read(
        lines, cluster=cluster, clock=clock, where=where, aside=aside, counts=counts, header=header, fmt="sacct"
    )


def _column(name: str, columns: tuple[str, ...]) -> str:
    return next((column for column in _ACCOUNTING[name] if column in columns), "")


def _records(
    rows: Iterator[tuple[int, tuple[Any, ...]]], where: str, aside: SetAside, counts: accounting.ReadCounts
) -> Iterator[tuple[int, bytes]]:
    """Rows as sacct would print them; the name, which comes last, may hold anything."""
    limit = list(_ACCOUNTING).index("Timelimit")
    for number, row in rows:
        fields = [_field(value) for value in row]
        if isinstance(row[limit], int):
            minutes, seconds = divmod(row[limit], 60)
            fields[limit] = b"%d-%02d:%02d:%02d" % (minutes // 1440, minutes // 60 % 24, minutes % 60, seconds)
        why = ""
        if any(b"|" in field for field in fields[:-1]):
            why = "'|' stands in a field other than the job's name"
        elif b"." in fields[0] + fields[1]:  # sacct would mean a step, which is left out
            why = f"job id is not a number: {shown(fields[0])}"
        if why:
            counts.set_aside += 1
            aside.add(accounting.KIND, f"{where}:{number}", why)
        else:
            yield number, b"|".join(fields)


def _field(value: Any) -> bytes:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, bytes) else b"" if value is None else str(value).encode()
