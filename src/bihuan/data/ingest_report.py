"""What an ingest says it did: rows read, stored and quarantined, per table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date


@dataclass(frozen=True, slots=True)
class TableReport:
    """What became of the rows meant for one table; read = stored + quarantined.

    Parameters
    ----------
    table
        Target table.
    rows_read
        Rows that the source gave for it.
    rows_stored, rows_quarantined
        Rows that went into the snapshot, rows that went into quarantine.
    rows_skipped
        Records that the mapping leaves out (``when``) or counts once (``distinct``).
    reasons
        Quarantined rows by reason.
    seconds
        Time spent on the table.
    snapshot_id
        The snapshot that holds the rows.
    """

    table: str
    rows_read: int
    rows_stored: int
    rows_quarantined: int
    rows_skipped: int
    reasons: Mapping[str, int]
    seconds: float
    snapshot_id: str = ""


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What one ingest or one replay did.

    Parameters
    ----------
    source
        Name of the source, without password.
    as_of
        Snapshot date.
    tables
        One report per target table, in the order of the mapping.
    quarantine_id
        The batch of the bad rows; None if every row was good.
    unchanged
        Whether the lake held exactly this already and nothing was written.
    unknown_columns
        Source columns that the mapping does not use.
    details
        What was found out about the source's form (encoding, delimiter, sheet).
    seconds
        Time of the whole run.
    """

    source: str
    as_of: date
    tables: tuple[TableReport, ...]
    quarantine_id: str | None
    unchanged: bool
    unknown_columns: tuple[str, ...] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def __getitem__(self, table: str) -> TableReport:
        """Return the report of one table; raise KeyError if the mapping does not fill it."""
        found = next((report for report in self.tables if report.table == table), None)
        if found is None:
            raise KeyError(table)
        return found

    @property
    def rows_read(self) -> int:
        """Rows read over all tables."""
        return sum(report.rows_read for report in self.tables)

    @property
    def rows_stored(self) -> int:
        """Rows stored over all tables."""
        return sum(report.rows_stored for report in self.tables)

    @property
    def rows_quarantined(self) -> int:
        """Rows quarantined over all tables."""
        return sum(report.rows_quarantined for report in self.tables)
