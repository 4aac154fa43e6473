"""Why a command failed in a way that it does not know: a damaged cell, which no longer is a number or a text."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from jobeff.errors import JobeffError

if TYPE_CHECKING:
    from jobeff.cli.options import Options


def damage_behind(error: Exception, options: Options) -> JobeffError | None:
    """Look for a damaged database behind an error.

    Parameters
    ----------
    error
        Not one that a command tells of itself.
    options
        Of the command line; they know the site where the command has come so far.

    Returns
    -------
    JobeffError or None
        Names the first one; None where the error has another cause, as far as the sums of the databases tell.
    """
    if options.loaded is None or isinstance(error, (JobeffError, OSError)) or _is_told_by_sqlite(error):
        return None
    from jobeff.progress import Progress
    from jobeff.steps.check_databases import check_databases
    from jobeff.steps.check_report import Report
    from jobeff.store.tables import SCHEMAS, opened

    report, read = Report(), [name for name in SCHEMAS if name in opened]  # reading what was not would take long
    check_databases(options.loaded.root, True, None, report, Progress(options.quiet), read)
    if not report.damage:
        return None
    first = report.damage[0]
    todo = "'jobeff repair' mends it"
    return JobeffError(
        "a database is damaged", where=first.where, why=first.why, safe="What is written is whole", todo=todo
    )


def _is_told_by_sqlite(error: Exception) -> bool:
    """Whether it is the disk, a lock or rights: of texts that are none Python tells, without SQLite's code."""
    return isinstance(error, sqlite3.OperationalError) and hasattr(error, "sqlite_errorcode")
