"""The frame: gates, CSRF, problems, ETags, idempotency, pages, limits, ids."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Annotated

import pytest
import sqlalchemy as sa
from fastapi import APIRouter, FastAPI
from httpx2 import Response
from pydantic import Field
from starlette.testclient import TestClient

from bihuan.server.api.application import create_app
from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.api.frame.limit import RateLimit
from bihuan.server.api.frame.problem import TooManyRequestsError
from bihuan.server.api.frame.router import UngatedRouteError, check_gates
from bihuan.server.app.service import Service
from bihuan.server.control import Outlet, UnitOfWork
from bihuan.server.settings import Settings

router = Router(tag="test")
_MILLISECOND = timedelta(milliseconds=1)


class HallBody(Body):
    name: str = Field(min_length=1, max_length=50)
    unit_id: str = Field(max_length=64)


class HallView(View):
    outlet_id: str
    name_zh: str
    unit_id: str


def open_hall(work: UnitOfWork, body: HallBody) -> Outlet:
    if body.name == "boom":
        raise RuntimeError("a defect of ours")
    hall = Outlet(
        outlet_id=work.new_id("outlet"), unit_id=body.unit_id, name_zh=body.name, kind="hall"
    )
    work.session.add(hall)
    work.audit("org.manage", "outlet", hall.outlet_id)
    return hall


@router.post("/halls", status_code=201)
def create_hall(call: Annotated[Call, permitted("org.manage")], body: HallBody) -> HallView:
    """Open a hall."""
    return call.create(
        lambda work: open_hall(work, body),
        HallView.model_validate,
        location=lambda view: f"/api/v1/halls/{view.outlet_id}",
    )


@router.get("/halls")
def list_halls(call: Annotated[Call, permitted("org.read")], page: PageQuery) -> Page[HallView]:
    """List halls."""
    with call.read() as work:
        return call.page(work, sa.select(Outlet), page, HallView.model_validate)


@router.get("/halls/{outlet_id}")
def get_hall(call: Annotated[Call, permitted("org.read")], outlet_id: str) -> HallView:
    """Return a hall."""
    with call.read() as work:
        row = work.session.get_one(Outlet, outlet_id)
        return call.show(HallView.model_validate(row), row.version)


@router.put("/halls/{outlet_id}")
def rename_hall(
    call: Annotated[Call, permitted("org.manage")], outlet_id: str, body: HallBody
) -> HallView:
    """Rename a hall."""
    with call.change() as work:
        row = work.session.get_one(Outlet, outlet_id)
        call.match(row.version)
        row.name_zh = body.name
        work.session.flush()
        return call.show(HallView.model_validate(row), row.version)


@pytest.fixture
def app(service: Service) -> FastAPI:
    app = create_app(service)
    app.include_router(router)
    return app


def create(client: TestClient, name: str, unit: str = "city-a", key: str = "k1") -> Response:
    return client.post(
        "/api/v1/halls", json={"name": name, "unit_id": unit}, headers={"Idempotency-Key": key}
    )


class TestGate:
    def test_a_route_without_a_gate_stops_the_start(self, service: Service) -> None:
        app = create_app(service)
        bare = APIRouter(prefix="/api/v1")
        bare.add_api_route("/secret", lambda: {"open": True})
        app.include_router(bare)
        with pytest.raises(UngatedRouteError, match="/api/v1/secret"):
            check_gates(app)

    def test_a_route_of_ours_without_a_gate_is_refused_where_it_is_written(self) -> None:
        with pytest.raises(UngatedRouteError, match="/secret"):
            Router(tag="x").add_api_route("/secret", lambda: {"open": True})

    def test_an_action_that_does_not_exist_is_refused(self) -> None:
        with pytest.raises(KeyError):
            permitted("plan.burn")

    def test_nobody_is_asked_to_sign_in(self, nobody: TestClient) -> None:
        answer = nobody.get("/api/v1/halls")
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"] == "Bearer"

    def test_a_role_without_the_action_is_refused(self, enter) -> None:
        answer = create(enter("planner", "province"), "x")
        assert answer.status_code == 403
        assert "org.manage" in answer.json()["en"]
        assert "系统管理" in answer.json()["zh"]

    def test_a_unit_out_of_scope_is_refused_like_one_that_is_not_there(self, enter) -> None:
        client = enter("administrator", "city-a")
        foreign, missing = create(client, "x", "city-b"), create(client, "x", "nowhere", key="k2")
        assert foreign.status_code == missing.status_code == 403
        assert foreign.json()["en"].replace("city-b", "") == missing.json()["en"].replace(
            "nowhere", ""
        )

    def test_a_change_by_cookie_needs_the_csrf_token(self, enter) -> None:
        client = enter("administrator", "city-a")
        client.headers["X-CSRF-Token"] = "forged"
        assert create(client, "x").status_code == 403
        assert client.get("/api/v1/halls").json()["items"] == []

    def test_a_forged_session_is_refused(self, nobody: TestClient) -> None:
        nobody.cookies.set("bihuan_session", "forged")
        assert nobody.get("/api/v1/halls").status_code == 401


class TestScope:
    def test_lists_show_the_callers_subtree_only(self, enter) -> None:
        admin = enter("administrator", "province")
        for number, unit in enumerate(("city-a", "county-a1", "city-b")):
            assert create(admin, unit, unit, key=str(number)).status_code == 201
        seen = enter("planner", "city-a").get("/api/v1/halls").json()["items"]
        assert {hall["unit_id"] for hall in seen} == {"city-a", "county-a1"}


class TestIdempotency:
    def test_the_same_request_twice_is_done_once(self, enter) -> None:
        client = enter("administrator", "city-a")
        first, second = create(client, "hall"), create(client, "hall")
        assert first.status_code == second.status_code == 201
        assert first.json() == second.json()
        assert second.headers["Idempotency-Replayed"] == "true"
        assert first.headers["Location"] == f"/api/v1/halls/{first.json()['outlet_id']}"
        assert len(client.get("/api/v1/halls").json()["items"]) == 1

    def test_the_key_with_another_body_is_refused(self, enter) -> None:
        client = enter("administrator", "city-a")
        create(client, "hall")
        assert create(client, "another").status_code == 422

    def test_a_key_belongs_to_its_account(self, enter) -> None:
        create(enter("administrator", "city-a"), "hall")
        assert create(enter("administrator", "city-a"), "another").status_code == 201

    def test_without_a_key_nothing_is_made(self, enter) -> None:
        client = enter("administrator", "city-a")
        answer = client.post("/api/v1/halls", json={"name": "x", "unit_id": "city-a"})
        assert answer.status_code == 400
        assert client.get("/api/v1/halls").json()["items"] == []

    def test_a_failure_frees_the_key(self, enter) -> None:
        client = enter("administrator", "city-a")
        assert create(client, "boom").status_code == 500
        assert create(client, "hall").status_code == 201

    def test_many_at_once_make_one(self, enter) -> None:
        client = enter("administrator", "city-a")
        answers: list[int] = []
        threads = [
            threading.Thread(target=lambda: answers.append(create(client, "hall").status_code))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers.count(201) >= 1
        assert set(answers) <= {201, 409}
        assert len(client.get("/api/v1/halls").json()["items"]) == 1


class TestVersions:
    def test_a_stale_change_is_refused(self, enter) -> None:
        client = enter("administrator", "city-a")
        path = create(client, "hall").headers["Location"]
        tag = client.get(path).headers["ETag"]
        body = {"name": "new", "unit_id": "city-a"}
        assert client.put(path, json=body).status_code == 428
        changed = client.put(path, json=body, headers={"If-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["ETag"] != tag
        assert client.put(path, json=body, headers={"If-Match": tag}).status_code == 412
        assert client.put(path, json=body, headers={"If-Match": "rubbish"}).status_code == 412

    def test_what_the_caller_has_is_not_sent_again(self, enter) -> None:
        client = enter("administrator", "city-a")
        created = create(client, "hall")
        again = client.get(
            created.headers["Location"], headers={"If-None-Match": created.headers["ETag"]}
        )
        assert again.status_code == 304
        assert again.content == b""


class TestPages:
    def test_pages_hold_every_row_once_while_rows_come(self, enter, clock) -> None:
        client = enter("administrator", "city-a")
        names = []
        for number in range(7):
            clock.advance(_MILLISECOND)
            names.append(create(client, f"hall {number}", key=str(number)).json()["name_zh"])
        seen, cursor = [], None
        while True:
            page = client.get(
                "/api/v1/halls", params={"limit": 3, **({"cursor": cursor} if cursor else {})}
            ).json()
            seen += [hall["name_zh"] for hall in page["items"]]
            create(client, "late", key=f"late{len(seen)}")
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == names[::-1]

    @pytest.mark.parametrize("cursor", ["rubbish", "bnVsbA==", "W10=", "dHJ1ZQ=="])
    def test_a_foreign_cursor_is_refused(self, enter, cursor: str) -> None:
        client = enter("planner", "city-a")
        assert client.get("/api/v1/halls", params={"cursor": cursor}).status_code == 422

    @pytest.mark.parametrize("limit", ["0", "201", "x", "-1"])
    def test_a_page_has_1_to_200_rows(self, enter, limit: str) -> None:
        client = enter("planner", "city-a")
        assert client.get("/api/v1/halls", params={"limit": limit}).status_code == 422


class TestBadInput:
    def test_a_slip_in_a_query_parameter_is_named(self, enter) -> None:
        answer = enter("planner", "city-a").get("/api/v1/halls", params={"limti": "3"})
        assert answer.status_code == 422
        assert "limti" in answer.json()["en"]

    def test_unknown_fields_are_named(self, enter) -> None:
        client = enter("administrator", "city-a")
        answer = client.post(
            "/api/v1/halls",
            json={"name": "x", "unit_id": "city-a", "secret": 1},
            headers={"Idempotency-Key": "k"},
        )
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["where"] == "body.secret"

    @pytest.mark.parametrize(
        "body", [b"{", b"[]", b'"x"', b"\xff\xfe", b"", b'{"name": 5, "unit_id": "city-a"}']
    )
    def test_what_is_no_such_form_is_refused(self, enter, body: bytes) -> None:
        client = enter("administrator", "city-a")
        headers = {"Idempotency-Key": "k", "content-type": "application/json"}
        answer = client.post("/api/v1/halls", content=body, headers=headers)
        assert answer.status_code == 422
        assert answer.headers["content-type"] == "application/problem+json"

    @pytest.mark.parametrize("is_announced", [True, False])
    def test_a_huge_body_is_refused(self, enter, is_announced: bool) -> None:
        client = enter("administrator", "city-a")
        lump = b"x" * 1_000_000
        content = lump * 11 if is_announced else (lump for _ in range(11))
        answer = client.post("/api/v1/halls", content=content, headers={"Idempotency-Key": "k"})
        assert answer.status_code == 413

    def test_unknown_paths_and_methods_are_problems(self, nobody: TestClient) -> None:
        for answer in (nobody.get("/api/v1/nothing"), nobody.delete("/api/v1/halls")):
            assert answer.status_code in (404, 405)
            assert answer.headers["content-type"] == "application/problem+json"

    def test_a_defect_of_ours_is_told_with_its_request(self, enter) -> None:
        client = enter("administrator", "city-a")
        client.headers["X-Request-ID"] = "seen-by-me"
        answer = create(client, "boom")
        assert answer.status_code == 500
        assert answer.json()["request_id"] == "seen-by-me"
        assert "a defect of ours" not in answer.text


class TestLanguage:
    def test_the_detail_speaks_the_callers_language(self, nobody: TestClient) -> None:
        zh = nobody.get("/api/v1/halls", headers={"Accept-Language": "zh-CN,zh;q=0.9"}).json()
        en = nobody.get("/api/v1/halls", headers={"Accept-Language": "en"}).json()
        assert zh["detail"] == en["zh"] == zh["zh"]
        assert en["detail"] == en["en"]


class TestRate:
    def test_a_caller_is_slowed_and_others_are_not(self) -> None:
        now = [0.0]
        limit = RateLimit(60, lambda: now[0])
        for _ in range(60):
            limit.take("a")
        with pytest.raises(TooManyRequestsError):
            limit.take("a")
        limit.take("b")
        now[0] += 1.0
        limit.take("a")
        with pytest.raises(TooManyRequestsError):
            limit.take("a")

    def test_over_http_it_is_429_with_a_wait(self, service: Service) -> None:
        slow = Settings(workspace=service.settings.workspace, rate_per_minute=2)
        service = Service(slow, service.control, service.workspace, service.clock)
        with TestClient(create_app(service)) as client:
            answers = [client.get("/api/v1/health/live") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert answers[-1].headers["Retry-After"] == "1"
        assert answers[-1].headers["X-Request-ID"]
