"""What is true of plans by the rules alone: kept beside the real code, never through it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from .office import PEOPLE

APPROVING = ("approver", "director")


def plain_hash(content: dict[str, Any]) -> str:
    """Hash a content without the code under test."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def holds(account: str, unit: str) -> bool:
    """Whether the account has a post of an approver exactly there."""
    return any(role in APPROVING and place == unit for role, place in PEOPLE[account])


@dataclass
class Given:
    """An approval that was taken: by whom, of which content they had seen."""

    account: str
    seen: str


@dataclass
class Paper:
    """What the rules know of one plan."""

    unit: str
    content_hash: str
    makers: set[str]
    wants_province: bool = False
    wants_review: bool = False
    given: list[Given] = field(default_factory=list)
    delegates: dict[str, set[str]] = field(default_factory=dict)
    passed: str | None = None
    stopped: bool = False

    def reset(self) -> None:
        """Nothing given before counts any more."""
        self.given.clear()
        self.delegates.clear()
        self.passed = None


@dataclass
class Model:
    """The tree and the papers."""

    parent: dict[str, str | None]
    papers: dict[str, Paper] = field(default_factory=dict)

    def above(self, unit: str) -> list[str]:
        """Return the units above, nearest first."""
        found = []
        upper = self.parent[unit]
        while upper is not None:
            found.append(upper)
            upper = self.parent[upper]
        return found

    def required(self, paper: Paper) -> list[str]:
        """Return the units that have to approve by the tree as it is."""
        path = self.above(paper.unit) or [paper.unit]
        staffed = [
            unit
            for unit in path
            if any(holds(account, unit) for account in set(PEOPLE) - paper.makers)
        ]
        last = "province" if paper.wants_province else staffed[0]
        return staffed[: staffed.index(last) + 1]

    def is_complete(self, paper: Paper) -> bool:
        """Whether every level was approved, of this content, by somebody who did not make it."""
        sound = [
            given
            for given in paper.given
            if given.seen == paper.content_hash and given.account not in paper.makers
        ]
        for unit in self.required(paper):
            deputies = paper.delegates.get(unit, set())
            if not any(holds(g.account, unit) or g.account in deputies for g in sound):
                return False
        if paper.wants_review:
            top = (self.above(paper.unit) or [paper.unit])[-1]
            people = {g.account for g in sound}
            deputies = paper.delegates.get(top, set())
            if len(people) < 2 or not any(holds(a, top) or a in deputies for a in people):
                return False
        return True

    def take(self, paper: Paper, account: str, seen: str, *, is_last: bool) -> None:
        """Note an approval that the real code has taken; see whether it was the last by rights."""
        paper.given.append(Given(account, seen))
        if is_last:
            paper.passed = paper.content_hash if self.is_complete(paper) else None
