"""The plot of a job: cores and memory of each node over time, or of all nodes together where they are many."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, Any

from jobeff.clock import Clock
from jobeff.errors import shown
from jobeff.views.evidence import USED, NodeSamples, Sample, slots
from jobeff.views.job_text import Judged, ran
from jobeff.views.plot import BLACK, BLUE, DPI, GREY, ORANGE, PURPLE, SKY, VERMILLION, cut, rendered, styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EACH = 48
"""So many nodes have a panel each; more are drawn together."""

GAP = 1.5
"""Rows farther apart than so many intervals are not joined."""

POINTS = 480
"""Of more rows than so many, several become one point."""

_CPU: dict[str, Any] = {"color": BLUE, "linewidth": 1.3, "label": "CPU"}
_BUSY: dict[str, Any] = {"color": SKY, "linewidth": 1.0, "linestyle": (0, (1, 1)), "label": "cores in use (above 3 %)"}
_BOOKED: dict[str, Any] = {"color": GREY, "linewidth": 1.0, "linestyle": (0, (6, 2)), "label": "cores booked"}
_USED: dict[str, Any] = {"color": VERMILLION, "linewidth": 1.3, "linestyle": (0, (4, 1)), "label": "memory used"}
_MOST: dict[str, Any] = {"color": ORANGE, "linewidth": 1.1, "linestyle": (0, (4, 1, 1, 1)), "label": "memory maximum"}
_LIMIT: dict[str, Any] = {"color": BLACK, "linewidth": 1.0, "linestyle": (0, (1, 2)), "label": "memory limit"}
_SWAP: dict[str, Any] = {"color": PURPLE, "marker": "v", "markersize": 4.5, "linestyle": "none", "label": "swap in use"}


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
        figure = _panels(judged, clock) if len(judged.nodes) <= EACH else _band(judged, clock)
        return rendered(figure, form)


def _figure(width: float, height: float, rows: int, columns: int, title: float, apart: float) -> tuple[Figure, Any]:
    """A figure and its panels; `title` has so many inches above them, and they are so many of their heights apart."""
    from matplotlib.figure import Figure  # noqa: PLC0415  (an extra)

    figure = Figure(figsize=(width, height), dpi=DPI)
    axes = figure.subplots(rows, columns, squeeze=False, sharex=True)
    figure.subplots_adjust(
        left=0.72 / width,
        right=1 - 0.72 / width,
        top=1 - (title + 0.28) / height,
        bottom=0.95 / height,
        wspace=0.16,
        hspace=apart,
    )
    return figure, axes


def _title(judged: Judged, clock: Clock, width: float) -> list[tuple[str, dict[str, Any]]]:
    """Lines above the panels and how they look."""
    view = judged.view
    known = view.accounting
    attempt = f"  (attempt {view.number} of {len(view.attempts)})" if len(view.attempts) > 1 else ""
    cores, nodes = known["cores"], len(view.nodes)
    wide = int(13 * width)
    name = f"{view.name}{attempt}  "
    lines: list[tuple[str, dict[str, Any]]] = [
        (name + cut(known["jobname"], max(20, int(8.2 * width) - len(name))), {"fontsize": 12, "fontweight": "bold"}),
        (
            f"project {shown(known['proj_id'])}, user {shown(known['user'])}, {shown(known['jobstate'])}, "
            f"{cores:,} core{'' if cores == 1 else 's'} on {nodes:,} node{'' if nodes == 1 else 's'}",
            {},
        ),
        (ran(view.start, view.end, clock), {}),
        (judged.coverage.words[0] if judged.coverage.words else "", {}),
    ]
    flags = textwrap.wrap("  ".join(judged.flags), wide, break_on_hyphens=False)
    lines += [(line, {"color": VERMILLION, "fontweight": "bold"}) for line in flags]
    unseen = [shown(node.node) for node in judged.nodes if not node.rows]
    if unseen and len(judged.nodes) > EACH:
        more = f" and {len(unseen) - 6:,} more" if len(unseen) > 6 else ""
        lines.append((f"nodes without a sample: {', '.join(unseen[:6])}{more}", {"color": VERMILLION}))
    return [(shorter, style) for line, style in lines for shorter in textwrap.wrap(line, wide) if shorter]


def _write_title(figure: Figure, lines: Sequence[tuple[str, dict[str, Any]]], height: float) -> None:
    width = figure.get_size_inches()[0]
    for number, (line, style) in enumerate(lines):
        at = 1 - (0.14 + 0.2 * number) / height
        figure.text(0.3 / width, at, line, ha="left", va="top", **style)


def _shape(panels: int) -> tuple[int, int, float, float]:
    """Rows, columns, width and height of a panel in inches."""
    for most, columns, width, height in ((1, 1, 9.0, 4.2), (6, 2, 6.0, 2.8), (18, 3, 4.6, 2.1), (EACH, 4, 3.8, 1.7)):
        if panels <= most:
            return -(-panels // columns), columns, width, height
    raise ValueError(panels)


def _panels(judged: Judged, clock: Clock) -> Figure:
    nodes = judged.nodes
    rows, columns, wide, high = _shape(max(1, len(nodes)))
    width = wide * columns + 0.6
    lines = _title(judged, clock, width)
    above = 0.2 * len(lines) + 0.1
    height = high * rows + above + 1.2
    figure, axes = _figure(width, height, rows, columns, above, (0.6 if len(nodes) % columns else 0.4) / high)
    _write_title(figure, lines, height)
    cores = judged.view.accounting["cores"] / max(1, len(nodes))
    tops = 100 * max([cores, *(row.cpu_pct / 100 for node in nodes for row in node.rows)]), _memory_top(nodes)
    handles: dict[str, Any] = {}
    for place, axis in enumerate(axes.flat):
        if place >= max(1, len(nodes)):
            axis.set_axis_off()
            continue
        first, last = place % columns == 0, place % columns == columns - 1 or place == len(nodes) - 1
        if nodes:
            handles |= _panel(axis, judged, nodes[place], cores, tops, (first, last))
        else:
            _say(axis, "the job never started")
        if place + columns >= max(1, len(nodes)):
            axis.tick_params(labelbottom=True)
    _times(axes[0][0], judged, clock)
    for axis in list(axes.flat)[max(1, len(nodes)) - columns : max(1, len(nodes))]:
        axis.set_xlabel(f"local time ({clock.zone.key})" if columns == 1 else "local time")
    _legend(figure, handles, height)
    return figure


def _memory_top(nodes: Sequence[NodeSamples]) -> float:
    most = max((max(row.peak, row.limit, row.swap) for node in nodes for row in node.rows), default=0)
    return most / 100 or 1.0


def _panel(
    axis: Axes,
    judged: Judged,
    node: NodeSamples,
    cores: float,
    tops: tuple[float, float],
    labelled: tuple[bool, bool],
) -> dict[str, Any]:
    """Draw one node; gives what belongs into the legend, by label."""
    axis.set_title(shown(node.node), loc="left", fontsize=9, pad=3)
    axis.set_ylim(0, 1.06 * tops[0])
    axis.axhline(100 * cores, **_BOOKED)
    if labelled[0]:
        axis.set_ylabel("CPU, % of one core")
    else:
        axis.tick_params(labelleft=False)
    if not node.rows:
        _say(axis, "shard damaged" if node.damaged else "booked but never used\n(no sample)")
        return {}
    memory = axis.twinx()
    memory.grid(False)
    memory.set_ylim(0, 1.2 * tops[1])  # so that its limit is not drawn upon the cores booked
    memory.spines["top"].set_visible(False)
    if labelled[1]:
        memory.set_ylabel("memory, GiB")
    else:
        memory.tick_params(labelright=False)
    parts = _parts(node.rows, judged.view.interval)
    _draw(axis, parts, lambda row: 100 * row.above(USED), _BUSY)
    _draw(axis, parts, lambda row: row.cpu_pct, _CPU, fmean)
    remarks = []
    if any(row.limit for row in node.rows):
        _draw(memory, parts, lambda row: row.limit / 100 if row.limit else None, _LIMIT)
    else:
        remarks.append("memory limit unknown")
    if any(row.max_used is not None for row in node.rows):
        _draw(memory, parts, lambda row: None if row.max_used is None else row.max_used / 100, _MOST)
    _draw(memory, parts, lambda row: row.used / 100, _USED)
    swapped = [row for row in node.rows if row.swap]
    if swapped:
        times, values = [_date(row.time) for row in swapped], [row.swap / 100 for row in swapped]
        memory.plot(times, values, markevery=max(1, len(swapped) // 30), **_SWAP)
    if len(node.rows) > POINTS:
        remarks.append(f"a point: {_together(node.rows)} rows; mean of CPU, largest of others")
    axis.set_title("; ".join(remarks), loc="right", fontsize=7.5, pad=3)
    found: dict[str, Any] = {}
    for one in (axis, memory):
        for handle in one.get_lines():
            found.setdefault(str(handle.get_label()), handle)
    return {label: handle for label, handle in found.items() if not label.startswith("_")}


def _say(axis: Axes, text: str) -> None:
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=VERMILLION)


def _date(epoch: float) -> float:
    """Days since 1970, as matplotlib wants them."""
    return epoch / 86_400


def _parts(rows: Sequence[Sample], interval: int) -> list[list[Sample]]:
    """Rows that follow each other without a gap."""
    parts: list[list[Sample]] = []
    for row in rows:
        if parts and row.time - parts[-1][-1].time <= GAP * interval:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def _together(rows: Sequence[Sample]) -> int:
    """How many rows become one point."""
    return -(-len(rows) // POINTS)


def _draw(
    axis: Axes,
    parts: Sequence[Sequence[Sample]],
    value: Callable[[Sample], float | None],
    style: dict[str, Any],
    fold: Callable[[list[float]], float] = max,
) -> None:
    """Draw a line with its gaps; a point by itself is a dot."""
    every = _together([row for part in parts for row in part])
    times: list[float] = []
    values: list[float] = []
    alone: list[tuple[float, float]] = []
    for part in parts:
        drawn: list[tuple[float, float]] = []
        for begin in range(0, len(part), every):
            rows = [(row.time, now) for row in part[begin : begin + every] if (now := value(row)) is not None]
            if rows:
                drawn.append((_date(fmean(time for time, _ in rows)), fold([now for _, now in rows])))
        if len(drawn) == 1:
            alone += drawn
        times += [*(time for time, _ in drawn), _date(part[-1].time)]
        values += [*(now for _, now in drawn), float("nan")]
    axis.plot(times, values, **style)
    if alone:
        dots: dict[str, Any] = {"color": style["color"], "marker": "o", "markersize": 3.5, "linestyle": "none"}
        axis.plot([time for time, _ in alone], [now for _, now in alone], label="_alone", **dots)


def _times(axis: Axes, judged: Judged, clock: Clock) -> None:
    from matplotlib import dates  # noqa: PLC0415  (an extra)

    ticks: Any = dates
    view = judged.view
    margin = max(view.interval, (view.end - view.start) // 50)
    axis.set_xlim(_date(view.start - margin), _date(view.end + margin))
    locator = ticks.AutoDateLocator(tz=clock.zone, minticks=3, maxticks=7)
    axis.xaxis.set_major_locator(locator)
    axis.xaxis.set_major_formatter(ticks.ConciseDateFormatter(locator, tz=clock.zone, show_offset=False))


def _legend(figure: Figure, handles: dict[str, Any], height: float) -> None:
    if handles:
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="lower center",
            bbox_to_anchor=(0.5, 0.06 / height),
            ncols=4,
            frameon=False,
            handlelength=3.2,
            fontsize=8.5,
        )


def _band(judged: Judged, clock: Clock) -> Figure:
    """All nodes together: median, quartiles and extremes, and the worst of them by name."""
    width, height = 10.5, 8.4
    lines = _title(judged, clock, width)
    above = 0.2 * len(lines) + 0.1
    figure, axes = _figure(width, height + above, 2, 1, above, 0.2)
    _write_title(figure, lines, height + above)
    cores = judged.view.accounting["cores"] / len(judged.nodes)
    seen = [node for node in judged.nodes if node.rows]
    cpu, memory = axes[0][0], axes[1][0]
    cpu.axhline(100 * cores, **_BOOKED)
    cpu.set_ylabel("CPU of a node, % of one core")
    memory.set_ylabel("memory of a node, GiB")
    memory.set_xlabel(f"local time ({clock.zone.key})")
    handles: dict[str, Any] = {}
    if seen:
        idle = sorted(seen, key=lambda node: (sum(row.cpu_pct for row in node.rows) / len(node.rows), node.node))
        full = sorted(seen, key=lambda node: (-max(row.peak for row in node.rows), node.node))
        handles |= _spread(cpu, judged, seen, lambda row: row.cpu_pct, BLUE, "CPU")
        _named(cpu, judged, idle[:3], lambda row: row.cpu_pct, "least busy", fmean)
        handles |= _spread(memory, judged, seen, lambda row: row.peak / 100, VERMILLION, "memory")
        _named(memory, judged, full[:3], lambda row: row.peak / 100, "fullest")
        limit = max(row.limit for node in seen for row in node.rows) / 100
        if limit:
            handles["memory limit (largest)"] = memory.axhline(limit, **{**_LIMIT, "label": "memory limit (largest)"})
    else:
        _say(cpu, "no node has a sample")
    handles["cores booked"] = cpu.get_lines()[0]
    for axis in (cpu, memory):
        axis.set_ylim(bottom=0)
        axis.tick_params(labelbottom=True)
    _times(cpu, judged, clock)
    _legend(figure, handles, height + above)
    return figure


def _spread(
    axis: Axes, judged: Judged, seen: Sequence[NodeSamples], value: Callable[[Sample], float], color: str, what: str
) -> dict[str, Any]:
    import numpy as np  # noqa: PLC0415  (only plots need it here)

    view = judged.view
    of_nodes = [slots(view, node.rows) for node in seen]
    first, last = min(map(min, of_nodes)), max(map(max, of_nodes))
    grid = np.full((len(seen), last - first + 1), np.nan)
    for i, (node, of_node) in enumerate(zip(seen, of_nodes, strict=True)):
        for slot, row in zip(of_node, node.rows, strict=True):
            grid[i, slot - first] = value(row)
    some = ~np.isnan(grid).all(axis=0)
    levels = np.full((5, grid.shape[1]), np.nan)
    levels[:, some] = np.nanpercentile(grid[:, some], [0, 25, 50, 75, 100], axis=0)
    # Nodes are sampled at their own seconds; the middle of these is where all are drawn.
    late = median(
        row.time - view.start - slot * view.interval
        for node, of_node in zip(seen, of_nodes, strict=True)
        for slot, row in zip(of_node, node.rows, strict=True)
    )
    times = [_date(view.start + slot * view.interval + late) for slot in range(first, last + 1)]
    # A single sampling time has no width to fill.
    single = int(some.sum()) == 1
    marker: dict[str, Any] = {"marker": "o", "markersize": 3.5} if single else {}
    if single:
        axis.vlines(times, levels[0], levels[4], color=color, alpha=0.3)
        axis.vlines(times, levels[1], levels[3], color=color, alpha=0.6, linewidth=3)
    return {
        f"{what}: lowest to highest": axis.fill_between(times, levels[0], levels[4], color=color, alpha=0.15, lw=0),
        f"{what}: quartiles": axis.fill_between(times, levels[1], levels[3], color=color, alpha=0.35, lw=0),
        f"{what}: median": axis.plot(times, levels[2], color=color, linewidth=1.6, label=f"{what}: median", **marker)[
            0
        ],
    }


def _named(
    axis: Axes,
    judged: Judged,
    nodes: Sequence[NodeSamples],
    value: Callable[[Sample], float],
    what: str,
    fold: Callable[[list[float]], float] = max,
) -> None:
    """The worst nodes by themselves, with their names and what makes them so."""
    styles: list[Any] = ["-", (0, (4, 1)), (0, (1, 1))]
    lines = []
    for node, style in zip(nodes, styles, strict=False):
        number = f"{fold([value(row) for row in node.rows]):.0f} {'%' if fold is fmean else 'GiB'}"
        label = f"{what}: {shown(node.node)} ({number})"
        _draw(
            axis,
            _parts(node.rows, judged.view.interval),
            value,
            {"color": BLACK, "linewidth": 0.9, "linestyle": style, "label": label},
            fold,
        )
        lines.append(next(line for line in axis.get_lines() if line.get_label() == label))
    axis.legend(
        handles=lines, loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=8, handlelength=3.2
    )
