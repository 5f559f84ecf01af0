"""Steps 1 to 4 of building a model: from raw columns to the features that a learner sees.

Everything here is learnt from the rows given and from no others, and comes out as a
:class:`FeaturePlan`: plain data that can be written as JSON and applied to any later month.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihuan.kernel import random_stream
from bihuan.model.card import FeatureFact, Step, Text
from bihuan.model.frame import Columns, FeatureKind, Levels
from bihuan.model.metrics import midranks
from bihuan.model.steps.binning import (
    Floats,
    MergeRule,
    assign_bins,
    binned_auc,
    chance_information,
    count_by_bin,
    information_value,
    merge_levels,
    quantile_edges,
    weight_of_evidence,
)
from bihuan.model.steps.plan import FeaturePlan, Grouping, NumberRecipe

IV_BINS = 10
QUICK_ROWS = 20_000  # a correlation is known to 0.01 from so many; more rows only cost


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureRules:
    """What steps 1 to 4 may do.

    Parameters
    ----------
    merge
        When levels of a categorical feature are put together.
    winsor_share
        Share of the rows at each end whose values are pulled to the limit, 0..0.1.
    skew_limit
        A feature without negative values and with a skewness above this goes on a log scale.
    leak_auc
        A single feature that alone reaches this AUC most likely knows the answer and is left out.
    allow
        Features that the guard must let pass.
    max_correlation
        Of two features associated more strongly (Spearman or Cramer's V, 0..1), the one with
        less information goes.
    min_information
        Least information value after taking off what chance would show on average; never less
        than the reach of chance (one useless feature in twenty passes). None lets all pass.
    selection
        ``importance`` (share of a quick boosted model's gain), ``l1`` (lasso on weights of
        evidence) or ``none``.
    min_importance
        Least share of the gain, 0..1; for ``importance``.
    max_features
        Most features that stay.
    """

    merge: MergeRule = field(default_factory=MergeRule)
    winsor_share: float = 0.005
    skew_limit: float = 2.0
    leak_auc: float = 0.98
    allow: tuple[str, ...] = ()
    max_correlation: float = 0.95
    min_information: float | None = 0.0
    selection: str = "importance"
    min_importance: float = 0.002
    max_features: int = 60


@dataclass(frozen=True, slots=True)
class Prepared:
    """What steps 1 to 4 found: the plan, a fact sheet per feature, a record per step."""

    plan: FeaturePlan
    facts: tuple[FeatureFact, ...]
    steps: tuple[Step, ...]


@dataclass(slots=True)
class _Bench:
    """The workbench on which the four steps lay their findings, one after the other."""

    columns: Columns
    label: NDArray[np.bool_]
    rules: FeatureRules
    seed: int
    groupings: dict[str, Grouping] = field(default_factory=dict)
    recipes: dict[str, NumberRecipe] = field(default_factory=dict)
    bins: dict[str, NDArray[np.intp]] = field(default_factory=dict)
    freedom: dict[str, int] = field(default_factory=dict)
    information: dict[str, float] = field(default_factory=dict)
    luck: dict[str, float] = field(default_factory=dict)
    single_auc: dict[str, float] = field(default_factory=dict)
    dropped: dict[str, Text] = field(default_factory=dict)

    @property
    def left(self) -> list[str]:
        return [name for name in self.columns.kinds if name not in self.dropped]

    def plan(self, names: Iterable[str]) -> FeaturePlan:
        kept = list(names)
        return FeaturePlan(
            {name: self.columns.kinds[name] for name in kept},
            {name: self.groupings[name] for name in kept if name in self.groupings},
            {name: self.recipes[name] for name in kept if name in self.recipes},
        )

    def counts(self, name: str) -> tuple[Floats, Floats]:
        bins = self.bins[name]
        positives, negatives = count_by_bin(bins, self.label, int(bins.max()) + 1)
        filled = positives + negatives > 0
        return positives[filled], negatives[filled]


def prepare(
    columns: Columns, label: NDArray[np.bool_], rules: FeatureRules, *, seed: int
) -> Prepared:
    """Run steps 1 to 4 on the training rows.

    Parameters
    ----------
    columns
        Decoded features of the training rows, ``n`` of them.
    label
        Shape ``(n,)``, both classes present.
    rules
        The limits.
    seed
        Of the quick model that ranks features.

    Returns
    -------
    Prepared
        At least one feature stays unless every feature is constant or leaks.
    """
    bench = _Bench(columns, label, rules, seed)
    steps = tuple(
        run(bench)
        for run in (merge_categories, process_features, analyse_correlation, select_features)
    )
    facts = tuple(_fact(bench, name) for name in columns.kinds)
    return Prepared(bench.plan(bench.left), facts, steps)


def merge_categories(bench: _Bench) -> Step:
    """Step 1: put rare and alike levels of categorical features together."""
    merged: dict[str, list[int]] = {}
    for name, levels in bench.columns.levels.items():
        n_levels = len(levels.vocabulary)
        if n_levels > max(100, bench.columns.n // 2):
            bench.dropped[name] = {
                "en": f"{n_levels} different values for {bench.columns.n} rows: an identifier",
                "zh": f"{bench.columns.n} 行有 {n_levels} 个不同取值，是编号而非特征",
            }
            continue
        bench.groupings[name], bench.freedom[name] = _group(levels, bench.label, bench.rules.merge)
        groups = len(bench.groupings[name].groups)
        if groups < n_levels:
            merged[name] = [n_levels, groups]
        codes = bench.groupings[name].apply(levels)
        bench.bins[name] = np.where(codes < 0, groups, codes).astype(np.intp)
    changes = ", ".join(f"{name} {a} -> {b}" for name, (a, b) in merged.items())
    return Step.of(
        1,
        en=f"Merged levels of {len(merged)} of {len(bench.columns.levels)} categorical features"
        + (f": {changes}." if changes else "."),
        zh=f"{len(bench.columns.levels)} 个类别特征中合并了 {len(merged)} 个的取值"
        + (f":{changes}。" if changes else "。"),
        facts={"merged": merged},
    )


def _group(levels: Levels, label: NDArray[np.bool_], rule: MergeRule) -> tuple[Grouping, int]:
    """Return the groups, and among how many levels their order was picked by response."""
    words: list[str | None] = [*levels.vocabulary, None]
    codes = np.where(levels.codes < 0, len(words) - 1, levels.codes).astype(np.intp)
    positives, negatives = count_by_bin(codes, label, len(words))
    total = positives + negatives
    groups = merge_levels(positives, negatives, rule)
    rare = np.flatnonzero((total > 0) & (total < rule.min_rows))
    default = -1
    if len(rare):
        default = next(i for i, group in enumerate(groups) if int(rare[0]) in group)
    freedom = int((total >= rule.min_rows).sum()) + (len(rare) > 0)
    named = tuple(tuple(words[i] for i in group) for group in groups)
    return Grouping(named, default), freedom


def process_features(bench: _Bench) -> Step:
    """Step 2: missing values, outliers, skew; drop constants and features that know the answer."""
    logs, flags = [], []
    for name, values in bench.columns.numbers.items():
        recipe = _recipe(values, bench.columns.kinds[name], bench.rules)
        bench.recipes[name] = recipe
        bench.bins[name] = assign_bins(values, quantile_edges(values, IV_BINS))
        logs += [name] if recipe.is_log else []
        flags += [name] if recipe.flags_missing else []
    constant, leaking = [], []
    for name in bench.left:
        positives, negatives = bench.counts(name)
        if len(positives) < 2:
            constant.append(name)
            bench.dropped[name] = {"en": "the same for everyone", "zh": "所有客户取值相同"}
            continue
        _measure(bench, name, positives, negatives)
        if bench.single_auc[name] > bench.rules.leak_auc and name not in bench.rules.allow:
            leaking.append(name)
            bench.dropped[name] = _leak_reason(bench.single_auc[name])
    return Step.of(
        2,
        en=f"Log scale for {_listed(logs)}; a flag for missing values of {_listed(flags)}; "
        f"dropped as constant: {_listed(constant)}; left out because they seem to know the "
        f"answer: {_listed(leaking)}.",
        zh=f"取对数：{_listed(logs, 'zh')}；增加缺失标志：{_listed(flags, 'zh')};"
        f"取值恒定而剔除：{_listed(constant, 'zh')}；"
        f"疑似泄露答案而排除：{_listed(leaking, 'zh')}。",
        facts={
            "log": logs,
            "missing_flag": flags,
            "constant": constant,
            "leaking": leaking,
            "winsor_share": bench.rules.winsor_share,
        },
    )


def _recipe(values: Floats, kind: FeatureKind, rules: FeatureRules) -> NumberRecipe:
    missing = np.isnan(values)
    present = values[~missing]
    if len(present) == 0:
        return NumberRecipe(0.0, 0.0, False, 0.0, False)
    low, high = float(present.min()), float(present.max())
    is_log = False
    if kind is not FeatureKind.BOOLEAN:
        a, b = np.quantile(present, [rules.winsor_share, 1 - rules.winsor_share])
        if a < b:  # else nearly all values are equal and the rest is the information
            low, high = float(a), float(b)
        present = np.clip(present, low, high)
        spread = present.std()
        skew = float(((present - present.mean()) ** 3).mean() / spread**3) if spread else 0.0
        is_log = low >= 0 and skew > rules.skew_limit
        present = np.log1p(present) if is_log else present
    n_missing = int(missing.sum())
    return NumberRecipe(
        low, high, is_log, float(np.median(present)), n_missing >= max(30, 0.005 * len(values))
    )


def _measure(bench: _Bench, name: str, positives: Floats, negatives: Floats) -> None:
    # Groups made of many levels in the order of their response carry the luck of all of them.
    freedom = max(len(positives), bench.freedom.get(name, 0))
    chance, reach = chance_information(freedom, positives.sum(), negatives.sum())
    bench.information[name] = information_value(positives, negatives) - chance
    bench.luck[name] = reach
    alone = binned_auc(positives, negatives)
    values = bench.columns.numbers.get(name)
    if values is not None and alone > 0.9:  # bins may blur a sharp edge; ranks do not
        ranks = midranks(np.where(np.isnan(values), -np.inf, values))
        n_pos = int(bench.label.sum())
        n_neg = bench.columns.n - n_pos
        area = (ranks[bench.label].sum() - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg)
        alone = max(alone, float(area), float(1 - area))
    bench.single_auc[name] = alone


def _leak_reason(area: float) -> Text:
    return {
        "en": f"alone reaches AUC {area:.3f}: most likely recorded after the fact; "
        "put it under 'allow' if it is not",
        "zh": f"单独一个特征的 AUC 就有 {area:.3f}，很可能是事后才有的数据；确认无误可列入 allow",
    }


def analyse_correlation(bench: _Bench) -> Step:
    """Step 3: of features that say the same, keep the one that says most about the label."""
    by_information = sorted(bench.left, key=lambda name: (-bench.information[name], name))
    association = _associations(bench, by_information)
    kept: list[int] = []
    pairs: list[dict[str, Any]] = []
    for i, name in enumerate(by_information):
        twin = next((k for k in kept if association(k, i) > bench.rules.max_correlation), None)
        if twin is None:
            kept.append(i)
            continue
        other, strength = by_information[twin], association(twin, i)
        pairs.append({"dropped": name, "kept": other, "association": round(strength, 4)})
        bench.dropped[name] = {
            "en": f"says the same as {other} (association {strength:.2f}), which says more",
            "zh": f"与 {other} 高度相关({strength:.2f})，后者信息更多",
        }
    shown = ", ".join(f"{pair['dropped']} (as {pair['kept']})" for pair in pairs) or "none"
    shown_zh = "、".join(f"{pair['dropped']}（同 {pair['kept']}）" for pair in pairs) or "无"
    return Step.of(
        3,
        en=f"Compared {len(by_information)} features in pairs; dropped as repeats: {shown}.",
        zh=f"两两比较 {len(by_information)} 个特征；重复而剔除：{shown_zh}。",
        facts={"limit": bench.rules.max_correlation, "pairs": pairs},
    )


def _associations(bench: _Bench, names: list[str]) -> Callable[[int, int], float]:
    """Return a function of two positions in ``names``: Spearman for numbers, else Cramer's V."""
    step = max(1, bench.columns.n // QUICK_ROWS)
    rows = slice(None, None, step)
    ranks: dict[str, Floats] = {}
    for name in names:
        values = bench.columns.numbers.get(name)
        if values is not None:
            rank = midranks(bench.recipes[name].apply(values[rows]))
            rank -= rank.mean()
            length = float(np.sqrt((rank**2).sum()))
            ranks[name] = rank / length if length else rank
    cells = {name: bench.bins[name][rows] for name in names}

    def association(i: int, j: int) -> float:
        a, b = names[i], names[j]
        if a in ranks and b in ranks:
            return abs(float(ranks[a] @ ranks[b]))
        return cramers_v(cells[a], cells[b])

    return association


def cramers_v(a: NDArray[np.integer], b: NDArray[np.integer]) -> float:
    """Return Cramer's V of two codings with Bergsma's correction for chance, 0..1.

    Parameters
    ----------
    a, b
        Codes >= 0, shape ``(n,)``.

    References
    ----------
    .. [1] Bergsma (2013), A bias-correction for Cramer's V, J. Korean Statistical Society 42.

    Examples
    --------
    >>> cramers_v(np.array([0, 1] * 50), np.array([1, 0] * 50))
    1.0
    """
    width = int(b.max()) + 1
    table = np.bincount(a * width + b, minlength=(int(a.max()) + 1) * width)
    counts = table.reshape(-1, width).astype(np.float64)
    counts = counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0]
    n, (rows, cols) = counts.sum(), counts.shape
    if rows < 2 or cols < 2:
        return 0.0
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / n
    phi = float(((counts - expected) ** 2 / expected).sum() / n)
    phi = max(0.0, phi - (rows - 1) * (cols - 1) / (n - 1))
    rows_, cols_ = rows - (rows - 1) ** 2 / (n - 1), cols - (cols - 1) ** 2 / (n - 1)
    return min(1.0, float(np.sqrt(phi / max(min(rows_, cols_) - 1, 1e-12))))


def select_features(bench: _Bench) -> Step:
    """Step 4: keep the features that carry information alone and beside the others."""
    rules = bench.rules
    ranked = sorted(bench.left, key=lambda name: (-bench.information[name], name))
    least = {name: _least_information(bench, name) for name in ranked}
    weak = [name for name in ranked if bench.information[name] < least[name]]
    rescued = ranked[:1] if ranked and len(weak) == len(ranked) else []
    for name in weak:
        if name not in rescued:
            bench.dropped[name] = {
                "en": f"information value {bench.information[name]:.4f} above chance, "
                f"less than {least[name]:.4f}",
                "zh": f"扣除偶然后的信息值 {bench.information[name]:.4f}，低于 {least[name]:.4f}",
            }
    n_weak = len(weak) - len(rescued)
    useless = _drop_useless(bench) if len(bench.left) > 1 else []
    surplus = sorted(bench.left, key=lambda name: -bench.information[name])[rules.max_features :]
    for name in surplus:
        bench.dropped[name] = {
            "en": f"beyond the {rules.max_features} most informative features",
            "zh": f"超出信息量最高的 {rules.max_features} 个特征",
        }
    note = " No feature passed; the best one stays so the model can be judged." if rescued else ""
    note_zh = "没有特征达标，保留最好的一个以便检验。" if rescued else ""
    return Step.of(
        4,
        en=f"Kept {len(bench.left)} features; dropped {n_weak} by information value, "
        f"{len(useless)} by {rules.selection}, {len(surplus)} beyond the limit.{note}",
        zh=f"保留 {len(bench.left)} 个特征；因信息值剔除 {n_weak} 个,"
        f"因 {rules.selection} 剔除 {len(useless)} 个，超限剔除 {len(surplus)} 个。{note_zh}",
        facts={
            "information": {name: round(bench.information[name], 5) for name in ranked},
            "method": rules.selection,
            "kept": bench.left,
        },
    )


def _least_information(bench: _Bench, name: str) -> float:
    least = bench.rules.min_information
    return -np.inf if least is None else max(least, bench.luck[name])


def _drop_useless(bench: _Bench) -> list[str]:
    """Drop what adds nothing beside the other features, by the method that the rules name."""
    names = bench.left
    if bench.rules.selection == "importance":
        share = _gain_shares(bench, names)
        least = bench.rules.min_importance
        reason_en, reason_zh = "adds nothing to a quick boosted model", "对快速提升模型没有贡献"
    elif bench.rules.selection == "l1":
        share, least = _lasso_weights(bench, names), 1e-9
        reason_en, reason_zh = "the lasso gives it no weight", "L1 回归的权重为零"
    else:
        return []
    useless = [name for name, value in zip(names, share, strict=True) if value < least]
    if len(useless) == len(names):
        useless.remove(max(names, key=lambda name: bench.information[name]))
    for name in useless:
        bench.dropped[name] = {
            "en": f"{reason_en} beside the other features",
            "zh": f"在其他特征之外，{reason_zh}",
        }
    return useless


def _gain_shares(bench: _Bench, names: list[str]) -> Floats:
    import lightgbm  # heavy; only building a model needs it

    settings = {
        "objective": "binary",
        "num_leaves": 8,
        "learning_rate": 0.15,
        "min_data_in_leaf": 20,
        "feature_fraction": 0.5,
        "max_bin": 63,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "seed": int(random_stream(bench.seed, "selection").integers(2**31)),
        "verbosity": -1,
    }
    rows = np.arange(0, bench.columns.n, max(1, bench.columns.n // QUICK_ROWS))
    matrix = bench.plan(names).tree_matrix(bench.columns.take(rows))
    data = lightgbm.Dataset(matrix, bench.label[rows].astype(np.float64), params=settings)
    gain = lightgbm.train(settings, data, 40).feature_importance("gain")
    return np.asarray(gain / max(gain.sum(), 1e-12), dtype=np.float64)


def _lasso_weights(bench: _Bench, names: list[str]) -> Floats:
    from sklearn.linear_model import LogisticRegression

    matrix = np.empty((bench.columns.n, len(names)))
    for j, name in enumerate(names):
        bins = bench.bins[name]
        woe = weight_of_evidence(*count_by_bin(bins, bench.label, int(bins.max()) + 1))
        matrix[:, j] = woe[bins]
    matrix = (matrix - matrix.mean(axis=0)) / np.maximum(matrix.std(axis=0), 1e-12)
    rate = bench.label.mean()
    # The universal threshold: a penalty that all noise features together hardly ever overcome.
    reach = np.sqrt(2 * bench.columns.n * rate * (1 - rate) * np.log(max(len(names), 2)))
    lasso = LogisticRegression(
        l1_ratio=1.0,
        C=1 / reach,
        solver="liblinear",
        max_iter=1000,
        random_state=int(random_stream(bench.seed, "lasso").integers(2**31)),
    )
    lasso.fit(matrix, bench.label)
    return np.asarray(np.abs(lasso.coef_[0]), dtype=np.float64)


def _fact(bench: _Bench, name: str) -> FeatureFact:
    values = bench.columns.numbers.get(name)
    missing = np.isnan(values) if values is not None else bench.columns.levels[name].codes < 0
    return FeatureFact(
        name=name,
        kind=bench.columns.kinds[name].value,
        missing_share=float(missing.mean()),
        information=bench.information.get(name),
        single_auc=bench.single_auc.get(name),
        is_used=name not in bench.dropped,
        reason=bench.dropped.get(name, {"en": "", "zh": ""}),
    )


def _listed(names: list[str], language: str = "en") -> str:
    if language == "zh":
        return "、".join(names) or "无"
    return ", ".join(names) or "none"
