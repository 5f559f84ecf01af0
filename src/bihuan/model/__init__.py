"""Models: who will do it? From labelled customers to scores, with the reasons and the limits.

In come customers with features at a date and a known answer (:class:`LabelledFrame`) and an order
form (:class:`ModelSpec`). :func:`build_model` goes through eight recorded steps and hands out a
:class:`BuiltModel` with its card; :class:`ModelRegistry` keeps versions and says which one is the
champion; :func:`publish_scores` writes the lake table ``score__<name>`` that mining tags read.
Where there is too little history to learn from, a :class:`Scorecard` of experience points serves.
"""

from bihuan.kernel import NotEstimable
from bihuan.model.card import ModelCard
from bihuan.model.catalogue import (
    MODEL_LIBRARY,
    BoundModel,
    CatalogueError,
    CatalogueModel,
    ModelCatalogue,
)
from bihuan.model.cluster import ClusterClass, Clustering, ClusterModel, fit_clusters
from bihuan.model.frame import LabelledFrame
from bihuan.model.metrics import Estimate, Metrics, evaluate_scores
from bihuan.model.pipeline import CrossValidation, build_model, cross_validate
from bihuan.model.registry import ModelEntry, ModelRegistry, ModelState
from bihuan.model.scope import (
    SAMPLE_SCOPE,
    Gap,
    Scope,
    ScopeReport,
    check_scope,
    load_scope,
)
from bihuan.model.score import BuiltModel, Drift, publish_scores
from bihuan.model.scorecard import Scorecard
from bihuan.model.scorecard_fit import ScorecardRules, fit_scorecard, points_interval
from bihuan.model.screening import (
    Threshold,
    find_threshold,
    stability_by_period,
    threshold_table,
)
from bihuan.model.steps.sampling import TooFewPositivesError, ValidationRules
from bihuan.model.steps.spec import ModelSpec

__all__ = [
    "LabelledFrame",
    "ModelSpec",
    "ValidationRules",
    "build_model",
    "BuiltModel",
    "ModelCard",
    "TooFewPositivesError",
    "cross_validate",
    "CrossValidation",
    "evaluate_scores",
    "Metrics",
    "Estimate",
    "NotEstimable",
    "Drift",
    "ModelRegistry",
    "ModelState",
    "publish_scores",
    "ModelEntry",
    "MODEL_LIBRARY",
    "ModelCatalogue",
    "CatalogueModel",
    "BoundModel",
    "CatalogueError",
    "SAMPLE_SCOPE",
    "Scope",
    "load_scope",
    "check_scope",
    "ScopeReport",
    "Gap",
    "Scorecard",
    "ScorecardRules",
    "fit_scorecard",
    "points_interval",
    "threshold_table",
    "find_threshold",
    "Threshold",
    "stability_by_period",
    "fit_clusters",
    "Clustering",
    "ClusterClass",
    "ClusterModel",
]
