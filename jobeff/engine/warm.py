"""Have the kernels compiled, or loaded from numba's cache, before anything is timed or divided among processes.

The types of the arrays are those of real work: a kernel is compiled once for each set of types.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path

import numpy as np

from jobeff.engine import jobs, reduce, samples
from jobeff.errors import SetAside
from jobeff.store import framing, pages, shards, tables
from jobeff.store.files import Batch

ROW = b"2013-11-01T09:33:22  1383294802      23.5       0.7           0.0  75.2  72.2\n"
FRAME = b"==> a/b/1 bytes=0 crc32=00000000 <==\n"


def run_all() -> None:
    """Run every kernel once, on one row."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        framing.scan(FRAME, 0, "a", "", SetAside())
        zero = np.array([0])
        columns, _ = samples.parse(np.frombuffer(ROW, dtype=np.uint8), zero, np.array([len(ROW)]), np.array([False]))
        table = shards.table_of({**columns, "job_id": [1], "offset": [0], "bytes": [len(ROW)], "crc32": [0]})
        batch = Batch(folder)
        shards.write(folder / "shard", table, {}, batch)
        batch.commit(durable=False)
        _reduce(folder, shards.SampleReader().read(folder / "shard"))
        accounting = folder / "accounting"
        with contextlib.closing(sqlite3.connect(accounting)) as database:
            database.executescript(tables.SCHEMAS["accounting"])
        jobs.read_month(accounting, "c", "2013-11", jobs.repeated_ids(accounting, "c"))


def _reduce(folder: Path, found: shards.Samples) -> None:
    month = reduce.Month(folder / "month", folder, "c", "2013-11", 300)
    row = (1, 1383294800, 1383295100, 2, "r1", "p", "u", "COMPLETED", "2013-11-01")
    planned = reduce.write_plan(month, jobs.from_rows([row], 1))
    reduced = reduce.Reduced()
    reduce.PlannedMonth(month).reduce(found, planned.spans[0], reduced)
    reduced.save(folder / "reduced")
    reduce.finish_month(reduce.FinishTask(month, "c", 1, [], [folder / "reduced"], True))
    run = reduce.load_run(month.folder, "jobs")
    with (folder / "tree").open("wb") as file:
        tree = pages.IndexTree(file, 4096, 3)
        tree.add(run.data, np.array([0]), run.ends, last=True)
        tree.finish(2)
