"""Plan upgrades: the tier each line can upgrade to, and changes in one click."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from sqlglot import exp

from bihuan.data import as_doubles
from bihuan.kernel import UserError
from bihuan.offer import (
    Facts,
    Needs,
    Offer,
    OrderBook,
    PlanOrder,
    ProfileFacts,
    TierChoices,
    UpgradeRule,
    read_facts,
    recommend_tier,
)
from bihuan.tag import TagTable
from bihuan.workspace.place import Day, day_of

if TYPE_CHECKING:
    from bihuan.workspace.workspace import Workspace

Floats: TypeAlias = NDArray[np.float64]
_CURRENCY = {"CNY": {"zh": " 元", "en": " CNY"}}
_LINE = ("subscription_id", "customer_id", "service", "status", "product_id", "monthly_fee")


class PlanUpgrades:
    """Recommends tiers and takes plan changes.

    Parameters
    ----------
    workspace
        Where catalogue, lines and tags are.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._ws = workspace

    def recommend(
        self,
        as_of: Day,
        *,
        family: str = "mobile",
        months: int = 6,
        rule: UpgradeRule | None = None,
        customer_id: str | None = None,
    ) -> TierChoices:
        """Judge which plan tier each active line can upgrade to.

        Parameters
        ----------
        as_of
            Newest month of the lines' data.
        family
            Family of plans in the catalogue.
        months
            So many months of table ``usage`` are looked at, as far as there are.
        rule
            How far an upgrade may go; None: the default rule.
        customer_id
            Only this customer's lines; None: all.

        Returns
        -------
        TierChoices
            One choice per active line, ordered by line id.
        """
        day, plans = day_of(as_of), self._ws.catalogue.family(family)
        if not plans:
            raise UserError(
                f"There are no plans of family '{family}'.",
                remedy="Give plans family and tier in an offers file.",
                zh=f"没有属于 {family} 的套餐，请在套餐文件中填写 family 与 tier。",
            )
        lines = self._lines(day, customer_id)
        place = {
            name: i for i, plan in enumerate(plans) for name in (plan.offer_id, *plan.products)
        }
        at = pc.index_in(
            lines["product_id"].combine_chunks(), value_set=pa.array(list(place), pa.string())
        )
        positions = pa.array(list(place.values()), pa.int64())
        return recommend_tier(
            plans,
            self._usage(day, months, lines, customer_id),
            positions.take(at).fill_null(-1).to_numpy(zero_copy_only=False),
            day=self._ws.clock.now().date(),
            paid=as_doubles(lines["monthly_fee"]),
            is_eligible=self._admits(plans, day, lines, customer_id),
            ids=lines["subscription_id"].combine_chunks(),
            rule=rule,
            currency=self._currency(),
        )

    def one_click(
        self,
        customer_id: str,
        as_of: Day,
        *,
        line_id: str | None = None,
        family: str = "mobile",
        rule: UpgradeRule | None = None,
    ) -> PlanOrder:
        """Recommend the default tier as a draft that needs one confirmation (一键办理).

        Parameters
        ----------
        customer_id
            Who asks.
        as_of
            Newest month of the data.
        line_id
            Which line; None: the customer's active line of the highest fee.
        family, rule
            As for :meth:`recommend`.

        Raises
        ------
        HandlingError
            If there is no tier to recommend; the message gives the reason.
        """
        chosen = self._line(customer_id, line_id, day_of(as_of))["subscription_id"]
        choices = self.recommend(as_of, family=family, rule=rule, customer_id=customer_id)
        return self.orders.recommend(choices.of(str(chosen)), customer_id, self._ws.catalogue)

    def choose_tier(
        self, customer_id: str, offer_id: str, as_of: Day, *, line_id: str | None = None
    ) -> PlanOrder:
        """Draft a tier chosen by hand; it still has to be checked and confirmed.

        Parameters
        ----------
        customer_id
            Who asks.
        offer_id
            The plan.
        as_of
            Newest month of the data.
        line_id
            Which line; None: the customer's active line of the highest fee.
        """
        line = self._line(customer_id, line_id, day_of(as_of))
        plan = self._ws.catalogue.plan_of(str(line["product_id"]))
        return self.orders.choose_tier(
            str(line["subscription_id"]),
            customer_id,
            None if plan is None else plan.offer_id,
            self._ws.catalogue.get(offer_id),
        )

    def check(self, order_id: str, as_of: Day) -> PlanOrder:
        """Check a tier chosen by hand: on sale, and open to the customer."""
        order = self.orders.get(order_id)
        offer = self._ws.catalogue.get(order.to_offer)
        needs = Needs(nodes=frozenset({offer.eligibility}))
        facts = facts_of_customer(needs, self._ws.tags(as_of), order.customer_id)
        allowed = bool(facts.flags[offer.eligibility][0])
        return self.orders.check(order_id, self._ws.catalogue, is_eligible=allowed)

    def confirm(self, order_id: str, *, customer_id: str | None = None) -> PlanOrder:
        """Confirm a draft; confirming twice is one order.

        Parameters
        ----------
        order_id
            The draft.
        customer_id
            Whose it must be; None: anybody's.
        """
        order = self.orders.get(order_id)
        if customer_id not in (None, order.customer_id):
            raise UserError(
                f"Draft '{order_id}' is not of customer '{customer_id}'.",
                remedy="Confirm the draft that was made for this customer.",
                zh=f"草稿 {order_id} 不属于客户 {customer_id}，请核对草稿号。",
            )
        return self.orders.confirm(order_id, self._ws.catalogue)

    @property
    def orders(self) -> OrderBook:
        """Drafts and orders of plan changes, in ``orders/``."""
        return OrderBook(self._ws.layout.root / "orders", self._ws.clock)

    def _currency(self) -> Mapping[str, str]:
        code = self._ws.settings.currency
        return _CURRENCY.get(code, {"zh": f" {code}", "en": f" {code}"})

    def _rows(
        self, table: str, day: date, columns: Sequence[str], customer_id: str | None
    ) -> pa.Table:
        query = exp.select(*(exp.column(name, quoted=True) for name in columns)).from_(
            exp.to_table(table, quoted=True)
        )
        if customer_id is not None:
            who = exp.column("customer_id", quoted=True)
            query = query.where(exp.EQ(this=who, expression=exp.Literal.string(customer_id)))
        return self._ws.engine.query(query, {table: self._ws.view.get(table, day)})

    def _lines(self, day: date, customer_id: str | None) -> pa.Table:
        rows = self._rows("subscription", day, _LINE, customer_id)
        used = pc.and_(pc.equal(rows["service"], "mobile"), pc.equal(rows["status"], "active"))
        return rows.filter(used).sort_by("subscription_id")

    def _line(self, customer_id: str, line_id: str | None, day: date) -> Mapping[str, object]:
        order = [("monthly_fee", "descending"), ("subscription_id", "ascending")]
        for row in self._lines(day, customer_id).sort_by(order).to_pylist():
            if line_id in (None, row["subscription_id"]):
                return dict(row)
        which, zh = ("", "") if line_id is None else (f" '{line_id}'", f" {line_id}")
        raise UserError(
            f"Customer '{customer_id}' has no active mobile line{which}.",
            remedy="Check customer, line and date.",
            zh=f"客户 {customer_id} 没有在用的移动用户{zh}，请核对客户、用户与日期。",
        )

    def _usage(self, day: date, months: int, lines: pa.Table, customer_id: str | None) -> Floats:
        days = [d for d in self._ws.view.dates("usage") if d <= day][-months:]
        found = np.full((lines.num_rows, max(len(days), 1)), np.nan)
        ids = lines["subscription_id"].combine_chunks()
        for k, month in enumerate(days):
            rows = self._rows("usage", month, ("subscription_id", "data_mb"), customer_id)
            at = pc.index_in(ids, value_set=rows["subscription_id"].combine_chunks())
            found[:, k] = rows["data_mb"].take(at).to_numpy()
        return found

    def _admits(
        self, plans: Sequence[Offer], day: date, lines: pa.Table, customer_id: str | None
    ) -> NDArray[np.bool_]:
        needs = Needs(nodes=frozenset(plan.eligibility for plan in plans))
        tags = self._ws.tags(day)
        if customer_id is None:
            facts = read_facts(needs, tags, engine=self._ws.engine)
        else:
            facts = facts_of_customer(needs, tags, customer_id)
        flags = np.stack([facts.flags[plan.eligibility] for plan in plans], axis=1)
        at = pc.index_in(lines["customer_id"].combine_chunks(), value_set=facts.ids)
        known = at.is_valid().to_numpy(zero_copy_only=False)
        return np.asarray(flags[at.fill_null(0).to_numpy()] & known[:, None])


def facts_of_customer(needs: Needs, tags: TagTable, customer_id: str) -> Facts:
    """Return what rules read of one customer, from the profile in memory.

    Parameters
    ----------
    needs
        Audiences and tags.
    tags
        Tag values of a date.
    customer_id
        Whom.
    """
    reader = ProfileFacts(needs, tags.fields)
    return reader.read(tags.profile(customer_id), customer_id=customer_id)
