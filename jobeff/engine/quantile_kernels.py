"""Numba kernels: quantiles of a few numbers, by selection or by counting."""

from __future__ import annotations

import numpy as np

from jobeff.engine.block_kernels import BLOCK, next_above, not_above
from jobeff.jit import kernel


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
