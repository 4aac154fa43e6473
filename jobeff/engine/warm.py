"""Have the kernels compiled, or loaded from numba's cache, before anything is timed or divided among processes.

The types of the arrays are those of real work: a kernel is compiled once for each set of types.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from jobeff.engine import samples
from jobeff.engine.partials import merge, node_parts
from jobeff.store import shards

ROW = b"2013-11-01T09:33:22  1383294802      23.5       0.7           0.0  75.2  72.2\n"
COMPILING_AFTER_S = 1.5
"""Loading the kernels takes less than this; what takes longer is compiling."""


def warm(say: Callable[[str], None] = lambda _: None) -> None:
    """Run every kernel once, on one row.

    Parameters
    ----------
    say
        Told when the kernels have to be compiled, which happens once after installation and takes a while.
    """
    timer = threading.Timer(COMPILING_AFTER_S, say, ["compiling the kernels, once after installation ..."])
    timer.daemon = True
    timer.start()
    try:
        _run()
    finally:
        timer.cancel()


def _run() -> None:
    zero, one = np.array([0]), np.array([1])
    columns, _ = samples.parse(np.frombuffer(ROW, dtype=np.uint8), zero, np.array([len(ROW)]), np.array([False]))
    table = shards.table_of({**columns, "job_id": [1], "offset": [0], "bytes": [len(ROW)], "crc32": [0]})
    start, end = np.array([1383294800]), np.array([1383295100])
    parts = node_parts(shards.samples_of(table), 300, zero, zero, one, start, end)
    merge(parts, 300, zero, start, end, one, one)
