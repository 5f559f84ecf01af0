"""The eight steps from labelled rows to a model that scores the newest month.

1. merge indicator categories    2. process feature data    3. correlation analysis
4. feature selection             5. sampling                6. tuning
7. validation                    8. scoring the newest month

One process serves individual (2C) and enterprise (2B) customers: only the columns differ.

What keeps the numbers honest: whatever is learnt (groups, limits, selection, learner, calibration)
is learnt from the training rows of the split at hand; learner, settings and calibration are chosen
on inner folds in which steps 1 to 5 are run anew; the rows of step 7 are looked at once, at the
end.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import date
from importlib.metadata import version

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.kernel import (
    DefectError,
    NotEstimable,
    Progress,
    SilentProgress,
    UserError,
    random_stream,
)
from bihuan.model.card import DataFacts, FeatureFact, ModelCard, Step, Text
from bihuan.model.frame import Columns, LabelledFrame
from bihuan.model.metrics import Metrics, evaluate_scores
from bihuan.model.score import BuiltModel, Drift, Reference
from bihuan.model.steps.calibration import expit, fit_calibration
from bihuan.model.steps.learner import Learner
from bihuan.model.steps.sampling import Rows, hold_out, require_cases, stratified_folds
from bihuan.model.steps.spec import ModelSpec
from bihuan.model.steps.tuning import (
    Choice,
    DecodedRows,
    choose_learner,
    fit_chosen,
    fold_auc,
)

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]

COMPARED_ROWS = 10_000  # a tenth of them is known to 0.3 percent points
WEIGHED_ROWS = 1_500  # a share of influence is known to about a percent point from so many
VERDICTS = {"stable": "稳定", "watch": "需关注", "shifted": "已明显变化"}
LIBRARIES = ("lightgbm", "numpy", "pyarrow", "scikit-learn")


class FoldsError(UserError):
    """The rows cannot be cut into so many folds."""


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """How good the whole process is, judged on rows that had no part in it.

    Parameters
    ----------
    metrics
        Over all rows pooled, each scored by the model of the fold that did not see it.
    fold_auc
        AUC of each fold.
    scores
        The pooled scores, shape ``(n,)``, in the order of the frame.
    learners
        Learner chosen in each fold.
    """

    metrics: Metrics
    fold_auc: tuple[float, ...]
    scores: Floats
    learners: tuple[str, ...]

    @property
    def auc(self) -> float:
        """AUC over all rows pooled."""
        return self.metrics.auc.value

    @property
    def mean_auc(self) -> float:
        """Mean of the folds' AUC."""
        return float(np.mean(self.fold_auc))


def build_model(
    frame: LabelledFrame,
    spec: ModelSpec,
    *,
    seed: int,
    progress: Progress | None = None,
    newest: pa.Table | None = None,
    newest_as_of: date | None = None,
) -> BuiltModel:
    """Build a model in eight steps and write down each.

    Validation: where the frame has periods, the last one(s) are held out; otherwise a stratified
    share of the rows; where neither leaves enough cases, inner folds serve. After it has been
    judged, the model is fitted once more on all rows, so that the newest month counts too.

    Parameters
    ----------
    frame
        Labelled rows.
    spec
        The order form.
    seed
        Of every draw; the same frame, spec and seed give the same model.
    progress
        Where to report; None reports nowhere.
    newest
        Features of the newest month, not yet labelled, to be compared with the training months in
        step 8 (score them with :meth:`BuiltModel.score`); None compares the last labelled period
        with those before.
    newest_as_of
        Date of ``newest``; needed if there are date features.

    Returns
    -------
    BuiltModel

    Raises
    ------
    TooFewPositivesError
        If there are fewer than 30 rows of either answer.
    NoFeatureError
        If no feature can be used.
    """
    require_cases(frame.label)
    data = DecodedRows(frame.decode(), frame.label, frame.period)
    train, test, how = hold_out(data.label, data.period, spec.validation, seed)
    work = (progress or SilentProgress()).task(f"model {spec.name}", unit="fits")
    with _blas_threads(spec.threads), work as task:
        choice = choose_learner(data.take(train), spec, seed, task.advance)
        if test is None:
            metrics = _judge(choice.label, choice.probability, seed)
        else:
            metrics, choice = _validate(data, train, test, choice, (spec, seed))
            task.advance()
        fitted = fit_chosen(data, choice, spec, seed)
        task.advance()
    learner = fitted.learner
    card = ModelCard(
        name=spec.name,
        title=spec.title,
        label=spec.label,
        owner=spec.owner,
        intended_use=spec.intended_use,
        limits=spec.limits,
        seed=seed,
        learner=choice.learner,
        calibration=choice.calibration.kind,
        data=_data_facts(frame),
        features=_weigh(fitted.prepared.facts, learner, data.columns, spec),
        steps=(
            *fitted.prepared.steps,
            fitted.drawn.step,
            choice.step,
            _validation_step(how, metrics),
            Step.of(8, en="", zh=""),
        ),
        validation=how,
        metrics=metrics,
        settings=spec.to_dict(),
        libraries={name: version(name) for name in LIBRARIES},
    )
    reference = Reference.of(learner.plan, data.columns, choice.probability)
    model = BuiltModel(card, learner, choice.calibration, reference, spec.titles, spec.code_titles)
    if newest is not None:
        step = _newest_step(model.drift(newest, as_of=newest_as_of))
    else:
        step = _last_period_step(model, data)
    return replace(model, card=card.with_step(step))


def cross_validate(
    frame: LabelledFrame,
    spec: ModelSpec,
    folds: int = 10,
    seed: int = 0,
    *,
    progress: Progress | None = None,
) -> CrossValidation:
    """Run steps 1 to 6 anew in every fold and judge on the fold that was left out.

    Folds are stratified by the label and take no heed of periods; for a time-ordered judgement
    take the metrics of :func:`build_model`.

    Parameters
    ----------
    frame
        Labelled rows, ``n`` of them.
    spec
        The order form.
    folds
        From 2 to the number of rows of the rarer answer.
    seed
        Of the folds and of every draw inside.
    progress
        Where to report.

    Returns
    -------
    CrossValidation
        Nothing in the score of a row was learnt from that row or its fold.

    Raises
    ------
    TooFewPositivesError
        If there are fewer than 30 rows of either answer.
    FoldsError
        If there are more folds than rows of the rarer answer.
    """
    require_cases(frame.label)
    cases = int(min(frame.label.sum(), (~frame.label).sum()))
    if not 2 <= folds <= cases:
        raise FoldsError(
            f"{folds} folds cannot each hold one of {cases} cases.",
            remedy=f"Choose from 2 to {min(cases, 10)} folds.",
            zh=f"{cases} 个案例无法分成 {folds} 折，请选择 2 到 {min(cases, 10)} 折。",
        )
    data = DecodedRows(frame.decode(), frame.label, frame.period)
    fold = stratified_folds(frame.label, folds, random_stream(seed, "cross-validation"))
    scores = np.empty(frame.n)
    learners, areas = [], []
    work = (progress or SilentProgress()).task(f"judge {spec.name}", total=folds, unit="folds")
    with _blas_threads(spec.threads), work as task:
        for k in range(folds):
            train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            choice = choose_learner(data.take(train), spec, seed, lambda: task.advance(0))
            learner = fit_chosen(data.take(train), choice, spec, seed).learner
            logit = learner.logits(data.columns.take(test))
            scores[test] = expit(choice.calibration.apply(logit))
            learners.append(choice.learner)
            areas.append(fold_auc(frame.label[test], scores[test]))
            task.advance()
    return CrossValidation(_judge(frame.label, scores, seed), tuple(areas), scores, tuple(learners))


def _validate(
    data: DecodedRows, train: Rows, test: Rows, choice: Choice, order: tuple[ModelSpec, int]
) -> tuple[Metrics, Choice]:
    """Step 7: judge on the rows held out, then let them take part in the final calibration."""
    spec, seed = order
    learner = fit_chosen(data.take(train), choice, spec, seed).learner
    held = data.take(test)
    held_logit = learner.logits(held.columns)
    metrics = _judge(held.label, expit(choice.calibration.apply(held_logit)), seed)
    logit = np.concatenate([choice.logit, held_logit])
    label = np.concatenate([choice.label, held.label])
    calibration = fit_calibration(logit, label, choice.calibration.kind)
    probability = expit(calibration.apply(logit))
    return metrics, replace(
        choice, calibration=calibration, logit=logit, label=label, probability=probability
    )


def _judge(label: Flags, score: Floats, seed: int) -> Metrics:
    metrics = evaluate_scores(label, score, seed=seed)
    if isinstance(metrics, NotEstimable):
        raise DefectError(f"A split left one answer only: {metrics.reason['en']}")
    return metrics


def _blas_threads(threads: int) -> AbstractContextManager[object]:
    """Hold matrix products to so many threads.

    Sums then come out alike on machines with more cores, and products of this size do not wait
    for a thread that another process keeps off its core (seen to cost ten times the work).
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # of sklearn

    limits: AbstractContextManager[object] = threadpool_limits(limits=threads, user_api="blas")
    return limits


def _data_facts(frame: LabelledFrame) -> DataFacts:
    periods: tuple[int, ...] = ()
    if frame.period is not None:
        periods = (int(frame.period.min()), int(frame.period.max()))
    as_of: tuple[str, ...] = ()
    if isinstance(frame.as_of, np.ndarray):
        as_of = (str(frame.as_of.min()), str(frame.as_of.max()))
    elif frame.as_of is not None:
        as_of = (frame.as_of.isoformat(),)
    return DataFacts(frame.n, int(frame.label.sum()), periods, as_of, dict(frame.lineage))


def _weigh(
    facts: tuple[FeatureFact, ...], learner: Learner, columns: Columns, spec: ModelSpec
) -> tuple[FeatureFact, ...]:
    """Add title and share of influence: mean absolute contribution over a sample of rows."""
    step = max(1, columns.n // WEIGHED_ROWS)
    sample = columns.take(np.arange(0, columns.n, step))
    weight = np.abs(learner.contributions(sample)).mean(axis=0)
    shares = dict(zip(learner.plan.names, weight / max(weight.sum(), 1e-12), strict=True))
    return tuple(
        replace(
            fact,
            weight=float(shares[fact.name]) if fact.name in shares else None,
            title=dict(spec.titles.get(fact.name, {})),
        )
        for fact in facts
    )


def _validation_step(how: Text, metrics: Metrics) -> Step:
    area, top = metrics.auc, metrics.top_decile_lift
    return Step.of(
        7,
        en=f"{how['en']} AUC {area.value:.3f} ({area.low:.3f} to {area.high:.3f}), lift of the "
        f"best tenth {top.value:.2f}, calibration error {metrics.calibration_error:.3f}.",
        zh=f"{how['zh']}AUC {area.value:.3f}({area.low:.3f}-{area.high:.3f}),"
        f"最高十分之一提升 {top.value:.2f}，校准误差 {metrics.calibration_error:.3f}。",
        facts={"rows": metrics.n, "positives": metrics.positives, "auc": area.value},
    )


def _newest_step(drift: Drift) -> Step:
    worst = next(iter(drift.features.items()))
    return Step.of(
        8,
        en=f"The newest month ({drift.rows:,} rows) is {drift.verdict}: stability index of the "
        f"scores {drift.score:.3f}, of the feature that moved most ({worst[0]}) {worst[1]:.3f}.",
        zh=f"最新月份({drift.rows:,} 行)与训练月份相比{VERDICTS[drift.verdict]}:"
        f"评分稳定性指数 {drift.score:.3f}，变化最大的特征 {worst[0]} 为 {worst[1]:.3f}。",
        facts={"score": drift.score, "features": dict(drift.features), "verdict": drift.verdict},
    )


def _last_period_step(model: BuiltModel, data: DecodedRows) -> Step:
    """Step 8 without a newer month: compare the last labelled period with those before."""
    if data.period is None or len(np.unique(data.period)) < 2:
        return Step.of(
            8,
            en="No newer month was given; compare it (BuiltModel.drift) before its scores are "
            "used.",
            zh="未提供更新月份的数据；使用评分前请先做漂移检查(BuiltModel.drift)。",
        )
    is_last = data.period == data.period.max()
    rows = np.flatnonzero(~is_last)
    earlier = data.columns.take(rows[:: max(1, len(rows) // COMPARED_ROWS)])
    last = data.columns.take(np.flatnonzero(is_last))
    before = Reference.of(model.plan, earlier, model.learner.logits(earlier))
    return _newest_step(before.compare(model.plan, last, model.learner.logits(last)))
