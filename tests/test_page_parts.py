"""Each kernel of SQLite's pages by itself, as plain Python, against the format's description and Python's own ways.

Compiled they are tried together, by `test_pages` against SQLite. `scripts/test` runs this without the JIT.
"""

import itertools
import random
import sqlite3
import struct
import zlib

import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobeff.store import format_kernels, record_kernels, row_sums, sum_kernels, table_kernels
from jobeff.store.crc_kernels import crc32_table

pytestmark = [
    pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="needs NUMBA_DISABLE_JIT=1; scripts/test runs it so"),
    pytest.mark.filterwarnings("ignore:overflow encountered"),
]

EDGES = sorted({0, *(2**bits + step for bits in range(63) for step in (-1, 0, 1))})
INTEGERS = [*EDGES, 2**63 - 1, *(-value for value in EDGES), -(2**63)]


def array(data):
    return np.frombuffer(bytes(data), dtype=np.uint8)


def varint(value):
    """As https://www.sqlite.org/fileformat2.html has it."""
    value %= 2**64
    if value >= 2**56:
        head = value >> 8
        return bytes([*((head >> 7 * i & 127) | 128 for i in range(7, -1, -1)), value & 255])
    groups = [value & 127]
    while value := value >> 7:
        groups.insert(0, value & 127 | 128)
    return bytes(groups)


def test_varints():
    for value in INTEGERS:
        code = varint(value)
        for before, behind in itertools.product((b"", b"\xff\x80"), (b"", b"\x80", b"\0" * 9)):
            data = array(before + code + behind)
            assert format_kernels.get_varint(data, len(before)) == (value, len(before) + len(code)), value
    assert format_kernels.get_varint(array(b"\x81\x82"), 0) == (0, 2), "cut"
    assert format_kernels.get_varint(array(b""), 0) == (0, 0)
    for value in [value for value in EDGES if value < 2**28]:
        out = np.full(9, 0xAA, dtype=np.uint8)
        end = format_kernels.put_varint(out, 2, value)
        assert bytes(out) == b"\xaa\xaa" + varint(value) + b"\xaa" * (9 - end)
        assert format_kernels.varint_size(value) == end - 2 == len(varint(value))


def test_numbers_of_bytes():
    chance = random.Random(1)
    for size in range(1, 9):
        data = chance.randbytes(size)
        assert format_kernels.big_endian(array(b"x" + data + b"y"), 1, size) == int.from_bytes(
            data, "big", signed=size == 8
        )
        out = np.full(12, 0xAA, dtype=np.uint8)
        format_kernels.put_big_endian(out, 2, size, int.from_bytes(data, "big", signed=True))
        assert bytes(out) == b"\xaa\xaa" + data + b"\xaa" * (10 - size)
    for value in INTEGERS:
        out = np.full(12, 0xAA, dtype=np.uint8)
        format_kernels.put_eight(out, 2, np.int64(value))
        assert bytes(out) == b"\xaa\xaa" + value.to_bytes(8, "big", signed=True) + b"\xaa\xaa"


def test_copies():
    source = array(random.Random(2).randbytes(80))
    for size in range(40):
        out = np.full(60, 0xAA, dtype=np.uint8)
        format_kernels.copy(source, 3, size, out, 5)
        assert bytes(out) == b"\xaa" * 5 + bytes(source[3 : 3 + size]) + b"\xaa" * (55 - size)


SIZES = [0, 1, 2, 3, 4, 6, 8, 8, 0, 0]


def serial_of(value):
    """The smallest type that holds an integer."""
    if value in (0, 1):
        return 8 + value
    return next(s for s, size in enumerate(SIZES[:7]) if size and -(2 ** (8 * size - 1)) <= value < 2 ** (8 * size - 1))


def test_types_of_values():
    for serial in range(40):
        assert serial in (10, 11) or format_kernels.serial_size(serial) == (
            SIZES[serial] if serial < 10 else (serial - 12) // 2
        )
    serials, bodies = np.empty((2, len(INTEGERS)), dtype=np.int64)
    record_kernels.form_integers(np.array(INTEGERS, dtype=np.int64), np.int64(len(INTEGERS)), serials, bodies)
    for value, serial in zip(INTEGERS, serials.tolist(), strict=True):
        assert serial == serial_of(value), value
        size = SIZES[serial]
        for behind in (b"", b"\x80\xff" * 5):
            data = array(b"\x80" + (value.to_bytes(size, "big", signed=True) if size else b"") + behind)
            assert format_kernels.signed(data, 1, serial) == value
            assert format_kernels.number_at(data, 1, serial) == value
    for value in (0.1, -1e300, float("inf")):
        bits = struct.unpack("<q", struct.pack("<d", value))[0]
        for behind in (b"", b"\xff" * 9):
            assert format_kernels.number_at(array(struct.pack(">d", value) + behind), 0, 7) == bits


@given(st.lists(st.integers(0, 30), max_size=8, unique=True), st.integers(-2, 32), st.integers(0, 5))
def test_searching(numbers, low, more):
    numbers = sorted(numbers)
    found = table_kernels.any_between(np.array(numbers, dtype=np.int64), low, low + more)
    assert found == any(low <= number <= low + more for number in numbers)
    at = sum_kernels.find_key(np.array(numbers, dtype=np.int64), low)
    assert at == (numbers.index(low) if low in numbers else len(numbers))


@pytest.mark.parametrize("usable", [512, 4096, 65536])
def test_how_much_of_a_payload_is_in_the_page(usable):
    """X, M and K as the format's description has them."""
    for largest in (usable - 35, (usable - 12) * 64 // 255 - 23):
        least = (usable - 12) * 32 // 255 - 23
        for length in (*range(largest - 3, largest + 5), *range(usable - 8, usable + 8), 3 * usable + least, 10**6):
            rest = least + (length - least) % (usable - 4)
            expected = length if length <= largest else rest if rest <= largest else least
            assert table_kernels.local_size(length, usable, largest) == expected


def test_beginnings_of_texts():
    for text, word in itertools.product((b"", b"c", b"c1", b"c12", b"d1"), (b"", b"c", b"c1", b"d")):
        data = array(b"zz" + text + b"12")
        assert table_kernels.begins_with(data, 2, len(text), array(word), False) == text.startswith(word)
        assert table_kernels.begins_with(data, 2, len(text), array(word), True) == (text == word)


cells = st.one_of(
    st.none(), st.sampled_from(INTEGERS), st.floats(allow_nan=False), st.text(max_size=30), st.just("x" * 300)
)


def record(row):
    """A row as SQLite stores it."""
    header, body = b"", b""
    for cell in row:
        if cell is None:
            header += varint(0)
        elif isinstance(cell, int):
            header += varint(serial_of(cell))
            size = SIZES[serial_of(cell)]
            body += cell.to_bytes(size, "big", signed=True) if size else b""
        elif isinstance(cell, float):
            header += varint(7)
            body += struct.pack(">d", cell)
        else:
            header += varint(13 + 2 * len(cell.encode()))
            body += cell.encode()
    size = len(header) + 1 if len(header) < 127 else len(header) + 2
    return varint(size) + header + body


@example([5, None, 0.5, "x", 2**40, None, -0.25], 0)
@example(["x", 5, None, 0.5, "yy", 2**40, None, -0.25], 1)
@example([None, "x", 5, None, 0.5, "yy", 2**40, None, "zzz"] * 2, 2)
@given(st.lists(cells, min_size=1, max_size=20), st.integers(0, 9))
def test_records_and_their_checksums(row, behind):
    data = record(row)
    whole = array(b"\xff" * 3 + data + b"\x85" * behind)
    types, places = np.zeros(len(row), dtype=np.int64), np.zeros(len(row), dtype=np.int64)
    assert sum_kernels.find_fields(whole, 3, 3 + len(data), types, places)
    fields = np.arange(len(row))
    found = sum_kernels.row_checksum(
        whole, types, places, fields, np.zeros(len(row), dtype=np.bool_), 77, np.empty(1), crc32_table()
    )
    assert found == row_sums.checksum(*row)
    fields, numbered = np.array([-1, *fields]), [77, *row]
    found = sum_kernels.row_checksum(
        whole, types, places, fields, np.zeros(len(fields), dtype=np.bool_), 77, np.empty(1), crc32_table()
    )
    assert found == row_sums.checksum(*numbered)
    # One field more or less is not the same; neither is a record that is cut.
    for other in (len(row) - 1, len(row) + 1):
        assert not sum_kernels.find_fields(
            whole, 3, 3 + len(data), np.zeros(other, dtype=np.int64), np.zeros(other + 1, dtype=np.int64)
        )
    assert not sum_kernels.find_fields(whole, 3, 2 + len(data), types, places)


def test_whole_numbers_of_a_column_of_reals():
    """SQLite stores them as integers; their checksum is that of the real."""
    for value in (0.0, 1.0, -5.0, 1e6, 2.0**40):
        whole, types, places = (
            array(record([int(value)]) + bytes(9)),
            np.zeros(1, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
        )
        assert sum_kernels.find_fields(whole, 0, len(whole) - 9, types, places)
        found = sum_kernels.row_checksum(
            whole, types, places, np.array([0]), np.array([True]), 1, np.empty(1), crc32_table()
        )
        assert found == row_sums.checksum(value)


@pytest.mark.parametrize("serial", [10, 11, 12, 14, 40])
def test_records_with_bytes_are_no_rows(serial):
    data = array(bytes([2, serial]) + bytes(format_kernels.serial_size(serial)))
    assert not sum_kernels.find_fields(data, 0, len(data), np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64))


@given(st.binary(max_size=40), st.integers(0, 5))
def test_checksums(data, begin):
    table = crc32_table()
    crc = sum_kernels.crc32_text(np.uint64(0xFFFFFFFF), array(b"x" * begin + data + b"y"), begin, len(data), table)
    assert int(crc) ^ 0xFFFFFFFF == zlib.crc32(data)
    for value in (0, 1, 2**31, 2**32 - 1, 2**32, 2**63, 0x0102030405060708):
        expected = zlib.crc32(value.to_bytes(8, "little"), zlib.crc32(data)) ^ 0xFFFFFFFF
        assert sum_kernels.crc32_eight(crc, np.uint64(value), table) == expected


def test_names_of_blocks():
    """What is looked for by its number has the number of the parts it is made of; others have others.

    Where a part is no text there is nothing.
    """
    rows = [("c1", 5, "2021-06-02"), ("c1", 5, "2021-07"), ("c", 5, "2021-06"), ("c1", None, ""), ("", 1, "c1")]
    numbers = set()
    for row in rows:
        data = array(record(row))
        types, places = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
        assert sum_kernels.find_fields(data, 0, len(data), types, places)
        for parts, lengths in (([0, 2], [-1, 7]), ([0], [-1]), ([2], [4]), ([1, 0], [-1, 2])):
            names = [
                (row[part] if isinstance(row[part], str) else "")[: length if length >= 0 else None]
                for part, length in zip(parts, lengths, strict=True)
            ]
            key = sum_kernels.block_key(data, types, places, np.array(parts), np.array(lengths))
            assert key == sum_kernels.name_key(array("/".join(names).encode()))
            assert 0 <= key < 2**62
            numbers.add(("/".join(names), int(key)))
    assert len({key for _, key in numbers}) == len({name for name, _ in numbers})


@pytest.mark.parametrize("page_size", [512, 4096])
def test_payloads_that_go_on_elsewhere(tmp_path, page_size):
    """Of every length around those at which another page is needed."""
    path = tmp_path / "file"
    lengths = [*range(page_size - 40, page_size - 25), *range(2 * page_size - 60, 2 * page_size + 9), 5 * page_size]
    connection = sqlite3.connect(path)
    connection.execute(f"pragma page_size = {page_size}")
    connection.execute("create table t (n integer primary key, x text)")
    connection.executemany("insert into t values (?, ?)", ((n, chr(97 + n % 26) * n) for n in lengths))
    connection.commit()
    connection.close()
    data = array(path.read_bytes())
    found = {}
    for page in range(1, len(data) // page_size):
        base = page * page_size
        if data[base] != format_kernels.TABLE_LEAF:
            continue
        for cell in range(format_kernels.big_endian(data, base + 3, 2)):
            at = base + format_kernels.big_endian(data, base + 8 + 2 * cell, 2)
            length, at = format_kernels.get_varint(data, at)
            number, at = format_kernels.get_varint(data, at)
            local = table_kernels.local_size(length, page_size, page_size - 35)
            whole = data[at : at + length]
            if local < length:
                whole = table_kernels.whole_payload(data, at, length, local, page_size, len(data) // page_size)
                assert len(table_kernels.whole_payload(data, at, length, local, page_size, 1)) == 0, (
                    "a chain that leads nowhere"
                )
            found[number] = bytes(whole[-number:])
    assert found == {n: (chr(97 + n % 26) * n).encode() for n in lengths}
