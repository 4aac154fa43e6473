"""Each stage alone, on one core in this process, and the physical limits that it runs up against."""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from jobeff.bench.history import CLUSTER, INTERVAL
from jobeff.engine import ids as known_ids
from jobeff.engine import reduce, runs, samples, scan
from jobeff.engine.leaves import LeavesTask, make_leaves
from jobeff.errors import SetAside
from jobeff.store import archive, framing, shards, tables
from jobeff.store.batch import Batch

NODES = 40
"""So many nodes of the oldest month are worked on."""


ROWS_AT_ONCE = 1 << 14


class Rate(NamedTuple):
    """A stage: MB of raw text per second, of the jobs or nodes that it worked on."""

    name: str
    mb_s: float


def best(function: Callable[[], object], repeat: int) -> float:
    """Seconds of the quickest of some runs.

    Parameters
    ----------
    function
        What to run.
    repeat
        How often.

    Returns
    -------
    float
        At least a nanosecond.
    """
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return max(1e-9, min(seconds))


def limits(text: bytes, repeat: int = 3) -> list[Rate]:
    """What the machine itself can do, in MB per second.

    Parameters
    ----------
    text
        Some tens of MB of raw text.
    repeat
        How often to try.

    Returns
    -------
    list of Rate
        Memory copy, reading from the page cache, checksum, and inflating what the text was deflated to.
    """
    size = len(text) / 1e6
    source = np.frombuffer(text, dtype=np.uint8)
    target = source.copy()
    room = bytearray(1 << 20)
    with tempfile.NamedTemporaryFile() as file:
        file.write(text)
        file.flush()

        def read() -> None:
            with Path(file.name).open("rb", buffering=0) as stream:
                while stream.readinto(room):
                    pass

        found = [Rate("memory copy", size / best(lambda: np.copyto(target, source), repeat))]
        found.append(Rate("read from the page cache", size / best(read, repeat)))
    found.append(Rate("CRC-32 (zlib)", size / best(lambda: zlib.crc32(text), repeat)))
    deflated = zlib.compress(text, 6)
    found.append(Rate("inflate (zlib)", size / best(lambda: zlib.decompress(deflated), 1)))
    for codec in ("zstd", "lz4"):
        packed = pa.compress(text, codec=codec)
        seconds = best(partial(pa.decompress, packed, decompressed_size=len(text), codec=codec), repeat)
        found.append(Rate(f"decompress ({codec})", size / seconds))
    return found


def stages(root: Path, repeat: int = 3) -> list[Rate]:
    """The stages of a rebuild, one after the other.

    Parameters
    ----------
    root
        A site from `jobeff.bench.history.write` that has been computed.
    repeat
        How often to try.

    Returns
    -------
    list of Rate
        In order.
    """
    month, path = next(iter(archive.month_files(root, CLUSTER).items()))
    found: list[Rate] = []
    with tempfile.TemporaryDirectory() as name, archive.mapped(path) as text:
        folder, size = Path(name), len(text) / 1e6
        data = np.frombuffer(text, dtype=np.uint8)

        def rate(stage: str, amount: float, function: Callable[[], object]) -> None:
            function()
            found.append(Rate(stage, amount / best(function, repeat)))

        task = scan.ScanTask(path, CLUSTER, path, 0, len(text), folder)
        rate("scan for frames", size, lambda: framing.scan(text, 0, CLUSTER, str(path), SetAside()))
        scanned = scan.scan_month(task)
        frames = scan.load_frames(folder)
        nodes = list(zip(scanned.nodes, scanned.spans, strict=True))[:NODES]
        mine = [frames.take(slice(*span)) for _, span in nodes]
        some = sum(int(one.bytes.sum()) for one in mine) / 1e6
        rate("verify checksums", some, lambda: [framing.checksums(data, one.begin, one.bytes) for one in mine])
        room = samples.Room()
        rate("parse", some, lambda: [_parse(data, one, room) for one in mine])
        built = [_columns(data, one) for one in mine]
        rate("encode and write shards", some, lambda: _write(folder, built))
        reader = shards.SampleReader()
        files = [folder / f"{i}.parquet" for i in range(len(mine))]
        rate("read and decode shards", some, lambda: [reader.read(one) for one in files])
        config = reduce.Month(folder / "plan", folder, CLUSTER, month, INTERVAL)
        accounting = tables.database(root, "accounting")
        ids = known_ids.read_ids((accounting, CLUSTER, (), 0, 1))
        plan = reduce.PlanTask(config, accounting, CLUSTER, None if ids is None else ids.repeated)
        rate("read and plan accounting", size, lambda: reduce.plan_month(plan))
        spans = {span.node: span for span in reduce.plan_month(plan).spans}
        planned = reduce.PlannedMonth(config)
        typed = [(columns.samples(), spans[node]) for columns, (node, _) in zip(built, nodes, strict=True)]

        attempts = reduce.attempts_of(spans.values())

        def reduced() -> reduce.Reduced:
            result = reduce.Reduced(folder / "reduced", planned, attempts)
            for one, span in typed:
                planned.reduce(one, span, result)
            return result

        rate("kernels: samples to rows", some, reduced)
        everything = reduce.Reduced(folder / "reduced", planned, attempts)
        for node, span in spans.items():
            shard = shards.shard_path(root / "shards", CLUSTER, node, month)
            if shard.exists():
                planned.reduce(reader.read(shard), span, everything)
        everything.save()
        shared = reduce.shared_files(folder / "reduced")
        finish = reduce.FinishTask(config, CLUSTER, 1, [], [folder / "reduced"], shared, True)
        rate("merge and sort rows", size, lambda: reduce.finish_month(finish))
        finished = reduce.finish_month(finish)
        run = runs.Run(CLUSTER, config.name, config.folder, finished.computed, finished.total)
        rate("rows into database pages", size, lambda: _pages(folder, run))
    return found


def _parse(data: np.ndarray, frames: scan.FrameColumns, room: samples.Room) -> object:
    return samples.parse_arrays(data, frames.begin, frames.begin + frames.bytes, frames.extended, room)


def _columns(data: np.ndarray, frames: scan.FrameColumns) -> shards.Columns:
    frames = frames.take(np.argsort(frames.job_id, kind="stable"))
    arrays, _ = samples.parse_arrays(data, frames.begin, frames.begin + frames.bytes, frames.extended)
    raw: dict[str, Any] = {"job_id": frames.job_id, "offset": frames.begin, "bytes": frames.bytes}
    for array in raw.values():
        array.setflags(write=False)
    return shards.Columns(**arrays, **raw)


def _write(folder: Path, built: list[shards.Columns]) -> None:
    with Batch(folder) as batch:
        for i, columns in enumerate(built):
            shards.write(folder / f"{i}.parquet", columns, {}, batch)
        batch.commit(durable=False)


def _pages(folder: Path, run: runs.Run) -> None:
    batches = [np.array([[0, at, min(at + ROWS_AT_ONCE, run.rows)]]) for at in range(0, run.rows, ROWS_AT_ONCE)]
    for by in (runs.JOBS, runs.PROJECTS):
        make_leaves(LeavesTask([run], by, batches, 16384, True, folder / by, folder / f"{by}-about"))
