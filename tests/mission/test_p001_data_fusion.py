"""P001: collect, fuse and unify data of several systems and parties."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from types import SimpleNamespace

import pyarrow as pa
import pytest

from bihuan.data import resolve_identity

OCTOBER = "2026-10-31"


@pytest.mark.mission("P001")
class TestCollectedFromManySystems:
    """B-10, F-04: by import from files, sheets, SPSS, a database; and by hand."""

    def test_every_row_of_every_system_arrives(self, town: SimpleNamespace) -> None:
        expected = {
            "crm": len(town.customers),
            "users": len(town.mobiles),
            "lines": len(town.lines),
            "usage": len(town.usage),
            "survey": len(town.survey),
            "bill08": len(town.bills),
            "bill10": len(town.bills),
        }
        stored = {name: town.reports[name].rows_stored for name in expected}
        assert stored == expected
        assert sum(report.rows_quarantined for report in town.reports.values()) == 0

    def test_chinese_of_a_gbk_export_is_readable(self, town: SimpleNamespace, tools) -> None:
        names = {row["customer_id"]: row["name"] for row in tools.read(town.ws, "customer")}
        assert names == {row[0]: row[1] for row in town.customers}

    def test_f04_a_list_typed_by_hand_stands_beside_the_imported_one(
        self, town: SimpleNamespace, tools
    ) -> None:
        rows = tools.read(town.ws, "customer_list")
        assert {(row["customer_id"], row["list_kind"]) for row in rows} == {
            ("C004", "black"),  # imported
            ("C002", "red"),  # typed
            ("C008", "red"),
        }
        assert {row["reason"] for row in rows if row["list_kind"] == "red"} == {
            reason for _, reason in town.key
        }


@pytest.mark.mission("P001")
class TestFusedInOneCustomer:
    """A-02: one customer carries what every party knows of him, ready for an audience."""

    def test_a02_one_profile_holds_crm_billing_network_and_survey(self, town) -> None:
        profile = town.ws.tags(OCTOBER).profile("C001")
        mine = [user for user, owner, *_ in town.mobiles if owner == "C001"]
        fen = sum(sum(town.bills[user]) for user in mine)
        assert profile["gender"] == "F"  # CRM, GBK file
        assert profile["arpu"] == (Decimal(fen) / 100 / 3).quantize(Decimal("0.01"))  # database
        mb = [town.usage[user][1] / 1024 for user in mine]  # network platform
        assert profile["dou"] == pytest.approx(sum(mb))
        assert profile["satisfaction"] == town.survey["C001"]  # research company, SPSS
        assert profile["mobile_count"] == 2

    def test_a02_a_rule_may_speak_of_all_parties_at_once(self, town) -> None:
        rule = "satisfaction <= 2 and arpu >= 80 and dou >= 1000 and gender = 'F'"
        arpu: dict[str, float] = defaultdict(float)
        data: dict[str, float] = defaultdict(float)
        for user, owner, *_ in town.mobiles:
            arpu[owner] += sum(town.bills.get(user, (0,))) / 300
            data[owner] += town.usage.get(user, (0, 0))[1] / 1024
        expected = [
            customer
            for customer, _, sex, *_ in town.customers
            if sex == "女"
            and town.survey.get(customer, 9) <= 2
            and arpu[customer] >= 80
            and data[customer] >= 1000
        ]
        assert expected  # the town was made so that somebody fits
        assert town.ws.members(rule, OCTOBER)["customer_id"].to_pylist() == expected


@pytest.mark.mission("P001")
class TestOneDefinitionForAll:
    """F-09: other codes, units and forms become one; what is scattered is brought together."""

    def test_f09_money_in_fen_and_data_in_kb_become_currency_and_mb(self, town, tools) -> None:
        bills = {row["subscription_id"]: row["amount"] for row in tools.read(town.ws, "bill")}
        assert bills == {user: Decimal(fees[2]) / 100 for user, fees in town.bills.items()}
        usage = {row["subscription_id"]: row["data_mb"] for row in tools.read(town.ws, "usage")}
        assert usage == {user: pytest.approx(kb / 1024) for user, (_, kb) in town.usage.items()}

    def test_f09_two_systems_with_other_status_codes_agree_in_one_table(self, town, tools) -> None:
        crm = {"1": "active", "2": "suspended", "3": "disconnected"}
        platform = {"在用": "active", "停用": "suspended"}
        expected = {row[0]: crm[row[4]] for row in town.mobiles}
        expected |= {row[0]: platform[row[6]] for row in town.lines}
        rows = tools.read(town.ws, "subscription")
        assert {row["subscription_id"]: row["status"] for row in rows} == expected

    def test_f09_a_code_that_nobody_defined_is_refused_not_guessed(self, own_town, tools) -> None:
        header = ("用户编号", "客户编号", "号码", "主套餐", "状态", "月费", "小区")
        rows = [(*row[:4], "9", *row[5:]) if row[0] == "S003" else row for row in own_town.mobiles]
        file = tools.write_csv(own_town.folder / "bad.csv", [header, *rows], "gbk")
        report = own_town.ws.ingest(file, "crm_users", "2026-09-30")
        refused = own_town.ws.quarantine.rows(report.quarantine_id).to_pylist()
        assert [(row["line"], row["column"]) for row in refused] == [(4, "状态")]
        assert "9" in refused[0]["raw"]
        assert report.rows_stored == len(own_town.mobiles) - 1

    def test_f09_scattered_records_find_their_customer_by_number(self, town, tools) -> None:
        index = resolve_identity(town.ws.view, tools.months[-1], town.ws.engine)
        numbers = pa.array([row[2] for row in town.mobiles] + ["13999999999"])
        live = [row[1] if row[4] != "3" else None for row in town.mobiles]
        assert index.customers_of_numbers(numbers).to_pylist() == [*live, None]
        me = index.get_customer("C006")
        assert me.account_ids == ("AC-C006",)
        assert me.subscription_ids == ("L001", "L002", "L003")  # S007 is disconnected


@pytest.mark.mission("P001")
class TestNoSilos:
    """A-70: the leased-line scene needs lines, bills and faults of different platforms."""

    def test_a70_each_line_is_seen_with_its_bills_although_two_platforms_keep_them(
        self, town
    ) -> None:
        ws = town.ws
        found = ws.tags(OCTOBER, subject="subscription").read(
            ws.engine, ["line_service", "line_fee", "line_arpu"]
        )
        lines = {
            row["subscription_id"]: (row["line_fee"], row["line_arpu"])
            for row in found.to_pylist()
            if row["line_service"] == "leased_line"
        }
        assert lines == {
            line: (
                Decimal(fee).quantize(Decimal("0.01")),
                (Decimal(sum(town.bills[line])) / 300).quantize(Decimal("0.01")),
            )
            for line, _, _, fee, *_ in town.lines
        }
