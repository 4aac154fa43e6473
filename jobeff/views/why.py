"""Walks a number of a job back to the rows it came from.

Each number is computed again in plain Python, from the samples in the shards and by the words of METRICS, and compared
with the stored one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from functools import cached_property
from typing import Any

from jobeff.config import Config
from jobeff.errors import JobeffError, shown
from jobeff.views.evidence import BUSY, USED, NodeSamples, RawLine, Sample, of_job, raw_lines, slots
from jobeff.views.job import JobView

ROWS_SHOWN = 12
CLOSE = 1e-9
"""Floats are the same within this share of them."""

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

    Raises
    ------
    JobeffError
        It has no row, so no number either.
    """

    def __init__(self, config: Config, view: JobView) -> None:
        if view.efficiency is None:
            raise JobeffError(
                f"job {view.name} has no numbers to explain", todo=f"'jobeff job {view.name}' says why it has none"
            )
        self.config, self.view, self.row = config, view, view.efficiency
        self.cores = int(view.accounting["cores"])
        self._lines: dict[tuple[str, int], RawLine | None] = {}

    @cached_property
    def nodes(self) -> list[NodeSamples]:
        """All booked nodes.

        Raises
        ------
        JobeffError
            The shard of one of them is damaged.
        """
        nodes = list(of_job(self.config, self.view))
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


def explain(case: Case, column: str) -> Explained:
    """Explain a number.

    Parameters
    ----------
    case
        The job.
    column
        Of the efficiency database.

    Returns
    -------
    Explained
        With the value computed again.

    Raises
    ------
    JobeffError
        A shard it rests on is damaged, or has no row of the job any more.
    """
    if column in _FROM_SAMPLES:
        if not case.seen:
            raise JobeffError(
                f"the shards have no row of job {case.view.name}",
                why="its numbers were computed from rows that are gone",
                todo="'jobeff check' says what is amiss, 'jobeff rebuild' makes the shards again",
            )
        found = _FROM_SAMPLES[column](case)
    else:
        found = _from_accounting(case, column)
    found.stored = case.row[column]
    found.differs = not _same(found.value, found.stored)
    found.lines = case.raw_lines([row for _, row in found.rows])
    return found


def _same(one: Value, other: Value) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=0.0)
    return one == other


def _gib(hundredths: float | Fraction) -> str:
    return f"{float(hundredths) / 100:.2f} GiB"


def _cpu_mean(case: Case) -> Explained:
    counts = max(len(node.rows) for node in case.seen)
    total, values = sum(sum(row.cores) for row in case.samples), sum(len(row.cores) for row in case.samples)
    most = max(values, counts * case.cores)
    value = float(Fraction(total, 100 * most))
    by_load = sorted(case.samples, key=lambda row: sum(row.cores))
    return Explained(
        "cpu_mean",
        "sum of all core values / max(number of core values, counts x cores booked); cores or booked nodes that "
        "were never seen count as idle",
        f"{total / 100:,.2f} / max({values:,}, {counts:,} x {case.cores:,}) = {value:.6g} %",
        value,
        nodes=[
            {
                "node": node.node,
                "rows": len(node.rows),
                "core values": sum(len(row.cores) for row in node.rows),
                "sum %": sum(sum(row.cores) for row in node.rows) / 100,
            }
            for node in case.seen
        ],
        rows=[("the busiest row", by_load[-1]), ("the idlest row", by_load[0])],
    )


def _at_once(case: Case, threshold: int) -> list[tuple[int, int]]:
    """Cores above a threshold at each sampling time, and which that is, in order."""
    return sorted((sum(row.above(threshold) for row in rows), slot) for slot, rows in case.slots.items())


def _slot_rows(case: Case, slot: int, cores: int) -> list[tuple[str, Sample]]:
    rows = case.slots[slot]
    what = f"sampling time {slot + 1}, {cores:,} cores"
    return [(f"{what}{', the first of several nodes' if len(rows) > ROWS_SHOWN else ''}", row) for row in rows][
        :ROWS_SHOWN
    ]


def _slot_nodes(case: Case, threshold: int) -> list[dict[str, Any]]:
    return [
        {
            "node": node.node,
            "rows": len(node.rows),
            "first": case.when(node.rows[0].time),
            "most cores": max(row.above(threshold) for row in node.rows),
        }
        for node in case.seen
    ]


def _percentile(case: Case) -> Explained:
    ordered = _at_once(case, BUSY)
    place = Fraction(3, 4) * (len(ordered) - 1)
    below = place.numerator // place.denominator
    above = min(below + 1, len(ordered) - 1)
    (low, low_slot), (high, high_slot) = ordered[below], ordered[above]
    value = float(low + (place - below) * (high - low))
    rows = _slot_rows(case, low_slot, low)
    if place != below:
        rows += _slot_rows(case, high_slot, high)
    between = f"{low:,}" if place == below else f"{low:,} + {float(place - below):g} x ({high:,} - {low:,})"
    return Explained(
        "cpu_cores_used_percentile",
        "75th percentile, by linear interpolation, over sampling times, of the number of cores busier than 10 %, "
        "added up over the nodes",
        f"place 0.75 x ({len(ordered):,} - 1) = {float(place):g} of the sampling times in order: {between} = {value:g}",
        value,
        nodes=_slot_nodes(case, BUSY),
        rows=rows,
    )


def _cores_used_peak(case: Case) -> Explained:
    most, _ = _at_once(case, USED)[-1]
    slot = next(slot for slot, rows in case.slots.items() if sum(row.above(USED) for row in rows) == most)
    return Explained(
        "cores_used_peak",
        "most cores busier than 3 % at one sampling time, added up over the nodes",
        f"the most of {len(case.slots):,} sampling times = {most:,}",
        most,
        nodes=_slot_nodes(case, USED),
        rows=_slot_rows(case, slot, most),
    )


def _fullest(case: Case) -> tuple[NodeSamples, int, int]:
    """The node with the largest peak/limit, and both."""

    def of(node: NodeSamples) -> tuple[int, int]:
        return max(row.peak for row in node.rows), max(row.limit for row in node.rows)

    def share(node: NodeSamples) -> tuple[bool, Fraction]:
        peak, limit = of(node)
        return limit > 0, Fraction(peak, limit or 1)

    found = max(case.seen, key=share)  # the first of equals
    return (found, *of(found))


def _memory_nodes(case: Case) -> list[dict[str, Any]]:
    found = []
    for node in case.seen:
        peak, limit = max(row.peak for row in node.rows), max(row.limit for row in node.rows)
        share = f"{peak / limit:.4f}" if limit else "unknown"
        found.append(
            {"node": node.node, "rows": len(node.rows), "peak": _gib(peak), "limit": _gib(limit), "share": share}
        )
    return found


def _mem_peak(case: Case) -> Explained:
    node, peak, limit = _fullest(case)
    row = next(row for row in node.rows if row.peak == peak)
    reading = "GB_USED" if row.used == peak else "GB_MAX_USED"
    share = f", the largest peak/limit ({_gib(peak)} of {_gib(limit)})" if limit else ", the largest; no limit is known"
    return Explained(
        "mem_peak",
        "largest GB_USED, or GB_MAX_USED where present and larger, on the node with the largest peak/limit (a limit "
        "of 0 is unknown: such nodes rank by their peak, after the others)",
        f"{reading} on {node.node}{share} = {_gib(peak)}",
        peak / 100,
        nodes=_memory_nodes(case),
        rows=[("the peak", row)],
    )


def _mem_limit(case: Case) -> Explained:
    node, _, limit = _fullest(case)
    row = next(row for row in node.rows if row.limit == limit)
    return Explained(
        "mem_limit",
        "largest GB_LIMIT on the node with the largest peak/limit; 0 is unknown",
        f"on {node.node} = {_gib(limit) if limit else 'unknown'}",
        limit / 100 if limit else None,
        nodes=_memory_nodes(case),
        rows=[("the largest limit", row)],
    )


def _mem_median(case: Case) -> Explained:
    ordered = sorted(case.samples, key=lambda row: row.used)
    half, odd = divmod(len(ordered), 2)
    middle = ordered[half : half + 1] if odd else ordered[half - 1 : half + 1]
    value = float(Fraction(sum(row.used for row in middle), 100 * len(middle)))
    place = f"row {half + 1:,}" if odd else f"mean of rows {half:,} and {half + 1:,}"
    return Explained(
        "mem_median",
        "median of GB_USED over all valid rows of all nodes",
        f"{place} of {len(ordered):,} in order of GB_USED = {value:.3f} GiB",
        value,
        nodes=[
            {
                "node": node.node,
                "rows": len(node.rows),
                "least": _gib(min(row.used for row in node.rows)),
                "most": _gib(max(row.used for row in node.rows)),
            }
            for node in case.seen
        ],
        rows=[("in the middle", row) for row in middle],
    )


def _swap_peak(case: Case) -> Explained:
    row = max(case.samples, key=lambda row: row.swap)
    return Explained(
        "swap_peak",
        "largest GB_SWAP_USED",
        f"the largest of {len(case.samples):,} rows, on {row.node} = {_gib(row.swap)}",
        row.swap / 100,
        nodes=[
            {"node": node.node, "rows": len(node.rows), "most": _gib(max(row.swap for row in node.rows))}
            for node in case.seen
        ],
        rows=[("the largest", row)],
    )


def _row_nodes(case: Case) -> list[dict[str, Any]]:
    expected = case.view.expected
    return [
        {
            "node": node.node,
            "rows": len(node.rows),
            "counted": min(len(node.rows), expected),
            "expected": expected,
            "raw files": node.files,
            "rejected": node.rejected,
        }
        for node in case.nodes
    ]


def _counts(case: Case) -> Explained:
    node = max(case.seen, key=lambda node: len(node.rows))
    return Explained(
        "counts",
        "the largest number of valid rows on any one node",
        f"{node.node} = {len(node.rows):,}",
        len(node.rows),
        nodes=_row_nodes(case),
        rows=[("its first", node.rows[0]), ("its last", node.rows[-1])],
    )


def _nodes_seen(case: Case) -> Explained:
    return Explained(
        "nodes_seen",
        "booked nodes with at least one valid row",
        f"{len(case.seen):,} of {len(case.nodes):,}",
        len(case.seen),
        nodes=_row_nodes(case),
    )


def _coverage(case: Case) -> Explained:
    expected = case.view.expected
    counted = sum(min(len(node.rows), expected) for node in case.seen)
    value = counted / (expected * len(case.nodes))
    length = case.view.end - case.view.start
    return Explained(
        "coverage",
        "sum over booked nodes of min(valid rows, e) / (e x nodes booked), e = max(1, floor((end - start) / interval))",
        f"e = max(1, floor({length:,} / {case.view.interval})) = {expected:,}; {counted:,} / ({expected:,} x "
        f"{len(case.nodes):,}) = {value:.6g}",
        value,
        nodes=_row_nodes(case),
    )


def _rejected(case: Case) -> Explained:
    value = sum(node.rejected for node in case.nodes)
    return Explained(
        "rejected",
        "invalid rows met in the job's raw files",
        f"sum over {len(case.nodes):,} booked nodes = {value:,}",
        value,
        nodes=_row_nodes(case),
    )


_FROM_SAMPLES: dict[str, Callable[[Case], Explained]] = {
    "cpu_mean": _cpu_mean,
    "cpu_cores_used_percentile": _percentile,
    "mem_peak": _mem_peak,
    "mem_median": _mem_median,
    "mem_limit": _mem_limit,
    "counts": _counts,
    "nodes_seen": _nodes_seen,
    "coverage": _coverage,
    "rejected": _rejected,
    "swap_peak": _swap_peak,
    "cores_used_peak": _cores_used_peak,
}

_FIELDS = {"state": "jobstate", "nodelist": "nodes", "date_finished": "end"}


def _from_accounting(case: Case, column: str) -> Explained:
    known = case.view.accounting
    if column == "definition":
        from jobeff.steps.changes import DEFINITION  # noqa: PLC0415  (it loads numpy)

        return Explained(column, "the definition of METRICS that the row was computed by", f"{DEFINITION}", DEFINITION)
    if column == "nodes_booked":
        value: Value = len(case.view.nodes)
        return Explained(column, "number of nodes in the node list of accounting", f"{value:,}", value)
    if column == "date_finished":
        value = case.config.clock.day(case.view.end)
        zone = case.config.clock.zone.key
        return Explained(column, "local day of the end, from accounting", f"{case.view.end} in {zone} = {value}", value)
    value = known[_FIELDS.get(column, column)]
    return Explained(column, f"column {_FIELDS.get(column, column)} of accounting", shown(str(value)), value)


def as_dict(case: Case, explained: Explained) -> dict[str, Any]:
    """An explanation for JSON.

    Parameters
    ----------
    case, explained
        The job, and from `explain`.

    Returns
    -------
    dict
        All of it.
    """
    rows = []
    for what, row in explained.rows:
        line = explained.lines.get((row.node, row.time))
        rows.append(
            {
                "what": what,
                "node": row.node,
                "time": row.time,
                "archive": line and {"file": line.file, "offset": line.offset, "line": line.text},
            }
        )
    return {
        "cluster": case.view.accounting["cluster"],
        "job_id": case.view.accounting["job_id"],
        "start": case.view.start,
        "column": explained.column,
        "formula": explained.formula,
        "here": explained.here,
        "value": explained.value,
        "stored": explained.stored,
        "differs": explained.differs,
        "nodes": explained.nodes,
        "rows": rows,
    }


def lines(case: Case, explained: Explained) -> Iterator[str]:
    """An explanation as text of at most 80 columns, but for raw lines.

    Parameters
    ----------
    case, explained
        The job, and from `explain`.

    Yields
    ------
    str
        Lines.
    """
    from jobeff.views.text import table, wrapped  # noqa: PLC0415  (only who reads text needs it)

    attempt = f", attempt {case.view.number}" if len(case.view.attempts) > 1 else ""
    yield f"{case.view.name}{attempt}: {explained.column} = {shown(str(explained.stored))}"
    yield from wrapped(explained.formula, "  formula   ")
    yield from wrapped(explained.here, "  here      ")
    nodes = _foremost(explained.nodes)
    if nodes:
        cells = [
            [f"{value:,}" if isinstance(value, int | float) else value for value in node.values()] for node in nodes
        ]
        yield from ("  " + line for line in table(list(nodes[0]), cells).split("\n"))
        if len(nodes) < len(explained.nodes):
            yield f"  and {len(explained.nodes) - len(nodes):,} more nodes (all with --json)"
    for what, row in explained.rows:
        yield from wrapped(f"{what}: {row.node} at {case.when(row.time)}{_cells(row)}", "  row       ")
        line = explained.lines.get((row.node, row.time))
        if line is None:
            yield "            it is not in the archive"
        else:
            yield f"            {line.file} byte {line.offset}"
            yield f"            {line.text}"
    if explained.differs:
        say = (
            f"differs: {shown(str(explained.value))} was computed again. Where samples or accounting have come since, "
            "'jobeff update' brings the number up to date; else something is damaged, and 'jobeff check' says what"
        )
        yield from wrapped(say, "  stored    ")
    else:
        yield "  stored    the same"


def _cells(row: Sample) -> str:
    most = "" if row.max_used is None else f", max {_gib(row.max_used)}"
    return f", {row.above(BUSY)} of {len(row.cores)} cores above 10 %, used {_gib(row.used)}{most}"


def _foremost(nodes: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    return nodes if len(nodes) <= ROWS_SHOWN else nodes[: ROWS_SHOWN - 1]
