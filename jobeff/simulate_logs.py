"""Real accounting logs as the base of a synthetic site: copied as they are, and read for the jobs in them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from jobeff.clock import LAST_EPOCH_S
from jobeff.errors import JobeffError, shown
from jobeff.names import job_id_or_none
from jobeff.simulate_jobs import Attempt, Job, is_day
from jobeff.simulate_usage import SHAPES
from jobeff.sources.hostlist import HostListError, expand

_LINE = re.compile(
    rb"[0-9-]{10} [0-9:]{8} jobstate=(?P<state>[A-Z_]+) jobid=(?P<job_id>[0-9]+) username=(?P<user>\S+) "
    rb"account=(?P<project>\S+) start=(?P<start>[0-9]{1,12}) end=(?P<end>[0-9]{1,12})(?: submit=[0-9]+)? "
    rb"nodes=(?P<nodes>\S*) procs=(?P<cores>[0-9]{1,9})(?: batch=(?:yes|no))? jobname=.* partition=\S+"
    rb"(?: limit=(?:(?:[0-9]+-)?[0-9:]{8}|[0-9]+))?\n?"
)
TODO = "Name logs as a site writes them, a day in front of each line"


def copy_by_day(logs: Sequence[Path], folder: Path) -> list[str]:
    """Copy log lines, byte by byte, into one file per day.

    Parameters
    ----------
    logs
        Those that `read_jobs` could read.
    folder
        An empty folder for the files, which are named by day.

    Returns
    -------
    list of str
        The days, in order.
    """
    names = set()
    for log in logs:
        for name, lines in groupby(_dated(log), key=lambda pair: pair[0]):
            names.add(name)
            with (folder / name).open("ab") as file:
                file.writelines(line if line.endswith(b"\n") else line + b"\n" for _, line in lines)
    return sorted(names)


def read_jobs(logs: Sequence[Path]) -> list[Job]:
    """Find the jobs in site logs.

    Parameters
    ----------
    logs
        Site logs; one may hold several days, and a day may lie in several.

    Returns
    -------
    list of Job
        In order of their first line; lines that are no job's are passed over.

    Raises
    ------
    JobeffError
        A log cannot be read, or does not begin with a date.
    """
    attempts: dict[int, dict[int, Attempt]] = defaultdict(dict)
    for log in logs:
        for _, line in _dated(log):
            attempt = _attempt(line)
            if attempt:
                attempts[attempt.job_id].setdefault(attempt.start, attempt)
    return [
        Job(tuple(of_id[start] for start in sorted(of_id)), SHAPES[job_id % len(SHAPES)])
        for job_id, of_id in attempts.items()
    ]


def _dated(log: Path) -> Iterator[tuple[str, bytes]]:
    """Yield lines with their day; what has no date of its own belongs to the line before."""
    name = ""
    for line in _lines(log):
        stamp = line[:10].decode("ascii", "replace")
        if stamp != name and is_day(stamp):
            name = stamp
        if not name:
            where, why = f"{shown(str(log))}:1", f"no date begins {shown(line.rstrip())}"
            raise JobeffError("not a site log", where=where, why=why, safe="Logs are only read", todo=TODO)
        yield name, line


def _lines(log: Path) -> Iterator[bytes]:
    try:
        with log.open("rb") as file:
            yield from file
    except OSError as error:
        where, why = shown(str(log)), error.strerror or ""
        raise JobeffError("cannot read a log", where=where, why=why, safe="Logs are only read", todo=TODO) from error


def _attempt(line: bytes) -> Attempt | None:
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    text = {name: value.decode("utf-8", "surrogateescape") for name, value in match.groupdict().items()}
    job_id, start, end = job_id_or_none(text["job_id"]), int(text["start"]), int(text["end"])
    if job_id is None or not start <= end < LAST_EPOCH_S:
        return None
    try:
        nodes = expand(text["nodes"]) if text["nodes"] else []
    except HostListError:
        return None
    cores = int(text["cores"])
    return Attempt(job_id, text["user"], text["project"], text["state"], start, end, cores, tuple(nodes))
