"""What the simulated surroundings share."""

from __future__ import annotations

import pyarrow.compute as pc
import pytest

from bihuan.data import LakeView, TableContract


def check_contract(view: LakeView, contract: TableContract) -> int:
    """Hold every month of a table against its contract; return its rows in all."""
    total = 0
    for day in view.dates(contract.name):
        found = view.get(contract.name, day).read()
        total += found.num_rows
        assert found.schema == contract.schema
        for column in contract.columns:
            values = found[column.name]
            if not column.nullable:
                assert values.null_count == 0, column.name
            if column.codes is not None:
                assert set(values.drop_null().unique().to_pylist()) <= set(column.codes)
            if column.minimum is not None and len(values.drop_null()):
                assert pc.min(values).as_py() >= column.minimum, column.name
            if column.maximum is not None and len(values.drop_null()):
                assert pc.max(values).as_py() <= column.maximum, column.name
        key = list(contract.key)
        assert found.select(key).group_by(key).aggregate([]).num_rows == found.num_rows
    return total


@pytest.fixture(scope="session")
def keeps_contract():
    return check_contract
