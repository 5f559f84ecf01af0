"""Two hundred campaigns of the twin: the interval covers the true effect as often as it says."""

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bihuan.decision import Candidate, DecisionInputs, Limit, Plan, decide
from bihuan.evaluation import Effect, estimate_effect
from bihuan.kernel import FixedClock, hash_id, random_stream
from bihuan.twin import SimulatedChannels, Truth, draw_truth, next_month

CAMPAIGNS = 200
CUSTOMERS = 1_500
CLOCK = FixedClock(datetime(2026, 11, 2, 6, tzinfo=UTC))
CANDIDATES = (Candidate("fee", "outbound"), Candidate("gift", "sms"), Candidate("fee", "wechat"))
IDS = pa.array([f"c{i:05d}" for i in range(CUSTOMERS)])


def plan_campaign(seed: int) -> tuple[Truth, Plan]:
    rng = random_stream(seed, "coverage")
    risk = rng.normal(-1.0, 1.0, CUSTOMERS)
    truth = draw_truth(IDS.to_pylist(), risk, ("fee", "gift"), seed=seed)
    inputs = DecisionInputs(
        campaign_id=f"campaign-{seed}",
        as_of=date(2026, 10, 31),
        customer_id=IDS,
        candidates=CANDIDATES,
        propensity=rng.uniform(0.05, 0.4, (CUSTOMERS, len(CANDIDATES))),
        margin=np.full(len(CANDIDATES), 100.0),
        cost=np.array([2.0, 0.1, 0.1]),
        limits=(
            Limit("outbound", "capacity", np.array([1.0, 0.0, 0.0]), 300),
            Limit("sms", "capacity", np.array([0.0, 1.0, 0.0]), 400),
            Limit("wechat", "capacity", np.array([0.0, 0.0, 1.0]), 200),
        ),
        control_share=0.4,
    )
    return truth, decide(inputs, seed=seed, clock=CLOCK)


def react(truth: Truth, decisions: pa.Table, seed: int) -> pa.Table:
    """Send the treatment arm, let the month pass, and return who stayed."""
    treated = decisions.filter(pc.equal(decisions["arm"], "treatment"))
    n = treated.num_rows
    assignments = pa.table(
        {
            "assignment_id": [hash_id(seed, c) for c in treated["customer_id"].to_pylist()],
            "deployment_id": ["d"] * n,
            "customer_id": treated["customer_id"],
            "offer_id": treated["offer_id"],
            "channel": treated["channel"],
            "valid_from": [date(2026, 11, 1)] * n,
        }
    )
    channels = SimulatedChannels(truth, {}, {}, seed=seed, clock=CLOCK)
    left = next_month(truth, channels.send(assignments), assignments, seed=seed)
    stayed = pc.invert(left["left_in_month"]).cast(pa.float64())
    return pa.table({"customer_id": left["customer_id"], "response": stayed})


def true_effect(truth: Truth, decisions: pa.Table) -> float:
    planned = decisions.filter(pc.not_equal(decisions["arm"], "none"))
    columns = (planned[name].to_pylist() for name in ("customer_id", "offer_id", "channel"))
    return float(truth.effect_on_retention(*columns).mean())


def covers(seed: int, *, spoil: bool = False) -> bool:
    truth, plan = plan_campaign(seed)
    response = react(truth, plan.decisions, seed)
    decisions = swap_by_risk(truth, plan.decisions) if spoil else plan.decisions
    if spoil:
        response = react(truth, decisions, seed)
    covariates = plan.decisions.select(["customer_id", "propensity"])
    effect = estimate_effect(decisions, response, covariates=covariates)
    assert isinstance(effect, Effect)
    return effect.covers(true_effect(truth, decisions))


def swap_by_risk(truth: Truth, decisions: pa.Table) -> pa.Table:
    """Plant a defect: within each stratum, treat those least likely to leave anyway."""
    rows = decisions.to_pylist()
    risk = dict(zip(truth.customer_ids.tolist(), truth.leave.tolist(), strict=True))
    for stratum in {row["stratum"] for row in rows if row["arm"] != "none"}:
        members = [row for row in rows if row["stratum"] == stratum]
        arms = sorted((row["arm"] for row in members), reverse=True)  # treatment before control
        members.sort(key=lambda row: risk[row["customer_id"]])
        for row, arm in zip(members, arms, strict=True):
            row["arm"] = arm
    return pa.Table.from_pylist(rows, schema=decisions.schema)


@pytest.mark.slow
class TestCoverage:
    def test_interval_covers_the_truth_as_often_as_it_says(self) -> None:
        share = np.mean([covers(seed) for seed in range(CAMPAIGNS)])
        assert 0.92 <= share <= 0.98  # 95 % with two standard deviations of 200 draws

    def test_a_biased_lot_is_caught(self) -> None:
        share = np.mean([covers(seed, spoil=True) for seed in range(20)])
        assert share < 0.5
