"""What ``sacct -P`` prints: records of columns, with a header that names them or without."""

from __future__ import annotations

import re
from calendar import timegm
from datetime import datetime
from functools import lru_cache
from operator import itemgetter

from jobeff.errors import shown
from jobeff.sources.accounting import NOT_ENDED, NUMBER, AccountingJob, Records, limit_s

COLUMNS = (
    "JobID|JobIDRaw|Cluster|Partition|QOS|Account|Group|GID|User|UID|Submit|Eligible|Start|End|Elapsed|ExitCode|"
    "State|NNodes|NCPUS|ReqCPUS|ReqMem|ReqTRES|AllocTRES|Timelimit|NodeList|JobName"
)
"""The columns that we ask for, and that a log without a header has; the name is last, so a ``|`` in it does no harm."""

_USED = [
    "jobidraw", "jobid", "cluster", "partition", "account", "user", "submit", "start", "end", "state",
    "ncpus", "alloccpus", "reqcpus", "timelimit", "nodelist", "jobname",
]  # fmt: skip
_NEEDED = [
    "JobIDRaw or JobID", "Start", "End", "State", "NodeList", "NCPUS or AllocCPUS or ReqCPUS", "Account",
    "User",
]  # fmt: skip
_FREE_TEXT = {
    "admincomment", "comment", "constraints", "container", "extra", "stderr", "stdin", "stdout", "submitline",
    "systemcomment", "wckey", "workdir",
}  # fmt: skip
_NO_TIME = {"", "Unknown", "None", "0"}
_HEADER = re.compile(r"[A-Za-z]+(?:\|[A-Za-z]+)+\|?")
_STEP = re.compile(r"[0-9]\S*\.\S+")
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
_TIME = re.compile(f"Unknown|None||{NUMBER.pattern}|{_ISO.pattern}")


def header_columns(text: str) -> list[str]:
    """Columns that a header names.

    Parameters
    ----------
    text
        A line.

    Returns
    -------
    list of str
        In small letters; none for a record, which holds digits.
    """
    columns = text.lower().split("|") if _HEADER.fullmatch(text) else []
    return columns if "jobid" in columns or "jobidraw" in columns else []


def is_record(text: str) -> bool:
    """Whether a line is a record of `COLUMNS`.

    Parameters
    ----------
    text
        A line.

    Returns
    -------
    bool
        Told by its number of columns, its ids and its times.
    """
    fields = text.split("|")
    if len(fields) <= COLUMNS.count("|"):
        return False
    ids = fields[0][:1].isdigit() and fields[1][:1].isdigit()
    return ids and all(_TIME.fullmatch(field) for field in fields[10:14])


class Sacct:
    """Reads records whose columns are known.

    Parameters
    ----------
    header
        A header, or a record of `COLUMNS`.
    records
        What is checked of every job.
    delimiter
        Stands between two columns.
    """

    def __init__(self, header: str, records: Records, delimiter: str = "|") -> None:
        self._records = records
        self._delimiter = delimiter
        self._columns = columns = header_columns(header) or header_columns(COLUMNS)
        self._missing = [one for one in _NEEDED if set(one.lower().split(" or ")).isdisjoint(columns)]
        self._name_at = columns.index("jobname") if "jobname" in columns else None
        if not _FREE_TEXT.isdisjoint(columns):
            self._name_at = None  # nobody can tell whose a "|" too many is
        # A column that is not there is taken from the empty field that `_fields` puts behind the last.
        self._pick = itemgetter(*(columns.index(name) if name in columns else -1 for name in _USED))

    def parse(self, text: str) -> AccountingJob | None:
        """The job of a record; see `jobeff.sources.accounting.Parser`."""
        if self._missing:
            raise ValueError(f"the header lacks {', '.join(self._missing)}")
        (
            raw_id, array_id, cluster, partition, project, user, sent, started, ended, state,
            ncpus, alloccpus, reqcpus, limit, nodes, name,
        ) = self._pick(self._fields(text))  # fmt: skip
        raw_id = raw_id or array_id
        if NUMBER.fullmatch(raw_id) is None or "." in array_id:
            if _STEP.fullmatch(raw_id) or _STEP.fullmatch(array_id):
                self._records.counts.steps += 1
            elif header_columns(text) != self._columns:
                raise ValueError(f"job id is not a number: {shown(raw_id)}")
            return None
        state = state.split(" ", 1)[0]
        end = _epoch(ended)
        if end is None or state in NOT_ENDED:
            self._records.counts.running += 1
            return None
        if NUMBER.fullmatch(cores := ncpus or alloccpus or reqcpus) is None:
            raise ValueError(f"not a number of cores: {shown(cores)}")
        return self._records.job(
            raw_id=raw_id, project=project, user=user, start=_epoch(started), end=end, partition=partition,
            cores=int(cores), cluster=cluster, nodes=nodes, name=name, state=state, submit=_epoch(sent),
            limit=limit_s(limit), id_text=None if array_id in ("", raw_id) else array_id,
        )  # fmt: skip

    def unfinished(self, _: str, /) -> bool:
        """Never: a record whose name is last has no end that could be missed."""
        return False

    def finishes(self, _: str, /) -> bool:
        """Never."""
        return False

    def _fields(self, text: str) -> list[str]:
        fields, at = text.split(self._delimiter), self._name_at
        extra = len(fields) - len(self._columns)
        if extra > 0 and at is not None:
            fields[at : at + extra + 1] = [self._delimiter.join(fields[at : at + extra + 1])]
        elif extra:
            raise ValueError(f"{len(fields)} columns where {len(self._columns)} are expected: {shown(text)}")
        fields.append("")
        return fields


@lru_cache(maxsize=65_536)
def _epoch(text: str) -> int | None:
    """Seconds of a time of sacct, which we ask in UTC; None where it has not come yet."""
    if text in _NO_TIME:
        return None
    if NUMBER.fullmatch(text):
        return int(text)
    try:
        epoch = timegm(datetime.fromisoformat(text).timetuple()) if _ISO.fullmatch(text) else -1
    except ValueError:
        epoch = -1
    if epoch < 0:
        raise ValueError(f"not a time since 1970: {shown(text)}")
    return epoch
