"""Refusals: recorded at once, honoured at the next sending, carried into the lake."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import sqlalchemy as sa

from bihuan.delivery import CHANNEL_KINDS, MARKET_ZONE
from bihuan.kernel import file_lock
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import ConflictError, RefusedError, missing
from bihuan.server.app.personal.customer import alias_of, get_place, remember_alias
from bihuan.server.app.service import Service
from bihuan.server.control import Erasure, OptOut, UnitOfWork

KINDS = ("no_marketing", "no_profiling")
"""What can be refused."""
CHANNELS = ("all", *CHANNEL_KINDS)
"""Where it can be refused."""
OWN_SOURCE = "bihuan:"
"""How the source of a refusal begins that was recorded here and not in a source system."""
_MANY = 5_000


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a customer refuses.

    Parameters
    ----------
    kind
        One of :data:`KINDS`.
    channel
        One of :data:`CHANNELS`.
    source
        How it was told: a call, a hall, a letter; up to 90 characters.
    effective_at
        When it begins; None: now. The past is allowed, for refusals found on paper.
    """

    kind: str
    channel: str
    source: str
    effective_at: datetime | None = None

    def __post_init__(self) -> None:
        for value, known, zh in (
            (self.kind, KINDS, "拒绝类型"), (self.channel, CHANNELS, "渠道")
        ):  # fmt: skip
            if value not in known:
                raise RefusedError(
                    f"'{value}' cannot be refused.",
                    remedy=f"Choose from: {', '.join(known)}.",
                    zh=f"{zh}“{value}”无效，可选：{'、'.join(known)}。",
                )


def record_opt_out(
    service: Service, work: UnitOfWork, actor: Actor, customer_id: str, refusal: Refusal
) -> OptOut:
    """Record a refusal; it holds from the end of this transaction.

    Raises
    ------
    NotFoundError
        If the customer is not within reach.
    ConflictError
        If the same refusal stands already.
    RefusedError
        If it begins more than a year from now.
    """
    place = get_place(service, work, customer_id)
    begins = refusal.effective_at or work.now
    if begins > work.now + timedelta(days=366):
        raise RefusedError(
            "A refusal begins within a year.",
            remedy="Check the date.",
            zh="拒绝的生效时间应在一年以内，请核对日期。",
        )
    standing = [
        row
        for row in _rows(work, customer_id)
        if (row.kind, row.channel) == (refusal.kind, refusal.channel) and row.withdrawn_at is None
    ]
    if standing:
        raise ConflictError(
            f"This refusal stands already, since {standing[0].effective_at:%Y-%m-%d}.",
            remedy="Nothing is left to do.",
            zh=f"该拒绝自 {standing[0].effective_at:%Y-%m-%d} 起已生效，无需重复登记。",
        )
    row = OptOut(
        opt_out_id=work.new_id("optout"),
        unit_id=place.unit_id,
        customer_id=customer_id,
        kind=refusal.kind,
        channel=refusal.channel,
        effective_at=begins,
        source=refusal.source,
        recorded_at=work.now,
        recorded_by=actor.account_id,
    )
    work.session.add(row)
    _audit(service, work, "customer.opt_out", row)
    return row


def withdraw_opt_out(
    service: Service,
    work: UnitOfWork,
    actor: Actor,
    customer_id: str,
    opt_out_id: str,
    source: str,
) -> OptOut:
    """End a refusal, as the customer asked; it stays in the history.

    Raises
    ------
    NotFoundError
        If there is no such refusal of a customer within reach.
    ConflictError
        If it was withdrawn before.
    """
    get_place(service, work, customer_id)
    found = [row for row in _rows(work, customer_id) if row.opt_out_id == opt_out_id]
    if not found:
        raise missing("refusal", "拒绝登记", opt_out_id)
    row = found[0]
    if row.withdrawn_at is not None:
        raise ConflictError(
            "This refusal was withdrawn before.",
            remedy="Nothing is left to do.",
            zh="该拒绝已撤回，无需重复操作。",
        )
    row.withdrawn_at, row.withdrawn_by = work.now, actor.account_id
    row.withdrawal_source = source
    _audit(service, work, "customer.opt_in", row)
    return row


def list_opt_outs(service: Service, work: UnitOfWork, customer_id: str) -> sa.Select[Any]:
    """Select the refusals of a customer within reach, standing and withdrawn ones."""
    get_place(service, work, customer_id)
    return sa.select(OptOut).where(OptOut.customer_id == customer_id)


def is_opted_out(
    service: Service,
    work: UnitOfWork,
    customer_ids: Collection[str],
    channel: str,
    *,
    kind: str = "no_marketing",
    at: datetime | None = None,
) -> set[str]:
    """Return who of these customers must not be contacted: the last question before sending.

    Parameters
    ----------
    service, work
        The gate's unit of work. Every refusal counts, from whatever unit and whatever the scope.
    customer_ids
        Who is about to be contacted.
    channel
        Channel kind; refusals of ``all`` count as well.
    kind
        What is about to be done. A choice by profile has no channel, so ``no_profiling`` counts
        wherever it was refused.
    at
        Moment of the contact; None: now.

    Returns
    -------
    set[str]
        Those with a refusal that stands at that moment, and those who were erased.
    """
    moment = at or work.now
    wanted = set(customer_ids)
    places = CHANNELS if kind == "no_profiling" else ("all", channel)
    rows = sa.select(OptOut.customer_id).where(
        OptOut.kind == kind,
        OptOut.channel.in_(places),
        OptOut.effective_at <= moment,
        sa.or_(OptOut.withdrawn_at.is_(None), OptOut.withdrawn_at > moment),
    )
    if len(wanted) <= _MANY:
        rows = rows.where(OptOut.customer_id.in_(sorted(wanted)))
    with work.beyond("a refusal binds whoever sends, wherever it was recorded"):
        refused = set(work.session.scalars(rows)) & wanted
        return refused | _erased(service, work, wanted)


def _erased(service: Service, work: UnitOfWork, wanted: Iterable[str]) -> set[str]:
    """Return who was erased and came back from a source system: nobody may contact them."""
    gone = set(work.session.scalars(sa.select(Erasure.alias)))
    if not gone:
        return set()
    return {customer for customer in wanted if alias_of(service, customer) in gone}


def publish_opt_outs(service: Service) -> int:
    """Carry the refusals into the lake, where eligibility and preferences read them.

    The one place where both meet. Refusals of the source systems stay, unless they were withdrawn
    here after they began; those recorded here join. Run it before each turn and after imports; the
    final gate does not wait for it, it asks :func:`is_opted_out`.

    Returns
    -------
    int
        Refusals that stand; a snapshot is published only if something changed.
    """
    workspace = service.workspace
    contract = workspace.contracts["opt_out"]
    with service.system_work(read_only=True) as work:
        rows = list(work.session.scalars(sa.select(OptOut)))
        now = work.now
    with file_lock(workspace.lake.root / ".locks" / "opt_out.lock"):
        view = workspace.view
        newest = view.find("opt_out")
        before = [] if newest is None else newest.read(contract.names).to_pylist()
        after = _merged(before, rows, now)
        as_of = max(_day(now), newest.as_of) if newest is not None else _day(now)
        key = [(row["customer_id"], row["kind"], row["channel"], row["since"]) for row in after]
        same = [(row["customer_id"], row["kind"], row["channel"], row["since"]) for row in before]
        if newest is None or sorted(key) != sorted(same):
            table = pa.Table.from_pylist(after, schema=contract.schema)
            with workspace.lake.publication(service.clock) as publication:
                publication.add(
                    "opt_out", as_of, table, lineage={"kind": "merged", "rows": len(after)}
                )
    return len(after)


def _merged(
    before: list[dict[str, Any]], rows: list[OptOut], now: datetime
) -> list[dict[str, Any]]:
    standing: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in before:
        if not str(row["source"] or "").startswith(OWN_SOURCE):
            standing[(row["customer_id"], row["kind"], row["channel"])] = row
    for own in sorted(rows, key=lambda row: row.recorded_at):
        key = (own.customer_id, own.kind, own.channel)
        if own.withdrawn_at is not None and own.withdrawn_at <= now:
            other = standing.get(key)
            if other is not None and other["since"] <= _day(own.withdrawn_at):
                del standing[key]
            continue
        standing[key] = {
            "customer_id": own.customer_id,
            "kind": own.kind,
            "channel": own.channel,
            "since": _day(own.effective_at),
            "source": f"{OWN_SOURCE}{own.source}"[:100],
        }
    return [standing[key] for key in sorted(standing, key=str)]


def _rows(work: UnitOfWork, customer_id: str) -> list[OptOut]:
    return list(work.session.scalars(sa.select(OptOut).where(OptOut.customer_id == customer_id)))


def _audit(service: Service, work: UnitOfWork, action: str, row: OptOut) -> None:
    alias = remember_alias(service, work, row.customer_id)
    work.audit(
        action, "customer", alias, refused=row.kind, channel=row.channel, opt_out=row.opt_out_id
    )


def _day(moment: datetime) -> date:
    return moment.astimezone(ZoneInfo(MARKET_ZONE)).date()
