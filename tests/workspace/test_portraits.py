"""The workspace's portraits: kept up to date, guarded, and drawn as pages."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import bihuan as bh
from bihuan.kernel import FixedClock, UserError

SEPTEMBER, OCTOBER = date(2026, 9, 30), date(2026, 10, 31)
TAGS = """
defaults: {subject: customer, owner: 数据组, state: live}
tags:
  - name: city
    title: {zh: 地市, en: City}
    layer: base
    means: direct
    type: string
    source: customer
    expression: city_code
    category: 自有分类/地域/地市
    meaning: {zh: 地市, en: City}
    definition: {zh: 资料中的地市, en: City of the record}
  - name: paid
    title: {zh: 当月消费, en: Spent this month}
    layer: base
    means: statistics
    type: money
    unit: currency
    source: bill
    expression: sum(amount)
    category: 基本特征/消费/账单
    meaning: {zh: 当月出账, en: Bill of the month}
    definition: {zh: 当月出账之和, en: Sum of the bills}
  - name: spends
    title: {zh: 消费大户, en: Spends much}
    layer: portrait
    means: experience
    type: boolean
    expression: coalesce(paid >= $amount, false)
    thresholds: {amount: 50}
    category: 价值需求/价值/分档
    meaning: {zh: 消费多, en: Spends much}
    definition: {zh: 当月消费达到阈值, en: Bill reaches the threshold}
"""


def publish(ws: bh.Workspace, table: str, day: date, rows: list[dict[str, Any]]) -> None:
    made = pa.Table.from_pylist(rows, schema=ws.contracts[table].schema)
    with ws.lake.publication(ws.clock) as publication:
        publication.add(table, day, made)


def bills(ws: bh.Workspace, day: date, **amounts: int) -> None:
    publish(ws, "bill", day, [
        {"account_id": c, "subscription_id": c, "customer_id": c, "amount": Decimal(a)}
        for c, a in amounts.items()
    ])  # fmt: skip


@pytest.fixture
def ws(tmp_path: Path) -> bh.Workspace:
    clock = FixedClock(datetime(2026, 11, 2, 6, tzinfo=UTC))
    ws = bh.open_workspace(tmp_path / "ws", clock=clock)
    (ws.layout.root / "tags" / "own.yaml").write_text(TAGS, encoding="utf-8")
    for day in (SEPTEMBER, OCTOBER):
        rows = [{"customer_id": c, "city_code": "north" if c < "c" else None} for c in "abcd"]
        publish(ws, "customer", day, rows)
    bills(ws, SEPTEMBER, a=60, b=10)
    bills(ws, OCTOBER, a=60, b=70, c=5)
    return ws


class TestPeriod:
    def test_the_second_look_asks_nothing_of_the_lake(self, ws, monkeypatch) -> None:
        first = ws.portraits.period(OCTOBER)
        monkeypatch.setattr("bihuan.workspace.portraits.draw_period", None)  # would fail if called
        assert ws.portraits.period("2026-10-31") is first

    def test_a_delivery_is_seen_at_once(self, ws) -> None:
        assert ws.portraits.of("b", OCTOBER).value("spends") is True
        ws.clock.advance(timedelta(minutes=1))
        bills(ws, OCTOBER, a=60, b=7)
        assert ws.portraits.of("b", OCTOBER).value("spends") is False
        assert ws.portraits.of("c", OCTOBER).value("paid") is None

    def test_a_changed_dictionary_is_seen_at_once(self, ws) -> None:
        ws.portraits.period(OCTOBER)
        text = TAGS.replace("{amount: 50}", "{amount: 5}")
        (ws.layout.root / "tags" / "own.yaml").write_text(text, encoding="utf-8")
        ws.__dict__.pop("dictionary")
        assert ws.portraits.of("c", OCTOBER).value("spends") is True


class TestStructure:
    def test_the_month_before_is_taken_where_there_is_one(self, ws) -> None:
        found = ws.portraits.structure(["spends"], OCTOBER)
        assert (found.earlier, found.find(True).change, found.moved_share) == (SEPTEMBER, 1, 0.25)
        assert ws.portraits.structure(["spends"], SEPTEMBER).earlier is None

    def test_it_cannot_move_backwards(self, ws) -> None:
        with pytest.raises(UserError, match="cannot begin on 2026-10-31"):
            ws.portraits.structure(["spends"], SEPTEMBER, since=OCTOBER)


class TestCompare:
    def test_what_moved_most_comes_first_and_named_tags_are_enough(self, ws) -> None:
        assert [each.tags[0].name for each in ws.portraits.compare(SEPTEMBER, OCTOBER)] == [
            "spends"
        ]
        named = ws.portraits.compare(SEPTEMBER, OCTOBER, ["city", "spends"])
        assert [each.moved_share for each in named] == [0.25, 0.0]


class TestRank:
    def test_a_goal_that_looks_back_too_far_is_refused(self, ws) -> None:
        with pytest.raises(
            UserError, match="looks back 1 months, and 2026-10-31 is 0 months after"
        ):
            ws.portraits.rank("spends", OCTOBER, OCTOBER, tags=["city"])

    def test_too_few_customers_are_not_estimated(self, ws) -> None:
        found = ws.portraits.rank("spends", SEPTEMBER, OCTOBER, tags=["city"])
        assert (found.rows, found.events) == (4, 2)
        assert found["city"].value == -1.0


class TestHtml:
    def test_a_portrait_keeps_the_place_of_every_facet(self, ws) -> None:
        page = ws.portraits.html(ws.portraits.of("a", OCTOBER))
        for words in ("服务策略", "Service strategies", "自有分类", "消费大户", "Spends much"):
            assert words in page

    def test_a_portrait_says_of_when_its_values_and_its_definitions_are(self, ws) -> None:
        page = ws.portraits.html(ws.portraits.of("a", SEPTEMBER))
        assert "取值来自截至 2026-09-30 的数据，口径为今日的标签字典" in page

    def test_a_structure_without_an_earlier_month_is_drawn_too(self, ws) -> None:
        page = ws.portraits.html(ws.portraits.structure(["city", "spends"], SEPTEMBER))
        assert "未知" in page
        assert "unknown" in page

    def test_it_is_written_into_the_reports_and_nowhere_else(self, ws) -> None:
        path = ws.portraits.write(ws.portraits.of("a", OCTOBER), "../../outside")
        assert path == ws.layout.reports / "outside.html"
        assert path.read_text(encoding="utf-8").startswith("<!")
