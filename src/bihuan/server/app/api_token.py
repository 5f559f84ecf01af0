"""API tokens: keys of programs, for some of their owner's actions, until some day."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError, missing
from bihuan.server.app.identity import TOKEN_PREFIX, hash_of
from bihuan.server.control import ApiToken, UnitOfWork

LONGEST = timedelta(days=366)


def create_token(
    work: UnitOfWork, actor: Actor, title: str, actions: Collection[str], expires_at: datetime
) -> tuple[ApiToken, str]:
    """Make a token that may do ``actions`` in the caller's name until ``expires_at``.

    It never may more than its owner: posts that the owner loses, the token loses.

    Parameters
    ----------
    work, actor
        Who makes it; by a sign-in, not by another token.
    title
        What it is for.
    actions
        Some of the caller's own, at least one.
    expires_at
        Later than now, at most a year.

    Returns
    -------
    (token, text)
        ``text`` is ``bh_<id>_<secret>``: shown now and never again.

    Raises
    ------
    RefusedError
        If an action is not the caller's, the time is past or too far, or the caller is a token.
    """
    if actor.allowed is not None:
        raise RefusedError(
            "An API token, or an account whose password must be changed, makes no tokens.",
            remedy="Sign in, and change the password first where asked.",
            zh="不能用接口令牌创建令牌；请先登录，如有提示请先修改密码。",
        )
    foreign = sorted(set(actions) - actor.actions)
    if foreign or not actions:
        named = foreign[0] if foreign else ""
        raise RefusedError(
            f"A token takes one or more of your own actions; '{named}' is none.",
            remedy=f"Choose among: {', '.join(sorted(actor.actions))}.",
            zh=f"令牌的权限须为您自己权限的一部分，{named or '空'} 不符合。",
        )
    if not work.now < expires_at <= work.now + LONGEST:
        raise RefusedError(
            "A token ends after now and within a year.",
            remedy="Choose another expiry.",
            zh="令牌到期时间须晚于当前且不超过一年。",
        )
    secret = secrets.token_hex(32)
    row = ApiToken(
        token_id=work.new_id("token").removeprefix("token_"),
        account_id=actor.account_id,
        title=title,
        secret_hash=hash_of(secret),
        actions=sorted(set(actions)),
        created_at=work.now,
        expires_at=expires_at,
    )
    work.session.add(row)
    work.session.flush()
    work.audit("token.create", "api_token", row.token_id, actions=row.actions)
    return row, f"{TOKEN_PREFIX}_{row.token_id}_{secret}"


def find_tokens(account_id: str) -> sa.Select[ApiToken]:
    """Return the select of an account's tokens, ended ones too."""
    return sa.select(ApiToken).where(ApiToken.account_id == account_id)


def revoke_token(work: UnitOfWork, account_id: str, token_id: str) -> ApiToken:
    """End one token of an account; a second time does nothing.

    Raises
    ------
    NotFoundError
        If the account has no such token.
    """
    row = work.session.get(ApiToken, token_id)
    if row is None or not hmac.compare_digest(row.account_id, account_id):
        raise missing("API token", "接口令牌", token_id)
    if row.revoked_at is None:
        row.revoked_at = work.now
        work.audit("token.revoke", "api_token", token_id)
    return row


def revoke_tokens(work: UnitOfWork, account_id: str) -> int:
    """End every token of an account; return how many were not ended yet."""
    rows = work.session.scalars(find_tokens(account_id).where(ApiToken.revoked_at.is_(None))).all()
    for row in rows:
        row.revoked_at = work.now
        work.audit("token.revoke", "api_token", row.token_id)
    return len(rows)
