"""Profiles, findings, references and differences, held against hand-counted rows."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import UTC, date, datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from bihuan.data.contract import Column, ColumnType, TableContract
from bihuan.data.quality import (
    LIMITS,
    ComparisonError,
    QualityError,
    check_references,
    compare_snapshots,
    profile_quality,
)
from bihuan.data.quality.measure import missing_months

AUGUST, SEPTEMBER, OCTOBER = date(2026, 8, 31), date(2026, 9, 30), date(2026, 10, 31)


@pytest.fixture
def profile(engine, contracts):
    def make(view, table, as_of=OCTOBER, today=None):
        return profile_quality(view, table, as_of, contracts[table], engine, today)

    return make


@pytest.fixture
def customers(publish):
    """Four customers: one without gender, one with an unknown kind, two with an odd birth year."""
    return publish(
        "customer",
        customer_id=["a", "b", "c", "d"],
        kind=["individual", "household", "entreprise", "individual"],
        gender=["F", None, "M", "F"],
        birth_year=[1980, 1899, 2101, None],
        is_senior=[True, False, False, False],
        joined_on=[date(2010, 1, 1), date(2020, 5, 5), None, date(2015, 1, 1)],
    )


class TestProfileColumns:
    def test_completeness_is_the_share_of_rows_with_a_value(self, profile, customers):
        found = profile(customers, "customer")
        assert found["customer_id"].completeness == 1.0
        assert found["gender"].completeness == 0.75
        assert found["name"].completeness == 0.0
        assert found["gender"].present == 3

    def test_values_outside_the_range_are_counted(self, profile, customers):
        assert profile(customers, "customer")["birth_year"].outside_range == 2

    def test_a_value_at_the_bound_is_inside(self, profile, publish):
        view = publish("customer", customer_id=["a", "b"], birth_year=[1900, 2100])
        assert profile(view, "customer")["birth_year"].outside_range == 0

    def test_unknown_codes_are_counted_and_missing_ones_are_not(self, profile, customers):
        found = profile(customers, "customer")
        assert found["kind"].unknown_codes == 1
        assert found["gender"].unknown_codes == 0

    def test_smallest_largest_and_mean(self, profile, publish):
        view = publish(
            "bill",
            account_id=["a", "b", "c"],
            subscription_id=["1", "2", "3"],
            customer_id=["x", "x", "y"],
            amount=[Decimal("-5.00"), Decimal("10.50"), None],
        )
        amount = profile(view, "bill")["amount"]
        assert (amount.minimum, amount.maximum) == ("-5.00", "10.50")
        assert amount.mean == pytest.approx(2.75)

    def test_the_mean_of_a_boolean_is_the_share_of_true(self, profile, customers):
        assert profile(customers, "customer")["is_senior"].mean == 0.25

    def test_dates_have_a_range_and_no_mean(self, profile, customers):
        joined = profile(customers, "customer")["joined_on"]
        assert (joined.minimum, joined.maximum) == ("2010-01-01", "2020-05-05")
        assert joined.mean is None

    def test_texts_show_their_lengths_and_never_themselves(self, profile, publish):
        view = publish("customer", customer_id=["a", "b"], name=["张三", "欧阳小明"])
        found = profile(view, "customer")
        assert (found["name"].shortest, found["name"].longest) == (2, 4)
        assert "张三" not in str(found.table().to_pylist())
        assert "欧阳小明" not in found.picture()

    def test_nan_counts_as_missing(self, profile, publish):
        view = publish(
            "usage",
            subscription_id=["1", "2", "3"],
            customer_id=["a", "b", "c"],
            data_mb=[1.0, float("nan"), None],
        )
        data = profile(view, "usage")["data_mb"]
        assert data.present == 1
        assert data.maximum == "1"
        assert data.mean == 1.0

    def test_infinity_is_outside_a_range(self, profile, lake, clock, engine):
        contract = TableContract(
            "t",
            {"zh": "表", "en": "T"},
            (
                Column("id", ColumnType.STRING, {"zh": "号", "en": "Id"}, nullable=False),
                Column("x", ColumnType.NUMBER, {"zh": "数", "en": "X"}, minimum=0, maximum=10),
            ),
            ("id",),
        )
        with lake.publication(clock) as publication:
            publication.add("t", OCTOBER, pa.table({"id": ["a", "b"], "x": [float("inf"), 3.0]}))
        found = profile_quality(lake.view(), "t", OCTOBER, contract, engine)
        assert found["x"].outside_range == 1

    def test_top_values_are_counted_exactly_and_ordered(self, profile, publish):
        n = 400
        city = ["130100"] * 200 + ["130600"] * 120 + ["130200"] * 80
        view = publish("customer", customer_id=[f"c{i}" for i in range(n)], city_code=city)
        top = profile(view, "customer")["city_code"]
        assert top.top == (("130100", 200), ("130600", 120), ("130200", 80))
        assert top.distinct == 3
        assert not top.is_estimate

    def test_values_that_few_rows_share_are_not_shown(self, profile, customers):
        found = profile(customers, "customer")
        assert found["customer_id"].top == ()
        assert found["birth_year"].top == ()  # three people: their years would name them
        assert found["kind"].top[0] == ("individual", 2)  # codes are no secret

    def test_distinct_is_exact_for_keys_and_estimated_within_reason_elsewhere(
        self, profile, publish
    ):
        n = 5000
        view = publish(
            "subscription",
            subscription_id=[f"s{i}" for i in range(n)],
            customer_id=[f"c{i // 2}" for i in range(n)],
            number=[f"1380000{i:04d}" for i in range(n)],
            status=["active"] * n,
        )
        found = profile(view, "subscription")
        assert found["subscription_id"].distinct == n
        assert found["customer_id"].distinct == n // 2
        assert found["number"].is_estimate
        assert found["number"].distinct == pytest.approx(n, rel=0.25)

    def test_a_column_that_was_not_stored_counts_as_absent(self, profile, lake, clock):
        with lake.publication(clock) as publication:
            publication.add(
                "account", OCTOBER, pa.table({"account_id": ["a"], "customer_id": ["c"], "x": [1]})
            )
        found = profile(lake.view(), "account")
        assert found["balance"].is_absent
        assert found["balance"].completeness == 0.0
        assert not found["account_id"].is_absent
        assert found.extra_columns == ("x",)

    def test_a_column_stored_as_another_type_is_read_as_the_contracts(self, profile, lake, clock):
        rows = pa.table(
            {
                "subscription_id": ["1", "2", "3"],
                "customer_id": ["a", "b", "c"],
                "data_mb": ["1.5", "much", "-2"],
            }
        )
        with lake.publication(clock) as publication:
            publication.add("usage", OCTOBER, rows)
        data = profile(lake.view(), "usage")["data_mb"]
        assert data.present == 2
        assert data.outside_range == 1

    def test_an_empty_table_has_no_completeness(self, profile, lake, clock, rows):
        with lake.publication(clock) as publication:
            publication.add("customer", OCTOBER, rows("customer", customer_id=["a"]).slice(0, 0))
        found = profile(lake.view(), "customer")
        assert found.rows == 0
        assert found["gender"].completeness is None
        assert found.measure("missing", "gender") is None
        assert found.findings() == ()

    def test_the_numbers_agree_with_arrow_on_random_rows(self, profile, lake, clock, rows):
        random = np.random.default_rng(4)
        n = 3000
        data = random.gamma(2.0, 500.0, n).round(3)
        days = random.integers(-3, 36, n)
        mask = random.random(n) < 0.2
        table = rows(
            "usage",
            subscription_id=[f"s{i}" for i in range(n)],
            customer_id=[f"c{i}" for i in random.integers(0, 900, n)],
            data_mb=[
                None if gone else float(value) for value, gone in zip(data, mask, strict=True)
            ],
            active_days=[int(day) for day in days],
        )
        with lake.publication(clock) as publication:
            publication.add("usage", OCTOBER, table)
        found = profile(lake.view(), "usage")
        assert found["data_mb"].present == int((~mask).sum())
        assert found["data_mb"].mean == pytest.approx(float(data[~mask].mean()))
        assert found["active_days"].outside_range == int(((days < 0) | (days > 31)).sum())
        subjects = len(set(table.column("customer_id").to_pylist()))
        assert found.rows_per_subject["customer_id"] == pytest.approx(n / subjects)


class TestProfileTable:
    def test_repeated_keys_are_counted_beyond_the_first(self, profile, publish):
        view = publish(
            "opt_out",
            customer_id=["a", "a", "a", "b"],
            kind=["no_marketing"] * 4,
            channel=["sms", "sms", "app", "sms"],
            since=[OCTOBER] * 4,
        )
        found = profile(view, "opt_out")
        assert found.duplicate_keys == 1
        assert found.measure("duplicate_key") == 0.25

    def test_granularity_says_what_one_row_is(self, profile, publish):
        view = publish(
            "bill",
            account_id=["a", "a", "b", "c"],
            subscription_id=["1", "2", "3", "4"],
            customer_id=["x", "x", "y", "y"],
        )
        found = profile(view, "bill")
        assert found.grain == "period"
        assert found.key == ("account_id", "subscription_id")
        assert found.rows_per_subject["customer_id"] == 2.0
        assert found.rows_per_subject["subscription_id"] == 1.0
        assert found.rows_per_subject["account_id"] == pytest.approx(4 / 3)

    def test_rows_without_a_subject_do_not_raise_the_rows_per_subject(self, profile, publish):
        view = publish(
            "event",
            event_id=["1", "2", "3", "4"],
            customer_id=["a", "b", None, None],
            kind=["view"] * 4,
            occurred_at=[datetime(2026, 10, 5, tzinfo=UTC)] * 4,
        )
        assert profile(view, "event").rows_per_subject["customer_id"] == 1.0

    def test_range_shows_the_months_that_are_missing(self, profile, publish):
        for day in (date(2026, 5, 31), AUGUST, OCTOBER):
            view = publish("customer", day, customer_id=["a"])
        found = profile(view, "customer")
        assert found.dates == (date(2026, 5, 31), AUGUST, OCTOBER)
        assert found.missing_months == ("2026-06", "2026-07", "2026-09")
        assert profile(view, "customer", AUGUST).missing_months == ("2026-06", "2026-07")

    def test_freshness_is_told_only_against_a_day(self, profile, customers):
        assert profile(customers, "customer").age_days is None
        assert profile(customers, "customer", today=date(2026, 11, 3)).age_days == 3

    def test_rows_are_compared_with_the_snapshot_before(self, profile, publish):
        publish("customer", SEPTEMBER, customer_id=["a", "b", "c", "d"])
        view = publish("customer", customer_id=["a", "b", "c"])
        found = profile(view, "customer")
        assert found.previous == (SEPTEMBER, 4)
        assert found.row_change == -0.25
        assert profile(view, "customer", SEPTEMBER).row_change is None

    def test_events_outside_the_month_are_counted(self, profile, publish):
        times = [
            datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC),
            datetime(2026, 10, 1, tzinfo=UTC),
            datetime(2026, 10, 31, 23, 59, 59, 999999, tzinfo=UTC),
            datetime(2026, 11, 1, tzinfo=UTC),
        ]
        view = publish(
            "ticket",
            ticket_id=["1", "2", "3", "4"],
            customer_id=["a"] * 4,
            kind=["fault"] * 4,
            opened_at=times,
        )
        found = profile(view, "ticket")
        assert found.outside_month == 2
        assert found.first_time == times[0]
        assert found.last_time == times[-1]

    def test_one_scan_measures_everything_and_a_second_counts_short_lists(
        self, engine, contracts, customers
    ):
        class Counting:
            def __init__(self):
                self.queries = []

            def query(self, query, sources):
                self.queries.append(query)
                return engine.query(query, sources)

            def write(self, query, sources, folder):
                raise AssertionError("a profile writes nothing")

        counting = Counting()
        profile_quality(customers, "customer", OCTOBER, contracts["customer"], counting)
        assert len(counting.queries) == 2


class TestMissingMonths:
    @pytest.mark.parametrize(
        ("dates", "gaps"),
        [
            ([], ()),
            ([OCTOBER], ()),
            ([SEPTEMBER, OCTOBER], ()),
            ([date(2025, 12, 31), date(2026, 2, 28)], ("2026-01",)),
            ([OCTOBER, AUGUST], ("2026-09",)),
        ],
    )
    def test_it_names_the_months_between(self, dates, gaps):
        assert missing_months(dates) == gaps


class TestFindings:
    def test_a_clean_table_has_none(self, profile, publish):
        view = publish("customer", customer_id=["a", "b"], kind=["individual", "household"])
        assert profile(view, "customer").findings() == ()

    def test_each_fault_is_found_with_its_place_and_both_languages(self, profile, customers):
        found = {(f.kind, f.column): f for f in profile(customers, "customer").findings()}
        assert set(found) == {("outside_range", "birth_year"), ("unknown_code", "kind")}
        finding = found["unknown_code", "kind"]
        assert finding.value == 0.25
        assert finding.message["en"] == "customer.kind: 1 rows with an unknown code (25.00%)."
        assert "customer.kind" in finding.message["zh"]

    def test_required_columns_may_lack_nothing_and_optional_ones_half(
        self, profile, lake, clock, rows
    ):
        table = rows(
            "staff",
            staff_id=["a", "b", "c", None],
            org_unit_id=["u", "u", "u", "u"],
            post=[None, None, None, "head"],
            status=["active", "active", None, None],
        )
        with lake.publication(clock) as publication:
            publication.add("staff", OCTOBER, table)
        kinds = {(f.kind, f.column) for f in profile(lake.view(), "staff").findings()}
        assert kinds == {("missing", "staff_id"), ("missing", "post")}

    def test_a_column_never_supplied_is_no_finding(self, profile, customers):
        columns = {finding.column for finding in profile(customers, "customer").findings()}
        assert "industry" not in columns

    def test_limits_can_be_moved(self, profile, customers):
        found = profile(customers, "customer", today=date(2026, 12, 31))
        assert "stale" in {f.kind for f in found.findings()}
        assert "stale" not in {f.kind for f in found.findings({"stale": 90})}
        assert "missing" in {f.kind for f in found.findings({"missing": 0.1})}

    def test_a_jump_in_rows_is_a_finding_in_both_directions(self, profile, publish):
        publish("customer", AUGUST, customer_id=["a", "b"])
        publish("customer", SEPTEMBER, customer_id=[f"c{i}" for i in range(10)])
        view = publish("customer", customer_id=["a"])
        for day, change in ((SEPTEMBER, "+400.0%"), (OCTOBER, "-90.0%")):
            found = [f for f in profile(view, "customer", day).findings() if f.kind == "row_change"]
            assert change in found[0].message["en"]

    def test_every_limit_is_of_a_measure(self, profile, customers):
        found = profile(customers, "customer")
        for kind in LIMITS:
            found.measure(kind.removesuffix("_required"), "gender")

    def test_a_measure_that_does_not_exist_is_refused(self, profile, customers):
        found = profile(customers, "customer")
        with pytest.raises(QualityError, match="missing"):
            found.measure("prettiness")
        with pytest.raises(QualityError, match="gender"):
            found.measure("missing", "gendre")


class TestTableAndPicture:
    def test_the_table_has_one_row_per_column_of_the_contract(self, profile, customers, contracts):
        table = profile(customers, "customer").table()
        assert table.column("column").to_pylist() == list(contracts["customer"].names)
        gender = table.to_pylist()[3]
        assert gender["completeness"] == 0.75
        assert gender["title_zh"] == "性别"
        assert gender["top_values"] == "F (2); M (1)"

    def test_the_picture_is_svg_with_chinese_and_english(self, profile, customers):
        svg = profile(customers, "customer", today=date(2026, 11, 3)).picture()
        root = ET.fromstring(svg)
        assert root.tag.endswith("svg")
        texts = "".join(root.itertext())
        for text in ("数据质量", "customer", "完整率", "Complete", "性别", "75.0 %", "3 days old"):
            assert text in texts

    def test_the_picture_of_one_profile_is_always_the_same(self, profile, customers):
        found = profile(customers, "customer")
        assert found.picture() == found.picture()

    def test_small_faults_are_not_rounded_away(self):
        from bihuan.data.quality.picture import _percent

        assert _percent(0.0002) == "< 0.1 %"
        assert _percent(0.9999) == "> 99.9 %"
        assert _percent(1.0) == "100.0 %"
        assert _percent(0.0) == "0.0 %"

    def test_the_room_is_imported_without_the_drawing_library(self):
        import subprocess
        import sys

        code = (
            "import bihuan.data.quality, sys; "
            "print('altair' in sys.modules, 'vl_convert' in sys.modules)"
        )
        said = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert said.stdout.split() == ["False", "False"]


class TestCheckReferences:
    def test_values_that_point_nowhere_are_counted(self, publish, engine, contracts):
        publish("customer", customer_id=["a", "b"])
        view = publish("account", account_id=["1", "2", "3", "4"], customer_id=["a", "x", "x", "y"])
        (report,) = check_references(view, OCTOBER, contracts["account"], engine)
        assert report.target == "customer.customer_id"
        assert (report.rows, report.orphans, report.orphan_values) == (4, 3, 2)
        assert report.sample == ("x", "y")
        assert report.target_as_of == OCTOBER

    def test_a_missing_value_is_no_orphan(self, publish, engine, contracts):
        publish("org_unit", org_unit_id=["u"], tier=["city"])
        view = publish("channel", channel_id=["1", "2"], org_unit_id=["u", None])
        (report,) = check_references(view, OCTOBER, contracts["channel"], engine)
        assert (report.rows, report.orphans) == (1, 0)

    def test_the_newest_earlier_target_is_looked_into(self, publish, engine, contracts):
        publish("customer", AUGUST, customer_id=["a"])
        publish("customer", SEPTEMBER, customer_id=["b"])
        publish("customer", date(2026, 11, 30), customer_id=["c"])
        view = publish("account", account_id=["1", "2"], customer_id=["b", "c"])
        (report,) = check_references(view, OCTOBER, contracts["account"], engine)
        assert report.target_as_of == SEPTEMBER
        assert report.sample == ("c",)

    def test_without_a_target_everything_points_nowhere(self, publish, engine, contracts):
        view = publish("account", account_id=["1"], customer_id=["a"])
        (report,) = check_references(view, OCTOBER, contracts["account"], engine)
        assert report.target_as_of is None
        assert report.orphans == 1

    def test_a_target_with_repeated_keys_does_not_multiply_rows(self, publish, engine, contracts):
        publish("customer", customer_id=["a", "a", "a"])
        view = publish("account", account_id=["1"], customer_id=["a"])
        (report,) = check_references(view, OCTOBER, contracts["account"], engine)
        assert (report.rows, report.orphans) == (1, 0)

    def test_a_table_may_point_to_itself(self, publish, engine, contracts):
        view = publish(
            "org_unit",
            org_unit_id=["p", "c1", "c2"],
            parent_id=[None, "p", "q"],
            tier=["province", "city", "city"],
        )
        (report,) = check_references(view, OCTOBER, contracts["org_unit"], engine)
        assert report.sample == ("q",)


class TestCompareSnapshots:
    @pytest.fixture
    def compare(self, engine):
        def run(left, right, columns, key=("id",), tolerance=0.0):
            return compare_snapshots(left, right, key, columns, tolerance, engine)

        return run

    def test_equal_sources_agree(self, compare):
        rows = pa.table({"id": ["a", "b", None], "x": [1.5, None, 2.0]}).slice(0, 2)
        report = compare(rows, rows, ["x"])
        assert report.agrees
        assert report.share == 0.0
        assert report.matched == 2
        assert report.sample.num_rows == 0

    def test_rows_on_one_side_only_are_counted_and_shown(self, compare):
        left, right = pa.table({"id": ["a", "b"]}), pa.table({"id": ["b", "c", "d"]})
        report = compare(left, right, [])
        assert (report.matched, report.only_left, report.only_right) == (1, 1, 2)
        assert report.share == 0.75
        shown = [(row["kind"], row["id"]) for row in report.sample.to_pylist()]
        assert sorted(shown) == [("only_left", "a"), ("only_right", "c"), ("only_right", "d")]

    def test_differing_values_are_counted_by_column_and_rows_once(self, compare):
        left = pa.table({"id": ["a", "b"], "x": [1, 2], "s": ["p", "q"]})
        right = pa.table({"id": ["a", "b"], "x": [1, 3], "s": ["p", "Q"]})
        report = compare(left, right, ["x", "s"])
        assert report.differing == {"x": 1, "s": 1}
        assert report.rows_differing == 1
        assert {(r["column"], r["left"], r["right"]) for r in report.sample.to_pylist()} == {
            ("x", "2", "3"),
            ("s", "q", "Q"),
        }

    @pytest.mark.parametrize(
        ("right", "tolerance", "differs"),
        [(10.04, 0.05, 0), (10.06, 0.05, 1), (9.96, 0.05, 0), (10.04, 0.0, 1), (10.0, 0.0, 0)],
    )
    def test_numbers_may_differ_by_the_tolerance(self, compare, right, tolerance, differs):
        report = compare(
            pa.table({"id": [1], "x": [10.0]}),
            pa.table({"id": [1], "x": [right]}),
            ["x"],
            tolerance=tolerance,
        )
        assert report.differing == {"x": differs}

    def test_the_tolerance_can_be_given_by_column(self, compare):
        left = pa.table({"id": [1], "x": [1.0], "y": [1.0]})
        right = pa.table({"id": [1], "x": [1.4], "y": [1.4]})
        assert compare(left, right, ["x", "y"], tolerance={"x": 0.5}).differing == {"x": 0, "y": 1}

    def test_money_is_compared_exactly(self, compare):
        kind = pa.decimal128(18, 2)
        left = pa.table({"id": [1, 2], "m": pa.array([Decimal("0.10"), Decimal("0.30")], kind)})
        right = pa.table({"id": [1, 2], "m": pa.array([Decimal("0.11"), Decimal("0.32")], kind)})
        assert compare(left, right, ["m"], tolerance=0.01).differing == {"m": 1}

    def test_missing_on_both_sides_is_equal_and_on_one_different(self, compare):
        left = pa.table({"id": [1, 2, 3], "x": [None, 1.0, float("nan")]})
        right = pa.table({"id": [1, 2, 3], "x": pa.array([None, None, None], pa.float64())})
        assert compare(left, right, ["x"]).differing == {"x": 1}

    def test_other_types_are_read_as_the_left_sides(self, compare):
        left = pa.table({"id": ["1", "2", "3"], "x": [10, 20, 30]})
        right = pa.table({"id": [1, 2, 3], "x": ["10", "21", "many"]})
        report = compare(left, right, ["x"])
        assert report.matched == 3
        assert report.differing == {"x": 2}

    def test_repeated_and_missing_keys_are_left_out_and_counted(self, compare):
        left = pa.table({"id": ["a", "d", "d", None], "x": [1, 2, 3, 4]})
        right = pa.table({"id": ["a", "d"], "x": [1, 2]})
        report = compare(left, right, ["x"])
        assert report.left_duplicates == 3
        assert (report.matched, report.only_left, report.only_right) == (1, 0, 0)
        assert not report.agrees

    def test_keys_of_several_columns(self, compare):
        left = pa.table({"a": [1, 1], "b": ["x", "y"], "v": [1, 2]})
        right = pa.table({"a": [1, 1], "b": ["x", "z"], "v": [1, 2]})
        report = compare(left, right, ["v"], key=("a", "b"))
        assert (report.matched, report.only_left, report.only_right) == (1, 1, 1)

    def test_snapshots_are_compared_under_their_names(self, compare, publish):
        publish("account", account_id=["1"], customer_id=["a"], billing_day=[5])
        view = publish("account", SEPTEMBER, account_id=["1"], customer_id=["a"], billing_day=[6])
        report = compare_snapshots_of(compare, view)
        assert report.left == "account 2026-10-31"
        assert report.right == "account 2026-09-30"
        assert report.differing == {"billing_day": 1}

    def test_samples_are_few_and_always_the_same(self, compare):
        left = pa.table({"id": [f"{i:05d}" for i in range(1000)]})
        report = compare(left, left.slice(0, 0), [])
        assert report.only_left == 1000
        assert report.sample.column("id").to_pylist() == [f"{i:05d}" for i in range(20)]

    def test_a_column_that_a_side_lacks_is_refused(self, compare):
        with pytest.raises(ComparisonError, match=r"right.*no column y"):
            compare(pa.table({"id": [1], "y": [1]}), pa.table({"id": [1]}), ["y"])

    def test_without_a_key_nothing_can_be_compared(self, compare):
        with pytest.raises(ComparisonError, match="key"):
            compare(pa.table({"id": [1]}), pa.table({"id": [1]}), [], key=())

    def test_it_agrees_with_a_plain_comparison_on_random_rows(self, compare):
        random = np.random.default_rng(11)
        left = {
            int(k): int(v)
            for k, v in zip(random.permutation(400)[:300], random.integers(0, 4, 300), strict=True)
        }
        right = {
            int(k): int(v)
            for k, v in zip(random.permutation(400)[:300], random.integers(0, 4, 300), strict=True)
        }
        report = compare(
            pa.table({"id": list(left), "x": list(left.values())}),
            pa.table({"id": list(right), "x": list(right.values())}),
            ["x"],
        )
        both = left.keys() & right.keys()
        assert report.matched == len(both)
        assert report.only_left == len(left.keys() - both)
        assert report.only_right == len(right.keys() - both)
        assert report.differing["x"] == sum(left[k] != right[k] for k in both)


def compare_snapshots_of(compare, view):
    return compare(
        view.get("account", OCTOBER),
        view.get("account", SEPTEMBER),
        ["billing_day"],
        key=("account_id",),
    )
