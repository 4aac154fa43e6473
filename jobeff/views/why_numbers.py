"""Each number of METRICS computed again in plain Python, with what it was made of."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

from jobeff.errors import shown
from jobeff.views.evidence import BUSY, USED, NodeSamples, Sample
from jobeff.views.text import gib
from jobeff.views.why_case import ROWS_SHOWN, Case, Explained, Value


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
            {"node": node.node, "rows": len(node.rows), "peak": gib(peak), "limit": gib(limit), "share": share}
        )
    return found


def _mem_peak(case: Case) -> Explained:
    node, peak, limit = _fullest(case)
    row = next(row for row in node.rows if row.peak == peak)
    reading = "GB_USED" if row.used == peak else "GB_MAX_USED"
    share = f", the largest peak/limit ({gib(peak)} of {gib(limit)})" if limit else ", the largest; no limit is known"
    return Explained(
        "mem_peak",
        "largest GB_USED, or GB_MAX_USED where present and larger, on the node with the largest peak/limit (a limit "
        "of 0 is unknown: such nodes rank by their peak, after the others)",
        f"{reading} on {node.node}{share} = {gib(peak)}",
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
        f"on {node.node} = {gib(limit) if limit else 'unknown'}",
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
                "least": gib(min(row.used for row in node.rows)),
                "most": gib(max(row.used for row in node.rows)),
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
        f"the largest of {len(case.samples):,} rows, on {row.node} = {gib(row.swap)}",
        row.swap / 100,
        nodes=[
            {"node": node.node, "rows": len(node.rows), "most": gib(max(row.swap for row in node.rows))}
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


FROM_SAMPLES: dict[str, Callable[[Case], Explained]] = {
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

"""Columns that come from samples, each with what computes it again."""

_FIELDS = {"state": "jobstate", "nodelist": "nodes", "date_finished": "end"}


def from_accounting(case: Case, column: str) -> Explained:
    """What accounting, or the program, says by itself.

    Parameters
    ----------
    case
        The job.
    column
        None of `FROM_SAMPLES`.

    Returns
    -------
    Explained
        Without the stored value.
    """
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
