"""What this machine takes for what, from whole commands on three small synthetic sites; kept for the next time."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jobeff import __version__
from jobeff.bench import commands, history, size
from jobeff.engine.pool import default_workers
from jobeff.errors import JobeffError
from jobeff.store.files import atomic_path

SITES = ((100, 4), (100, 20), (1000, 4))
"""Nodes and days: more text, and more shards of the same text."""

JOBS = 3000
NIGHTS = 2
Say = Callable[[str], None]


class Measured(NamedTuple):
    """What commands took on a site: seconds, MB, bytes; and what there was."""

    text: float
    shards: float
    jobs: float
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
    found, several = [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        for number, (nodes, days) in enumerate(SITES):
            say(f"calibrating: {nodes} nodes, {JOBS} jobs a day, {days} days ({number + 1} of {len(SITES)})")
            root = Path(folder) / str(number)
            found.append(measure(root, history.Shape(nodes, JOBS), days, 1))
            if number == 1:
                several = min(commands.jobeff(root, "rebuild").seconds for _ in range(2))
    return fitted(found, several, default_workers())


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
    rebuild = min(commands.jobeff(root, *given, "rebuild") for _ in range(2))
    recompute = min(commands.jobeff(root, *given, "compute", "--all") for _ in range(2))
    nights = []
    for number in range(NIGHTS):
        text += history.write_night(root, shape, days + number)
        nights.append(commands.jobeff(root, *given, "update").seconds)
    files = [path.stat().st_size for path in (root / "shards").rglob("*.parquet")]
    databases = sum(path.stat().st_size for path in (root / "db").glob("*.sqlite"))
    jobs = shape.jobs_per_day * (days + NIGHTS)
    return Measured(
        text, len(files), jobs, rebuild.seconds, recompute.seconds, nights[-1],
        max(rebuild.peak_mb, recompute.peak_mb), sum(files), databases,
    )  # fmt: skip


def fitted(found: list[Measured], several: float, workers: int) -> size.Costs:
    """The costs that explain what three sites took.

    Parameters
    ----------
    found
        A small site, one with more text, and one with more shards, each with one worker.
    several, workers
        Seconds of a rebuild of the second one with so many workers.

    Returns
    -------
    Costs
        None of them below 0.
    """
    small, large = found[:2]

    def plane(name: str) -> tuple[float, float, float]:
        values = np.array([getattr(one, name) for one in found])
        matrix = np.array([(1.0, one.text, one.shards) for one in found])
        start, per_text, per_shard = np.linalg.solve(matrix, values).tolist()
        return max(0.0, start), max(0.0, per_text), max(0.0, per_shard)

    rebuild = plane("rebuild")
    per_text = (large.shard_bytes - small.shard_bytes) / (large.text - small.text)
    work = large.rebuild - rebuild[0]
    gained = (large.rebuild - several) / work * workers / (workers - 1) if workers > 1 and work > 0 else 1.0
    memory_job = max(0.0, (large.memory - small.memory) / (large.jobs - small.jobs))
    return size.Costs(
        shard_per_text=per_text,
        shard_file=max(0.0, (small.shard_bytes - per_text * small.text) / small.shards),
        database_job=large.database_bytes / large.jobs,
        memory=small.memory - memory_job * small.jobs,
        memory_job=memory_job,
        rebuild=rebuild,
        recompute=plane("recompute"),
        night=plane("night"),
        parallel=min(1.0, max(0.0, gained)),
    )
