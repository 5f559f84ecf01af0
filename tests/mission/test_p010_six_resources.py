"""P010: customer, address, resource, product, channel and service staff are connected."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace

import pytest

from bihuan.data import load_recipe, prepare
from bihuan.data.quality import check_references

OCTOBER = date(2026, 10, 31)
CONNECTED = """
recipe: six_resources
meaning: {zh: 贯通六大资源, en: Six resources connected}
steps:
  - select: {table: subscription, columns: [subscription_id, customer_id, product_id, resource_id]}
  - join: {table: customer, on: [customer_id], columns: [address_id, manager_staff_id]}
  - join: {table: address, on: [address_id], columns: [text]}
  - rename: {address_id: home, text: address}
  - join: {table: resource, on: [resource_id], columns: [capacity, used]}
  - join: {table: product, on: [product_id], columns: [name_zh]}
  - rename: {manager_staff_id: staff_id}
  - join: {table: staff, on: [staff_id], columns: [channel_id, post]}
  - join: {table: channel, on: [channel_id], columns: [kind]}
  - sort: [subscription_id]
"""


@pytest.mark.mission("P010")
class TestSixResources:
    """D-11: 贯通“客户-地址-资源-产品-渠道-服务人员”六大资源."""

    def test_d11_every_connection_of_the_six_holds(self, town: SimpleNamespace) -> None:
        ways = (
            ("customer", "address_id"),
            ("customer", "manager_staff_id"),
            ("subscription", "customer_id"),
            ("subscription", "product_id"),
            ("subscription", "resource_id"),
            ("subscription", "address_id"),
            ("resource", "address_id"),
            ("staff", "channel_id"),
            ("staff", "org_unit_id"),
            ("channel", "org_unit_id"),
            ("address", "org_unit_id"),
        )
        for table in dict.fromkeys(table for table, _ in ways):
            contract = town.ws.contracts[table]
            reports = check_references(town.ws.view, OCTOBER, contract, town.ws.engine)
            found = {report.column: (report.rows > 0, report.orphans) for report in reports}
            for column in (column for name, column in ways if name == table):
                assert found[column] == (True, 0), (table, column)

    def test_d11_a_broken_connection_is_told(self, own_town, tools) -> None:
        rows = own_town.ws.view.get("resource", OCTOBER).read()
        kept = rows.filter([r != "R6" for r in rows["resource_id"].to_pylist()])
        tools.extract(own_town.ws, kept, "resource", OCTOBER)
        reports = check_references(
            own_town.ws.view, OCTOBER, own_town.ws.contracts["subscription"], own_town.ws.engine
        )
        (report,) = [r for r in reports if r.column == "resource_id"]
        users = [line for line, *_, port, _, _ in own_town.lines if port == "R6"]
        assert (report.orphans, report.sample) == (len(users), ("R6",))

    def test_d11_one_table_runs_through_all_six(self, town, tmp_path: Path) -> None:
        path = tmp_path / "six_resources.yaml"
        path.write_text(CONNECTED, encoding="utf-8")
        rows = prepare(load_recipe(path), town.ws.view, OCTOBER, town.ws.engine).to_pylist()
        address = {row[0]: row[1] for row in town.addresses[1:]}
        capacity = {row[0]: (row[3], row[4]) for row in town.resources}
        product = {"P19": "轻享套餐", "P59": "畅享套餐", "P99": "尊享套餐", None: None}
        person = {row[0]: (row[2], row[1]) for row in town.staff[1:]}
        kind = {"CH1": "hall", "CH2": "account_manager", None: None}
        customer = {row[0]: (row[5], row[7]) for row in town.customers}
        lines = [(r[0], r[1], None, r[5]) for r in town.lines]
        mobiles = [(r[0], r[1], r[3], r[6]) for r in town.mobiles]
        expected = []
        for user, owner, plan, cell in sorted([*lines, *mobiles]):
            home, manager = customer[owner]
            channel, post = person.get(manager, (None, None))
            expected.append(
                (
                    user,
                    owner,
                    address[home],
                    *capacity[cell],
                    product[plan],
                    manager,
                    post,
                    kind[channel],
                )
            )
        names = ("subscription_id", "customer_id", "address", "capacity", "used", "name_zh",
                 "staff_id", "post", "kind")  # fmt: skip
        assert [tuple(row[name] for name in names) for row in rows] == expected
