"""Sources: encodings, delimiters, workbooks, SPSS, Parquet, and tables of two databases."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.data import encoding as encoding_module
from bihuan.data.block import RowSource, as_text, plain, prefetch
from bihuan.data.encoding import (
    UnreadableSourceError,
)
from bihuan.data.mapping import SourceFormat, SourceMapping
from bihuan.data.records import split_fields
from bihuan.data.source import kind_of, open_source
from bihuan.data.source_csv import sniff_delimiter, unique_names
from bihuan.kernel import SilentProgress, UserError

from .ingest_fixtures import Room
from .record_walk import COMMA, walk

CHINESE = "编号,姓名,城市\n1,欧阳娜娜,石家庄\n2,王小明,保定\n"
TOKENS = [b"a", b"a,b\n", b",", b'"', b"\n", b"\r", b"\r\n", b" ", b"\xff", "中".encode(), b"\0"]
TOKENS += [b'a,"b\nc"\n', b"x,y\n", b'"a",b\n']
ID_ONLY = "tables: {meter: {columns: {meter_id: id}}}"


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def opened(path: Path, **form: object) -> RowSource:
    mapping = SourceMapping("test", {}, SourceFormat(**form))  # type: ignore[arg-type]
    return open_source(path, mapping, SilentProgress())


def rows(source: RowSource) -> list[dict[str, object]]:
    return [row for block in source.blocks(source.facts.columns) for row in block.rows.to_pylist()]


class TestCsv:
    @pytest.mark.parametrize("sign", [",", "\t", ";", "|"])
    def test_the_delimiter_is_found_out(self, room: Room, sign: str) -> None:
        other = ";" if sign == "," else ","
        text = f"id{sign}name\n1{sign}a{other}b\n2{sign}c\n"
        source = opened(room.file("t.csv", text))
        assert source.facts.details["delimiter"] == sign
        assert rows(source) == [{"id": "1", "name": f"a{other}b"}, {"id": "2", "name": "c"}]

    def test_one_column(self, room: Room) -> None:
        assert rows(opened(room.file("t.csv", "id\nm1\nm2\n"))) == [{"id": "m1"}, {"id": "m2"}]

    def test_sniffing_leaves_quoted_text_aside(self) -> None:
        assert sniff_delimiter([b'a|"x,y,z"', b'b|"1,2,3"'], b'"') == b"|"

    def test_lines_before_the_header_and_files_without_header(self, room: Room) -> None:
        path = room.file("t.csv", "Report of October\n\nid,n\n1,2\n")
        source = opened(path, skip_lines=2)
        assert rows(source) == [{"id": "1", "n": "2"}]
        [block] = source.blocks(("id",))
        assert block.trace([0])[0].line == 4
        headless = opened(room.file("h.csv", "1,2\n3,4\n"), columns=("id", "n"))
        assert rows(headless)[1] == {"id": "3", "n": "4"}
        assert next(headless.blocks(("id",))).trace([1])[0].line == 2

    def test_without_quote_sign(self, room: Room) -> None:
        source = opened(room.file("t.csv", 'id,n\n"1,2\n'), quote="")
        assert rows(source) == [{"id": '"1', "n": "2"}]

    def test_names_of_columns(self) -> None:
        assert unique_names(["a", "", "a", "a"]) == ("a", "column_2", "a#2", "a#3")

    def test_only_asked_columns_are_read_and_all_are_traced(self, room: Room) -> None:
        source = opened(room.file("t.csv", "a,b,c\n1,2,3\n4,5,6\n"))
        [block] = source.blocks(("b",))
        assert block.rows.column_names == ["b"]
        assert block.trace([1])[0].cells == {"a": "4", "b": "5", "c": "6"}
        assert block.records.tolist() == [1, 2]

    def test_long_lines_are_whole(self, room: Room) -> None:
        long = "x" * 3_000_000
        source = opened(room.file("t.csv", f"id,n\n1,{long}\n2,y\n"))
        assert [len(str(row["n"])) for row in rows(source)] == [3_000_000, 1]

    @given(
        st.lists(st.sampled_from(TOKENS), min_size=1, max_size=40).map(b"".join),
        st.integers(8, 100),
    )
    @settings(max_examples=80, deadline=None)
    def test_agrees_with_a_plain_walk(
        self, tmp_path_factory: pytest.TempPathFactory, data: bytes, chunk: int
    ) -> None:
        expected: list[tuple[int, object]] = []
        for record, line, width in walk(data, 2):
            text = record.decode("utf-8", "replace")
            is_broken = "\0" in text or "\ufffd" in text
            if not is_broken and width != 2 and not record.strip(b" \t\x1a"):
                continue
            cells = [cell.decode("utf-8", "replace") for cell in split_fields(record, COMMA)]
            expected.append((line + 1, None if is_broken or width != 2 else cells))
        path = tmp_path_factory.mktemp("walk") / "t.csv"
        path.write_bytes(data)
        found: list[tuple[int, object]] = []
        with pytest.MonkeyPatch.context() as patch, suppress(UnreadableSourceError):
            patch.setattr(encoding_module, "CHUNK_BYTES", chunk)
            source = opened(path, columns=("x", "y"), encoding="utf-8", delimiter=",")
            for block in source.blocks(("x", "y")):
                cells = [list(row.values()) for row in block.rows.to_pylist()]
                traces = block.trace(range(len(cells)))
                assert [list(trace.cells.values()) for trace in traces] == cells
                assert [trace.record for trace in traces] == block.records.tolist()
                found += [(t.line, row) for t, row in zip(traces, cells, strict=True)]
                found += [(bad.trace.line, None) for bad in block.unreadable]
        assert sorted(found, key=lambda entry: entry[0]) == expected

    def test_kinds_by_ending(self) -> None:
        assert [kind_of(Path(name)) for name in ("a.TXT", "a.tsv.gz", "a.XLSX", "a.pq")] == [
            "csv",
            "csv",
            "excel",
            "parquet",
        ]


def workbook(path: Path) -> Path:
    with xlsxwriter.Workbook(str(path)) as book:
        book.add_worksheet("目录").write_row(0, 0, ["nothing"])
        sheet = book.add_worksheet("数据")
        day = book.add_format({"num_format": "yyyy-mm-dd"})
        moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        sheet.write(0, 0, "十月报表")
        sheet.write_row(2, 0, ["id", "count", "since", "seen_at", "is_on"])
        sheet.write_row(3, 0, [13800001234, 3])
        sheet.write_datetime(3, 2, datetime(2026, 1, 5, tzinfo=UTC).replace(tzinfo=None), day)
        later = datetime(2026, 1, 5, 10, 1, 2, tzinfo=UTC).replace(tzinfo=None)
        sheet.write_datetime(3, 3, later, moment)
        sheet.write_boolean(3, 4, True)
        sheet.write_row(5, 0, ["m2", "three", "2026-02-30"])
        sheet.write_row(6, 0, [" m3 ", 4, "2026-02-28", "", "no"])
    return path


class TestExcel:
    MAPPING = """
        source: {sheet: 数据, skip_lines: 1}
        tables:
          meter:
            columns: {meter_id: id, count: count, since: {column: since, date_format: "%d.%m.%Y"},
                      seen_at: seen_at, is_on: is_on}
    """

    def test_cells_of_every_kind(self, room: Room) -> None:
        report = room.ingest(workbook(room.root / "t.xlsx"), self.MAPPING)
        names = ["meter_id", "count", "since", "seen_at", "is_on"]
        assert [tuple(row.values()) for row in room.table().select(names).to_pylist()] == [
            ("13800001234", 3, date(2026, 1, 5), datetime(2026, 1, 5, 10, 1, 2, tzinfo=UTC), True),
            ("m3", 4, date(2026, 2, 28), None, False),
        ]
        assert [(row["line"], row["reason_code"]) for row in room.bad(report)] == [
            (6, "NOT_A_NUMBER")
        ], "the row of the sheet, an empty row counted"
        assert report.source == "t.xlsx [数据]"

    def test_a_sheet_that_is_not_there(self, room: Room) -> None:
        mapping = self.MAPPING.replace("sheet: 数据", "sheet: 数剧")
        with pytest.raises(UnreadableSourceError, match=r"has no sheet '数剧'.*数据"):
            room.ingest(workbook(room.root / "t.xlsx"), mapping)

    def test_cut_off_workbook(self, room: Room) -> None:
        path = workbook(room.root / "t.xlsx")
        path.write_bytes(path.read_bytes()[:2000])
        with pytest.raises(UnreadableSourceError, match="cannot be read as Excel"):
            room.ingest(path, self.MAPPING)
        assert room.lake.view().version == 0

    def test_an_empty_sheet(self, room: Room) -> None:
        path = room.root / "e.xlsx"
        with xlsxwriter.Workbook(str(path)) as book:
            book.add_worksheet()
        with pytest.raises(UnreadableSourceError, match="no rows"):
            room.ingest(path, ID_ONLY)


def sav_file(path: Path) -> Path:
    """Write an SPSS system file as its format says: a text, a number, a coded one, a date."""

    def number(value: float | None) -> bytes:
        return struct.pack("<d", -np.finfo(np.float64).max if value is None else value)

    def variable(name: str, kind: int, form: int, missing: tuple[float, ...] = ()) -> bytes:
        head = struct.pack("<6i", 2, kind, 0, len(missing), form, form)
        return head + name.encode().ljust(8) + b"".join(number(value) for value in missing)

    text, plain_number, day = 1 << 16 | 8 << 8, 5 << 16 | 8 << 8 | 2, 20 << 16 | 11 << 8
    label = [(1.0, "男"), (2.0, "女")]
    labels = b"".join(
        number(value) + (bytes([len(word.encode())]) + word.encode()).ljust(8, b" ")
        for value, word in label
    )
    since = (date(2026, 1, 5) - date(1582, 10, 14)).days * 86400.0
    cases = [("m1", 1.5, 1.0, since), ("m2", None, 2.0, None), ("小", 3.0, 9.0, since)]
    path.write_bytes(
        b"$FL2"
        + b"@(#) SPSS DATA FILE test".ljust(60)
        + struct.pack("<5id", 2, 4, 0, 0, len(cases), 100.0)
        + b"05 Jan 2610:00:00"
        + b" " * 64
        + b"\0" * 3
        + variable("id", 8, text)
        + variable("n", 0, plain_number)
        + variable("sex", 0, plain_number, missing=(9.0,))
        + variable("since", 0, day)
        + struct.pack("<2i", 3, len(label))
        + labels
        + struct.pack("<3i", 4, 1, 3)
        + struct.pack("<4i", 7, 20, 1, 5)
        + b"UTF-8"
        + struct.pack("<2i", 999, 0)
        + b"".join(
            name.encode().ljust(8) + number(n) + number(sex) + number(day_)
            for name, n, sex, day_ in cases
        )
    )
    return path


class TestSpss:
    MAPPING = "tables: {meter: {columns: {meter_id: id, level: n, label: sex, since: since}}}"

    def read(self, room: Room, mapping: str) -> list[tuple[object, ...]]:
        room.ingest(sav_file(room.root / "t.sav"), mapping)
        names = ["meter_id", "level", "label", "since"]
        return [tuple(row.values()) for row in room.table().select(names).to_pylist()]

    def test_codes_and_declared_missing_values(self, room: Room) -> None:
        assert self.read(room, self.MAPPING) == [
            ("m1", 1.5, "1", date(2026, 1, 5)),
            ("m2", None, "2", None),
            ("小", 3.0, None, date(2026, 1, 5)),
        ]

    def test_labels_instead_of_codes(self, room: Room) -> None:
        read = self.read(room, "source: {labels: true}\n" + self.MAPPING)
        assert [row[2] for row in read] == ["男", "女", None]

    def test_cut_off(self, room: Room) -> None:
        path = sav_file(room.root / "t.sav")
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(UnreadableSourceError, match="cannot be read as SPSS"):
            room.ingest(path, self.MAPPING)


class TestParquet:
    def test_odd_types_become_text_or_their_like(self, room: Room) -> None:
        path = room.root / "t.parquet"
        table = pa.table(
            {
                "id": pa.array(["a", "b"], pa.large_string()),
                "half": pa.array(np.array([0.5, 1.0], np.float16)),
                "nano": pa.array([0, 1_500], pa.timestamp("ns")),
                "list": pa.array([[1, 2], None]),
                "raw": pa.array([b"x", b"\xff"]),
            }
        )
        pq.write_table(table, path)
        source = opened(path)
        schema = next(source.blocks(source.facts.columns)).rows.schema
        kinds = [str(kind) for kind in schema.types]
        assert kinds == ["string", "float", "timestamp[us]", "string", "string"]
        assert [row["list"] for row in rows(source)] == ["[1, 2]", None]

    def test_a_file_without_rows(self, room: Room) -> None:
        path = room.root / "t.parquet"
        pq.write_table(pa.table({"id": pa.array([], pa.string())}), path)
        with pytest.raises(UnreadableSourceError, match="no rows"):
            rows(opened(path))


class TestPrefetch:
    def test_gives_everything_in_order(self) -> None:
        assert list(prefetch(iter(range(100)))) == list(range(100))

    def test_raises_the_error_of_its_thread(self) -> None:
        def broken() -> Iterator[int]:
            yield 1
            raise UserError("half way")

        items = prefetch(broken())
        assert next(items) == 1
        with pytest.raises(UserError, match="half way"):
            next(items)

    def test_leaving_early_stops_the_thread(self) -> None:
        import threading

        before = threading.active_count()
        items = prefetch(iter(range(10**9)))
        assert next(items) == 0
        items.close()
        assert threading.active_count() == before


class TestCells:
    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (12.0, "12"),
            (1.5, "1.5"),
            (float("nan"), None),
            (np.float64(3), "3"),
            (True, "true"),
            (date(2026, 1, 5), "2026-01-05"),
            (Decimal("1.50"), "1.50"),
            (b"a\xff", "a\\xff"),
            ([1, 2], "[1, 2]"),
        ],
    )
    def test_as_text(self, value: object, text: str | None) -> None:
        assert as_text(value) == text

    def test_plain_keeps_what_json_knows(self) -> None:
        assert [plain(value) for value in (1, "a", None, True, 2.5)] == [1, "a", None, True, 2.5]
