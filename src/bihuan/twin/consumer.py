"""What consumers do in detail: calls and data by kind, devices, places, families, payments, orders.

:func:`generate_operator` gives each customer one mobile line with its usage and bill.
:func:`surround_consumers` lays the detail around it, month by month, so that the sample tags have
something to stand on. Habits are drawn once per customer and hang together: the young play games
and pay by phone, the old call and pay in cash, who is away at night is away every month.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.data import Lake, LakeView, TableContract
from bihuan.kernel import Clock, random_stream
from bihuan.twin.consumer_life import deals, devices, families, movements, products, service_records
from bihuan.twin.consumer_usage import broadband_use, call_detail, data_detail
from bihuan.twin.organisation import in_contract

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
HOUSEHOLDS_PER_GRID = 20
_BROADBAND_FEES = np.array([30.0, 50.0, 80.0])
_BROADBAND_PRODUCTS = np.array(["broadband_300", "broadband_500", "broadband_1000"])
_SECTOR = {"broadband": "b", "iptv": "v", "fixed_voice": "f", "leased_line": "l"}
_INDUSTRIES = np.array(["retail", "catering", "logistics", "education", "manufacturing"])


@dataclass(frozen=True)
class People:
    """Customers of this network with their habits; arrays of one length, ordered by id.

    Parameters
    ----------
    ids
        Customer ids.
    age
        In years at the newest date; 40 where not known.
    digital, social, money
        Habits, about standard normal.
    migrant
        Whether the customer lives away from the county of registration.
    family
        Index of the household.
    address
        Address id.
    county, unit
        County code and org unit id; empty where not known.
    fixed
        Who has which fixed service, by service.
    firm
        Who is a small firm rather than a person.
    seed
        The twin's seed.
    """

    ids: pa.Array
    age: Floats
    digital: Floats
    social: Floats
    money: Floats
    migrant: Bools
    family: Ints
    address: NDArray[np.str_]
    county: NDArray[np.str_]
    unit: NDArray[np.str_]
    fixed: Mapping[str, Bools]
    firm: Bools
    seed: int

    def of(self, customer_ids: pa.ChunkedArray | pa.Array) -> Ints:
        """Return the index of each id; all of them must be among the people."""
        return np.asarray(pc.index_in(customer_ids, value_set=self.ids)).astype(np.int64)

    def known(self, rows: pa.Table) -> pa.Table:
        """Return the rows of these people."""
        return rows.filter(pc.is_in(rows["customer_id"], value_set=self.ids))


def surround_consumers(
    lake: Lake,
    month_ends: Sequence[date],
    contracts: Mapping[str, TableContract],
    *,
    seed: int,
    clock: Clock,
) -> None:
    """Publish the detail of what consumers are and do, one publication per month.

    Customers get an address, a household, a credit class; subscriptions get a number, an address
    and a network resource, and some customers a broadband, television or fixed-voice line with its
    bill. New are ``voice_usage``, ``data_usage``, ``broadband_usage``, ``terminal``, ``mobility``,
    ``family``, ``payment``, ``product_order``, ``holding``, ``address``, ``resource`` and
    ``customer_group``; ``ticket``, ``contact`` and ``product`` get further rows. Done twice, it
    comes out as done once.

    Parameters
    ----------
    lake
        Holds ``customer``, ``subscription`` and ``usage`` at each date.
    month_ends
        The dates, oldest first.
    contracts
        The built-in table contracts.
    seed
        The twin's seed.
    clock
        Moment of publication.
    """
    people = draw_people(lake.view(), month_ends[-1], seed)
    for as_of in month_ends:
        view = lake.view()
        tables = _month(view, as_of, people, contracts)
        lineage = {"source": "twin", "seed": seed, "around": view.get("customer", as_of).id}
        with lake.publication(clock) as publication:
            for name, table in tables.items():
                publication.add(name, as_of, table, lineage=lineage)


def draw_people(view: LakeView, as_of: date, seed: int) -> People:
    """Draw the habits of this network's customers at a date.

    Parameters
    ----------
    view
        Holds ``customer`` at ``as_of``.
    as_of
        Newest date.
    seed
        The twin's seed.
    """
    rows = view.get("customer", as_of).read().sort_by("customer_id")
    rows = rows.filter(pc.not_equal(pc.fill_null(rows["network"], "on_net"), "off_net"))
    rng, n = random_stream(seed, "people"), rows.num_rows
    born = pc.fill_null(rows["birth_year"], as_of.year - 40).to_numpy().astype(np.float64)
    age = as_of.year - born
    young = (40 - age) / 15
    unit = np.array(pc.fill_null(rows["org_unit_id"], "").to_pylist(), dtype=np.str_)
    place = np.char.add(np.char.add("addr-", unit), "-")
    number = rng.integers(0, HOUSEHOLDS_PER_GRID, n).astype(str)
    has = rng.random(n)
    broadband, firm = has < 0.42, rng.random(n) < 0.02
    return People(
        ids=rows["customer_id"].combine_chunks(),
        age=age,
        digital=0.7 * young + 0.7 * rng.standard_normal(n),
        social=0.2 * young + rng.standard_normal(n),
        money=rng.standard_normal(n),
        migrant=rng.random(n) < np.clip(0.16 - 0.002 * np.abs(age - 27), 0.03, 1),
        family=_households(unit, rng),
        address=np.char.add(place, number),
        county=np.array(pc.fill_null(rows["county_code"], "").to_pylist(), dtype=np.str_),
        unit=unit,
        fixed={
            "broadband": broadband,
            "iptv": broadband & (rng.random(n) < 0.5),
            "fixed_voice": rng.random(n) < 0.05 + 0.1 * (age > 60),
            "leased_line": firm & (rng.random(n) < 0.6),
        },
        firm=firm,
        seed=seed,
    )


def _households(unit: NDArray[np.str_], rng: np.random.Generator) -> Ints:
    """Put neighbours into households of one to four; return each one's household."""
    order = np.lexsort((rng.random(len(unit)), unit))
    starts = rng.random(len(unit)) < 0.45
    if len(starts):
        starts[0] = True
    moved = unit[order] != np.roll(unit[order], 1)
    sizes = np.cumsum(starts | moved)
    household = np.empty(len(unit), dtype=np.int64)
    household[order] = sizes
    return household


def _month(
    view: LakeView, as_of: date, people: People, contracts: Mapping[str, TableContract]
) -> dict[str, pa.Table]:
    def table(name: str, columns: Mapping[str, object]) -> pa.Table:
        return in_contract(contracts[name], columns)

    subscription = _subscriptions(view, as_of, people, contracts)
    mobiles = people.known(subscription.filter(pc.equal(subscription["service"], "mobile")))
    out = {
        "customer": _customers(view, as_of, people, contracts),
        "subscription": subscription,
        "terminal": table("terminal", devices(people, mobiles, as_of)),
        "bill": _bills(view, as_of, subscription, contracts),
    }
    usage = view.find("usage", as_of)
    if usage is not None:
        rows = people.known(usage.read())
        out |= {
            "voice_usage": table("voice_usage", call_detail(people, rows, as_of)),
            "data_usage": table("data_usage", data_detail(people, rows, as_of)),
            "mobility": table("mobility", movements(people, rows, as_of)),
        }
    lines = subscription.filter(
        pc.and_(pc.equal(subscription["service"], "broadband"),
                pc.equal(subscription["status"], "active"))
    )  # fmt: skip
    out["broadband_usage"] = table("broadband_usage", broadband_use(people, lines, as_of))
    for name, columns in (families(people) | _places(people)).items():
        out[name] = table(name, columns)
    for name, columns in deals(people, mobiles, as_of).items():
        out[name] = table(name, columns)
    more = service_records(people, mobiles, as_of) | {"product": products()}
    for name, columns in more.items():
        out[name] = _with_rows(view, as_of, contracts[name], table(name, columns))
    return out


def _with_rows(view: LakeView, as_of: date, contract: TableContract, more: pa.Table) -> pa.Table:
    """Return the snapshot with further rows; rows of the same key are replaced."""
    snapshot = view.find(contract.name, as_of)
    if snapshot is None:
        return more
    rows, key = snapshot.read(), list(contract.key)
    old = rows.join(more.select(key), key, join_type="left anti").select(more.column_names)
    both = pa.concat_tables([old.cast(more.schema), more])
    return both.sort_by([(name, "ascending") for name in key])


def _customers(
    view: LakeView, as_of: date, people: People, contracts: Mapping[str, TableContract]
) -> pa.Table:
    """Fill in what the customer record lacks, for those who are people of this network."""
    rows = view.get("customer", as_of).read()
    rng = random_stream(people.seed, "customer_record")  # the same every month
    n = len(people.ids)
    manager = np.where(
        (people.money > 1.3) & (people.unit != ""), np.char.add("manager-", people.unit), ""
    )
    credit = np.clip(np.round(2.6 + 0.8 * people.money + 0.6 * rng.standard_normal(n)), 1, 5)
    given: dict[str, list[object]] = {
        "address_id": people.address.tolist(),
        "group_id": np.char.add("h", people.family.astype(str)).tolist(),
        "manager_staff_id": [name or None for name in manager.tolist()],
        "credit_class": np.char.add("c", credit.astype(np.int64).astype(str)).tolist(),
        "has_partner": (rng.random(n) < np.clip((people.age - 20) / 20, 0.02, 0.8)).tolist(),
        "industry": [
            name if firm else None
            for name, firm in zip(
                _INDUSTRIES[rng.integers(0, 5, n)].tolist(), people.firm.tolist(), strict=True
            )
        ],
        "has_dependents": (rng.random(n) < 0.5 - 0.015 * np.abs(people.age - 38)).tolist(),
    }
    at = pc.index_in(rows["customer_id"], value_set=people.ids)
    schema = contracts["customer"].schema
    is_firm = pc.fill_null(pa.array(people.firm).take(at), False)
    kind = pc.if_else(is_firm, "enterprise", rows["kind"])
    rows = rows.set_column(rows.column_names.index("kind"), schema.field("kind"), kind)
    for name, values in given.items():
        column = pc.coalesce(pa.array(values).take(at), rows[name].cast(schema.field(name).type))
        rows = rows.set_column(rows.column_names.index(name), schema.field(name), column)
    return rows


def _subscriptions(
    view: LakeView, as_of: date, people: People, contracts: Mapping[str, TableContract]
) -> pa.Table:
    """Return the mobile lines with number, address and cell, and the fixed lines."""
    contract = contracts["subscription"]
    rows = view.get("subscription", as_of).read().select(list(contract.names))
    added = pc.is_in(rows["service"], value_set=pa.array(list(_SECTOR)))
    ours = pc.is_in(rows["customer_id"], value_set=people.ids)
    rows = rows.filter(pc.invert(pc.and_(pc.fill_null(added, False), ours)))
    at = pc.index_in(rows["customer_id"], value_set=people.ids)
    digits = np.char.zfill(np.arange(len(people.ids)).astype(str), 8)
    filled = {
        "number": np.char.add("101", digits).tolist(),  # no network gives numbers like these
        "address_id": people.address.tolist(),
        "resource_id": np.char.add("cell-", people.unit).tolist(),
    }
    for name, values in filled.items():
        column = pc.coalesce(rows[name].cast(pa.string()), pa.array(values).take(at))
        rows = rows.set_column(rows.column_names.index(name), contract.schema.field(name), column)
    mobile = rows.filter(pc.equal(rows["service"], "mobile")) if rows.num_rows else rows
    gone = people.known(mobile.filter(pc.equal(mobile["status"], "disconnected")))
    has_left = np.zeros(len(people.ids), dtype=np.bool_)
    has_left[people.of(gone["customer_id"])] = True
    fixed = [
        in_contract(contract, _fixed_lines(people, service, has_left, as_of)) for service in _SECTOR
    ]
    return pa.concat_tables([rows, *fixed])


def _fixed_lines(people: People, service: str, has_left: Bools, as_of: date) -> dict[str, object]:
    who = np.flatnonzero(people.fixed[service])
    rng = random_stream(people.seed, f"fixed_lines {service}")  # the same every month
    speed = rng.choice(3, len(who), p=[0.4, 0.4, 0.2])
    ids = people.ids.take(pa.array(who))
    month = as_of.year * 12 + as_of.month
    age = (month + rng.integers(0, 60, len(who))) % 60 + 1
    left = 24 - age % 24
    fee = {
        "broadband": _BROADBAND_FEES[speed],
        "iptv": np.full(len(who), 15.0),
        "leased_line": 12 * _BROADBAND_FEES[speed],
    }
    days = np.datetime64(as_of, "D")
    names = {
        "broadband": _BROADBAND_PRODUCTS[speed],
        "iptv": np.full(len(who), "iptv_basic"),
        "leased_line": np.full(len(who), "line_basic"),
    }
    return {
        "subscription_id": pc.binary_join_element_wise(_SECTOR[service], ids, ""),
        "account_id": pc.binary_join_element_wise("a", ids, ""),
        "customer_id": ids,
        "service": pa.repeat(service, len(who)),
        "product_id": names.get(service, np.full(len(who), "fixed_basic")).tolist(),
        "status": np.where(has_left[who], "disconnected", "active").tolist(),
        "activated_on": pa.array(days - (30 * age).astype("timedelta64[D]")),
        "tenure_months": age,
        "contract_kind": pa.repeat("two_year", len(who)),
        "contract_ends_on": pa.array(days + (30 * left).astype("timedelta64[D]")),
        "monthly_fee": fee.get(service, np.full(len(who), 10.0)),
        "address_id": people.address[who].tolist(),
        "resource_id": np.char.add("port-", people.address[who]).tolist(),
        "left_in_month": np.zeros(len(who), dtype=np.bool_),
    }


def _bills(
    view: LakeView,
    as_of: date,
    subscription: pa.Table,
    contracts: Mapping[str, TableContract],
) -> pa.Table:
    """Return the month's bills with those of the fixed lines in use."""
    lines = subscription.filter(
        pc.and_(pc.is_in(subscription["service"], value_set=pa.array(list(_SECTOR))),
                pc.equal(subscription["status"], "active"))
    )  # fmt: skip
    fee = lines["monthly_fee"].cast(pa.float64()).to_numpy()
    more = in_contract(
        contracts["bill"],
        {
            "account_id": lines["account_id"],
            "subscription_id": lines["subscription_id"],
            "customer_id": lines["customer_id"],
            "amount": fee,
            "cumulative_amount": fee * lines["tenure_months"].to_numpy(),
            "overdue_amount": np.zeros(len(fee)),
            "discount_amount": np.zeros(len(fee)),
        },
    )
    return _with_rows(view, as_of, contracts["bill"], more)


def _places(people: People) -> dict[str, dict[str, object]]:
    """Return ``address`` and ``resource``: every household's, with the cell of its grid."""
    address, first = np.unique(people.address, return_index=True)
    unit, county = people.unit[first], people.county[first]
    grids = np.unique(unit)
    rng = random_stream(people.seed, "places")
    capacity = rng.choice([16.0, 32.0, 64.0], len(address))
    load = rng.beta(5, 3, len(address) + len(grids))
    ports, cells = np.char.add("port-", address), np.char.add("cell-", grids)
    size = np.concatenate([capacity, np.full(len(grids), 1200.0)])
    street = np.char.replace(address, "addr-", "")
    return {
        "address": {
            "address_id": address.tolist(),
            "city_code": [code[:4] or None for code in county.tolist()],
            "county_code": [code or None for code in county.tolist()],
            "town": unit.tolist(),
            "org_unit_id": [name or None for name in unit.tolist()],
            "longitude": np.round(114 + 4 * rng.random(len(address)), 5),
            "latitude": np.round(37 + 3 * rng.random(len(address)), 5),
            "text": np.char.add("模拟地址 ", street).tolist(),
        },
        "resource": {
            "resource_id": [*ports.tolist(), *cells.tolist()],
            "kind": ["port"] * len(ports) + ["cell"] * len(cells),
            "address_id": [*address.tolist(), *[None] * len(cells)],
            "status": np.where(rng.random(len(size)) < 0.02, "faulty", "in_service").tolist(),
            "capacity": size,
            "used": np.round(size * load),
            "unit": ["user"] * len(size),
        },
    }
