"""P050: power services and offers by customer class."""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace

import pytest

import bihuan as bh
from bihuan.pack import PACKS
from bihuan.twin import TwinSettings, generate_operator, surround_power

from .by_hand import OCTOBER
from .shop import tag_values

TAGS = (
    "power_value_band", "power_payment_risk", "power_punctual", "power_needs_quality",
    "power_bill_mean", "power_complaint_count", "has_opted_out", "power_pay_channel",
    "power_months",
)  # fmt: skip


@pytest.fixture(scope="module")
def utility(tools, tmp_path_factory) -> SimpleNamespace:
    """A simulated power utility with the sample services; read only."""
    ws: bh.Workspace = tools.open_at(tmp_path_factory.mktemp("p050") / "ws")
    settings = TwinSettings(customers=1500, months=1, last=OCTOBER, seed=7)
    generate_operator(settings, ws.lake, ws.contracts, clock=ws.clock, progress=ws.progress)
    surround_power(ws.lake, OCTOBER, ws.contracts, months=4, seed=7, clock=ws.clock)
    ws.refresh_tags(OCTOBER)
    ws.install(PACKS["sample"])
    rows = ws.offer_desk.power_classes(OCTOBER).to_pylist()
    return SimpleNamespace(
        ws=ws, tags=tag_values(ws, OCTOBER, *TAGS), rows={r["customer_id"]: r for r in rows}
    )


def class_by_hand(known: dict) -> str | None:
    if (
        known["power_value_band"] == "high"
        and known["power_payment_risk"] is False
        and known["power_punctual"]
    ):
        return "premium"
    if known["power_needs_quality"] and not known["power_payment_risk"]:
        return "quality"
    if known["power_payment_risk"]:
        return "at_risk"
    return None if known["power_months"] is None else "standard"


@pytest.mark.mission("P050")
class TestDifferentiatedService:
    """F-46: e.g. a VIP counter. F-49: services configured for each customer class."""

    def test_every_customer_has_the_class_that_the_rules_give(self, utility) -> None:
        found = {customer: row["class"] for customer, row in utility.rows.items()}
        assert found == {c: class_by_hand(known) for c, known in utility.tags.items()}
        counts = Counter(found.values())
        assert min(counts[name] for name in ("premium", "quality", "at_risk", "standard")) > 0

    def test_premium_customers_and_no_others_go_to_the_vip_counter(self, utility) -> None:
        for row in utility.rows.values():
            assert row["vip_counter"] == (row["class"] == "premium")

    def test_classes_are_offered_different_things(self, utility) -> None:
        offered = {
            name: {o for r in utility.rows.values() if r["class"] == name for o in r["offers"]}
            for name in ("premium", "at_risk", "standard")
        }
        assert offered["at_risk"] <= {"power_debit"}
        assert "power_peak_shift" not in offered["premium"]
        assert offered["standard"] - offered["premium"]


@pytest.mark.mission("P050")
class TestOverdraftAndPrepayment:
    """F-47: overdraft of charges and discounts for prepayment for high-quality users."""

    def test_the_limit_is_half_the_bill_and_at_most_500(self, utility) -> None:
        for customer, row in utility.rows.items():
            bill = utility.tags[customer]["power_bill_mean"]
            if row["class"] == "premium" and bill is not None:
                assert row["overdraft"] == math.floor(min(float(bill) / 2, 500))
            else:
                assert row["overdraft"] is None

    def test_who_may_not_pay_gets_neither(self, utility) -> None:
        risky = [c for c, known in utility.tags.items() if known["power_payment_risk"]]
        assert risky
        assert all(utility.rows[c]["overdraft"] is None for c in risky)
        assert all(utility.rows[c]["prepayment_discount"] is None for c in risky)

    def test_prepaying_more_saves_more(self, utility) -> None:
        premium = utility.ws.offer_desk.power_services().classes[0]
        discount = premium.find_service("prepayment_discount").discount
        assert [discount(a) for a in (499, 500, 1999, 2000)] == [0, 5.0, 19.99, 40.0]


@pytest.mark.mission("P050")
class TestHints:
    """F-48: targeted marketing on hints of the tags, raising success and avoiding aversion."""

    def test_staff_see_class_rights_and_offers_of_a_customer(self, utility) -> None:
        row = next(r for r in utility.rows.values() if r["class"] == "premium" and r["offers"])
        hint = utility.ws.offer_desk.power_hint(row["customer_id"], OCTOBER)
        assert hint.offers == tuple(row["offers"])
        assert hint.overdraft == row["overdraft"]
        assert "VIP 专柜" in hint.text["zh"]
        title = utility.ws.catalogue.get(row["offers"][0]).title
        assert title["zh"] in hint.text["zh"]
        assert title["en"] in hint.text["en"]

    def test_who_complained_or_refused_is_offered_nothing(self, utility) -> None:
        annoyed = [
            c
            for c, known in utility.tags.items()
            if (known["power_complaint_count"] or 0) >= 1 or known["has_opted_out"]
        ]
        assert annoyed
        assert all(utility.rows[c]["offers"] == [] for c in annoyed)
        hint = utility.ws.offer_desk.power_hint(annoyed[0], OCTOBER)
        assert hint.cautions
        assert "本次不做营销" in hint.text["zh"]

    def test_all_others_are_offered_only_what_they_are_eligible_for(self, utility) -> None:
        target = tag_values(utility.ws, OCTOBER, "power_debit_target", "power_charger_target")
        for customer, row in utility.rows.items():
            for offer in ("power_debit", "power_charger"):
                if offer in row["offers"]:
                    assert target[customer][f"{offer}_target"]


@pytest.mark.mission("P050")
class TestChannelPositions:
    """F-50: position channel business by customer class."""

    def test_a_class_s_business_goes_where_most_of_the_class_are(self, utility) -> None:
        services = utility.ws.offer_desk.power_services()
        rows = utility.ws.offer_desk.position_channels(OCTOBER).to_pylist()
        assert len(rows) == sum(len(one.channels) for one in services.classes)
        for row in rows:
            members = [c for c, r in utility.rows.items() if r["class"] == row["class"]]
            used = Counter(utility.tags[c]["power_pay_channel"] for c in members)
            used.pop(None, None)
            allowed = next(c for c in services.classes if c.class_id == row["class"])
            places = allowed.channels[row["business"]]
            assert row["channel"] in places
            assert used[row["channel"]] == max(used[place] for place in places) == row["users"]
            assert row["share"] == pytest.approx(row["users"] / sum(used.values()))

    def test_classes_differ_in_where_they_pay(self, utility) -> None:
        rows = utility.ws.offer_desk.position_channels(OCTOBER).to_pylist()
        pay = {row["class"]: row["channel"] for row in rows if row["business"] == "pay"}
        assert len(set(pay.values())) > 1
