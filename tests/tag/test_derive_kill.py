"""kill -9 at every named step and at random moments of a derivation."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from bihuan.data import DuckDBEngine, Lake, load_contracts
from bihuan.kernel import FixedClock, random_stream
from bihuan.tag import TagDictionary, read_tags

SCRIPT = Path(__file__).with_name("killed_derivation.py")
AS_OF = date(2026, 10, 31)
CONTRACTS = load_contracts()
STEPS = {
    "engine.write": (1, 2, 3, 4),  # four groups
    "lake.settle": (1, 4),
    "lake.write_atomically": (1, 4, 5),  # a description for each group, then the HEAD
    "lake.commit": (1,),
}
POINTS = [(s, w, n) for s, calls in STEPS.items() for n in calls for w in ("before", "after")]


class World:
    """A lake whose rows all say one number, the generation, and the process that derives."""

    def __init__(self, root: Path, process: subprocess.Popen[str]) -> None:
        self.lake, self._process = Lake(root), process
        self._engine = DuckDBEngine(threads=1)
        self._clock = FixedClock(datetime(2026, 11, 1, tzinfo=UTC))
        self.dictionary = TagDictionary(_definitions(), CONTRACTS)
        self.generation = 0

    def next_generation(self) -> None:
        """Publish new rows in every source."""
        self.generation += 1
        self._clock.advance(timedelta(minutes=1))
        rows = [
            {
                "customer_id": f"C{i}",
                "subscription_id": f"S{i}",
                "account_id": "A",
                "amount": self.generation,
                "data_mb": float(self.generation),
            }
            for i in range(40)
        ]
        with self.lake.publication(self._clock) as publication:
            for table in (
                ("bill", "usage") if self.generation > 1 else ("customer", "bill", "usage")
            ):
                schema = CONTRACTS[table].schema
                publication.add(table, AS_OF, pa.Table.from_pylist(rows, schema=schema))

    def order(self, **order: Any) -> dict[str, Any]:
        """Let the process derive, and be killed if the order says so."""
        self._clock.advance(timedelta(minutes=1))
        order |= {"root": str(self.lake.root), "moment": self._clock.now().timestamp()}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def seen(self) -> tuple[float, ...] | None:
        """Return the generation that each tag shows; None if any two customers differ."""
        table = read_tags(self.lake.view(), self.dictionary, "customer", AS_OF)
        rows = table.read(self._engine, ["paid", "used", "both", "twice"]).to_pylist()
        assert len(rows) == 40
        shown = {(r["paid"], r["used"], r["both"] / 2, r["twice"] / 4) for r in rows}
        return shown.pop() if len(shown) == 1 else None

    def trial(self, **order: Any) -> str:
        """Kill one derivation; return what a reader sees: old, new or broken."""
        before = self.generation
        self.next_generation()
        answer = self.order(**order)
        assert answer["code"] in (0, -9), "the process failed by itself; see its stderr"
        seen = self.seen()
        state = {(before,) * 4: "old", (before + 1,) * 4: "new"}.get(seen, "broken")
        assert self.order()["code"] == 0, "the run could not be repeated"
        assert self.seen() == (before + 1,) * 4, "the repeated run did not bring the new values"
        return f"{state} {'killed' if answer['code'] else 'ended'}"


def _definitions() -> list:
    spec = importlib.util.spec_from_file_location("killed_derivation", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.definitions()


@contextmanager
def world(root: Path, *arguments: str) -> Iterator[World]:
    """Start the process and derive the first generation."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert json.loads(process.stdout.readline())["ready"]
        made = World(root, process)
        made.next_generation()
        assert made.order()["code"] == 0
        yield made
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


@pytest.mark.slow
class TestKill:
    def test_at_every_named_step_the_tags_are_those_of_before_or_those_of_after(self, tmp_path):
        with world(tmp_path / "lake") as here:
            found = {point: here.trial(point=point) for point in POINTS}
            assert {state.split()[1] for state in found.values()} == {"killed"}  # each was reached
            after_head = [("lake.write_atomically", "after", 5), ("lake.commit", "after", 1)]
            for point, state in found.items():
                assert state.split()[0] == ("new" if point in after_head else "old"), point
            # what killed runs left behind is swept, and the tags stay readable
            assert here.lake.sweep() > 0
            assert here.seen() == (here.generation,) * 4

    def test_at_random_moments_too(self, tmp_path):
        chance = random_stream(20261031, "tests", "tag", "kill")
        with world(tmp_path / "lake") as here:
            here.next_generation()
            seconds = here.order()["seconds"]
            delays = chance.uniform(0, seconds * 1.2, 10)
            found = Counter(here.trial(delay=float(delay)) for delay in delays)
        assert not [state for state in found if state.startswith("broken")]
        assert sum(n for state, n in found.items() if state.endswith("killed")) >= 3

    def test_the_check_catches_a_run_that_publishes_group_by_group(self, tmp_path):
        points = [point for point in POINTS if point[0] == "engine.write"]
        with world(tmp_path / "lake", "defective") as here:
            found = Counter(here.trial(point=point).split()[0] for point in points)
        assert found["broken"] >= 3
