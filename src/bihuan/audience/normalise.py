"""One tree for one meaning: the normal form, and the id made from it.

Everything that a tree says about *one* tag is a set of that tag's values, with or without the
customers whose tag is missing (:class:`_Reach`). Such a part is replaced by the one way of writing
its set, so ``x >= 3 and x <= 5`` becomes ``x between 3 and 5``, ``x = 1 or x in (2, 1)`` becomes
``x in (1, 2)`` and ``x > 5 and x < 3`` becomes nobody. Parts over several tags are laws of sets:
negation moves inwards, nested ANDs and ORs are flattened, repeated and absorbed parts go, what
remains is ordered.

The normal form never changes who is in. It cannot make every two trees of one meaning equal (that
is as hard as satisfiability), but orderings, spellings and everything about one tag are settled.
Give it a *bound* tree where the tags' types are known: only then are two literals that round to
the same double one literal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, TypeAlias

from bihuan.audience.algebra import (
    And,
    Between,
    Compare,
    Everyone,
    Flag,
    In,
    Missing,
    Nobody,
    Node,
    Not,
    Operator,
    Or,
    all_of,
    any_of,
)
from bihuan.audience.json_form import tree_json
from bihuan.audience.literal import Value, literal_key, literal_kind
from bihuan.kernel import canonical_json, hash_id

Parts: TypeAlias = tuple[Node, ...]
Rule: TypeAlias = Callable[[type[And] | type[Or], Parts], Parts]


def normalise(node: Node) -> Node:
    """Return the tree of the same meaning that stands for all its spellings.

    Parameters
    ----------
    node
        Any tree; bound, if spellings that differ only by the tags' types shall meet.

    Returns
    -------
    Node
        The same customers belong to it, under every profile and every reader. Normalising it
        again changes nothing.

    Raises
    ------
    AudienceTooLargeError
        If the tree is so near to the limits that its normal form is beyond them.

    Examples
    --------
    >>> from bihuan.audience.text import parse, to_text
    >>> to_text(normalise(parse("not (b or not a) and x <= 5 and (x >= 3 and a)")))
    'x between 3 and 5 and a and not b'
    >>> to_text(normalise(parse("not city = 'x'"))), to_text(normalise(parse("city != 'x'")))
    ("not (city = 'x')", "city != 'x'")
    """
    match node:
        case And(parts=parts) | Or(parts=parts):
            return _joined(type(node), (normalise(part) for part in parts))
        case Not(part=part):
            return _complement(normalise(part))
    reach = _reach(node)
    return node if reach is None else reach.node()


def audience_id(node: Node) -> str:
    """Return the id of an audience: a hash of its normal form, equal for equal spellings.

    Examples
    --------
    >>> from bihuan.audience.text import parse
    >>> audience_id(parse("a and b")) == audience_id(parse("b and (a and b)"))
    True
    """
    return hash_id("audience", tree_json(normalise(node)))


# ------------------------------------------------------------ rules for the parts of an AND or OR


def flatten(kind: type[And] | type[Or], parts: Parts) -> Parts:
    """Write ``a and (b and c)`` as ``a and b and c``."""
    return tuple(
        inner for part in parts for inner in (part.parts if isinstance(part, kind) else (part,))
    )


def merge_tags(kind: type[And] | type[Or], parts: Parts) -> Parts:
    """Make one set of all that is said about one tag: AND intersects, OR unites."""
    by_tag: dict[str, list[tuple[Node, _Reach]]] = {}
    result: list[Node] = []
    for part in parts:
        reach = _reach(part)
        if reach is None:
            result.append(part)
        else:
            by_tag.setdefault(reach.tag, []).append((part, reach))
    for found in by_tag.values():
        merged = _merged(kind, [reach for _, reach in found])
        result += [part for part, _ in found] if merged is None else [merged.node()]
    return tuple(result)


def fold_constants(kind: type[And] | type[Or], parts: Parts) -> Parts:
    """Let ``nobody`` decide an AND and leave an OR; ``everyone`` the other way round."""
    deciding, idle = (Nobody, Everyone) if kind is And else (Everyone, Nobody)
    if any(isinstance(part, deciding) for part in parts):
        return (deciding(),)
    return tuple(part for part in parts if not isinstance(part, idle))


def drop_repeats(kind: type[And] | type[Or], parts: Parts) -> Parts:
    """Write ``a and a`` as ``a``."""
    del kind
    return tuple(dict.fromkeys(parts))


def meet_opposites(kind: type[And] | type[Or], parts: Parts) -> Parts:
    """Write ``a and not a`` as nobody, ``a or not a`` as everyone."""
    present = set(parts)
    if any(isinstance(part, Not) and part.part in present for part in parts):
        return (Nobody(),) if kind is And else (Everyone(),)
    return parts


def absorb(kind: type[And] | type[Or], parts: Parts) -> Parts:
    """Write ``a and (a or b)`` as ``a``, and ``a or (a and b)`` too."""
    other = Or if kind is And else And
    present = set(parts)
    return tuple(
        part
        for part in parts
        if not (isinstance(part, other) and any(inner in present for inner in part.parts))
    )


def order(kind: type[And] | type[Or], parts: Parts) -> Parts:
    """Put the parts in the order of their stored form."""
    del kind
    return tuple(sorted(parts, key=lambda part: canonical_json(tree_json(part))))


RULES: tuple[Rule, ...] = (
    flatten,
    merge_tags,
    flatten,  # a merged set may be an AND or OR itself
    fold_constants,
    drop_repeats,
    meet_opposites,
    absorb,
    order,
)


def _joined(kind: type[And] | type[Or], parts: Iterable[Node]) -> Node:
    """Join parts that are in normal form."""
    found = tuple(parts)
    for rule in RULES:
        found = rule(kind, found)
    return all_of(found) if kind is And else any_of(found)


def _complement(node: Node) -> Node:
    """Negate a tree that is in normal form."""
    reach = _reach(node)
    if reach is not None:
        return reach.complement().node()
    match node:
        case Not(part=part):
            return part
        case And(parts=parts) | Or(parts=parts):
            dual = Or if isinstance(node, And) else And
            return _joined(dual, (_complement(part) for part in parts))
        case Everyone() | Nobody():
            return Nobody() if isinstance(node, Everyone) else Everyone()
    return Not(node)


# --------------------------------------------------------------------------- what one tag may be

_Cut: TypeAlias = tuple[Any, bool]
"""A place between values: just before ``(v, False)`` or just after ``(v, True)`` a value."""

_HOLES_AS_LIST = 3  # as many excluded values are written as one list


@dataclass(frozen=True, slots=True)
class _Reach:
    """A set of one tag's values, with or without the missing.

    ``start`` says whether the lowest values are in; at every cut, in ascending order, being in
    turns into being out or back. ``kind`` is the family of the literals, empty if there are none.
    """

    tag: str
    kind: str
    missing: bool
    start: bool
    cuts: tuple[_Cut, ...] = ()

    def complement(self) -> _Reach:
        return replace(self, missing=not self.missing, start=not self.start)

    def node(self) -> Node:
        """Write the set in its one form, the shorter of two where the missing are in."""
        known = self._known()
        if not self.missing:
            return known
        left_out = self.complement()._known()
        if isinstance(left_out, Nobody):
            return Everyone()
        negated = left_out.part if isinstance(left_out, Not) else Not(left_out)
        if isinstance(known, Nobody) or negated.size <= known.size + 2:
            return negated
        return any_of(flatten(Or, order(Or, (known, Missing(self.tag)))))

    def _known(self) -> Node:
        """Write the set's known values."""
        if self.kind == "boolean":
            return self._boolean()
        if not self.cuts:
            return Not(Missing(self.tag)) if self.start else Nobody()
        points, ranges = self._intervals()
        listed = tuple(self._literal(value) for value in points)
        parts = [self._listed(listed)] if listed else []
        parts += [self._range(*bounds) for bounds in ranges]
        return any_of(order(Or, tuple(parts)))

    def _boolean(self) -> Node:
        has_false, has_true = self._holds(False), self._holds(True)
        if has_true and has_false:
            return Not(Missing(self.tag))
        if has_true:
            return Flag(self.tag)
        return Compare(self.tag, "=", False) if has_false else Nobody()

    def _holds(self, value: object) -> bool:
        return self.start ^ (sum(cut <= (value, False) for cut in self.cuts) % 2 == 1)

    def _intervals(self) -> tuple[list[Any], list[tuple[_Cut | None, _Cut | None, list[Any]]]]:
        """Return single values, and ranges as low end, high end and the values left out."""
        points: list[Any] = []
        ranges: list[tuple[_Cut | None, _Cut | None, list[Any]]] = []
        for low, high in self._pairs():
            if low and high and low[0] == high[0]:
                points.append(low[0])
            elif ranges and low and ranges[-1][1] == (low[0], False) and low[1]:
                first, _, holes = ranges[-1]
                ranges[-1] = (first, high, [*holes, low[0]])
            else:
                ranges.append((low, high, []))
        return points, ranges

    def _pairs(self) -> Iterator[tuple[_Cut | None, _Cut | None]]:
        ends: list[_Cut | None] = [None, *self.cuts] if self.start else list(self.cuts)
        if len(ends) % 2:
            ends.append(None)
        return zip(ends[::2], ends[1::2], strict=True)

    def _listed(self, values: tuple[Value, ...]) -> Node:
        return Compare(self.tag, "=", values[0]) if len(values) == 1 else In(self.tag, values)

    def _range(self, low: _Cut | None, high: _Cut | None, holes: list[Any]) -> Node:
        parts: list[Node] = []
        if low and high and not low[1] and high[1]:
            parts.append(Between(self.tag, self._literal(low[0]), self._literal(high[0])))
        else:
            parts += [self._end(">" if low[1] else ">=", low)] if low else []
            parts += [self._end("<=" if high[1] else "<", high)] if high else []
        left_out = tuple(self._literal(value) for value in holes)
        if len(left_out) < _HOLES_AS_LIST:
            parts += [Compare(self.tag, "!=", value) for value in left_out]
        else:
            parts += [Not(In(self.tag, left_out))]
            parts += [] if low or high else [Not(Missing(self.tag))]
        return all_of(order(And, tuple(parts)))

    def _end(self, op: Operator, cut: _Cut) -> Node:
        return Compare(self.tag, op, self._literal(cut[0]))

    def _literal(self, key: int | Decimal | str | date) -> Value:
        return float(key) if self.kind == "double" else key  # type: ignore[arg-type]


def _reach(node: Node) -> _Reach | None:
    """Return the set that ``node`` stands for if it speaks of one tag in one kind of literal."""
    match node:
        case Not(part=part):
            inner = _reach(part)
            return None if inner is None else inner.complement()
        case And(parts=parts) | Or(parts=parts):
            return _common_reach(type(node), parts)
    return _condition_reach(node)


def _condition_reach(node: Node) -> _Reach | None:
    match node:
        case Missing(tag=tag):
            return _Reach(tag, "", missing=True, start=False)
        case Flag(tag=tag):
            return _points(tag, (True,))
        case Compare(tag=tag, op=op, value=value):
            return _half_line(tag, op, value)
        case In(tag=tag, values=values):
            return _points(tag, values)
        case Between(tag=tag, low=low, high=high):
            return _merged(And, [_half_line(tag, ">=", low), _half_line(tag, "<=", high)])
    return None


def _common_reach(kind: type[And] | type[Or], parts: Parts) -> _Reach | None:
    reaches: list[_Reach] = []
    for part in parts:
        reach = _reach(part)
        if reach is None or (reaches and reach.tag != reaches[0].tag):
            return None
        reaches.append(reach)
    return _merged(kind, reaches)


def _points(tag: str, values: tuple[Value, ...]) -> _Reach:
    keys = sorted({literal_key(value)[1] for value in values})
    cuts = tuple((key, after) for key in keys for after in (False, True))
    return _Reach(tag, _kind(values), missing=False, start=False, cuts=cuts)


def _half_line(tag: str, op: Operator, value: Value) -> _Reach:
    key, kind = literal_key(value)[1], literal_kind(value)
    if op in ("=", "!="):
        return _Reach(tag, kind, False, op == "!=", ((key, False), (key, True)))
    return _Reach(tag, kind, False, op in ("<", "<="), ((key, op in ("<=", ">")),))


def _kind(values: tuple[Value, ...]) -> str:
    kinds = {literal_kind(value) for value in values}
    return "double" if "double" in kinds else next(iter(kinds), "")


def _merged(kind: type[And] | type[Or], reaches: list[_Reach]) -> _Reach | None:
    """Intersect (AND) or unite (OR) sets of one tag; None if their literals are of two kinds.

    One sweep over all cuts in order, counting in how many sets one stands.
    """
    kinds = {reach.kind for reach in reaches} - {""}
    if len(kinds) > 1:
        return None
    needed = len(reaches) if kind is And else 1
    count = sum(reach.start for reach in reaches)
    start = inside = count >= needed
    standing = [reach.start for reach in reaches]
    events = sorted((cut, index) for index, reach in enumerate(reaches) for cut in reach.cuts)
    cuts: list[_Cut] = []
    for cut, group in groupby(events, key=itemgetter(0)):
        for _, index in group:
            standing[index] = not standing[index]
            count += 1 if standing[index] else -1
        if (count >= needed) != inside:
            inside = not inside
            cuts.append(cut)
    missing = (all if kind is And else any)(reach.missing for reach in reaches)
    return _Reach(reaches[0].tag, kinds.pop() if kinds else "", missing, start, tuple(cuts))
