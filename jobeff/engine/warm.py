"""Have the kernels compiled, or loaded from numba's cache, before anything is timed or divided among processes.

The types of the arrays are those of real work: a kernel is compiled once for each set of types.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jobeff import jit
from jobeff.engine import (
    file_kernels,
    ids,
    jobs,
    merge_kernels,
    order_kernels,
    reduce,
    runs,
    samples,
    text_kernels,
)
from jobeff.engine.leaves import LeavesTask, LevelsTask, make_leaves, make_levels
from jobeff.engine.lifetime import undisturbed
from jobeff.engine.partials import Rows
from jobeff.engine.shared import by_range, rows_of
from jobeff.errors import SetAside
from jobeff.store import (
    frame_kernels,
    framing,
    record_kernels,
    shard_kernels,
    shard_write_kernels,
    shards,
    tables,
    tree_kernels,
)
from jobeff.store.batch import Batch

ROW = b"2013-11-01T09:33:22  1383294802      23.5       0.7           0.0  75.2  72.2\n"
FRAME = b"==> a/b/1 bytes=0 crc32=00000000 <==\n"

LAST = (
    (merge_kernels, "rows_of_merged"), (text_kernels, "group"), (order_kernels, "pairs"),
    (frame_kernels, "sum_headers"), (shard_write_kernels, "assemble"), (shard_kernels, "decode"),
    (record_kernels, "encode"), (tree_kernels, "close_page"),
)  # fmt: skip
"""Of each file that no other one has kernels of, among them the last that is compiled by either half of `run_all`.

What is kept of a kernel is of no use once any file has changed that it has something of: so these tell of all files.
"""

_OTHER = """import sys
from jobeff.engine.lifetime import end_with
end_with(int(sys.argv[1]))  # before it begins what takes long
from jobeff.engine import warm
warm.store()"""


def run_all() -> None:
    """Run every kernel once, on one row; where they have to be compiled, on two cores at once."""
    with tempfile.TemporaryDirectory() as folder:
        with _helped():
            _engine(Path(folder))
        _store(Path(folder))


def run_if_cold() -> None:
    """Have all kernels compiled, where they are not."""
    if is_cold():
        run_all()


def is_cold() -> bool:
    """Whether kernels have to be compiled.

    Returns
    -------
    bool
        False where who needs one finds it in the cache, which takes a worker no longer than to be given it by the
        process that has forked it; and nobody needs them all.
    """
    return not all(jit.is_compiled(getattr(module, name)) for module, name in LAST)


@contextlib.contextmanager
def _helped() -> Iterator[None]:
    """Have another process compile the other half meanwhile, where there is no cache yet and one can be kept."""
    other = None
    if jit.is_kept(tree_kernels.start_page) and is_cold():
        with contextlib.suppress(OSError), undisturbed():  # it is help, no more
            other = subprocess.Popen([sys.executable, "-c", _OTHER, str(os.getpid())])  # noqa: S603
    try:
        yield
    except BaseException:  # a signal shall not wait for it
        if other is not None:
            other.kill()
        raise
    finally:
        if other is not None:
            other.wait()


def _engine(folder: Path) -> None:
    """Text to samples to rows."""
    framing.scan(FRAME, 0, "a", "", SetAside())
    none = np.zeros(framing.FRAMES_FOR_KERNEL, dtype=np.int64)
    framing.checksums(FRAME, none, none)
    zero = np.array([0])
    where = (np.frombuffer(ROW, dtype=np.uint8), zero, np.array([len(ROW)]), np.array([False]))
    arrays, known = samples.parse_arrays(*where)
    file_kernels.outcome(zero, arrays["crc32"], known, arrays["rejected"])
    columns, _ = samples.parse(*where)
    table = shards.table_of({**columns, "job_id": [1], "offset": [0], "bytes": [len(ROW)], "crc32": [0]})
    for nodes, attempts in (("r1", 1), ("r1", 2), ("r1,r2", 1)):
        month, planned = _plan(folder / f"{nodes}-{attempts}", nodes, attempts)
        found = reduce.PlannedMonth(month)
        reduced = reduce.Reduced(month.folder / "reduced", found, attempts)
        found.reduce(shards.samples_of(table), planned.spans[0], reduced)
        reduced.save()
        for some in by_range(reduce.shared_files(month.folder / "reduced")):
            rows_of(some, month.interval, found.jobs)


def _plan(folder: Path, nodes: str = "r1", attempts: int = 1) -> tuple[reduce.Month, reduce.Plan]:
    month = reduce.Month(folder, folder, "c", "2013-11", 300)
    row = (1, 1383294800, 1383295100, 2, nodes, "p", "u", "COMPLETED", "2013-11-01")
    return month, reduce.write_plan(month, jobs.from_rows([row] * attempts, attempts))


def _store(folder: Path) -> None:
    """Shards and databases."""
    lists = {name: [[1]] for name in shards.SAMPLES}
    flat = {"job_id": [1], "first": [1], "last": [1], "cores": [1], "rejected": [0]}
    table = shards.table_of({**flat, **lists, "offset": [0], "bytes": [len(ROW)], "crc32": [0]})
    with Batch(folder) as batch:
        shards.write(folder / "shard", table, {}, batch)
        batch.commit(durable=False)
    shards.SampleReader().read(folder / "shard")
    accounting = folder / "accounting"
    with contextlib.closing(sqlite3.connect(accounting)) as database:
        database.execute("pragma synchronous = off")  # each statement would wait for the disk
        database.executescript(f"{tables.ACCOUNTING}; pragma user_version = 1")
    ids.read_ids((accounting, "c", (), 0, 1))
    jobs.read_month(accounting, "c", "2013-11", np.empty(0, dtype=np.int64))
    month, _ = _plan(folder / "store")
    row = Rows(np.array([0]), np.ones((1, 4), dtype=np.int64), np.ones((1, 7)))
    reduced = reduce.Reduced(folder / "reduced", reduce.PlannedMonth(month), 1)
    reduced.add_rows(row)
    reduced.save()
    reduce.finish_month(reduce.FinishTask(month, "c", 1, [], [folder / "reduced"], [], True))
    piece = np.array([[0, 0, 1]])
    run = runs.Run("c", month.name, month.folder, 1, 0)
    for by in (runs.JOBS, runs.PROJECTS):
        made = LeavesTask([run], by, [piece], 4096, True, folder / by, folder / f"{by}-about")
        make_leaves(made)
    make_levels(LevelsTask(4096, [(folder / f"{runs.JOBS}-about", 3, False)], 3, folder / "tree"))


def store() -> None:
    """The second half of `run_all`, in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        _store(Path(scratch))
