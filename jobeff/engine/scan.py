"""What a worker does with a month's text: inflate it, find where each node's raw files stand, and write that down."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.engine.pool import Task
from jobeff.errors import SetAside
from jobeff.order import sorted_by
from jobeff.store import archive, framing, header_sums
from jobeff.store.files import sync_folder, sync_path
from jobeff.store.scratch import mapped, save

Int64s = npt.NDArray[np.int64]
MONTHS_KEPT = 2
"""A process is given tasks of one month after the other, and now and then one of another month."""


class FrameColumns(NamedTuple):
    """Frames of some nodes: columns of `jobeff.store.framing.Frames`."""

    job_id: Int64s
    begin: Int64s
    bytes: Int64s
    crc32: Int64s
    extended: npt.NDArray[np.bool_]

    def take(self, chosen: npt.NDArray[Any] | slice) -> FrameColumns:
        """Some of the frames, by index or mask."""
        return FrameColumns(*(column[chosen] for column in self))  # type: ignore[arg-type]


@dataclass(frozen=True)
class InflateTask(Task):
    """A month that is compressed, the file in scratch that its text shall be in, and whether that must be durable."""

    month: Path
    month_text: Path
    durable: bool

    def named(self) -> str:
        """The month's file."""
        return str(self.month)

    def lost(self, why: str) -> str:
        """Leave the month out."""
        self.month_text.unlink(missing_ok=True)
        return f"the worker that inflated it {why}"


def inflate_month(task: InflateTask) -> str:
    """Inflate a month.

    Parameters
    ----------
    task
        See `InflateTask`.

    Returns
    -------
    str
        Why it cannot be, and nothing is left of it; empty where it has been.
    """
    task.month_text.parent.mkdir(parents=True, exist_ok=True)
    try:
        archive.inflate(task.month, task.month_text)
    except archive.UnreadableMonthError as error:
        task.month_text.unlink()
        return str(error)
    if task.durable:
        sync_path(task.month_text)
        sync_folder(task.month_text.parent)
    return ""


@dataclass(frozen=True)
class ScanTask(Task):
    """A part of a month to scan: its plain text, cluster, file, where to begin and end; scratch folder."""

    month_text: Path
    cluster: str
    month: Path
    begin: int
    end: int
    folder: Path

    @property
    def text(self) -> Path | None:
        """See `kept_text`."""
        return kept_text(self.month_text, self.month)

    def named(self) -> str:
        """The month's file."""
        return str(self.month)


@dataclass
class ScanResult:
    """Where frames stand: nodes, the span of each in the frames written down, and the bytes of its raw text.

    `end` and `torn` are those of `jobeff.store.framing.Frames`; `damaged` says where the text of frames begins and ends
    whose header is not what was written: they are not among these, but others may stand within them.
    """

    nodes: list[str]
    spans: list[tuple[int, int]]
    weights: list[int]
    end: int
    torn: int
    damaged: list[tuple[int, int]]
    aside: SetAside


def scan_month(task: ScanTask) -> ScanResult:
    """Find the frames of a part of a month, and write them down by node.

    Parameters
    ----------
    task
        See `ScanTask`.

    Returns
    -------
    ScanResult
        What `load_frames` does not give.
    """
    aside = SetAside()
    with mapped_text(task.month_text, task.month) as text:
        found = framing.scan(text, task.begin, task.cluster, str(task.month), aside, task.end)
        found, damaged = _without_wrong_headers(text, found, task.month, aside)
    by_job = sorted_by(found.job_id)  # so are the files of a shard
    order = by_job[sorted_by(found.node[by_job])]
    columns = FrameColumns(found.job_id, found.begin, found.bytes, found.crc32, found.extended).take(order)
    task.folder.mkdir(parents=True, exist_ok=True)
    for path, column in zip(frame_files(task.folder), columns, strict=True):
        save(path, column)
    cuts = np.searchsorted(found.node[order], np.arange(len(found.nodes) + 1)).tolist()
    total = np.concatenate([[0], np.cumsum(columns.bytes)])[cuts]
    return ScanResult(
        found.nodes, list(itertools.pairwise(cuts)), np.diff(total).tolist(), found.end, found.torn, damaged, aside
    )


def _without_wrong_headers(
    text: framing.Text, found: framing.Frames, month: Path, aside: SetAside
) -> tuple[framing.Frames, list[tuple[int, int]]]:
    """Frames whose header is what was written, as far as anything tells: a wrong one names another job, or node.

    And where the others' text begins and ends, as their headers say.
    """
    wrong = header_sums.wrong(text, found.begin, header_sums.load(month), found.header).frames
    begins, ends = found.begin[wrong].tolist(), (found.begin[wrong] + found.bytes[wrong]).tolist()
    for begin in begins:
        aside.add(
            "archive frame", f"{month} byte {begin}", "its header is not what was written; 'jobeff repair' mends it"
        )
    return found.without(wrong) if begins else found, list(zip(begins, ends, strict=True))


def kept_text(month_text: Path, month: Path) -> Path | None:
    """Tell which text of a month a process keeps mapped.

    Parameters
    ----------
    month_text, month
        See `mapped_text`.

    Returns
    -------
    Path or None
        The archive's; none that lies in scratch, where it takes room for as long as it is mapped.
    """
    return month_text if month_text == month else None


@contextlib.contextmanager
def mapped_text(month_text: Path, month: Path) -> Iterator[framing.Text]:
    """Map the text of a month, once for all tasks of a process, since that takes half as long as to parse it.

    Parameters
    ----------
    month_text, month
        Plain archive file, and the file that it was made of.

    Yields
    ------
    mmap or bytes
        See `jobeff.store.archive.mapped`.
    """
    if kept_text(month_text, month) is None:
        with archive.mapped(month_text) as text:
            yield text
        return
    now = month.stat()
    yield _kept(month, now.st_dev, now.st_ino, now.st_size, now.st_mtime_ns)


@functools.lru_cache(maxsize=MONTHS_KEPT)
def _kept(month: Path, *_: int) -> framing.Text:
    with archive.mapped(month) as text:
        return text


def frame_files(folder: Path) -> list[Path]:
    """Where `scan_month` writes frames down.

    Parameters
    ----------
    folder
        Of its task.

    Returns
    -------
    list of Path
        One per column of `FrameColumns`.
    """
    return [folder / f"frame-{name}.npy" for name in FrameColumns._fields]


def load_frames(folder: Path) -> FrameColumns:
    """Map the frames that `scan_month` has written down.

    Parameters
    ----------
    folder
        Of its task.

    Returns
    -------
    FrameColumns
        In order of node and job id.
    """
    return FrameColumns(*map(mapped, frame_files(folder)))
