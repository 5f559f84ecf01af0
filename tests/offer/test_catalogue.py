"""Offers are read strictly, and a margin follows what a customer pays."""

from pathlib import Path

import numpy as np
import pytest

from bihuan.kernel import UserError
from bihuan.kernel.document import DocumentError
from bihuan.offer import Catalogue, Margin, UnknownOfferError

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
