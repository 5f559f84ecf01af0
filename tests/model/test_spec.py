"""The order form: what it accepts, and how it names what it does not."""

from __future__ import annotations

import pytest

from bihuan.model import ModelSpec
from bihuan.model.steps.spec import ModelSpecError

TEXT = """
name: churn
title: {zh: 离网预警, en: Churn}
label: {zh: 当月离网, en: Left within the month}
learner: blend
trials: 5
features:
  merge: {min_rows: 50, max_groups: 8}
  allow: [duration]
  min_information: 0.01
sampling: {negatives_per_positive: 4, half_life: 6}
validation: {holdout_periods: 2}
boosted: {trees: 80, leaves: 15}
titles: {arpu: {zh: 月消费, en: ARPU}}
"""


class TestLoad:
    def test_nested_rules_are_nested_fields(self, tmp_path):
        path = tmp_path / "churn.yaml"
        path.write_text(TEXT, encoding="utf-8")
        spec = ModelSpec.load(path)
        assert spec.learner == "blend"
        assert spec.features.merge.min_rows == 50
        assert spec.features.allow == ("duration",)
        assert spec.sampling.half_life == 6.0
        assert spec.boosted.leaves == 15
        assert spec.titles["arpu"]["zh"] == "月消费"
        assert spec.logistic == ModelSpec(name="x").logistic

    @pytest.mark.parametrize(
        ("old", "new", "said"),
        [
            ("trials: 5", "trails: 5", "no field 'trails'. Did you mean 'trials'"),
            ("min_rows: 50", "min_row: 50", "no field 'features.merge.min_row'"),
            ("min_rows: 50", "min_rows: many", "'features.merge.min_rows' is 'many', expected int"),
            ("trials: 5", "trials: 1.5", "'trials' is 1.5, expected int"),
            ("learner: blend", "learner: magic", "'learner' is 'magic'"),
            ("name: churn", "", "a field is missing"),
            (
                "validation: {holdout_periods: 2}",
                "validation: {inner_folds: 1}",
                "inner_folds' is 1",
            ),
            ("features:", "features: none\nx:", "'features' is 'none', expected"),
            ("name: churn", "name: [", "cannot be read"),
        ],
    )
    def test_mistakes_are_named_with_file_and_field(self, tmp_path, old, new, said):
        assert old in TEXT
        path = tmp_path / "churn.yaml"
        path.write_text(TEXT.replace(old, new), encoding="utf-8")
        with pytest.raises(ModelSpecError) as caught:
            ModelSpec.load(path)
        assert said in str(caught.value)
        assert "churn.yaml" in str(caught.value)
        assert "churn.yaml" in caught.value.zh


class TestParse:
    def test_names_where_the_values_come_from(self):
        with pytest.raises(ModelSpecError, match=r"pack.yaml: there is no field 'nme'"):
            ModelSpec.parse({"nme": "x"}, "pack.yaml")
        assert ModelSpec.parse({"name": "x"}, "pack.yaml") == ModelSpec(name="x")

    def test_plain_values_and_back(self):
        spec = ModelSpec(name="x", trials=3)
        assert ModelSpec.parse(spec.to_dict(), "here").trials == 3
