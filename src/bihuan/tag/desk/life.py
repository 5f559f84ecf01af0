"""A tag's life: draft, review, test, live, retired; who moved it, when and why, kept for ever."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bihuan.kernel import Clock, UserError, canonical_json, file_lock, write_atomically
from bihuan.tag.definition import State, TagDefinition
from bihuan.tag.desk.trial import TrialReport
from bihuan.tag.dictionary import TagDictionary, require_same_values

_NEXT: Mapping[State, tuple[State, ...]] = {
    State.DRAFT: (State.REVIEW, State.RETIRED),
    State.REVIEW: (State.TEST, State.DRAFT, State.RETIRED),
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
        The states; ``before`` is empty for the first record of a version, and both are the same
        where something else changed, such as its category.
    who, why
        Who decided, and the reason.
    at
        ISO moment, UTC.
    calculation_id
        How the tag was counted at that moment.
    changes
        Fields that changed, each with its value before and after.
    trial_id
        The trial on which the decision rests; empty where it needs none.
    """

    tag: str
    version: int
    before: str
    after: str
    who: str
    why: str
    at: str
    calculation_id: str
    changes: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    trial_id: str = ""


def transition(  # noqa: PLR0913 - the decision, and the two things that it may rest on
    dictionary: TagDictionary,
    name: str,
    to: str,
    *,
    who: str,
    why: str,
    clock: Clock,
    history: Sequence[Transition] = (),
    trial: TrialReport | None = None,
) -> tuple[TagDefinition, Transition]:
    """Move a tag to another state of its life.

    A draft goes to review; whoever reviews it is not the one who handed it in, and accepts it for
    test or returns it as a draft. From test it goes live on the strength of a trial of exactly
    this calculation. A live tag is retired when no live tag uses it, and changed only by a new
    version.

    Parameters
    ----------
    dictionary
        Holds the tag and its users.
    name, to
        The tag, and the state it shall be in.
    who, why
        Who decides, and the reason; neither may be empty.
    clock
        Stamps the record.
    history
        The tag's records so far, oldest first; a review needs them to know the author.
    trial
        Report of the trial; going live needs it.

    Returns
    -------
    tuple[TagDefinition, Transition]
        The changed definition and the record for :class:`TagHistory`. Nothing is stored.

    Raises
    ------
    UnknownTagError
        If there is no such tag.
    TagTransitionError
        If there is no such step, maker and checker are one person, the trial is missing or of
        another calculation, or live tags use a tag that shall retire; names them.
    TagDefinitionError
        If a tag shall go live that uses tags which are not live.
    """
    tag = dictionary.get(name)
    require_who_and_why(name, to, who, why)
    steps = _NEXT[tag.state]
    if to not in steps:
        allowed = ", ".join(steps) or "none; write a new version as a draft"
        raise TagTransitionError(
            f"'{name}' is in state {tag.state} and cannot go to {to}.",
            remedy=f"Steps from {tag.state}: {allowed}.",
            zh=f"标签 {name} 当前为 {tag.state}，不能变更为 {to}。可变更为："
            f"{'、'.join(steps) or '无，请新建版本'}。",
        )
    if tag.state is State.REVIEW and to != State.RETIRED:
        _require_other_person(tag, who, history)
    if to == State.LIVE:
        _require_trial(tag, trial)
    users = [u for u in dictionary.lineage(name).users if dictionary.get(u).state is State.LIVE]
    if tag.state is State.LIVE and users:
        raise TagTransitionError(
            f"'{name}' cannot retire: live tags use it: {', '.join(users)}.",
            remedy="Retire them or make them from other tags first.",
            zh=f"标签 {name} 不能下线，仍被在用标签使用：{'、'.join(users)}。请先处理这些标签。",
        )
    changed = replace(tag, state=State(to))
    dictionary.with_definition(changed)  # refuses a live tag on tags that are not
    step = record(changed, tag.state, who=who, why=why, clock=clock)
    return changed, replace(step, trial_id=trial.trial_id if trial and to == State.LIVE else "")


def record(
    tag: TagDefinition,
    before: str,
    *,
    who: str,
    why: str,
    clock: Clock,
    changes: Mapping[str, Sequence[Any]] | None = None,
) -> Transition:
    """Write down that ``tag`` is now as it is; see :class:`Transition`."""
    return Transition(
        tag=tag.name,
        version=tag.version,
        before=str(before),
        after=str(tag.state),
        who=who.strip(),
        why=why.strip(),
        at=clock.now().isoformat(),
        calculation_id=tag.calculation_id,
        changes=changes or {},
    )


def require_who_and_why(name: str, to: str, who: str, why: str) -> None:
    """Refuse a decision that nobody answers for.

    Parameters
    ----------
    name, to
        What is decided on, and what it shall become; for the message.
    who, why
        Neither may be empty.

    Raises
    ------
    TagTransitionError
        If one is.
    """
    if not (who.strip() and why.strip()):
        raise TagTransitionError(
            f"The step of '{name}' to {to} has no name or no reason.",
            remedy="Say who decides and why.",
            zh=f"标签 {name} 变更为 {to} 须写明操作人和原因。",
        )


def _require_other_person(tag: TagDefinition, who: str, history: Sequence[Transition]) -> None:
    """Maker is not checker: neither the writer nor the one who handed it in may judge it."""
    makers = {
        step.who
        for step in history
        if (step.tag, step.version) == (tag.name, tag.version)
        and (step.after == State.REVIEW or step.before == "")
    }
    if not makers:
        raise TagTransitionError(
            f"Nobody is recorded as having handed in '{tag.name}' version {tag.version}.",
            remedy="Hand it in for review first.",
            zh=f"标签 {tag.name} 第 {tag.version} 版没有送审记录，请先送审。",
        )
    if who.strip() in makers:
        raise TagTransitionError(
            f"{who.strip()} handed in '{tag.name}' and cannot review it.",
            remedy="Let somebody else review it.",
            zh=f"{who.strip()} 是标签 {tag.name} 的送审人，不能自行审核，请由他人审核。",
        )


def _require_trial(tag: TagDefinition, trial: TrialReport | None) -> None:
    if trial is None or (trial.tag, trial.calculation_id) != (tag.name, tag.calculation_id):
        raise TagTransitionError(
            f"'{tag.name}' version {tag.version} has not been tried out as it is written now.",
            remedy="Try it out on the rows of a month, then let it go live.",
            zh=f"标签 {tag.name} 第 {tag.version} 版尚未按现口径试算，请先试算再上线。",
        )
    if trial.outside_codes:
        raise TagTransitionError(
            f"'{tag.name}' gave {trial.outside_codes:,} values outside its codes in its trial.",
            remedy="Add the codes or mend the expression, then try it out again.",
            zh=f"标签 {tag.name} 试算有 {trial.outside_codes} 个值不在编码内，"
            "请补充编码或修改口径后重新试算。",
        )
    if trial.missing == trial.subjects:
        raise TagTransitionError(
            f"'{tag.name}' gave no value for any of {trial.subjects:,} subjects in its trial.",
            remedy="Mend its expression or its source, then try it out again.",
            zh=f"标签 {tag.name} 试算时 {trial.subjects} 个对象均无值，请修改后重新试算。",
        )


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
        self.extend([record])

    def extend(self, records: Iterable[Transition]) -> None:
        """Add records together; they are on disk when this returns."""
        lines = b"".join(canonical_json(asdict(r)).encode() + b"\n" for r in records)
        with file_lock(self._folder / ".lock"):
            if not self._path.exists():
                write_atomically(self._path, b"")  # the folder's own entry is then on disk too
            with self._path.open("a+b") as file:
                file.seek(0)
                file.truncate(_whole(file.read()))  # takes off the half line of a killed writer
                file.write(lines)
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

    def changed_unrecorded(self, dictionary: TagDictionary) -> tuple[str, ...]:
        """Return the live tags that are not counted as when their version went live."""
        live = self._calculations()
        return tuple(
            tag.name
            for tag in dictionary.select(state=State.LIVE)
            if live.get((tag.name, tag.version), tag.calculation_id) != tag.calculation_id
        )

    def check(self, dictionary: TagDictionary) -> None:
        """Check that every live tag is counted as it was when its version went live.

        Raises
        ------
        TagDefinitionError
            At the first that was changed without a new version.
        """
        live = self._calculations()
        for tag in dictionary.select(state=State.LIVE):
            require_same_values(live.get((tag.name, tag.version), tag.calculation_id), tag)

    def _calculations(self) -> dict[tuple[str, int], str]:
        return {(r.tag, r.version): r.calculation_id for r in self.read() if r.after == State.LIVE}


def _whole(content: bytes) -> int:
    """Return the length of the part of ``content`` that consists of whole lines."""
    return content.rfind(b"\n") + 1
