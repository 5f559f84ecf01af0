"""One customer: masked view, refusals, numbers in clear, erasure."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import AwareDatetime, Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.app import personal
from bihuan.workspace import CustomerView, Record

router = Router(tag="customers")
CustomerId = Annotated[str, Path(min_length=1, max_length=64)]
OptOutId = Annotated[str, Path(min_length=1, max_length=64)]


class FactView(View):
    """One value with its title; ``text`` as people read it, by language."""

    name: str
    title: dict[str, str]
    value: Any
    text: dict[str, str]
    unit: str


class RecordView(View):
    """One row of one table, personal columns masked."""

    table: str
    as_of: date
    facts: list[FactView]

    @classmethod
    def of(cls, record: Record) -> RecordView:
        """Return the view of a record."""
        facts = [FactView(**{name: getattr(fact, name) for name in FactView.model_fields})
                 for fact in record.facts]  # fmt: skip
        return cls(table=record.table, as_of=record.as_of, facts=facts)


class TagView(View):
    """One tag of the customer."""

    fact: FactView
    layer: str
    as_of: date


class HappeningView(View):
    """One entry of the time line."""

    kind: str
    at: str
    title: dict[str, str]


class Customer360View(View):
    """What is known of a customer; personal columns masked."""

    customer_id: str
    as_of: date
    unit_id: str | None
    customer: RecordView
    accounts: list[RecordView]
    subscriptions: list[RecordView]
    features: list[TagView]
    timeline: list[HappeningView]
    refuses_profiling: bool
    missing: list[str]

    @classmethod
    def of(cls, view: CustomerView, unit_id: str | None) -> Customer360View:
        """Return the view of a 360 view."""
        marks = [
            TagView(
                fact=FactView(**{name: getattr(mark.fact, name) for name in FactView.model_fields}),
                layer=mark.layer,
                as_of=mark.as_of,
            )
            for mark in view.features.values()
        ]
        return cls(
            customer_id=view.customer_id,
            as_of=view.as_of,
            unit_id=unit_id,
            customer=RecordView.of(view.customer),
            accounts=[RecordView.of(record) for record in view.accounts],
            subscriptions=[RecordView.of(record) for record in view.subscriptions],
            features=marks,
            timeline=[
                HappeningView(kind=entry.kind, at=entry.at.isoformat(), title=dict(entry.title))
                for entry in view.timeline
            ],
            refuses_profiling=view.refuses_profiling,
            missing=list(view.missing),
        )


class OptOutBody(Body):
    """A refusal."""

    kind: str = Field(max_length=16, examples=["no_marketing"])
    channel: str = Field("all", max_length=32, examples=["sms"])
    source: str = Field(min_length=1, max_length=90, examples=["来电要求"])
    effective_at: AwareDatetime | None = None


class WithdrawalBody(Body):
    """How the customer asked to end a refusal."""

    source: str = Field(min_length=1, max_length=100, examples=["营业厅签字"])


class OptOutView(View):
    """A refusal, standing while ``withdrawn_at`` is null."""

    opt_out_id: str
    customer_id: str
    unit_id: str
    kind: str
    channel: str
    effective_at: datetime
    source: str
    recorded_at: datetime
    recorded_by: str
    withdrawn_at: datetime | None
    withdrawn_by: str | None
    withdrawal_source: str | None

    @classmethod
    def of(cls, row: object) -> OptOutView:
        """Return the view of a refusal."""
        return cls.model_validate(row)


class RevealBody(Body):
    """Why the number is needed; auditors read it."""

    reason: str = Field(min_length=4, max_length=200, examples=["客户来电要求回拨"])


class NumberView(View):
    """A number in clear. It is not kept in any reply, log or entry."""

    subscription_id: str
    service: str
    number: str


class RevealView(View):
    """The numbers of a customer in clear."""

    customer_id: str
    numbers: list[NumberView]


class ErasureBody(Body):
    """Whom to erase, and why; the reason stays on the certificate and names nobody."""

    customer_id: str = Field(min_length=1, max_length=64)
    reason: str = Field(min_length=1, max_length=200, examples=["来函 2026-118"])


class ErasureView(View):
    """The state of an erasure; ``done`` makes it the certificate."""

    erasure_id: str
    alias: str
    unit_id: str
    reason: str
    requested_at: datetime
    requested_by: str
    state: str
    removed: dict[str, int]
    left_over: list[dict[str, Any]]
    finished_at: datetime | None

    @classmethod
    def of(cls, row: object) -> ErasureView:
        """Return the view of an erasure."""
        return cls.model_validate(row)


class ExpiryView(View):
    """Something whose retention period is over."""

    kind: str
    place: str
    as_of: date
    rows: int
    bytes: int


@router.get("/customers/{customer_id}")
def show_customer(
    call: Annotated[Call, permitted("customer.read")],
    customer_id: CustomerId,
    as_of: Annotated[date | None, Query(description="Date of the view; the newest data.")] = None,
) -> Customer360View:
    """Show one customer of your units; numbers and names are masked."""
    with call.read() as work:
        place = personal.get_place(call.service, work, customer_id)
    view = personal.show_customer(call.service, customer_id, as_of or place.as_of)
    return Customer360View.of(view, place.unit_id)


@router.get("/customers/{customer_id}/opt-outs")
def list_opt_outs(
    call: Annotated[Call, permitted("customer.read")], customer_id: CustomerId, page: PageQuery
) -> Page[OptOutView]:
    """List a customer's refusals, standing and withdrawn."""
    with call.read() as work:
        query = personal.list_opt_outs(call.service, work, customer_id)
        return call.page(work, query, page, OptOutView.of)


@router.post("/customers/{customer_id}/opt-outs", status_code=201)
def add_opt_out(
    call: Annotated[Call, permitted("customer.opt_out")], customer_id: CustomerId, body: OptOutBody
) -> OptOutView:
    """Record a refusal of marketing or profiling; it holds at once."""
    refusal = personal.Refusal(body.kind, body.channel, body.source, body.effective_at)
    return call.create(
        lambda work: personal.record_opt_out(call.service, work, call.actor, customer_id, refusal),
        OptOutView.of,
        location=lambda view: f"/api/v1/customers/{customer_id}/opt-outs",
    )


@router.post("/customers/{customer_id}/opt-outs/{opt_out_id}/withdrawal", status_code=200)
def withdraw_opt_out(
    call: Annotated[Call, permitted("customer.opt_out")],
    customer_id: CustomerId,
    opt_out_id: OptOutId,
    body: WithdrawalBody,
) -> OptOutView:
    """End a refusal, as the customer asked."""
    with call.change() as work:
        return OptOutView.of(
            personal.withdraw_opt_out(
                call.service, work, call.actor, customer_id, opt_out_id, body.source
            )
        )


@router.post("/customers/{customer_id}/number-views", status_code=200)
def reveal_numbers(
    call: Annotated[Call, permitted("customer.unmask")], customer_id: CustomerId, body: RevealBody
) -> RevealView:
    """Show a customer's numbers in clear; counted, and remembered in the audit trail.

    Takes no `Idempotency-Key`: a kept reply would hold the numbers.
    """
    call.response.headers["Cache-Control"] = "no-store"
    with call.change() as work:
        found = personal.reveal_numbers(call.service, work, call.actor, customer_id, body.reason)
        numbers = [NumberView.model_validate(number) for number in found]
    return RevealView(customer_id=customer_id, numbers=numbers)


@router.get("/erasures")
def list_erasures(
    call: Annotated[Call, permitted("customer.erase")], page: PageQuery
) -> Page[ErasureView]:
    """List erasures and their certificates."""
    with call.read() as work:
        return call.page(work, personal.find_erasures(work), page, ErasureView.of)


@router.get("/erasures/{erasure_id}")
def get_erasure(
    call: Annotated[Call, permitted("customer.erase")],
    erasure_id: Annotated[str, Path(min_length=1, max_length=64)],
) -> ErasureView:
    """Show an erasure, or its certificate."""
    with call.read() as work:
        return ErasureView.of(personal.get_erasure(work, erasure_id))


@router.post("/erasures", status_code=202)
def request_erasure(
    call: Annotated[Call, permitted("customer.erase")], body: ErasureBody
) -> ErasureView:
    """Have one customer erased from lake and control database; a job carries it out."""
    return call.create(
        lambda work: personal.request_erasure(
            call.service, work, call.actor, body.customer_id, body.reason
        ),
        ErasureView.of,
        location=lambda view: f"/api/v1/erasures/{view.erasure_id}",
        status=202,
    )


@router.get("/retention-dues")
def list_expired(call: Annotated[Call, permitted("customer.erase")]) -> list[ExpiryView]:
    """List what a retention run would remove; nothing is removed."""
    return [ExpiryView.model_validate(due) for due in personal.find_expired_data(call.service)]
