"""Values put into another order, and what to order rows by."""

from __future__ import annotations

import numpy as np

from jobeff.jit import kernel


@kernel
def take(values: np.ndarray, order: np.ndarray, out: np.ndarray) -> None:
    """Put values into an order; numpy's own way takes nearly twice as long.

    Parameters
    ----------
    values
        Any.
    order
        Shape (n,): which of them comes next; all are there.
    out
        Output, shape (n,).
    """
    for i in range(len(order)):
        out[i] = values[np.uint64(order[i])]  # else each would be asked whether it counts from the end


@kernel
def pairs(
    rows: np.ndarray, first: np.ndarray, second: np.ndarray, high: np.ndarray, low: np.ndarray, out: np.ndarray
) -> None:
    """Number rows by two columns at once.

    Parameters
    ----------
    rows
        Shape (n,): which rows.
    first, second
        Codes of all rows, in either column.
    high, low
        What each code counts for in the first column, and in the second.
    out
        Output, shape (n,): the sum of both.
    """
    for i in range(len(rows)):
        row = np.uint64(rows[i])
        out[i] = high[np.uint64(first[row])] + low[np.uint64(second[row])]
