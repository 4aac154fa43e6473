"""How kernels are compiled and kept: the one place for the options.

Code that calls each other stands in one file all the same, because numba's cache does not see changes in other files.

What numba keeps is checked here as it does not itself: a file that is cut would stop every command, one with a flipped
bit could compute anything. A cache that cannot be used is said once, and the kernels are compiled.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import caching

from jobeff.errors import printable, shown

Function = TypeVar("Function", bound=Callable[..., Any])

DIGEST_BYTES = 32
TOLD = "JOBEFF_CACHE_TOLD"
"""Set in the environment once a run has said that its cache cannot be used, so that its processes do not say it too."""


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
    compiled = numba.njit(nogil=True, error_model="numpy")(function)
    if compiled is not function:  # else compiling is switched off
        try:
            compiled._cache = _Cache(function)
        except (RuntimeError, OSError) as error:
            _tell(f"there is no folder to keep compiled kernels in: {error}")
    return cast("Function", compiled)


def is_kept(function: Callable[..., Any]) -> bool:
    """Whether another process finds a kernel that this one has compiled.

    Parameters
    ----------
    function
        From `kernel`.

    Returns
    -------
    bool
        False where there is no folder for the cache, or compiling is switched off.
    """
    return isinstance(getattr(function, "_cache", None), _Cache)


class _File(caching.IndexDataCacheFile):
    """Files of the cache with a digest behind what numba writes; unpickling stops before it."""

    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)
        return data + hashlib.sha256(data).digest()

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        data, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            raise ValueError(f"{name} is damaged")
        return pickle.loads(data)  # noqa: S301  (machine code would be run anyway)

    def drop(self) -> None:
        """Forget all that is kept of a kernel."""
        with contextlib.suppress(OSError):
            Path(self._index_path).unlink()


class _Cache(caching.FunctionCache):
    """A cache that gives nothing where it fails."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        parts = (self._impl.filename_base, self._impl.locator.get_source_stamp())
        self._cache_file = _File(self._cache_path, *parts)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load a compiled kernel, None where there is none that can be used."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # what unpickling damaged bytes raises can be anything
            _tell(f"compiled kernels in {self._cache_path} cannot be used: {type(error).__name__}: {error}")
            self._cache_file.drop()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel, if that can be done."""
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, or an index that can be neither used nor removed
            _tell(f"compiled kernels cannot be kept in {self._cache_path}: {type(error).__name__}: {error}")


def _tell(why: str) -> None:
    if TOLD not in os.environ:
        os.environ[TOLD] = str(os.getpid())
        todo = "they are compiled, which takes minutes; should it go on, set NUMBA_CACHE_DIR to a folder of your own"
        with contextlib.suppress(OSError):
            sys.stderr.write(f"jobeff: warning: {printable(shown(why))}; {todo}\n")
