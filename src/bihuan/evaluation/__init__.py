"""Evaluation."""

from bihuan.evaluation.design import (
    control_share,
    minimum_detectable_effect,
    power,
    power_of_means,
)
from bihuan.evaluation.effect import Effect, effect_of, estimate_effect
from bihuan.evaluation.funnel import Funnel, funnel
from bihuan.evaluation.intake import EvaluationInputError
from bihuan.evaluation.review import review_process, sample_lost
from bihuan.evaluation.roi import Prices, Roi, roi
from bihuan.evaluation.statistic import Cell, Moments, Tally, tally
from bihuan.evaluation.text import Kind, NotEstimable, Text

