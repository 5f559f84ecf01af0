"""The plan library (方案库): found, compared, copied, rated; good cases shared with effect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.plan.content import Change, differences
from bihuan.server.app.plan.draft import NewPlan, current_revision, get_plan, open_plan
from bihuan.server.app.plan.reach import find_row
from bihuan.server.app.plan.result import last_result
from bihuan.server.control import (
    GoodCase,
    Plan,
    PlanRevision,
    ReaderMark,
    UnitOfWork,
    below,
)

SHAREABLE = ("approved", "executing", "paused", "completed", "evaluated", "library")
SHARING = ("own", "down", "all")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to look for; what is None is not asked.

    Parameters
    ----------
    text
        Words, all of which must stand in title, goal, audience or offers, in either language.
    state
        State of the plan.
    kind, channel, result
        Kind of plan, a channel kind that it uses, what was measured.
    unit_id
        Owner: this unit or one below.
    since, until
        The campaign's period meets these days.
    frame_id, origin_id
        Opened in this frame; copied from this plan.
    """

    text: str | None = None
    state: str | None = None
    kind: str | None = None
    channel: str | None = None
    result: str | None = None
    unit_id: str | None = None
    since: date | None = None
    until: date | None = None
    frame_id: str | None = None
    origin_id: str | None = None


def find_plans(work: UnitOfWork, wanted: Wanted) -> sa.Select[Any]:
    """Return a select of the plans within reach (own, and what others share) that are wanted."""
    statement = matching(sa.select(Plan), Plan.words, wanted.text)
    for column, value in (
        (Plan.state, wanted.state),
        (Plan.kind, wanted.kind),
        (Plan.result, wanted.result),
        (Plan.frame_id, wanted.frame_id),
        (Plan.origin_id, wanted.origin_id),
    ):
        if value is not None:
            statement = statement.where(column == value)
    if wanted.channel is not None:
        statement = statement.where(Plan.channels.contains(f",{wanted.channel},", autoescape=True))
    if wanted.unit_id is not None:
        statement = statement.where(Plan.unit_id.in_(below(frozenset((wanted.unit_id,)))))
    if wanted.since is not None:
        statement = statement.where(Plan.ends_on >= wanted.since)
    if wanted.until is not None:
        statement = statement.where(Plan.starts_on <= wanted.until)
    return statement


def matching(
    statement: sa.Select[Any], words: sa.orm.InstrumentedAttribute[str], text: str | None
) -> sa.Select[Any]:
    """Narrow a select to rows whose ``words`` hold every word of ``text``, case-folded."""
    for word in (text or "").casefold().split()[:20]:
        statement = statement.where(words.contains(word, autoescape=True))
    return statement


def revisions_of(work: UnitOfWork, plan: Plan) -> sa.Select[Any]:
    """Return a select of a plan's revisions within reach."""
    return sa.select(PlanRevision).where(PlanRevision.plan_id == plan.plan_id)


def get_revision(work: UnitOfWork, plan: Plan, number: int) -> PlanRevision:
    """Return one revision of a plan by its number.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    found: PlanRevision | None = work.session.scalars(
        revisions_of(work, plan).where(PlanRevision.number == number)
    ).one_or_none()
    if found is None:
        raise missing("revision", "方案版本", f"{plan.plan_id}/{number}")
    return found


def compare_revisions(work: UnitOfWork, plan: Plan, old: int, new: int) -> tuple[Change, ...]:
    """Return every field in which two revisions of a plan differ."""
    first, second = get_revision(work, plan, old), get_revision(work, plan, new)
    return differences(first.content, second.content)


def compare_plans(work: UnitOfWork, old: Plan, new: Plan) -> tuple[Change, ...]:
    """Return every field in which the present contents of two plans differ."""
    return differences(current_revision(work, old).content, current_revision(work, new).content)


def share_plan(work: UnitOfWork, actor: Actor, plan: Plan, sharing: str) -> None:
    """Show an approved plan to the units below (``down``), to all, or to its own level only.

    An edit takes the sharing back: what was shared is what was approved.

    Raises
    ------
    RefusedError
        If the plan is not approved, or there is no such sharing.
    """
    if sharing not in SHARING or (sharing != "own" and plan.state not in SHAREABLE):
        raise RefusedError(
            f"A plan that is {plan.state} is not shared as '{sharing}'.",
            remedy=f"Share approved plans, as one of: {', '.join(SHARING)}.",
            zh="只有已批准的方案可以共享，方式为 own、down 或 all。",
        )
    revision = current_revision(work, plan)
    plan.sharing = revision.sharing = sharing
    plan.moves += 1
    work.audit("plan.share", "plan", plan.plan_id, sharing=sharing)


@dataclass(frozen=True, slots=True)
class Copy:
    """How a plan is copied.

    Parameters
    ----------
    unit_id
        Owner of the new plan.
    title
        ``{"zh": ..., "en": ...}``.
    campaign_id
        Name of the new campaign; None: that of the origin.
    frame_id
        A frame that the new plan keeps within.
    changes
        Fields of ``campaign`` that the new plan says otherwise.
    """

    unit_id: str
    title: Mapping[str, str]
    campaign_id: str | None = None
    frame_id: str | None = None
    changes: Mapping[str, Any] = field(default_factory=dict)


def copy_as_template(work: UnitOfWork, actor: Actor, origin: Plan | GoodCase, copy: Copy) -> Plan:
    """Begin a new plan from another one or from a good case; it keeps a reference to its origin.

    The market analysis, audience counts and schedule of the origin are not taken over: they are
    of another time and place. The use counts for the origin.
    """
    if isinstance(origin, Plan):
        revision = current_revision(work, origin)
        content, revision_id = revision.content, revision.revision_id
    else:
        content, revision_id = origin.content, origin.revision_id
    taken = {k: v for k, v in content.items() if k not in ("analysis", "audience", "schedule")}
    campaign = {**taken.get("campaign", {}), **copy.changes}
    if copy.campaign_id is not None:
        campaign["campaign_id"] = copy.campaign_id
    new = NewPlan(
        unit_id=copy.unit_id,
        kind=origin.kind,
        title=copy.title,
        content={**taken, "campaign": campaign},
        frame_id=copy.frame_id,
        note=f"copied from {origin.plan_id}",
    )
    plan = open_plan(work, actor, new, origin_id=origin.plan_id, origin_revision_id=revision_id)
    _mark(work, actor, ("plan", origin.plan_id), "use", 1, once=plan.plan_id)
    if isinstance(origin, GoodCase):
        _mark(work, actor, ("case", origin.case_id), "use", 1, once=plan.plan_id)
    return plan


def share_case(
    work: UnitOfWork, actor: Actor, plan: Plan, *, lesson: str, sharing: str = "all"
) -> GoodCase:
    """Share a measured plan as a good case (优质案例), its effect attached.

    Parameters
    ----------
    work, actor, plan
        In the scope of ``plan.share``; evaluated or in the library.
    lesson
        What others can learn from it.
    sharing
        ``all`` or ``down``.

    Raises
    ------
    RefusedError
        If nothing was measured, or its effect is not above nought.
    ConflictError
        If it is shared already.
    """
    result = last_result(work, plan)
    if result is None or result.result != "positive":
        raise RefusedError(
            "A good case has a measured effect above nought.",
            remedy="Record the evaluation; share other experience in the knowledge base.",
            zh="优质案例须有经测量的正效果；其他经验请写入知识库。",
        )
    if sharing not in ("all", "down"):
        raise RefusedError(
            "A good case is shared with all or downward.",
            remedy="Choose all or down.",
            zh="优质案例的共享范围为 all 或 down。",
        )
    shared = sa.select(GoodCase).where(GoodCase.plan_id == plan.plan_id, GoodCase.state == "shared")
    if work.session.scalars(shared).first() is not None:
        raise ConflictError(
            f"Plan {plan.plan_id} is shared as a good case already.",
            remedy="Withdraw that case first.",
            zh=f"方案 {plan.plan_id} 已作为优质案例共享。",
        )
    case = GoodCase(
        case_id=work.new_id("case"),
        plan_id=plan.plan_id,
        unit_id=plan.unit_id,
        sharing=sharing,
        revision_id=result.revision_id,
        content_hash=result.content_hash,
        result_id=result.result_id,
        kind=plan.kind,
        title_zh=plan.title_zh,
        title_en=plan.title_en,
        lesson=lesson,
        content=work.session.get_one(PlanRevision, result.revision_id).content,
        measured={
            "metric": result.metric,
            "response": result.response,
            "effect": [result.effect, result.effect_low, result.effect_high],
            "roi": [result.roi, result.roi_low, result.roi_high],
            "treated": result.treated,
            "held_out": result.held_out,
        },
        words=f"{plan.words}\n{lesson.casefold()}",
        state="shared",
        shared_by=actor.account_id,
        shared_at=work.now,
    )
    work.session.add(case)
    work.audit("plan.share_case", "case", case.case_id, plan=plan.plan_id, sharing=sharing)
    return case


def find_cases(
    work: UnitOfWork, *, text: str | None = None, kind: str | None = None
) -> sa.Select[Any]:
    """Return a select of the good cases within reach."""
    statement = matching(sa.select(GoodCase), GoodCase.words, text)
    statement = statement.where(GoodCase.state == "shared")
    return statement if kind is None else statement.where(GoodCase.kind == kind)


def get_case(work: UnitOfWork, case_id: str) -> GoodCase:
    """Return a good case.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    found = find_row(work, GoodCase, case_id)
    if found is None:
        raise missing("good case", "优质案例", case_id)
    return found


def find_origin(work: UnitOfWork, *, plan_id: str | None, case_id: str | None) -> Plan | GoodCase:
    """Return what a new plan is copied from.

    Raises
    ------
    RefusedError
        If both or neither is named.
    NotFoundError
        If it is not within reach.
    """
    if plan_id is not None and case_id is None:
        return get_plan(work, plan_id)
    if case_id is not None and plan_id is None:
        return get_case(work, case_id)
    raise RefusedError(
        "A plan is copied from one plan or one good case.",
        remedy="Give plan_id or case_id.",
        zh="请指定一个方案或一个优质案例作为模板。",
    )


def withdraw_case(work: UnitOfWork, actor: Actor, case: GoodCase) -> None:
    """Take a good case out of sight of others; its unit keeps it."""
    case.state, case.sharing = "withdrawn", "own"
    work.audit("plan.withdraw_case", "case", case.case_id)


def rate(work: UnitOfWork, actor: Actor, subject: Plan | GoodCase, stars: int) -> None:
    """Rate a plan or case with 1 to 5 stars; a second rating of the same account replaces it.

    Raises
    ------
    RefusedError
        If it is not 1 to 5.
    """
    if not 1 <= stars <= 5:
        raise RefusedError(
            "A rating is 1 to 5 stars.", remedy="Choose 1 to 5.", zh="评分须为 1 至 5 星。"
        )
    _mark(work, actor, subject_of(subject), "rating", stars)


def subject_of(subject: Plan | GoodCase) -> tuple[str, str]:
    """Return what marks on ``subject`` are kept under."""
    if isinstance(subject, GoodCase):
        return "case", subject.case_id
    return "plan", subject.plan_id


@dataclass(frozen=True, slots=True)
class Marks:
    """What readers made of something.

    Parameters
    ----------
    uses
        Plans copied from it.
    ratings
        How many rated it.
    stars
        Their mean, 1 to 5; None without ratings.
    helpful, unhelpful
        Votes.
    """

    uses: int = 0
    ratings: int = 0
    stars: float | None = None
    helpful: int = 0
    unhelpful: int = 0


def marks_of(work: UnitOfWork, kind: str, ids: Sequence[str]) -> dict[str, Marks]:
    """Return the marks by subject; counted over all units, for they say nothing on persons.

    Parameters
    ----------
    work
        The unit of work.
    kind
        ``plan``, ``case`` or ``entry``.
    ids
        Subjects; one without marks has zeros.
    """
    with work.beyond("counts over all readers"):
        positive = ReaderMark.value > sa.literal_column("0")  # one text in both its places
        statement = (
            sa.select(
                ReaderMark.subject_id,
                ReaderMark.mark,
                positive,
                sa.func.count(),
                sa.func.sum(ReaderMark.value),
            )
            .where(ReaderMark.subject_kind == kind, ReaderMark.subject_id.in_(list(ids)))
            .group_by(ReaderMark.subject_id, ReaderMark.mark, positive)
        )
        rows = work.session.execute(statement).all()
    found: dict[str, dict[str, Any]] = {one: {} for one in ids}
    for subject, mark, is_positive, count, total in rows:
        place = found[subject]
        if mark == "use":
            place["uses"] = count
        elif mark == "rating":
            place["ratings"], place["stars"] = count, round(float(total) / count, 2)
        else:
            place["helpful" if is_positive else "unhelpful"] = count
    return {one: Marks(**values) for one, values in found.items()}


def vote(work: UnitOfWork, actor: Actor, entry_id: str, *, helpful: bool) -> None:
    """Say whether a knowledge entry helped; a second vote of the same account replaces it."""
    _mark(work, actor, ("entry", entry_id), "vote", 1 if helpful else -1)


def _mark(
    work: UnitOfWork,
    actor: Actor,
    subject: tuple[str, str],
    mark: str,
    value: int,
    *,
    once: str = "",
) -> None:
    kind, subject_id = subject
    with work.beyond("one's own mark, wherever one's home has moved"):
        statement = sa.select(ReaderMark).where(
            ReaderMark.subject_kind == kind,
            ReaderMark.subject_id == subject_id,
            ReaderMark.mark == mark,
            ReaderMark.account_id == actor.account_id,
            ReaderMark.once == once,
        )
        found = work.session.scalars(statement).one_or_none()
    if found is not None:
        found.value, found.at = value, work.now
        return
    work.session.add(
        ReaderMark(
            mark_id=work.new_id("mark"),
            unit_id=_reader_unit(work, actor),
            subject_kind=kind,
            subject_id=subject_id,
            mark=mark,
            value=value,
            once=once,
            account_id=actor.account_id,
            at=work.now,
        )
    )


def _reader_unit(work: UnitOfWork, actor: Actor) -> str:
    """Return a unit of the reader's own scope to keep a mark under."""
    roots = work.scope.roots
    if roots is None or actor.home_unit_id in roots:
        return actor.home_unit_id
    return min(roots)
