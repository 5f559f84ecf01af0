"""Enterprises around the customers: their numbers, lines, bills and contacts, all simulated.

About a third of the customers get an employer whose number they use; a tenth of those numbers is
used by things. Each enterprise has leased lines whose traffic grows, whose fees sometimes jump,
which break and are attacked. Growing traffic on a narrow line, a dear line whose contract ends and
mobiles bought outside the converged offer are there to be found.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bihuan.data import DuckDBEngine, Lake, TableContract
from bihuan.kernel import Clock, random_stream
from bihuan.tag import match_plan_lists
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
from bihuan.twin.organisation import CITIES, CITY_WEIGHTS

INDUSTRIES = ("制造", "零售", "教育", "医疗", "物流", "政务", "金融", "餐饮")
BANDWIDTHS = np.array([20.0, 50, 100, 200, 500, 1000])
SPECIAL_PLANS, EXCLUSIVE_PLANS = ("plan_99", "plan_129"), ("plan_19", "plan_199")
SERVICES = ("mobile", "leased_line", "cloud", "iot", "fixed_voice")
_SIZES = ("micro", "small", "medium", "large")
_USERS_SHARE = 0.35


@dataclass(frozen=True)
class _Enterprises:
    """The enterprises, one array entry each."""

    ids: pa.Array
    staff: Ints
    size: Ints  # place in _SIZES
    city: Ints
    age_days: Ints
    fixed: Columns  # columns that do not change
    habit: Floats  # share of months in which a service is bought (enterprises, services)
    level: Floats  # billed per service and month (enterprises, services)


@dataclass(frozen=True)
class _Lines:
    """The leased lines, one array entry each; month by month where two-dimensional."""

    ids: pa.Array
    owner: Ints
    bandwidth: Floats
    list_fee: Floats
    fee: Floats  # (months, lines)
    load: Floats  # 95th percentile by bandwidth (months, lines)
    exposure: Floats  # how much of it meets foreign sites
    age_days: Ints
    left_days: Ints  # of the contract at the last month
    fixed: Columns


def surround_business(
    lake: Lake,
    as_of: date,
    contracts: Mapping[str, TableContract],
    *,
    months: int = 12,
    seed: int,
    clock: Clock,
) -> dict[str, int]:
    """Publish simulated enterprises, their numbers among the customers, and their leased lines.

    Publishes ``enterprise``, ``business_user``, ``leased_line``, ``plan_list``, ``custom_list``,
    ``enterprise_bill``, ``enterprise_contact``, ``coverage_dwell``, ``line_traffic``,
    ``line_bill``, ``line_visit``, ``line_attack`` and ``line_fault`` for each month, and
    ``listed_plan`` where there is a ``subscription``. Tables already there stay as they are.

    Parameters
    ----------
    lake
        Holds ``subscription`` at ``as_of``.
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
    rng = random_stream(seed, "business")
    numbers = lake.view().get("subscription", as_of)
    rows = numbers.read(["subscription_id", "customer_id"]).sort_by("subscription_id")
    count = max(20, rows.num_rows // 40)
    enterprises = _draw_enterprises(rng, count)
    lines = _draw_lines(rng, enterprises, months)
    users = _draw_users(rng, rows, enterprises)
    lineage: dict[str, object] = {"source": "twin", "seed": seed, "around": numbers.id}
    written: dict[str, int] = {}
    for month, day in enumerate(month_ends(as_of, months)):
        left = months - 1 - month
        with lake.publication(clock) as publication:
            for tables in (
                _state(enterprises, users, day, left),
                _line_state(lines, enterprises, day, month, left),
                _enterprise_facts(rng, enterprises, users, day),
                _line_facts(rng, lines, day, month),
            ):
                add_tables(publication, tables, day, contracts, written, lineage)
        if day in lake.view().dates("subscription"):
            match_plan_lists(
                lake, day, engine=DuckDBEngine(threads=1), clock=clock, contracts=contracts
            )
    return written


def _draw_enterprises(rng: np.random.Generator, n: int) -> _Enterprises:
    staff = np.round(np.exp(3.6 + 1.4 * rng.standard_normal(n))).astype(np.int64) + 2
    size = np.digitize(staff, (10, 100, 300))
    city = rng.choice(len(CITIES), n, p=CITY_WEIGHTS / CITY_WEIGHTS.sum())
    ids = numbered("e", n)
    habit = np.clip(
        np.array([0.95, 0.9, 0.35, 0.2, 0.5]) + 0.12 * size[:, None] * np.array([0, 0, 1, 1, 0.3]),
        0, 0.98,
    )  # fmt: skip
    has = rng.random((n, len(SERVICES))) < habit
    level = has * np.exp(rng.normal([4.0, 6.4, 5.0, 3.8, 3.6], 0.5, (n, len(SERVICES))))
    level = level * (1 + staff[:, None] / 40) * 0.5
    fixed: Columns = {
        "enterprise_id": ids,
        "name": pc.binary_join_element_wise("模拟企业", ids, ""),
        "industry": pa.array(INDUSTRIES).take(pa.array(rng.integers(0, len(INDUSTRIES), n))),
        "size_class": pa.array(_SIZES).take(pa.array(size)),
        "staff_count": staff,
        "branch_count": rng.poisson(0.2 + 0.8 * size),
        "registered_capital": np.round(staff * np.exp(9 + 0.6 * rng.standard_normal(n)), -3),
        "credit_class": choose(rng, ("A", "B", "C"), n, p=np.array([5.0, 4, 1])),
        "city_code": pa.array([code for code, _, _ in CITIES]).take(pa.array(city)),
        "org_unit_id": pa.array([f"city-{CITIES[i][0]}" for i in city]),
        "uses_other_operator": rng.random(n) < 0.4,
    }
    age = rng.integers(200, 6000, n)
    return _Enterprises(ids, staff, size, city, age, fixed, has.astype(float), level)


def _draw_lines(rng: np.random.Generator, enterprises: _Enterprises, months: int) -> _Lines:
    per = rng.poisson(1.4 + 0.7 * enterprises.size)
    owner = np.repeat(np.arange(len(per)), per)
    n = len(owner)
    speed = np.clip(rng.poisson(0.7 + 0.9 * enterprises.size[owner]), 0, len(BANDWIDTHS) - 1)
    bandwidth = BANDWIDTHS[speed]
    list_fee = np.round(60 * bandwidth**0.62, -1)
    first = list_fee * rng.uniform(0.65, 1.35, n)
    jump = np.where(
        rng.random((months, n)) < 0.03, rng.choice([0.4, 0.7, 1.6, 2.2], (months, n)), 1
    )
    start = rng.normal(-0.6, 0.9, n)
    steps = rng.normal(0.03, 0.12, (months, n)).cumsum(axis=0)
    load = 1 / (1 + np.exp(-(start + steps)))
    numbers = 3 + enterprises.staff[owner] * 0.4
    mobile = np.round(numbers * rng.uniform(45, 75, n), 2)
    fixed: Columns = {
        "leased_line_id": numbered("l", n),
        "enterprise_id": enterprises.ids.take(pa.array(owner)),
        "line_kind": choose(
            rng, ("internet", "data", "vpn", "voice"), n, p=np.array([6.0, 2, 1.5, 0.5])
        ),
        "bandwidth_mbps": bandwidth,
        "list_fee": list_fee,
        "mobile_price": mobile,
        "converged_price": np.round(mobile * rng.uniform(0.7, 1.15, n), 2),
        "sla_class": choose(
            rng, ("standard", "bronze", "silver", "gold"), n, p=np.array([5.0, 3, 2, 1])
        ),
        "access": choose(rng, ("fibre", "pon", "wireless"), n, p=np.array([6.0, 3, 1])),
        "region": choose(rng, ("urban", "park", "rural"), n, p=np.array([5.0, 3, 2])),
        "city_code": pa.array([CITIES[i][0] for i in enterprises.city[owner]]),
        "contract_months": rng.choice([12, 24, 36], n),
        "fixed_ip_count": rng.choice([0, 1, 4, 8, 16], n, p=[0.3, 0.3, 0.2, 0.15, 0.05]),
        "has_backup": rng.random(n) < 0.1 + 0.1 * enterprises.size[owner],
    }
    return _Lines(
        fixed["leased_line_id"], owner, bandwidth, list_fee,
        np.round(first * jump.cumprod(axis=0), 2), load, rng.gamma(0.6, 0.25, n),
        rng.integers(90, 2500, n), rng.integers(-40, 420, n), fixed,
    )  # fmt: skip


def _draw_users(rng: np.random.Generator, numbers: pa.Table, enterprises: _Enterprises) -> Columns:
    chosen = np.flatnonzero(rng.random(numbers.num_rows) < _USERS_SHARE)
    weights = enterprises.staff / enterprises.staff.sum()
    employer = rng.choice(len(weights), len(chosen), p=weights)
    group = np.bincount(employer, minlength=len(weights))[employer]
    things = rng.random(len(chosen)) < 0.1
    mine = numbers.take(pa.array(chosen))
    payer = choose(rng, ("enterprise", "person", "split"), len(chosen), p=np.array([4.0, 4, 2]))
    return {
        "subscription_id": mine["subscription_id"].combine_chunks(),
        "customer_id": mine["customer_id"].combine_chunks(),
        "enterprise_id": enterprises.ids.take(pa.array(employer)),
        # the group is larger than what of it is in this sample of customers
        "group_user_count": group * 3 + rng.integers(0, 3, len(chosen)),
        "payer": pc.if_else(pa.array(things), "enterprise", payer),
        "user_kind": pc.if_else(pa.array(things), "thing", "person"),
    }


def _state(enterprises: _Enterprises, users: Columns, day: date, left: int) -> dict[str, Columns]:
    age = enterprises.age_days - 30 * left
    key = users["customer_id"][::17].unique()
    plans = (*SPECIAL_PLANS, *EXCLUSIVE_PLANS)
    kinds = ["b_end_special"] * len(SPECIAL_PLANS) + ["mutually_exclusive"] * len(EXCLUSIVE_PLANS)
    return {
        "enterprise": {
            **enterprises.fixed,
            "founded_on": days_before(day, 2 * age + 400),
            "joined_on": days_before(day, age),
        },
        "business_user": users,
        "plan_list": {"list_kind": kinds, "product_id": list(plans), "since": [day] * len(plans)},
        "custom_list": {
            "customer_id": key,
            "list_name": ["key_customer"] * len(key),
            "since": [day] * len(key),
        },
    }


def _line_state(
    lines: _Lines, enterprises: _Enterprises, day: date, month: int, left: int
) -> dict[str, Columns]:
    ends = lines.left_days + 30 * left
    closed = (ends < -20) & (lines.owner % 3 == 0)
    status = np.where(closed, "closed", np.where(lines.age_days % 29 == 0, "suspended", "active"))
    return {
        "leased_line": {
            **lines.fixed,
            "monthly_fee": lines.fee[month],
            "status": pa.array(status.tolist()),
            "activated_on": days_before(day, np.maximum(lines.age_days - 30 * left, 0)),
            "contract_ends_on": pc.if_else(
                pa.array(lines.age_days % 13 != 0),
                days_before(day, -ends),
                pa.scalar(None, pa.date32()),
            ),
        }
    }


def _enterprise_facts(
    rng: np.random.Generator, enterprises: _Enterprises, users: Columns, day: date
) -> dict[str, Columns]:
    who, what = np.nonzero(enterprises.habit)
    amount = np.round(
        enterprises.level[who, what] * np.exp(0.08 * rng.standard_normal(len(who))), 2
    )
    seen = np.repeat(np.arange(len(enterprises.staff)), rng.poisson(0.3 + 0.3 * enterprises.size))
    customers = users["subscription_id"]
    hours = np.round(rng.uniform(120, 740, len(customers)), 1)
    return {
        "enterprise_bill": {
            "enterprise_id": enterprises.ids.take(pa.array(who)),
            "service": pa.array(SERVICES).take(pa.array(what)),
            "amount": amount,
            "discount_amount": np.round(amount * np.where(who % 4 == 0, 0.15, 0.0), 2),
            "overdue_amount": np.where(rng.random(len(who)) < 0.04, amount, 0.0),
        },
        "enterprise_contact": {
            "contact_id": numbered(f"v{day:%Y%m}", len(seen)),
            "enterprise_id": enterprises.ids.take(pa.array(seen, pa.int64())),
            "kind": choose(rng, ("visit", "call", "online"), len(seen), p=np.array([3.0, 5, 2])),
            "contacted_at": as_timestamps(moments(rng, day, len(seen))),
            "has_opportunity": rng.random(len(seen)) < 0.2,
        },
        "coverage_dwell": {
            "subscription_id": customers,
            "customer_id": users["customer_id"],
            "total_hours": hours,
            "g5_area_hours": np.round(hours * rng.beta(1.3, 1.6, len(hours)), 1),
        },
    }


def _line_facts(
    rng: np.random.Generator, lines: _Lines, day: date, month: int
) -> dict[str, Columns]:
    n = len(lines.owner)
    load = np.clip(lines.load[month] * rng.uniform(0.9, 1.1, n), 0.005, 1.0)
    traffic = np.round(load * lines.bandwidth * 60, 1)
    attacked = np.repeat(np.arange(n), rng.poisson(0.05 + 0.5 * lines.exposure))
    broken = np.repeat(np.arange(n), rng.poisson(0.08 + 0.15 * (lines.owner % 3 == 0), n))
    severity = rng.integers(1, 6, len(attacked))
    outage = np.round(rng.gamma(1.5, 60, len(broken)), 0)
    return {
        "line_traffic": {
            "leased_line_id": lines.ids,
            "traffic_gb": traffic,
            "peak_mbps": np.round(load * lines.bandwidth, 2),
            "busy_hours": np.round(np.clip((load - 0.55) * 900, 0, 700) * rng.random(n), 0),
            "upload_gb": np.round(traffic * rng.beta(2, 4, n), 1),
        },
        "line_bill": {
            "leased_line_id": lines.ids,
            "amount": lines.fee[month],
            "discount_amount": np.round(
                lines.fee[month] * np.where(lines.owner % 4 == 0, 0.1, 0), 2
            ),
            "overdue_amount": np.where(rng.random(n) < 0.05, lines.fee[month], 0.0),
        },
        "line_visit": _visits(rng, lines),
        "line_attack": {
            "attack_id": numbered(f"k{day:%Y%m}", len(attacked)),
            "leased_line_id": lines.ids.take(pa.array(attacked, pa.int64())),
            "kind": choose(
                rng, ("flood", "scan", "intrusion"), len(attacked), p=np.array([3.0, 5, 1])
            ),
            "severity": severity,
            "started_at": as_timestamps(moments(rng, day, len(attacked))),
            "minutes": np.round(rng.gamma(1.2, 25, len(attacked)) * severity, 0),
        },
        "line_fault": {
            "fault_id": numbered(f"f{day:%Y%m}", len(broken)),
            "leased_line_id": lines.ids.take(pa.array(broken, pa.int64())),
            "cause": choose(
                rng, ("access", "backbone", "customer"), len(broken), p=np.array([5.0, 2, 3])
            ),
            "severity": rng.integers(1, 6, len(broken)),
            "opened_at": as_timestamps(moments(rng, day, len(broken))),
            "outage_minutes": outage,
            "repair_hours": np.round(outage / 60 + rng.gamma(1.5, 1.5, len(broken)), 1),
        },
    }


def _visits(rng: np.random.Generator, lines: _Lines) -> Columns:
    """Visits to foreign sites, to other networks and to servers that a line always uses."""
    n = len(lines.owner)
    targets = (
        ("foreign_site", "cloud-abroad", 80 * lines.exposure * (lines.exposure > 0.1)),
        ("foreign_site", "trade-abroad", 50 * lines.exposure * (lines.owner % 3 == 0)),
        ("other_network", "cloud-rival", 60.0 * (lines.owner % 4 == 1) + 3),
        ("other_network", "rival-access", 20.0 * (lines.owner % 6 == 2)),
        ("fixed_server", "head-office", 300.0 * (lines.owner % 2 == 0)),
        ("fixed_server", "data-centre", 150.0 * (lines.owner % 5 < 2)),
    )
    found = [(kind, name, rng.poisson(np.broadcast_to(mean, n))) for kind, name, mean in targets]
    who = [np.flatnonzero(count) for _, _, count in found]
    visits = np.concatenate([count[w] for (_, _, count), w in zip(found, who, strict=True)])
    return {
        "leased_line_id": lines.ids.take(pa.array(np.concatenate(who))),
        "target_kind": [kind for (kind, _, _), w in zip(found, who, strict=True) for _ in w],
        "target": [name for (_, name, _), w in zip(found, who, strict=True) for _ in w],
        "visits": visits,
        "traffic_gb": np.round(visits * rng.gamma(2, 0.05, len(visits)), 3),
    }
