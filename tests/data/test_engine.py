"""The engine runs trees over snapshots and rows; a value can never become code."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlglot import exp

from bihuan.data import DuckDBEngine, Lake
from bihuan.kernel import DefectError

SEPTEMBER, OCTOBER = date(2026, 9, 30), date(2026, 10, 31)
EVERYTHING = exp.select("*").from_("t")


@pytest.fixture
def two_months(lake: Lake, clock):
    """Two snapshots of one table; October has a column more, in another order."""
    with lake.publication(clock) as publication:
        publication.add("t", SEPTEMBER, pa.table({"id": ["a"], "n": [1]}))
        publication.add("t", OCTOBER, pa.table({"n": [2], "extra": [True], "id": ["b"]}))
    return lake.view().upto("t", OCTOBER)


class TestSources:
    def test_rows_in_memory_are_a_source(self, engine):
        found = engine.query(EVERYTHING, {"t": pa.table({"n": [1, 2]})})
        assert found.to_pylist() == [{"n": 1}, {"n": 2}]

    def test_a_snapshot_shows_its_date_as_one_more_column(self, engine, two_months):
        found = engine.query(EVERYTHING, {"t": two_months[0]})
        assert found.to_pylist() == [{"id": "a", "n": 1, "as_of": SEPTEMBER}]
        assert found.schema.field("as_of").type == pa.date32()

    def test_snapshots_are_joined_by_name_and_an_added_column_is_missing_before(
        self, engine, two_months
    ):
        found = engine.query(EVERYTHING.order_by("as_of"), {"t": two_months})
        assert found.to_pylist() == [
            {"id": "a", "n": 1, "extra": None, "as_of": SEPTEMBER},
            {"id": "b", "n": 2, "extra": True, "as_of": OCTOBER},
        ]

    def test_any_iterable_of_snapshots_is_a_source(self, engine, two_months):
        found = engine.query(exp.select("n").from_("t"), {"t": iter(two_months)})
        assert sorted(found.column("n").to_pylist()) == [1, 2]

    def test_several_sources_can_be_joined(self, engine, two_months):
        query = exp.select("n", "x").from_("t").join("other", using="id")
        other = pa.table({"id": ["b"], "x": ["seen"]})
        found = engine.query(query, {"t": two_months, "other": other})
        assert found.to_pylist() == [{"n": 2, "x": "seen"}]

    def test_a_source_without_snapshots_is_a_defect(self, engine):
        with pytest.raises(DefectError, match="no snapshot"):
            engine.query(EVERYTHING, {"t": []})

    def test_sixty_months_are_one_source(self, engine, lake, clock):
        with lake.publication(clock) as publication:
            for month in range(60):
                day = date(2020 + month // 12, month % 12 + 1, 1)
                publication.add("t", day, pa.table({"n": [month]}))
        total = exp.select(exp.Sum(this=exp.column("n")).as_("n")).from_("t")
        found = engine.query(total, {"t": lake.view().upto("t", date(2030, 1, 1))})
        assert found.column("n")[0].as_py() == sum(range(60))

    def test_a_name_that_is_no_source_is_not_looked_for_elsewhere(self, engine):
        sources = pa.table({"n": [1]})  # the name of a variable of the engine's own
        with pytest.raises(duckdb.Error):
            engine.query(exp.select("*").from_("undeclared"), {"t": sources})


class TestTypes:
    def test_the_lakes_types_come_back_as_they_were_stored(self, engine, lake, clock):
        rows = pa.table(
            {
                "money": pa.array([Decimal("12.30")], pa.decimal128(18, 2)),
                "at": pa.array(
                    [datetime(2026, 10, 31, 23, 59, tzinfo=UTC)], pa.timestamp("us", "UTC")
                ),
                "day": pa.array([OCTOBER]),
                "flag": [True],
                "text": ["张三"],
                "none": pa.array([None], pa.int64()),
            }
        )
        with lake.publication(clock) as publication:
            publication.add("t", OCTOBER, rows)
        found = engine.query(EVERYTHING, {"t": lake.view().get("t")}).drop_columns("as_of")
        assert found.to_pylist() == rows.to_pylist()
        assert found.schema.types == rows.schema.types

    def test_time_is_utc_whatever_the_machine_says(self, engine, monkeypatch):
        monkeypatch.setenv("TZ", "Asia/Shanghai")
        at = pa.table({"at": pa.array([datetime(2026, 10, 31, 20, tzinfo=UTC)])})
        day = exp.cast(exp.column("at"), "DATE").as_("day")
        assert (
            engine.query(exp.select(day).from_("t"), {"t": at}).column("day")[0].as_py() == OCTOBER
        )


class TestValuesAreNotCode:
    NASTY = (
        "'; DROP TABLE t; --",
        "\\'; select 1; --",
        'a"b',
        "a''b",
        "$$ select 1 $$",
        "/* */",
        "{{x}}",
        "行\n二",
        "?",
        "$1",
        "%s",
    )

    @pytest.mark.parametrize("value", NASTY)
    def test_a_value_is_compared_as_it_is(self, engine, value):
        t = pa.table({"name": [value, "other"], "n": [1, 2]})
        query = exp.select("n").from_("t").where(exp.column("name").eq(exp.Literal.string(value)))
        assert engine.query(query, {"t": t}).to_pylist() == [{"n": 1}]

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(value=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])))
    def test_any_text_comes_back_unchanged(self, engine, value):
        query = exp.select(exp.Literal.string(value).as_("said"))
        assert engine.query(query, {}).column("said").to_pylist() == [value]

    @pytest.mark.parametrize("name", ['we"ird', "select", "a b", "客户", "x'y"])
    def test_names_are_quoted(self, engine, name):
        t = pa.table({name: [1]})
        query = exp.select(exp.column(name, quoted=True)).from_("t")
        assert engine.query(query, {"t": t}).column_names == [name]

    def test_pasted_text_would_have_become_code(self):
        # the seeded defect: what happens when a query is made of strings
        value = "' OR '1' = '1"
        t = pa.table({"name": ["a", "b"]})
        with duckdb.connect() as connection:
            connection.register("t", t)
            pasted = connection.execute(f"SELECT * FROM t WHERE name = '{value}'").fetchall()
        assert len(pasted) == 2
        query = EVERYTHING.where(exp.column("name").eq(exp.Literal.string(value)))
        assert DuckDBEngine(threads=1).query(query, {"t": t}).num_rows == 0

    def test_a_lake_folder_with_a_quote_in_its_name_works(self, engine, tmp_path, clock):
        lake = Lake(tmp_path / 'o\'brien; drop "x"')
        with lake.publication(clock) as publication:
            publication.add("t", OCTOBER, pa.table({"n": [1]}))
        assert engine.query(EVERYTHING, {"t": lake.view().get("t")}).num_rows == 1
        folder = tmp_path / "out'put"
        folder.mkdir()
        assert engine.write(EVERYTHING, {"t": lake.view().get("t")}, folder) == 1


class TestWrite:
    def test_it_writes_parquet_and_says_how_many_rows(self, engine, two_months, tmp_path):
        assert engine.write(EVERYTHING, {"t": two_months}, tmp_path) == 2
        assert pq.read_table(tmp_path / "part-00000.parquet").num_rows == 2

    def test_a_publication_takes_what_the_engine_wrote(self, engine, two_months, lake, clock):
        query = exp.select("id").from_("t").order_by("id")
        with lake.publication(clock) as publication, publication.folder("u", OCTOBER) as folder:
            engine.write(query, {"t": two_months}, folder)
        assert lake.view().get("u").read().column("id").to_pylist() == ["a", "b"]

    def test_a_failing_query_publishes_nothing(self, engine, two_months, lake, clock):
        def failing():
            with lake.publication(clock) as publication, publication.folder("u", OCTOBER) as folder:
                engine.write(exp.select("nothing").from_("t"), {"t": two_months}, folder)

        with pytest.raises(duckdb.Error):
            failing()
        assert lake.view().find("u") is None

    def test_nothing_is_left_behind_between_calls(self, engine):
        engine.query(EVERYTHING, {"t": pa.table({"n": [1]})})
        with pytest.raises(duckdb.Error):
            engine.query(EVERYTHING, {})
