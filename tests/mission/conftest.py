"""What the acceptance tests share: a small town, a simulated operator, a shell.

All worlds are built once; tests that change a workspace work on a copy.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bihuan.delivery import GatePolicy
from bihuan.feedback import read_outcomes
from bihuan.loop import turn
from bihuan.step import load_score_order
from bihuan.twin import (
    SimulatedChannels,
    Truth,
    TwinSettings,
    generate_operator,
    next_month,
    publish_next_month,
)

from .by_hand import (
    AUGUST,
    NOW,
    OCTOBER,
    SEPTEMBER,
    define,
    extract,
    open_at,
    read,
    with_library,
    write_csv,
    write_xlsx,
)
from .operator_files import (
    CHURN_FILE,
    NEWSPAPER_TAGS,
    OFFER_FILE,
    RETENTION_OFFERS,
    campaign_text,
    report_by_hand,
)
from .plan_desk import plan_service  # noqa: F401 - a fixture, once for all tests
from .served import served  # noqa: F401 - a fixture, once for all tests
from .town import build_town

SCRIPT = Path(sys.executable).parent / "bihuan"


@pytest.fixture(scope="session")
def tools() -> SimpleNamespace:
    """Give the tests what a user does by hand: open, define, deliver, read."""
    return SimpleNamespace(
        open_at=open_at,
        define=define,
        with_library=with_library,
        extract=extract,
        read=read,
        write_csv=write_csv,
        write_xlsx=write_xlsx,
        offers=OFFER_FILE,
        months=(AUGUST, SEPTEMBER, OCTOBER),
        now=NOW,
    )


@dataclass(frozen=True)
class Shell:
    """What a command left behind: exit code, the JSON document, the words for people."""

    code: int
    result: Any
    err: str


@pytest.fixture(scope="session")
def shell() -> Callable[..., Shell]:
    """Run the command line in a process of its own."""

    def run(*arguments: str, workspace: Path, language: str = "en") -> Shell:
        done = subprocess.run(
            [str(SCRIPT), *arguments, "--workspace", str(workspace), "--json"],
            capture_output=True,
            encoding="utf-8",
            env=os.environ | {"BIHUAN_LANG": language, "PYTHONUTF8": "1"},
            check=False,
            timeout=120,
        )
        lines = done.stdout.strip().splitlines()
        return Shell(done.returncode, json.loads(lines[-1]) if lines else None, done.stderr)

    return run


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Eight customers of five systems in one workspace; read only."""
    return build_town(tmp_path_factory.mktemp("town"))


@pytest.fixture
def own_town(town: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A copy of the town that a test may change."""
    shutil.copytree(town.folder, tmp_path / "town")
    changed = SimpleNamespace(**vars(town))
    changed.folder = tmp_path / "town"
    changed.ws = open_at(changed.folder / "ws")
    return changed


# --------------------------------------------------------------------------------- the operator

TWIN = TwinSettings(customers=2500, months=4, seed=7)
OFFERS = ("keep_12", "keep_24", "data_pack")


@pytest.fixture(scope="session")
def operator(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The simulated operator with its tags at every month; read only.

    The twin gives the state of its customers once; an operator's CRM delivers it every month.
    """
    folder = tmp_path_factory.mktemp("operator")
    ws = open_at(folder / "ws")
    with_library(ws)
    twin = generate_operator(
        TWIN, ws.lake, ws.contracts, offer_ids=OFFERS, clock=ws.clock, progress=ws.progress
    )
    months = TWIN.month_ends()
    for table in ("customer", "account", "customer_list", "opt_out"):
        rows = ws.view.get(table, months[-1]).read()
        for month in months[:-1]:
            if month not in ws.view.dates(table):
                extract(ws, rows, table, month)
    for month in months[1:]:
        ws.refresh_tags(month)
    truth: Truth = twin.truth
    return SimpleNamespace(ws=ws, folder=folder, months=months, last=months[-1], truth=truth)


@pytest.fixture
def own_operator(operator: SimpleNamespace, tmp_path: Path) -> SimpleNamespace:
    """A copy of the operator that a test may change."""
    shutil.copytree(operator.folder, tmp_path / "operator")
    changed = SimpleNamespace(**vars(operator))
    changed.folder = tmp_path / "operator"
    changed.ws = open_at(changed.folder / "ws")
    return changed


@pytest.fixture(scope="session")
def scored(operator: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The operator after its churn model has been learnt and has spoken; read only."""
    folder = tmp_path_factory.mktemp("scored") / "operator"
    shutil.copytree(operator.folder, folder)
    ws = open_at(folder / "ws")
    define(ws, "models", "churn", CHURN_FILE)
    model, metrics = ws.learn("churn", operator.last)
    found = SimpleNamespace(**vars(operator))
    found.ws, found.folder, found.model, found.metrics = ws, folder, model, metrics
    return found


@pytest.fixture(scope="session")
def newspaper(
    operator: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """The operator with a mobile newspaper, held by about a fifth of the customers."""
    folder = tmp_path_factory.mktemp("newspaper") / "operator"
    shutil.copytree(operator.folder, folder)
    ws = open_at(folder / "ws")
    define(ws, "tags", "newspaper", NEWSPAPER_TAGS)
    ws = open_at(folder / "ws")
    holders = []
    for row in read(ws, "usage", operator.last):
        number = int(row["customer_id"][1:])
        # who sends pictures or uses much data holds it more often
        often = 2 if row["mms_count"] else 4 if row["data_mb"] > 6000 else 9
        if number % often == 0:
            holders.append((row["subscription_id"], row["customer_id"]))
    held = pa.table(
        {
            "subscription_id": [line for line, _ in holders],
            "product_id": ["newspaper"] * len(holders),
            "customer_id": [customer for _, customer in holders],
            "status": ["active"] * len(holders),
        }
    )
    extract(ws, held, "holding", operator.last)
    ws.refresh_tags(operator.last)
    holding = {customer for _, customer in holders}
    found = SimpleNamespace(**vars(operator))
    found.ws, found.folder, found.holders = ws, folder, holding
    return found


# ------------------------------------------------------------------------------------ campaigns


@pytest.fixture(scope="session")
def campaign_file() -> Callable[..., str]:
    """Writes the text of a campaign file, with changes."""
    return campaign_text


@pytest.fixture(scope="session")
def carried(operator: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A campaign on paper lists, reported back by hand in a GBK file; read only.

    The tests know what was reported, because it was written here row by row.
    """
    folder = tmp_path_factory.mktemp("carried") / "operator"
    shutil.copytree(operator.folder, folder)
    ws = open_at(folder / "ws")
    define(ws, "offers", "offers", OFFER_FILE)
    define(ws, "campaigns", "orders-2026-11", campaign_text())
    plan = ws.decide("orders-2026-11", OCTOBER)
    deployment = ws.deploy("orders-2026-11", OCTOBER)
    lists = ws.write_lists("orders-2026-11", columns=["arpu", "tenure_months"])
    assignments = deployment.assignments(ws.view).read().sort_by("assignment_id").to_pylist()
    reported = report_by_hand(assignments)
    header = list(reported[0])
    file = write_csv(folder / "回单.csv", [header, *(row.values() for row in reported)], "gbk")
    ws = open_at(folder / "ws", datetime(2026, 11, 12, 6, tzinfo=UTC))
    outcome_report = ws.record_outcomes("orders-2026-11", file)
    return SimpleNamespace(
        ws=ws,
        folder=folder,
        campaign_id="orders-2026-11",
        last=OCTOBER,
        plan=plan,
        deployment=deployment,
        lists=lists,
        assignments=assignments,
        reported=reported,
        file=file,
        outcome_report=outcome_report,
    )


NOVEMBER, DECEMBER = date(2026, 11, 30), date(2026, 12, 31)


def month_passes(
    turned: SimpleNamespace, deployment: Any, before: date, after: date, seed: int
) -> None:
    """Let customers stay or leave, and deliver the new month's extracts as every month."""
    ws, view = turned.ws, turned.ws.view
    assignments = deployment.assignments(view).read()
    outcomes = read_outcomes(view, deployment.deployment_id)
    reached = pc.is_in(assignments["assignment_id"], value_set=outcomes["assignment_id"])
    left = next_month(turned.truth, outcomes, assignments.filter(reached), seed=seed)
    publish_next_month(ws.lake, left, before, after, clock=ws.clock)
    here = ws.view.get("subscription", after).read()
    here = here.filter(pc.not_equal(here["status"], "disconnected"))["customer_id"]
    for table in ("customer", "account", "customer_list", "opt_out", "usage", "bill"):
        rows = view.get(table, before).read()
        if table in ("usage", "bill"):
            rows = rows.filter(pc.is_in(rows["customer_id"], value_set=here))
        extract(ws, rows, table, after)


@pytest.fixture(scope="session")
def turned(scored: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Two turns of the loop on the simulated operator; read only.

    The first step by step, as planner, seat and analyst do it; the second in one call.
    """
    folder = tmp_path_factory.mktemp("turned") / "operator"
    shutil.copytree(scored.folder, folder)
    found = SimpleNamespace(truth=scored.truth, folder=folder, ws=open_at(folder / "ws"))
    ws, first = found.ws, "keep-2026-11"
    define(ws, "offers", "offers", RETENTION_OFFERS)
    risk = "risk_tag: churn_score\nkept_share: 0.6"
    keep = {
        "metric": "retained",
        "audience": "churn_score >= 0.015 and not is_disconnected",
        "more": risk,
    }
    define(ws, "campaigns", first, campaign_text(campaign_id=first, **keep))
    december = {"starts_on": "2026-12-01", "ends_on": "2026-12-31"}
    define(
        ws,
        "campaigns",
        "keep-2026-12",
        campaign_text(campaign_id="keep-2026-12", **keep, **december),
    )
    ws = found.ws = open_at(folder / "ws")
    channels = SimulatedChannels(
        truth=scored.truth,
        unit_costs={"outbound": 2.0, "sms": 0.05, "app": 0.01},
        prices={"keep_24": 10.0, "data_pack": 20.0},
        seed=11,
        clock=ws.clock,
    )
    found.target = ws.target(first, OCTOBER)
    found.plan = ws.decide(first, OCTOBER)
    found.deployment = ws.deploy(first, OCTOBER)
    found.stopped = ws.send(first, channels, policy=GatePolicy(stop_all=True))
    found.sent = ws.send(first, channels)
    found.again = ws.send(first, channels)
    ws.clock.advance(timedelta(days=29))  # 1 December
    month_passes(found, found.deployment, OCTOBER, NOVEMBER, seed=11)
    found.judgement = ws.evaluate(first, OCTOBER, NOVEMBER)
    learnt = (scored.model.card, scored.metrics)
    found.report = ws.report(first, OCTOBER, NOVEMBER, learnt=learnt)

    def wait(carried: Any) -> date:
        ws.clock.advance(timedelta(days=31))
        month_passes(found, carried.deployment, NOVEMBER, DECEMBER, seed=12)
        return DECEMBER

    order = load_score_order(ws.layout.root / "models" / "churn.yaml")
    found.second = turn(
        ws.rooms, ws.campaign("keep-2026-12"), order, NOVEMBER, channel=channels, wait=wait
    )
    found.campaign_id, found.channels = first, channels
    return found
