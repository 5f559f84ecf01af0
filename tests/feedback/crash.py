"""Kills ingest and replay of outcomes before every durable step; see the delivery room's harness.

Run as a script: ``crash.py <scenario> <folder>``.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pyarrow as pa

from bihuan.data import DuckDBEngine, Lake
from bihuan.delivery import list_deployments
from bihuan.feedback import OutcomeQuarantine, outcome
from bihuan.kernel import FixedClock

HERE = Path(__file__).parent
BUILD = runpy.run_path(str(HERE / "conftest.py"))
HARNESS = runpy.run_path(str(HERE.parent / "delivery" / "crash.py"), run_name="harness")


def world_of(place: Path):
    found = list_deployments(Lake(place / "lake").view())
    if not found:
        return BUILD["build_world"](place)
    lake, clock = Lake(place / "lake"), FixedClock(BUILD["NOON"])
    return BUILD["World"](place, lake, clock, DuckDBEngine(threads=1), found[0])


def rows_of(world) -> pa.Table:
    """Fifty good rows, ten repeats, and ten that nobody can believe."""
    good = BUILD["outcome_rows"](world.assignments.slice(0, 50))
    bad = BUILD["outcome_rows"](
        world.assignments.slice(50), assignment_id=[f"nobody-{i}" for i in range(10)]
    )
    return pa.concat_tables([good, good.slice(0, 10), bad])


def prepare(place: Path) -> None:
    world_of(place)


def ingest(place: Path) -> None:
    world = world_of(place)
    report = world.ingest(rows_of(world))
    assert report.received == 70
    assert report.quarantined == 10


def ingest_late_quarantine(place: Path) -> None:
    """The seeded defect: good rows are published before bad rows are safe."""
    keep, store = OutcomeQuarantine.keep, outcome._store
    waiting: list[tuple[OutcomeQuarantine, pa.Table]] = []

    def later(self: OutcomeQuarantine, rows: pa.Table) -> None:
        waiting.append((self, rows))

    def store_first(*given: object) -> None:
        store(*given)
        for quarantine, rows in waiting:
            keep(quarantine, rows)

    OutcomeQuarantine.keep, outcome._store = later, store_first
    ingest(place)


def nothing_lost(place: Path) -> None:
    """What is published is whole, and nothing is published whose bad rows are not kept."""
    world = world_of(place)
    stored = world.outcomes().num_rows
    assert stored in (0, 50)
    if stored:
        assert kept(world).num_rows == 10


def all_there(place: Path) -> None:
    world = world_of(place)
    ids = world.outcomes()["outcome_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 50
    assert kept(world).num_rows == 10


def kept(world) -> pa.Table:
    return OutcomeQuarantine(world.quarantine).rows()


def wait_for_noon(place: Path) -> None:
    """Quarantine twenty rows that have not happened yet, and ten that never will pass."""
    world = world_of(place)
    world.clock.moment = BUILD["MORNING"]
    early = BUILD["outcome_rows"](world.assignments.slice(0, 20))
    bad = BUILD["outcome_rows"](world.assignments.slice(20, 10), stage="nonsense")
    world.ingest(early)
    world.ingest(bad)


def replay(place: Path) -> None:
    world = world_of(place)
    world.replay()


def waiting_or_stored(place: Path) -> None:
    world = world_of(place)
    stored = set(world.outcomes()["outcome_id"].to_pylist())
    waiting = set(kept(world)["raw_outcome_id"].to_pylist())
    assert len(stored | waiting) == 30


def stored_and_gone(place: Path) -> None:
    world = world_of(place)
    assert world.outcomes().num_rows == 20
    assert kept(world).num_rows == 10


SCENARIOS = {
    "ingest": (prepare, ingest, nothing_lost, all_there),
    "ingest_late_quarantine": (prepare, ingest_late_quarantine, nothing_lost, all_there),
    "replay": (wait_for_noon, replay, waiting_or_stored, stored_and_gone),
}

if __name__ == "__main__":
    print(json.dumps(HARNESS["run"](*SCENARIOS[sys.argv[1]], Path(sys.argv[2]))))
