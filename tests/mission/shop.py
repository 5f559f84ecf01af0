"""The simulated operator with the sample offers, for tests of offers without a campaign."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bihuan.pack import PACKS

from .by_hand import open_at, read

CHANNELS = """
channels:
  outbound: {{capacity: 400, unit_cost: 2.0}}
  sms: {{capacity: 600, unit_cost: 0.05}}
  app: {{capacity: 600, unit_cost: 0.01}}
  web: {{capacity: 600, unit_cost: 0.01}}
scripts:
  words: {words}
"""
HEAD = """
campaign_id: {campaign_id}
title: {{zh: 试销, en: Trial sale}}
goal:
  metric: ordered
  target: 0.01
  reason: {{zh: 试销, en: Trial sale}}
  needs: {{zh: 见原则, en: see the principles}}
  starts_on: 2026-11-01
  ends_on: 2026-11-30
audience: "not is_disconnected"
control_share: 0.2
mix:
"""
ITEM = """
  - offer: {offer}
    promotion: {{zh: 限时优惠, en: for a short time}}
    channels:
      {channel}: {{script: words, acceptance: 0.2}}
    maximum: {maximum}
"""
WORDS = '{zh: "您好，为您推荐。", en: "Hello, for you."}'


def open_shop(operator: Any, folder: Path, *, only: tuple[str, ...] = ()) -> SimpleNamespace:
    """Copy the operator and install the sample pack, or only some of its offers files."""
    shutil.copytree(operator.folder, folder)
    ws = open_at(folder / "ws")
    ws.install(PACKS["sample"])
    if only:
        for file in (ws.layout.root / "offers").glob("*.yaml"):
            if file.stem not in only:
                file.unlink()
    return SimpleNamespace(ws=open_at(folder / "ws"), folder=folder, last=operator.last)


def sale(campaign_id: str, offers: dict[str, str], *, maximum: int = 80, words: str = WORDS) -> str:
    """Return a campaign that sells each offer through one channel."""
    mix = "".join(
        ITEM.format(offer=offer, channel=channel, maximum=maximum)
        for offer, channel in offers.items()
    )
    return HEAD.format(campaign_id=campaign_id) + mix + CHANNELS.format(words=words)


def planned(ws: Any, campaign_id: str, as_of: Any) -> dict[str, int]:
    """Count who is to be contacted, by offer."""
    counts: dict[str, int] = {}
    for row in ws.decisions(campaign_id, as_of).decisions.to_pylist():
        if row["arm"] == "treatment":
            counts[row["offer_id"]] = counts.get(row["offer_id"], 0) + 1
    return counts


def tag_values(ws: Any, as_of: Any, *names: str) -> dict[str, dict[str, Any]]:
    """Return tag values by customer."""
    rows = ws.tags(as_of).read(ws.engine, names).to_pylist()
    return {row.pop("customer_id"): row for row in rows}


def main_lines(ws: Any, as_of: Any) -> dict[str, dict[str, Any]]:
    """Return each customer's active mobile line of the highest fee."""
    found: dict[str, dict[str, Any]] = {}
    for row in read(ws, "subscription", as_of):
        if row["service"] == "mobile" and row["status"] == "active":
            best = found.get(row["customer_id"])
            if best is None or row["monthly_fee"] > best["monthly_fee"]:
                found[row["customer_id"]] = row
    return found
