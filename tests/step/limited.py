"""An operator whose campaigns use limits by unit, preferred ways and matching principles."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bihuan as bh
from bihuan.data import DuckDBEngine
from bihuan.kernel import FixedClock
from bihuan.pack import PACKS
from bihuan.strategy import OrgTree
from bihuan.twin import TwinSettings, generate_operator

AS_OF = date(2026, 10, 31)
NOW = datetime(2026, 11, 2, 6, tzinfo=UTC)
OFFERS = """
offers:
  - {offer_id: keep_12, title: {zh: 话费合约, en: Bill-credit contract}, kind: contract,
     products: [contract_12], price: 0, months: 12, margin: {per_unit: 0.8, of: arpu}, cost: 5,
     eligibility: "not has_contract", channels: [outbound, sms, app]}
  - {offer_id: video_pass, title: {zh: 视频会员, en: Video pass}, kind: addon, category: data,
     products: [video], price: 15, months: 12, margin: {fixed: 15, per_unit: 0.005, of: dou},
     eligibility: "dou >= 1000", channels: [sms, app, outbound], data_mb: 5000}
"""
CAMPAIGN = """
campaign_id: %(name)s
title: {zh: 组合活动, en: Both}
goal: {metric: accepted, target: 0.01, reason: {zh: 无, en: none}, needs: {zh: 无, en: none},
       starts_on: 2026-11-01, ends_on: 2026-11-30}
audience: "arpu >= 30"
control_share: 0.2
channels:
  outbound: {unit_cost: 2.0, capacity: 90}
  sms: {unit_cost: 0.05, capacity: 120}
  app: {unit_cost: 0.01}
scripts: {call: {zh: 您好, en: Hello}}
mix:
  - offer: keep_12
    promotion: {zh: 返话费, en: credit}
    channels: {outbound: {script: call, acceptance: 0.3}, sms: {script: call, acceptance: 0.2}}
  - offer: video_pass
    promotion: {zh: 首月免费, en: first month free}
    channels: {outbound: {script: call, acceptance: 0.1}, app: {script: call, acceptance: 0.14}}
"""
LIMITS = """
limits:
  - {kind: minimum, channel: outbound, unit: city-1305, bound: 16, penalty: 1000}
  - {kind: minimum, offer: video_pass, channel: outbound, unit: county-130201, bound: 500}
  - {kind: maximum, channel: [sms, app], unit: city-1302, bound: 20}
  - {kind: sales_at_most, offer: keep_12, bound: 14}
  - {kind: sales_at_least, channel: sms, bound: 2.4, penalty: 500}
  - {kind: budget, channel: outbound, unit: city-1301, bound: 60}
"""
CAMPAIGNS = {
    "plain": "",
    "limited": LIMITS,
    "liked": "preferred_ways: factor\n",
    "best": "preferred_ways: filter\n",
    "suited": "suitability: match\n",
}


def open_at(folder: Path) -> Any:
    return bh.open_workspace(folder, clock=FixedClock(NOW), engine=DuckDBEngine(threads=1))


def define(ws: Any, kind: str, name: str, text: str) -> Path:
    path = ws.layout.root / kind / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def build(folder: Path, customers: int = 1000) -> SimpleNamespace:
    """Generate the operator, define its campaigns, decide them all."""
    ws = open_at(folder)
    generate_operator(
        TwinSettings(customers=customers, months=3, seed=3), ws.lake, ws.contracts,
        offer_ids=("keep_12", "video_pass"), clock=ws.clock, progress=ws.progress,
    )  # fmt: skip
    define(ws, "offers", "own", OFFERS)
    for kind in ("matching", "scripts"):
        for file in (PACKS["sample"] / kind).glob("*.yaml"):
            define(ws, kind, file.stem, file.read_text(encoding="utf-8"))
    for name, more in CAMPAIGNS.items():
        define(ws, "campaigns", name, CAMPAIGN % {"name": name} + more)
    ws = open_at(folder)
    ws.refresh_tags(AS_OF)
    plans = {name: ws.decide(name, AS_OF) for name in CAMPAIGNS}
    tree = OrgTree.read(ws.view, AS_OF)
    ids = ws.view.get("customer", AS_OF).read()["customer_id"].to_pylist()
    return SimpleNamespace(ws=ws, folder=folder, plans=plans, tree=tree, ids=ids)


_BUILT: list[SimpleNamespace] = []


def limited(factory: Any) -> SimpleNamespace:
    """Build the operator once for all tests that only read it."""
    if not _BUILT:
        _BUILT.append(build(factory.mktemp("limited") / "ws"))
    return _BUILT[0]
