"""How use cases say no; each class has one meaning and, over HTTP, one status."""

from __future__ import annotations

from bihuan.kernel import UserError
from bihuan.server.control import OutOfScopeError

__all__ = [
    "BusyError",
    "ConflictError",
    "NotFoundError",
    "OutOfScopeError",
    "RefusedError",
    "StaleError",
    "UnauthenticatedError",
    "missing",
]


class NotFoundError(UserError):
    """There is no such thing, or it is outside the caller's scope: the two look the same."""


class ConflictError(UserError):
    """The wish contradicts the present state (a second sign-off, a taken name)."""


class StaleError(ConflictError):
    """The thing was changed by somebody else since the caller read it."""


class RefusedError(UserError):
    """The wish is well-formed, and a rule forbids it; the message names the rule."""


class UnauthenticatedError(UserError):
    """The caller is not known, or what it showed is forged, expired or revoked."""


class BusyError(UserError):
    """The database is too busy right now; the same request may succeed later."""


def missing(kind_en: str, kind_zh: str, wanted: str) -> NotFoundError:
    """Return the error for something that is not there, or not for the caller to see."""
    return NotFoundError(
        f"There is no {kind_en} '{wanted}' within your reach.",
        remedy="Check the id, or ask a colleague whose post covers it.",
        zh=f"在您的权限范围内没有{kind_zh} {wanted}，请核对编号或联系有权限的同事。",
    )
