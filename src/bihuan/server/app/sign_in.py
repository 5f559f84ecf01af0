"""Sign-in by name and password, and the sessions it opens."""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import UnauthenticatedError, missing
from bihuan.server.app.identity import (
    Identity,
    csrf_of,
    hash_of,
    identify,
    note_seen,
    require_action,
)
from bihuan.server.app.password import PASSWORDS, Passwords, folded_name
from bihuan.server.app.service import Service
from bihuan.server.control import Account, Scope, SignIn, SignInGuard, UnitOfWork
from bihuan.server.settings import Settings

__all__ = [
    "Identity", "identify", "note_seen", "require_action", "SignInRefusedError", "Device",
    "SignedIn", "sign_in", "open_session", "sign_out", "find_sessions", "end_session",
    "end_sessions", "find_by_name", "unlock", "is_locked", "count_attempt", "forget_attempts",
    "forget_old_attempts",
]  # fmt: skip


class SignInRefusedError(UnauthenticatedError):
    """Name or password is wrong, or the account is locked or closed: one answer for all."""


@dataclass(frozen=True, slots=True)
class Device:
    """Where a sign-in comes from: shown in the list of sessions, never trusted."""

    address: str = ""
    user_agent: str = ""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A fresh session; the only moment at which its token is known.

    Parameters
    ----------
    token
        For the cookie.
    csrf
        For the header ``X-CSRF-Token``.
    identity
        As :func:`identify` will give it.
    expires_at
        When it ends at the latest.
    """

    token: str
    csrf: str
    identity: Identity
    expires_at: datetime


def sign_in(
    service: Service,
    name: str,
    password: str,
    device: Device,
    *,
    passwords: Passwords = PASSWORDS,
) -> SignedIn:
    """Open a session for the account of that name.

    An attempt is counted before the password is looked at, so that guesses at once cannot pass
    the limit; names without an account are counted, locked and hashed for like the others.

    Parameters
    ----------
    service
        The running service; its settings say how many attempts, and how long sessions last.
    name, password
        As typed.
    device
        Where it comes from.
    passwords
        Hashes and checks.

    Raises
    ------
    SignInRefusedError
        Name or password is wrong, or the account is locked or closed.
    """
    settings = service.settings
    with service.system_work() as work:
        is_open = count_attempt(work, name, settings)
    if not is_open:
        raise _refused(service, name, "locked", device)
    with service.system_work(read_only=True) as work:
        account = find_by_name(work, name)
        known = None if account is None else (account.account_id, account.unit_id)
        known_hash = None if account is None else account.password_hash
    if not passwords.check(known_hash, password) or known is None:
        raise _refused(service, name, "unknown" if known is None else "password", device)
    account_id, unit_id = known
    with service.control.work(
        Scope.everything(), account_id=account_id, home_unit_id=unit_id
    ) as work:
        fresh = work.session.get(Account, account_id)
        if fresh and fresh.status == "active" and fresh.password_hash == known_hash:
            forget_attempts(work, name)
            if passwords.is_outdated(known_hash):
                fresh.password_hash = passwords.hash(password)
            return open_session(work, fresh, device, settings, method="password")
    raise _refused(service, name, "closed", device)


def open_session(
    work: UnitOfWork, account: Account, device: Device, settings: Settings, *, method: str
) -> SignedIn:
    """Open a session for an account that has proved itself.

    Parameters
    ----------
    work
        A unit of work of the system, under the account's name.
    account
        Whose.
    device
        Where it comes from.
    settings
        How long sessions last.
    method
        ``password`` or ``oidc``.
    """
    token = secrets.token_urlsafe(32)
    row = SignIn(
        sign_in_id=work.new_id("signin"),
        account_id=account.account_id,
        token_hash=hash_of(token),
        method=method,
        started_at=work.now,
        seen_at=work.now,
        expires_at=work.now + timedelta(hours=settings.session_hours),
        idle_seconds=round(settings.session_idle_minutes * 60),
        user_agent=device.user_agent[:200],
        address=device.address[:64],
    )
    work.session.add(row)
    account.signed_in_at = work.now
    work.audit("sign_in.open", "account", account.account_id, method=method, address=row.address)
    work.session.flush()
    identity = identify(work, session_token=token, bearer=None, now=work.now)
    assert identity is not None  # a token was given
    return SignedIn(token, csrf_of(token), identity, row.expires_at)


def sign_out(work: UnitOfWork, actor: Actor) -> None:
    """End the session that the actor came with; a second time does nothing."""
    end_session(work, actor.account_id, actor.session_id)


def find_sessions(account_id: str, now: datetime) -> sa.Select[SignIn]:
    """Return the select of an account's sessions that are neither ended nor past their time."""
    return sa.select(SignIn).where(
        SignIn.account_id == account_id, SignIn.ended_at.is_(None), SignIn.expires_at > now
    )


def end_session(work: UnitOfWork, account_id: str, session_id: str) -> None:
    """End one session of an account.

    Raises
    ------
    NotFoundError
        If the account has no such session.
    """
    row = work.session.get(SignIn, session_id)
    if row is None or row.account_id != account_id:
        raise missing("session", "会话", session_id)
    if row.ended_at is None:
        row.ended_at = work.now
        work.audit("sign_in.end", "account", account_id, session=session_id)


def end_sessions(work: UnitOfWork, account_id: str, *, keep: str = "") -> int:
    """End all sessions of an account but ``keep``; return how many were open."""
    rows = work.session.scalars(find_sessions(account_id, work.now)).all()
    ended = [row for row in rows if row.sign_in_id != keep]
    for row in ended:
        row.ended_at = work.now
    if ended:
        work.audit("sign_in.end_all", "account", account_id, sessions=len(ended))
    return len(ended)


def find_by_name(work: UnitOfWork, name: str) -> Account | None:
    """Return the account of a name, in any case and width; None if there is none."""
    return work.session.scalars(
        sa.select(Account).where(Account.name == folded_name(name))
    ).one_or_none()


def unlock(work: UnitOfWork, account: Account) -> None:
    """Forget the wrong passwords given for an account."""
    forget_attempts(work, account.name)
    work.audit("account.unlock", "account", account.account_id)


def is_locked(work: UnitOfWork, account: Account) -> bool:
    """Tell whether an account is locked by wrong passwords at this moment."""
    guard = work.session.get(SignInGuard, _guard_key(account.name))
    return guard is not None and guard.locked_until is not None and guard.locked_until > work.now


def forget_attempts(work: UnitOfWork, name: str) -> None:
    """Forget the wrong passwords given for a name."""
    work.session.execute(sa.delete(SignInGuard).where(SignInGuard.name_hash == _guard_key(name)))


def forget_old_attempts(work: UnitOfWork, settings: Settings) -> int:
    """Delete counts of wrong passwords that bind nobody any more; return how many."""
    before = work.now - timedelta(minutes=settings.lockout_minutes)
    result: Any = work.session.execute(sa.delete(SignInGuard).where(SignInGuard.last_at < before))
    return int(result.rowcount)


def _guard_key(name: str) -> str:
    return hash_of(folded_name(name))


def count_attempt(work: UnitOfWork, name: str, settings: Settings) -> bool:
    """Count an attempt for a name; tell whether the password may be looked at.

    The count is committed before the password is checked; :func:`forget_attempts` clears it.
    """
    key, now = _guard_key(name), work.now
    guard = work.session.get(SignInGuard, key, with_for_update=True)
    if guard is None:
        with contextlib.suppress(IntegrityError), work.session.begin_nested():
            work.session.add(SignInGuard(name_hash=key, attempts=0, last_at=now))
        # another attempt may have come first; then this one waits for it here
        guard = work.session.get_one(SignInGuard, key, with_for_update=True)
    lock = timedelta(minutes=settings.lockout_minutes)
    if guard.locked_until is not None and guard.locked_until > now:
        return False
    if guard.locked_until is not None or guard.last_at <= now - lock:
        guard.attempts = 0
    guard.attempts += 1
    guard.last_at = now
    guard.locked_until = now + lock if guard.attempts >= settings.lockout_attempts else None
    return True


def _refused(service: Service, name: str, reason: str, device: Device) -> SignInRefusedError:
    """Audit a refused sign-in and return the one answer for all reasons."""
    with service.system_work() as work:
        account = find_by_name(work, name)
        work.audit(
            "sign_in.refuse",
            "account",
            account.account_id if account else "unknown",
            reason=reason,
            address=device.address[:64],
        )
    settings = service.settings
    return SignInRefusedError(
        "The account name or the password is wrong, or the account is locked or closed.",
        remedy=f"After {settings.lockout_attempts} wrong attempts an account stays locked for "
        f"{settings.lockout_minutes:g} minutes; an administrator can unlock it.",
        zh=f"账号或密码错误，或账号已锁定、停用。连续 {settings.lockout_attempts} 次错误将锁定 "
        f"{settings.lockout_minutes:g} 分钟，可请管理员解锁。",
    )
