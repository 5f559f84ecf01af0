"""A small operator with one of the simulated worlds around it, and its tags of that world."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bihuan.data import DuckDBEngine, Lake, load_contracts
from bihuan.kernel import FixedClock, SilentProgress
from bihuan.tag import (
    LIBRARY_FOLDER,
    DeriveReport,
    TagDictionary,
    TagTable,
    derive,
    load_definitions,
    read_tags,
)
from bihuan.twin import TwinSettings, generate_operator

AS_OF = date(2026, 10, 31)
CLOCK = FixedClock(datetime(2026, 11, 2, 8, tzinfo=UTC))


def files(*names: str) -> list[Path]:
    return [LIBRARY_FOLDER / f"{name}.yaml" for name in names]


def customers(folder: Path) -> Path:
    """Make the lake of a plain simulated operator, once for all tests of the run."""
    if not folder.exists():
        generate_operator(
            TwinSettings(customers=1200, months=1, last=AS_OF, seed=11),
            Lake(folder), load_contracts(), clock=CLOCK, progress=SilentProgress(),
        )  # fmt: skip
    return folder


@dataclass(frozen=True)
class World:
    """A lake, the tags of one of its worlds, and what became of them."""

    lake: Lake
    dictionary: TagDictionary
    engine: DuckDBEngine
    names: frozenset[str]

    def derive(self, subject: str) -> DeriveReport:
        return derive(
            self.dictionary, self.lake, AS_OF, subject=subject,
            engine=self.engine, clock=CLOCK, progress=SilentProgress(),
        )  # fmt: skip

    def table(self, subject: str) -> TagTable:
        return read_tags(self.lake.view(), self.dictionary, subject, AS_OF)

    def values(self, subject: str, *tags: str) -> dict[str, dict[str, Any]]:
        table = self.table(subject)
        rows = table.read(self.engine, tags).to_pylist()
        return {row.pop(table.id_column): row for row in rows}

    def rows(self, table: str, months_back: int = 0) -> list[dict[str, Any]]:
        day = self.lake.view().dates(table)[-1 - months_back]
        return self.lake.view().get(table, day).read().to_pylist()

    def constant_tags(self, subject: str) -> list[str]:
        """Tags of this world with fewer than two values among the subjects."""
        table = self.table(subject)
        mine = [name for name in table.fields if name in self.names]
        read: pa.Table = table.read(self.engine, mine)
        return [n for n in mine if pc.count_distinct(read[n], mode="only_valid").as_py() < 2]


def build_world(
    temporary: pytest.TempPathFactory,
    surround: Callable[..., Any],
    *names: str,
    also: tuple[str, ...] = (),
) -> World:
    """Copy the operator, surround it, and load the library files of that world."""
    folder = temporary.mktemp("world") / "lake"
    shutil.copytree(customers(temporary.getbasetemp() / "plain-operator"), folder)
    lake = Lake(folder)
    surround(lake, AS_OF, load_contracts(), months=12, seed=11, clock=CLOCK)
    dictionary = TagDictionary.load(*files(*also, *names))
    mine = frozenset(tag.name for path in files(*names) for tag in load_definitions(path))
    return World(lake, dictionary, DuckDBEngine(threads=1), mine)
