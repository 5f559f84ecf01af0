"""Offers as product managers write them, with changes."""

from __future__ import annotations

from typing import Any

from bihuan.audience import Everyone
from bihuan.offer import Margin, Offer


def offer(offer_id: str, kind: str = "service", **changes: Any) -> Offer:
    """Return an offer on sale to everybody."""
    fields: dict[str, Any] = {
        "offer_id": offer_id,
        "title": {"zh": f"产品{offer_id}", "en": f"offer {offer_id}"},
        "kind": kind,
        "products": (),
        "price": 10.0,
        "months": 1,
        "margin": Margin(1.0),
        "cost": 0.0,
        "eligibility": Everyone(),
        "excludes": frozenset(),
        "channels": frozenset({"sms", "app"}),
    }
    return Offer(**fields | changes)


def plan(tier: int, price: float, data_mb: float, **changes: Any) -> Offer:
    """Return a plan of family ``mobile``."""
    name = f"plan_{price:g}"
    fields: dict[str, Any] = {
        "category": "plan", "family": "mobile", "tier": tier, "price": price, "data_mb": data_mb,
        "products": (f"product_{price:g}",),
    }  # fmt: skip
    return offer(name, "plan", **fields | changes)


def family() -> tuple[Offer, ...]:
    """Return four plans, lowest first."""
    return (plan(1, 19, 3000), plan(2, 39, 10_000), plan(3, 59, 20_000), plan(4, 99, 30_000))


def pack(offer_id: str, price: float, by_plan: dict[str, float], **changes: Any) -> Offer:
    """Return an add-on pack of 10 GB whose price hangs on the plan."""
    fields: dict[str, Any] = {"price": price, "prices_by_plan": by_plan, "data_mb": 10_240.0}
    return offer(offer_id, "addon", **fields | changes)
