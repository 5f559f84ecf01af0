"""Several levels, one campaign: the province frames, a city opens its own, or carries out hers.

Local innovation: a province publishes a frame, a city opens a plan of its own inside it. Unified
operation, two-level execution (统一运营 两级执行): one plan of the province, approved once, carried
out by city units, each with a plan of its own that holds the same content and its own counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.plan.content import checked_content
from bihuan.server.app.plan.draft import KINDS, NewPlan, get_plan, open_plan
from bihuan.server.app.plan.frame import checked_limits, departures
from bihuan.server.app.plan.gate import require_deployable
from bihuan.server.app.plan.machine import move, numbered
from bihuan.server.app.plan.reach import find_row, is_above
from bihuan.server.control import Plan, PlanFrame, PlanRevision, UnitOfWork


@dataclass(frozen=True, slots=True)
class NewFrame:
    """A frame as its maker writes it.

    Parameters
    ----------
    unit_id
        It holds for this unit's plans and those of the units below.
    kind
        Kind of plan.
    title
        ``{"zh": ..., "en": ...}``.
    limits
        See :mod:`bihuan.server.app.plan.frame`.
    template
        Content that a plan inside the frame begins with; may be empty.
    valid_until
        Last day on which plans may be opened and filed in it; None: open.
    """

    unit_id: str
    kind: str
    title: Mapping[str, str]
    limits: Sequence[Any]
    template: Mapping[str, Any]
    valid_until: date | None = None


def get_frame(work: UnitOfWork, frame_id: str) -> PlanFrame:
    """Return a frame.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    found = find_row(work, PlanFrame, frame_id)
    if found is None:
        raise missing("frame", "方案框架", frame_id)
    return found


def find_frames(work: UnitOfWork, *, state: str | None = None) -> sa.Select[Any]:
    """Return a select of the frames within reach."""
    statement = sa.select(PlanFrame)
    return statement if state is None else statement.where(PlanFrame.state == state)


def open_frame(work: UnitOfWork, actor: Actor, new: NewFrame) -> PlanFrame:
    """Write down a frame as a draft.

    Raises
    ------
    ContentError
        If a limit or the template has not the form of one.
    RefusedError
        If the template itself leaves the limits.
    """
    limits, template = _checked(new)
    frame = PlanFrame(
        frame_id=work.new_id("frame"),
        unit_id=new.unit_id,
        sharing="own",
        title_zh=new.title["zh"],
        title_en=new.title["en"],
        kind=new.kind,
        state="draft",
        limits=limits,
        template=template,
        created_by=actor.account_id,
        created_at=work.now,
        valid_until=new.valid_until,
    )
    work.session.add(frame)
    work.audit("frame.open", "frame", frame.frame_id, unit=new.unit_id)
    return frame


def edit_frame(work: UnitOfWork, actor: Actor, frame: PlanFrame, new: NewFrame) -> None:
    """Change a frame that is not published yet.

    Raises
    ------
    ConflictError
        If it is published or withdrawn: plans rest on it.
    """
    _require_frame_state(frame, "draft")
    frame.limits, frame.template = _checked(new)
    frame.title_zh, frame.title_en = new.title["zh"], new.title["en"]
    frame.kind, frame.valid_until = new.kind, new.valid_until
    work.audit("frame.edit", "frame", frame.frame_id)


def publish_frame(work: UnitOfWork, actor: Actor, frame: PlanFrame) -> None:
    """Publish a frame: every unit below sees it and may open plans in it; it is fixed now."""
    _require_frame_state(frame, "draft")
    frame.state, frame.sharing = "published", "down"
    frame.published_by, frame.published_at = actor.account_id, work.now
    work.audit("frame.publish", "frame", frame.frame_id)


def withdraw_frame(work: UnitOfWork, actor: Actor, frame: PlanFrame) -> None:
    """Withdraw a published frame: no plan is opened or filed in it any more."""
    _require_frame_state(frame, "published")
    frame.state = "withdrawn"
    work.audit("frame.withdraw", "frame", frame.frame_id)


def open_in_frame(
    work: UnitOfWork,
    actor: Actor,
    frame: PlanFrame,
    *,
    unit_id: str,
    title: Mapping[str, str],
    content: Mapping[str, Any] | None = None,
) -> Plan:
    """Open a plan of one's own inside a frame; it begins with the frame's template.

    Parameters
    ----------
    work, actor
        In the scope of ``plan.edit``.
    frame
        A published frame of the unit itself or of one above.
    unit_id, title
        Whose plan, and its name.
    content
        Parts that replace those of the template, field by field of ``campaign``.

    Raises
    ------
    FrameError
        If the content leaves the frame; lists fields and limits.
    """
    given = dict(content or {})
    merged = {**frame.template, **given}
    if "campaign" in frame.template or "campaign" in given:
        merged["campaign"] = {**frame.template.get("campaign", {}), **given.get("campaign", {})}
    new = NewPlan(
        unit_id=unit_id,
        kind=frame.kind,
        title=title,
        content=merged,
        frame_id=frame.frame_id,
        note=f"opened in frame {frame.frame_id}",
    )
    return open_plan(work, actor, new)


def open_children(work: UnitOfWork, actor: Actor, plan: Plan, units: Sequence[str]) -> list[Plan]:
    """Hand an approved plan to units below, each of which carries it out (两级执行).

    Each unit gets a plan of its own with the same content, under the same approval. Edited by the
    unit, it needs approvals of its own. Stops of the plan hold for all of them.

    Parameters
    ----------
    work, actor
        In the scope of ``plan.edit``.
    plan
        Deployable; it is executing afterwards.
    units
        Units below the plan's own; one that has it already keeps it.

    Raises
    ------
    NotApprovedError, StoppedError
        If the plan may not be deployed.
    NotFoundError
        If a unit is not below the plan's.
    """
    require_deployable(work, plan.plan_id)
    revision = work.session.get_one(PlanRevision, plan.revision_id)
    for unit in units:
        if unit == plan.unit_id or not is_above(work, plan.unit_id, unit):
            raise missing("unit below this plan's", "下级组织单元", unit)
    have = {child.unit_id for child in children_of(work, plan)}
    found = [
        _child(work, actor, plan, revision, unit) for unit in sorted(set(units)) if unit not in have
    ]
    if found and plan.state == "approved":
        move(
            work, plan, "deploy", facts={"deployable": True},
            comment="handed to " + ", ".join(child.unit_id for child in found),
        )  # fmt: skip
    return found


def _child(work: UnitOfWork, actor: Actor, plan: Plan, revision: PlanRevision, unit: str) -> Plan:
    child = Plan(
        plan_id=work.new_id("plan"),
        unit_id=unit,
        sharing="own",
        title_zh=plan.title_zh,
        title_en=plan.title_en,
        kind=plan.kind,
        state="approved",
        moves=0,
        content_hash=plan.content_hash,
        frame_id=plan.frame_id,
        parent_id=plan.plan_id,
        inherits=True,
        origin_id=plan.plan_id,
        origin_revision_id=plan.revision_id,
        created_by=actor.account_id,
        created_at=work.now,
        changed_at=work.now,
        valid_until=plan.valid_until,
        next_run_at=plan.next_run_at,
        starts_on=plan.starts_on,
        ends_on=plan.ends_on,
        budget=plan.budget,
        channels=plan.channels,
        words=plan.words,
        counts={},
        revision_id="",
    )
    copy = PlanRevision(
        revision_id=numbered(child, "v", 1),
        plan_id=child.plan_id,
        unit_id=unit,
        sharing="own",
        number=1,
        content=revision.content,
        content_hash=revision.content_hash,
        author_id=revision.author_id,
        note=f"carries out {plan.plan_id}",
        at=work.now,
    )
    child.revision_id = copy.revision_id
    work.session.add(child)
    work.session.flush()
    work.session.add(copy)
    work.audit("plan.hand_down", "plan", plan.plan_id, unit=unit, child=child.plan_id)
    return child


def children_of(work: UnitOfWork, plan: Plan) -> list[Plan]:
    """Return the plans of units that carry out ``plan``, as far as they are within reach."""
    statement = sa.select(Plan).where(Plan.parent_id == plan.plan_id).order_by(Plan.unit_id)
    return list(work.session.scalars(statement))


def record_counts(work: UnitOfWork, plan_id: str, counts: Mapping[str, int]) -> Plan:
    """Keep what a plan has done so far: whole numbers by name (planned, contacted, ordered, ...).

    Raises
    ------
    RefusedError
        If one is negative.
    """
    plan = get_plan(work, plan_id)
    if any(n < 0 for n in counts.values()):
        raise RefusedError(
            "Counts are whole numbers, 0 or more.",
            remedy="Correct them.",
            zh="计数须为非负整数，请更正。",
        )
    plan.counts = dict(counts)
    return plan


def counts_of(work: UnitOfWork, plan: Plan) -> dict[str, dict[str, int]]:
    """Return the counts by unit of everybody who carries out ``plan``, and their sum as ``all``.

    Only units within reach are counted.
    """
    found = {child.unit_id: dict(child.counts) for child in children_of(work, plan)}
    if plan.counts:
        found[plan.unit_id] = dict(plan.counts)
    names = {name for counts in found.values() for name in counts}
    return {
        **found,
        "all": {name: sum(c.get(name, 0) for c in found.values()) for name in sorted(names)},
    }


def _checked(new: NewFrame) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    if new.kind not in KINDS:
        raise RefusedError(
            f"'{new.kind}' is not a kind of plan.",
            remedy=f"Choose one of: {', '.join(KINDS)}.",
            zh=f"没有方案类别 {new.kind}，可选：{'、'.join(KINDS)}。",
        )
    limits, template = checked_limits(new.limits), checked_content(new.template)
    found = departures(limits, template, complete=False)
    if found:
        raise RefusedError(
            f"The template leaves its own frame: {'; '.join(map(str, found))}.",
            remedy="Correct template or limits.",
            zh=f"模板超出自身框架：{'；'.join(map(str, found))}。",
        )
    return limits, template


def _require_frame_state(frame: PlanFrame, state: str) -> None:
    if frame.state != state:
        raise ConflictError(
            f"Frame {frame.frame_id} is {frame.state}, not {state}.",
            remedy="Open a new frame instead of changing one that plans rest on.",
            zh=f"框架 {frame.frame_id} 当前状态为 {frame.state}，请新建框架。",
        )
