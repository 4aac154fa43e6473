"""What the plots of a job have in common: figure, title, time axis, legend, and lines with their gaps."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from statistics import fmean
from typing import TYPE_CHECKING, Any

from jobeff.clock import Clock
from jobeff.errors import shown
from jobeff.views import start
from jobeff.views.evidence import Sample
from jobeff.views.job_text import Judged, ran
from jobeff.views.plot import BLACK, BLUE, DPI, GREY, ORANGE, PURPLE, SKY, VERMILLION, cut

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

EACH = 48
"""So many nodes have a panel each; more are drawn together."""

GAP = 1.5
"""Rows farther apart than so many intervals are not joined."""

POINTS = 480
"""Of more rows than so many, several become one point."""

CPU: dict[str, Any] = {"color": BLUE, "linewidth": 1.3, "label": "CPU"}
BUSY: dict[str, Any] = {"color": SKY, "linewidth": 1.0, "linestyle": (0, (1, 1)), "label": "cores in use (above 3 %)"}
BOOKED: dict[str, Any] = {"color": GREY, "linewidth": 1.0, "linestyle": (0, (6, 2)), "label": "cores booked"}
MEMORY_USED: dict[str, Any] = {"color": VERMILLION, "linewidth": 1.3, "linestyle": (0, (4, 1)), "label": "memory used"}
MEMORY_MOST: dict[str, Any] = {
    **{"color": ORANGE, "linewidth": 1.1, "linestyle": (0, (4, 1, 1, 1)), "label": "memory maximum"},
}
MEMORY_LIMIT: dict[str, Any] = {"color": BLACK, "linewidth": 1.0, "linestyle": (0, (1, 2)), "label": "memory limit"}
MARKERS = {"CPU": "o", "cores in use (above 3 %)": "x", "memory used": "s", "memory maximum": "^", "memory limit": "_"}
"""Of points by themselves, which have no line to be told apart by where there is no colour."""

SWAP: dict[str, Any] = {"color": PURPLE, "marker": "v", "markersize": 4.5, "linestyle": "none", "label": "swap in use"}


def new_figure(width: float, height: float, rows: int, columns: int, title: float, apart: float) -> tuple[Figure, Any]:
    """A figure and its panels.

    Parameters
    ----------
    width, height, title
        Inches; the title has so many above the panels.
    rows, columns
        Of panels.
    apart
        Space between rows, in heights of a panel.

    Returns
    -------
    Figure
        Drawn without a display.
    ndarray of Axes
        Shape (rows, columns).
    """
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


def title_lines(judged: Judged, clock: Clock, width: float) -> list[tuple[str, dict[str, Any]]]:
    """Lines above the panels.

    Parameters
    ----------
    judged
        The job.
    clock
        Whose local time is shown.
    width
        Of the figure, inches.

    Returns
    -------
    list of tuple
        Text, and how it looks.
    """
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
        # Each panel says by itself what its node lacks.
        *((word, {}) for word in judged.coverage.words[: None if len(judged.nodes) > EACH else 1]),
    ]
    slow = start.of_job(view, judged.nodes)
    if slow is not None:
        lines.append((f"start {slow.words(cores / max(1, nodes))}", {"color": VERMILLION}))
    flags = textwrap.wrap("  ".join(judged.flags), wide, break_on_hyphens=False)
    lines += [(line, {"color": VERMILLION, "fontweight": "bold"}) for line in flags]
    swapped = [shown(node.node) for node in judged.nodes if any(row.swap for row in node.rows)]
    if swapped and len(judged.nodes) > EACH:
        more = f" and {len(swapped) - 6:,} more" if len(swapped) > 6 else ""
        lines.append((f"swap in use on {', '.join(swapped[:6])}{more}", {"color": VERMILLION}))
    return [(shorter, style) for line, style in lines for shorter in textwrap.wrap(line, wide) if shorter]


def write_title(figure: Figure, lines: Sequence[tuple[str, dict[str, Any]]], height: float) -> None:
    """Write lines at the top of a figure.

    Parameters
    ----------
    figure
        From `new_figure`.
    lines
        From `title_lines`.
    height
        Of the figure, inches.
    """
    width = figure.get_size_inches()[0]
    for number, (line, style) in enumerate(lines):
        at = 1 - (0.14 + 0.2 * number) / height
        figure.text(0.3 / width, at, line, ha="left", va="top", **style)


def say(axis: Axes, text: str) -> None:
    """Write into the middle of a panel that has no lines.

    Parameters
    ----------
    axis
        The panel.
    text
        What there is to say.
    """
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color=VERMILLION)


def to_date(epoch: float) -> float:
    """A time as matplotlib wants it.

    Parameters
    ----------
    epoch
        Seconds.

    Returns
    -------
    float
        Days since 1970.
    """
    return epoch / 86_400


def without_gaps(rows: Sequence[Sample], interval: int) -> list[list[Sample]]:
    """Part rows at their gaps.

    Parameters
    ----------
    rows
        Of one node, in order of time.
    interval
        Seconds between samples.

    Returns
    -------
    list of list
        Rows that follow each other.
    """
    parts: list[list[Sample]] = []
    for row in rows:
        if parts and row.time - parts[-1][-1].time <= GAP * interval:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def rows_per_point(rows: Sequence[Sample]) -> int:
    """How many rows become one point.

    Parameters
    ----------
    rows
        Of one node.

    Returns
    -------
    int
        1 where there are few.
    """
    return -(-len(rows) // POINTS)


def draw(
    axis: Axes,
    parts: Sequence[Sequence[Sample]],
    value: Callable[[Sample], float | None],
    style: dict[str, Any],
    fold: Callable[[list[float]], float] = max,
) -> None:
    """Draw a line with its gaps; a point by itself is a dot.

    Parameters
    ----------
    axis
        The panel.
    parts
        From `without_gaps`.
    value
        What is drawn of a row; None for nothing.
    style
        Of the line.
    fold
        What becomes of the values of one point.
    """
    every = rows_per_point([row for part in parts for row in part])
    times: list[float] = []
    values: list[float] = []
    alone: list[tuple[float, float]] = []
    for part in parts:
        drawn: list[tuple[float, float]] = []
        for begin in range(0, len(part), every):
            rows = [(row.time, now) for row in part[begin : begin + every] if (now := value(row)) is not None]
            if rows:
                drawn.append((to_date(fmean(time for time, _ in rows)), fold([now for _, now in rows])))
        if len(drawn) == 1:
            alone += drawn
        times += [*(time for time, _ in drawn), to_date(part[-1].time)]
        values += [*(now for _, now in drawn), float("nan")]
    axis.plot(times, values, **style)
    if alone:
        shape = MARKERS.get(style.get("label", ""), "o")
        dots: dict[str, Any] = {"color": style["color"], "marker": shape, "markersize": 4.5, "linestyle": "none"}
        axis.plot([time for time, _ in alone], [now for _, now in alone], label="_alone", **dots)


def time_axis(axis: Axes, judged: Judged, clock: Clock) -> None:
    """Have a panel, and those that share its times, go from start to end.

    Parameters
    ----------
    axis
        The panel.
    judged
        The job.
    clock
        Whose local time is shown.
    """
    from matplotlib import dates  # noqa: PLC0415  (an extra)

    ticks: Any = dates
    view = judged.view
    margin = max(view.interval, (view.end - view.start) // 50)
    axis.set_xlim(to_date(view.start - margin), to_date(view.end + margin))
    locator = ticks.AutoDateLocator(tz=clock.zone, minticks=3, maxticks=7)
    axis.xaxis.set_major_locator(locator)
    form = ticks.ConciseDateFormatter(locator, tz=clock.zone, show_offset=False)
    form.formats[2] = form.zero_formats[2] = form.zero_formats[3] = "%b %d"  # a day alone says nothing of its month
    axis.xaxis.set_major_formatter(form)


def legend(figure: Figure, handles: dict[str, Any], height: float) -> None:
    """Write what lines mean at the bottom of a figure.

    Parameters
    ----------
    figure
        From `new_figure`.
    handles
        Lines and areas by label.
    height
        Of the figure, inches.
    """
    if handles:
        figure.legend(
            list(_marked(figure, handles)),
            list(handles),
            loc="lower center",
            bbox_to_anchor=(0.5, 0.06 / height),
            ncols=4,
            frameon=False,
            handlelength=3.2,
            fontsize=8.5,
        )


def _marked(figure: Figure, handles: dict[str, Any]) -> Iterator[Any]:
    """What stands in the legend; with its marker, where a panel has points by themselves."""
    from matplotlib.lines import Line2D  # noqa: PLC0415  (an extra)

    alone = any(line.get_label() == "_alone" for axis in figure.axes for line in axis.get_lines())
    for label, handle in handles.items():
        if alone and label in MARKERS and isinstance(handle, Line2D):
            marked = copy(handle)
            marked.set_marker(MARKERS[label])
            marked.set_markersize(4.5)
            yield marked
        else:
            yield handle
