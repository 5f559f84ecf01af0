"""Policies over the org tree: what holds for a unit, who said so, and changing it by two people.

The statements stand in the workspace's policy files, where the loop reads them; who proposed and
who put them in force stands in the control database. A statement is checked against all others
when it is proposed and once more when it is put in force.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.service import Service
from bihuan.server.app.unit_scope import require_units
from bihuan.server.control import OrgUnit, PolicyProposal, UnitOfWork
from bihuan.strategy import Impact, PolicyChange


def resolve(service: Service, work: UnitOfWork, unit_id: str, offer_id: str) -> dict[str, Any]:
    """Return what holds for a unit of the caller and an offer, and which level said so.

    Raises
    ------
    NotFoundError
        If the unit is out of reach, or there is no such offer.
    """
    if work.session.get(OrgUnit, unit_id) is None:
        raise missing("org unit", "组织单元", unit_id)
    if offer_id not in {offer.offer_id for offer in service.workspace.catalogue}:
        raise missing("offer", "产品", offer_id)
    policy = service.workspace.policies.resolve(unit_id, offer_id)
    return {
        "unit_id": unit_id,
        "offer_id": offer_id,
        "kind": policy.kind,
        "is_offered": policy.is_offered,
        "is_decided": policy.is_decided,
        "decided_by": list(policy.decided_by),
        "framed_by": list(policy.framed_by),
        "rows": policy.rows(),
    }


def foresee(service: Service, work: UnitOfWork, statement: str) -> dict[str, Any]:
    """Say what a statement (YAML) of one of the caller's units would touch; change nothing."""
    wanted = service.workspace.policies.statement(statement)
    require_units(work, [wanted.unit_id])  # a policy is not laid down from below
    return _told(service.workspace.policies.what_if(PolicyChange.put(wanted)))


def propose(
    service: Service, work: UnitOfWork, actor: Actor, statement: str, comment: str
) -> PolicyProposal:
    """Propose a statement (YAML) for a unit; it changes nothing until somebody else accepts it.

    Raises
    ------
    DocumentError
        If the statement is not as it should be; the message names the field.
    RefusedError
        If it conflicts with a policy above or below.
    """
    wanted = service.workspace.policies.statement(statement)
    require_units(work, [wanted.unit_id])  # a policy is not laid down from below
    _refuse_conflicts(service.workspace.policies.what_if(PolicyChange.put(wanted)))
    row = PolicyProposal(
        proposal_id=work.new_id("proposal"),
        unit_id=wanted.unit_id,
        policy_id=wanted.policy_id,
        statement=statement,
        state="proposed",
        proposed_by=actor.account_id,
        proposed_at=work.now,
        comment=comment,
    )
    work.session.add(row)
    work.audit(
        "policy.propose", "policy", wanted.policy_id, proposal=row.proposal_id, statement=statement
    )
    return row


def get(work: UnitOfWork, proposal_id: str) -> PolicyProposal:
    """Return a proposal.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    row = work.session.get(PolicyProposal, proposal_id)
    if row is None:
        raise missing("policy proposal", "政策提案", proposal_id)
    return row


def find(state: str = "") -> sa.Select[PolicyProposal]:
    """Return the select of proposals, all or those of one state."""
    statement = sa.select(PolicyProposal)
    return statement.where(PolicyProposal.state == state) if state else statement


def accept(service: Service, work: UnitOfWork, actor: Actor, row: PolicyProposal) -> None:
    """Put a proposal in force: written into the policy files, for the next decision on.

    Writing is the last thing before the commit, and writing the same statement twice changes
    nothing, so a crash in between is mended by accepting again.

    Raises
    ------
    RefusedError
        If the caller proposed it, or it has come to conflict with another policy.
    ConflictError
        If it was decided before.
    """
    _require_open(row)
    _require_another(actor, row)
    _decide(work, actor, row, "accepted", row.comment)
    work.session.flush()
    assert row.statement is not None
    impact = service.workspace.policies.what_if(
        PolicyChange.put(service.workspace.policies.statement(row.statement))
    )
    _refuse_conflicts(impact)
    service.workspace.policies.put(row.statement)


def decline(work: UnitOfWork, actor: Actor, row: PolicyProposal, comment: str) -> None:
    """Decline a proposal, or take back one's own.

    Raises
    ------
    ConflictError
        If it was decided before.
    """
    _require_open(row)
    _decide(work, actor, row, "declined", comment)


def _decide(work: UnitOfWork, actor: Actor, row: PolicyProposal, state: str, comment: str) -> None:
    row.state, row.decided_by, row.decided_at, row.comment = (
        state, actor.account_id, work.now, comment,
    )  # fmt: skip
    work.audit(f"policy.{state}", "policy", row.policy_id, proposal=row.proposal_id)


def _require_open(row: PolicyProposal) -> None:
    if row.state != "proposed":
        raise ConflictError(
            f"The proposal was {row.state} before.",
            remedy="Read it again; propose anew if you still want a change.",
            zh="该提案已有结论，请刷新；如仍需调整请重新提出。",
        )


def _require_another(actor: Actor, row: PolicyProposal) -> None:
    if actor.account_id == row.proposed_by:
        raise RefusedError(
            "Who proposes a policy does not put it in force.",
            remedy="Ask a colleague who holds policy.edit for the unit.",
            zh="提案人不能自行生效，请由其他有权限的同事确认。",
        )


def _refuse_conflicts(impact: Impact) -> None:
    if impact.conflicts:
        raise RefusedError(
            "It conflicts: " + "; ".join(str(conflict) for conflict in impact.conflicts[:3]) + ".",
            remedy="Keep within what the levels above allow, or have them change it first.",
            zh="与上级或下级政策冲突："
            + "；".join(str(conflict) for conflict in impact.conflicts[:3])
            + "。请在上级框架内调整。",
        )


def _told(impact: Impact) -> dict[str, Any]:
    return {
        "conflicts": [str(conflict) for conflict in impact.conflicts],
        "units": list(impact.units),
        "offers": list(impact.offers),
        "campaigns": [str(touched.campaign_id) for touched in impact.campaigns],
        "customers": impact.customer_count,
    }
