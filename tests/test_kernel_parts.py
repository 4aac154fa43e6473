"""Each kernel by itself, as plain Python: what it makes of little, against the oracle or Python's own way to it.

Compiled they are tried together, by `test_kernels` and all that computes; here also what only makes them quick, such as
that a row of the usual sampler is read on a guess, which no result shows. `scripts/test` runs this without the JIT.
"""

import calendar
import itertools
import random
import re
from fractions import Fraction

import naive
import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import EXTENDED, ODD_CELLS, PLAIN, local_time

from jobeff.engine import (
    file_kernels,
    guess_kernels,
    merge_kernels,
    node_kernels,
    part_kernels,
    pictures,
    quantile_kernels,
    row_kernels,
    samples,
)

pytestmark = [
    pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="needs NUMBA_DISABLE_JIT=1; scripts/test runs it so"),
    pytest.mark.filterwarnings("ignore:overflow encountered"),  # words come round in machine integers
]

T = 1_600_000_000
EDGE = b"79"
"""Before and behind what is read: digits, which would be taken for more of it."""


def array(text):
    return np.frombuffer(bytes(text), dtype=np.uint8)


def amid(text):
    """A text between others, and where it stands."""
    return array(EDGE + text + EDGE), len(EDGE), len(EDGE) + len(text)


def word(text):
    assert len(text) == 8
    return np.uint64(int.from_bytes(text, "little"))


# Numbers, dates


def hundredths(cell):
    if naive.PAGE_COUNT.fullmatch(cell) is None:
        return row_kernels.NOT_A_NUMBER
    value = naive._at_most(naive.LARGEST, cell)
    return row_kernels.UNUSABLE if value is None else value


CELLS = [
    *(cell.encode() for cell in ODD_CELLS),
    *(bytes(cell) for size in range(4) for cell in itertools.product(b"0159.-+", repeat=size)),
    *(bytes(cell) for cell in itertools.product(b"nNaAiIfF-", repeat=3)),
    b"-nan", b"-inf", b"+nan", b"nane", b"na", b"nax", b"xan", b"nbn", b"inx", b"ixf", b"xnf", b"0.994", b"0.995",
    b"0.9949", b"0.0049", b"0.0051", b"-0.000", b"-0.0001", b"12.345678", b"21474836.4749", b"21474836.4750",
    b"21474836.46", b"21474836.48", b"214748364.7", b"2147483647", b"2147483648", b"2147483649", b"99999999999",
    b"00000000000000000000012.5", b"1/", b"1:", b"/1", b":1", b"1.0/", b"1.:", b"1.00:",
]  # fmt: skip


def test_hundredths():
    for cell in CELLS:
        assert row_kernels.parse_hundredths(*amid(cell)) == hundredths(cell), cell


def test_words_for_no_number():
    for cell in itertools.product(b"nNaAiIfF ", repeat=3):
        assert row_kernels.number_word(*amid(bytes(cell))) == (bytes(cell).lower() in (b"nan", b"inf"))
    assert not row_kernels.number_word(*amid(b"na"))
    assert not row_kernels.number_word(*amid(b"nan "))


@pytest.mark.parametrize(
    "digits", ["0", "7", "1600000000", *(str(2**63 + n) for n in range(-12, 13)), "9" * 19, "1" * 20, "0" * 30 + "5"]
)
def test_epochs(digits):
    assert row_kernels.parse_epoch(*amid(digits.encode())) == (-1 if int(digits) >= 2**63 else int(digits))
    for at, byte in itertools.product(range(len(digits)), b"/: -.\0\xff"):
        damaged = bytearray(digits.encode())
        damaged[at] = byte
        assert row_kernels.parse_epoch(*amid(damaged)) == row_kernels.NOT_A_NUMBER


def test_pairs_of_bytes():
    for pair in itertools.product(range(40, 70), repeat=2):
        expected = int(bytes(pair)) if bytes(pair).isdigit() else -1
        assert row_kernels.two_digits(array(bytes(pair)), 0) == expected
    for byte in range(256):
        assert row_kernels.is_digit(byte) == bytes([byte]).isdigit()
        assert row_kernels.is_blank(byte) == (byte in b" \t\v\f\r")


def test_lengths_of_months():
    for year, month in itertools.product((1900, 1999, 2000, 2019, 2020, 2021, 2100, 2400), range(1, 13)):
        assert row_kernels.days_in_month(year, month) == calendar.monthrange(year, month)[1]


def test_local_times():
    years = ("0000", "0001", "0100", "1900", "2000", "2020", "2021", "9999")
    cells = [
        f"{y}-{m:02}-{d:02}T00:00:00" for y, m, d in itertools.product(years, range(14), (0, 1, 28, 29, 30, 31, 32))
    ]
    clocks = itertools.product((0, 9, 23, 24, 30), (0, 59, 60), (0, 59, 60))
    cells += [f"2020-02-29T{h:02}:{m:02}:{s:02}" for h, m, s in clocks]
    good = "2020-09-13T12:26:40"
    cells += [good[:at] + byte + good[at + 1 :] for at in range(19) for byte in "09/:-T .\0"]
    cells += [good[:-1], good + "0", good + "Z", good[1:], ""]
    for cell in map(str.encode, cells):
        assert row_kernels.is_localtime(*amid(cell)) == naive._is_local_time(cell), cell


# Lines, columns, headers


def test_columns_of_lines():
    for size in range(6):
        for line in itertools.product(b" x\t\n", repeat=size):
            text, begin, end = amid(bytes(line))
            stop = row_kernels.line_end(text, begin, end)
            assert stop - begin == len(bytes(line).partition(b"\n")[0])
            at, found = begin, []
            while True:
                first, at = row_kernels.next_column(text, at, stop)
                if first == at:
                    break
                found.append(bytes(text[first:at]))
            assert found == bytes(line).partition(b"\n")[0].split()


def test_words():
    for one, other in itertools.product((b"", b"T", b"TI", b"TIME", b"TIMES", b"TIMe", b"XIME"), repeat=2):
        assert row_kernels.is_word(*amid(one), array(other)) == (one == other)
        assert row_kernels.starts_with(*amid(one), array(other)) == one.startswith(other)


NAMES = [name.decode() for name in samples.COLUMNS]


def roles_of(header):
    """What the kernel and the oracle make of a header: the role of each column before the cores, or None."""
    text, begin, end = amid(b" " + header + b" ")
    roles = np.full(row_kernels.ROLES, 77, dtype=np.int64)
    named = row_kernels.header_roles(text, begin, end, samples.WORDS, samples.WORD_BEGIN, roles)
    found = roles[:named].tolist() if named > 0 else None
    columns = naive._columns(header.split())
    if columns is None:
        return found, None
    expected = np.full(columns.pop(naive.CORES), row_kernels.NO_ROLE)
    for name, column in columns.items():
        expected[column] = samples.COLUMNS.index(name)
    return found, expected.tolist()


def test_headers():
    chance = random.Random(5)
    usual = [NAMES[i] for i in (0, 1, 2, 3, 5)]
    headers = [PLAIN, EXTENDED, " ".join(usual), "Individual_core " + " ".join(usual), "Individual_core_0", ""]
    for left_out in range(5):
        headers.append(" ".join([*usual[:left_out], *usual[left_out + 1 :], "Individual_core"]))
        headers.append(" ".join([*usual, usual[left_out], "Individual_core"]))
        headers.append(" ".join([*usual, "Individual_core", usual[left_out]]))
    for name in ("GB_MAX_USED", "PAGE_IN", "PAGE_OUT", "HOST", "GB_USED_TOO", "GB_USE"):
        headers.append(" ".join([*usual, "Individual_core_0", name, "Individual_core_1"]))
        headers.append(" ".join([*usual, name, name, "Individual_core_0", "Individual_core_1"]))
    for _ in range(300):
        some = chance.sample([*NAMES[:8], "HOST", "GB_USE", "X"], chance.randint(4, 11))
        some.insert(chance.randint(4, len(some)), NAMES[8] + chance.choice(["", "_0", "s"]))
        headers.append(" ".join([*some, *chance.sample(NAMES[:8], chance.choice([0, 0, 0, 1]))]))
    for header in headers:
        found, expected = roles_of(header.encode())
        assert found == expected, header


@pytest.mark.parametrize("more", [-1, 0, 1])
def test_a_header_of_very_many_columns(more):
    usual = [NAMES[i] for i in (0, 1, 2, 3, 5)]
    header = " ".join([*usual, *["X"] * (row_kernels.ROLES + more - 5), "Individual_core", "Individual_core"])
    found, expected = roles_of(header.encode())
    assert found == (expected if more <= 0 else None)


def test_usual_columns():
    roles = np.empty(row_kernels.ROLES, dtype=np.int64)
    for extended, header, size in (
        (False, PLAIN, guess_kernels.PLAIN_BYTES),
        (True, EXTENDED, guess_kernels.EXTENDED_BYTES),
    ):
        named = row_kernels.standard_roles(extended, roles)
        assert [samples.COLUMNS[role].decode() for role in roles[:named]] == header.split()[:-1]
        assert guess_kernels.fixed_layout(roles, named) == size
        assert size == len(usual_row(extended, T)) - 6
        for column in range(named):
            other = roles.copy()
            other[column] = row_kernels.NO_ROLE
            assert guess_kernels.fixed_layout(other, named) == 0
        for other in (named - 1, named + 1, 0, -1):
            assert guess_kernels.fixed_layout(roles, other) == 0


# Bytes in words


def test_bytes_that_are_the_same():
    chance = random.Random(3)
    for length, offset in itertools.product(range(27), (0, 3)):
        one = chance.randbytes(length)
        text = bytearray(chance.randbytes(offset) + one + chance.randbytes(9) + one + chance.randbytes(9))
        places = array(text), offset, offset + length + 9, length
        assert guess_kernels.same_bytes(*places)
        assert guess_kernels.same_text(*places)
        assert length < 8 or pictures.load8(array(text), offset) == word(one[:8])
        for at in range(length):
            other = text.copy()
            other[offset + at] ^= 1 << at % 8
            assert not guess_kernels.same_bytes(array(other), *places[1:])
            assert not guess_kernels.same_text(array(other), *places[1:])


def test_eight_digits():
    for number in (0, 1, 12345678, 99999999, 90000000, 10203040, 98765432):
        assert guess_kernels.eight_digits(word(bytes(map(int, f"{number:08d}")))) == number


def words_near(whole):
    """A word, and with one or two bytes of it changed."""
    some = b" 0159/:.-\x2f\x3a\xb0\xff\0"
    yield whole
    for at, byte in itertools.product(range(8), some):
        yield whole[:at] + bytes([byte]) + whole[at + 1 :]
    for at, one, two in itertools.product(range(7), b" 09.:", b" 09.:"):
        yield whole[:at] + bytes([one, two]) + whole[at + 2 :]


NUMBERS = [b"     0.0", b"    23.5", b"   128.0", b"123456.7", b"999999.9", b" 12345.6"]


@pytest.mark.parametrize("number", NUMBERS)
def test_tenths(number):
    assert guess_kernels.tenths(word(number)) == naive._hundredths(number.strip())


def fits(picture, text):
    """Which bytes fit, by the numbers of those that do not."""
    assert len(text) == pictures.PICTURED
    whole, begin, _ = amid(text)
    wrong = int(picture.misfits(whole, begin))
    assert wrong >> pictures.PICTURED == 0
    return wrong == 0


def near(whole, begin, size):
    """A text, and with a part of it changed."""
    for changed in words_near(whole[begin : begin + size]):
        yield whole[:begin] + changed + whole[begin + size :]
    for at, byte in itertools.product(range(begin, begin + size), range(256)):
        yield whole[:at] + bytes([byte]) + whole[at + 1 :]


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize("begin", [0, 10, 24])
def test_pictured_memory(number, begin):
    usual = re.compile(rb" *[0-9]+\.[0-9]")
    whole = bytearray(b"    23.5       0.5         100.0")
    whole[begin : begin + 8] = number
    for text in near(bytes(whole), begin, 8):
        expected = usual.fullmatch(text[begin : begin + 8]) is not None
        assert fits(pictures._MEMORY, text) == expected, text
        assert fits(pictures._SWAP_AND_PAGES, text[begin : begin + 8] + b"          23           0") == expected
        assert (pictures.unusual_memory(array(text), 0) == 0) == expected
    for at, byte in itertools.product((8, 9, *range(18, 24)), range(256)):
        text = bytes([*whole[:at], byte, *whole[at + 1 :]])
        assert fits(pictures._MEMORY, text) == (byte == 32)


@pytest.mark.parametrize("number", [b"       0", b"      23", b"12345678", b"  100000", b"        "])
@pytest.mark.parametrize("begin", [12, 24])
def test_pictured_pages(number, begin):
    whole = bytearray(b"     0.5       12345           0")
    whole[begin : begin + 8] = number
    for text in near(bytes(whole), begin, 8):
        expected = re.fullmatch(rb" *[0-9]+", text[begin : begin + 8]) is not None
        assert fits(pictures._SWAP_AND_PAGES, text) == expected, text
        assert (pictures.unusual_swap_and_pages(array(text), 0) == 0) == expected
    for at, byte in itertools.product((*range(8, 12), *range(20, 24)), range(256)):
        text = bytes([*whole[:at], byte, *whole[at + 1 :]])
        assert fits(pictures._SWAP_AND_PAGES, text) == (byte == 32 and number != b"        ")


@pytest.mark.parametrize("clock", [b"00:00:00", b"23:59:59", b"19:30:29", b"09:07:08"])
def test_pictured_times(clock):
    """An hour is not compared with 24."""
    usual = re.compile(rb"[0-2][0-9](:[0-5][0-9]){2}  [0-9]{10}  ")
    whole = b"020-09-13T" + clock + b"  1600000000  "
    for text in [t for begin in range(10, 25, 2) for t in near(whole, begin, 8)]:
        assert fits(pictures._TIMES, text) == (usual.fullmatch(text[10:]) is not None), text
        assert (pictures.unusual_times(array(text), 0) == 0) == fits(pictures._TIMES, text)
    assert fits(pictures._TIMES, b"\0" * 10 + whole[10:])


def test_numbers_of_a_usual_row():
    for values in itertools.product((0.0, 23.5, 128.0, 999999.9, 12345.6), repeat=3):
        for epoch in (T, 9_999_999_999, 1):
            row = f"{local_time(T)}  {epoch:010d}{values[0]:10.1f}{values[1]:10.1f}{values[2]:14.1f}".encode()
            expected = (epoch % 100_000_000, *(naive._hundredths(str(value).encode()) for value in values))
            assert pictures.usual_numbers(array(row), 0) == expected
    for text in (b"00", b"07", b"23", b"99"):
        assert guess_kernels.two_lower_digits(word(text + b"6 x:\xff5")) == int(text)


def usual_row(extended, epoch, cores=(50.0,), limit=23.5, used=1.5, most=2.5, swap=0.0, pages=(12, 7)):
    """A row as the usual sampler prints it."""
    row = f"{local_time(epoch)}{epoch:12d}{limit:10.1f}{used:10.1f}"
    row += f"{most:14.1f}{swap:14.1f}{pages[0]:12d}{pages[1]:12d}" if extended else f"{swap:14.1f}"
    return (row + "".join(f"{core:6.1f}" for core in cores)).encode()


TENTHS = [*range(0, 1003, 7), 99, 100, 999, 1000, 1001, 1009, 1010, 1011, 1012, 1099, 1100, 9999]


def reads_usual(text, begin, width, cores, core):
    """`usual_cores` in the words of `guess_cores`."""
    text = array(text.tobytes() + EDGE * pictures.PICTURED)
    kept, behind = cores.copy(), core + pictures.LANES
    wrong = pictures.usual_cores(text, begin, width, cores, core)
    assert (cores[:core] == kept[:core]).all() and (cores[behind:] == kept[behind:]).all()
    return wrong == 0


@pytest.mark.parametrize("reads", [reads_usual, guess_kernels.guess_cores])
def test_cores_in_the_usual_format(reads):
    """All that is in it is taken, whatever more; what is not is left to the reader of columns."""
    cores = np.arange(16, dtype=np.uint16)
    for tenths in TENTHS:
        text = array(f"    0.0{tenths / 10:6.1f}  77.7  ".encode())
        expected = tenths <= 1010
        assert reads(text, 7, 2, cores, 3) == expected
        if expected:
            assert cores[3:5].tolist() == [min(10 * tenths, 10_000), 7770]
    usual = re.compile(rb"(  [0-9]| [0-9]{2}|[0-9]{3})\.[0-9]")
    for cell in (b"   0.0", b"  12.5", b" 100.0", b" 101.0", b"1000.0", b" 100 0"):
        for at, byte in itertools.product(range(6), b" 0129.-x/:\x10\xb0"):
            damaged = cell[:at] + bytes([byte]) + cell[at + 1 :]
            text = array(b"   5.0" + damaged + b"  77.7")
            number = naive._at_most(naive.WORST_CORE, damaged.strip()) if usual.fullmatch(damaged[1:]) else None
            expected = damaged[:1] == b" " and number is not None
            assert reads(text, 6, 2, cores, 0) == expected, damaged
            if expected:
                assert cores[:2].tolist() == [min(number, 10_000), 7770]


@pytest.mark.parametrize("count", range(1, pictures.CELLS + 1))
def test_each_byte_of_cores_in_the_usual_format(count):
    """What stands behind them is not looked at."""
    usual = re.compile(rb" (  [0-9]| [0-9]{2}|[01][0-9]{2})\.[0-9]")
    cells, cores = [b"   0.0", b"  12.5", b" 100.0", b"  99.9", b" 101.0"], np.zeros(16, dtype=np.uint16)
    row = b"".join(cells)
    for at, byte in itertools.product(range(len(row) + 2), range(256)):
        damaged = bytearray(row + EDGE)
        damaged[at] = byte
        found = [bytes(damaged[i : i + 6]) for i in range(0, 6 * count, 6)]
        values = [naive._at_most(naive.WORST_CORE, cell.strip()) if usual.fullmatch(cell) else None for cell in found]
        assert (pictures.usual_cores(array(damaged), 0, count, cores, 0) == 0) == (None not in values), damaged
        if None not in values:
            assert cores[:count].tolist() == [min(value, 10_000) for value in values]


def test_how_many_cores_a_usual_row_has():
    for extended, before in ((False, guess_kernels.PLAIN_BYTES), (True, guess_kernels.EXTENDED_BYTES)):
        for width in (1, 2, 9):
            row = usual_row(extended, T, [5.0] * width)
            for text, end in ((row, len(row)), (row + b"\n" + row, 2 * len(row) + 1), (row + b"\n", len(row) + 1)):
                whole = array(text + b"99")
                assert guess_kernels.fixed_width(whole, 0, end, before) == width
                behind = array(b"x" * 70 + text + b"99")
                assert guess_kernels.fixed_width(behind, 70, 70 + end, before) == width
            # One longer or shorter than its cells, and one cut.
            for text in (row + b"1\n", row + b"  \n" + row, row[:-1] + b"\n" + row, row + b"  5\n"):
                assert guess_kernels.fixed_width(array(text + b"99"), 0, len(text), before) == 0
        assert guess_kernels.fixed_width(array(row), 0, before, before) == 0
        assert guess_kernels.fixed_width(array(row + b"\n"), 0, before + 5, before) == 0


def read_fixed(text, extended, width, seen=None, behind=b"  0.0" * 9, room=40):
    """How many rows are read by `fixed_rows`, day after day, and as what."""
    before = guess_kernels.EXTENDED_BYTES if extended else guess_kernels.PLAIN_BYTES
    columns = [np.full(12, -7, dtype=kind) for kind in (np.int64, *[np.int32] * 4)]
    cores = np.full(room, 9, dtype=np.uint16)
    if seen is None:
        seen = np.zeros(2, dtype=np.uint64)
        seen[1] = ~np.uint64(0)
    whole, count, at = array(text + behind), 0, 0
    while True:
        place = (2 + count, 4 + width * count)
        found = guess_kernels.fixed_rows(whole, at, len(text), before, width, *place, seen, *columns, cores)
        if found == 0:
            break
        count += found
        at += found * (before + 6 * width + 1)
    time, limit, used, most, swap = ([int(value) for value in column[2 : 2 + count]] for column in columns)
    none = [m if m >= 0 else None for m in most]
    found = [tuple(cores[4 + width * i : 4 + width * (i + 1)].tolist()) for i in range(count)]
    return [naive.Sample(*row) for row in zip(time, limit, used, none, swap, found, strict=True)], seen


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("width", [1, 3, 5, 6, 11])
def test_usual_rows_are_read_as_usual(extended, width):
    """All of them, up to the first that is not; the oracle says what they are."""
    epochs = [T, T + 300, T + 86_400, T + 86_700, 999_999_999 + 1, 9_999_999_999]
    values = [(0.0, 0.0, 0.0, 0.0), (23.5, 1.5, 2.5, 0.0), (128.0, 99.9, 100.0, 7.5), (999999.9, 9999.9, 9999.9, 1e5)]
    values += [(23.5, 0.1, 999999.9, 999999.9), (23.5, 0.1, 0.2, 0.0)]
    loads = [5.0, 100.0, 101.0, 0.0, 99.9, 12.3, 45.6, 78.9, 10.0, 1.0, 100.9][:width]
    rows = [
        usual_row(extended, epoch, loads, *value, (10**7, 10**7 + epoch % 7))
        for epoch, value in zip(epochs, values, strict=True)
    ]
    whole = b"\n".join([*rows, b""])
    expected, rejected = naive.parse(whole, extended)
    assert (len(expected), rejected) == (6, 0)
    room = 4 + 6 * width + pictures.LANES
    found, seen = read_fixed(whole, extended, width, room=room)
    assert found == expected
    assert read_fixed(whole, extended, width, seen, room=room)[0] == expected
    assert bytes(seen) == rows[5][:8] + rows[5][3:11]
    nothing, same = read_fixed(b"x" + whole, extended, width, seen.copy(), room=room)
    assert nothing == []
    assert bytes(same) == bytes(seen)
    # One without its line end, or cut; one that ends with all text; one whose cores there is no room for.
    for text in (whole[:-1], whole[:-2], whole[:-1] + b" "):
        assert read_fixed(text, extended, width, room=room)[0] == expected[:5]
    for size in range(pictures.PICTURED + 2):
        found, _ = read_fixed(whole, extended, width, behind=b"5" * size, room=room)
        assert found == expected[: 6 if size >= pictures.PICTURED else 5]
    assert read_fixed(whole, extended, width, room=room - 1)[0] == expected[:5]


@pytest.mark.parametrize("extended", [False, True])
def test_a_changed_byte_of_a_usual_row(extended):
    """What is read of it the reader of columns would have read, and it is read where it is still usual."""
    first = usual_row(extended, T, [5.0, 7.5])
    number = rb"( +[0-9]+\.[0-9])"
    usual = re.compile(
        rb"[-0-9T:]{19}  [0-9]{10} " + (number * 4 + rb"( +[0-9]+){2}" if extended else number * 3) + number * 2
    )
    for at, byte in itertools.product(range(len(first)), b" 0269./:;-Tx\xb0\x90"):
        damaged = first[:at] + bytes([byte]) + first[at + 1 :]
        found, _ = read_fixed(first + b"\n" + damaged + b"\n", extended, 2)
        alone, _ = read_fixed(damaged + b"\n", extended, 2)
        expected, _ = naive.parse(damaged, extended)
        assert alone == found[1:]
        assert len(alone) <= len(expected)
        assert alone in ([], expected), damaged
        spans = [int(size) for size in ((10, 10, 14, 14, 12, 12, 6) if extended else (10, 10, 14, 6))]
        at_end = [31 + sum(spans[: i + 1]) for i in range(len(spans))]
        if usual.fullmatch(damaged) and expected and all(damaged[end - 1 : end] != b" " for end in at_end):
            wide = [damaged[end - size : end] for end, size in zip(at_end, spans, strict=True)]
            if all(len(cell.split()) == 1 and len(cell.strip()) <= 8 for cell in wide):
                assert alone == expected, damaged


# Rows on a guess


def guessed(first, second, extended, width=2, elsewhere=None):
    """Whether a row is read by `guess_row` as like the one before, and as what."""
    text = array(b"0.0\n" + first + b"\n" + second + b"\n  0.0   0.0")
    at = len(first) + 5
    named = 8 if extended else 5
    roles = np.empty(row_kernels.ROLES, dtype=np.int64)
    row_kernels.standard_roles(extended, roles)
    ends = np.zeros(file_kernels.GUESSED, dtype=np.int64)
    if not guess_kernels.learn_shape(text, 4, 4 + len(first), named, width, ends):
        return None
    columns = [np.zeros(2, dtype=kind) for kind in (np.int64, *[np.int32] * 4)]
    cores = np.zeros(2 * width, dtype=np.uint16)
    assert row_kernels.parse_row(text, 4, 4 + len(first), roles, named, 0, 0, *columns, cores) == width
    if elsewhere is not None:
        roles[elsewhere[0]] = elsewhere[1]
    if not guess_kernels.guess_row(text, at, 4, ends, roles, named, width, 1, width, *columns, cores):
        return []
    time, limit, used, most, swap = (int(column[1]) for column in columns)
    return [naive.Sample(time, limit, used, most if most >= 0 else None, swap, tuple(cores[width:].tolist()))]


def shaped_row(
    extended, epoch=T, cores=(50.0, 7.5), limit="23.50", used="1.50", most="2.50", swap=" 0.00", pages="12 7"
):
    """A row of another sampler: two decimals; cores as usual."""
    row = f"{local_time(epoch)} {epoch} {limit} {used} " + (f"{most} {swap} {pages}" if extended else swap)
    return (row + "".join(f"{core:6.1f}" for core in cores)).encode()


@pytest.mark.parametrize("extended", [False, True])
def test_rows_of_another_usual_shape_are_guessed(extended):
    first = shaped_row(extended)
    others = [
        shaped_row(extended, T + 300),
        shaped_row(extended, T + 300, (0.0, 100.0)),
        shaped_row(extended, T + 300, limit="64.25"),
        shaped_row(extended, T + 300, used="9.99"),
        shaped_row(extended, T + 300, swap=" 3.25"),
        shaped_row(extended, T + 300, swap="13.25"),
        shaped_row(extended, T + 300, most="7.77"),
        shaped_row(extended, T + 300, pages="99 8"),
        shaped_row(extended, T + 300, pages="12 8"),
    ]
    for other in others:
        expected, _ = naive.parse(other, extended)
        assert guessed(first, other, extended) == expected
    # Another day is read, not guessed.
    assert guessed(first, shaped_row(extended, T + 86_400), extended) == []


@pytest.mark.parametrize("extended", [False, True])
def test_a_changed_byte_of_a_guessed_row(extended):
    first = shaped_row(extended)
    for at, byte in itertools.product(range(len(first)), b" 0269./:;-+Tx\xb0"):
        second = first[:at] + bytes([byte]) + first[at + 1 :]
        found = guessed(first, second, extended)
        assert found in ([], naive.parse(second, extended)[0]), second


@pytest.mark.parametrize("extended", [False, True])
def test_rows_whose_times_stand_elsewhere_are_not_guessed(extended):
    first, second = shaped_row(extended), shaped_row(extended, T + 300)
    assert guessed(first, second, extended) == naive.parse(second, extended)[0]
    for place in range(2):
        assert guessed(first, second, extended, elsewhere=(place, row_kernels.GB_USED)) == []


def test_a_column_of_no_use_is_not_guessed_where_it_differs():
    for used, found in (("1.50", 1), ("9.99", 0)):
        second = shaped_row(True, T + 300, used=used)
        assert len(guessed(shaped_row(True), second, True, elsewhere=(3, row_kernels.NO_ROLE))) == found


def test_shapes_that_are_learned():
    """Times first, from the first byte; cores of six bytes each to the end; not too many columns."""
    for extended in (False, True):
        row = shaped_row(extended)
        for other in (b" " + row, row + b" ", row[:-1], row[:19] + b" " + row[19:], row[:18] + row[19:]):
            learned = guessed(other, row, extended)
            assert (learned is None) == (other != row[:19] + b" " + row[19:])
    row = shaped_row(False)
    text = array(b"12345" + row + b"67")
    ends = np.full(5, -1, dtype=np.int64)
    assert guess_kernels.learn_shape(text, 5, 5 + len(row), 5, 2, ends)
    assert ends.tolist() == list(itertools.accumulate([19, 11, 6, 5, 6]))
    assert not guess_kernels.learn_shape(text, 5, 5 + len(row), 5, 2, ends[:4])
    assert not guess_kernels.learn_shape(text, 5, 5 + len(row), 5, 3, ends)
    assert not guess_kernels.learn_shape(text, 5, 5 + len(row), 4, 2, ends)


def test_times_that_are_guessed():
    before = b"2020-09-13T12:26:40 1600000000"
    for clock, digits in itertools.product(
        ("12:26:40", "00:00:00", "23:59:59", "24:00:00", "20:60:00", "20:00:60", "2x:00:00", "12-26:40", "12:26-40"),
        (
            "1600000300",
            " 600000300",
            "         9",
            "          ",
            "16000003x0",
            "160000/300",
            "1 00000300",
            "160000:300",
        ),
    ):
        row = f"2020-09-13T{clock} {digits}".encode()
        usual = re.fullmatch(r"([01]\d|2[0-3])(:[0-5]\d){2}", clock) and re.fullmatch(r" *\d+", digits)
        found = guess_kernels.guess_times(array(before + row + b"99"), len(before), 0, 30)
        assert found == (int(digits) if usual else -1), row
    for at in (*range(11), 19):
        row = bytearray(before)
        row[at] ^= 1
        assert guess_kernels.guess_times(array(before + row), len(before), 0, 30) == -1
    for digits in ("1" * 18, "1" * 19, " " + "1" * 18):
        row = f"2020-09-13T12:26:40 {digits}".encode()
        found = guess_kernels.guess_times(array(row + row), len(row), 0, len(row))
        assert found == (int(digits) if len(digits.strip()) < 19 else -1)


def test_numbers_that_are_guessed():
    for cell in (
        b" 1.5",
        b"  10",
        b" 0.0",
        b"\t1.5",
        b"1.50",
        b"    ",
        b" +1.",
        b" -1.",
        b"1 .5",
        b" 1 5",
        b"x 15",
        b" nan",
    ):
        text, begin, end = amid(cell)
        usual = re.fullmatch(rb"[ \t]+[^ +]\S*", cell) is not None
        found = guess_kernels.guess_number(text, begin, end)
        assert found == (hundredths(cell.strip()) if usual else row_kernels.NOT_A_NUMBER), cell


# Files


def test_headers_that_were_met_before():
    text = array(b"LOCALTIME a\nrow\nLOCALTIME a\nLOCALTIME abc\nLOCALTIME a")
    headers = np.zeros((4, 4), dtype=np.int64)
    headers[3, :2] = 0, 11
    assert guess_kernels.known_header(text, 16, 40, headers) == 3
    assert guess_kernels.known_header(text, 28, len(text), headers) == -1  # goes on
    assert guess_kernels.known_header(text, 42, len(text), headers) == 3  # ends the file
    assert guess_kernels.known_header(text, 42, len(text) - 1, headers) == -1
    assert guess_kernels.known_header(text, 12, len(text), headers) == -1
    headers[2, :2] = 12, 3
    assert guess_kernels.known_header(text, 12, 20, headers) == 2
    headers[:2] = headers[3]
    headers[3] = 0
    assert guess_kernels.known_header(text, 16, 40, headers) == -1


@example([3, 1, 3, 2, 1, 2, 0], 2)
@given(st.lists(st.integers(0, 6), max_size=20), st.integers(0, 3))
def test_ordering(values, before):
    everything = np.array([9] * before + values + [0], dtype=np.int64)
    begin, end = before, before + len(values)
    assert file_kernels.is_increasing(everything, begin, end) == (values == sorted(set(values)))
    order = file_kernels.stable_order(everything[begin:end])
    assert order.tolist() == np.argsort(values, kind="stable").tolist()
    rows = np.zeros(len(values), dtype=np.int64)
    kept = file_kernels.first_of_each(everything, begin, end, rows)
    firsts = [values.index(value) for value in sorted(set(values))]
    assert rows[:kept].tolist() == firsts
    cells = np.arange(2 * len(everything))
    file_kernels.rearrange(cells, 2 * begin, 2, rows, kept)
    moved = [2 * begin + 2 * row + side for row in firsts for side in (0, 1)]
    assert cells[2 * begin : 2 * (begin + kept)].tolist() == moved
    assert cells[: 2 * begin].tolist() == list(range(2 * begin))


def test_usable_values_are_kept_together():
    for values in ([], [-1], [-1, -2], [0], [5, -1], [-1, 5, 7]):
        column = np.array([1, 2, 3, *values, 9], dtype=np.int32)
        end = file_kernels.keep_usable(column, 3, 3 + len(values), 1)
        usable = values if any(value >= 0 for value in values) else []
        assert (end, column[1:end].tolist()) == (1 + len(usable), usable)


# Samples to partials


@given(
    st.lists(st.sampled_from([300, 300, 300, 1, 149, 150, 151, 299, 301, 449, 450, 451, 600, 900]), max_size=8),
    st.sampled_from([300, 301, 2]),
    st.integers(1, 3) | st.sampled_from([31, 32, 33, 70]),
    st.data(),
)
def test_busy_cores_of_a_raw_file(steps, interval, width, data):
    """Of several rows of one sampling time the last counts, for the most of all times too."""
    times = [1_600_000_000, *(1_600_000_000 + step for step in itertools.accumulate(steps))]
    levels = st.sampled_from([0, 29, 30, 31, 99, 100, 101, 1000])
    cores = [data.draw(st.lists(levels, min_size=width, max_size=width)) for _ in times]
    by_slot = {}
    for time, row in zip(times, cores, strict=True):
        slot = round(Fraction(time - times[0], interval))
        by_slot[slot] = (sum(core > 100 for core in row), sum(core > 30 for core in row))
    flat = np.array([7, 7, *(core for row in cores for core in row), 1000], dtype=np.uint16)
    high = np.full(len(times) + 1, 77, dtype=np.int32)
    time = np.array([5, *times, 5])
    marks = [np.full(len(times) * width // 32 + 2, 2**32 - 1, dtype=np.uint32) for _ in range(2)]
    count, most = node_kernels.busy_rows(interval, 100, 30, time, 1, 1 + len(times), flat, 2, width, *marks, high)
    assert high[:count].tolist() == [busy for busy, _ in by_slot.values()]
    assert most == max(light for _, light in by_slot.values())
    assert high[len(times)] == 77


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000), st.sampled_from([1, 2, 60, 300, 301]))
def test_sampling_times(since, first, start, interval):
    expected = round(Fraction(since, interval)) + max(0, first - start) // interval
    assert part_kernels.slot_of(first + since, first, start, interval) == expected


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=4), st.integers(0, 20))
def test_attempts_that_rows_belong_to(spans, time):
    starts = np.array([0, *sorted(start for start, _ in spans), 99])
    stops = starts + np.array([0, *(length for _, length in spans), 0])
    distances = [max(0, start - time, time - stop) for start, stop in zip(starts, stops, strict=True)][1:-1]
    assert part_kernels.attempt_of(time, 1, len(spans) + 1, starts, stops) == 1 + distances.index(min(distances))


@given(st.lists(st.one_of(st.integers(0, 9), st.integers(0, 2**31 - 1)), min_size=1, max_size=20))
def test_quantiles(values):
    """Of some of the values, of each width; as they are, and with how often each is there."""
    for quarters, kind in itertools.product(range(5), (np.int32, np.int64)):
        expected = np.percentile(values, 25 * quarters)
        among = np.array([5, *values, 2**31 - 1, 0], dtype=kind)
        found = quantile_kernels.quantile(among, np.int64(1), np.int64(1 + len(values)), quarters)
        assert found == pytest.approx(expected, rel=1e-12)
        counted = np.array([(value, values.count(value)) for value in sorted(set(values))])
        assert quantile_kernels.counted_quantile(counted, quarters) == pytest.approx(expected, rel=1e-12)


@given(*[st.tuples(st.integers(0, 3), st.sampled_from([0, 1, 2, 3]))] * 2)
def test_ranks(one, other):
    def key(peak, limit):
        return (1, Fraction(peak, limit)) if limit else (0, peak)

    assert merge_kernels.ranks_before(*one, *other) == (key(*one) > key(*other))


@given(
    st.lists(st.tuples(st.integers(-99, 99) | st.sampled_from([0, 10**6, -(10**6)]), st.integers(0, 5)), max_size=12)
)
def test_adding_up(rows):
    table = np.array([[7, 7], *rows, [7, 7], *rows], dtype=np.int64)
    spans = np.array([[1, 1 + len(rows)], [3, 3], [2 + len(rows), len(table)]])
    out = np.zeros((len(table), 2), dtype=np.int64)
    end = merge_kernels.add_up(table, spans, out, 1)
    keys = sorted({key for key, _ in rows})
    assert out[1:end].tolist() == [[key, 2 * sum(n for k, n in rows if k == key)] for key in keys]
    assert not out[end:].any()
