"""Plans over HTTP: versions, keys, scopes, and refusals that say what to do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

Enter = Callable[[str, str], TestClient]
_KEYS = itertools.count()
TITLE = {"zh": "维系", "en": "keeping"}
CAMPAIGN = {
    "campaign_id": "keep",
    "audience": "arpu >= 40",
    "budget": 10,
    "channels": {"sms": {"unit_cost": 0.05}},
    "goal": {"metric": "retained", "starts_on": "2026-11-01", "ends_on": "2026-11-30"},
}


def key() -> dict[str, str]:
    return {"Idempotency-Key": f"key-{next(_KEYS)}"}


def create(client: TestClient, unit: str = "city-a", **body: Any) -> Any:
    body = {"unit_id": unit, "kind": "retention", "title": TITLE, **body}
    return client.post("/api/v1/plans", json=body, headers=key())


@pytest.fixture
def planner(enter: Enter) -> TestClient:
    return enter("planner", "city-a")


class TestPlans:
    def test_written_read_and_changed_with_the_version_read(self, planner: TestClient) -> None:
        made = create(planner, content={"campaign": CAMPAIGN})
        assert made.status_code == 201, made.text
        path = made.headers["Location"]
        read = planner.get(path)
        assert read.headers["ETag"] == made.headers["ETag"]
        assert (read.json()["state"], read.json()["channels"]) == ("drafting", ["sms"])
        body = {"content": {"campaign": {**CAMPAIGN, "budget": 11}}}
        assert planner.put(f"{path}/content", json=body).status_code == 428
        stale = planner.put(f"{path}/content", json=body, headers={"If-Match": '"99"'})
        assert stale.status_code == 412
        tag = {"If-Match": read.headers["ETag"]}
        changed = planner.put(f"{path}/content", json=body, headers=tag)
        assert changed.status_code == 200
        assert changed.json()["content_hash"] != read.json()["content_hash"]
        assert planner.put(f"{path}/content", json=body, headers=tag).status_code == 412
        (change,) = planner.get(f"{path}/differences", params={"old": 1}).json()
        assert (change["path"], change["old"], change["new"]) == ("campaign.budget", 10, 11)
        said = planner.get(f"{path}/revisions/0").json()["content"]
        assert said["campaign"]["budget"] == 11
        assert len(planner.get(f"{path}/revisions").json()["items"]) == 2
        again = planner.get(path, headers={"If-None-Match": changed.headers["ETag"]})
        assert again.status_code == 304

    def test_a_repeated_key_makes_one_plan(self, planner: TestClient) -> None:
        body = {"unit_id": "city-a", "kind": "retention", "title": TITLE}
        headers = {"Idempotency-Key": "once"}
        first = planner.post("/api/v1/plans", json=body, headers=headers)
        second = planner.post("/api/v1/plans", json=body, headers=headers)
        assert first.json()["plan_id"] == second.json()["plan_id"]
        other = planner.post("/api/v1/plans", json={**body, "kind": "care"}, headers=headers)
        assert other.status_code == 422
        assert len(planner.get("/api/v1/plans").json()["items"]) == 1

    def test_refused_steps_say_what_is_allowed(self, planner: TestClient, enter: Enter) -> None:
        plan = create(planner, content={"campaign": CAMPAIGN}).json()
        path = f"/api/v1/plans/{plan['plan_id']}"
        approver = enter("approver", "province")
        tag = {"If-Match": f'"{plan["version"]}"'}
        body = {"content_hash": plan["content_hash"]}
        refused = approver.post(f"{path}/approval", json=body, headers=tag)
        assert refused.status_code == 422
        assert "rehearse" in refused.json()["en"]
        assert "预演" in refused.json()["zh"]
        assert plan["allows"] == ["analyse", "edit", "rehearse", "withdraw", "void"]
        denied = planner.post(f"{path}/approval", json=body, headers=tag)
        assert denied.status_code == 403

    def test_others_see_no_plan(self, planner: TestClient, enter: Enter) -> None:
        plan = create(planner).json()
        for role, unit in (("planner", "city-b"), ("planner", "county-a1")):
            other = enter(role, unit)
            assert other.get(f"/api/v1/plans/{plan['plan_id']}").status_code == 404
            assert other.get("/api/v1/plans").json()["items"] == []
        assert create(planner, "city-b").status_code == 403
        assert enter("planner", "province").get("/api/v1/plans").json()["items"]

    @pytest.mark.parametrize(
        "body",
        [
            {"kind": "party"},
            {"content": {"campaign": {"budgett": 1}}},
            {"content": {"x": 1}},
            {"title": {"zh": "只有中文"}},
            {"surprise": 1},
        ],
    )
    def test_a_wrong_plan_is_refused(self, planner: TestClient, body: dict[str, Any]) -> None:
        assert create(planner, **body).status_code == 422

    def test_search_over_http(self, planner: TestClient) -> None:
        create(planner, content={"campaign": CAMPAIGN})
        for query, count in (
            ({"text": "维系"}, 1),
            ({"text": "离网"}, 0),
            ({"channel": "sms", "kind": "retention", "since": "2026-11-15"}, 1),
            ({"until": "2026-01-01"}, 0),
        ):
            found = planner.get("/api/v1/plans", params=query)
            assert len(found.json()["items"]) == count, query
        assert planner.get("/api/v1/plan-library").json()["items"] == []
        assert planner.get("/api/v1/plans", params={"result": "great"}).status_code == 422


class TestOthers:
    def test_a_frame_is_published_and_holds_below(self, enter: Enter) -> None:
        top, city = enter("planner", "province"), enter("planner", "city-a")
        body = {
            "unit_id": "province", "kind": "retention", "title": TITLE,
            "limits": [{"field": "campaign.budget", "high": 100}],
        }  # fmt: skip
        frame = top.post("/api/v1/plan-frames", json=body, headers=key())
        assert frame.status_code == 201, frame.text
        path = f"/api/v1/plan-frames/{frame.json()['frame_id']}"
        assert city.get(path).status_code == 404
        tag = {"If-Match": frame.headers["ETag"]}
        assert top.post(f"{path}/publication", headers=tag).json()["sharing"] == "down"
        for budget, status in ((100, 201), (101, 422)):
            said = {"campaign": {**CAMPAIGN, "budget": budget}}
            body = {"unit_id": "city-a", "title": TITLE, "content": said}
            made = city.post(f"{path}/plans", json=body, headers=key())
            assert made.status_code == status
        assert "campaign.budget = 101 (high 100)" in made.json()["en"]

    def test_an_impact_assessment_covers_below_and_is_revoked(self, enter: Enter) -> None:
        top, city = enter("planner", "province"), enter("planner", "city-a")
        parts = ("purpose", "necessity", "data", "rights", "measures")
        body = {
            "unit_id": "province", "kind": "retention", "conclusion": "acceptable",
            "document": dict.fromkeys(parts, "已评估"),
            "valid_from": "2026-11-01", "valid_until": "2028-02-29",
        }  # fmt: skip
        made = top.post("/api/v1/impact-assessments", json=body, headers=key())
        assert made.status_code == 201, made.text
        assert made.json()["keep_until"] == "2031-03-01"
        path = f"/api/v1/impact-assessments/{made.json()['impact_id']}"
        assert city.get(path).status_code == 200
        tag = {"If-Match": made.headers["ETag"]}
        refused = city.post(f"{path}/revocation", json={"why": "x"}, headers=tag)
        assert refused.status_code == 403
        revoked = top.post(f"{path}/revocation", json={"why": "changed"}, headers=tag)
        assert revoked.json()["revoked_why"] == "changed"
        late = {"If-Match": revoked.headers["ETag"]}
        again = top.post(f"{path}/revocation", json={"why": "x"}, headers=late)
        assert again.status_code == 409
        body["document"] = {"purpose": "only"}
        wrong = top.post("/api/v1/impact-assessments", json=body, headers=key())
        assert wrong.status_code == 422

    def test_knowledge_is_reviewed_by_another_and_voted_on(self, enter: Enter) -> None:
        writer, other = enter("analyst", "city-a"), enter("planner", "province")
        body = {
            "unit_id": "city-a", "category": "data_quality", "title": "账单重复",
            "solution": "去重", "links": [{"kind": "table", "id": "bill"}],
        }  # fmt: skip
        made = writer.post("/api/v1/knowledge-entries", json=body, headers=key())
        assert made.status_code == 201, made.text
        path = f"/api/v1/knowledge-entries/{made.json()['entry_id']}"
        tag = {"If-Match": made.headers["ETag"]}
        sent = writer.post(f"{path}/submission", headers=tag)
        tag = {"If-Match": sent.headers["ETag"]}
        accept = {"accept": True}
        assert writer.post(f"{path}/review", json=accept, headers=tag).status_code == 422
        assert other.post(f"{path}/review", json=accept, headers=tag).status_code == 200
        reader = enter("hall_clerk", "grid-b11")
        found = reader.get(
            "/api/v1/knowledge-entries", params={"link_kind": "table", "link_id": "bill"}
        )
        assert [entry["title"] for entry in found.json()["items"]] == ["账单重复"]
        voted = reader.put(f"{path}/vote", json={"helpful": True})
        assert voted.json()["helpful"] == 1
