"""Encodings of shards: size, writing and reading of the same samples.

Usage: .venv/bin/python benchmarks/trials.py > benchmarks/shards.md

All are read by pyarrow, one core; the last line is how jobeff itself writes and reads what it has chosen.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobeff.bench import history, stages
from jobeff.engine import samples, scan
from jobeff.errors import SetAside
from jobeff.store import framing, shards

LISTS = [f"{name}.list.element" for name in shards.SAMPLES]
FEW = ["cores", "rejected", *(f"{name}.list.element" for name in ("limit", "max_used", "swap"))]
DELTAS = dict.fromkeys(["job_id", "first", "last", "offset", "time.list.element"], "DELTA_BINARY_PACKED")
CHOSEN = [*FEW, "used.list.element", "core.list.element"]


def table() -> pa.Table:
    """A month of one node."""
    parts = []
    offset = 0
    for day in range(31):
        one = history.day(history.Shape(), day)
        text, _ = history.written(one, framed=True)
        found = framing.scan(text.tobytes(), 0, history.CLUSTER, "", SetAside())
        mine = found.node == found.nodes.index("r100")
        frames = scan.FrameColumns(found.job_id, found.begin, found.bytes, found.crc32, found.extended).take(mine)
        columns, _ = samples.parse(text, frames.begin, frames.begin + frames.bytes, frames.extended)
        raw = {"job_id": frames.job_id, "offset": frames.begin + offset, "bytes": frames.bytes}
        parts.append(shards.table_of({**columns, **raw, "crc32": frames.crc32.astype(np.uint32)}))
        offset += len(text)
    return pa.concat_tables(parts).combine_chunks().sort_by("job_id")


def main() -> None:
    """Print the table."""
    whole = table()
    size = int(np.sum(whole.column("bytes").to_numpy()))
    print("# Encodings of shards\n")
    print(f"One node's month: {whole.num_rows} raw files, {size / 1e6:.2f} MB of text. By `benchmarks/trials.py`.\n")
    print("| core | used | others | codec | bytes | text/bytes | write ms | read ms |")
    print("|---|---|---|---|---:|---:|---:|---:|")
    split = {**DELTAS, "used.list.element": "DELTA_BINARY_PACKED", "core.list.element": "BYTE_STREAM_SPLIT"}
    kinds: list[tuple[tuple[str, str, str], dict[str, Any]]] = [
        (("byte stream split", "delta", "dictionary"), {"use_dictionary": FEW, "column_encoding": split}),
        (("dictionary", "dictionary", "dictionary"), {"use_dictionary": CHOSEN, "column_encoding": DELTAS}),
        (("plain", "plain", "plain"), {"use_dictionary": False, "column_encoding": DELTAS}),
    ]
    for names, options in kinds:
        for codec in ("none", "lz4", "snappy", "zstd"):
            kept: list[pa.Buffer] = []

            def write(codec: str = codec, options: dict[str, Any] = options, kept: list[pa.Buffer] = kept) -> None:
                stream = pa.BufferOutputStream()
                pq.write_table(whole, stream, compression=codec, store_schema=False, write_statistics=False, **options)
                kept[:] = [stream.getvalue()]

            def read(kept: list[pa.Buffer] = kept) -> None:
                with pq.ParquetFile(pa.BufferReader(kept[0]), pre_buffer=False) as file:
                    shards.samples_of(file.read(["job_id", "rejected", "cores", *shards.SAMPLES], use_threads=False))

            show(names, codec, size, stages.best(write, 9), stages.best(read, 15), lambda kept=kept: kept[0].size)
    with tempfile.TemporaryDirectory() as folder:
        path, reader = Path(folder) / "shard", shards.SampleReader()
        seconds = stages.best(lambda: shards.write(path, whole, {}), 9)
        names = ("**dictionary**", "**dictionary**", "**as jobeff does, checksum and file system included**")
        show(names, "none", size, seconds, stages.best(lambda: reader.read(path), 15), lambda: path.stat().st_size)
    print(WHY)


WHY = """
jobeff's own writer and reader replace pyarrow's where speed counts, so what decides is what is left without them: how
much has to be inflated and unpacked. Dictionaries with bit-packed indexes are a twelfth of the text without any codec
and are read as they lie there; a codec on top makes them a third smaller and pyarrow a little slower, and would be
most of the reading in a kernel. Byte stream split of integers cannot be read by DuckDB before version 2."""


def show(names: tuple[str, str, str], codec: str, text: int, write: float, read: float, stored: Any) -> None:
    """Print a line."""
    times = f"{write * 1e3:.2f} | {read * 1e3:.2f}"
    print(f"| {' | '.join(names)} | {codec} | {stored():,} | {text / stored():.1f} | {times} |")


if __name__ == "__main__":
    main()
