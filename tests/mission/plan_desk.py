"""Plans over HTTP, as planners and approvers handle them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from .by_hand import define
from .served import Person, lay_out, serving

KIND = "pack"
VALID = {"valid_from": "2026-01-01", "valid_until": "2099-12-31"}
PARTS = ("purpose", "necessity", "data", "rights", "measures")
JUDGED = ("feasibility", "reasonableness", "soundness", "effect")


OFFERS = """
offers:
  - offer_id: data_pack_10g
    title: {zh: 流量包 10 GB, en: "Data pack, 10 GB"}
    kind: addon
    category: data
    products: [data_pack_10g]
    price: 25
    margin: 17.5
    months: 1
    eligibility: "not is_disconnected"
    channels: [sms, app, outbound]
"""


def define_packs(ws: Any) -> None:
    """Leave the workspace one pack to sell; the others ask for tags that are not derived here."""
    for name in ("moments", "lifecycle", "levers", "matching", "triggers", "offers"):
        shutil.rmtree(ws.layout.definitions(name), ignore_errors=True)
    define(ws, "offers", "packs", OFFERS)


@pytest.fixture(scope="session")
def plan_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A running service whose workspace can rehearse packs; ``enter(name)`` signs somebody in."""
    folder = tmp_path_factory.mktemp("plans") / "ws"
    ws = lay_out(folder)
    define_packs(ws)
    with serving(folder, worker=False) as url:
        people: dict[str, Person] = {}

        def enter(name: str) -> Person:
            if name not in people:
                people[name] = Person(url, name)
            return people[name]

        yield SimpleNamespace(enter=enter, ws=ws)
        for person in people.values():
            person.http.close()


def content(name: str = "packs", **changes: Any) -> dict[str, Any]:
    """Return a complete plan for a pack, valid for years, with fields of the campaign changed."""
    campaign: dict[str, Any] = {
        "campaign_id": name,
        "title": {"zh": "流量包推荐", "en": "Data packs"},
        "goal": {
            "metric": "ordered",
            "target": 0.02,
            "reason": {"zh": "流量饱和客户增多", "en": "more customers use up their data"},
            "needs": {"zh": "实惠", "en": "savings"},
            "starts_on": "2026-11-01",
            "ends_on": "2026-11-30",
        },
        "audience": "arpu >= 40",
        "control_share": 0.2,
        "keep_lists": ["complaint_sensitive"],  # needs tags of complaints
        "budget": 50_000,
        "channels": {
            "sms": {"capacity": 400, "unit_cost": 0.05},
            "app": {"capacity": 300, "unit_cost": 0.01},
        },
        "scripts": {
            "pack_sms": {
                "zh": "流量包优惠，拒收请回复 R",
                "en": "A data pack for you. R to refuse.",
            },
            "pack_app": {"zh": "流量包优惠，点击查看", "en": "A data pack for you. Tap to see."},
        },
        "mix": [
            {
                "offer": "data_pack_10g",
                "promotion": {"zh": "首月优惠", "en": "first month cheaper"},
                "channels": {
                    "sms": {"script": "pack_sms", "acceptance": 0.05},
                    "app": {"script": "pack_app", "acceptance": 0.08},
                },
            }
        ],
        **changes,
    }
    schedule = {"cron": "0 9 1 * *", "valid_until": "2099-12-31"}
    return {"campaign": campaign, "schedule": schedule}


def unit_of(person: Any) -> str:
    """Return the org unit of somebody's account."""
    return str(person.see("/me")["unit_id"])


def assess(person: Any, plan_id: str) -> None:
    """Analyse the market, rehearse, and judge the plan."""
    path = f"/plans/{plan_id}"
    analysis = {"market": {"zh": "流量需求上升"}, "competition": ["异网低价包"]}
    person.make(f"{path}/analyses", {"document": analysis})
    person.make(f"{path}/rehearsals", {"as_of": "2026-10-31", "sample": 500})
    judged = {name: {"verdict": "pass", "comment": "已核对预演结论"} for name in JUDGED}
    person.make(f"{path}/assessments", judged)


def draft(person: Any, unit: str, **said: Any) -> str:
    """Write a plan; return its id."""
    body = {
        "unit_id": unit, "kind": KIND, "content": content(**said),
        "title": {"zh": "流量包推荐", "en": "Data packs"},
    }  # fmt: skip
    return str(person.make("/plans", body)["plan_id"])


def cover(person: Any, unit: str) -> dict[str, Any]:
    """Record an impact assessment for plans of this kind."""
    body = {
        "unit_id": unit, "kind": KIND, "conclusion": "with_measures",
        "document": dict.fromkeys(PARTS, "已评估"), **VALID,
    }  # fmt: skip
    return dict(person.make("/impact-assessments", body))


def approve(person: Any, plan_id: str) -> dict[str, Any]:
    """Read the plan and approve what was read."""
    seen = person.see(f"/plans/{plan_id}")["content_hash"]
    return dict(person.do(f"/plans/{plan_id}/approval", {"content_hash": seen}))


def approved(writer: Any, unit: str, *approvers: Any, **said: Any) -> str:
    """Return a plan that every approver in turn has approved."""
    plan_id = draft(writer, unit, **said)
    assess(writer, plan_id)
    writer.do(f"/plans/{plan_id}/filing", {})
    for person in approvers:
        approve(person, plan_id)
    return plan_id
