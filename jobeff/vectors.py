"""Parts of instructions that work on several values at once, for what the compiler does not find by itself."""

from __future__ import annotations

from typing import Any


def pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any, item: Any) -> Any:
    """Where an element of an array stands, as where something of another type does."""
    assert kind.layout == "C"  # noqa: S101  (elements next to each other, else this reads anything)
    data = context.make_array(kind)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), item.as_pointer())


def uniform(vector: Any, value: int) -> Any:
    """A vector of one number."""
    from llvmlite import ir  # noqa: PLC0415  (takes long to import, see `jobeff.jit`)

    return ir.Constant(vector, [value] * vector.count)


def first_bits(builder: Any, bits: Any, count: Any) -> Any:
    """Some bits without those behind the first, as a number of 64."""
    one = count.type(1)
    return builder.and_(builder.zext(bits, count.type), builder.sub(builder.shl(one, count), one))
