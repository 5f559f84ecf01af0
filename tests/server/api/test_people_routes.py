"""Staff, posts and accounts over HTTP."""

from __future__ import annotations

import itertools

import pytest
from starlette.testclient import TestClient
from tests.server.api.conftest import Enter
from tests.server.app.people_world import SECRET

_KEYS = itertools.count()


def send(client: TestClient, path: str, body: object):
    key = {"Idempotency-Key": f"people-{next(_KEYS)}"}
    return client.post(f"/api/v1{path}", json=body, headers=key)


def change(client: TestClient, method: str, path: str, body: object = None):
    thing = path if method == "PATCH" else path.rsplit("/", 1)[0]
    tag = client.get(f"/api/v1{thing}").headers["ETag"]
    return client.request(method, f"/api/v1{path}", json=body, headers={"If-Match": tag})


def hire(admin: TestClient, staff_id: str, unit_id: str) -> None:
    body = {"staff_id": staff_id, "unit_id": unit_id, "name_zh": f"人员{staff_id}"}
    answer = send(admin, "/staff", body)
    assert answer.status_code == 201, answer.text


def grant(admin: TestClient, staff_id: str, role: str, unit_id: str):
    return send(admin, "/posts", {"staff_id": staff_id, "role": role, "unit_id": unit_id})


class TestStaff:
    def test_from_hiring_to_leaving(self, enter: Enter, nobody: TestClient) -> None:
        admin = enter("administrator", "city-a")
        hire(admin, "s-1", "county-a1")
        post = grant(admin, "s-1", "planner", "county-a1").json()
        account = send(
            admin, "/accounts", {"staff_id": "s-1", "name": "new-planner", "password": SECRET}
        )
        assert account.status_code == 201, account.text
        assert "password" not in account.text
        entering = {"name": "new-planner", "password": SECRET}
        assert nobody.post("/api/v1/sessions", json=entering).json()["must_change"]
        moved = change(admin, "PATCH", "/staff/s-1", {"unit_id": "county-a2"})
        assert moved.json()["unit_id"] == "county-a2"
        assert change(admin, "POST", "/staff/s-1/departure").json()["status"] == "left"
        assert admin.get(f"/api/v1/posts/{post['post_id']}").json()["status"] == "ended"
        assert nobody.get("/api/v1/me").status_code == 401
        assert nobody.post("/api/v1/sessions", json=entering).status_code == 401

    def test_a_county_lists_only_its_own(self, enter: Enter) -> None:
        admin = enter("administrator", "province")
        hire(admin, "s-a", "grid-a11")
        hire(admin, "s-b", "county-b1")
        grant(admin, "s-a", "hall_clerk", "grid-a11")
        grant(admin, "s-b", "planner", "county-b1")
        director = enter("director", "county-a1")
        for path, key in (("staff", "staff_id"), ("posts", "staff_id")):
            text = director.get(f"/api/v1/{path}", params={"limit": 200})
            people = {row[key] for row in text.json()["items"]}
            assert "s-a" in people
            assert "s-b" not in text.text
        assert director.get("/api/v1/staff/s-b").status_code == 404
        foreign = director.get("/api/v1/staff", params={"unit_id": "county-b1"})
        assert foreign.json()["items"] == []


class TestPosts:
    @pytest.mark.parametrize("unit", ["province", "city-b", "county-b1"])
    def test_a_city_makes_no_administrator_beyond_itself(self, enter: Enter, unit: str) -> None:
        admin = enter("administrator", "city-a")
        hire(admin, "s-1", "county-a1")
        assert grant(admin, "s-1", "administrator", unit).status_code == 404
        assert grant(admin, "s-1", "administrator", "city-a").status_code == 201

    def test_nobody_raises_themself(self, enter: Enter) -> None:
        admin = enter("administrator", "city-a")
        me = admin.get("/api/v1/me").json()
        answer = grant(admin, me["staff_id"], "approver", "city-a")
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:bihuan:problem:beyond-reach"

    def test_who_reports_to_whom(self, enter: Enter) -> None:
        admin = enter("administrator", "city-a")
        hire(admin, "s-head", "city-a")
        hire(admin, "s-seller", "seller-a11")
        head = grant(admin, "s-head", "director", "city-a").json()
        seller = grant(admin, "s-seller", "account_manager", "seller-a11").json()
        assert (head["layer"], seller["layer"]) == ("management", "sales")
        path = f"/posts/{seller['post_id']}/superior"
        answer = change(admin, "PUT", path, {"superior_post_id": head["post_id"]})
        assert answer.status_code == 200, answer.text
        line = admin.get(f"/api/v1/posts/{seller['post_id']}/reporting-line").json()
        assert [step["staff_id"] for step in line] == ["s-seller", "s-head"]
        reports = admin.get("/api/v1/posts", params={"superior_post_id": head["post_id"]}).json()
        assert [post["staff_id"] for post in reports["items"]] == ["s-seller"]
        ring = change(
            admin, "PUT", f"/posts/{head['post_id']}/superior",
            {"superior_post_id": seller["post_id"]},
        )  # fmt: skip
        assert ring.status_code == 422

    def test_roles_are_told(self, enter: Enter) -> None:
        roles = {r["role"]: r for r in enter("planner", "city-a").get("/api/v1/roles").json()}
        assert len(roles) == 12
        assert "plan.edit" in roles["planner"]["actions"]


class TestAccounts:
    def test_reset_close_reopen(self, enter: Enter, nobody: TestClient) -> None:
        admin = enter("administrator", "city-a")
        hire(admin, "s-1", "county-a1")
        made = send(admin, "/accounts", {"staff_id": "s-1", "name": "n-1", "password": SECRET})
        path = f"/accounts/{made.json()['account_id']}"
        fresh = {"password": "a second first phrase"}
        assert change(admin, "POST", f"{path}/password-reset", fresh).json()["must_change"]
        body = {"name": "n-1", **fresh}
        assert nobody.post("/api/v1/sessions", json=body).status_code == 201
        assert change(admin, "POST", f"{path}/closure").json()["status"] == "closed"
        assert nobody.post("/api/v1/sessions", json=body).status_code == 401
        assert change(admin, "POST", f"{path}/reopening").json()["status"] == "active"
        assert nobody.post("/api/v1/sessions", json=body).status_code == 201

    def test_locked_and_unlocked(self, enter: Enter, nobody: TestClient) -> None:
        admin = enter("administrator", "city-a")
        hire(admin, "s-1", "county-a1")
        made = send(admin, "/accounts", {"staff_id": "s-1", "name": "n-1", "password": SECRET})
        path = f"/api/v1/accounts/{made.json()['account_id']}/lock"
        assert admin.get(path).json() == {"is_locked": False}
        for _ in range(5):
            nobody.post("/api/v1/sessions", json={"name": "n-1", "password": "wrong password"})
        assert admin.get(path).json() == {"is_locked": True}
        right = {"name": "n-1", "password": SECRET}
        assert nobody.post("/api/v1/sessions", json=right).status_code == 401
        assert admin.delete(path).status_code == 204
        assert nobody.post("/api/v1/sessions", json=right).status_code == 201

    @pytest.mark.parametrize(
        "body",
        [
            {"name": "n-1", "password": "short"},
            {"name": "two words", "password": SECRET},
            {"name": "n-1", "password": SECRET, "language": "fr"},
            {"name": "n-1", "password": SECRET, "must_change": False},
        ],
    )
    def test_bad_wishes(self, enter: Enter, body: dict[str, object]) -> None:
        admin = enter("administrator", "city-a")
        hire(admin, "s-1", "county-a1")
        assert send(admin, "/accounts", {"staff_id": "s-1", **body}).status_code == 422

    def test_an_auditor_looks_and_does_not_touch(self, enter: Enter) -> None:
        auditor = enter("auditor", "city-a")
        own = auditor.get("/api/v1/me").json()["account_id"]
        assert auditor.get("/api/v1/accounts").status_code == 200
        assert auditor.get(f"/api/v1/accounts/{own}/sessions").status_code == 403
        assert auditor.delete(f"/api/v1/accounts/{own}/sessions").status_code == 403
