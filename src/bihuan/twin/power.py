"""A power utility: supplied customers, meters, bills, payments, outages and lines, all simulated.

Dwelling, household and appliances drive the energy; weather drives the months; thrift and
patience, which never reach the lake, drive when a customer uses power, how he pays and how soon he
complains. Lines that carry much for what they can do fail more often.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bihuan.data import Lake, TableContract
from bihuan.kernel import Clock, random_stream
from bihuan.twin.month import (
    Columns,
    Floats,
    Ints,
    add_tables,
    as_timestamps,
    choose,
    days_before,
    moments,
    month_ends,
    numbered,
)
from bihuan.twin.organisation import CITIES

USES = ("residential", "commercial", "industrial", "agricultural")
CHANNELS = ("debit", "app", "wallet", "hall", "agent")
TOPICS = ("car", "solar", "saving", "green", "home")
_CUSTOMERS_PER_LINE = 40
_SEASON = (1.15, 1.05, 0.9, 0.8, 0.85, 1.1, 1.4, 1.35, 1.0, 0.85, 0.9, 1.1)
_PRICE, _PEAK_PRICE, _VALLEY_PRICE, _TIER_PRICE = 0.52, 0.85, 0.3, 0.05


@dataclass(frozen=True)
class _Supplied:
    """The supplied customers, one array entry each."""

    ids: pa.Array
    use: Ints  # place in USES
    line: Ints
    base_kwh: Floats
    thrift: Floats
    patience: Floats
    solar: np.ndarray[tuple[int], np.dtype[np.bool_]]
    time_of_use: np.ndarray[tuple[int], np.dtype[np.bool_]]
    age_days: Ints
    interest: Floats  # (customers, topics)
    channel: Floats  # weights (customers, channels)
    fixed: Columns

    @property
    def meters(self) -> pa.Array:
        """One meter per customer."""
        return pc.binary_join_element_wise("m", self.ids, "")


@dataclass(frozen=True)
class _Grid:
    """The power lines, one array entry each."""

    ids: pa.Array
    capacity: Floats
    weakness: Floats  # outages a month
    age_days: Ints
    fixed: Columns


def surround_power(
    lake: Lake,
    as_of: date,
    contracts: Mapping[str, TableContract],
    *,
    months: int = 12,
    seed: int,
    clock: Clock,
) -> dict[str, int]:
    """Publish a simulated power supply of the customers in the lake, month by month.

    Publishes ``power_customer``, ``power_line``, ``electricity_usage``, ``electricity_bill``,
    ``electricity_payment``, ``power_outage``, ``power_interruption``, ``power_service``,
    ``power_load`` and ``power_reading``. Nine customers in ten are supplied. Where the lake has
    enterprises, each has a supply of its own under one of the customers.

    Parameters
    ----------
    lake
        Holds ``customer`` at ``as_of``.
    as_of
        Newest month end.
    contracts
        The built-in table contracts.
    months
        Months up to ``as_of``, >= 1.
    seed
        The twin's seed.
    clock
        Moment of publication.

    Returns
    -------
    dict[str, int]
        Rows written, by table.
    """
    rng = random_stream(seed, "power")
    view = lake.view()
    customers = view.get("customer", as_of)
    ids = customers.read(["customer_id"]).sort_by("customer_id")["customer_id"].combine_chunks()
    ids = ids.take(pa.array(np.flatnonzero(rng.random(len(ids)) < 0.9)))
    firms = view.find("enterprise", as_of)
    employers = pa.array([], pa.string()) if firms is None else (
        firms.read(["enterprise_id"])["enterprise_id"].combine_chunks()
    )  # fmt: skip
    grid = _draw_grid(rng, max(8, len(ids) // _CUSTOMERS_PER_LINE))
    supplied = _draw_supplied(rng, ids, employers, grid)
    lineage = {"source": "twin", "seed": seed, "around": customers.id}
    written: dict[str, int] = {}
    for back, day in zip(range(months - 1, -1, -1), month_ends(as_of, months), strict=True):
        energy, used = _usage(rng, supplied, day)
        tables = _state(supplied, grid, day, back)
        tables |= {"electricity_usage": used, "electricity_bill": _bill(rng, supplied, used)}
        tables |= _payments(rng, supplied, tables["electricity_bill"], day)
        tables |= _outages(rng, supplied, grid, energy, day)
        tables |= _requests(rng, supplied, tables["power_interruption"], day)
        tables |= {"power_reading": _reading(rng, supplied)}
        with lake.publication(clock) as publication:
            add_tables(publication, tables, day, contracts, written, lineage)
    return written


def _draw_grid(rng: np.random.Generator, n: int) -> _Grid:
    capacity = np.round(rng.uniform(60, 400, n), -1)
    build = rng.choice(3, n, p=[0.55, 0.25, 0.2])
    age = rng.integers(300, 12_000, n)
    city = rng.integers(0, len(CITIES), n)
    fixed: Columns = {
        "power_line_id": numbered("p", n),
        "name": pa.array([f"模拟 {i:03d} 线" for i in range(n)]),
        "build": pa.array(["overhead", "cable", "mixed"]).take(pa.array(build)),
        "length_km": np.round(rng.gamma(2, 4, n), 2),
        "capacity_kw": capacity,
        "has_tie": rng.random(n) < 0.6,
        "city_code": pa.array([CITIES[i][0] for i in city]),
        "org_unit_id": pa.array([f"city-{CITIES[i][0]}" for i in city]),
    }
    weakness = 0.05 + 0.25 * (build == 0) * age / 12_000 + 0.15 * rng.random(n)
    return _Grid(fixed["power_line_id"], capacity, weakness, age, fixed)


def _draw_supplied(
    rng: np.random.Generator, ids: pa.Array, employers: pa.Array, grid: _Grid
) -> _Supplied:
    n = len(ids)
    use = rng.choice(4, n, p=[0.82, 0.11, 0.03, 0.04])
    firm = np.full(n, -1)
    hosts = rng.permutation(n)[: len(employers)]
    firm[hosts] = np.arange(len(hosts))
    use[hosts] = rng.choice([1, 2], len(hosts), p=[0.6, 0.4])
    home = use == 0
    size = np.where(home, 1 + rng.poisson(1.7, n), 0)
    dwelling = np.where(home, rng.choice(3, n, p=[0.6, 0.1, 0.3]), np.where(use == 1, 3, 4))
    area = np.exp(np.array([4.5, 5.1, 4.9, 4.6, 6.5])[dwelling] + 0.3 * rng.standard_normal(n))
    car = rng.random(n) < np.where(home, 0.06, 0.1)
    solar = rng.random(n) < np.where(dwelling == 2, 0.12, 0.03)
    thrift, patience = rng.standard_normal(n), rng.standard_normal(n)
    base = np.exp(np.array([4.3, 6.0, 8.3, 5.4])[use] + 0.35 * rng.standard_normal(n))
    base *= np.where(home, 0.6 + 0.25 * size, 1.0) * (1 + 0.8 * car) * np.exp(-0.15 * thrift)
    line = rng.integers(0, len(grid.capacity), n)
    tariff = np.where(
        home & (rng.random(n) > 0.3 + 0.1 * (thrift > 0)), 1, rng.choice([0, 2], n, p=[0.3, 0.7])
    )
    interest = rng.gamma(0.5, 0.6, (n, len(TOPICS))) * np.array([0.8, 0.5, 1.0, 0.4, 0.7])
    interest[:, 0] += 1.2 * car
    interest[:, 1] += 0.8 * solar
    channel = np.exp(0.9 * rng.standard_normal((n, len(CHANNELS))) + [0.5, 0.8, 0.6, -0.3, -0.6])
    firms = pa.array(np.where(firm < 0, 0, firm)) if len(employers) else None
    fixed: Columns = {
        "customer_id": ids,
        "enterprise_id": pc.if_else(
            pa.array(firm >= 0), employers.take(firms), pa.scalar(None, pa.string())
        ) if firms is not None else pa.nulls(n, pa.string()),
        "use_kind": pa.array(USES).take(pa.array(use)),
        "voltage": pa.array(["v220", "v380", "kv10", "kv35"]).take(
            pa.array(np.where(home, 0, np.where(use == 2, 2 + (rng.random(n) < 0.2), 1)))
        ),
        "tariff": pa.array(["flat", "tiered", "time_of_use"]).take(pa.array(tariff)),
        "capacity_kw": np.round(np.array([8.0, 40, 400, 25])[use] * rng.uniform(0.7, 1.6, n), 0),
        "household_size": pc.if_else(pa.array(home), pa.array(size), pa.scalar(None, pa.int64())),
        "dwelling": pa.array(["apartment", "house", "village", "shop", "plant"]).take(
            pa.array(dwelling)
        ),
        "floor_area": np.round(area, 1),
        "is_low_income": home & (rng.random(n) < 0.04),
        "has_ev_charger": car,
        "has_solar": solar,
        "has_smart_meter": rng.random(n) < 0.85,
        "notice_by": choose(
            rng, ("sms", "wechat", "app", "paper"), n, p=np.array([4.0, 3, 2, 1])
        ),
        "power_line_id": grid.ids.take(pa.array(line)),
    }  # fmt: skip
    return _Supplied(
        ids, use, line, base, thrift, patience, solar, tariff == 2,
        rng.integers(60, 9000, n), interest, channel, fixed,
    )  # fmt: skip


def _state(supplied: _Supplied, grid: _Grid, day: date, back: int) -> dict[str, Columns]:
    since = np.maximum(supplied.age_days - 30 * back, 0)
    return {
        "power_customer": {**supplied.fixed, "connected_on": days_before(day, since)},
        "power_line": {
            **grid.fixed,
            "commissioned_on": days_before(day, grid.age_days - 30 * back),
        },
    }


def _usage(rng: np.random.Generator, supplied: _Supplied, day: date) -> tuple[Floats, Columns]:
    n = len(supplied.ids)
    season = np.where(supplied.use == 2, 1.0, _SEASON[day.month - 1])
    energy = np.round(supplied.base_kwh * season * np.exp(0.15 * rng.standard_normal(n)), 1)
    energy = np.where(rng.random(n) < 0.01, 0.0, energy)  # nobody at home
    valley = 0.25 + 0.12 * supplied.time_of_use + 0.05 * supplied.thrift
    valley = np.clip(valley + 0.04 * rng.standard_normal(n), 0.05, 0.8)
    peak = np.clip(0.45 - 0.06 * supplied.thrift + 0.04 * rng.standard_normal(n), 0.05, 1 - valley)
    return energy, {
        "meter_id": supplied.meters,
        "customer_id": supplied.ids,
        "energy_kwh": energy,
        "peak_kwh": np.round(energy * peak, 1),
        "valley_kwh": np.round(energy * valley, 1),
        "max_demand_kw": np.round(energy / 720 * rng.uniform(2.2, 6, n), 2),
        "power_factor": np.round(np.clip(0.97 - 0.06 * (supplied.use == 2) * rng.random(n)
                                         - 0.03 * rng.random(n), 0, 1), 3),
    }  # fmt: skip


def _bill(rng: np.random.Generator, supplied: _Supplied, used: Columns) -> Columns:
    energy, peak, valley = used["energy_kwh"], used["peak_kwh"], used["valley_kwh"]
    by_time = peak * _PEAK_PRICE + valley * _VALLEY_PRICE + (energy - peak - valley) * _PRICE
    tier = np.where(supplied.use == 0, np.maximum(energy - 210, 0) * _TIER_PRICE, 0.0)
    amount = np.round(np.where(supplied.time_of_use, by_time, energy * _PRICE + tier), 2)
    late = rng.random(len(energy)) < 1 / (1 + np.exp(3.2 + 0.8 * supplied.patience))
    return {
        "meter_id": supplied.meters,
        "customer_id": supplied.ids,
        "amount": amount,
        "tier_amount": np.round(np.where(supplied.time_of_use, 0.0, tier), 2),
        "overdue_amount": np.where(late, amount, 0.0),
    }


def _payments(
    rng: np.random.Generator, supplied: _Supplied, bill: Columns, day: date
) -> dict[str, Columns]:
    paid = np.flatnonzero((bill["amount"] > 0) & (bill["overdue_amount"] == 0))
    days = rng.poisson(np.exp(-1.2 - 0.9 * supplied.patience[paid]))
    return {
        "electricity_payment": {
            "payment_id": numbered(f"y{day:%Y%m}", len(paid)),
            "customer_id": supplied.ids.take(pa.array(paid)),
            "channel": choose(rng, CHANNELS, len(paid), p=supplied.channel[paid]),
            "amount": bill["amount"][paid],
            "paid_at": as_timestamps(moments(rng, day, len(paid))),
            "days_late": days,
            "is_prepaid": (days == 0) & (rng.random(len(paid)) < 0.3 + 0.1 * supplied.thrift[paid]),
        }
    }


def _outages(
    rng: np.random.Generator, supplied: _Supplied, grid: _Grid, energy: Floats, day: date
) -> dict[str, Columns]:
    n = len(grid.capacity)
    delivered = np.bincount(supplied.line, weights=energy, minlength=n)
    load = delivered / 720 * rng.uniform(1.8, 2.6, n)
    rate = grid.weakness * (1 + 2 * (load > 0.8 * grid.capacity))
    failed = np.repeat(np.arange(n), rng.poisson(rate))
    minutes = np.round(rng.gamma(1.5, 70, len(failed)), 0)
    planned = rng.random(len(failed)) < 0.4
    counts = np.bincount(supplied.line, minlength=n)
    outage, who = _sufferers(supplied.line, failed, counts)
    ids = numbered(f"o{day:%Y%m}", len(failed))
    kind = pa.array(np.where(planned, "planned", "fault").tolist(), pa.string())
    return {
        "power_outage": {
            "outage_id": ids,
            "power_line_id": grid.ids.take(pa.array(failed, pa.int64())),
            "kind": kind,
            "started_at": as_timestamps(moments(rng, day, len(failed))),
            "minutes": minutes,
            "customer_count": counts[failed],
        },
        "power_interruption": {
            "outage_id": ids.take(pa.array(outage, pa.int64())),
            "customer_id": supplied.ids.take(pa.array(who, pa.int64())),
            "kind": kind.take(pa.array(outage, pa.int64())),
            "minutes": minutes[outage],
        },
        "power_load": {
            "power_line_id": grid.ids,
            "max_load_kw": np.round(load, 1),
            "energy_kwh": np.round(delivered, 1),
            "loss_share": np.round(np.clip(0.03 + 0.1 * grid.weakness * rng.random(n), 0, 1), 4),
        },
    }


def _sufferers(line: Ints, failed: Ints, counts: Ints) -> tuple[Ints, Ints]:
    """Pair each outage with every customer of its line, as places of both."""
    order = np.argsort(line, kind="stable")
    first = np.searchsorted(line[order], failed)
    size = counts[failed]
    within = np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size)
    return np.repeat(np.arange(len(failed)), size), order[np.repeat(first, size) + within]


def _requests(
    rng: np.random.Generator, supplied: _Supplied, suffered: Columns, day: date
) -> dict[str, Columns]:
    n = len(supplied.ids)
    hit = pc.is_in(supplied.ids, value_set=suffered["customer_id"]).to_numpy(zero_copy_only=False)
    who = np.repeat(np.arange(n), rng.poisson(0.05 + 0.25 * hit * np.exp(-0.5 * supplied.patience)))
    angry = rng.random(len(who)) < 1 / (1 + np.exp(1.0 + 1.1 * supplied.patience[who]))
    other = choose(rng, ("inquiry", "repair", "advice"), len(who), p=np.array([5.0, 3, 1]))
    given = rng.random(len(who)) < 0.6
    grade = np.clip(np.round(4 - 1.8 * angry + rng.standard_normal(len(who))), 1, 5).astype(int)
    return {
        "power_service": {
            "service_id": numbered(f"q{day:%Y%m}", len(who)),
            "customer_id": supplied.ids.take(pa.array(who, pa.int64())),
            "kind": pc.if_else(pa.array(angry), "complaint", other),
            "topic": choose(
                rng, ("bill", "quality", "outage", "attitude", "business"), len(who),
                p=np.array([3.0, 1.5, 3, 0.7, 2]),
            ),
            "channel": choose(
                rng, ("hotline", "app", "hall"), len(who), p=np.array([5.0, 3, 1])
            ),
            "occurred_at": as_timestamps(moments(rng, day, len(who))),
            "satisfaction": pc.if_else(
                pa.array(given), pa.array(grade), pa.scalar(None, pa.int64())
            ),
        }
    }  # fmt: skip


def _reading(rng: np.random.Generator, supplied: _Supplied) -> Columns:
    visits = rng.poisson(supplied.interest)
    who, topic = np.nonzero(visits)
    return {
        "customer_id": supplied.ids.take(pa.array(who)),
        "topic": pa.array(TOPICS).take(pa.array(topic)),
        "visits": visits[who, topic],
    }
