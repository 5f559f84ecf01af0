"""Offers are matched by principles: the same alone as among many, with reasons that fit."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bihuan.audience import UnknownTagError, bind, match, parse
from bihuan.data import as_doubles
from bihuan.kernel.document import DocumentError
from bihuan.offer import (
    Facts,
    Matching,
    Offer,
    ProductMatch,
    ProfileFacts,
    design_schemes,
    load_matching,
    match_products,
    rank_offers,
    split_readable,
)
from bihuan.offer import match as match_room
from bihuan.offer.facts import FactError
from bihuan.tag import TagField

from .make import offer, plan

FILE = """
matching: test
title: {zh: 测试, en: Test}
floor: 0.5
principles:
  - principle: need
    title: {zh: 需求, en: Need}
    weight: 3
    least: 0.4
    required: true
    for: {zh: 够用, en: it is enough}
    against: {zh: 不够用, en: it is not enough}
    rules:
      - offers: {kinds: [plan]}
        measure: data_mb
        of: dou
        points: [[0.5, 0], [1, 1], [4, 1], [8, 0]]
      - audience: "is_heavy"
        inside: 1
        outside: 0.2
  - principle: price
    title: {zh: 价格, en: Price}
    weight: 1
    for: {zh: 买得起, en: you can afford it}
    against: {zh: 偏贵, en: it is dear}
    rules:
      - measure: price
        of: arpu
        points: [[0.5, 1], [1.5, 0]]
  - principle: way
    title: {zh: 渠道, en: Channel}
    weight: 1
    for: {zh: 渠道顺手, en: it is sold where you go}
    against: {zh: 渠道不顺, en: it is sold elsewhere}
    rules:
      - channel_tag: channel
groups:
  - group: heavy
    title: {zh: 大流量, en: Heavy}
    audience: "is_heavy"
    promise: {zh: 敞开用, en: Use it freely}
    offers: {kinds: [addon]}
  - group: rich
    title: {zh: 高消费, en: Spends much}
    audience: "arpu >= 80"
    promise: {zh: 尊享, en: The best}
"""
OFFERS = (
    plan(1, 19, 3000, eligibility=parse("arpu > 0")),
    plan(2, 99, 30_000, eligibility=parse("not risk"), channels=frozenset({"hall"})),
    offer("addon", "addon", price=20.0),
)


@pytest.fixture
def principles(tmp_path: Path) -> Matching:
    path = tmp_path / "test.yaml"
    path.write_text(FILE, encoding="utf-8")
    return load_matching(path)


def people(n: int = 400) -> list[dict[str, Any]]:
    """Return profiles of which each value is missing now and then."""
    rng = np.random.default_rng(11)

    def maybe(value: Any) -> Any:
        return None if rng.random() < 0.15 else value

    return [
        {
            "arpu": maybe(Decimal(int(rng.integers(0, 20_000))) / 100),
            "dou": maybe(float(rng.gamma(1, 8000))),
            "is_heavy": maybe(bool(rng.random() < 0.4)),
            "channel": maybe(str(rng.choice(["sms", "app", "hall", "fax"]))),
            "risk": maybe(bool(rng.random() < 0.2)),
        }
        for _ in range(n)
    ]


def facts_of(profiles: list[dict[str, Any]], matching: Matching, fields: Any) -> Facts:
    """Put profiles into columns by the plainest way there is."""
    needs = matching.needs(OFFERS)
    return Facts(
        ids=pa.array([f"c{i}" for i in range(len(profiles))]),
        flags={
            node: np.array([match(bind(node, fields), p) for p in profiles]) for node in needs.nodes
        },
        numbers={
            name: np.array([np.nan if p[name] is None else float(p[name]) for p in profiles])
            for name in needs.numbers
        },
        texts={name: pa.array([p[name] for p in profiles], pa.string()) for name in needs.texts},
    )


def matched(profile: dict[str, Any], matching: Matching, fields: Any) -> ProductMatch:
    reader = ProfileFacts(matching.needs(OFFERS), fields)
    return match_products(OFFERS, matching, reader.read(profile, customer_id="c0"))


class TestMatchProducts:
    def test_scores_total_and_reason_by_hand(
        self, principles: Matching, fields: dict[str, TagField]
    ) -> None:
        profile = {"arpu": 100, "dou": 2400.0, "is_heavy": True, "channel": "sms", "risk": False}
        rows = matched(profile, principles, fields).table(suited_only=False).to_pylist()
        found = {row["offer_id"]: row for row in rows}
        small, large = found["plan_19"], found["plan_99"]
        # 3000 / 2400 MB is enough; 19 / 100 is cheap; sold by SMS
        assert (small["score_need"], small["score_price"], small["score_way"]) == (1, 1, 1)
        assert (small["rank"], small["reason_zh"]) == (1, "够用；买得起；渠道顺手")
        # 30,000 / 2400 MB is far too much: the principle's bar stops it
        assert (large["score_need"], large["is_suited"]) == (0, False)
        assert large["score_price"] == pytest.approx(0.51)
        assert large["total"] == pytest.approx((3 * 0 + 0.51 + 0) / 5)
        assert large["reason_en"] == (
            "you can afford it; but it is not enough; but it is sold elsewhere"
        )

    def test_what_is_not_known_is_silent_not_bad(
        self, principles: Matching, fields: dict[str, TagField]
    ) -> None:
        rows = matched({"is_heavy": True}, principles, fields).table(suited_only=False).to_pylist()
        addon = next(row for row in rows if row["offer_id"] == "addon")
        assert (addon["score_price"], addon["score_way"]) == (None, None)
        assert (addon["total"], addon["reason_en"]) == (1.0, "it is enough")
        required = next(row for row in rows if row["offer_id"] == "plan_99")
        assert (required["total"], required["is_suited"]) == (None, False)
        assert required["reason_zh"] == "暂无可判断的信息"

    def test_nobody_is_suited_who_is_not_eligible(
        self, principles: Matching, fields: dict[str, TagField]
    ) -> None:
        profile = {"arpu": 100, "dou": 9000.0, "channel": "hall", "risk": True}
        found = matched(profile, principles, fields)
        rows = {r["offer_id"]: r for r in found.table(suited_only=False).to_pylist()}
        assert not rows["plan_99"]["is_suited"]
        assert rows["plan_99"]["reason_en"].startswith("not eligible; ")
        assert "plan_99" not in found.table()["offer_id"].to_pylist()

    def test_one_profile_gets_what_it_gets_among_many(
        self, principles: Matching, fields: dict[str, TagField]
    ) -> None:
        profiles = people()
        many = match_products(OFFERS, principles, facts_of(profiles, principles, fields))
        for i, profile in enumerate(profiles):
            one = matched(profile, principles, fields)
            assert np.array_equal(one.total[0], many.total[i], equal_nan=True)
            assert np.array_equal(one.scores[:, 0], many.scores[:, i], equal_nan=True)
            assert np.array_equal(one.is_suited[0], many.is_suited[i])

    def test_the_best_come_first_and_only_so_many(
        self, principles: Matching, fields: dict[str, TagField]
    ) -> None:
        facts = facts_of(people(), principles, fields)
        rows = match_products(OFFERS, principles, facts).table(top=2).to_pylist()
        assert {row["rank"] for row in rows} == {1, 2}
        assert all(row["is_suited"] for row in rows)
        for first, second in pairwise(rows):
            if first["customer_id"] == second["customer_id"]:
                assert first["total"] >= second["total"]

    def test_a_total_that_counts_silence_as_zero_is_caught(
        self, principles: Matching, fields: dict[str, TagField], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seeded defect: missing scores taken as 0 make who is little known unfit."""
        profile = {"is_heavy": True}
        whole = type(principles.principles[0]).score

        def zero(self: Any, offers: Any, facts: Any) -> Any:
            return np.nan_to_num(whole(self, offers, facts))

        monkeypatch.setattr(type(principles.principles[0]), "score", zero)
        total = matched(profile, principles, fields).total[0]
        assert total[2] < 1.0


class TestGroups:
    def test_each_group_gets_a_scheme_of_its_own(
        self, principles: Matching, fields: dict[str, TagField]
    ) -> None:
        profiles = people()
        facts = facts_of(profiles, principles, fields)
        found = match_products(OFFERS, principles, facts)
        heavy, rich = design_schemes(found, facts)
        assert heavy.members == sum(bool(p["is_heavy"]) for p in profiles)
        assert rich.members == sum(
            not p["is_heavy"] and p["arpu"] is not None and p["arpu"] >= 80 for p in profiles
        )
        assert [one.offer_id for one in heavy.offers] == ["addon"]
        assert "addon" not in {one.offer_id for one in rich.offers}  # suits only heavy users
        assert f"## 大流量（{heavy.members} 户）" in heavy.text("zh")

    def test_a_group_is_ranked_by_all_its_members(
        self, principles: Matching, fields: dict[str, TagField]
    ) -> None:
        facts = facts_of(people(), principles, fields)
        found = match_products(OFFERS, principles, facts)
        inside = facts.flags[principles.groups[0].audience]
        for one in rank_offers(found, inside):
            column = [o.offer_id for o in OFFERS].index(one.offer_id)
            suited = found.is_suited[inside, column]
            assert one.suited == suited.sum()
            assert one.share == pytest.approx(suited.mean())

    def test_groups_that_share_members_are_caught(
        self, principles: Matching, fields: dict[str, TagField], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Seeded defect: were the last group to win, the counts by hand would not fit."""
        facts = facts_of(people(), principles, fields)
        found = match_products(OFFERS, principles, facts)
        heavy = design_schemes(found, facts)[0].members

        def last_wins(groups: Any, facts: Facts) -> Any:
            at = np.full(len(facts), -1)
            for k, group in enumerate(groups):
                at[facts.flags[group.audience]] = k
            return at

        monkeypatch.setattr(match_room, "group_of", last_wins)
        assert design_schemes(found, facts)[0].members != heavy


class TestLoadMatching:
    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("weight: 3", "weight: 0", r"principles\[0\].weight is 0"),
            ("[1, 1], [4, 1]", "[4, 1], [1, 1]", r"rules\[0\].points is .*rising ratios"),
            ("[1, 1], [4, 1]", "[1, 7], [4, 1]", r"rules\[0\].points is"),
            ("of: dou", "of: dou\n        audience: is_heavy", "exactly one of the three"),
            ("kinds: [plan]", "kinds: [plans]", r"offers.kinds names 'plans'"),
            ("principle: price", "principle: need", "names one twice"),
            ("floor: 0.5", "flor: 0.5", "flor is not a known field"),
        ],
    )
    def test_a_wrong_field_is_named(self, tmp_path: Path, old: str, new: str, told: str) -> None:
        path = tmp_path / "test.yaml"
        path.write_text(FILE.replace(old, new), encoding="utf-8")
        with pytest.raises(DocumentError, match=told):
            load_matching(path)


class TestFacts:
    def test_money_becomes_the_double_that_a_profile_has(self) -> None:
        values = [Decimal(cents) / 100 for cents in range(0, 5_000_000, 137)]
        column = pa.array([*values, None], pa.decimal128(18, 2))
        exact = np.array([float(value) for value in values] + [np.nan])
        assert np.array_equal(as_doubles(column), exact, equal_nan=True)
        cast = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        assert not np.array_equal(cast, exact, equal_nan=True)  # the shorter way is not exact

    def test_an_unknown_tag_is_named(self, principles: Matching, fields: Any) -> None:
        del fields["dou"]
        with pytest.raises(UnknownTagError, match="dou"):
            ProfileFacts(principles.needs(OFFERS), fields)

    def test_a_text_tag_is_no_number(self, principles: Matching, fields: Any) -> None:
        fields["dou"] = fields["channel"]
        with pytest.raises(FactError, match="'dou' is read as a number"):
            ProfileFacts(principles.needs(OFFERS), fields)

    def test_offers_of_tags_without_values_are_told(self, fields: Any) -> None:
        odd: Offer = offer("odd", eligibility=parse("power_value_band = 'high'"))
        readable, left_out = split_readable([*OFFERS, odd], fields)
        assert len(readable) == 3
        assert left_out == {"odd": ("power_value_band",)}
