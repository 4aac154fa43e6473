"""Which jobs a report is of, and their columns, month by month."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from jobeff.config import Config
from jobeff.errors import ConfigError, shown
from jobeff.progress import Progress
from jobeff.steps import columns
from jobeff.store.columns import NAMES
from jobeff.views import report_flags

CLOSE_NAMES = 5
REPORTED = ("project", "user", "cluster", "state")
"""What a report has lines of, so that it shows which there are."""
_NAMED = {"project": "projects", "user": "users", "state": "states"}


@dataclass(frozen=True)
class Selection:
    """Jobs that started, and ended within some days.

    Attributes
    ----------
    since, until
        First and last local day; None for any.
    clusters, projects, users, states
        A job is of one of these; empty for any.
    flags
        A job has all of these, of `jobeff.views.flags.FLAGS`.
    """

    since: date | None = None
    until: date | None = None
    clusters: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.since and self.until and self.since > self.until:
            raise ConfigError(
                "no day is in this time",
                why=f"it begins on {self.since}, after its end on {self.until}",
                todo="Swap --since and --until",
            )

    def wants(self, cluster: str, month: str) -> bool:
        """Whether a month can have such jobs."""
        since, until = (day.isoformat()[:7] if day else "" for day in (self.since, self.until))
        return since <= month <= (until or "9999-99") and (not self.clusters or cluster in self.clusters)

    def of(self) -> str:
        """Whose jobs, to stand behind 'job'; with a blank before it."""
        asked = (
            ("of project", self.projects), ("of user", self.users), ("of cluster", self.clusters),
            ("in state", self.states),
        )  # fmt: skip
        said = [f"{what} {' or '.join(map(shown, names))}" for what, names in asked if names]
        said += [f"with flag {' and '.join(map(shown, self.flags))}"] if self.flags else []
        return "".join(f" {words}" for words in said)

    def __str__(self) -> str:
        if not (self.since or self.until):
            return "ever"
        return " ".join(f"{word} {day}" for word, day in (("since", self.since), ("until", self.until)) if day)


@dataclass
class Part:
    """Those jobs of a month that are selected.

    Attributes
    ----------
    cluster, month
        Of which they are.
    """

    cluster: str
    month: str
    _table: Any
    _rows: npt.NDArray[np.int64] | None
    _numbers: dict[str, npt.NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self._table.num_rows if self._rows is None else len(self._rows)

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """A column of numbers; of texts, their places in `texts`."""
        if name not in self._numbers:
            column = _whole(self._table, name)
            values = np.asarray(column.indices if name in NAMES else column)
            self._numbers[name] = values if self._rows is None else values[self._rows]
        return self._numbers[name]

    def at(self, rows: npt.NDArray[np.int64]) -> Part:
        """Some of its jobs."""
        return Part(self.cluster, self.month, self._table, rows if self._rows is None else self._rows[rows])

    def texts(self, name: str) -> Any:
        """The texts of a column, each once, also those of jobs that are not selected."""
        return _whole(self._table, name).dictionary


def _whole(table: Any, name: str) -> Any:
    """A column in one piece."""
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def days(config: Config, selection: Selection, progress: Progress) -> Iterator[Part]:
    """Read what the selected jobs add up to, by day, project and user.

    Parameters
    ----------
    config, progress
        As for `parts`.
    selection
        Of days, projects and users alone.

    Yields
    ------
    Part
        A month each, with `jobeff.store.columns.DAYS`.

    Raises
    ------
    ConfigError
        As `parts`.
    """
    months = columns.months(config, selection.wants, progress)
    yield from _selected(config, selection, _ahead(months, columns.Month.days))


def parts(config: Config, selection: Selection, names: Sequence[str], progress: Progress) -> Iterator[Part]:
    """Read the selected jobs.

    Parameters
    ----------
    config, selection
        Of the site; which jobs.
    names
        Columns that will be used.
    progress
        Of making columns ready first.

    Yields
    ------
    Part
        A month each; without those in which none is selected.

    Raises
    ------
    ConfigError
        A cluster, project, user or state that was named has no job in this time; close names are said.
    """
    months = columns.months(config, selection.wants, progress)
    needed = {*names, *(name for name, wanted in _wanted(selection).items() if wanted), "core_s"}
    needed.update(("day",) if selection.since or selection.until else ())
    needed.update(report_flags.COLUMNS if selection.flags else ())
    if selection.clusters:
        _check("cluster", selection.clusters, [month.cluster for month in months], {*_clusters(config)}, selection)
    yield from _selected(config, selection, _ahead(months, lambda month: month.read(sorted(needed))))


def _wanted(selection: Selection) -> dict[str, tuple[str, ...]]:
    """Names that are asked for, by column."""
    return dict(zip(_NAMED, (selection.projects, selection.users, selection.states), strict=True))


def _selected(config: Config, selection: Selection, tables: Iterator[tuple[columns.Month, Any]]) -> Iterator[Part]:
    """Those rows of months that are selected; refuses names that have none."""
    seekers = [_Seeker(name, wanted) for name, wanted in _wanted(selection).items() if wanted]
    for month, table in tables:
        part = Part(month.cluster, month.name, table, None)
        chosen = _chosen(config, selection, seekers, part)
        if chosen is not None:
            part = part.at(np.flatnonzero(chosen))
        if len(part):
            yield part
    for seeker in seekers:
        _check(seeker.name, seeker.wanted, seeker.found, seeker.known, selection)


def _ahead(
    months: Sequence[columns.Month], read: Callable[[columns.Month], Any]
) -> Iterator[tuple[columns.Month, Any]]:
    """The columns of each month; one is read while the one before is worked on."""
    with ThreadPoolExecutor(1) as thread:
        coming = [thread.submit(read, month) for month in months[:1]]
        for month, after in zip_longest(months, months[1:]):
            table = coming.pop().result()
            if after is not None:
                coming.append(thread.submit(read, after))
            yield month, table


def _clusters(config: Config) -> Iterator[str]:
    yield from config.clusters
    yield from (cluster for cluster, _ in columns.keys(config))


def _chosen(
    config: Config, selection: Selection, seekers: Sequence[_Seeker], part: Part
) -> npt.NDArray[np.bool_] | None:
    """Which rows are selected; None for all."""
    conditions = [seeker.chosen(part) for seeker in seekers]
    for day, after in ((selection.since, True), (selection.until, False)):
        if day and day.isoformat()[:7] == part.month:
            conditions.append(part.numbers("day") >= day.day if after else part.numbers("day") <= day.day)
    if selection.flags:
        numbers = {name: part.numbers(name) for name in report_flags.COLUMNS}
        node_types = config.node_types(part.cluster)
        conditions += [report_flags.raised(flag, numbers, node_types) for flag in selection.flags]
    return np.logical_and.reduce(conditions) if conditions else None


class _Seeker:
    """Chooses the jobs that have one of some names, and remembers which names there are."""

    def __init__(self, name: str, wanted: Sequence[str]) -> None:
        self.name, self.wanted = name, wanted
        self.known: set[str] = set()
        self.found: set[str] = set()

    def chosen(self, part: Part) -> npt.NDArray[np.bool_]:
        texts = part.texts(self.name).to_pylist()
        self.known.update(texts)
        self.found.update(set(texts).intersection(self.wanted))
        wanted = np.array([text in self.wanted for text in texts], dtype=np.bool_)
        chosen: npt.NDArray[np.bool_] = wanted[part.numbers(self.name)]
        return chosen


def _check(
    what: str, wanted: Sequence[str], found: Sequence[str] | set[str], known: set[str], selection: Selection
) -> None:
    """Refuse a name that no job has."""
    for name in wanted:
        if name not in found:
            lower = {other.lower(): other for other in known}
            close = [lower[one] for one in difflib.get_close_matches(name.lower(), list(lower), CLOSE_NAMES)]
            which = ", ".join(map(shown, close))
            todo = f"Did you mean {which}?" if close and close != [name] else "Look at the time and the spelling"
            if what in REPORTED and not close:
                todo = f"Look at the time and the spelling; 'jobeff report {what}' shows those that have some"
            if what == "cluster" and not close:
                todo = f"There is {', '.join(sorted(map(shown, known)))}"
            why = (
                f"no job of {what} {shown(name)} ended {selection}"
                if str(selection) != "ever"
                else (f"accounting knows no job of {what} {shown(name)}")
            )
            raise ConfigError("there is nothing to report", why=why, todo=todo)
