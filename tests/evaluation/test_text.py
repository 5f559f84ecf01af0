from datetime import date

import pytest

from bihuan.evaluation.text import (
    LANGUAGES,
    Kind,
    Text,
    both,
    not_estimable,
    reason_of,
    show,
    show_interval,
)
from bihuan.kernel import DefectError, NotEstimable


class TestText:
    @pytest.mark.parametrize("words", [("", "a"), ("字", " "), ("", "")])
    def test_a_language_may_not_be_blank(self, words):
        with pytest.raises(DefectError, match="both languages"):
            Text(*words)

    def test_fill_puts_each_language_in_its_own(self):
        filled = Text("{a}中 {n:,} 户", "{n:,} in {a}").fill(a=Text("城", "town"), n=1200)
        assert (filled.zh, filled.en) == ("城中 1,200 户", "1,200 in town")

    def test_values_with_braces_are_not_filled_again(self):
        assert Text("{a}", "{a}").fill(a="{b}").en == "{b}"


class TestShow:
    @pytest.mark.parametrize(
        ("value", "kind", "zh", "en"),
        [
            (None, Kind.COUNT, "—", "—"),
            (float("nan"), Kind.MONEY, "—", "—"),
            (float("inf"), Kind.MONEY, "无界", "unbounded"),
            (12345, Kind.COUNT, "12,345", "12,345"),
            (-12, Kind.COUNT, "−12", "−12"),
            (0.0312, Kind.SHARE, "3.12%", "3.12%"),
            (0.312, Kind.SHARE, "31.2%", "31.2%"),
            (0.02, Kind.POINTS, "+2.00 个百分点", "+2.00 pp"),
            (-0.02, Kind.POINTS, "−2.00 个百分点", "−2.00 pp"),
            (0.00001, Kind.POINTS, "0.00 个百分点", "0.00 pp"),
            (-0.00001, Kind.POINTS, "0.00 个百分点", "0.00 pp"),
            (1.5, Kind.RATIO, "+150.0%", "+150.0%"),
            (-1234.5, Kind.PRICE, "−¥1,234.50", "−¥1,234.50"),
            (0.123456, Kind.NUMBER, "0.1235", "0.1235"),
            (date(2026, 10, 31), Kind.TEXT, "2026-10-31", "2026-10-31"),
            ("a", Kind.COUNT, "a", "a"),
        ],
    )
    def test_figures(self, value, kind, zh, en):
        assert (show(value, kind, "zh"), show(value, kind, "en")) == (zh, en)

    def test_currency(self):
        assert show(3, Kind.MONEY, "en", currency="USD") == "$3"
        assert show(3, Kind.MONEY, "en", currency="CHF") == "CHF 3"

    def test_intervals_name_the_unit_once(self):
        assert show_interval(-0.001, 0.02, Kind.POINTS, "zh") == "−0.10 至 +2.00 个百分点"
        assert show_interval(1, float("inf"), Kind.PRICE, "en") == "¥1.00 to unbounded"

    def test_both(self):
        assert both(Kind.POINTS, 0.01).zh == "+1.00 个百分点"
        assert both(Kind.COUNT, 1, high=2).en == "1 to 2"
        with pytest.raises(DefectError):
            both(Kind.COUNT, "a", high=2)

    def test_every_kind_is_written_in_every_language(self):
        for kind in Kind:
            for language in LANGUAGES:
                assert show(1.5, kind, language).strip()


class TestNotEstimable:
    def test_is_a_value_with_words(self):
        refused = not_estimable(Text("没有对照。", "No control."))
        assert refused == NotEstimable({"zh": "没有对照。", "en": "No control."})
        assert reason_of(refused).zh == "没有对照。"
