"""Core seconds of jobs, split at local midnights."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.clock import Clock

BATCH = 32_768
"""Jobs counted together. So many cannot overflow 64 bits: each has less than 2**31 cores, a day less than 2**17 s."""

CHUNK = 100_000
"""Whole days of jobs held in memory at one time."""

EPOCH = date(1970, 1, 1)
CYCLE = 146_097
"""Days of 400 years, after which the calendar, weekdays included, begins again."""

REGULAR_FROM = (date(2500, 1, 1) - EPOCH).days
"""Where time zones have rules only, no list of changes, so that a day begins as the one a cycle before."""

Int64s = npt.NDArray[np.int64]


class Jobs(NamedTuple):
    """Some jobs, one row each: pair of project and cluster (a number), epoch seconds, cores (negative: taken back)."""

    pair: Int64s
    start: Int64s
    end: Int64s
    cores: Int64s


class CoreSeconds(NamedTuple):
    """Core seconds of pairs on days, the latter counted from 1970-01-01; a pair's day can stand in several rows."""

    pair: Int64s
    day: Int64s
    core_s: Int64s


class Days:
    """Where the local days of a time zone begin.

    Parameters
    ----------
    clock
        Of the time zone.
    """

    def __init__(self, clock: Clock) -> None:
        self._begin = lru_cache(maxsize=65_536)(lambda day: clock.day_begin(EPOCH + timedelta(day)))

    def begins(self, first_s: int, last_s: int) -> tuple[int, Int64s]:
        """Begins of all days that some epochs are in, and more.

        Parameters
        ----------
        first_s, last_s
            The epochs.

        Returns
        -------
        int
            The first of these days, counted from 1970-01-01.
        ndarray of int64
            Begin of each, and of the day after the last.
        """
        # A local day is never further than one day from that of UTC.
        first, last = first_s // 86_400 - 2, last_s // 86_400 + 3
        days = np.arange(first, last + 1)
        cycles = -np.minimum(0, (REGULAR_FROM - days) // CYCLE)
        known, at = np.unique(days - cycles * CYCLE, return_inverse=True)
        begins = np.array([self._begin(int(day)) for day in known], dtype=np.int64)
        return first, begins[at] + cycles * CYCLE * 86_400


def split(jobs: Jobs, days: Days) -> Iterator[CoreSeconds]:
    """Split core seconds of jobs at local midnights, exactly.

    Parameters
    ----------
    jobs
        At most `BATCH`.
    days
        Of the time zone.

    Yields
    ------
    CoreSeconds
        In pieces of bounded size, however long the jobs are. Nothing is 0.
    """
    ran = jobs.end > jobs.start
    if not ran.any():
        return
    pair, start, end, cores = (column[ran] for column in jobs)
    base, begins = days.begins(int(start.min()), int(end.max()))
    first = np.searchsorted(begins, start, side="right") - 1
    last = np.searchsorted(begins, end, side="left") - 1
    several = first < last
    after = np.where(several, begins[first + 1], end)  # end of what lies in the first day
    ending = cores[several] * (end - begins[last])[several]
    yield _summed(np.r_[pair, pair[several]], np.r_[first, last[several]], np.r_[cores * (after - start), ending], base)
    whole = first + 1 < last
    yield from _whole_days(pair[whole], first[whole] + 1, last[whole], cores[whole], base, np.diff(begins))


def _summed(pair: Int64s, day: Int64s, core_s: Int64s, base: int) -> CoreSeconds:
    """One row for each pair and day."""
    order = np.lexsort((day, pair))
    pair, day, core_s = pair[order], day[order], core_s[order]
    new = np.flatnonzero(np.r_[True, (pair[1:] != pair[:-1]) | (day[1:] != day[:-1])])
    return CoreSeconds(pair[new], day[new] + base, np.add.reduceat(core_s, new))


def _whole_days(
    pair: Int64s, first: Int64s, after: Int64s, cores: Int64s, base: int, length: Int64s
) -> Iterator[CoreSeconds]:
    """Days that jobs fill from midnight to midnight: from `first`, before `after`.

    A pair's cores change only where a job's days begin or end, so jobs are not expanded into days one by one.
    """
    if not len(pair):
        return
    changes = _summed(np.r_[pair, pair], np.r_[first, after], np.r_[cores, -cores], 0)
    busy = np.cumsum(changes.core_s)  # comes back to 0 with the last change of each pair
    at = np.flatnonzero(busy)
    count = changes.day[at + 1] - changes.day[at]
    after_last = np.cumsum(count)
    for begin in range(0, int(after_last[-1]) if len(at) else 0, CHUNK):
        number = np.arange(begin, min(begin + CHUNK, after_last[-1]))
        span = np.searchsorted(after_last, number, side="right")
        day = changes.day[at[span]] + number - (after_last - count)[span]
        core_s = busy[at[span]] * length[day]
        kept = core_s != 0  # a day that the calendar left out has no length
        yield CoreSeconds(changes.pair[at[span]][kept], day[kept] + base, core_s[kept])
