"""The heat map shows every cell, in well-formed SVG."""

from xml.etree import ElementTree as ET

import pytest

from bihuan.strategy.cube import CubeError, Tile, draw_cube, draw_tiles

SVG = "{http://www.w3.org/2000/svg}"


class TestDrawCube:
    @pytest.mark.parametrize("measure", ["coverage", "size", "expected_value", "uncovered"])
    def test_every_cell_is_in_the_picture(self, world, measure) -> None:
        picture = ET.fromstring(draw_cube(world.cube, "stage", "value", measure=measure))
        texts = [node.text for node in picture.iter(f"{SVG}text")]
        cells = world.cube.roll_up("stage", "value").to_pylist()
        assert len(list(picture.iter(f"{SVG}g"))) == len(cells) == 9
        for cell in cells:
            value = cell[measure]
            shown = f"{value:.0%}" if measure == "coverage" else f"{value:,.0f}"
            assert shown in texts

    def test_darker_is_more(self, world) -> None:
        picture = draw_cube(world.cube, "stage", "channel", measure="size")
        assert "rgb(34,98,117)" in picture

    def test_text_cannot_become_markup(self) -> None:
        picture = draw_tiles("<b>&", "s", ["<script>"], ["c"], {(0, 0): Tile("1 < 2", depth=1.0)})
        assert "<script>" not in picture
        assert ET.fromstring(picture).find(f"{SVG}title").text == "<b>&"

    @pytest.mark.parametrize(("rows", "columns", "measure"), [
        ("stage", "stage", "size"), ("stage", "value", "strategy"), ("stage", "value", "fame"),
    ])  # fmt: skip
    def test_what_cannot_be_drawn_is_refused(self, world, rows, columns, measure) -> None:
        with pytest.raises(CubeError):
            draw_cube(world.cube, rows, columns, measure=measure)
