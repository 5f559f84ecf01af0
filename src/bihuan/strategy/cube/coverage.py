"""Whether the strategies reach all customers, businesses, stages, scenes and touchpoints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from bihuan.kernel import NotEstimable
from bihuan.strategy.cube.axis import BUSINESS, CHANNEL, NOWHERE
from bihuan.strategy.cube.cube import Cube

ALL: Mapping[str, Mapping[str, str]] = {
    "customers": {"zh": "全客户", "en": "All customers"},
    "businesses": {"zh": "全业务", "en": "All businesses"},
    "life_cycle": {"zh": "全生命周期", "en": "The whole life cycle"},
    "scenes": {"zh": "全场景", "en": "All scenes"},
    "touchpoints": {"zh": "全触点", "en": "All touchpoints"},
}
"""The five kinds of "all" that the strategies are to cover."""


@dataclass(frozen=True, slots=True)
class Part:
    """How far one part is covered: one business, stage, scene, touchpoint, or all customers.

    Parameters
    ----------
    axis, code
        Which.
    title
        By language.
    size
        Customers who could get something there.
    covered, contacted
        Those for whom something is planned there, and those not held out of it.
    strategy
        That serves it; None where no pattern fits, or where it takes more axes to tell.
    why
        Customers by reason why the others get nothing there, most first.
    """

    axis: str
    code: str
    title: Mapping[str, str]
    size: int
    covered: int
    contacted: int
    strategy: str | None
    why: Mapping[str, int]

    @property
    def share(self) -> float | NotEstimable:
        """Covered customers as a part of all, 0..1."""
        if not self.size:
            return NotEstimable({"zh": "没有客户。", "en": "There are no customers."})
        return self.covered / self.size


@dataclass(frozen=True, slots=True)
class Reach:
    """How far one "all" is reached.

    Parameters
    ----------
    name, title
        One of :data:`ALL`.
    parts
        In the order of the axis.
    """

    name: str
    title: Mapping[str, str]
    parts: tuple[Part, ...]

    @property
    def covered_parts(self) -> tuple[str, ...]:
        """Codes of the parts in which something is planned for somebody."""
        return tuple(part.code for part in self.parts if part.covered)

    @property
    def missing(self) -> tuple[str, ...]:
        """Codes of the parts in which nothing is planned for anybody."""
        return tuple(part.code for part in self.parts if not part.covered)

    @property
    def share(self) -> float | NotEstimable:
        """Covered parts as a share of all; for all customers, covered customers; 0..1."""
        if self.name == "customers":
            return self.parts[0].share
        if not self.parts:
            return NotEstimable({"zh": "没有定义任何取值。", "en": "No part is defined."})
        return len(self.covered_parts) / len(self.parts)

    @property
    def is_whole(self) -> bool:
        """Whether no part is missing."""
        return not self.missing


@dataclass(frozen=True, slots=True)
class CoverageReport:
    """The five kinds of "all" of a cube.

    Parameters
    ----------
    reaches
        In the order of :data:`ALL`.
    left_out
        Bands, offers and gates that were read without some tags.
    """

    reaches: tuple[Reach, ...]
    left_out: Mapping[str, tuple[str, ...]]

    def reach(self, name: str) -> Reach:
        """Return one of the five."""
        return next(reach for reach in self.reaches if reach.name == name)

    def table(self) -> pa.Table:
        """Return one row per part: ``all``, ``code``, titles, counts, ``share``, main reason."""
        rows: list[dict[str, Any]] = [
            {
                "all": reach.name,
                "axis": part.axis,
                "code": part.code,
                "title_zh": part.title["zh"],
                "title_en": part.title["en"],
                "size": part.size,
                "covered": part.covered,
                "contacted": part.contacted,
                "share": part.share if isinstance(part.share, float) else None,
                "strategy": part.strategy,
                "main_reason": next(iter(part.why), None),
            }
            for reach in self.reaches
            for part in reach.parts
        ]
        return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("all", "axis", "code", "title_zh", "title_en")]
    + [(name, pa.int64()) for name in ("size", "covered", "contacted")]
    + [("share", pa.float64()), ("strategy", pa.string()), ("main_reason", pa.string())]
)


def measure_coverage(cube: Cube, *, touchpoints: Iterable[str] = ()) -> CoverageReport:
    """Say how far a cube's decisions cover all that could be covered.

    Parameters
    ----------
    cube
        Counted with decisions.
    touchpoints
        Channel kinds that the operator has; those through which no offer can be made are then
        named too.

    Returns
    -------
    CoverageReport
        Customers in none of an axis's bands are shown as a part of their own if there are any.
    """
    stages = [axis.name for axis in cube.definition.in_group("life_cycle")]
    scenes = [axis.name for axis in cube.definition.in_group("scene")]
    customers = _parts(cube, ())
    businesses = _parts(cube, (BUSINESS,), cube.shown(BUSINESS))
    channels = _parts(cube, (CHANNEL,), dict.fromkeys([*cube.channels, *sorted(touchpoints)]))
    by_name = {
        "customers": customers,
        "businesses": businesses,
        "life_cycle": [p for axis in stages for p in _parts(cube, (axis,), cube.shown(axis))],
        "scenes": [p for axis in scenes for p in _parts(cube, (axis,), cube.shown(axis))],
        "touchpoints": channels,
    }
    reaches = [Reach(name, title, tuple(by_name[name])) for name, title in ALL.items()]
    return CoverageReport(tuple(reaches), cube.left_out)


def _parts(cube: Cube, axes: tuple[str, ...], codes: Iterable[str] = ("all",)) -> list[Part]:
    cells = {tuple(row[a] for a in axes): row for row in cube.roll_up(*axes).to_pylist()}
    found = []
    for code in codes:
        row = cells.get((code,) if axes else ())
        if row is None and code == NOWHERE:
            continue
        found.append(_part(cube, axes[0] if axes else "customer", code, row or {}))
    return found


def _part(cube: Cube, axis: str, code: str, row: Mapping[str, Any]) -> Part:
    why = {
        name.removeprefix("fell_"): int(count)
        for name, count in row.items()
        if name.startswith("fell_") and count
    }
    if axis == "customer":
        title: Mapping[str, str] = ALL["customers"]
    elif axis == CHANNEL:
        title = {"zh": code, "en": code}
    else:
        title = cube.title_of(axis, code)
    return Part(
        axis=axis,
        code=code,
        title=title,
        size=row.get("size", 0),
        covered=row.get("covered", 0),
        contacted=row.get("contacted", 0),
        strategy=row.get("strategy"),
        why=dict(sorted(why.items(), key=lambda item: -item[1])),
    )
