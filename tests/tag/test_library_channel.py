"""The 61 tags of behaviour on the digital channels, held against the page trajectories."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

import pytest

from bihuan.tag import TagDictionary
from bihuan.twin import surround_digital

from .surrounded import World, build_world

CATEGORIES = {
    "办理中途流失": 13,
    "访问浏览": 15,
    "成功订购": 11,
    "活动分享引流": 11,
    "关键触点点击": 11,
}
BUSINESSES = ("broadband", "plan_4g", "plan_5g", "data_pack")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = build_world(tmp_path_factory, surround_digital, "channel_behaviour")
    report = world.derive("customer")
    assert report.pending == {}
    assert not any(group.outside_codes for group in report.groups)
    return world


def newest(world: World, business: str, *kinds: str) -> dict[str, datetime]:
    """Return each customer's newest event of some kinds within three months."""
    found: dict[str, datetime] = {}
    for back in range(3):
        for row in world.rows("event", back):
            who, at = row["customer_id"], row["occurred_at"]
            if who and row["business"] == business and row["kind"] in kinds:
                found[who] = max(found.get(who, at), at)
    return found


def lost_by_hand(world: World, business: str) -> set[str]:
    begun = newest(world, business, "configure", "submit")
    ordered = newest(world, business, "order")
    return {who for who, at in begun.items() if who not in ordered or at > ordered[who]}


class TestStock:
    def test_there_are_five_categories_and_61_tags(self, world: World) -> None:
        counts = {
            name: len(world.dictionary.select(category=f"渠道行为/{name}", state="live"))
            for name in CATEGORIES
        }
        assert counts == CATEGORIES
        assert sum(counts.values()) == len(world.names) == 61

    def test_no_tag_says_the_same_of_everybody(self, world: World) -> None:
        assert world.constant_tags("customer") == []


class TestLost:
    @pytest.mark.parametrize("business", BUSINESSES)
    def test_lost_is_who_began_and_has_not_ordered_since(self, world: World, business: str) -> None:
        found = world.values("customer", f"channel_lost_{business}")
        lost = {who for who, value in found.items() if value[f"channel_lost_{business}"]}
        assert lost == lost_by_hand(world, business)
        assert 0 < len(lost) < len(found)

    def test_a_definition_that_forgets_the_order_is_found_out(self, world: World) -> None:
        naive = replace(
            world.dictionary.get("channel_lost_broadband"),
            expression="count(*) filter (where business = 'broadband' and kind = 'configure') > 0",
        )
        tags = [tag for tag in world.dictionary if tag.name != "channel_lost_broadband"]
        spoilt = replace(world, dictionary=TagDictionary([*tags, naive]))
        spoilt.derive("customer")
        found = spoilt.values("customer", "channel_lost_broadband")
        world.derive("customer")  # as it was
        lost = {who for who, value in found.items() if value["channel_lost_broadband"]}
        assert lost != lost_by_hand(world, "broadband")

    def test_the_step_is_the_furthest_that_no_order_followed(self, world: World) -> None:
        submitted, ordered = newest(world, "plan_5g", "submit"), newest(world, "plan_5g", "order")
        found = world.values("customer", "channel_lost_plan_5g", "channel_lost_step_plan_5g")
        for who, value in found.items():
            at = submitted.get(who)
            open_ = at is not None and (who not in ordered or at > ordered[who])
            lost = "submit" if open_ else "configure" if value["channel_lost_plan_5g"] else None
            assert value["channel_lost_step_plan_5g"] == lost


class TestSharing:
    def test_who_shared_is_told_from_who_was_led_in(self, world: World) -> None:
        brought: dict[str, int] = {}
        led_in: dict[str, int] = {}
        for back in range(3):
            for row in world.rows("event", back):
                if row["kind"] != "share_visit":
                    continue
                brought[row["shared_by"]] = brought.get(row["shared_by"], 0) + 1
                if row["customer_id"] and row["business"] == "data_pack":
                    led_in[row["customer_id"]] = led_in.get(row["customer_id"], 0) + 1
        found = world.values("customer", "channel_brought_visits", "channel_led_in_data_pack")
        for who, value in found.items():
            assert value["channel_brought_visits"] == brought.get(who, 0)
            assert value["channel_led_in_data_pack"] == led_in.get(who, 0)
        assert brought.keys() != led_in.keys()


class TestClicks:
    def test_clicks_are_counted_by_touchpoint(self, world: World) -> None:
        clicks: dict[str, int] = {}
        for back in range(3):
            for row in world.rows("event", back):
                if row["touchpoint"] == "search" and row["customer_id"]:
                    clicks[row["customer_id"]] = clicks.get(row["customer_id"], 0) + 1
        found = world.values("customer", "channel_clicks_on_search")
        assert {k: v["channel_clicks_on_search"] for k, v in found.items()} == {
            who: clicks.get(who, 0) for who in found
        }
