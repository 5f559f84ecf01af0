"""Who runs what: workers come, beat, claim, and are buried when they fall silent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.job.kind import MAX_ATTEMPTS, find_kind
from bihuan.server.app.job.submit import end
from bihuan.server.control import Job, UnitOfWork, Worker

WHY = "workers and their jobs belong to no unit"
KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Claimed:
    """A job as it was when a worker claimed it.

    Parameters
    ----------
    job_id, kind, unit_id, owner_id, arguments
        As submitted.
    epoch
        Of this claim.
    attempts
        1 for the first.
    """

    job_id: str
    kind: str
    unit_id: str
    owner_id: str
    arguments: dict[str, Any]
    epoch: int
    attempts: int


def database_now(work: UnitOfWork) -> datetime:
    """Return the time of the database's server; of the given clock where there is no server.

    Several machines then agree when a schedule is due, whatever their own clocks say.
    """
    connection = work.session.connection()
    if connection.dialect.name == "postgresql":
        moment: datetime = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
        return moment
    return work.now


def register_worker(work: UnitOfWork, *, host: str, pid: int, threads: int) -> str:
    """Add a worker and return its id; workers that ended a week ago are forgotten."""
    now = work.now
    work.session.execute(
        sa.delete(Worker).where(Worker.state != "alive", Worker.heartbeat_at < now - KEPT)
    )
    worker = Worker(
        worker_id=work.new_id("worker"),
        state="alive",
        beat=0,
        host=host[:100],
        pid=pid,
        threads=threads,
        started_at=now,
        heartbeat_at=now,
    )
    work.session.add(worker)
    return worker.worker_id


def beat(work: UnitOfWork, worker_id: str) -> bool:
    """Say that a worker lives; False if it was buried meanwhile and must begin anew."""
    result: Any = work.session.execute(
        sa.update(Worker)
        .where(Worker.worker_id == worker_id, Worker.state == "alive")
        .values(beat=Worker.beat + 1, heartbeat_at=work.now)
        .execution_options(synchronize_session=False)
    )
    return bool(result.rowcount)


def living(work: UnitOfWork) -> dict[str, int]:
    """Return the beat of every worker that has not been buried."""
    rows = work.session.execute(
        sa.select(Worker.worker_id, Worker.beat).where(Worker.state == "alive")
    )
    return {row.worker_id: row.beat for row in rows}


def bury(work: UnitOfWork, worker_id: str, count: int) -> list[str]:
    """Take a silent worker's jobs away and put them back into the queue.

    Parameters
    ----------
    work
        The transaction.
    worker_id
        Who was silent for longer than the lease.
    count
        The beat that was seen all that time; if it has beaten since, nothing is done.

    Returns
    -------
    list of str
        The jobs; their epoch is raised, so nothing that the worker still writes counts.
    """
    result: Any = work.session.execute(
        sa.update(Worker)
        .where(Worker.worker_id == worker_id, Worker.state == "alive", Worker.beat == count)
        .values(state="dead", ended_at=work.now)
        .execution_options(synchronize_session=False)
    )
    if not result.rowcount:
        return []
    jobs = _running(work, worker_id)
    for job in jobs:
        _take_away(work, job)
    return [job.job_id for job in jobs]


def end_worker(work: UnitOfWork, worker_id: str) -> None:
    """Let a worker go that has stopped in good order; what it still holds is queued again."""
    for job in _running(work, worker_id):
        requeue(work, job)
    work.session.execute(
        sa.update(Worker)
        .where(Worker.worker_id == worker_id, Worker.state == "alive")
        .values(state="stopped", ended_at=work.now)
        .execution_options(synchronize_session=False)
    )


def requeue(work: UnitOfWork, job: Job) -> None:
    """Put a running job back into the queue; counts as no attempt."""
    if job.cancel_requested:
        end(job, "cancelled", work)
    else:
        job.state, job.worker_id = "queued", None
        job.attempts -= 1
    job.epoch += 1


def has_waiting(work: UnitOfWork, kinds: Sequence[str]) -> bool:
    """Tell whether a job of these kinds waits; reads only."""
    statement = sa.select(Job.job_id).where(Job.state == "queued", Job.kind.in_(kinds)).limit(1)
    return work.session.scalars(statement).one_or_none() is not None


def claim(work: UnitOfWork, worker_id: str, kinds: Sequence[str]) -> Claimed | None:
    """Claim the job that has waited longest; of several workers that try, one gets it.

    Parameters
    ----------
    work
        A transaction of the system.
    worker_id
        Who claims; a worker that was buried gets nothing.
    kinds
        What it can run.

    Returns
    -------
    Claimed | None
        None if nothing waits. The epoch is raised.
    """
    alive = sa.select(Worker.worker_id).where(
        Worker.worker_id == worker_id, Worker.state == "alive"
    )
    # the worker's own row is locked first: it cannot be buried until this claim is committed
    if work.session.scalars(alive.with_for_update()).one_or_none() is None:
        return None
    statement = (
        sa.select(Job)
        .where(Job.state == "queued", Job.kind.in_(kinds))
        .order_by(Job.job_id)
        .limit(1)
        .with_for_update(skip_locked=True)  # SQLite: the transaction holds the write lock
    )
    job = work.session.scalars(statement).one_or_none()
    if job is None:
        return None
    job.state, job.worker_id = "running", worker_id
    job.epoch += 1
    job.attempts += 1
    job.started_at = job.started_at or work.now
    return Claimed(
        job.job_id, job.kind, job.unit_id, job.owner_id, dict(job.arguments), job.epoch,
        job.attempts,
    )  # fmt: skip


def held_by(work: UnitOfWork, worker_id: str) -> dict[str, tuple[int, bool]]:
    """Return epoch and wish to cancel of every job that a worker holds."""
    rows = work.session.execute(
        sa.select(Job.job_id, Job.epoch, Job.cancel_requested).where(
            Job.worker_id == worker_id, Job.state == "running"
        )
    )
    return {job_id: (epoch, wished) for job_id, epoch, wished in rows}


def ended_among(work: UnitOfWork, job_ids: Sequence[str]) -> list[str]:
    """Return which of these jobs have ended or are gone."""
    open_ones: set[str] = set()
    for start in range(0, len(job_ids), 500):
        part = job_ids[start : start + 500]
        open_ones.update(
            work.session.scalars(
                sa.select(Job.job_id).where(
                    Job.job_id.in_(part), Job.state.in_(("queued", "running"))
                )
            )
        )
    return [job_id for job_id in job_ids if job_id not in open_ones]


def list_workers(work: UnitOfWork) -> list[Worker]:
    """Return the workers of the last days, those that live first."""
    rows = work.session.scalars(sa.select(Worker).order_by(Worker.worker_id.desc())).all()
    return sorted(rows, key=lambda worker: worker.state != "alive")


def _running(work: UnitOfWork, worker_id: str) -> Sequence[Job]:
    statement = (
        sa.select(Job)
        .where(Job.worker_id == worker_id, Job.state == "running")
        .order_by(Job.job_id)
        .with_for_update()
    )
    return work.session.scalars(statement).all()


def _take_away(work: UnitOfWork, job: Job) -> None:
    kind = find_kind(job.kind)
    most = MAX_ATTEMPTS if kind is None else kind.attempts
    job.epoch += 1
    if job.cancel_requested:
        end(job, "cancelled", work)
    elif job.attempts >= most:
        end(job, "failed", work)
        job.error = {
            "message": f"The worker died {job.attempts} times while it ran this job.",
            "remedy": "Look at the workers' logs (memory?), mend the cause, submit it again.",
            "zh": f"执行节点运行该作业时已 {job.attempts} 次异常退出，请检查日志后重新提交。",
        }
    else:
        job.state, job.worker_id = "queued", None
