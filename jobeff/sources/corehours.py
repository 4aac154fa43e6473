"""Core-hour statistics that a site keeps itself: grant and usage, one record per project, day and cluster."""

from __future__ import annotations

from jobeff.sources import values
from jobeff.sources.records import Column


def columns(cluster: str | None) -> tuple[Column, ...]:
    """Columns of the table `corehour_history` that a file gives, in the table's order.

    Parameters
    ----------
    cluster
        The cluster of records that name none; None where they must.

    Returns
    -------
    tuple of Column
        For `jobeff.sources.records.reader`.
    """

    def known(text: str) -> str:
        return values.cluster(text or cluster or "")

    return (
        Column("proj_id", values.project, needed=True),
        Column("date", values.day, needed=True),
        Column("cluster", known, needed=cluster is None),
        Column("grant", values.number),
        Column("30day_usage", values.number),
    )
