"""Points by the uniform rules, each with its reason."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihuan.evaluation.indicator import (
    AssessmentRule,
    Band,
    IndicatorError,
    RuleItem,
    assess,
    parse_rule,
    rule_document,
)
from bihuan.kernel.document import Document

ITEMS = (
    RuleItem("reached", 0.6, 1.0, (Band(0.8, 60), Band(1.0, 100))),
    RuleItem("churn", 0.4, 0.02),
)
VERSIONS, DIRECTIONS = {"reached": 3, "churn": 1}, {"reached": "higher", "churn": "lower"}


def rule(items: tuple[RuleItem, ...] = ITEMS) -> AssessmentRule:
    return AssessmentRule("r", {"zh": "规则", "en": "r"}, "unit", items, 1, date(2026, 1, 1))


def points(**values: float | None) -> dict[str, float]:
    (card,) = assess(rule(), {"u": values}, versions=VERSIONS, directions=DIRECTIONS)
    assert card.total == pytest.approx(sum(one.points for one in card.items), abs=0.01)
    return {one.indicator: one.points for one in card.items}


def test_bands_and_proportion_give_points_by_weight() -> None:
    assert points(reached=1.0, churn=0.02) == {"reached": 60.0, "churn": 40.0}
    assert points(reached=0.99, churn=0.04) == {"reached": 36.0, "churn": 20.0}
    assert points(reached=0.79, churn=0.001) == {"reached": 0.0, "churn": 48.0}
    assert points(reached=None, churn=0.0) == {"reached": 0.0, "churn": 48.0}


def test_each_point_is_explained_with_the_version_used() -> None:
    (card,) = assess(
        rule(), {"u": {"reached": 0.9, "churn": 0.03}}, versions=VERSIONS, directions=DIRECTIONS
    )
    reached, churn = card.items
    assert (reached.version, reached.band, reached.achievement) == (3, 0.8, 0.9)
    assert "60" in reached.why["zh"]
    assert "36.00" in reached.why["en"]
    assert churn.achievement == pytest.approx(2 / 3)


def test_equals_share_a_rank_and_the_next_is_left_out() -> None:
    values = {"a": 1.0, "b": 0.85, "c": 1.0, "d": 0.1}
    cards = assess(
        rule((RuleItem("reached", 1.0, 1.0, ITEMS[0].bands),)),
        {unit: {"reached": value} for unit, value in values.items()},
        versions=VERSIONS, directions=DIRECTIONS,
    )  # fmt: skip
    assert [(c.subject_id, c.rank) for c in cards] == [("a", 1), ("c", 1), ("b", 3), ("d", 4)]


@given(st.floats(0, 5), st.floats(0, 5))
def test_more_of_what_is_better_never_gives_fewer_points(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert points(reached=low, churn=0.02)["reached"] <= points(reached=high, churn=1)["reached"]
    assert points(reached=1, churn=high)["churn"] <= points(reached=1, churn=low)["churn"]


@pytest.mark.parametrize(
    "items",
    [
        (),
        (RuleItem("a", 0.5, 1),),
        (RuleItem("a", 0.5, 1), RuleItem("a", 0.5, 1)),
        (RuleItem("a", 1.0, 0),),
        (RuleItem("a", 1.5, 1), RuleItem("b", -0.5, 1)),
        (RuleItem("a", 1.0, 1, (Band(1, 100), Band(0.5, 50))),),
    ],
)
def test_a_rule_that_is_not_whole_is_refused(items: tuple[RuleItem, ...]) -> None:
    with pytest.raises(IndicatorError):
        rule(items)


def test_a_document_says_all_of_a_rule() -> None:
    assert parse_rule(Document(rule_document(rule()), "rule")) == rule()
