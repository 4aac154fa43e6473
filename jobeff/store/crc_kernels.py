"""CRC-32 of many places in a text, where the processor multiplies without carry: several times as fast as zlib.

A text is folded: sixteen bytes times what CRC-32 makes of a step of 64 (or 16) bytes, added to those so far behind
them, until sixteen bytes are left that have the same checksum. See V. Gopal et al., "Fast CRC computation for generic
polynomials using PCLMULQDQ", Intel 2009.
"""

from __future__ import annotations

import functools
import zlib
from typing import Any

import numpy as np
from llvmlite import binding, ir
from numba import config
from numba.core import cgutils, types
from numba.extending import intrinsic

from jobeff.jit import kernel
from jobeff.prefetch import prefetch
from jobeff.store.crc_table import crc32_table

BY_64, BY_16 = (0x154442BD4, 0x1C6E41596), (0x1751997D0, 0x0CCAA009E)
BLOCK = 16
LANES = 4
AHEAD = 16  # places that are asked for before they are needed


@functools.cache
def can_multiply() -> bool:
    """Whether what numba compiles for has the instruction.

    Returns
    -------
    bool
        False too where compiling is switched off.
    """
    if config.DISABLE_JIT or config.CPU_NAME or config.CPU_FEATURES:
        return False
    return bool(binding.get_host_cpu_features().get("pclmul", False))


@intrinsic
def folded(_: Any, data: Any, begin: int, blocks: int, crc: int) -> Any:  # noqa: ARG001  (numba looks at their names)
    """Fold blocks of 16 bytes, at least `LANES`, behind a checksum into one that has the same checksum behind 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, begin, blocks, crc = arguments
        word = ir.IntType(64)
        pair = ir.VectorType(word, 2)
        multiply = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(pair, [pair, pair, ir.IntType(8)]), "llvm.x86.pclmulqdq"
        )
        memory = context.make_array(signature.args[0])(context, builder, array).data

        def load(block: Any) -> Any:
            place = builder.gep(memory, [builder.add(begin, builder.mul(block, word(BLOCK)))])
            return builder.load(builder.bitcast(place, pair.as_pointer()), align=1)

        def fold(value: Any, by: tuple[int, int], other: Any) -> Any:
            factor = ir.Constant(pair, list(by))
            low = builder.call(multiply, [value, factor, ir.Constant(ir.IntType(8), 0x00)])
            high = builder.call(multiply, [value, factor, ir.Constant(ir.IntType(8), 0x11)])
            return builder.xor(builder.xor(low, high), other)

        lanes = [cgutils.alloca_once_value(builder, load(word(lane))) for lane in range(LANES)]
        before = builder.insert_element(ir.Constant(pair, [0, 0]), crc, ir.Constant(ir.IntType(32), 0))
        builder.store(builder.xor(builder.load(lanes[0]), before), lanes[0])
        whole = builder.sub(blocks, builder.urem(blocks, word(LANES)))
        with cgutils.for_range_slice(builder, word(LANES), whole, word(LANES), inc=True) as (block, _):
            for lane, room in enumerate(lanes):
                builder.store(fold(builder.load(room), BY_64, load(builder.add(block, word(lane)))), room)
        for room in lanes[1:]:
            builder.store(fold(builder.load(lanes[0]), BY_16, builder.load(room)), lanes[0])
        with cgutils.for_range_slice(builder, whole, blocks, word(1), inc=True) as (block, _):
            builder.store(fold(builder.load(lanes[0]), BY_16, load(block)), lanes[0])
        left = builder.load(lanes[0])
        halves = [builder.extract_element(left, ir.Constant(ir.IntType(32), i)) for i in range(2)]
        return context.make_tuple(builder, signature.return_type, halves)

    return types.UniTuple(types.uint64, 2)(data, types.int64, types.int64, types.uint64), generate


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
def crc32_of(data: np.ndarray, begin: int, end: int, before: int, table: np.ndarray) -> int:
    """CRC-32 of one place, behind text that has the checksum `before`."""
    crc = np.uint64(before) ^ np.uint64(0xFFFFFFFF)
    at = np.int64(begin)
    blocks = (end - at) // BLOCK
    if blocks >= LANES:
        low, high = folded(data, at, blocks, crc)
        crc = eight_more(eight_more(np.uint64(0), low, table), high, table)
        at += blocks * BLOCK
    while at < end:
        index = (crc ^ np.uint64(data[at])) & np.uint64(255)
        crc = np.uint64(table[0, index]) ^ (crc >> np.uint64(8))
        at += 1
    return np.int64(crc ^ np.uint64(0xFFFFFFFF))


@kernel
def checksums(data: np.ndarray, begin: np.ndarray, end: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """CRC-32 of places in a text.

    Parameters
    ----------
    data
        Bytes, uint8.
    begin, end
        Shape (places,): where each stands.
    table
        From `crc32_table`.
    out
        Output, shape (places,): the checksums.
    """
    for i in range(len(begin)):
        if i + AHEAD < len(begin):  # headers are far from each other, and short
            prefetch(data, begin[i + AHEAD])
            prefetch(data, begin[i + AHEAD] + 64)
        out[i] = crc32_of(data, begin[i], end[i], np.int64(0), table)


@kernel
def checksums_of_blocks(
    data: np.ndarray, begin: np.ndarray, end: np.ndarray, table: np.ndarray, out: np.ndarray
) -> None:
    """CRC-32, begun with 0, of places of whole blocks, at least `LANES`; as for `checksums`."""
    for i in range(len(begin)):
        low, high = folded(data, begin[i], (end[i] - begin[i]) // BLOCK, np.uint64(0))
        crc = eight_more(eight_more(np.uint64(0), low, table), high, table)
        out[i] = np.int64(crc ^ np.uint64(0xFFFFFFFF))


@kernel
def checksums_by_table(
    data: np.ndarray, begin: np.ndarray, end: np.ndarray, table: np.ndarray, out: np.ndarray
) -> None:
    """The same where the processor cannot multiply so."""
    for i in range(len(begin)):
        crc = np.uint64(0)
        for at in range(begin[i], end[i], 8):
            word = np.uint64(0)
            for step in range(8):  # the compiler makes one load of it
                word |= np.uint64(data[at + step]) << np.uint64(8 * step)
            crc = eight_more(crc, word, table)
        out[i] = np.int64(crc ^ np.uint64(0xFFFFFFFF))


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
    if len(begin) and (begin.min() < 0 or end.max() > len(data) or (begin > end).any()):
        raise ValueError("a place is not within the text")
    data = data.view()
    data.setflags(write=False)  # kernels are compiled for one kind only
    out = np.empty(len(begin), dtype=np.int64)
    checksums(data, np.ascontiguousarray(begin), np.ascontiguousarray(end), crc32_table(), out)
    return out


def of_blocks(data: np.ndarray, begin: np.ndarray, end: np.ndarray) -> np.ndarray:
    """CRC-32 of places that begin with what its first value has been added to, see `jobeff.store.page_kernels`.

    Parameters
    ----------
    data
        Bytes, uint8.
    begin, end
        Shape (places,): where each stands, within the data; its size is one of at least `LANES` whole blocks.

    Returns
    -------
    ndarray of int64
        Shape (places,).
    """
    out = np.empty(len(begin), dtype=np.int64)
    (checksums_of_blocks if can_multiply() else checksums_by_table)(data, begin, end, crc32_table(), out)
    return out
