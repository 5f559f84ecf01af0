"""The record scanner against a plain walk over the characters, and against Arrow's parser."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bihuan.data import records as module
from bihuan.data.encoding import UnreadableSourceError
from bihuan.data.records import (
    Dialect,
    Piece,
    Records,
    count_lines,
    find_records,
    first_record,
    pieces,
    split_fields,
)

from .record_walk import COMMA, Found, walk

TEXT = st.text(alphabet='ab,"\n\r', max_size=40).map(str.encode)


def told(data: bytes, records: Records, first_line: int = 0) -> Found:
    return [
        (data[start:end], first_line + line, width)
        for start, end, line, width in zip(
            records.start.tolist(),
            records.end.tolist(),
            records.line.tolist(),
            records.width.tolist(),
            strict=True,
        )
    ]


def cuts(data: bytes, places: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return (data[a:b] for a, b in pairwise(edges))


class TestFindRecords:
    @given(TEXT, st.integers(1, 3))
    @example(b'a,"b\nc",d\n', 3)
    @example(b'a,"b\nc,d\n1,2,3\n', 3)
    @example(b'"a,1\n"b",2\n', 2)
    @example(b"a\r\n\r\nb\rc\n\n", 1)
    @settings(max_examples=200, deadline=None)
    def test_finds_what_a_plain_walk_finds(self, data: bytes, width: int) -> None:
        assert told(data, find_records(data, COMMA, width, final=True)) == walk(data, width)

    def test_first_line_of_an_unclosed_quote_is_broken_and_reading_goes_on(self) -> None:
        data = b'1,"open\n2,b\n3,"c"\n'
        assert told(data, find_records(data, COMMA, 2, final=True)) == [
            (b'1,"open', 0, 0),
            (b"2,b", 1, 2),
            (b'3,"c"', 2, 2),
        ]

    def test_twin_that_trusts_every_quote_loses_rows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_well_formed", lambda *_: True)
        data = b'1,5" pipe\n2,b\n3,7" pipe\n'
        assert told(data, find_records(data, COMMA, 2, final=True)) != walk(data, 2)

    @given(TEXT)
    @settings(max_examples=120, deadline=None)
    def test_arrow_reads_the_same_whole_records(self, data: bytes) -> None:
        records = find_records(data, COMMA, 2, final=True)
        good = [record for record, _, width in told(data, records) if width == 2]
        if not good:
            return
        table = arrow_csv.read_csv(
            pa.BufferReader(b"\n".join(good)),
            arrow_csv.ReadOptions(column_names=["x", "y"]),
            arrow_csv.ParseOptions(newlines_in_values=True),
            arrow_csv.ConvertOptions(
                column_types={"x": pa.string(), "y": pa.string()}, strings_can_be_null=False
            ),
        )
        cells = [[cell.decode() for cell in split_fields(record, COMMA)] for record in good]
        assert [list(row.values()) for row in table.to_pylist()] == cells


class TestPieces:
    @given(TEXT, st.lists(st.integers(0, 40), max_size=6), st.integers(1, 3))
    @settings(max_examples=200, deadline=None)
    def test_where_the_chunks_are_cut_does_not_matter(
        self, data: bytes, places: list[int], width: int
    ) -> None:
        found: Found = []
        for piece in pieces(cuts(data, places), COMMA, width, 0):
            records = piece.records or find_records(piece.data, COMMA, width, final=True)
            found += told(piece.data, records, piece.first_line)
        assert found == walk(data, width)

    def test_gives_up_on_a_quote_that_stays_open_for_too_long(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "MAX_RECORD_BYTES", 50)
        data = b'1,"open\n' + b"2,b\n" * 100
        chunks = [data[at : at + 64] for at in range(0, len(data), 64)]
        given = list(pieces(chunks, COMMA, 2, 1))
        assert len(given) > 1, "the open quote holds everything back"
        assert sum(len(piece.data) for piece in given) == len(data)
        assert [row for piece in given for row in piece_rows(piece)].count((b"2,b", 2)) == 100

    def test_text_without_line_ends_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "MAX_LINE_BYTES", 100)
        with pytest.raises(UnreadableSourceError, match="Line 7 is longer"):
            list(pieces([b"x" * 60] * 3, COMMA, 2, 7))


def piece_rows(piece: Piece) -> list[tuple[bytes, int]]:
    records = piece.records or find_records(piece.data, COMMA, 2, final=True)
    return [(record, width) for record, _, width in told(piece.data, records)]


class TestFirstRecord:
    @pytest.mark.parametrize(
        ("data", "expected"),
        [
            (b"\n\r\na,b\r\nc", b"a,b"),
            (b'"a\nb",c\nd', b'"a\nb",c'),
            (b"a,b", b"a,b"),
            (b'a,"b\nc,d\n', b'a,"b'),
        ],
    )
    def test_is_the_first_that_is_not_empty(self, data: bytes, expected: bytes) -> None:
        place = first_record(data, COMMA)
        assert place is not None
        assert data[slice(*place)] == expected

    def test_of_blank_text_is_none(self) -> None:
        assert first_record(b"\n\r\n", COMMA) is None


class TestSplitFields:
    @given(st.lists(st.text(alphabet='ab,"\n', max_size=5), min_size=1, max_size=4))
    def test_undoes_quoting(self, cells: list[str]) -> None:
        quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells).encode()
        assert [cell.decode() for cell in split_fields(quoted, COMMA)] == cells

    def test_without_quote_sign_quotes_are_text(self) -> None:
        assert split_fields(b'"a",b"', Dialect(b",", b"")) == [b'"a"', b'b"']


class TestCountLines:
    @given(st.text(alphabet="a\n\r", max_size=30).map(str.encode))
    def test_counts_what_python_counts(self, data: bytes) -> None:
        assert count_lines(data) == len((data + b"x").splitlines()) - 1

    def test_every_kind_of_line_end(self) -> None:
        assert count_lines(b"a\r\nb\nc\rd") == 3
        assert np.asarray(find_records(b"a\r\nb\nc\rd", COMMA, 1, final=True).line).tolist() == [
            0,
            1,
            2,
            3,
        ]
