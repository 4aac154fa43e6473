"""Asks the processor for memory that a kernel will need soon, so that it does not wait for it then.

Only for kernels to call: what places the memory has is known there, but the processor cannot guess it. Nothing is read,
so no place is wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from jobeff.jit import Kernel

READ, KEEP_CLOSE, DATA = 0, 3, 1


class Prefetch(Kernel):
    """Made when a kernel that calls it is compiled; a part of that one, so that it is never kept by itself."""

    @functools.cached_property
    def _made(self) -> tuple[Callable[..., Any], bool]:
        from numba import config  # noqa: PLC0415  (importing it takes longer than many a command)

        return (self._function if config.DISABLE_JIT else _instruction()), False


def _instruction() -> Callable[..., Any]:
    from llvmlite import ir  # noqa: PLC0415  (see above)
    from numba.core import types  # noqa: PLC0415
    from numba.extending import intrinsic  # noqa: PLC0415

    def fetch(_: Any, data: Any, at: int) -> Any:  # noqa: ARG001  (numba looks at their names)
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
            instruction = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
            array, at = arguments
            memory = context.make_array(signature.args[0])(context, builder, array).data
            place = builder.bitcast(builder.gep(memory, [at]), byte)
            builder.call(instruction, [place, number(READ), number(KEEP_CLOSE), number(DATA)])
            return context.get_dummy_value()

        return types.void(data, types.int64), generate

    made: Callable[..., Any] = intrinsic(fetch)
    return made


def _prefetch(data: Any, at: int) -> None:
    """Ask for what stands at a place of an array in one piece, counted in items; nothing where nothing is compiled."""


prefetch = Prefetch(_prefetch)
