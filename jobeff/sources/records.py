"""Records of statistics files: delimited text with a header, or JSON lines; a line is a record.

Also a quoted cell ends with its line, so that a quote that is never closed costs a line, not the rest of the file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple, NoReturn, Protocol

from jobeff.errors import SetAside, shown
from jobeff.sources.accounting import BOM, MAX_LINE_BYTES, LogLines

DELIMITERS = (",", ";", "\t")

Record = tuple[Any, ...]


class Column(NamedTuple):
    """A column that is looked for.

    `parse` makes a value of a cell, also of an empty one, or raises ValueError with a message that is fit to be shown.
    It need not take blanks around the cell. A file without a column that is `needed` cannot be used; any other that
    is not there is empty.
    """

    name: str
    parse: Callable[[str], Any]
    needed: bool = False


class FileRefusedError(ValueError):
    """A file as a whole cannot be used; the message says why and is fit to be shown."""


class Reader(Protocol):
    """Makes values, in the order of the columns, of a line."""

    def record(self, line: bytes) -> Record | None:
        """Read a line; None where it is the header. Raises ValueError, with a message fit to be shown."""


def first_line(stream: BinaryIO) -> bytes | None:
    """The line that tells a file's format, which is needed also when only its tail is read.

    Parameters
    ----------
    stream
        The file; it is moved.

    Returns
    -------
    bytes or None
        The first line that is not blank, if there is one; see `jobeff.sources.accounting.LogLines`.
    """
    stream.seek(0)
    return next((line for _, line in LogLines(stream) if line.removeprefix(BOM).strip()), None)


def reader(first: bytes, columns: Sequence[Column]) -> Reader:
    """Tell by its first line how a file is to be read.

    Parameters
    ----------
    first
        From `first_line`.
    columns
        What is looked for; names of columns may be written in any case.

    Returns
    -------
    Reader
        For all lines of the file.

    Raises
    ------
    FileRefusedError
        It is neither of the formats, lacks a column, or names one twice.
    """
    if len(first) > MAX_LINE_BYTES:
        raise FileRefusedError(f"its first line is longer than {MAX_LINE_BYTES} bytes")
    first = first.removeprefix(BOM).strip()
    if first.startswith(b"{"):
        return _JsonLines(columns)
    if first.startswith(b"["):
        raise FileRefusedError("it begins with '[': write one JSON object per line, without a list around them")
    return _Delimited(first.decode("utf-8", "backslashreplace"), columns)


def read(
    lines: Iterable[tuple[int, bytes]], reader: Reader, *, where: str, kind: str, aside: SetAside
) -> Iterator[Record]:
    """Read records; a line that cannot be used is set aside.

    Parameters
    ----------
    lines
        Line numbers and lines without their end, such as `jobeff.sources.accounting.LogLines` gives.
    reader
        From the function `reader`.
    where, kind
        Name of the file, and what a line of it is, in messages.
    aside
        Added to while reading.

    Yields
    ------
    tuple
        Values in the order of the columns.

    Raises
    ------
    FileRefusedError
        Further down stands a header of other columns, so nobody can tell what its lines mean.
    """
    for number, line in lines:
        if number == 1:
            line = line.removeprefix(BOM)  # noqa: PLW2901
        if not line or line.isspace():
            continue
        try:
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
            record = reader.record(line)
        except FileRefusedError as error:
            raise FileRefusedError(f"line {number}: {error}") from error
        except ValueError as error:
            aside.add(kind, f"{where}:{number}", str(error))
            continue
        if record is not None:
            yield record


class _Delimited:
    """Reads lines whose columns a header names."""

    def __init__(self, header: str, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._delimiter = max(DELIMITERS, key=lambda one: len(self._known(header, one)))
        self._names = self._known(header, self._delimiter, every=True)
        known = [name for name in self._names if name in {column.name.lower() for column in columns}]
        _check(set(known), columns, f"its header, {shown(header)}, ")
        if twice := sorted({name for name in known if known.count(name) > 1}):
            raise FileRefusedError(f"its header names {', '.join(twice)} twice")
        # A column that is not there is taken from the empty cell that `record` puts behind the last.
        at = {name: place for place, name in enumerate(self._names)}
        self._picks = [(column.name, at.get(column.name.lower(), -1), column.parse) for column in columns]

    def _known(self, text: str, delimiter: str, every: bool = False) -> list[str]:
        names = {column.name.lower() for column in self._columns}
        try:
            found = [cell.strip().lower() for cell in _cells(text, delimiter)]
        except ValueError:
            return []
        return [name for name in found if every or name in names]

    def record(self, line: bytes) -> Record | None:
        text = line.decode("utf-8", "backslashreplace")
        cells = _cells(text, self._delimiter)
        try:
            if len(cells) != len(self._names):
                raise ValueError(f"{len(cells)} columns where {len(self._names)} are expected: {shown(text)}")
            return _parsed(self._picks, [*cells, ""])
        except ValueError:
            if self._is_header(cells):
                return None
            raise

    def _is_header(self, cells: Sequence[str]) -> bool:
        """Whether a line that is no record is the header again, as in files put together; another one is refused."""
        found = [cell.strip().lower() for cell in cells]
        if found != self._names and {column.name.lower() for column in self._columns if column.needed} <= set(found):
            raise FileRefusedError("another header begins there, with other columns; split the file")
        return found == self._names


def _parsed(picks: Sequence[tuple[str, int, Callable[[str], Any]]], cells: Sequence[str]) -> Record:
    try:
        return tuple([parse(cells[at]) for _, at, parse in picks])
    except ValueError:  # seldom: cells have blanks around them, or one cannot be used and has to be named
        return tuple([_named(name, parse, cells[at].strip()) for name, at, parse in picks])


def _named(name: str, parse: Callable[[str], Any], cell: str) -> Any:
    try:
        return parse(cell)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def _cells(text: str, delimiter: str) -> list[str]:
    text = text.rstrip("\r")
    if '"' not in text:
        return text.split(delimiter)
    try:
        return next(csv.reader([text], delimiter=delimiter, strict=True, skipinitialspace=True))
    except csv.Error as error:
        raise ValueError(f"{error}: {shown(text)}") from error


class _JsonLines:
    """Reads lines that are a JSON object each."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._picks = [(column.name, at, column.parse) for at, column in enumerate(columns)]
        self._at = {column.name.lower(): at for at, column in enumerate(columns)}
        # Numbers stay text until their column reads them, so that no digit is lost and none can be too long.
        self._decode = json.JSONDecoder(
            object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=_no_number
        ).decode

    def record(self, line: bytes) -> Record:
        text = line.decode("utf-8", "surrogateescape").strip()
        if not text.startswith("{"):
            raise ValueError(f"not a JSON object: {shown(text)}")
        try:
            pairs = self._decode(text)
        except RecursionError as error:
            raise ValueError(f"nested too deeply: {shown(text)}") from error
        cells: list[Any] = [None] * len(self._picks)
        for name, value in pairs:
            at = self._at.get(name.lower())
            if at is not None and value is not None:
                if not isinstance(value, str):
                    raise ValueError(f"{shown(name)}: neither a text nor a number")
                if cells[at] is not None:
                    raise ValueError(f"{shown(name)}: given twice")
                cells[at] = value
        return _parsed(self._picks, [cell or "" for cell in cells])


def _check(found: set[str], columns: Sequence[Column], whose: str) -> None:
    if not found:
        raise FileRefusedError("it is neither JSON lines nor text with a header: " + whose + "names no known column")
    missing = [column.name for column in columns if column.needed and column.name.lower() not in found]
    if missing:
        raise FileRefusedError(f"{whose}lacks {', '.join(missing)}")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"not a number: {text}")
