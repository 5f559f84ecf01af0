"""The states of a plan (四步一库), and the one way from one to the next.

Market analysis → planning → rehearsal → assessment → filing level by level → approval →
execution → evaluation → library. Everything that moves a plan goes through :func:`move`: it looks
the step up in :data:`MOVES`, asks its guards, and remembers who did it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bihuan.kernel import DefectError
from bihuan.server.app.errors import RefusedError
from bihuan.server.control import Plan, PlanMove, UnitOfWork

STATES: Mapping[str, Mapping[str, str]] = {
    "analysis": {"zh": "市场分析", "en": "market analysis"},
    "drafting": {"zh": "方案策划", "en": "planning"},
    "rehearsed": {"zh": "已预演", "en": "rehearsed"},
    "assessed": {"zh": "已评估", "en": "assessed"},
    "filed": {"zh": "上报审批中", "en": "filed for approval"},
    "approved": {"zh": "已批准", "en": "approved"},
    "executing": {"zh": "执行中", "en": "executing"},
    "paused": {"zh": "已暂停", "en": "paused"},
    "completed": {"zh": "已完成", "en": "completed"},
    "evaluated": {"zh": "已评价", "en": "evaluated"},
    "library": {"zh": "已入库", "en": "in the library"},
    "withdrawn": {"zh": "已撤回", "en": "withdrawn"},
    "voided": {"zh": "已作废", "en": "voided"},
}

EVENTS: Mapping[str, Mapping[str, str]] = {
    "analyse": {"zh": "市场分析", "en": "record the market analysis"},
    "edit": {"zh": "编辑", "en": "edit"},
    "rehearse": {"zh": "预演", "en": "rehearse"},
    "assess": {"zh": "评估", "en": "assess"},
    "file": {"zh": "上报", "en": "file"},
    "take_back": {"zh": "取回", "en": "take back"},
    "pass": {"zh": "逐级通过", "en": "pass to the next level"},
    "approve": {"zh": "批准", "en": "approve"},
    "return": {"zh": "退回", "en": "return"},
    "deploy": {"zh": "部署执行", "en": "deploy"},
    "pause": {"zh": "暂停", "en": "pause"},
    "resume": {"zh": "恢复", "en": "resume"},
    "complete": {"zh": "完成", "en": "complete"},
    "evaluate": {"zh": "评价", "en": "evaluate"},
    "shelve": {"zh": "入库", "en": "put into the library"},
    "withdraw": {"zh": "撤回", "en": "withdraw"},
    "void": {"zh": "作废", "en": "void"},
}


@dataclass(frozen=True, slots=True)
class Guard:
    """What must hold before a step, beside the state.

    Parameters
    ----------
    name
        The fact that the caller of :func:`move` states.
    zh, en
        What is missing.
    remedy_zh, remedy_en
        What to do.
    """

    name: str
    zh: str
    en: str
    remedy_zh: str
    remedy_en: str


COMPLETE = Guard(
    "complete", "方案内容不完整", "the plan is not complete",
    "请补全目标、客户群、营销组合、渠道与对照组。",
    "Give goal, audience, mix, channels and control group.",
)  # fmt: skip
ANALYSED = Guard(
    "analysed", "尚未进行市场分析", "there is no market analysis",
    "请先登记市场分析。", "Record the market analysis first.",
)  # fmt: skip
REHEARSED = Guard(
    "rehearsed", "当前内容尚未预演", "the present content has not been rehearsed",
    "请先预演。", "Rehearse it first.",
)  # fmt: skip
ASSESSED = Guard(
    "assessed", "当前内容尚未评估，或评估未通过",
    "the present content has not been assessed, or failed",
    "请先评估；未通过的请修改后重新预演。", "Assess it; change and rehearse what failed.",
)  # fmt: skip
IMPACT = Guard(
    "impact", "缺少有效的个人信息保护影响评估",
    "there is no valid impact assessment for its automated decisions on persons",
    "请先完成影响评估。", "Record an impact assessment first.",
)  # fmt: skip
DEPLOYABLE = Guard(
    "deployable", "当前内容未获批准", "the present content is not approved",
    "请先上报并获得批准。", "File it and have it approved first.",
)  # fmt: skip
MEASURED = Guard(
    "measured", "没有评价结果", "there is no result of an evaluation",
    "请先登记评价结果。", "Record the evaluation first.",
)  # fmt: skip

GUARDS: Mapping[str, tuple[Guard, ...]] = {
    "rehearse": (COMPLETE,),
    "assess": (REHEARSED,),
    "file": (COMPLETE, ANALYSED, REHEARSED, ASSESSED, IMPACT),
    "approve": (IMPACT,),
    "deploy": (DEPLOYABLE,),
    "shelve": (MEASURED,),
}
"""What must be stated as true for an event."""

_WRITING = ("analysis", "drafting", "rehearsed", "assessed")
_RUNNING = ("executing", "paused")

MOVES: Mapping[tuple[str, str], str] = {
    ("analysis", "analyse"): "analysis",
    **{(state, "analyse"): "drafting" for state in ("drafting", "rehearsed", "assessed")},
    **{(state, "edit"): "drafting" for state in (*_WRITING, "filed", "approved")},
    **{(state, "rehearse"): "rehearsed" for state in ("drafting", "rehearsed", "assessed")},
    ("rehearsed", "assess"): "assessed",
    ("assessed", "assess"): "assessed",
    ("assessed", "file"): "filed",
    ("filed", "take_back"): "assessed",
    ("filed", "pass"): "filed",
    ("filed", "approve"): "approved",
    ("filed", "return"): "drafting",
    ("approved", "return"): "drafting",
    ("approved", "deploy"): "executing",
    ("executing", "deploy"): "executing",
    ("executing", "pause"): "paused",
    ("paused", "resume"): "executing",
    **{(state, "complete"): "completed" for state in _RUNNING},
    ("completed", "evaluate"): "evaluated",
    ("evaluated", "evaluate"): "evaluated",
    ("evaluated", "shelve"): "library",
    **{(state, "withdraw"): "withdrawn" for state in (*_WRITING, "filed", "approved")},
    **{(state, "void"): "voided" for state in (*_WRITING, "filed", "approved", *_RUNNING)},
}
"""State and event → next state. What is not here cannot be done."""

FINAL = frozenset(("library", "withdrawn", "voided"))
"""States that a plan does not leave."""


class IllegalMoveError(RefusedError):
    """The plan's state does not allow the step; the message says what it allows."""


class UnmetGuardError(RefusedError):
    """The state would allow the step, and something that it needs is missing."""


def numbered(plan: Plan, mark: str, number: int) -> str:
    """Return the id of a plan's record; it sorts by number, whatever the clock does."""
    return f"{plan.plan_id}-{mark}{number:06d}"


def events_from(state: str) -> tuple[str, ...]:
    """Return the events that ``state`` allows, in the order of the workflow."""
    return tuple(event for event in EVENTS if (state, event) in MOVES)


def require_allowed(plan: Plan, event: str) -> None:
    """Refuse an event that the plan's state does not allow.

    Raises
    ------
    IllegalMoveError
        Names state, event and what is allowed.
    """
    if event not in EVENTS:
        msg = f"there is no event {event!r}"
        raise DefectError(msg)
    if (plan.state, event) in MOVES:
        return
    allowed = [EVENTS[name] for name in events_from(plan.state)]
    names_en = ", ".join(name["en"] for name in allowed)
    names_zh = "、".join(name["zh"] for name in allowed)
    raise IllegalMoveError(
        f"A plan that is {STATES[plan.state]['en']} cannot be told to {EVENTS[event]['en']}.",
        remedy=f"It allows: {names_en}." if allowed else "It is closed; copy it as a new plan.",
        zh=f"方案处于“{STATES[plan.state]['zh']}”状态，不能{EVENTS[event]['zh']}。"
        + (f"当前可以：{names_zh}。" if allowed else "方案已关闭，可复制为新方案。"),
    )


def require_guards(event: str, facts: Mapping[str, bool]) -> None:
    """Refuse an event while something it needs is not so.

    Raises
    ------
    UnmetGuardError
        Names what is missing.
    DefectError
        If the caller does not state a fact that the event asks for.
    """
    for guard in GUARDS.get(event, ()):
        if guard.name not in facts:
            msg = f"{event} needs the fact {guard.name!r}"
            raise DefectError(msg)
        if not facts[guard.name]:
            raise UnmetGuardError(
                f"The plan cannot be told to {EVENTS[event]['en']}: {guard.en}.",
                remedy=guard.remedy_en,
                zh=f"方案不能{EVENTS[event]['zh']}：{guard.zh}。{guard.remedy_zh}",
            )


def move(
    work: UnitOfWork,
    plan: Plan,
    event: str,
    *,
    facts: Mapping[str, bool] | None = None,
    comment: str = "",
) -> None:
    """Take ``plan`` one step further and remember it.

    Parameters
    ----------
    work
        The unit of work; its account is who does it.
    plan
        The plan; its state changes.
    event
        One of :data:`EVENTS`.
    facts
        By guard name, what the caller has found; see :data:`GUARDS`.
    comment
        Why, for readers of the plan's course.

    Raises
    ------
    IllegalMoveError, UnmetGuardError
        If the state or a guard forbids it; then nothing has changed.
    """
    require_allowed(plan, event)
    require_guards(event, facts or {})
    before, plan.state = plan.state, MOVES[plan.state, event]
    plan.moves += 1
    plan.changed_at = work.now
    work.session.add(
        PlanMove(
            move_id=numbered(plan, "m", plan.moves),
            plan_id=plan.plan_id,
            unit_id=plan.unit_id,
            number=plan.moves,
            event=event,
            before=before,
            after=plan.state,
            content_hash=plan.content_hash,
            comment=comment,
            by=work.account_id,
            at=work.now,
        )
    )
    work.audit(
        f"plan.{event}", "plan", plan.plan_id, before=before, after=plan.state,
        content_hash=plan.content_hash, **({"comment": comment} if comment else {}),
    )  # fmt: skip
