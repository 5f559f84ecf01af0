"""Deriving tags: values, windows, defaults, what cannot be derived, and what is not done twice."""

from __future__ import annotations

import importlib
import math
import shutil
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from bihuan.data import DuckDBEngine, Lake, SnapshotNotFoundError
from bihuan.kernel import Cancelled, CancelToken, SilentProgress, UserError
from bihuan.tag import TagDerivationError, TagDictionary, read_tags

AS_OF = date(2026, 10, 31)
derive_module = importlib.import_module("bihuan.tag.derive")  # the face shows the function


def rows_of(lake: Lake, table: str, months: int, as_of: date = AS_OF) -> list[dict]:
    """Read the rows of a window in plain Python, with ``months_ago``."""
    found = []
    for day in lake.view().dates(table):
        age = (as_of.year - day.year) * 12 + as_of.month - day.month
        if 0 <= age < months and day <= as_of:
            found += [
                r | {"months_ago": age} for r in lake.view().get(table, day).read().to_pylist()
            ]
    return found


def by_customer(rows: list[dict], key: str = "customer_id") -> dict[str, list[dict]]:
    groups: dict[str, list[dict]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups


def values(lake: Lake, dictionary: TagDictionary, tag: str, engine, subject="customer") -> dict:
    table = read_tags(lake.view(), dictionary, subject, AS_OF).read(engine, [tag])
    return dict(zip(table[0].to_pylist(), table[1].to_pylist(), strict=True))


class TestValues:
    def test_a_sum_over_three_months_is_the_sum_of_those_months(
        self, operator, lake, engine, define, derive_tags
    ):
        tag = define("spent", expression="sum(amount)", window_months=3, type="money")
        dictionary = TagDictionary([tag])
        derive_tags(dictionary)
        groups = by_customer(rows_of(lake, "bill", 3))
        for customer, value in values(lake, dictionary, "spent", engine).items():
            amounts = [r["amount"] for r in groups.get(customer, []) if r["amount"] is not None]
            assert value == (sum(amounts) if amounts else None)

    def test_windows_of_different_length_share_a_pass_and_stay_apart(
        self, operator, lake, engine, define, derive_tags
    ):
        tags = [
            define(f"n{w}", expression="count(*)", window_months=w, type="integer", default=0)
            for w in (1, 2, 4)
        ]
        dictionary = TagDictionary(tags)
        report = derive_tags(dictionary)
        assert [group.group for group in report.groups] == ["bill"]
        for w in (1, 2, 4):
            groups = by_customer(rows_of(lake, "bill", w))
            found = values(lake, dictionary, f"n{w}", engine)
            assert found == {c: len(groups.get(c, [])) for c in operator.ids}

    def test_snapshots_later_than_the_date_are_never_read(
        self, operator, lake, clock, engine, define, derive_tags
    ):
        dictionary = TagDictionary([define("spent", type="money", window_months=2)])
        derive_tags(dictionary)
        before = values(lake, dictionary, "spent", engine)
        with lake.publication(clock) as publication:
            publication.add("bill", date(2026, 11, 30), operator.bill(date(2026, 11, 30)))
        assert derive_tags(dictionary).groups[0].state == "unchanged"
        assert values(lake, dictionary, "spent", engine) == before

    def test_of_two_snapshots_in_one_month_the_later_holds_the_facts(
        self, operator, lake, clock, engine, define, derive_tags
    ):
        dictionary = TagDictionary([define("n", expression="count(*)", type="integer", default=0)])
        derive_tags(dictionary)
        before = values(lake, dictionary, "n", engine)
        with lake.publication(clock) as publication:  # the first ten days of the same month
            publication.add("bill", date(2026, 10, 10), operator.bill(date(2026, 10, 10)))
        derive_tags(dictionary)
        assert values(lake, dictionary, "n", engine) == before

    def test_the_order_is_that_of_the_ids_and_every_subject_stands_once(
        self, operator, lake, define, derive_tags
    ):
        derive_tags(TagDictionary([define("spent", type="money")]))
        table = lake.view().get("tag__customer__bill", AS_OF).read()
        assert table["customer_id"].to_pylist() == sorted(operator.ids)

    def test_types_are_exactly_those_declared(self, operator, lake, define, derive_tags):
        kinds = {
            "string": pa.string(),
            "integer": pa.int64(),
            "number": pa.float64(),
            "money": pa.decimal128(18, 2),
            "boolean": pa.bool_(),
            "date": pa.date32(),
            "timestamp": pa.timestamp("us", tz="UTC"),
        }
        expressions = {
            "string": ("bill", "max(account_id)"),
            "integer": ("bill", "count_if(amount > 5)"),
            "number": ("bill", "sum(amount)"),
            "money": ("bill", "avg(amount)"),
            "boolean": ("bill", "bool_or(amount > 5)"),
            "date": ("subscription", "max(contract_ends_on)"),
            "timestamp": ("ticket", "max(opened_at)"),
        }
        tags = [define(k, type=k, source=s, expression=e) for k, (s, e) in expressions.items()]
        derive_tags(TagDictionary(tags))
        schema = {}
        for source in ("bill", "subscription", "ticket"):
            table = lake.view().get(f"tag__customer__{source}", AS_OF).read()
            schema |= {field.name: field.type for field in table.schema}
        assert {k: schema[k] for k in kinds} == kinds

    def test_a_division_by_zero_and_an_infinite_number_are_missing(
        self, lake, make_operator, clock, engine, define, derive_tags
    ):
        operator = make_operator(3)
        operator.publish(lake, clock, "customer")
        usage = operator.usage(AS_OF)
        full = pa.array([float("inf")] * len(usage))
        usage = usage.set_column(usage.schema.get_field_index("data_mb"), "data_mb", full)
        with lake.publication(clock) as publication:
            publication.add("usage", AS_OF, usage)
        tags = [
            define(
                "ratio", source="usage", expression="sum(voice_minutes) / (count(*) - count(*))"
            ),
            define("endless", source="usage", expression="sum(data_mb)"),
            define("paid", source="usage", expression="max(data_mb)", type="money"),
        ]
        dictionary = TagDictionary(tags)
        derive_tags(dictionary)
        for name in ("ratio", "endless", "paid"):
            assert set(values(lake, dictionary, name, engine).values()) == {None}

    def test_a_tie_in_arg_max_goes_to_the_greater_value(
        self, lake, make_operator, clock, engine, define, derive_tags, contracts
    ):
        operator = make_operator(3)
        operator.publish(lake, clock, "customer")
        rows = [
            {"subscription_id": f"S{i}", "customer_id": "C00", "status": "active",
             "product_id": p, "monthly_fee": fee}
            for i, (p, fee) in enumerate(
                [("a", 9), ("c", 9), ("b", 9), ("z", None), (None, 99)]
            )
        ]  # fmt: skip
        with lake.publication(clock) as publication:
            publication.add("subscription", AS_OF, operator.table("subscription", rows))
        plan = {"source": "subscription", "type": "string"}
        dictionary = TagDictionary(
            [
                define("best", expression="arg_max(product_id, monthly_fee)", **plan),
                define("least", expression="arg_min(product_id, monthly_fee)", **plan),
            ]
        )
        derive_tags(dictionary)
        assert values(lake, dictionary, "best", engine)["C00"] == "c"
        assert values(lake, dictionary, "least", engine)["C00"] == "a"


class TestDefault:
    def test_it_is_for_a_subject_without_a_row_in_the_tags_own_window(
        self, lake, make_operator, clock, engine, define, derive_tags
    ):
        operator = make_operator(1, customers=4)
        operator.publish(lake, clock, "customer")
        bill = {"account_id": "A", "subscription_id": "S"}
        with lake.publication(clock) as publication:
            publication.add(
                "bill", date(2026, 8, 31), operator.table("bill", [bill | {"customer_id": "C01"}])
            )
            publication.add("bill", AS_OF, operator.table("bill", [bill | {"customer_id": "C00"}]))
        money = {"type": "money", "expression": "sum(amount)"}
        dictionary = TagDictionary(
            [
                define("near", default=7, **money),
                define("far", default=7, window_months=3, **money),
                define("count_near", expression="count(*)", type="integer"),
                define("count_far", expression="count(*)", type="integer", window_months=3),
            ]
        )
        derive_tags(dictionary)
        # C00 has a row whose amount is missing: there is a row, so the value is missing
        assert values(lake, dictionary, "near", engine) == {
            "C00": None, "C01": Decimal(7), "C02": Decimal(7), "C03": Decimal(7),
        }  # fmt: skip
        assert values(lake, dictionary, "far", engine) == {
            "C00": None, "C01": None, "C02": Decimal(7), "C03": Decimal(7),
        }  # fmt: skip
        # without a default, no row is missing, not a count of nought
        assert values(lake, dictionary, "count_near", engine) == {
            "C00": 1, "C01": None, "C02": None, "C03": None,
        }  # fmt: skip
        assert values(lake, dictionary, "count_far", engine)["C01"] == 1


class TestTagsOfTags:
    def test_levels_follow_each_other_and_see_the_same_run(
        self, operator, lake, engine, define, derive_tags
    ):
        tags = [
            define("spent", type="money", window_months=3),
            define("city", means="direct", source="customer", expression="city_code",
                   type="string"),
            define("rich", layer="portrait", type="boolean", expression="spent >= $x",
                   means="experience", thresholds={"x": 200}),
            define("rich_here", layer="portrait", type="boolean",
                   expression="rich and city = '1301'"),
            define("target", layer="marketing", type="boolean",
                   expression="coalesce(rich_here, false) or spent is null"),
        ]  # fmt: skip
        dictionary = TagDictionary(tags)
        report = derive_tags(dictionary)
        assert [g.group for g in report.groups] == [
            "bill", "customer", "portrait_1", "portrait_2", "marketing_1",
        ]  # fmt: skip
        table = read_tags(lake.view(), dictionary, "customer", AS_OF)
        for row in table.read(engine, [t.name for t in tags]).to_pylist():
            rich = None if row["spent"] is None else row["spent"] >= 200
            assert row["rich"] is rich
            here = _and(rich, None if row["city"] is None else row["city"] == "1301")
            assert row["rich_here"] is here
            assert row["target"] is (bool(here) or row["spent"] is None)

    def test_a_model_tag_reads_the_scores_of_the_date(
        self, operator, lake, clock, engine, define, derive_tags
    ):
        tags = [
            define("risk", layer="marketing", means="mining", model="churn"),
            define("risky", layer="marketing", means="mining", model="churn", type="boolean",
                   expression="score >= $s", thresholds={"s": 0.5}, default=False),
        ]  # fmt: skip
        dictionary = TagDictionary(tags)
        scores = pa.table({"customer_id": ["C00", "C01"], "score": [0.25, 0.5]})
        with lake.publication(clock) as publication:
            publication.add("score__churn", AS_OF, scores)
        derive_tags(dictionary)
        assert values(lake, dictionary, "risk", engine)["C01"] == 0.5
        assert values(lake, dictionary, "risk", engine)["C02"] is None
        found = values(lake, dictionary, "risky", engine)
        assert (found["C00"], found["C01"], found["C02"]) == (False, True, False)


def _and(left: bool | None, right: bool | None) -> bool | None:
    if left is False or right is False:
        return False
    return None if left is None or right is None else True


class TestManagementTags:
    def test_units_and_staff_are_counted_from_rows_that_carry_their_id(
        self, operator, lake, engine, library, derive_tags
    ):
        derive_tags(library, subject="org_unit")
        customers = rows_of(lake, "customer", 1)
        found = values(lake, library, "unit_customer_count", engine, "org_unit")
        assert found == {
            u: sum(c["org_unit_id"] == u for c in customers) for u in ("U1", "U2", "U3")
        }
        derive_tags(library, subject="staff")
        found = values(lake, library, "staff_customer_count", engine, "staff")
        assert found == {
            p: sum(c["manager_staff_id"] == p for c in customers) for p in ("P1", "P2", "P3")
        }
        assert lake.view().find("tag__staff__customer__manager_staff_id", AS_OF) is not None


class TestWhatCannotBeDerived:
    def test_a_source_without_snapshot_in_the_window_is_told_with_its_dependents(
        self, lake, make_operator, clock, define, derive_tags
    ):
        operator = make_operator(1)
        operator.publish(lake, clock, "customer")
        with lake.publication(clock) as publication:
            publication.add("bill", date(2026, 7, 31), operator.bill(date(2026, 7, 31)))
        dictionary = TagDictionary(
            [
                define("spent", type="money", window_months=3),
                define("spent_long", type="money", window_months=4),
                define("rich", layer="portrait", type="boolean", expression="spent > 1"),
                define("richer", layer="marketing", type="boolean", expression="rich"),
                define("rich_long", layer="portrait", type="boolean", expression="spent_long > 1"),
            ]
        )
        report = derive_tags(dictionary)
        assert {name: tag.state for name, tag in report.pending.items()} == {
            "spent": "missing_source",
            "rich": "pending",
            "richer": "pending",
        }
        assert "newest: 2026-07-31" in report.pending["spent"].reason["en"]
        assert "2026-07-31" in report.pending["richer"].reason["zh"]
        states = {group.group: (group.state, group.tags) for group in report.groups}
        assert states == {
            "bill": ("derived", ("spent_long",)),
            "portrait_1": ("derived", ("rich_long",)),
            "marketing_1": ("pending", ("richer",)),
        }
        stored = lake.view().get("tag__customer__bill", AS_OF).read()
        assert stored.column_names == ["customer_id", "spent_long"]

    def test_months_that_the_lake_does_not_hold_are_told(
        self, lake, make_operator, clock, define, derive_tags
    ):
        operator = make_operator(1)
        operator.publish(lake, clock, "customer", "bill")
        report = derive_tags(TagDictionary([define("a", window_months=12), define("b")]))
        assert report.groups[0].short_windows == {"a": (4, 12)}

    def test_scores_that_are_not_there_leave_the_tag_and_its_users_pending(
        self, operator, define, derive_tags
    ):
        dictionary = TagDictionary(
            [
                define("risk", layer="marketing", means="mining", model="churn"),
                define("keep", layer="marketing", type="boolean", expression="risk > 0.5"),
                define("spent", type="money"),
            ]
        )
        report = derive_tags(dictionary)
        assert {name: tag.state for name, tag in report.pending.items()} == {
            "risk": "pending",
            "keep": "pending",
        }
        assert "no scores" in report.pending["keep"].reason["en"]
        assert [g.group for g in report.groups if g.state == "derived"] == ["bill"]

    def test_a_column_that_no_snapshot_has_is_told(
        self, lake, make_operator, clock, define, derive_tags
    ):
        operator = make_operator(1)
        operator.publish(lake, clock, "customer")
        with lake.publication(clock) as publication:
            publication.add("bill", AS_OF, operator.bill(AS_OF).drop_columns(["discount_amount"]))
        report = derive_tags(
            TagDictionary([define("off", expression="sum(discount_amount)"), define("spent")])
        )
        assert report.pending["off"].state == "missing_source"
        assert "'discount_amount'" in report.pending["off"].reason["en"]
        assert report.groups[0].tags == ("spent",)

    def test_a_column_that_came_later_is_missing_before(
        self, lake, make_operator, clock, engine, define, derive_tags
    ):
        operator = make_operator(1)
        operator.publish(lake, clock, "customer", "bill")
        early = operator.bill(date(2026, 9, 30)).drop_columns(["discount_amount"])
        with lake.publication(clock) as publication:
            publication.add("bill", date(2026, 9, 30), early)
        dictionary = TagDictionary(
            [define("n", expression="count(discount_amount)", type="integer", window_months=2)]
        )
        derive_tags(dictionary)
        expected = by_customer(
            [r for r in rows_of(lake, "bill", 1) if r["discount_amount"] is not None]
        )
        found = values(lake, dictionary, "n", engine)
        assert {c: n for c, n in found.items() if n} == {
            c: len(rows) for c, rows in expected.items() if c in operator.ids
        }

    def test_a_subject_without_its_own_table_at_the_date_is_an_error(
        self, lake, define, derive_tags
    ):
        with pytest.raises(SnapshotNotFoundError, match="'customer' at 2026-10-31"):
            derive_tags(TagDictionary([define("spent")]))

    def test_a_kind_of_subject_that_carries_no_tags_is_told(self, operator, define, derive_tags):
        with pytest.raises(UserError, match=r"no tags on 'cell'.*customer, subscription"):
            derive_tags(TagDictionary([define("spent")]), subject="cell")

    def test_values_that_cannot_be_computed_name_the_tag_and_publish_nothing(
        self, operator, lake, define, derive_tags
    ):
        dictionary = TagDictionary(
            [
                define("fine", type="money"),
                define("odd", expression="max(cast(account_id as bigint))", type="integer"),
            ]
        )
        version = lake.view().version
        with pytest.raises(TagDerivationError, match="'odd' cannot be derived at 2026-10-31"):
            derive_tags(dictionary)
        assert lake.view().version == version
        assert not list((lake.root / ".staging").glob("*"))

    def test_two_rows_for_one_subject_are_refused(
        self, lake, make_operator, clock, define, derive_tags
    ):
        operator = make_operator(1)
        operator.publish(lake, clock, "customer")
        twice = pa.table({"customer_id": ["C00", "C00"], "score": [0.1, 0.2]})
        with lake.publication(clock) as publication:
            publication.add("score__churn", AS_OF, twice)
        tag = define("risk", layer="marketing", means="mining", model="churn")
        with pytest.raises(TagDerivationError, match="more than once"):
            derive_tags(TagDictionary([tag]))


class TestReport:
    def test_values_outside_the_codes_and_without_value_are_counted(
        self, lake, make_operator, clock, define, derive_tags, contracts
    ):
        operator = make_operator(1)
        rows = [
            {"customer_id": f"C{i}", "city_code": c}
            for i, c in enumerate(["a", "b", "x", "x", None])
        ]
        with lake.publication(clock) as publication:
            publication.add("customer", AS_OF, operator.table("customer", rows))
        codes = {c: {"zh": c, "en": c} for c in "ab"}
        tag = define("city", means="direct", source="customer", expression="city_code",
                     type="string", codes=codes)  # fmt: skip
        for state in ("derived", "unchanged"):  # told again, for it is still so
            group = derive_tags(TagDictionary([tag])).groups[0]
            assert group.state == state
            assert group.outside_codes == {"city": 2}
            assert group.without_value == {"city": 1}
            assert group.rows == 5

    def test_a_direct_tag_takes_over_the_codes_of_its_column(self, define):
        tag = define(
            "network", means="direct", source="customer", expression="network", type="string"
        )
        assert set(TagDictionary([tag]).get("network").codes) == {"on_net", "off_net"}


class TestIncremental:
    def test_nothing_changed_nothing_published(self, operator, lake, define, derive_tags):
        dictionary = TagDictionary([define("spent"), define("rich", layer="portrait",
                                    type="boolean", expression="spent > 1")])  # fmt: skip
        derive_tags(dictionary)
        version = lake.view().version
        report = derive_tags(dictionary)
        assert [g.state for g in report.groups] == ["unchanged", "unchanged"]
        assert lake.view().version == version

    def test_only_what_stands_on_a_changed_source_is_derived_again(
        self, operator, lake, clock, define, derive_tags
    ):
        dictionary = TagDictionary(
            [
                define("spent"),
                define("used", source="usage", expression="sum(data_mb)"),
                define("rich", layer="portrait", type="boolean", expression="spent > 1"),
                define("heavy", layer="marketing", type="boolean", expression="used > 1"),
            ]
        )
        derive_tags(dictionary)
        operator.publish(lake, clock, "usage")
        report = derive_tags(dictionary)
        assert {g.group: g.state for g in report.groups} == {
            "bill": "unchanged",
            "usage": "derived",
            "portrait_1": "unchanged",
            "marketing_1": "derived",
        }

    def test_a_tag_added_to_a_source_leaves_tags_of_its_neighbours_alone(
        self, operator, define, derive_tags
    ):
        rich = define("rich", layer="portrait", type="boolean", expression="spent > 1")
        derive_tags(TagDictionary([define("spent"), rich]))
        report = derive_tags(TagDictionary([define("spent"), define("bills"), rich]))
        assert {g.group: g.state for g in report.groups} == {
            "bill": "derived",
            "portrait_1": "unchanged",
        }

    def test_a_changed_definition_is_derived_again_a_changed_title_is_not(
        self, operator, define, derive_tags
    ):
        derive_tags(TagDictionary([define("spent")]))
        other = {"zh": "别的名字", "en": "Another title"}
        assert (
            derive_tags(TagDictionary([define("spent", title=other)])).groups[0].state
            == "unchanged"
        )
        again = derive_tags(TagDictionary([define("spent", expression="max(amount)")]))
        assert again.groups[0].state == "derived"

    def test_new_subjects_change_every_group(self, operator, lake, clock, define, derive_tags):
        dictionary = TagDictionary([define("spent"), define("rich", layer="portrait",
                                    type="boolean", expression="spent > 1")])  # fmt: skip
        derive_tags(dictionary)
        operator.publish(lake, clock, "customer")
        assert {g.state for g in derive_tags(dictionary).groups} == {"derived"}

    def test_draft_and_retired_tags_are_not_derived(self, operator, define, derive_tags):
        report = derive_tags(TagDictionary([define("a", state="draft"), define("b"),
                                            define("c", state="retired")]))  # fmt: skip
        assert report.groups[0].tags == ("b",)


class TestParts:
    def test_the_parts_of_a_large_operator_are_the_whole(
        self, operator, lake, tmp_path, define, derive_tags, monkeypatch
    ):
        other = Lake(tmp_path / "other")
        shutil.copytree(lake.root, other.root, dirs_exist_ok=True)
        dictionary = TagDictionary(
            [
                define("spent", type="money", window_months=3, default=0),
                define("used", source="usage", expression="avg(data_mb)", window_months=2),
                define("city", means="direct", source="customer", expression="city_code",
                       type="string"),
                define("rich", layer="portrait", expression="spent > 90", type="boolean"),
            ]
        )  # fmt: skip
        derive_tags(dictionary)
        monkeypatch.setattr(derive_module, "SUBJECTS_PER_PART", 5)
        report = derive_tags(dictionary, lake=other)
        for group in report.groups:
            whole, parts = (at.view().get(group.table, AS_OF) for at in (lake, other))
            assert (len(whole.files), len(parts.files)) == (1, 3)
            assert _rounded(whole.read()) == _rounded(parts.read())

    def test_a_part_for_each_subject(self, operator, lake, define, derive_tags, monkeypatch):
        monkeypatch.setattr(derive_module, "SUBJECTS_PER_PART", 1)
        derive_tags(TagDictionary([define("spent")]))
        stored = lake.view().get("tag__customer__bill", AS_OF)
        assert len(stored.files) == len(operator.ids)
        assert stored.read()["customer_id"].to_pylist() == sorted(operator.ids)


def _rounded(table: pa.Table) -> list[dict]:
    """Round floats: the order in which DuckDB adds them is not fixed."""
    return [
        {k: float(f"{v:.12g}") if isinstance(v, float) and not math.isnan(v) else v
         for k, v in row.items()}
        for row in table.to_pylist()
    ]  # fmt: skip


class TestCancel:
    def test_a_cancelled_run_publishes_nothing_and_can_be_repeated(
        self, operator, lake, define, derive_tags
    ):
        dictionary = TagDictionary(
            [define("spent"), define("used", source="usage", expression="sum(data_mb)")]
        )
        version = lake.view().version
        token = CancelToken()
        progress = SilentProgress(token)
        engine = CancellingEngine(token)
        with pytest.raises(Cancelled, match="nothing was published"):
            derive_tags(dictionary, engine=engine, progress=progress)
        assert engine.written == 1
        assert lake.view().version == version
        assert not list((lake.root / ".staging").glob("*"))
        assert {g.state for g in derive_tags(dictionary).groups} == {"derived"}


class CancellingEngine:
    """A real engine during whose first query the user presses stop."""

    def __init__(self, token: CancelToken) -> None:
        self._engine, self._token, self.written = DuckDBEngine(threads=1), token, 0

    def query(self, query, sources):
        return self._engine.query(query, sources)

    def write(self, query, sources, folder):
        self.written += 1
        self._token.cancel()
        return self._engine.write(query, sources, folder)


class TestTimeOfPublication:
    def test_the_clock_stamps_it(self, operator, lake, clock, define, derive_tags):
        clock.moment = datetime(2026, 11, 5, tzinfo=UTC)
        derive_tags(TagDictionary([define("spent")]))
        stamp = lake.view().get("tag__customer__bill", AS_OF).published_at
        assert stamp == (datetime(2026, 11, 5, tzinfo=UTC) + timedelta(minutes=1)).isoformat()
