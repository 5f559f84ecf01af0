"""What was measured of one column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bihuan.data.contract import ColumnType


@dataclass(frozen=True, slots=True)
class ColumnQuality:
    """One column of a profile.

    Parameters
    ----------
    name, title, type
        As in the contract.
    is_required
        The contract does not let it be missing.
    is_absent
        The snapshot was stored without this column; every value counts as missing.
    rows
        Rows of the snapshot.
    present
        Rows with a value; NaN counts as missing.
    distinct
        Different values, at most ``present``.
    is_estimate
        Whether ``distinct`` is estimated (HyperLogLog; an error of 15 % does occur). It is exact
        for keys, subject ids and short lists.
    minimum, maximum
        Of numbers, dates and times, as text; None for other types and without values. Text is not
        ordered here: its order says nothing, and names and numbers should not leak into a report.
    shortest, longest
        Length of text values in characters; None for other types.
    mean
        Of numbers in the column's unit, and of booleans (share of true); None otherwise.
    outside_range
        Values below the contract's minimum or above its maximum.
    unknown_codes
        Values that are not in the contract's code list.
    top
        The most frequent values with their exact counts, most frequent first; empty for columns
        whose values are not a short list shared by many rows.
    """

    name: str
    title: Mapping[str, str]
    type: ColumnType
    is_required: bool
    is_absent: bool
    rows: int
    present: int
    distinct: int
    is_estimate: bool
    minimum: str | None
    maximum: str | None
    shortest: int | None
    longest: int | None
    mean: float | None
    outside_range: int
    unknown_codes: int
    top: tuple[tuple[str, int], ...]

    @property
    def completeness(self) -> float | None:
        """Share of rows with a value, 0..1; None if there is no row."""
        return self.present / self.rows if self.rows else None
