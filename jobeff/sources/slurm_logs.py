"""Finished jobs out of accounting logs of every form: which form a log is of, and its jobs one by one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import BinaryIO, Literal

from jobeff.clock import Clock
from jobeff.errors import SetAside, shown
from jobeff.sources import jobcomp, sacct, site_log
from jobeff.sources.accounting import BOM, KIND, MAX_LINE_BYTES, AccountingJob, Parser, ReadCounts, Records, text_of

NAME_BYTES = 4096
"""A job name that newlines have torn is looked for this far; Slurm takes names of up to 1,024 bytes."""

_NUMBERED = tuple[int, bytes]


def is_document(stream: BinaryIO, fmt: str = "auto") -> bool:
    """Whether a log is a JSON document, which `jobeff.sources.sacct_json` reads; the others are read by lines.

    Parameters
    ----------
    stream
        The log; it is left at its beginning.
    fmt
        What the configuration says, one of `jobeff.config.FORMATS`.

    Returns
    -------
    bool
        For ``auto``, whether its first letter is a brace.
    """
    if fmt != "auto":
        return fmt == "sacct-json"
    stream.seek(0)
    begin = stream.read(MAX_LINE_BYTES)
    stream.seek(0)
    return begin.removeprefix(BOM).lstrip().startswith(b"{")


def detect(line: bytes) -> Literal["site", "sacct", "jobcomp"] | None:
    """Which form a line is of.

    Parameters
    ----------
    line
        A line of a log.

    Returns
    -------
    str or None
        ``"sacct"`` for a header that names JobID or JobIDRaw, and for a record of the 26 columns that we ask
        ``sacct`` for. None for what is of no form, such as a blank line.
    """
    text = text_of(line)
    if site_log.START.match(text):
        return "site"
    if jobcomp.START.match(text):
        return "jobcomp"
    return "sacct" if sacct.header_columns(text) or sacct.is_record(text) else None


def read(
    lines: Iterable[_NUMBERED],
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
        Line numbers and lines without their end, such as `jobeff.sources.accounting.LogLines` gives.
    cluster
        Cluster of the jobs whose lines do not name one.
    clock
        Gives the day a job ended, and the meaning of local times.
    where
        Name of the log in messages.
    aside, counts
        Added to while reading.
    header
        When `lines` begins further down than the log: the first of the log's lines that `detect` knows.
    fmt
        ``auto``, ``site``, ``sacct`` or ``jobcomp``.

    Yields
    ------
    AccountingJob
        Jobs that have ended, in the order of the log, also those that never started.
    """
    records = Records(cluster, clock, counts)
    parser = None if header is None else _parser(header, fmt, records)
    ahead = _Ahead(lines)
    for number, line in ahead:
        if not line or line.isspace():
            continue
        try:
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
            parser = parser or _parser(line, fmt, records)
            if parser is None:
                hint = " (sacct without a header must have our 26 columns)" if line.count(b"|") > 1 else ""
                raise ValueError(f"not a line of a form of accounting that is known{hint}: {shown(line)}")
            text = text_of(line)
            if parser.unfinished(text):
                text = ahead.joined(line, parser)
            job = parser.parse(text)
        except ValueError as error:
            counts.set_aside += 1
            aside.add(KIND, f"{where}:{number}", str(error))
            continue
        if job is not None:
            counts.add(job)
            yield job


def _parser(line: bytes, fmt: str, records: Records) -> Parser | None:
    """How to read the lines of a log of which `line` is one; None where that cannot be told."""
    kind = detect(line) if fmt == "auto" else fmt
    if kind == "site":
        return site_log.SiteLog(records)
    if kind == "jobcomp":
        return jobcomp.JobComp(records)
    return sacct.Sacct(text_of(line), records) if kind == "sacct" else None


class _Ahead:
    """Lines that can be looked at before they are taken."""

    def __init__(self, lines: Iterable[_NUMBERED]) -> None:
        self._lines = iter(lines)
        self._seen: deque[_NUMBERED] = deque()

    def __iter__(self) -> Iterator[_NUMBERED]:
        while True:
            if self._seen:
                yield self._seen.popleft()
                continue
            try:
                yield next(self._lines)
            except StopIteration:
                return

    def joined(self, line: bytes, parser: Parser) -> str:
        """A record whose job name holds newlines; the line itself where no end follows that it could have."""
        torn = [line]
        for following in self._next():
            torn.append(following)
            if parser.finishes(text_of(following)):
                for _ in torn[1:]:
                    self._seen.popleft()
                return text_of(b"\n".join(torn))
        return text_of(line)

    def _next(self) -> Iterator[bytes]:
        at = size = 0
        while size <= NAME_BYTES:
            if at == len(self._seen):
                following = next(self._lines, None)
                if following is None:
                    return
                self._seen.append(following)
            line = self._seen[at][1]
            at, size = at + 1, size + len(line) + 1
            yield line
