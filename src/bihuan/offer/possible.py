"""Whether an audience can hold for somebody of whom only some tags are known.

For checks of the catalogue, which must not wait for data: does an offer's eligibility admit the
holders of a plan at all? Does it reach beyond the band of its slot?
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bihuan.audience import (
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
    Or,
    match,
)


def may_hold(node: Node, known: Mapping[str, Any]) -> bool:
    """Say whether an audience can hold for a customer with these tag values.

    Conditions on other tags count as open, each by itself, so the answer errs on the side of yes.

    Parameters
    ----------
    node
        As written.
    known
        Tag values as a profile holds them.

    Examples
    --------
    >>> from bihuan.audience import parse
    >>> rule = parse("main_product in ('a', 'b') and arpu >= 80 and not (main_product = 'b')")
    >>> [may_hold(rule, {"main_product": plan}) for plan in "abc"]
    [True, False, False]
    """
    return _outcomes(node, known)[0]


def _outcomes(node: Node, known: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether the node can be true, and whether it can be false."""
    match node:
        case Not(part=part):
            true, false = _outcomes(part, known)
            found = false, true
        case And(parts=parts) | Or(parts=parts):
            each = [_outcomes(part, known) for part in parts]
            whole, some = (all, any) if isinstance(node, And) else (any, all)
            found = whole(true for true, _ in each), some(false for _, false in each)
        case Compare(tag=tag) | In(tag=tag) | Between(tag=tag) | Flag(tag=tag) | Missing(tag=tag):
            holds = tag in known and match(node, known)
            found = (holds, not holds) if tag in known else (True, True)
        case Everyone() | Nobody():
            found = isinstance(node, Everyone), isinstance(node, Nobody)
        case _:  # a saved audience is open
            found = True, True
    return found
