"""What every source gives: blocks of rows, and the way back from a row to its place."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.data.reasons import Reason

BLOCK_ROWS = 122_880
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trace:
    """One record as it stood in its source.

    Parameters
    ----------
    record
        Its number, from 1.
    line
        Physical line of a text file, row of a sheet; otherwise the record's number.
    cells
        Source column to cell; empty for a record that could not be read.
    raw
        The record's bytes as they lie in the file, only where ``cells`` is empty.
    """

    record: int
    line: int
    cells: dict[str, Any]
    raw: bytes | None = None

    @property
    def json(self) -> str:
        """The cells as one JSON object."""
        return json.dumps(self.cells, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that has no cells: a wrong number of fields, or bytes that are no text."""

    trace: Trace
    reason: Reason
    text: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """Some consecutive records.

    Parameters
    ----------
    rows
        The asked columns by source name, ``n`` rows; text, or the types of the source.
    records
        Number of each record within the source, from 1, rising, shape ``(n,)``.
    size
        How far the source was read for it, in the source's unit.
    trace
        Gives the places of rows by their index in ``rows``.
    unreadable
        Records between these that could not be read.
    has_blanks
        Whether a cell may have white space around it.
    """

    rows: pa.Table
    records: NDArray[np.int64]
    size: int
    trace: Callable[[Sequence[int]], list[Trace]]
    unreadable: tuple[Unreadable, ...] = ()
    has_blanks: bool = True


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What is known of a source before its rows are read.

    Parameters
    ----------
    name
        What a report calls it: a file name, or a database and table without password.
    format
        ``csv``, ``parquet``, ``excel``, ``spss``, ``sql`` or ``quarantine``.
    sha256
        Of the content, hexadecimal.
    columns
        Names in order.
    total
        Its size in ``unit``, where known.
    unit
        ``bytes`` or ``rows``.
    details
        What was found out about its form (encoding, delimiter, sheet).
    """

    name: str
    format: str
    sha256: str
    columns: tuple[str, ...]
    total: float | None = None
    unit: str = "rows"
    details: Mapping[str, str] = field(default_factory=dict)


class RowSource(Protocol):
    """A source opened for reading; gives the same blocks each time it is asked."""

    facts: SourceFacts

    def blocks(self, columns: Collection[str]) -> Iterator[Block]:
        """Yield all records in order, with the cells of ``columns``."""
        ...

    def close(self) -> None:
        """Free what the source holds."""
        ...


def plain(value: Any) -> Any:
    """Return a cell as JSON can hold it: text, number, truth value or None."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return None if value != value else int(value) if value.is_integer() else value
    if isinstance(value, datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, (date, Decimal)):
        return str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    return str(value)


def as_text(value: Any) -> str | None:
    """Return a cell as the text that a CSV file would hold; None for no value."""
    cell = plain(value)
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return None if cell is None else str(cell)


def prefetch(items: Iterator[T], depth: int = 2) -> Generator[T, None, None]:
    """Yield ``items`` while a thread of its own already makes the next ``depth``.

    An error of the thread is raised here; leaving the loop early stops the thread.
    """
    ready: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=depth)
    left = threading.Event()
    thread = threading.Thread(target=_fill, args=(items, ready, left), daemon=True)
    thread.start()
    try:
        while True:
            is_item, entry = ready.get()
            if is_item:
                yield entry
            elif entry is None:
                return
            else:
                raise entry
    finally:
        left.set()
        thread.join()


def _fill(
    items: Iterator[Any], ready: queue.Queue[tuple[bool, Any]], left: threading.Event
) -> None:
    def hand(is_item: bool, entry: Any) -> bool:
        while not left.is_set():
            try:
                ready.put((is_item, entry), timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    try:
        for item in items:
            if not hand(True, item):
                return
        hand(False, None)
    except BaseException as error:  # noqa: BLE001 - raised again in the reader's thread
        hand(False, error)
