"""Walks a number of a job back to the rows it came from.

Each number is computed again in plain Python, from the samples in the shards and by the words of METRICS, and compared
with the stored one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from jobeff.errors import JobeffError, shown
from jobeff.views.evidence import BUSY, USED, Sample
from jobeff.views.text import gib, table, wrapped
from jobeff.views.why_case import ROWS_SHOWN, Case, Explained, Value
from jobeff.views.why_numbers import FROM_SAMPLES, from_accounting

__all__ = ["Case", "Explained", "Sample", "Value", "as_dict", "explain", "lines", "row_says"]

CLOSE = 1e-9
"""Floats are the same within this share of them."""


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
    if column in FROM_SAMPLES:
        if not case.seen:
            raise JobeffError(
                f"the shards have no row of job {case.view.name}",
                why="its numbers were computed from rows that are gone",
                todo="'jobeff check' says what is amiss, 'jobeff rebuild' makes the shards again",
            )
        found = FROM_SAMPLES[column](case)
    else:
        found = from_accounting(case, column)
    found.stored = case.row[column]
    found.differs = not _same(found.value, found.stored)
    found.lines = case.raw_lines([row for _, row in found.rows])
    return found


def _same(one: Value, other: Value) -> bool:
    if isinstance(one, float) and isinstance(other, int | float):
        return math.isclose(one, other, rel_tol=CLOSE, abs_tol=0.0)
    return one == other


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
    """An explanation as text of at most 80 columns.

    Parameters
    ----------
    case, explained
        The job, and from `explain`.

    Yields
    ------
    str
        Lines.
    """
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
        yield from wrapped(
            f"{what}: {row.node} at {case.when(row.time)}{row_says(explained.column, row)}", "  row       "
        )
        line = explained.lines.get((row.node, row.time))
        if line is None:
            yield "            it is not in the archive"
        else:
            yield f"            {line.file} byte {line.offset}"
            yield from wrapped(line.text, " " * 12)
    if explained.differs:
        say = (
            f"differs: {shown(str(explained.value))} was computed again. Where samples or accounting have come since, "
            "'jobeff update' brings the number up to date; else something is damaged, and 'jobeff check' says what"
        )
        yield from wrapped(say, "  stored    ")
    else:
        yield "  stored    the same"


def row_says(column: str, row: Sample) -> str:
    """What a row says that decided, to stand behind its time.

    Parameters
    ----------
    column
        Whose number it decided.
    row
        The sample.

    Returns
    -------
    str
        Busy cores and memory.
    """
    most = "" if row.max_used is None else f", max {gib(row.max_used)}"
    threshold = USED if column == "cores_used_peak" else BUSY
    busy = f"{row.above(threshold)} of {len(row.cores)} cores above {threshold // 100} %"
    return f", {busy}, used {gib(row.used)}{most}"


def _foremost(nodes: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    return nodes if len(nodes) <= ROWS_SHOWN else nodes[: ROWS_SHOWN - 1]
