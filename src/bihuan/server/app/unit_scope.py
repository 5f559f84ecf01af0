"""Whether org units lie within what a unit of work may see."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from bihuan.server.app.errors import missing
from bihuan.server.control import OrgClosure, OrgUnit, UnitOfWork


def require_units(work: UnitOfWork, unit_ids: Iterable[str]) -> None:
    """Refuse units that are not in the scope's subtrees.

    Raises
    ------
    NotFoundError
        At the first that is outside or is not there; the two look the same.
    """
    wanted = set(unit_ids)
    if work.scope.roots is None:
        seen = set(
            work.session.scalars(sa.select(OrgUnit.unit_id).where(OrgUnit.unit_id.in_(wanted)))
        )
    else:
        statement = sa.select(OrgClosure.descendant_id).where(
            OrgClosure.ancestor_id.in_(sorted(work.scope.roots)),
            OrgClosure.descendant_id.in_(sorted(wanted)),
        )
        seen = set(work.session.scalars(statement))
    for unit in sorted(wanted - seen):
        raise missing("org unit", "组织单元", unit)


def below_units(work: UnitOfWork, unit_id: str, tier: str | None = None) -> list[str]:
    """Return the ids of a unit and all below it (of one tier), sorted; all must be in scope."""
    require_units(work, [unit_id])
    statement = (
        sa.select(OrgUnit.unit_id)
        .join(OrgClosure, OrgClosure.descendant_id == OrgUnit.unit_id)
        .where(OrgClosure.ancestor_id == unit_id)
    )
    if tier:
        statement = statement.where(OrgUnit.tier == tier)
    return sorted(work.session.scalars(statement))
