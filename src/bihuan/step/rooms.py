"""What every step works in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bihuan.data import Engine, Lake, TableContract
from bihuan.kernel import Clock, Progress
from bihuan.offer import Catalogue
from bihuan.tag import TagDictionary


@dataclass(frozen=True, slots=True)
class Rooms:
    """The furnished rooms of one operator.

    Parameters
    ----------
    lake
        Where all rows are.
    contracts
        What its tables promise.
    dictionary
        The tags.
    catalogue
        The offers.
    engine
        Where queries run.
    quarantine
        Folder of the rows that were refused.
    models
        Folder of the model registry.
    clock, progress
        Time, and where long work reports.
    seed
        All chance hangs on it.
    currency
        ISO 4217 code of all amounts.
    """

    lake: Lake
    contracts: Mapping[str, TableContract]
    dictionary: TagDictionary
    catalogue: Catalogue
    engine: Engine
    quarantine: Path
    models: Path
    clock: Clock
    progress: Progress
    seed: int
    currency: str = "CNY"
