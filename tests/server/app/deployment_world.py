"""A small operator with an approved plan of six strategies, ready to be deployed in one click.

Loaded by tests, by the processes that they kill, and by ``bench/kills.py``: it names no test
machinery. Everything is as in a running service: tables, people, approval steps, lake, decisions.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa

from bihuan.decision import log_decisions
from bihuan.delivery import no_opt_outs
from bihuan.kernel import FixedClock, random_stream
from bihuan.pack import PACKS
from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.plan.content import parsed_campaign
from bihuan.server.app.plan.draft import get_plan
from bihuan.server.app.service import Service
from bihuan.server.control import Control, OrgClosure, OrgUnit, Scope, Table, open_engine
from bihuan.server.settings import Settings
from bihuan.workspace import open_workspace

NOON = datetime(2026, 11, 2, 4, tzinfo=UTC)
AS_OF = date(2026, 10, 31)
CAMPAIGN = "six-2026-11"
OFFERS = (
    "data_pack_1g", "data_pack_5g", "data_pack_10g", "data_pack_30g", "plan_59", "plan_129",
)  # fmt: skip
CHANNELS = ("sms", "app", "hall")
GRIDS = ("grid-a11", "grid-a12")
PLANNER = Actor("planner-a1", "county-a1", (Post("planner", "county-a1"),))
OPERATOR = Actor("operator-a1", "county-a1", (Post("channel_operator", "county-a1"),))
TREE = {
    "province": None, "city-a": "province", "county-a1": "city-a",
    "grid-a11": "county-a1", "grid-a12": "county-a1", "county-a2": "city-a", "city-b": "province",
}  # fmt: skip


def sibling(name: str, place: str = "") -> ModuleType:
    """Load a neighbouring helper by its path, so that a bare process can do it too."""
    path = Path(__file__).parent / place / f"{name}.py"
    known = f"deployment_world_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


def said() -> dict[str, Any]:
    """Return the fields of the campaign: six offers through three channels."""
    return {
        "campaign_id": CAMPAIGN,
        "goal": {
            "metric": "accepted",
            "target": 0.02,
            "reason": {"zh": "增量", "en": "growth"},
            "needs": {"zh": "流量", "en": "data"},
            "starts_on": "2026-11-01",
            "ends_on": "2026-11-30",
        },
        "audience": "not is_disconnected",
        "channels": {channel: {"capacity": 9000, "unit_cost": 0.05} for channel in CHANNELS},
        "scripts": {"words": {"zh": "您好，为您推荐", "en": "hello"}},
        "mix": [
            {
                "offer": offer,
                "promotion": {"zh": "优惠", "en": "reduced"},
                "channels": {c: {"script": "words", "acceptance": 0.1} for c in CHANNELS},
            }
            for offer in OFFERS
        ],
    }


def decisions(n: int, seed: int = 1) -> pa.Table:
    """Return ``n`` decisions, nine in ten treated, some of them of no unit."""
    draw = random_stream(seed, "deployment world", n)
    units = np.array([*GRIDS, None], dtype=object)[draw.integers(0, 3, n)]
    return pa.table(
        {
            "decision_id": [f"d-{i}" for i in range(n)],
            "campaign_id": [CAMPAIGN] * n,
            "customer_id": [f"c-{i:07d}" for i in range(n)],
            "arm": np.where(np.arange(n) % 10 == 9, "control", "treatment"),
            "treatment_probability": np.full(n, 0.9),
            "stratum": ["all"] * n,
            "offer_id": np.array(OFFERS)[draw.integers(0, len(OFFERS), n)],
            "channel": np.array(CHANNELS)[draw.integers(0, len(CHANNELS), n)],
            "org_unit_id": pa.array(units.tolist(), pa.string()),
            "step": np.ones(n, dtype=np.int64),
            "propensity": draw.random(n),
            "expected_value": np.round(draw.normal(20, 10, n), 1),
            "margin": np.full(n, 30.0),
            "cost": np.full(n, 0.1),
            "reason": pa.nulls(n, pa.string()),
            "policy_version": ["p1"] * n,
            "decided_at": pa.array([NOON - timedelta(hours=1)] * n, pa.timestamp("us", tz="UTC")),
        }
    )


def open_world(folder: Path, url: str | None = None, clock: FixedClock | None = None) -> Service:
    """Open the service over a folder that :func:`build` filled, or is about to."""
    clock = clock or FixedClock(NOON)
    url = url or f"sqlite:///{folder / 'control.db'}"
    settings = Settings(workspace=folder / "workspace", database=url)
    (folder / "workspace").mkdir(parents=True, exist_ok=True)
    workspace = open_workspace(folder / "workspace", clock=clock)
    return Service(settings, Control(open_engine(url, pool_size=5), clock), workspace, clock)


def build(folder: Path, url: str | None = None, *, n: int = 240) -> tuple[Service, str]:
    """Fill an empty folder and database; return the service and the approved plan's id."""
    service = open_world(folder, url)
    Table.metadata.create_all(service.control.engine)
    plant(service.control)
    return service, fill(service, n=n)


def plant(control: Control) -> None:
    """Write the org tree."""
    with control.work(Scope.everything()) as work:
        for unit, parent in TREE.items():
            tier = unit.split("-")[0]
            work.session.add(OrgUnit(unit_id=unit, parent_id=parent, tier=tier, name_zh=unit))
            work.session.flush()
        for unit in TREE:
            above: str | None = unit
            depth = 0
            while above is not None:
                work.session.add(OrgClosure(ancestor_id=above, descendant_id=unit, depth=depth))
                above, depth = TREE[above], depth + 1


def fill(service: Service, *, n: int = 240) -> str:
    """Write offers, decisions and people on a planted tree; return the approved plan's id."""
    workspace = service.workspace
    offers = workspace.layout.root / "offers"
    offers.mkdir(exist_ok=True)
    for path in (PACKS["sample"] / "offers").glob("*.yaml"):
        shutil.copy(path, offers / path.name)
    office = sibling("office", "plan")
    people = office.PEOPLE
    office.PEOPLE = {name: people[name] for name in ("planner-a1", "planner-p", "approver-a")}
    try:
        office.hire(service.control)
        plan_id: str = office.Office(service.control).approved(**said())
    finally:
        office.PEOPLE = people
    with service.system_work(read_only=True) as work:
        content = office.content(**said())
        assert get_plan(work, plan_id).state == "approved"
    campaign = parsed_campaign(content, workspace.catalogue)
    log_decisions(
        workspace.lake,
        decisions(n),
        AS_OF,
        clock=FixedClock(NOON - timedelta(hours=1)),
        lineage={"campaign": campaign.content_id},
    )
    with workspace.lake.publication(workspace.clock) as publication:
        publication.add("opt_out", AS_OF, no_opt_outs())
    return plan_id
