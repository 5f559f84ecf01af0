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
