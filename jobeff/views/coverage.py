"""How much of a job its samples show, in numbers and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from jobeff.clock import Clock
from jobeff.views.evidence import NodeSamples
from jobeff.views.job import JobView

NAMED = 4
"""Of alike nodes, so many are named."""

TIMES = 3
"""At more times than so many, nodes that came or went at different ones are told together."""


@dataclass(frozen=True)
class Coverage:
    """What is known of a job's nodes.

    Attributes
    ----------
    words
        One sentence per thing to know, without a full stop; the first says whether all is there.
    rows, expected
        Valid rows, each node's counted up to what is expected of it; and expected ones. ``rows / expected`` is the
        coverage of METRICS.
    nodes
        Of each booked node ``node``, ``rows``, ``first`` and ``last`` (epoch seconds or None), ``rejected`` and
        ``state``: ``complete``, ``partial``, ``late``, ``lost``, ``gap``, ``never``, ``damaged``.
    """

    words: list[str]
    rows: int
    expected: int
    nodes: list[dict[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"words": self.words, "rows": self.rows, "expected": self.expected, "nodes": self.nodes}


def of_job(view: JobView, nodes: Sequence[NodeSamples], clock: Clock) -> Coverage:
    """Say what the samples of a job show of it.

    Parameters
    ----------
    view
        The job.
    nodes
        From `jobeff.views.evidence.of_job`.
    clock
        Whose local time is told.

    Returns
    -------
    Coverage
        In words and numbers.
    """
    about = [
        {
            "node": one.node,
            "rows": len(one.rows),
            "first": one.rows[0].time if one.rows else None,
            "last": one.rows[-1].time if one.rows else None,
            "rejected": one.rejected,
            "state": _state(view, one),
        }
        for one in nodes
    ]
    rows = sum(min(len(one.rows), view.expected) for one in nodes)
    expected = view.expected * len(about)
    return Coverage(list(_words(view, about, rows, expected, clock)), rows, expected, about)


def _state(view: JobView, node: NodeSamples) -> str:
    if node.damaged:
        return "damaged"
    if not node.rows:
        return "never"
    first, last = node.rows[0].time, node.rows[-1].time
    if last < view.end - 2 * view.interval:
        return "lost"
    if first > view.start + 2 * view.interval:
        return "late"
    if len(node.rows) >= view.expected:
        return "complete"
    times = [row.time for row in node.rows]
    gaps = (after - before > 2 * view.interval for before, after in pairwise(times))
    return "gap" if any(gaps) else "partial"


def _words(view: JobView, about: list[dict[str, Any]], rows: int, expected: int, clock: Clock) -> Iterator[str]:
    if not about:
        yield "none: the job never started"
        return
    seen = [one for one in about if one["rows"]]
    if not seen and not any(one["state"] == "damaged" for one in about):
        yield _why_none(view, about)
        return
    if all(one["state"] == "complete" for one in about):
        count = sum(one["rows"] for one in about)
        yield f"complete: {_rows(count)}" + (f" of {len(about)} nodes" if len(about) > 1 else "")
    else:
        yield f"{rows:,} of {_rows(expected)} expected ({100 * rows // expected} %)"
    for state, say in _SAY.items():
        alike = [one for one in about if one["state"] == state]
        times = sorted({_minute(view, one, clock) for one in alike}) if state in _AT else [""]
        if len(times) > TIMES:
            yield f"{_named([one['node'] for one in alike])} {say.format(f'{times[0]} to {times[-1]}')}"
            continue
        for when in times:  # nodes that stopped together are told together
            some = [one["node"] for one in alike if state not in _AT or _minute(view, one, clock) == when]
            if some:
                yield f"{_named(some)} {say.format(when)}"
    rejected = sum(one["rejected"] for one in about)
    if rejected:
        yield f"{_rows(rejected, 'damaged')} not used"


_AT = {"lost": "last", "late": "first"}
_SAY = {
    "never": "booked but never used (no sample)",
    "lost": "lost after {}",
    "late": "not seen before {}",
    "gap": "with a gap",
    "damaged": "unknown, since the shard is damaged ('jobeff check' says more)",
}


def remark(view: JobView, node: dict[str, Any], clock: Clock) -> str:
    """What is odd about one node, in words.

    Parameters
    ----------
    view
        The job.
    node
        Of `Coverage.nodes`.
    clock
        Whose local time is told.

    Returns
    -------
    str
        Empty where nothing is.
    """
    state = node["state"]
    return _SAY.get(state, "").format(_minute(view, node, clock) if state in _AT else "")


def _minute(view: JobView, node: dict[str, Any], clock: Clock) -> str:
    moment = datetime.fromtimestamp(node[_AT[node["state"]]], clock.zone)
    same_day = clock.day(view.start) == clock.day(view.end)
    return moment.strftime("%H:%M" if same_day else "%Y-%m-%d %H:%M")


def _why_none(view: JobView, about: list[dict[str, Any]]) -> str:
    if view.end - view.start < view.interval:
        return "none: the job was too short to have one, and none was expected"
    damaged = sum(one["rejected"] for one in about)
    if damaged:
        return f"none: its raw files hold no valid row ({damaged:,} damaged)"
    return "none: no raw file with a valid row is known of it ('jobeff update' takes new ones)"


def _named(names: list[str]) -> str:
    if len(names) == 1:
        return f"node {names[0]}"
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{len(names)} nodes ({', '.join(names[:NAMED])}{more})"


def _rows(count: int, kind: str = "") -> str:
    return f"{count:,} {kind}{' ' if kind else ''}row{'' if count == 1 else 's'}"
