"""Allocation at scale: the same promises as the exact way, held on problems where all is known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from bihuan.decision import ContactRules, Lag, Limit, Pairs, Window, allocate, open_pairs
from bihuan.decision.allocation import core, solve
from bihuan.kernel import Cancelled, CancelToken, DefectError, SilentProgress, random_stream

PENALTY = 40.0


@pytest.fixture
def at_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be small enough for the exact solver as a whole."""
    monkeypatch.setattr(solve, "DIRECT", -1)
    monkeypatch.setattr(solve, "DIRECT_SETS", -1)


def market(
    n: int, seed: int, *, groups: int = 3, offers: int = 3, channels: int = 3
) -> tuple[Pairs, list[Limit]]:
    """Make a market: capacities, budgets, maxima and minima by group, a sales target."""
    rng = random_stream(seed, "test", "market")
    m = offers * channels
    offer, channel = np.arange(m) // channels, np.arange(m) % channels
    value = rng.lognormal(1.0, 0.8, (n, m)) + rng.normal(0, 0.5, (n, m))
    value[rng.random((n, m)) < 0.5] = np.nan
    group = rng.integers(0, groups, n).astype(np.uint8)
    pairs = open_pairs(value, group, groups)
    sales = rng.random((1, pairs.n_pairs)).astype(np.float64) * 0.3
    pairs = replace(pairs, measures=sales, measure_names=("sales",))
    cells = np.eye(groups, dtype=bool)
    limits = [
        Limit(f"seats {c}", "capacity", (channel == c) * 1.0, max(n // 5, 1)) for c in range(2)
    ]
    limits += [Limit("budget", "budget", 1.0 + offer, n * 0.8)]
    limits += [
        Limit(f"most {g}", "maximum", (channel == 0) * 1.0, max(n // 14, 1), cells[g])
        for g in range(groups)
    ]
    limits += [
        Limit(f"least {g}", "minimum", (channel == 1) * 1.0, n // 20, cells[g], penalty=PENALTY)
        for g in range(groups)
    ]
    limits += [
        Limit("sold", "sales", (offer == 0) * 1.0, n * 0.02, measure="sales"),
        Limit("sell", "minimum", (offer == 1) * 1.0, n * 0.01, measure="sales", penalty=PENALTY),
    ]
    return pairs, limits


def spaced(m: int, channels: int = 3) -> ContactRules:
    channel, offer = np.arange(m) % channels, np.arange(m) // channels
    lags = [Lag(channel == 0, channel == 0, 90), Lag(channel == 0, channel == 1, 5)]
    windows = (Window(channel == 1, 1),)
    return ContactRules.spaced(offer * 10, lags, most=2, windows=windows)


def optimum(
    pairs: Pairs, limits: Sequence[Limit], rules: ContactRules, *, whole: bool = True
) -> float:
    """Solve the whole problem with HiGHS, with one row per conflict; worth less penalties."""
    p, n = pairs.n_pairs, pairs.n_customers
    owner = np.repeat(np.arange(n), np.diff(pairs.start))
    candidate = pairs.candidate.astype(int)
    rows, most = _rows_of_rules(owner, candidate, rules)
    floors = [limit for limit in limits if limit.is_floor]
    matrix = np.zeros((len(rows) + len(limits), p + len(floors)))
    if rows:
        matrix[: len(rows), :p] = rows
    missing = 0
    for i, limit in enumerate(limits):
        weight = limit.weight[candidate]
        if limit.members is not None:
            weight = weight * limit.members[pairs.group[owner]]
        if limit.measure:
            weight = weight * pairs.measures[pairs.measure_names.index(limit.measure)]
        matrix[len(rows) + i, :p] = -weight if limit.is_floor else weight
        if limit.is_floor:
            matrix[len(rows) + i, p + missing] = -1
            missing += 1
        most.append(-limit.bound if limit.is_floor else limit.bound)
    cost = np.concatenate([-pairs.value.astype(float), [limit.penalty for limit in floors]])
    result = milp(
        cost,
        constraints=LinearConstraint(matrix, ub=np.array(most, dtype=float)),
        integrality=np.concatenate([np.full(p, int(whole)), np.zeros(len(floors))]),
        bounds=Bounds(0, np.concatenate([np.ones(p), np.full(len(floors), np.inf)])),
        options={"mip_rel_gap": 0},
    )
    return float(-result.fun)


def _rows_of_rules(owner: NDArray, candidate: NDArray, rules: ContactRules) -> tuple[list, list]:
    rows, most, p = [], [], len(owner)
    for i in np.unique(owner):
        own = np.flatnonzero(owner == i)
        rows.append(_row(p, own))
        most.append(rules.most)
        for window in rules.windows:
            rows.append(_row(p, own[window.members[candidate[own]]]))
            most.append(window.most)
        for a, b in itertools.combinations(own, 2):
            if rules.conflicts is not None and rules.conflicts[candidate[a], candidate[b]]:
                rows.append(_row(p, [a, b]))
                most.append(1)
    return rows, most


def _row(p: int, members: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
    row = np.zeros(p)
    row[list(members)] = 1
    return row


def worth(plan, limits: Sequence[Limit]) -> float:
    penalty = {limit.name: limit.penalty for limit in limits}
    return plan.value - sum(penalty[name] * short for name, short in plan.shortfall.items())


def require_sound(pairs: Pairs, limits: Sequence[Limit], rules: ContactRules, plan) -> None:
    """Hold a plan against the problem itself, without any of the room's own sums."""
    owner = np.repeat(np.arange(pairs.n_customers), np.diff(pairs.start))
    place = {
        (int(i), int(j)): e for e, (i, j) in enumerate(zip(owner, pairs.candidate, strict=True))
    }
    chosen = []
    for i, row in enumerate(plan.contacts):
        own = [int(j) for j in row if j >= 0]
        assert rules.allows(own)
        chosen += [place[i, j] for j in own]
    assert plan.value == pytest.approx(float(pairs.value[chosen].astype(float).sum()))
    for limit, use in zip(limits, plan.limits, strict=True):
        weight = limit.weight[pairs.candidate[chosen]]
        if limit.members is not None:
            weight = weight * limit.members[pairs.group[owner[chosen]]]
        if limit.measure:
            weight = weight * pairs.measures[0][chosen]
        used = float(weight.sum())
        assert use.usage == pytest.approx(used, abs=1e-9)
        if limit.is_floor:
            assert plan.shortfall.get(limit.name, 0.0) == pytest.approx(
                max(limit.bound - used, 0.0), abs=1e-6
            )
        else:
            assert used <= limit.bound * (1 + 1e-9) + 1e-9
    assert plan.bound >= plan.value


@pytest.mark.usefixtures("at_scale")
class TestAgainstTheTruth:
    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10_000), n=st.integers(1, 14))
    def test_single_contacts_bound_is_above_optimum_is_above_plan(self, seed, n):
        pairs, limits = market(n, seed)
        rules = ContactRules(pairs.n_candidates)
        plan = allocate(pairs, limits, tolerance=1e-6)
        require_sound(pairs, limits, rules, plan)
        best = optimum(pairs, limits, rules)
        missed = worth(plan, limits) - plan.value
        assert plan.bound + missed >= best - 1e-6
        assert worth(plan, limits) <= best + 1e-6

    @settings(max_examples=25, deadline=None)
    @given(seed=st.integers(0, 10_000), n=st.integers(1, 12))
    def test_several_contacts_bound_is_above_optimum_is_above_plan(self, seed, n):
        pairs, limits = market(n, seed)
        rules = spaced(pairs.n_candidates)
        plan = allocate(pairs, limits, rules=rules, tolerance=1e-6)
        require_sound(pairs, limits, rules, plan)
        best = optimum(pairs, limits, rules)
        missed = worth(plan, limits) - plan.value
        assert plan.bound + missed >= best - 1e-6
        assert worth(plan, limits) <= best + 1e-6

    @pytest.mark.parametrize("seed", range(4))
    def test_thousands_of_customers_are_certified(self, seed):
        pairs, limits = market(6000, seed)
        plan = allocate(pairs, limits, tolerance=1e-4)
        require_sound(pairs, limits, ContactRules(pairs.n_candidates), plan)
        assert plan.gap <= 5e-4
        assert not plan.shortfall

    @pytest.mark.parametrize("seed", range(2))
    def test_thousands_of_customers_with_two_contacts_are_certified(self, seed):
        pairs, limits = market(4000, seed)
        rules = spaced(pairs.n_candidates)
        plan = allocate(pairs, limits, rules=rules, tolerance=1e-4)
        require_sound(pairs, limits, rules, plan)
        assert plan.gap <= 1e-3
        assert (plan.contacts >= 0).all(axis=1).any(), "somebody gets two"

    @pytest.mark.parametrize("seed", range(3))
    def test_the_linear_relaxation_is_reached(self, seed):
        pairs, limits = market(400, seed)
        rules = ContactRules(pairs.n_candidates)
        plan = allocate(pairs, limits, tolerance=1e-5)
        relaxed = optimum(pairs, limits, rules, whole=False)
        assert relaxed - 1e-6 <= plan.bound <= relaxed * 1.002

    def test_samples_of_a_large_market_lead_to_the_same_answer(self, monkeypatch):
        pairs, limits = market(9000, 5)
        whole = allocate(pairs, limits, tolerance=1e-4)
        monkeypatch.setattr(solve, "SAMPLE", 1500)
        sampled = allocate(pairs, limits, tolerance=1e-4)
        require_sound(pairs, limits, ContactRules(pairs.n_candidates), sampled)
        assert sampled.bound == pytest.approx(whole.bound, rel=1e-4)
        assert sampled.value == pytest.approx(whole.value, rel=1e-3)

    def test_both_ways_agree(self, monkeypatch):
        pairs, limits = market(2500, 8)
        at_scale = allocate(pairs, limits, tolerance=1e-4)
        monkeypatch.setattr(solve, "DIRECT", 10**9)
        exact = allocate(pairs, limits, tolerance=1e-4)
        assert at_scale.value == pytest.approx(exact.value, rel=5e-4)
        assert at_scale.bound == pytest.approx(exact.bound, rel=5e-4)

    @settings(max_examples=10, deadline=None)
    @given(seed=st.integers(0, 1000), more=st.floats(1.0, 2.0))
    def test_more_capacity_never_lowers_the_bound(self, seed, more):
        pairs, limits = market(300, seed)
        before = allocate(pairs, limits, tolerance=1e-5)
        wider = [x if x.is_floor else replace(x, bound=x.bound * more) for x in limits]
        after = allocate(pairs, wider, tolerance=1e-5)
        slip = 2e-3 * before.bound  # the bound is near its least value, not at it
        assert worth(after, limits) + (after.bound - after.value) >= worth(before, limits) - slip

    @pytest.mark.parametrize("seed", range(3))
    def test_permuting_customers_changes_the_value_by_less_than_the_gap(self, seed):
        pairs, limits = market(3000, seed)
        order = random_stream(seed, "test", "order").permutation(pairs.n_customers)
        one, other = allocate(pairs, limits), allocate(pairs.take(order), limits)
        assert abs(one.value - other.value) <= max(one.gap, other.gap) * one.bound + 1e-9

    def test_the_same_twice(self):
        pairs, limits = market(3000, 3)
        one, other = allocate(pairs, limits), allocate(pairs, limits)
        assert np.array_equal(one.contacts, other.contacts)
        assert one.prices == other.prices


@pytest.mark.usefixtures("at_scale")
class TestEdges:
    def test_equal_customers_by_the_thousand(self):
        """Everybody is worth the same: prices alone cannot tell who."""
        pairs = open_pairs(np.full((5000, 2), 3.0))
        limits = [Limit("seats", "capacity", np.array([1.0, 0.0]), 700),
                  Limit("texts", "capacity", np.array([0.0, 1.0]), 1300)]  # fmt: skip
        plan = allocate(pairs, limits)
        assert plan.value == pytest.approx(6000.0)
        assert plan.gap <= 1e-4

    @pytest.mark.parametrize("levels", [1, 6])
    def test_few_levels_of_value_and_many_limits(self, levels):
        """Demand is a staircase at the optimum; a plain descent does not find down."""
        pairs, limits = market(12_000, 9)
        rng = random_stream(9, "test", "levels")
        steps = np.linspace(2.0, 9.0, levels)
        level = steps[rng.integers(0, levels, (pairs.n_candidates,))]
        value = level[pairs.candidate]
        if levels > 1:
            value = steps[np.searchsorted(steps, np.minimum(pairs.value, 8.9))]
        tied = replace(pairs, value=value)
        plan = allocate(tied, limits, tolerance=1e-3)
        require_sound(tied, limits, ContactRules(pairs.n_candidates), plan)
        assert plan.gap <= 1e-3

    def test_one_offer_on_several_days_with_seats_each_day(self):
        """The same value on every day: seats of each day are filled all the same."""
        rng = random_stream(1, "test", "days")
        worths = rng.lognormal(1, 1, 3000)
        pairs = open_pairs(np.repeat(worths[:, None], 5, axis=1))
        limits = [Limit(f"day {d}", "capacity", np.eye(5)[d], 200) for d in range(5)]
        plan = allocate(pairs, limits, tolerance=1e-4)
        assert plan.value == pytest.approx(np.sort(worths)[-1000:].sum(), rel=1e-4)

    def test_a_limit_of_nothing_shuts_its_candidates(self):
        pairs, limits = market(800, 2)
        limits[0] = replace(limits[0], bound=0.0)
        plan = allocate(pairs, limits)
        require_sound(pairs, limits, ContactRules(pairs.n_candidates), plan)
        assert plan.limits[0].usage == 0

    def test_nobody_and_nothing(self):
        assert allocate(open_pairs(np.full((40, 3), np.nan)), []).value == 0.0
        assert allocate(open_pairs(np.ones((40, 3))), []).value == 40.0

    def test_minimums_that_cannot_be_met_are_missed_by_the_least_and_named(self):
        value = np.full((100, 2), np.nan)
        value[:30, 0] = 1.0
        value[:, 1] = 5.0
        least = Limit("calls", "minimum", np.array([1.0, 0.0]), 50, unit="call")
        plan = allocate(open_pairs(value), [least])
        assert dict(plan.shortfall) == {"calls": pytest.approx(20.0)}
        assert plan.limits[0].usage == 30
        assert plan.value == pytest.approx(30 * 1.0 + 70 * 5.0)

    def test_a_measure_far_above_what_samples_show(self, monkeypatch):
        """The slack of a charge must hold for everybody, not for those who were drawn."""
        pairs, limits = market(4000, 6)
        monkeypatch.setattr(solve, "SAMPLE", 400)
        amounts = pairs.measures.copy()
        rare = np.arange(7, pairs.n_pairs, 997)
        amounts[0, rare] = 20.0
        heavy = replace(pairs, measures=amounts)
        plan = allocate(heavy, limits, tolerance=1e-3)
        require_sound(heavy, limits, ContactRules(pairs.n_candidates), plan)
        slack: list[float] = []
        honest = solve.gather_core

        def watched(blocks, terms, prices, width, **rest):
            if isinstance(blocks, list):  # the last undecided, taken from the core
                return honest(blocks, terms, prices, width, **rest)
            slack.append(float(width.max()))
            return honest(blocks, terms, prices, width, **rest)

        monkeypatch.setattr(solve, "gather_core", watched)
        allocate(heavy, limits, tolerance=1e-3)
        with_rare = slack.copy()
        slack.clear()
        amounts[0, rare] = 0.1
        allocate(replace(pairs, measures=amounts), limits, tolerance=1e-3)
        assert with_rare[0] > 2 * slack[0]

    def test_single_precision_is_read_as_it_is(self):
        pairs, limits = market(1000, 4)
        single = replace(pairs, value=pairs.value.astype(np.float32))
        plan = allocate(single, limits)
        require_sound(single, limits, ContactRules(pairs.n_candidates), plan)

    def test_it_can_be_stopped(self):
        pairs, limits = market(2000, 4)
        token = CancelToken()
        token.cancel()
        with pytest.raises(Cancelled):
            allocate(pairs, limits, progress=SilentProgress(token))


@pytest.mark.usefixtures("at_scale")
class TestSeededDefects:
    """Each promise is broken on purpose, and the check has to notice."""

    def test_fixed_customers_who_are_not_counted(self, monkeypatch):
        honest = core.gather_core

        def forgetful(*args, **kwargs):
            found = honest(*args, **kwargs)
            crowd = replace(found.crowd, fixed_use=0.0 * found.crowd.fixed_use)
            return replace(found, crowd=crowd)

        pairs, limits = market(3000, 1)
        monkeypatch.setattr(solve, "gather_core", forgetful)
        with pytest.raises(DefectError, match="breaks the limits"):
            allocate(pairs, limits)

    def test_rules_that_are_not_kept(self, monkeypatch):
        pairs, limits = market(500, 1)
        rules = spaced(pairs.n_candidates)
        loose = ContactRules(pairs.n_candidates, most=2)
        monkeypatch.setattr(ContactRules, "compiled", lambda _: _compiled(loose))
        with pytest.raises(DefectError, match="gives one customer"):
            allocate(pairs, limits, rules=rules)

    def test_a_bound_that_is_too_low(self, monkeypatch):
        honest = solve.prove

        def proud(*args, **kwargs):
            found = honest(*args, **kwargs)
            return replace(found, bound=0.9 * found.bound)

        monkeypatch.setattr(solve, "prove", proud)
        pairs, limits = market(3000, 1)
        with pytest.raises(DefectError, match="above"):
            allocate(pairs, limits)

    def test_prices_that_stop_early_fail_the_certificate(self, monkeypatch):
        pairs, limits = market(6000, 2)
        assert allocate(pairs, limits, tolerance=1e-3).proof == "duality"
        monkeypatch.setattr(solve, "STEPS", 1)
        monkeypatch.setattr(solve, "ROUGH", np.inf)
        monkeypatch.setattr(solve, "ROUNDS", 1)
        poor = allocate(pairs, limits, tolerance=1e-3)
        require_sound(pairs, limits, ContactRules(pairs.n_candidates), poor)
        assert poor.gap > 1e-3
        assert poor.proof == "none"


_compiled = ContactRules.compiled
