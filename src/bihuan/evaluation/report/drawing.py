"""How each form of chart is drawn, in Altair."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bihuan.evaluation.report.chart import Axis, Bar, Bars, Lines, Range, Ranges, Tone
from bihuan.evaluation.text import Kind, Language, show, show_interval

COLOURS: Mapping[str, str] = {
    "ink": "#1c262e",
    "muted": "#5b6770",
    "line": "#dfe4e8",
    "surface": "#fefefe",
    "accent": "#0a6c74",
    "accent_soft": "#cfe3e4",
    "plain": "#8d99a3",
    "faint": "#c9d0d6",
}
_FILL = {Tone.ACCENT: "accent", Tone.PLAIN: "plain", Tone.FAINT: "faint"}
_STROKE = {Tone.ACCENT: "accent", Tone.PLAIN: "ink", Tone.FAINT: "plain"}


def _altair() -> Any:
    """Load Altair where it is used: it takes a second that nobody should pay for a number."""
    import altair

    return altair


class Pen:
    """Language, width and currency of one drawing."""

    def __init__(self, language: Language, width: int, currency: str) -> None:
        self.language = language
        self.width = width
        self.currency = currency

    @property
    def is_narrow(self) -> bool:
        """Whether labels stand above their marks."""
        return self.width < 500

    def figure(self, value: float, kind: Kind) -> str:
        """Write one figure."""
        return show(value, kind, self.language, currency=self.currency)

    def interval(self, low: float, high: float, kind: Kind) -> str:
        """Write an interval."""
        return show_interval(low, high, kind, self.language, currency=self.currency)

    def axis_label(self, kind: Kind) -> str:
        """Vega expression that writes a tick."""
        symbol = show(0, Kind.MONEY, self.language, currency=self.currency).rstrip("0")
        prefix = json.dumps(symbol) + " + " if kind in (Kind.MONEY, Kind.PRICE) else ""
        if kind in (Kind.SHARE, Kind.RATIO):
            return "format(datum.value, '~%')"
        if kind is Kind.POINTS:
            return "replace(format(datum.value * 100, '+.3~g'), '+0', '0')"
        if self.language == "zh":
            return (
                f"{prefix}(abs(datum.value) >= 10000 ? format(datum.value / 10000, ',~g') + '万'"
                " : format(datum.value, ',~g'))"
            )
        return f"{prefix}format(datum.value, abs(datum.value) >= 10000 ? '~s' : ',~g')"


def text_width(text: str, size: float = 13) -> float:
    """Estimate pixels, on the safe side: Chinese signs are square, Latin ones half as wide.

    The Chinese font draws the middle dot, dashes and arrows as wide as its letters.
    """
    return sum(size if ord(letter) >= 0x2010 or letter == "·" else size * 0.6 for letter in text)


# --- rows: bars and ranges ------------------------------------------------------------------


def _rows(labels: Sequence[str], values: Sequence[str], marks: Sequence[Any], pen: Pen) -> Any:
    """Lay out one row per mark: label left and value at the mark, or both above it."""
    alt = _altair()

    names = json.dumps(list(labels), ensure_ascii=False)
    axis = alt.Axis(
        title=None,
        labelExpr=f"{names}[datum.value]",
        labelColor=COLOURS["ink"],
        labelFontSize=13,
        labelLimit=260,
        grid=False,
    )
    row = alt.Y("row:O", axis=None if pen.is_narrow else axis, scale=alt.Scale(paddingInner=0.4))
    layers = [mark.encode(y=row) for mark in marks]
    if pen.is_narrow:
        words = [
            {"row": i, "label": _cut(label, pen.width - text_width(value) - 16), "text": value}
            for i, (label, value) in enumerate(zip(labels, values, strict=True))
        ]
        above = alt.Chart(alt.Data(values=words))
        layers.append(
            above.mark_text(align="left", dy=-19).encode(y=row, text="label:N", x=alt.value(0))
        )
        layers.append(
            above.mark_text(align="right", dy=-19).encode(
                y=row, text="text:N", x=alt.value("width")
            )
        )
    return alt.layer(*layers).properties(height=alt.Step(46 if pen.is_narrow else 30))


def _cut(label: str, room: float) -> str:
    """Shorten a label that would run into its value."""
    if text_width(label) <= room:
        return label
    while label and text_width(label) > room - 13:
        label = label[:-1]
    return f"{label}…"


def draw_bars(chart: Bars, pen: Pen) -> Any:
    """Draw bars with their values beside them."""
    alt = _altair()

    labels = [bar.label.get(pen.language) for bar in chart.bars]
    values = [_bar_text(bar, chart.kind, pen) for bar in chart.bars]
    rows: list[dict[str, Any]] = [
        {
            "row": i,
            "from": bar.start,
            "to": bar.start + bar.value,
            "colour": COLOURS[_FILL[bar.tone]],
            "low": bar.low,
            "high": bar.high,
            "text": values[i],
            "end": max(bar.start, bar.start + bar.value, bar.high or 0.0, 0.0),
        }
        for i, bar in enumerate(chart.bars)
    ]
    largest = max([row["end"] for row in rows] or [0.0]) or 1.0
    smallest = min(0.0, *(min(bar.start + bar.value, bar.low or 0.0) for bar in chart.bars))
    if not pen.is_narrow:  # room for each value after its bar
        plot = pen.width - min(max(map(text_width, labels)), 260) - 24
        rooms = [max(plot - text_width(row["text"]) - 16, plot / 4) for row in rows]
        ends = [row["end"] - smallest for row in rows]
        largest = smallest + max(end * plot / room for end, room in zip(ends, rooms, strict=True))
    data = alt.Data(values=rows)
    scale = alt.Scale(domain=[smallest, largest], nice=False, zero=False)
    x = alt.X("from:Q", scale=scale, axis=None)
    colour = alt.Color("colour:N", scale=None)
    marks = [
        alt.Chart(data)
        .mark_bar(height=14 if pen.is_narrow else 18, cornerRadius=2)
        .encode(x=x, x2="to:Q", color=colour)
    ]
    if any(bar.low is not None for bar in chart.bars):
        whisker = alt.Chart(data).transform_filter("isValid(datum.low)")
        marks.append(
            whisker.mark_rule(color=COLOURS["ink"], strokeWidth=1.5).encode(
                x=alt.X("low:Q", scale=scale, axis=None), x2="high:Q"
            )
        )
        cap = whisker.mark_tick(color=COLOURS["ink"], thickness=1.5, size=9)
        marks += [cap.encode(x=alt.X(end, scale=scale, axis=None)) for end in ("low:Q", "high:Q")]
    if smallest < 0:
        zero = alt.Chart(alt.Data(values=[{"row": row["row"]} for row in rows]))
        marks.append(
            zero.mark_tick(color=COLOURS["muted"], thickness=1, size=28).encode(
                x=alt.X(datum=0, type="quantitative", scale=scale, axis=None)
            )
        )
    if not pen.is_narrow:
        marks.append(
            alt.Chart(data)
            .mark_text(align="left", dx=6)
            .encode(x=alt.X("end:Q", scale=scale, axis=None), text="text:N")
        )
    return _rows(labels, values, marks, pen)


def _bar_text(bar: Bar, kind: Kind, pen: Pen) -> str:
    """Write value and note; on a phone the note gives way to a long label."""
    figure = pen.figure(bar.value, kind)
    if bar.note is None:
        return figure
    note = bar.note.get(pen.language)
    text = f"{figure}（{note}）" if pen.language == "zh" else f"{figure} ({note})"
    room = pen.width - text_width(bar.label.get(pen.language)) - 16
    return figure if pen.is_narrow and text_width(text) > room else text


def draw_ranges(chart: Ranges, pen: Pen) -> Any:
    """Draw estimates with intervals around a line at nought."""
    alt = _altair()

    labels = [item.label.get(pen.language) for item in chart.ranges]
    values = [_range_text(item, chart.kind, pen) for item in chart.ranges]
    rows: list[dict[str, Any]] = [
        {
            "row": i,
            "low": item.low,
            "high": item.high,
            "value": item.value,
            "truth": item.truth,
            "text": values[i],
            "colour": COLOURS[_STROKE[item.tone]],
        }
        for i, item in enumerate(chart.ranges)
    ]
    ends = [0.0, *(e for r in chart.ranges for e in (r.low, r.high, r.truth) if e is not None)]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0
    low, right = low - 0.04 * span, high + 0.04 * span
    if not pen.is_narrow:  # a column for the figures, right of every interval
        plot = pen.width - min(max(map(text_width, labels)), 260) - 24
        figures = max(map(text_width, values)) + 14
        right = low + (right - low) * plot / max(plot - figures, 80)
    data = alt.Data(values=rows)
    scale = alt.Scale(domain=[low, right], nice=False, zero=False)
    ticks = [float(t) for t in _ticks(low, high + 0.04 * span)]
    axis = alt.Axis(
        title=None,
        labelExpr=pen.axis_label(chart.kind),
        values=ticks,
    )
    base, colour = alt.Chart(data), alt.Color("colour:N", scale=None)
    marks = [
        base.mark_tick(
            color=COLOURS["muted"], thickness=1.5, size=24 if pen.is_narrow else 30
        ).encode(x=alt.X(datum=0, type="quantitative", scale=scale, axis=axis)),
        base.mark_rule(strokeWidth=3, strokeCap="round").encode(
            x=alt.X("low:Q", scale=scale, axis=axis), x2="high:Q", color=colour
        ),
        base.mark_point(filled=True, size=90, opacity=1).encode(
            x=alt.X("value:Q", scale=scale, axis=axis), color=colour
        ),
    ]
    if any(item.truth is not None for item in chart.ranges):
        marks.append(
            base.transform_filter("isValid(datum.truth)")
            .mark_point(shape="triangle-up", filled=True, size=70, opacity=1, yOffset=10)
            .encode(
                x=alt.X("truth:Q", scale=scale, axis=axis),
                color=alt.value(COLOURS["ink"]),
            )
        )
    if not pen.is_narrow:
        marks.append(base.mark_text(align="right").encode(x=alt.value("width"), text="text:N"))
    return _rows(labels, values, marks, pen)


def _range_text(item: Range, kind: Kind, pen: Pen) -> str:
    """Write estimate, interval and truth; the unit stands at the axis."""
    unit = show(0, kind, pen.language).lstrip("0.") if kind is Kind.POINTS else ""

    def bare(text: str) -> str:
        return text.removesuffix(unit)

    text = bare(pen.figure(item.value, kind))
    if not pen.is_narrow:
        text += f" ({bare(pen.interval(item.low, item.high, kind))})"
    if item.truth is not None:
        true = "真实" if pen.language == "zh" else "true"
        text += f" ▲ {true} {bare(pen.figure(item.truth, kind))}"
    return text


def _ticks(low: float, high: float) -> NDArray[np.float64]:
    """Round ticks, about five."""
    span = high - low
    step = 10 ** np.floor(np.log10(span / 4))
    step *= next(m for m in (1, 2, 5, 10) if span / (step * m) <= 5)
    return np.asarray(np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step)


# --- curves ---------------------------------------------------------------------------------


def draw_lines(chart: Lines, pen: Pen) -> Any:
    """Draw curves, each with its name beside it."""
    alt = _altair()

    height = 250 if pen.is_narrow else 300
    rows: list[dict[str, Any]] = [
        {
            "x": x,
            "y": y,
            "series": i,
            "colour": COLOURS[_STROKE[item.tone]],
            "width": 3 if item.tone is Tone.ACCENT else 2,
            "dash": [5, 4] if item.tone is Tone.FAINT else [1, 0],
        }
        for i, item in enumerate(chart.series)
        for x, y in item.points
    ]
    (x_low, x_high), (y_low, y_high) = (
        _domain(axis, [row[name] for row in rows])
        for axis, name in ((chart.x, "x"), (chart.y, "y"))
    )
    x = alt.X("x:Q", scale=alt.Scale(domain=[x_low, x_high], nice=False, zero=False)).axis(
        _scale_axis(chart.x, pen, across=True)
    )
    y = alt.Y("y:Q", scale=alt.Scale(domain=[y_low, y_high], nice=False, zero=False)).axis(
        _scale_axis(chart.y, pen, across=False)
    )
    layers = []
    for i, item in enumerate(chart.series):
        own = [row for row in rows if row["series"] == i]
        curve = alt.Chart(alt.Data(values=own))
        layers.append(
            curve.mark_line(
                color=own[0]["colour"],
                strokeWidth=own[0]["width"],
                strokeDash=own[0]["dash"],
                point={"filled": True, "size": 40, "color": own[0]["colour"]}
                if item.dots
                else False,
            ).encode(x=x, y=y)
        )
    box = (x_low, x_high, y_low, y_high, float(pen.width - 70), float(height))
    placed = alt.Chart(alt.Data(values=list(_place_names(chart, pen, box))))
    for halo in (True, False):
        style: dict[str, Any] = {"fontSize": 12, "baseline": "middle", "align": "center"}
        if halo:
            style |= {"stroke": COLOURS["surface"], "strokeWidth": 4, "strokeJoin": "round"}
        layers.append(
            placed.mark_text(**style).encode(
                x=x, y=y, text="name:N", color=alt.Color("colour:N", scale=None)
            )
        )
    return alt.layer(*layers).properties(height=height)


def _scale_axis(axis: Axis, pen: Pen, *, across: bool) -> Any:
    alt = _altair()

    upright: dict[str, Any] = {}
    if not across:  # the title lies above the scale, where it can be read without turning
        upright = {"titleAngle": 0, "titleAlign": "left", "titleX": 0, "titleY": -12}
    return alt.Axis(
        title=axis.title.get(pen.language),
        labelExpr=pen.axis_label(axis.kind),
        tickCount=(5 if pen.is_narrow else 7) if across else 5,
        titlePadding=8,
        **upright,
    )


def _domain(axis: Axis, values: Sequence[float]) -> tuple[float, float]:
    low = min(values) if axis.low is None else axis.low
    high = max(values) if axis.high is None else axis.high
    if high <= low:
        high = low + 1.0
    margin = 0.05 * (high - low)
    return low - (margin if axis.low is None else 0), high + (margin if axis.high is None else 0)


_Box = tuple[float, float, float, float, float, float]


def _place_names(chart: Lines, pen: Pen, box: _Box) -> Iterator[dict[str, Any]]:
    """Put each curve's name beside it, where it is clear of every curve and other name."""
    x_low, x_high, y_low, y_high, width, height = box
    curves = [
        _trace(
            (np.array([x for x, _ in item.points]) - x_low) / (x_high - x_low) * width,
            (np.array([y for _, y in item.points]) - y_low) / (y_high - y_low) * height,
        )
        for item in chart.series
    ]
    taken: list[NDArray[np.float64]] = []
    for i, item in enumerate(chart.series):
        name = item.name.get(pen.language)
        half = text_width(name, 12) / 2 + 3
        spots = _beside(curves[i], half)
        inside = (
            (spots[:, 0] > half)
            & (spots[:, 0] < width - half)
            & (spots[:, 1] > 8)
            & (spots[:, 1] < height - 8)
        )
        spots = spots[inside] if inside.any() else np.array([[width / 2, height / 2]])
        others = [*(curve for k, curve in enumerate(curves) if k != i), *taken]
        score = np.minimum(_clearance(spots, curves[i], half), 5.0)
        if others:
            score = score * 3 + np.minimum(_clearance(spots, np.concatenate(others), half), 24.0)
        x, y = spots[int(np.argmax(score))]
        taken.append(_trace(np.array([x - half, x + half]), np.array([y, y])))
        yield {
            "name": name,
            "x": x_low + x / width * (x_high - x_low),
            "y": y_low + y / height * (y_high - y_low),
            "colour": COLOURS["accent" if item.tone is Tone.ACCENT else "ink"],
        }


def _trace(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """Walk along a polyline in even steps; shape ``(n, 2)``, pixels."""
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    steps = np.linspace(0, length[-1], max(int(length[-1] / 4), 2))
    return np.column_stack([np.interp(steps, length, x), np.interp(steps, length, y)])


def _beside(curve: NDArray[np.float64], half: float) -> NDArray[np.float64]:
    """Return the places above, below, right and left of a curve; shape ``(n, 2)``."""
    gaps = np.array([(0, 14), (0, -14), (half + 7, 0), (-half - 7, 0), (half, 10), (-half, 10),
                     (half, -10), (-half, -10)])  # fmt: skip
    places = curve[:, None, :] + gaps[None, :, :]
    return np.asarray(places.reshape(-1, 2))


def _clearance(
    spots: NDArray[np.float64], points: NDArray[np.float64], half: float
) -> NDArray[np.float64]:
    """Distance of a name centred on each spot to the nearest point; shape ``(n,)``, pixels."""
    gap = np.abs(spots[:, None, :] - points[None, :, :]) - np.array([half, 7.0])
    return np.asarray(np.hypot(*np.moveaxis(np.maximum(gap, 0), -1, 0)).min(axis=1))
