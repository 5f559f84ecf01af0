"""Data scope: the org subtrees that a unit of work may see, compiled into its every query."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.orm import ORMExecuteState, Session, UOWTransaction, with_loader_criteria
from sqlalchemy.sql import visitors

from bihuan.kernel import DefectError, UserError
from bihuan.server.control.base import Homed, Scoped, Shared, Table
from bihuan.server.control.organisation import OrgClosure, OrgUnit

UNSCOPED = "bihuan_unscoped"
"""Execution option naming why a statement may pass the scope by (a table without units)."""
BEYOND = "beyond"
"""Key of a session's ``info`` while its reads pass the scope by: why they may."""


class OutOfScopeError(UserError):
    """The change touches an org unit outside the caller's subtrees."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What a unit of work may see and change.

    Parameters
    ----------
    roots
        Units whose subtrees are in scope. None: everything (the system itself, migrations).
    """

    roots: frozenset[str] | None = field(default_factory=frozenset)

    @staticmethod
    def everything() -> Scope:
        """Return the scope of the system itself."""
        return Scope(None)

    def text(self) -> str:
        """Return the scope as PostgreSQL's row security reads it: ``*`` or ids with commas."""
        return "*" if self.roots is None else ",".join(sorted(self.roots))


def below(roots: frozenset[str]) -> sa.Select[tuple[str]]:
    """Return the ids of ``roots`` and every unit below them."""
    return sa.select(OrgClosure.__table__.c.descendant_id).where(
        OrgClosure.__table__.c.ancestor_id.in_(sorted(roots))
    )


def above(roots: frozenset[str]) -> sa.Select[tuple[str]]:
    """Return the ids of ``roots`` and every unit above them."""
    return sa.select(OrgClosure.__table__.c.ancestor_id).where(
        OrgClosure.__table__.c.descendant_id.in_(sorted(roots))
    )


def readable(
    table: type[Table], roots: frozenset[str], *, is_wide: bool = False
) -> sa.ColumnElement[bool]:
    """Return the condition under which a row of ``table`` may be seen from ``roots``.

    Units themselves are also seen upwards, so that everybody knows where they stand.

    Parameters
    ----------
    table
        A mapped table whose rows belong to units.
    roots
        Units whose subtrees may be seen.
    is_wide
        Ask of each row whether its unit lies below, instead of gathering what lies below first.
        The same rows either way; the faster one for subtrees of many units.
    """
    unit_id: Any = getattr(table, "unit_id", None)
    if unit_id is None:
        msg = f"{table.__name__} has no org unit"
        raise DefectError(msg)
    own = _lies_below(unit_id, roots) if is_wide else unit_id.in_(below(roots))
    if issubclass(table, OrgUnit):
        return sa.or_(own, unit_id.in_(above(roots)))
    if issubclass(table, Shared):
        return sa.or_(
            own,
            table.sharing == "all",
            sa.and_(table.sharing == "down", unit_id.in_(above(roots))),
        )
    return own


def _lies_below(unit_id: Any, roots: frozenset[str]) -> sa.ColumnElement[bool]:
    pairs = OrgClosure.__table__.alias().c  # by a name of its own: the query may have it too
    return sa.exists().where(pairs.ancestor_id.in_(sorted(roots)), pairs.descendant_id == unit_id)


def scoped_tables() -> list[type[Table]]:
    """Return every mapped table whose rows belong to units, in order of name."""
    return _tables_of(Scoped, OrgUnit)


def _tables_of(*kinds: type) -> list[type[Table]]:
    mapped: list[type[Table]] = [mapper.class_ for mapper in Table.registry.mappers]
    found = [table for table in mapped if issubclass(table, kinds)]
    return sorted(found, key=lambda table: str(table.__tablename__))


class ScopedSession(Session):
    """A session whose every query and write keeps to the scope in ``info["scope"]``.

    Sessions that share ``info["widths"]``, a dict, ask only once how wide a scope is.
    """


@lru_cache(maxsize=4096)
def _criteria(roots: frozenset[str], is_wide: bool) -> Mapping[str, Any]:
    return {
        str(table.__tablename__): with_loader_criteria(
            table, readable(table, roots, is_wide=is_wide), include_aliases=True
        )
        for table in _tables_of(Scoped, Homed, OrgUnit)
    }


_WIDE = 500
"""Units below; from about here on a subtree costs more to gather than rows to ask one by one."""
_WIDTH_SECONDS = 600.0


def _is_wide(session: Session, roots: frozenset[str]) -> bool:
    """Tell whether many units lie below ``roots``: a matter of speed alone, so it may be old."""
    known: dict[frozenset[str], tuple[bool, float]] = session.info.setdefault("widths", {})
    now = time.monotonic()
    found, until = known.get(roots, (False, 0.0))
    if now >= until:
        with session.no_autoflush:
            some = below(roots).limit(_WIDE).subquery()
            counted = session.connection().scalar(sa.select(sa.func.count()).select_from(some))
        found = counted == _WIDE
        known[roots] = (found, now + _WIDTH_SECONDS)
    return found


@event.listens_for(ScopedSession, "do_orm_execute")
def _narrow(state: ORMExecuteState) -> None:
    if UNSCOPED in state.execution_options or BEYOND in state.session.info:
        return
    if state.is_column_load or state.is_relationship_load:
        return  # related rows carry the criteria of the query that began
    if not state.is_orm_statement:
        msg = f"a statement past the ORM needs the option {UNSCOPED!r}: {state.statement}"
        raise DefectError(msg)
    scope: Scope = state.session.info["scope"]
    if scope.roots is None or not (state.is_select or state.is_update or state.is_delete):
        return
    # only the tables that occur, at any depth: each criterion costs, and there are many tables
    statement: Any = state.statement
    named = {found.name for found in visitors.iterate(statement) if isinstance(found, sa.Table)}
    criteria = _criteria(scope.roots, _is_wide(state.session, scope.roots))
    wanted = [criteria[name] for name in sorted(named & criteria.keys())]
    state.statement = statement.options(*wanted)


@event.listens_for(ScopedSession, "before_flush")
def _check_writes(session: Session, flush: UOWTransaction, instances: object) -> None:
    scope: Scope = session.info["scope"]
    if scope.roots is None:
        return
    touched = [*session.new, *session.dirty, *session.deleted]
    units: set[str] = set()
    for row in touched:
        if isinstance(row, (Scoped, OrgUnit)):
            history = sa.inspect(row).attrs.unit_id.history
            units.update(u for u in (row.unit_id, *history.deleted) if u)
            if isinstance(row, OrgUnit) and row in session.new and row.parent_id:
                units = (units - {row.unit_id}) | {row.parent_id}
    if not units:
        return
    with session.no_autoflush:
        seen = set(
            session.connection().scalars(
                below(scope.roots).where(OrgClosure.__table__.c.descendant_id.in_(units))
            )
        )
    if units - seen:
        outside = ", ".join(sorted(units - seen))
        raise OutOfScopeError(
            f"Org unit {outside} is outside what you may change.",
            remedy="Ask a colleague whose post covers it.",
            zh=f"组织单元 {outside} 不在您的权限范围内，请联系有权限的同事。",
        )
