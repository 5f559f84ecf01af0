import io
import re
import subprocess
import sys
from dataclasses import replace
from datetime import date
from html.parser import HTMLParser

import pytest
from pypdf import PdfReader

from bihuan.evaluation import Kind, NotEstimable, Text
from bihuan.evaluation.report import (
    Axis,
    Bar,
    Bars,
    CampaignReport,
    Column,
    KeyFigure,
    Lines,
    Range,
    Ranges,
    Report,
    Section,
    Series,
    Table,
    Tone,
    Vega,
    build_report,
    to_html,
    to_pdf,
    waterfall,
    write_html,
    write_pdf,
)
from bihuan.evaluation.report.drawing import COLOURS
from bihuan.evaluation.report.svg import NARROW, WIDE, draw
from bihuan.evaluation.text import LANGUAGES, show
from bihuan.kernel import DefectError

VOID = {"meta", "input", "br", "hr", "link"}
EVIL = "</style></svg><script>alert('x')</script>&amp;\"<b>"


class Reading(HTMLParser):
    """Checks that tags nest and collects what the tests ask about."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.ids, self.hrefs, self.labels = [], [], [], [], []
        self.words = {"zh": [], "en": []}
        self.text = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append((tag, values))
        self.ids += [values["id"]] if "id" in values else []
        self.hrefs += [values[k] for k in ("href", "src", "xlink:href") if values.get(k)]
        if values.get("role") == "img":
            self.labels.append(values.get("aria-label", ""))
        if tag not in VOID:
            self.open.append((tag, values))

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop()[0] == tag, f"</{tag}> does not close what is open"

    def handle_data(self, data):
        self.text.append(data)
        for _, values in self.open:
            for language in LANGUAGES:
                if language in (values.get("class") or "").split():
                    self.words[language].append(data)


def read(page: str) -> Reading:
    reading = Reading()
    reading.feed(page)
    assert reading.open == []
    return reading


@pytest.fixture(scope="module")
def report(campaign_report):
    return build_report(campaign_report)


@pytest.fixture(scope="module")
def page(report):
    return to_html(report)


@pytest.fixture(scope="module")
def reading(page):
    return read(page)


@pytest.fixture(scope="module")
def pdfs(report):
    return {language: to_pdf(report, language=language) for language in LANGUAGES}


def figures(report, language):
    """Every figure and word that the report was given, as it must be written."""
    for key in report.strip:
        yield key.title.get(language)
        yield key.value.get(language)
        if key.note:
            yield key.note.get(language)
    for section in report.sections:
        yield section.title.get(language)
        yield section.finding.get(language)
        yield from (note.get(language) for note in section.notes)
        for row in section.table.rows if section.table else ():
            for value, column in zip(row, section.table.columns, strict=True):
                yield show(value, column.kind, language, currency=report.currency)


def squeeze(text):
    return re.sub(r"\s+", "", text)


class TestHtml:
    def test_holds_every_figure_in_both_languages(self, report, reading):
        text = squeeze("".join(reading.text))
        for language in LANGUAGES:
            for figure in figures(report, language):
                assert squeeze(figure) in text

    def test_needs_nothing_from_outside(self, page, reading):
        assert not re.search(r"https?:|//[a-z]|@import|url\((?!#)", page)
        assert all(target.startswith("#") for target in reading.hrefs)
        assert not {"script", "link", "iframe", "img", "object"} & {tag for tag, _ in reading.tags}

    def test_ids_are_unique_and_anchors_lead_somewhere(self, reading):
        assert len(set(reading.ids)) == len(reading.ids)
        assert {target[1:] for target in reading.hrefs} <= set(reading.ids)
        for _, values in reading.tags:
            assert set((values.get("aria-labelledby") or "").split()) <= set(reading.ids)
            assert not values.get("for") or values["for"] in reading.ids

    def test_every_word_stands_in_both_languages(self, report, reading):
        count = {
            language: sum(
                language in (values.get("class") or "").split() for _, values in reading.tags
            )
            for language in LANGUAGES
        }
        assert count["zh"] == count["en"] > 100
        assert not re.search(r"[一-鿿]", "".join(reading.words["en"]).replace("唐山", "").replace(
            "闭环", "").replace("价格偏高", "").replace("空号", ""))  # fmt: skip

    def test_charts_have_words_and_tables_have_heads(self, report, reading):
        charts = sum(len(section.charts) for section in report.sections)
        assert len(reading.labels) == charts * len(LANGUAGES)
        assert all(len(label) > 10 for label in reading.labels)
        heads = [values for tag, values in reading.tags if tag == "th"]
        assert all(values.get("scope") in ("row", "col") for values in heads)
        headings = [tag for tag, _ in reading.tags if re.fullmatch(r"h\d", tag)]
        assert headings[0] == "h1"
        assert headings.count("h1") == 1

    def test_the_first_language_is_a_choice(self, report, page):
        assert '<html lang="zh-Hans">' in page
        english = to_html(report, language="en")
        assert '<html lang="en">' in english
        checked = [v for t, v in read(english).tags if t == "input" and "checked" in v]
        assert [v["id"] for v in checked] == ["language-en"]

    def test_text_can_never_become_markup(self):
        evil = Text(EVIL, EVIL)
        page = to_html(
            Report(
                evil,
                evil,
                date(2026, 1, 1),
                "CNY",
                (KeyFigure(evil, evil, note=evil),),
                (
                    Section(
                        "evil",
                        evil,
                        evil,
                        (
                            Bars(evil, evil, Kind.COUNT, (Bar(evil, 3, note=evil),)),
                            Ranges(evil, evil, Kind.POINTS, (Range(evil, 0.1, 0, 0.2),)),
                        ),
                        Table((Column(evil),), ((EVIL,), (evil,))),
                        (evil,),
                    ),
                ),
                (evil,),
            )
        )
        reading = read(page)
        assert "script" not in {tag for tag, _ in reading.tags}
        assert "b" not in {tag for tag, _ in reading.tags}
        assert "".join(reading.text).count("alert('x')") > 8

    def test_is_the_same_for_the_same_report(self, report, page):
        assert to_html(report) == page

    def test_every_chart_colour_is_a_variable_that_the_dark_replaces(self, page):
        style = page[page.index("<style>") : page.index("</style>")]
        dark = style[style.index("prefers-color-scheme:dark") :]
        for name, value in COLOURS.items():
            variable = f"--{name.replace('_', '-')}"
            assert f'[fill="{value}"]{{fill:var({variable})}}' in style
            assert f"{variable}:" in dark
        painted = set(re.findall(r'(?:fill|stroke)="(#[0-9a-f]{3,8})"', page))
        assert painted <= set(COLOURS.values())

    def test_is_written_whole(self, tmp_path):
        small = Report(
            Text("题", "title"), Text("副", "sub"), date(2026, 1, 1), "USD", (),
            (Section("only", Text("节", "part"), Text("句。", "Sentence.")),),
        )  # fmt: skip
        write_html(small, tmp_path / "deep" / "r.html", language="en")
        assert "Sentence." in (tmp_path / "deep" / "r.html").read_text("utf-8")
        write_pdf(small, tmp_path / "deep" / "r.pdf")
        assert (tmp_path / "deep" / "r.pdf").read_bytes().startswith(b"%PDF")


class TestPdf:
    def test_opens_with_text_in_its_language(self, report, pdfs):
        for language, content in pdfs.items():
            reader = PdfReader(io.BytesIO(content))
            assert 4 <= len(reader.pages) <= 9
            text = squeeze("".join(page.extract_text() for page in reader.pages))
            for section in report.sections:
                assert squeeze(section.title.get(language)) in text
                assert squeeze(section.finding.get(language)) in text
            assert reader.metadata.title == report.title.get(language)

    def test_holds_every_figure(self, report, pdfs):
        for language, content in pdfs.items():
            reader = PdfReader(io.BytesIO(content))
            text = squeeze("".join(page.extract_text() for page in reader.pages))
            missing = [f for f in figures(report, language) if squeeze(f) not in text]
            assert missing == []

    def test_is_the_same_for_the_same_report(self, report, pdfs):
        assert to_pdf(report, language="zh") == pdfs["zh"]

    def test_a_wide_table_leaves_room_for_names(self):
        name = "石家庄长安区第十二网格"
        columns = (
            Column(Text("分层", "Stratum")),
            *(Column(Text("数", "A long title of figures"), Kind.POINTS) for _ in range(7)),
        )
        words = Text("句", "words")
        wide = Section("wide", words, words, None, Table(columns, ((name, *[-0.1042] * 7),) * 5))
        reader = PdfReader(
            io.BytesIO(
                to_pdf(Report(words, words, date(2026, 1, 1), "CNY", (), (wide,)), language="en")
            )
        )
        assert "石家庄长安区" in reader.pages[0].extract_text()  # on one line
        assert len(reader.pages) == 1

    def test_one_section_is_one_page_and_markup_stays_text(self):
        code = "#panic() *a* _b_ $x$ @c <d> \\ `e`"
        words = Text(code, code)
        small = Report(words, words, date(2026, 1, 1), "CNY", (KeyFigure(words, words),), (
            Section("only", words, words, None, Table((Column(words),), ((code,),)), (words,)),
        ), (words,))  # fmt: skip
        reader = PdfReader(io.BytesIO(to_pdf(small, language="en")))
        assert len(reader.pages) == 1
        assert squeeze(reader.pages[0].extract_text()).count(squeeze("#panic() *a* _b_")) >= 6


class TestCharts:
    def lines(self, *series):
        share = Axis(Text("横", "across"), Kind.SHARE, 0, 1)
        return Lines(Text("题", "title"), Text("述", "words"), share, share, series)

    def names(self, svg):
        return re.findall(r"<text[^>]*>([^<]*)</text>", svg)

    @pytest.mark.parametrize("width", [WIDE, NARROW])
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_every_label_and_value_is_written(self, width, language):
        bars = Bars(
            Text("题", "title"),
            Text("述", "words"),
            Kind.MONEY,
            (
                Bar(Text("成本", "Cost"), 1200, note=Text("注", "note")),
                Bar(Text("利润", "Profit"), -300, Tone.ACCENT, low=-800, high=200),
            ),
        )
        words = self.names(draw(bars, language, width))
        note = "（注）" if language == "zh" else " (note)"
        assert f"¥1,200{note}" in words
        assert "−¥300" in words
        assert {"zh": "利润", "en": "Profit"}[language] in words

    def test_the_width_is_kept_so_that_letters_keep_their_size(self):
        long = Text("很长" * 12, "a very long label of an exclusion that somebody wrote")
        for width in (WIDE, NARROW):
            chart = Bars(long, long, Kind.COUNT, (Bar(long, 5), Bar(long, 2)))
            found = re.search(r'width="(\d+)"', draw(chart, "zh", width))
            assert int(found[1]) == width

    def test_two_bars_may_have_the_same_name(self):
        same = Text("同名", "same")
        chart = Bars(same, same, Kind.COUNT, (Bar(same, 5), Bar(same, 2)))
        assert self.names(draw(chart, "en", WIDE)).count("same") == 2

    def test_curves_are_named_once_each_and_names_keep_apart(self):
        chart = self.lines(
            Series(Text("甲", "first"), ((0, 0), (1, 1))),
            Series(Text("乙", "second"), ((0, 0), (0.3, 0.9), (1, 1)), Tone.ACCENT),
            Series(Text("丙", "third"), ((0, 0), (0.7, 0.1), (1, 1)), Tone.FAINT),
        )
        svg = draw(chart, "en", WIDE)
        places = {}
        for x, y, name in re.findall(
            r'translate\(([\d.]+),([\d.]+)\)"[^>]*>(first|second|third)</text>', svg
        ):
            places[name] = (float(x), float(y))
        assert set(places) == {"first", "second", "third"}
        spots = list(places.values())
        for i, (x, y) in enumerate(spots):
            for other_x, other_y in spots[:i]:
                assert abs(x - other_x) > 40 or abs(y - other_y) > 12

    def test_truth_is_marked_in_words(self):
        ranges = Ranges(
            Text("题", "title"),
            Text("述", "words"),
            Kind.POINTS,
            (Range(Text("全部", "All"), 0.02, 0.01, 0.03, 0.018),),
        )
        words = " ".join(self.names(draw(ranges, "en", WIDE)))
        assert "+2.00 (+1.00 to +3.00) ▲ true +1.80" in words

    def test_an_empty_scale_does_not_break(self):
        flat = self.lines(Series(Text("平", "flat"), ((0.5, 0.5), (0.5, 0.5))))
        assert "flat" in draw(flat, "en", WIDE)
        zero = Bars(Text("题", "t"), Text("述", "d"), Kind.COUNT, (Bar(Text("零", "nought"), 0),))
        assert "nought" in draw(zero, "en", WIDE)

    def test_a_pack_may_bring_its_own_drawing(self):
        bar = {
            "data": {"values": [{"a": "x", "b": 3}]},
            "mark": "bar",
            "encoding": {"x": {"field": "b", "type": "quantitative"}},
        }
        own = Vega(Text("题", "title"), Text("述", "words"), {"zh": bar, "en": bar})
        assert draw(own, "en", NARROW).startswith("<svg")

    def test_a_drawing_that_reaches_outside_is_refused(self):
        image = {
            "data": {"values": [{"u": "data:image/png;base64,AAAA"}]},
            "mark": "image",
            "encoding": {"url": {"field": "u", "type": "nominal"}},
        }
        own = Vega(Text("题", "title"), Text("述", "words"), {"zh": image, "en": image})
        with pytest.raises(DefectError, match="image"):
            draw(own, "en", WIDE)


class TestWaterfall:
    def test_what_is_removed_and_left_adds_up(self):
        name = Text("名", "name")
        bars = waterfall(name, name, (name, 100), [(name, 30), (name, 20)], name).bars
        assert [(bar.start, bar.value) for bar in bars] == [
            (0, 100),
            (100, -30),
            (70, -20),
            (0, 50),
        ]

    def test_more_cannot_be_removed_than_there_was(self):
        name = Text("名", "name")
        with pytest.raises(DefectError, match="more than there was"):
            waterfall(name, name, (name, 10), [(name, 30)], name)


class TestSection:
    def test_an_id_must_be_an_anchor(self):
        with pytest.raises(DefectError, match="anchor"):
            Section("Not good", Text("节", "part"), Text("句", "words"))

    def test_ids_must_differ(self):
        section = Section("same", Text("节", "part"), Text("句", "words"))
        with pytest.raises(DefectError, match="repeat"):
            Report(
                Text("题", "t"), Text("副", "s"), date(2026, 1, 1), "CNY", (), (section, section)
            )

    def test_a_row_must_fit_the_columns(self):
        with pytest.raises(DefectError, match="2 cells for 1"):
            Table((Column(Text("列", "column")),), ((1, 2),))

    def test_other_rooms_can_add_sections(self, report):
        more = Section("pack", Text("包", "Pack"), Text("句。", "Sentence."))
        assert report.with_sections(more).sections[-1] is more


class TestBuildReport:
    def test_tells_the_chapters_in_order(self, report):
        assert [section.id for section in report.sections] == [
            "goal", "effect", "return", "audience", "model", "offers", "allocation", "decision",
            "delivery", "review", "cost", "replay", "data",
        ]  # fmt: skip

    def test_what_is_not_given_is_left_out(self):
        report = build_report(CampaignReport(title=Text("题", "t"), as_of=date(2026, 1, 1)))
        assert [section.id for section in report.sections] == ["data"]
        assert report.strip == ()

    def test_a_refusal_is_shown_as_one(self, campaign_report):
        refused = NotEstimable({"zh": "没有对照组。", "en": "There is no control group."})
        report = build_report(
            CampaignReport(title=Text("题", "t"), as_of=date(2026, 1, 1), effect=refused)
        )
        section = report.sections[0]
        assert section.id == "effect"
        assert "没有对照组" in section.finding.zh
        assert section.chart is None
        assert report.strip[0].value.en == "Not estimable"

    def test_what_was_gained_is_called_by_its_name(self, campaign_report):
        kept = Text("多保有的客户", "Customers kept beyond control")
        report = build_report(replace(campaign_report, gained=kept))
        section = next(section for section in report.sections if section.id == "return")
        names = [row[0].en for row in section.table.rows] + [f.title.en for f in report.strip]
        assert names.count("Customers kept beyond control") == 2
        assert "Customers kept beyond control: cost of each" in names
        assert not [name for name in names if "response" in name]

    def test_gross_is_always_labelled_as_not_the_effect(self, report):
        section = next(section for section in report.sections if section.id == "return")
        for row in section.table.rows:
            if "ross" in row[0].en:
                assert "not the effect" in row[0].en
                assert "不是效果" in row[0].zh
        assert sum("ross" in row[0].en for row in section.table.rows) == 3

    def test_the_truth_of_a_simulation_is_marked_as_such(self, report):
        section = next(section for section in report.sections if section.id == "effect")
        assert any("simulated" in note.en for note in section.notes)

    def test_an_effect_that_may_be_nought_is_not_claimed(self, campaign_report):
        from bihuan.evaluation import Cell, Moments, Tally, effect_of

        weak = effect_of(
            Tally((Cell("sms", 0.8, Moments.from_sums(200, 21, 21), Moments.from_sums(50, 5, 5)),))
        )
        report = build_report(
            CampaignReport(title=Text("题", "t"), as_of=date(2026, 1, 1), effect=weak)
        )
        assert "No effect" in report.sections[0].finding.en
        assert "看不出" in report.sections[0].finding.zh

    def test_warnings_of_the_effect_come_first(self):
        from bihuan.evaluation import Cell, Moments, Tally, effect_of

        few = effect_of(
            Tally((Cell("sms", 0.5, Moments.from_sums(99, 8, 8), Moments.from_sums(99, 1, 1)),))
        )
        report = build_report(
            CampaignReport(title=Text("题", "t"), as_of=date(2026, 1, 1), effect=few)
        )
        assert report.alerts == few.warnings != ()

    def test_prices_are_said_in_words(self, report):
        section = next(section for section in report.sections if section.id == "allocation")
        assert "one more call would add ¥12.37" in section.notes[0].en
        assert "每再加 1 个外呼" in section.notes[0].zh
        assert "not scarce" in section.notes[1].en


class TestImport:
    def test_numbers_do_not_load_the_drawing_engines(self):
        code = (
            "import sys, bihuan.evaluation, bihuan.evaluation.report\n"
            "heavy = {'altair', 'vl_convert', 'typst', 'jinja2', 'lightgbm', 'sklearn'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "[]"
