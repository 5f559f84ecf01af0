"""P040: 定性 (which tags), 定细 (and, or, not), 定量 (thresholds to the resources)."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest

import bihuan as bh
from bihuan.audience import Goal, NotEstimable, Resources, ScoreSum, learn_rates, parse


@pytest.fixture(scope="module")
def base(scored) -> SimpleNamespace:
    """The operator in September, what became of the customers in October, and plain rows."""
    ws: bh.Workspace = scored.ws
    before, now = scored.months[-2], scored.last
    names = ("has_contract", "is_disconnected", "tenure_months", "arpu", "dou")
    return SimpleNamespace(
        ws=ws,
        before=before,
        now=now,
        then=ws.tags(before).read(ws.engine, names).to_pylist(),
        later={
            row["customer_id"]: row["is_disconnected"]
            for row in ws.tags(now).read(ws.engine, ["is_disconnected"]).to_pylist()
        },
    )


@pytest.fixture(scope="module")
def ranked(base):
    goal = Goal(parse("is_disconnected"), answers=base.ws.tags(base.now))
    return base.ws.explore(base.before).rank(
        goal, within="not is_disconnected", pinned={"dou": "a traffic campaign needs it"}
    )


@pytest.mark.mission("P040")
class TestQualitative:
    """E-07: 分析历史数据或经验值确定哪些标签: by history, or by experience."""

    def test_e07_what_keeps_customers_is_found_in_history(self, ranked, base) -> None:
        """In this operator customers with a contract leave less; everybody knows it, so must it."""
        key = [tag.tag for tag in ranked.key_tags(6)]
        assert any("contract" in tag for tag in key)
        assert all(tag.pinned or tag.figures.is_real for tag in ranked.key_tags(20))

    def test_e07_the_figures_are_those_counted_by_hand(self, ranked, base) -> None:
        alive = [row for row in base.then if not row["is_disconnected"]]
        left = [row for row in alive if base.later[row["customer_id"]]]
        assert (ranked.rows, ranked.events) == (len(alive), len(left))
        found = ranked["has_contract"]
        events = [sum(r["has_contract"] is v for r in left) for v in (False, True)]
        rows = [sum(r["has_contract"] is v for r in alive) for v in (False, True)]
        assert [(b.rows, b.events) for b in found.bins] == list(zip(rows, events, strict=True))
        p = [(e + 0.5) / (sum(events) + 1) for e in events]
        q = [
            (n - e + 0.5) / (sum(rows) - sum(events) + 1) for n, e in zip(rows, events, strict=True)
        ]
        value = sum((a - b) * math.log(a / b) for a, b in zip(p, q, strict=True))
        assert found.figures.information_value == pytest.approx(value)
        best = max(e / n for e, n in zip(events, rows, strict=True))
        assert found.figures.lift == pytest.approx(best / (len(left) / len(alive)))
        assert found.missing_share == 0

    def test_e07_experience_counts_too(self, ranked) -> None:
        assert ranked.tags[0].tag == "dou"
        assert ranked.tags[0].pinned == "a traffic campaign needs it"
        assert ranked.key_tags(3)[0].tag == "dou"

    def test_e07_a_tag_that_holds_the_answer_is_named_and_not_proposed(self, base) -> None:
        told = base.ws.explore(base.now).rank(
            "is_disconnected",
            ["is_disconnected", "life_cycle_stage", "monthly_fee", "bill_amount"],
        )
        assert {tag.tag: [leak.kind for leak in tag.leaks][:1] for tag in told.tags} == {
            "is_disconnected": ["goal"],
            "life_cycle_stage": ["goal"],  # made from it
            "monthly_fee": ["source"],  # reads the status that the goal reads
            "bill_amount": [],
        }
        assert [tag.tag for tag in told.key_tags()] == ["bill_amount"]

    def test_e07_too_little_history_is_said_not_guessed(self, base) -> None:
        told = base.ws.explore(base.before).rank(
            Goal(parse("is_disconnected"), answers=base.ws.tags(base.now)),
            ["arpu"],
            within="tenure_months between 10 and 12",
        )
        assert told.events < 30
        assert isinstance(told["arpu"].figures, NotEstimable)


@pytest.mark.mission("P040")
class TestRefine:
    """E-08: 标签运算(与、或、非), with live counts."""

    def test_e08_what_each_word_costs(self, base) -> None:
        text = "(arpu >= 80 or dou >= 5000) and not has_contract and not is_disconnected"
        told = base.ws.explore(base.before).explain(text)

        def rich(row: dict) -> bool:
            return row["arpu"] >= 80 or (row["dou"] or 0) >= 5000

        rows = base.then
        free = [r for r in rows if not r["has_contract"]]
        here = [r for r in rows if not r["is_disconnected"]]
        all_three = [r for r in free if rich(r) and not r["is_disconnected"]]
        assert (told.base, told.members) == (len(rows), len(all_three))
        top = [part for part in told.conditions if part.depth == 1]
        assert [part.alone for part in top] == [sum(map(rich, rows)), len(free), len(here)]
        assert [part.after for part in top] == [
            sum(map(rich, rows)), sum(map(rich, free)), len(all_three)
        ]  # fmt: skip
        # without the last word as many more would be in
        assert top[2].last == len(all_three) - sum(map(rich, free))
        assert base.ws.count(text, base.before).members == told.members


@pytest.mark.mission("P040")
class TestQuantify:
    """E-09: 标签阀值的调整,实现资源和指标匹配."""

    PLAN = Resources(
        seats=4, days=5, contacts_per_seat_day=20, contacts_per_customer=1.6,
        budget=600.0, cost_per_contact=1.2, coupons=400,
    )  # fmt: skip
    WITHIN = "not has_contract and not is_disconnected"

    def test_e09_the_threshold_fits_seats_budget_and_coupons(self, base) -> None:
        capacity = self.PLAN.capacity()
        # 400 calls at 1.6 a customer; 600 of money at 1.92 a customer
        assert capacity.limits == {"seats": 250, "budget": 312, "coupons": 400}
        assert capacity.binding == ("seats",)
        fit = base.ws.explore(base.now).fit("churn_score", self.PLAN, self.WITHIN)
        rows = base.ws.tags(base.now).read(
            base.ws.engine, ["churn_score", "has_contract", "is_disconnected"]
        )
        scores = sorted(
            (
                r["churn_score"]
                for r in rows.to_pylist()
                if not r["has_contract"]
                and not r["is_disconnected"]
                and r["churn_score"] is not None
            ),
            reverse=True,
        )
        sizes = sorted({sum(s >= value for s in scores) for value in scores})
        assert fit.inside.size == max(n for n in sizes if n <= 250)
        assert fit.above.size == min(n for n in sizes if n > 250)
        assert base.ws.count(fit.inside.text, base.now).members == fit.inside.size

    def test_e09_ties_are_told_where_all_or_none_must_be_taken(self, base) -> None:
        fit = base.ws.explore(base.before).fit("tenure_months", self.PLAN)
        tenure = [row["tenure_months"] for row in base.then]
        at = sum(t == fit.value for t in tenure)
        assert fit.ties == at > 1
        assert fit.above.size - (fit.inside.size if fit.inside else 0) == at

    def test_e09_the_curve_shows_size_responses_and_what_binds(self, base) -> None:
        ws = base.ws
        curve = ws.explore(base.now).curve(
            "arpu", self.PLAN, self.WITHIN, expected=ScoreSum("churn_score")
        )
        assert 30 <= len(curve.points) <= 51
        names = ("arpu", "churn_score", "has_contract", "is_disconnected")
        rows = [
            r
            for r in ws.tags(base.now).read(ws.engine, names).to_pylist()
            if not r["has_contract"] and not r["is_disconnected"]
        ]
        for point in curve.points[::9]:
            inside = [r for r in rows if r["arpu"] is not None and r["arpu"] >= point.value]
            assert point.size == len(inside)
            assert point.responses == pytest.approx(sum(r["churn_score"] or 0 for r in inside))
            assert point.cost == pytest.approx(len(inside) * 1.6 * 1.2)
            assert point.fits == (len(inside) <= 250)
            assert point.binding == "seats"

    def test_e09_rates_learnt_from_one_month_foretell_the_next(self, base) -> None:
        ws = base.ws
        first = ws.tags(base.before)
        goal = Goal(parse("is_disconnected"), answers=ws.tags(base.now))
        alive = parse("not is_disconnected")
        rates = learn_rates(
            "tenure_months", goal, first, engine=ws.engine, within=alive, bins=6, monotone="bottom"
        )
        assert list(rates.rates) == sorted(rates.rates, reverse=True)  # new customers leave more
        curve = ws.explore(base.before).curve(
            "tenure_months", self.PLAN, "not is_disconnected", side="bottom", expected=rates
        )
        left = sum(base.later[r["customer_id"]] for r in base.then if not r["is_disconnected"])
        assert curve.points[-1].responses == pytest.approx(left)
