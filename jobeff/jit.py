"""How kernels are compiled and kept: the one place for the options.

Numbers that a site can set are passed to kernels as arguments, because numba freezes globals. ``fastmath`` stays off: a
rebuild and a nightly run must give the same bits. Kernels of other files are called too: numba's cache does not see
changes of these, `jobeff.jit_cache` sees to it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar, cast

Function = TypeVar("Function", bound=Callable[..., Any])

_lock = threading.RLock()


class Kernel:
    """A function that is compiled when it is first called: importing numba takes longer than many a command.

    Parameters
    ----------
    function, allocates
        See `kernel`, and whether it is one of `allocating_kernel`.
    """

    def __init__(self, function: Callable[..., Any], allocates: bool = False) -> None:
        functools.update_wrapper(self, function)
        self._function, self._allocates = function, allocates
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, *arguments: Any) -> Any:
        """Call it; who has got it from its module before pays this detour, all others the first time only."""
        return self.compiled()(*arguments)

    def __getattr__(self, name: str) -> Any:
        """What numba says of it."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.compiled(), name)

    def compiled(self) -> Callable[..., Any]:
        """What numba makes of it, in whose place in its module that is put.

        Returns
        -------
        callable
            Compiled at first call, from the cache where there is one.
        """
        if self._compiled is None:
            with _lock:
                if self._compiled is None:
                    self._compile()
        return cast("Callable[..., Any]", self._compiled)

    @functools.cached_property
    def _made(self) -> tuple[Callable[..., Any], bool]:
        from jobeff import jit_cache  # noqa: PLC0415  (see above)

        return jit_cache.compiled(self._function, self._allocates, self._with_others)

    def _compile(self) -> None:
        made, is_kept = self._made
        if not is_kept:
            self._with_others()
            return
        known = self._function.__globals__
        known.update({name: made for name, one in known.items() if one is self})
        self._compiled = made

    def _with_others(self) -> None:
        """The same for all kernels that its module knows: those that it calls are looked up there when it is compiled.

        Who finds it in the cache has no need of them, and to make them takes as long as to load those that are called.
        """
        with _lock:
            known = self._function.__globals__
            kernels = {name: one for name, one in known.items() if isinstance(one, Kernel)}
            mine = {self, *(one for one in kernels.values() if one._function.__globals__ is known)}
            made = {one: one._made[0] for one in mine}
            # All at once, and before anybody gets one of them: another thread may be about to call it.
            known.update({name: made[one] if one in made else one.compiled() for name, one in kernels.items()})
            for one, its in made.items():
                one._compiled = its


class Instructions(Kernel):
    """A function that kernels call, whose instructions are written down; see `instructions`."""

    def __init__(self, function: Callable[..., Any], write: Callable[[], Any]) -> None:
        super().__init__(function)
        self._write = write

    @functools.cached_property
    def _made(self) -> tuple[Callable[..., Any], bool]:
        import numba  # noqa: PLC0415  (see above)

        is_off: bool = numba.config.DISABLE_JIT  # type: ignore[attr-defined]
        return self._function if is_off else self._write(), False


def instructions(write: Callable[[], Any]) -> Callable[[Function], Function]:
    """Write down the instructions of a function that kernels call, where the compiler does not find them by itself.

    Parameters
    ----------
    write
        Gives a `numba.extending.intrinsic` of the function's name.

    Returns
    -------
    callable
        Decorator of a function that does the same, for where compiling is switched off.
    """

    def decorate(function: Function) -> Function:
        return cast("Function", Instructions(function, write))

    return decorate


def kernel(function: Function) -> Function:
    """Compile a function that makes no arrays, and calls none that does: so references to arrays are not counted.

    To count them took a third of the time of some kernels, for each use within a loop is counted.

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
    return cast("Function", Kernel(function))


def allocating_kernel(function: Function) -> Function:
    """Compile a function that makes arrays; see `kernel`.

    Parameters
    ----------
    function
        Plain loops over numpy arrays. What it does often stands in another one that makes none.

    Returns
    -------
    callable
        As there.
    """
    return cast("Function", Kernel(function, allocates=True))


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
    from jobeff import jit_cache  # noqa: PLC0415  (see above)

    return isinstance(getattr(function, "_cache", None), jit_cache.Cache)


def is_compiled(function: Callable[..., Any]) -> bool:
    """Whether a kernel stands in the cache for this processor, for types of whatever kind.

    Parameters
    ----------
    function
        From `kernel`.

    Returns
    -------
    bool
        False also where `is_kept` is.
    """
    from jobeff import jit_cache  # noqa: PLC0415  (see above)

    made = function.compiled() if isinstance(function, Kernel) else function
    return is_kept(made) and jit_cache.is_compiled(made)
