"""The plan: which jobs are computed on which node, and which nodes go together."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Int64s = npt.NDArray[np.int64]
Item = TypeVar("Item")


@dataclass(frozen=True)
class Jobs:
    """Jobs of one cluster and month, and others that share an id with them.

    Attributes
    ----------
    job_id, start, end, cores
        Shape (jobs,): id, epochs, cores booked.
    wanted
        Shape (jobs,): whether to compute it; one that is not wanted only claims its rows.
    nodes
        Shape (jobs,): node list, expanded, joined by commas, no name twice.
    """

    job_id: Int64s
    start: Int64s
    end: Int64s
    cores: Int64s
    wanted: npt.NDArray[np.bool_]
    nodes: pa.StringArray

    @property
    def booked(self) -> Int64s:
        """Shape (jobs,): number of nodes booked."""
        return np.asarray(pc.count_substring(self.nodes, ","), dtype=np.int64) + 1


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
    lists = pc.split_pattern(jobs.nodes, ",")
    job = np.asarray(pc.list_parent_indices(lists), dtype=np.int64)
    names = pc.list_flatten(lists).dictionary_encode()
    code = np.asarray(names.indices, dtype=np.int64)
    rank = np.arange(len(job)) - lists.offsets.to_numpy()[job]
    order = np.lexsort((jobs.start[job], jobs.job_id[job], code))
    begin = np.searchsorted(code[order], np.arange(len(names.dictionary) + 1))
    return Attempts(names.dictionary.to_pylist(), begin, job[order], rank[order])


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
