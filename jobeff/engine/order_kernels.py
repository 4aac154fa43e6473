"""Values put into another order."""

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
