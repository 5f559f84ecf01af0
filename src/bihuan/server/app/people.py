"""Staff and their posts: who works where, as what, and who reports to whom.

Posts are what gives power. Nobody grants one beyond the units that they administer themselves,
nobody grants one to themself, and nobody changes the account of a person whose posts reach
further than their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.organisation import (
    get_unit,
    is_taken,
    layer_of,
    managed_unit,
    may_report,
    release,
)
from bihuan.server.app.permission import ROLES
from bihuan.server.app.unit_scope import in_scope
from bihuan.server.control import (
    LAYERS,
    Account,
    OrgUnit,
    Staff,
    StaffPost,
    UnitOfWork,
    above,
    below,
)

_ANSWER = "an answer about posts beyond the scope, not the posts themselves"


class BeyondReachError(RefusedError):
    """The wish would give or touch more than the caller administers."""


class ReportingRingError(RefusedError):
    """A post would report, over others, to itself."""


@dataclass(frozen=True, slots=True)
class NewStaff:
    """A person to be added; ``staff_id`` is the staff number."""

    staff_id: str
    unit_id: str
    name_zh: str
    name_en: str = ""
    channel_id: str | None = None


@dataclass(frozen=True, slots=True)
class NewPost:
    """A post to be granted.

    Parameters
    ----------
    staff_id, role, unit_id
        Who gets which role, and at which unit; it covers the unit's subtree.
    layer
        Layer of operating management; None: the one of the role and the unit's tier.
    line_id
        Unit of the professional line that it belongs to; None: no line.
    superior_post_id
        To which post it reports; None: to nobody.
    """

    staff_id: str
    role: str
    unit_id: str
    layer: str | None = None
    line_id: str | None = None
    superior_post_id: str | None = None


@dataclass(frozen=True, slots=True)
class ReportingStep:
    """One post on the way up.

    ``staff_id`` and ``name_zh`` are None where the post is out of the reader's reach.
    """

    post_id: str
    role: str
    layer: str
    unit_id: str
    staff_id: str | None
    name_zh: str | None


def find_staff(*, unit_id: str | None = None, status: str | None = None) -> sa.Select[Staff]:
    """Return the select of staff; of one unit's subtree if it is given."""
    statement = sa.select(Staff)
    if unit_id is not None:
        statement = statement.where(Staff.unit_id.in_(below(frozenset((unit_id,)))))
    return statement if status is None else statement.where(Staff.status == status)


def get_staff(work: UnitOfWork, staff_id: str) -> Staff:
    """Return a person.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    found = work.session.scalars(sa.select(Staff).where(Staff.staff_id == staff_id)).one_or_none()
    if found is None:
        raise missing("member of staff", "人员", staff_id)
    return found


def add_staff(work: UnitOfWork, new: NewStaff) -> Staff:
    """Add a person to a unit.

    Raises
    ------
    NotFoundError
        If the unit is not within the scope.
    ConflictError
        If the staff number is taken.
    """
    managed_unit(work, new.unit_id)
    if is_taken(work, Staff.staff_id, new.staff_id):
        raise ConflictError(
            f"The staff number '{new.staff_id}' is taken.",
            remedy="Look the person up, or choose another number.",
            zh=f"工号 {new.staff_id} 已存在，请查找该人员或换一个工号。",
        )
    row = Staff(
        staff_id=new.staff_id,
        unit_id=new.unit_id,
        name_zh=new.name_zh,
        name_en=new.name_en,
        channel_id=new.channel_id,
        status="active",
        origin="hand",
    )
    work.session.add(row)
    work.session.flush()
    work.audit("staff.add", "staff", row.staff_id, unit=row.unit_id)
    return row


def change_staff(work: UnitOfWork, person: Staff, **wishes: str | None) -> Staff:
    """Change a person's names, channel or home unit; their account moves with them.

    Parameters
    ----------
    work
        The unit of work.
    person
        Who.
    **wishes
        ``unit_id``, ``name_zh``, ``name_en``, ``channel_id``; None leaves it.
    """
    wanted = {name: value for name, value in wishes.items() if value is not None}
    if "unit_id" in wanted:
        managed_unit(work, wanted["unit_id"])
        account = work.session.scalars(
            sa.select(Account).where(Account.staff_id == person.staff_id)
        ).one_or_none()
        if account is not None:
            account.unit_id = wanted["unit_id"]
    for name, value in wanted.items():
        setattr(person, name, value)
    work.session.flush()
    work.audit("staff.change", "staff", person.staff_id, **wanted)
    return person


def leave(work: UnitOfWork, actor: Actor, person: Staff) -> Staff:
    """Let a person go: posts end, the account closes, sessions and tokens with it.

    Raises
    ------
    BeyondReachError
        If the person is the caller, or holds posts beyond the caller's units.
    """
    require_administers(work, actor, person.staff_id)
    posts = work.session.scalars(find_posts(staff_id=person.staff_id)).all()
    for post in posts:
        _pass_up(work, post)
    work.session.flush()
    release(work, [person.staff_id])
    work.audit("staff.leave", "staff", person.staff_id, posts=[post.post_id for post in posts])
    work.session.refresh(person)
    return person


def find_posts(
    *,
    staff_id: str | None = None,
    unit_id: str | None = None,
    role: str | None = None,
    layer: str | None = None,
    superior_post_id: str | None = None,
    is_active: bool = True,
) -> sa.Select[StaffPost]:
    """Return the select of posts; of a unit's subtree if it is given."""
    statement = sa.select(StaffPost)
    if unit_id is not None:
        statement = statement.where(StaffPost.unit_id.in_(below(frozenset((unit_id,)))))
    wanted: dict[str, Any] = {
        "staff_id": staff_id,
        "role": role,
        "layer": layer,
        "superior_post_id": superior_post_id,
        "status": "active" if is_active else None,
    }
    for name, value in wanted.items():
        if value is not None:
            statement = statement.where(getattr(StaffPost, name) == value)
    return statement


def get_post(work: UnitOfWork, post_id: str) -> StaffPost:
    """Return a post.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    found = work.session.scalars(
        sa.select(StaffPost).where(StaffPost.post_id == post_id)
    ).one_or_none()
    if found is None:
        raise missing("post", "岗位", post_id)
    return found


def grant_post(work: UnitOfWork, actor: Actor, new: NewPost) -> StaffPost:
    """Give a person a role at a unit.

    Raises
    ------
    NotFoundError
        If the person or the unit is not within the scope.
    BeyondReachError
        If the person is the caller.
    RefusedError
        If there is no such role or layer, the line is no line, or the superior does not fit.
    ConflictError
        If the person holds that role there already, or has left.
    """
    person = get_staff(work, new.staff_id)
    _refuse_self(work, actor, person.staff_id)
    unit = managed_unit(work, new.unit_id)
    if new.role not in ROLES:
        raise _unknown("role", "角色", new.role, tuple(ROLES))
    layer = new.layer or layer_of(new.role, unit.tier)
    if layer not in LAYERS:
        raise _unknown("layer", "层级", layer, LAYERS)
    if new.line_id is not None and get_unit(work, new.line_id).tier != "line":
        raise RefusedError(
            f"'{new.line_id}' is no professional line.",
            remedy="Choose a unit of tier line, or none.",
            zh=f"{new.line_id} 不是专业线，请选择专业线单元或留空。",
        )
    held = find_posts(staff_id=person.staff_id, role=new.role).where(
        StaffPost.unit_id == unit.unit_id
    )
    if person.status != "active" or unit.status != "active" or work.session.scalars(held).first():
        raise ConflictError(
            f"'{new.staff_id}' has left, or is {new.role} at '{new.unit_id}' already, or the unit"
            " is closed.",
            remedy="Look at the person's posts.",
            zh=f"{new.staff_id} 已离职，或已在 {new.unit_id} 担任该角色，或该单元已关闭。",
        )
    post = StaffPost(
        post_id=work.new_id("post"),
        staff_id=person.staff_id,
        unit_id=unit.unit_id,
        role=new.role,
        layer=layer,
        line_id=new.line_id,
        superior_post_id=None,
        status="active",
        origin="hand",
        since=work.now,
    )
    if new.superior_post_id is not None:
        _set_superior(work, post, new.superior_post_id)
    work.session.add(post)
    work.session.flush()
    work.audit(
        "post.grant", "post", post.post_id, staff=post.staff_id, role=post.role, unit=post.unit_id
    )
    return post


def end_post(work: UnitOfWork, actor: Actor, post: StaffPost) -> StaffPost:
    """Take a post back; what reported to it reports to its superior from now on.

    Raises
    ------
    BeyondReachError
        If it is the caller's own: an organisation would be left without anybody to mend it.
    """
    _refuse_self(work, actor, post.staff_id)
    if post.status == "active":
        _pass_up(work, post)
        post.status, post.ended_at = "ended", work.now
        work.session.flush()
        work.audit("post.end", "post", post.post_id, staff=post.staff_id, role=post.role)
    return post


def set_superior(work: UnitOfWork, post: StaffPost, superior_post_id: str | None) -> StaffPost:
    """Say to which post another reports; None: to nobody.

    The superior may stand elsewhere in the territory: within the caller's units, or above them.

    Raises
    ------
    RefusedError
        If there is no such active post there, or it is of a lower layer.
    ReportingRingError
        If it reports to ``post`` itself.
    """
    if superior_post_id is None:
        post.superior_post_id = None
    else:
        _set_superior(work, post, superior_post_id)
    work.session.flush()
    work.audit("post.superior", "post", post.post_id, superior=superior_post_id)
    return post


def reporting_line(work: UnitOfWork, post: StaffPost) -> list[ReportingStep]:
    """Return the posts from ``post`` up to the one that reports to nobody.

    Persons out of reach are not named: a reader learns the way, not the people on it.
    """
    line: list[Any] = [post]
    columns = (StaffPost.post_id, StaffPost.role, StaffPost.layer, StaffPost.unit_id)
    statement = sa.select(*columns, StaffPost.staff_id, StaffPost.superior_post_id)
    with work.beyond(_ANSWER):
        while line[-1].superior_post_id is not None and len(line) <= 50:
            wanted = statement.where(StaffPost.post_id == line[-1].superior_post_id)
            superior = work.session.execute(wanted).one_or_none()
            if superior is None:
                break
            line.append(superior)
    return [_step(work, one) for one in line]


def require_administers(work: UnitOfWork, actor: Actor, staff_id: str) -> None:
    """Refuse to touch the powers of a person that reach beyond the running scope, or one's own.

    Raises
    ------
    BeyondReachError
        Otherwise an administrator of a city could take over an account of the province.
    """
    _refuse_self(work, actor, staff_id)
    if work.scope.roots is None:
        return
    with work.beyond(_ANSWER):
        beyond = work.session.scalars(
            sa.select(StaffPost.post_id)
            .where(
                StaffPost.staff_id == staff_id,
                StaffPost.status == "active",
                StaffPost.unit_id.not_in(below(work.scope.roots)),
            )
            .limit(1)
        ).first()
    if beyond is not None:
        raise BeyondReachError(
            f"'{staff_id}' holds posts beyond the units that you administer.",
            remedy="Ask an administrator who covers those units.",
            zh=f"{staff_id} 的岗位超出您的管理范围，请联系上级管理员。",
        )


def _refuse_self(work: UnitOfWork, actor: Actor, staff_id: str) -> None:
    own = sa.select(Account.staff_id).where(Account.account_id == actor.account_id)
    with work.beyond("the caller's own account"):
        is_own = work.session.scalars(own).one_or_none() == staff_id
    if is_own:
        raise BeyondReachError(
            "Nobody changes their own posts and powers.",
            remedy="Ask another administrator.",
            zh="不能变更自己的岗位与权限，请联系其他管理员。",
        )


def _set_superior(work: UnitOfWork, post: StaffPost, superior_post_id: str) -> None:
    with work.beyond(_ANSWER):
        found = work.session.execute(
            sa.select(StaffPost.layer, StaffPost.unit_id).where(
                StaffPost.post_id == superior_post_id, StaffPost.status == "active"
            )
        ).one_or_none()
        if found is None or not _at_or_above(work, found.unit_id):
            raise RefusedError(
                f"There is no active post '{superior_post_id}' in your units or above them.",
                remedy="Choose another superior.",
                zh=f"在您的管理范围及其上级中没有在任岗位 {superior_post_id}，请另选。",
            )
        if not may_report(post.layer, found.layer):
            raise RefusedError(
                f"A post of the layer {post.layer} cannot report to one of {found.layer}.",
                remedy=f"From the top: {', '.join(LAYERS)}.",
                zh=f"{post.layer} 层岗位不能向 {found.layer} 层岗位汇报。",
            )
        step: str | None = superior_post_id
        while step is not None:
            if step == post.post_id:
                raise ReportingRingError(
                    f"'{superior_post_id}' reports, over others, to this post.",
                    remedy="Change that one's superior first.",
                    zh=f"{superior_post_id} 间接向本岗位汇报，会形成环，请先调整。",
                )
            step = work.session.scalars(
                sa.select(StaffPost.superior_post_id).where(StaffPost.post_id == step)
            ).one_or_none()
    post.superior_post_id = superior_post_id


def _at_or_above(work: UnitOfWork, unit_id: str) -> bool:
    if in_scope(work, unit_id):
        return True
    assert work.scope.roots is not None  # everything is in the scope of all
    upwards = sa.select(OrgUnit.unit_id).where(
        OrgUnit.unit_id == unit_id, OrgUnit.unit_id.in_(above(work.scope.roots))
    )
    return work.session.scalar(upwards) is not None


def _pass_up(work: UnitOfWork, post: StaffPost) -> None:
    """Let what reports to ``post`` report to its superior, wherever it stands."""
    with work.beyond("posts elsewhere may report to one that ends; they must not hang in the air"):
        work.session.execute(
            sa.update(StaffPost)
            .where(StaffPost.superior_post_id == post.post_id)
            .values(superior_post_id=post.superior_post_id, version=StaffPost.version + 1)
            .execution_options(synchronize_session="fetch")
        )


def _step(work: UnitOfWork, post: Any) -> ReportingStep:
    person = work.session.execute(
        sa.select(Staff.staff_id, Staff.name_zh).where(Staff.staff_id == post.staff_id)
    ).one_or_none()
    is_seen = person is not None and in_scope(work, post.unit_id)
    return ReportingStep(
        post.post_id,
        post.role,
        post.layer,
        post.unit_id,
        person.staff_id if person and is_seen else None,
        person.name_zh if person and is_seen else None,
    )


def _unknown(en: str, zh: str, value: str, allowed: tuple[str, ...]) -> RefusedError:
    return RefusedError(
        f"There is no {en} '{value}'.",
        remedy=f"Choose one of: {', '.join(allowed)}.",
        zh=f"没有{zh} {value}，可选：{'、'.join(allowed)}。",
    )
