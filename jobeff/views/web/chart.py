"""Drawings of pages: numbers become lines in a box that the page stretches, so that text stays as large as it is.

A box is `WIDE` by `HIGH`. What hovering shows are the numbers that were drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from math import floor, isnan, log10
from statistics import fmean
from typing import Any

from jobeff.clock import Clock
from jobeff.views import worst
from jobeff.views.evidence import USED, NodeSamples, Sample
from jobeff.views.job import JobView
from jobeff.views.job_text import Judged
from jobeff.views.plot_band import levels
from jobeff.views.plot_frame import EACH, rows_per_point, without_gaps

WIDE, HIGH = 1000, 100
MOST_POINTS = 16_000
"""Of a page; where there are more, several rows become one point."""

HOUR, DAY = 3600, 86_400
TICKS = (
    *((step, "%H:%M") for step in (60, 300, 600, 900, 1800, HOUR, 2 * HOUR, 3 * HOUR)),
    *((step, "%d %H:%M") for step in (6 * HOUR, 12 * HOUR)),
    *((step * DAY, "%m-%d") for step in (1, 2, 4, 7, 14, 28)),
)
"""Seconds between the times that are written below a plot, and how they are written."""

Value = Callable[[Sample], float | None]
Points = list[list[tuple[float, float | None]]]


def ticks(top: float) -> list[float]:
    """Round numbers from 0 to at most `top`.

    Parameters
    ----------
    top
        More than 0.

    Returns
    -------
    list of float
        Three to six.
    """
    size = 10.0 ** floor(log10(top / 5))
    step = next(step for step in (size, 2 * size, 2.5 * size, 5 * size, 10 * size) if top <= 5 * step)
    return [number * step for number in range(int(top / step + 1e-9) + 1)]


def height(value: float, top: float) -> float:
    """Where a value is in a box, from above.

    Parameters
    ----------
    value, top
        The value, and that at the upper edge.

    Returns
    -------
    float
        0 to `HIGH`.
    """
    return round(HIGH * (1 - value / top), 2)


def job(judged: Judged, clock: Clock) -> dict[str, Any]:
    """A job over time: cores and memory of each node, or of all together where they are many.

    Parameters
    ----------
    judged
        The job with its samples.
    clock
        Whose local time is shown.

    Returns
    -------
    dict
        ``panels`` for the template; ``data`` for the script that shows values.
    """
    view, nodes = judged.view, judged.nodes
    margin = max(view.interval, (view.end - view.start) // 50)
    frame = _Frame(view, clock, view.start - margin, view.end + margin)
    cores = view.accounting["cores"] / max(1, len(nodes))
    seen = [node for node in nodes if node.rows]
    panels = (
        [_band(frame, seen, cores, len(nodes))] if len(nodes) > EACH and seen else list(_panels(frame, nodes, cores))
    )
    return {
        "panels": [panel for panel, _ in panels],
        "data": {"from": frame.first, "to": frame.last, "panels": [data for _, data in panels]},
        "cores": cores,
        "x_ticks": frame.ticks(),
        "rows": max((rows_per_point(node.rows) for node in seen), default=1),
        "worst": _worst(seen) if len(nodes) > EACH and seen else [],
    }


def _worst(seen: Sequence[NodeSamples]) -> list[str]:
    """The nodes of a band to look at first, by name."""
    found = worst.of_nodes(seen)
    said = [
        ("least busy", ", ".join(f"{node.node} ({cpu:,.0f} % of one core)" for node, cpu in found.idle)),
        ("fullest", ", ".join(f"{node.node} ({peak:,.2f} GiB)" for node, peak in found.full)),
        ("most swap", ", ".join(f"{node.node} ({most:,.2f} GiB)" for node, most in found.swap)),
    ]
    return [f"{what}: {names}" for what, names in said if names]


class _Frame:
    """The time axis that all panels share."""

    def __init__(self, view: JobView, clock: Clock, first: int, last: int) -> None:
        self.view, self.clock, self.first, self.last = view, clock, first, last

    def x(self, time: float) -> float:
        return round(WIDE * (time - self.first) / (self.last - self.first), 1)

    def local(self, time: float, form: str = "%Y-%m-%d %H:%M") -> str:
        return datetime.fromtimestamp(time, self.clock.zone).strftime(form)

    def ticks(self) -> list[dict[str, Any]]:
        """Round local times."""
        length, clock = self.last - self.first, self.clock
        step, form = next(
            (one for one in TICKS if length <= 5 * one[0]), (-(-length // (5 * 28 * DAY)) * 28 * DAY, "%Y-%m-%d")
        )
        ahead = clock.offset_s(self.first)
        found = []
        for local in range(-(-(self.first + ahead) // step) * step, self.last + ahead, step):
            at = local - clock.offset_s(max(0, local - ahead))  # the clocks may have been changed meanwhile
            found.append({"x": f"{100 * (at - self.first) / length:.2f}%", "label": self.local(at, form)})
        return found

    def path(self, parts: Points, top: float) -> str:
        """Lines through points, apart at gaps; a point by itself is a dot, made by the round end of no line."""
        found = []
        for part in parts:
            known = [(self.x(time), height(value, top)) for time, value in part if value is not None]
            if len(known) == 1:
                found.append(f"M{known[0][0]:g} {known[0][1]:g}h.01")
            elif known:
                found.append("M" + "L".join(f"{x:g} {y:g}" for x, y in known))
        return "".join(found)

    def area(self, times: Sequence[float], low: Sequence[float], high: Sequence[float], top: float) -> str:
        """Between two lines, apart where they are not known."""
        found: list[str] = []
        run: list[tuple[float, float, float]] = []
        for time, below, above in [*zip(times, low, high, strict=True), (0.0, float("nan"), float("nan"))]:
            if not isnan(below):
                run.append((self.x(time), height(below, top), height(above, top)))
            elif run:
                along = "L".join(f"{x:g} {y:g}" for x, _, y in run)
                back = "L".join(f"{x:g} {y:g}" for x, y, _ in reversed(run))
                found.append(f"M{along}L{back}Z")
                run = []
        return "".join(found)


SERIES: tuple[tuple[str, str, str, str, Value, Callable[[list[float]], float]], ...] = (
    ("cpu", "busy", "cores in use (above 3 %)", "cores", lambda row: row.above(USED), max),
    ("cpu", "cpu", "CPU", "% of one core", lambda row: row.cpu_pct, fmean),
    ("memory", "limit", "memory limit", "GiB", lambda row: row.limit / 100 if row.limit else None, max),
    ("memory", "most", "memory maximum", "GiB", lambda row: None if row.max_used is None else row.max_used / 100, max),
    ("memory", "used", "memory used", "GiB", lambda row: row.used / 100, max),
    ("memory", "swap", "swap used", "GiB", lambda row: row.swap / 100, max),
)
"""Axis, style, name, unit, and what a row says; several rows are folded as in `jobeff.views.plot_job`."""


def _panels(
    frame: _Frame, nodes: Sequence[NodeSamples], cores: float
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    rows = [row for node in nodes for row in node.rows]
    every = -(-len(rows) // MOST_POINTS) if rows else 1
    busiest = max([100 * cores, *(row.cpu_pct for row in rows), *(100.0 * row.above(USED) for row in rows)])
    fullest = max((max(row.peak, row.limit, row.swap) for row in rows), default=0) / 100 or 1.0
    tops = {"cpu": 1.06 * busiest, "memory": 1.1 * fullest}
    for node in nodes:
        step = max(every, rows_per_point(node.rows))
        parts = without_gaps(node.rows, frame.view.interval)
        bins = [[part[i : i + step] for i in range(0, len(part), step)] for part in parts]
        lines, told = [], []
        for axis, style, label, unit, value, fold in SERIES:
            points = [[(fmean(row.time for row in some), _folded(some, value, fold)) for some in part] for part in bins]
            values = [now for part in points for _, now in part]
            if not any(values) and style in ("limit", "most", "swap"):
                continue
            scaled = (
                [[(t, None if v is None else 100 * v) for t, v in part] for part in points]
                if style == "busy"
                else points
            )
            lines.append({"axis": axis, "style": style, "path": frame.path(scaled, tops[axis])})
            told.append({"label": label, "unit": unit, "values": [v if v is None else round(v, 2) for v in values]})
        times = [fmean(row.time for row in some) for part in bins for some in part]
        panel = _panel(node.node, lines, tops, 100 * cores)
        panel["say"] = (
            "" if node.rows else "its shard is damaged" if node.damaged else "booked but never used (no sample)"
        )
        yield panel, {"times": times, "local": [frame.local(time) for time in times], "series": told}


def _folded(rows: Sequence[Sample], value: Value, fold: Callable[[list[float]], float]) -> float | None:
    known = [now for row in rows if (now := value(row)) is not None]
    return fold(known) if known else None


def _panel(title: str, lines: list[dict[str, Any]], tops: dict[str, float], booked: float) -> dict[str, Any]:
    return {
        "title": title,
        "say": "",
        "axes": [
            {
                "name": axis,
                "title": name,
                "ticks": [
                    {"label": f"{tick:,.4g}", "y": f"{100 * (1 - tick / tops[axis]):.2f}%"}
                    for tick in ticks(tops[axis])
                ],
                "grid": [height(tick, tops[axis]) for tick in ticks(tops[axis])],
                "booked": height(booked, tops[axis]) if axis == "cpu" else None,
                "lines": [line for line in lines if line["axis"] == axis],
            }
            for axis, name in (("cpu", "CPU, % of one core"), ("memory", "memory, GiB"))
        ],
    }


def _band(
    frame: _Frame, seen: Sequence[NodeSamples], cores: float, booked: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    lines, told, tops = [], [], {}
    limit = max(row.limit for node in seen for row in node.rows) / 100
    values: tuple[tuple[str, str, Callable[[Sample], float], float], ...] = (
        ("cpu", "% of one core", lambda row: row.cpu_pct, 100 * cores),
        ("memory", "GiB", lambda row: row.peak / 100, limit),
    )
    times: list[float] = []
    for axis, unit, value, least in values:
        times, found = levels(frame.view, seen, value)
        rows = [row.tolist() for row in found]
        tops[axis] = 1.06 * (max([least, *(high for high in rows[4] if not isnan(high))]) or 1.0)
        name = "CPU" if axis == "cpu" else "memory"
        lines.append({"axis": axis, "style": f"{axis}-all", "path": frame.area(times, rows[0], rows[4], tops[axis])})
        lines.append({"axis": axis, "style": f"{axis}-half", "path": frame.area(times, rows[1], rows[3], tops[axis])})
        middle = [[(time, None if isnan(now) else now)] for time, now in zip(times, rows[2], strict=True)]
        style = "cpu" if axis == "cpu" else "used"
        lines.append({"axis": axis, "style": style, "path": frame.path([[point for [point] in middle]], tops[axis])})
        for label, row in zip(("lowest", "a quarter below", "median", "a quarter above", "highest"), rows, strict=True):
            numbers = [None if isnan(now) else round(now, 2) for now in row]
            told.append({"label": f"{name} {label}", "unit": unit, "values": numbers})
    if limit:
        lines.append({"axis": "memory", "style": "limit", "path": f"M0 {height(limit, tops['memory']):g}H{WIDE}"})
    panel = _panel(
        f"{len(seen):,} of {booked:,} nodes together: median, middle half, lowest to highest", lines, tops, 100 * cores
    )
    return panel, {"times": times, "local": [frame.local(time) for time in times], "series": told}
