"""Portraits of one customer and of a period, structures with movement, and matched plan lists."""

from __future__ import annotations

from collections import Counter
from datetime import date
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from bihuan.data import SnapshotNotFoundError
from bihuan.kernel import SilentProgress
from bihuan.tag import (
    StructureError,
    TagDictionary,
    UnknownSubjectError,
    draw_period,
    draw_portrait,
    draw_structure,
    match_plan_lists,
)
from bihuan.tag import structure as structure_file
from bihuan.tag.portrait import UnknownFacetError, show_value

JULY, AUGUST, SEPTEMBER = date(2026, 7, 31), date(2026, 8, 31), date(2026, 9, 30)

CUSTOMERS = {
    JULY: {"a": "north", "b": "north", "c": "south", "d": None},
    AUGUST: {"a": "north", "b": "south", "c": "south", "e": "north"},
}
BILLS = {
    JULY: {"a": "10.00", "b": "20.00", "c": "30.00"},
    AUGUST: {"a": "50.00", "b": "20.00", "e": "5.00"},
    SEPTEMBER: {"a": "999.00"},
}


@pytest.fixture
def small(lake, contracts, clock, define):
    """Four customers in two months, and three tags on them."""

    def publish(table: str, day: date, rows: list[dict[str, Any]]) -> None:
        made = pa.Table.from_pylist(rows, schema=contracts[table].schema)
        with lake.publication(clock) as publication:
            publication.add(table, day, made)

    for day, cities in CUSTOMERS.items():
        rows = [{"customer_id": c, "city_code": city} for c, city in cities.items()]
        publish("customer", day, rows)
    for day, bills in BILLS.items():
        rows = [
            {"account_id": c, "subscription_id": c, "customer_id": c, "amount": Decimal(amount)}
            for c, amount in bills.items()
        ]
        publish("bill", day, rows)
    codes = {"high": {"zh": "高", "en": "high"}, "low": {"zh": "低", "en": "low"}}
    tags = [
        define("city", source="customer", expression="city_code", type="string",
               category="基本属性/社会属性/地域"),
        define("paid", expression="sum(amount)", type="money", unit="currency", window_months=2,
               category="基本特征/消费/账单"),
        define("value", layer="portrait", expression="case when paid >= 40 then 'high' "
               "when paid is not null then 'low' end", type="string", codes=codes,
               category="价值需求/价值/分档"),
        define("needs_plan", layer="portrait", expression="coalesce(paid >= 60, false)",
               type="boolean", category="价值需求/需求/资费"),
    ]  # fmt: skip
    return publish, TagDictionary(tags, contracts)


@pytest.fixture
def period(lake, engine, clock, small):
    def draw(day: date):
        return draw_period(
            small[1], lake, day, engine=engine, clock=clock, progress=SilentProgress()
        )

    return draw


class TestDrawPeriod:
    def test_it_is_counted_from_the_data_up_to_its_date_alone(self, period, engine) -> None:
        found = period(AUGUST)
        paid = found.table.read(engine, ["paid"]).to_pylist()
        assert {row["customer_id"]: row["paid"] for row in paid} == {
            "a": Decimal("60.00"), "b": Decimal("40.00"), "c": Decimal("30.00"),
            "e": Decimal("5.00"),
        }  # fmt: skip
        assert found.sources == {"bill": (JULY, AUGUST), "customer": (AUGUST,)}
        assert max(day for days in found.sources.values() for day in days) == found.as_of

    def test_what_stands_is_not_derived_again(self, period) -> None:
        assert set(period(AUGUST).derived) == {"customer", "bill", "portrait_1"}
        assert period(AUGUST).derived == ()

    def test_a_mended_month_moves_only_what_stands_on_it(self, small, period, engine) -> None:
        publish, _ = small
        period(AUGUST)
        rows = [{"account_id": "c", "subscription_id": "c", "customer_id": "c", "amount": 70}]
        publish("bill", JULY, rows)
        found = period(AUGUST)
        assert set(found.derived) == {"bill", "portrait_1"}
        assert found.table.profile("c")["paid"] == Decimal("70.00")

    def test_a_month_without_customers_is_refused_by_its_date(self, period) -> None:
        with pytest.raises(SnapshotNotFoundError, match="2026-09-30"):
            period(SEPTEMBER)


class TestDrawPortrait:
    def test_it_has_every_tag_in_its_place(self, small, period) -> None:
        found = draw_portrait(small[1], period(AUGUST).table, "a")
        assert found.value("paid") == Decimal("60.00")
        tree = found.tree()
        assert [item.definition.name for item in tree["基本特征"]["消费"]["账单"][""]] == ["paid"]
        assert set(tree) == {"基本属性", "基本特征", "价值需求"}

    def test_value_and_need_are_two_facets_of_one_branch(self, small, period) -> None:
        found = draw_portrait(small[1], period(AUGUST).table, "a")
        names = {name: [i.definition.name for i in found.facet(name)] for name in ("value", "need")}
        assert names == {"value": ["value"], "need": ["needs_plan"]}
        assert found.facet("strategy") == ()
        with pytest.raises(UnknownFacetError, match="basic"):
            found.facet("colour")

    def test_values_are_said_in_words(self, small, period) -> None:
        found = {i.definition.name: i for i in draw_portrait(
            small[1], period(AUGUST).table, "c").tags}  # fmt: skip
        assert found["value"].shown("zh") == "低"
        assert found["value"].shown("en") == "low"
        assert found["needs_plan"].shown("zh") == "否"

    def test_a_number_has_its_unit_and_what_is_missing_a_dash(self, define) -> None:
        tag = define("d", type="number", unit="MB")
        assert show_value(tag, 12345.678, "en") == "12,346 MB"
        assert show_value(tag, 0.12345, "en") == "0.1235 MB"
        assert show_value(tag, None) == "—"

    def test_changes_name_what_was_and_what_is(self, small, period) -> None:
        _, dictionary = small
        now = draw_portrait(dictionary, period(AUGUST).table, "b")
        then = draw_portrait(dictionary, period(JULY).table, "b")
        assert now.changes(then) == {
            "city": ("north", "south"), "paid": (Decimal("20.00"), Decimal("40.00")),
            "value": ("low", "high"),
        }  # fmt: skip

    def test_nobody_of_that_id(self, small, period) -> None:
        with pytest.raises(UnknownSubjectError):
            draw_portrait(small[1], period(AUGUST).table, "d")


class TestDrawStructure:
    def test_counts_shares_and_movement_add_up_by_hand(self, small, period, engine) -> None:
        found = draw_structure(
            small[1], period(AUGUST).table, ["city"], engine=engine, earlier=period(JULY).table
        )
        north, south, nowhere = found.find("north"), found.find("south"), found.find(None)
        assert (north.count, north.before, north.joined, north.moved_out) == (2, 2, 1, 1)
        assert (south.count, south.before, south.moved_in, south.left) == (2, 1, 1, 0)
        assert (nowhere.count, nowhere.before, nowhere.left) == (0, 1, 1)
        assert (found.total, found.total_before) == (4, 4)
        assert north.share == 0.5
        assert found.moved_share == pytest.approx(1 / 3)  # b moved; a and c stayed
        assert found.flows[("north",), ("south",)] == 1

    def test_what_comes_in_goes_out_somewhere(self, small, period, engine) -> None:
        found = draw_structure(
            small[1], period(AUGUST).table, ["city", "value"], engine=engine,
            earlier=period(JULY).table,
        )  # fmt: skip
        for segment in found.segments:
            gained = segment.moved_in + segment.joined - segment.moved_out - segment.left
            assert segment.change == gained
        assert sum(s.moved_in for s in found.segments) == sum(s.moved_out for s in found.segments)
        assert sum(s.count for s in found.segments) == found.total
        assert sum(s.share for s in found.segments) == pytest.approx(1)

    def test_comparing_shares_alone_would_not_see_who_moved(
        self, small, period, engine, monkeypatch
    ) -> None:
        """The defect: both dates counted apart, as if whoever is gone had not been there."""
        whole = structure_file._flows

        def apart(now, earlier, tags, cuts, engine):
            new = whole(now, None, tags, cuts, engine)
            old = whole(earlier, None, tags, cuts, engine)
            left = Counter({(values, None): n for (_, values), n in old.items()})
            return Counter({(None, values): n for (_, values), n in new.items()}) + left

        monkeypatch.setattr(structure_file, "_flows", apart)
        found = draw_structure(
            small[1], period(AUGUST).table, ["city"], engine=engine, earlier=period(JULY).table
        )
        assert found.find("north").change == 0
        assert found.moved_share is None  # where the right one says a third

    def test_a_number_is_cut_alike_at_both_dates(self, small, period, engine) -> None:
        found = draw_structure(
            small[1], period(AUGUST).table, ["paid"], engine=engine,
            earlier=period(JULY).table, cuts={"paid": [30, 10]},
        )  # fmt: skip
        counts = {found.label(s, "en"): (s.count, s.before) for s in found.segments}
        assert counts == {"≥ 30": (3, 1), "< 10": (1, 0), "10 – 30": (0, 2), "unknown": (0, 1)}

    def test_many_values_become_fifths(self, small, lake, contracts, period, engine) -> None:
        publish, dictionary = small
        publish("customer", SEPTEMBER, [{"customer_id": f"x{i:03d}"} for i in range(100)])
        rows = [
            {"account_id": f"x{i:03d}", "subscription_id": "s", "customer_id": f"x{i:03d}",
             "amount": i} for i in range(100)
        ]  # fmt: skip
        publish("bill", SEPTEMBER, rows)
        found = draw_structure(dictionary, period(SEPTEMBER).table, ["paid"], engine=engine)
        assert found.cuts == {"paid": (20.0, 40.0, 59.0, 79.0)}
        assert sorted(segment.count for segment in found.segments) == [19, 20, 20, 20, 21]

    def test_the_table_has_a_row_per_segment(self, small, period, engine) -> None:
        found = draw_structure(small[1], period(AUGUST).table, ["city"], engine=engine)
        assert found.to_table().column_names[:3] == ["city", "count", "share"]
        assert found.to_table()["before"].null_count == 2
        assert found.moved_share is None

    @pytest.mark.parametrize(
        "tags", [[], ["city", "city"], ["city", "paid", "value", "needs_plan"]]
    )
    def test_one_to_three_different_tags(self, small, period, engine, tags) -> None:
        with pytest.raises(StructureError, match="1 to 3"):
            draw_structure(small[1], period(AUGUST).table, tags, engine=engine)

    def test_a_text_with_too_many_values_is_refused(self, small, period, engine) -> None:
        publish, dictionary = small
        rows = [{"customer_id": f"{i}", "city_code": f"{i}"} for i in range(201)]
        publish("customer", SEPTEMBER, rows)
        with pytest.raises(StructureError, match="201 values"):
            draw_structure(dictionary, period(SEPTEMBER).table, ["city"], engine=engine)


class TestMatchPlanLists:
    @pytest.fixture
    def match(self, lake, engine, clock, contracts):
        return lambda day: match_plan_lists(
            lake, day, engine=engine, clock=clock, contracts=contracts
        )

    @pytest.fixture
    def numbers(self, small):
        publish, _ = small
        plans = {"s1": "p1", "s2": "p2", "s3": "p1"}
        publish("subscription", AUGUST, [
            {"subscription_id": s, "customer_id": s, "product_id": p,
             "status": "disconnected" if s == "s3" else "active"} for s, p in plans.items()
        ])  # fmt: skip
        publish("holding", AUGUST, [
            {"subscription_id": "s2", "product_id": "p1", "customer_id": "s2", "status": "active"},
            {"subscription_id": "s1", "product_id": "p1", "customer_id": "s1", "status": "active"},
            {"subscription_id": "s1", "product_id": "p3", "customer_id": "s1", "status": "ended"},
        ])  # fmt: skip
        publish("plan_list", JULY, [{"list_kind": "k", "product_id": p} for p in ("p1", "p3")])
        return publish

    def test_main_plans_and_held_products_count_and_who_left_does_not(self, numbers, match) -> None:
        rows = match(AUGUST).read().to_pylist()
        assert [(r["subscription_id"], r["product_id"], r["is_main_plan"]) for r in rows] == [
            ("s1", "p1", True), ("s2", "p1", False),
        ]  # fmt: skip

    def test_the_same_lists_are_matched_once_and_new_ones_again(self, numbers, match) -> None:
        first = match(AUGUST)
        assert match(AUGUST).id == first.id
        numbers("plan_list", AUGUST, [{"list_kind": "k", "product_id": "p2"}])
        assert [r["subscription_id"] for r in match(AUGUST).read().to_pylist()] == ["s2"]

    def test_a_list_of_later_is_not_in_force(self, numbers, match, lake) -> None:
        numbers("plan_list", SEPTEMBER, [{"list_kind": "k", "product_id": "p2"}])
        assert {r["product_id"] for r in match(AUGUST).read().to_pylist()} == {"p1"}
        assert match(JULY) is None  # there are no numbers of that date
