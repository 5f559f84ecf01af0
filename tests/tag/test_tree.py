"""The tag tree: levels, counts and tags, of one subject or of all."""

from __future__ import annotations

import pytest

from bihuan.tag import TagDictionary
from bihuan.tag.tree import UnknownCategoryError, build_tree


class TestTree:
    def test_counts_add_up_from_the_leaves(self, library):
        root = library.tree()
        assert root.count == len(library)
        for branch in (root, *root.walk()):
            assert branch.count == len(branch.tags) + sum(b.count for b in branch.branches)
            assert branch.count == len(branch.all_tags())

    def test_it_agrees_with_the_paths_of_the_dictionary(self, library):
        counted = {branch.path: branch.count for branch in library.tree().walk()}
        assert counted == library.categories()

    def test_it_has_three_levels_and_tags_only_at_the_third(self, library):
        root = library.tree()
        assert root.depth == 3
        for branch in root.walk():
            assert bool(branch.tags) == (branch.path.count("/") == 2), branch.path

    def test_a_subject_has_a_tree_of_its_own(self, library):
        for subject in ("customer", "subscription", "outlet"):
            tags = {tag.name for tag in library.live(subject)}
            assert set(library.tree(subject).all_tags()) == tags

    def test_only_live_tags_stand_in_it(self, define, contracts):
        dictionary = TagDictionary(
            [define("one"), define("two", expression="max(amount)", state="draft")], contracts
        )
        assert dictionary.tree().all_tags() == ("one",)

    def test_a_path_leads_to_its_branch(self, library):
        branch = library.tree("customer").get("偏好/渠道偏好")
        assert (branch.name, branch.path) == ("渠道偏好", "偏好/渠道偏好")
        assert "preferred_channel_1" in branch.all_tags()

    def test_an_unknown_path_names_what_there_is(self, library):
        with pytest.raises(UnknownCategoryError, match="渠道偏好"):
            library.tree("customer").get("偏好/渠道偏爱")

    def test_without_tags_it_is_empty(self):
        assert (build_tree([]).count, build_tree([]).depth, build_tree([]).to_text()) == (0, 0, "")
