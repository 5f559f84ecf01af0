"""Every business has tags and every scene a model, or the gap is told."""

from __future__ import annotations

import pytest

from bihuan.data import load_contracts
from bihuan.kernel import UserError
from bihuan.model import SAMPLE_SCOPE, ModelCatalogue, check_scope, load_scope
from bihuan.tag import LIBRARY_FOLDER, TagDictionary


@pytest.fixture(scope="module")
def dictionary() -> TagDictionary:
    return TagDictionary.load(LIBRARY_FOLDER, contracts=load_contracts())


class TestSample:
    def test_the_samples_cover_their_scope(self, dictionary):
        report = check_scope(load_scope(), dictionary, ModelCatalogue.load())
        assert report.gaps == ()
        assert report.is_covered
        assert sum(map(len, report.models.values())) == 275
        places = {(m.scene, m.business) for m in ModelCatalogue.load()}
        scope = load_scope()
        assert {scene for scene, _ in places} <= set(scope.scenes)
        assert {business for _, business in places} <= set(scope.businesses)


class TestGaps:
    def test_seeded_gaps_are_found_and_no_others(self, dictionary):
        catalogue = ModelCatalogue.load()
        without = [m for m in catalogue if m.business != "iptv" or m.scene != "retention"]
        without = [m for m in without if m.business != "power"]
        fewer = TagDictionary(
            [t for t in dictionary if t.subject != "enterprise" and "政企" not in t.category],
            dictionary.contracts,
        )
        report = check_scope(load_scope(), fewer, without)
        found = {(g.kind, g.business, g.scene) for g in report.gaps}
        power = load_scope().scenes
        assert found == {
            ("business_without_tags", "b_end", ""),
            ("scene_without_model", "iptv", "retention"),
            ("business_without_model", "power", ""),
            *(("scene_without_model", "power", s.name) for s in power.values()
              if "power" in s.businesses),
        }  # fmt: skip
        assert all(g.remedy["zh"] and g.what["en"] for g in report.gaps)

    def test_a_retired_tag_covers_nothing(self, dictionary, tmp_path):
        scope = tmp_path / "scope.yaml"
        scope.write_text(
            "businesses: {tv: {title: {zh: 电视, en: TV}, tags: [has_iptv]}}\n"
            "scenes: {}\n", encoding="utf-8")  # fmt: skip
        with_it = check_scope(load_scope(scope), dictionary, [])
        assert [g.kind for g in with_it.gaps] == ["business_without_model"]

    def test_a_scene_of_an_unlisted_business_is_refused(self, tmp_path):
        path = tmp_path / "scope.yaml"
        path.write_text(
            SAMPLE_SCOPE.read_text(encoding="utf-8").replace(
                "businesses: [off_net]", "businesses: [ofnet]"
            ), encoding="utf-8")  # fmt: skip
        with pytest.raises(UserError, match=r"scenes\.acquisition\.businesses names 'ofnet'"):
            load_scope(path)
