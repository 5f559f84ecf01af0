"""P076: uniform KPIs, rules and tools (D-02 口径统一, D-03 统一的规则及工具), over HTTP."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

MEANING = {"zh": "口径", "en": "meaning"}
ACTIVE: dict[str, Any] = {
    "name": "p076_active", "title": {"zh": "在用用户数(统一)", "en": "Active lines (uniform)"},
    "meaning": MEANING, "source": "subscription", "unit_through": "customer_id",
    "formula": "count_if(status = 'active')", "unit": "line", "owner": "指标口径组",
    "dimensions": ["service"], "effective_from": "2020-01-01",
}  # fmt: skip
FIVE = ACTIVE | {
    "name": "p076_g5",
    "title": {"zh": "5G 用户数(统一)", "en": "5G lines (uniform)"},
    "formula": "count_if(status = 'active' and terminal_generation = '5g')",
}
RATE = {
    "name": "p076_penetration", "title": {"zh": "5G 渗透率(统一)", "en": "5G share (uniform)"},
    "meaning": MEANING, "inputs": {"g5": "p076_g5", "all": "p076_active"}, "formula": "g5 / all",
    "unit": "ratio", "owner": "指标口径组", "effective_from": "2020-01-01",
}  # fmt: skip


def submit(world: SimpleNamespace, document: dict[str, Any]) -> Any:
    body = {"unit_id": "province", "document": document, "reason": "统一各专业线口径"}
    return world.enter("demo-analyst").post("/indicators", body)


def values(world: SimpleNamespace, name: str, who: str, unit: str, **more: Any) -> dict[str, Any]:
    found = world.enter(who).see("/indicator-values", unit_id=unit, name=name, **more)
    return {row["unit_id"]: row[name] for row in found["rows"]} | {"versions": found["versions"]}


@pytest.fixture(scope="module")
def world(served: SimpleNamespace) -> SimpleNamespace:
    """Three indicators, made by the analyst and approved by the director."""
    for document in (ACTIVE, FIVE, RATE):
        made = submit(served, document)
        assert made.status_code == 201, made.text
        row = made.json()
        served.enter("demo-director").do(
            f"/indicators/{row['indicator_id']}/review", {"approve": True, "note": "同意"}
        )
    return served


@pytest.mark.mission("P076")
class TestOneDefinitionForAllLines:
    def test_the_same_name_or_formula_is_not_defined_twice(self, world: SimpleNamespace) -> None:
        again = submit(world, ACTIVE | {"effective_from": "2099-01-01"})
        assert again.status_code == 409
        assert "p076_active" in again.json()["zh"]
        renamed = ACTIVE | {
            "name": "p076_online", "title": {"zh": "在线用户", "en": "Online"},
            "formula": "COUNT(*) FILTER (WHERE 'active' = 'active' and status = 'active')",
        }  # fmt: skip
        assert submit(world, renamed).status_code == 201  # it says something else
        renamed["name"], renamed["formula"] = (
            "p076_same",
            "count(*) filter (where (status = 'active'))",
        )
        same = submit(world, renamed | {"title": {"zh": "同", "en": "Same"}})
        assert same.status_code == 409
        assert "p076_active" in same.json()["en"]

    def test_nothing_but_an_aggregate_of_rows_is_a_formula(self, world: SimpleNamespace) -> None:
        for formula in ("(select 1)", "status", "read_csv('/etc/passwd')", "sum(amout)"):
            answer = submit(world, ACTIVE | {"name": "p076_bad", "formula": formula})
            assert answer.status_code == 422, formula
            assert answer.json()["zh"]

    def test_no_number_before_another_person_has_approved_it(self, world: SimpleNamespace) -> None:
        made = submit(
            world,
            ACTIVE | {"name": "p076_off", "title": {"zh": "停机", "en": "Off"},
                      "formula": "count_if(status = 'suspended')"},
        ).json()  # fmt: skip
        asked = {"unit_id": "province", "name": "p076_off"}
        assert world.enter("demo-director").get("/indicator-values", **asked).status_code in (
            404,
            422,
        )
        own = world.enter("demo-analyst").post(
            f"/indicators/{made['indicator_id']}/review", {"approve": True}, match='"1"'
        )
        assert own.status_code == 403

    def test_every_line_and_city_gets_the_number_of_the_same_version(
        self, world: SimpleNamespace
    ) -> None:
        city = world.enter("demo-planner").see("/me")
        of_all = values(world, "p076_penetration", "demo-director", "province", children=True)
        unit = next(post["unit_id"] for post in city["posts"])
        mine = values(world, "p076_penetration", "demo-planner", unit)
        assert mine["versions"] == of_all["versions"] == {"p076_penetration": 1}
        assert mine[unit] == of_all[unit]
        other = next(u for u in of_all if u.startswith("city-") and u != unit)
        asked = {"unit_id": other, "name": "p076_penetration"}
        assert world.enter("demo-planner").get("/indicator-values", **asked).status_code == 404

    def test_a_parent_is_its_children_and_a_rate_is_of_all_members(
        self, world: SimpleNamespace
    ) -> None:
        active = values(world, "p076_active", "demo-director", "province", children=True)
        five = values(world, "p076_g5", "demo-director", "province", children=True)
        rate = values(world, "p076_penetration", "demo-director", "province", children=True)
        cities = [unit for unit in active if unit.startswith("city-")]
        assert len(cities) == 11
        assert active["province"] == sum(active[c] for c in cities) > 1_000
        assert rate["province"] == pytest.approx(five["province"] / active["province"])

    def test_a_number_names_the_list_behind_it(self, world: SimpleNamespace) -> None:
        manager = world.enter("demo-grid-manager")
        unit = next(post["unit_id"] for post in manager.see("/me")["posts"])
        number = values(world, "p076_active", "demo-director", unit)[unit]
        listed = manager.post(
            "/indicator-lists", {"indicator": "p076_active", "unit_id": unit, "limit": 1000}
        ).json()
        assert listed["total"] == number == sum(row["part_1"] for row in listed["rows"])
        assert {row["org_unit_id"] for row in listed["rows"]} == {unit}

    def test_a_change_comes_with_a_month_and_history_stays(self, world: SimpleNamespace) -> None:
        changed = FIVE | {"formula": "count_if(terminal_generation = '5g')"}
        past = submit(world, changed | {"effective_from": "2020-02-01"})
        assert past.status_code == 422
        made = submit(world, changed | {"effective_from": "2099-01-01"}).json()
        world.enter("demo-director").do(
            f"/indicators/{made['indicator_id']}/review", {"approve": True, "note": ""}
        )
        assert made["number"] == 2
        assert values(world, "p076_g5", "demo-director", "province")["versions"] == {"p076_g5": 1}
