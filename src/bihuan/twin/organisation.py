"""The simulated operator's org tree, channels, staff and products; all of it made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from bihuan.data import TableContract
from bihuan.kernel import UserError

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
PROVINCE_PERSONS = 14_700
"""Leaders and employees of a provincial market line (requirement D-18)."""

LINES = (
    ("public", "公众线", "public line"),
    ("business", "政企线", "business line"),
    ("channel", "渠道线", "channel line"),
)
CEOS_PER_GRID = 4
LEADERS: Mapping[str, Mapping[str, int]] = {
    "province": {"director": 5, "planner": 12, "analyst": 10, "approver": 6, "product_manager": 8,
                 "channel_operator": 6, "auditor": 3, "administrator": 4},
    "province_line": {"director": 1, "product_manager": 2, "planner": 1},
    "city": {"director": 2, "planner": 4, "analyst": 2, "approver": 2, "channel_operator": 2,
             "auditor": 1, "administrator": 1},
    "city_line": {"planner": 1},
    "county": {"director": 1, "planner": 1, "approver": 1, "administrator": 1},
    "county_line": {"planner": 1},
    "grid": {"grid_manager": 1, "hall_clerk": 1},
    "ceo": {"grid_manager": 1},
}  # fmt: skip
"""Posts at each unit of a tier, by role; who is left over sells."""

CHANNELS = (
    ("outbound", "active", 2.0),
    ("sms", "active", 0.05),
    ("app", "passive", 0.01),
    ("hall", "passive", 1.5),
    ("account_manager", "active", 4.0),
    ("wechat", "active", 0.03),
)


class TooFewPersonsError(UserError):
    """There are fewer persons than posts that must be filled."""


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


def province_organisation(
    contracts: Mapping[str, TableContract], *, persons: int = PROVINCE_PERSONS
) -> dict[str, pa.Table]:
    """Return ``org_unit`` and ``staff`` of a whole simulated province, with all seven tiers.

    Cities, counties, grids and their ids are those of :func:`organisation_tables`; grids stand
    under the public line of their county, each has four small CEOs, and every seller is a unit.
    Nothing is drawn by chance: the same ``persons`` give the same tables.

    Parameters
    ----------
    contracts
        Of the two tables.
    persons
        Leaders and employees together, some 4,000 at least.

    Returns
    -------
    dict of str to pyarrow.Table
        ``staff`` has exactly ``persons`` rows; ``post`` is a role.

    Raises
    ------
    TooFewPersonsError
        If there are not enough for the leaders and one seller under each CEO.
    """
    units = [_unit("province", None, "province", "模拟省", "Simulated province", None)]
    staff = _leaders("province", "province")
    for line, zh, en in LINES:
        unit = f"line-{line}"
        units.append(_unit(unit, "province", "line", f"模拟省{zh}", f"Simulated {en}", None))
        staff += _leaders(unit, "province_line")
    for city in CITIES:
        _add_city(units, staff, city)
    ceos = _add_grids(units, staff)
    sellers = _seller_counts(persons - len(staff), len(ceos))
    for (ceo, place, name, city_code), count in zip(ceos, sellers, strict=True):
        for number in range(1, count + 1):
            is_first = ceo == f"ceo-{place}" and number == 1
            suffix = ceo.removeprefix("ceo-")
            seller = f"seller-{place}" if is_first else f"seller-{suffix}-s{number}"
            units.append(
                _unit(seller, ceo, "seller", f"{name}单兵{number}", f"Seller {suffix}-{number}",
                      city_code)
            )  # fmt: skip
            staff.append(_person(f"staff-{seller}", seller, "account_manager", "account_manager"))
    rows = {"org_unit": units, "staff": staff}
    return {name: in_contract(contracts[name], _columns(rows[name])) for name in rows}


def _leaders(unit: str, place: str) -> list[dict[str, object]]:
    return [
        _person(f"{role.replace('_', '-')}-{unit}-{number}", unit, role, None)
        for role, count in LEADERS[place].items()
        for number in range(1, count + 1)
    ]


def _add_city(
    units: list[dict[str, object]], staff: list[dict[str, object]], city: tuple[str, str, str]
) -> None:
    code, zh, en = city
    city_id, seats = f"city-{code}", f"line-{code}"
    units.append(_unit(city_id, "province", "city", f"{zh}（模拟）", f"{en} (simulated)", code))
    staff += _leaders(city_id, "city")
    units.append(
        _unit(seats, city_id, "line", f"{zh}（模拟）外呼线", f"{en} (simulated) outbound", code)
    )
    staff += _leaders(seats, "city_line")
    staff += [_person(f"seat-{code}-{i}", seats, "outbound_seat", "outbound") for i in range(20)]
    for county in range(1, COUNTIES_PER_CITY + 1):
        county_id = f"county-{code}{county:02d}"
        zh_name, en_name = f"{zh}（模拟）{county}县", f"{en} (simulated) county {county}"
        units.append(_unit(county_id, city_id, "county", zh_name, en_name, code))
        staff += _leaders(county_id, "county")
        for line, line_zh, line_en in LINES:
            unit = f"line-{code}{county:02d}-{line}"
            units.append(
                _unit(unit, county_id, "line", f"{zh_name}{line_zh}", f"{en_name} {line_en}", code)
            )
            staff += _leaders(unit, "county_line")


def _add_grids(
    units: list[dict[str, object]], staff: list[dict[str, object]]
) -> list[tuple[str, str, str, str]]:
    """Add grids and their CEOs; return each CEO's unit, place, name and city, grid by grid."""
    names = {code: (zh, en) for code, zh, en in CITIES}
    ceos: list[tuple[str, str, str, str]] = []
    territory = build_territory()
    for grid_id, city in zip(territory.grids, territory.city_codes, strict=True):
        place = grid_id.removeprefix("grid-")
        county, number = int(place[4:6]), place.rpartition("-")[2]
        zh = f"{names[city][0]}（模拟）{county}-{number}网格"
        en = f"{names[city][1]} (simulated) grid {county}-{number}"
        units.append(_unit(grid_id, f"line-{place[:6]}-public", "grid", zh, en, city))
        staff += _leaders(grid_id, "grid")
        staff.append(_person(f"manager-{grid_id}", grid_id, "account_manager", "account_manager"))
        for ceo_number in range(1, CEOS_PER_GRID + 1):
            ceo = f"ceo-{place}" if ceo_number == 1 else f"ceo-{place}-{ceo_number}"
            name = f"{zh} CEO{ceo_number}"
            units.append(_unit(ceo, grid_id, "ceo", name, f"{en} CEO {ceo_number}", city))
            staff += _leaders(ceo, "ceo")
            ceos.append((ceo, place, name, city))
    return ceos


def _seller_counts(sellers: int, ceos: int) -> list[int]:
    """Share sellers out: one under each CEO, the others where people live (largest remainders)."""
    if sellers < ceos:
        msg = f"{ceos - sellers} persons are missing for one seller under each CEO."
        raise TooFewPersonsError(
            msg, remedy="Ask for more persons.", zh=f"人数不足，还差 {ceos - sellers} 人。"
        )
    weights = np.repeat(build_territory().weights, CEOS_PER_GRID) / CEOS_PER_GRID
    exact = weights * (sellers - ceos)
    counts = np.floor(exact).astype(np.int64)
    rest = np.argsort(counts - exact, kind="stable")[: sellers - ceos - int(counts.sum())]
    counts[rest] += 1
    return [int(count) + 1 for count in counts]


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


def _person(staff: str, unit: str, post: str, channel: str | None) -> dict[str, object]:
    return {"staff_id": staff, "org_unit_id": unit, "post": post, "channel_id": channel,
            "status": "active"}  # fmt: skip
