"""P063: each customer is contacted in the way he likes (以客户喜好的方式)."""

from __future__ import annotations

from collections import defaultdict

import pyarrow as pa
import pytest

import bihuan as bh

from .strategies import OCTOBER
from .user_centre import history, user_centre


@pytest.fixture(scope="module")
def centre(tmp_path_factory):
    return user_centre(tmp_path_factory)


@pytest.fixture(scope="module")
def table(centre):
    return centre.ws.strategy.preferred_channel(OCTOBER)


@pytest.fixture(scope="module")
def by_customer(table):
    found: dict[str, list[dict]] = defaultdict(list)
    for row in table.to_pylist():
        found[row["customer_id"]].append(row)
    return found


@pytest.mark.mission("P063")
class TestPreferredContact:
    """E-11 以客户喜好的方式(电话呼入,呼出,短彩信等)."""

    def test_e11_inbound_outbound_and_messages_are_ranked_for_each_customer(
        self, centre, by_customer
    ) -> None:
        living = centre.ws.members("network = 'on_net' and not is_disconnected", OCTOBER)
        refusing = {row["customer_id"] for row in
                    centre.ws.view.get("opt_out", OCTOBER).read().to_pylist()}  # fmt: skip
        asked = set(living["customer_id"].to_pylist())
        assert set(by_customer) == asked - refusing
        for rows in by_customer.values():
            assert {"inbound", "outbound", "sms", "app", "hall"} <= {r["channel"] for r in rows}
            assert [r["rank"] for r in rows] == list(range(1, len(rows) + 1))
            chances = [r["chance"] for r in rows]
            assert chances == sorted(chances, reverse=True)

    def test_e11_customers_differ_in_what_they_like(self, by_customer) -> None:
        first = defaultdict(int)
        for rows in by_customer.values():
            first[rows[0]["channel"]] += 1
        assert len(first) >= 3

    def test_own_contacts_of_twelve_months_are_what_counts(self, centre, by_customer) -> None:
        tried: dict[tuple[str, str], int] = defaultdict(int)
        won: dict[tuple[str, str], int] = defaultdict(int)
        for row in history(centre.ws, "contact", 12):
            tried[row["customer_id"], row["channel"]] += 1
            won[row["customer_id"], row["channel"]] += row["is_success"]
        own = 0
        for customer, rows in by_customer.items():
            for row in rows:
                if row["channel"] == "inbound":
                    continue
                assert row["contacts"] == tried[customer, row["channel"]]
                assert (row["basis"] == "own") == (row["contacts"] > 0)
                own += row["basis"] == "own"
        assert own > 500

    def test_success_raises_and_failure_lowers_the_chance(self, centre, table) -> None:
        won: dict[tuple[str, str], int] = defaultdict(int)
        for row in history(centre.ws, "contact", 12):
            won[row["customer_id"], row["channel"]] += row["is_success"]
        sms = [r for r in table.to_pylist() if r["channel"] == "sms" and r["contacts"] == 2]
        lucky = [r["chance"] for r in sms if won[r["customer_id"], "sms"]]
        unlucky = [r["chance"] for r in sms if not won[r["customer_id"], "sms"]]
        assert lucky
        assert unlucky
        assert min(lucky) > max(unlucky)

    def test_one_success_is_not_taken_for_certainty(self, table) -> None:
        """The seeded defect: raw rates would say 1 for one success of one contact."""
        assert max(table["chance"].to_pylist()) < 0.6

    def test_e11_what_the_customer_said_comes_first(self, centre, by_customer) -> None:
        customer, rows = next(iter(by_customer.items()))
        last = rows[-1]["channel"]
        stated = pa.table({"customer_id": [customer], "channel": [last]})
        told = centre.ws.strategy.preferred_channel(OCTOBER, stated=stated).to_pylist()
        (first,) = [r for r in told if r["customer_id"] == customer and r["rank"] == 1]
        assert (first["channel"], first["basis"]) == (last, "stated")


@pytest.mark.mission("P063")
class TestUsedInDecisions:
    """E-11: the preference is a factor or a filter of the decision."""

    def test_e11_as_a_factor_of_the_propensity(self, centre, by_customer) -> None:
        ids = pa.array(sorted(by_customer))
        factors = centre.ws.strategy.preference_matrix(OCTOBER, ids, ["outbound", "sms"])
        assert factors.shape == (len(ids), 2)
        assert factors.min() >= 0.25
        assert factors.max() <= 4
        assert factors.mean() == pytest.approx(1.0, abs=0.02)

    def test_e11_as_a_filter_to_the_two_best(self, centre, by_customer) -> None:
        channels = ["outbound", "sms", "app", "hall"]
        ids = pa.array([*sorted(by_customer)[:50], "nobody"])
        kept = centre.ws.strategy.preference_matrix(OCTOBER, ids, channels, mode="filter", keep=2)
        assert kept[:-1].sum(axis=1).tolist() == [2] * 50
        assert kept[-1].all()
        for customer, row in zip(ids.to_pylist()[:-1], kept[:-1], strict=True):
            liked = [r["channel"] for r in by_customer[customer] if r["channel"] in channels][:2]
            assert {c for c, keep in zip(channels, row, strict=True) if keep} == set(liked)

    def test_who_refuses_is_not_contacted_that_way(self, centre) -> None:
        opted = centre.ws.view.get("opt_out", OCTOBER).read().to_pylist()
        refusing = sorted({row["customer_id"] for row in opted if row["channel"] == "all"})
        found = set(centre.ws.strategy.preferred_channel(OCTOBER)["customer_id"].to_pylist())
        assert refusing
        assert not found & set(refusing)

    def test_the_command_tells_what_is_liked_best(self, centre, shell) -> None:
        told = shell("strategy", "channels", "--as-of", "2026-10-31",
                     workspace=centre.folder / "ws")  # fmt: skip
        assert told.code == 0
        first = centre.ws.strategy.preferred_channel(OCTOBER).to_pylist()
        assert sum(row["customers"] for row in told.result) == sum(r["rank"] == 1 for r in first)

    def test_without_history_it_says_so(self, town) -> None:
        with pytest.raises(bh.UserError, match="no contact in the 12 months"):
            town.ws.strategy.preferred_channel(OCTOBER, within="everyone", segment=None)
