"""The model catalogue: what loads, what binds, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bihuan.data import load_contracts
from bihuan.kernel import UserError
from bihuan.model import MODEL_LIBRARY, CatalogueError, ModelCatalogue
from bihuan.model.catalogue import tags_named
from bihuan.tag import LIBRARY_FOLDER, TagDictionary

SEGMENTS = """
segments:
  all: {title: {zh: 全部, en: all}}
  rich: {title: {zh: 高值, en: rich}, rule: "arpu >= 100"}
feature_sets:
  money: [arpu, bill_amount]
"""
TARGET = """
defaults: {business: mobile, owner: 甲}
targets:
  - name: leave
    title: {zh: 离网, en: Leaving}
    meaning: {zh: 下月离网, en: Leaves}
    scene: retention
    label: left_in_month
    population: "not is_disconnected"
    features: [money, tenure_months]
    segments: [all, rich]
"""


@pytest.fixture(scope="module")
def dictionary() -> TagDictionary:
    return TagDictionary.load(LIBRARY_FOLDER, contracts=load_contracts())


def written(folder: Path, segments: str = SEGMENTS, target: str = TARGET) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "a.yaml").write_text(segments, encoding="utf-8")
    (folder / "b.yaml").write_text(target, encoding="utf-8")
    return folder


class TestLoad:
    def test_a_target_is_one_model_per_segment(self, tmp_path, dictionary):
        catalogue = ModelCatalogue.load(written(tmp_path))
        assert [m.name for m in catalogue] == ["leave", "leave_rich"]
        rich = catalogue.get("leave_rich")
        assert rich.title == {"zh": "离网（高值）", "en": "Leaving: rich"}
        assert (rich.business, rich.scene, rich.lead_months) == ("mobile", "retention", 1)
        assert rich.spec.learner == "lightgbm"
        assert rich.spec.owner == "甲"
        assert tags_named(rich) == {"left_in_month", "is_disconnected", "arpu"}
        whole, part = catalogue.bind(dictionary)
        assert whole.features == part.features == ("arpu", "bill_amount", "tenure_months")
        assert whole.order_id != part.order_id

    def test_a_later_folder_replaces_and_adds(self, tmp_path):
        own = written(tmp_path, "segments: {all: {title: {zh: a, en: a}}}",
                      TARGET.replace("[all, rich]", "[all]").replace("离网", "流失"))  # fmt: skip
        catalogue = ModelCatalogue.load(MODEL_LIBRARY, own)
        assert catalogue.get("leave").title["zh"] == "流失"
        assert "leave_high_value" not in catalogue
        assert len(catalogue) > 200

    @pytest.mark.parametrize(("old", "new", "said"), [
        ("[all, rich]", "[all, poor]", r"b\.yaml\.targets\[0\]\.segments names 'poor'"),
        ("label: left", "lable: left", r"targets\[0\]\.lable is not a known field"),
        ("not is_disconnected", "not (is_disconnected", r"targets\[0\]\.population is no rule"),
        ("    scene: retention\n", "", "scene is missing"),
    ])  # fmt: skip
    def test_what_is_wrong_is_told_with_file_and_field(self, tmp_path, old, new, said):
        folder = written(tmp_path, target=TARGET.replace(old, new))
        with pytest.raises(UserError, match=said):
            ModelCatalogue.load(folder)

    def test_settings_can_be_given(self, tmp_path):
        target = TARGET + "    model: {learner: logistic}\n"
        assert ModelCatalogue.load(written(tmp_path, target=target)).get(
            "leave"
        ).spec.learner == "logistic"  # fmt: skip


class TestBind:
    def test_all_that_does_not_exist_is_named(self, tmp_path, dictionary):
        target = TARGET.replace("left_in_month", "left_in_moth").replace("[money,", "[没有/这类,")
        target += (
            TARGET.split("targets:\n")[1]
            .replace("name: leave", "name: other")
            .replace("[money,", "[没有/这类,")
        )
        with pytest.raises(CatalogueError) as caught:
            ModelCatalogue.load(written(tmp_path, target=target)).bind(dictionary)
        assert "left_in_moth" in caught.value.message
        assert "没有/这类" in caught.value.message
        assert caught.value.message.startswith("4 problem(s)")

    def test_the_same_model_under_another_name_is_refused(self, tmp_path, dictionary):
        again = TARGET.split("targets:\n")[1].replace("name: leave", "name: other")
        again = again.replace("not is_disconnected", "not (is_disconnected or is_disconnected)")
        folder = written(tmp_path, target=TARGET + again.replace("[all, rich]", "[rich]"))
        with pytest.raises(CatalogueError, match="other_rich: says the same as leave_rich"):
            ModelCatalogue.load(folder).bind(dictionary)

    def test_features_of_a_category_leave_scores_of_models_out(self, tmp_path, dictionary):
        target = TARGET.replace("[money, tenure_months]", "[营销/维系目标]")
        bound = ModelCatalogue.load(written(tmp_path, target=target)).bind(dictionary)
        names = {t.name for t in dictionary.select(category="营销/维系目标", state="live")}
        assert "churn_score" in names
        assert set(bound[0].features) == names - {
            n for n in names
            if any(dictionary.get(t).model for t in (n, *dictionary.lineage(n).all_tags))
        }  # fmt: skip


class TestLibrary:
    def test_there_are_275_models_that_bind_and_differ(self, dictionary):
        catalogue = ModelCatalogue.load()
        bound = catalogue.bind(dictionary)  # refuses doubles and unknown names
        assert len(catalogue) == len(bound) == len({b.order_id for b in bound}) == 275
        assert all(len(b.features) >= 3 for b in bound)
        for language in ("zh", "en"):
            assert len({m.title[language] for m in catalogue}) == 275
        assert {m.lead_months for m in catalogue} == {1}

    def test_no_model_foresees_what_its_population_says_already(self, dictionary):
        for bound in ModelCatalogue.load().bind(dictionary):
            assert bound.label != bound.population, bound.model.name
            # a population in which the answer may change: it never holds the label itself
            assert bound.label not in getattr(bound.population, "parts", ()), bound.model.name

    def test_the_files_say_that_they_are_samples(self):
        files = sorted(MODEL_LIBRARY.glob("*.yaml"))
        assert len(files) > 10
        for file in files:
            assert file.read_text(encoding="utf-8").startswith("# Sample models of ours"), file
