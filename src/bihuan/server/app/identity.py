"""Who is behind a request: a session's token or an API token becomes an actor.

A session is an opaque random token of which only the SHA-256 is kept. Its CSRF value is derived
from the token, so a page can hold it and nobody can make it without the cookie.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa

from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.errors import UnauthenticatedError
from bihuan.server.app.permission import ROLES, PermissionDeniedError
from bihuan.server.control import Account, ApiToken, SignIn, StaffPost, UnitOfWork

TOKEN_PREFIX = "bh"
"""Tokens begin with it, so that a leaked one can be searched for."""
SEEN_SECONDS = 60
"""Last use is written at most this often; an idle limit is exact to as much."""


class PasswordChangeNeededError(PermissionDeniedError):
    """Nothing may be done before the password that an administrator set is changed."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is behind a request.

    Parameters
    ----------
    actor
        The account with its posts as they stand now.
    session_id
        Id of the sign-in or of the API token.
    csrf
        What the header ``X-CSRF-Token`` must carry on unsafe methods; None for API tokens.
    kind
        ``session`` or ``token``.
    is_seen_stale
        Whether :func:`note_seen` has something to write.
    must_change
        Whether the password must be changed first; the actor may then do nothing else.
    """

    actor: Actor
    session_id: str
    csrf: str | None
    kind: Literal["session", "token"]
    is_seen_stale: bool = False
    must_change: bool = False


def hash_of(secret: str) -> str:
    """Return the SHA-256 of a random secret, as hexadecimal digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def csrf_of(session_token: str) -> str:
    """Return the CSRF value of a session: an HMAC under its token, which scripts cannot read."""
    return hmac.new(session_token.encode(), b"bihuan csrf", hashlib.sha256).hexdigest()


def identify(
    work: UnitOfWork, *, session_token: str | None, bearer: str | None, now: datetime
) -> Identity | None:
    """Return who shows a session token or an API token; at most two queries, nothing written.

    Parameters
    ----------
    work
        A unit of work of the system; read-only is enough.
    session_token
        Value of the session cookie.
    bearer
        Value after ``Authorization: Bearer``; it goes before a cookie.
    now
        The present moment.

    Returns
    -------
    Identity | None
        None if neither is given. Call :func:`note_seen` when ``is_seen_stale``.

    Raises
    ------
    UnauthenticatedError
        If one is given and it is forged, expired, idle too long, revoked, or its account closed.
    """
    if bearer is not None:
        return _identify_token(work, bearer, now)
    if session_token is not None:
        return _identify_session(work, session_token, now)
    return None


def note_seen(work: UnitOfWork, identity: Identity) -> None:
    """Write that a session or token is in use; call it only when ``is_seen_stale``."""
    statement: sa.Update
    if identity.kind == "session":
        statement = (
            sa.update(SignIn)
            .where(SignIn.sign_in_id == identity.session_id)
            .values(seen_at=work.now)
        )
    else:
        statement = (
            sa.update(ApiToken)
            .where(ApiToken.token_id == identity.session_id)
            .values(used_at=work.now)
        )
    work.session.execute(statement.execution_options(synchronize_session=False))


def require_action(identity: Identity, action: str) -> None:
    """Refuse a caller that may not do ``action``.

    Raises
    ------
    PasswordChangeNeededError
        If the password was set by an administrator and not changed since.
    PermissionDeniedError
        If no post, or not the token, grants the action.
    """
    if identity.must_change:
        raise PasswordChangeNeededError(
            "The password was set by an administrator and must be changed first.",
            remedy="PUT /api/v1/me/password with the old and a new one.",
            zh="当前密码由管理员设置，请先修改密码。",
        )
    identity.actor.scope(action)


def _identify_session(work: UnitOfWork, token: str, now: datetime) -> Identity:
    found = work.session.execute(
        sa.select(SignIn, Account)
        .join(Account, Account.account_id == SignIn.account_id)
        .where(SignIn.token_hash == hash_of(token))
    ).one_or_none()
    if found is None or found.Account.status != "active":
        raise _unknown()
    row: SignIn = found.SignIn
    idle = timedelta(seconds=row.idle_seconds)
    if row.ended_at is not None or now >= row.expires_at or now >= row.seen_at + idle:
        raise _unknown()
    stale_after = min(timedelta(seconds=SEEN_SECONDS), idle / 4)
    identity = identity_of(
        work,
        found.Account,
        row.sign_in_id,
        csrf_of(token),
        is_password_old=found.Account.must_change and row.method == "password",
    )
    return replace(identity, is_seen_stale=now >= row.seen_at + stale_after)


def _identify_token(work: UnitOfWork, bearer: str, now: datetime) -> Identity:
    prefix, _, rest = bearer.partition("_")
    token_id, _, secret = rest.partition("_")
    if prefix != TOKEN_PREFIX or not token_id or not secret or len(bearer) > 200:
        raise _unknown()
    found = work.session.execute(
        sa.select(ApiToken, Account)
        .join(Account, Account.account_id == ApiToken.account_id)
        .where(ApiToken.token_id == token_id)
    ).one_or_none()
    # a hash is compared even without a row: what ids exist is not told by the time it takes
    is_same = hmac.compare_digest(hash_of(secret), found.ApiToken.secret_hash if found else "")
    if found is None or not is_same or found.Account.status != "active":
        raise _unknown()
    row: ApiToken = found.ApiToken
    if row.revoked_at is not None or now >= row.expires_at:
        raise _unknown()
    is_stale = row.used_at is None or now >= row.used_at + timedelta(seconds=SEEN_SECONDS)
    identity = identity_of(
        work,
        found.Account,
        row.token_id,
        None,
        allowed=frozenset(row.actions),
        is_password_old=found.Account.must_change,
    )
    return replace(identity, is_seen_stale=is_stale)


def identity_of(
    work: UnitOfWork,
    account: Account,
    session_id: str,
    csrf: str | None,
    *,
    allowed: frozenset[str] | None = None,
    is_password_old: bool = False,
) -> Identity:
    """Return an account as a caller, with the posts it holds at this moment."""
    posts = work.session.execute(
        sa.select(StaffPost.role, StaffPost.unit_id)
        .where(StaffPost.staff_id == account.staff_id, StaffPost.status == "active")
        .order_by(StaffPost.post_id)
    ).all()
    actor = Actor(
        account_id=account.account_id,
        home_unit_id=account.unit_id,
        posts=tuple(Post(role, unit_id) for role, unit_id in posts if role in ROLES),
        allowed=frozenset() if is_password_old else allowed,
        session_id=session_id,
        language=account.language,
    )
    return Identity(
        actor,
        session_id,
        csrf,
        "token" if csrf is None else "session",
        must_change=is_password_old,
    )


def _unknown() -> UnauthenticatedError:
    return UnauthenticatedError(
        "The session or token is not valid any more.",
        remedy="Sign in again, or use a token that has neither expired nor been revoked.",
        zh="会话或令牌已失效，请重新登录，或换用有效的令牌。",
    )
