"""Builders: small logged decisions, a lake, a clock that stands at ten in the morning."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bihuan.data import DuckDBEngine, Lake
from bihuan.delivery import TOUCHPOINTS, Deployment, deploy
from bihuan.kernel import FixedClock, random_stream

MORNING = datetime(2026, 11, 2, 2, 0, tzinfo=UTC)  # 10:00 in Shanghai
SCRIPTS = {(f"offer-{i}", channel): f"script-{i}" for i in range(3) for channel in TOUCHPOINTS}


def build_decisions(n: int = 600, **changes: Any) -> pa.Table:
    """Return ``n`` decisions, nine in ten of them treatment; ``changes`` replace columns."""
    draw = random_stream(3, "decisions", n)
    channel = np.array(TOUCHPOINTS)[draw.integers(0, len(TOUCHPOINTS), n)]
    columns: dict[str, Any] = {
        "decision_id": [f"d-{i}" for i in range(n)],
        "campaign_id": ["autumn"] * n,
        "customer_id": [f"c-{i:07d}" for i in range(n)],
        "arm": np.where(np.arange(n) % 10 == 9, "control", "treatment"),
        "treatment_probability": np.full(n, 0.9),
        "stratum": channel,
        "offer_id": [f"offer-{i}" for i in draw.integers(0, 3, n)],
        "channel": channel,
        "org_unit_id": [f"grid-{i:02d}" for i in draw.integers(0, 4, n)],
        "step": np.ones(n, dtype=np.int64),
        "propensity": draw.random(n),
        "expected_value": np.round(draw.normal(20, 10, n), 2),
        "policy_version": ["p1"] * n,
        "decided_at": pa.array([MORNING - timedelta(hours=1)] * n, pa.timestamp("us", tz="UTC")),
    }
    return pa.table(columns | changes)


@pytest.fixture
def make_decisions() -> Callable[..., pa.Table]:
    return build_decisions


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(MORNING)


@pytest.fixture
def engine() -> DuckDBEngine:
    return DuckDBEngine(threads=2)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def run_deploy(lake: Lake, clock: FixedClock, engine: DuckDBEngine) -> Callable[..., Deployment]:
    """Deploy with the usual terms; any of them can be changed."""

    def run(decisions: pa.Table, **changes: Any) -> Deployment:
        terms: dict[str, Any] = {
            "campaign_id": "autumn",
            "lake": lake,
            "clock": clock,
            "period": (date(2026, 11, 2), date(2026, 11, 15)),
            "scripts": SCRIPTS,
            "engine": engine,
        }
        return deploy(decisions, **(terms | changes))

    return run


@pytest.fixture(scope="session")
def assignments(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """The frozen assignments of the usual decisions; a table is immutable, so all share it."""
    lake = Lake(tmp_path_factory.mktemp("shared") / "lake")
    deployed = deploy(
        build_decisions(),
        campaign_id="autumn",
        lake=lake,
        clock=FixedClock(MORNING),
        period=(date(2026, 11, 2), date(2026, 11, 15)),
        scripts=SCRIPTS,
    )
    return deployed.assignments(lake.view()).read()


@pytest.fixture
def crash() -> Callable[[str, Path], str]:
    """Run a scenario of ``crash.py`` in a process of its own and return what it prints."""

    def run(scenario: str, folder: Path) -> str:
        script = Path(__file__).with_name("crash.py")
        done = subprocess.run(
            [sys.executable, str(script), scenario, str(folder)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run
