"""The picture of a quality profile: one line per column, filled as far as it is complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bihuan.data.contract import ColumnType
from bihuan.data.quality.column import ColumnQuality

FONT = "Noto Sans SC, PingFang SC, Microsoft YaHei, sans-serif"
LINE = 24  # pixels per column
INK, FAINT, PAPER = "#22313F", "#8795A1", "#FFFFFF"
TRACK, GOOD, FAIR, POOR = "#EDF1F4", "#4C8C9B", "#D9A34A", "#C1553F"


class _Place(NamedTuple):
    """A column of text: where it stands, how it is aligned, and its heading."""

    x: int
    align: str
    zh: str
    en: str


_BAR = (318, 498)
_PLACES = {
    "title": _Place(0, "left", "字段", "Column"),
    "name": _Place(174, "left", "", ""),
    "complete": _Place(_BAR[0], "left", "完整率", "Complete"),
    "distinct": _Place(640, "right", "不同值", "Distinct"),
    "outside": _Place(732, "right", "超出范围", "Out of range"),
    "unknown": _Place(824, "right", "未知代码", "Unknown code"),
    "range": _Place(860, "left", "取值范围或常见值", "Range or frequent values"),
}
_WIDTH = 1120
_SPAN_CHARACTERS = 46


def draw_quality(title: str, subtitles: Sequence[str], columns: Sequence[ColumnQuality]) -> str:
    """Draw what was measured of the columns of a table.

    Parameters
    ----------
    title, subtitles
        What stands above.
    columns
        One line each.

    Returns
    -------
    str
        An SVG document; its headings are in Chinese and English.
    """
    import vl_convert

    register_font()
    svg: str = vl_convert.vegalite_to_svg(_chart(title, subtitles, columns).to_dict())
    return svg


def register_font() -> None:
    """Let the renderer find the Chinese font that is installed with the package."""
    import pylopdf_fonts_zh_cn
    import vl_convert

    vl_convert.register_font_directory(str(Path(pylopdf_fonts_zh_cn.__file__).parent))


def _altair() -> Any:
    """Import the drawing library when something is drawn: it takes longer than most commands."""
    import altair

    return altair


def _chart(title: str, subtitles: Sequence[str], columns: Sequence[ColumnQuality]) -> Any:
    alt = _altair()

    lines = [_line(order, quality) for order, quality in enumerate(columns)]
    base = alt.Chart(alt.Data(values=lines)).encode(
        y=alt.Y("order:O", axis=None, scale=alt.Scale(paddingInner=0.1))
    )
    layers = [*_bars(base), *_texts(base), *_headings()]
    return (
        alt.layer(*layers)
        .properties(
            width=_WIDTH,
            height=LINE * len(lines),
            background=PAPER,
            padding=28,
            title=alt.Title(
                title,
                subtitle=list(subtitles),
                anchor="start",
                fontSize=20,
                fontWeight="bold",
                color=INK,
                subtitleColor=FAINT,
                subtitleFontSize=12.5,
                subtitleLineHeight=19,
                subtitlePadding=8,
                offset=44,
            ),
        )
        .configure(font=FONT)
        .configure_view(stroke=None)
    )


def _bars(base: Any) -> Iterator[Any]:
    alt = _altair()

    across = alt.Scale(domain=[0, 1], range=list(_BAR))
    bar = base.mark_bar(height=8, cornerRadius=4)
    yield bar.encode(x=alt.value(_BAR[0]), x2=alt.value(_BAR[1]), color=alt.value(TRACK))
    yield bar.encode(
        x=alt.X("none:Q", scale=across, axis=None),
        x2="completeness:Q",
        color=alt.Color("colour:N", scale=None),
    )


def _texts(base: Any) -> Iterator[Any]:
    alt = _altair()

    for field, place in _PLACES.items():
        size, colour = (10.5, FAINT) if field in ("name", "range") else (12, INK)
        x = _BAR[1] + 10 if field == "complete" else place.x
        mark = base.mark_text(align=place.align, baseline="middle", fontSize=size)
        shade = (
            alt.Color(f"{field}_colour:N", scale=None)
            if field in ("complete", "outside", "unknown")
            else alt.value(colour)
        )
        yield mark.encode(x=alt.value(x), text=f"{field}:N", color=shade)


def _headings() -> Iterator[Any]:
    alt = _altair()

    one = alt.Chart(alt.Data(values=[{}]))
    for place in _PLACES.values():
        for text, y, size, colour in ((place.zh, -30, 12, INK), (place.en, -15, 10, FAINT)):
            mark = one.mark_text(align=place.align, baseline="middle", fontSize=size, color=colour)
            yield mark.encode(x=alt.value(place.x), y=alt.value(y), text=alt.value(text))
    rule = one.mark_rule(color=TRACK, strokeWidth=1.5)
    yield rule.encode(x=alt.value(0), x2=alt.value(_WIDTH), y=alt.value(-4))


def _line(order: int, quality: ColumnQuality) -> dict[str, Any]:
    share = quality.completeness or 0.0
    colour = GOOD if share >= 0.95 else FAIR if share >= 0.5 else POOR
    supplied = quality.present > 0
    rows = quality.rows if supplied else 0
    return {
        "order": order,
        "none": 0,
        "completeness": share,
        "colour": colour,
        "title": quality.title.get("zh", quality.name),
        "name": quality.name + (" *" if quality.is_required else ""),
        "complete": _percent(share) if supplied else "未提供 not supplied",
        "complete_colour": INK if supplied else FAINT,
        "distinct": _distinct(quality),
        **_count("outside", quality.outside_range, rows),
        **_count("unknown", quality.unknown_codes, rows),
        "range": _span(quality),
    }


def _count(field: str, rows: int, of: int) -> dict[str, str]:
    text = _percent(rows / of) if rows else "·" if of else ""
    return {field: text, f"{field}_colour": POOR if rows else FAINT}


def _distinct(quality: ColumnQuality) -> str:
    if not quality.present:
        return ""
    return f"{'≈ ' if quality.is_estimate else ''}{quality.distinct:,}"


def _percent(share: float) -> str:
    """Write a share so that neither a small gap nor a small fault is rounded away."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return "> 99.9 %" if 0.999 < share < 1 else f"{share:.1%}".replace("%", " %")


def _span(quality: ColumnQuality) -> str:
    if quality.minimum is not None:
        ends = [str(quality.minimum), str(quality.maximum)]
        if quality.type is ColumnType.TIMESTAMP:
            ends = [end[:16].replace("T", " ") for end in ends]
        return " … ".join(ends)
    if quality.top:
        return _list([f"{value} {_percent(n / quality.rows)}" for value, n in quality.top])
    if quality.shortest is not None:
        lengths = dict.fromkeys((quality.shortest, quality.longest))
        return " … ".join(str(length) for length in lengths) + " 字 characters"
    return ""


def _list(values: list[str]) -> str:
    """Join as many whole values as the line holds."""
    text = ""
    for value in values:
        longer = f"{text}, {value}" if text else value
        if len(longer) > _SPAN_CHARACTERS:
            return f"{text}, …" if text else value[: _SPAN_CHARACTERS - 1] + "…"
        text = longer
    return text
