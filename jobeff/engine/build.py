"""What a worker does with the nodes it owns: archive text to shards, and on to rows where the month is computed too.

The function takes one task and gives one result, both plain data, so that any executor can run it.
"""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from jobeff.engine import file_kernels, samples
from jobeff.engine.pool import Task
from jobeff.engine.reduce import Month, PlannedMonth, Reduced, Span, attempts_of, out_of_part
from jobeff.engine.scan import FrameColumns, kept_text, load_frames, mapped_text
from jobeff.errors import SetAside
from jobeff.store import archive, framing, header_sums, shards
from jobeff.store.ahead import begin_to_read
from jobeff.store.aside import set_aside
from jobeff.store.batch import Batch

if TYPE_CHECKING:
    import pyarrow as pa

Int64s = npt.NDArray[np.int64]
ORDER = [("job_id", "ascending"), ("first", "ascending"), ("bytes", "ascending"), ("crc32", "ascending")]
BATCH_BYTES = 64 << 20
"""Raw text parsed at once, so that a node with a huge month does not need huge memory."""

_ROOM = samples.Room()


@dataclass(frozen=True)
class BuildTask(Task):
    """Raw files of some nodes to add to their shards.

    Attributes
    ----------
    month_text, archive_month
        Plain archive file, and the file that it was made of.
    shards, cluster, month
        Where the shards lie.
    frames
        Scratch folder of the scan.
    nodes
        The nodes, and where the frames of each begin and end.
    archive_bytes
        Offset in the archive that the shards will have been built to.
    known
        Nodes that had a shard of the month.
    again
        The frames have been found only now: add them even to shards that have come so far already.
    anew
        Shards that are there were made of another archive: they are not looked at.
    durable
        Whether the shards must outlast a power cut; else the caller sees to it later.
    before
        Shards that may be the same already.
    plan, spans, out
        Where the month is to be computed at once: the planned month, its nodes among these, and the file that takes
        what they know.
    """

    writes_shards: ClassVar[bool] = True
    month_text: Path
    archive_month: Path
    shards: Path
    cluster: str
    month: str
    frames: Path
    nodes: list[tuple[str, int, int]]
    archive_bytes: int
    known: set[str]
    again: bool = False
    anew: bool = False
    durable: bool = True
    before: Path | None = None
    plan: Month | None = None
    spans: dict[str, Span] = field(default_factory=dict)
    out: Path | None = None

    @property
    def text(self) -> Path | None:
        """See `jobeff.engine.scan.kept_text`."""
        return kept_text(self.month_text, self.archive_month)

    def split(self) -> list[BuildTask]:
        """One task per node."""
        return [
            replace(
                self,
                nodes=[one],
                spans={node: span for node, span in self.spans.items() if node == one[0]},
                out=out_of_part(self.out, part) if self.out is not None else None,
            )
            for part, one in enumerate(self.nodes)
        ]

    def lost(self, why: str) -> BuildResult:
        """Leave the nodes out."""
        result = BuildResult(lost=[node for node, _, _ in self.nodes])
        why = f"the worker that ingested it {why}. Its shard is as it was; the next run tries again"
        for node in result.lost:
            result.aside.add("node", f"{self.cluster}/{node} {self.month}", why)
        return result


@dataclass
class BuildResult:
    """What came of a `BuildTask`: raw files and rows added, damaged rows, text read; what was set aside.

    `damaged` says where frames begin and end whose checksum is wrong, `lost` names nodes that were left out, `out` is
    the task's.
    """

    files: int = 0
    rows: int = 0
    rejected: int = 0
    text_bytes: int = 0
    damaged: list[tuple[int, int]] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    out: Path | None = None
    aside: SetAside = field(default_factory=SetAside)


def build_shards(task: BuildTask) -> BuildResult:
    """Add raw files to the shards of some nodes.

    Parameters
    ----------
    task
        See `BuildTask`.

    Returns
    -------
    BuildResult
        Counts over these nodes.
    """
    result = BuildResult(out=task.out)
    planned = PlannedMonth(task.plan) if task.plan is not None else None
    reduced = None
    if task.out is not None and planned is not None:
        reduced = Reduced(task.out, planned, attempts_of(task.spans.values()))
    found = load_frames(task.frames)
    with mapped_text(task.month_text, task.archive_month) as text, Batch(task.shards, task.durable) as batch:
        for node, first, last in task.nodes:
            frames = found.take(slice(first, last))
            found_there = _build_shard(task, node, np.frombuffer(text, dtype=np.uint8), frames, result, batch)
            if planned is not None and reduced is not None and node in task.spans:
                if found_there is None:
                    path = shards.shard_path(task.shards, task.cluster, node, task.month)
                    found_there = shards.samples_of(shards.read(path)[0]) if path.exists() else None
                if found_there is not None:
                    planned.reduce(found_there, task.spans[node], reduced)
        batch.commit(task.durable)
    if reduced is not None:
        reduced.save()
    return result


def _build_shard(
    task: BuildTask,
    node: str,
    text: npt.NDArray[np.uint8],
    frames: FrameColumns,
    result: BuildResult,
    batch: Batch,
) -> shards.Samples | None:
    """Add raw files to the shard of a node; gives what it holds then, or None where nothing had to be done.

    What it gives is good until the next node.
    """
    path = shards.shard_path(task.shards, task.cluster, node, task.month)
    old = shards.shard_path(task.before, task.cluster, node, task.month) if task.before is not None else None
    if old is not None:
        begin_to_read(old)
    where = f"{task.archive_month} {task.cluster}/{node}"
    tables = []
    if not task.anew and os.path.exists(path):  # noqa: PTH110  (asked for each of many files)
        try:
            table, about = shards.read(path)
        except shards.DamagedShardError as error:
            frames = _start_again(task, node, str(error), result)
        else:
            if about["archive_bytes"] >= task.archive_bytes and not task.again:
                # An earlier worker had come this far, and died before it could say what it had found.
                collections.deque(_parsed(text, frames, where, result), maxlen=0)
                return None
            known = frames.begin < about["archive_bytes"]
            if task.again:
                known = np.isin(frames.begin, table.column("offset").to_numpy())
            frames = frames.take(~known)
            tables.append(table)
    elif node in task.known:
        frames = _start_again(task, node, "it is gone", result)
    parsed = list(_parsed(text, frames, where, result))
    about = {"cluster": task.cluster, "node": node, "month": task.month, "archive_bytes": task.archive_bytes}
    if not tables and len(parsed) == 1 and parsed[0].in_order():  # as nearly all are when a shard is new
        shards.write(path, parsed[0], about, batch, old)
        return parsed[0].samples()
    tables.extend(one.table() for one in parsed)
    if not tables:
        return None
    import pyarrow as pa  # noqa: PLC0415  (a shard that is new has come without it)

    table = _without_superseded(text, _in_order(pa.concat_tables(tables)))
    shards.write(path, table, about, batch, old)
    return shards.samples_of(table)


def _start_again(task: BuildTask, node: str, why: str, result: BuildResult) -> FrameColumns:
    """Set a damaged shard aside; all frames that its node has in the archive."""
    path = shards.shard_path(task.shards, task.cluster, node, task.month)
    if path.exists():
        why += f"; the damaged one is {set_aside(path).name}"
    result.aside.add("shard", str(path), f"{why}. It is made again from the archive")
    with archive.mapped(task.month_text) as text:
        parts = list(_frames_before(text, task, node))
    return FrameColumns(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _frames_before(text: framing.Text, task: BuildTask, node: str) -> Iterator[FrameColumns]:
    """Frames of a node in what was read of the month, then those within damaged ones, as they were found then."""
    records, spans = header_sums.load(task.archive_month), [(0, task.archive_bytes)]
    for first, last in spans:
        found = framing.scan(text, first, task.cluster, str(task.month_text), SetAside(), last)
        wrong, _, unknown = header_sums.wrong(text, found.begin, records, found.header)
        # Where the header is what was written, so is the length.
        begin, length, crc32 = found.begin[unknown], found.bytes[unknown], found.crc32[unknown]
        damaged = unknown[(crc32 >= 0) & (crc32 != framing.checksums(text, begin, length))]
        for frame in [*wrong, *damaged]:
            end = int(found.begin[frame] + found.bytes[frame])
            spans.append((framing.first_frame(text, int(found.begin[frame]), end), end))
        found = found.without(wrong)
        mine = found.node == (found.nodes.index(node) if node in found.nodes else -1)
        yield FrameColumns(found.job_id, found.begin, found.bytes, found.crc32, found.extended).take(mine)


def _parsed(
    text: npt.NDArray[np.uint8], frames: FrameColumns, where: str, result: BuildResult
) -> Iterator[shards.Columns]:
    """Raw files as columns, a batch at a time, those whose checksum is wrong set aside."""
    if (frames.job_id[1:] < frames.job_id[:-1]).any():  # some that have been found later are behind the others
        frames = frames.take(np.argsort(frames.job_id, kind="stable"))
    batches, text_bytes = [frames], int(frames.bytes.sum())
    if text_bytes >= BATCH_BYTES:
        cuts = np.flatnonzero(np.diff(np.cumsum(frames.bytes) // BATCH_BYTES)) + 1
        batches = [frames.take(slice(*span)) for span in itertools.pairwise([0, *cuts.tolist(), len(frames.bytes)])]
    # Several batches are kept beside each other, so they cannot have the same memory.
    room = _ROOM if len(batches) == 1 else None
    for batch in batches:
        some = batch
        arrays, known = samples.parse_arrays(text, some.begin, some.begin + some.bytes, some.extended, room)
        wrong, unknown, rejected = file_kernels.outcome(some.crc32, arrays["crc32"], known, arrays["rejected"])
        if wrong:
            damaged = (some.crc32 >= 0) & (some.crc32 != arrays["crc32"])
            for job_id, begin, size in zip(*(column[damaged].tolist() for column in some[:3]), strict=True):
                result.aside.add("archive frame", f"{where}/{job_id} byte {begin}", "its checksum is wrong")
                result.damaged.append((begin, begin + size))
            some = some.take(~damaged)
            arrays, known = samples.parse_arrays(text, some.begin, some.begin + some.bytes, some.extended, room)
            _, unknown, rejected = file_kernels.outcome(some.crc32, arrays["crc32"], known, arrays["rejected"])
        if len(some.begin) == 0:
            continue
        for job_id in some.job_id[~known].tolist() if unknown else ():
            result.aside.add("raw file", f"{where}/{job_id}", "its header does not name the columns needed")
        raw: dict[str, Any] = {"job_id": some.job_id, "offset": some.begin, "bytes": some.bytes}
        for array in raw.values():
            array.setflags(write=False)
        result.files += len(some.begin)
        result.rows += len(arrays["time"])
        result.rejected += int(rejected)
        result.text_bytes += text_bytes if some is frames else int(some.bytes.sum())
        yield shards.Columns(**arrays, **raw)


def _in_order(table: pa.Table) -> pa.Table:
    """Rows in the order of a shard; nulls go last: a file without a valid row stands behind the others of its job."""
    job_id = table.column("job_id").to_numpy()
    if np.all(job_id[1:] > job_id[:-1]):
        return table
    import pyarrow.compute as pc  # noqa: PLC0415  (nearly all tables are in order)

    return table.take(pc.sort_indices(table, sort_keys=ORDER))


def _without_superseded(text: npt.NDArray[np.uint8], table: pa.Table) -> pa.Table:
    """Drop a raw file whose text is how another one of its job begins: the same file, taken before it had grown."""
    job_id = table.column("job_id").to_numpy()
    begin, length = table.column("offset").to_numpy(), table.column("bytes").to_numpy()
    drop = np.zeros(len(job_id), dtype=np.bool_)
    again = np.flatnonzero(job_id[1:] == job_id[:-1])
    for some in np.split(again, np.flatnonzero(np.diff(again) > 1) + 1) if len(again) else ():
        # In order of their texts, one that others begin with stands before one of these.
        rows = range(int(some[0]), int(some[-1]) + 2)
        texts = {row: text[begin[row] : begin[row] + length[row]].tobytes() for row in rows}
        for short, long in itertools.pairwise(sorted(rows, key=lambda row: (texts[row], row))):
            drop[short] = texts[long].startswith(texts[short])
    return table.filter(~drop) if drop.any() else table
