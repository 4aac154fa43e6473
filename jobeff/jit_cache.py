"""Files of compiled kernels, and what is done where they cannot be used; imported with numba, by the first call of one.

What numba keeps is checked here as it does not itself: a file that is cut would stop every command, one with a flipped
bit could compute anything. A cache that cannot be used is said once, and the kernels are compiled.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
from llvmlite import binding
from numba.core import caching, environment
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic
from numba.core.runtime import _nrt_python, rtsys

from jobeff.errors import printable, shown
from jobeff.jit import Kernel

DIGEST_BYTES = 32
KERNELS = (Kernel, Dispatcher, _Intrinsic)
"""What a kernel is before it is called, and what it becomes."""

TOLD = "JOBEFF_CACHE_TOLD"
"""Set in the environment once a run has said that its cache cannot be used, so that its processes do not say it too."""


def compiled(
    function: Callable[..., Any], allocates: bool, others: Callable[[], None]
) -> tuple[Callable[..., Any], bool]:
    """Have numba compile a function, with a cache.

    Parameters
    ----------
    function
        See `jobeff.jit.kernel`.
    allocates
        Whether it makes arrays.
    others
        Has what the function calls be no `jobeff.jit.Kernel` any more; called before it is compiled, where it is kept.

    Returns
    -------
    callable
        Compiled at first call, from the cache where there is one; `function` itself where compiling is switched off.
    bool
        Whether it is kept.
    """
    # No fastmath: it removes checks for NaN, and makes two ways to one number differ.
    found: Callable[..., Any] = numba.njit(nogil=True, error_model="numpy", _nrt=allocates)(function)  # type: ignore[call-overload]
    if found is function:
        return found, False
    try:
        found._cache = Cache(function, others)
    except (RuntimeError, OSError) as error:
        _tell(f"there is no folder to keep compiled kernels in: {error}")
        return found, False
    return found, True


def is_compiled(found: Any) -> bool:
    """Whether the cache has what `compiled` gave for this processor.

    Parameters
    ----------
    found
        It is kept.

    Returns
    -------
    bool
        False too where the cache cannot be read.
    """
    try:
        here = found.targetctx.codegen().magic_tuple()
        return any(key[1] == here for key in found._cache._cache_file._load_index())
    except Exception:  # as in `Cache.load_overload`, which tells of it
        return False


class Unpickler(pickle.Unpickler):
    """Takes out what was kept, without the modules of numba whose functions went into it: they are for compiling."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name of a module stands for."""
        if (module, name) == (environment.__name__, "_rebuild_env"):
            return _environment
        return super().find_class(module, name)


def _environment(module: str, constants: list[Any], name: str) -> Any:
    """What a function of numba finds by the way; of its module, compiled code needs no more than the name."""
    try:
        return environment.lookup_environment(name) or _of_no_module(module, constants, name)
    except (AttributeError, TypeError):  # another numba
        return environment._rebuild_env(module, constants, name)


def _of_no_module(module: str, constants: list[Any], name: str) -> Any:
    made = environment.Environment({"__name__": module})
    made.consts[:] = constants
    made.env_name = name
    environment.Environment._memo[name] = made
    return made


class File(caching.IndexDataCacheFile):
    """Files of the cache with a digest behind what numba writes; unpickling stops before it.

    numba notes in the index which file has a kernel, and then writes the file. Who is killed between leaves one there
    of older code, two processes at once may mean the same one: so each says what it is of.
    """

    def save(self, key: Any, data: Any) -> None:
        """Keep a compiled kernel."""
        super().save(key, ((self._source_stamp, key), data))

    def load(self, key: Any) -> Any:
        """A compiled kernel; None where it is not there, or another one is."""
        found = super().load(key)
        is_it = isinstance(found, tuple) and len(found) == 2 and found[0] == (self._source_stamp, key)
        return found[1] if is_it else None

    def _dump(self, obj: Any) -> bytes:
        data: bytes = super()._dump(obj)
        return data + hashlib.sha256(data).digest()

    def _load_data(self, name: str) -> Any:
        content = Path(self._data_path(name)).read_bytes()
        data, digest = content[:-DIGEST_BYTES], content[-DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            raise ValueError(f"{name} is damaged")
        return Unpickler(io.BytesIO(data)).load()

    def drop(self) -> None:
        """Forget all that is kept of a kernel."""
        with contextlib.suppress(OSError):
            Path(self._index_path).unlink()


class Kept(caching.CompileResultCacheImpl):
    """How kernels are kept; what is needed to compile others is not loaded with them: it took twice as long."""

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        """Make a kernel of what has been kept."""
        try:
            return self._without_bitcode(target_context, payload)
        except (AttributeError, TypeError, ValueError):  # another numba, of other parts; this is its own way
            target_context.refresh()
            return super().rebuild(target_context, payload)

    def _without_bitcode(self, target_context: Any, payload: Any) -> Any:
        """Leave the bitcode alone until a kernel is compiled that calls this one."""
        (name, kind, (code, bitcode)), about, *rest = payload
        engine = target_context.codegen()._engine
        engine._defined_symbols.add(about.llvm_cpython_wrapper_name)  # else they are read out of the bitcode
        made = super().rebuild(target_context, ((name, kind, (code, _no_bitcode())), about, *rest))
        library = made.library
        whole = library._get_module_for_linking

        def module_for_linking() -> Any:
            library._get_module_for_linking = whole
            library._shared_module = binding.parse_bitcode(bitcode)
            engine._load_defined_symbols(library._shared_module)
            return whole()

        library._get_module_for_linking = module_for_linking
        return made


@functools.cache
def _no_bitcode() -> bytes:
    return bytes(binding.parse_assembly("").as_bitcode())


class Cache(caching.FunctionCache):
    """A cache that gives nothing where it fails."""

    _impl_class = Kept

    def __init__(self, function: Callable[..., Any], others: Callable[[], None]) -> None:
        super().__init__(function)
        self._others = others
        stamp = (self._impl.locator.get_source_stamp(), *_other_stamps(function.__globals__))
        parts = (self._impl.filename_base, stamp)
        self._cache_file = File(self._cache_path, *parts)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Load a compiled kernel, None where there is none that can be used."""
        try:
            _name_runtime(target_context)
            found = self._load_overload(sig, target_context)
        except Exception as error:  # what unpickling damaged bytes raises can be anything
            _tell(f"compiled kernels in {self._cache_path} cannot be used: {type(error).__name__}: {error}")
            self._cache_file.drop()
            found = None
        if found is None:
            target_context.refresh()
            self._others()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep a compiled kernel, if that can be done."""
        try:
            super().save_overload(sig, data)
        except Exception as error:  # a full disk, or an index that can be neither used nor removed
            _tell(f"compiled kernels cannot be kept in {self._cache_path}: {type(error).__name__}: {error}")


def _other_stamps(known: dict[str, Any]) -> list[tuple[str, int, int]]:
    """Which files they are whose kernels a module has, in order; their code stands in what is kept of its own.

    So does what functions of ours have written there, which are no kernels themselves.
    """
    found: set[str] = set()
    waiting = [known]
    while waiting:
        names = {one.__module__ for one in waiting.pop().values() if isinstance(one, KERNELS) or _is_ours(one)}
        new = {name for name in names - found - {known["__name__"]} if name in sys.modules}
        found |= new
        waiting += [vars(sys.modules[name]) for name in new]
    about = {name: os.stat(sys.modules[name].__file__ or "") for name in found}  # noqa: PTH116
    return [(name, about[name].st_mtime_ns, about[name].st_size) for name in sorted(found)]


def _is_ours(one: Any) -> bool:
    """Whether it is a function of this program, that of `jobeff.jit` among them: how kernels are compiled."""
    return isinstance(one, FunctionType) and f"{one.__module__}".partition(".")[0] == __name__.partition(".")[0]


def _name_runtime(target_context: Any) -> None:
    """Have kernels find what makes arrays; the rest of it is compiled into each, and anew for those to come."""
    try:
        _name_functions()
    except (AttributeError, TypeError):  # another numba
        rtsys.initialize(target_context)


@functools.cache
def _name_functions() -> None:
    for name, address in _nrt_python.c_helpers.items():
        binding.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


def _tell(why: str) -> None:
    if TOLD not in os.environ:
        os.environ[TOLD] = str(os.getpid())
        todo = "they are compiled, which takes minutes; should it go on, set NUMBA_CACHE_DIR to a folder of your own"
        with contextlib.suppress(OSError):
            sys.stderr.write(f"jobeff: warning: {printable(shown(why))}; {todo}\n")
