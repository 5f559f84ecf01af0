"""P018: tags are designed, reviewed, tried, put in force, sorted out and retired; all recorded."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest

from bihuan.tag import TagDefinitionError, TagTransitionError

OCTOBER = "2026-10-31"
TAG = """
name: bill_shock
title: {zh: 账单突增, en: Bill shock}
layer: portrait
subject: customer
means: experience
type: boolean
expression: bill_amount >= arpu * $times
thresholds: {times: 1.2}
category: 消费/账单/突增
owner: 市场部数据组
meaning: {zh: 当月账单明显高于平时, en: This month's bill is well above the usual}
definition: {zh: 当月账单不低于近三月月均的给定倍数, en: Bill at least so many times the mean}
"""
SPRING = """
campaign_id: spring
title: {zh: 账单关怀, en: Bill care}
goal: {metric: orders, target: 0.02, reason: {zh: 关怀, en: care}, starts_on: 2026-11-01,
       ends_on: 2026-11-30}
audience: "bill_shock and not is_suspended"
channels: {sms: {capacity: 10, unit_cost: 0.05}}
mix: []
"""


@pytest.fixture
def desk(own_town) -> SimpleNamespace:
    """The town, whose tags a test may change."""
    return SimpleNamespace(ws=own_town.ws, bills=own_town.bills, folder=own_town.folder)


def put_in_force(ws, text: str, name: str) -> None:
    ws.tag_desk.propose(text, who="分析员甲", why="客户投诉账单突增，需要提前关怀")
    ws.tag_desk.review(name, "accept", who="业务主管乙", comment="口径与业务一致")
    ws.tag_desk.try_out(name, OCTOBER, who="分析员甲")
    ws.tag_desk.go_live(name, who="业务主管乙", why="试算分布合理")


@pytest.mark.mission("P018")
class TestDesignProcess:
    """C-15: a regular process of tag design and development (标签设计开发流程)."""

    def test_c15_from_the_need_to_the_tag_in_use_with_who_and_why(self, desk) -> None:
        ws = desk.ws
        ws.tag_desk.propose(TAG, who="分析员甲", why="客户投诉账单突增，需要提前关怀")
        with pytest.raises(TagTransitionError, match="handed in"):
            ws.tag_desk.review("bill_shock", "accept", who="分析员甲", comment="自审")
        ws.tag_desk.review("bill_shock", "return", who="业务主管乙", comment="倍数说明不足")
        ws.tag_desk.propose(TAG.replace("1.2", "1.3"), who="分析员甲", why="按近一年分布调整")
        ws.tag_desk.review("bill_shock", "accept", who="业务主管乙", comment="口径与业务一致")
        with pytest.raises(TagTransitionError, match="tried out"):
            ws.tag_desk.go_live("bill_shock", who="业务主管乙", why="赶进度")
        report = ws.tag_desk.try_out("bill_shock", OCTOBER, who="分析员甲")
        ws.tag_desk.go_live("bill_shock", who="业务主管乙", why="试算分布合理")
        # what the trial said is what is so afterwards
        ws.refresh_tags(OCTOBER)
        shocked = ws.count("bill_shock", OCTOBER).members
        assert shocked == report.distribution["true"]
        assert [(s.after, s.who, s.why) for s in ws.tag_desk.history("bill_shock")] == [
            ("draft", "分析员甲", "客户投诉账单突增，需要提前关怀"),
            ("review", "分析员甲", "客户投诉账单突增，需要提前关怀"),
            ("draft", "业务主管乙", "倍数说明不足"),
            ("draft", "分析员甲", "按近一年分布调整"),
            ("review", "分析员甲", "按近一年分布调整"),
            ("test", "业务主管乙", "口径与业务一致"),
            ("live", "业务主管乙", "试算分布合理"),
        ]

    def test_c15_the_trial_agrees_with_a_count_by_hand(self, desk) -> None:
        ws = desk.ws
        ws.tag_desk.propose(TAG, who="分析员甲", why="关怀")
        ws.tag_desk.review("bill_shock", "accept", who="业务主管乙", comment="可")
        report = ws.tag_desk.try_out("bill_shock", OCTOBER, who="分析员甲")
        rows = ws.tags(OCTOBER).read(ws.engine, ["bill_amount", "arpu"]).to_pylist()
        both = [r for r in rows if r["bill_amount"] is not None and r["arpu"] is not None]
        hits = sum(float(r["bill_amount"]) >= float(r["arpu"]) * 1.2 for r in both)
        assert 0 < hits < len(both) < len(rows)
        assert report.subjects == len(rows)
        assert report.missing == len(rows) - len(both)
        assert report.distribution == {"false": len(both) - hits, "true": hits}
        assert report.seconds > 0
        # nothing of the trial is to be seen by anybody
        with pytest.raises(Exception, match="bill_shock"):
            ws.count("bill_shock", OCTOBER)


@pytest.mark.mission("P018")
class TestUpdating:
    """F-37: update management (更新管理)."""

    def test_f37_a_new_version_shows_what_is_different_and_whom_it_concerns(self, desk) -> None:
        ws = desk.ws
        put_in_force(ws, TAG, "bill_shock")
        ws.refresh_tags(OCTOBER)
        before = {r["customer_id"]: r["bill_shock"] for r in read(ws)}
        ws.tag_desk.propose(TAG.replace("1.2", "1.05"), who="分析员甲", why="覆盖不足")
        steps = [s for s in ws.tag_desk.history("bill_shock") if s.version == 2]
        assert steps[0].changes == {"thresholds": [{"times": 1.2}, {"times": 1.05}]}
        ws.tag_desk.review("bill_shock", "accept", who="业务主管乙", comment="同意")
        change = ws.tag_desk.try_out("bill_shock", OCTOBER, who="分析员甲").change
        # until it goes live, everybody works on version 1
        assert ws.dictionary.get("bill_shock").version == 1
        ws.tag_desk.go_live("bill_shock", who="业务主管乙", why="同意")
        ws.refresh_tags(OCTOBER)
        after = {r["customer_id"]: r["bill_shock"] for r in read(ws)}
        moved = sum(before[c] != after[c] for c in before)
        assert change is not None
        assert change.changed == moved > 0
        assert change.version == 1


def read(ws):
    return ws.tags(OCTOBER).read(ws.engine, ["bill_shock"]).to_pylist()


@pytest.mark.mission("P018")
class TestSortingOut:
    """F-38: sorting out (梳理管理)."""

    def test_f38_double_empty_unused_and_ownerless_tags_are_listed_with_a_proposal(
        self, desk
    ) -> None:
        ws = desk.ws
        put_in_force(ws, TAG, "bill_shock")
        again = TAG.replace("name: bill_shock", "name: bill_jump").replace("突增", "跳增")
        again = again.replace("Bill shock", "Bill jump").replace("市场部数据组", "sample")
        put_in_force(ws, again, "bill_jump")
        never = TAG.replace("name: bill_shock", "name: bill_huge").replace("突增", "巨额")
        never = never.replace("Bill shock", "Bill huge").replace("times: 1.2", "times: 900")
        put_in_force(ws, never, "bill_huge")
        ws.refresh_tags(OCTOBER)
        findings = ws.tag_desk.findings(OCTOBER)
        found = {(f.kind, name) for f in findings for name in f.tags}
        assert ("same_calculation", "bill_jump") in found
        assert ("no_owner", "bill_jump") in found
        assert ("no_owner", "bill_shock") not in found
        assert ("poor", "bill_huge") in found  # nobody has such a bill
        assert ("unused", "bill_shock") in found
        proposals = [f.action["zh"] for f in findings if f.kind == "same_calculation"]
        assert any("bill_jump" in text and "bill_shock" in text for text in proposals)
        # as soon as somebody uses it, it is no longer listed
        define(ws, "campaigns", "spring", SPRING)
        after = {(f.kind, name) for f in ws.tag_desk.findings(OCTOBER) for name in f.tags}
        assert found - after == {("unused", "bill_shock")}


def define(ws, kind: str, name: str, text: str) -> None:
    path = ws.layout.root / kind / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.mission("P018")
class TestAddingAndDeleting:
    """F-39: adding and deleting (添加/删除管理)."""

    def test_f39_a_tag_in_use_cannot_go_and_the_users_are_named(self, desk) -> None:
        ws = desk.ws
        put_in_force(ws, TAG, "bill_shock")
        define(ws, "campaigns", "spring", SPRING)
        define(ws, "scenes", "daily", 'title: {zh: 日常, en: Daily}\naudience: "bill_shock"\n')
        rule = "rules:\n- {name: r, title: {zh: a, en: a}, condition: bill_shock}\n"
        define(ws, "rules", "care", rule)
        with pytest.raises(TagTransitionError) as caught:
            ws.tag_desk.retire("bill_shock", who="业务主管乙", why="精简")
        for user in ("campaigns/spring.yaml", "scenes/daily.yaml", "rules/care.yaml"):
            assert user in caught.value.zh
        with pytest.raises(TagTransitionError, match="tag bill_shock"):
            ws.tag_desk.retire("arpu", who="业务主管乙", why="精简")

    def test_f39_what_nobody_uses_goes_and_its_story_stays(self, desk, tools) -> None:
        ws = desk.ws
        put_in_force(ws, TAG, "bill_shock")
        ws.tag_desk.retire("bill_shock", who="业务主管乙", why="合并到新标签")
        again = tools.open_at(desk.folder / "ws")  # another process, another day
        assert again.dictionary.get("bill_shock").state == "retired"
        assert again.tag_desk.history("bill_shock")[-1].why == "合并到新标签"
        again.refresh_tags(OCTOBER)
        with pytest.raises(Exception, match="bill_shock"):
            again.count("bill_shock", OCTOBER)


@pytest.mark.mission("P018")
class TestFramework:
    """F-40: improving the framework (框架完善管理): the tree and single tags."""

    def test_f40_a_branch_is_renamed_for_all_its_tags_and_the_values_stay(
        self, desk, tools
    ) -> None:
        ws = desk.ws
        put_in_force(ws, TAG, "bill_shock")
        ws.refresh_tags(OCTOBER)
        branch = ws.dictionary.get("arpu").category.split("/")[0]
        below = [tag.name for tag in ws.dictionary.select(category=branch)]
        assert len(below) > 3
        moved = ws.tag_desk.move_category(branch, "价值贡献", who="数据治理", why="统一一级类目")
        assert set(moved) == set(below)
        again = tools.open_at(desk.folder / "ws")
        assert again.dictionary.select(category=branch) == ()
        assert {t.name for t in again.dictionary.select(category="价值贡献")} == set(below)
        assert all(again.tag_desk.history(name)[-1].who == "数据治理" for name in below)
        report = again.refresh_tags(OCTOBER)
        assert {group.state for group in report.groups} <= {"unchanged", "pending"}

    def test_f40_gaps_of_the_tree_are_found(self, desk) -> None:
        ws = desk.ws
        lonely = TAG.replace("消费/账单/突增", "新一级/新二级/新三级")
        put_in_force(ws, lonely, "bill_shock")
        uneven = TAG.replace("消费/账单/突增", "消费").replace("bill_shock", "bill_flat")
        put_in_force(ws, uneven.replace("账单突增", "账单平").replace("1.2", "1.4"), "bill_flat")
        found = {(f.kind, name) for f in ws.tag_desk.findings(OCTOBER) for name in f.tags}
        assert ("thin_category", "bill_shock") in found
        assert ("uneven_path", "bill_flat") in found
        with pytest.raises(TagDefinitionError):
            ws.tag_desk.move_category("消费", "消费/二级", who="数据治理", why="层级不符")


@pytest.mark.mission("P018")
class TestOnePoint:
    """D-41: tags and models are managed at one point (標簽模型一點管理)."""

    def test_d41_models_stand_beside_tags_with_their_state(self, scored, tools, tmp_path) -> None:
        shutil.copytree(scored.folder, tmp_path / "operator")
        ws = tools.open_at(tmp_path / "operator" / "ws")
        assert ws.tag_desk.stock().total == len(ws.dictionary)
        models = {model.name: model for model in ws.tag_desk.models()}
        assert models["churn"].state == "challenger"  # learnt, nobody has put it into use
        assert models["churn"].versions == 1
        version = ws.registry.list("churn")[0].version
        ws.tag_desk.promote_model("churn", version, who="业务主管乙", why="评估达标")
        models = {model.name: model for model in ws.tag_desk.models()}
        assert models["churn"].state == "champion"
        assert ws.registry.history("churn")[-1]["by"] == "业务主管乙"
        learnt = {name for name, model in models.items() if model.versions}
        assert learnt == {"churn"}
        assert len(models) > 200  # the catalogue waits beside it
