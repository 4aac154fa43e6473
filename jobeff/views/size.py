"""What a site takes, as a table."""

from __future__ import annotations

from collections.abc import Mapping

from jobeff.bench.size import Load, Size
from jobeff.views.text import table

BYTES, UNITS = 1000, ("B", "kB", "MB", "GB", "TB", "PB")


def lines(load: Load, years: float, sizes: Mapping[int, Size]) -> list[str]:
    """The table, and before it what it is of.

    Parameters
    ----------
    load, years
        What comes in on a day, and the length of the history.
    sizes
        By number of workers.

    Returns
    -------
    list of str
        Of at most 80 characters.
    """
    one = next(iter(sizes.values()))
    header = ["", *(f"{workers} worker{'s' * (workers != 1)}" for workers in sizes)]
    rows = [
        ["rebuild", *(duration(size.rebuild_s) for size in sizes.values())],
        ["compute --all", *(duration(size.recompute_s) for size in sizes.values())],
        ["update, a night", *(duration(size.night_s) for size in sizes.values())],
    ]
    return [
        f"{load.nodes:,.0f} nodes, {load.jobs:,.0f} jobs and {amount(load.text)} of raw text a day, {years:g} years",
        "",
        f"archive       {amount(one.archive):>10}   plain text",
        f"shards        {amount(one.shards):>10}",
        f"databases     {amount(one.databases):>10}",
        f"memory        {amount(one.memory_mb * 1e6):>10}   of the largest process; there is one per worker",
        "",
        *table(header, rows).splitlines(),
    ]


def amount(size: float) -> str:
    """Bytes with a unit.

    Parameters
    ----------
    size
        Bytes.

    Returns
    -------
    str
        Such as ``1.5 GB``.
    """
    power = 0
    while size >= BYTES and power < len(UNITS) - 1:
        size, power = size / BYTES, power + 1
    return f"{size:.1f} {UNITS[power]}" if size < 100 and power else f"{size:.0f} {UNITS[power]}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours.

    Parameters
    ----------
    seconds
        How long.

    Returns
    -------
    str
        Such as ``4.2 min``.
    """
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
