"""One campaign decided: funnel, value, allocation, lots, and the log that is written first."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from bihuan.data import Lake, Snapshot, TableContract, load_contract
from bihuan.decision.allocation.allocate import Allocation, allocate, limit_usage
from bihuan.decision.allocation.limit import ROUNDING, Limit
from bihuan.decision.assign import Strata, global_control, require_share
from bihuan.decision.eligibility import Funnel, Stage, global_control_stage, run_funnel
from bihuan.decision.override import OverrideMasks
from bihuan.decision.override_plan import BY_HAND, Drawn, Order, draw_plan, stages_by_hand
from bihuan.decision.value import Candidate, expected_value, require_candidates
from bihuan.kernel import Clock, DefectError, Progress, UserError, file_lock, hash_id

CONTRACT_FOLDER = Path(__file__).parent / "contracts"
HELD_OUT = "held_out"
OVER_LIMIT = "over_limit"
FORCED = "forced_by_hand"


class PlanError(UserError):
    """Inputs of a decision that do not go together, or a log that would lose one."""


@dataclass(frozen=True, slots=True, eq=False)
class DecisionInputs:
    """What is known about one campaign before it is decided.

    Parameters
    ----------
    campaign_id, as_of
        The campaign and the date of the data it is decided on.
    customer_id
        Customers considered, each once, shape ``(n,)``.
    candidates
        The m things that may be done.
    propensity
        Probability of a sale, 0..1, shape ``(n, m)``; NaN = not scored.
    margin, cost
        Of a sale and of a contact; shapes as for :func:`bihuan.decision.expected_value`.
    context, lever
        Further factors of the value.
    off
        Names of factors to leave out.
    org_unit_id
        Unit in charge of each customer, shape ``(n,)``; None where there are no units.
    stages
        Gates of the funnel, in order.
    limits
        Real limits: what is really contacted never exceeds them.
    control_share
        Share of the planned customers to hold out, 0..1.
    global_share
        Share of all customers that no campaign may contact, 0..1.
    global_seed
        Fixes the members of that share; the same for all campaigns of a workspace.
    policy_version
        Of the rules and models behind the numbers; written into every row.
    overrides
        What people have laid down for single customers; None: nothing.
    limit_units
        Org units whose customers a limit is for, by the limit's name, so that customers whom
        this batch does not hold can be told too; limits not named are for all, or for the units
        of their members.
    currency
        Of the values, for the unit of prices (``CNY per call``).
    """

    campaign_id: str
    as_of: date
    customer_id: pa.Array
    candidates: tuple[Candidate, ...]
    propensity: NDArray[np.floating]
    margin: ArrayLike
    cost: ArrayLike
    context: ArrayLike = 1.0
    lever: ArrayLike = 1.0
    off: tuple[str, ...] = ()
    org_unit_id: pa.Array | None = None
    stages: tuple[Stage, ...] = ()
    limits: tuple[Limit, ...] = ()
    control_share: float = 0.1
    global_share: float = 0.0
    global_seed: int = 0
    policy_version: str = "1"
    overrides: OverrideMasks | None = None
    limit_units: Mapping[str, frozenset[str]] = field(default_factory=dict)
    currency: str = "currency"


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A campaign decided.

    Parameters
    ----------
    inputs
        What it was decided on.
    value
        Expected value of every pair that passed the funnel, NaN elsewhere, shape ``(n, m)``.
    funnel
        Who fell where.
    allocation
        The plan for all customers, under limits raised by the share held out, and its
        certificate; contacts forced by hand are in its choice and usage, not in its value.
    strata
        The lot's design, over the customers with a candidate.
    decisions
        Rows of the lake table ``decision``, in the order of ``inputs.customer_id``.
    """

    inputs: DecisionInputs
    value: NDArray[np.float64]
    funnel: Funnel
    allocation: Allocation
    strata: Strata
    decisions: pa.Table

    @property
    def contacts(self) -> NDArray[np.int32]:
        """Candidate with which each customer is really contacted, -1 none, shape ``(n,)``."""
        treated = pc.equal(self.decisions["arm"], "treatment").to_numpy()
        return np.where(treated, self.allocation.choice, np.int32(-1))

    def real_usage(self) -> dict[str, float]:
        """Return what the real contacts use of each limit, by name, in the limit's unit."""
        contacts = self.contacts
        return {limit.name: limit_usage(limit, contacts) for limit in self.inputs.limits}

    def real_shortfall(self) -> dict[str, float]:
        """Return what the real contacts lack of each minimum that is missed, in its unit."""
        used = self.real_usage()
        missing = {
            limit.name: limit.bound - used[limit.name]
            for limit in self.inputs.limits
            if limit.is_floor
        }
        bounds = {limit.name: limit.bound for limit in self.inputs.limits}
        return {name: gap for name, gap in missing.items() if gap > ROUNDING * bounds[name]}


@cache
def decision_contract() -> TableContract:
    """Return the contract of the lake table ``decision``."""
    return load_contract(CONTRACT_FOLDER / "decision.yaml")


def decide(
    inputs: DecisionInputs,
    *,
    seed: int,
    clock: Clock,
    tolerance: float = 1e-3,
    progress: Progress | None = None,
) -> Plan:
    """Decide one campaign: who is contacted with what, who is held out, and why the rest is not.

    Parameters
    ----------
    inputs
        Customers, candidates, factors of value, gates and limits.
    seed
        Of ties and lots.
    clock
        Stamps the decisions.
    tolerance
        Relative gap at which the search for a better allocation may stop.
    progress
        Shows the steps and can stop the work.

    Returns
    -------
    Plan
        Nothing is published; see :func:`log_decisions`.

    Raises
    ------
    PlanError
        If ids are missing or repeated, or arrays differ in length.
    UserError
        From the factor, stage or limit that cannot be read.

    Notes
    -----
    The allocation is made for all eligible customers under limits raised by
    ``1 / (1 - control_share)``; then a completely randomised share of each stratum is held out.
    So the held-out are like the contacted but for the lot, and what is really contacted stays
    within the real limits.
    """
    _require_inputs(inputs)
    value = expected_value(
        inputs.propensity,
        inputs.margin,
        inputs.cost,
        context=inputs.context,
        lever=inputs.lever,
        off=inputs.off,
    )
    funnel = run_funnel(value.shape, _stages(inputs, value))
    value[~funnel.keep] = np.nan

    def share_out(worth: NDArray[np.float64], limits: Sequence[Limit]) -> Allocation:
        return allocate(
            worth, limits, tolerance=tolerance, seed=seed, progress=progress, unit=inputs.currency
        )

    order = Order(
        campaign_id=inputs.campaign_id,
        seed=seed,
        customer_id=inputs.customer_id,
        channel=[candidate.channel for candidate in inputs.candidates],
        limits=inputs.limits,
        control_share=inputs.control_share,
        forced=None if inputs.overrides is None else inputs.overrides.forced,
    )
    drawn = draw_plan(order, value, funnel.keep, share_out)
    decisions = _decision_table(inputs, value, funnel, drawn, clock)
    plan = Plan(inputs, value, funnel, drawn.allocation, drawn.strata, decisions)
    check_plan(plan)
    return plan


def check_plan(plan: Plan) -> None:
    """Raise :class:`DefectError` unless real contacts keep every hard limit."""
    usage = plan.real_usage()
    for limit in plan.inputs.limits:
        if not limit.is_floor and usage[limit.name] > limit.bound * (1 + ROUNDING):
            raise DefectError(
                f"Real contacts use {usage[limit.name]} of '{limit.name}', "
                f"whose bound is {limit.bound}."
            )


def log_decisions(
    lake: Lake,
    decisions: pa.Table,
    as_of: date,
    *,
    clock: Clock,
    lineage: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> Snapshot:
    """Publish the decisions of one campaign, before anything is delivered.

    Parameters
    ----------
    lake
        Where the table ``decision`` lives; one file per campaign, all campaigns of a date in one
        snapshot.
    decisions
        Rows of one campaign in the contract's schema.
    as_of
        Snapshot date.
    clock
        Stamps the publication.
    lineage
        What they were made from.
    replace
        Whether decisions of this campaign at this date that say something else may be replaced.
        Do so only while nothing of them has been delivered.

    Returns
    -------
    Snapshot
        The new one, or the present one if it already holds the same decisions.

    Raises
    ------
    PlanError
        If rows belong to several campaigns, or other decisions of the campaign are logged.
    """
    campaigns = pc.unique(decisions["campaign_id"]).to_pylist()
    if len(campaigns) != 1:
        raise PlanError(
            f"Decisions of {len(campaigns)} campaigns cannot be logged together.",
            remedy="Log one campaign at a time, with at least one row.",
            zh=f"一次只能记录一个活动的决策,而这里有 {len(campaigns)} 个。",
        )
    rows = decisions.select(decision_contract().names).cast(decision_contract().schema)
    fingerprint = _fingerprint(rows)
    name = f"part-{hash_id(campaigns[0])}.parquet"
    with file_lock(lake.root / ".decision.lock"):
        present = lake.view().find("decision", as_of)
        logged = {} if present is None else dict(present.lineage.get("campaigns", {}))
        if present is not None and campaigns[0] in logged:
            if logged[campaigns[0]]["content"] == fingerprint:
                return present
            if not replace:
                raise PlanError(
                    f"Campaign '{campaigns[0]}' has other decisions logged at {as_of}.",
                    remedy="Keep them if anything was delivered; otherwise say replace=True.",
                    zh=f"活动“{campaigns[0]}”在 {as_of} 已记录了不同的决策;若尚未投放可指定覆盖。",
                )
        logged[campaigns[0]] = {"content": fingerprint, **(lineage or {})}
        with (
            lake.publication(clock) as publication,
            publication.folder("decision", as_of, lineage={"campaigns": logged}) as folder,
        ):
            for path in () if present is None else present.files:
                if path.name != name:
                    _link(path, folder / path.name)
            pq.write_table(rows, folder / name, compression="zstd", compression_level=1)
        return lake.view().get("decision", as_of)


def _stages(inputs: DecisionInputs, value: NDArray[np.float64]) -> list[Stage]:
    stages = []
    if inputs.global_share > 0:
        is_control = global_control(
            inputs.customer_id, inputs.global_share, seed=inputs.global_seed
        )
        stages.append(global_control_stage(is_control))
    stages.extend(inputs.stages)
    return stages_by_hand([*stages, *value_stages(value)], inputs.overrides)


def value_stages(value: NDArray[np.float64]) -> list[Stage]:
    """Return the last gates: what is not scored, and what is worth no more than it costs."""
    scored = {"zh": "缺少评分", "en": "Not scored"}
    worth = {"zh": "期望价值不高于成本", "en": "Worth no more than the contact costs"}
    with np.errstate(invalid="ignore"):
        return [
            Stage("not_scored", scored, ~np.isnan(value)),
            Stage("no_value", worth, value > 0),
        ]


def _require_inputs(inputs: DecisionInputs) -> None:
    require_candidates(inputs.candidates)
    require_share("control_share", inputs.control_share)
    require_share("global_share", inputs.global_share)
    n, ids = len(inputs.customer_id), inputs.customer_id
    shape = np.shape(inputs.propensity)
    units = n if inputs.org_unit_id is None else len(inputs.org_unit_id)
    if shape != (n, len(inputs.candidates)) or units != n:
        raise PlanError(
            f"{n} customers, {len(inputs.candidates)} candidates, {units} org units and a "
            f"propensity of shape {shape} do not go together.",
            remedy="Give one row per customer and one column per candidate.",
            zh=f"{n} 位客户、{len(inputs.candidates)} 个候选与 propensity 的形状 {shape} 不一致。",
        )
    if ids.null_count or len(pc.unique(ids)) != n:
        counts = pc.value_counts(ids).to_pylist()
        twice = next((c["values"] for c in counts if c["counts"] > 1 or c["values"] is None), None)
        raise PlanError(
            f"Customer id {twice!r} is missing or repeated.",
            remedy="Consider every customer once.",
            zh=f"客户编号 {twice!r} 缺失或重复,请确保每位客户只出现一次。",
        )


def _decision_table(
    inputs: DecisionInputs,
    value: NDArray[np.float64],
    funnel: Funnel,
    drawn: Drawn,
    clock: Clock,
) -> pa.Table:
    allocation, strata, is_treated = drawn.allocation, drawn.strata, drawn.is_treated
    n, m = value.shape
    planned = np.flatnonzero(allocation.choice >= 0)
    candidate = allocation.choice[planned]
    names = [*(stage.name for stage in funnel.counts), OVER_LIMIT, HELD_OUT, FORCED]
    fell = funnel.reason().astype(np.int64)
    reason = np.where(fell < 0, names.index(OVER_LIMIT), fell)
    reason[planned] = np.where(is_treated, -1, names.index(HELD_OUT))
    is_hand = np.array([name == BY_HAND for name in strata.names], dtype=np.bool_)
    by_hand = is_hand[strata.member]
    reason[planned[by_hand]] = names.index(FORCED)
    arm = np.full(n, 2)
    arm[planned] = np.where(is_treated, 0, 1)
    probability = np.zeros(n)
    probability[planned] = strata.probability
    offers = [c.offer_id for c in inputs.candidates]
    channels = [c.channel for c in inputs.candidates]
    steps = np.array([c.step for c in inputs.candidates], dtype=np.int64)

    def spread(values: NDArray[Any]) -> pa.Array:
        """Put values of the planned customers into a column of all."""
        index = np.full(n, -1)
        index[planned] = np.arange(len(planned))
        return pa.array(values).take(pa.array(index, mask=index < 0))

    def factor(array: ArrayLike) -> pa.Array:
        matrix = np.broadcast_to(np.asarray(array, dtype=np.float64), (n, m))
        return spread(matrix[planned, candidate])

    prefix = hash_id("decision", inputs.campaign_id, inputs.as_of)
    columns: dict[str, Any] = {
        "decision_id": pc.binary_join_element_wise(prefix, inputs.customer_id.cast("string"), "-"),
        "campaign_id": pa.repeat(inputs.campaign_id, n),
        "customer_id": inputs.customer_id,
        "arm": _decode(arm, ["treatment", "control", "none"]),
        "treatment_probability": probability,
        "stratum": spread(np.asarray(_decode(strata.member, strata.names))),
        "offer_id": spread(np.asarray(_decode(candidate, offers))),
        "channel": spread(np.asarray(_decode(candidate, channels))),
        "org_unit_id": inputs.org_unit_id if inputs.org_unit_id is not None else pa.nulls(n),
        "step": spread(steps[candidate]),
        "propensity": factor(inputs.propensity),
        "expected_value": factor(value),
        "margin": factor(inputs.margin),
        "cost": factor(inputs.cost),
        "reason": _decode(reason, names),
        "policy_version": pa.repeat(inputs.policy_version, n),
        "decided_at": pa.repeat(pa.scalar(clock.now(), pa.timestamp("us", "UTC")), n),
    }
    schema = decision_contract().schema
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _decode(code: NDArray[np.integer], names: Any) -> pa.Array:
    """Return the name of each code; missing where the code is negative."""
    return pa.array(list(names), pa.string()).take(pa.array(code, pa.int64(), mask=code < 0))


def _fingerprint(rows: pa.Table) -> str:
    """Return a digest of what was decided, whenever it was."""
    sink = pa.BufferOutputStream()
    content = rows.drop_columns(["decided_at"]).combine_chunks()
    with pa.ipc.new_stream(sink, content.schema) as writer:
        writer.write_table(content)
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _link(source: Path, target: Path) -> None:
    """Show an immutable file under a second name; copy it where the disk cannot link."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
