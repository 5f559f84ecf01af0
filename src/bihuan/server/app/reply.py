"""Exactly one effect for a creating request that is sent more than once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from bihuan.server.app.errors import ConflictError, RefusedError
from bihuan.server.control import KeptReply, UnitOfWork

WHY = "kept replies belong to accounts, not to units"


class KeyReusedError(RefusedError):
    """An idempotency key came back with another request."""


class KeyInUseError(ConflictError):
    """Another request with the same idempotency key is being answered right now."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered: status, JSON body, headers (``ETag``, ``Location``)."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def find_reply(work: UnitOfWork, key: str, request_hash: str) -> Reply | None:
    """Return the reply that this account got for ``key``, or None if there was none.

    Raises
    ------
    KeyReusedError
        If the key was used for another request.
    """
    statement = sa.select(KeptReply).where(
        KeptReply.account_id == work.account_id, KeptReply.key == key
    )
    kept = work.unscoped(statement, WHY).scalar_one_or_none()
    if kept is None:
        return None
    if kept.request_hash != request_hash:
        raise KeyReusedError(
            f"The idempotency key '{key}' was used for another request.",
            remedy="Send a new key with a new request, the same key only with the same request.",
            zh=f"幂等键 {key} 已用于另一个请求，请为新请求换一个键。",
        )
    return Reply(kept.status, kept.body, dict(kept.headers))


def reserve_reply(work: UnitOfWork, key: str, request_hash: str) -> KeptReply:
    """Take ``key`` for the running unit of work, before anything else is done.

    Raises
    ------
    KeyInUseError
        If another transaction took it first and is through by now: look for its reply.
    """
    kept = KeptReply(
        account_id=work.account_id,
        key=key,
        request_hash=request_hash,
        status=0,
        body={},
        headers={},
        kept_at=work.now,
    )
    work.session.add(kept)
    try:
        work.session.flush()
    except IntegrityError as error:
        raise KeyInUseError(
            f"A request with the idempotency key '{key}' is being answered.",
            remedy="Wait a moment and send it again.",
            zh=f"幂等键 {key} 的请求正在处理，请稍后重试。",
        ) from error
    return kept


def keep_reply(kept: KeptReply, reply: Reply) -> None:
    """Fill a reserved reply; it is stored by the same commit as the effect."""
    kept.status, kept.body, kept.headers = reply.status, reply.body, dict(reply.headers)
