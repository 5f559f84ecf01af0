"""How long each class of data is kept, and the run that removes what is older."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from bihuan.data.contract import TableContract
from bihuan.data.lake import Lake, Snapshot
from bihuan.data.personal.protect import sealed_table_of
from bihuan.data.quarantine import Quarantine

Text = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Period:
    """How long one class of data is kept.

    Parameters
    ----------
    months
        Whole months after the snapshot date.
    title, reason
        What the class is and why so long, by language.
    """

    months: int
    title: Text
    reason: Text


PERIODS: Mapping[str, Period] = {
    "proof": Period(
        60,
        {"zh": "同意与拒绝、接触凭证", "en": "refusals, contacts: the proof"},
        {
            "zh": "须能证明何时同意、何时拒绝、何时联系过",
            "en": "what was allowed and done is shown",
        },
    ),
    "decision": Period(
        36,
        {"zh": "决策、派发与客群快照", "en": "decisions, assignments, audiences"},
        {"zh": "影响评估记录至少保存三年", "en": "impact assessments are kept for three years"},
    ),
    "fact": Period(
        36,
        {"zh": "账单、使用与行为事实", "en": "bills, usage, behaviour"},
        {"zh": "同比与模型训练需要三个完整年度", "en": "models and year-on-year need three years"},
    ),
    "state": Period(
        24,
        {"zh": "客户、账户与用户资料快照", "en": "pictures of customers and subscriptions"},
        {"zh": "两年内可回看画像", "en": "portraits look back two years"},
    ),
    "derived": Period(
        13,
        {"zh": "标签、评分等可重算数据", "en": "tags, scores: can be computed again"},
        {"zh": "可由原始数据重算，保留一年及当月", "en": "one year and the month that runs"},
    ),
    "quarantine": Period(
        6,
        {"zh": "隔离的不合格行", "en": "rows set aside"},
        {"zh": "半年内未修正的行不再重放", "en": "what was not mended in half a year never is"},
    ),
}
"""Documented defaults by class; see docs/guide/personal-data.md."""

_PROOF = frozenset(("opt_out", "contact", "enterprise_contact", "outcome"))
_DECISIONS = ("decision", "assignment__", "audience__", "deployment")
_DERIVED = ("tag__", "score__", "identity__", "prepared__", "strategy__", "cohort__")


@dataclass(frozen=True, slots=True)
class Expiry:
    """One thing whose period is over.

    Parameters
    ----------
    kind
        Class of :data:`PERIODS`.
    place
        ``table@date`` or ``quarantine/batch``.
    as_of
        Its date.
    rows, bytes
        How much it is.
    """

    kind: str
    place: str
    as_of: date
    rows: int
    bytes: int


def period_of(table: str, contracts: Mapping[str, TableContract]) -> str:
    """Return the class of a lake table.

    Examples
    --------
    >>> from bihuan.data import load_contracts
    >>> [period_of(t, load_contracts()) for t in ("bill", "customer", "opt_out", "score__churn")]
    ['fact', 'state', 'proof', 'derived']
    """
    table = sealed_table_of(table) or table
    if table in _PROOF:
        return "proof"
    if table.startswith(_DECISIONS):
        return "decision"
    if table.startswith(_DERIVED):
        return "derived"
    contract = contracts.get(table)
    return "state" if contract is None or contract.grain == "state" else "fact"


def find_expired(
    lake: Lake,
    quarantine: Quarantine,
    contracts: Mapping[str, TableContract],
    today: date,
    months: Mapping[str, int] | None = None,
) -> tuple[Expiry, ...]:
    """Say what a run would remove; nothing is removed.

    Parameters
    ----------
    lake, quarantine
        Where to look.
    contracts
        Tell states from facts.
    today
        Periods end before this day.
    months
        Other periods by class; the defaults of :data:`PERIODS` where absent.

    Returns
    -------
    tuple of Expiry
        Never the newest snapshot of a table: the service could not work without it.
    """
    periods = {name: period.months for name, period in PERIODS.items()} | dict(months or {})
    found = [
        Expiry(
            period_of(snapshot.table, contracts),
            f"{snapshot.table}@{snapshot.as_of.isoformat()}",
            snapshot.as_of,
            snapshot.rows,
            snapshot.bytes,
        )
        for snapshot in _old_snapshots(lake, contracts, periods, today)
    ]
    for batch in quarantine.list_batches():
        made = datetime.fromisoformat(batch.created_at).date()
        if _months_between(made, today) >= periods["quarantine"]:
            size = sum(path.stat().st_size for path in (quarantine.root / batch.id).iterdir())
            found.append(Expiry("quarantine", f"quarantine/{batch.id}", made, batch.rows, size))
    return tuple(found)


def remove_expired(
    lake: Lake,
    quarantine: Quarantine,
    contracts: Mapping[str, TableContract],
    today: date,
    months: Mapping[str, int] | None = None,
) -> tuple[Expiry, ...]:
    """Remove what :func:`find_expired` names, and return it; repeated, it removes nothing more."""
    found = find_expired(lake, quarantine, contracts, today, months)
    periods = {name: period.months for name, period in PERIODS.items()} | dict(months or {})
    lake.retire(_old_snapshots(lake, contracts, periods, today))
    for expiry in found:
        if expiry.kind == "quarantine":
            shutil.rmtree(quarantine.root / Path(expiry.place).name, ignore_errors=True)
    return found


def _old_snapshots(
    lake: Lake, contracts: Mapping[str, TableContract], periods: Mapping[str, int], today: date
) -> Sequence[Snapshot]:
    view = lake.view()
    return [
        view.get(table, day)
        for table in view.tables
        for day in view.dates(table)[:-1]
        if _months_between(day, today) >= periods[period_of(table, contracts)]
    ]


def _months_between(earlier: date, later: date) -> int:
    """Return the whole months from one day to another; negative if it comes after."""
    months = (later.year - earlier.year) * 12 + later.month - earlier.month
    return months - (later.day < earlier.day)
