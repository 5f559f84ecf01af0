"""Which arm of a script a customer hears: by lot, the same one every time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.kernel import DefectError, random_stream

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def draw_arms(
    customer_id: pa.Array | pa.ChunkedArray, shares: Sequence[float], seed: int, *purpose: str
) -> NDArray[np.int64]:
    """Draw an arm for each customer.

    The lot hangs on the id, the seed and the purpose and on nothing else: not on the order of
    rows, nor on who else is asked about. So one customer at the counter and the same customer in
    a list of millions hear the same arm.

    Parameters
    ----------
    customer_id
        Strings, none missing, shape ``(n,)``.
    shares
        Of the arms, > 0, with sum 1.
    seed
        The workspace's.
    *purpose
        Names the lot, e.g. script and version; another one draws another lot.

    Returns
    -------
    numpy.ndarray
        Number of the arm, shape ``(n,)``.

    Notes
    -----
    The ids' bytes go in words of eight through the finaliser of SplitMix64 (Steele, Lea and Flood,
    "Fast splittable pseudorandom number generators", OOPSLA 2014).
    """
    if customer_id.null_count:
        raise DefectError(f"{customer_id.null_count} customers without an id were given a lot")
    if len(shares) == 1:
        return np.zeros(len(customer_id), dtype=np.int64)
    place = _scatter(customer_id, _salt(seed, *purpose)) / 2.0**64
    bounds = np.cumsum(np.asarray(shares, dtype=np.float64))[:-1]
    return np.searchsorted(bounds, place, side="right").astype(np.int64)


@cache
def _salt(seed: int, *purpose: str) -> np.uint64:
    stream = random_stream(seed, "script arm", *purpose)
    return np.uint64(stream.integers(0, 2**63, dtype=np.uint64))


def _scatter(ids: pa.Array | pa.ChunkedArray, salt: np.uint64) -> NDArray[np.uint64]:
    array = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    fixed = array.cast(pa.binary()).to_numpy(zero_copy_only=False).astype("S")
    width = max(1, -(-fixed.dtype.itemsize // 8))
    words = fixed.astype(f"S{width * 8}").view("<u8").reshape(len(fixed), width)
    length = np.char.str_len(fixed).astype(np.uint64)
    mark = _mix(length ^ salt)
    for column in range(width):  # only as far as the id goes: its neighbours must not matter
        mark = np.where(length > 8 * column, _mix(mark ^ words[:, column]), mark)
    return mark


def _mix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        bits = bits + _STEP
        bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
        bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    return bits ^ (bits >> np.uint64(31))
