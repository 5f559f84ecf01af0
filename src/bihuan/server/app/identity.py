"""Who is behind a request: a session's token or an API token becomes an actor.

A session is an opaque random token of which only the SHA-256 is kept. Its CSRF value is derived
from the token, so a page can hold it and nobody can make it without the cookie.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

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
    """Return who shows a session token or an API token; one query, nothing written.

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


def _with_posts(statement: Any) -> Any:
    """Add an account, as columns, and the posts it holds: one row per post, one if it has none."""
    of_account = (Account.account_id, Account.unit_id, Account.language, Account.must_change)
    return (
        statement.add_columns(*of_account, StaffPost.role, StaffPost.unit_id.label("post_unit_id"))
        .where(Account.status == "active")
        .outerjoin(
            StaffPost,
            sa.and_(StaffPost.staff_id == Account.staff_id, StaffPost.status == "active"),
        )
        .order_by(StaffPost.post_id)
    )


# built once: every request asks one of them
_BY_SESSION = _with_posts(
    sa.select(
        SignIn.sign_in_id,
        SignIn.method,
        SignIn.seen_at,
        SignIn.expires_at,
        SignIn.ended_at,
        SignIn.idle_seconds,
    )
    .join(Account, Account.account_id == SignIn.account_id)
    .where(SignIn.token_hash == sa.bindparam("token_hash"))
)
_BY_TOKEN = _with_posts(
    sa.select(
        ApiToken.token_id,
        ApiToken.secret_hash,
        ApiToken.used_at,
        ApiToken.expires_at,
        ApiToken.revoked_at,
        ApiToken.actions,
    )
    .join(Account, Account.account_id == ApiToken.account_id)
    .where(ApiToken.token_id == sa.bindparam("token_id"))
)
_BY_ACCOUNT = _with_posts(
    sa.select().select_from(Account).where(Account.account_id == sa.bindparam("account_id"))
)


def _identify_session(work: UnitOfWork, token: str, now: datetime) -> Identity:
    rows = work.session.execute(_BY_SESSION, {"token_hash": hash_of(token)}).all()
    if not rows:
        raise _unknown()
    row = rows[0]
    idle = timedelta(seconds=row.idle_seconds)
    if row.ended_at is not None or now >= row.expires_at or now >= row.seen_at + idle:
        raise _unknown()
    stale_after = min(timedelta(seconds=SEEN_SECONDS), idle / 4)
    must_change = row.must_change and row.method == "password"
    return Identity(
        _actor(rows, row.sign_in_id, allowed=frozenset() if must_change else None),
        row.sign_in_id,
        csrf_of(token),
        "session",
        is_seen_stale=now >= row.seen_at + stale_after,
        must_change=must_change,
    )


def _identify_token(work: UnitOfWork, bearer: str, now: datetime) -> Identity:
    prefix, _, rest = bearer.partition("_")
    token_id, _, secret = rest.partition("_")
    if prefix != TOKEN_PREFIX or not token_id or not secret or len(bearer) > 200:
        raise _unknown()
    rows = work.session.execute(_BY_TOKEN, {"token_id": token_id}).all()
    # a hash is compared even without a row: what ids exist is not told by the time it takes
    is_same = hmac.compare_digest(hash_of(secret), rows[0].secret_hash if rows else "")
    if not rows or not is_same:
        raise _unknown()
    row = rows[0]
    if row.revoked_at is not None or now >= row.expires_at:
        raise _unknown()
    allowed = frozenset() if row.must_change else frozenset(row.actions)
    return Identity(
        _actor(rows, row.token_id, allowed=allowed),
        row.token_id,
        None,
        "token",
        is_seen_stale=row.used_at is None or now >= row.used_at + timedelta(seconds=SEEN_SECONDS),
        must_change=row.must_change,
    )


def actor_of(work: UnitOfWork, account_id: str) -> Actor | None:
    """Return an active account as an actor with the posts it holds at this moment, or None."""
    rows = work.session.execute(_BY_ACCOUNT, {"account_id": account_id}).all()
    return _actor(rows, "") if rows else None


def _actor(rows: Sequence[Any], session_id: str, *, allowed: frozenset[str] | None = None) -> Actor:
    return Actor(
        account_id=rows[0].account_id,
        home_unit_id=rows[0].unit_id,
        posts=tuple(Post(row.role, row.post_unit_id) for row in rows if row.role in ROLES),
        allowed=allowed,
        session_id=session_id,
        language=rows[0].language,
    )


def _unknown() -> UnauthenticatedError:
    return UnauthenticatedError(
        "The session or token is not valid any more.",
        remedy="Sign in again, or use a token that has neither expired nor been revoked.",
        zh="会话或令牌已失效，请重新登录，或换用有效的令牌。",
    )
