"""Rules over tags made ready for a date on which some tags have no values yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from bihuan.audience import (
    And,
    Everyone,
    Missing,
    Nobody,
    Node,
    Not,
    Or,
    bind,
    predicate,
    tag_columns,
    tags_of,
)
from bihuan.tag import TagTable

NONE = -1
"""Position that stands for a customer in no band."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A rule as it can be read at a date.

    Parameters
    ----------
    node
        Bound; a condition on a tag without values holds for nobody, as for a missing value.
    pending
        The tags of the rule that have no values at that date.
    """

    node: Node
    pending: tuple[str, ...]


def read_rule(rule: Node, tags: TagTable) -> Reading:
    """Bind a rule to the tags of a date.

    Parameters
    ----------
    rule
        As written.
    tags
        Tag values at one date.

    Raises
    ------
    AudienceError
        If the rule names a tag that does not exist, or compares one as its type does not allow.
    """
    pending = tuple(sorted(tag for tag in set(tags_of(rule)) if tag in tags.pending))
    known = _without(rule, frozenset(pending)) if pending else rule
    return Reading(bind(known, tags.fields), pending)


def band_number(nodes: Sequence[Node], tags: TagTable) -> exp.Expr:
    """Return the SQL expression of the position of the first rule that holds, -1 if none does.

    Parameters
    ----------
    nodes
        Bound rules, in order.
    tags
        Tag values at one date.
    """
    if not nodes:
        return exp.Literal.number(NONE)
    column = tag_columns(tags.fields)
    case = exp.case()
    for number, node in enumerate(nodes):
        case = case.when(predicate(node, column), exp.Literal.number(number), copy=False)
    return exp.Paren(this=case.else_(exp.Neg(this=exp.Literal.number(1))))


def band_bits(nodes: Sequence[tuple[Node, int]], tags: TagTable) -> exp.Expr:
    """Return the SQL expression that joins by OR the bits of all rules that hold.

    Parameters
    ----------
    nodes
        Bound rules with their bits.
    tags
        Tag values at one date.
    """
    column = tag_columns(tags.fields)
    terms: list[exp.Expr] = [
        exp.Paren(
            this=exp.case()
            .when(predicate(node, column), exp.Literal.number(bits), copy=False)
            .else_(exp.Literal.number(0))
        )
        for node, bits in nodes
        if bits
    ] or [exp.Literal.number(0)]
    while len(terms) > 1:
        terms = [
            exp.Paren(this=exp.BitwiseOr(this=terms[i], expression=terms[i + 1]))
            if i + 1 < len(terms)
            else terms[i]
            for i in range(0, len(terms), 2)
        ]
    return exp.cast(terms[0], "BIGINT")


def _without(node: Node, pending: frozenset[str]) -> Node:
    match node:
        case And(parts=parts):
            return And(tuple(_without(part, pending) for part in parts))
        case Or(parts=parts):
            return Or(tuple(_without(part, pending) for part in parts))
        case Not(part=part):
            return Not(_without(part, pending))
    if pending.isdisjoint(tags_of(node)):
        return node
    return Everyone() if isinstance(node, Missing) else Nobody()
