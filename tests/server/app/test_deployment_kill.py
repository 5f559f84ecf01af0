"""A deployment that is killed goes on: nothing lost, nothing twice, live exactly once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from bihuan.kernel.crash import CRASH_POINTS

SCRIPT = Path(__file__).with_name("deployment_kill.py")


def kill(folder: Path, *options: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=3000,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def own_server(postgres_server: sa.URL) -> str:
    """The server of this process, by a role that may make databases."""
    return postgres_server.render_as_string(hide_password=False)


@pytest.mark.slow
class TestKilled:
    def test_at_every_point_first_middle_and_last(self, tmp_path):
        found = kill(tmp_path / "kills")
        assert found["broken"] == []
        assert found["missed"] == []
        assert found["points"] == len(CRASH_POINTS) >= 40

    def test_in_the_control_database_on_postgresql(self, tmp_path, own_server):
        found = kill(
            tmp_path / "kills", "--url", own_server, "--times", "first",
            "--points", "work.,deploy.,stop.,resume.,release.",
        )  # fmt: skip
        assert found["broken"] == []
        assert found["points"] >= 20

    def test_at_random_times(self, tmp_path):
        assert kill(tmp_path / "kills", "--random", "10")["broken"] == []

    def test_going_live_in_two_transactions_is_caught(self, tmp_path):
        """The seeded defect: the row is switched in one commit, its plan told in the next."""
        options = ("--points", "work.after_commit", "--times", "every")
        found = kill(tmp_path / "kills", *options, "--defect", "two_steps")
        assert any("live in one place" in what for what in found["broken"]), found
