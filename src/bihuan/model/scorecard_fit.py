"""Scorecards from data: optimal bins, weights of evidence, a logistic model, whole points.

References
----------
.. [1] Siddiqi (2006), Credit Risk Scorecards, chapters 6 and 7 (weight of evidence, scaling by
   the points that double the odds).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.kernel import NotEstimable, random_stream
from bihuan.model.card import Text
from bihuan.model.frame import AsOf, Columns, FeatureKind, LabelledFrame
from bihuan.model.metrics import Metrics, evaluate_scores
from bihuan.model.scorecard import Odds, Scorecard, ScorecardItem
from bihuan.model.steps.binning import (
    BinRule,
    Floats,
    MergeRule,
    assign_bins,
    chance_information,
    count_by_bin,
    information_value,
    optimal_edges,
    weight_of_evidence,
)
from bihuan.model.steps.features import FeatureRules, prepare
from bihuan.model.steps.learner import newton_logistic
from bihuan.model.steps.plan import FeaturePlan
from bihuan.model.steps.sampling import Rows, ValidationRules, hold_out, require_cases
from bihuan.model.steps.tuning import NoFeatureError

Flags = NDArray[np.bool_]

MIN_CELL_ROWS = 20  # the evidence of fewer rows is chance


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorecardRules:
    """How a scorecard is fitted.

    Parameters
    ----------
    name, title, meaning, owner
        Of the scorecard.
    base_score, base_odds
        Points of a customer whose odds of a positive are ``base_odds``; > 0.
    double
        Points that double the odds, > 0.
    max_items
        Most questions.
    min_information
        Least information value of a question, chance taken off.
    bins
        How numbers are cut.
    features
        Rules of steps 1 to 3: merging, leakage guard, correlation.
    validation
        Which rows judge.
    titles, code_titles
        Titles of tags and of their codes, by language.
    """

    name: str
    title: Text = field(default_factory=dict)
    meaning: Text = field(default_factory=dict)
    owner: str = ""
    base_score: float = 500.0
    base_odds: float = 1.0
    double: float = 50.0
    max_items: int = 10
    min_information: float = 0.02
    bins: BinRule = field(default_factory=BinRule)
    features: FeatureRules = field(
        default_factory=lambda: FeatureRules(
            selection="none", max_correlation=0.9, merge=MergeRule(min_share=0.03, max_groups=6)
        )
    )
    validation: ValidationRules = field(default_factory=ValidationRules)
    titles: Mapping[str, Text] = field(default_factory=dict)
    code_titles: Mapping[str, Mapping[str, Text]] = field(default_factory=dict)


def fit_scorecard(frame: LabelledFrame, rules: ScorecardRules, *, seed: int) -> Scorecard:
    """Fit points per answer to labelled customers.

    Numbers are cut into bins of monotone response, levels merged; each answer gets its weight of
    evidence; a logistic model weighs the questions (a question whose weight would be negative,
    so that its points ran against its own evidence, goes); the whole is scaled to points.

    Parameters
    ----------
    frame
        Labelled rows.
    rules
        The order form.
    seed
        Of the hold-out draw.

    Returns
    -------
    Scorecard
        Whole points; the least answer of each question has 0. ``metrics`` are those of a
        scorecard fitted without the rows held out; the points are fitted on all rows. Where too
        few cases are left to hold out, ``metrics`` is None.

    Raises
    ------
    TooFewPositivesError
        If there are fewer than 30 rows of either answer.
    NoFeatureError
        If no tag carries enough information.
    """
    require_cases(frame.label)
    columns = frame.decode()
    train, test, _ = hold_out(frame.label, frame.period, rules.validation, seed)
    metrics: Metrics | None = None
    if test is not None:
        draft = _fit(columns.take(train), frame.label[train], rules, seed)
        points = draft.score(frame.features.take(pa.array(test)), as_of=_as_of(frame, test))
        judged = evaluate_scores(frame.label[test], draft.probability(points), seed=seed)
        metrics = None if isinstance(judged, NotEstimable) else judged
    return replace(_fit(columns, frame.label, rules, seed), metrics=metrics)


def points_interval(
    card: Scorecard,
    frame: LabelledFrame,
    rules: ScorecardRules,
    *,
    seed: int,
    replicates: int = 200,
) -> pa.Table:
    """Tell how far the points of each answer move when the sample changes.

    The bins stay; counts, weights of evidence and the logistic model are drawn anew from
    bootstrap samples.

    Parameters
    ----------
    card
        A fitted scorecard.
    frame
        The rows it was fitted on.
    rules
        The rules it was fitted by.
    seed
        Of the bootstrap.
    replicates
        Number of samples.

    Returns
    -------
    pyarrow.Table
        One row per answer: ``tag``, ``zh``, ``en``, ``rows``, ``points``, and ``low`` and ``high``
        of the 95 % interval. All are relative to the answer of the question that has fewest
        points (whose interval is therefore its own points).
    """
    columns = card.decode(frame.features, as_of=frame.as_of)
    answers = [item.answers(columns) for item in card.items]
    sizes = [len(item.points) for item in card.items]
    counts = [np.bincount(at, minlength=size) for at, size in zip(answers, sizes, strict=True)]
    # Values of equal points are one group of the fit; an answer stands for its whole group.
    groups = [np.unique(item.points, return_inverse=True)[1] for item in card.items]
    cells = [group[at] for group, at in zip(groups, answers, strict=True)]
    lowest = [
        int(np.argmin(np.where(count > 0, item.points, np.inf)))
        for item, count in zip(card.items, counts, strict=True)
    ]
    rng = random_stream(seed, "scorecard", "bootstrap")
    draws: list[list[Floats]] = [[] for _ in card.items]
    for _ in range(replicates):
        weight = rng.poisson(1.0, frame.n).astype(np.float64)
        points = _weigh(cells, sizes, frame.label, weight, rules)
        for i, drawn in enumerate(points):
            of_answer = drawn[groups[i]]
            least = card.items[i].points[lowest[i]]
            draws[i].append(of_answer - of_answer[lowest[i]] + least)
    parts = [
        _interval_rows(item, np.array(drawn), count)
        for item, drawn, count in zip(card.items, draws, counts, strict=True)
    ]
    return pa.concat_tables(parts)


def _interval_rows(item: ScorecardItem, draws: Floats, count: NDArray[np.intp]) -> pa.Table:
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    seen = count > 0
    table = pa.table(
        {
            "tag": [item.tag] * len(item.points),
            "zh": item.phrases("zh"),
            "en": item.phrases("en"),
            "rows": count.astype(np.int64),
            "points": np.array(item.points),
            "low": low,
            "high": high,
        }
    )
    return table.filter(pa.array(seen))


@dataclass(frozen=True, slots=True)
class _Question:
    """A tag cut into cells: the bins or groups and, last, "missing or never seen"."""

    name: str
    cells: NDArray[np.intp]
    n_cells: int
    information: float
    edges: tuple[float, ...] | None
    groups: tuple[tuple[str | None, ...], ...]
    default: int


def _fit(columns: Columns, label: Flags, rules: ScorecardRules, seed: int) -> Scorecard:
    plan = prepare(columns, label, rules.features, seed=seed).plan
    asked = [_question(name, plan, columns, label, rules) for name in plan.names]
    told = [item for item in asked if item.information >= rules.min_information]
    told = sorted(told, key=lambda item: (-item.information, item.name))[: rules.max_items]
    while told:
        cells, sizes = [item.cells for item in told], [item.n_cells for item in told]
        weights, intercept, evidence = _logistic(cells, sizes, label, None)
        against = int(np.argmin(weights))
        if weights[against] > 0:
            return _scale(told, weights, intercept, evidence, rules)
        told.pop(against)
    raise NoFeatureError(
        f"No tag carries an information value of {rules.min_information:g} above chance.",
        remedy="Offer other tags, or lower min_information.",
        zh=f"没有标签的信息值（扣除偶然）达到 {rules.min_information:g}。"
        "请提供其他标签或放宽标准。",
    )


def _question(
    name: str, plan: FeaturePlan, columns: Columns, label: Flags, rules: ScorecardRules
) -> _Question:
    if plan.kinds[name] is FeatureKind.CATEGORICAL:
        grouping = plan.groupings[name]
        n_cells = len(grouping.groups) + 1
        at = plan.groups(columns, name).astype(np.intp)
        cells = np.where(at < 0, n_cells - 1, at)
        edges, groups, default = None, grouping.groups, grouping.default
    else:
        values = columns.numbers[name]
        is_boolean = plan.kinds[name] is FeatureKind.BOOLEAN
        cuts = np.array([0.5]) if is_boolean else optimal_edges(values, label, rules.bins)
        cells, n_cells = assign_bins(values, cuts), len(cuts) + 2
        edges, groups, default = tuple(float(cut) for cut in cuts), (), -1
    positives, negatives = count_by_bin(cells, label, n_cells)
    filled = positives + negatives > 0
    known = information_value(positives[filled], negatives[filled])
    known -= chance_information(int(filled.sum()), positives.sum(), negatives.sum())[0]
    return _Question(name, cells, n_cells, known, edges, groups, default)


def _evidence(cells: NDArray[np.intp], n_cells: int, label: Flags, weight: Floats | None) -> Floats:
    """Return the weight of evidence per cell, 0 where there are too few rows to tell."""
    total = np.bincount(cells, weights=weight, minlength=n_cells).astype(np.float64)
    hit_weight = None if weight is None else weight[label]
    positives = np.bincount(cells[label], weights=hit_weight, minlength=n_cells)
    woe = weight_of_evidence(positives.astype(np.float64), total - positives)
    return np.where(total >= MIN_CELL_ROWS, woe, 0.0)


def _logistic(
    cells: Sequence[NDArray[np.intp]],
    sizes: Sequence[int],
    label: Flags,
    weight: Floats | None,
) -> tuple[Floats, float, list[Floats]]:
    pairs = zip(cells, sizes, strict=True)
    evidence = [_evidence(at, size, label, weight) for at, size in pairs]
    matrix = np.column_stack([woe[at] for woe, at in zip(evidence, cells, strict=True)])
    # A light penalty: weights of evidence are on the scale of log-odds already, near 1 is right.
    weights, intercept = newton_logistic(matrix, label, weight, 10.0)
    return weights, intercept, evidence


def _weigh(
    cells: Sequence[NDArray[np.intp]],
    sizes: Sequence[int],
    label: Flags,
    weight: Floats,
    rules: ScorecardRules,
) -> list[Floats]:
    """Return the points per cell that one bootstrap sample gives."""
    weights, _, evidence = _logistic(cells, sizes, label, weight)
    factor = rules.double / np.log(2)
    return [factor * b * woe for b, woe in zip(weights, evidence, strict=True)]


def _scale(
    questions: Sequence[_Question],
    weights: Floats,
    intercept: float,
    evidence: Sequence[Floats],
    rules: ScorecardRules,
) -> Scorecard:
    """Turn log-odds into whole points: least answer 0, the rest of the sum into the base."""
    factor = rules.double / float(np.log(2))
    offset = rules.base_score - factor * float(np.log(rules.base_odds))
    base = offset + factor * intercept
    items = []
    for question, b, woe in zip(questions, weights, evidence, strict=True):
        points = factor * b * woe
        seen = np.bincount(question.cells, minlength=question.n_cells) > 0
        least = float(points[seen].min())
        base += least
        items.append(_item(question, np.rint(points - least), rules))
    return Scorecard(
        name=rules.name,
        base=float(np.rint(base)),
        items=tuple(items),
        title=rules.title,
        meaning=rules.meaning,
        owner=rules.owner,
        odds=Odds(offset, factor),
    )


def _item(question: _Question, points: Floats, rules: ScorecardRules) -> ScorecardItem:
    title = rules.titles.get(question.name, {})
    if question.edges is not None:
        return ScorecardItem(question.name, tuple(points.tolist()), question.edges, title=title)
    of_value = {word: float(points[i]) for i, group in enumerate(question.groups) for word in group}
    other = float(points[question.default])  # -1 is the last cell: never seen
    missing = of_value.pop(None, other)
    return ScorecardItem(
        question.name,
        (*of_value.values(), other, missing),
        None,
        tuple(str(word) for word in of_value),
        title,
        rules.code_titles.get(question.name, {}),
    )


def _as_of(frame: LabelledFrame, rows: Rows) -> AsOf:
    return frame.as_of[rows] if isinstance(frame.as_of, np.ndarray) else frame.as_of
