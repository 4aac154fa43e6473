"""Text for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from jobeff.clock import Clock
from jobeff.errors import shown
from jobeff.steps.site import StepResult
from jobeff.views.job import JobView

WIDTH = 80
CORES_SHOWN = 8


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Align columns.

    Parameters
    ----------
    header
        Titles.
    rows
        Cells, ready to be shown.
    left
        So many columns stand left, the others right.

    Returns
    -------
    str
        Lines without a newline at the end.
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


ROWS = ("new", "changed", "unchanged")
"""What becomes of rows; these counts stand in columns of their own."""


def results(steps: Sequence[StepResult]) -> str:
    """What steps have done: rows and seconds in a table, below each step what else there is to count.

    Parameters
    ----------
    steps
        In order.

    Returns
    -------
    str
        Lines of at most `WIDTH` columns; counts that are 0 are left out.
    """
    header = ["step", *ROWS, "set aside", "seconds"]
    cells = [
        [
            step.step,
            *(f"{step.counts[what]:,}" if what in step.counts else "-" for what in ROWS),
            f"{step.aside.total:,}",
            "failed" if step.failed else f"{step.seconds:.1f}",
        ]
        for step in steps
    ]
    lines = table(header, cells).split("\n")
    shown_lines = lines[:1]
    for line, step in zip(lines[1:], steps, strict=True):
        others = ", ".join(_count(what, n) for what, n in step.counts.items() if n and what not in ROWS)
        shown_lines.append(line)
        shown_lines.extend(_indented(others))
        shown_lines.extend(_indented(step.failed))
    return "\n".join(shown_lines)


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _count(what: str, number: int) -> str:
    if what.endswith(" bytes"):
        return f"{number / 1e6:,.1f} MB {what.removesuffix(' bytes')}"
    return f"{what} {number:,}"


def job(view: JobView, clock: Clock) -> str:
    """A job's numbers with their units.

    Parameters
    ----------
    view
        From `jobeff.views.job.find`.
    clock
        Whose local time is shown.

    Returns
    -------
    str
        A title and one line per number.
    """
    known, row = view.accounting, view.efficiency
    title = f"{known['cluster']}/{known['job_id']}  {shown(known['jobname'])}"
    lines = [
        ("project, user", f"{shown(known['proj_id'])}, {shown(known['user'])}"),
        ("state", f"{known['jobstate']} in partition {shown(known['partition'])}"),
        ("ran", _ran(known["start"], known["end"], clock)),
        ("booked", f"{known['cores']} cores on {_nodes(view.nodes)}"),
        ("core hours", f"{known['cores'] * (known['end'] - known['start']) / 3600:,.1f}"),
    ]
    if row is None:
        lines.append(("samples", _why_none(view)))
    else:
        lines += _numbers(row)
    return "\n".join([title, *(f"  {name:<16}{value}" for name, value in lines)])


def _numbers(row: dict[str, Any]) -> list[tuple[str, str]]:
    known = row["mem_limit"] is not None
    limit = f"{row['mem_limit']:.1f} GiB" if known else "unknown"
    share = f" ({100 * row['mem_peak'] / row['mem_limit']:.0f} %)" if known else ""
    swap = f", swap up to {row['swap_peak']:.1f} GiB" if row["swap_peak"] else ""
    seen = f"{row['nodes_seen']} of {row['nodes_booked']} nodes, {100 * row['coverage']:.0f} % of the samples expected"
    bad = f"; {row['rejected']} damaged rows not used" if row["rejected"] else ""
    return [
        ("cpu", f"{row['cpu_mean']:.1f} % of the booked cores"),
        ("cores used", f"at most {row['cpu_cores_used_percentile']:g} of {row['cores']} for 75 % of the time"),
        ("memory", f"{row['mem_peak']:.1f} GiB at most of {limit}{share}, median {row['mem_median']:.1f} GiB{swap}"),
        ("samples", f"{row['counts']} rows on the node with most; {seen}{bad}"),
    ]


def _why_none(view: JobView) -> str:
    if not view.nodes:
        return "none: the job never started"
    if view.accounting["end"] - view.accounting["start"] < view.interval:
        return "none: the job was too short to have one"
    return "none: no raw file with a valid row is known of it ('jobeff update' takes new ones)"


def _ran(start: int, end: int, clock: Clock) -> str:
    begin, stop = (datetime.fromtimestamp(epoch, clock.zone) for epoch in (start, end))
    days, rest = divmod(end - start, 86_400)
    hours, minutes, seconds = rest // 3600, rest // 60 % 60, rest % 60
    length = (f"{days}-" if days else "") + f"{hours:02}:{minutes:02}:{seconds:02}"
    return f"{begin:%Y-%m-%d %H:%M:%S} to {stop:%Y-%m-%d %H:%M:%S} ({length})"


def _nodes(nodes: Sequence[str]) -> str:
    if len(nodes) == 0:
        return "no node"
    names = ", ".join(nodes[:6]) + (f" and {len(nodes) - 6} more" if len(nodes) > 6 else "")
    return f"{len(nodes)} node{'s' if len(nodes) > 1 else ''}: {names}"


def samples(rows: Iterable[dict[str, Any]], clock: Clock) -> str:
    """Samples, one line each, cores beyond the first few folded.

    Parameters
    ----------
    rows
        From `jobeff.views.job.samples`.
    clock
        Whose local time is shown.

    Returns
    -------
    str
        A table; GiB and percent.
    """
    cells = []
    for row in rows:
        cores = row["cores_pct"]
        more = f" +{len(cores) - CORES_SHOWN}" if len(cores) > CORES_SHOWN else ""
        most = row["max_used_gib"]
        cells.append(
            [
                row["node"],
                datetime.fromtimestamp(row["time"], clock.zone).strftime("%m-%d %H:%M:%S"),
                f"{row['limit_gib']:g}",
                f"{row['used_gib']:g}",
                "-" if most is None else f"{most:g}",
                f"{row['swap_gib']:g}",
                f"{sum(cores):.0f}",
                " ".join(f"{core:3.0f}" for core in cores[:CORES_SHOWN]) + more,
            ]
        )
    if not cells:
        return "  no samples"
    return table(["node", "time", "limit", "used", "max", "swap", "cpu", "cores"], cells, left=2)


def projects(rows: Sequence[dict[str, Any]]) -> str:
    """The report by project.

    Parameters
    ----------
    rows
        From `jobeff.views.report.projects`.

    Returns
    -------
    str
        A table with a line that says what its columns are.
    """
    if not rows:
        return "No job ended in this time."
    cells = [
        [
            shown(row["project"]),
            f"{row['jobs']:,}",
            f"{row['measured']:,}",
            f"{row['core_hours']:,.0f}",
            _percent(row["cpu_pct"]),
            _percent(row["memory_pct"]),
            _percent(row["efficiency_pct"]),
            "-" if row["wasted_core_hours"] is None else f"{row['wasted_core_hours']:,.0f}",
        ]
        for row in rows
    ]
    header = ["project", "jobs", "measured", "core hours", "cpu", "memory", "efficiency", "wasted"]
    note = (
        "cpu, memory: share of what was booked, weighted by core hours; efficiency: the larger of\n"
        "the two for each job; wasted: booked core hours x (1 - efficiency); of measured jobs."
    )
    return f"{table(header, cells)}\n\n{note}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} %"
