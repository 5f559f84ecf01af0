"""Tags and audiences: what can be selected by, how many there are, which rules are kept."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from fastapi import Response
from pydantic import Field

from bihuan.server.api.frame import (
    Body,
    Call,
    Page,
    PageQuery,
    Router,
    View,
    cursor_of,
    permitted,
)
from bihuan.server.app import audience, tag

router = Router(tag="audiences")

Rule = Annotated[
    str, Field(min_length=1, max_length=10_000, examples=["arpu >= 80 and not has_contract"])
]
TagName = Annotated[str, Field(min_length=1, max_length=64, examples=["arpu"])]
Title = Annotated[str, Field(min_length=1, max_length=100, examples=["高价值未合约"])]


class CountBody(Body):
    """A rule to count."""

    rule: Rule
    as_of: date | None = Field(None, description="Date of the tags; none: the newest.")


class StepView(View):
    """One part of a rule and how many are left after it; null: fewer than `below`."""

    part: str
    left: int | None


class CountView(View):
    """How many customers of your units satisfy a rule; null: some, but fewer than `below`."""

    size: int | None
    universe: int | None
    as_of: date
    below: int
    steps: list[StepView]

    @classmethod
    def of(cls, count: audience.Count) -> CountView:
        """Return the view of a count."""
        steps = [StepView(part=part, left=left) for part, left in count.steps]
        return cls(size=count.size, universe=count.universe, as_of=count.as_of,
                   below=count.below, steps=steps)  # fmt: skip


class CrossBody(CountBody):
    """A rule and the tags to divide it by."""

    tags: list[TagName] = Field(min_length=1, max_length=3)


class CrossView(View):
    """Customers by the values of tags; a null count is hidden."""

    tags: list[str]
    values: list[list[str | None]]
    counts: list[Any]
    as_of: date
    below: int


class HistogramBody(CountBody):
    """A rule and the tag whose distribution is wanted."""

    tag: TagName
    bins: int = Field(50, ge=1, le=200)


class HistogramView(View):
    """Customers by ranges of a tag; null: fewer than `below`."""

    tag: str
    edges: list[Any]
    counts: list[int | None]
    missing: int | None
    as_of: date
    below: int


class ThresholdBody(CountBody):
    """A rule, a tag to cut, and how many are wanted."""

    tag: TagName
    size: int = Field(ge=1, le=1_000_000_000)
    side: Literal["top", "bottom"] = "top"


class ThresholdView(View):
    """Where to cut: `tag >= value` (or `<=`) selects `size_with_ties`."""

    tag: str
    side: str
    value: Any
    size: int
    size_with_ties: int
    is_exact: bool
    as_of: date


class AudienceBody(Body):
    """An audience to keep."""

    title: Title
    rule: Rule
    unit_id: str = Field(min_length=1, max_length=64, examples=["city-1301"])
    note: str = Field("", max_length=400)


class AudienceChangeBody(Body):
    """An audience as it shall be."""

    title: Title
    rule: Rule
    note: str = Field("", max_length=400)
    sharing: Literal["own", "down", "all"] = "own"


class AudienceView(View):
    """A kept audience; `size` is as of `size_as_of`, null until it was counted."""

    audience_id: str
    unit_id: str
    title: str
    rule: str
    note: str
    sharing: str
    created_by: str
    created_at: datetime
    size: int | None
    size_as_of: date | None
    version: int


class ExportBody(CountBody):
    """A list to export."""

    tags: list[TagName] = Field(default_factory=list, max_length=30)


class TagView(View):
    """A tag of the dictionary."""

    name: str
    title: dict[str, str]
    meaning: dict[str, str]
    definition: dict[str, str]
    category: str
    layer: str
    subject: str
    means: str
    type: str
    unit: str
    state: str
    owner: str
    refresh: str
    codes: dict[str, dict[str, str]] | None


class TagDetailView(TagView):
    """A tag, where it comes from, and what is made of it."""

    expression: str | None
    columns: list[str]
    tags: list[str]
    users: list[str]


@router.get("/tags")
def list_tags(
    call: Annotated[Call, permitted("tag.read")],
    page: PageQuery,
    text: Annotated[str, Field(max_length=100)] = "",
    subject: Annotated[str, Field(max_length=32)] = "",
) -> Page[TagView]:
    """List tags by name; `text` looks into names and titles."""
    found, after = tag.find(call.service, text, subject, str(page.after or ""), page.limit)
    return Page(
        items=[TagView(**tag.describe(found_tag)) for found_tag in found],
        next_cursor=cursor_of(after),
    )


@router.get("/tags/{name}")
def get_tag(call: Annotated[Call, permitted("tag.read")], name: str) -> TagDetailView:
    """Return one tag: meaning, 口径, where it comes from, what is made of it."""
    return TagDetailView(**tag.describe_whole(call.service, name))


@router.post("/audience-counts")
def count_audience(call: Annotated[Call, permitted("audience.read")], body: CountBody) -> CountView:
    """Count a rule among the customers of your units, part by part."""
    with call.change() as work:
        day = body.as_of or audience.newest_day(call.service)
        return CountView.of(audience.count(call.service, work, call.actor, body.rule, day))


@router.post("/audience-cross-tables")
def cross_audience(call: Annotated[Call, permitted("audience.read")], body: CrossBody) -> CrossView:
    """Count a rule by the values of one to three tags; small cells are hidden."""
    with call.read() as work:
        day = body.as_of or audience.newest_day(call.service)
        return CrossView(
            **audience.cross(call.service, work, call.actor, body.rule, body.tags, day)
        )


@router.post("/audience-histograms")
def draw_audience(
    call: Annotated[Call, permitted("audience.read")], body: HistogramBody
) -> HistogramView:
    """Count a rule by ranges of a tag; small ranges are hidden."""
    with call.read() as work:
        day = body.as_of or audience.newest_day(call.service)
        return HistogramView(
            **audience.histogram(
                call.service, work, call.actor, body.rule, (body.tag, body.bins), day
            )
        )


@router.post("/audience-thresholds")
def cut_audience(
    call: Annotated[Call, permitted("audience.read")], body: ThresholdBody
) -> ThresholdView:
    """Find where to cut a tag so that a wanted number is left, exactly."""
    with call.read() as work:
        day = body.as_of or audience.newest_day(call.service)
        wanted = (body.tag, body.size, body.side)
        return ThresholdView(
            **audience.threshold(call.service, work, call.actor, body.rule, wanted, day)
        )


@router.get("/audiences")
def list_audiences(
    call: Annotated[Call, permitted("audience.read")],
    page: PageQuery,
    text: Annotated[str, Field(max_length=100)] = "",
) -> Page[AudienceView]:
    """List kept audiences of your units, newest first."""
    with call.read() as work:
        return call.page(work, audience.find(text), page, AudienceView.model_validate)


@router.post("/audiences", status_code=201)
def save_audience(
    call: Annotated[Call, permitted("audience.read")], body: AudienceBody
) -> AudienceView:
    """Keep a rule under a name."""
    return call.create(
        lambda work: audience.save(
            work, call.actor, title=body.title, rule=body.rule, unit_id=body.unit_id,
            note=body.note,
        ),
        AudienceView.model_validate,
        location=lambda view: f"/api/v1/audiences/{view.audience_id}",
    )  # fmt: skip


@router.get("/audiences/{audience_id}")
def get_audience(
    call: Annotated[Call, permitted("audience.read")], audience_id: str
) -> AudienceView:
    """Return a kept audience."""
    with call.read() as work:
        row = audience.get(work, audience_id)
        return call.show(AudienceView.model_validate(row), row.version)


@router.put("/audiences/{audience_id}")
def change_audience(
    call: Annotated[Call, permitted("audience.read")], audience_id: str, body: AudienceChangeBody
) -> AudienceView:
    """Change a kept audience."""
    with call.change() as work:
        row = audience.get(work, audience_id)
        call.match(row.version)
        audience.change(
            work, row, title=body.title, rule=body.rule, note=body.note, sharing=body.sharing
        )
        work.session.flush()
        return call.show(AudienceView.model_validate(row), row.version)


@router.delete("/audiences/{audience_id}", status_code=204)
def remove_audience(
    call: Annotated[Call, permitted("audience.read")], audience_id: str
) -> Response:
    """Remove a kept audience; the audit trail keeps its rule."""
    with call.change() as work:
        row = audience.get(work, audience_id)
        call.match(row.version)
        audience.remove(work, row)
    return Response(status_code=204)


@router.post("/audience-exports", response_class=Response)
def export_audience(
    call: Annotated[Call, permitted("audience.export")], body: ExportBody
) -> Response:
    """Return the customers of a rule with chosen tags as CSV; audited."""
    with call.change() as work:
        day = body.as_of or audience.newest_day(call.service)
        text = audience.export(call.service, work, call.actor, body.rule, day, body.tags)
    return Response(
        text,
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="audience.csv"'},
    )
