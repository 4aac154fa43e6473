"""Queries over all databases: for reading only, stopped by Ctrl-C, whatever the cells hold.

What a query gives is written to a temporary file before anything is shown: a database is read no longer than the query
takes, so that nobody who pages through the rows holds up the night's update, and memory is bounded.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, Literal, Protocol

from jobeff.config import Config
from jobeff.errors import JobeffError, shown
from jobeff.store import general
from jobeff.store.sqlite import stoppable

Form = Literal["table", "csv", "json"]
ROWS_AT_ONCE = 2000
IN_MEMORY = 8 << 20
NARROWEST = 10
"""No column is cut to fewer characters, however narrow the terminal; one of numbers is never cut."""

# With what a cell begins that a spreadsheet takes for a formula; where it divides lines otherwise than at commas, as
# those of many countries do at semicolons, a cell begins within one of ours too.
_FORMULA = re.compile(r"(^|[;\t\r\n])(?=[=+\-@\t\r\n＝＋－＠])")

QUOTE = '"'
_TO_QUOTE = re.compile('[,"\r\n]')
_CELL_END = "\x1f"  # escaped wherever it stands in a cell
_READING = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE}
_PRAGMAS = {
    "collation_list", "compile_options", "database_list", "foreign_key_list", "function_list", "index_info",
    "index_list", "index_xinfo", "pragma_list", "table_info", "table_list", "table_xinfo",
}  # fmt: skip


def connect(config: Config) -> sqlite3.Connection:
    """Open all databases for reading.

    Parameters
    ----------
    config
        Of the site.

    Returns
    -------
    sqlite3.Connection
        With the views of `jobeff.store.general`; statements that would change anything fail.
    """
    connection = general.connect(config.root)
    connection.text_factory = lambda text: text.decode("utf-8", "backslashreplace")
    connection.set_authorizer(_authorized)
    return connection


def _authorized(action: int, name: str | None, other: str | None, database: str | None, _within: str | None) -> int:
    """Let SQLite do what only reads; a transaction is refused too, since it would keep writers waiting."""
    if action in _READING:
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION and other != "load_extension":
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and name in _PRAGMAS:
        return sqlite3.SQLITE_OK
    if (action, name, database) == (sqlite3.SQLITE_UPDATE, "sqlite_master", "main"):
        return sqlite3.SQLITE_OK  # how SQLite makes json_each and the like known to itself, in memory
    return sqlite3.SQLITE_DENY


def statements(text: str) -> Iterator[str]:
    """Split a text into its statements.

    Parameters
    ----------
    text
        SQL; the last semicolon may be missing.

    Yields
    ------
    str
        One statement each; semicolons within texts and comments end none.

    Raises
    ------
    JobeffError
        It holds a NUL.
    """
    if "\0" in text:
        raise _failed(text, ValueError("it holds a null character"))
    begun = ""
    for part in text.split(";"):
        begun += part + ";"
        if sqlite3.complete_statement(begun):
            yield begun
            begun = ""
    rest = begun.removesuffix(";")
    if rest.strip():
        yield rest


class _Writer(Protocol):
    """Takes rows while a query runs, and shows them afterwards."""

    def row(self, row: Sequence[Any]) -> None:
        """Take one row."""

    def finish(self, out: IO[bytes]) -> None:
        """Show all."""


def run(connection: sqlite3.Connection, statement: str, form: Form, out: IO[bytes], width: int | None) -> None:
    """Run a statement and show what it gives.

    Parameters
    ----------
    connection
        From `connect`.
    statement
        From `statements`.
    form
        ``table``; ``csv`` with a header; ``json``, an array with an object per row.
    out
        Where to, as UTF-8.
    width
        Characters per line when it is a terminal, else None.

    Raises
    ------
    JobeffError
        It is no SQL, reads what is not there, or would change something.
    """
    cursor = connection.cursor()
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as spool:
        try:
            stoppable(connection, lambda: cursor.execute(statement))
            if cursor.description is None:
                return
            names = [str(column[0]) for column in cursor.description]
            writer = WRITERS[form](names, spool, width)
            while rows := stoppable(connection, lambda: cursor.fetchmany(ROWS_AT_ONCE)):
                for row in rows:
                    writer.row(row)
        except (sqlite3.Error, sqlite3.Warning, ValueError) as error:
            raise _failed(statement, error) from error
        finally:
            cursor.close()
        writer.finish(out)
        out.flush()


def _failed(statement: str, error: Exception) -> JobeffError:
    why, todo = shown(str(error)), "'jobeff sql --help' lists the tables"
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_AUTH or "cannot modify" in why:
        why, todo = "it does more than read", "The databases are written by the steps of 'jobeff update' only"
    where = shown(" ".join(statement.split())[:60])
    return JobeffError("cannot run the query", where=where, why=why, safe="Nothing was changed", todo=todo)


class _Table:
    """Aligned columns; cells are escaped, and cut where the terminal is too narrow, or each gets a line of its own."""

    def __init__(self, names: Sequence[str], spool: IO[bytes], width: int | None) -> None:
        self.spool, self.width = spool, width
        self.header = [shown(name) for name in names]
        self.widths = [len(name) for name in self.header]
        self.numbers = [True] * len(names)
        self.rows = 0

    def row(self, row: Sequence[Any]) -> None:
        """Keep the cells as text, and how wide they are."""
        cells = [_cell(value) for value in row]
        for i, (cell, value) in enumerate(zip(cells, row, strict=True)):
            self.widths[i] = max(self.widths[i], len(cell))
            self.numbers[i] &= value is None or isinstance(value, int | float)
        self.rows += 1
        self.spool.write((_CELL_END.join(cells) + "\n").encode())

    def finish(self, out: IO[bytes]) -> None:
        """Write all rows, numbers to the right."""
        widths = self.widths if self.width is None else _fitted(self.widths, self.numbers, self.width)
        if self.width is not None and sum(widths) + 2 * (len(widths) - 1) > self.width:
            self._records(out, self.width)
            return
        out.write(self._line(self.header, widths))
        out.write(self._line(["-" * width for width in widths], widths))
        self.spool.seek(0)
        for line in self.spool:
            out.write(self._line(line.decode().removesuffix("\n").split(_CELL_END), widths))

    def _records(self, out: IO[bytes], width: int) -> None:
        """Write each row as lines of a column each, where the terminal is too narrow for a table."""
        longest = min(max(map(len, self.header)), width // 2)
        self.spool.seek(0)
        for number, line in enumerate(self.spool):
            cells = line.decode().removesuffix("\n").split(_CELL_END)
            for name, cell in zip(self.header, cells, strict=True):
                shown_line = f"{_cut(name, longest):<{longest}}  {_cut(cell, width - longest - 2)}"
                out.write(f"{shown_line.rstrip()}\n".encode())
            out.write(b"\n" if number + 1 < self.rows else b"")

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> bytes:
        cut = map(_cut, cells, widths)
        aligned = [
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(cut, widths, self.numbers, strict=True)
        ]
        return ("  ".join(aligned).rstrip() + "\n").encode()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, bytes):
        return shown(f"x'{value[:100].hex()}'")
    return shown(value) if isinstance(value, str) else str(value)


def _fitted(widths: Sequence[int], numbers: Sequence[bool], room: int) -> list[int]:
    """Widths of columns that fit into a line together: the widest texts are cut, all to the same."""
    most = max(widths)
    while True:
        fitted = [width if number else min(width, most) for width, number in zip(widths, numbers, strict=True)]
        if most <= NARROWEST or sum(fitted) + 2 * (len(fitted) - 1) <= room:
            return fitted
        most -= 1


def no_formula(text: str) -> str:
    """A text as a cell of CSV.

    Parameters
    ----------
    text
        Anything.

    Returns
    -------
    str
        With an apostrophe before what a spreadsheet would run.
    """
    return _FORMULA.sub(r"\1'", text)


class _Csv:
    """For spreadsheets: numbers stay numbers, and no text is run as a formula."""

    def __init__(self, names: Sequence[str], spool: IO[bytes], width: int | None) -> None:
        self.spool, self.terminal = spool, width is not None
        self.row(names)

    def row(self, row: Sequence[Any]) -> None:
        """Write a row."""
        line = ",".join(map(self._cell, row))
        self.spool.write(f"{line or QUOTE * 2}\n".encode())  # a line without anything would be no row

    def finish(self, out: IO[bytes]) -> None:
        """Copy all."""
        self.spool.seek(0)
        shutil.copyfileobj(self.spool, out)

    def _cell(self, value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, bytes):
            return value.hex()
        if not isinstance(value, str):
            return str(value)
        if self.terminal and not value.isprintable():
            value = value.encode("unicode_escape").decode("ascii")
        value = no_formula(value)
        return f"{QUOTE}{value.replace(QUOTE, QUOTE * 2)}{QUOTE}" if _TO_QUOTE.search(value) else value


class _Json:
    """An array of objects, one per line; a name that comes twice is numbered, so that no column is lost."""

    def __init__(self, names: Sequence[str], spool: IO[bytes], _width: int | None) -> None:
        self.spool, self.rows = spool, 0
        self.names: list[str] = []
        for name in names:
            number, unique = 1, name
            while unique in self.names:
                number += 1
                unique = f"{name}_{number}"
            self.names.append(unique)

    def row(self, row: Sequence[Any]) -> None:
        """Write an object."""
        values = (_json_value(value) for value in row)
        text = json.dumps(dict(zip(self.names, values, strict=True)))
        self.spool.write(f"{',' if self.rows else ''}\n {text}".encode())
        self.rows += 1

    def finish(self, out: IO[bytes]) -> None:
        """Copy all."""
        self.spool.seek(0)
        out.write(b"[")
        shutil.copyfileobj(self.spool, out)
        out.write(b"\n]\n" if self.rows else b"]\n")


def _json_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)  # JSON has no such number
    return value


WRITERS: dict[Form, Callable[[Sequence[str], IO[bytes], int | None], _Writer]] = {
    "table": _Table,
    "csv": _Csv,
    "json": _Json,
}


def described(connection: sqlite3.Connection) -> str:
    """The tables that can be asked for.

    Parameters
    ----------
    connection
        From `connect`.

    Returns
    -------
    str
        A line per table: its name and columns.
    """
    lines = [f"{name} ({', '.join(table.names)})" for name, table in general.TABLES.items()]
    for database in general.DATABASES:
        if connection.execute("select 1 from pragma_database_list where name = ?", (database,)).fetchone():
            columns = connection.execute(
                """select t.name, group_concat(c.name, ', ')
                   from pragma_table_list as t, pragma_table_info(t.name, t.schema) as c
                   where t.schema = ? and t.type = 'table' and t.name not like 'sqlite%' group by t.name""",
                (database,),
            )
            lines.extend(f"{database}.{name} ({names})" for name, names in columns)
    return "\n".join(lines)
