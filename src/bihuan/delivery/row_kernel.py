# mypy: disallow-untyped-defs=False, disallow-untyped-calls=False
# mypy: disallow-untyped-decorators=False
# ruff: noqa: ANN001, ANN202, PLR0913
"""SipHash-2-4-128 over columns: the loops over rows that must be compiled.

Imported where it is needed, not from the room's face: Numba takes half a second to load.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

_U8, _U13, _U16, _U17 = np.uint64(8), np.uint64(13), np.uint64(16), np.uint64(17)
_U21, _U32, _U56, _U64 = np.uint64(21), np.uint64(32), np.uint64(56), np.uint64(64)
_START_0, _START_1 = np.uint64(0x736F6D6570736575), np.uint64(0x646F72616E646F6D)
_START_2, _START_3 = np.uint64(0x6C7967656E657261), np.uint64(0x7465646279746573)
_EE, _DD, _FF = np.uint64(0xEE), np.uint64(0xDD), np.uint64(0xFF)
_BLANKS, _TOPS = np.uint64(0x2020202020202020), np.uint64(0x8080808080808080)


@njit(cache=True, nogil=True, inline="always")
def _turned(word, bits):
    return (word << bits) | (word >> (_U64 - bits))


@njit(cache=True, nogil=True, inline="always")
def _round(v0, v1, v2, v3):
    v0 += v1
    v1 = _turned(v1, _U13) ^ v0
    v0 = _turned(v0, _U32)
    v2 += v3
    v3 = _turned(v3, _U16) ^ v2
    v0 += v3
    v3 = _turned(v3, _U21) ^ v0
    v2 += v1
    v1 = _turned(v1, _U17) ^ v2
    v2 = _turned(v2, _U32)
    return v0, v1, v2, v3


@njit(cache=True, nogil=True, inline="always")
def _absorbed(v0, v1, v2, v3, word):
    v3 ^= word
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    v0 ^= word
    return v0, v1, v2, v3


@njit(cache=True, nogil=True, inline="always")
def _closed(v0, v1, v2, v3):
    v2 ^= _EE
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    first = v0 ^ v1 ^ v2 ^ v3
    v1 ^= _DD
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return first, v0 ^ v1 ^ v2 ^ v3


@njit(cache=True, nogil=True)
def _hash_texts(data, offsets, lead, key0, key1, out, control):
    """Hash each text, after 8 bytes of ``lead`` if there are any; see :func:`hash_texts`."""
    leads = len(lead) > 0
    for row in range(len(offsets) - 1):
        v0, v1 = _START_0 ^ key0, _START_1 ^ key1 ^ _EE
        v2, v3 = _START_2 ^ key0, _START_3 ^ key1
        at, end = offsets[row], offsets[row + 1]
        length = np.uint64(end - at)
        low = np.uint64(0)
        if leads:
            v0, v1, v2, v3 = _absorbed(v0, v1, v2, v3, lead[row])
            length += _U8
        while at + 8 <= end:
            word = np.uint64(0)
            for byte in range(8):
                word |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
            low |= (word - _BLANKS) & ~word & _TOPS
            v0, v1, v2, v3 = _absorbed(v0, v1, v2, v3, word)
            at += 8
        word, shift = np.uint64(0), np.uint64(0)
        while at < end:
            low |= np.uint64(data[at] < 32)
            word |= np.uint64(data[at]) << shift
            shift += _U8
            at += 1
        word |= (length & _FF) << _U56
        v0, v1, v2, v3 = _absorbed(v0, v1, v2, v3, word)
        out[0, row], out[1, row] = _closed(v0, v1, v2, v3)
        control[row] |= low != np.uint64(0)


@njit(cache=True, nogil=True)
def _open(state, key0, key1):
    for row in range(state.shape[1]):
        state[0, row], state[1, row] = _START_0 ^ key0, _START_1 ^ key1 ^ _EE
        state[2, row], state[3, row] = _START_2 ^ key0, _START_3 ^ key1


@njit(cache=True, nogil=True)
def _take_words(state, words):
    for row in range(len(words)):
        state[0, row], state[1, row], state[2, row], state[3, row] = _absorbed(
            state[0, row], state[1, row], state[2, row], state[3, row], words[row]
        )


@njit(cache=True, nogil=True)
def _take_pairs(state, codes, pairs):
    for row in range(len(codes)):
        v0, v1, v2, v3 = state[0, row], state[1, row], state[2, row], state[3, row]
        code = codes[row]
        first = second = np.uint64(0)
        if code >= 0:
            first, second = pairs[0, code], pairs[1, code]
        v0, v1, v2, v3 = _absorbed(v0, v1, v2, v3, first)
        v0, v1, v2, v3 = _absorbed(v0, v1, v2, v3, second)
        state[0, row], state[1, row], state[2, row], state[3, row] = v0, v1, v2, v3


@njit(cache=True, nogil=True)
def _sum(state, last):
    low, high = np.uint64(0), np.uint64(0)
    for row in range(state.shape[1]):
        v0, v1, v2, v3 = _absorbed(state[0, row], state[1, row], state[2, row], state[3, row], last)
        first, second = _closed(v0, v1, v2, v3)
        low += first
        high += second + np.uint64(low < first)
    return low, high


@njit(cache=True, nogil=True)
def _write_hex(digests, digits, out):
    for row in range(digests.shape[1]):
        for digit in range(digits):
            word = digests[0, row] if digit < 16 else digests[1, row]
            # a word's bytes come lowest first, a byte's digits highest first
            place = np.uint64(8 * ((digit % 16) // 2) + 4 * (1 - digit % 2))
            half = (word >> place) & np.uint64(15)
            out[row * digits + digit] = half + (
                np.uint64(48) if half < np.uint64(10) else np.uint64(87)
            )


def hash_texts(
    data: NDArray[np.uint8],
    offsets: NDArray[np.int64],
    key: tuple[int, int],
    *,
    lead: NDArray[np.uint64] | None = None,
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Hash texts that lie one after another.

    Parameters
    ----------
    data
        UTF-8 bytes, shape ``(n_bytes,)``.
    offsets
        Where each text begins, and where the last ends, shape ``(n + 1,)``.
    key
        Two words; see :func:`~bihuan.delivery.siphash.key_words`.
    lead
        One word before each text, shape ``(n,)``; None: nothing.

    Returns
    -------
    tuple of ndarray
        Digests as two words, shape ``(2, n + 1)``; and whether the text has a control character,
        shape ``(n + 1,)``. The last of both, zeros, is for a missing text.
    """
    n = len(offsets) - 1
    out, control = np.zeros((2, n + 1), np.uint64), np.zeros(n + 1, np.bool_)
    lead = np.empty(0, np.uint64) if lead is None else lead
    _hash_texts(data, offsets, lead, np.uint64(key[0]), np.uint64(key[1]), out, control)
    return out, control


class RowHash:
    """Hashes many rows side by side, one column of cells after another.

    Parameters
    ----------
    rows
        How many.
    key
        Two words.
    """

    def __init__(self, rows: int, key: tuple[int, int]) -> None:
        self._state = np.empty((4, rows), np.uint64)
        self._words = 0
        _open(self._state, np.uint64(key[0]), np.uint64(key[1]))

    def take_words(self, words: NDArray[np.uint64]) -> None:
        """Add a cell of eight bytes to every row: shape ``(rows,)``."""
        _take_words(self._state, words)
        self._words += 1

    def take_pairs(self, codes: NDArray[np.int32], pairs: NDArray[np.uint64]) -> None:
        """Add a cell of sixteen bytes to every row.

        Parameters
        ----------
        codes
            Which pair, shape ``(rows,)``; below 0: zeros.
        pairs
            Two words each, shape ``(2, n_pairs)``.
        """
        _take_pairs(self._state, codes, pairs)
        self._words += 2

    def total(self) -> int:
        """Return the sum of the rows' digests as little-endian numbers, modulo 2 ** 128."""
        last = np.uint64((8 * self._words) % 256 << 56)
        low, high = _sum(self._state, last)
        return int(high) << 64 | int(low)


def hex_digits(digests: NDArray[np.uint64], digits: int) -> NDArray[np.uint8]:
    """Write the first hexadecimal digits of digests one after another.

    Parameters
    ----------
    digests
        Shape ``(2, n)``.
    digits
        1 to 32.

    Returns
    -------
    ndarray of shape (n * digits,)
        ASCII codes.
    """
    digests = np.ascontiguousarray(digests)
    out = np.empty(digests.shape[1] * digits, np.uint8)
    _write_hex(digests, digits, out)
    return out
