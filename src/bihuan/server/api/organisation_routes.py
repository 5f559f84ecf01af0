"""Org units: the tree, its changes, and import of a whole organisation."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.app.organisation import (
    REASONS,
    ImportReport,
    NewUnit,
    Rows,
    close_unit,
    find_changes,
    find_imports,
    find_refused,
    find_subtree,
    find_units,
    get_import,
    get_unit,
    import_from_lake,
    import_rows,
    move_unit,
    open_unit,
    path_of,
    rename_unit,
    reopen_unit,
    replay_import,
)
from bihuan.server.app.plan.approval import rederive_steps
from bihuan.server.app.service import UnitOfWork

router = Router(tag="organisation")

ID = r"^[A-Za-z0-9\u4e00-\u9fff][A-Za-z0-9\u4e00-\u9fff._:-]{0,63}$"
TEXT = r"^[^\x00-\x1f\x7f]*$"
Tier = Literal["province", "city", "county", "line", "grid", "ceo", "seller"]
Id = Annotated[str, Field(pattern=ID, examples=["county-a1"])]
Name = Annotated[str, Field(min_length=1, max_length=100, pattern=TEXT, examples=["示例县"])]
OptionalName = Annotated[str, Field(max_length=100, pattern=TEXT)]


class UnitView(View):
    """A unit of the territory tree."""

    unit_id: str
    parent_id: str | None
    tier: str
    name_zh: str
    name_en: str
    city_code: str | None
    status: str
    version: int


class UnitBody(Body):
    """A unit to be opened."""

    unit_id: Id = Field(examples=["grid-new-1"])
    parent_id: Id
    tier: Tier = Field(examples=["grid"])
    name_zh: Name
    name_en: OptionalName = ""
    city_code: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{1,16}$")] | None = None


class UnitNames(Body):
    """Other names; what is left out stays."""

    name_zh: Name | None = None
    name_en: OptionalName | None = None


class UnitMove(Body):
    """Under which unit it shall stand."""

    parent_id: Id


class ChangeView(View):
    """What happened to a unit."""

    change_id: str
    unit_id: str
    kind: str
    at: datetime
    account_id: str
    old_parent_id: str | None
    new_parent_id: str | None
    old_name: str | None
    new_name: str | None


class ImportBody(Body):
    """Where an import comes from: the lake's newest snapshot, or rows sent here."""

    source: Literal["lake", "rows"] = Field(examples=["lake"])
    as_of: date | None = Field(None, description="Snapshot date; none: the newest.")
    units: list[dict[str, str | int | None]] = Field(
        default_factory=list,
        max_length=50_000,
        description="Columns of the lake's table org_unit.",
    )
    staff: list[dict[str, str | int | None]] = Field(
        default_factory=list, max_length=50_000, description="Columns of the lake's table staff."
    )
    is_complete: bool = Field(False, description="Whether what is not listed is to be closed.")


class ReplayBody(Body):
    """Cells that replace those of refused rows, by row id."""

    corrections: dict[str, dict[str, str | int | None]] = Field(
        default_factory=dict, max_length=50_000
    )


class ImportView(View):
    """What an import did."""

    import_id: str
    source: str
    at: datetime
    account_id: str
    counts: dict[str, int]
    replay_of: str | None


class RefusedView(View):
    """A row that an import did not take, and why."""

    row_id: str
    row: int
    kind: str
    subject_id: str
    reason: str
    zh: str
    en: str
    detail: str
    given: dict[str, Any]
    replayed_in: str | None

    @classmethod
    def of(cls, row: Any) -> RefusedView:
        """Return the view of a refused row."""
        zh, en = REASONS.get(row.reason, (row.reason, row.reason))
        told = {name: getattr(row, name) for name in cls.model_fields if name not in ("zh", "en")}
        return cls(**told, zh=zh, en=en)


@router.get("/org-units")
def list_units(
    call: Annotated[Call, permitted("org.read")],
    page: PageQuery,
    parent_id: Id | None = None,
    tier: Tier | None = None,
    status: Literal["active", "closed"] | None = None,
) -> Page[UnitView]:
    """List units by parent, tier and status.

    You see the units of your posts, all below them, and the way up.
    """
    statement = find_units(parent_id=parent_id, tier=tier, status=status)
    with call.read() as work:
        return call.page(work, statement, page, UnitView.model_validate, ascending=True)


@router.post("/org-units", status_code=201)
def create_unit(call: Annotated[Call, permitted("org.manage")], body: UnitBody) -> UnitView:
    """Open a unit under another."""
    new = NewUnit(**body.model_dump())
    return call.create(
        lambda work: open_unit(work, new),
        UnitView.model_validate,
        location=lambda view: f"/api/v1/org-units/{view.unit_id}",
    )


@router.get("/org-units/{unit_id}")
def show_unit(call: Annotated[Call, permitted("org.read")], unit_id: str) -> UnitView:
    """Show one unit."""
    with call.read() as work:
        unit = get_unit(work, unit_id)
        return call.show(UnitView.model_validate(unit), unit.version)


@router.get("/org-units/{unit_id}/subtree")
def list_subtree(
    call: Annotated[Call, permitted("org.read")], unit_id: str, page: PageQuery
) -> Page[UnitView]:
    """List a unit and all below it."""
    with call.read() as work:
        get_unit(work, unit_id)
        return call.page(work, find_subtree(unit_id), page, UnitView.model_validate, ascending=True)


@router.get("/org-units/{unit_id}/path")
def list_path(call: Annotated[Call, permitted("org.read")], unit_id: str) -> list[UnitView]:
    """List the units from the top down to one, it included."""
    with call.read() as work:
        get_unit(work, unit_id)
        return [UnitView.model_validate(unit) for unit in path_of(work, unit_id)]


@router.get("/org-units/{unit_id}/changes")
def list_changes(
    call: Annotated[Call, permitted("org.read")], unit_id: str, page: PageQuery
) -> Page[ChangeView]:
    """List what happened to a unit, newest first."""
    with call.read() as work:
        get_unit(work, unit_id)
        return call.page(work, find_changes(unit_id), page, ChangeView.model_validate)


@router.patch("/org-units/{unit_id}")
def rename(
    call: Annotated[Call, permitted("org.manage")], unit_id: str, body: UnitNames
) -> UnitView:
    """Give a unit other names."""
    with call.change() as work:
        unit = get_unit(work, unit_id)
        call.match(unit.version)
        rename_unit(work, unit, name_zh=body.name_zh, name_en=body.name_en)
        return call.show(UnitView.model_validate(unit), unit.version)


@router.post("/org-units/{unit_id}/move")
def move(call: Annotated[Call, permitted("org.manage")], unit_id: str, body: UnitMove) -> UnitView:
    """Put a unit, with all below it, under another parent."""
    with call.change() as work:
        unit = get_unit(work, unit_id)
        call.match(unit.version)
        move_unit(work, unit, body.parent_id)
        rederive_steps(work, [unit_id])  # open filings go on by the new tree
        return call.show(UnitView.model_validate(unit), unit.version)


@router.post("/org-units/{unit_id}/closure")
def close(call: Annotated[Call, permitted("org.manage")], unit_id: str) -> UnitView:
    """Close a unit under which nothing open stands."""
    with call.change() as work:
        unit = get_unit(work, unit_id)
        call.match(unit.version)
        close_unit(work, unit)
        return call.show(UnitView.model_validate(unit), unit.version)


@router.post("/org-units/{unit_id}/reopening")
def reopen(call: Annotated[Call, permitted("org.manage")], unit_id: str) -> UnitView:
    """Open a closed unit again, where it stood."""
    with call.change() as work:
        unit = get_unit(work, unit_id)
        call.match(unit.version)
        reopen_unit(work, unit)
        return call.show(UnitView.model_validate(unit), unit.version)


@router.get("/org-imports")
def list_imports(
    call: Annotated[Call, permitted("org.manage")], page: PageQuery
) -> Page[ImportView]:
    """List past imports, newest first."""
    with call.read() as work:
        return call.page(work, find_imports(), page, ImportView.model_validate)


@router.post("/org-imports", status_code=201)
def create_import(call: Annotated[Call, permitted("org.manage")], body: ImportBody) -> ImportView:
    """Import units and people from the lake or from rows.

    Rows that do not fit are kept with the reason; a broken tree is refused as a whole.
    """
    call.actor.scope("staff.manage")
    rows = Rows(body.units, body.staff, is_complete=body.is_complete)

    def take(work: UnitOfWork) -> Any:
        if body.source == "lake":
            return _kept(work, import_from_lake(work, call.service.workspace, body.as_of))
        return _kept(work, import_rows(work, rows))

    return call.create(take, ImportView.model_validate, location=_import_path)


@router.get("/org-imports/{import_id}")
def show_import(call: Annotated[Call, permitted("org.manage")], import_id: str) -> ImportView:
    """Show what an import did."""
    with call.read() as work:
        return ImportView.model_validate(get_import(work, import_id))


@router.get("/org-imports/{import_id}/refused-rows")
def list_refused(
    call: Annotated[Call, permitted("org.manage")], import_id: str, page: PageQuery
) -> Page[RefusedView]:
    """List the rows that an import did not take, and why."""
    with call.read() as work:
        get_import(work, import_id)
        return call.page(work, find_refused(import_id), page, RefusedView.of, ascending=True)


@router.post("/org-imports/{import_id}/replays", status_code=201)
def create_replay(
    call: Annotated[Call, permitted("org.manage")], import_id: str, body: ReplayBody
) -> ImportView:
    """Send the refused rows again, some of them corrected."""
    call.actor.scope("staff.manage")
    return call.create(
        lambda work: _kept(work, replay_import(work, import_id, body.corrections)),
        ImportView.model_validate,
        location=_import_path,
    )


def _kept(work: UnitOfWork, report: ImportReport) -> Any:
    return get_import(work, report.import_id)


def _import_path(view: ImportView) -> str:
    return f"/api/v1/org-imports/{view.import_id}"
