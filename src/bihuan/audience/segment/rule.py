"""Experience rules (业务经验判断): who meets the condition is offered the product.

Rules are quick and everybody understands them; their limits are known too: they are not precise,
they do not rank those who meet the same condition, and one customer may meet several. So each
report says how often rules collide, who wins, and, where responses are known, how often a rule was
right.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience.algebra import Node
from bihuan.audience.coverage import Flags, NotEstimable, Overlap, cross, read_flags
from bihuan.audience.literal import AudienceError
from bihuan.audience.segment.reader import require_numeric
from bihuan.audience.snapshot import bind_to
from bihuan.audience.text import parse
from bihuan.data import Engine
from bihuan.kernel.document import Document
from bihuan.tag import TagTable

_Z = 1.959963984540054  # the 97.5 % point of the normal distribution


class RuleError(AudienceError):
    """A set of experience rules, or the responses to it, is not whole."""


@dataclass(frozen=True, slots=True)
class ExperienceRule:
    """Who meets ``condition`` is a target of the offer.

    Parameters
    ----------
    name
        Unique, snake case.
    title
        By language.
    condition
        The target customers.
    offer_id
        What they are offered.
    priority
        1 comes first; where a customer meets several rules the least priority wins.
    score
        How promising the rule is by experience; decides between equal priorities, higher first,
        then the name does.
    rank_by
        Numeric tag that orders the customers whom the rule wins, greatest first; empty: they are
        not told apart.
    """

    name: str
    title: Mapping[str, str]
    condition: Node
    offer_id: str
    priority: int = 1
    score: float = 0.0
    rank_by: str = ""

    def __post_init__(self) -> None:
        if not self.name or self.priority < 1 or not math.isfinite(self.score):
            raise RuleError(
                f"Rule '{self.name}' needs a name, a priority from 1 and a finite score.",
                remedy="Give the most urgent rule priority 1.",
                zh=f"规则“{self.name}”需要名称、不小于 1 的优先级和有限的分值。",
            )


@dataclass(frozen=True, slots=True)
class Precision:
    """How often customers matched by a rule responded.

    Parameters
    ----------
    known
        Matched customers whose response is known.
    hits
        Those of them who responded.
    rate
        ``hits / known``, 0..1.
    low, high
        95 % Wilson interval of the rate.
    """

    known: int
    hits: int
    rate: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RuleCount:
    """What one rule matched.

    Parameters
    ----------
    rule
        The rule.
    matched
        Customers who meet its condition.
    alone
        Those of them who meet no other rule, so that no order can move them.
    won
        Customers who get its offer.
    precision
        From the responses given; :class:`NotEstimable` if none is known for it.
    """

    rule: ExperienceRule
    matched: int
    alone: int
    won: int
    precision: Precision | NotEstimable


@dataclass(frozen=True, slots=True)
class RuleReport:
    """What a set of rules makes of the base.

    Parameters
    ----------
    base
        Customers looked at.
    counts
        Per rule, in order of precedence.
    overlap
        How many customers meet rule ``i`` and rule ``j``, in the same order.
    winners
        The id column, ``rule``, ``offer_id``, ``priority``, ``score``, ``n_matched`` (how many
        rules the customer meets), ``rank`` (place among those whom the rule won, by its
        ``rank_by``, from 1; equal values share a place; null if the rule has no order or the
        customer no value), ``reason_zh`` and ``reason_en`` (why this rule and not the next); one
        row per customer who meets any, ordered by id.
    """

    base: int
    counts: tuple[RuleCount, ...]
    overlap: Overlap
    winners: pa.Table

    @property
    def several_share(self) -> float | NotEstimable:
        """Share of the matched customers who meet more than one rule, 0..1."""
        if self.overlap.covered == 0:
            return NotEstimable({"zh": "没有客户满足任何规则。", "en": "No customer meets a rule."})
        return self.overlap.shared / self.overlap.covered


def load_rules(path: Path) -> tuple[ExperienceRule, ...]:
    """Read rules from a YAML file.

    ::

        rules:
          - name: mobile_newspaper
            title: {zh: 手机报, en: Mobile newspaper}
            condition: mms_count > 0 and not has_mobile_newspaper
            offer_id: mobile_newspaper
            priority: 1
            score: 0.5
            rank_by: mms_count

    Raises
    ------
    DocumentError
        Naming file and field.
    RuleError
        If a condition cannot be read or two rules have one name; naming file and rule.
    """
    top = Document.read(path).allow("rules")
    rules = tuple(_rule(part) for part in top.parts("rules"))
    _require_unique(rules, path.name)
    return rules


def apply_rules(
    rules: Sequence[ExperienceRule],
    tags: TagTable,
    *,
    engine: Engine,
    within: Node | None = None,
    responses: pa.Table | None = None,
    saved: Mapping[str, Node] | None = None,
) -> RuleReport:
    """Find whom each rule matches, where rules collide, and which one wins.

    Parameters
    ----------
    rules
        At least one, with unique names, in any order.
    tags
        Tag values at one date.
    engine
        Runs one query.
    within
        Only members of this audience are looked at; None: the whole base.
    responses
        The id column and ``response`` (boolean, or a number where above 0 counts as one) of
        customers who were offered what their rule says; missing responses are unknown.
    saved
        Saved audiences that conditions may name.

    Raises
    ------
    RuleError
        If there is no rule, two have one name, or the responses lack a column or name a customer
        twice.
    AudienceError
        If a condition does not bind.
    """
    ranked, ids, flags = match_rules(rules, tags, engine=engine, within=within, saved=saved)
    matched = flags.any(axis=1)
    winner = flags.argmax(axis=1)[matched]
    answers = _responses(ids, responses, tags.id_column)
    won = np.bincount(winner, minlength=len(ranked))
    only = flags.sum(axis=1, dtype=np.int64) == 1
    counts = [
        RuleCount(
            rule,
            matched=int(flags[:, i].sum()),
            alone=int((flags[:, i] & only).sum()),
            won=int(won[i]),
            precision=_precision(flags[:, i], answers),
        )
        for i, rule in enumerate(ranked)
    ]
    winners = _winners(ids.filter(pa.array(matched)), ranked, flags[matched], tags.id_column)
    return RuleReport(
        base=len(flags),
        counts=tuple(counts),
        overlap=cross(tuple(rule.name for rule in ranked), flags),
        winners=_with_ranks(winners, ranked, tags, engine),
    )


def match_rules(
    rules: Sequence[ExperienceRule],
    tags: TagTable,
    *,
    engine: Engine,
    within: Node | None = None,
    saved: Mapping[str, Node] | None = None,
) -> tuple[list[ExperienceRule], pa.ChunkedArray, Flags]:
    """Say for each customer which rules he meets; parameters and errors as :func:`apply_rules`.

    Returns
    -------
    tuple
        Rules in order of precedence, the ids in order, and booleans of shape
        ``(n_customers, n_rules)``.
    """
    if not rules:
        raise RuleError(
            "There is no rule to apply.", remedy="Give at least one.", zh="没有可执行的规则。"
        )
    _require_unique(rules, "the rules")
    for rule in rules:
        if rule.rank_by:
            require_numeric(rule.rank_by, tags)
    ranked = sorted(rules, key=lambda rule: (rule.priority, -rule.score, rule.name))
    nodes = [bind_to(tags, rule.condition, saved) for rule in ranked]
    where = None if within is None else bind_to(tags, within, saved)
    return ranked, *read_flags(nodes, tags, engine=engine, where=where)


def wilson(hits: int, known: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of a rate.

    Parameters
    ----------
    hits, known
        Successes and trials, ``0 <= hits <= known``, ``known > 0``.

    References
    ----------
    .. [1] Wilson (1927), Probable Inference, the Law of Succession, and Statistical Inference,
       JASA 22(158).

    Examples
    --------
    >>> [round(end, 4) for end in wilson(8, 10)]
    [0.4902, 0.9433]
    """
    rate, square = hits / known, _Z * _Z
    centre = rate + square / (2 * known)
    half = _Z * math.sqrt(rate * (1 - rate) / known + square / (4 * known * known))
    scale = 1 + square / known
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


# ------------------------------------------------------------------------------------------ inside


def _rule(part: Document) -> ExperienceRule:
    part.allow("name", "title", "condition", "offer_id", "priority", "score", "rank_by")
    try:
        return ExperienceRule(
            name=part.text("name"),
            title=part.titles("title"),
            condition=parse(part.text("condition")),
            offer_id=part.text("offer_id"),
            priority=part.whole("priority", 1, low=1),
            score=part.number("score", 0.0),
            rank_by=part.text("rank_by", ""),
        )
    except AudienceError as error:
        raise RuleError(
            f"{part.where}.condition: {error.message}",
            remedy=error.remedy,
            zh=f"{part.where}.condition:{error.zh}",
        ) from error


def _require_unique(rules: Sequence[ExperienceRule], where: str) -> None:
    names = [rule.name for rule in rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RuleError(
            f"{where}: two rules are named '{twice[0]}'.",
            remedy="Give each rule a name of its own.",
            zh=f"规则“{twice[0]}”重名，请使用不同的名称。",
        )


def _winners(
    ids: pa.ChunkedArray, ranked: Sequence[ExperienceRule], flags: Flags, id_column: str
) -> pa.Table:
    first = flags.argmax(axis=1)
    at = pa.array(first)
    reasons = _reasons(ranked, flags, first)
    return pa.table(
        {
            id_column: ids,
            "rule": pa.array([rule.name for rule in ranked]).take(at),
            "offer_id": pa.array([rule.offer_id for rule in ranked]).take(at),
            "priority": pa.array([rule.priority for rule in ranked], pa.int64()).take(at),
            "score": pa.array([rule.score for rule in ranked], pa.float64()).take(at),
            "n_matched": pa.array(flags.sum(axis=1, dtype=np.int64)),
            "reason_zh": reasons["zh"],
            "reason_en": reasons["en"],
        }
    )


def _reasons(
    ranked: Sequence[ExperienceRule], flags: Flags, first: NDArray[np.intp]
) -> dict[str, pa.Array]:
    """Say for each customer why the first of his rules comes before the second."""
    rest = flags.copy()
    rest[np.arange(len(flags)), first] = False
    nobody = len(ranked)
    second = np.where(rest.any(axis=1), rest.argmax(axis=1), nobody)
    pairs, place = np.unique(first * (nobody + 1) + second, return_inverse=True)
    said = [_reason(ranked, *divmod(int(pair), nobody + 1)) for pair in pairs]
    at = pa.array(place)
    return {
        language: pa.array([reason[language] for reason in said], pa.string()).take(at)
        for language in ("zh", "en")
    }


def _reason(ranked: Sequence[ExperienceRule], first: int, second: int) -> dict[str, str]:
    if second == len(ranked):
        return {"zh": "只满足这一条规则", "en": "the only rule met"}
    one, other = ranked[first], ranked[second]
    if one.priority != other.priority:
        return {
            "zh": f"优先级 {one.priority} 先于 {other.name} 的 {other.priority}",
            "en": f"priority {one.priority} before {other.priority} of {other.name}",
        }
    if one.score != other.score:
        return {
            "zh": f"优先级相同，分值 {one.score:g} 高于 {other.name} 的 {other.score:g}",
            "en": f"same priority, score {one.score:g} above {other.score:g} of {other.name}",
        }
    return {
        "zh": f"优先级与分值相同，名称排在 {other.name} 之前",
        "en": f"same priority and score, name before {other.name}",
    }


def _with_ranks(
    winners: pa.Table, ranked: Sequence[ExperienceRule], tags: TagTable, engine: Engine
) -> pa.Table:
    """Add the place of each customer among those whom his rule won."""
    rank = np.zeros(winners.num_rows, dtype=np.int64)
    orders = {rule.name: rule.rank_by for rule in ranked if rule.rank_by}
    names = np.array(winners["rule"].to_pylist(), dtype=object)
    if orders:
        values = tags.read(engine, sorted(set(orders.values())))
        at = pc.index_in(winners[tags.id_column], value_set=values[tags.id_column])
        for name, tag in orders.items():
            mine = np.flatnonzero(names == name)
            column = values[tag].take(at).take(pa.array(mine)).combine_chunks()
            if pa.types.is_floating(column.type):  # a NaN counts as missing
                column = pc.if_else(pc.is_nan(column), None, column)
            places = pc.rank(column, "descending", tiebreaker="min")
            known = pc.is_valid(column).to_numpy(zero_copy_only=False)
            rank[mine] = np.where(known, places.to_numpy(), 0)
    column = pa.array(rank, mask=rank == 0)
    return winners.append_column("rank", column)


def _responses(
    ids: pa.ChunkedArray, responses: pa.Table | None, id_column: str
) -> tuple[Flags, Flags]:
    """Return for each id whether its response is known and whether it is one."""
    if responses is None:
        nothing = np.zeros(len(ids), dtype=np.bool_)
        return nothing, nothing
    missing = {id_column, "response"} - set(responses.column_names)
    if missing or pc.count_distinct(responses[id_column]).as_py() != responses.num_rows:
        raise RuleError(
            f"The responses need {id_column}, each once, and response.",
            remedy="Give one row per customer.",
            zh=f"响应数据需要 {id_column}（每个客户一行）和 response 两列。",
        )
    names = responses[id_column].combine_chunks().cast(ids.type)
    at = pc.index_in(ids, value_set=names)
    answer = pc.cast(responses["response"], pa.float64()).take(at)
    known = pc.is_valid(answer).to_numpy()
    hits = pc.fill_null(pc.greater(answer, 0.0), False).to_numpy()
    return known, hits


def _precision(flags: Flags, answers: tuple[Flags, Flags]) -> Precision | NotEstimable:
    known = int((flags & answers[0]).sum())
    if known == 0:
        return NotEstimable(
            {
                "zh": "规则命中的客户没有已知响应。",
                "en": "No response of a matched customer is known.",
            }
        )
    hits = int((flags & answers[1]).sum())
    return Precision(known, hits, hits / known, *wilson(hits, known))
