"""Sign-in over HTTP: cookie, CSRF, sessions, tokens, one's own password."""

from __future__ import annotations

from datetime import timedelta

import pytest
from starlette.testclient import TestClient
from tests.server.api.conftest import Enter
from tests.server.app.people_world import SECRET, person

from bihuan.kernel import FixedClock
from bihuan.server.app.service import Service

NEW = "quite another phrase"


@pytest.fixture
def planner(service: Service, nobody: TestClient) -> TestClient:
    """A planner of city A who has just signed in by name and password."""
    person(service.control, "planner-a", "planner", "city-a")
    answer = nobody.post("/api/v1/sessions", json={"name": "planner-a", "password": SECRET})
    assert answer.status_code == 201, answer.text
    nobody.headers["X-CSRF-Token"] = answer.json()["csrf"]
    return nobody


class TestSessions:
    def test_the_cookie_is_for_browsers_alone(self, service: Service, nobody: TestClient) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        answer = nobody.post("/api/v1/sessions", json={"name": "planner-a", "password": SECRET})
        cookie = answer.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert cookie.startswith("bihuan_session=")
        assert cookie.split("=")[1].split(";")[0] not in answer.text

    def test_who_am_i(self, planner: TestClient) -> None:
        me = planner.get("/api/v1/me").json()
        assert me["name"] == "planner-a"
        assert [(p["role"], p["unit_id"]) for p in me["posts"]] == [("planner", "city-a")]
        assert me["actions"]["plan.edit"] == ["city-a"]
        assert "plan.approve" not in me["actions"]
        assert me["csrf"] == planner.headers["X-CSRF-Token"]

    @pytest.mark.parametrize(
        "body",
        [
            {"name": "planner-a", "password": "wrong password"},
            {"name": "nobody", "password": SECRET},
        ],
    )
    def test_refusals_look_alike(
        self, service: Service, nobody: TestClient, body: dict[str, str]
    ) -> None:
        person(service.control, "planner-a", "planner", "city-a")
        answer = nobody.post("/api/v1/sessions", json=body)
        problem = answer.json()
        assert answer.status_code == 401
        assert "set-cookie" not in answer.headers
        assert problem["type"] == "urn:bihuan:problem:sign-in-refused"
        assert "锁定" in problem["zh"]

    def test_sign_out_ends_the_session_on_the_server(self, planner: TestClient) -> None:
        cookie = planner.cookies["bihuan_session"]
        assert planner.delete("/api/v1/sessions/current").status_code == 204
        planner.cookies.set("bihuan_session", cookie)  # a thief kept it
        assert planner.get("/api/v1/me").status_code == 401

    def test_changes_need_the_csrf_token(self, planner: TestClient) -> None:
        right = planner.headers.pop("X-CSRF-Token")
        assert planner.delete("/api/v1/sessions/current").status_code == 403
        planner.headers["X-CSRF-Token"] = right[::-1]
        assert planner.delete("/api/v1/sessions/current").status_code == 403
        planner.headers["X-CSRF-Token"] = right
        assert planner.delete("/api/v1/sessions/current").status_code == 204

    def test_listed_and_ended_one_by_one(self, planner: TestClient) -> None:
        planner.post("/api/v1/sessions", json={"name": "planner-a", "password": SECRET})
        sessions = planner.get("/api/v1/sessions").json()["items"]
        assert len(sessions) == 2
        assert [s["is_current"] for s in sessions].count(True) == 1
        current = next(s for s in sessions if s["is_current"])
        csrf = planner.get("/api/v1/me").json()["csrf"]
        path = f"/api/v1/sessions/{current['session_id']}"
        assert planner.delete(path, headers={"X-CSRF-Token": csrf}).status_code == 204
        assert planner.get("/api/v1/me").status_code == 401

    def test_an_administrator_ends_all_of_an_account(
        self, planner: TestClient, enter: Enter
    ) -> None:
        account = planner.get("/api/v1/me").json()["account_id"]
        path = f"/api/v1/accounts/{account}/sessions"
        assert enter("administrator", "city-b").delete(path).status_code == 404
        admin = enter("administrator", "city-a")
        assert len(admin.get(path).json()["items"]) == 1
        assert admin.delete(path).status_code == 204
        assert planner.get("/api/v1/me").status_code == 401


class TestPassword:
    def test_must_be_changed_before_anything_else(
        self, service: Service, nobody: TestClient
    ) -> None:
        person(service.control, "fresh", "planner", "city-a", must_change=True)
        answer = nobody.post("/api/v1/sessions", json={"name": "fresh", "password": SECRET}).json()
        assert answer["must_change"]
        nobody.headers["X-CSRF-Token"] = answer["csrf"]
        refused = nobody.get("/api/v1/org-units")
        assert refused.status_code == 403
        assert refused.json()["type"] == "urn:bihuan:problem:password-change-needed"
        body = {"old": SECRET, "new": NEW}
        assert nobody.put("/api/v1/me/password", json=body).status_code == 204
        assert nobody.get("/api/v1/org-units").status_code == 200

    def test_wrong_and_weak(self, planner: TestClient) -> None:
        wrong = planner.put("/api/v1/me/password", json={"old": "wrong", "new": NEW})
        weak = planner.put("/api/v1/me/password", json={"old": SECRET, "new": "planner-a"})
        assert (wrong.status_code, weak.status_code) == (422, 422)
        assert wrong.json()["type"] == "urn:bihuan:problem:wrong-password"
        assert weak.json()["type"] == "urn:bihuan:problem:weak-password"

    def test_language(self, planner: TestClient) -> None:
        assert planner.put("/api/v1/me/language", json={"language": "en"}).status_code == 204
        assert planner.get("/api/v1/me").json()["language"] == "en"
        assert planner.put("/api/v1/me/language", json={"language": "fr"}).status_code == 422


class TestTokens:
    def make(self, planner: TestClient, clock: FixedClock, *actions: str) -> dict[str, str]:
        expires = (clock.now() + timedelta(days=30)).isoformat()
        body = {"title": "看板", "actions": list(actions), "expires_at": expires}
        answer = planner.post("/api/v1/api-tokens", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def test_acts_without_cookie_and_csrf_within_its_actions(
        self, planner: TestClient, clock: FixedClock
    ) -> None:
        made = self.make(planner, clock, "org.read")
        planner.cookies.clear()
        planner.headers.pop("X-CSRF-Token")
        planner.headers["Authorization"] = f"Bearer {made['token']}"
        assert planner.get("/api/v1/org-units").status_code == 200
        assert planner.get("/api/v1/staff").status_code == 403
        assert planner.get("/api/v1/me").json()["csrf"] is None
        for path in ("/api/v1/sessions",):
            assert planner.get(path).status_code == 422
        body = {"old": SECRET, "new": NEW}
        assert planner.put("/api/v1/me/password", json=body).status_code == 422

    def test_the_secret_is_told_once(self, planner: TestClient, clock: FixedClock) -> None:
        made = self.make(planner, clock, "org.read")
        listed = planner.get("/api/v1/api-tokens").json()["items"]
        assert [t["token_id"] for t in listed] == [made["token_id"]]
        assert made["token"] not in planner.get("/api/v1/api-tokens").text

    def test_revoked_at_once(self, planner: TestClient, clock: FixedClock) -> None:
        made = self.make(planner, clock, "org.read")
        path = f"/api/v1/api-tokens/{made['token_id']}"
        assert planner.delete(path).status_code == 204
        bearer = {"Authorization": f"Bearer {made['token']}"}
        assert planner.get("/api/v1/org-units", headers=bearer).status_code == 401

    def test_by_an_administrator(
        self, planner: TestClient, clock: FixedClock, enter: Enter
    ) -> None:
        made = self.make(planner, clock, "org.read")
        account = planner.get("/api/v1/me").json()["account_id"]
        path = f"/api/v1/accounts/{account}/api-tokens/{made['token_id']}"
        assert enter("administrator", "city-b").delete(path).status_code == 404
        assert enter("administrator", "city-a").delete(path).status_code == 204

    def test_not_more_than_ones_own(self, planner: TestClient, clock: FixedClock) -> None:
        expires = (clock.now() + timedelta(days=30)).isoformat()
        body = {"title": "x", "actions": ["plan.approve"], "expires_at": expires}
        assert planner.post("/api/v1/api-tokens", json=body).status_code == 422


class TestOidc:
    def test_without_a_provider(self, nobody: TestClient) -> None:
        assert nobody.get("/api/v1/oidc/start").status_code == 422
        answer = nobody.get("/api/v1/oidc/callback", params={"state": "x", "code": "y"})
        assert answer.status_code == 401
