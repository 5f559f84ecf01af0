"""What the plan does to people: how often they are contacted, by whom else, and who is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import chdtrc

from bihuan.kernel import NotEstimable

Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MOST_SHOWN = 6  # contacts per customer from which a histogram has one last class
FEW = 30  # eligible customers below which a group is not compared
TWO_GROUPS = 2


@dataclass(frozen=True, slots=True)
class Fatigue:
    """How often the customers of the plan have been contacted, this plan included.

    Parameters
    ----------
    days
        Length of the window that ends when the campaign starts.
    most
        Contacts that are still bearable within it.
    customers
        By number of contacts, 1, 2, ... and the last class "that many or more".
    mean
        Contacts per customer of the plan.
    share_above
        Share of the plan's customers with more than ``most``, 0..1.
    """

    days: int
    most: int
    customers: tuple[int, ...]
    mean: float
    share_above: float


def measure_fatigue(
    ids: pa.Array,
    past: pa.Table,
    starts_on: date,
    limits: Mapping[int, int],
) -> tuple[Fatigue, ...]:
    """Count the contacts of each customer of the plan in the days before it starts.

    Parameters
    ----------
    ids
        Customers whom the plan contacts, each once.
    past
        ``customer_id`` and ``day`` (date) of earlier contacts, and of contacts that other
        campaigns have already planned.
    starts_on
        First day of the campaign.
    limits
        By length of the window in days, how many contacts are still bearable.

    Returns
    -------
    tuple of Fatigue
        One per window, the shortest first. The contact of the plan counts as one.
    """
    row = _rows(past["customer_id"], ids)
    day = past["day"].cast(pa.date32())
    found = []
    for days, most in sorted(limits.items()):
        first = starts_on - timedelta(days=days)
        inside = pc.greater_equal(day, pa.scalar(first)).to_numpy(zero_copy_only=False)
        number = 1 + np.bincount(row[inside & (row >= 0)], minlength=len(ids))
        shown = np.bincount(np.minimum(number, MOST_SHOWN), minlength=MOST_SHOWN + 1)[1:]
        found.append(
            Fatigue(
                days=days,
                most=most,
                customers=tuple(int(k) for k in shown),
                mean=float(number.mean()) if len(ids) else 0.0,
                share_above=float((number > most).mean()) if len(ids) else 0.0,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Overlap:
    """Customers shared with one other campaign.

    Parameters
    ----------
    campaign_id
        The other campaign.
    both
        Contacted by both.
    our_control
        Held out here and contacted there: the comparison here no longer shows "no contact".
    their_control
        Contacted here and held out there: this plan spoils the other's comparison.
    """

    campaign_id: str
    both: int
    our_control: int
    their_control: int


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Customers shared with all live campaigns.

    Parameters
    ----------
    campaigns
        One entry per campaign, the largest overlap first.
    share
        Share of the contacted customers whom another campaign contacts too, 0..1.
    control_share
        Share of the held-out customers whom another campaign contacts, 0..1.
    """

    campaigns: tuple[Overlap, ...]
    share: float
    control_share: float


def measure_overlap(contacted: pa.Array, held_out: pa.Array, live: pa.Table) -> Overlaps:
    """Count the customers that the plan shares with campaigns that are live at the same time.

    Parameters
    ----------
    contacted, held_out
        Customers of the plan by arm, each once.
    live
        ``campaign_id``, ``customer_id`` and ``arm`` (``treatment`` or ``control``) of the others.
    """
    is_contact = pc.equal(live["arm"], "treatment").to_numpy(zero_copy_only=False)
    ours, held = _rows(live["customer_id"], contacted), _rows(live["customer_id"], held_out)
    names = pc.unique(live["campaign_id"]).to_pylist()
    campaign = _rows(live["campaign_id"], pa.array(names, pa.string()))

    def count(row: Ints, at: Flags) -> list[int]:
        """Count each customer once per campaign, however many steps it has."""
        pairs = np.unique(np.stack([campaign[at], row[at]]), axis=1)
        return [int(k) for k in np.bincount(pairs[0], minlength=len(names))]

    both = count(ours, is_contact & (ours >= 0))
    our_control = count(held, is_contact & (held >= 0))
    theirs = count(ours, ~is_contact & (ours >= 0))
    found = [
        Overlap(*row) for row in zip(names, both, our_control, theirs, strict=True) if any(row[1:])
    ]
    found.sort(key=lambda o: (-o.both, -o.our_control, -o.their_control, o.campaign_id))
    shared = len(np.unique(ours[is_contact & (ours >= 0)]))
    spoilt = len(np.unique(held[is_contact & (held >= 0)]))
    return Overlaps(tuple(found), shared / max(len(contacted), 1), spoilt / max(len(held_out), 1))


@dataclass(frozen=True, slots=True)
class GroupRate:
    """How often one group is chosen.

    Parameters
    ----------
    value
        The group; empty where the value is missing.
    considered, contacted
        Customers, and those of them whom the plan contacts.
    rate
        contacted / considered, 0..1.
    mean_price
        Mean monthly price of what is offered to them, in the workspace's currency; not estimable
        where nobody is contacted.
    """

    value: str
    considered: int
    contacted: int
    rate: float
    mean_price: float | NotEstimable


@dataclass(frozen=True, slots=True)
class Fairness:
    """How evenly the plan chooses among the groups of one trait.

    Parameters
    ----------
    trait
        Name of the tag.
    title
        By language.
    groups
        The most often chosen first; groups with few customers are listed and not compared.
    ratio
        Lowest rate over highest rate, 0..1; not estimable with fewer than two groups to compare.
    p_value
        Chi-square test of equal rates; 1 where nothing can be compared.
    price_ratio
        Lowest mean price over highest, 0..1.
    """

    trait: str
    title: Mapping[str, str]
    groups: tuple[GroupRate, ...]
    ratio: float | NotEstimable
    p_value: float
    price_ratio: float | NotEstimable


def measure_fairness(
    trait: str,
    title: Mapping[str, str],
    values: Sequence[str | None] | pa.Array,
    contacted: Flags,
    price: Floats,
) -> Fairness:
    """Compare how often the groups of one trait are chosen, and what they are asked to pay.

    Parameters
    ----------
    trait, title
        Of the tag.
    values
        Group of each considered customer, shape ``(n,)``; missing is a group of its own that is
        not compared.
    contacted
        Whom the plan contacts, shape ``(n,)``.
    price
        Monthly price of what is offered, in the workspace's currency, shape ``(n,)``; read where
        contacted.
    """
    column = values if isinstance(values, pa.Array) else pa.array(values, pa.string())
    names = sorted(v for v in pc.unique(column).to_pylist() if v is not None)
    code = _rows(column, pa.array(names, pa.string()))
    code = np.where(code < 0, len(names), code)
    n = np.bincount(code, minlength=len(names) + 1).astype(np.float64)
    k = np.bincount(code, weights=contacted, minlength=len(names) + 1).astype(np.float64)
    spent = np.where(contacted, price, 0.0)
    paid = np.bincount(code, weights=spent, minlength=len(names) + 1).astype(np.float64)
    groups = [
        GroupRate(
            value=name,
            considered=int(n[i]),
            contacted=int(k[i]),
            rate=float(k[i] / n[i]),
            mean_price=float(paid[i] / k[i]) if k[i] else _NOBODY,
        )
        for i, name in enumerate([*names, ""])
        if n[i]
    ]
    compared = np.flatnonzero(n[:-1] >= FEW)
    ratio, p_value = _compare(n[compared], k[compared])
    groups.sort(key=lambda group: (-group.rate, group.value))
    return Fairness(trait, title, tuple(groups), ratio, p_value, _price_ratio(paid, k, compared))


_NOBODY = NotEstimable({"zh": "该组没有客户被接触。", "en": "Nobody of the group is contacted."})
_NO_GROUPS = NotEstimable(
    {"zh": "可比较的组不足两个。", "en": "There are fewer than two groups to compare."}
)


def _compare(n: Floats, k: Floats) -> tuple[float | NotEstimable, float]:
    if len(n) < TWO_GROUPS or not k.sum():
        return _NO_GROUPS, 1.0
    rate, overall = k / n, float(k.sum() / n.sum())
    if overall == 1:
        return 1.0, 1.0
    statistic = float(((k - n * overall) ** 2 / (n * overall * (1 - overall))).sum())
    return float(rate.min() / rate.max()), float(chdtrc(len(n) - 1, statistic))


def _price_ratio(paid: Floats, k: Floats, compared: Ints) -> float | NotEstimable:
    some = compared[k[compared] > 0]
    if len(some) < TWO_GROUPS:
        return _NO_GROUPS
    mean = paid[some] / k[some]
    return float(mean.min() / mean.max()) if mean.max() > 0 else 1.0


def _rows(column: pa.Array | pa.ChunkedArray, values: pa.Array) -> Ints:
    """Return the position of each entry in ``values``, -1 where it is not among them."""
    found = pc.index_in(column.cast(values.type), value_set=values).fill_null(-1)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.int64)
