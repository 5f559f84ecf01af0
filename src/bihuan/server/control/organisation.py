"""The org tree: who stands above whom."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Scoped, Table, Versioned

TIERS = ("province", "city", "county", "line", "grid", "ceo", "seller")
"""From the top of the territory to the single seller."""

UNDER: Mapping[str, tuple[str, ...]] = {
    "province": (),
    "city": ("province",),
    "county": ("city",),
    "line": ("province", "city", "county"),
    "grid": ("city", "county", "line"),
    "ceo": ("grid", "line"),
    "seller": ("ceo", "grid", "line"),
}
"""Tiers under which a unit of a tier may stand. A professional line serves the tier above it; a
grid stands under its county or under a line of it."""


class OrgUnit(Versioned, Table):
    """A unit of the territory tree."""

    __tablename__ = "org_unit"

    unit_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(ForeignKey("org_unit.unit_id"), index=True)
    tier: Mapped[str] = mapped_column(String(16))
    name_zh: Mapped[str] = mapped_column(String(100))
    name_en: Mapped[str] = mapped_column(String(100), default="")
    city_code: Mapped[str | None] = mapped_column(String(16))
    status: Mapped[str] = mapped_column(String(16), default="active")
    origin: Mapped[str] = mapped_column(String(8), default="hand")


class OrgClosure(Table):
    """Every pair of a unit and a unit at or above it; ``depth`` 0 is the unit itself.

    A subtree is one indexed look-up in either database, and a move changes only the pairs of
    the moved subtree.
    """

    __tablename__ = "org_closure"

    ancestor_id: Mapped[str] = mapped_column(
        ForeignKey("org_unit.unit_id", ondelete="CASCADE"), primary_key=True
    )
    descendant_id: Mapped[str] = mapped_column(
        ForeignKey("org_unit.unit_id", ondelete="CASCADE"), primary_key=True
    )
    depth: Mapped[int]

    __table_args__ = (Index("ix_org_closure_descendant", "descendant_id", "depth"),)


PAIRS = cast("sa.Table", OrgClosure.__table__)
"""The pairs as a plain table, for statements on many rows."""


class OrgChange(Scoped, Table):
    """What happened to a unit, so that running approvals and reports can react.

    ``kind`` is opened, renamed, moved, closed or reopened; parents are None where they did not
    change.
    """

    __tablename__ = "org_change"

    change_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    at: Mapped[datetime]
    account_id: Mapped[str] = mapped_column(String(64))
    old_parent_id: Mapped[str | None] = mapped_column(String(64))
    new_parent_id: Mapped[str | None] = mapped_column(String(64))
    old_name: Mapped[str | None] = mapped_column(String(100))
    new_name: Mapped[str | None] = mapped_column(String(100))


class OrgImport(Scoped, Table):
    """One import of units and people: what it changed, and what it could not take."""

    __tablename__ = "org_import"

    import_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    source: Mapped[str] = mapped_column(String(100))
    at: Mapped[datetime]
    account_id: Mapped[str] = mapped_column(String(64))
    counts: Mapped[dict[str, Any]]
    replay_of: Mapped[str | None] = mapped_column(ForeignKey("org_import.import_id"))


class OrgImportRow(Table):
    """A row that an import could not take: the row as given, and why."""

    __tablename__ = "org_import_row"

    row_id: Mapped[str] = mapped_column(String(80), primary_key=True)
    import_id: Mapped[str] = mapped_column(
        ForeignKey("org_import.import_id", ondelete="CASCADE"), index=True
    )
    row: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    subject_id: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(String(32))
    detail: Mapped[str] = mapped_column(String(400))
    given: Mapped[dict[str, Any]]
    replayed_in: Mapped[str | None] = mapped_column(String(64))


class Outlet(Versioned, Scoped, Table):
    """A hall or another place where customers are served."""

    __tablename__ = "outlet"

    outlet_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    name_zh: Mapped[str] = mapped_column(String(100))
    name_en: Mapped[str] = mapped_column(String(100), default="")
    status: Mapped[str] = mapped_column(String(16), default="open")


class Crew(Versioned, Scoped, Table):
    """A team that installs, repairs or patrols; its members are staff."""

    __tablename__ = "crew"

    crew_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    name_zh: Mapped[str] = mapped_column(String(100))
    name_en: Mapped[str] = mapped_column(String(100), default="")
    is_external: Mapped[bool] = mapped_column(default=False)
    status: Mapped[str] = mapped_column(String(16), default="on_duty")


class CrewMember(Table):
    """A person in a crew."""

    __tablename__ = "crew_member"

    crew_id: Mapped[str] = mapped_column(
        ForeignKey("crew.crew_id", ondelete="CASCADE"), primary_key=True
    )
    staff_id: Mapped[str] = mapped_column(ForeignKey("staff.staff_id"), primary_key=True)


class Area(Versioned, Scoped, Table):
    """An estate, building, campus or village; it may reach over several units."""

    __tablename__ = "area"

    area_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    name_zh: Mapped[str] = mapped_column(String(100))
    name_en: Mapped[str] = mapped_column(String(100), default="")
    status: Mapped[str] = mapped_column(String(16), default="active")


class AreaUnit(Table):
    """A unit that an area covers besides its own."""

    __tablename__ = "area_unit"

    area_id: Mapped[str] = mapped_column(
        ForeignKey("area.area_id", ondelete="CASCADE"), primary_key=True
    )
    unit_id: Mapped[str] = mapped_column(ForeignKey("org_unit.unit_id"), primary_key=True)


def closure_pairs(
    parents: Mapping[str, str | None], units: Iterable[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of :class:`OrgClosure` for ``units``, from who stands under whom.

    Parameters
    ----------
    parents
        Parent of every unit, None at the top; no rings.
    units
        Units whose pairs with those above are wanted; None: all.
    """
    for unit in parents if units is None else units:
        above: str | None = unit
        depth = 0
        while above is not None:
            yield {"ancestor_id": above, "descendant_id": unit, "depth": depth}
            above, depth = parents[above], depth + 1


def detach(unit_id: str) -> sa.Delete:
    """Return the statement that takes a subtree's pairs with the units above it away."""
    pair = PAIRS
    subtree = sa.select(pair.c.descendant_id).where(pair.c.ancestor_id == unit_id)
    above = sa.select(pair.c.ancestor_id).where(
        pair.c.descendant_id == unit_id, pair.c.ancestor_id != unit_id
    )
    # the inner tables are copies: a delete may not correlate with what it deletes from
    return sa.delete(pair).where(
        pair.c.descendant_id.in_(sa.select(subtree.subquery().c.descendant_id)),
        pair.c.ancestor_id.in_(sa.select(above.subquery().c.ancestor_id)),
    )


def attach(unit_id: str, parent_id: str) -> sa.Insert:
    """Return the statement that pairs a subtree with its new parent and all above that."""
    pair = PAIRS
    upper, lower = pair.alias("upper"), pair.alias("lower")
    every = sa.and_(upper.c.descendant_id == parent_id, lower.c.ancestor_id == unit_id)
    rows = sa.select(
        upper.c.ancestor_id, lower.c.descendant_id, upper.c.depth + lower.c.depth + 1
    ).select_from(upper.join(lower, every))
    return sa.insert(pair).from_select(["ancestor_id", "descendant_id", "depth"], rows)
