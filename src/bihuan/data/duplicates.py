"""Finds rows whose key was taken, by the hashes of all keys and the keys of a few."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.data.block import as_text
from bihuan.data.cell_sql import call
from bihuan.data.contract import TableContract
from bihuan.data.engine import Engine, Source
from bihuan.data.lake import Snapshot


@dataclass(frozen=True, slots=True)
class Judged:
    """Rows that must go, since their key is taken.

    Parameters
    ----------
    position
        Place of each among the fresh rows, from 0, shape ``(n,)``.
    first
        Place of the row that has the key; -1: it was stored before, shape ``(n,)``.
    is_same
        Whether it is equal to that row in every column and the table wants such rows once,
        shape ``(n,)``.
    key
        The key as text.
    """

    position: NDArray[np.int64]
    first: NDArray[np.int64]
    is_same: NDArray[np.bool_]
    key: list[str]


def find_suspects(
    hashes: NDArray[np.uint64], contract: TableContract, stored: Snapshot | None, engine: Engine
) -> NDArray[np.int64]:
    """Return the places of rows whose key has the hash of another row's key.

    Parameters
    ----------
    hashes
        Of the fresh rows' keys, shape ``(n,)``.
    contract
        Names the key.
    stored
        Rows that were stored before, or None.
    engine
        Hashes the stored keys.
    """
    ordered = np.sort(hashes)
    taken = [ordered[1:][ordered[1:] == ordered[:-1]]]
    if stored is not None:
        key = [exp.column(name, quoted=True) for name in contract.key]
        query = exp.select(call("hash", *key).as_("hash")).from_("stored")
        taken.append(engine.query(query, {"stored": stored}).column("hash").to_numpy())
    return np.flatnonzero(np.isin(hashes, np.concatenate(taken)))


def judge(
    path: Path,
    suspects: NDArray[np.int64],
    contract: TableContract,
    stored: Snapshot | None,
    engine: Engine,
    *,
    distinct: bool,
) -> Judged:
    """Compare suspects by their keys and tell which must go; the first row of a key stays.

    Parameters
    ----------
    path
        File of the fresh rows.
    suspects
        Their places, rising, shape ``(n,)``.
    contract, stored, engine
        See :func:`find_suspects`.
    distinct
        Whether rows equal in every column are one row, and no error.
    """
    names = list(contract.names if distinct else contract.key)
    rows = pq.read_table(path, columns=names).take(pa.array(suspects))
    sources: dict[str, Source] = {"fresh": rows.append_column("_position", pa.array(suspects))}
    if stored is not None:
        sources["stored"] = stored
    query = _judgement(contract, has_stored=stored is not None, distinct=distinct)
    result = engine.query(query.order_by("_position"), sources)
    position = result.column("_position").to_numpy()
    first = result.column("_first").to_numpy()
    is_stored = result.column("_stored").is_valid().to_numpy()
    is_same = np.zeros(position.size, dtype=np.bool_)
    if distinct:
        content = result.column("_content").to_numpy()
        old = result.column("_stored").fill_null(0).to_numpy()
        is_same = np.where(is_stored, content == old, result.column("_same").to_numpy() < position)
    gone = np.flatnonzero(is_stored | (first < position) | is_same)
    keys = rows.select(list(contract.key)).take(pa.array(gone)).to_pylist()
    return Judged(
        position=position[gone],
        first=np.where(is_stored, -1, first)[gone],
        is_same=is_same[gone],
        key=[", ".join(str(as_text(cell)) for cell in key.values()) for key in keys],
    )


def _judgement(contract: TableContract, *, has_stored: bool, distinct: bool) -> exp.Select:
    """Build the query that compares fresh rows by key with each other and with stored ones."""
    key = [exp.column(name, table="fresh", quoted=True) for name in contract.key]
    position = exp.column("_position", table="fresh")
    content = call(
        "hash", *[exp.column(name, table="fresh", quoted=True) for name in contract.names]
    )
    query = exp.select(position, _least(position, key).as_("_first")).from_("fresh")
    if distinct:
        same = _least(position, [*key, content])
        query = query.select(content.as_("_content"), same.as_("_same"))
    if not has_stored:
        return query.select(exp.cast(exp.null(), "UBIGINT", dialect="duckdb").as_("_stored"))
    meets = [
        exp.EQ(this=part.copy(), expression=exp.column(part.name, table="stored", quoted=True))
        for part in key
    ]
    stored = call(
        "hash", *[exp.column(name, table="stored", quoted=True) for name in contract.names]
    )
    found = exp.Is(this=exp.column(key[0].name, table="stored", quoted=True), expression=exp.null())
    query = query.select(exp.case().when(exp.not_(found), stored).as_("_stored"))
    return query.join("stored", on=exp.and_(*meets), join_type="left")


def _least(value: exp.Expr, partition: Sequence[exp.Expr]) -> exp.Expr:
    return exp.Window(
        this=exp.Min(this=value.copy()), partition_by=[part.copy() for part in partition]
    )
