"""How long a job took to get going: cores that wait for input, a licence or each other cost as much as busy ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from jobeff.views.evidence import NodeSamples, slots
from jobeff.views.job import JobView

LEAST_SHARE = 0.1
"""Of the job's time; a shorter start is not worth a word."""

LEAST_INTERVALS = 3
LEAST_LEVEL_PCT = 10.0
"""Percent of one core; a job that never does more has no start to speak of."""


@dataclass(frozen=True)
class SlowStart:
    """A start that took long.

    Attributes
    ----------
    seconds
        From the job's start to the first sampling time at which half of the level was reached.
    level_pct
        75th percentile over sampling times of the mean CPU of its nodes, in percent of one core.
    core_hours
        Booked meanwhile.
    share
        Of the job's time, 0-1.
    """

    seconds: int
    level_pct: float
    core_hours: float
    share: float

    def words(self, cores: float) -> str:
        """In a sentence.

        Parameters
        ----------
        cores
            Booked on each node.

        Returns
        -------
        str
            Without a full stop.
        """
        hours, minutes = divmod(self.seconds // 60, 60)
        level = self.level_pct / cores if cores else 0
        return (
            f"slow: {hours:02}:{minutes:02} h passed ({100 * self.share:.0f} % of its time, "
            f"{self.core_hours:,.1f} core hours) until it was half as busy as later ({level:.0f} % of the booked cores)"
        )


def of_job(view: JobView, nodes: Sequence[NodeSamples]) -> SlowStart | None:
    """See whether a job was slow to start.

    Parameters
    ----------
    view
        The job.
    nodes
        From `jobeff.views.evidence.of_job`.

    Returns
    -------
    SlowStart or None
        None where it was not, or where the samples of its start are missing.
    """
    seen = [node for node in nodes if node.rows]
    if not seen or min(node.rows[0].time for node in seen) > view.start + 2 * view.interval:
        return None
    loads: dict[int, list[float]] = {}
    times: dict[int, int] = {}
    for node in seen:
        for slot, row in zip(slots(view, node.rows), node.rows, strict=True):
            loads.setdefault(slot, []).append(row.cpu_pct)
            times[slot] = min(row.time, times.get(slot, row.time))
    means = {slot: fmean(some) for slot, some in sorted(loads.items())}
    level = sorted(means.values())[3 * (len(means) - 1) // 4]
    going = next(slot for slot, mean in means.items() if 2 * mean >= level)
    seconds, length = times[going] - view.start, view.end - view.start
    if level < LEAST_LEVEL_PCT or seconds < max(LEAST_INTERVALS * view.interval, LEAST_SHARE * length):
        return None
    return SlowStart(seconds, level, view.accounting["cores"] * seconds / 3600, seconds / length)
