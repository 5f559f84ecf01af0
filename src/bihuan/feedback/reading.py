"""Reading what the front line and the channels send, without losing a row of it."""

from __future__ import annotations

import codecs
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from bihuan.feedback.store import OUTCOME
from bihuan.kernel import UserError

REQUIRED = ("outcome_id", "assignment_id", "customer_id", "stage", "occurred_at")
_ENCODINGS = ("utf-8-sig", "gb18030")  # gb18030 reads GBK and GB2312 as well
_BLOCK = 1 << 24  # bytes; no single line may be longer


class OutcomeFileError(UserError):
    """A file of outcomes cannot be read as a table of outcomes."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """Rows as they came.

    Parameters
    ----------
    rows
        ``position`` (1 = first row after the header) and the columns of the ``outcome`` contract
        that were there, as text or typed as they came.
    broken
        ``position`` and ``raw_text`` of the lines that are no rows.
    source
        Name of the file, or ``table``.
    ignored_columns
        Columns that were there and are not of the contract.
    """

    rows: pa.Table
    broken: pa.Table
    source: str
    ignored_columns: tuple[str, ...]

    @property
    def received(self) -> int:
        """Number of rows that came, broken ones included."""
        return int(self.rows.num_rows + self.broken.num_rows)


def read_incoming(rows: pa.Table | Path) -> Incoming:
    """Take rows from memory, a CSV or a Parquet file.

    A CSV may be UTF-8, with or without byte order mark, or GB18030 (GBK); lines of a wrong width
    are kept aside as broken.

    Raises
    ------
    OutcomeFileError
        If the file is empty, cut short, of another form or encoding, or lacks a needed column.
    """
    if isinstance(rows, pa.Table):
        return _incoming(rows, [], "table")
    try:
        if rows.suffix.lower() == ".parquet":
            return _incoming(pq.read_table(rows), [], rows.name)
        return _read_csv(rows)
    except (OSError, pa.ArrowException, csv.Error) as error:
        raise OutcomeFileError(
            f"{rows.name} cannot be read as outcomes: {error}.",
            remedy="Export it again as CSV (UTF-8 or GBK) or Parquet.",
            zh=f"{rows.name} 无法读取:{error}。请重新导出为 CSV(UTF-8 或 GBK)或 Parquet。",
        ) from error


def _read_csv(path: Path) -> Incoming:
    encoding = _encoding(path)
    with path.open(encoding=encoding, newline="") as file:
        header = next(csv.reader(file), [])
    broken: list[tuple[int | None, str]] = []

    def keep_aside(row: Any) -> str:
        broken.append((row.number, row.text))
        return "skip"

    _check_header(path.name, header)
    table = arrow_csv.read_csv(
        path,
        # one thread, because only so Arrow knows the number of a broken line
        read_options=arrow_csv.ReadOptions(
            use_threads=False,
            encoding="utf8" if encoding == _ENCODINGS[0] else encoding,
            block_size=_BLOCK,
        ),
        parse_options=arrow_csv.ParseOptions(
            newlines_in_values=True, invalid_row_handler=keep_aside
        ),
        convert_options=arrow_csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )
    return _incoming(table, broken, path.name)


def _encoding(path: Path) -> str:
    for encoding in _ENCODINGS:
        decoder = codecs.getincrementaldecoder(encoding)()
        try:
            with path.open("rb") as file:
                while block := file.read(_BLOCK):
                    decoder.decode(block)
                decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            continue
        return encoding
    raise OutcomeFileError(
        f"{path.name} is neither UTF-8 nor GBK.",
        remedy="Save it as CSV in UTF-8.",
        zh=f"{path.name} 既不是 UTF-8 也不是 GBK 编码。请另存为 UTF-8 编码的 CSV。",
    )


def _incoming(table: pa.Table, broken: list[tuple[int | None, str]], source: str) -> Incoming:
    _check_header(source, table.column_names)
    names = [name for name in OUTCOME.names if name in table.column_names]
    total = table.num_rows + len(broken)
    lost = np.zeros(total, dtype=bool)
    # the header is line 1, so the first row has number 2
    positions = [total if number is None else number - 1 for number, _ in broken]
    lost[np.array(positions, dtype=int) - 1] = True
    kept = np.flatnonzero(~lost) + 1
    return Incoming(
        rows=table.select(names).add_column(0, "position", pa.array(kept, pa.int64())),
        broken=pa.table(
            {
                "position": pa.array(positions, pa.int64()),
                "raw_text": pa.array([text for _, text in broken], pa.string()),
            }
        ),
        source=source,
        ignored_columns=tuple(name for name in table.column_names if name not in OUTCOME),
    )


def _check_header(source: str, header: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in header]
    double = sorted({name for name in header if header.count(name) > 1})
    if missing or double:
        problem = f"lacks the columns {missing}" if missing else f"has {double} twice"
        raise OutcomeFileError(
            f"{source} {problem}; it has {header}.",
            remedy=f"Name the columns as in the contract: {', '.join(OUTCOME.names)}.",
            zh=f"{source} 缺少或重复列({missing or double})。列名请与 outcome 契约一致。",
        )
