"""Sources whose cells already have types: Parquet, Excel and SPSS files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from bihuan.data.block import BLOCK_ROWS, Block, SourceFacts, Trace, as_text, plain
from bihuan.data.encoding import UnreadableSourceError, file_sha256
from bihuan.data.mapping import SourceFormat, near
from bihuan.data.source_csv import empty_source, unique_names


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows of a table.

    Parameters
    ----------
    rows
        The asked columns.
    lines
        Where each row stands (row of a sheet); None where that is its number.
    whole
        Gives the same rows with every column, for those few that go to quarantine.
    """

    rows: pa.Table
    lines: NDArray[np.int64] | None
    whole: Callable[[], pa.Table]


@dataclass(frozen=True, slots=True)
class SqlTable:
    """Which table or view to read.

    Parameters
    ----------
    url
        SQLAlchemy URL; its password is shown nowhere.
    table
        Table or view.
    schema
        Its schema; None takes the connection's default.
    """

    url: str = field(repr=False)
    table: str
    schema: str | None = None


class TableSource:
    """Rows with types; see :class:`~bihuan.data.block.RowSource`.

    Parameters
    ----------
    facts
        What is known of it.
    chunks
        Opens the source anew and yields its rows with the asked columns.
    """

    def __init__(
        self, facts: SourceFacts, chunks: Callable[[Sequence[str]], Iterable[Chunk]]
    ) -> None:
        self.facts = facts
        self._chunks = chunks

    def blocks(self, columns: Collection[str]) -> Iterator[Block]:
        """Yield all records in order, with the cells of ``columns``."""
        wanted = [name for name in self.facts.columns if name in columns]
        wanted = wanted or [self.facts.columns[0]]  # rows without columns would have no number
        number = 1
        for chunk in self._chunks(wanted):
            yield _block(chunk, number)
            number += chunk.rows.num_rows
        if number == 1:
            raise empty_source(self.facts.name)

    def close(self) -> None:
        """Nothing is held open."""


def _block(chunk: Chunk, number: int) -> Block:
    rows = pa.table(
        {name: simple_column(chunk.rows.column(name)) for name in chunk.rows.column_names}
    )
    records = np.arange(number, number + rows.num_rows, dtype=np.int64)
    lines = records if chunk.lines is None else chunk.lines

    def trace(indexes: Sequence[int]) -> list[Trace]:
        found = chunk.whole().take(pa.array(indexes, pa.int64())).to_pylist()
        return [
            Trace(int(records[at]), int(lines[at]), {key: plain(cell) for key, cell in row.items()})
            for at, row in zip(indexes, found, strict=True)
        ]

    return Block(rows, records, rows.num_rows, trace)


def simple_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as one of the types that the queries know.

    Text, whole number, float, decimal, truth value, date or timestamp in microseconds; all else
    (times of day, lists, ...) becomes text.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return simple_column(column.cast(kind.value_type))
    for test, stored in _ALIKE:
        if test(kind):
            return column.cast(stored)
    if pa.types.is_timestamp(kind):
        return column.cast(pa.timestamp("us", kind.tz), safe=False)
    if any(test(kind) for test in _KNOWN):
        return column
    return pa.chunked_array([pa.array([as_text(cell) for cell in column.to_pylist()], pa.string())])


_ALIKE = (
    (pa.types.is_date64, pa.date32()),
    (pa.types.is_float16, pa.float32()),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
)
_KNOWN = (
    pa.types.is_string,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_boolean,
    pa.types.is_date32,
)


def trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a text column without white space around its cells; other columns as they are."""
    return pc.utf8_trim_whitespace(column) if pa.types.is_string(column.type) else column


def open_parquet(path: Path) -> TableSource:
    """Open a Parquet file.

    Raises
    ------
    UnreadableSourceError
        If it is cut off or no Parquet file.
    """
    try:
        with pq.ParquetFile(path) as file:
            names, rows = file.schema_arrow.names, file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, "Parquet", error) from error

    # a bad row's block may be looked at after the file was read on, so it opens the file anew
    @lru_cache(maxsize=1)
    def whole(group: int) -> pa.Table:
        with pq.ParquetFile(path) as file:
            return file.read_row_group(group)

    def chunks(columns: Sequence[str]) -> Iterator[Chunk]:
        try:
            with pq.ParquetFile(path) as file:
                for group in range(file.num_row_groups):
                    table = file.read_row_group(group, columns=list(columns))
                    for start in range(0, table.num_rows, BLOCK_ROWS):
                        rows = table.slice(start, BLOCK_ROWS)
                        yield Chunk(rows, None, partial(_slice, whole, group, start))
        except (pa.ArrowException, OSError) as error:
            raise damaged(path, "Parquet", error) from error

    facts = SourceFacts(path.name, "parquet", file_sha256(path), tuple(names), float(rows))
    return TableSource(facts, chunks)


def _slice(whole: Callable[[int], pa.Table], group: int, start: int) -> pa.Table:
    return whole(group).slice(start, BLOCK_ROWS)


def open_excel(path: Path, form: SourceFormat) -> TableSource:
    """Open one sheet of a workbook (xlsx, xlsm, xlsb, xls, ods).

    The first row that is not empty is the header. Cells come as text, dates in ISO form, because
    a sheet's column may hold anything.

    Raises
    ------
    UnreadableSourceError
        If it is cut off, no workbook, or has no such sheet.
    """
    # imported here: most runs read no workbook
    from python_calamine import CalamineError, CalamineWorkbook

    try:
        with CalamineWorkbook.from_path(str(path)) as book:
            names = book.sheet_names
            sheet_name = form.sheet or (names[0] if names else "")
            if sheet_name not in names:
                raise UnreadableSourceError(
                    f"{path.name} has no sheet '{sheet_name}'.",
                    remedy=near(sheet_name, names),
                    zh=f"{path.name} 中没有工作表“{sheet_name}”,现有:{'、'.join(names)}。",
                )
            cells = book.get_sheet_by_name(sheet_name).to_python(skip_empty_area=False)
    except (CalamineError, OSError) as error:
        raise damaged(path, "Excel", error) from error
    rows = [
        (line, row)
        for line, row in enumerate(cells, start=1)
        if line > form.skip_lines and any(cell != "" for cell in row)
    ]
    header = form.columns or unique_names(
        [str(as_text(cell)).strip() for cell in (rows.pop(0)[1] if rows else [])]
    )
    if not header:
        raise empty_source(f"{path.name} [{sheet_name}]")

    def chunks(columns: Sequence[str]) -> Iterator[Chunk]:
        for part in _batched(rows):
            lines = np.array([line for line, _ in part], dtype=np.int64)
            whole = _text_table(header, [row for _, row in part])
            yield Chunk(whole.select(list(columns)), lines, partial(itself, whole))

    facts = SourceFacts(
        name=f"{path.name} [{sheet_name}]",
        format="excel",
        sha256=file_sha256(path),
        columns=tuple(header),
        total=float(len(rows)),
        details={"sheet": sheet_name},
    )
    return TableSource(facts, chunks)


def _batched(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    return (rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS))


def _text_table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> pa.Table:
    columns = zip(*rows, strict=True)
    return pa.table(
        {
            name: pa.array([as_text(cell) for cell in column], pa.string())
            for name, column in zip(header, columns, strict=False)
        }
    )


def open_spss(path: Path, form: SourceFormat) -> TableSource:
    """Open an SPSS file (sav, zsav); values that the file declares missing are missing.

    Raises
    ------
    UnreadableSourceError
        If it is cut off or no SPSS file.
    """
    # imported here: most runs read no SPSS file
    import pyreadstat

    try:
        data, about = pyreadstat.read_sav(str(path), output_format="dict")
    except (pyreadstat.ReadstatError, pyreadstat.PyreadstatError, OSError) as error:
        raise damaged(path, "SPSS", error) from error
    names = about.column_names
    labels = about.variable_value_labels if form.labels else {}
    table = pa.table(
        {
            name: typed_array([labels.get(name, {}).get(cell, cell) for cell in data[name]])
            for name in names
        }
    )

    def chunks(columns: Sequence[str]) -> Iterator[Chunk]:
        for start in range(0, table.num_rows, BLOCK_ROWS):
            part = table.slice(start, BLOCK_ROWS)
            yield Chunk(part.select(list(columns)), None, partial(itself, part))

    facts = SourceFacts(path.name, "spss", file_sha256(path), tuple(names), float(table.num_rows))
    return TableSource(facts, chunks)


def itself(table: pa.Table) -> pa.Table:
    """Return ``table``: the whole rows of a chunk that is in memory anyway."""
    return table


def typed_array(cells: Sequence[Any]) -> pa.Array:
    """Return cells as an array of their common type, or as text if they have none.

    NaN counts as no value.
    """
    try:
        return pa.array(cells, from_pandas=True)
    except (pa.ArrowException, OverflowError):
        return pa.array([as_text(cell) for cell in cells], pa.string())


def damaged(path: Path, kind: str, error: Exception) -> UnreadableSourceError:
    """Make the error of a file that is not what its name says."""
    return UnreadableSourceError(
        f"{path.name} cannot be read as {kind}: {' '.join(str(error).split())[:200]}.",
        remedy="The file is cut off, damaged or of another kind; fetch it again.",
        zh=f"{path.name} 无法按 {kind} 读取,文件不完整、已损坏或格式不符,请重新获取。",
    )
