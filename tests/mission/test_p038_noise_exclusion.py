"""P038: noise is removed: whom one cannot or should not market to."""

from __future__ import annotations

import shutil
from collections import Counter, defaultdict
from datetime import date, datetime
from types import SimpleNamespace

import pyarrow as pa
import pytest

import bihuan as bh


def noise(world: SimpleNamespace, tools) -> dict[str, set[str]]:
    """Find the noise in the rows themselves, tag by tag, without any tag."""
    ws, last = world.ws, world.last
    found: dict[str, set[str]] = defaultdict(set)
    contacts: dict[str, list[bool]] = defaultdict(list)
    complaints: Counter[str] = Counter()
    for month in world.months[-3:]:  # the last three months
        for row in tools.read(ws, "contact", month):
            contacts[row["customer_id"]].append(row["is_success"])
        for row in tools.read(ws, "ticket", month):
            complaints[row["customer_id"]] += row["kind"] == "complaint"
    found["recent_contact"] = {c for c, results in contacts.items() if not any(results)}
    for row in tools.read(ws, "customer_list", last):
        found["red_list" if row["list_kind"] == "red" else "black_list"].add(row["customer_id"])
    gravest: Counter[str] = Counter()
    for month in world.months:  # four of the six months looked at are there
        for row in tools.read(ws, "ticket", month):
            gravest[row["customer_id"]] = max(gravest[row["customer_id"]], row["severity"])
    # twice within three months, or once as gravely as can be
    found["complaint_sensitive"] = {c for c, n in complaints.items() if n >= 2}
    found["complaint_sensitive"] |= {c for c, worst in gravest.items() if worst >= 5}
    lines: dict[str, set[str]] = defaultdict(set)
    for row in tools.read(ws, "subscription", last):
        lines[row["customer_id"]].add(row["status"])
    found["disconnected"] = {c for c, states in lines.items() if states == {"disconnected"}}
    found["suspended"] = {
        c for c, states in lines.items() if "suspended" in states and "active" not in states
    }
    found["opted_out"] = {row["customer_id"] for row in tools.read(ws, "opt_out", last)}
    return dict(found)


@pytest.mark.mission("P038")
class TestStandardExclusions:
    """A-34 to A-38, held against the rows of contacts, lists, tickets and subscriptions."""

    def test_a35_to_a38_each_exclusion_hits_exactly_those_it_names(self, operator, tools) -> None:
        report = operator.ws.suppress("everyone", operator.last)
        hits = {count.name: count.hits for count in report.counts}
        expected = noise(operator, tools)
        assert hits == {name: len(expected[name]) for name in hits}
        assert set(hits) == set(expected)
        assert all(hits.values())  # the twin has some of each

    def test_a34_who_is_left_is_everybody_without_noise(self, operator, tools) -> None:
        report = operator.ws.suppress("arpu >= 40", operator.last)
        audience = operator.ws.members("arpu >= 40", operator.last)["customer_id"].to_pylist()
        out = set().union(*noise(operator, tools).values())
        assert report.kept["customer_id"].to_pylist() == [c for c in audience if c not in out]
        assert report.size == len(audience) == report.remaining + report.removed.num_rows

    def test_a34_everyone_left_out_is_told_all_reasons(self, operator, tools) -> None:
        report = operator.ws.suppress("everyone", operator.last)
        expected = noise(operator, tools)
        for row in report.removed.to_pylist():
            reasons = {name for name, who in expected.items() if row["customer_id"] in who}
            assert set(row["reasons"]) == reasons
            assert row["reason"] == row["reasons"][0]
        several = [row for row in report.removed.to_pylist() if len(row["reasons"]) > 1]
        assert several

    def test_a34_the_waterfall_adds_up(self, operator) -> None:
        report = operator.ws.suppress("everyone", operator.last)
        left = report.size
        for count in report.counts:
            left -= count.removed
            assert count.remaining == left
            assert count.removed <= count.hits
            assert count.title["zh"], count.name
        assert left == report.remaining


@pytest.mark.mission("P038")
class TestParameters:
    """A-35: 近几个月已经接触过营销但未成功: which months, and what success is."""

    @pytest.fixture(scope="class")
    @classmethod
    def world(cls, town, tools, tmp_path_factory) -> SimpleNamespace:
        """The town with a history of contacts that was made for this question."""
        folder = tmp_path_factory.mktemp("contacted") / "town"
        shutil.copytree(town.folder, folder)
        world = SimpleNamespace(ws=tools.open_at(folder / "ws"))
        history = {
            "C001": [("2026-06-10", False)],  # long ago
            "C002": [("2026-08-03", False)],  # just within three months
            "C003": [("2026-09-01", False), ("2026-10-01", True)],  # in the end it was a success
            "C005": [("2026-10-02", False), ("2026-10-20", False)],
        }
        rows = [
            (f"K{customer}{day}", customer, datetime.fromisoformat(f"{day}T04:00:00+00:00"), good)
            for customer, found in history.items()
            for day, good in found
        ]
        for month in ("2026-06-30", *map(str, tools.months)):
            part = [row for row in rows if f"{row[2]:%Y-%m}" == month[:7]]
            table = pa.table(
                {
                    "contact_id": pa.array([r[0] for r in part], pa.string()),
                    "customer_id": pa.array([r[1] for r in part], pa.string()),
                    "channel": pa.array(["outbound"] * len(part), pa.string()),
                    "contacted_at": pa.array([r[2] for r in part], pa.timestamp("us", tz="UTC")),
                    "result": pa.array(
                        ["accepted" if r[3] else "refused" for r in part], pa.string()
                    ),
                    "is_success": pa.array([r[3] for r in part], pa.bool_()),
                }
            )
            tools.extract(world.ws, table, "contact", month)
        world.ws.refresh_tags("2026-10-31")
        return world

    # the town keeps no complaints and no refusals, so these two are switched off here
    KEEP = ("complaint_sensitive", "opted_out")

    def removed(self, world: SimpleNamespace, **changes: object) -> dict[str, str]:
        keep = (*self.KEEP, *changes.pop("keep", ()))
        report = world.ws.suppress("everyone", "2026-10-31", keep=keep, **changes)
        return {row["customer_id"]: row["reason"] for row in report.removed.to_pylist()}

    def test_a35_only_failures_of_the_last_three_months_without_success(self, world) -> None:
        removed = self.removed(world, keep=("red_list",))
        assert {c for c, reason in removed.items() if reason == "recent_contact"} == {
            "C002",
            "C005",
        }

    def test_a35_a_campaign_may_allow_one_failure(self, world) -> None:
        removed = self.removed(world, minimum_failed_contacts=2)
        assert {c for c, reason in removed.items() if reason == "recent_contact"} == {"C005"}

    def test_a36_a_list_may_be_kept_for_a_care_campaign(self, world) -> None:
        assert self.removed(world)["C008"] == "red_list"
        assert "C008" not in self.removed(world, keep=("red_list",))
        assert self.removed(world, keep=("red_list",))["C004"] == "suspended"

    def test_a38_a_customer_with_another_line_in_use_is_not_suspended(self, world) -> None:
        removed = self.removed(world)
        assert removed["C004"] == "suspended"  # his only line
        assert "C006" not in removed  # one line disconnected, one suspended, two in use

    def test_an_exclusion_whose_data_are_missing_refuses_rather_than_lets_through(
        self, town
    ) -> None:
        with pytest.raises(bh.UserError, match="cannot be applied"):
            town.ws.suppress("everyone", "2026-10-31")


@pytest.mark.mission("P038")
class TestNoiseIsNotMarketedTo:
    """A-34: what was excluded is neither decided on nor contacted."""

    def test_a34_no_excluded_customer_is_in_the_plan_or_on_a_list(
        self, carried, operator, tools
    ) -> None:
        out = set().union(*noise(operator, tools).values())
        rows = carried.plan.decisions.to_pylist()
        assert not out & {row["customer_id"] for row in rows}
        assert not out & {row["customer_id"] for row in carried.assignments}
        assert len(carried.assignments) > 300

    def test_a34_who_refuses_after_the_plan_is_held_back_when_sending(
        self, own_operator, campaign_file, tools
    ) -> None:
        ws, last = own_operator.ws, own_operator.last
        tools.define(ws, "offers", "offers", tools.offers)
        few = campaign_file(audience="arpu >= 150 and not is_disconnected")
        few = few.replace("value: 300", "value: 30")
        tools.define(ws, "campaigns", "orders-2026-11", few)
        ws.decide("orders-2026-11", last)
        assignments = ws.deploy("orders-2026-11", last).assignments(ws.view).read()
        refusing = assignments["customer_id"].to_pylist()[:5]
        rows = ws.view.get("opt_out", last).read()
        new = {"customer_id": refusing, "kind": ["no_marketing"] * 5, "channel": ["all"] * 5,
               "since": [date(2026, 11, 2)] * 5, "source": ["sms_reply"] * 5}  # fmt: skip
        more = pa.table(new).cast(rows.schema)
        tools.extract(ws, pa.concat_tables([rows, more]), "opt_out", last)
        sent = ws.write_lists("orders-2026-11").dispatch
        assert (sent.suppressed, sent.reasons) == (5, {"opt_out": 5})
        assert sent.planned == sent.sent + sent.suppressed == assignments.num_rows
        lists = [path.read_text(encoding="utf-8-sig") for path in ws.layout.lists.rglob("*.csv")]
        assert lists
        assert not any(customer in text for customer in refusing for text in lists)
