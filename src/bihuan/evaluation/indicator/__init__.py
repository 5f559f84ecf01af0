"""Indicators: one name, one definition, the same number for every line, city and report.

In come definitions (a catalogue in YAML, versions with the month in which each takes effect), the
lake and the org tree; out go values by unit, month and dimension with the version that made them,
the list of rows behind each, and points under uniform assessment rules. Read in this order:
``definition``, ``catalogue``, ``compute`` (with ``query``), ``assessment``.
"""

from bihuan.evaluation.indicator.assessment import (
    AssessmentRule,
    Band,
    Points,
    RuleItem,
    Scorecard,
    assess,
    parse_rule,
    rule_document,
)
from bihuan.evaluation.indicator.catalogue import (
    Conflict,
    IndicatorCatalogue,
    find_conflicts,
    indicator_document,
    load_indicators,
    parse_indicator,
)
from bihuan.evaluation.indicator.compute import (
    IndicatorList,
    IndicatorValues,
    Wanted,
    compute,
    list_behind,
)
from bihuan.evaluation.indicator.definition import Indicator, Input, check_binding
from bihuan.evaluation.indicator.errors import (
    IndicatorConflictError,
    IndicatorError,
    UnknownIndicatorError,
)
from bihuan.evaluation.indicator.query import World
from bihuan.evaluation.indicator.tree import UnitTree

__all__ = [
    "Indicator",
    "Input",
    "check_binding",
    "IndicatorCatalogue",
    "Conflict",
    "find_conflicts",
    "load_indicators",
    "parse_indicator",
    "indicator_document",
    "compute",
    "list_behind",
    "Wanted",
    "World",
    "UnitTree",
    "IndicatorValues",
    "IndicatorList",
    "AssessmentRule",
    "RuleItem",
    "Band",
    "Points",
    "Scorecard",
    "assess",
    "parse_rule",
    "rule_document",
    "IndicatorError",
    "IndicatorConflictError",
    "UnknownIndicatorError",
]
