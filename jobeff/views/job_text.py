"""A job in a terminal of 80 columns: its numbers, flags, advice, coverage and what it looked like over time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from typing import Any

from jobeff.clock import Clock
from jobeff.errors import shown
from jobeff.views import advice, sparklines, start
from jobeff.views.coverage import Coverage
from jobeff.views.evidence import NodeSamples
from jobeff.views.job import JobView
from jobeff.views.text import WIDTH, table, wrapped

CORE = 4
"""Characters of a core's percent, with the blank before it."""

SAMPLES = ("node", "time", "limit", "used", "max", "swap", "cpu")


@dataclass(frozen=True)
class Judged:
    """A job and what is said of it.

    Attributes
    ----------
    view
        The job.
    nodes
        Its samples.
    flags
        See `jobeff.views.flags`.
    advice
        See `jobeff.views.advice`.
    coverage
        See `jobeff.views.coverage`.
    """

    view: JobView
    nodes: list[NodeSamples]
    flags: list[str]
    advice: advice.Advice
    coverage: Coverage


def attempts(found: Sequence[JobView], clock: Clock) -> Iterator[str]:
    """Where there are several jobs for one id, which.

    Parameters
    ----------
    found
        From `jobeff.views.job.find`.
    clock
        Whose local time is shown.

    Yields
    ------
    str
        A line for each.
    """
    if len(found) < 2:
        return
    for name in dict.fromkeys(view.name for view in found):
        same = [view for view in found if view.name == name]
        yield f"{name}: {len(same)} attempt{'' if len(same) == 1 else 's'}"
        for view in same:
            state = shown(view.accounting["jobstate"])
            yield f"  {view.number}. {ran(view.start, view.end, clock)}  {state}"


def job(judged: Judged, clock: Clock, marks: str = sparklines.BLOCKS) -> str:
    """A job's numbers with their units.

    Parameters
    ----------
    judged
        The job.
    clock
        Whose local time is shown.
    marks
        Of sparklines.

    Returns
    -------
    str
        A title and lines of at most 80 columns, but for a long job name.
    """
    view = judged.view
    several = f"  attempt {view.number} of {len(view.attempts)}" if len(view.attempts) > 1 else ""
    lines = [f"{view.name}  {shown(view.accounting['jobname'])}{several}"]
    before = ""
    for name, value in about(judged, clock):
        lines += wrapped(value, f"  {name if name != before else '':<12}")
        before = name
    return "\n".join([*lines, *sparklines.table(view, judged.nodes, marks)])


def about(judged: Judged, clock: Clock) -> list[tuple[str, str]]:
    """What there is to say of a job.

    Parameters
    ----------
    judged
        The job.
    clock
        Whose local time is shown.

    Returns
    -------
    list of tuple
        What it is about and a line of it, escaped; of advice and coverage there can be several.
    """
    view = judged.view
    known, row = view.accounting, view.efficiency
    lines = [
        ("project", f"{shown(known['proj_id'])}, user {shown(known['user'])}"),
        ("state", f"{shown(known['jobstate'])} in partition {shown(known['partition'])}"),
        ("ran", ran(view.start, view.end, clock)),
        ("booked", f"{_cores(known['cores'])} on {_nodes(view.nodes)}"),
        ("core hours", f"{known['cores'] * view.hours:,.1f}"),
    ]
    if row is not None:
        lines += _numbers(row)
    slow = start.of_job(view, judged.nodes)
    if slow is not None:
        lines.append(("start", slow.words(known["cores"] / max(1, len(view.nodes)))))
    lines += [("coverage", words) for words in judged.coverage.words]
    if judged.flags:
        lines.append(("flags", " ".join(judged.flags)))
    elif row is not None:
        lines.append(("flags", "none"))
    for sentence in advice.lines(judged.advice) if judged.flags else ():
        lines.append(("advice", sentence))
    return lines + _next_time(judged.advice)


def _next_time(found: advice.Advice) -> list[tuple[str, str]]:
    ask = found.ask
    if ask is None:
        return []
    memory = f", {ask.memory_gib:,} GiB of memory{' each' if ask.nodes > 1 else ''}" if ask.memory_gib else ""
    nodes = "1 node" if ask.nodes == 1 else f"{ask.nodes:,} nodes"
    saved = f"{ask.saved_core_hours:,.1f} core hours saved" if ask.saved_core_hours else "no core hours saved"
    return [("next time", f"{nodes}, {_cores(ask.cores)}{memory}: {saved}"), ("rule", advice.RULE)]


def _cores(count: int) -> str:
    return f"{count:,} core{'' if count == 1 else 's'}"


def _numbers(row: dict[str, Any]) -> list[tuple[str, str]]:
    known = row["mem_limit"] is not None
    limit = f"{row['mem_limit']:.2f} GiB" if known else "an unknown limit"
    share = f" ({100 * row['mem_peak'] / row['mem_limit']:.0f} %)" if known else ""
    swap = [("swap", f"up to {row['swap_peak']:.2f} GiB")] if row["swap_peak"] else []
    busy = f"{row['cores_used_peak']:,} of {row['cores']:,} at most"
    return [
        ("cpu", f"{row['cpu_mean']:.1f} % of the booked cores"),
        ("cores used", f"{busy}; for 75 % of the time {row['cpu_cores_used_percentile']:g} or fewer"),
        ("memory", f"{row['mem_peak']:.2f} GiB at most of {limit}{share}, median {row['mem_median']:.2f} GiB"),
        *swap,
    ]


def ran(start: int, end: int, clock: Clock) -> str:
    """When a job ran and how long.

    Parameters
    ----------
    start, end
        Epoch seconds.
    clock
        Whose local time is shown.

    Returns
    -------
    str
        Two times, and days, hours, minutes and seconds.
    """
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
    cells, of_cores = [], []
    for row in rows:
        cores = row["cores_pct"]
        of_cores.append(cores)
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
            ]
        )
    if not cells:
        return "  no samples"
    before = table(SAMPLES, cells, left=2).split("\n")
    room = WIDTH - max(map(len, before))
    return "\n".join([f"{before[0]}  cores", *map(_with_cores, before[1:], of_cores, repeat(room))])


def _with_cores(line: str, cores: Sequence[float], room: int) -> str:
    """A row with as many of its cores as there is room for, and how many more there are."""
    fitting = max(1, (room - 1) // CORE)
    if len(cores) > fitting:
        fitting = max(1, (room - 1 - len(f" +{len(cores)}")) // CORE)
    more = f" +{len(cores) - fitting}" if len(cores) > fitting else ""
    return f"{line} " + "".join(f"{core:{CORE}.0f}" for core in cores[:fitting]) + more
