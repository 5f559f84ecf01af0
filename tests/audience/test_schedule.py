"""Each time is settled once, failures say why, old counts carry their date."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest

from bihuan.audience import (
    Scene,
    SceneLog,
    SceneRun,
    parse,
    resume_scene,
    run_due,
    scene_status,
)
from bihuan.audience.scene import log as log_module
from bihuan.data import Lake
from bihuan.kernel import DefectError, FixedClock, UserError

from . import scene_child

CHILD = Path(__file__).with_name("scene_child.py")
TITLE = {"zh": "场景", "en": "Scene"}


def utc(*parts) -> datetime:
    return datetime(*parts, tzinfo=UTC)


def scene(cron="0 6 * * *", **more) -> Scene:
    given = {"starts_on": date(2026, 11, 1), "owner": "t", "time_zone": "UTC", **more}
    return Scene("s", TITLE, parse("everyone"), "everyone", cron, **given)


class Taker:
    """Takes snapshots of a wanted size, or fails; remembers what it was asked."""

    def __init__(self, size=100, fails=None):
        self.size, self.fails, self.asked = size, fails, []

    def __call__(self, scene, as_of):
        self.asked.append(as_of)
        if self.fails:
            raise self.fails
        return SimpleNamespace(
            id=f"{as_of}", size=self.size, count=SimpleNamespace(base=1000, members=self.size)
        )


@pytest.fixture
def log(tmp_path):
    return SceneLog(tmp_path / "s.jsonl")


OCTOBER = [date(2026, 9, 30), date(2026, 10, 31)]


def dates(*days):
    return lambda _: list(days or OCTOBER)


class TestRunDue:
    def test_runs_once_and_records_what_was_taken(self, log):
        take = Taker(120)
        runs = run_due(scene(), log, utc(2026, 11, 1, 7), dates(), take)
        assert [(r.state, r.fire_time, r.as_of, r.count, r.base) for r in runs] == [
            ("done", utc(2026, 11, 1, 6), date(2026, 10, 31), 120, 1000)
        ]
        assert run_due(scene(), log, utc(2026, 11, 1, 8), dates(), take) == []
        assert take.asked == [date(2026, 10, 31)]
        assert log.runs() == runs

    def test_a_day_in_the_future_is_never_read(self, log):
        future = dates(date(2026, 10, 31), date(2026, 11, 30))
        runs = run_due(scene(), log, utc(2026, 12, 5), future, Taker())
        assert runs[-1].as_of == date(2026, 11, 30)
        late = SceneLog(log._path.with_name("t.jsonl"))
        limited = scene(valid_until=date(2026, 11, 2))
        assert run_due(limited, late, utc(2026, 12, 5), future, Taker())[-1].as_of == date(
            2026, 10, 31
        )

    def test_latest_gives_the_missed_ones_up_on_record(self, log):
        runs = run_due(scene(), log, utc(2026, 11, 5, 7), dates(), Taker())
        assert [(r.state, r.fires) for r in runs] == [("skipped", 4), ("done", 1)]
        assert runs[0].fire_time == utc(2026, 11, 4, 6)
        assert "newer" in runs[0].reason["en"]

    def test_each_takes_every_date_once(self, log):
        days = [date(2026, 10, 31), date(2026, 11, 3)]
        take = Taker()
        runs = run_due(scene(catch_up="each"), log, utc(2026, 11, 5, 7), dates(*days), take)
        assert [(r.state, r.fire_time.day, r.as_of) for r in runs if r.state == "done"] == [
            ("done", 2, days[0]), ("done", 5, days[1])
        ]  # fmt: skip
        assert take.asked == days
        assert sum(r.fires for r in runs) == 5

    def test_years_of_missed_minutes_end_soon(self, log):
        often = scene("* * * * *", starts_on=date(2026, 10, 30))
        runs = run_due(often, log, utc(2026, 11, 1), dates(), Taker())
        assert sum(r.fires for r in runs) == 2 * 24 * 60 + 1
        assert runs[-1].state == "done"
        assert len(runs) < 6

    def test_stale_tags_fail_with_the_reason(self, log):
        strict = scene(maximum_age_days=3)
        runs = run_due(strict, log, utc(2026, 11, 5, 7), dates(), Taker())
        assert runs[-1].state == "stale"
        assert "2026-10-31, 5 days old" in runs[-1].reason["en"]
        none = SceneLog(log._path.with_name("t.jsonl"))
        runs = run_due(scene(), none, utc(2026, 11, 1, 7), lambda _: [], Taker())
        assert runs[-1].state == "stale"
        assert "derive" in runs[-1].reason["en"]

    def test_an_implausible_size_is_not_good(self, log):
        runs = run_due(
            scene(expected_size=(500, 900)), log, utc(2026, 11, 1, 7), dates(), Taker(100)
        )
        assert (runs[0].state, runs[0].count) == ("out_of_range", 100)
        assert "500 to 900" in runs[0].reason["en"]

    def test_a_failure_is_tried_again_after_a_while_and_given_up_in_the_end(self, log):
        often = scene(attempts=3, retry_minutes=30)
        fails, now = Taker(fails=UserError("no luck", zh="失败")), utc(2026, 11, 1, 7)
        first = run_due(often, log, now, dates(), fails)
        assert [(r.state, r.attempt, r.is_final) for r in first] == [("failed", 1, False)]
        assert first[0].reason == {"en": "no luck", "zh": "失败"}
        assert run_due(often, log, now + timedelta(minutes=10), dates(), fails) == []
        second = run_due(often, log, now + timedelta(minutes=31), dates(), fails)
        third = run_due(often, log, now + timedelta(minutes=62), dates(), fails)
        assert [second[0].attempt, third[0].attempt, third[0].is_final] == [2, 3, True]
        assert run_due(often, log, now + timedelta(hours=9), dates(), fails) == []
        next_day = run_due(often, log, utc(2026, 11, 2, 7), dates(), Taker())
        assert next_day[0].state == "done"

    def test_a_second_attempt_may_succeed(self, log):
        now = utc(2026, 11, 1, 7)
        run_due(scene(), log, now, dates(), Taker(fails=UserError("no luck")))
        again = run_due(scene(), log, now + timedelta(hours=2), dates(), Taker())
        assert [(r.state, r.attempt) for r in again] == [("done", 2)]

    def test_what_nobody_expected_is_on_record_too(self, log):
        runs = run_due(
            scene(on_failure="skip"),
            log,
            utc(2026, 11, 1, 7),
            dates(),
            Taker(fails=OSError("disk")),
        )
        assert (runs[0].state, runs[0].is_final) == ("failed", True)
        assert runs[0].reason["en"] == "OSError: disk"

    def test_stop_waits_for_a_person(self, log):
        stopping = scene(on_failure="stop")
        run_due(stopping, log, utc(2026, 11, 1, 7), dates(), Taker(fails=UserError("bad")))
        assert run_due(stopping, log, utc(2026, 11, 2, 7), dates(), Taker()) == []
        assert scene_status(stopping, log, utc(2026, 11, 2, 7)).state == "stopped"
        with pytest.raises(UserError, match="who"):
            resume_scene(log, stopping, utc(2026, 11, 2, 7), who="", why="mended")
        resume_scene(log, stopping, utc(2026, 11, 2, 7), who="clerk", why="mended")
        assert run_due(stopping, log, utc(2026, 11, 2, 8), dates(), Taker())[-1].state == "done"
        assert [type(e).__name__ for e in log.entries()] == ["SceneRun", "Resumed", "SceneRun"]


class TestStatus:
    def test_the_last_good_count_with_its_date_and_how_late(self, log):
        daily = scene(on_failure="skip")
        run_due(daily, log, utc(2026, 11, 1, 7), dates(), Taker(120))
        run_due(daily, log, utc(2026, 11, 2, 7), dates(), Taker(fails=UserError("bad")))
        found = scene_status(daily, log, utc(2026, 11, 4, 8))
        assert (found.state, found.last_good.count) == ("late", 120)
        assert found.late_by == timedelta(days=2, hours=2)
        assert found.data_age_days == 4
        assert found.next_time == utc(2026, 11, 5, 6)
        assert found.said == "120 as of 2026-10-31, late by 2 days, 2:00:00: failed: bad"

    def test_good_waiting_and_expired(self, log):
        short = scene(valid_until=date(2026, 11, 1))
        assert scene_status(short, log, utc(2026, 10, 1)).state == "waiting"
        assert scene_status(short, log, utc(2026, 11, 1, 7)).state == "late"
        run_due(short, log, utc(2026, 11, 1, 7), dates(), Taker())
        assert scene_status(short, log, utc(2026, 11, 3)).state == "expired"
        longer = scene()
        assert scene_status(longer, log, utc(2026, 11, 1, 8)).state == "good"


class TestLog:
    def test_an_unfinished_line_is_not_read_and_is_replaced(self, log):
        run_due(scene(), log, utc(2026, 11, 1, 7), dates(), Taker())
        whole = log._path.read_bytes()
        log._path.write_bytes(whole + b'{"attempt":1,"base"')
        assert len(log.runs()) == 1
        run_due(scene(), log, utc(2026, 11, 2, 7), dates(), Taker())
        assert log._path.read_bytes().startswith(whole)
        assert [run.fire_time.day for run in log.runs()] == [1, 2]

    def test_a_damaged_line_is_named(self, log):
        for day in (1, 2):
            run_due(scene(), log, utc(2026, 11, day, 7), dates(), Taker())
        lines = log._path.read_bytes().split(b"\n")
        log._path.write_bytes(b"\n".join([b"{}", *lines[1:]]))
        with pytest.raises(DefectError, match="line 1"):
            log.runs()


@pytest.fixture
def folder(tmp_path):
    rows = pa.table({"customer_id": [f"C{i}" for i in range(200)], "arpu": list(range(200))})
    with Lake(tmp_path / "lake").publication(FixedClock(utc(2026, 11, 1))) as publication:
        publication.add("tag__customer__bill", scene_child.AS_OF, rows)
    return tmp_path


def child(folder: Path, moment: str, what: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(CHILD), str(folder), moment, what]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class TestProcesses:
    NOW = "2026-11-02T09:00:00+00:00"

    def test_four_processes_at_once_run_it_once(self, folder):
        started = [child(folder, self.NOW, "run") for _ in range(4)]
        found = sorted(int(process.communicate(timeout=60)[0]) for process in started)
        assert found == [0, 0, 0, 1]
        assert [run.state for run in SceneLog(folder / "monthly.jsonl").runs()] == ["done"]

    def test_without_the_lock_it_would_run_twice(self, folder, monkeypatch):
        """The defect: two runs that both looked before either wrote."""
        path = folder / "monthly.jsonl"
        first = scene_child.run(folder, datetime.fromisoformat(self.NOW))
        monkeypatch.setattr(log_module.SceneLog, "entries", lambda _: [])
        second = scene_child.run(folder, datetime.fromisoformat(self.NOW))
        monkeypatch.undo()
        assert len(first) == len(second) == 1
        times = [run.fire_time for run in SceneLog(path).runs()]
        assert len(times) != len(set(times))

    def test_killed_after_the_members_are_stored(self, folder):
        died = child(folder, self.NOW, "die")
        died.communicate(timeout=60)
        assert died.returncode == -9
        assert SceneLog(folder / "monthly.jsonl").runs() == []
        again = child(folder, self.NOW, "run")
        assert again.communicate(timeout=60)[0].strip() == "1"
        run = SceneLog(folder / "monthly.jsonl").runs()[0]
        assert isinstance(run, SceneRun)
        assert (run.state, run.count) == ("done", 150)
        stored = [t for t in Lake(folder / "lake").view().tables if t.startswith("audience__")]
        assert stored == [f"audience__{run.snapshot_id[:16]}"]
