"""P020: tags of enterprises' mobile users: seven fields on top of the tags of all customers."""

from __future__ import annotations

import shutil
from datetime import date
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

import bihuan as bh
from bihuan.tag import LIBRARY_FOLDER

OCTOBER, SEPTEMBER, AUGUST = date(2026, 10, 31), date(2026, 9, 30), date(2026, 8, 31)
FIELDS = "政企属性/B端移动/专属字段"
PLAN_LIST = """
meaning: {zh: 产品部维护的套餐清单, en: Plan lists kept by the product department}
tables:
  plan_list:
    columns:
      list_kind: {column: 清单, codes: {特色套餐: b_end_special, 互斥套餐: mutually_exclusive}}
      product_id: 套餐编码
"""
KEY_LIST = """
source: {format: excel, sheet: 清单}
tables:
  custom_list:
    columns: {customer_id: 客户, list_name: {constant: key_customer}, reason: 原因}
"""
PLANS = [("清单", "套餐编码"), ("特色套餐", "P59"), ("特色套餐", "P99"), ("互斥套餐", "P199")]
USERS: dict[str, dict[str, Any]] = {
    # an employee on a special plan, a meter, an employee on an excluding plan, a private customer
    "B1": {"plan": "P59", "terminal": "4g", "bill": "61.50", "mb": 2048.0},
    "B2": {"plan": "P19", "terminal": "4g", "bill": "5.00", "mb": 12.0},
    "B3": {"plan": "P199", "terminal": "4g", "bill": "199.00", "mb": 9000.0},
    "C1": {"plan": "P99", "terminal": "5g", "bill": "99.00", "mb": 30000.0},
}
ENTERPRISE: dict[str, dict[str, Any]] = {
    "B1": {"group_user_count": 120, "payer": "split", "user_kind": "person"},
    "B2": {"group_user_count": 120, "payer": "enterprise", "user_kind": "thing"},
    "B3": {"group_user_count": 8, "payer": "person", "user_kind": "person"},
}
HOURS = {"B1": (600.0, 450.0), "B2": (744.0, 0.0), "B3": (500.0, 200.0)}


def table(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def office(tmp_path_factory, tools) -> SimpleNamespace:
    """A workspace into which three systems and two hand-kept lists were delivered; read only."""
    tmp_path = tmp_path_factory.mktemp("office")
    ws: bh.Workspace = tools.open_at(tmp_path / "ws")
    for name in ("customer_base", "enterprise_user"):
        shutil.copy(LIBRARY_FOLDER / f"{name}.yaml", ws.layout.root / "tags" / f"{name}.yaml")
    tools.define(ws, "mappings", "plan_list", PLAN_LIST)
    tools.define(ws, "mappings", "key_list", KEY_LIST)
    tools.extract(
        ws, table([{"customer_id": c, "kind": "individual"} for c in USERS]), "customer", OCTOBER
    )
    tools.extract(ws, table([
        {"subscription_id": f"S{c}", "account_id": f"A{c}", "customer_id": c, "service": "mobile",
         "status": "active", "product_id": user["plan"], "terminal_generation": user["terminal"]}
        for c, user in USERS.items()
    ]), "subscription", OCTOBER)  # fmt: skip
    for month in (AUGUST, SEPTEMBER, OCTOBER):
        tools.extract(ws, table([
            {"account_id": f"A{c}", "subscription_id": f"S{c}", "customer_id": c, "amount": Decimal(user["bill"])}
            for c, user in USERS.items()
        ]), "bill", month)  # fmt: skip
        tools.extract(ws, table([
            {"subscription_id": f"S{c}", "customer_id": c, "data_mb": user["mb"]} for c, user in USERS.items()
        ]), "usage", month)  # fmt: skip
    tools.extract(ws, table([
        {"subscription_id": f"S{c}", "customer_id": c, "enterprise_id": "E1", **user} for c, user in ENTERPRISE.items()
    ]), "business_user", OCTOBER)  # fmt: skip
    tools.extract(ws, table([
        {"subscription_id": f"S{c}", "customer_id": c, "total_hours": total, "g5_area_hours": g5}
        for c, (total, g5) in HOURS.items()
    ]), "coverage_dwell", OCTOBER)  # fmt: skip
    plans = tools.write_csv(tmp_path / "套餐清单.csv", PLANS, "gbk")
    keys = tools.write_xlsx(tmp_path / "重点客户.xlsx", [("客户", "原因"), ("B3", "集团领导")])
    assert ws.ingest(plans, "plan_list", OCTOBER).rows_quarantined == 0
    ws.ingest(keys, "key_list", OCTOBER)
    ws.portraits.period(OCTOBER)
    return SimpleNamespace(ws=ws, folder=tmp_path)


@pytest.fixture
def own_office(office, tools, tmp_path) -> SimpleNamespace:
    """A copy of the office that a test may change."""
    shutil.copytree(office.folder, tmp_path / "office")
    return SimpleNamespace(ws=tools.open_at(tmp_path / "office" / "ws"), folder=tmp_path / "office")


def values(ws: bh.Workspace, *tags: str) -> dict[str, Any]:
    """Return tag values by customer; of one tag the bare value."""
    rows = ws.tags(OCTOBER).read(ws.engine, tags).to_pylist()
    return {
        r["customer_id"]: r[tags[0]] if len(tags) == 1 else tuple(r[t] for t in tags) for r in rows
    }


@pytest.mark.mission("P020")
class TestReuse:
    """A-26: the tags of private customers are reused; only what is special to B-end is added."""

    def test_a26_a_user_of_an_enterprise_carries_both(self, office) -> None:
        found = {item.definition.name: item for item in office.ws.portraits.of("B1", OCTOBER).tags}
        assert found["arpu"].value == Decimal("61.50")
        assert found["dou"].value == 2048.0
        assert found["terminal_generation"].value == "4g"
        assert found["b_end_special_plan"].shown() == "是"
        assert found["b_end_payment"].shown() == "单位与个人分摊"

    def test_a26_it_is_the_same_tag_and_no_copy(self, office) -> None:
        dictionary = office.ws.dictionary
        for name in ("arpu", "dou", "terminal_generation", "tenure_months"):
            assert dictionary.get(name).subject == "customer"
        assert values(office.ws, "arpu")["C1"] == Decimal(
            "99.00"
        )  # one tag for both kinds of customer
        calculated = [
            (tag.source, " ".join((tag.expression or "").split()), tag.window_months)
            for tag in dictionary.live("customer")
        ]
        assert len(calculated) == len(set(calculated))

    def test_a26_one_audience_uses_both(self, office) -> None:
        audience = "terminal_generation = '4g' and dou > 1000 and b_end_g5_dwell >= 0.3 and not b_end_exclusive_plan"
        members = office.ws.members(audience, OCTOBER, ["arpu", "b_end_payment"]).to_pylist()
        assert [row["customer_id"] for row in members] == ["B1"]
        assert office.ws.count("b_end_g5_upgrade_target", OCTOBER).members == 1


@pytest.mark.mission("P020")
class TestSevenFields:
    """A-27 to A-33: what is added."""

    def test_there_are_seven_and_they_stand_together(self, office) -> None:
        found = {tag.name: tag.title["zh"] for tag in office.ws.dictionary.select(category=FIELDS)}
        assert set(found.values()) == {
            "B端特色套餐", "互斥套餐", "重点客户清单", "群用户规模", "B端缴费方式", "物用", "5G区域驻留",
        }  # fmt: skip
        assert all(
            tag.subject == "customer" for tag in office.ws.dictionary.select(category=FIELDS)
        )

    def test_a27_special_plan_by_a_plan_list(self, office) -> None:
        assert values(office.ws, "b_end_special_plan") == {
            "B1": True,
            "B2": False,
            "B3": False,
            "C1": True,
        }

    def test_a28_mutually_exclusive_plan_by_a_plan_list(self, office) -> None:
        assert values(office.ws, "b_end_exclusive_plan") == {
            "B1": False,
            "B2": False,
            "B3": True,
            "C1": False,
        }

    def test_a27_a28_a_new_list_shows_without_a_new_definition(self, own_office, tools) -> None:
        ws = own_office.ws
        before = [tag.calculation_id for tag in ws.dictionary.select(category=FIELDS)]
        plans = tools.write_csv(
            own_office.folder / "新清单.csv", [PLANS[0], ("互斥套餐", "P19")], "gbk"
        )
        ws.ingest(plans, "plan_list", OCTOBER)
        ws.portraits.period(OCTOBER)
        assert values(ws, "b_end_special_plan", "b_end_exclusive_plan") == {
            "B1": (False, False), "B2": (False, True), "B3": (False, False), "C1": (False, False),
        }  # fmt: skip
        assert [tag.calculation_id for tag in ws.dictionary.select(category=FIELDS)] == before

    def test_a29_key_customer_list_is_the_users_own(self, office) -> None:
        assert [c for c, on in values(office.ws, "b_end_key_customer").items() if on] == ["B3"]

    def test_a30_group_user_size_in_bands_that_the_user_sets(self, own_office, tools) -> None:
        assert values(own_office.ws, "b_end_group_size") == {
            "B1": "large",
            "B2": "large",
            "B3": "small",
            "C1": None,
        }
        path = own_office.ws.layout.root / "tags" / "enterprise_user.yaml"
        text = path.read_text(encoding="utf-8")
        assert "{middle: 30, large: 90}" in text
        path.write_text(
            text.replace("{middle: 30, large: 90}", "{middle: 5, large: 500}"), encoding="utf-8"
        )
        ws = tools.open_at(own_office.ws.layout.root)
        ws.portraits.period(OCTOBER)
        assert values(ws, "b_end_group_size") == {
            "B1": "middle",
            "B2": "middle",
            "B3": "middle",
            "C1": None,
        }

    def test_a31_payment_method(self, office) -> None:
        assert values(office.ws, "b_end_payment") == {
            "B1": "split",
            "B2": "enterprise",
            "B3": "person",
            "C1": None,
        }

    def test_a32_used_for_things(self, office) -> None:
        assert values(office.ws, "b_end_for_things") == {
            "B1": False,
            "B2": True,
            "B3": False,
            "C1": None,
        }

    def test_a33_dwell_in_5g_area(self, office) -> None:
        found = values(office.ws, "b_end_g5_dwell")
        assert found == {"B1": 0.75, "B2": 0.0, "B3": 0.4, "C1": None}
