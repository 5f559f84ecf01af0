"""Uniform indicators and assessment rules: submitted, reviewed by another, computed, listed."""

from bihuan.server.app.indicator.dictionary import (
    approved_catalogue,
    find_versions,
    get_version,
    install_catalogue,
    review,
    rule_at,
    submit_indicator,
    submit_rule,
    withdraw,
)
from bihuan.server.app.indicator.value import (
    Asked,
    list_json,
    newest_month,
    rows_behind,
    unit_values,
    values_json,
)

__all__ = [
    "submit_indicator",
    "submit_rule",
    "review",
    "withdraw",
    "get_version",
    "find_versions",
    "approved_catalogue",
    "install_catalogue",
    "rule_at",
    "Asked",
    "unit_values",
    "rows_behind",
    "newest_month",
    "values_json",
    "list_json",
]
