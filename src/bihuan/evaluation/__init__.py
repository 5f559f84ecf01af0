"""Evaluation: what happened because of the campaign, what it cost, and where customers were lost.

In come the decision log (who was planned, who was held out at random, with which probability), the
frozen assignments and their outcomes, and the customers' responses. Out go

- :func:`estimate_effect`: an :class:`Effect` with its interval, or :class:`NotEstimable` with the
  reason; it rests on addable :class:`Tally` statistics and checks the log before it believes it;
- :func:`power`, :func:`minimum_detectable_effect`, :func:`control_share`: how large the control
  group must be, asked before the campaign;
- :func:`funnel` and :func:`review_process`: every assignment in one end state, and what to mend;
- :func:`roi`: response, revenue, cost, return, incremental beside (labelled) gross;
- :mod:`bihuan.evaluation.report`: all of it as one HTML page and PDF, in Chinese and English.
"""

from bihuan.evaluation.check import Balance, SampleRatio
from bihuan.evaluation.design import (
    control_share,
    minimum_detectable_effect,
    power,
    power_of_means,
)
from bihuan.evaluation.effect import Effect, Lift, StratumEffect, effect_of, estimate_effect
from bihuan.evaluation.funnel import Funnel, funnel
from bihuan.evaluation.intake import EvaluationInputError
from bihuan.evaluation.review import review_process, sample_lost
from bihuan.evaluation.roi import Estimate, Prices, Roi, UnknownAmountError, roi
from bihuan.evaluation.statistic import Cell, Moments, Tally, tally
from bihuan.evaluation.text import CHANNELS, Kind, Text, not_estimable, reason_of
from bihuan.kernel import NotEstimable

__all__ = [
    "estimate_effect",
    "effect_of",
    "Effect",
    "Lift",
    "StratumEffect",
    "NotEstimable",
    "not_estimable",
    "reason_of",
    "SampleRatio",
    "Balance",
    "tally",
    "Tally",
    "Cell",
    "Moments",
    "power",
    "power_of_means",
    "minimum_detectable_effect",
    "control_share",
    "funnel",
    "Funnel",
    "review_process",
    "sample_lost",
    "roi",
    "Roi",
    "Estimate",
    "Prices",
    "EvaluationInputError",
    "UnknownAmountError",
    "Text",
    "CHANNELS",
    "Kind",
]
