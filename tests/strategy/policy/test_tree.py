"""The org tree refuses what is no tree and finds ways up and down without searching."""

import pyarrow as pa
import pytest

from bihuan.strategy import OrgTree, UnknownUnitError
from bihuan.strategy.policy import OrgTreeError, OrgUnit


def unit(name: str, tier: str, parent: str | None) -> OrgUnit:
    return OrgUnit(name, tier, parent, {})


class TestOrgTree:
    def test_paths_lead_from_the_top_to_the_unit(self, tree: OrgTree) -> None:
        assert tree.path("grid-112") == ("province", "city-1", "county-11", "grid-112")
        assert tree.path("province") == ("province",)

    def test_a_subtree_holds_the_unit_and_all_below_and_nothing_else(self, tree: OrgTree) -> None:
        assert set(tree.subtree("county-11")) == {"county-11", "grid-111", "grid-112"}
        assert tree.subtree("grid-211") == ("grid-211",)
        assert set(tree.subtree("province")) == set(tree.unit_ids)
        for one in tree.unit_ids:
            for other in tree.unit_ids:
                assert tree.covers(one, other) == (one in tree.path(other))

    def test_every_unit_stands_before_those_below_it(self, tree: OrgTree) -> None:
        place = {name: i for i, name in enumerate(tree.unit_ids)}
        for name in tree.unit_ids:
            assert [place[above] for above in tree.path(name)] == sorted(
                place[above] for above in tree.path(name)
            )

    def test_ancestors_are_found_by_tier(self, tree: OrgTree) -> None:
        assert tree.ancestor("grid-121", "city") == "city-1"
        assert tree.ancestor("city-1", "city") == "city-1"
        assert tree.ancestor("city-1", "county") is None
        assert tree.at_tier("city") == ("city-1", "city-2")
        assert tree.children("city-1") == ("county-11", "county-12")

    def test_an_unknown_unit_is_told_with_the_nearest(self, tree: OrgTree) -> None:
        with pytest.raises(UnknownUnitError, match=r"grid-113.*Did you mean: grid-"):
            tree.path("grid-113")
        assert "grid-113" not in tree

    def test_several_tops_are_several_trees(self) -> None:
        table = pa.table({"org_unit_id": ["G1", "G2"], "tier": ["grid", "grid"]})
        tree = OrgTree.from_table(table)
        assert tree.roots == ("G1", "G2")
        assert tree.path("G2") == ("G2",)
        assert tree.get("G1").title["en"] == "G1"

    @pytest.mark.parametrize(
        ("units", "told"),
        [
            ([unit("a", "city", "b"), unit("b", "city", "a")], "ring: a → b → a"),
            ([unit("a", "city", "a")], "ring: a → a"),
            (
                [unit("p", "province", None), unit("x", "county", "y"), unit("y", "county", "x")],
                "ring: x → y → x",
            ),
            ([unit("a", "city", "nowhere")], "'a' stands under 'nowhere', which is unknown"),
            ([unit("a", "city", None), unit("a", "city", None)], "'a' stands twice"),
            ([unit("a", "hamlet", None)], "unknown tier 'hamlet'"),
            ([unit("g", "grid", None), unit("c", "city", "g")], "lower tier grid"),
        ],
    )
    def test_what_is_no_tree_is_refused_by_name(self, units: list[OrgUnit], told: str) -> None:
        with pytest.raises(OrgTreeError, match=told) as caught:
            OrgTree(units)
        assert caught.value.text("zh")
