"""Units and places: opened, moved, closed, and who sees them."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from tests.server.app.people_world import acting, hire, secure

from bihuan.kernel import UserError
from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.errors import ConflictError, NotFoundError, OutOfScopeError
from bihuan.server.app.organisation import (
    NewPlace,
    NewUnit,
    NotEmptyError,
    RingError,
    TierOrderError,
    change_place,
    close_unit,
    covered_units,
    crew_members,
    find_changes,
    find_places,
    find_subtree,
    find_units,
    get_place,
    get_unit,
    move_unit,
    open_place,
    open_unit,
    path_of,
    rename_unit,
    reopen_unit,
    set_covered_units,
    set_crew_members,
)
from bihuan.server.control import (
    PAIRS,
    Control,
    OrgUnit,
    Scope,
    Staff,
    UnitOfWork,
    closure_pairs,
)

ADMIN_A = Actor("admin-a", "city-a", (Post("administrator", "city-a"),))
ADMIN = Actor("admin", "province", (Post("administrator", "province"),))


@pytest.fixture(autouse=True)
def secured(control: Control) -> None:
    secure(control)


def is_sound(work: UnitOfWork) -> bool:
    """Whether the stored pairs are those that the stored parents give."""
    with work.beyond("a test"):
        units = work.session.execute(sa.select(OrgUnit.unit_id, OrgUnit.parent_id))
        parents = {unit.unit_id: unit.parent_id for unit in units}
    stored = {
        (p.ancestor_id, p.descendant_id, p.depth) for p in work.unscoped(sa.select(PAIRS), "")
    }
    return stored == {
        (p["ancestor_id"], p["descendant_id"], p["depth"]) for p in closure_pairs(parents)
    }


class TestUnits:
    def test_open_under_a_unit_of_mine(self, control: Control) -> None:
        with acting(control, ADMIN_A, "org.manage") as work:
            unit = open_unit(work, NewUnit("grid-new", "county-a1", "grid", "新网格"))
            assert (unit.status, unit.version) == ("active", 1)
            assert [u.unit_id for u in path_of(work, "grid-new")] == [
                "province",
                "city-a",
                "county-a1",
                "grid-new",
            ]
            changes = work.session.scalars(find_changes("grid-new")).all()
            assert [(c.kind, c.new_parent_id, c.account_id) for c in changes] == [
                ("opened", "county-a1", "admin-a")
            ]
            assert is_sound(work)

    @pytest.mark.parametrize("parent", ["county-b1", "province", "nowhere"])
    def test_not_under_somebody_elses(self, control: Control, parent: str) -> None:
        with acting(control, ADMIN_A, "org.manage") as work, pytest.raises(NotFoundError):
            open_unit(work, NewUnit("grid-new", parent, "grid", "新网格"))

    def test_an_id_taken_out_of_sight_is_taken(self, control: Control) -> None:
        with acting(control, ADMIN_A, "org.manage") as work, pytest.raises(ConflictError):
            open_unit(work, NewUnit("grid-b11", "county-a1", "grid", "新网格"))

    @pytest.mark.parametrize(
        ("tier", "parent"),
        [("city", "county-a1"), ("seller", "county-a1"), ("county", "grid-a11"), ("x", "city-a")],
    )
    def test_tiers_keep_their_order(self, control: Control, tier: str, parent: str) -> None:
        with acting(control, ADMIN_A, "org.manage") as work, pytest.raises(TierOrderError):
            open_unit(work, NewUnit("new", parent, tier, "新"))

    def test_rename_raises_the_version_and_is_on_record(self, control: Control) -> None:
        with acting(control, ADMIN_A, "org.manage") as work:
            unit = rename_unit(work, get_unit(work, "county-a1"), name_zh="新县")
            work.session.flush()
            assert (unit.name_zh, unit.version) == ("新县", 2)
            change = work.session.scalars(find_changes("county-a1")).one()
            assert (change.old_name, change.new_name) == ("county-a1", "新县")

    def test_a_unit_above_is_seen_and_not_changed(self, control: Control) -> None:
        with acting(control, ADMIN_A, "org.manage") as work:
            top = get_unit(work, "province")
            with pytest.raises(NotFoundError):
                rename_unit(work, top, name_zh="我的省")


class TestMove:
    def test_the_subtree_goes_along(self, control: Control) -> None:
        with acting(control, ADMIN_A, "org.manage") as work:
            move_unit(work, get_unit(work, "grid-a11"), "county-a2")
            assert [u.unit_id for u in path_of(work, "seller-a11")] == [
                "province",
                "city-a",
                "county-a2",
                "grid-a11",
                "ceo-a11",
                "seller-a11",
            ]
            change = work.session.scalars(find_changes("grid-a11")).one()
            assert (change.kind, change.old_parent_id, change.new_parent_id) == (
                "moved",
                "county-a1",
                "county-a2",
            )
            assert is_sound(work)

    def test_what_a_county_sees_goes_along_at_once(self, control: Control) -> None:
        director = Actor("d", "county-a2", (Post("director", "county-a2"),))
        with control.work(Scope.everything()) as work:
            hire(work, "s-1", "grid-a11")
        with acting(control, director, "staff.read") as work:
            assert work.session.scalars(sa.select(Staff.staff_id)).all() == []
        with acting(control, ADMIN_A, "org.manage") as work:
            move_unit(work, get_unit(work, "grid-a11"), "county-a2")
        with acting(control, director, "staff.read") as work:
            assert work.session.scalars(sa.select(Staff.staff_id)).all() == ["s-1"]

    def test_to_a_foreign_city_takes_somebody_above(self, control: Control) -> None:
        with acting(control, ADMIN_A, "org.manage") as work, pytest.raises(NotFoundError):
            move_unit(work, get_unit(work, "grid-a11"), "county-b1")
        with acting(control, ADMIN, "org.manage") as work:
            move_unit(work, get_unit(work, "grid-a11"), "county-b1")
            assert is_sound(work)

    def test_ones_own_root_stays(self, control: Control) -> None:
        county = Actor("c", "county-a1", (Post("administrator", "county-a1"),))
        with acting(control, county, "org.manage") as work, pytest.raises(OutOfScopeError):
            move_unit(work, get_unit(work, "county-a1"), "city-b")

    def test_rings_and_the_top(self, control: Control) -> None:
        with acting(control, ADMIN, "org.manage") as work:
            with pytest.raises(RingError):
                move_unit(work, get_unit(work, "city-a"), "county-a1")
            with pytest.raises(RingError):
                move_unit(work, get_unit(work, "city-a"), "city-a")
            with pytest.raises(TierOrderError):
                move_unit(work, get_unit(work, "province"), "city-a")
            assert is_sound(work)


class TestClose:
    def test_not_while_something_open_stands_under_it(self, control: Control) -> None:
        with acting(control, ADMIN_A, "org.manage") as work:
            hire(work, "s-1", "grid-a12")
            open_place(work, NewPlace("outlet", "hall-1", "grid-a12", "own", "营业厅"))
            with pytest.raises(NotEmptyError) as refused:
                close_unit(work, get_unit(work, "grid-a12"))
            assert "1 staff, 1 outlets" in str(refused.value)

    def test_closed_and_opened_again(self, control: Control) -> None:
        with acting(control, ADMIN_A, "org.manage") as work:
            unit = close_unit(work, get_unit(work, "grid-a12"))
            assert unit.status == "closed"
            with pytest.raises(ConflictError):
                open_unit(work, NewUnit("ceo-new", "grid-a12", "ceo", "小CEO"))
            assert reopen_unit(work, unit).status == "active"
            kinds = [c.kind for c in work.session.scalars(find_changes("grid-a12"))]
            assert sorted(kinds) == ["closed", "reopened"]


class TestListings:
    def test_by_parent_and_tier_and_subtree(self, control: Control) -> None:
        with acting(control, ADMIN_A, "org.read") as work:

            def ids(statement: Any) -> set[str]:
                return {unit.unit_id for unit in work.session.scalars(statement)}

            assert ids(find_units(parent_id="city-a")) == {"county-a1", "county-a2"}
            assert ids(find_units(tier="city")) == {"city-a"}
            assert ids(find_subtree("grid-a11")) == {"grid-a11", "ceo-a11", "seller-a11"}
            assert ids(find_subtree("county-b1")) == set()


class TestPlaces:
    def test_seen_from_above_and_not_from_beside(self, control: Control) -> None:
        county = Actor("c2", "county-a2", (Post("planner", "county-a2"),))
        with acting(control, ADMIN_A, "org.manage") as work:
            open_place(work, NewPlace("outlet", "hall-1", "grid-a11", "own", "营业厅"))
        with acting(control, ADMIN_A, "org.read") as work:
            assert len(work.session.scalars(find_places("outlet", unit_id="county-a1")).all()) == 1
        with acting(control, county, "org.read") as work:
            assert work.session.scalars(find_places("outlet")).all() == []
            with pytest.raises(NotFoundError):
                get_place(work, "outlet", "hall-1")

    def test_a_place_is_not_given_away(self, control: Control) -> None:
        with acting(control, ADMIN_A, "org.manage") as work:
            hall = open_place(work, NewPlace("outlet", "hall-1", "grid-a11", "own", "营业厅"))
            with pytest.raises(NotFoundError):
                change_place(work, "outlet", hall, unit_id="grid-b11")
            with pytest.raises(UserError, match="no state"):
                change_place(work, "outlet", hall, status="lost")

    def test_members_of_a_crew_are_staff_within_reach(self, control: Control) -> None:
        with control.work(Scope.everything()) as work:
            hire(work, "s-a", "grid-a11")
            hire(work, "s-b", "grid-b11")
            crew = open_place(work, NewPlace("crew", "crew-1", "county-a1", "repair", "装维"))
            set_crew_members(work, crew, ["s-a", "s-b"])
        with acting(control, ADMIN_A, "staff.manage") as work:
            crew = get_place(work, "crew", "crew-1")
            assert crew_members(work, crew) == ["s-a"]
            with pytest.raises(NotFoundError):
                set_crew_members(work, crew, ["s-b"])
            set_crew_members(work, crew, [])
        with control.work(Scope.everything()) as work:
            assert crew_members(work, get_place(work, "crew", "crew-1")) == ["s-b"]

    def test_an_area_reaches_over_units(self, control: Control) -> None:
        with acting(control, ADMIN_A, "org.manage") as work:
            area = open_place(work, NewPlace("area", "area-1", "grid-a11", "campus", "大学城"))
            assert set_covered_units(work, area, ["grid-a12"]) == ["grid-a11", "grid-a12"]
            with pytest.raises(NotFoundError):
                set_covered_units(work, area, ["grid-b11"])
        county = Actor("c", "grid-a11", (Post("planner", "grid-a11"),))
        with acting(control, county, "org.read") as work:
            assert covered_units(work, get_place(work, "area", "area-1")) == ["grid-a11"]
