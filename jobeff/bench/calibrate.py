"""What this machine takes for what, from whole commands on three small synthetic sites; kept for the next time."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jobeff import __version__
from jobeff.bench import commands, history, size
from jobeff.engine.pool import default_workers
from jobeff.errors import JobeffError
from jobeff.store.files import atomic_path

SITES = ((100, 3000, 4), (100, 9000, 50), (1000, 3000, 4))
"""Nodes, jobs a day, days: more text, of the night too, and more shards of the same text.

So much more text that the rest of a command is not most of it: what is fitted is used for sites many times as large.
"""

NIGHTS = 2
Say = Callable[[str], None]


class Alone(NamedTuple):
    """Seconds that one worker takes for a site, and for each command."""

    rebuild: float
    recompute: float


class Measured(NamedTuple):
    """What commands took on a site: seconds, MB, bytes; and what there was, `month_text` in the month of the night."""

    text: float
    month_text: float
    nodes: float
    shards: float
    jobs: float
    jobs_in_month: float
    rebuild: float
    recompute: float
    night: float
    memory: float
    shard_bytes: float
    database_bytes: float


def costs(say: Say, again: bool = False) -> size.Costs:
    """What this machine takes, as it was measured before or is now.

    Parameters
    ----------
    say
        Told what is being done.
    again
        Measure, whatever is known.

    Returns
    -------
    Costs
        Of this machine and this version.
    """
    path, about = _cache(), [__version__, platform.node(), default_workers()]
    if path is not None and not again:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(path.read_text())
            if found.pop("about") == about:
                return _costs(found)
    measured = _measured(say)
    if path is not None:
        with contextlib.suppress(OSError, JobeffError), atomic_path(path) as temporary:  # it is measured again then
            temporary.write_text(json.dumps({"about": about, **asdict(measured)}, indent=1))
    return measured


def _costs(found: dict[str, Any]) -> size.Costs:
    values: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in found.items()}
    return size.Costs(**values)


def _cache() -> Path | None:
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:  # there is no home
        return None
    return folder / "jobeff" / "size.json"


def _measured(say: Say) -> size.Costs:
    found, alone = [], []
    with tempfile.TemporaryDirectory() as folder:
        for number, (nodes, jobs, days) in enumerate(SITES):
            say(f"calibrating: {nodes} nodes, {jobs} jobs a day, {days} days ({number + 1} of {len(SITES)})")
            root = Path(folder) / str(number)
            found.append(measure(root, history.Shape(nodes, jobs), days, default_workers()))
            if number < 2:
                alone.append(Alone(*(run.seconds for run in _whole(root, 1))))
    return fitted(found, alone, default_workers())


def measure(root: Path, shape: history.Shape, days: int, workers: int) -> Measured:
    """Make a site, and see what commands take on it.

    Parameters
    ----------
    root, shape, days
        Of the site.
    workers
        Worker processes.

    Returns
    -------
    Measured
        Of the second night, since the first one brings the index of the archive up to date.
    """
    given, text = ("--workers", str(workers)), float(history.write(root, shape, days))
    rebuild, recompute = _whole(root, workers)
    nights = []
    for number in range(NIGHTS):
        text += history.write_night(root, shape, days + number)
        nights.append(commands.jobeff(root, *given, "update").seconds)
    files = [path.stat().st_size for path in (root / "shards").rglob("*.parquet")]
    databases = sum(path.stat().st_size for path in (root / "db").glob("*.sqlite"))
    jobs = shape.jobs_per_day * (days + NIGHTS)
    in_month = shape.jobs_per_day * min(days, size.MONTH_DAYS)
    last = datetime.fromtimestamp(history.FIRST_DAY + (days + NIGHTS) * size.DAY_S - 1, UTC)
    month_text = text * min(1.0, last.day / (days + NIGHTS))
    return Measured(
        text, month_text, shape.nodes, len(files), jobs, in_month, rebuild.seconds, recompute.seconds, nights[-1],
        max(rebuild.peak_mb, recompute.peak_mb), sum(files), databases,
    )  # fmt: skip


def _whole(root: Path, workers: int) -> tuple[commands.Run, commands.Run]:
    """A rebuild, and a computation of all jobs: the quicker one of two."""
    given = ("--workers", str(workers))
    rebuild = min(commands.jobeff(root, *given, "rebuild") for _ in range(2))
    return rebuild, min(commands.jobeff(root, *given, "compute", "--all") for _ in range(2))


def fitted(found: list[Measured], alone: list[Alone], workers: int) -> size.Costs:
    """The costs that explain what three sites took.

    Parameters
    ----------
    found
        A small site, one with more text, and one with more shards, each with all workers.
    alone, workers
        The first two with one worker; how many all are.

    Returns
    -------
    Costs
        None of them below 0.
    """
    small, large = found[:2]
    shares = {name: _share(name, found, alone, workers) for name in Alone._fields}

    def plane(name: str) -> tuple[float, float, float]:
        values = np.array([getattr(one, name) for one in found])
        whole = [(1.0, one.text, one.shards) for one in found]
        matrix = np.array([(1.0, one.month_text, one.nodes) for one in found] if name == "night" else whole)
        start, per_text, per_shard = np.linalg.solve(matrix, values).tolist()
        share = shares.get(name, 1.0)
        return max(0.0, start), max(0.0, per_text) / share, max(0.0, per_shard) / share

    def parallel(name: str) -> float:
        return (1 - shares[name]) * workers / (workers - 1) if workers > 1 else 1.0

    per_text = (large.shard_bytes - small.shard_bytes) / (large.text - small.text)
    memory_job = max(0.0, (large.memory - small.memory) / (large.jobs_in_month - small.jobs_in_month))
    return size.Costs(
        shard_per_text=per_text,
        shard_file=max(0.0, (small.shard_bytes - per_text * small.text) / small.shards),
        database_job=large.database_bytes / large.jobs,
        memory=small.memory - memory_job * small.jobs_in_month,
        memory_job=memory_job,
        rebuild=plane("rebuild"),
        recompute=plane("recompute"),
        night=plane("night"),
        rebuild_parallel=parallel("rebuild"),
        recompute_parallel=parallel("recompute"),
    )


def _share(name: str, found: list[Measured], alone: list[Alone], workers: int) -> float:
    """Time that more text takes with all workers, as a part of that with one: start-up is in neither."""
    small, large = (getattr(one, name) for one in found[:2])
    small_alone, large_alone = (getattr(one, name) for one in alone)
    share = (large - small) / (large_alone - small_alone) if large_alone > small_alone else 1.0
    return float(min(1.0, max(1 / workers, share)))
