"""The knowledge base: written, reviewed, searched, voted on."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query
from pydantic import Field

from bihuan.server.api.frame import Body, Call, Criteria, Page, PageQuery, Router, View, permitted
from bihuan.server.api.library_routes import MarksView
from bihuan.server.api.plan_routes import ChangeView, Id
from bihuan.server.app import knowledge
from bihuan.server.app.plan import library

router = Router(tag="knowledge")

Read = Annotated[Call, permitted("knowledge.read")]
Edit = Annotated[Call, permitted("knowledge.edit")]
Category = Literal[
    "data_quality", "data_operation", "campaign", "retention",
    "channel", "script", "product", "system",
]  # fmt: skip
LinkKind = Literal["plan", "table", "tag", "offer", "indicator", "case"]


class LinkBody(Body):
    """What an entry points to."""

    kind: LinkKind
    id: str = Field(min_length=1, max_length=80, pattern=r"^[^,]+$", examples=["bill"])


class EntryBody(Body):
    """What an entry says."""

    category: Category
    title: str = Field(min_length=1, max_length=200, examples=["账单表重复行的处理"])
    problem: str = Field("", max_length=20_000)
    solution: str = Field(min_length=1, max_length=20_000, examples=["按账期与账户去重"])
    labels: list[Annotated[str, Field(min_length=1, max_length=40)]] = Field(
        default_factory=list, max_length=20
    )
    links: list[LinkBody] = Field(default_factory=list, max_length=20)

    def entry(self) -> knowledge.Entry:
        """Return what the use case takes."""
        links = [link.model_dump() for link in self.links]
        return knowledge.Entry(
            self.category, self.title, self.problem, self.solution, self.labels, links
        )


class NewEntryBody(EntryBody):
    """A new entry of a unit."""

    unit_id: Id = Field(examples=["city-1301"])


class ChangedEntryBody(EntryBody):
    """A new revision."""

    note: str = Field("", max_length=1000)


class ReviewBody(Body):
    """A reviewer's word."""

    accept: bool
    comment: str = Field("", max_length=1000)


class RetirementBody(Body):
    """Why it no longer holds."""

    why: str = Field(min_length=1, max_length=1000)


class VoteBody(Body):
    """Whether it helped."""

    helpful: bool


class EntryView(View):
    """An entry."""

    entry_id: str
    unit_id: str
    sharing: str
    category: str
    title: str
    problem: str
    solution: str
    labels: list[str]
    links: list[Any]
    state: str
    revision: int
    author_id: str
    created_at: datetime
    changed_at: datetime
    reviewed_by: str | None
    reviewed_at: datetime | None
    review_comment: str
    version: int


class EntryRevisionView(View):
    """What an entry said at one time."""

    number: int
    content: dict[str, Any]
    author_id: str
    note: str
    at: datetime


class EntryQuery(Criteria):
    """What to look for."""

    text: str | None = Field(None, max_length=200)
    category: Category | None = None
    label: str | None = Field(None, max_length=40)
    state: Literal["draft", "in_review", "published", "retired"] | None = None
    link_kind: LinkKind | None = None
    link_id: str | None = Field(None, max_length=80)


@router.get("/knowledge-entries")
def list_entries(
    call: Read, page: PageQuery, wanted: Annotated[EntryQuery, Query()]
) -> Page[EntryView]:
    """Search the knowledge base: what is published to all, and the drafts of your units."""
    asked = wanted.model_dump(exclude={"link_kind", "link_id"})
    link = (wanted.link_kind, wanted.link_id) if wanted.link_kind and wanted.link_id else None
    with call.read() as work:
        found = knowledge.find_entries(work, **asked, link=link)
        return call.page(work, found, page, EntryView.model_validate)


@router.post("/knowledge-entries", status_code=201)
def create_entry(call: Edit, body: NewEntryBody) -> EntryView:
    """Write an entry as a draft."""
    return call.create(
        lambda work: knowledge.write_entry(work, call.actor, body.unit_id, body.entry()),
        EntryView.model_validate,
        location=lambda view: f"/api/v1/knowledge-entries/{view.entry_id}",
    )


@router.get("/knowledge-entries/{entry_id}")
def get_entry(call: Read, entry_id: str) -> EntryView:
    """Return an entry."""
    with call.read() as work:
        row = knowledge.get_entry(work, entry_id)
        return call.show(EntryView.model_validate(row), row.version)


@router.put("/knowledge-entries/{entry_id}")
def put_entry(call: Edit, entry_id: str, body: ChangedEntryBody) -> EntryView:
    """Give an entry a new revision; it is a draft again until it is reviewed."""
    with call.change() as work:
        row = knowledge.get_entry(work, entry_id)
        call.match(row.version)
        knowledge.revise_entry(work, call.actor, row, body.entry(), note=body.note)
        work.session.flush()
        return call.show(EntryView.model_validate(row), row.version)


@router.post("/knowledge-entries/{entry_id}/submission")
def submit_entry(call: Edit, entry_id: str) -> EntryView:
    """Ask a colleague to review a draft."""
    with call.change() as work:
        row = knowledge.get_entry(work, entry_id)
        call.match(row.version)
        knowledge.submit_entry(work, call.actor, row)
        work.session.flush()
        return call.show(EntryView.model_validate(row), row.version)


@router.post("/knowledge-entries/{entry_id}/review")
def review_entry(call: Edit, entry_id: str, body: ReviewBody) -> EntryView:
    """Publish an entry to everybody, or send it back; not by who has written it."""
    with call.change() as work:
        row = knowledge.get_entry(work, entry_id)
        call.match(row.version)
        knowledge.review_entry(work, call.actor, row, accept=body.accept, comment=body.comment)
        work.session.flush()
        return call.show(EntryView.model_validate(row), row.version)


@router.post("/knowledge-entries/{entry_id}/retirement")
def retire_entry(call: Edit, entry_id: str, body: RetirementBody) -> EntryView:
    """Take an entry that no longer holds out of sight of others."""
    with call.change() as work:
        row = knowledge.get_entry(work, entry_id)
        call.match(row.version)
        knowledge.retire_entry(work, call.actor, row, why=body.why)
        work.session.flush()
        return call.show(EntryView.model_validate(row), row.version)


@router.get("/knowledge-entries/{entry_id}/revisions")
def list_revisions(call: Read, entry_id: str, page: PageQuery) -> Page[EntryRevisionView]:
    """List what the entry has said, newest first."""
    with call.read() as work:
        found = knowledge.entry_revisions(work, knowledge.get_entry(work, entry_id))
        return call.page(work, found, page, EntryRevisionView.model_validate)


@router.get("/knowledge-entries/{entry_id}/differences")
def list_differences(call: Read, entry_id: str, old: int, new: int) -> list[ChangeView]:
    """Return every field in which two revisions differ."""
    with call.read() as work:
        row = knowledge.get_entry(work, entry_id)
        found = knowledge.compare_entry(work, row, old, new)
        return [ChangeView.model_validate(change) for change in found]


@router.put("/knowledge-entries/{entry_id}/vote")
def put_vote(call: Read, entry_id: str, body: VoteBody) -> MarksView:
    """Say whether an entry helped; a second vote of yours replaces the first."""
    with call.change() as work:
        row = knowledge.get_entry(work, entry_id)
        library.vote(work, call.actor, row.entry_id, helpful=body.helpful)
        return MarksView.model_validate(library.marks_of(work, "entry", [entry_id])[entry_id])


@router.get("/knowledge-entries/{entry_id}/marks")
def get_marks(call: Read, entry_id: str) -> MarksView:
    """Return how many found the entry helpful."""
    with call.read() as work:
        row = knowledge.get_entry(work, entry_id)
        return MarksView.model_validate(
            library.marks_of(work, "entry", [row.entry_id])[row.entry_id]
        )
