"""Where customers are lost between plan and order, and what to look at first.

Every assignment ends in exactly one state; the states of a campaign add up to its plan, always.
From the states follow the steps (planned, sent, delivered, connected, accepted, ordered) per
channel, offer, unit and script, and the step where most are lost: the break.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

import pyarrow as pa
from sqlglot import exp

from bihuan.data import DuckDBEngine, Engine
from bihuan.evaluation.intake import require_columns, require_unique
from bihuan.evaluation.text import Text
from bihuan.feedback import STAGE_RANKS
from bihuan.kernel import DefectError

STEPS = ("planned", "sent", "delivered", "connected", "accepted", "ordered")
"""The stations of the funnel, in order; ``sent`` is planned less suppressed."""

STATIONS: Mapping[str, Text] = {
    "planned": Text("计划", "Planned"),
    "sent": Text("下发", "Sent"),
    "delivered": Text("送达", "Delivered"),
    "connected": Text("接通", "Connected"),
    "accepted": Text("同意", "Accepted"),
    "ordered": Text("订购", "Ordered"),
}

END_STATES: Mapping[str, Text] = {
    "pending": Text("未执行", "Pending"),
    "suppressed": Text("被抑制", "Suppressed"),
    "failed": Text("送达失败", "Delivery failed"),
    "expired": Text("已过期", "Expired"),
    "unknown": Text("结果未知", "Unknown"),
    "delivered": Text("送达未接通", "Delivered, not connected"),
    "connected": Text("接通未决定", "Connected, undecided"),
    "refused": Text("拒绝", "Refused"),
    "accepted": Text("同意未订购", "Accepted, not ordered"),
    "ordered": Text("已订购", "Ordered"),
}
"""Where an assignment can end."""

_CONTACTED = ("ordered", "accepted", "refused", "connected", "delivered")
DIMENSIONS = ("channel", "offer_id", "org_unit_id", "script_id")


@dataclass(frozen=True, slots=True)
class Ends:
    """Assignments by the one state in which each ended; adds."""

    pending: int = 0
    suppressed: int = 0
    failed: int = 0
    expired: int = 0
    unknown: int = 0
    delivered: int = 0
    connected: int = 0
    refused: int = 0
    accepted: int = 0
    ordered: int = 0

    def __add__(self, other: Ends) -> Ends:
        return Ends(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def total(self) -> int:
        """All assignments."""
        return sum(getattr(self, f.name) for f in fields(self))


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the funnel.

    Parameters
    ----------
    before, after
        Stations.
    entered, passed
        Assignments that reached the one and the other.
    """

    before: str
    after: str
    entered: int
    passed: int

    @property
    def lost(self) -> int:
        """Assignments that did not get past this step."""
        return self.entered - self.passed

    @property
    def rate(self) -> float | None:
        """Share that passed; None if nobody entered."""
        return self.passed / self.entered if self.entered else None

    @property
    def title(self) -> Text:
        """The step in words."""
        return Text("{a} → {b}", "{a} → {b}").fill(a=STATIONS[self.before], b=STATIONS[self.after])


@dataclass(frozen=True, slots=True)
class FunnelRow:
    """The funnel of a part of the campaign.

    Parameters
    ----------
    key
        Code of the channel, offer, unit or script; ``all`` for the whole.
    ends
        End states.
    reached
        Assignments that reached each of :data:`STEPS`.
    is_silent
        Whether no channel of this part reports connections; ``connected`` then repeats
        ``delivered`` and is no step of its own.
    """

    key: str
    ends: Ends
    reached: tuple[int, ...]
    is_silent: bool = False

    @property
    def planned(self) -> int:
        """Assignments of this part."""
        return self.reached[0]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps in order: five, or four where connections are not reported."""
        stations = [
            (name, count)
            for name, count in zip(STEPS, self.reached, strict=True)
            if not (self.is_silent and name == "connected")
        ]
        pairs = pairwise(stations)
        return tuple(Step(a, b, n, m) for (a, n), (b, m) in pairs)

    @property
    def break_point(self) -> Step | None:
        """The step where most are lost, after suppression; None if nobody is lost.

        Suppression is a decision, not a loss, so the first step never is the break.
        """
        worst = max(self.steps[1:], key=lambda step: step.lost)
        return worst if worst.lost else None

    @property
    def order_rate(self) -> float | None:
        """Orders per assignment planned; gross, not an effect."""
        return self.reached[-1] / self.planned if self.planned else None


@dataclass(frozen=True, slots=True)
class Reason:
    """How often one reason was given for one end state on one channel."""

    channel: str
    state: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class Funnel:
    """The delivery funnel of one deployment or campaign.

    Parameters
    ----------
    overall
        All assignments.
    by_channel, by_offer, by_org_unit, by_script
        Parts, largest plan first; each set of parts adds up to the whole.
    reasons
        Reasons logged for losses, most frequent first.
    silent_channels
        Channels that never report a connection (SMS); there a delivered assignment counts as
        connected, so that the loss shows where it can be seen, at acceptance.
    conflicts
        Assignments that were suppressed and yet have an outcome of a contact.
    strays
        Outcome rows whose assignment is not in the plan; left out.
    """

    overall: FunnelRow
    by_channel: tuple[FunnelRow, ...]
    by_offer: tuple[FunnelRow, ...]
    by_org_unit: tuple[FunnelRow, ...]
    by_script: tuple[FunnelRow, ...]
    reasons: tuple[Reason, ...]
    silent_channels: tuple[str, ...]
    conflicts: int
    strays: int


def funnel(assignments: pa.Table, outcomes: pa.Table, *, engine: Engine | None = None) -> Funnel:
    """Reconcile assignments with outcomes and count the steps.

    Parameters
    ----------
    assignments
        The frozen plan: ``assignment_id`` (unique), ``channel``, and where known ``offer_id``,
        ``org_unit_id``, ``script_id``.
    outcomes
        ``assignment_id, stage`` and where known ``reason`` and ``occurred_at``; any number of rows
        per assignment, in any order. A later stage implies the earlier ones: who ordered was
        connected. Which of several counts is told as by :func:`bihuan.feedback.fold_outcomes`.
    engine
        Where the queries run; DuckDB if None.

    Raises
    ------
    EvaluationInputError
        If a column is missing or an assignment is planned twice.

    Examples
    --------
    >>> plan = pa.table({"assignment_id": ["a", "b", "c"], "channel": ["sms", "outbound", "sms"]})
    >>> seen = pa.table({"assignment_id": ["a", "b", "b"],
    ...                  "stage": ["ordered", "delivered", "refused"]})
    >>> result = funnel(plan, seen)
    >>> result.overall.reached, result.overall.ends.pending
    ((3, 3, 2, 2, 1, 1), 1)
    """
    require_columns(assignments, ("assignment_id", "channel"), "assignments")
    require_columns(outcomes, ("assignment_id", "stage"), "outcomes")
    require_unique(assignments, "assignments", "assignment_id")
    runner = engine or DuckDBEngine()
    sources = {
        "assignment": with_columns(assignments, DIMENSIONS),
        "outcome": with_columns(outcomes, ("reason", "occurred_at")),
    }
    counted = runner.query(_end_counts(), sources).to_pylist()
    silent = _silent_channels(counted)
    parts = [_part(row, silent) for row in counted]
    whole = _sum(parts, None)
    overall = whole[0] if whole else FunnelRow("all", Ends(), (0,) * len(STEPS))
    if overall.ends.total != assignments.num_rows:
        raise DefectError(
            f"The funnel lost assignments: {overall.ends.total} of {assignments.num_rows}."
        )
    channels, offers, units, scripts = (_sum(parts, name) for name in DIMENSIONS)
    strays = runner.query(_stray_count(), sources).to_pylist()[0]["n"]
    reasons = runner.query(_reason_counts(), sources).to_pylist()
    return Funnel(
        overall=overall,
        by_channel=channels,
        by_offer=offers,
        by_org_unit=units,
        by_script=scripts,
        reasons=tuple(
            Reason(row["channel"] or "", row["state"], row["reason"], row["n"]) for row in reasons
        ),
        silent_channels=silent,
        conflicts=sum(row["conflicts"] for row in counted),
        strays=strays,
    )


# --- counting -------------------------------------------------------------------------------


def ended_assignments() -> exp.Select:
    """Build the query that gives every row of ``assignment`` its ``state`` from ``outcome``.

    Further columns: the dimensions, ``conflict`` (suppressed and yet contacted, 0 or 1) and
    ``spoken`` (a connection or refusal was reported, 0 or 1).
    """
    flags = exp.select("assignment_id").from_("outcome").group_by("assignment_id")
    for stage in STAGE_RANKS:
        flags = flags.select(exp.func("MAX", _is("stage", stage)).as_(stage))
    contacted = exp.func("GREATEST", *map(_flag, _CONTACTED))
    state = exp.func("COALESCE", exp.column("stage", "s"), _word("pending"))
    return (
        exp.select(
            "a.assignment_id",
            *(exp.column(name, "a") for name in DIMENSIONS),
            state.as_("state"),
            exp.Mul(this=_flag("suppressed"), expression=contacted).as_("conflict"),
            exp.func("GREATEST", _flag("connected"), _flag("refused")).as_("spoken"),
        )
        .from_(exp.to_table("assignment").as_("a"))
        .join(flags.subquery("f"), on="a.assignment_id = f.assignment_id", join_type="left")
        .join(
            _greatest().subquery("s"),
            on="a.assignment_id = s.assignment_id AND s.nth = 1",
            join_type="left",
        )
    )


def _greatest() -> exp.Select:
    """Put an assignment's outcomes in the feedback room's own order, the one that counts first.

    Rank of the stage, then the later moment, then what is worse for us; an outcome without a
    moment comes after those that have one.
    """
    known = [_word(stage) for stage in STAGE_RANKS]
    number = exp.Window(
        this=exp.RowNumber(),
        partition_by=[exp.column("assignment_id")],
        order=exp.Order(
            expressions=[
                exp.Ordered(this=_rank(0), desc=True),
                exp.Ordered(this=exp.column("occurred_at"), desc=True, nulls_first=False),
                exp.Ordered(this=_rank(1), desc=True),
            ]
        ),
    )
    return (
        exp.select("assignment_id", "stage", number.as_("nth"))
        .from_("outcome")
        .where(exp.In(this=exp.column("stage"), expressions=known))
    )


def _rank(part: int) -> exp.Case:
    rank = exp.Case()
    for stage, ranks in STAGE_RANKS.items():
        is_it = exp.EQ(this=exp.column("stage"), expression=_word(stage))
        rank = rank.when(is_it, exp.Literal.number(ranks[part]))
    return rank


def _flag(stage: str) -> exp.Expr:
    return exp.func("COALESCE", exp.column(stage, "f"), exp.Literal.number(0))


def _end_counts() -> exp.Select:
    keys = (*DIMENSIONS, "state")
    return (
        exp.select(
            *keys,
            exp.func("COUNT", exp.Star()).as_("n"),
            exp.func("SUM", exp.column("conflict")).as_("conflicts"),
            exp.func("SUM", exp.column("spoken")).as_("spoken"),
        )
        .from_(ended_assignments().subquery("e"))
        .group_by(*keys)
    )


def _reason_counts() -> exp.Select:
    """Count the reasons logged with the state in which an assignment ended."""
    keys = ("e.channel", "e.state", "o.reason")
    distinct = exp.Distinct(expressions=[exp.column("assignment_id", "e")])
    return (
        exp.select(*keys, exp.Count(this=distinct).as_("n"))
        .from_(ended_assignments().subquery("e"))
        .join(
            exp.to_table("outcome").as_("o"),
            on="o.assignment_id = e.assignment_id AND o.stage = e.state",
        )
        .where("o.reason IS NOT NULL AND o.reason <> '' AND e.state <> 'ordered'")
        .group_by(*keys)
        .order_by("n DESC", *keys)
    )


def _stray_count() -> exp.Select:
    return (
        exp.select(exp.func("COUNT", exp.Star()).as_("n"))
        .from_(exp.to_table("outcome").as_("o"))
        .join(
            exp.to_table("assignment").as_("a"),
            on="o.assignment_id = a.assignment_id",
            join_type="left",
        )
        .where("a.assignment_id IS NULL")
    )


def _silent_channels(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Find the channels that delivered something and never reported a connection."""
    spoken: dict[str, int] = {}
    contacted: dict[str, int] = {}
    for row in rows:
        channel = row["channel"] or ""
        spoken[channel] = spoken.get(channel, 0) + row["spoken"]
        reached = row["n"] if row["state"] in _CONTACTED else 0
        contacted[channel] = contacted.get(channel, 0) + reached
    return tuple(sorted(c for c, n in spoken.items() if n == 0 and contacted[c]))


_Part = tuple[Mapping[str, Any], Ends, tuple[int, ...], bool]


def _part(row: Mapping[str, Any], silent: tuple[str, ...]) -> _Part:
    ends, n = Ends(**{row["state"]: row["n"]}), row["n"]
    delivered = ends.delivered + ends.connected + ends.refused + ends.accepted + ends.ordered
    is_silent = (row["channel"] or "") in silent
    connected = delivered if is_silent else delivered - ends.delivered
    bought = ends.accepted + ends.ordered
    reached = (n, n - ends.suppressed, delivered, connected, bought, ends.ordered)
    return row, ends, reached, is_silent


def _sum(parts: list[_Part], dimension: str | None) -> tuple[FunnelRow, ...]:
    groups: dict[str, list[_Part]] = {}
    for part in parts:
        key = "all" if dimension is None else part[0][dimension] or ""
        groups.setdefault(key, []).append(part)
    rows = [
        FunnelRow(
            name,
            reduce(add, (ends for _, ends, _, _ in members)),
            tuple(map(sum, zip(*(reached for _, _, reached, _ in members), strict=True))),
            all(is_silent for _, _, _, is_silent in members),
        )
        for name, members in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.planned, row.key)))


def with_columns(table: pa.Table, optional: Iterable[str]) -> pa.Table:
    """Return ``table`` with the optional columns that it lacks, all missing."""
    for name in optional:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.string()))
    return table


def _is(column: str, word: str) -> exp.Case:
    test = exp.EQ(this=exp.column(column), expression=_word(word))
    return exp.Case().when(test, _one()).else_(exp.Literal.number(0))


def _one() -> exp.Expr:
    return exp.Literal.number(1)


def _word(text: str) -> exp.Literal:
    return exp.Literal.string(text)
