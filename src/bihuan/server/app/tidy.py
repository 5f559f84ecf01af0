"""What nobody needs any more leaves the control database; nothing that the audit trail tells."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.job import FINISHED
from bihuan.server.app.service import UnitOfWork
from bihuan.server.app.sign_in import forget_old_attempts
from bihuan.server.control import Job, KeptReply, ScheduleFire, SignIn
from bihuan.server.settings import Settings

REPLY_DAYS = 7
"""A client that has not repeated a request by then will not."""


def remove_past(work: UnitOfWork, settings: Settings) -> Mapping[str, int]:
    """Delete what is past its time; running it again deletes nothing more.

    Parameters
    ----------
    work
        A unit of work of the system.
    settings
        ``keep_days``: for how long finished jobs, fire times and ended sign-ins stay.

    Returns
    -------
    Mapping[str, int]
        Rows deleted, by kind: ``jobs``, ``fires``, ``sign_ins``, ``replies``, ``attempts``.
    """
    since = work.now - timedelta(days=settings.keep_days)
    past: dict[str, sa.Delete] = {
        "jobs": sa.delete(Job).where(
            Job.state.in_(FINISHED),
            Job.finished_at < since,
            Job.dedupe.is_(None),  # its key says "once for ever", and the row is what says so
        ),
        "fires": sa.delete(ScheduleFire).where(ScheduleFire.fire_at < since),
        "sign_ins": sa.delete(SignIn).where(
            sa.or_(SignIn.ended_at < since, SignIn.expires_at < since)
        ),
        "replies": sa.delete(KeptReply).where(
            KeptReply.kept_at < work.now - timedelta(days=REPLY_DAYS)
        ),
    }
    removed = {}
    for kind, statement in past.items():
        result: Any = work.session.execute(statement.execution_options(synchronize_session=False))
        removed[kind] = int(result.rowcount)
    return {**removed, "attempts": forget_old_attempts(work, settings)}
