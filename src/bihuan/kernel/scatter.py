"""Bits that hang on an id and on nothing else: what lots are drawn with."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.kernel.streams import random_stream

CHUNK_IDS = 1 << 20


def mix(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Scatter 64-bit words so that every input bit moves about half of the output bits.

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
    generators", OOPSLA). Wraps around on purpose.
    """
    with np.errstate(over="ignore"):
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return word ^ (word >> np.uint64(31))


def hash_ids(ids: pa.Array | pa.ChunkedArray, seed: int, *purpose: str) -> NDArray[np.uint64]:
    """Return 64 evenly scattered bits per id that depend on the id, the seed and the purpose.

    Parameters
    ----------
    ids
        Strings, none missing, shape ``(n,)``. Neither their order nor their neighbours matter.
    seed, *purpose
        Name the lot, as for :func:`random_stream`.

    Examples
    --------
    >>> both = hash_ids(pa.array(["C1", "C2"]), 7, "lot")
    >>> bool(both[1] == hash_ids(pa.array(["C2"]), 7, "lot")[0])
    True
    """
    column = ids.cast(pa.large_string())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    salt = _salt(seed, *purpose)
    parts = [
        _hash_chunk(column.slice(at, CHUNK_IDS), salt) for at in range(0, len(column), CHUNK_IDS)
    ]
    return np.concatenate([np.empty(0, dtype=np.uint64), *parts])


@cache
def _salt(seed: int, *purpose: str) -> np.uint64:
    return np.uint64(random_stream(seed, *purpose).integers(0, 2**63, dtype=np.uint64))


def _hash_chunk(ids: pa.Array, salt: np.uint64) -> NDArray[np.uint64]:
    offsets = np.frombuffer(ids.buffers()[1], dtype=np.int64)[
        ids.offset : ids.offset + len(ids) + 1
    ]
    length = np.diff(offsets)
    width = max(1, -(-int(length.max(initial=0)) // 8))
    padded = np.zeros(len(ids) * width * 8, dtype=np.uint8)
    if ids.buffers()[2] is not None:
        data = np.frombuffer(ids.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
        shift = np.arange(len(ids)) * width * 8 - (offsets[:-1] - offsets[0])
        padded[np.repeat(shift, length) + np.arange(len(data))] = data
    words = padded.view("<u8").reshape(len(ids), width)
    mark = mix(length.astype(np.uint64) ^ salt)
    for column in range(width):  # only as far as the id goes: its neighbours must not matter
        mark = np.where(length > 8 * column, mix(mark ^ words[:, column]), mark)
    return mark
