"""What stands on the page of a number of a job: how it is made, and the samples it was made of."""

from __future__ import annotations

from typing import Any

from jobeff.config import Config
from jobeff.store.tables import EFFICIENCY_COLUMNS
from jobeff.views import why
from jobeff.views.job import JobView
from jobeff.views.web.render import Links, plain

LONGEST_LINE = 4000
"""A line of the archive has a value for each core."""


def page(config: Config, one: JobView, column: str, links: Links) -> dict[str, Any] | None:
    """What the template needs of one number.

    Parameters
    ----------
    config
        Of the site.
    one
        The attempt of the job.
    column
        Of the efficiency database.
    links
        To other pages.

    Returns
    -------
    dict or None
        By what the template calls it; None where the job has no such number.

    Raises
    ------
    JobeffError
        A shard it rests on is damaged, or has no row of the job any more.
    """
    if one.efficiency is None or column not in EFFICIENCY_COLUMNS:
        return None
    return {
        "name": one.name,
        "job": links.job(one.name, one.number),
        "why": evidence(why.Case(config, one), column),
        "zone": config.clock.zone.key,
    }


def evidence(case: why.Case, column: str, most: int | None = None) -> dict[str, Any]:
    """How a number is made.

    Parameters
    ----------
    case
        The job.
    column
        Of the efficiency database.
    most
        So many nodes; None for all.

    Returns
    -------
    dict
        By what the template calls it.

    Raises
    ------
    JobeffError
        As `page`.
    """
    found = why.explain(case, column)
    columns, nodes = list(found.nodes[0]) if found.nodes else [], found.nodes[:most]
    return {
        "column": column,
        "stored": _cell(found.stored),
        "formula": plain(found.formula, LONGEST_LINE),
        "here": plain(found.here, LONGEST_LINE),
        "again": _cell(found.value) if found.differs else None,
        "node_columns": [(title, _kind(found.nodes[0][title])) for title in columns],
        "nodes": [[(_cell(value), _kind(value)) for value in node.values()] for node in nodes],
        "more": len(found.nodes) - len(nodes),
        "rows": [_row(case, found, what, row) for what, row in found.rows],
    }


def _kind(value: why.Value) -> str:
    return "number" if isinstance(value, int | float) else "text"


def _cell(value: why.Value) -> str:
    if value is None:
        return "unknown"
    return f"{value:,}" if isinstance(value, int | float) else plain(value, LONGEST_LINE)


def _row(case: why.Case, found: why.Explained, what: str, row: why.Sample) -> dict[str, Any]:
    line = found.lines.get((row.node, row.time))
    return {
        "what": f"{what}: {row.node} at {case.when(row.time)}{why.row_says(found.column, row)}",
        "where": f"{plain(line.file)} byte {line.offset:,}" if line else "",
        "text": plain(line.text, LONGEST_LINE) if line else "",
    }
