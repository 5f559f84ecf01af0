"""Guides by which branches carry a scheme out (辅导分公司实施): tasks, targets, script, advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.unit_scope import require_units
from bihuan.server.control import Guide, GuideFeedback, GuideTask, Scheme, UnitOfWork

_CHANNEL = {
    "outbound": ("外呼", "outbound calls"), "sms": ("短信", "text messages"),
    "app": ("手机应用", "the app"), "hall": ("营业厅", "the halls"),
    "account_manager": ("客户经理", "account managers"), "wechat": ("微信", "WeChat"),
    "web": ("网站", "the web"), "terminal": ("自助终端", "self-service terminals"),
    "email": ("电子邮件", "e-mail"), "mail": ("信函", "letters"),
}  # fmt: skip
_POSTS = {"outbound": "outbound_seat", "hall": "hall_clerk", "account_manager": "account_manager"}


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a scheme has come in its branches.

    Parameters
    ----------
    unit_id
        The branch.
    tasks, done
        Tasks, and those ticked off.
    late
        Open tasks whose last day has passed.
    planned, made
        Contacts planned, and reported as made.
    """

    unit_id: str
    tasks: int
    done: int
    late: int
    planned: int
    made: int


def issue_guides(work: UnitOfWork, actor: Actor, scheme: Scheme) -> list[Guide]:
    """Write a guide for every branch of a scheme's forecast.

    The branches' targets sum to the scheme's.

    Raises
    ------
    ConflictError
        If the guides were issued before.
    RefusedError
        If customers of the scheme stand in no branch, so that targets would not add up.
    """
    if _guides(work, scheme.scheme_id):
        raise ConflictError(
            "The guides of this scheme were issued before.",
            remedy="Read them.",
            zh="该方案的实施指南已下发，请直接查看。",
        )
    units = scheme.proposal["forecast"]["units"]
    if any(not unit["unit_id"] for unit in units):
        lost = sum(unit["customers"] for unit in units if not unit["unit_id"])
        raise RefusedError(
            f"{lost} customers of the scheme stand in no branch.",
            remedy="Mend the org units of the customers and design it again.",
            zh=f"方案中有 {lost} 位客户未归属任何分公司，请修正客户归属后重新设计。",
        )
    guides = []
    for unit in units:
        require_units(work, [unit["unit_id"]])
        guide = Guide(
            guide_id=work.new_id("guide"), scheme_id=scheme.scheme_id, unit_id=unit["unit_id"],
            title_zh=scheme.title_zh, title_en=scheme.title_en, targets=_targets(unit),
            advice=_advice(scheme.content["campaign"]), made_by=actor.account_id,
            made_at=work.now,
        )  # fmt: skip
        work.session.add(guide)
        work.session.flush()
        for number, task in enumerate(_tasks(scheme.content["campaign"], unit), start=1):
            work.session.add(
                GuideTask(
                    guide_task_id=work.new_id("task"), guide_id=guide.guide_id,
                    unit_id=guide.unit_id, number=number, **task,
                )
            )  # fmt: skip
        guides.append(guide)
    work.session.flush()
    work.audit("guide.issue", "scheme", scheme.scheme_id, units=[g.unit_id for g in guides])
    return guides


def tick(
    work: UnitOfWork, actor: Actor, task: GuideTask, *, quantity: int | None, note: str
) -> GuideTask:
    """Tick a task off.

    Raises
    ------
    ConflictError
        If it is ticked off already.
    RefusedError
        If a task with a quantity comes without one.
    """
    if task.done_at is not None:
        raise ConflictError(
            "The task is ticked off already.",
            remedy="Reopen it first.",
            zh="该任务已完成，如需修改请先撤销。",
        )
    if (task.quantity is None) != (quantity is None):
        raise RefusedError(
            "Say how many were done, for a task that has a number to reach, and only there.",
            remedy="Send or leave out `quantity`.",
            zh="有数量目标的任务须填写完成数量，其余任务无需填写。",
        )
    task.done_at, task.done_by = work.now, actor.account_id
    task.done_quantity, task.note = quantity, note
    work.audit("guide.tick", "guide_task", task.guide_task_id, quantity=quantity)
    return task


def reopen(work: UnitOfWork, actor: Actor, task: GuideTask, *, note: str) -> GuideTask:
    """Take a tick back; raise :class:`ConflictError` if the task is open."""
    if task.done_at is None:
        raise ConflictError(
            "The task is open.", remedy="Read it again.", zh="该任务尚未完成，无需撤销。"
        )
    task.done_at, task.done_by, task.done_quantity, task.note = None, None, None, note
    work.audit("guide.reopen", "guide_task", task.guide_task_id, note=note)
    return task


def say(work: UnitOfWork, actor: Actor, guide: Guide, *, kind: str, text: str) -> GuideFeedback:
    """Put down what a branch says of the scheme."""
    row = GuideFeedback(
        guide_feedback_id=work.new_id("feedback"), guide_id=guide.guide_id,
        unit_id=guide.unit_id, kind=kind, text=text, made_by=actor.account_id, made_at=work.now,
    )  # fmt: skip
    work.session.add(row)
    work.session.flush()
    work.audit("guide.say", "guide", guide.guide_id, feedback=kind)
    return row


def answer(work: UnitOfWork, actor: Actor, row: GuideFeedback, *, text: str) -> GuideFeedback:
    """Answer a branch; raise :class:`ConflictError` if it was answered."""
    if row.replied_at is not None:
        raise ConflictError(
            "It was answered already.", remedy="Read it again.", zh="该反馈已答复。"
        )
    row.reply, row.replied_by, row.replied_at = text, actor.account_id, work.now
    work.audit("guide.answer", "guide_feedback", row.guide_feedback_id)
    return row


def progress_of(work: UnitOfWork, scheme: Scheme, today: date) -> list[Progress]:
    """Return how far each branch within reach has come, by unit id."""
    found = []
    for guide in _guides(work, scheme.scheme_id):
        tasks = list(work.session.scalars(find_tasks(guide.guide_id)))
        done = [task for task in tasks if task.done_at is not None]
        found.append(
            Progress(
                unit_id=guide.unit_id, tasks=len(tasks), done=len(done),
                late=sum(task.done_at is None and task.ends_on < today for task in tasks),
                planned=sum(task.quantity or 0 for task in tasks),
                made=sum(task.done_quantity or 0 for task in done),
            )
        )  # fmt: skip
    return found


def get_guide(work: UnitOfWork, guide_id: str) -> Guide:
    """Return a guide by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(Guide, guide_id)
    if row is None:
        raise missing("guide", "实施指南", guide_id)
    return row


def get_task(work: UnitOfWork, guide_task_id: str) -> GuideTask:
    """Return a task by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(GuideTask, guide_task_id)
    if row is None:
        raise missing("task", "任务", guide_task_id)
    return row


def get_feedback(work: UnitOfWork, guide_feedback_id: str) -> GuideFeedback:
    """Return a feedback by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(GuideFeedback, guide_feedback_id)
    if row is None:
        raise missing("feedback", "反馈", guide_feedback_id)
    return row


def find_guides(scheme_id: str | None = None) -> sa.Select[Guide]:
    """Return a select of guides."""
    statement = sa.select(Guide)
    return statement if scheme_id is None else statement.where(Guide.scheme_id == scheme_id)


def find_tasks(guide_id: str) -> sa.Select[GuideTask]:
    """Return a select of a guide's tasks, by number."""
    return sa.select(GuideTask).where(GuideTask.guide_id == guide_id).order_by(GuideTask.number)


def find_feedback(guide_id: str) -> sa.Select[GuideFeedback]:
    """Return a select of what was said on a guide."""
    return sa.select(GuideFeedback).where(GuideFeedback.guide_id == guide_id)


def _guides(work: UnitOfWork, scheme_id: str) -> list[Guide]:
    return list(work.session.scalars(find_guides(scheme_id).order_by(Guide.unit_id)))


def _targets(unit: Mapping[str, Any]) -> dict[str, Any]:
    names = ("customers", "contacts", "by_channel", "sales", "effect", "cost")
    return {name: unit[name] for name in names}


def _advice(campaign: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is said, and what to do and not to do; these hold for every scheme."""
    return {
        "scripts": campaign["scripts"],
        "do": [
            {"zh": "只联系清单内客户，并按清单标注的渠道与话术执行",
             "en": "Contact only who is on the list, by the channel and script given there"},
            {"zh": "当日回单：接通、意向、拒绝原因逐户填写",
             "en": "Report the same day: reached, interested, or why not, one by one"},
            {"zh": "客户拒绝营销的，立即登记拒收", "en": "Record a refusal of marketing at once"},
        ],
        "do_not": [
            {"zh": "不得联系对照组客户", "en": "Do not contact the control group"},
            {"zh": "不得承诺话术以外的优惠", "en": "Do not promise more than the script says"},
            {"zh": "不得导出或转发客户清单", "en": "Do not export or pass on the list"},
        ],
    }  # fmt: skip


def _tasks(campaign: Mapping[str, Any], unit: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the steps of the action plan for a branch, the contacts one task per channel."""
    found = []
    for step in campaign["action_plan"]:
        dates = {
            "starts_on": date.fromisoformat(step["starts_on"]),
            "ends_on": date.fromisoformat(step["ends_on"]),
        }
        if step["post"] != "channel_operator":
            found.append(
                {"what_zh": step["what"]["zh"], "what_en": step["what"]["en"],
                 "post": step["post"], "quantity": None, **dates}
            )  # fmt: skip
            continue
        for channel, contacts in sorted(unit["by_channel"].items()):
            zh, en = _CHANNEL.get(channel, (channel, channel))
            found.append(
                {"what_zh": f"通过{zh}触达 {contacts} 位清单客户",
                 "what_en": f"Contact {contacts} customers of the list by {en}",
                 "post": _POSTS.get(channel, "channel_operator"), "quantity": contacts, **dates}
            )  # fmt: skip
    return found
