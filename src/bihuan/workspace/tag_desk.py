"""The workspace's tag desk: tags and models managed at one point."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, TypeAlias

from bihuan.step.uses import tag_uses
from bihuan.tag import (
    LIBRARY_FOLDER,
    Desk,
    DeskStore,
    Finding,
    SortingRules,
    TagDefinition,
    TagDictionary,
    TagStock,
    Transition,
    TrialReport,
    sort_out,
    take_stock,
)
from bihuan.tag import Stock as TagsInStock

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace

Day: TypeAlias = date | str


class TagDesk:
    """Proposing, reviewing, trying out and retiring tags; what there is, and what is wrong.

    Parameters
    ----------
    workspace
        Whose tags.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace
        self._read: tuple[bytes, TagDictionary] | None = None
        self._store = DeskStore(
            workspace.layout.root / "tag_desk",
            workspace.layout.definitions("tags"),
            LIBRARY_FOLDER,
        )

    def propose(
        self, tag: TagDefinition | str, *, who: str, why: str, submit: bool = True
    ) -> TagDefinition:
        """Hand in a new tag, or a new version of one; see :meth:`bihuan.tag.Desk.propose`."""
        return self._desk().propose(tag, who=who, why=why, submit=submit)

    def review(self, name: str, verdict: str, *, who: str, comment: str) -> TagDefinition:
        """Accept (``accept``) or send back (``return``) what somebody else handed in."""
        return self._desk().review(name, verdict, who=who, comment=comment)

    def try_out(self, name: str, as_of: Day, *, who: str) -> TrialReport:
        """Derive a candidate on a month's rows without touching what is in force."""
        return self._desk().try_out(
            name, self._ws.lake, _day(as_of), who=who,
            engine=self._ws.engine, progress=self._ws.progress,
        )  # fmt: skip

    def go_live(self, name: str, *, who: str, why: str) -> TagDefinition:
        """Put a candidate that was tried out in force."""
        return self._changed(self._desk().go_live(name, who=who, why=why))

    def retire(self, name: str, *, who: str, why: str) -> TagDefinition:
        """Take a tag out of force, if nobody uses it; its history stays."""
        return self._changed(self._desk().retire(name, who=who, why=why))

    def withdraw(self, name: str, *, who: str, why: str) -> TagDefinition:
        """Give up a candidate."""
        return self._desk().withdraw(name, who=who, why=why)

    def move_category(
        self, old: str, new: str, *, who: str, why: str, tags: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Move or rename a branch of the tag tree, or some of its tags."""
        moved = self._desk().move_category(old, new, who=who, why=why, tags=tags)
        self._forget()
        return moved

    def history(self, name: str | None = None) -> tuple[Transition, ...]:
        """Return who did what to a tag, when and why; of all tags if none is named."""
        return self._desk().history(name)

    def trials(self, name: str) -> tuple[TrialReport, ...]:
        """Return the trials of a tag, oldest first."""
        return self._desk().trials(name)

    def candidates(self) -> dict[str, TagDefinition]:
        """Return what is on the desk and not in force yet, by name."""
        return self._desk().candidates()

    def users(self, name: str) -> tuple[str, ...]:
        """Return who uses a tag: live tags, campaigns, scenes, rules, models."""
        return self._desk().users(name)

    def findings(self, as_of: Day, *, rules: SortingRules | None = None) -> tuple[Finding, ...]:
        """Sort the stock out: unused, stale, double, poor, ownerless tags, with a proposal each."""
        uses = self._uses()
        stock = TagsInStock(
            dictionary=self._ws.dictionary,
            view=self._ws.view,
            engine=self._ws.engine,
            uses=lambda name: uses.get(name, ()),
            changed=self._store.history.changed_unrecorded(self._ws.dictionary),
            rules=rules or SortingRules(),
        )
        return sort_out(stock, _day(as_of))

    def stock(self) -> TagStock:
        """Count the tags by subject, layer, category, state."""
        return take_stock(self._ws.dictionary, self.candidates().values())

    def _uses(self) -> Mapping[str, Sequence[str]]:
        return tag_uses(self._ws.layout.root, self._ws.dictionary)

    def _desk(self) -> Desk:
        def uses(name: str) -> Sequence[str]:
            return self._uses().get(name, ())

        return Desk(self._store, self._load, uses, self._ws.clock)

    def _load(self) -> TagDictionary:
        """Read what is in force now: somebody else may have changed it."""
        folder = self._store.in_force
        files = [(file, file.read_bytes()) for file in sorted(folder.glob("*.yaml"))]
        seen = hashlib.sha256(
            b"".join(str(file).encode() + hashlib.sha256(text).digest() for file, text in files)
        ).digest()
        if self._read is None or self._read[0] != seen:
            self._read = seen, TagDictionary.load(folder, contracts=self._ws.contracts)
        return self._read[1]

    def _changed(self, tag: TagDefinition) -> TagDefinition:
        self._forget()
        return tag

    def _forget(self) -> None:
        """Let the workspace read its tags anew."""
        self._ws.__dict__.pop("dictionary", None)


def _day(day: Day) -> date:
    return date.fromisoformat(day) if isinstance(day, str) else day
