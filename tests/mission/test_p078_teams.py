"""P078: organisation measures (D-07, D-59, D-123, D-133, G-12, G-13), over HTTP."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow.compute as pc
import pytest

from .by_hand import OCTOBER

NAME = {"zh": "团队", "en": "Team"}


def open_team(world: SimpleNamespace, unit: str, kind: str, planned: dict[str, int]) -> str:
    body = {"unit_id": unit, "kind": kind, "name": NAME, "planned": planned}
    return str(world.enter("demo-director").make("/teams", body)["team_id"])


def staff_of(world: SimpleNamespace, unit: str) -> list[str]:
    """Return people of the org tree's staff table at a unit."""
    rows = world.ws.view.get("staff", OCTOBER).read()
    return rows.filter(pc.equal(rows["org_unit_id"], unit))["staff_id"].to_pylist()


def join(world: SimpleNamespace, team: str, staff: str, post: str) -> None:
    body = {"staff_id": staff, "post": post, "since": "2026-11-01"}
    world.enter("demo-director").make(f"/teams/{team}/members", body)


@pytest.mark.mission("P078")
class TestTeams:
    def test_touchpoint_teams_stand_by_level_with_plan_and_people(
        self,
        served: SimpleNamespace,
    ) -> None:
        for unit, number in (("province", 30), ("city-1301", 46), ("county-130101", 426)):
            team = open_team(served, unit, "touchpoint", {"operator": number})
        join(served, team, staff_of(served, "grid-130101-1")[0], "operator")
        found = served.enter("demo-director").see("/headcounts", unit_id="province")
        touch = {row["tier"]: (row["planned"], row["actual"]) for row in found
                 if row["kind"] == "touchpoint"}  # fmt: skip
        assert touch == {"province": (30, 0), "city": (46, 0), "county": (426, 1)}

    def test_digital_support_has_four_posts_of_68_people(self, served: SimpleNamespace) -> None:
        posts = ("process_management", "product_management", "product_configuration",
                 "touchpoint_support")  # fmt: skip
        open_team(served, "province", "digital_support", dict.fromkeys(posts, 6))
        open_team(served, "city-1301", "digital_support", dict.fromkeys(posts, 11))
        found = served.enter("demo-director").see("/headcounts", unit_id="province")
        support = [row for row in found if row["kind"] == "digital_support"]
        assert sum(row["planned"] for row in support) == 68
        assert all(set(row["by_post"]) == set(posts) for row in support)

    def test_a_merger_moves_people_and_keeps_the_history(self, served: SimpleNamespace) -> None:
        director = served.enter("demo-director")
        into = open_team(served, "city-1302", "mid_platform", {"support": 8})
        other = open_team(served, "city-1302", "two_i", {"support": 5})
        person = staff_of(served, "line-1302")[0]
        join(served, other, person, "support")
        body = {"others": [other], "on": "2026-12-01", "reason": "中台与 2I 支撑人员整合"}
        change = director.make(f"/teams/{into}/mergers", body)
        assert [moved["staff_id"] for moved in change["moved"]] == [person]
        assert director.see(f"/teams/{into}")["planned"] == {"support": 13}
        assert director.see(f"/teams/{other}")["merged_into"] == into
        assert [m["staff_id"] for m in director.see(f"/teams/{into}/members")] == [person]
        past = director.see(f"/teams/{other}/members", past=True)
        assert [m["until"] for m in past] == ["2026-12-01"]
        assert director.post(f"/teams/{into}/mergers", body).status_code == 409

    def test_only_the_responsible_post_finishes_a_step(self, served: SimpleNamespace) -> None:
        director = served.enter("demo-director")
        steps = [
            {"name": "make", "title": {"zh": "商品制作", "en": "Make"},
             "team_kind": "digital_support", "post": "product_configuration", "days": 2}
        ]  # fmt: skip
        process = director.make(
            "/processes",
            {"unit_id": "province", "name": "p078_listing", "title": NAME, "steps": steps},
        )
        run = director.make(
            f"/processes/{process['process_id']}/runs", {"unit_id": "province", "subject": "新品"}
        )
        answer = director.post(
            f"/process-runs/{run['process_run_id']}/advance", {"step": "make"}, match='"1"'
        )
        assert answer.status_code == 422
        assert "product_configuration" in answer.json()["zh"]

    def test_training_is_followed_by_people(self, served: SimpleNamespace) -> None:
        director = served.enter("demo-director")
        team = open_team(served, "line-1303", "delivery", {"dispatcher": 4})
        people = staff_of(served, "line-1303")[:4]
        for person in people:
            join(served, team, person, "dispatcher")
        course = director.make(
            "/courses",
            {"unit_id": "city-1303", "title": {"zh": "大家动手做精确营销", "en": "Hands on"},
             "hours": 8, "team_kinds": ["delivery"], "pass_mark": 60, "due_on": "2099-12-31"},
        )  # fmt: skip
        for person, mark in zip(people, (90, 59, 60), strict=False):
            director.make(
                f"/courses/{course['course_id']}/results",
                {"staff_id": person, "mark": mark, "on": "2026-11-01"},
            )
        found = director.see(f"/courses/{course['course_id']}/completion", unit_id="city-1303")
        whole = found[0]
        assert (whole["due"], whole["passed"], whole["failed"]) == (4, 2, 1)
        assert whole["rate"] == 0.5


@pytest.mark.mission("P078")
class TestPerformance:
    def test_points_come_by_the_uniform_rule_and_an_appeal_has_a_reason(
        self,
        served: SimpleNamespace,
    ) -> None:
        director, analyst = served.enter("demo-director"), served.enter("demo-analyst")
        base: dict[str, Any] = {
            "name": "p078_lost", "title": {"zh": "离网用户占比", "en": "Share lost"},
            "meaning": NAME, "source": "subscription", "unit_through": "customer_id",
            "formula": "count_if(left_in_month) / count(*)", "unit": "ratio", "owner": "组",
            "direction": "lower", "effective_from": "2020-01-01",
        }  # fmt: skip
        made = analyst.make(
            "/indicators", {"unit_id": "province", "document": base, "reason": "考核"}
        )
        director.do(f"/indicators/{made['indicator_id']}/review", {"approve": True})
        rule = {
            "name": "p078_rule", "title": {"zh": "地市考核", "en": "Cities"}, "subject": "unit",
            "effective_from": "2020-01-01",
            "items": [{"indicator": "p078_lost", "weight": 1.0, "target": 0.02}],
        }  # fmt: skip
        put = analyst.make(
            "/assessment-rules", {"unit_id": "province", "document": rule, "reason": "办法"}
        )
        director.do(f"/assessment-rules/{put['indicator_id']}/review", {"approve": True})
        body = {"unit_id": "province", "rule": "p078_rule", "tier": "city", "month": str(OCTOBER)}
        done = director.make("/performances", body)
        scores = director.see(f"/performances/{done['performance_id']}/scores")
        assert len(scores) == 11
        assert [s["rank"] for s in scores] == sorted(s["rank"] for s in scores)
        values = director.see(
            "/indicator-values", unit_id="province", name="p078_lost", children=True,
            month=str(OCTOBER),
        )["rows"]  # fmt: skip
        lost = {row["unit_id"]: row["p078_lost"] for row in values}
        for score in scores:
            (item,) = score["items"]
            assert item["value"] == pytest.approx(lost[score["subject_id"]])
            assert f"{item['achievement']:.1%}" in item["why"]["zh"]
        assert director.post("/performances", body).status_code == 409

        planner = served.enter("demo-planner")
        (mine,) = planner.see(f"/performances/{done['performance_id']}/scores")
        opened = planner.make(
            f"/performance-scores/{mine['performance_score_id']}/appeals",
            {"indicator": "p078_lost", "reason": "携号转网误计"},
        )
        decided = director.post(
            f"/performance-appeals/{opened['performance_appeal_id']}/decision",
            {"points": 120, "decision": "核实属实，更正"}, match=f'"{opened["version"]}"',
        ).json()  # fmt: skip
        assert (decided["status"], decided["points_after"]) == ("granted", 120)
        (again,) = planner.see(f"/performances/{done['performance_id']}/scores")
        assert (again["corrected"], again["rank"]) == (120, 1)
