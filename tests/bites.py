"""Every parser and reader in one form, for tests and fuzzing: a path in, rows and what was set aside out."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobeff.clock import Clock
from jobeff.config import PROJECT_KEYS, load
from jobeff.errors import JobeffError, SetAside
from jobeff.names import is_name
from jobeff.sources import (
    accounting,
    ask_sacct,
    corehours,
    grants,
    legacy,
    legacy_raw,
    projects,
    records,
    sacct_json,
    slurm_logs,
    storage,
)

CLOCK = Clock("Europe/Stockholm")
COLUMNS = ask_sacct.COLUMNS
Read = Callable[[Path, SetAside], list]


@dataclass(frozen=True)
class Parser:
    """How to read, and a record of that form: `good` makes one by number; `head` stands before all of them."""

    read: Read
    good: Callable[[int], bytes]
    head: bytes = b""
    end: bytes = b"\n"


def _log(fmt: str) -> Read:
    def read(path, aside):
        counts = accounting.ReadCounts()
        common = {"cluster": "c1", "clock": CLOCK, "where": "x", "aside": aside, "counts": counts}
        with path.open("rb") as stream:
            if fmt == "sacct-json":
                jobs = list(sacct_json.read(stream, **common))
            elif fmt == "ask":
                jobs = list(ask_sacct.read(stream, "|<>|", **common))
            else:
                jobs = list(slurm_logs.read(accounting.LogLines(stream), fmt=fmt, **common))
        assert counts.set_aside == aside.total
        assert counts.jobs + counts.never_started == len(jobs)
        assert all(is_name(job.cluster) and all(map(is_name, filter(None, job.nodes.split(",")))) for job in jobs)
        return jobs

    return read


def _projects(path, aside):
    found = projects.Found()
    with path.open("rb") as stream:
        projects.read(stream, PROJECT_KEYS, where="x", aside=aside, found=found)
    return list(found.projects.values())


def _records(columns) -> Read:
    def read(path, aside):
        with path.open("rb") as stream:
            first = records.first_line(stream)
            stream.seek(0)
            try:
                reader = records.reader(first or b"", columns)
                lines = accounting.LogLines(stream)
                return list(records.read(lines, reader, where="x", kind="record", aside=aside))
            except records.FileRefusedError as error:
                aside.add("file", "x", str(error))
                return []

    return read


def _legacy(path, aside):
    found = []
    for part in legacy.parts(path, aside):
        if part.kind == "accounting":
            found += legacy.read_jobs(part, "c1", CLOCK, aside, accounting.ReadCounts())
        else:
            found += legacy_raw.read_raw(part, aside)
    return found


def _config(path, aside):
    try:
        return [load(path)]
    except JobeffError as error:
        aside.add("configuration", "x", str(error))
        return []


def _site(n: int) -> bytes:
    return (
        f"2021-06-01 00:00:00 jobstate=COMPLETED jobid={n} username=u account=p start=1622500000 end=1622503600 "
        f"submit=1622490000 nodes=n1 procs=4 batch=yes jobname=x partition=core limit=01:00:00\n"
    ).encode()


def _sacct(n: int, delimiter: str = "|") -> bytes:
    cells = dict.fromkeys(COLUMNS.split("|"), "")
    cells |= {"JobID": str(n), "JobIDRaw": str(n), "Cluster": "c1", "Partition": "core", "Account": "p", "User": "u"}
    cells |= {"Start": "2021-06-01T00:00:00", "End": "2021-06-01T01:00:00", "State": "COMPLETED", "NCPUS": "4"}
    cells |= {"Submit": "2021-05-31T00:00:00", "Timelimit": "01:00:00", "NodeList": "n1", "JobName": "x"}
    return (delimiter.join(cells.values()) + "\n").encode()


def _jobcomp(n: int) -> bytes:
    return (
        f"JobId={n} UserId=u(1) GroupId=g(1) Name=x JobState=COMPLETED Partition=core TimeLimit=60 "
        "StartTime=2021-06-01T00:00:00 EndTime=2021-06-01T01:00:00 NodeList=n1 NodeCnt=1 ProcCnt=4 WorkDir=/ "
        "ReservationName= Tres= Account=p QOS=normal WcKey= Cluster=c1 SubmitTime=2021-05-31T00:00:00 "
        "EligibleTime=2021-05-31T00:00:00 DerivedExitCode=0:0 ExitCode=0:0 \n"
    ).encode()


def _json_job(n: int) -> bytes:
    job = {"job_id": n, "account": "p", "user": "u", "cluster": "c1", "partition": "core", "name": "x", "nodes": "n1"}
    job |= {"state": {"current": "COMPLETED"}, "required": {"CPUs": 4}}
    job |= {"time": {"start": 1622500000, "end": 1622503600, "submission": 1622490000}}
    return json.dumps({"jobs": [job]}).encode() + b"\n"


PACKED = b"eJwDAAAAAAE="  # base64 of zlib of nothing

PARSERS = {
    "site": Parser(_log("site"), _site),
    "sacct": Parser(_log("sacct"), _sacct, (COLUMNS + "\n").encode()),
    "jobcomp": Parser(_log("jobcomp"), _jobcomp),
    "auto": Parser(_log("auto"), _site),
    "sacct-json": Parser(_log("sacct-json"), _json_job),
    "ask": Parser(_log("ask"), lambda n: _sacct(n, "|<>|")),
    "projects": Parser(_projects, lambda n: f"Name: p{n}\nStart: 20210101\n\n".encode(), end=b"\n\n"),
    "projects-json": Parser(
        _projects, lambda n: json.dumps({f"p{n}": {"Start": "20210101"}}).encode() if n == 1 else b""
    ),
    "grants": Parser(lambda path, aside: list(grants.read(path, aside).items()), lambda n: f"p{n}:{n}:x\n".encode()),
    "storage": Parser(_records(storage.COLUMNS), lambda n: f"p{n},2021-06-01,{n}\n".encode(), b"proj_id,date,usage\n"),
    "storage-json": Parser(
        _records(storage.COLUMNS), lambda n: b'{"proj_id": "p%d", "date": "2021-06-01", "usage": %d}\n' % (n, n)
    ),
    "corehours": Parser(
        _records(corehours.columns("c1")), lambda n: f"p{n};2021-06-01;{n}\n".encode(), b"proj_id;date;grant\n"
    ),
    "lines": Parser(_legacy, lambda n: b"%d\tn1\t%s\n" % (n, PACKED)),
    "config": Parser(_config, lambda n: b'[clusters.c%d]\naccounting = "a"\n' % n),
}
