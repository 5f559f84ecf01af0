"""The org tree over which values are rolled up: every unit with those above it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

from bihuan.data import LakeView
from bihuan.evaluation.indicator.errors import IndicatorError


@dataclass(frozen=True, eq=False)
class UnitTree:
    """Units of one date.

    Parameters
    ----------
    parent
        Parent by unit, None at the top.
    tier
        Tier by unit (``province`` ... ``seller``).
    """

    parent: dict[str, str | None]
    tier: dict[str, str]

    @classmethod
    def of_rows(cls, rows: pa.Table) -> UnitTree:
        """Read rows of the ``org_unit`` contract.

        Raises
        ------
        IndicatorError
            If units stand above each other in a ring.
        """
        units = rows["org_unit_id"].to_pylist()
        known = set(units)
        parent = {
            unit: above if above in known else None
            for unit, above in zip(units, rows["parent_id"].to_pylist(), strict=True)
        }
        tree = cls(parent, dict(zip(units, rows["tier"].to_pylist(), strict=True)))
        for unit in units:
            tree.path(unit)
        return tree

    @classmethod
    def at(cls, view: LakeView, month: object) -> UnitTree:
        """Read the tree as it was at a date of the lake."""
        return cls.of_rows(view.get("org_unit", month).read(["org_unit_id", "parent_id", "tier"]))  # type: ignore[arg-type]

    def path(self, unit: str) -> tuple[str, ...]:
        """Return the unit and all above it, from itself to the top."""
        found: list[str] = []
        at: str | None = unit
        while at is not None:
            if at in found:
                raise IndicatorError(
                    f"Org units stand above each other in a ring: {' → '.join((*found, at))}.",
                    remedy="Mend the org tree in the lake.",
                    zh=f"组织树成环：{' → '.join((*found, at))}。",
                )
            found.append(at)
            at = self.parent.get(at)
        return tuple(found)

    def children(self, unit: str) -> tuple[str, ...]:
        """Return the units right below, sorted."""
        return self._children.get(unit, ())

    def below(self, unit: str) -> tuple[str, ...]:
        """Return the unit and everything below it, sorted."""
        found, open_ = [], [unit]
        while open_:
            at = open_.pop()
            found.append(at)
            open_ += self.children(at)
        return tuple(sorted(found))

    def first_above(self, unit: str | None, tier: str) -> str | None:
        """Return the unit, or the nearest above it, that is of a tier; None if none is."""
        if unit is None or unit not in self.parent:
            return None
        return next((at for at in self.path(unit) if self.tier[at] == tier), None)

    def closure(self, wanted: Iterable[str] | None = None) -> pa.Table:
        """Return every pair ``ancestor``, ``descendant`` with the ancestor among ``wanted``."""
        keep = None if wanted is None else set(wanted)
        pairs = [
            (above, unit)
            for unit in self.parent
            for above in self.path(unit)
            if keep is None or above in keep
        ]
        return pa.table(
            {
                "ancestor": pa.array([a for a, _ in pairs], pa.string()),
                "descendant": pa.array([d for _, d in pairs], pa.string()),
            }
        )

    def units(self) -> pa.Table:
        """Return ``unit_id`` and ``tier`` of every unit."""
        names = sorted(self.parent)
        return pa.table(
            {
                "unit_id": pa.array(names, pa.string()),
                "tier": pa.array([self.tier[name] for name in names], pa.string()),
            }
        )

    @cached_property
    def _children(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for unit, above in self.parent.items():
            if above is not None:
                found.setdefault(above, []).append(unit)
        return {unit: tuple(sorted(below)) for unit, below in found.items()}
