"""One round of sending: guard, gate, write-ahead record, send, record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.data import DuckDBEngine, Engine
from bihuan.delivery.channel import (
    CHANNEL_KINDS,
    Channel,
    Stage,
    guard_repeats,
    receipt_rows,
    takes_key,
)
from bihuan.delivery.final_gate import FinalGate
from bihuan.kernel import Clock, DefectError

Record: TypeAlias = Callable[[pa.Table], object]
"""Stores outcome rows durably before it returns; the same rows twice must change nothing."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """What one round of sending did; ``planned = repeated + suppressed + sent``.

    Parameters
    ----------
    planned
        Assignments given.
    repeated
        Held because they had been sent before.
    suppressed
        Held back by the final gate, with a reason each.
    sent
        Handed to the channel.
    reasons
        Number held back by the gate, by reason.
    receipts
        What the channel answered: rows of the ``outcome`` contract.
    """

    planned: int
    repeated: int
    suppressed: int
    sent: int
    reasons: Mapping[str, int]
    receipts: pa.Table


def dispatch(  # noqa: PLR0913 - every port of the round is named
    assignments: pa.Table,
    channel: Channel,
    *,
    gate: FinalGate,
    states: pa.Table | None,
    record: Record,
    clock: Clock,
    engine: Engine | None = None,
) -> Dispatch:
    """Send what may be sent now, so that a crash at any point sends nobody twice.

    Where neither the channel nor its kind takes an idempotency key, an ``unknown`` outcome is
    recorded *before* the send. If the process dies between the send and its receipt, the
    assignment stays ``unknown`` and is not sent again; a receipt that arrives settles it, because
    every known stage outranks ``unknown``.

    Parameters
    ----------
    assignments
        Rows of the ``assignment`` contract.
    channel
        Who carries them.
    gate
        The final gate.
    states
        What is known of them (see :func:`guard_repeats`); None only for a deployment of which
        nothing was sent.
    record
        Where outcomes go.
    clock
        Moment of sending.
    engine
        DuckDB by default.

    Returns
    -------
    Dispatch

    Raises
    ------
    DefectError
        If the gate loses a row, or the channel gives no receipt for one.
    """
    engine = engine or DuckDBEngine()
    now = clock.now()
    fresh, repeated = guard_repeats(assignments, states, engine)
    result = gate.check(fresh, now)
    record(result.suppressed)
    once = _only_once(result.sent, channel)
    if once.num_rows:
        record(
            receipt_rows(
                once,
                stage=Stage.UNKNOWN.value,
                reason="intent",
                occurred_at=now,
                source="dispatch",
                engine=engine,
            )
        )
    receipts = channel.send(result.sent)
    _check_receipts(result.sent, receipts)
    record(receipts)
    return Dispatch(
        planned=assignments.num_rows,
        repeated=repeated.num_rows,
        suppressed=result.suppressed.num_rows,
        sent=result.sent.num_rows,
        reasons=result.reasons,
        receipts=receipts,
    )


def _only_once(sent: pa.Table, channel: Channel) -> pa.Table:
    """Return the rows that must not be sent again if the reply is lost."""
    if takes_key(channel):
        return sent.slice(0, 0)
    blind = [kind.kind for kind in CHANNEL_KINDS.values() if not kind.is_keyed]
    return sent.filter(pc.is_in(sent["channel"], value_set=pa.array(blind, pa.string())))


def _check_receipts(sent: pa.Table, receipts: pa.Table) -> None:
    answered = pc.is_in(sent["assignment_id"], value_set=receipts["assignment_id"])
    silent = sent.num_rows - (pc.sum(answered).as_py() or 0)
    if silent:
        raise DefectError(f"The channel gave no receipt for {silent} of {sent.num_rows} rows.")
