"""A job whose numbers are walked back to their rows, and what is found of one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from jobeff.config import Config
from jobeff.errors import JobeffError
from jobeff.progress import QUIET, Progress
from jobeff.views.evidence import NodeSamples, RawLine, Sample, of_nodes, raw_lines, slots
from jobeff.views.job import JobView

ROWS_SHOWN = 12
"""Of the rows of a sampling time, and of nodes, so many."""

Value = int | float | str | None


@dataclass
class Explained:
    """Where a number comes from.

    Attributes
    ----------
    column
        Of the efficiency database.
    formula
        METRICS, in words.
    here
        The formula with this job's values.
    value, stored
        Computed again; and as the database has it.
    nodes
        What each node adds: columns by name.
    rows
        The samples that decided, and what for.
    lines
        Where these stand in the archive, by (node, time).
    differs
        Whether the two values are not the same.
    """

    column: str
    formula: str
    here: str
    value: Value
    stored: Value = None
    nodes: list[dict[str, Any]] = field(default_factory=list)
    rows: list[tuple[str, Sample]] = field(default_factory=list)
    lines: dict[tuple[str, int], RawLine] = field(default_factory=dict)
    differs: bool = False


class Case:
    """A job whose numbers are explained.

    Parameters
    ----------
    config
        Of the site.
    view
        The job; it has a row.
    progress
        Says of how many nodes samples have been read.
    nodes
        Samples of all booked nodes, where they have been read.

    Raises
    ------
    JobeffError
        It has no row, so no number either.
    """

    def __init__(
        self, config: Config, view: JobView, progress: Progress = QUIET, nodes: Sequence[NodeSamples] | None = None
    ) -> None:
        if view.efficiency is None:
            raise JobeffError(
                f"job {view.name} has no numbers to explain", todo=f"'jobeff job {view.name}' says why it has none"
            )
        self.config, self.view, self.row = config, view, view.efficiency
        self.cores = int(view.accounting["cores"])
        self._progress, self._nodes = progress, nodes
        self._lines: dict[tuple[str, int], RawLine | None] = {}

    @cached_property
    def nodes(self) -> list[NodeSamples]:
        """All booked nodes.

        Raises
        ------
        JobeffError
            The shard of one of them is damaged.
        """
        nodes = of_nodes(self.config, self.view, self._progress) if self._nodes is None else list(self._nodes)
        for node in nodes:
            if node.damaged:
                raise JobeffError(node.damaged)
        return nodes

    @cached_property
    def seen(self) -> list[NodeSamples]:
        """Those with a valid row."""
        return [node for node in self.nodes if node.rows]

    @cached_property
    def samples(self) -> list[Sample]:
        """Rows of all nodes."""
        return [row for node in self.seen for row in node.rows]

    @cached_property
    def slots(self) -> dict[int, list[Sample]]:
        """Rows by sampling time, of each node the later one."""
        found: dict[int, dict[str, Sample]] = {}
        for node in self.seen:
            for slot, row in zip(slots(self.view, node.rows), node.rows, strict=True):
                found.setdefault(slot, {})[row.node] = row
        return {slot: list(rows.values()) for slot, rows in sorted(found.items())}

    def raw_lines(self, rows: Sequence[Sample]) -> dict[tuple[str, int], RawLine]:
        """Where rows stand in the archive; each is looked for once."""
        new = {(row.node, row.time): row for row in rows if (row.node, row.time) not in self._lines}
        self._lines |= dict.fromkeys(new) | raw_lines(self.config, self.view, list(new.values()))
        found = {(row.node, row.time): self._lines[row.node, row.time] for row in rows}
        return {key: line for key, line in found.items() if line is not None}

    def when(self, time: int) -> str:
        """A local time."""
        return datetime.fromtimestamp(time, self.config.clock.zone).strftime("%Y-%m-%d %H:%M:%S")
