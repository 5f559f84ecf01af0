"""A process that runs one scene, so that a test can run several at once or kill one midway.

Called with: folder, moment, and what to do ("run", or "die" after the members are stored).
"""

from __future__ import annotations

import os
import signal
import sys
from datetime import UTC, date, datetime
from pathlib import Path

from bihuan.audience import SceneLog, parse, run_due, take_snapshot
from bihuan.audience.scene.definition import Scene
from bihuan.data import ColumnType, DuckDBEngine, Lake
from bihuan.kernel import FixedClock
from bihuan.tag import Subject, TagField, TagTable

AS_OF = date(2026, 10, 31)
SCENE = Scene(
    "monthly", {"zh": "每月", "en": "Monthly"}, parse("arpu >= 50"), "arpu >= 50", "0 6 2 * *",
    owner="t", starts_on=date(2026, 11, 1),
)  # fmt: skip


def open_tags(folder: Path) -> tuple[Lake, TagTable]:
    lake = Lake(folder / "lake")
    stored = lake.view().get("tag__customer__bill")
    field = TagField("arpu", ColumnType.INTEGER, None, {"zh": "消费", "en": "ARPU"})
    return lake, TagTable(
        Subject.CUSTOMER, AS_OF, "customer_id", {"arpu": field}, {"arpu": stored.id}, {},
        {stored.table: stored}, stored.rows,
    )  # fmt: skip


def run(folder: Path, moment: datetime, *, die: bool = False) -> list:
    lake, tags = open_tags(folder)
    engine, clock = DuckDBEngine(threads=1), FixedClock(moment)

    def take(scene, as_of):
        found = take_snapshot(scene.audience, tags, lake=lake, engine=engine, clock=clock)
        if die:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    return run_due(SCENE, SceneLog(folder / "monthly.jsonl"), moment, lambda _: [AS_OF], take)


if __name__ == "__main__":
    found = run(
        Path(sys.argv[1]),
        datetime.fromisoformat(sys.argv[2]).astimezone(UTC),
        die=sys.argv[3] == "die",
    )
    sys.stdout.write(f"{len(found)}\n")
