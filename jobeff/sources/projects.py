"""Projects: paragraphs of ``Key: value``, or a JSON object keyed by project.

In a paragraph a line that begins with a blank goes on with the value before, and lines that begin with ``#`` are
comments. A second name begins another project, also where the blank line between them is missing.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, NamedTuple

from jobeff.errors import SetAside, shown
from jobeff.names import is_project
from jobeff.sources import values
from jobeff.sources.accounting import BOM, MAX_LINE_BYTES, LogLines
from jobeff.sources.records import first_line

KIND, VALUE, LINE, FILE = "project", "project value", "project line", "project file"
MAX_JSON_BYTES = 2**26
DATES = {"start", "end"}

_KEY = re.compile(r"\s*([^\s:][^:]{0,99}?)\s*:(.*)", re.DOTALL)


class Project(NamedTuple):
    """A project: a row of ``projects/projects``, and how sure its dates are.

    Dates are ISO. None stands for what the file does not say, and for what it says in a way that cannot be used;
    `sure` says whether both dates could be read, where there are any.
    """

    proj_id: str
    start: str | None
    end: str | None
    pi: str | None
    deputy: str | None
    technical: str | None
    members: str | None
    type: str | None
    mail: str | None
    sure: bool

    def active(self, today: str) -> bool:
        """Whether the project is known to run on a day; where it has no end, it goes on.

        Parameters
        ----------
        today
            ISO date.

        Returns
        -------
        bool
            False where a date cannot be read.
        """
        return self.sure and (self.start or today) <= today <= (self.end or today)


@dataclass
class Found:
    """What has been read of one or more files.

    Attributes
    ----------
    projects
        By name; of two that differ, the later.
    doubt
        Why there may be projects in the files that could not be read; empty where there is no doubt.
    """

    projects: dict[str, Project] = field(default_factory=dict)
    doubt: str = ""


def read(stream: BinaryIO, keys: Mapping[str, str], *, where: str, aside: SetAside, found: Found) -> None:
    """Read projects; what cannot be used is set aside, nothing in a file raises.

    Parameters
    ----------
    stream
        The file, at its beginning.
    keys
        Key of each column, as in `jobeff.config.PROJECT_KEYS`; a file may write them in any case.
    where
        Name of the file in messages.
    aside, found
        Added to while reading.
    """
    reader = _Reader(keys, where, aside, found)
    first = first_line(stream) or b""
    stream.seek(0)
    try:
        if first.removeprefix(BOM).lstrip().startswith(b"{"):
            read = sum(map(reader.take, reader.objects(_parsed(stream.read(MAX_JSON_BYTES + 1)))))
        else:
            lines = LogLines(stream)
            read = sum(map(reader.take, reader.paragraphs(lines)))
            if lines.offset != stream.tell():
                found.doubt = found.doubt or f"{where} ends without a newline, as if it were cut"
        if not read:
            raise _FileError("there is no project in it; what was known before stays as it is")
    except _FileError as error:
        aside.add(FILE, where, str(error))
        found.doubt = found.doubt or f"{where} cannot be used"


class _FileError(Exception):
    """A file as a whole cannot be used."""


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a project that stands twice is seen."""


def _parsed(content: bytes) -> _Object:
    if len(content) > MAX_JSON_BYTES:
        raise _FileError(f"it is longer than {MAX_JSON_BYTES} bytes")
    text = content.removeprefix(BOM).decode("utf-8", "surrogateescape")
    try:
        # What is neither object, list nor text stays the text it is, so that only what we look for has to be right.
        found = json.loads(text, object_pairs_hook=_Object, parse_int=str, parse_float=str, parse_constant=str)
    except ValueError as error:
        raise _FileError(f"no JSON object of projects: {error}") from error
    except RecursionError as error:
        raise _FileError("no JSON object of projects: nested too deeply") from error
    return _Object(found)


class _Project:
    """What a file says of one project."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.damage = ""
        self.pieces: dict[str, list[str]] = {}
        self.wrong: dict[str, str] = {}
        self.last: Iterable[str] = ()
        self._lengths: Counter[str] = Counter()

    def add(self, columns: Iterable[str], text: str) -> None:
        """Take the value of a key; members whose key comes again add up, all else has to be the same again."""
        self.last = columns
        text = " ".join(text.split())
        for column in columns:
            if column == "members" or column not in self.pieces:
                self._put(column, text)
            elif column not in self.wrong and (before := self.text(column)) != text:
                self.wrong[column] = f"it is given twice: {shown(before)}, {shown(text)}"

    def go_on(self, text: str) -> None:
        """Take more of the last key's value."""
        for column in self.last:
            self._put(column, " ".join(text.split()))

    def _put(self, column: str, text: str) -> None:
        self._lengths[column] += len(text) + 1
        if self._lengths[column] <= 2 * MAX_LINE_BYTES:
            self.pieces.setdefault(column, []).append(text)
        else:
            self.wrong[column] = f"all its lines together are longer than {2 * MAX_LINE_BYTES} characters"

    def text(self, column: str) -> str:
        """All that is said of a column."""
        return " ".join(filter(None, self.pieces.get(column, ())))


class _Reader:
    def __init__(self, keys: Mapping[str, str], where: str, aside: SetAside, found: Found) -> None:
        self._columns: dict[str, tuple[str, ...]] = {}
        for column, key in keys.items():
            self._columns[key.casefold()] = (*self._columns.get(key.casefold(), ()), column)
        self._where, self._aside, self._found = where, aside, found

    def paragraphs(self, lines: LogLines) -> Iterator[_Project]:
        """Put lines together to projects."""
        project = None
        for number, line in lines:
            text = (line.removeprefix(BOM) if number == 1 else line).decode("utf-8", "backslashreplace")
            if not text.strip():
                if project is not None:
                    yield project
                project = None
            elif project is not None and text[0] in " \t":
                project.go_on(text)
                self._look_over(project, line, number)
            elif not text.startswith("#"):
                match = _KEY.match(text)
                columns = self._columns.get(match[1].casefold(), ()) if match else ()
                if project is not None and "proj_id" in columns and "proj_id" in project.pieces:
                    yield project
                    project = None
                project = project or _Project(f"{self._where}:{number}")
                project.add(columns, match[2] if match else "")
                if not match and "\0" not in text:
                    why = f"neither 'Key: value' nor, after a blank, more of the line before: {shown(text)}"
                    self._aside.add(LINE, f"{self._where}:{number}", why)
                self._look_over(project, line, number)
        if project is not None:
            yield project

    def _look_over(self, project: _Project, line: bytes, number: int) -> None:
        """Find damage: where bytes were lost, a line may belong to another project than the lines before it."""
        if b"\0" in line:
            project.damage = f"line {number} holds a NUL"
        if len(line) > MAX_LINE_BYTES:
            why = f"line {number} is longer than {MAX_LINE_BYTES} bytes"
            project.wrong.update(dict.fromkeys(project.last, why))
            if not project.last:
                self._aside.add(LINE, f"{self._where}:{number}", why)

    def objects(self, pairs: _Object) -> Iterator[_Project]:
        """Take apart a JSON object of projects."""
        for name, about in pairs:
            project = _Project(f"{self._where}: {shown(name)}")
            project.add(("proj_id",), name)
            if isinstance(about, _Object):
                self._about(project, about)
            else:
                project.damage = "not a JSON object"
            yield project

    def _about(self, project: _Project, about: _Object) -> None:
        for key, value in about:
            columns = [column for column in self._columns.get(key.casefold(), ()) if column != "proj_id"]
            listed = value if type(value) is list else [] if value is None else [value]
            if all(isinstance(one, str) for one in listed):
                project.add(columns, " ".join(listed))
            else:
                project.wrong.update(dict.fromkeys(columns, "neither a text nor a list of texts"))

    def take(self, project: _Project) -> bool:
        """Make a row of what was read of a project; whether that could be."""
        name = project.text("proj_id")
        why = project.damage or project.wrong.get("proj_id", "")
        if not why and not is_project(name):
            why = f"not a name of a project: {shown(name)}" if name else "it has no name"
        if why:
            self._aside.add(KIND, project.where, why)
            self._found.doubt = self._found.doubt or f"a project at {project.where} cannot be read"
            return False
        row = {column: self._value(project, column) for column in Project._fields if column not in {"proj_id", "sure"}}
        new = Project(proj_id=name, **row, sure=DATES.isdisjoint(project.wrong))
        for column, why in project.wrong.items():
            self._aside.add(VALUE, project.where, f"{column} of {shown(name)}: {why}")
        if self._found.projects.get(name, new) != new:
            self._aside.add(KIND, project.where, f"{name} stands twice, and not the same; the later counts")
        self._found.projects[name] = new
        return True

    def _value(self, project: _Project, column: str) -> str | None:
        if column in project.wrong:
            return None
        try:
            text = values.words(project.text(column))
            return values.day(text) if text and column in DATES else text
        except ValueError as error:
            project.wrong[column] = str(error)
            return None
