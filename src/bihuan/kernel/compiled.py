"""Planes of bits by their address, for loops that Numba compiles.

Imported where it is needed, not from the room's face: Numba takes half a second to load.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic


@intrinsic
def words_at(context: Any, address: Any) -> Any:
    """Give the 64-bit words that begin at an address, for ``numba.carray``."""
    del context, address
    pointer = types.CPointer(types.uint64)

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        return builder.inttoptr(arguments[0], context.get_value_type(pointer))

    return pointer(types.uint64), code


@intrinsic
def add_shared(context: Any, numbers: Any, place: Any, amount: Any) -> Any:
    """Add to one 64-bit integer of an array that several threads share; return what it was.

    Atomic, and in one order for all threads: what was written before it is seen after it.
    """
    del context, numbers, place, amount

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = signature.args[0]
        array = context.make_array(kind)(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        return builder.atomic_rmw("add", pointer, arguments[2], "seq_cst")

    return types.int64(types.Array(types.int64, 1, "C"), types.int64, types.int64), code
