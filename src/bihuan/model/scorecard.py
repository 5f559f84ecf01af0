"""Scorecards: points per answer, added up. A score as a new, implicit attribute of a customer.

A scorecard comes from experience (a planner writes the points into a YAML file) or from data
(:func:`bihuan.model.fit_scorecard`); both are the same thing afterwards. The YAML form::

    scorecard: newspaper
    title: {zh: 手机报意向, en: Interest in the mobile newspaper}
    meaning: {zh: 分数越高越可能订阅, en: The higher, the likelier to subscribe}
    owner: product team
    base: 300
    items:
      - tag: arpu
        title: {zh: 月消费, en: ARPU}
        bins:                            # rising; a value equal to a limit belongs to the bin above
          - {below: 50, points: 0}
          - {below: 100, points: 40}
          - {points: 80}
        missing: 10                      # points where the tag has no value; 0 if not stated
      - tag: brand
        values: {gotone: 120, mzone: 30}
        other: 0                         # points of a value not listed; 0 if not stated
      - tag: has_newspaper
        values: {true: -500, false: 0}

What is said against scoring, and the answer here: *hard to understand* - every point has a line,
and :meth:`Scorecard.explain` says for each customer which lines counted; *unstable* -
:func:`bihuan.model.points_interval` shows how far points move when the sample changes, and the
stability index by month how far the customers move; *inflexible screening* -
:func:`bihuan.model.threshold_table` shows what any threshold means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml
from numpy.typing import NDArray

from bihuan.kernel import UserError, write_atomically
from bihuan.kernel.document import Document
from bihuan.model.card import Text, said
from bihuan.model.frame import AsOf, Columns, FeatureKind, FeatureTypeError, decode, feature_kinds
from bihuan.model.metrics import Metrics
from bihuan.model.steps.binning import assign_bins
from bihuan.model.steps.calibration import expit

Floats = NDArray[np.float64]


class ScorecardError(UserError):
    """A scorecard is asked for something that it cannot tell."""


@dataclass(frozen=True, slots=True)
class ScorecardItem:
    """One question of a scorecard.

    Parameters
    ----------
    tag
        Feature that answers it.
    points
        Points of each answer: of each bin, or of each value; then of "other" (categorical only)
        and of "missing".
    edges
        Inner limits of the bins, rising, for numbers, dates (days before the snapshot) and
        booleans (one limit, 0.5); None for categorical tags.
    values
        The values with points of their own, for categorical tags.
    title
        By language.
    value_titles
        Titles of values by language.
    """

    tag: str
    points: tuple[float, ...]
    edges: tuple[float, ...] | None = None
    values: tuple[str, ...] = ()
    title: Text = field(default_factory=dict)
    value_titles: Mapping[str, Text] = field(default_factory=dict)

    @property
    def is_boolean(self) -> bool:
        """Whether the tag is true or false."""
        return self.edges == (0.5,)

    def answers(self, columns: Columns) -> NDArray[np.intp]:
        """Return which answer each row gives, shape ``(n,)``: a position in ``points``."""
        if self.edges is not None:
            return assign_bins(columns.numbers[self.tag], np.array(self.edges))
        levels = columns.levels[self.tag]
        place = {value: i for i, value in enumerate(self.values)}
        other, missing = len(self.values), len(self.values) + 1
        table = np.array([*(place.get(word, other) for word in levels.vocabulary), missing])
        return np.asarray(table[levels.codes], dtype=np.intp)

    def phrases(self, language: str) -> list[str]:
        """Return the words of each answer (``50 <= ARPU < 100``), as many as ``points``."""
        missing, other, yes, no = (
            ("缺失", "其他", "是", "否") if language == "zh" else ("missing", "other", "yes", "no")
        )
        name = said(self.title, language) or self.tag
        if self.edges is None:
            words = [said(self.value_titles.get(v, {}), language) or v for v in self.values]
            return [f"{name}: {word}" for word in (*words, other, missing)]
        if self.is_boolean:
            return [f"{name}: {word}" for word in (no, yes, missing)]
        shown = [f"{edge:,.10g}" for edge in self.edges]
        if not shown:
            return [name, f"{name}: {missing}"]
        between = [f"{a} <= {name} < {b}" for a, b in pairwise(shown)]
        return [f"{name} < {shown[0]}", *between, f"{name} >= {shown[-1]}", f"{name}: {missing}"]


@dataclass(frozen=True, slots=True)
class Odds:
    """What points mean: ``log odds = (points - offset) / factor``; for fitted scorecards.

    Parameters
    ----------
    offset
        Points at even odds.
    factor
        Points per unit of log-odds; times ln 2 they double the odds.
    """

    offset: float
    factor: float


@dataclass(frozen=True)
class Scorecard:
    """Points per answer, added to a base.

    Parameters
    ----------
    name
        Id: lower-case letters, digits, underscores; names ``score__<name>``.
    base
        Points of everybody.
    items
        The questions.
    title, meaning
        By language.
    owner
        Who answers for it.
    odds
        What points mean as a probability; None for points from experience.
    metrics
        On rows that had no part in fitting it; None for points from experience.
    """

    name: str
    base: float
    items: tuple[ScorecardItem, ...]
    title: Text = field(default_factory=dict)
    meaning: Text = field(default_factory=dict)
    owner: str = ""
    odds: Odds | None = None
    metrics: Metrics | None = None

    @classmethod
    def load(cls, path: Path) -> Scorecard:
        """Read a scorecard from YAML.

        Raises
        ------
        DocumentError
            If the file is not a scorecard; names file and field.
        """
        return _read_card(Document.read(path))

    def save(self, path: Path) -> None:
        """Write the scorecard as YAML; :meth:`load` gives it back."""
        text = yaml.safe_dump(self.to_dict(), allow_unicode=True, sort_keys=False)
        write_atomically(path, text.encode())

    def score(self, features: pa.Table, *, as_of: AsOf = None) -> Floats:
        """Return the points of each row, shape ``(n,)``.

        Parameters
        ----------
        features
            At least the tags that the items name.
        as_of
            Date of the features; needed if an item reads a date.

        Raises
        ------
        MissingFeatureError, FeatureTypeError
            If a tag is absent or not of the kind that its item reads.
        """
        columns = self.decode(features, as_of=as_of)
        total = np.full(columns.n, self.base)
        for item in self.items:
            total += np.array(item.points)[item.answers(columns)]
        return total

    def probability(self, points: Floats) -> Floats:
        """Return the probability that points stand for, same shape.

        Raises
        ------
        ScorecardError
            If the points come from experience: nobody knows what they mean in probability.
        """
        if self.odds is None:
            raise ScorecardError(
                f"Scorecard '{self.name}' comes from experience; its points are no probability.",
                remedy="Fit it from data, or read its threshold table on labelled customers.",
                zh=f"评分卡 {self.name} 来自经验，分数不能换算成概率。",
            )
        return expit((points - self.odds.offset) / self.odds.factor)

    def explain(self, features: pa.Table, *, top: int = 3, as_of: AsOf = None) -> pa.Table:
        """Return for each row the answers that brought most points, in words.

        Parameters
        ----------
        features
            As for :meth:`score`.
        top
            Answers per row, at most the number of items.
        as_of
            As for :meth:`score`.

        Returns
        -------
        pyarrow.Table
            ``n`` rows: ``points``; ``tag_k``, ``points_k``, ``zh_k`` and ``en_k`` for the k-th
            answer; and the whole sum in words, ``zh`` and ``en``
            (``300 + 80 (ARPU >= 100) + ... = 420``).
        """
        columns = self.decode(features, as_of=as_of)
        answers = [item.answers(columns) for item in self.items]
        gained = np.array(
            [np.array(item.points)[at] for item, at in zip(self.items, answers, strict=True)]
        )
        output: dict[str, Any] = {"points": self.base + gained.sum(axis=0)}
        order = np.argsort(-gained, axis=0, kind="stable")[:top]
        for k, chosen in enumerate(order, start=1):
            output[f"tag_{k}"] = np.array([item.tag for item in self.items])[chosen]
            output[f"points_{k}"] = np.take_along_axis(gained, chosen[None], axis=0)[0]
            for language in ("zh", "en"):
                output[f"{language}_{k}"] = self._chosen_phrases(chosen, answers, language)
        for language in ("zh", "en"):
            output[language] = self._sum_in_words(answers, output["points"], language)
        return pa.table(output)

    def decode(self, features: pa.Table, *, as_of: AsOf = None) -> Columns:
        """Decode the tags that the items read, checking their kinds; see :meth:`score`."""
        tags = [item.tag for item in self.items]
        have = feature_kinds(features)
        wanted = {tag: have.get(tag, FeatureKind.NUMERIC) for tag in tags}
        columns = decode(features, as_of=as_of, kinds=wanted)
        for item in self.items:
            needed = "categorical" if item.edges is None else "a number, a date or a boolean"
            if (wanted[item.tag] is FeatureKind.CATEGORICAL) != (item.edges is None):
                raise FeatureTypeError(
                    f"Scorecard '{self.name}' reads '{item.tag}' as {needed}, but it is "
                    f"{wanted[item.tag]}.",
                    remedy="Give the item 'values' for categorical tags (yes and no in quotes), "
                    "'bins' for numbers.",
                    zh=f"评分卡 {self.name} 中 {item.tag} 的类型与数据不符。",
                )
        return columns

    def _chosen_phrases(
        self, chosen: NDArray[np.intp], answers: Sequence[NDArray[np.intp]], language: str
    ) -> NDArray[np.object_]:
        words = np.empty(len(chosen), dtype=object)
        for i, item in enumerate(self.items):
            rows = np.flatnonzero(chosen == i)
            words[rows] = np.array(item.phrases(language), dtype=object)[answers[i][rows]]
        return words

    def _sum_in_words(
        self, answers: Sequence[NDArray[np.intp]], points: Floats, language: str
    ) -> pa.Array:
        parts: list[Any] = [pa.scalar(f"{self.base:g}")]
        for item, at in zip(self.items, answers, strict=True):
            pairs = zip(item.points, item.phrases(language), strict=True)
            texts = [f"{'+' if p >= 0 else '-'} {abs(p):g} ({words})" for p, words in pairs]
            parts.append(pa.array(texts).take(pa.array(at)))
        total = pc.cast(pa.array(points), pa.string())
        total = pc.replace_substring_regex(total, pattern=r"\.0$", replacement="")
        parts.append(pc.binary_join_element_wise("=", total, " "))
        return pc.binary_join_element_wise(*parts, " ")

    def to_markdown(self, language: str = "zh") -> str:
        """Write the scorecard as a table of points per answer, in ``zh`` or ``en``."""
        head = ("问题", "答案", "分数") if language == "zh" else ("Question", "Answer", "Points")
        base = "基础分" if language == "zh" else "Base"
        lines = [f"# {said(self.title, language) or self.name}", ""]
        if said(self.meaning, language):
            lines += [said(self.meaning, language), ""]
        lines += [f"| {' | '.join(head)} |", "|---|---|--:|", f"| {base} | | {self.base:g} |"]
        for item in self.items:
            title = said(item.title, language) or item.tag
            for phrase, points in zip(item.phrases(language), item.points, strict=True):
                lines.append(f"| {title} | {phrase} | {points:+g} |".replace("\n", " "))
        return "\n".join(lines) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return the YAML form as plain values."""
        raw: dict[str, Any] = {"scorecard": self.name}
        for name, text in (("title", self.title), ("meaning", self.meaning)):
            if text:
                raw[name] = dict(text)
        if self.owner:
            raw["owner"] = self.owner
        raw["base"] = _short(self.base)
        raw["items"] = [_item_to_dict(item) for item in self.items]
        if self.odds is not None:
            raw["odds"] = {"offset": self.odds.offset, "factor": self.odds.factor}
        if self.metrics is not None:
            raw["metrics"] = self.metrics.to_dict()
            raw["metrics"] = yaml.safe_load(yaml.safe_dump(_lists(raw["metrics"])))
        return raw


def _item_to_dict(item: ScorecardItem) -> dict[str, Any]:
    raw: dict[str, Any] = {"tag": item.tag}
    if item.title:
        raw["title"] = dict(item.title)
    points = [_short(p) for p in item.points]
    if item.edges is None:
        raw["values"] = dict(zip(item.values, points, strict=False))
        raw["other"] = points[-2]
        if item.value_titles:
            raw["value_titles"] = {v: dict(text) for v, text in item.value_titles.items()}
    elif item.is_boolean:
        raw["values"] = {True: points[1], False: points[0]}
    else:
        limits = zip(item.edges, points, strict=False)
        bins = [{"below": _short(edge), "points": p} for edge, p in limits]
        raw["bins"] = [*bins, {"points": points[-2]}]
    raw["missing"] = points[-1]
    return raw


def _read_card(top: Document) -> Scorecard:
    top.allow("scorecard", "title", "meaning", "owner", "base", "items", "odds", "metrics")
    items = tuple(_read_item(part) for part in top.parts("items"))
    if not items:
        raise top.refuse("items", "is empty", "Write at least one item.")
    tags = [item.tag for item in items]
    twice = sorted({tag for tag in tags if tags.count(tag) > 1})
    if twice:
        raise top.refuse("items", f"has the tag {twice[0]} more than once", "Join the items.")
    odds = top.find_part("odds")
    return Scorecard(
        name=top.text("scorecard"),
        base=top.number("base"),
        items=items,
        title=top.titles("title", {}),
        meaning=top.titles("meaning", {}),
        owner=top.text("owner", ""),
        odds=Odds(odds.number("offset"), odds.number("factor")) if odds else None,
        metrics=Metrics.from_dict(top.raw("metrics")) if top.has("metrics") else None,
    )


def _read_item(part: Document) -> ScorecardItem:
    part.allow("tag", "title", "bins", "values", "value_titles", "other", "missing")
    tag, title = part.text("tag"), part.titles("title", {})
    missing = part.number("missing", 0.0)
    if part.has("bins") == part.has("values"):
        raise part.refuse("", "needs 'bins' or 'values', not both", "Numbers have bins.")
    if part.has("bins"):
        edges, points = _read_bins(part)
        return ScorecardItem(tag, (*points, missing), edges, title=title)
    values = part.raw("values")
    if not isinstance(values, dict) or not values:
        raise part.refuse("values", "is not a list of values", "Write  value: points  lines.")
    named = Document({str(value): p for value, p in values.items()}, f"{part.where}.values")
    points = tuple(named.number(name) for name in named.fields())
    if all(isinstance(value, bool) for value in values):
        of = dict(zip(values, points, strict=True))
        return ScorecardItem(
            tag, (of.get(False, 0.0), of.get(True, 0.0), missing), (0.5,), (), title
        )
    titles = part.find_part("value_titles")
    value_titles = {value: titles.titles(value) for value in titles.fields()} if titles else {}
    rest = (part.number("other", 0.0), missing)
    return ScorecardItem(tag, (*points, *rest), None, tuple(named.fields()), title, value_titles)


def _read_bins(part: Document) -> tuple[tuple[float, ...], tuple[float, ...]]:
    bins = part.parts("bins")
    if not bins or bins[-1].has("below") or not all(item.has("below") for item in bins[:-1]):
        raise part.refuse(
            "bins", "must have 'below' in each bin but the last", "The last bin holds the rest."
        )
    points = tuple(item.allow("below", "points").number("points") for item in bins)
    edges = tuple(item.number("below") for item in bins[:-1])
    for item, (lower, edge) in zip(bins[1:], pairwise(edges), strict=False):
        if edge <= lower:
            raise item.refuse("below", f"is {edge:g}, not above {lower:g}", "Let the limits rise.")
    return edges, points


def _short(number: float) -> float | int:
    return int(number) if number == int(number) else number


def _lists(value: Any) -> Any:
    """Turn tuples into lists, which YAML can say."""
    if isinstance(value, dict):
        return {key: _lists(item) for key, item in value.items()}
    return [_lists(item) for item in value] if isinstance(value, (list, tuple)) else value
