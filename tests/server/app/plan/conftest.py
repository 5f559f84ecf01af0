"""An office with people on a control database of each kind."""

from __future__ import annotations

import pytest

from bihuan.server.control import Control

from .office import Office, hire


@pytest.fixture
def office(control: Control) -> Office:
    hire(control)
    return Office(control)
