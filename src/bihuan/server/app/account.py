"""Accounts: opened, closed, their passwords set, reset and changed; the demo's accounts."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from bihuan.server.app.actor import Actor
from bihuan.server.app.api_token import revoke_tokens
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.organisation import is_taken, layer_of
from bihuan.server.app.password import PASSWORDS, Passwords, check_strength, folded_name
from bihuan.server.app.people import get_staff, require_administers
from bihuan.server.app.service import Service
from bihuan.server.app.sign_in import count_attempt, end_sessions, forget_attempts
from bihuan.server.control import Account, OrgUnit, Staff, StaffPost, UnitOfWork, below

LANGUAGES = ("zh", "en")


class WrongPasswordError(RefusedError):
    """The present password was not given right, or too often wrong."""


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to be opened.

    Parameters
    ----------
    staff_id
        Whose; a person has one account at most.
    name
        To sign in with; compared without regard to case and width.
    password
        To be changed at the first sign-in; None: sign-in by the OpenID provider only.
    language
        ``zh`` or ``en``.
    """

    staff_id: str
    name: str
    password: str | None = None
    language: str = "zh"


def find_accounts(*, unit_id: str | None = None, status: str | None = None) -> sa.Select[Account]:
    """Return the select of accounts; of one unit's subtree if it is given."""
    statement = sa.select(Account)
    if unit_id is not None:
        statement = statement.where(Account.unit_id.in_(below(frozenset((unit_id,)))))
    return statement if status is None else statement.where(Account.status == status)


def get_account(work: UnitOfWork, account_id: str) -> Account:
    """Return an account.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    found = work.session.scalars(
        sa.select(Account).where(Account.account_id == account_id)
    ).one_or_none()
    if found is None:
        raise missing("account", "账号", account_id)
    return found


def open_account(
    work: UnitOfWork, actor: Actor, new: NewAccount, *, passwords: Passwords = PASSWORDS
) -> Account:
    """Open an account for a person; a password given here must be changed at first sign-in.

    Raises
    ------
    NotFoundError
        If the person is not within the scope.
    BeyondReachError
        If the person's posts reach beyond it.
    WeakPasswordError
        If the password is easily guessed.
    ConflictError
        If the name is taken, or the person has an account or has left.
    """
    person = get_staff(work, new.staff_id)
    require_administers(work, actor, person.staff_id)
    name = folded_name(new.name)
    if not name or name != "".join(name.split()):
        raise RefusedError(
            "An account name is one word without blanks.",
            remedy="Choose another name.",
            zh="账号名不能为空或包含空格，请换一个。",
        )
    if new.language not in LANGUAGES:
        raise RefusedError(
            "The language is zh or en.", remedy="Choose one.", zh="语言为 zh 或 en。"
        )
    if person.status != "active" or is_taken(work, Account.staff_id, person.staff_id):
        raise ConflictError(
            f"'{person.staff_id}' has an account already, or has left.",
            remedy="Look the account up.",
            zh=f"{person.staff_id} 已有账号或已离职。",
        )
    if is_taken(work, Account.name, name):
        raise ConflictError(
            f"The account name '{name}' is taken.",
            remedy="Choose another one.",
            zh=f"账号名 {name} 已被占用，请换一个。",
        )
    if new.password is not None:
        check_strength(name, new.password)
    account = Account(
        account_id=work.new_id("account"),
        unit_id=person.unit_id,
        name=name,
        staff_id=person.staff_id,
        title_zh=person.name_zh,
        title_en=person.name_en,
        language=new.language,
        password_hash=None if new.password is None else passwords.hash(new.password),
        must_change=new.password is not None,
        status="active",
        opened_at=work.now,
    )
    work.session.add(account)
    work.session.flush()
    work.audit("account.open", "account", account.account_id, staff=person.staff_id)
    return account


def reset_password(
    work: UnitOfWork,
    actor: Actor,
    account: Account,
    password: str,
    *,
    passwords: Passwords = PASSWORDS,
) -> Account:
    """Set another person's password, to be changed at the next sign-in; ends all they have open.

    Raises
    ------
    BeyondReachError
        If it is the caller's own, or the person's posts reach beyond the caller's units.
    WeakPasswordError
        If the password is easily guessed.
    """
    require_administers(work, actor, account.staff_id)
    check_strength(account.name, password)
    account.password_hash = passwords.hash(password)
    account.must_change = True
    _end_all(work, account)
    forget_attempts(work, account.name)
    work.session.flush()
    work.audit("account.reset_password", "account", account.account_id)
    return account


def change_password(
    service: Service,
    actor: Actor,
    old: str,
    new: str,
    *,
    passwords: Passwords = PASSWORDS,
) -> None:
    """Change the caller's own password; other sessions of the account end.

    Wrong old passwords count like wrong sign-ins: a stolen session cannot be used to guess.

    Raises
    ------
    RefusedError
        If the caller came with an API token.
    WrongPasswordError
        If the old password is not right, or the account is locked.
    WeakPasswordError
        If the new one is easily guessed, or is the old one.
    """
    require_session(actor)
    with service.system_work() as work:
        account = get_account(work, actor.account_id)
        name, known_hash = account.name, account.password_hash
        is_open = count_attempt(work, name, service.settings)
    if not is_open or not passwords.check(known_hash, old):
        raise WrongPasswordError(
            "The present password is wrong, or was given wrong too often.",
            remedy=f"Try again, after {service.settings.lockout_minutes:g} minutes if locked.",
            zh="当前密码错误，或错误次数过多，请稍后再试。",
        )
    check_strength(name, new)
    if new == old:
        raise RefusedError(
            "The new password is the old one.",
            remedy="Choose another.",
            zh="新密码不能与旧密码相同。",
        )
    kept = passwords.hash(new)
    with service.own_work(actor) as work:
        account = get_account(work, actor.account_id)
        account.password_hash, account.must_change = kept, False
        forget_attempts(work, name)
        end_sessions(work, account.account_id, keep=actor.session_id)
        work.session.flush()
        work.audit("account.change_password", "account", account.account_id)


def close_account(work: UnitOfWork, actor: Actor, account: Account) -> Account:
    """Close an account: its sessions and tokens end with it.

    Raises
    ------
    BeyondReachError
        If it is the caller's own, or the person's posts reach beyond the caller's units.
    """
    require_administers(work, actor, account.staff_id)
    if account.status == "active":
        account.status = "closed"
        _end_all(work, account)
        work.session.flush()
        work.audit("account.close", "account", account.account_id)
    return account


def reopen_account(work: UnitOfWork, actor: Actor, account: Account) -> Account:
    """Open a closed account again; sessions and tokens of before stay ended.

    Raises
    ------
    ConflictError
        If the person has left.
    """
    require_administers(work, actor, account.staff_id)
    if get_staff(work, account.staff_id).status != "active":
        raise ConflictError(
            f"'{account.staff_id}' has left.",
            remedy="Take the person back first.",
            zh=f"{account.staff_id} 已离职，请先恢复人员。",
        )
    if account.status != "active":
        account.status = "active"
        work.session.flush()
        work.audit("account.reopen", "account", account.account_id)
    return account


def set_language(work: UnitOfWork, actor: Actor, language: str) -> Account:
    """Choose the language of messages to the caller: ``zh`` or ``en``."""
    account = get_account(work, actor.account_id)
    if language not in LANGUAGES:
        raise RefusedError(
            "The language is zh or en.", remedy="Choose one.", zh="语言为 zh 或 en。"
        )
    account.language = language
    work.session.flush()
    return account


def open_first_account(
    work: UnitOfWork, name: str, password: str, *, passwords: Passwords = PASSWORDS
) -> Account:
    """Open the first administrator of an organisation in which nobody has an account.

    Parameters
    ----------
    work
        A unit of work of the system; there are units.
    name, password
        To sign in with; the password stays, who runs this knows it alone.
    passwords
        Makes the hash.

    Raises
    ------
    ConflictError
        If somebody has an account: ask them.
    """
    if work.session.scalar(sa.select(sa.func.count()).select_from(Account)):
        raise ConflictError(
            "There are accounts already.",
            remedy="Sign in as an administrator and open further ones.",
            zh="已存在账号，请以管理员身份登录后开通。",
        )
    check_strength(name, password)
    return seat(
        work,
        Seat(folded_name(name), "administrator", None, "系统管理员", "Administrator"),
        passwords.hash(password),
    )


@dataclass(frozen=True, slots=True)
class Seat:
    """A person, a post and an account made together by the system.

    ``unit_id`` None is the top of the tree.
    """

    name: str
    role: str
    unit_id: str | None
    title_zh: str
    title_en: str


def seat(work: UnitOfWork, wanted: Seat, password_hash: str) -> Account:
    """Make staff, post and account of one name, or return the account if it is there."""
    found = work.session.scalars(
        sa.select(Account).where(Account.name == wanted.name)
    ).one_or_none()
    if found is not None:
        return found
    place = (
        OrgUnit.parent_id.is_(None) if wanted.unit_id is None else OrgUnit.unit_id == wanted.unit_id
    )
    unit = work.session.scalars(sa.select(OrgUnit).where(place)).one_or_none()
    if unit is None:
        raise missing("org unit", "组织单元", wanted.unit_id or "*")
    now = work.now
    names = {"name_zh": wanted.title_zh, "name_en": wanted.title_en}
    work.session.add(
        Staff(staff_id=wanted.name, unit_id=unit.unit_id, status="active", origin="hand", **names)
    )
    work.session.flush()
    work.session.add(
        StaffPost(
            post_id=work.new_id("post"), staff_id=wanted.name, unit_id=unit.unit_id,
            role=wanted.role, layer=layer_of(wanted.role, unit.tier), status="active",
            origin="hand", since=now,
        )
    )  # fmt: skip
    account = Account(
        account_id=work.new_id("account"), unit_id=unit.unit_id, name=wanted.name,
        staff_id=wanted.name, title_zh=wanted.title_zh, title_en=wanted.title_en, language="zh",
        password_hash=password_hash, must_change=False, status="active", opened_at=now,
    )  # fmt: skip
    work.session.add(account)
    work.session.flush()
    work.audit("account.open", "account", account.account_id, staff=wanted.name, role=wanted.role)
    return account


def require_session(actor: Actor) -> None:
    """Refuse callers that came with an API token: keys do not make or mend keys."""
    if actor.session_id and not actor.session_id.startswith("signin_"):
        raise RefusedError(
            "This takes a sign-in, not an API token.",
            remedy="Sign in with name and password.",
            zh="此操作不能使用接口令牌，请登录后操作。",
        )


def _end_all(work: UnitOfWork, account: Account) -> None:
    end_sessions(work, account.account_id)
    revoke_tokens(work, account.account_id)
