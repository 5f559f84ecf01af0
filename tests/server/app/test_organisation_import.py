"""Import of a whole organisation: which rows fit, what changes, what is kept."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from tests.server.app.people_world import acting, person, secure

from bihuan.data import load_contracts
from bihuan.kernel import UserError
from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.errors import ConflictError, NotFoundError
from bihuan.server.app.organisation import (
    BrokenTreeError,
    Rows,
    find_refused,
    find_units,
    get_unit,
    import_from_lake,
    import_rows,
    replay_import,
)
from bihuan.server.app.organisation.check import UnitRow, check_units
from bihuan.server.app.service import Service
from bihuan.server.control import (
    PAIRS,
    TIERS,
    UNDER,
    Control,
    OrgImportRow,
    OrgUnit,
    Scope,
    Staff,
    StaffPost,
    UnitOfWork,
    closure_pairs,
)
from bihuan.twin import province_organisation

ADMIN_A = Actor("admin-a", "city-a", (Post("administrator", "city-a"),))
ADMIN = Actor("admin", "province", (Post("administrator", "province"),))


@pytest.fixture(autouse=True)
def secured(control: Control) -> None:
    secure(control)


def unit_row(unit_id: str, parent_id: str | None, tier: str, name: str = "") -> dict[str, Any]:
    return {"org_unit_id": unit_id, "parent_id": parent_id, "tier": tier, "name_zh": name}


SMALL = [
    unit_row("province", None, "province", "模拟省"),
    unit_row("city-c", "province", "city", "丙市"),
    unit_row("county-c1", "city-c", "county"),
    unit_row("line-c1", "county-c1", "line"),
    unit_row("grid-c11", "line-c1", "grid"),
    unit_row("ceo-c11", "grid-c11", "ceo"),
    unit_row("seller-c11", "ceo-c11", "seller"),
]


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


class TestCheck:
    def reasons(self, *rows: dict[str, Any], present: Any = None) -> dict[str, str]:
        checked = check_units(rows, present or {}, max_bad_share=1)
        return {row.subject_id: row.reason for row in checked.refused}

    def test_each_flaw_has_its_reason(self) -> None:
        rows = [
            *SMALL,
            unit_row("", "province", "city"),
            unit_row("city-c", "province", "city"),
            unit_row("shire-1", "province", "shire"),
            unit_row("grid-lost", "county-lost", "grid"),
            unit_row("ceo-lost", "grid-lost", "ceo"),
            unit_row("city-in-county", "county-c1", "city"),
            unit_row("x" * 65, "province", "city"),
            unit_row("line-r1", "line-r2", "line"),
            unit_row("line-r2", "line-r1", "line"),
        ]
        assert self.reasons(*rows) == {
            "": "no_id",
            "city-c": "duplicate",
            "shire-1": "unknown_tier",
            "grid-lost": "no_parent",
            "ceo-lost": "parent_refused",
            "city-in-county": "tier_order",
            "x" * 65: "too_long",
            "line-r1": "ring",
            "line-r2": "ring",
        }

    def test_good_rows_survive_bad_ones(self) -> None:
        checked = check_units([*SMALL, unit_row("g", "nowhere", "grid")], {}, max_bad_share=0.2)
        assert list(checked.good) == [row["org_unit_id"] for row in SMALL]

    @pytest.mark.parametrize(
        "rows",
        [
            [unit_row("p", None, "province"), unit_row("q", None, "province")],
            [unit_row("a", "b", "city"), unit_row("b", "a", "city")],
            [unit_row("p", None, "province"), unit_row("g", "nowhere", "grid")],
        ],
        ids=["two tops", "no top", "too many bad"],
    )
    def test_a_broken_tree_is_refused_as_a_whole(self, rows: list[dict[str, Any]]) -> None:
        with pytest.raises(BrokenTreeError) as refused:
            check_units(rows, {}, max_bad_share=0.2)
        assert refused.value.remedy
        assert refused.value.zh

    def test_a_refused_row_leaves_the_unit_where_it_stood(self) -> None:
        present = {
            "p": UnitRow("p", None, "province", "p"),
            "c": UnitRow("c", "p", "city", "c"),
        }
        rows = [unit_row("c", "nowhere", "city"), unit_row("k", "c", "county")]
        checked = check_units(rows, present, max_bad_share=1)
        assert (list(checked.good), checked.refused[0].reason) == (["k"], "no_parent")

    def test_a_tier_is_not_changed_over_those_below(self) -> None:
        present = {
            unit: UnitRow(unit, parent, tier, "")
            for unit, parent, tier, _ in map(dict.values, SMALL)
        }
        rows = [unit_row("county-c1", "city-c", "grid")]
        assert self.reasons(*rows, present=present) == {"county-c1": "tier_order"}

    @given(
        st.lists(
            st.tuples(
                st.integers(0, 12), st.one_of(st.none(), st.integers(0, 12)), st.sampled_from(TIERS)
            ),
            max_size=25,
        )
    )
    def test_whatever_comes_nothing_is_lost_and_what_is_taken_is_a_tree(
        self, given_rows: list[tuple[int, int | None, str]]
    ) -> None:
        rows = [unit_row("p", None, "province")]
        rows += [unit_row(f"u{u}", "p" if p is None else f"u{p}", t) for u, p, t in given_rows]
        checked = check_units(rows, {}, max_bad_share=1)
        assert len(checked.good) + len(checked.refused) == len(rows)
        placed: set[str] = set()
        for unit in checked.good.values():
            assert unit.parent_id is None or unit.parent_id in placed
            if unit.parent_id is not None:
                assert checked.good[unit.parent_id].tier in UNDER[unit.tier]
            placed.add(unit.unit_id)


class TestImport:
    def test_new_renamed_moved_closed_are_reported(self, control: Control) -> None:
        with acting(control, ADMIN, "org.manage") as work:
            first = import_rows(work, Rows(SMALL))
            assert first.counts == {"units_opened": 6, "units_renamed": 1}
        again = [
            *SMALL[:2],
            unit_row("county-c1", "city-c", "county", "丙一县"),
            unit_row("county-c2", "city-c", "county"),
            unit_row("line-c1", "county-c2", "line"),
            unit_row("grid-c11", "line-c1", "grid"),
        ]
        with acting(control, ADMIN, "org.manage") as work:
            second = import_rows(work, Rows(again, is_complete=True))
            assert set(second.changes) == {
                ("county-c1", "renamed"),
                ("county-c2", "opened"),
                ("line-c1", "moved"),
                ("ceo-c11", "closed"),
                ("seller-c11", "closed"),
            }
            assert second.counts["units_unchanged"] == 3
            assert is_sound(work)
            kept = {u.unit_id: u.status for u in work.session.scalars(find_units(tier="grid"))}
            assert kept["grid-a11"] == "active"  # opened by hand: no import closes it

    def test_the_same_again_changes_nothing(self, control: Control) -> None:
        with acting(control, ADMIN, "org.manage") as work:
            import_rows(work, Rows(SMALL))
            again = import_rows(work, Rows(SMALL, is_complete=True))
        assert (again.changes, again.counts) == ((), {"units_unchanged": 7})

    def test_bad_rows_wait_and_are_replayed_with_corrections(self, control: Control) -> None:
        rows = [*SMALL, unit_row("grid-x", "county-x", "grid"), unit_row("ceo-x", "grid-x", "ceo")]
        with acting(control, ADMIN, "org.manage") as work:
            report = import_rows(work, Rows(rows, max_bad_share=0.5))
            assert report.counts["refused"] == 2
            waiting = work.session.scalars(find_refused(report.import_id)).all()
            assert {(w.subject_id, w.reason) for w in waiting} == {
                ("grid-x", "no_parent"),
                ("ceo-x", "parent_refused"),
            }
            grid = next(w for w in waiting if w.subject_id == "grid-x")
        with acting(control, ADMIN, "org.manage") as work:
            replay = replay_import(
                work, report.import_id, {grid.row_id: {"parent_id": "county-c1"}}
            )
            assert replay.counts == {"units_opened": 2}
            assert is_sound(work)
            with pytest.raises(ConflictError):
                replay_import(work, report.import_id)

    def test_nothing_is_lost_over_replays(self, control: Control) -> None:
        rows = [*SMALL, unit_row("grid-x", "county-x", "grid")]
        with acting(control, ADMIN, "org.manage") as work:
            report = import_rows(work, Rows(rows))
            replay = replay_import(work, report.import_id)
            open_rows = work.session.scalars(
                sa.select(OrgImportRow).where(OrgImportRow.replayed_in.is_(None))
            ).all()
        assert [(r.import_id, r.subject_id) for r in open_rows] == [(replay.import_id, "grid-x")]

    def test_a_broken_tree_takes_nothing(self, control: Control) -> None:
        rows = [*SMALL, unit_row("second", None, "province")]
        with pytest.raises(BrokenTreeError), acting(control, ADMIN, "org.manage") as work:
            import_rows(work, Rows(rows))
        with acting(control, ADMIN, "org.read") as work, pytest.raises(NotFoundError):
            get_unit(work, "city-c")

    def test_an_importer_takes_only_what_is_theirs(self, control: Control) -> None:
        rows = [
            unit_row("grid-mine", "county-a1", "grid"),
            unit_row("ceo-mine", "grid-mine", "ceo"),
            unit_row("county-b1", "city-b", "county", "county-b1"),  # as it is: no way in
            unit_row("grid-theirs", "county-b1", "grid"),
            unit_row("grid-b11", "county-a1", "grid"),
        ]
        staff = [
            {"staff_id": "s-mine", "org_unit_id": "grid-mine", "post": "planner"},
            {"staff_id": "s-theirs", "org_unit_id": "grid-b11", "post": "director"},
        ]
        with acting(control, ADMIN_A, "org.manage") as work:
            report = import_rows(work, Rows(rows, staff, max_bad_share=1))
        assert {(r.subject_id, r.reason) for r in report.refused} == {
            ("grid-theirs", "out_of_scope"),
            ("grid-b11", "out_of_scope"),
            ("s-theirs", "out_of_scope"),
        }
        with acting(control, ADMIN, "org.read") as work:
            assert get_unit(work, "grid-b11").parent_id == "county-b1"
            assert get_unit(work, "ceo-mine").status == "active"

    def test_a_complete_import_of_a_city_closes_nothing_elsewhere(self, control: Control) -> None:
        with acting(control, ADMIN, "org.manage") as work:
            import_rows(work, Rows(SMALL))
        with acting(control, ADMIN_A, "org.manage") as work:
            report = import_rows(
                work, Rows([unit_row("grid-mine", "county-a1", "grid")], is_complete=True)
            )
        assert report.changes == (("grid-mine", "opened"),)


class TestStaffImport:
    def take(self, control: Control, *staff: dict[str, Any], actor: Actor = ADMIN, **more: Any):
        with acting(control, actor, "org.manage") as work:
            return import_rows(work, Rows([], list(staff), **more))

    def test_people_get_posts_layers_and_superiors(self, control: Control) -> None:
        self.take(
            control,
            {"staff_id": "boss", "org_unit_id": "city-a", "post": "director"},
            {"staff_id": "head", "org_unit_id": "grid-a11", "post": "grid_manager"},
            {"staff_id": "sold", "org_unit_id": "seller-a11", "post": "客户经理"},
            {"staff_id": "clerk", "org_unit_id": "grid-a11", "post": "hall_clerk"},
        )
        with acting(control, ADMIN, "staff.read") as work:
            posts = {p.staff_id: p for p in work.session.scalars(sa.select(StaffPost))}
        layers = {name: post.layer for name, post in posts.items()}
        assert layers == {
            "boss": "management",
            "head": "small_ceo",
            "sold": "sales",
            "clerk": "sales",
        }
        above = {name: post.superior_post_id for name, post in posts.items()}
        assert above == {
            "boss": None,
            "head": posts["boss"].post_id,
            "sold": posts["head"].post_id,
            "clerk": posts["head"].post_id,
        }

    def test_flaws_are_told_and_the_person_is_not_lost(self, control: Control) -> None:
        report = self.take(
            control,
            {"staff_id": "a", "org_unit_id": "nowhere"},
            {"staff_id": "b", "org_unit_id": "city-a", "post": "wizard"},
            {"staff_id": "c", "org_unit_id": "city-a", "status": "asleep"},
            {"staff_id": "", "org_unit_id": "city-a"},
            {"staff_id": "b", "org_unit_id": "city-a"},
        )
        assert [(r.subject_id, r.reason) for r in report.refused] == [
            ("a", "unknown_unit"),
            ("b", "unknown_role"),
            ("c", "unknown_status"),
            ("", "no_id"),
            ("b", "duplicate"),
        ]
        with acting(control, ADMIN, "staff.read") as work:
            assert work.session.scalars(sa.select(Staff.staff_id)).all() == ["b"]

    def test_a_changed_post_replaces_the_imported_one_and_leaves_others(
        self, control: Control
    ) -> None:
        self.take(control, {"staff_id": "a", "org_unit_id": "city-a", "post": "planner"})
        with control.work(Scope.everything()) as work:
            work.session.add(
                StaffPost(
                    post_id="by-hand",
                    staff_id="a",
                    unit_id="city-b",
                    role="analyst",
                    layer="management",
                    since=work.now,
                )
            )
        report = self.take(control, {"staff_id": "a", "org_unit_id": "city-b", "post": "planner"})
        assert report.counts == {"staff_changed": 1, "posts_added": 1, "posts_ended": 1}
        with acting(control, ADMIN, "staff.read") as work:
            active = sa.select(StaffPost).where(StaffPost.status == "active")
            held = {(p.role, p.unit_id) for p in work.session.scalars(active)}
        assert held == {("planner", "city-b"), ("analyst", "city-b")}

    def test_who_is_no_longer_listed_has_left(self, control: Control) -> None:
        self.take(
            control,
            {"staff_id": "a", "org_unit_id": "city-a", "post": "planner"},
            {"staff_id": "b", "org_unit_id": "city-a", "post": "planner"},
        )
        report = self.take(
            control,
            {"staff_id": "b", "org_unit_id": "city-a", "post": "planner"},
            is_complete=True,
        )
        assert report.counts == {"staff_left": 1, "staff_unchanged": 1}
        with acting(control, ADMIN, "staff.read") as work:
            ended = work.session.scalars(
                sa.select(StaffPost).where(StaffPost.staff_id == "a")
            ).one()
            assert (ended.status, ended.ended_at) == ("ended", work.now)

    def test_a_complete_import_of_a_city_lets_nobody_elsewhere_go(self, control: Control) -> None:
        self.take(
            control,
            {"staff_id": "a", "org_unit_id": "city-a", "post": "planner"},
            {"staff_id": "b", "org_unit_id": "city-b", "post": "planner"},
        )
        mine = {"staff_id": "new", "org_unit_id": "city-a", "post": "planner"}
        report = self.take(control, mine, is_complete=True, actor=ADMIN_A)
        assert report.counts["staff_left"] == 1
        with acting(control, ADMIN, "staff.read") as work:
            states = {row.staff_id: row.status for row in work.session.scalars(sa.select(Staff))}
        assert (states["a"], states["b"]) == ("left", "active")

    def test_nobody_imports_a_post_for_themself(self, control: Control) -> None:
        actor, _ = person(control, "admin-a", "administrator", "city-a")
        self.take(
            control,
            {"staff_id": "s-admin-a", "org_unit_id": "city-a", "post": "approver",
             "name_zh": "人员 s-admin-a"},
            actor=actor,
        )  # fmt: skip
        with acting(control, ADMIN, "staff.read") as work:
            assert work.session.scalars(sa.select(StaffPost.role)).all() == ["administrator"]


@pytest.fixture
def province(service: Service) -> dict[str, Any]:
    return province_organisation(load_contracts())


class TestProvince:
    def publish(self, service: Service, tables: dict[str, Any], day: date) -> None:
        with service.workspace.lake.publication(service.clock) as publication:
            for name, table in tables.items():
                publication.add(name, day, table)

    @pytest.mark.slow
    def test_the_whole_province_comes_from_the_lake(
        self, service: Service, province: dict[str, Any]
    ) -> None:
        day = date(2026, 10, 31)
        self.publish(service, province, day)
        with service.system_work() as work:
            report = import_from_lake(work, service.workspace)
            assert report.counts["staff_added"] == 14_700 == report.counts["posts_added"]
            # the top stood there already, under another name; so did two units of the small tree
            assert report.counts["units_opened"] + report.counts["units_renamed"] == 13_549
            assert "refused" not in report.counts
            assert is_sound(work)
        with service.system_work() as work:
            again = import_from_lake(work, service.workspace, day)
        assert again.changes == ()
        assert again.counts == {"units_unchanged": 13_549, "staff_unchanged": 14_700}

    def test_no_snapshot_says_what_to_do(self, service: Service) -> None:
        with service.system_work() as work, pytest.raises(UserError) as refused:
            import_from_lake(work, service.workspace)
        assert "Ingest it first" in refused.value.remedy

    def test_a_file_goes_through_the_data_room(self, service: Service, tmp_path: Path) -> None:
        path = tmp_path / "units.csv"
        lines = [f"{r['org_unit_id']},{r['parent_id'] or ''},{r['tier']},甲" for r in SMALL]
        path.write_text("\n".join(["CODE,UP,TIER,NAME", *lines]), encoding="utf-8")
        mappings = service.workspace.layout.root / "mappings"
        mappings.mkdir(parents=True, exist_ok=True)
        (mappings / "units.yaml").write_text(
            "mapping: units\n"
            "source: {format: csv, delimiter: ','}\n"
            "tables:\n"
            "  org_unit:\n"
            "    columns: {org_unit_id: CODE, parent_id: UP, tier: TIER, name_zh: NAME}\n",
            encoding="utf-8",
        )
        with service.system_work() as work:
            service.workspace.ingest(path, "units", date(2026, 11, 1))
            report = import_from_lake(work, service.workspace, date(2026, 11, 1))
            assert report.counts == {"units_opened": 6, "units_renamed": 1}
            assert get_unit(work, "seller-c11").name_zh == "甲"
