"""How much of what they had booked jobs used: the larger of their shares of cores and memory, at most all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Used:
    """What some jobs booked and used.

    Parameters
    ----------
    core_s
        Booked core seconds, shape (jobs,).
    cpu_mean, mem_peak, mem_limit
        Percent, and GiB; NaN where a job was not measured, `mem_limit` also where it is unknown.

    Attributes
    ----------
    core_s
        As given.
    measured
        Indexes of the jobs with samples; the next ones are of these.
    booked, cpu, memory, efficiency
        Core seconds; shares of cores and memory used, the latter NaN where the limit is unknown; the larger of the
        two, at most 1.
    """

    def __init__(self, core_s: Floats, cpu_mean: Floats, mem_peak: Floats, mem_limit: Floats) -> None:
        self.core_s = core_s
        seen = ~np.isnan(cpu_mean)
        self.measured = slice(None) if seen.all() else np.flatnonzero(seen)
        self.booked: Floats = self.core_s[self.measured]
        self.cpu: Floats = cpu_mean[self.measured] / 100
        self.memory: Floats = mem_peak[self.measured] / mem_limit[self.measured]
        self.efficiency: Floats = np.minimum(np.fmax(self.cpu, self.memory), 1)
