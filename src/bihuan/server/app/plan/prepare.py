"""What a plan needs of the workspace: its campaign checked, its rules looked up, a rehearsal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.plan.approval import FilingTerms
from bihuan.server.app.plan.content import is_complete, parsed_campaign
from bihuan.server.app.plan.draft import current_revision, get_plan
from bihuan.server.app.plan.machine import COMPLETE, UnmetGuardError, require_allowed
from bihuan.server.app.service import Service
from bihuan.strategy import Campaign


class PolicyError(RefusedError):
    """The campaign cannot run as planned by the policies in force."""


@dataclass(frozen=True, slots=True)
class RehearsalWish:
    """How a plan is rehearsed.

    Parameters
    ----------
    as_of
        Date of the data.
    sample
        Customers (int) or share of them (float); None: all.
    confirmed
        Preconditions (English text) that a person has confirmed.
    """

    as_of: date
    sample: int | float | None = None
    confirmed: frozenset[str] = frozenset()


def run_rehearsal(
    service: Service, actor: Actor, plan_id: str, wish: RehearsalWish
) -> tuple[dict[str, Any], str]:
    """Rehearse a plan's present content and record nothing yet.

    The rehearsal itself holds no transaction; it may take long.

    Returns
    -------
    (result, content_hash)
        For :func:`~bihuan.server.app.plan.draft.record_rehearsal`.

    Raises
    ------
    UserError
        If the campaign is wrong, may not run, or its audience is empty; says which.
    """
    with service.work(actor, "plan.edit", read_only=True) as work:
        plan = get_plan(work, plan_id)
        require_allowed(plan, "rehearse")
        content, content_hash = current_revision(work, plan).content, plan.content_hash
    campaign = require_campaign(service, content)
    rehearsal = service.workspace.rehearsals.run(
        campaign, wish.as_of, sample=wish.sample, against=("history",), confirmed=wish.confirmed
    )
    return dict(json.loads(rehearsal.to_json())), content_hash


def require_campaign(service: Service, content: Mapping[str, Any]) -> Campaign:
    """Return the campaign of a content that is complete, held against the workspace's offers.

    Raises
    ------
    UnmetGuardError
        If a part is missing.
    ContentError, UserError
        If a field is wrong or names an unknown offer.
    """
    if not is_complete(content):
        raise UnmetGuardError(
            f"The plan cannot be used yet: {COMPLETE.en}.",
            remedy=COMPLETE.remedy_en,
            zh=f"{COMPLETE.zh}。{COMPLETE.remedy_zh}",
        )
    return parsed_campaign(content, service.workspace.catalogue)


def filing_terms(service: Service, content: Mapping[str, Any]) -> FilingTerms:
    """Return by what rules a content is filed: thresholds, and who decides on its kinds of offer.

    Raises
    ------
    PolicyError
        If the policies forbid the campaign as a whole; says which.
    UserError
        As for :func:`require_campaign`.
    """
    campaign = require_campaign(service, content)
    workspace, settings = service.workspace, service.settings
    tiers: list[tuple[str, ...]] = []
    if workspace.policies.files:
        book = workspace.policies.book()
        blocking = [v for v in book.check_campaign(campaign) if v.is_blocking]
        if blocking:
            raise PolicyError(
                "The policies forbid this plan: "
                + " ".join(violation.message["en"] for violation in blocking[:5]),
                remedy="Change the plan, or ask the unit that laid the policy down.",
                zh="方案违反现行策略规则：" + "".join(v.message["zh"] for v in blocking[:5]),
            )
        kinds = sorted({workspace.catalogue.get(item.offer_id).kind for item in campaign.mix})
        tiers = [book.authority.of(kind).detail for kind in kinds]
    return FilingTerms(
        review_customers=settings.review_customers,
        review_budget=Decimal(str(settings.review_budget)),
        tiers=tuple(tiers),
    )
