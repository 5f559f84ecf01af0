"""The present state of every assignment, folded from its outcomes, and the sum that must hold.

Outcomes come late, twice and out of order, so the state may not depend on when they came. It is
the greatest outcome under a fixed order:

1. the rank of the stage: ``suppressed < expired < unknown < delivered, failed < connected <
   accepted, refused < ordered``;
2. among equal ranks the later moment (a second call that ends in yes outweighs the first no);
3. at the same moment the one that is worse for us, then the outcome's id.

A greatest element does not change when rows are shuffled or repeated, which is the whole proof.
``expired`` stands above ``suppressed`` because a passing hold (quiet hours) may end in expiry, and
below ``unknown`` because what was handed over may still have happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.data import DuckDBEngine, Engine, Source
from bihuan.feedback.store import STAGES, some_outcomes, statement
from bihuan.kernel import DefectError

PENDING = "pending"
STATES = (PENDING, *STAGES)
REACHED = ("delivered", "connected", "accepted", "refused", "ordered")
"""Stages at which the assignment was delivered, at least."""

STAGE_RANKS: Mapping[str, tuple[int, int]] = {
    "suppressed": (1, 0),
    "expired": (2, 0),
    "unknown": (3, 0),
    "delivered": (4, 0),
    "failed": (4, 1),
    "connected": (5, 0),
    "accepted": (6, 0),
    "refused": (6, 1),
    "ordered": (7, 0),
}
"""Rank of a stage, and which of two of equal rank at the same moment counts."""

_FOLD = """
SELECT
    assignment.assignment_id,
    assignment.deployment_id,
    assignment.campaign_id,
    assignment.customer_id,
    assignment.offer_id,
    assignment.channel,
    assignment.org_unit_id,
    CASE
        WHEN best.stage IS NOT NULL THEN best.stage
        WHEN assignment.valid_until < CAST(:today AS DATE) THEN 'expired'
        ELSE 'pending'
    END AS state,
    best.occurred_at,
    best.reason,
    total.first_contact_at,
    COALESCE(total.amount, 0) AS amount,
    COALESCE(total.cost, 0) AS cost,
    COALESCE(total.outcomes, 0) AS outcomes
FROM assignment
LEFT JOIN (
    SELECT assignment_id, stage, occurred_at, reason,
        ROW_NUMBER() OVER (
            PARTITION BY assignment_id
            ORDER BY major DESC, occurred_at DESC, minor DESC, outcome_id DESC
        ) AS nth
    FROM once WHERE copy = 1
) AS best ON assignment.assignment_id = best.assignment_id AND best.nth = 1
LEFT JOIN (
    SELECT assignment_id,
        MIN(occurred_at) FILTER (WHERE contacted) AS first_contact_at,
        SUM(amount) AS amount,
        SUM(cost) AS cost,
        COUNT(*) AS outcomes
    FROM once WHERE copy = 1
    GROUP BY assignment_id
) AS total ON assignment.assignment_id = total.assignment_id
ORDER BY assignment.assignment_id
"""
# Each outcome once, with its rank. The store holds an id once anyway; rows from elsewhere may not.
_ONCE = """
SELECT outcome.outcome_id, outcome.assignment_id, outcome.stage, outcome.occurred_at,
    outcome.amount, outcome.cost, outcome.reason,
    stage_rank.major, stage_rank.minor, stage_rank.contacted,
    ROW_NUMBER() OVER (
        PARTITION BY outcome.outcome_id
        ORDER BY major DESC, occurred_at DESC, minor DESC, assignment_id, reason, amount, cost
    ) AS copy
FROM outcome JOIN stage_rank ON outcome.stage = stage_rank.stage
"""
_MONEY = pa.decimal128(18, 2)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Where every planned assignment is.

    ``planned = delivered + suppressed + failed + expired + unknown + pending``, always.

    Parameters
    ----------
    planned
        Assignments of the deployment, as the register says.
    delivered
        Delivered, or further.
    suppressed, failed, expired, unknown, pending
        The others, by present state.
    by_state
        Assignments by present state, every state named.
    """

    planned: int
    delivered: int
    suppressed: int
    failed: int
    expired: int
    unknown: int
    pending: int
    by_state: Mapping[str, int]

    def __post_init__(self) -> None:
        ended = self.suppressed + self.failed + self.expired + self.unknown
        if self.planned != self.delivered + ended + self.pending:
            raise DefectError(f"Planned assignments and their states differ: {self}.")

    @property
    def is_done(self) -> bool:
        """Whether nothing is pending or in doubt any more."""
        return self.pending == 0 and self.unknown == 0


def fold_outcomes(
    assignments: Source, outcomes: Source, *, today: date, engine: Engine | None = None
) -> pa.Table:
    """Fold outcomes to the present state of each assignment.

    Parameters
    ----------
    assignments
        Rows of the ``assignment`` contract.
    outcomes
        Rows of the ``outcome`` contract, in any order, repeats allowed; rows of other assignments
        are passed over. May be empty.
    today
        The present day in the market's zone: an assignment without any outcome whose validity is
        over counts as expired.
    engine
        DuckDB by default.

    Returns
    -------
    pyarrow.Table
        One row per assignment, by id: ``assignment_id``, ``deployment_id``, ``campaign_id``,
        ``customer_id``, ``offer_id``, ``channel``, ``org_unit_id``, ``state`` (a stage or
        ``pending``), ``occurred_at`` and ``reason`` of the state, ``first_contact_at``,
        ``amount`` and ``cost`` (sums over all outcomes, workspace's currency), ``outcomes``
        (their number).
    """
    engine = engine or DuckDBEngine()
    query = statement(_FOLD, today=today.isoformat()).with_("once", statement(_ONCE))
    sources: dict[str, Source] = {
        "assignment": assignments,
        "outcome": some_outcomes(outcomes),
        "stage_rank": _stage_ranks(),
    }
    states = engine.query(query, sources)
    for name in ("amount", "cost"):
        at = states.schema.get_field_index(name)
        states = states.set_column(at, name, states[name].cast(_MONEY))
    return states


def reconcile(states: pa.Table, *, planned: int) -> Reconciliation:
    """Count where every planned assignment is.

    Parameters
    ----------
    states
        From :func:`fold_outcomes`.
    planned
        ``Deployment.planned``, counted at deployment and not from ``states``.

    Raises
    ------
    DefectError
        If the sum does not hold.
    """
    counted = {row["values"]: row["counts"] for row in pc.value_counts(states["state"]).to_pylist()}
    by_state = {state: int(counted.pop(state, 0)) for state in STATES}
    if counted:
        raise DefectError(f"Assignments are in states that do not exist: {counted}.")
    return Reconciliation(
        planned=planned,
        delivered=sum(by_state[state] for state in REACHED),
        suppressed=by_state["suppressed"],
        failed=by_state["failed"],
        expired=by_state["expired"],
        unknown=by_state["unknown"],
        pending=by_state[PENDING],
        by_state=by_state,
    )


def _stage_ranks() -> pa.Table:
    if set(STAGE_RANKS) != set(STAGES):
        raise DefectError(f"Stages without a rank: {set(STAGES) ^ set(STAGE_RANKS)}.")
    rows = [
        {"stage": stage, "major": major, "minor": minor, "contacted": stage in (*REACHED, "failed")}
        for stage, (major, minor) in STAGE_RANKS.items()
    ]
    return pa.Table.from_pylist(rows)
