"""Shards: the typed samples of one node and month, one Parquet file, one row per raw file.

``shards/README.md`` says the same to those who read the files with other tools.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from jobeff.errors import JobeffError, shown
from jobeff.names import is_month, is_name
from jobeff.store.files import atomic_write

VERSION = 1
CHECKSUM_BYTES = 4
STATE = ".ingested"  # no node's name begins with a dot
SAMPLES = ("time", "limit", "used", "max_used", "swap", "core")
SCHEMA = pa.schema(
    [
        pa.field("job_id", pa.int64(), nullable=False),
        pa.field("first", pa.int64()),
        pa.field("last", pa.int64()),
        pa.field("cores", pa.int32(), nullable=False),
        pa.field("rejected", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
        pa.field("crc32", pa.uint32(), nullable=False),
        pa.field("time", pa.list_(pa.field("element", pa.int64(), nullable=False)), nullable=False),
        pa.field("limit", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False),
        pa.field("used", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False),
        pa.field("max_used", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False),
        pa.field("swap", pa.list_(pa.field("element", pa.int32(), nullable=False)), nullable=False),
        pa.field("core", pa.list_(pa.field("element", pa.uint16(), nullable=False)), nullable=False),
    ]
)

ENCODING = {
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": ["cores", "limit.list.element", "max_used.list.element", "swap.list.element"],
    "column_encoding": {
        "job_id": "DELTA_BINARY_PACKED",
        "first": "DELTA_BINARY_PACKED",
        "last": "DELTA_BINARY_PACKED",
        "offset": "DELTA_BINARY_PACKED",
        "time.list.element": "DELTA_BINARY_PACKED",
        "used.list.element": "DELTA_BINARY_PACKED",
        "core.list.element": "BYTE_STREAM_SPLIT",
    },
    "write_page_checksum": True,
    "store_schema": False,
}

Int64s = npt.NDArray[np.int64]


class DamagedShardError(JobeffError):
    """A shard is not as it was written."""


@dataclass(frozen=True)
class Samples:
    """Typed samples of many raw files, ready for a kernel.

    Attributes
    ----------
    job_id, rejected, cores
        Shape (files,): id, invalid rows, cores per row.
    row_begin, max_begin, core_begin
        Shape (files + 1,): where a file's part of the next ones begins.
    time, limit, used, swap
        One element per row: epoch seconds, hundredths of GiB.
    max_used
        One element per row of a file that has GB_MAX_USED, none for others; negative where a row had no usable one.
    core
        Hundredths of percent, row after row.
    """

    job_id: Int64s
    rejected: npt.NDArray[np.int32]
    cores: npt.NDArray[np.int32]
    row_begin: Int64s
    max_begin: Int64s
    core_begin: Int64s
    time: Int64s
    limit: npt.NDArray[np.int32]
    used: npt.NDArray[np.int32]
    max_used: npt.NDArray[np.int32]
    swap: npt.NDArray[np.int32]
    core: npt.NDArray[np.uint16]


def shard_path(shards: Path, cluster: str, node: str, month: str) -> Path:
    """Where a shard lies.

    Parameters
    ----------
    shards
        Folder of one generation of shards.
    cluster, node, month
        Names that have passed `jobeff.names`.

    Returns
    -------
    Path
        ``<cluster>/<node>/<YYYY-MM>.parquet`` below it.
    """
    return shards / cluster / node / f"{month}.parquet"


def nodes_with(shards: Path, cluster: str, month: str) -> Iterator[str]:
    """Nodes that have a shard of a month.

    Parameters
    ----------
    shards, cluster, month
        As for `shard_path`.

    Yields
    ------
    str
        Node names, in no order.
    """
    folder = shards / cluster
    if is_month(month) and folder.is_dir():
        for node in folder.iterdir():
            if is_name(node.name) and (node / f"{month}.parquet").is_file():
                yield node.name


def table_of(columns: dict[str, Any]) -> pa.Table:
    """A table with the shard's schema.

    Parameters
    ----------
    columns
        Arrow or numpy arrays by name of column.

    Returns
    -------
    pyarrow.Table
        One row per raw file.
    """
    arrays = [pa.array(columns[field.name], type=field.type) for field in SCHEMA]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def write(path: Path, table: pa.Table, about: dict[str, Any]) -> None:
    """Write a shard whole or not at all.

    Parameters
    ----------
    path
        From `shard_path`.
    table
        Rows in order of (job_id, first, bytes, crc32), those without a valid row last within a job.
    about
        Kept in the file's metadata: ``archive_bytes`` (offset up to which it has been built) and names.
    """
    said = json.dumps({"version": VERSION, **about}, sort_keys=True)
    buffer = pa.BufferOutputStream()
    with pq.ParquetWriter(buffer, SCHEMA, **ENCODING) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"jobeff": said})
    whole = memoryview(buffer.getvalue())
    footer = _footer_begin(whole)
    with atomic_write(path) as file:
        file.write(whole[:footer])
        # Parquet's own checksums leave out page headers and the footer. Bytes before the footer are nobody's.
        file.write(zlib.crc32(whole).to_bytes(CHECKSUM_BYTES, "little"))
        file.write(whole[footer:])


def read(path: Path, columns: list[str] | None = None) -> tuple[pa.Table, dict[str, Any]]:
    """Read a shard, verifying every page.

    Parameters
    ----------
    path
        An existing shard.
    columns
        Names, all by default.

    Returns
    -------
    pyarrow.Table
        One row per raw file.
    dict
        What the shard says of itself.

    Raises
    ------
    DamagedShardError
        The file is damaged or not a shard.
    JobeffError
        It is newer than this program.
    """
    try:
        whole = path.read_bytes()
        _verify(whole)
        with pq.ParquetFile(pa.BufferReader(whole), page_checksum_verification=True) as file:
            if not file.schema_arrow.equals(SCHEMA):
                raise ValueError("its columns are not those of a shard")
            return file.read(columns, use_threads=False), _about(path, file.metadata.metadata)
    except JobeffError:
        raise
    except Exception as error:  # a damaged file makes pyarrow raise nearly anything
        raise DamagedShardError(
            "cannot read a shard",
            where=str(path),
            why=shown(str(error)) or type(error).__name__,
            safe="The archive still has its samples",
            todo="'jobeff rebuild' makes it again",
        ) from error


def samples_of(table: pa.Table) -> Samples:
    """The samples of a shard as arrays, without copying them.

    Parameters
    ----------
    table
        From `read`, with all columns that `Samples` needs.

    Returns
    -------
    Samples
        Views of the table's buffers.
    """
    offsets, values = {}, {}
    for name in SAMPLES:
        column = table.column(name).combine_chunks()
        offsets[name] = column.offsets.to_numpy().astype(np.int64)
        values[name] = column.values.to_numpy()
    flat = {name: table.column(name).combine_chunks().to_numpy() for name in ("job_id", "rejected", "cores")}
    return Samples(
        row_begin=offsets["time"],
        max_begin=offsets["max_used"],
        core_begin=offsets["core"],
        **{name: flat[name] for name in flat},
        **{name: values[name] for name in SAMPLES},
    )


def ingested(shards: Path, cluster: str) -> dict[str, dict[str, Any]]:
    """How far each month of the archive has been ingested.

    Parameters
    ----------
    shards, cluster
        As for `shard_path`.

    Returns
    -------
    dict
        By month: ``archive_bytes``, ``tail_crc32`` before it, ``restarts`` (how often the month had to be ingested
        from its beginning again), ``nodes`` that have a shard, and ``file`` and ``size`` of the month then.

    Raises
    ------
    JobeffError
        A note is damaged.
    """
    folder = shards / cluster / STATE
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        try:
            found[path.stem] = json.loads(path.read_bytes())
        except ValueError as error:
            raise JobeffError(
                "cannot tell how far the archive was ingested",
                where=str(path),
                why=str(error),
                safe="The archive and the shards are as they were",
                todo="'jobeff rebuild' makes the shards again",
            ) from error
    return found


def set_ingested(shards: Path, cluster: str, month: str, about: dict[str, Any]) -> None:
    """Note how far a month has been ingested, once its shards are durable.

    Parameters
    ----------
    shards, cluster, month, about
        See `ingested`.
    """
    with atomic_write(shards / cluster / STATE / f"{month}.json") as file:
        file.write(json.dumps(about, indent=1, sort_keys=True).encode())


def _footer_begin(whole: bytes | memoryview) -> int:
    """Where the footer of a Parquet file begins: its length and four letters end the file."""
    return len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")


def _verify(whole: bytes) -> None:
    """See that a file is as it was written."""
    footer = _footer_begin(whole)
    said = int.from_bytes(whole[max(0, footer - CHECKSUM_BYTES) : max(0, footer)], "little")
    if footer < CHECKSUM_BYTES or zlib.crc32(whole[footer:], zlib.crc32(whole[: footer - CHECKSUM_BYTES])) != said:
        raise ValueError("its checksum is wrong")


def _about(path: Path, metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((metadata or {})[b"jobeff"])
    except (KeyError, ValueError) as error:
        raise ValueError("its metadata is not ours") from error
    if found["version"] > VERSION:
        raise JobeffError(
            "the shard is newer than this jobeff",
            where=str(path),
            why=f"it has version {found['version']}, this program knows up to {VERSION}",
            safe="It was not touched",
            todo="Install the jobeff that wrote it",
        )
    return found
