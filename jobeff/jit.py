"""How kernels are compiled: the one place for the options.

Code that calls each other stands in one file all the same, because numba's cache does not see changes in other files.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile a function.

    Parameters
    ----------
    function
        Plain loops over numpy arrays.

    Returns
    -------
    callable
        The same, compiled at first call, from the cache where there is one. A number that is written where a kernel is
        called has it compiled for that number once more; hence np.int64.
    """
    # No fastmath: it removes checks for NaN, and makes two ways to one number differ.
    return cast("Function", numba.njit(cache=True, nogil=True, error_model="numpy")(function))
