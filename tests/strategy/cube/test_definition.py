"""Cube files are read strictly, and no cell is claimed by two strategies."""

from pathlib import Path

import pytest

from bihuan.kernel.document import DocumentError
from bihuan.pack import PACKS
from bihuan.strategy.cube import CellRule, CubeError, StrategyTable, load_cube
from bihuan.strategy.lifecycle import load_life_cycle
from bihuan.tag import LIBRARY_FOLDER, TagDictionary

SAMPLE = PACKS["sample"]


@pytest.fixture(scope="module")
def dictionary() -> TagDictionary:
    return TagDictionary.load(LIBRARY_FOLDER)


@pytest.fixture(scope="module")
def read(dictionary):
    life_cycle = load_life_cycle(SAMPLE / "lifecycle" / "standard.yaml")

    def load(path: Path):
        return load_cube(
            path, dictionary, stages={"standard": life_cycle.bands},
            strategies={s.strategy_id for s in life_cycle.strategies},
        )  # fmt: skip

    return load


def rule(strategy: str, **cell: str) -> CellRule:
    return CellRule({axis: frozenset(v.split("|")) for axis, v in cell.items()}, strategy)


class TestLoadCube:
    def test_the_sample_has_all_groups_and_titles(self, read) -> None:
        cube = read(SAMPLE / "cubes" / "standard.yaml")
        assert [axis.group for axis in cube.axes] == [
            "behaviour", "need", "preference", "value", "life_cycle", "scene",
        ]  # fmt: skip
        assert cube.axis("value").codes == ("low", "middle", "high", "top", "none")
        for axis in cube.axes:
            for band in axis.bands:
                assert set(band.title) == {"zh", "en"}

    def test_stages_are_shown_in_the_order_of_the_life_cycle(self, read) -> None:
        cube = read(SAMPLE / "cubes" / "standard.yaml")
        assert cube.axis("stage").shown == (
            "acquisition", "growth", "maturity", "decline", "leave", "none",
        )  # fmt: skip

    @pytest.mark.parametrize(
        ("old", "new", "told"),
        [
            ("group: need", "group: wish", r"dimensions\[1\].group is 'wish'"),
            ("group: preference", "group: need", "nothing of the group 'preference'"),
            ("code: silent", "code: ordinary", "the code 'ordinary' twice"),
            ("tag: value_band", "tag: main_product", "'main_product' has no codes"),
            ("name: need", "name: channel", "'channel' is made from the catalogue"),
            ("life_cycle: standard", "life_cycle: other", "life_cycle is 'other'"),
            ("strategy: win_back", "strategy: win_bakc", "'win_bakc' is not known"),
            ("{stage: leave}", "{stage: lieve}", "stage names 'lieve'"),
            ("{stage: leave}", "{stadge: leave}", "stadge is not an axis"),
        ],
    )  # fmt: skip
    def test_a_wrong_field_is_named(self, tmp_path, read, old, new, told) -> None:
        text = (SAMPLE / "cubes" / "standard.yaml").read_text(encoding="utf-8")
        assert old in text
        path = tmp_path / "cube.yaml"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(DocumentError, match=told):
            read(path)

    def test_edges_make_bands_without_gaps(self, tmp_path, read) -> None:
        text = (SAMPLE / "cubes" / "standard.yaml").read_text(encoding="utf-8")
        path = tmp_path / "cube.yaml"
        path.write_text(text.replace("tag: value_band", "tag: arpu\n    edges: [50, 100]")
                        .split("strategies:")[0], encoding="utf-8")  # fmt: skip
        axis = read(path).axis("value")
        assert axis.codes == ("below_50", "from_50", "from_100", "none")
        path.write_text(path.read_text(encoding="utf-8").replace("[50, 100]", "[50, 10]"),
                        encoding="utf-8")  # fmt: skip
        with pytest.raises(DocumentError, match="edges are"):
            read(path)

    def test_two_strategies_for_one_cell_are_refused(self, tmp_path, read) -> None:
        """The seeded defect: a second pattern as precise as the first."""
        text = (SAMPLE / "cubes" / "standard.yaml").read_text(encoding="utf-8")
        path = tmp_path / "cube.yaml"
        path.write_text(text + "  - {cell: {value: top}, strategy: renew}\n", encoding="utf-8")
        with pytest.raises(CubeError, match="two strategies claim the same cells"):
            read(path)


class TestStrategyTable:
    TABLE = StrategyTable(
        (rule("any", stage="decline"), rule("rich", stage="decline", value="high|top"),
         rule("quiet", stage="decline", use="silent"),
         rule("both", stage="decline", value="high|top", use="silent"))
    )  # fmt: skip

    def test_the_most_specific_pattern_wins(self) -> None:
        find = self.TABLE.find
        assert find({"stage": "decline", "value": "low", "use": "much"}) == "any"
        assert find({"stage": "decline", "value": "top", "use": "much"}) == "rich"
        assert find({"stage": "decline", "value": "top", "use": "silent"}) == "both"
        assert find({"stage": "decline"}) == "any"
        assert find({"stage": "growth"}) is None

    def test_a_more_specific_pattern_settles_a_clash(self) -> None:
        assert self.TABLE.clashes() == ()
        assert len(StrategyTable(self.TABLE.rules[:3]).clashes()) == 1

    def test_patterns_that_never_meet_do_not_clash(self) -> None:
        apart = (rule("x", value="low"), rule("y", value="high"))
        assert StrategyTable(apart).clashes() == ()
