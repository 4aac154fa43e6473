"""The plot of a job on very many nodes: median, quartiles and extremes of them, and the worst by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from jobeff.clock import Clock
from jobeff.errors import shown
from jobeff.views import worst
from jobeff.views.evidence import NodeSamples, Sample, slots
from jobeff.views.job import JobView
from jobeff.views.job_text import Judged
from jobeff.views.plot import BLACK, BLUE, VERMILLION
from jobeff.views.plot_frame import (
    BOOKED,
    MEMORY_LIMIT,
    draw,
    legend,
    new_figure,
    say,
    time_axis,
    title_lines,
    to_date,
    without_gaps,
    write_title,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def band(judged: Judged, clock: Clock) -> Figure:
    """All nodes together.

    Parameters
    ----------
    judged
        The job.
    clock
        Whose local time is shown.

    Returns
    -------
    Figure
        Median, quartiles and extremes, and the worst of the nodes by name.
    """
    width, height = 10.5, 8.4
    lines = title_lines(judged, clock, width)
    above = 0.2 * len(lines) + 0.1
    figure, axes = new_figure(width, height + above, 2, 1, above, 0.2)
    write_title(figure, lines, height + above)
    cores = judged.view.accounting["cores"] / len(judged.nodes)
    seen = [node for node in judged.nodes if node.rows]
    cpu, memory = axes[0][0], axes[1][0]
    cpu.axhline(100 * cores, **BOOKED)
    cpu.set_ylabel("CPU of a node, % of one core")
    memory.set_ylabel("memory of a node, GiB")
    memory.set_xlabel(f"local time ({clock.zone.key})")
    handles: dict[str, Any] = {}
    if seen:
        found = worst.of_nodes(seen)
        handles |= _spread(cpu, judged, seen, lambda row: row.cpu_pct, BLUE, "CPU")
        _named(cpu, judged, found.idle, lambda row: row.cpu_pct, "least busy", "%", fmean)
        handles |= _spread(memory, judged, seen, lambda row: row.peak / 100, VERMILLION, "memory")
        _named(memory, judged, found.full, lambda row: row.peak / 100, "fullest", "GiB")
        limit = max(row.limit for node in seen for row in node.rows) / 100
        if limit:
            label = "memory limit (largest)"
            handles[label] = memory.axhline(limit, **{**MEMORY_LIMIT, "label": label})
    else:
        say(cpu, "no node has a sample")
    handles["cores booked"] = cpu.get_lines()[0]
    for axis in (cpu, memory):
        axis.set_ylim(bottom=0)
        axis.tick_params(labelbottom=True)
    time_axis(cpu, judged, clock)
    legend(figure, handles, height + above)
    return figure


def levels(
    view: JobView, seen: Sequence[NodeSamples], value: Callable[[Sample], float]
) -> tuple[list[float], npt.NDArray[np.float64]]:
    """Extremes, quartiles and median of nodes over time.

    Parameters
    ----------
    view
        The job.
    seen
        Its nodes with samples.
    value
        Of a row.

    Returns
    -------
    list of float
        Epoch seconds of sampling times.
    ndarray
        Shape (5, times): lowest, quartiles with the median between them, highest; NaN where no node has a row.
    """
    import numpy as np  # noqa: PLC0415  (only plots need it here)

    of_nodes = [slots(view, node.rows) for node in seen]
    first, last = min(map(min, of_nodes)), max(map(max, of_nodes))
    grid = np.full((len(seen), last - first + 1), np.nan)
    for i, (node, of_node) in enumerate(zip(seen, of_nodes, strict=True)):
        for slot, row in zip(of_node, node.rows, strict=True):
            grid[i, slot - first] = value(row)
    some = ~np.isnan(grid).all(axis=0)
    found = np.full((5, grid.shape[1]), np.nan)
    found[:, some] = np.nanpercentile(grid[:, some], [0, 25, 50, 75, 100], axis=0)
    # Nodes are sampled at their own seconds; the middle of these is where all are drawn.
    late = median(
        row.time - view.start - slot * view.interval
        for node, of_node in zip(seen, of_nodes, strict=True)
        for slot, row in zip(of_node, node.rows, strict=True)
    )
    return [view.start + slot * view.interval + late for slot in range(first, last + 1)], found


def _spread(
    axis: Axes, judged: Judged, seen: Sequence[NodeSamples], value: Callable[[Sample], float], color: str, what: str
) -> dict[str, Any]:
    epochs, of_nodes = levels(judged.view, seen, value)
    times = [to_date(epoch) for epoch in epochs]
    # A single sampling time has no width to fill.
    single = sum(not isnan(level) for level in of_nodes[2]) == 1
    marker: dict[str, Any] = {"marker": "o", "markersize": 3.5} if single else {}
    if single:
        axis.vlines(times, of_nodes[0], of_nodes[4], color=color, alpha=0.3)
        axis.vlines(times, of_nodes[1], of_nodes[3], color=color, alpha=0.6, linewidth=3)
    return {
        f"{what}: lowest to highest": axis.fill_between(times, of_nodes[0], of_nodes[4], color=color, alpha=0.15, lw=0),
        f"{what}: quartiles": axis.fill_between(times, of_nodes[1], of_nodes[3], color=color, alpha=0.35, lw=0),
        f"{what}: median": axis.plot(times, of_nodes[2], color=color, linewidth=1.6, label=f"{what}: median", **marker)[
            0
        ],
    }


def _named(
    axis: Axes,
    judged: Judged,
    nodes: Sequence[tuple[NodeSamples, float]],
    value: Callable[[Sample], float],
    what: str,
    unit: str,
    fold: Callable[[list[float]], float] = max,
) -> None:
    """The worst nodes by themselves, with their names and what makes them so."""
    styles: list[Any] = ["-", (0, (4, 1)), (0, (1, 1))]
    lines = []
    for (node, number), style in zip(nodes, styles, strict=False):
        label = f"{what}: {shown(node.node)} ({number:.0f} {unit})"
        draw(
            axis,
            without_gaps(node.rows, judged.view.interval),
            value,
            {"color": BLACK, "linewidth": 0.9, "linestyle": style, "label": label},
            fold,
        )
        lines.append(next(line for line in axis.get_lines() if line.get_label() == label))
    axis.legend(
        handles=lines, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=8, handlelength=3.2
    )
