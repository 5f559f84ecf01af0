"""Conversion: what a cell becomes, why it is refused, and that types and text agree."""

from __future__ import annotations

import csv
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.data.ingest_report import IngestReport

from .ingest_fixtures import OCTOBER, Room

HEADER = "id,label,kind,count,level,fee,is_on,since,seen_at"
GOOD = "m1,one,a,3,1.5,9.90,yes,2026-02-28,2026-02-28 10:00:00"
ID_ONLY = "tables: {meter: {columns: {meter_id: id}}}"


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def reasons(room: Room, report: IngestReport) -> list[tuple[int, str, str]]:
    return [(row["line"], row["column"], row["reason_code"]) for row in room.bad(report)]


class TestStoredValues:
    def test_every_type_of_column(self, room: Room) -> None:
        report = room.ingest(f"{HEADER}\n{GOOD}\n")
        assert room.table().to_pylist() == [
            {
                "meter_id": "m1",
                "label": "one",
                "kind": "a",
                "count": 3,
                "level": 1.5,
                "fee": Decimal("9.90"),
                "is_on": True,
                "since": date(2026, 2, 28),
                "seen_at": datetime(2026, 2, 28, 10, tzinfo=UTC),
            }
        ]
        assert (report.rows_read, report.rows_stored, report.rows_quarantined) == (1, 1, 0)
        assert report.quarantine_id is None
        assert room.table().schema.equals(room.contracts["meter"].schema)

    def test_columns_that_are_not_mapped_are_missing_and_those_of_the_file_reported(
        self, room: Room
    ) -> None:
        report = room.ingest("id,other\nm1,x\n", ID_ONLY)
        assert room.table().to_pylist()[0]["label"] is None
        assert report.unknown_columns == ("other",)

    def test_empty_cells_and_missing_codes_are_missing(self, room: Room) -> None:
        mapping = """
            missing: ["", NA, "-99"]
            tables: {meter: {columns: {meter_id: id, label: label, level: level}}}
        """
        room.ingest("id,label,level\nm1,NA,\nm2, NA ,-99\nm3,x,-99.5\n", mapping)
        assert room.table().select(["label", "level"]).to_pylist() == [
            {"label": None, "level": None},
            {"label": None, "level": None},
            {"label": "x", "level": -99.5},
        ]

    def test_all_kinds_of_blanks_are_trimmed_unless_told_otherwise(self, room: Room) -> None:
        mapping = """
            tables:
              meter:
                columns:
                  meter_id: id
                  label: {column: label, trim: false}
        """
        room.ingest("id,label\n\u3000m1\u00a0, x \n m2\t,y\n", mapping)
        assert room.table().select(["meter_id", "label"]).to_pylist() == [
            {"meter_id": "m1", "label": " x "},
            {"meter_id": "m2", "label": "y"},
        ]

    def test_codes_constants_templates_defaults_and_pseudo_columns(self, room: Room) -> None:
        mapping = """
            tables:
              meter:
                columns:
                  meter_id: {template: "M-{id}/{_row}"}
                  kind: {column: sex, codes: {"男": a, "女": b}}
                  label: {constant: fixed}
                  count: {column: n, default: 7}
                  since: _as_of
        """
        room.ingest("id,sex,n\nx,男,\ny,女,2\n", mapping)
        names = ["meter_id", "kind", "label", "count", "since"]
        assert [list(row.values()) for row in room.table().select(names).to_pylist()] == [
            ["M-x/1", "a", "fixed", 7, OCTOBER],
            ["M-y/2", "b", "fixed", 2, OCTOBER],
        ]

    def test_a_template_with_a_missing_part_is_missing(self, room: Room) -> None:
        mapping = 'tables: {meter: {columns: {meter_id: {template: "M-{id}"}}}}'
        report = room.ingest("id,x\na,1\n,2\n", mapping)
        assert room.ids() == ["M-a"]
        assert reasons(room, report) == [(3, "M-{id}", "MISSING_REQUIRED")]

    def test_units_thousands_and_decimal_signs(self, room: Room) -> None:
        mapping = """
            tables:
              meter:
                columns:
                  meter_id: id
                  level: {column: kb, factor: 0.0009765625}
                  fee: {column: fen, factor: 0.01, thousands: ","}
                  count: {column: n, decimal: ",", thousands: "."}
            source: {delimiter: ";"}
        """
        room.ingest('id;kb;fen;n\nm1;2048;"1,234";3,0\n', mapping)
        row = room.table().to_pylist()[0]
        assert (row["level"], row["fee"], row["count"]) == (2.0, Decimal("12.34"), 3)

    @pytest.mark.parametrize(
        ("form", "cell", "expected"),
        [
            ("", "2026-3-1", date(2026, 3, 1)),
            ("", "2026/03/01", date(2026, 3, 1)),
            ("", "20260301", date(2026, 3, 1)),
            ("", "2026年3月1日", date(2026, 3, 1)),
            ("", "2026-03-01 23:59:59", date(2026, 3, 1)),
            ("%d/%m/%Y", "01/03/2026", date(2026, 3, 1)),
            ("unix", "1772323200", date(2026, 3, 1)),
            ("unix_ms", "1772323200000", date(2026, 3, 1)),
        ],
    )
    def test_forms_of_dates(self, room: Room, form: str, cell: str, expected: date) -> None:
        told = f', date_format: "{form}"' if form else ""
        mapping = f"tables: {{meter: {{columns: {{meter_id: id, since: {{column: d{told}}}}}}}}}"
        report = room.ingest(f"id,d\nm1,{cell}\n", mapping)
        assert room.bad(report) == []
        assert room.table().column("since").to_pylist() == [expected]

    @pytest.mark.parametrize(
        ("form", "cell", "expected"),
        [
            ("", "2026-03-01 08:00:00", "2026-03-01T00:00:00+00:00"),
            ("", "2026-03-01T08:00:00Z", "2026-03-01T08:00:00+00:00"),
            ("", "2026-03-01 08:00:00+09:00", "2026-02-28T23:00:00+00:00"),
            ("", "2026-03-01", "2026-02-28T16:00:00+00:00"),
            ("%Y%m%d %H%M", "20260301 0800", "2026-03-01T00:00:00+00:00"),
            ("%Y-%m-%d %H:%M %z", "2026-03-01 08:00 +0100", "2026-03-01T07:00:00+00:00"),
        ],
    )
    def test_moments_are_meant_in_the_zone_of_the_mapping(
        self, room: Room, form: str, cell: str, expected: str
    ) -> None:
        told = f', date_format: "{form}"' if form else ""
        mapping = f"""
            timezone: Asia/Shanghai
            tables: {{meter: {{columns: {{meter_id: id, seen_at: {{column: t{told}}}}}}}}}
        """
        assert room.bad(room.ingest(f"id,t\nm1,{cell}\n", mapping)) == []
        assert room.table().column("seen_at").to_pylist()[0].isoformat() == expected


class TestReasons:
    @pytest.mark.parametrize(
        ("column", "cell", "reason"),
        [
            ("id", "", "MISSING_REQUIRED"),
            ("kind", "c", "UNKNOWN_CODE"),
            ("count", "3.7", "NOT_WHOLE"),
            ("count", "three", "NOT_A_NUMBER"),
            ("count", "0x1F", "NOT_A_NUMBER"),
            ("count", "1_0", "NOT_A_NUMBER"),
            ("count", "32", "OUT_OF_RANGE"),
            ("count", "-1", "OUT_OF_RANGE"),
            ("count", "99999999999999999999", "OUT_OF_RANGE"),
            ("level", "nan", "NOT_A_NUMBER"),
            ("level", "inf", "NOT_A_NUMBER"),
            ("level", "1 000", "NOT_A_NUMBER"),
            ("level", "１２", "NOT_A_NUMBER"),
            ("fee", "¥9.90", "NOT_A_NUMBER"),
            ("fee", "99999999999999999", "OUT_OF_RANGE"),
            ("is_on", "maybe", "UNKNOWN_CODE"),
            ("since", "2026-02-30", "NOT_A_DATE"),
            ("since", "31/12/2026", "NOT_A_DATE"),
            ("since", "2026-02-28x", "NOT_A_DATE"),
            ("since", "infinity", "NOT_A_DATE"),
            ("since", "epoch", "NOT_A_DATE"),
            ("since", "2026023", "NOT_A_DATE"),
            ("since", "0000-01-01", "NOT_A_DATE"),
            ("since", "12026-01-01", "NOT_A_DATE"),
            ("seen_at", "2026-02-28 25:00:00", "NOT_A_DATE"),
        ],
    )
    def test_one_bad_cell(self, room: Room, column: str, cell: str, reason: str) -> None:
        names = HEADER.split(",")
        cells = GOOD.split(",")
        cells[names.index(column)] = cell
        report = room.ingest(f"{HEADER}\n{','.join(cells)}\nm2{',' * 8}\n")
        assert reasons(room, report) == [(2, column, reason)]
        assert room.ids() == ["m2"]
        row = room.bad(report)[0]
        assert cell in row["reason_zh"] or not cell
        assert cell in row["reason_en"] or not cell
        assert f'"{column}": "{cell}"' in row["raw"]

    def test_a_column_that_changes_type_half_way_is_bad_rows_with_lines(self, room: Room) -> None:
        mapping = "tables: {meter: {columns: {meter_id: id, level: level}}}"
        lines = [f"m{n},{n if n < 50 else 'x'}" for n in range(100)]
        report = room.ingest("id,level\n" + "\n".join(lines), mapping)
        assert [line for line, _, _ in reasons(room, report)] == list(range(52, 102))
        assert report["meter"].reasons == {"NOT_A_NUMBER": 50}

    def test_the_first_valid_row_of_a_key_wins(self, room: Room) -> None:
        mapping = "tables: {meter: {columns: {meter_id: id, level: level}}}"
        report = room.ingest("id,level\nm1,bad\nm1,1\nm2,2\nm1,3\nm1,1\n", mapping)
        assert room.table().select(["meter_id", "level"]).to_pylist() == [
            {"meter_id": "m1", "level": 1.0},
            {"meter_id": "m2", "level": 2.0},
        ]
        assert reasons(room, report) == [
            (2, "level", "NOT_A_NUMBER"),
            (5, "id", "DUPLICATE_KEY"),
            (6, "id", "DUPLICATE_KEY"),
        ]
        assert "→ 3" in room.bad(report)[1]["reason_en"], "the line of the row that has the key"

    def test_distinct_counts_equal_rows_once_and_quarantines_those_that_differ(
        self, room: Room
    ) -> None:
        mapping = """
            tables:
              meter: {distinct: true, columns: {meter_id: id, label: label}}
              owning: {columns: {meter_id: id, product_id: p}}
        """
        report = room.ingest("id,label,p\nm1,x,1\nm1,x,2\nm1,y,3\nm2,x,1\nm1,y,4\n", mapping)
        assert room.ids() == ["m1", "m2"]
        meter = report["meter"]
        assert (meter.rows_read, meter.rows_stored, meter.rows_skipped) == (3, 2, 2)
        assert reasons(room, report) == [(4, "id", "DUPLICATE_KEY")]
        assert report["owning"].rows_stored == 5

    def test_ragged_rows_unclosed_quotes_and_bad_bytes(self, room: Room) -> None:
        names = "名字".encode()
        content = (
            b"id,label\nm1," + names * 3 + b"\nm2\n\nm3,\xff\nm4,y,z\n"
            b'm5,"open\nm6,n\x00\nm7,ok\n   \n\x1a'
        )
        report = room.ingest(content, "tables: {meter: {columns: {meter_id: id, label: label}}}")
        assert [(line, reason) for line, _, reason in reasons(room, report)] == [
            (3, "RAGGED_ROW"),
            (5, "BAD_BYTES"),
            (6, "RAGGED_ROW"),
            (7, "UNCLOSED_QUOTE"),
            (8, "BAD_BYTES"),
        ]
        assert room.ids() == ["m1", "m7"]
        assert room.bad(report)[1]["raw_bytes"] == b"m3,\xff"
        assert report.rows_read == 7

    def test_unknown_codes_may_be_missing_or_kept(self, room: Room) -> None:
        mapping = """
            unknown_codes: missing
            tables:
              meter:
                columns:
                  meter_id: id
                  kind: kind
                  is_on: {column: f, codes: {"Y": true, "N": false}}
                  label: {column: city, codes: {"010": Beijing}, unknown_codes: keep}
        """
        report = room.ingest("id,kind,f,city\nm1,c,?,021\nm2,a,Y,010\n", mapping)
        assert room.bad(report) == []
        names = ["kind", "is_on", "label"]
        assert [list(row.values()) for row in room.table().select(names).to_pylist()] == [
            [None, None, "021"],
            ["a", True, "Beijing"],
        ]

    def test_line_numbers_hold_with_every_line_end_and_lines_within_quotes(
        self, room: Room
    ) -> None:
        content = b'id,level\r\nm1,1\rm2,x\n"m\n3",y\r\n\r\nm4,z\n'
        report = room.ingest(content, "tables: {meter: {columns: {meter_id: id, level: level}}}")
        assert [line for line, _, _ in reasons(room, report)] == [3, 4, 7]

    def test_line_numbers_hold_over_many_blocks(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("bihuan.data.encoding.CHUNK_BYTES", 10_000)
        bad = {2, 499, 500, 501, 1999, 2001}
        lines = [f"m{n},{'x' if n + 2 in bad else n},{'名' * (n % 7)}" for n in range(2000)]
        mapping = "tables: {meter: {columns: {meter_id: id, level: level, label: label}}}"
        report = room.ingest("id,level,label\n" + "\n".join(lines), mapping)
        assert {line for line, _, _ in reasons(room, report)} == bad
        assert len(room.ids()) == 1994


class TestTypedSources:
    """A typed cell is converted as the text of the same meaning."""

    def test_parquet_with_types(self, room: Room) -> None:
        path = room.root / "t.parquet"
        table = pa.table(
            {
                "id": pa.array([12.0, 13.0, 14.5]),
                "label": pa.array(["x", None, " y "]).dictionary_encode(),
                "kind": pa.array(["a", "b", "a"]),
                "count": pa.array([3.0, float("nan"), 4.0]),
                "level": pa.array([1, 2, 3], pa.int32()),
                "fee": pa.array([Decimal("1.5"), None, Decimal("2.25")]),
                "is_on": pa.array([True, False, None]),
                "since": pa.array([date(2026, 1, 2), None, date(2026, 1, 3)]).cast(
                    pa.timestamp("s")
                ),
                "seen_at": pa.array([date(2026, 1, 2), None, date(2026, 1, 3)]),
            }
        )
        pq.write_table(table, path, row_group_size=2)
        report = room.ingest(path)
        assert room.bad(report) == []
        assert [tuple(row.values()) for row in room.table().to_pylist()] == [
            (
                "12", "x", "a", 3, 1.0, Decimal("1.50"), True, date(2026, 1, 2),
                datetime(2026, 1, 2, tzinfo=UTC),
            ),
            ("13", None, "b", None, 2.0, None, False, None, None),
            (
                "14.5", "y", "a", 4, 3.0, Decimal("2.25"), None, date(2026, 1, 3),
                datetime(2026, 1, 3, tzinfo=UTC),
            ),
        ]  # fmt: skip

    def test_bad_rows_of_parquet_tell_their_number_and_all_their_cells(self, room: Room) -> None:
        path = room.root / "t.parquet"
        table = pa.table({"id": ["m1", "m2", "m3"], "n": [1.0, 2.5, 99.0], "more": ["p", "q", "r"]})
        pq.write_table(table, path, row_group_size=2)
        mapping = "tables: {meter: {columns: {meter_id: id, count: n}}}"
        report = room.ingest(path, mapping)
        assert reasons(room, report) == [(2, "n", "NOT_WHOLE"), (3, "n", "OUT_OF_RANGE")]
        assert room.bad(report)[0]["raw"] == '{"id": "m2", "n": 2.5, "more": "q"}'

    @given(
        st.lists(
            st.tuples(
                st.one_of(st.none(), st.integers(-5, 40), st.floats(-5, 40).map(lambda x: x / 4)),
                st.one_of(st.none(), st.booleans()),
                st.one_of(st.none(), st.dates(date(1990, 1, 1), date(2030, 1, 1))),
            ),
            min_size=1,
            max_size=6,
        )
    )
    @settings(max_examples=10, deadline=None)
    def test_text_and_types_agree(
        self, tmp_path_factory: pytest.TempPathFactory, cells: list[tuple[Any, ...]]
    ) -> None:
        mapping = """
            tables:
              meter:
                columns: {meter_id: id, count: n, label: {column: n, missing: ["", "7"]},
                          level: {column: n, missing: ["", "7"]}, is_on: f, since: d}
        """
        rows = [{"id": f"m{at}", "n": n, "f": f, "d": d} for at, (n, f, d) in enumerate(cells)]
        number = pa.float64() if any(isinstance(n, float) for n, _, _ in cells) else pa.int64()
        schema = pa.schema(
            [("id", pa.string()), ("n", number), ("f", pa.bool_()), ("d", pa.date32())]
        )
        typed, text = (Room(tmp_path_factory.mktemp("room")) for _ in range(2))
        table = pa.Table.from_pylist(rows, schema)
        pq.write_table(table, typed.root / "t.parquet")
        written = io.StringIO()
        plain = csv.writer(written)
        plain.writerow(["id", "n", "f", "d"])
        for row in table.to_pylist():
            shown = [int(c) if isinstance(c, float) and c.is_integer() else c for c in row.values()]
            plain.writerow([str(c).lower() if isinstance(c, bool) else c for c in shown])
        by_type = typed.ingest(typed.root / "t.parquet", mapping)
        by_text = text.ingest(written.getvalue(), mapping)
        assert typed.table().equals(text.table())
        assert by_type["meter"].reasons == by_text["meter"].reasons
