"""The plan: which jobs are computed on which node, and which nodes go together."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from jobeff.engine.jobs import Jobs

Int64s = npt.NDArray[np.int64]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Attempts:
    """Jobs by node, in order of (node, job_id, start).

    Attributes
    ----------
    node
        Names of the nodes.
    begin
        Shape (nodes + 1,): where the attempts of each node begin in the next ones.
    job, rank
        Shape (attempts,): index of the job, place of the node in its node list.
    """

    node: list[str]
    begin: Int64s
    job: Int64s
    rank: Int64s


def attempts_by_node(jobs: Jobs) -> Attempts:
    """Say which jobs booked which node.

    Parameters
    ----------
    jobs
        At least one.

    Returns
    -------
    Attempts
        One element per job and node.
    """
    import pyarrow.compute as pc  # noqa: PLC0415  (it takes its time, and only who computes needs it)

    lists = pc.split_pattern(jobs.nodes, ",")
    begin = lists.offsets.to_numpy().astype(np.int64)
    job = np.repeat(np.arange(len(begin) - 1), np.diff(begin))
    names = lists.values.dictionary_encode()
    code = np.asarray(names.indices, dtype=np.int64)
    order = _by_node(code, jobs.job_id[job], jobs.start[job])
    node_begin = np.searchsorted(code[order], np.arange(len(names.dictionary) + 1))
    job = job[order]
    return Attempts(names.dictionary.to_pylist(), node_begin, job, order - begin[job])


def _by_node(code: Int64s, job_id: Int64s, start: Int64s) -> Int64s:
    """What sorts by (node, job id, start)."""
    lowest, highest = int(job_id.min()), int(job_id.max())
    if (int(code.max()) + 1) * (highest - lowest + 1) >= 2**63:
        return np.lexsort((start, job_id, code))
    return order_of(code * (highest - lowest + 1) + (job_id - lowest), start)


def order_of(key: Int64s, start: Int64s) -> Int64s:
    """What sorts by a key and then by start.

    Parameters
    ----------
    key, start
        Shape (rows,).

    Returns
    -------
    ndarray of int64
        Indexes.
    """
    order = np.argsort(key)  # of one number, which is several times as quick
    ordered = key[order]
    if np.all(ordered[1:] > ordered[:-1]):
        return order
    return np.lexsort((start, key))


def balanced(items: Sequence[Item], weights: Sequence[int], groups: int) -> list[list[Item]]:
    """Share items out so that the heaviest group is light: the heaviest item first, each to the lightest group.

    Parameters
    ----------
    items, weights
        As many of both.
    groups
        How many at most.

    Returns
    -------
    list of list
        Groups that have an item, the heaviest group first.
    """
    heap: list[tuple[int, int]] = [(0, group) for group in range(max(1, groups))]
    shared: list[list[Item]] = [[] for _ in heap]
    for index in sorted(range(len(items)), key=lambda i: -weights[i]):
        weight, group = heapq.heappop(heap)
        shared[group].append(items[index])
        heapq.heappush(heap, (weight + weights[index], group))
    loads = {group: weight for weight, group in heap}
    return [shared[group] for group in sorted(loads, key=lambda g: -loads[g]) if shared[group]]
