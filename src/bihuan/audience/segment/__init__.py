"""From a goal to a group that fits: 定性 → 定细 → 定量, and customers sorted into classes.

In come tags, a goal and resources; out go the tags that matter (``relevance``, ``leak``), what
each condition takes away (``refine``), the threshold that fits seats, budget and coupons with the
response to expect (``resources``, ``response``, ``quantify``). ``reader`` says what these ask of
whoever counts, planes or SQL; ``explore`` is the planner's session. ``matrix``, ``classify``,
``rule`` and ``rule_order`` sort customers into classes that can be saved and found again;
``cohort`` and ``following`` freeze customers at a date and see what became of them.
"""

from bihuan.audience.segment.classify import (
    ClassifierStore,
    RuleClassifier,
    SavedClassifier,
    class_counts,
    classify_base,
    classify_profile,
    publish_classes,
)
from bihuan.audience.segment.cohort import (
    Cohort,
    find_cohort,
    list_cohorts,
    take_cohort,
)
from bihuan.audience.segment.explore import (
    Exploration,
)
from bihuan.audience.segment.following import (
    Following,
    follow_cohort,
    follow_table,
    lost_members,
)
from bihuan.audience.segment.leak import (
    Goal,
)
from bihuan.audience.segment.matrix import (
    Axis,
    Matrix,
    analyse_matrix,
)
from bihuan.audience.segment.quantify import (
    Curve,
    Fit,
    fit_threshold,
    response_curve,
)
from bihuan.audience.segment.reader import (
    SqlReader,
)
from bihuan.audience.segment.refine import (
    Explanation,
    explain_counts,
)
from bihuan.audience.segment.relevance import (
    Relevance,
    rank_tags,
)
from bihuan.audience.segment.resources import (
    Resources,
)
from bihuan.audience.segment.response import (
    ScoreSum,
    learn_rates,
)
from bihuan.audience.segment.rule import (
    ExperienceRule,
    RuleReport,
    apply_rules,
    load_rules,
)
from bihuan.audience.segment.rule_order import (
    OrderEffect,
    what_would_move,
)

__all__ = [
    "Axis",
    "ClassifierStore",
    "Cohort",
    "Curve",
    "ExperienceRule",
    "Explanation",
    "Exploration",
    "Fit",
    "Following",
    "Goal",
    "Matrix",
    "OrderEffect",
    "Relevance",
    "Resources",
    "RuleClassifier",
    "RuleReport",
    "SavedClassifier",
    "ScoreSum",
    "SqlReader",
    "analyse_matrix",
    "apply_rules",
    "class_counts",
    "classify_base",
    "classify_profile",
    "explain_counts",
    "find_cohort",
    "fit_threshold",
    "follow_cohort",
    "follow_table",
    "learn_rates",
    "list_cohorts",
    "load_rules",
    "lost_members",
    "publish_classes",
    "rank_tags",
    "response_curve",
    "take_cohort",
    "what_would_move",
]
