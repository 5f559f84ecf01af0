"""What a quality profile says about one snapshot, and what of it is a finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import pyarrow as pa

from bihuan.data.quality.column import ColumnQuality
from bihuan.kernel import UserError

_OF_TABLE = ("duplicate_key", "outside_month", "missing_month", "stale", "row_change")
KINDS = ("missing", "outside_range", "unknown_code", *_OF_TABLE)
"""What :meth:`QualityProfile.measure` measures."""

LIMITS: Mapping[str, float] = {
    "missing_required": 0.0,
    "missing": 0.5,
    "outside_range": 0.0,
    "unknown_code": 0.0,
    "duplicate_key": 0.0,
    "outside_month": 0.0,
    "missing_month": 0.0,
    "stale": 40.0,
    "row_change": 0.3,
}
"""The largest value of each measure that is still no finding; a column that the contract requires
has a limit of its own for missing values."""


class QualityError(UserError):
    """A profile was asked for something that it does not measure."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One measure beyond its limit.

    Parameters
    ----------
    table, as_of, column
        Where; ``column`` is empty if the finding is about the whole table.
    kind
        One of :data:`KINDS`.
    value, limit
        What was measured and the largest value allowed.
    message
        The finding as a sentence, by language.
    """

    table: str
    as_of: date
    column: str
    kind: str
    value: float
    limit: float
    message: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class QualityProfile:
    """What one snapshot of a table is like.

    Parameters
    ----------
    name, as_of, snapshot_id, title
        Which table and snapshot, and what one row of it is, by language.
    grain, key
        As in the contract.
    rows
        Rows of the snapshot.
    duplicate_keys
        Rows beyond the first of their key.
    rows_per_subject
        Mean number of rows of one customer, account or subscription that occurs in the table.
    first_time, last_time
        For event tables the earliest and latest time of an event; None otherwise.
    outside_month
        For event tables the rows whose time is not in the snapshot's month (UTC); otherwise 0.
    dates
        Dates of the table's snapshots up to ``as_of``, oldest first.
    missing_months
        Months (``2026-08``) within that history that have no snapshot.
    age_days
        Days from ``as_of`` to the day given as today; None if none was given.
    previous
        Date and rows of the snapshot before, or None.
    columns
        In the contract's order.
    extra_columns
        Columns stored in the snapshot that the contract does not know.
    """

    name: str
    as_of: date
    snapshot_id: str
    title: Mapping[str, str]
    grain: str
    key: tuple[str, ...]
    rows: int
    duplicate_keys: int
    rows_per_subject: Mapping[str, float]
    first_time: datetime | None
    last_time: datetime | None
    outside_month: int
    dates: tuple[date, ...]
    missing_months: tuple[str, ...]
    age_days: int | None
    previous: tuple[date, int] | None
    columns: tuple[ColumnQuality, ...]
    extra_columns: tuple[str, ...]

    def __getitem__(self, column: str) -> ColumnQuality:
        """Return a column of the profile; raise KeyError if the contract has none of that name."""
        for quality in self.columns:
            if quality.name == column:
                return quality
        raise KeyError(column)

    @property
    def row_change(self) -> float | None:
        """Rows against the snapshot before, -0.1 = a tenth fewer; None if there is none."""
        if self.previous is None or self.previous[1] == 0:
            return None
        return self.rows / self.previous[1] - 1

    def measure(self, kind: str, column: str = "") -> float | None:
        """Return one measure; larger is worse.

        Parameters
        ----------
        kind
            Of a column, shares of rows: ``missing``, ``outside_range``, ``unknown_code``.
            Of the table: ``duplicate_key`` and ``outside_month`` (shares of rows),
            ``missing_month`` (count), ``stale`` (days), ``row_change`` (size of the relative
            change, either way).
        column
            Which column, for the measures of a column.

        Returns
        -------
        float or None
            None if it cannot be told: no row, no earlier snapshot, no today.

        Raises
        ------
        QualityError
            If the kind or the column does not exist.
        """
        if kind in _COLUMN_COUNTS:
            try:
                quality = self[column]
            except KeyError:
                raise QualityError(
                    f"Table '{self.name}' has no column '{column}' to measure.",
                    remedy=f"Choose one of: {', '.join(c.name for c in self.columns)}.",
                    zh=f"表 {self.name} 没有 {column} 列。",
                ) from None
            return _COLUMN_COUNTS[kind](quality) / self.rows if self.rows else None
        change = self.row_change
        of_table: dict[str, float | None] = {
            "duplicate_key": self.duplicate_keys / self.rows if self.rows else None,
            "outside_month": self.outside_month / self.rows if self.rows else None,
            "missing_month": len(self.missing_months),
            "stale": self.age_days,
            "row_change": None if change is None else abs(change),
        }
        if kind not in of_table:
            raise QualityError(
                f"There is no quality measure '{kind}'.",
                remedy=f"Choose one of: {', '.join(KINDS)}.",
                zh=f"没有名为 {kind} 的质量指标，可选：{'、'.join(KINDS)}。",
            )
        return of_table[kind]

    def findings(self, limits: Mapping[str, float] | None = None) -> tuple[Finding, ...]:
        """Return every measure beyond its limit, the table's first.

        Parameters
        ----------
        limits
            Replace single entries of :data:`LIMITS`.

        Notes
        -----
        An optional column without any value counts as not supplied and is no finding.
        """
        allowed = {**LIMITS, **(limits or {})}
        found = []
        for kind, column, limit in self._places(allowed):
            value = self.measure(kind, column)
            if value is not None and value > limit:
                message = _message(self, kind, column, value)
                found.append(Finding(self.name, self.as_of, column, kind, value, limit, message))
        return tuple(found)

    def _places(self, limits: Mapping[str, float]) -> Iterator[tuple[str, str, float]]:
        for kind in _OF_TABLE:
            yield kind, "", limits[kind]
        for quality in self.columns:
            if quality.is_required or quality.present:
                limit = limits["missing_required" if quality.is_required else "missing"]
                yield "missing", quality.name, limit
            for kind in ("outside_range", "unknown_code"):
                yield kind, quality.name, limits[kind]

    def table(self) -> pa.Table:
        """Return the profile as a table, one row per column of the contract.

        Returns
        -------
        pyarrow.Table
            ``table``, ``as_of``, ``column``, titles, type, counts, shares (0..1, missing if the
            snapshot has no row), smallest and largest value as text, mean and top values.
        """
        return pa.Table.from_pylist(
            [_row(self, quality) for quality in self.columns], schema=_TABLE_SCHEMA
        )

    def picture(self) -> str:
        """Draw the profile as an SVG: one line per column, filled as far as it is complete."""
        from bihuan.data.quality.picture import draw_quality  # altair is slow to import

        title = f"数据质量  {self.name}  {self.as_of.isoformat()}"
        return draw_quality(title, _subtitle(self), self.columns)


_COLUMN_COUNTS: Mapping[str, Callable[[ColumnQuality], int]] = {
    "missing": lambda quality: quality.rows - quality.present,
    "outside_range": lambda quality: quality.outside_range,
    "unknown_code": lambda quality: quality.unknown_codes,
}


_SHARES = {
    "missing": ("缺失", "no value"),
    "outside_range": ("超出取值范围", "a value outside the range"),
    "unknown_code": ("代码未知", "an unknown code"),
    "duplicate_key": ("主键重复", "a repeated key"),
    "outside_month": ("时间不在当月", "a time outside the month"),
}


def _message(profile: QualityProfile, kind: str, column: str, value: float) -> dict[str, str]:
    place = f"{profile.name}.{column}" if column else profile.name
    if kind in _SHARES:
        zh, en = _SHARES[kind]
        rows = round(value * profile.rows)
        return {
            "zh": f"{place}：{rows} 行{zh}（占 {value:.2%}）。",
            "en": f"{place}: {rows} rows with {en} ({value:.2%}).",
        }
    if kind == "missing_month":
        months = ", ".join(profile.missing_months)
        return {
            "zh": f"{place}：缺少月份 {months}。",
            "en": f"{place}: no snapshot of {months}.",
        }
    if kind == "stale":
        return {
            "zh": f"{place}：数据已是 {value:.0f} 天前的。",
            "en": f"{place}: the data are {value:.0f} days old.",
        }
    change = profile.row_change or 0.0
    return {
        "zh": f"{place}：行数较上一快照变化 {change:+.1%}。",
        "en": f"{place}: {change:+.1%} rows against the snapshot before.",
    }


def _subtitle(profile: QualityProfile) -> tuple[str, str]:
    zh = [profile.title.get("zh", ""), f"{profile.rows:,} 行"]
    en = [profile.title.get("en", ""), f"{profile.rows:,} rows"]
    key = ", ".join(profile.key)
    unique = profile.duplicate_keys == 0
    zh.append(f"主键 {key} " + ("唯一" if unique else f"重复 {profile.duplicate_keys:,} 行"))
    en.append(f"key {key} " + ("is unique" if unique else f"repeats {profile.duplicate_keys:,}"))
    gaps = ", ".join(profile.missing_months)
    zh.append(f"历史 {len(profile.dates)} 期" + (f"，缺 {gaps}" if gaps else "，无缺月"))
    count = f"{len(profile.dates)} snapshot" + ("s" if len(profile.dates) > 1 else "")
    en.append(count + (f", none of {gaps}" if gaps else ", no gap"))
    if profile.age_days is not None:
        zh.append(f"距今 {profile.age_days} 天")
        en.append(f"{profile.age_days} days old")
    return "  ·  ".join(zh), "  ·  ".join(en)


_TABLE_SCHEMA = pa.schema(
    [
        ("table", pa.string()),
        ("as_of", pa.date32()),
        ("column", pa.string()),
        ("title_zh", pa.string()),
        ("title_en", pa.string()),
        ("type", pa.string()),
        ("is_required", pa.bool_()),
        ("is_absent", pa.bool_()),
        ("rows", pa.int64()),
        ("present", pa.int64()),
        ("completeness", pa.float64()),
        ("distinct", pa.int64()),
        ("is_distinct_estimate", pa.bool_()),
        ("minimum", pa.string()),
        ("maximum", pa.string()),
        ("shortest", pa.int64()),
        ("longest", pa.int64()),
        ("mean", pa.float64()),
        ("outside_range_share", pa.float64()),
        ("unknown_code_share", pa.float64()),
        ("top_values", pa.string()),
    ]
)


def _row(profile: QualityProfile, quality: ColumnQuality) -> dict[str, Any]:
    return {
        "table": profile.name,
        "as_of": profile.as_of,
        "column": quality.name,
        "title_zh": quality.title.get("zh"),
        "title_en": quality.title.get("en"),
        "type": str(quality.type),
        "is_required": quality.is_required,
        "is_absent": quality.is_absent,
        "rows": quality.rows,
        "present": quality.present,
        "completeness": quality.completeness,
        "distinct": quality.distinct,
        "is_distinct_estimate": quality.is_estimate,
        "minimum": quality.minimum,
        "maximum": quality.maximum,
        "shortest": quality.shortest,
        "longest": quality.longest,
        "mean": quality.mean,
        "outside_range_share": profile.measure("outside_range", quality.name),
        "unknown_code_share": profile.measure("unknown_code", quality.name),
        "top_values": "; ".join(f"{value} ({times})" for value, times in quality.top),
    }
