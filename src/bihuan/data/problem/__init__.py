"""Data problems, followed from the day they are found until they are solved.

A problem is opened by a finding of a quality profile, a difference between two sources, a batch in
quarantine or a report from the front line (a customer says: this is wrong). It is assigned to the
system that owns the data, fed back to it as a file, and closed when the newest snapshot passes the
check that the problem carries, or opened again when it no longer does.

The book is a journal of JSON lines, one per event, each flushed to disk before the call returns. A
line that a killed process left unfinished is ignored and cut off by the next event.
"""

from bihuan.data.problem.book import ProblemBook, ProblemError
from bihuan.data.problem.check import (
    Bench,
    Check,
    CheckResult,
    DifferenceCheck,
    QualityCheck,
    QuarantineCheck,
    ReferenceCheck,
    ValueCheck,
)
from bihuan.data.problem.record import (
    Event,
    Problem,
    problem_of_difference,
    problem_of_finding,
    problem_of_quarantine,
    problem_of_reference,
    problem_of_report,
    problem_table,
)

__all__ = [
    "ProblemBook",
    "Problem",
    "Event",
    "ProblemError",
    "problem_of_finding",
    "problem_of_difference",
    "problem_of_reference",
    "problem_of_quarantine",
    "problem_of_report",
    "problem_table",
    "Bench",
    "Check",
    "CheckResult",
    "QualityCheck",
    "ReferenceCheck",
    "DifferenceCheck",
    "ValueCheck",
    "QuarantineCheck",
]
