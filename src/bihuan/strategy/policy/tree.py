"""The tree of an operator's org units, from the province down to the seller."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from bihuan.data import LakeView
from bihuan.kernel import UserError

TIERS = ("province", "city", "county", "line", "grid", "ceo", "seller")
"""Tiers from the top down; a unit never stands under one of a lower tier."""


class OrgTreeError(UserError):
    """The org units do not form a tree."""


class UnknownUnitError(UserError):
    """No org unit has that id."""


@dataclass(frozen=True, slots=True)
class OrgUnit:
    """A unit of the organisation.

    Parameters
    ----------
    unit_id
        Org unit id.
    tier
        One of :data:`TIERS`.
    parent_id
        The unit above; None at the top.
    title
        Name by language.
    """

    unit_id: str
    tier: str
    parent_id: str | None
    title: Mapping[str, str]


class OrgTree:
    """Org units by id, with the ways up and down.

    A tree may have several tops (an operator that gives only its grids). Reading a path or a
    subtree costs no search: units are kept in depth-first order.

    Parameters
    ----------
    units
        Each id once.

    Raises
    ------
    OrgTreeError
        If an id stands twice, a parent is unknown, units form a ring, or a unit stands under one
        of a lower tier; the message names the units.

    Examples
    --------
    >>> tree = OrgTree([
    ...     OrgUnit("p", "province", None, {}), OrgUnit("c", "city", "p", {}),
    ...     OrgUnit("g", "grid", "c", {}),
    ... ])
    >>> tree.path("g"), tree.subtree("c"), tree.ancestor("g", "city")
    (('p', 'c', 'g'), ('c', 'g'), 'c')
    """

    def __init__(self, units: Iterable[OrgUnit]) -> None:
        self._units: dict[str, OrgUnit] = {}
        for unit in units:
            if unit.unit_id in self._units:
                raise _refuse(
                    f"Org unit '{unit.unit_id}' stands twice.", f"组织单元 {unit.unit_id} 重复。"
                )
            self._units[unit.unit_id] = unit
        self._children: dict[str, list[str]] = {unit_id: [] for unit_id in self._units}
        self._check()
        self.roots = tuple(u.unit_id for u in self._units.values() if u.parent_id is None)
        self._paths: dict[str, tuple[str, ...]] = {}
        self._order: list[str] = []
        self._span: dict[str, tuple[int, int]] = {}
        self._walk()

    @classmethod
    def from_table(cls, table: pa.Table) -> OrgTree:
        """Build the tree from rows of the lake table ``org_unit``.

        Parameters
        ----------
        table
            Columns ``org_unit_id``, ``tier``, and where there are ``parent_id``, ``name_zh``,
            ``name_en``. A name that is missing is the id.
        """
        none = [None] * table.num_rows
        columns = [
            table[name].to_pylist() if name in table.column_names else none
            for name in ("org_unit_id", "tier", "parent_id", "name_zh", "name_en")
        ]
        return cls(
            OrgUnit(unit_id, tier, parent_id or None, {"zh": zh or unit_id, "en": en or unit_id})
            for unit_id, tier, parent_id, zh, en in zip(*columns, strict=True)
        )

    @classmethod
    def read(cls, view: LakeView, as_of: date | None = None) -> OrgTree:
        """Build the tree of a date from the lake; without a date, of the newest snapshot."""
        return cls.from_table(view.get("org_unit", as_of).read())

    def __len__(self) -> int:
        return len(self._units)

    def __contains__(self, unit_id: object) -> bool:
        return unit_id in self._units

    @property
    def unit_ids(self) -> tuple[str, ...]:
        """Ids of all units, every unit before those under it."""
        return tuple(self._order)

    def get(self, unit_id: str) -> OrgUnit:
        """Return a unit.

        Raises
        ------
        UnknownUnitError
            If there is none of that id; the message names the nearest ids.
        """
        unit = self._units.get(unit_id)
        if unit is None:
            near = difflib.get_close_matches(unit_id, self._units, n=3) or self._order[:3]
            raise UnknownUnitError(
                f"No org unit has the id '{unit_id}'.",
                remedy=f"Did you mean: {', '.join(near)}?",
                zh=f"没有编号为 {unit_id} 的组织单元。您是否要找：{'、'.join(near)}?",
            )
        return unit

    def path(self, unit_id: str) -> tuple[str, ...]:
        """Return the ids from the top down to the unit, both included."""
        self.get(unit_id)
        return self._paths[unit_id]

    def subtree(self, unit_id: str) -> tuple[str, ...]:
        """Return the unit and all below it, every unit before those under it."""
        self.get(unit_id)
        first, end = self._span[unit_id]
        return tuple(self._order[first:end])

    def children(self, unit_id: str) -> tuple[str, ...]:
        """Return the units directly under a unit, in the order given."""
        self.get(unit_id)
        return tuple(self._children[unit_id])

    def covers(self, unit_id: str, other_id: str) -> bool:
        """Whether ``other_id`` is the unit itself or stands somewhere under it."""
        first, end = self._span[unit_id]
        return first <= self._span[other_id][0] < end

    def ancestor(self, unit_id: str, tier: str) -> str | None:
        """Return the unit of a tier on the path, the unit itself included; None if there is none.

        The lowest one, where a tier stands twice on the path.
        """
        for above in reversed(self.path(unit_id)):
            if self._units[above].tier == tier:
                return above
        return None

    def at_tier(self, tier: str) -> tuple[str, ...]:
        """Return the units of a tier, in the tree's order."""
        return tuple(unit_id for unit_id in self._order if self._units[unit_id].tier == tier)

    def _check(self) -> None:
        for unit in self._units.values():
            if unit.tier not in TIERS:
                raise _refuse(
                    f"Org unit '{unit.unit_id}' has the unknown tier '{unit.tier}'.",
                    f"组织单元 {unit.unit_id} 的层级 {unit.tier} 未知。",
                    f"Choose one of: {', '.join(TIERS)}.",
                )
            if unit.parent_id is None:
                continue
            parent = self._units.get(unit.parent_id)
            if parent is None:
                raise _refuse(
                    f"Org unit '{unit.unit_id}' stands under '{unit.parent_id}', which is unknown.",
                    f"组织单元 {unit.unit_id} 的上级 {unit.parent_id} 不存在。",
                )
            if TIERS.index(parent.tier) > TIERS.index(unit.tier):
                raise _refuse(
                    f"Org unit '{unit.unit_id}' ({unit.tier}) stands under '{parent.unit_id}',"
                    f" which is of the lower tier {parent.tier}.",
                    f"组织单元 {unit.unit_id}({unit.tier})的上级 {parent.unit_id} 层级更低"
                    f"({parent.tier})。",
                )
            self._children[unit.parent_id].append(unit.unit_id)

    def _walk(self) -> None:
        """Put the units in depth-first order; what is not reached stands in a ring."""
        stack: list[tuple[str, bool]] = [(root, False) for root in reversed(self.roots)]
        while stack:
            unit_id, is_done = stack.pop()
            if is_done:
                self._span[unit_id] = (self._span[unit_id][0], len(self._order))
                continue
            parent = self._units[unit_id].parent_id
            self._paths[unit_id] = (*(self._paths[parent] if parent else ()), unit_id)
            self._span[unit_id] = (len(self._order), 0)
            self._order.append(unit_id)
            stack.append((unit_id, True))
            stack += [(child, False) for child in reversed(self._children[unit_id])]
        if len(self._order) < len(self._units):
            ring = self._ring(next(u for u in self._units if u not in self._paths))
            raise _refuse(
                f"Org units form a ring: {' → '.join(ring)}.",
                f"组织单元互为上级，形成环：{' → '.join(ring)}。",
            )

    def _ring(self, unit_id: str) -> list[str]:
        seen: list[str] = []
        while unit_id not in seen:
            seen.append(unit_id)
            unit_id = str(self._units[unit_id].parent_id)
        return [*seen[seen.index(unit_id) :], unit_id]


def _refuse(message: str, zh: str, remedy: str = "Correct the table org_unit.") -> OrgTreeError:
    return OrgTreeError(message, remedy=remedy, zh=f"{zh}请更正 org_unit 表。")
