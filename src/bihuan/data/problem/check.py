"""Checks that a data problem carries, so that the next snapshot can tell whether it is solved."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from typing import Any, ClassVar, Protocol

import pyarrow.parquet as pq
from sqlglot import exp

from bihuan.data.contract import TableContract
from bihuan.data.engine import Engine
from bihuan.data.lake import LakeView, Snapshot
from bihuan.data.quality import (
    QualityProfile,
    check_references,
    compare_snapshots,
    profile_quality,
)
from bihuan.kernel import DefectError


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check found.

    Parameters
    ----------
    is_passed
        Whether the data are right now.
    as_of
        Date of the newest snapshot looked at; None if the check looked at none.
    note
        What was seen, as a sentence.
    """

    is_passed: bool
    as_of: date | None
    note: str


@dataclass
class Bench:
    """What checks are run against; profiles of one run are made once.

    Parameters
    ----------
    view
        The lake as seen by the caller.
    contracts
        By table.
    engine
        Runs the queries.
    today
        The day from which freshness is counted.
    waiting
        Rows still in quarantine by batch id; a batch that is not named has none left. None if
        nobody looked, and then no quarantine check can tell.
    """

    view: LakeView
    contracts: Mapping[str, TableContract]
    engine: Engine
    today: date
    waiting: Mapping[str, int] | None = None
    _profiles: dict[str, QualityProfile] = field(default_factory=dict)

    def newest(self, table: str) -> date | None:
        """Return the date of the newest snapshot of a table, or None."""
        dates = self.view.dates(table)
        return dates[-1] if dates else None

    def profile(self, table: str) -> QualityProfile | None:
        """Return the profile of the newest snapshot, or None without snapshot or contract."""
        day = self.newest(table)
        if day is None or table not in self.contracts:
            return None
        if table not in self._profiles:
            self._profiles[table] = profile_quality(
                self.view, table, day, self.contracts[table], self.engine, self.today
            )
        return self._profiles[table]


class Check(Protocol):
    """Something that the newest data can be asked again."""

    kind: ClassVar[str]

    def run(self, bench: Bench) -> CheckResult | None:
        """Look at the newest data; None if they cannot tell."""
        ...


@dataclass(frozen=True, slots=True)
class QualityCheck:
    """A measure of a profile must not be above a limit.

    Parameters
    ----------
    table, column
        Where; ``column`` is empty for measures of the table.
    measure
        As in :meth:`~bihuan.data.quality.QualityProfile.measure`.
    limit
        Largest value that passes.
    """

    kind: ClassVar[str] = "quality"
    table: str
    column: str
    measure: str
    limit: float

    def run(self, bench: Bench) -> CheckResult | None:
        """Profile the newest snapshot and hold the measure against the limit."""
        profile = bench.profile(self.table)
        value = None if profile is None else profile.measure(self.measure, self.column)
        if profile is None or value is None:
            return None
        note = f"{self.measure} is {value:.6g}, limit {self.limit:.6g}"
        return CheckResult(value <= self.limit, profile.as_of, note)


@dataclass(frozen=True, slots=True)
class ReferenceCheck:
    """At most a share of a column's values may point nowhere.

    Parameters
    ----------
    table, column
        The column that points.
    limit
        Largest share of orphans among the rows with a value, 0..1.
    """

    kind: ClassVar[str] = "reference"
    table: str
    column: str
    limit: float = 0.0

    def run(self, bench: Bench) -> CheckResult | None:
        """Look up the references of the newest snapshot."""
        day = bench.newest(self.table)
        if day is None or self.table not in bench.contracts:
            return None
        reports = check_references(bench.view, day, bench.contracts[self.table], bench.engine)
        for report in reports:
            if report.column == self.column and report.rows:
                share = report.orphans / report.rows
                note = f"{report.orphans} of {report.rows} rows point nowhere"
                return CheckResult(share <= self.limit, day, note)
        return None


@dataclass(frozen=True, slots=True)
class DifferenceCheck:
    """Two tables of the lake must say the same at their newest common date.

    Parameters
    ----------
    left, right
        Tables, for example the platform's and the production system's.
    key, columns, tolerance
        As in :func:`~bihuan.data.quality.compare_snapshots`.
    limit
        Largest share of keys that may differ, 0..1.
    """

    kind: ClassVar[str] = "difference"
    left: str
    right: str
    key: tuple[str, ...]
    columns: tuple[str, ...]
    tolerance: float = 0.0
    limit: float = 0.0

    def run(self, bench: Bench) -> CheckResult | None:
        """Compare the two tables at the newest date that both have."""
        days = set(bench.view.dates(self.left)) & set(bench.view.dates(self.right))
        if not days:
            return None
        day = max(days)
        report = compare_snapshots(
            bench.view.get(self.left, day),
            bench.view.get(self.right, day),
            self.key,
            self.columns,
            self.tolerance,
            bench.engine,
        )
        note = f"{report.share:.4%} of the keys differ, limit {self.limit:.4%}"
        return CheckResult(report.share <= self.limit, day, note)


@dataclass(frozen=True, slots=True)
class ValueCheck:
    """A row must no longer hold the value that was reported as wrong.

    Parameters
    ----------
    table, column
        Where.
    key_column, key_value
        Which row (for example ``customer_id``); several rows may match.
    wrong
        The wrong value as text; None for a value that was missing.
    """

    kind: ClassVar[str] = "value"
    table: str
    column: str
    key_column: str
    key_value: str
    wrong: str | None

    def run(self, bench: Bench) -> CheckResult | None:
        """Look for rows of the key that still hold the wrong value in the newest snapshot."""
        day = bench.newest(self.table)
        snapshot = None if day is None else bench.view.get(self.table, day)
        if snapshot is None or not {self.key_column, self.column} <= _stored(snapshot):
            return None
        key = exp.cast(exp.column(self.key_column, quoted=True), "VARCHAR")
        text = exp.cast(exp.column(self.column, quoted=True), "VARCHAR")
        wrong = exp.null() if self.wrong is None else exp.Literal.string(self.wrong)
        same = exp.NullSafeEQ(this=text, expression=wrong)
        query = (
            exp.select(
                exp.Count(this=exp.Star()).as_("rows"),
                exp.Count(this=exp.case().when(same, exp.convert(1))).as_("wrong"),
            )
            .from_("held")
            .where(key.eq(exp.Literal.string(self.key_value)))
        )
        row = bench.engine.query(query, {"held": snapshot}).to_pylist()[0]
        if not row["rows"]:
            return None
        return CheckResult(
            row["wrong"] == 0, snapshot.as_of, f"{row['wrong']} rows still hold the value"
        )


@dataclass(frozen=True, slots=True)
class QuarantineCheck:
    """No row of a quarantined batch may still wait.

    Parameters
    ----------
    batch_id
        The batch.
    """

    kind: ClassVar[str] = "quarantine"
    batch_id: str

    def run(self, bench: Bench) -> CheckResult | None:
        """Look up how many rows of the batch wait."""
        if bench.waiting is None:
            return None
        rows = bench.waiting.get(self.batch_id, 0)
        return CheckResult(rows == 0, None, f"{rows} rows wait in quarantine")


def _stored(snapshot: Snapshot) -> set[str]:
    return set(pq.read_schema(snapshot.files[0]).names)


_KINDS: Mapping[str, Callable[..., Check]] = {
    "quality": QualityCheck,
    "reference": ReferenceCheck,
    "difference": DifferenceCheck,
    "value": ValueCheck,
    "quarantine": QuarantineCheck,
}


def check_to_json(check: Check | None) -> dict[str, Any] | None:
    """Write a check as plain values."""
    return None if check is None else {"kind": check.kind, **asdict(check)}  # type: ignore[call-overload]


def check_from_json(raw: Mapping[str, Any] | None) -> Check | None:
    """Read a check that :func:`check_to_json` wrote.

    Raises
    ------
    DefectError
        If there is no check of that kind.
    """
    if raw is None:
        return None
    values = dict(raw)
    kind = values.pop("kind")
    if kind not in _KINDS:
        raise DefectError(f"There is no check of kind {kind!r}.")
    lists = {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
    return _KINDS[kind](**{**values, **lists})
