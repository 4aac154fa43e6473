"""Finished jobs out of accounting logs: a site's own daily log, or what ``sacct -P`` prints."""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import BinaryIO, Literal, NamedTuple

from jobeff.clock import LAST_EPOCH_S, QUARTER_S, Clock
from jobeff.errors import SetAside, shown
from jobeff.names import INT64_MAX, is_name
from jobeff.sources.hostlist import expand

KIND = "accounting line"
MAX_LINE_BYTES = 2**20
MAX_CORES = 2**31 - 1

_CHUNK_BYTES = 2**18
_NODE_LISTS_KEPT, _KEPT_CHARACTERS = 16_384, 4_096

_SITE_START = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} jobstate=")
# A job name may hold anything, other keys too, so the order is fixed and the name is what is left between the
# fields that can be read from the left and those that can be read from the right.
_SITE = re.compile(
    _SITE_START.pattern + r"([A-Z_]+) jobid=([0-9]{1,19}) username=(\S+) account=(\S+)"
    r" start=([0-9]{1,19}) end=([0-9]{1,19})(?: submit=([0-9]{1,19}))? nodes=(\S*) procs=([0-9]{1,19})"
    r"(?: batch=(?:yes|no))? jobname=(.*) partition=(\S+)"
    r"(?: limit=((?:[0-9]{1,9}-)?[0-9]{2}:[0-9]{2}:[0-9]{2}|[0-9]{1,12}))?",
    re.ASCII | re.DOTALL,
)

_SACCT_26 = (
    "JobID|JobIDRaw|Cluster|Partition|QOS|Account|Group|GID|User|UID|Submit|Eligible|Start|End|Elapsed|ExitCode|"
    "State|NNodes|NCPUS|ReqCPUS|ReqMem|ReqTRES|AllocTRES|Timelimit|NodeList|JobName"
)
_SACCT_USED = [
    "jobidraw", "jobid", "cluster", "partition", "account", "user", "submit", "start", "end", "state",
    "ncpus", "alloccpus", "reqcpus", "timelimit", "nodelist", "jobname",
]  # fmt: skip
_SACCT_NEEDED = [
    "JobIDRaw or JobID", "Start", "End", "State", "NodeList", "NCPUS or AllocCPUS or ReqCPUS", "Account",
    "User",
]  # fmt: skip
_SACCT_FREE_TEXT = {
    "admincomment", "comment", "constraints", "container", "extra", "stderr", "stdin", "stdout", "submitline",
    "systemcomment", "wckey", "workdir",
}  # fmt: skip
# REQUEUED and RESIZING are not among them: with an End, they are how Slurm's database closes an attempt.
_NOT_ENDED = {
    "PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "STOPPED", "SIGNALING", "STAGE_OUT",
    "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT",
}  # fmt: skip
_NO_TIME = {"", "Unknown", "None", "0"}
_NO_NODES = {"", "None assigned", "None", "(null)"}
_HEADER = re.compile(r"[A-Za-z]+(?:\|[A-Za-z]+)+\|?")
_STEP = re.compile(r"[0-9]\S*\.\S+")
_NUMBER = re.compile(r"[0-9]{1,19}")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
_TIME = re.compile(f"Unknown|None||{_NUMBER.pattern}|{_ISO.pattern}")
_NO_LIMIT = re.compile(r"[A-Za-z_]{0,32}")
_LIMIT = re.compile(r"(?:(?:([0-9]{1,9})-)?([0-9]{2}):)?([0-9]{2}):([0-9]{2})")


class AccountingJob(NamedTuple):
    """One run of one job: a row of ``accounting/jobs``.

    Times are epoch seconds, `date` is the local day of `end`, `nodes` are names joined by commas. A job that
    never started has no nodes, and its `start` is its `end`. None stands for what a line does not say, or for
    no limit; `job_id_text` is a job id as people see it (``123_4``, ``123+0``) where the number is not all.
    """

    date: str
    job_id: int
    proj_id: str
    user: str
    start: int
    end: int
    partition: str
    cores: int
    cluster: str
    nodes: str
    jobname: str
    jobstate: str
    submit: int | None
    limit_s: int | None
    job_id_text: str | None


@dataclass
class ReadCounts:
    """What the lines of a log were; headers and blank lines are not counted."""

    jobs: int = 0
    never_started: int = 0
    steps: int = 0
    running: int = 0
    set_aside: int = 0

    @property
    def lines(self) -> int:
        """All lines, each counted once."""
        return self.jobs + self.never_started + self.steps + self.running + self.set_aside


class LogLines:
    r"""Numbered lines of a log that may be growing, in bounded memory.

    Iterating gives (line number, line without its ``b"\n"``), also a last line without an end. A line longer
    than `MAX_LINE_BYTES` is cut to one byte more than that, by which `read` knows it.

    Parameters
    ----------
    stream
        The log, standing at the beginning of a line.
    number, offset
        Number of lines, and bytes, before that place.

    Attributes
    ----------
    number, offset
        The same after the last line given so far that had an end: where to go on next time.
    """

    def __init__(self, stream: BinaryIO, *, number: int = 0, offset: int = 0) -> None:
        self.number = number
        self.offset = offset
        self._stream = stream

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        begun, length = b"", 0
        while chunk := self._stream.read(_CHUNK_BYTES):
            *whole, rest = chunk.split(b"\n")
            for line in whole:
                self.number += 1
                self.offset += length + len(line) + 1
                yield self.number, (begun + line)[: MAX_LINE_BYTES + 1] if length else line
                begun, length = b"", 0
            length += len(rest)
            if len(begun) <= MAX_LINE_BYTES:
                begun = (begun + rest)[: MAX_LINE_BYTES + 1]
        if length:
            yield self.number + 1, begun


def detect(line: bytes) -> Literal["site", "sacct"] | None:
    """Which format a line is of.

    Parameters
    ----------
    line
        A line of a log.

    Returns
    -------
    str or None
        ``"sacct"`` for a header that names JobID or JobIDRaw, and for a record of the 26 columns that we ask
        ``sacct`` for. None for what is of neither format, such as a blank line.
    """
    text = _text(line)
    if _SITE_START.match(text):
        return "site"
    if _header_columns(text):
        return "sacct"
    fields = text.split("|")
    if len(fields) < len(_header_columns(_SACCT_26)):
        return None
    ids = fields[0][:1].isdigit() and fields[1][:1].isdigit()
    return "sacct" if ids and all(_TIME.fullmatch(field) for field in fields[10:14]) else None


def read(
    lines: Iterable[tuple[int, bytes]],
    *,
    cluster: str,
    clock: Clock,
    where: str,
    aside: SetAside,
    counts: ReadCounts,
    header: bytes | None = None,
    fmt: str = "auto",
) -> Iterator[AccountingJob]:
    """Read finished jobs; what cannot be used is set aside, nothing in a line raises.

    Parameters
    ----------
    lines
        Line numbers and lines without their end, such as `LogLines` gives.
    cluster
        Cluster of the jobs whose lines do not name one.
    clock
        Gives the day a job ended.
    where
        Name of the log in messages.
    aside, counts
        Added to while reading.
    header
        When `lines` begins further down than the log: the first of the log's lines that `detect` knows.
    fmt
        ``auto``, ``site`` or ``sacct``.

    Yields
    ------
    AccountingJob
        Jobs that have ended, in the order of the log, also those that never started.
    """
    records = _Records(cluster, clock, counts)
    parse = None if header is None else _parser(header, fmt, records)
    for number, line in lines:
        if not line or line.isspace():
            continue
        try:
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
            if parse is None:
                parse = _parser(line, fmt, records)
            if parse is None:
                raise ValueError(f"neither a line of a site log nor of sacct -P: {shown(line)}")
            job = parse(_text(line))
        except ValueError as error:
            counts.set_aside += 1
            aside.add(KIND, f"{where}:{number}", str(error))
            continue
        if job is None:
            continue
        if job.nodes:
            counts.jobs += 1
        else:
            counts.never_started += 1
        yield job


class _Records:
    """What both formats share. ValueErrors raised from here on have a message that is fit to be shown."""

    def __init__(self, cluster: str, clock: Clock, counts: ReadCounts) -> None:
        self.cluster = cluster
        self.counts = counts
        self._day = lru_cache(maxsize=4096)(lambda quarter: clock.day(quarter * QUARTER_S))
        self._node_lists: dict[str, str] = {}

    def site(self, text: str) -> AccountingJob:
        match = _SITE.fullmatch(text)
        if match is None:
            raise ValueError(f"not a line of a site log: {shown(text)}")
        state, raw_id, user, project, started, ended, sent, listed, procs, name, partition, limit = match.groups()
        end, cores, submit = int(ended), int(procs), None if sent is None else int(sent)
        date, job_id, start, nodes = self.checked(raw_id, int(started), end, cores, listed, submit=submit)
        return AccountingJob(
            date, job_id, project, user, start, end, partition, cores, self.cluster, nodes, name, state,
            submit, None if limit is None else _limit_s(limit), None,
        )  # fmt: skip

    def checked(
        self, raw_id: str, start: int, end: int, cores: int, listed: str, *, submit: int | None
    ) -> tuple[str, int, int, str]:
        """Date, job id, start and nodes of a job whose numbers can be true."""
        job_id = int(raw_id)
        if raw_id[0] == "0" or job_id > INT64_MAX:
            raise ValueError(f"job id is not 1 to 2^63-1 without leading zeros: {shown(raw_id)}")
        if start > end:
            raise ValueError(f"ended before it started: start {start}, end {end}")
        if end >= LAST_EPOCH_S or (submit is not None and submit >= LAST_EPOCH_S):
            raise ValueError(f"a time after the year 9999: submit {submit}, end {end}")
        if cores > MAX_CORES:
            raise ValueError(f"more than {MAX_CORES} cores: {cores}")
        date = self._day(end // QUARTER_S)
        if listed in _NO_NODES:
            return date, job_id, end, ""
        if not cores:
            raise ValueError("ran on nodes, but has no cores")
        return date, job_id, start, self._node_lists.get(listed) or self._expanded(listed)

    def _expanded(self, listed: str) -> str:
        nodes = ",".join(expand(listed))
        if len(listed) + len(nodes) <= _KEPT_CHARACTERS:
            if len(self._node_lists) >= _NODE_LISTS_KEPT:
                self._node_lists.clear()
            self._node_lists[listed] = nodes
        return nodes


class _Sacct:
    """Reads records whose columns a header names."""

    def __init__(self, columns: list[str], records: _Records) -> None:
        self._records = records
        self._columns = columns
        self._name_at = columns.index("jobname") if "jobname" in columns else None
        if not _SACCT_FREE_TEXT.isdisjoint(columns):
            self._name_at = None  # nobody can tell whose a "|" too many is
        # A column that is not there is taken from the empty field that `_fields` puts behind the last.
        self._pick = itemgetter(*(columns.index(name) if name in columns else -1 for name in _SACCT_USED))

    def read(self, text: str) -> AccountingJob | None:
        (
            raw_id, array_id, cluster, partition, project, user, sent, started, ended, state,
            ncpus, alloccpus, reqcpus, limit, listed, name,
        ) = self._pick(self._fields(text))  # fmt: skip
        raw_id = raw_id or array_id
        if _NUMBER.fullmatch(raw_id) is None or "." in array_id:
            if _STEP.fullmatch(raw_id) or _STEP.fullmatch(array_id):
                self._records.counts.steps += 1
            elif _header_columns(text) != self._columns:
                raise ValueError(f"job id is not a number: {shown(raw_id)}")
            return None
        state = state.split(" ", 1)[0]
        end = _epoch(ended)
        if end is None or state in _NOT_ENDED:
            self._records.counts.running += 1
            return None
        start, submit, cluster = _epoch(started), _epoch(sent), cluster or self._records.cluster
        if not (project and user and state):
            raise ValueError("no account, user or state")
        if not is_name(cluster):
            raise ValueError(f"not a cluster name: {shown(cluster)}")
        if _NUMBER.fullmatch(cores := ncpus or alloccpus or reqcpus) is None:
            raise ValueError(f"not a number of cores: {shown(cores)}")
        if start is None:
            start, listed = end, ""
        checked = self._records.checked(raw_id, start, end, int(cores), listed, submit=submit)
        date, job_id, start, nodes = checked
        return AccountingJob(
            date, job_id, project, user, start, end, partition, int(cores), cluster, nodes, name, state,
            submit, _limit_s(limit), None if array_id in ("", raw_id) else array_id,
        )  # fmt: skip

    def _fields(self, text: str) -> list[str]:
        fields, at = text.split("|"), self._name_at
        extra = len(fields) - len(self._columns)
        if extra > 0 and at is not None:
            fields[at : at + extra + 1] = ["|".join(fields[at : at + extra + 1])]
        elif extra:
            raise ValueError(f"{len(fields)} columns where {len(self._columns)} are expected: {shown(text)}")
        fields.append("")
        return fields


def _parser(line: bytes, fmt: str, records: _Records) -> Callable[[str], AccountingJob | None] | None:
    """How to read the lines of a log of which `line` is one; None where that cannot be told."""
    kind = detect(line) if fmt == "auto" else fmt
    if kind != "sacct":
        return records.site if kind == "site" else None
    columns = _header_columns(_text(line)) or _header_columns(_SACCT_26)
    missing = [needed for needed in _SACCT_NEEDED if set(needed.lower().split(" or ")).isdisjoint(columns)]
    if not missing:
        return _Sacct(columns, records).read

    def refuse(_: str) -> None:
        raise ValueError(f"the header lacks {', '.join(missing)}")

    return refuse


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")


def _header_columns(text: str) -> list[str]:
    """Columns that a header of sacct names; none for a record, which holds digits."""
    columns = text.lower().split("|") if _HEADER.fullmatch(text) else []
    return columns if "jobid" in columns or "jobidraw" in columns else []


@lru_cache(maxsize=65_536)
def _epoch(text: str) -> int | None:
    """Seconds of a time of sacct, which we ask in UTC; None where it has not come yet."""
    if text in _NO_TIME:
        return None
    if _NUMBER.fullmatch(text):
        return int(text)
    try:
        epoch = timegm(datetime.fromisoformat(text).timetuple()) if _ISO.fullmatch(text) else -1
    except ValueError:
        epoch = -1
    if epoch < 0:
        raise ValueError(f"not a time since 1970: {shown(text)}")
    return epoch


@lru_cache(maxsize=4096)
def _limit_s(text: str) -> int | None:
    """Seconds of a time limit; plain digits are minutes, a word means no limit of the job's own."""
    if _NUMBER.fullmatch(text):
        return min(60 * int(text), INT64_MAX)
    if _NO_LIMIT.fullmatch(text):
        return None
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time limit: {shown(text)}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 86_400 * days + 3_600 * hours + 60 * minutes + seconds
