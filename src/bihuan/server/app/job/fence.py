"""The fence: what a worker writes counts only while the job is its."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from bihuan.kernel import Cancelled
from bihuan.server.control import Job, JobEffect, UnitOfWork

MINIMUM_IDLE_SECONDS = 60
"""An effect may think for so long between two statements, however short the lease."""
WHY = "the running job's own row, whoever owns it"


class StaleWorkerError(Cancelled):
    """The job is no longer this worker's: another may be at it, so nothing may be written."""


class ReleasedError(Cancelled):
    """The worker stops; the job goes back to the queue and is taken up where it stands."""


def stale(job_id: str) -> StaleWorkerError:
    """Return the error for a write that came too late."""
    return StaleWorkerError(
        f"Job '{job_id}' is no longer this worker's; what it wrote was refused.",
        remedy="Nothing is to be done: the worker that has the job now goes on with it.",
        zh=f"作业 {job_id} 已由其他执行节点接手，本节点的写入已拒绝，无需处理。",
    )


@dataclass(frozen=True, slots=True)
class Fence:
    """The claim that a worker holds on a job.

    Parameters
    ----------
    job_id, worker_id
        Who holds what.
    epoch
        Of the claim; the job's own rises when it is taken away.
    lease_seconds
        How long a silent worker keeps its jobs.
    """

    job_id: str
    worker_id: str
    epoch: int
    lease_seconds: float

    def check(self, work: UnitOfWork) -> Job:
        """Lock the job's row and return it, if the claim still holds.

        The lock stays until the transaction ends, so the job cannot be taken away between the
        check and the commit. PostgreSQL ends the session of a holder that falls silent inside
        its transaction, so a stopped process cannot keep the lock.

        Raises
        ------
        StaleWorkerError
            If the job was taken away, has ended, or is gone.
        """
        _end_if_silent(work, self.lease_seconds)
        statement = (
            sa.select(Job)
            .where(Job.job_id == self.job_id)
            .with_for_update()
            .execution_options(populate_existing=True)
        )
        job: Job | None = work.unscoped(statement, WHY).scalar_one_or_none()
        if (
            job is None
            or job.state != "running"
            or job.epoch != self.epoch
            or job.worker_id != self.worker_id
        ):
            raise stale(self.job_id)
        return job

    def once(
        self, work: UnitOfWork, name: str, effect: Callable[[UnitOfWork], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Do an effect on the control database once in the life of the job.

        Parameters
        ----------
        work
            The transaction in which it is done, checked and remembered: all or nothing.
        name
            Of the effect within the job, at most 64 characters.
        effect
            Does it; returns plain JSON.

        Returns
        -------
        dict
            What the effect returned, now or when it was done.

        Raises
        ------
        StaleWorkerError
            If the job is no longer this worker's.
        """
        self.check(work)
        done: JobEffect | None = work.unscoped(
            sa.select(JobEffect).where(JobEffect.job_id == self.job_id, JobEffect.name == name),
            WHY,
        ).scalar_one_or_none()
        if done is not None:
            return dict(done.result)
        result = dict(effect(work))
        work.session.add(
            JobEffect(
                job_id=self.job_id, name=name, epoch=self.epoch, result=result, done_at=work.now
            )
        )
        work.session.flush()
        return result


def _end_if_silent(work: UnitOfWork, seconds: float) -> None:
    connection = work.session.connection()
    if connection.dialect.name == "postgresql":
        connection.execute(
            sa.text("SELECT set_config('idle_in_transaction_session_timeout', :ms, true)"),
            {"ms": str(int(max(3 * seconds, MINIMUM_IDLE_SECONDS) * 1000))},
        )
