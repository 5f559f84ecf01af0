"""Scenes: added at run time, used at once, switched off and on, every version kept."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import Query
from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.app import scene

router = Router(tag="scenes")

_SCENE = {
    "title": {"zh": "合约到期前", "en": "Before the contract ends"},
    "goal": {"zh": "到期前续约", "en": "Renew before the end"},
    "audience": "contract_days_left <= {days} and not is_disconnected",
    "parameters": [
        {"name": "days", "title": {"zh": "天数", "en": "Days"}, "type": "integer", "default": 90}
    ],
    "offer_kinds": ["contract"],
    "touchpoints": [
        {
            "channel": "outbound",
            "path": {"zh": "外呼后短信确认", "en": "Call, then confirm by text message"},
            "requirement": {"zh": "当日回单", "en": "Report the same day"},
        }
    ],
    "review": ["churn_rate"],
}
Values = dict[str, str | int | float | bool | list[str]]


class SceneBody(Body):
    """A new scene."""

    unit_id: str = Field(min_length=1, max_length=64, examples=["province"])
    name: str = Field(min_length=1, max_length=64, examples=["contract_end"])
    document: dict[str, Any] = Field(examples=[_SCENE])
    note: str = Field("", max_length=500)


class SceneChangeBody(Body):
    """What a scene says from now on."""

    document: dict[str, Any] = Field(examples=[_SCENE])
    note: str = Field("", max_length=500)


class NoteBody(Body):
    """Why."""

    note: str = Field("", max_length=500)


class AskBody(Body):
    """How a scene is filled in."""

    as_of: date | None = None
    values: Values = Field(default_factory=dict, examples=[{"days": 60}])


class AdviceBody(AskBody):
    """One customer within a scene."""

    customer_id: str = Field(min_length=1, max_length=64, examples=["c000000001"])
    top: int = Field(3, ge=1, le=20)


class SceneView(View):
    """A scene as it is now."""

    scene_id: str
    unit_id: str
    name: str
    number: int
    title_zh: str
    title_en: str
    document: dict[str, Any]
    status: str
    made_by: str
    made_at: datetime
    changed_at: datetime

    @classmethod
    def of(cls, row: Any) -> SceneView:
        """Return the view of ``row``."""
        return cls.model_validate(row)


class SceneVersionView(View):
    """What a scene said."""

    number: int
    document: dict[str, Any]
    status: str
    note: str
    made_by: str
    made_at: datetime


class CountView(View):
    """How many a scene takes; ``members`` is null for a group too small to be told."""

    text: str
    as_of: date
    members: int | None
    base: int


class AdviceItemView(View):
    """One thing to do."""

    rank: int
    campaign_id: str
    offer_id: str
    channel: str
    net: float
    reason: dict[str, str]


class AdviceView(View):
    """What a scene has for a customer."""

    is_member: bool
    items: list[AdviceItemView]
    paths: dict[str, dict[str, str]]


class FileScenesView(View):
    """Scenes and filters of the workspace's files."""

    scenes: list[str]
    filters: list[str]


@router.get("/scenes")
def list_scenes(
    call: Annotated[Call, permitted("scene.read")],
    page: PageQuery,
    status: Annotated[str | None, Query(max_length=16)] = None,
) -> Page[SceneView]:
    """List the scenes of your units and of the units above."""
    with call.read() as work:
        return call.page(work, scene.find_scenes(status), page, SceneView.of)


@router.get("/file-scenes")
def list_file_scenes(call: Annotated[Call, permitted("scene.read")]) -> FileScenesView:
    """List the scenes and filters that stand in the workspace's files."""
    return FileScenesView.model_validate(scene.list_file_scenes(call.service))


@router.post("/scenes", status_code=201)
def add_scene(call: Annotated[Call, permitted("scene.manage")], body: SceneBody) -> SceneView:
    """Add a scene; it is checked against tags, offers and channels, and in use at once."""
    return call.create(
        lambda work: scene.add_scene(
            work, call.service, call.actor, body.unit_id, body.name, body.document, note=body.note
        ),
        SceneView.of,
        location=lambda view: f"/api/v1/scenes/{view.scene_id}",
    )


@router.get("/scenes/{scene_id}")
def get_scene(call: Annotated[Call, permitted("scene.read")], scene_id: str) -> SceneView:
    """Return a scene."""
    with call.read() as work:
        row = scene.get_scene(work, scene_id)
        return call.show(SceneView.of(row), row.version)


@router.put("/scenes/{scene_id}")
def change_scene(
    call: Annotated[Call, permitted("scene.manage")], scene_id: str, body: SceneChangeBody
) -> SceneView:
    """Give a scene a new content; the earlier one stays on record."""
    with call.change() as work:
        row = scene.get_scene(work, scene_id)
        call.match(row.version)
        scene.change_scene(work, call.service, call.actor, row, body.document, note=body.note)
        work.session.flush()
        return call.show(SceneView.of(row), row.version)


@router.post("/scenes/{scene_id}/disablement")
def disable_scene(
    call: Annotated[Call, permitted("scene.manage")], scene_id: str, body: NoteBody
) -> SceneView:
    """Switch a scene off."""
    return _switch(call, scene_id, "disabled", body.note)


@router.post("/scenes/{scene_id}/enablement")
def enable_scene(
    call: Annotated[Call, permitted("scene.manage")], scene_id: str, body: NoteBody
) -> SceneView:
    """Switch a scene on again."""
    return _switch(call, scene_id, "active", body.note)


@router.get("/scenes/{scene_id}/versions")
def list_versions(
    call: Annotated[Call, permitted("scene.read")], scene_id: str
) -> list[SceneVersionView]:
    """Return what a scene has said, oldest first."""
    with call.read() as work:
        rows = scene.scene_versions(work, scene.get_scene(work, scene_id))
        return [SceneVersionView.model_validate(row) for row in rows]


@router.post("/scenes/{scene_id}/count")
def count_scene(
    call: Annotated[Call, permitted("audience.read")], scene_id: str, body: AskBody
) -> CountView:
    """Count whom a scene takes."""
    with call.read() as work:
        row = scene.get_scene(work, scene_id)
        sees = call.actor.may("small_groups.see")
        found = scene.count_scene(
            work, call.service, row, as_of=body.as_of, values=body.values, sees_small=sees
        )
    return CountView.model_validate(found)


@router.post("/scenes/{scene_id}/recommendation")
def recommend(
    call: Annotated[Call, permitted("customer.read")], scene_id: str, body: AdviceBody
) -> AdviceView:
    """Return the next best offers of one customer within a scene."""
    with call.read() as work:
        row = scene.get_scene(work, scene_id)
        scene.require_customer(work, call.service, body.customer_id)
    found = scene.recommend_in_scene(
        call.service, row, body.customer_id, as_of=body.as_of, values=body.values, top=body.top
    )
    return AdviceView.model_validate(found)


def _switch(call: Call, scene_id: str, status: str, note: str) -> SceneView:
    with call.change() as work:
        row = scene.get_scene(work, scene_id)
        call.match(row.version)
        scene.set_scene_status(work, call.actor, row, status, note=note)
        work.session.flush()
        return call.show(SceneView.of(row), row.version)
