"""The demo's service: the simulated province's people, an account per role, work in every state."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

from bihuan.demo.plans import lay_out_plans
from bihuan.demo.sample_work import lay_out_sample_work
from bihuan.kernel import Clock, Progress, SilentProgress
from bihuan.server.app.demo_account import DEMO_PASSWORD, demo_accounts
from bihuan.server.app.organisation import Rows, import_from_lake, import_rows
from bihuan.server.node import bring_up_to_date, open_service
from bihuan.server.settings import Settings
from bihuan.twin import province_organisation

OCTOBER = date(2026, 10, 31)
"""Date of the demo's data."""


@dataclass(frozen=True, slots=True)
class LaidOut:
    """A service that people can sign in to.

    Parameters
    ----------
    units, people
        Org units and staff of the simulated province.
    plans
        Plans by state.
    accounts
        Names of the demo accounts.
    password
        Of all of them.
    """

    units: int
    people: int
    plans: dict[str, int]
    accounts: tuple[str, ...]
    password: str = DEMO_PASSWORD


def lay_out_service(
    folder: Path,
    *,
    whole_province: bool,
    with_work: bool = False,
    clock: Clock | None = None,
    progress: Progress | None = None,
    database: str = "",
) -> LaidOut:
    """Lay out control database, org tree and demo accounts over a workspace.

    Parameters
    ----------
    folder
        The workspace; it becomes a demo workspace.
    whole_province
        True: the simulated province of 14,700 people. False: the org tree of the lake.
    with_work
        Whether plans in every state, indicators, teams and knowledge are laid out too.
    clock, progress
        Time, and where the work is reported.
    database
        URL of the control database; empty: SQLite in the workspace.
    """
    settings = Settings(workspace=folder, demo=True, database=database)
    (folder / "service.toml").write_text("demo = true\n", encoding="utf-8")
    bring_up_to_date(settings)
    service = open_service(settings, clock=clock, progress=progress)
    try:
        with service.system_work() as work:
            if whole_province:
                tables = province_organisation(service.workspace.contracts)
                units, staff = (tables[name].to_pylist() for name in ("org_unit", "staff"))
                rows = Rows(units, staff, source="simulated province", is_complete=True)
                report = import_rows(work, rows)
            else:
                report = import_from_lake(work, service.workspace)
        with service.system_work() as work:
            accounts = demo_accounts(work, settings)
            names = tuple(account.name for account in accounts)
        plans: dict[str, int] = {}
        if with_work:
            plans = lay_out_plans(service, OCTOBER, progress or SilentProgress())
            lay_out_sample_work(service)
        counts = report.counts
        return LaidOut(counts["units_opened"], counts["staff_added"], plans, names)
    finally:
        service.control.engine.dispose()
