"""Instructions for kernels: whether bytes are as the usual sampler prints them, and their numbers, many at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from jobeff.engine.row_kernels import FULL_CORE, ROUNDED_DOWN
from jobeff.jit import instructions
from jobeff.vectors import first_bits, pointer, uniform

CELL = 6  # bytes of a core in the usual format, %6.1f
PICTURED = 32  # bytes that are looked at in one step
CELLS, LANES = PICTURED // CELL, 8  # cores that are read in one step, and how many are written


def _pairs_of_digits(builder: Any, digits: Any) -> Any:
    """Of a vector of digits, each two next to each other as a number of twice the size."""
    from llvmlite import ir  # noqa: PLC0415

    pairs = ir.VectorType(ir.IntType(16), digits.type.count // 2)
    found = builder.mul(builder.bitcast(digits, pairs), uniform(pairs, 10 * 256 + 1))
    return builder.lshr(found, uniform(pairs, 8))


def _write_load8() -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic
    def load8(_: Any, text: Any, at: int) -> Any:  # noqa: ARG001  (numba looks at their names)
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            text, at = arguments
            return builder.load(pointer(context, builder, signature.args[0], text, at, ir.IntType(64)), align=1)

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
        found = builder.load(pointer(context, builder, kind, text, at, vector), align=1)
        values = builder.xor(found, ir.Constant(vector, self.known))
        high = builder.bitcast(builder.icmp_unsigned(">", values, ir.Constant(vector, self.most)), bits)
        spaces = builder.bitcast(builder.icmp_unsigned("==", found, uniform(vector, 32)), bits)
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


def _hundredths_of_cores(builder: Any, values: Any) -> Any:
    """What the cells of `_CORES` say, from their digits."""
    from llvmlite import ir  # noqa: PLC0415

    pairs = _pairs_of_digits(builder, builder.and_(values, uniform(values.type, 15)))  # hundreds; tens and ones; tenths
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
            high = builder.icmp_unsigned(">", found, uniform(found.type, ROUNDED_DOWN))
            over = builder.icmp_unsigned(">", found, uniform(found.type, FULL_CORE))
            place = pointer(context, builder, signature.args[3], cores, core, found.type)
            builder.store(builder.select(over, uniform(found.type, FULL_CORE), found), place, align=2)
            high = first_bits(builder, builder.bitcast(high, ir.IntType(LANES)), count)
            return builder.or_(first_bits(builder, wrong, builder.mul(count, count.type(CELL))), high)

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
    found = builder.mul(builder.bitcast(_pairs_of_digits(builder, digits), fours), uniform(fours, 100 * 65536 + 1))
    eights = ir.VectorType(ir.IntType(64), digits.type.count // 8)
    found = builder.bitcast(builder.lshr(found, uniform(fours, 16)), eights)
    high = builder.mul(builder.and_(found, uniform(eights, 0xFFFFFFFF)), uniform(eights, 10_000))
    return builder.add(high, builder.lshr(found, uniform(eights, 32)))


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
                place = pointer(context, builder, signature.args[0], text, builder.add(at, word(offset)), word)
                found = builder.insert_element(found, builder.load(place, align=1), lane(i))
            digits = builder.bitcast(found, ir.VectorType(ir.IntType(8), 8 * count))
            digits = builder.and_(digits, uniform(digits.type, 15))
            digits = builder.shuffle_vector(digits, uniform(digits.type, 0), closed)
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
