"""Portraits and structures as pages: the same report form as everything else that is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bihuan.evaluation import Text
from bihuan.evaluation.report import (
    Bar,
    Bars,
    Column,
    KeyFigure,
    Report,
    Section,
    Table,
    Tone,
)
from bihuan.evaluation.text import Kind, Language
from bihuan.tag import FACETS, Portrait, PortraitTag, Structure

MOST_BARS = 20
_FACET_TITLES = {
    "basic": Text("基本属性", "Basic attributes"),
    "feature": Text("基本特征", "Basic features"),
    "preference": Text("偏好", "Preferences"),
    "value": Text("价值", "Value"),
    "need": Text("需求", "Needs"),
    "strategy": Text("服务策略", "Service strategies"),
}
_BRANCH_TITLES = {
    "渠道行为": "Channel behaviour",
    "营销": "Marketing",
    "政企属性": "Enterprise user",
    "异网": "Other network",
    "线路": "Line",
    "企业属性": "Enterprise attributes",
    "业务特征": "Business features",
    "消费特征": "Spending features",
    "服务特征": "Service features",
    "企业画像": "Enterprise portrait",
    "用电特征": "Electricity features",
    "线路属性": "Line attributes",
    "线路特征": "Line features",
    "线路画像": "Line portrait",
}  # of our sample tree; another operator's branch is shown by its own name in both languages
MOST_WORDS = 6
_TAG_COLUMNS = (
    Column(Text("标签", "Tag")),
    Column(Text("值", "Value")),
    Column(Text("类目", "Category")),
    Column(Text("口径", "How it is counted")),
)
_SEGMENT_COLUMNS = (
    Column(Text("分群", "Segment")),
    Column(Text("户数", "Number"), Kind.COUNT),
    Column(Text("占比", "Share"), Kind.SHARE),
    Column(Text("上期户数", "Before"), Kind.COUNT),
    Column(Text("占比变化", "Change of share"), Kind.POINTS),
    Column(Text("转入", "Moved in"), Kind.COUNT),
    Column(Text("转出", "Moved out"), Kind.COUNT),
    Column(Text("新增", "New"), Kind.COUNT),
    Column(Text("离开", "Gone"), Kind.COUNT),
)


def portrait_page(portrait: Portrait, currency: str) -> Report:
    """Lay out the portrait of one subject: its facets, then the other branches of its tag tree.

    A facet without tags says so: its place is kept.
    """
    facets = {name: portrait.facet(name) for name in FACETS}
    placed = {item.definition.name for items in facets.values() for item in items}
    sections = [_facet(name, _FACET_TITLES[name], items) for name, items in facets.items()]
    branches: dict[str, list[PortraitTag]] = {}
    for item in portrait.tags:
        if item.definition.name not in placed:
            branch = item.definition.category.strip("/").split("/")[0]
            branches.setdefault(branch, []).append(item)
    sections += [
        _facet(f"branch-{place}", Text(branch, _BRANCH_TITLES.get(branch, branch)), items)
        for place, (branch, items) in enumerate(branches.items())
    ]
    note = Text(
        f"取值来自截至 {portrait.as_of} 的数据，口径为今日的标签字典。",
        f"Values from the data up to {portrait.as_of}, counted by the tag dictionary of today.",
    )
    sections[0] = replace(sections[0], notes=(note,))
    known = sum(item.value is not None for item in portrait.tags)
    counts = (
        (Text("有值的标签", "Tags with a value"), known),
        (Text("值未知", "Value unknown"), len(portrait.tags) - known),
        (Text("尚无数据的标签", "Tags without data"), len(portrait.pending)),
    )
    return Report(
        title=Text(f"画像 {portrait.subject_id}", f"Portrait of {portrait.subject_id}"),
        subtitle=Text("标签、价值需求与服务策略", "Tags, value and needs, service strategies"),
        as_of=portrait.as_of,
        currency=currency,
        strip=_strip([(title, f"{count:,}") for title, count in counts]),
        sections=tuple(sections),
    )


def _strip(figures: Sequence[tuple[Text, str]]) -> tuple[KeyFigure, ...]:
    return tuple(
        KeyFigure(title, Text(figure, figure), is_main=place == 0)
        for place, (title, figure) in enumerate(figures)
    )


def _facet(name: str, title: Text, items: Sequence[PortraitTag]) -> Section:
    finding = Text("本方面尚无标签。", "There are no tags of this facet yet.")
    if items:
        finding = Text(_in_words(items, "zh"), _in_words(items, "en"))
    rows = tuple(
        (
            Text(item.title("zh"), item.title("en")),
            Text(item.shown("zh"), item.shown("en")),
            item.definition.category,
            Text(item.definition.definition["zh"], item.definition.definition["en"]),
        )
        for item in items
    )
    return Section(name, title, finding, table=Table(_TAG_COLUMNS, rows) if rows else None)


def _in_words(items: Sequence[PortraitTag], language: Language) -> str:
    """Say what stands out: codes, then marks that are set; numbers are for the table."""
    codes = [
        f"{item.title(language)} {item.shown(language)}"
        for item in items
        if item.value is not None and item.definition.codes is not None
    ][:MOST_WORDS]
    marks = [item.title(language) for item in items if item.value is True]
    words = [*codes, *marks[: max(MOST_WORDS - len(codes), 3)]]
    known = sum(item.value is not None for item in items)
    if language == "zh":
        return f"{'、'.join(words) or '无突出项'}（{len(items)} 个标签，{known} 个有值）"
    told = ", ".join(words) or "Nothing stands out"
    return f"{told} ({known} of {len(items)} tags known)"


def structure_page(structures: Sequence[Structure], currency: str) -> Report:
    """Lay out structures one under the other, each with its bars and its figures."""
    first = structures[0]
    since = "" if first.earlier is None else first.earlier.isoformat()
    figures = [(Text("总数", "All"), f"{first.total:,}")]
    if first.total_before is not None:
        most = max(each.moved_share or 0.0 for each in structures)
        figures.append((Text("上期总数", "All before"), f"{first.total_before:,}"))
        figures.append((Text("换了分群", "Changed segment"), f"{most:.1%}"))
    return Report(
        title=Text("客户结构", "Structure of the customers"),
        subtitle=Text(f"与 {since} 相比", f"Against {since}")
        if since
        else Text("当期", "This period"),
        as_of=first.as_of,
        currency=currency,
        strip=_strip(figures),
        sections=tuple(_structure(place, each) for place, each in enumerate(structures)),
    )


def _structure(place: int, structure: Structure) -> Section:
    title = Text(*(" × ".join(tag.title[lang] for tag in structure.tags) for lang in ("zh", "en")))
    largest = structure.segments[0]
    finding = Text("“{name}”最多，占 {share:.1%}。", "“{name}” is the largest: {share:.1%}.")
    finding = Text(
        finding.zh.format(name=structure.label(largest, "zh"), share=largest.share),
        finding.en.format(name=structure.label(largest, "en"), share=largest.share),
    )
    moved = structure.moved_share
    notes = () if moved is None else (
        Text(f"两期都在的有 {moved:.1%} 换了分群。",
             f"Of those there at both dates, {moved:.1%} changed segment."),
    )  # fmt: skip
    bars = tuple(
        Bar(
            Text(structure.label(segment, "zh"), structure.label(segment, "en")),
            float(segment.share),
            Tone.ACCENT if segment is largest else Tone.PLAIN,
        )
        for segment in structure.segments[:MOST_BARS]
    )
    if len(structure.segments) > MOST_BARS:
        left_out = len(structure.segments) - MOST_BARS
        notes = (
            *notes,
            Text(f"图中未画较小的 {left_out} 群，数据表中有。",
                 f"The {left_out} smallest segments are in the table only."),
        )  # fmt: skip
    rows = tuple(
        (
            Text(structure.label(segment, "zh"), structure.label(segment, "en")),
            segment.count,
            segment.share,
            segment.before,
            None if segment.share_before is None else segment.share - segment.share_before,
            segment.moved_in,
            segment.moved_out,
            segment.joined,
            segment.left,
        )
        for segment in structure.segments
    )
    chart = Bars(title, finding, Kind.SHARE, bars)
    return Section(
        f"structure-{place}", title, finding, chart, Table(_SEGMENT_COLUMNS, rows), notes
    )
