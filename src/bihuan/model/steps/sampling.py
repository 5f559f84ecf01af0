"""Step 5, and which rows judge which: samples, hold-outs, folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bihuan.kernel import UserError, random_stream
from bihuan.model.card import Step, Text

Flags: TypeAlias = NDArray[np.bool_]
Floats: TypeAlias = NDArray[np.float64]
Rows: TypeAlias = NDArray[np.intp]
Periods: TypeAlias = NDArray[np.int32]

MIN_CASES = 30  # fewer cases of an answer than this leave an AUC an interval of about +-0.1
MIN_TEST_CASES = 20
MIN_FOLD_CASES = 15


class TooFewPositivesError(UserError):
    """There are too few rows of one answer to learn from.

    Parameters
    ----------
    cases
        Rows of the rarer answer.
    needed
        How many are needed.
    is_positive
        Whether the rarer answer is yes.
    """

    def __init__(self, cases: int, *, needed: int = MIN_CASES, is_positive: bool = True) -> None:
        self.cases, self.needed = cases, needed
        en, zh = ("positive", "正例") if is_positive else ("negative", "负例")
        super().__init__(
            f"There are only {cases} {en} rows; at least {needed} are needed to learn a model.",
            remedy="Take more months together, widen the label, or use an experience scorecard.",
            zh=f"{zh}只有 {cases} 行，建模至少需要 {needed} 行。"
            "请合并更多月份、放宽标签定义，或改用经验评分卡。",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingRules:
    """Which rows a learner sees.

    Parameters
    ----------
    negatives_per_positive
        Thin the negatives to this many per positive (in every period alike) and put the
        probabilities right afterwards; None keeps all.
    max_rows
        A larger frame is thinned to this, every period and answer in its share.
    half_life
        Periods after which a row counts half; None counts all alike. For markets that drift.
    """

    negatives_per_positive: float | None = None
    max_rows: int = 300_000
    half_life: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRules:
    """Which rows judge.

    Parameters
    ----------
    holdout_share
        Share of the rows held out where there are no periods, 0..0.5; 0 judges by inner folds.
    holdout_periods
        Last periods held out where there are periods; 0 judges by inner folds.
    inner_folds
        Folds on which learner, settings and calibration are chosen, >= 2.
    """

    holdout_share: float = 0.2
    holdout_periods: int = 1
    inner_folds: int = 3


@dataclass(frozen=True, slots=True)
class Drawn:
    """The rows drawn in step 5.

    Parameters
    ----------
    rows
        Positions, rising.
    weight
        Of each row, mean 1, or None.
    log_keep
        Log of the share of negatives kept over that of positives kept, <= 0.
    step
        The record.
    """

    rows: Rows
    weight: Floats | None
    log_keep: float
    step: Step


def require_cases(label: Flags) -> None:
    """Raise :class:`TooFewPositivesError` if there is too little to learn from."""
    n_pos = int(label.sum())
    n_neg = len(label) - n_pos
    if min(n_pos, n_neg) < MIN_CASES:
        raise TooFewPositivesError(min(n_pos, n_neg), is_positive=n_pos <= n_neg)


def draw_sample(label: Flags, period: Periods | None, rules: SamplingRules, seed: int) -> Drawn:
    """Step 5: draw the rows to learn from, in every period and answer alike."""
    rng = random_stream(seed, "sampling")
    cells = np.zeros(len(label), dtype=np.int64)
    if period is not None:
        cells = np.unique(period, return_inverse=True)[1].astype(np.int64)
    keep = np.ones(len(label), dtype=np.bool_)
    n_pos, n_neg = int(label.sum()), int((~label).sum())
    log_keep = 0.0
    wanted = rules.negatives_per_positive
    if wanted is not None and wanted * n_pos < n_neg:
        negatives = np.flatnonzero(~label)
        kept = _thin(cells[negatives], wanted * n_pos / n_neg, rng)
        keep[negatives[~kept]] = False
        log_keep = float(np.log(kept.mean()))
    if keep.sum() > rules.max_rows:
        rows = np.flatnonzero(keep)
        kept = _thin(cells[rows] * 2 + label[rows], rules.max_rows / len(rows), rng)
        keep[rows[~kept]] = False
    rows = np.flatnonzero(keep)
    weight = _recency(period, rows, rules.half_life)
    return Drawn(rows, weight, log_keep, _sampling_step(label, rows, rules, log_keep))


def _thin(cells: NDArray[np.int64], share: float, rng: np.random.Generator) -> Flags:
    """Keep about ``share`` of each cell at random, shape ``(n,)``."""
    order = np.lexsort((rng.random(len(cells)), cells))
    ordered = cells[order]
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    sizes = np.diff(np.append(starts, len(cells)))
    place = np.arange(len(cells)) - np.repeat(starts, sizes)
    keep = np.empty(len(cells), dtype=np.bool_)
    keep[order] = place < np.repeat(np.maximum(np.rint(sizes * share), 1), sizes)
    return keep


def _recency(period: Periods | None, rows: Rows, half_life: float | None) -> Floats | None:
    if half_life is None or period is None:
        return None
    age = (period.max() - period[rows]).astype(np.float64)
    weight = 0.5 ** (age / half_life)
    return np.asarray(weight / weight.mean(), dtype=np.float64)


def _sampling_step(label: Flags, rows: Rows, rules: SamplingRules, log_keep: float) -> Step:
    n_pos = int(label[rows].sum())
    if len(rows) == len(label):
        en, zh = f"All {len(rows):,} rows are used.", f"使用全部 {len(rows):,} 行。"
    else:
        en = f"{len(rows):,} of {len(label):,} rows drawn, {n_pos:,} of them positive."
        zh = f"从 {len(label):,} 行中抽取 {len(rows):,} 行，其中正例 {n_pos:,}。"
    if log_keep < 0:
        en += f" {np.exp(log_keep):.1%} of the negatives kept; probabilities put right."
        zh += f"负例保留 {np.exp(log_keep):.1%}，概率已按比例还原。"
    if rules.half_life is not None:
        en += f" A row counts half after {rules.half_life:g} periods."
        zh += f"每过 {rules.half_life:g} 期权重减半。"
    facts = {"rows": len(rows), "positives": n_pos, "log_keep": log_keep}
    return Step.of(5, en=en, zh=zh, facts=facts)


def hold_out(
    label: Flags, period: Periods | None, rules: ValidationRules, seed: int
) -> tuple[Rows, Rows | None, Text]:
    """Set rows aside that nothing may be learnt from before step 7.

    Parameters
    ----------
    label, period
        Shape ``(n,)``.
    rules
        How many.
    seed
        Of the draw where there are no periods.

    Returns
    -------
    train, test
        Positions, rising; ``test`` is None where too few cases are left to judge by.
    how
        By language.
    """
    everyone = np.arange(len(label))
    if period is not None and len(np.unique(period)) > 1:
        is_test = _last_periods(label, period, rules.holdout_periods)
        en, zh = "the last months, which come after all training months", "训练月份之后的最后月份"
    else:
        is_test = _random_share(label, rules.holdout_share, seed)
        en, zh = "a random share of the customers", "随机抽出的部分客户"
    if is_test is None:
        return everyone, None, _inner_words(rules.inner_folds)
    n, hits = int(is_test.sum()), int(label[is_test].sum())
    return (
        np.flatnonzero(~is_test),
        np.flatnonzero(is_test),
        {
            "en": f"Judged on {n:,} rows held out ({hits:,} positive): {en}.",
            "zh": f"在留出的 {n:,} 行（正例 {hits:,}）上检验：{zh}。",
        },
    )


def _inner_words(folds: int) -> Text:
    return {
        "en": f"Judged by {folds} inner folds: every row by a model that did not see it. "
        "Nothing was held out besides, so the figures may flatter a little.",
        "zh": f"以 {folds} 折交叉检验评估，每行均由未见过它的模型评分;"
        "未另设留出集，结果可能略偏乐观。",
    }


def _last_periods(label: Flags, period: Periods, n_periods: int) -> Flags | None:
    if n_periods < 1:
        return None
    months = np.unique(period)
    for first in months[-n_periods:0:-1]:  # further back until there are cases to judge by
        is_test: Flags = np.greater_equal(period, first)
        if not has_cases(label[~is_test], MIN_CASES):
            return None
        if has_cases(label[is_test], MIN_TEST_CASES):
            return is_test
    return None


def _random_share(label: Flags, share: float, seed: int) -> Flags | None:
    if share <= 0:
        return None
    rng = random_stream(seed, "holdout")
    is_test = _thin(label.astype(np.int64), share, rng)
    enough = has_cases(label[is_test], MIN_TEST_CASES) and has_cases(label[~is_test], MIN_CASES)
    return is_test if enough else None


def has_cases(label: Flags, least: int) -> bool:
    """Return whether there are at least ``least`` rows of either answer."""
    return bool(label.sum() >= least and (~label).sum() >= least)


def inner_splits(
    label: Flags, period: Periods | None, n_folds: int, seed: int
) -> tuple[list[tuple[Rows, Rows]], bool]:
    """Cut the training rows into pairs of rows to learn from and rows to judge on.

    Where there are periods, later ones judge what was learnt from all earlier ones; otherwise, or
    if that leaves too few cases, stratified folds.

    Returns
    -------
    splits
        Pairs of positions.
    is_by_time
        Which of the two it was.
    """
    if period is not None:
        splits = _time_splits(label, period, n_folds)
        if splits:
            return splits, True
    fold = stratified_folds(label, n_folds, random_stream(seed, "folds"))
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(n_folds)], False


def stratified_folds(label: Flags, n_folds: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the fold of each row, shape ``(n,)``; either answer is spread evenly."""
    fold = np.empty(len(label), dtype=np.intp)
    start = 0
    for rows in (np.flatnonzero(label), np.flatnonzero(~label)):
        fold[rng.permutation(rows)] = (np.arange(len(rows)) + start) % n_folds
        start += len(rows)  # so that remainders do not all fall into the first folds
    return fold


def _time_splits(label: Flags, period: Periods, n_folds: int) -> list[tuple[Rows, Rows]]:
    months, at, counts = np.unique(period, return_inverse=True, return_counts=True)
    middle = (np.cumsum(counts) - counts / 2) / counts.sum()
    block = np.minimum((middle * (n_folds + 1)).astype(np.intp), n_folds)[at]
    splits = []
    for k in range(1, n_folds + 1):
        train, test = np.flatnonzero(block < k), np.flatnonzero(block == k)
        if has_cases(label[train], MIN_FOLD_CASES) and has_cases(label[test], 5):
            splits.append((train, test))
    return splits if len(months) > 1 else []
