"""P034: scoring: select by a score and a condition; an implicit attribute from explicit ones."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

import bihuan as bh
from bihuan.model import (
    LabelledFrame,
    Scorecard,
    ScorecardRules,
    evaluate_scores,
    find_threshold,
    fit_scorecard,
    points_interval,
    publish_scores,
    stability_by_period,
    threshold_table,
)

CARD = """
scorecard: newspaper
title: {zh: 手机报意向, en: Interest in the mobile newspaper}
meaning: {zh: 分数越高越可能订阅, en: "The higher, the likelier to subscribe"}
owner: 增值业务组
base: 300
items:
  - tag: mms_count
    title: {zh: 彩信条数, en: MMS}
    bins: [{below: 1, points: 0}, {below: 2, points: 120}, {points: 200}]
  - tag: dou
    title: {zh: 月均流量, en: Data}
    bins: [{below: 2000, points: 0}, {below: 6000, points: 60}, {points: 110}]
    missing: 5
  - tag: brand
    values: {gotone: 90}
    other: 10
  - tag: is_suspended
    values: {true: -300, false: 0}
"""
FEATURES = ("mms_count", "dou", "brand", "is_suspended")
EXPLICIT = ("mms_count", "dou", "arpu", "tenure_months", "has_contract", "brand")


def points(row: dict[str, object]) -> float:
    """Add the points up as a clerk does with the card on paper."""
    mms, dou = row["mms_count"], row["dou"]
    total = 300 + (0 if mms < 1 else 120 if mms < 2 else 200)
    total += 5 if dou is None else 0 if dou < 2000 else 60 if dou < 6000 else 110
    total += 90 if row["brand"] == "gotone" else 10
    return total - (300 if row["is_suspended"] else 0)


@pytest.fixture(scope="module")
def scoring(newspaper: SimpleNamespace, tools) -> SimpleNamespace:
    """The customers with their points, published where tags read them."""
    ws, last = newspaper.ws, newspaper.last
    path = tools.define(ws, "scorecards", "newspaper", CARD)
    card = Scorecard.load(path)
    rows = ws.tags(last).read(ws.engine, [*FEATURES, "has_newspaper"])
    scores = card.score(rows)
    publish_scores(
        ws.lake, card.name, rows["customer_id"], scores, last, clock=ws.clock, unit="points"
    )
    ws.refresh_tags(last)
    return SimpleNamespace(ws=ws, last=last, card=card, rows=rows, scores=scores)


def labelled(world: SimpleNamespace) -> LabelledFrame:
    """Return who has the newspaper, with explicit attributes, as rows to learn from."""
    ws: bh.Workspace = world.ws
    rows = ws.tags(world.last).read(ws.engine, [*EXPLICIT, "has_newspaper"])
    label = rows["has_newspaper"].to_numpy(zero_copy_only=False)
    return LabelledFrame(
        ids=rows["customer_id"], features=rows.select(list(EXPLICIT)), label=label, as_of=world.last
    )


@pytest.mark.mission("P034")
class TestSelectByScore:
    """G-34: IF Score>500 且没有订制手机报→推荐, from set rules or from a model."""

    def test_g34_points_set_by_people(self, scoring) -> None:
        rows = scoring.rows.to_pylist()
        expected = [r["customer_id"] for r in rows if points(r) > 500 and not r["has_newspaper"]]
        rule = "newspaper_points > 500 and not has_newspaper"
        found = scoring.ws.members(rule, scoring.last)["customer_id"].to_pylist()
        assert found == expected
        assert 0 < len(expected) < len(rows) / 2

    def test_g34_points_learnt_from_who_subscribed(self, newspaper) -> None:
        frame = labelled(newspaper)
        card = fit_scorecard(frame, ScorecardRules(name="newspaper_fit"), seed=3)
        scores = card.score(frame.features, as_of=newspaper.last)
        cut = find_threshold(threshold_table(scores, label=frame.label), response=0.3)
        above = scores > cut.value
        assert cut.size == above.sum()
        assert frame.label[above].mean() >= 0.3 > frame.label.mean()
        assert {item.tag for item in card.items} >= {"mms_count", "dou"}  # so it was planted
        metrics = evaluate_scores(frame.label, card.probability(scores))
        assert metrics.auc.low > 0.6


@pytest.mark.mission("P034")
class TestImplicitAttribute:
    """G-35: 对“显性”属性进行组合生成一个新的“隐性”属性(评分)再进行筛选."""

    def test_g35_the_score_is_an_attribute_of_the_customer_like_any_other(self, scoring) -> None:
        ws = scoring.ws
        rows = scoring.rows.to_pylist()
        found = ws.tags(scoring.last).read(ws.engine, ["newspaper_points"]).to_pylist()
        assert {r["customer_id"]: r["newspaper_points"] for r in found} == {
            r["customer_id"]: points(r) for r in rows
        }
        assert ws.dictionary.lineage("newspaper_points").columns == ("score__newspaper.score",)
        snapshot = ws.view.get("score__newspaper", scoring.last)
        assert snapshot.lineage["unit"] == "points"

    def test_g35_two_customers_of_the_same_answers_have_the_same_score(self, scoring) -> None:
        answers: dict[tuple[object, ...], set[float]] = {}
        for row, score in zip(scoring.rows.to_pylist(), scoring.scores, strict=True):
            answers.setdefault(tuple(row[name] for name in FEATURES), set()).add(score)
        assert all(len(found) == 1 for found in answers.values())


@pytest.mark.mission("P034")
class TestWeaknessesAddressed:
    """G-36: hard to understand, unstable, inflexible: each has its answer."""

    def test_g36_result_understood_every_point_has_its_reason(self, scoring) -> None:
        told = scoring.card.explain(scoring.rows, top=4)
        for row, score in zip(told.to_pylist()[:200], scoring.scores, strict=False):
            assert row["points"] == score == 300 + sum(row[f"points_{k}"] for k in range(1, 5))
            assert row["en"].startswith("300 ")
            assert row["en"].endswith(f"= {score:g}")
        heavy = next(
            r for r in told.to_pylist() if r["tag_1"] == "mms_count" and r["points_1"] == 200
        )
        assert heavy["zh_1"] == "彩信条数 >= 2"

    def test_g36_stability_how_far_points_would_move_in_another_sample(self, newspaper) -> None:
        frame = labelled(newspaper)
        rules = ScorecardRules(name="newspaper_fit", max_items=2)
        card = fit_scorecard(frame, rules, seed=3)
        whole = points_interval(card, frame, rules, seed=3, replicates=60)
        few = np.flatnonzero(np.arange(frame.n) % 4 == 0)
        part = LabelledFrame(
            ids=frame.ids.take(pa.array(few)),
            features=frame.features.take(pa.array(few)),
            label=frame.label[few],
            as_of=newspaper.last,
        )
        quarter = points_interval(card, part, rules, seed=3, replicates=60)

        def width(table: pa.Table) -> float:
            rows = [r for r in table.to_pylist() if r["low"] is not None and r["rows"] >= 20]
            return float(np.mean([r["high"] - r["low"] for r in rows]))

        assert (
            1.4 < width(quarter) / width(whole) < 3.5
        )  # a quarter of the rows: about twice as wide
        assert all(
            r["low"] <= r["points"] <= r["high"] for r in whole.to_pylist() if r["low"] is not None
        )

    def test_g36_stability_month_by_month(self, newspaper, tools) -> None:
        """The same card over the same customers holds; over others it says that they are others."""
        ws = newspaper.ws
        card = Scorecard.load(tools.define(ws, "scorecards", "data_only", DATA_CARD))
        parts = [ws.tags(month).read(ws.engine, ["dou"]) for month in newspaper.months[1:]]
        scores = [card.score(part) for part in parts]
        month = np.repeat(np.arange(3, dtype=np.int32), [len(s) for s in scores])
        calm = stability_by_period(np.concatenate(scores), month)
        assert calm["stability_index"][0].as_py() == 0
        assert max(calm["stability_index"].to_pylist()) < 0.1
        assert calm["mean"].to_pylist() == pytest.approx([s.mean() for s in scores])
        moved = [
            *scores[:2],
            card.score(pa.table({"dou": [v * 8 for v in parts[2]["dou"].to_pylist()]})),
        ]
        assert (
            stability_by_period(np.concatenate(moved), month)["stability_index"][2].as_py() > 0.25
        )

    def test_g36_screening_flexible_what_any_threshold_lets_in(self, scoring) -> None:
        label = scoring.rows["has_newspaper"].to_numpy(zero_copy_only=False)
        table = threshold_table(scoring.scores, label=label)
        for row in table.to_pylist():
            above = scoring.scores > row["threshold"]
            assert row["size"] == above.sum()
            assert row["response"] == pytest.approx(label[above].mean())
            assert row["lift"] == pytest.approx(label[above].mean() / label.mean())
            assert row["captured"] == pytest.approx(label[above].sum() / label.sum())
        for seats in (50, 200, 800):
            cut = find_threshold(table, size=seats)
            found = scoring.ws.count(cut.to_text("newspaper_points"), scoring.last).members
            assert found == cut.size <= seats
            looser = max(s for s in scoring.scores if s <= cut.value)
            assert (scoring.scores >= looser).sum() > seats  # one step looser would be too many


DATA_CARD = """
scorecard: data_only
base: 0
items:
  - tag: dou
    bins:
      - {below: 1000, points: 0}
      - {below: 2000, points: 10}
      - {below: 4000, points: 20}
      - {below: 8000, points: 30}
      - {below: 16000, points: 40}
      - {points: 50}
"""
