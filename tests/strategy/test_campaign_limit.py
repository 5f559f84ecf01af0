"""Limits of a campaign are read strictly, named readably, and belong to what was approved."""

from __future__ import annotations

from pathlib import Path

import pytest

from bihuan.kernel.document import DocumentError
from bihuan.offer import Catalogue
from bihuan.strategy import Campaign, CampaignLimit, load_campaign, plan_text

OFFERS = """
offers:
  - {offer_id: keep, title: {zh: 合约, en: Contract}, kind: contract, price: 10, months: 12,
     margin: 60, cost: 20, channels: [outbound, sms]}
  - {offer_id: pack, title: {zh: 流量包, en: Pack}, kind: addon, price: 20, months: 6,
     margin: 40, cost: 5, channels: [sms, app]}
"""
CAMPAIGN = """
campaign_id: c
title: {zh: 保有, en: Keep}
goal: {metric: accepted, target: 0.01, reason: {zh: 甲, en: A}, needs: {zh: 乙, en: B},
       starts_on: 2026-11-01, ends_on: 2026-11-30}
audience: everyone
control_share: 0.2
channels: {outbound: {}, sms: {}, app: {}}
scripts: {s: {zh: 您好, en: Hello}}
mix:
  - offer: keep
    promotion: {zh: 返费, en: credit}
    channels: {outbound: {script: s, acceptance: 0.2}, sms: {script: s, acceptance: 0.1}}
  - offer: pack
    promotion: {zh: 半价, en: half price}
    channels: {sms: {script: s, acceptance: 0.1}, app: {script: s, acceptance: 0.1}}
"""
TWO = """
limits:
  - {kind: minimum, channel: outbound, unit: city-1301, bound: 200, penalty: 50}
  - {kind: sales_at_most, offer: [pack, keep], channel: [sms], bound: 30.5}
"""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    path = tmp_path_factory.mktemp("offers") / "o.yaml"
    path.write_text(OFFERS, encoding="utf-8")
    return Catalogue.load(path)


@pytest.fixture
def load(tmp_path: Path, catalogue: Catalogue):
    def read(more: str = "") -> Campaign:
        path = tmp_path / "c.yaml"
        path.write_text(CAMPAIGN + more, encoding="utf-8")
        return load_campaign(path, catalogue)

    return read


class TestParseLimits:
    def test_one_name_or_a_list_of_them(self, load) -> None:
        found = load(TWO)
        assert found.limits == (
            CampaignLimit("minimum", 200.0, (), ("outbound",), "city-1301", 50.0),
            CampaignLimit("sales_at_most", 30.5, ("keep", "pack"), ("sms",)),
        )
        assert found.file == "c.yaml"

    def test_none_are_needed(self, load) -> None:
        assert load().limits == ()

    @pytest.mark.parametrize(
        ("line", "told"),
        [
            ("{kind: minimum, bound: -1}", r"c\.yaml\.limits\[0\]\.bound is -1"),
            ("{kind: minimum, bound: .nan}", r"limits\[0\]\.bound is nan"),
            ("{kind: maximum, bound: .inf}", r"limits\[0\]\.bound is inf"),
            ("{kind: maximum, bound: many}", r"limits\[0\]\.bound must be a number"),
            ("{kind: maximum}", r"limits\[0\]\.bound is missing"),
            ("{kind: most, bound: 1}", r"limits\[0\]\.kind is 'most'"),
            ("{kind: minimum, offer: kept, bound: 1}", r"limits\[0\]\.offer names 'kept'"),
            ("{kind: minimum, channel: [sms, hall], bound: 1}", r"\.channel names 'hall'"),
            ("{kind: minimum, offer: [keep, keep], bound: 1}", r"\.offer names one twice"),
            ("{kind: minimum, offer: [], bound: 1}", r"\.offer is an empty list"),
            ("{kind: minimum, offer: keep, channel: app, bound: 1}", "none through which"),
            ("{kind: maximum, bound: 1, penalty: 3}", r"\.penalty has no meaning for a maximum"),
            ("{kind: minimum, bound: 1, penalty: 0}", r"\.penalty is 0"),
            ("{kind: minimum, bound: 1, units: x}", r"\.units is not a known field"),
        ],
    )
    def test_a_wrong_field_is_refused_by_file_and_name(self, load, line: str, told: str) -> None:
        with pytest.raises(DocumentError, match=told):
            load(f"limits:\n  - {line}\n")

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            ("limits:\n  - {kind: minimum, offer: [pack, keep], bound: 1}\n"
             "  - {kind: minimum, offer: [keep, pack], bound: 2}\n",
             r"limits\[1\] says how much of the same as limits\[0\]"),
            ("budget: 50\nlimits:\n  - {kind: budget, bound: 40}\n",
             r"limits\[0\] says how much of the same as budget"),
        ],
    )  # fmt: skip
    def test_two_limits_on_the_same_are_refused(self, load, more: str, told: str) -> None:
        with pytest.raises(DocumentError, match=told):
            load(more)

    def test_a_floor_and_a_ceiling_on_the_same_stand_together(self, load) -> None:
        found = load(
            "limits:\n  - {kind: minimum, offer: keep, bound: 1}\n"
            "  - {kind: maximum, offer: keep, bound: 9}\n  - {kind: budget, bound: 40}\n"
        )
        assert [limit.name for limit in found.limits] == ["minimum keep", "maximum keep", "budget"]


class TestName:
    @pytest.mark.parametrize(
        ("limit", "name"),
        [
            (CampaignLimit("minimum", 1, (), ("outbound",), "city-1301"),
             "minimum outbound in city-1301"),
            (CampaignLimit("sales_at_least", 1, ("keep",), ("app", "sms")),
             "sales at least keep · app + sms"),
            (CampaignLimit("maximum", 1), "maximum overall"),
            (CampaignLimit("budget", 1, unit="g"), "budget in g"),
        ],
    )  # fmt: skip
    def test_says_kind_scope_and_unit(self, limit: CampaignLimit, name: str) -> None:
        assert limit.name == name


class TestContentId:
    @pytest.mark.parametrize(
        ("old", "new"),
        [("bound: 200", "bound: 201"), ("penalty: 50", "penalty: 51"), ("1301", "1302"),
         ("kind: minimum", "kind: sales_at_least"), ("channel: [sms]", "channel: [app]")],
    )  # fmt: skip
    def test_any_edit_of_a_limit_changes_it(self, load, old: str, new: str) -> None:
        assert old in TWO
        assert load(TWO.replace(old, new)).content_id != load(TWO).content_id

    def test_order_does_not_matter_and_the_file_neither(self, load, tmp_path, catalogue) -> None:
        head, first, second = TWO.strip().split("\n")
        same = load("\n".join([head, second, first]) + "\n")
        assert same.content_id == load(TWO).content_id
        other = tmp_path / "other.yaml"
        other.write_text(CAMPAIGN + TWO, encoding="utf-8")
        assert load_campaign(other, catalogue) == load(TWO)

    def test_ways_and_matching_belong_to_it(self, load) -> None:
        ids = {
            load(more).content_id
            for more in (
                "", "preferred_ways: factor\n", "preferred_ways: filter\n", "suitability: match\n",
                "suitability: match\nmatching: other\n",
            )
        }  # fmt: skip
        assert len(ids) == 5
        assert load("preferred_ways: off\nsuitability: off\n").content_id == load().content_id


class TestSwitches:
    def test_off_unless_said(self, load) -> None:
        found = load()
        assert (found.preferred_ways, found.matching) == ("off", "")
        assert load("suitability: match\n").matching == "standard"

    @pytest.mark.parametrize(
        ("more", "told"),
        [
            ("preferred_ways: loved\n", "preferred_ways is 'loved'"),
            ("suitability: yes please\n", "suitability is 'yes please'"),
            ("matching: standard\n", "matching has no effect"),
        ],
    )
    def test_another_word_is_refused(self, load, more: str, told: str) -> None:
        with pytest.raises(DocumentError, match=told):
            load(more)


class TestPlanText:
    def test_tells_the_limits_in_both_languages(self, load, catalogue) -> None:
        found = load(TWO + "preferred_ways: filter\nsuitability: match\n")
        zh, en = (plan_text(found, catalogue, language) for language in ("zh", "en"))
        line = "outbound，city-1301 及其下级单位：至少 200 次接触（软约束，每缺一个单位计 50）"
        assert line in zh
        assert "outbound; city-1301 with all units under it: at least 200 contacts (soft; 50" in en
        assert "keep, pack; sms: at most 30.5 expected sales" in en
        assert "最偏好的两种" in zh
        assert "'standard'" in en
        assert "Limits" not in plan_text(load(), catalogue, "en")
