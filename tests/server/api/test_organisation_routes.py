"""Units, places and imports over HTTP."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from starlette.testclient import TestClient
from tests.server.api.conftest import Enter

from bihuan.kernel import FixedClock

_KEYS = itertools.count()
SECOND = timedelta(seconds=1)


def send(client: TestClient, path: str, body: object, **headers: str):
    headers.setdefault("Idempotency-Key", f"org-{next(_KEYS)}")
    return client.post(f"/api/v1{path}", json=body, headers=headers)


def change(client: TestClient, method: str, path: str, body: object = None):
    thing = path if method == "PATCH" else path.rsplit("/", 1)[0]
    tag = client.get(f"/api/v1{thing}").headers["ETag"]
    return client.request(method, f"/api/v1{path}", json=body, headers={"If-Match": tag})


GRID = {"unit_id": "grid-new", "parent_id": "county-a1", "tier": "grid", "name_zh": "新网格"}


class TestUnits:
    def test_open_rename_move_close(self, enter: Enter, clock: FixedClock) -> None:
        admin = enter("administrator", "city-a")
        made = send(admin, "/org-units", GRID)
        assert made.status_code == 201, made.text
        assert made.headers["Location"] == "/api/v1/org-units/grid-new"
        clock.advance(SECOND)
        renamed = change(admin, "PATCH", "/org-units/grid-new", {"name_zh": "东网格"})
        assert (renamed.json()["name_zh"], renamed.json()["version"]) == ("东网格", 2)
        clock.advance(SECOND)
        moved = change(admin, "POST", "/org-units/grid-new/move", {"parent_id": "county-a2"})
        assert moved.json()["parent_id"] == "county-a2"
        path = admin.get("/api/v1/org-units/grid-new/path").json()
        assert [u["unit_id"] for u in path] == ["province", "city-a", "county-a2", "grid-new"]
        clock.advance(SECOND)
        assert change(admin, "POST", "/org-units/grid-new/closure").json()["status"] == "closed"
        clock.advance(SECOND)
        assert change(admin, "POST", "/org-units/grid-new/reopening").json()["status"] == "active"
        kinds = [c["kind"] for c in admin.get("/api/v1/org-units/grid-new/changes").json()["items"]]
        assert kinds == ["reopened", "closed", "moved", "renamed", "opened"]

    def test_a_stale_change_is_refused(self, enter: Enter) -> None:
        admin = enter("administrator", "city-a")
        change(admin, "PATCH", "/org-units/grid-a11", {"name_zh": "东网格"})
        late = admin.patch(
            "/api/v1/org-units/grid-a11", json={"name_zh": "西网格"}, headers={"If-Match": '"1"'}
        )
        assert late.status_code == 412
        bare = admin.patch("/api/v1/org-units/grid-a11", json={"name_zh": "西网格"})
        assert bare.status_code == 428

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            ({**GRID, "parent_id": "county-b1"}, 404),
            ({**GRID, "tier": "city"}, 422),
            ({**GRID, "tier": "shire"}, 422),
            ({**GRID, "unit_id": "grid-b11"}, 409),
            ({**GRID, "unit_id": "has blank"}, 422),
            ({**GRID, "name_zh": "a\u0000b"}, 422),
            ({**GRID, "name_zh": ""}, 422),
            ({**GRID, "boss": "me"}, 422),
        ],
    )
    def test_bad_wishes(self, enter: Enter, body: dict[str, str], status: int) -> None:
        assert send(enter("administrator", "city-a"), "/org-units", body).status_code == status

    def test_what_a_county_sees(self, enter: Enter) -> None:
        planner = enter("planner", "county-a1")

        def seen(**query: str) -> set[str]:
            answer = planner.get("/api/v1/org-units", params={"limit": 200, **query})
            return {unit["unit_id"] for unit in answer.json()["items"]}

        assert "county-a2" not in seen()
        assert "county-b1" not in seen()
        assert seen(tier="grid") == {"grid-a11", "grid-a12"}
        assert seen(tier="city") == {"city-a"}
        assert planner.get("/api/v1/org-units/county-a2").status_code == 404
        assert planner.get("/api/v1/org-units/%00").status_code in (404, 422)
        subtree = planner.get("/api/v1/org-units/province/subtree").json()["items"]
        assert "city-b" not in {unit["unit_id"] for unit in subtree}

    def test_rings_and_rules_are_told_in_both_languages(self, enter: Enter) -> None:
        admin = enter("administrator", "province")
        answer = change(admin, "POST", "/org-units/city-a/move", {"parent_id": "county-a1"})
        problem = answer.json()
        assert answer.status_code == 422
        assert problem["type"] == "urn:bihuan:problem:ring"
        assert "会形成环" in problem["zh"]


class TestPlaces:
    @pytest.mark.parametrize(
        ("path", "key", "kind", "state"),
        [
            ("outlets", "outlet_id", "own", "refit"),
            ("crews", "crew_id", "repair", "off_duty"),
            ("areas", "area_id", "campus", "closed"),
        ],
    )
    def test_open_list_change(
        self, enter: Enter, path: str, key: str, kind: str, state: str
    ) -> None:
        admin = enter("administrator", "city-a")
        body = {key: "place-1", "unit_id": "grid-a11", "kind": kind, "name_zh": "示例"}
        assert send(admin, f"/{path}", body).status_code == 201
        assert send(admin, f"/{path}", body).status_code == 409
        changed = change(admin, "PATCH", f"/{path}/place-1", {"status": state})
        assert changed.json()["status"] == state
        foreign = change(admin, "PATCH", f"/{path}/place-1", {"unit_id": "grid-b11"})
        assert foreign.status_code == 404
        listed = enter("planner", "county-a1").get(f"/api/v1/{path}").json()["items"]
        assert [place[key] for place in listed] == ["place-1"]
        assert enter("planner", "county-a2").get(f"/api/v1/{path}").json()["items"] == []

    def test_areas_cover_units(self, enter: Enter) -> None:
        admin = enter("administrator", "city-a")
        body = {"area_id": "a-1", "unit_id": "grid-a11", "kind": "campus", "name_zh": "大学城"}
        send(admin, "/areas", body)
        answer = admin.put("/api/v1/areas/a-1/units", json={"ids": ["grid-a12"]})
        assert answer.json() == ["grid-a11", "grid-a12"]
        foreign = admin.put("/api/v1/areas/a-1/units", json={"ids": ["grid-b11"]})
        assert foreign.status_code == 404


class TestImports:
    UNITS = (
        {"org_unit_id": "province", "parent_id": None, "tier": "province", "name_zh": "模拟省"},
        {"org_unit_id": "city-c", "parent_id": "province", "tier": "city", "name_zh": "丙市"},
        {"org_unit_id": "county-c1", "parent_id": "city-c", "tier": "county"},
        {"org_unit_id": "county-c2", "parent_id": "city-c", "tier": "county"},
        {"org_unit_id": "grid-lost", "parent_id": "county-x", "tier": "grid"},
    )
    STAFF = ({"staff_id": "s-c", "org_unit_id": "city-c", "post": "director"},)

    def test_bad_rows_are_listed_and_replayed(self, enter: Enter) -> None:
        admin = enter("administrator", "province")
        body = {"source": "rows", "units": self.UNITS, "staff": self.STAFF}
        made = send(admin, "/org-imports", body)
        assert made.status_code == 201, made.text
        report = made.json()
        assert report["counts"]["refused"] == 1
        path = f"/org-imports/{report['import_id']}"
        [row] = admin.get(f"/api/v1{path}/refused-rows").json()["items"]
        assert (row["subject_id"], row["reason"], row["zh"]) == (
            "grid-lost",
            "no_parent",
            "上级不存在",
        )
        mended = {"corrections": {row["row_id"]: {"parent_id": "county-c1"}}}
        again = send(admin, f"{path}/replays", mended)
        assert again.json()["counts"] == {"units_opened": 1}
        assert send(admin, f"{path}/replays", mended).status_code == 409

    def test_a_broken_tree_is_refused(self, enter: Enter) -> None:
        two = [*self.UNITS[:2], {"org_unit_id": "q", "parent_id": None, "tier": "province"}]
        answer = send(
            enter("administrator", "province"), "/org-imports", {"source": "rows", "units": two}
        )
        assert answer.status_code == 422
        assert answer.json()["type"] == "urn:bihuan:problem:broken-tree"

    def test_a_city_sees_only_its_own_imports(self, enter: Enter) -> None:
        top, city = enter("administrator", "province"), enter("administrator", "city-a")
        body = {"source": "rows", "units": self.UNITS[:4]}
        made = send(top, "/org-imports", body).json()
        assert city.get("/api/v1/org-imports").json()["items"] == []
        assert city.get(f"/api/v1/org-imports/{made['import_id']}").status_code == 404
        path = f"/api/v1/org-imports/{made['import_id']}/refused-rows"
        assert city.get(path).status_code == 404

    def test_from_a_lake_without_units(self, enter: Enter) -> None:
        answer = send(enter("administrator", "province"), "/org-imports", {"source": "lake"})
        assert answer.status_code == 422
        assert "Ingest it first" in answer.json()["en"]
