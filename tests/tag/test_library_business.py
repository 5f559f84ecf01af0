"""The sample tags of enterprises, of their users and of leased lines, held against the rows."""

from __future__ import annotations

from decimal import Decimal

import pytest

from bihuan.twin import surround_business

from .surrounded import AS_OF, World, build_world

CORE = "基本特征/专线业务/核心字段"
ELEVEN = {
    "leased_saturation", "leased_unit_price", "leased_price_speed_match", "leased_expiry_warning",
    "leased_fee_jump", "leased_converged_price_ratio", "leased_foreign_visits",
    "leased_other_network_visits", "leased_fixed_server_visits", "leased_attack_count",
    "leased_fault_state",
}  # fmt: skip
SEVEN = {
    "b_end_special_plan", "b_end_exclusive_plan", "b_end_key_customer", "b_end_group_size",
    "b_end_payment", "b_end_for_things", "b_end_g5_dwell",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    world = build_world(
        tmp_path_factory, surround_business,
        "leased_line_core", "leased_line_more", "enterprise_base", "enterprise_user",
        also=("customer_base",),
    )  # fmt: skip
    for subject in ("customer", "enterprise", "leased_line"):
        report = world.derive(subject)
        assert not world.names & set(report.pending)
        assert not any(group.outside_codes for group in report.groups)
    return world


class TestAll:
    @pytest.mark.parametrize("subject", ["customer", "enterprise", "leased_line"])
    def test_no_tag_says_the_same_of_everybody(self, world: World, subject: str) -> None:
        assert world.constant_tags(subject) == []

    def test_every_path_has_three_levels(self, world: World) -> None:
        for name in world.names:
            assert world.dictionary.get(name).category.count("/") == 2, name


class TestLeasedLine:
    def test_the_category_of_the_core_fields_holds_exactly_the_eleven(self, world: World) -> None:
        assert {tag.name for tag in world.dictionary.select(category=CORE)} == ELEVEN

    def test_each_core_field_names_its_source(self, world: World) -> None:
        for name in ELEVEN:
            definition = world.dictionary.get(name).definition
            assert "来源：" in definition["zh"], name
            assert "from l" in definition["en"], name

    def test_saturation_is_the_greatest_busy_rate_by_the_bandwidth(self, world: World) -> None:
        peaks: dict[str, float] = {}
        for back in range(3):
            for row in world.rows("line_traffic", back):
                line = row["leased_line_id"]
                peaks[line] = max(peaks.get(line, 0.0), row["peak_mbps"])
        bandwidth = {r["leased_line_id"]: r["bandwidth_mbps"] for r in world.rows("leased_line")}
        found = world.values("leased_line", "leased_saturation")
        assert found
        for line, value in found.items():
            assert value["leased_saturation"] == pytest.approx(peaks[line] / bandwidth[line])

    def test_a_jump_is_judged_against_the_three_months_before(self, world: World) -> None:
        now = {row["leased_line_id"]: row["amount"] for row in world.rows("line_bill")}
        before: dict[str, list[Decimal]] = {}
        for back in (1, 2, 3):
            for row in world.rows("line_bill", back):
                before.setdefault(row["leased_line_id"], []).append(row["amount"])
        found = world.values("leased_line", "leased_fee_jump")
        kinds = set()
        for line, value in found.items():
            ratio = float(now[line] / (sum(before[line]) / 3))
            expected = "rise" if ratio >= 1.3 else "fall" if ratio <= 0.75 else "none"
            assert value["leased_fee_jump"] == expected
            kinds.add(expected)
        assert len(kinds) >= 2

    def test_visits_are_told_apart_by_kind_of_target(self, world: World) -> None:
        counted: dict[tuple[str, str], int] = {}
        for back in range(3):
            for row in world.rows("line_visit", back):
                key = (row["leased_line_id"], row["target_kind"])
                counted[key] = counted.get(key, 0) + row["visits"]
        kinds = {
            "leased_foreign_visits": "foreign_site",
            "leased_other_network_visits": "other_network",
            "leased_fixed_server_visits": "fixed_server",
        }
        for line, value in world.values("leased_line", *kinds).items():
            assert value == {tag: counted.get((line, kind), 0) for tag, kind in kinds.items()}


class TestUsers:
    def test_the_seven_fields_stand_together(self, world: World) -> None:
        found = {tag.name for tag in world.dictionary.select(category="政企属性/B端移动/专属字段")}
        assert found == SEVEN

    def test_plans_are_judged_by_the_loaded_lists(self, world: World) -> None:
        lists: dict[str, set[str]] = {}
        for row in world.rows("plan_list"):
            lists.setdefault(row["list_kind"], set()).add(row["product_id"])
        plan = {
            row["customer_id"]: row["product_id"]
            for row in world.rows("subscription")
            if row["status"] != "disconnected"
        }
        found = world.values("customer", "b_end_special_plan", "b_end_exclusive_plan")
        for customer, value in found.items():
            mine = plan.get(customer)
            assert value["b_end_special_plan"] == (mine in lists["b_end_special"])
            assert value["b_end_exclusive_plan"] == (mine in lists["mutually_exclusive"])

    def test_who_belongs_to_no_enterprise_has_no_payer(self, world: World) -> None:
        users = {row["customer_id"] for row in world.rows("business_user")}
        found = world.values("customer", "b_end_payment", "b_end_for_things", "b_end_group_size")
        for customer, value in found.items():
            assert (None not in value.values()) == (customer in users)


class TestEnterprise:
    def test_it_has_a_set_of_its_own(self, world: World) -> None:
        mine = {tag.category.split("/")[0] for tag in world.dictionary.select(subject="enterprise")}
        persons = {
            tag.category.split("/")[0] for tag in world.dictionary.select(subject="customer")
        }
        assert not (mine - {"营销"}) & persons

    def test_lines_about_to_expire_are_counted_by_their_date(self, world: World) -> None:
        counted: dict[str, int] = {}
        for row in world.rows("leased_line"):
            ends = row["contract_ends_on"]
            if ends and row["status"] == "active" and 0 <= (ends - AS_OF).days <= 90:
                counted[row["enterprise_id"]] = counted.get(row["enterprise_id"], 0) + 1
        found = world.values("enterprise", "enterprise_lines_expiring")
        assert {k: v["enterprise_lines_expiring"] for k, v in found.items()} == {
            enterprise: counted.get(enterprise, 0) for enterprise in found
        }
        assert counted
