"""What a data problem is, what becomes one, and how it is written down."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from bihuan.data.problem.check import (
    Check,
    DifferenceCheck,
    QualityCheck,
    QuarantineCheck,
    ReferenceCheck,
    ValueCheck,
    check_from_json,
    check_to_json,
)
from bihuan.data.quality import DifferenceReport, Finding, ReferenceReport
from bihuan.kernel import hash_id

MOVES: Mapping[str, tuple[str, ...]] = {
    "open": ("assigned", "solved", "rejected"),
    "assigned": ("assigned", "fed_back", "solved", "rejected"),
    "fed_back": ("assigned", "fed_back", "solved", "rejected"),
    "solved": ("open",),
    "rejected": ("open",),
}
"""From which state a problem may go to which."""

CLOSED = ("solved", "rejected")


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a problem's history: who did what and when.

    Parameters
    ----------
    at
        Aware, UTC.
    by
        Who; ``recheck`` for the automatic check.
    state
        The problem's state from then on.
    note
        Why, in words.
    """

    at: datetime
    by: str
    state: str
    note: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong in the data, and how far its solution has come.

    Parameters
    ----------
    problem_id
        Hash of what is wrong, so that the same problem found again is the same problem.
    source
        ``finding``, ``difference``, ``reference``, ``quarantine`` or ``front_line``.
    title
        What is wrong, by language.
    table, column
        Where; the column may be empty.
    customer_id
        Whose data, if it is about one customer; otherwise empty.
    check
        What the newest snapshot must pass for the problem to be solved; None if only a person
        can tell.
    state
        A key of :data:`MOVES`.
    owner
        The system or unit that must mend it; empty until assigned.
    due_on
        When it shall be solved, or None.
    history
        What happened, oldest first.
    """

    problem_id: str
    source: str
    title: Mapping[str, str]
    table: str
    column: str
    customer_id: str
    check: Check | None
    state: str = "open"
    owner: str = ""
    due_on: date | None = None
    history: tuple[Event, ...] = ()

    @property
    def is_closed(self) -> bool:
        """Whether it is solved or rejected."""
        return self.state in CLOSED

    def is_overdue(self, today: date) -> bool:
        """Return whether it should have been solved before ``today``."""
        return not self.is_closed and self.due_on is not None and self.due_on < today


def problem_of_finding(finding: Finding) -> Problem:
    """Make a problem of a quality finding; it is solved when the measure is within its limit."""
    check = QualityCheck(finding.table, finding.column, finding.kind, finding.limit)
    return _problem("finding", finding.message, finding.table, finding.column, check)


def problem_of_difference(report: DifferenceReport, check: DifferenceCheck) -> Problem:
    """Make a problem of two sources that differ; it is solved when they agree within the limit."""
    keys = report.only_left + report.only_right + report.rows_differing
    title = {
        "zh": f"{report.left} 与 {report.right} 不一致：{keys} 个主键（{report.share:.2%}）。",
        "en": f"{report.left} and {report.right} differ in {keys} keys ({report.share:.2%}).",
    }
    return _problem("difference", title, check.left, "", check)


def problem_of_reference(report: ReferenceReport) -> Problem:
    """Make a problem of values that point nowhere; it is solved when all of them are found."""
    place = f"{report.table}.{report.column}"
    title = {
        "zh": f"{place}：{report.orphans} 行的值在 {report.target} 中不存在。",
        "en": f"{place}: {report.orphans} rows hold a value that {report.target} does not have.",
    }
    check = ReferenceCheck(report.table, report.column)
    return _problem("reference", title, report.table, report.column, check)


def problem_of_quarantine(batch_id: str, table: str, rows: int) -> Problem:
    """Make a problem of a quarantined batch; it is solved when none of its rows waits."""
    title = {
        "zh": f"{table}：隔离批次 {batch_id} 有 {rows} 行待处理。",
        "en": f"{table}: {rows} rows of batch {batch_id} wait in quarantine.",
    }
    return _problem("quarantine", title, table, "", QuarantineCheck(batch_id))


def problem_of_report(
    customer_id: str, table: str, column: str, wrong: str | None, message: Mapping[str, str]
) -> Problem:
    """Make a problem of what a customer or a member of staff says is wrong.

    Parameters
    ----------
    customer_id
        Whose data.
    table, column
        Where; the table has a column ``customer_id``.
    wrong
        The wrong value as text, None if it is missing; solved when it is no longer there.
    message
        What is wrong, by language.
    """
    check = ValueCheck(table, column, "customer_id", customer_id, wrong)
    return _problem("front_line", message, table, column, check, customer_id)


def problem_table(problems: Iterable[Problem], today: date) -> pa.Table:
    """Return problems as rows, one each, with titles, state, owner, due date and last note."""
    rows = [
        {
            "problem_id": problem.problem_id,
            "source": problem.source,
            "table": problem.table,
            "column": problem.column,
            "customer_id": problem.customer_id,
            "title_zh": problem.title.get("zh", ""),
            "title_en": problem.title.get("en", ""),
            "state": problem.state,
            "owner": problem.owner,
            "due_on": problem.due_on,
            "is_overdue": problem.is_overdue(today),
            "opened_at": problem.history[0].at if problem.history else None,
            "changed_at": problem.history[-1].at if problem.history else None,
            "changed_by": problem.history[-1].by if problem.history else None,
            "note": problem.history[-1].note if problem.history else None,
        }
        for problem in problems
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("problem_id", "source", "table", "column")),
        *((name, pa.string()) for name in ("customer_id", "title_zh", "title_en")),
        *((name, pa.string()) for name in ("state", "owner")),
        ("due_on", pa.date32()),
        ("is_overdue", pa.bool_()),
        ("opened_at", pa.timestamp("us", tz="UTC")),
        ("changed_at", pa.timestamp("us", tz="UTC")),
        ("changed_by", pa.string()),
        ("note", pa.string()),
    ]
)


def _problem(
    source: str,
    title: Mapping[str, str],
    table: str,
    column: str,
    check: Check,
    customer_id: str = "",
) -> Problem:
    what = {
        name: value
        for name, value in (check_to_json(check) or {}).items()
        if name not in ("limit", "tolerance")  # a limit that moves does not make a new problem
    }
    problem_id = hash_id("data_problem", source, what)
    return Problem(problem_id, source, dict(title), table, column, customer_id, check)


def to_json(problem: Problem) -> dict[str, Any]:
    """Write what is wrong as plain values; state and history are the journal's."""
    return {
        "source": problem.source,
        "title": dict(problem.title),
        "table": problem.table,
        "column": problem.column,
        "customer_id": problem.customer_id,
        "check": check_to_json(problem.check),
        "owner": problem.owner,
        "due_on": problem.due_on,
    }


def after(known: Problem | None, line: Mapping[str, Any]) -> Problem:
    """Return the problem as it is after one line of the journal."""
    if known is None:
        raw = dict(line["problem"])
        check = check_from_json(raw.pop("check"))
        raw["due_on"] = _day(raw["due_on"])
        known = Problem(line["problem_id"], check=check, **raw)
    event = Event(datetime.fromisoformat(line["at"]), line["by"], line["state"], line["note"])
    changed = replace(known, state=event.state, history=(*known.history, event))
    if "owner" in line:
        changed = replace(changed, owner=line["owner"], due_on=_day(line["due_on"]))
    return changed


def _day(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
