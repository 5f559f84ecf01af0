"""A user centre: our own customers and those of other networks, with all that is known of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

import bihuan as bh
from bihuan.twin import (
    TwinSettings,
    generate_operator,
    surround_consumers,
    surround_digital,
    surround_management,
)

from .by_hand import OCTOBER, Rows, open_at, read

# of 67 million in the reference case 27 are the operator's own
TWIN = TwinSettings(customers=810, months=12, seed=11, off_net_share=40 / 67)
MANAGEMENT = ("org_unit", "staff", "outlet", "crew", "area")
_BUILT: list[SimpleNamespace] = []


def user_centre(factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Build the workspace once for all tests that only read it."""
    if not _BUILT:
        folder = factory.mktemp("user_centre")
        _BUILT.append(SimpleNamespace(ws=build(folder / "ws"), folder=folder, last=OCTOBER))
    return _BUILT[0]


def build(folder: Path) -> bh.Workspace:
    """Generate two thousand customers with twelve months and derive their tags."""
    ws = open_at(folder)
    generate_operator(TWIN, ws.lake, ws.contracts, clock=ws.clock, progress=ws.progress)
    months = TWIN.month_ends()
    surround_consumers(ws.lake, months, ws.contracts, seed=11, clock=ws.clock)
    surround_management(ws.lake, months, ws.contracts, seed=11, clock=ws.clock)
    surround_digital(ws.lake, OCTOBER, ws.contracts, seed=11, clock=ws.clock)
    for subject in ("customer", "subscription", *MANAGEMENT):
        ws.refresh_tags(OCTOBER, subject=subject)
    return ws


def tags_of(ws: bh.Workspace, names: tuple[str, ...], subject: str = "customer") -> dict[str, dict]:
    """Return tag values by subject id."""
    table = ws.tags(OCTOBER, subject=subject)
    rows = table.read(ws.engine, names).to_pylist()
    return {row.pop(table.id_column): row for row in rows}


def months_back(day: date) -> int:
    """Count the months from a snapshot to October 2026."""
    return (OCTOBER.year - day.year) * 12 + OCTOBER.month - day.month


def history(ws: bh.Workspace, table: str, months: int) -> Rows:
    """Return the rows of the newest months with ``months_ago``, read month by month."""
    return [
        row | {"months_ago": months_back(day)}
        for day in ws.view.dates(table)
        if months_back(day) < months
        for row in read(ws, table, day)
    ]


def by_customer(rows: Rows) -> dict[str, Rows]:
    """Group rows by customer."""
    found: dict[str, Rows] = defaultdict(list)
    for row in rows:
        found[row["customer_id"]].append(row)
    return found


def counted(values: list[object]) -> Counter[object]:
    """Count values; missing ones are left out."""
    return Counter(value for value in values if value is not None)
