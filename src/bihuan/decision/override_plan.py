"""Allocation and lots when some contacts are forced by hand: those first, the others in the rest.

A forced contact takes its place within the real limits before anything is optimised, and takes no
part in the lot: nobody can say what would have happened without it. What remains of the limits is
shared out among the others as always.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.decision.allocation.allocate import Allocation, limit_usage
from bihuan.decision.allocation.limit import Limit
from bihuan.decision.assign import Strata, design_strata, draw_lots, inflate
from bihuan.decision.eligibility import Mask, Stage
from bihuan.decision.override import OverrideMasks

BY_HAND = "by_hand"
SKIPPED_PHASES = ("suitability", "value")
"""What a person may know better than the rules; the other phases bind people too."""

Allocate = Callable[[NDArray[np.float64], Sequence[Limit]], Allocation]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Who is planned with what, and who of them is contacted.

    Parameters
    ----------
    allocation
        Of all customers.
    strata
        Of the planned customers, in their order.
    is_treated
        Who of them is contacted.
    """

    allocation: Allocation
    strata: Strata
    is_treated: Mask


def stages_by_hand(stages: Sequence[Stage], masks: OverrideMasks | None) -> list[Stage]:
    """Add the gate of the overrides, and let forced contacts through the gates they skip."""
    if masks is None:
        return list(stages)
    title = {"zh": "人工干预", "en": "Laid down by hand"}
    changed = [Stage(BY_HAND, title, masks.keep, "eligibility")]
    for stage in stages:
        if stage.phase in SKIPPED_PHASES:
            forced = masks.forced if stage.keep.ndim == 1 else masks.forced[:, None]
            stage = Stage(stage.name, stage.title, stage.keep | forced, stage.phase)
        changed.append(stage)
    return changed


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """What is to be shared out among whom.

    Parameters
    ----------
    campaign_id, seed
        Name the lot.
    customer_id
        Rows.
    channel
        Of each candidate.
    limits
        The real limits.
    control_share
        Share of the planned customers to hold out.
    forced
        Whose contact is forced; None: nobody's.
    """

    campaign_id: str
    seed: int
    customer_id: pa.Array
    channel: Sequence[str]
    limits: Sequence[Limit]
    control_share: float
    forced: Mask | None = None


def draw_plan(order: Order, value: NDArray[np.float64], keep: Mask, allocate: Allocate) -> Drawn:
    """Share out the limits, the forced contacts first, and draw the lots of the others.

    Parameters
    ----------
    order
        Rows, limits, lot.
    value
        Of every pair, NaN where it did not pass the funnel; of forced pairs whatever is expected,
        which may be nothing.
    keep
        Pairs that passed.
    allocate
        Finds the plan for values and limits.
    """
    by_hand = np.full(len(value), -1, dtype=np.int32)
    rest = tuple(order.limits)
    if order.forced is not None and order.forced.any():
        by_hand = _place_forced(order, order.forced, value, keep, allocate)
        rest = tuple(_less(limit, limit_usage(limit, by_hand)) for limit in rest)
        value = np.where(order.forced[:, None], np.nan, value)
    allocation = allocate(value, inflate(rest, order.control_share))
    strata = design_strata(order.channel, allocation.choice, rest, order.control_share)
    chosen = order.customer_id.take(pa.array(np.flatnonzero(allocation.choice >= 0)))
    treated = draw_lots(chosen, strata, seed=order.seed, campaign_id=order.campaign_id)
    if not (by_hand >= 0).any():
        return Drawn(allocation, strata, treated)
    return _joined(Drawn(allocation, strata, treated), by_hand, order.limits)


def _place_forced(
    order: Order, forced: Mask, value: NDArray[np.float64], keep: Mask, allocate: Allocate
) -> NDArray[np.int32]:
    """Return the candidate of each forced customer, as many as there is room for."""
    rows = np.flatnonzero(forced)
    worth = np.nan_to_num(value[rows])
    worth = np.where(keep[rows], worth - worth.min(initial=0.0) + 1.0, np.nan)
    here = [
        replace(
            limit,
            weight=limit.weight if limit.weight.ndim == 1 else limit.weight[rows],
            members=None if limit.members is None else limit.members[rows],
        )
        for limit in order.limits
        if limit.kind != "minimum"
    ]
    choice = np.full(len(value), -1, dtype=np.int32)
    choice[rows] = allocate(worth, here).choice
    return choice


def _less(limit: Limit, used: float) -> Limit:
    return replace(limit, bound=max(limit.bound - used, 0.0))


def _joined(drawn: Drawn, by_hand: NDArray[np.int32], limits: Sequence[Limit]) -> Drawn:
    """Put the forced contacts beside the others, in a stratum of their own."""
    allocation, strata = drawn.allocation, drawn.strata
    choice = np.where(by_hand >= 0, by_hand, allocation.choice)
    used = [limit_usage(limit, by_hand) for limit in limits]
    uses = tuple(
        replace(use, bound=use.bound + extra, usage=use.usage + extra)
        for use, extra in zip(allocation.limits, used, strict=True)
    )
    is_hand = by_hand[choice >= 0] >= 0
    member = np.full(len(is_hand), len(strata.names), dtype=strata.member.dtype)
    member[~is_hand] = strata.member
    is_treated: Mask = np.ones(len(is_hand), dtype=np.bool_)
    is_treated[~is_hand] = drawn.is_treated
    count = int(is_hand.sum())
    joined = Strata(
        (*strata.names, BY_HAND),
        member,
        np.append(strata.size, count),
        np.append(strata.treated, count),
    )
    contacts = choice.astype(np.int32)[:, None]
    return Drawn(replace(allocation, contacts=contacts, limits=uses), joined, is_treated)
