"""P015: the customer's and the management's public tag libraries."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace

import pytest

import bihuan as bh

from .by_hand import OCTOBER, Rows, open_at, read
from .user_centre import MANAGEMENT, history, tags_of, user_centre


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The user centre with its outlets, crews and areas; read only."""
    return user_centre(tmp_path_factory)


def group(rows: Rows, key: str) -> dict[str, Rows]:
    """Group rows by the id of a unit."""
    found: dict[str, Rows] = defaultdict(list)
    for row in rows:
        found[row[key]].append(row)
    return found


def rate(rows: Rows, part: str, whole: str) -> object:
    """Divide two sums by hand; None without anything to divide by."""
    below = sum(row[whole] for row in rows)
    return pytest.approx(float(sum(row[part] for row in rows) / below)) if below else None


@pytest.mark.mission("P015")
class TestCustomerLibrary:
    """B-36: 客户标签是对客户行为分析后的标记 - marks made after analysis of behaviour."""

    def test_b36_it_holds_marks_on_behaviour_each_with_its_source(self, centre) -> None:
        tags = centre.ws.dictionary.select(library="customer", subject="customer", state="live")
        read_from = defaultdict(set)
        for tag in tags:
            for column in centre.ws.dictionary.lineage(tag.name).all_columns:
                read_from[column.split(".")[0]].add(tag.name)
        behaviour = ("usage", "voice_usage", "data_usage", "bill", "payment", "product_order",
                     "ticket", "contact", "event", "mobility")  # fmt: skip
        assert all(len(read_from[table]) >= 5 for table in behaviour)

    def test_b36_behaviour_becomes_the_mark_that_the_definition_says(self, centre) -> None:
        rows = group(history(centre.ws, "mobility", 6), "customer_id")
        floating = tags_of(centre.ws, ("floating", "away_months_6m"))
        least = centre.ws.dictionary.get("floating").thresholds["months"]
        for customer, tags in floating.items():
            away = {
                row["months_ago"] for row in rows[customer]
                if row["nights_other_city"] + row["nights_other_province"]
                > row["nights_home_city"]
            }  # fmt: skip
            assert tags == {"away_months_6m": len(away), "floating": len(away) >= least}
        assert 10 < sum(tags["floating"] for tags in floating.values()) < 300


@pytest.mark.mission("P015")
class TestManagementLibrary:
    """B-37: 监控标签是针对企业内外部单位和人员工作 - monitoring tags on units and staff."""

    def test_b37_it_is_apart_and_covers_units_staff_and_what_they_run(self, centre) -> None:
        tags = centre.ws.dictionary.select(library="management", state="live")
        assert {tag.subject for tag in tags} == set(MANAGEMENT)
        for subject in MANAGEMENT:
            branches = centre.ws.dictionary.tree(subject).walk()
            assert any(branch.name == "监控" for branch in branches), subject
        names = {tag.name for tag in tags}
        assert not names & {tag.name for tag in centre.ws.dictionary.live("customer")}

    def test_b37_a_customer_cannot_be_chosen_by_a_units_tag(self, centre) -> None:
        with pytest.raises(bh.UserError, match="unit_behind_target"):
            centre.ws.count("unit_behind_target", OCTOBER)

    @pytest.mark.parametrize(
        ("subject", "table", "tag", "part", "whole"),
        [
            ("org_unit", "unit_month", "unit_target_rate_3m", "actual_amount", "target_amount"),
            ("org_unit", "unit_month", "unit_order_on_time_3m", "work_order_on_time_count",
             "work_order_count"),
            ("staff", "staff_month", "staff_follow_up_rate_3m", "done_count", "due_count"),
            ("outlet", "outlet_month", "outlet_conversion_3m", "order_count", "visitor_count"),
            ("crew", "crew_month", "crew_on_time_3m", "on_time_count", "job_count"),
            ("area", "area_month", "area_leaving_3m", "left_count", "customer_count"),
        ],
    )  # fmt: skip
    def test_b37_work_is_measured_as_by_hand(
        self, centre, subject, table, tag, part, whole
    ) -> None:
        rows = group(history(centre.ws, table, 3), f"{subject}_id")
        values = tags_of(centre.ws, (tag,), subject)
        assert len(values) == len(read(centre.ws, subject, OCTOBER))
        for unit, found in values.items():
            assert found[tag] == rate(rows[unit], part, whole), unit

    @pytest.mark.parametrize(
        ("subject", "tag", "figure", "worse"),
        [
            ("org_unit", "unit_behind_target", "unit_target_rate_3m", "below"),
            ("outlet", "outlet_behind_target", "outlet_target_rate_3m", "below"),
            ("org_unit", "unit_export_watch", "unit_export_3m", "above"),
        ],
    )
    def test_b37_who_is_watched_is_found_and_can_be_listed(
        self, centre, subject, tag, figure, worse
    ) -> None:
        limit = next(iter(centre.ws.dictionary.get(tag).thresholds.values()))
        values = tags_of(centre.ws, (tag, figure), subject)

        def is_bad(value: object) -> bool:
            return value is not None and (value < limit if worse == "below" else value >= limit)

        expected = {unit for unit, row in values.items() if is_bad(row[figure])}
        assert {unit for unit, row in values.items() if row[tag]} == expected
        assert 0 < len(expected) < len(values)
        assert centre.ws.count(tag, OCTOBER, subject=subject).members == len(expected)

    def test_b37_outside_units_are_watched_as_our_own(self, centre) -> None:
        """Units of partners and contractors: outlets that are not ours, crews from outside."""
        kinds = {r["outlet_id"]: r["kind"] for r in read(centre.ws, "outlet", OCTOBER)}
        outside = "outlet_kind in ('franchised', 'partner', 'kiosk')"
        found = centre.ws.count(outside, OCTOBER, subject="outlet").members
        assert found == sum(kind != "own" for kind in kinds.values()) > 0
        crews = {r["crew_id"]: r["is_external"] for r in read(centre.ws, "crew", OCTOBER)}
        rule = "crew_is_external and crew_quality_risk"
        risky = tags_of(centre.ws, ("crew_quality_risk",), "crew")
        expected = sum(crews[crew] and row["crew_quality_risk"] for crew, row in risky.items())
        assert centre.ws.count(rule, OCTOBER, subject="crew").members == expected

    def test_b37_a_person_who_looks_at_too_much_is_seen(self, centre) -> None:
        limit = centre.ws.dictionary.get("staff_access_watch").thresholds
        rows = group(history(centre.ws, "staff_month", 6), "staff_id")
        values = tags_of(centre.ws, ("staff_access_watch",), "staff")
        for person, found in values.items():
            mine = rows[person]
            newest = [r for r in mine if r["months_ago"] < 3]
            exports = sum(r["export_count"] for r in mine)
            calls = sum(r["call_count"] for r in newest) / 3
            views = sum(r["record_view_count"] for r in newest) / 3
            expected = exports >= limit["exports"] or (
                views > limit["ratio"] * (calls + limit["calls"])
            )
            assert found["staff_access_watch"] == expected, person
        assert any(found["staff_access_watch"] for found in values.values())

    def test_b37_an_area_sums_up_the_customers_who_live_there(self, centre) -> None:
        lines = read(centre.ws, "subscription", OCTOBER)
        here = {r["customer_id"] for r in lines if r["status"] != "disconnected"}
        areas = tags_of(centre.ws, ("area_customer_month",), "area")
        assert sum(row["area_customer_month"] for row in areas.values()) == len(here)


@pytest.mark.mission("P015")
class TestOwnLibrary:
    """B-36, B-37: a library is a folder of definitions that the operator changes and adds to."""

    def test_b37_a_monitoring_tag_of_ones_own_is_derived_like_the_others(
        self, centre, tools, tmp_path
    ) -> None:
        ws = open_at(tmp_path / "ws")
        tools.define(ws, "tags", "own", OWN)
        rows = centre.ws.view.get("outlet", OCTOBER).read()
        tools.extract(ws, rows, "outlet", OCTOBER)
        ws.refresh_tags(OCTOBER, subject="outlet")
        old = [r for r in rows.to_pylist() if (OCTOBER - r["opened_on"]).days > 10 * 365]
        assert ws.count("outlet_is_old", OCTOBER, subject="outlet").members == len(old) > 0

    def test_b36_a_tag_in_the_wrong_library_is_refused(self, tools, tmp_path) -> None:
        ws = open_at(tmp_path / "ws")
        tools.define(ws, "tags", "own", OWN.replace("library: management", "library: customer"))
        with pytest.raises(bh.UserError, match="belongs to the management library"):
            len(ws.dictionary)


OWN = """
tags:
  - name: outlet_is_old
    title: {zh: 老网点, en: Old outlet}
    library: management
    subject: outlet
    layer: base
    means: statistics
    type: boolean
    source: outlet
    expression: date_diff('day', opened_on, as_of) > 3650
    category: 网点/监控/年限
    owner: channel department
    state: live
    meaning: {zh: 开业十年以上的网点, en: Outlet that opened more than ten years ago}
    definition: {zh: 开业日期到派生日超过 3650 天, en: More than 3650 days from opening to the date}
"""
