"""What the lake, the engine and the contracts must refuse or withstand at the edge."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
import threading
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlglot
from sqlglot import exp

from bihuan.data import Lake, load_contract
from bihuan.data.contract import ContractError
from bihuan.kernel import DefectError, write_atomically

OCTOBER = date(2026, 10, 31)
EVERYTHING = exp.select("*").from_("t")


def publish(lake, clock, values, table="t"):
    with lake.publication(clock) as publication:
        publication.add(table, OCTOBER, pa.table({"n": values}))
    return lake.view()


class TestLakeIsolation:
    def test_other_content_has_another_id_even_in_the_same_instant_and_of_the_same_size(
        self, lake, clock
    ):
        old, new = publish(lake, clock, [1, 2]), publish(lake, clock, [3, 4])
        assert old.get("t").id != new.get("t").id
        assert old.get("t").read().column("n").to_pylist() == [1, 2]

    def test_the_same_content_in_the_same_instant_leaves_the_live_files_alone(self, lake, clock):
        (path,) = publish(lake, clock, [1]).get("t").files
        before = path.stat().st_ino
        publish(lake, clock, [1])
        assert path.stat().st_ino == before
        assert not list((lake.root / ".staging").glob("*"))

    def test_a_failing_writer_leaves_nothing_and_can_be_repeated_in_the_same_instant(
        self, lake, clock
    ):
        def failing():
            with lake.publication(clock) as publication, publication.folder("t", OCTOBER):
                raise ValueError("the disk is full")

        for _ in range(2):
            with pytest.raises(ValueError, match="full"):
                failing()
        assert not list((lake.root / ".staging").glob("*"))
        assert publish(lake, clock, [5]).get("t").rows == 1

    def test_a_folder_into_which_nothing_was_written_is_a_defect(self, lake, clock):
        def empty():
            with lake.publication(clock) as publication, publication.folder("t", OCTOBER):
                pass

        with pytest.raises(DefectError, match="Nothing was written"):
            empty()
        assert lake.view().find("t") is None

    @pytest.mark.parametrize("table", ["../evil", "a/b", "", ".hidden", "a b"])
    def test_a_table_cannot_leave_the_lake(self, lake, clock, table):
        with pytest.raises(DefectError, match="cannot name"):
            publish(lake, clock, [1], table)

    def test_a_sweep_does_not_touch_a_publication_under_way(self, lake, clock):
        with lake.publication(clock) as publication:
            publication.add("t", OCTOBER, pa.table({"n": [1]}))
            lake.sweep()
        assert lake.view().get("t").read().column("n").to_pylist() == [1]

    def test_a_sweep_in_another_process_does_not_either(self, lake, clock):
        code = textwrap.dedent("""
            import sys
            from pathlib import Path
            from bihuan.data import Lake
            print(Lake(Path(sys.argv[1])).sweep())
        """)
        with lake.publication(clock) as publication:
            publication.add("t", OCTOBER, pa.table({"n": [1]}))
            subprocess.run([sys.executable, "-c", code, str(lake.root)], check=True)
        assert lake.view().get("t").rows == 1

    def test_a_folder_named_like_a_partition_adds_no_column(self, tmp_path, clock, engine):
        lake = Lake(tmp_path / "region=north" / "lake")
        snapshot = publish(lake, clock, [1]).get("t")
        assert snapshot.read().column_names == ["n"]
        assert engine.query(EVERYTHING, {"t": snapshot}).column_names == ["n", "as_of"]


class TestEngineWalls:
    @pytest.fixture
    def secret(self, tmp_path) -> Path:
        path = tmp_path / "secret.parquet"
        pq.write_table(pa.table({"n": [42]}), path)
        return path

    @pytest.mark.parametrize(
        "text",
        [
            "SELECT * FROM read_parquet('{path}')",
            "SELECT * FROM '{path}'",
            "SELECT * FROM read_text('{path}')",
            "SELECT * FROM glob('{folder}/*')",
            "SELECT * FROM (SELECT * FROM read_csv('{path}'))",
        ],
    )
    def test_a_query_reads_nothing_but_its_sources(self, engine, lake, clock, secret, text):
        sources = {"t": publish(lake, clock, [1]).get("t")}
        tree = sqlglot.parse_one(text.format(path=secret, folder=secret.parent), read="duckdb")
        with pytest.raises(duckdb.Error):
            engine.query(tree, sources)
        assert engine.query(EVERYTHING, sources).num_rows == 1

    def test_an_open_engine_would_be_caught(self, secret):
        assert duckdb.sql(f"SELECT * FROM read_parquet('{secret}')").fetchall() == [(42,)]

    def test_it_writes_into_the_folder_given_and_nowhere_else(self, engine, tmp_path):
        rows = pa.table({"n": [1]})
        assert engine.write(EVERYTHING, {"t": rows}, tmp_path) == 1
        copy = exp.Copy(
            this=exp.select("1").subquery(),
            kind=False,
            files=[exp.Literal.string(str(tmp_path / "other.parquet"))],
        )
        with pytest.raises(duckdb.Error):
            engine.query(copy, {})
        assert not (tmp_path / "other.parquet").exists()


class TestContractFiles:
    GOOD = (
        "table: x\nmeaning: {zh: 甲, en: X}\nkey: [a]\n"
        "columns:\n  a: {type: string, nullable: false, meaning: {zh: 甲, en: A}}\n"
    )

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("nullable", "nulable", "column 'a' has no field nulable"),
            ("key: [a]", "key: [a]\ngrain: monthly", "grain 'monthly'"),
            ("key: [a]", "key: [a]\nkeys: [b]", "no field keys"),
            ("type: string, ", "", "column 'a' needs 'type'"),
            ("key: [a]", "key: [a", "x.yaml"),
            ("table: x\n", "", "'table' is missing"),
        ],
    )
    def test_a_slip_is_refused_and_named(self, tmp_path, old, new, told):
        path = tmp_path / "x.yaml"
        path.write_text(self.GOOD, encoding="utf-8")
        load_contract(path)
        path.write_text(self.GOOD.replace(old, new), encoding="utf-8")
        with pytest.raises(ContractError) as caught:
            load_contract(path)
        assert told in str(caught.value)
        assert "x.yaml" in caught.value.text("zh")

    def test_a_range_of_dates_is_kept_in_iso_form(self, tmp_path):
        path = tmp_path / "x.yaml"
        text = (
            self.GOOD + "  d: {type: date, range: [2000-01-01, null], meaning: {zh: 日, en: D}}\n"
        )
        path.write_text(text, encoding="utf-8")
        assert load_contract(path)["d"].minimum == "2000-01-01"


class TestAtomicFiles:
    def test_a_failed_write_leaves_the_old_file_and_no_draft(self, tmp_path, monkeypatch):
        path = tmp_path / "a.json"
        write_atomically(path, b"old")

        def full(handle):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_atomically(path, b"new")
        assert path.read_bytes() == b"old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]

    def test_threads_that_write_one_file_do_not_disturb_each_other(self, tmp_path):
        path = tmp_path / "a.json"
        wrong = []

        def write(letter):
            try:
                for _ in range(40):
                    write_atomically(path, letter * 100_000)
            except OSError as error:
                wrong.append(error)

        threads = [threading.Thread(target=write, args=(bytes([65 + i]),)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert len(set(path.read_bytes())) == 1


def test_snapshots_of_another_instant_differ_too(lake, clock):
    first = publish(lake, clock, [1]).get("t").id
    clock.advance(timedelta(seconds=1))
    assert publish(lake, clock, [1]).get("t").id != first
