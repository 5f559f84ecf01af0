"""What can be wrong with an indicator."""

from __future__ import annotations

from bihuan.kernel import UserError


class IndicatorError(UserError):
    """A definition that cannot be read or does not fit its source."""


class IndicatorConflictError(UserError):
    """Two definitions of one name, or one definition under two names."""


class UnknownIndicatorError(UserError):
    """There is no such indicator, or none in force in that month."""
