"""The one dictionary: maker and checker, versions by month, the same number for everybody."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bihuan.evaluation.indicator import IndicatorCatalogue, UnknownIndicatorError
from bihuan.kernel import FixedClock
from bihuan.pack import PACKS
from bihuan.server.app import indicator
from bihuan.server.app.errors import ConflictError, NotFoundError, RefusedError
from bihuan.server.app.permission import PermissionDeniedError
from bihuan.server.control import Control, IndicatorVersion

from .small_lake import OCTOBER, SEPTEMBER, person, serve

DEFINITION = {
    "name": "result", "title": {"zh": "完成额", "en": "Result"},
    "meaning": {"zh": "网格完成额之和", "en": "Sum of the grids' results"},
    "source": "unit_month", "members": "grid", "formula": "sum(actual_amount)",
    "unit": "currency", "owner": "口径组", "effective_from": "2026-01-01",
}  # fmt: skip


@pytest.fixture
def world(
    control: Control, database_url: str, clock: FixedClock, tmp_path: Path
) -> SimpleNamespace:
    return SimpleNamespace(
        service=serve(control, database_url, clock, tmp_path),
        maker=person(control, "maker", ("analyst", "province")),
        checker=person(control, "checker", ("director", "province")),
        city=person(control, "city", ("director", "city-a")),
        reader=person(control, "reader", ("grid_manager", "grid-a11")),
    )


def submit(world: SimpleNamespace, **changes: Any) -> IndicatorVersion:
    with world.service.work(world.maker, "indicator.manage") as work:
        return indicator.submit_indicator(
            work, world.service, world.maker, "province", DEFINITION | changes, reason="统一"
        )


def approve(world: SimpleNamespace, row: IndicatorVersion, actor: Any = None) -> None:
    actor = actor or world.checker
    with world.service.work(actor, "indicator.approve") as work:
        held = indicator.get_version(work, row.indicator_id, row.kind)
        indicator.review(work, actor, held, approve=True, note="同意")


def values(world: SimpleNamespace, actor: Any, unit: str, *names: str, **more: Any) -> Any:
    with world.service.work(actor, "indicator.read", read_only=True) as work:
        asked = indicator.Asked(names, unit, **more)
        return indicator.unit_values(work, world.service, asked)


def test_nothing_computes_before_another_person_has_approved_it(world: SimpleNamespace) -> None:
    row = submit(world)
    with pytest.raises(UnknownIndicatorError, match="no indicator 'result'"):
        values(world, world.checker, "province", "result")
    approve(world, row)
    found = values(world, world.checker, "province", "result", children=True)
    assert found.rows.to_pylist() == [
        {"unit_id": "city-a", "result": 180.0},
        {"unit_id": "city-b", "result": 190.0},
        {"unit_id": "province", "result": 370.0},
    ]
    assert found.versions == {"result": 1}


def test_maker_and_checker_differ_and_the_checker_sits_at_the_top(world: SimpleNamespace) -> None:
    with world.service.work(world.checker, "indicator.manage") as work:
        own = indicator.submit_indicator(
            work, world.service, world.checker, "province", DEFINITION, reason="x"
        )
    with pytest.raises(RefusedError, match="Nobody reviews what they made"):
        approve(world, own)
    with world.service.work(world.city, "indicator.manage") as work:
        other = indicator.submit_indicator(
            work, world.service, world.city, "city-a",
            DEFINITION | {"name": "goal", "formula": "sum(target_amount)",
                          "title": {"zh": "目标", "en": "Goal"}}, reason="x",
        )  # fmt: skip
    third = person(world.service.control, "third", ("director", "city-a"))
    with pytest.raises(RefusedError, match="top unit"):
        approve(world, other, third)
    with pytest.raises(PermissionDeniedError):
        approve(world, other, world.maker)
    approve(world, other)
    with pytest.raises(ConflictError, match="approved already"):
        approve(world, other)


def test_a_second_definition_is_refused_under_either_name(world: SimpleNamespace) -> None:
    approve(world, submit(world))
    with pytest.raises(ConflictError, match="defined like this already"):
        submit(world, effective_from="2026-12-01")
    with pytest.raises(ConflictError, match="computes the same as 'result'"):
        submit(world, name="turnover", title={"zh": "营业额", "en": "Turnover"})
    with pytest.raises(ConflictError, match="both called"):
        submit(world, name="turnover", formula="sum(cost_amount)")


def test_what_waits_for_review_stands_in_the_way_too(world: SimpleNamespace) -> None:
    submit(world)
    with pytest.raises(ConflictError, match="computes the same"):
        submit(world, name="turnover", title={"zh": "营业额", "en": "Turnover"})


def test_a_change_takes_effect_at_a_month_and_history_keeps_its_definition(
    world: SimpleNamespace, clock: FixedClock
) -> None:
    approve(world, submit(world))
    with pytest.raises(RefusedError, match="not before 2026-11-01"):
        submit(world, formula="sum(actual_amount) / 1000", effective_from="2026-10-01")
    changed = submit(world, formula="sum(actual_amount) / 1000", effective_from="2026-12-01")
    assert changed.number == 2
    approve(world, changed)
    for month in (SEPTEMBER, OCTOBER):
        found = values(world, world.checker, "province", "result", month=month)
        assert found.versions == {"result": 1}
        assert found.value("result", "province") == 370.0


def test_a_rejected_version_leaves_the_name_free(world: SimpleNamespace) -> None:
    row = submit(world)
    with world.service.work(world.checker, "indicator.approve") as work:
        held = indicator.get_version(work, row.indicator_id, "indicator")
        indicator.review(work, world.checker, held, approve=False, note="口径不清")
    again = submit(world)
    assert again.number == 2
    with world.service.work(world.maker, "indicator.manage") as work:
        held = indicator.get_version(work, again.indicator_id, "indicator")
        indicator.withdraw(work, world.maker, held)
    approve(world, submit(world))
    assert values(world, world.checker, "province", "result").versions == {"result": 3}


def test_everybody_gets_the_same_number_of_the_units_in_reach(world: SimpleNamespace) -> None:
    approve(world, submit(world))
    for actor in (world.checker, world.city):
        found = values(world, actor, "city-a", "result")
        assert found.value("result", "city-a") == 180.0
        assert found.versions == {"result": 1}
    for unit in ("city-b", "province", "nowhere"):
        with pytest.raises(NotFoundError) as error:
            values(world, world.city, unit, "result")
        assert unit in error.value.message


def test_a_list_names_the_rows_and_who_looked(world: SimpleNamespace) -> None:
    approve(world, submit(world))
    manager = world.reader
    with world.service.work(manager, "customer.read") as work:
        found = indicator.rows_behind(
            work, world.service, manager, indicator.Asked(("result",), "grid-a11"), where={}
        )
    assert found.rows.to_pylist()[0]["org_unit_id"] == "grid-a11"
    assert found.total == 1
    with (
        world.service.work(manager, "customer.read") as work,
        pytest.raises(NotFoundError),
    ):
        indicator.rows_behind(
            work, world.service, manager, indicator.Asked(("result",), "grid-a12"), where={}
        )


def test_personal_columns_stay_out_of_definitions(world: SimpleNamespace) -> None:
    with pytest.raises(RefusedError, match="personal data: number"):
        submit(
            world, source="subscription", members="", unit_through="customer_id",
            formula="count(distinct number)",
        )  # fmt: skip


def test_a_catalogue_is_entered_once_by_two_people(world: SimpleNamespace) -> None:
    catalogue = IndicatorCatalogue.load(PACKS["sample"] / "indicators" / "standard.yaml")
    with world.service.system_work() as work:
        added = indicator.install_catalogue(
            work, "province", catalogue, made_by="maker", reviewed_by="checker", reason="示例"
        )
        assert len(added) == len(catalogue)
        again = indicator.install_catalogue(
            work, "province", catalogue, made_by="maker", reviewed_by="checker", reason="示例"
        )
        assert again == []
        with pytest.raises(RefusedError):
            indicator.install_catalogue(
                work, "province", catalogue, made_by="maker", reviewed_by="maker", reason=""
            )
    found = values(world, world.checker, "province", "target_reached", "churn_rate")
    assert found.value("target_reached", "province") == pytest.approx(370 / 400)
    assert found.value("churn_rate", "province") == pytest.approx(3 / 30)


def test_rules_are_versions_with_a_checker_over_approved_indicators(
    world: SimpleNamespace,
) -> None:
    rule = {
        "name": "quarter", "title": {"zh": "季度考核", "en": "Quarter"}, "subject": "unit",
        "effective_from": "2026-10-01",
        "items": [{"indicator": "result", "weight": 1.0, "target": 100.0}],
    }  # fmt: skip

    def put(**changes: Any) -> IndicatorVersion:
        with world.service.work(world.maker, "indicator.manage") as work:
            return indicator.submit_rule(
                work, world.maker, "province", rule | changes, reason="办法"
            )

    with pytest.raises(UnknownIndicatorError, match="no indicator 'result'"):
        put()
    approve(world, submit(world))
    with pytest.raises(RefusedError, match="single persons"):
        put(subject="staff")
    row = put()
    with (
        world.service.work(world.maker, "indicator.read", read_only=True) as work,
        pytest.raises(UnknownIndicatorError, match="no approved assessment rule"),
    ):
        indicator.rule_at(work, "quarter", OCTOBER)
    approve(world, row)
    with world.service.work(world.maker, "indicator.read", read_only=True) as work:
        assert indicator.rule_at(work, "quarter", OCTOBER).version == 1
        assert indicator.newest_month(world.service) == date(2026, 10, 31)
