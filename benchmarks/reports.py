"""Reports over many jobs: how long the first one takes, which makes their columns, and those after it.

    python benchmarks/reports.py EMPTY_FOLDER [DAYS]

A day is 15,000 jobs, so the default of 667 days is 10 million; that takes half an hour and 5 GB. The jobs are those of
`jobeff.bench.history`; their numbers are drawn instead of computed, since a report does not care.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jobeff.bench import commands, history
from jobeff.store import tables

REPORTS = (
    "report project", "report user --by month --limit 5", "report user --flag half_overbooked", "top", "top jobname",
    "report node",
)  # fmt: skip


def rows(shape: history.Shape, days: int) -> Iterator[tuple[Any, ...]]:
    """Rows of the efficiency database in order of their key, of the jobs long enough to have one."""
    drawn = [history.day(shape, number) for number in range(days)]
    dates = [history.local_date(one) for one in drawn]
    columns = [
        np.concatenate([getattr(one, name) for one in drawn])
        for name in ("job_id", "start", "end", "cores", "project", "first_node", "nodes")
    ]
    columns.append(np.repeat(np.arange(days), shape.jobs_per_day))
    columns.append(np.random.default_rng(1).random(len(columns[0])))
    order = np.argsort(columns[0], kind="stable")
    order = order[(columns[2] - columns[1])[order] >= history.INTERVAL]
    for begin in range(0, len(order), 100_000):
        some = [column[order[begin : begin + 100_000]].tolist() for column in columns]
        for job_id, start, end, cores, project, first, nodes, number, share in zip(*some, strict=True):
            limit = 6.4 * cores
            yield (
                job_id, history.CLUSTER, f"p{project:04d}", f"user{project * 7 % 1000:03d}", 100 * share * share,
                cores * share, cores, limit * (1 - share), limit * (1 - share) / 2, limit,
                (end - start) // history.INTERVAL, "COMPLETED" if job_id % 11 else "FAILED", dates[number],
                history.nodelist(first, nodes), start, end, nodes, nodes, 1.0, 0, 0.0, round(cores * share), 1,
            )  # fmt: skip


def write(root: Path, days: int) -> int:
    """A site with both databases and nothing else; gives the number of measured jobs."""
    shape = history.Shape()
    root.mkdir(parents=True, exist_ok=True)
    (root / "jobeff.toml").write_text(history.CONFIG)
    history._write_accounting(root, shape, days)
    connection = tables.open_database(tables.database(root, "efficiency"), "efficiency")
    connection.execute("pragma synchronous = off")
    connection.execute("begin")
    names = ", ".join(tables.EFFICIENCY_COLUMNS)
    places = ", ".join("?" * len(tables.EFFICIENCY_COLUMNS))
    connection.executemany(f"insert into jobs ({names}) values ({places})", rows(shape, days))
    connection.execute("commit")
    (count,) = connection.execute("select count(*) from jobs").fetchone()
    connection.close()
    return int(count)


def timed(root: Path, command: str) -> str:
    """Run a command; wall and processor seconds, and most memory of its own."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = commands.jobeff(root, *command.split(), "--parquet", str(root / "report.parquet"), "--force")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return f"{time.perf_counter() - began:8.2f} s {processor:8.2f} s {done.peak_mb:8.0f} MB  jobeff {command}"


def main() -> None:
    root, days = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 667
    jobs = days * history.Shape().jobs_per_day
    if not (root / "jobeff.toml").exists():
        print(f"{jobs:,} jobs, {write(root, days):,} of them measured")
    print(f"{'wall':>10} {'processor':>10} {'memory':>11}")
    for command in ("report project", *REPORTS):
        print(timed(root, command), flush=True)


if __name__ == "__main__":
    main()
