"""The benchmark: the plain method, other engines, stages, whole commands and growing history, in one run."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobeff.bench import commands, history, plain, stages, two_cores
from jobeff.store import shards

PLAIN_JOBS = 2500
ROWS_COMPARED_AT_ONCE = 1 << 16
Say = Callable[[str], None]


@dataclass(frozen=True)
class Size:
    """What to run.

    Attributes
    ----------
    days
        Lengths of the histories, the shortest first; jobs are computed anew from each.
    shape
        Of the cluster.
    repeat
        How often each command is run; the quickest counts.
    peers
        Of which of the histories other engines compute the rows too; 0: of none. Of a long one they need more memory
        and disk than most machines have.
    night
        Whether to run a nightly update on the longest.
    """

    days: tuple[int, ...] = (8,)
    shape: history.Shape = field(default_factory=history.Shape)
    repeat: int = 2
    peers: int = 0
    night: bool = True


def run(folder: Path, size: Size, say: Say) -> dict[str, Any]:
    """Run the benchmark.

    Parameters
    ----------
    folder
        Empty; it will hold the synthetic sites.
    size
        How much of it.
    say
        Told what is being done.

    Returns
    -------
    dict
        ``machine``, ``plain_mb_s`` with the least and the most of it, ``limits``, ``stages``, ``commands``,
        ``two_cores``, ``alone`` and ``peers``, ``night``, ``disk``.
    """
    say("the plain method")
    with contextlib.closing(_Plain(folder, size.shape)) as base:
        return _run(folder, size, say, base)


def _run(folder: Path, size: Size, say: Say, base: _Plain) -> dict[str, Any]:
    base.measure()
    found: dict[str, Any] = {
        "machine": {"cores": len(os.sched_getaffinity(0)), "processor": platform.processor() or platform.machine()},
        "python": platform.python_version(),
        "limits": [one._asdict() for one in stages.limits(base.text)],
        "commands": [],
    }
    for days in size.days:
        root = folder / f"site-{days}"
        say(f"a history of {days} days")
        raw = history.write(root, size.shape, days)
        os.sync()  # else the disk is still busy with it when the first command runs
        longest = days == size.days[-1]
        before = two_cores.both(base.works()) if longest else {}
        found["commands"] += _commands(root, days, raw, size.repeat, say, base)
        if longest:
            after = two_cores.both(base.works())
            found["two_cores"] = {name: [before[name], after[name]] for name in before}
        if days == size.days[0]:
            say("each stage alone")
            found["stages"] = [one._asdict() for one in stages.stages(root)]
            found["disk"] = _disk(root, raw)
        if size.peers == days:
            say("other engines")
            found["alone"] = _alone(root, days, raw)
            found["peers"] = _peers(root, days, raw, say)
        if longest:
            found["job_s"] = _one_job(root)
            if size.night:
                say("two nightly updates")
                found["night"] = _night(root, size.shape, days)
        else:  # it would take memory, that the text of a longer one shall be read from
            shutil.rmtree(root)
    base.measure()
    rates = base.rates
    found |= {"plain_mb_s": float(np.mean(rates)), "plain_least_mb_s": min(rates), "plain_most_mb_s": max(rates)}
    return found


class _Plain:
    """The plain method, measured again and again: what a shared machine does in a second differs from minute to minute.

    Attributes
    ----------
    text
        Some raw text.
    rates
        What it did each time, MB of raw text per second on one core.
    """

    def __init__(self, folder: Path, shape: history.Shape) -> None:
        one = history.day(shape, 0)
        content, ends = history.written(one, framed=False)
        self.text = content.tobytes()
        jobs = np.unique(one.file_job)[:PLAIN_JOBS]
        files = np.flatnonzero(np.isin(one.file_job, jobs))
        begins = np.concatenate([[0], ends[:-1]])
        self._path = folder / "plain.sqlite"
        self._connection = sqlite3.connect(self._path)
        self._connection.execute("create table jobs (job_id integer, jobstats blob)")
        self._connection.execute("create index jobs_job_id on jobs (job_id)")
        self._connection.executemany(
            "insert into jobs values (?, ?)",
            ((int(one.job_id[one.file_job[i]]), zlib.compress(self.text[begins[i] : ends[i]])) for i in files),
        )
        self._connection.commit()
        self._wanted = [(int(one.job_id[job]), int(one.cores[job])) for job in jobs]
        self._bytes = float((ends - begins)[files].sum())
        self.rates: list[float] = []

    def measure(self) -> float:
        """Measure it once more."""
        seconds = stages.best(lambda: [plain.efficiency(self._connection, *job) for job in self._wanted], 2)
        self.rates.append(self._bytes / seconds / 1e6)
        return self.rates[-1]

    def works(self) -> dict[str, two_cores.Work]:
        """What two cores are measured by: this method, a job at a time, and memory alone."""
        return {"the plain method": self._jobs, "memory copy": two_cores.copying}

    def _jobs(self) -> Callable[[], object]:
        """In a process of its own: what does the next job each time."""
        connection, jobs = sqlite3.connect(self._path), itertools.cycle(self._wanted)
        return lambda: plain.efficiency(connection, *next(jobs))

    def close(self) -> None:
        """Close its database."""
        self._connection.close()


def _commands(root: Path, days: int, raw: int, repeat: int, say: Say, base: _Plain) -> list[dict[str, Any]]:
    """Rebuild and recompute a history with one and two workers, the plain method before and after each run.

    With one and with two by turns, so that both are measured while the machine is as quick.
    """
    found = []
    for command in (("rebuild",), ("compute", "--all")):
        say(f"{' '.join(command)} of {days} days with one worker and with two")
        runs, rates = [], [base.measure()]
        for workers in (1, 2) * repeat:
            # On one core a worker and the command take turns; so that is what one core does.
            cores = [min(os.sched_getaffinity(0))] if workers == 1 else None
            runs.append(commands.jobeff(root, "--workers", str(workers), *command, cores=cores))
            rates.append(base.measure())
        for workers in (1, 2):
            mine = runs[workers - 1 :: 2]
            quickest = min(mine)
            beside = rates[2 * mine.index(quickest) + workers - 1 :][:2]
            found.append(
                {
                    "command": " ".join(command),
                    "days": days,
                    "text_gb": raw / 1e9,
                    "cores": workers,
                    "seconds": quickest.seconds,
                    "tries": [one.seconds for one in mine],
                    "mb_s": raw / quickest.seconds / 1e6,
                    "plain_mb_s": float(np.mean(beside)),
                    "peak_mb": max(one.peak_mb for one in mine),
                }
            )
    return found


def _disk(root: Path, raw: int) -> dict[str, float]:
    """Bytes on disk of shards and databases."""
    samples = rows = size = 0
    for path in (root / "shards").rglob("*.parquet"):
        table, _ = shards.read(path, ["bytes", "time"])
        samples += int(np.asarray(table.column("time").combine_chunks().offsets)[-1])
        rows += table.num_rows
        size += path.stat().st_size
    database = (root / "db" / "efficiency.sqlite").stat().st_size
    return {
        "raw_files": rows,
        "samples": samples,
        "text_bytes_per_sample": raw / samples,
        "shard_bytes_per_sample": size / samples,
        "database_bytes_per_raw_file": database / rows,
    }


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


def _alone(root: Path, days: int, raw: int) -> list[dict[str, Any]]:
    """Our rows, measured as those of other engines are: in processes that are ready, and into memory."""
    found = []
    for workers in range(1, min(2, len(os.sched_getaffinity(0))) + 1):
        cores = sorted(os.sched_getaffinity(0))[:workers]  # one worker and what gives it work take turns, as above
        command = [sys.executable, "-c", ALONE, str(root), *map(str, cores)]
        ended = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        seconds, rows = ended.stdout.split()[-2:]
        with contextlib.closing(sqlite3.connect(root / "db" / "efficiency.sqlite")) as connection:
            (known,) = connection.execute("select count(*) from jobs").fetchone()
        if int(rows) != known:
            raise RuntimeError(f"{rows} rows have been computed, and {known} are known")
        found.append({"days": days, "cores": workers, "seconds": float(seconds), "mb_s": raw / float(seconds) / 1e6})
    return found


def _peers(root: Path, days: int, raw: int, say: Say) -> list[dict[str, Any]]:
    """Other engines on the same shards, and whether their rows are the same."""
    found = []
    for engine in ("polars", "duckdb"):
        if importlib.util.find_spec(engine) is None:
            continue
        for threads in (1, 2):
            out = root / f"{engine}.parquet"
            arguments = [root / "shards", root / "db" / "accounting.sqlite", history.CLUSTER, threads, out]
            command = [sys.executable, "-c", PEER, engine, *map(str, arguments)]
            ended = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603
            if ended.returncode:  # as where memory or disk is not enough for it; what else is measured is not lost
                say(f"{engine} ended with {ended.returncode}: {ended.stderr}")
                continue
            seconds, peak_kb = map(float, ended.stdout.split()[-2:])
            found.append(
                {
                    "engine": engine, "days": days, "cores": threads, "seconds": seconds, "mb_s": raw / seconds / 1e6,
                    "peak_mb": peak_kb / 1024, "same": _same_rows(root / "db" / "efficiency.sqlite", out),
                }
            )  # fmt: skip
    return found


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


def _one_job(root: Path) -> dict[str, float]:
    """Seconds of looking one job up, its numbers alone and with its samples."""
    connection = sqlite3.connect(root / "db" / "efficiency.sqlite")
    (job_id,) = connection.execute("select job_id from jobs limit 1 offset 1000").fetchone()
    connection.close()
    found = {}
    for name, more in (("numbers", ()), ("samples", ("--samples",))):
        runs = [commands.jobeff(root, "job", str(job_id), *more).seconds for _ in range(3)]
        found[name] = min(runs)
    return found


def _night(root: Path, shape: history.Shape, days: int) -> dict[str, float]:
    """The second of two nights: the first brings the index of the archive up to date."""
    history.write_night(root, shape, days)
    first = commands.jobeff(root, "update")
    raw = history.write_night(root, shape, days + 1)
    second = commands.jobeff(root, "update")
    return {
        "jobs": shape.jobs_per_day,
        "nodes": shape.nodes,
        "days_behind": days,
        "text_mb": raw / 1e6,
        "first_seconds": first.seconds,
        "seconds": second.seconds,
        "peak_mb": second.peak_mb,
    }


def lines(found: dict[str, Any]) -> list[str]:
    """The figures as lines of Markdown tables, that read well on a terminal too.

    Parameters
    ----------
    found
        From `run`.

    Returns
    -------
    list of str
        Without newlines.
    """
    base = found["plain_mb_s"]
    text = [
        f"Plain Python method on one core: {base:.1f} MB of raw text per second ({found['plain_least_mb_s']:.1f} to "
        f"{found['plain_most_mb_s']:.1f}; each command is compared with what it did just before and after)."
    ]
    table: list[Sequence[object]] = [
        (
            one["command"], f"{one['days']}, {one['text_gb']:.1f} GB", one["cores"], f"{one['seconds']:.1f} s",
            f"{one['mb_s']:,.0f}", f"{one['mb_s'] / one['plain_mb_s']:.0f} x", f"{one['peak_mb']:.0f} MB",
        )
        for one in found["commands"]
    ]  # fmt: skip
    head = ("whole command", "days, text", "cores", "time", "MB/s", "of plain", "memory")
    text += ["", *_table(head, table), "", f"memory: the most that any one of its processes has.{_of_two(found)}"]
    if found.get("peers"):
        text += ["", *_compared(found), "", COMPARED]
    copy = next(one["mb_s"] for one in found["limits"] if one["name"] == "memory copy")
    rows = [*found.get("stages", []), *found["limits"]]
    table = [
        (one["name"], f"{one['mb_s']:,.0f}", f"{one['mb_s'] / base:,.0f} x", f"{100 * one['mb_s'] / copy:.0f} %")
        for one in rows
    ]
    text += ["", *_table(("one core: stage, limit", "MB/s", "of plain", "of memory copy"), table)]
    if "night" in found:
        night = found["night"]
        text += [
            "",
            f"Nightly update of {night['jobs']:,} jobs on {night['nodes']} nodes ({night['text_mb']:.0f} MB) with "
            f"{night['days_behind']} days behind it: {night['seconds']:.1f} s, {night['peak_mb']:.0f} MB.",
        ]
    if "job_s" in found:
        job = found["job_s"]
        text.append(f"One job looked up: {job['numbers']:.2f} s; with its samples {job['samples']:.2f} s.")
    disk = found.get("disk")
    if disk:
        text.append(
            f"On disk: {disk['shard_bytes_per_sample']:.1f} bytes per sample in shards, "
            f"{disk['text_bytes_per_sample']:.0f} as text; "
            f"{disk['database_bytes_per_raw_file']:.0f} bytes of efficiency database per raw file."
        )
    return text


def _of_two(found: dict[str, Any]) -> str:
    """How much more two cores do than one, of the longest history."""
    days = found["commands"][-1]["days"]
    tries = {(one["command"], one["cores"]): one["tries"] for one in found["commands"] if one["days"] == days}
    both = [command for command, cores in tries if cores == 2 and (command, 1) in tries]
    gains = [f"{command} {two_cores.gain(tries[command, 1], tries[command, 2]):.2f} x" for command in both]
    if not gains:
        return ""
    limits = [f"{name} {' and '.join(f'{one:.2f}' for one in two)} x" for name, two in found["two_cores"].items()]
    text = f" Two cores against one, by turns, {days} days: {', '.join(gains)}."
    return f"{text} Two processes that share nothing, before and after: {', '.join(limits)}." if limits else text


COMPARED = (
    "From the same shards. command: `compute --all` with as many cores does so many times as much, its start-up and "
    "its database included, theirs not; alone: without these, as they are measured."
)


def _compared(found: dict[str, Any]) -> list[str]:
    """Other engines, and how many times as much we do."""
    whole = {(one["days"], one["cores"]): one["mb_s"] for one in found["commands"] if one["command"] == "compute --all"}
    alone = {(one["days"], one["cores"]): one["mb_s"] for one in found["alone"]}
    table = []
    for one in found["peers"]:
        mine = [rates.get((one["days"], one["cores"])) for rates in (whole, alone)]
        ours = [f"{rate / one['mb_s']:.1f} x" if rate else "" for rate in mine]
        same, memory = "yes" if one["same"] else "NO", f"{one['peak_mb']:,.0f} MB"
        rest = (f"{one['seconds']:.1f} s", f"{one['mb_s']:,.0f}", *ours, memory, same)
        table.append((one["engine"], one["days"], one["cores"], *rest))
    for one in found["alone"]:
        rest = (f"{one['seconds']:.1f} s", f"{one['mb_s']:,.0f}", "", "1.0 x", "", "yes")
        table.append(("jobeff", one["days"], one["cores"], *rest))
    return _table(("engine", "days", "cores", "time", "MB/s", "command", "alone", "memory", "same rows"), table)


def _table(head: Sequence[object], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table with columns of even width."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    shown = []
    for row in cells:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        shown.append(f"| {' | '.join([first.strip().ljust(widths[0]), *others])} |")
    rule = "|" + "|".join("-" * (w + 1) + ("-" if i == 0 else ":") for i, w in enumerate(widths)) + "|"
    return [shown[0], rule, *shown[1:]]


def stamp() -> str:
    """When this is, for the file that keeps the figures.

    Returns
    -------
    str
        Local date and time.
    """
    return time.strftime("%Y-%m-%d %H:%M")
