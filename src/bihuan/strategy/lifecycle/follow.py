"""Customers along the life cycle: who is where, who moved, how long they stay."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.data import Engine
from bihuan.kernel import NotEstimable
from bihuan.strategy.cube import NOWHERE, read_rule
from bihuan.strategy.lifecycle.place import place_customers
from bihuan.strategy.lifecycle.stage import LifeCycle
from bihuan.tag import TagTable

VALUE_TAG = "arpu"
LONGEST_STAY = 120.0
"""Months beyond which a stay is not believed: ten years."""
_ENOUGH = 30


@dataclass(frozen=True, slots=True)
class StageFacts:
    """What is known of the customers of one stage.

    Parameters
    ----------
    code, title
        Of the stage.
    size
        Customers.
    mean_value
        Mean monthly revenue of those whose revenue is known, in the workspace's currency.
    leaving_rate
        Of those in the stage at the earlier date who could leave, the share that has left per
        month, 0..1.
    months_to_stay
        Expected months on the network at that rate, at most 120.
    lifetime_value
        Revenue to come at these two, in the workspace's currency.
    strategies
        Customers by strategy that serves them.
    """

    code: str
    title: Mapping[str, str]
    size: int
    mean_value: float | NotEstimable
    leaving_rate: float | NotEstimable
    months_to_stay: float | NotEstimable
    lifetime_value: float | NotEstimable
    strategies: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class LifeCycleReport:
    """All customers along the life cycle.

    Parameters
    ----------
    as_of, earlier
        Date of the tags, and the one it is compared with; None if there is none.
    stages
        In the order of the life cycle; customers in no stage come last, under ``none``.
    moves
        Customers by stage at the earlier date and stage now.
    pending
        Rules that were read without some tags: which, by stage or strategy.
    """

    as_of: date
    earlier: date | None
    stages: tuple[StageFacts, ...]
    moves: Mapping[tuple[str, str], int]
    pending: Mapping[str, tuple[str, ...]]

    def stage(self, code: str) -> StageFacts:
        """Return the facts of one stage."""
        return next(stage for stage in self.stages if stage.code == code)


def follow_life_cycle(
    life_cycle: LifeCycle,
    tags: TagTable,
    *,
    engine: Engine,
    earlier: TagTable | None = None,
    value_tag: str = VALUE_TAG,
) -> LifeCycleReport:
    """Describe the stages, and how customers moved between them.

    Parameters
    ----------
    life_cycle
        Stages and strategies.
    tags
        Tag values at one date.
    engine
        Runs the queries.
    earlier
        Tag values of an earlier date; without them nothing is said about staying.
    value_tag
        Numeric tag of a customer's monthly revenue.

    Returns
    -------
    LifeCycleReport
        A stage of fewer than 30 customers at the earlier date gives no rate.
    """
    now = place_customers(life_cycle, tags, engine, [value_tag])
    moves: dict[tuple[str, str], int] = {}
    at_risk: dict[tuple[str, str], int] = {}
    if earlier is not None:
        before = place_customers(life_cycle, earlier, engine)
        moves = _moves(before, now, tags.id_column)
        at_risk = _moves(before.filter(before["is_base"]), now, tags.id_column)
    codes = [*(stage.code for stage in life_cycle.in_order), NOWHERE]
    months = 1.0 if earlier is None else max(1.0, (tags.as_of - earlier.as_of).days / 30.4375)
    facts = [_facts(life_cycle, code, now, at_risk, (value_tag, months)) for code in codes]
    return LifeCycleReport(
        as_of=tags.as_of,
        earlier=None if earlier is None else earlier.as_of,
        stages=tuple(fact for fact in facts if fact.code != NOWHERE or fact.size),
        moves=moves,
        pending=_pending(life_cycle, tags),
    )


def _facts(
    life_cycle: LifeCycle,
    code: str,
    now: pa.Table,
    at_risk: Mapping[tuple[str, str], int],
    measure: tuple[str, float],
) -> StageFacts:
    value_tag, months = measure
    if code == NOWHERE:
        here = now.filter(pc.is_null(now["stage"]))
    else:
        here = now.filter(pc.equal(now["stage"], code).fill_null(False))
    mean = pc.mean(here[value_tag].cast(pa.float64())).as_py()
    none = NotEstimable({"zh": "没有已知的消费。", "en": "No revenue is known."})
    value: float | NotEstimable = none if mean is None else float(mean)
    rate = _leaving_rate(code, at_risk, months)
    stay: float | NotEstimable = rate
    if isinstance(rate, float):
        stay = LONGEST_STAY if rate == 0 else min(LONGEST_STAY, 1 / rate)
    worth: float | NotEstimable = stay
    if isinstance(stay, float):
        worth = value if isinstance(value, NotEstimable) else value * stay
    counts = pc.value_counts(here["strategy"].drop_null()).to_pylist()
    title = {"zh": "未归入", "en": "In no stage"}
    return StageFacts(
        code=code,
        title=title if code == NOWHERE else life_cycle.stage(code).title,
        size=here.num_rows,
        mean_value=value,
        leaving_rate=rate,
        months_to_stay=stay,
        lifetime_value=worth,
        strategies={row["values"]: row["counts"] for row in counts},
    )


def _leaving_rate(
    code: str, at_risk: Mapping[tuple[str, str], int], months: float
) -> float | NotEstimable:
    if code == "leave":
        return NotEstimable({"zh": "该阶段客户已经离网。", "en": "They have left already."})
    stood = sum(n for (before, _), n in at_risk.items() if before == code)
    if stood < _ENOUGH:
        return NotEstimable(
            {"zh": f"较早日期该阶段只有 {stood} 户。", "en": f"Only {stood} were there before."}
        )
    left = sum(n for (before, after), n in at_risk.items() if before == code and after == "leave")
    return 1 - math.pow(1 - left / stood, 1 / months)


def _moves(before: pa.Table, now: pa.Table, id_column: str) -> dict[tuple[str, str], int]:
    first = before.select([id_column, "stage"]).rename_columns([id_column, "before"])
    joined = first.join(now.select([id_column, "stage"]), id_column, join_type="inner")
    counted = joined.group_by(["before", "stage"]).aggregate([([], "count_all")])
    return {
        (row["before"] or NOWHERE, row["stage"] or NOWHERE): row["count_all"]
        for row in counted.to_pylist()
    }


def _pending(life_cycle: LifeCycle, tags: TagTable) -> dict[str, tuple[str, ...]]:
    rules = {f"stage {stage.code}": stage.who for stage in life_cycle.stages}
    rules |= {f"strategy {s.strategy_id}": s.who for s in life_cycle.strategies}
    rules |= {f"sign {sign.code}": sign.who for sign in life_cycle.signs}
    found = {name: read_rule(rule, tags).pending for name, rule in rules.items()}
    return {name: pending for name, pending in found.items() if pending}
