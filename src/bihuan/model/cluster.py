"""Cluster analysis (聚类分析): classes that the data suggest, and what is special about each.

Values are cut at the 1st and 99th percentile and standardised, so that one giant does not become a
class of its own and no tag counts more because of its unit. A missing value is taken as the
median. How many classes: by the silhouette, unless it is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.kernel import UserError, random_stream

Floats: TypeAlias = NDArray[np.float64]
LEAST_ROWS = 100
LEAST_SHARE = 0.02  # a smaller class is most often what the medians of missing values made up
_JUDGED = 5_000  # rows on which a silhouette is measured; it costs the square of them
_FITTED = 200_000  # rows from which centres are learnt; everybody is assigned
_TRIES = 5


class ClusterError(UserError):
    """Rows cannot be parted into clusters as asked."""


@dataclass(frozen=True)
class ClusterModel:
    """Centres, and how values are made comparable; assigns any row to the nearest.

    Parameters
    ----------
    tags
        In the order of the columns below.
    fill, low, high, mean, deviation
        Per tag: what a missing value is taken as, where values are cut, and what standardises
        them, shape ``(n_tags,)``.
    centres
        In standard units, shape ``(n_classes, n_tags)``.
    classes
        Names, in the order of the centres.
    """

    tags: tuple[str, ...]
    fill: Floats
    low: Floats
    high: Floats
    mean: Floats
    deviation: Floats
    centres: Floats
    classes: tuple[str, ...]

    def classify(self, rows: pa.Table, fields: Mapping[str, Any] | None = None) -> pa.Array:
        """Return the class of each row, in the order of the rows.

        Parameters
        ----------
        rows
            Has a column per tag; other columns are left alone.
        fields
            Not needed; every classifier takes it.
        """
        del fields
        place = self.places(self.standardised(_values(rows, self.tags)))
        return pa.array(self.classes).take(pa.array(place))

    def standardised(self, values: Floats) -> Floats:
        """Make raw values comparable; NaN is missing."""
        known = np.where(np.isnan(values), self.fill, values)
        found: Floats = (np.clip(known, self.low, self.high) - self.mean) / self.deviation
        return found

    def places(self, standardised: Floats) -> NDArray[np.intp]:
        """Return the nearest centre of each row; of equally near ones the first."""
        return _nearest(standardised, self.centres)

    def to_json(self) -> dict[str, Any]:
        """Return all that it needs to classify again."""
        arrays = ("fill", "low", "high", "mean", "deviation", "centres")
        return {
            "kind": "clusters",
            "tags": list(self.tags),
            "classes": list(self.classes),
            **{name: getattr(self, name).tolist() for name in arrays},
        }

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> ClusterModel:
        """Read what :meth:`to_json` wrote."""
        arrays = ("fill", "low", "high", "mean", "deviation", "centres")
        return cls(
            tags=tuple(raw["tags"]),
            classes=tuple(raw["classes"]),
            **{name: np.array(raw[name], dtype=np.float64) for name in arrays},
        )


@dataclass(frozen=True, slots=True)
class Feature:
    """One tag in one class beside everybody.

    Parameters
    ----------
    tag
        Its name.
    mean, base_mean
        Over known values, uncut; NaN if none is known.
    distance
        Difference of the means in standard deviations of the base; 0 where the tag does not vary.
    """

    tag: str
    mean: float
    base_mean: float
    distance: float


@dataclass(frozen=True, slots=True)
class ClusterClass:
    """One class.

    Parameters
    ----------
    name
        ``c1`` for the largest, and so on.
    size, share
        Customers, and their part of all, 0..1.
    features
        Every tag, the most telling first.
    said
        The most telling ones in words, by language.
    """

    name: str
    size: int
    share: float
    features: tuple[Feature, ...]
    said: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Clustering:
    """A cluster analysis.

    Parameters
    ----------
    model
        Assigns anybody, also later.
    classes
        What they are like, the largest first.
    silhouette
        Mean silhouette by number of classes tried, -1..1; more is better parted.
    within
        Sum of squared distances to the centres by number of classes (for the elbow).
    agreement
        Adjusted Rand index with an analysis from another start, 0 (chance) .. 1 (the same).
    rows
        Customers.
    """

    model: ClusterModel
    classes: tuple[ClusterClass, ...]
    silhouette: Mapping[int, float]
    within: Mapping[int, float]
    agreement: float
    rows: int


def fit_clusters(
    rows: pa.Table,
    tags: Sequence[str],
    *,
    seed: int,
    count: int | None = None,
    at_most: int = 8,
    titles: Mapping[str, Mapping[str, str]] | None = None,
) -> Clustering:
    """Part customers into classes of alike ones.

    Parameters
    ----------
    rows
        One row per customer with a numeric or boolean column per tag.
    tags
        Columns to part by.
    seed
        All chance hangs on it.
    count
        Number of classes; None: the one from 2 to ``at_most`` with the best silhouette among
        those whose smallest class holds at least 2 % of the customers.
    at_most
        See ``count``.
    titles
        Titles of the tags by language, for the words about each class.

    Raises
    ------
    ClusterError
        If there are fewer than 100 rows, a column is not numeric, no tag varies, or ``count`` is
        not from 2 to 20.

    References
    ----------
    .. [1] Rousseeuw (1987), Silhouettes, J. Comput. Appl. Math. 20.
    .. [2] Hubert and Arabie (1985), Comparing partitions, J. Classification 2.
    """
    _require(rows, tags, count, at_most)
    values = _values(rows, tags)
    frame = _frame(values, tuple(tags))
    standardised = frame.standardised(values)
    chance = random_stream(seed, "clusters")
    learnt = standardised[np.sort(chance.permutation(len(values))[:_FITTED])]
    judged = learnt[np.sort(chance.permutation(len(learnt))[:_JUDGED])]
    tried = [count] if count is not None else list(range(2, at_most + 1))
    fitted = {k: _fit(learnt, k, int(chance.integers(2**31))) for k in tried}
    silhouette = {k: _silhouette(judged, centres) for k, (centres, _) in fitted.items()}
    usable = [k for k in tried if _least(judged, fitted[k][0]) >= LEAST_SHARE] or tried
    best = max(usable, key=lambda k: (silhouette[k], -k))
    other, _ = _fit(learnt, best, int(chance.integers(2**31)))
    model = _ordered(frame, fitted[best][0], standardised)
    place = model.places(standardised)
    return Clustering(
        model=model,
        classes=_classes(model, values, place, titles or {}),
        silhouette=silhouette,
        within={k: inertia for k, (_, inertia) in fitted.items()},
        agreement=_agreement(judged, model.centres, other),
        rows=len(values),
    )


# ------------------------------------------------------------------------------------------ inside


def _require(rows: pa.Table, tags: Sequence[str], count: int | None, at_most: int) -> None:
    problem = ""
    odd = [tag for tag in tags if not _is_numeric(rows.schema.field(tag).type)]
    if rows.num_rows < LEAST_ROWS:
        problem = f"there are {rows.num_rows} customers, fewer than {LEAST_ROWS}"
    elif odd:
        problem = f"'{odd[0]}' is not a number"
    elif not tags or not 2 <= (at_most if count is None else count) <= 20:
        problem = "there is no tag, or the number of classes is not from 2 to 20"
    if problem:
        raise ClusterError(
            f"Customers cannot be parted into clusters: {problem}.",
            remedy="Choose numeric or true/false tags of at least 100 customers, 2 to 20 classes.",
            zh=f"无法聚类({problem})，请选择数值或是/否标签，至少 100 户，分 2 至 20 类。",
        )


def _is_numeric(kind: pa.DataType) -> bool:
    types = pa.types
    tests = (types.is_integer, types.is_floating, types.is_decimal, types.is_boolean)
    return any(test(kind) for test in tests)


def _values(rows: pa.Table, tags: Sequence[str]) -> Floats:
    """Return the columns as numbers, shape ``(n, n_tags)``; missing and infinite are NaN."""
    columns = []
    for tag in tags:
        column = rows[tag]
        if pa.types.is_boolean(column.type):
            column = pc.cast(column, pa.int8())
        numbers = pc.cast(column, pa.float64()).to_numpy()
        columns.append(np.where(np.isfinite(numbers), numbers, np.nan))
    return np.stack(columns, axis=1)


def _frame(values: Floats, tags: tuple[str, ...]) -> ClusterModel:
    """Learn how values are made comparable; the centres come later."""
    known = [column[~np.isnan(column)] for column in values.T]
    cuts = [np.quantile(c, [0.01, 0.5, 0.99]) if len(c) else np.zeros(3) for c in known]
    low, fill, high = np.stack(cuts, axis=1)
    cut = np.clip(np.where(np.isnan(values), fill, values), low, high)
    deviation = cut.std(axis=0)
    if not deviation.any():
        raise ClusterError(
            f"None of {', '.join(tags)} varies among these customers.",
            remedy="Choose other tags.",
            zh=f"标签 {'、'.join(tags)} 在这些客户中没有差异，请更换标签。",
        )
    scale = np.where(deviation > 0, deviation, 1.0)
    return ClusterModel(
        tags, fill, low, high, cut.mean(axis=0), scale, np.empty((0, len(tags))), ()
    )


def _fit(rows: Floats, count: int, seed: int) -> tuple[Floats, float]:
    from sklearn.cluster import KMeans  # slow to import, and only this needs it

    found = KMeans(count, n_init=_TRIES, random_state=seed).fit(rows)
    return found.cluster_centers_.astype(np.float64), float(found.inertia_)


def _nearest(rows: Floats, centres: Floats) -> NDArray[np.intp]:
    # |x - c|^2 without |x|^2, which is the same for all centres
    found: NDArray[np.intp] = np.argmin((centres**2).sum(axis=1) - 2 * rows @ centres.T, axis=1)
    return found


def _silhouette(rows: Floats, centres: Floats) -> float:
    from sklearn.metrics import silhouette_score

    place = _nearest(rows, centres)
    return float(silhouette_score(rows, place)) if len(np.unique(place)) > 1 else -1.0


def _least(rows: Floats, centres: Floats) -> float:
    """Return the share of the smallest class."""
    sizes = np.bincount(_nearest(rows, centres), minlength=len(centres))
    return float(sizes.min() / len(rows))


def _agreement(rows: Floats, one: Floats, other: Floats) -> float:
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(_nearest(rows, one), _nearest(rows, other)))


def _ordered(frame: ClusterModel, centres: Floats, standardised: Floats) -> ClusterModel:
    """Put the largest class first and name them in that order."""
    sizes = np.bincount(_nearest(standardised, centres), minlength=len(centres))
    order = np.lexsort((*centres.T[::-1], -sizes))
    names = tuple(f"c{i + 1}" for i in range(len(centres)))
    return ClusterModel(
        frame.tags, frame.fill, frame.low, frame.high, frame.mean, frame.deviation,
        centres[order], names,
    )  # fmt: skip


def _classes(
    model: ClusterModel,
    values: Floats,
    place: NDArray[np.intp],
    titles: Mapping[str, Mapping[str, str]],
) -> tuple[ClusterClass, ...]:
    base = _means(values)
    classes = []
    for i, name in enumerate(model.classes):
        mine = place == i
        distance = (model.standardised(values[mine]).mean(axis=0)) if mine.any() else 0 * base
        means = _means(values[mine])
        features = [
            Feature(tag, float(means[j]), float(base[j]), float(distance[j]))
            for j, tag in enumerate(model.tags)
        ]
        features.sort(key=lambda found: -abs(found.distance))
        size = int(mine.sum())
        said = {language: _said(features, titles, language) for language in ("zh", "en")}
        classes.append(ClusterClass(name, size, size / len(values), tuple(features), said))
    return tuple(classes)


def _means(values: Floats) -> Floats:
    known = ~np.isnan(values)
    counts = known.sum(axis=0)
    sums = np.where(known, values, 0.0).sum(axis=0)
    found: Floats = np.divide(sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return found


def _said(
    features: Sequence[Feature], titles: Mapping[str, Mapping[str, str]], language: str
) -> str:
    """Say the three most telling tags that are at least a quarter of a deviation away."""
    words = {"zh": ("高", "低", "、", "接近总体"), "en": ("high ", "low ", ", ", "like the base")}
    high, low, between, plain = words[language]
    said = []
    for found in features[:3]:
        if abs(found.distance) < 0.25:
            break
        title = titles.get(found.tag, {}).get(language, found.tag)
        mark = high if found.distance > 0 else low
        said.append(f"{title}{mark}" if language == "zh" else f"{mark}{title}")
    return between.join(said) or plain
