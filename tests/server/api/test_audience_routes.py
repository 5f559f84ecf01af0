"""Audiences over HTTP: counted within the caller's units, small groups hidden, exports audited."""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime

import pyarrow.compute as pc
import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from bihuan.kernel import FixedClock, SilentProgress
from bihuan.server.api.application import create_app
from bihuan.server.app.organisation.intake import import_from_lake
from bihuan.server.app.service import Service
from bihuan.server.control import AuditEntry, Control, Scope, Table, open_engine
from bihuan.server.settings import Settings
from bihuan.tag import LIBRARY_FOLDER
from bihuan.twin import TwinSettings, generate_operator
from bihuan.workspace import open_workspace

from .conftest import session_of

OCTOBER = date(2026, 10, 31)
CITY = "city-1301"
K = 20


@pytest.fixture(scope="module")
def province(tmp_path_factory: pytest.TempPathFactory) -> Service:
    """A service over 3,000 simulated customers of eleven cities, with a few tags."""
    folder = tmp_path_factory.mktemp("province")
    clock = FixedClock(datetime(2026, 11, 2, 1, tzinfo=UTC))
    ws = open_workspace(folder / "workspace", clock=clock)
    shutil.copy(LIBRARY_FOLDER / "customer_base.yaml", ws.layout.definitions("tags"))
    generate_operator(
        TwinSettings(customers=3_000, months=2, seed=5), ws.lake, ws.contracts, clock=clock,
        progress=SilentProgress(),
    )  # fmt: skip
    ws.refresh_tags(OCTOBER)
    ws.index_tags(OCTOBER)
    engine = open_engine(f"sqlite:///{folder / 'control.db'}")
    Table.metadata.create_all(engine)
    control = Control(engine, clock)
    with control.work(Scope.everything()) as work:
        import_from_lake(work, ws)
    settings = Settings(workspace=folder / "workspace", rate_per_minute=10**9, small_group=K)
    return Service(settings, control, ws, clock)


@pytest.fixture
def enter(province: Service) -> Callable[[str, str], TestClient]:
    app = create_app(province)

    def sign_in(role: str, unit: str) -> TestClient:
        cookie, csrf = session_of(province, role, unit)
        return TestClient(app, cookies={"bihuan_session": cookie}, headers={"X-CSRF-Token": csrf})

    return sign_in


def ask(client: TestClient, what: str, **body: object) -> dict:
    answer = client.post(f"/api/v1/audience-{what}", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def truth(province: Service, units: str = "") -> list[dict]:
    """Return the customers themselves, those of a city if asked."""
    rows = province.workspace.view.get("customer", OCTOBER).read()
    rows = rows.filter(pc.equal(rows["network"], "on_net"))
    return [row for row in rows.to_pylist() if units in (row["org_unit_id"] or "")]


class TestCount:
    def test_a_province_counts_all_and_a_city_its_own(self, province: Service, enter) -> None:
        women = [row for row in truth(province) if row["gender"] == "F"]
        of_city = [row for row in women if row["org_unit_id"].startswith("grid-1301")]
        assert ask(enter("analyst", "province"), "counts", rule="gender = 'F'")["size"] == len(
            women
        )
        found = ask(enter("analyst", CITY), "counts", rule="gender = 'F'")
        assert found["size"] == len(of_city)
        assert found["as_of"] == "2026-10-31"

    def test_a_grid_never_counts_another(self, province: Service, enter) -> None:
        client = enter("analyst", "grid-130101-1")
        found = ask(client, "counts", rule="everyone or org_unit = 'grid-130201-1'")
        own = [row for row in truth(province) if row["org_unit_id"] == "grid-130101-1"]
        assert found["size"] == len(own)

    def test_steps_say_what_each_part_leaves(self, province: Service, enter) -> None:
        rule = "gender = 'F' and age >= 40"
        found = ask(enter("analyst", "province"), "counts", rule=rule)
        women = [row for row in truth(province) if row["gender"] == "F"]
        assert [step["left"] for step in found["steps"]] == [len(women), found["size"]]

    def test_a_small_group_is_hidden_without_clearance(self, province: Service, enter) -> None:
        one = truth(province)[0]
        rule = f"age = {2026 - one['birth_year']} and org_unit = '{one['org_unit_id']}'"
        few = ask(enter("analyst", "province"), "counts", rule=rule)
        assert 0 < few["size"] < K
        hidden = ask(enter("planner", "province"), "counts", rule=rule)
        assert hidden["size"] is None
        assert hidden["below"] == K

    def test_two_counts_that_differ_by_few_are_refused(self, province: Service, enter) -> None:
        one = truth(province)[0]
        client = enter("planner", "province")
        ask(client, "counts", rule="gender = 'F' or gender = 'M'")
        close = client.post(
            "/api/v1/audience-counts",
            json={"rule": f"(gender = 'F' or gender = 'M') and not (age = "
                  f"{2026 - one['birth_year']} and org_unit = '{one['org_unit_id']}')"},
        )  # fmt: skip
        assert close.status_code == 422
        assert "close-question" in close.json()["type"]

    def test_a_slip_in_the_rule_is_shown_with_its_place(self, enter) -> None:
        answer = enter("planner", "province").post(
            "/api/v1/audience-counts", json={"rule": "agee >= 40"}
        )
        assert answer.status_code == 422
        assert "age" in answer.json()["en"]


class TestDistributions:
    def test_a_cross_table_adds_up(self, province: Service, enter) -> None:
        found = ask(enter("analyst", "province"), "cross-tables", rule="everyone", tags=["gender"])
        assert sum(found["counts"]) == len(truth(province))

    def test_small_cells_cannot_be_computed(self, enter) -> None:
        body = {"rule": "everyone", "tags": ["age", "gender"]}
        whole = ask(enter("analyst", "province"), "cross-tables", **body)
        told = ask(enter("planner", "province"), "cross-tables", **body)
        cells = list(zip(whole["counts"], told["counts"], strict=True))
        for row, shown in cells:
            for count, cell in zip(row, shown, strict=True):
                assert cell is None or (cell == count and cell >= K)
        for _, shown in cells:
            assert sum(cell is None for cell in shown) != 1

    def test_a_histogram_hides_its_thin_ends(self, enter) -> None:
        body = {"rule": "everyone", "tag": "age", "bins": 60}
        whole = ask(enter("analyst", "province"), "histograms", **body)
        told = ask(enter("planner", "province"), "histograms", **body)
        assert any(count < K for count in whole["counts"])
        hidden = [c for c, shown in zip(whole["counts"], told["counts"], strict=True)
                  if shown is None]  # fmt: skip
        assert sum(hidden) >= K
        assert all(shown is None or shown >= K for shown in told["counts"])

    def test_a_threshold_leaves_the_wanted_number(self, province: Service, enter) -> None:
        found = ask(
            enter("planner", "province"), "thresholds", rule="everyone", tag="age", size=500
        )
        older = [r for r in truth(province) if 2026 - r["birth_year"] >= found["value"]]
        assert found["size_with_ties"] == len(older) >= 500


class TestKept:
    def test_an_audience_is_kept_changed_and_removed(self, enter) -> None:
        client = enter("planner", CITY)
        made = client.post(
            "/api/v1/audiences",
            json={"title": "女性客户", "rule": "gender='F'", "unit_id": CITY},
            headers={"Idempotency-Key": "1"},
        )
        assert made.status_code == 201, made.text
        path = made.headers["Location"]
        change = {"title": "四十岁以上", "rule": "age >= 40"}
        changed = client.put(path, json=change, headers={"If-Match": made.headers["ETag"]})
        assert changed.json()["rule"] == "age >= 40"
        assert enter("planner", "city-1302").get(path).status_code == 404
        gone = client.delete(path, headers={"If-Match": changed.headers["ETag"]})
        assert gone.status_code == 204
        assert client.get(path).status_code == 404

    def test_a_shared_audience_is_seen_below_and_not_changed_there(self, enter) -> None:
        top, city = enter("planner", "province"), enter("planner", CITY)
        made = top.post(
            "/api/v1/audiences",
            json={"title": "全省", "rule": "gender = 'F'", "unit_id": "province"},
            headers={"Idempotency-Key": "2"},
        )
        path, body = made.headers["Location"], {"title": "全省", "rule": "gender = 'F'"}
        assert city.get(path).status_code == 404
        shared = top.put(
            path, json={**body, "sharing": "down"}, headers={"If-Match": made.headers["ETag"]}
        )
        assert city.get(path).status_code == 200
        forbidden = city.put(path, json=body, headers={"If-Match": shared.headers["ETag"]})
        assert forbidden.status_code == 403


class TestExport:
    def test_the_list_holds_the_callers_customers_and_is_audited(
        self, province: Service, enter
    ) -> None:
        answer = enter("analyst", CITY).post(
            "/api/v1/audience-exports", json={"rule": "gender = 'F'", "tags": ["age"]}
        )
        rows = list(csv.DictReader(io.StringIO(answer.text.lstrip("\ufeff"))))
        own = {row["customer_id"] for row in truth(province)
               if row["gender"] == "F" and row["org_unit_id"].startswith("grid-1301")}  # fmt: skip
        assert {row["customer_id"] for row in rows} == own
        with province.control.work(Scope.everything(), read_only=True) as work:
            entry = work.session.scalars(
                sa.select(AuditEntry).where(AuditEntry.action == "audience.export")
            ).all()[-1]
        assert entry.detail["rows"] == len(own)

    def test_a_planner_exports_nothing(self, enter) -> None:
        answer = enter("planner", CITY).post(
            "/api/v1/audience-exports", json={"rule": "gender = 'F'"}
        )
        assert answer.status_code == 403


class TestTags:
    def test_tags_are_found_by_their_chinese_title(self, enter) -> None:
        client = enter("planner", CITY)
        found = client.get("/api/v1/tags", params={"text": "年龄"}).json()["items"]
        assert "age" in {tag["name"] for tag in found}
        whole = client.get("/api/v1/tags/age").json()
        assert whole["columns"] == ["customer.birth_year"]
        assert whole["definition"]["zh"]

    def test_pages_go_through_the_whole_dictionary(self, province: Service, enter) -> None:
        client, seen, cursor = enter("planner", CITY), [], None
        while True:
            params = {"limit": 7, **({"cursor": cursor} if cursor else {})}
            page = client.get("/api/v1/tags", params=params).json()
            seen += [tag["name"] for tag in page["items"]]
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == sorted(province.workspace.dictionary.names)

    def test_an_unknown_tag_is_not_found(self, enter) -> None:
        assert enter("planner", CITY).get("/api/v1/tags/nonsense").status_code == 404
