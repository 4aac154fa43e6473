"""What sorts numbers, many times as quick as by comparing them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
DIGIT_BITS = 16


def distinct(numbers: Int64s) -> Int64s:
    """Numbers without those that are equal to another one.

    numpy's own way looks for masked arrays first, whose modules take as long to import as many a task.

    Parameters
    ----------
    numbers
        In any order.

    Returns
    -------
    ndarray of int64
        Sorted.
    """
    ordered = np.sort(numbers)
    found: Int64s = ordered[np.diff(ordered, prepend=ordered[:1] - 1) != 0]
    return found


def order_of(key: Int64s, start: Int64s) -> Int64s:
    """What sorts by a key and then by start.

    Parameters
    ----------
    key, start
        Shape (rows,).

    Returns
    -------
    ndarray of int64
        Indexes.
    """
    if np.all(key[1:] > key[:-1]):
        return np.arange(len(key))
    order = sorted_by(key)
    ordered = key[order]
    return order if np.all(ordered[1:] > ordered[:-1]) else np.lexsort((start, key))


def sorted_by(key: Int64s) -> Int64s:
    """What sorts by a number; what is equal stays in order.

    Parameters
    ----------
    key
        Shape (rows,).

    Returns
    -------
    ndarray of int64
        Indexes.
    """
    if len(key) == 0:
        return np.arange(0)
    lowest = int(key.min())
    bits = (int(key.max()) - lowest).bit_length()
    if bits > 3 * DIGIT_BITS:
        return np.argsort(key, kind="stable")
    # Numbers of 16 bits are sorted digit by digit, which is many times as quick.
    left = key - lowest
    order = np.argsort(left.astype(np.uint16), kind="stable")
    for shift in range(DIGIT_BITS, bits, DIGIT_BITS):
        order = order[np.argsort((left[order] >> shift).astype(np.uint16), kind="stable")]
    return order
