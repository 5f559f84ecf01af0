"""Teams by level, mergers with history, processes, training, performance."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from bihuan.kernel import FixedClock
from bihuan.server.app import indicator, team
from bihuan.server.app.errors import ConflictError, NotFoundError, RefusedError
from bihuan.server.app.team.roster import DIGITAL_SUPPORT_PLAN, TOUCHPOINT_PLAN
from bihuan.server.control import Control, PerformanceScore, Scope, Staff

from .small_lake import OCTOBER, PEOPLE, person, serve

NAME = {"zh": "团队", "en": "Team"}
TODAY = date(2026, 11, 2)


@pytest.fixture
def world(
    control: Control, database_url: str, clock: FixedClock, tmp_path: Path
) -> SimpleNamespace:
    service = serve(control, database_url, clock, tmp_path)
    with control.work(Scope.everything()) as work:
        for staff_id, unit in PEOPLE.items():
            work.session.add(Staff(staff_id=staff_id, unit_id=unit, name_zh="员工"))
    return SimpleNamespace(
        service=service,
        boss=person(control, "boss", ("director", "province")),
        city=person(control, "city", ("director", "city-a")),
        clerk=person(control, "clerk", ("grid_manager", "grid-a11")),
    )


def manage(world: SimpleNamespace, actor: Any = None) -> Any:
    return world.service.work(actor or world.boss, "team.manage")


def read(world: SimpleNamespace, actor: Any = None) -> Any:
    return world.service.work(actor or world.boss, "team.read")


def open_team(world: SimpleNamespace, unit: str, kind: str, planned: dict[str, int]) -> str:
    with manage(world) as work:
        return team.open_team(work, unit, kind, NAME, planned).team_id


def join(world: SimpleNamespace, team_id: str, **posts: str) -> None:
    with manage(world) as work:
        held = team.get_team(work, team_id)
        for staff_id, post in posts.items():
            team.add_member(work, held, staff_id, post, since=TODAY)


def test_planned_and_actual_people_are_compared_by_level(world: SimpleNamespace) -> None:
    ids = {
        tier: open_team(world, unit, "touchpoint", {"operator": TOUCHPOINT_PLAN[tier]})
        for tier, unit in (("province", "province"), ("city", "city-a"), ("county", "county-a1"))
    }
    join(world, ids["city"], s4="operator")
    join(world, ids["county"], s1="operator", s2="lead")
    with read(world) as work:
        found = {one.tier: (one.planned, one.actual) for one in team.headcount(work, "province")}
    assert found == {"province": (30, 0), "city": (46, 1), "county": (426, 2)}
    with read(world, world.city) as work:
        assert [one.tier for one in team.headcount(work, "city-a")] == ["city", "county"]
        with pytest.raises(NotFoundError):
            team.headcount(work, "province")


def test_digital_support_has_four_posts_at_province_and_city(world: SimpleNamespace) -> None:
    posts = dict.fromkeys(
        ("process_management", "product_management", "product_configuration",
         "touchpoint_support"), DIGITAL_SUPPORT_PLAN // 4,
    )  # fmt: skip
    open_team(world, "province", "digital_support", posts)
    with pytest.raises(RefusedError, match="province and city"):
        open_team(world, "county-a1", "digital_support", posts)
    with pytest.raises(RefusedError, match="has no post"):
        open_team(world, "city-a", "digital_support", {"cook": 1})
    with read(world) as work:
        (found,) = team.headcount(work, "province")
    assert (found.planned, len(found.by_post)) == (68, 4)


def test_a_person_stands_once_in_a_team_and_must_be_staff(world: SimpleNamespace) -> None:
    team_id = open_team(world, "city-a", "touchpoint", {"operator": 2})
    join(world, team_id, s4="operator")
    with pytest.raises(ConflictError, match="in the team already"):
        join(world, team_id, s4="lead")
    with pytest.raises(NotFoundError):
        join(world, team_id, nobody="operator")
    with manage(world) as work:
        held = team.get_team(work, team_id)
        with pytest.raises(RefusedError):
            team.release_member(work, held, "s4", until=date(2026, 11, 1))
        team.release_member(work, held, "s4", until=date(2026, 11, 9))
    join(world, team_id, s4="lead")
    with read(world) as work:
        past = team.members_of(work, team_id, past=True)
    assert {(m.post, m.until) for m in past} == {("operator", date(2026, 11, 9)), ("lead", None)}


def test_a_merger_moves_people_adds_plans_and_keeps_the_history(world: SimpleNamespace) -> None:
    into = open_team(world, "province", "mid_platform", {"support": 10})
    other = open_team(world, "city-a", "two_i", {"support": 6})
    third = open_team(world, "city-b", "delivery", {"installer": 4})
    join(world, into, s5="support")
    join(world, other, s4="support", s5="support")
    join(world, third, s3="installer")

    def merge(posts: dict[str, str]) -> Any:
        with manage(world) as work:
            return team.merge_teams(
                work, world.boss, team.get_team(work, into),
                [team.get_team(work, other), team.get_team(work, third)],
                posts=posts, on=TODAY, reason="中台与 2I 支撑整合",
            )  # fmt: skip

    with pytest.raises(RefusedError, match="has no place"):
        merge({})
    change = merge({"installer": "support"})
    assert sorted((m["staff_id"], m["from_post"], m["to_post"]) for m in change.moved) == [
        ("s3", "installer", "support"), ("s4", "support", "support"),
        ("s5", "support", "support"),
    ]  # fmt: skip
    with read(world) as work:
        held = team.get_team(work, into)
        assert held.planned == {"support": 20}
        assert sorted(m.staff_id for m in team.members_of(work, into)) == ["s3", "s4", "s5"]
        assert team.get_team(work, other).merged_into == into
        assert [m.until for m in team.members_of(work, other, past=True)] == [TODAY, TODAY]
        (kept,) = work.session.scalars(team.find_changes(into))
        assert kept.reason == "中台与 2I 支撑整合"
    with pytest.raises(ConflictError, match="merged"):
        merge({"installer": "support"})


def test_a_city_merges_no_team_of_another(world: SimpleNamespace) -> None:
    mine = open_team(world, "city-a", "two_i", {"support": 1})
    theirs = open_team(world, "city-b", "two_i", {"support": 1})
    with manage(world, world.city) as work, pytest.raises(NotFoundError):
        team.merge_teams(
            work, world.city, team.get_team(work, mine), [team.get_team(work, theirs)],
            posts={}, on=TODAY, reason="x",
        )  # fmt: skip


def test_only_who_holds_the_post_finishes_a_step(world: SimpleNamespace) -> None:
    team_id = open_team(
        world, "city-a", "digital_support",
        {"product_configuration": 1, "touchpoint_support": 1},
    )  # fmt: skip
    join(world, team_id, **{"staff-city": "product_configuration"})
    steps = [
        {"name": "make", "title": {"zh": "商品制作", "en": "Make"},
         "team_kind": "digital_support", "post": "product_configuration", "days": 2},
        {"name": "list", "title": {"zh": "触点上架", "en": "List"},
         "team_kind": "digital_support", "post": "touchpoint_support", "days": 1},
    ]  # fmt: skip
    with manage(world) as work:
        process = team.define_process(work, world.boss, "province", "listing", NAME, steps)
    with read(world, world.city) as work:
        run = team.start_run(
            work, world.city, team.get_process(work, process.process_id), "city-a", "新套餐"
        ).process_run_id

    def advance(actor: Any, step: str) -> None:
        with read(world, actor) as work:
            team.advance_run(work, actor, team.get_run(work, run), step, note="完成")

    with pytest.raises(ConflictError, match="stands at 'make'"):
        advance(world.city, "list")
    with pytest.raises(RefusedError, match="product_configuration"):
        advance(world.boss, "make")
    advance(world.city, "make")
    with pytest.raises(RefusedError, match="touchpoint_support"):
        advance(world.city, "list")
    with manage(world) as work:
        team.release_member(work, team.get_team(work, team_id), "staff-city", until=TODAY)
    join(world, team_id, **{"staff-city": "touchpoint_support"})
    with manage(world) as work:  # a newer version does not disturb the run
        team.define_process(work, world.boss, "province", "listing", NAME, steps[:1])
    advance(world.city, "list")
    with read(world, world.city) as work:
        held = team.get_run(work, run)
        assert (held.status, [entry["step"] for entry in held.log]) == ("done", ["make", "list"])
        numbers = sorted((p.number, p.status) for p in work.session.scalars(team.find_processes()))
        assert numbers == [(1, "replaced"), (2, "active")]


def test_completion_counts_people_not_rates(world: SimpleNamespace) -> None:
    a = open_team(world, "county-a1", "touchpoint", {"operator": 2})
    b = open_team(world, "city-b", "touchpoint", {"operator": 1})
    join(world, a, s1="operator", s2="operator", s4="lead")
    join(world, b, s3="operator")
    with manage(world) as work:
        course = team.open_course(
            work, world.boss, "province", {"zh": "精确营销", "en": "Precision marketing"}, hours=8,
            team_kinds=["touchpoint"], pass_mark=60, due_on=date(2026, 12, 31),
        )  # fmt: skip
        for staff, mark in (("s1", 90.0), ("s2", 40.0), ("s3", 70.0), ("s2", 30.0)):
            team.record_result(work, world.boss, course, staff, mark=mark, on=TODAY)
        with pytest.raises(NotFoundError):
            team.record_result(work, world.boss, course, "s5", mark=90, on=TODAY)
        with pytest.raises(RefusedError):
            team.record_result(work, world.boss, course, "s4", mark=90, on=date(2026, 11, 3))
        found = {one.unit_id: one for one in team.completion(work, course, "province")}
    whole = found["province"]
    assert (whole.due, whole.passed, whole.failed, whole.rate) == (4, 2, 1, 0.5)
    assert (found["city-a"].rate, found["city-b"].rate) == (pytest.approx(1 / 3), 1.0)
    assert whole.rate != (found["city-a"].rate + found["city-b"].rate) / 2
    with manage(world) as work:
        records = list(work.session.scalars(team.find_records(course.course_id)))
        assert sorted((r.staff_id, r.mark) for r in records) == [
            ("s1", 90.0), ("s2", 40.0), ("s3", 70.0),
        ]  # fmt: skip


def approve(world: SimpleNamespace, row: Any) -> None:
    with world.service.work(world.boss, "indicator.approve") as work:
        held = indicator.get_version(work, row.indicator_id, row.kind)
        indicator.review(work, world.boss, held, approve=True, note="")


def put_rules(world: SimpleNamespace) -> None:
    maker = person(world.service.control, "maker", ("analyst", "province"))
    base = {"meaning": NAME, "owner": "组", "unit": "ratio", "effective_from": "2026-01-01"}
    with world.service.work(maker, "indicator.manage") as work:
        rows = [
            indicator.submit_indicator(
                work, world.service, maker, "province",
                base | {"name": "reached", "title": {"zh": "完成率", "en": "Reached"},
                        "source": "unit_month", "members": "grid",
                        "formula": "sum(actual_amount) / sum(target_amount)"}, reason="x"),
            indicator.submit_indicator(
                work, world.service, maker, "province",
                base | {"name": "sold", "title": {"zh": "员工完成率", "en": "Sold"},
                        "source": "staff_month", "dimensions": ["staff_id"],
                        "formula": "sum(sales_amount) / sum(target_amount)"}, reason="x"),
        ]  # fmt: skip
    for row in rows:
        approve(world, row)
    for name, subject, one in (("cities", "unit", "reached"), ("people", "staff", "sold")):
        with world.service.work(maker, "indicator.manage") as work:
            row = indicator.submit_rule(
                work, maker, "province",
                {"name": name, "title": {"zh": name, "en": name}, "subject": subject,
                 "effective_from": "2026-01-01",
                 "items": [{"indicator": one, "weight": 1.0, "target": 1.0,
                            "bands": [[0.5, 50], [0.9, 90], [1.0, 100]]}]}, reason="x",
            )  # fmt: skip
        approve(world, row)


def assess(world: SimpleNamespace, rule: str, tier: str, unit: str = "province") -> str:
    with manage(world) as work:
        return team.assess_performance(
            work, world.service, world.boss, unit, rule_name=rule, tier=tier, month=OCTOBER
        ).performance_id


def test_units_are_assessed_by_the_rule_in_force_with_every_point_explained(
    world: SimpleNamespace,
) -> None:
    put_rules(world)
    done = assess(world, "cities", "city")
    with read(world) as work:
        scores = [row for _, row in team.ranking(work, done)]
        held = team.get_performance(work, done)
    # city-a: 180 of 200, city-b: 190 of 200
    assert [(s.subject_id, s.total, s.rank) for s in scores] == [
        ("city-a", 90.0, 1), ("city-b", 90.0, 1),
    ]  # fmt: skip
    assert scores[0].items[0]["achievement"] == pytest.approx(0.9)
    assert scores[0].items[0]["why"]["zh"]
    assert (held.rule_number, held.indicator_versions) == (1, {"reached": 1})
    with pytest.raises(ConflictError, match="assessed"):
        assess(world, "cities", "city")
    with read(world, world.city) as work:
        assert [row.subject_id for _, row in team.ranking(work, done)] == ["city-a"]


def test_people_are_assessed_and_seen_by_their_own_units(world: SimpleNamespace) -> None:
    put_rules(world)
    done = assess(world, "people", "grid")
    with read(world) as work:
        found = {s.subject_id: (s.total, s.rank) for _, s in team.ranking(work, done)}
    assert found == {"s4": (100.0, 1), "s1": (100.0, 1), "s2": (50.0, 3), "s3": (50.0, 3),
                     "s5": (0.0, 5)}  # fmt: skip
    with read(world, world.clerk) as work:
        assert [s.subject_id for _, s in team.ranking(work, done)] == ["s1"]


def test_an_appeal_is_decided_by_another_with_a_reason_and_ranks_follow(
    world: SimpleNamespace,
) -> None:
    put_rules(world)
    done = assess(world, "cities", "city")
    with read(world, world.city) as work:
        ((_, score),) = team.ranking(work, done)
        opened = team.appeal(work, world.city, score, indicator="reached", reason="系统漏计一单")
        with pytest.raises(ConflictError):
            team.appeal(work, world.city, score, indicator="reached", reason="再次")
        with pytest.raises(RefusedError):
            team.appeal(work, world.city, score, indicator="churn", reason="x")

    def decide(actor: Any, points: float | None) -> Any:
        with manage(world, actor) as work:
            row = team.get_appeal(work, opened.performance_appeal_id)
            return team.decide_appeal(work, actor, row, points=points, decision="核实属实")

    with pytest.raises(RefusedError, match="own appeal"):
        decide(world.city, 100)
    local = person(world.service.control, "local", ("director", "city-a"))
    with pytest.raises(NotFoundError):  # ranks of other cities would change
        decide(local, 100)
    with pytest.raises(RefusedError, match="0 to 100"):
        decide(world.boss, 101)
    with manage(world) as work, pytest.raises(ConflictError, match="appeal is open"):
        team.close_performance(work, world.boss, team.get_performance(work, done))
    row = decide(world.boss, 100)
    assert (row.status, row.points_before, row.points_after) == ("granted", 90.0, 100)
    with manage(world) as work:
        found = [(s.subject_id, s.total, s.corrected, s.rank) for _, s in team.ranking(work, done)]
        assert found == [("city-a", 90.0, 100.0, 1), ("city-b", 90.0, None, 2)]
        team.close_performance(work, world.boss, team.get_performance(work, done))
        score = team.get_score(work, score.performance_score_id)
        with pytest.raises(ConflictError, match="closed"):
            team.appeal(work, world.boss, score, indicator="reached", reason="迟")


def test_no_two_present_memberships_even_past_the_use_case(world: SimpleNamespace) -> None:
    team_id = open_team(world, "city-a", "touchpoint", {"operator": 2})
    join(world, team_id, s4="operator")

    def join_again() -> None:
        with manage(world) as work:
            first = team.members_of(work, team_id)[0]
            work.session.add(
                type(first)(
                    team_member_id="second", team_id=team_id, unit_id=first.unit_id,
                    staff_id="s4", post="lead", since=TODAY,
                )
            )  # fmt: skip

    with pytest.raises(ConflictError):
        join_again()


def test_scores_stay_within_the_scope_of_the_query(world: SimpleNamespace) -> None:
    put_rules(world)
    assess(world, "people", "grid")
    with read(world, world.city) as work:
        units = {row.unit_id for row in work.session.scalars(sa.select(PerformanceScore))}
    assert units == {"grid-a11", "grid-a12", "city-a"}
