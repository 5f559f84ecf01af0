"""A real outbound campaign, decided anew by who knows only the past.

Month by month the calls of the month stand as candidates, seats allow half of them, and a model
learnt from earlier months alone chooses. What it would have sold is known, because the bank
called everybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.kernel import Progress, random_stream
from bihuan.model import LabelledFrame, ModelSpec, ValidationRules, build_model
from bihuan.pack import CALLS_FILE
from bihuan.workspace import Workspace

AS_OF = date(2010, 11, 30)
SEAT_SHARE = 0.5
N_RESAMPLES = 1_000
# nothing is held out: the month to be decided is the test
SPEC = ModelSpec(
    name="subscription",
    learner="logistic",
    validation=ValidationRules(holdout_share=0, holdout_periods=0),
)
FEATURES = (
    "age", "job", "marital", "education", "has_default", "has_housing_loan", "has_personal_loan",
    "line", "weekday", "contacts_in_campaign", "days_since_last", "previous_contacts",
    "previous_outcome",
)  # fmt: skip

Flags = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Policy:
    """How many sales an order of calling would have captured.

    Parameters
    ----------
    captured
        Sales within the seats.
    share
        Of all sales; with a 95 % bootstrap interval over calls, the choice held fixed.
    low, high
        Bounds of that interval.
    """

    captured: float
    share: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Replay:
    """The campaign decided anew.

    Parameters
    ----------
    calls, sales, seats, months
        What there was to decide: calls and sales of the months decided, calls allowed, months.
    policies
        ``model``, ``bank``, ``random`` and ``perfect``.
    gain
        Sales of the model per sale of the bank's order, minus 1, with its interval.
    curve
        By policy, sales captured after each month, cumulated, shape ``(months,)``.
    """

    calls: int
    sales: int
    seats: int
    months: int
    policies: dict[str, Policy]
    gain: tuple[float, float, float]
    curve: dict[str, NDArray[np.float64]]


def replay_calls(workspace: Workspace, *, seed: int, progress: Progress) -> Replay:
    """Ingest the real calls and decide each month on what was known before it.

    Parameters
    ----------
    workspace
        With the ``replay`` pack installed.
    seed
        Of the model and of the bootstrap.
    progress
        One step per month.
    """
    workspace.ingest(CALLS_FILE, "bank_calls", AS_OF)
    calls = workspace.view.get("call", AS_OF).read().sort_by("call_id")
    sold = calls["is_subscribed"].to_numpy()
    month = _month_numbers(calls["month"])
    chosen = np.zeros(len(sold), dtype=np.bool_)
    with progress.task("replay", total=int(month[-1]), unit="month") as task:
        for now, at in _months(month):
            scores = _score(calls, sold, month, now, seed)
            chosen[at[_best(scores, _seats(at))]] = True
            task.advance()
    return _compare(sold, month, chosen, seed)


def _month_numbers(names: pa.ChunkedArray) -> Ints:
    """Return each call's month, counted from 0; a new one begins where the name changes."""
    name = np.array(names.to_pylist())
    return np.concatenate([[0], np.cumsum(name[1:] != name[:-1])])


def _months(month: Ints) -> Iterator[tuple[int, Ints]]:
    """Yield each month that has a past, with the positions of its calls."""
    for now in range(1, int(month[-1]) + 1):
        yield now, np.flatnonzero(month == now)


def _seats(at: Ints) -> int:
    return int(len(at) * SEAT_SHARE)


def _best(scores: NDArray[np.float64], seats: int) -> Ints:
    return np.argsort(-scores, kind="stable")[:seats]


def _score(calls: pa.Table, sold: Flags, month: Ints, now: int, seed: int) -> NDArray[np.float64]:
    """Score the calls of a month with a model of all months before it."""
    past, candidates = np.flatnonzero(month < now), np.flatnonzero(month == now)
    features = calls.select(list(FEATURES))
    frame = LabelledFrame(
        ids=calls["call_id"].take(past), features=features.take(past), label=sold[past]
    )
    return build_model(frame, SPEC, seed=seed).score(features.take(candidates))


def _compare(sold: Flags, month: Ints, chosen: Flags, seed: int) -> Replay:
    decided = month >= 1
    weights = {"model": chosen.astype(np.float64)}
    weights |= {name: np.zeros(len(sold)) for name in ("bank", "random", "perfect")}
    for _, at in _months(month):
        seats = _seats(at)
        weights["bank"][at[:seats]] = 1.0
        weights["random"][at] = seats / len(at)
        weights["perfect"][at[_best(sold[at].astype(np.float64), seats)]] = 1.0
    draws = _resample(month[decided], seed)
    gains = {name: (weight * sold)[decided] for name, weight in weights.items()}
    totals = draws @ sold[decided]
    captured = {name: draws @ gain for name, gain in gains.items()}
    policies = {
        name: Policy(
            captured=float(gain.sum()),
            share=float(gain.sum() / sold[decided].sum()),
            low=float(np.quantile(captured[name] / totals, 0.025)),
            high=float(np.quantile(captured[name] / totals, 0.975)),
        )
        for name, gain in gains.items()
    }
    ratio = captured["model"] / captured["bank"] - 1
    steps = np.arange(1, int(month[-1]) + 1)
    return Replay(
        calls=int(decided.sum()),
        sales=int(sold[decided].sum()),
        seats=int(sum(_seats(at) for _, at in _months(month))),
        months=len(steps),
        policies=policies,
        gain=(
            policies["model"].captured / policies["bank"].captured - 1,
            float(np.quantile(ratio, 0.025)),
            float(np.quantile(ratio, 0.975)),
        ),
        curve={
            name: np.cumsum([(weight * sold)[month == step].sum() for step in steps])
            for name, weight in weights.items()
        },
    )


def _resample(month: Ints, seed: int) -> NDArray[np.float32]:
    """Return bootstrap weights of calls within their months, shape ``(resamples, n)``."""
    rng = random_stream(seed, "replay", "bootstrap")
    draws = np.zeros((N_RESAMPLES, len(month)), dtype=np.float32)
    for step in np.unique(month):
        at = np.flatnonzero(month == step)
        counts = rng.multinomial(len(at), np.full(len(at), 1 / len(at)), size=N_RESAMPLES)
        draws[:, at] = counts
    return draws
