"""P016: the hierarchy and the categories of tags."""

from __future__ import annotations

from collections import Counter

import pytest

import bihuan as bh

from .by_hand import open_at


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> bh.Workspace:
    """A new workspace: the sample library is its dictionary."""
    return open_at(tmp_path_factory.mktemp("hierarchy") / "ws")


@pytest.mark.mission("P016")
class TestThreeLevels:
    """F-31: 一级、二级、三级维度. E-47: 建立客户分群体系的一级及二级标签."""

    def test_f31_every_tag_stands_at_a_third_level_category(self, ws) -> None:
        counted: Counter[int] = Counter()
        for branch in ws.dictionary.tree().walk():
            level = 1 + branch.path.count("/")
            counted[level] += 1
            assert bool(branch.tags) == (level == 3), branch.path
        assert set(counted) == {1, 2, 3}
        assert counted[1] < counted[2] < counted[3]

    def test_f31_counts_of_a_level_add_up_to_the_level_above(self, ws) -> None:
        root = ws.dictionary.tree()
        assert root.count == len(ws.dictionary) == 672
        for branch in (root, *root.walk()):
            if branch.branches:
                assert branch.count == sum(below.count for below in branch.branches)

    def test_e47_segments_are_found_from_the_first_level_down(self, ws) -> None:
        tree = ws.dictionary.tree("customer")
        groups = tree.get("营销/存量经营/维系客群")
        assert set(groups.all_tags()) == {
            "no_contract_group", "contract_expiring_group", "terminal_change_group",
            "floating_group", "mid_high_end_group", "data_customer_group",
        }  # fmt: skip
        assert set(groups.all_tags()) < set(tree.get("营销").all_tags())
        with pytest.raises(bh.UserError, match="存量经营"):
            tree.get("营销/存量经验")

    def test_e47_a_planner_adds_a_segment_at_any_level_three(self, tools, tmp_path) -> None:
        mine = open_at(tmp_path / "ws")
        tools.with_library(mine)
        tools.define(mine, "tags", "ours", SEGMENT)
        mine = open_at(tmp_path / "ws")
        branch = mine.dictionary.tree("customer").get("营销/存量经营/校园客群")
        assert branch.all_tags() == ("campus_group",)

    def test_f31_the_tree_is_printed_as_people_read_it(self, ws) -> None:
        text = ws.dictionary.tree("customer").to_text()
        lines = text.splitlines()
        first = next(i for i, line in enumerate(lines) if line.startswith("基本属性"))
        assert lines[first + 1].startswith("  ")
        assert lines[first + 2].startswith("    ")


@pytest.mark.mission("P016")
class TestCategories:
    """F-28 basic attributes, F-29 basic features, F-30 preferences."""

    @pytest.mark.parametrize(
        ("row", "path", "some"),
        [
            ("F-28 社会属性", "基本属性/社会属性", {"customer_kind", "has_partner", "family_size"}),
            ("F-28 自然属性", "基本属性/自然属性", {"age", "gender"}),
            ("F-29 用电", "基本特征/用电特征", set()),
            ("F-29 心理性格", "基本特征/心理性格", {"value_orientation", "price_sensitive"}),
            ("F-29 性格", "基本特征/心理性格/性格", {"cautious", "novelty_seeker"}),
            ("F-30 缴费偏好", "偏好/缴费偏好", {"payment_method", "preferred_payment_1"}),
            ("F-30 兴趣偏好", "偏好/兴趣偏好", {"preferred_interest_1"}),
        ],
    )
    def test_each_category_named_by_the_case_holds_its_tags(self, ws, row, path, some) -> None:
        tags = set(ws.dictionary.tree("customer").get(path).all_tags())
        assert tags, row
        assert some <= tags, row

    def test_f29_personality_is_by_experience_and_says_so(self, ws) -> None:
        branch = ws.dictionary.tree("customer").get("基本特征/心理性格/性格")
        for name in branch.all_tags():
            tag = ws.dictionary.get(name)
            assert tag.means == "experience", name
            assert tag.thresholds, name
            assert "经验" in tag.meaning["zh"], name

    def test_f30_preferences_stand_apart_from_features(self, ws) -> None:
        tree = ws.dictionary.tree("customer")
        preferences = set(tree.get("偏好").all_tags())
        assert not preferences & set(tree.get("基本特征").all_tags())
        assert len(preferences) > 50


@pytest.mark.mission("P016")
class TestInitialSystem:
    """F-27: 借助于电力专家经验,设计一套适合于电力行业 - a system to start from, and to change."""

    def test_f27_the_power_tags_use_categories_of_other_industries_too(self, ws) -> None:
        power = [tag for tag in ws.dictionary.live("customer") if tag.name.startswith("power_")]
        assert len(power) >= 40
        first = {tag.category.split("/")[0] for tag in power}
        assert {"基本属性", "基本特征", "偏好"} <= first
        others = [tag for tag in ws.dictionary.live("customer") if tag not in power]
        assert first & {tag.category.split("/")[0] for tag in others}

    def test_f27_experts_rules_are_thresholds_that_can_be_set(self, ws) -> None:
        rules = [tag for tag in ws.dictionary.live("customer")
                 if tag.name.startswith("power_") and tag.means == "experience"]  # fmt: skip
        assert len(rules) >= 10
        assert all(tag.thresholds for tag in rules)

    def test_f27_every_tag_says_what_it_means_how_it_is_counted_and_whose_it_is(self, ws) -> None:
        for row in ws.dictionary.to_table().to_pylist():
            for key in ("title", "meaning", "definition"):
                assert row[f"{key}_zh"], row["name"]
                assert row[f"{key}_en"], row["name"]
            assert row["owner"] == "sample", row["name"]
            assert row["all_sources"] or row["model"] or row["tags"], row["name"]


@pytest.mark.mission("P016")
class TestLargeEnterpriseUsers:
    """F-32: 如对象是企业大用户,对应标签有所调整 - an adjusted set for large enterprise users."""

    def test_f32_their_tree_is_another_one(self, ws) -> None:
        people, firms = (ws.dictionary.tree(s) for s in ("customer", "enterprise"))
        assert firms.count >= 20
        assert not set(people.all_tags()) & set(firms.all_tags())
        assert firms.depth == 3

    def test_f32_nothing_of_persons_stands_in_it(self, ws) -> None:
        text = ws.dictionary.tree("enterprise").to_text()
        for word in ("家庭", "性格", "兴趣", "自然属性"):
            assert word not in text
            assert word in ws.dictionary.tree("customer").to_text()

    def test_f32_what_only_enterprises_have_stands_in_it(self, ws) -> None:
        titles = " ".join(tag.title["zh"] for tag in ws.dictionary.live("enterprise"))
        assert "员工" in titles or "人数" in titles
        assert "专线" in titles

    def test_f32_their_lines_have_a_level_of_their_own(self, ws) -> None:
        assert ws.dictionary.tree("leased_line").count >= 11


SEGMENT = """
tags:
  - name: campus_group
    title: {zh: 校园客群, en: Campus group}
    layer: marketing
    library: customer
    subject: customer
    means: experience
    type: boolean
    expression: is_student and coalesce(arpu >= $amount, false)
    thresholds: {amount: 30}
    category: 营销/存量经营/校园客群
    owner: marketing department
    state: live
    meaning: {zh: 校园内的在网客户, en: Customers on a campus}
    definition: {zh: 学生且月均消费不低于阈值, en: "Student, and monthly revenue reaches the threshold"}
"""
