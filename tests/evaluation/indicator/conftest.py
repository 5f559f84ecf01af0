"""A simulated operator's two months, and the sample catalogue."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from bihuan.data import DuckDBEngine, Lake, load_contracts
from bihuan.evaluation.indicator import IndicatorCatalogue, UnitTree, World
from bihuan.kernel import FixedClock, SilentProgress
from bihuan.pack import PACKS
from bihuan.twin import TwinSettings, generate_operator, surround_management

OCTOBER = date(2026, 10, 31)


@pytest.fixture(scope="session")
def operator(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    contracts = load_contracts()
    lake = Lake(tmp_path_factory.mktemp("indicator") / "lake")
    clock = FixedClock(datetime(2026, 11, 2, tzinfo=UTC))
    settings = TwinSettings(customers=1500, months=2, last=OCTOBER, seed=7)
    generate_operator(settings, lake, contracts, clock=clock, progress=SilentProgress())
    surround_management(lake, list(settings.month_ends()), contracts, seed=7, clock=clock)
    world = World(lake.view(), contracts)
    return SimpleNamespace(
        world=world,
        engine=DuckDBEngine(threads=1),
        tree=UnitTree.at(world.view, OCTOBER),
        catalogue=IndicatorCatalogue.load(catalogue_file()),
        month=OCTOBER,
    )


def catalogue_file() -> Path:
    return PACKS["sample"] / "indicators" / "standard.yaml"
