"""Kinds about plans: a scheme designed as one run, and regular plans that have come due."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import sqlalchemy as sa
from pydantic import Field

from bihuan.server.app.deployment import find_deployments
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.job import Arguments, JobContext, Kind, get_kind
from bihuan.server.app.job.submit import SYSTEM, put
from bihuan.server.app.plan.regular import open_due_runs
from bihuan.server.app.scheme import draft_plan, keep_scheme, propose
from bihuan.server.app.work_kinds.day import resolve_day
from bihuan.server.control import Plan, PlanRun, UnitOfWork

NOTHING_NEW = "the data are those of an earlier run"


class SchemeDesign(Arguments):
    """A scheme designed from the data and, unless not wanted, drafted as a plan."""

    product: str = Field(min_length=1, max_length=64, description="An offer id or a product.")
    unit_id: str | None = Field(
        None, min_length=1, max_length=64, description="Whose customers; None: the job's unit."
    )
    terms: dict[str, Any] = Field(description="The order, as for POST /schemes.")
    as_of: date | None = Field(None, description="Date of the data; None: the newest.")
    draft: bool = Field(True, description="Whether a plan is drafted from it.")


class RegularPlans(Arguments):
    """Regular plans whose time has come: each is opened and deployed once, on the newest data."""


def run_scheme_design(context: JobContext, arguments: SchemeDesign) -> Mapping[str, Any]:
    """Refresh tags, score, propose, rehearse, draft; what is kept is kept once."""
    actor, service = context.actor, context.own_service
    if actor is None:
        raise RefusedError(
            "A scheme needs somebody who answers for it.",
            remedy="Submit it as an account with the role planner.",
            zh="方案设计需要责任人，请以策划账号提交。",
        )
    unit = arguments.unit_id or context.claimed.unit_id

    def design() -> dict[str, Any]:
        proposal = propose(
            service, actor, arguments.product, unit_id=unit, terms=arguments.terms,
            as_of=arguments.as_of, progress=context.progress,
        )  # fmt: skip

        def keep(work: UnitOfWork) -> dict[str, Any]:
            scheme = keep_scheme(work, actor, proposal, arguments.terms)
            if arguments.draft:
                draft_plan(work, service, actor, scheme)
            return {"scheme_id": scheme.scheme_id, "plan_id": scheme.plan_id,
                    "as_of": proposal.as_of.isoformat()}  # fmt: skip

        return context.effect("keep", keep)

    done: dict[str, Any] = context.step("design", {"zh": "方案设计", "en": "Design"}, design)
    return {"product": arguments.product, "unit_id": unit, **done}


def run_regular_plans(context: JobContext, arguments: RegularPlans) -> Mapping[str, Any]:
    """Open the runs that are due, whoever's plans they are, and have each deployed by a job.

    The times and the content were approved with the plan, so the clock alone decides; the result
    tells the runs of plans within the reach of who looks after the schedule.
    """
    del arguments
    day = resolve_day(context, None, "customer")

    def opened(work: UnitOfWork) -> dict[str, Any]:
        return {"runs": [_begin(work, run, day) for run in open_due_runs(work)]}

    def begin() -> dict[str, Any]:
        context.progress.reins.check()
        with context.service.system_work(request_id=context.job_id) as work:
            return context.fence.once(work, "open", opened)

    found: dict[str, Any] = context.step(
        "open", {"zh": "启动常态化方案", "en": "Begin regular plans"}, begin
    )
    with context.work(read_only=True) as work:
        mine = set(work.session.scalars(sa.select(Plan.plan_id)))
    runs = [run for run in found["runs"] if run["plan_id"] in mine]
    return {"as_of": day.isoformat(), "runs": runs, "elsewhere": len(found["runs"]) - len(runs)}


def _begin(work: UnitOfWork, run: PlanRun, day: date) -> dict[str, Any]:
    job_id = None
    if run.state == "open" and _is_done(work, run, day):
        run.state, run.reason = "missed", NOTHING_NEW
    if run.state == "open":
        job_id = put(
            work, get_kind("deployment"), {"plan_id": run.plan_id, "as_of": day.isoformat()},
            owner_id=SYSTEM, unit_id=run.unit_id, dedupe=f"plan-run:{run.run_id}",
        ).job_id  # fmt: skip
    moment = None if run.due_at is None else run.due_at.isoformat()
    return {"plan_id": run.plan_id, "run_id": run.run_id, "due_at": moment, "state": run.state,
            "reason": run.reason, "job_id": job_id}  # fmt: skip


def _is_done(work: UnitOfWork, run: PlanRun, day: date) -> bool:
    """Tell whether this content was carried out on these data: again would send it again."""
    return any(
        (row.as_of, row.content_hash) == (day, run.content_hash)
        for row in work.session.scalars(find_deployments(run.plan_id))
    )


KINDS = (
    Kind("scheme_design", {"zh": "方案设计", "en": "design of a scheme"}, "plan.edit",
         SchemeDesign, run_scheme_design),
    Kind("regular_plans", {"zh": "常态化方案", "en": "regular plans"}, "deployment.run",
         RegularPlans, run_regular_plans),
)  # fmt: skip
