from __future__ import annotations

import importlib
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.audience import parse
from bihuan.decision import (
    Case,
    Override,
    Recommender,
    Situation,
    Wish,
    recommend,
    recommend_table,
    told_tags,
)
from bihuan.decision.recommendation.ranking import RecommendError
from bihuan.kernel import UserError

table_module = importlib.import_module("bihuan.decision.recommendation.table")


class TestRecommend:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 999), st.integers(1, 6), st.integers(1, 7), st.integers(1, 4))
    def test_is_the_sorted_list_of_what_leaves_something(self, seed, n, m, top):
        rng = np.random.default_rng(seed)
        value = np.where(rng.random((n, m)) < 0.2, np.nan, rng.integers(-3, 9, (n, m)) * 1.0)
        charge = rng.integers(0, 3, m) * 1.0
        found = recommend(value, charge, top=top)
        for i in range(n):
            net = value[i] - charge
            order = sorted((j for j in range(m) if net[j] > 0), key=lambda j: (-net[j], j))[:top]
            assert found.candidate[i].tolist() == order + [-1] * (top - len(order))
            assert found.net[i, : len(order)].tolist() == net[order].tolist()
            assert np.isnan(found.net[i, len(order) :]).all()

    def test_one_row_is_the_row_of_many(self):
        value = np.random.default_rng(3).normal(size=(50, 9))
        many = recommend(value, 0.2, top=3)
        for i in range(50):
            one = recommend(value[i : i + 1], 0.2, top=3)
            assert (one.candidate[0] == many.candidate[i]).all()

    def test_no_candidates_and_no_customers(self):
        assert recommend(np.empty((3, 0)), top=2).candidate.tolist() == [[-1, -1]] * 3
        assert recommend(np.empty((0, 4)), top=2).candidate.shape == (0, 2)

    @pytest.mark.parametrize(
        ("shape", "charge", "top"), [((3,), 0.0, 1), ((3, 2), np.zeros(3), 1), ((3, 2), 0.0, 0)]
    )
    def test_refuses_what_does_not_fit(self, shape, charge, top):
        with pytest.raises(RecommendError):
            recommend(np.zeros(shape), charge, top=top)


@pytest.fixture(scope="module")
def world(shop):
    """Six hundred customers, two campaigns, prices, and people who step in."""
    profiles, cases = shop.draw(600)

    def laid(customer: int, campaign: str, action: str, offer: str = "", channel: str = ""):
        at = datetime(2026, 11, 1, tzinfo=UTC)
        name = cases[customer].customer_id
        return Override(name, campaign, action, "经理", "客户要求", at, offer, channel)

    overrides = (
        *(laid(i, "keep", "forbid") for i in range(0, 40)),
        *(laid(i, "grow", "force", "home", "outbound") for i in range(40, 90)),
        *(laid(i, "keep", "replace", "contract", "sms") for i in range(90, 130)),
    )
    made = Recommender(shop.board(), shop.words, Situation(shop.books, overrides))
    return made, profiles, cases, shop.many(made.board, profiles, cases)


def as_rows(items, customer_id):
    return [
        (customer_id, i.rank, i.campaign_id, i.offer_id, i.channel, i.step, i.net, i.value,
         i.charge, i.propensity, i.by_hand, i.reason["zh"], i.reason["en"])
        for i in items
    ]  # fmt: skip


def rows_of(table):
    return [tuple(row.values()) for row in table.to_pylist()]


class TestOneAndMany:
    def test_agree_to_the_last_bit_words_included(self, world):
        made, profiles, cases, many = world
        table = recommend_table(made, many.cases, many.tags, moments=many.moments)
        single = [
            row
            for profile, case in zip(profiles, cases, strict=True)
            for row in as_rows(made.for_profile(profile, case=case), case.customer_id)
        ]
        assert rows_of(table) == single
        assert len(single) > 400
        told = " ".join(row[-2] for row in single)
        assert "合约将到期" in told
        assert any(row[-3] for row in single)

    def test_a_lake_without_holdings_opt_outs_and_contacts(self, world):
        made, profiles, cases, many = world
        bare = replace(many.cases, held=None, opt_out=None, contact=None, org_unit_id=None,
                       held_out={}, planned=None)  # fmt: skip
        table = recommend_table(made, bare, many.tags)
        single = [
            row
            for profile, case in zip(profiles, cases, strict=True)
            for row in as_rows(
                made.for_profile(profile, case=Case(case.customer_id)), case.customer_id
            )
        ]
        assert rows_of(table) == single

    def test_chunks_change_nothing(self, world, monkeypatch):
        made, *_, many = world
        whole = recommend_table(made, many.cases, many.tags, moments=many.moments)
        monkeypatch.setattr(table_module, "CHUNK", 6 * 77)
        assert recommend_table(made, many.cases, many.tags, moments=many.moments).equals(whole)

    def test_a_batch_that_forgets_a_gate_is_noticed(self, world, monkeypatch):
        """Seeded defect: the batch does not look at earlier contacts."""
        made, profiles, cases, many = world
        blind = replace(many.cases, contact=None)
        table = recommend_table(made, blind, many.tags, moments=many.moments)
        single = [
            row
            for profile, case in zip(profiles, cases, strict=True)
            for row in as_rows(made.for_profile(profile, case=case), case.customer_id)
        ]
        assert rows_of(table) != single

    def test_rank_per_campaign_and_per_strategy(self, world):
        made, *_, many = world
        by_campaign = recommend_table(made, many.cases, many.tags, wish=Wish(per="campaign"))
        pairs = list(
            zip(
                by_campaign["customer_id"].to_pylist(),
                by_campaign["campaign_id"].to_pylist(),
                strict=True,
            )
        )
        assert len(set(pairs)) == len(pairs)
        only = recommend_table(
            made, many.cases, many.tags, wish=Wish(channel="sms", per="strategy", top=9)
        )
        assert set(only["channel"].to_pylist()) == {"sms"}
        with pytest.raises(UserError, match="no ranking per 'city'"):
            Wish(per="city")

    def test_quoted_tags_are_what_reasons_need(self, world):
        assert set(told_tags(world[0])) == {"arpu", "dou"}


class TestForProfile:
    def test_best_first_one_channel_per_offer(self, shop):
        made = Recommender(shop.board(), shop.words)
        found = made.for_profile(shop.good_profile())
        assert [(i.offer_id, i.channel) for i in found] == [
            ("home", "outbound"), ("pack", "app"), ("contract", "outbound"),
        ]  # fmt: skip
        assert [i.net for i in found] == sorted((i.net for i in found), reverse=True)
        # 0.12 x (90 - 5) x lever 1.5 - 2
        assert found[0].value == pytest.approx(0.12 * 85 * 1.5 - 2)

    def test_prices_change_the_order(self, shop):
        dear = Recommender(shop.board(), shop.words, Situation(shop.books))
        case = Case(org_unit_id="G1")
        found = {i.offer_id: i for i in dear.for_profile(shop.good_profile(), case=case)}
        assert found["home"].charge == pytest.approx(1.7 + 0.26)
        assert found["home"].net == found["home"].value - found["home"].charge

    def test_what_is_planned_for_the_customer_is_charged_nothing(self, shop):
        made = Recommender(shop.board(), shop.words, Situation(shop.books))
        mine = Case(org_unit_id="G1", planned=(("grow", made.board.candidates[4]),))
        found = {i.offer_id: i for i in made.for_profile(shop.good_profile(), case=mine)}
        assert found["home"].charge == 0.0
        assert found["home"].net == found["home"].value

    @pytest.mark.parametrize(
        ("case", "lost"),
        [
            (Case(closed=frozenset({"all"})), {"home", "contract", "pack"}),
            (Case(held=frozenset({"p_rival"})), {"contract"}),
            (Case(held_out=frozenset({"grow"})), {"home"}),
        ],
    )
    def test_gates_are_kept(self, shop, case, lost):
        made = Recommender(shop.board(), shop.words)
        have = {i.offer_id for i in made.for_profile(shop.good_profile())}
        left = {i.offer_id for i in made.for_profile(shop.good_profile(), case=case)}
        assert have - left == lost

    def test_a_call_of_last_month_closes_the_phone_alone(self, shop):
        made = Recommender(shop.board(), shop.words)
        called = Case(contacts=(("outbound", shop.day.replace(month=10)),))
        found = made.for_profile(shop.good_profile(), case=called)
        assert {i.channel for i in found} <= {"sms", "app"}
        assert found

    def test_what_is_too_dear_is_not_suggested(self, shop):
        made = Recommender(shop.board(), shop.words)
        poor = shop.good_profile(arpu=70)  # home costs 60, above 80 % of it
        assert "home" not in {i.offer_id for i in made.for_profile(poor)}

    def test_reason_is_read_aloud_in_both_languages(self, shop):
        made = Recommender(shop.board(), shop.words)
        case = Case(moments=frozenset({"contract_ending"}))
        found = {i.offer_id: i.reason for i in made.for_profile(shop.good_profile(), case=case)}
        assert found["contract"]["zh"] == (
            "推荐“套餐contract”，不另收月费。您的情况：合约将到期、没有合约、月均消费86.50元。"
            "这是“方案keep”活动为您准备的。"
        )
        assert found["pack"]["en"] == (
            "We suggest Offer pack at 20.00 CNY a month for 12 months. What speaks for it: data "
            "per month 4.88 GB; monthly revenue 86.50 CNY. It is part of Campaign grow."
        )


class TestMatchCampaigns:
    def test_best_campaign_first_and_why_not_the_others(self, shop):
        made = Recommender(shop.board(), shop.words)
        profile = shop.good_profile(arpu=20, dou=3000.0, tenure_months=2)
        matches = made.match_campaigns(profile)
        assert [m.campaign_id for m in matches] == ["keep", "grow"] or matches[0].fell_at == ""
        by_id = {m.campaign_id: m for m in matches}
        assert by_id["keep"].fell_at == "outside_audience"  # 20 a month is below its 30
        assert by_id["keep"].fell_title["en"] == "Outside the campaign's audience"
        assert not by_id["grow"].fell_at or by_id["grow"].fell_at == "affordable"

    def test_everything_open(self, shop):
        matches = Recommender(shop.board(), shop.words).match_campaigns(shop.good_profile())
        assert [m.campaign_id for m in matches] == ["grow", "keep"]
        assert matches[0].net > matches[1].net > 0
        assert [m.fell_at for m in matches] == ["", ""]


class TestManyStrategies:
    def test_one_profile_against_two_hundred_strategies(self, shop):
        """How long it takes is measured by ``make bench NAME=decisions``."""
        audiences = [parse(f"arpu >= {k} and (not has_contract or risk >= 0.{k % 9}1)")
                     for k in range(40)]  # fmt: skip
        kinds = [(s.candidate.offer_id, s.candidate.channel) for s in shop.strategies()][:5]
        wide = [
            shop.strategy(f"c{k}", *pair, audience=audience, propensity=0.1 + 0.002 * k)
            for k, audience in enumerate(audiences)
            for pair in kinds
        ]
        made = Recommender(shop.board(wide), shop.words)
        assert len(made.board.strategies) == 200
        profiles, cases = shop.draw(200)
        found = 0
        for profile, case in zip(profiles, cases, strict=True):
            items = made.for_profile(profile, case=case)
            assert [item.net for item in items] == sorted((i.net for i in items), reverse=True)
            found += len(items)
        assert found > 100
