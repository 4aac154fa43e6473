"""The plot of a job: cores and memory of each node over time, or of all nodes together where they are many."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from jobeff.clock import Clock
from jobeff.errors import shown
from jobeff.views import coverage
from jobeff.views.evidence import USED, NodeSamples
from jobeff.views.job_text import Judged
from jobeff.views.plot import rendered, styled
from jobeff.views.plot_band import band
from jobeff.views.plot_frame import (
    BOOKED,
    BUSY,
    CPU,
    EACH,
    MEMORY_LIMIT,
    MEMORY_MOST,
    MEMORY_USED,
    POINTS,
    SWAP,
    draw,
    legend,
    new_figure,
    rows_per_point,
    say,
    time_axis,
    title_lines,
    to_date,
    without_gaps,
    write_title,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot(judged: Judged, clock: Clock, form: str) -> bytes:
    """Plot a job.

    Parameters
    ----------
    judged
        The job, with its samples and what is said of them.
    clock
        Whose local time is shown.
    form
        ``png`` or ``svg``.

    Returns
    -------
    bytes
        Of the file.

    Raises
    ------
    JobeffError
        There is no matplotlib.
    """
    with styled():
        figure = panels(judged, clock) if len(judged.nodes) <= EACH else band(judged, clock)
        return rendered(figure, form)


def _shape(panels: int) -> tuple[int, int, float, float]:
    """Rows, columns, width and height of a panel in inches."""
    for most, columns, width, height in ((1, 1, 9.0, 4.2), (6, 2, 6.0, 2.8), (18, 3, 4.6, 2.1), (EACH, 4, 3.8, 1.7)):
        if panels <= most:
            return -(-panels // columns), columns, width, height
    raise ValueError(panels)


def panels(judged: Judged, clock: Clock) -> Figure:
    """A panel for each node.

    Parameters
    ----------
    judged
        The job, on at most `EACH` nodes.
    clock
        Whose local time is shown.

    Returns
    -------
    Figure
        With the same axes in all panels.
    """
    nodes = judged.nodes
    rows, columns, wide, high = _shape(max(1, len(nodes)))
    width = wide * columns + 0.6
    lines = title_lines(judged, clock, width)
    above = 0.2 * len(lines) + 0.1
    height = high * rows + above + 1.2
    figure, axes = new_figure(width, height, rows, columns, above, (0.6 if len(nodes) % columns else 0.4) / high)
    write_title(figure, lines, height)
    cores = judged.view.accounting["cores"] / max(1, len(nodes))
    tops = 100 * max([cores, *(row.cpu_pct / 100 for node in nodes for row in node.rows)]), _memory_top(nodes)
    handles: dict[str, Any] = {}
    for place, axis in enumerate(axes.flat):
        if place >= max(1, len(nodes)):
            axis.set_axis_off()
            continue
        first, last = place % columns == 0, place % columns == columns - 1 or place == len(nodes) - 1
        if nodes:
            handles |= _panel(axis, judged, nodes[place], clock, cores, tops, (first, last))
        else:
            say(axis, "the job never started")
        if place + columns >= max(1, len(nodes)):
            axis.tick_params(labelbottom=True)
    time_axis(axes[0][0], judged, clock)
    for axis in list(axes.flat)[max(1, len(nodes)) - columns : max(1, len(nodes))]:
        axis.set_xlabel(f"local time ({clock.zone.key})" if columns == 1 else "local time")
    legend(figure, handles, height)
    return figure


def _memory_top(nodes: Sequence[NodeSamples]) -> float:
    most = max((max(row.peak, row.limit, row.swap) for node in nodes for row in node.rows), default=0)
    return most / 100 or 1.0


def _panel(
    axis: Axes,
    judged: Judged,
    node: NodeSamples,
    clock: Clock,
    cores: float,
    tops: tuple[float, float],
    labelled: tuple[bool, bool],
) -> dict[str, Any]:
    """Draw one node; gives what belongs into the legend, by label."""
    axis.set_title(shown(node.node), loc="left", fontsize=9, pad=3)
    axis.set_ylim(0, 1.06 * tops[0])
    axis.axhline(100 * cores, **BOOKED)
    if labelled[0]:
        axis.set_ylabel("CPU, % of one core")
    else:
        axis.tick_params(labelleft=False)
    if not node.rows:
        say(axis, "shard damaged" if node.damaged else "booked but never used\n(no sample)")
        return {}
    memory = axis.twinx()
    memory.grid(False)
    memory.set_ylim(0, 1.2 * tops[1])  # so that its limit is not drawn upon the cores booked
    memory.spines["top"].set_visible(False)
    if labelled[1]:
        memory.set_ylabel("memory, GiB")
    else:
        memory.tick_params(labelright=False)
    parts = without_gaps(node.rows, judged.view.interval)
    draw(axis, parts, lambda row: 100 * row.above(USED), BUSY)
    draw(axis, parts, lambda row: row.cpu_pct, CPU, fmean)
    remarks = []
    if any(row.limit for row in node.rows):
        draw(memory, parts, lambda row: row.limit / 100 if row.limit else None, MEMORY_LIMIT)
    else:
        remarks.append("memory limit unknown")
    if any(row.max_used is not None for row in node.rows):
        draw(memory, parts, lambda row: None if row.max_used is None else row.max_used / 100, MEMORY_MOST)
    draw(memory, parts, lambda row: row.used / 100, MEMORY_USED)
    swapped = [row for row in node.rows if row.swap]
    if swapped:
        times, values = [to_date(row.time) for row in swapped], [row.swap / 100 for row in swapped]
        memory.plot(times, values, markevery=max(1, len(swapped) // 30), **SWAP)
    if len(node.rows) > POINTS:
        remarks.append(f"a point: {rows_per_point(node.rows)} rows; mean of CPU, largest of others")
    known = next(one for one in judged.coverage.nodes if one["node"] == node.node)
    if said := coverage.remark(judged.view, known, clock):
        remarks.insert(0, said)
    axis.set_title("; ".join(remarks), loc="right", fontsize=7.5, pad=3)
    found: dict[str, Any] = {}
    for one in (axis, memory):
        for handle in one.get_lines():
            found.setdefault(str(handle.get_label()), handle)
    return {label: handle for label, handle in found.items() if not label.startswith("_")}
