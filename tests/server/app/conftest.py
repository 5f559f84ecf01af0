"""A running service over a control database of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from bihuan.kernel import FixedClock
from bihuan.server.app.service import Service
from bihuan.server.control import Control
from bihuan.server.settings import Settings
from bihuan.workspace import open_workspace


@pytest.fixture
def service(control: Control, database_url: str, clock: FixedClock, tmp_path: Path) -> Service:
    settings = Settings(workspace=tmp_path / "workspace", database=database_url)
    workspace = open_workspace(tmp_path / "workspace", clock=clock)
    return Service(settings, control, workspace, clock)
