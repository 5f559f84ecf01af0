"""Which rows of a tree fit together, and why the others do not; knows no database."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bihuan.server.app.errors import RefusedError
from bihuan.server.control import TIERS, UNDER

LONGEST_ID, LONGEST_NAME = 64, 100
SHOWN = 5

REASONS: Mapping[str, tuple[str, str]] = {
    "no_id": ("没有编号", "has no id"),
    "too_long": ("编号或名称过长", "has too long an id or name"),
    "duplicate": ("编号重复", "has the id of an earlier row"),
    "unknown_tier": ("层级未知", "has an unknown tier"),
    "no_parent": ("上级不存在", "stands under a unit that is not there"),
    "parent_refused": ("上级被拒收", "stands under a row that was refused"),
    "parent_closed": ("上级已关闭", "stands under a closed unit"),
    "tier_order": ("层级顺序不对", "stands under a unit of the wrong tier"),
    "ring": ("互为上级成环", "stands under itself"),
    "out_of_scope": ("超出权限范围", "is outside what the importer manages"),
    "still_open": (
        "名单中已无但其下仍有内容",
        "is no longer listed, and something open is under it",
    ),
    "unknown_unit": ("所属单元不存在", "belongs to a unit that is not there"),
    "unknown_role": ("岗位未对应角色", "has a post that is no role"),
    "unknown_status": ("状态未知", "has an unknown status"),
}
"""Why a row can be refused, in Chinese and English."""


class BrokenTreeError(RefusedError):
    """The rows do not make a tree; nothing was taken.

    Parameters
    ----------
    refused
        The rows that show it.
    """

    def __init__(
        self, message: str, *, remedy: str, zh: str, refused: Sequence[RefusedRow] = ()
    ) -> None:
        super().__init__(message, remedy=remedy, zh=zh)
        self.refused = tuple(refused)


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """A row that cannot be taken.

    Parameters
    ----------
    row
        Its number, from 1; 0 for a unit that is missing from the rows.
    kind
        ``unit`` or ``staff``.
    subject_id
        Its id as given.
    reason
        Key of :data:`REASONS`.
    detail
        What exactly: the parent, the tier, the ring.
    given
        The row.
    """

    row: int
    kind: str
    subject_id: str
    reason: str
    detail: str
    given: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class UnitRow:
    """A unit as a row gives it, or as it stands in the database."""

    unit_id: str
    parent_id: str | None
    tier: str
    name_zh: str
    name_en: str = ""
    city_code: str | None = None
    is_active: bool = True
    row: int = 0
    given: Mapping[str, Any] = field(default_factory=dict)

    def refuse(self, reason: str, detail: str = "") -> RefusedRow:
        """Return this row as refused."""
        return RefusedRow(self.row, "unit", self.unit_id, reason, detail, self.given)


@dataclass(frozen=True, slots=True)
class CheckedUnits:
    """Rows that fit, by id, those above first; and rows that do not."""

    good: Mapping[str, UnitRow]
    refused: tuple[RefusedRow, ...]


def check_units(
    rows: Iterable[Mapping[str, Any]], present: Mapping[str, UnitRow], *, max_bad_share: float
) -> CheckedUnits:
    """Tell which rows can be taken into a tree.

    Parameters
    ----------
    rows
        With ``org_unit_id``, ``tier`` and, where there are, ``parent_id``, ``name_zh``,
        ``name_en``, ``city_code``.
    present
        The units that are there already, by id.
    max_bad_share
        Refused rows above this share of all mean that the whole is broken, 0 to 1.

    Raises
    ------
    BrokenTreeError
        If there is no top or more than one, or too many rows are bad.
    """
    parsed, refused = _parse(rows)
    total = len(parsed) + len(refused)
    _check_tops(parsed, present)
    bad = _rings(parsed, present)
    while found := list(_misplaced(parsed, present, bad)):
        bad.update({row.subject_id: row for row in found})
    refused += sorted(bad.values(), key=lambda row: row.row)
    if total and len(refused) > max_bad_share * total:
        raise _too_many(refused, total)
    good = [unit for unit in parsed.values() if unit.unit_id not in bad]
    good.sort(key=lambda unit: TIERS.index(unit.tier))  # a parent's tier is always a higher one
    return CheckedUnits({unit.unit_id: unit for unit in good}, tuple(refused))


def _parse(rows: Iterable[Mapping[str, Any]]) -> tuple[dict[str, UnitRow], list[RefusedRow]]:
    parsed: dict[str, UnitRow] = {}
    refused: list[RefusedRow] = []
    for number, given in enumerate(rows, 1):
        unit = UnitRow(
            unit_id=text_of(given, "org_unit_id"),
            parent_id=text_of(given, "parent_id") or None,
            tier=text_of(given, "tier"),
            name_zh=text_of(given, "name_zh") or text_of(given, "org_unit_id"),
            name_en=text_of(given, "name_en"),
            city_code=text_of(given, "city_code") or None,
            row=number,
            given=dict(given),
        )
        reason = _flaw(unit)
        if reason is None and unit.unit_id in parsed:
            reason = "duplicate"
        if reason is None:
            parsed[unit.unit_id] = unit
        else:
            refused.append(unit.refuse(reason, unit.tier if reason == "unknown_tier" else ""))
    return parsed, refused


def _flaw(unit: UnitRow) -> str | None:
    if not unit.unit_id:
        return "no_id"
    longest = max(len(unit.unit_id), len(unit.parent_id or ""))
    if longest > LONGEST_ID or len(unit.city_code or "") > 16:
        return "too_long"
    if max(len(unit.name_zh), len(unit.name_en)) > LONGEST_NAME:
        return "too_long"
    return None if unit.tier in TIERS else "unknown_tier"


def _check_tops(parsed: Mapping[str, UnitRow], present: Mapping[str, UnitRow]) -> None:
    tops = {u for u, unit in present.items() if unit.parent_id is None}
    tops |= {u for u, unit in parsed.items() if unit.parent_id is None}
    if len(tops) == 1:
        return
    if not tops:
        raise BrokenTreeError(
            "No row stands at the top: every unit has a parent.",
            remedy="Leave parent_id of the province empty.",
            zh="没有顶级单元：每行都有上级，请将省级的 parent_id 留空。",
        )
    names = ", ".join(sorted(tops)[:SHOWN])
    raise BrokenTreeError(
        f"The tree has {len(tops)} tops: {names}.",
        remedy="Only the province has no parent; give the others theirs.",
        zh=f"组织树有 {len(tops)} 个顶级单元：{names}。只有省级没有上级，请补全其余单元的上级。",
        refused=[parsed[u].refuse("no_parent", "second top") for u in sorted(tops) if u in parsed],
    )


def _rings(parsed: Mapping[str, UnitRow], present: Mapping[str, UnitRow]) -> dict[str, RefusedRow]:
    """Return the rows that stand, over others, under themselves."""
    merged = {**present, **parsed}
    bad: dict[str, RefusedRow] = {}
    seen: set[str] = set()
    for start in parsed:
        trail: dict[str, None] = {}
        unit: str | None = start
        while unit in merged and unit not in seen and unit not in trail:
            trail[unit] = None
            unit = merged[unit].parent_id
        if unit in trail:
            members = list(trail)
            ring = members[members.index(str(unit)) :]
            text = " → ".join(ring[:SHOWN])
            bad.update({u: parsed[u].refuse("ring", text) for u in ring if u in parsed})
        seen.update(trail)
    return bad


def _misplaced(
    parsed: Mapping[str, UnitRow], present: Mapping[str, UnitRow], bad: Mapping[str, RefusedRow]
) -> Iterator[RefusedRow]:
    """Yield rows, not bad so far, that do not fit where they want to stand.

    A unit that is there already and whose row is refused stays as it was.
    """
    good = {unit_id: unit for unit_id, unit in parsed.items() if unit_id not in bad}
    merged = {**present, **good}
    for unit in good.values():
        if unit.parent_id is None:
            if unit.tier != TIERS[0]:
                yield unit.refuse("tier_order", f"{unit.tier} at the top")
            continue
        parent = merged.get(unit.parent_id)
        if parent is None:
            reason = "parent_refused" if unit.parent_id in bad else "no_parent"
            yield unit.refuse(reason, unit.parent_id)
        elif parent.tier not in UNDER[unit.tier]:
            yield unit.refuse("tier_order", f"{unit.tier} under {parent.tier} {parent.unit_id}")
        elif not parent.is_active:
            yield unit.refuse("parent_closed", parent.unit_id)
    for unit_id, unit in present.items():
        above = None if unit_id in good or unit.parent_id is None else good.get(unit.parent_id)
        if above is not None and unit.is_active and above.tier not in UNDER[unit.tier]:
            yield above.refuse("tier_order", f"{unit.tier} {unit_id} stands under it")


def _too_many(refused: Sequence[RefusedRow], total: int) -> BrokenTreeError:
    counts = Counter(row.reason for row in refused)
    en = "; ".join(f"{n} {REASONS[r][1]}" for r, n in counts.most_common(SHOWN))
    zh = "；".join(f"{REASONS[r][0]} {n} 行" for r, n in counts.most_common(SHOWN))
    first = ", ".join(f"row {r.row} ({r.subject_id})" for r in refused[:SHOWN])
    return BrokenTreeError(
        f"{len(refused)} of {total} rows do not fit together, nothing was taken: {en}."
        f" First: {first}.",
        remedy="Mend the source and import it again.",
        zh=f"{total} 行中 {len(refused)} 行有误，未导入任何内容：{zh}。请修正后重新导入。",
        refused=refused,
    )


def text_of(given: Mapping[str, Any], name: str) -> str:
    """Return a cell as text without outer blanks; missing is empty."""
    value = given.get(name)
    return "" if value is None else str(value).strip()
