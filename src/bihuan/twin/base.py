"""A customer base of any size as tag values, without the months behind it.

For measuring audiences at the size of a province: twenty tags of the kinds and densities that
carriers have, drawn row by row independently, which is the worst case for every compression.
"""

from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bihuan.data import ColumnType, Lake, Snapshot
from bihuan.kernel import Clock, Progress, random_stream
from bihuan.tag import Subject, TagField, TagTable

TABLE = "tag__customer__base"
FLAG_SHARES = {
    "has_family_plan": 0.40, "has_terminal_contract": 0.10, "has_opted_out": 0.05,
    "is_key_customer": 0.001, "complained": 0.01, "in_arrears": 0.02, "uses_app": 0.60,
    "has_broadband": 0.30, "has_5g_terminal": 0.20, "roamed": 0.15, "data_heavy": 0.25,
    "contract_ends_soon": 0.35,
}  # fmt: skip
"""The yes-or-no tags and the share of customers who have them."""

CODE_COUNTS = {"city": 11, "county": 120, "tariff": 400, "stage": 6, "net": 4}
"""The coded tags and how many codes they have, each as frequent as the others."""

_CHUNK = 1_000_000
_TITLES = {
    "has_family_plan": "家庭套餐", "has_terminal_contract": "终端合约", "has_opted_out": "退订营销",
    "is_key_customer": "重点客户", "complained": "有投诉", "in_arrears": "欠费",
    "uses_app": "使用手厅", "has_broadband": "有宽带", "has_5g_terminal": "5G 终端",
    "roamed": "漫游", "data_heavy": "流量大户", "contract_ends_soon": "合约将到期",
    "city": "地市", "county": "区县", "tariff": "套餐", "stage": "生命周期", "net": "网络",
    "arpu": "月均收入", "dou": "月均流量", "tenure": "在网月数",
}  # fmt: skip


def generate_base(
    lake: Lake, customers: int, as_of: date, *, seed: int, clock: Clock, progress: Progress
) -> TagTable:
    """Draw the tags of many customers and publish them as one tag table.

    Parameters
    ----------
    lake
        Takes the table ``tag__customer__base``.
    customers
        How many; their ids are consecutive.
    as_of
        Date of the values.
    seed
        The same seed draws the same customers.
    clock, progress
        Stamps the publication; told after each million.

    Returns
    -------
    TagTable
        Twelve flags, five coded tags (codes from 0), ``arpu`` (a number with two decimals),
        ``dou`` (MB) and ``tenure`` (months). Nothing is missing.
    """
    with (
        lake.publication(clock) as publication,
        publication.folder(TABLE, as_of, lineage={"seed": seed, "customers": customers}) as folder,
        progress.task("draw customers", total=customers, unit="rows") as task,
        pq.ParquetWriter(
            folder / "part-00000.parquet", _schema(), compression="zstd", compression_level=1,
            use_dictionary=list(CODE_COUNTS),
        ) as writer,
    ):  # fmt: skip
        for start in range(0, customers, _CHUNK):
            rows = min(_CHUNK, customers - start)
            writer.write_table(_draw(start, rows, seed))
            task.advance(rows)
    return base_tags(lake, as_of)


def base_tags(lake: Lake, as_of: date) -> TagTable:
    """Find the tag table that :func:`generate_base` published."""
    snapshot: Snapshot = lake.view().get(TABLE, as_of)
    fields = {
        name: TagField(name, _TYPES[name], None, {"zh": _TITLES[name], "en": name})
        for name in _schema().names[1:]
    }
    return TagTable(
        subject=Subject.CUSTOMER,
        as_of=as_of,
        id_column="customer_id",
        fields=fields,
        versions=dict.fromkeys(fields, snapshot.id),
        pending={},
        snapshots={TABLE: snapshot},
        rows=snapshot.rows,
    )


def _draw(start: int, rows: int, seed: int) -> pa.Table:
    chance = random_stream(seed, "twin.base", start)
    digits = np.char.zfill(np.arange(start, start + rows).astype("U9"), 9)
    columns: dict[str, pa.Array] = {
        "customer_id": pa.array(np.char.add("C", digits)),
    }
    for name, share in FLAG_SHARES.items():
        columns[name] = pa.array(chance.random(rows, np.float32) < share)
    for name, count in CODE_COUNTS.items():
        columns[name] = pa.array(chance.integers(0, count, rows, np.int64))
    # a third of the customers spend 58.37 or more; nobody reaches 2**17 cents
    cents = np.exp(chance.normal(8.33, 0.8, rows))
    columns["arpu"] = pa.array(np.minimum(np.rint(cents), 2**17 - 1) / 100)
    megabytes = np.exp(chance.normal(10.0, 1.2, rows))
    columns["dou"] = pa.array(np.minimum(megabytes, 2**20 - 1).astype(np.int64))
    columns["tenure"] = pa.array(chance.integers(0, 361, rows, np.int64))
    return pa.table(columns, schema=_schema())


def _schema() -> pa.Schema:
    fields = [pa.field("customer_id", pa.string())]
    fields += [pa.field(name, kind.arrow) for name, kind in _TYPES.items()]
    return pa.schema(fields)


_TYPES = {
    **dict.fromkeys(FLAG_SHARES, ColumnType.BOOLEAN),
    **dict.fromkeys(CODE_COUNTS, ColumnType.INTEGER),
    "arpu": ColumnType.NUMBER,
    "dou": ColumnType.INTEGER,
    "tenure": ColumnType.INTEGER,
}
