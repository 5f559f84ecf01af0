"""P005: customers on this network and on others, in one user centre."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

import bihuan as bh

from .by_hand import OCTOBER, read
from .user_centre import by_customer, history, tags_of, user_centre


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """The user centre; read only."""
    return user_centre(tmp_path_factory)


@pytest.fixture(scope="module")
def customers(centre: SimpleNamespace) -> dict[str, dict]:
    """Every customer as delivered."""
    return {row["customer_id"]: row for row in read(centre.ws, "customer", OCTOBER)}


@pytest.mark.mission("P005")
class TestOneUserCentre:
    """D-28: 大腦統一,全客戶數字化管理. D-32: 本網2700萬、異網4000萬用戶數字化管理."""

    def test_d32_both_are_there_in_the_proportion_of_the_case(self, centre, customers) -> None:
        ours = centre.ws.count("network = 'on_net'", OCTOBER).members
        theirs = centre.ws.count("network = 'off_net'", OCTOBER).members
        assert (ours, theirs) == (810, 1_200)  # 27 to 40
        assert ours + theirs == len(customers)

    def test_d28_one_question_is_asked_of_both(self, centre, customers) -> None:
        counties = sorted({row["county_code"] for row in customers.values()})
        for county in counties[:10]:
            found = [c for c in customers.values() if c["county_code"] == county]
            rule = f"county = '{county}'"
            assert centre.ws.count(rule, OCTOBER).members == len(found)
            off = centre.ws.count(f"{rule} and network = 'off_net'", OCTOBER).members
            assert off == sum(c["network"] == "off_net" for c in found)

    def test_d28_each_of_both_has_a_view_of_all_that_is_known(self, centre, customers) -> None:
        known = {row["customer_id"]: row for row in read(centre.ws, "off_net_profile", OCTOBER)}
        for network in ("on_net", "off_net"):
            customer = next(c for c, row in customers.items() if row["network"] == network)
            view = centre.ws.view360(customer, OCTOBER)
            assert bool(view.subscriptions) == (network == "on_net")
            assert (view.off_net is None) == (network == "on_net")
            if view.off_net is not None:
                assert view.off_net["number"] == known[customer]["number"]
                assert view.tag("rival_operator") == known[customer]["competitor"]

    def test_d32_what_only_our_own_have_is_never_guessed_for_the_others(self, centre) -> None:
        for rule in ("arpu < 1000", "arpu >= 0", "dou >= 0", "tenure_months >= 0",
                     "has_contract", "preferred_product_1 = 'video'"):  # fmt: skip
            assert centre.ws.count(f"({rule}) and network = 'off_net'", OCTOBER).members == 0, rule

    def test_d28_a_customer_stands_once(self, centre, customers) -> None:
        assert len(customers) == len(read(centre.ws, "customer", OCTOBER))
        numbers = [row["number"] for row in read(centre.ws, "off_net_profile", OCTOBER)]
        ours = [row["number"] for row in read(centre.ws, "subscription", OCTOBER) if row["number"]]
        assert len({*numbers, *ours}) == len(numbers) + len(set(ours))


@pytest.mark.mission("P005")
class TestOffNetTags:
    """D-32: off-net customers are managed: known, tagged, judged, selected, listed."""

    def test_d32_what_is_known_becomes_tags(self, centre) -> None:
        known = {row["customer_id"]: row for row in read(centre.ws, "off_net_profile", OCTOBER)}
        names = ("rival_operator", "rival_plan", "rival_fee", "rival_contract_days_left")
        for customer, tags in tags_of(centre.ws, names).items():
            row = known.get(customer)
            if row is None:
                assert set(tags.values()) == {None}, customer
                continue
            ends = row["contract_ends_on"]
            assert tags == {
                "rival_operator": row["competitor"],
                "rival_plan": row["probable_plan"],
                "rival_fee": row["probable_fee"],
                "rival_contract_days_left": None if ends is None else (ends - OCTOBER).days,
            }

    def test_d32_dealings_with_our_customers_and_our_line_are_counted(self, centre) -> None:
        rows = by_customer(history(centre.ws, "off_net_call", 6))
        names = ("rival_service_line_3m", "rival_call_3m", "rival_hall_6m")
        for customer, tags in tags_of(centre.ws, names).items():
            mine = rows[customer]
            newest = [row for row in mine if row["months_ago"] < 3]
            assert tags == {
                "rival_service_line_3m": sum(r["service_line_calls"] for r in newest),
                "rival_call_3m": sum(r["calls_with_ours"] for r in newest),
                "rival_hall_6m": sum(r["hall_visits"] for r in mine),
            }

    def test_d32_the_potential_is_judged_by_rules_that_can_be_read(self, centre) -> None:
        names = ("network", "rival_service_line_3m", "rival_hall_6m", "rival_site_3m",
                 "rival_contract_days_left", "rival_our_contacts_max_3m",
                 "acquisition_potential")  # fmt: skip
        limit = centre.ws.dictionary.get("acquisition_potential").thresholds
        seen = set()
        for tags in tags_of(centre.ws, names).values():
            left = tags["rival_contract_days_left"]
            if tags["network"] == "on_net":
                expected = None
            elif tags["rival_service_line_3m"] + tags["rival_hall_6m"] >= limit["visits"]:
                expected = "high"
            elif (
                tags["rival_site_3m"] >= limit["pages"]
                or (left is not None and left <= limit["days"])
                or tags["rival_our_contacts_max_3m"] >= limit["friends"]
            ):
                expected = "middle"
            else:
                expected = "low"
            assert tags["acquisition_potential"] == expected
            seen.add(expected)
        assert seen == {None, "low", "middle", "high"}

    def test_d32_targets_are_selected_and_listed(self, centre) -> None:
        names = ("acquisition_potential", "rival_fee", "county")
        expected = {
            customer: tags
            for customer, tags in tags_of(centre.ws, names).items()
            if tags["acquisition_potential"] in ("middle", "high") and tags["rival_fee"] >= 50
        }
        rows = centre.ws.members("acquisition_target", OCTOBER, names).to_pylist()
        assert {row.pop("customer_id"): row for row in rows} == expected
        assert 50 < len(rows) < 800

    def test_d32_an_unknown_tag_on_them_is_named(self, centre) -> None:
        with pytest.raises(bh.UserError, match="rival_fee"):
            centre.ws.count("rival_fees >= 50", OCTOBER)
