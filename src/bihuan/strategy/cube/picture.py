"""Pictures of tables of cells: a heat map as one SVG, readable without any script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from bihuan.strategy.cube.axis import CubeError
from bihuan.strategy.cube.cube import Cube

FONT = "Noto Sans SC, PingFang SC, Microsoft YaHei, sans-serif"
INK, FAINT, PAPER, EMPTY = "#22313F", "#8795A1", "#FFFFFF", "#F4F6F8"
_LOW, _HIGH = (232, 241, 244), (34, 98, 117)
_ROW, _HEAD, _TOP, _PAD = 46, 210, 118, 28
SHARES = ("coverage",)
_MEASURES = {
    "size": {"zh": "客户数", "en": "Customers"},
    "coverage": {"zh": "覆盖率", "en": "Coverage"},
    "covered": {"zh": "已覆盖客户", "en": "Customers covered"},
    "contacted": {"zh": "触达客户", "en": "Customers contacted"},
    "uncovered": {"zh": "未覆盖客户", "en": "Customers not covered"},
    "expected_value": {"zh": "期望价值", "en": "Expected value"},
    "conversions": {"zh": "成交", "en": "Conversions"},
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One field of a heat map.

    Parameters
    ----------
    text
        Large.
    note
        Small, below; may be empty.
    depth
        How dark, 0..1; None leaves it empty.
    hint
        Shown when the pointer rests on it.
    """

    text: str
    note: str = ""
    depth: float | None = None
    hint: str = ""


def draw_tiles(
    title: str,
    subtitle: str,
    rows: Sequence[str],
    columns: Sequence[str],
    tiles: Mapping[tuple[int, int], Tile],
) -> str:
    """Draw a heat map.

    Parameters
    ----------
    title, subtitle
        What stands above.
    rows, columns
        Headings.
    tiles
        By row and column number; absent ones stay empty.

    Returns
    -------
    str
        A self-contained SVG document.
    """
    width = max(96, min(170, 900 // max(len(columns), 1)))
    full = _PAD * 2 + _HEAD + width * len(columns)
    height = _TOP + _ROW * len(rows) + _PAD
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {full} {height}" '
        f'width="{full}" height="{height}" role="img" font-family="{FONT}">',
        f"<title>{escape(title or subtitle)}</title>",
        f'<rect width="{full}" height="{height}" fill="{PAPER}"/>',
        _text(_PAD, _PAD + 16, title, 20),
        _text(_PAD, _PAD + 40, subtitle, 12.5, fill=FAINT),
    ]
    for number, heading in enumerate(columns):
        x = _PAD + _HEAD + width * number + width / 2
        parts.append(_text(x, _TOP - 12, _fit(heading, width / 7), 12, anchor="middle"))
    for number, heading in enumerate(rows):
        y = _TOP + _ROW * number + _ROW / 2 + 4
        parts.append(_text(_PAD, y, _fit(heading, _HEAD / 7), 12))
    for row in range(len(rows)):
        for column in range(len(columns)):
            place = (_PAD + _HEAD + width * column, _TOP + _ROW * row, width)
            parts.append(_tile(place, tiles.get((row, column))))
    return "".join([*parts, "</svg>"])


def draw_cube(
    cube: Cube, rows: str, columns: str, *, measure: str = "coverage", language: str = "zh"
) -> str:
    """Draw two axes of a cube as a heat map.

    Parameters
    ----------
    cube
        Counted.
    rows, columns
        Names of two axes.
    measure
        A column of :meth:`Cube.roll_up` that says how dark a cell is.
    language
        ``zh`` or ``en``.
    """
    if rows == columns:
        raise CubeError(
            f"Rows and columns are both '{rows}'.",
            remedy="Choose two axes.",
            zh=f"行与列都是 {rows}，请选择两个不同的维度。",
        )
    cells = cube.roll_up(rows, columns)
    if measure not in cells.column_names[2:] or measure in ("strategy", "main_reason"):
        raise CubeError(
            f"'{measure}' is no measure of a cell.",
            remedy="Choose for example size, coverage, uncovered or expected_value.",
            zh=f"{measure} 不是单元指标，可选 size、coverage、uncovered、expected_value 等。",
        )
    found = cells.to_pylist()
    most = 1.0 if measure in SHARES else max([float(c[measure] or 0) for c in found] + [1e-9])
    seen = {axis: {cell[axis] for cell in found} for axis in (rows, columns)}
    codes = {axis: [c for c in cube.shown(axis) if c in seen[axis]] for axis in (rows, columns)}
    tiles = {}
    for cell in found:
        value = float(cell[measure] or 0)
        text = f"{value:.0%}" if measure in SHARES else f"{value:,.0f}"
        at = codes[rows].index(cell[rows]), codes[columns].index(cell[columns])
        note = f"{cell['size']:,} 户" if language == "zh" else f"of {cell['size']:,}"
        why = _why(cube, cell, language)
        hint = f"{cell[rows]} × {cell[columns]}: {cell['strategy'] or '—'}; {why}"
        tiles[at] = Tile(text, note, max(0.0, value / most), hint)
    names = [axis_title(cube, axis, language) for axis in (rows, columns)]
    heads = [
        [cube.title_of(axis, code)[language] for code in codes[axis]] for axis in (rows, columns)
    ]
    shown = _MEASURES.get(measure, {}).get(language, measure)
    subtitle = f"{names[0]} × {names[1]} · {shown} · {cube.as_of.isoformat()}"
    return draw_tiles(cube.definition.title[language], subtitle, heads[0], heads[1], tiles)


def axis_title(cube: Cube, axis: str, language: str) -> str:
    """Return the title of an axis, business and channel included."""
    own = {"business": {"zh": "业务", "en": "Business"}, "channel": {"zh": "渠道", "en": "Channel"}}
    title = own[axis] if axis in own else cube.definition.axis(axis).title
    return title[language]


def _why(cube: Cube, cell: Mapping[str, object], language: str) -> str:
    code = cell["main_reason"]
    return "" if code is None else cube.reason_title(str(code))[language]


def _tile(place: tuple[float, float, float], tile: Tile | None) -> str:
    x, y, width = place
    box = f'x="{x + 2}" y="{y + 2}" width="{width - 4}" height="{_ROW - 4}" rx="4"'
    if tile is None or tile.depth is None:
        return f'<rect {box} fill="{EMPTY}"/>'
    depth = min(1.0, tile.depth)
    colour = ",".join(str(round(a + (b - a) * depth)) for a, b in zip(_LOW, _HIGH, strict=True))
    ink = PAPER if depth > 0.68 else INK  # where white begins to be the more readable of the two
    middle = x + width / 2
    hint = f"<title>{escape(tile.hint)}</title>" if tile.hint else ""
    return (
        f'<g>{hint}<rect {box} fill="rgb({colour})"/>'
        + _text(middle, y + 21, tile.text, 13, anchor="middle", fill=ink)
        + _text(middle, y + 36, _fit(tile.note, width / 6), 10, anchor="middle", fill=ink)
        + "</g>"
    )


def _text(
    x: float, y: float, text: str, size: float, *, anchor: str = "start", fill: str = INK
) -> str:
    weight = "bold" if size > 12.5 else "normal"
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" text-anchor="{anchor}" '
        f'fill="{fill}" font-weight="{weight}">{escape(text)}</text>'
    )


def _fit(text: str, room: float) -> str:
    """Cut a text to the room it has, a Chinese character taking twice that of a Latin one."""
    used: float = 0.0
    kept: list[str] = []
    for character in text:
        used += 2 if ord(character) > 0x2E7F else 1
        if used > room:
            return "".join(kept[:-1]) + "…"
        kept.append(character)
    return text
