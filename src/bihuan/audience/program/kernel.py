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
_PORTION = 8192  # words that a walk keeps and counts at a time
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
def cross_programs(planes, code, ends, lines, depth, rows, spread, counts, start, end):
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
    spread
        Whether the next block is asked for while pairs are counted, a little after each; ``code``
        must then say of no step that it is the first. Counting many pairs takes as long as
        reading, so memory would else be idle meanwhile.
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
    ahead = len(planes) * (BLOCK // 8) if spread else 0
    quota = ahead // max(lines * columns, 1) + 1
    for number in range(start, end):
        word = number * BLOCK
        width = min(BLOCK, words - word)
        _run(planes, code[: ends[1]], word, width, stack)
        _cut_tail(stack[0, :width], word, rows)
        _load(inside[:width], stack[0, :width], nothing)
        asked = 0
        for column in range(columns):
            at = 1 + lines + column
            _run(planes, code[ends[at] : ends[at + 1]], word, width, stack)
            _load(held[column, :width], stack[0, :width], nothing)
        for line in range(lines):
            _run(planes, code[ends[1 + line] : ends[2 + line]], word, width, stack)
            _and(stack[0, :width], inside[:width], nothing)
            for column in range(columns):
                counts[line, column] += _ones_of_both(stack[0, :width], held[column, :width])
                until = min(asked + quota, ahead)
                while asked < until:
                    place = np.uint64(8 * (word + BLOCK) + 64 * (asked % (BLOCK // 8)))
                    ask_ahead(planes[asked // (BLOCK // 8)] + place)
                    asked += 1


@njit(cache=True, nogil=True)
def _count_pairs(left, high, low, found):
    """Add to ``found`` a block's rows with a 1 in ``high``, in both planes, and in ``low``."""
    highs, boths, lows = np.uint64(0), np.uint64(0), np.uint64(0)
    for i in range(len(left)):
        row = left[i]
        highs += count_ones(row & high[i])
        boths += count_ones(row & high[i] & low[i])
        lows += count_ones(row & low[i])
    found[0] += np.int64(highs)
    found[1] += np.int64(boths)
    found[2] += np.int64(lows)


@njit(cache=True, nogil=True)
def _keep_and_count(left, last_high, last_low, kept, high, low, found):
    """Keep a block's rows whose last two bits were ``kept``, and count the rest by the next two."""
    flip_high = np.uint64(0) if kept >> 1 else ~np.uint64(0)
    flip_low = np.uint64(0) if kept & 1 else ~np.uint64(0)
    highs, boths, lows = np.uint64(0), np.uint64(0), np.uint64(0)
    for i in range(len(left)):
        row = left[i] & (last_high[i] ^ flip_high) & (last_low[i] ^ flip_low)
        left[i] = row
        highs += count_ones(row & high[i])
        boths += count_ones(row & high[i] & low[i])
        lows += count_ones(row & low[i])
    found[0] += np.int64(highs)
    found[1] += np.int64(boths)
    found[2] += np.int64(lows)


@njit(cache=True, nogil=True)
def _decide(left, found, need, from_top):
    """Return which of the four pairs of bits holds the wanted rank, what is needed of it, its rows.

    ``left`` rows are in question; ``found`` as in :func:`_count_pairs`.
    """
    both = found[1]
    high, low = found[0] - both, found[2] - both
    counts = (left - high - low - both, low, high, both)
    for turn in range(4):
        choice = 3 - turn if from_top else turn
        if counts[choice] >= need:
            return choice, need, counts[choice]
        need -= counts[choice]
    return choice, need, counts[choice]


@njit(cache=True, nogil=True)
def walk_planes(bits, planes, known, size, from_top):
    """Find the code of the ``size``-th highest or lowest row, two planes at a time.

    One core does it: a step is shorter than waking another takes, and reading saturates memory.

    Parameters
    ----------
    bits
        Words of the rows in question, all with a value; narrowed step by step.
    planes
        Addresses of the bit planes, highest first, an even number.
    known
        Rows in question.
    size
        Rank, 1..known.
    from_top
        From which side.

    Returns
    -------
    (int64, int64, int64)
        The code, the rows strictly beyond it, the rows at it.
    """
    words, code, need, left = len(bits), np.int64(0), np.int64(size), np.int64(known)
    kept = np.int64(0)
    for step in range(0, len(planes), 2):
        found = np.zeros(3, np.int64)
        for start in range(0, words, _PORTION):
            width = min(_PORTION, words - start)
            rows, offset = bits[start : start + width], np.uint64(8 * start)
            high = carray(words_at(planes[step] + offset), (width,))
            low = carray(words_at(planes[step + 1] + offset), (width,))
            if step:
                last_high = carray(words_at(planes[step - 2] + offset), (width,))
                last_low = carray(words_at(planes[step - 1] + offset), (width,))
                _keep_and_count(rows, last_high, last_low, kept, high, low, found)
            else:
                _count_pairs(rows, high, low, found)
        kept, need, left = _decide(left, found, need, from_top)
        code = code << 2 | kept
    return code, size - need, left


@njit(cache=True, nogil=True)
def ones_of_plane(bits, plane, start, end):
    """Count the rows whose bit in a plane is 1, in words ``start .. end - 1``."""
    words = carray(words_at(plane + np.uint64(8 * start)), (end - start,))
    return np.int64(_ones_of_both(bits[start:end], words))


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
