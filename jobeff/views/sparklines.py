"""Usage over time in a line of text."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from jobeff.views.evidence import NodeSamples, Sample
from jobeff.views.job import JobView

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII = "_.-:=+*#"
GAP = " "
WIDTH = 24
EACH = 8
"""So many nodes have lines of their own; more are drawn together."""

WORST = 3
"""Of nodes drawn together, so many of the least busy and of the fullest are named."""


def fits(encoding: str | None) -> bool:
    """Whether an output can show blocks.

    Parameters
    ----------
    encoding
        Of the output.

    Returns
    -------
    bool
        False also where it is not known.
    """
    try:
        BLOCKS.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def line(values: Sequence[float | None], top: float, marks: str = BLOCKS) -> str:
    """Draw values.

    Parameters
    ----------
    values
        One per character; None where there is none.
    top
        What the highest mark means; larger values get it too.
    marks
        From low to high.

    Returns
    -------
    str
        As many characters as values.
    """
    steps = len(marks) - 1
    return "".join(
        GAP if value is None else marks[min(steps, int(value / top * steps + 0.5)) if top > 0 else 0]
        for value in values
    )


def binned(view: JobView, rows: Iterable[Sample], value: Callable[[Sample], float], width: int) -> list[float | None]:
    """Largest value of each part of a job's time.

    Parameters
    ----------
    view
        The job.
    rows
        Samples.
    value
        What is drawn of each.
    width
        How many parts.

    Returns
    -------
    list
        None for a part without a sample.
    """
    parts: list[float | None] = [None] * width
    length = max(1, view.end - view.start)
    for row in rows:
        part = min(width - 1, max(0, (row.time - view.start) * width // length))
        now, before = value(row), parts[part]
        parts[part] = now if before is None else max(now, before)
    return parts


def table(view: JobView, nodes: Sequence[NodeSamples], marks: str = BLOCKS) -> list[str]:
    """Cores and memory of each node over time, or of all together where they are many.

    Parameters
    ----------
    view
        The job.
    nodes
        From `jobeff.views.evidence.of_job`.
    marks
        `BLOCKS` or `ASCII`.

    Returns
    -------
    list of str
        Lines of at most 80 columns; none where there is no sample.
    """
    seen = [node for node in nodes if node.rows]
    if not seen:
        return []
    # No wider than a mark per sample, or every other mark would be a gap.
    width = max(1, min(WIDTH, view.expected))
    cores = 100 * view.accounting["cores"] / max(1, len(nodes))
    limit = max(row.limit for node in seen for row in node.rows) / 100
    top = limit or max(row.peak for node in seen for row in node.rows) / 100
    head = f"{'':12}{f'cpu, to {cores:.0f} %':{max(width, 14)}}  mean    memory, to {top:.4g} GiB"
    if len(nodes) <= EACH:
        return [head, *(_node(view, node, width, cores, top, marks) for node in nodes)]
    return [head, *_band(view, seen, width, cores, top, marks), *_worst(seen, cores)]


def _node(view: JobView, node: NodeSamples, width: int, cores: float, top: float, marks: str) -> str:
    name = node.node if len(node.node) <= 10 else node.node[:4] + ".." + node.node[-4:]
    if not node.rows:
        return f"  {name:<10}{'shard damaged' if node.damaged else 'no sample'}"
    cpu = line(binned(view, node.rows, lambda row: row.cpu_pct, width), cores, marks)
    memory = line(binned(view, node.rows, lambda row: row.peak / 100, width), top, marks)
    return _row(name, cpu, f"{_mean(node) / cores * 100 if cores else 0:.0f} %", memory, f"{_peak(node):.1f}", width)


def _row(name: str, cpu: str, mean: str, memory: str, peak: str, width: int) -> str:
    return f"  {name:<10}{cpu:<{max(width, 14)}}{mean:>6}    {memory:<{width}}  {peak}".rstrip()


def _band(
    view: JobView, seen: Sequence[NodeSamples], width: int, cores: float, top: float, marks: str
) -> Iterable[str]:
    cpu = [binned(view, node.rows, lambda row: row.cpu_pct, width) for node in seen]
    memory = [binned(view, node.rows, lambda row: row.peak / 100, width) for node in seen]
    means, peaks = [_mean(node) / cores * 100 if cores else 0 for node in seen], [_peak(node) for node in seen]
    for name, of in (("highest", max), ("median", statistics.median), ("lowest", min)):
        yield _row(
            name,
            line(_across(cpu, of), cores, marks),
            f"{of(means):.0f} %",
            line(_across(memory, of), top, marks),
            f"{of(peaks):.1f}",
            width,
        )


def _across(of_nodes: list[list[float | None]], of: Callable[[list[float]], float]) -> list[float | None]:
    columns = [[value for value in column if value is not None] for column in zip(*of_nodes, strict=True)]
    return [of(column) if column else None for column in columns]


def _worst(seen: Sequence[NodeSamples], cores: float) -> Iterable[str]:
    idle = sorted(seen, key=lambda node: (_mean(node), node.node))[:WORST]
    full = sorted(seen, key=lambda node: (-_fullness(node)[0], -_peak(node), node.node))[:WORST]
    yield "  least busy: " + ", ".join(
        f"{node.node} {_mean(node) / cores * 100 if cores else 0:.0f} %" for node in idle
    )
    yield "  fullest: " + ", ".join(f"{node.node} {_peak(node):.1f}{_fullness(node)[1]} GiB" for node in full)


def _mean(node: NodeSamples) -> float:
    return sum(row.cpu_pct for row in node.rows) / len(node.rows)


def _fullness(node: NodeSamples) -> tuple[float, str]:
    """Share of its memory, and the limit in words; as METRICS ranks nodes."""
    limit = max(row.limit for row in node.rows) / 100
    return (_peak(node) / limit, f" of {limit:.4g}") if limit else (0.0, "")


def _peak(node: NodeSamples) -> float:
    return max(row.peak for row in node.rows) / 100
