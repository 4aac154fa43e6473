"""Tables as a terminal, a spreadsheet or a program wants them."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from jobeff.errors import shown
from jobeff.views import sql

if TYPE_CHECKING:
    import pyarrow as pa

WIDTH = 80
GAP = "  "
MANY = 1000
"""Characters, more than any number has."""

Kind = Literal["text", "count", "hours", "percent", "share"]
IN_MEMORY = 8 << 20
TOTAL = "total"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name
        In CSV, JSON and Parquet; with its unit.
    title
        On a terminal; with its unit. Empty for a column that is not shown there.
    kind
        How values are written; ``percent`` is the better the more there is of it, ``share`` the worse.
    rank
        Where there is no room for all, those with the highest ranks are left out; 0 never.
    least
        A text is not cut to fewer characters; before that, columns are left out.
    """

    name: str
    title: str
    kind: Kind = "count"
    rank: int = 0
    least: int = 18


@dataclass(frozen=True)
class Table:
    """Lines of a report.

    Attributes
    ----------
    columns
        Their columns.
    data
        An Arrow table with a column for each.
    notes
        What stands below it on a terminal.
    total
        A last line for a terminal, by name of column; empty for none.
    empty
        What is said on a terminal where there is no line.
    """

    columns: tuple[Column, ...]
    data: pa.Table
    notes: tuple[str, ...] = ()
    total: Mapping[str, Any] = field(default_factory=dict)
    empty: str = "Nothing to show."

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Values of each line; None where one is not known."""
        names = [column.name for column in self.columns]
        for batch in self.data.select(names).to_batches(1000):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def untitled(columns: Sequence[Column], names: set[str]) -> tuple[Column, ...]:
    """Have some columns not shown to people.

    Parameters
    ----------
    columns
        All of them.
    names
        Of those that would say nothing.

    Returns
    -------
    tuple
        As many.
    """
    return tuple(replace(column, title="") if column.name in names else column for column in columns)


def terminal(table: Table, width: int = WIDTH) -> str:
    """A table for people.

    Parameters
    ----------
    table
        What to show.
    width
        Of the terminal, characters.

    Returns
    -------
    str
        No line is longer than `width` unless the terminal is too narrow for the least; texts are escaped.
    """
    if not table.data.num_rows:
        return table.empty
    columns = [(i, column) for i, column in enumerate(table.columns) if column.title]
    cells = [[cell(column.kind, row[i]) for i, column in columns] for row in table.rows()]
    if table.total:
        cells.append([cell(column.kind, table.total.get(column.name, "")) for _, column in columns])
    shown_columns = [column for _, column in columns]
    left_out: list[str] = []
    while True:
        if table.total:
            cells[-1][0] = TOTAL
        widths = [
            max(len(line[i]) for line in [[c.title for c in shown_columns], *cells]) for i in range(len(shown_columns))
        ]
        fitted = _fitted(shown_columns, widths, width)
        least = max(range(len(shown_columns)), key=lambda i: shown_columns[i].rank)
        if fitted is not None or shown_columns[least].rank == 0:
            break
        left_out.append(shown_columns[least].title)
        del shown_columns[least]
        cells = [[cell for i, cell in enumerate(line) if i != least] for line in cells]
    widths = fitted or [min(width, _least(column)) for width, column in zip(widths, shown_columns, strict=True)]
    lines = [_line([column.title for column in shown_columns], shown_columns, widths)]
    lines += [_line(line, shown_columns, widths) for line in cells]
    notes = list(table.notes)
    if left_out:
        notes.append(f"No room for: {', '.join(reversed(left_out))}. --csv and --json have all columns.")
    wrapped = [line for note in notes for line in textwrap.wrap(note, min(width, WIDTH))]
    return "\n".join([*lines, *([""] if notes else []), *wrapped])


def _fitted(columns: Sequence[Column], widths: Sequence[int], room: int) -> list[int] | None:
    """Widths with which a line fits: the widest texts are cut, all to the same; None where that is not enough."""
    for most in range(max(widths), 0, -1):
        fitted = [min(width, max(most, _least(column))) for width, column in zip(widths, columns, strict=True)]
        if sum(fitted) + len(GAP) * (len(fitted) - 1) <= room:
            return fitted
    return None


def _least(column: Column) -> int:
    return column.least if column.kind == "text" else MANY


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    cut = [c if len(c) <= w else f"{c[: w - 3]}..." for c, w in zip(cells, widths, strict=True)]
    aligned = [
        cell.ljust(width) if column.kind == "text" else cell.rjust(width)
        for cell, column, width in zip(cut, columns, widths, strict=True)
    ]
    return GAP.join(aligned).rstrip()


def cell(kind: Kind, value: Any) -> str:
    """A value for people.

    Parameters
    ----------
    kind
        See `Column`.
    value
        None where it is not known.

    Returns
    -------
    str
        Texts are escaped as for a terminal.
    """
    if value is None:
        return "-"
    if isinstance(value, str):
        return shown(value)
    if kind == "hours":
        return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:,.1f}"
    return f"{value:.0f}" if kind in ("percent", "share") else f"{value:,.0f}"


def write(table: Table, form: Literal["csv", "json"], out: IO[bytes], on_terminal: bool) -> None:
    """A table for spreadsheets or programs, with all columns and nothing else.

    Parameters
    ----------
    table
        What to write.
    form
        ``csv``, with a header, in which no text runs as a formula; ``json``, an array with an object per line.
    out
        Where to, as UTF-8.
    on_terminal
        Whether it is a terminal, for which texts are escaped.
    """
    with tempfile.SpooledTemporaryFile(IN_MEMORY) as spool:
        writer = sql.WRITERS[form]([column.name for column in table.columns], spool, WIDTH if on_terminal else None)
        for row in table.rows():
            writer.row(row)
        writer.finish(out)
    out.flush()


def write_parquet(table: Table, path: Path) -> None:
    """A table as a Parquet file, whole or not at all.

    Parameters
    ----------
    table
        What to write.
    path
        The file.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415  (the other forms have no need of it)

    from jobeff.store.files import atomic_path  # noqa: PLC0415

    with atomic_path(path) as temporary:
        pq.write_table(table.data.select([column.name for column in table.columns]), temporary, compression="zstd")
