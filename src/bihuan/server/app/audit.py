"""The audit trail as its readers use it: search, reports, verification, exports."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from bihuan.kernel import canonical_json
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.personal import alias_of, sealer_of
from bihuan.server.app.personal.customer import real_names
from bihuan.server.app.service import Service
from bihuan.server.control import (
    AuditEntry,
    ChainReport,
    ExportedHead,
    UnitOfWork,
    export_head,
    read_head,
    verify_chain,
)

_CHUNK = 2_000
_ROW = (
    "sequence", "at", "account_id", "unit_id", "action", "subject_kind", "subject_id", "detail",
    "request_id", "previous", "seal", "mark",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class EntryFilter:
    """What entries are sought; None: any.

    Parameters
    ----------
    account_id, unit_id
        Who acted, and at home in which unit.
    action
        A named action, ``plan.approve``, or all of a kind by a star: ``plan.*``, ``*.export``.
    subject_kind, subject_id
        To what it was done. A customer is sought by id; the trail holds the alias.
    since, until
        Moments, the first included and the second not.
    request_id
        Of one request.
    """

    account_id: str | None = None
    unit_id: str | None = None
    action: str | None = None
    subject_kind: str | None = None
    subject_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Disclosure:
    """Who saw which customer's numbers in clear.

    Parameters
    ----------
    sequence, at, account_id, unit_id
        The audit entry, when, who, and at home where.
    customer_id
        The customer; None after the erasure.
    alias
        The customer's name in the trail.
    reason
        Why, as the account wrote.
    """

    sequence: int
    at: datetime
    account_id: str
    unit_id: str | None
    customer_id: str | None
    alias: str
    reason: str


def find_entries(service: Service, wanted: EntryFilter) -> sa.Select[Any]:
    """Select the entries that fit; the scope of the unit of work narrows them further.

    Raises
    ------
    RefusedError
        If ``since`` is not before ``until``.
    """
    if wanted.since is not None and wanted.until is not None and wanted.since >= wanted.until:
        raise RefusedError(
            "The search begins after its end.",
            remedy="Exchange the two moments.",
            zh="查询的起始时间晚于结束时间，请检查。",
        )
    query = sa.select(AuditEntry)
    for name in ("account_id", "unit_id", "subject_kind", "request_id"):
        value = getattr(wanted, name)
        if value is not None:
            query = query.where(getattr(AuditEntry, name) == value)
    if wanted.subject_id is not None:
        names = {wanted.subject_id}
        if wanted.subject_kind in (None, "customer"):
            names.add(alias_of(service, wanted.subject_id))
        query = query.where(AuditEntry.subject_id.in_(sorted(names)))
    if wanted.action is not None:
        query = query.where(_fits(wanted.action))
    if wanted.since is not None:
        query = query.where(AuditEntry.at >= wanted.since)
    if wanted.until is not None:
        query = query.where(AuditEntry.at < wanted.until)
    return query


def find_disclosures(service: Service, wanted: EntryFilter) -> sa.Select[Any]:
    """Select the entries in which a number was seen in clear."""
    return find_entries(service, wanted).where(AuditEntry.action == "customer.unmask")


def find_exports(service: Service, wanted: EntryFilter) -> sa.Select[Any]:
    """Select the entries in which somebody took data out: every action ``<thing>.export``."""
    return find_entries(service, wanted).where(_fits("*.export"))


def disclosures_of(work: UnitOfWork, entries: Iterable[Any]) -> list[Disclosure]:
    """Return entries of :func:`find_disclosures` with the customers that their aliases mean."""
    rows = list(entries)
    names = real_names(work, [row.subject_id for row in rows])
    return [
        Disclosure(
            row.sequence, row.at, row.account_id, row.unit_id,
            names.get(row.subject_id), row.subject_id, str(row.detail.get("reason", "")),
        )
        for row in rows
    ]  # fmt: skip


def verify_trail(
    service: Service, heads: Iterable[Mapping[str, Any]] = (), *, request_id: str = ""
) -> ChainReport:
    """Verify the whole chain, its marks, and exported heads against it.

    The chain is one for all units, so it is read whole whoever asks; the report tells numbers and
    kinds, no content.

    Raises
    ------
    HeadFileError
        If an exported head was changed or is of another workspace.
    """
    sealer = sealer_of(service)
    known = [read_head(dict(head), sealer) for head in heads]
    with service.system_work(read_only=True, request_id=request_id) as work:
        return verify_chain(work, sealer, known)


def take_head(service: Service, work: UnitOfWork) -> ExportedHead:
    """Return the signed head, to be kept where the database's owner cannot reach.

    The export itself is remembered by the next entry.
    """
    head = export_head(work, sealer_of(service))
    work.audit("audit_head.export", "audit", str(head.sequence))
    return head


def export_lines(work: UnitOfWork, query: sa.Select[Any]) -> Iterator[str]:
    """Yield entries oldest first as JSON Lines, sealed as they are; a chunk in memory at a time.

    A whole export can be checked by anybody: each line's ``seal`` is the SHA-256 of ``previous``
    and the canonical JSON of the rest.
    """
    after = 0
    while True:
        part = query.where(AuditEntry.sequence > after).order_by(AuditEntry.sequence)
        rows = work.session.scalars(part.limit(_CHUNK)).all()
        for row in rows:
            yield canonical_json({name: getattr(row, name) for name in _ROW}) + "\n"
        if len(rows) < _CHUNK:
            return
        after = rows[-1].sequence
        work.session.expunge_all()


def note_export(work: UnitOfWork, wanted: EntryFilter) -> None:
    """Remember that entries were exported, and which."""
    asked = {name: getattr(wanted, name) for name in EntryFilter.__slots__}
    told = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asked.items()
        if value is not None and name != "subject_id"
    }
    work.audit("audit.export", "audit", "entries", wanted=told)


def _fits(action: str) -> sa.ColumnElement[bool]:
    if "*" not in action:
        return AuditEntry.action == action
    escaped = action.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return AuditEntry.action.like(escaped.replace("*", "%"), escape="\\")
