"""Usage flags of whole columns: `jobeff.views.flags` says what each means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jobeff.errors import ConfigError
from jobeff.views import flags

Bools = npt.NDArray[Any]
Int64s = npt.NDArray[Any]
COLUMNS = ("cores", "mem_peak", "mem_limit", "swap_peak", "cores_used_peak", "nodes_seen", "nodes_booked")
"""What they are told by."""


def wanted(names: Sequence[str]) -> tuple[str, ...]:
    """Which flags are meant.

    Parameters
    ----------
    names
        From the command line.

    Returns
    -------
    tuple of str
        Of `flags.FLAGS`.

    Raises
    ------
    ConfigError
        There is no such flag, or none that a job of a report can have.
    """
    found = []
    for name in names:
        flag = flags.known(name)
        if flag is None or flag == flags.NOT_RUN:
            why = "jobs that never ran stand in no report" if flag else "there is no such flag"
            others = ", ".join(one.removeprefix("!!") for one in flags.FLAGS if one != flags.NOT_RUN)
            raise ConfigError(f"cannot select jobs with flag {name!r:.100}", why=why, todo=f"Flags are {others}")
        found.append(flag)
    return tuple(found)


def raised(flag: str, columns: Mapping[str, npt.NDArray[Any]], node_types: Sequence[int]) -> Bools:
    """Which jobs have a flag.

    Parameters
    ----------
    flag
        From `wanted`.
    columns
        By name, each of `COLUMNS`; NaN where a job was not measured.
    node_types
        Of their cluster.

    Returns
    -------
    ndarray of bool
        One per job.
    """
    measured = ~np.isnan(columns["mem_peak"])
    chosen: Bools = measured & _RAISED[flag](_Numbers(columns, node_types))
    return chosen


class _Numbers:
    """As METRICS calls them; memory in hundredths of GiB, 0 where it is not known."""

    def __init__(self, columns: Mapping[str, npt.NDArray[Any]], node_types: Sequence[int]) -> None:
        self.booked, self.used = columns["cores"], columns["cores_used_peak"]
        self.peak, self.limit = (_hundredths(columns[name]) for name in ("mem_peak", "mem_limit"))
        self.nodes_booked, self.nodes_seen = columns["nodes_booked"], columns["nodes_seen"]
        self.swap = columns["swap_peak"]
        self.node_types = np.array(sorted(node_types), dtype=np.int64)

    def cores(self, flag: str = flags.CORES) -> Bools:
        return _below(flag, self.used, self.booked)

    def larger(self, flag: str) -> Bools:
        """The larger of the shares of cores and memory is below a threshold: each of them is."""
        return (self.limit > 0) & self.cores(flag) & _below(flag, self.peak, self.limit)

    def memory(self) -> Bools:
        shown = self.cores() | self.larger(flags.HALF)
        return (self.booked > 1) & _below(flags.MEMORY, self.peak, self.limit) & shown

    def core_memory(self) -> Bools:
        above, below = self.used * self.limit, 10 * np.maximum(self.booked, 1)
        whole, rest = np.divmod(above, below)
        nearest = whole + ((2 * rest > below) | ((2 * rest == below) & (whole % 2 == 1)))
        less = _below(flags.CORE_MEMORY, self.peak, 10 * nearest)
        return (self.booked > 1) & (self.limit > 0) & self.cores() & less

    def node_type(self) -> Bools:
        if len(self.node_types) == 0:
            return np.zeros(len(self.limit), dtype=np.bool_)
        had, needed = (np.searchsorted(100 * self.node_types, value) for value in (self.limit, self.peak))
        differ: Bools = (self.limit > 0) & (np.maximum(had, needed) < len(self.node_types)) & (had != needed)
        return differ


_RAISED: dict[str, Callable[[_Numbers], Bools]] = {
    flags.NODES: lambda n: (n.nodes_seen > 0) & (n.nodes_seen < n.nodes_booked),
    flags.OVERBOOKED: lambda n: n.larger(flags.OVERBOOKED),
    flags.HALF: lambda n: n.larger(flags.HALF),
    flags.SEVERE: lambda n: n.larger(flags.SEVERE),
    flags.SWAP: lambda n: n.swap > 0,
    flags.CORES: _Numbers.cores,
    flags.MEMORY: _Numbers.memory,
    flags.CORE_MEMORY: _Numbers.core_memory,
    flags.NODE_TYPE: _Numbers.node_type,
}


def _hundredths(gib: npt.NDArray[Any]) -> Int64s:
    found: Int64s = np.rint(100 * np.nan_to_num(gib)).astype(np.int64)
    return found


def _below(flag: str, used: Int64s, booked: Int64s) -> Bools:
    share, of = flags.BELOW[flag]
    below: Bools = (booked > 0) & (used * of < share * booked)
    return below
