"""Kinds about campaigns: rehearsal, evaluation, report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import date
from typing import Any

from pydantic import Field, model_validator

from bihuan.evaluation import Effect
from bihuan.kernel import NotEstimable
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.job import Arguments, JobContext, Kind
from bihuan.server.app.plan.content import parsed_campaign
from bihuan.server.app.plan.draft import current_revision, get_plan, record_rehearsal
from bihuan.server.app.work_kinds.day import day_of_tags
from bihuan.server.control import UnitOfWork
from bihuan.strategy import Campaign


class Rehearse(Arguments):
    """A campaign played through before anybody is contacted."""

    campaign_id: str | None = Field(
        None, min_length=1, max_length=64, description="A file in campaigns/; or a plan:"
    )
    plan_id: str | None = Field(
        None, min_length=1, max_length=64, description="A plan; its rehearsal is recorded."
    )
    as_of: date | None = Field(None, description="None: the newest date of the tags.")
    sample: int | None = Field(None, ge=1, description="Customers to rehearse; None: all.")
    seed: int | None = Field(None, description="None: the workspace's.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Rehearse:
        if (self.campaign_id is None) == (self.plan_id is None):
            msg = "name either a campaign or a plan"
            raise ValueError(msg)
        return self


class Evaluate(Arguments):
    """A campaign judged by what customers did afterwards."""

    campaign_id: str = Field(min_length=1, max_length=64)
    as_of: date = Field(description="Date of the data on which it was decided.")
    responses_as_of: date = Field(description="Date of the data that shows the responses.")


def run_rehearsal(context: JobContext, arguments: Rehearse) -> Mapping[str, Any]:
    """Rehearse a campaign and file the result; nothing is decided, nothing is sent."""
    day = day_of_tags(context, arguments.as_of)
    plan = None if arguments.plan_id is None else _plan_content(context, arguments.plan_id)

    def play() -> dict[str, Any]:
        ws = context.workspace
        campaign: str | Campaign = arguments.campaign_id or ""
        if plan is not None:
            campaign = parsed_campaign(plan["content"], ws.catalogue)
        rehearsal = ws.rehearsals.run(campaign, day, sample=arguments.sample, seed=arguments.seed)
        return {
            "rehearsal_id": rehearsal.rehearsal_id,
            "content_id": rehearsal.content_id,
            "judgements": {j.name: j.verdict for j in rehearsal.judgements},
        }

    played: dict[str, Any] = context.step("rehearse", {"zh": "方案预演", "en": "Rehearse"}, play)
    if plan is not None:
        context.effect("record", lambda work: _record(context, work, plan, played))
    about = arguments.model_dump(include={"campaign_id", "plan_id"}, exclude_none=True)
    return {**about, "as_of": day.isoformat(), **played}


def _plan_content(context: JobContext, plan_id: str) -> dict[str, Any]:
    """Return the plan's content as the job found it first; the same after a take-over."""

    def read() -> dict[str, Any]:
        with context.work(read_only=True) as work:
            plan = get_plan(work, plan_id)
            content = current_revision(work, plan).content
            return {"plan_id": plan_id, "hash": plan.content_hash, "content": dict(content)}

    found: dict[str, Any] = context.run_step("plan", read)
    return found


def _record(
    context: JobContext, work: UnitOfWork, plan: Mapping[str, Any], played: Mapping[str, Any]
) -> dict[str, Any]:
    if context.actor is None:
        raise RefusedError(
            "A plan's rehearsal needs somebody who answers for it.",
            remedy="Submit it as an account with the role planner.",
            zh="方案预演需要责任人，请以策划账号提交。",
        )
    rehearsal = context.workspace.rehearsals.get(str(played["rehearsal_id"]))
    record = record_rehearsal(
        work, context.actor, get_plan(work, plan["plan_id"]), json.loads(rehearsal.to_json()),
        content_hash=plan["hash"],
    )  # fmt: skip
    return {"record_id": record.record_id, "verdict": record.verdict}


def run_evaluation(context: JobContext, arguments: Evaluate) -> Mapping[str, Any]:
    """Judge a campaign: effect against its control group, worth, cost."""

    def judge() -> dict[str, Any]:
        judgement = context.workspace.evaluate(
            arguments.campaign_id, arguments.as_of, arguments.responses_as_of
        )
        total = judgement.roi.total
        return {
            "effect": _told(judgement.effect),
            "worth": _told(judgement.worth),
            "contacts": total.contacts,
            "orders": total.orders,
            "cost": total.cost,
        }

    judged: dict[str, Any] = context.step("evaluate", {"zh": "效果评估", "en": "Evaluate"}, judge)
    return {"campaign_id": arguments.campaign_id, **judged}


def run_report(context: JobContext, arguments: Evaluate) -> Mapping[str, Any]:
    """Write the campaign's report as HTML and PDF under ``reports/``."""
    root = context.workspace.layout.root

    def write() -> list[str]:
        paths = context.workspace.report(
            arguments.campaign_id, arguments.as_of, arguments.responses_as_of
        )
        return [path.relative_to(root).as_posix() for path in paths]

    files: list[str] = context.step("report", {"zh": "撰写报告", "en": "Write the report"}, write)
    return {"campaign_id": arguments.campaign_id, "files": files}


def _told(effect: Effect | NotEstimable) -> dict[str, Any]:
    if isinstance(effect, NotEstimable):
        return {"reason": dict(effect.reason)}
    return {"estimate": effect.estimate, "low": effect.low, "high": effect.high}


KINDS = (
    Kind("rehearsal", {"zh": "方案预演", "en": "rehearsal"}, "plan.edit", Rehearse, run_rehearsal),
    Kind("evaluation", {"zh": "效果评估", "en": "evaluation"}, "job.run", Evaluate, run_evaluation),
    Kind("report", {"zh": "评估报告", "en": "report"}, "job.run", Evaluate, run_report),
)  # fmt: skip
