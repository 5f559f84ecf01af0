"""Builders: a small deployment in a lake, and outcomes of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bihuan.data import DuckDBEngine, Lake
from bihuan.delivery import Deployment, deploy
from bihuan.feedback import OutcomeReport, ingest_outcomes, read_outcomes, replay_outcomes
from bihuan.kernel import FixedClock

MORNING = datetime(2026, 11, 2, 2, 0, tzinfo=UTC)  # 10:00 in Shanghai
NOON = MORNING + timedelta(hours=2)
CHANNELS = ("sms", "outbound", "app")
OUTCOME_COLUMNS = ("outcome_id", "assignment_id", "customer_id", "stage", "occurred_at")


def build_decisions(n: int = 60, campaign: str = "autumn") -> pa.Table:
    """Return ``n`` treatment decisions, spread over three channels."""
    channel = [CHANNELS[i % 3] for i in range(n)]
    return pa.table(
        {
            "decision_id": [f"{campaign}-{i}" for i in range(n)],
            "campaign_id": [campaign] * n,
            "customer_id": [f"c-{i:05d}" for i in range(n)],
            "arm": ["treatment"] * n,
            "treatment_probability": np.full(n, 0.9),
            "stratum": channel,
            "offer_id": [f"offer-{i % 2}" for i in range(n)],
            "channel": channel,
            "org_unit_id": ["grid-1"] * n,
            "step": np.ones(n, dtype=np.int64),
            "expected_value": np.arange(n, dtype=float),
            "decided_at": pa.array([MORNING] * n, pa.timestamp("us", tz="UTC")),
        }
    )


def outcome_rows(assignments: pa.Table, stage: str = "delivered", **changes: Any) -> pa.Table:
    """Return one outcome for each assignment, at half past ten; ``changes`` replace columns."""
    n = assignments.num_rows
    at = pa.array([MORNING + timedelta(minutes=30)] * n, pa.timestamp("us", tz="UTC"))
    columns: dict[str, Any] = {
        "outcome_id": [f"{stage}-{i}" for i in assignments["assignment_id"].to_pylist()],
        "assignment_id": assignments["assignment_id"],
        "customer_id": assignments["customer_id"],
        "stage": [stage] * n,
        "occurred_at": at,
    }
    return pa.table(columns | changes)


@dataclass
class World:
    """A lake with one deployment, and the front line that reports to it."""

    folder: Path
    lake: Lake
    clock: FixedClock
    engine: DuckDBEngine
    deployment: Deployment

    @property
    def assignments(self) -> pa.Table:
        return self.deployment.assignments(self.lake.view()).read()

    @property
    def quarantine(self) -> Path:
        return self.folder / "quarantine"

    @property
    def head(self) -> bytes:
        return (self.lake.root / "HEAD.json").read_bytes()

    def ingest(self, rows: pa.Table | Path, **changes: Any) -> OutcomeReport:
        return ingest_outcomes(self.lake, rows, **(self._ports() | changes))

    def replay(self, **changes: Any) -> OutcomeReport:
        return replay_outcomes(self.lake, **(self._ports() | changes))

    def outcomes(self) -> pa.Table:
        return read_outcomes(self.lake.view(), self.deployment.deployment_id)

    def deploy(self, campaign: str) -> Deployment:
        return deploy(
            build_decisions(campaign=campaign),
            campaign_id=campaign,
            lake=self.lake,
            clock=self.clock,
            period=(date(2026, 11, 2), date(2026, 11, 8)),
            scripts={},
            engine=self.engine,
        )

    def csv(self, name: str, text: str, encoding: str = "utf-8") -> Path:
        path = self.folder / name
        path.write_bytes(text.encode(encoding))
        return path

    def _ports(self) -> dict[str, Any]:
        return {
            "deployment": self.deployment,
            "quarantine_folder": self.quarantine,
            "clock": self.clock,
            "engine": self.engine,
        }


def build_world(folder: Path) -> World:
    """Make a world at noon; the deployment was made at ten."""
    lake, clock, engine = Lake(folder / "lake"), FixedClock(MORNING), DuckDBEngine(threads=1)
    made = deploy(
        build_decisions(),
        campaign_id="autumn",
        lake=lake,
        clock=clock,
        period=(date(2026, 11, 2), date(2026, 11, 8)),
        scripts={},
        engine=engine,
    )
    clock.moment = NOON
    return World(folder, lake, clock, engine, made)


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A world that no test touches, to be copied."""
    return build_world(tmp_path_factory.mktemp("pristine"))


@pytest.fixture
def world(pristine: World, tmp_path: Path) -> World:
    shutil.copytree(pristine.lake.root, tmp_path / "lake")
    lake, clock = Lake(tmp_path / "lake"), FixedClock(NOON)
    return replace(pristine, folder=tmp_path, lake=lake, clock=clock)


@pytest.fixture
def make_outcomes() -> Callable[..., pa.Table]:
    return outcome_rows


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
