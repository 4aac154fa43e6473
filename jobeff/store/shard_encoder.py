"""Encodes a shard: Parquet as `jobeff.store.shard_write_kernels` writes it, and the footer that makes it a file."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobeff.store import past_cache
from jobeff.store import shard_write_kernels as kernels
from jobeff.store.crc_table import crc32_table

if TYPE_CHECKING:
    from jobeff.store.shards import Columns

PAGE_LEVELS = 1 << 20
SLACK = 64  # kernels write whole words
PAGE_ROOM = 2048  # more than a page's header and the unfilled part of its last block take together

# Numbers of Parquet: physical types, repetition, and the kinds of groups and values that are more than their type says.
INT32, INT64 = 1, 2
REQUIRED, OPTIONAL, REPEATED = range(3)
LIST_GROUP = 3
UINTS = {pa.uint16(): (12, 16), pa.uint32(): (13, 32)}

Bytes = npt.NDArray[np.uint8]


class Encoder(threading.local):
    """Encodes one shard after the other in the same memory, of which each thread has its own.

    Parameters
    ----------
    schema
        That of `jobeff.store.shards`, whose columns the kernels know.
    created_by
        Kept in the files.
    """

    def __init__(self, schema: pa.Schema, created_by: str) -> None:
        self._schema = schema
        self._room: dict[str, npt.NDArray[Any]] = {}
        self._pages = np.empty((0, 6), dtype=np.int64)
        self._crc32_table = crc32_table()
        self._table = np.full(1 << 16, -1, dtype=np.int32)
        self._slots = np.empty(4 * kernels.MAX_DICTIONARY, dtype=np.int32)
        self._head = _read_only(bytes([0x15]) + signed(2) + b"\x19" + _schema(schema))
        self._fields = [_field(field) for field in schema]
        names = [_name(field) for field in schema]
        self._names = _read_only(b"".join(names))
        self._name_ends = np.cumsum([len(name) for name in names])
        # Who wrote it, and that values are in the order of their types.
        self._last = b"\x18" + text(created_by) + b"\x19" + listed([b"\x1c\0\0"] * len(schema)) + b"\0"

    def encode(
        self, table: pa.Table | Columns, said: dict[str, str], page_levels: int = PAGE_LEVELS
    ) -> tuple[memoryview, int]:
        """Encode a table.

        Parameters
        ----------
        table
            Of the schema, without nulls but in fields that may be null; or its columns.
        said
            Metadata of the file.
        page_levels
            Values in a page, where not one row has more.

        Returns
        -------
        whole
            The file, of whole blocks, so that it can be written past the system's cache. It is good until the next
            table is encoded.
        footer
            Where its footer begins; the four bytes before it belong to the caller.

        Raises
        ------
        ValueError
            The table is of another schema, or has nulls where there must be none.
        """
        if isinstance(table, pa.Table):
            if not table.schema.equals(self._schema):
                raise ValueError("the table is not of the schema")
            rows = table.num_rows
        else:
            rows = len(table.job_id)
        known = np.zeros((len(self._fields), 4), dtype=np.int64)
        count, size, bodies = 0, 0, self._array("bodies", np.uint8, SLACK)
        if rows > 0:
            columns = _of_table(table, self._fields) if isinstance(table, pa.Table) else _of_columns(table)
            counts = [len(array) for array in columns.all]
            longest, levels = max(counts), sum(counts) + rows * len(counts)
            values = 2 * sum([array.nbytes for array in columns.all]) + 2 * 8 * rows * len(counts) + levels
            most_pages = 2 * len(counts) + 2 * levels // page_levels
            bodies = self._array("bodies", np.uint8, 2 * values + most_pages * PAGE_ROOM + SLACK)
            if len(self._pages) < most_pages:
                self._pages = np.empty((2 * most_pages, 6), dtype=np.int64)
            count = kernels.encode(  # type: ignore[call-arg]
                *columns.all[:8],  # type: ignore[arg-type]
                *columns.valid,
                *columns.begins,
                *columns.all[8:],
                page_levels,
                self._table,
                self._slots,
                self._array("index", np.uint32, longest + 8),
                self._array("lengths", np.int64, 2 * rows + 4),
                bodies,
                self._pages,
                known,
            )
            size = int(self._pages[count - 1, kernels.END])
        tail = self._tail(said)
        room = size + SLACK * count + 256 * len(self._fields) + len(self._head) + len(tail) + SLACK
        room += past_cache.BLOCK
        out = self._array("out", np.uint8, room)
        footer, end = kernels.assemble(
            bodies,
            self._pages,
            count,
            self._crc32_table,
            known,
            self._names,
            self._name_ends,
            self._head,
            rows,
            out,
        )
        after = end + len(tail) + 8
        whole = memoryview(out)  # type: ignore[arg-type]
        whole[end : after - 8] = tail
        whole[after - 8 : after] = int(after - 8 - footer).to_bytes(4, "little") + b"PAR1"
        # Nobody asks for what stands between the last page and the footer.
        empty = -after % past_cache.BLOCK
        whole[footer + empty : after + empty] = whole[footer:after]
        whole[footer - 4 : footer + empty] = bytes(empty + 4)
        return whole[: after + empty], footer + empty

    def _tail(self, said: dict[str, str]) -> bytes:
        """The end of the footer: metadata, and what all files end with."""
        pairs = [b"\x18" + text(key) + b"\x18" + text(value) + b"\0" for key, value in said.items()]
        return b"\x19" + listed(pairs) + self._last

    def _array(self, name: str, dtype: type, count: int) -> npt.NDArray[Any]:
        """Room for so many values at least."""
        found = self._room.get(name)
        if found is None or len(found) < count:
            self._room[name] = found = np.empty(count + count // 2, dtype=dtype)
        return found


class _Memory(NamedTuple):
    """What kernels take of a shard: values of columns and lists, which rows are valid, where lists begin."""

    all: list[npt.NDArray[Any]]
    valid: list[Bytes]
    begins: list[npt.NDArray[np.int32]]


def _of_columns(columns: Columns) -> _Memory:
    """The memory of columns."""
    valid = columns.row_begin[1:] > columns.row_begin[:-1]
    first, last = columns.first, columns.last
    if not valid.all():
        first, last = first[valid], last[valid]
        for array in (first, last):
            array.setflags(write=False)
    flat = (columns.job_id, first, last, columns.cores, columns.rejected, columns.offset, columns.bytes)
    lists = (columns.time, columns.limit, columns.used, columns.max_used, columns.swap, columns.core)
    row = columns.row_begin
    begins = [row, row, row, columns.max_begin, row, columns.core_begin]
    return _Memory([*flat, columns.crc32.view(np.int32), *lists], [valid.view(np.uint8)] * 2, begins)


def _of_table(table: pa.Table, fields: list[tuple[str, bool, bool, type, int]]) -> _Memory:
    """The memory of a table."""
    found = _Memory([], [], [])
    rows = table.num_rows
    for (name, lists, nullable, dtype, size), column in zip(fields, table.columns, strict=True):
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if isinstance(array, pa.ChunkedArray):
            raise ValueError(f"{name} is too large for a shard")
        nulls, offset, buffers = array.null_count, array.offset, array.buffers()
        if nulls > 0 and not nullable:
            raise ValueError(f"{name} has nulls")
        if not lists:
            values = _values(buffers[1], dtype, size, offset, rows)
            if nullable:
                found.valid.append(_valid(buffers[0], nulls, offset, rows))
                if nulls > 0:
                    values = values[found.valid[-1].view(np.bool_)]
                    values.setflags(write=False)
            found.all.append(values)
            continue
        begins = np.frombuffer(buffers[1], dtype=np.int32, count=rows + 1, offset=4 * offset)
        begins.setflags(write=False)
        items = array.values
        if items.null_count > 0:
            raise ValueError(f"{name} has nulls")
        first, last = int(begins[0]), int(begins[-1])
        found.begins.append(begins)
        found.all.append(_values(buffers[3], dtype, size, items.offset + first, last - first))
    return found


def _field(field: pa.Field) -> tuple[str, bool, bool, type, int]:
    """What `_of_table` has to know of a field: name, whether it has lists, and nulls, type and size of its values.

    The kernels take 32 bits with a sign, as Parquet does.
    """
    lists = pa.types.is_list(field.type)
    size = (field.type.value_type if lists else field.type).bit_width // 8
    return field.name, lists, field.nullable, {8: np.int64, 4: np.int32, 2: np.uint16}[size], size


def _values(buffer: pa.Buffer | None, dtype: type, size: int, begin: int, count: int) -> npt.NDArray[Any]:
    """Values of a buffer, not writable: kernels are compiled for one kind only."""
    if count == 0 or buffer is None:
        found: npt.NDArray[Any] = np.empty(0, dtype=dtype)
    else:
        found = np.frombuffer(buffer, dtype=dtype, count=count, offset=begin * size)
    found.setflags(write=False)
    return found


def _valid(buffer: pa.Buffer | None, nulls: int, begin: int, rows: int) -> Bytes:
    """Which rows are not null, one byte each."""
    if nulls == 0 or buffer is None:
        return np.ones(rows, dtype=np.uint8)
    return np.unpackbits(np.frombuffer(buffer, dtype=np.uint8), bitorder="little")[begin : begin + rows]


def _read_only(data: bytes) -> Bytes:
    return np.frombuffer(data, dtype=np.uint8)


def varint(value: int) -> bytes:
    """A number, seven bits a byte, the lowest first.

    Parameters
    ----------
    value
        Not negative.

    Returns
    -------
    bytes
        As the compact protocol writes it.
    """
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def signed(value: int) -> bytes:
    """A number, its sign the lowest bit.

    Parameters
    ----------
    value
        Not negative, here.

    Returns
    -------
    bytes
        As the compact protocol writes it.
    """
    return varint(value << 1)


def text(value: str) -> bytes:
    """A text behind its size.

    Parameters
    ----------
    value
        Any.

    Returns
    -------
    bytes
        As the compact protocol writes it.
    """
    encoded = value.encode()
    return varint(len(encoded)) + encoded


def listed(structures: list[bytes]) -> bytes:
    """Structures as a list.

    Parameters
    ----------
    structures
        Encoded.

    Returns
    -------
    bytes
        As the compact protocol writes it.
    """
    count = len(structures)
    head = bytes([count << 4 | 12]) if count < 15 else b"\xfc" + varint(count)
    return head + b"".join(structures)


def _schema(schema: pa.Schema) -> bytes:
    """All elements of the schema, as the footer lists them."""
    found = [_element("schema", repetition=REQUIRED, children=len(schema))]
    for field in schema:
        if not pa.types.is_list(field.type):
            found.append(_element(field.name, field.type, OPTIONAL if field.nullable else REQUIRED))
            continue
        found.append(_element(field.name, repetition=REQUIRED, children=1, converted=LIST_GROUP))
        found.append(_element("list", repetition=REPEATED, children=1))
        found.append(_element("element", field.type.value_type, REQUIRED))
    return listed(found)


def _element(
    name: str, kind: pa.DataType | None = None, repetition: int = REQUIRED, children: int = 0, converted: int = -1
) -> bytes:
    """One element of the schema: a group of others, or values of a type."""
    logical = b"\x3c\0\0" if converted == LIST_GROUP else b""  # a union: the third is LIST, which says no more
    if kind in UINTS:
        converted, width = UINTS[kind]
        logical = b"\xac\x13" + bytes([width]) + b"\x12\0\0"  # the tenth is INTEGER: of so many bits, not signed
    numbers = {
        1: -1 if kind is None else INT64 if kind.bit_width == 64 else INT32,
        3: repetition,
        5: children or -1,
        6: converted,
    }
    found, before = b"", 0
    for number, value in numbers.items():
        if number == 5:
            found += bytes([(4 - before) << 4 | 8]) + text(name)
            before = 4
        if value >= 0:
            found += bytes([(number - before) << 4 | 5]) + signed(value)
            before = number
    if logical:
        found += bytes([(10 - before) << 4 | 12]) + logical
    return found + b"\0"


def _name(field: pa.Field) -> bytes:
    """The type of a column, one byte, and the field of the footer that says which column it is."""
    lists = pa.types.is_list(field.type)
    kind = field.type.value_type if lists else field.type
    path = [field.name, "list", "element"] if lists else [field.name]
    physical = INT64 if kind.bit_width == 64 else INT32
    return bytes([physical, 0x19, len(path) << 4 | 8]) + b"".join(text(part) for part in path)
