"""Who stands above a unit and who may approve there, also where the caller cannot see it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TypeVar
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from bihuan.server.app.permission import granting
from bihuan.server.control import (
    Account,
    OrgClosure,
    OrgUnit,
    StaffPost,
    Table,
    UnitOfWork,
)

R = TypeVar("R", bound=Table)
ZONE = ZoneInfo("Asia/Shanghai")
"""Where days begin and end for plans: validity, periods, regular times."""


def today(work: UnitOfWork) -> date:
    """Return the present day where the plans are carried out."""
    return work.now.astimezone(ZONE).date()


def find_row(work: UnitOfWork, table: type[R], key: str) -> R | None:
    """Return the row of ``table`` with primary key ``key`` that the scope shows, or None.

    Asks the database each time: what was read by ``work.beyond`` is in the session too.
    """
    column = sa.inspect(table).primary_key[0]
    return work.session.scalars(sa.select(table).where(column == key)).one_or_none()


def path_to_top(work: UnitOfWork, unit_id: str) -> tuple[OrgUnit, ...]:
    """Return the unit and every unit above it, from the unit up."""
    with work.beyond("everybody stands under the same tree"):
        statement = (
            sa.select(OrgUnit)
            .join(OrgClosure, OrgClosure.ancestor_id == OrgUnit.unit_id)
            .where(OrgClosure.descendant_id == unit_id)
            .order_by(OrgClosure.depth)
        )
        return tuple(work.session.scalars(statement).all())


def approvers_at(work: UnitOfWork, unit_ids: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return the accounts that hold a post granting approval exactly at each unit.

    Parameters
    ----------
    work
        The unit of work.
    unit_ids
        Units; a unit without approvers has an empty set.
    """
    found: dict[str, set[str]] = {unit: set() for unit in unit_ids}
    with work.beyond("a planner is approved from above"):
        statement = (
            sa.select(StaffPost.unit_id, Account.account_id)
            .join(Account, Account.staff_id == StaffPost.staff_id)
            .where(
                StaffPost.unit_id.in_(list(unit_ids)),
                StaffPost.role.in_(sorted(granting("plan.approve"))),
                StaffPost.status == "active",
                Account.status == "active",
            )
        )
        for unit, account in work.session.execute(statement):
            found[unit].add(account)
    return {unit: frozenset(accounts) for unit, accounts in found.items()}


def is_above(work: UnitOfWork, upper: str, lower: str) -> bool:
    """Whether ``lower`` is ``upper`` or stands below it."""
    statement = sa.select(OrgClosure).where(
        OrgClosure.ancestor_id == upper, OrgClosure.descendant_id == lower
    )
    return work.session.scalars(statement).first() is not None
