from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.decision import Limit, balance, global_control
from bihuan.decision.allocation.allocate import limit_usage
from bihuan.decision.assign import (
    DesignError,
    Strata,
    design_strata,
    draw_lots,
    hash_customers,
    inflate,
)
from bihuan.kernel import random_stream

IDS = pa.array([f"客户{i}" for i in range(4000)])


def one_stratum(n: int, treated: int) -> Strata:
    return Strata(("sms",), np.zeros(n, dtype=np.int64), np.array([n]), np.array([treated]))


def lots_of(seed: int, strata: Strata, ids: pa.Array = IDS) -> np.ndarray:
    return draw_lots(ids, strata, seed=seed, campaign_id="k")


def is_free_of_row_order(draw) -> bool:
    """Say whether ``draw(ids, score)`` treats the same customers in another row order."""
    rng = np.random.default_rng(0)
    score = rng.random(len(IDS))
    order = rng.permutation(len(IDS))
    first, second = draw(IDS, score), draw(IDS.take(pa.array(order)), score[order])
    return bool(np.array_equal(first[order], second))


def is_balanced(draw) -> bool:
    """Say whether the lot is free of the score, by the room's own balance table."""
    score = np.random.default_rng(0).random(len(IDS))
    lot = draw(IDS, score)
    table = balance(pa.table({"score": score}), one_stratum(len(IDS), int(lot.sum())), lot)
    return abs(table["z"][0].as_py()) < 4


class TestDrawLots:
    def test_treats_exactly_as_many_as_designed(self):
        strata = Strata(
            ("a", "b"), np.arange(4000) % 2, np.array([2000, 2000]), np.array([1800, 1000])
        )
        lot = lots_of(1, strata)
        assert [int(lot[strata.member == s].sum()) for s in (0, 1)] == [1800, 1000]
        assert strata.probability[:2].tolist() == [0.9, 0.5]

    def test_depends_on_seed_campaign_and_customer_only(self):
        strata = one_stratum(4000, 2000)
        lot = lots_of(1, strata)
        assert np.array_equal(lot, lots_of(1, strata))
        assert not np.array_equal(lot, lots_of(2, strata))
        other = draw_lots(IDS, strata, seed=1, campaign_id="other")
        assert 0.4 < (lot == other).mean() < 0.6

    def test_every_customer_has_the_same_chance(self):
        strata = one_stratum(40, 28)
        ids = IDS.slice(0, 40)
        share = np.mean([lots_of(seed, strata, ids) for seed in range(2000)], axis=0)
        deviation = np.sqrt(0.7 * 0.3 / 2000)
        assert np.abs(share - 0.7).max() < 4.5 * deviation

    def test_pairs_are_drawn_together_as_chance_says(self):
        strata = one_stratum(12, 6)
        ids = IDS.slice(100, 12)
        lots = np.array([lots_of(seed, strata, ids) for seed in range(3000)], dtype=float)
        together = (lots.T @ lots / 3000)[np.triu_indices(12, 1)]
        expected = 6 * 5 / (12 * 11)
        assert np.abs(together - expected).max() < 4.5 * np.sqrt(expected * (1 - expected) / 3000)

    def test_row_order_and_score_do_not_matter_and_the_checks_catch_those_that_do(self):
        strata = one_stratum(4000, 2000)

        def by_lot(ids, score):
            return draw_lots(ids, strata, seed=5, campaign_id="k")

        def by_row(ids, score):
            return np.arange(len(ids)) % 2 == 0

        def by_score(ids, score):
            return score > np.median(score)

        def leaning(ids, score):
            noise = hash_customers(ids, 5, "k").astype(float) / 2**64
            return noise + 0.2 * score > np.median(noise + 0.2 * score)

        assert is_free_of_row_order(by_lot)
        assert is_balanced(by_lot)
        assert not is_free_of_row_order(by_row)
        assert not is_balanced(by_score)
        assert not is_balanced(leaning)


class TestHashCustomers:
    def test_neighbours_and_chunks_do_not_matter(self):
        ids = ["a", "ab", "客户编号很长很长的一个编号", "", "c" * 40]
        whole = hash_customers(ids, 1, "x")
        assert len(set(whole.tolist())) == 5
        for i, one in enumerate(ids):
            assert hash_customers([one], 1, "x")[0] == whole[i]
        chunked = pa.chunked_array([ids[:2], ids[2:]])
        assert np.array_equal(hash_customers(chunked, 1, "x"), whole)
        assert np.array_equal(hash_customers(pa.array(["z", *ids]).slice(1), 1, "x"), whole)

    def test_bits_are_even(self):
        marks = hash_customers([f"{i:08d}" for i in range(20_000)], 3, "x")
        bits = np.unpackbits(marks.view(np.uint8)).reshape(-1, 64).mean(axis=0)
        assert np.abs(bits - 0.5).max() < 4.5 * 0.5 / np.sqrt(20_000)

    def test_refuses_a_missing_id(self):
        with pytest.raises(DesignError, match="1 customers have no id"):
            hash_customers(pa.array(["a", None]), 1, "x")


class TestGlobalControl:
    def test_has_its_share_and_larger_shares_keep_the_members(self):
        small, large = global_control(IDS, 0.05), global_control(IDS, 0.2)
        assert abs(small.mean() - 0.05) < 0.02
        assert abs(large.mean() - 0.2) < 0.03
        assert not (small & ~large).any()

    def test_is_free_of_the_lots_of_campaigns(self):
        lot, fixed = lots_of(0, one_stratum(4000, 2000)), global_control(IDS, 0.5)
        assert abs(np.corrcoef(lot, fixed)[0, 1]) < 0.06

    def test_refuses_a_share_of_one(self):
        with pytest.raises(DesignError, match=r"global_share is 1\.0"):
            global_control(IDS, 1.0)


class TestBalance:
    def test_compares_numbers_booleans_and_texts_within_strata(self):
        rng = np.random.default_rng(3)
        strata = Strata(
            ("a", "b"), np.arange(4000) % 2, np.array([2000, 2000]), np.array([1800, 1000])
        )
        lot = lots_of(8, strata)
        covariates = pa.table(
            {
                "fee": rng.random(4000) + 10 * strata.member,  # differs between strata only
                "is_senior": rng.random(4000) < 0.2,
                "city": rng.choice(["石家庄", "保定"], 4000),
                "flat": np.ones(4000),
            }
        )
        table = balance(covariates, strata, lot)
        names = ["fee", "is_senior", "city = 保定", "city = 石家庄", "flat"]
        assert table["covariate"].to_pylist() == names
        assert max(abs(z) for z in table["z"].to_pylist()) < 4
        assert max(abs(d) for d in table["difference"].to_pylist()) < 0.15

    def test_says_nothing_where_no_stratum_has_both_arms(self):
        table = balance(pa.table({"x": [1.0, 2.0]}), one_stratum(2, 2), np.array([True, True]))
        assert table["z"].to_pylist() == [None]


@st.composite
def plans(draw):
    """Draw candidates, real limits and a plan that keeps the inflated limits."""
    n, share = draw(st.integers(1, 60)), draw(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9]))
    rng = random_stream(draw(st.integers(0, 10_000)), "plan")
    channel = ["outbound", "outbound", "sms", "sms", "app"]
    limits = []
    for i in range(draw(st.integers(0, 5))):
        weight = rng.choice([0.0, 0.5, 1.0, 3.0], size=(n, 5) if rng.random() < 0.2 else 5)
        members = rng.random(n) < 0.6 if rng.random() < 0.6 else None
        bound = float(rng.integers(0, 20))
        limits.append(Limit(f"limit_{i}", "capacity", weight, bound, members))
    choice = np.full(n, -1)
    wide = inflate(limits, share)
    for i in rng.permutation(n):
        choice[i] = rng.integers(5)
        if any(limit_usage(limit, choice) > limit.bound for limit in wide):
            choice[i] = -1
    return channel, choice, limits, share


class TestDesignStrata:
    @settings(max_examples=120, deadline=None)
    @given(plan=plans(), seed=st.integers(0, 99))
    def test_no_lot_breaks_a_real_limit(self, plan, seed):
        channel, choice, limits, share = plan
        strata = design_strata(channel, choice, limits, share)
        planned = np.flatnonzero(choice >= 0)
        lot = draw_lots(IDS.take(pa.array(planned)), strata, seed=seed, campaign_id="k")
        contacts = choice.copy()
        contacts[planned[~lot]] = -1
        for limit in limits:
            assert limit_usage(limit, contacts) <= limit.bound * (1 + 1e-9)
        assert np.array_equal(np.bincount(strata.member, lot, len(strata.size)), strata.treated)

    def test_strata_are_channels_where_nothing_binds(self):
        strata = design_strata(["sms", "app"], np.array([0, 1, 0, -1, 0] * 20), [], 0.25)
        assert strata.names == ("app", "sms")
        assert strata.size.tolist() == [20, 60]
        assert strata.treated.tolist() == [15, 45]

    def test_splits_only_what_a_lot_could_break(self):
        choice = np.array([0] * 40 + [1] * 40 + [2] * 40)
        limit = Limit("offer", "maximum", np.array([1.0, 0.0, 0.0]), 36)
        strata = design_strata(["sms", "sms", "app"], choice, [limit], 0.1)
        assert strata.names == ("app", "sms · offer=0", "sms · offer=1")
        assert strata.treated.tolist() == [36, 36, 36]

    def test_a_design_that_never_splits_is_caught_by_the_limit(self, monkeypatch):
        """The defect that splitting prevents: one lot in some holds out too few of an offer."""
        choice = np.array([0] * 40 + [1] * 40)
        limit = Limit("offer", "maximum", np.array([1.0, 0.0]), 36)
        ids = IDS.slice(0, 80)

        def worst(strata: Strata) -> float:
            lots = (lots_of(seed, strata, ids) for seed in range(40))
            return max(limit_usage(limit, np.where(lot, choice, -1)) for lot in lots)

        assert worst(design_strata(["sms", "sms"], choice, [limit], 0.1)) <= 36
        monkeypatch.setattr("bihuan.decision.assign._split", lambda m, names, *_: (m, names))
        assert worst(design_strata(["sms", "sms"], choice, [limit], 0.1)) > 36

    def test_holds_out_about_the_share_in_all_even_where_strata_are_small(self):
        rng = np.random.default_rng(2)
        n = 300
        units = rng.integers(40, size=n)
        limits = [Limit(f"u{u}", "capacity", np.ones(2), 9, units == u) for u in range(40)]
        choice = np.full(n, -1)
        for u in range(40):
            choice[np.flatnonzero(units == u)[:10]] = rng.integers(
                2, size=min(10, (units == u).sum())
            )
        strata = design_strata(["sms", "app"], choice, limits, 0.1)
        held_out = 1 - strata.treated.sum() / strata.size.sum()
        assert 0.08 <= held_out <= 0.2

    def test_strata_stay_large_enough_to_be_evaluated(self):
        """Eighteen offers with their own cost in one binding budget: no crumbs of one customer."""
        rng = np.random.default_rng(7)
        offer = np.repeat(np.arange(18), 2)
        channel = ["sms", "app"] * 18
        choice = rng.choice(36, size=500, p=rng.dirichlet(np.ones(36)))
        weight = 1 + offer / 7
        budget = Limit("budget", "budget", weight, float(weight[choice].sum()) * 0.8)
        strata = design_strata(channel, choice, [budget], 0.2)
        control = strata.size - strata.treated
        usable = (control >= 2) & (strata.treated >= 2)
        assert strata.size[usable].sum() >= 0.95 * 500
        assert 0.19 <= control.sum() / 500 <= 0.23

    def test_refuses_a_share_outside_its_range(self):
        with pytest.raises(DesignError, match=r"control_share is -0\.1"):
            design_strata(["sms"], np.array([0]), [], -0.1)
