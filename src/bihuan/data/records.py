"""Cuts delimited text into records without reading their cells, and finds the broken ones.

The cells are parsed by Arrow, which is fast but neither says where a bad row stands nor gets past
an unclosed quote. This module knows where every record begins, in which physical line, and how
many fields it has. Clean text without quotes costs one search for the last line end; text with
quotes is scanned with vector operations; only text whose quotes are broken is walked record by
record.

Rules: RFC 4180; a quote counts only at the beginning of a field; a line ends with CR LF, LF or
CR; an empty line is no record; a record may span lines within quotes, but if it then has a wrong
number of fields, or its quote closes in the middle of a cell, its first line alone is broken and
reading goes on with the next line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bihuan.data.encoding import UnreadableSourceError

MAX_RECORD_BYTES = 1 << 20  # a quoted field that is longer was never closed
MAX_LINE_BYTES = 64 << 20
_CR, _LF = 13, 10


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields are set apart: ASCII bytes; ``quote`` may be empty."""

    delimiter: bytes
    quote: bytes


@dataclass(frozen=True, slots=True)
class Records:
    """Where the records of a piece of text stand.

    Parameters
    ----------
    start, end
        Byte positions, shape ``(n,)``; ``end`` excludes the line end.
    line
        Physical line within the piece on which the record begins, from 0, shape ``(n,)``.
    width
        Number of fields, shape ``(n,)``; 0 for a first line whose quote is never closed.
    consumed
        Bytes that are done with; the rest waits for more text.
    """

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    line: NDArray[np.int64]
    width: NDArray[np.int64]
    consumed: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Whole records.

    Parameters
    ----------
    data
        Their bytes.
    first_line
        Physical line of the file on which they begin, from 1.
    records
        Where they stand; None where nobody had to look yet (no quotes inside).
    """

    data: bytes
    first_line: int
    records: Records | None


def pieces(
    chunks: Iterable[bytes], dialect: Dialect, width: int, first_line: int
) -> Iterator[Piece]:
    """Cut a stream of text into pieces of whole records.

    Parameters
    ----------
    chunks
        UTF-8 (or any text in which ASCII bytes stand for themselves), cut anywhere.
    dialect
        Delimiter and quote.
    width
        Number of fields that a record should have.
    first_line
        Physical line on which the text begins, from 1.
    """
    rest = b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        piece, consumed = _cut(data, dialect, width, first_line)
        rest = data[consumed:]
        if piece is not None:
            yield piece
            first_line += count_lines(piece.data)
        if len(rest) > MAX_LINE_BYTES:
            raise UnreadableSourceError(
                f"Line {first_line} is longer than {MAX_LINE_BYTES >> 20} MB.",
                remedy="Check that the file is a table of text with line ends.",
                zh=f"第 {first_line} 行过长,请确认文件是带换行的文本表格。",
            )
    if rest:
        has_quote = bool(dialect.quote) and dialect.quote in rest
        records = find_records(rest, dialect, width, final=True) if has_quote else None
        yield Piece(rest, first_line, records)


def find_records(data: bytes, dialect: Dialect, width: int, *, final: bool) -> Records:
    """Find every record of ``data``.

    Parameters
    ----------
    data
        Text that begins with a record.
    dialect
        Delimiter and quote.
    width
        Number of fields that a record should have.
    final
        Whether the text ends here; otherwise an unfinished last record is left over.
    """
    found = _scan(data, dialect, width, final=final)
    return found if found is not None else _walk(data, dialect, width, final=final)


def find_whole_records(data: bytes, width: int) -> Records:
    """Find the records of text without quotes that is known to have ``width`` fields in each."""
    line_ends = _line_ends(data, final=True)
    start, end = _spans(data, line_ends)
    line = np.searchsorted(line_ends, start)
    return Records(start, end, line, np.full(start.size, width, dtype=np.int64), len(data))


def split_fields(record: bytes, dialect: Dialect) -> list[bytes]:
    """Return the cells of one record, unquoted.

    Examples
    --------
    >>> split_fields(b"a,'b,''c''',d' e", Dialect(b",", b"'"))
    [b'a', b"b,'c'", b"d' e"]
    """
    quote, delimiter = dialect.quote, dialect.delimiter
    cells, position = [], 0
    while True:
        cell = b""
        if quote and record.startswith(quote, position):
            close = _closing_quote(record, position, quote, len(record))
            inside = record[position + 1 : close if close >= 0 else len(record)]
            cell = inside.replace(quote * 2, quote)
            position = close + 1 if close >= 0 else len(record)
        end = record.find(delimiter, position)
        cells.append(cell + record[position : end if end >= 0 else len(record)])
        if end < 0:
            return cells
        position = end + 1


def first_record(data: bytes, dialect: Dialect) -> tuple[int, int] | None:
    """Return where the first record of ``data`` begins and ends; None if there is none."""
    head = data[:MAX_RECORD_BYTES]
    line_ends = _line_ends(head, final=True).tolist()
    start = 0
    for line, stop in enumerate(line_ends):
        text = head[start:stop].rstrip(b"\r")
        if text:
            last, fields = _record_from(head, start, line, line_ends, dialect)
            end = line_ends[last if fields > 0 else line]
            return start, start + len(head[start:end].rstrip(b"\r"))
        start = stop + 1
    return None


def offset_of_line(data: bytes, lines: int) -> int:
    """Return where the physical line after the first ``lines`` begins."""
    return sum(len(line) for line in data.splitlines(keepends=True)[:lines]) if lines else 0


def count_lines(data: bytes) -> int:
    """Return the number of line ends: CR LF, LF or CR."""
    lines = data.count(b"\n")
    if b"\r" in data:
        lines += data.count(b"\r") - data.count(b"\r\n")
    return lines


def _cut(data: bytes, dialect: Dialect, width: int, first_line: int) -> tuple[Piece | None, int]:
    if dialect.quote and dialect.quote in data:
        records = find_records(data, dialect, width, final=False)
        consumed = records.consumed
    else:
        records = None
        # a CR at the very end may be the first half of CR LF
        consumed = max(data.rfind(b"\n"), data.rfind(b"\r", 0, len(data) - 1)) + 1
    return (Piece(data[:consumed], first_line, records) if consumed else None), consumed


def _scan(data: bytes, dialect: Dialect, width: int, *, final: bool) -> Records | None:
    """Find the records with vector operations; None if the quotes are not well formed."""
    text = np.frombuffer(data, dtype=np.uint8)
    line_ends = _line_ends(data, final=final)
    delimiters = text == dialect.delimiter[0]
    ends = line_ends
    has_quotes = bool(dialect.quote) and dialect.quote in data
    if has_quotes:
        is_quote = text == dialect.quote[0]
        inside = (np.cumsum(is_quote, dtype=np.uint8) & 1).astype(np.bool_)
        if not _well_formed(text, np.flatnonzero(is_quote), dialect):
            return None
        delimiters &= ~inside
        ends = line_ends[~inside[np.minimum(line_ends, text.size - 1)]]
        left = text.size - (int(ends[-1]) + 1 if ends.size else 0)
        if (final and bool(inside[-1])) or left > MAX_RECORD_BYTES:
            return None
    consumed = int(min(ends[-1] + 1, text.size)) if ends.size else 0
    start, end = _spans(data, ends)
    counted = np.cumsum(delimiters, dtype=np.int32)
    widths = (counted[end - 1] - counted[start] + delimiters[start]).astype(np.int64) + 1
    line = np.searchsorted(line_ends, start)
    if has_quotes:
        last = np.searchsorted(line_ends, end)
        if bool(((widths != width) & (last > line)).any()):
            return None
    return Records(start, end, line, widths, consumed)


def _spans(data: bytes, ends: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where the records between line ends begin and end; empty lines are none."""
    start = np.concatenate([np.zeros(min(1, ends.size), np.int64), ends[:-1] + 1])
    end = ends
    if ends.size and b"\r\n" in data:
        text = np.frombuffer(data, dtype=np.uint8)
        pair = text[np.maximum(ends - 1, 0)] == _CR
        pair &= text[np.minimum(ends, text.size - 1)] == _LF
        end = ends - (pair & (ends > start) & (ends < text.size))
    kept = end > start
    return (start, end) if kept.all() else (start[kept], end[kept])


def _line_ends(data: bytes, *, final: bool) -> NDArray[np.int64]:
    """Return the position of the last byte of every line end, and the text's end if final."""
    text = np.frombuffer(data, dtype=np.uint8)
    is_end = text == _LF
    if b"\r" in data:
        alone = text == _CR
        alone[:-1] &= ~is_end[1:]
        if not final:  # it may be the first half of CR LF
            alone[-1] = False
        is_end |= alone
    ends = np.flatnonzero(is_end)
    if final and text.size and (not ends.size or ends[-1] != text.size - 1):
        ends = np.append(ends, text.size)
    return ends


def _well_formed(text: NDArray[np.uint8], quotes: NDArray[np.int64], dialect: Dialect) -> bool:
    """Tell whether quotes open only where a field begins and close only where it ends."""
    around = np.zeros(256, dtype=np.bool_)
    around[[_CR, _LF, dialect.delimiter[0]]] = True
    opening, closing = quotes[0::2], quotes[1::2]
    twin = np.diff(quotes) == 1  # the second half of a doubled quote follows the first
    opens = (opening == 0) | around[text[np.maximum(opening - 1, 0)]]
    opens[1:] |= twin[1::2][: opens.size - 1]
    if not opens.all():
        return False
    beyond = np.minimum(closing + 1, text.size - 1)
    closes = (closing == text.size - 1) | around[text[beyond]]
    pairs = twin[1::2]
    closes[: pairs.size] |= pairs
    return bool(closes.all())


def _walk(data: bytes, dialect: Dialect, width: int, *, final: bool) -> Records:
    """Find the records one by one; gets past quotes that are never closed."""
    line_ends = _line_ends(data, final=final).tolist()
    rows: list[tuple[int, int, int, int]] = []
    line = position = 0
    while line < len(line_ends):
        last, fields = _record_from(data, position, line, line_ends, dialect)
        if fields == 0 and not final and len(data) - position <= MAX_RECORD_BYTES:
            break
        too_long = line_ends[last] - position > MAX_RECORD_BYTES
        if fields <= 0 or (last > line and (fields != width or too_long)):
            last, fields = line, 0
        stop = line_ends[last]
        end = stop - 1 if data[stop - 1 : stop + 1] == b"\r\n" and stop > position else stop
        if end > position:
            rows.append((position, end, line, fields))
        position, line = min(stop + 1, len(data)), last + 1
    table = np.array(rows, dtype=np.int64).reshape(-1, 4)
    return Records(table[:, 0], table[:, 1], table[:, 2], table[:, 3], position)


def _record_from(
    data: bytes, position: int, line: int, line_ends: list[int], dialect: Dialect
) -> tuple[int, int]:
    """Return the last line and the number of fields of one record.

    0 fields: a quote stays open. -1: a quote closes in a later line in the middle of a cell, so
    it is the opening quote of another record.
    """
    fields, first_line = 1, line
    quote = dialect.quote
    while True:
        if quote and data.startswith(quote, position):
            close = _closing_quote(data, position, quote, len(data))
            if close < 0:
                return line, 0
            position = close + 1
            while line_ends[line] < position:
                line += 1
                if line == len(line_ends):  # the quote closes in a line that is not whole yet
                    return line, 0
            if line > first_line and not _ends_cell(data, position, line_ends[line], dialect):
                return line, -1
        mark = data.find(dialect.delimiter, position, line_ends[line])
        if mark < 0:
            return line, fields
        fields += 1
        position = mark + 1


def _ends_cell(data: bytes, position: int, line_end: int, dialect: Dialect) -> bool:
    return data[position : position + 1] == dialect.delimiter or data[position : line_end + 1] in (
        b"",
        b"\n",
        b"\r",
        b"\r\n",
    )


def _closing_quote(data: bytes, opening: int, quote: bytes, stop: int) -> int:
    position = opening + 1
    while True:
        found = data.find(quote, position, stop)
        if found < 0 or data[found + 1 : found + 2] != quote:
            return found
        position = found + 2
