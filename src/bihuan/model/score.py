"""A built model at work: scores, reasons, drift, and the lake table that other rooms read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.data import Lake
from bihuan.kernel import Clock, UserError
from bihuan.model.card import ModelCard, Text, said
from bihuan.model.frame import AsOf, Columns, FeatureKind, decode
from bihuan.model.steps.binning import Floats, assign_bins, quantile_edges, stability_index
from bihuan.model.steps.calibration import Calibration, expit
from bihuan.model.steps.learner import Learner, read_learner, trees_of
from bihuan.model.steps.plan import FeaturePlan

DRIFT_BINS = 10
SCORE = "score"
UNITS = ("probability", "points")


class PublishError(UserError):
    """Scores cannot be published as they are."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far a month is from the months that a model learnt from.

    Parameters
    ----------
    score
        Population stability index of the scores.
    features
        The same of each feature, largest first.
    rows
        Rows of the month compared.
    """

    score: float
    features: Mapping[str, float]
    rows: int

    @property
    def worst(self) -> float:
        """The largest index of all."""
        return max([self.score, *self.features.values()])

    @property
    def verdict(self) -> str:
        """``stable`` (all below 0.1), ``watch`` (below 0.25) or ``shifted``."""
        if self.worst < 0.1:
            return "stable"
        return "watch" if self.worst < 0.25 else "shifted"


@dataclass(frozen=True, slots=True)
class Reference:
    """The training distribution, binned.

    Parameters
    ----------
    edges
        Inner edges of each numeric feature.
    counts
        Training rows per bin and feature; the last bin is "missing" (numeric) or "never seen"
        (categorical).
    score_edges, score_counts
        The same of the scores, on rows the learner had not seen.
    """

    edges: Mapping[str, tuple[float, ...]]
    counts: Mapping[str, tuple[float, ...]]
    score_edges: tuple[float, ...]
    score_counts: tuple[float, ...]

    @classmethod
    def of(cls, plan: FeaturePlan, columns: Columns, score: Floats) -> Reference:
        """Bin the training rows and scores of unseen rows."""
        edges = {
            name: tuple(quantile_edges(columns.numbers[name], DRIFT_BINS).tolist())
            for name, kind in plan.kinds.items()
            if kind is not FeatureKind.CATEGORICAL
        }
        counts = {name: _bin_counts(plan, columns, name, edges) for name in plan.names}
        score_edges = tuple(quantile_edges(score, DRIFT_BINS).tolist())
        return cls(edges, counts, score_edges, _count(score, score_edges))

    def compare(self, plan: FeaturePlan, columns: Columns, score: Floats) -> Drift:
        """Compare the rows of another month with the training rows."""
        shifts = {
            name: stability_index(self.counts[name], _bin_counts(plan, columns, name, self.edges))
            for name in plan.names
        }
        ordered = dict(sorted(shifts.items(), key=lambda item: (-item[1], item[0])))
        moved = stability_index(self.score_counts, _count(score, self.score_edges))
        return Drift(moved, ordered, columns.n)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Reference:
        """Read what ``dataclasses.asdict`` wrote."""
        return cls(
            {name: tuple(edges) for name, edges in raw["edges"].items()},
            {name: tuple(counts) for name, counts in raw["counts"].items()},
            tuple(raw["score_edges"]),
            tuple(raw["score_counts"]),
        )


@dataclass(frozen=True, eq=False)
class BuiltModel:
    """A model that can score.

    Parameters
    ----------
    card
        What is known about it.
    learner, calibration
        Its parameters.
    reference
        The training distribution, for :meth:`drift`.
    titles
        Titles of features by language.
    code_titles
        Titles of the codes of categorical features by language.
    """

    card: ModelCard
    learner: Learner
    calibration: Calibration
    reference: Reference
    titles: Mapping[str, Text] = field(default_factory=dict)
    code_titles: Mapping[str, Mapping[str, Text]] = field(default_factory=dict)

    @property
    def plan(self) -> FeaturePlan:
        """The features it reads."""
        return self.learner.plan

    def score(self, features: pa.Table, *, as_of: AsOf = None) -> Floats:
        """Return the calibrated probability of each row.

        Parameters
        ----------
        features
            At least the columns that the model uses; others are ignored.
        as_of
            Date of the features; needed if the model uses date features.

        Returns
        -------
        numpy.ndarray
            Shape ``(n,)``, 0..1, never missing.

        Raises
        ------
        MissingFeatureError, FeatureTypeError
            If the columns are not those the model was built on.
        """
        return self._score(self._decode(features, as_of))

    def contributions(self, features: pa.Table, *, as_of: AsOf = None) -> Floats:
        """Return what each feature adds to the log-odds, shape ``(n, len(plan.names))``.

        Before calibration, against the average training customer; > 0 raises the score.
        """
        return self.learner.contributions(self._decode(features, as_of))

    def explain(
        self, features: pa.Table, *, top: int = 3, direction: str = "raise", as_of: AsOf = None
    ) -> pa.Table:
        """Return the weightiest reasons of each row's score, in words.

        Parameters
        ----------
        features
            As for :meth:`score`.
        top
            Reasons per row.
        direction
            ``raise``: what speaks for the outcome; ``lower``: against; ``both``: the largest
            either way.
        as_of
            As for :meth:`score`.

        Returns
        -------
        pyarrow.Table
            ``n`` rows; for each ``k`` from 1 to ``top``: ``feature_k``, ``contribution_k``
            (log-odds), ``zh_k`` and ``en_k`` (``合约: 按月``). Null where there is no k-th reason.
        """
        contributions = self.contributions(features, as_of=as_of)
        return _reasons(self, features, contributions, top, direction)

    def drift(self, features: pa.Table, *, as_of: AsOf = None) -> Drift:
        """Compare a month's features and scores with the training months; see :class:`Drift`."""
        columns = self._decode(features, as_of)
        return self.reference.compare(self.plan, columns, self._score(columns))

    def _decode(self, features: pa.Table, as_of: AsOf) -> Columns:
        return decode(features, as_of=as_of, kinds=self.plan.kinds)

    def _score(self, columns: Columns) -> Floats:
        return expit(self.calibration.apply(self.learner.logits(columns)))

    def to_files(self) -> dict[str, Any]:
        """Return the parameters: ``model`` (plain values for JSON) and ``trees`` (text)."""
        model = {
            "plan": self.plan.to_dict(),
            "learner": self.learner.to_dict(),
            "calibration": self.calibration.to_dict(),
            "reference": asdict(self.reference),
            "titles": {name: dict(text) for name, text in self.titles.items()},
            "code_titles": {
                name: {code: dict(text) for code, text in codes.items()}
                for name, codes in self.code_titles.items()
            },
        }
        return {"model": model, "trees": trees_of(self.learner)}

    @classmethod
    def from_files(cls, card: ModelCard, model: Mapping[str, Any], trees: str) -> BuiltModel:
        """Read what :meth:`to_files` wrote."""
        plan = FeaturePlan.from_dict(model["plan"])
        return cls(
            card,
            read_learner(model["learner"], plan, trees),
            Calibration.from_dict(model["calibration"]),
            Reference.from_dict(model["reference"]),
            model["titles"],
            model["code_titles"],
        )


class Scorer(Protocol):
    """Whatever gives every customer a number: a built model, a scorecard."""

    def score(self, features: pa.Table, *, as_of: AsOf = None) -> Floats:
        """Return one number per row, shape ``(n,)``."""
        ...


def publish_scores(  # noqa: PLR0913 - one call says who, what, when and from where
    lake: Lake,
    name: str,
    ids: pa.Array | pa.ChunkedArray,
    scores: Floats,
    as_of: date,
    *,
    clock: Clock,
    subject: str = "customer",
    unit: str = "probability",
    lineage: Mapping[str, Any] | None = None,
) -> int:
    """Publish scores as the lake table ``score__<name>``, where mining tags read them.

    Parameters
    ----------
    lake
        Where to.
    name
        Of the model or scorecard: lower-case letters, digits and single underscores.
    ids
        Subject ids, shape ``(n,)``; unique, none missing.
    scores
        Shape ``(n,)``, finite; 0..1 for ``unit="probability"``.
    as_of
        Date of the features that were scored.
    clock
        Stamps the publication.
    subject
        A kind of subject, e.g. ``customer``, ``leased_line``: gives the id column its name.
    unit
        ``probability`` or ``points``.
    lineage
        Model version and snapshot ids; free of secrets.

    Returns
    -------
    int
        Rows published: columns ``<subject>_id`` and ``score`` (float64), ordered by id.

    Raises
    ------
    PublishError
        If ids repeat or are missing, or a score is out of range.
    """
    _require_publishable(name, ids, scores, unit)
    id_column = f"{subject}_id"
    rows = pa.table({id_column: ids, SCORE: pa.array(scores, type=pa.float64())})
    rows = rows.sort_by(id_column)
    facts = {"score": name, "unit": unit, **dict(lineage or {})}
    with lake.publication(clock) as publication:
        publication.add(f"score__{name}", as_of, rows, lineage=facts)
    return int(rows.num_rows)


def _require_publishable(
    name: str, ids: pa.Array | pa.ChunkedArray, scores: Floats, unit: str
) -> None:
    problem = ""
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name):
        problem = f"'{name}' is no name for a table"
    elif unit not in UNITS:
        problem = f"unit '{unit}' is none of {', '.join(UNITS)}"
    elif len(ids) != len(scores):
        problem = f"there are {len(ids)} ids and {len(scores)} scores"
    elif ids.null_count:
        problem = f"{ids.null_count} ids are missing"
    elif pc.count_distinct(ids).as_py() != len(ids):
        repeated = pc.value_counts(ids)
        first = repeated.filter(pc.greater(repeated.field("counts"), 1))[0]["values"]
        problem = f"an id occurs more than once: {first}"
    elif not np.isfinite(scores).all():
        problem = f"{int((~np.isfinite(scores)).sum())} scores are missing or infinite"
    elif unit == "probability" and len(scores) and (scores.min() < 0 or scores.max() > 1):
        problem = f"scores run from {scores.min():g} to {scores.max():g}, not within 0 to 1"
    if problem:
        raise PublishError(
            f"Scores '{name}' cannot be published: {problem}.",
            remedy="Give each subject one finite score; use unit='points' for scorecards.",
            zh=f"评分 {name} 无法发布：{problem}。请保证每个客户恰有一个有效评分。",
        )


def _bin_counts(
    plan: FeaturePlan,
    columns: Columns,
    name: str,
    edges: Mapping[str, tuple[float, ...]],
) -> tuple[float, ...]:
    if plan.kinds[name] is FeatureKind.CATEGORICAL:
        n_groups = len(plan.groupings[name].groups)
        groups = plan.groups(columns, name)
        bins = np.where(groups < 0, n_groups, groups)
        return tuple(np.bincount(bins, minlength=n_groups + 1).astype(float).tolist())
    return _count(columns.numbers[name], edges[name])


def _count(values: Floats, edges: tuple[float, ...]) -> tuple[float, ...]:
    bins = assign_bins(values, np.array(edges, dtype=np.float64))
    return tuple(np.bincount(bins, minlength=len(edges) + 2).astype(float).tolist())


def _reasons(
    model: BuiltModel, features: pa.Table, contributions: Floats, top: int, direction: str
) -> pa.Table:
    strength = {"raise": contributions, "lower": -contributions, "both": np.abs(contributions)}
    if direction not in strength:
        raise UserError(
            f"Direction '{direction}' is unknown.", remedy="Choose raise, lower or both."
        )
    names = model.plan.names
    order = np.argsort(-strength[direction], axis=1, kind="stable")[:, :top]
    output: dict[str, pa.Array] = {}
    for k in range(order.shape[1]):
        chosen = order[:, k]
        value = np.take_along_axis(contributions, chosen[:, None], axis=1)[:, 0]
        counts = np.take_along_axis(strength[direction], chosen[:, None], axis=1)[:, 0] > 0
        output[f"feature_{k + 1}"] = pa.array(np.array(names)[chosen], mask=~counts)
        output[f"contribution_{k + 1}"] = pa.array(value, mask=~counts)
        for language in ("zh", "en"):
            words = _words(model, features, chosen, language)
            output[f"{language}_{k + 1}"] = pa.array(words, type=pa.string(), mask=~counts)
    return pa.table(output)


def _words(
    model: BuiltModel, features: pa.Table, chosen: NDArray[np.intp], language: str
) -> NDArray[np.object_]:
    """Return ``title: value`` of the chosen feature of each row; one pass per feature."""
    words = np.empty(len(chosen), dtype=object)
    for j, name in enumerate(model.plan.names):
        rows = np.flatnonzero(chosen == j)
        if not len(rows):
            continue
        title = said(model.titles.get(name, {}), language) or name
        codes = model.code_titles.get(name, {})
        values = features[name].take(pa.array(rows)).combine_chunks()
        encoded = values.cast(pa.string()) if pa.types.is_dictionary(values.type) else values
        encoded = encoded.dictionary_encode(null_encoding="encode")
        shown = [_shown(value, codes, language) for value in encoded.dictionary.to_pylist()]
        texts = np.array([f"{title}: {value}" for value in shown], dtype=object)
        words[rows] = texts[encoded.indices.to_numpy()]
    return words


def _shown(value: Any, codes: Mapping[str, Text], language: str) -> str:
    missing, yes, no = ("缺失", "是", "否") if language == "zh" else ("missing", "yes", "no")
    if value is None or value != value:  # NaN
        return missing
    if isinstance(value, bool):
        return yes if value else no
    if isinstance(value, str):
        return said(codes.get(value, {}), language) or value
    if isinstance(value, (int, float, Decimal)):
        return f"{value:,.2f}".rstrip("0").rstrip(".")
    return str(value)
