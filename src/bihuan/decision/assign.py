"""Who of the planned customers is held out, by lot, so that the effect can be measured.

Complete randomisation within strata: in each stratum exactly so many are treated, every subset of
that size is equally likely, and the probability is written down. The lot is a keyed hash of the
customer id, so it depends on the seed, the campaign and the customer, and on nothing else: not on
the order of rows, not on a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.decision.options import ROUNDING, Floats, Indices, Limit, mix
from bihuan.kernel import UserError, random_stream

CHUNK_IDS = 1 << 20


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
        Bounds divided by ``1 - control_share``. A limit whose weight differs between customers
        keeps its bound, because the lot could hold out the light ones only.
    """
    require_share("control_share", control_share)
    return tuple(
        limit
        if limit.weight.ndim == 2
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
    customers use of it; within equal users every lot uses the same.

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
        all; very small strata may be wholly treated or wholly held out, and their probability
        says so.
    """
    require_share("control_share", control_share)
    planned = np.flatnonzero(choice >= 0)
    candidate = choice[planned]
    kinds, code = np.unique(
        np.asarray(channel, dtype=object)[candidate].astype(str), return_inverse=True
    )
    labels = [str(kind) for kind in kinds]
    use = [_weight(limit, planned, candidate) for limit in limits]
    member = code.astype(np.int64)
    for limit, weight in zip(limits, use, strict=True):
        treated = _floor_share(np.bincount(member, minlength=len(labels)), control_share)
        if _heaviest(member, treated, weight).sum() > limit.bound * (1 + ROUNDING):
            member, labels = _split(member, labels, limit.name, weight)
    size = np.bincount(member, minlength=len(labels))
    treated = _floor_share(size, control_share)
    bounds = np.array([limit.bound for limit in limits])
    treated = _round_up(member, size, treated, (use, bounds), control_share)
    return Strata(tuple(labels), member, size, treated)


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
    ids = (
        pa.array(customer_id, pa.large_string())
        if not isinstance(customer_id, (pa.Array, pa.ChunkedArray))
        else customer_id.cast(pa.large_string())
    )
    if isinstance(ids, pa.ChunkedArray):
        ids = ids.combine_chunks()
    if ids.null_count:
        raise DesignError(
            f"{ids.null_count} customers have no id.",
            remedy="Give every customer an id before drawing lots.",
            zh=f"有 {ids.null_count} 位客户没有编号,无法抽签。",
        )
    salt = random_stream(seed, *purpose).integers(0, 2**63, dtype=np.uint64)
    parts = [_hash_chunk(ids.slice(at, CHUNK_IDS), salt) for at in range(0, len(ids), CHUNK_IDS)]
    return np.concatenate([np.empty(0, dtype=np.uint64), *parts])


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


def _weight(limit: Limit, planned: Indices, candidate: NDArray[np.integer]) -> Floats:
    weight = limit.weight[candidate] if limit.weight.ndim == 1 else limit.weight[planned, candidate]
    return weight if limit.members is None else np.where(limit.members[planned], weight, 0.0)


def _floor_share(size: Indices, control_share: float) -> Indices:
    whole: Indices = np.floor(size * (1.0 - control_share) + ROUNDING).astype(np.int64)
    return whole


def _heaviest(member: Indices, treated: Indices, weight: Floats) -> Floats:
    """Return the most that the treated of each stratum can use, whatever the lot."""
    order = np.lexsort((-weight, member))
    begin = np.searchsorted(member[order], np.arange(len(treated)))
    place = np.arange(len(order)) - begin[member[order]]
    is_in = place < treated[member[order]]
    inside = order[is_in]
    load: Floats = np.bincount(member[inside], weight[inside], len(treated)).astype(np.float64)
    return load


def _split(
    member: Indices, labels: Sequence[str], limit: str, weight: Floats
) -> tuple[Indices, list[str]]:
    """Split strata by the weight of one limit."""
    levels, level = np.unique(weight, return_inverse=True)
    pairs, new = np.unique(member * len(levels) + level, return_inverse=True)
    old = pairs // len(levels)
    is_split = np.bincount(old, minlength=len(labels)) > 1
    names = [
        f"{labels[o]} · {limit}={levels[p % len(levels)]:g}" if is_split[o] else labels[o]
        for o, p in zip(old, pairs, strict=True)
    ]
    return new.astype(np.int64), names


def _round_up(
    member: Indices,
    size: Indices,
    treated: Indices,
    limits: tuple[Sequence[Floats], Floats],
    control_share: float,
) -> Indices:
    """Treat one more in some strata, as far as the total share asks and every limit allows."""
    use, bounds = limits
    n_strata = len(size)
    treated = treated.copy()
    loads = [_heaviest(member, treated, weight) for weight in use]
    load = np.array([part.sum() for part in loads])
    step = np.zeros((n_strata, len(use)))
    for i, weight in enumerate(use):
        np.maximum.at(step[:, i], member, weight)
    wanted = round(float(size.sum()) * (1.0 - control_share)) - int(treated.sum())
    rest = size * (1.0 - control_share) - treated
    for stratum in np.argsort(-rest, kind="stable"):
        if wanted <= 0:
            break
        keeps_control = treated[stratum] + 1 < size[stratum] or size[stratum] == 1
        if rest[stratum] > ROUNDING and keeps_control:
            loaded = load + step[stratum]
            if (loaded <= bounds * (1 + ROUNDING)).all():
                treated[stratum] += 1
                load, wanted = loaded, wanted - 1
    return treated


def _hash_chunk(ids: pa.Array, salt: np.uint64) -> NDArray[np.uint64]:
    offsets = np.frombuffer(ids.buffers()[1], dtype=np.int64)[
        ids.offset : ids.offset + len(ids) + 1
    ]
    length = np.diff(offsets)
    width = max(1, -(-int(length.max(initial=0)) // 8))
    padded = np.zeros(len(ids) * width * 8, dtype=np.uint8)
    if ids.buffers()[2] is not None:
        data = np.frombuffer(ids.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
        shift = np.arange(len(ids)) * width * 8 - (offsets[:-1] - offsets[0])
        padded[np.repeat(shift, length) + np.arange(len(data))] = data
    words = padded.view("<u8").reshape(len(ids), width)
    mark = mix(length.astype(np.uint64) ^ salt)
    for column in range(width):  # only as far as the id goes: its neighbours must not matter
        mark = np.where(length > 8 * column, mix(mark ^ words[:, column]), mark)
    return mark


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
