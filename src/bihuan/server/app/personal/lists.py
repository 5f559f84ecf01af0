"""Target lists without one customer: CSV and Parquet are written again, workbooks removed."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bihuan.kernel import canonical_json, file_lock, write_atomically

_BOM = "\ufeff"


def erase_from_lists(folder: Path, ids: frozenset[str]) -> int:
    """Take a customer off every target list below ``folder``; return how many lines went.

    A batch's manifest keeps its id and tells the new numbers of rows and checksums. A workbook
    that named the customer is removed: the CSV beside it has the same rows.
    """
    gone = 0
    for manifest in sorted(folder.glob("*/*/manifest.json")):
        with file_lock(manifest.parent.parent / ".lock"):
            gone += _erase_from_batch(manifest, ids)
    return gone


def _erase_from_batch(path: Path, ids: frozenset[str]) -> int:
    manifest = json.loads(path.read_bytes())
    lost: dict[str, int] = {}
    files = []
    for entry in manifest["files"]:
        file, stem = path.parent / entry["name"], Path(entry["name"]).stem
        if entry["format"] == "xlsx" or not file.exists():
            files.append(entry)
            continue
        kept, count = (_without_csv if entry["format"] == "csv" else _without_parquet)(file, ids)
        if count:
            write_atomically(file, kept)
            entry = _described(entry, kept, entry["rows"] - count)
            lost[stem] = max(lost.get(stem, 0), count)
        files.append(entry)
    if not lost:
        return 0
    manifest["files"] = [
        entry for entry in files if not _is_stale_book(path.parent, entry, set(lost))
    ]
    manifest["rows"] -= sum(lost.values())
    write_atomically(path, canonical_json(manifest).encode())
    return sum(lost.values())


def _is_stale_book(folder: Path, entry: dict[str, Any], touched: set[str]) -> bool:
    if entry["format"] != "xlsx" or Path(entry["name"]).stem not in touched:
        return False
    (folder / entry["name"]).unlink(missing_ok=True)
    return True


def _described(entry: dict[str, Any], content: bytes, rows: int) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    return {**entry, "rows": rows, "bytes": len(content), "sha256": digest}


def _without_csv(path: Path, ids: frozenset[str]) -> tuple[bytes, int]:
    text = path.read_bytes().decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    kept = [row for row in rows if not ids & {cell.removeprefix("'") for cell in row}]
    target = io.StringIO(newline="")
    csv.writer(target, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(kept)
    return (_BOM + target.getvalue()).encode(), len(rows) - len(kept)


def _without_parquet(path: Path, ids: frozenset[str]) -> tuple[bytes, int]:
    rows = pq.read_table(path, partitioning=None)
    if "customer_id" not in rows.column_names:
        return b"", 0
    kept = rows.filter(pc.invert(pc.is_in(rows["customer_id"], pa.array(sorted(ids)))))
    sink = pa.BufferOutputStream()
    pq.write_table(kept, sink, compression="zstd", compression_level=1)
    return bytes(sink.getvalue().to_pybytes()), rows.num_rows - kept.num_rows
