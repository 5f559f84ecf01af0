"""An operator whose strategies have been at work: the sample pack, two campaigns, their outcomes."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from types import SimpleNamespace

import pyarrow as pa
import pytest

from bihuan.pack import PACKS

from .by_hand import OCTOBER, SEPTEMBER, define, open_at
from .user_centre import user_centre

CAMPAIGN = """
campaign_id: {name}
title: {{zh: {name}, en: {name}}}
goal:
  metric: accepted
  target: 0.01
  reason: {{zh: 提升, en: Growth}}
  needs: {{zh: 流量与宽带, en: Data and broadband}}
  starts_on: 2026-11-01
  ends_on: 2026-11-30
audience: "{audience}"
control_share: 0.2
channels:
  outbound: {{capacity: 150, unit_cost: 0.1}}
  sms: {{capacity: 150, unit_cost: 0.05}}
  app: {{capacity: 150, unit_cost: 0.01}}
scripts:
  words: {{zh: 专属优惠, en: An offer for you}}
mix:
{mix}
"""
MIX = """  - offer: {offer}
    promotion: {{zh: 优惠, en: Reduced}}
    channels:
{channels}
"""
DATA = {"data_pack_10g": {"sms": 0.2, "app": 0.2}, "plan_129": {"outbound": 0.3}}
HOME = {"broadband_500": {"outbound": 0.3, "app": 0.2}}


def campaign(name: str, audience: str, mix: dict[str, dict[str, float]]) -> str:
    parts = [
        MIX.format(
            offer=offer,
            channels="\n".join(
                f"      {kind}: {{script: words, acceptance: {share}}}"
                for kind, share in channels.items()
            ),
        )
        for offer, channels in mix.items()
    ]
    return CAMPAIGN.format(name=name, audience=audience, mix="".join(parts))


_BUILT: list[SimpleNamespace] = []


def at_work(factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Build the operator once; tests may log into it and leave its definitions as they are."""
    if not _BUILT:
        _BUILT.append(build(factory))
    return _BUILT[0]


def build(factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Copy the user centre, install the sample pack, decide two campaigns, take outcomes in."""
    folder = factory.mktemp("strategies") / "operator"
    shutil.copytree(user_centre(factory).folder / "ws", folder)
    ws = open_at(folder)
    ws.install(PACKS["sample"])
    define(ws, "campaigns", "data-2026-11", campaign("data-2026-11", "dou >= 1000", DATA))
    home = campaign("home-2026-11", "not has_broadband and arpu >= 30", HOME)
    define(ws, "campaigns", "home-2026-11", home)
    ws = open_at(folder)
    found = SimpleNamespace(folder=folder, plans={}, assignments=[], last=OCTOBER)
    found.before = ws.strategy.cube(OCTOBER)
    for name in ("data-2026-11", "home-2026-11"):
        found.plans[name] = ws.decide(name, OCTOBER)
        found.assignments += ws.deploy(name, OCTOBER).assignments(ws.view).read().to_pylist()
    found.decided = ws.strategy.cube(OCTOBER)
    ws = open_at(folder, datetime(2026, 11, 12, 6, tzinfo=UTC))
    for name in found.plans:
        mine = [row for row in found.assignments if row["campaign_id"] == name]
        ws.record_outcomes(name, outcomes(mine))
    ws.refresh_tags(SEPTEMBER)
    found.ws = ws
    return found


def accepts(assignment: dict) -> bool:
    """Say who accepts: nobody on the telephone, every fifth elsewhere."""
    return assignment["channel"] != "outbound" and int(assignment["customer_id"][1:]) % 5 == 0


def outcomes(assignments: list[dict]) -> pa.Table:
    """Report every assignment as delivered and answered."""
    rows = []
    for assignment in assignments:
        for hour, stage in enumerate(
            ("delivered", "connected", "accepted" if accepts(assignment) else "refused")
        ):
            rows.append(
                {
                    "outcome_id": f"{assignment['assignment_id']}-{stage}",
                    "assignment_id": assignment["assignment_id"],
                    "customer_id": assignment["customer_id"],
                    "stage": stage,
                    "occurred_at": datetime(2026, 11, 5, 2 + hour, tzinfo=UTC),
                    "channel": assignment["channel"],
                    "source": "回单",
                }
            )
    return pa.Table.from_pylist(rows)


__all__ = ["OCTOBER", "SEPTEMBER", "accepts", "at_work"]
