"""Kernels that walk trees of SQLite's pages, as plain Python, on pages that are made here byte by byte.

What SQLite writes is read in `test_pages`; here stand the edges, and what must be refused rather than read.
"""

import numba
import numpy as np
import pytest
from test_page_parts import array, record, varint

from jobeff.store import format_kernels, pages, record_kernels, row_sums, sum_kernels, table_kernels, tree_kernels
from jobeff.store import records as records_module
from jobeff.store.crc_kernels import crc32_table
from jobeff.store.format_kernels import BAD, INDEX_INTERIOR, INDEX_LEAF, TABLE_INTERIOR, TABLE_LEAF
from jobeff.store.records import Encoder, Records

pytestmark = [
    pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="needs NUMBA_DISABLE_JIT=1; scripts/test runs it so"),
    pytest.mark.filterwarnings("ignore:overflow encountered"),
]

SIZE = 512
INTERIOR = (TABLE_INTERIOR, INDEX_INTERIOR)
ROOM = {TABLE_LEAF: SIZE - 35, INDEX_LEAF: (SIZE - 12) * 64 // 255 - 23, INDEX_INTERIOR: (SIZE - 12) * 64 // 255 - 23}


def page(kind, cells, right=0, before=0):
    """A page with its cells at its end, the first the last; `before` bytes of the file's header stand in front."""
    body, content, pointers = bytearray(SIZE), SIZE, b""
    for cell in cells:
        content -= len(cell)
        body[content : content + len(cell)] = cell
        pointers += content.to_bytes(2, "big")
    head = bytes([kind, 0, 0]) + len(cells).to_bytes(2, "big") + content.to_bytes(2, "big") + b"\0"
    if kind in INTERIOR:
        head += right.to_bytes(4, "big")
    body[before : before + len(head) + len(pointers)] = head + pointers
    return bytes(body)


FIRST = page(TABLE_LEAF, [], before=100)
JUNK = bytes([99]) * SIZE
"""A page that must not be looked at."""


def file_of(*pages):
    """A file whose second page is the first of these."""
    return array(b"".join([FIRST, *pages]))


def below(child, rest=b""):
    return child.to_bytes(4, "big") + rest


def spilled(payload, kind, chain, number=None):
    """A cell, and the pages that its payload goes on in, the first of them being number `chain`."""
    least = (SIZE - 12) * 32 // 255 - 23
    local = len(payload)
    if local > ROOM[kind]:
        local = least + (local - least) % (SIZE - 4)
        local = local if local <= ROOM[kind] else least
    cell = varint(len(payload)) + (b"" if number is None else varint(number)) + payload[:local]
    rest = [payload[i : i + SIZE - 4] for i in range(local, len(payload), SIZE - 4)]
    pages = [below(chain + i + 1 if i + 1 < len(rest) else 0, part).ljust(SIZE, b"\xee") for i, part in enumerate(rest)]
    return cell + (below(chain) if rest else b""), pages


def row_cell(number, row):
    return spilled(record(row), TABLE_LEAF, 0, number)[0]


# Payloads that go on elsewhere; pages need not be large


def test_chains_of_pages():
    """Pages of 16 bytes; the cell stands at the end of the file."""
    payload = bytes(range(3, 33))
    chain = [below(3, payload[4:16]), below(0, payload[16:28]), below(99, payload[28:].ljust(12, b"\xee"))]
    data = array(bytes(16) + chain[0] + below(4)[:4] + payload[16:28] + chain[2] + b"???" + payload[:4] + below(2))
    at = len(data) - 8
    assert bytes(table_kernels.whole_payload(data, at, 30, 4, 16, 4)) == payload
    assert bytes(table_kernels.whole_payload(data, at, 28, 4, 16, 4)) == payload[:28]
    assert len(table_kernels.whole_payload(data, at, 30, 4, 16, 3)) == 0, "a page behind the last"
    assert len(table_kernels.whole_payload(data, at + 1, 30, 4, 16, 4)) == 0, "the first page's number is cut"
    assert len(table_kernels.whole_payload(data, at, len(data) + 1, 4, 16, 4)) == 0
    for first in (0, 1):
        wrong = data.copy()
        wrong[-1] = first
        assert len(table_kernels.whole_payload(wrong, at, 30, 4, 16, 4)) == 0
    wrong = data.copy()
    wrong[16:20] = array(below(2))  # it leads to itself, and what is asked for is all that there is
    assert len(table_kernels.whole_payload(wrong, at, len(data), 4, 16, 4)) == len(data)


# Tables


COLUMNS = ("k", "month", "filled", "n", "name")


def read(data, root=2, blocks=range(20), columns=5, room=9, integers=(3,), texts=(4, 1), words=8):
    """Rows as (number, texts ...), or `BAD`; with room for so many words, and a row of a byte, at first."""
    ints = np.full((len(integers), room), 77, dtype=np.int64)
    codes = np.full((len(texts), room), 77, dtype=np.int32)
    known, long, fields = pages.Words(words), np.zeros(1, dtype=np.uint8), np.empty((2, columns), dtype=np.int64)
    levels, state = np.zeros((4, format_kernels.DEPTH), dtype=np.int64), np.zeros(4, dtype=np.int64)
    wanted = (0, 1, 2) if columns > 2 else (0, 0, 0)
    while True:
        found = table_kernels.read_table(
            data, SIZE, root, np.array(blocks, dtype=np.int64), wanted[0], array(b"c1"), wanted[1],
            array(b"2021-06"), wanted[2], np.array(integers, dtype=np.int64), np.array(texts, dtype=np.int64), ints,
            codes, known.slots, known.offsets, known.data, long, fields, np.zeros(len(texts), dtype=np.int64), levels,
            state,
        )  # fmt: skip
        if found == format_kernels.FULL:
            known.grow(int(state[table_kernels.READ_WORDS]))
        elif found == format_kernels.LONG:
            long = np.zeros(state[table_kernels.READ_LONG], dtype=np.uint8)
        else:
            break
    if found == BAD:
        return BAD
    assert (ints[:, found:] == 77).all()
    assert (codes[:, found:] == 77).all()
    some = known.texts(codes[:, :found], int(state[table_kernels.READ_WORDS]))
    every = some.words(np.arange(some.size))
    assert len({*every}) == len(every)
    return list(zip(*ints[:, :found].tolist(), *map(some.words, some.codes), strict=True))


def row(n=5, name="ab", key="c1", month="2021-06-01", filled="x"):
    return [key, month, filled, n, name]


def leaf(*rows, first=1):
    return page(TABLE_LEAF, [row_cell(first + i, one) for i, one in enumerate(rows)])


def test_rows_that_are_taken():
    rows = [
        row(0, ""), row(1, "b"), row(-7, "cc", month="2021-06"), row(2**40, "d"), row(key="c"), row(key="c11"),
        row(key=None), row(month="2021-05-31"), row(month="2021-0"), row(month=None), row(filled=""), row(filled=None),
    ]  # fmt: skip
    expected = [(one[3], one[4], one[1]) for one in rows[:4]]
    assert read(file_of(leaf(*rows))) == expected
    assert read(file_of(leaf(*rows)), texts=(1, 4)) == [(n, month, name) for n, name, month in expected]
    assert read(file_of(leaf(*rows)), room=4) == expected
    assert read(file_of(leaf(*rows)), room=3) == BAD
    assert read(file_of(leaf(*rows)), words=1) == read(file_of(leaf(*rows)), words=2) == expected
    assert read(file_of(leaf())) == []


@pytest.mark.parametrize("wrong", [row(None), row(0.5), row("5"), row(name=None), row(name=5), row(name=0.5)])
def test_rows_of_other_types_are_refused(wrong):
    assert read(file_of(leaf(row(), wrong))) == BAD
    assert read(file_of(leaf(row(), [*wrong[:2], "", *wrong[3:]]))) == [(5, "ab", "2021-06-01")], "it is not looked at"


def changed(payload, number=1):
    return file_of(page(TABLE_LEAF, [varint(len(payload)) + varint(number) + payload]))


@pytest.mark.parametrize("column", range(5))
def test_bytes_are_like_no_text(column):
    """The serial type of a text less one is that of as many bytes; with columns of no use it does not matter."""
    payload = bytearray(record([*row(n="5"), "more"]))
    assert payload[1 + column] % 2 == 1
    payload[1 + column] -= 1
    assert read(changed(payload), integers=(), texts=(4,)) == (BAD if column != 3 else [("ab",)])


def test_records_that_do_not_fit():
    payload = record(row())
    assert read(changed(payload)) == [(5, "ab", "2021-06-01")]
    assert read(changed(payload + b"more")) == [(5, "ab", "2021-06-01")]
    assert read(changed(payload[:-1])) == BAD, "its last text is cut"
    assert read(changed(payload), columns=6) == BAD, "a field less than the table has"
    assert read(changed(b"")) == BAD
    assert read(changed(payload[:1] + varint(2**63 + 5) + payload[2:])) == BAD, "a type below 0"
    assert read(changed(payload[:1] + varint(2**62) + payload[2:])) == BAD
    twice = varint(2**63 - 1)  # two of them come round to where they began
    assert read(changed(bytes([23, *twice, *twice, 15, 1, 17]) + b"x" * 40)) == BAD


def test_cells_that_do_not_fit_their_page():
    whole = bytearray(leaf(row()))
    at = int.from_bytes(whole[8:10], "big")
    for more, found in ((0, [(5, "ab", "2021-06-01")]), (1, BAD)):
        moved = whole.copy()
        moved[8:10] = (at + more).to_bytes(2, "big")
        moved[at + more :] = whole[at : SIZE - more]
        assert read(file_of(moved, JUNK)) == found


def test_pages_that_are_none_of_the_tables():
    good = leaf(row())
    found = [(5, "ab", "2021-06-01")]
    assert read(file_of(good)) == read(file_of(JUNK, good), root=3) == found
    assert read(file_of(good), root=3) == BAD
    assert read(file_of(good), root=0) == BAD
    for kind in (0, INDEX_LEAF, INDEX_INTERIOR, TABLE_LEAF + 1):
        assert read(file_of(bytes([kind]) + good[1:])) == BAD
    cells = [row_cell(1, row())]
    assert read(array(page(TABLE_LEAF, cells, before=100)), root=1) == found, "behind the header of the file"


def counted(kind, cells, first=0, second=0):
    """A page that says that it has so many cells, all of them at its begin; its next two bytes are of no use."""
    return file_of(bytes([kind, first, second]) + cells.to_bytes(2, "big") + bytes(SIZE - 5))


def test_as_many_cells_as_a_page_has_room_for():
    assert read(counted(TABLE_INTERIOR, 250), blocks=[]) == []
    assert read(counted(TABLE_INTERIOR, 251), blocks=[]) == BAD
    # The page's own header is a record of one NULL.
    assert read(counted(TABLE_LEAF, 252, 0, 2), columns=1, integers=(), texts=(0,)) == []
    assert read(counted(TABLE_LEAF, 253, 0, 2), columns=1, integers=(), texts=(0,)) == BAD


@pytest.mark.parametrize(("at", "found"), [(507, []), (508, BAD), (511, BAD)])
def test_the_last_place_of_a_cell(at, found):
    node = bytearray(page(TABLE_INTERIOR, [below(3, varint(1))], right=3))
    node[12:14] = at.to_bytes(2, "big")
    assert read(file_of(node), blocks=[]) == found


LEFT, RIGHT = leaf(row(1)), leaf(row(2), first=4096)
ONE, TWO = (1, "ab", "2021-06-01"), (2, "ab", "2021-06-01")


def test_only_pages_that_can_hold_wanted_rows_are_read():
    """Blocks of 4096 row numbers; the key of a cell is the largest number below it."""

    def tree(key, *pages):
        return file_of(page(TABLE_INTERIOR, [below(3, varint(key))], right=4), *pages)

    assert read(tree(4095, LEFT, RIGHT)) == [ONE, TWO]
    assert read(tree(4095, LEFT, JUNK), blocks=[0]) == [ONE]
    assert read(tree(4095, JUNK, RIGHT), blocks=[1]) == [TWO]
    assert read(tree(4095, JUNK, RIGHT), blocks=[2**50]) == [TWO], "the last page is for all that come"
    assert read(tree(4095, LEFT, JUNK), blocks=[-(2**51)]) == [ONE], "and the first for all before"
    for key, blocks in ((4094, [0]), (4096, [1])):  # both pages may hold such rows
        assert read(tree(key, LEFT, RIGHT), blocks=blocks) == [ONE, TWO]
        for both in ((JUNK, RIGHT), (LEFT, JUNK)):
            assert read(tree(key, *both), blocks=blocks) == BAD
    assert read(tree(4095, JUNK, JUNK), blocks=[]) == []


def test_levels_of_pages():
    """Below the first of two cells lies a level more; its last page ends with the key above."""

    def tree(*pages):
        top = page(TABLE_INTERIOR, [below(3, varint(8191)), below(6, varint(12287))], right=7)
        middle = page(TABLE_INTERIOR, [below(4, varint(4095))], right=5)
        return file_of(top, middle, *pages)

    third, fourth = leaf(row(3), first=8192), leaf(row(4), first=12288)
    all_of = [(n, "ab", "2021-06-01") for n in (1, 2, 3, 4)]
    assert read(tree(LEFT, RIGHT, third, fourth)) == all_of
    for block in range(4):
        pages = [JUNK] * 4
        pages[block] = (LEFT, RIGHT, third, fourth)[block]
        assert read(tree(*pages), blocks=[block]) == [all_of[block]]
    assert read(tree(LEFT, JUNK, JUNK, fourth), blocks=[0, 3]) == [all_of[0], all_of[3]]
    assert read(tree(LEFT, RIGHT, third)) == BAD, "there is no such page"


def test_trees_without_end():
    for depth, found in ((format_kernels.DEPTH - 1, [ONE]), (format_kernels.DEPTH, BAD)):
        chain = [page(TABLE_INTERIOR, [], right=3 + i) for i in range(depth)]
        assert read(file_of(*chain, LEFT)) == found
    assert read(file_of(page(TABLE_INTERIOR, [], right=2))) == BAD


@pytest.mark.parametrize("length", [400, 480, 1000, 3000])
def test_rows_that_go_on_elsewhere(length):
    cell, pages = spilled(record(row(name="y" * length)), TABLE_LEAF, 3, 1)
    top = page(TABLE_LEAF, [cell])
    assert read(file_of(top, *pages)) == [(5, "y" * length, "2021-06-01")]
    if pages:
        assert read(file_of(top, *pages[:-1])) == BAD


# Indexes


NO_BLOCKS = np.empty(0, dtype=np.int64)


def keys(data, root=2, word=b"c1", room=20, part=0, parts=1, least=None):
    found, numbers = np.full(room, 77, dtype=np.int64), np.full(1, 77, dtype=np.int64)
    least = NO_BLOCKS if least is None else least
    count = table_kernels.repeated_keys(data, SIZE, root, array(word), part, parts, found, numbers, least)
    if count == BAD:
        return BAD
    assert (found[count:] == 77).all()
    return found[: min(count, room)].tolist(), int(numbers[0]), count


def entry(number, word="c1", rowid=9):
    payload = record([number, word, rowid])
    return varint(len(payload)) + payload


def entries(*numbers):
    return page(INDEX_LEAF, [entry(n) if not isinstance(n, tuple) else entry(*n) for n in numbers])


def test_numbers_that_stand_in_an_index_more_than_once():
    assert keys(file_of(entries(0, 0, 1, 2, 2, 2, 300))) == ([0, 2, 2], 7, 3)
    assert keys(file_of(entries(-5, -5, 2**40, 2**40))) == ([-5, 2**40], 4, 2)
    assert keys(file_of(entries(0, 0, 0)), room=1) == ([0], 3, 2)
    assert keys(file_of(entries(0, 1, 2))) == ([], 3, 0)
    assert keys(file_of(entries())) == ([], 0, 0)
    others = [(5, "c"), (5, "c1"), (5, "c11"), (5, None), (5, 7), (5, "c1")]
    assert keys(file_of(entries(*others))) == ([5], 2, 1)
    assert keys(file_of(entries(*others)), word=b"c") == ([], 1, 0)


def test_the_least_number_of_each_block_of_rows():
    rows = [
        (7, "c1", 4096),
        (-3, "c1", 4095),
        (8, "c1", 2**40),
        (2, "c", 3),
        (9, "c1", 5),
        (5, "c1", 8191),
        (4, "c1", -1),
    ]
    index = page(INDEX_LEAF, [entry(*row) for row in rows])
    least = np.full(3, 77)
    assert keys(file_of(index), least=least) == ([], 6, 0)
    assert least.tolist() == [-3, 5, 77]
    for rowid in (0, 1, 127, 2**15, 2**31, 2**62):  # of all sizes
        least = np.full(2**8, 77)
        keys(file_of(page(INDEX_LEAF, [entry(6, rowid=rowid)])), least=least)
        assert np.flatnonzero(least == 6).tolist() == [block for block in [rowid >> 12] if block < 2**8]


@pytest.mark.parametrize("rowid", [None, 1.5, "x"])
def test_rows_without_a_number_are_no_index(rowid):
    assert keys(file_of(page(INDEX_LEAF, [entry(6, rowid=rowid)])), least=np.full(3, 77)) == BAD


def test_an_index_without_row_numbers():
    payload = record([6, "c1"])
    index = file_of(page(INDEX_LEAF, [varint(len(payload)) + payload]))
    assert keys(index) == ([], 1, 0)
    assert keys(index, least=np.full(3, 77)) == BAD


def test_an_index_of_several_pages():
    """A cell between two pages stands between them in order, too."""
    top = page(INDEX_INTERIOR, [below(3, entry(2)), below(4, entry(4))], right=5)
    pages = entries(1, 2), entries(2, 3), entries(4, 5)
    assert keys(file_of(top, *pages)) == ([2, 2, 4], 8, 3)
    for i in range(3):
        assert keys(file_of(top, *pages[:i], JUNK, *pages[i + 1 :])) == BAD
    assert keys(file_of(top, *pages[:2])) == BAD
    assert keys(file_of(page(INDEX_INTERIOR, [], right=3), entries(1, 1))) == ([1], 2, 1)
    for depth, found in ((format_kernels.DEPTH - 1, ([1], 2, 1)), (format_kernels.DEPTH, BAD)):
        chain = [page(INDEX_INTERIOR, [], right=3 + i) for i in range(depth)]
        assert keys(file_of(*chain, entries(1, 1))) == found


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("leaves", [0, 1, 2, 3, 4, 7])
def test_parts_of_an_index_find_all_between_them(parts, leaves):
    """Also what stands once before, within and behind a cell where one part ends."""
    numbers = [n // 3 for n in range(3 * (3 * leaves + 2))]
    pieces = [numbers[i : i + 8] for i in range(0, len(numbers), 9)]
    cells = [below(3 + i, entry(numbers[i * 9 + 8])) for i in range(len(pieces) - 1)]
    pages = [page(INDEX_INTERIOR, cells, right=2 + len(pieces)), *(entries(*piece) for piece in pieces)]
    if leaves == 0:
        pages = [entries(*numbers)]
    found = [keys(file_of(*pages), part=part, parts=parts, room=99) for part in range(parts)]
    assert sorted({number for some, _, _ in found for number in some}) == sorted(set(numbers))
    ends = [table_kernels.end_of_part(part, parts, 2 * len(cells) + 1) for part in range(parts)]
    twice = sum(0 < end <= 2 * len(cells) for end in ends[:-1])  # cells that two parts look at
    assert sum(seen for _, seen, _ in found) == len(numbers) + (twice if leaves else 0)
    if parts == 2 and len(cells) > 1:
        assert all(seen < len(numbers) for _, seen, _ in found), "each has less to do than all"


def test_pages_that_are_none_of_the_indexes():
    good = entries(1, 1)
    assert keys(file_of(JUNK, good), root=3) == ([1], 2, 1)
    assert keys(file_of(good), root=3) == BAD
    assert keys(array(good), root=1) == BAD
    for kind in (0, TABLE_LEAF, TABLE_INTERIOR):
        assert keys(file_of(bytes([kind]) + good[1:])) == BAD


def test_as_many_cells_as_a_page_of_an_index_has_room_for():
    # The page's own header is a record of an integer and a NULL.
    assert keys(counted(INDEX_LEAF, 252, 3, 9)) == ([], 0, 0)
    assert keys(counted(INDEX_LEAF, 253, 3, 9)) == BAD


def cell_page(payload, length=None, kind=INDEX_LEAF):
    return file_of(page(kind, [varint(len(payload) if length is None else length) + payload]))


def test_entries_that_are_refused():
    good = bytes([4, 1, 17, 1, 5]) + b"c1" + bytes([9])
    assert keys(cell_page(good)) == ([], 1, 0)
    assert keys(cell_page(good, len(good) + 1)) == BAD, "it ends behind its page"
    assert keys(cell_page(bytes([4, 0, 17, 1]) + b"c1\1")) == BAD, "no number"
    assert keys(cell_page(bytes([4, 7, 17, 1]) + bytes(8) + b"c1\1")) == BAD
    assert keys(cell_page(bytes([4, 9, 17, 1]) + b"c1\1")) == ([], 1, 0)
    assert keys(cell_page(bytes([4, 10, 17, 1]) + b"c1\1")) == BAD
    assert keys(cell_page(bytes([3, 9, 17]) + b"c1")) == ([], 1, 0), "the shortest head"
    assert keys(cell_page(bytes([2, 9, 17]) + b"c1")) == BAD
    assert keys(cell_page(bytes([5, 9, 17]) + b"c")) == BAD, "a head that is longer than all of it"
    assert keys(cell_page(bytes([3, 9, 17]) + b"c")) == BAD, "a text that is cut"
    assert keys(cell_page(bytes([3, 4, 13]) + b"abc")) == BAD, "a number that is cut"
    assert keys(cell_page(bytes([3, 9, 16]) + b"c1")) == ([], 0, 0), "bytes"
    assert keys(cell_page(bytes([3, 9, 13]))) == ([], 0, 0)
    assert keys(cell_page(bytes([3, 9, 13])), word=b"") == ([], 1, 0)
    assert keys(cell_page(bytes([2, 9]))) == BAD
    assert keys(cell_page(bytes([11, 9, *varint(2**63)]))) == BAD, "a type below 0"
    longest = ROOM[INDEX_LEAF]
    for more, found in ((0, ([], 0, 0)), (1, BAD)):  # a longer one goes on elsewhere
        text = longest - 4 + more
        payload = bytes([4, 9, *varint(13 + 2 * text)]) + b"c" * text
        assert len(payload) == longest + more
        assert keys(cell_page(payload)) == found


# Sums


NO_LENGTH = np.array([-1], dtype=np.int64)


def sums(data, root=2, columns=5, budget=99, wanted=(True, True, True), fields=(-1, 0, 1, 2, 3, 4)):
    """Rows and sums of the blocks "c1", "c2" and of all others, page by page; or `BAD`."""
    names = sorted((int(sum_kernels.name_key(array(name))), name) for name in (b"c1", b"c2"))
    found = np.zeros(3, dtype=np.int64), np.zeros(3, dtype=np.int64)
    stack, step = np.zeros(format_kernels.DEPTH, dtype=np.int64), np.zeros(format_kernels.DEPTH, dtype=np.int64)
    state = np.array([0, 0], dtype=np.int64)
    stack[0] = root
    order = [(b"c1", b"c2").index(name) for _, name in names]
    for _ in range(200):
        done = sum_kernels.sum_rows(
            data, SIZE, columns, np.array(fields), np.zeros(len(fields), dtype=np.bool_), np.array([0]), NO_LENGTH,
            np.array([key for key, _ in names]), np.array([wanted[i] for i in (*order, 2)]), crc32_table(), stack, step,
            state, budget, *found,
        )  # fmt: skip
        if done != 0:
            break
    if done == BAD:
        return BAD
    assert done == 1
    place = {name: i for i, name in enumerate([*order, 2])}
    return [(int(found[0][place[i]]), int(found[1][place[i]])) for i in range(3)]


def expected_sums(rows, numbered):
    """By the ways of `row_sums`."""
    found = [[0, 0], [0, 0], [0, 0]]
    for number, one in rows:
        block = {"c1": 0, "c2": 1}.get(one[0], 2)
        found[block][0] += 1
        found[block][1] += row_sums.checksum(*([number] if numbered else []), *one)
    return [tuple(one) for one in found]


SUMMED = [(1, row(1)), (5, row(2, key="c2")), (6, row(3, key="c3")), (7, row(4, key=None)), (4096, row(5))]


@pytest.mark.parametrize("budget", [1, 2, 99])
def test_sums_of_a_table(budget):
    cells = [row_cell(*one) for one in SUMMED]
    top = page(TABLE_INTERIOR, [below(3, varint(5)), below(4, varint(7))], right=5)
    pages = [page(TABLE_LEAF, some) for some in (cells[:2], cells[2:4], cells[4:])]
    assert sums(file_of(page(TABLE_LEAF, cells)), budget=budget) == expected_sums(SUMMED, True)
    assert sums(file_of(top, *pages), budget=budget) == expected_sums(SUMMED, True)
    only = sums(file_of(top, *pages), budget=budget, wanted=(False, True, False))
    assert only == [(0, 0), expected_sums(SUMMED, True)[1], (0, 0)]
    for i in range(3):
        assert sums(file_of(top, *pages[:i], JUNK, *pages[i + 1 :]), budget=budget) == BAD
    assert sums(file_of(top, *pages[:2]), budget=budget) == BAD


@pytest.mark.parametrize("budget", [1, 99])
def test_sums_of_a_table_without_row_numbers(budget):
    """Its rows stand in the pages above, too."""
    cells = [spilled(record(one), INDEX_LEAF, 0)[0] for _, one in SUMMED]
    top = page(INDEX_INTERIOR, [below(3, cells[1]), below(4, cells[3])], right=5)
    pages = [page(INDEX_LEAF, [cells[i]]) for i in (0, 2, 4)]
    fields = (0, 1, 2, 3, 4)
    assert sums(file_of(top, *pages), budget=budget, fields=fields) == expected_sums(SUMMED, False)
    assert sums(file_of(page(INDEX_LEAF, cells)), budget=budget, fields=fields) == expected_sums(SUMMED, False)


@pytest.mark.parametrize("budget", [1, 99])
def test_sums_of_trees_with_pages_between(budget):
    """Below the first page there are two more levels, and rows in all that hold rows."""
    cells = [row_cell(*one) for one in SUMMED]
    middle = page(TABLE_INTERIOR, [below(5, varint(1))], right=6), page(TABLE_INTERIOR, [below(7, varint(6))], right=8)
    leaves = [page(TABLE_LEAF, some) for some in (cells[:1], cells[1:2], cells[2:3], cells[3:])]
    top = page(TABLE_INTERIOR, [below(3, varint(5))], right=4)
    assert sums(file_of(top, *middle, *leaves), budget=budget) == expected_sums(SUMMED, True)
    cells = [spilled(record(one), INDEX_LEAF, 0)[0] for _, one in (*SUMMED, *SUMMED[:2])]
    middle = page(INDEX_INTERIOR, [below(5, cells[1])], right=6), page(INDEX_INTERIOR, [below(7, cells[5])], right=8)
    leaves = [page(INDEX_LEAF, [cells[i]]) for i in (0, 2, 4, 6)]
    top = page(INDEX_INTERIOR, [below(3, cells[3])], right=4)
    found = sums(file_of(top, *middle, *leaves), budget=budget, fields=(0, 1, 2, 3, 4))
    assert found == expected_sums([*SUMMED, *SUMMED[:2]], False)


@pytest.mark.parametrize("kind", [TABLE_LEAF, INDEX_LEAF])
@pytest.mark.parametrize("length", [10, *range(79, 84), 300, *range(453, 461), 1500])
def test_sums_of_rows_that_go_on_elsewhere(kind, length):
    one = row(name="y" * length)
    number = 8 if kind == TABLE_LEAF else None
    cell, pages = spilled(record(one), kind, 3, number)
    fields = (-1, 0, 1, 2, 3, 4) if number else (0, 1, 2, 3, 4)
    whole = expected_sums([(8, one)], bool(number))
    assert sums(file_of(page(kind, [cell]), *pages), fields=fields) == whole
    if pages:  # what is not whole is no row, and its block lacks it
        assert sums(file_of(page(kind, [cell]), *pages[:-1]), fields=fields) == [(0, 0)] * 3


def test_rows_that_are_none_are_left_out():
    """Their block has one less than it should have, and so it is found to be damaged."""
    good = row_cell(1, row())
    only = expected_sums([(1, row())], True)
    for payload in (b"", record(row())[:-1], record(row()) + b"x", record([*row(), 1]), record(row()[:4])):
        wrong = varint(len(payload)) + varint(2) + payload
        assert sums(file_of(page(TABLE_LEAF, [wrong, good]))) == only
    huge = varint(2**40) + varint(2) + record(row())
    assert sums(file_of(page(TABLE_LEAF, [huge, good]))) == only
    cut = bytearray(page(TABLE_LEAF, [good, good]))
    at = int.from_bytes(cut[8:10], "big")
    cut[8:10] = (at + 1).to_bytes(2, "big")
    cut[at + 1 :] = good[:-1]
    assert sums(file_of(cut, good[-1:].ljust(SIZE, b"\0"))) == only


def test_pages_that_cannot_be_summed():
    good = leaf(row())
    assert sums(file_of(JUNK, good), root=3) == expected_sums([(1, row())], True)
    assert sums(file_of(good), root=3) == BAD
    assert sums(array(good), root=1) == BAD
    for kind in (0, 1, 3, 99):
        assert sums(file_of(bytes([kind]) + good[1:])) == BAD
    for depth in (format_kernels.DEPTH - 1, format_kernels.DEPTH):
        chain = [page(TABLE_INTERIOR, [], right=3 + i) for i in range(depth)]
        found = sums(file_of(*chain, good))
        assert found == (BAD if depth == format_kernels.DEPTH else expected_sums([(1, row())], True))
    loop = page(TABLE_INTERIOR, [below(3, varint(i)) for i in range(9)], right=3)
    assert sums(file_of(loop, good)) == BAD, "more pages than the file has"
    assert sums(counted(INDEX_LEAF, 252), columns=1, fields=(0,))[:2] == [(0, 0)] * 2
    for kind, most in ((INDEX_LEAF, 252), (TABLE_LEAF, 252), (INDEX_INTERIOR, 250), (TABLE_INTERIOR, 250)):
        assert sums(counted(kind, most + 1)) == BAD


def texts_of(*columns):
    """Lists of texts as text columns, in which each is a word of its own."""
    words = [word for column in columns for word in column]
    codes = np.arange(len(words), dtype=np.int32).reshape(len(columns), -1)
    return pages.Texts(codes, np.cumsum([0, *map(len, words)]), array("".join(words).encode()))


@pytest.mark.parametrize("reals", [(1.5, float("nan"), 3.0), (float("nan"),) * 3, (0.0, -7.0, 1e300)])
@pytest.mark.parametrize("fields", [(0, 1, 2, 3, 4), (2, 4, 0, 3, 1), (4, 3, 2, 1, 0)])
def test_checksums_of_rows_are_summed_as_they_are_written(reals, fields):
    """NaN is NULL there; a whole number of a column of reals is a real, whatever it is written as."""
    words, numbers, beside = ["", "nine bytes", "x" * 60], [0, -1, 2**40], [5, 2**62, -9]
    texts = texts_of(words)
    columns = [
        (record_kernels.INTEGER, 0),
        (record_kernels.TEXT, 0),
        (record_kernels.REAL, 0),
        (record_kernels.WORD, 0),
        (record_kernels.BESIDE_TEXT, 0),
    ]
    encoder = Encoder(
        columns, np.array([numbers]).T.copy(), np.array([reals]).T.copy(), texts, np.array([beside]), "c1", fields
    )
    order = np.array([2, 0, 1, 1])
    records = Records()
    encoder.write(order, order, records)
    rows = [(numbers[i], words[i], None if reals[i] != reals[i] else reals[i], "c1", beside[i]) for i in order]
    assert encoder.total == sum(row_sums.checksum(*(row[field] for field in fields)) for row in rows)
    for row, begin, stop in zip(rows, records.begins.tolist(), records.ends.tolist(), strict=True):
        written = [
            int(cell) if isinstance(cell, float) and abs(cell) < 1e14 and cell % 1 == 0 else cell for cell in row
        ]
        assert bytes(records.data[begin:stop]) == record(written)
    assert records.used == records.ends[-1]
    with pytest.raises(ValueError, match="fields"):
        Encoder(columns, np.zeros((1, 1), dtype=np.int64), np.zeros((1, 1)), texts, np.array([beside]), "", fields[1:])


@pytest.mark.parametrize("size", [512, 4096, 65536])
def test_the_page_for_locks_is_written_empty(size):
    locks = 2**30 // size + 1
    assert [tree_kernels.usable_page(number, size) for number in (locks - 1, locks, locks + 1)] == [
        locks - 1, locks + 1, locks + 1,
    ]  # fmt: skip
    for number, left in ((locks - 1, False), (locks, True), (locks + 1, False)):
        state, out = np.zeros(6, dtype=np.int64), np.full(3 * size, 7, dtype=np.uint8)
        state[[tree_kernels.NEXT_PAGE, tree_kernels.WRITTEN]] = number, size
        tree_kernels.leave_lock_page(state, size, out)
        assert state[tree_kernels.NEXT_PAGE] == number + left
        assert state[tree_kernels.WRITTEN] == size * (1 + left)
        assert set(out[size : 2 * size].tolist()) == {0 if left else 7}
        assert set(out[:size].tolist()) == set(out[2 * size :].tolist()) == {7}


@pytest.mark.parametrize("word", ["", "c1", "w" * 57, "w" * 58])
@pytest.mark.parametrize("room", [1, 64, 333, 1 << 15])
def test_records_of_every_size_in_too_little_room(monkeypatch, word, room):
    """Numbers are as large as they get; a row that is written partly behind its room would be an error here."""
    monkeypatch.setattr(records_module, "ROOM", room)
    words = ["", "a", "b" * 57, "c" * 58, "d" * 300, "e" * 8187, "f", "g"]
    texts = texts_of(words[::2], words[1::2])
    columns = [
        (record_kernels.INTEGER, 0),
        (record_kernels.TEXT, 1),
        (record_kernels.WORD, 0),
        (record_kernels.TEXT, 0),
        (record_kernels.REAL, 0),
    ]
    numbers = [2**62 + 1, -(2**63), 5, 2**40]
    encoder = Encoder(
        columns,
        np.array([numbers]).T.copy(),
        np.full((4, 1), 0.1),
        texts,
        np.empty((0, 0), np.int64),
        word,
        (4, 0, 1, 2, 3),
    )
    records, order = Records(), np.array([0, 1, 2, 3, 1, 0])
    encoder.write(order[:2], order[:2], records)
    encoder.write(order[2:], order[2:], records)
    rows = [(numbers[i], words[2 * i + 1], word, words[2 * i], 0.1) for i in order]
    found = [bytes(records.data[a:b]) for a, b in zip(records.begins.tolist(), records.ends.tolist(), strict=True)]
    assert found == [record(row) for row in rows]
    assert encoder.total == sum(row_sums.checksum(row[4], *row[:4]) for row in rows)
