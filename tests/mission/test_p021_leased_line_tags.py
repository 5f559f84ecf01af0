"""P021: eleven tags of leased lines, each per line, with meaning, way of counting and source."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

import bihuan as bh
from bihuan.tag import LIBRARY_FOLDER

MONTHS = [date(2026, 7, 31), date(2026, 8, 31), date(2026, 9, 30), date(2026, 10, 31)]
OCTOBER = MONTHS[-1]
CORE = "基本特征/专线业务/核心字段"
REGISTER = """
meaning: {zh: 专线台账, en: Register of leased lines}
source: {format: excel, sheet: 清单}
tables:
  leased_line:
    columns:
      leased_line_id: 专线号
      enterprise_id: 企业
      bandwidth_mbps: 带宽
      monthly_fee: 月租
      list_fee: 目录价
      converged_price: 融合价
      mobile_price: 移动价
      status: {column: 状态, codes: {在用: active, 停用: suspended}}
      contract_ends_on: {column: 到期, date_format: "%Y/%m/%d"}
"""
LINES = [
    ("专线号", "企业", "带宽", "月租", "目录价", "融合价", "移动价", "状态", "到期"),
    ("L1", "E1", 100, 1200, 1000, 800, 1000, "在用", "2026/12/01"),
    ("L2", "E1", 200, 1500, 1600, 1100, 1000, "在用", "2028/01/31"),
    ("L3", "E2", 50, 400, 600, 950, 1000, "停用", None),
]
PEAKS = {"L1": (99, 60, 85, 90), "L2": (20, 20, 30, 25), "L3": (10, 10, 10, 12)}
BILLS = {"L1": (1200, 1200, 1200, 1200), "L2": (1000, 1000, 1000, 1500), "L3": (600, 600, 600, 400)}
VISITS = [  # months back, line, kind, target, visits
    (0, "L1", "foreign_site", "abroad", 30), (1, "L1", "foreign_site", "abroad", 12),
    (3, "L1", "foreign_site", "abroad", 999), (0, "L1", "other_network", "rival", 5),
    (2, "L2", "fixed_server", "head-office", 100), (0, "L2", "fixed_server", "cloud", 7),
]  # fmt: skip
ATTACKS = [(0, "L1"), (1, "L1"), (0, "L3")]
FAULTS = [(0, "L1", 30.0), (1, "L1", 10.0), (2, "L2", 20.0)]
EXPECTED: dict[str, tuple[Any, Any, Any]] = {
    "leased_saturation": (0.9, 0.15, 0.24),
    "leased_unit_price": (12.0, 7.5, 8.0),
    "leased_price_speed_match": ("dear", "matched", "cheap"),
    "leased_expiry_warning": (True, False, False),
    "leased_fee_jump": ("none", "rise", "fall"),
    "leased_converged_price_ratio": (0.8, 1.1, 0.95),
    "leased_foreign_visits": (42, 0, 0),
    "leased_other_network_visits": (5, 0, 0),
    "leased_fixed_server_visits": (0, 107, 0),
    "leased_attack_count": (2, 0, 1),
    "leased_fault_state": ("frequent", "some", "none"),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tools) -> SimpleNamespace:
    """Four months of the line platform, of billing, probes and trouble tickets."""
    folder = tmp_path_factory.mktemp("lines")
    ws: bh.Workspace = tools.open_at(folder / "ws")
    for path in LIBRARY_FOLDER.glob("leased_line_*.yaml"):
        shutil.copy(path, ws.layout.root / "tags" / path.name)
    tools.define(ws, "mappings", "register", REGISTER)
    assert (
        ws.ingest(
            tools.write_xlsx(folder / "台账.xlsx", LINES), "register", OCTOBER
        ).rows_quarantined
        == 0
    )
    for place, month in enumerate(MONTHS):
        back = len(MONTHS) - 1 - place
        at = datetime(month.year, month.month, 10, 3, tzinfo=UTC)

        def deliver(table: str, rows: list[dict[str, Any]], month: date = month) -> None:
            if rows:
                tools.extract(ws, pa.Table.from_pylist(rows), table, month)

        deliver("line_traffic", [
            {"leased_line_id": line, "peak_mbps": float(peaks[place]), "traffic_gb": 100.0}
            for line, peaks in PEAKS.items()
        ])  # fmt: skip
        deliver("line_bill", [
            {"leased_line_id": line, "amount": Decimal(bills[place]), "overdue_amount": Decimal(0)}
            for line, bills in BILLS.items()
        ])  # fmt: skip
        deliver("line_visit", [
            {"leased_line_id": line, "target_kind": kind, "target": target, "visits": visits}
            for months, line, kind, target, visits in VISITS if months == back
        ])  # fmt: skip
        deliver("line_attack", [
            {"attack_id": f"K{month}{i}", "leased_line_id": line, "started_at": at, "severity": 3}
            for i, (months, line) in enumerate(ATTACKS) if months == back
        ])  # fmt: skip
        deliver("line_fault", [
            {"fault_id": f"F{month}{i}", "leased_line_id": line, "opened_at": at, "severity": 2,
             "outage_minutes": minutes, "repair_hours": 2.0}
            for i, (months, line, minutes) in enumerate(FAULTS) if months == back
        ])  # fmt: skip
    ws.refresh_tags(OCTOBER, subject="leased_line")
    return SimpleNamespace(ws=ws, folder=folder)


def by_line(ws: bh.Workspace, tag: str) -> tuple[Any, ...]:
    rows = ws.tags(OCTOBER, subject="leased_line").read(ws.engine, [tag]).to_pylist()
    assert [row["leased_line_id"] for row in rows] == ["L1", "L2", "L3"]
    return tuple(row[tag] for row in rows)


@pytest.mark.mission("P021")
class TestElevenFields:
    """A-77 to A-87: saturation, unit price, price-speed match, expiry, fee change, converged against
    mobile price, visits to foreign sites, to other networks, to fixed servers, attacks, faults."""

    @pytest.mark.parametrize("tag", EXPECTED)
    def test_each_field_is_what_was_worked_out_by_hand(self, desk, tag: str) -> None:
        found = by_line(desk.ws, tag)
        wanted = EXPECTED[tag]
        assert found == (pytest.approx(wanted) if isinstance(wanted[0], float) else wanted)

    def test_the_category_lists_exactly_these_eleven(self, desk) -> None:
        assert {tag.name for tag in desk.ws.dictionary.select(category=CORE)} == set(EXPECTED)

    def test_each_says_its_meaning_way_of_counting_and_source(self, desk) -> None:
        for name in EXPECTED:
            tag = desk.ws.dictionary.get(name)
            assert tag.meaning["zh"] != tag.definition["zh"]
            assert "来源：" in tag.definition["zh"]
            assert desk.ws.dictionary.lineage(name).all_columns

    def test_a82_an_operator_may_count_it_his_own_way(self, desk, tools, tmp_path: Path) -> None:
        root = tmp_path / "ws"
        shutil.copytree(desk.ws.layout.root, root)
        path = root / "tags" / "leased_line_core.yaml"
        text = path.read_text(encoding="utf-8")
        path.write_text(
            text.replace("converged_price / mobile_price", "1 - converged_price / mobile_price"),
            encoding="utf-8",
        )
        ws = tools.open_at(root)
        ws.refresh_tags(OCTOBER, subject="leased_line")
        assert by_line(ws, "leased_converged_price_ratio") == pytest.approx((0.2, -0.1, 0.05))


@pytest.mark.mission("P021")
class TestPerLine:
    """A-88: at service level, per line, not only per customer."""

    def test_a88_two_lines_of_one_enterprise_differ(self, desk) -> None:
        owners = {
            r["leased_line_id"]: r["enterprise_id"]
            for r in desk.ws.view.get("leased_line", OCTOBER).read().to_pylist()
        }
        assert owners["L1"] == owners["L2"]
        tags = desk.ws.tags(OCTOBER, subject="leased_line")
        first, second = tags.profile("L1"), tags.profile("L2")
        assert all(first[name] != second[name] for name in EXPECTED)

    def test_a88_the_dictionary_says_at_which_level_each_applies(self, desk) -> None:
        rows = {row["name"]: row for row in desk.ws.dictionary.to_table().to_pylist()}
        assert {rows[name]["level"] for name in EXPECTED} == {"leased_line"}

    def test_a88_lines_are_selected_one_by_one(self, desk) -> None:
        count = desk.ws.count(
            "leased_saturation >= 0.8 and leased_expiry_warning", OCTOBER, subject="leased_line"
        )
        assert (count.members, count.base) == (1, 3)
        assert by_line(desk.ws, "leased_keep_target") == (True, False, False)
        assert by_line(desk.ws, "leased_converge_target") == (
            True,
            False,
            False,
        )  # L3 is out of use
