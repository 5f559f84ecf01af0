"""The simulated operator's org tree, channels, staff and products; all of it made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bihuan.data import TableContract

CITIES = (
    ("1301", "石家庄", "Shijiazhuang"),
    ("1302", "唐山", "Tangshan"),
    ("1303", "秦皇岛", "Qinhuangdao"),
    ("1304", "邯郸", "Handan"),
    ("1305", "邢台", "Xingtai"),
    ("1306", "保定", "Baoding"),
    ("1307", "张家口", "Zhangjiakou"),
    ("1308", "承德", "Chengde"),
    ("1309", "沧州", "Cangzhou"),
    ("1310", "廊坊", "Langfang"),
    ("1311", "衡水", "Hengshui"),
)
"""City codes and names (GB/T 2260); the units placed in them are simulated."""

CITY_WEIGHTS = np.array([15, 10.4, 4.2, 12.7, 9.6, 15.6, 5.6, 4.5, 9.9, 7.4, 5.6])
COUNTIES_PER_CITY = 6
GRIDS_PER_COUNTY = 4

PLANS = (
    ("plan_19", "轻享 19 元", "Light 19", 19.0, 3_000.0),
    ("plan_39", "畅享 39 元", "Smooth 39", 39.0, 10_000.0),
    ("plan_59", "畅享 59 元", "Smooth 59", 59.0, 20_000.0),
    ("plan_99", "5G 99 元", "5G 99", 99.0, 30_000.0),
    ("plan_129", "5G 129 元", "5G 129", 129.0, 40_000.0),
    ("plan_199", "5G 199 元", "5G 199", 199.0, 60_000.0),
)
CHANNELS = (
    ("outbound", "active", 2.0),
    ("sms", "active", 0.05),
    ("app", "passive", 0.01),
    ("hall", "passive", 1.5),
    ("account_manager", "active", 4.0),
    ("wechat", "active", 0.03),
)


@dataclass(frozen=True, slots=True)
class Territory:
    """Where customers can live.

    Parameters
    ----------
    grids
        Org unit ids of the grids.
    city_codes, county_codes
        Of each grid, same length.
    weights
        Share of customers per grid, sums to 1.
    """

    grids: tuple[str, ...]
    city_codes: tuple[str, ...]
    county_codes: tuple[str, ...]
    weights: np.ndarray[tuple[int], np.dtype[np.float64]]


def build_territory() -> Territory:
    """Return the grids of the simulated province, heavier where more people live."""
    grids, cities, counties, weights = [], [], [], []
    for (city, _, _), weight in zip(CITIES, CITY_WEIGHTS, strict=True):
        for county in range(1, COUNTIES_PER_CITY + 1):
            for grid in range(1, GRIDS_PER_COUNTY + 1):
                grids.append(f"grid-{city}{county:02d}-{grid}")
                cities.append(city)
                counties.append(f"{city}{county:02d}")
                weights.append(weight / (county + grid))
    shares = np.array(weights) / np.sum(weights)
    return Territory(tuple(grids), tuple(cities), tuple(counties), shares)


def organisation_tables(contracts: Mapping[str, TableContract]) -> dict[str, pa.Table]:
    """Return ``org_unit``, ``staff``, ``channel`` and ``product`` of the simulated operator.

    Seven tiers: province, city, county, professional line, grid, the grid's CEO and the sellers
    under it.
    """
    units = [_unit("province", None, "province", "模拟省", "Simulated province", None)]
    staff = []
    for city, zh, en in CITIES:
        city_id = f"city-{city}"
        units.append(_unit(city_id, "province", "city", f"{zh}（模拟）", f"{en} (simulated)", city))
        line = f"line-{city}"
        units.append(_unit(line, city_id, "line", f"{zh}外呼线", f"{en} outbound line", city))
        staff += [_person(f"seat-{city}-{i}", line, "outbound_seat", "outbound") for i in range(20)]
        for county in range(1, COUNTIES_PER_CITY + 1):
            county_id = f"county-{city}{county:02d}"
            units.append(
                _unit(
                    county_id, city_id, "county", f"{zh}{county}县", f"{en} county {county}", city
                )
            )
            for grid in range(1, GRIDS_PER_COUNTY + 1):
                grid_id = f"grid-{city}{county:02d}-{grid}"
                label = f"{county}-{grid}"
                units.append(
                    _unit(
                        grid_id, county_id, "grid", f"{zh}{label}网格", f"{en} grid {label}", city
                    )
                )
                ceo = f"ceo-{city}{county:02d}-{grid}"
                units.append(_unit(ceo, grid_id, "ceo", f"{label} CEO", f"CEO {label}", city))
                seller = f"seller-{city}{county:02d}-{grid}"
                units.append(_unit(seller, ceo, "seller", f"{label} 单兵", f"Seller {label}", city))
                staff.append(_person(f"manager-{grid_id}", grid_id, "account_manager",
                                     "account_manager"))  # fmt: skip
    rows: dict[str, list[dict[str, object]]] = {
        "org_unit": units,
        "staff": staff,
        "channel": [
            {"channel_id": kind, "kind": kind, "direction": direction, "org_unit_id": "province",
             "unit_cost": cost}
            for kind, direction, cost in CHANNELS
        ],
        "product": [
            {"product_id": product, "name_zh": zh, "name_en": en, "category": "mobile",
             "kind": "plan", "monthly_price": price, "data_mb": data, "status": "on_sale"}
            for product, zh, en, price, data in PLANS
        ],
    }  # fmt: skip
    return {name: in_contract(contracts[name], _columns(rows[name])) for name in rows}


def in_contract(contract: TableContract, columns: Mapping[str, object]) -> pa.Table:
    """Return columns as a table of the contract's schema; columns not given are missing.

    Parameters
    ----------
    contract
        The table's promise.
    columns
        Arrays or lists of one length, by column name.
    """
    arrays = {name: _array(values, contract, name) for name, values in columns.items()}
    n = len(next(iter(arrays.values())))
    return pa.table(
        [arrays.get(c.name, pa.nulls(n, c.type.arrow)) for c in contract.columns],
        schema=contract.schema,
    )


def _array(values: object, contract: TableContract, name: str) -> pa.Array:
    wanted = contract[name].type.arrow
    array = values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_decimal(wanted) and pa.types.is_floating(array.type):
        array = pa.compute.round(array, 2)
        return array.cast(wanted, safe=False)
    return array.cast(wanted)


def _columns(rows: list[dict[str, object]]) -> dict[str, list[object]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


def _unit(
    unit: str, parent: str | None, tier: str, zh: str, en: str, city: str | None
) -> dict[str, object]:
    return {"org_unit_id": unit, "parent_id": parent, "tier": tier, "name_zh": zh, "name_en": en,
            "city_code": city}  # fmt: skip


def _person(staff: str, unit: str, post: str, channel: str) -> dict[str, object]:
    return {"staff_id": staff, "org_unit_id": unit, "post": post, "channel_id": channel,
            "status": "active"}  # fmt: skip
