"""Draws charts as SVG, through Altair and vl-convert, in a wide and a narrow setting.

Two settings rather than one that shrinks, because text that is scaled down on a phone cannot be
read. Colours are fixed tokens that the page's style sheet replaces in the dark.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from bihuan.evaluation.report.chart import Bars, Chart, Lines, Ranges, Vega
from bihuan.evaluation.report.drawing import COLOURS, Pen, draw_bars, draw_lines, draw_ranges
from bihuan.evaluation.text import Kind, Language, Text
from bihuan.kernel import DefectError, hash_id

# vl-convert (a JavaScript engine) is imported where it is used, as Altair is in drawing.py.

FONT = "Noto Sans SC"
WIDE, NARROW = 720, 342
_SVG = "{http://www.w3.org/2000/svg}"


def draw(chart: Chart, language: Language, width: int, *, currency: str = "CNY") -> str:
    """Draw ``chart`` as one SVG element.

    Parameters
    ----------
    chart
        What to draw.
    language
        Language of every word in it.
    width
        Pixels, :data:`WIDE` or :data:`NARROW`; below 500 labels stand above their marks.
    currency
        ISO 4217 code of the workspace's currency.

    Returns
    -------
    str
        Well-formed SVG with its namespace, transparent, without scripts or references to outside.
    """
    if isinstance(chart, Vega):
        return _render({**chart.specifications[language], **_frame(width)})
    return _draw_once(chart, language, width, currency)


@functools.lru_cache(maxsize=256)  # page and paper show the same drawings
def _draw_once(chart: Chart, language: Language, width: int, currency: str) -> str:
    from altair.utils.schemapi import debug_mode

    with debug_mode(False):  # our few forms are tested; checking each drawing takes half the time
        drawing = _DRAWINGS[type(chart)](chart, Pen(language, width, currency))
        content = drawing.to_dict(validate=False)
    return _render({**content, **_frame(width)})


def _frame(width: int) -> dict[str, Any]:
    return {
        "width": width,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "padding": {"left": 2, "right": 6, "top": 4, "bottom": 2},
        "background": "transparent",
        "config": _CONFIG,
    }


_CONFIG: Mapping[str, Any] = {
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": COLOURS["muted"],
        "titleColor": COLOURS["muted"],
        "gridColor": COLOURS["line"],
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "domain": False,
        "ticks": False,
        "labelPadding": 8,
    },
    "text": {"color": COLOURS["ink"], "fontSize": 13},
}


_DRAWINGS: Mapping[type, Any] = {Bars: draw_bars, Ranges: draw_ranges, Lines: draw_lines}


# --- rendering ------------------------------------------------------------------------------


@functools.cache
def font_folder() -> str:
    """Return the folder of the Chinese font that charts and PDF use, known to the renderer."""
    import pylopdf_fonts_zh_cn
    import vl_convert

    folder = str(pylopdf_fonts_zh_cn.sans_path().parent)
    vl_convert.register_font_directory(folder)
    return folder


def _render(specification: Mapping[str, Any]) -> str:
    import vl_convert

    font_folder()
    drawn: str = vl_convert.vegalite_to_svg(dict(specification), allowed_base_urls=[])
    return _clean(drawn)


def _clean(drawn: str) -> str:
    """Parse the drawing, refuse scripts and outside references, make its ids its own."""
    ET.register_namespace("", "http://www.w3.org/2000/svg")
    root = ET.fromstring(drawn)  # made here, not given by a user
    prefix = f"v{hash_id(drawn, length=8)}-"
    for element in root.iter():
        if element.tag in (f"{_SVG}script", f"{_SVG}image", f"{_SVG}foreignObject", f"{_SVG}a"):
            raise DefectError(f"A chart holds a {element.tag} element.")
        for name, value in list(element.attrib.items()):
            if name.startswith(("aria-", "role")):
                del element.attrib[name]  # the figure around it speaks for the whole chart
            elif name == "id":
                element.set(name, prefix + value)
            elif "url(#" in value:
                element.set(name, value.replace("url(#", f"url(#{prefix}"))
    return re.sub(r"\s+\n", "\n", ET.tostring(root, encoding="unicode"))


def caption(chart: Chart) -> Text:
    """Return the chart's title, with the unit where the drawing leaves it out."""
    if isinstance(chart, Ranges) and chart.kind is Kind.POINTS:
        return Text(f"{chart.title.zh}（个百分点）", f"{chart.title.en} (percentage points)")
    return chart.title


def describe(chart: Chart, language: Language) -> str:
    """Return the words that stand for the chart where it cannot be seen."""
    return _sentence(chart.title, chart.description).get(language)


def _sentence(title: Text, description: Text) -> Text:
    return Text(f"{title.zh}：{description.zh}", f"{title.en}: {description.en}")
