"""Who of the planned customers is held out, by lot, so that the effect can be measured.

Complete randomisation within strata: in each stratum exactly so many are treated, every subset of
that size is equally likely, and the probability is written down. The lot is a keyed hash of the
customer id, so it depends on the seed, the campaign and the customer, and on nothing else: not on
the order of rows, not on a score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.decision.allocation.limit import ROUNDING, Limit
from bihuan.decision.allocation.options import Floats, Indices
from bihuan.kernel import UserError, random_stream
from bihuan.kernel.scatter import hash_ids, mix

SEPARATOR = " · "
MERGE_TRIALS = 30  # partners tried for a small stratum; keeps thousands of strata quick


class DesignError(UserError):
    """A hold-out that cannot be drawn."""


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """Groups of planned customers within which the lot is drawn.

    Parameters
    ----------
    names
        One per stratum; the channel, and where a limit had to be protected the limit's weight.
    member
        Stratum of each planned customer, shape ``(n,)``.
    size, treated
        Customers in each stratum and how many of them are treated, shape ``(n_strata,)``.
    """

    names: tuple[str, ...]
    member: Indices
    size: Indices
    treated: Indices

    @property
    def probability(self) -> Floats:
        """Exact probability of treatment of each planned customer, shape ``(n,)``."""
        return (self.treated / np.maximum(self.size, 1))[self.member]


def require_share(name: str, share: float) -> None:
    """Raise :class:`DesignError` unless ``0 <= share < 1``."""
    if not 0.0 <= share < 1.0:
        raise DesignError(
            f"{name} is {share}.",
            remedy="Give a share of at least 0 and below 1, for example 0.1.",
            zh=f"{name} 为 {share},应不小于 0 且小于 1,例如 0.1。",
        )


def inflate(limits: Sequence[Limit], control_share: float) -> tuple[Limit, ...]:
    """Return the limits of the plan whose held-out part is never contacted.

    Parameters
    ----------
    limits
        The real ones.
    control_share
        Share held out, 0..1.

    Returns
    -------
    tuple of Limit
        Bounds divided by ``1 - control_share``, those of minimums too, so that the real contacts
        meet them about. A limit whose weight differs between customers keeps its bound, because
        the lot could hold out the light ones only.
    """
    require_share("control_share", control_share)
    return tuple(
        limit
        if limit.weight.ndim == 2 and not limit.is_floor
        else replace(limit, bound=limit.bound / (1.0 - control_share))
        for limit in limits
    )


def design_strata(
    channel: Sequence[str],
    choice: NDArray[np.integer],
    limits: Sequence[Limit],
    control_share: float,
) -> Strata:
    """Choose strata, and how many to treat in each, so that no lot can break a real limit.

    The strata are channels. Where the most loaded lot could still break a limit (a maximum of an
    offer sold through several channels, seats of one unit), the strata are split by what their
    customers use of it; within equal users every lot uses the same. Strata too small to hold two
    in each arm are put together again where no lot can then break a limit.

    Parameters
    ----------
    channel
        Channel of each candidate.
    choice
        Candidate of each customer in the plan, -1 none, shape ``(n_customers,)``.
    limits
        The real limits, of the same customers; the plan was made under :func:`inflate`.
    control_share
        Share to hold out, 0..1.

    Returns
    -------
    Strata
        Of the customers with a candidate, in their order. About ``control_share`` is held out in
        all; a stratum that stays very small may be wholly treated or wholly held out, and its
        probability says so.
    """
    require_share("control_share", control_share)
    # those with a weight per customer are not inflated, and no lot has to be kept from a minimum
    narrow = [limit for limit in limits if limit.weight.ndim == 1 and not limit.is_floor]
    cells, cell = _cells(choice, narrow)
    kinds, code = np.unique(np.array(channel, dtype=str)[cells.candidate], return_inverse=True)
    names, member = [str(kind) for kind in kinds], code.astype(np.int64)
    treated = cells.floor(member, len(names), control_share)
    for i, limit in enumerate(narrow):
        if cells.load(member, treated, i) > limit.bound * (1 + ROUNDING):
            member, names = _split(member, names, limit.name, cells.weight[:, i])
            treated = cells.floor(member, len(names), control_share)
    bounds = np.array([limit.bound for limit in narrow]) * (1 + ROUNDING)
    if control_share > 0:
        member, names = _merge_small(cells, member, names, bounds, control_share)
    treated = cells.floor(member, len(names), control_share)
    _raise(cells, member, treated, bounds, control_share)
    size = cells.size(member, len(names))
    return Strata(tuple(names), member[cell], size, treated)


def draw_lots(
    customer_id: pa.Array | Sequence[str], strata: Strata, *, seed: int, campaign_id: str
) -> NDArray[np.bool_]:
    """Return who is treated, shape ``(n,)``.

    Parameters
    ----------
    customer_id
        Of the planned customers, each once.
    strata
        Of the same customers.
    seed, campaign_id
        Name the lot. Another campaign draws another.
    """
    first = hash_customers(customer_id, seed, "assign", campaign_id)
    second = hash_customers(customer_id, seed, "assign again", campaign_id)
    order = np.lexsort((second, first, strata.member))
    begin = np.cumsum(strata.size) - strata.size
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    place -= begin[strata.member]
    is_treated: NDArray[np.bool_] = place < strata.treated[strata.member]
    return is_treated


def global_control(
    customer_id: pa.Array | Sequence[str], share: float, *, seed: int = 0
) -> NDArray[np.bool_]:
    """Return who belongs to the group that no campaign contacts, shape ``(n,)``.

    Parameters
    ----------
    customer_id
        Any customers.
    share
        Of all customers, 0..1. A larger share keeps the members of a smaller one.
    seed
        The workspace's; the same for all campaigns.

    Examples
    --------
    >>> global_control(["a", "b", "c"], 0.0).tolist()
    [False, False, False]
    """
    require_share("global_share", share)
    return hash_customers(customer_id, seed, "global control") < np.uint64(share * 2.0**64)


def hash_customers(
    customer_id: pa.Array | Sequence[str], seed: int, *purpose: str
) -> NDArray[np.uint64]:
    """Return 64 evenly scattered bits per id that depend on the id, the seed and the purpose."""
    ids = customer_id
    if not isinstance(ids, (pa.Array, pa.ChunkedArray)):
        ids = pa.array(ids, pa.large_string())
    if ids.null_count:
        raise DesignError(
            f"{ids.null_count} customers have no id.",
            remedy="Give every customer an id before drawing lots.",
            zh=f"有 {ids.null_count} 位客户没有编号,无法抽签。",
        )
    return hash_ids(ids, seed, *purpose)


def balance(covariates: pa.Table, strata: Strata, is_treated: NDArray[np.bool_]) -> pa.Table:
    """Compare treated and held-out customers on what was known before.

    Parameters
    ----------
    covariates
        One row per planned customer; numbers and booleans are compared by mean, texts by the
        share of each value. Missing values are left out.
    strata, is_treated
        The design and its lot.

    Returns
    -------
    pyarrow.Table
        ``covariate``, ``treated`` and ``control`` (means), ``difference`` (standardised by the
        pooled deviation, strata weighted by size) and ``z`` (the difference over its standard
        deviation under the lot; beyond 4 there is something wrong with the lot). Null where no
        stratum has two in each arm.

    References
    ----------
    .. [1] Imbens and Rubin (2015), Causal Inference for Statistics, Social, and Biomedical
       Sciences, chapters 9 and 14.
    """
    rows = []
    for name in covariates.column_names:
        for label, column in _numbers(name, covariates[name]):
            rows.append({"covariate": label, **_compare(column, strata, is_treated)})
    schema = pa.schema(
        [("covariate", pa.string())]
        + [(name, pa.float64()) for name in ("treated", "control", "difference", "z")]
    )
    return pa.Table.from_pylist(rows, schema=schema)


@dataclass(frozen=True, slots=True, eq=False)
class _Cells:
    """Planned customers who use every limit alike: how many, with what, using how much."""

    count: Indices
    candidate: Indices
    weight: Floats  # (n_cells, n_limits)

    def size(self, member: Indices, n_strata: int) -> Indices:
        """Return the customers of each stratum, given the stratum of each cell."""
        return np.bincount(member, self.count, n_strata).astype(np.int64)

    def floor(self, member: Indices, n_strata: int, control_share: float) -> Indices:
        """Return how many of each stratum to treat, rounded down."""
        share = self.size(member, n_strata) * (1.0 - control_share)
        whole: Indices = np.floor(share + ROUNDING).astype(np.int64)
        return whole

    def heaviest(self, inside: Indices, control_share: float) -> Floats:
        """Return the most that the treated of one stratum can use of each limit, (n_limits,)."""
        treated = math.floor(self.count[inside].sum() * (1.0 - control_share) + ROUNDING)
        weight = self.weight[inside]
        order = np.argsort(-weight, axis=0, kind="stable")
        count = self.count[inside][order]
        taken = np.clip(treated - (np.cumsum(count, axis=0) - count), 0, count)
        load: Floats = np.sum(np.take_along_axis(weight, order, axis=0) * taken, axis=0)
        return load

    def load(self, member: Indices, treated: Indices, limit: int) -> float:
        """Return the most that all treated can use of one limit, whatever the lot."""
        order = np.lexsort((-self.weight[:, limit], member))
        count, stratum = self.count[order], member[order]
        before = np.cumsum(count) - count
        before -= before[np.searchsorted(stratum, stratum)]
        taken = np.clip(treated[stratum] - before, 0, count)
        return float(self.weight[order, limit] @ taken)


def _cells(choice: NDArray[np.integer], limits: Sequence[Limit]) -> tuple[_Cells, Indices]:
    """Group the planned customers by candidate and membership; return each one's cell, too."""
    planned = np.flatnonzero(choice >= 0)
    words = random_stream(0, "assign", "cells").integers(1, 2**63, len(limits), dtype=np.uint64)
    mark = np.zeros(len(planned), dtype=np.uint64)
    for limit, word in zip(limits, words, strict=True):
        if limit.members is not None:
            mark[limit.members[planned]] += word
    mark = mix(mark ^ mix(choice[planned].astype(np.uint64)))
    _, first, cell = np.unique(mark, return_index=True, return_inverse=True)
    candidate = choice[planned[first]].astype(np.int64)
    weight = np.zeros((len(first), len(limits)))
    for i, limit in enumerate(limits):
        inside = 1.0 if limit.members is None else limit.members[planned[first]]
        weight[:, i] = limit.weight[candidate] * inside
    return _Cells(np.bincount(cell, minlength=len(first)), candidate, weight), cell


def _split(
    member: Indices, names: Sequence[str], limit: str, weight: Floats
) -> tuple[Indices, list[str]]:
    """Split strata by the weight of one limit."""
    levels, level = np.unique(weight, return_inverse=True)
    pairs, new = np.unique(member * len(levels) + level, return_inverse=True)
    old = pairs // len(levels)
    is_split = np.bincount(old, minlength=len(names)) > 1
    labels = [
        f"{names[o]}{SEPARATOR}{limit}={levels[p % len(levels)]:g}" if is_split[o] else names[o]
        for o, p in zip(old.tolist(), pairs.tolist(), strict=True)
    ]
    return new.astype(np.int64), labels


def _merge_small(
    cells: _Cells, member: Indices, names: list[str], bounds: Floats, control_share: float
) -> tuple[Indices, list[str]]:
    """Put small strata of one channel together, as far as no lot can then break a limit.

    A stratum is small if it cannot hold two customers in each arm; evaluation could not use it.
    """
    enough = 2 / min(control_share, 1 - control_share)
    inside = [np.flatnonzero(member == s) for s in range(len(names))]
    size = [int(cells.count[part].sum()) for part in inside]
    channel = [names[s].split(SEPARATOR)[0] for s in range(len(names))]
    own = [cells.heaviest(part, control_share) for part in inside]
    load = np.sum(own, axis=0)
    for s in sorted(range(len(names)), key=lambda s: size[s]):
        partners = [o for o in range(len(names)) if o != s and channel[o] == channel[s] and size[o]]
        for other in sorted(partners, key=lambda o: size[o])[:MERGE_TRIALS]:
            if size[s] >= enough or not size[s]:
                break
            both = np.concatenate([inside[other], inside[s]])
            joint = cells.heaviest(both, control_share)
            if (load - own[s] - own[other] + joint <= bounds).all():
                load = load - own[s] - own[other] + joint
                inside[other], own[other] = both, joint
                size[other], size[s], own[s] = size[other] + size[s], 0, 0 * joint
    kept = [s for s in range(len(names)) if size[s]]
    merged = member.copy()
    for new, s in enumerate(kept):
        merged[inside[s]] = new
    is_mixed = [len(np.unique(member[inside[s]])) > 1 for s in kept]
    return merged, [names[s] + " +" * mixed for s, mixed in zip(kept, is_mixed, strict=True)]


def _raise(
    cells: _Cells, member: Indices, treated: Indices, bounds: Floats, control_share: float
) -> None:
    """Treat one more in some strata, as far as the total share asks and every limit allows."""
    size = cells.size(member, len(treated))
    loads = [cells.load(member, treated, i) for i in range(len(bounds))]
    heaviest = np.zeros((len(treated), len(bounds)))
    np.maximum.at(heaviest, member, cells.weight)
    load = np.array(loads)
    wanted = round(float(size.sum()) * (1.0 - control_share)) - int(treated.sum())
    rest = size * (1.0 - control_share) - treated
    for stratum in np.argsort(-rest, kind="stable").tolist():
        keeps_control = treated[stratum] + 1 < size[stratum] or size[stratum] == 1
        loaded = load + heaviest[stratum]
        if wanted > 0 and rest[stratum] > ROUNDING and keeps_control and (loaded <= bounds).all():
            treated[stratum] += 1
            load, wanted = loaded, wanted - 1


def _numbers(name: str, column: pa.ChunkedArray) -> list[tuple[str, Floats]]:
    """Return the numeric columns that stand for a covariate."""
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        text = column.cast(pa.string())
        known = np.where(pc.is_null(text).to_numpy(), np.nan, 1.0)
        return [
            (f"{name} = {code}", known * pc.equal(text, code).fill_null(False).to_numpy())
            for code in sorted(pc.unique(text.drop_null()).to_pylist())
        ]
    return [(name, column.cast(pa.float64()).fill_null(np.nan).to_numpy())]


def _compare(
    column: Floats, strata: Strata, is_treated: NDArray[np.bool_]
) -> dict[str, float | None]:
    known = ~np.isnan(column)
    n = len(strata.size)
    moments = []
    for arm in (is_treated & known, ~is_treated & known):
        group, x = strata.member[arm], column[arm]
        count = np.bincount(group, minlength=n).astype(np.float64)
        mean = np.bincount(group, x, minlength=n) / np.maximum(count, 1)
        spread = np.bincount(group, (x - mean[group]) ** 2, minlength=n)
        moments.append((count, mean, spread / np.maximum(count - 1, 1)))
    (n1, m1, v1), (n0, m0, v0) = moments
    usable = (n1 > 1) & (n0 > 1)
    if not usable.any():
        return {"treated": None, "control": None, "difference": None, "z": None}
    share = (n1 + n0)[usable] / (n1 + n0)[usable].sum()
    treated, control = float(share @ m1[usable]), float(share @ m0[usable])
    deviation = float(np.sqrt(share @ ((v1 + v0) / 2)[usable]))
    error = float(np.sqrt(share**2 @ (v1 / np.maximum(n1, 1) + v0 / np.maximum(n0, 1))[usable]))
    return {
        "treated": treated,
        "control": control,
        "difference": (treated - control) / deviation if deviation > 0 else 0.0,
        "z": (treated - control) / error if error > 0 else 0.0,
    }
