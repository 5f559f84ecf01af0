"""Recipes: each step does what it says, and every mistake is told with its place."""

from __future__ import annotations

import os
import textwrap
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from bihuan.data import SnapshotNotFoundError
from bihuan.data.prepare import (
    ExpressionError,
    Recipe,
    RecipeError,
    Step,
    check_recipe,
    load_recipe,
    parse_expression,
    prepare,
    publish_prepared,
)
from bihuan.data.prepare.run import STEPS

AUGUST, SEPTEMBER, OCTOBER = date(2026, 8, 31), date(2026, 9, 30), date(2026, 10, 31)
BILL = ["account_id", "subscription_id", "customer_id", "amount", "discount_amount"]


@pytest.fixture
def bills(publish):
    """Three months of bills of three customers; the second has none in September."""
    money = Decimal
    publish("customer", customer_id=["a", "b", "c"], city_code=["130100", "130600", "130100"])
    publish(
        "bill",
        AUGUST,
        account_id=["1", "2", "3"],
        subscription_id=["1", "2", "3"],
        customer_id=["a", "b", "c"],
        amount=[money(10), money(20), money(30)],
    )
    publish(
        "bill",
        SEPTEMBER,
        account_id=["1", "3"],
        subscription_id=["1", "3"],
        customer_id=["a", "c"],
        amount=[money(11), money(31)],
    )
    return publish(
        "bill",
        account_id=["1", "2", "3"],
        subscription_id=["1", "2", "3"],
        customer_id=["a", "b", "c"],
        amount=[None, None, money(32)],
        discount_amount=[money(1), money(2), None],
    )


@pytest.fixture
def run(engine, contracts):
    """Run steps, given as (kind, options), and return the rows as dicts."""

    def make(view, *steps):
        recipe = Recipe("test", tuple(Step(kind, options) for kind, options in steps))
        return prepare(recipe, view, OCTOBER, engine, contracts).to_pylist()

    return make


SELECT = ("select", {"table": "bill", "columns": ["customer_id", "amount"]})


class TestExtraction:
    def test_select_takes_columns_and_rows(self, run, bills):
        options = {"table": "bill", "columns": ["customer_id"], "where": "amount > 5"}
        assert run(bills, ("select", options)) == [{"customer_id": "c"}]

    def test_select_takes_every_column_if_none_is_named(self, run, bills, contracts):
        (row, *_) = run(bills, ("select", {"table": "bill"}))
        assert tuple(row) == contracts["bill"].names

    def test_several_months_come_with_their_date_and_age(self, run, bills):
        options = {"table": "bill", "columns": ["customer_id"], "months": 3}
        rows = run(bills, ("select", options), ("sort", ["-months_ago", "customer_id"]))
        assert len(rows) == 8
        assert rows[0] == {"customer_id": "a", "as_of": AUGUST, "months_ago": 2}
        assert rows[-1]["months_ago"] == 0

    def test_the_condition_may_use_the_age_and_columns_that_are_not_taken(self, run, bills):
        options = {
            "table": "bill",
            "columns": ["customer_id"],
            "months": 3,
            "where": "months_ago = 1 and amount > 20",
        }
        assert run(bills, ("select", options), ("keep", ["customer_id"])) == [{"customer_id": "c"}]

    def test_join_puts_columns_beside(self, run, bills):
        rows = run(
            bills,
            SELECT,
            ("join", {"table": "customer", "on": ["customer_id"], "columns": ["city_code"]}),
            ("sort", ["customer_id"]),
        )
        assert [row["city_code"] for row in rows] == ["130100", "130600", "130100"]

    def test_a_left_join_keeps_rows_without_a_partner_and_an_inner_join_does_not(
        self, run, publish
    ):
        publish("customer", customer_id=["a"], city_code=["x"])
        view = publish("account", account_id=["1", "2"], customer_id=["a", "ghost"])
        select = ("select", {"table": "account", "columns": ["account_id", "customer_id"]})
        for kind, n in (("left", 2), ("inner", 1)):
            join = {
                "table": "customer",
                "on": "customer_id",
                "columns": ["city_code"],
                "kind": kind,
            }
            assert len(run(view, select, ("join", join))) == n

    def test_a_join_that_could_multiply_rows_needs_to_be_wanted(self, run, bills):
        customers = ("select", {"table": "customer", "columns": ["customer_id"]})
        join = {"table": "bill", "on": ["customer_id"], "columns": ["amount"]}
        with pytest.raises(RecipeError, match="several rows"):
            run(bills, customers, ("join", join))
        assert len(run(bills, customers, ("join", {**join, "many": True}))) == 3

    def test_filter_keeps_rows_for_which_it_is_true(self, run, bills):
        assert run(bills, SELECT, ("filter", "amount is null"), ("keep", ["customer_id"])) in (
            [{"customer_id": "a"}, {"customer_id": "b"}],
            [{"customer_id": "b"}, {"customer_id": "a"}],
        )

    def test_keep_orders_columns(self, run, bills):
        (row, *_) = run(bills, SELECT, ("keep", ["amount", "customer_id"]))
        assert list(row) == ["amount", "customer_id"]

    def test_the_month_prepared_must_be_there(self, engine, contracts, bills):
        recipe = Recipe("x", (Step("select", {"table": "bill", "months": 3}),))
        with pytest.raises(SnapshotNotFoundError, match="2026-11-30"):
            prepare(recipe, bills, date(2026, 11, 30), engine, contracts)


class TestCalculationAndGrouping:
    def test_calculate_adds_and_replaces(self, run, bills):
        rows = run(
            bills,
            ("select", {"table": "bill", "columns": BILL}),
            ("filter", "customer_id = 'c'"),
            ("calculate", {"net": "amount - coalesce(discount_amount, 0)", "amount": "amount * 2"}),
            ("keep", ["amount", "net"]),
        )
        assert rows == [{"amount": Decimal(64), "net": Decimal(32)}]

    def test_group_aggregates_and_is_ordered_by_its_keys(self, run, bills):
        rows = run(
            bills,
            ("select", {"table": "bill", "columns": ["customer_id", "amount"], "months": 3}),
            ("join", {"table": "customer", "on": ["customer_id"], "columns": ["city_code"]}),
            (
                "group",
                {
                    "by": ["city_code"],
                    "aggregates": {
                        "total": "sum(amount)",
                        "bills": "count(*)",
                        "customers": "count(distinct customer_id)",
                        "big": "count(*) filter (where amount >= 30)",
                        "mean": "sum(amount) / count(amount)",
                    },
                },
            ),
        )
        assert [row["city_code"] for row in rows] == ["130100", "130600"]
        first = rows[0]
        assert first["total"] == Decimal(114)
        assert (first["bills"], first["customers"], first["big"]) == (6, 2, 3)
        assert float(first["mean"]) == pytest.approx(114 / 5)

    def test_group_by_nothing_makes_one_row(self, run, bills):
        assert run(bills, SELECT, ("group", {"aggregates": {"n": "count(*)"}})) == [{"n": 3}]


class TestConversion:
    def test_types(self, run, bills):
        rows = run(bills, SELECT, ("filter", "amount > 0"), ("types", {"amount": "integer"}))
        assert rows == [{"customer_id": "c", "amount": 32}]

    def test_a_value_that_cannot_be_read_stops_the_run_unless_lenient(self, run, bills):
        with pytest.raises(RecipeError, match="stopped at a value"):
            run(bills, SELECT, ("types", {"customer_id": "integer"}))
        lenient = ("types", {"customer_id": {"to": "integer", "lenient": True}})
        assert {row["customer_id"] for row in run(bills, SELECT, lenient)} == {None}

    def test_units_come_from_the_contract(self, run, publish):
        view = publish(
            "usage",
            subscription_id=["1"],
            customer_id=["a"],
            data_mb=[1536.0],
            voice_minutes=[90.0],
        )
        select = ("select", {"table": "usage", "columns": ["data_mb", "voice_minutes"]})
        units = {"data_mb": {"to": "GB", "as": "data_gb"}, "voice_minutes": "hour"}
        (row,) = run(view, select, ("units", units))
        assert row == {"data_mb": 1536.0, "voice_minutes": 1.5, "data_gb": 1.5}

    def test_a_unit_of_another_dimension_is_refused(self, run, publish):
        view = publish("usage", subscription_id=["1"], customer_id=["a"], data_mb=[1.0])
        with pytest.raises(RecipeError, match="MB cannot become hour"):
            run(view, ("select", {"table": "usage"}), ("units", {"data_mb": "hour"}))

    def test_fen_become_the_currencys_unit(self, run, bills):
        rows = run(
            bills,
            SELECT,
            ("filter", "amount > 0"),
            ("units", {"amount": {"from": "fen", "to": "currency"}}),
        )
        assert rows[0]["amount"] == pytest.approx(0.32)

    @pytest.mark.parametrize(
        ("other", "expected"),
        [("keep", ["男", "F", None]), ("missing", ["男", None, None]), ("?", ["男", "?", None])],
    )
    def test_codes(self, run, publish, other, expected):
        view = publish("customer", customer_id=["a", "b", "c"], gender=["M", "F", None])
        rows = run(
            view,
            ("select", {"table": "customer", "columns": ["customer_id", "gender"]}),
            ("codes", {"gender": {"map": {"M": "男"}, "other": other}}),
            ("sort", "customer_id"),
        )
        assert [row["gender"] for row in rows] == expected

    def test_rename_keeps_the_place(self, run, bills):
        (row, *_) = run(bills, SELECT, ("rename", {"customer_id": "客户编号"}))
        assert list(row) == ["客户编号", "amount"]

    def test_pivot_and_unpivot_are_inverse(self, run, publish):
        view = publish(
            "ticket",
            ticket_id=["1", "2", "3", "4"],
            customer_id=["a", "a", "a", "b"],
            kind=["fault", "fault", "complaint", "fault"],
            severity=[1, 2, 5, 3],
            opened_at=[datetime(2026, 10, 5, tzinfo=UTC)] * 4,
        )
        select = ("select", {"table": "ticket", "columns": ["customer_id", "kind", "severity"]})
        wide = {
            "by": ["customer_id"],
            "column": "kind",
            "values": {"fault": "faults", "complaint": "complaints"},
            "value": "severity",
            "aggregate": "count",
        }
        rows = run(view, select, ("pivot", wide))
        assert rows == [
            {"customer_id": "a", "faults": 2, "complaints": 1},
            {"customer_id": "b", "faults": 1, "complaints": 0},
        ]
        long = {"by": ["customer_id"], "columns": ["faults", "complaints"], "name": "kind"}
        rows = run(
            view, select, ("pivot", wide), ("unpivot", long), ("sort", ["customer_id", "kind"])
        )
        assert [(row["customer_id"], row["kind"], row["value"]) for row in rows] == [
            ("a", "complaints", 1),
            ("a", "faults", 2),
            ("b", "complaints", 0),
            ("b", "faults", 1),
        ]

    def test_pivot_names_columns_after_value_and_code(self, run, publish):
        view = publish("customer", customer_id=["a"], gender=["M"], birth_year=[1980])
        options = {
            "by": "customer_id",
            "column": "gender",
            "values": ["F", "M"],
            "value": "birth_year",
        }
        select = (
            "select",
            {"table": "customer", "columns": ["customer_id", "gender", "birth_year"]},
        )
        assert run(view, select, ("pivot", options)) == [
            {"customer_id": "a", "birth_year_F": None, "birth_year_M": 1980}
        ]

    def test_sort_goes_down_with_a_minus_and_puts_missing_last(self, run, bills):
        both = {"table": "bill", "columns": ["customer_id", "amount"], "months": 2}
        rows = run(bills, ("select", both), ("sort", ["-amount", "customer_id"]))
        assert [row["amount"] for row in rows] == [32, 31, 11, None, None]


class TestCleaning:
    def test_trim_removes_blanks_of_every_kind(self, run, publish):
        names = [" 张三\u3000", "\t李四\u00a0", "\u3000 ", "", None, "王 五", "\ufeff赵六"]
        view = publish("customer", customer_id=[str(i) for i in range(7)], name=names)
        rows = run(
            view,
            ("select", {"table": "customer", "columns": ["customer_id", "name"]}),
            ("trim", ["name"]),
            ("sort", ["customer_id"]),
        )
        assert [row["name"] for row in rows] == ["张三", "李四", None, None, None, "王 五", "赵六"]

    def test_drop_duplicates_keeps_the_first_in_order(self, run, bills):
        rows = run(
            bills,
            ("select", {"table": "bill", "columns": ["customer_id", "amount"], "months": 3}),
            ("filter", "amount is not null"),
            ("drop_duplicates", {"key": ["customer_id"], "order": ["months_ago"]}),
            ("sort", ["customer_id"]),
        )
        assert [(row["customer_id"], row["amount"]) for row in rows] == [
            ("a", 11),
            ("b", 20),
            ("c", 32),
        ]

    def test_ties_are_broken_the_same_way_whatever_the_order_of_rows(self, run, publish, lake):
        seen = set()
        for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
            names = ["x", "y", "z"]
            view = publish("customer", customer_id=["a"] * 3, name=[names[i] for i in order])
            select = ("select", {"table": "customer", "columns": ["customer_id", "name"]})
            (row,) = run(view, select, ("drop_duplicates", {"key": ["customer_id"]}))
            seen.add(row["name"])
        assert seen == {"x"}

    def test_fill_with_a_constant(self, run, bills):
        rows = run(
            bills, SELECT, ("fill_missing", {"columns": "amount", "with": "constant", "value": 0})
        )
        assert sorted(row["amount"] for row in rows) == [0, 0, 32]

    def test_fill_with_the_median_of_all_or_of_a_group(self, run, publish):
        view = publish(
            "customer",
            customer_id=list("abcdef"),
            gender=["F", "F", "F", "M", "M", None],
            birth_year=[1980, 1990, None, 1950, None, None],
        )
        select = (
            "select",
            {"table": "customer", "columns": ["customer_id", "gender", "birth_year"]},
        )
        fill = {"columns": ["birth_year"], "with": "median"}
        rows = run(view, select, ("fill_missing", fill), ("sort", ["customer_id"]))
        assert [row["birth_year"] for row in rows] == [1980, 1990, 1980, 1950, 1980, 1980]
        rows = run(
            view, select, ("fill_missing", {**fill, "by": ["gender"]}), ("sort", ["customer_id"])
        )
        assert [row["birth_year"] for row in rows] == [1980, 1990, 1985, 1950, 1950, None]

    def test_fill_from_the_month_before_and_never_from_an_older_one(self, run, bills):
        rows = run(
            bills,
            ("select", {"table": "bill", "columns": ["customer_id", "amount"], "months": 3}),
            (
                "fill_missing",
                {"columns": ["amount"], "with": "previous_month", "key": ["customer_id"]},
            ),
            ("filter", "months_ago = 0"),
            ("sort", ["customer_id"]),
        )
        # b has no bill in September; its bill of August is two months old
        assert [row["amount"] for row in rows] == [11, None, 32]

    def test_the_month_before_must_have_been_selected(self, run, bills):
        fill = {"columns": ["amount"], "with": "previous_month", "key": ["customer_id"]}
        with pytest.raises(RecipeError, match="months: 2"):
            run(bills, SELECT, ("fill_missing", fill))

    def test_cap_moves_outliers_to_the_quantile_and_leaves_missing_alone(self, run, publish):
        n = 101
        values = [float(i) for i in range(100)] + [1e9]
        view = publish(
            "usage",
            subscription_id=[str(i) for i in range(n + 1)],
            customer_id=["a"] * (n + 1),
            data_mb=[*values, None],
        )
        rows = run(
            view,
            ("select", {"table": "usage", "columns": ["data_mb"]}),
            ("cap", {"columns": ["data_mb"], "low": 0.05, "high": 0.95}),
        )
        capped = [row["data_mb"] for row in rows]
        assert capped.count(None) == 1
        present = sorted(value for value in capped if value is not None)
        assert present[0] == 5.0
        assert present[-1] == 95.0
        assert len(present) == n

    def test_cap_by_group_uses_each_groups_own_quantile(self, run, publish):
        view = publish(
            "usage",
            subscription_id=[str(i) for i in range(20)],
            customer_id=["a"] * 10 + ["b"] * 10,
            data_mb=[float(i) for i in range(10)] + [float(100 * i) for i in range(10)],
        )
        rows = run(
            view,
            ("select", {"table": "usage", "columns": ["customer_id", "data_mb"]}),
            ("cap", {"columns": ["data_mb"], "high": 0.5, "by": ["customer_id"]}),
            ("group", {"by": ["customer_id"], "aggregates": {"top": "max(data_mb)"}}),
        )
        assert [row["top"] for row in rows] == [4.0, 400.0]

    def test_cap_keeps_the_type(self, engine, contracts, publish):
        view = publish("customer", customer_id=["a", "b"], birth_year=[1980, 1990])
        recipe = Recipe(
            "x",
            (
                Step("select", {"table": "customer", "columns": ["birth_year"]}),
                Step("cap", {"columns": ["birth_year"], "high": 0.5}),
            ),
        )
        assert prepare(recipe, view, OCTOBER, engine, contracts).schema.types == [pa.int64()]


RECIPE = """\
    recipe: arpu_by_city
    meaning: {zh: 各地市近三个月户均出账, en: Mean bill of three months by city}
    steps:
      - select: {table: bill, columns: [customer_id, amount], where: amount >= 0, months: 3}
      - join: {table: customer, on: [customer_id], columns: [city_code]}
      - cap: {columns: [amount], high: 0.999}
      - group:
          by: [city_code]
          aggregates: {arpu: avg(amount), customers: count(distinct customer_id)}
"""


@pytest.fixture
def write(tmp_path):
    def put(text: str) -> Path:
        path = tmp_path / "arpu.yaml"
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    return put


class TestLoadRecipe:
    def test_the_recipe_of_the_documentation_runs(self, write, bills, engine, contracts):
        recipe = load_recipe(write(RECIPE))
        assert recipe.meaning["zh"] == "各地市近三个月户均出账"
        assert check_recipe(recipe, contracts, engine).names == ["city_code", "arpu", "customers"]
        rows = prepare(recipe, bills, OCTOBER, engine).to_pylist()
        assert [(row["city_code"], row["customers"]) for row in rows] == [
            ("130100", 2),
            ("130600", 1),
        ]

    def test_words_that_yaml_takes_for_booleans_stay_words(self, write):
        recipe = load_recipe(
            write(
                "recipe: x\nsteps:\n  - select: {table: bill}\n"
                "  - codes: {flag: {map: {yes: on, no: off, Yes: true}}}\n"
            )
        )
        assert recipe.steps[1].options == {"flag": {"map": {"yes": "on", "no": "off", "Yes": True}}}

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            (
                "amount >= 0",
                "amont >= 0",
                ["line 4, step 1 (select), where", "position 0", "amount"],
            ),
            ("avg(amount)", "avg(amont)", ["line 7, step 4 (group), arpu", "position 4"]),
            ("avg(amount)", "amount", ["step 4 (group), arpu", "does not aggregate"]),
            ("[city_code]}", "[city]}", ["line 5, step 2 (join)", "city_code"]),
            ("table: bill", "table: bills", ["line 4", "no table 'bills'"]),
            ("high: 0.999", "high: 1.5", ["line 6, step 3 (cap), high", "from 0 to 1"]),
            ("high: 0.999", "hihg: 0.9", ["hihg", "no such option"]),
            ("- cap", "- cop", ["line 6, step 3 (cop)", "no such step"]),
            ("months: 3", "months: many", ["months", "number"]),
            ("by: [city_code]", "by: [city_code, city_code]", ["named twice"]),
        ],
    )
    def test_a_mistake_is_told_with_file_line_step_and_position(
        self, write, contracts, engine, old, new, told
    ):
        recipe = load_recipe(write(RECIPE.replace(old, new)))
        with pytest.raises(RecipeError) as caught:
            check_recipe(recipe, contracts, engine)
        assert "arpu.yaml" in str(caught.value)
        for part in told:
            assert part in str(caught.value)
        assert "arpu.yaml" in caught.value.text("zh")

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("recipe: x\nsteps: [", "line"),
            ("steps: []", "not a recipe"),
            ("recipe: x\nsteps: {a: 1}", "not a recipe"),
            ("recipe: x\nsteps:\n  - select\n", "line 3, step 1"),
            ("recipe: x\nsteps:\n  - {select: {}, join: {}}\n", "line 3, step 1"),
            ("recipe: X Y\nsteps:\n  - select: {table: bill}\n", "cannot name"),
            ("recipe: x\nsteps:\n  - filter: a > 1\n", "select"),
        ],
    )
    def test_a_file_that_is_no_recipe_is_refused(self, write, text, told):
        with pytest.raises(RecipeError, match=told):
            load_recipe(write(text))


class TestCheckRecipe:
    def test_types_that_do_not_fit_are_found_without_data_and_name_the_step(
        self, contracts, engine
    ):
        recipe = Recipe(
            "x",
            (
                Step("select", {"table": "customer", "columns": ["name", "joined_on"]}),
                Step("trim", ["name"]),
                Step("calculate", {"y": "joined_on * 2"}),
            ),
        )
        with pytest.raises(RecipeError, match=r"step 3 \(calculate\)"):
            check_recipe(recipe, contracts, engine)

    def test_select_only_first_and_sort_only_last(self, contracts, engine):
        select, sort = Step("select", {"table": "bill"}), Step("sort", ["amount"])
        keep = Step("keep", ["amount"])
        for steps in ((select, select), (select, sort, keep)):
            with pytest.raises(RecipeError, match="begins with select"):
                check_recipe(Recipe("x", steps), contracts, engine)

    @pytest.mark.parametrize(
        ("kind", "options"),
        [
            ("join", {"table": "customer", "on": ["customer_id"], "columns": ["customer_id"]}),
            ("group", {"by": ["amount"], "aggregates": {"amount": "count(*)"}}),
            ("rename", {"amount": "customer_id"}),
            ("unpivot", {"by": ["customer_id"], "columns": ["amount"], "name": "customer_id"}),
            ("fill_missing", {"columns": ["amount"], "with": "constant"}),
            ("fill_missing", {"columns": ["amount"], "with": "magic"}),
            ("cap", {"columns": ["amount"]}),
            ("keep", []),
            ("keep", "nothing"),
            ("calculate", {"x": ["amount"]}),
            ("calculate", {"x": None}),
            ("types", {"amount": "text"}),
            ("units", {"customer_id": "GB"}),
            ("codes", {"amount": "x"}),
            ("pivot", {"by": ["customer_id"], "column": "amount", "value": "amount"}),
            ("drop_duplicates", {}),
            ("trim", {"columns": ["amount"]}),
            ("calculate", ["amount"]),
        ],
    )
    def test_wrong_options_are_the_users_mistake_and_name_the_step(
        self, contracts, engine, kind, options
    ):
        steps = (Step(*SELECT), Step(kind, options))
        with pytest.raises(RecipeError, match="step 2"):
            check_recipe(Recipe("x", steps), contracts, engine)

    def test_every_kind_of_step_tells_its_options(self):
        for step in STEPS.values():
            assert "``" in (step.__doc__ or "")


class TestPublishPrepared:
    def test_the_result_becomes_a_table_with_its_lineage(
        self, lake, bills, engine, clock, contracts
    ):
        recipe = Recipe("totals", (Step(*SELECT), Step("filter", "amount > 0")))
        snapshot = publish_prepared(recipe, lake, OCTOBER, engine, clock, contracts)
        assert snapshot.table == "prepared__totals"
        assert snapshot.read().to_pylist() == [{"customer_id": "c", "amount": Decimal(32)}]
        assert snapshot.lineage["snapshots"] == [bills.get("bill", OCTOBER).id]

    def test_a_changed_recipe_changes_the_lineage(self, lake, bills, engine, clock, contracts):
        def recipe(limit):
            return Recipe("totals", (Step(*SELECT), Step("filter", f"amount > {limit}")))

        made = [
            publish_prepared(recipe(limit), lake, OCTOBER, engine, clock, contracts).lineage[
                "recipe"
            ]
            for limit in (0, 0, 1)
        ]
        assert made[0] == made[1] != made[2]

    def test_a_run_that_stops_publishes_nothing(self, lake, bills, engine, clock, contracts):
        recipe = Recipe("totals", (Step(*SELECT), Step("types", {"customer_id": "integer"})))
        with pytest.raises(RecipeError):
            publish_prepared(recipe, lake, OCTOBER, engine, clock, contracts)
        assert lake.view().find("prepared__totals") is None
        assert lake.view().version == bills.version

    def test_a_prepared_table_can_be_prepared_further(self, lake, bills, engine, clock, contracts):
        first = Recipe("one", (Step(*SELECT),))
        publish_prepared(first, lake, OCTOBER, engine, clock, contracts)
        steps = (
            Step("select", {"table": "prepared__one"}),
            Step("group", {"aggregates": {"n": "count(*)"}}),
        )
        rows = prepare(Recipe("two", steps), lake.view(), OCTOBER, engine, contracts)
        assert rows.to_pylist() == [{"n": 3}]


class TestOneQuery:
    def test_a_recipe_is_compiled_into_one_query_without_pasted_text(
        self, bills, contracts, engine
    ):
        queries = []

        class Watching:
            def query(self, query, sources):
                queries.append(query)
                return engine.query(query, sources)

        evil = "x'; DROP TABLE t; --"
        steps = (
            Step(*SELECT),
            Step("codes", {"customer_id": {"map": {evil: evil}, "other": "keep"}}),
            Step("calculate", {'we"ird; --': "amount + 1"}),
            Step("sort", ["customer_id"]),
        )
        table = prepare(Recipe("x", steps), bills, OCTOBER, Watching(), contracts)
        assert len(queries) == 1
        assert table.column_names == ["customer_id", "amount", 'we"ird; --']
        assert table.column("customer_id").to_pylist() == ["a", "b", "c"]

    def test_cleaning_a_random_table_agrees_with_numpy(self, run, publish):
        random = np.random.default_rng(5)
        n = 500
        data = np.round(random.lognormal(3, 2, n), 3)
        gone = random.random(n) < 0.15
        view = publish(
            "usage",
            subscription_id=[str(i) for i in range(n)],
            customer_id=["a"] * n,
            data_mb=[None if g else float(d) for d, g in zip(data, gone, strict=True)],
        )
        rows = run(
            view,
            ("select", {"table": "usage", "columns": ["subscription_id", "data_mb"]}),
            ("cap", {"columns": ["data_mb"], "high": 0.9}),
            ("fill_missing", {"columns": ["data_mb"], "with": "median"}),
        )
        found = {row["subscription_id"]: row["data_mb"] for row in rows}
        top = np.quantile(data[~gone], 0.9, method="inverted_cdf")
        capped = np.minimum(data, top)
        expected = np.where(gone, np.median(capped[~gone]), capped)
        assert [found[str(i)] for i in range(n)] == pytest.approx(expected.tolist())


WORDS = ["select", "from", "sum", "case", "when", "end", "over", "read_csv", "1"]
TOKENS = [*"()+-'\";,.*[]?", "--", "/*", *WORDS]
COLUMNS = ["amount", "discount_amount", "客户", "number", "text", "as_of"]


class TestParseExpression:
    @pytest.mark.parametrize(
        "text",
        [
            "amount - discount_amount",
            "amount > 3 and not (number like '13%' or text is null)",
            "case when amount between 1 and 2 then 'a' else upper(text) end",
            "amount in (1, 2, 3)",
            "客户 = '张三'",
            "date '2026-10-31' - as_of",
            "cast(amount as integer) % 2",
            "round(coalesce(amount, 0) / 3, 2)",
            "regexp_matches(number, '^1[3-9]')",
            "extract(month from as_of)",
            "amount is distinct from discount_amount",
        ],
    )
    def test_ordinary_expressions_are_read(self, text):
        parse_expression(text, COLUMNS)

    @pytest.mark.parametrize(
        ("text", "position"),
        [
            ("amount + + ) (", 11),
            ("discont", 0),
            ("amount - discont", 9),
            ("amount +\n  discont", 11),
            ("read_text('/etc/passwd')", 0),
            ("amount + getenv('HOME')", 9),
            ("sum(amount)", 0),
            ("1 + sum(amount)", 4),
            ("amount in (select 1)", 18),
            ("a; drop table x", 1),
            ("amount as b", 0),
            ("bill.amount", 0),
            ("*", 0),
            ("random()", 0),
            ("amount > 客戶", 9),
            ("row_number() over ()", 0),
        ],
    )
    def test_what_is_wrong_is_told_with_its_position(self, text, position):
        with pytest.raises(ExpressionError) as caught:
            parse_expression(text, COLUMNS)
        assert caught.value.position == position
        assert f"(position {position})" in str(caught.value)
        assert "^" in str(caught.value)
        assert f"第 {position + 1} 个字符" in caught.value.text("zh")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "   ",
            "-- nothing",
            "'open",
            "(" * 3000 + "1" + ")" * 3000,
            "(" * 1500 + "1" + ")" * 1500,
            "1" + "+1" * 5000,
            "?",
            "current_date",
            "amount over ()",
            "[1, 2]",
            "{'a': 1}",
            "(select max(amount) from bill)",
            "exists (select 1)",
            "/* x */",
        ],
    )
    def test_other_text_is_refused(self, text):
        with pytest.raises(ExpressionError):
            parse_expression(text, COLUMNS)

    def test_the_caret_stands_below_the_mistake_in_its_own_line(self):
        with pytest.raises(ExpressionError) as caught:
            parse_expression("amount +\n  discont * 2", COLUMNS)
        lines = str(caught.value).splitlines()
        assert lines[-1].index("^") == lines[-2].index("discont")

    @pytest.mark.parametrize(
        ("text", "told"),
        [
            ("amount", "does not aggregate"),
            ("sum(amount) + number", "outside of an aggregate"),
            ("sum(avg(amount))", "in an aggregate"),
            ("sum(amount) filter (where avg(amount) > 1)", "in an aggregate"),
            ("sum(amount) over ()", "may not be used"),
        ],
    )
    def test_aggregates_in_the_wrong_place(self, text, told):
        with pytest.raises(ExpressionError, match=told):
            parse_expression(text, COLUMNS, ["客户"])

    def test_grouped_columns_may_stand_outside(self):
        parse_expression("sum(amount) / count(*) + length(客户)", COLUMNS, ["客户"])

    @settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.one_of(
            st.text(max_size=40),
            st.lists(
                st.sampled_from([*COLUMNS, *TOKENS]),
                max_size=12,
            ).map(" ".join),
        )
    )
    def test_any_text_is_read_or_refused_and_never_reaches_a_table(self, text):
        try:
            tree = parse_expression(text, COLUMNS)
        except ExpressionError:
            return
        assert not list(tree.find_all(exp.Table, exp.Select, exp.Anonymous, exp.Command))
        assert {column.name for column in tree.find_all(exp.Column)} <= set(COLUMNS)


def test_paths_do_not_leak_into_messages(write, contracts, engine):
    with pytest.raises(RecipeError) as caught:
        load_recipe(write("recipe: x\nsteps: ["))
    assert os.sep not in str(caught.value)
