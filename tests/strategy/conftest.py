"""A way to make tag values of a date out of plain rows, in a real lake."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bihuan.data import ColumnType, DuckDBEngine, Lake
from bihuan.kernel import FixedClock
from bihuan.tag import Subject, TagField, TagTable

AS_OF = date(2026, 10, 31)
CLOCK = FixedClock(datetime(2026, 11, 2, 6, tzinfo=UTC))
TagMaker = Callable[..., TagTable]


@pytest.fixture(scope="session")
def engine() -> DuckDBEngine:
    return DuckDBEngine(threads=1)


@pytest.fixture(scope="session")
def make_tags(tmp_path_factory: pytest.TempPathFactory) -> TagMaker:
    """Return what stores rows as tags: ``make_tags(kinds, rows, pending=(), codes={})``."""

    def make(
        kinds: Mapping[str, str],
        rows: Sequence[Mapping[str, Any]],
        *,
        pending: Sequence[str] = (),
        codes: Mapping[str, Sequence[str]] | None = None,
        as_of: date = AS_OF,
        folder: Path | None = None,
    ) -> TagTable:
        lake = Lake(folder or tmp_path_factory.mktemp("tags") / "lake")
        fields = {
            name: TagField(
                name,
                ColumnType(kind),
                frozenset(codes[name]) if codes and name in codes else None,
                {"zh": name, "en": name},
            )
            for name, kind in kinds.items()
        }
        table = pa.table(
            {"customer_id": pa.array([row["customer_id"] for row in rows], pa.string())}
            | {
                name: pa.array([row.get(name) for row in rows], field.type.arrow)
                for name, field in fields.items()
            }
        )
        with lake.publication(CLOCK) as publication:
            publication.add("tag__customer__made", as_of, table)
        snapshot = lake.view().get("tag__customer__made", as_of)
        return TagTable(
            subject=Subject("customer"),
            as_of=as_of,
            id_column="customer_id",
            fields=fields,
            versions=dict.fromkeys(fields, snapshot.id),
            pending={name: {"zh": "尚无评分。", "en": "no scores yet."} for name in pending},
            snapshots={snapshot.table: snapshot},
            rows=len(rows),
        )

    return make
