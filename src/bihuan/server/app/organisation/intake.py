"""Import of a whole organisation: units and people, from the lake or from rows.

What is new comes in, what changed is changed, what is no longer listed is closed; rows that do
not fit are kept with their reason and can be sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.errors import ConflictError, RefusedError
from bihuan.server.app.organisation.check import (
    BrokenTreeError,
    CheckedUnits,
    RefusedRow,
    UnitRow,
    check_units,
    text_of,
)
from bihuan.server.app.organisation.import_record import find_refused, get_import
from bihuan.server.app.organisation.staff_intake import insert_rows, take_staff
from bihuan.server.app.organisation.tree import lock_tree, open_below
from bihuan.server.app.unit_scope import units_in_scope
from bihuan.server.control import (
    PAIRS,
    OrgChange,
    OrgClosure,
    OrgImport,
    OrgImportRow,
    OrgUnit,
    UnitOfWork,
    below,
    closure_pairs,
)
from bihuan.workspace import Workspace

MAX_BAD_SHARE = 0.2
"""As in the data room: beyond it, a source is thought broken as a whole."""
MANY = 5_000
_WHY = "an import reads and writes the whole tree; every row was checked against the scope"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import did.

    Parameters
    ----------
    import_id
        Under which its refused rows are kept.
    counts
        Units opened, renamed, moved, closed, reopened, unchanged; staff added, changed, left,
        unchanged; posts added, ended; rows refused.
    changes
        ``(unit, kind)`` of every unit that changed, in order.
    refused
        Rows that could not be taken.
    """

    import_id: str
    counts: Mapping[str, int]
    changes: tuple[tuple[str, str], ...]
    refused: tuple[RefusedRow, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """What is to be imported.

    Parameters
    ----------
    units, staff
        Rows with the columns of the lake's tables ``org_unit`` and ``staff``.
    source
        Where they come from, for the record.
    is_complete
        Whether units and staff that came by import and are not among the rows are gone.
    max_bad_share
        Refused unit rows above this share of all mean a broken source.
    replay_of
        Import whose refused rows these are; None: fresh ones.
    """

    units: Sequence[Mapping[str, Any]]
    staff: Sequence[Mapping[str, Any]] = ()
    source: str = "rows"
    is_complete: bool = False
    max_bad_share: float = MAX_BAD_SHARE
    replay_of: str | None = None


@dataclass(slots=True)
class _Tally:
    changes: list[tuple[str, str]] = field(default_factory=list)
    refused: list[RefusedRow] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def import_rows(work: UnitOfWork, rows: Rows) -> ImportReport:
    """Bring units and staff in: good rows go in, bad ones are kept with their reason.

    Parameters
    ----------
    work
        A unit of work in the scope of whoever imports; rows outside it are refused.
    rows
        What is to be imported.

    Raises
    ------
    BrokenTreeError
        If the rows make no tree, or too many are bad; nothing is taken then.
    """
    with work.beyond(_WHY):
        return _import(work, rows)


def _import(work: UnitOfWork, rows: Rows) -> ImportReport:
    lock_tree(work)
    present = _read_tree(work)
    tally = _Tally()
    checked = CheckedUnits({}, ())
    if rows.units:
        checked = check_units(rows.units, present, max_bad_share=rows.max_bad_share)
    elif not present:
        raise BrokenTreeError(
            "There are no units.",
            remedy="Import units before, or with, the people.",
            zh="没有组织单元，请先导入组织单元，或与人员一并导入。",
        )
    tally.refused += checked.refused
    good = _within_scope(work, checked.good, present, tally)
    _take_units(work, good, present, tally)
    if rows.staff:  # before units are closed, since those who left keep none open
        refused, counts = take_staff(work, rows.staff, is_complete=rows.is_complete)
        tally.refused += refused
        tally.counts.update(counts)
    if rows.is_complete and rows.units:
        _close_missing(work, {text_of(row, "org_unit_id") for row in rows.units}, tally)
    tally.counts["refused"] = len(tally.refused)
    return _keep(work, rows, tally)


def import_from_lake(
    work: UnitOfWork, workspace: Workspace, as_of: date | None = None
) -> ImportReport:
    """Import the lake's tables ``org_unit`` and ``staff``; units no longer there are closed.

    Parameters
    ----------
    work, workspace
        Where to and where from.
    as_of
        Snapshot date; None: the newest.

    Raises
    ------
    SnapshotNotFoundError
        If the lake has no ``org_unit`` of that date.
    BrokenTreeError
        If the rows make no tree.
    """
    view = workspace.view
    units = view.get("org_unit", as_of)
    staff = view.find("staff", as_of)
    source = f"lake org_unit {units.as_of}"
    people = staff.read().to_pylist() if staff is not None else ()
    return import_rows(
        work, Rows(units.read().to_pylist(), people, source=source, is_complete=True)
    )


def replay_import(
    work: UnitOfWork, import_id: str, corrections: Mapping[str, Mapping[str, Any]] | None = None
) -> ImportReport:
    """Send the refused rows of an import again, some of them corrected.

    Rows that still do not fit are kept with the new import, so none is lost and none counts twice.

    Parameters
    ----------
    work
        In the scope of whoever replays.
    import_id
        The earlier import.
    corrections
        Row id, as :func:`find_refused` gives it, to the cells that replace those given.

    Raises
    ------
    NotFoundError
        If there is no such import.
    ConflictError
        If its rows were replayed before.
    RefusedError
        If a correction names a row that was not refused.
    """
    earlier = get_import(work, import_id)
    kept = work.session.scalars(
        find_refused(import_id).order_by(OrgImportRow.kind, OrgImportRow.row)
    ).all()
    waiting = [row for row in kept if row.replayed_in is None and row.row > 0]
    if not waiting:
        raise ConflictError(
            f"Import '{import_id}' has no refused rows waiting.",
            remedy="Look at the import that replayed them.",
            zh=f"导入 {import_id} 没有待重放的行，请查看其重放记录。",
        )
    mended = dict(corrections or {})
    stray = sorted(set(mended) - {row.row_id for row in waiting})
    if stray:
        raise RefusedError(
            f"'{stray[0]}' is no refused row of import '{import_id}'.",
            remedy="Correct the rows that its report lists.",
            zh=f"{stray[0]} 不是导入 {import_id} 的拒收行，请只更正报告列出的行。",
        )
    given = {
        kind: [{**row.given, **mended.get(row.row_id, {})} for row in waiting if row.kind == kind]
        for kind in ("unit", "staff")
    }
    report = import_rows(
        work,
        Rows(
            given["unit"],
            given["staff"],
            source=f"replay of {earlier.source}"[:100],
            max_bad_share=1,
            replay_of=import_id,
        ),
    )
    for row in waiting:
        row.replayed_in = report.import_id
    return report


def _read_tree(work: UnitOfWork) -> dict[str, UnitRow]:
    """Return every unit that there is, by id; ids are one for all."""
    statement = sa.select(
        OrgUnit.unit_id,
        OrgUnit.parent_id,
        OrgUnit.tier,
        OrgUnit.name_zh,
        OrgUnit.name_en,
        OrgUnit.city_code,
        OrgUnit.status,
    )
    return {
        row.unit_id: UnitRow(
            row.unit_id,
            row.parent_id,
            row.tier,
            row.name_zh,
            row.name_en,
            row.city_code,
            is_active=row.status == "active",
        )
        for row in work.session.execute(statement)
    }


def _within_scope(
    work: UnitOfWork,
    good: Mapping[str, UnitRow],
    present: Mapping[str, UnitRow],
    tally: _Tally,
) -> dict[str, UnitRow]:
    """Return the rows that the importer may take: below units that it manages, now and then."""
    if work.scope.roots is None:
        return dict(good)
    managed: set[str | None] = set(units_in_scope(work))
    taken: dict[str, UnitRow] = {}
    for unit in good.values():  # those above come first
        old = present.get(unit.unit_id)
        if old is None:
            touched = {unit.parent_id}
        elif old.parent_id == unit.parent_id:
            touched = set() if _same(old, unit) else {unit.unit_id}
        else:
            touched = {unit.unit_id, old.parent_id, unit.parent_id}
        if touched <= managed:
            taken[unit.unit_id] = unit
            managed.update({unit.unit_id} if old is None else ())
        else:
            tally.refused.append(unit.refuse("out_of_scope", unit.parent_id or ""))
    return taken


def _same(old: UnitRow, new: UnitRow) -> bool:
    return old.is_active and all(
        getattr(old, name) == getattr(new, name)
        for name in ("parent_id", "tier", "name_zh", "name_en", "city_code")
    )


def _take_units(
    work: UnitOfWork, good: Mapping[str, UnitRow], present: Mapping[str, UnitRow], tally: _Tally
) -> None:
    fresh = [unit for unit_id, unit in good.items() if unit_id not in present]
    changed = [u for u_id, u in good.items() if u_id in present and not _same(present[u_id], u)]
    insert_rows(work, OrgUnit, [_unit_values(unit) for unit in fresh])
    history = [_change(work, unit, "opened", None) for unit in fresh]
    moved = [u.unit_id for u in changed if u.parent_id != present[u.unit_id].parent_id]
    history += _change_units(work, changed, present)
    parents = {u: row.parent_id for u, row in present.items()}
    parents |= {u: row.parent_id for u, row in good.items()}
    _rebuild_closure(work, parents, [unit.unit_id for unit in fresh], moved)
    insert_rows(work, OrgChange, history)
    tally.changes += [(row["unit_id"], row["kind"]) for row in history]
    tally.counts.update(f"units_{row['kind']}" for row in history)
    tally.counts["units_unchanged"] = len(good) - len(fresh) - len(changed)


def _change_units(
    work: UnitOfWork, changed: Sequence[UnitRow], present: Mapping[str, UnitRow]
) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = []
    for start in range(0, len(changed), MANY):
        part = {unit.unit_id: unit for unit in changed[start : start + MANY]}
        for row in work.session.scalars(sa.select(OrgUnit).where(OrgUnit.unit_id.in_(part))):
            unit, old = part[row.unit_id], present[row.unit_id]
            history += [_change(work, unit, kind, old) for kind in _kinds(old, unit)]
            row.parent_id, row.tier, row.city_code = unit.parent_id, unit.tier, unit.city_code
            row.name_zh, row.name_en = unit.name_zh, unit.name_en
            row.status, row.origin = "active", "import"
        work.session.flush()
    return history


def _kinds(old: UnitRow, new: UnitRow) -> list[str]:
    kinds = []
    if not old.is_active:
        kinds.append("reopened")
    if old.parent_id != new.parent_id:
        kinds.append("moved")
    if (old.name_zh, old.name_en) != (new.name_zh, new.name_en):
        kinds.append("renamed")
    return kinds or ["changed"]


def _rebuild_closure(
    work: UnitOfWork, parents: Mapping[str, str | None], fresh: list[str], moved: list[str]
) -> None:
    """Write the pairs of new units and of all that stands below moved ones."""
    affected: set[str] = set()
    for start in range(0, len(moved), MANY):
        subtrees = below(frozenset(moved[start : start + MANY]))
        affected.update(work.session.scalars(subtrees))
    stale = sorted(affected)
    for start in range(0, len(stale), MANY):
        gone = PAIRS.c.descendant_id.in_(stale[start : start + MANY])
        work.session.execute(sa.delete(PAIRS).where(gone))
    insert_rows(work, OrgClosure, list(closure_pairs(parents, [*fresh, *stale])))


def _close_missing(work: UnitOfWork, listed: set[str], tally: _Tally) -> None:
    """Close imported units that are no longer listed, those below first."""
    depth = sa.select(sa.func.max(OrgClosure.depth)).where(
        OrgClosure.descendant_id == OrgUnit.unit_id
    )
    statement = (
        sa.select(OrgUnit)
        .where(OrgUnit.status == "active", OrgUnit.origin == "import")
        .order_by(depth.scalar_subquery().desc())
    )
    if work.scope.roots is not None:  # units above are seen, and not managed
        statement = statement.where(OrgUnit.unit_id.in_(below(work.scope.roots)))
    gone = [unit for unit in work.session.scalars(statement) if unit.unit_id not in listed]
    history = []
    for unit in gone:
        row = UnitRow(unit.unit_id, unit.parent_id, unit.tier, unit.name_zh)
        left = open_below(work, unit.unit_id)
        if left:
            detail = ", ".join(f"{count} {kind}" for kind, count in left.items())
            tally.refused.append(row.refuse("still_open", detail))
            continue
        unit.status = "closed"
        work.session.flush()
        history.append(_change(work, row, "closed", None))
    insert_rows(work, OrgChange, history)
    tally.changes += [(row["unit_id"], row["kind"]) for row in history]
    tally.counts["units_closed"] += len(history)


def _change(work: UnitOfWork, unit: UnitRow, kind: str, old: UnitRow | None) -> dict[str, Any]:
    has_moved = old is not None and old.parent_id != unit.parent_id
    has_name = old is not None and old.name_zh != unit.name_zh
    return {
        "change_id": work.new_id("change"),
        "unit_id": unit.unit_id,
        "kind": kind,
        "at": work.now,
        "account_id": work.account_id,
        "old_parent_id": old.parent_id if old and has_moved else None,
        "new_parent_id": unit.parent_id if has_moved or kind == "opened" else None,
        "old_name": old.name_zh if old and has_name else None,
        "new_name": unit.name_zh if has_name or kind == "opened" else None,
    }


def _unit_values(unit: UnitRow) -> dict[str, Any]:
    return {
        "unit_id": unit.unit_id,
        "parent_id": unit.parent_id,
        "tier": unit.tier,
        "name_zh": unit.name_zh,
        "name_en": unit.name_en,
        "city_code": unit.city_code,
        "status": "active",
        "origin": "import",
        "version": 1,
    }


def _keep(work: UnitOfWork, rows: Rows, tally: _Tally) -> ImportReport:
    """Store what the import did and which rows it refused."""
    top = sa.select(OrgUnit.unit_id).where(OrgUnit.parent_id.is_(None))
    roots = work.scope.roots
    unit_id = min(roots) if roots else work.session.scalars(top).one()
    counts = {name: count for name, count in sorted(tally.counts.items()) if count}
    kept = OrgImport(
        import_id=work.new_id("import"),
        unit_id=unit_id,
        source=rows.source[:100],
        at=work.now,
        account_id=work.account_id,
        counts=counts,
        replay_of=rows.replay_of,
    )
    work.session.add(kept)
    work.session.flush()
    work.session.add_all(
        OrgImportRow(
            row_id=f"{kept.import_id}-{place:06d}",
            import_id=kept.import_id,
            row=row.row,
            kind=row.kind,
            subject_id=row.subject_id[:200],
            reason=row.reason,
            detail=row.detail[:400],
            given=_plain(row.given),
        )
        for place, row in enumerate(tally.refused)
    )
    work.audit("org.import", "org_import", kept.import_id, source=kept.source, **counts)
    return ImportReport(kept.import_id, counts, tuple(tally.changes), tuple(tally.refused))


def _plain(given: Mapping[str, Any]) -> dict[str, Any]:
    simple = (str, int, float, bool, type(None))
    return {str(k): v if isinstance(v, simple) else str(v) for k, v in given.items()}
