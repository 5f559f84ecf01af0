"""A lake over the units of the small org tree whose every figure can be added up in the head."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from bihuan.data import load_contracts
from bihuan.kernel import Clock
from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.service import Service
from bihuan.server.control import Account, Control, Scope, Staff, StaffPost
from bihuan.server.settings import Settings
from bihuan.twin.organisation import in_contract
from bihuan.workspace import Workspace, open_workspace

OCTOBER, SEPTEMBER = date(2026, 10, 31), date(2026, 9, 30)
UNITS = {
    "province": None, "city-a": "province", "city-b": "province", "county-a1": "city-a",
    "county-a2": "city-a", "county-b1": "city-b", "grid-a11": "county-a1",
    "grid-a12": "county-a1", "grid-b11": "county-b1",
}  # fmt: skip
GRIDS = ("grid-a11", "grid-a12", "grid-b11")
PEOPLE = {"s1": "grid-a11", "s2": "grid-a12", "s3": "grid-b11", "s4": "city-a", "s5": "province"}
FIGURES = {"grid-a11": (100.0, 120.0), "grid-a12": (100.0, 60.0), "grid-b11": (200.0, 190.0)}
"""Target and result of each grid."""


def fill(workspace: Workspace) -> None:
    """Write two months."""
    contracts = load_contracts()
    for month in (SEPTEMBER, OCTOBER):
        tables: dict[str, dict[str, Sequence[object]]] = {
            "org_unit": {
                "org_unit_id": list(UNITS), "parent_id": list(UNITS.values()),
                "tier": [unit.split("-")[0] for unit in UNITS], "name_zh": list(UNITS),
                "name_en": list(UNITS), "city_code": [None] * len(UNITS),
            },
            "unit_month": {
                "org_unit_id": list(GRIDS),
                "target_amount": [FIGURES[grid][0] for grid in GRIDS],
                "actual_amount": [FIGURES[grid][1] for grid in GRIDS],
                "complaint_count": [1, 2, 3], "work_order_count": [10, 10, 10],
                "work_order_on_time_count": [9, 8, 10],
            },
            "staff": {
                "staff_id": list(PEOPLE), "org_unit_id": list(PEOPLE.values()),
                "post": ["account_manager"] * 5, "status": ["active"] * 5,
            },
            "staff_month": {
                "staff_id": list(PEOPLE), "sales_amount": [100.0, 50.0, 80.0, 120.0, 0.0],
                "target_amount": [100.0] * 5, "due_count": [10] * 5, "done_count": [10, 5, 8, 9, 0],
                "inspected_count": [10] * 5, "failed_inspection_count": [0, 1, 0, 0, 2],
            },
            "customer": {
                "customer_id": [f"c{i:02d}" for i in range(30)],
                "org_unit_id": [GRIDS[i % 3] for i in range(30)],
                "network": ["on_net"] * 30, "kind": ["individual"] * 30,
            },
            "subscription": {
                "subscription_id": [f"u{i:02d}" for i in range(30)],
                "customer_id": [f"c{i:02d}" for i in range(30)],
                "service": ["mobile"] * 30, "status": ["active"] * 30,
                "monthly_fee": [float(10 + i) for i in range(30)],
                "left_in_month": [i % 10 == 0 for i in range(30)],
                "tenure_months": list(range(30)),
            },
        }  # fmt: skip
        with workspace.lake.publication(workspace.clock) as publication:
            for name, columns in tables.items():
                publication.add(name, month, in_contract(contracts[name], columns))


def serve(control: Control, url: str, clock: Clock, folder: Path) -> Service:
    """Return a service over the small lake."""
    workspace = open_workspace(folder / "ws", clock=clock)
    fill(workspace)
    return Service(Settings(workspace=folder / "ws", database=url), control, workspace, clock)


def person(control: Control, account_id: str, *posts: tuple[str, str]) -> Actor:
    """Return an account with posts, and its staff."""
    home = posts[0][1]
    with control.work(Scope.everything()) as work:
        work.session.add(Staff(staff_id=f"staff-{account_id}", unit_id=home, name_zh="人员"))
        work.session.flush()
        work.session.add(
            Account(
                account_id=account_id, unit_id=home, name=account_id,
                staff_id=f"staff-{account_id}", title_zh="账号", opened_at=work.now,
            )
        )  # fmt: skip
        for number, (role, unit) in enumerate(posts):
            work.session.add(
                StaffPost(
                    post_id=f"post-{account_id}-{number}", staff_id=f"staff-{account_id}",
                    unit_id=unit, role=role, layer="management", since=work.now,
                )
            )  # fmt: skip
    return Actor(account_id, home, tuple(Post(role, unit) for role, unit in posts))
