"""The lake shows whole publications or nothing, through exceptions, kills and concurrency."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import textwrap
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from bihuan.data import Lake, SnapshotNotFoundError

SEPTEMBER, OCTOBER = date(2026, 9, 30), date(2026, 10, 31)


def numbers(*values: int) -> pa.Table:
    return pa.table({"n": list(values)})


def publish(lake, clock, table="staff", as_of=OCTOBER, values=(1, 2)):
    with lake.publication(clock) as publication:
        publication.add(table, as_of, numbers(*values))
    clock.advance(timedelta(seconds=1))
    return lake.view()


def read(view, table="staff", as_of=None):
    return view.get(table, as_of).read().column("n").to_pylist()


class TestPublication:
    def test_several_tables_appear_together(self, lake, clock):
        with lake.publication(clock) as publication:
            publication.add("staff", OCTOBER, numbers(1))
            publication.add("bill", OCTOBER, numbers(2, 3))
            assert lake.view().tables == ()  # not before the end of the block
        assert lake.view().tables == ("bill", "staff")
        assert lake.view().version == 1

    def test_an_exception_publishes_nothing_and_leaves_nothing_behind(self, lake, clock):
        publish(lake, clock)
        before = sorted(lake.root.rglob("*.parquet"))

        def failing():
            with lake.publication(clock) as publication:
                publication.add("staff", OCTOBER, numbers(9))
                publication.add("bill", OCTOBER, numbers(9))
                raise ValueError("source is broken")

        with pytest.raises(ValueError, match="broken"):
            failing()
        assert read(lake.view()) == [1, 2]
        assert lake.view().tables == ("staff",)
        assert sorted(lake.root.rglob("*.parquet")) == before

    def test_the_same_date_is_replaced_and_another_date_is_added(self, lake, clock):
        publish(lake, clock, as_of=SEPTEMBER, values=(1,))
        publish(lake, clock, values=(2,))
        view = publish(lake, clock, values=(3,))
        assert view.dates("staff") == (SEPTEMBER, OCTOBER)
        assert read(view, as_of=SEPTEMBER) == [1]
        assert read(view) == [3]

    def test_the_last_of_two_in_one_publication_is_shown(self, lake, clock):
        with lake.publication(clock) as publication:
            publication.add("staff", OCTOBER, numbers(1))
            publication.add("staff", OCTOBER, numbers(2))
        assert read(lake.view()) == [2]

    def test_lineage_and_time_are_kept(self, lake, clock):
        lineage = {"mapping": "staff.yaml", "rows_quarantined": 3}
        with lake.publication(clock) as publication:
            publication.add("staff", OCTOBER, numbers(1), lineage=lineage)
        snapshot = lake.view().get("staff")
        assert snapshot.lineage == lineage
        assert snapshot.published_at == clock.now().isoformat()
        assert snapshot.rows == 1
        assert snapshot.bytes == sum(path.stat().st_size for path in snapshot.files)

    def test_a_caller_may_write_several_files_itself(self, lake, clock):
        import pyarrow.parquet as pq

        with lake.publication(clock) as publication, publication.folder("bill", OCTOBER) as folder:
            pq.write_table(numbers(3), folder / "part-00001.parquet")
            pq.write_table(numbers(1, 2), folder / "part-00000.parquet")
        assert read(lake.view(), "bill") == [1, 2, 3]  # in the order of the file names

    def test_an_empty_table_is_a_snapshot_too(self, lake, clock):
        with lake.publication(clock) as publication:
            publication.add("staff", OCTOBER, numbers(1).slice(0, 0))
        assert lake.view().get("staff").rows == 0
        assert read(lake.view()) == []


class TestLakeView:
    def test_an_old_view_still_reads_what_it_held(self, lake, clock):
        old = publish(lake, clock, values=(1, 2))
        publish(lake, clock, values=(3,))
        publish(lake, clock, table="bill", values=(4,))
        assert read(old) == [1, 2]
        assert old.tables == ("staff",)
        assert read(lake.view()) == [3]

    def test_a_lake_opened_again_shows_the_same(self, lake, clock):
        publish(lake, clock)
        assert read(Lake(lake.root).view()) == [1, 2]

    def test_get_names_the_dates_that_there_are(self, lake, clock):
        view = publish(lake, clock)
        with pytest.raises(SnapshotNotFoundError, match="2026-10-31"):
            view.get("staff", SEPTEMBER)
        with pytest.raises(SnapshotNotFoundError, match="none"):
            view.get("nothing")
        assert view.find("staff", SEPTEMBER) is None
        assert view.find("nothing") is None

    def test_upto_takes_calendar_months(self, lake, clock):
        for day in (date(2025, 12, 31), date(2026, 1, 31), date(2026, 2, 28), date(2026, 3, 31)):
            view = publish(lake, clock, as_of=day)

        def days(as_of, months=None):
            return [snapshot.as_of for snapshot in view.upto("staff", as_of, months=months)]

        assert days(date(2026, 2, 28), 1) == [date(2026, 2, 28)]
        assert days(date(2026, 2, 28), 3) == [
            date(2025, 12, 31),
            date(2026, 1, 31),
            date(2026, 2, 28),
        ]
        assert len(days(date(2026, 3, 31))) == 4
        assert days(date(2026, 2, 27), 1) == []
        assert view.upto("nothing", OCTOBER) == ()

    def test_columns_can_be_read_alone(self, lake, clock):
        with lake.publication(clock) as publication:
            publication.add("staff", OCTOBER, pa.table({"a": [1], "b": ["x"]}))
        assert lake.view().get("staff").read(["b"]).to_pylist() == [{"b": "x"}]


class TestSweep:
    def test_it_removes_what_no_head_names_and_nothing_else(self, lake, clock):
        publish(lake, clock, as_of=SEPTEMBER)
        publish(lake, clock, values=(1,))
        view = publish(lake, clock, values=(2,))  # replaces the one before
        orphan = lake.root / "bill" / "2026-10-31" / "0123456789"
        orphan.mkdir(parents=True)
        staging = lake.root / ".staging" / "left"
        staging.mkdir(parents=True)
        foreign = lake.root / "notes"
        foreign.mkdir()
        (foreign / "readme.txt").write_text("not a snapshot")
        assert lake.sweep() == 3
        assert not orphan.exists()
        assert not staging.exists()
        assert (foreign / "readme.txt").exists()
        assert read(view) == [2]
        assert read(view, as_of=SEPTEMBER) == [1, 2]
        assert lake.sweep() == 0


# -- kills --------------------------------------------------------------------------------------

# A process that has everything imported forks a child for each line it reads; the child publishes
# two tables over old ones and is killed (SIGKILL) just before one named step.
NURSERY = """
    import os, signal, sys
    from datetime import date, datetime, UTC
    from pathlib import Path
    import pyarrow as pa
    import bihuan.data.lake as module
    from bihuan.data import Lake
    from bihuan.kernel import FixedClock

    targets = {
        "write rows": (module.pq, "write_table"),
        "flush rows": (module.os, "fsync"),
        "describe": (module, "write_atomically"),
        "move": (Path, "rename"),
        "flush folder": (module, "sync_folder"),
        "replace head": (Path, "replace"),
    }

    def head_first(self, publication):  # the seeded defect: rows are moved after the head
        head = self._head()
        for table, as_of, staging, lineage in publication._pending:
            head["tables"].setdefault(table, {})[as_of.isoformat()] = staging.name
        head["version"] += 1
        module.write_atomically(self.root / "HEAD.json", module.canonical_json(head).encode())
        for table, as_of, staging, lineage in publication._pending:
            about = {"files": [{"name": "part-00000.parquet", "rows": 2, "bytes": 1}],
                     "lineage": {}, "published_at": ""}
            text = module.canonical_json(about).encode()
            module.write_atomically(staging / "snapshot.json", text)
            target = self.root / table / as_of.isoformat() / staging.name
            target.parent.mkdir(parents=True, exist_ok=True)
            staging.rename(target)

    def child(root, step, occurrence, mode):
        count = 0

        def deadly(function):
            def call(*arguments, **named):
                nonlocal count
                count += 1
                if count == occurrence:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*arguments, **named)
            return call

        if mode == "head first":
            Lake._commit = head_first
        if step in targets:
            holder, name = targets[step]
            setattr(holder, name, deadly(getattr(holder, name)))
        with Lake(root).publication(FixedClock(datetime(2026, 11, 4, tzinfo=UTC))) as publication:
            for table in ("bill", "staff"):
                publication.add(table, date(2026, 10, 31), pa.table({"n": [7, 8]}))

    for line in sys.stdin:
        root, step, occurrence, mode = line.rstrip("\\n").split("\\t")
        pid = os.fork()
        if pid == 0:
            child(Path(root), step, int(occurrence), mode)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""
STEPS = {
    "write rows": 2,
    "flush rows": 6,
    "describe": 3,
    "move": 2,
    "flush folder": 2,
    "replace head": 3,
}


@pytest.fixture(scope="module")
def nursery():
    code = textwrap.dedent(NURSERY)
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def run(root: Path, step: str, occurrence: int, mode: str = "real") -> str:
            """Kill a publication at a step; say what a reader sees: old, new, or how it broke."""
            process.stdin.write(f"{root}\t{step}\t{occurrence}\t{mode}\n")
            process.stdin.flush()
            code = int(process.stdout.readline())
            assert code == (0 if step == "none" else -signal.SIGKILL), (
                f"{step} {occurrence}: {code}"
            )
            return state(root)

        yield run
        process.stdin.close()


def state(root: Path) -> str:
    try:
        view = Lake(root).view()
        seen = {table: read(view, table, OCTOBER) for table in ("bill", "staff")}
    except (OSError, ValueError, SnapshotNotFoundError) as error:
        return f"broken: {error}"
    if seen == {"bill": [1, 2], "staff": [1, 2]}:
        return "old"
    return "new" if seen == {"bill": [7, 8], "staff": [7, 8]} else f"half: {seen}"


class TestKill:
    @pytest.fixture
    def old(self, lake, clock) -> Path:
        publish(lake, clock, table="bill")
        publish(lake, clock, table="staff")
        return lake.root

    @pytest.mark.parametrize("step", STEPS)
    def test_a_kill_at_any_step_leaves_the_old_whole_and_the_run_can_be_repeated(
        self, old, nursery, step
    ):
        for occurrence in range(1, STEPS[step] + 1):
            assert nursery(old, step, occurrence) == "old", f"{step} {occurrence}"
        assert nursery(old, "none", 0) == "new"
        lake = Lake(old)
        lake.sweep()
        view = lake.view()
        assert read(view, "bill") == [7, 8]
        assert not list((old / ".staging").glob("*"))

    def test_a_lake_that_shows_the_head_first_would_be_caught(self, old, nursery):
        seen = {
            nursery(old, step, occurrence, "head first")
            for step, occurrence in (("describe", 2), ("move", 1), ("move", 2))
        }
        assert any(state.startswith(("broken", "half")) for state in seen), seen


# -- concurrency --------------------------------------------------------------------------------

# One process that has everything imported forks four, which publish at the same time.
PUBLISHERS = """
    import os, sys
    from contextlib import nullcontext
    from datetime import date
    from pathlib import Path
    import pyarrow as pa
    import bihuan.data.lake as module
    from bihuan.data import Lake
    from bihuan.kernel import SystemClock

    def publish(root, worker):
        lake = Lake(root)
        for turn in range(10):
            with lake.publication(SystemClock()) as publication:
                publication.add(f"t{worker}_{turn}", date(2026, 10, 31), pa.table({"n": [worker]}))
                publication.add("shared", date(2020 + worker, 1, 1 + turn), pa.table({"n": [turn]}))

    if sys.argv[2] == "unlocked":  # the seeded defect
        module.file_lock = lambda path: nullcontext()
    children = []
    for worker in range(4):
        children.append(os.fork())
        if children[-1] == 0:
            try:
                publish(Path(sys.argv[1]), worker)
            finally:
                os._exit(0)
    for child in children:
        os.waitpid(child, 0)
"""


def lost_after_four_publishers(root: Path, mode: str) -> int:
    """Let four processes publish at once; return how many of their snapshots are not there."""
    code = textwrap.dedent(PUBLISHERS)
    subprocess.run(
        [sys.executable, "-c", code, str(root), mode],
        check=True,
        stderr=subprocess.DEVNULL,
        timeout=120,
    )
    view = Lake(root).view()
    lost = 0
    for worker in range(4):
        for turn in range(10):
            lost += view.find(f"t{worker}_{turn}", OCTOBER) is None
            lost += view.find("shared", date(2020 + worker, 1, 1 + turn)) is None
    return lost


class TestConcurrency:
    def test_four_processes_that_publish_at_once_lose_nothing(self, lake):
        assert lost_after_four_publishers(lake.root, "locked") == 0
        assert lake.view().version == 40

    def test_without_the_lock_publications_would_be_lost(self, lake):
        assert lost_after_four_publishers(lake.root, "unlocked") > 0

    def test_head_stays_readable_json(self, lake, clock):
        publish(lake, clock)
        head = json.loads((lake.root / "HEAD.json").read_bytes())
        assert head["version"] == 1
        shutil.rmtree(lake.root / ".staging")
        assert read(publish(lake, clock, values=(5,))) == [5]
