"""Named random streams: every use of chance has its own, and none disturbs another."""

from __future__ import annotations

import hashlib

import numpy as np

from bihuan.kernel.ids import canonical_json


def random_stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return the random generator of one purpose.

    Parameters
    ----------
    seed
        The run's seed, >= 0.
    *purpose
        Words that name the use (``"assign", campaign_id``). Another purpose gives an
        independent stream, so adding a draw in one room changes nothing in another.

    Returns
    -------
    numpy.random.Generator
        PCG64, the same on every machine.

    Examples
    --------
    >>> a, b = random_stream(7, "assign"), random_stream(7, "assign")
    >>> bool((a.random(3) == b.random(3)).all())
    True
    """
    words = hashlib.sha256(canonical_json(purpose).encode()).digest()[:16]
    key = np.frombuffer(words, dtype=np.uint32)
    return np.random.default_rng([seed, *(int(word) for word in key)])
