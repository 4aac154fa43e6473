"""Shards as they lie on disk against shards made again from the archive: what a worker does of `check`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from jobeff.engine import pool
from jobeff.errors import SetAside
from jobeff.store import framing, header_sums, shards

if TYPE_CHECKING:
    import pyarrow as pa

Int64s = npt.NDArray[np.int64]
COLUMNS = ["job_id", "first", "last", "offset", "bytes", "crc32"]


class Files(NamedTuple):
    """Raw files as shards name them.

    Attributes
    ----------
    node
        Shape (files,): index of the node.
    job_id, first, last, offset, bytes, crc32
        Shape (files,): columns of a shard; -1 where a file has no first and last row.
    """

    node: Int64s
    job_id: Int64s
    first: Int64s
    last: Int64s
    offset: Int64s
    bytes: Int64s
    crc32: Int64s

    def take(self, chosen: npt.NDArray[Any]) -> Files:
        """Some of them, by index or mask."""
        return Files(*(column[chosen] for column in self))


@dataclass(frozen=True)
class VerifyTask:
    """Shards of a month to read.

    Attributes
    ----------
    shards, cluster, month, nodes
        Which ones.
    again
        Folder in which they have been made again from the archive; None: only what stands in the shards' narrow columns
        is read.
    """

    shards: Path
    cluster: str
    month: str
    nodes: list[str]
    again: Path | None


class Difference(NamedTuple):
    """A node whose shard does not hold what the archive does: raw files that only the one or the other has so."""

    node: str
    stored: Files
    archived: Files


@dataclass
class Verified:
    """What came of a `VerifyTask`.

    Attributes
    ----------
    files
        Raw files of all shards that can be read; `node` counts in the task's nodes.
    reached
        By node, the archive offset that its shard has been built to.
    damaged
        Nodes whose shard cannot be read, or is another one's, and why.
    differences
        Nodes whose shard is not what the archive gives.
    """

    files: Files
    reached: dict[str, int] = field(default_factory=dict)
    damaged: list[tuple[str, str]] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)


def at_once(executor: Executor, tasks: Sequence[tuple[Callable[[Any], Any], Any]]) -> list[Any]:
    """Run tasks that need nothing of each other.

    Parameters
    ----------
    executor
        From `jobeff.engine.pool.executor`.
    tasks
        Each a function and its argument.

    Returns
    -------
    list
        Their results, in order.
    """

    def chain() -> Generator[Any, Any, list[Any]]:
        found: list[Any] = yield list(tasks)
        return found

    [found] = pool.run_chains(executor, [chain()], 1) if tasks else [[]]
    return found


def verify_shards(task: VerifyTask) -> Verified:
    """Read the shards of some nodes, and compare them.

    Parameters
    ----------
    task
        See `VerifyTask`.

    Returns
    -------
    Verified
        Of these nodes.
    """
    result, found = Verified(_no_files()), []
    for number, node in enumerate(task.nodes):
        path = shards.shard_path(task.shards, task.cluster, node, task.month)
        stored: pa.Table | None = None
        if path.exists():
            try:
                stored, about = shards.read(path) if task.again else shards.read_narrow(path, COLUMNS)
            except shards.DamagedShardError as error:
                result.damaged.append((node, str(error)))
                continue
            why = _belongs(about, task, node)
            if why:
                result.damaged.append((node, f"cannot use a shard at {path}: {why}"))
                continue
            result.reached[node] = about["archive_bytes"]
            found.append(_files(stored, number))
        if task.again:
            _compare(task, node, stored, result)
    result.files = Files(*(np.concatenate(columns) for columns in zip(result.files, *found, strict=True)))
    return result


def _belongs(about: dict[str, Any], task: VerifyTask, node: str) -> str:
    """Why a shard is not that of its node and month; empty where it is."""
    wanted = {"cluster": task.cluster, "node": node, "month": task.month}
    wrong = {key: about.get(key) for key, value in wanted.items() if about.get(key) != value}
    if wrong or not isinstance(about.get("archive_bytes"), int):
        return "it says of itself that it is another one's"
    return ""


def _compare(task: VerifyTask, node: str, stored: pa.Table | None, result: Verified) -> None:
    assert task.again is not None  # noqa: S101  (its only caller has looked)
    path = shards.shard_path(task.again, task.cluster, node, task.month)
    again = shards.read(path)[0] if path.exists() else None
    if stored is not None and again is not None and stored.equals(again):
        return
    mine, others = (_no_files() if table is None else _files(table, 0) for table in (stored, again))
    only, missing = ~_among(mine, others), ~_among(others, mine)
    if stored is not None and again is not None and not only.any() and not missing.any():
        only, missing = _unequal(stored, again)  # the same raw files, but other samples of them
    result.differences.append(Difference(node, mine.take(only), others.take(missing)))


def _among(some: Files, others: Files) -> npt.NDArray[np.bool_]:
    """Which raw files of some stand among others exactly so."""
    keys = [np.stack([f.job_id, f.offset, f.bytes, f.crc32], axis=1) for f in (some, others)]
    known = {row.tobytes() for row in keys[1]}
    return np.array([row.tobytes() in known for row in keys[0]], dtype=np.bool_)


def _unequal(stored: pa.Table, again: pa.Table) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Rows of two tables of the same raw files that differ; all of them where they stand in another order."""
    if len(stored) != len(again):
        return np.ones(len(stored), dtype=np.bool_), np.ones(len(again), dtype=np.bool_)
    same = np.array([stored.slice(i, 1).equals(again.slice(i, 1)) for i in range(len(stored))], dtype=np.bool_)
    return ~same, ~same


def _files(table: pa.Table, node: int) -> Files:
    columns = {name: table.column(name) for name in COLUMNS}
    for name in ("first", "last"):
        columns[name] = columns[name].fill_null(-1)
    arrays = {name: column.to_numpy().astype(np.int64) for name, column in columns.items()}
    return Files(np.full(len(table), node, dtype=np.int64), **arrays)


def _no_files() -> Files:
    return Files(*(np.empty(0, dtype=np.int64) for _ in Files._fields))


def is_damaged(text: framing.Text, cluster: str, month: Path, size: int) -> bool:
    """Whether a month is not what was written, other than a month that somebody has written anew.

    Parameters
    ----------
    text
        Its plain text.
    cluster, month
        Which one, and its file.
    size
        Bytes of it that are to be read.

    Returns
    -------
    bool
        True where a checksum, of a raw file or of a header line, tells so, or where text is missing that had one.
    """
    found = framing.scan(text, 0, cluster, str(month), SetAside(), size)
    known = found.crc32 >= 0
    records = header_sums.load(month)
    sums = framing.checksums(text, found.begin[known], found.bytes[known])
    return bool(
        (sums != found.crc32[known]).any()
        or len(header_sums.wrong(text, found.begin, records, found.header).frames)
        or not np.isin(records["begin"], found.begin).all()
    )
