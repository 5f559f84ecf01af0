"""Response, revenue, cost and return of a campaign, as caused by it and as merely seen.

*Gross* counts everything that customers in treatment did, also what they would have done anyway;
it is shown because people ask for it and labelled because it is not the effect. *Incremental* is
the effect per planned customer times the customers planned for contact, with its interval. All
amounts are in the workspace's currency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from sqlglot import exp

from bihuan.data import DuckDBEngine, Engine
from bihuan.evaluation.effect import Effect
from bihuan.evaluation.funnel import ended_assignments, with_columns
from bihuan.evaluation.intake import require_columns, require_unique
from bihuan.evaluation.text import Text, not_estimable
from bihuan.kernel import NotEstimable, UserError


class UnknownAmountError(UserError):
    """A cost or a value is neither logged nor given."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What things cost and are worth, in the workspace's currency.

    Parameters
    ----------
    contact_cost
        Cost of one delivered contact per channel; used where an outcome logs no cost.
    sale_value
        Worth of one sale per offer, for example its margin over its life. None: the amount that
        the order itself logged.
    offer_cost
        What a sale of the offer costs the operator (device, discount, commission) as far as
        ``sale_value`` does not already deduct it; absent offers cost nothing.
    """

    contact_cost: Mapping[str, float]
    sale_value: Mapping[str, float] | None = None
    offer_cost: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval.

    Parameters
    ----------
    value, low, high
        Estimate and bounds in the same unit; ``high`` may be infinite.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RoiLine:
    """One channel (or the whole): what was spent and seen there. Gross, not the effect.

    Parameters
    ----------
    key
        Channel kind, or ``all``.
    planned, contacts, orders
        Assignments, assignments delivered, assignments ordered.
    contact_cost, offer_cost
        Spent.
    gross_revenue
        Value of all orders, also of those that would have come anyway.
    """

    key: str
    planned: int
    contacts: int
    orders: int
    contact_cost: float
    offer_cost: float
    gross_revenue: float

    @property
    def cost(self) -> float:
        """Contact cost and offer cost."""
        return self.contact_cost + self.offer_cost

    @property
    def gross_rate(self) -> float | None:
        """Orders per planned assignment."""
        return self.orders / self.planned if self.planned else None

    @property
    def cost_per_contact(self) -> float | None:
        """Contact cost per delivered contact."""
        return self.contact_cost / self.contacts if self.contacts else None


@dataclass(frozen=True, slots=True)
class Roi:
    """The four analyses: response, revenue, cost, return.

    Parameters
    ----------
    total
        The campaign's gross line and its cost.
    by_channel
        The same per channel, dearest first.
    incremental_sales, incremental_revenue, incremental_profit
        Caused by the campaign; profit is revenue less all cost.
    roi
        Incremental profit over cost.
    cost_per_sale
        Cost per incremental sale; without upper bound where the effect may be nought.
    gross_roi
        Gross revenue less cost, over cost. Not the effect.
    """

    total: RoiLine
    by_channel: tuple[RoiLine, ...]
    incremental_sales: Estimate | NotEstimable
    incremental_revenue: Estimate | NotEstimable
    incremental_profit: Estimate | NotEstimable
    roi: Estimate | NotEstimable
    cost_per_sale: Estimate | NotEstimable
    gross_roi: float | NotEstimable


_NO_COST = not_estimable(Text("没有发生成本。", "Nothing was spent."))
_NO_SALE = not_estimable(Text("没有观察到增量响应。", "No incremental response was seen."))
_NO_ORDER = not_estimable(
    Text(
        "没有订购，无法得知每笔销售的价值。",
        "Nobody ordered, so the value of a sale is not known.",
    )
)


def roi(
    assignments: pa.Table,
    outcomes: pa.Table,
    effect: Effect | NotEstimable,
    prices: Prices,
    *,
    revenue_effect: Effect | NotEstimable | None = None,
    engine: Engine | None = None,
) -> Roi:
    """Account for a campaign.

    Parameters
    ----------
    assignments
        ``assignment_id, channel, offer_id``: the plan, customers in treatment only.
    outcomes
        ``assignment_id, stage`` and where logged ``cost`` and ``amount``.
    effect
        Effect on the number of sales per planned customer (response 0/1 or a count).
    prices
        Costs and values for what the outcomes do not log.
    revenue_effect
        Effect on revenue per planned customer, if estimated on its own. None: incremental sales
        times the mean value of the sales seen, as if the caused ones had the same mix.
    engine
        Where the query runs; DuckDB if None.

    Returns
    -------
    Roi
        Incremental parts are NotEstimable where the effect is.

    Raises
    ------
    UnknownAmountError
        If a delivered contact has neither a logged nor a given cost, or an order no value.
    EvaluationInputError
        If a column is missing or an assignment is planned twice.

    Notes
    -----
    Costs are counted, not estimated, so every interval comes from the effect alone. All sales to
    customers in treatment cost the offer, also those that would have come anyway.
    """
    lines = _lines(assignments, outcomes, prices, engine or DuckDBEngine())
    total = _total(lines)
    treated = effect.n_treatment if isinstance(effect, Effect) else 0
    sales = _times(effect, treated)
    revenue = _revenue(sales, revenue_effect, total)
    profit = _shifted(revenue, -total.cost)
    return Roi(
        total=total,
        by_channel=tuple(sorted(lines, key=lambda line: (-line.cost, line.key))),
        incremental_sales=sales,
        incremental_revenue=revenue,
        incremental_profit=profit,
        roi=_scaled(profit, 1 / total.cost) if total.cost > 0 else _NO_COST,
        cost_per_sale=_per_sale(sales, total.cost),
        gross_roi=(total.gross_revenue - total.cost) / total.cost if total.cost > 0 else _NO_COST,
    )


def _revenue(
    sales: Estimate | NotEstimable, own: Effect | NotEstimable | None, total: RoiLine
) -> Estimate | NotEstimable:
    if own is not None:
        return _times(own, own.n_treatment if isinstance(own, Effect) else 0)
    if not total.orders:
        return sales if isinstance(sales, NotEstimable) else _NO_ORDER
    return _scaled(sales, total.gross_revenue / total.orders)


def _times(effect: Effect | NotEstimable, customers: int) -> Estimate | NotEstimable:
    if isinstance(effect, NotEstimable):
        return effect
    return Estimate(effect.estimate * customers, effect.low * customers, effect.high * customers)


def _scaled(estimate: Estimate | NotEstimable, by: float) -> Estimate | NotEstimable:
    if isinstance(estimate, NotEstimable):
        return estimate
    low, high = sorted((estimate.low * by, estimate.high * by))
    return Estimate(estimate.value * by, low, high)


def _shifted(estimate: Estimate | NotEstimable, by: float) -> Estimate | NotEstimable:
    if isinstance(estimate, NotEstimable):
        return estimate
    return Estimate(estimate.value + by, estimate.low + by, estimate.high + by)


def _per_sale(sales: Estimate | NotEstimable, cost: float) -> Estimate | NotEstimable:
    if isinstance(sales, NotEstimable):
        return sales
    if sales.value <= 0:
        return _NO_SALE
    high = cost / sales.low if sales.low > 0 else math.inf
    return Estimate(cost / sales.value, cost / sales.high, high)


def _lines(
    assignments: pa.Table, outcomes: pa.Table, prices: Prices, engine: Engine
) -> list[RoiLine]:
    require_columns(assignments, ("assignment_id", "channel", "offer_id"), "assignments")
    require_columns(outcomes, ("assignment_id", "stage"), "outcomes")
    require_unique(assignments, "assignments", "assignment_id")
    sources = {
        "assignment": with_columns(assignments, ("org_unit_id", "script_id")),
        "outcome": with_columns(outcomes, ("cost", "amount", "occurred_at")),
    }
    lines: dict[str, RoiLine] = {}
    for row in engine.query(_account(), sources).to_pylist():
        line = _line(row, prices)
        lines[line.key] = _add(lines[line.key], line) if line.key in lines else line
    return list(lines.values())


def _account() -> exp.Select:
    """Count per channel and offer what was contacted, ordered, and logged in money."""
    delivered = "e.state IN ('delivered', 'connected', 'refused', 'accepted', 'ordered')"
    logged = (
        exp.select(
            "assignment_id",
            "SUM(CAST(cost AS DOUBLE)) AS cost",
            "SUM(CASE WHEN stage = 'ordered' THEN CAST(amount AS DOUBLE) END) AS amount",
        )
        .from_("outcome")
        .group_by("assignment_id")
    )
    return (
        exp.select(
            "e.channel",
            "e.offer_id",
            "COUNT(*) AS planned",
            f"COUNT(*) FILTER (WHERE {delivered}) AS contacts",
            f"COUNT(*) FILTER (WHERE {delivered} AND l.cost IS NULL) AS contacts_unpriced",
            "COALESCE(SUM(l.cost), 0) AS cost",
            "COUNT(*) FILTER (WHERE e.state = 'ordered') AS orders",
            "COUNT(*) FILTER (WHERE e.state = 'ordered' AND l.amount IS NULL) AS orders_unpriced",
            "COALESCE(SUM(l.amount), 0) AS amount",
        )
        .from_(ended_assignments().subquery("e"))
        .join(logged.subquery("l"), on="e.assignment_id = l.assignment_id", join_type="left")
        .group_by("e.channel", "e.offer_id")
        .order_by("e.channel", "e.offer_id")
    )


def _line(row: Mapping[str, Any], prices: Prices) -> RoiLine:
    channel, offer = row["channel"] or "", row["offer_id"] or ""
    contact_cost = float(row["cost"])
    if row["contacts_unpriced"]:
        each = _find_price(prices.contact_cost, channel, "contact cost of channel", "渠道接触成本")
        contact_cost += row["contacts_unpriced"] * each
    if prices.sale_value is not None:
        each = 0.0
        if row["orders"]:
            each = _find_price(prices.sale_value, offer, "sale value of offer", "产品销售价值")
        revenue = row["orders"] * each
    elif row["orders_unpriced"]:
        raise _unknown("amount of orders of offer", offer, "订单金额")
    else:
        revenue = float(row["amount"])
    return RoiLine(
        key=channel,
        planned=row["planned"],
        contacts=row["contacts"],
        orders=row["orders"],
        contact_cost=contact_cost,
        offer_cost=row["orders"] * prices.offer_cost.get(offer, 0.0),
        gross_revenue=revenue,
    )


def _find_price(prices: Mapping[str, float], code: str, what: str, zh: str) -> float:
    if code not in prices:
        raise _unknown(what, code, zh)
    return prices[code]


def _unknown(what: str, code: str, zh: str) -> UnknownAmountError:
    return UnknownAmountError(
        f"The {what} '{code}' is neither logged in the outcomes nor given.",
        remedy="Give it in the prices; an unknown amount is not counted as nought.",
        zh=f"{zh}未知：{code} 既未在结果中记录，也未在价格中给出，请补充；未知金额不会按零计算。",
    )


def _add(a: RoiLine, b: RoiLine) -> RoiLine:
    return RoiLine(
        a.key,
        a.planned + b.planned,
        a.contacts + b.contacts,
        a.orders + b.orders,
        a.contact_cost + b.contact_cost,
        a.offer_cost + b.offer_cost,
        a.gross_revenue + b.gross_revenue,
    )


def _total(lines: list[RoiLine]) -> RoiLine:
    total = RoiLine("all", 0, 0, 0, 0.0, 0.0, 0.0)
    for line in lines:
        total = _add(total, line)
    return total
