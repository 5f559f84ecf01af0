"""Four judgements: every planted fault moves its own fact, and nothing else outvotes it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from bihuan.decision import Candidate
from bihuan.decision.rehearsal import (
    CRITERIA,
    JUDGEMENTS,
    Assumptions,
    Certificate,
    Contacts,
    ControlDesign,
    Criterion,
    DailyCapacity,
    Fairness,
    Fatigue,
    GroupRate,
    Overlap,
    Overlaps,
    PastContacts,
    ReachStep,
    Readiness,
    Sample,
    Simulation,
    forecast,
    judge_figures,
    judge_findings,
    read_criteria,
    spread_load,
    working_days,
)
from bihuan.kernel import UserError, random_stream
from bihuan.kernel.document import Document, DocumentError

WHOLE = Sample(900, 900)
TITLE = {"zh": "甲", "en": "A"}


def judged(findings, sample=WHOLE, criteria=CRITERIA):
    return {j.name: j for j in judge_findings(findings, sample, criteria)}


class TestScore:
    @pytest.mark.parametrize(
        ("value", "score"), [(0.0, 100), (0.05, 100), (0.15, 50), (0.25, 0), (9.0, 0)]
    )
    def test_less_is_better(self, value, score):
        assert Criterion("x", "effect", TITLE, 0.05, 0.25).score(value) == pytest.approx(score)

    @pytest.mark.parametrize(("value", "score"), [(0.9, 100), (0.8, 100), (0.6, 50), (0.1, 0)])
    def test_more_is_better(self, value, score):
        assert Criterion("x", "effect", TITLE, 0.8, 0.4).score(value) == pytest.approx(score)

    def test_a_better_figure_never_scores_less(self):
        for criterion in CRITERIA:
            step = criterion.pass_at - criterion.fail_at
            line = criterion.fail_at + step * np.linspace(-1, 2, 50)
            scores = [criterion.score(value) for value in line]
            assert (np.diff(scores) >= 0).all()
            assert criterion.score(criterion.pass_at) == 100
            assert criterion.score(criterion.fail_at) == 0

    def test_a_limit_used_exactly_passes_whatever_the_rounding(self):
        assert Criterion("x", "effect", TITLE, 1.0, 1.2).score(1.0 + 1e-12) == 100

    def test_one_failed_fact_cannot_be_outvoted(self):
        good = {c.name: c.pass_at for c in CRITERIA}
        before = {j.name: j for j in judge_figures(good, {})}
        assert all((j.score, j.verdict) == (100, "pass") for j in before.values())
        for criterion in CRITERIA:
            after = {
                j.name: j for j in judge_figures(good | {criterion.name: criterion.fail_at}, {})
            }
            struck = after[criterion.judgement]
            assert (struck.verdict, struck.facts[0].name) == ("fail", criterion.name)
            assert struck.score <= 50
            assert all(
                after[name].verdict == "pass" for name in JUDGEMENTS if name != criterion.judgement
            )

    def test_what_cannot_be_told_warns_and_says_why(self, unknown):
        (effect,) = [j for j in judge_figures({"goal_chance": unknown}, {}) if j.name == "effect"]
        assert (effect.score, effect.verdict) == (50, "warn")
        assert effect.fact("goal_chance").note == unknown.reason

    def test_a_judgement_without_any_fact_is_no_pass(self):
        assert {j.verdict for j in judge_figures({}, {})} == {"warn"}

    def test_equal_thresholds_are_refused(self):
        with pytest.raises(UserError, match="passes and fails at"):
            Criterion("x", "effect", TITLE, 0.5, 0.5)


class TestThresholds:
    def test_they_come_from_the_document_and_the_others_stay(self):
        given = read_criteria(Document({"fatigue": {"pass_at": 0.5}, "overlap": False}, "r.yaml"))
        by_name = {c.name: c for c in given}
        assert (by_name["fatigue"].pass_at, by_name["fatigue"].fail_at) == (0.5, 0.25)
        assert "overlap" not in by_name
        assert by_name["gap"] in CRITERIA

    @pytest.mark.parametrize(
        ("wrong", "where"),
        [({"fatige": {}}, "r.yaml.fatige is not a known field"),
         ({"gap": {"pass_at": "low"}}, r"r.yaml.gap.pass_at must be a number"),
         ({"gap": {"pass_at": 1, "fail_at": 1}}, "r.yaml.gap passes and fails")],
    )  # fmt: skip
    def test_a_wrong_field_is_named(self, wrong, where):
        with pytest.raises(DocumentError, match=where):
            read_criteria(Document(wrong, "r.yaml"))


def over(planned: float, seats: float):
    days = working_days([(date(2026, 11, 2),) * 2])
    return spread_load({("sms", "u1"): planned}, {}, days, DailyCapacity({"sms": seats}, {}))


class TestFaults:
    """A plan without fault passes; each planted fault is found by the fact that is its own."""

    def test_without_fault_everything_passes(self, make_findings):
        for judgement in judged(make_findings()).values():
            assert judgement.verdict == "pass", judgement.facts[0]

    def faults(self):
        short = Readiness(({"zh": "需要 300 户", "en": "300 needed"},), 2, 5000.0, ())
        title = {"zh": "年龄", "en": "Age"}
        uneven = Fairness(
            "age", title, (GroupRate("young", 400, 320, 0.8, 20.0),
                           GroupRate("old", 400, 60, 0.15, 20.0)), 0.1875, 1e-9, 1.0,
        )  # fmt: skip
        dear = replace(uneven, ratio=1.0, p_value=1.0, price_ratio=0.1)
        blind = ControlDesign("accepted", 0.05, 600, 3, 0.0, 0.2, 0.3)
        live = Overlaps((Overlap("summer", 300, 100, 5),), 0.5, 0.4)
        return [
            ("feasibility", "overflow", {"load": over(600.0, 400.0)}),
            ("feasibility", "unmet", {"readiness": short}),
            ("feasibility", "budget_use", {"readiness": replace(short, unmet=(), budget=700.0)}),
            ("feasibility", "data_age", {"readiness": replace(short, unmet=(), data_age=400)}),
            ("reasonableness", "fatigue",
             {"fatigue": (Fatigue(30, 2, (100, 0, 0, 500, 0, 0), 3.5, 0.83),)}),
            ("reasonableness", "overlap", {"overlap": live}),
            ("reasonableness", "fairness", {"fairness": (uneven,)}),
            ("reasonableness", "price_fairness", {"fairness": (dear,)}),
            ("soundness", "power", {"design": blind}),
            ("soundness", "gap", {"certificate": Certificate(9.0, 10.0, 0.1, ())}),
            ("soundness", "spoilt_control", {"overlap": live}),
            ("soundness", "twin_distance", {"simulation": Simulation(600, 200, 150, 200.0, ())}),
        ]  # fmt: skip

    def test_each_is_found(self, make_findings):
        for judgement, fact, change in self.faults():
            struck = judged(make_findings(**change))[judgement]
            assert struck.fact(fact).verdict == "fail", fact
            assert struck.verdict == "fail"

    def test_the_facts_tell_what_is_behind_them(self, make_findings):
        found = {
            fact: judged(make_findings(**change))[judgement].fact(fact).note
            for judgement, fact, change in self.faults()
        }
        assert found["overflow"] == {"zh": "最紧张：sms", "en": "Tightest: sms"}
        assert found["unmet"]["zh"] == "需要 300 户"
        assert found["fairness"]["en"] == "Age: young 80.0%, old 15.0%"
        assert found["overlap"]["en"] == "summer"
        assert "more than 2 in 30 days" in found["fatigue"]["en"]

    def test_a_difference_between_groups_by_chance_is_no_unfairness(self, make_findings):
        two = (GroupRate("a", 40, 20, 0.5, 20.0), GroupRate("b", 40, 10, 0.25, 20.0))
        trait = Fairness("t", TITLE, two, 0.5, 0.04, 1.0)
        assert judged(make_findings(fairness=(trait,)))["reasonableness"].verdict == "pass"

    def test_without_any_trait_fairness_is_not_known(self, make_findings):
        fact = judged(make_findings(fairness=()))["reasonableness"].fact("fairness")
        assert fact.verdict == "warn"

    def test_a_thin_sample_warns(self, make_findings):
        last = ReachStep("hold_out", "held_out", TITLE, 1, 600, 90.0)
        sound = judged(make_findings(reach=(last,), simulation=None), Sample(20, 900))["soundness"]
        assert sound.fact("sample_error").value == pytest.approx(0.15)
        assert sound.verdict == "warn"


class TestClaims:
    """The planted defect: propensities twice too high, against a history that knows better."""

    def expect(self, claim: float, history, candidates=("a", "b")):
        k = 600
        contacts = Contacts(
            candidate=np.repeat([0, 1], k // 2), propensity=np.full(k, claim),
            margin=np.full(k, 60.0), gift=np.full(k, 5.0), cost=np.full(k, 1.0),
            metric=np.ones(k),
        )  # fmt: skip
        return forecast(
            tuple(Candidate(o, "sms") for o in candidates), contacts, history, target=0.05,
            assumptions=Assumptions(drift=0.0, draws=1000), rng=random_stream(1, "claims"),
        )  # fmt: skip

    PAST = tuple(PastContacts("old", offer, "sms", 2000, 200, 150) for offer in ("a", "b"))

    def test_twice_too_high_fails_and_shows_both_numbers(self, make_findings):
        facts = make_findings(forecast=self.expect(0.2, self.PAST), simulation=None)
        sound = judged(facts)["soundness"]
        assert sound.verdict == "fail"
        assert sound.fact("misclaim").value == pytest.approx(2.0, rel=0.05)
        assert sound.fact("misclaim").note["en"].startswith("the plan claims 120, history")
        assert sound.fact("worst_cell").verdict == "fail"

    def test_twice_too_low_fails_as_well(self, make_findings):
        facts = make_findings(forecast=self.expect(0.05, self.PAST), simulation=None)
        assert judged(facts)["soundness"].fact("misclaim").verdict == "fail"

    def test_errors_that_cancel_are_found_in_the_cells(self, make_findings):
        past = [PastContacts("old", "a", "sms", 4000, 200, 0),
                PastContacts("old", "b", "sms", 4000, 600, 0)]  # fmt: skip
        sound = judged(make_findings(forecast=self.expect(0.1, past), simulation=None))["soundness"]
        assert sound.fact("misclaim").verdict == "pass"
        assert sound.fact("worst_cell").verdict == "fail"
        assert "a · sms: claimed 10.0%, seen 5.0%" in sound.fact("worst_cell").note["en"]

    def test_a_history_too_short_to_tell_accuses_nobody(self, make_findings):
        past = [PastContacts("old", "a", "sms", 12, 1, 0)]
        sound = judged(make_findings(forecast=self.expect(0.2, past), simulation=None))["soundness"]
        assert sound.fact("misclaim").verdict == "pass"
        assert sound.fact("worst_cell").verdict == "pass"

    def test_no_history_warns_and_does_not_fail(self, make_findings):
        sound = judged(make_findings(forecast=self.expect(0.2, []), simulation=None))["soundness"]
        assert sound.fact("backing").verdict == "warn"
        assert sound.verdict == "warn"
