"""CRC-32 of many places in a text, where the processor multiplies without carry: many times as fast as zlib.

A text is folded: sixteen bytes times what CRC-32 makes of the way to those so far behind them, added to these, until
sixteen bytes are left that have the same checksum. See V. Gopal et al., "Fast CRC computation for generic polynomials
using PCLMULQDQ", Intel 2009.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

import numpy as np

from jobeff.jit import instructions, kernel
from jobeff.prefetch import prefetch
from jobeff.store.crc_table import crc32_table

POLYNOMIAL = 0x104C11DB7
BLOCK = 16
AHEAD = 16  # places that are asked for before they are needed
NARROW, MIDDLE, WIDE = (1, 4), (2, 2), (4, 2)
"""Blocks that are multiplied by one instruction, and how many instructions do not wait for each other."""


@functools.cache
def can_multiply() -> bool:
    """Whether what numba compiles for has the instruction.

    Returns
    -------
    bool
        False too where compiling is switched off.
    """
    return bool(_features().get("pclmul", False))


@functools.cache
def _features() -> dict[str, bool]:
    """Instructions that may be used, by LLVM's names."""
    from llvmlite import binding  # noqa: PLC0415  (takes long to import, see `jobeff.jit`)
    from numba import config  # noqa: PLC0415

    if config.DISABLE_JIT or config.CPU_NAME or config.CPU_FEATURES:
        return {}
    return dict(binding.get_host_cpu_features())


def _write_multiplies() -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    @intrinsic
    def multiplies(_: Any) -> Any:
        def generate(*_: Any) -> Any:
            return ir.IntType(1)(int(can_multiply()))

        return types.boolean(), generate

    return multiplies


@instructions(_write_multiplies)
def multiplies() -> bool:
    """What `can_multiply` says, for kernels: what is not for this processor is not compiled."""
    return False


@functools.cache
def factors(distance: int) -> tuple[int, int]:
    """By what the two words of a block are multiplied to be added to a block that is so many bytes behind.

    Parameters
    ----------
    distance
        At least 4.

    Returns
    -------
    tuple of int
        Remainders of powers of x, their bits in the order of CRC-32.
    """

    def power(n: int) -> int:
        left = 1
        for _ in range(n):
            left = left << 1 ^ (POLYNOMIAL if left >> 31 else 0)
        return int(f"{left:032b}"[::-1], 2) << 1

    return power(8 * distance + 32), power(8 * distance - 32)


def _blocks_and_lanes() -> tuple[int, int]:
    """How wide the instruction is that the processor has; of those before AVX-512 many multiply two blocks."""
    has = _features()
    if not has.get("vpclmulqdq", False):
        return NARROW
    return WIDE if has.get("avx512f", False) else MIDDLE if has.get("avx2", False) else NARROW


def _write_folded() -> Any:
    from llvmlite import ir  # noqa: PLC0415
    from numba.core import cgutils, types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    word, bit = ir.IntType(64), ir.IntType(1)
    pair = ir.VectorType(word, 2)
    blocks_at_once, lanes = _blocks_and_lanes()
    vector, group = ir.VectorType(word, 2 * blocks_at_once), blocks_at_once * lanes

    def fold(builder: Any, value: Any, distance: int, other: Any) -> Any:
        kind = value.type
        name = "llvm.x86.pclmulqdq" if kind == pair else f"llvm.x86.pclmulqdq.{64 * kind.count}"
        signature = ir.FunctionType(kind, [kind, kind, ir.IntType(8)])
        multiply = cgutils.get_or_insert_function(builder.module, signature, name)
        by = ir.Constant(kind, list(factors(distance)) * (kind.count // 2))
        low, high = (builder.call(multiply, [value, by, ir.IntType(8)(which)]) for which in (0x00, 0x11))
        return builder.xor(builder.xor(low, high), other)

    def load(builder: Any, memory: Any, at: Any, mask: Any = None) -> Any:
        place = builder.bitcast(builder.gep(memory, [at]), vector.as_pointer())
        if mask is None:
            return builder.load(place, align=1)
        zeros = ir.Constant(vector, [0] * vector.count)
        arguments = [place, ir.IntType(32)(1), mask, zeros]
        signature = ir.FunctionType(vector, [one.type for one in arguments])
        name = f"llvm.masked.load.v{vector.count}i64.p0v{vector.count}i64"
        return builder.call(cgutils.get_or_insert_function(builder.module, signature, name), arguments)

    def first_group(builder: Any, memory: Any, begin: Any, missing: Any, crc: Any) -> list[Any]:
        """The first blocks behind as many zeros as are missing of a group, which change nothing."""
        begin = builder.sub(begin, builder.mul(missing, word(BLOCK)))
        first = builder.mul(missing, word(2))
        crc = builder.shuffle_vector(
            builder.insert_element(ir.Constant(vector, ir.Undefined), crc, ir.IntType(32)(0)),
            ir.Constant(vector, ir.Undefined),
            ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None),
        )
        found = []
        for lane in range(lanes):

            def mask(bits: Any, before: int = lane * vector.count) -> Any:
                bits = builder.trunc(builder.lshr(bits, word(before)), ir.IntType(vector.count))
                return builder.bitcast(bits, ir.VectorType(bit, vector.count))

            at = builder.add(begin, word(lane * blocks_at_once * BLOCK))
            blocks = load(builder, memory, at, mask(builder.shl(word(-1), first)))
            added = builder.select(mask(builder.shl(word(1), first)), crc, ir.Constant(vector, [0] * vector.count))
            found.append(builder.xor(blocks, added))
        return found

    def halves(builder: Any, values: list[Any]) -> list[Any]:
        """The two words that are left of a group."""
        whole, *others = values
        for value in others:
            whole = fold(builder, whole, BLOCK * blocks_at_once, value)
        index = ir.VectorType(ir.IntType(32), 2)
        *before, left = (
            builder.shuffle_vector(whole, whole, ir.Constant(index, [2 * block, 2 * block + 1]))
            for block in range(blocks_at_once)
        )
        for block, value in enumerate(before):
            left = fold(builder, value, BLOCK * (blocks_at_once - 1 - block), left)
        return [builder.extract_element(left, ir.IntType(32)(half)) for half in range(2)]

    @intrinsic
    def folded(_: Any, data: Any, begin: int, blocks: int, crc: int) -> Any:  # noqa: ARG001  (numba looks at their names)
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            array, begin, blocks, crc = arguments
            if not can_multiply():  # nobody asks, see `multiplies`
                return context.make_tuple(builder, signature.return_type, [crc, crc])
            memory = context.make_array(signature.args[0])(context, builder, array).data
            missing = builder.and_(builder.neg(blocks), word(group - 1))
            values = [
                cgutils.alloca_once_value(builder, value) for value in first_group(builder, memory, begin, missing, crc)
            ]
            done = builder.sub(word(group), missing)
            with cgutils.for_range_slice(builder, done, blocks, word(group), inc=True) as (block, _):
                at = builder.add(begin, builder.mul(block, word(BLOCK)))
                for lane, value in enumerate(values):
                    there = load(builder, memory, builder.add(at, word(lane * blocks_at_once * BLOCK)))
                    builder.store(fold(builder, builder.load(value), BLOCK * group, there), value)
            left = halves(builder, [builder.load(value) for value in values])
            return context.make_tuple(builder, signature.return_type, left)

        words = types.UniTuple(types.uint64, 2)
        return words(data, types.int64, types.int64, types.uint64), generate

    return folded


@instructions(_write_folded)
def folded(data: np.ndarray, begin: int, blocks: int, crc: int) -> tuple[int, int]:
    """Fold blocks of 16 bytes, at least one, behind a checksum into one that has the same checksum behind 0."""
    text = bytearray(data[begin : begin + BLOCK * blocks])
    text[:4] = (int.from_bytes(text[:4], "little") ^ int(crc)).to_bytes(4, "little")
    left = int(f"1{''.join(f'{byte:08b}'[::-1] for byte in text)}", 2) ^ (1 << (8 * len(text)))
    while left.bit_length() > 32:
        left ^= POLYNOMIAL << (left.bit_length() - 33)
    bits = f"{left:0128b}"
    low, high = (int(bits[i : i + 64][::-1], 2) for i in (0, 64))
    return np.uint64(low), np.uint64(high)


@kernel
def eight_more(crc: int, word: int, table: np.ndarray) -> int:
    """The checksum eight bytes further on."""
    word ^= crc
    byte = np.uint64(255)
    low: np.uint32 = (
        table[7, word & byte] ^ table[6, word >> np.uint64(8) & byte] ^ table[5, word >> np.uint64(16) & byte]
    )
    high = table[3, word >> np.uint64(32) & byte] ^ table[2, word >> np.uint64(40) & byte]
    low ^= table[4, word >> np.uint64(24) & byte]
    high ^= table[1, word >> np.uint64(48) & byte] ^ table[0, word >> np.uint64(56)]
    return np.uint64(low ^ high)


@kernel
def by_table(data: np.ndarray, begin: int, end: int, before: int, table: np.ndarray) -> int:
    """CRC-32 of one place, behind text that has the checksum `before`, without looking at what stands before it."""
    crc, at = np.uint64(before) ^ np.uint64(0xFFFFFFFF), np.int64(begin)
    while at + 8 <= end:
        word = np.uint64(0)
        for step in range(8):  # the compiler makes one load of it
            word |= np.uint64(data[at + step]) << np.uint64(8 * step)
        crc = eight_more(crc, word, table)
        at += 8
    while at < end:
        index = (crc ^ np.uint64(data[at])) & np.uint64(255)
        crc = np.uint64(table[0, index]) ^ (crc >> np.uint64(8))
        at += 1
    return np.int64(crc ^ np.uint64(0xFFFFFFFF))


@kernel
def crc32_of(data: np.ndarray, begin: int, end: int, before: int, table: np.ndarray) -> int:
    """CRC-32 of one place, behind text that has the checksum `before`."""
    at, before = np.int64(begin), np.int64(before)
    blocks = (end - at) // BLOCK
    if multiplies() and blocks > 0:
        low, high = folded(data, at, blocks, np.uint64(before) ^ np.uint64(0xFFFFFFFF))
        folded_crc = eight_more(eight_more(np.uint64(0), low, table), high, table)
        before = np.int64(folded_crc ^ np.uint64(0xFFFFFFFF))
        at += blocks * BLOCK
    return by_table(data, at, end, before, table)


@kernel
def checksums(
    data: np.ndarray, begin: np.ndarray, end: np.ndarray, before: int, table: np.ndarray, out: np.ndarray
) -> bool:
    """CRC-32 of places in a text.

    Parameters
    ----------
    data
        Bytes, uint8.
    begin, end
        Shape (places,): where each stands.
    before
        Checksum of what is taken to stand before each.
    table
        From `crc32_table`.
    out
        Output, shape (places,): the checksums.

    Returns
    -------
    bool
        Whether all places are within the text; none that is not has been looked at.
    """
    for i in range(len(begin)):
        if begin[i] < 0 or end[i] > len(data) or begin[i] > end[i]:
            return False
        if i + AHEAD < len(begin):  # headers are far from each other, and short
            prefetch(data, begin[i + AHEAD])
            prefetch(data, begin[i + AHEAD] + 64)
        out[i] = crc32_of(data, begin[i], end[i], before, table)
    return True


def crc32(data: bytes | memoryview, before: int = 0) -> int:
    """CRC-32, by the quickest way that there is.

    Parameters
    ----------
    data
        Bytes.
    before
        That of what stands before them.

    Returns
    -------
    int
        As zlib's.
    """
    if not can_multiply():
        return zlib.crc32(data, before)
    view = np.frombuffer(data, dtype=np.uint8)
    view.setflags(write=False)  # kernels are compiled for one kind only
    return int(crc32_of(view, np.int64(0), np.int64(len(view)), np.int64(before), crc32_table()))


def of_places(data: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """CRC-32 of places in a text; `can_multiply` must have said that it can be done so.

    Parameters
    ----------
    data
        Bytes, uint8.
    begin, end
        Shape (places,): where each stands.

    Returns
    -------
    ndarray of int64
        Shape (places,).

    Raises
    ------
    ValueError
        A place is not within the text.
    """
    data = data.view()
    data.setflags(write=False)  # kernels are compiled for one kind only
    out = np.empty(len(begin), dtype=np.int64)
    begin, end = np.ascontiguousarray(begin), np.ascontiguousarray(end)
    if not checksums(data, begin, end, np.int64(0), crc32_table(), out):
        raise ValueError("a place is not within the text")
    return out


def of_blocks(data: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """CRC-32 of places that begin with what its first value has been added to, see `jobeff.store.record_kernels`.

    Parameters
    ----------
    data
        Bytes, uint8.
    begin, end
        Shape (places,): where each stands, within the data.

    Returns
    -------
    ndarray of int64
        Shape (places,).
    """
    out = np.empty(len(begin), dtype=np.int64)
    checksums(data, begin, end, np.int64(0xFFFFFFFF), crc32_table(), out)
    return out
