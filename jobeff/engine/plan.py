"""The plan: which jobs are computed on which node, and which nodes go together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from jobeff.engine import text_kernels
from jobeff.engine.jobs import NODES, Jobs
from jobeff.order import order_of

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]
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
    job: Int32s
    rank: Int32s


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
    lists = jobs.texts.codes[NODES]
    uses = np.bincount(lists, minlength=jobs.texts.size)
    used, sizes = np.flatnonzero(uses), np.zeros(len(uses), dtype=np.int64)
    sizes[lists] = jobs.booked
    begin = np.concatenate([[0], np.cumsum(sizes)])
    code = np.empty(begin[-1], dtype=np.int64)
    names = text_kernels.numbered(jobs.texts, used, code)
    # Sums of whole numbers, so they are exact.
    attempts = np.bincount(code, np.repeat(uses, sizes), len(names)).astype(np.int64)
    node_begin = np.concatenate([[0], np.cumsum(attempts)])
    job, rank = np.empty((2, node_begin[-1]), dtype=np.int32)
    order = order_of(jobs.job_id, jobs.start)
    text_kernels.group(order, lists, begin, code, node_begin[:-1].copy(), job, rank)
    return Attempts(names, node_begin, job, rank)


def balanced(items: Sequence[Item], weights: Sequence[int], groups: int) -> list[list[Item]]:
    """Share items out so that each group is about as heavy as any other, and holds what stands side by side.

    The text of neighbours stands side by side too, and they share jobs.

    Parameters
    ----------
    items, weights
        As many of both.
    groups
        How many at most.

    Returns
    -------
    list of list
        Groups that have an item, the heaviest group first. None is heavier than an even share and the heaviest item.
    """
    sizes = np.array(weights, dtype=np.int64)
    middles = np.cumsum(sizes) - sizes / 2
    cuts = np.searchsorted(middles, sizes.sum() * np.arange(1, groups) / groups).tolist()
    spans = [span for span in itertools.pairwise([0, *cuts, len(items)]) if span[0] < span[1]]
    spans.sort(key=lambda span: -sizes[slice(*span)].sum())
    return [list(items[slice(*span)]) for span in spans]
