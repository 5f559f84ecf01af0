"""kill -9 at any moment of an ingest or replay: the old state or the new, never half of one.

Named steps are taken one by one, before and after; random moments come on top. The same check is
held against four variants that are wrong on purpose, and must find each of them.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bihuan.kernel import random_stream

from .ingest_fixtures import Room

CHILD = Path(__file__).with_name("ingest_child.py")
MAPPING = """
mapping: killed
tables:
  meter: {columns: {meter_id: id, level: level}}
  owning: {columns: {meter_id: id, product_id: p}}
"""
MENDED = MAPPING.replace("level: level", "level: {column: level, missing: ['', broken]}")
OLD = "id,level,p\n" + "".join(f"old{n},{n},x\n" for n in range(50))
NEW = "id,level,p\n" + "".join(
    f"new{n % 380},{'broken' if n % 10 == 3 else n},y\n" for n in range(400)
)
ROWS = {  # per action: rows per table when it is done, and bad rows in open batches
    "ingest": ({"meter": 342, "owning": 380}, 58 + 20),
    "append": ({"meter": 392, "owning": 430}, 58 + 20),
    "replay": ({"meter": 380, "owning": 380}, 20 + 20),
}
STEPS = [
    ("block converted", 1),
    ("block converted", 2),
    ("part closed", 1),
    ("part closed", 2),
    ("duplicates removed", 1),
    ("batch described", 1),
    ("batch committed", 1),
    ("lake committed", 1),
    ("snapshot settled", 1),
    ("snapshot settled", 2),
    ("file replaced", 1),
    ("file replaced", 2),
    ("file replaced", 3),
]


@dataclass
class Forker:
    """The process that forks one victim per order."""

    process: subprocess.Popen[str]

    def order(self, **order: Any) -> int:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self._line())

    def ended(self) -> int:
        return int(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    process = subprocess.Popen(
        [sys.executable, str(CHILD)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Forker(process)
    finally:
        process.kill()
        process.communicate()


@dataclass
class Case:
    """A lake with an old state, and what is done to it."""

    room: Room
    action: str
    order: dict[str, Any]
    old: dict[str, int]

    def violations(self) -> list[str]:
        """What is wrong with the state that a killed process left."""
        try:
            view = self.room.lake.view()
            rows = {table: view.get(table).read().num_rows for table in view.tables}
        except Exception as error:  # noqa: BLE001 - whatever breaks reading is the finding
            return [f"the lake cannot be read: {error!r}"]
        expected, bad = ROWS[self.action]
        if rows == self.old:
            return []
        if rows != expected:
            return [f"half published: {rows}"]
        kept = sum(batch.rows for batch in self.room.quarantine.list_batches())
        replayed = self.order.get("batch")
        if replayed is not None:
            kept -= self.room.quarantine.get(replayed).rows
        return [] if kept == bad else [f"published, but {kept} of {bad} bad rows are kept"]

    def finish(self) -> None:
        """Do it again, undisturbed, and look at the end state."""
        order = self.order
        if self.action == "replay":
            self.room.replay(order["batch"], order["mapping"])
        else:
            append = self.action == "append"
            self.room.ingest(Path(order["file"]), order["mapping"], append=append)
        expected, bad = ROWS[self.action]
        view = self.room.lake.view()
        assert {table: view.get(table).rows for table in view.tables} == expected
        assert self.violations() == []
        for table in view.tables:
            rows = view.get(table).read()
            keys = rows.select(list(self.room.contracts[table].key)).to_pylist()
            assert len({tuple(key.values()) for key in keys}) == rows.num_rows
        open_batches = self.room.quarantine.list_batches("open")
        assert sum(batch.rows for batch in open_batches) == bad


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One prepared folder per action, copied for every case."""
    found = {}
    for action in ROWS:
        room = Room(tmp_path_factory.mktemp(action))
        room.file("new.csv", NEW)
        if action == "replay":
            room.ingest(room.root / "new.csv", MAPPING)
        else:
            room.ingest(room.file("old.csv", OLD), MAPPING)
        found[action] = room.root
    return found


def case(bases: dict[str, Path], action: str, root: Path) -> Case:
    shutil.copytree(bases[action], root)
    room = Room(root)
    view = room.lake.view()
    order = {"root": str(root), "action": action, "mapping": MAPPING, "file": str(root / "new.csv")}
    if action == "replay":
        order |= {"batch": room.quarantine.list_batches()[0].id, "mapping": MENDED}
    return Case(room, action, order, {table: view.get(table).rows for table in view.tables})


class TestNamedSteps:
    @pytest.mark.parametrize(
        "action",
        [
            "ingest",
            pytest.param("append", marks=pytest.mark.slow),
            pytest.param("replay", marks=pytest.mark.slow),
        ],
    )
    def test_killed_at_each_step_leaves_old_or_new_and_can_be_repeated(
        self, forker: Forker, bases: dict[str, Path], tmp_path: Path, action: str
    ) -> None:
        steps = [*STEPS, ("old file linked", 1)] if action != "ingest" else STEPS
        steps = [*steps, ("batch marked", 1)] if action == "replay" else steps
        killed = 0
        for number, (step, nth) in enumerate(steps):
            for when in ("before", "after"):
                if action == "replay" and step == "duplicates removed":
                    continue  # a replay's duplicates are stored before, in another file
                victim = case(bases, action, tmp_path / f"{number}-{when}")
                forker.order(**victim.order, crash=[step, when, nth])
                ended = forker.ended()
                assert ended == -signal.SIGKILL, f"{when} {step} {nth} was not reached: {ended}"
                killed += 1
                assert victim.violations() == [], f"{when} {step} {nth}"
                victim.finish()
        assert killed >= 2 * len(STEPS) - 2


class TestRandomMoments:
    def kill(
        self, forker: Forker, bases: dict[str, Path], tmp_path: Path, runs: int, seed: int
    ) -> tuple[int, int]:
        stream = random_stream(seed, "kill", "ingest")
        ended = {"old": 0, "new": 0}
        seconds = {}
        for action in ROWS:
            probe = case(bases, action, tmp_path / f"probe-{action}")
            started = time.perf_counter()
            forker.order(**probe.order)
            assert forker.ended() == 0
            seconds[action] = time.perf_counter() - started
        reach = 1.0  # of the probe's time; a machine may be busier or idler than it was then
        for number in range(runs):
            action = list(ROWS)[number % len(ROWS)]
            victim = case(bases, action, tmp_path / f"{number}")
            process = forker.order(**victim.order)
            time.sleep(float(stream.uniform(0, reach * seconds[action])))
            with_signal(process)
            forker.ended()
            assert victim.violations() == [], f"run {number}, seed {seed}"
            view = victim.room.lake.view()
            rows = {table: view.get(table).rows for table in view.tables}
            is_old = rows == victim.old
            ended["old" if is_old else "new"] += 1
            reach *= 1.1 if is_old else 0.8
            victim.finish()
            shutil.rmtree(victim.room.root)
        return ended["old"], ended["new"]

    def test_a_few_moments(self, forker: Forker, bases: dict[str, Path], tmp_path: Path) -> None:
        old, new = self.kill(forker, bases, tmp_path, runs=9, seed=20261031)
        assert old + new == 9
        assert old > 0, "every kill came too late to mean anything"

    @pytest.mark.slow
    def test_many_moments(self, forker: Forker, bases: dict[str, Path], tmp_path: Path) -> None:
        old, new = self.kill(forker, bases, tmp_path, runs=90, seed=7)
        assert min(old, new) > 0, f"{old} old, {new} new"


def with_signal(process: int) -> None:
    """Kill a fork that may have ended by itself."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


class TestTwins:
    @pytest.mark.parametrize(
        ("defect", "finding"),
        [
            ("torn head", "cannot be read"),
            ("head first", "cannot be read"),
            ("one table at a time", "half published"),
            ("late batch", "0 of 78 bad rows are kept"),
        ],
    )
    def test_the_check_finds_a_lake_that_is_wrong_on_purpose(
        self, forker: Forker, bases: dict[str, Path], tmp_path: Path, defect: str, finding: str
    ) -> None:
        victim = case(bases, "ingest", tmp_path / "twin")
        crash = ["lake committed", "after", 1] if defect == "late batch" else None
        forker.order(**victim.order, defect=defect, crash=crash)
        assert forker.ended() == -signal.SIGKILL
        [found] = victim.violations()
        assert finding in found
