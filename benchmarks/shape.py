"""A store with the shape of many nodes and months, and next to no bytes, and what commands take on it; see shape."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jobeff.bench import history, text
from jobeff.store import shards, tables
from jobeff.store.crc_table import crc32_table
from jobeff.store.sqlite import atomic, identity

SIZES = ((2500, 30), (10_000, 30), (2500, 120), (10_000, 120))
REAL = 2
"""Of so many months, the newest, the shards are what they should be; of older ones all nodes have the same file."""
NIGHT_JOBS = 1000
LENGTH_S = 900
FILES_AT_ONCE = 20_000
COLUMNS = "date, job_id, proj_id, user, start, end, partition, cores, cluster, nodes, jobname, jobstate"
NIGHTLY = (
    ("update, a night", ("update",)),
    ("update, nothing new", ("update",)),
    ("compute, nothing new", ("compute",)),
    ("ingest, nothing new", ("ingest",)),
    ("check, one month", ("check", "--subset", "{subset}")),
    ("job ID", ("job", "{job}")),
    ("job ID --samples", ("job", "{job}", "--samples")),
)


class Took(NamedTuple):
    """Processor seconds, seconds on the clock, and the most memory in MB of a command that runs in one process."""

    processor: float
    clock: float
    peak_mb: float


def month(number: int) -> tuple[str, int]:
    """Name and first epoch of a month of the history."""
    name = f"{2015 + number // 12}-{number % 12 + 1:02d}"
    return name, int(datetime.strptime(f"{name}-01+0100", "%Y-%m-%d%z").timestamp())


def jobs_of(nodes: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Ids and starts of a month's jobs, one on each node."""
    node = np.arange(nodes)
    return number * nodes + node + 1, month(number)[1] + 300 + node * 7919 % (27 * 86400)


def accounting_rows(nodes: int, months: int) -> Iterator[tuple[Any, ...]]:
    """What accounting says of all of them."""
    for number in range(months):
        ids, starts = jobs_of(nodes, number)
        for node, (job_id, start) in enumerate(zip(ids.tolist(), starts.tolist(), strict=True), 1):
            end = start + LENGTH_S
            day = datetime.fromtimestamp(end + 3600, UTC).date().isoformat()
            yield (
                day, job_id, f"p{job_id % 400:04d}", f"user{job_id % 1000:03d}", start, end, "core", 2,
                history.CLUSTER, f"r{node}", "x", "COMPLETED",
            )  # fmt: skip


def write(root: Path, nodes: int, months: int) -> None:
    """Archive and accounting: one raw file of two rows on each node in each month."""
    folder = root / "archive" / history.CLUSTER
    for made in (folder, root / "accounting", root / "jobstats"):
        made.mkdir(parents=True)
    (root / "jobeff.toml").write_text(history.CONFIG)
    words = [np.frombuffer(word, dtype=np.uint8) for word in (f"==> {history.CLUSTER}/r".encode(), *text.HEADERS)]
    for number in range(months):
        ids, starts = jobs_of(nodes, number)
        same = np.ones(nodes, dtype=np.int64)
        out, ends = np.empty(nodes * 600, dtype=np.uint8), np.empty(nodes, dtype=np.int64)
        total = text.write_frames(
            out, words[0], np.arange(1, nodes + 1), ids, starts + 1, 2 * same, 2 * same, same > 1, history.INTERVAL,
            words[1], words[2], crc32_table(), True, ends,
        )  # fmt: skip
        (folder / f"{month(number)[0]}.txt").write_bytes(out[:total].data)
    connection = tables.open_database(tables.database(root, "accounting"), "accounting")
    for pragma in ("synchronous = off", "cache_size = -2000000"):  # a million rows in the order of seven indexes
        connection.execute(f"pragma {pragma}")
    connection.execute("begin")
    connection.executemany(
        f"insert into jobs ({COLUMNS}) values ({', '.join('?' * 12)})", accounting_rows(nodes, months)
    )
    connection.execute("commit")
    connection.close()


def write_night(root: Path, nodes: int, months: int) -> None:
    """One more night: so many jobs on as many nodes at the end of the last month, in node folders and a log."""
    begin, first = month(months)[1] - 86400, nodes * months + 1
    words = [np.frombuffer(word, dtype=np.uint8) for word in (b"", *text.HEADERS)]
    lines = []
    for number in range(NIGHT_JOBS):
        node, job_id, start = number * (nodes // NIGHT_JOBS) + 1, first + number, begin + number * 60
        one = np.ones(1, dtype=np.int64)
        out, ends = np.empty(600, dtype=np.uint8), np.empty(1, dtype=np.int64)
        total = text.write_frames(
            out, words[0], node * one, job_id * one, (start + 1) * one, 2 * one, 2 * one, one > 1, history.INTERVAL,
            words[1], words[2], crc32_table(), False, ends,
        )  # fmt: skip
        folder = root / "jobstats" / f"r{node}"
        folder.mkdir(exist_ok=True)
        (folder / str(job_id)).write_bytes(out[:total].tobytes())
        end = start + LENGTH_S
        stamp = datetime.fromtimestamp(end + 3600, UTC).strftime("%Y-%m-%d %H:%M:%S")
        lines.append(
            f"{stamp} jobstate=COMPLETED jobid={job_id} username=u account=p0001 start={start} end={end} nodes=r{node} "
            "procs=2 batch=yes jobname=x partition=core limit=1-00:00:00\n"
        )
    for node in range(1, nodes + 1):
        (root / "jobstats" / f"r{node}").mkdir(exist_ok=True)
    (root / "accounting" / stamp[:10]).write_text("".join(lines))


def fill(root: Path, nodes: int, months: int) -> None:
    """Shards, notes and efficiency rows of the older months, as if they had been ingested and computed."""
    took(root, "ingest", only=[month(number)[0] for number in range(months - REAL, months)])
    folder = root / "shards" / history.CLUSTER
    template, names = next(folder.glob("r1/*.parquet")), [f"r{node}" for node in range(1, nodes + 1)]
    marks = []
    for number in range(months - REAL):
        name = month(number)[0]
        (folder / "r1" / f"{name}.parquet").write_bytes(template.read_bytes())
        for node in names[1:]:  # one file of many names: next to no bytes, and as many names as there would be
            os.link(folder / "r1" / f"{name}.parquet", folder / node / f"{name}.parquet")
        size = (root / "archive" / history.CLUSTER / f"{name}.txt").stat().st_size
        about = {"archive_bytes": size, "tail_crc32": 0, "restarts": 0, "nodes": sorted(names)}
        shards.set_ingested(root / "shards", history.CLUSTER, name, {**about, "file": f"{name}.txt", "size": size})
        marks.append((name, size))
    accounting = tables.open_database(tables.database(root, "accounting"), "accounting")
    newest = accounting.execute("select max(seq) from jobs").fetchone()[0]
    rows = accounting.execute(
        "select job_id, cluster, proj_id, user, 50.0, 2.0, cores, 1.0, 1.0, 8.0, 2, jobstate, date, nodes, start, end,"
        " 1, 1, 1.0, 0, 0.0, 2, 1 from jobs where date < ?",
        (f"{month(months - REAL)[0]}-01",),
    )
    efficiency = tables.open_database(tables.database(root, "efficiency"), "efficiency")
    efficiency.execute("pragma cache_size = -2000000")
    columns = tables.EFFICIENCY_COLUMNS
    with atomic(efficiency):
        efficiency.executemany(
            f"insert into jobs ({', '.join(columns)}) values ({', '.join('?' * len(columns))})", rows
        )
        efficiency.executemany(
            "insert into computed values (?, ?, 1, ?, ?, 0, ?, 300)",
            [(history.CLUSTER, name, identity(accounting), newest, size) for name, size in marks],
        )
    efficiency.close()
    accounting.close()


def subset(months: int) -> str:
    """A part of all there is that has the newest month, and no other."""
    names = [zlib.crc32(f"{history.CLUSTER}/{month(number)[0]}".encode()) for number in range(months)]
    of = next(of for of in itertools.count(months) if [one % of for one in names].count(names[-1] % of) == 1)
    return f"{names[-1] % of + 1}/{of}"


def took(root: Path, *arguments: str, workers: int = 0, only: Sequence[str] = ()) -> Took:
    """Run a command, without worker processes so that it is seen what it takes; on some months of the archive alone."""
    log, archive = root / "time", root / "archive" / history.CLUSTER
    away = [path for path in archive.glob("*.txt") if only and path.stem not in only]
    for path in away:
        path.rename(path.with_suffix(".away"))
    command = [sys.executable, "-m", "jobeff", "-c", str(root / "jobeff.toml"), "-q", "--workers", str(workers)]
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(log), *command, *arguments], check=False, capture_output=True, text=True
    )
    for path in away:
        path.with_suffix(".away").rename(path)
    if done.returncode not in (0, 12):  # what older months have in common is damage to `check`
        raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stdout[-500:]}{done.stderr[-2000:]}")
    return Took(*json.loads(log.read_text()))


MEASURE = """
import json, os, resource, subprocess, sys, time
began = time.perf_counter()
status = subprocess.run(sys.argv[2:], stdout=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
found = [used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024]
open(sys.argv[1], "w").write(json.dumps(found))
sys.exit(status)
"""


def measure(root: Path, nodes: int, months: int) -> dict[str, Took]:
    """What each command takes on one store."""
    write(root, nodes, months)
    fill(root, nodes, months)
    took(root, "update")  # the index of the archive, and core hours of all there is
    write_night(root, nodes, months)
    return night(root, nodes, months)


def night(root: Path, nodes: int, months: int) -> dict[str, Took]:
    """What commands of a night and of a day take."""
    words = {"subset": subset(months), "job": nodes * months - nodes // 2}
    return {name: took(root, *(word.format(**words) for word in arguments)) for name, arguments in NIGHTLY}


def lines(found: dict[str, dict[str, Took]]) -> list[str]:
    """A Markdown table: processor seconds and MB by size, and how much the largest takes of the smallest."""
    sizes = list(found)
    head = f"| {'processor s (MB)':<20} | " + " | ".join(f"{size:>14}" for size in sizes) + " |"
    rule = "|" + "-" * 22 + "|" + "|".join("-" * 15 + ":" for _ in sizes) + "|"
    rows = [
        f"| {name:<20} | "
        + " | ".join(f"{found[size][name].processor:>6.2f} {f'({found[size][name].peak_mb:.0f})':>7}" for size in sizes)
        + " |"
        for name in found[sizes[0]]
    ]
    return [head, rule, *rows]


def main(arguments: Sequence[str]) -> None:
    """Make the stores one after the other, and print a table."""
    parent, *wanted = arguments
    sizes = [tuple(map(int, one.split("x"))) for one in wanted] or list(SIZES)
    found = {}
    for nodes, months in sizes:
        root = Path(parent) / f"shape-{os.getpid()}"
        try:
            found[f"{nodes:,} x {months}"] = measure(root, nodes, months)
        finally:
            shutil.rmtree(root, ignore_errors=True)
        print("\n".join(lines(found)), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
