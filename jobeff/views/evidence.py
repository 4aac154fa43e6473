"""The samples behind a job's numbers: those of its attempt, node by node, each with the raw file it stands in."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NamedTuple

from jobeff.config import Config
from jobeff.errors import shown
from jobeff.progress import Progress
from jobeff.views.job import JobView, raw_files

COLUMNS = ["rejected", "cores", "offset", "bytes", "time", "limit", "used", "max_used", "swap", "core"]
BUSY, USED = 1000, 300
"""A core is busy, for the percentile, above 10.00 percent; used, for the most cores at one time, above 3.00."""


class Sample(NamedTuple):
    """One valid row; memory in hundredths of GiB, cores in hundredths of a percent.

    `max_used` is None where there is no reading; `offset` and `bytes` say where its raw file stands in the archive.
    """

    node: str
    time: int
    limit: int
    used: int
    max_used: int | None
    swap: int
    cores: Sequence[int]
    offset: int
    bytes: int

    @property
    def peak(self) -> int:
        """The larger reading of memory."""
        return max(self.used, self.max_used or 0)

    @property
    def cpu_pct(self) -> float:
        """Percent of one core, so 20 busy cores reach 2000."""
        return sum(self.cores) / 100

    def above(self, threshold: int) -> int:
        """Number of cores busier than hundredths of a percent."""
        return sum(core > threshold for core in self.cores)


@dataclass
class NodeSamples:
    """What is known of one booked node.

    Attributes
    ----------
    node
        Its name.
    rows
        Samples of this attempt, in order of time.
    rejected
        Invalid rows in the job's raw files.
    files
        Number of raw files, also of other attempts.
    damaged
        Why its shard could not be read; empty where it could.
    """

    node: str
    rows: list[Sample] = field(default_factory=list)
    rejected: int = 0
    files: int = 0
    damaged: str = ""


def of_job(config: Config, view: JobView) -> Iterator[NodeSamples]:
    """The samples of one attempt of a job.

    Parameters
    ----------
    config
        Of the site.
    view
        From `jobeff.views.job.find`.

    Yields
    ------
    NodeSamples
        One per booked node, in order of the node list. Rows go to the attempt that METRICS says.
    """
    from jobeff.store.shards import DamagedShardError  # noqa: PLC0415  (see jobeff.views.job)

    for node in view.nodes:
        found = NodeSamples(node)
        by_time: dict[int, Sample] = {}
        try:
            for _, raw in raw_files(config, view, COLUMNS, [node]):
                found.files += 1
                found.rejected += raw["rejected"]
                for sample in _samples(node, raw):
                    by_time.setdefault(sample.time, sample)
        except DamagedShardError as error:
            found.damaged = str(error)
        rivals = view.rivals(node)
        found.rows = [by_time[time] for time in sorted(by_time) if _owns(view, rivals, time)]
        yield found


def of_nodes(config: Config, view: JobView, progress: Progress) -> list[NodeSamples]:
    """The samples of all nodes of one attempt of a job.

    Parameters
    ----------
    config, view
        As for `of_job`.
    progress
        Says of how many nodes they have been read.

    Returns
    -------
    list of NodeSamples
        As `of_job` gives them.
    """
    found = []
    with progress.task(f"samples of {view.name}", len(view.nodes), "nodes") as advance:
        for node in of_job(config, view):
            found.append(node)
            advance(1)
    return found


def _samples(node: str, raw: dict[str, Any]) -> Iterator[Sample]:
    width, cores = raw["cores"], array("H", raw["core"])
    for i, time in enumerate(raw["time"]):
        most = raw["max_used"][i] if raw["max_used"] else -1
        yield Sample(
            node,
            time,
            raw["limit"][i],
            raw["used"][i],
            most if most >= 0 else None,
            raw["swap"][i],
            cores[i * width : (i + 1) * width],
            raw["offset"],
            raw["bytes"],
        )


def _owns(view: JobView, rivals: list[tuple[int, int]], time: int) -> bool:
    """Whether a row is this attempt's: it ran then, or is the nearest and at most one interval away."""
    distance, start = min((max(start - time, time - end, 0), start) for start, end in rivals)
    return start == view.start and distance <= view.interval


def slots(view: JobView, rows: Sequence[Sample]) -> list[int]:
    """Sampling times of a node's rows, as METRICS has them.

    Parameters
    ----------
    view
        The job.
    rows
        Of one node, in order of time; at least one.

    Returns
    -------
    list of int
        One per row: equal for rows of different nodes that are of one sampling time.
    """
    first, found = rows[0].time, []
    late = max(0, first - view.start) // view.interval
    for row in rows:
        whole, rest = divmod(row.time - first, view.interval)
        up = whole % 2 == 1 if 2 * rest == view.interval else 2 * rest > view.interval  # half to even
        found.append(whole + up + late)
    return found


class RawLine(NamedTuple):
    """A row as the node printed it: the archive's file, byte of the line, and the line, not escaped."""

    file: str
    offset: int
    text: str


def raw_lines(config: Config, view: JobView, wanted: Sequence[Sample]) -> dict[tuple[str, int], RawLine]:
    """Find rows in the archive.

    Parameters
    ----------
    config
        Of the site.
    view
        The job they are of.
    wanted
        From `of_job`.

    Returns
    -------
    dict
        Those found, by (node, time); a month that is not there has none.
    """
    from jobeff.store import archive  # noqa: PLC0415  (see jobeff.views.job)

    path = archive.month_files(config.root, config.raw_cluster(view.accounting["cluster"])).get(view.month)
    if path is None or not wanted:
        return {}
    name, found = str(path.relative_to(config.root)), {}
    with (
        tempfile.TemporaryDirectory() as scratch,
        archive.plain(path, Path(scratch)) as plain,
        archive.mapped(plain) as text,
    ):
        for sample in wanted:
            line = _line(bytes(text[sample.offset : sample.offset + sample.bytes]), sample)
            if line is not None:
                found[sample.node, sample.time] = RawLine(name, sample.offset + line[0], shown_line(line[1]))
    return found


def shown_line(line: bytes) -> str:
    """A raw line with its blanks folded, fit to be shown.

    Parameters
    ----------
    line
        From the archive.

    Returns
    -------
    str
        Escaped, at most 200 characters.
    """
    return shown(b" ".join(line.split()))


def _line(text: bytes, sample: Sample) -> tuple[int, bytes] | None:
    """Where a row begins in its raw file, and the row: the first of its time that says the same."""
    at, time, used = 0, 1, 3
    for line in text.split(b"\n"):
        cells = line.split()
        if cells[:1] == [b"LOCALTIME"]:
            time, used = (cells.index(name) if name in cells else 0 for name in (b"TIME", b"GB_USED"))
        elif len(cells) > max(time, used) and _says(cells[time], sample.time) and _says(cells[used], sample.used, 100):
            return at, line
        at += len(line) + 1
    return None


def _says(cell: bytes, value: int, scale: int = 1) -> bool:
    try:
        return abs(scale * Decimal(cell.decode("ascii")) - value) <= (Decimal("0.5") if scale > 1 else 0)
    except (InvalidOperation, UnicodeDecodeError):
        return False
