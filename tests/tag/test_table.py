"""Readers of tag values: which there are, several side by side, one subject's."""

from __future__ import annotations

import importlib
from datetime import date, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from sqlglot import exp

from bihuan.tag import (
    TagDictionary,
    TagNotDerivedError,
    UnknownSubjectError,
    UnknownTagError,
    read_tags,
)

AS_OF = date(2026, 10, 31)


@pytest.fixture
def tags(define) -> list:
    return [
        define("spent", type="money", window_months=3),
        define("used", source="usage", expression="sum(data_mb)"),
        define("city", means="direct", source="customer", expression="city_code", type="string"),
        define("rich", layer="portrait", type="boolean", expression="spent > 100"),
        define("risk", layer="marketing", means="mining", model="churn"),
        define("keep", layer="marketing", type="boolean", expression="risk > 0.5"),
    ]


@pytest.fixture
def dictionary(tags) -> TagDictionary:
    return TagDictionary(tags)


@pytest.fixture
def table(operator, lake, dictionary, derive_tags):
    derive_tags(dictionary)
    return read_tags(lake.view(), dictionary, "customer", AS_OF)


class TestReadTags:
    def test_it_shows_every_tag_that_has_values_and_says_why_others_have_none(self, table, lake):
        assert list(table.fields) == ["spent", "used", "city", "rich"]
        assert table.id_column == "customer_id"
        assert table.rows == 12
        assert table.versions["spent"] == lake.view().get("tag__customer__bill", AS_OF).id
        assert table.pending["risk"]["en"] == "model 'churn' has no scores at 2026-10-31."
        assert "it needs risk: model 'churn'" in table.pending["keep"]["en"]

    def test_nothing_derived_is_an_error(self, operator, lake, dictionary):
        with pytest.raises(TagNotDerivedError, match="No customer tag has values at 2026-10-31"):
            read_tags(lake.view(), dictionary, "customer", AS_OF)

    def test_a_tag_that_is_new_since_the_last_run_says_so(self, table, lake, tags, define):
        newer = TagDictionary([*tags, define("bills", expression="count(*)", type="integer")])
        found = read_tags(lake.view(), newer, "customer", AS_OF)
        assert found.pending["bills"]["en"] == "it has not been derived."

    def test_values_of_another_definition_are_not_shown(
        self, table, lake, tags, define, derive_tags
    ):
        changed = define(
            "spent", type="money", expression="max(amount)", window_months=3, version=2
        )
        newer = TagDictionary([changed, *tags[1:]])
        stale = read_tags(lake.view(), newer, "customer", AS_OF)
        assert "spent" not in stale.fields
        assert "since version 1" in stale.pending["spent"]["en"]
        with pytest.raises(
            TagNotDerivedError, match="'spent' has no values at 2026-10-31: its def"
        ):
            stale.relation(["spent"])
        derive_tags(newer)
        assert "spent" in read_tags(lake.view(), newer, "customer", AS_OF).fields

    def test_values_of_other_subjects_are_not_mixed_in(
        self, table, lake, clock, operator, dictionary, derive_tags
    ):
        clock.advance(timedelta(minutes=5))
        with lake.publication(clock) as publication:  # one customer fewer, and scores for a time
            publication.add("customer", AS_OF, operator.customer(AS_OF).slice(0, 11))
            publication.add(
                "score__churn", AS_OF, pa.table({"customer_id": ["C00"], "score": [0.5]})
            )
        later = TagDictionary([t for t in dictionary if t.name != "used"])
        derive_tags(later)
        found = read_tags(lake.view(), dictionary, "customer", AS_OF)
        assert found.rows == 11
        assert "used" not in found.fields
        assert "other customer rows" in found.pending["used"]["en"]

    def test_a_reader_keeps_what_it_saw(
        self, table, lake, clock, operator, dictionary, engine, derive_tags
    ):
        before = table.read(engine, ["spent"])
        operator.publish(lake, clock, "bill")
        derive_tags(dictionary)
        assert table.read(engine, ["spent"]).equals(before)
        now = read_tags(lake.view(), dictionary, "customer", AS_OF)
        assert now.versions["spent"] != table.versions["spent"]


class TestRelation:
    def test_it_joins_only_the_tables_that_are_needed(self, table):
        query, sources = table.relation(["spent", "rich"])
        assert set(sources) == {"tag__customer__bill", "tag__customer__portrait_1"}
        assert [column.alias_or_name for column in query.selects] == [
            "customer_id",
            "spent",
            "rich",
        ]

    def test_it_can_stand_inside_a_larger_query(self, table, engine):
        query, sources = table.relation(["city", "used"])
        outer = (
            exp.select(exp.column("city"), exp.func("count", exp.Star()).as_("n"))
            .from_(query.subquery("t"))
            .group_by(exp.column("city"))
        )
        counts = engine.query(outer, sources).to_pylist()
        assert sum(row["n"] for row in counts) == table.rows

    def test_no_tags_is_the_ids_alone(self, table, engine):
        query, sources = table.relation([])
        assert engine.query(query, sources).column_names == ["customer_id"]
        assert len(engine.query(query, sources)) == 12

    def test_unknown_and_pending_tags_are_told_apart(self, table):
        with pytest.raises(UnknownTagError, match="Did you mean 'spent'"):
            table.relation(["spend"])
        with pytest.raises(TagNotDerivedError, match="'risk'"):
            table.relation(["risk"])


class TestRead:
    def test_columns_come_in_the_order_asked_for_and_rows_by_id(self, table, engine):
        found = table.read(engine, ["rich", "spent", "rich"])
        assert found.column_names == ["customer_id", "rich", "spent"]
        assert found["customer_id"].to_pylist() == sorted(found["customer_id"].to_pylist())
        assert found.schema.field("spent").type == pa.decimal128(18, 2)


class TestProfile:
    def test_it_is_the_row_of_that_subject(self, table, engine):
        rows = {r["customer_id"]: r for r in table.read(engine, list(table.fields)).to_pylist()}
        for customer in ("C00", "C05", "C11"):
            profile = table.profile(customer)
            assert {"customer_id": customer} | profile == rows[customer]
            assert profile["spent"] is None or isinstance(profile["spent"], Decimal)

    @pytest.mark.parametrize("customer", ["C99", "", "ZZZ", "C001"])
    def test_a_subject_that_is_not_there_is_an_error(self, table, customer):
        with pytest.raises(UnknownSubjectError, match="at 2026-10-31"):
            table.profile(customer)

    def test_it_finds_a_subject_in_any_of_many_parts(
        self, operator, lake, dictionary, derive_tags, monkeypatch
    ):
        derive_module = importlib.import_module("bihuan.tag.derive")
        monkeypatch.setattr(derive_module, "SUBJECTS_PER_PART", 5)
        derive_tags(dictionary)
        table = read_tags(lake.view(), dictionary, "customer", AS_OF)
        assert all(table.profile(c).keys() == table.fields.keys() for c in operator.ids)
