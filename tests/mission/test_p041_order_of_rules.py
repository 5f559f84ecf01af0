"""P041: who meets several rules, who wins and why, what another order would change."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from bihuan.audience import NotEstimable, apply_rules, load_rules, what_would_move

RULES = """
rules:
  - name: heavy_data
    title: {zh: 流量大户, en: Heavy data}
    condition: dou > 6000 and not is_disconnected
    offer_id: data_pack
    priority: 1
    rank_by: dou
  - name: talkers
    title: {zh: 通话大户, en: Talkers}
    condition: mou > 150 and not is_disconnected
    offer_id: voice_pack
    priority: 2
    score: 0.4
  - name: no_contract
    title: {zh: 无合约, en: Without contract}
    condition: not has_contract and not is_disconnected
    offer_id: keep_12
    priority: 2
    score: 0.2
"""
NAMES = ("dou", "mou", "has_contract", "is_disconnected")


def met(row) -> list[str]:
    """Say which rules a customer meets, first to last."""
    if row["is_disconnected"]:
        return []
    tests = {
        "heavy_data": row["dou"] is not None and row["dou"] > 6000,
        "talkers": row["mou"] is not None and row["mou"] > 150,
        "no_contract": not row["has_contract"],
    }
    return [name for name, holds in tests.items() if holds]


@pytest.fixture(scope="module")
def world(operator, tools, tmp_path_factory) -> SimpleNamespace:
    ws, last = operator.ws, operator.last
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(RULES, encoding="utf-8")
    rules = load_rules(path)
    rows = ws.tags(last).read(ws.engine, NAMES).to_pylist()
    return SimpleNamespace(
        ws=ws, last=last, rules=rules, rows={r["customer_id"]: r for r in rows},
        met={r["customer_id"]: met(r) for r in rows},
        report=apply_rules(rules, ws.tags(last), engine=ws.engine),
    )  # fmt: skip


@pytest.mark.mission("P041")
class TestOrder:
    """G-33: low precision, no ranking within a condition, 一个用户会满足多个条件."""

    def test_g33_who_meets_several_and_who_only_one(self, world) -> None:
        assert [c.rule.name for c in world.report.counts] == [
            "heavy_data",
            "talkers",
            "no_contract",
        ]
        for count in world.report.counts:
            name = count.rule.name
            assert count.matched == sum(name in found for found in world.met.values())
            assert count.alone == sum(found == [name] for found in world.met.values())
        several = sum(len(found) > 1 for found in world.met.values())
        assert world.report.overlap.shared == several > 0

    def test_g33_each_customer_is_told_which_rule_won_and_why(self, world) -> None:
        said = {
            ("heavy_data", "talkers"): "priority 1 before 2 of talkers",
            ("heavy_data", "no_contract"): "priority 1 before 2 of no_contract",
            ("talkers", "no_contract"): "same priority, score 0.4 above 0.2 of no_contract",
        }
        winners = world.report.winners.to_pylist()
        assert len(winners) == sum(bool(found) for found in world.met.values())
        for row in winners:
            found = world.met[row["customer_id"]]
            assert row["rule"] == found[0]
            assert row["reason_en"] == said.get(tuple(found[:2]), "the only rule met")
            assert row["reason_zh"]

    def test_g33_within_a_rule_customers_are_ranked_by_a_tag(self, world) -> None:
        mine = [row for row in world.report.winners.to_pylist() if row["rule"] == "heavy_data"]
        dou = [world.rows[row["customer_id"]]["dou"] for row in mine]
        assert [row["rank"] for row in mine] == [1 + sum(d > mine_ for d in dou) for mine_ in dou]
        others = [row for row in world.report.winners.to_pylist() if row["rule"] != "heavy_data"]
        assert {row["rank"] for row in others} == {None}  # no order was given, none is claimed

    def test_g33_what_another_order_would_change_before_it_is_changed(self, world) -> None:
        order = ["no_contract", "talkers", "heavy_data"]
        effect = what_would_move(
            world.rules, order, world.ws.tags(world.last), engine=world.ws.engine
        )
        moved: dict[tuple[str, str], int] = {}
        for found in world.met.values():
            if found:
                pair = (found[0], min(found, key=order.index))
                if pair[0] != pair[1]:
                    moved[pair] = moved.get(pair, 0) + 1
        assert {(m.source, m.target): m.customers for m in effect.moves} == moved
        assert effect.moved == sum(moved.values())
        assert isinstance(effect.expected_after, NotEstimable)

    def test_g33_history_says_which_order_brings_more(self, world) -> None:
        """Talkers said yes four times in five, the others hardly: talkers should come first."""
        answers = {}
        for i, (customer, found) in enumerate(sorted(world.met.items())):
            if found:
                answers[customer] = i % 5 != 0 if "talkers" in found else i % 10 == 0
        responses = pa.table({"customer_id": list(answers), "response": list(answers.values())})
        effect = what_would_move(
            world.rules, ["talkers", "heavy_data", "no_contract"], world.ws.tags(world.last),
            engine=world.ws.engine, responses=responses,
        )  # fmt: skip
        assert effect.expected_after > effect.expected_before
        report = apply_rules(
            world.rules, world.ws.tags(world.last), engine=world.ws.engine, responses=responses
        )
        rates = {count.rule.name: count.precision.rate for count in report.counts}
        by_hand = sum(n * rates[name] for name, n in effect.won_after.items())
        assert effect.expected_after == pytest.approx(by_hand)
