"""Claims against history: what is learnt from it, and that its doubt is the right one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from bihuan.decision.rehearsal import Assumptions, HistoryError, PastContacts, calibrate
from bihuan.decision.rehearsal.calibrate import centre_of
from bihuan.kernel import UserError, random_stream

CALM = Assumptions(drift=0.0, draws=2000)
CELLS = [(offer, channel) for offer in "abc" for channel in ("outbound", "sms", "app")]


def rates(claims, history, assumptions=CALM, seed=1):
    """Return the drawn rates, shape (draws, cells)."""
    found = calibrate(
        claims, history, assumptions=assumptions, rng=random_stream(seed, "calibrate")
    )
    return expit(logit(np.array(list(claims.values()))) + found.shift)


class TestLearning:
    def test_without_history_the_claim_is_expected_and_doubtful(self):
        drawn = rates({("a", "sms"): 0.1}, [])
        assert drawn.mean() == pytest.approx(0.1, abs=0.004)
        low, high = np.quantile(drawn, [0.05, 0.95])
        assert low < 0.05 < 0.17 < high

    def test_much_history_outweighs_the_claim(self):
        past = [PastContacts("old", "a", "sms", 20_000, 1_000, 800)]
        drawn = rates({("a", "sms"): 0.1}, past)
        assert drawn.mean() == pytest.approx(0.05, abs=0.001)
        # the doubt left is that of the count: sqrt(0.05 * 0.95 / 20000)
        assert drawn.std() == pytest.approx(0.00154, rel=0.08)

    def test_a_cell_never_tried_learns_from_its_channel_and_its_offer(self):
        claims = {("a", "sms"): 0.1, ("b", "sms"): 0.1, ("a", "app"): 0.1, ("b", "app"): 0.1}
        past = [PastContacts("old", "a", "sms", 20_000, 1_000, 800)]
        means = dict(zip(claims, rates(claims, past).mean(axis=0), strict=True))
        assert means["a", "sms"] < means["b", "sms"] < means["b", "app"] < 0.1
        assert means["a", "app"] < means["b", "app"]

    def test_routine_contacts_say_less_than_the_offers_own(self):
        claims = {("a", "sms"): 0.1}
        own = rates(claims, [PastContacts("old", "a", "sms", 1000, 50, 0)])
        routine = rates(claims, [PastContacts("old", "", "sms", 1000, 50, 0)])
        assert own.mean() < routine.mean() < 0.1
        assert own.std() < routine.std()

    def test_other_channels_say_nothing(self):
        claims = {("a", "sms"): 0.1}
        other = rates(claims, [PastContacts("old", "a", "hall", 1000, 50, 0)])
        assert np.array_equal(other, rates(claims, []))

    def test_a_history_without_any_yes_is_no_rate_of_nought(self):
        drawn = rates({("a", "sms"): 0.1}, [PastContacts("old", "a", "sms", 40, 0, 0)])
        assert drawn.min() > 0
        assert drawn.mean() < 0.08

    def test_campaigns_that_differ_teach_drift(self):
        claims = {("a", "sms"): 0.1}
        steady = [PastContacts(f"k{i}", "a", "sms", 5000, 500, 0) for i in range(6)]
        moving = [
            PastContacts(f"k{i}", "a", "sms", 5000, n, 0)
            for i, n in enumerate((330, 700, 420, 610, 380, 660))
        ]
        prior = Assumptions(drift=0.2, draws=2000)
        calm, wild = (
            calibrate(claims, past, assumptions=prior, rng=random_stream(1, "calibrate"))
            for past in (steady, moving)
        )
        assert calm.drift < 0.05
        assert wild.drift > 0.2
        assert wild.shift.std() > 3 * calm.shift.std()

    def test_the_same_stream_gives_the_same_draws(self):
        past = [PastContacts("old", "a", "sms", 500, 20, 0)]
        first, second = (rates({("a", "sms"): 0.1}, past, seed=4) for _ in range(2))
        assert np.array_equal(first, second)


class TestRefusal:
    @pytest.mark.parametrize("counts", [(10, 11, 0), (10, 5, 6), (0, 0, 0), (10, -1, 0)])
    def test_counts_that_contradict_each_other(self, counts):
        with pytest.raises(HistoryError, match="'spring'"):
            PastContacts("spring", "a", "sms", *counts)

    @pytest.mark.parametrize(
        "wrong", [{"common": -1.0}, {"level": 1.0}, {"draws": 5}], ids=lambda w: next(iter(w))
    )
    def test_impossible_assumptions(self, wrong):
        with pytest.raises(UserError, match="impossible"):
            Assumptions(**wrong)


class TestCentre:
    @pytest.mark.parametrize("rate", [0.01, 0.2, 0.5, 0.9])
    @pytest.mark.parametrize("spread", [0.0, 0.5, 1.5])
    def test_a_doubtful_rate_is_the_given_one_on_average(self, rate, spread):
        centre = centre_of(np.array([logit(rate)]), np.array([spread**2]))
        z = np.random.default_rng(0).standard_normal(400_000)
        assert expit(centre[0] + spread * z).mean() == pytest.approx(rate, rel=0.02)


def trial(seed: int, contacts: int, campaigns: int, drift: float, assumptions: Assumptions) -> bool:
    """Draw a world as the assumptions say, let history happen, and see whether 90 % holds."""
    rng = random_stream(seed, "world")
    claims = dict(zip(CELLS, rng.uniform(0.03, 0.3, len(CELLS)), strict=True))
    z = [rng.standard_normal(k) for k in (1, 3, 3, 9)]
    shift = assumptions.common * z[0] + assumptions.cell * z[3]
    shift = shift + np.repeat(assumptions.offer * z[1], 3) + np.tile(assumptions.channel * z[2], 3)
    variance = (
        assumptions.common**2 + assumptions.offer**2 + assumptions.channel**2 + assumptions.cell**2
    )
    truth = centre_of(logit(np.array(list(claims.values()))), np.full(9, variance)) + shift
    history = []
    for k in range(campaigns):
        moved = truth + drift * rng.standard_normal()
        for cell, value in zip(CELLS, moved, strict=True):
            if rng.random() < 0.7:
                yes = int(rng.binomial(contacts, expit(value)))
                history.append(PastContacts(f"k{k}", *cell, contacts, yes, 0))
    drawn = calibrate(claims, history, assumptions=assumptions, rng=rng).shift
    rate = expit(logit(np.array(list(claims.values()))) + drawn).mean(axis=1)
    real = expit(truth + drift * rng.standard_normal()).mean()
    low, high = np.quantile(rate, [0.05, 0.95])
    return bool(low <= real <= high)


def coverage(n: int, *setting) -> float:
    return float(np.mean([trial(seed, *setting) for seed in range(n)]))


class TestCoverage:
    """The 90 % interval of the rates holds 90 % of worlds; 400 of them have an error of 1.5 %."""

    @pytest.mark.parametrize(("contacts", "campaigns"), [(300, 1), (20, 1), (60, 3), (1, 0)])
    def test_it_is_nominal(self, contacts, campaigns):
        quick = Assumptions(drift=0.0, draws=600)
        assert 0.855 <= coverage(400, contacts, campaigns, 0.0, quick) <= 0.945

    def test_it_is_nominal_when_campaigns_drift(self):
        quick = Assumptions(drift=0.25, draws=600)
        assert 0.84 <= coverage(300, 400, 4, 0.17, quick) <= 0.96

    def test_the_check_catches_doubt_that_was_left_out(self, monkeypatch):
        from bihuan.decision.rehearsal.calibrate import _Process

        real = _Process.fit

        def sure(self, drift):
            fit = real(self, drift)
            return type(fit)(fit.mean, fit.root * 0.5, fit.evidence)

        monkeypatch.setattr(_Process, "fit", sure)
        assert coverage(200, 300, 1, 0.0, Assumptions(drift=0.0, draws=600)) < 0.75

    def test_the_check_catches_drift_that_was_left_out(self):
        calm = Assumptions(drift=0.0, draws=600)
        assert coverage(200, 400, 4, 0.25, calm) < 0.6
