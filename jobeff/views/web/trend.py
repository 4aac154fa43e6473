"""Core hours by week as bars: used, wasted, not measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from jobeff.views import report
from jobeff.views.report_select import Part
from jobeff.views.web.chart import HIGH, WIDE, height, ticks

Hours = tuple[float, float, float]
"""Core hours used, wasted, not measured."""


def weeks(parts: Iterable[Part]) -> dict[str, Hours]:
    """Add up days.

    Parameters
    ----------
    parts
        From `jobeff.views.report_select.days`.

    Returns
    -------
    dict
        By ISO week, of those with jobs.
    """
    found: dict[str, Any] = {}
    for part in parts:
        names, place = report.weeks_of(part)
        booked, measured, used = (
            np.bincount(place, part.numbers(name), len(names)) / 3600
            for name in ("core_s", "measured_core_s", "used_core_s")
        )
        rows = np.array([used, np.maximum(measured - used, 0), np.maximum(booked - measured, 0)])
        there = np.bincount(place, minlength=len(names)) > 0
        for name, row in zip(np.array(names)[there].tolist(), rows.T[there], strict=True):
            found[name] = found.get(name, 0) + row
    return {name: tuple(row.tolist()) for name, row in found.items()}


def bars(known: Mapping[str, Hours]) -> dict[str, Any]:
    """Draw weeks.

    Parameters
    ----------
    known
        From `weeks`.

    Returns
    -------
    dict
        ``bars``, ``ticks``.
    """
    top = max(map(sum, known.values()), default=0.0) or 1.0
    scale = ticks(top)
    top = max(top, scale[-1])
    found = _all_weeks(sorted(known))
    width = WIDE / max(1, len(found))
    shown = []
    for number, week in enumerate(found):
        hours = known.get(week, (0.0, 0.0, 0.0))
        boxes, low = [], 0.0
        for part in hours:
            boxes.append({"y": height(low + part, top), "height": HIGH * part / top})
            low += part
        shown.append(
            {"week": week, "x": round(number * width + 0.1 * width, 2), "width": round(0.8 * width, 2)}
            | {"boxes": boxes, "used": hours[0], "wasted": hours[1], "unmeasured": hours[2], "booked": low}
        )
    return {
        "bars": shown,
        "ticks": [
            {"label": f"{tick:,.0f}" if tick >= 10 or tick == 0 else f"{tick:,.4g}", "y": height(tick, top)}
            for tick in scale
        ],
    }


def _all_weeks(known: Sequence[str]) -> list[str]:
    """ISO weeks from the first to the last, those without jobs too."""
    if not known:
        return []
    day = datetime.strptime(f"{known[0]}-1", "%G-W%V-%u")
    found: list[str] = []
    while not found or found[-1] < known[-1]:
        found.append(day.strftime("%G-W%V"))
        day += timedelta(days=7)
    return found
