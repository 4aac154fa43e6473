"""Numba kernels: numbers as SQLite's file format has them, and what kernels for its pages have in common.

The format is described at https://www.sqlite.org/fileformat2.html and does not change. SQLite itself takes a
microsecond and more per row and column set, which is longer than all other work on a job; see `jobeff.store.pages`.
"""

from __future__ import annotations

import numpy as np

from jobeff.jit import kernel

TABLE_INTERIOR, TABLE_LEAF, INDEX_INTERIOR, INDEX_LEAF = 5, 13, 2, 10
DEPTH = 64  # SQLite's trees are at most 20 levels deep
BAD, FULL, LONG = -1, -2, -3  # the file is not as expected; no room for one more word; a row is too long

# What a cell is, in a row's checksum.
TAG_NULL, TAG_INTEGER, TAG_REAL, TAG_TEXT = range(4)
BEFORE_TEXT = 255
SIZES = np.array([0, 1, 2, 3, 4, 6, 8, 8, 0, 0, *[max(0, serial - 12) // 2 for serial in range(10, 128)]])
"""Bytes of a value of each serial type that is said in one byte."""


@kernel
def big_endian(data: np.ndarray, at: int, size: int) -> int:
    """An unsigned number of `size` bytes, the highest first."""
    value = np.int64(0)
    for i in range(size):
        value = (value << 8) | np.int64(data[at + i])
    return value


@kernel
def put_big_endian(out: np.ndarray, at: int, size: int, value: int) -> None:
    """Write the lowest `size` bytes of a number, the highest first."""
    for i in range(size):
        out[at + size - 1 - i] = (value >> (8 * i)) & 255


@kernel
def get_varint(data: np.ndarray, at: int) -> tuple[int, int]:
    """A number of one to nine bytes, and where it ends."""
    value = np.int64(0)
    if at + 9 > len(data):  # at the very end of the file a short one may stand
        for i in range(at, len(data)):
            value = (value << 7) | (np.int64(data[i]) & 127)
            if data[i] < 128:
                return value, i + 1
        return 0, len(data)
    for i in range(8):
        byte = np.int64(data[at + i])
        value = (value << 7) | (byte & 127)
        if byte < 128:
            return value, at + i + 1
    return (value << 8) | np.int64(data[at + 8]), at + 9


@kernel
def put_eight(out: np.ndarray, at: int, value: int) -> None:
    """Write eight bytes, the highest first; the compiler makes one store of it."""
    bits = np.uint64(value)
    i = np.uint64(at)
    out[i] = bits >> np.uint64(56)
    out[i + np.uint64(1)] = (bits >> np.uint64(48)) & np.uint64(255)
    out[i + np.uint64(2)] = (bits >> np.uint64(40)) & np.uint64(255)
    out[i + np.uint64(3)] = (bits >> np.uint64(32)) & np.uint64(255)
    out[i + np.uint64(4)] = (bits >> np.uint64(24)) & np.uint64(255)
    out[i + np.uint64(5)] = (bits >> np.uint64(16)) & np.uint64(255)
    out[i + np.uint64(6)] = (bits >> np.uint64(8)) & np.uint64(255)
    out[i + np.uint64(7)] = bits & np.uint64(255)


@kernel
def put_eight_back(out: np.ndarray, at: int, value: int) -> None:
    """Write eight bytes, the lowest first; the compiler makes one store of it."""
    bits, i = np.uint64(value), np.uint64(at)
    for step in range(8):
        out[i + np.uint64(step)] = (bits >> np.uint64(8 * step)) & np.uint64(255)


@kernel
def get_eight(data: np.ndarray, at: int) -> int:
    """Eight bytes as an unsigned number, the lowest first; the compiler makes one load of it."""
    value, i = np.uint64(0), np.uint64(at)
    for step in range(8):
        value |= np.uint64(data[i + np.uint64(step)]) << np.uint64(8 * step)
    return value


@kernel
def copy_eight(source: np.ndarray, begin: int, out: np.ndarray, at: int) -> None:
    """Copy eight bytes by one load and one store; byte by byte, the two might overlap, and the compiler keeps it so."""
    put_eight_back(out, at, get_eight(source, begin))


@kernel
def copy(source: np.ndarray, begin: int, size: int, out: np.ndarray, at: int) -> None:
    """Copy bytes, eight at a time: a call for each short text would take longer."""
    if size < 8:
        for i in range(size):
            out[at + i] = source[begin + i]
        return
    for done in range(0, size - 8, 8):
        copy_eight(source, begin + done, out, at + done)
    copy_eight(source, begin + size - 8, out, at + size - 8)


@kernel
def copy_short(source: np.ndarray, begin: int, size: int, out: np.ndarray, at: int) -> None:
    """Copy bytes, where what is behind them in `out` does not matter: most texts have one length then."""
    if size <= 16 and begin + 16 <= len(source) and at + 16 <= len(out):
        copy_eight(source, begin, out, at)
        copy_eight(source, begin + 8, out, at + 8)
    else:
        copy(source, begin, size, out, at)


@kernel
def put_varint(out: np.ndarray, at: int, value: int) -> int:
    """Write a number below 2**28; returns where it ends."""
    if value < 128:
        out[at] = value
        return at + 1
    if value < 16384:
        out[at] = 128 | (value >> 7)
        out[at + 1] = value & 127
        return at + 2
    if value < 2097152:
        out[at] = 128 | (value >> 14)
        out[at + 1] = 128 | ((value >> 7) & 127)
        out[at + 2] = value & 127
        return at + 3
    out[at] = 128 | (value >> 21)
    out[at + 1] = 128 | ((value >> 14) & 127)
    out[at + 2] = 128 | ((value >> 7) & 127)
    out[at + 3] = value & 127
    return at + 4


@kernel
def varint_size(value: int) -> int:
    """Bytes that `put_varint` writes."""
    return 1 if value < 128 else 2 if value < 16384 else 3 if value < 2097152 else 4


@kernel
def serial_size(serial: int) -> int:
    """Bytes of a value of a serial type."""
    if serial >= 12:
        return (serial - 12) // 2
    if serial <= 4:
        return serial
    return 6 if serial == 5 else 8 if serial <= 7 else 0


@kernel
def signed(data: np.ndarray, at: int, serial: int) -> int:
    """The integer of a serial type from 0 to 9."""
    if serial == 8 or serial == 9:
        return serial - 8
    size = serial_size(serial)
    value = big_endian(data, at, size)
    if 0 < size < 8 and value >> (8 * size - 1):
        value -= np.int64(1) << (8 * size)
    return value


@kernel
def number_at(data: np.ndarray, at: int, serial: int) -> int:
    """The integer, or the bits of the real, of a serial type from 1 to 9; where there is room by one load."""
    if serial >= 8:
        return serial - 8
    if at + 8 > len(data):
        return big_endian(data, at, 8) if serial == 7 else signed(data, at, serial)
    value, i = np.uint64(0), np.uint64(at)
    for step in range(8):
        value |= np.uint64(data[i + np.uint64(step)]) << np.uint64(56 - 8 * step)
    return np.int64(value) >> (64 - 8 * serial_size(serial))
