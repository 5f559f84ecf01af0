"""The sample tags of a power utility's customers and lines, held against its rows."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from bihuan.data import Lake
from bihuan.twin import surround_business, surround_power

from .surrounded import World, build_world


def surround(lake: Lake, as_of: object, contracts: object, **how: object) -> None:
    surround_business(lake, as_of, contracts, **how)  # type: ignore[arg-type]
    surround_power(lake, as_of, contracts, **how)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = build_world(
        tmp_path_factory, surround,
        "power_base", "power_portrait", "power_line", "power_enterprise",
    )  # fmt: skip
    for subject in ("customer", "enterprise", "power_line"):
        report = world.derive(subject)
        assert report.pending == {}
        assert not any(group.outside_codes for group in report.groups)
    return world


class TestTree:
    def test_the_first_levels_are_attributes_features_and_preferences(self, world: World) -> None:
        counts = {
            path: len(world.dictionary.select(subject="customer", category=path))
            for path in (
                "基本属性/社会属性", "基本属性/自然属性", "基本特征/用电特征", "基本特征/心理特征",
                "基本特征/性格特征", "偏好/缴费偏好", "偏好/兴趣偏好",
            )
        }  # fmt: skip
        assert min(counts.values()) >= 3, counts

    def test_every_path_has_three_levels(self, world: World) -> None:
        for name in world.names:
            assert world.dictionary.get(name).category.count("/") == 2, name

    def test_what_is_judged_of_a_person_says_that_it_is_a_rule_of_experience(
        self, world: World
    ) -> None:
        for branch in ("基本特征/心理特征", "基本特征/性格特征"):
            for tag in world.dictionary.select(category=branch):
                assert tag.means == "experience"
                assert tag.thresholds
                assert "经验规则，非测评" in tag.definition["zh"]
                assert "a rule of experience" in tag.definition["en"]

    def test_an_enterprise_has_other_tags_than_a_household(self, world: World) -> None:
        enterprise = {tag.category for tag in world.dictionary.select(subject="enterprise")}
        person = {tag.category for tag in world.dictionary.select(subject="customer")}
        assert enterprise
        assert not enterprise & person


class TestValues:
    @pytest.mark.parametrize("subject", ["customer", "enterprise", "power_line"])
    def test_no_tag_says_the_same_of_everybody(self, world: World, subject: str) -> None:
        assert world.constant_tags(subject) == []

    def test_the_preferred_channel_is_the_one_used_most(self, world: World) -> None:
        order = ("debit", "app", "wallet", "hall", "agent")
        used: dict[str, Counter[str]] = defaultdict(Counter)
        for back in range(12):
            for row in world.rows("electricity_payment", back):
                used[row["customer_id"]][row["channel"]] += 1
        for who, value in world.values("customer", "power_pay_channel").items():
            best = max(order, key=lambda c: (used[who][c], -order.index(c))) if used[who] else None
            assert value["power_pay_channel"] == best

    def test_outages_are_those_the_customer_suffered(self, world: World) -> None:
        minutes: dict[str, float] = defaultdict(float)
        for back in range(12):
            for row in world.rows("power_interruption", back):
                minutes[row["customer_id"]] += row["minutes"]
        found = world.values("customer", "power_outage_minutes")
        for who, value in found.items():
            assert value["power_outage_minutes"] == pytest.approx(minutes.get(who, 0.0))
        assert minutes

    def test_who_is_not_supplied_has_no_use_kind_and_no_bill(self, world: World) -> None:
        supplied = {row["customer_id"] for row in world.rows("power_customer")}
        found = world.values("customer", "power_use_kind", "power_kwh_mean_12m", "power_temper")
        assert 0 < len(supplied) < len(found)
        for who, value in found.items():
            assert (None not in value.values()) == (who in supplied)

    def test_a_lines_outages_are_counted_on_the_line(self, world: World) -> None:
        counted: Counter[str] = Counter()
        for back in range(12):
            counted.update(row["power_line_id"] for row in world.rows("power_outage", back))
        found = world.values("power_line", "power_line_outage_count")
        assert {k: v["power_line_outage_count"] for k, v in found.items()} == {
            line: counted[line] for line in found
        }
