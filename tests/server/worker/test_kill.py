"""Workers are really killed and stopped: nothing is lost, nothing is done twice.

More rounds by BIHUAN_KILL_ROUNDS (default 1).
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import sqlalchemy as sa

from bihuan.kernel import random_stream
from bihuan.server.app import job as jobs
from bihuan.server.control import Control, Schedule, ScheduleFire, Scope, Worker

from .fleet import (
    Fleet,
    check_effects_once,
    check_not_repeated,
    effects,
    job_row,
    read_trace,
    seeing,
    submit,
    wait_ended,
    wait_until,
)

ROUNDS = int(os.environ.get("BIHUAN_KILL_ROUNDS", "1"))
FIRES = 6 if ROUNDS == 1 else 10 * ROUNDS
pytestmark = pytest.mark.slow


@pytest.fixture
def place(control: Control, database_url: str, tmp_path: Path, zygote) -> SimpleNamespace:
    return SimpleNamespace(
        control=control, url=database_url, workspace=tmp_path / "ws", folder=tmp_path,
        zygote=zygote,
    )  # fmt: skip


class TestKilledWorker:
    def test_another_takes_over_and_no_finished_step_is_done_again(self, place):
        steps, count = 4, 3 * ROUNDS  # long enough that a kill hits a running job
        rng = random_stream(7, "kill")
        with Fleet(place.zygote, place.url, place.workspace) as fleet:
            fleet.start()
            fleet.start()
            ids = [
                submit(place.control, "ledger", folder=str(place.folder), steps=steps, seconds=0.5)
                for _ in range(count)
            ]
            wait_until(lambda: len(read_trace(place.folder)) >= 2)
            for _ in range(2 if ROUNDS == 1 else 3 * ROUNDS):
                time.sleep(float(rng.uniform(0.05, 0.9)))
                fleet.kill(fleet.pids[int(rng.integers(len(fleet.pids)))])
                fleet.start()
            rows = wait_ended(place.control, *ids, seconds=90 + 10 * ROUNDS)
        assert [row.state for row in rows] == ["succeeded"] * count
        assert max(row.epoch for row in rows) > 1, "no kill hit a running job"
        check_effects_once(place.control, ids, steps)
        check_not_repeated(place.folder)
        with seeing(place.control) as work:
            dead = work.session.scalars(sa.select(Worker).where(Worker.state == "dead")).all()
        assert dead


class TestZombie:
    def stop_in_the_open(self, place, fleet: Fleet, pid: int) -> None:
        """Stop a process where it holds no lock: SQLite's would hold up everybody."""
        while True:
            fleet.signal(pid, signal.SIGSTOP)
            if place.url.startswith("postgresql") or self.is_free(place):
                return
            fleet.signal(pid, signal.SIGCONT)
            time.sleep(0.03)

    def is_free(self, place) -> bool:
        for file in (place.url.removeprefix("sqlite:///"), place.workspace / "jobs.db"):
            link = sqlite3.connect(file, timeout=0.3, isolation_level=None)
            try:
                link.execute("BEGIN EXCLUSIVE")
                link.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return False
            finally:
                link.close()
        return True

    def run(self, place, defect: str = "") -> tuple[str, Fleet]:
        with Fleet(place.zygote, place.url, place.workspace, defect=defect) as fleet:
            zombie = fleet.start()
            job = submit(place.control, "gate", folder=str(place.folder))
            wait_until(lambda: read_trace(place.folder))
            self.stop_in_the_open(place, fleet, zombie)
            heir = fleet.start()
            wait_until(lambda: len(read_trace(place.folder)) == 2)
            (place.folder / "open").touch()
            assert wait_ended(place.control, job)[0].result == {"epoch": 3}
            assert sum(effects(place.control).values()) == 1
            fleet.signal(zombie, signal.SIGCONT)
            if defect:
                wait_until(lambda: sum(effects(place.control).values()) > 1)
                return job, fleet
            wait_until(lambda: "is another's now" in fleet.log)
            fleet.kill(heir)
            after = submit(place.control, "ledger", folder=str(place.folder / "."), steps=1)
            wait_ended(place.control, after)  # the zombie has begun anew and works again
        return job, fleet

    def test_it_writes_nothing_and_then_begins_anew(self, place):
        job, fleet = self.run(place)
        assert job_row(place.control, job).result == {"epoch": 3}
        assert effects(place.control)[job, 0] == 1
        assert "was taken for dead; it begins anew" in fleet.log

    def test_without_a_fence_it_would_write(self, place):
        if place.url.startswith("postgresql") and ROUNDS == 1:
            pytest.skip("once is enough for a short run")
        job, _ = self.run(place, defect="no_fence")
        with pytest.raises(AssertionError):
            check_effects_once(place.control, [job], 1)


class TestSchedule:
    def test_three_workers_fire_each_second_once(self, place):
        with place.control.work(Scope.everything()) as work:
            now = jobs.database_now(work)
            schedule = Schedule(
                schedule_id="every-second",
                name="x",
                unit_id="province",
                kind="ledger",
                arguments={"folder": str(place.folder)},
                cron="* * * * * *",
                time_zone="Asia/Shanghai",
                missed="skip",
                enabled=True,
                owner_id="system",
                next_fire_at=now,
                created_at=now,
            )
            work.session.add(schedule)
        with Fleet(place.zygote, place.url, place.workspace) as fleet:
            for _ in range(3):
                fleet.start()
            fires = wait_until(lambda: self.fires(place, least=FIRES))
            ids = [fire.job_id for fire in fires]
            rows = wait_ended(place.control, *ids)
        times = np.array([fire.fire_at.timestamp() for fire in fires])
        assert set(np.diff(times)) == {1.0}, "a second was left out"
        assert len(set(ids)) == len(ids)
        assert {row.state for row in rows} == {"succeeded"}
        counted = effects(place.control)
        assert {counted[job, 0] for job in ids} == {1}

    def fires(self, place, least: int) -> list[ScheduleFire]:
        with seeing(place.control) as work:
            found = list(
                work.session.scalars(sa.select(ScheduleFire).order_by(ScheduleFire.fire_at))
            )
        return found if len(found) >= least else []


class TestGracefulStop:
    def test_a_stopped_worker_gives_its_job_back_where_it_stands(self, place):
        with Fleet(place.zygote, place.url, place.workspace) as fleet:
            first = fleet.start()
            job = submit(place.control, "ledger", folder=str(place.folder), steps=3, seconds=1.5)
            wait_until(lambda: len(read_trace(place.folder)) == 2)
            fleet.signal(first, signal.SIGTERM)  # half a second of grace, a step takes longer
            row = wait_until(lambda: (r := job_row(place.control, job)).state == "queued" and r)
            assert row.attempts == 0
            fleet.start()
            wait_ended(place.control, job)
        with seeing(place.control) as work:
            states = set(work.session.scalars(sa.select(Worker.state)))
        assert "stopped" in states
        check_effects_once(place.control, [job], 3)
        check_not_repeated(place.folder)
