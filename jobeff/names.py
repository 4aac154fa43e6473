"""Names that may become a path or a key: clusters, nodes, job ids, months.

Everything that creates a path goes through here, so nothing can be created outside the root.
"""

from __future__ import annotations

import re

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
JOB_ID = re.compile(r"[0-9]{1,19}")
PROJECT = re.compile(r"[^\s\x00-\x1f\x7f\ud800-\udfff]{1,255}")
MONTH = re.compile(r"[0-9]{4}-(0[1-9]|1[0-2])")
INT64_MAX = 2**63 - 1


def is_name(text: str) -> bool:
    """Whether `text` may name a cluster or a node.

    Parameters
    ----------
    text
        A candidate from a log, a file name or the configuration.

    Returns
    -------
    bool
        True for 1 to 63 letters, digits, dots, underscores and hyphens that begin with a letter or digit.
    """
    return NAME.fullmatch(text) is not None


def is_project(text: str) -> bool:
    """Whether `text` may be a project, which is a key of databases and never of a path.

    Parameters
    ----------
    text
        A candidate from the project file or a statistics file.

    Returns
    -------
    bool
        True for 1 to 255 characters without blanks and control characters, so that whatever project accounting
        charges can be told of.
    """
    return PROJECT.fullmatch(text) is not None


def is_month(text: str) -> bool:
    """Whether `text` is a calendar month, ``YYYY-MM``.

    Parameters
    ----------
    text
        A candidate.

    Returns
    -------
    bool
        True for ``2021-05``, False for ``2021-5`` and ``2021-13``.
    """
    return MONTH.fullmatch(text) is not None


def job_id_or_none(text: str) -> int | None:
    """Read a job id as it stands in file names and logs.

    Parameters
    ----------
    text
        Decimal digits without sign or leading zero.

    Returns
    -------
    int or None
        1 to 2**63 - 1; None where `text` is no such number, so ``007`` cannot stand for job 7.
    """
    if JOB_ID.fullmatch(text) is None or text[0] == "0":
        return None
    value = int(text)
    return value if value <= INT64_MAX else None
