"""Which org units lie within what a unit of work may change: the one place that is asked.

Reading keeps to the scope by itself. Here stand the questions that a use case asks about units
themselves: whether one is its own, and which are.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from bihuan.server.app.errors import missing
from bihuan.server.control import OrgClosure, OrgUnit, UnitOfWork


def units_in_scope(work: UnitOfWork, among: Iterable[str] | None = None) -> set[str]:
    """Return the units of the scope's subtrees.

    Parameters
    ----------
    work
        The unit of work.
    among
        Only those of these; None: all.
    """
    roots = work.scope.roots
    if roots is None:
        statement, unit_id = sa.select(OrgUnit.unit_id), OrgUnit.unit_id
    else:
        unit_id = OrgClosure.descendant_id
        statement = sa.select(unit_id).where(OrgClosure.ancestor_id.in_(sorted(roots)))
    if among is not None:
        statement = statement.where(unit_id.in_(sorted(set(among))))
    return set(work.session.scalars(statement))


def in_scope(work: UnitOfWork, unit_id: str | None) -> bool:
    """Tell whether a unit lies in the scope's subtrees.

    In the scope of all everything does, also what has no unit (None).
    """
    if work.scope.roots is None:
        return True
    return unit_id is not None and unit_id in units_in_scope(work, [unit_id])


def require_units(work: UnitOfWork, unit_ids: Iterable[str]) -> None:
    """Refuse units that are not in the scope's subtrees.

    Raises
    ------
    NotFoundError
        At the first that is outside or is not there; the two look the same.
    """
    wanted = set(unit_ids)
    for unit in sorted(wanted - units_in_scope(work, wanted)):
        raise missing("org unit", "组织单元", unit)


def own_units_below(work: UnitOfWork, unit_id: str) -> list[str]:
    """Return the ids of a unit and all below it, sorted; all must be in scope."""
    require_units(work, [unit_id])
    return units_below(work, unit_id)


def units_below(work: UnitOfWork, unit_id: str) -> list[str]:
    """Return the ids of a unit and all below it, sorted, wherever it stands."""
    return sorted(
        work.session.scalars(
            sa.select(OrgClosure.descendant_id).where(OrgClosure.ancestor_id == unit_id)
        )
    )
