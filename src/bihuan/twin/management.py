"""Outlets, crews and areas of the simulated operator, and the monthly work of units and staff.

Areas are real in the sense that counts: their customers are those who live there, and what these
bring and how many leave is added up from the lake. The rest is drawn, each unit with a diligence
of its own that shows in all of its figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.data import Lake, LakeView, TableContract
from bihuan.kernel import Clock, random_stream
from bihuan.twin.organisation import in_contract

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Names: TypeAlias = NDArray[np.str_]
Columns: TypeAlias = dict[str, object]
AREAS_PER_GRID = 2
_OUTLETS_PER_COUNTY, _CREWS_PER_COUNTY = 2, 2
_WORKING_TIERS = ("province", "city", "county", "line", "grid")


def surround_management(
    lake: Lake,
    month_ends: Sequence[date],
    contracts: Mapping[str, TableContract],
    *,
    seed: int,
    clock: Clock,
) -> None:
    """Publish outlets, crews, areas and the monthly work of all units, one publication per month.

    New are ``outlet``, ``outlet_month``, ``crew``, ``crew_month``, ``area``, ``area_month``,
    ``unit_month`` and ``staff_month``; in ``staff`` some have left.

    Parameters
    ----------
    lake
        Holds ``org_unit``, ``staff``, ``customer`` and ``subscription`` at each date.
    month_ends
        The dates, oldest first.
    contracts
        The built-in table contracts.
    seed
        The twin's seed.
    clock
        Moment of publication.
    """
    for as_of in month_ends:
        view = lake.view()
        units = view.get("org_unit", as_of).read()
        tables: dict[str, Columns] = {}
        tables |= _outlets(_of_tier(units, "county"), as_of, seed)
        tables |= _crews(_of_tier(units, "county"), as_of, seed)
        tables |= _areas(view, _of_tier(units, "grid"), as_of, seed)
        tables["unit_month"] = _unit_month(units, as_of, seed)
        staff = view.get("staff", as_of).read()
        tables["staff"] = _with_leavers(staff, seed)
        tables["staff_month"] = _staff_month(staff, as_of, seed)
        lineage = {"source": "twin", "seed": seed, "around": view.get("org_unit", as_of).id}
        with lake.publication(clock) as publication:
            for name, columns in tables.items():
                table = in_contract(contracts[name], columns)
                publication.add(name, as_of, table, lineage=lineage)


def _of_tier(units: pa.Table, *tiers: str) -> Names:
    found = units.filter(pc.is_in(units["tier"], value_set=pa.array(tiers)))
    return np.array(found["org_unit_id"].to_pylist(), dtype=np.str_)


def _diligence(count: int, seed: int, purpose: str) -> Floats:
    """Draw how well each works, standard normal; the same every month."""
    return random_stream(seed, f"diligence {purpose}").standard_normal(count)


def _outlets(counties: Names, as_of: date, seed: int) -> dict[str, Columns]:
    unit = np.repeat(counties, _OUTLETS_PER_COUNTY)
    n = len(unit)
    number = (np.arange(n) % _OUTLETS_PER_COUNTY + 1).astype(str)
    short = np.char.replace(unit, "county-", "")
    ids = np.char.add(np.char.add(np.char.add("outlet-", short), "-"), number)
    fixed = random_stream(seed, "outlets")  # the same every month
    size = np.round(fixed.gamma(6, 18, n))
    opened = np.datetime64(date(2020, 6, 30)) - fixed.integers(0, 3000, n)
    kind = fixed.choice(["own", "franchised", "partner", "kiosk"], n, p=[0.4, 0.3, 0.2, 0.1])
    status = fixed.choice(["open", "refit", "closed"], n, p=[0.93, 0.05, 0.02])
    rng, good = random_stream(seed, f"outlet_month {as_of}"), _diligence(n, seed, "outlet")
    visitors = rng.poisson(size * 8 * np.exp(0.2 * good))
    orders = rng.binomial(visitors, np.clip(0.16 + 0.03 * good, 0.02, 0.5))
    sales = orders * rng.gamma(4, 40, n)
    return {
        "outlet": {
            "outlet_id": ids.tolist(),
            "org_unit_id": unit.tolist(),
            "name_zh": np.char.add("模拟营业厅 ", short).tolist(),
            "name_en": np.char.add("Simulated outlet ", short).tolist(),
            "kind": kind.tolist(),
            "city_code": [code[:4] for code in short.tolist()],
            "opened_on": pa.array(opened),
            "floor_m2": size,
            "seat_count": 1 + (size // 25).astype(np.int64),
            "status": status.tolist(),
            "monthly_rent": np.round(size * fixed.gamma(4, 15, n)),
        },
        "outlet_month": {
            "outlet_id": ids.tolist(),
            "visitor_count": visitors,
            "served_count": rng.binomial(visitors, 0.85),
            "wait_minutes": np.round(rng.gamma(4, 2.5, n) * np.exp(-0.2 * good), 1),
            "order_count": orders,
            "new_customer_count": rng.binomial(orders, 0.2),
            "broadband_count": rng.binomial(orders, 0.12),
            "g5_count": rng.binomial(orders, 0.25),
            "device_count": rng.binomial(orders, 0.1),
            "sales_amount": np.round(sales, 2),
            "target_amount": np.round(size * 8 * 0.16 * 165 * np.exp(0.1 * rng.normal(size=n)), 2),
            "cost_amount": np.round(size * rng.gamma(8, 12, n), 2),
            "complaint_count": rng.poisson(2 * np.exp(-0.4 * good)),
            "satisfaction": np.clip(np.round(4.2 + 0.3 * good + 0.1 * rng.normal(size=n), 2), 1, 5),
            "stockout_days": rng.binomial(as_of.day, 0.03, n),
            "staff_hours": np.round(160 * (1 + size // 25) * rng.beta(18, 2, n), 1),
        },
    }


def _crews(counties: Names, as_of: date, seed: int) -> dict[str, Columns]:
    unit = np.repeat(counties, _CREWS_PER_COUNTY)
    n = len(unit)
    number = (np.arange(n) % _CREWS_PER_COUNTY + 1).astype(str)
    short = np.char.replace(unit, "county-", "")
    ids = np.char.add(np.char.add(np.char.add("crew-", short), "-"), number)
    fixed = random_stream(seed, "crews")  # the same every month
    members = 3 + fixed.poisson(4, n)
    formed = np.datetime64(date(2024, 6, 30)) - fixed.integers(0, 2500, n)
    kind = fixed.choice(["installation", "repair", "patrol"], n, p=[0.4, 0.4, 0.2])
    rng, good = random_stream(seed, f"crew_month {as_of}"), _diligence(n, seed, "crew")
    jobs = 1 + rng.poisson(members * 28)
    on_time = np.clip(0.93 + 0.03 * good, 0.5, 1.0)
    return {
        "crew": {
            "crew_id": ids.tolist(),
            "org_unit_id": unit.tolist(),
            "name_zh": np.char.add("模拟班组 ", short).tolist(),
            "name_en": np.char.add("Simulated crew ", short).tolist(),
            "kind": kind.tolist(),
            "is_external": fixed.random(n) < 0.45,
            "member_count": members,
            "vehicle_count": 1 + members // 3,
            "status": np.where(rng.random(n) < 0.9, "on_duty", "off_duty").tolist(),
            "since": pa.array(formed),
        },
        "crew_month": {
            "crew_id": ids.tolist(),
            "job_count": jobs,
            "on_time_count": rng.binomial(jobs, on_time),
            "first_time_count": rng.binomial(jobs, np.clip(0.88 + 0.04 * good, 0.4, 1.0)),
            "repeat_count": rng.binomial(jobs, np.clip(0.05 - 0.02 * good, 0.005, 0.3)),
            "complaint_count": rng.poisson(1.2 * np.exp(-0.5 * good)),
            "hours_worked": np.round(members * 168 * rng.beta(20, 1.5, n), 1),
            "overtime_hours": np.round(members * rng.gamma(2, 4, n), 1),
            "travel_km": np.round(jobs * rng.gamma(4, 2, n), 1),
            "response_minutes": np.round(rng.gamma(8, 6, n) * np.exp(-0.15 * good), 1),
            "satisfaction": np.clip(np.round(4.4 + 0.2 * good + 0.1 * rng.normal(size=n), 2), 1, 5),
            "sale_count": rng.poisson(jobs * 0.06 * np.exp(0.3 * good)),
            "material_cost": np.round(jobs * rng.gamma(5, 7, n), 2),
            "safety_count": rng.poisson(0.08, n),
        },
    }


def _areas(view: LakeView, grids: Names, as_of: date, seed: int) -> dict[str, Columns]:
    grid = np.repeat(grids, AREAS_PER_GRID)
    n = len(grid)
    number = (np.arange(n) % AREAS_PER_GRID + 1).astype(str)
    short = np.char.replace(grid, "grid-", "")
    ids = np.char.add(np.char.add(np.char.add("area-", short), "-"), number)
    lived, revenue = _lived_in(view, grids, as_of)
    fixed = random_stream(seed, "areas")  # the same every month
    households = np.maximum(lived["customer_count"], 1) * 2 + fixed.integers(100, 900, n)
    ports = lived["broadband_count"] + fixed.integers(10, 200, n)
    kinds = ["residential", "business", "campus", "village", "industrial"]
    built = np.datetime64(date(2018, 6, 30)) - fixed.integers(0, 7000, n)
    rng, good = random_stream(seed, f"area_month {as_of}"), _diligence(n, seed, "area")
    traffic = lived["customer_count"] * rng.gamma(6, 1400, n)
    return {
        "area": {
            "area_id": ids.tolist(),
            "org_unit_id": grid.tolist(),
            "name_zh": np.char.add("模拟片区 ", short).tolist(),
            "name_en": np.char.add("Simulated area ", short).tolist(),
            "kind": fixed.choice(kinds, n, p=[0.5, 0.15, 0.05, 0.2, 0.1]).tolist(),
            "city_code": [code[:4] for code in short.tolist()],
            "county_code": [code[:6] for code in short.tolist()],
            "household_count": households,
            "port_count": ports,
            "used_port_count": lived["broadband_count"],
            "rival_count": fixed.integers(0, 4, n),
            "developed_on": pa.array(built),
            "rent_level": np.round(fixed.gamma(5, 6, n), 1),
        },
        "area_month": {
            "area_id": ids.tolist(),
            **lived,
            "revenue": np.round(revenue, 2),
            "joined_count": rng.poisson(2 * np.exp(0.3 * good)),
            "traffic_mb": np.round(traffic),
            "complaint_count": rng.poisson(1.5 * np.exp(-0.3 * good)),
            "fault_count": rng.poisson(1.2, n),
            "weak_signal_count": rng.poisson(0.8, n),
            "visit_count": rng.poisson(4 * np.exp(0.3 * good)),
            "order_count": rng.poisson(6 * np.exp(0.3 * good)),
            "rival_gain_count": rng.poisson(0.7 * np.exp(-0.3 * good)),
        },
    }


def _lived_in(view: LakeView, grids: Names, as_of: date) -> tuple[dict[str, Ints], Floats]:
    """Add up customers, lines, leavers and bills of those who live in each area."""
    people = view.get("customer", as_of).read(["customer_id", "org_unit_id", "network"])
    own = pc.not_equal(pc.coalesce(people["network"], pa.scalar("on_net")), "off_net")
    known = pc.is_in(people["org_unit_id"], value_set=pa.array(grids.tolist()))
    people = people.filter(pc.and_(own, known)).sort_by("customer_id")
    ids = people["customer_id"].combine_chunks()
    grid = np.asarray(pc.index_in(people["org_unit_id"], value_set=pa.array(grids.tolist())))
    area = grid.astype(np.int64) * AREAS_PER_GRID + np.arange(len(ids)) % AREAS_PER_GRID
    lines = view.get("subscription", as_of).read()

    def count(kept: pa.ChunkedArray) -> Ints:
        owners = lines.filter(pc.fill_null(kept, False))["customer_id"]
        at = pc.index_in(owners, value_set=ids).drop_null().to_numpy().astype(np.int64)
        return np.bincount(area[np.unique(at)], minlength=len(grids) * AREAS_PER_GRID)

    here = pc.not_equal(lines["status"], "disconnected")
    paid: Floats = np.zeros(len(ids))
    bill = view.find("bill", as_of)
    if bill is not None:
        rows = bill.read(["customer_id", "amount"])
        rows = rows.filter(pc.is_in(rows["customer_id"], value_set=ids))
        at = pc.index_in(rows["customer_id"], value_set=ids).to_numpy().astype(np.int64)
        amounts = pc.fill_null(rows["amount"].cast(pa.float64()), 0.0).to_numpy()
        paid = np.asarray(np.bincount(at, amounts, minlength=len(ids)), dtype=np.float64)
    revenue = np.bincount(area, paid, minlength=len(grids) * AREAS_PER_GRID).astype(np.float64)
    counts = {
        "customer_count": count(here),
        "broadband_count": count(pc.and_(here, pc.equal(lines["service"], "broadband"))),
        "g5_count": count(pc.and_(here, pc.equal(lines["terminal_generation"], "5g"))),
        "left_count": count(lines["left_in_month"]),
    }
    return counts, revenue


def _unit_month(units: pa.Table, as_of: date, seed: int) -> Columns:
    ids = _of_tier(units, *_WORKING_TIERS)
    n = len(ids)
    rng, good = random_stream(seed, f"unit_month {as_of}"), _diligence(n, seed, "unit")
    scale = np.array([_SCALES[name.split("-", 1)[0]] for name in ids.tolist()])
    target = scale * 1000 * rng.gamma(30, 1 / 30, n)
    contacts = rng.poisson(scale * 12)
    complaints, work = rng.poisson(scale * 0.5), rng.poisson(scale * 3)
    return {
        "org_unit_id": ids.tolist(),
        "target_amount": np.round(target, 2),
        "actual_amount": np.round(target * np.exp(0.12 * good + 0.05 * rng.normal(size=n)), 2),
        "joined_count": rng.poisson(scale * 0.8 * np.exp(0.2 * good)),
        "left_count": rng.poisson(scale * 0.6 * np.exp(-0.2 * good)),
        "contact_count": contacts,
        "success_count": rng.binomial(contacts, np.clip(0.12 + 0.03 * good, 0.01, 0.4)),
        "complaint_count": complaints,
        "complaint_on_time_count": rng.binomial(complaints, np.clip(0.9 + 0.04 * good, 0.4, 1)),
        "overdue_amount": np.round(target * rng.beta(1, 40, n), 2),
        "work_order_count": work,
        "work_order_on_time_count": rng.binomial(work, np.clip(0.9 + 0.05 * good, 0.4, 1)),
        "cost_amount": np.round(contacts * rng.gamma(4, 0.4, n), 2),
        "export_count": rng.poisson(0.8, n),
        "training_hours": np.round(rng.gamma(3, 4, n), 1),
    }


def _with_leavers(staff: pa.Table, seed: int) -> Columns:
    """Let one in fifty of the staff have left."""
    left = random_stream(seed, "leavers").random(staff.num_rows) < 0.02
    columns: Columns = {name: staff[name] for name in staff.column_names}
    return columns | {"status": np.where(left, "left", "active").tolist()}


_SCALES = {"province": 400.0, "city": 80.0, "line": 60.0, "county": 20.0, "grid": 5.0}


def _staff_month(staff: pa.Table, as_of: date, seed: int) -> Columns:
    n = staff.num_rows
    rng, good = random_stream(seed, f"staff_month {as_of}"), _diligence(n, seed, "staff")
    seats = np.array([post == "outbound_seat" for post in staff["post"].to_pylist()], dtype=bool)
    days = np.minimum(23, rng.poisson(21, n))
    calls = np.where(seats, rng.poisson(days * 90), rng.poisson(days * 4))
    orders = rng.poisson(np.where(seats, calls * 0.03, 12) * np.exp(0.3 * good))
    inspected = rng.poisson(np.where(seats, 20, 3))
    due = rng.poisson(15, n)
    return {
        "staff_id": staff["staff_id"],
        "work_days": days,
        "late_days": rng.binomial(days, np.clip(0.04 - 0.02 * good, 0.0, 0.3)),
        "call_count": calls,
        "talk_minutes": np.round(calls * rng.gamma(6, 0.25, n), 1),
        "order_count": orders,
        "sales_amount": np.round(orders * rng.gamma(6, 9, n), 2),
        "target_amount": np.where(seats, 3200.0, 650.0),
        "complaint_count": rng.poisson(0.4 * np.exp(-0.4 * good)),
        "inspected_count": inspected,
        "failed_inspection_count": rng.binomial(inspected, np.clip(0.05 - 0.02 * good, 0.002, 0.5)),
        "due_count": due,
        "done_count": rng.binomial(due, np.clip(0.85 + 0.06 * good, 0.2, 1)),
        "visit_count": np.where(seats, 0, rng.poisson(14, n)),
        "training_hours": np.round(rng.gamma(3, 2, n), 1),
        "record_view_count": rng.poisson(calls * 0.9 + 20),
        "export_count": rng.poisson(0.15, n),
    }
