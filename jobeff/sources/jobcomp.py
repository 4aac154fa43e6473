"""What Slurm's plugin ``jobcomp/filetxt`` writes: one line of ``Key=value`` pairs per attempt that has ended."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

from jobeff.errors import shown
from jobeff.sources.accounting import AccountingJob, Records, limit_s

START = re.compile(r"JobId=[0-9]{1,19} UserId=")
"""What every line begins with."""

# The user chooses the name, the folder and the key before the cluster, so a line is read as a beginning, one block
# between name and folder, one between folder and key, and an end; where a block stands twice, nobody can tell which.
_HEAD = re.compile(r"JobId=([0-9]{1,19}) UserId=(\S+?)\([0-9]+\) GroupId=.*?\([0-9]+\) Name=")
_MIDDLE = re.compile(
    r" JobState=([A-Z_]+) Partition=(\S*) TimeLimit=(\S+) StartTime=(\S+) EndTime=(\S+) NodeList=(\S*)"
    r" NodeCnt=[0-9]+ ProcCnt=([0-9]{1,19}) WorkDir="
)
_ACCOUNT = re.compile(r" ReservationName=(?:\S*) (?:Tres|Gres)=\S* Account=(\S*) QOS=\S* WcKey=")
_END = re.compile(
    r".* Cluster=(\S*) SubmitTime=(\S+) EligibleTime=\S+"
    r"(?: ArrayJobId=([0-9]{1,19}) ArrayTaskId=([0-9]{1,19}))?"
    r"(?: (?:Het|Pack)JobId=([0-9]{1,19}) (?:Het|Pack)JobOffset=([0-9]{1,19}))?"
    r" DerivedExitCode=\S+ ExitCode=\S+ ?",
    re.DOTALL,
)
_ISO = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}")
# A partition without a limit of its own leaves Slurm's number for "no value".
_NO_LIMIT = {"4294967294", "4294967295"}


class JobComp:
    """Reads the lines of a log.

    Times in it are local, without an offset. In the hour that an end of summer time repeats, a time is taken for the
    earlier of the two, unless the job would then start before it was submitted or end before it started.

    Parameters
    ----------
    records
        What is checked of every job.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._epoch = lru_cache(maxsize=65_536)(self._read_epoch)

    def parse(self, text: str) -> AccountingJob | None:
        """The job of a line; see `jobeff.sources.accounting.Parser`."""
        head, middle, account, end = self._parts(text)
        raw_id, user = head.groups()
        state, partition, limit, started, ended, nodes, cores = middle.groups()
        cluster, sent, array_id, task, het_id, offset = end.groups()
        submit = self._epoch(sent, 0)
        start = self._epoch(started, submit or 0)
        over = self._epoch(ended, start or submit or 0)
        if over is None:
            self._records.counts.running += 1
            return None
        return self._records.job(
            raw_id=raw_id, project=account[1], user=user, start=start, end=over, partition=partition,
            cores=int(cores), cluster="" if cluster == "unknown" else cluster, nodes=nodes,
            name=text[head.end() : middle.start()],
            # A line is only written when an attempt ends; of one that will start again, all but that is said.
            state="REQUEUED" if state == "PENDING" else state,
            submit=submit, limit=None if limit in _NO_LIMIT else limit_s(limit),
            id_text=f"{het_id}+{offset}" if het_id else f"{array_id}_{task}" if array_id else None,
        )  # fmt: skip

    def _parts(self, text: str) -> tuple[re.Match[str], ...]:
        head = _HEAD.match(text)
        middles = list(_MIDDLE.finditer(text, head.end())) if head else []
        accounts = list(_ACCOUNT.finditer(text, middles[0].end())) if middles else []
        end = _END.fullmatch(text, accounts[-1].end()) if accounts else None
        if head is None or end is None:
            raise ValueError(f"not a line of jobcomp/filetxt: {shown(text)}")
        if len(middles) > 1 or len(accounts) > 1:
            raise ValueError(f"a name or folder holds keys that cannot be told from the job's own: {shown(text)}")
        return head, middles[0], accounts[0], end

    def unfinished(self, text: str) -> bool:
        """Whether a line ends within the job name."""
        return _HEAD.match(text) is not None and _END.fullmatch(text) is None

    def finishes(self, text: str) -> bool:
        """Whether a line begins within a job name and ends as a record does."""
        return START.match(text) is None and _END.fullmatch(text) is not None

    def _read_epoch(self, text: str, not_before: int) -> int | None:
        if text in ("Unknown", "unknown"):
            return None
        try:
            epoch = self._records.clock.epoch(datetime.fromisoformat(text), not_before) if _ISO.fullmatch(text) else -1
        except (ValueError, OverflowError):
            epoch = -1
        if epoch < 0:
            raise ValueError(f"not a local time since 1970: {shown(text)}")
        return epoch
