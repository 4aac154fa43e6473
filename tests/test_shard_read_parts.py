"""Each kernel that reads a shard's pages, by itself and as plain Python, of what a writer of a few lines has written.

Compiled they are tried together, by `test_shards` against pyarrow. `scripts/test` runs this without the JIT.
"""

import itertools
import struct

import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobeff.store import shard_kernels as kernels
from jobeff.store.shard_kernels import BAD

pytestmark = [
    pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="needs NUMBA_DISABLE_JIT=1; scripts/test runs it so"),
    pytest.mark.filterwarnings("ignore:overflow encountered"),
]

EDGES = [0, 1, 127, 128, 16383, 16384, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1]
INT64 = st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from([*EDGES, *(-edge for edge in EDGES), -(2**63)]))
SPARE = b"\xff" * 8
"""Behind what is read stand at least so many bytes: the end of the file."""


def array(data):
    return np.frombuffer(bytes(data), dtype=np.uint8)


def varint(value):
    value %= 2**64
    groups = [value & 127]
    while value := value >> 7:
        groups[-1] |= 128
        groups.append(value & 127)
    return bytes(groups)


def signed(value):
    return varint(2 * value if value >= 0 else -2 * value - 1)


# Parquet's headers


@given(INT64, st.binary(max_size=3), st.binary(max_size=9))
def test_numbers(value, before, behind):
    for code, read in ((varint(value), kernels.get_varint), (signed(value), kernels.get_signed)):
        end = len(before) + len(code)
        assert read(array(before + code + behind), len(before)) == (value, end)
        found, at = kernels.get_varint(array(before + code[:-1]), len(before))  # cut: it ends with what is there
        assert at == end - 1
        assert int(found) % 2**64 == sum((byte & 127) << (7 * i) for i, byte in enumerate(code[:-1])) % 2**64


def test_numbers_that_do_not_end():
    assert kernels.get_varint(array(b"\x81" * 30), 2) == (sum(1 << (7 * i) for i in range(9)) - 2**63, 12)


TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


def field(before, number, kind):
    step = number - before
    return bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + signed(number)


def structure(*fields):
    """Fields of (number, kind, bytes)."""
    data, before = b"", 0
    for number, kind, content in fields:
        data += field(before, number, kind) + content
        before = number
    return data + b"\0"


def listed(kind, contents):
    count = len(contents)
    head = bytes([count << 4 | kind]) if count < 15 else bytes([0xF0 | kind]) + varint(count)
    return head + b"".join(contents)


@given(st.integers(0, 300), st.integers(-40, 300), st.integers(1, 12), st.binary(max_size=2))
def test_heads_of_fields(before, number, kind, behind):
    code = field(before, number, kind)
    assert kernels.get_field(array(b"x" + code + behind), 1, before) == (kind, number, 1 + len(code))


def test_the_end_of_a_structure():
    assert kernels.get_field(array(b"\0\x15"), 0, 7) == (0, 7, 1)
    assert kernels.get_field(array(b"\x15"), 1, 7) == (0, 0, 1)
    assert kernels.get_field(array(b"\x15"), 0, 7) == (5, 8, 1)
    assert kernels.get_field(array(b"\x05"), 0, 7) == (5, 0, 1)


@given(st.integers(0, 400), st.integers(1, 12))
def test_heads_of_lists(count, kind):
    code = listed(kind, [b""] * count)
    assert kernels.get_list(array(b"x" + code + b"\x11"), 1) == (kind, count, 1 + len(code))
    assert kernels.get_list(array(code), len(code)) == (0, 0, len(code))


simple = st.one_of(
    st.tuples(st.just(BYTE), st.binary(min_size=1, max_size=1)),
    st.tuples(st.sampled_from([I16, I32, I64]), INT64.map(signed)),
    st.tuples(st.just(DOUBLE), st.binary(min_size=8, max_size=8)),
    st.tuples(st.just(BINARY), st.binary(max_size=200).map(lambda data: varint(len(data)) + data)),
)


def lists_of(values):
    """Lists of bools, which take a byte there, and of one kind each."""
    same = values.flatmap(lambda one: st.integers(0, 20).map(lambda count: (one[0], [one[1]] * count)))
    bools = st.tuples(st.sampled_from([TRUE, FALSE]), st.lists(st.sampled_from([b"\1", b"\2"]), max_size=20))
    return st.one_of(same, bools).flatmap(
        lambda some: st.sampled_from([LIST, SET]).map(lambda kind: (kind, listed(*some)))
    )


def structures_of(values):
    bools = st.tuples(st.sampled_from([TRUE, FALSE]), st.just(b""))
    fields = st.lists(st.tuples(st.integers(1, 40), st.one_of(values, bools)), max_size=5)
    return fields.map(lambda some: (STRUCT, structure(*((number, *one) for number, one in some))))


values = st.recursive(simple, lambda inner: st.one_of(lists_of(inner), structures_of(inner)), max_leaves=8)


@given(values, st.binary(max_size=2), st.binary(max_size=12))
def test_values_are_skipped(value, before, behind):
    kind, code = value
    assert kernels.skip(array(before + code + behind), len(before), kind) == len(before) + len(code)


def test_what_cannot_be_skipped_is_the_end():
    for depth, expected in ((kernels.DEPTH - 1, kernels.DEPTH - 1), (kernels.DEPTH, 100)):
        nested = bytes([1 << 4 | LIST]) * (depth - 1) + bytes([0 << 4 | LIST])
        assert kernels.skip(array(nested + b"\x11" * (100 - depth)), 0, LIST) == expected
    assert kernels.skip(array(b"\0" * 50), 3, MAP) == 50
    assert kernels.skip(array(varint(5) + b"x" * 5), 0, BINARY) == 6
    assert kernels.skip(array(varint(5) + b"x" * 4), 0, BINARY) == 5
    for size in (-1, 2**40):
        assert kernels.skip(array(varint(size) + b"x" * 30), 0, BINARY) == len(varint(size)) + 30
    assert kernels.skip(array(b""), 0, I32) == 0


def i32(number, value):
    return number, I32, signed(value)


def i64(number, value):
    return number, I64, signed(value)


STATISTICS = structure((1, BINARY, varint(2) + b"ab"), i64(3, 7), (7, TRUE, b""), (8, FALSE, b""))


def meta(codec, count, data_page, dictionary, more=()):
    """What Parquet says of a column's chunk, in the order of a writer."""
    fields = [
        i32(1, 2), (2, LIST, listed(I32, [signed(8), signed(0)])), (3, LIST, listed(BINARY, [varint(3) + b"abc"])),
        i32(4, codec), i64(5, count), i64(6, 11), i64(7, 13), i64(9, data_page),
        *([i64(11, dictionary)] if dictionary is not None else []), (12, STRUCT, STATISTICS), *more,
    ]  # fmt: skip
    return structure(*fields)


def chunk(*given, before=(), behind=()):
    return structure(*before, i64(2, 4), (3, STRUCT, meta(*given)), *behind)


chunks = st.tuples(
    st.sampled_from([0, 0, 0, 1, 6]), st.integers(0, 2**40), st.integers(4, 2**40), st.none() | st.integers(4, 2**40)
)


def place(codec, _, data_page, dictionary):
    return BAD if codec else min(data_page, data_page if dictionary is None else dictionary)


@given(chunks)
def test_where_a_column_lies(given):
    for before, behind in (((), ()), (((1, BINARY, varint(1) + b"x"),), (i64(4, 9), i32(5, 2)))):
        code = chunk(*given, before=before, behind=behind)
        found = np.full((3, 2), 77, dtype=np.int64)
        assert kernels.column_chunk(array(b"z" + code + b"zz"), 1, found, 1) == 1 + len(code)
        assert found.tolist() == [[77, 77], [place(*given), given[1]], [77, 77]]


def test_a_field_of_another_type_is_no_description():
    found = np.full((1, 2), 77, dtype=np.int64)
    code = structure((3, BINARY, varint(2) + b"ab"), (4, STRUCT, STATISTICS))
    assert kernels.column_chunk(array(code), 0, found, 0) == len(code)
    assert found.tolist() == [[2**62, 77]]


def footer(rows, groups, before=()):
    return structure(
        *before, i32(1, 2), (2, LIST, listed(STRUCT, [structure(i32(1, 3), (4, BINARY, varint(1) + b"x"))] * 3)),
        i64(3, rows), (4, LIST, listed(STRUCT, groups)), (6, BINARY, varint(4) + b"mine"),
    )  # fmt: skip


def group(columns):
    return structure((1, LIST, listed(STRUCT, [chunk(*one) for one in columns])), i64(2, 99), i64(3, 12))


@given(st.lists(chunks, min_size=1, max_size=17), st.integers(0, 2**40))
def test_where_columns_lie(columns, rows):
    data = array(b"PAR1" + footer(rows, [group(columns)]) + b"PAR1")
    found = np.full((len(columns), 2), 77, dtype=np.int64)
    assert kernels.column_chunks(data, 4, found) == rows
    assert found.tolist() == [[place(*one), one[1]] for one in columns]
    for other in (len(columns) - 1, len(columns) + 1):
        assert kernels.column_chunks(data, 4, np.zeros((other, 2), dtype=np.int64)) == BAD


@pytest.mark.parametrize("groups", [0, 2])
def test_only_one_group_of_rows_is_read(groups):
    columns = [(0, 1, 4, None)]
    data = array(footer(5, [group(columns)] * groups))
    assert kernels.column_chunks(data, 0, np.zeros((1, 2), dtype=np.int64)) == BAD


def test_no_columns_are_no_shard():
    for code in (b"", b"\0", structure(i64(3, 5))):
        assert kernels.column_chunks(array(code), 0, np.zeros((1, 2), dtype=np.int64)) == BAD
    code = structure((4, LIST, listed(STRUCT, [group([(0, 1, 4, None)])])))
    assert kernels.column_chunks(array(code), 0, np.zeros((1, 2), dtype=np.int64)) == BAD, "nobody said how many rows"


def header(kind, size, count, encoding, where=5, more=()):
    inner = structure(i32(1, count), i32(2, encoding), i32(3, 3), (5, STRUCT, STATISTICS), (6, TRUE, b""), *more)
    return structure(i32(1, kind), i32(2, size + 9), i32(3, size), i32(4, -5), (where, STRUCT, inner))


def read_header(code, room, at=0):
    page = np.full(5, 77, dtype=np.int64)
    kernels.page_header(array(b"y" * at + code + b"\xff" * room), at, page)
    return page.tolist()


@pytest.mark.parametrize(("kind", "where"), [(0, 5), (2, 7)])
@given(size=st.integers(0, 300), count=st.integers(0, 2**28), encoding=st.integers(0, 9), at=st.integers(0, 3))
def test_headers_of_pages(kind, where, size, count, encoding, at):
    for more in ((), ((9, FALSE, b""), i32(12, 7))):
        code = header(kind, size, count, encoding, where, more)
        body = at + len(code)
        assert read_header(code, size + 8, at) == [kind, count, encoding, body, body + size]
    code = code[:-1] + field(where, where + 1, TRUE) + field(where + 1, where + 2, FALSE) + b"\0"
    assert read_header(code, size + 8)[0] == kind


def test_headers_that_are_not_ours():
    assert read_header(header(0, 30, 5, 8), 38)[0] == 0
    assert read_header(header(0, 30, 5, 8), 37)[0] == BAD
    assert read_header(header(0, 0, 0, 8), 8)[0] == 0
    assert read_header(header(0, -1, 5, 8), 99)[0] == BAD
    assert read_header(header(0, 1, -1, 8), 99)[0] == BAD
    assert read_header(header(0, 1, 2**28, 8), 99)[0] == 0
    assert read_header(header(0, 1, 2**28 + 1, 8), 99)[0] == BAD
    for kind in (-1, 1, 3):
        assert read_header(header(kind, 1, 1, 8), 99)[0] == BAD
    for where in (4, 6, 8):  # those of other kinds of pages, with other fields
        assert read_header(header(0, 1, 5, 8, where), 99)[:3] == [0, 0, BAD]
    assert read_header(b"\0", 99) == [BAD, 0, BAD, 1, 1]


# Values


def test_loading():
    data = array(bytes(range(200, 240)))
    for at in range(9):
        for size in range(9):
            assert kernels.load(data, at, size) == int.from_bytes(data[at : at + size], "little", signed=size == 8)
        assert kernels.load8(data, at) == int.from_bytes(data[at : at + 8], "little")


def packed(numbers, width):
    """Bit by bit, the lowest first; whole bytes."""
    bits = sum(number << (width * i) for i, number in enumerate(numbers))
    return bits.to_bytes((len(numbers) * width + 7) // 8, "little")


@given(st.integers(1, 16), st.data())
def test_groups_of_indexes(width, data):
    numbers = data.draw(st.lists(st.integers(0, 2**width - 1), min_size=8, max_size=8 * 3))
    numbers = numbers[: len(numbers) // 8 * 8]
    dictionary = (np.arange(2**width) * 3 - 100).astype(np.int32)
    out = np.full(len(numbers) + 4, 77, dtype=np.int64)
    text = array(b"\xff\xff" + packed(numbers, width) + SPARE)
    most = kernels.unpack(text, 2, len(numbers) // 8, width, dictionary, out, 3)
    assert most == max(numbers)
    assert out.tolist() == [77] * 3 + [3 * number - 100 for number in numbers] + [77]


@pytest.mark.parametrize("width", range(1, 17))
@pytest.mark.parametrize("place", range(8))
def test_each_index_of_a_group(width, place):
    numbers = [0] * 8
    numbers[place] = 2**width - 1
    out = np.zeros(8, dtype=np.int64)
    dictionary = np.arange(2**width, dtype=np.int32)
    assert kernels.unpack(array(packed(numbers, width) + SPARE), 0, 1, width, dictionary, out, 0) == 2**width - 1
    assert out.tolist() == numbers


def run(count, value, width):
    return varint(2 * count) + value.to_bytes((width + 7) // 8, "little")


def group_of(numbers, width):
    whole = [*numbers, *[0] * (-len(numbers) % 8)]
    return varint(2 * (len(whole) // 8) + 1) + packed(whole, width)


@st.composite
def mixed(draw, width, largest):
    """Runs and groups by turns: bytes and numbers."""
    data, numbers = b"", []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            value, count = draw(st.integers(0, largest)), draw(st.integers(1, 40))
            data += run(count, value, width)
            numbers += [value] * count
        else:
            some = draw(st.lists(st.integers(0, largest), min_size=8, max_size=24))
            some = some[: len(some) // 8 * 8]
            data += group_of(some, width)
            numbers += some
    return data, numbers


def read_runs(data, width, known, count, room=None, end=None):
    """Three bytes and places further on; the values are ten times the indexes."""
    dictionary = (10 * np.arange(room if room is not None else 2**width)).astype(np.int32)
    out = np.full(count + 5, 77, dtype=np.int64)
    text = array(b"zzz" + data + SPARE)
    end = 3 + len(data) if end is None else 3 + end
    ok = kernels.runs(text, 3, end, width, dictionary, np.int64(known), out, 3, count)
    assert out[:3].tolist() == [77] * 3
    assert out[3 + count :].tolist() == [77] * 2
    return out[3 : 3 + count].tolist() if ok else None


@given(st.integers(1, 18).flatmap(lambda w: st.tuples(st.just(w), mixed(w, 2**w - 1))), st.integers(0, 7))
def test_runs(given, less):
    width, (data, numbers) = given
    count = len(numbers)
    expected = [10 * number for number in numbers]
    assert read_runs(data, width, 2**width, count) == expected
    assert read_runs(data, width, max(numbers) + 1, count) == expected
    assert read_runs(data, width, max(numbers), count) is None, "an index that the dictionary does not have"
    fewer = max(1, count - less)
    assert read_runs(data, width, 2**width, fewer) == expected[:fewer]
    assert read_runs(data, width, 2**width, count, end=len(data) - 1) is None
    assert read_runs(data, width, 2**width, count + 1) is None
    assert read_runs(data, width, 2**width, count, room=2**width - 1) is None


def test_runs_of_no_bits():
    assert read_runs(varint(2 * 5), 0, 1, 5) == [0] * 5
    assert read_runs(varint(2 * 5), 0, 0, 5) is None
    assert read_runs(b"", 1, 2, 0) == []


def test_runs_that_are_none():
    assert read_runs(run(0, 1, 3) + run(5, 1, 3), 3, 8, 5) is None
    assert read_runs(varint(1) + run(5, 1, 3), 3, 8, 5) is None
    assert read_runs(run(2**61, 1, 3), 3, 8, 5) == [10] * 5
    assert read_runs(varint(-2) + b"\1", 3, 8, 5) is None
    assert read_runs(varint(-1) + b"\1" * 90, 3, 8, 5) is None
    for groups, ok in ((5 + 7, True), (5 + 8, False)):  # so many more than there are values are no groups of ours
        found = read_runs(varint(2 * groups + 1) + packed([1] * 8 * groups, 3), 3, 8, 5)
        assert found == ([10] * 5 if ok else None)


def levels_read(function, data, count, *arguments):
    return function(array(b"zz" + data + SPARE), 2, 2 + len(data), count, *arguments)


@given(mixed(1, 1), st.integers(0, 7))
def test_counting_levels(given, less):
    data, bits = given
    fewer = max(1, len(bits) - less)
    assert levels_read(kernels.ones, data, len(bits)) == sum(bits)
    assert levels_read(kernels.ones, data, fewer) == sum(bits[:fewer])
    assert levels_read(kernels.ones, data, len(bits) + 1) == BAD
    assert levels_read(kernels.ones, data[:-1], len(bits)) == BAD


@given(mixed(1, 1), st.integers(0, 7), st.integers(0, 3), st.integers(0, 9))
@example((group_of([1] * 16 + [0] * 8, 1), [1] * 16 + [0] * 8), 0, 0, 0)
def test_where_lists_begin(given, less, row, value):
    data, bits = given
    for count in {len(bits), max(1, len(bits) - less)}:
        expected = [value + i for i, bit in enumerate(bits[:count]) if bit == 0]
        begins = np.full(row + len(expected) + 1, 77, dtype=np.int64)
        found = levels_read(kernels.first_levels, data, count, begins, row, value)
        assert found == row + len(expected)
        assert begins.tolist() == [77] * row + expected + [77]
        if expected:
            assert levels_read(kernels.first_levels, data, count, begins[:-1].copy(), row, value) == BAD
    begins = np.zeros(row + len(bits) + 2, dtype=np.int64)
    assert levels_read(kernels.first_levels, data, len(bits) + 1, begins, row, value) == BAD
    assert levels_read(kernels.first_levels, data[:-1], len(bits), begins, row, value) == BAD


def begun(*arguments):
    return kernels.first_levels(*arguments, np.zeros(99, dtype=np.int64), 0, 0)


@pytest.mark.parametrize(("function", "of_ones"), [(kernels.ones, 5), (begun, 0)])
def test_levels_that_are_none(function, of_ones):
    for data in (run(0, 1, 1) + run(5, 1, 1), run(9, 2, 1), varint(1) + run(5, 1, 1), varint(-2) + b"\1", varint(-1)):
        assert levels_read(function, data, 5) == BAD
    assert levels_read(function, b"", 0) == 0
    assert levels_read(function, run(2**61, 1, 1), 5) == of_ones
    # As many groups as there are bytes for, of which only the first counts.
    assert levels_read(function, varint(2 * 3 + 1) + b"\xff" * 3, 5) == of_ones
    assert levels_read(function, varint(2 * 3 + 1) + b"\xff" * 2, 5) == BAD


def differences(numbers, block, parts):
    """Delta binary packed, with the widths that are needed."""
    data = varint(block) + varint(parts) + varint(len(numbers)) + signed(numbers[0] if numbers else 0)
    steps = [b - a for a, b in itertools.pairwise(numbers)]
    size = block // parts
    for begin in range(0, len(steps), block):
        some = steps[begin : begin + block]
        least = min(some)
        pieces = [some[i : i + size] for i in range(0, len(some), size)]
        widths = [max(step - least for step in piece).bit_length() for piece in pieces]
        data += signed(least) + bytes([*widths, *[99] * (parts - len(pieces))])
        for piece, width in zip(pieces, widths, strict=True):
            data += packed([*(step - least for step in piece), *[0] * (size - len(piece))], width)
    return data


def read_deltas(data, count, end=None):
    out = np.full(count + 5, 77, dtype=np.int64)
    end = len(data) if end is None else end
    ok = kernels.deltas(array(b"zz" + data + SPARE), 2, 2 + end, out, 3, count)
    assert out[:3].tolist() == [77] * 3
    assert out[3 + count :].tolist() == [77] * 2
    return out[3 : 3 + count].tolist() if ok else None


shapes = st.sampled_from([(8, 1), (16, 2), (128, 4), (32, 4)])


@given(st.lists(st.integers(-(2**53), 2**53), min_size=1, max_size=50), shapes)
@example([5], (8, 1))
@example([1, 2, 3, 4, 5, 6, 7, 8, 9], (8, 1))
@example([0, 2**54, 0, 2**54], (8, 1))
def test_differences(numbers, shape):
    data = differences(numbers, *shape)
    assert read_deltas(data, len(numbers)) == numbers
    for other in (len(numbers) - 1, len(numbers) + 1):
        assert read_deltas(data, other) is None
    if len(numbers) > 1:
        widest = max(b - a for a, b in itertools.pairwise(numbers))
        least = min(b - a for a, b in itertools.pairwise(numbers))
        assert widest == least or read_deltas(data, len(numbers), len(data) - 1) is None
        head = len(varint(shape[0]) + varint(shape[1]) + varint(len(numbers)) + signed(numbers[0]))
        for end in range(2, head + len(signed(least)) + shape[1]):
            assert read_deltas(data, len(numbers), end) is None


def test_differences_that_are_none():
    assert read_deltas(differences([], 128, 4), 0) == []
    assert read_deltas(differences([7], 128, 4), 0) is None
    assert read_deltas(varint(128) + varint(0) + varint(2) + signed(5), 2) is None
    assert read_deltas(varint(3) + varint(4) + varint(1) + signed(5), 1) is None
    assert read_deltas(varint(4) + varint(4) + varint(1) + signed(5), 1) == [5]
    assert read_deltas(varint(2**28) + varint(1) + varint(1) + signed(5), 1) == [5]
    assert read_deltas(varint(2**28 + 1) + varint(1) + varint(1) + signed(5), 1) is None
    for width, ok in ((56, True), (57, False)):
        block = signed(0) + bytes([width]) + b"\1" + bytes(width - 1)
        assert read_deltas(varint(8) + varint(1) + varint(2) + signed(5) + block, 2) == ([5, 6] if ok else None)


@pytest.mark.parametrize("width", range(57))
def test_differences_of_every_width(width):
    most = 2**width - 1
    numbers = [0, 0, most, most, 2 * most, 2 * most]
    data = differences(numbers, 8, 1)
    assert data[len(data) - width - 1] == width
    assert read_deltas(data, 6) == numbers


# Columns


def page(kind, count, encoding, body, where=5):
    return header(kind, len(body), count, encoding, where) + body


def levels(bits):
    data = group_of(bits, 1)
    return struct.pack("<I", len(data)) + data


def read_column(pages, count, size, lists=0, room=99, rows=None, cut=0):
    """Values of a column, and where its lists begin."""
    data = array(b"PAR1" + b"".join(pages) + SPARE[: 8 - cut])
    found = np.array([[77, 77], [4, count]], dtype=np.int64)
    out = np.full(room, 77, dtype=np.int64)
    begins = np.full(0 if rows is None else rows + 1, 77, dtype=np.int64)
    done = kernels.column(data, found, 1, size, lists, out, begins, np.zeros(2 * count, dtype=np.int32))
    if done == BAD:
        return None
    assert out[done:].tolist() == [77] * (room - done)
    return (out[:done].tolist(), begins.tolist()) if rows is not None else out[:done].tolist()


def plain(numbers, size):
    return b"".join(number.to_bytes(size, "little", signed=True) for number in numbers)


NUMBERS = [5, -1, 2**31 - 1, -(2**31), 0, 7, 7]


@pytest.mark.parametrize("size", [4, 8])
def test_plain_columns(size):
    code = page(0, 7, 0, plain(NUMBERS, size))
    assert read_column([code], 7, size) == NUMBERS
    assert read_column([code, code], 14, size) == NUMBERS * 2
    assert read_column([code, code], 7, size) == NUMBERS
    assert read_column([code], 7, size, room=7) == NUMBERS
    assert read_column([code], 7, size, room=6) is None
    assert read_column([code], 6, size) is None, "a page with more than there is"
    assert read_column([code], 8, size) is None, "less than there is"
    assert read_column([page(0, 8, 0, plain(NUMBERS, size))], 8, size) is None
    assert read_column([page(0, 7, 0, plain(NUMBERS, size) + b"more")], 7, size) == NUMBERS
    assert read_column([page(0, 7, 3, plain(NUMBERS, size))], 7, size) is None, "an encoding that is not ours"
    assert read_column([page(0, 0, 3, b""), code], 7, size) == NUMBERS, "of nothing it does not matter"
    assert read_column([page(1, 7, 0, plain(NUMBERS, size))], 7, size) is None, "another kind of page"


def test_a_column_of_differences():
    code = page(0, 7, 5, differences(NUMBERS, 128, 4))
    assert read_column([code], 7, 8) == NUMBERS
    assert read_column([code, page(0, 7, 0, plain(NUMBERS, 8))], 14, 8) == NUMBERS * 2
    assert read_column([page(0, 6, 5, differences(NUMBERS, 128, 4))], 6, 8) is None


@pytest.mark.parametrize("known", [1, 2, 3, 4, 5, 7])
def test_a_column_with_a_dictionary(known):
    width = max(1, (known - 1).bit_length())
    kept = page(2, known, 0, plain(NUMBERS[:known], 4), where=7)
    indexes = [i % known for i in range(16)]
    code = page(0, 16, 8, bytes([width]) + group_of(indexes, width))
    assert read_column([kept, code], 16, 4) == [NUMBERS[i] for i in indexes]
    assert read_column([kept, code, code], 32, 4) == [NUMBERS[i] for i in indexes] * 2
    assert read_column([code], 16, 4) is None, "there is no dictionary"
    assert read_column([kept, code], 16, 8) is None, "nobody writes one of those"
    assert read_column([page(2, known + 1, 0, plain(NUMBERS[:known], 4), where=7), code], 16, 4) is None
    if known > 1:
        less = page(2, known - 1, 0, plain(NUMBERS[: known - 1], 4), where=7)
        assert read_column([less, code], 16, 4) is None, "an index behind its end"


LISTS = [[1, 2, 3], [4], [5, 6]]
GAPS = [[], [1, 2, 3], [], [], [4], []]


def list_page(lists, encoding=0, extra=b""):
    same = [int(k > 0) for some in lists for k in range(max(1, len(some)))]
    there = [int(bool(some)) for some in lists for _ in range(max(1, len(some)))]
    numbers = [number for some in lists for number in some]
    return page(0, len(same), encoding, levels(same) + levels(there) + plain(numbers, 4) + extra), len(same)


def begins_of(lists):
    return np.concatenate([[0], np.cumsum([len(some) for some in lists])]).tolist()


@pytest.mark.parametrize("lists", [LISTS, GAPS, [[]], [[], []], [[1]]])
def test_columns_of_lists(lists):
    code, count = list_page(lists)
    numbers = [number for some in lists for number in some]
    assert read_column([code], count, 4, 1, rows=len(lists)) == (numbers, begins_of(lists))
    assert read_column([code], count, 4, 1) == numbers
    assert read_column([code, code], 2 * count, 4, 1, rows=2 * len(lists)) == (numbers * 2, begins_of(lists * 2))
    for rows in (len(lists) - 1, len(lists) + 1):
        assert read_column([code], count, 4, 1, rows=rows) is None
    other, more = list_page(GAPS)
    expected = numbers + [number for some in GAPS for number in some], begins_of([*lists, *GAPS])
    assert read_column([code, other], count + more, 4, 1, rows=len(lists) + len(GAPS)) == expected


def test_levels_that_do_not_fit_their_page():
    code, count = list_page(LISTS)
    body = levels([0, 1, 1, 0, 0, 1]) + levels([1] * 6)
    values = plain(range(6), 4)
    assert read_column([page(0, 6, 0, body + values)], 6, 4, 1) == list(range(6))
    first = struct.unpack("<I", body[:4])[0]
    for place, what in ((0, 1 << 20), (first + 4, 1 << 20)):
        wrong = body[:place] + struct.pack("<I", what) + body[place + 4 :]
        assert read_column([page(0, 6, 0, wrong + values)], 6, 4, 1) is None
    assert read_column([page(0, 0, 0, bytes(8)), code], count, 4, 1) is not None
    assert read_column([page(0, 6, 0, levels([0, 1, 1, 0, 0, 1])), code], count + 6, 4, 1) is None
    assert read_column([page(0, 6, 0, levels([0] * 6) + b"\0\0\0\0")], 6, 4, 1) is None
    assert read_column([page(0, 6, 0, levels([]) + levels([0] * 6))], 6, 4, 1, rows=6) is None


def test_where_no_column_is():
    code = page(0, 7, 0, plain(NUMBERS, 4))
    data = array(b"PAR1" + code + SPARE)
    out, none = np.zeros(9, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for begin in (BAD, len(data) - 7, len(data), 2**40):
        found = np.array([[begin, 7]], dtype=np.int64)
        assert kernels.column(data, found, 0, 4, 0, out, none, none) == BAD
    assert kernels.column(data, np.array([[BAD, 0]]), 0, 4, 0, out, none, none) == BAD
    assert kernels.column(data, np.array([[0, 0]]), 0, 4, 0, out, none, none) == 0


@given(st.lists(st.integers(0, 3), min_size=1, max_size=12), st.integers(0, 3), st.integers(0, 9))
def test_where_lists_begin_of_which_some_are_empty(sizes, row, value):
    same = [int(k > 0) for size in sizes for k in range(max(1, size))]
    there = [int(size > 0) for size in sizes for _ in range(max(1, size))]
    first, second = group_of(same, 1), group_of(there, 1)
    data, count = array(b"z" + first + b"gap!" + second + SPARE), len(same)
    middle, end = 1 + len(first), 1 + len(first) + 4 + len(second)
    begins = np.full(row + len(sizes) + 1, 77, dtype=np.int64)
    room = np.zeros(2 * count, dtype=np.int32)
    assert kernels.list_begins(data, 1, middle, end, count, begins, row, value, room) == row + len(sizes)
    expected = [value + sum(sizes[:i]) for i in range(len(sizes))]
    assert begins.tolist() == [77] * row + expected + [77]
    for wrong in (
        (1, middle, end, count, begins[:-1], row, value, room),
        (1, middle, end, count, begins, row, value, room[:-1]),
        (1, middle - 1, end, count, begins, row, value, room),
        (1, middle, end - 1, count, begins, row, value, room),
    ):
        assert kernels.list_begins(data, *wrong) == BAD
