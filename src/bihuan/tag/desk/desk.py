"""The tag desk: where tags are proposed, reviewed, tried out, put in force, moved and retired.

A new tag, or a new version of one, is a *candidate* in the desk's own folder until it goes live;
only then is the tag's file changed. Planners therefore keep working on the version in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from bihuan.data import Engine, Lake
from bihuan.kernel import Clock, Progress
from bihuan.kernel.document import read_yaml
from bihuan.tag.definition import State, TagDefinition, TagDefinitionError
from bihuan.tag.desk.life import (
    TagTransitionError,
    Transition,
    record,
    require_who_and_why,
    transition,
)
from bihuan.tag.desk.pages import NEW_PAGE, Page, pages_of, to_mapping, to_yaml
from bihuan.tag.desk.store import DeskStore
from bihuan.tag.desk.trial import TrialReport, try_tag, with_what_it_needs
from bihuan.tag.dictionary import TagDictionary, unknown_tag
from bihuan.tag.load import parse_definition

NEW_TAGS_FILE = "desk.yaml"
"""File of the tags folder that takes tags which stood in none before."""

Uses = Callable[[str], Sequence[str]]
"""Tells who uses a tag apart from other tags: campaigns, scenes, rules, models, by file."""


class Desk:
    """Decisions on tags; each is recorded, and takes effect whole or not at all.

    Parameters
    ----------
    store
        What the desk keeps.
    load
        Reads the tags in force anew.
    uses
        Who uses a tag apart from other tags.
    clock
        Stamps the record.
    """

    def __init__(
        self, store: DeskStore, load: Callable[[], TagDictionary], uses: Uses, clock: Clock
    ) -> None:
        self._store, self._load, self._uses, self._clock = store, load, uses, clock

    def propose(
        self, tag: TagDefinition | str, *, who: str, why: str, submit: bool = True
    ) -> TagDefinition:
        """Write a new tag, or a new version of one, and hand it in for review.

        Parameters
        ----------
        tag
            The definition, or its YAML text: the fields of one tag, or a file with one tag. State
            and version are set here: the version after the one in force.
        who, why
            The author, and the business need.
        submit
            False keeps it as a draft, to be proposed again when it is ready.

        Returns
        -------
        TagDefinition
            The candidate, in state ``review`` or ``draft``.

        Raises
        ------
        TagDefinitionError
            If it is not defined as a tag must be, or says the same as the version in force.
        TagTransitionError
            If it is already under review or in test.
        """
        wanted = _parse(tag) if isinstance(tag, str) else tag
        with self._store.locked():
            dictionary, candidates = self._load(), self._store.candidates()
            require_who_and_why(wanted.name, State.REVIEW, who, why)
            earlier, in_force = candidates.get(wanted.name), dictionary.find(wanted.name)
            if earlier is not None and earlier.state is not State.DRAFT:
                raise TagTransitionError(
                    f"'{wanted.name}' version {earlier.version} is in state {earlier.state}.",
                    remedy="Have it returned, or withdraw it, before you write it anew.",
                    zh=f"标签 {wanted.name} 第 {earlier.version} 版处于 {earlier.state} 状态，"
                    "请先退回或撤回再重新提交。",
                )
            version = 1 if in_force is None else in_force.version + 1
            draft = replace(wanted, state=State.DRAFT, version=version)
            changes = _differences(earlier or in_force, draft)
            if in_force is not None and not _differences(in_force, draft):
                raise draft.problem(
                    f"it says the same as version {in_force.version}, which is in force.",
                    remedy="Change something, or leave it.",
                    zh=f"与在用的第 {in_force.version} 版相同，没有变化。",
                )
            with_what_it_needs(draft, _beside(dictionary, candidates, draft))
            before = "" if earlier is None else State.DRAFT
            made = record(draft, before, who=who, why=why, clock=self._clock, changes=changes)
            records = [made]
            if submit:
                draft = replace(draft, state=State.REVIEW)
                records.append(record(draft, State.DRAFT, who=who, why=why, clock=self._clock))
            self._store.write({self._store.candidate_path(draft.name): to_yaml(draft)}, records)
        return draft

    def review(self, name: str, verdict: str, *, who: str, comment: str) -> TagDefinition:
        """Accept a candidate for test, or return it to its author as a draft.

        Parameters
        ----------
        name
            The candidate, in state ``review``.
        verdict
            ``accept`` or ``return``.
        who, comment
            The reviewer, who is not the author, and what he says.
        """
        steps = {"accept": State.TEST, "return": State.DRAFT}
        if verdict not in steps:
            raise TagTransitionError(
                f"'{verdict}' is no verdict.",
                remedy="Say accept or return.",
                zh=f"没有 {verdict} 这种审核结论，请选择 accept（通过）或 return（退回）。",
            )
        with self._store.locked():
            changed, step = self._step(name, steps[verdict], who=who, why=comment)
            self._store.write({self._store.candidate_path(name): to_yaml(changed)}, [step])
        return changed

    def try_out(
        self,
        name: str,
        lake: Lake,
        as_of: date,
        *,
        who: str,
        engine: Engine,
        progress: Progress,
    ) -> TrialReport:
        """Derive a candidate that is in test on a month's rows, and keep the report.

        Raises
        ------
        TagTransitionError
            If the candidate is not in test.
        """
        dictionary, candidates = self._load(), self._store.candidates()
        candidate = self._candidate(name, candidates)
        if candidate.state is not State.TEST:
            raise TagTransitionError(
                f"'{name}' is in state {candidate.state} and cannot be tried out.",
                remedy="Have it accepted by a reviewer first.",
                zh=f"标签 {name} 处于 {candidate.state} 状态，须审核通过后才能试算。",
            )
        report = try_tag(
            candidate, _beside(dictionary, candidates, candidate), lake, as_of,
            engine=engine, clock=self._clock, progress=progress, who=who,
        )  # fmt: skip
        self._store.save_trial(report)
        return report

    def go_live(self, name: str, *, who: str, why: str) -> TagDefinition:
        """Put a candidate in force on the strength of its newest trial.

        Raises
        ------
        TagTransitionError
            If it is not in test, or has no trial of its present calculation.
        TagDefinitionError
            If it, or a tag that uses it, would not hold.
        """
        with self._store.locked():
            dictionary, candidates = self._load(), self._store.candidates()
            candidate = self._candidate(name, candidates)
            tried = [t for t in self._store.trials(name)
                     if t.calculation_id == candidate.calculation_id]  # fmt: skip
            changed, step = self._step(
                name, State.LIVE, who=who, why=why, trial=tried[-1] if tried else None
            )
            dictionary.with_definition(changed)  # refuses what would break those who use it
            self._store.adopt_library()
            page = pages_of(self._store.tags).get(name)
            if page is None:
                path = self._store.tags / NEW_TAGS_FILE
                page = Page.read(path) if path.exists() else Page(path, NEW_PAGE)
            page = page.with_tag(changed)
            self._store.write(
                {page.path: page.text, self._store.candidate_path(name): None}, [step]
            )
        return changed

    def retire(self, name: str, *, who: str, why: str) -> TagDefinition:
        """Take a tag out of force; its definition and history stay.

        Raises
        ------
        TagTransitionError
            If live tags, audiences, scenes, campaigns or models use it; names them all.
        """
        with self._store.locked():
            dictionary = self._load()
            users = self.users(name, dictionary)
            require_who_and_why(name, State.RETIRED, who, why)
            if dictionary.get(name).state is State.LIVE and users:
                raise TagTransitionError(
                    f"'{name}' cannot retire, it is used by: {', '.join(users)}.",
                    remedy="Change or retire these first.",
                    zh=f"标签 {name} 不能下线，仍被使用：{'、'.join(users)}。请先处理。",
                )
            changed, step = transition(
                dictionary, name, State.RETIRED, who=who, why=why, clock=self._clock
            )
            self._store.adopt_library()
            page = pages_of(self._store.tags)[name].with_fields({name: {"state": State.RETIRED}})
            self._store.write({page.path: page.text}, [step])
        return changed

    def withdraw(self, name: str, *, who: str, why: str) -> TagDefinition:
        """Give up a candidate, whether it still holds or not; what is in force stays."""
        require_who_and_why(name, State.RETIRED, who, why)
        with self._store.locked():
            candidate = self._candidate(name, self._store.candidates())
            changed = replace(candidate, state=State.RETIRED)
            step = record(changed, candidate.state, who=who, why=why, clock=self._clock)
            self._store.write({self._store.candidate_path(name): None}, [step])
        return changed

    def move_category(
        self, old: str, new: str, *, who: str, why: str, tags: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Move or rename a branch of the tag tree: all tags at it and below, or some of them.

        Parameters
        ----------
        old, new
            Paths of as many levels (``消费/账单``), so that the tree keeps its depth.
        who, why
            Who decides, and the reason; one record per tag.
        tags
            Only these; None for all.

        Returns
        -------
        tuple[str, ...]
            Names of the tags moved.
        """
        old, new = old.strip("/"), new.strip("/")
        if not all(new.split("/")) or old.count("/") != new.count("/") or old == new:
            raise TagDefinitionError(
                f"'{old}' cannot become '{new}'.",
                remedy="Give another path of as many levels, none of them empty.",
                zh=f"类目 {old} 不能改为 {new}：新路径须不同、层数相同且各级非空。",
            )
        require_who_and_why(old, new, who, why)
        with self._store.locked():
            dictionary, candidates = self._load(), self._store.candidates()
            moved = [
                tag for tag in dictionary.select(category=old) if tags is None or tag.name in tags
            ]
            if not moved:
                raise TagDefinitionError(
                    f"There is no tag to move at '{old}'.",
                    remedy=f"Categories: {', '.join(list(dictionary.categories())[:30])}.",
                    zh=f"类目 {old} 下没有要移动的标签，请核对路径。",
                )
            self._store.adopt_library()
            paths = {tag.name: new + tag.category.strip("/")[len(old) :] for tag in moved}
            files = self._moved_pages(paths, candidates)
            records = [
                record(
                    replace(tag, category=paths[tag.name]), tag.state, who=who, why=why,
                    clock=self._clock, changes={"category": [tag.category, paths[tag.name]]},
                )
                for tag in moved
            ]  # fmt: skip
            self._store.write(files, records)
        return tuple(paths)

    def history(self, name: str | None = None) -> tuple[Transition, ...]:
        """Return the record of a tag, or of all, oldest first."""
        return self._store.history.read(name)

    def trials(self, name: str) -> tuple[TrialReport, ...]:
        """Return the trials of a tag, oldest first."""
        return self._store.trials(name)

    def candidates(self) -> dict[str, TagDefinition]:
        """Return what is not in force yet, by name."""
        return self._store.candidates()

    def users(self, name: str, dictionary: TagDictionary | None = None) -> tuple[str, ...]:
        """Return who uses a tag: live tags, then definition files of other kinds."""
        found = dictionary or self._load()
        users = found.lineage(name).users
        tags = [user for user in users if found.get(user).state is State.LIVE]
        return (*(f"tag {user}" for user in tags), *self._uses(name))

    def _candidate(self, name: str, candidates: Mapping[str, TagDefinition]) -> TagDefinition:
        if name in candidates:
            return candidates[name]
        if self._load().find(name) is None:
            raise unknown_tag(name, candidates)
        raise TagTransitionError(
            f"'{name}' has no new version on the desk.",
            remedy="Propose one first.",
            zh=f"标签 {name} 没有待处理的新版本，请先提交。",
        )

    def _step(
        self, name: str, to: State, *, who: str, why: str, trial: TrialReport | None = None
    ) -> tuple[TagDefinition, Transition]:
        dictionary, candidates = self._load(), self._store.candidates()
        candidate = self._candidate(name, candidates)
        known = _beside(dictionary, {} if to is State.LIVE else candidates, candidate)
        return transition(
            with_what_it_needs(candidate, known), name, to, who=who, why=why, clock=self._clock,
            history=self._store.history.read(name), trial=trial,
        )  # fmt: skip

    def _moved_pages(
        self, paths: Mapping[str, str], candidates: Mapping[str, TagDefinition]
    ) -> dict[Path, str | None]:
        pages = pages_of(self._store.tags)
        edits: dict[Path, dict[str, dict[str, str | int]]] = {}
        for name, path in paths.items():
            edits.setdefault(pages[name].path, {})[name] = {"category": path}
        files: dict[Path, str | None] = {}
        for page in pages.values():
            if page.path in edits and page.path not in files:
                files[page.path] = page.with_fields(edits[page.path]).text
        for name in paths.keys() & candidates.keys():
            moved = replace(candidates[name], category=paths[name])
            files[self._store.candidate_path(name)] = to_yaml(moved)
        return files


def _parse(text: str) -> TagDefinition:
    try:
        content = read_yaml(text)
    except yaml.YAMLError as error:
        raise TagDefinitionError(
            f"The proposal is not YAML: {' '.join(str(error).split())}.",
            remedy="Write the fields of one tag, one per line.",
            zh=f"提交的内容不是合法的 YAML：{' '.join(str(error).split())}。",
        ) from error
    defaults: Mapping[str, Any] = {}
    if isinstance(content, dict) and "tags" in content:
        defaults, items = content.get("defaults") or {}, content["tags"] or []
        if not isinstance(items, list) or len(items) != 1:
            raise TagDefinitionError(
                "A proposal is about one tag.",
                remedy="Propose the tags one after the other.",
                zh="每次提交一个标签，请逐个提交。",
            )
        content = items[0]
    return parse_definition(content, origin="proposal", defaults=defaults)


def _differences(old: TagDefinition | None, new: TagDefinition) -> dict[str, list[Any]]:
    """Return the fields in which two definitions differ, each with both values."""
    if old is None:
        return {}
    before, after = to_mapping(old), to_mapping(new)
    return {
        key: [before.get(key), after.get(key)]
        for key in (*before, *(k for k in after if k not in before))
        if key not in ("state", "version") and before.get(key) != after.get(key)
    }


def _beside(
    dictionary: TagDictionary, candidates: Mapping[str, TagDefinition], tag: TagDefinition
) -> TagDictionary:
    """Return the tags in force, with the candidates that are new and may stand under ``tag``."""
    new = [c for name, c in candidates.items() if name not in dictionary and name != tag.name]
    if not new:
        return dictionary
    return TagDictionary([*dictionary, *new], dictionary.contracts)
