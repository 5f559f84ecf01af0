"""The error tree.

::

    BihuanError
    ├── UserError      the user can mend it; says what to do next
    │   └── Cancelled  the user stopped it; nothing is half done
    └── DefectError    we broke a promise of ours; please report it

Rooms subclass :class:`UserError` with a name that tells the case (``UnknownColumnError``).
"""

from __future__ import annotations


class BihuanError(Exception):
    """Root of every error that Bihuan raises on purpose."""

    exit_code = 1


class UserError(BihuanError):
    """Something the user gave is wrong, and the user can mend it.

    Parameters
    ----------
    message
        What is wrong, in one sentence, naming file, line, column or position where known.
    remedy
        What to do next, as an instruction. Empty only where the message already says it.
    zh
        Message and remedy in Chinese, for the faces that speak Chinese; empty falls back to
        English.

    Examples
    --------
    >>> error = UserError(
    ...     "No mapping named 'billing'.",
    ...     remedy="Choose one of: bills, usage.",
    ...     zh="没有名为 billing 的映射，请从 bills、usage 中选择。",
    ... )
    >>> error.text("en")
    "No mapping named 'billing'. Choose one of: bills, usage."
    >>> error.text("zh")
    '没有名为 billing 的映射，请从 bills、usage 中选择。'
    """

    exit_code = 2

    def __init__(self, message: str, *, remedy: str = "", zh: str = "") -> None:
        self.message = message
        self.remedy = remedy
        self.zh = zh
        super().__init__(f"{message} {remedy}".strip())

    def text(self, language: str) -> str:
        """Return message and remedy in ``language`` (``zh`` or ``en``)."""
        return self.zh if language == "zh" and self.zh else str(self)


class Cancelled(UserError):
    """The work was stopped on request; what had been published before is unchanged."""

    exit_code = 130


class DefectError(BihuanError):
    """An internal promise was broken. The message names the promise and the values seen."""

    exit_code = 70
