"""From a tree to a program: postfix operations on planes, run on a stack of blocks.

What a condition says about a tag is a set of its codes, written as the cuts where membership
changes. Such a set is tested by looking at the code's bits from the highest down (Shannon's
expansion): each bit halves the codes that are left, and a half that is all in or all out needs no
further bit. ``v >= t`` becomes one AND or OR per bit, a list of values a small tree of choices.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bihuan.audience.algebra import (
    And,
    AudienceTooLargeError,
    Between,
    Compare,
    Everyone,
    Flag,
    In,
    Member,
    Missing,
    Nobody,
    Node,
    Not,
    Or,
)
from bihuan.audience.literal import Value
from bihuan.kernel import DefectError
from bihuan.tag import Encoding, TagPlanes

BLOCK = 2048
"""Words of a block: 16 KiB, so that a stack of three stays in a first-level cache of 48 KiB."""

MAX_OPERATIONS = 100_000
"""Longest program that is run: measured at 0.3 s per million subjects on one core."""


class ProgramTooLargeError(AudienceTooLargeError):
    """An audience compiles to more operations than are run."""


class Op(IntEnum):
    """Operations; those up to ``MUX`` read the plane named beside them.

    The stack holds blocks of bits: ``top`` is its last, ``below`` the one before.
    """

    LOAD = 0  # push plane
    LOAD_NOT = 1  # push ~plane
    AND_PLANE = 2  # top &= plane
    OR_PLANE = 3  # top |= plane
    AND_NOT_PLANE = 4  # top &= ~plane
    OR_NOT_PLANE = 5  # top |= ~plane
    MUX = 6  # pop top; below = top where plane is 0, below where it is 1
    AND = 7  # pop top; below &= top
    OR = 8  # pop top; below |= top
    NOT = 9  # top = ~top
    ZEROS = 10  # push nobody
    ONES = 11  # push everybody


Cuts: TypeAlias = tuple[int, ...]
"""A set of codes: out before the first cut, in from it, out from the second, and so on."""

Step: TypeAlias = tuple[Op, int]


@dataclass(frozen=True)
class Program:
    """Operations in postfix order; their result is one block of bits.

    Bits after the last subject are undefined.

    Parameters
    ----------
    steps
        Operation and number of the plane it reads, -1 for none.
    depth
        Blocks that the stack holds at most.
    """

    steps: tuple[Step, ...]
    depth: int


PlanesOf: TypeAlias = Callable[[str], TagPlanes]
"""Gives a tag's planes, or raises."""


class Compiler:
    """Makes programs that are run together: they share one list of planes.

    Parameters
    ----------
    planes_of
        Gives a tag's planes; each is asked for once and stays mapped as long as this object.
    """

    def __init__(self, planes_of: PlanesOf) -> None:
        self._planes_of = planes_of
        self._held: dict[str, TagPlanes] = {}
        self._numbers: dict[tuple[str, int], int] = {}
        self._addresses: list[int] = []

    def tree(self, node: Node) -> Program:
        """Compile a tree: bound, and best in normal form, where one tag is asked about once.

        Raises
        ------
        ProgramTooLargeError
            If it needs more than ``MAX_OPERATIONS`` operations.
        """
        return self._program(_steps(node, self))

    def codes(self, tag: str, known: Cuts) -> Program:
        """Compile a set of one tag's codes; subjects without a value are not in it."""
        return self._program(_codes(self, tag, known, missing=False))

    def everyone(self) -> Program:
        """Compile the whole base."""
        return self._program([(Op.ONES, -1)])

    def planes(self, tag: str) -> TagPlanes:
        """Return a tag's planes."""
        if tag not in self._held:
            self._held[tag] = self._planes_of(tag)
        return self._held[tag]

    def number(self, tag: str, plane: int) -> int:
        """Return the number by which steps name a plane of a tag."""
        key = (tag, plane)
        if key not in self._numbers:
            self._numbers[key] = len(self._addresses)
            self._addresses.append(int(self.planes(tag).addresses[plane]))
        return self._numbers[key]

    def bit(self, tag: str, bit: int) -> int:
        """Return the number of the plane that holds a bit of a tag's code."""
        return self.number(tag, bit + (self.planes(tag).encoding.missing == "plane"))

    @property
    def addresses(self) -> NDArray[np.uint64]:
        """Where the planes lie that the programs name, for the kernel."""
        return np.array(self._addresses or (0,), np.uint64)

    def _program(self, steps: list[Step]) -> Program:
        if len(steps) > MAX_OPERATIONS:
            raise _too_large(len(steps))
        return Program(tuple(steps), _depth(steps))


def kernel_code(programs: Iterable[Program]) -> NDArray[np.int64]:
    """Return the steps of programs, one after the other, as the kernel takes them.

    Returns
    -------
    ndarray of shape (n_steps, 3)
        Operation, plane, and whether this is the first step that reads the plane: then its next
        block is asked for ahead.
    """
    seen: set[int] = {-1}
    rows = []
    for program in programs:
        for op, plane in program.steps:
            rows.append((int(op), max(plane, 0), plane not in seen))
            seen.add(plane)
    return np.array(rows, np.int64).reshape(len(rows), 3)


# ------------------------------------------------------------------------------------------ trees


def _steps(node: Node, planes: Compiler) -> list[Step]:
    match node:
        case And(parts=parts):
            return _joined(Op.AND, [_steps(part, planes) for part in parts])
        case Or(parts=parts):
            return _joined(Op.OR, [_steps(part, planes) for part in parts])
        case Not(part=part):
            return _negated(_steps(part, planes))
        case Everyone():
            return [(Op.ONES, -1)]
        case Nobody():
            return [(Op.ZEROS, -1)]
        case Member(audience_id=audience_id):
            raise DefectError(f"Audience '{audience_id}' was not resolved before reading; bind it.")
    tag, is_missing_in, cuts = _codes_of(node, planes)
    return _codes(planes, tag, cuts, missing=is_missing_in)


_WITH_PLANE: Mapping[tuple[Op, Op], Op] = {
    (Op.AND, Op.LOAD): Op.AND_PLANE,
    (Op.AND, Op.LOAD_NOT): Op.AND_NOT_PLANE,
    (Op.OR, Op.LOAD): Op.OR_PLANE,
    (Op.OR, Op.LOAD_NOT): Op.OR_NOT_PLANE,
}


def _joined(op: Op, parts: list[list[Step]]) -> list[Step]:
    """Join programs, the one that needs most of the stack first, bare planes last."""
    ordered = sorted(parts, key=lambda steps: (len(steps) == 1, -_depth(steps)))
    result = list(ordered[0])
    for steps in ordered[1:]:
        first, plane = steps[0]
        if len(steps) == 1 and (op, first) in _WITH_PLANE:
            result.append((_WITH_PLANE[op, first], plane))
        else:
            result += [*steps, (op, -1)]
    return result


_NEGATED: Mapping[Op, Op] = {
    Op.LOAD: Op.LOAD_NOT,
    Op.LOAD_NOT: Op.LOAD,
    Op.ZEROS: Op.ONES,
    Op.ONES: Op.ZEROS,
}


def _negated(steps: list[Step]) -> list[Step]:
    if len(steps) == 1:
        op, plane = steps[0]
        return [(_NEGATED[op], plane)]
    return [*steps, (Op.NOT, -1)]


def _depth(steps: Iterable[Step]) -> int:
    height = highest = 0
    for op, _ in steps:
        if op in (Op.LOAD, Op.LOAD_NOT, Op.ZEROS, Op.ONES):
            height += 1
        elif op in (Op.MUX, Op.AND, Op.OR):
            height -= 1
        highest = max(highest, height)
    return highest


def _too_large(steps: int) -> ProgramTooLargeError:
    return ProgramTooLargeError(
        f"The audience needs {steps:,} operations on bit planes; {MAX_OPERATIONS:,} are the limit.",
        remedy="Load a long list of values as a table and make a tag of it, or count in SQL.",
        zh=f"客户群需要 {steps:,} 次位面运算，超过上限 {MAX_OPERATIONS:,}。"
        "请将长名单导入为数据表并制成标签，或改用 SQL 计数。",
    )


# ----------------------------------------------------------------------------------- sets of codes


def _codes_of(node: Node, planes: Compiler) -> tuple[str, bool, Cuts]:
    """Return the tag, whether the missing are in, and which of the known codes are."""
    match node:
        case Missing(tag=tag):
            return tag, True, ()
        case Flag(tag=tag):
            return tag, False, _listed(planes.planes(tag).encoding, (True,))
        case In(tag=tag, values=values):
            return tag, False, _listed(planes.planes(tag).encoding, values)
        case Between(tag=tag, low=low, high=high):
            encoding = planes.planes(tag).encoding
            start, end = encoding.first_at_least(low), _first_above(encoding, high)
            return tag, False, (start, end) if start < end else ()
        case Compare(tag=tag, op=op, value=value):
            return tag, False, _compared(planes.planes(tag).encoding, op, value)
    raise DefectError(f"No reading of a {type(node).__name__} as a program.")


def _compared(encoding: Encoding, op: str, value: Value) -> Cuts:
    first, end = encoding.first, encoding.first + encoding.count
    if op in ("=", "!="):
        found = _listed(encoding, (value,))
        return found if op == "=" else _within(_complement(found), first, end)
    cut = encoding.first_at_least(value) if op in ("<", ">=") else _first_above(encoding, value)
    return _within((cut, end) if op in (">", ">=") else (first, cut), first, end)


def _first_above(encoding: Encoding, value: Value) -> int:
    at_least = encoding.first_at_least(value)
    return at_least + 1 if encoding.find(value) == at_least else at_least


def _listed(encoding: Encoding, values: Iterable[Value]) -> Cuts:
    found = {encoding.find(value) for value in values} - {None}
    cuts: list[int] = []
    for code in sorted(code for code in found if code is not None):
        if cuts and cuts[-1] == code:
            cuts[-1] = code + 1
        else:
            cuts += [code, code + 1]
    return tuple(cuts)


def _complement(cuts: Cuts) -> Cuts:
    return cuts[1:] if cuts and cuts[0] == 0 else (0, *cuts)


def _within(cuts: Cuts, start: int, end: int) -> Cuts:
    """Return the part of a set that lies in ``start .. end - 1``."""
    inner = [cut for cut in cuts if start < cut < end]
    if bisect_right(cuts, start) % 2:
        inner.insert(0, start)
    if len(inner) % 2:
        inner.append(end)
    return tuple(inner) if start < end else ()


def _codes(planes: Compiler, tag: str, known: Cuts, *, missing: bool) -> list[Step]:
    """Test that a tag's value is known and its code in ``known``, or that it is missing."""
    encoding = planes.planes(tag).encoding
    end = encoding.first + encoding.count
    cuts = (0, 1) if encoding.missing == "zero" and missing else known
    if cuts and cuts[-1] == end:  # codes after the last do not occur: the bits may say what suits
        cuts = cuts[:-1]
    steps = _choose(cuts, encoding.bits, lambda bit: planes.bit(tag, bit))
    if encoding.missing != "plane":
        return steps
    # the code of the missing is 0, so the plane of the known is needed only if 0 is in
    if missing:
        return [(Op.LOAD_NOT, planes.number(tag, 0))]
    takes_zero = bool(cuts) and cuts[0] == 0
    return _joined(Op.AND, [steps, [(Op.LOAD, planes.number(tag, 0))]]) if takes_zero else steps


def _choose(cuts: Cuts, bits: int, plane: Callable[[int], int]) -> list[Step]:
    """Test whether a code of so many bits is in a set, its highest bit first."""
    if not cuts:
        return [(Op.ZEROS, -1)]
    if cuts == (0,):
        return [(Op.ONES, -1)]
    half = 1 << (bits - 1)
    below = tuple(cut for cut in cuts if cut < half)
    above = tuple(cut - half for cut in cuts if cut >= half)
    if len(below) % 2:
        above = above[1:] if above and above[0] == 0 else (0, *above)
    if below == above:
        return _choose(below, bits - 1, plane)
    return _choice(
        _choose(above, bits - 1, plane), _choose(below, bits - 1, plane), plane(bits - 1)
    )


_ONES: list[Step] = [(Op.ONES, -1)]
_ZEROS: list[Step] = [(Op.ZEROS, -1)]


def _choice(where_one: list[Step], where_zero: list[Step], plane: int) -> list[Step]:
    """Take one program where the plane's bit is 1 and the other where it is 0."""
    if where_zero == _ZEROS:
        return [(Op.LOAD, plane)] if where_one == _ONES else [*where_one, (Op.AND_PLANE, plane)]
    if where_one == _ZEROS:
        is_plane = where_zero == _ONES
        return [(Op.LOAD_NOT, plane)] if is_plane else [*where_zero, (Op.AND_NOT_PLANE, plane)]
    if where_one == _ONES:
        return [*where_zero, (Op.OR_PLANE, plane)]
    if where_zero == _ONES:
        return [*where_one, (Op.OR_NOT_PLANE, plane)]
    return [*where_one, *where_zero, (Op.MUX, plane)]
