"""What all forms of Slurm accounting share: a job as it is kept, how a log is counted, what can be true of a job."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import BinaryIO, NamedTuple, Protocol

from jobeff.clock import LAST_EPOCH_S, QUARTER_S, Clock
from jobeff.errors import shown
from jobeff.names import INT64_MAX, is_name
from jobeff.sources.hostlist import expand

KIND = "accounting line"
MAX_LINE_BYTES = 2**20
BOM = b"\xef\xbb\xbf"
MAX_CORES = 2**31 - 1

# REQUEUED and RESIZING are not among them: with an End, they are how Slurm's database closes an attempt.
NOT_ENDED = {
    "PENDING", "RUNNING", "SUSPENDED", "CONFIGURING", "COMPLETING", "STOPPED", "SIGNALING", "STAGE_OUT",
    "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT",
}  # fmt: skip

_CHUNK_BYTES = 2**18
_NODE_LISTS_KEPT, _KEPT_CHARACTERS = 16_384, 4_096
_NO_NODES = {"", "None assigned", "None", "(null)"}
_NO_LIMIT = re.compile(r"[A-Za-z_]{0,32}")
_LIMIT = re.compile(r"(?:(?:([0-9]{1,9})-)?([0-9]{2}):)?([0-9]{2}):([0-9]{2})")
NUMBER = re.compile(r"[0-9]{1,19}")


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
    """What the records of a log were; headers and blank lines are not counted."""

    jobs: int = 0
    never_started: int = 0
    steps: int = 0
    running: int = 0
    set_aside: int = 0

    def add(self, job: AccountingJob) -> None:
        """Count a job that has ended.

        Parameters
        ----------
        job
            One without nodes has never started.
        """
        if job.nodes:
            self.jobs += 1
        else:
            self.never_started += 1

    @property
    def lines(self) -> int:
        """All records, each counted once."""
        return self.jobs + self.never_started + self.steps + self.running + self.set_aside


class LogLines:
    r"""Numbered lines of a log that may be growing, in bounded memory.

    Iterating gives (line number, line without its ``b"\n"``), also a last line without an end. A line longer
    than `MAX_LINE_BYTES` is cut to one byte more than that, by which a reader knows it.

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


class Parser(Protocol):
    """Reads the lines of one log. Its ValueErrors have a message that is fit to be shown."""

    def parse(self, text: str) -> AccountingJob | None:
        """The job of a line; None for a header, a step or a job that has not ended, which are counted."""

    def unfinished(self, text: str, /) -> bool:
        """Whether a line begins a record that ends within the job name."""

    def finishes(self, text: str, /) -> bool:
        """Whether a line begins within a job name and ends as a record does."""


class Records:
    """What is checked and counted of a job whatever the form it comes in.

    Parameters
    ----------
    cluster
        Cluster of the jobs that do not name one.
    clock
        Gives the day a job ended.
    counts
        Added to while reading.
    """

    def __init__(self, cluster: str, clock: Clock, counts: ReadCounts) -> None:
        self.cluster = cluster
        self.clock = clock
        self.counts = counts
        self._day = lru_cache(maxsize=4096)(lambda quarter: clock.day(quarter * QUARTER_S))
        self._node_lists: dict[str, str] = {}

    def job(
        self, *, raw_id: str, project: str, user: str, start: int | None, end: int, partition: str, cores: int,
        nodes: str, name: str, state: str, submit: int | None, limit: int | None,
        cluster: str = "", id_text: str | None = None,
    ) -> AccountingJob:  # fmt: skip
        """A job whose values can be true.

        Parameters
        ----------
        raw_id, nodes
            As Slurm writes a job id and a host list.
        start
            None where the job never started.
        cluster
            Empty where the record does not name it.
        project, user, end, partition, cores, name, state, submit, limit, id_text
            See `AccountingJob`.

        Returns
        -------
        AccountingJob
            With its nodes expanded.

        Raises
        ------
        ValueError
            A value cannot be true; the message is fit to be shown.
        """
        job_id = int(raw_id)
        if raw_id[0] == "0" or job_id > INT64_MAX:
            raise ValueError(f"job id is not 1 to 2^63-1 without leading zeros: {shown(raw_id)}")
        if not (project and user and state):
            raise ValueError("no account, user or state")
        if cluster and not is_name(cluster):
            raise ValueError(f"not a cluster name: {shown(cluster)}")
        if start is None:
            start, nodes = end, ""
        if start > end:
            raise ValueError(f"ended before it started: start {start}, end {end}")
        if end >= LAST_EPOCH_S or (submit is not None and submit >= LAST_EPOCH_S):
            raise ValueError(f"a time after the year 9999: submit {submit}, end {end}")
        if cores > MAX_CORES:
            raise ValueError(f"more than {MAX_CORES} cores: {cores}")
        if nodes in _NO_NODES:
            start, nodes = end, ""
        elif not cores:
            raise ValueError("ran on nodes, but has no cores")
        else:
            nodes = self._node_lists.get(nodes) or self._expanded(nodes)
        return AccountingJob(
            self._day(end // QUARTER_S), job_id, project, user, start, end, partition, cores,
            cluster or self.cluster, nodes, name, state, submit, limit, id_text,
        )  # fmt: skip

    def _expanded(self, listed: str) -> str:
        nodes = ",".join(expand(listed))
        if len(listed) + len(nodes) <= _KEPT_CHARACTERS:
            if len(self._node_lists) >= _NODE_LISTS_KEPT:
                self._node_lists.clear()
            self._node_lists[listed] = nodes
        return nodes


def text_of(line: bytes) -> str:
    """A line as text, without what Windows puts around it; bytes that are not UTF-8 are escaped."""
    return line.removeprefix(BOM).removesuffix(b"\r").decode("utf-8", "backslashreplace")


@lru_cache(maxsize=4096)
def limit_s(text: str) -> int | None:
    """Seconds of a time limit; plain digits are minutes, a word means no limit of the job's own."""
    if NUMBER.fullmatch(text):
        return min(60 * int(text), INT64_MAX)
    if _NO_LIMIT.fullmatch(text):
        return None
    match = _LIMIT.fullmatch(text)
    if match is None:
        raise ValueError(f"not a time limit: {shown(text)}")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return 86_400 * days + 3_600 * hours + 60 * minutes + seconds
