"""Ingest: what is stored, what goes to quarantine and why, and that nothing is half done."""

from __future__ import annotations

import contextlib
import gzip
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bihuan.data import loading
from bihuan.data.encoding import UnreadableSourceError
from bihuan.data.engine import DuckDBEngine
from bihuan.data.ingest_report import IngestReport
from bihuan.data.lake import Lake
from bihuan.data.mapping import MappingError
from bihuan.data.publish import TooManyBadRowsError
from bihuan.data.records import pieces
from bihuan.kernel import Cancelled, CancelToken, DefectError, SilentProgress

from .ingest_fixtures import Room

HEADER = "id,label,kind,count,level,fee,is_on,since,seen_at"
GOOD = "m1,one,a,3,1.5,9.90,yes,2026-02-28,2026-02-28 10:00:00"
ID_ONLY = "tables: {meter: {columns: {meter_id: id}}}"


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def reasons(room: Room, report: IngestReport) -> list[tuple[int, str, str]]:
    return [(row["line"], row["column"], row["reason_code"]) for row in room.bad(report)]


class TestTables:
    def test_one_file_feeds_several_tables_in_one_publication(self, room: Room) -> None:
        mapping = """
            tables:
              meter: {columns: {meter_id: id}}
              owning:
                when: {p: [x, y]}
                columns: {meter_id: id, product_id: p}
        """
        report = room.ingest("id,p\nm1,x\nm2,z\nm3, y \nm4,\n", mapping)
        assert room.lake.view().version == 1
        assert room.ids("owning") == ["m1", "m3"]
        assert (report["meter"].rows_read, report["owning"].rows_read) == (4, 2)
        assert report["owning"].rows_skipped == 2

    # is_on is read through a list of words, which DuckDB turns into a join that mixes the rows
    MIXED = """
        unknown_codes: missing
        tables: {meter: {columns: {meter_id: id, label: label, is_on: id}}}
    """
    MANY = "id,label\n" + "".join(f"m{k},{'x' * 60}{k}\n" for k in range(100_000)) + "m7,late\n"

    @pytest.mark.parametrize("threads", [1, 2])
    def test_rows_keep_the_order_of_the_source_and_so_does_who_was_first(
        self, room: Room, threads: int
    ) -> None:
        report = room.ingest(self.MANY, self.MIXED, engine=DuckDBEngine(threads=threads))
        assert room.ids() == [f"m{k}" for k in range(100_000)]
        assert room.table().column("label")[7].as_py() == f"{'x' * 60}7"
        assert [row["line"] for row in room.bad(report)] == [100_002]

    def test_twin_that_takes_rows_as_they_come_mixes_them(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bihuan.data.convert._in_order", lambda result: result)
        room.ingest(self.MANY, self.MIXED, engine=DuckDBEngine(threads=2))
        assert room.ids() != [f"m{k}" for k in range(100_000)], "the check above would fail"

    def test_melt_turns_columns_into_rows(self, room: Room) -> None:
        mapping = """
            missing: ["", "-"]
            tables:
              owning:
                melt:
                  columns: {ring: ring_tone, net: {DSL: dsl, Fiber: fiber}, mail: mail_139}
                  keep: ["Y", DSL, Fiber]
                columns: {meter_id: id, product_id: {melt: name}}
        """
        report = room.ingest("id,ring,net,mail\nm1,Y,DSL,N\nm2,N,None,Y\nm3,-,,\n", mapping)
        assert [tuple(row.values())[:2] for row in room.table("owning").to_pylist()] == [
            ("m1", "ring_tone"),
            ("m1", "dsl"),
            ("m2", "mail_139"),
        ]
        assert report.rows_read == 3

    def test_melted_cells_may_be_values_and_bad_ones_tell_their_column(self, room: Room) -> None:
        mapping = """
            tables:
              owning:
                melt: {columns: {voice: v, data: d}}
                columns: {meter_id: id, product_id: {melt: name}, amount: {melt: value}}
        """
        report = room.ingest("id,voice,data\nm1,1,2\nm2,x,\nm1,3,y\n", mapping)
        assert room.table("owning").column("amount").to_pylist() == [1.0, 2.0]
        assert [(row["line"], row["part"], row["reason_code"]) for row in room.bad(report)] == [
            (3, "voice", "NOT_A_NUMBER"),
            (4, "data", "NOT_A_NUMBER"),
            (4, "voice", "DUPLICATE_KEY"),
        ]
        assert report.rows_read == report.rows_stored + report.rows_quarantined == 5

    def test_no_row_for_a_table_makes_an_empty_snapshot(self, room: Room) -> None:
        mapping = """
            tables:
              owning: {when: {p: [never]}, columns: {meter_id: id, product_id: p}}
        """
        room.ingest("id,p\nm1,x\n", mapping)
        assert room.table("owning").num_rows == 0


class TestEmptyMonth:
    """A month in which nothing happened can be delivered, where the mapping says so."""

    MAY = "may_be_empty: true\n"

    def test_a_header_without_rows_is_an_empty_snapshot(self, room: Room) -> None:
        report = room.ingest("id,level\n", self.MAY + ID_ONLY)
        assert (report.rows_read, report.rows_stored) == (0, 0)
        assert room.table("meter").num_rows == 0
        assert room.table("meter").column_names[0] == "meter_id"
        assert room.ingest("id,level\n", self.MAY + ID_ONLY).unchanged

    def test_it_replaces_what_was_there_and_can_be_replaced(self, room: Room) -> None:
        room.ingest("id,level\nm1,1\n", self.MAY + ID_ONLY)
        room.ingest("id,level\n", self.MAY + ID_ONLY)
        assert room.ids() == []
        room.ingest("id,level\nm2,1\n", self.MAY + ID_ONLY)
        assert room.ids() == ["m2"]

    def test_parquet_too(self, room: Room) -> None:
        path = room.root / "t.parquet"
        pq.write_table(pa.table({"id": pa.array([], pa.string())}), path)
        assert room.ingest(path, self.MAY + ID_ONLY).rows_read == 0
        assert room.table("meter").num_rows == 0

    @pytest.mark.parametrize("content", [b"", b"\n\n"])
    def test_a_file_without_even_a_header_was_cut_off(self, room: Room, content: bytes) -> None:
        with pytest.raises(UnreadableSourceError, match="no rows"):
            room.ingest(room.file("e.csv", content), self.MAY + ID_ONLY)

    def test_the_option_does_not_change_what_a_row_means(self, room: Room) -> None:
        room.ingest("id,level\nm1,1\n", ID_ONLY)
        assert room.ingest("id,level\nm1,1\n", self.MAY + ID_ONLY).unchanged

    def test_the_refusal_names_the_option(self, room: Room) -> None:
        with pytest.raises(UnreadableSourceError, match="may_be_empty: true"):
            room.ingest("id,level\n", ID_ONLY)


class TestRefusals:
    def test_too_many_bad_rows_publish_nothing_but_are_kept(self, room: Room) -> None:
        mapping = "tables: {meter: {columns: {meter_id: id, level: level}}}"
        room.ingest("id,level\nold,1\n", mapping)
        lines = [f"m{n},{'x' if n % 4 == 0 else n}" for n in range(100)]
        with pytest.raises(TooManyBadRowsError, match=r"25 of 100 rows.*line 2") as caught:
            room.ingest("id,level\n" + "\n".join(lines), mapping, max_bad_share=0.2)
        assert "未发布" in caught.value.zh
        assert room.ids() == ["old"]
        batch = room.quarantine.list_batches()[-1]
        assert (batch.rows, batch.counts) == (25, {"meter": {"NOT_A_NUMBER": 25}})
        assert list((room.lake.root / ".staging").glob("*")) == []

    @pytest.mark.parametrize(
        ("name", "content", "told"),
        [
            ("e.csv", b"", "no rows"),
            ("e.csv", b"\xef\xbb\xbf", "no rows"),
            ("e.csv", b"id,level\n", "no rows"),
            ("e.csv", b"\n\n\n", "no rows"),
            ("e.csv.gz", gzip.compress(b"id\nm1\n" * 1000, mtime=0)[:-20], "cut off"),
            ("e.parquet", b"", "empty"),
            ("e.parquet", b"PAR1 no", "cannot be read as Parquet"),
            ("e.xlsx", b"PK\x03\x04 cut", "cannot be read as Excel"),
            ("e.sav", b"$FL2 cut", "cannot be read as SPSS"),
            ("e.unknown", b"id\nm1\n", "ending"),
        ],
    )
    def test_unreadable_files(self, room: Room, name: str, content: bytes, told: str) -> None:
        with pytest.raises(UnreadableSourceError, match=told) as caught:
            room.ingest(room.file(name, content), ID_ONLY)
        assert name.split(".")[0] in str(caught.value)
        assert caught.value.zh
        assert room.lake.view().version == 0

    def test_a_parquet_file_cut_in_its_pages(self, room: Room) -> None:
        path = room.root / "t.parquet"
        pq.write_table(pa.table({"id": [f"m{n}" for n in range(50_000)]}), path)
        content = path.read_bytes()
        room.file("t.parquet", content[:1000] + b"\0" * 50_000 + content[51_000:])
        with pytest.raises(UnreadableSourceError, match=r"t\.parquet"):
            room.ingest(path, ID_ONLY)
        assert room.lake.view().version == 0

    def test_absent_file(self, room: Room) -> None:
        with pytest.raises(UnreadableSourceError, match="no file"):
            room.ingest(room.root / "absent.csv", ID_ONLY)

    def test_mapped_columns_that_the_file_lacks_are_named_with_the_nearest(
        self, room: Room
    ) -> None:
        with pytest.raises(MappingError, match=r"does not have: id.*Did you mean ID"):
            room.ingest("ID,level\nm1,1\n", ID_ONLY)

    def test_cancelled_publishes_nothing_and_leaves_nothing(self, room: Room) -> None:
        token = CancelToken()
        token.cancel()
        with pytest.raises(Cancelled):
            room.ingest("id\nm1\n", ID_ONLY, progress=SilentProgress(token))
        assert room.lake.view().version == 0
        assert not list(room.root.glob("lake/.staging/*"))

    def test_cancelled_half_way(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bihuan.data.encoding.CHUNK_BYTES", 1000)
        token = CancelToken()
        seen: list[int] = []
        add = loading.TableLoad.add

        def count(self: loading.TableLoad, *args: Any) -> None:
            add(self, *args)
            seen.append(1)
            token.cancel()

        monkeypatch.setattr(loading.TableLoad, "add", count)
        with pytest.raises(Cancelled):
            room.ingest(
                "id\n" + "m\n" * 5000, ID_ONLY, progress=SilentProgress(token), max_bad_share=1.0
            )
        assert len(seen) == 1
        assert room.lake.view().version == 0
        assert not list(room.root.glob("lake/.staging/*"))
        assert not list(room.root.glob("quarantine/*"))


class TestRepeating:
    FILE = "id,level\nm1,1\nm2,x\n"
    MAPPING = "tables: {meter: {columns: {meter_id: id, level: level}}}"

    def test_the_same_again_is_unchanged(self, room: Room) -> None:
        first = room.ingest(self.FILE, self.MAPPING)
        before = room.lake.view()
        again = room.ingest(self.FILE, self.MAPPING)
        assert (first.unchanged, again.unchanged) == (False, True)
        assert room.lake.view() == before
        assert again.quarantine_id == first.quarantine_id
        assert (again.rows_stored, again.rows_quarantined) == (1, 1)

    def test_another_mapping_file_or_date_is_not(self, room: Room) -> None:
        room.ingest(self.FILE, self.MAPPING)
        mended = "tables: {meter: {columns: {meter_id: id, level: {column: level, missing: [x]}}}}"
        assert not room.ingest(self.FILE, mended).unchanged
        assert room.ids() == ["m1", "m2"]
        assert not room.ingest("id,level\nm3,1\n", mended).unchanged
        assert room.ids() == ["m3"], "replaced"
        assert not room.ingest("id,level\nm3,1\n", mended, as_of=date(2026, 9, 30)).unchanged

    def test_lineage_tells_the_source(self, room: Room) -> None:
        room.ingest(self.FILE, self.MAPPING)
        part = room.lake.view().get("meter").lineage["parts"][0]
        assert part["source"] == "source.csv"
        assert len(part["sha256"]) == 64
        assert part["mapping_fingerprint"] == room.mapping(self.MAPPING).fingerprint
        assert (part["rows_read"], part["rows_stored"], part["rows_quarantined"]) == (2, 1, 1)

    def test_append_adds_files_of_one_date_and_quarantines_keys_that_are_there(
        self, room: Room
    ) -> None:
        room.ingest("id,level\nm1,1\nm2,2\n", self.MAPPING, append=True)
        report = room.ingest("id,level\nm3,3\nm1,9\nm3,4\n", self.MAPPING, append=True)
        assert room.ids() == ["m1", "m2", "m3"]
        assert room.table().column("level").to_pylist() == [1.0, 2.0, 3.0]
        assert reasons(room, report) == [(3, "id", "DUPLICATE_KEY"), (4, "id", "DUPLICATE_KEY")]
        assert "2026-10-31" in room.bad(report)[0]["reason_zh"]
        assert (report.rows_read, report.rows_stored) == (3, 1)
        assert len(room.lake.view().get("meter").files) == 2

    def test_append_of_a_file_that_is_there_is_unchanged(self, room: Room) -> None:
        for content in ("id,level\nm1,1\n", "id,level\nm2,2\n"):
            room.ingest(content, self.MAPPING, append=True)
        before = room.lake.view()
        assert room.ingest("id,level\nm1,1\n", self.MAPPING, append=True).unchanged
        assert room.lake.view() == before

    def test_append_of_distinct_rows_skips_those_that_are_there(self, room: Room) -> None:
        mapping = "tables: {meter: {distinct: true, columns: {meter_id: id, level: level}}}"
        room.ingest("id,level\nm1,1\nm2,2\n", mapping, append=True)
        report = room.ingest("id,level\nm1,1\nm2,9\nm3,3\nm3,3\n", mapping, append=True)
        assert room.ids() == ["m1", "m2", "m3"]
        assert report["meter"].rows_skipped == 2
        assert reasons(room, report) == [(3, "id", "DUPLICATE_KEY")]

    def test_files_appended_at_once_all_arrive(self, room: Room) -> None:
        mapping = room.mapping(self.MAPPING)
        files = [room.file(f"{n}.csv", f"id,level\nm{n},{n}\n") for n in range(4)]
        with ThreadPoolExecutor(4) as threads:
            reports = list(threads.map(lambda path: room.ingest(path, mapping, append=True), files))
        assert sorted(room.ids()) == ["m0", "m1", "m2", "m3"]
        assert [report.rows_stored for report in reports] == [1, 1, 1, 1]

    def test_twin_without_the_lock_loses_rows(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            sys.modules["bihuan.data.ingest"], "locked", lambda *_: contextlib.nullcontext()
        )
        commit, both = Lake._commit, threading.Barrier(2)

        def meet(lake: Lake, publication: Any) -> None:
            both.wait(timeout=30)
            commit(lake, publication)

        monkeypatch.setattr(Lake, "_commit", meet)
        mapping = room.mapping(self.MAPPING)
        files = [room.file(f"{n}.csv", f"id,level\nm{n},{n}\n") for n in range(2)]
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(lambda path: room.ingest(path, mapping, append=True), files))
        assert len(room.ids()) == 1, "the check above would fail"

    def test_a_file_that_changes_while_it_is_read_is_refused(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = room.file("grow.csv", "id,level\nm1,1\n")

        def pieces_of_a_growing_file(*args: Any) -> Iterator[Any]:
            yield from pieces(*args)
            with path.open("ab") as file:
                file.write(b"m2,2\n")

        monkeypatch.setattr("bihuan.data.source_csv.pieces", pieces_of_a_growing_file)
        with pytest.raises(UnreadableSourceError, match="changed while it was read"):
            room.ingest(path, self.MAPPING)
        assert room.lake.view().version == 0


CELL = st.sampled_from(
    ["", "a", "b", "c", "1", "31", "32", "2.5", "x", "2026-02-28", "2026-02-30", "yes", "名", " a "]
)
LINE = st.one_of(
    st.lists(CELL, min_size=5, max_size=5).map(",".join),
    st.lists(CELL, min_size=1, max_size=7).map(",".join),
    st.sampled_from(["", '"open,1', '"a\nb",a,1,1,yes', "m1,a,1,1,yes", '5" x,a,1,1,yes']),
)


class TestNoRowIsLost:
    MAPPING = """
        tables:
          meter:
            columns: {meter_id: id, kind: kind, count: count, since: since, is_on: is_on}
          owning:
            melt: {columns: {count: n, since: s}}
            columns: {meter_id: id, product_id: {melt: name}, amount: {melt: value}}
    """

    @given(st.lists(LINE, min_size=1, max_size=12), st.sampled_from(["\n", "\r\n", "\r"]))
    @example([",,,,", '"open,1', '5" x,a,1,1,yes'], "\n")
    @settings(max_examples=10, deadline=None)
    def test_stored_and_quarantined_are_what_was_read(
        self, tmp_path_factory: pytest.TempPathFactory, lines: list[str], end: str
    ) -> None:
        room = Room(tmp_path_factory.mktemp("room"))
        content = "id,kind,count,since,is_on\n" + end.join(lines)
        try:
            report = room.ingest(content, self.MAPPING)
        except UnreadableSourceError:
            assert not "".join(lines).strip(), "only a file without records is empty"
            return
        bad = room.bad(report)
        for table in report.tables:
            quarantined = sum(row["table"] == table.table for row in bad)
            stored = room.table(table.table).num_rows
            assert (table.rows_stored, table.rows_quarantined) == (stored, quarantined)
            assert stored + quarantined == table.rows_read
        ids = room.ids()
        assert len(ids) == len(set(ids))
        places = [row["line"] for row in bad if row["table"] == "meter"]
        assert len(places) == len(set(places)), "a record is bad once per table"
        assert report["meter"].rows_read == len(ids) + len(places)

    def test_twin_that_drops_bad_rows_is_caught(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loading.TableLoad, "_quarantine", lambda *_: None)
        with pytest.raises(DefectError, match="1 stored and 0 quarantined"):
            room.ingest("id,level\nm1,1\nm2,x\n", TestRepeating.MAPPING)
        assert room.lake.view().version == 0

    def test_twin_that_misses_duplicates_is_seen(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        room.ingest("id\nm1\nm1\n", ID_ONLY)
        assert room.ids() == ["m1"]
        monkeypatch.setattr(loading, "find_suspects", lambda hashes, *_: hashes[:0].astype("int64"))
        room.ingest("id\nm2\nm2\n", ID_ONLY)
        assert room.ids() == ["m2", "m2"], "the check above would fail"
