"""Policies over the org tree: look up, foresee, propose, accept."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.app import policy

router = Router(tag="policies")

_EXAMPLE = """policy_id: city-1301-lines
unit: city-1301
kind: leased_line
status: approved
max_discount: 0.2
"""


class StatementBody(Body):
    """A statement, as it would stand in a policy file (YAML)."""

    statement: str = Field(min_length=1, max_length=20_000, examples=[_EXAMPLE])


class ProposalBody(StatementBody):
    """A statement to lay down."""

    comment: str = Field("", max_length=400)


class DecisionBody(Body):
    """Why a proposal is declined."""

    comment: str = Field("", max_length=400)


class ResolvedView(View):
    """What holds for a unit and an offer; a row per statement that counts."""

    unit_id: str
    offer_id: str
    kind: str
    is_offered: bool
    is_decided: bool
    decided_by: list[str]
    framed_by: list[str]
    rows: list[dict[str, str]]


class ImpactView(View):
    """What a statement would touch."""

    conflicts: list[str]
    units: list[str]
    offers: list[str]
    campaigns: list[str]
    customers: int


class ProposalView(View):
    """A proposed statement and what became of it."""

    proposal_id: str
    unit_id: str
    policy_id: str
    statement: str | None
    state: str
    proposed_by: str
    proposed_at: datetime
    decided_by: str | None
    decided_at: datetime | None
    comment: str
    version: int


@router.get("/resolved-policies/{unit_id}/{offer_id}")
def resolve_policy(
    call: Annotated[Call, permitted("policy.read")], unit_id: str, offer_id: str
) -> ResolvedView:
    """Tell what holds for a unit and an offer, and which level said so."""
    with call.read() as work:
        return ResolvedView(**policy.resolve(call.service, work, unit_id, offer_id))


@router.post("/policy-impacts")
def foresee_policy(
    call: Annotated[Call, permitted("policy.edit")], body: StatementBody
) -> ImpactView:
    """Tell what a statement would touch; nothing is changed."""
    with call.read() as work:
        return ImpactView(**policy.foresee(call.service, work, body.statement))


@router.get("/policy-proposals")
def list_proposals(
    call: Annotated[Call, permitted("policy.read")],
    page: PageQuery,
    state: Literal["", "proposed", "accepted", "declined"] = "",
) -> Page[ProposalView]:
    """List proposals of your units, newest first."""
    with call.read() as work:
        return call.page(work, policy.find(state), page, ProposalView.model_validate)


@router.post("/policy-proposals", status_code=201)
def propose_policy(
    call: Annotated[Call, permitted("policy.edit")], body: ProposalBody
) -> ProposalView:
    """Propose a statement; somebody else puts it in force."""
    return call.create(
        lambda work: policy.propose(call.service, work, call.actor, body.statement, body.comment),
        ProposalView.model_validate,
        location=lambda view: f"/api/v1/policy-proposals/{view.proposal_id}",
    )


@router.get("/policy-proposals/{proposal_id}")
def get_proposal(call: Annotated[Call, permitted("policy.read")], proposal_id: str) -> ProposalView:
    """Return a proposal."""
    with call.read() as work:
        row = policy.get(work, proposal_id)
        return call.show(ProposalView.model_validate(row), row.version)


@router.post("/policy-proposals/{proposal_id}/acceptance")
def accept_proposal(
    call: Annotated[Call, permitted("policy.edit")], proposal_id: str
) -> ProposalView:
    """Put a proposal of somebody else in force."""
    with call.change() as work:
        row = policy.get(work, proposal_id)
        call.match(row.version)
        policy.accept(call.service, work, call.actor, row)
        return call.show(ProposalView.model_validate(row), row.version)


@router.post("/policy-proposals/{proposal_id}/refusal")
def decline_proposal(
    call: Annotated[Call, permitted("policy.edit")], proposal_id: str, body: DecisionBody
) -> ProposalView:
    """Decline a proposal, or take back your own."""
    with call.change() as work:
        row = policy.get(work, proposal_id)
        call.match(row.version)
        policy.decline(work, call.actor, row, body.comment)
        work.session.flush()
        return call.show(ProposalView.model_validate(row), row.version)
