"""Of very many nodes, those to look at first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from jobeff.views.evidence import NodeSamples

NAMED = 3
"""So many of each kind."""


@dataclass(frozen=True)
class Worst:
    """The first of each kind, with what makes them so.

    Attributes
    ----------
    idle
        Least mean CPU, percent of one core.
    full, swap
        Largest reading of memory and most swap, GiB; nodes without swap are not among the latter.
    """

    idle: list[tuple[NodeSamples, float]]
    full: list[tuple[NodeSamples, float]]
    swap: list[tuple[NodeSamples, float]]


def of_nodes(seen: Sequence[NodeSamples]) -> Worst:
    """Choose them.

    Parameters
    ----------
    seen
        Nodes with samples.

    Returns
    -------
    Worst
        Of equal ones, those whose names come first.
    """
    swap = _first(seen, lambda node: max(row.swap for row in node.rows) / 100, -1)
    return Worst(
        _first(seen, lambda node: fmean(row.cpu_pct for row in node.rows), 1),
        _first(seen, lambda node: max(row.peak for row in node.rows) / 100, -1),
        [(node, most) for node, most in swap if most],
    )


def _first(
    seen: Sequence[NodeSamples], value: Callable[[NodeSamples], float], rising: int
) -> list[tuple[NodeSamples, float]]:
    found = [(node, value(node)) for node in seen]
    return sorted(found, key=lambda one: (rising * one[1], one[0].node))[:NAMED]
