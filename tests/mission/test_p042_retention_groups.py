"""P042: the five target groups of retention, and the customers on whom retention concentrates."""

from __future__ import annotations

from datetime import date
from types import SimpleNamespace

import pytest

import bihuan as bh
from bihuan.workspace import Workspace

from .by_hand import OCTOBER, read
from .user_centre import by_customer, history, user_centre

GROUPS = {
    "E-31": "no_contract_group",
    "E-32": "contract_expiring_group",
    "E-33": "terminal_change_group",
    "E-34": "floating_group",
    "E-34, fifth": "mid_high_end_group",
    "E-01": "data_customer_group",
}
RULES = """
rules:
  - name: no_contract
    title: {zh: 无合约, en: No contract}
    condition: no_contract_group
    offer_id: keep_24
    priority: 3
  - name: expiring
    title: {zh: 合约即将到期, en: Contract expiring}
    condition: contract_expiring_group
    offer_id: keep_12
    priority: 1
  - name: terminal
    title: {zh: 终端换机, en: Terminal change}
    condition: terminal_change_group
    offer_id: device
    priority: 4
  - name: floating
    title: {zh: 流动人口, en: Floating population}
    condition: floating_group
    offer_id: roaming
    priority: 2
  - name: high_end
    title: {zh: 中高端, en: Middle and high end}
    condition: mid_high_end_group
    offer_id: care
    priority: 5
"""


def months_between(first: date, last: date) -> int:
    return (last.year - first.year) * 12 + last.month - first.month


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The user centre with its customers' rows; read only."""
    found = user_centre(tmp_path_factory)
    ws: Workspace = found.ws
    lines = by_customer(read(ws, "subscription", OCTOBER))
    here = {c for c, rows in lines.items() if any(r["status"] != "disconnected" for r in rows)}
    return SimpleNamespace(ws=ws, folder=found.folder, lines=lines, here=here)


def mobiles(centre, customer: str) -> list[dict]:
    return [row for row in centre.lines[customer]
            if row["service"] == "mobile" and row["status"] != "disconnected"]  # fmt: skip


def tenure(centre, customer: str) -> int:
    return max(row["tenure_months"] for row in centre.lines[customer])


def monthly(centre, table: str, column: str) -> dict[str, float]:
    """Mean per month over three months, by customer, by hand."""
    return {
        customer: float(sum(row[column] for row in rows)) / len({r["months_ago"] for r in rows})
        for customer, rows in by_customer(history(centre.ws, table, 3)).items()
    }


def members(centre, group: str) -> set[str]:
    found = set(centre.ws.members(group, OCTOBER)["customer_id"].to_pylist())
    assert centre.ws.count(group, OCTOBER).members == len(found)
    return found


@pytest.mark.mission("P042")
class TestGroups:
    """E-31 无合约, E-32 合约即将到期, E-33 终端换机, E-34 流动人口等5类客户."""

    def test_e31_no_contract(self, centre) -> None:
        expected = set()
        for customer in centre.here:
            lines = mobiles(centre, customer)
            bound = [row for row in lines if row["contract_kind"] in ("one_year", "two_year")
                     and row["contract_ends_on"] and row["contract_ends_on"] >= OCTOBER]  # fmt: skip
            if lines and not bound and tenure(centre, customer) >= 3:
                expected.add(customer)
        assert members(centre, "no_contract_group") == expected
        assert 0.1 * len(centre.here) < len(expected) < len(centre.here)

    def test_e32_contract_expires_soon(self, centre) -> None:
        expected = {
            customer
            for customer in centre.here
            if any(
                row["contract_ends_on"] and 0 <= (row["contract_ends_on"] - OCTOBER).days <= 90
                for row in mobiles(centre, customer)
            )
        }
        assert members(centre, "contract_expiring_group") == expected
        assert expected

    def test_e33_terminal_change(self, centre) -> None:
        devices = by_customer(read(centre.ws, "terminal", OCTOBER))
        expected = set()
        for customer in centre.here:
            age = min(months_between(d["used_since"], OCTOBER) for d in devices[customer])
            changes = sum(d["changes_24m"] for d in devices[customer])
            if (age >= 24 or age <= 3) and changes >= 1:
                expected.add(customer)
        assert members(centre, "terminal_change_group") == expected
        assert 0 < len(expected) < 0.5 * len(centre.here)

    def test_e34_floating_population(self, centre) -> None:
        nights = by_customer(history(centre.ws, "mobility", 6))
        expected = set()
        for customer in centre.here:
            away = {
                row["months_ago"] for row in nights[customer]
                if row["nights_other_city"] + row["nights_other_province"]
                > row["nights_home_city"]
            }  # fmt: skip
            if len(away) >= 4 and tenure(centre, customer) >= 1:
                expected.add(customer)
        assert members(centre, "floating_group") == expected
        assert expected

    def test_e34_the_fifth_group_that_the_text_counts_and_does_not_name(self, centre) -> None:
        """The text says five and names four; E-01 names the middle and high end above all."""
        arpu = monthly(centre, "bill", "amount")
        expected = {
            customer
            for customer in centre.here
            if round(arpu.get(customer, 0.0), 2) >= 80 and tenure(centre, customer) >= 6
        }
        assert members(centre, "mid_high_end_group") == expected
        assert expected

    def test_e01_data_customers(self, centre) -> None:
        data = monthly(centre, "usage", "data_mb")
        expected = {c for c in centre.here if data.get(c, 0.0) >= 10_000}
        assert members(centre, "data_customer_group") == expected
        assert expected


@pytest.mark.mission("P042")
class TestConcentration:
    """E-01: 存量客户，尤其是中高端客户、流量客户等重点客户群."""

    def test_e01_only_existing_customers_are_in_any_group(self, centre) -> None:
        for group in GROUPS.values():
            assert members(centre, group) <= centre.here, group
            assert centre.ws.count(f"{group} and network = 'off_net'", OCTOBER).members == 0
            assert centre.ws.count(f"{group} and is_disconnected", OCTOBER).members == 0

    def test_e01_retention_concentrates_on_whom_the_text_names(self, centre) -> None:
        bound = "no_contract_group or contract_expiring_group"
        focus = "mid_high_end_group or data_customer_group"
        both = centre.ws.count(f"({bound}) and ({focus})", OCTOBER).members
        one, other = (members(centre, g) for g in ("no_contract_group", "contract_expiring_group"))
        high, data = (members(centre, g) for g in ("mid_high_end_group", "data_customer_group"))
        assert both == len((one | other) & (high | data)) > 0

    def test_the_groups_are_tags_with_thresholds_that_a_planner_sets(self, centre, tools) -> None:
        for row, group in GROUPS.items():
            tag = centre.ws.dictionary.get(group)
            assert (tag.layer, tag.means, tag.category) == (
                "marketing", "experience", "营销/存量经营/维系客群",
            ), row  # fmt: skip
            assert tag.thresholds, row

    def test_another_threshold_gives_another_group(self, centre) -> None:
        wide = centre.ws.count("mobile_contract_days_left between 0 and 365", OCTOBER).members
        narrow = centre.ws.count("mobile_contract_days_left between 0 and 30", OCTOBER).members
        assert narrow < len(members(centre, "contract_expiring_group")) < wide


@pytest.mark.mission("P042")
class TestOneOfferEach:
    """E-31..E-34: who is in several groups is approached for one reason, the first in order."""

    def test_the_five_groups_as_experience_rules(self, centre, tools, tmp_path) -> None:
        path = tools.define(centre.ws, "rules", "retention_groups", RULES)
        report = centre.ws.apply_rules("retention_groups", OCTOBER)
        path.unlink()
        rank = {"expiring": "contract_expiring_group", "floating": "floating_group",
                "no_contract": "no_contract_group", "terminal": "terminal_change_group",
                "high_end": "mid_high_end_group"}  # fmt: skip
        found = {name: members(centre, group) for name, group in rank.items()}
        assert {c.rule.name: c.matched for c in report.counts} == {
            name: len(customers) for name, customers in found.items()
        }
        winners = {row["customer_id"]: row["rule"] for row in report.winners.to_pylist()}
        everyone = set().union(*found.values())
        assert winners == {
            customer: next(name for name in rank if customer in found[name])
            for customer in everyone
        }
        several = [c for c in everyone if sum(c in group for group in found.values()) > 1]
        assert report.several_share == pytest.approx(len(several) / len(everyone))

    def test_a_group_misspelt_is_named(self, centre) -> None:
        with pytest.raises(bh.UserError, match="floating_group"):
            centre.ws.count("floating_grp", OCTOBER)
