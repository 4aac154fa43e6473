from __future__ import annotations

import io
import json
import re
import tracemalloc
from collections import Counter
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import hostlist as python_hostlist
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobeff.clock import LAST_EPOCH_S, Clock
from jobeff.errors import SetAside
from jobeff.sources import accounting
from jobeff.sources.accounting import AccountingJob, LogLines, ReadCounts
from jobeff.sources.slurm_logs import detect, read

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
DAYS = ["rackham_2021-05-30", "rackham_2021-06-15", "rackham_2022-01-15"]
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the real input is not here")

STOCKHOLM = Clock("Europe/Stockholm")
SITE_LINE = (
    b"2021-05-30 00:00:02 jobstate=COMPLETED jobid=20224496 username=u0001 account=p1 start=1622318025"
    b" end=1622325602 submit=1622317852 nodes=r[1-2] procs=40 batch=yes jobname=ipr-1 partition=core limit=06:00:00"
)
SACCT_26 = [
    "jobid", "jobidraw", "cluster", "partition", "qos", "account", "group", "gid", "user", "uid", "submit",
    "eligible", "start", "end", "elapsed", "exitcode", "state", "nnodes", "ncpus", "reqcpus", "reqmem", "reqtres",
    "alloctres", "timelimit", "nodelist", "jobname",
]  # fmt: skip
RECORD = dict.fromkeys(SACCT_26, "") | {
    "jobid": "7",
    "jobidraw": "7",
    "cluster": "demo",
    "partition": "core",
    "account": "p1",
    "user": "u1",
    "submit": "2026-11-23T17:33:55",
    "eligible": "Unknown",
    "start": "2026-11-23T17:33:56",
    "end": "2026-11-23T17:34:01",
    "exitcode": "0:0",
    "state": "COMPLETED",
    "ncpus": "2",
    "timelimit": "1-00:00:10",
    "nodelist": "n[1-2]",
    "jobname": "wrap",
}


def loaded(
    log: bytes, *, header: bytes | None = None, fmt: str = "auto", cluster: str = "rackham"
) -> tuple[list[AccountingJob], ReadCounts, SetAside]:
    counts, aside = ReadCounts(), SetAside()
    lines = LogLines(io.BytesIO(log))
    jobs = list(
        read(
            lines,
            cluster=cluster,
            clock=STOCKHOLM,
            where="log",
            aside=aside,
            counts=counts,
            header=header,
            fmt=fmt,
        )
    )
    assert len(jobs) == counts.jobs + counts.never_started
    assert aside.counts[accounting.KIND] == counts.set_aside == aside.total
    return jobs, counts, aside


def only(log: bytes) -> AccountingJob:
    jobs, counts, aside = loaded(log)
    assert (len(jobs), counts.lines) == (1, 1), aside.examples
    return jobs[0]


def why_not(log: bytes) -> str:
    jobs, counts, aside = loaded(log)
    assert (jobs, counts) == ([], ReadCounts(set_aside=1))
    [(kind, where, why)] = aside.examples
    assert (kind, where) == ("accounting line", "log:1")
    assert why.isascii()
    assert why.isprintable()
    return why


def record(**changes: str) -> bytes:
    return "|".join((RECORD | changes).values()).encode()


def sacct(*records: dict[str, str], columns: list[str] = SACCT_26, spelling: str = "title") -> bytes:
    header = "|".join(getattr(name, spelling)() for name in columns)
    return "\n".join([header, *("|".join(row[name] for name in columns) for row in records)]).encode()


# ---- site log -------------------------------------------------------------------------------------------------


def test_site_line() -> None:
    assert only(SITE_LINE) == AccountingJob(
        date="2021-05-30",
        job_id=20224496,
        proj_id="p1",
        user="u0001",
        start=1622318025,
        end=1622325602,
        partition="core",
        cores=40,
        cluster="rackham",
        nodes="r1,r2",
        jobname="ipr-1",
        jobstate="COMPLETED",
        submit=1622317852,
        limit_s=6 * 3600,
        job_id_text=None,
    )


@pytest.mark.parametrize(
    ("limit", "seconds"),
    [
        (b" limit=10-01:02:03", 867_723),
        (b" limit=00:00:00", 0),
        (b" limit=90", 5400),
        (b" limit=4294967295", 4294967295 * 60),
        (b"", None),
    ],
)
def test_site_limit(limit: bytes, seconds: int | None) -> None:
    job = only(SITE_LINE.replace(b" limit=06:00:00", limit))
    assert (job.limit_s, job.partition) == (seconds, "core")


def test_older_site_lines_say_less() -> None:
    older = re.sub(rb" submit=\d+| batch=yes| limit=\S+", b"", SITE_LINE)
    assert only(older) == only(SITE_LINE)._replace(submit=None, limit_s=None)


def test_date_is_the_local_day_of_the_end_not_the_stamp() -> None:
    for end, day in [(1622325599, "2021-05-29"), (1622325600, "2021-05-30"), (1622411999, "2021-05-30")]:
        line = SITE_LINE.replace(b"end=1622325602", b"end=%d" % end)
        assert only(line).date == day == datetime.fromtimestamp(end, ZoneInfo("Europe/Stockholm")).date().isoformat()


def test_fake_keys_in_a_job_name_change_nothing() -> None:
    name = b"x jobstate=COMPLETED username=victim account=other procs=1 partition=gpu limit=00:00:01"
    job = only(SITE_LINE.replace(b"ipr-1", name))
    assert job == only(SITE_LINE)._replace(jobname=name.decode())


@pytest.mark.parametrize("nodes", [b"", b"(null)"])
def test_job_without_nodes_never_started(nodes: bytes) -> None:
    line = SITE_LINE.replace(b"r[1-2] procs=40", nodes + b" procs=0")
    [job], counts, _ = loaded(line)
    assert (job.nodes, job.cores, job.start, job.end) == ("", 0, 1622325602, 1622325602)
    assert counts == ReadCounts(never_started=1)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"jobid=20224496", b"jobid=0", "job id"),
        (b"jobid=20224496", b"jobid=007", "job id"),
        (b"jobid=20224496", b"jobid=9223372036854775808", "job id"),
        (b"jobid=20224496", b"jobid=" + b"1" * 5000, "not a line of a site log"),
        (b"start=1622318025", b"start=1622325603", "ended before it started"),
        (b"start=1622318025", b"start=-1", "not a line of a site log"),
        (b"end=1622325602", b"end=%d" % LAST_EPOCH_S, "after the year 9999"),
        (b"submit=1622317852", b"submit=%d" % LAST_EPOCH_S, "after the year 9999"),
        (b"procs=40", b"procs=2147483648", "more than 2147483647 cores"),
        (b"procs=40", b"procs=0", "no cores"),
        (b"nodes=r[1-2]", b"nodes=r[1-2", "bracket"),
        (b"nodes=r[1-2]", b"nodes=r[1-999999999]", "more than 100000 nodes"),
        (b"nodes=r[1-2]", b"nodes=../../etc/x", "not a node name"),
        (b"username=u0001", b"username=", "not a line of a site log"),
        (b"username=u0001", b"username=a b", "not a line of a site log"),
        (b"limit=06:00:00", b"limit=06:00:00 ", "not a line of a site log"),
        (b"limit=06:00:00", b"limit=\xff\x1b[31m", "not a line of a site log"),
        (b"2021-05-30", b" 2021-05-30", "not a line of a form"),
    ],
)
def test_site_line_set_aside(old: bytes, new: bytes, why: str) -> None:
    assert why in why_not(SITE_LINE.replace(old, new))


def test_largest_numbers_are_accepted() -> None:
    line = SITE_LINE
    for old, new in [
        (b"jobid=20224496", b"jobid=9223372036854775807"),
        (b"end=1622325602", b"end=%d" % (LAST_EPOCH_S - 1)),
        (b"start=1622318025", b"start=0"),
        (b"procs=40", b"procs=2147483647"),
    ]:
        line = line.replace(old, new)
    job = only(line)
    assert (job.job_id, job.start, job.cores) == (2**63 - 1, 0, 2**31 - 1)
    assert (job.end, job.date) == (LAST_EPOCH_S - 1, "9999-12-31")


WORD = st.text(st.characters(exclude_characters=" \t\n\r\v\f", exclude_categories=["Cs"]), min_size=1, max_size=8)
NAME_BYTES = st.lists(
    st.binary(max_size=6).map(lambda raw: raw.replace(b"\n", b""))
    | st.sampled_from(
        [b" ", b" jobstate=FAILED", b" username=victim account=other", b" partition=gpu", b" limit=5", b" jobname="]
    ),
    max_size=6,
).map(b"".join)
LIMITS = st.one_of(
    st.just(("", None)),
    st.integers(0, 10**6).map(lambda minutes: (f" limit={minutes}", 60 * minutes)),
    st.builds(
        lambda days, at: (f" limit={days}-{at}", 86_400 * days + 3600 * at.hour + 60 * at.minute + at.second),
        st.integers(0, 400),
        st.times().map(lambda at: at.replace(microsecond=0)),
    ),
)


@given(
    state=st.from_regex(r"[A-Z_]{1,9}", fullmatch=True),
    job_id=st.integers(1, 2**63 - 1),
    user=WORD,
    project=WORD,
    times=st.lists(st.integers(0, LAST_EPOCH_S - 1), min_size=2, max_size=2).map(sorted),
    submit=st.none() | st.integers(0, LAST_EPOCH_S - 1),
    nodes=st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True), unique=True, max_size=3),
    cores=st.integers(1, 2**31 - 1),
    batch=st.sampled_from(["", " batch=yes", " batch=no"]),
    name=NAME_BYTES,
    partition=WORD,
    limit=LIMITS,
)
def test_site_line_round_trip(
    state, job_id, user, project, times, submit, nodes, cores, batch, name, partition, limit
) -> None:
    start, end = times
    limit_text, limit_s = limit
    submitted = "" if submit is None else f" submit={submit}"
    line = b"%b jobname=%b partition=%b" % (
        (
            f"2021-05-30 00:00:02 jobstate={state} jobid={job_id} username={user} account={project} start={start}"
            f" end={end}{submitted} nodes={','.join(nodes)} procs={cores}{batch}"
        ).encode(),
        name,
        (partition + limit_text).encode(),
    )
    job = only(line)
    assert job[1:] == (
        job_id, project, user, start if nodes else end, end, partition, cores, "rackham", ",".join(nodes),
        name.decode("utf-8", "backslashreplace"), state, submit, limit_s, None,
    )  # fmt: skip
    job.jobname.encode()


# ---- sacct ----------------------------------------------------------------------------------------------------


def test_sacct_record() -> None:
    expected = AccountingJob(
        date="2026-11-23",
        job_id=7,
        proj_id="p1",
        user="u1",
        start=1795455236,
        end=1795455241,
        partition="core",
        cores=2,
        cluster="demo",
        nodes="n1,n2",
        jobname="wrap",
        jobstate="COMPLETED",
        submit=1795455235,
        limit_s=86_410,
        job_id_text=None,
    )
    assert only(record()) == expected
    assert only(sacct(RECORD)) == expected
    assert only(sacct(RECORD, columns=SACCT_26[::-1], spelling="upper")) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"state": "CANCELLED by 102216"}, {"jobstate": "CANCELLED"}),
        ({"start": "1795455236", "end": "1795455241", "submit": "1795455235"}, {}),
        ({"submit": "Unknown"}, {"submit": None}),
        ({"cluster": ""}, {"cluster": "rackham"}),
        ({"jobid": "5_2"}, {"job_id_text": "5_2"}),
        ({"jobid": "5+2"}, {"job_id_text": "5+2"}),
        ({"jobid": ""}, {}),
        ({"jobidraw": ""}, {}),
        ({"ncpus": "", "reqcpus": "3"}, {"cores": 3}),
        ({"timelimit": "UNLIMITED"}, {"limit_s": None}),
        ({"timelimit": "Partition_Limit"}, {"limit_s": None}),
        ({"timelimit": ""}, {"limit_s": None}),
        ({"timelimit": "12:34"}, {"limit_s": 754}),
        ({"timelimit": "01:00:00"}, {"limit_s": 3600}),
        ({"jobname": "a|b||c"}, {"jobname": "a|b||c"}),
        ({"state": "REQUEUED"}, {"jobstate": "REQUEUED"}),
    ],
)
def test_sacct_value(changes: dict[str, str], expected: dict[str, object]) -> None:
    assert only(sacct(RECORD | changes)) == only(sacct(RECORD))._replace(**expected)


@pytest.mark.parametrize(
    "changes",
    [{"start": "Unknown"}, {"start": "None"}, {"start": "0"}, {"nodelist": "None assigned"}, {"nodelist": ""}],
)
def test_sacct_never_started(changes: dict[str, str]) -> None:
    [job], counts, _ = loaded(record(**changes))
    assert counts == ReadCounts(never_started=1)
    assert (job.nodes, job.start, job.end) == ("", 1795455241, 1795455241)


@pytest.mark.parametrize(
    ("changes", "counted"),
    [
        ({"end": "Unknown"}, "running"),
        ({"end": "None"}, "running"),
        ({"end": ""}, "running"),
        ({"end": "0"}, "running"),
        ({"state": "REQUEUED", "end": "Unknown"}, "running"),
        *(({"state": state}, "running") for state in ["RUNNING", "PENDING", "SUSPENDED", "COMPLETING"]),
        ({"jobid": "7.batch", "jobidraw": "7.batch", "user": ""}, "steps"),
        ({"jobid": "5_2.0", "jobidraw": "7.0"}, "steps"),
        ({"jobid": "5+2.extern", "jobidraw": ""}, "steps"),
    ],
)
def test_sacct_line_that_is_no_ended_job(changes: dict[str, str], counted: str) -> None:
    assert loaded(sacct(RECORD | changes))[:2] == ([], ReadCounts(**{counted: 1}))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"jobidraw": "7x"}, "job id is not a number"),
        ({"jobidraw": "5_2"}, "job id is not a number"),
        ({"jobidraw": "0"}, "job id"),
        ({"jobidraw": "9" * 19}, "job id"),
        ({"end": "2026-11-23T17:33:55"}, "ended before it started"),
        ({"start": "1969-12-31T23:59:59"}, "not a line of a form|not a time since 1970"),
        ({"end": "2026-02-30T00:00:00"}, "not a time"),
        ({"end": str(LAST_EPOCH_S)}, "after the year 9999"),
        ({"ncpus": "2147483648"}, "cores"),
        ({"ncpus": "1_0"}, "not a number of cores"),
        ({"ncpus": ""}, "not a number of cores"),
        ({"ncpus": "0"}, "no cores"),
        ({"cluster": "../demo"}, "not a cluster name"),
        ({"nodelist": "n[2-1]"}, "runs backwards"),
        ({"timelimit": "1 day"}, "not a time limit"),
        ({"user": ""}, "no account, user or state"),
        ({"account": ""}, "no account, user or state"),
        ({"state": ""}, "no account, user or state"),
    ],
)
def test_sacct_line_set_aside(changes: dict[str, str], why: str) -> None:
    assert re.search(why, why_not(record(**changes)))


def test_sacct_line_with_too_few_columns_is_set_aside() -> None:
    jobs, counts, aside = loaded(sacct(RECORD) + b"\n7|7|demo\n" + record())
    assert (len(jobs), counts) == (2, ReadCounts(jobs=2, set_aside=1))
    assert aside.examples[0][1:] == ("log:3", "3 columns where 26 are expected: 7|7|demo")


def test_header_that_lacks_columns_sets_its_log_aside() -> None:
    columns = [name for name in SACCT_26 if name not in ("user", "ncpus", "reqcpus")]
    jobs, counts, aside = loaded(sacct(RECORD, RECORD, columns=columns))
    assert (jobs, counts) == ([], ReadCounts(set_aside=3))
    assert {why for _, _, why in aside.examples} == {"the header lacks NCPUS or AllocCPUS or ReqCPUS, User"}


def test_header_with_a_bar_at_the_end() -> None:
    """So prints ``sacct -p``."""
    assert only(sacct(RECORD).replace(b"\n", b"|\n") + b"|") == only(record())


def test_the_same_header_again_is_no_line_and_another_one_is_set_aside() -> None:
    log = sacct(RECORD)
    assert loaded(log + b"\n" + log)[:2] == ([only(log)] * 2, ReadCounts(jobs=2))
    other = sacct(RECORD, columns=[*SACCT_26[:5], SACCT_26[8], *SACCT_26[6:8], SACCT_26[5], *SACCT_26[9:]])
    jobs, counts, aside = loaded(log + b"\n" + other.split(b"\n")[0])
    assert (len(jobs), counts) == (1, ReadCounts(jobs=1, set_aside=1))
    assert aside.examples[0][1] == "log:3"


@given(columns=st.permutations(SACCT_26), name=st.text(alphabet="a|.=7 \x1b", max_size=12))
def test_bars_in_a_job_name_shift_no_other_column(columns: list[str], name: str) -> None:
    log = sacct(RECORD | {"jobname": name}, columns=columns)
    assert only(log) == only(record())._replace(jobname=name)


@pytest.mark.parametrize("other", ["Comment", "SubmitLine"])
def test_bars_that_may_be_of_either_of_two_texts_are_set_aside(other: str) -> None:
    columns = [other, *SACCT_26]
    assert only(sacct(RECORD | {other: "x"}, columns=columns)) == only(record())
    _, counts, _ = loaded(sacct(RECORD | {other: "x", "jobname": "a|b"}, columns=columns))
    assert counts == ReadCounts(set_aside=1)


def test_reading_goes_on_below_a_header() -> None:
    columns = SACCT_26[::-1]
    rows = [RECORD | {"jobid": str(number), "jobidraw": str(number)} for number in range(1, 6)]
    log = sacct(*rows, columns=columns) + b"\n"
    header = log.split(b"\n")[0]
    whole = loaded(log)[0]
    for cut in range(len(header) + 1, len(log)):
        first = LogLines(io.BytesIO(log[:cut]))
        list(first)
        upper, lower = log[: first.offset], log[first.offset :]
        assert loaded(upper)[0] + loaded(lower, header=header)[0] == whole


# ---- either ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "fmt"),
    [
        (SITE_LINE, "site"),
        (SITE_LINE[:30], "site"),
        (record(), "sacct"),
        (record(jobname="a|b"), "sacct"),
        (record(start="None", end="Unknown"), "sacct"),
        (record(start="1", end="2"), "sacct"),
        (b"JobID|State", "sacct"),
        (b"jobidraw|user|", "sacct"),
        (record(start="yesterday"), None),
        (record(jobidraw="x"), None),
        (b"JobId=1 UserId=root(0)", "jobcomp"),
        (b"State|User", None),
        (b"", None),
        (b"{", None),
        (b"\xff|" * 40, None),
    ],
)
def test_detect(line: bytes, fmt: str | None) -> None:
    assert detect(line) == fmt


def test_format_is_that_of_the_first_line_that_shows_it() -> None:
    jobs, counts, aside = loaded(b"\n \t\r\nrubbish\n" + SITE_LINE + b"\n" + record() + b"\n" + SITE_LINE + b"\n\n")
    assert (len(jobs), counts) == (2, ReadCounts(jobs=2, set_aside=2))
    assert [where for _, where, _ in aside.examples] == ["log:3", "log:5"]


def test_format_may_be_given() -> None:
    assert loaded(record(), fmt="sacct")[0] == [only(record())]
    assert loaded(SITE_LINE, fmt="site")[0] == [only(SITE_LINE)]
    assert loaded(SITE_LINE, fmt="sacct")[1] == loaded(record(), fmt="site")[1] == ReadCounts(set_aside=1)


GARBAGE = st.lists(
    st.binary(max_size=20)
    | st.sampled_from([SITE_LINE, record(), b"\n", b"|", "|".join(SACCT_26).encode(), b" jobname=", b"7", b"."]),
    max_size=12,
).map(b"".join)


@given(log=GARBAGE, fmt=st.sampled_from(["auto", "site", "sacct"]), header=st.none() | GARBAGE)
def test_garbage_is_counted_and_never_raises(log: bytes, fmt: str, header: bytes | None) -> None:
    jobs, counts, _ = loaded(log, fmt=fmt, header=header)
    lines = [line for line in log.split(b"\n") if line.strip()]
    headers = [line for line in lines if detect(line) == "sacct" and not re.search(rb"\d", line)]
    assert counts.lines <= len(lines)
    if not any(b"jobname=" in line and not line.endswith(b"limit=06:00:00") for line in lines):  # none is torn
        assert counts.lines >= len(lines) - len(headers)
    assert all(job.jobname.isprintable() or job.jobname.encode() for job in jobs)


# ---- lines ----------------------------------------------------------------------------------------------------


@given(
    log=st.lists(st.sampled_from([b"\n", b"a", b"bc", b"d" * 9]), max_size=40).map(b"".join),
    chunk=st.integers(1, 12),
    more=st.integers(0, 5),
)
def test_lines_and_offsets(log: bytes, chunk: int, more: int) -> None:
    longest = chunk + more
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounting, "_CHUNK_BYTES", chunk)
        patch.setattr(accounting, "MAX_LINE_BYTES", longest)
        lines = LogLines(io.BytesIO(log), number=10, offset=100)
        seen = [(number, line, lines.offset) for number, line in lines]
    parts = log.splitlines(keepends=True)
    ends = [len(b"".join(parts[: n + 1])) for n in range(len(parts))]
    if parts and not parts[-1].endswith(b"\n"):
        ends[-1] -= len(parts[-1])
    expected = [
        (11 + n, part.removesuffix(b"\n")[: longest + 1], 100 + end)
        for n, (part, end) in enumerate(zip(parts, ends, strict=True))
    ]
    assert seen == expected
    assert lines.offset == 100 + len(log) - len(log.split(b"\n")[-1])
    assert lines.number == 10 + log.count(b"\n")


def test_growing_log_is_read_on_from_its_last_whole_line() -> None:
    log = b"".join(SITE_LINE.replace(b"20224496", b"%d" % n) + b"\n" for n in range(1, 4))
    first = LogLines(io.BytesIO(log[:-9]))
    assert [number for number, _ in first] == [1, 2, 3]
    assert (first.number, first.offset) == (2, log.index(b"jobid=3") - log.index(b"jobid"))
    rest = LogLines(io.BytesIO(log[first.offset :]), number=first.number, offset=first.offset)
    assert list(rest) == [(3, log.split(b"\n")[2])]
    assert rest.offset == len(log)


class Endless(io.RawIOBase):
    """A stream that holds one letter many times, then a line."""

    def __init__(self, letters: int, tail: bytes) -> None:
        self.left = letters
        self.tail = io.BytesIO(tail)

    def read(self, size: int = -1) -> bytes:
        if not self.left:
            return self.tail.read(size)
        take = min(self.left, size)
        self.left -= take
        return b"x" * take


def test_line_without_end_is_cut_and_told_once() -> None:
    counts, aside = ReadCounts(), SetAside()
    lines = LogLines(Endless(2**30, b"\n" + SITE_LINE + b"\n"))
    tracemalloc.start()
    try:
        jobs = list(read(lines, cluster="c", clock=STOCKHOLM, where="log", aside=aside, counts=counts))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [job.job_id for job in jobs] == [20224496]
    assert counts == ReadCounts(jobs=1, set_aside=1)
    assert aside.examples == [("accounting line", "log:1", "longer than 1048576 bytes")]
    assert lines.offset == 2**30 + 1 + len(SITE_LINE) + 1
    assert peak < 8 * 2**20


def test_line_of_a_mebibyte_is_read() -> None:
    line = SITE_LINE.replace(b"ipr-1", b"x" * (2**20 - len(SITE_LINE) + 5))
    assert len(line) == 2**20
    assert len(only(line).jobname) == 2**20 - len(SITE_LINE) + 5
    assert "longer than" in why_not(line.replace(b"jobname=", b"jobname=x"))


# ---- real logs ------------------------------------------------------------------------------------------------

AS_PUBLISHED = re.compile(
    rb"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) jobstate=([A-Z_]+) jobid=(\d+) username=(\S+) account=(\S+) start=(\d+)"
    rb" end=(\d+) submit=(\d+) nodes=(\S*) procs=(\d+) batch=(yes|no) jobname=(.*) partition=(\S+)"
    rb" limit=((?:\d+-)?\d\d:\d\d:\d\d|\d+)$"
)


def seconds(limit: str) -> int:
    days, _, clock = limit.rpartition("-")
    hours, minutes, rest = clock.split(":")
    return ((int(days or 0) * 24 + int(hours)) * 60 + int(minutes)) * 60 + int(rest)


@needs_data
@pytest.mark.parametrize(
    ("log", "lines", "never_started"),
    [*zip(DAYS, [16997, 16036, 14339], [24, 434, 37], strict=True), ("rackham_oddities_sample.txt", 239, 32)],
)
def test_every_line_of_the_real_days(log: str, lines: int, never_started: int) -> None:
    text = (DATA / "accounting" / log).read_bytes()
    jobs, counts, _ = loaded(text)
    assert counts == ReadCounts(jobs=lines - never_started, never_started=never_started)
    assert len({(job.cluster, job.job_id, job.start) for job in jobs}) == lines
    for job, line in zip(jobs, text.splitlines(), strict=True):
        found = AS_PUBLISHED.match(line)
        assert found is not None
        _, state, job_id, user, project, start, end, submit, nodes, cores, _, name, partition, limit = (
            group.decode() for group in found.groups()
        )
        day = datetime.fromtimestamp(int(end), ZoneInfo("Europe/Stockholm")).date().isoformat()
        nodes = ",".join(python_hostlist.expand_hostlist(nodes)) if nodes else ""
        assert job == (
            day, int(job_id), project, user, int(start), int(end), partition, int(cores), "rackham", nodes, name,
            state, int(submit), seconds(limit), None,
        )  # fmt: skip


@needs_data
@pytest.mark.parametrize(("log", "steps"), [("sacct_X_D.psv", 0), ("sacct_steps.psv", 10)])
def test_slurm_run_says_the_same_as_its_json(log: str, steps: int) -> None:
    jobs, counts, _ = loaded((DATA / "slurm-22.05" / log).read_bytes())
    assert counts == ReadCounts(jobs=10, never_started=4, steps=steps)
    told = json.loads((DATA / "slurm-22.05" / "sacct.json").read_text())["jobs"]
    assert sorted(job[1:-1] for job in jobs) == sorted(
        (
            job["job_id"], job["account"], job["user"], job["time"]["start"] or job["time"]["end"],
            job["time"]["end"], job["partition"], job["required"]["CPUs"], job["cluster"],
            "" if job["nodes"] == "None assigned" else job["nodes"], job["name"], job["state"]["current"],
            job["time"]["submission"], None if job["time"]["limit"] is None else 60 * job["time"]["limit"],
        )
        for job in told
    )  # fmt: skip
    assert {job.job_id: job.job_id_text for job in jobs if job.job_id_text} == {
        9: "2_1", 10: "2_2", 2: "2_3", 11: "11+0", 12: "11+1",
    }  # fmt: skip
    assert "=cmd|`/c calc`!A1" in {job.jobname for job in jobs}


@needs_data
@pytest.mark.parametrize(
    ("log", "counts"),
    [
        ("xdmod_accounting-logs.log", ReadCounts(jobs=3, set_aside=1)),
        ("xdmod_accounting-logs-with-job-arrays.log", ReadCounts(jobs=6)),
        ("xdmod_non-ended-job-state.log", ReadCounts(running=2)),
        ("xdmod_unknown-job-state.log", ReadCounts(jobs=1, never_started=1)),
        ("slurm2sql_test-data1.psv", ReadCounts(jobs=1, running=1, steps=3)),
        ("reportseff_65638294_multistep.txt", ReadCounts(set_aside=39)),
        ("slyme_sacct_single_parallel_COMPLETED_parsable.out", ReadCounts(set_aside=3)),
    ],
)
def test_sacct_of_other_sites(log: str, counts: ReadCounts) -> None:
    assert loaded((DATA / "sacct" / log).read_bytes())[1] == counts


@needs_data
def test_jobs_of_another_site() -> None:
    jobs, _, aside = loaded((DATA / "sacct" / "xdmod_accounting-logs.log").read_bytes())
    assert [job.job_id for job in jobs] == [4103947, 4107166, 4107219]
    assert [len(job.nodes.split(",")) for job in jobs] == [32, 3, 4]  # as the column NNodes says
    assert jobs[1]._replace(nodes="") == AccountingJob(
        "2015-07-01", 4107166, "dspumpkins", "hanx", 1435504489, 1435756673, "general-compute", 36, "ub-hpc", "",
        "100-Floors-of-Frights", "CANCELLED", 1435348285, 3 * 86_400, None,
    )  # fmt: skip
    assert aside.examples[0][2] == "ran on nodes, but has no cores"
    assert Counter(job.cluster for job in jobs) == {"ub-hpc": 3}
