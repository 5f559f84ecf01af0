"""The funnel before the decision: which candidates remain for whom, and where the others fell.

A stage is a mask that belongs to one of five phases: *eligibility* (may we market to the customer
at all), *applicability* (may this offer be sold to him, here), *suitability* (is it good for him),
*contact policy* (may this channel be used now) and *value* (is it worth it). Stages run phase by
phase; each is charged with what it alone took from what the earlier ones had left, so the counts
add up and every customer who gets nothing has one reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.decision.value import Candidate
from bihuan.kernel import UserError

Mask = NDArray[np.bool_]
PHASES: Mapping[str, Mapping[str, str]] = {
    "eligibility": {"zh": "营销资格", "en": "May be marketed to"},
    "applicability": {"zh": "商品适用", "en": "The offer may be sold to the customer"},
    "suitability": {"zh": "客户适配", "en": "The offer suits the customer"},
    "contact_policy": {"zh": "接触规则", "en": "The channel may be used now"},
    "value": {"zh": "价值", "en": "Worth the contact"},
}
"""The phases of the funnel in their order, with titles by language."""
_PHASE_OF = {
    "not_eligible": "applicability",
    "holds_excluded": "applicability",
    "unreachable": "contact_policy",
    "not_scored": "value",
    "no_value": "value",
}


class FunnelError(UserError):
    """Stages that do not go together with customers and candidates."""


@dataclass(frozen=True, slots=True, eq=False)
class Stage:
    """One gate of the funnel.

    Parameters
    ----------
    name
        Code that is written down as the reason (``opted_out``).
    title
        For readers, by language.
    keep
        True where customer and candidate may stay: shape ``(n_customers,)``, or
        ``(n_customers, n_candidates)``.
    phase
        One of :data:`PHASES`; by default the usual one of the stages of this room, and
        ``eligibility`` for a stage of one's own.

    Raises
    ------
    FunnelError
        If there is no such phase.
    """

    name: str
    title: Mapping[str, str]
    keep: Mask
    phase: str = ""

    def __post_init__(self) -> None:
        if not self.phase:
            object.__setattr__(self, "phase", _PHASE_OF.get(self.name, "eligibility"))
        if self.phase not in PHASES:
            raise FunnelError(
                f"Stage '{self.name}' belongs to no phase '{self.phase}'.",
                remedy=f"Choose from {', '.join(PHASES)}.",
                zh=f"环节“{self.name}”的阶段“{self.phase}”不存在,请从 {'、'.join(PHASES)} 中选择。",
            )


@dataclass(frozen=True, slots=True)
class StageCount:
    """What one stage did.

    Parameters
    ----------
    name, title
        Of the stage.
    customers_in, customers_dropped, customers_left
        Customers with at least one candidate before; who lost the last one here; after.
    pairs_dropped, pairs_left
        Customer x candidate pairs.
    phase
        To which the stage belongs.
    """

    name: str
    title: Mapping[str, str]
    customers_in: int
    customers_dropped: int
    customers_left: int
    pairs_dropped: int
    pairs_left: int
    phase: str


@dataclass(frozen=True, slots=True, eq=False)
class Funnel:
    """What remains, and what each stage took.

    Parameters
    ----------
    keep
        Pairs that passed every stage, shape ``(n_customers, n_candidates)``.
    fell_at
        Stage at which each pair fell, -1 where it remains; int8, same shape.
    counts
        One per stage, in the order in which they ran.
    """

    keep: Mask
    fell_at: NDArray[np.int8]
    counts: tuple[StageCount, ...]

    def reason(self) -> NDArray[np.int8]:
        """Return the stage that took each customer's last candidate, -1 if some remain; (n,)."""
        if not self.fell_at.shape[1]:
            return np.zeros(len(self.fell_at), dtype=np.int8)
        last = self.fell_at.max(axis=1)
        return np.where(self.keep.any(axis=1), np.int8(-1), last)

    def by_phase(self) -> tuple[StageCount, ...]:
        """Return what each of the five phases took, in order; also of phases without a stage."""
        customers, pairs = len(self.fell_at), self.fell_at.size
        if not self.fell_at.shape[1]:
            customers = 0
        found = []
        for phase, title in PHASES.items():
            inside = [count for count in self.counts if count.phase == phase]
            left = inside[-1].customers_left if inside else customers
            pairs_left = inside[-1].pairs_left if inside else pairs
            found.append(
                StageCount(
                    phase, title, customers, customers - left, left, pairs - pairs_left,
                    pairs_left, phase,
                )
            )  # fmt: skip
            customers, pairs = left, pairs_left
        return tuple(found)


def run_funnel(shape: tuple[int, int], stages: Sequence[Stage]) -> Funnel:
    """Pass all pairs through ``stages``.

    Parameters
    ----------
    shape
        ``(n_customers, n_candidates)``.
    stages
        At most 127. They are charged phase by phase, and in the order given within a phase.

    Raises
    ------
    FunnelError
        If a mask has another shape or is not boolean, or two stages share a name.

    Examples
    --------
    >>> dear = np.array([[True, True], [False, True]])
    >>> price = Stage("too_dear", {"en": "Too dear"}, dear, "suitability")
    >>> reach = Stage("unreachable", {"en": "No channel"}, np.array([True, False]))
    >>> funnel = run_funnel((2, 2), [reach, price])
    >>> [(c.name, c.customers_dropped, c.pairs_dropped) for c in funnel.counts]
    [('too_dear', 0, 1), ('unreachable', 1, 1)]
    >>> [c.customers_left for c in funnel.by_phase()]
    [2, 2, 2, 1, 1]
    >>> funnel.reason().tolist()
    [-1, 1]
    """
    _require_stages(shape, stages)
    order = list(PHASES)
    stages = sorted(stages, key=lambda stage: order.index(stage.phase))
    keep = np.ones(shape, dtype=np.bool_)
    fell_at = np.full(shape, -1, dtype=np.int8)
    present: Mask = np.full(shape[0], shape[1] > 0)
    pairs, counts = keep.size, []
    for i, stage in enumerate(stages):
        mask = stage.keep if stage.keep.ndim == 2 else stage.keep[:, None]
        fell_at[keep & ~mask] = i
        keep &= mask
        left = np.asarray(keep.any(axis=1))
        pairs_left = int(keep.sum())
        counts.append(
            StageCount(
                name=stage.name,
                title=stage.title,
                customers_in=int(present.sum()),
                customers_dropped=int((present & ~left).sum()),
                customers_left=int(left.sum()),
                pairs_dropped=pairs - pairs_left,
                pairs_left=pairs_left,
                phase=stage.phase,
            )
        )
        present, pairs = left, pairs_left
    return Funnel(keep, fell_at, tuple(counts))


def suppression_stage(suppressed: Mask, *, name: str = "suppressed") -> Stage:
    """Return the stage that takes out suppressed customers.

    Parameters
    ----------
    suppressed
        Who is suppressed, shape ``(n_customers,)``.
    name
        Code of the stage; another one for each list that is to be counted apart.
    """
    return Stage(name, {"zh": "降噪剔除", "en": "Suppressed"}, ~suppressed)


def global_control_stage(is_control: Mask) -> Stage:
    """Return the stage that keeps the global control group away from every campaign.

    Parameters
    ----------
    is_control
        Who belongs to it, shape ``(n_customers,)``.
    """
    return Stage("global_control", {"zh": "全局对照组", "en": "Global control group"}, ~is_control)


def offer_stage(candidates: Sequence[Candidate], members: Mapping[str, Mask]) -> Stage:
    """Return the stage that keeps customers within each offer's eligibility.

    Parameters
    ----------
    candidates
        Columns of the mask.
    members
        Per offer id, who is eligible, shape ``(n_customers,)``. Every offer must be named.
    """
    title = {"zh": "不符合商品资格", "en": "Not eligible for the offer"}
    return Stage("not_eligible", title, _by_key([c.offer_id for c in candidates], members, "offer"))


def reach_stage(candidates: Sequence[Candidate], reachable: Mapping[str, Mask]) -> Stage:
    """Return the stage that keeps channels on which a customer can be reached.

    Parameters
    ----------
    candidates
        Columns of the mask.
    reachable
        Per channel kind, who can be reached, shape ``(n_customers,)``. Every channel must be
        named.
    """
    title = {"zh": "渠道不可触达", "en": "Not reachable through the channel"}
    return Stage(
        "unreachable", title, _by_key([c.channel for c in candidates], reachable, "channel")
    )


def exclusion_stage(
    candidates: Sequence[Candidate],
    customer_id: pa.Array,
    holding: pa.Table,
    excludes: Mapping[str, Iterable[str]],
) -> Stage:
    """Return the stage that takes out offers whose excluded products a customer holds.

    Parameters
    ----------
    candidates
        Columns of the mask.
    customer_id
        Rows of the mask.
    holding
        What is held now: ``customer_id``, ``product_id``, and ``status`` if it has one (rows that
        are not ``active`` do not count).
    excludes
        Per offer id, the products that shut it out. Offers not named exclude nothing.
    """
    if "status" in holding.column_names:
        holding = holding.filter(pc.equal(holding["status"], "active"))
    row = pc.index_in(holding["customer_id"], value_set=customer_id)
    rows = row.fill_null(-1).to_numpy()
    held = _combine(holding["product_id"])
    keep = np.ones((len(customer_id), len(candidates)), dtype=np.bool_)
    for offer_id in {candidate.offer_id for candidate in candidates}:
        products = pa.array(sorted(excludes.get(offer_id, ())), pa.string())
        if not len(products):
            continue
        is_excluded = pc.is_in(held, value_set=products).to_numpy(zero_copy_only=False)
        columns = np.flatnonzero([c.offer_id == offer_id for c in candidates])
        shut = np.unique(rows[is_excluded & (rows >= 0)])
        keep[np.ix_(shut, columns)] = False
    return Stage(
        "holds_excluded", {"zh": "已持有互斥产品", "en": "Holds an excluded product"}, keep
    )


def opt_out_stage(
    candidates: Sequence[Candidate], customer_id: pa.Array, opt_out: pa.Table
) -> Stage:
    """Return the stage that honours opt-outs.

    Parameters
    ----------
    candidates
        Columns of the mask.
    customer_id
        Rows of the mask.
    opt_out
        Rows of the lake table: ``customer_id``, ``kind``, ``channel`` (a channel kind or
        ``all``). ``no_profiling`` shuts out every candidate, because a decision by propensity is
        one by profile; ``no_marketing`` shuts out its channel.
    """
    rows = pc.index_in(opt_out["customer_id"], value_set=customer_id).fill_null(-1).to_numpy()
    everywhere = pc.or_(
        pc.equal(opt_out["channel"], "all"), pc.equal(opt_out["kind"], "no_profiling")
    ).to_numpy()
    keep = np.ones((len(customer_id), len(candidates)), dtype=np.bool_)
    keep[rows[everywhere & (rows >= 0)]] = False
    for channel in {candidate.channel for candidate in candidates}:
        here = pc.equal(opt_out["channel"], channel).to_numpy() & (rows >= 0)
        columns = np.flatnonzero([c.channel == channel for c in candidates])
        keep[np.ix_(np.unique(rows[here]), columns)] = False
    return Stage("opted_out", {"zh": "客户已退订", "en": "Opted out"}, keep)


def _combine(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return combined if isinstance(combined, pa.Array) else combined.chunk(0)


def _by_key(keys: Sequence[str], masks: Mapping[str, Mask], noun: str) -> Mask:
    missing = sorted(set(keys) - set(masks))
    if missing:
        raise FunnelError(
            f"No mask for the {noun} '{missing[0]}'.",
            remedy=f"Say for every {noun} of the candidates who may get it.",
            zh=f"缺少 {noun} “{missing[0]}”的客户范围。",
        )
    return np.column_stack([masks[key] for key in keys]) if keys else np.empty((0, 0), np.bool_)


def _require_stages(shape: tuple[int, int], stages: Sequence[Stage]) -> None:
    names = [stage.name for stage in stages]
    twice = {name for name in names if names.count(name) > 1}
    if twice or len(stages) > np.iinfo(np.int8).max:
        raise FunnelError(
            f"Stages are not distinct: {sorted(twice) or len(stages)}.",
            remedy="Give at most 127 stages, each with its own name.",
            zh=f"漏斗环节重名或过多:{sorted(twice) or len(stages)}。",
        )
    for stage in stages:
        if stage.keep.dtype != np.bool_ or stage.keep.shape not in ((shape[0],), shape):
            raise FunnelError(
                f"Stage '{stage.name}' has a mask {stage.keep.dtype} of shape {stage.keep.shape}.",
                remedy=f"Give booleans of shape ({shape[0]},) or {shape}.",
                zh=f"环节“{stage.name}”的掩码形状 {stage.keep.shape} 与 {shape} 不符。",
            )
