"""Channels: what kinds there are, what each can promise, and what they answer.

Exactly-once ends at the edge of the process. A channel that takes an idempotency key can be asked
again after a lost reply and will not reach the customer twice; one that does not can only be asked
once, and a lost reply leaves the assignment ``unknown`` until a receipt or a person settles it.
Each kind declares which of the two it is, and :func:`guard_repeats` keeps to it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, time
from types import MappingProxyType
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc
from sqlglot import exp

from bihuan.data import Engine
from bihuan.delivery.sql import TextPart, row_hash_id, statement
from bihuan.kernel import DefectError, UserError

MARKET_ZONE = "Asia/Shanghai"
"""The zone in which days begin and quiet hours are counted, unless a policy says another."""

_MONEY = pa.decimal128(18, 2)
RECEIPT_SCHEMA = pa.schema(
    [
        pa.field("outcome_id", pa.string(), nullable=False),
        pa.field("assignment_id", pa.string(), nullable=False),
        pa.field("deployment_id", pa.string(), nullable=False),
        pa.field("customer_id", pa.string(), nullable=False),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("occurred_at", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("channel", pa.string()),
        pa.field("amount", _MONEY),
        pa.field("cost", _MONEY),
        pa.field("reason", pa.string()),
        pa.field("source", pa.string()),
    ]
)
"""The schema of the ``outcome`` contract, which the room to the right owns; a test holds them
together."""


class Stage(enum.StrEnum):
    """What can happen to an assignment; the codes of ``outcome.stage``.

    ``unknown`` is a state of its own: handed over, fate not known. It is neither delivered nor
    failed, and nobody may guess.
    """

    SUPPRESSED = "suppressed"
    DELIVERED = "delivered"
    FAILED = "failed"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    CONNECTED = "connected"
    ACCEPTED = "accepted"
    REFUSED = "refused"
    ORDERED = "ordered"


class UnknownChannelError(UserError):
    """A channel kind is not in the register."""

    @classmethod
    def of(cls, kind: object) -> UnknownChannelError:
        """Make the error for one kind; it lists those that there are."""
        known = ", ".join(CHANNEL_KINDS)
        return cls(
            f"There is no channel kind {kind!r}.",
            remedy=f"Choose one of: {known}.",
            zh=f"没有渠道类型 {kind!r}。请从 {known} 中选择。",
        )


@dataclass(frozen=True, slots=True)
class ContactHours:
    """The hours of the day in which a customer may be disturbed.

    Parameters
    ----------
    opens, closes
        Local times, ``opens`` included and ``closes`` not. ``opens`` must be before ``closes``.
    """

    opens: time
    closes: time

    def __post_init__(self) -> None:
        if self.opens >= self.closes:
            raise UserError(
                f"Contact hours cannot open at {self.opens} and close at {self.closes}.",
                remedy="Let them open before they close, within one day.",
                zh=f"触达时段不能从 {self.opens} 到 {self.closes}。开始须早于结束,且在同一天内。",
            )

    def contain(self, moment: time) -> bool:
        """Whether a local time of day lies within the hours."""
        return self.opens <= moment < self.closes


DAYTIME = ContactHours(time(9), time(20))
"""Default hours; regulated hours differ by province, so a policy may say otherwise."""


@dataclass(frozen=True, slots=True)
class ChannelKind:
    """What one kind of channel is and what it can promise.

    Parameters
    ----------
    kind
        Code used in every table (``outbound``, ``sms`` ...).
    title
        Name by language.
    is_active
        Whether the operator reaches out; False where the channel waits for the customer to come.
    needs_person
        Whether a seat, a clerk or a manager carries the assignment out.
    is_keyed
        Whether it takes the assignment id as idempotency key for as long as the assignment lives.
        A channel that is not keyed gets each assignment at most once.
    hours
        When it may disturb the customer by default; None where it does not ring or push.
    """

    kind: str
    title: Mapping[str, str]
    is_active: bool
    needs_person: bool
    is_keyed: bool
    hours: ContactHours | None


def _kind(code: str, zh: str, en: str, *traits: str) -> ChannelKind:
    return ChannelKind(
        kind=code,
        title={"zh": zh, "en": en},
        is_active="active" in traits,
        needs_person="person" in traits,
        is_keyed="keyed" in traits,
        hours=DAYTIME if "disturbs" in traits else None,
    )


# Not keyed: a dialler and a plain SMS submit (SMPP, CMPP) know no key; message platforms hold one
# for minutes only, which is shorter than an outage; SMTP and the post know none.
CHANNEL_KINDS: Mapping[str, ChannelKind] = MappingProxyType(
    {
        kind.kind: kind
        for kind in (
            _kind("outbound", "外呼", "Outbound call", "active", "person", "disturbs"),
            _kind("sms", "短信", "Text message", "active", "disturbs"),
            _kind("app", "手机应用", "App push", "active", "keyed", "disturbs"),
            _kind("hall", "营业厅弹窗", "Business hall pop-up", "person", "keyed"),
            _kind(
                "account_manager", "客户经理", "Account manager",
                "active", "person", "keyed", "disturbs",
            ),
            _kind("wechat", "微信公众号", "WeChat message", "active", "disturbs"),
            _kind("web", "网上营业厅", "Web hall", "keyed"),
            _kind("terminal", "自助终端", "Self-service terminal", "keyed"),
            _kind("email", "电子邮件", "E-mail", "active", "disturbs"),
            _kind("mail", "信函", "Letter", "active"),
        )
    }
)  # fmt: skip
"""The six channels of the touchpoint centre first, then the other kinds that the data room knows.
"""

TOUCHPOINTS = tuple(CHANNEL_KINDS)[:6]
"""The six channels that a campaign is spread over by default."""


class Channel(Protocol):
    """Carries assignments to customers or to the people who meet them.

    A channel that knows every assignment again by itself, whatever its kind, may say so with an
    attribute ``takes_key = True``; see :func:`takes_key`.
    """

    def send(self, assignments: pa.Table) -> pa.Table:
        """Carry a set of assignments.

        Parameters
        ----------
        assignments
            Rows of the ``assignment`` contract, already through the final gate.

        Returns
        -------
        pyarrow.Table
            Receipts: rows of the ``outcome`` contract, at least one per assignment. A keyed
            channel answers a repeated assignment with the receipt of the first time.
        """
        ...


def takes_key(channel: Channel) -> bool:
    """Whether the channel dedupes by assignment id itself, so that asking again is always safe."""
    return bool(getattr(channel, "takes_key", False))


def guard_repeats(
    assignments: pa.Table, states: pa.Table | None, engine: Engine
) -> tuple[pa.Table, pa.Table]:
    """Part the assignments that may be sent now from those that must not be sent again.

    Parameters
    ----------
    assignments
        Rows of the ``assignment`` contract.
    states
        ``assignment_id``, ``state`` (a stage or ``pending``) and ``reason``, one row per
        assignment; an assignment without a row is pending. None: nothing was sent yet.
    engine
        Where the tables are joined.

    Returns
    -------
    tuple of pyarrow.Table
        Those to send, and those held because they were sent before. Pending and suppressed
        assignments are sent. ``unknown`` ones are sent only through kinds that take a key, and
        not if they stand on a list, which is another way to the same customer. All others have
        their end or their answer.
    """
    if states is None:
        return assignments, assignments.slice(0, 0)
    require_columns(states, ("assignment_id", "state", "reason"), "States")
    keyed = [kind.kind for kind in CHANNEL_KINDS.values() if kind.is_keyed]
    query = statement(
        "SELECT assignment.*, state.state IS NULL OR state.state IN ('pending', 'suppressed')"
        " AS may_send, state.state = 'unknown' AND COALESCE(state.reason, '') <> 'listed'"
        " AS in_doubt"
        " FROM assignment LEFT JOIN state ON assignment.assignment_id = state.assignment_id"
        " ORDER BY assignment.assignment_id"
    )
    rows = engine.query(query, {"assignment": assignments, "state": states})
    if rows.num_rows != assignments.num_rows:
        raise DefectError(f"{assignments.num_rows} assignments met {rows.num_rows} states.")
    is_keyed = pc.is_in(rows["channel"], value_set=pa.array(keyed, pa.string()))
    again = pc.and_(pc.fill_null(rows["in_doubt"], False), is_keyed)
    sendable = pc.or_(rows["may_send"], again)
    rows = rows.drop_columns(["may_send", "in_doubt"])
    return rows.filter(sendable), rows.filter(pc.invert(sendable))


def receipt_rows(
    rows: pa.Table,
    *,
    stage: str,
    reason: str | None,
    occurred_at: datetime,
    source: str,
    engine: Engine,
) -> pa.Table:
    """Write one outcome row for each assignment.

    Parameters
    ----------
    rows
        Assignments (``assignment_id``, ``deployment_id``, ``customer_id``, ``channel``).
    stage
        Stage reached, a code of the ``outcome`` contract.
    reason
        Reason code of all rows; None takes it from the column ``reason`` of ``rows``.
    occurred_at
        Moment of all rows, aware.
    source
        System that reports.
    engine
        Where the ids are hashed.

    Returns
    -------
    pyarrow.Table
        In :data:`RECEIPT_SCHEMA`; ``amount`` and ``cost`` are missing, not 0. The id hashes
        assignment, stage, reason, source and moment, so the same receipt written twice is one.
    """
    moment = occurred_at.isoformat()
    literal = exp.Literal.string
    why: TextPart | str = TextPart("reason") if reason is None else reason
    query = exp.select(
        row_hash_id("receipt", TextPart("assignment_id"), stage, why, source, moment).as_(
            "outcome_id"
        ),
        "assignment_id",
        "deployment_id",
        "customer_id",
        literal(stage).as_("stage"),
        exp.cast(literal(moment), "TIMESTAMPTZ").as_("occurred_at"),
        "channel",
        exp.cast(exp.Null(), "DECIMAL(18, 2)").as_("amount"),
        exp.cast(exp.Null(), "DECIMAL(18, 2)").as_("cost"),
        exp.column("reason") if reason is None else literal(reason).as_("reason"),
        literal(source).as_("source"),
    ).from_("assignment")
    return engine.query(query, {"assignment": rows}).cast(RECEIPT_SCHEMA)


def require_columns(rows: pa.Table, names: Iterable[str], what: str) -> None:
    """Raise :class:`DefectError` if a table handed between rooms lacks a column."""
    missing = [name for name in names if name not in rows.column_names]
    if missing:
        raise DefectError(f"{what} lack the columns {missing}; they have {rows.column_names}.")
