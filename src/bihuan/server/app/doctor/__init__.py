"""What is wrong with a service, and what to do about it, in two languages.

In comes a service; out come findings about its control database, its workspace and what runs,
each with a remedy. Nothing is changed by looking.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import sqlalchemy as sa

from bihuan.kernel import BihuanError
from bihuan.server.app.doctor.data import look_at_disk, look_at_keys, look_at_lake, look_at_sealing
from bihuan.server.app.doctor.finding import Bounds, Finding
from bihuan.server.app.doctor.running import (
    look_at_demo_accounts,
    look_at_jobs,
    look_at_schedules,
    look_at_web,
    look_at_workers,
)
from bihuan.server.app.doctor.store import (
    look_at_form,
    look_at_guards,
    look_at_revision,
    look_at_row_security,
    look_at_sqlite,
    look_at_trail,
)
from bihuan.server.app.service import Service

CHECKS: dict[str, Callable[[Service, Bounds], Iterator[Finding]]] = {
    "control_database": look_at_revision,
    "control_form": look_at_form,
    "sqlite": look_at_sqlite,
    "row_security": look_at_row_security,
    "audit_guards": look_at_guards,
    "audit": look_at_trail,
    "keys": look_at_keys,
    "lake": look_at_lake,
    "personal_data": look_at_sealing,
    "disk": look_at_disk,
    "workers": look_at_workers,
    "jobs": look_at_jobs,
    "schedules": look_at_schedules,
    "web": look_at_web,
    "demo_accounts": look_at_demo_accounts,
}
"""What is looked at, in the order in which to mend."""

USUAL = Bounds()


def examine(service: Service, bounds: Bounds = USUAL) -> list[Finding]:
    """Look at everything that a service stands on.

    Parameters
    ----------
    service
        The service; it need not serve.
    bounds
        From where on something is wrong.

    Returns
    -------
    list of Finding
        In the order in which to mend; nothing raises, a check that fails is a finding.
    """
    return [finding for name in CHECKS for finding in _look(name, service, bounds)]


def is_ready(service: Service) -> bool:
    """Tell whether the control database has the right form and the lake can be read."""
    return all(
        finding.ok
        for name in ("control_database", "lake")
        for finding in _look(name, service, USUAL)
    )


def _look(name: str, service: Service, bounds: Bounds) -> list[Finding]:
    try:
        return list(CHECKS[name](service, bounds))
    except (BihuanError, sa.exc.SQLAlchemyError, OSError, ValueError) as error:
        return [
            Finding(
                name, False, f"检查失败：{error}", f"The check failed: {error}",
                "先排除该错误，再运行一次。", "Mend that error and run it again.",
            )
        ]  # fmt: skip


__all__ = ["examine", "is_ready", "Finding", "Bounds", "CHECKS"]
