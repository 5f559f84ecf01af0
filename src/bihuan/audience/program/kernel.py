"""The kernel: runs any program over planes, block by block, in a stack that stays in the cache.

Compiled once by Numba and cached on disk; no query compiles anything. Every function works on a
range of blocks and releases the interpreter lock, so the cores share a query by its blocks. While
an operation reads a plane's block, the next block of that plane is already asked for: memory then
works while the processor does.

Loops run over ``len`` of slices: with indices that might be negative the compiler would not
vectorise them. Python's integers become 64-bit ones here; masks and shifts must be unsigned.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from bihuan.audience.program.compile import BLOCK
from bihuan.kernel.compiled import words_at

_STRETCH = 128  # words between two rounds of asking ahead
_LOAD, _LOAD_NOT, _AND_PLANE, _OR_PLANE, _AND_NOT_PLANE, _OR_NOT_PLANE, _MUX = range(7)
_AND, _OR, _NOT, _ZEROS = range(7, 11)


@intrinsic
def count_ones(context: Any, word: Any) -> Any:
    """Count the ones of a 64-bit word, as one instruction."""
    del context, word

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del context, signature
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), code


@intrinsic
def ask_ahead(context: Any, address: Any) -> Any:
    """Ask memory for the line at an address; harmless if there is none."""
    del context, address

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        number = ir.IntType(32)
        pointer = builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, number, number, number])
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, second_level, data = (ir.Constant(number, value) for value in (0, 2, 1))
        builder.call(prefetch, [pointer, read, second_level, data])
        return context.get_dummy_value()

    return types.void(types.uint64), code


@njit(cache=True, nogil=True)
def _ask(far, count):
    for byte in range(0, count * 8, 64):
        ask_ahead(far + np.uint64(byte))


@njit(cache=True, nogil=True)
def _load(top, plane, far):
    for begin in range(0, len(top), _STRETCH):
        a, b = top[begin : begin + _STRETCH], plane[begin : begin + _STRETCH]
        if far:
            _ask(far + np.uint64(8 * begin), len(a))
        for i in range(len(a)):
            a[i] = b[i]


@njit(cache=True, nogil=True)
def _load_not(top, plane, far):
    for begin in range(0, len(top), _STRETCH):
        a, b = top[begin : begin + _STRETCH], plane[begin : begin + _STRETCH]
        if far:
            _ask(far + np.uint64(8 * begin), len(a))
        for i in range(len(a)):
            a[i] = ~b[i]


@njit(cache=True, nogil=True)
def _and(top, plane, far):
    for begin in range(0, len(top), _STRETCH):
        a, b = top[begin : begin + _STRETCH], plane[begin : begin + _STRETCH]
        if far:
            _ask(far + np.uint64(8 * begin), len(a))
        for i in range(len(a)):
            a[i] &= b[i]


@njit(cache=True, nogil=True)
def _or(top, plane, far):
    for begin in range(0, len(top), _STRETCH):
        a, b = top[begin : begin + _STRETCH], plane[begin : begin + _STRETCH]
        if far:
            _ask(far + np.uint64(8 * begin), len(a))
        for i in range(len(a)):
            a[i] |= b[i]


@njit(cache=True, nogil=True)
def _and_not(top, plane, far):
    for begin in range(0, len(top), _STRETCH):
        a, b = top[begin : begin + _STRETCH], plane[begin : begin + _STRETCH]
        if far:
            _ask(far + np.uint64(8 * begin), len(a))
        for i in range(len(a)):
            a[i] &= ~b[i]


@njit(cache=True, nogil=True)
def _or_not(top, plane, far):
    for begin in range(0, len(top), _STRETCH):
        a, b = top[begin : begin + _STRETCH], plane[begin : begin + _STRETCH]
        if far:
            _ask(far + np.uint64(8 * begin), len(a))
        for i in range(len(a)):
            a[i] |= ~b[i]


@njit(cache=True, nogil=True)
def _mux(below, top, plane, far):
    for begin in range(0, len(top), _STRETCH):
        end = begin + _STRETCH
        a, b, c = below[begin:end], top[begin:end], plane[begin:end]
        if far:
            _ask(far + np.uint64(8 * begin), len(a))
        for i in range(len(a)):
            a[i] = b[i] ^ ((a[i] ^ b[i]) & c[i])


@njit(cache=True, nogil=True)
def _negate(top):
    for i in range(len(top)):
        top[i] = ~top[i]


@njit(cache=True, nogil=True)
def _fill(top, word):
    for i in range(len(top)):
        top[i] = word


@njit(cache=True, nogil=True)
def _ones_of(bits):
    found = np.uint64(0)
    for i in range(len(bits)):
        found += count_ones(bits[i])
    return found


@njit(cache=True, nogil=True)
def _ones_of_both(bits, others):
    found = np.uint64(0)
    for i in range(len(bits)):
        found += count_ones(bits[i] & others[i])
    return found


@njit(cache=True, nogil=True)
def _run(planes, code, word, width, stack):
    """Run a program on the block of ``width`` words at ``word``; the result is ``stack[0]``."""
    top = -1
    for step in range(code.shape[0]):
        op = code[step, 0]
        if op <= _MUX:
            address = planes[code[step, 1]] + np.uint64(8 * word)
            far = address + np.uint64(8 * BLOCK) if code[step, 2] else np.uint64(0)
            plane = carray(words_at(address), (width,))
            if op <= _LOAD_NOT:
                top += 1
            elif op == _MUX:
                top -= 1
            block = stack[top, :width]
            if op == _LOAD:
                _load(block, plane, far)
            elif op == _LOAD_NOT:
                _load_not(block, plane, far)
            elif op == _AND_PLANE:
                _and(block, plane, far)
            elif op == _OR_PLANE:
                _or(block, plane, far)
            elif op == _AND_NOT_PLANE:
                _and_not(block, plane, far)
            elif op == _OR_NOT_PLANE:
                _or_not(block, plane, far)
            else:
                _mux(block, stack[top + 1, :width], plane, far)
        elif op == _AND:
            top -= 1
            _and(stack[top, :width], stack[top + 1, :width], np.uint64(0))
        elif op == _OR:
            top -= 1
            _or(stack[top, :width], stack[top + 1, :width], np.uint64(0))
        elif op == _NOT:
            _negate(stack[top, :width])
        else:
            top += 1
            _fill(stack[top, :width], np.uint64(0) if op == _ZEROS else ~np.uint64(0))


@njit(cache=True, nogil=True)
def _cut_tail(block, word, rows):
    """Clear the bits after the last row."""
    last = rows // 64 - word
    if last < len(block) and rows % 64:
        block[last] &= (np.uint64(1) << np.uint64(rows % 64)) - np.uint64(1)


@njit(cache=True, nogil=True)
def count_program(planes, code, depth, rows, start, end):
    """Count the rows a program selects in blocks ``start .. end - 1``."""
    words = (rows + 63) // 64
    stack = np.empty((depth, BLOCK), np.uint64)
    found = np.uint64(0)
    for number in range(start, end):
        word = number * BLOCK
        width = min(BLOCK, words - word)
        _run(planes, code, word, width, stack)
        _cut_tail(stack[0, :width], word, rows)
        found += _ones_of(stack[0, :width])
    return np.int64(found)


@njit(cache=True, nogil=True)
def select_program(planes, code, depth, rows, bits, start, end):
    """Write a program's result for some blocks into ``bits`` (words) and count it."""
    words = (rows + 63) // 64
    stack = np.empty((depth, BLOCK), np.uint64)
    found = np.uint64(0)
    for number in range(start, end):
        word = number * BLOCK
        width = min(BLOCK, words - word)
        _run(planes, code, word, width, stack)
        block = stack[0, :width]
        _cut_tail(block, word, rows)
        _load(bits[word : word + width], block, np.uint64(0))
        found += _ones_of(block)
    return np.int64(found)


@njit(cache=True, nogil=True)
def cross_programs(planes, code, ends, lines, depth, rows, counts, start, end):
    """Count the rows in every pair of sets inside an audience, adding to ``counts``.

    Parameters
    ----------
    planes, code
        Planes of all programs, and their steps one after the other.
    ends
        Where each program ends in ``code``, with 0 in front: the audience, then the sets of the
        lines, then those of the columns.
    lines
        Number of line sets.
    depth, rows
        Deepest stack, and rows of the index.
    counts
        Written: int64 (lines, columns).
    start, end
        Blocks.
    """
    words = (rows + 63) // 64
    columns = len(ends) - 2 - lines
    stack = np.empty((depth, BLOCK), np.uint64)
    inside = np.empty(BLOCK, np.uint64)
    held = np.empty((columns, BLOCK), np.uint64)
    nothing = np.uint64(0)
    for number in range(start, end):
        word = number * BLOCK
        width = min(BLOCK, words - word)
        _run(planes, code[: ends[1]], word, width, stack)
        _cut_tail(stack[0, :width], word, rows)
        _load(inside[:width], stack[0, :width], nothing)
        for column in range(columns):
            at = 1 + lines + column
            _run(planes, code[ends[at] : ends[at + 1]], word, width, stack)
            _load(held[column, :width], stack[0, :width], nothing)
        for line in range(lines):
            _run(planes, code[ends[1 + line] : ends[2 + line]], word, width, stack)
            _and(stack[0, :width], inside[:width], nothing)
            for column in range(columns):
                counts[line, column] += _ones_of_both(stack[0, :width], held[column, :width])


@njit(cache=True, nogil=True)
def _keep_rows(bits, high, high_is_one, low, low_is_one, start, end):
    """Keep the rows whose bits in two planes are as said, in words ``start .. end - 1``.

    Parameters
    ----------
    bits
        Rows in question, changed in place.
    high, low
        Addresses of planes; 0 for none.
    high_is_one, low_is_one
        Whether the bit must be 1.
    start, end
        Words.
    """
    left, offset = bits[start:end], np.uint64(8 * start)
    all_ones = ~np.uint64(0)
    not_low = np.uint64(0) if low_is_one else all_ones
    not_high = np.uint64(0) if high_is_one else all_ones
    if low:
        b = carray(words_at(low + offset), (end - start,))
        if high:
            a = carray(words_at(high + offset), (end - start,))
            for i in range(len(left)):
                left[i] &= (a[i] ^ not_high) & (b[i] ^ not_low)
        else:
            for i in range(len(left)):
                left[i] &= b[i] ^ not_low


@njit(cache=True, nogil=True)
def _count_pairs(bits, high, low, start, end):
    """Count rows by their bits in two planes, in words ``start .. end - 1``.

    Parameters
    ----------
    bits
        The rows.
    high, low
        Addresses of planes; 0 for none: a plane of zeros.
    start, end
        Words.

    Returns
    -------
    (int64, int64, int64, int64)
        Rows whose two bits, high before low, are 00, 01, 10 and 11.
    """
    left, offset = bits[start:end], np.uint64(8 * start)
    zero, one, two, three = np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0)
    if high:
        a = carray(words_at(high + offset), (end - start,))
        b = carray(words_at(low + offset), (end - start,))
        for i in range(len(left)):
            x, y, z = left[i], a[i], b[i]
            zero += count_ones(x & ~y & ~z)
            one += count_ones(x & ~y & z)
            two += count_ones(x & y & ~z)
            three += count_ones(x & y & z)
    elif low:
        b = carray(words_at(low + offset), (end - start,))
        for i in range(len(left)):
            zero += count_ones(left[i] & ~b[i])
            one += count_ones(left[i] & b[i])
    else:
        zero = _ones_of(left)
    return np.int64(zero), np.int64(one), np.int64(two), np.int64(three)


@njit(cache=True, nogil=True)
def divide_rows(bits, last_high, last_low, kept, high, low, start, end):
    """Keep the rows whose bits in the last two planes were ``kept``, count by the next two.

    Stretch by stretch, so that the rows are still in the cache when they are counted; otherwise
    as :func:`_keep_rows` and :func:`_count_pairs`.
    """
    found = np.zeros(4, np.int64)
    for begin in range(start, end, BLOCK):
        stop = min(begin + BLOCK, end)
        _keep_rows(bits, last_high, kept >> 1, last_low, kept & 1, begin, stop)
        zero, one, two, three = _count_pairs(bits, high, low, begin, stop)
        found[0] += zero
        found[1] += one
        found[2] += two
        found[3] += three
    return found


@njit(cache=True, nogil=True)
def list_rows(bits, found, start, end):
    """Write the row numbers of the ones in words ``start .. end - 1`` into ``found``."""
    at = 0
    for word in range(start, end):
        rest = bits[word]
        while rest:
            low = rest & (~rest + np.uint64(1))
            found[at] = word * 64 + np.int64(count_ones(low - np.uint64(1)))
            at += 1
            rest ^= low
