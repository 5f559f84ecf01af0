"""Outlets, crews and areas: what a unit has on the ground."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.organisation.tree import is_taken, managed_unit
from bihuan.server.control import (
    Area,
    AreaUnit,
    Crew,
    CrewMember,
    OrgUnit,
    Outlet,
    Staff,
    UnitOfWork,
    below,
)

Place = Outlet | Crew | Area

_ACTIVE = "active"


@dataclass(frozen=True, slots=True)
class PlaceKind:
    """One kind of place: its table, key, kinds and states."""

    table: type[Any]
    key: str
    zh: str
    kinds: tuple[str, ...]
    states: tuple[str, ...]


PLACES: Mapping[str, PlaceKind] = {
    "outlet": PlaceKind(
        Outlet, "outlet_id", "网点", ("own", "franchised", "partner", "kiosk"),
        ("open", "refit", "closed"),
    ),
    "crew": PlaceKind(
        Crew, "crew_id", "班组", ("installation", "repair", "patrol"),
        ("on_duty", "off_duty", "closed"),
    ),
    "area": PlaceKind(
        Area, "area_id", "片区", ("residential", "business", "campus", "village", "industrial"),
        (_ACTIVE, "closed"),
    ),
}  # fmt: skip
"""Kinds and states are those of the lake's tables; ``closed`` ends a place."""


@dataclass(frozen=True, slots=True)
class NewPlace:
    """A place to be opened: ``place`` is outlet, crew or area."""

    place: str
    place_id: str
    unit_id: str
    kind: str
    name_zh: str
    name_en: str = ""


def find_places(place: str, *, unit_id: str | None = None) -> sa.Select[Any]:
    """Return the select of outlets, crews or areas; of one unit's subtree if it is given."""
    table = PLACES[place].table
    statement: sa.Select[Any] = sa.select(table)
    if unit_id is not None:
        statement = statement.where(table.unit_id.in_(below(frozenset((unit_id,)))))
    return statement


def get_place(work: UnitOfWork, place: str, place_id: str) -> Any:
    """Return an outlet, crew or area.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    kind = PLACES[place]
    key = getattr(kind.table, kind.key)
    found = work.session.scalars(sa.select(kind.table).where(key == place_id)).one_or_none()
    if found is None:
        raise missing(place, kind.zh, place_id)
    return found


def open_place(work: UnitOfWork, new: NewPlace) -> Any:
    """Open an outlet, crew or area at a unit.

    Raises
    ------
    NotFoundError
        If the unit is not within the scope.
    RefusedError
        If there is no such kind.
    ConflictError
        If the id is taken.
    """
    kind = PLACES[new.place]
    managed_unit(work, new.unit_id)
    _check(new.kind, kind.kinds, "kind", "类型")
    if is_taken(work, getattr(kind.table, kind.key), new.place_id):
        raise ConflictError(
            f"The {new.place} id '{new.place_id}' is taken.",
            remedy="Choose another one.",
            zh=f"{kind.zh}编号 {new.place_id} 已被占用，请换一个。",
        )
    row = kind.table(
        **{kind.key: new.place_id},
        unit_id=new.unit_id,
        kind=new.kind,
        name_zh=new.name_zh,
        name_en=new.name_en,
        status=kind.states[0],
    )
    work.session.add(row)
    work.session.flush()
    work.audit(f"org.open_{new.place}", new.place, new.place_id, unit=new.unit_id)
    return row


def change_place(work: UnitOfWork, place: str, row: Any, **wishes: str | None) -> Any:
    """Change an outlet, crew or area.

    Parameters
    ----------
    work
        The unit of work.
    place
        ``outlet``, ``crew`` or ``area``.
    row
        Which one.
    **wishes
        ``unit_id``, ``kind``, ``name_zh``, ``name_en``, ``status``; None leaves it.

    Raises
    ------
    NotFoundError
        If the new unit is not within the scope.
    RefusedError
        If there is no such kind or state.
    """
    kind = PLACES[place]
    wanted = {name: value for name, value in wishes.items() if value is not None}
    if "unit_id" in wanted:
        managed_unit(work, wanted["unit_id"])
    if "kind" in wanted:
        _check(wanted["kind"], kind.kinds, "kind", "类型")
    if "status" in wanted:
        _check(wanted["status"], kind.states, "state", "状态")
    for name, value in wanted.items():
        setattr(row, name, value)
    work.session.flush()
    work.audit(f"org.change_{place}", place, getattr(row, kind.key), **wanted)
    return row


def crew_members(work: UnitOfWork, crew: Crew) -> list[str]:
    """Return the ids of a crew's members that are within reach, in order."""
    statement = (
        sa.select(Staff.staff_id)
        .join(CrewMember, CrewMember.staff_id == Staff.staff_id)
        .where(CrewMember.crew_id == crew.crew_id)
        .order_by(Staff.staff_id)
    )
    return list(work.session.scalars(statement))


def set_crew_members(work: UnitOfWork, crew: Crew, staff_ids: Sequence[str]) -> list[str]:
    """Say who is in a crew.

    Raises
    ------
    NotFoundError
        If a person is not within reach.
    """
    wanted = sorted(set(staff_ids))
    seen = set(work.session.scalars(sa.select(Staff.staff_id).where(Staff.staff_id.in_(wanted))))
    for staff_id in wanted:
        if staff_id not in seen:
            raise missing("member of staff", "人员", staff_id)
    known = crew_members(work, crew)  # members out of reach stay as they are
    work.session.execute(
        sa.delete(CrewMember).where(
            CrewMember.crew_id == crew.crew_id, CrewMember.staff_id.in_(known)
        )
    )
    work.session.add_all([CrewMember(crew_id=crew.crew_id, staff_id=s) for s in wanted])
    work.session.flush()
    work.audit("org.crew_members", "crew", crew.crew_id, members=wanted)
    return wanted


def covered_units(work: UnitOfWork, area: Area) -> list[str]:
    """Return the units that an area covers and the caller sees, its own included, in order."""
    statement = (
        sa.select(OrgUnit.unit_id)
        .join(AreaUnit, AreaUnit.unit_id == OrgUnit.unit_id)
        .where(AreaUnit.area_id == area.area_id)
    )
    return sorted({area.unit_id, *work.session.scalars(statement)})


def set_covered_units(work: UnitOfWork, area: Area, unit_ids: Sequence[str]) -> list[str]:
    """Say which units an area covers besides its own.

    Raises
    ------
    NotFoundError
        If a unit is not within the scope.
    """
    wanted = sorted(set(unit_ids) - {area.unit_id})
    for unit_id in wanted:
        managed_unit(work, unit_id)
    known = covered_units(work, area)  # units out of reach stay covered
    work.session.execute(
        sa.delete(AreaUnit).where(AreaUnit.area_id == area.area_id, AreaUnit.unit_id.in_(known))
    )
    work.session.add_all([AreaUnit(area_id=area.area_id, unit_id=u) for u in wanted])
    work.session.flush()
    work.audit("org.area_units", "area", area.area_id, units=wanted)
    return covered_units(work, area)


def _check(value: str, allowed: tuple[str, ...], en: str, zh: str) -> None:
    if value not in allowed:
        raise RefusedError(
            f"There is no {en} '{value}'.",
            remedy=f"Choose one of: {', '.join(allowed)}.",
            zh=f"{zh} {value} 无效，可选：{'、'.join(allowed)}。",
        )
