"""P041: experience rules, with precedence where a customer meets several."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pyarrow as pa
import pytest

import bihuan as bh
from bihuan.audience import NotEstimable, apply_rules, load_rules

RULES = """
rules:
  - name: mms_users
    title: {zh: 彩信用户, en: Users of MMS}
    condition: mms_count > 0 and not has_newspaper
    offer_id: newspaper_basic
    priority: 2
    score: 0.3
  - name: gotone_high
    title: {zh: 全球通高消费, en: GoTone with high spending}
    condition: brand = 'gotone' and arpu > 100 and not has_newspaper
    offer_id: newspaper_premium
    priority: 1
  - name: heavy_data
    title: {zh: 流量大户, en: Heavy data}
    condition: dou > 8000 and not has_newspaper
    offer_id: newspaper_video
    priority: 2
    score: 0.6
"""
NAMES = ("mms_count", "brand", "arpu", "dou", "has_newspaper")


def met(row: dict[str, object]) -> list[str]:
    """Say which rules a customer meets, as a person would."""
    found = []
    if row["has_newspaper"]:
        return found
    if row["brand"] == "gotone" and row["arpu"] > 100:
        found.append("gotone_high")
    if row["dou"] is not None and row["dou"] > 8000:
        found.append("heavy_data")
    if row["mms_count"] > 0:
        found.append("mms_users")
    return found  # in order of precedence: priority 1, then 0.6 before 0.3


@pytest.fixture(scope="module")
def rules(newspaper: SimpleNamespace, tools) -> SimpleNamespace:
    """The rules applied, and the customers with what they are asked."""
    ws: bh.Workspace = newspaper.ws
    path = tools.define(ws, "rules", "newspaper", RULES)
    report = ws.apply_rules("newspaper", newspaper.last)
    rows = ws.tags(newspaper.last).read(ws.engine, NAMES).to_pylist()
    return SimpleNamespace(
        ws=ws,
        last=newspaper.last,
        path=path,
        report=report,
        met={r["customer_id"]: met(r) for r in rows},
    )


@pytest.mark.mission("P041")
class TestRules:
    """G-32: 用户满足XX条件就作为目标用户: MMS > 0; GoTone and a high ARPU; no newspaper."""

    def test_g32_each_rule_finds_everyone_who_meets_it(self, rules) -> None:
        matched = {count.rule.name: count.matched for count in rules.report.counts}
        assert matched == {
            name: sum(name in found for found in rules.met.values()) for name in matched
        }
        assert all(matched.values())
        assert rules.report.base == len(rules.met)

    def test_g32_nobody_who_has_it_already_is_offered_it(self, rules, newspaper) -> None:
        assert not newspaper.holders & set(rules.report.winners["customer_id"].to_pylist())

    def test_g32_the_threshold_of_the_paper_works_as_well(self, rules, tools) -> None:
        """GoTone and ARPU > 300: hardly anybody in this town, and the report says how few."""
        text = RULES.replace("arpu > 100", "arpu > 300")
        tools.define(rules.ws, "rules", "newspaper_300", text)
        report = rules.ws.apply_rules("newspaper_300", rules.last)
        first = report.counts[0]
        assert first.rule.name == "gotone_high"
        rule = "brand = 'gotone' and arpu > 300 and not has_newspaper"
        assert first.matched == rules.ws.count(rule, rules.last).members

    def test_g32_a_condition_that_cannot_be_read_names_file_and_rule(self, rules, tools) -> None:
        text = RULES.replace("mms_count > 0 and", "mms_count > and")
        tools.define(rules.ws, "rules", "broken", text)
        with pytest.raises(bh.UserError, match=r"broken\.yaml\.rules\[0\]\.condition"):
            rules.ws.apply_rules("broken", rules.last)


@pytest.mark.mission("P041")
class TestLimitsOfRules:
    """G-33: not precise, no ranking within a condition, and a user may satisfy several."""

    def test_g33_precedence_gives_each_customer_exactly_one_offer(self, rules) -> None:
        offers = {"gotone_high": "newspaper_premium", "heavy_data": "newspaper_video",
                  "mms_users": "newspaper_basic"}  # fmt: skip
        winners = rules.report.winners.to_pylist()
        assert [(r["customer_id"], r["rule"], r["offer_id"], r["n_matched"]) for r in winners] == [
            (customer, found[0], offers[found[0]], len(found))
            for customer, found in sorted(rules.met.items())
            if found
        ]
        won = {count.rule.name: count.won for count in rules.report.counts}
        assert sum(won.values()) == len(winners)

    def test_g33_precedence_is_as_ordered_by_priority_then_score(self, rules, tools) -> None:
        assert [c.rule.name for c in rules.report.counts] == [
            "gotone_high",
            "heavy_data",
            "mms_users",
        ]
        both = next(c for c, found in rules.met.items() if found == ["heavy_data", "mms_users"])
        other = RULES.replace("priority: 2\n    score: 0.3", "priority: 1\n    score: 0.3")
        tools.define(rules.ws, "rules", "other", other)
        winners = rules.ws.apply_rules("other", rules.last).winners.to_pylist()
        assert {r["customer_id"]: r["rule"] for r in winners}[both] == "mms_users"

    def test_g33_how_often_rules_collide_is_told(self, rules) -> None:
        several = [found for found in rules.met.values() if len(found) > 1]
        some = [found for found in rules.met.values() if found]
        assert several
        assert rules.report.several_share == pytest.approx(len(several) / len(some))
        names = rules.report.overlap.names
        for i, one in enumerate(names):
            for j, other in enumerate(names):
                both = sum(one in found and other in found for found in rules.met.values())
                assert rules.report.overlap.counts[i, j] == both

    def test_g33_customers_of_one_condition_are_not_told_apart(self, rules) -> None:
        """A rule does not rank; the report does not pretend to."""
        rows = [r for r in rules.report.winners.to_pylist() if r["rule"] == "mms_users"]
        assert len({(r["priority"], r["score"]) for r in rows}) == 1

    def test_g33_how_precise_a_rule_was_is_counted_from_responses(self, rules) -> None:
        ws, matched = rules.ws, [c for c, found in rules.met.items() if "mms_users" in found]
        answers = {c: i % 5 == 0 for i, c in enumerate(matched[:150])}  # a fifth of 150 said yes
        responses = pa.table({"customer_id": list(answers), "response": list(answers.values())})
        report = apply_rules(
            load_rules(rules.path), ws.tags(rules.last), engine=ws.engine, responses=responses
        )
        found = next(c.precision for c in report.counts if c.rule.name == "mms_users")
        assert (found.known, found.hits, found.rate) == (150, 30, 0.2)
        # the interval of Wilson (1927), by hand
        z, n, p = 1.959964, 150, 0.2
        centre, half = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        assert found.low == pytest.approx((centre - half) / (1 + z * z / n), abs=1e-6)
        assert found.high == pytest.approx((centre + half) / (1 + z * z / n), abs=1e-6)

    def test_g33_without_responses_no_precision_is_claimed(self, rules) -> None:
        assert all(isinstance(c.precision, NotEstimable) for c in rules.report.counts)
