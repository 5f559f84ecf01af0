"""Sign-in and sign-out, sessions, API tokens, one's own password."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query, Response
from fastapi.responses import RedirectResponse
from pydantic import AwareDatetime, Field

from bihuan.server.api.frame import Body, Call, Page, PageQuery, Router, View, permitted, public
from bihuan.server.api.frame import signed_in as own
from bihuan.server.api.frame.gate import COOKIE
from bihuan.server.api.organisation_routes import Name
from bihuan.server.api.people_routes import Password
from bihuan.server.app.account import (
    change_password,
    get_account,
    require_session,
    set_language,
)
from bihuan.server.app.api_token import create_token, find_tokens, revoke_token
from bihuan.server.app.identity import csrf_of
from bihuan.server.app.oidc import finish_oidc, start_oidc
from bihuan.server.app.people import require_administers
from bihuan.server.app.permission import ROLES
from bihuan.server.app.sign_in import (
    Device,
    SignedIn,
    end_session,
    end_sessions,
    find_sessions,
    sign_in,
    sign_out,
)

router = Router(tag="sign-in")

OIDC_COOKIE = "bihuan_oidc"
OIDC_PATH = "/api/v1/oidc"


class SignInBody(Body):
    """Name and password."""

    name: str = Field(min_length=1, max_length=64, examples=["demo-planner"])
    password: Password


class SignedInView(View):
    """A fresh session; its token is in the cookie."""

    session_id: str
    account_id: str
    csrf: str = Field(description="For the header X-CSRF-Token on every change.")
    expires_at: datetime
    must_change: bool = Field(description="Whether the password must be changed first.")


class PostOfMine(View):
    """A role that you hold, and where."""

    role: str
    title: dict[str, str]
    unit_id: str


class MeView(View):
    """Who you are and what you may do."""

    account_id: str
    name: str
    title_zh: str
    title_en: str
    staff_id: str
    unit_id: str
    language: str
    posts: list[PostOfMine]
    actions: dict[str, list[str]] = Field(
        description="By action, the units whose subtrees it covers."
    )
    must_change: bool
    csrf: str | None = Field(description="None if you came with an API token.")


class LanguageBody(Body):
    """In which language messages come."""

    language: Literal["zh", "en"]


class OwnPasswordBody(Body):
    """The present password and a new one."""

    old: Password
    new: Password


class SessionView(View):
    """Where somebody is signed in."""

    session_id: str
    method: str
    started_at: datetime
    seen_at: datetime
    expires_at: datetime
    user_agent: str
    address: str
    is_current: bool


class TokenBody(Body):
    """A key for a program: what for, which of your actions, until when."""

    title: Name
    actions: list[str] = Field(min_length=1, max_length=100, examples=[["org.read"]])
    expires_at: AwareDatetime


class TokenView(View):
    """A key of a program; its secret is not kept."""

    token_id: str
    title: str
    actions: list[str]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None
    revoked_at: datetime | None


class NewTokenView(TokenView):
    """A fresh key."""

    token: str = Field(description="Shown once; send it as Authorization: Bearer.")


@router.post("/sessions", status_code=201)
def create_session(
    call: Annotated[Call, public("signing in is how callers become known")], body: SignInBody
) -> SignedInView:
    """Sign in by name and password.

    Sets the session cookie. Wrong name, wrong password, locked and closed look the same.
    """
    return _signed_in(call, sign_in(call.service, body.name, body.password, _device(call)))


@router.get("/me")
def show_me(call: Annotated[Call, own()]) -> MeView:
    """Tell who you are, your roles, actions and where they hold."""
    actor = call.actor
    posts = [
        PostOfMine(role=post.role, title=dict(ROLES[post.role].title), unit_id=post.unit_id)
        for post in actor.posts
    ]
    is_session = actor.session_id.startswith("signin_")
    with call.read() as work:
        account = get_account(work, actor.account_id)
        return MeView(
            account_id=account.account_id,
            name=account.name,
            title_zh=account.title_zh,
            title_en=account.title_en,
            staff_id=account.staff_id,
            unit_id=account.unit_id,
            language=account.language,
            posts=posts,
            actions={
                action: sorted(actor.scope(action).roots or ()) for action in sorted(actor.actions)
            },
            must_change=account.must_change,
            csrf=csrf_of(call.request.cookies[COOKIE]) if is_session else None,
        )


@router.put("/me/language", status_code=204)
def put_language(call: Annotated[Call, own()], body: LanguageBody) -> None:
    """Choose the language of messages to you."""
    with call.change() as work:
        set_language(work, call.actor, body.language)


@router.put("/me/password", status_code=204)
def put_password(call: Annotated[Call, own()], body: OwnPasswordBody) -> None:
    """Change your password; your other sessions end."""
    change_password(call.service, call.actor, body.old, body.new)


@router.delete("/sessions/current", status_code=204)
def delete_current(call: Annotated[Call, own()]) -> None:
    """Sign out."""
    require_session(call.actor)
    with call.change() as work:
        sign_out(work, call.actor)
    call.response.delete_cookie(COOKIE, path="/")


@router.get("/sessions")
def list_sessions(call: Annotated[Call, own()], page: PageQuery) -> Page[SessionView]:
    """List where you are signed in."""
    require_session(call.actor)
    with call.read() as work:
        statement = find_sessions(call.actor.account_id, work.now)
        return call.page(work, statement, page, lambda row: _session(row, call))


@router.delete("/sessions/{session_id}", status_code=204)
def delete_session(call: Annotated[Call, own()], session_id: str) -> None:
    """End one of your sessions."""
    require_session(call.actor)
    with call.change() as work:
        end_session(work, call.actor.account_id, session_id)


@router.get("/accounts/{account_id}/sessions")
def list_account_sessions(
    call: Annotated[Call, permitted("account.manage")], account_id: str, page: PageQuery
) -> Page[SessionView]:
    """List where an account is signed in."""
    with call.read() as work:
        account = get_account(work, account_id)
        statement = find_sessions(account.account_id, work.now)
        return call.page(work, statement, page, lambda row: _session(row, call))


@router.delete("/accounts/{account_id}/sessions", status_code=204)
def delete_account_sessions(
    call: Annotated[Call, permitted("account.manage")], account_id: str
) -> None:
    """End every session of an account."""
    with call.change() as work:
        account = get_account(work, account_id)
        require_administers(work, call.actor, account.staff_id)
        end_sessions(work, account.account_id)


@router.get("/api-tokens")
def list_tokens(call: Annotated[Call, own()], page: PageQuery) -> Page[TokenView]:
    """List your API tokens."""
    with call.read() as work:
        statement = find_tokens(call.actor.account_id)
        return call.page(work, statement, page, TokenView.model_validate)


@router.post("/api-tokens", status_code=201)
def make_token(call: Annotated[Call, own()], body: TokenBody) -> NewTokenView:
    """Make an API token for some of your own actions, for a year at most.

    The secret is in this answer alone. No reply is kept, so a repeated request makes another one.
    """
    with call.change() as work:
        row, text = create_token(work, call.actor, body.title, body.actions, body.expires_at)
        told = TokenView.model_validate(row).model_dump()
    return NewTokenView(**told, token=text)


@router.delete("/api-tokens/{token_id}", status_code=204)
def delete_token(call: Annotated[Call, own()], token_id: str) -> None:
    """Revoke one of your API tokens."""
    with call.change() as work:
        revoke_token(work, call.actor.account_id, token_id)


@router.get("/accounts/{account_id}/api-tokens")
def list_account_tokens(
    call: Annotated[Call, permitted("account.manage")], account_id: str, page: PageQuery
) -> Page[TokenView]:
    """List the API tokens of an account."""
    with call.read() as work:
        account = get_account(work, account_id)
        statement = find_tokens(account.account_id)
        return call.page(work, statement, page, TokenView.model_validate)


@router.delete("/accounts/{account_id}/api-tokens/{token_id}", status_code=204)
def delete_account_token(
    call: Annotated[Call, permitted("account.manage")], account_id: str, token_id: str
) -> None:
    """Revoke an API token of an account."""
    with call.change() as work:
        account = get_account(work, account_id)
        require_administers(work, call.actor, account.staff_id)
        revoke_token(work, account.account_id, token_id)


@router.get("/oidc/start", status_code=303, response_class=RedirectResponse)
def begin_oidc(
    call: Annotated[Call, public("signing in is how callers become known")],
    return_to: Annotated[str, Query(max_length=200)] = "/",
) -> Response:
    """Go to the OpenID provider to sign in."""
    begun = start_oidc(call.service, return_to)
    answer = RedirectResponse(begun.url, status_code=303)
    answer.set_cookie(
        OIDC_COOKIE,
        begun.browser_secret,
        max_age=600,
        path=OIDC_PATH,
        secure=call.service.settings.cookie_secure,
        httponly=True,
        samesite="lax",
    )
    return answer


@router.get("/oidc/callback", status_code=303, response_class=RedirectResponse)
def end_oidc(
    call: Annotated[Call, public("the provider sends browsers back here; checked by state")],
    state: Annotated[str, Query(max_length=200)] = "",
    code: Annotated[str | None, Query(max_length=4000)] = None,
    error: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Come back from the OpenID provider; sets the session cookie and goes on."""
    told = {"state": state} | ({"code": code} if code and not error else {})
    browser = call.request.cookies.get(OIDC_COOKIE, "")
    entered, return_to = finish_oidc(call.service, told, browser, _device(call))
    answer = RedirectResponse(return_to, status_code=303)
    _set_cookie(call, answer, entered)
    answer.delete_cookie(OIDC_COOKIE, path=OIDC_PATH)
    return answer


def _signed_in(call: Call, entered: SignedIn) -> SignedInView:
    _set_cookie(call, call.response, entered)
    return SignedInView(
        session_id=entered.identity.session_id,
        account_id=entered.identity.actor.account_id,
        csrf=entered.csrf,
        expires_at=entered.expires_at,
        must_change=entered.identity.must_change,
    )


def _set_cookie(call: Call, answer: Response, entered: SignedIn) -> None:
    lifetime = entered.expires_at - call.service.clock.now()
    answer.set_cookie(
        COOKIE,
        entered.token,
        max_age=int(lifetime.total_seconds()),
        path="/",
        secure=call.service.settings.cookie_secure,
        httponly=True,
        samesite="lax",
    )


def _device(call: Call) -> Device:
    client = call.request.client
    return Device(client.host if client else "", call.request.headers.get("user-agent", ""))


def _session(row: object, call: Call) -> SessionView:
    told = {
        name: getattr(row, name)
        for name in SessionView.model_fields
        if name not in ("session_id", "is_current")
    }
    session_id: str = row.sign_in_id  # type: ignore[attr-defined]
    return SessionView(**told, session_id=session_id, is_current=session_id == call.session_id)
