"""Outlets, crews and areas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.api.organisation_routes import Id, Name, OptionalName
from bihuan.server.app.organisation import (
    NewPlace,
    change_place,
    covered_units,
    crew_members,
    find_places,
    get_place,
    open_place,
    set_covered_units,
    set_crew_members,
)

router = Router(tag="organisation")


class PlaceView(View):
    """What every place has."""

    unit_id: str
    kind: str
    name_zh: str
    name_en: str
    status: str
    version: int


class OutletView(PlaceView):
    """A hall or another place where customers are served."""

    outlet_id: str


class CrewView(PlaceView):
    """A team that installs, repairs or patrols."""

    crew_id: str


class AreaView(PlaceView):
    """An estate, building, campus or village."""

    area_id: str


class OutletBody(Body):
    """An outlet to be opened."""

    outlet_id: Id = Field(examples=["outlet-new-1"])
    unit_id: Id
    kind: Literal["own", "franchised", "partner", "kiosk"]
    name_zh: Name
    name_en: OptionalName = ""


class OutletChange(Body):
    """What shall be otherwise; what is left out stays."""

    unit_id: Id | None = None
    kind: Literal["own", "franchised", "partner", "kiosk"] | None = None
    name_zh: Name | None = None
    name_en: OptionalName | None = None
    status: Literal["open", "refit", "closed"] | None = None


class CrewBody(Body):
    """A crew to be formed."""

    crew_id: Id = Field(examples=["crew-new-1"])
    unit_id: Id
    kind: Literal["installation", "repair", "patrol"]
    name_zh: Name
    name_en: OptionalName = ""


class CrewChange(Body):
    """What shall be otherwise; what is left out stays."""

    unit_id: Id | None = None
    kind: Literal["installation", "repair", "patrol"] | None = None
    name_zh: Name | None = None
    name_en: OptionalName | None = None
    status: Literal["on_duty", "off_duty", "closed"] | None = None


class AreaBody(Body):
    """An area to be entered."""

    area_id: Id = Field(examples=["area-new-1"])
    unit_id: Id
    kind: Literal["residential", "business", "campus", "village", "industrial"]
    name_zh: Name
    name_en: OptionalName = ""


class AreaChange(Body):
    """What shall be otherwise; what is left out stays."""

    unit_id: Id | None = None
    kind: Literal["residential", "business", "campus", "village", "industrial"] | None = None
    name_zh: Name | None = None
    name_en: OptionalName | None = None
    status: Literal["active", "closed"] | None = None


class IdsBody(Body):
    """Ids, in any order."""

    ids: list[Id] = Field(max_length=1_000, examples=[[]])


@router.get("/outlets")
def list_outlets(
    call: Annotated[Call, permitted("org.read")], page: PageQuery, unit_id: Id | None = None
) -> Page[OutletView]:
    """List outlets, of one unit's subtree if it is given."""
    with call.read() as work:
        statement = find_places("outlet", unit_id=unit_id)
        return call.page(work, statement, page, OutletView.model_validate)


@router.post("/outlets", status_code=201)
def create_outlet(call: Annotated[Call, permitted("org.manage")], body: OutletBody) -> OutletView:
    """Open an outlet."""
    return call.create(
        lambda work: open_place(work, _new("outlet", body.outlet_id, body)),
        OutletView.model_validate,
        location=lambda view: f"/api/v1/outlets/{view.outlet_id}",
    )


@router.get("/outlets/{outlet_id}")
def show_outlet(call: Annotated[Call, permitted("org.read")], outlet_id: str) -> OutletView:
    """Show one outlet."""
    with call.read() as work:
        row = get_place(work, "outlet", outlet_id)
        return call.show(OutletView.model_validate(row), row.version)


@router.patch("/outlets/{outlet_id}")
def change_outlet(
    call: Annotated[Call, permitted("org.manage")], outlet_id: str, body: OutletChange
) -> OutletView:
    """Change or close an outlet."""
    with call.change() as work:
        row = get_place(work, "outlet", outlet_id)
        call.match(row.version)
        change_place(work, "outlet", row, **body.model_dump())
        return call.show(OutletView.model_validate(row), row.version)


@router.get("/crews")
def list_crews(
    call: Annotated[Call, permitted("org.read")], page: PageQuery, unit_id: Id | None = None
) -> Page[CrewView]:
    """List crews, of one unit's subtree if it is given."""
    with call.read() as work:
        statement = find_places("crew", unit_id=unit_id)
        return call.page(work, statement, page, CrewView.model_validate)


@router.post("/crews", status_code=201)
def create_crew(call: Annotated[Call, permitted("org.manage")], body: CrewBody) -> CrewView:
    """Form a crew."""
    return call.create(
        lambda work: open_place(work, _new("crew", body.crew_id, body)),
        CrewView.model_validate,
        location=lambda view: f"/api/v1/crews/{view.crew_id}",
    )


@router.get("/crews/{crew_id}")
def show_crew(call: Annotated[Call, permitted("org.read")], crew_id: str) -> CrewView:
    """Show one crew."""
    with call.read() as work:
        row = get_place(work, "crew", crew_id)
        return call.show(CrewView.model_validate(row), row.version)


@router.patch("/crews/{crew_id}")
def change_crew(
    call: Annotated[Call, permitted("org.manage")], crew_id: str, body: CrewChange
) -> CrewView:
    """Change or dissolve a crew."""
    with call.change() as work:
        row = get_place(work, "crew", crew_id)
        call.match(row.version)
        change_place(work, "crew", row, **body.model_dump())
        return call.show(CrewView.model_validate(row), row.version)


@router.get("/crews/{crew_id}/members")
def list_members(call: Annotated[Call, permitted("staff.read")], crew_id: str) -> list[str]:
    """List the staff of a crew."""
    with call.read() as work:
        return crew_members(work, get_place(work, "crew", crew_id))


@router.put("/crews/{crew_id}/members")
def put_members(
    call: Annotated[Call, permitted("staff.manage")], crew_id: str, body: IdsBody
) -> list[str]:
    """Say who is in a crew."""
    with call.change() as work:
        return set_crew_members(work, get_place(work, "crew", crew_id), body.ids)


@router.get("/areas")
def list_areas(
    call: Annotated[Call, permitted("org.read")], page: PageQuery, unit_id: Id | None = None
) -> Page[AreaView]:
    """List areas, of one unit's subtree if it is given."""
    with call.read() as work:
        statement = find_places("area", unit_id=unit_id)
        return call.page(work, statement, page, AreaView.model_validate)


@router.post("/areas", status_code=201)
def create_area(call: Annotated[Call, permitted("org.manage")], body: AreaBody) -> AreaView:
    """Enter an area."""
    return call.create(
        lambda work: open_place(work, _new("area", body.area_id, body)),
        AreaView.model_validate,
        location=lambda view: f"/api/v1/areas/{view.area_id}",
    )


@router.get("/areas/{area_id}")
def show_area(call: Annotated[Call, permitted("org.read")], area_id: str) -> AreaView:
    """Show one area."""
    with call.read() as work:
        row = get_place(work, "area", area_id)
        return call.show(AreaView.model_validate(row), row.version)


@router.patch("/areas/{area_id}")
def change_area(
    call: Annotated[Call, permitted("org.manage")], area_id: str, body: AreaChange
) -> AreaView:
    """Change or close an area."""
    with call.change() as work:
        row = get_place(work, "area", area_id)
        call.match(row.version)
        change_place(work, "area", row, **body.model_dump())
        return call.show(AreaView.model_validate(row), row.version)


@router.get("/areas/{area_id}/units")
def list_covered(call: Annotated[Call, permitted("org.read")], area_id: str) -> list[str]:
    """List the units that an area covers."""
    with call.read() as work:
        return covered_units(work, get_place(work, "area", area_id))


@router.put("/areas/{area_id}/units")
def put_covered(
    call: Annotated[Call, permitted("org.manage")], area_id: str, body: IdsBody
) -> list[str]:
    """Say which units an area covers besides its own."""
    with call.change() as work:
        return set_covered_units(work, get_place(work, "area", area_id), body.ids)


def _new(place: str, place_id: str, body: Any) -> NewPlace:
    return NewPlace(place, place_id, body.unit_id, body.kind, body.name_zh, body.name_en)
