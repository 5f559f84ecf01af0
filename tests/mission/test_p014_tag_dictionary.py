"""P014: the tag dictionary: meaning, definition, data source, and the level of the service."""

from __future__ import annotations

import shutil
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace

import pytest

from bihuan.tag import TagDefinitionError, TagHistory, TagNotDerivedError, transition

OCTOBER = "2026-10-31"
LINE_CONTRACT = """
table: line_detail
meaning: {zh: 专线平台的线路明细, en: Details of a line from the leased-line platform}
group: line
grain: state
key: [subscription_id]
columns:
  subscription_id: {type: string, nullable: false, meaning: {zh: 专线号, en: Line}}
  customer_id: {type: string, nullable: false, meaning: {zh: 客户编号, en: Customer}}
  bandwidth: {type: number, unit: Mbit/s, meaning: {zh: 带宽, en: Bandwidth}}
  peak: {type: number, unit: Mbit/s, meaning: {zh: 忙时流量, en: Traffic in the busy hour}}
"""
LINE_MAPPING = """
tables:
  line_detail:
    columns: {subscription_id: 专线号, customer_id: 客户编号, bandwidth: 带宽, peak: 忙时流量}
"""
LINE_TAGS = """
defaults: {subject: subscription, owner: 政企部, state: live}
tags:
  - name: line_saturation
    title: {zh: 流量饱和度, en: Saturation}
    layer: base
    means: statistics
    type: number
    source: line_detail
    expression: peak / bandwidth
    category: 专线/流量
    meaning: {zh: 忙时占用带宽的程度, en: How far the busy hour fills the line}
    definition: {zh: 忙时流量除以带宽, en: Traffic in the busy hour by bandwidth}
  - name: line_bandwidth
    title: {zh: 带宽, en: Bandwidth}
    layer: base
    means: direct
    type: number
    source: line_detail
    expression: bandwidth
    category: 专线/速率
    meaning: {zh: 签约带宽, en: Bandwidth as agreed}
    definition: {zh: 专线平台登记的带宽, en: Bandwidth in the register}
  - name: line_unit_price
    title: {zh: 单价, en: Unit price}
    layer: portrait
    means: statistics
    type: number
    expression: line_fee / line_bandwidth
    category: 专线/价格
    meaning: {zh: 每兆带宽的月租, en: Monthly fee per Mbit/s}
    definition: {zh: 月费除以带宽, en: Fee by bandwidth}
  - name: speed_up_candidate
    title: {zh: 提速目标, en: Candidate for more speed}
    layer: marketing
    means: experience
    type: boolean
    expression: line_saturation >= $full and line_status = 'active'
    thresholds: {full: 0.8}
    category: 专线/提速
    meaning: {zh: 适合提速的线路, en: Line that may take more speed}
    definition: {zh: 饱和度达到阈值且在用, en: "Saturation reaches the threshold, line in use"}
"""
PEAKS = {"L001": 92.0, "L002": 40.0, "L003": 45.0, "L004": 20.0}


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory, town, tools) -> SimpleNamespace:
    """The town with the leased-line scene's own fields, defined by the business."""
    folder = tmp_path_factory.mktemp("lines") / "town"
    shutil.copytree(town.folder, folder)
    ws = tools.open_at(folder / "ws")
    tools.define(ws, "contracts", "line_detail", LINE_CONTRACT)
    tools.define(ws, "mappings", "line_detail", LINE_MAPPING)
    tools.define(ws, "tags", "lines", LINE_TAGS)
    ws = tools.open_at(folder / "ws")
    header = ("专线号", "客户编号", "带宽", "忙时流量")
    rows = [(line[0], line[1], line[2], PEAKS[line[0]]) for line in town.lines]
    ws.ingest(
        tools.write_csv(folder / "detail.csv", [header, *rows], "gbk"), "line_detail", OCTOBER
    )
    ws.refresh_tags(OCTOBER, subject="subscription")
    return SimpleNamespace(ws=ws, folder=folder, lines=town.lines, bills=town.bills)


@pytest.mark.mission("P014")
class TestMeaningDefinitionSource:
    """A-75: meaning and statistical definition of each field; A-76: its source beside it."""

    def test_a75_a76_no_tag_without_meaning_definition_and_source(self, lines) -> None:
        rows = lines.ws.dictionary.to_table().to_pylist()
        assert len(rows) > 80
        assert [row["name"] for row in rows if not row["all_sources"]] == []
        for row in rows:
            for field in ("meaning_zh", "meaning_en", "definition_zh", "definition_en", "owner"):
                assert row[field], (row["name"], field)
        levels = {row["level"] for row in rows}
        assert {"customer", "subscription", "leased_line", "org_unit", "staff"} <= levels

    def test_a76_the_source_of_a_combined_tag_is_told_down_to_the_column(self, lines) -> None:
        rows = {row["name"]: row for row in lines.ws.dictionary.to_table().to_pylist()}
        assert rows["line_unit_price"]["all_sources"] == [
            "line_detail.bandwidth",
            "subscription.monthly_fee",
        ]
        assert rows["line_unit_price"]["tags"] == ["line_bandwidth", "line_fee"]

    def test_a75_a_tag_is_explained_with_what_stands_on_it(self, lines) -> None:
        tag = lines.ws.dictionary.get("line_saturation")
        lineage = lines.ws.dictionary.lineage("line_saturation")
        assert tag.meaning["zh"] == "忙时占用带宽的程度"
        assert tag.definition["zh"] == "忙时流量除以带宽"
        assert lineage.columns == ("line_detail.bandwidth", "line_detail.peak")
        assert lineage.users == ("speed_up_candidate",)
        standing = lines.ws.dictionary.tags_on("line_detail", "bandwidth")
        assert set(standing) == {
            "line_bandwidth",
            "line_saturation",
            "line_unit_price",
            "speed_up_candidate",
        }

    def test_a75_the_dictionary_is_a_document_that_can_be_handed_on(self, lines) -> None:
        text = lines.ws.dictionary.to_markdown("zh")
        for head in ("内涵", "统计口径", "数据来源", "层级", "责任人"):
            assert head in text
        (line,) = [line for line in text.splitlines() if line.startswith("| line_saturation |")]
        assert "line_detail.peak" in line
        assert "政企部" in line

    def test_a75_a_field_without_definition_is_refused(self, lines, tools, tmp_path) -> None:
        ws = tools.open_at(tmp_path / "ws")
        tools.with_library(ws)
        text = LINE_TAGS.replace("    definition: {zh: 月费除以带宽, en: Fee by bandwidth}\n", "")
        tools.define(ws, "contracts", "line_detail", LINE_CONTRACT)
        tools.define(ws, "tags", "lines", text)
        with pytest.raises(
            TagDefinitionError, match=r"lines.yaml:\d+: tag 'line_unit_price'.*'definition'"
        ):
            len(tools.open_at(tmp_path / "ws").dictionary)


@pytest.mark.mission("P014")
class TestDefinitionKeptFirm:
    """A-76: 确定标签口径及数据来源十分关键: what is read is what is defined."""

    def test_a76_values_of_an_earlier_definition_are_not_shown_as_the_present_one(
        self, lines, tools, tmp_path
    ) -> None:
        shutil.copytree(lines.folder, tmp_path / "town")
        changed = LINE_TAGS.replace("peak / bandwidth", "peak / (bandwidth * 0.9)")
        ws = tools.open_at(tmp_path / "town" / "ws")
        tools.define(ws, "tags", "lines", changed)
        ws = tools.open_at(tmp_path / "town" / "ws")
        with pytest.raises(TagNotDerivedError, match="definition has changed since version 1"):
            ws.count("line_saturation >= 0.8", OCTOBER, subject="subscription")

    def test_a76_a_live_tag_is_changed_by_a_new_version_only(self, lines, tmp_path) -> None:
        ws = lines.ws
        tag = ws.dictionary.get("speed_up_candidate")
        looser = replace(tag, thresholds={"full": 0.4})
        with pytest.raises(TagDefinitionError, match="version: 2"):
            ws.dictionary.with_definition(looser)
        accepted = ws.dictionary.with_definition(replace(looser, version=2))
        retired, step = transition(
            accepted,
            "speed_up_candidate",
            "retired",
            who="政企部",
            why="新口径上线",
            clock=ws.clock,
        )
        history = TagHistory(tmp_path)
        history.append(step)
        assert [(s.tag, s.version, s.after, s.who) for s in history.read()] == [
            ("speed_up_candidate", 2, "retired", "政企部")
        ]
        assert retired.state.value == "retired"


@pytest.mark.mission("P014")
class TestServiceLevel:
    """A-88: marks are on the line (业务级), not only on the customer."""

    def test_a88_lines_of_one_customer_carry_marks_of_their_own(self, lines) -> None:
        ws = lines.ws
        names = ["line_saturation", "line_unit_price", "line_expiry_warning", "line_fee_jump",
                 "speed_up_candidate"]  # fmt: skip
        found = ws.tags(OCTOBER, subject="subscription").read(ws.engine, names).to_pylist()
        got = {row.pop("subscription_id"): tuple(row.values()) for row in found}
        days = {"L001": 45, "L002": 457, "L003": None, "L004": 20}  # from 31 October
        for line, _, bandwidth, fee, _, _, status, _ in lines.lines:
            before, last = sum(lines.bills[line][:2]) / 2, lines.bills[line][2]
            saturation = PEAKS[line] / bandwidth
            assert got[line] == (
                pytest.approx(saturation),
                pytest.approx(fee / bandwidth),
                days[line] is not None and 0 <= days[line] <= 90,
                not 0.5 < last / before < 1.5,
                saturation >= 0.8 and status == "在用",
            ), line
        mine = [got[line[0]] for line in lines.lines if line[1] == "C006"]
        assert len(set(mine)) == len(mine) == 3  # one customer, three different lines

    def test_a88_an_audience_of_lines_is_a_list_of_lines(self, lines) -> None:
        ws = lines.ws
        snapshot = ws.take_snapshot("speed_up_candidate", OCTOBER, subject="subscription")
        tags = ws.tags(OCTOBER, subject="subscription")
        rows = snapshot.members(["line_fee"], tags=tags, engine=ws.engine).to_pylist()
        assert rows == [{"subscription_id": "L001", "line_fee": Decimal("2000.00")}]
