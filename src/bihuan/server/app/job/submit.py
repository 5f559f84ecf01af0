"""Jobs as people see them: submitted, looked at, cancelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from bihuan.kernel import canonical_json
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, OutOfScopeError, missing
from bihuan.server.app.job.kind import Kind, get_kind
from bihuan.server.control import JOB_STATES, Job, OrgClosure, UnitOfWork

FINISHED = ("succeeded", "failed", "cancelled")
SYSTEM = "system"


class DedupeError(ConflictError):
    """The dedupe key stands for a job of another kind or with other arguments."""


def submit(
    work: UnitOfWork,
    actor: Actor,
    kind: str,
    arguments: Mapping[str, Any],
    dedupe: str | None = None,
    *,
    unit_id: str | None = None,
) -> Job:
    """Submit a job in the caller's transaction: it exists if and only if that commits.

    Parameters
    ----------
    work
        The transaction.
    actor
        On whose behalf it runs; the permission of the kind is checked now and when it runs.
    kind, arguments
        See :func:`list_kinds`.
    dedupe
        Key, at most 160 characters, under which there is at most one job for ever.
    unit_id
        For which unit; None: the actor's home unit.

    Returns
    -------
    Job
        Queued; or the job that the dedupe key already stands for.

    Raises
    ------
    UnknownKindError, ArgumentsError
        If there is no such kind, or it does not take these arguments.
    PermissionDeniedError, OutOfScopeError
        If the actor may not do it, or not for this unit.
    DedupeError
        If the key stands for something else.
    """
    wanted = get_kind(kind)
    unit = unit_id or actor.home_unit_id
    require_reach(work, actor, wanted, unit)
    return put(work, wanted, arguments, owner_id=actor.account_id, unit_id=unit, dedupe=dedupe)


def put(  # noqa: PLR0913 - as for submit
    work: UnitOfWork,
    kind: Kind,
    arguments: Mapping[str, Any],
    *,
    owner_id: str,
    unit_id: str,
    dedupe: str | None = None,
    schedule_id: str | None = None,
) -> Job:
    """Write the row of a job whose owner was checked; see :func:`submit`."""
    plain = kind.read(arguments).model_dump(mode="json")
    job = Job(
        job_id=work.new_id("job"),
        kind=kind.name,
        unit_id=unit_id,
        arguments=plain,
        state="queued",
        owner_id=owner_id,
        schedule_id=schedule_id,
        dedupe=dedupe,
        progress={},
        log=[],
        attempts=0,
        epoch=0,
        cancel_requested=False,
        created_at=work.now,
    )
    found = _find_dedupe(work, dedupe)
    if found is None:
        try:
            with work.session.begin_nested():
                work.session.add(job)
        except IntegrityError:
            found = _find_dedupe(work, dedupe)
            if found is None:
                raise
    if found is None:
        work.audit("job.submit", "job", job.job_id, runs=kind.name, unit=unit_id)
        return job
    if (found.kind, found.unit_id) != (kind.name, unit_id) or _differ(found.arguments, plain):
        raise DedupeError(
            f"The key '{dedupe}' stands for another job.",
            remedy="Give another key, or submit exactly the same job.",
            zh=f"去重键 {dedupe} 已用于另一个作业，请更换。",
        )
    return found


def get_job(work: UnitOfWork, job_id: str) -> Job:
    """Return a job.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    job = work.session.get(Job, job_id, populate_existing=True)
    if job is None:
        raise missing("job", "作业", job_id)
    return job


def find_jobs(
    *, state: str | None = None, kind: str | None = None, schedule_id: str | None = None
) -> sa.Select[Job]:
    """Return the select of jobs in a state, of a kind, of a schedule; None: any."""
    statement = sa.select(Job)
    if state is not None:
        statement = statement.where(Job.state == state)
    if kind is not None:
        statement = statement.where(Job.kind == kind)
    if schedule_id is not None:
        statement = statement.where(Job.schedule_id == schedule_id)
    return statement


def cancel(work: UnitOfWork, actor: Actor, job_id: str) -> Job:
    """Cancel a job: at once while it waits, at its next step while it runs.

    Cancelling a cancelled job changes nothing.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    PermissionDeniedError
        If it is another's and the actor may not do what it does.
    ConflictError
        If it has already ended.
    """
    job = get_job(work, job_id)
    work.session.refresh(job, with_for_update=True)
    if job.owner_id != actor.account_id:
        require_reach(work, actor, get_kind(job.kind), job.unit_id)
    if job.state == "cancelled" or job.cancel_requested:
        return job
    if job.state in FINISHED:
        raise ConflictError(
            f"Job '{job_id}' has ended ({job.state}).",
            remedy="There is nothing left to cancel.",
            zh=f"作业 {job_id} 已结束，无法取消。",
        )
    job.cancel_requested = True
    if job.state == "queued":
        end(job, "cancelled", work)
    work.audit("job.cancel", "job", job_id, runs=job.kind)
    return job


def end(job: Job, state: str, work: UnitOfWork) -> None:
    """Put a job into a final state; its row is locked by the caller."""
    job.state, job.finished_at = state, work.now


def require_reach(work: UnitOfWork, actor: Actor, kind: Kind, unit_id: str) -> None:
    """Require that ``actor`` may do for ``unit_id`` what jobs of ``kind`` do.

    Raises
    ------
    PermissionDeniedError
        If no post grants it.
    OutOfScopeError
        If no post that grants it covers the unit.
    """
    roots = actor.scope(kind.permission).roots
    if roots is None:
        return
    statement = sa.select(OrgClosure.depth).where(
        OrgClosure.ancestor_id.in_(sorted(roots)), OrgClosure.descendant_id == unit_id
    )
    if work.session.scalars(statement.limit(1)).one_or_none() is None:
        raise OutOfScopeError(
            f"Org unit {unit_id} is outside what you may run '{kind.name}' for.",
            remedy="Choose a unit that your post covers, or ask a colleague whose post does.",
            zh=f"您无权为组织单元 {unit_id} 运行“{kind.title['zh']}”，请选择权限内的单元。",
        )


def state_counts(work: UnitOfWork) -> dict[str, int]:
    """Return how many jobs within reach are in each state."""
    statement = sa.select(Job.state, sa.func.count().label("jobs")).group_by(Job.state)
    found = {row.state: row.jobs for row in work.session.execute(statement)}
    return {state: found.get(state, 0) for state in JOB_STATES}


def _find_dedupe(work: UnitOfWork, dedupe: str | None) -> Job | None:
    if dedupe is None:
        return None
    with work.beyond("a key is one for all units"):
        return work.session.scalars(sa.select(Job).where(Job.dedupe == dedupe)).one_or_none()


def _differ(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return canonical_json(dict(one)) != canonical_json(dict(other))
