"""The card that a planner reads."""

from __future__ import annotations

import json

import pytest

from bihuan.model import ModelCard


class TestToMarkdown:
    @pytest.mark.parametrize("language", ["zh", "en"])
    def test_tells_purpose_worth_steps_and_what_was_left_out(self, churn_model, language):
        text = churn_model.card.to_markdown(language)
        title, step, reason = {
            "zh": ("# 离网预警", "**指标类别合并**", "高度相关"),
            "en": ("# Churn", "**Merge indicator categories**", "says the same as"),
        }[language]
        assert text.startswith(title)
        assert step in text
        assert reason in text
        assert f"{churn_model.card.metrics.auc.value:.4f}" in text
        for number in range(1, 9):
            assert f"\n{number}. **" in text

    def test_chinese_has_no_english_sentence(self, churn_model):
        text = churn_model.card.to_markdown("zh")
        for word in (" the ", " rows ", "Kept", "Judged", "missing"):
            assert word not in text

    def test_tables_are_whole(self, churn_model):
        for language in ("zh", "en"):
            block: list[int] = []
            for line in [*churn_model.card.to_markdown(language).splitlines(), ""]:
                if line.startswith("|"):
                    block.append(line.count("|"))
                else:
                    assert len(set(block)) <= 1, line
                    block = []

    def test_a_bar_in_a_title_does_not_break_the_table(self, churn_model):
        from dataclasses import replace

        card = replace(churn_model.card, owner="a|b")
        assert "a\\|b" in card.to_markdown("en")


class TestCard:
    def test_used_features_come_heaviest_first_and_add_up(self, churn_model):
        used = churn_model.card.used
        weights = [fact.weight for fact in used]
        assert weights == sorted(weights, reverse=True)
        assert sum(weights) == pytest.approx(1.0)
        assert used[0].name in {"Contract", "tenure"}

    def test_json_and_back(self, churn_model):
        raw = json.loads(json.dumps(churn_model.card.to_dict()))
        again = ModelCard.from_dict(raw)
        assert again.metrics == churn_model.card.metrics
        assert again.to_markdown("zh") == churn_model.card.to_markdown("zh")

    def test_knows_its_data_and_libraries(self, churn_model):
        card = churn_model.card
        assert (card.data.rows, card.data.positives) == (7043, 1869)
        assert card.data.lineage == {"file": "telco_customer_churn.csv.gz"}
        assert {"lightgbm", "numpy"} <= card.libraries.keys()
        assert card.settings["learner"] == "blend"
