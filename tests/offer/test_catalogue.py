"""Offers are read strictly, and a margin follows what a customer pays."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from bihuan.kernel import UserError
from bihuan.kernel.document import DocumentError
from bihuan.offer import (
    Catalogue,
    Margin,
    NotOnSaleError,
    Offer,
    RetiredOfferError,
    UnknownOfferError,
)

from .make import family

RETENTION = Path(__file__).parents[2] / "src/bihuan/pack/retention/offers/contracts.yaml"

OFFER = """
offers:
  - offer_id: ring_tone
    title: {zh: 彩铃, en: Ring-back tone}
    kind: vas
    products: [ring_tone]
    price: 5
    months: 12
    margin: 30
    eligibility: "not has_ring_tone"
    excludes: [ring_tone]
    channels: [sms, app]
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "offers.yaml"
    path.write_text(text, encoding="utf-8")
    return path


class TestCatalogue:
    def test_reads_the_eighteen_sub_categories_of_the_contract_family(self) -> None:
        catalogue = Catalogue.load(RETENTION)
        assert len(catalogue) == 18
        kinds = {offer.offer_id.split("_")[0] for offer in catalogue}
        assert kinds == {"fee", "terminal", "gift"}

    def test_unknown_offer_names_the_nearest(self) -> None:
        with pytest.raises(UnknownOfferError, match="fee_high_24"):
            Catalogue.load(RETENTION).get("fee_hihg_24")

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("kind: vas", "kind: song", r"offers\[0\].kind is 'song'"),
            ("price: 5", "price: -5", r"offers\[0\].price is -5"),
            ("months: 12", "months: 1.5", r"offers\[0\].months is 1.5"),
            ("price: 5", "prise: 5", r"offers\[0\].prise is not a known field"),
            ("{zh: 彩铃, en: Ring-back tone}", "彩铃", r"offers\[0\].title needs both languages"),
        ],
    )
    def test_a_wrong_field_is_named(self, tmp_path: Path, old: str, new: str, told: str) -> None:
        with pytest.raises(DocumentError, match=told):
            Catalogue.load(write(tmp_path, OFFER.replace(old, new)))

    def test_an_id_may_stand_once(self, tmp_path: Path) -> None:
        path = write(tmp_path, OFFER)
        with pytest.raises(UserError, match="'ring_tone' twice"):
            Catalogue.load(path, path)


class TestMargin:
    def test_fixed(self) -> None:
        assert Margin(30.0).of({}, 3).tolist() == [30.0, 30.0, 30.0]

    def test_follows_a_tag_and_missing_counts_as_nothing(self) -> None:
        values = {"monthly_fee": np.array([100.0, np.nan])}
        assert Margin(-24.0, 5.4, "monthly_fee").of(values, 2).tolist() == [516.0, -24.0]


FULL = (
    OFFER
    + """
    category: data
    status: on_sale
    valid_from: 2026-10-01
    valid_until: 2026-12-31
    data_mb: 1024
    prices_by_plan: {plan_19: 5, plan_39: 4}
    plans: [plan_19, plan_39]
    traits: [light, scene]
    exclusive: true
"""
)
EARLY, DURING, LATE = date(2026, 9, 30), date(2026, 11, 2), date(2027, 1, 1)


class TestOptionalFields:
    def test_are_read(self, tmp_path: Path) -> None:
        offer = Catalogue.load(write(tmp_path, FULL)).get("ring_tone")
        assert (offer.category, offer.data_mb, offer.exclusive) == ("data", 1024.0, True)
        assert dict(offer.prices_by_plan) == {"plan_19": 5.0, "plan_39": 4.0}
        assert offer.traits == {"light", "scene"}

    def test_may_be_left_out(self, tmp_path: Path) -> None:
        offer = Catalogue.load(write(tmp_path, OFFER)).get("ring_tone")
        assert (offer.category, offer.status, offer.tier) == ("other", "on_sale", None)
        assert offer.is_on_sale(EARLY)
        assert offer.is_on_sale(LATE)

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("category: data", "category: song", r"offers\[0\].category is 'song'"),
            ("status: on_sale", "status: gone", r"offers\[0\].status is 'gone'"),
            ("valid_until: 2026-12-31", "valid_until: 2026-09-01", "before valid_from"),
            ("plan_39: 4}", "plan_39: -4}", r"prices_by_plan.plan_39 is -4"),
            ("data_mb: 1024", "data_mb: 1024\n    tier: 2", "tier and family go together"),
            ("data_mb: 1024", "data_mb: .inf", r"data_mb is inf"),
        ],
    )
    def test_a_wrong_field_is_named(self, tmp_path: Path, old: str, new: str, told: str) -> None:
        with pytest.raises(DocumentError, match=told):
            Catalogue.load(write(tmp_path, FULL.replace(old, new)))


class TestOnSale:
    def test_holds_what_may_be_sold_on_that_day(self, tmp_path: Path) -> None:
        catalogue = Catalogue.load(write(tmp_path, FULL))
        assert [len(catalogue.on_sale(day)) for day in (EARLY, DURING, LATE)] == [0, 1, 0]

    def test_the_last_day_counts(self, tmp_path: Path) -> None:
        catalogue = Catalogue.load(write(tmp_path, FULL))
        assert catalogue.get_on_sale("ring_tone", date(2026, 12, 31)).offer_id == "ring_tone"

    @pytest.mark.parametrize(
        ("change", "day", "error", "told"),
        [
            ("status: retired", DURING, RetiredOfferError, "is retired"),
            ("status: on_sale", LATE, RetiredOfferError, "retired since 2026-12-31"),
            ("status: draft", DURING, NotOnSaleError, "is a draft"),
            ("status: on_sale", EARLY, NotOnSaleError, "on sale only from 2026-10-01"),
        ],
    )
    def test_what_may_not_be_sold_says_why_in_both_languages(
        self, tmp_path: Path, change: str, day: date, error: type[UserError], told: str
    ) -> None:
        catalogue = Catalogue.load(write(tmp_path, FULL.replace("status: on_sale", change)))
        with pytest.raises(NotOnSaleError, match=told) as caught:
            catalogue.require_on_sale(["ring_tone"], day)
        assert type(caught.value) is error
        assert "ring_tone" in caught.value.text("zh")

    def test_a_retired_offer_can_still_be_read(self, tmp_path: Path) -> None:
        text = FULL.replace("status: on_sale", "status: retired")
        assert Catalogue.load(write(tmp_path, text)).get("ring_tone").is_retired(DURING)

    def test_a_catalogue_that_forgets_the_last_day_is_caught(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Offer, "_is_over", lambda _self, _day: False)
        catalogue = Catalogue.load(write(tmp_path, FULL))
        assert len(catalogue.on_sale(LATE)) == 1  # the defect: sold after its last day


class TestParts:
    def test_launched_in_a_period(self, tmp_path: Path) -> None:
        catalogue = Catalogue.load(write(tmp_path, FULL))
        assert len(catalogue.launched(date(2026, 10, 1), DURING)) == 1
        assert len(catalogue.launched(date(2026, 10, 2), DURING)) == 0

    def test_plan_by_offer_or_product_id(self) -> None:
        catalogue = Catalogue(family())
        found = [catalogue.plan_of(name) for name in ("plan_19", "product_19", "plan_x")]
        assert [plan and plan.offer_id for plan in found] == ["plan_19", "plan_19", None]

    def test_a_family_is_ordered_by_tier(self) -> None:
        catalogue = Catalogue(reversed(family()))
        assert [plan.tier for plan in catalogue.family("mobile")] == [1, 2, 3, 4]
        assert catalogue.family("fixed") == ()
