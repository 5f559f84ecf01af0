"""Operating processes (SOP): steps with the post that answers for each, and their runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.team.roster import posts_of
from bihuan.server.app.unit_scope import require_units
from bihuan.server.control import Account, Process, ProcessRun, Team, TeamMember, UnitOfWork


def define_process(
    work: UnitOfWork,
    actor: Actor,
    unit_id: str,
    name: str,
    title: Mapping[str, str],
    steps: Sequence[Mapping[str, Any]],
) -> Process:
    """Lay a process down, or its next version; runs under way keep theirs.

    Parameters
    ----------
    work
        In the scope of ``team.manage``.
    actor, unit_id
        Who, for which unit and all below.
    name, title
        Of the process.
    steps
        ``{name, title: {zh, en}, team_kind, post, days}``, in order; names differ.
    """
    require_units(work, [unit_id])
    names = [step["name"] for step in steps]
    if not names or len(set(names)) < len(names):
        raise RefusedError(
            "A process needs steps, each of another name.",
            remedy="Name each step once.",
            zh="流程须包含步骤，且步骤名称不得重复。",
        )
    for step in steps:
        if step["post"] not in posts_of(step["team_kind"]):
            raise RefusedError(
                f"Step '{step['name']}': team '{step['team_kind']}' has no post '{step['post']}'.",
                remedy=f"Its posts: {', '.join(posts_of(step['team_kind']))}.",
                zh=f"步骤 {step['name']} 的岗位 {step['post']} 不属于 {step['team_kind']} 团队。",
            )
    held = list(
        work.session.scalars(
            sa.select(Process).where(Process.name == name, Process.unit_id == unit_id)
        )
    )
    for earlier in held:
        earlier.status = "replaced"
    row = Process(
        process_id=work.new_id("process"), unit_id=unit_id, sharing="down", name=name,
        number=1 + max((one.number for one in held), default=0), title_zh=title["zh"],
        title_en=title["en"], steps=[dict(step) for step in steps], made_by=actor.account_id,
        made_at=work.now,
    )  # fmt: skip
    work.session.add(row)
    work.session.flush()
    work.audit("process.define", "process", row.process_id, name=name, number=row.number)
    return row


def start_run(
    work: UnitOfWork, actor: Actor, process: Process, unit_id: str, subject: str
) -> ProcessRun:
    """Begin to go through a process at a unit, by its steps as they are now."""
    require_units(work, [unit_id])
    if process.status != "active":
        raise ConflictError(
            "The process was replaced by a newer version.",
            remedy="Start the newer one.",
            zh="该流程已被新版本替代，请使用新版本。",
        )
    row = ProcessRun(
        process_run_id=work.new_id("run"), process_id=process.process_id, unit_id=unit_id,
        subject=subject, steps=list(process.steps), at_step=0, status="running", log=[],
        made_by=actor.account_id, made_at=work.now,
    )  # fmt: skip
    work.session.add(row)
    work.session.flush()
    work.audit("process.start", "process_run", row.process_run_id, process=process.process_id)
    return row


def advance_run(
    work: UnitOfWork, actor: Actor, run: ProcessRun, step: str, *, note: str
) -> ProcessRun:
    """Finish the step that a run stands at, and go on to the next.

    Parameters
    ----------
    work, run
        The run.
    actor
        Must hold the step's post in a team of its kind.
    step
        Name of the step, so that nobody finishes another one unseen.
    note
        What was done.

    Raises
    ------
    ConflictError
        If the run has ended or stands at another step.
    RefusedError
        If the actor does not hold the post that answers for the step.
    """
    if run.status != "running" or run.steps[run.at_step]["name"] != step:
        at = run.steps[run.at_step]["name"] if run.status == "running" else run.status
        raise ConflictError(
            f"The run stands at '{at}', not at '{step}'.",
            remedy="Read it again.",
            zh=f"流程当前位于 {at}，不是 {step}，请刷新后重试。",
        )
    current = run.steps[run.at_step]
    _require_post(work, actor, current)
    run.log = [
        *run.log,
        {"step": step, "by": actor.account_id, "at": work.now.isoformat(), "note": note},
    ]
    if run.at_step + 1 == len(run.steps):
        run.status, run.ended_at = "done", work.now
    else:
        run.at_step += 1
    work.audit("process.advance", "process_run", run.process_run_id, step=step)
    return run


def stop_run(work: UnitOfWork, actor: Actor, run: ProcessRun, *, reason: str) -> ProcessRun:
    """Give a run up, with the reason; raise :class:`ConflictError` if it has ended."""
    if run.status != "running":
        raise ConflictError("The run has ended.", remedy="Read it again.", zh="该流程实例已结束。")
    run.status, run.ended_at = "stopped", work.now
    run.log = [
        *run.log,
        {"step": run.steps[run.at_step]["name"], "by": actor.account_id,
         "at": work.now.isoformat(), "note": reason},
    ]  # fmt: skip
    work.audit("process.stop", "process_run", run.process_run_id, reason=reason)
    return run


def get_process(work: UnitOfWork, process_id: str) -> Process:
    """Return a process by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(Process, process_id)
    if row is None:
        raise missing("process", "流程", process_id)
    return row


def get_run(work: UnitOfWork, process_run_id: str) -> ProcessRun:
    """Return a run by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(ProcessRun, process_run_id)
    if row is None:
        raise missing("run of a process", "流程实例", process_run_id)
    return row


def find_processes(name: str | None = None) -> sa.Select[Process]:
    """Return a select of processes."""
    statement = sa.select(Process)
    return statement if name is None else statement.where(Process.name == name)


def find_runs(status: str | None = None) -> sa.Select[ProcessRun]:
    """Return a select of runs."""
    statement = sa.select(ProcessRun)
    return statement if status is None else statement.where(ProcessRun.status == status)


def _require_post(work: UnitOfWork, actor: Actor, step: Mapping[str, Any]) -> None:
    account = work.session.get(Account, actor.account_id)
    staff_id = actor.account_id if account is None else account.staff_id
    statement = (
        sa.select(TeamMember.team_member_id)
        .join(Team, Team.team_id == TeamMember.team_id)
        .where(
            TeamMember.staff_id == staff_id,
            TeamMember.post == step["post"],
            TeamMember.until.is_(None),
            Team.kind == step["team_kind"],
        )
    )
    if work.session.scalars(statement).first() is None:
        raise RefusedError(
            f"Step '{step['name']}' is that of {step['post']} of a {step['team_kind']} team.",
            remedy="Ask a member with that post.",
            zh=f"步骤 {step['title']['zh']} 由 {step['team_kind']} 团队的 {step['post']} 岗位负责，"
            "请由该岗位成员办理。",
        )
