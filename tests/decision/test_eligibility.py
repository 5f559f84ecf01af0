from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.decision import (
    PHASES,
    Candidate,
    Stage,
    exclusion_stage,
    offer_stage,
    opt_out_stage,
    reach_stage,
    run_funnel,
    suppression_stage,
)
from bihuan.decision.eligibility import FunnelError

CANDIDATES = [
    Candidate("contract", "outbound"),
    Candidate("contract", "sms"),
    Candidate("pack", "sms"),
]
IDS = pa.array(["a", "b", "c", "d"])
TITLE = {"zh": "环节", "en": "stage"}


class TestRunFunnel:
    @settings(max_examples=60, deadline=None)
    @given(data=st.data(), n=st.integers(0, 12), m=st.integers(0, 4), k=st.integers(0, 5))
    def test_counts_add_up_and_every_reason_is_the_last_loss(self, data, n, m, k):
        rng = np.random.default_rng(data.draw(st.integers(0, 999)))
        stages = [
            Stage(f"s{i}", TITLE, rng.random((n, m) if rng.random() < 0.6 else n) < 0.7)
            for i in range(k)
        ]
        funnel = run_funnel((n, m), stages)
        keep, reasons = np.ones((n, m), dtype=bool), funnel.reason()
        alive = keep.any(axis=1)
        for i, (stage, count) in enumerate(zip(stages, funnel.counts, strict=True)):
            keep = keep & (stage.keep if stage.keep.ndim == 2 else stage.keep[:, None])
            lost = alive & ~keep.any(axis=1)
            assert count.customers_in == alive.sum()
            assert count.customers_dropped == lost.sum()
            assert (reasons[lost] == i).all()
            alive = keep.any(axis=1)
            assert (count.customers_left, count.pairs_left) == (alive.sum(), keep.sum())
        assert np.array_equal(funnel.keep, keep)
        assert (reasons[alive] == -1).all()
        if m:
            assert n * m - sum(c.pairs_dropped for c in funnel.counts) == keep.sum()

    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 999), n=st.integers(0, 12), m=st.integers(0, 4))
    def test_phases_run_in_order_and_add_up_to_the_stages(self, seed, n, m):
        rng = np.random.default_rng(seed)
        phases = list(PHASES)
        stages = [
            Stage(f"s{i}", TITLE, rng.random((n, m)) < 0.8, phases[rng.integers(5)])
            for i in range(6)
        ]
        funnel = run_funnel((n, m), stages)
        ran = [phases.index(count.phase) for count in funnel.counts]
        assert ran == sorted(ran)
        by_phase = funnel.by_phase()
        assert [count.name for count in by_phase] == phases
        alive = n if m else 0
        for count in by_phase:
            inside = [c for c in funnel.counts if c.phase == count.name]
            assert count.customers_in == alive
            assert count.customers_dropped == sum(c.customers_dropped for c in inside)
            assert count.pairs_dropped == sum(c.pairs_dropped for c in inside)
            alive = count.customers_left
        assert alive == funnel.keep.any(axis=1).sum()

    def test_a_funnel_in_the_order_given_would_charge_the_wrong_phase(self):
        """Seeded defect: the value gate is given first and would take what the opt-out takes."""
        nobody = np.zeros(2, dtype=bool)
        funnel = run_funnel((2, 1), [Stage("no_value", TITLE, nobody),
                                     Stage("opted_out", TITLE, nobody)])  # fmt: skip
        assert [(c.name, c.customers_dropped) for c in funnel.counts] == [
            ("opted_out", 2), ("no_value", 0),
        ]  # fmt: skip
        assert {funnel.counts[i].name for i in funnel.reason()} == {"opted_out"}

    def test_a_phase_that_there_is_not_is_refused(self):
        with pytest.raises(FunnelError, match="belongs to no phase 'luck'"):
            Stage("a", TITLE, np.ones(2, dtype=bool), "luck")

    def test_refuses_masks_that_do_not_fit(self):
        with pytest.raises(FunnelError, match=r"'a' has a mask bool of shape \(3,\)"):
            run_funnel((4, 2), [Stage("a", TITLE, np.ones(3, dtype=bool))])
        with pytest.raises(FunnelError, match="int64"):
            run_funnel((2, 2), [Stage("a", TITLE, np.ones(2, dtype=np.int64))])
        with pytest.raises(FunnelError, match=r"\['a'\]"):
            run_funnel((2, 2), [Stage("a", TITLE, np.ones(2, dtype=bool))] * 2)


class TestOfferStage:
    def test_spreads_members_over_the_offers_candidates(self):
        members = {"contract": np.array([1, 0, 1, 0], bool), "pack": np.array([0, 0, 1, 1], bool)}
        keep = offer_stage(CANDIDATES, members).keep.astype(int).tolist()
        assert keep == [[1, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 1]]

    def test_refuses_an_offer_without_members(self):
        with pytest.raises(FunnelError, match="offer 'pack'"):
            offer_stage(CANDIDATES, {"contract": np.ones(4, bool)})


class TestReachStage:
    def test_keeps_reachable_channels(self):
        reachable = {"outbound": np.array([0, 1, 1, 1], bool), "sms": np.ones(4, bool)}
        assert reach_stage(CANDIDATES, reachable).keep[0].tolist() == [False, True, True]


class TestExclusionStage:
    def test_takes_out_offers_whose_excluded_product_is_held(self):
        holding = pa.table(
            {
                "customer_id": ["a", "b", "c", "stranger"],
                "product_id": ["p24", "p24", "other", "p24"],
                "status": ["active", "ended", "active", "active"],
            }
        )
        stage = exclusion_stage(CANDIDATES, IDS, holding, {"contract": ["p24", "p12"]})
        assert stage.keep.astype(int).tolist() == [[0, 0, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1]]

    def test_without_exclusions_or_holdings_everything_stays(self):
        empty = pa.table(
            {"customer_id": pa.array([], "string"), "product_id": pa.array([], "string")}
        )
        assert exclusion_stage(CANDIDATES, IDS, empty, {"contract": ["p24"]}).keep.all()
        assert exclusion_stage(CANDIDATES, IDS, empty, {}).keep.all()


class TestOptOutStage:
    def test_honours_channel_all_and_profiling(self):
        rows = pa.table(
            {
                "customer_id": ["a", "b", "c", "stranger"],
                "kind": ["no_marketing", "no_marketing", "no_profiling", "no_marketing"],
                "channel": ["sms", "all", "app", "all"],
            }
        )
        keep = opt_out_stage(CANDIDATES, IDS, rows).keep.astype(int).tolist()
        assert keep == [[1, 0, 0], [0, 0, 0], [0, 0, 0], [1, 1, 1]]


class TestSuppressionStage:
    def test_takes_out_the_suppressed(self):
        assert suppression_stage(np.array([True, False])).keep.tolist() == [False, True]
