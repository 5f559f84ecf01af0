from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bihuan.decision import decide, explain, suppression_stage
from bihuan.kernel import UserError


@pytest.fixture
def plan(make_inputs, clock):
    inputs = make_inputs(n=400)
    suppressed = np.arange(400) < 5
    return decide(replace(inputs, stages=(suppression_stage(suppressed),)), seed=1, clock=clock)


def first_of(plan, **wanted: str) -> str:
    for row in plan.decisions.to_pylist():
        if all(row[name] == value for name, value in wanted.items()):
            return row["customer_id"]
    raise AssertionError(f"no customer with {wanted}")


class TestExplain:
    def test_names_the_choice_its_value_and_the_next_best(self, plan):
        customer = first_of(plan, arm="treatment", channel="outbound")
        told = explain(plan, customer, "en")
        row = plan.decisions.filter(
            np.array(plan.decisions["customer_id"].to_pylist()) == customer
        ).to_pylist()[0]
        assert told.chosen is not None
        assert told.chosen.value == pytest.approx(row["expected_value"])
        assert told.chosen.charge > 0
        assert told.text.startswith(f"Planned: {told.chosen.candidate.name}.")
        assert "currency per call" in told.text
        assert f"probability {row['treatment_probability']:.3f}" in told.text

    def test_the_choice_leaves_most_after_prices_for_nearly_everyone(self, plan):
        planned = [r["customer_id"] for r in plan.decisions.to_pylist() if r["arm"] != "none"]
        best = [
            (told := explain(plan, customer, "zh")).chosen is told.alternatives[0]
            for customer in planned
        ]
        assert np.mean(best) > 0.9

    def test_says_that_the_lot_held_a_customer_out(self, plan):
        customer = first_of(plan, arm="control")
        assert "Held out by lot" in explain(plan, customer, "en").text
        assert "抽签留作对照" in explain(plan, customer, "zh").text

    def test_says_at_which_stage_a_customer_fell(self, plan):
        told = explain(plan, "c00000", "zh")
        assert (told.arm, told.reason, told.chosen) == ("none", "suppressed", None)
        assert "降噪剔除" in told.text
        assert {a.fell_at for a in told.alternatives} == {"suppressed"}

    def test_says_that_others_are_worth_more(self, plan):
        told = explain(plan, first_of(plan, arm="none", reason="over_limit"), "en")
        assert told.text.startswith("Nothing: the best candidate")
        assert "worth" in told.text

    def test_refuses_strangers_and_unknown_languages(self, plan):
        with pytest.raises(UserError, match="did not consider customer 'x'"):
            explain(plan, "x")
        with pytest.raises(UserError, match="'fr'"):
            explain(plan, "c00000", "fr")
