"""Quarantine batches and their replay."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bihuan.data import quarantine as quarantine_module
from bihuan.data.mapping import MappingError
from bihuan.data.publish import TooManyBadRowsError
from bihuan.data.quarantine import ROW_SCHEMA, Batch, BatchNotFoundError
from bihuan.data.replay import ReplayError

from .ingest_fixtures import OCTOBER, Room

MAPPING = "tables: {meter: {columns: {meter_id: id, level: level}}}"
MENDED = "tables: {meter: {columns: {meter_id: id, level: {column: level, missing: [NA]}}}}"
FILE = "id,level,more\nm1,1,a\nm2,NA,b\nm3,x,c\nm1,2,d\n"


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


class TestBatch:
    def test_tells_source_mapping_counts_and_state(self, room: Room) -> None:
        report = room.ingest(FILE, MAPPING)
        [batch] = room.quarantine.list_batches()
        assert batch.id == report.quarantine_id
        assert (batch.source, batch.mapping, batch.as_of) == ("source.csv", "mapping", "2026-10-31")
        assert batch.counts == {"meter": {"NOT_A_NUMBER": 2, "DUPLICATE_KEY": 1}}
        assert (batch.rows, batch.state, batch.parent) == (3, "open", None)
        assert batch.created_at == "2026-11-03T08:00:00+00:00"
        assert batch.mapping_fingerprint == room.mapping(MAPPING).fingerprint

    def test_rows_have_place_reason_and_all_cells(self, room: Room) -> None:
        report = room.ingest(FILE, MAPPING)
        assert report.quarantine_id is not None
        rows = room.quarantine.rows(report.quarantine_id)
        assert rows.schema.equals(ROW_SCHEMA)
        first = room.bad(report)[0]
        assert (first["file"], first["line"], first["column"]) == ("source.csv", 3, "level")
        assert (first["target_column"], first["reason_code"]) == ("level", "NOT_A_NUMBER")
        assert first["reason_en"] == "'NA' is not a number (level)."
        assert first["reason_zh"] == "“NA”不是数字(level)。"
        assert json.loads(first["raw"]) == {"id": "m2", "level": "NA", "more": "b"}

    def test_good_rows_leave_no_batch(self, room: Room) -> None:
        room.ingest("id,level\nm1,1\n", MAPPING)
        assert room.quarantine.list_batches() == ()

    def test_rows_of_one_table(self, room: Room) -> None:
        mapping = """
            tables:
              meter: {columns: {meter_id: id, level: level}}
              owning: {columns: {meter_id: id, product_id: more, amount: level}}
        """
        report = room.ingest(FILE, mapping)
        assert report.quarantine_id is not None
        assert room.quarantine.rows(report.quarantine_id, "owning").num_rows == 2
        assert room.quarantine.rows(report.quarantine_id).num_rows == 5

    def test_an_unknown_batch_is_refused_and_leads_nowhere(self, room: Room) -> None:
        room.ingest(FILE, MAPPING)
        (room.root / "batch.json").write_text("{}")
        for name in ("nothing", "../.", "..", ".staging"):
            assert room.quarantine.find(name) is None
            with pytest.raises(BatchNotFoundError, match="no batch"):
                room.quarantine.get(name)

    def test_many_rows_are_flushed_in_portions(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(quarantine_module, "FLUSH_ROWS", 7)
        report = room.ingest("id,level\n" + "".join(f"m{n},x\n" for n in range(50)), MAPPING)
        assert [row["line"] for row in room.bad(report)] == list(range(2, 52))

    def test_sweep_removes_what_killed_processes_left(self, room: Room) -> None:
        room.ingest(FILE, MAPPING)
        (room.root / "quarantine" / ".staging" / "x-1").mkdir(parents=True)
        assert room.quarantine.sweep() == 1
        assert len(room.quarantine.list_batches()) == 1


class TestReplay:
    def test_mended_rows_are_stored_and_the_others_make_a_new_batch(self, room: Room) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None
        report = room.replay(first.quarantine_id, MENDED)
        assert room.table().select(["meter_id", "level"]).to_pylist() == [
            {"meter_id": "m1", "level": 1.0},
            {"meter_id": "m2", "level": None},
        ]
        assert (report.rows_read, report.rows_stored, report.rows_quarantined) == (3, 1, 2)
        assert [(row["line"], row["reason_code"]) for row in room.bad(report)] == [
            (4, "NOT_A_NUMBER"),
            (5, "DUPLICATE_KEY"),
        ]
        old, new = sorted(room.quarantine.list_batches(), key=lambda batch: batch.parent or "")
        assert (old.state, old.replayed_into) == ("replayed", new.id)
        assert (new.state, new.parent) == ("open", old.id)
        assert room.quarantine.list_batches("open") == (new,)

    def test_a_second_replay_changes_nothing(self, room: Room) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None
        report = room.replay(first.quarantine_id, MENDED)
        view, batches = room.lake.view(), room.quarantine.list_batches()
        again = room.replay(first.quarantine_id, MENDED)
        assert again.unchanged
        assert (again.rows_read, again.rows_stored) == (report.rows_read, report.rows_stored)
        assert (room.lake.view(), room.quarantine.list_batches()) == (view, batches)

    def test_the_rest_can_be_replayed_in_turn(self, room: Room) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None
        second = room.replay(first.quarantine_id, MENDED)
        assert second.quarantine_id is not None
        third = room.replay(second.quarantine_id, MENDED.replace("[NA]", "[NA, x]"))
        assert room.ids() == ["m1", "m2", "m3"]
        assert third.rows_quarantined == 1, "the duplicate stays one"

    def test_the_same_ingest_again_keeps_what_was_replayed(self, room: Room) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None
        room.replay(first.quarantine_id, MENDED)
        assert room.ingest(FILE, MAPPING).unchanged
        assert room.ids() == ["m1", "m2"]

    def test_nothing_mended_leaves_the_lake_alone(self, room: Room) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None
        view = room.lake.view()
        other = "tables: {meter: {columns: {meter_id: id, level: {column: level, missing: [y]}}}}"
        report = room.replay(first.quarantine_id, other)
        assert room.lake.view() == view
        assert (report.rows_stored, report.rows_quarantined) == (0, 3)
        again = room.replay(first.quarantine_id, other)
        assert again.unchanged
        assert again.rows_quarantined == 3

    def test_rows_that_the_mended_mapping_leaves_out_are_done_with(self, room: Room) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None
        mapping = """
            tables:
              meter: {when: {more: [a, b]}, columns: {meter_id: id, level: {column: level,
                      missing: [NA]}}}
        """
        report = room.replay(first.quarantine_id, mapping)
        assert (report.rows_stored, report["meter"].rows_skipped) == (1, 2)
        assert report.quarantine_id is None

    def test_only_the_bad_parts_of_a_melted_record_are_replayed(self, room: Room) -> None:
        mapping = """
            tables:
              owning:
                melt: {columns: {voice: v, data: d}}
                columns: {meter_id: id, product_id: {melt: name}, amount: {melt: value}}
        """
        first = room.ingest("id,voice,data\nm1,1,?\nm2,-,4\n", mapping)
        assert first.quarantine_id is not None
        mended = mapping.replace("{melt: value}", '{melt: value, missing: ["", "?", "-"]}')
        report = room.replay(first.quarantine_id, mended)
        assert (report.rows_read, report.rows_stored) == (2, 2)
        assert sorted(tuple(row.values()) for row in room.table("owning").to_pylist()) == sorted(
            [("m1", "v", 1.0), ("m2", "d", 4.0), ("m1", "d", None), ("m2", "v", None)],
            key=lambda row: (row[0], row[1]),
        )

    def test_bad_bytes_are_read_anew_with_the_stated_encoding(self, room: Room) -> None:
        good = "".join(f"m{n},石家庄\n" for n in range(50)).encode()
        content = b"id,label\n" + good + "x1,Müller\n".encode("cp1252") + b"x2,a,b\n"
        mapping = "tables: {meter: {columns: {meter_id: id, label: label}}}"
        first = room.ingest(content, mapping)
        assert first.quarantine_id is not None
        assert [row["reason_code"] for row in room.bad(first)] == ["BAD_BYTES", "RAGGED_ROW"]
        report = room.replay(first.quarantine_id, "source: {encoding: cp1252}\n" + mapping)
        assert room.table().to_pylist()[-1]["label"] == "Müller"
        [left] = room.bad(report)
        assert (left["reason_code"], left["line"]) == ("RAGGED_ROW", 53)
        assert "3 ≠ 2" in left["reason_en"]
        assert left["raw_bytes"] == b"x2,a,b"

    def test_typed_sources_replay_by_the_meaning_of_their_cells(self, room: Room) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = room.root / "t.parquet"
        table = pa.table({"id": ["m1", "m2"], "n": [1.0, 2.5], "d": pa.array([1, 2], pa.date32())})
        pq.write_table(table, path)
        mapping = """
            tables: {meter: {columns: {meter_id: id, count: n,
                                       since: {column: d, date_format: "%d.%m.%Y"}}}}
        """
        first = room.ingest(path, mapping)
        assert first.quarantine_id is not None
        room.replay(first.quarantine_id, mapping.replace("count: n", "level: n"))
        assert room.table().to_pylist()[1]["level"] == 2.5
        assert str(room.table().to_pylist()[1]["since"]) == "1970-01-03"

    def test_appends_to_what_came_since(self, room: Room) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None
        room.ingest("id,level\nm8,8\nm2,9\n", MAPPING, append=True)
        report = room.replay(first.quarantine_id, MENDED)
        assert room.ids() == ["m1", "m8", "m2"]
        assert room.bad(report)[0]["reason_code"] == "DUPLICATE_KEY", "m2 came from elsewhere"

    def test_of_a_refused_ingest_is_refused(self, room: Room) -> None:
        with pytest.raises(TooManyBadRowsError):
            room.ingest(FILE, MAPPING, max_bad_share=0.1)
        [batch] = room.quarantine.list_batches()
        with pytest.raises(ReplayError, match="does not hold the good rows"):
            room.replay(batch.id, MENDED)
        assert room.lake.view().version == 0

    def test_of_an_ingest_that_was_replaced_is_refused(self, room: Room) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None
        room.ingest("id,level\nm9,9\n", MAPPING)
        with pytest.raises(ReplayError, match="replaced since"):
            room.replay(first.quarantine_id, MENDED)
        assert room.ids() == ["m9"]

    def test_through_a_mapping_that_does_not_fit_is_refused(self, room: Room) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None
        with pytest.raises(MappingError, match="does not have: lvl"):
            room.replay(first.quarantine_id, MAPPING.replace("level: level", "level: lvl"))
        other = "tables: {owning: {columns: {meter_id: id, product_id: more}}}"
        with pytest.raises(ReplayError, match="does not fill meter"):
            room.replay(first.quarantine_id, other)
        assert room.quarantine.get(first.quarantine_id).state == "open"

    def test_killed_after_publishing_ends_in_the_same_state(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None

        def die(*_: Any) -> Batch:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(quarantine_module.Quarantine, "mark_replayed", die)
            with pytest.raises(KeyboardInterrupt):
                room.replay(first.quarantine_id, MENDED)
        view = room.lake.view()
        again = room.replay(first.quarantine_id, MENDED)
        assert again.unchanged
        assert (again.rows_read, again.rows_stored, again.rows_quarantined) == (3, 1, 2)
        assert room.lake.view() == view
        assert room.quarantine.get(first.quarantine_id).state == "replayed"

    def test_twin_without_a_mark_in_the_lineage_stores_twice(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None
        room.replay(first.quarantine_id, MENDED)
        version = room.lake.view().version
        module = sys.modules["bihuan.data.replay"]
        monkeypatch.setattr(module, "_published_outcome", lambda *_: None)
        path = room.root / "quarantine" / first.quarantine_id / "batch.json"
        path.write_text(path.read_text().replace('"replayed"', '"open"'))
        room.replay(first.quarantine_id, MENDED.replace("[NA]", "[NA, x]"))
        assert room.lake.view().version > version, "only the mark keeps the second away"

    def test_as_of_is_that_of_the_batch(self, room: Room) -> None:
        first = room.ingest(FILE, MAPPING)
        assert first.quarantine_id is not None
        assert room.replay(first.quarantine_id, MENDED).as_of == OCTOBER
