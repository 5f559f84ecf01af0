"""P077: marketing management by the system (G-07) and scheme design with coaching (G-11)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from bihuan.tag import LIBRARY_FOLDER

from .by_hand import OCTOBER, define, open_at
from .served import Person, lay_out, serving

MODEL = """
label: left_in_month
lead_months: 1
population: not is_disconnected
features: [arpu, dou, tenure_months]
model:
  name: churn
  title: {zh: 离网概率, en: Probability to leave}
  label: {zh: 次月离网, en: Leaves next month}
  owner: data team
  learner: logistic
"""
OFFER = """
offers:
  - {offer_id: p077_keep, title: {zh: 话费合约, en: Bill-credit contract}, kind: contract,
     products: [p077_contract], price: 0, months: 12, cost: 4,
     margin: {fixed: 0, per_unit: 6, of: arpu}, eligibility: "not is_disconnected",
     channels: [sms, outbound]}
"""
TERMS = {
    "score": "churn_score", "kind": "risk", "model": "churn", "within": "not is_disconnected",
    "channels": {"sms": {"unit_cost": 0.2, "acceptance": 0.08},
                 "outbound": {"unit_cost": 3.0, "acceptance": 0.3, "capacity": 150}},
    "starts_on": "2027-01-04", "ends_on": "2027-01-29", "kept_share": 0.6,
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A service whose workspace has a model's order, no scores yet, and a product to sell."""
    folder: Path = tmp_path_factory.mktemp("p077") / "ws"
    ws = lay_out(folder)
    define(ws, "models", "churn", MODEL)
    for file in LIBRARY_FOLDER.glob("*.yaml"):
        shutil.copy(file, ws.layout.definitions("tags"))
    define(ws, "offers", "p077", OFFER)
    ws = open_at(folder)
    for day in (date(2026, 8, 31), date(2026, 9, 30), OCTOBER):
        ws.refresh_tags(day)
    with serving(folder, worker=False) as url:
        planner, city = Person(url, "demo-province-planner"), Person(url, "demo-planner")
        made = planner.post(
            "/schemes", {"product": "p077_contract", "unit_id": "province", "terms": TERMS}
        )
        assert made.status_code == 201, made.text
        yield SimpleNamespace(planner=planner, city=city, scheme=made.json())
        planner.http.close()
        city.http.close()


@pytest.mark.mission("P077")
class TestDesignIsOneRun:
    def test_from_data_to_a_draft_ready_for_filing(self, world: SimpleNamespace) -> None:
        campaign, proposal = world.scheme["content"]["campaign"], world.scheme["proposal"]
        assert campaign["audience"].startswith("churn_score >= ")
        assert {item["offer"] for item in campaign["mix"]} == {"p077_keep"}
        assert all(campaign["scripts"][name]["zh"] for name in campaign["scripts"])
        assert proposal["rehearsal"]["verdict"] in ("pass", "warn", "fail")
        plan = world.planner.see(f"/plans/{world.scheme['plan_id']}")
        assert plan["plan_id"] == world.scheme["plan_id"]

    def test_the_line_is_where_the_expected_value_is_greatest(self, world: SimpleNamespace) -> None:
        proposal = world.scheme["proposal"]
        assert proposal["value"] > 0
        assert proposal["value"] >= max(value for _, _, value in proposal["curve"]) - 0.01
        smaller = [v for t, _, v in proposal["curve"] if t < proposal["threshold"] / 2]
        assert all(value < proposal["value"] for value in smaller)

    def test_cities_add_up_and_capacity_holds(self, world: SimpleNamespace) -> None:
        forecast = world.scheme["proposal"]["forecast"]
        for name in ("customers", "contacts", "sales", "cost", "value"):
            total = sum(unit[name] for unit in forecast["units"])
            assert total == pytest.approx(forecast[name], abs=1e-3)
        calls = sum(unit["by_channel"].get("outbound", 0) for unit in forecast["units"])
        assert calls <= 151

    def test_the_control_group_says_what_it_can_show(self, world: SimpleNamespace) -> None:
        control = world.scheme["proposal"]["control"]
        assert 0.05 <= control["share"] <= 0.3
        assert control["enough"] == (control["power"] >= 0.8 - 1e-9)

    def test_a_product_nobody_sells_is_not_designed_for(self, world: SimpleNamespace) -> None:
        body = {"product": "no_such_thing", "unit_id": "province", "terms": TERMS}
        assert world.planner.post("/schemes", body).status_code == 404
        foreign = {"product": "p077_contract", "unit_id": "province", "terms": TERMS}
        assert world.city.post("/schemes", foreign).status_code == 404


@pytest.mark.mission("P077")
class TestBranchesAreCoached:
    def test_targets_sum_and_ticks_are_followed(self, world: SimpleNamespace) -> None:
        path = f"/schemes/{world.scheme['scheme_id']}"
        issued = world.planner.make(f"{path}/guides", None)["items"]
        forecast = world.scheme["proposal"]["forecast"]
        assert sum(g["targets"]["contacts"] for g in issued) == forecast["contacts"]
        (mine,) = world.city.see("/guides", scheme_id=world.scheme["scheme_id"])["items"]
        tasks = world.city.see(f"/guides/{mine['guide_id']}/tasks")
        assert sum(task["quantity"] or 0 for task in tasks) == mine["targets"]["contacts"]
        first = tasks[0]
        done = world.city.post(
            f"/guide-tasks/{first['guide_task_id']}/tick", {"note": "已培训"},
            match=f'"{first["version"]}"',
        )  # fmt: skip
        assert done.status_code == 200, done.text
        said = world.city.make(
            f"/guides/{mine['guide_id']}/feedback", {"kind": "problem", "text": "话术过长"}
        )
        reply = world.planner.post(
            f"/guide-feedback/{said['guide_feedback_id']}/reply", {"text": "已精简"},
            match=f'"{said["version"]}"',
        )  # fmt: skip
        assert reply.status_code == 200, reply.text
        progress = {row["unit_id"]: row for row in world.planner.see(f"{path}/progress")}
        assert progress[mine["unit_id"]]["done"] == 1
        assert sum(row["planned"] for row in progress.values()) == forecast["contacts"]
        assert len(world.city.see(f"{path}/progress")) == 1
