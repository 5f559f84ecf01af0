"""Pack sizes are the best there are: held against every choice, and against worse methods."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.kernel import NotEstimable
from bihuan.offer import AddonTiers, TieringError, addon_tiers, tiering

needs = st.lists(st.integers(0, 60), min_size=1, max_size=14)
sizes = st.lists(st.integers(1, 60), min_size=1, max_size=7, unique=True)
weight = st.sampled_from([0.25, 0.5, 1.0, 2.0, 3.0])


def loss_of(need: np.ndarray, packs: tuple[float, ...], overbought: float, unmet: float) -> float:
    gap = need[:, None] - np.array([0.0, *packs])
    return float(np.where(gap > 0, unmet * gap, -overbought * gap).min(axis=1).sum())


def found(consumption: object, tiers: int, **more: object) -> AddonTiers:
    tiered = addon_tiers(consumption, tiers, **more)  # type: ignore[arg-type]
    assert isinstance(tiered, AddonTiers)
    return tiered


class TestAddonTiers:
    @given(needs, sizes, st.integers(1, 4), weight, weight)
    @settings(max_examples=200, deadline=None)
    def test_no_other_choice_of_sizes_loses_less(
        self, need: list[int], packs: list[int], tiers: int, overbought: float, unmet: float
    ) -> None:
        known = np.array(need, dtype=float)
        if not known.any():
            return
        tiered = found(known, tiers, sizes=packs, overbought=overbought, unmet=unmet)
        best = min(
            loss_of(known, choice, overbought, unmet)
            for count in range(tiers + 1)
            for choice in combinations(packs, min(count, len(packs)))
        )
        assert tiered.loss == pytest.approx(best)
        assert loss_of(known, tiered.sizes, overbought, unmet) == pytest.approx(best)
        assert tiered.loss_by_tiers[len(tiered.sizes)] == pytest.approx(best)

    @given(needs, sizes, st.integers(1, 4))
    @settings(max_examples=100, deadline=None)
    def test_everybody_stands_in_one_count(
        self, need: list[int], packs: list[int], tiers: int
    ) -> None:
        if not any(need):
            return
        tiered = found(need, tiers, sizes=packs)
        assert sum(tiered.customers) + tiered.without == tiered.needs == sum(n > 0 for n in need)
        tier = tiered.tier_of([float(n) for n in need])
        counts = [int((tier == k).sum()) for k in range(len(tiered.sizes))]
        assert counts == list(tiered.customers)

    @given(needs, st.integers(1, 5))
    @settings(max_examples=100, deadline=None)
    def test_one_more_tier_never_loses_more(self, need: list[int], tiers: int) -> None:
        if any(need):
            by_tiers = found(need, tiers).loss_by_tiers
            assert all(a >= b - 1e-9 for a, b in pairwise(by_tiers))

    def test_who_lacks_data_counts_more_than_who_wastes_it_if_so_weighed(self) -> None:
        need = [1000.0] * 5 + [2000.0] * 4
        assert found(need, 1).sizes == (1000.0,)
        assert found(need, 1, unmet=3).sizes == (2000.0,)

    def test_unknown_and_content_customers_do_not_move_the_sizes(self) -> None:
        tiered = found([np.nan, 0, 0, 500, 500], 1)
        assert (tiered.sizes, tiered.unknown, tiered.needs) == ((500.0,), 1, 2)
        assert tiered.tier_of([np.nan, 0, 500]).tolist() == [-1, -1, 0]

    def test_a_needless_tier_is_not_made(self) -> None:
        assert found([700, 700, 700], 3).sizes == (700.0,)

    def test_nobody_in_need_gives_a_reason(self) -> None:
        assert isinstance(addon_tiers([0, 0, np.nan], 3), NotEstimable)

    @pytest.mark.parametrize("wrong", [[-1.0], [np.inf]])
    def test_a_figure_that_cannot_be_is_refused(self, wrong: list[float]) -> None:
        with pytest.raises(TieringError, match="0 or more MB"):
            addon_tiers(wrong, 1)

    @pytest.mark.parametrize("packs", [[], [0.0], [-5.0], [np.nan], list(range(1, 1200))])
    def test_sizes_that_cannot_be_sold_are_refused(self, packs: list[float]) -> None:
        with pytest.raises(TieringError, match="sizes"):
            addon_tiers([10.0], 1, sizes=packs)

    def test_a_million_customers_are_tiered_at_once(self) -> None:
        rng = np.random.default_rng(3)
        tiered = found(rng.gamma(1.0, 3000.0, 1_000_000), 5)
        assert len(tiered.sizes) == 5

    def test_quantiles_as_sizes_are_caught_as_worse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Seeded defect: sizes at equal shares of customers, as tables often are made."""
        need = np.random.default_rng(5).gamma(0.6, 4000.0, 400)
        best = found(need, 3).loss

        def by_share(gaps: object, points: np.ndarray, tiers: int) -> object:
            at = [round(len(points) * (k + 1) / (tiers + 1)) for k in range(tiers)]
            return [0, *at], [0.0] * (tiers + 1)

        monkeypatch.setattr(tiering, "_place", by_share)
        assert found(need, 3).loss > 1.05 * best
