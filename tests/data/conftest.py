"""What the tests of the data room share: a clock that stands still, a lake, rows of contracts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bihuan.data import DuckDBEngine, Lake, LakeView, TableContract, load_contracts
from bihuan.kernel import FixedClock

OCTOBER = date(2026, 10, 31)

Rows = Callable[..., pa.Table]
Publish = Callable[..., LakeView]


@pytest.fixture(scope="session")
def contracts() -> dict[str, TableContract]:
    return load_contracts()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 3, 8, 0, tzinfo=UTC))


@pytest.fixture
def engine() -> DuckDBEngine:
    return DuckDBEngine(threads=1)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def october() -> date:
    return OCTOBER


@pytest.fixture
def rows(contracts: dict[str, TableContract]) -> Rows:
    """Rows of a contracted table; columns that are not given are missing."""

    def make(table: str, /, **columns: Sequence[Any]) -> pa.Table:
        contract = contracts[table]
        n = len(next(iter(columns.values())))
        unknown = set(columns) - set(contract.names)
        assert not unknown, f"{table} has no {unknown}"
        return pa.table(
            {
                c.name: pa.array(columns.get(c.name, [None] * n), c.type.arrow)
                for c in contract.columns
            }
        )

    return make


@pytest.fixture
def publish(lake: Lake, clock: FixedClock, rows: Rows) -> Publish:
    """Publish rows of one table and return the lake's new view."""

    def put(table: str, /, as_of: date = OCTOBER, **columns: Sequence[Any]) -> LakeView:
        with lake.publication(clock) as publication:
            publication.add(table, as_of, rows(table, **columns))
        return lake.view()

    return put
