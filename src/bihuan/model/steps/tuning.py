"""Step 6: choose learner, settings and calibration on rows that the learners have not seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihuan.kernel import DefectError, NotEstimable, UserError, random_stream
from bihuan.model.card import Step
from bihuan.model.frame import Columns
from bihuan.model.metrics import auc
from bihuan.model.steps.calibration import Calibration, choose_calibration
from bihuan.model.steps.features import Prepared, prepare
from bihuan.model.steps.learner import (
    BlendLearner,
    BoostedSettings,
    Learner,
    LogisticSettings,
    Sample,
    fit_boosted,
    fit_logistic,
)
from bihuan.model.steps.plan import FeaturePlan
from bihuan.model.steps.sampling import Drawn, Rows, draw_sample, has_cases, inner_splits
from bihuan.model.steps.spec import ModelSpec

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Tick = Callable[[], None]

BOOSTED_MIN_CASES = 100  # with fewer, trees chase single customers
ISOTONIC_MIN_CASES = 200  # its steps stand on 25 rows each; fewer cases make them chance


class NoFeatureError(UserError):
    """Every feature is constant, an identifier, or knows the answer."""


@dataclass(frozen=True, slots=True)
class DecodedRows:
    """Rows at hand: decoded features, labels, periods."""

    columns: Columns
    label: Flags
    period: NDArray[np.int32] | None

    def take(self, rows: Rows) -> DecodedRows:
        """Return the rows at the positions ``rows``, in that order."""
        period = None if self.period is None else self.period[rows]
        return DecodedRows(self.columns.take(rows), self.label[rows], period)


@dataclass(frozen=True, slots=True)
class Fold:
    """One inner fold: steps 1 to 5 done on its own training rows."""

    plan: FeaturePlan
    sample: Sample
    test: DecodedRows
    rows: Rows


@dataclass(frozen=True, slots=True)
class Trial:
    """One learner with one setting, judged on the inner folds."""

    settings: Any
    logits: tuple[Floats, ...]
    auc: float
    n_tried: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """What step 6 settles, and the log-odds of unseen rows (``logit``, ``label``) it stands on."""

    learner: str
    logistic: LogisticSettings
    boosted: BoostedSettings
    calibration: Calibration
    logit: Floats
    label: Flags
    probability: Floats
    step: Step


@dataclass(frozen=True, slots=True)
class Fitted:
    """A learner with the records of the steps behind it."""

    learner: Learner
    prepared: Prepared
    drawn: Drawn


def choose_learner(data: DecodedRows, spec: ModelSpec, seed: int, tick: Tick) -> Choice:
    """Step 6: choose learner, settings and calibration on inner folds."""
    folds, is_by_time = _inner_folds(data, spec, seed)
    cases = int(min(data.label.sum(), (~data.label).sum()))
    trials: dict[str, Trial] = {}
    for kind in _kinds(spec.learner, cases):
        trials[kind] = _tune(folds, kind, spec, seed, tick)
    if len(trials) == 2:
        pairs = zip(trials["logistic"].logits, trials["lightgbm"].logits, strict=True)
        mixed = tuple((a + b) / 2 for a, b in pairs)
        trials["blend"] = Trial(None, mixed, _mean_area(folds, mixed))
    learner = spec.learner
    if learner not in trials:  # "auto"; ties go to the simpler
        learner = max(trials, key=lambda kind: trials[kind].auc)
    logit = np.concatenate(trials[learner].logits)
    label = np.concatenate([fold.test.label for fold in folds])
    kinds = _calibrations(spec.calibration, label)
    calibration, probability, losses = choose_calibration(
        logit, label, kinds, random_stream(seed, "calibration")
    )
    logistic = trials["logistic"].settings if "logistic" in trials else spec.logistic
    boosted = trials["lightgbm"].settings if "lightgbm" in trials else spec.boosted
    step = _tuning_step(trials, learner, losses, is_by_time, len(folds))
    return Choice(learner, logistic, boosted, calibration, logit, label, probability, step)


def _inner_folds(data: DecodedRows, spec: ModelSpec, seed: int) -> tuple[list[Fold], bool]:
    splits, is_by_time = inner_splits(data.label, data.period, spec.validation.inner_folds, seed)
    folds = []
    for train_rows, test_rows in splits:
        train = data.take(train_rows)
        prepared = _prepare(train, spec, seed)
        folds.append(
            Fold(prepared.plan, _sample(train, spec, seed)[0], data.take(test_rows), test_rows)
        )
    return folds, is_by_time


def _tune(folds: Sequence[Fold], kind: str, spec: ModelSpec, seed: int, tick: Tick) -> Trial:
    """Try the settings given and ``spec.trials`` random ones; return the best by mean AUC."""
    rng = random_stream(seed, "tuning", kind)
    candidates: list[Any] = [spec.logistic if kind == "logistic" else spec.boosted]
    draw = _draw_logistic if kind == "logistic" else _draw_boosted
    candidates += [draw(rng) for _ in range(spec.trials)]
    best: Trial | None = None
    for settings in candidates:
        logits = []
        for fold in folds:
            learner = _learn(kind, settings, fold.sample, fold.plan, (spec, seed))
            logits.append(learner.logits(fold.test.columns))
            tick()
        area = _mean_area(folds, logits)
        if best is None or area > best.auc:
            best = Trial(settings, tuple(logits), area, len(candidates))
    if best is None:
        raise DefectError(f"No settings were tried for {kind}.")
    return best


def _draw_logistic(rng: np.random.Generator) -> LogisticSettings:
    return LogisticSettings(
        strength=float(10 ** rng.uniform(-2.0, 1.5)), knots=int(rng.choice([0, 2, 4, 8, 12]))
    )


def _draw_boosted(rng: np.random.Generator) -> BoostedSettings:
    rate = float(10 ** rng.uniform(-1.7, -0.9))
    return BoostedSettings(
        trees=int(np.clip(rng.uniform(4, 12) / rate, 40, 500)),
        rate=rate,
        leaves=int(rng.choice([3, 4, 7, 15, 31])),
        min_rows=int(rng.choice([20, 40, 80, 160])),
        l2=float(10 ** rng.uniform(-1, 2)),
        feature_share=float(rng.choice([0.3, 0.5, 0.8])),
    )


def _kinds(learner: str, cases: int) -> tuple[str, ...]:
    if learner in {"logistic", "lightgbm"}:
        return (learner,)
    if learner == "auto" and cases < BOOSTED_MIN_CASES:
        return ("logistic",)
    return ("logistic", "lightgbm")


def _calibrations(wanted: str, label: Flags) -> tuple[str, ...]:
    if wanted != "auto":
        return (wanted,)
    return ("platt", "isotonic") if has_cases(label, ISOTONIC_MIN_CASES) else ("platt",)


def _learn(
    kind: str, settings: Any, sample: Sample, plan: FeaturePlan, order: tuple[ModelSpec, int]
) -> Learner:
    spec, seed = order
    if kind == "logistic":
        return fit_logistic(sample, plan, settings)
    return fit_boosted(sample, plan, settings, seed=seed, threads=spec.threads)


def _prepare(data: DecodedRows, spec: ModelSpec, seed: int) -> Prepared:
    prepared = prepare(data.columns, data.label, spec.features, seed=seed)
    if not prepared.plan.names:
        reasons = "; ".join(f"{fact.name}: {fact.reason['en']}" for fact in prepared.facts)
        raise NoFeatureError(
            f"No feature can be used ({reasons or 'there is none'}).",
            remedy="Give features that differ between customers and are known beforehand.",
            zh="没有可用的特征：全部恒定、是编号或泄露答案。",
        )
    return prepared


def _sample(data: DecodedRows, spec: ModelSpec, seed: int) -> tuple[Sample, Drawn]:
    drawn = draw_sample(data.label, data.period, spec.sampling, seed)
    rows = drawn.rows
    columns = data.columns if len(rows) == data.columns.n else data.columns.take(rows)
    return Sample(columns, data.label[rows], drawn.weight, drawn.log_keep), drawn


def fit_chosen(data: DecodedRows, choice: Choice, spec: ModelSpec, seed: int) -> Fitted:
    """Run steps 1 to 5 on all rows given and fit the learner chosen."""
    prepared = _prepare(data, spec, seed)
    sample, drawn = _sample(data, spec, seed)
    kinds = ("logistic", "lightgbm") if choice.learner == "blend" else (choice.learner,)
    settings = {"logistic": choice.logistic, "lightgbm": choice.boosted}
    parts = [_learn(kind, settings[kind], sample, prepared.plan, (spec, seed)) for kind in kinds]
    learner = parts[0] if len(parts) == 1 else BlendLearner(tuple(parts))
    return Fitted(learner, prepared, drawn)


def fold_auc(label: Flags, score: Floats) -> float:
    """Return the AUC of a fold, which by construction has both answers."""
    area = auc(label, score)
    if isinstance(area, NotEstimable):
        raise DefectError(f"A fold has one answer only: {area.reason['en']}")
    return area


def _mean_area(folds: Sequence[Fold], logits: Sequence[Floats]) -> float:
    areas = [fold_auc(fold.test.label, logit) for fold, logit in zip(folds, logits, strict=True)]
    return float(np.mean(areas))


def _tuning_step(
    trials: Mapping[str, Trial],
    learner: str,
    losses: Mapping[str, float],
    is_by_time: bool,
    n_folds: int,
) -> Step:
    areas = {kind: round(trial.auc, 5) for kind, trial in trials.items()}
    shown = ", ".join(f"{kind} {area:.4f}" for kind, area in areas.items())
    best = min(losses, key=lambda kind: losses[kind])
    kind_en, kind_zh = ("time-ordered", "按时间先后的") if is_by_time else ("stratified", "分层")
    settings = {
        kind: asdict(trial.settings) for kind, trial in trials.items() if trial.settings is not None
    }
    n_tried = sum(trial.n_tried for trial in trials.values())
    return Step.of(
        6,
        en=f"{n_tried} settings tried on {n_folds} {kind_en} folds, mean AUC: {shown}; chosen: "
        f"{learner}. Scores become probabilities by {best} calibration.",
        zh=f"在 {n_folds} 个{kind_zh}折上试了 {n_tried} 组参数，平均 AUC:{shown};"
        f"选用 {learner}。评分用 {best} 方法校准为概率。",
        facts={
            "auc": areas,
            "chosen": learner,
            "settings": settings,
            "calibration_loss": {kind: round(loss, 6) for kind, loss in losses.items()},
            "is_by_time": is_by_time,
            "folds": n_folds,
        },
    )
