"""Numba kernels: text bytes to samples, samples to partials, partials to rows.

Numbers that a site can set are passed as arguments, because numba freezes globals. Values are fixed point,
hundredths, so that sums are exact whatever their order. ``fastmath`` stays off: a rebuild and a nightly run must give
the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jobeff.jit import allocating_kernel, instructions, kernel
from jobeff.prefetch import prefetch
from jobeff.store.crc_kernels import crc32_of

# What a number in the text can turn out to be, where it is not a value >= 0.
NOT_A_NUMBER = -1  # columns have run together, or text
UNUSABLE = -2  # negative, not finite, or larger than fixed point holds

LARGEST = 2**31 - 1  # hundredths in an int32
INT64_MAX = 2**63 - 1
FULL_CORE = 10_000  # 100.00 percent
ROUNDED_DOWN = 10_100  # up to here a core counts as full

# Columns of a raw file, as indexes of a header's `places`.
LOCALTIME, TIME, GB_LIMIT, GB_USED, GB_MAX_USED, GB_SWAP_USED, PAGE_IN, PAGE_OUT = range(8)
CORES = 8  # where the core columns begin
NO_ROLE = -1
ROLES = 4096  # columns a header may name before the cores
GUESSED = 32  # with more columns before the cores than these, rows are not guessed
CELL = 6  # bytes of a core in the usual format, %6.1f
PLAIN_BYTES, EXTENDED_BYTES = 65, 103  # of a row before its cores, as the usual sampler prints it
# Columns of `jobeff.engine.shared.Shared.parts`.
JOB, RANK, NODES, COUNTS, COVERED, CORE_SUM, CORE_VALUES, PEAK, LIMIT, SWAP, REJECTED, SLOT_END, USED_END = range(13)
SIX_SPACES = np.uint64(0x202020202020)
PICTURED = 32  # bytes that are looked at in one step
CELLS, LANES = PICTURED // CELL, 8  # cores that are read in one step, and how many are written
BLOCK = 32  # samples that are looked at in one step: most files have a few dozen
WORD, SPARSEST = 64, 64  # bits; so many keys that may be, for each that is there, are looked through by their bits
CACHE_LINE, FETCHED = 64, 4096  # bytes of memory that come at once, and of a text that are asked for


@kernel
def is_blank(byte: int) -> bool:
    """Whether a byte separates columns: space, tab, vertical tab, form feed, carriage return."""
    return byte == 32 or byte == 9 or byte == 11 or byte == 12 or byte == 13


@kernel
def is_digit(byte: int) -> bool:
    """Whether a byte is an ASCII digit."""
    return 48 <= byte <= 57


@kernel
def number_word(text: np.ndarray, begin: int, end: int) -> bool:
    """Whether ``text[begin:end]`` is ``nan`` or ``inf`` in any case."""
    if end - begin != 3:
        return False
    a, b, c = text[begin] | 32, text[begin + 1] | 32, text[begin + 2] | 32
    return (a == 110 and b == 97 and c == 110) or (a == 105 and b == 110 and c == 102)


@kernel
def parse_hundredths(text: np.ndarray, begin: int, end: int) -> int:
    """Read a decimal number exactly, as hundredths.

    Parameters
    ----------
    text
        Bytes, uint8.
    begin, end
        Where the column stands.

    Returns
    -------
    int
        Hundredths, further decimals rounded half up; `NOT_A_NUMBER` or `UNUSABLE` otherwise. Minus is usable before
        zeros only, since printf prints ``-0.0``.
    """
    at = begin
    sign = 0
    if at < end and (text[at] == 45 or text[at] == 43):
        sign = text[at]
        at += 1
    if sign != 43 and number_word(text, at, end):
        return UNUSABLE
    value = 0
    digits = 0
    while at < end and is_digit(text[at]):
        if value <= LARGEST:
            value = value * 10 + (np.int64(text[at]) - 48)
        at += 1
        digits += 1
    value *= 100
    beyond = False  # a non-zero digit after the hundredths
    if at < end and text[at] == 46:
        at += 1
        place = 0
        up = 0
        while at < end and is_digit(text[at]):
            digit = np.int64(text[at]) - 48
            if place == 0:
                value += digit * 10
            elif place == 1:
                value += digit
            else:
                if place == 2 and digit >= 5:
                    up = 1
                beyond = beyond or digit > 0
            place += 1
            digits += 1
            at += 1
        if sign == 0:
            value += up
    if at != end or digits == 0:
        return NOT_A_NUMBER
    if sign == 43 or (sign == 45 and (value > 0 or beyond)) or value > LARGEST:
        return UNUSABLE
    return value


@kernel
def parse_epoch(text: np.ndarray, begin: int, end: int) -> int:
    """Read epoch seconds: digits, less than 2**63; else `NOT_A_NUMBER`."""
    value = np.int64(0)
    for at in range(begin, end):
        digit = np.int64(text[at]) - 48
        if digit < 0 or digit > 9 or value > (INT64_MAX - digit) // 10:
            return NOT_A_NUMBER
        value = value * 10 + digit
    return value


@kernel
def two_digits(text: np.ndarray, at: int) -> int:
    """Two digits as a number, or -1."""
    if is_digit(text[at]) and is_digit(text[at + 1]):
        return (np.int64(text[at]) - 48) * 10 + (np.int64(text[at + 1]) - 48)
    return -1


@kernel
def days_in_month(year: int, month: int) -> int:
    """Length of a month of the Gregorian calendar."""
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if leap else 28
    return 30 if month == 4 or month == 6 or month == 9 or month == 11 else 31


@kernel
def is_localtime(text: np.ndarray, begin: int, end: int) -> bool:
    """Whether a column is a real date and time, ``YYYY-MM-DDTHH:MM:SS``."""
    if end - begin != 19:
        return False
    if text[begin + 4] != 45 or text[begin + 7] != 45 or text[begin + 10] != 84:
        return False
    if text[begin + 13] != 58 or text[begin + 16] != 58:
        return False
    century, years = two_digits(text, begin), two_digits(text, begin + 2)
    month, day = two_digits(text, begin + 5), two_digits(text, begin + 8)
    hour, minute = two_digits(text, begin + 11), two_digits(text, begin + 14)
    second = two_digits(text, begin + 17)
    if century < 0 or years < 0 or century + years == 0 or month < 1 or month > 12:
        return False
    if day < 1 or day > days_in_month(century * 100 + years, month):
        return False
    return 0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59


@kernel
def line_end(text: np.ndarray, begin: int, end: int) -> int:
    """Index of the next newline, or `end`."""
    at = begin
    while at < end and text[at] != 10:
        at += 1
    return at


@kernel
def next_column(text: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Begin and end of the next column at or after `at`; begin == `end` where there is none."""
    while at < end and is_blank(text[at]):
        at += 1
    begin = at
    while at < end and not is_blank(text[at]):
        at += 1
    return begin, at


@kernel
def is_word(text: np.ndarray, begin: int, end: int, word: np.ndarray) -> bool:
    """Whether a column is `word`, byte for byte."""
    if end - begin != len(word):
        return False
    for i in range(len(word)):  # noqa: SIM110  (a generator does not compile)
        if text[begin + i] != word[i]:
            return False
    return True


@kernel
def starts_with(text: np.ndarray, begin: int, end: int, word: np.ndarray) -> bool:
    """Whether a column begins with `word`."""
    return end - begin >= len(word) and is_word(text, begin, begin + len(word), word)


@kernel
def standard_roles(extended: bool, roles: np.ndarray) -> int:
    """Fill `roles` for a file without header; returns the number of columns before the cores."""
    roles[0], roles[1], roles[2], roles[3] = LOCALTIME, TIME, GB_LIMIT, GB_USED
    if not extended:
        roles[4] = GB_SWAP_USED
        return 5
    roles[4], roles[5], roles[6], roles[7] = GB_MAX_USED, GB_SWAP_USED, PAGE_IN, PAGE_OUT
    return 8


@allocating_kernel
def header_roles(
    text: np.ndarray, begin: int, end: int, words: np.ndarray, word_begin: np.ndarray, roles: np.ndarray
) -> int:
    """Read the columns that a header names.

    Parameters
    ----------
    text, begin, end
        The header line.
    words, word_begin
        The names of the columns in order of their roles, the prefix of the core columns last; one after the other.
    roles
        Shape (`ROLES`,), filled with the role of each column before the cores.

    Returns
    -------
    int
        Number of columns before the cores, or -1 where the header lacks a needed column or names one twice.
    """
    seen = np.zeros(CORES, dtype=np.bool_)
    column, before_cores = 0, -1
    at = begin
    while True:
        first, after = next_column(text, at, end)
        if first == after:
            break
        at = after
        if starts_with(text, first, after, words[word_begin[CORES] : word_begin[CORES + 1]]):
            before_cores = column if before_cores < 0 else before_cores
            continue
        if before_cores < 0:
            if column == ROLES:
                return -1
            roles[column] = NO_ROLE
        for role in range(CORES):
            if is_word(text, first, after, words[word_begin[role] : word_begin[role + 1]]):
                if seen[role] or before_cores >= 0:  # cores run to the end of the row, nothing fits behind them
                    return -1
                seen[role] = True
                roles[column] = role
        column += 1
    needed = seen[LOCALTIME] and seen[TIME] and seen[GB_LIMIT] and seen[GB_USED] and seen[GB_SWAP_USED]
    return before_cores if needed else -1


@kernel
def parse_row(
    text: np.ndarray,
    begin: int,
    end: int,
    roles: np.ndarray,
    named: int,
    row: int,
    core: int,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
) -> int:
    """Read one row into ``row`` of the columns and from ``core`` on in `cores`.

    Returns
    -------
    int
        Number of cores, or 0 where the row is not valid; then what was written there means nothing.
    """
    at = begin
    max_used[row] = UNUSABLE
    for column in range(named):
        first, after = next_column(text, at, end)
        if first == after:
            return 0
        at = after
        role = roles[column]
        if role == NO_ROLE:
            continue
        if role == LOCALTIME:
            if not is_localtime(text, first, after):
                return 0
            continue
        if role == TIME:
            epoch = parse_epoch(text, first, after)
            if epoch < 0:
                return 0
            time[row] = epoch
            continue
        value = parse_hundredths(text, first, after)
        if value == NOT_A_NUMBER or (role == GB_MAX_USED and text[first] == 43):
            return 0
        if role == GB_MAX_USED:
            max_used[row] = value
        elif role != PAGE_IN and role != PAGE_OUT:
            if value < 0:
                return 0
            if role == GB_LIMIT:
                limit[row] = value
            elif role == GB_USED:
                used[row] = value
            else:
                swap[row] = value
    count = 0
    while True:
        first, after = next_column(text, at, end)
        if first == after:
            return count
        value = parse_hundredths(text, first, after)
        if value < 0 or value > ROUNDED_DOWN:
            return 0
        cores[core + count] = min(value, FULL_CORE)
        count += 1
        at = after


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any, item: Any) -> Any:
    """Where an element of an array stands, as where something of another type does."""
    assert kind.layout == "C"  # noqa: S101  (elements next to each other, else this reads anything)
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), item.as_pointer())


def _all(vector: Any, value: int) -> Any:
    """A vector of one number."""
    from llvmlite import ir  # noqa: PLC0415  (takes long to import, see `jobeff.jit`)

    return ir.Constant(vector, [value] * vector.count)


def _pairs_of_digits(builder: Any, digits: Any) -> Any:
    """Of a vector of digits, each two next to each other as a number of twice the size."""
    from llvmlite import ir  # noqa: PLC0415

    pairs = ir.VectorType(ir.IntType(16), digits.type.count // 2)
    found = builder.mul(builder.bitcast(digits, pairs), _all(pairs, 10 * 256 + 1))
    return builder.lshr(found, _all(pairs, 8))


def _write_load8() -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic
    def load8(_: Any, text: Any, at: int) -> Any:  # noqa: ARG001  (numba looks at their names)
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            text, at = arguments
            return builder.load(_place(context, builder, signature.args[0], text, at, ir.IntType(64)), align=1)

        return types.uint64(text, types.int64), generate

    return load8


@instructions(_write_load8)
def load8(text: np.ndarray, at: int) -> int:
    """Eight bytes as one number, the first the lowest."""
    return np.uint64(int.from_bytes(text[at : at + 8].tobytes(), "little"))


class Picture:
    """What may stand at each of `PICTURED` bytes.

    Parameters
    ----------
    picture
        A digit stands for one up to it, ``n`` for any or a space, ``i`` for 0, 1 or a space, but then a space stands
        behind a space only. ``*`` is anything, all else is itself.
    """

    def __init__(self, picture: bytes) -> None:
        most = {ord("n"): 9, ord("i"): 1, ord("*"): 255} | {48 + digit: digit for digit in range(10)}
        self.known = [48 if byte in most else byte for byte in picture]
        self.most = [most.get(byte, 0) for byte in picture]  # above the byte that is known, all bits that differ
        self.may_be_blank = sum(1 << i for i, byte in enumerate(picture) if byte in b"ni")

    def misfits(self, text: np.ndarray, at: int) -> int:
        """Which bytes do not fit, as the bits of a number; before the first a space is taken to stand."""
        found = text[at : at + PICTURED].tolist()
        high = sum(1 << i for i, byte in enumerate(found) if byte ^ self.known[i] > self.most[i])
        spaces = sum(1 << i for i, byte in enumerate(found) if byte == 32)
        blank = spaces & self.may_be_blank
        return high & ~blank | blank & ~(spaces << 1 | 1)

    def generate(self, context: Any, builder: Any, kind: Any, text: Any, at: Any) -> tuple[Any, Any]:
        """The same as instructions, and before it the bytes less what is known of them: of a digit its value."""
        from llvmlite import ir  # noqa: PLC0415

        vector, bits = ir.VectorType(ir.IntType(8), PICTURED), ir.IntType(PICTURED)
        found = builder.load(_place(context, builder, kind, text, at, vector), align=1)
        values = builder.xor(found, ir.Constant(vector, self.known))
        high = builder.bitcast(builder.icmp_unsigned(">", values, ir.Constant(vector, self.most)), bits)
        spaces = builder.bitcast(builder.icmp_unsigned("==", found, _all(vector, 32)), bits)
        blank = builder.and_(spaces, bits(self.may_be_blank))
        behind_space = builder.or_(builder.shl(spaces, bits(1)), bits(1))
        late = builder.and_(blank, builder.not_(behind_space))
        return values, builder.or_(builder.and_(high, builder.not_(blank)), late)


# A row as the usual sampler prints it; its date is compared with the last one.
_NUMBER = b"nnnnn9.9"
_TIMES = Picture(b"**********29:59:59  9999999999  ")  # from the second byte on
_MEMORY = Picture(_NUMBER + b"  " + _NUMBER + b"      " + _NUMBER)  # from the limit on
_SWAP_AND_PAGES = Picture(_NUMBER + 2 * b"    nnnnnnn9")  # in the extended form
_CORES = Picture(CELLS * b" in9.9" + b"**")


def _write_misfits(name: str, picture: Picture) -> Callable[[], Any]:
    def write() -> Any:
        from llvmlite import ir  # noqa: PLC0415
        from numba.core import types  # noqa: PLC0415
        from numba.extending import intrinsic  # noqa: PLC0415

        def misfits(_: Any, text: Any, at: int) -> Any:  # noqa: ARG001
            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                _, wrong = picture.generate(context, builder, signature.args[0], *arguments)
                return builder.zext(wrong, ir.IntType(64))

            return types.uint64(text, types.int64), generate

        misfits.__name__ = misfits.__qualname__ = name
        return intrinsic(misfits)

    return write


@instructions(_write_misfits("unusual_times", _TIMES))
def unusual_times(text: np.ndarray, at: int) -> int:
    """Non-zero where the times of a row, from its second byte on, are not as usual; date and hour are not looked at."""
    return np.uint64(_TIMES.misfits(text, at))


@instructions(_write_misfits("unusual_memory", _MEMORY))
def unusual_memory(text: np.ndarray, at: int) -> int:
    """Non-zero where the 8, 10 and 14 bytes of three columns of memory are not as usual."""
    return np.uint64(_MEMORY.misfits(text, at))


@instructions(_write_misfits("unusual_swap_and_pages", _SWAP_AND_PAGES))
def unusual_swap_and_pages(text: np.ndarray, at: int) -> int:
    """Non-zero where the 8 and twice 12 bytes of swap and pages are not as usual."""
    return np.uint64(_SWAP_AND_PAGES.misfits(text, at))


def _first(builder: Any, bits: Any, count: Any) -> Any:
    """Some bits without those behind the first, as a number of 64."""
    one = count.type(1)
    return builder.and_(builder.zext(bits, count.type), builder.sub(builder.shl(one, count), one))


def _hundredths_of_cores(builder: Any, values: Any) -> Any:
    """What the cells of `_CORES` say, from their digits."""
    from llvmlite import ir  # noqa: PLC0415

    pairs = _pairs_of_digits(builder, builder.and_(values, _all(values.type, 15)))  # hundreds; tens and ones; tenths
    weighted = builder.mul(pairs, ir.Constant(pairs.type, [10_000, 100, 10] * CELLS + [0]))
    index = ir.VectorType(ir.IntType(32), LANES)
    parts = [
        builder.shuffle_vector(
            weighted, weighted, ir.Constant(index, [3 * cell + part if cell < CELLS else 15 for cell in range(LANES)])
        )
        for part in range(3)
    ]
    return builder.add(builder.add(*parts[:2]), parts[2])


def _write_usual_cores() -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic
    def usual_cores(_: Any, text: Any, at: int, count: int, cores: Any, core: int) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            text, at, count, cores, core = arguments
            values, wrong = _CORES.generate(context, builder, signature.args[0], text, at)
            found = _hundredths_of_cores(builder, values)
            high = builder.icmp_unsigned(">", found, _all(found.type, ROUNDED_DOWN))
            over = builder.icmp_unsigned(">", found, _all(found.type, FULL_CORE))
            place = _place(context, builder, signature.args[3], cores, core, found.type)
            builder.store(builder.select(over, _all(found.type, FULL_CORE), found), place, align=2)
            high = _first(builder, builder.bitcast(high, ir.IntType(LANES)), count)
            return builder.or_(_first(builder, wrong, builder.mul(count, count.type(CELL))), high)

        return types.uint64(text, types.int64, types.int64, cores, types.int64), generate

    return usual_cores


@instructions(_write_usual_cores)
def usual_cores(text: np.ndarray, at: int, count: int, cores: np.ndarray, core: int) -> int:
    """Read up to `CELLS` cores printed as ``%6.1f``; non-zero where one of them has to be read otherwise.

    `PICTURED` bytes are read all the same, and `LANES` elements written: those behind mean nothing.
    """
    wrong = _CORES.misfits(text, at) & ((1 << CELL * count) - 1)
    for i in range(LANES):
        cell = (text[at + CELL * i : at + CELL * (i + 1)] & 15).tolist() if i < count else [0] * CELL
        value = cell[1] * 10_000 + cell[2] * 1000 + cell[3] * 100 + cell[5] * 10
        wrong |= value > ROUNDED_DOWN
        cores[core + i] = min(value, FULL_CORE)
    return np.uint64(wrong)


NUMBERS_AT = (23, 33, 43, 57)  # the lower eight digits of TIME, and three columns of memory


def _numbers_of_digits(builder: Any, digits: Any) -> Any:
    """Of a vector of digits, each eight next to each other as a number."""
    from llvmlite import ir  # noqa: PLC0415

    fours = ir.VectorType(ir.IntType(32), digits.type.count // 4)
    found = builder.mul(builder.bitcast(_pairs_of_digits(builder, digits), fours), _all(fours, 100 * 65536 + 1))
    eights = ir.VectorType(ir.IntType(64), digits.type.count // 8)
    found = builder.bitcast(builder.lshr(found, _all(fours, 16)), eights)
    high = builder.mul(builder.and_(found, _all(eights, 0xFFFFFFFF)), _all(eights, 10_000))
    return builder.add(high, builder.lshr(found, _all(eights, 32)))


def _write_usual_numbers() -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    lane, word, count = ir.IntType(32), ir.IntType(64), len(NUMBERS_AT)
    # TIME as it is; of the others the point's byte closed up, so that they end with a zero, of the other vector.
    order = [*range(8), *(8 * i + k for i in range(1, count) for k in (0, 1, 2, 3, 4, 5, 7, 8 * (count - i)))]
    closed = ir.Constant(ir.VectorType(lane, 8 * count), order)

    @intrinsic
    def usual_numbers(_: Any, text: Any, at: int) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            text, at = arguments
            found = ir.Constant(ir.VectorType(word, count), ir.Undefined)
            for i, offset in enumerate(NUMBERS_AT):
                place = _place(context, builder, signature.args[0], text, builder.add(at, word(offset)), word)
                found = builder.insert_element(found, builder.load(place, align=1), lane(i))
            digits = builder.bitcast(found, ir.VectorType(ir.IntType(8), 8 * count))
            digits = builder.and_(digits, _all(digits.type, 15))
            digits = builder.shuffle_vector(digits, _all(digits.type, 0), closed)
            numbers = _numbers_of_digits(builder, digits)
            values = [builder.extract_element(numbers, lane(i)) for i in range(count)]
            return context.make_tuple(builder, signature.return_type, values)

        numbers = types.UniTuple(types.int64, count)  # type: ignore[no-untyped-call]
        return numbers(text, types.int64), generate

    return usual_numbers


@instructions(_write_usual_numbers)
def usual_numbers(text: np.ndarray, at: int) -> tuple[int, int, int, int]:
    """Lower eight digits of TIME, and hundredths of three columns of memory, of a row that is as usual."""
    words = [(text[at + offset : at + offset + 8] & 15).tolist() for offset in NUMBERS_AT]
    digits = [words[0], *(word[:6] + word[7:] + [0] for word in words[1:])]
    low, limit, used, most = (sum(digit * 10**i for i, digit in enumerate(one[::-1])) for one in digits)
    return low, limit, used, most


@kernel
def learn_shape(text: np.ndarray, begin: int, end: int, named: int, width: int, ends: np.ndarray) -> bool:
    """Learn where the columns of a valid row end, so that the next row's may be guessed.

    Parameters
    ----------
    text, begin, end
        The row.
    named, width
        Columns before the cores, and cores.
    ends
        Filled with the ends of the columns before the cores, as offsets in the row.

    Returns
    -------
    bool
        Whether the row is of the usual shape: times first, from the first byte on, each core printed as ``%6.1f``,
        nothing behind them.
    """
    if named > len(ends):
        return False
    at = begin
    for column in range(named):
        first, at = next_column(text, at, end)
        if column == 0 and first != begin:
            return False
        ends[column] = at - begin
    return end - at == CELL * width and ends[0] == 19


@kernel
def same_bytes(text: np.ndarray, one: int, other: int, length: int) -> bool:
    """Whether two places hold the same bytes."""
    if 8 <= length <= 16:
        tail = length - 8
        return load8(text, one) == load8(text, other) and load8(text, one + tail) == load8(text, other + tail)
    for i in range(length):  # noqa: SIM110  (a generator does not compile)
        if text[one + i] != text[other + i]:
            return False
    return True


@kernel
def guess_times(text: np.ndarray, at: int, before: int, time_end: int) -> int:
    """TIME of a row whose first two columns end where those of the row at `before` end; -1 where it has to be read."""
    date = load8(text, at) == load8(text, before) and load8(text, at + 2) == load8(text, before + 2)
    if not date or text[at + 10] != 84 or text[at + 13] != 58 or text[at + 16] != 58:
        return -1
    hour, minute, second = two_digits(text, at + 11), two_digits(text, at + 14), two_digits(text, at + 17)
    if hour < 0 or hour > 23 or minute < 0 or minute > 59 or second < 0 or second > 59 or text[at + 19] != 32:
        return -1
    value = np.int64(0)
    first = at + 20
    while first < at + time_end and text[first] == 32:
        first += 1
    if at + time_end - first > 18:
        return -1
    for i in range(first, at + time_end):
        digit = np.int64(text[i]) - 48
        if digit < 0 or digit > 9:
            return -1
        value = value * 10 + digit
    return value if first < at + time_end else -1


@kernel
def guess_number(text: np.ndarray, begin: int, end: int) -> int:
    """Read a number that ends at `end`, with blanks before it; negative where it has to be read otherwise."""
    first = end
    while first > begin and not is_blank(text[first - 1]):
        first -= 1
    if first in (begin, end) or text[first] == 43:
        return NOT_A_NUMBER
    for i in range(begin, first):
        if not is_blank(text[i]):
            return NOT_A_NUMBER
    return parse_hundredths(text, first, end)


@kernel
def guess_cores(text: np.ndarray, begin: int, width: int, cores: np.ndarray, core: int) -> bool:
    """Read cores printed as ``%6.1f``, eight bytes at a time; False where one has to be read otherwise."""
    bad = np.uint64(0)
    for i in range(width):
        cell = load8(text, begin + CELL * i - 2)  # the cell's six bytes are the upper ones
        digits = cell ^ np.uint64(0x3030303030303030)  # of a digit its value, of a blank 16
        hundreds = (digits >> np.uint64(24)) & np.uint64(255)
        tens = (digits >> np.uint64(32)) & np.uint64(255)
        ones = (digits >> np.uint64(40)) & np.uint64(255)
        tenths = digits >> np.uint64(56)
        value = (hundreds & np.uint64(15)) * np.uint64(10000) + (tens & np.uint64(15)) * np.uint64(1000)
        value += ones * np.uint64(100) + tenths * np.uint64(10)
        bad |= np.uint64(
            (ones > 9)
            | (tenths > 9)
            | (((cell >> np.uint64(48)) & np.uint64(255)) != 46)
            | (((cell >> np.uint64(16)) & np.uint64(255)) != 32)
            | ((hundreds > 9) & (hundreds != 16))
            | ((tens > 9) & ((tens != 16) | (hundreds != 16)))
            | (value > ROUNDED_DOWN)
        )
        cores[core + i] = min(value, np.uint64(FULL_CORE))
    return bad == 0


@kernel
def guess_row(
    text: np.ndarray,
    at: int,
    before: int,
    ends: np.ndarray,
    roles: np.ndarray,
    named: int,
    width: int,
    row: int,
    core: int,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
) -> bool:
    """Read a row on the guess that its columns stand where those of the last valid row at `before` stand.

    What is not as guessed makes it return False, and means nothing: `parse_row` decides.
    """
    if roles[0] != LOCALTIME or roles[1] != TIME:
        return False
    epoch = guess_times(text, at, before, ends[1])
    if epoch < 0:
        return False
    time[row] = epoch
    max_used[row] = UNUSABLE
    for column in range(2, named):
        role, begin, end = roles[column], ends[column - 1], ends[column]
        if same_bytes(text, at + begin, before + begin, end - begin):
            if role == GB_LIMIT:
                limit[row] = limit[row - 1]
            elif role == GB_USED:
                used[row] = used[row - 1]
            elif role == GB_SWAP_USED:
                swap[row] = swap[row - 1]
            elif role == GB_MAX_USED:
                max_used[row] = max_used[row - 1]
            continue
        value = guess_number(text, at + begin, at + end)
        if value < 0:
            return False
        if role == GB_LIMIT:
            limit[row] = value
        elif role == GB_USED:
            used[row] = value
        elif role == GB_SWAP_USED:
            swap[row] = value
        elif role == GB_MAX_USED:
            max_used[row] = value
        elif role == NO_ROLE:
            return False
    return guess_cores(text, at + ends[named - 1], width, cores, core)


@kernel
def same_text(text: np.ndarray, one: int, other: int, length: int) -> bool:
    """Whether two places hold the same bytes, of any number."""
    at = 0
    while at + 32 <= length:
        differs = load8(text, one + at) ^ load8(text, other + at)
        differs |= load8(text, one + at + 8) ^ load8(text, other + at + 8)
        differs |= load8(text, one + at + 16) ^ load8(text, other + at + 16)
        differs |= load8(text, one + at + 24) ^ load8(text, other + at + 24)
        if differs != np.uint64(0):
            return False
        at += 32
    for i in range(at, length):  # noqa: SIM110  (a generator does not compile)
        if text[one + i] != text[other + i]:
            return False
    return True


@kernel
def eight_digits(x: int) -> int:
    """Eight bytes of 0 to 9, the first the highest, as a number."""
    x = (x * np.uint64(10) + (x >> np.uint64(8))) & np.uint64(0x00FF00FF00FF00FF)
    x = (x * np.uint64(100) + (x >> np.uint64(16))) & np.uint64(0x0000FFFF0000FFFF)
    return (x * np.uint64(10000) + (x >> np.uint64(32))) & np.uint64(0xFFFFFFFF)


@kernel
def tenths(word: int) -> int:
    """Hundredths of eight bytes printed as ``%8.1f``."""
    digits = word & np.uint64(0x0F000F0F0F0F0F0F)
    closed = (digits & np.uint64(0xFFFFFFFFFFFF)) | ((digits >> np.uint64(8)) & np.uint64(0xFF000000000000))
    return np.int64(eight_digits(closed))


@kernel
def fixed_width(text: np.ndarray, at: int, end: int, before: int) -> int:
    """Cores of a row as the usual sampler prints it, by where its line ends; 0 where it ends elsewhere."""
    stop = at + before + CELL
    while stop < end and text[stop] != 10 and text[stop - 2] == 46:
        stop += CELL
    if stop < end and text[stop] != 10:
        return 0
    return (stop - at - before) // CELL if stop <= end else 0


@kernel
def two_lower_digits(word: int) -> int:
    """The first two bytes of a word, if they are digits, as a number."""
    return np.int64((word & np.uint64(15)) * np.uint64(10) + ((word >> np.uint64(8)) & np.uint64(15)))


@kernel
def fixed_rows(
    text: np.ndarray,
    begin: int,
    end: int,
    before: int,
    width: int,
    first_row: int,
    core: int,
    seen: np.ndarray,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
) -> int:
    """Read rows as the usual sampler prints them: each column at its place, checked byte for byte, many bytes at once.

    What is read of a row means nothing where something of it is wrong: that is looked at once, at its end.

    Parameters
    ----------
    text, begin, end
        Where rows stand. One that ends with the text, or with `end`, is left.
    before, width
        Bytes before the cores, `PLAIN_BYTES` or `EXTENDED_BYTES`; cores, at least one.
    first_row, core
        Where to write.
    seen
        Shape (2,), uint64: a date that is real and its T, as two words that overlap.
    time, limit, used, max_used, swap, cores
        See `parse_files`.

    Returns
    -------
    int
        How many rows were read, all of one day. The next one has to be read otherwise, or with the date of its own, or
        there is none.
    """
    length = before + CELL * width
    stop = min(end, len(text) - PICTURED) - length  # what is read of the last cores may begin right before they end
    room = len(cores) - width - LANES
    row, at = np.uint64(first_row), np.int64(begin)
    if at >= stop:
        return np.int64(0)
    year, day = load8(text, at), load8(text, at + 3)
    if year != seen[0] or day != seen[1]:
        if not is_localtime(text, at, at + 19):
            return np.int64(0)
        seen[0], seen[1] = year, day
    while at < stop and core <= room and load8(text, at) == year and load8(text, at + 3) == day:
        # All words before all vectors, out of which the compiler would shift them else.
        hour, upper = two_lower_digits(load8(text, at + 11)), two_lower_digits(load8(text, at + 21))
        lower, hundredths, now, most = usual_numbers(text, at)
        wrong = np.uint64(text[np.uint64(at + length)]) ^ np.uint64(10)
        wrong |= np.uint64(hour > 23) | unusual_times(text, at + 1) | unusual_memory(text, at + 33)
        time[row], limit[row], used[row] = upper * 100_000_000 + lower, hundredths, now
        if before == PLAIN_BYTES:
            max_used[row], swap[row] = UNUSABLE, most
        else:
            max_used[row], swap[row] = most, tenths(load8(text, at + 71))
            wrong |= (load8(text, at + 63) >> np.uint64(16)) ^ SIX_SPACES
            wrong |= unusual_swap_and_pages(text, at + 71)
        cell, left = at + before, width
        while left > CELLS:
            wrong |= usual_cores(text, cell, np.int64(CELLS), cores, core)
            cell, core, left = cell + CELL * CELLS, core + CELLS, left - CELLS
        wrong |= usual_cores(text, cell, left, cores, core)
        if wrong != np.uint64(0):
            break
        row += np.uint64(1)
        core += left
        at += length + 1
    return np.int64(row) - first_row


@allocating_kernel
def fixed_layout(roles: np.ndarray, named: int) -> int:
    """Bytes before the cores where the columns are those of the usual sampler, 0 where they are others."""
    usual = np.empty(CORES, dtype=np.int64)
    for extended in (False, True):
        if standard_roles(extended, usual) != named:
            continue
        same = True
        for column in range(named):
            same = same and roles[column] == usual[column]
        if same:
            return EXTENDED_BYTES if extended else PLAIN_BYTES
    return 0


@kernel
def known_header(text: np.ndarray, at: int, end: int, headers: np.ndarray) -> int:
    """Which of the headers met before begins at `at`, as an index of `headers`; -1 for none."""
    for slot in range(2, len(headers)):
        length = headers[slot, 1]
        if length == 0 or at + length > end or (at + length < end and text[at + length] != 10):
            continue
        if same_text(text, at, headers[slot, 0], length):
            return slot
    return -1


@kernel
def is_increasing(values: np.ndarray, begin: int, end: int) -> bool:
    """Whether each value is larger than the one before."""
    wrong, one = 0, np.uint64(1)  # with signs, each place would be looked at from the end too
    for i in range(np.uint64(begin) + one, np.uint64(end)):
        wrong += values[i] <= values[i - one]
    return wrong == 0


@allocating_kernel
def stable_order(values: np.ndarray) -> np.ndarray:
    """Indexes that sort `values`, equal ones in their old order: merge sort, a tenth of numpy's in time to compile."""
    n = len(values)
    order, other = np.arange(n), np.empty(n, dtype=np.int64)
    width = 1
    while width < n:
        for begin in range(0, n, 2 * width):
            middle, end = min(begin + width, n), min(begin + 2 * width, n)
            i, j = begin, middle
            for to in range(begin, end):
                if i < middle and (j == end or values[order[i]] <= values[order[j]]):
                    other[to] = order[i]
                    i += 1
                else:
                    other[to] = order[j]
                    j += 1
        order, other = other, order
        width *= 2
    return order


@allocating_kernel
def rearrange(values: np.ndarray, begin: int, width: int, order: np.ndarray, kept: int) -> None:
    """Put the rows ``order[:kept]`` of a file first, `width` elements each."""
    old = np.empty(len(order) * width, dtype=values.dtype)
    for i in range(len(old)):
        old[i] = values[begin + i]
    for row in range(kept):
        for i in range(width):
            values[begin + row * width + i] = old[order[row] * width + i]


@allocating_kernel
def first_of_each(time: np.ndarray, begin: int, end: int, order: np.ndarray) -> int:
    """Order rows by TIME and keep the first in the file of each; `order` is filled, returns how many are kept."""
    sorted_rows = stable_order(time[begin:end])
    kept = 0
    for i in range(len(sorted_rows)):
        row = sorted_rows[i]
        if kept == 0 or time[begin + order[kept - 1]] != time[begin + row]:
            order[kept] = row
            kept += 1
    return kept


@kernel
def keep_usable(values: np.ndarray, begin: int, end: int, to: int) -> int:
    """Move a file's values to `to`, if any of them is usable; returns where they end there."""
    usable = 0
    for i in range(begin, end):
        usable += values[i] >= 0
    if usable == 0:
        return to
    for i in range(end - begin):
        values[to + i] = values[begin + i]
    return to + end - begin


@kernel
def fetch(text: np.ndarray, begin: int, end: int) -> None:
    """Ask for the first bytes of a text; for what is behind them the processor asks by itself, once it is read."""
    for at in range(begin, min(end, begin + FETCHED), CACHE_LINE):
        prefetch(text, at)


@allocating_kernel
def parse_files(
    text: np.ndarray,
    begins: np.ndarray,
    ends: np.ndarray,
    extended: np.ndarray,
    words: np.ndarray,
    word_begin: np.ndarray,
    table: np.ndarray,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
    row_begin: np.ndarray,
    max_begin: np.ndarray,
    core_begin: np.ndarray,
    first_time: np.ndarray,
    last_time: np.ndarray,
    widths: np.ndarray,
    rejected: np.ndarray,
    known: np.ndarray,
    crc32: np.ndarray,
) -> bool:
    """Read raw files into typed columns, every row by the row rules of METRICS.md.

    The checksum is found here too, while the text of a file is close to the processor, and that of the next one comes.

    Parameters
    ----------
    text
        Bytes, uint8.
    begins, ends
        Shape (files,): where each raw file stands in `text`.
    extended
        Shape (files,): which form a file without header has.
    words, word_begin
        Names of the columns, see `header_roles`.
    table
        From `jobeff.store.crc_table.crc32_table`.
    time, limit, used, max_used, swap
        Output, one element per valid row: epoch seconds; hundredths of GiB. `max_used` is < 0 in a row without it, and
        has no elements for a file without any. Within a file they are in order of TIME.
    cores
        Output, hundredths of percent, row after row.
    row_begin, max_begin, core_begin
        Output, shape (files + 1,): where a file's part of these begins.
    first_time, last_time, widths, rejected, known, crc32
        Output, shape (files,): TIME of the first and last valid row, 0 without one; cores per row, invalid rows,
        whether the columns could be known; checksum of the text.

    Returns
    -------
    bool
        False where a file is not within the text.
    """
    shape, seen = np.empty(GUESSED, dtype=np.int64), np.zeros(2, dtype=np.uint64)
    seen[1] = ~np.uint64(0)  # no text equals it, not even NULs
    # The columns without a header in either form, then those of the last two headers: mostly there are two forms.
    all_roles, headers = np.empty((4, ROLES), dtype=np.int64), np.zeros((4, 4), dtype=np.int64)
    for slot in range(2):
        headers[slot, 2] = standard_roles(slot == 1, all_roles[slot])
        headers[slot, 3] = EXTENDED_BYTES if slot == 1 else PLAIN_BYTES
    oldest = 2
    row, core, most = 0, 0, 0
    row_begin[0], max_begin[0], core_begin[0] = 0, 0, 0
    for file in range(len(begins)):
        at, end = begins[file], ends[file]
        if at < 0 or at > end or end > len(text):
            return False
        if file + 1 < len(begins):
            fetch(text, begins[file + 1], ends[file + 1])
        crc32[file] = crc32_of(text, at, end, np.int64(0), table)
        slot = known_header(text, at, end, headers)
        first_line = slot < 0
        if first_line:
            slot = 1 if extended[file] else 0
        else:
            at += headers[slot, 1] + 1
        roles, named, fixed = all_roles[slot], headers[slot, 2], headers[slot, 3]
        first_row, first_core = row, core
        width, bad = 0, 0
        untried = True  # whether to look for the width of the first row; once, lest a bad file be searched at each line
        before, length = 0, 0  # the last valid row, where its shape is another usual one, and its length
        while at < end:
            if fixed > 0:
                cells, found = width, 0
                if width == 0 and untried:
                    cells, untried = fixed_width(text, at, end, fixed), False
                if cells > 0:
                    found = fixed_rows(
                        text, at, end, fixed, cells, row, core, seen, time, limit, used, max_used, swap, cores
                    )
                if found > 0:
                    first_line = False
                    width, length = cells, 0
                    row += found
                    core += found * cells
                    at += found * (fixed + CELL * cells + 1)
                    continue
            if length > 0 and (at + length == end or (at + length < end and text[at + length] == 10)):
                guessed = guess_row(
                    text, at, before, shape, roles, named, width, row, core, time, limit, used, max_used, swap, cores
                )
                if guessed:
                    before = at
                    row += 1
                    core += width
                    at += length + 1
                    continue
            stop = line_end(text, at, end)
            first, after = next_column(text, at, stop)
            if first == after:
                at = stop + 1
                continue
            if first_line and is_word(text, first, after, words[: word_begin[1]]):
                slot, oldest = oldest, 5 - oldest
                roles = all_roles[slot]
                named = header_roles(text, at, stop, words, word_begin, roles)
                fixed = fixed_layout(roles, named)
                headers[slot, 0], headers[slot, 1], headers[slot, 2], headers[slot, 3] = at, stop - at, named, fixed
                first_line, untried = False, True
                at = stop + 1
                continue
            first_line = False
            count = 0
            if named > 0:
                count = parse_row(text, at, stop, roles, named, row, core, time, limit, used, max_used, swap, cores)
            if count == 0 or (width > 0 and count != width):
                bad += 1
            else:
                width = count
                row += 1
                core += count
                before, length = at, 0
                if learn_shape(text, at, stop, named, width, shape):
                    length = stop - at
            at = stop + 1
        if not is_increasing(time, first_row, row):
            order = np.empty(row - first_row, dtype=np.int64)
            kept = first_of_each(time, first_row, row, order)
            rearrange(time, first_row, 1, order, kept)
            rearrange(limit, first_row, 1, order, kept)
            rearrange(used, first_row, 1, order, kept)
            rearrange(max_used, first_row, 1, order, kept)
            rearrange(swap, first_row, 1, order, kept)
            rearrange(cores, first_core, width, order, kept)
            bad += (row - first_row) - kept
            row = first_row + kept
            core = first_core + kept * width
        most = keep_usable(max_used, first_row, row, most)
        row_begin[file + 1], max_begin[file + 1], core_begin[file + 1] = row, most, core
        first_time[file] = time[first_row] if row > first_row else 0
        last_time[file] = time[row - 1] if row > first_row else 0
        widths[file] = width
        rejected[file] = bad
        known[file] = named > 0
    return True


@kernel
def slot_of(time: int, first: int, start: int, interval: int) -> int:
    """Sampling time of a row: whole intervals since the node's first row, moved by its distance from the start."""
    whole, rest = (time - first) // interval, (time - first) % interval
    if 2 * rest > interval or (2 * rest == interval and whole % 2 == 1):  # half to even
        whole += 1
    return whole + max(0, first - start) // interval


@kernel
def attempt_of(time: int, begin: int, end: int, starts: np.ndarray, stops: np.ndarray) -> int:
    """Which of the attempts ``begin:end``, in order of start, a row belongs to: the first nearest one."""
    best = begin
    nearest = INT64_MAX
    for attempt in range(begin, end):
        distance = max(0, starts[attempt] - time, time - stops[attempt])
        if distance < nearest:
            nearest = distance
            best = attempt
    return best


@allocating_kernel
def rows_by_time(file: int, last: int, row_begin: np.ndarray, time: np.ndarray, rows: np.ndarray) -> int:
    """Fill `rows` with the rows of the files ``file:last`` in order of TIME, each TIME once; returns how many."""
    count = row_begin[last] - row_begin[file]
    if last - file == 1:
        for i in range(count):
            rows[i] = row_begin[file] + i
        return count
    kept = first_of_each(time, row_begin[file], row_begin[last], rows)
    for i in range(kept):
        rows[i] += row_begin[file]
    return kept


@kernel
def one_file(
    interval: int,
    busy: int,
    lightly_busy: int,
    attempt: int,
    file: int,
    row_begin: np.ndarray,
    max_begin: np.ndarray,
    core_begin: np.ndarray,
    widths: np.ndarray,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    counts: np.ndarray,
    core_sum: np.ndarray,
    core_values: np.ndarray,
    peak: np.ndarray,
    top_limit: np.ndarray,
    swap_peak: np.ndarray,
    slots: np.ndarray,
    slot_busy: np.ndarray,
    slot_light: np.ndarray,
    used_values: np.ndarray,
    slot: int,
    value: int,
) -> tuple[int, int]:
    """What `node_partials` does for an attempt with one raw file to itself; returns where its slots and values end."""
    start, stop, width = starts[attempt], stops[attempt], np.int64(widths[file])
    begin, with_max = row_begin[file], max_begin[file + 1] > max_begin[file]
    first, before, when, halfway = np.int64(-1), np.int64(-1), np.int64(0), False
    slots_begin, values_begin = slot, value
    total, top, most, swapped = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    for row in range(begin, row_begin[file + 1]):
        at = time[row]
        if at < start - interval or at - interval > stop:
            continue
        if first < 0:
            first = at
        high, light = 0, 0
        at_core = core_begin[file] + (row - begin) * width
        for c in range(at_core, at_core + width):
            load = np.int64(cores[c])
            total += load
            high += load > busy
            light += load > lightly_busy
        now = np.int64(used[row])
        used_values[value] = now
        value += 1
        top = max(top, now)
        if with_max:
            top = max(top, np.int64(max_used[max_begin[file] + row - begin]))
        most, swapped = max(most, np.int64(limit[row])), max(swapped, np.int64(swap[row]))
        # Divisions are slow; a row one interval behind another is one slot behind it, but for halves.
        if before >= 0 and at == before + interval and not halfway:
            when += 1
        else:
            when = slot_of(at, first, start, interval)
            halfway = 2 * ((at - first) % interval) == interval
        before = at
        if slot == slots_begin or slots[slot - 1] != when:
            slot += 1
        slots[slot - 1], slot_busy[slot - 1], slot_light[slot - 1] = when, high, light
    counts[attempt] = value - values_begin
    core_sum[attempt], core_values[attempt] = total, (value - values_begin) * width
    peak[attempt], top_limit[attempt], swap_peak[attempt] = top, most, swapped
    return slot, value


@allocating_kernel
def node_partials(
    interval: int,
    busy: int,
    lightly_busy: int,
    file_job: np.ndarray,
    row_begin: np.ndarray,
    max_begin: np.ndarray,
    core_begin: np.ndarray,
    widths: np.ndarray,
    file_rejected: np.ndarray,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
    job: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    counts: np.ndarray,
    core_sum: np.ndarray,
    core_values: np.ndarray,
    peak: np.ndarray,
    top_limit: np.ndarray,
    swap_peak: np.ndarray,
    rejected: np.ndarray,
    slot_end: np.ndarray,
    used_end: np.ndarray,
    slots: np.ndarray,
    slot_busy: np.ndarray,
    slot_light: np.ndarray,
    used_values: np.ndarray,
) -> None:
    """Reduce one node's samples to one partial per attempt.

    Parameters
    ----------
    interval
        Seconds between samples.
    busy, lightly_busy
        A core counts above these hundredths of percent, for the percentile and for the peak.
    file_job, row_begin, max_begin, core_begin, widths, file_rejected
        Raw files in order of job id: id, where its rows, its GB_MAX_USED (none in the plain form) and its cores begin
        (one element more than files), cores per row, invalid rows.
    time, limit, used, max_used, swap, cores
        Their samples, as `parse_files` writes them.
    job, starts, stops
        Attempts on this node in order of (job id, start): id, epoch of start and end.
    counts, core_sum, core_values, peak, top_limit, swap_peak, rejected
        Output, one element per attempt, zeros at first: valid rows, sum and number of core values, hundredths of GiB.
    slot_end, used_end
        Output: where the attempt's part of the next four ends.
    slots, slot_busy, slot_light
        Output: sampling times and how many cores were busy then.
    used_values
        Output: GB_USED of every valid row.
    """
    rows = np.empty(len(time), dtype=np.int64)
    owner = np.empty(len(time), dtype=np.int64)
    file, slot, value = 0, 0, 0
    attempt = 0
    while attempt < len(job):
        last_attempt = attempt + 1
        while last_attempt < len(job) and job[last_attempt] == job[attempt]:
            last_attempt += 1
        while file < len(file_job) and file_job[file] < job[attempt]:
            file += 1
        last = file
        bad = 0
        while last < len(file_job) and file_job[last] == job[attempt]:
            bad += file_rejected[last]
            last += 1
        if last - file == 1 and last_attempt - attempt == 1:
            # The usual case, one raw file of one attempt: its rows as they stand, sums in registers.
            slot, value = one_file(
                interval, busy, lightly_busy, attempt, file, row_begin, max_begin, core_begin, widths,
                time, limit, used, max_used, swap, cores, starts, stops,
                counts, core_sum, core_values, peak, top_limit, swap_peak,
                slots, slot_busy, slot_light, used_values, slot, value,
            )  # fmt: skip
            rejected[attempt], slot_end[attempt], used_end[attempt] = bad, slot, value
            file = last
            attempt = last_attempt
            continue
        found = rows_by_time(file, last, row_begin, time, rows) if last > file else 0
        several = last_attempt - attempt > 1
        for i in range(found if several else 0):
            owner[i] = attempt_of(time[rows[i]], attempt, last_attempt, starts, stops)
        for current in range(attempt, last_attempt):
            rejected[current] = bad
            first, before, when, halfway = np.int64(-1), np.int64(-1), np.int64(0), False
            slots_begin = slot
            for i in range(found):
                row = rows[i]
                at = time[row]
                if (
                    (several and owner[i] != current)
                    or at < starts[current] - interval
                    or at - interval > stops[current]
                ):
                    continue
                source = file
                while row >= row_begin[source + 1]:
                    source += 1
                if first < 0:
                    first = at
                width = widths[source]
                begin = core_begin[source] + (row - row_begin[source]) * width
                total, high, light = np.int64(0), 0, 0
                for c in range(begin, begin + width):
                    load = cores[c]
                    total += load
                    high += load > busy
                    light += load > lightly_busy
                counts[current] += 1
                core_sum[current] += total
                core_values[current] += width
                now = used[row]
                used_values[value] = now
                value += 1
                top = now
                if max_begin[source + 1] > max_begin[source]:
                    top = max(top, max_used[max_begin[source] + row - row_begin[source]])
                peak[current] = max(peak[current], top)
                top_limit[current] = max(top_limit[current], limit[row])
                swap_peak[current] = max(swap_peak[current], swap[row])
                # Divisions are slow; a row one interval behind another is one slot behind it, but for halves.
                if before >= 0 and at == before + interval and not halfway:
                    when += 1
                else:
                    when = slot_of(at, first, starts[current], interval)
                    halfway = 2 * ((at - first) % interval) == interval
                before = at
                if slot == slots_begin or slots[slot - 1] != when:
                    slot += 1
                slots[slot - 1] = when
                slot_busy[slot - 1] = high
                slot_light[slot - 1] = light
            slot_end[current] = slot
            used_end[current] = value
        file = last
        attempt = last_attempt


@kernel
def ranked(values: np.ndarray, begin: int, end: int, n: int, least: int, most: int) -> int:
    """The n-th smallest of ``values[begin:end]``, n from 0, of which the least and the most are known.

    The range is halved until one value is left: each step is a count without a branch, which is several times as quick
    as to divide the values themselves.
    """
    while least < most:
        middle = (least + most) >> 1
        limit = values.dtype.type(middle)
        below = 0
        for i in range(np.uint64(begin), np.uint64(end)):
            below += values[i] <= limit
        if below > n:
            most = middle
        else:
            least = middle + 1
    return least


@kernel
def quantile(values: np.ndarray, begin: int, end: int, quarters: int) -> float:
    """Quantile ``quarters / 4`` of the integers ``values[begin:end]`` by linear interpolation."""
    least, most = values[begin], values[begin]
    for i in range(np.uint64(begin), np.uint64(end)):
        least, most = min(least, values[i]), max(most, values[i])
    if least == most:  # as often as not
        return float(least)
    count = end - begin
    whole, rest = quarters * (count - 1) // 4, quarters * (count - 1) % 4
    lower = ranked(values, begin, end, whole, np.int64(least), np.int64(most))
    if rest == 0:
        return float(lower)
    limit, upper, below = values.dtype.type(lower), most, 0
    for i in range(np.uint64(begin), np.uint64(end)):
        value = values[i]
        below += value <= limit
        upper = min(upper, value if value > limit else most)
    if below > whole + 1:
        return float(lower)
    return lower + (np.int64(upper) - lower) * rest / 4.0


def _block(context: Any, builder: Any, kind: Any, values: Any, at: Any) -> Any:
    """The samples of a block, from a place on."""
    from llvmlite import ir  # noqa: PLC0415

    vector = ir.VectorType(ir.IntType(kind.dtype.bitwidth), BLOCK)
    return builder.load(_place(context, builder, kind, values, at, vector), align=kind.dtype.bitwidth // 8)


def _each(builder: Any, vector: Any, value: Any) -> Any:
    """A vector of one number that is known only then."""
    from llvmlite import ir  # noqa: PLC0415

    value = value if vector.element == value.type else builder.trunc(value, vector.element)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, first, ir.Constant(ir.VectorType(ir.IntType(32), BLOCK), None))


def _reduced(builder: Any, name: str, values: Any, count: Any, behind: int = 0) -> Any:
    """The first numbers of a block made one by an instruction, and what is said to be behind them."""
    from llvmlite import ir  # noqa: PLC0415

    vector, number = values.type, values.type.element
    is_mine = builder.icmp_signed("<", ir.Constant(vector, list(range(BLOCK))), _each(builder, vector, count))
    kind = ir.FunctionType(number, [vector])
    name = f"llvm.vector.reduce.{name}.v{BLOCK}i{number.width}"
    instruction = builder.module.declare_intrinsic(name, (), kind)
    return builder.call(instruction, [builder.select(is_mine, values, _all(vector, behind))])


def _bits(builder: Any, compared: Any, count: Any) -> Any:
    """Of the first numbers of a block, for which a comparison holds, as the bits of a number."""
    from llvmlite import ir  # noqa: PLC0415

    return _first(builder, builder.bitcast(compared, ir.IntType(BLOCK)), count)


def _write_most_of() -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic
    def most_of(_: Any, values: Any, at: int, count: int) -> Any:  # noqa: ARG001  (numba looks at their names)
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, at, count = arguments
            block = _block(context, builder, signature.args[0], values, at)
            return builder.sext(_reduced(builder, "smax", block, count), ir.IntType(64))

        return types.int64(values, types.int64, types.int64), generate

    return most_of


@instructions(_write_most_of)
def most_of(values: np.ndarray, at: int, count: int) -> int:
    """The most of `count` numbers from a place on, none below 0; here and below, `BLOCK` are read all the same."""
    return np.int64(values[at : at + BLOCK][:count].max())


def _write_least_of() -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic
    def least_of(_: Any, values: Any, at: int, count: int, limit: int) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, at, count, limit = arguments
            block = _block(context, builder, signature.args[0], values, at)
            is_above = builder.icmp_signed(">", block, _each(builder, block.type, limit))
            block = builder.select(is_above, block, _all(block.type, LARGEST))
            return builder.sext(_reduced(builder, "smin", block, count, LARGEST), ir.IntType(64))

        return types.int64(values, types.int64, types.int64, types.int64), generate

    return least_of


@instructions(_write_least_of)
def least_of(values: np.ndarray, at: int, count: int, limit: int) -> int:
    """The least of `count` numbers of 32 bits from a place on that are above a limit; `LARGEST` where none is."""
    block = values[at : at + BLOCK][:count]
    return np.int64(block[block > limit].min(initial=LARGEST))


def _write_sum_of() -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic
    def sum_of(_: Any, values: Any, at: int, count: int) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, at, count = arguments
            block = _block(context, builder, signature.args[0], values, at)
            wide = builder.zext(block, ir.VectorType(ir.IntType(32), BLOCK))
            return builder.zext(_reduced(builder, "add", wide, count), ir.IntType(64))

        return types.int64(values, types.int64, types.int64), generate

    return sum_of


@instructions(_write_sum_of)
def sum_of(values: np.ndarray, at: int, count: int) -> int:
    """The sum of `count` numbers of 16 bits from a place on."""
    return np.int64(values[at : at + BLOCK][:count].sum(dtype=np.int64))


def _write_above() -> Any:
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic
    def above(_: Any, values: Any, at: int, count: int, limit: int) -> Any:  # noqa: ARG001
        is_signed = values.dtype.signed

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, at, count, limit = arguments
            block = _block(context, builder, signature.args[0], values, at)
            compare = builder.icmp_signed if is_signed else builder.icmp_unsigned
            return _bits(builder, compare(">", block, _each(builder, block.type, limit)), count)

        return types.uint64(values, types.int64, types.int64, types.int64), generate

    return above


@instructions(_write_above)
def above(values: np.ndarray, at: int, count: int, limit: int) -> int:
    """Which of `count` numbers from a place on are above one of their kind, as bits."""
    found = (values[at : at + BLOCK][:count] > limit).tolist()
    return np.uint64(sum(is_above << i for i, is_above in enumerate(found)))


def _write_irregular() -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic
    def irregular(_: Any, time: Any, at: int, count: int, interval: int) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            time, at, count, interval = arguments
            kind, next_one = signature.args[0], builder.add(at, at.type(1))
            behind = _block(context, builder, kind, time, next_one)
            steps = builder.sub(behind, _block(context, builder, kind, time, at))
            found = _bits(builder, builder.icmp_signed("!=", steps, _each(builder, steps.type, interval)), count)
            return builder.zext(builder.icmp_unsigned("!=", found, ir.IntType(64)(0)), ir.IntType(64))

        return types.int64(time, types.int64, types.int64, types.int64), generate

    return irregular


@instructions(_write_irregular)
def irregular(time: np.ndarray, at: int, count: int, interval: int) -> int:
    """Whether one of `count` rows from a place on is not an interval before the next; one more is read."""
    return np.int64((np.diff(time[at : at + BLOCK + 1])[:count] != interval).any())


def _write_singly() -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic
    def singly(_: Any, number: Any) -> Any:
        def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
            kind = ir.FunctionType(arguments[0].type, [arguments[0].type])
            return builder.asm(kind, "", "=r,0", [arguments[0]], side_effect=False)

        return number(number), generate

    return singly


@instructions(_write_singly)
def singly(number: int) -> int:
    """The number itself, in a loop that the compiler is not to take several steps of at a time.

    Of few steps it makes more code than they are worth, and what is long is not put where it is called.
    """
    return number


def _write_ones() -> Any:
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic
    def ones(_: Any, word: int) -> Any:  # noqa: ARG001
        def generate(_: Any, builder: Any, __: Any, arguments: Any) -> Any:
            return builder.ctpop(arguments[0])

        return types.int64(types.uint64), generate

    return ones


@instructions(_write_ones)
def ones(word: int) -> int:
    """How many bits of a number are set."""
    return np.int64(int(word).bit_count())


@kernel
def largest(values: np.ndarray, begin: int, end: int) -> int:
    """The most of ``values[begin:end]``, none of them below 0."""
    most, at = np.int64(0), np.int64(begin)
    while at < end and at + BLOCK <= len(values):
        most = max(most, most_of(values, at, min(end - at, BLOCK)))
        at += BLOCK
    for i in range(np.uint64(at), np.uint64(end)):  # within the last block of the array only
        most = max(most, singly(np.int64(values[i])))
    return most


@kernel
def sum_of_cores(cores: np.ndarray, begin: int, end: int) -> int:
    """The sum of ``cores[begin:end]``."""
    total, at = np.int64(0), np.int64(begin)
    while at < end and at + BLOCK <= len(cores):
        total += sum_of(cores, at, min(end - at, BLOCK))
        at += BLOCK
    for i in range(np.uint64(at), np.uint64(end)):
        total += singly(np.int64(cores[i]))
    return total


@kernel
def is_regular(time: np.ndarray, begin: int, end: int, interval: int) -> bool:
    """Whether each of ``time[begin:end]`` is an interval after the one before it."""
    at, last, found = np.int64(begin), end - 1, np.int64(0)
    while at < last and at + BLOCK < len(time):
        found |= irregular(time, at, min(last - at, BLOCK), interval)
        at += BLOCK
    for row in range(np.uint64(at), np.uint64(last)):
        found |= np.int64(singly(time[row + np.uint64(1)]) - time[row] != interval)
    return found == 0


@kernel
def mark_above(cores: np.ndarray, begin: int, end: int, limit: int, marks: np.ndarray) -> None:
    """Note in a bit each, 32 to a word, which of ``cores[begin:end]`` are above a limit."""
    at, word = np.int64(begin), np.uint64(0)
    while at < end and at + BLOCK <= len(cores):
        marks[word] = above(cores, at, min(end - at, BLOCK), limit)
        word += np.uint64(1)
        at += BLOCK
    if at < end:
        bits, place = np.uint64(0), np.uint64(0)
        for i in range(np.uint64(at), np.uint64(end)):
            bits |= np.uint64(singly(np.int64(cores[i])) > limit) << place
            place += np.uint64(1)
        marks[word] = bits


@kernel
def marked(marks: np.ndarray, begin: int, count: int) -> int:
    """How many of up to 32 bits from one on are set; a word behind theirs is read as well."""
    word, bit = np.uint64(begin) >> np.uint64(5), np.uint64(begin) & np.uint64(31)
    bits = np.uint64(marks[word]) | np.uint64(marks[word + np.uint64(1)]) << np.uint64(32)
    return ones(singly((bits >> bit) & ((np.uint64(1) << np.uint64(count)) - np.uint64(1))))


@kernel
def ones_above(cores: np.ndarray, begin: int, end: int, limit: int) -> int:
    """How many of ``cores[begin:end]`` are above a limit."""
    found, at = np.int64(0), np.int64(begin)
    while at < end and at + BLOCK <= len(cores):
        found += ones(above(cores, at, min(end - at, BLOCK), limit))
        at += BLOCK
    for i in range(np.uint64(at), np.uint64(end)):
        found += np.int64(singly(np.int64(cores[i])) > limit)
    return found


@kernel
def not_above(values: np.ndarray, begin: int, end: int, limit: int) -> int:
    """How many of ``values[begin:end]``, where whole blocks can be read, are not above a limit."""
    found, at = np.int64(end - begin), np.int64(begin)
    while at < end:
        found -= ones(above(values, at, min(end - at, BLOCK), limit))
        at += BLOCK
    return found


@kernel
def next_above(values: np.ndarray, begin: int, end: int, limit: int) -> int:
    """The least of ``values[begin:end]``, where whole blocks can be read, that is above a limit."""
    least, at = np.int64(LARGEST), np.int64(begin)
    while at < end:
        least = min(least, least_of(values, at, min(end - at, BLOCK), limit))
        at += BLOCK
    return least


@kernel
def quantile_of_ones(count: int, how_many: int, quarters: int) -> float:
    """The same as `quantile` of numbers so many of which are 1, and the others 0."""
    whole, rest = quarters * (count - 1) // 4, quarters * (count - 1) % 4
    zeros = count - how_many
    lower, upper = np.int64(whole >= zeros), np.int64(whole + 1 >= zeros)
    return lower + (upper - lower) * rest / 4.0


@kernel
def quantile_up_to(values: np.ndarray, begin: int, end: int, most: int, quarters: int) -> float:
    """The same as `quantile` of numbers none of which is below 0, and the most of which is known."""
    count = end - begin
    if begin + (count + BLOCK - 1) // BLOCK * BLOCK > len(values):
        return quantile(values, begin, end, quarters)
    lower, upper, below = next_above(values, begin, end, np.int64(-1)), np.int64(most), np.int64(0)
    if lower == upper:  # as often as not
        return float(lower)
    whole, rest = quarters * (count - 1) // 4, quarters * (count - 1) % 4
    while lower < upper:
        middle = (lower + upper) >> 1
        found = not_above(values, begin, end, middle)
        if found > whole:
            upper, below = middle, found
        else:
            lower = middle + 1
    if rest == 0 or lower == most or below > whole + 1:
        return float(lower)
    return lower + (next_above(values, begin, end, lower) - lower) * rest / 4.0


@kernel
def fill_floats(
    floats: np.ndarray,
    row: int,
    core_sum: int,
    core_values: int,
    percentile: float,
    peak: int,
    median: float,
    limit: int,
    counts: int,
    expected: int,
    swap: int,
) -> None:
    """What a job on one node has of `jobeff.engine.partials.Rows.floats`."""
    floats[row, 0] = core_sum / (100.0 * core_values)
    floats[row, 1] = percentile
    floats[row, 2] = peak / 100.0
    floats[row, 3] = median / 100.0
    floats[row, 4] = limit / 100.0 if limit > 0 else np.nan
    floats[row, 5] = min(counts, expected) / expected
    floats[row, 6] = swap / 100.0


@kernel
def busy_rows(
    interval: int,
    busy: int,
    lightly_busy: int,
    time: np.ndarray,
    begin: int,
    end: int,
    cores: np.ndarray,
    core: int,
    width: int,
    marks: np.ndarray,
    light_marks: np.ndarray,
    high: np.ndarray,
) -> tuple[int, int]:
    """How many cores were busy at each sampling time of one raw file.

    Parameters
    ----------
    interval, busy, lightly_busy
        See `node_partials`.
    time, begin, end
        Rows, in order.
    cores, core, width
        Their cores, from `core` on.
    marks, light_marks
        Room for a bit each core, and for a word more.
    high
        Output: busy cores, a sampling time each; of two rows of the same one the last counts.

    Returns
    -------
    tuple of int
        How many sampling times there were, and the most cores used at any of them.
    """
    few = width <= BLOCK
    if few:
        end_core = core + (end - begin) * width
        mark_above(cores, core, end_core, busy, marks)
        mark_above(cores, core, end_core, lightly_busy, light_marks)
    at, most, found = np.int64(0), np.int64(0), np.uint64(0)
    regular = is_regular(time, begin, end, interval)
    if few and regular:
        for row in range(np.uint64(end - begin)):
            high[row] = marked(marks, at, width)
            most = max(most, marked(light_marks, at, width))
            at += width
        return end - begin, most
    pending = np.int64(0)
    first, middle = time[begin], np.int64(0)  # of a sampling time that is so many seconds behind the first row
    for row in range(np.uint64(end - begin)):
        if few:
            many, light = marked(marks, at, width), marked(light_marks, at, width)
        else:
            many = ones_above(cores, core + at, core + at + width, busy)
            light = ones_above(cores, core + at, core + at + width, lightly_busy)
        at += width
        same = False
        if not regular and row > np.uint64(0):
            # Divisions are slow, and nearly each row is at the next sampling time.
            after = time[np.uint64(begin) + row] - first
            if 2 * abs(after - middle - interval) < interval:
                middle += interval
            else:
                now = slot_of(after, np.int64(0), np.int64(0), interval) * interval
                same, middle = now == middle, now
        if same:
            found -= np.uint64(1)
        else:
            most = max(most, pending)
        high[found], pending = many, light
        found += np.uint64(1)
    return np.int64(found), max(most, pending)


@allocating_kernel
def node_rows(
    interval: int,
    busy: int,
    lightly_busy: int,
    file_job: np.ndarray,
    row_begin: np.ndarray,
    max_begin: np.ndarray,
    core_begin: np.ndarray,
    widths: np.ndarray,
    file_rejected: np.ndarray,
    time: np.ndarray,
    limit: np.ndarray,
    used: np.ndarray,
    max_used: np.ndarray,
    swap: np.ndarray,
    cores: np.ndarray,
    attempts: np.ndarray,
    ranks: np.ndarray,
    wanted: int,
    job_id: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    booked_cores: np.ndarray,
    booked_nodes: np.ndarray,
    rows: np.ndarray,
    numbers: np.ndarray,
    floats: np.ndarray,
    count: int,
    left: np.ndarray,
) -> tuple[int, int, int, int]:
    """Rows of jobs on one node that have left one raw file there, as nearly all have; the others are left.

    Parameters
    ----------
    interval, busy, lightly_busy, file_job, row_begin, max_begin, core_begin, widths, file_rejected, time, limit, \
    used, max_used, swap, cores
        See `node_partials`.
    attempts, ranks
        Indexes of the jobs on this node, in order of (job id, start); place of the node in the node list of each.
    wanted
        Jobs with a lower index have to have a row.
    job_id, starts, stops, booked_cores, booked_nodes
        Of all jobs.
    rows, numbers, floats, count
        Output, see `jobeff.engine.partials.Rows`; how many rows there are already.
    left
        Output, shape (5, attempts): attempt, rank, job id, start and end of those that have to be reduced to a part.

    Returns
    -------
    tuple of int
        How many rows there are then; how many attempts are left, how many of them are to have a row and were on several
        nodes, and how many samples they have.
    """
    high = np.empty(BLOCK, dtype=np.int32)
    marks, light_marks = np.empty(2, dtype=np.uint32), np.empty(2, dtype=np.uint32)
    # The jobs of a node are far from each other. Fetched all at once they are waited for together, not one by one.
    ids, spans, booked, nodes = (
        np.empty(len(attempts), np.int64),
        np.empty((len(attempts), 2), np.int64),
        np.empty(len(attempts), np.int64),
        np.empty(len(attempts), np.int64),
    )
    for i in range(len(attempts)):
        ids[i] = job_id[attempts[i]]
    for i in range(len(attempts)):
        spans[i, 0], spans[i, 1] = starts[attempts[i]], stops[attempts[i]]
    for i in range(len(attempts)):
        booked[i] = booked_cores[attempts[i]]
        nodes[i] = booked_nodes[attempts[i]] if attempts[i] < wanted else 0
    left_count, left_shared, left_samples = 0, 0, 0
    file, attempt = 0, 0
    while attempt < len(attempts):
        current, number, last_attempt = attempt, ids[attempt], attempt + 1
        while last_attempt < len(attempts) and ids[last_attempt] == number:
            last_attempt += 1
        while file < len(file_job) and file_job[file] < number:
            file += 1
        last = file
        while last < len(file_job) and file_job[last] == number:
            last += 1
        alone = last_attempt - attempt == 1 and last - file < 2 and nodes[attempt] == 1
        if not alone:
            for i in range(attempt, last_attempt):
                left[0, left_count], left[1, left_count], left[2, left_count] = attempts[i], ranks[i], number
                left[3, left_count], left[4, left_count] = spans[i, 0], spans[i, 1]
                left_count += 1
                left_shared += nodes[i] > 1
            left_samples += row_begin[last] - row_begin[file]
        attempt = last_attempt
        if not alone or last == file:
            continue
        start, stop, width = spans[current, 0], spans[current, 1], np.int64(widths[file])
        begin, end = row_begin[file], row_begin[file + 1]
        while begin < end and time[begin] < start - interval:
            begin += 1
        while begin < end and time[end - 1] - interval > stop:
            end -= 1
        if begin == end:
            continue
        found, skipped = end - begin, begin - row_begin[file]
        core = core_begin[file] + skipped * width
        if len(high) < found + BLOCK:
            high = np.empty(2 * found + BLOCK, dtype=np.int32)
        if len(marks) < found * width // BLOCK + 2:
            marks = np.empty(2 * found * width // BLOCK + 2, dtype=np.uint32)
            light_marks = np.empty(len(marks), dtype=np.uint32)
        total = sum_of_cores(cores, core, core + found * width)
        if width == 1 and is_regular(time, begin, end, interval):
            percentile = quantile_of_ones(found, ones_above(cores, core, core + found, busy), np.int64(3))
            most = np.int64(ones_above(cores, core, core + found, lightly_busy) > 0)
        else:
            slots, most = busy_rows(
                interval, busy, lightly_busy, time, begin, end, cores, core, width, marks, light_marks, high
            )
            percentile = quantile_up_to(high, np.int64(0), slots, largest(high, np.int64(0), slots), np.int64(3))
        peak = largest(used, begin, end)
        median = quantile_up_to(used, begin, end, peak, np.int64(2))
        if max_begin[file + 1] > max_begin[file]:
            at = max_begin[file] + skipped
            peak = max(peak, largest(max_used, at, at + found))
        rows[count] = attempts[current]
        numbers[count, 0], numbers[count, 1], numbers[count, 2], numbers[count, 3] = found, 1, file_rejected[file], most
        fill_floats(
            floats, count, total, found * max(width, booked[current]), percentile, peak, median,
            largest(limit, begin, end), found, max(1, (stop - start) // interval), largest(swap, begin, end),
        )  # fmt: skip
        count += 1
    return count, left_count, left_shared, left_samples


@kernel
def rows_of_parts(
    interval: int,
    jobs: np.ndarray,
    order: np.ndarray,
    counts: np.ndarray,
    core_sum: np.ndarray,
    core_values: np.ndarray,
    peak: np.ndarray,
    limit: np.ndarray,
    swap: np.ndarray,
    rejected: np.ndarray,
    slot_begin: np.ndarray,
    slot_end: np.ndarray,
    used_begin: np.ndarray,
    used_end: np.ndarray,
    slot_busy: np.ndarray,
    slot_light: np.ndarray,
    used_values: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    booked_cores: np.ndarray,
    numbers: np.ndarray,
    floats: np.ndarray,
) -> None:
    """Rows of jobs on one node, each of its one part.

    Parameters
    ----------
    interval
        Seconds between samples.
    jobs
        Shape (jobs,): index of each job in `starts`, `stops` and `booked_cores`.
    order
        Shape (jobs,): the part of each.
    counts, core_sum, core_values, peak, limit, swap, rejected
        One element per part, see `node_partials`.
    slot_begin, slot_end, used_begin, used_end
        Each part's part of the next three.
    slot_busy, slot_light, used_values
        See `node_partials`.
    starts, stops, booked_cores
        Epochs and cores booked.
    numbers
        Output, shape (jobs, 4), int64: counts, nodes seen, rejected, most cores used.
    floats
        Output, shape (jobs, 7): cpu_mean, percentile, mem_peak, mem_median, mem_limit (NaN: unknown), coverage,
        swap_peak. Rows of jobs without a valid row mean nothing; their ``counts`` is 0.
    """
    for row in range(len(jobs)):
        job, part = jobs[row], order[row]
        found = counts[part]
        numbers[row, 0], numbers[row, 2] = found, rejected[part]
        if found == 0:
            continue
        # A node's sampling times are in order, and each stands there once.
        numbers[row, 1], numbers[row, 3] = 1, largest(slot_light, slot_begin[part], slot_end[part])
        fill_floats(
            floats, row, core_sum[part], max(core_values[part], found * booked_cores[job]),
            quantile(slot_busy, slot_begin[part], slot_end[part], 3), peak[part],
            quantile(used_values, used_begin[part], used_end[part], 2), limit[part],
            found, max(1, (stops[job] - starts[job]) // interval), swap[part],
        )  # fmt: skip


@allocating_kernel
def add_up(table: np.ndarray, spans: np.ndarray, out: np.ndarray, at: int) -> int:
    """Bring the rows of a table that have the same key together, in order of their keys.

    Parameters
    ----------
    table
        Shape (rows, columns), int64: a key, and what is added up.
    spans
        Shape (spans, 2): which rows.
    out, at
        Takes one row per key, from row `at` on; the table may be the same one.

    Returns
    -------
    int
        Where the rows end that `out` has been given.
    """
    width, total, low, high = table.shape[1], 0, np.int64(0), np.int64(0)
    for s in range(len(spans)):
        for k in range(spans[s, 0], spans[s, 1]):
            key = table[k, 0]
            low, high = (min(low, key), max(high, key)) if total else (key, key)
            total += 1
    if total == 0:
        return at
    if high - low < SPARSEST * (total + SPARSEST):
        # A bit tells whether there is a sum yet, so that neither all have to be made zero before, nor looked at after.
        sums = np.empty((high - low + 1, width), dtype=np.int64)
        there = np.zeros((high - low) // WORD + 1, dtype=np.uint64)
        for s in range(len(spans)):
            for k in range(spans[s, 0], spans[s, 1]):
                place = np.uint64(table[k, 0] - low)
                word, bit = place >> np.uint64(6), place & np.uint64(63)
                is_there = np.int64((there[word] >> bit) & np.uint64(1))
                there[word] |= np.uint64(1) << bit
                for column in range(1, width):
                    sums[place, column] = sums[place, column] * is_there + table[k, column]
        for word in range(len(there)):
            left = there[word]
            while left != np.uint64(0):
                place = word * WORD + ones((left - np.uint64(1)) & ~left)  # the lowest bit
                left &= left - np.uint64(1)
                out[at, 0] = low + place
                for column in range(1, width):
                    out[at, column] = sums[place, column]
                at += 1
        return at
    rows, i = np.empty((total, width), dtype=np.int64), 0
    for s in range(len(spans)):
        for k in range(spans[s, 0], spans[s, 1]):
            rows[i] = table[k]
            i += 1
    order = stable_order(rows[:, 0])
    for i in range(total):
        row = order[i]
        if i > 0 and rows[row, 0] == rows[order[i - 1], 0]:
            for column in range(1, width):
                out[at - 1, column] += rows[row, column]
        else:
            out[at] = rows[row]
            at += 1
    return at


@kernel
def ranks_before(peak: int, limit: int, other_peak: int, other_limit: int) -> bool:
    """Whether a node ranks before another by peak/limit; an unknown limit (0) ranks last, by the peak alone."""
    if limit > 0 and other_limit > 0:
        return np.int64(peak) * np.int64(other_limit) > np.int64(other_peak) * np.int64(limit)
    if limit > 0 or other_limit > 0:
        return limit > 0
    return peak > other_peak


@allocating_kernel
def merge_parts(
    begin: np.ndarray,
    order: np.ndarray,
    parts: np.ndarray,
    slots: np.ndarray,
    used: np.ndarray,
    merged: np.ndarray,
    merged_slots: np.ndarray,
    merged_used: np.ndarray,
) -> tuple[int, int]:
    """Merge all parts of each job into one; exact, commutative and associative.

    Parameters
    ----------
    begin, order
        The parts of job j are ``order[begin[j]:begin[j + 1]]``, in any order.
    parts, slots, used
        Of `jobeff.engine.shared.Shared`; within a part, rows of `used` may be in any order and more than one of a kind.
    merged, merged_slots, merged_used
        Output, as many columns: one part per job, zeros at first, and room for all rows.

    Returns
    -------
    tuple of int
        How many rows `merged_slots` and `merged_used` have been given.
    """
    s, u = 0, 0
    for job in range(len(begin) - 1):
        count = begin[job + 1] - begin[job]
        at_slots, at_used = np.zeros((count, 2), dtype=np.int64), np.zeros((count, 2), dtype=np.int64)
        best = -1
        for i in range(count):
            part = order[begin[job] + i]
            if part > 0:
                at_slots[i, 0], at_used[i, 0] = parts[part - 1, SLOT_END], parts[part - 1, USED_END]
            at_slots[i, 1], at_used[i, 1] = parts[part, SLOT_END], parts[part, USED_END]
            merged[job, JOB] = parts[part, JOB]
            merged[job, COUNTS] = max(merged[job, COUNTS], parts[part, COUNTS])
            merged[job, SWAP] = max(merged[job, SWAP], parts[part, SWAP])
            merged[job, NODES] += parts[part, NODES]
            merged[job, COVERED] += parts[part, COVERED]
            merged[job, CORE_SUM] += parts[part, CORE_SUM]
            merged[job, CORE_VALUES] += parts[part, CORE_VALUES]
            merged[job, REJECTED] += parts[part, REJECTED]
            if parts[part, NODES] and (best < 0 or ranks_first(parts, part, best)):
                best = part
        if best >= 0:
            merged[job, RANK], merged[job, PEAK], merged[job, LIMIT] = (
                parts[best, RANK],
                parts[best, PEAK],
                parts[best, LIMIT],
            )
        s = add_up(slots, at_slots, merged_slots, s)
        u = add_up(used, at_used, merged_used, u)
        merged[job, SLOT_END], merged[job, USED_END] = s, u
    return s, u


@kernel
def ranks_first(parts: np.ndarray, one: int, other: int) -> bool:
    """Whether the node of one part ranks before that of another; of two alike, the first of the node list."""
    if ranks_before(parts[one, PEAK], parts[one, LIMIT], parts[other, PEAK], parts[other, LIMIT]):
        return True
    if ranks_before(parts[other, PEAK], parts[other, LIMIT], parts[one, PEAK], parts[one, LIMIT]):
        return False
    return parts[one, RANK] < parts[other, RANK]


@kernel
def counted_quantile(counted: np.ndarray, quarters: int) -> float:
    """Quantile ``quarters / 4`` of integers in order, each with how often it is there, by linear interpolation."""
    total = np.int64(0)
    for i in range(len(counted)):
        total += counted[i, 1]
    whole, rest = quarters * (total - 1) // 4, quarters * (total - 1) % 4
    i, before = 0, counted[0, 1]
    while before <= whole:
        i += 1
        before += counted[i, 1]
    lower = counted[i, 0]
    if rest == 0:
        return float(lower)
    upper = lower if before > whole + 1 else counted[i + 1, 0]
    return lower + (upper - lower) * rest / 4.0


@allocating_kernel
def rows_of_merged(
    interval: int,
    parts: np.ndarray,
    slots: np.ndarray,
    used: np.ndarray,
    starts: np.ndarray,
    stops: np.ndarray,
    booked_cores: np.ndarray,
    booked_nodes: np.ndarray,
    numbers: np.ndarray,
    floats: np.ndarray,
) -> None:
    """Rows of jobs on several nodes, whose parts have been merged.

    Parameters
    ----------
    interval
        Seconds between samples.
    parts, slots, used
        From `merge_parts`.
    starts, stops, booked_cores, booked_nodes, numbers, floats
        As for `rows_of_parts`.
    """
    for row in range(len(parts)):
        job, counts = parts[row, JOB], parts[row, COUNTS]
        numbers[row, 0], numbers[row, 1], numbers[row, 2] = counts, parts[row, NODES], parts[row, REJECTED]
        if counts == 0:
            continue
        s, u = (parts[row - 1, SLOT_END], parts[row - 1, USED_END]) if row else (0, 0)
        times = slots[s : parts[row, SLOT_END]]
        totals, light = np.empty(len(times), dtype=np.int64), np.int64(0)
        for k in range(len(times)):
            totals[k] = times[k, 1]
            light = max(light, times[k, 2])
        numbers[row, 3] = light
        expected = max(1, (stops[job] - starts[job]) // interval)
        limit = parts[row, LIMIT]
        floats[row, 0] = parts[row, CORE_SUM] / (100.0 * max(parts[row, CORE_VALUES], counts * booked_cores[job]))
        floats[row, 1] = quantile(totals, 0, len(totals), 3)
        floats[row, 2] = parts[row, PEAK] / 100.0
        floats[row, 3] = counted_quantile(used[u : parts[row, USED_END]], 2) / 100.0
        floats[row, 4] = limit / 100.0 if limit > 0 else np.nan
        floats[row, 5] = parts[row, COVERED] / (expected * booked_nodes[job])
        floats[row, 6] = parts[row, SWAP] / 100.0
