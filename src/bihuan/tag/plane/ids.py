"""Ids of the subjects by row number: nothing at all, fixed-width bytes, or an Arrow file.

Rows stand in the order of their ids. Ids that are a prefix and consecutive numbers need no file;
ids of one length are bytes that can be searched in place; others are kept as Arrow.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from bihuan.kernel import hash_id, on_each_part
from bihuan.tag.plane.column import RowGroup, row_groups
from bihuan.tag.plane.store import damaged, write_whole

Rows = NDArray[np.int64]


class SubjectIds:
    """Finds ids by row and rows by id.

    Parameters
    ----------
    folder
        Where the index lies.
    how
        What :func:`write_ids` returned.
    rows
        Number of subjects.
    """

    def __init__(self, folder: Path, how: Mapping[str, Any], rows: int) -> None:
        self._how, self._rows = how, rows
        self._path = folder / str(how.get("file"))
        self._held: Any = None

    def take(self, rows: Rows) -> pa.Array:
        """Return the ids of some rows, as strings."""
        if self._how["kind"] == "numbered":
            return _numbered(self._how, rows)
        if self._how["kind"] == "fixed":
            return _strings(self._fixed()[rows])
        return self._text().take(pa.array(rows)).cast(pa.string())

    def find(self, subject_id: str) -> int | None:
        """Return a subject's row, or None if there is no such subject."""
        if not self._rows:
            return None
        if self._how["kind"] == "numbered":
            prefix, width = self._how["prefix"], self._how["width"]
            digits = subject_id[len(prefix) :]
            if not subject_id.startswith(prefix) or len(digits) != width or not _digits(digits):
                return None
            row = int(digits) - int(self._how["start"])
            return row if 0 <= row < self._rows else None
        if self._how["kind"] == "fixed":
            width, wanted = self._how["width"], subject_id.encode()
            if len(wanted) != width:
                return None
            whole = self._fixed().view(f"S{width}").reshape(-1)
            row = int(np.searchsorted(whole, np.bytes_(wanted)))
            return row if row < self._rows and bytes(self._fixed()[row]) == wanted else None
        texts = self._text()
        row = bisect_left(range(self._rows), subject_id, key=lambda i: texts[i].as_py())
        return row if row < self._rows and texts[row].as_py() == subject_id else None

    def _fixed(self) -> NDArray[np.uint8]:
        if self._held is None:
            width = self._how["width"]
            if self._path.stat().st_size != self._rows * width:
                raise damaged(self._path, "has another length than it was written with", "长度不符")
            held = np.memmap(self._path, np.uint8, "r").reshape(self._rows, width)
            self._check(held)
            self._held = held
        return self._held  # type: ignore[no-any-return]

    def _text(self) -> pa.Array:
        if self._held is None:
            self._check(np.memmap(self._path, np.uint8, "r"))
            with pa.memory_map(str(self._path)) as source:
                self._held = pa.ipc.open_file(source).read_all().column(0).combine_chunks()
        return self._held

    def _check(self, content: NDArray[np.uint8]) -> None:
        if xxhash.xxh3_64_hexdigest(content.data) != self._how["checksum"]:
            raise damaged(self._path, "does not match its checksum", "与校验和不符")


def write_ids(folder: Path, files: Sequence[Path], id_column: str, universe: str) -> dict[str, Any]:
    """Write the ids of a tag table's rows and return how they are kept."""
    groups = list(row_groups(files))
    if not groups or groups[-1].end == 0:
        return _write_texts(folder, [], id_column, universe)
    first = _read(groups[0], id_column)[0].as_py()
    last = _read(groups[-1], id_column)[-1].as_py()
    width = len(first.encode())
    how = _numbers_of(first, last, groups[-1].end)
    if how is not None and _all_parts(groups, lambda group: _is_numbered(group, id_column, how)):
        return how
    letters = np.empty((groups[-1].end, width), np.uint8)
    if width and _all_parts(groups, lambda group: _copy(group, id_column, letters)):
        stem = f"ids-{hash_id(universe)[:16]}.bin"
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / stem, letters)
        checksum = xxhash.xxh3_64_hexdigest(letters.data)
        return {"kind": "fixed", "file": stem, "width": width, "checksum": checksum}
    return _write_texts(folder, groups, id_column, universe)


def _all_parts(groups: Sequence[RowGroup], holds: Callable[[RowGroup], bool]) -> bool:
    parts = on_each_part(lambda start, end: all(map(holds, groups[start:end])), len(groups))
    return all(parts)


def _read(group: RowGroup, id_column: str) -> pa.StringArray:
    file = pq.ParquetFile(group.path)
    column = file.read_row_group(group.number, columns=[id_column], use_threads=False)[id_column]
    return pa.concat_arrays(column.chunks)


def _numbers_of(first: str, last: str, rows: int) -> dict[str, Any] | None:
    """Describe ids that may be consecutive numbers behind one prefix, by the first and last."""
    width = len(first) - len(first.rstrip("0123456789"))
    prefix, start = first[: len(first) - width], first[len(first) - width :]
    end = last[len(prefix) :]
    if not first.isascii() or not 0 < width <= 18 or not last.startswith(prefix):
        return None
    if not _digits(end) or len(end) != width or int(end) - int(start) + 1 != rows:
        return None
    return {"kind": "numbered", "prefix": prefix, "width": width, "start": int(start)}


def _is_numbered(group: RowGroup, id_column: str, how: Mapping[str, Any]) -> bool:
    return bool(_read(group, id_column).equals(_numbered(how, np.arange(group.start, group.end))))


def _copy(group: RowGroup, id_column: str, letters: NDArray[np.uint8]) -> bool:
    """Copy a row group's ids into the table of letters; say whether all have its width."""
    ids, width = _read(group, id_column), letters.shape[1]
    lengths = pc.min_max(pc.binary_length(ids)).as_py()
    if lengths != {"min": width, "max": width}:
        return False
    letters[group.start : group.end] = _bytes(ids, width).reshape(-1, width)
    return True


def _write_texts(
    folder: Path, groups: Sequence[RowGroup], id_column: str, universe: str
) -> dict[str, Any]:
    ids = pa.chunked_array([_read(group, id_column) for group in groups], pa.string())
    texts = pa.table({id_column: ids.cast(pa.large_string()).combine_chunks()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, texts.schema) as writer:
        writer.write_table(texts)
    content = np.frombuffer(sink.getvalue(), np.uint8)
    stem = f"ids-{hash_id(universe)[:16]}.arrow"
    folder.mkdir(parents=True, exist_ok=True)
    write_whole(folder / stem, content)
    return {"kind": "text", "file": stem, "checksum": xxhash.xxh3_64_hexdigest(content.data)}


def _bytes(chunk: pa.StringArray, width: int) -> NDArray[np.uint8]:
    offsets = np.frombuffer(chunk.buffers()[1], np.int32)
    begin = int(offsets[chunk.offset])
    data = np.frombuffer(chunk.buffers()[2], np.uint8)
    return data[begin : begin + len(chunk) * width]


def _numbered(how: Mapping[str, Any], rows: Rows) -> pa.StringArray:
    prefix, width = how["prefix"].encode(), how["width"]
    letters = np.empty((len(rows), len(prefix) + width), np.uint8)
    letters[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    rest = np.asarray(rows, np.int64) + how["start"]
    for place in range(width - 1, -1, -1):
        rest, digit = np.divmod(rest, 10)
        letters[:, len(prefix) + place] = digit + ord("0")
    return _strings(letters)


def _strings(letters: NDArray[np.uint8]) -> pa.StringArray:
    count, width = letters.shape
    offsets = np.arange(count + 1, dtype=np.int64) * width
    data = pa.py_buffer(np.ascontiguousarray(letters))
    if count * width < 2**31:
        return pa.StringArray.from_buffers(count, pa.py_buffer(offsets.astype(np.int32)), data)
    return pa.LargeStringArray.from_buffers(count, pa.py_buffer(offsets), data)


def _digits(text: str) -> bool:
    return text.isascii() and text.isdigit()
