"""Campaigns that are live on the day of the tests, and the offers that they sell."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

from .by_hand import OCTOBER, define, open_at

OFFERS = """
offers:
  - {offer_id: keep_12, title: {zh: 话费合约 12 个月, en: "Bill-credit contract, 12 months"},
     kind: contract, products: [contract_12], price: 0, months: 12, cost: 20,
     margin: {fixed: 10, per_unit: 0.8, of: arpu},
     eligibility: "not has_contract", channels: [outbound, sms, app, hall]}
  - {offer_id: keep_24, title: {zh: 购机合约 24 个月, en: "Handset contract, 24 months"},
     kind: contract, products: [contract_24, handset], price: 10, months: 24,
     margin: {fixed: 30, per_unit: 1.5, of: arpu}, cost: 80,
     eligibility: "not has_contract and tenure_months >= 12 and arpu >= 60",
     channels: [outbound, app, hall]}
  - {offer_id: data_pack, title: {zh: 5G 流量包, en: 5G data pack}, kind: addon,
     products: [data_5g], price: 20, months: 6, cost: 5,
     margin: {fixed: 10, per_unit: 0.004, of: dou},
     eligibility: "dou >= 4000", channels: [sms, app, outbound], category: data, traits: [light]}
  - {offer_id: video_pass, title: {zh: 视频会员, en: Video pass}, kind: vas,
     products: [video], price: 15, months: 12, cost: 10,
     margin: {fixed: 15, per_unit: 0.005, of: dou},
     eligibility: "dou >= 1500 or arpu >= 80", channels: [sms, app, hall], traits: [scene]}
"""
CAMPAIGN = """
campaign_id: {name}
title: {title}
goal:
  metric: ordered
  target: 0.01
  reason: {{zh: 上季度离网率上升, en: More customers left last quarter}}
  needs: {{zh: 实惠与流量, en: Savings and data}}
  starts_on: {starts}
  ends_on: {ends}
audience: "{audience}"
control_share: {control}
{more}
channels: {channels}
scripts:
  call: {{zh: 您好，这里是客户服务。, en: "Hello, this is customer care."}}
mix:
{mix}
"""
KEEP = [
    ("keep_12", {"outbound": 0.3, "sms": 0.1}),
    ("keep_24", {"outbound": 0.25, "app": 0.12}),
    ("data_pack", {"sms": 0.15, "app": 0.18}),
]
GROW = [
    ("video_pass", {"sms": 0.12, "app": 0.14}),
    ("data_pack", {"app": 0.16}),
]


def campaign(
    name: str,
    title: tuple[str, str],
    mix: list[tuple[str, dict[str, float]]],
    *,
    audience: str,
    seats: dict[str, tuple[int | None, float]],
    control: float = 0.2,
    more: str = "",
    period: tuple[str, str] = ("2026-11-01", "2026-11-30"),
) -> str:
    """Return a campaign file; ``seats`` gives capacity and cost of a contact per channel."""
    lines = []
    for offer, chances in mix:
        pairs = ", ".join(f"{c}: {{script: call, acceptance: {p}}}" for c, p in chances.items())
        lines.append(
            f"  - {{offer: {offer}, promotion: {{zh: 优惠, en: deal}}, channels: {{{pairs}}}}}"
        )
    channels = ", ".join(
        f"{kind}: {{unit_cost: {cost}" + ("" if room is None else f", capacity: {room}") + "}"
        for kind, (room, cost) in seats.items()
    )
    return CAMPAIGN.format(
        name=name, title=f"{{zh: {title[0]}, en: {title[1]}}}", starts=period[0], ends=period[1],
        audience=audience, control=control, more=more, channels=f"{{{channels}}}",
        mix="\n".join(lines),
    )  # fmt: skip


def build_live(folder: Path, source: Path) -> SimpleNamespace:
    """Copy the operator, define two live campaigns and one that is over, and decide both."""
    shutil.copytree(source, folder)
    ws = open_at(folder / "ws")
    define(ws, "offers", "offers", OFFERS)
    seats = {"outbound": (220, 2.0), "sms": (500, 0.05), "app": (300, 0.01)}
    texts = {
        "keep": campaign(
            "keep", ("存量保有", "Keeping customers"), KEEP, seats=seats,
            audience="arpu >= 20 and not is_disconnected", more="budget: 12000",
        ),
        "grow": campaign(
            "grow", ("流量经营", "Growing data"), GROW,
            audience="dou >= 2500 and not is_disconnected",
            seats={"sms": (300, 0.05), "app": (400, 0.01)},
        ),
        "past": campaign(
            "past", ("上月活动", "Last month"), GROW, audience="everyone",
            seats={"sms": (300, 0.05), "app": (400, 0.01)}, period=("2026-10-01", "2026-10-31"),
        ),
    }  # fmt: skip
    for name, text in texts.items():
        define(ws, "campaigns", name, text)
    plans = {name: ws.decide(name, OCTOBER) for name in ("keep", "grow")}
    return SimpleNamespace(ws=ws, folder=folder, plans=plans, last=OCTOBER)
