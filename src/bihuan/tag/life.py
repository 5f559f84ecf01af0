"""A tag's life: draft, test, live, retired; who moved it, when and why, kept for ever."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bihuan.kernel import Clock, UserError, canonical_json, file_lock, write_atomically
from bihuan.tag.definition import State, TagDefinition
from bihuan.tag.dictionary import TagDictionary, require_same_values

_NEXT: Mapping[State, tuple[State, ...]] = {
    State.DRAFT: (State.TEST, State.RETIRED),
    State.TEST: (State.LIVE, State.DRAFT, State.RETIRED),
    State.LIVE: (State.RETIRED,),
    State.RETIRED: (),
}


class TagTransitionError(UserError):
    """A tag cannot go into that state from where it is."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One step in a tag's life, as it is kept.

    Parameters
    ----------
    tag, version
        Which tag, in which version.
    before, after
        The states.
    who, why
        Who decided, and the reason.
    at
        ISO moment, UTC.
    calculation_id
        How the tag was counted at that moment.
    """

    tag: str
    version: int
    before: str
    after: str
    who: str
    why: str
    at: str
    calculation_id: str


def transition(
    dictionary: TagDictionary, name: str, to: str, *, who: str, why: str, clock: Clock
) -> tuple[TagDefinition, Transition]:
    """Move a tag to another state of its life.

    A draft is tried out in test and goes live from there; both may be given up. A live tag is
    retired when no live tag uses it, and changed only by a new version.

    Parameters
    ----------
    dictionary
        Holds the tag and its users.
    name, to
        The tag, and the state it shall be in: ``test``, ``live``, ``draft`` or ``retired``.
    who, why
        Who decides, and the reason; neither may be empty.
    clock
        Stamps the record.

    Returns
    -------
    tuple[TagDefinition, Transition]
        The changed definition and the record for :class:`TagHistory`. Nothing is stored.

    Raises
    ------
    UnknownTagError
        If there is no such tag.
    TagTransitionError
        If there is no such step, or live tags use a tag that shall retire; names them.
    TagDefinitionError
        If a tag shall go live that uses tags which are not live.
    """
    tag = dictionary.get(name)
    if not (who.strip() and why.strip()):
        raise TagTransitionError(
            f"The step of '{name}' to {to} has no name or no reason.",
            remedy="Say who decides and why.",
            zh=f"标签 {name} 变更为 {to} 须写明操作人和原因。",
        )
    steps = _NEXT[tag.state]
    if to not in steps:
        allowed = ", ".join(steps) or "none; write a new version as a draft"
        raise TagTransitionError(
            f"'{name}' is in state {tag.state} and cannot go to {to}.",
            remedy=f"Steps from {tag.state}: {allowed}.",
            zh=f"标签 {name} 当前为 {tag.state}，不能变更为 {to}。可变更为："
            f"{'、'.join(steps) or '无，请新建版本'}。",
        )
    users = [u for u in dictionary.lineage(name).users if dictionary.get(u).state is State.LIVE]
    if tag.state is State.LIVE and users:
        raise TagTransitionError(
            f"'{name}' cannot retire: live tags use it: {', '.join(users)}.",
            remedy="Retire them or make them from other tags first.",
            zh=f"标签 {name} 不能下线，仍被在用标签使用：{'、'.join(users)}。请先处理这些标签。",
        )
    changed = replace(tag, state=State(to))
    dictionary.with_definition(changed)  # refuses a live tag on tags that are not
    record = Transition(
        tag=name,
        version=tag.version,
        before=tag.state,
        after=changed.state,
        who=who.strip(),
        why=why.strip(),
        at=clock.now().isoformat(),
        calculation_id=tag.calculation_id,
    )
    return changed, record


class TagHistory:
    """Every step of every tag: a file to which lines are only ever added.

    Parameters
    ----------
    folder
        Holds ``transitions.jsonl``; made if absent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "transitions.jsonl"

    def append(self, record: Transition) -> None:
        """Add a record; it is on disk when this returns."""
        line = canonical_json(asdict(record)).encode() + b"\n"
        with file_lock(self._folder / ".lock"):
            if not self._path.exists():
                write_atomically(self._path, b"")  # the folder's own entry is then on disk too
            with self._path.open("a+b") as file:
                file.seek(0)
                file.truncate(_whole(file.read()))  # takes off the half line of a killed writer
                file.write(line)
                file.flush()
                os.fsync(file.fileno())

    def read(self, tag: str | None = None) -> tuple[Transition, ...]:
        """Return the records, or those of one tag, oldest first."""
        if not self._path.exists():
            return ()
        content = self._path.read_bytes()
        lines = content[: _whole(content)].splitlines()
        records = [Transition(**json.loads(line)) for line in lines]
        return tuple(record for record in records if tag in (None, record.tag))

    def check(self, dictionary: TagDictionary) -> None:
        """Check that every live tag is counted as it was when its version went live.

        Raises
        ------
        TagDefinitionError
            At the first that was changed without a new version.
        """
        live = {(r.tag, r.version): r.calculation_id for r in self.read() if r.after == State.LIVE}
        for tag in dictionary.select(state=State.LIVE):
            require_same_values(live.get((tag.name, tag.version), tag.calculation_id), tag)


def _whole(content: bytes) -> int:
    """Return the length of the part of ``content`` that consists of whole lines."""
    return content.rfind(b"\n") + 1
