"""Designed schemes on record, and their way into the plan workflow."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import sqlalchemy as sa

from bihuan.kernel import Progress
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, missing
from bihuan.server.app.indicator import newest_month
from bihuan.server.app.plan.draft import NewPlan, open_plan
from bihuan.server.app.scheme.design import Proposal, propose_scheme
from bihuan.server.app.scheme.terms import parse_terms
from bihuan.server.app.service import Service
from bihuan.server.app.unit_scope import require_units
from bihuan.server.control import Scheme, UnitOfWork

_PLAN_KINDS = {
    "plan": "upgrade", "addon": "pack", "contract": "retention", "vas": "service",
    "device": "terminal", "service": "care", "leased_line": "leased_line",
}  # fmt: skip


def design_scheme(  # noqa: PLR0913 - who, for what and whom, on which terms, and how it is told
    service: Service,
    actor: Actor,
    product: str,
    *,
    unit_id: str,
    terms: Mapping[str, Any],
    as_of: date | None = None,
    draft: bool = True,
    progress: Progress | None = None,
    request_id: str = "",
) -> Scheme:
    """Design a scheme from the data and leave it as a draft ready for filing, in one call.

    Refresh the tags, score, propose, rehearse, draft; for a schedule as for a person.

    Parameters
    ----------
    service
        The running service.
    actor
        On whose behalf; needs ``plan.edit`` over the unit.
    product
        An offer id, or a product that offers carry.
    unit_id
        Whose customers, and who owns the plan.
    terms
        See :func:`bihuan.server.app.scheme.terms.parse_terms`.
    as_of
        Date of the data; None: the newest.
    draft
        Whether a plan is drafted from it.
    progress
        Where the work is reported; None: the workspace's.
    request_id
        Of the request or job.

    Returns
    -------
    Scheme
        With ``plan_id`` where a plan was drafted.
    """
    proposal = propose(
        service, actor, product, unit_id=unit_id, terms=terms, as_of=as_of, progress=progress
    )
    with service.work(actor, "plan.edit", request_id=request_id) as work:
        scheme = keep_scheme(work, actor, proposal, terms)
        if draft:
            draft_plan(work, service, actor, scheme)
        return scheme


def propose(  # noqa: PLR0913 - as for design_scheme
    service: Service,
    actor: Actor,
    product: str,
    *,
    unit_id: str,
    terms: Mapping[str, Any],
    as_of: date | None = None,
    progress: Progress | None = None,
) -> Proposal:
    """Design without keeping anything; the unit must be one for which the actor may plan."""
    with service.work(actor, "plan.edit", read_only=True) as work:
        require_units(work, [unit_id])
    day = as_of or newest_month(service)
    return propose_scheme(
        service, product, unit_id, parse_terms(terms), as_of=day, progress=progress
    )


def keep_scheme(
    work: UnitOfWork, actor: Actor, proposal: Proposal, terms: Mapping[str, Any]
) -> Scheme:
    """Put a proposal on record; units below see it."""
    row = Scheme(
        scheme_id=work.new_id("scheme"), unit_id=proposal.unit_id, sharing="down",
        product=proposal.product, title_zh=proposal.title["zh"], title_en=proposal.title["en"],
        as_of=proposal.as_of, terms=dict(terms), content=proposal.content,
        proposal=proposal.to_json(), made_by=actor.account_id, made_at=work.now,
    )  # fmt: skip
    work.session.add(row)
    work.session.flush()
    work.audit(
        "scheme.design", "scheme", row.scheme_id, product=row.product,
        threshold=proposal.line.threshold, customers=proposal.forecast.customers,
    )  # fmt: skip
    return row


def draft_plan(work: UnitOfWork, service: Service, actor: Actor, scheme: Scheme) -> Scheme:
    """Draft a plan from a scheme: the workflow of analysis, filing and approval goes on there.

    Raises
    ------
    ConflictError
        If there is one.
    """
    if scheme.plan_id is not None:
        raise ConflictError(
            "A plan was drafted from this scheme already.",
            remedy=f"Open plan {scheme.plan_id}.",
            zh=f"该方案设计已生成方案草稿 {scheme.plan_id}，请直接打开。",
        )
    first = scheme.content["campaign"]["mix"][0]["offer"]
    kind = _PLAN_KINDS.get(service.workspace.catalogue.get(first).kind, "other")
    plan = open_plan(
        work, actor,
        NewPlan(scheme.unit_id, kind, {"zh": scheme.title_zh, "en": scheme.title_en},
                scheme.content, note=f"scheme {scheme.scheme_id}"),
    )  # fmt: skip
    scheme.plan_id = plan.plan_id
    work.session.flush()
    work.audit("scheme.draft", "scheme", scheme.scheme_id, plan_id=plan.plan_id)
    return scheme


def get_scheme(work: UnitOfWork, scheme_id: str) -> Scheme:
    """Return a scheme by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(Scheme, scheme_id)
    if row is None:
        raise missing("scheme", "方案设计", scheme_id)
    return row


def find_schemes(product: str | None = None) -> sa.Select[Scheme]:
    """Return a select of schemes."""
    statement = sa.select(Scheme)
    return statement if product is None else statement.where(Scheme.product == product)
