"""Accounting in all its forms: each says the same of the same job, and none of them is broken by what users write."""

from __future__ import annotations

import io
import json
import re
import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobeff.clock import LAST_EPOCH_S, Clock
from jobeff.errors import SetAside
from jobeff.sources import accounting, ask_sacct, sacct_json, slurm_logs
from jobeff.sources.accounting import NOT_ENDED, AccountingJob, LogLines, ReadCounts
from jobeff.sources.sacct import COLUMNS

ZONE = "Europe/Stockholm"
CLOCK = Clock(ZONE)
JOB = AccountingJob(
    "2026-11-23", 7, "p1", "u1", 1795455236, 1795455241, "core", 2, "demo", "n1,n2", "wrap", "COMPLETED", 1795455235,
    86_400, None,
)  # fmt: skip


def read(log: bytes, *, fmt: str = "auto", clock: Clock = CLOCK, delimiter: str = "") -> Any:
    counts, aside = ReadCounts(), SetAside()
    common = {"cluster": "demo", "clock": clock, "where": "log", "aside": aside, "counts": counts}
    stream = io.BytesIO(log)
    if delimiter:
        jobs = ask_sacct.read(stream, delimiter, **common)
    elif slurm_logs.is_document(stream, fmt):
        jobs = sacct_json.read(stream, **common)
    else:
        jobs = slurm_logs.read(LogLines(stream), fmt=fmt, **common)
    found = list(jobs)
    assert len(found) == counts.jobs + counts.never_started
    assert aside.total == counts.set_aside
    assert all(why.isascii() and why.isprintable() and len(why) < 600 for _, _, why in aside.examples)
    return found, counts, aside


# ---- writing a job in each form, as Slurm does -------------------------------------------------------------------


def as_site(job: AccountingJob) -> bytes:
    hours = f"{job.limit_s // 86_400}-00:00:00" if job.limit_s is not None else ""
    return (
        f"2021-05-30 00:00:02 jobstate={job.jobstate} jobid={job.job_id} username={job.user} account={job.proj_id}"
        f" start={job.start} end={job.end}" + (f" submit={job.submit}" if job.submit is not None else "")
        + f" nodes={job.nodes} procs={job.cores} batch=yes jobname={job.jobname} partition={job.partition}"
        + (f" limit={hours}" if hours else "") + "\n"
    ).encode()  # fmt: skip


def as_sacct(job: AccountingJob, delimiter: str = "|") -> bytes:
    def iso(epoch: int | None) -> str:
        return "Unknown" if epoch is None else datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")

    told = {
        "JobID": job.job_id_text or str(job.job_id), "JobIDRaw": str(job.job_id), "Cluster": job.cluster,
        "Partition": job.partition, "Account": job.proj_id, "User": job.user, "Submit": iso(job.submit),
        "Eligible": "Unknown", "Start": iso(job.start) if job.nodes else "None", "End": iso(job.end),
        "State": "CANCELLED by 0" if job.jobstate == "CANCELLED" else job.jobstate, "NCPUS": str(job.cores),
        "Timelimit": "UNLIMITED" if job.limit_s is None else f"{job.limit_s // 86_400}-00:00:00",
        "NodeList": job.nodes or "None assigned", "JobName": job.jobname,
    }  # fmt: skip
    return (delimiter.join(told.get(column, "") for column in COLUMNS.split("|")) + "\n").encode()


def as_jobcomp(job: AccountingJob, zone: str = ZONE) -> bytes:
    def local(epoch: int) -> str:
        return datetime.fromtimestamp(epoch, ZoneInfo(zone)).strftime("%Y-%m-%dT%H:%M:%S")

    array = re.fullmatch(r"(\d+)_(\d+)", job.job_id_text or "")
    het = re.fullmatch(r"(\d+)\+(\d+)", job.job_id_text or "")
    ids = f" ArrayJobId={array[1]} ArrayTaskId={array[2]}" if array else ""
    ids += f" HetJobId={het[1]} HetJobOffset={het[2]}" if het else ""
    limit = "UNLIMITED" if job.limit_s is None else job.limit_s // 60
    return (
        f"JobId={job.job_id} UserId={job.user}(1) GroupId=domain users(1) Name={job.jobname} JobState={job.jobstate}"
        f" Partition={job.partition} TimeLimit={limit} StartTime={local(job.start)} EndTime={local(job.end)}"
        f" NodeList={job.nodes or '(null)'} NodeCnt=1 ProcCnt={job.cores} WorkDir=/home/a b/x=y ReservationName="
        f" Tres=cpu=1,mem=50M Account={job.proj_id} QOS=normal WcKey= Cluster={job.cluster}"
        f" SubmitTime={'unknown' if job.submit is None else local(job.submit)} EligibleTime=Unknown{ids}"
        " DerivedExitCode=0:0 ExitCode=0:0 \n"
    ).encode()


OLD, OBJECTS, LISTS = "22.05", "23.02", "23.11"


def told_in_json(job: AccountingJob, version: str = LISTS, **changes: Any) -> dict[str, Any]:
    def number(value: int | None) -> Any:
        if version == OLD:
            return value
        return {"set": value is not None, "infinite": False, "number": value or 0}

    array = re.fullmatch(r"(\d+)_(\d+)", job.job_id_text or "")
    het = re.fullmatch(r"(\d+)\+(\d+)", job.job_id_text or "")
    return {
        "account": job.proj_id, "cluster": job.cluster, "job_id": job.job_id, "name": job.jobname,
        "nodes": job.nodes or "None assigned", "partition": job.partition, "user": job.user,
        "array": {"job_id": int(array[1]) if array else 0, "task_id": number(int(array[2]) if array else None)},
        "het": {"job_id": int(het[1]) if het else 0, "job_offset": number(int(het[2]) if het else None)},
        "state": {"current": [job.jobstate] if version == LISTS else job.jobstate, "reason": "None"},
        "time": {
            "elapsed": job.end - job.start, "eligible": job.submit or 0, "end": job.end,
            "start": job.start if job.nodes else (None if version == OLD else 0), "submission": job.submit or 0,
            "suspended": 0, "limit": number(None if job.limit_s is None else job.limit_s // 60),
        },
        "required": {"CPUs": 1 if job.nodes else job.cores},
        "tres": {"allocated": [{"type": "cpu", "count": job.cores}, {"type": "node", "count": 1}] if job.nodes else []},
        "exit_code": {"status": ["SUCCESS"], "return_code": number(0)},
        "steps": [{"time": {"end": number(job.end)}}],
    } | changes  # fmt: skip


def document(*jobs: Any, **more: Any) -> bytes:
    return json.dumps({"meta": {"jobs": "none here"}, "jobs": list(jobs), "warnings": [], **more}, indent=1).encode()


# ---- properties ---------------------------------------------------------------------------------------------------

WORD = st.from_regex(r"[A-Za-z0-9åäö_.:@\\+-]{1,12}", fullmatch=True)
NODE = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True)
STATE = st.from_regex(r"[A-Z_]{1,9}", fullmatch=True).filter(lambda state: state not in NOT_ENDED)
NAME = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
    | st.sampled_from(["\n", " ", "|", "=", '"', "\n\n", " jobstate=FAKE username=eve", " JobState=FAKE Partition=x"]),
    max_size=8,
).map("".join)  # fmt: skip


@st.composite
def accounting_jobs(draw: Any) -> AccountingJob:
    submit, start, end = sorted(draw(st.lists(st.integers(1, LAST_EPOCH_S - 1), min_size=3, max_size=3)))
    nodes = ",".join(draw(st.lists(NODE, unique=True, max_size=3)))
    ids = st.none() | st.builds("{}{}{}".format, st.integers(1, 99), st.sampled_from("_+"), st.integers(0, 99))
    day = datetime.fromtimestamp(end, ZoneInfo(ZONE)).date().isoformat()
    return AccountingJob(
        day, draw(st.integers(1, 2**63 - 1)), draw(WORD), draw(WORD), start if nodes else end, end, draw(NODE),
        draw(st.integers(1, 2**31 - 1)), "demo", nodes, draw(NAME), draw(STATE), draw(st.sampled_from([submit, None])),
        draw(st.none() | st.integers(0, 400).map(lambda days: days * 86_400)), draw(ids),
    )  # fmt: skip


@settings(max_examples=80)
@given(job=accounting_jobs(), version=st.sampled_from([OLD, OBJECTS, LISTS]))
def test_json_says_all_of_a_job(job: AccountingJob, version: str) -> None:
    found, counts, _ = read(document(told_in_json(job, version)))
    assert (found, counts.steps) == ([job], 1)


@settings(max_examples=80)
@given(job=accounting_jobs())
def test_what_sacct_is_asked_for_says_all_of_a_job(job: AccountingJob) -> None:
    log = as_sacct(job, "|k3y|") + as_sacct(JOB, "|k3y|")
    assert read(log, delimiter="|k3y|")[0] == [job, JOB]


@settings(max_examples=80)
@given(job=accounting_jobs())
def test_sacct_says_all_of_a_job_but_newlines(job: AccountingJob) -> None:
    job = job._replace(jobname=job.jobname.replace("\n", ""))
    assert read(as_sacct(job))[0] == [job]


@settings(max_examples=80)
@given(job=accounting_jobs())
def test_a_site_log_says_all_of_a_job_but_array_and_cluster(job: AccountingJob) -> None:
    assert read(as_site(job) + as_site(JOB))[0] == [job._replace(job_id_text=None), JOB]


@settings(max_examples=80)
@given(job=accounting_jobs())
def test_jobcomp_says_all_of_a_job(job: AccountingJob) -> None:
    """In UTC, where no hour comes twice."""
    clock = Clock("UTC")
    day = clock.day(job.end)
    found, _, aside = read(as_jobcomp(job, "UTC") + as_jobcomp(JOB, "UTC"), clock=clock)
    assert found == [job._replace(date=day), JOB], aside.examples


RUBBISH = st.lists(
    st.binary(max_size=20)
    | st.sampled_from([as_site(JOB), as_sacct(JOB), as_jobcomp(JOB), document(told_in_json(JOB)), b"\n", b"{", b"["])
    | st.builds(lambda log, cut: log[:cut], st.sampled_from([as_site(JOB), as_jobcomp(JOB)]), st.integers(0, 300)),
    max_size=8,
).map(b"".join)


@given(log=RUBBISH, fmt=st.sampled_from(["auto", "site", "sacct", "sacct-json", "jobcomp"]))
def test_no_bytes_raise(log: bytes, fmt: str) -> None:
    for job in read(log, fmt=fmt)[0]:
        assert job.jobname.encode() is not None


@given(log=RUBBISH)
def test_no_answer_of_sacct_raises(log: bytes) -> None:
    read(log, delimiter="|")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["set", "number", "job_id"]), inner),
    max_leaves=4,
)
PLACES = [(key,) for key in told_in_json(JOB)] + [
    (key, below) for key, value in told_in_json(JOB).items() if isinstance(value, dict) for below in value
]


@given(place=st.sampled_from(PLACES), value=VALUES)
def test_any_value_anywhere_in_a_json_job_stops_no_other_job(place: tuple[str, ...], value: Any) -> None:
    told = told_in_json(JOB)
    at = told
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    found, counts, _ = read(document(told, told_in_json(JOB._replace(job_id=8))))
    assert found[-1].job_id == 8
    assert counts.lines - counts.steps == 2


# ---- JSON ---------------------------------------------------------------------------------------------------------


def changed(*path: str, to: Any, version: str = LISTS) -> Any:
    """What is read of a job in which one value is another."""
    told = told_in_json(JOB, version)
    at = told
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = to
    return read(document(told))


UNSET, INFINITE = {"set": False, "infinite": False, "number": 0}, {"set": True, "infinite": True, "number": 0}


@pytest.mark.parametrize(
    ("path", "to", "expected"),
    [
        ("time.limit", None, {"limit_s": None}),
        ("time.limit", 90, {"limit_s": 5400}),
        ("time.limit", UNSET, {"limit_s": None}),
        ("time.limit", INFINITE, {"limit_s": None}),
        ("time.limit", {"set": True, "infinite": False, "number": 90}, {"limit_s": 5400}),
        ("time.end", {"set": True, "infinite": False, "number": 1795455240}, {"end": 1795455240}),
        ("state.current", "TIMEOUT", {"jobstate": "TIMEOUT"}),
        ("state.current", ["TIMEOUT"], {"jobstate": "TIMEOUT"}),
        ("state.current", ["PENDING", "REQUEUED"], {"jobstate": "REQUEUED"}),
        ("state.current", ["RUNNING", "RESIZING"], {"jobstate": "RESIZING"}),
        ("state.current", "CANCELLED by 7", {"jobstate": "CANCELLED"}),
        ("array", {"job_id": 5, "task_id": 0}, {"job_id_text": "5_0"}),
        ("array", {"job_id": 5, "task_id": UNSET, "task": "1-3"}, {"job_id_text": "5_[1-3]"}),
        ("array", {"job_id": 5, "task_id": None, "task": None}, {}),
        ("array", {"job_id": 0, "task_id": {"set": True, "number": 3}}, {}),
        ("array", None, {}),
        ("het", {"job_id": 5, "job_offset": {"set": True, "number": 1}}, {"job_id_text": "5+1"}),
        ("user", "", {"user": "assoc"}),
        ("user", 1234, {"user": "1234"}),
        ("account", None, {"proj_id": "passoc"}),
        ("nodes", "n[1-2]", {}),
        ("tres", {"allocated": []}, {"cores": 1}),
        ("exit_code", 0, {}),
        ("exit_code", {"return_code": {"set": True, "number": 256}, "signal": {"id": UNSET}}, {}),
    ],
)
def test_json_value(path: str, to: Any, expected: dict[str, Any]) -> None:
    told = told_in_json(JOB) | {"association": {"user": "assoc", "account": "passoc"}}
    *above, last = path.split(".")
    at = told
    for key in above:
        at = at[key]
    at[last] = to
    assert read(document(told))[0] == [JOB._replace(**expected)]


@pytest.mark.parametrize(
    ("path", "to"),
    [("time.end", 0), ("time.end", None), ("time.end", UNSET), ("state.current", ["RUNNING"]),
     ("state.current", "PENDING"), ("state.current", ["RUNNING", "COMPLETING"])],
)  # fmt: skip
def test_a_json_job_that_has_not_ended_is_counted(path: str, to: Any) -> None:
    assert changed(*path.split("."), to=to)[:2] == ([], ReadCounts(running=1, steps=1))


@pytest.mark.parametrize(
    ("bitmap", "at_once", "text"),
    [
        ("0x1E", 0, "[1-4]"), ("0x1E", 2, "[1-4%2]"), ("0x22222222222", 0, "[1-41:4]"), ("0x2AA", 0, "[1,3,5,7,9]"),
        ("0x7FFFFEE1", 3, "[0,5-7,9-30%3]"), ("0x1" + "249" * 75, 0, "[0-900:3]"), ("0x1", 0, "[0]"),
        ("0x0", 0, "[0x0]"), ("1-4", 0, "[1-4]"),
    ],
)  # fmt: skip
def test_tasks_that_never_came_apart(bitmap: str, at_once: int, text: str) -> None:
    """As Slurm 22.05 has printed each, as JSON and with -P."""
    array = {"job_id": 5, "task_id": None, "task": bitmap, "limits": {"max": {"running": {"tasks": at_once}}}}
    assert changed("array", to=array)[0][0].job_id_text == f"5_{text}"


def test_a_start_that_is_not_the_start() -> None:
    """Slurm 21.08.8 prints when a job became eligible; it had waited two hours, and was suspended for five minutes."""
    waited, suspended = 7200, 300
    told = told_in_json(JOB, OLD)
    told["time"] |= {"start": JOB.start - waited, "eligible": JOB.start - waited, "suspended": suspended}
    told["time"]["elapsed"] = JOB.end - JOB.start
    told["time"]["end"] = JOB.end + suspended
    [job] = read(document(told))[0]
    assert (job.start, job.end) == (JOB.start, JOB.end + suspended)


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 2**20])
def test_a_document_is_read_in_pieces(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sacct_json, "_CHUNK_BYTES", chunk)
    jobs = [JOB._replace(job_id=n, jobname='å\n"}],\x1b\\' * n) for n in range(1, 5)]
    whole = document(*map(told_in_json, jobs))
    raw = json.dumps({"jobs": list(map(told_in_json, jobs))}, ensure_ascii=False).encode()
    for log in (whole, raw, b"\xef\xbb\xbf" + whole, whole + b"\n" + whole):
        found, _, aside = read(log)
        assert found == jobs * (len(found) // 4)
        assert (len(found) % 4, aside.total) == (0, 0)


def test_of_a_cut_document_the_whole_jobs_are_read() -> None:
    jobs = [JOB._replace(job_id=n) for n in range(1, 4)]
    log = document(*map(told_in_json, jobs))
    ends = [log.index(b'"job_id": %d,' % n) for n in (1, 2, 3)]
    for cut in range(log.index(b'"jobs": ['), len(log) - 1, 5):
        found, counts, aside = read(log[:cut])
        assert found == jobs[: len(found)]
        assert sum(cut > end for end in ends) - 1 <= len(found) <= sum(cut > end for end in ends)
        assert (counts.set_aside, "what follows is not read" in aside.examples[0][2]) == (1, True)


@pytest.mark.parametrize(
    ("log", "why"),
    [
        (b"{}", "no list of jobs"),
        (b'{"jobs": null}', "no list of jobs"),
        (b'{"jobs": [1]}', "not a job"),
        (b'{"jobs": [' + b"[" * 100_000, "nested too deeply"),
        (b'{"jobs": []} x', "stands where"),
        (b'{"jobs": [{}]}', "job id|no account|not a number"),
        (b'{"jobs": [' + b"9" * 5000 + b"]}", "cut or damaged"),
        (b'{"jobs": [], "errors": [{"error": "Unable to \\u001b connect"}]}', "sacct says: .*Unable to"),
    ],
)
def test_a_document_that_is_no_answer_is_set_aside(log: bytes, why: str) -> None:
    found, counts, aside = read(log)
    assert found == []
    assert counts.set_aside + counts.running == 1
    assert counts.running or re.search(why, aside.examples[0][2])


class Endless(io.RawIOBase):
    """A stream that begins a job whose name never ends."""

    def __init__(self, size: int) -> None:
        self.begin, self.left = b'{"jobs": [{"name": "', size

    def read(self, size: int = -1) -> bytes:
        taken, self.begin = self.begin, b""
        more = min(self.left, size - len(taken))
        self.left -= more
        return taken + b"x" * more


def test_a_value_without_end_is_given_up_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sacct_json, "MAX_VALUE_CHARACTERS", 2**21)
    counts, aside, stream = ReadCounts(), SetAside(), Endless(2**30)
    tracemalloc.start()
    try:
        assert not list(sacct_json.read(stream, cluster="c", clock=CLOCK, where="x", aside=aside, counts=counts))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "no value ends within" in aside.examples[0][2]
    assert peak < 2**25


def test_many_jobs_are_read_in_bounded_memory() -> None:
    one = json.dumps(told_in_json(JOB, comment="x" * 2000)).encode()
    log = b'{"jobs": [' + b",".join([one] * 4000) + b"]}"
    tracemalloc.start()
    try:
        assert sum(1 for _ in sacct_json.read(
            io.BytesIO(log), cluster="c", clock=CLOCK, where="x", aside=SetAside(), counts=ReadCounts()
        )) == 4000  # fmt: skip
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(log) > 10 * 2**20 > peak


def test_text_that_is_no_utf8_is_escaped_as_in_the_other_forms() -> None:
    raw = document(told_in_json(JOB, name="bad?")).replace(b"bad?", b"bad\xff\x1b")
    assert read(raw)[0][0].jobname == "bad\\xff\x1b"
    assert read(document(told_in_json(JOB, name="\ud800")))[0][0].jobname == "\\ud800"


# ---- jobcomp ------------------------------------------------------------------------------------------------------


def test_jobcomp_line() -> None:
    assert read(as_jobcomp(JOB))[0] == [JOB]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("TimeLimit=1440", "TimeLimit=4294967294", {"limit_s": None}),
        ("TimeLimit=1440", "TimeLimit=Partition_Limit", {"limit_s": None}),
        ("Tres=cpu=1,mem=50M", "Gres=gpu:1", {}),
        ("EligibleTime=Unknown", "EligibleTime=Unknown PackJobId=7 PackJobOffset=0", {"job_id_text": "7+0"}),
        ("Cluster=demo", "Cluster=unknown", {}),
        ("JobState=COMPLETED", "JobState=PENDING", {"jobstate": "REQUEUED"}),
        ("WorkDir=/home/a b/x=y", "WorkDir=/x Account=eve JobState=FAKE UserId=eve(2) Cluster=other", {}),
        ("WcKey=", "WcKey=a b Cluster=other", {}),
    ],
)
def test_jobcomp_value(old: str, new: str, expected: dict[str, Any]) -> None:
    assert read(as_jobcomp(JOB).decode().replace(old, new).encode())[0] == [JOB._replace(**expected)]


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("ProcCnt=2", "ProcCnt=0", "no cores"),
        ("Account=p1", "Account=", "no account"),
        ("NodeList=n1,n2", "NodeList=n[", "bracket"),
        ("Cluster=demo", "Cluster=../x", "not a cluster name"),
        ("StartTime=2026-11-23T18", "StartTime=2026-11-23T25", "not a local time"),
        ("StartTime=2026-11-23T18", "StartTime=2027-11-23T18", "before it started"),
        ("ExitCode=0:0 \n", "", "not a line of jobcomp"),
        ("Name=wrap", "Name=" + as_jobcomp(JOB).decode().strip(), "cannot be told from the job's own"),
        ("WcKey=", "WcKey=x ReservationName= Tres= Account=eve QOS= WcKey=", "cannot be told from the job's own"),
    ],
)
def test_jobcomp_line_set_aside(old: str, new: str, why: str) -> None:
    found, counts, aside = read(as_jobcomp(JOB).decode().replace(old, new).encode())
    assert (found, counts) == ([], ReadCounts(set_aside=1))
    assert why in aside.examples[0][2]


def test_a_job_that_never_started_in_jobcomp() -> None:
    line = as_jobcomp(JOB).decode().replace("n1,n2", "(null)").replace("ProcCnt=2", "ProcCnt=0")
    for start in ("2026-11-23T18:33:56", "Unknown"):
        [job] = read(re.sub(r"StartTime=\S+", f"StartTime={start}", line).encode())[0]
        assert (job.nodes, job.start, job.end, job.cores) == ("", JOB.end, JOB.end, 0)


def test_local_times_in_the_hour_that_comes_twice() -> None:
    """Every half hour around the end of summer time: what local times leave open is settled by what came before."""
    begin = int(datetime(2021, 10, 30, 23, tzinfo=UTC).timestamp())
    twice = range(begin + 3600, begin + 3 * 3600)  # 02:00 to 03:00, in summer and in winter time
    times = range(begin, begin + 5 * 3600, 1800)
    for submit in times:
        for start in (time for time in times if time >= submit):
            for end in (time for time in times if time >= start):
                [job] = read(as_jobcomp(JOB._replace(submit=submit, start=start, end=end)))[0]
                assert job.submit <= job.start <= job.end
                for given_, found in ((submit, job.submit), (start, job.start), (end, job.end)):
                    assert found - given_ in ((0, -3600) if given_ in twice else (0,))


# ---- several attempts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["REQUEUED", "RESIZING"])
@pytest.mark.parametrize("write", [as_site, as_sacct, as_jobcomp, lambda job: document(told_in_json(job))])
def test_attempts_of_a_job_are_records_of_their_own(write: Any, state: str) -> None:
    """Slurm closes the record of one that is requeued or changes its size, and begins another from there."""
    first = JOB._replace(start=JOB.start - 3, submit=JOB.submit - 3, end=JOB.start, jobstate=state)
    assert read(write(first) + write(JOB))[0] == [first, JOB]


@pytest.mark.parametrize("write", [as_site, as_sacct, as_jobcomp])
def test_what_windows_puts_around_lines_is_not_read(write: Any) -> None:
    """A mark at the beginning, also of each log where several were put together, and another end of lines."""
    log = b"".join(b"\xef\xbb\xbf" + write(JOB._replace(job_id=n)).replace(b"\n", b"\r\n") for n in (8, 9))
    assert read(log)[:2] == ([JOB._replace(job_id=n) for n in (8, 9)], ReadCounts(jobs=2))


# ---- newlines in names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [as_site, as_jobcomp])
def test_a_name_that_is_torn_is_put_together(write: Any) -> None:
    torn = [
        JOB._replace(job_id=n, jobname=name) for n, name in enumerate(["a\nb", "\n", "\n\nx\n", "y" * 900 + "\n"], 8)
    ]
    log = b"".join(map(write, [JOB, *torn, JOB]))
    found, counts, _ = read(log)
    assert (found, counts) == ([JOB, *torn, JOB], ReadCounts(jobs=6))


def test_a_forged_record_in_a_name_charges_nobody() -> None:
    forged = JOB._replace(user="eve", proj_id="victim", job_id=99)
    log = as_site(JOB._replace(jobname=f"a\n{as_site(forged).decode()}b"))
    assert read(log)[0] == [JOB._replace(jobname=f"a\n{as_site(forged).decode()}b")]
    log = as_jobcomp(JOB._replace(jobname=f"a\n{as_jobcomp(forged).decode()}b")) + as_jobcomp(JOB)
    found, counts, _ = read(log)
    assert (found, counts.set_aside) == ([JOB], 1)
    name = f"a\n{as_sacct(forged).decode()}b"
    assert read(as_sacct(JOB._replace(jobname=name), "|k|"), delimiter="|k|")[0] == [JOB._replace(jobname=name)]


@pytest.mark.parametrize("write", [as_site, as_jobcomp])
def test_a_line_that_is_cut_costs_no_other(write: Any) -> None:
    for cut in (40, 170):
        log = write(JOB)[:cut] + b"\n" + write(JOB._replace(job_id=8)) * 30 + write(JOB)[:cut]
        found, counts, _ = read(log)
        assert ({job.job_id for job in found}, len(found), counts.set_aside) == ({8}, 30, 2)


# ---- real files -----------------------------------------------------------------------------------------------------


def slowly(path: Path) -> Counter[str]:
    """States of the jobs in a file that have ended, read as simply as can be."""
    text = path.read_text()
    if text.lstrip().startswith("{"):
        ended = [job for job in json.loads(text)["jobs"] if job["time"]["end"] > 0]
        return Counter("".join(job["state"]["current"]) for job in ended)
    lines = text.splitlines()
    if lines[0].startswith("JobId="):
        return Counter(line.rsplit(" JobState=", 1)[1].split()[0] for line in lines)
    if "jobstate=" in lines[0]:
        return Counter(line.split("jobstate=", 1)[1].split()[0] for line in lines)
    header = lines.pop(0) if lines[0].startswith("JobID") else COLUMNS
    rows = [dict(zip(header.split("|"), line.split("|"), strict=False)) for line in lines if "^" not in line]
    rows = [row for row in rows if "." not in row["JobID"] and row.get("End", "Unknown") != "Unknown"]
    return Counter(row["State"].split()[0] for row in rows if row["State"] not in ("RUNNING", "PENDING"))


# Set aside: records of no form we know, and one of 0 cores that says it ran on two nodes.
ASIDE = {
    "reportseff_65638294_multistep.txt": ("not a line of a form", 39),
    "slyme_sacct_single_parallel_COMPLETED_parsable.out": ("not a line of a form.*our 26 columns", 3),
    "slyme_sacct_single_serial_COMPLETED_parsable.out": ("not a line of a form.*our 26 columns", 2),
    "xdmod_accounting-logs.log": ("ran on nodes, but has no cores", 1),
}


def test_every_real_file_by_state(shared_data: Path) -> None:
    paths = [
        path for folder in ("sacct", "sacct-json", "slurm-22.05", "accounting")
        for path in sorted((shared_data / folder).iterdir())
    ]  # fmt: skip
    assert len(paths) >= 20
    for path in paths:
        found, _, aside = read(path.read_bytes())
        states = Counter(job.jobstate for job in found)
        why, number = ASIDE.get(path.name, ("", 0))
        assert aside.total == number, (path.name, aside.examples)
        assert all(re.search(why, example[2]) for example in aside.examples)
        if "not a line" in why:
            assert states == Counter()
            continue
        expected = slowly(path) - (Counter({"COMPLETED": 1}) if number else Counter())
        assert states == expected, path.name


def test_four_views_of_one_slurm_agree(shared_data: Path) -> None:
    names = ("sacct_X_D.psv", "sacct_steps.psv", "sacct.json", "jobcomp_filetxt.txt")
    plain, steps, told, jobcomp = (
        {job.job_id: job for job in read((shared_data / "slurm-22.05" / name).read_bytes(), clock=Clock("UTC"))[0]}
        for name in names
    )
    assert len(plain) == 14
    assert plain == steps == told
    for job_id, job in jobcomp.items():
        # jobcomp counts no cores of a job that never started, and writes quotation marks that the database replaces.
        same = job._replace(
            cores=job.cores if job.nodes else plain[job_id].cores, jobname=job.jobname.replace('"', "`")
        )
        assert same == plain[job_id]
    assert jobcomp.keys() == plain.keys()


def test_slurm_21_08_prints_another_start(shared_data: Path) -> None:
    [job] = read((shared_data / "sacct-json" / "sarc_slurm_21_8_8.json").read_bytes())[0]
    assert (job.end - job.start, job.jobstate) == (86301, "REQUEUED")


def test_longest_line_is_the_same_for_all() -> None:
    assert accounting.MAX_LINE_BYTES > slurm_logs.NAME_BYTES > 1024
    assert timedelta(seconds=ask_sacct.TIMEOUT_S) > timedelta(minutes=1)
