"""Units: found, opened, renamed, moved with all below them, closed; every change on record."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.errors import ConflictError, OutOfScopeError, RefusedError, missing
from bihuan.server.app.unit_scope import in_scope, require_units
from bihuan.server.control import (
    PAIRS,
    TIERS,
    UNDER,
    Area,
    Crew,
    OrgChange,
    OrgClosure,
    OrgUnit,
    Outlet,
    Scoped,
    Staff,
    StaffPost,
    UnitOfWork,
    attach,
    below,
    closure_pairs,
    detach,
)

_TREE_LOCK = 0x6F7267  # PostgreSQL's advisory lock of whoever changes the tree's shape
_WHY = "pairs of units have no unit of their own; the units were checked against the scope"


class TierOrderError(RefusedError):
    """A unit of that tier may not stand there."""


class RingError(RefusedError):
    """The move would put a unit under itself."""


class NotEmptyError(ConflictError):
    """Something open still stands under the unit."""


@dataclass(frozen=True, slots=True)
class NewUnit:
    """A unit to be opened.

    Parameters
    ----------
    unit_id
        Fresh id; ids of closed units are not used again.
    parent_id, tier
        Where it stands.
    name_zh, name_en
        What it is called.
    city_code
        Of the city it lies in; None: the parent's.
    """

    unit_id: str
    parent_id: str
    tier: str
    name_zh: str
    name_en: str = ""
    city_code: str | None = None


def find_units(
    *, parent_id: str | None = None, tier: str | None = None, status: str | None = None
) -> sa.Select[OrgUnit]:
    """Return the select of units by parent, tier and status.

    A reader sees the units of its subtrees and, to know where it stands, those above them.
    """
    statement = sa.select(OrgUnit)
    if parent_id is not None:
        statement = statement.where(OrgUnit.parent_id == parent_id)
    if tier is not None:
        statement = statement.where(OrgUnit.tier == tier)
    if status is not None:
        statement = statement.where(OrgUnit.status == status)
    return statement


def find_subtree(unit_id: str) -> sa.Select[OrgUnit]:
    """Return the select of a unit and all below it."""
    return sa.select(OrgUnit).where(OrgUnit.unit_id.in_(below(frozenset((unit_id,)))))


def get_unit(work: UnitOfWork, unit_id: str) -> OrgUnit:
    """Return a unit.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    unit = work.session.scalars(sa.select(OrgUnit).where(OrgUnit.unit_id == unit_id)).one_or_none()
    if unit is None:
        raise missing("org unit", "组织单元", unit_id)
    return unit


def path_of(work: UnitOfWork, unit_id: str) -> list[OrgUnit]:
    """Return the units from the top down to ``unit_id``, it included, as far as in reach."""
    statement = (
        sa.select(OrgUnit)
        .join(OrgClosure, OrgClosure.ancestor_id == OrgUnit.unit_id)
        .where(OrgClosure.descendant_id == unit_id)
        .order_by(OrgClosure.depth.desc())
    )
    return list(work.session.scalars(statement))


def find_changes(unit_id: str | None = None) -> sa.Select[OrgChange]:
    """Return the select of what happened to units, or to one: opened, moved, closed, renamed."""
    statement = sa.select(OrgChange)
    return statement if unit_id is None else statement.where(OrgChange.unit_id == unit_id)


def managed_unit(work: UnitOfWork, unit_id: str) -> OrgUnit:
    """Return a unit that may be changed: one within the scope, not merely above it.

    Raises
    ------
    NotFoundError
        If there is none within the scope.
    """
    unit = get_unit(work, unit_id)
    require_units(work, [unit_id])
    return unit


def is_taken(work: UnitOfWork, column: Any, value: str) -> bool:
    """Tell whether any row, within the scope or not, has ``value`` in ``column``."""
    with work.beyond("ids are one for all"):
        return work.session.scalars(sa.select(column).where(column == value)).first() is not None


def open_unit(work: UnitOfWork, new: NewUnit) -> OrgUnit:
    """Open a unit under an active one.

    Raises
    ------
    NotFoundError
        If the parent is not within the scope.
    TierOrderError
        If the tier may not stand there.
    ConflictError
        If the id is taken or the parent closed.
    """
    lock_tree(work)
    parent = managed_unit(work, new.parent_id)
    check_place(new.tier, parent)
    if is_taken(work, OrgUnit.unit_id, new.unit_id):
        raise ConflictError(
            f"The unit id '{new.unit_id}' is taken.",
            remedy="Choose another one.",
            zh=f"组织编号 {new.unit_id} 已被占用，请换一个。",
        )
    unit = OrgUnit(
        unit_id=new.unit_id,
        parent_id=parent.unit_id,
        tier=new.tier,
        name_zh=new.name_zh,
        name_en=new.name_en,
        city_code=new.city_code or parent.city_code,
        status="active",
        origin="hand",
    )
    work.session.add(unit)
    work.session.flush()
    own = closure_pairs({unit.unit_id: None})
    work.unscoped(sa.insert(PAIRS).values(list(own)), _WHY)
    work.unscoped(attach(unit.unit_id, parent.unit_id), _WHY)
    record(work, unit, "opened", new_parent_id=parent.unit_id, new_name=unit.name_zh)
    return unit


def rename_unit(
    work: UnitOfWork, unit: OrgUnit, *, name_zh: str | None = None, name_en: str | None = None
) -> OrgUnit:
    """Give a unit other names; None leaves one as it is."""
    require_units(work, [unit.unit_id])
    old = unit.name_zh
    unit.name_zh = name_zh or unit.name_zh
    unit.name_en = unit.name_en if name_en is None else name_en
    record(work, unit, "renamed", old_name=old, new_name=unit.name_zh)
    return unit


def move_unit(work: UnitOfWork, unit: OrgUnit, parent_id: str) -> OrgUnit:
    """Put a unit, with all that stands below it, under another parent.

    Only the pairs of the moved subtree change. What is running is told by the record
    (:func:`find_changes`): it keeps the path it had or takes the new one, as its own rules say.

    Raises
    ------
    NotFoundError
        If the unit or its new parent is not within the scope.
    OutOfScopeError
        If its old parent is not.
    TierOrderError
        If its tier may not stand there.
    RingError
        If the new parent stands under the unit.
    """
    lock_tree(work)
    work.session.refresh(unit)
    require_units(work, [unit.unit_id])
    old_parent_id = unit.parent_id
    if old_parent_id is None:
        raise TierOrderError(
            f"'{unit.unit_id}' is the top of the tree and stands under nothing.",
            remedy="Move the units below it one by one.",
            zh=f"{unit.unit_id} 是组织树的顶级，不能移动，请逐个移动其下级。",
        )
    if not in_scope(work, old_parent_id):
        raise OutOfScopeError(
            f"'{unit.unit_id}' stands under '{old_parent_id}', which you do not manage.",
            remedy="Ask a colleague who manages both places to move it.",
            zh=f"{unit.unit_id} 的上级 {old_parent_id} 不在您的管理范围内，请联系上级管理员。",
        )
    parent = managed_unit(work, parent_id)
    if parent_id == old_parent_id:
        return unit
    if any(above.unit_id == unit.unit_id for above in path_of(work, parent_id)):
        raise RingError(
            f"'{parent_id}' stands under '{unit.unit_id}' or is it.",
            remedy="Move that one away first.",
            zh=f"{parent_id} 位于 {unit.unit_id} 之下（或就是它），会形成环，请先移走下级。",
        )
    check_place(unit.tier, parent)
    unit.parent_id = parent_id
    work.session.flush()
    work.unscoped(detach(unit.unit_id), _WHY)
    work.unscoped(attach(unit.unit_id, parent_id), _WHY)
    record(work, unit, "moved", old_parent_id=old_parent_id, new_parent_id=parent_id)
    return unit


def close_unit(work: UnitOfWork, unit: OrgUnit) -> OrgUnit:
    """Close a unit under which nothing open stands.

    Raises
    ------
    NotEmptyError
        With what still stands there, and how many.
    """
    lock_tree(work)
    require_units(work, [unit.unit_id])
    left = open_below(work, unit.unit_id)
    if left:
        zh = "、".join(f"{_KINDS_ZH[kind]} {count}" for kind, count in left.items())
        en = ", ".join(f"{count} {kind}" for kind, count in left.items())
        raise NotEmptyError(
            f"'{unit.unit_id}' cannot be closed: under it are {en}.",
            remedy="Move or close them first.",
            zh=f"{unit.unit_id} 下仍有：{zh}，请先移走或关闭。",
        )
    if unit.status == "active":
        unit.status = "closed"
        record(work, unit, "closed", old_parent_id=unit.parent_id)
    return unit


def reopen_unit(work: UnitOfWork, unit: OrgUnit) -> OrgUnit:
    """Open a closed unit again, where it stood.

    Raises
    ------
    ConflictError
        If the unit above it is closed.
    """
    lock_tree(work)
    require_units(work, [unit.unit_id])
    if unit.parent_id is not None:
        check_place(unit.tier, get_unit(work, unit.parent_id))
    if unit.status == "closed":
        unit.status = "active"
        record(work, unit, "reopened", new_parent_id=unit.parent_id)
    return unit


def open_below(work: UnitOfWork, unit_id: str) -> dict[str, int]:
    """Return how many open units, staff, posts, outlets, crews and areas stand at or below a unit.

    Returns
    -------
    dict of str to int
        By kind; kinds with none are left out. The unit itself does not count.
    """
    subtree = below(frozenset((unit_id,)))
    units = sa.select(sa.func.count()).select_from(OrgUnit)
    units = units.where(
        OrgUnit.unit_id.in_(subtree), OrgUnit.unit_id != unit_id, OrgUnit.status == "active"
    )
    found = {"units": work.session.scalar(units) or 0}
    closed: tuple[tuple[str, Any, str], ...] = (
        ("staff", Staff, "left"),
        ("posts", StaffPost, "ended"),
        ("outlets", Outlet, "closed"),
        ("crews", Crew, "closed"),
        ("areas", Area, "closed"),
    )
    for name, table, ended in closed:
        counted = sa.select(sa.func.count()).select_from(table)
        counted = counted.where(table.unit_id.in_(subtree), table.status != ended)
        found[name] = work.session.scalar(counted) or 0
    return {name: count for name, count in found.items() if count}


def check_place(tier: str, parent: OrgUnit) -> None:
    """Refuse a tier that may not stand under ``parent``, or a closed parent.

    Raises
    ------
    TierOrderError
        If the tier is unknown or stands elsewhere.
    ConflictError
        If the parent is closed.
    """
    if tier not in TIERS or parent.tier not in UNDER[tier]:
        allowed = ", ".join(UNDER.get(tier, ())) or "nothing"
        raise TierOrderError(
            f"A unit of tier '{tier}' stands under {allowed}; '{parent.unit_id}' is a"
            f" {parent.tier}.",
            remedy="Choose another parent or tier.",
            zh=f"层级 {tier} 的上级只能是 {allowed}，而 {parent.unit_id} 是 {parent.tier}。",
        )
    if parent.status != "active":
        raise ConflictError(
            f"'{parent.unit_id}' is closed.",
            remedy="Reopen it first or choose another parent.",
            zh=f"{parent.unit_id} 已关闭，请先恢复或另选上级。",
        )


def lock_tree(work: UnitOfWork) -> None:
    """Wait until nobody else changes the tree's shape; SQLite has one writer anyhow.

    Two moves at once could each be sound and together make a ring.
    """
    if work.session.connection().dialect.name == "postgresql":
        work.unscoped(sa.select(sa.func.pg_advisory_xact_lock(_TREE_LOCK)), "a lock, not rows")


def record(work: UnitOfWork, unit: Scoped | OrgUnit, kind: str, **detail: str | None) -> None:
    """Remember what happened to a unit, in the tree's history and in the audit trail."""
    work.session.flush()
    work.session.add(
        OrgChange(
            change_id=work.new_id("change"),
            unit_id=unit.unit_id,
            kind=kind,
            at=work.now,
            account_id=work.account_id,
            **detail,
        )
    )
    work.audit(f"org.{kind}", "org_unit", unit.unit_id, **detail)


_KINDS_ZH = {
    "units": "下级单元",
    "staff": "人员",
    "posts": "岗位",
    "outlets": "网点",
    "crews": "班组",
    "areas": "片区",
}
