"""What the front line found wrong: data and tags that did not stand the contact with the customer.

Who calls a customer learns first that a number is wrong or that a tag says what is not so. Those
findings come as reason codes of outcomes: ``wrong_number``, ``wrong_person``, ``wrong_address``,
``wrong_tag:<tag>``, several parted by semicolons. Counted by tag, offer and channel, against how
often it could have been noticed, they tell the owners of data and tags what to mend first.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pyarrow as pa

from bihuan.data import DuckDBEngine, Engine, Source
from bihuan.feedback.store import some_outcomes, statement

PROBLEMS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "wrong_number": {"zh": "号码错误", "en": "The number is wrong"},
        "wrong_person": {"zh": "非本人", "en": "Another person answered"},
        "wrong_address": {"zh": "地址错误", "en": "The address is wrong"},
        "wrong_tag": {"zh": "标签与实际不符", "en": "A tag does not fit the customer"},
    }
)
"""Reason codes that report a fault of the data, by code."""

_REPORT = """
SELECT
    finding.problem,
    finding.tag,
    finding.offer_id,
    finding.channel,
    finding.reports,
    COALESCE(touched.touched, 0) AS touched,
    CAST(finding.reports AS DOUBLE) / touched.touched AS share
FROM (
    SELECT problem, tag, offer_id, channel, COUNT(DISTINCT assignment_id) AS reports
    FROM (
        SELECT
            SPLIT_PART(code, ':', 1) AS problem,
            NULLIF(SPLIT_PART(code, ':', 2), '') AS tag,
            assignment_id,
            offer_id,
            channel
        FROM code
    ) AS named
    JOIN problem ON named.problem = problem.code
    GROUP BY problem, tag, offer_id, channel
) AS finding
LEFT JOIN (
    SELECT assignment.offer_id, assignment.channel,
        COUNT(DISTINCT assignment.assignment_id) AS touched
    FROM assignment JOIN outcome ON assignment.assignment_id = outcome.assignment_id
    WHERE outcome.stage NOT IN ('suppressed', 'expired')
        AND COALESCE(outcome.reason, '') NOT IN ('listed', 'intent')
    GROUP BY assignment.offer_id, assignment.channel
) AS touched ON finding.offer_id = touched.offer_id AND finding.channel = touched.channel
ORDER BY finding.reports DESC, finding.problem, finding.tag NULLS FIRST, finding.offer_id,
    finding.channel
"""
_CODES = """
SELECT assignment.assignment_id, assignment.offer_id, assignment.channel,
    TRIM(UNNEST(STRING_SPLIT(outcome.reason, ';'))) AS code
FROM outcome JOIN assignment ON outcome.assignment_id = assignment.assignment_id
WHERE outcome.reason IS NOT NULL
"""


def front_line_report(
    assignments: Source, outcomes: Source, *, engine: Engine | None = None
) -> pa.Table:
    """Count what the front line found wrong, by problem, tag, offer and channel.

    Parameters
    ----------
    assignments
        Rows of the ``assignment`` contract.
    outcomes
        Rows of the ``outcome`` contract; may be empty.
    engine
        DuckDB by default.

    Returns
    -------
    pyarrow.Table
        ``problem`` (a key of :data:`PROBLEMS`), ``tag`` (missing unless ``wrong_tag``),
        ``offer_id``, ``channel``, ``reports`` (assignments for which it was reported, each once),
        ``touched`` (assignments of the offer and channel of which anything was reported) and
        ``share`` (reports / touched, 0 to 1, missing where nothing was touched); most reported
        first.
    """
    sources: dict[str, Source] = {
        "assignment": assignments,
        "outcome": some_outcomes(outcomes),
        "problem": pa.table({"code": list(PROBLEMS)}),
    }
    query = statement(_REPORT).with_("code", statement(_CODES))
    return (engine or DuckDBEngine()).query(query, sources)


def problem_title(problem: str, language: str) -> str:
    """Return the title of a problem in ``zh`` or ``en``; an unknown code is its own title."""
    return PROBLEMS.get(problem, {}).get(language, problem)
