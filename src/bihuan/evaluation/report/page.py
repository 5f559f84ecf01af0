"""A report as data, and its two printed forms: one HTML file and one PDF.

Any room or pack can make a :class:`Report` of sections. Each section says its finding in one
sentence, shows one picture and keeps the figures in a table behind it.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

from bihuan.evaluation.report.chart import Chart, Lines
from bihuan.evaluation.report.drawing import COLOURS, text_width
from bihuan.evaluation.report.svg import FONT, NARROW, WIDE, caption, describe, draw, font_folder
from bihuan.evaluation.text import LANGUAGES, Kind, Language, Text, Value, show
from bihuan.kernel import DefectError, write_atomically

_TEMPLATES = Path(__file__).parent / "templates"
_POINTS_PER_PIXEL = 8.2 / 13  # a table is set at 8.2 points, widths are measured at 13 pixels
_CELL_PADDING = 11.0
_SECTION_ID = re.compile(r"[a-z][a-z0-9-]*")
_DARK = {
    "ink": "#e6ebee",
    "muted": "#9caab4",
    "line": "#2d3840",
    "surface": "#182127",
    "accent": "#52bcc3",
    "accent_soft": "#1d4448",
    "plain": "#71808b",
    "faint": "#46535d",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A table column: its title and what its figures are."""

    title: Text
    kind: Kind = Kind.TEXT


@dataclass(frozen=True, slots=True)
class Table:
    """Figures behind a picture.

    Parameters
    ----------
    columns
        Titles and kinds.
    rows
        Cells in the order of the columns; None is shown as a dash. A cell that is a
        :class:`Text` is shown as it is, whatever the column's kind.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise DefectError(
                    f"A table row has {len(row)} cells for {len(self.columns)} columns: {row!r}."
                )


@dataclass(frozen=True, slots=True)
class Section:
    """One chapter: finding, picture, table, notes.

    Parameters
    ----------
    id
        Anchor, lower-case letters, digits and hyphens; unique in the report.
    title
        Heading.
    finding
        What is to be learned, in one sentence.
    chart
        One chart or several; None where a picture would say no more than the sentence.
    table
        Figures, folded in HTML.
    notes
        How to read it, what was left out.
    """

    id: str
    title: Text
    finding: Text
    chart: Chart | tuple[Chart, ...] | None = None
    table: Table | None = None
    notes: tuple[Text, ...] = ()

    def __post_init__(self) -> None:
        if not _SECTION_ID.fullmatch(self.id):
            raise DefectError(f"Section id {self.id!r} is no anchor (a-z, 0-9, hyphen).")

    @property
    def charts(self) -> tuple[Chart, ...]:
        """The section's charts, none, one or several."""
        if self.chart is None:
            return ()
        return self.chart if isinstance(self.chart, tuple) else (self.chart,)

    @property
    def is_pair(self) -> bool:
        """Whether the charts are curves that can stand side by side."""
        return len(self.charts) > 1 and all(isinstance(chart, Lines) for chart in self.charts)


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A figure of the strip at the top.

    Parameters
    ----------
    title
        What it is.
    value, unit
        The figure, written, and its unit, written smaller.
    note
        Interval or explanation, small, below.
    is_main
        Whether it wears the accent; one per report.
    """

    title: Text
    value: Text
    unit: Text | None = None
    note: Text | None = None
    is_main: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that a report says.

    Parameters
    ----------
    title, subtitle
        Name of the campaign, and what kind of report this is.
    as_of
        Date of the data.
    currency
        ISO 4217 code of the workspace's currency.
    strip
        Key figures.
    sections
        Chapters in order.
    alerts
        What the reader must know before anything else; empty if all is well.
    """

    title: Text
    subtitle: Text
    as_of: date
    currency: str
    strip: tuple[KeyFigure, ...]
    sections: tuple[Section, ...]
    alerts: tuple[Text, ...] = ()

    def __post_init__(self) -> None:
        ids = [section.id for section in self.sections]
        if len(set(ids)) != len(ids):
            raise DefectError(f"Section ids repeat: {ids}.")

    def with_sections(self, *sections: Section) -> Report:
        """Return the report with further sections at the end."""
        return Report(
            self.title,
            self.subtitle,
            self.as_of,
            self.currency,
            self.strip,
            (*self.sections, *sections),
            self.alerts,
        )


_WORDS = {
    "as_of": Text("数据截至", "Data as of"),
    "currency": Text("金额单位", "Currency"),
    "contents": Text("目录", "Contents"),
    "figures": Text("数据表", "Figures"),
    "key_figures": Text("关键数字", "Key figures"),
    "alerts": Text("请先阅读", "Read this first"),
    "language": Text("语言", "Language"),
    "skip": Text("跳到正文", "Skip to content"),
    "made_with": Text("由 Bihuan（闭环）生成", "Made with Bihuan (闭环)"),
    "page": Text("页", "Page"),
}
_LANGUAGE_TAG = {"zh": "zh-Hans", "en": "en"}


# --- HTML -----------------------------------------------------------------------------------


def to_html(report: Report, *, language: Language = "zh") -> str:
    """Write the report as one HTML page that needs nothing from outside.

    Parameters
    ----------
    report
        What to say.
    language
        Language shown first; the reader can switch at the top. Both are in the page.

    Returns
    -------
    str
        HTML with inline style and SVG, without scripts.
    """
    charts = {
        section.id: [
            _html_chart(chart, report.currency, pair=section.is_pair) for chart in section.charts
        ]
        for section in report.sections
    }
    return str(
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            charts=charts,
            words=_WORDS,
            first=language,
            languages=LANGUAGES,
            tags=_LANGUAGE_TAG,
            style=_style(),
            cell=functools.partial(_cell, currency=report.currency),
            is_figure=lambda column: column.kind is not Kind.TEXT,
        )
    )


def write_html(report: Report, path: Path, *, language: Language = "zh") -> None:
    """Write :func:`to_html` to ``path``, atomically."""
    write_atomically(path, to_html(report, language=language).encode())


def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _html_chart(chart: Chart, currency: str, *, pair: bool) -> dict[str, Any]:
    from markupsafe import Markup

    settings = {"both": NARROW} if pair else {"wide": WIDE, "narrow": NARROW}
    drawings = {
        language: {
            setting: Markup(_inline(draw(chart, language, width, currency=currency)))
            for setting, width in settings.items()
        }
        for language in LANGUAGES
    }
    words = {language: describe(chart, language) for language in LANGUAGES}
    return {"title": caption(chart), "words": words, "drawings": drawings}


def _inline(svg: str) -> str:
    """Drop what only a file of its own needs."""
    return svg.replace(' xmlns="http://www.w3.org/2000/svg"', ' aria-hidden="true"', 1)


def _cell(value: Value, kind: Kind, *, currency: str) -> Text:
    zh, en = (show(value, kind, language, currency=currency) for language in LANGUAGES)
    return Text(zh, en)


def _style() -> Any:
    """Return the style sheet, with the chart colours turned into the page's variables."""
    from markupsafe import Markup

    def variables(colours: dict[str, str]) -> str:
        return "".join(f"--{name.replace('_', '-')}:{value};" for name, value in colours.items())

    charts = "".join(
        f'.chart [{paint}="{value}"]{{{paint}:var(--{name.replace("_", "-")})}}'
        for name, value in COLOURS.items()
        for paint in ("fill", "stroke")
    )
    sheet = (_TEMPLATES / "report.css").read_text("utf-8")
    dark = f"@media screen and (prefers-color-scheme:dark){{:root{{{variables(_DARK)}}}}}"
    return Markup(f":root{{{variables(dict(COLOURS))}}}{dark}\n{sheet}\n{charts}")


# --- PDF ------------------------------------------------------------------------------------


def to_pdf(report: Report, *, language: Language = "zh") -> bytes:
    """Write the report in one language as PDF.

    Parameters
    ----------
    report
        What to say.
    language
        ``zh`` or ``en``.

    Returns
    -------
    bytes
        A tagged PDF on A4, the same bytes for the same report.
    """
    import typst  # loads a type-setting engine; only who wants a PDF pays for it

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        content = _pdf_content(report, language, folder)
        (folder / "report.json").write_text(json.dumps(content, ensure_ascii=False), "utf-8")
        (folder / "report.typ").write_bytes((_TEMPLATES / "report.typ").read_bytes())
        printed: bytes = typst.compile(
            str(folder / "report.typ"),
            root=str(folder),
            font_paths=[font_folder()],
            ignore_system_fonts=True,
            timestamp=int(datetime.combine(report.as_of, time(), UTC).timestamp()),
        )
    return printed


def write_pdf(report: Report, path: Path, *, language: Language = "zh") -> None:
    """Write :func:`to_pdf` to ``path``, atomically."""
    write_atomically(path, to_pdf(report, language=language))


def _pdf_content(report: Report, language: Language, folder: Path) -> dict[str, Any]:
    """Put the report into plain data: text stays text and never becomes Typst code."""

    def say(text: Text | None) -> str:
        return "" if text is None else text.get(language)

    def table(given: Table | None) -> dict[str, Any] | None:
        if given is None:
            return None
        rows = [
            [
                show(value, column.kind, language, currency=report.currency)
                for value, column in zip(row, given.columns, strict=True)
            ]
            for row in given.rows
        ]
        widths = _column_widths([say(column.title) for column in given.columns], rows)
        return {
            "columns": [
                {"title": say(column.title), "figure": column.kind is not Kind.TEXT, "width": width}
                for column, width in zip(given.columns, widths, strict=True)
            ],
            "rows": rows,
        }

    def picture(section: Section, number: int, chart: Chart) -> dict[str, str]:
        file = f"{section.id}-{number}.svg"
        width = NARROW if section.is_pair else WIDE
        svg = draw(chart, language, width, currency=report.currency)
        (folder / file).write_text(svg, "utf-8")
        return {"file": file, "title": say(caption(chart)), "words": describe(chart, language)}

    return {
        "language": language,
        "font": FONT,
        "colours": dict(COLOURS),
        "words": {key: say(text) for key, text in _WORDS.items()},
        "title": say(report.title),
        "subtitle": say(report.subtitle),
        "as_of": report.as_of.isoformat(),
        "currency": report.currency,
        "alerts": [say(text) for text in report.alerts],
        "strip": [
            {
                "title": say(figure.title),
                "value": say(figure.value),
                "unit": say(figure.unit),
                "note": say(figure.note),
                "main": figure.is_main,
            }
            for figure in report.strip
        ],
        "sections": [
            {
                "title": say(section.title),
                "finding": say(section.finding),
                "pair": section.is_pair,
                "charts": [picture(section, i, chart) for i, chart in enumerate(section.charts)],
                "table": table(section.table),
                "notes": [say(note) for note in section.notes],
            }
            for section in report.sections
        ],
    }


def _column_widths(titles: list[str], rows: list[list[str]]) -> list[float]:
    """Estimate each column's width in points: its longest cell, or its title's longest word."""
    cells = list(zip(*rows, strict=True)) or [()] * len(titles)
    return [
        max(
            min(max(map(text_width, column), default=0.0), 320.0),
            max(map(text_width, _pieces(title))),
        )
        * _POINTS_PER_PIXEL
        + _CELL_PADDING
        for title, column in zip(titles, cells, strict=True)
    ]


def _pieces(title: str) -> list[str]:
    """Cut a column title where it may be broken; Chinese may be broken anywhere."""
    return [word[:5] if word > "\u2e7f" else word for word in title.split()]
