"""Runs programs over an index: the blocks are shared by the cores, the parts added up.

The kernel is imported where it is called: Numba takes half a second to load, and most processes
that know audiences never ask a plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bihuan.audience.program.compile import BLOCK, Compiler, Program, kernel_code
from bihuan.kernel import on_each_part
from bihuan.tag import TagIndex, TagPlanes

Bits: TypeAlias = NDArray[np.uint64]
Rows: TypeAlias = NDArray[np.int64]
Counts: TypeAlias = NDArray[np.int64]
Side: TypeAlias = Literal["top", "bottom"]

_MANY_PAIRS = 8  # from here on, counting pairs takes long enough to read the next block meanwhile


def count(index: TagIndex, compiler: Compiler, program: Program) -> int:
    """Count the rows that a program selects."""
    from bihuan.audience.program.kernel import count_program

    planes, code = compiler.addresses, kernel_code([program])

    def work(start: int, end: int) -> int:
        return int(count_program(planes, code, program.depth, index.rows, start, end))

    return sum(on_each_part(work, _blocks(index)))


def select(index: TagIndex, compiler: Compiler, program: Program) -> tuple[Bits, int]:
    """Return a program's result as bits of shape ``(words,)``, and its rows' number."""
    from bihuan.audience.program.kernel import select_program

    planes, code = compiler.addresses, kernel_code([program])
    bits = np.empty(index.words, np.uint64)
    bits[_blocks(index) * BLOCK :] = 0
    bits[-(-index.rows // 64) :] = 0

    def work(start: int, end: int) -> int:
        return int(select_program(planes, code, program.depth, index.rows, bits, start, end))

    return bits, sum(on_each_part(work, _blocks(index)))


def cross(
    index: TagIndex,
    compiler: Compiler,
    within: Program,
    lines: Sequence[Program],
    columns: Sequence[Program],
) -> Counts:
    """Count the rows of ``within`` in every pair of sets, shape ``(n_lines, n_columns)``."""
    from bihuan.audience.program.kernel import cross_programs

    programs = [within, *lines, *columns]
    planes, code = compiler.addresses, kernel_code(programs)
    ends = np.cumsum([0, *(len(program.steps) for program in programs)], dtype=np.int64)
    depth = max(program.depth for program in programs)
    spread = len(lines) * len(columns) >= _MANY_PAIRS
    if spread:
        code[:, 2] = 0

    def work(start: int, end: int) -> Counts:
        counts = np.zeros((len(lines), len(columns)), np.int64)
        cross_programs(
            planes, code, ends, len(lines), depth, index.rows, spread, counts, start, end
        )
        return counts

    total: Counts = np.sum(on_each_part(work, _blocks(index)), axis=0, dtype=np.int64)
    return total


def ones_in_planes(index: TagIndex, bits: Bits, addresses: NDArray[np.uint64]) -> list[int]:
    """Count, for each plane, the rows among ``bits`` whose bit is 1."""
    from bihuan.audience.program.kernel import ones_of_plane

    def work(start: int, end: int) -> list[int]:
        return [int(ones_of_plane(bits, plane, start, end)) for plane in addresses]

    parts = on_each_part(work, -(-index.rows // 64))
    return [sum(counts) for counts in zip(*parts, strict=True)]


def rows_of(index: TagIndex, bits: Bits, size: int) -> Rows:
    """Return the row numbers of the ones, ascending; ``size`` is how many there are."""
    from bihuan.audience.program.kernel import list_rows

    found = np.empty(size, np.int64)
    words = -(-index.rows // 64)
    parts = on_each_part(lambda s, e: int(np.bitwise_count(bits[s:e]).sum(dtype=np.int64)), words)
    before = iter(np.cumsum([0, *parts]).tolist())
    offsets = dict(zip((words * i // len(parts) for i in range(len(parts))), before, strict=False))

    def work(start: int, end: int) -> None:
        if start < end:
            list_rows(bits, found[offsets[start] :], start, end)

    on_each_part(work, words, parts=len(parts))
    return found


def walk(
    index: TagIndex, planes: TagPlanes, bits: Bits, known: int, size: int, side: Side
) -> tuple[int, int, int]:
    """Find the code of the ``size``-th highest or lowest of some rows, one bit at a time.

    Parameters
    ----------
    index, planes
        The tag.
    bits
        The rows, all of them with a value; left holding those that have the code.
    known
        How many they are.
    size
        Rank from that side, 1..known.
    side
        From which.

    Returns
    -------
    (int, int, int)
        The code, the rows strictly beyond it, the rows at it.

    Notes
    -----
    From the highest bits down, two at a time, the rows still in question are divided by their
    bits: if those with the most wanted bits are enough, the answer is among them, else they are
    all taken and the next are asked. Each pair of planes is read twice, to count, and to keep
    while the next pair is counted.
    """
    from bihuan.audience.program.kernel import walk_planes

    highest_first = planes.bit_addresses[::-1]
    if len(highest_first) % 2:  # a pair lacks its high plane: the rows in question have none
        nothing = np.zeros(index.words, np.uint64)
        highest_first = np.concatenate([[np.uint64(nothing.ctypes.data)], highest_first])
    words = bits[: -(-index.rows // 64)]
    code, beyond, ties = walk_planes(words, highest_first, known, size, side == "top")
    return int(code), int(beyond), int(ties)


def _blocks(index: TagIndex) -> int:
    return -(-index.rows // (64 * BLOCK))
