"""Teams by level: planned and actual people, posts, mergers with their history."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.unit_scope import own_units_below, require_units
from bihuan.server.control import (
    OrgUnit,
    Staff,
    Team,
    TeamChange,
    TeamMember,
    UnitOfWork,
)

TEAM_KINDS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "touchpoint": {
        "title": {"zh": "触点运营团队", "en": "touchpoint team"},
        "operator": {"zh": "触点运营", "en": "touchpoint operator"},
        "lead": {"zh": "负责人", "en": "lead"},
    },
    "digital_support": {
        "title": {"zh": "数字化支撑团队", "en": "digital support team"},
        "process_management": {"zh": "流程管理", "en": "process management"},
        "product_management": {"zh": "产商品管理", "en": "product management"},
        "product_configuration": {"zh": "产商品配置", "en": "product configuration"},
        "touchpoint_support": {"zh": "触点支撑", "en": "touchpoint support"},
    },
    "mid_platform": {
        "title": {"zh": "中台支撑团队", "en": "mid-platform support team"},
        "support": {"zh": "支撑", "en": "support"},
    },
    "two_i": {
        "title": {"zh": "2I 业务支撑团队", "en": "2I support team"},
        "support": {"zh": "支撑", "en": "support"},
    },
    "delivery": {
        "title": {"zh": "交付队伍", "en": "delivery team"},
        "installer": {"zh": "装维", "en": "installer"},
        "dispatcher": {"zh": "调度", "en": "dispatcher"},
        "order_convergence": {"zh": "订单汇聚", "en": "order convergence"},
        "support": {"zh": "支撑", "en": "support"},
    },
}
"""Kinds of team with their posts; ``title`` is the kind's own."""
TOUCHPOINT_PLAN: Mapping[str, int] = {"province": 30, "city": 46, "county": 426}
"""Planned people of the touchpoint teams by level, as the paper has them; a sample."""
DIGITAL_SUPPORT_PLAN = 68
"""Planned people of the digital support teams at province and city level, as the paper has it."""


@dataclass(frozen=True, slots=True)
class Headcount:
    """Planned and actual people of one kind of team at one level.

    Parameters
    ----------
    tier, kind
        Level of the teams' units, and kind of team.
    teams
        Active teams.
    planned, actual
        People.
    by_post
        Planned and actual people by post.
    """

    tier: str
    kind: str
    teams: int
    planned: int
    actual: int
    by_post: Mapping[str, tuple[int, int]]


def posts_of(kind: str) -> tuple[str, ...]:
    """Return the posts of a kind of team; raise :class:`RefusedError` if there is none."""
    if kind not in TEAM_KINDS:
        raise RefusedError(
            f"There is no kind of team '{kind}'.",
            remedy=f"Choose from: {', '.join(TEAM_KINDS)}.",
            zh=f"没有团队类型 {kind}，可选：{'、'.join(TEAM_KINDS)}。",
        )
    return tuple(post for post in TEAM_KINDS[kind] if post != "title")


def open_team(
    work: UnitOfWork,
    unit_id: str,
    kind: str,
    name: Mapping[str, str],
    planned: Mapping[str, int],
) -> Team:
    """Set up a team at a unit, with planned people by post.

    Raises
    ------
    RefusedError
        If the kind or a post is unknown, or a digital support team is set up below the city.
    NotFoundError
        If the unit is out of reach.
    """
    require_units(work, [unit_id])
    _require_posts(kind, planned)
    tier = _tiers(work, [unit_id])[unit_id]
    if kind == "digital_support" and tier not in ("province", "city"):
        raise RefusedError(
            "Digital support teams stand at province and city level.",
            remedy="Choose a province or a city.",
            zh="数字化支撑团队只设在省、市两级，请选择省或地市。",
        )
    row = Team(
        team_id=work.new_id("team"), unit_id=unit_id, sharing="own", kind=kind,
        name_zh=name["zh"], name_en=name["en"], planned=dict(planned), status="active",
        made_at=work.now,
    )  # fmt: skip
    work.session.add(row)
    work.session.flush()
    work.audit("team.open", "team", row.team_id, unit=unit_id, planned=dict(planned))
    return row


def set_planned(work: UnitOfWork, team: Team, planned: Mapping[str, int]) -> Team:
    """Change a team's planned people by post."""
    _require_active(team)
    _require_posts(team.kind, planned)
    before = dict(team.planned)
    team.planned = dict(planned)
    work.audit("team.plan", "team", team.team_id, before=before, after=dict(planned))
    return team


def add_member(
    work: UnitOfWork, team: Team, staff_id: str, post: str, *, since: date
) -> TeamMember:
    """Let a person of the staff into a team.

    Raises
    ------
    NotFoundError
        If there is no such active person within reach.
    ConflictError
        If the person is in the team already.
    RefusedError
        If the post is none of the team's.
    """
    _require_active(team)
    _require_posts(team.kind, {post: 0})
    staff = work.session.get(Staff, staff_id)
    if staff is None or staff.status != "active":
        raise missing("active member of staff", "在职员工", staff_id)
    if any(member.staff_id == staff_id for member in members_of(work, team.team_id)):
        raise ConflictError(
            f"{staff_id} is in the team already.",
            remedy="Release the person first to change the post.",
            zh=f"{staff_id} 已在该团队，如需调整岗位请先移出。",
        )
    row = TeamMember(
        team_member_id=work.new_id("member"), team_id=team.team_id, unit_id=team.unit_id,
        staff_id=staff_id, post=post, since=since,
    )  # fmt: skip
    work.session.add(row)
    work.session.flush()
    work.audit("team.add", "team", team.team_id, staff=staff_id, post=post)
    return row


def release_member(work: UnitOfWork, team: Team, staff_id: str, *, until: date) -> TeamMember:
    """Let a person leave a team; the time in it stays on record.

    Raises
    ------
    NotFoundError
        If the person is not in the team.
    RefusedError
        If the last day lies before the first.
    """
    found = [one for one in members_of(work, team.team_id) if one.staff_id == staff_id]
    if not found:
        raise missing("member", "团队成员", staff_id)
    if until < found[0].since:
        raise RefusedError(
            "The last day lies before the first.",
            remedy=f"Choose a day from {found[0].since} on.",
            zh=f"离队日期不能早于入队日期 {found[0].since}。",
        )
    found[0].until = until
    work.audit("team.release", "team", team.team_id, staff=staff_id)
    return found[0]


def merge_teams(  # noqa: PLR0913 - which teams, who, when and why
    work: UnitOfWork,
    actor: Actor,
    into: Team,
    others: Sequence[Team],
    *,
    posts: Mapping[str, str],
    on: date,
    reason: str,
) -> TeamChange:
    """Merge teams into one: their people move, planned numbers add up, the history stays.

    Parameters
    ----------
    work
        In the scope of ``team.manage`` over all of the teams' units.
    actor
        Who merges.
    into, others
        The team that stays, and those that end.
    posts
        Post in ``into`` by post of the others; posts of the same name need no entry.
    on
        First day of the merged team.
    reason
        Why.

    Raises
    ------
    RefusedError
        If a post of the others has no place in ``into``, or a team is merged into itself.
    ConflictError
        If one of the teams is not active.
    """
    for team in (into, *others):
        _require_active(team)
    ids = [team.team_id for team in others]
    if not ids or into.team_id in ids or len(set(ids)) < len(ids):
        raise RefusedError(
            "A merger takes one or more other teams, each once.",
            remedy="Name the teams that end.",
            zh="请指定一个或多个被合并的其他团队，且不重复。",
        )
    change = TeamChange(
        team_change_id=work.new_id("merger"), unit_id=into.unit_id, into_team_id=into.team_id,
        from_team_ids=ids, moved=[], reason=reason, on_date=on, made_by=actor.account_id,
        made_at=work.now,
    )  # fmt: skip
    present = {member.staff_id for member in members_of(work, into.team_id)}
    known, planned, moved = posts_of(into.kind), dict(into.planned), []
    joiners: list[TeamMember] = []
    for team in others:
        for post, number in team.planned.items():
            place = _place(post, posts, known)
            planned[place] = planned.get(place, 0) + int(number)
        for member in members_of(work, team.team_id):
            place = _place(member.post, posts, known)
            moved.append(
                {"staff_id": member.staff_id, "from_team_id": team.team_id,
                 "from_post": member.post, "to_post": place}
            )  # fmt: skip
            member.until = max(on, member.since)
            if member.staff_id not in present:
                present.add(member.staff_id)
                joiners.append(
                    TeamMember(
                        team_member_id=work.new_id("member"), team_id=into.team_id,
                        unit_id=into.unit_id, staff_id=member.staff_id, post=place, since=on,
                        change_id=change.team_change_id,
                    )
                )  # fmt: skip
        team.status, team.merged_into = "merged", into.team_id
    change.moved, into.planned = moved, planned
    work.session.add(change)
    work.session.flush()
    work.session.add_all(joiners)
    work.session.flush()
    work.audit("team.merge", "team", into.team_id, others=ids, people=len(moved), reason=reason)
    return change


def get_team(work: UnitOfWork, team_id: str) -> Team:
    """Return a team by id; raise :class:`NotFoundError` if there is none within reach."""
    row = work.session.get(Team, team_id)
    if row is None:
        raise missing("team", "团队", team_id)
    return row


def find_teams(kind: str | None = None, status: str | None = None) -> sa.Select[Team]:
    """Return a select of teams."""
    statement = sa.select(Team)
    if kind:
        statement = statement.where(Team.kind == kind)
    if status:
        statement = statement.where(Team.status == status)
    return statement


def find_changes(team_id: str) -> sa.Select[TeamChange]:
    """Return a select of the mergers into a team."""
    return sa.select(TeamChange).where(TeamChange.into_team_id == team_id)


def members_of(work: UnitOfWork, team_id: str, *, past: bool = False) -> list[TeamMember]:
    """Return a team's present members, or all that it has had, in order of joining."""
    statement = sa.select(TeamMember).where(TeamMember.team_id == team_id)
    if not past:
        statement = statement.where(TeamMember.until.is_(None))
    return list(work.session.scalars(statement.order_by(TeamMember.team_member_id)))


def headcount(work: UnitOfWork, unit_id: str) -> list[Headcount]:
    """Return planned and actual people of the active teams below a unit, by level and kind."""
    units = own_units_below(work, unit_id)
    statement = sa.select(Team).where(Team.unit_id.in_(units), Team.status == "active")
    teams = list(work.session.scalars(statement))
    tiers = _tiers(work, {team.unit_id for team in teams})
    ids = [team.team_id for team in teams]
    counts = work.session.execute(
        sa.select(TeamMember.team_id, TeamMember.post, sa.func.count())
        .where(TeamMember.team_id.in_(ids), TeamMember.until.is_(None))
        .group_by(TeamMember.team_id, TeamMember.post)
    )
    actual: dict[str, dict[str, int]] = {}
    for team_id, post, number in counts:
        actual.setdefault(team_id, {})[post] = int(number)
    grouped: dict[tuple[str, str], list[Team]] = {}
    for team in teams:
        grouped.setdefault((tiers[team.unit_id], team.kind), []).append(team)
    return [_headcount(tier, kind, held, actual) for (tier, kind), held in sorted(grouped.items())]


def _headcount(
    tier: str, kind: str, teams: Sequence[Team], actual: Mapping[str, Mapping[str, int]]
) -> Headcount:
    by_post: dict[str, tuple[int, int]] = {}
    for post in posts_of(kind):
        planned = sum(int(team.planned.get(post, 0)) for team in teams)
        there = sum(actual.get(team.team_id, {}).get(post, 0) for team in teams)
        if planned or there:
            by_post[post] = (planned, there)
    return Headcount(
        tier, kind, len(teams), sum(p for p, _ in by_post.values()),
        sum(a for _, a in by_post.values()), by_post,
    )  # fmt: skip


def _place(post: str, posts: Mapping[str, str], known: Sequence[str]) -> str:
    place = posts.get(post, post)
    if place not in known:
        raise RefusedError(
            f"Post '{post}' has no place in the merged team.",
            remedy=f"Say in `posts` which of these it becomes: {', '.join(known)}.",
            zh=f"岗位 {post} 在合并后的团队中没有对应岗位，可选：{'、'.join(known)}。",
        )
    return place


def _require_posts(kind: str, planned: Mapping[str, int]) -> None:
    known = posts_of(kind)
    for post, number in planned.items():
        if post not in known or number < 0:
            raise RefusedError(
                f"A team of kind '{kind}' has no post '{post}' for {number} people.",
                remedy=f"Its posts: {', '.join(known)}; numbers from 0.",
                zh=f"{TEAM_KINDS[kind]['title']['zh']}没有岗位 {post}（{number} 人），"
                f"可选：{'、'.join(known)}。",
            )


def _require_active(team: Team) -> None:
    if team.status != "active":
        raise ConflictError(
            f"The team is {team.status}.",
            remedy="Choose an active team.",
            zh=f"该团队状态为 {team.status}，不能变更。",
        )


def _tiers(work: UnitOfWork, unit_ids: Iterable[str]) -> dict[str, str]:
    statement = sa.select(OrgUnit.unit_id, OrgUnit.tier).where(
        OrgUnit.unit_id.in_(sorted(unit_ids))
    )
    return {row.unit_id: row.tier for row in work.session.execute(statement)}
