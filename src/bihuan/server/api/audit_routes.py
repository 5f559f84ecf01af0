"""The audit trail: search, reports, verification, exports."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import AwareDatetime, Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.app import audit

router = Router(tag="audit")
_Text = Annotated[str | None, Query(max_length=64)]


async def _filter(  # noqa: PLR0913 - one query parameter each
    account_id: _Text = None,
    unit_id: _Text = None,
    action: Annotated[
        str | None, Query(max_length=64, description="A named action; a star stands for anything.")
    ] = None,
    subject_kind: _Text = None,
    subject_id: _Text = None,
    since: AwareDatetime | None = None,
    until: AwareDatetime | None = None,
    request_id: _Text = None,
) -> audit.EntryFilter:
    return audit.EntryFilter(
        account_id, unit_id, action, subject_kind, subject_id, since, until, request_id
    )


Filter = Annotated[audit.EntryFilter, Depends(_filter)]


class EntryView(View):
    """One entry of the trail."""

    sequence: int
    at: datetime
    account_id: str
    unit_id: str | None
    action: str
    subject_kind: str
    subject_id: str
    detail: dict[str, Any]
    request_id: str
    seal: str

    @classmethod
    def of(cls, entry: object) -> EntryView:
        """Return the view of an entry."""
        return cls.model_validate(entry)


class DisclosureView(View):
    """Who saw which customer's numbers in clear; ``customer_id`` is null after an erasure."""

    sequence: int
    at: datetime
    account_id: str
    unit_id: str | None
    customer_id: str | None
    alias: str
    reason: str


class HeadBody(Body):
    """A head that was exported before."""

    kind: str = Field("bihuan-audit-head", max_length=32)
    sequence: int = Field(ge=0, examples=[0])
    seal: str = Field(max_length=64, examples=["0" * 64])
    exported_at: str = Field(max_length=40, examples=["2026-11-30T00:00:00+00:00"])
    public_key: str = Field("", max_length=64)
    signature: str = Field("", max_length=128)


class HeadView(View):
    """The newest entry's number and seal, signed; keep it outside this machine."""

    kind: str
    sequence: int
    seal: str
    exported_at: str
    public_key: str
    signature: str


class VerificationBody(Body):
    """Heads to compare the trail with."""

    heads: list[HeadBody] = Field(default_factory=list, max_length=100)


class BreakView(View):
    """The first place at which the trail does not hold."""

    sequence: int
    kind: str


class VerificationView(View):
    """What a verification found; ``marked``: the keyed marks were checked."""

    whole: bool
    entries: int
    sequence: int
    seal: str
    marked: bool
    heads: int
    broken: BreakView | None


@router.get("/audit-entries")
def find_entries(
    call: Annotated[Call, permitted("audit.read")], wanted: Filter, page: PageQuery
) -> Page[EntryView]:
    """Search the trail: who did what to what, when.

    Entries of accounts at home in your units. A customer is sought by id with
    `subject_kind=customer`; the trail itself holds aliases.
    """
    with call.read() as work:
        return call.page(work, audit.find_entries(call.service, wanted), page, EntryView.of)


@router.get("/audit-disclosures")
def find_disclosures(
    call: Annotated[Call, permitted("audit.read")], wanted: Filter, page: PageQuery
) -> Page[DisclosureView]:
    """Report who saw which customer's number in clear, and why."""
    with call.read() as work:
        query = audit.find_disclosures(call.service, wanted)
        found = call.page(work, query, page, EntryView.of)
        told = audit.disclosures_of(work, found.items)
        items = [DisclosureView.model_validate(row) for row in told]
        return Page(items=items, next_cursor=found.next_cursor)


@router.get("/audit-exports")
def find_exports(
    call: Annotated[Call, permitted("audit.read")], wanted: Filter, page: PageQuery
) -> Page[EntryView]:
    """Report who exported what."""
    with call.read() as work:
        return call.page(work, audit.find_exports(call.service, wanted), page, EntryView.of)


@router.get("/audit-entries/export", response_class=StreamingResponse)
def export_entries(
    call: Annotated[Call, permitted("audit.export")], wanted: Filter
) -> StreamingResponse:
    """Export entries as JSON Lines, oldest first, with their seals; the export is an entry."""
    with call.change() as work:
        audit.note_export(work, wanted)

    def lines() -> Iterator[str]:
        with call.read() as work:
            yield from audit.export_lines(work, audit.find_entries(call.service, wanted))

    return StreamingResponse(
        lines(),
        media_type="application/x-ndjson",
        headers={"Content-Disposition": 'attachment; filename="audit-entries.jsonl"'},
    )


@router.post("/audit-head-exports", status_code=200)
def export_head(call: Annotated[Call, permitted("audit.export")]) -> HeadView:
    """Export the signed head of the trail; only a head kept elsewhere shows a cut-off tail."""
    with call.change() as work:
        return HeadView.model_validate(audit.take_head(call.service, work).as_json())


@router.post("/audit-verifications", status_code=200)
def verify(
    call: Annotated[Call, permitted("audit.export")], body: VerificationBody
) -> VerificationView:
    """Verify the whole trail, and exported heads against it."""
    report = audit.verify_trail(
        call.service, [head.model_dump() for head in body.heads], request_id=call.request_id
    )
    broken = report.broken
    return VerificationView(
        whole=report.is_whole,
        entries=report.entries,
        sequence=report.sequence,
        seal=report.seal,
        marked=report.marked,
        heads=report.heads,
        broken=None if broken is None else BreakView.model_validate(broken),
    )
