"""Which arm of a script a customer hears: by lot, the same one every time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.kernel import DefectError
from bihuan.kernel.scatter import hash_ids


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
    """
    if customer_id.null_count:
        raise DefectError(f"{customer_id.null_count} customers without an id were given a lot")
    if len(shares) == 1:
        return np.zeros(len(customer_id), dtype=np.int64)
    place = hash_ids(customer_id, seed, "script arm", *purpose) / 2.0**64
    bounds = np.cumsum(np.asarray(shares, dtype=np.float64))[:-1]
    return np.searchsorted(bounds, place, side="right").astype(np.int64)
