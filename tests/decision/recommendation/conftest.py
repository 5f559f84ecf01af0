"""A small shop: three offers, three channels, two campaigns, customers drawn at random."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bihuan.audience import matcher, parse, standard_suppression
from bihuan.data import ColumnType
from bihuan.decision import (
    BoardRules,
    Candidate,
    Case,
    Cases,
    ContactCap,
    FitRule,
    Lever,
    LeverBook,
    PriceBook,
    PricedLimit,
    Scope,
    Strategy,
    StrategyBoard,
    Wording,
)
from bihuan.kernel import random_stream
from bihuan.offer import Catalogue, Margin, Offer
from bihuan.strategy.lifecycle import Moment
from bihuan.strategy.lifecycle.choice import OfferChoice
from bihuan.tag import TagField

DAY = date(2026, 11, 2)
FLAGS = (
    "has_contract", "has_opted_out", "is_disconnected", "is_suspended", "on_black_list",
    "on_red_list", "complaint_sensitive",
)  # fmt: skip
_TITLES = {
    "arpu": {"zh": "月均消费(ARPU)", "en": "Monthly revenue (ARPU)"},
    "dou": {"zh": "月均流量(DOU)", "en": "Data per month (DOU)"},
    "tenure_months": {"zh": "网龄", "en": "Tenure"},
    "has_contract": {"zh": "有合约", "en": "Has a contract"},
    "customer_kind": {"zh": "客户类型", "en": "Kind of customer"},
}


def field(name: str, kind: ColumnType, codes: Any = None) -> TagField:
    return TagField(name, kind, codes, _TITLES.get(name, {"zh": name, "en": name}))


FIELDS = {
    f.name: f
    for f in (
        field("arpu", ColumnType.MONEY),
        field("dou", ColumnType.NUMBER),
        field("risk", ColumnType.NUMBER),
        field("tenure_months", ColumnType.INTEGER),
        field("failed_contact_count_3m", ColumnType.INTEGER),
        field("customer_kind", ColumnType.STRING, frozenset({"individual", "enterprise"})),
        *(field(name, ColumnType.BOOLEAN) for name in FLAGS),
    )
}
UNITS = {"arpu": "currency", "dou": "MB", "tenure_months": "month"}


def offer(offer_id: str, eligibility: str, **changes: Any) -> Offer:
    made = Offer(
        offer_id=offer_id,
        title={"zh": f"套餐{offer_id}", "en": f"Offer {offer_id}"},
        kind="addon",
        products=(f"p_{offer_id}",),
        price=20.0,
        months=12,
        margin=Margin(40.0),
        cost=5.0,
        eligibility=parse(eligibility),
        excludes=frozenset(),
        channels=frozenset({"outbound", "sms", "app"}),
    )
    return replace(made, **changes)


OFFERS = (
    offer("contract", "not has_contract", kind="contract", price=0.0,
          margin=Margin(10.0, 0.7, "arpu"), excludes=frozenset({"p_rival"})),
    offer("pack", "dou >= 2000", category="data", traits=frozenset({"light"})),
    offer("home", "tenure_months >= 6 or arpu >= 90", price=60.0, margin=Margin(90.0),
          traits=frozenset({"home_internet", "light"})),
)  # fmt: skip
CATALOGUE = Catalogue(OFFERS)


def strategy(campaign: str, offer_id: str, channel: str, **changes: Any) -> Strategy:
    made = Strategy(
        campaign_id=campaign,
        campaign_title={"zh": f"方案{campaign}", "en": f"Campaign {campaign}"},
        candidate=Candidate(offer_id, channel),
        offer=CATALOGUE.get(offer_id),
        audience=parse("arpu >= 30 and not is_disconnected"),
        exclusions=standard_suppression().exclusions,
        propensity=0.2,
        cost={"outbound": 2.0, "sms": 0.05, "app": 0.01}[channel],
    )
    return replace(made, **changes)


def strategies() -> tuple[Strategy, ...]:
    wide = parse("arpu >= 10")
    return (
        strategy("keep", "contract", "outbound", propensity=0.3, risk_tag="risk", kept_share=0.6),
        strategy("keep", "contract", "sms", propensity=0.1, risk_tag="risk", kept_share=0.6),
        strategy("keep", "pack", "sms", propensity=0.15),
        strategy("grow", "pack", "app", propensity=0.18, audience=wide),
        strategy("grow", "home", "outbound", propensity=0.12, audience=wide),
        strategy("grow", "home", "app", propensity=0.04, audience=wide),
    )


CALLS = frozenset({"outbound"})
LAG = ContactCap("call_lag", {"zh": "外呼间隔", "en": "Call lag"}, 90, 1, CALLS, CALLS)
ENDING = Moment(
    "contract_ending", {"zh": "合约将到期", "en": "Contract about to end"}, {}, "maturity",
    "marketing", True, None, None, OfferChoice(frozenset({"contract"})), frozenset(), 1.6,
)  # fmt: skip
LEVERS = LeverBook(
    levers=(Lever("light_calls", {}, Scope(CALLS, frozenset({"light"})), 1.5),),
    fits=(FitRule("affordable", {"zh": "偏贵", "en": "Too dear"}, Scope(),
                  share_of="arpu", most=0.8),),
)  # fmt: skip
RULES = BoardRules(LEVERS, (LAG,), (ENDING,))


def board(made: Any = None, **rules: Any) -> StrategyBoard:
    return StrategyBoard(
        made or strategies(), FIELDS, CATALOGUE, day=DAY, rules=replace(RULES, **rules)
    )


def good_profile(**changes: Any) -> dict[str, Any]:
    """A customer whom everything is open to."""
    profile = dict.fromkeys(FLAGS, False)
    return profile | {
        "arpu": Decimal("86.50"), "dou": 5000.0, "risk": 0.5, "tenure_months": 26,
        "failed_contact_count_3m": 0, "customer_kind": "individual",
    } | changes  # fmt: skip


def draw(n: int, seed: int = 5) -> tuple[list[dict[str, Any]], list[Case]]:
    rng = random_stream(seed, "shop")
    profiles, cases = [], []
    for i in range(n):
        profile = good_profile(
            arpu=Decimal(int(rng.integers(500, 20000))) / 100,
            dou=float(rng.random() * 8000),
            risk=float(rng.random()),
            tenure_months=int(rng.integers(0, 60)),
            **{name: bool(rng.random() < 0.06) for name in FLAGS},
        )
        for name in list(profile):
            if rng.random() < 0.03:
                profile[name] = None
        held = frozenset({"p_rival"}) if rng.random() < 0.1 else frozenset({"p_other"})
        closed = frozenset({["sms", "app", "all"][rng.integers(3)]} if rng.random() < 0.1 else ())
        on = date(2026, 8, int(rng.integers(1, 31)))
        contacts = (("outbound", on),) if rng.random() < 0.4 else ()
        cases.append(
            Case(
                customer_id=f"c{i:04d}", held=held, closed=closed, contacts=contacts,
                org_unit_id=[None, "G1", "G2"][rng.integers(3)],
                held_out=frozenset({"keep"} if rng.random() < 0.1 else ()),
                moments=frozenset({"contract_ending"} if rng.random() < 0.3 else ()),
                planned=(("grow", Candidate("home", "outbound")),) if rng.random() < 0.2 else (),
            )
        )  # fmt: skip
        profiles.append(profile)
    return profiles, cases


def plans(cases: list[Case]) -> pa.Table:
    rows = [(case.customer_id, name, pair.offer_id, pair.channel, pair.step)
            for case in cases for name, pair in case.planned]  # fmt: skip
    names = ("customer_id", "campaign_id", "offer_id", "channel", "step")
    types = [pa.string()] * 4 + [pa.int64()]
    columns = zip(*rows, strict=True) if rows else [()] * 5
    return pa.table(
        {n: pa.array(list(c), t) for n, c, t in zip(names, columns, types, strict=True)}
    )


def many(made: StrategyBoard, profiles: list[dict[str, Any]], cases: list[Case]) -> Any:
    """The same customers as tables: what a batch reads."""
    ids = pa.array([case.customer_id for case in cases])
    tests = [matcher(rule) for rule in made.rules]
    flags = np.array([[test(p) for test in tests] for p in profiles], dtype=np.bool_)
    numbers = {
        tag: np.array([np.nan if p[tag] is None else float(p[tag]) for p in profiles])
        for tag in made.number_tags
    }
    held = [(c.customer_id, p) for c in cases for p in c.held]
    closed = [(c.customer_id, k) for c in cases for k in c.closed]
    seen = [(c.customer_id, k, d) for c in cases for k, d in c.contacts]
    table = Cases(
        customer_id=ids,
        rules=flags.reshape(len(cases), len(tests)),
        numbers=numbers,
        held=pa.table({"customer_id": [a for a, _ in held], "product_id": [b for _, b in held]}),
        opt_out=pa.table(
            {"customer_id": pa.array([a for a, _ in closed], pa.string()),
             "kind": pa.array(["no_marketing"] * len(closed), pa.string()),
             "channel": pa.array([b for _, b in closed], pa.string())}
        ),
        contact=pa.table(
            {"customer_id": pa.array([a for a, _, _ in seen], pa.string()),
             "channel": pa.array([b for _, b, _ in seen], pa.string()),
             "day": pa.array([d for _, _, d in seen], pa.date32())}
        ),
        org_unit_id=pa.array([c.org_unit_id for c in cases], pa.string()),
        planned=plans(cases),
        held_out={"keep": pa.array([c.customer_id for c in cases if c.held_out], pa.string())},
    )  # fmt: skip
    types = {"arpu": pa.decimal128(18, 2), "dou": pa.float64(), "tenure_months": pa.int64()}
    tags = pa.table({t: pa.array([p[t] for p in profiles], k) for t, k in types.items()})
    moments = np.array([[m in c.moments for m in made.moment_ids] for c in cases], dtype=np.bool_)
    return SimpleNamespace(cases=table, tags=tags, moments=moments)


CALL = Candidate("home", "outbound")
BOOKS = {
    "grow": PriceBook("grow", date(2026, 10, 31), (
        PricedLimit("seats", "capacity", "call", "CNY per call", 1.7, {CALL: 1.0},
                    frozenset({"G1"})),
        PricedLimit("budget", "budget", "CNY", "CNY per CNY", 0.1,
                    {CALL: 2.6, Candidate("pack", "app"): 0.9}),
    )),
}  # fmt: skip
WORDS = Wording(FIELDS, UNITS, {})


@pytest.fixture(scope="session")
def shop() -> SimpleNamespace:
    """The shop and what one does in it."""
    return SimpleNamespace(
        day=DAY, fields=FIELDS, offers=OFFERS, catalogue=CATALOGUE, strategy=strategy,
        strategies=strategies, board=board, rules=RULES, lag=LAG, good_profile=good_profile,
        draw=draw, many=many, books=BOOKS, words=WORDS, offer=offer,
    )  # fmt: skip
