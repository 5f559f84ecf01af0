"""Who works here and how they come in: staff, posts, accounts, sign-ins, tokens."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, String
from sqlalchemy.orm import Mapped, mapped_column

from bihuan.server.control.base import Scoped, Table, Versioned

LAYERS = ("management", "line", "small_ceo", "sales")
"""The four layers of operating management: management, professional lines, small CEOs, sales."""


class Staff(Versioned, Scoped, Table):
    """A person who works for a unit."""

    __tablename__ = "staff"

    staff_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name_zh: Mapped[str] = mapped_column(String(100))
    name_en: Mapped[str] = mapped_column(String(100), default="")
    channel_id: Mapped[str | None] = mapped_column(String(64))
    status: Mapped[str] = mapped_column(String(16), default="active")
    origin: Mapped[str] = mapped_column(String(8), default="hand")


class StaffPost(Versioned, Scoped, Table):
    """A role that a person holds at a unit, in a layer, under a superior.

    ``unit_id`` is where the role is held, which may differ from where the person belongs;
    ``superior_post_id`` is to whom it reports, which may differ from who stands above in the
    territory.
    """

    __tablename__ = "staff_post"

    post_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    staff_id: Mapped[str] = mapped_column(ForeignKey("staff.staff_id"))
    role: Mapped[str] = mapped_column(String(32))
    layer: Mapped[str] = mapped_column(String(16))
    line_id: Mapped[str | None] = mapped_column(ForeignKey("org_unit.unit_id"))
    superior_post_id: Mapped[str | None] = mapped_column(
        ForeignKey("staff_post.post_id"), index=True
    )
    status: Mapped[str] = mapped_column(String(16), default="active")
    origin: Mapped[str] = mapped_column(String(8), default="hand")
    since: Mapped[datetime]
    ended_at: Mapped[datetime | None]

    __table_args__ = (Index("ix_staff_post_staff", "staff_id", "status"),)


class Account(Versioned, Scoped, Table):
    """What a person signs in with; its powers are the person's posts."""

    __tablename__ = "account"

    account_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    staff_id: Mapped[str] = mapped_column(ForeignKey("staff.staff_id"), unique=True)
    title_zh: Mapped[str] = mapped_column(String(100))
    title_en: Mapped[str] = mapped_column(String(100), default="")
    language: Mapped[str] = mapped_column(String(2), default="zh")
    password_hash: Mapped[str | None] = mapped_column(String(200))
    must_change: Mapped[bool] = mapped_column(default=False)
    status: Mapped[str] = mapped_column(String(16), default="active")
    opened_at: Mapped[datetime]
    signed_in_at: Mapped[datetime | None]


class SignIn(Table):
    """A session: from a sign-in until it is ended, idle too long, or old. No token is stored."""

    __tablename__ = "sign_in"

    sign_in_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.account_id"), index=True)
    token_hash: Mapped[str] = mapped_column(String(64), unique=True)
    method: Mapped[str] = mapped_column(String(16))
    started_at: Mapped[datetime]
    seen_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    idle_seconds: Mapped[int]
    ended_at: Mapped[datetime | None]
    user_agent: Mapped[str] = mapped_column(String(200), default="")
    address: Mapped[str] = mapped_column(String(64), default="")


class SignInGuard(Table):
    """Wrong passwords given for a name in a row, whether or not there is such an account.

    Kept under a hash of the name, so a name typed into the wrong field is not stored.
    """

    __tablename__ = "sign_in_guard"

    name_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    attempts: Mapped[int]
    locked_until: Mapped[datetime | None]
    last_at: Mapped[datetime] = mapped_column(index=True)


class ApiToken(Table):
    """A key that lets a program act as its owner, for some actions and until some day."""

    __tablename__ = "api_token"

    token_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    account_id: Mapped[str] = mapped_column(ForeignKey("account.account_id"), index=True)
    title: Mapped[str] = mapped_column(String(100))
    secret_hash: Mapped[str] = mapped_column(String(64))
    actions: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class OidcRequest(Table):
    """A sign-in that went to the OpenID provider and has not come back."""

    __tablename__ = "oidc_request"

    state_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    browser_hash: Mapped[str] = mapped_column(String(64))
    nonce: Mapped[str] = mapped_column(String(64))
    verifier: Mapped[str] = mapped_column(String(128))
    return_to: Mapped[str] = mapped_column(String(200))
    expires_at: Mapped[datetime] = mapped_column(index=True)
