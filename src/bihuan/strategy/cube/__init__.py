"""The strategy cube (策略魔方): every customer in its cell, every cell with its strategy.

In come tag values, the catalogue, logged decisions and what came of them; out goes a
:class:`Cube` that is sliced, diced and rolled up, says who gets nothing and at which stage they
fell, and which strategy serves a cell. :func:`measure_coverage` holds it against the five kinds
of "all", :func:`propose_changes` against what happened, :func:`compare_cubes` against another.
"""

from bihuan.strategy.cube.axis import (
    BUSINESS,
    CHANNEL,
    GROUPS,
    NOWHERE,
    Axis,
    Band,
    CubeError,
    parse_axis,
)
from bihuan.strategy.cube.build import CubeSources, build_cube
from bihuan.strategy.cube.counts import Contacts, Groups, Reason
from bihuan.strategy.cube.coverage import CoverageReport, Part, Reach, measure_coverage
from bihuan.strategy.cube.cube import ELSEWHERE, Cube
from bihuan.strategy.cube.definition import CellRule, CubeDefinition, StrategyTable, load_cube
from bihuan.strategy.cube.picture import Tile, axis_title, draw_cube, draw_tiles
from bihuan.strategy.cube.reading import Reading, band_bits, band_number, read_rule
from bihuan.strategy.cube.tune import Proposal, compare_cubes, propose_changes

__all__ = [
    "axis_title",
    "Axis",
    "Band",
    "BUSINESS",
    "CHANNEL",
    "GROUPS",
    "NOWHERE",
    "parse_axis",
    "CubeError",
    "CubeDefinition",
    "CellRule",
    "StrategyTable",
    "load_cube",
    "CubeSources",
    "build_cube",
    "Cube",
    "Groups",
    "Contacts",
    "Reason",
    "ELSEWHERE",
    "CoverageReport",
    "Reach",
    "Part",
    "measure_coverage",
    "Proposal",
    "propose_changes",
    "compare_cubes",
    "draw_cube",
    "draw_tiles",
    "Tile",
    "Reading",
    "read_rule",
    "band_number",
    "band_bits",
]
