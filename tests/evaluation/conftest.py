"""Builders of decision logs and responses with known truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pytest

from bihuan.evaluation import Kind, Prices, Text, estimate_effect, funnel, roi
from bihuan.evaluation.report import (
    AllocationSummary,
    AudienceSummary,
    Axis,
    CampaignReport,
    DecisionSummary,
    Goal,
    LimitSummary,
    Lines,
    ModelSummary,
    OfferSummary,
    Section,
    Series,
    Tone,
)
from bihuan.kernel import random_stream


@dataclass(frozen=True)
class Trial:
    """A randomised campaign whose potential responses are known."""

    decisions: pa.Table
    response: pa.Table
    covariates: pa.Table
    true_effect: float


def decision_log(customer, stratum, treated, probability, campaign="c1"):
    n = len(customer)
    return pa.table(
        {
            "decision_id": [f"d{i}" for i in range(n)],
            "campaign_id": [campaign] * n,
            "customer_id": list(customer),
            "arm": np.where(treated, "treatment", "control"),
            "treatment_probability": np.asarray(probability, dtype=float),
            "stratum": list(stratum),
        }
    )


@pytest.fixture(scope="session")
def log() -> Callable[..., pa.Table]:
    return decision_log


@pytest.fixture(scope="session")
def trial() -> Callable[..., Trial]:
    """Build a trial: strata of given sizes, complete randomisation, effect varying by customer."""

    @lru_cache(maxsize=4)
    def build(sizes=(3000, 2000, 1000), control=0.2, base=0.1, effect=0.05, seed=1, biased=False):
        rng = random_stream(seed, "trial")
        stratum = np.repeat([f"s{i}" for i in range(len(sizes))], sizes)
        n = len(stratum)
        x = rng.normal(size=n)
        p0 = np.clip(base + 0.05 * x, 0, 1)
        p1 = np.clip(p0 + effect * (1 + 0.5 * rng.normal(size=n)), 0, 1)
        treated = np.ones(n, dtype=bool)
        probability = np.empty(n)
        for name in np.unique(stratum):
            members = np.flatnonzero(stratum == name)
            held = round(control * len(members))
            # the biased twin holds out those who would respond least
            order = np.argsort(p0[members]) if biased else rng.permutation(len(members))
            treated[members[order[:held]]] = False
            probability[members] = 1 - held / len(members)
        draw = rng.random(n)
        y = draw < np.where(treated, p1, p0)
        customer = [f"k{i:06d}" for i in range(n)]
        return Trial(
            decision_log(customer, stratum, treated, probability),
            pa.table({"customer_id": customer, "response": y}),
            pa.table({"customer_id": customer, "fee": x, "tenure": rng.normal(size=n)}),
            float(np.mean(p1 - p0)),
        )

    return build


CHANNEL_SHARES = {"outbound": 0.35, "sms": 0.3, "app": 0.15, "wechat": 0.1, "hall": 0.06}
CONNECTS = {"outbound": 0.62, "sms": 0.0, "app": 0.35, "wechat": 0.5, "hall": 0.9}
COSTS = {"outbound": 3.5, "sms": 0.05, "app": 0.02, "wechat": 0.1, "hall": 6.0}
OFFERS = {
    "c24": ("24 个月合约 8 折", "24-month contract, 20% off", 79.0, 310.0),
    "c12": ("12 个月合约 9 折", "12-month contract, 10% off", 89.0, 190.0),
    "data": ("每月赠送 10GB 流量", "10 GB a month for free", 99.0, 120.0),
}


def simulate(n=6000, seed=7):
    """Play a campaign: decisions, assignments, outcomes, responses and the true effect."""
    rng = random_stream(seed, "campaign")
    shares = np.array(list(CHANNEL_SHARES.values()))
    channel = rng.choice(list(CHANNEL_SHARES), size=n, p=shares / shares.sum())
    offer = rng.choice(list(OFFERS), size=n, p=[0.5, 0.3, 0.2])
    customer = np.array([f"k{i:06d}" for i in range(n)])
    treated, probability = np.ones(n, dtype=bool), np.empty(n)
    for name in CHANNEL_SHARES:
        members = np.flatnonzero(channel == name)
        held = round(0.2 * len(members))
        treated[rng.choice(members, held, replace=False)] = False
        probability[members] = 1 - held / len(members)
    base = rng.beta(2, 28, size=n)
    lift = {"outbound": 0.06, "sms": 0.01, "app": 0.03, "wechat": 0.03, "hall": 0.09}
    p1 = base + np.array([lift[c] for c in channel])
    bought = rng.random(n) < np.where(treated, p1, base)
    return {
        "decisions": decision_log(customer, channel, treated, probability, "renewal"),
        "response": pa.table({"customer_id": customer[bought], "response": [1.0] * bought.sum()}),
        "assignments": pa.table(
            {
                "assignment_id": np.char.add("a", customer[treated]),
                "customer_id": customer[treated],
                "channel": channel[treated],
                "offer_id": offer[treated],
                "org_unit_id": rng.choice(["石家庄", "保定", "唐山"], treated.sum()),
            }
        ),
        "outcomes": _play(rng, np.char.add("a", customer[treated]), channel, bought, treated),
        "true_effect": float(np.mean(p1 - base)),
    }


def _play(rng, assignment, channel, bought, treated):
    """Give every assignment outcomes that agree with what its customer did."""
    channel, bought = channel[treated], bought[treated]
    draw = rng.random((4, len(assignment)))
    suppressed = ~bought & (draw[0] < 0.02)
    failed = ~bought & ~suppressed & (draw[1] < 0.05)
    delivered = ~(suppressed | failed | (~bought & (draw[1] > 0.985)))
    connected = delivered & (draw[2] < np.array([CONNECTS[c] for c in channel]))
    refused = connected & ~bought & (draw[3] < 0.55)
    accepted = bought | (connected & ~bought & (draw[3] > 0.97))
    stages = {
        "suppressed": (suppressed, "红名单"),
        "failed": (failed, "空号"),
        "delivered": (delivered, None),
        "connected": (connected, None),
        "refused": (refused, "价格偏高"),
        "accepted": (accepted, None),
        "ordered": (bought, None),
    }
    tables = [
        pa.table(
            {
                "assignment_id": assignment[mask],
                "stage": [stage] * mask.sum(),
                "reason": pa.array([reason] * mask.sum(), pa.string()),
            }
        )
        for stage, (mask, reason) in stages.items()
    ]
    return pa.concat_tables(tables)


def campaign_data(seed=7) -> CampaignReport:
    """The report's data of a simulated campaign, every part filled."""
    played = simulate(seed=seed)
    effect = estimate_effect(played["decisions"], played["response"], when_absent=0)
    prices = Prices(COSTS, {k: v[3] for k, v in OFFERS.items()}, {"c24": 40.0, "c12": 20.0})
    account = roi(played["assignments"], played["outcomes"], effect, prices)
    assigned = Counter(played["assignments"]["offer_id"].to_pylist())
    arms = Counter(played["decisions"]["arm"].to_pylist())
    curve = tuple((i / 20, min(1.0, (i / 20) ** 0.42)) for i in range(21))
    replay = Section(
        "replay",
        Text("历史重放", "Replay of a real campaign"),
        Text(
            "席位减半时，按模型顺序外呼可得到 78.0% 的成交；实际顺序只有 40.3%。",
            "With half the seats, calling in the model's order wins 78.0% of the sales; the order "
            "really used wins 40.3%.",
        ),
        Lines(
            Text("累计成交与已用席位", "Sales won by seats used"),
            Text("四种外呼顺序的累计成交比例。", "Share of sales won by four calling orders."),
            Axis(Text("已用席位", "Seats used"), Kind.SHARE, 0, 1),
            Axis(Text("得到的成交", "Sales won"), Kind.SHARE, 0, 1),
            (
                Series(Text("模型顺序", "Model's order"), curve, Tone.ACCENT),
                Series(
                    Text("实际顺序", "Order really used"),
                    ((0, 0), (0.3, 0.18), (0.5, 0.403), (1, 1)),
                ),
                Series(Text("随机", "Random"), ((0, 0), (1, 1)), Tone.FAINT),
                Series(Text("完美顺序", "Perfect order"), ((0, 0), (0.113, 1), (1, 1))),
            ),
        ),
    )
    return CampaignReport(
        title=Text("合约到期客户续约关怀", "Contract renewal care for customers whose term ends"),
        as_of=date(2026, 10, 31),
        response=Text("续约率", "the renewal rate"),
        goal=Goal(
            Text("增量续约", "incremental renewals"),
            200,
            Kind.COUNT,
            Text("四季度合约集中到期", "many contracts end in the fourth quarter"),
            date(2026, 10, 1),
            date(2026, 10, 31),
            account.incremental_sales,
        ),
        audience=AudienceSummary(
            "contract_ends_in <= 60 and arpu >= 50 and not (city in ('唐山') and is_senior)",
            48_213,
            12_904,
            (
                (Text("近期接触未成功", "Recently contacted without success"), 1_310),
                (Text("红黑名单", "Red or black list"), 402),
                (Text("投诉敏感客户", "Complaint-sensitive customers"), 988),
                (Text("停机或已销户", "Suspended or disconnected"), 521),
            ),
        ),
        model=ModelSummary(
            Text("续约意愿模型", "Renewal propensity"),
            "LightGBM",
            date(2026, 9, 30),
            46_120,
            0.0834,
            41,
            0.8473,
            curve,
            tuple((p, p * 1.04 - 0.004) for p in (0.01, 0.03, 0.06, 0.1, 0.16, 0.24, 0.35, 0.52)),
            0.8391,
            0.8556,
        ),
        offers=tuple(
            OfferSummary(key, Text(zh, en), price, margin, assigned[key])
            for key, (zh, en, price, margin) in OFFERS.items()
        ),
        allocation=AllocationSummary(
            186_420.55,
            186_481.02,
            (
                LimitSummary(
                    Text("外呼席位", "Outbound seats"), Text("个外呼", "call"), 2000, 2000, 12.37
                ),
                LimitSummary(Text("预算", "Budget"), Text("元", "yuan"), 11_240, 15_000, 0.0),
                LimitSummary(
                    Text("营业厅接待", "Hall appointments"), Text("次接待", "visit"), 380, 380, 4.1
                ),
                LimitSummary(Text("短信条数", "SMS quota"), Text("条", "message"), 1800, 6000, 0),
            ),
        ),
        decision=DecisionSummary(
            9_683,
            (
                (Text("没有合适的产品", "No suitable offer"), 1_204),
                (Text("期望价值不抵成本", "Expected value below cost"), 2_479),
            ),
            arms["control"],
            arms["treatment"],
        ),
        funnel=funnel(played["assignments"], played["outcomes"]),
        effect=effect,
        true_effect=played["true_effect"],
        roi=account,
        extra=(replay,),
        notes=(Text("客户反应为模拟（带已知真值）。", "Customer reactions are simulated."),),
    )


@pytest.fixture(scope="session")
def campaign_report() -> CampaignReport:
    return campaign_data()
