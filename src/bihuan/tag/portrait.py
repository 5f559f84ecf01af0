"""Portraits: what the tags say of one customer, and of all customers of a period.

A portrait of one subject is its tags in the tag tree, facet by facet. A period's portrait is every
subject's tags at that date: derived by the dictionary of today from the snapshots up to that date
alone, and derived again, as far as they change, when snapshots or definitions do. How the subjects
of a period are made up is :mod:`.structure`'s business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from bihuan.data import Engine, Lake, Snapshot, TableContract
from bihuan.kernel import Clock, Progress, UserError
from bihuan.tag.definition import Subject, TagDefinition
from bihuan.tag.derive import DeriveReport, derive
from bihuan.tag.dictionary import TagDictionary
from bihuan.tag.table import TagTable, read_tags

FACETS: Mapping[str, str] = {
    "basic": "基本属性",
    "feature": "基本特征",
    "preference": "偏好",
    "value": "价值",
    "need": "需求",
    "strategy": "服务策略",
}
"""Facets of a portrait and the word by which a level of a tag's category belongs to one."""

_VALUE_AND_NEED = "价值需求"  # the branch that holds both facets, and is neither


class UnknownFacetError(UserError):
    """A portrait has no such facet."""


@dataclass(frozen=True, slots=True)
class PortraitTag:
    """One tag of a portrait.

    Parameters
    ----------
    definition
        What the tag means and how it is counted.
    value
        Its value; None = missing.
    """

    definition: TagDefinition
    value: Any

    def title(self, language: str = "zh") -> str:
        """Return the tag's title."""
        return self.definition.title[language]

    def shown(self, language: str = "zh") -> str:
        """Return the value in words: a code by its title, a number with its unit, — if missing."""
        return show_value(self.definition, self.value, language)


@dataclass(frozen=True, slots=True)
class Portrait:
    """What the tags say of one subject at one date.

    Parameters
    ----------
    subject, subject_id, as_of
        Of whom, and for when.
    tags
        In the order of the tag tree.
    pending
        Live tags without values at that date, with the reason by language.
    """

    subject: Subject
    subject_id: str
    as_of: date
    tags: tuple[PortraitTag, ...]
    pending: Mapping[str, Mapping[str, str]]

    def value(self, tag: str) -> Any:
        """Return the value of a tag by name; raise KeyError if the portrait does not have it."""
        return {item.definition.name: item.value for item in self.tags}[tag]

    def tree(self) -> dict[str, Any]:
        """Return the tags as nested categories; a category's own tags stand under ``""``."""
        root: dict[str, Any] = {}
        for item in self.tags:
            node = root
            for level in item.definition.category.strip("/").split("/"):
                node = node.setdefault(level, {})
            node.setdefault("", []).append(item)
        return root

    def facet(self, name: str) -> tuple[PortraitTag, ...]:
        """Return the tags of one of :data:`FACETS`; empty if there are none.

        Raises
        ------
        UnknownFacetError
            If there is no such facet.
        """
        if name not in FACETS:
            raise UnknownFacetError(
                f"A portrait has no facet '{name}'.",
                remedy=f"Choose one of: {', '.join(FACETS)}.",
                zh=f"画像没有名为 {name} 的方面，可选：{'、'.join(FACETS)}。",
            )
        return tuple(item for item in self.tags if _is_of(item.definition.category, FACETS[name]))

    def changes(self, earlier: Portrait) -> dict[str, tuple[Any, Any]]:
        """Return the tags that differ from an earlier portrait: value before and now, by name.

        A tag that only one of the two has is left out: it has not changed, it was not known.
        """
        before = {item.definition.name: item.value for item in earlier.tags}
        return {
            item.definition.name: (before[item.definition.name], item.value)
            for item in self.tags
            if item.definition.name in before and before[item.definition.name] != item.value
        }


def _is_of(category: str, word: str) -> bool:
    return any(
        level.startswith(word) and level != _VALUE_AND_NEED
        for level in category.strip("/").split("/")
    )


def draw_portrait(dictionary: TagDictionary, table: TagTable, subject_id: str) -> Portrait:
    """Read the portrait of one subject.

    Parameters
    ----------
    dictionary
        The tags.
    table
        Their values at a date.
    subject_id
        Of whom.

    Raises
    ------
    UnknownSubjectError
        If there is no such subject at that date.
    """
    profile = table.profile(subject_id)
    found = [PortraitTag(dictionary.get(name), value) for name, value in profile.items()]
    found.sort(key=lambda item: (item.definition.category, item.definition.name))
    return Portrait(table.subject, subject_id, table.as_of, tuple(found), table.pending)


def show_value(tag: TagDefinition, value: Any, language: str = "zh") -> str:
    """Write a tag's value for people.

    Parameters
    ----------
    tag
        Whose value.
    value
        The value; None = missing.
    language
        ``zh`` or ``en``.
    """
    if value is None:
        return "—"
    if isinstance(value, bool):
        yes = {"zh": ("否", "是"), "en": ("no", "yes")}[language]
        return yes[value]
    if tag.codes is not None and str(value) in tag.codes:
        titles = tag.codes[str(value)]
        return titles.get(language) or next(iter(titles.values()))
    text = f"{value:,.4g}" if isinstance(value, float) and abs(value) < 1000 else f"{value}"
    if isinstance(value, float) and abs(value) >= 1000:
        text = f"{value:,.0f}"
    return f"{text} {tag.unit}" if tag.unit and tag.unit != "currency" else text


@dataclass(frozen=True)
class PeriodPortrait:
    """Every subject's tags as of one date, and what they were derived from.

    Parameters
    ----------
    table
        The values, ready to be read.
    sources
        Dates of the snapshots that entered, by lake table; none is later than the period.
    report
        What had to be derived for it, and what was there already.
    """

    table: TagTable
    sources: Mapping[str, tuple[date, ...]]
    report: DeriveReport

    @property
    def as_of(self) -> date:
        """The period's last date."""
        return self.table.as_of

    @property
    def derived(self) -> tuple[str, ...]:
        """Groups of tags that were derived now; the others stood there as they would come out."""
        return tuple(group.group for group in self.report.groups if group.state == "derived")


def draw_period(  # noqa: PLR0913 - what it reads, with what, for when; none can be left out
    dictionary: TagDictionary,
    lake: Lake,
    as_of: date,
    *,
    engine: Engine,
    clock: Clock,
    progress: Progress,
    contracts: Mapping[str, TableContract] | None = None,
    subject: str = "customer",
) -> PeriodPortrait:
    """Bring the tags of a period up to date and return them.

    The values are those of the period, the definitions those of today: two periods are counted by
    one rule and can be compared. Only groups of tags whose snapshots or definitions have changed
    since they were last derived for that date are derived again.

    Parameters
    ----------
    dictionary, lake, as_of, engine, clock, progress, contracts, subject
        As in :func:`~bihuan.tag.derive.derive`.

    Raises
    ------
    SnapshotNotFoundError
        If the lake does not have the subject's own table at that date.
    TagNotDerivedError
        If no tag can be derived from what the lake has up to that date.
    """
    report = derive(
        dictionary, lake, as_of,
        engine=engine, clock=clock, progress=progress, contracts=contracts, subject=subject,
    )  # fmt: skip
    table = read_tags(lake.view(), dictionary, subject, as_of)
    return PeriodPortrait(table, _sources_of(table.snapshots.values()), report)


def _sources_of(snapshots: Iterable[Snapshot]) -> dict[str, tuple[date, ...]]:
    """Read from the lineage which dates of which lake tables entered."""
    found: dict[str, set[date]] = {}
    for snapshot in snapshots:
        for key in snapshot.lineage.get("sources", {}):
            table, _, day = key.rpartition("/")
            found.setdefault(table, set()).add(date.fromisoformat(day))
    return {table: tuple(sorted(days)) for table, days in sorted(found.items())}
