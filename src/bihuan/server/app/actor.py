"""Who acts: an account, the posts it holds, and what they let it see."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from bihuan.server.app.permission import ROLES, denied
from bihuan.server.control import Scope


@dataclass(frozen=True, slots=True)
class Post:
    """A role held at an org unit; it covers the unit's subtree."""

    role: str
    unit_id: str


@dataclass(frozen=True)
class Actor:
    """The account behind a request or a job.

    Parameters
    ----------
    account_id
        Id of the account.
    home_unit_id
        Org unit of the account.
    posts
        Roles and where they are held.
    allowed
        Actions that an API token is limited to; None: all that the posts grant.
    session_id
        Id of the sign-in or token; empty for jobs.
    language
        ``zh`` or ``en``: of messages to this person.
    """

    account_id: str
    home_unit_id: str
    posts: tuple[Post, ...]
    allowed: frozenset[str] | None = None
    session_id: str = ""
    language: str = "zh"

    def scope(self, action: str) -> Scope:
        """Return the org subtrees in which this actor may do ``action``.

        Raises
        ------
        PermissionDeniedError
            If no post grants it.
        """
        roots = self._roots.get(action)
        if not roots:
            raise denied(action)
        return Scope(roots)

    def may(self, action: str) -> bool:
        """Tell whether some post grants ``action``."""
        return action in self._roots

    @property
    def actions(self) -> frozenset[str]:
        """Every action that some post grants."""
        return frozenset(self._roots)

    @cached_property
    def _roots(self) -> dict[str, frozenset[str]]:
        found: dict[str, set[str]] = {}
        for post in self.posts:
            for action in ROLES[post.role].actions:
                if self.allowed is None or action in self.allowed:
                    found.setdefault(action, set()).add(post.unit_id)
        return {action: frozenset(units) for action, units in found.items()}
