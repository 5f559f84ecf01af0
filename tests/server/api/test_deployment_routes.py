"""Deployments and strategy releases over HTTP."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from starlette.testclient import TestClient

from bihuan.kernel import FixedClock
from bihuan.server.app.deployment import deploy_plan
from bihuan.server.app.service import Service

Enter = Callable[[str, str], TestClient]


def load_world() -> ModuleType:
    """Load the world of the use cases' tests."""
    if "api_deployment_world" not in sys.modules:
        path = Path(__file__).parents[1] / "app" / "deployment_world.py"
        spec = importlib.util.spec_from_file_location("api_deployment_world", path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["api_deployment_world"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["api_deployment_world"])
    return sys.modules["api_deployment_world"]


world = load_world()
API = "/api/v1"


@pytest.fixture
def plan_id(service: Service, clock: FixedClock) -> str:
    clock.moment = world.NOON
    return str(world.fill(service))


@pytest.fixture
def deployment_id(service: Service, plan_id: str) -> str:
    return deploy_plan(service, world.PLANNER, plan_id, as_of=world.AS_OF).deployment_id


def keyed(name: str) -> dict[str, str]:
    return {"Idempotency-Key": name}


class TestDeploy:
    def test_is_accepted_once_per_key(self, enter: Enter, plan_id):
        planner = enter("planner", "county-a1")
        path, body = f"{API}/plans/{plan_id}/deployments", {"as_of": "2026-10-31"}
        first = planner.post(path, json=body, headers=keyed("a"))
        assert first.status_code == 202, first.text
        assert first.headers["Location"].endswith(first.json()["job_id"])
        again = planner.post(path, json=body, headers=keyed("a"))
        assert again.json() == first.json()

    def test_is_refused_for_what_is_not_approved(self, enter, service, plan_id):
        with service.system_work() as work:
            from bihuan.server.app.plan.draft import get_plan

            get_plan(work, plan_id).state = "drafting"
        answer = enter("planner", "county-a1").post(
            f"{API}/plans/{plan_id}/deployments", json={}, headers=keyed("a")
        )
        assert answer.status_code == 422
        assert answer.json()["zh"]

    def test_needs_the_permission(self, enter, plan_id):
        answer = enter("approver", "county-a1").post(
            f"{API}/plans/{plan_id}/deployments", json={}, headers=keyed("a")
        )
        assert answer.status_code == 403


class TestRead:
    def test_list_one_counts_and_reconciliation(self, enter, plan_id, deployment_id):
        planner = enter("planner", "county-a1")
        listed = planner.get(f"{API}/deployments", params={"plan_id": plan_id}).json()["items"]
        assert [row["deployment_id"] for row in listed] == [deployment_id]
        one = planner.get(f"{API}/deployments/{deployment_id}")
        assert (one.json()["state"], one.json()["planned"]) == ("live", 216)
        tag = {"If-None-Match": one.headers["ETag"]}
        assert planner.get(f"{API}/deployments/{deployment_id}", headers=tag).status_code == 304
        counts = planner.get(f"{API}/deployments/{deployment_id}/counts").json()
        assert sum(row["planned"] for row in counts) == 216
        report = planner.get(f"{API}/deployments/{deployment_id}/reconciliation").json()
        assert report["reconciles"]
        assert report["totals"]["pending"] == 216

    def test_a_foreign_one_is_not_there(self, enter, deployment_id):
        elsewhere = enter("planner", "county-b1")
        assert elsewhere.get(f"{API}/deployments/{deployment_id}").status_code == 404
        assert elsewhere.get(f"{API}/deployments").json()["items"] == []


class TestSwitch:
    def test_pause_and_go_on(self, enter, deployment_id):
        planner = enter("planner", "county-a1")
        path = f"{API}/deployments/{deployment_id}"
        body = {"channels": ["sms"], "units": ["grid-a11"], "reason": "先核实"}
        (stop,) = planner.post(f"{path}/pause", json=body).json()
        assert (stop["unit_id"], stop["channels"]) == ("grid-a11", ["sms"])
        (lifted,) = planner.post(f"{path}/resumption", json={}).json()
        assert lifted["lifted_at"]
        assert planner.post(f"{path}/resumption", json={}).status_code == 422

    def test_withdrawal_of_a_live_one_is_a_conflict(self, enter, deployment_id):
        planner = enter("planner", "county-a1")
        path = f"{API}/deployments/{deployment_id}"
        tag = planner.get(path).headers["ETag"]
        body = {"why": "方案取消"}
        assert planner.post(f"{path}/withdrawal", json=body).status_code == 428
        answer = planner.post(f"{path}/withdrawal", json=body, headers={"If-Match": tag})
        assert answer.status_code == 409


class TestReleases:
    def test_publish_read_acknowledge(self, enter, deployment_id):
        operator = enter("channel_operator", "county-a1")
        body = {"unit_id": "county-a1", "title": "一号", "deployment_ids": [deployment_id]}
        made = operator.post(f"{API}/strategy-releases", json=body, headers=keyed("r"))
        assert made.status_code == 201, made.text
        release = made.json()
        seen = operator.get(f"{API}/current-strategies/grid-a11/app").json()
        assert seen["release_id"] == release["release_id"]
        assert len(seen["strategies"]) == len(world.OFFERS)
        path = f"{API}/strategy-releases/{release['release_id']}"
        assert operator.get(path).json()["number"] == 1
        said = {"channel": "app", "unit_id": "grid-a11"}
        assert operator.put(f"{path}/acknowledgements", json=said).status_code == 200
        (row,) = operator.get(f"{path}/acknowledgements").json()
        assert (row["channel"], row["lag_seconds"]) == ("app", 0)
        stale = {**body, "after": 0}
        answer = operator.post(f"{API}/strategy-releases", json=stale, headers=keyed("s"))
        assert answer.status_code == 412
        listed = operator.get(f"{API}/strategy-releases").json()["items"]
        assert [row["release_id"] for row in listed] == [release["release_id"]]

    def test_no_release_is_an_answer_too(self, enter):
        operator = enter("channel_operator", "county-a1")
        seen = operator.get(f"{API}/current-strategies/county-a1/sms").json()
        assert (seen["number"], seen["strategies"]) == (0, [])
