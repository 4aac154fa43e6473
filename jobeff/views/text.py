"""Text for a terminal of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from jobeff.errors import printable

if TYPE_CHECKING:  # who looks one job up need not wait for what runs steps
    from jobeff.steps.site import StepResult

WIDTH = 80


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """Align columns.

    Parameters
    ----------
    header
        Titles.
    rows
        Cells, ready to be shown.
    left
        So many columns stand left, the others right.

    Returns
    -------
    str
        Lines without a newline at the end.
    """
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def wrapped(text: str, first: str) -> list[str]:
    """Break a text into lines of at most `WIDTH` columns.

    Parameters
    ----------
    text
        Any.
    first
        What the first line begins with; the others begin with as many blanks.

    Returns
    -------
    list of str
        At least one; words are broken only where one alone is too long.
    """
    rest = " " * len(first)
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False) or [first]


def gib(hundredths: float) -> str:
    """Memory with its unit.

    Parameters
    ----------
    hundredths
        Of GiB.

    Returns
    -------
    str
        With two decimals.
    """
    return f"{float(hundredths) / 100:.2f} GiB"


ROWS = ("new", "changed", "unchanged")
"""What becomes of rows; these counts stand in columns of their own."""


def results(steps: Sequence[StepResult]) -> str:
    """What steps have done: rows and seconds in a table, below each step what else there is to count.

    Parameters
    ----------
    steps
        In order.

    Returns
    -------
    str
        Lines of at most `WIDTH` columns; counts that are 0 are left out.
    """
    header = ["step", *ROWS, "set aside", "seconds"]
    cells = [
        [
            step.step,
            *(f"{step.counts[what]:,}" if what in step.counts else "-" for what in ROWS),
            f"{step.aside.total:,}",
            "failed" if step.failed else f"{step.seconds:.1f}",
        ]
        for step in steps
    ]
    lines = table(header, cells).split("\n")
    shown_lines = lines[:1]
    for line, step in zip(lines[1:], steps, strict=True):
        others = ", ".join(_count(what, n) for what, n in step.counts.items() if n and what not in ROWS)
        shown_lines.append(line)
        shown_lines.extend(_indented(others))
        shown_lines.extend(_indented(step.failed))
    return "\n".join(shown_lines)


def _indented(text: str) -> list[str]:
    return textwrap.wrap(printable(text), WIDTH, initial_indent="  ", subsequent_indent="  ")


def _count(what: str, number: int) -> str:
    if what.endswith(" bytes"):
        return f"{number / 1e6:,.1f} MB {what.removesuffix(' bytes')}"
    return f"{what} {number:,}"
