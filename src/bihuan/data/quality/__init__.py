"""Data quality: what a snapshot is like, whether its references hold, whether two sources agree.

In come snapshots and their contracts; out go profiles (a table and a picture), findings beyond a
limit, reference and difference reports. What is found becomes a problem in
:mod:`bihuan.data.problem` and is followed until it is solved.
"""

from bihuan.data.quality.column import ColumnQuality
from bihuan.data.quality.difference import ComparisonError, DifferenceReport, compare_snapshots
from bihuan.data.quality.measure import profile_quality
from bihuan.data.quality.profile import LIMITS, Finding, QualityError, QualityProfile
from bihuan.data.quality.reference import ReferenceReport, check_references

__all__ = [
    "profile_quality",
    "QualityProfile",
    "ColumnQuality",
    "Finding",
    "LIMITS",
    "QualityError",
    "check_references",
    "ReferenceReport",
    "compare_snapshots",
    "DifferenceReport",
    "ComparisonError",
]
