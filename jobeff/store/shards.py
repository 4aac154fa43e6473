"""Shards: the typed samples of one node and month, one Parquet file, one row per raw file.

``shards/README.md`` says the same to those who read the files with other tools.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jobeff.errors import RIGHTS, JobeffError, reason, shown
from jobeff.names import is_month, is_name
from jobeff.store.batch import Batch
from jobeff.store.files import atomic_write, read_regular, read_regular_into

if TYPE_CHECKING:
    import pyarrow as pa

    from jobeff.store.shard_encoder import Encoder

VERSION = 1
CHECKSUM_BYTES = 4
STATE = ".ingested"  # no node's name begins with a dot
SAMPLES = {
    "time": np.int64,
    "limit": np.int32,
    "used": np.int32,
    "max_used": np.int32,
    "swap": np.int32,
    "core": np.uint16,
}
_FILES = {
    "job_id": np.int64,
    "first": np.int64,
    "last": np.int64,
    "cores": np.int32,
    "rejected": np.int32,
    "offset": np.int64,
    "bytes": np.int64,
    "crc32": np.uint32,
}
COLUMNS = (*_FILES, *SAMPLES)
"""Of a shard, in their order: one value for each raw file, and then lists; see `schema`."""

_FLAT = {name: _FILES[name] for name in ("job_id", "rejected", "cores")}
_DECODED: list[tuple[str, type]] = [*_FLAT.items(), *SAMPLES.items()]
_BEGINS = ("row_begin", "max_begin", "core_begin")
_NOTE = {"archive_bytes": int, "tail_crc32": int, "restarts": int, "nodes": list}
_NOTE_MAY = {"file": str, "size": int, "waiting": list}
_SAID = json.JSONEncoder(sort_keys=True).encode  # made once, for each of many shards
_SAID_LAST = f'"version": {VERSION}}}'.encode()  # of what a shard says of itself, whose keys are sorted
Int64s = npt.NDArray[np.int64]
_PLACES = np.array([COLUMNS.index(name) for name, _ in _DECODED])


@functools.cache
def schema() -> pa.Schema:
    """The schema of all shards.

    Returns
    -------
    pyarrow.Schema
        Of `COLUMNS`. Few have need of it, and to import pyarrow takes as long as to read some hundred shards.
    """
    import pyarrow as pa  # noqa: PLC0415

    def field(name: str, kind: pa.DataType) -> pa.Field:
        return pa.field(name, kind, nullable=name in ("first", "last"))

    elements = {name: field("element", pa.from_numpy_dtype(dtype)) for name, dtype in SAMPLES.items()}
    files = [field(name, pa.from_numpy_dtype(dtype)) for name, dtype in _FILES.items()]
    return pa.schema([*files, *(field(name, pa.list_(element)) for name, element in elements.items())])


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


@dataclass(frozen=True)
class Columns:
    """A shard as flat arrays, all read-only, as the parser makes them: what `table_of` has as a table, without it.

    Attributes
    ----------
    job_id, first, last, cores, rejected, offset, bytes, crc32
        Shape (files,): see `schema`; `first` and `last` mean nothing where there is no valid row.
    row_begin, max_begin, core_begin
        Shape (files + 1,), int32; see `Samples`.
    time, limit, used, max_used, swap, core
        See `Samples`.
    """

    job_id: Int64s
    first: Int64s
    last: Int64s
    cores: npt.NDArray[np.int32]
    rejected: npt.NDArray[np.int32]
    offset: Int64s
    bytes: Int64s
    crc32: npt.NDArray[np.uint32]
    row_begin: npt.NDArray[np.int32]
    max_begin: npt.NDArray[np.int32]
    core_begin: npt.NDArray[np.int32]
    time: Int64s
    limit: npt.NDArray[np.int32]
    used: npt.NDArray[np.int32]
    max_used: npt.NDArray[np.int32]
    swap: npt.NDArray[np.int32]
    core: npt.NDArray[np.uint16]

    def in_order(self) -> bool:
        """Whether each job has one raw file, and they are in order, so that nothing is left to be arranged."""
        return bool(np.all(self.job_id[1:] > self.job_id[:-1]))

    def samples(self) -> Samples:
        """What `samples_of` gives of the same table."""
        row, most, core = (begin.astype(np.int64) for begin in (self.row_begin, self.max_begin, self.core_begin))
        values = (self.time, self.limit, self.used, self.max_used, self.swap, self.core)
        return Samples(self.job_id, self.rejected, self.cores, row, most, core, *values)

    def table(self) -> pa.Table:
        """The same as a table; its lists are views of these arrays."""
        import pyarrow as pa  # noqa: PLC0415

        none = self.row_begin[1:] == self.row_begin[:-1]
        begins = {"max_used": pa.array(self.max_begin), "core": pa.array(self.core_begin)}
        rows = pa.array(self.row_begin)
        columns: dict[str, Any] = {name: getattr(self, name) for name in _FILES}
        for name in ("first", "last"):
            columns[name] = pa.array(columns[name], mask=none)
        for name in SAMPLES:
            values = pa.array(getattr(self, name))
            columns[name] = pa.ListArray.from_arrays(begins.get(name, rows), values, type=schema().field(name).type)
        return table_of(columns)


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
    return Path(f"{shards}/{cluster}/{node}/{month}.parquet")


def nodes_with(shards: Path, cluster: str, month: str) -> dict[str, int]:
    """Nodes that have a shard of a month, and how large it is.

    Parameters
    ----------
    shards, cluster, month
        As for `shard_path`.

    Returns
    -------
    dict
        Bytes by node, in no order.
    """
    folder, found = shards / cluster, {}
    for node in os.listdir(folder) if is_month(month) and folder.is_dir() else ():  # noqa: PTH208  (many: a path takes longer than its file)
        if is_name(node):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                about = os.stat(f"{folder}/{node}/{month}.parquet")  # noqa: PTH116
                if stat.S_ISREG(about.st_mode):
                    found[node] = about.st_size
    return found


def months_with(shards: Path, cluster: str) -> set[str]:
    """Months of which any node has a shard.

    Parameters
    ----------
    shards, cluster
        As for `shard_path`.

    Returns
    -------
    set of str
        Whatever the notes say.
    """
    folder, found = shards / cluster, set[str]()
    for node in os.listdir(folder) if folder.is_dir() else ():  # noqa: PTH208
        if is_name(node):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found.update(os.listdir(f"{folder}/{node}"))  # noqa: PTH208
    return {name[:-8] for name in found if name.endswith(".parquet") and is_month(name[:-8])}


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
    import pyarrow as pa  # noqa: PLC0415

    arrays = [pa.array(columns[field.name], type=field.type) for field in schema()]
    return pa.Table.from_arrays(arrays, schema=schema())


def write(
    path: Path,
    table: pa.Table | Columns,
    about: dict[str, Any],
    batch: Batch | None = None,
    old: Path | None = None,
) -> None:
    """Write a shard whole or not at all.

    Parameters
    ----------
    path
        From `shard_path`.
    table
        Rows in order of (job_id, first, bytes, crc32), those without a valid row last within a job.
    about
        Kept in the file's metadata: ``archive_bytes`` (offset up to which it has been built) and names.
    batch
        Of which it is one; without, it is durable when this returns.
    old
        Within a batch: a shard that may be the same; then it is this one too.
    """
    from jobeff.store.crc_kernels import crc32  # noqa: PLC0415  (who only reads need not wait for numba)

    said = _SAID({"version": VERSION, **about})
    whole, footer = _encoder().encode(table, {"jobeff": said})
    # Parquet's own checksums leave out page headers and the footer. Bytes before the footer are nobody's.
    end = footer - CHECKSUM_BYTES
    whole[end:footer] = crc32(whole[footer:], crc32(whole[:end])).to_bytes(CHECKSUM_BYTES, "little")
    if batch:
        batch.put(path, whole, old)
        return
    with atomic_write(path) as file:
        file.write(whole)


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
    import pyarrow as pa  # noqa: PLC0415  (nearly all are read without it)
    import pyarrow.parquet as pq  # noqa: PLC0415

    with _explained(path):
        whole = read_regular(path)
        _verify(whole)
        # The checksum of the whole file has been verified, so those of its pages need not be.
        with pq.ParquetFile(pa.BufferReader(whole), pre_buffer=False) as file:
            if not file.schema_arrow.equals(schema()):
                raise ValueError("its columns are not those of a shard")
            return file.read(columns, use_threads=False), _about(path, file.metadata.metadata)


def read_narrow(path: Path, columns: list[str]) -> tuple[pa.Table, dict[str, Any]]:
    """Read a few columns of a shard, verifying their pages alone.

    Parameters
    ----------
    path
        An existing shard.
    columns
        Names.

    Returns
    -------
    pyarrow.Table, dict
        See `read`.

    Raises
    ------
    DamagedShardError, JobeffError
        See `read`.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415

    with _explained(path), pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
        return file.read(columns, use_threads=False), _about(path, file.metadata.metadata)


@functools.cache
def _encoder() -> Encoder:
    from jobeff.store.shard_encoder import Encoder  # noqa: PLC0415  (who looks one job up need not wait for numba)

    return Encoder(schema(), f"jobeff version {VERSION}")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Say in our own words that a shard is damaged."""
    try:
        yield
    except (JobeffError, MemoryError):  # a lack of memory says nothing of the file
        raise
    except Exception as error:  # a damaged file makes pyarrow raise nearly anything
        raise DamagedShardError(
            "cannot read a shard",
            where=str(path),
            why=shown(str(error)) or type(error).__name__,
            safe="The archive still has its samples",
            todo="'jobeff rebuild' makes it again",
        ) from error


class SampleReader:
    """Reads the samples of one shard after the other into the same memory."""

    def __init__(self) -> None:
        self._file: npt.NDArray[np.uint8] = np.empty(0, dtype=np.uint8)
        self._chunks = np.zeros((len(COLUMNS), 2), dtype=np.int64)
        self._sizes = np.zeros(len(_DECODED), dtype=np.int64)
        dtypes = [*(dtype for _, dtype in _DECODED), *[np.int64] * len(_BEGINS), np.uint8]
        self._room: list[npt.NDArray[Any]] = [np.empty(0, dtype=dtype) for dtype in dtypes]
        self._given = self._room[:-1]

    def read(self, path: Path) -> Samples:
        """Read the samples of a shard.

        Parameters
        ----------
        path
            An existing shard.

        Returns
        -------
        Samples
            As `samples_of` gives them; good until the next one is read.

        Raises
        ------
        DamagedShardError, JobeffError
            See `read`.
        """
        from jobeff.store.crc_kernels import crc32  # noqa: PLC0415  (who looks one job up need not wait for numba)

        with _explained(path):
            whole = read_regular_into(path, self._bytes)
            footer = _verify(whole, crc32)
            ours = _SAID_LAST in bytes(whole[footer:])
            found = self._decoded(np.frombuffer(whole, dtype=np.uint8)) if ours else None
        return found if found is not None else samples_of(read(path, [*_FLAT, *SAMPLES])[0])

    def _decoded(self, data: npt.NDArray[np.uint8]) -> Samples | None:
        """The samples of a shard's bytes; None where it is not as this version writes it."""
        from jobeff.store import shard_kernels as kernels  # noqa: PLC0415

        footer, rows = _footer_begin(data), kernels.NO_ROOM
        while rows == kernels.NO_ROOM:
            rows = kernels.decode(data, footer, _PLACES, self._sizes, self._chunks, *self._room)
            if rows == kernels.NO_ROOM:
                self._take_room()
        if rows < 0:
            return None
        begins = [begin[: rows + 1] for begin in self._given[-len(_BEGINS) :]]
        job_id, rejected, cores, *samples = [
            given[:size] for given, size in zip(self._given, self._sizes.tolist(), strict=False)
        ]
        return Samples(job_id, rejected, cores, *begins, *samples)

    def _take_room(self) -> None:
        """Take memory for columns of so many values, where lists begin, and levels."""
        sizes = self._sizes.tolist()
        needed = [*sizes, *[sizes[0] + 1] * len(_BEGINS), 2 * max(sizes)]
        self._room = [
            room if len(room) >= size else np.empty(size + size // 2 + 16, dtype=room.dtype)
            for room, size in zip(self._room, needed, strict=True)
        ]
        self._given = [room.view() for room in self._room[:-1]]
        for array in self._given[: len(sizes)]:
            array.setflags(write=False)  # as those of `samples_of` are: kernels are compiled for one kind only

    def _bytes(self, count: int) -> memoryview:
        if len(self._file) < count:
            self._file = np.empty(count + count // 2 + 16, dtype=np.uint8)
        return memoryview(self._file)  # type: ignore[arg-type]


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


def ingested(shards: Path, cluster: str, unsure: bool = False) -> dict[str, dict[str, Any]]:
    """How far each month of the archive has been ingested.

    Parameters
    ----------
    shards, cluster
        As for `shard_path`.
    unsure
        Whether a power cut can have taken a note, because the shards have not been published: then it is left out.
        So is one of a newer program, for which the caller has asked `refuse_newer` before.

    Returns
    -------
    dict
        By month: ``archive_bytes``, ``tail_crc32`` before it, ``restarts`` (how often the month had to be ingested
        from its beginning again), ``nodes`` that have a shard, and ``file`` and ``size`` of the month then. Where
        ``waiting`` names nodes that were left out, the rest is as before them, and there is no ``file`` and ``size``.

    Raises
    ------
    JobeffError
        A note is damaged, or of a newer program.
    """
    names: dict[str, str] = {}
    found = {}
    for path in notes(shards, cluster):
        try:
            found[path.stem] = read_note(path, names)
        except JobeffError:
            if not unsure:
                refuse_newer(shards, cluster)  # a newer program's note need not say what ours do
                raise
    return found


def notes(shards: Path, cluster: str) -> list[Path]:
    """Files that say how far each month has been ingested.

    Parameters
    ----------
    shards, cluster
        As for `shard_path`.

    Returns
    -------
    list of Path
        In order of months.
    """
    folder = shards / cluster / STATE
    return sorted(folder.glob("*.json")) if folder.is_dir() else []


def note(shards: Path, cluster: str, month: str) -> Path:
    """File that says how far one month has been ingested.

    Parameters
    ----------
    shards, cluster, month
        As for `shard_path`.

    Returns
    -------
    Path
        It need not exist.
    """
    return shards / cluster / STATE / f"{month}.json"


def read_note(path: Path, names: dict[str, str] | None = None) -> dict[str, Any]:
    """Read one of them.

    Parameters
    ----------
    path
        From `notes`.
    names
        Of nodes that have been read before: many months have the same ones, so each is looked at and kept once.

    Returns
    -------
    dict
        See `ingested`.

    Raises
    ------
    JobeffError
        It is damaged.
    """
    try:
        found: dict[str, Any] = json.loads(read_regular(path))
        said = {key: type(value) for key, value in found.items()} if isinstance(found, dict) else {}
        if not _NOTE.items() <= said.items() <= {**_NOTE, **_NOTE_MAY, "version": int}.items():
            raise ValueError("it does not say what it should")
        _refuse_newer(path, found.get("version", 1))
        known = {} if names is None else names
        for key in {"nodes", "waiting"} & found.keys():
            new = [node for node in found[key] if not isinstance(node, str) or node not in known]
            if not all(isinstance(node, str) and is_name(node) for node in new):
                raise ValueError("it names what is no node")
            known.update(zip(new, new, strict=True))
            found[key] = [known[node] for node in found[key]]
    except (OSError, ValueError) as error:
        raise JobeffError(
            "cannot tell how far the archive was ingested",
            where=str(path),
            why=reason(error),
            safe="The archive and the shards are as they were",
            todo=RIGHTS if isinstance(error, PermissionError) else "'jobeff repair' makes it again",
        ) from error
    return found


def refuse_newer(shards: Path, cluster: str) -> None:
    """See that no newer program has written the shards of a cluster; what is damaged is not looked at.

    Parameters
    ----------
    shards, cluster
        As for `shard_path`.

    Raises
    ------
    JobeffError
        One has.
    """
    folder = shards / cluster / STATE
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else []:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            _refuse_newer(path, int(json.loads(read_regular(path)).get("version", 1)))


def set_ingested(shards: Path, cluster: str, month: str, about: dict[str, Any], durable: bool = True) -> None:
    """Note how far a month has been ingested, once its shards are as durable as the note is to be.

    Parameters
    ----------
    shards, cluster, month, about
        See `ingested`.
    durable
        See `atomic_write`.
    """
    with atomic_write(note(shards, cluster, month), durable) as file:
        file.write(json.dumps({**about, "version": VERSION}, indent=1, sort_keys=True).encode())


def _footer_begin(whole: bytes | memoryview | npt.NDArray[np.uint8]) -> int:
    """Where the footer of a shard begins, behind the checksum: its length and four letters end the file."""
    footer = len(whole) - 8 - int.from_bytes(bytes(whole[-8:-4]), "little")
    if footer < CHECKSUM_BYTES:  # a kernel would read what lies before the file in memory
        raise ValueError("its footer would begin before it")
    return footer


def _verify(whole: bytes | memoryview, crc32: Callable[..., int] = zlib.crc32) -> int:
    """See that a file is as it was written; where its footer begins."""
    footer = _footer_begin(whole)
    said = int.from_bytes(whole[footer - CHECKSUM_BYTES : footer], "little")
    if crc32(whole[footer:], crc32(whole[: footer - CHECKSUM_BYTES])) != said:
        raise ValueError("its checksum is wrong")
    return footer


def _about(path: Path, metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((metadata or {})[b"jobeff"])
    except (KeyError, ValueError) as error:
        raise ValueError("its metadata is not ours") from error
    _refuse_newer(path, found["version"])
    return found


def _refuse_newer(path: Path, version: int) -> None:
    if version > VERSION:
        raise JobeffError(
            "the shard is newer than this jobeff",
            where=str(path),
            why=f"it has version {version}, this program knows up to {VERSION}",
            safe="It was not touched",
            todo="Install the jobeff that wrote it",
        )
