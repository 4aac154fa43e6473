"""Rows of all jobs and nothing else, as other engines are measured: in processes that are ready, into memory.

It is memory that files of the scratch folder lie in, as between all tasks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jobeff import config
from jobeff.bench.history import CLUSTER
from jobeff.engine import reduce
from jobeff.steps import computing
from jobeff.steps.changes import months_of
from jobeff.steps.site import Site, StepResult
from jobeff.store import shards


def seconds(root: Path, workers: int, repeat: int = 2) -> tuple[float, int]:
    """How long it takes from shards and accounting to rows in this process.

    Parameters
    ----------
    root
        A site from `jobeff.bench.history.write` that has been computed.
    workers
        Worker processes.
    repeat
        How often; the last time counts, for which all is warm.

    Returns
    -------
    float
        Seconds.
    int
        Rows.
    """
    site = Site(config.load(root / "jobeff.toml"), workers)
    taken, rows = 0.0, 0
    with site.executor():
        for _ in range(repeat):
            began = time.perf_counter()
            with computing.open_inputs(site, site.config.shards, StepResult("compute")) as inputs:
                rows = sum(len(found.job) for found in _rows(inputs))
                taken = time.perf_counter() - began
    return taken, rows


def _rows(inputs: computing.Inputs) -> Iterator[Any]:
    """Rows of each month; they do not wait for each other."""
    known = shards.ingested(inputs.shards, CLUSTER)
    repeated = computing.repeated_ids(inputs, CLUSTER)

    def month(name: str) -> computing.Chain:
        one = inputs.month(CLUSTER, name)
        planned = yield from computing.plan_month(inputs, one, CLUSTER, repeated)
        reduced = yield from computing.from_shards(inputs, one, planned, known[name])
        return (yield from computing.finish(one, CLUSTER, planned, reduced, bulk_load=False, spare=True))

    months = months_of(inputs.accounting, CLUSTER)
    for done in computing.run(inputs, "compute", [month(name) for name in months if name in known]):
        if done.finished.rows is not None:
            yield reduce.load_rows(done.finished.rows)
