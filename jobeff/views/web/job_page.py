"""What stands on the page of a job: its numbers, flags and advice, its nodes over time, its other attempts."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any

from jobeff.config import Config
from jobeff.names import INT64_MAX
from jobeff.store import tables
from jobeff.views import job, job_text, why
from jobeff.views.evidence import NodeSamples
from jobeff.views.job import JobView
from jobeff.views.judge import judge
from jobeff.views.web import chart, why_page
from jobeff.views.web.render import Links, plain

TASKS = 500
NODES = 50
"""So many are listed for each number, where numbers are led back on this page."""

NUMBERS = {
    "booked": ("cores", "nodes_booked"),
    "cpu": ("cpu_mean",),
    "cores used": ("cores_used_peak", "cpu_cores_used_percentile"),
    "memory": ("mem_peak", "mem_limit", "mem_median"),
    "swap": ("swap_peak",),
    "coverage": ("coverage", "counts", "nodes_seen", "rejected"),
}
"""Columns of the efficiency database that stand in a line of `jobeff.views.job_text.about`."""


def page(
    config: Config, one: JobView, others: Sequence[JobView], links: Links, evidence: bool = False
) -> dict[str, Any]:
    """What the template needs of one attempt of a job.

    Parameters
    ----------
    config
        Of the site.
    one
        The attempt.
    others
        All attempts that may be seen, this one among them.
    links
        To other pages.
    evidence
        Whether the samples behind numbers stand on this page, instead of on pages of their own.

    Returns
    -------
    dict
        By what the template calls it.
    """
    judged = judge(config, one, False)
    evidences = list(_evidences(config, one, judged.nodes)) if evidence and one.efficiency else []
    known = one.accounting
    about = [(name, value) for name, value in job_text.about(judged, config.clock) if name != "project"]
    keys = {"cluster": str(known["cluster"]), "job_id": str(known["job_id"])}
    return {
        "name": one.name,
        "jobname": plain(known["jobname"]),
        "project": (plain(known["proj_id"]), links.project(known["proj_id"])),
        "user": (plain(known["user"]), links.user(known["user"])),
        "about": _grouped(about),
        "whys": _whys(one, links, {found["column"] for found in evidences} if evidence else None),
        "evidences": evidences,
        "flags": judged.flags,
        "attempts": [_attempt(config, other, one, links) for other in others] if len(others) > 1 else [],
        "plot": chart.job(judged, config.clock) if judged.nodes else None,
        "node_columns": NODE_COLUMNS,
        "nodes": [_node(node, state) for node, state in zip(judged.nodes, judged.coverage.nodes, strict=True)],
        "accounting": links.table("accounting", "jobs", **keys),
        "efficiency": links.table("efficiency", "jobs", **keys) if one.efficiency else None,
        "zone": config.clock.zone.key,
    }


def _grouped(about: Sequence[tuple[str, str]]) -> list[tuple[str, list[str]]]:
    found: dict[str, list[str]] = {}
    for name, value in about:
        found.setdefault(name, []).append(value)
    return list(found.items())


def _evidences(config: Config, one: JobView, nodes: Sequence[NodeSamples]) -> Iterator[dict[str, Any]]:
    """Numbers led back to samples; none of a job whose shards are damaged or gone, as the table of nodes says."""
    if any(node.damaged for node in nodes) or not any(node.rows for node in nodes):
        return
    case = why.Case(config, one, nodes=nodes)
    for columns in NUMBERS.values():
        for column in columns:
            yield why_page.evidence(case, column, NODES)


def _whys(one: JobView, links: Links, there: set[str] | None) -> dict[str, list[tuple[str, str]]]:
    """Where numbers are led back to samples, by the line in which they stand; of those that are there, or all."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line, columns in NUMBERS.items() if one.efficiency else ():
        for column in columns:
            href = links.why(one.name, one.number, column)
            if href is not None and (there is None or column in there):
                found.setdefault(line, []).append((column, href))
    return found


def _attempt(config: Config, other: JobView, one: JobView, links: Links) -> dict[str, Any]:
    return {
        "number": other.number,
        "ran": job_text.ran(other.start, other.end, config.clock),
        "state": plain(other.accounting["jobstate"]),
        "href": None if other is one else links.job(other.name, other.number),
        "this": other is one,
    }


def _node(node: NodeSamples, about: dict[str, Any]) -> list[str]:
    rows = node.rows
    return [
        node.node,
        {"never": "never seen"}.get(about["state"], about["state"]),
        f"{len(rows):,}",
        f"{node.rejected:,}",
        f"{fmean(row.cpu_pct for row in rows):,.0f}" if rows else "-",
        f"{max(row.peak for row in rows) / 100:,.2f}" if rows else "-",
        f"{max(row.limit for row in rows) / 100:,.2f}" if any(row.limit for row in rows) else "-",
        f"{max(row.swap for row in rows) / 100:,.2f}" if rows else "-",
    ]


NODE_COLUMNS = (
    "node", "samples are", "rows", "damaged rows", "mean CPU, % of one core", "memory peak, GiB", "limit, GiB",
    "most swap, GiB",
)  # fmt: skip


def tasks(config: Config, cluster: str, array: int) -> list[JobView]:
    """Tasks of a job array.

    Parameters
    ----------
    config
        Of the site.
    cluster, array
        Its cluster and id.

    Returns
    -------
    list of JobView
        The first `TASKS`, without their numbers; in order of id and start.
    """
    connection = tables.read_database(tables.database(config.root, "accounting"), "accounting")
    with contextlib.closing(connection):
        connection.row_factory = sqlite3.Row
        rows = connection.execute(
            "select * from jobs where job_id between ? and ? and cluster = ? and job_id_text glob ? "
            "order by job_id, start limit ?",
            (array, min(array + job.NEAR, INT64_MAX), cluster, f"{array}_*", TASKS),
        ).fetchall()
    interval = config.interval(cluster)
    return [JobView(dict(row), None, interval, ((row["nodes"], row["start"], row["end"]),)) for row in rows]
