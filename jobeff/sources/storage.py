"""Storage statistics: what a project has stored and may store, one record per project and day."""

from __future__ import annotations

from jobeff.sources import values
from jobeff.sources.records import Column

COLUMNS = (
    Column("proj_id", values.project, needed=True),
    Column("date", values.day, needed=True),
    Column("usage", values.size),
    Column("quota", values.size),
    Column("path", values.words),
    Column("noback_usage", values.size),
    Column("noback_quota", values.size),
    Column("noback_path", values.words),
    Column("inbox", values.size),
)
"""Those of the table `storage_history`, in its order."""
