"""The queue of the whole service, as its operators watch it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from bihuan.server.app.job.submit import state_counts
from bihuan.server.app.service import Service
from bihuan.server.control import Job


@dataclass(frozen=True, slots=True)
class Queue:
    """Where the jobs of all units stand.

    Parameters
    ----------
    states
        Jobs by state; every state is named.
    oldest_seconds
        For how long the oldest queued job has waited; 0 where none waits.
    """

    states: Mapping[str, int]
    oldest_seconds: float


def look_at_queue(service: Service) -> Queue:
    """Count the jobs of the whole service by state, and tell how long the oldest has waited."""
    with service.system_work(read_only=True) as work:
        oldest = work.session.scalars(
            sa.select(sa.func.min(Job.created_at)).where(Job.state == "queued")
        ).one_or_none()
        waited = 0.0 if oldest is None else (work.now - oldest).total_seconds()
        return Queue(state_counts(work), max(waited, 0.0))
