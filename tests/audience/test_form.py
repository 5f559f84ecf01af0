"""Saved filters: blanks are checked, a value stays a value, whatever is typed."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.audience import AudienceError, Compare, In, parse
from bihuan.audience.scene.form import FilterForm, FormError, Parameter, load_form
from bihuan.kernel.document import DocumentError

T = {"zh": "参数", "en": "Parameter"}
FORM = FilterForm(
    "f", T, "arpu >= {least} and brand = {brand} and not city in {cities}",
    (
        Parameter("least", T, "number", default=80, low=0, high=1000),
        Parameter("brand", T, "text"),
        Parameter("cities", T, "list", options=("石家庄", "保定", "o'x")),
    ),
)  # fmt: skip


class TestFill:
    def test_values_and_defaults(self):
        text = FORM.fill({"brand": "o'clock", "cities": ["保定", "o'x"]})
        assert text == "arpu >= 80 and brand = 'o''clock' and not city in ('保定', 'o''x')"
        tree = parse(text)
        assert tree.parts[1] == Compare("brand", "=", "o'clock")
        assert tree.parts[2].part == In("city", ("保定", "o'x"))

    @pytest.mark.parametrize(
        ("values", "word"),
        [
            ({"brand": "a"}, "'cities' of filter 'f' has not been filled in"),
            ({"brand": "a", "cities": []}, "at least one"),
            ({"brand": "a", "cities": ["石家庄市"]}, "choose one of: 石家庄"),
            ({"brand": "a", "cities": ["保定"], "least": -1}, "within 0 .. 1000"),
            ({"brand": "a", "cities": ["保定"], "least": "many"}, "a number is needed"),
            ({"brand": "a", "cities": ["保定"], "least": True}, "a number is needed"),
            ({"brand": 5, "cities": ["保定"]}, "a text is needed"),
            ({"brand": "a", "cities": ["保定"], "most": 5}, "no parameter 'most'"),
        ],
    )
    def test_refuses_with_the_reason(self, values, word):
        with pytest.raises(FormError, match=word):
            FORM.fill(values)

    def test_dates_integers_and_booleans(self):
        form = FilterForm(
            "f", T, "joined_on >= {since} and tenure_months > {months} and has_contract = {yes}",
            (
                Parameter("since", T, "date", low=date(2020, 1, 1)),
                Parameter("months", T, "integer"),
                Parameter("yes", T, "boolean", default=True),
            ),
        )  # fmt: skip
        text = form.fill({"since": "2026-01-31", "months": "12"})
        assert parse(text).parts[0].value == date(2026, 1, 31) or "2026-01-31" in text
        with pytest.raises(FormError, match="a integer is needed"):
            form.fill({"since": "2026-01-31", "months": 1.5})
        with pytest.raises(FormError, match="within"):
            form.fill({"since": "2019-12-31", "months": 1})

    @settings(max_examples=300, deadline=None)
    @given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30))
    def test_whatever_is_typed_stays_one_value(self, typed):
        tree = parse(FORM.fill({"brand": typed, "cities": ["保定"]}))
        assert tree.parts[1] == Compare("brand", "=", typed)

    def test_pasting_the_value_in_would_let_everyone_in(self):
        """The defect: a sentence put together as text."""
        typed = "x' or arpu >= 0 or brand = 'y"
        pasted = f"arpu >= 80 and brand = '{typed}'"
        assert len(parse(pasted).parts) == 3
        safe = parse(FORM.fill({"brand": typed, "cities": ["保定"]}))
        assert safe.parts[1].value == typed


class TestForms:
    def test_sentence_and_blanks_must_go_together(self):
        blank = Parameter("least", T, "number")
        with pytest.raises(FormError, match="'most'"):
            FilterForm("f", T, "arpu > {most}", (blank,))
        with pytest.raises(FormError, match="'least'"):
            FilterForm("f", T, "arpu > 5", (blank,))
        with pytest.raises(FormError, match="quotes"):
            FilterForm("f", T, "brand = '{least}'", (blank,))

    def test_reads_yaml(self, tmp_path):
        path = tmp_path / "rich.yaml"
        text = """
title: {zh: 高价值, en: High value}
audience: arpu >= {least} and city in {cities}
columns: [arpu]
parameters:
  - {name: least, title: {zh: 最低, en: Least}, type: number, range: [0, 1000], default: 80}
  - {name: cities, title: {zh: 地市, en: Cities}, type: list, options: [保定]}
"""
        path.write_text(text, encoding="utf-8")
        found = load_form(path)
        assert found.fill({"cities": ["保定"]}) == "arpu >= 80 and city in ('保定')"
        assert found.columns == ("arpu",)
        for change, error, word in [
            (("default: 80", "default: 8000"), FormError, "within"),
            (("type: number", "type: nmber"), DocumentError, "nmber"),
            (("arpu >= {least}", "arpu >= >= {least}"), AudienceError, "column"),
        ]:
            path.write_text(text.replace(*change), encoding="utf-8")
            with pytest.raises(error, match=word):
                load_form(path)
