"""Synthetic usage of one job on one node: typed samples, and the text a node would have printed of them.

Everything is an integer of tenths, because the files print one decimal; so what a file says is known exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from jobeff.clock import Clock

INTERVAL_S = 300
"""Seconds between two samples."""

NO_READING = -1
"""In `Samples.max_used`: there is no reading."""

Integers = npt.NDArray[np.int64]
Percents = npt.NDArray[np.float64]

_TITLE = " Individual_core_busy_percentages->->->"
HEADERS = {
    False: f"{'LOCALTIME':>19}{'TIME':>12}{'GB_LIMIT':>10}{'GB_USED':>10}{'GB_SWAP_USED':>14}{_TITLE}",
    True: f"{'LOCALTIME':>19}{'TIME':>12}{'GB_LIMIT':>10}{'GB_USED':>10}{'GB_MAX_USED':>14}"
    f"{'GB_SWAP_USED':>14}{'PAGE_IN':>12}{'PAGE_OUT':>12}{_TITLE}",
}
"""First line of a file; the key says whether it has the extended form."""


@dataclass(frozen=True)
class Samples:
    """Samples of one job on one node, in order of time.

    Attributes
    ----------
    time
        Shape (n,), epoch seconds.
    limit, used, max_used, swap
        Shape (n,), tenths of GiB; `max_used` is `NO_READING` where absent.
    cores
        Shape (n, cores), tenths of a percent, 0 to 1000.
    """

    time: Integers
    limit: Integers
    used: Integers
    max_used: Integers
    swap: Integers
    cores: Integers

    def where(self, mask: npt.NDArray[np.bool_]) -> Samples:
        """Choose samples.

        Parameters
        ----------
        mask
            Shape (n,), True for those to keep.

        Returns
        -------
        Samples
            A copy.
        """
        return Samples(*(column[mask] for column in self._columns()))

    @staticmethod
    def join(parts: Sequence[Samples]) -> Samples:
        """Put samples of the same node, and the same number of cores, one after the other.

        Parameters
        ----------
        parts
            At least one, in order of time.

        Returns
        -------
        Samples
            A copy.
        """
        return Samples(*(np.concatenate(c) for c in zip(*(p._columns() for p in parts), strict=True)))

    def _columns(self) -> tuple[Integers, ...]:
        return self.time, self.limit, self.used, self.max_used, self.swap, self.cores


def sample_times(rng: np.random.Generator, start: int, end: int) -> Integers:
    """When a node looked at a job: each interval, first at any moment of its first one.

    Parameters
    ----------
    rng
        Source of the phase, and of the second that some samples come early or late.
    start, end
        Epoch seconds.

    Returns
    -------
    ndarray
        Shape (n,), increasing epoch seconds within start and end; at least one if the job ran an interval.
    """
    times = np.arange(start + int(rng.integers(INTERVAL_S)), end + 1, INTERVAL_S, dtype=np.int64)
    early_or_late = rng.integers(-1, 2, len(times)) * (rng.random(len(times)) < 0.2)
    seen: Integers = np.clip(times + early_or_late, start, end)
    return seen


# How busy the cores are, percent, shape (rows, cores)


def _full(rng: np.random.Generator, rows: int, cores: int) -> Percents:
    return 100.5 - rng.exponential(1.0, (rows, cores))


def _idle(rng: np.random.Generator, rows: int, cores: int) -> Percents:
    return rng.exponential(0.5, (rows, cores))


def _single(rng: np.random.Generator, rows: int, cores: int) -> Percents:
    busy = _idle(rng, rows, cores)
    busy[:, rng.integers(cores)] = 100.2 - rng.exponential(1.0, rows)
    return busy


def _ramp(rng: np.random.Generator, rows: int, cores: int) -> Percents:
    return np.linspace(0, 100, rows)[:, None] + rng.normal(0, 4, (rows, cores))


def _phases(rng: np.random.Generator, rows: int, cores: int) -> Percents:
    serial = (np.arange(rows) // int(rng.integers(2, 12))) % 2 == 1
    return np.where(serial[:, None], _single(rng, rows, cores), _full(rng, rows, cores))


def _input_output(rng: np.random.Generator, rows: int, cores: int) -> Percents:
    return 100 * rng.beta(0.5, 1.2, (rows, cores))


_SHAPES: dict[str, Callable[[np.random.Generator, int, int], Percents]] = {
    "full": _full,
    "single": _single,
    "leak": _full,
    "phases": _phases,
    "input_output": _input_output,
    "idle": _idle,
    "ramp": _ramp,
}
SHAPES = (
    "full",
    "single",
    "full",
    "input_output",
    "full",
    "phases",
    "leak",
    "full",
    "single",
    "ramp",
    "full",
    "idle",
)
"""Names for `usage`, as often as they shall occur."""


def usage(
    rng: np.random.Generator, shape: str, times: Integers, *, cores: int, limit: int, out_of_memory: bool
) -> Samples:
    """Make up what a job used.

    Parameters
    ----------
    rng
        Source of the noise.
    shape
        One of `SHAPES`.
    times
        Shape (n,), from `sample_times`.
    cores
        Cores of the job on this node.
    limit
        Memory that the job may use here, tenths of GiB.
    out_of_memory
        Memory rises until the limit is reached, whatever the shape.

    Returns
    -------
    Samples
        One per time.
    """
    rows = len(times)
    rising = out_of_memory or shape == "leak"
    if rising:
        memory = np.linspace(0.05, 1.0 if out_of_memory else rng.uniform(0.6, 0.95), rows)
    else:
        memory = rng.uniform(0.02, 0.8) * (1 - np.exp(-np.arange(1, rows + 1) / 2)) + rng.normal(0, 0.005, rows)
    used = _tenths(memory * limit / 10, limit)
    # the largest since the last sample, not since the start: it goes down again
    largest = _tenths(used * (1 + rng.exponential(0.04, rows)) / 10, limit)
    swaps = rising and rng.random() < 0.3
    swap = _tenths(np.linspace(-6, 2, rows) if swaps else np.zeros(rows), limit)
    busy = _tenths(_SHAPES[shape](rng, rows, cores), 1000)
    return Samples(times, np.full(rows, limit, np.int64), used, largest, swap, busy)


def _tenths(values: Percents, largest: int) -> Integers:
    return np.rint(np.clip(values * 10, 0, largest)).astype(np.int64)


# Text


@lru_cache(maxsize=256)
def _layout(extended: bool, cores: int) -> str:
    memory = "%10.1f%10.1f%14.1f%14.1f%12d%12d" if extended else "%10.1f%10.1f%14.1f"
    return "%s%12d" + memory + "%6.1f" * cores


def rows_text(samples: Samples, extended: bool, clock: Clock) -> list[str]:
    """Print samples as a node does.

    Parameters
    ----------
    samples
        At least one.
    extended
        In the extended form.
    clock
        Of the site, for LOCALTIME.

    Returns
    -------
    list of str
        Rows without their newline.
    """
    layout = _layout(extended, samples.cores.shape[1])
    columns = [samples.time, samples.limit / 10, samples.used / 10]
    if extended:
        # what is read in and written out is of no account here, it only has to be there and to vary
        page_in, page_out = samples.time * 7919 % 65_537, samples.time * 104_729 % 9_973
        columns += [samples.max_used / 10, samples.swap / 10, page_in, page_out]
    else:
        columns.append(samples.swap / 10)
    table = np.column_stack([*columns, samples.cores / 10]).tolist()
    return [layout % (stamp, *row) for stamp, row in zip(_local_times(samples.time, clock), table, strict=True)]


def _local_times(times: Integers, clock: Clock) -> list[str]:
    first, last = clock.offset_s(int(times[0])), clock.offset_s(int(times[-1]))
    same = first == last and times[-1] - times[0] < 30 * 86_400
    offsets = first if same else np.array([clock.offset_s(time) for time in times.tolist()], dtype=np.int64)
    stamps: list[str] = np.datetime_as_string((times + offsets).astype("datetime64[s]")).tolist()
    return stamps
