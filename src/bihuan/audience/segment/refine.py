"""Step two, refine (定细): what each condition of an audience does to its size.

A planner joins tags by AND, OR and NOT and wants to see at once what every word costs him: how
many satisfy it alone, how many are left after it, and how many would come back without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bihuan.audience.algebra import And, AudienceTooLargeError, Node, Not, Or, all_of, any_of
from bihuan.audience.segment.reader import EVERYONE, Counter
from bihuan.audience.text import to_text

MAX_PARTS = 200  # a planner reads a page; every part costs five counts


@dataclass(frozen=True, slots=True)
class Condition:
    """One part of an audience and what it does.

    Parameters
    ----------
    node
        The part.
    depth
        0 for the whole audience, 1 for its parts, and so on.
    joined_by
        ``and`` or ``or`` with the parts beside it; empty for the whole and under ``not``.
    alone
        Customers who satisfy this part by itself.
    after
        Customers left (``and``) or gathered (``or``) once this part and those before it are said.
    step
        What this part changed in that order: ``and`` takes away, so it is zero or less; ``or``
        adds.
    last
        What it changes if said last: under ``and`` minus the customers whom it alone keeps out,
        under ``or`` those whom it alone brings in. 0 says that it could be left out.
    """

    node: Node
    depth: int
    joined_by: str
    alone: int
    after: int
    step: int
    last: int

    @property
    def text(self) -> str:
        """The part as a planner writes it."""
        return to_text(self.node)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The size of an audience, condition by condition.

    Parameters
    ----------
    base
        Customers it is chosen from.
    members
        Customers in it.
    conditions
        The whole first, then its parts from left to right, each followed by its own parts.
    """

    base: int
    members: int
    conditions: tuple[Condition, ...]

    @property
    def idle(self) -> tuple[Condition, ...]:
        """Parts that change nothing where they stand; a planner may leave them out."""
        return tuple(part for part in self.conditions if part.depth and part.last == 0)


def explain_counts(node: Node, counter: Counter, *, within: Node = EVERYONE) -> Explanation:
    """Count an audience condition by condition.

    Parameters
    ----------
    node
        A bound tree, in the order in which the planner wrote it.
    counter
        Counts; asked once for all conditions together.
    within
        A bound tree: count only among its members.

    Returns
    -------
    Explanation
        Every count is exact; parts below ``not`` are counted as they stand under it.

    Raises
    ------
    AudienceTooLargeError
        If there are more than 200 parts.

    Examples
    --------
    >>> import numpy as np
    >>> from bihuan.audience import parse
    >>> class Table:  # ten customers with the numbers 0 to 9
    ...     def counts(self, nodes):
    ...         from bihuan.audience import match
    ...         return np.array([sum(match(n, {"x": x}) for x in range(10)) for n in nodes])
    >>> told = explain_counts(parse("x >= 2 and x < 7 and x < 9"), Table())
    >>> [(part.text, part.alone, part.after, part.step, part.last) for part in told.conditions]
    ... # doctest: +NORMALIZE_WHITESPACE
    [('x >= 2 and x < 7 and x < 9', 5, 5, -5, -5), ('x >= 2', 8, 8, -2, -2),
     ('x < 7', 7, 5, -3, -2), ('x < 9', 9, 5, 0, 0)]
    """
    asked = [EVERYONE, node]
    places = list(_places(node, 0))
    if len(places) > MAX_PARTS:
        raise AudienceTooLargeError(
            f"The audience has {len(places)} parts; up to {MAX_PARTS} can be explained.",
            remedy="Save some of them as an audience, or list values with in (...).",
            zh=f"该客户群有 {len(places)} 个条件，逐项说明最多 {MAX_PARTS} 个，请合并。",
        )
    for _, siblings, at, kind in places:
        asked += _questions(siblings, at, kind)
    counts = iter(counter.counts([all_of([within, part]) for part in asked]).tolist())
    base, members = int(next(counts)), int(next(counts))
    whole = Condition(node, 0, "", members, members, members - base, members - base)
    conditions = [whole]
    for depth, siblings, at, kind in places:
        alone, before, after, full, without = (int(next(counts)) for _ in range(5))
        conditions.append(
            Condition(siblings[at], depth, kind, alone, after, after - before, full - without)
        )
    return Explanation(base, members, tuple(conditions))


# ------------------------------------------------------------------------------------------ inside


def _places(node: Node, depth: int) -> Iterator[tuple[int, Sequence[Node], int, str]]:
    """Yield each part below ``node`` with its siblings, its place among them and their word."""
    match node:
        case And(parts=parts) | Or(parts=parts):
            for at, part in enumerate(parts):
                yield depth + 1, parts, at, node.word
                yield from _places(part, depth + 1)
        case Not(part=part) if isinstance(part, (And, Or, Not)):
            yield depth + 1, (part,), 0, ""
            yield from _places(part, depth + 1)


def _questions(siblings: Sequence[Node], at: int, kind: str) -> list[Node]:
    """Return what must be counted: alone, before, after, all together, all without this one."""
    join = any_of if kind == "or" else all_of
    others = [part for i, part in enumerate(siblings) if i != at]
    return [
        siblings[at],
        join(list(siblings[:at])),
        join(list(siblings[: at + 1])),
        join(list(siblings)),
        join(others),
    ]
