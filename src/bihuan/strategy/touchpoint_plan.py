"""Strategies deployed per touchpoint (千人千店): what each offers first, and to whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.strategy.policy import OrgTree
from bihuan.strategy.script.lot import draw_arms
from bihuan.strategy.touchpoint import (
    Touchpoint,
    TouchpointBook,
    TouchpointStrategy,
    UnknownTouchpointError,
)

Flags = NDArray[np.bool_]
Permits = Callable[[str, str, str], bool]
"""(unit id, offer id, channel kind) -> whether the policy allows it."""

SCHEMA = pa.schema(
    [
        ("touchpoint_id", pa.string()),
        ("rank", pa.int32()),
        ("customer_id", pa.string()),
        ("strategy_id", pa.string()),
        ("offer_id", pa.string()),
        ("channel", pa.string()),
        ("preference", pa.float64()),
    ]
)


@dataclass(frozen=True, slots=True, eq=False)
class TouchpointCustomers:
    """Customers as the deployment needs them.

    Parameters
    ----------
    customer_id, org_unit_id
        Strings, shape ``(n,)``; a customer without a unit is met nowhere.
    preference
        Share of the customer's preference by channel kind, shape ``(n,)``, 0 to 1; see
        :func:`preference_shares`. A channel not named has 0.
    audiences
        Who belongs to a strategy's audience, by strategy id; a strategy not named is for all.
    eligible
        Who may be offered an offer, by offer id; an offer not named is for all.
    usual
        Touchpoint that a customer is known to use, by channel kind, as ids (missing = not known).
    """

    customer_id: pa.Array | pa.ChunkedArray
    org_unit_id: pa.Array | pa.ChunkedArray
    preference: Mapping[str, NDArray[np.float64]]
    audiences: Mapping[str, Flags] = field(default_factory=dict)
    eligible: Mapping[str, Flags] = field(default_factory=dict)
    usual: Mapping[str, pa.Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class TouchpointDeployment:
    """What each touchpoint does.

    Parameters
    ----------
    touchpoints
        All touchpoints, also those for which there is nothing.
    rows
        Columns of :data:`SCHEMA`: per touchpoint its customers in the order of approach, with the
        strategy, the offer and the customer's preference for the channel.
    left_out
        Customers that are on no touchpoint's list, by reason: ``no_touchpoint`` (none serves
        their unit), ``no_preference`` (nothing is known, or too little of it for any channel),
        ``no_strategy``.
    """

    touchpoints: tuple[Touchpoint, ...]
    rows: pa.Table
    left_out: Mapping[str, int]

    def of(self, touchpoint_id: str) -> pa.Table:
        """Return the list of one touchpoint, in the order of approach.

        Raises
        ------
        UnknownTouchpointError
            If there is none of that id.
        """
        if all(touchpoint.touchpoint_id != touchpoint_id for touchpoint in self.touchpoints):
            raise UnknownTouchpointError(
                f"There is no touchpoint '{touchpoint_id}'.",
                remedy="See  bihuan policy touchpoints  for those that there are.",
                zh=f"没有编号为 {touchpoint_id} 的触点。",
            )
        return self.rows.filter(pc.equal(self.rows["touchpoint_id"], touchpoint_id))

    def summary(self) -> pa.Table:
        """Return what each touchpoint offers first.

        Returns
        -------
        pyarrow.Table
            ``touchpoint_id``, ``place`` (1 = what most of its customers are offered),
            ``strategy_id``, ``offer_id``, ``customers``, ``preference`` (mean share).
        """
        grouped = self.rows.group_by(["touchpoint_id", "strategy_id", "offer_id"]).aggregate(
            [("customer_id", "count"), ("preference", "mean")]
        )
        ordered = grouped.sort_by(
            [("touchpoint_id", "ascending"), ("customer_id_count", "descending"),
             ("strategy_id", "ascending"), ("offer_id", "ascending")]
        )  # fmt: skip
        names = ordered["touchpoint_id"].to_pylist()
        seen: Counter[str] = Counter()
        place = []
        for name in names:
            seen[name] += 1
            place.append(seen[name])
        return pa.table(
            {
                "touchpoint_id": ordered["touchpoint_id"],
                "place": pa.array(place, pa.int32()),
                "strategy_id": ordered["strategy_id"],
                "offer_id": ordered["offer_id"],
                "customers": ordered["customer_id_count"],
                "preference": ordered["preference_mean"],
            }
        )


def preference_shares(
    scores: Mapping[str, NDArray[np.float64]],
) -> dict[str, NDArray[np.float64]]:
    """Return each channel's share of a customer's preference.

    Parameters
    ----------
    scores
        By channel kind, shape ``(n,)``, >= 0; NaN counts as 0.

    Returns
    -------
    dict
        Shares with sum 1 per customer; all 0 where nothing is known of a customer.

    Examples
    --------
    >>> shares = preference_shares({"app": np.array([3.0, 0]), "hall": np.array([1.0, np.nan])})
    >>> shares["app"].tolist()
    [0.75, 0.0]
    """
    known = {name: np.maximum(np.nan_to_num(score), 0.0) for name, score in scores.items()}
    total = sum(known.values(), start=np.float64(0))
    return {
        name: np.divide(score, total, out=np.zeros_like(score), where=total > 0)
        for name, score in known.items()
    }


def deploy_touchpoints(
    book: TouchpointBook,
    touchpoints: Sequence[Touchpoint],
    customers: TouchpointCustomers,
    tree: OrgTree,
    *,
    permits: Permits | None = None,
    seed: int = 0,
) -> TouchpointDeployment:
    """Give each touchpoint the strategies and the customers that suit it.

    A customer is met, per channel, at the touchpoint that they are known to use; else at one of
    those of the nearest unit on the way up that has any, drawn by lot in proportion to size, the
    same one every time. There, of the strategies that suit the touchpoint (kind, degree of
    digitisation, abilities) and the customer (audience, preference for the channel), the one of
    the greatest priority is taken with the first of its offers that the customer may be offered
    and the policy of the touchpoint's unit allows.

    Parameters
    ----------
    book
        The strategies.
    touchpoints
        From :meth:`TouchpointBook.touchpoints`.
    customers
        To be met.
    tree
        Org units of customers and touchpoints.
    permits
        The policy; None allows all.
    seed
        The workspace's.

    Raises
    ------
    UnknownUnitError
        If a touchpoint's unit is not in the tree.
    """
    n = len(customers.customer_id)
    station = {
        channel: _stations(channel, touchpoints, customers, tree, seed)
        for channel in sorted({touchpoint.channel for touchpoint in touchpoints})
    }
    parts = []
    served, liked, listed = (np.zeros(n, dtype=bool) for _ in range(3))
    for channel, at in station.items():
        share = customers.preference.get(channel, np.zeros(n))
        served |= at >= 0
        liked |= (at >= 0) & (share > 0)
        strategy, offer = _choose(book.strategies, touchpoints, at, share, customers, permits)
        rows = np.flatnonzero(strategy >= 0)
        listed[rows] = True
        parts.append((channel, rows, at[rows], strategy[rows], offer[rows], share[rows]))
    left = ~listed
    return TouchpointDeployment(
        tuple(touchpoints),
        _rows(book.strategies, touchpoints, customers.customer_id, parts),
        {
            "no_touchpoint": int((left & ~served).sum()),
            "no_preference": int((left & served & ~liked).sum()),
            "no_strategy": int((left & liked).sum()),
        },
    )


def _stations(
    channel: str,
    touchpoints: Sequence[Touchpoint],
    customers: TouchpointCustomers,
    tree: OrgTree,
    seed: int,
) -> NDArray[np.int64]:
    """Return the number of the touchpoint at which each customer is met, -1 none."""
    at = np.full(len(customers.customer_id), -1, dtype=np.int64)
    by_unit: dict[str, list[int]] = {}
    for number, touchpoint in enumerate(touchpoints):
        if touchpoint.channel == channel:
            tree.get(touchpoint.unit_id)
            by_unit.setdefault(touchpoint.unit_id, []).append(number)
    for unit, rows in _rows_by_unit(customers.org_unit_id):
        serving = next((u for u in reversed(tree.path(unit)) if u in by_unit), None)
        if serving is None:
            continue
        numbers = np.array(by_unit[serving])
        sizes = np.array([touchpoints[i].size for i in numbers])
        lot = draw_arms(
            customers.customer_id.take(pa.array(rows)), (sizes / sizes.sum()).tolist(), seed,
            "touchpoint", channel, serving,
        )  # fmt: skip
        at[rows] = numbers[lot]
    usual = customers.usual.get(channel)
    if usual is not None:
        ids = pa.array([touchpoint.touchpoint_id for touchpoint in touchpoints])
        known = pc.fill_null(pc.index_in(usual, value_set=ids), -1).to_numpy(zero_copy_only=False)
        is_here = np.array([t.channel == channel for t in touchpoints] + [False])
        at = np.where((known >= 0) & is_here[known], known, at)
    return at


def _rows_by_unit(
    units: pa.Array | pa.ChunkedArray,
) -> Iterator[tuple[str, NDArray[np.int64]]]:
    array = units.combine_chunks() if isinstance(units, pa.ChunkedArray) else units
    coded = array.dictionary_encode()
    code = pc.fill_null(coded.indices, -1).to_numpy(zero_copy_only=False)
    order = np.argsort(code, kind="stable")
    names = coded.dictionary.to_pylist()
    bounds = np.searchsorted(code[order], np.arange(len(names) + 1))
    for number, name in enumerate(names):
        yield name, order[bounds[number] : bounds[number + 1]]


def _choose(
    strategies: Sequence[TouchpointStrategy],
    touchpoints: Sequence[Touchpoint],
    at: NDArray[np.int64],
    share: NDArray[np.float64],
    customers: TouchpointCustomers,
    permits: Permits | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return strategy and place of the offer in it for each customer, -1 none."""
    strategy = np.full(len(at), -1, dtype=np.int64)
    offer = np.full(len(at), -1, dtype=np.int64)
    here = at >= 0
    for number, one in enumerate(strategies):
        suits = np.array([one.suits(touchpoint) for touchpoint in touchpoints] + [False])
        # who has no preference for a channel is not approached in it, however low the threshold
        fits = here & suits[at] & (share > 0) & (share >= one.preference) & (strategy < 0)
        if one.strategy_id in customers.audiences:
            fits &= customers.audiences[one.strategy_id]
        for place, offer_id in enumerate(one.offers):
            may = fits & (strategy < 0)
            if offer_id in customers.eligible:
                may &= customers.eligible[offer_id]
            if permits is not None and may.any():
                allowed = [permits(t.unit_id, offer_id, t.channel) for t in touchpoints]
                may &= np.array([*allowed, False])[at]
            strategy[may] = number
            offer[may] = place
    return strategy, offer


def _rows(
    strategies: Sequence[TouchpointStrategy],
    touchpoints: Sequence[Touchpoint],
    customer_id: pa.Array | pa.ChunkedArray,
    parts: Sequence[tuple[str, NDArray[np.int64], NDArray[np.int64], NDArray[np.int64],
                          NDArray[np.int64], NDArray[np.float64]]],
) -> pa.Table:  # fmt: skip
    """Put the lists together: per touchpoint by strategy, then by preference."""
    if not any(len(part[1]) for part in parts):
        return SCHEMA.empty_table()
    rows, at, strategy, offer, share = (
        np.concatenate([part[i] for part in parts]) for i in range(1, 6)
    )
    channels = np.repeat([part[0] for part in parts], [len(part[1]) for part in parts])
    ids = pc.take(customer_id, pa.array(rows))
    ids = ids.combine_chunks() if isinstance(ids, pa.ChunkedArray) else ids
    by_id = np.empty(len(rows), dtype=np.int64)
    by_id[pc.sort_indices(ids).to_numpy()] = np.arange(len(rows))
    order = np.lexsort((by_id, -share, strategy, at))
    at = at[order]
    first = np.searchsorted(at, at, side="left")
    offers = [name for one in strategies for name in one.offers]
    start = np.cumsum([0, *(len(one.offers) for one in strategies)])[:-1]
    return pa.table(
        {
            "touchpoint_id": pa.array([t.touchpoint_id for t in touchpoints]).take(pa.array(at)),
            "rank": pa.array(np.arange(len(at)) - first + 1, pa.int32()),
            "customer_id": ids.take(pa.array(order)),
            "strategy_id": pa.array([s.strategy_id for s in strategies]).take(
                pa.array(strategy[order])
            ),
            "offer_id": pa.array(offers).take(pa.array((start[strategy] + offer)[order])),
            "channel": pa.array(channels[order]),
            "preference": share[order],
        },
        schema=SCHEMA,
    )
