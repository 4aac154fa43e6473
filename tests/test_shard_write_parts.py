"""Each kernel that writes a shard's pages, by itself and as plain Python: read by a reader of a few lines, and short.

Compiled they are tried together, by `test_shard_encoder` with pyarrow as the reader. `scripts/test` runs this without
the JIT.
"""

import itertools
import random

import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jobeff.store import shard_write_kernels as kernels

pytestmark = [
    pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="needs NUMBA_DISABLE_JIT=1; scripts/test runs it so"),
    pytest.mark.filterwarnings("ignore:overflow encountered"),
]

EMPTY = np.empty(0, dtype=np.int64)
INT64 = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.sampled_from([0, 1, -1, 127, 128, -64, -65, 2**63 - 1, -(2**63)])
)


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def signed(data, at):
    value, at = varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def hybrid(data, width, count):
    """Values of runs and bit-packed groups, as Parquet has them."""
    found, at = [], 0
    while len(found) < count:
        head, at = varint(data, at)
        assert head > 1, "an empty run"
        if head & 1:
            size = (head >> 1) * width
            bits = int.from_bytes(data[at : at + size], "little")
            found += [bits >> (width * i) & ((1 << width) - 1) for i in range(8 * (head >> 1))]
            at += size
        else:
            size = (width + 7) // 8
            found += [int.from_bytes(data[at : at + size], "little")] * (head >> 1)
            at += size
    assert at == len(data)
    assert len(found) < count + 8
    assert not any(found[count:])
    return found[:count]


def room(size=1 << 16):
    """Where to write, full of ones, between others."""
    return np.full(size, 0xAA, dtype=np.uint8)


def taken(out, begin, end):
    """What was written; behind it some bytes may have been used."""
    assert (out[:begin] == 0xAA).all()
    return bytes(out[begin:end])


# Numbers


@given(INT64)
def test_numbers(value):
    out = room(40)
    data = taken(out, 3, kernels.put_varint(out, 3, value))
    assert varint(data, 0) == (value % 2**64, len(data))
    assert len(data) == max(1, -(-(value % 2**64).bit_length() // 7))
    out = room(40)
    data = taken(out, 3, kernels.put_signed(out, 3, value))
    assert signed(data, 0) == (value, len(data))
    out = room(40)
    data = taken(out, 3, kernels.put_field(out, 3, 0x15, value))
    assert (data[0], signed(data, 1)) == (0x15, (value, len(data)))
    out = room(40)
    kernels.put_eight(out, 3, np.uint64(value % 2**64))
    kernels.put_four(out, 20, np.uint64(value % 2**32))
    assert (
        bytes(out[:30])
        == b"\xaa" * 3
        + (value % 2**64).to_bytes(8, "little")
        + b"\xaa" * 9
        + (value % 2**32).to_bytes(4, "little")
        + b"\xaa" * 6
    )
    assert kernels.bits_of(value % 2**64) == (value % 2**64).bit_length()


# Levels


@pytest.mark.parametrize("checksum", [0, 5, 2**31 - 1, 2**31, 2**32 - 1])
def test_the_checksum_of_a_page_is_a_number_of_32_bits_with_a_sign(checksum):
    """As Thrift has it; else half of all pages would have another one for who reads them."""
    page, out = np.zeros(6, dtype=np.int64), room()
    page[[kernels.KIND, kernels.BEGIN, kernels.END]] = kernels.DATA_PAGE, 7, 107
    data, at, found = taken(out, 3, kernels.put_page_header(out, 3, page, checksum)), 0, []
    for _ in range(4):
        assert data[at] == 1 << 4 | kernels.I32
        value, at = signed(data, at + 1)
        found.append(value)
    assert found == [kernels.DATA_PAGE, 100, 100, checksum - 2**32 * (checksum >= 2**31)]


def levels_of(lengths):
    """Runs of zeros and ones, by turns."""
    return [run & 1 for run, length in enumerate(lengths) for _ in range(length)]


def put_levels_of(lengths):
    out = room()
    end = kernels.put_bits(out, 5, np.array([*lengths, 77], dtype=np.int64), len(lengths))
    data = taken(out, 5, end)
    assert int.from_bytes(data[:4], "little") == len(data) - 4
    assert hybrid(data[4:], 1, sum(lengths)) == levels_of(lengths)
    return data[4:]


run_lengths = st.lists(
    st.one_of(st.integers(1, 3), st.sampled_from([7, 8, 9, 15, 16, 17, 23, 24, 25, 31, 300])), max_size=30
)


@given(st.integers(0, 30), run_lengths)
@example(0, [1] * 1100)
@example(0, [])
def test_levels(first, more):
    data = put_levels_of([first, *more])
    count = first + sum(more)
    # Packed as a whole takes a byte for eight, and a head for each 63 groups; as runs two bytes or three each.
    packed = -(-count // 8) + -(-count // (8 * kernels.GROUPS))
    assert len(data) <= packed + 1


def test_levels_take_no_more_bytes():
    """What is written is read whatever its runs are; so their sizes are held to what they were."""
    sizes = [
        len(put_levels_of(lengths))
        for lengths in (
            [5], [0, 5], [23], [24], [0, 16], [0, 17], [7, 17], [7, 16], [8, 17], [3, 21], [3, 29], [16, 24],
            [1, 23, 1], [1, 31, 1], [1, 30, 1], [8, 24, 8], [9, 24, 9], [64 * 8 - 8, 8], [1] * 504, [1] * 505,
            [1] * 512, [0, 3000, 3],
        )
    ]  # fmt: skip
    assert sizes == [2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 5, 5, 6, 5, 6, 7, 5, 64, 66, 66, 5]


@st.composite
def lists(draw):
    sizes = draw(st.lists(st.sampled_from([0, 0, 1, 1, 2, 3, 9]), min_size=1, max_size=20))
    row = draw(st.integers(0, len(sizes) - 1))
    return sizes, row, draw(st.integers(row + 1, len(sizes)))


@given(lists(), st.integers(0, 9))
def test_levels_of_lists(some, before):
    """Repetition and definition of lists, as Dremel has them; from anywhere."""
    sizes, row, last = some
    begins = before + np.cumsum([0, *sizes])
    out, lengths = room(), np.full(2 * len(sizes) + 2, 99, dtype=np.int64)
    end = kernels.put_levels(out, 2, begins, out[:0], row, last, lengths)
    data = taken(out, 2, end)
    repeated = [int(i > 0) for size in sizes[row:last] for i in range(max(1, size))]
    defined = [int(size > 0) for size in sizes[row:last] for i in range(max(1, size))]
    size = int.from_bytes(data[:4], "little")
    assert hybrid(data[4 : 4 + size], 1, len(repeated)) == repeated
    rest = data[4 + size :]
    assert int.from_bytes(rest[:4], "little") == len(rest) - 4
    assert hybrid(rest[4:], 1, len(defined)) == defined


@given(st.lists(st.booleans(), min_size=1, max_size=70), st.data())
def test_levels_of_nulls(valid, data):
    row = data.draw(st.integers(0, len(valid) - 1))
    last = data.draw(st.integers(row + 1, len(valid)))
    out, lengths = room(), np.full(2 * len(valid) + 2, 99, dtype=np.int64)
    end = kernels.put_levels(out, 0, EMPTY, np.array(valid), row, last, lengths)
    assert hybrid(bytes(out[4:end]), 1, last - row) == [int(one) for one in valid[row:last]]
    assert kernels.put_levels(out, 7, EMPTY, EMPTY, row, last, lengths) == 7


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 20), st.data())
def test_rows_of_a_page(sizes, most, data):
    """As many as have so many levels together, at least one; a row without a value has one level."""
    begins = 4 + np.cumsum([0, *sizes])
    row = data.draw(st.integers(0, len(sizes)))
    last, levels = kernels.page_rows(begins, row, len(sizes), most)
    assert levels == sum(max(1, size) for size in sizes[row:last])
    assert last == row + 1 or levels <= most
    assert last >= min(row + 1, len(sizes))
    assert last == len(sizes) or levels + max(1, sizes[last]) > most
    last, levels = kernels.page_rows(EMPTY, row, len(sizes), most)
    assert (last, levels) == (min(len(sizes), row + most), min(len(sizes) - row, most))


# Differences


def deltas(data):
    """Values of DELTA_BINARY_PACKED."""
    block, at = varint(data, 0)
    parts, at = varint(data, at)
    count, at = varint(data, at)
    value, at = signed(data, at)
    found = [value]
    while len(found) < count:
        least, at = signed(data, at)
        widths = data[at : at + parts]
        at += parts
        for width in widths:
            size = width * (block // parts) // 8
            if len(found) >= count:
                assert width == 0, "room for a part that is not there"
            bits = int.from_bytes(data[at : at + size], "little")
            at += size
            for i in range(block // parts):
                value = (value + least + (bits >> (width * i) & ((1 << width) - 1)) + 2**63) % 2**64 - 2**63
                found.append(value)
    assert at == len(data)
    return found[:count]


@st.composite
def longs(draw):
    count = draw(st.sampled_from([1, 2, 31, 32, 33, 34, 64, 65, 128, 129, 130, 160, 161, 257, 300]))
    bits = draw(st.sampled_from([0, 1, 3, 7, 8, 20, 31, 32, 33, 61, 62, 63]))
    chance = random.Random(draw(st.integers(0, 2**32)))
    return [chance.randrange(-(2**bits), 2**bits) for _ in range(count)]


@given(longs())
def test_differences(values):
    out = room()
    array = np.array([5, *values, 9], dtype=np.int64)
    data = taken(out, 3, kernels.put_deltas(out, 3, array, 1, len(values)))
    assert deltas(data) == values
    if len(values) > 1:
        steps = [(b - a + 2**63) % 2**64 - 2**63 for a, b in itertools.pairwise(values)]
        expected = 0
        for begin in range(0, len(steps), 128):
            some = steps[begin : begin + 128]
            low = min(some)
            for part in range(0, len(some), 32):
                expected += 4 * max((step - low) % 2**64 for step in some[part : part + 32]).bit_length()
            first = room(20)
            expected += 4 + kernels.put_signed(first, 0, low)
        head = kernels.put_signed(room(20), 0, values[0])
        assert len(data) == 2 + 1 + (1 if len(values) < 128 else 2) + head + expected


def test_no_differences():
    out = room(40)
    assert taken(out, 1, kernels.put_deltas(out, 1, np.array([5, 6]), 1, 0)) == bytes([128, 1, 4, 0, 0])


@given(longs(), st.integers(1, 50), st.sampled_from(["flat", "nulls", "lists"]), st.integers(0, 2**32))
def test_columns_of_64_bits(values, most, kind, seed):
    """Each page has its rows, as differences or, where these are not shorter, as they are."""
    chance = random.Random(seed)
    begins, valid, rows = EMPTY, EMPTY, len(values)
    if kind == "nulls":
        valid = np.array([chance.random() < 0.7 for _ in values])
        values = values[: int(valid.sum())]
    elif kind == "lists":
        sizes = []
        while sum(sizes) < len(values):
            sizes.append(min(chance.choice([0, 1, 3, 40]), len(values) - sum(sizes)))
        begins, rows = np.cumsum([0, *sizes]), len(sizes)
    out, pages, counts = room(), np.zeros((700, 6), dtype=np.int64), np.array([1], dtype=np.int64)
    array = np.array(values, dtype=np.int64)
    lengths = np.zeros(2 * rows + 2, dtype=np.int64)
    end = kernels.put_longs(out, 3, 4, array, begins, valid, rows, most, lengths, pages, counts)
    at, row, found = 3, 0, []
    for column, what, levels, encoding, begin, stop in pages[1 : counts[0]].tolist():
        last, expected = kernels.page_rows(begins, row, rows, most)
        assert (column, what, levels, begin) == (4, kernels.DATA_PAGE, expected, at)
        level_end = kernels.put_levels(room(), 0, begins, valid, row, last, lengths)
        body = bytes(out[begin + level_end : stop])
        count = (
            int(begins[last] - begins[row])
            if kind == "lists"
            else int(valid[row:last].sum())
            if len(valid)
            else last - row
        )
        other = kernels.put_deltas(room(), 0, array, len(found), count)
        assert encoding == (kernels.PLAIN if other > 8 * count else kernels.DELTA_BINARY_PACKED)
        if encoding == kernels.PLAIN:
            found += np.frombuffer(body, dtype="<i8").tolist()
        else:
            found += deltas(body)[:count]
        at, row = stop, last
    assert (at, row, found) == (end, rows, values)


# Indexes


def put_indexes_of(values, width):
    out = room()
    index = np.array([9, *values, 9], dtype=np.int32)
    data = taken(out, 3, kernels.put_indexes(out, 3, index, 1, len(values), width))
    if width:
        assert hybrid(data, width, len(values)) == values
    return data


@st.composite
def indexes(draw):
    width = draw(st.integers(1, 18))
    chance = random.Random(draw(st.integers(0, 2**32)))
    values = []
    for _ in range(draw(st.integers(0, 25))):
        value = chance.randrange(1 << width)
        values += [value] * draw(st.sampled_from([1, 1, 1, 1, 2, 7, 8, 9, 15, 16, 17, 24, 25, 70]))
    return values, width


@given(indexes())
def test_indexes(some):
    values, width = some
    data = put_indexes_of(values, width)
    groups = -(-len(values) // 8)
    assert len(data) <= width * groups + -(-groups // kernels.GROUPS) + 1 + (width + 7) // 8


def test_indexes_take_no_more_bytes():
    """What is written is read whatever its runs are; so their sizes are held to what they were."""
    chance = random.Random(1)
    sizes = {}
    for width in (1, 2, 3, 8, 9, 16, 17):
        mixed = [chance.randrange(1 << width) for _ in range(40)]
        mixed = [one if one != other else one ^ 1 for one, other in zip(mixed, [*mixed[1:], -1], strict=True)]
        runs = [[1] * n for n in (1, 7, 8, 9, 15, 16, 23, 24, 30)]
        some = [*runs, *(mixed[:8] + run for run in runs), *(run + mixed[:16] for run in runs)]
        some += [mixed[:8] + run + mixed[:8] for run in runs]
        some += [mixed * 13, [1] * 20_000]
        sizes[width] = sum(len(put_indexes_of(one, width)) for one in some)
    assert sizes == {1: 210, 2: 338, 3: 448, 8: 1028, 9: 1175, 16: 1987, 17: 2134}
    assert [put_indexes_of([0] * n, 0) for n in (0, 1, 63, 64)] == [b"", b"\x02", b"\x7e", b"\x80\x01"]


@given(st.integers(1, 16), st.lists(st.integers(0, 2**16 - 1), min_size=8, max_size=8))
def test_groups_of_indexes(width, values):
    values = [value & ((1 << width) - 1) for value in values]
    out = room(40)
    kernels.put_group(out, 3, np.array([0, *values, 0], dtype=np.int32), 1, width)
    bits = sum(value << (width * i) for i, value in enumerate(values))
    assert taken(out, 3, 3 + width) == bits.to_bytes(width, "little")


# Dictionaries


def in_order(values):
    return list(dict.fromkeys(values))


@given(st.lists(st.integers(0, 60), min_size=1, max_size=60), st.sampled_from([0, -50, 2**31 - 80]), st.integers(0, 3))
def test_numbers_by_a_table(values, above, less):
    values = [above + value for value in values]
    table, index, dictionary = np.full(64, -1), np.zeros(60, dtype=np.int32), np.zeros(60, dtype=np.int32)
    least = min(values) - less if max(values) - min(values) + less < 64 else min(values)
    size = kernels.number_by_table(np.array(values, dtype=np.int32), least, table, index, dictionary)
    assert dictionary[:size].tolist() == in_order(values)
    assert [in_order(values)[i] for i in index[: len(values)]] == values
    assert (table == -1).all()


@pytest.mark.parametrize("distinct", [1, 2, 500, 512, 513, 514, 2047, 2048, 2049, 3000])
def test_numbers_by_hash(distinct):
    """The table of places becomes larger when it is half full."""
    chance = random.Random(distinct)
    values = chance.sample(range(-(2**31), 2**31), distinct)
    values += chance.choices(values, k=300)
    slots = np.full(4 * kernels.MAX_DICTIONARY, -7, dtype=np.int64)
    index, dictionary = np.zeros(len(values), dtype=np.int32), np.zeros(len(values), dtype=np.int32)
    size = kernels.number_by_hash(np.array(values, dtype=np.int32), slots, index, dictionary)
    assert dictionary[:size].tolist() == in_order(values)
    assert [dictionary[i] for i in index] == values
    used = np.flatnonzero(slots[: 1 << 14] != -7)
    assert 2 * distinct <= len(used) or distinct <= 1 << (kernels.HASH_BITS - 1)
    assert len(used) <= max(1 << kernels.HASH_BITS, 8 * distinct)


def test_places_of_values():
    """All places of a table may be met, and no other."""
    for bits in (4, 10, 12):
        found = {kernels.slot_of(value, bits) for value in np.arange(-500, 40_000, dtype=np.int32)}
        assert found == set(range(1 << bits))


def test_too_many_values_have_no_dictionary(monkeypatch):
    monkeypatch.setattr(kernels, "MAX_DICTIONARY", 300)
    slots = np.zeros(4 * 512, dtype=np.int64)
    for distinct, expected in ((299, 299), (300, 300), (301, 0)):
        values = np.arange(distinct, dtype=np.int32) * 1_000_003
        index, dictionary = np.zeros(distinct, dtype=np.int32), np.zeros(distinct, dtype=np.int32)
        assert kernels.number_by_hash(values, slots, index, dictionary) == expected


@pytest.mark.parametrize("spread", [62, 63, 64, 65])
def test_how_values_are_numbered(monkeypatch, spread):
    """By a table where it is large enough."""
    ways = []
    for name in ("number_by_table", "number_by_hash"):
        way = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *args, way=way, name=name: ways.append(name) or way(*args))
    values = np.array([7, 7 + spread, 9], dtype=np.int32)
    index, dictionary = np.zeros(3, dtype=np.int32), np.zeros(3, dtype=np.int32)
    found = kernels.number(values, np.full(64, -1), np.zeros(1 << 12, dtype=np.int64), index, dictionary)
    assert (found, dictionary.tolist(), index.tolist()) == (3, values.tolist(), [0, 1, 2])
    assert ways == ["number_by_table" if spread < 64 else "number_by_hash"]
    assert kernels.number(values[:0], np.full(64, -1), np.zeros(8, dtype=np.int64), index, dictionary) == 0


@given(st.sampled_from([0, 1, 2, 3, 20, 300]), st.integers(1, 400), st.booleans(), st.integers(1, 60), st.booleans())
def test_columns_of_32_bits(distinct, count, wide, most, in_lists):
    """With a dictionary where that takes less, levels not counted."""
    chance = random.Random(count * 1000 + distinct)
    pool = [chance.randrange(-(2**31), 2**31) for _ in range(distinct)] or [0]
    values = [chance.choice(pool) for _ in range(count)]
    dictionary = np.array(in_order(values), dtype=np.int32)
    size = len(dictionary) if distinct else 0
    index = np.array([in_order(values).index(value) for value in values], dtype=np.int32)
    begins, rows = EMPTY, count
    if in_lists:
        sizes = []
        while sum(sizes) < count:
            sizes.append(min(chance.choice([0, 1, 3, 40]), count - sum(sizes)))
        begins, rows = np.cumsum([0, *sizes]), len(sizes)
    given_values = np.array(values if wide or not size else [], dtype=np.int32)
    out, pages, counts = room(1 << 17), np.zeros((900, 6), dtype=np.int64), np.array([2], dtype=np.int64)
    lengths = np.zeros(2 * rows + 2, dtype=np.int64)
    end = kernels.put_values(
        out, 3, 5, given_values, index, dictionary, size, begins, -1, rows, most, lengths, pages, counts
    )
    noted = pages[2 : counts[0]].tolist()
    width = (size - 1).bit_length()
    bodies, row, value, with_dictionary = [], 0, 0, 4 * size + kernels.DICTIONARY_COST
    while row < rows:
        last, _ = kernels.page_rows(begins, row, rows, most)
        some = int(begins[last] - begins[row]) if in_lists else last - row
        with_dictionary += 1 + kernels.put_indexes(room(), 0, index, value, some, width)
        bodies.append((row, last, some))
        row, value = last, value + some
    used = size > 0 and with_dictionary <= 4 * count
    at, found = 3, []
    if used:
        assert noted.pop(0) == [5, kernels.DICTIONARY_PAGE, size, kernels.PLAIN, 3, 3 + 4 * size]
        assert np.frombuffer(bytes(out[3 : 3 + 4 * size]), dtype="<i4").tolist() == dictionary.tolist()
        at += 4 * size
    assert len(noted) == len(bodies)
    for (column, kind, levels, encoding, begin, stop), (row, last, some) in zip(noted, bodies, strict=True):
        assert (column, kind, begin) == (5, kernels.DATA_PAGE, at)
        assert levels == kernels.page_rows(begins, row, rows, most)[1]
        level_end = kernels.put_levels(room(), 0, begins, EMPTY, row, last, lengths)
        body = bytes(out[begin + level_end : stop])
        if used:
            assert (encoding, body[0]) == (kernels.RLE_DICTIONARY, width)
            numbers = hybrid(body[1:], width, some) if width else [0] * some
            found += dictionary[numbers].tolist()
        else:
            assert encoding == kernels.PLAIN
            found += np.frombuffer(body, dtype="<i4").tolist()
        at = stop
    assert (at, found) == (end, values)


@given(st.lists(st.sampled_from([0, 1, 3, 40]), min_size=1, max_size=30), st.integers(1, 60), st.integers(1, 90))
def test_levels_that_another_column_has_too(sizes, most, distinct):
    """They are the same bytes, page by page, with a dictionary and without."""
    begins, rows = np.cumsum([0, *sizes]), len(sizes)
    values = np.arange(sum(sizes), dtype=np.int32) % distinct
    dictionary = np.array(in_order(values.tolist()), dtype=np.int32)
    index, lengths = values.copy(), np.zeros(2 * rows + 2, dtype=np.int64)
    written = []
    for has_twin in (False, True):
        out, pages, counts = room(1 << 17), np.zeros((900, 6), dtype=np.int64), np.array([1], dtype=np.int64)
        longs = values.astype(np.int64)
        at = kernels.put_longs(out, 3, 4, longs, begins, EMPTY, rows, most, lengths, pages, counts)
        twin, size = 1 if has_twin else -1, len(dictionary)
        end = kernels.put_values(
            out, at, 5, values, index, dictionary, size, begins, twin, rows, most, lengths, pages, counts
        )
        written.append((bytes(out[:end]), pages.tolist(), counts.tolist()))
    assert written[0] == written[1]


def test_lists_that_begin_at_the_same_places():
    begins = np.array([0, 3, 3, 9], dtype=np.int32)
    assert kernels.are_same(begins, begins.copy())
    assert kernels.are_same(begins[:0], begins[:0])
    assert not kernels.are_same(begins, begins[:3])
    for place in range(4):
        other = begins.copy()
        other[place] ^= 1 << 30
        assert not kernels.are_same(begins, other)


def test_what_is_said_of_values():
    known = np.zeros((3, 4), dtype=np.int64)
    kernels.describe(np.array([5, -7, 9, 2**62]), 6, known, 1)
    kernels.describe(EMPTY, 4, known, 2)
    assert known.tolist() == [[0] * 4, [2, 2, -7, 2**62], [1, 4, 0, 0]]


@pytest.mark.parametrize("width", [1, 3, 9, 17])
@pytest.mark.parametrize("before", [0, 7, 8])
def test_one_index_that_differs(width, before):
    """At each place of eight that are looked at together; from the first byte there is, too."""
    for at in range(8):
        values = [1, 0] * (before // 2) + [0] * (before % 2) + [1] * at + [0] + [1] * 40
        assert put_indexes_of(values, width) is not None
        out = room()
        end = kernels.put_indexes(out, 0, np.array(values, dtype=np.int32), 0, len(values), width)
        assert bytes(out[:end]) == put_indexes_of(values, width)


@pytest.mark.parametrize("place", [0, 2000, 2**12 - 1])
def test_values_at_one_place_of_the_table(place):
    """They go on behind it, and from its end at its beginning, also when it becomes larger."""
    some = np.arange(1, 3_000_000, dtype=np.uint64)
    mixed = (some * np.uint64(0x9E3779B1) & np.uint64(0xFFFFFFFF)) >> np.uint64(20)
    values = some[mixed == place][:520].astype(np.int32).tolist()
    assert {kernels.slot_of(value, 12) for value in values} == {place}
    slots = np.full(1 << 14, -7, dtype=np.int64)
    index, dictionary = np.zeros(1040, dtype=np.int32), np.zeros(1040, dtype=np.int32)
    assert kernels.number_by_hash(np.array(values * 2, dtype=np.int32), slots, index, dictionary) == 520
    assert dictionary[:520].tolist() == values
    assert index.tolist() == [*range(520)] * 2


@pytest.mark.parametrize(
    ("values", "empty", "used"),
    [
        ([0, 1, 2, 3, 4] * 2 + [1, 3], 0, True),  # as many bytes with a dictionary as without
        ([0, 1, 2, 3, 4] * 2 + [1], 0, False),
        ([0, 1] * 20, 3000, True),  # levels take as much either way
        ([7] * 5, 0, False),
        ([7] * 9, 0, True),
    ],
)
def test_whether_a_dictionary_is_worth_it(values, empty, used):
    chance = random.Random(4)
    sizes = [1] * len(values) + [0] * empty
    chance.shuffle(sizes)
    dictionary = np.array(in_order(values), dtype=np.int32)
    index = np.array([in_order(values).index(value) for value in values], dtype=np.int32)
    pages, counts, begins = np.zeros((9, 6), dtype=np.int64), np.zeros(1, dtype=np.int64), np.cumsum([0, *sizes])
    lengths = np.zeros(2 * len(sizes) + 2, dtype=np.int64)
    plain = np.array(values, dtype=np.int32)
    size, rows = len(dictionary), len(sizes)
    kernels.put_values(room(), 0, 3, plain, index, dictionary, size, begins, -1, rows, 1 << 20, lengths, pages, counts)
    assert (pages[0, kernels.KIND] == kernels.DICTIONARY_PAGE) == used
    assert counts[0] == 1 + used
