"""The dictionary of indicators: every version of every definition, and no two of the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path

from bihuan.data import TableContract
from bihuan.evaluation.indicator.definition import (
    DIRECTIONS,
    Indicator,
    Input,
    check_binding,
    is_sum_of_children,
)
from bihuan.evaluation.indicator.errors import (
    IndicatorConflictError,
    IndicatorError,
    UnknownIndicatorError,
)
from bihuan.evaluation.indicator.formula import canonical, with_columns_renamed
from bihuan.kernel import canonical_json
from bihuan.kernel.document import Document
from bihuan.tag import TagDictionary, nearest

_FIELDS = (
    "name", "title", "meaning", "formula", "unit", "owner", "version", "effective_from", "source",
    "inputs", "unit_through", "members", "months", "dimensions", "direction", "grain",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two definitions that cannot both stand.

    Parameters
    ----------
    kind
        ``second_definition`` (one name and version, two contents), ``same_formula`` (one content,
        two names), ``same_title`` (one title, two names), ``same_day`` (two versions of a name in
        force from one day on).
    names
        The two names; the same twice where it is one.
    message
        By language.
    """

    kind: str
    names: tuple[str, str]
    message: Mapping[str, str]


class IndicatorCatalogue:
    """All versions of all indicators.

    Parameters
    ----------
    definitions
        In any order.

    Raises
    ------
    IndicatorConflictError
        If two definitions conflict; names both.
    IndicatorError
        If a formula takes an indicator that is not there, or itself by a detour.
    """

    def __init__(self, definitions: Iterable[Indicator]) -> None:
        held: dict[str, dict[int, Indicator]] = {}
        everything = tuple(definitions)
        for conflict in find_conflicts(everything):
            raise IndicatorConflictError(
                conflict.message["en"],
                remedy="Use the definition that there is, or change it by a new version.",
                zh=conflict.message["zh"] + "请使用已有口径，或以新版本变更。",
            )
        for indicator in everything:
            held.setdefault(indicator.name, {})[indicator.version] = indicator
        self._held = {
            name: tuple(sorted(versions.values(), key=lambda one: one.effective_from))
            for name, versions in sorted(held.items())
        }
        for indicator in everything:
            self._require_inputs(indicator, (indicator.name,))

    @classmethod
    def load(cls, *paths: Path) -> IndicatorCatalogue:
        """Read catalogue files, ``indicators: [...]`` with shared fields under ``defaults:``."""
        return cls(
            definition for path in paths for definition in load_indicators(Document.read(path))
        )

    def __iter__(self) -> Iterator[Indicator]:
        return (one for versions in self._held.values() for one in versions)

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, name: object) -> bool:
        return name in self._held

    @property
    def names(self) -> tuple[str, ...]:
        """Names, sorted."""
        return tuple(self._held)

    def history(self, name: str) -> tuple[Indicator, ...]:
        """Return every version of an indicator, oldest first.

        Raises
        ------
        UnknownIndicatorError
            If there is none of that name.
        """
        if name not in self._held:
            near = nearest(name, self._held)
            raise UnknownIndicatorError(
                f"There is no indicator '{name}'.",
                remedy=f"Did you mean {near}?" if near else "See the list of indicators.",
                zh=f"没有名为 {name} 的指标" + (f"，是否应为 {near}？" if near else "。"),
            )
        return self._held[name]

    def at(self, name: str, month: date) -> Indicator:
        """Return the version in force in the month of a date.

        Raises
        ------
        UnknownIndicatorError
            If there is no such indicator, or none was in force yet.
        """
        first = month.replace(day=1)
        held = [one for one in self.history(name) if one.effective_from <= first]
        if not held:
            begins = self.history(name)[0].effective_from
            raise UnknownIndicatorError(
                f"Indicator '{name}' is not in force in {month:%Y-%m}; it begins {begins:%Y-%m}.",
                remedy="Choose a later month.",
                zh=f"指标 {name} 在 {month:%Y-%m} 尚未生效，自 {begins:%Y-%m} 起生效。",
            )
        return held[-1]

    def with_definition(self, indicator: Indicator) -> IndicatorCatalogue:
        """Return the dictionary with one definition more; raise as the class does."""
        return IndicatorCatalogue((*self, indicator))

    def is_additive(self, name: str, month: date) -> bool:
        """Tell whether a parent's value is the sum of its children's in that month."""
        indicator = self.at(name, month)
        below = {taken.indicator for taken in indicator.inputs.values()}
        return is_sum_of_children(
            indicator, frozenset(one for one in below if self.is_additive(one, month))
        )

    def check(
        self,
        contracts: Mapping[str, TableContract],
        dictionary: TagDictionary | None = None,
    ) -> None:
        """Hold every definition against the tables and tags; raise :class:`IndicatorError`."""
        for indicator in self:
            check_binding(indicator, contracts, dictionary)

    @cached_property
    def dimensions(self) -> Mapping[str, tuple[str, ...]]:
        """Dimensions by name, of the newest version; a formula has those all its inputs have."""
        return {name: self._dimensions(self._held[name][-1]) for name in self._held}

    def _dimensions(self, indicator: Indicator) -> tuple[str, ...]:
        if indicator.source:
            return indicator.dimensions
        sets = [
            self._dimensions(self._held[taken.indicator][-1]) for taken in indicator.inputs.values()
        ]
        return tuple(name for name in sets[0] if all(name in other for other in sets))

    def _require_inputs(self, indicator: Indicator, path: tuple[str, ...]) -> None:
        for taken in indicator.inputs.values():
            if taken.indicator not in self._held:
                raise IndicatorError(
                    f"Indicator '{indicator.name}' takes '{taken.indicator}', which is not there.",
                    remedy="Define it first.",
                    zh=f"指标 {indicator.name} 引用的指标 {taken.indicator} 不存在，请先定义。",
                )
            if taken.indicator in path:
                ring = " → ".join((*path, taken.indicator))
                raise IndicatorError(
                    f"Indicators take each other in a ring: {ring}.",
                    remedy="Break the ring.",
                    zh=f"指标相互引用成环：{ring}。",
                )
            for version in self._held[taken.indicator]:
                self._require_inputs(version, (*path, taken.indicator))


def find_conflicts(definitions: Iterable[Indicator]) -> tuple[Conflict, ...]:
    """Return every pair of definitions that cannot both stand, in the order met.

    A content is that of a definition with its inputs followed down to the sources, so that the
    same quotient over inputs of other names is found too.
    """
    everything = tuple(definitions)
    by_name = {one.name: one for one in everything}
    found: list[Conflict] = []
    versions: dict[tuple[str, int], Indicator] = {}
    days: dict[tuple[str, date], Indicator] = {}
    contents: dict[str, str] = {}
    titles: dict[str, str] = {}
    for one in everything:
        other = versions.setdefault((one.name, one.version), one)
        if other is not one:
            if other.content_id != one.content_id:
                found.append(_second(one))
            continue
        earlier = days.setdefault((one.name, one.effective_from), one)
        if earlier is not one:
            found.append(_same_day(one, earlier))
        name = contents.setdefault(canonical_json(_deep(one, by_name, 0)), one.name)
        if name != one.name:
            found.append(_same_content(one, name))
        for title in one.title.values():
            name = titles.setdefault(title.casefold(), one.name)
            if name != one.name:
                found.append(_same_title(one, name, title))
                break
    return tuple(found)


def load_indicators(top: Document) -> list[Indicator]:
    """Read the definitions of a catalogue document.

    Raises
    ------
    DocumentError, IndicatorError
        Naming file and field, or the indicator.
    """
    top.allow("note", "defaults", "indicators")
    defaults = dict(top.raw("defaults")) if top.has("defaults") else {}
    return [
        parse_indicator(Document(defaults | dict(_raw(part)), part.where))
        for part in top.parts("indicators")
    ]


def parse_indicator(part: Document) -> Indicator:
    """Read one definition; a word alone under ``inputs`` is an indicator of that name."""
    part.allow(*_FIELDS)
    return Indicator(
        name=part.text("name"),
        title=part.titles("title"),
        meaning=part.titles("meaning"),
        formula=part.text("formula"),
        unit=part.text("unit"),
        owner=part.text("owner"),
        version=part.whole("version", 1, low=1),
        effective_from=part.day("effective_from"),
        source=part.text("source", ""),
        inputs=_inputs(part),
        unit_through=part.text("unit_through", ""),
        members=part.text("members", ""),
        months=part.whole("months", 1, low=1),
        dimensions=part.texts("dimensions"),
        direction=part.choice("direction", DIRECTIONS, "higher"),
        grain=part.choice("grain", ("month",), "month"),
    )


def indicator_document(indicator: Indicator) -> dict[str, object]:
    """Return a definition in the form that :func:`parse_indicator` reads."""
    return {
        "name": indicator.name,
        "title": dict(indicator.title),
        "meaning": dict(indicator.meaning),
        "formula": indicator.formula,
        "unit": indicator.unit,
        "owner": indicator.owner,
        "version": indicator.version,
        "effective_from": indicator.effective_from.isoformat(),
        "source": indicator.source,
        "inputs": {
            name: {"indicator": taken.indicator, "months_ago": taken.months_ago}
            for name, taken in indicator.inputs.items()
        },
        "unit_through": indicator.unit_through,
        "members": indicator.members,
        "months": indicator.months,
        "dimensions": list(indicator.dimensions),
        "direction": indicator.direction,
        "grain": indicator.grain,
    }


def _inputs(part: Document) -> dict[str, Input]:
    if not part.has("inputs") or not part.raw("inputs"):
        return {}
    raw = part.raw("inputs")
    if isinstance(raw, list):
        return {str(name): Input(str(name)) for name in raw}
    inner = part.part("inputs")
    found = {}
    for name in inner.fields():
        if isinstance(inner.raw(name), str):
            found[name] = Input(inner.text(name))
            continue
        one = inner.part(name).allow("indicator", "months_ago")
        found[name] = Input(one.text("indicator", name), one.whole("months_ago", 0))
    return found


def _raw(part: Document) -> dict[str, object]:
    return {name: part.raw(name) for name in part.fields() if part.has(name)}


def _deep(indicator: Indicator, by_name: Mapping[str, Indicator], depth: int) -> object:
    """Return a definition's content with its inputs' contents in it."""
    content = dict(indicator.content)
    if indicator.source or depth > len(by_name):
        return content
    inputs = {}
    for name, taken in indicator.inputs.items():
        below = by_name.get(taken.indicator)
        held: object = taken.indicator if below is None else _deep(below, by_name, depth + 1)
        inputs[name] = [held, taken.months_ago]
    # the names that a formula gives its inputs are its own affair
    order = sorted(inputs, key=lambda name: canonical_json(inputs[name]))
    renamed = {name: f"i{at}" for at, name in enumerate(order)}
    content["inputs"] = [inputs[name] for name in order]
    tree = indicator.parsed().tree.copy()
    content["formula"] = canonical(with_columns_renamed(tree, renamed))
    return content


def _second(one: Indicator) -> Conflict:
    return Conflict(
        "second_definition",
        (one.name, one.name),
        {
            "en": f"Indicator '{one.name}' version {one.version} has a second, other definition.",
            "zh": f"指标 {one.name} 第 {one.version} 版出现第二个不同口径。",
        },
    )


def _same_day(one: Indicator, other: Indicator) -> Conflict:
    return Conflict(
        "same_day",
        (one.name, one.name),
        {
            "en": f"Versions {other.version} and {one.version} of indicator '{one.name}' both "
            f"take effect on {one.effective_from}.",
            "zh": f"指标 {one.name} 的第 {other.version}、{one.version} 版同日"
            f"（{one.effective_from}）生效。",
        },
    )


def _same_content(one: Indicator, name: str) -> Conflict:
    return Conflict(
        "same_formula",
        (name, one.name),
        {
            "en": f"Indicator '{one.name}' computes the same as '{name}'.",
            "zh": f"指标 {one.name} 与 {name} 的计算口径相同。",
        },
    )


def _same_title(one: Indicator, name: str, title: str) -> Conflict:
    return Conflict(
        "same_title",
        (name, one.name),
        {
            "en": f"Indicators '{name}' and '{one.name}' are both called '{title}'.",
            "zh": f"指标 {name} 与 {one.name} 同名（{title}）。",
        },
    )
