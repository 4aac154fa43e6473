"""What ``sacct --json`` prints, of Slurm 21.08 and later: one document, read job by job.

From version to version a number becomes ``{"set": true, "infinite": false, "number": 7}`` or null, and a state a list;
each is taken wherever it comes. What is not used (exit codes, trackable resources other than processors) may change.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, BinaryIO

from jobeff.clock import Clock
from jobeff.errors import SetAside, shown
from jobeff.names import INT64_MAX
from jobeff.sources.accounting import KIND, NOT_ENDED, AccountingJob, ReadCounts, Records

MAX_VALUE_CHARACTERS = 2**26
"""A job, with all its steps, or another part of a document, that is longer is refused."""

_CHUNK_BYTES = 2**20
_BLANK = " \t\r\n"
_BITMAP = re.compile(r"0x[0-9A-Fa-f]{1,65536}")
_STEPPED_FROM = 10
_CLOSED_ATTEMPT = ("REQUEUED", "RESIZING")


def read(
    stream: BinaryIO, *, cluster: str, clock: Clock, where: str, aside: SetAside, counts: ReadCounts
) -> Iterator[AccountingJob]:
    """Read finished jobs; what cannot be used is set aside, nothing in a document raises.

    Of a document that is damaged or cut, the jobs before that place are read.

    Parameters
    ----------
    stream
        One document, or several one after the other.
    cluster
        Cluster of the jobs that do not name one.
    clock
        Gives the day a job ended.
    where
        Name of the document in messages.
    aside, counts
        Added to while reading.

    Yields
    ------
    AccountingJob
        Jobs that have ended, in the order of the document, also those that never started.
    """
    records, jobs = Records(cluster, clock, counts), _Document(stream)
    number = 0
    try:
        for told in jobs:
            number += 1
            try:
                job = _job(told, records)
            except ValueError as error:
                counts.set_aside += 1
                aside.add(KIND, f"{where}: job {number}", str(error))
                continue
            if job is not None:
                counts.add(job)
                yield job
    except _DamagedError as error:
        counts.set_aside += 1
        aside.add(KIND, f"{where}: after job {number}", f"{error}; what follows is not read")
    for told in jobs.errors:
        counts.set_aside += 1
        aside.add(KIND, where, f"sacct says: {shown(json.dumps(told))}")


class _DamagedError(Exception):
    """From here on a document cannot be read."""


class _Document:
    """The elements of the list ``jobs`` of a document, one by one, with little of it in memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self.errors: list[Any] = []
        self._stream = stream
        # What is no UTF-8 becomes lone surrogates, which may stand in a text; `_clean` escapes them.
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("surrogateescape")
        self._json = json.JSONDecoder(strict=False)
        self._text, self._at, self._ended = "", 0, False

    def __iter__(self) -> Iterator[Any]:
        while self._peek():
            listed = False
            self._take("{")
            for key in self._keys():
                if key == "jobs" and self._peek() == "[":
                    listed = True
                    yield from self._elements()
                elif key == "errors":
                    told = self._value()
                    self.errors += told if isinstance(told, list) else []
                else:
                    self._value()
            if not listed:
                raise _DamagedError("no JSON of sacct: it holds no list of jobs")

    def _keys(self) -> Iterator[Any]:
        while self._peek() != "}":
            key = self._value()
            self._take(":")
            yield key
            self._comma("}")
        self._take("}")

    def _elements(self) -> Iterator[Any]:
        self._take("[")
        while self._peek() != "]":
            yield self._value()
            self._comma("]")
        self._take("]")

    def _comma(self, closing: str) -> None:
        if self._peek() != closing:
            self._take(",")

    def _take(self, wanted: str) -> None:
        found = self._peek()
        if found != wanted:
            what = (
                f"{shown(found)!r} stands where {wanted!r} should" if found else f"it ends where {wanted!r} should be"
            )
            raise _DamagedError(f"no JSON of sacct: {what}")
        self._at += 1

    def _peek(self) -> str:
        """The next character that is not blank; nothing at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in _BLANK:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more(_CHUNK_BYTES):
                return ""

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise _DamagedError("no JSON of sacct: nested too deeply") from error
            except ValueError as error:
                held = len(self._text) - self._at
                if held > MAX_VALUE_CHARACTERS:
                    raise _DamagedError(f"no value ends within {MAX_VALUE_CHARACTERS} characters") from error
                # As much again each time, so that a long value is not tried once per chunk.
                if self._more(max(_CHUNK_BYTES, held)):
                    continue
                raise _DamagedError("no JSON of sacct: it is cut or damaged") from error
            # A number at the end of what was read may go on in what was not.
            if end == len(self._text) and self._more(_CHUNK_BYTES):
                continue
            self._at = end
            return value

    def _more(self, size: int) -> bool:
        """Read on; the part that has been used is dropped."""
        if self._ended:
            return False
        block = self._stream.read(size)
        self._ended = not block
        self._text = self._text[self._at :] + self._decoder.decode(block, final=self._ended)
        self._at = 0
        return not self._ended


def _job(told: Any, records: Records) -> AccountingJob | None:
    """The job of an element; None for one that has not ended. Its steps are counted."""
    if not isinstance(told, dict):
        raise ValueError(f"not a job: {shown(repr(told))}")
    steps = told.get("steps")
    records.counts.steps += len(steps) if isinstance(steps, list) else 0
    end, state = _number(told, "time", "end"), _state(told)
    if not end or state in NOT_ENDED:
        records.counts.running += 1
        return None
    minutes = _number(told, "time", "limit")
    return records.job(
        raw_id=str(_number(told, "job_id") or 0),
        project=_word(told, "account") or _word(told, "association", "account"),
        user=_word(told, "user") or _word(told, "association", "user"),
        start=_start(told, end),
        end=end,
        partition=_word(told, "partition"),
        cores=_cores(told),
        cluster=_word(told, "cluster"),
        nodes=_word(told, "nodes"),
        name=_word(told, "name"),
        state=state,
        submit=_number(told, "time", "submission") or None,
        limit=None if minutes is None else min(60 * minutes, INT64_MAX),
        id_text=_id_text(told),
    )


def _state(told: dict[str, Any]) -> str:
    """A state, of several the one that ``sacct -P`` would print."""
    current = _at(told, "state", "current")
    states = [_clean(state) for state in (current if isinstance(current, list) else [current])]
    closed = [state for state in states if state in _CLOSED_ATTEMPT]
    going_on = [state for state in states if state in NOT_ENDED]
    return [*closed, *going_on, *states, ""][0].split(" ", 1)[0]


def _start(told: dict[str, Any], end: int) -> int | None:
    """When a job started.

    Some versions of Slurm (21.08.8 for one) print when it became eligible in this place; what elapsed tells.
    """
    start, elapsed = _number(told, "time", "start"), _number(told, "time", "elapsed")
    if start and elapsed is not None and start == _number(told, "time", "eligible"):
        began = end - elapsed - (_number(told, "time", "suspended") or 0)
        return began if began > start else start
    return start or None


def _cores(told: dict[str, Any]) -> int:
    """Processors that a job had; of one that never started, that it asked for."""
    allocated = _at(told, "tres", "allocated")
    for resource in allocated if isinstance(allocated, list) else []:
        if isinstance(resource, dict) and resource.get("type") == "cpu":
            return _number(resource, "count") or 0
    cores = _number(told, "required", "CPUs")
    if cores is None:
        raise ValueError("no number of cores")
    return cores


def _id_text(told: dict[str, Any]) -> str | None:
    het, array = _number(told, "het", "job_id"), _number(told, "array", "job_id")
    offset, task = _number(told, "het", "job_offset"), _number(told, "array", "task_id")
    if het and offset is not None:
        return f"{het}+{offset}"
    if array and task is not None:
        return f"{array}_{task}"
    tasks = _tasks(_word(told, "array", "task")) if array else ""
    at_once = _number(told, "array", "limits", "max", "running", "tasks")
    return f"{array}_[{tasks}{f'%{at_once}' if at_once else ''}]" if tasks else None


def _tasks(text: str) -> str:
    """Tasks of an array that never came apart, as ``sacct -P`` prints them: Slurm 22.05 gives a bitmap, ``0x1E``."""
    if _BITMAP.fullmatch(text) is None:
        return text
    tasks = [bit for bit, one in enumerate(f"{int(text, 16):b}"[::-1]) if one == "1"]
    if not tasks:
        return text
    steps = {after - before for before, after in pairwise(tasks)}
    if tasks[-1] - tasks[0] > _STEPPED_FROM and len(steps) == 1 and steps != {1}:
        return f"{tasks[0]}-{tasks[-1]}:{steps.pop()}"
    runs = [[tasks[0], tasks[0]]]
    for task in tasks[1:]:
        if task == runs[-1][1] + 1:
            runs[-1][1] = task
        else:
            runs.append([task, task])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def _at(told: Any, *keys: str) -> Any:
    """What stands at a place of a job, None where there is no such place."""
    for key in keys:
        told = told.get(key) if isinstance(told, dict) else None
    return told


def _number(told: dict[str, Any], *keys: str) -> int | None:
    value = _at(told, *keys)
    if isinstance(value, dict):
        value = value.get("number") if value.get("set", True) and not value.get("infinite") else None
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= INT64_MAX:
        raise ValueError(f"{'.'.join(keys)} is not a number from 0 on: {shown(repr(value))}")
    return value


def _word(told: dict[str, Any], *keys: str) -> str:
    value = _at(told, *keys)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # a user whom the machine does not know is printed as a number
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{'.'.join(keys)} is not a text: {shown(repr(value))}")
    return _clean(value)


def _clean(value: Any) -> str:
    """A text that can be written as UTF-8."""
    text = value if isinstance(value, str) else ""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
