"""Staff, posts and accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted
from bihuan.server.api.organisation_routes import Id, Name, OptionalName
from bihuan.server.app.account import (
    NewAccount,
    close_account,
    find_accounts,
    get_account,
    open_account,
    reopen_account,
    reset_password,
)
from bihuan.server.app.people import (
    NewPost,
    NewStaff,
    add_staff,
    change_staff,
    end_post,
    find_posts,
    find_staff,
    get_post,
    get_staff,
    grant_post,
    leave,
    reporting_line,
    require_administers,
    set_superior,
)
from bihuan.server.app.permission import ROLES
from bihuan.server.app.sign_in import is_locked, unlock

router = Router(tag="people")

RoleName = Literal[
    "planner",
    "analyst",
    "approver",
    "channel_operator",
    "outbound_seat",
    "hall_clerk",
    "account_manager",
    "grid_manager",
    "product_manager",
    "director",
    "auditor",
    "administrator",
]
Layer = Literal["management", "line", "small_ceo", "sales"]
Password = Annotated[
    str,
    StringConstraints(strip_whitespace=False),
    Field(min_length=1, max_length=200, examples=["a long phrase of my own"]),
]


class RoleView(View):
    """A role that a post can carry."""

    role: str
    title: dict[str, str]
    actions: list[str]


class StaffView(View):
    """A person who works for a unit."""

    staff_id: str
    unit_id: str
    name_zh: str
    name_en: str
    channel_id: str | None
    status: str
    version: int


class StaffBody(Body):
    """A person to be added."""

    staff_id: Id = Field(examples=["staff-new-1"])
    unit_id: Id
    name_zh: Name
    name_en: OptionalName = ""
    channel_id: Id | None = None


class StaffChange(Body):
    """What shall be otherwise; what is left out stays."""

    unit_id: Id | None = None
    name_zh: Name | None = None
    name_en: OptionalName | None = None
    channel_id: Id | None = None


class PostView(View):
    """A role that a person holds at a unit."""

    post_id: str
    staff_id: str
    role: str
    unit_id: str
    layer: str
    line_id: str | None
    superior_post_id: str | None
    status: str
    since: datetime
    ended_at: datetime | None
    version: int


class PostBody(Body):
    """A post to be granted."""

    staff_id: Id
    role: RoleName
    unit_id: Id
    layer: Layer | None = None
    line_id: Id | None = None
    superior_post_id: Id | None = None


class SuperiorBody(Body):
    """To which post another reports; null: to nobody."""

    superior_post_id: Id | None


class StepView(View):
    """One post on the way up; the person is null where out of your reach."""

    post_id: str
    role: str
    layer: str
    unit_id: str
    staff_id: str | None
    name_zh: str | None


class AccountView(View):
    """What a person signs in with."""

    account_id: str
    unit_id: str
    name: str
    staff_id: str
    title_zh: str
    title_en: str
    language: str
    status: str
    must_change: bool
    opened_at: datetime
    signed_in_at: datetime | None
    version: int


class AccountBody(Body):
    """An account to be opened; without a password, sign-in is by the OpenID provider only."""

    staff_id: Id
    name: str = Field(min_length=1, max_length=64, pattern=r"^\S+$", examples=["new-account"])
    password: Password | None = None
    language: Literal["zh", "en"] = "zh"


class PasswordBody(Body):
    """A first password, to be changed at the next sign-in."""

    password: Password


class LockView(View):
    """Whether wrong passwords have locked the account."""

    is_locked: bool


@router.get("/roles")
def list_roles(call: Annotated[Call, permitted("org.read")]) -> list[RoleView]:
    """List the roles and what each may do."""
    return [
        RoleView(role=name, title=dict(role.title), actions=sorted(role.actions))
        for name, role in ROLES.items()
    ]


@router.get("/staff")
def list_staff(
    call: Annotated[Call, permitted("staff.read")],
    page: PageQuery,
    unit_id: Id | None = None,
    status: Literal["active", "left"] | None = None,
) -> Page[StaffView]:
    """List staff, of one unit's subtree if it is given."""
    with call.read() as work:
        statement = find_staff(unit_id=unit_id, status=status)
        return call.page(work, statement, page, StaffView.model_validate, ascending=True)


@router.post("/staff", status_code=201)
def create_staff(call: Annotated[Call, permitted("staff.manage")], body: StaffBody) -> StaffView:
    """Add a person to a unit."""
    return call.create(
        lambda work: add_staff(work, NewStaff(**body.model_dump())),
        StaffView.model_validate,
        location=lambda view: f"/api/v1/staff/{view.staff_id}",
    )


@router.get("/staff/{staff_id}")
def show_staff(call: Annotated[Call, permitted("staff.read")], staff_id: str) -> StaffView:
    """Show one person."""
    with call.read() as work:
        row = get_staff(work, staff_id)
        return call.show(StaffView.model_validate(row), row.version)


@router.patch("/staff/{staff_id}")
def change_person(
    call: Annotated[Call, permitted("staff.manage")], staff_id: str, body: StaffChange
) -> StaffView:
    """Change a person's names, channel or unit."""
    with call.change() as work:
        row = get_staff(work, staff_id)
        call.match(row.version)
        change_staff(work, row, **body.model_dump())
        return call.show(StaffView.model_validate(row), row.version)


@router.post("/staff/{staff_id}/departure")
def depart(call: Annotated[Call, permitted("staff.manage")], staff_id: str) -> StaffView:
    """Let a person go: posts end, the account closes, sessions and tokens with it."""
    with call.change() as work:
        row = get_staff(work, staff_id)
        call.match(row.version)
        leave(work, call.actor, row)
        return call.show(StaffView.model_validate(row), row.version)


@router.get("/posts")
def list_posts(  # noqa: PLR0913 - filters of a list
    call: Annotated[Call, permitted("staff.read")],
    page: PageQuery,
    staff_id: Id | None = None,
    unit_id: Id | None = None,
    role: RoleName | None = None,
    layer: Layer | None = None,
    superior_post_id: Id | None = None,
) -> Page[PostView]:
    """List active posts by person, unit, role, layer, or to whom they report."""
    wanted: dict[str, Any] = {
        "staff_id": staff_id,
        "unit_id": unit_id,
        "role": role,
        "layer": layer,
        "superior_post_id": superior_post_id,
    }
    with call.read() as work:
        return call.page(work, find_posts(**wanted), page, PostView.model_validate)


@router.post("/posts", status_code=201)
def create_post(call: Annotated[Call, permitted("staff.manage")], body: PostBody) -> PostView:
    """Give a person a role at a unit within your own."""
    return call.create(
        lambda work: grant_post(work, call.actor, NewPost(**body.model_dump())),
        PostView.model_validate,
        location=lambda view: f"/api/v1/posts/{view.post_id}",
    )


@router.get("/posts/{post_id}")
def show_post(call: Annotated[Call, permitted("staff.read")], post_id: str) -> PostView:
    """Show one post."""
    with call.read() as work:
        row = get_post(work, post_id)
        return call.show(PostView.model_validate(row), row.version)


@router.get("/posts/{post_id}/reporting-line")
def show_line(call: Annotated[Call, permitted("staff.read")], post_id: str) -> list[StepView]:
    """List the posts from one up to the one that reports to nobody."""
    with call.read() as work:
        steps = reporting_line(work, get_post(work, post_id))
        return [StepView.model_validate(step) for step in steps]


@router.put("/posts/{post_id}/superior")
def put_superior(
    call: Annotated[Call, permitted("staff.manage")], post_id: str, body: SuperiorBody
) -> PostView:
    """Say to which post another reports."""
    with call.change() as work:
        row = get_post(work, post_id)
        call.match(row.version)
        set_superior(work, row, body.superior_post_id)
        return call.show(PostView.model_validate(row), row.version)


@router.post("/posts/{post_id}/end")
def finish_post(call: Annotated[Call, permitted("staff.manage")], post_id: str) -> PostView:
    """Take a post back; what reported to it reports to its superior."""
    with call.change() as work:
        row = get_post(work, post_id)
        call.match(row.version)
        end_post(work, call.actor, row)
        return call.show(PostView.model_validate(row), row.version)


@router.get("/accounts")
def list_accounts(
    call: Annotated[Call, permitted("account.read")],
    page: PageQuery,
    unit_id: Id | None = None,
    status: Literal["active", "closed"] | None = None,
) -> Page[AccountView]:
    """List accounts, of one unit's subtree if it is given."""
    with call.read() as work:
        statement = find_accounts(unit_id=unit_id, status=status)
        return call.page(work, statement, page, AccountView.model_validate)


@router.post("/accounts", status_code=201)
def create_account(
    call: Annotated[Call, permitted("account.manage")], body: AccountBody
) -> AccountView:
    """Open an account for a person."""
    return call.create(
        lambda work: open_account(work, call.actor, NewAccount(**body.model_dump())),
        AccountView.model_validate,
        location=lambda view: f"/api/v1/accounts/{view.account_id}",
    )


@router.get("/accounts/{account_id}")
def show_account(call: Annotated[Call, permitted("account.read")], account_id: str) -> AccountView:
    """Show one account."""
    with call.read() as work:
        row = get_account(work, account_id)
        return call.show(AccountView.model_validate(row), row.version)


@router.get("/accounts/{account_id}/lock")
def show_lock(call: Annotated[Call, permitted("account.read")], account_id: str) -> LockView:
    """Tell whether wrong passwords have locked an account."""
    with call.read() as work:
        return LockView(is_locked=is_locked(work, get_account(work, account_id)))


@router.delete("/accounts/{account_id}/lock", status_code=204)
def delete_lock(call: Annotated[Call, permitted("account.manage")], account_id: str) -> None:
    """Unlock an account."""
    with call.change() as work:
        row = get_account(work, account_id)
        require_administers(work, call.actor, row.staff_id)
        unlock(work, row)


@router.post("/accounts/{account_id}/password-reset")
def reset(
    call: Annotated[Call, permitted("account.manage")], account_id: str, body: PasswordBody
) -> AccountView:
    """Set a first password; ends what the account has open."""
    with call.change() as work:
        row = get_account(work, account_id)
        call.match(row.version)
        reset_password(work, call.actor, row, body.password)
        return call.show(AccountView.model_validate(row), row.version)


@router.post("/accounts/{account_id}/closure")
def close(call: Annotated[Call, permitted("account.manage")], account_id: str) -> AccountView:
    """Close an account: its sessions and tokens end with it."""
    with call.change() as work:
        row = get_account(work, account_id)
        call.match(row.version)
        close_account(work, call.actor, row)
        return call.show(AccountView.model_validate(row), row.version)


@router.post("/accounts/{account_id}/reopening")
def reopen(call: Annotated[Call, permitted("account.manage")], account_id: str) -> AccountView:
    """Open a closed account again."""
    with call.change() as work:
        row = get_account(work, account_id)
        call.match(row.version)
        reopen_account(work, call.actor, row)
        return call.show(AccountView.model_validate(row), row.version)
