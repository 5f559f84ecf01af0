"""The final gate: what has changed since the plan is honoured at the moment of sending.

A customer may have opted out after the decision, the validity may be over, it may be night, or
somebody may have thrown the stop switch. The gate never drops a row: whatever it holds back
becomes an outcome row with a reason, and planned = suppressed + sent is checked every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.data import DuckDBEngine, Engine, LakeView
from bihuan.delivery.channel import (
    CHANNEL_KINDS,
    MARKET_ZONE,
    ContactHours,
    Stage,
    UnknownChannelError,
    receipt_rows,
    require_columns,
)
from bihuan.delivery.sql import statement
from bihuan.kernel import DefectError, UserError

GATE_REASONS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "opt_out": {"zh": "客户已退订", "en": "The customer has opted out"},
        "no_profiling": {
            "zh": "客户拒绝自动化决策",
            "en": "The customer refuses to be chosen by profile",
        },
        "expired": {"zh": "已过有效期", "en": "Its validity is over"},
        "stopped": {"zh": "已人工停发", "en": "Somebody threw the stop switch"},
        "not_yet_valid": {"zh": "尚未生效", "en": "It is not valid yet"},
        "quiet_hours": {"zh": "免打扰时段", "en": "The customer must not be disturbed now"},
    }
)
"""Why an assignment is held back; the first that applies is named, lasting ones before passing
ones."""

OPT_OUT_SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("kind", pa.string()),
        ("channel", pa.string()),
        ("since", pa.date32()),
    ]
)

# A refusal without a date or a channel counts as standing and as whole: in doubt, do not send.
_JUDGE = """
SELECT assignment.*,
    CASE
        WHEN whole.customer_id IS NOT NULL OR one.customer_id IS NOT NULL THEN 'opt_out'
        WHEN profiled.customer_id IS NOT NULL THEN 'no_profiling'
        WHEN NOT COALESCE(assignment.valid_until >= CAST(:today AS DATE), FALSE) THEN 'expired'
        WHEN stopped.channel IS NOT NULL THEN 'stopped'
        WHEN NOT COALESCE(assignment.valid_from <= CAST(:today AS DATE), FALSE)
            THEN 'not_yet_valid'
        WHEN quiet.channel IS NOT NULL THEN 'quiet_hours'
    END AS reason
FROM assignment
LEFT JOIN (
    SELECT DISTINCT customer_id FROM opt_out
    WHERE kind = 'no_marketing' AND COALESCE(channel, 'all') = 'all'
        AND COALESCE(since <= CAST(:today AS DATE), TRUE)
) AS whole ON assignment.customer_id = whole.customer_id
LEFT JOIN (
    SELECT DISTINCT customer_id, channel FROM opt_out
    WHERE kind = 'no_marketing' AND COALESCE(since <= CAST(:today AS DATE), TRUE)
) AS one ON assignment.customer_id = one.customer_id AND assignment.channel = one.channel
LEFT JOIN (
    SELECT DISTINCT customer_id FROM opt_out
    WHERE CAST(:profiles AS BOOLEAN) AND kind = 'no_profiling'
        AND COALESCE(since <= CAST(:today AS DATE), TRUE)
) AS profiled ON assignment.customer_id = profiled.customer_id
LEFT JOIN stopped
    ON assignment.campaign_id = stopped.campaign_id AND assignment.channel = stopped.channel
    AND COALESCE(assignment.org_unit_id, '') = stopped.org_unit_id
LEFT JOIN quiet ON assignment.channel = quiet.channel
ORDER BY assignment.channel, assignment.org_unit_id NULLS FIRST, assignment.priority,
    assignment.assignment_id
"""
_PLACE = ["campaign_id", "channel", "org_unit_id"]
_GATED = (
    "assignment_id",
    "deployment_id",
    "campaign_id",
    "customer_id",
    "channel",
    "org_unit_id",
    "priority",
    "valid_from",
    "valid_until",
)


class OptOutUnknownError(UserError):
    """Nobody can say who has opted out, so nothing may be sent."""


def _default_hours() -> Mapping[str, ContactHours | None]:
    return {kind.kind: kind.hours for kind in CHANNEL_KINDS.values()}


@dataclass(frozen=True, slots=True)
class GatePolicy:
    """What the gate goes by, besides the opt-outs.

    Parameters
    ----------
    hours
        Contact hours by channel kind; None for a channel that may be used at any hour. A kind
        that is not named has the hours of the register.
    zone
        Time zone of days and hours.
    stop_all
        Stop everything.
    stopped_campaigns, stopped_channels
        Stop these campaigns (ids) and these channel kinds.
    stopped_parts
        Stop these pairs of channel kind and org unit; an empty text stands for every one.
    profiles
        Whether the customers were chosen by profile; then who refuses that is held back too,
        whatever the channel of the refusal.
    """

    hours: Mapping[str, ContactHours | None] = field(default_factory=dict)
    zone: str = MARKET_ZONE
    stop_all: bool = False
    stopped_campaigns: frozenset[str] = frozenset()
    stopped_channels: frozenset[str] = frozenset()
    stopped_parts: frozenset[tuple[str, str]] = frozenset()
    profiles: bool = False

    def __post_init__(self) -> None:
        for kind in (*self.hours, *sorted(self.stopped_channels)):
            if kind not in CHANNEL_KINDS:
                raise UnknownChannelError.of(kind)

    @classmethod
    def for_lists(cls, zone: str = MARKET_ZONE) -> GatePolicy:
        """Return the policy for writing target lists, which disturb nobody themselves.

        The seats and platforms that work a list keep the contact hours, so a list may be
        written at night.
        """
        return cls(hours=dict.fromkeys(CHANNEL_KINDS), zone=zone)

    def is_stopped(self, campaign: str, channel: str, unit: str) -> bool:
        """Tell whether the stop switch names a campaign, channel or unit (empty: none)."""
        places = {(channel, unit), (channel, ""), ("", unit), ("", "")}
        return (
            self.stop_all
            or campaign in self.stopped_campaigns
            or channel in self.stopped_channels
            or not places.isdisjoint(self.stopped_parts)
        )

    def quiet_channels(self, now: datetime) -> tuple[str, ...]:
        """Return the channel kinds that must not be used at this moment."""
        local = now.astimezone(ZoneInfo(self.zone)).time()
        hours = {**_default_hours(), **self.hours}
        return tuple(
            kind for kind, open_ in hours.items() if open_ is not None and not open_.contain(local)
        )


@dataclass(frozen=True, slots=True)
class GateResult:
    """What the gate let through and what it held back.

    Parameters
    ----------
    sent
        Assignments that may be sent now.
    suppressed
        One outcome row for each assignment held back: stage ``suppressed``, or ``expired`` where
        the validity is over; the reason is a key of :data:`GATE_REASONS`.
    reasons
        Number held back by reason.
    """

    sent: pa.Table
    suppressed: pa.Table
    reasons: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class FinalGate:
    """Judges assignments at the moment of sending.

    Parameters
    ----------
    policy
        Hours, zone and stop switch.
    opt_outs
        Rows of the ``opt_out`` contract; see :func:`load_opt_outs`.
    engine
        Where rows are judged.
    source
        Name under which the gate reports.
    """

    policy: GatePolicy
    opt_outs: pa.Table
    engine: Engine = field(default_factory=DuckDBEngine)
    source: str = "final_gate"

    def check(self, assignments: pa.Table, now: datetime) -> GateResult:
        """Part assignments into those to send and those held back.

        Parameters
        ----------
        assignments
            Rows of the ``assignment`` contract.
        now
            Moment of sending, aware.

        Raises
        ------
        DefectError
            If the two parts do not make up the whole.
        """
        require_columns(assignments, _GATED, "Assignments")
        require_columns(self.opt_outs, OPT_OUT_SCHEMA.names, "Opt-outs")
        judged = self._judge(assignments, now)
        sent = judged.filter(pc.is_null(judged["reason"])).drop_columns("reason")
        held = judged.filter(pc.is_valid(judged["reason"]))
        late = pc.equal(held["reason"], "expired")
        suppressed = pa.concat_tables(
            [
                self._receipts(held.filter(pc.invert(late)), Stage.SUPPRESSED, now),
                self._receipts(held.filter(late), Stage.EXPIRED, now),
            ]
        )
        check_parts(assignments, sent, suppressed)
        counts = pc.value_counts(held["reason"]).to_pylist()
        reasons = {row["values"]: row["counts"] for row in counts}
        return GateResult(sent, suppressed, reasons)

    def _judge(self, assignments: pa.Table, now: datetime) -> pa.Table:
        today = now.astimezone(ZoneInfo(self.policy.zone)).date()
        sources = {
            "assignment": assignments,
            "opt_out": self.opt_outs,
            "stopped": self._stopped(assignments),
            "quiet": pa.table({"channel": pa.array(self.policy.quiet_channels(now), pa.string())}),
        }
        return self.engine.query(
            statement(_JUDGE, today=today.isoformat(), profiles=self.policy.profiles), sources
        )

    def _stopped(self, assignments: pa.Table) -> pa.Table:
        """Return the campaigns, channels and units that the stop switch names."""
        places = assignments.select(_PLACE).group_by(_PLACE).aggregate([]).to_pylist()
        rows = [
            {**row, "org_unit_id": row["org_unit_id"] or ""}
            for row in places
            if self.policy.is_stopped(row["campaign_id"], row["channel"], row["org_unit_id"] or "")
        ]
        return pa.Table.from_pylist(rows, schema=pa.schema([(n, pa.string()) for n in _PLACE]))

    def _receipts(self, rows: pa.Table, stage: Stage, now: datetime) -> pa.Table:
        return receipt_rows(
            rows,
            stage=stage.value,
            reason=None,
            occurred_at=now,
            source=self.source,
            engine=self.engine,
        )


def check_parts(planned: pa.Table, sent: pa.Table, suppressed: pa.Table) -> None:
    """Hold a gate to its promise: planned = suppressed + sent, each assignment in one of them.

    Raises
    ------
    DefectError
        If a row was dropped, doubled or made up.
    """
    after = pa.chunked_array(
        [*_plain(sent).chunks, *_plain(suppressed).chunks], type=pa.large_string()
    )
    before = _plain(planned)
    if (
        len(after) != len(before)
        or pc.count_distinct(after).as_py() != pc.count_distinct(before).as_py()
        or not pc.all(pc.is_in(after, value_set=before), min_count=0).as_py()
    ):
        raise DefectError(
            f"The gate must pass or hold every assignment: {planned.num_rows} planned, "
            f"{sent.num_rows} sent, {suppressed.num_rows} held back."
        )


def _plain(rows: pa.Table) -> pa.ChunkedArray:
    return rows["assignment_id"].cast(pa.large_string())


def load_opt_outs(view: LakeView) -> pa.Table:
    """Read the newest opt-outs of the lake.

    Raises
    ------
    OptOutUnknownError
        If the lake has no such table: not knowing is not the same as nobody.
    """
    snapshot = view.find("opt_out")
    if snapshot is None:
        raise OptOutUnknownError(
            "The lake has no table 'opt_out', so nobody can say who must not be contacted.",
            remedy="Ingest the opt-outs; if there really are none, pass no_opt_outs().",
            zh="数据湖中没有退订表 opt_out,无法判断谁不可打扰。请先导入;确无退订时请明确声明。",
        )
    return snapshot.read(OPT_OUT_SCHEMA.names)


def no_opt_outs() -> pa.Table:
    """Return an empty opt-out table: the statement that nobody has opted out."""
    return OPT_OUT_SCHEMA.empty_table()
