"""Stages of several funnels are put into one order that each of them agrees with."""

from itertools import permutations

import pytest

from bihuan.workspace.strategy_sources import merge_stages


def funnel(*names: str) -> list[dict]:
    return [{"name": name, "title": {"zh": name, "en": name}} for name in names]


class TestMergeStages:
    @pytest.mark.parametrize("funnels", [
        [("a", "b"), ("x", "y", "z", "a")],
        [("a", "c"), ("b", "c", "d"), ("a", "d")],
        [("a",), ("b",), ()],
    ])  # fmt: skip
    def test_a_stage_comes_after_those_before_it_in_its_own_funnel(self, funnels) -> None:
        for some in permutations(funnels):
            order = list(merge_stages([funnel(*names) for names in some]))
            assert set(order) == {name for names in funnels for name in names}
            for names in funnels:
                places = [order.index(name) for name in names]
                assert places == sorted(places)

    def test_relative_places_would_not_do(self) -> None:
        """The seeded defect: the second stage of two stands before the fourth of four."""
        place = {"a": max(1 / 3, 4 / 5), "b": 2 / 3}
        assert sorted(place, key=place.__getitem__) == ["b", "a"]  # although a stands before b
        assert list(merge_stages([funnel("a", "b"), funnel("x", "y", "z", "a")]))[-2:] == ["a", "b"]

    def test_funnels_that_contradict_each_other_keep_every_stage(self) -> None:
        order = merge_stages([funnel("a", "b"), funnel("b", "a")])
        assert sorted(order) == ["a", "b"]
        assert order["a"] == {"zh": "a", "en": "a"}
