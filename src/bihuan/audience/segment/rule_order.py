"""What another order of experience rules would change, before anybody changes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from bihuan.audience.algebra import Node
from bihuan.audience.coverage import NotEstimable
from bihuan.audience.segment.rule import ExperienceRule, RuleError, apply_rules, match_rules
from bihuan.data import Engine
from bihuan.tag import TagTable


@dataclass(frozen=True, slots=True)
class Move:
    """Customers who would get the offer of another rule.

    Parameters
    ----------
    source, target
        Names of the rules before and after.
    customers
        How many.
    """

    source: str
    target: str
    customers: int


@dataclass(frozen=True, slots=True)
class OrderEffect:
    """What another order would change.

    Parameters
    ----------
    order
        Names of the rules, first to last.
    moves
        The largest first.
    won_before, won_after
        Customers whom each rule wins.
    expected_before, expected_after
        Responses expected of the winners at the precision of their rules; :class:`NotEstimable`
        if a rule that wins anybody has no known response.
    """

    order: tuple[str, ...]
    moves: tuple[Move, ...]
    won_before: Mapping[str, int]
    won_after: Mapping[str, int]
    expected_before: float | NotEstimable
    expected_after: float | NotEstimable

    @property
    def moved(self) -> int:
        """Customers who would get another offer."""
        return sum(move.customers for move in self.moves)


def reorder(rules: Sequence[ExperienceRule], order: Sequence[str]) -> tuple[ExperienceRule, ...]:
    """Give rules the priorities of an order, first to last.

    Parameters
    ----------
    rules
        In any order.
    order
        The name of every rule, once.

    Raises
    ------
    RuleError
        If a rule is missing, unknown or named twice.
    """
    by_name = {rule.name: rule for rule in rules}
    odd = sorted(set(by_name).symmetric_difference(order))
    if odd or len(order) != len(by_name):
        raise RuleError(
            f"The order must name every rule once; '{(odd or list(order))[0]}' does not fit.",
            remedy=f"Order these: {', '.join(sorted(by_name))}.",
            zh=f"顺序须恰好包含每条规则一次，请排列：{'、'.join(sorted(by_name))}。",
        )
    return tuple(replace(by_name[name], priority=i) for i, name in enumerate(order, start=1))


def what_would_move(  # noqa: PLR0913 - as apply_rules, and the other order
    rules: Sequence[ExperienceRule],
    order: Sequence[str],
    tags: TagTable,
    *,
    engine: Engine,
    within: Node | None = None,
    responses: pa.Table | None = None,
    saved: Mapping[str, Node] | None = None,
) -> OrderEffect:
    """Tell whom another order of rules would give another offer.

    Parameters
    ----------
    rules
        As they are.
    order
        The name of every rule, first to last.
    tags, engine, within, responses, saved
        As in :func:`apply_rules`.

    Returns
    -------
    OrderEffect
        Who meets a rule never changes, only who wins; customers who meet one rule never move.
    """
    other = reorder(rules, order)
    ranked, _, flags = match_rules(rules, tags, engine=engine, within=within, saved=saved)
    names = [rule.name for rule in ranked]
    met = flags.any(axis=1)
    before = flags[met].argmax(axis=1)
    places = np.array([names.index(rule.name) for rule in other])
    after = places[flags[met][:, places].argmax(axis=1)]
    pairs, counts = np.unique(np.stack([before, after]), axis=1, return_counts=True)
    moves = [
        Move(names[a], names[b], int(n))
        for (a, b), n in zip(pairs.T.tolist(), counts, strict=True)
        if a != b
    ]
    report = apply_rules(
        rules, tags, engine=engine, within=within, responses=responses, saved=saved
    )
    rates = {count.rule.name: count.precision for count in report.counts}
    won = [np.bincount(winner, minlength=len(names)) for winner in (before, after)]
    won_by = [{name: int(n) for name, n in zip(names, found, strict=True)} for found in won]

    def expected(counts: Mapping[str, int]) -> float | NotEstimable:
        total = 0.0
        for name, n in counts.items():
            rate = rates[name]
            if n and isinstance(rate, NotEstimable):
                return NotEstimable(
                    {
                        "zh": f"规则 {name} 没有已知响应，无法估计。",
                        "en": f"Rule {name} has no known response.",
                    }
                )
            total += 0.0 if isinstance(rate, NotEstimable) else n * rate.rate
        return total

    return OrderEffect(
        order=tuple(order),
        moves=tuple(sorted(moves, key=lambda move: (-move.customers, move.source, move.target))),
        won_before=won_by[0],
        won_after=won_by[1],
        expected_before=expected(won_by[0]),
        expected_after=expected(won_by[1]),
    )
