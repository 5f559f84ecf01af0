"""Scorecards from experience: the file, the points, the words."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from bihuan.kernel.document import DocumentError
from bihuan.model import Scorecard
from bihuan.model.frame import FeatureTypeError, MissingFeatureError
from bihuan.model.scorecard import ScorecardError

TEXT = """
scorecard: newspaper
title: {zh: 手机报意向, en: Interest in the mobile newspaper}
meaning: {zh: 分数越高越可能订阅, en: "The higher, the likelier to subscribe"}
owner: product team
base: 300
items:
  - tag: arpu
    title: {zh: 月消费, en: ARPU}
    bins:
      - {below: 50, points: 0}
      - {below: 100, points: 40}
      - {points: 80.5}
    missing: 10
  - tag: brand
    values: {gotone: 120, mzone: 30}
    value_titles: {gotone: {zh: 全球通, en: GoTone}}
    other: 5
  - tag: has_newspaper
    values: {true: -500, false: 0}
"""


@pytest.fixture
def load(tmp_path):
    def load_text(text):
        path = tmp_path / "newspaper.yaml"
        path.write_text(text, encoding="utf-8")
        return Scorecard.load(path)

    return load_text


@pytest.fixture
def card(load):
    return load(TEXT)


@pytest.fixture
def customers():
    return pa.table(
        {
            "arpu": pa.array([49.99, 50.0, 100.0, None]),
            "brand": pa.array(["gotone", "mzone", "easyown", None]),
            "has_newspaper": pa.array([True, False, None, False]),
        }
    )


class TestScore:
    def test_points_by_hand(self, card, customers):
        # a value equal to a limit belongs to the bin above
        assert card.score(customers).tolist() == [
            300 + 0 + 120 - 500,
            300 + 40 + 30 + 0,
            300 + 80.5 + 5 + 0,
            300 + 10 + 0 + 0,
        ]

    def test_dates_are_days_before_the_snapshot(self, load):
        card = load(
            "{scorecard: a, base: 0, items: [{tag: joined_on, bins: "
            "[{below: 30, points: 5}, {points: 1}]}]}"
        )
        rows = pa.table({"joined_on": pa.array([dt.date(2026, 10, 20), dt.date(2026, 1, 1)])})
        assert card.score(rows, as_of=dt.date(2026, 10, 31)).tolist() == [5, 1]

    def test_integers_and_booleans_serve_as_numbers(self, load):
        card = load(
            "{scorecard: a, base: 0, items: [{tag: n, bins: [{below: 2, points: 1}, {points: 3}]}]}"
        )
        assert card.score(pa.table({"n": [1, 2]})).tolist() == [1, 3]

    def test_a_missing_tag_is_named(self, card, customers):
        with pytest.raises(MissingFeatureError, match="brand"):
            card.score(customers.drop_columns(["brand"]))

    def test_a_tag_of_another_kind_is_named(self, card, customers):
        words = customers.set_column(0, "arpu", pa.array(["a", "b", "c", "d"]))
        with pytest.raises(FeatureTypeError, match="arpu"):
            card.score(words)

    def test_experience_is_no_probability(self, card):
        with pytest.raises(ScorecardError, match="experience") as caught:
            card.probability(np.array([500.0]))
        assert caught.value.remedy


class TestExplain:
    def test_the_words_add_up_to_the_points(self, card, customers):
        told = card.explain(customers, top=2).to_pylist()
        assert told[1]["points"] == 370
        assert told[1]["en"] == (
            "300 + 40 (50 <= ARPU < 100) + 30 (brand: mzone) + 0 (has_newspaper: no) = 370"
        )
        assert told[0]["zh"] == (
            "300 + 0 (月消费 < 50) + 120 (brand: 全球通) - 500 (has_newspaper: 是) = -80"
        )

    def test_the_answers_that_brought_most_come_first(self, card, customers):
        told = card.explain(customers, top=2).to_pylist()
        assert (told[0]["tag_1"], told[0]["points_1"], told[0]["en_1"]) == (
            "brand",
            120,
            "brand: GoTone",
        )
        assert told[2]["zh_1"] == "月消费 >= 100"
        assert told[3]["en_1"] == "ARPU: missing"

    def test_every_sum_is_the_score(self, card, customers):
        for told, score in zip(
            card.explain(customers).to_pylist(), card.score(customers), strict=True
        ):
            assert told["points"] == score
            assert told["en"].endswith(f"= {score:g}")


class TestFile:
    def test_written_and_read_it_is_the_same(self, card, tmp_path):
        card.save(tmp_path / "again.yaml")
        assert Scorecard.load(tmp_path / "again.yaml") == card

    def test_a_windows_editor_may_have_saved_it(self, tmp_path, card):
        path = tmp_path / "bom.yaml"
        path.write_text("\ufeff" + TEXT, encoding="utf-8")
        assert Scorecard.load(path) == card

    @pytest.mark.parametrize(
        ("old", "new", "place"),
        [
            ("base: 300", "", "base is missing"),
            ("base: 300", "base: many", "base must be a number"),
            ("missing: 10", "mising: 10", r"items\[0\].mising is not a known field"),
            ("below: 100, points: 40", "below: 50, points: 40", r"bins\[1\].below is 50"),
            ("below: 100, points: 40", "points: 40", r"items\[0\].bins must have 'below'"),
            ("- {points: 80.5}", "", r"items\[0\].bins must have 'below'"),
            ("gotone: 120", "gotone: much", r"items\[1\].values.gotone must be a number"),
            ("- tag: brand", "- tag: arpu", "tag arpu more than once"),
            ("    values: {true: -500, false: 0}", "", r"items\[2\] needs 'bins' or 'values'"),
            ("scorecard: newspaper", "scorecard: [", "cannot be read"),
        ],
    )
    def test_a_mistake_is_named_with_file_and_field(self, load, old, new, place):
        assert old in TEXT
        with pytest.raises(DocumentError, match=place) as caught:
            load(TEXT.replace(old, new))
        assert "newspaper.yaml" in str(caught.value)
        assert caught.value.remedy
        assert caught.value.zh


class TestToMarkdown:
    def test_shows_every_point_in_both_languages(self, card):
        zh, en = card.to_markdown("zh"), card.to_markdown("en")
        assert "| 月消费 | 50 <= 月消费 < 100 | +40 |" in zh
        assert "| brand | brand: GoTone | +120 |" in en
        assert "| has_newspaper | has_newspaper: yes | -500 |" in en
