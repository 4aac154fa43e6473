"""The table of CRC-32 for those who need no more of it: what multiplies imports numba."""

from __future__ import annotations

import functools

import numpy as np

POLYNOMIAL = 0xEDB88320


@functools.cache
def crc32_table() -> np.ndarray:
    """What eight bytes at a time of a CRC-32 need.

    Returns
    -------
    ndarray of uint32
        Shape (8, 256): of each byte, followed by so many zero bytes.
    """
    table = np.zeros((8, 256), dtype=np.uint32)
    row = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        row = (row >> np.uint32(1)) ^ np.where(row & np.uint32(1), np.uint32(POLYNOMIAL), np.uint32(0))
    table[0] = row
    for more in range(1, 8):
        row = (row >> np.uint32(8)) ^ table[0][row & np.uint32(255)]
        table[more] = row
    return table
