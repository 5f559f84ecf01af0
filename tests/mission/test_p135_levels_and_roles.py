"""P135: levels, tiers and roles.

D-09 four levels of marketing (province, city, county, grid), all roles; D-10 seven tiers down to
the single seller; D-16 the four layers of operating management. Through HTTP, over the simulated
province with its 14,700 leaders and employees.
"""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace

import pytest

from bihuan.demo.service import lay_out_service

from .by_hand import open_at
from .served import Person, serving

TIERS = ["province", "city", "county", "line", "grid", "ceo", "seller"]
LAYERS = ["management", "line", "small_ceo", "sales"]
ROLES = {
    "planner": ("plan.edit", "plan.approve"),
    "analyst": ("audience.export", "plan.edit"),
    "approver": ("plan.approve", "plan.edit"),
    "channel-operator": ("strategy.publish", "plan.edit"),
    "outbound-seat": ("customer.read", "audience.read"),
    "hall-clerk": ("customer.opt_out", "customer.unmask"),
    "account-manager": ("customer.unmask", "plan.edit"),
    "grid-manager": ("staff.read", "plan.edit"),
    "product-manager": ("policy.edit", "plan.approve"),
    "director": ("plan.approve", "account.manage"),
    "auditor": ("audit.read", "staff.manage"),
    "administrator": ("account.manage", "customer.read"),
}
"""One thing that each role may do, and one that it may not."""


@pytest.fixture(scope="module")
def province(tmp_path_factory):
    """A service over the whole simulated province."""
    folder = tmp_path_factory.mktemp("province") / "ws"
    open_at(folder)
    laid_out = lay_out_service(folder, whole_province=True)
    people: dict[str, Person] = {}
    with serving(folder, worker=False) as url:

        def enter(name: str) -> Person:
            if name not in people:
                people[name] = Person(url, name)
            return people[name]

        yield SimpleNamespace(enter=enter, laid_out=laid_out)
        for person in people.values():
            person.http.close()


def everything(person: Person, path: str, **query: object) -> list[dict]:
    """Read a list to its end."""
    rows, cursor = [], None
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = person.see(path, limit=200, **query, **more)
        rows += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return rows


@pytest.mark.mission("P135")
class TestTiers:
    """D-10 province, city, county, professional line, grid, CEO, single seller."""

    def test_a_sellers_way_up_has_all_seven(self, province):
        path = province.enter("demo-director").see("/org-units/seller-130101-1/path")
        assert [unit["tier"] for unit in path] == TIERS
        assert path[1]["name_zh"] == "石家庄（模拟）"

    def test_the_province_has_14_700_people(self, province):
        staff = everything(province.enter("demo-director"), "/staff", status="active")
        people = [person for person in staff if not person["staff_id"].startswith("demo-")]
        assert len(people) == 14_700

    def test_no_tier_stands_where_it_does_not_belong(self, province):
        admin = province.enter("demo-administrator")
        for tier, parent in (
            ("city", "county-130101"),
            ("seller", "city-1301"),
            ("grid", "province"),
        ):
            body = {"unit_id": "misplaced", "parent_id": parent, "tier": tier, "name_zh": "错位"}
            answer = admin.post("/org-units", body)
            assert answer.status_code == 422
            assert answer.json()["type"] == "urn:bihuan:problem:tier-order"


@pytest.mark.mission("P135")
class TestLevels:
    """D-09 each of the four levels works in its own territory and sees no other."""

    @pytest.mark.parametrize(
        ("name", "grids"),
        [
            ("demo-director", 264),
            ("demo-planner", 24),
            ("demo-county-planner", 4),
            ("demo-grid-manager", 1),
        ],
    )
    def test_a_level_sees_the_grids_below_it(self, province, name, grids):
        assert len(everything(province.enter(name), "/org-units", tier="grid")) == grids

    def test_a_county_sees_its_own_people_and_nobody_elses(self, province):
        county = province.enter("demo-county-planner")
        below = {unit["unit_id"] for unit in everything(county, "/org-units/county-130101/subtree")}
        staff = everything(county, "/staff")
        assert len(staff) > 100
        assert {person["unit_id"] for person in staff} <= below
        foreign = "staff-seller-130102-1"
        assert province.enter("demo-director").get(f"/staff/{foreign}").status_code == 200
        assert county.get(f"/staff/{foreign}").status_code == 404
        assert county.see("/staff", unit_id="county-130102")["items"] == []

    def test_a_grid_that_moves_is_seen_by_its_new_county_at_once(self, province):
        admin = province.enter("demo-administrator")
        neighbours = province.enter("demo-county-planner")
        seller = "staff-seller-130102-4"
        assert neighbours.get(f"/staff/{seller}").status_code == 404
        tag = admin.get("/org-units/grid-130102-4").headers["ETag"]
        target = {"parent_id": "line-130101-public"}
        assert admin.post("/org-units/grid-130102-4/move", target, match=tag).status_code == 200
        assert neighbours.get(f"/staff/{seller}").status_code == 200
        [change] = admin.see("/org-units/grid-130102-4/changes", limit=1)["items"]
        assert (change["kind"], change["old_parent_id"]) == ("moved", "line-130102-public")
        tag = admin.get("/org-units/grid-130102-4").headers["ETag"]
        back = {"parent_id": "line-130102-public"}
        assert admin.post("/org-units/grid-130102-4/move", back, match=tag).status_code == 200
        assert neighbours.get(f"/staff/{seller}").status_code == 404


@pytest.mark.mission("P135")
class TestLayers:
    """D-16 management layer, professional lines, small CEOs, sales staff."""

    def test_everybody_has_a_place_in_one_of_four_layers(self, province):
        county = province.enter("demo-county-planner")
        layers = Counter(post["layer"] for post in everything(county, "/posts"))
        assert set(layers) == set(LAYERS)
        assert layers["sales"] > layers["small_ceo"] > layers["line"]

    def test_a_seller_reports_over_the_small_ceo_to_the_management(self, province):
        director = province.enter("demo-director")
        [post] = director.see("/posts", staff_id="staff-seller-130101-1")["items"]
        line = director.see(f"/posts/{post['post_id']}/reporting-line")
        layers = [step["layer"] for step in line]
        assert layers[0] == "sales"
        assert layers[-1] == "management"
        assert layers == sorted(layers, key=LAYERS.index, reverse=True)
        assert {"small_ceo", "line"} < set(layers)

    def test_who_reports_to_whom_may_differ_from_the_territory(self, province):
        admin = province.enter("demo-administrator")
        [lead] = admin.see("/posts", unit_id="line-130101-channel", role="planner")["items"]
        [clerk] = admin.see("/posts", unit_id="grid-130101-2", role="hall_clerk")["items"]
        path = f"/posts/{clerk['post_id']}"
        tag = admin.get(path).headers["ETag"]
        body = {"superior_post_id": lead["post_id"]}
        assert admin.put(f"{path}/superior", body, match=tag).status_code == 200
        line = admin.see(f"{path}/reporting-line")
        assert line[1]["unit_id"] == "line-130101-channel"
        territory = {unit["unit_id"] for unit in admin.see("/org-units/grid-130101-2/path")}
        assert "line-130101-channel" not in territory


@pytest.mark.mission("P135")
class TestRoles:
    """D-09 all roles: each signs in, does its part and no other."""

    @pytest.mark.parametrize("role", sorted(ROLES))
    def test_a_role_may_do_its_part_only(self, province, role):
        may, may_not = ROLES[role]
        me = province.enter(f"demo-{role}").see("/me")
        assert [post["role"] for post in me["posts"]] == [role.replace("-", "_")]
        assert may in me["actions"]
        assert may_not not in me["actions"]

    def test_nobody_both_writes_and_approves(self, province):
        for role in province.enter("demo-planner").see("/roles"):
            assert not {"plan.edit", "plan.approve"} <= set(role["actions"])

    def test_a_city_cannot_make_an_administrator_of_the_province(self, province):
        city = province.enter("demo-city-administrator")
        someone = {"staff_id": "new-person", "unit_id": "city-1301", "name_zh": "新人"}
        city.make("/staff", someone)
        post = {"staff_id": "new-person", "role": "administrator", "unit_id": "province"}
        assert city.post("/posts", post).status_code == 404
        assert city.post("/posts", {**post, "unit_id": "city-1302"}).status_code == 404
        city.make("/posts", {**post, "unit_id": "county-130103"})
