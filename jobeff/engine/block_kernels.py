"""Numba kernels: sums, extremes and comparisons of samples, a block of them at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from jobeff.jit import instructions, kernel
from jobeff.vectors import first_bits, pointer, uniform

INT32_MAX = 2**31 - 1
BLOCK = 32  # samples that are looked at in one step: most files have a few dozen


def _block(context: Any, builder: Any, kind: Any, values: Any, at: Any) -> Any:
    """The samples of a block, from a place on."""
    from llvmlite import ir  # noqa: PLC0415

    vector = ir.VectorType(ir.IntType(kind.dtype.bitwidth), BLOCK)
    return builder.load(pointer(context, builder, kind, values, at, vector), align=kind.dtype.bitwidth // 8)


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
    return builder.call(instruction, [builder.select(is_mine, values, uniform(vector, behind))])


def _bits(builder: Any, compared: Any, count: Any) -> Any:
    """Of the first numbers of a block, for which a comparison holds, as the bits of a number."""
    from llvmlite import ir  # noqa: PLC0415

    return first_bits(builder, builder.bitcast(compared, ir.IntType(BLOCK)), count)


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
            block = builder.select(is_above, block, uniform(block.type, INT32_MAX))
            return builder.sext(_reduced(builder, "smin", block, count, INT32_MAX), ir.IntType(64))

        return types.int64(values, types.int64, types.int64, types.int64), generate

    return least_of


@instructions(_write_least_of)
def least_of(values: np.ndarray, at: int, count: int, limit: int) -> int:
    """The least of `count` numbers of 32 bits from a place on that are above a limit; `INT32_MAX` where none is."""
    block = values[at : at + BLOCK][:count]
    return np.int64(block[block > limit].min(initial=INT32_MAX))


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
    least, at = np.int64(INT32_MAX), np.int64(begin)
    while at < end:
        least = min(least, least_of(values, at, min(end - at, BLOCK), limit))
        at += BLOCK
    return least
