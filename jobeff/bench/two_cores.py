"""What two processes that share nothing do on this machine, of what one does: the limit of any work on two cores.

Cores of a shared machine are not all there at once: what others do on the same processor takes from its memory, its
cache, and where a core is half of one, from itself.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier

import numpy as np

SECONDS, ROUNDS = 0.5, 5
COPIED_BYTES = 64 << 20

Work = Callable[[], Callable[[], object]]
"""Gets ready, in a process of its own; what it gives is done again and again."""


def gain(one: Sequence[float], two: Sequence[float]) -> float:
    """How many times as much two cores do as one, of measurements by turns.

    Parameters
    ----------
    one, two
        Seconds of the same work with one core and with two, in the order of one, two, one, two and so on.

    Returns
    -------
    float
        Median of all neighbours, for which the machine was most alike. The quickest of either may be of moments that
        were not: one in which both cores are left alone is seldom.
    """
    neighbours = [*zip(one, two, strict=True), *zip(one[1:], two[:-1], strict=True)]
    return statistics.median(alone / together for alone, together in neighbours)


def both(works: Mapping[str, Work]) -> dict[str, float]:
    """Measure how many times as much two processes do, each on a core of its own.

    Parameters
    ----------
    works
        What they do, by name.

    Returns
    -------
    dict
        By name, see `gain`; nothing where there is but one core.
    """
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        return {}
    found = {}
    for name, work in works.items():
        turns = [(_seconds(work, cores[:1]), _seconds(work, cores)) for _ in range(ROUNDS)]
        found[name] = gain(*zip(*turns, strict=True))
    return found


def copying() -> Callable[[], object]:
    """Copy memory, more than a processor's cache has.

    Returns
    -------
    function
        Copies once.
    """
    source = np.ones(COPIED_BYTES, dtype=np.uint8)
    target = source.copy()
    return lambda: np.copyto(target, source)


def _seconds(work: Work, cores: list[int]) -> float:
    """Seconds in which processes on some cores, all of them together, do something once."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(len(cores))
    rates = []
    started = []
    for core in cores:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_count, args=(work, core, barrier, theirs), daemon=True)
        process.start()
        theirs.close()
        started.append((process, ours))
    for process, ours in started:
        rates.append(float(ours.recv()))
        process.join()
    return 1 / sum(rates)


def _count(work: Work, core: int, barrier: Barrier, pipe: Connection) -> None:
    os.sched_setaffinity(0, [core])
    once = work()
    once()
    barrier.wait()
    began, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - began) < SECONDS:
        once()
        done += 1
    pipe.send(done / spent)
