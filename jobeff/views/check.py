"""What `check` has found, as text."""

from __future__ import annotations

import textwrap

from jobeff.steps.check_report import BEHIND, KINDS, LOST, NO_RAW_FILE, ORPHAN, TOO_SHORT, Report
from jobeff.views.text import WIDTH, table

SHOWN = 20
"""Of each kind of damage so many are named; ``--json`` names all."""

USUAL = (NO_RAW_FILE, TOO_SHORT, ORPHAN, BEHIND)


def check(report: Report) -> str:
    """A table by cluster and month, and below it what is damaged.

    Parameters
    ----------
    report
        From `jobeff.steps.check.check`.

    Returns
    -------
    str
        Lines without a newline at the end.
    """
    damaged = [kind for kind in KINDS if KINDS[kind].damage]
    header = ["cluster", "month", "jobs", "raw files", *USUAL, "damaged"]
    titles = ["no file" if title == NO_RAW_FILE else title for title in header]
    cells = [
        [
            cluster,
            month,
            *(f"{counts[what]:,}" if counts[what] else "-" for what in header[2:-1]),
            f"{sum(counts[kind] for kind in damaged):,}" if any(counts[kind] for kind in damaged) else "-",
        ]
        for (cluster, month), counts in sorted(report.months.items())
    ]
    parts = [table(titles, cells, left=2) if cells else "There is nothing to check yet."]
    for kind, about in KINDS.items():
        if report.counts[kind] and (about.damage or kind not in USUAL or kind == LOST):
            parts.append(_kind(report, kind))
    for where, why in report.unchecked:
        parts.append(_wrapped(f"not checked: {where}: {why}"))
    if report.counts[NO_RAW_FILE]:
        parts.append(_wrapped(f"no file: {KINDS[NO_RAW_FILE].means}."))
    behind = report.counts[BEHIND]
    lost = " beside what is lost for good" if report.counts[LOST] else ""
    verdict = "Damage was found: 'jobeff repair' mends it." if report.damage else f"No damage was found{lost}."
    if not cells and not report.damage:  # nothing was compared, which is no sign that all is whole
        verdict = "Nothing was compared. 'jobeff update' brings in what there is."
    if behind:
        verdict += " What is behind is taken by the next 'jobeff update'."
    return "\n\n".join([*parts, verdict])


def _kind(report: Report, kind: str) -> str:
    named = [one for one in report.findings if one.kind == kind][:SHOWN]
    lines = [_wrapped(f"{kind}: {report.counts[kind]:,}. These are {KINDS[kind].means}.")]
    lines += [f"  {one.where}: {one.why}" for one in named]
    more = sum(one.kind == kind for one in report.findings) - len(named)
    return "\n".join([*lines, *([f"  and {more:,} more"] if more > 0 else [])])


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, WIDTH, subsequent_indent="  "))
