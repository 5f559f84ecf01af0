"""Reading the funnel: which step of which channel to mend first, and whom to listen to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from sqlglot import exp

from bihuan.data import DuckDBEngine, Engine
from bihuan.evaluation.funnel import DIMENSIONS, Funnel, Step, ended_assignments, with_columns
from bihuan.evaluation.text import Text

_ADVICE: Mapping[str, Text] = {
    "delivered": Text(
        "查号码与地址质量、发送时段和通道状态。",
        "Check numbers and addresses, sending hours and the state of the channel.",
    ),
    "connected": Text(
        "查联系时段、来电显示与开场白。",
        "Check contact hours, the caller id and the opening line.",
    ),
    "accepted": Text(
        "抽查过程样本（如话务录音），看卖点与话术是否切合客户；比较各话术的同意率。",
        "Sample the conversations: do selling points and script suit the customers? Compare the "
        "acceptance of the scripts.",
    ),
    "ordered": Text(
        "走查订购环节：步骤、等待、失败原因和回退。",
        "Walk through the ordering: steps, waiting, causes of failure and dropping out.",
    ),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What the review of one channel says: its break and what to look at.

    Parameters
    ----------
    channel
        Channel kind.
    step
        The step where the channel loses most.
    advice
        What to examine at that step.
    states
        End states of the assignments lost there.
    top_reason
        Reason logged most often for losses there; blank if none is logged.
    top_reason_count
        How often.
    """

    channel: str
    step: Step
    advice: Text
    states: tuple[str, ...]
    top_reason: str
    top_reason_count: int


_LOST_AT: Mapping[str, tuple[str, ...]] = {
    "delivered": ("failed", "expired", "unknown", "pending"),
    "connected": ("delivered",),
    "accepted": ("refused", "connected"),
    "ordered": ("accepted",),
}


def review_process(result: Funnel) -> tuple[Finding, ...]:
    """Name each channel's break and what to look at there; the next campaign's adjustments.

    Parameters
    ----------
    result
        A campaign's funnel.

    Returns
    -------
    tuple of Finding
        One per channel that lost somebody, largest loss first.
    """
    findings = []
    for row in result.by_channel:
        step = row.break_point
        if step is None:
            continue
        states = _LOST_AT[step.after]
        if step.after == "accepted" and row.key in result.silent_channels:
            states = (*states, "delivered")
        top = next((r for r in result.reasons if r.channel == row.key and r.state in states), None)
        findings.append(
            Finding(
                row.key,
                step,
                _ADVICE[step.after],
                states,
                top.reason if top else "",
                top.count if top else 0,
            )
        )
    return tuple(sorted(findings, key=lambda finding: -finding.step.lost))


def sample_lost(
    assignments: pa.Table,
    outcomes: pa.Table,
    finding: Finding,
    size: int,
    generator: np.random.Generator,
    *,
    engine: Engine | None = None,
) -> pa.Table:
    """Draw assignments lost at a break, to be listened to or read (call recordings).

    Parameters
    ----------
    assignments, outcomes
        As given to :func:`funnel`.
    finding
        Which channel and step.
    size
        How many; fewer if fewer were lost.
    generator
        Source of chance.
    engine
        Where the query runs; DuckDB if None.

    Returns
    -------
    pyarrow.Table
        The drawn rows of ``assignments``, ordered by id.
    """
    sources = {
        "assignment": with_columns(assignments, DIMENSIONS),
        "outcome": with_columns(outcomes, ("occurred_at",)),
    }
    states = exp.column("state").isin(*finding.states)
    channel = exp.EQ(this=exp.column("channel"), expression=exp.Literal.string(finding.channel))
    query = (
        exp.select("assignment_id")
        .from_(ended_assignments().subquery("e"))
        .where(states, channel)
        .order_by("assignment_id")
    )
    lost = (engine or DuckDBEngine()).query(query, sources)["assignment_id"]
    drawn = generator.choice(len(lost), size=min(size, len(lost)), replace=False)
    wanted = lost.take(pa.array(np.sort(drawn)))
    ids = pa.table({"assignment_id": wanted})
    return assignments.join(ids, "assignment_id", join_type="inner").sort_by("assignment_id")
