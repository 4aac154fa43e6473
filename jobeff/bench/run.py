"""The benchmark: the plain method, other engines, stages, whole commands and growing history, in one run."""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sqlite3
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jobeff.bench import anew, cold, commands, history, others, plain, stages, two_cores
from jobeff.engine import warm
from jobeff.engine.pool import told_if_slow
from jobeff.store import shards, tables

PLAIN_JOBS = 2500
KINDS = ("workers", "apart")
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
        How often each command is run, and rows alone are computed; the quickest counts.
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
        ``two_cores``, ``cold_s``, ``anew_s``, ``alone`` and ``peers``, ``night``, ``disk``.
    """
    with told_if_slow(say):
        warm.run_if_cold()  # or it would be measured of a command
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
        runs = _commands(root, raw, size.repeat, say, base, longest)
        found["commands"] += [one for run in runs for one in run.told(days, raw)]
        if longest:
            found["two_cores"] = {" ".join(run.command): gains for run in runs if (gains := run.gains())}
            say("the same commands on what the system does not have in its cache")
            found |= {"cold_s": cold.seconds(root, size.repeat), "anew_s": anew.seconds(root, size.repeat)}
        if days == size.days[0]:
            say("each stage alone")
            found["stages"] = [one._asdict() for one in stages.stages(root)]
            found["disk"] = _disk(root, raw)
        if size.peers == days:
            say("other engines")
            found["alone"], found["peers"] = others.by_turns(root, days, raw, size.repeat, say)
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
        self._connection = sqlite3.connect(folder / "plain.sqlite")
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

    def close(self) -> None:
        """Close its database."""
        self._connection.close()


@dataclass
class _Turns:
    """A command that has been run with one core and with two by turns, both while the machine is as quick.

    Attributes
    ----------
    command
        Its words.
    runs
        By number of cores.
    beside
        The mean of what the plain method did just before each of them, and after it.
    apart
        Seconds of two of them at once, see `two_cores.apart`, of each turn.
    """

    command: tuple[str, ...]
    runs: dict[int, list[commands.Run]] = field(default_factory=lambda: {1: [], 2: []})
    beside: dict[int, list[float]] = field(default_factory=lambda: {1: [], 2: []})
    apart: list[float] = field(default_factory=list)

    def told(self, days: int, raw: int) -> list[dict[str, Any]]:
        """Figures of the quickest with one core and with two."""
        found = []
        for cores, runs in self.runs.items():
            quickest = min(runs)
            found.append(
                {
                    "command": " ".join(self.command),
                    "days": days,
                    "text_gb": raw / 1e9,
                    "cores": cores,
                    "seconds": quickest.seconds,
                    "tries": [one.seconds for one in runs],
                    "mb_s": raw / quickest.seconds / 1e6,
                    "plain_mb_s": self.beside[cores][runs.index(quickest)],
                    "peak_mb": max(one.peak_mb for one in runs),
                }
            )
        return found

    def gains(self) -> dict[str, float]:
        """How much more two workers do than one, and how much more two commands that share nothing."""
        one, two = ([run.seconds for run in self.runs[cores]] for cores in (1, 2))
        return {"workers": two_cores.gain(one, two), "apart": two_cores.gain(one, self.apart)} if self.apart else {}


def _commands(root: Path, raw: int, repeat: int, say: Say, base: _Plain, longest: bool) -> list[_Turns]:
    """Rebuild and recompute a history with one and two workers, the plain method before and after each run."""
    done = []
    here = sorted(os.sched_getaffinity(0))
    # On one core a worker and the command take turns; so that is what one core does.
    allowed = {1: here[:1], 2: None}
    for command in (("rebuild",), ("compute", "--all")):
        say(f"{' '.join(command)} of {raw / 1e9:.1f} GB with one worker and with two")
        turns, rate = _Turns(command), base.measure()
        with two_cores.twin(root) if longest and len(here) > 1 else contextlib.nullcontext() as twin:
            for _ in range(repeat):
                for cores in (1, 2):
                    run = commands.jobeff(root, "--workers", str(cores), *command, cores=allowed[cores])
                    before, rate = rate, base.measure()
                    turns.runs[cores].append(run)
                    turns.beside[cores].append((before + rate) / 2)
                if twin is not None:
                    turns.apart.append(two_cores.apart((root, twin), *command))
                    rate = base.measure()
        done.append(turns)
    return done


def _disk(root: Path, raw: int) -> dict[str, float]:
    """Bytes on disk of shards and databases."""
    samples = rows = size = 0
    for path in (root / "shards").rglob("*.parquet"):
        table, _ = shards.read(path, ["bytes", "time"])
        samples += int(np.asarray(table.column("time").combine_chunks().offsets)[-1])
        rows += table.num_rows
        size += path.stat().st_size
    database = tables.database(root, "efficiency").stat().st_size
    return {
        "raw_files": rows,
        "samples": samples,
        "text_bytes_per_sample": raw / samples,
        "shard_bytes_per_sample": size / samples,
        "database_bytes_per_raw_file": database / rows,
    }


def _one_job(root: Path) -> dict[str, float]:
    """Seconds of looking one job up, its numbers alone and with its samples."""
    connection = sqlite3.connect(tables.database(root, "efficiency"))
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
    beside = f"memory: the most that any one of its processes has.{_of_two(found)}{_cold(found)}"
    text += ["", *_table(head, table), "", beside]
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
    gains = found["two_cores"]
    if not gains:
        return ""
    days = found["commands"][-1]["days"]
    workers, apart = (", ".join(f"{name} {one[kind]:.2f} x" for name, one in gains.items()) for kind in KINDS)
    return (
        f" Two workers against one, by turns, {days} days: {workers}. Two commands at once, each with a core and a "
        f"site of its own, against one: {apart}."
    )


def _cold(found: dict[str, Any]) -> str:
    """What commands take on the longest history where the system has none of it in its cache, or no shard stays."""
    if "anew_s" not in found:
        return ""
    took = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in found["cold_s"].items())
    rest = f"rebuild where no shard is the same as before, so that all are written and removed: {found['anew_s']:.1f} s"
    return f" With two workers, and what is read not in the system's cache but on disk: {took}; {rest}."


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
