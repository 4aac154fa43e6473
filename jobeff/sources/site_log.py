"""A site's own daily accounting log: one line of ``key=value`` pairs per job."""

from __future__ import annotations

import re

from jobeff.errors import shown
from jobeff.sources.accounting import AccountingJob, Records, limit_s

START = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} jobstate=")
"""What every line begins with."""

# A job name may hold anything, other keys too, so the order is fixed and the name is what is left between the
# fields that can be read from the left and those that can be read from the right.
_HEAD = (
    START.pattern + r"([A-Z_]+) jobid=([0-9]{1,19}) username=(\S+) account=(\S+)"
    r" start=([0-9]{1,19}) end=([0-9]{1,19})(?: submit=([0-9]{1,19}))? nodes=(\S*) procs=([0-9]{1,19})"
    r"(?: batch=(?:yes|no))? jobname="
)
_TAIL = r" partition=(\S+)(?: limit=((?:[0-9]{1,9}-)?[0-9]{2}:[0-9]{2}:[0-9]{2}|[0-9]{1,12}))?"
_BEGINS = re.compile(_HEAD, re.ASCII)
_ENDS = re.compile(".*" + _TAIL, re.ASCII | re.DOTALL)
_LINE = re.compile(_HEAD + "(.*)" + _TAIL, re.ASCII | re.DOTALL)


class SiteLog:
    """Reads the lines of a site log.

    Parameters
    ----------
    records
        What is checked of every job.
    """

    def __init__(self, records: Records) -> None:
        self._records = records

    def parse(self, text: str) -> AccountingJob:
        """The job of a line; see `jobeff.sources.accounting.Parser`."""
        match = _LINE.fullmatch(text)
        if match is None:
            raise ValueError(f"not a line of a site log: {shown(text)}")
        state, raw_id, user, project, started, ended, sent, nodes, procs, name, partition, limit = match.groups()
        return self._records.job(
            raw_id=raw_id, project=project, user=user, start=int(started), end=int(ended), partition=partition,
            cores=int(procs), nodes=nodes, name=name, state=state, submit=None if sent is None else int(sent),
            limit=None if limit is None else limit_s(limit),
        )  # fmt: skip

    def unfinished(self, text: str) -> bool:
        """Whether a line ends within the job name."""
        return _BEGINS.match(text) is not None and _ENDS.fullmatch(text) is None

    def finishes(self, text: str) -> bool:
        """Whether a line begins within a job name and ends as a record does."""
        return _BEGINS.match(text) is None and _ENDS.fullmatch(text) is not None
