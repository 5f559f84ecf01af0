from __future__ import annotations

import numpy as np
import pytest

from bihuan.audience import match
from bihuan.decision import Candidate, LeverBook, expected_value, lever_matrix
from bihuan.decision.lever import LeverError
from bihuan.kernel.document import DocumentError

FILE = """
levers:
  - lever: light_first
    title: {zh: 轻载优先, en: Light first}
    channels: [outbound]
    traits: [light]
    factor: 1.5
  - lever: data_back
    title: {zh: 流量靠后, en: Data last}
    categories: [data]
    factor: 0.5
fits:
  - fit: affordable
    title: {zh: 偏贵, en: Too dear}
    price_share: {of: arpu, most: 0.5}
  - fit: needs_data
    title: {zh: 无流量需求, en: Needs no data}
    categories: [data]
    needs: "dou >= 1000"
"""


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "levers.yaml"
    path.write_text(FILE, encoding="utf-8")
    return LeverBook.load(path)


class TestLeverMatrix:
    def test_levers_multiply_where_they_act_and_are_one_elsewhere(self, book, shop):
        candidates = [
            Candidate("pack", "outbound"), Candidate("pack", "sms"), Candidate("home", "outbound"),
            Candidate("contract", "outbound"),
        ]  # fmt: skip
        factors = lever_matrix(book.levers, candidates, shop.catalogue)
        assert factors.tolist() == [0.75, 0.5, 1.5, 1.0]

    def test_they_rank_and_can_be_switched_off(self, book, shop):
        pair = [Candidate("home", "outbound"), Candidate("contract", "outbound")]
        lever = lever_matrix(book.levers, pair, shop.catalogue)
        chance, margin, cost = [[0.1, 0.1]], [50.0, 60.0], [1.0, 1.0]
        pushed = expected_value(chance, margin, cost, lever=lever)[0]
        plain = expected_value(chance, margin, cost, lever=lever, off=["lever"])[0]
        assert pushed[0] > pushed[1]
        assert plain[0] < plain[1]
        assert (plain > 0).all()  # "first" is not "only": the other stays worth it


class TestFitRule:
    def test_price_share_is_exact_to_the_cent(self, book, shop):
        who = book.fits[0].audience(shop.offer("x", "arpu >= 0", price=29.99))
        assert [match(who, {"arpu": a}) for a in (59.97, 59.98, None)] == [False, True, True]

    def test_a_free_offer_suits_everybody(self, book, shop):
        assert match(book.fits[0].audience(shop.offer("x", "arpu >= 0", price=0.0)), {"arpu": -5})


class TestLeverBook:
    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("factor: 1.5", "factor: 150", r"levers\[0\].factor is 150"),
            ("factor: 1.5", "factor: -1", r"levers\[0\].factor is -1"),
            ("traits:", "trait:", r"levers\[0\].trait is not a known field"),
            ('needs: "dou >= 1000"', "note: x", r"fits\[1\].needs or price_share"),
            ("most: 0.5", "most: 0", r"price_share.most is 0"),
        ],
    )
    def test_errors_name_file_and_field(self, tmp_path, old, new, said):
        path = tmp_path / "levers.yaml"
        path.write_text(FILE.replace(old, new), encoding="utf-8")
        with pytest.raises(DocumentError, match=said):
            LeverBook.load(path)

    def test_two_levers_of_one_name_are_refused(self, tmp_path):
        path = tmp_path / "levers.yaml"
        path.write_text(FILE.replace("data_back", "light_first"), encoding="utf-8")
        with pytest.raises(LeverError, match="two levers called 'light_first'"):
            LeverBook.load(path)

    def test_its_id_changes_with_what_matters_and_not_with_a_title(self, book, tmp_path):
        def changed(old, new):
            path = tmp_path / "changed.yaml"
            path.write_text(FILE.replace(old, new), encoding="utf-8")
            return LeverBook.load(path).content_id

        assert changed("轻载优先", "轻载先行") == book.content_id
        others = {changed("factor: 1.5", "factor: 1.4"), changed("dou >= 1000", "dou >= 999"),
                  changed("[outbound]", "[sms]")}  # fmt: skip
        assert len(others | {book.content_id}) == 4
        assert np.isfinite([lever.factor for lever in book.levers]).all()
