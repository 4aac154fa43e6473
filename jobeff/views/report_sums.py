"""Sums, means and percentiles of jobs by group, month by month; the same whatever the months hold else.

Memory: a few bytes per group, and 14 per measured job for the percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobeff.steps.used import Floats, Used
from jobeff.views.report_select import Part

Int64s = npt.NDArray[np.int64]
COLUMNS = ("core_s", "cpu_mean", "mem_peak", "mem_limit")
"""What the sums are made of."""

PERCENTILES = (25, 50, 75)
FINEST = 10_000
"""Percentiles are of efficiencies in hundredths of a percent, so that they and their group fit into one number."""

_BITS = FINEST.bit_length()
_SUMS = ("jobs", "measured", "core_s", "measured_core_s", "cpu", "memory", "memory_core_s", "used_core_s")


class Jobs(Used):
    """How much of what they had booked the jobs of a part used.

    Parameters
    ----------
    part
        With `COLUMNS`.
    """

    def __init__(self, part: Part) -> None:
        super().__init__(*(part.numbers(name) for name in COLUMNS))


class Sums:
    """Adds up jobs by group; a group is a text, within a period where there are periods."""

    def __init__(self) -> None:
        self._labels: list[pa.Array] = []
        self._periods: list[list[str]] = []
        self._sums: list[Floats] = []
        self._group_of_job: list[npt.NDArray[np.uint32]] = []
        self._efficiency: list[npt.NDArray[np.uint16]] = []

    def add(self, jobs: Jobs, group: Int64s, labels: pa.Array, periods: Sequence[str] = ("",)) -> None:
        """Add the jobs of a part.

        Parameters
        ----------
        jobs
            Their numbers.
        group
            Shape (jobs,): place of its label, plus the number of labels times the place of its period.
        labels, periods
            Of groups; more of them than groups do no harm.
        """
        counts = np.bincount(group, minlength=1)
        present = np.flatnonzero(counts)
        if not len(present):
            return
        seen = group[jobs.measured]

        def total(weights: Floats | None, of: Int64s = seen) -> Floats:
            return np.bincount(of, weights, len(counts))[present].astype(np.float64)

        known = jobs.booked if not np.isnan(jobs.memory).any() else np.where(np.isnan(jobs.memory), 0.0, jobs.booked)
        whole = len(seen) == len(group)
        booked = total(jobs.booked)
        self._sums.append(
            np.array(
                [
                    counts[present],
                    counts[present] if whole else total(None),
                    booked if whole else total(jobs.core_s, group),
                    booked,
                    total(jobs.cpu * jobs.booked),
                    total(np.nan_to_num(jobs.memory) * known),
                    booked if known is jobs.booked else total(known),
                    total(jobs.efficiency * jobs.booked),
                ]
            )
        )
        self._labels.append(labels.take(pa.array(present % len(labels))))
        self._periods.append([periods[i] for i in (present // len(labels)).tolist()])
        place = np.zeros(len(counts), dtype=np.uint32)
        place[present] = np.arange(len(present))
        self._group_of_job.append(place[seen])
        self._efficiency.append(np.rint(jobs.efficiency * FINEST).astype(np.uint16))

    def finish(self) -> dict[str, Any]:
        """The groups.

        Returns
        -------
        dict
            By name, one element per group in no order: ``label`` (Arrow), ``period`` (list), and arrays: counts, sums
            of core hours, and of measured jobs, NaN where there are none: means weighted by core hours, percentiles.
        """
        if not self._sums:
            return self._columns(pa.array([], pa.string()), [], np.zeros((len(_SUMS), 0)), np.zeros((3, 0)))
        labels = pa.chunked_array(self._labels).combine_chunks().dictionary_encode()
        names = sorted({name for some in self._periods for name in some})
        number = {name: i for i, name in enumerate(names)}
        period = np.array([number[name] for some in self._periods for name in some], dtype=np.int64)
        code = period * len(labels.dictionary) + np.asarray(labels.indices, dtype=np.int64)
        groups, place = np.unique(code, return_inverse=True)
        parts = np.concatenate(self._sums, axis=1)
        sums = np.array([np.bincount(place, one, len(groups)) for one in parts])
        quartiles = self._percentiles(place, sums[_SUMS.index("measured")].astype(np.int64))
        found = labels.dictionary.take(pa.array(groups % len(labels.dictionary)))
        return self._columns(found, [names[i] for i in groups // len(labels.dictionary)], sums, quartiles)

    def _percentiles(self, place: Int64s, measured: Int64s) -> Floats:
        """Shape (percentiles, groups): of the efficiencies, linear interpolation, percent."""
        kind: Any = np.uint32 if len(measured) << _BITS < 1 << 32 else np.uint64
        values: npt.NDArray[Any] = np.empty(int(measured.sum()), dtype=kind)
        first = begin = 0
        for local, efficiency, sums in zip(self._group_of_job, self._efficiency, self._sums, strict=True):
            of_part = place[begin : begin + sums.shape[1]].astype(kind) << kind(_BITS)
            values[first : first + len(local)] = of_part[local] | efficiency
            first, begin = first + len(local), begin + sums.shape[1]
        values.sort()  # by group, and within it by efficiency
        values &= kind((1 << _BITS) - 1)
        ends = np.cumsum(measured)
        found = np.full((len(PERCENTILES), len(measured)), np.nan)
        some = np.flatnonzero(measured)
        for row, percentile in enumerate(PERCENTILES):
            rank = (measured[some] - 1) * (percentile / 100)
            low = np.floor(rank).astype(np.int64)
            high = np.minimum(low + 1, measured[some] - 1)
            below, above = (values[(ends - measured)[some] + one].astype(np.float64) for one in (low, high))
            found[row, some] = (below + (above - below) * (rank - low)) * 100 / FINEST
        return found

    @staticmethod
    def _columns(labels: pa.Array, periods: list[str], sums: Floats, quartiles: Floats) -> dict[str, Any]:
        jobs, measured, core_s, measured_core_s, cpu, memory, memory_core_s, used = sums

        def share(of: Floats, booked: Floats) -> Floats:
            found = np.full(len(of), np.nan)
            np.divide(100 * of, booked, out=found, where=booked > 0)
            return found

        return {
            "label": labels,
            "period": periods,
            "jobs": jobs.astype(np.int64),
            "measured": measured.astype(np.int64),
            "core_hours": core_s / 3600,
            "measured_core_hours": measured_core_s / 3600,
            "cpu_pct": share(cpu, measured_core_s),
            "memory_pct": share(memory, memory_core_s),
            "efficiency_pct": share(used, measured_core_s),
            **{f"efficiency_p{name}": row for name, row in zip(PERCENTILES, quartiles, strict=True)},
            # Rounding must not make it less than nothing.
            "wasted_core_hours": np.where(measured > 0, np.maximum(measured_core_s - used, 0) / 3600, np.nan),
        }
