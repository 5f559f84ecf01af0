"""Builders: a twin's customers who answer, a plan over them, and the facts of a rehearsal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.special import expit, logit

from bihuan.decision import Candidate, DecisionInputs, Limit, Plan, decide
from bihuan.decision.rehearsal import (
    Assumptions,
    Certificate,
    Contacts,
    ControlDesign,
    Fairness,
    Fatigue,
    Findings,
    GroupRate,
    LimitFact,
    Overlaps,
    PastContacts,
    ReachStep,
    Readiness,
    Rehearsal,
    Sample,
    Simulation,
    forecast,
    judge_findings,
    rehearsal_id,
    spread_load,
    working_days,
)
from bihuan.decision.rehearsal.load import DailyCapacity
from bihuan.kernel import FixedClock, NotEstimable, random_stream
from bihuan.twin import SimulatedChannels, Truth, draw_truth

CLOCK = FixedClock(datetime(2026, 11, 2, 6, tzinfo=UTC))
OFFERS = ("contract", "pack", "film")
CHANNELS = ("outbound", "sms", "app")
CELLS = tuple((offer, channel) for offer in OFFERS for channel in CHANNELS)
N = 1200


@dataclass(frozen=True)
class Town:
    """A twin of 2,400 customers: one half was contacted earlier, the other half may be now.

    Were they the same, the count would vary less than for customers nobody has met.
    """

    seed: int
    truth: Truth
    ids: list[str]

    def send(self, who: np.ndarray, cell: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Contact customers through cells; return who accepted and who ordered."""
        bits = random_stream(self.seed, "send", seed).integers(0, 2**63, len(who), dtype=np.uint64)
        assignments = pa.table(
            {
                "assignment_id": [f"{b:016x}" for b in bits.tolist()],
                "deployment_id": ["d"] * len(who),
                "customer_id": [self.ids[i] for i in who],
                "offer_id": [CELLS[c][0] for c in cell],
                "channel": [CELLS[c][1] for c in cell],
                "valid_from": pa.array([date(2026, 11, 1)] * len(who), pa.date32()),
            }
        )
        channels = SimulatedChannels(self.truth, {}, {}, seed, CLOCK)
        out = channels.send(assignments)
        answered = []
        for stage in ("accepted", "ordered"):
            yes = out.filter(pc.equal(out["stage"], stage))["assignment_id"].combine_chunks()
            answered.append(pc.is_in(assignments["assignment_id"], value_set=yes).to_numpy())
        return answered[0], answered[1]

    def rate(self, cell: tuple[str, str]) -> float:
        """Return the true acceptance rate of a cell over the whole town."""
        rows, (offer, channel) = np.arange(len(self.ids)), cell
        chance = self.truth.connect(rows, channel) * self.truth.accept(rows, offer, channel)
        return float(chance.mean()) * self.truth.channels[channel].delivered

    def history(self, campaigns: int) -> list[PastContacts]:
        """Let earlier campaigns happen, each to everybody through a cell drawn by lot."""
        rng, found = random_stream(self.seed, "history"), []
        for k in range(campaigns):
            cell = rng.integers(len(CELLS), size=N)
            accepted, ordered = self.send(np.arange(N), cell, 1000 + k)
            for c, (offer, channel) in enumerate(CELLS):
                at = cell == c
                found.append(
                    PastContacts(
                        f"k{k}", offer, channel, int(at.sum()), int(accepted[at].sum()),
                        int(ordered[at].sum()),
                    )
                )  # fmt: skip
        return found

    def claims(self, factor: float = 1.0) -> dict[tuple[str, str], float]:
        """Return what the planner thinks: the true rates with an error in logit, or a factor."""
        rng = random_stream(self.seed, "planner")
        noise = 0.4 * rng.standard_normal(len(CELLS))
        if factor != 1.0:
            return {cell: min(factor * self.rate(cell), 0.95) for cell in CELLS}
        rates = np.array([self.rate(cell) for cell in CELLS])
        return dict(zip(CELLS, expit(logit(rates) + noise).tolist(), strict=True))

    def answer(self, plan: Plan, seed: int) -> int:
        """Carry a plan out; return how many accept."""
        rows = np.flatnonzero(plan.contacts >= 0)
        return int(self.send(N + rows, plan.contacts[rows], seed)[0].sum())

    def plan(self, claims: Mapping[tuple[str, str], float], **changes: object) -> Plan:
        """Decide a campaign on these claims."""
        rng = random_stream(self.seed, "margin")
        candidates = tuple(Candidate(*cell) for cell in CELLS)
        margin = rng.gamma(4.0, 20.0, size=(N, 1)) * np.ones(len(CELLS))
        limits = tuple(
            Limit(channel, "capacity", np.array([c[1] == channel for c in CELLS], float), bound)
            for channel, bound in (("outbound", 150), ("sms", 250), ("app", 150))
        )
        inputs = DecisionInputs(
            campaign_id="new",
            as_of=date(2026, 10, 31),
            customer_id=pa.array(self.ids[N:]),
            candidates=candidates,
            propensity=np.broadcast_to(list(claims.values()), margin.shape),
            margin=margin,
            cost=np.array([2.0 if c[1] == "outbound" else 0.05 for c in CELLS]),
            limits=limits,
            control_share=0.2,
        )
        return decide(replace(inputs, **changes), seed=self.seed, clock=CLOCK)


def contacts_of(plan: Plan) -> Contacts:
    rows = np.flatnonzero(plan.contacts >= 0)
    cell = plan.contacts[rows].astype(np.int64)
    inputs = plan.inputs
    return Contacts(
        candidate=cell,
        propensity=np.asarray(inputs.propensity)[rows, cell],
        margin=np.asarray(inputs.margin)[rows, cell],
        gift=np.full(len(rows), 5.0),
        cost=np.asarray(inputs.cost)[cell],
        metric=np.ones(len(rows)),
    )


def town_of(seed: int) -> Town:
    ids = [f"c{i:05d}" for i in range(2 * N)]
    return Town(seed, draw_truth(ids, np.full(2 * N, -2.0), OFFERS, seed=seed), ids)


@pytest.fixture(scope="session")
def make_town() -> Callable[[int], Town]:
    return town_of


@pytest.fixture(scope="session")
def contacts() -> Callable[[Plan], Contacts]:
    return contacts_of


def findings_of(**changes: object) -> Findings:
    """Make facts in which nothing is wrong; all fields may be changed."""
    rng = random_stream(1, "findings")
    k = 600
    planned = Contacts(
        candidate=np.repeat([0, 1], k // 2), propensity=np.full(k, 0.1), margin=np.full(k, 60.0),
        gift=np.full(k, 5.0), cost=np.full(k, 1.0), metric=np.ones(k),
    )  # fmt: skip
    history = [PastContacts("old", offer, "sms", 4000, 400, 300) for offer in ("a", "b")]
    day = date(2026, 11, 2)
    parts: dict[str, object] = {
        "reach": (
            ReachStep("audience", "audience", {"zh": "客户群", "en": "Audience"}, 0, 1000),
            ReachStep("value", "no_value", {"zh": "无价值", "en": "No value"}, 200, 800),
            ReachStep("allocation", "over_limit", {"zh": "超限", "en": "No room"}, 50, 750),
            ReachStep("hold_out", "held_out", {"zh": "对照", "en": "Held out"}, 150, 600),
        ),
        "load": spread_load(
            {("sms", None): 600.0}, {}, working_days([(day, date(2026, 11, 6))]),
            DailyCapacity({"sms": 200.0}, {}),
        ),
        "forecast": forecast(
            (Candidate("a", "sms"), Candidate("b", "sms")), planned, history,
            target=0.05, assumptions=Assumptions(drift=0.0, draws=1000), rng=rng,
        ),
        "fatigue": (Fatigue(30, 2, (600, 0, 0, 0, 0, 0), 1.0, 0.0),),
        "overlap": Overlaps((), 0.0, 0.0),
        "fairness": (
            Fairness(
                "gender", {"zh": "性别", "en": "Gender"},
                (GroupRate("F", 400, 300, 0.75, 20.0), GroupRate("M", 400, 300, 0.75, 20.0)),
                1.0, 1.0, 1.0,
            ),
        ),
        "design": ControlDesign("accepted", 0.05, 600, 150, 0.0, 0.95, 0.02),
        "certificate": Certificate(
            900.0, 900.5, 0.0005, (LimitFact("sms", "capacity", "contact", 600.0, 600.0, 0.5, 0.0),)
        ),
        "readiness": Readiness((), 2, 5000.0, ()),
        "simulation": Simulation(600, 60, 50, 60.0, (("a", "sms", 300, 30),)),
    }  # fmt: skip
    return Findings(**parts | changes)


def rehearsal_of(**changes: object) -> Rehearsal:
    """Make a rehearsal; changes go to its facts."""
    findings, sample = findings_of(**changes), Sample(900, 900)
    judgements = judge_findings(findings, sample)
    return Rehearsal(
        rehearsal_id=rehearsal_id("c0", date(2026, 10, 31), 7, findings, judgements),
        campaign_id="spring",
        content_id="c0",
        title={"zh": "春季", "en": "Spring"},
        as_of=date(2026, 10, 31),
        rehearsed_at=datetime(2026, 11, 2, 6, tzinfo=UTC),
        sample=sample,
        seed=7,
        currency="CNY",
        findings=findings,
        judgements=judgements,
        seconds=1.5,
    )


@pytest.fixture(scope="session")
def make_findings() -> Callable[..., Findings]:
    return findings_of


@pytest.fixture(scope="session")
def make_rehearsal() -> Callable[..., Rehearsal]:
    return rehearsal_of


@pytest.fixture(scope="session")
def unknown() -> NotEstimable:
    return NotEstimable({"zh": "不知道。", "en": "Nobody knows."})
