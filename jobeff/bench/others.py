"""Rows alone, ours and those of other engines from the same shards, by turns: each while the machine is as quick."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from jobeff.bench import history
from jobeff.store import tables

OURS = "jobeff"
ENGINES = ("polars", "duckdb")
ROWS_COMPARED_AT_ONCE = 1 << 16
PEER = """
import resource, sys, time
from pathlib import Path
import pyarrow.parquet as pq
from jobeff.bench import peers
engine, folder, database, cluster, threads, out = sys.argv[1:]
getattr(peers, engine + "_rows")(Path(folder), Path(database), cluster, int(threads))  # warm
began = time.perf_counter()
rows = getattr(peers, engine + "_rows")(Path(folder), Path(database), cluster, int(threads))
print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
pq.write_table(rows, out)
"""
ALONE = """
import os, sys
from pathlib import Path
from jobeff.bench import alone
root, *cores = sys.argv[1:]
os.sched_setaffinity(0, map(int, cores))
print(*alone.seconds(Path(root), len(cores)))
"""


def by_turns(
    root: Path, days: int, raw: int, turns: int, say: Callable[[str], None]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Compute the rows of a history again and again, with one core and with two.

    Parameters
    ----------
    root
        A site from `jobeff.bench.history.write` that has been computed.
    days, raw
        Of its history: length, and bytes of raw text.
    turns
        How often; of each the quickest counts.
    say
        Told of an engine that fails.

    Returns
    -------
    list of dict
        Ours, for each number of cores.
    list of dict
        Those of other engines that are installed, and whether their rows are the same.
    """
    tries = _tries(root, turns, say)
    ours = [_found(days, raw, cores, some) for (engine, cores), some in tries.items() if engine == OURS]
    theirs = [
        {
            "engine": engine,
            **_found(days, raw, cores, some),
            "peak_mb": max(one.peak_mb for one in some),
            "same": _same_rows(tables.database(root, "efficiency"), _rows_of(root, engine, cores)),
        }
        for (engine, cores), some in tries.items()
        if engine != OURS
    ]
    return ours, theirs


def _tries(root: Path, turns: int, say: Callable[[str], None]) -> dict[tuple[str, int], list[_Try]]:
    """What came of all turns, by engine and number of cores; without those that have failed."""
    kinds = [(OURS, cores) for cores in (1, 2) if cores <= len(os.sched_getaffinity(0))]
    kinds += [(engine, cores) for engine in ENGINES if importlib.util.find_spec(engine) for cores in (1, 2)]
    tries: dict[tuple[str, int], list[_Try]] = {kind: [] for kind in kinds}
    for _ in range(turns):
        for engine, cores in list(tries):
            try:
                tries[engine, cores].append(_ours(root, cores) if engine == OURS else _theirs(root, engine, cores))
            except subprocess.CalledProcessError as error:
                if engine == OURS:
                    raise
                # As where memory or disk is not enough for it; what else is measured is not lost.
                say(f"{engine} ended with {error.returncode}: {error.stderr}")
                del tries[engine, cores]
    return tries


def _found(days: int, raw: int, cores: int, tries: list[_Try]) -> dict[str, Any]:
    """Figures of what is the same for all engines."""
    seconds = [one.seconds for one in tries]
    return {"days": days, "cores": cores, "seconds": min(seconds), "tries": seconds, "mb_s": raw / min(seconds) / 1e6}


class _Try(NamedTuple):
    """What came of one turn; memory is that of another engine's process."""

    seconds: float
    peak_mb: float


def _ours(root: Path, cores: int) -> _Try:
    """Our rows, measured as those of other engines are: in processes that are ready, and into memory."""
    chosen = sorted(os.sched_getaffinity(0))[:cores]  # one worker and what gives it work take turns, as in commands
    seconds, rows = _printed(ALONE, root, *chosen)
    with contextlib.closing(sqlite3.connect(tables.database(root, "efficiency"))) as connection:
        (known,) = connection.execute("select count(*) from jobs").fetchone()
    if rows != known:
        raise RuntimeError(f"{rows:.0f} rows have been computed, and {known} are known")
    return _Try(seconds, 0.0)


def _theirs(root: Path, engine: str, cores: int) -> _Try:
    """Those of another engine."""
    accounting, out = tables.database(root, "accounting"), _rows_of(root, engine, cores)
    seconds, peak_kb = _printed(PEER, engine, root / "shards", accounting, history.CLUSTER, cores, out)
    return _Try(seconds, peak_kb / 1024)


def _printed(program: str, *arguments: object) -> tuple[float, float]:
    """The two numbers that a program prints at last."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    ended = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
    first, second = map(float, ended.stdout.split()[-2:])
    return first, second


def _rows_of(root: Path, engine: str, cores: int) -> Path:
    return root / f"{engine}-{cores}.parquet"


def _same_rows(database: Path, rows: Path) -> bool:
    """Whether a peer's rows are those of the efficiency database, floats to 1e-9."""
    import pyarrow.parquet as pq  # noqa: PLC0415  (only where there are peers)

    table = pq.read_table(rows).sort_by([("job_id", "ascending"), ("start", "ascending")])
    query = f"select {', '.join(table.column_names)} from jobs order by job_id, start"
    with contextlib.closing(sqlite3.connect(database)) as connection:
        expected = connection.execute(query)
        parts = [_same(expected.fetchmany(len(part)), part) for part in table.to_batches(ROWS_COMPARED_AT_ONCE)]
        return all(parts) and expected.fetchone() is None


def _same(expected: list[tuple[float, ...]], rows: pa.RecordBatch) -> bool:
    """Whether a part of them is."""
    if len(expected) != len(rows):
        return False
    for mine, theirs in zip(zip(*expected, strict=True), rows.columns, strict=True):
        found = np.array(theirs.to_pylist(), dtype=np.float64)
        if not np.allclose(np.array(mine, dtype=np.float64), found, rtol=1e-9, atol=0, equal_nan=True):
            return False
    return True
