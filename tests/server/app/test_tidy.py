"""What is past leaves the control database, and only that."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from bihuan.kernel import FixedClock
from bihuan.server.app.tidy import remove_past
from bihuan.server.control import (
    Control,
    Job,
    JobEffect,
    KeptReply,
    Schedule,
    ScheduleFire,
    Scope,
    SignIn,
    SignInGuard,
    Table,
    UnitOfWork,
)
from bihuan.server.settings import Settings

from .job_people import person

SETTINGS = Settings(keep_days=90, lockout_minutes=15)
KINDS = ("jobs", "fires", "sign_ins", "replies", "attempts")


def rows(work: UnitOfWork, table: type[Table]) -> int:
    statement = sa.select(sa.func.count()).select_from(table)
    return int(work.unscoped(statement, "a test counts").scalar_one())


def leave_traces(work: UnitOfWork, account_id: str, tag: str) -> None:
    """One row of every kind that is forgotten, as of now."""
    now = work.now
    common = {
        "kind": "retention", "unit_id": "city-a", "arguments": {}, "owner_id": account_id,
        "progress": {}, "log": [], "created_at": now,
    }  # fmt: skip
    work.session.add_all(
        [
            Job(job_id=f"done-{tag}", state="succeeded", finished_at=now, **common),
            Job(job_id=f"once-{tag}", state="failed", finished_at=now, dedupe=tag, **common),
            Job(job_id=f"waits-{tag}", state="queued", **common),
            SignIn(
                sign_in_id=f"signin-{tag}", account_id=account_id, token_hash=tag,
                method="password", started_at=now, seen_at=now,
                expires_at=now + timedelta(hours=12), idle_seconds=60,
            ),
            KeptReply(
                account_id=account_id, key=tag, request_hash="h", status=201, body={}, headers={},
                kept_at=now,
            ),
            SignInGuard(name_hash=tag, attempts=1, last_at=now),
        ]
    )  # fmt: skip
    work.session.flush()
    work.session.add(JobEffect(job_id=f"done-{tag}", name="x", epoch=1, result={}, done_at=now))
    work.session.add(ScheduleFire(schedule_id="daily", unit_id="city-a", fire_at=now, fired_at=now))


@pytest.fixture
def account_id(control: Control) -> str:
    found = person(control, "administrator", "city-a").account_id
    with control.work(Scope.everything()) as work:
        work.session.add(
            Schedule(
                schedule_id="daily", unit_id="city-a", name="daily", kind="retention",
                arguments={}, cron="0 1 * * *", owner_id=found, created_at=work.now,
            )
        )  # fmt: skip
    return found


def test_the_past_goes_and_the_present_stays(
    control: Control, clock: FixedClock, account_id: str
) -> None:
    with control.work(Scope.everything()) as work:
        leave_traces(work, account_id, "old")
    clock.advance(timedelta(days=92))
    with control.work(Scope.everything()) as work:
        leave_traces(work, account_id, "new")
    with control.work(Scope.everything()) as work:
        assert remove_past(work, SETTINGS) == dict.fromkeys(KINDS, 1)
    with control.work(Scope.everything()) as work:
        left = set(work.session.scalars(sa.select(Job.job_id)))
        assert left == {"done-new", "once-new", "once-old", "waits-new", "waits-old"}
        for table in (JobEffect, ScheduleFire, SignIn, KeptReply, SignInGuard):
            assert rows(work, table) == 1
        assert remove_past(work, SETTINGS) == dict.fromkeys(KINDS, 0)


def test_each_stays_until_its_time(control: Control, clock: FixedClock, account_id: str) -> None:
    with control.work(Scope.everything()) as work:
        leave_traces(work, account_id, "old")
    passed = 0
    for days, expected in ((1, {"attempts"}), (8, {"replies"}), (89, set()), (91, set(KINDS[:3]))):
        clock.advance(timedelta(days=days - passed))
        passed = days
        with control.work(Scope.everything()) as work:
            removed = remove_past(work, SETTINGS)
        assert {kind for kind, count in removed.items() if count} == expected
