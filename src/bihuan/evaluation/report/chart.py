"""What a chart shows, as plain frozen data; how it is drawn is :mod:`.svg`'s business.

Four forms suffice for a campaign: bars (also waterfalls and funnels), ranges (estimates with
intervals), lines (curves), and for packs that need another one, their own Vega-Lite.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from bihuan.evaluation.text import Kind, Language, Text
from bihuan.kernel import DefectError


class Tone(enum.StrEnum):
    """How loud a mark is. A report has one accent; the rest is quiet."""

    ACCENT = "accent"
    PLAIN = "plain"
    FAINT = "faint"


@dataclass(frozen=True, slots=True)
class Bar:
    """One horizontal bar with its value beside it.

    Parameters
    ----------
    label, value
        What and how much; the bar runs from ``start`` to ``start + value``.
    tone
        Loudness.
    start
        Where the bar begins; not 0 in a waterfall.
    low, high
        Interval drawn as a whisker; both or neither.
    note
        Short words after the value.
    """

    label: Text
    value: float
    tone: Tone = Tone.PLAIN
    start: float = 0.0
    low: float | None = None
    high: float | None = None
    note: Text | None = None


@dataclass(frozen=True, slots=True)
class Bars:
    """Horizontal bars, top to bottom, on one scale that starts at nought."""

    title: Text
    description: Text
    kind: Kind
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """One estimate with its interval, and the true value where a simulation knows it."""

    label: Text
    value: float
    low: float
    high: float
    truth: float | None = None
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Ranges:
    """Estimates with intervals, top to bottom, around a line at nought."""

    title: Text
    description: Text
    kind: Kind
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One curve; points in order of x.

    Parameters
    ----------
    name
        Written beside the curve.
    points
        (x, y) pairs, at least two.
    tone
        Loudness; ``FAINT`` is drawn dashed, for references.
    dots
        Whether every point is marked.
    """

    name: Text
    points: tuple[tuple[float, float], ...]
    tone: Tone = Tone.PLAIN
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """Title and kind of a scale; ``low`` and ``high`` fix its ends, None lets the data decide."""

    title: Text
    kind: Kind
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Lines:
    """Curves over two scales, each named where it runs."""

    title: Text
    description: Text
    x: Axis
    y: Axis
    series: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Vega:
    """A chart of a pack's own: one Vega-Lite specification per language, without width.

    Take colours from :data:`bihuan.evaluation.report.drawing.COLOURS`, so that the chart follows
    the page into the dark; data must be inline.
    """

    title: Text
    description: Text
    specifications: Mapping[Language, Mapping[str, Any]]


Chart: TypeAlias = Bars | Ranges | Lines | Vega


def waterfall(
    title: Text,
    description: Text,
    start: tuple[Text, float],
    removed: Sequence[tuple[Text, float]],
    end: Text,
) -> Bars:
    """Show how a count shrinks: the start, every removal, what is left.

    Parameters
    ----------
    title, description
        Of the chart.
    start
        Name and count at the beginning.
    removed
        Name and count of each removal, in order.
    end
        Name of the rest.

    Raises
    ------
    DefectError
        If more is removed than there was.

    Examples
    --------
    >>> name = Text("客户", "Customers")
    >>> [bar.value for bar in waterfall(name, name, (name, 10), [(name, 4)], name).bars]
    [10, -4, 6]
    """
    label, left = start
    bars = [Bar(label, left, Tone.PLAIN)]
    for name, count in removed:
        bars.append(Bar(name, -count, Tone.FAINT, start=left))
        left -= count
    if left < 0:
        raise DefectError(f"The waterfall '{title.en}' removes {-left:g} more than there was.")
    bars.append(Bar(end, left, Tone.ACCENT))
    return Bars(title, description, Kind.COUNT, tuple(bars))
