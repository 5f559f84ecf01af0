"""Delimited text as a source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
from numpy.typing import NDArray

from bihuan.data.block import Block, SourceFacts, Trace, Unreadable
from bihuan.data.encoding import (
    EmptySourceError,
    UnreadableSourceError,
    inspect_text,
    original_bytes,
    readable,
    utf8_chunks,
)
from bihuan.data.mapping import SourceFormat
from bihuan.data.reasons import Reason
from bihuan.data.records import (
    Dialect,
    Piece,
    Records,
    count_lines,
    find_records,
    find_whole_records,
    first_record,
    offset_of_line,
    pieces,
    split_fields,
)
from bihuan.kernel import DefectError

_DELIMITERS = (b",", b"\t", b";", b"|", b"^")
_SNIFF_LINES = 100
_ARROW_BLOCK = 1 << 20


class CsvSource:
    """A delimited text file, plain or gzip; see :class:`~bihuan.data.block.RowSource`.

    Parameters
    ----------
    path
        The file.
    form
        What the mapping says about it.
    advance
        Told the bytes looked at while the file is inspected.

    Raises
    ------
    UnreadableSourceError
        If the file is empty, has no row, is cut off, or its encoding cannot be told.
    """

    def __init__(
        self, path: Path, form: SourceFormat, advance: Callable[[int], None] = lambda amount: None
    ) -> None:
        self._path = path
        self._stamp = _stamp(path)
        self._text = text = inspect_text(path, form.encoding, advance)
        if text.size <= text.bom:
            raise empty_source(path.name)
        self._skip = form.skip_lines
        head = next(utf8_chunks(path, text), b"")
        lines = head[: 1 << 20].splitlines()[form.skip_lines : form.skip_lines + _SNIFF_LINES]
        quote = form.quote.encode()
        delimiter = form.delimiter.encode() if form.delimiter else sniff_delimiter(lines, quote)
        self._dialect = Dialect(delimiter, quote)
        self._has_header = not form.columns
        self._columns = form.columns or self._header(head)
        self.facts = SourceFacts(
            name=path.name,
            format="csv",
            sha256=text.sha256,
            columns=self._columns,
            total=float(text.size),
            unit="bytes",
            details={"encoding": text.encoding, "delimiter": delimiter.decode()},
        )

    def blocks(self, columns: Collection[str]) -> Iterator[Block]:
        """Yield all records in order, with the text of ``columns``."""
        wanted = [name for name in self._columns if name in columns] or [self._columns[0]]
        chunks = utf8_chunks(self._path, self._text)
        rest, first_line = self._body(chunks)
        number = 1
        for piece in pieces(rest, self._dialect, len(self._columns), first_line):
            block = self._block(piece, wanted, number)
            number += len(block.records) + len(block.unreadable)
            yield block
        if number == 1:
            raise empty_source(self._path.name)
        if _stamp(self._path) != self._stamp:
            raise UnreadableSourceError(
                f"{self._path.name} was changed while it was read.",
                remedy="Wait until it is written, then run again.",
                zh=f"{self._path.name} 在读取过程中被改动,请等文件写完后重试。",
            )

    def close(self) -> None:
        """Nothing is held open."""

    def _header(self, head: bytes) -> tuple[str, ...]:
        body = head[offset_of_line(head, self._skip) :]
        place = first_record(body, self._dialect)
        if place is None:
            raise empty_source(self._path.name)
        names = split_fields(body[slice(*place)], self._dialect)
        return unique_names([readable(name).strip() for name in names])

    def _body(self, chunks: Iterator[bytes]) -> tuple[Iterator[bytes], int]:
        """Skip to the first record; return the text from there and its physical line."""
        head = next(chunks, b"")
        start = offset_of_line(head, self._skip)
        place = first_record(head[start:], self._dialect) if self._has_header else None
        if place is not None:
            start += place[1]
            start += 2 if head[start : start + 2] == b"\r\n" else 1
        first_line = count_lines(head[:start]) + 1

        def rest() -> Iterator[bytes]:
            yield head[start:]
            yield from chunks

        return rest(), first_line

    def _block(self, piece: Piece, wanted: list[str], number: int) -> Block:
        table = self._parse(piece.data, wanted, piece.records) if self._is_sound(piece) else None
        if table is None:
            return self._careful_block(piece, wanted, number)
        records = np.arange(number, number + table.num_rows, dtype=np.int64)

        def trace(rows: Sequence[int]) -> list[Trace]:
            found = piece.records or find_whole_records(piece.data, len(self._columns))
            if found.start.size != table.num_rows:
                raise self._disagreement(piece, found.start.size, table.num_rows)
            return [self._trace(piece, found, row, number + row) for row in rows]

        blanks = _has_blanks(piece.data, self._dialect)
        return Block(table, records, len(piece.data), trace, has_blanks=blanks)

    def _is_sound(self, piece: Piece) -> bool:
        """Tell whether the parser may be trusted with a piece as it is."""
        if b"\0" in piece.data or not (self._text.is_strict or _is_utf8(piece.data)):
            return False
        # Arrow takes a quote that closes in the middle of a later line for a whole cell
        return piece.records is None or bool((piece.records.width == len(self._columns)).all())

    def _careful_block(self, piece: Piece, wanted: list[str], number: int) -> Block:
        """Set the broken records aside and parse the others."""
        found = self._find(piece)
        undecodable = _undecodable(piece.data, found)
        blank = _blank(piece.data, found, len(self._columns))
        broken = (undecodable | (found.width != len(self._columns))) & ~blank
        numbers = number - 1 + np.cumsum(~blank)
        good = np.flatnonzero(~broken & ~blank)
        runs = np.split(good, np.flatnonzero(np.diff(good) > 1) + 1)
        text = b"\n".join(
            piece.data[found.start[run[0]] : found.end[run[-1]]] for run in runs if run.size
        )
        table = self._parse(text, wanted, found)
        if table is None or table.num_rows != good.size:
            raise self._disagreement(piece, good.size, -1 if table is None else table.num_rows)

        def trace(rows: Sequence[int]) -> list[Trace]:
            return [
                self._trace(piece, found, at, int(numbers[at])) for at in good[list(rows)].tolist()
            ]

        unreadable = tuple(
            self._unreadable(piece, found, at, int(numbers[at]), bad_bytes=bool(undecodable[at]))
            for at in np.flatnonzero(broken).tolist()
        )
        return Block(table, numbers[good], len(piece.data), trace, unreadable)

    def _parse(self, text: bytes, wanted: list[str], records: Records | None) -> pa.Table | None:
        """Parse whole records; None if one of them is broken."""
        if not text:
            return pa.table({name: pa.array([], pa.string()) for name in wanted})
        broken: list[str] = []

        def skip(row: arrow_csv.InvalidRow) -> str:
            broken.append(row.text)
            return "skip"

        longest = int((records.end - records.start).max()) if records and records.end.size else 0
        quote = self._dialect.quote.decode()
        slots = [f"c{index}" for index in range(len(self._columns))]
        try:
            table = arrow_csv.read_csv(
                pa.BufferReader(text),
                read_options=arrow_csv.ReadOptions(
                    column_names=slots, block_size=max(_ARROW_BLOCK, 2 * longest)
                ),
                parse_options=arrow_csv.ParseOptions(
                    delimiter=self._dialect.delimiter.decode(),
                    quote_char=quote or False,
                    newlines_in_values=bool(quote) and self._dialect.quote in text,
                    invalid_row_handler=skip,
                ),
                convert_options=arrow_csv.ConvertOptions(
                    include_columns=[slots[self._columns.index(name)] for name in wanted],
                    column_types=dict.fromkeys(slots, pa.string()),
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid:  # bytes that are no UTF-8, or a record longer than Arrow's block
            return None
        return None if broken else table.rename_columns(wanted)

    def _find(self, piece: Piece) -> Records:
        if piece.records is not None:
            return piece.records
        return find_records(piece.data, self._dialect, len(self._columns), final=True)

    def _trace(self, piece: Piece, found: Records, at: int, number: int) -> Trace:
        record = piece.data[found.start[at] : found.end[at]]
        cells = [readable(cell) for cell in split_fields(record, self._dialect)]
        line = piece.first_line + int(found.line[at])
        return Trace(number, line, dict(zip(self._columns, cells, strict=True)))

    def _unreadable(
        self, piece: Piece, found: Records, at: int, number: int, *, bad_bytes: bool
    ) -> Unreadable:
        record = piece.data[found.start[at] : found.end[at]]
        raw = original_bytes(record, self._text.encoding)
        trace = Trace(number, piece.first_line + int(found.line[at]), {}, raw)
        if bad_bytes:
            return Unreadable(trace, Reason.BAD_BYTES, readable(record))
        if not found.width[at]:
            return Unreadable(trace, Reason.UNCLOSED_QUOTE, readable(record))
        numbers = f"{found.width[at]} ≠ {len(self._columns)}"
        return Unreadable(trace, Reason.RAGGED_ROW, readable(record), numbers)

    def _disagreement(self, piece: Piece, expected: int, parsed: int) -> DefectError:
        return DefectError(
            f"{self._path.name} from line {piece.first_line} on: {expected} records, "
            f"parsed {parsed}."
        )


def sniff_delimiter(lines: Sequence[bytes], quote: bytes) -> bytes:
    r"""Choose the delimiter that divides the first lines most evenly.

    Parameters
    ----------
    lines
        The first lines, header included.
    quote
        Quote sign or empty; what stands between two quotes does not count.

    Returns
    -------
    bytes
        One of comma, tab, semicolon, bar and caret; a comma if there is only one column.

    Examples
    --------
    >>> sniff_delimiter([b"id;name,first;age", b'1;"a;b";3'], b'"')
    b';'
    """
    best, best_score = b",", (0.0, 0)
    bare = [b"".join(line.split(quote)[0::2]) if quote else line for line in lines]
    for delimiter in _DELIMITERS:
        counts = Counter(line.count(delimiter) for line in bare)
        if not counts:
            continue
        number, lines_alike = counts.most_common(1)[0]
        score = (lines_alike / len(bare) if number else 0.0, number)
        if score > best_score:
            best, best_score = delimiter, score
    return best


def unique_names(names: Sequence[str]) -> tuple[str, ...]:
    """Give nameless columns a name and repeated ones a number.

    Examples
    --------
    >>> unique_names(["id", "", "id"])
    ('id', 'column_2', 'id#2')
    """
    seen: Counter[str] = Counter()
    result = []
    for place, name in enumerate(names, start=1):
        word = name or f"column_{place}"
        seen[word] += 1
        result.append(word if seen[word] == 1 else f"{word}#{seen[word]}")
    return tuple(result)


def empty_source(name: str) -> EmptySourceError:
    """Make the error of a source without rows."""
    return EmptySourceError(
        f"{name} has no rows.",
        remedy="Check that the right file was given and that it was written to the end; where a "
        "month may be without rows, write 'may_be_empty: true' in the mapping.",
        zh=f"{name} 没有数据行,请确认文件无误且已写完;确有可能为空的月份,"
        "请在映射中写明 may_be_empty: true。",
    )


def _has_blanks(data: bytes, dialect: Dialect) -> bool:
    """Tell whether a cell may begin or end with white space; cheap, and true when in doubt."""
    if not data.isascii() or (dialect.quote and dialect.quote in data):
        return True
    blanks = set(b" \t\x0b\x0c\x1c\x1d\x1e\x1f") - {dialect.delimiter[0]}
    return any(blank in data for blank in blanks)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _undecodable(data: bytes, found: Records) -> NDArray[np.bool_]:
    """Tell the records that hold a zero byte or bytes that are no UTF-8."""
    flags = np.zeros(found.start.size, dtype=np.bool_)
    text = np.frombuffer(data, dtype=np.uint8)
    suspects = np.flatnonzero((text >= 0x80) | (text == 0))
    for at in np.unique(np.searchsorted(found.start, suspects, "right") - 1).tolist():
        record = data[found.start[at] : found.end[at]]
        try:
            flags[at] = at >= 0 and "\0" in record.decode()
        except UnicodeDecodeError:
            flags[at] = True
    return flags


def _blank(data: bytes, found: Records, width: int) -> NDArray[np.bool_]:
    """Tell the lines that hold blanks alone (or the end mark of DOS), which are no records."""
    flags = np.zeros(found.start.size, dtype=np.bool_)
    for at in np.flatnonzero(found.width != width).tolist():
        flags[at] = not data[found.start[at] : found.end[at]].strip(b" \t\x1a")
    return flags


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns
