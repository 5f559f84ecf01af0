"""Staff, posts, who reports to whom, and what an administrator may not do."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from tests.server.app.people_world import CHEAP, SYSTEM, acting, hire, person, secure

from bihuan.server.app.account import NewAccount, open_account, reset_password
from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.errors import ConflictError, NotFoundError, RefusedError
from bihuan.server.app.organisation import PostPlace, natural_superiors
from bihuan.server.app.people import (
    BeyondReachError,
    NewPost,
    NewStaff,
    ReportingRingError,
    add_staff,
    change_staff,
    end_post,
    find_posts,
    find_staff,
    get_staff,
    grant_post,
    leave,
    reporting_line,
    set_superior,
)
from bihuan.server.control import Account, Control, Scope, Staff, StaffPost


@pytest.fixture(autouse=True)
def secured(control: Control) -> None:
    secure(control)


@pytest.fixture
def admin_a(control: Control) -> Actor:
    return person(control, "admin-a", "administrator", "city-a")[0]


class TestScope:
    @pytest.mark.parametrize("unit", ["county-a2", "county-b1", "city-a", "province"])
    def test_a_county_never_sees_other_units_staff(self, control: Control, unit: str) -> None:
        with control.work(Scope.everything()) as work:
            hire(work, "s-mine", "grid-a11", ("hall_clerk", "grid-a11"))
            hire(work, "s-other", unit, ("planner", unit))
        director = Actor("d", "county-a1", (Post("director", "county-a1"),))
        with acting(control, director, "staff.read") as work:
            assert [s.staff_id for s in work.session.scalars(find_staff())] == ["s-mine"]
            assert [p.staff_id for p in work.session.scalars(find_posts())] == ["s-mine"]
            assert work.session.scalars(find_staff(unit_id=unit)).all() in ([], [
                work.session.get_one(Staff, "s-mine")
            ])  # fmt: skip
            with pytest.raises(NotFoundError):
                get_staff(work, "s-other")

    def test_the_check_can_fail(self, control: Control) -> None:
        # the same listing past the scope does show the foreign person: the test above has teeth
        with control.work(Scope.everything()) as work:
            hire(work, "s-other", "county-b1")
            assert [s.staff_id for s in work.session.scalars(find_staff())] == ["s-other"]

    def test_a_person_with_a_foreign_post_shows_only_the_near_one(self, control: Control) -> None:
        with control.work(Scope.everything()) as work:
            hire(work, "s-1", "county-a1", ("planner", "county-a1"), ("analyst", "city-b"))
        director = Actor("d", "county-a1", (Post("director", "county-a1"),))
        with acting(control, director, "staff.read") as work:
            assert [p.role for p in work.session.scalars(find_posts(staff_id="s-1"))] == ["planner"]


class TestGrant:
    def test_within_ones_own_units(self, control: Control, admin_a: Actor) -> None:
        with acting(control, admin_a, "staff.manage") as work:
            add_staff(work, NewStaff("s-1", "county-a1", "策划员"))
            post = grant_post(work, admin_a, NewPost("s-1", "planner", "county-a1"))
            assert (post.layer, post.status) == ("management", "active")

    @pytest.mark.parametrize("unit", ["province", "city-b", "county-b1"])
    @pytest.mark.parametrize("role", ["administrator", "planner"])
    def test_not_beyond(self, control: Control, admin_a: Actor, unit: str, role: str) -> None:
        with acting(control, admin_a, "staff.manage") as work:
            add_staff(work, NewStaff("s-1", "county-a1", "策划员"))
            with pytest.raises(NotFoundError):
                grant_post(work, admin_a, NewPost("s-1", role, unit))

    def test_not_to_somebody_elses_people(self, control: Control, admin_a: Actor) -> None:
        with control.work(Scope.everything()) as work:
            hire(work, "s-b", "city-b")
        with acting(control, admin_a, "staff.manage") as work, pytest.raises(NotFoundError):
            grant_post(work, admin_a, NewPost("s-b", "planner", "county-a1"))

    def test_not_to_oneself_nor_taken_from_oneself(self, control: Control, admin_a: Actor) -> None:
        with acting(control, admin_a, "staff.manage") as work:
            with pytest.raises(BeyondReachError):
                grant_post(work, admin_a, NewPost("s-admin-a", "approver", "city-a"))
            own = work.session.scalars(find_posts(staff_id="s-admin-a")).one()
            with pytest.raises(BeyondReachError):
                end_post(work, admin_a, own)

    def test_a_role_is_held_once_at_a_unit(self, control: Control, admin_a: Actor) -> None:
        with acting(control, admin_a, "staff.manage") as work:
            add_staff(work, NewStaff("s-1", "county-a1", "策划员"))
            grant_post(work, admin_a, NewPost("s-1", "planner", "county-a1"))
            with pytest.raises(ConflictError):
                grant_post(work, admin_a, NewPost("s-1", "planner", "county-a1"))

    def test_lines_are_lines(self, control: Control, admin_a: Actor) -> None:
        with acting(control, admin_a, "staff.manage") as work:
            add_staff(work, NewStaff("s-1", "county-a1", "策划员"))
            with pytest.raises(RefusedError, match="no professional line"):
                grant_post(
                    work, admin_a, NewPost("s-1", "planner", "county-a1", line_id="grid-a11")
                )

    def test_staff_numbers_are_one_for_all(self, control: Control, admin_a: Actor) -> None:
        with control.work(Scope.everything()) as work:
            hire(work, "s-b", "city-b")
        with acting(control, admin_a, "staff.manage") as work, pytest.raises(ConflictError):
            add_staff(work, NewStaff("s-b", "county-a1", "同号"))


class TestTakeover:
    """A person of city A who also holds a post at the province is not city A's to take over."""

    @pytest.fixture
    def high(self, control: Control) -> Account:
        _, account = person(control, "high", "director", "city-a")
        with control.work(Scope.everything()) as work:
            grant_post(work, SYSTEM, NewPost("s-high", "administrator", "province"))
        return account

    def test_no_password_reset(self, control: Control, admin_a: Actor, high: Account) -> None:
        with acting(control, admin_a, "account.manage") as work:
            row = work.session.get_one(Account, high.account_id)
            with pytest.raises(BeyondReachError):
                reset_password(work, admin_a, row, "a phrase of mine", passwords=CHEAP)

    def test_no_account(self, control: Control, admin_a: Actor) -> None:
        with control.work(Scope.everything()) as work:
            hire(work, "s-2", "city-a", ("administrator", "province"))
        with (
            acting(control, admin_a, "account.manage") as work,
            pytest.raises(BeyondReachError),
        ):
            open_account(
                work, admin_a, NewAccount("s-2", "mine-now", "a phrase of mine"), passwords=CHEAP
            )

    def test_no_departure(self, control: Control, admin_a: Actor, high: Account) -> None:
        with acting(control, admin_a, "staff.manage") as work, pytest.raises(BeyondReachError):
            leave(work, admin_a, get_staff(work, "s-high"))

    def test_the_province_may(self, control: Control, high: Account) -> None:
        top, _ = person(control, "top", "administrator", "province")
        with acting(control, top, "account.manage") as work:
            row = work.session.get_one(Account, high.account_id)
            assert reset_password(work, top, row, "a phrase of mine", passwords=CHEAP).must_change


class TestReporting:
    def test_follows_posts_not_territory(self, control: Control) -> None:
        with control.work(Scope.everything()) as work:
            [head] = hire(work, "s-line", "city-b", ("director", "city-b"))
            [seller] = hire(work, "s-seller", "seller-a11", ("account_manager", "seller-a11"))
            set_superior(work, seller, head.post_id)
            steps = reporting_line(work, seller)
        assert [(s.staff_id, s.layer) for s in steps] == [
            ("s-seller", "sales"),
            ("s-line", "management"),
        ]

    def test_out_of_reach_the_way_is_told_and_not_the_person(self, control: Control) -> None:
        with control.work(Scope.everything()) as work:
            [boss] = hire(work, "s-boss", "province", ("director", "province"))
            [chief] = hire(work, "s-chief", "county-a1", ("director", "county-a1"))
            set_superior(work, chief, boss.post_id)
        director = Actor("d", "county-a1", (Post("director", "county-a1"),))
        with acting(control, director, "staff.read") as work:
            chief = work.session.scalars(find_posts(staff_id="s-chief")).one()
            steps = reporting_line(work, chief)
        assert [(s.role, s.unit_id, s.staff_id, s.name_zh) for s in steps] == [
            ("director", "county-a1", "s-chief", "人员 s-chief"),
            ("director", "province", None, None),
        ]

    def test_who_is_at_home_elsewhere_is_not_named(self, control: Control) -> None:
        with control.work(Scope.everything()) as work:
            [chief] = hire(work, "s-chief", "city-b", ("director", "county-a1"))
        director = Actor("d", "county-a1", (Post("director", "county-a1"),))
        with acting(control, director, "staff.read") as work:
            (step,) = reporting_line(work, work.session.get_one(StaffPost, chief.post_id))
        assert (step.unit_id, step.staff_id, step.name_zh) == ("county-a1", None, None)

    def test_a_superior_stands_within_or_above_ones_units(
        self, control: Control, admin_a: Actor
    ) -> None:
        with control.work(Scope.everything()) as work:
            [above] = hire(work, "s-p", "province", ("director", "province"))
            [beside] = hire(work, "s-b", "city-b", ("director", "city-b"))
            hire(work, "s-1", "county-a1", ("planner", "county-a1"))
        with acting(control, admin_a, "staff.manage") as work:
            post = work.session.scalars(find_posts(staff_id="s-1")).one()
            assert set_superior(work, post, above.post_id).superior_post_id == above.post_id
            with pytest.raises(RefusedError, match="no active post"):
                set_superior(work, post, beside.post_id)
            assert set_superior(work, post, None).superior_post_id is None

    def test_no_rings_and_no_higher_layer_below(self, control: Control) -> None:
        with control.work(Scope.everything()) as work:
            [a] = hire(work, "s-a", "city-a", ("director", "city-a"))
            [b] = hire(work, "s-b", "county-a1", ("director", "county-a1"))
            [sales] = hire(work, "s-c", "grid-a11", ("hall_clerk", "grid-a11"))
            set_superior(work, b, a.post_id)
            set_superior(work, sales, b.post_id)
            with pytest.raises(ReportingRingError):
                set_superior(work, a, b.post_id)
            with pytest.raises(ReportingRingError):
                set_superior(work, a, a.post_id)
            with pytest.raises(RefusedError, match="cannot report"):
                set_superior(work, a, sales.post_id)

    def test_when_a_post_ends_its_reports_pass_up(self, control: Control) -> None:
        with control.work(Scope.everything()) as work:
            [a] = hire(work, "s-a", "city-a", ("director", "city-a"))
            [b] = hire(work, "s-b", "county-a1", ("director", "county-a1"))
            [c] = hire(work, "s-c", "grid-a11", ("grid_manager", "grid-a11"))
            set_superior(work, b, a.post_id)
            set_superior(work, c, b.post_id)
            end_post(work, SYSTEM, b)
        with control.work(Scope.everything()) as work:
            assert work.session.get_one(StaffPost, c.post_id).superior_post_id == a.post_id

    def test_natural_superiors_follow_the_territory(self) -> None:
        posts = [
            PostPlace("p1", "province", "management"),
            PostPlace("c0", "city", "management", "planner"),
            PostPlace("c1", "city", "management", "director"),
            PostPlace("g1", "grid", "small_ceo"),
            PostPlace("s1", "seller", "sales"),
        ]
        parents = {"province": None, "city": "province", "county": "city", "grid": "county",
                   "seller": "grid"}  # fmt: skip
        assert natural_superiors(posts, parents) == {
            "p1": None,
            "c1": "p1",
            "c0": "c1",
            "g1": "c1",
            "s1": "g1",
        }


class TestStaff:
    def test_the_account_moves_along(self, control: Control) -> None:
        person(control, "planner", "planner", "county-a1")
        with control.work(Scope.everything()) as work:
            change_staff(work, get_staff(work, "s-planner"), unit_id="county-a2")
        with control.work(Scope.everything()) as work:
            assert work.session.scalars(sa.select(Account.unit_id)).one() == "county-a2"

    def test_nobody_is_sent_out_of_reach(self, control: Control, admin_a: Actor) -> None:
        with acting(control, admin_a, "staff.manage") as work:
            someone = add_staff(work, NewStaff("s-1", "county-a1", "策划员"))
            with pytest.raises(NotFoundError):
                change_staff(work, someone, unit_id="county-b1")

    def test_who_leaves_keeps_nothing_open(self, control: Control, admin_a: Actor) -> None:
        person(control, "planner", "planner", "county-a1")
        with acting(control, admin_a, "staff.manage") as work:
            gone = leave(work, admin_a, get_staff(work, "s-planner"))
            assert (gone.status, gone.version) == ("left", 2)
        with control.work(Scope.everything()) as work:
            post = work.session.scalars(find_posts(staff_id="s-planner", is_active=False)).one()
            account = work.session.scalars(
                sa.select(Account).where(Account.staff_id == "s-planner")
            ).one()
        assert (post.status, account.status) == ("ended", "closed")
