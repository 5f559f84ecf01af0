"""Codes into planes and back: the two loops over rows that must be compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numba import carray, njit
from numpy.typing import NDArray

from bihuan.kernel import on_each_part
from bihuan.kernel.compiled import words_at

if TYPE_CHECKING:
    from bihuan.tag.plane.column import Column


def pack_column(column: Column, words: int) -> NDArray[np.uint64]:
    """Write a column as planes.

    Parameters
    ----------
    column
        Positions by row.
    words
        Words of a plane.

    Returns
    -------
    ndarray of shape (n_planes, words)
        First the plane of known rows, if the encoding has one, then the bits of the codes, lowest
        first. The bits of missing rows and those after the last row are 0.
    """
    encoding = column.encoding
    planes = np.zeros((encoding.planes, words), np.uint64)
    known = column.known if column.known is not None else np.ones(1, np.bool_)
    has_gaps = column.known is not None
    low = np.uint64(encoding.low % 2**64)
    first, step = np.uint64(encoding.first), np.uint64(encoding.step)
    bits = planes[1:] if encoding.missing == "plane" else planes

    def work(start: int, end: int) -> None:
        if encoding.missing == "plane":
            _pack_known(known, planes[0], start, end)
        if encoding.bits:
            rows = slice(64 * start, 64 * end)
            positions, present = column.positions[rows], known[rows] if has_gaps else known
            if column.ranks is not None:
                positions = column.ranks[positions]
            _pack_codes(positions, present, has_gaps, low, step, first, bits[:, start:end])

    on_each_part(work, -(-len(column.positions) // 64))
    return planes


@njit(cache=True, nogil=True)
def _pack_known(known, plane, start, end):
    rows = len(known)
    for word in range(start, end):
        found = np.uint64(0)
        begin = word * 64
        for row in range(begin, min(begin + 64, rows)):
            found |= np.uint64(known[row]) << np.uint64(row - begin)
        plane[word] = found


@njit(cache=True, nogil=True)
def _pack_codes(positions, known, has_gaps, low, step, first, bits):
    """Code 64 rows, turn the 64 x 64 square of their bits over, write its lines."""
    rows = len(positions)
    count = bits.shape[0]
    codes = np.zeros(64, np.uint64)
    for word in range((rows + 63) // 64):
        begin = word * 64
        height = min(64, rows - begin)
        for row in range(height):
            code = np.uint64(positions[begin + row]) - low
            if step != 1:
                code //= step
            codes[row] = code + first
        if has_gaps:
            for row in range(height):
                if not known[begin + row]:
                    codes[row] = 0
        for row in range(height, 64):
            codes[row] = 0
        for bit in range(count):
            line = np.uint64(0)
            for row in range(64):
                line |= ((codes[row] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(row)
            bits[bit, word] = line


@njit(cache=True, nogil=True)
def read_rows(addresses, ends, rows, codes):
    """Read the codes of some rows of some tags.

    Parameters
    ----------
    addresses
        Of the tags' bit planes, tag after tag, lowest bit first, uint64.
    ends
        Where each tag's planes end in ``addresses``, with 0 in front, int64 (n_tags + 1).
    rows
        Row numbers, int64 (n_rows).
    codes
        Written: uint64 (n_tags, n_rows).
    """
    for tag in range(len(ends) - 1):
        for i in range(len(rows)):
            row = rows[i]
            word, shift = row >> 6, np.uint64(row & 63)
            code = np.uint64(0)
            for plane in range(ends[tag], ends[tag + 1]):
                bits = carray(words_at(addresses[plane] + np.uint64(8 * word)), (1,))
                code |= ((bits[0] >> shift) & np.uint64(1)) << np.uint64(plane - ends[tag])
            codes[tag, i] = code


@njit(cache=True, nogil=True)
def scale_numbers(values, power, largest, positions, known):
    """Write doubles as whole multiples of ``1 / power``.

    Parameters
    ----------
    values
        Doubles; NaN is missing.
    power
        A power of ten, as a double.
    largest
        Multiples must be smaller than this.
    positions, known
        Written.

    Returns
    -------
    (bool, int64, int64, int64)
        Whether every value is such a multiple, exactly; then the lowest, the highest, how many.
    """
    low, high, count = np.int64(2**62), np.int64(-(2**62)), np.int64(0)
    for i in range(len(values)):
        value = values[i]
        known[i] = value == value
        if value != value:
            positions[i] = 0
            continue
        scaled = np.rint(value * power)
        if not abs(scaled) < largest or scaled / power != value:
            return False, low, high, count
        position = np.int64(scaled)
        positions[i] = position
        low, high, count = min(low, position), max(high, position), count + 1
    return True, low, high, count
