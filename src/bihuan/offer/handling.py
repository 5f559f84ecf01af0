"""Handling a plan change: one click in two steps, or the long way in three.

The long way is *choose a tier, check it, confirm*. One click (一键办理) lets the system choose and
check: *recommend, confirm*. An order book keeps each draft with the steps taken; what has not been
checked cannot be confirmed, and what is confirmed twice is one order.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

from bihuan.kernel import Clock, UserError, canonical_json, file_lock, hash_id, write_atomically
from bihuan.offer.catalogue import Catalogue
from bihuan.offer.offer import Offer
from bihuan.offer.upgrade_choice import TierChoice

DRAFT_DAYS = 7
"""A draft holds for so many days; afterwards the recommendation has to be made anew."""


class HandlingError(UserError):
    """An order cannot be drafted, checked or confirmed as asked."""


@dataclass(frozen=True, slots=True)
class PlanOrder:
    """A plan change, as a draft or as an order.

    Parameters
    ----------
    order_id
        Hash of line, plans, price and day; the same wish on the same day is one order.
    line_id, customer_id
        Whose.
    from_offer, to_offer
        Offer ids of the plans; None if the present one is not in the catalogue.
    price
        Of the new plan per month, in the workspace's currency, as told to the customer.
    effective_on
        First day of the new plan.
    valid_until
        Last day on which the draft may be confirmed.
    text
        What the customer agrees to, by language.
    steps
        Steps taken so far: ``recommend`` or ``choose_tier``, ``check``, then ``confirm``.
    confirmed_at
        When it became an order; None for a draft.
    """

    order_id: str
    line_id: str
    customer_id: str
    from_offer: str | None
    to_offer: str
    price: float
    effective_on: date
    valid_until: date
    text: Mapping[str, str]
    steps: tuple[str, ...]
    confirmed_at: datetime | None = None

    @property
    def is_checked(self) -> bool:
        """Whether it may be confirmed: recommended by the system, or checked."""
        return "recommend" in self.steps or "check" in self.steps

    @property
    def steps_left(self) -> int:
        """How many steps are left until it is done."""
        return 0 if self.confirmed_at else 1 if self.is_checked else 2


class OrderBook:
    """Drafts and orders of plan changes, in a folder.

    Parameters
    ----------
    folder
        One JSON file per draft or order.
    clock
        Stamps them.
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock

    def recommend(self, choice: TierChoice, customer_id: str, catalogue: Catalogue) -> PlanOrder:
        """Draft the recommended upgrade: step one of two; only confirming is left.

        Parameters
        ----------
        choice
            From :func:`recommend_tier`, which has checked eligibility, sale and reach.
        customer_id
            Whose line it is.
        catalogue
            The offers.

        Raises
        ------
        HandlingError
            If no tier is recommended; the message gives the reason.
        """
        if choice.offer_id is None:
            raise HandlingError(
                f"No upgrade is recommended for line '{choice.line_id}': {choice.reason['en']}",
                remedy="Keep the plan, or choose a tier by hand.",
                zh=f"用户 {choice.line_id} 没有可推荐的升档：{choice.reason['zh']}"
                "请保留现有套餐，或手工选择档次。",
            )
        offer = catalogue.get_on_sale(choice.offer_id, self._today())
        return self._draft(
            (choice.line_id, customer_id, choice.current_id), offer, choice.reason, "recommend"
        )

    def choose_tier(
        self, line_id: str, customer_id: str, current_id: str | None, offer: Offer
    ) -> PlanOrder:
        """Draft a tier chosen by hand: step one of three; checking and confirming are left."""
        text = {
            "zh": f"改为{offer.title['zh']}，每月 {offer.price:g}。",
            "en": f"Change to {offer.title['en']}, {offer.price:g} a month.",
        }
        return self._draft((line_id, customer_id, current_id), offer, text, "choose_tier")

    def check(self, order_id: str, catalogue: Catalogue, *, is_eligible: bool) -> PlanOrder:
        """Check a tier chosen by hand: step two of three.

        Parameters
        ----------
        order_id
            A draft.
        catalogue
            The offers.
        is_eligible
            Whether the new plan's eligibility admits the customer.

        Raises
        ------
        HandlingError
            If the customer may not have the plan.
        NotOnSaleError
            If it is not on sale.
        """
        with self._lock():
            order = self.get(order_id)
            catalogue.get_on_sale(order.to_offer, self._today())
            if not is_eligible:
                raise HandlingError(
                    f"Customer '{order.customer_id}' may not have '{order.to_offer}'.",
                    remedy="Choose another tier.",
                    zh=f"客户 {order.customer_id} 不具备办理 {order.to_offer} 的资格，请另选档次。",
                )
            if order.is_checked:
                return order
            return self._save(replace(order, steps=(*order.steps, "check")))

    def confirm(self, order_id: str, catalogue: Catalogue) -> PlanOrder:
        """Confirm a draft: the last step. Confirming again returns the same order.

        Parameters
        ----------
        order_id
            A draft.
        catalogue
            The offers as they are now.

        Raises
        ------
        HandlingError
            If it has not been checked, has run out, its price has changed, or the line has
            another order for the same day.
        NotOnSaleError
            If the plan is no longer sold.
        """
        with self._lock():
            order = self.get(order_id)
            if order.confirmed_at is not None:
                return order
            self._require_ready(order, catalogue)
            done = replace(order, steps=(*order.steps, "confirm"), confirmed_at=self._clock.now())
            return self._save(done)

    def get(self, order_id: str) -> PlanOrder:
        """Return a draft or an order; raise :class:`HandlingError` if there is none."""
        path = self._folder / f"{order_id}.json"
        if not (order_id.isalnum() and path.is_file()):
            raise HandlingError(
                f"There is no draft or order '{order_id}'.",
                remedy="Recommend or choose a tier first.",
                zh=f"没有编号为 {order_id} 的草稿或订单，请先推荐或选择档次。",
            )
        return _read(path)

    def orders(self) -> list[PlanOrder]:
        """Return the confirmed orders, oldest first."""
        found = [_read(path) for path in self._folder.glob("*.json")]
        done = [order for order in found if order.confirmed_at is not None]
        return sorted(done, key=lambda order: (str(order.confirmed_at), order.order_id))

    def _draft(
        self,
        line: tuple[str, str, str | None],
        offer: Offer,
        text: Mapping[str, str],
        step: str,
    ) -> PlanOrder:
        today = self._today()
        line_id, customer_id, current_id = line
        order = PlanOrder(
            order_id=hash_id(line_id, current_id, offer.offer_id, offer.price, today, step),
            line_id=line_id,
            customer_id=customer_id,
            from_offer=current_id,
            to_offer=offer.offer_id,
            price=offer.price,
            effective_on=_next_month(today),
            valid_until=min(today + timedelta(days=DRAFT_DAYS), _next_month(today) - _ONE_DAY),
            text=dict(text),
            steps=(step,),
        )
        with self._lock():
            if (self._folder / f"{order.order_id}.json").is_file():
                return self.get(order.order_id)
            return self._save(order)

    def _require_ready(self, order: PlanOrder, catalogue: Catalogue) -> None:
        offer = catalogue.get_on_sale(order.to_offer, self._today())
        problem: tuple[str, str] | None = None
        if not order.is_checked:
            problem = ("it has not been checked", "尚未校验")
        elif self._today() > order.valid_until:
            problem = (f"it ran out on {order.valid_until}", f"已于 {order.valid_until} 过期")
        elif offer.price != order.price:
            problem = (
                f"the price has changed from {order.price:g} to {offer.price:g}",
                f"价格已由 {order.price:g} 变为 {offer.price:g}",
            )
        elif any(
            other.line_id == order.line_id and other.effective_on == order.effective_on
            for other in self.orders()
        ):
            problem = ("the line has another order for that day", "该用户在同一生效日已有订单")
        if problem:
            raise HandlingError(
                f"Draft '{order.order_id}' cannot be confirmed: {problem[0]}.",
                remedy="Recommend or choose a tier again, and check it.",
                zh=f"草稿 {order.order_id} 不能确认：{problem[1]}。请重新推荐或选择档次并校验。",
            )

    def _save(self, order: PlanOrder) -> PlanOrder:
        path = self._folder / f"{order.order_id}.json"
        write_atomically(path, canonical_json(asdict(order)).encode())
        return order

    def _lock(self) -> AbstractContextManager[None]:
        return file_lock(self._folder / ".lock")

    def _today(self) -> date:
        return self._clock.now().date()


_ONE_DAY = timedelta(days=1)


def _next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _read(path: Path) -> PlanOrder:
    raw = json.loads(path.read_bytes())
    at = raw["confirmed_at"]
    return PlanOrder(
        **raw
        | {
            "effective_on": date.fromisoformat(raw["effective_on"]),
            "valid_until": date.fromisoformat(raw["valid_until"]),
            "steps": tuple(raw["steps"]),
            "confirmed_at": None if at is None else datetime.fromisoformat(at),
        }
    )
