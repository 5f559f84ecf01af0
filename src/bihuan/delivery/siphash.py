"""SipHash-2-4 with 128 bits: a keyed hash of short texts, one at a time.

The definition that :mod:`bihuan.delivery.row_kernel` computes for millions of rows; both must give
the same bytes, which is a test. Published by Aumasson and Bernstein (2012), *SipHash: a fast
short-input PRF*; the 128-bit output is that of the authors' reference implementation.
"""

from __future__ import annotations

import hashlib
import struct

from bihuan.kernel import canonical_json

_ALL = 2**64 - 1
START = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)
"""What the four words of the state begin with, before the key."""
KEY_BYTES = 16


def key_of(*parts: object) -> bytes:
    """Return the 16-byte key that stands for ``parts``: the head of SHA-256 of their JSON."""
    return hashlib.sha256(canonical_json(parts).encode()).digest()[:KEY_BYTES]


def key_words(key: bytes) -> tuple[int, int]:
    """Return a key's two little-endian words."""
    first, second = struct.unpack("<2Q", key)
    return first, second


def siphash128(key: bytes, message: bytes) -> bytes:
    """Return the SipHash-2-4-128 of ``message``.

    Parameters
    ----------
    key
        16 bytes.
    message
        Any bytes.

    Returns
    -------
    bytes
        16 bytes.

    Examples
    --------
    The first line of the reference implementation's test vectors:

    >>> siphash128(bytes(range(16)), b"").hex()
    'a3817f04ba25a8e66df67214c7550293'
    """
    low, high = key_words(key)
    state = [START[0] ^ low, START[1] ^ high ^ 0xEE, START[2] ^ low, START[3] ^ high]
    whole = len(message) // 8
    words = struct.unpack_from(f"<{whole}Q", message)
    tail = int.from_bytes(message[8 * whole :], "little") | (len(message) % 256) << 56
    for word in (*words, tail):
        state[3] ^= word
        _rounds(state, 2)
        state[0] ^= word
    out = []
    for lane, mark in ((2, 0xEE), (1, 0xDD)):
        state[lane] ^= mark
        _rounds(state, 4)
        out.append(state[0] ^ state[1] ^ state[2] ^ state[3])
    return struct.pack("<2Q", *out)


def _rounds(v: list[int], count: int) -> None:
    for _ in range(count):
        v[0] = (v[0] + v[1]) & _ALL
        v[1] = _turned(v[1], 13) ^ v[0]
        v[0] = _turned(v[0], 32)
        v[2] = (v[2] + v[3]) & _ALL
        v[3] = _turned(v[3], 16) ^ v[2]
        v[0] = (v[0] + v[3]) & _ALL
        v[3] = _turned(v[3], 21) ^ v[0]
        v[2] = (v[2] + v[1]) & _ALL
        v[1] = _turned(v[1], 17) ^ v[2]
        v[2] = _turned(v[2], 32)


def _turned(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _ALL
