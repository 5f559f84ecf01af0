"""P023: portraits: built, kept up to date, of any period, and shown as a structure."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pyarrow.compute as pc
import pytest

import bihuan as bh
from bihuan.data import SnapshotNotFoundError
from bihuan.tag import LIBRARY_FOLDER
from bihuan.twin import TwinSettings, generate_operator, surround_power

JULY, AUGUST = date(2026, 7, 31), date(2026, 8, 31)
SEPTEMBER, OCTOBER = date(2026, 9, 30), date(2026, 10, 31)
STRATEGY = """
defaults: {subject: customer, owner: 客服中心, state: live}
tags:
  - name: callback_first
    title: {zh: 优先回访, en: Call back first}
    layer: marketing
    means: experience
    type: boolean
    expression: power_needs_quality and power_complaint_count >= $complaints
    thresholds: {complaints: 1}
    category: 服务策略/回访/优先
    meaning: {zh: 应优先回访的客户, en: Customer to be called back first}
    definition: {zh: 有电能质量需求且投诉达到阈值, en: Needs quality and complaints reach the threshold}
"""
LATE = """
label: power_overdue_seen
lead_months: 1
features: [power_days_late, power_prepaid_share, power_bill_mean, power_kwh_swing, power_months]
model:
  name: late
  title: {zh: 电费回收风险, en: Risk of payment}
  label: {zh: 次月风险, en: At risk next month}
  owner: data team
  learner: logistic
"""
LATE_TAGS = """
defaults: {subject: customer, owner: 数据组, state: live, category: 基本特征/费用特征/挖掘}
tags:
  - name: home_city
    title: {zh: 所在地市, en: City}
    layer: base
    means: direct
    type: string
    source: customer
    expression: city_code
    meaning: {zh: 客户所在地市, en: City of the customer}
    definition: {zh: 客户资料中的地市, en: City in the customer record}
  - name: power_overdue_seen
    title: {zh: 有过欠费, en: Was overdue}
    layer: portrait
    means: experience
    type: boolean
    expression: power_overdue_months >= $months
    thresholds: {months: 1}
    meaning: {zh: 近一年有过欠费, en: Was overdue within a year}
    definition: {zh: 近一年欠费月数不低于阈值, en: Months overdue reach the threshold}
  - name: late_score
    title: {zh: 电费回收风险分, en: Score of payment risk}
    layer: portrait
    means: mining
    type: number
    model: late
    meaning: {zh: 模型给出的风险概率, en: Probability given by the model}
    definition: {zh: 模型 late 的评分, en: Score of the model late}
  - name: late_likely
    title: {zh: 电费可能难收, en: May be hard to collect}
    layer: portrait
    means: experience
    type: boolean
    expression: late_score >= $share
    thresholds: {share: 0.2}
    meaning: {zh: 评分高的客户, en: Customer of a high score}
    definition: {zh: 评分不低于阈值, en: Score reaches the threshold}
"""


@pytest.fixture(scope="module")
def delivered(tmp_path_factory, tools) -> SimpleNamespace:
    """A simulated power utility over four months, of which no tag has been derived; read only."""
    folder = tmp_path_factory.mktemp("utility")
    ws: bh.Workspace = tools.open_at(folder / "ws")
    for name in ("power_base", "power_portrait"):
        shutil.copy(LIBRARY_FOLDER / f"{name}.yaml", ws.layout.root / "tags" / f"{name}.yaml")
    settings = TwinSettings(customers=800, months=1, last=OCTOBER, seed=7)
    generate_operator(settings, ws.lake, ws.contracts, clock=ws.clock, progress=ws.progress)
    surround_power(ws.lake, OCTOBER, ws.contracts, months=4, seed=7, clock=ws.clock)
    base = ws.view.get("customer", OCTOBER).read()
    for place, month in enumerate((JULY, AUGUST, SEPTEMBER)):
        tools.extract(ws, base.slice(0, 770 + 10 * place), "customer", month)  # ten join each month
    return SimpleNamespace(ws=ws, folder=folder)


@pytest.fixture(scope="module")
def utility(delivered, tools, tmp_path_factory) -> SimpleNamespace:
    """A copy of the utility whose portraits are drawn and whose data stay as they are."""
    folder = tmp_path_factory.mktemp("drawn") / "utility"
    shutil.copytree(delivered.folder, folder)
    return SimpleNamespace(ws=tools.open_at(folder / "ws"), folder=folder)


@pytest.fixture
def own(delivered, tools, tmp_path) -> SimpleNamespace:
    """A copy of the utility that a test may change."""
    shutil.copytree(delivered.folder, tmp_path / "utility")
    return SimpleNamespace(
        ws=tools.open_at(tmp_path / "utility" / "ws"), folder=tmp_path / "utility"
    )


def supplied(ws: bh.Workspace) -> str:
    return ws.view.get("power_customer", OCTOBER).read()["customer_id"][3].as_py()


def energy(ws: bh.Workspace, *months: date) -> dict[str, float]:
    """Return each customer's mean electricity of some months, from the meters."""
    total: Counter[str] = Counter()
    for month in months:
        for row in ws.view.get("electricity_usage", month).read().to_pylist():
            total[row["customer_id"]] += row["energy_kwh"]
    return {customer: kwh / len(months) for customer, kwh in total.items()}


def read_tag(period: Any, ws: bh.Workspace, tag: str) -> dict[str, Any]:
    rows = period.table.read(ws.engine, [tag]).to_pylist()
    return {row["customer_id"]: row[tag] for row in rows}


@pytest.mark.mission("P023")
class TestThreeParts:
    """F-01: a portrait of tags, value needs and service strategies; F-06: from output over mining."""

    def test_f01_tags_value_and_needs(self, utility) -> None:
        found = utility.ws.portraits.of(supplied(utility.ws), OCTOBER)
        assert {"基本属性", "基本特征", "偏好", "价值需求"} <= set(found.tree())
        assert [item.definition.name for item in found.facet("value")] == ["power_value_band"]
        assert [item.definition.name for item in found.facet("need")] == ["power_needs_quality"]

    def test_f01_the_place_of_service_strategies_fills_when_there_are_any(self, own, tools) -> None:
        customer = supplied(own.ws)
        empty = own.ws.portraits.of(customer, OCTOBER)
        assert empty.facet("strategy") == ()
        assert "本方面尚无标签" in own.ws.portraits.html(empty)
        tools.define(own.ws, "tags", "strategy", STRATEGY)
        ws = tools.open_at(own.ws.layout.root)
        full = ws.portraits.of(customer, OCTOBER)
        assert [item.title() for item in full.facet("strategy")] == ["优先回访"]
        wanted = full.value("power_needs_quality") and full.value("power_complaint_count") >= 1
        assert full.value("callback_first") == wanted

    def test_f06_basic_output_then_mining_then_the_portrait(self, own, tools) -> None:
        tools.define(own.ws, "models", "late", LATE)
        tools.define(own.ws, "tags", "late", LATE_TAGS)
        ws = tools.open_at(own.ws.layout.root)
        first = ws.portraits.of(supplied(ws), OCTOBER)
        assert {"late_score", "late_likely"} <= set(first.pending)  # basic output only
        ws.portraits.period(SEPTEMBER)
        ws.learn("late", OCTOBER)
        found = ws.portraits.of(supplied(ws), OCTOBER)
        assert 0 <= found.value("late_score") <= 1
        assert found.value("late_likely") == (found.value("late_score") >= 0.2)
        assert not found.pending


@pytest.mark.mission("P023")
class TestKeepingUp:
    """F-07: as the sources are updated the portrait is too, and stays accurate."""

    def test_f07_a_new_delivery_shows_in_the_next_look(self, own, tools) -> None:
        ws, customer = own.ws, supplied(own.ws)
        before = ws.portraits.of(customer, OCTOBER).value("power_bill_mean")
        rows = ws.view.get("electricity_bill", OCTOBER).read()
        raised = pc.add(rows["amount"], Decimal("30.00")).cast(rows["amount"].type)
        tools.extract(
            ws,
            rows.set_column(rows.column_names.index("amount"), "amount", raised),
            "electricity_bill",
            OCTOBER,
        )
        after = ws.portraits.of(customer, OCTOBER).value("power_bill_mean")
        assert after - before == Decimal("10.00")  # a third of it, over three months

    def test_f07_only_what_stands_on_it_is_derived_again(self, own, tools) -> None:
        ws = own.ws
        everything = set(ws.portraits.period(OCTOBER).derived)
        assert len(everything) > 6
        rows = ws.view.get("power_reading", OCTOBER).read()
        tools.extract(ws, rows.slice(0, rows.num_rows // 2), "power_reading", OCTOBER)
        again = ws.portraits.period(OCTOBER).derived
        assert "power_reading" in again
        assert not {"electricity_usage", "electricity_bill", "power_customer"} & set(again)
        assert ws.portraits.period(OCTOBER).table.pending == {}

    def test_f07_tags_that_were_not_refreshed_would_show_the_old_value(self, own, tools) -> None:
        """The defect: reading stored tags as they stand."""
        ws, customer = own.ws, supplied(own.ws)
        ws.portraits.period(OCTOBER)
        rows = ws.view.get("electricity_usage", OCTOBER).read()
        doubled = pc.multiply(rows["energy_kwh"], 2.0)
        tools.extract(
            ws,
            rows.set_column(rows.column_names.index("energy_kwh"), "energy_kwh", doubled),
            "electricity_usage",
            OCTOBER,
        )
        stale = ws.tags(OCTOBER).profile(customer)["power_kwh"]
        assert ws.portraits.of(customer, OCTOBER).value("power_kwh") == pytest.approx(2 * stale)


@pytest.mark.mission("P023")
class TestPeriod:
    """F-08: the portrait of a chosen period from the data of that period."""

    def test_f08_a_past_month_is_derived_on_demand_from_its_own_data(self, own) -> None:
        assert "tag__customer__electricity_usage" not in own.ws.view.tables
        found = own.ws.portraits.period(AUGUST)
        assert found.derived
        assert max(day for days in found.sources.values() for day in days) == AUGUST
        by_hand = energy(own.ws, JULY, AUGUST)
        values = read_tag(found, own.ws, "power_kwh_mean_3m")
        assert len(values) == 780  # those who were customers then
        known = {customer: kwh for customer, kwh in values.items() if kwh is not None}
        assert known == pytest.approx({customer: by_hand[customer] for customer in known})

    def test_f08_what_comes_later_does_not_reach_back(self, own, tools) -> None:
        ws, customer = own.ws, supplied(own.ws)
        before = ws.portraits.of(customer, AUGUST)
        rows = ws.view.get("electricity_usage", OCTOBER).read()
        huge = pc.multiply(rows["energy_kwh"], 1000.0)
        tools.extract(
            ws,
            rows.set_column(rows.column_names.index("energy_kwh"), "energy_kwh", huge),
            "electricity_usage",
            OCTOBER,
        )
        assert ws.portraits.of(customer, OCTOBER).value("power_kwh") > 1000
        after = ws.portraits.of(customer, AUGUST)
        assert [(i.definition.name, i.value) for i in after.tags] == [
            (i.definition.name, i.value) for i in before.tags
        ]
        assert ws.portraits.period(AUGUST).report.seconds >= 0

    def test_f08_two_periods_are_counted_by_the_dictionary_of_today(self, own, tools) -> None:
        own.ws.portraits.period(AUGUST)
        tools.define(own.ws, "tags", "strategy", STRATEGY)
        ws = tools.open_at(own.ws.layout.root)
        then, now = ws.portraits.of(supplied(ws), AUGUST), ws.portraits.of(supplied(ws), OCTOBER)
        assert len(then.facet("strategy")) == len(now.facet("strategy")) == 1
        changed = now.changes(then)
        assert changed["power_months"] == (now.value("power_months") - 2, now.value("power_months"))

    def test_f08_a_period_without_data_says_which_there_are(self, utility) -> None:
        with pytest.raises(SnapshotNotFoundError, match="2026-07-31"):
            utility.ws.portraits.period("2026-06-30")


@pytest.mark.mission("P023")
class TestStructure:
    """D-42: the customer structure in several dimensions, with its movement."""

    TAGS = ("power_use_kind", "power_value_band", "power_payment_risk")

    def by_hand(self, ws: bh.Workspace, month: date) -> dict[str, tuple[Any, ...]]:
        rows = ws.portraits.period(month).table.read(ws.engine, self.TAGS).to_pylist()
        return {row["customer_id"]: tuple(row[tag] for tag in self.TAGS) for row in rows}

    def test_d42_counts_and_shares_over_three_dimensions(self, utility) -> None:
        ws = utility.ws
        found = ws.portraits.structure(self.TAGS, OCTOBER)
        counts = Counter(self.by_hand(ws, OCTOBER).values())
        assert {s.values: s.count for s in found.segments if s.count} == counts
        assert found.total == 800
        assert all(s.share == pytest.approx(s.count / 800) for s in found.segments)

    def test_d42_movement_month_over_month(self, utility) -> None:
        ws = utility.ws
        found = ws.portraits.structure(self.TAGS, OCTOBER)
        assert (found.earlier, found.total_before) == (SEPTEMBER, 790)
        now, then = self.by_hand(ws, OCTOBER), self.by_hand(ws, SEPTEMBER)
        for segment in found.segments:
            inside = {c for c, values in now.items() if values == segment.values}
            before = {c for c, values in then.items() if values == segment.values}
            assert segment.joined == len(inside - set(then))
            assert segment.moved_in == len((inside & set(then)) - before)
            assert segment.moved_out == len((before & set(now)) - inside)
        assert sum(segment.joined for segment in found.segments) == 10
        assert 0 < found.moved_share < 1

    def test_d42_a_number_becomes_bands(self, utility) -> None:
        found = utility.ws.portraits.structure(["power_kwh_mean_3m"], OCTOBER)
        assert len(found.cuts["power_kwh_mean_3m"]) == 4
        values = read_tag(utility.ws.portraits.period(OCTOBER), utility.ws, "power_kwh_mean_3m")
        top = found.cuts["power_kwh_mean_3m"][-1]
        assert found.find(4).count == sum(v is not None and v >= top for v in values.values())

    def test_d42_two_periods_compared_tag_by_tag(self, utility) -> None:
        found = utility.ws.portraits.compare(JULY, OCTOBER)
        moved = [each.moved_share for each in found]
        assert moved == sorted(moved, reverse=True)
        assert {each.tags[0].name for each in found} >= {"power_value_band", "power_needs_quality"}
        assert {(each.earlier, each.as_of) for each in found} == {(JULY, OCTOBER)}

    def test_d42_it_is_drawn_in_both_languages(self, own) -> None:
        found = own.ws.portraits.structure(["power_value_band"], OCTOBER)
        page = own.ws.portraits.write(found, "structure").read_text(encoding="utf-8")
        assert "<svg" in page
        for words in ("用电价值分档", "Value band of electricity", "客户结构"):
            assert words in page


@pytest.mark.mission("P023")
class TestOnePoint:
    """D-44: portraits are generated at one point: one call, whatever has to be done for it."""

    def test_d44_one_call_on_a_workspace_without_any_tags(self, own) -> None:
        assert not any(table.startswith("tag__") for table in own.ws.view.tables)
        found = own.ws.portraits.of(supplied(own.ws), "2026-10-31")
        assert len(found.tags) == 60
        assert sum(item.value is not None for item in found.tags) > 50

    def test_d44_its_page_says_every_value_and_how_it_is_counted(self, own) -> None:
        found = own.ws.portraits.of(supplied(own.ws), OCTOBER)
        text = re.sub(r"<[^>]+>", " ", own.ws.portraits.html(found))
        for item in found.tags:
            assert item.title("zh") in text
            assert item.definition.definition["zh"] in text
        assert found.subject_id in text

    def test_d44_the_same_point_serves_power_lines(self, own, tools) -> None:
        shutil.copy(
            LIBRARY_FOLDER / "power_line.yaml", own.ws.layout.root / "tags" / "power_line.yaml"
        )
        ws = tools.open_at(own.ws.layout.root)
        line = ws.view.get("power_line", OCTOBER).read()["power_line_id"][0].as_py()
        assert (
            ws.portraits.of(line, OCTOBER, subject="power_line").value("power_line_length_km") > 0
        )
