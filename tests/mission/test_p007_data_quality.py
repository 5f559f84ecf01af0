"""P007: data quality: profile, find differences, feed back, follow until solved."""

from __future__ import annotations

import csv
from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import pytest

from bihuan.data import compare_snapshots
from bihuan.data.problem import (
    Bench,
    DifferenceCheck,
    problem_of_difference,
    problem_of_finding,
    problem_of_report,
)
from bihuan.data.quality import check_references
from bihuan.delivery import list_deployments
from bihuan.feedback import front_line_report, read_outcomes

OCTOBER = date(2026, 10, 31)
PRODUCTION = """
table: bill_production
meaning: {zh: 计费生产系统的账单, en: Bills of the production system}
group: bill
grain: period
key: [subscription_id]
columns:
  subscription_id: {type: string, nullable: false, meaning: {zh: 用户编号, en: Subscription id}}
  amount: {type: money, unit: currency, meaning: {zh: 出账金额, en: Amount billed}}
"""
PRODUCTION_MAPPING = """
tables:
  bill_production:
    columns: {subscription_id: user_no, amount: {column: fee_fen, factor: 0.01}}
"""


def bench(ws) -> Bench:
    """Return what the checks of problems are run against: the newest data."""
    return Bench(ws.view, ws.contracts, ws.engine, ws.clock.now().date())


@pytest.mark.mission("P007")
class TestProfile:
    """B-13: quality, range and granularity of the data that production works with."""

    def test_b13_completeness_and_range_of_every_column(self, town) -> None:
        profile = town.ws.quality("customer", OCTOBER)
        columns = {row["column"]: row for row in profile.table().to_pylist()}
        born = [row[3] for row in town.customers if row[3] is not None]
        assert columns["birth_year"]["present"] == len(born)
        assert columns["birth_year"]["completeness"] == len(born) / len(town.customers)
        assert columns["birth_year"]["minimum"] == str(min(born))
        assert columns["birth_year"]["maximum"] == str(max(born))
        managed = sum(row[7] is not None for row in town.customers)
        assert columns["manager_staff_id"]["present"] == managed

    def test_b13_granularity_freshness_and_history(self, town) -> None:
        profile = town.ws.quality("bill", OCTOBER)
        owner = {row[0]: row[1] for row in (*town.mobiles, *town.lines)}
        customers = {owner[user] for user in town.bills}
        assert (profile.grain, profile.key) == ("period", ("account_id", "subscription_id"))
        assert profile.rows_per_subject["customer_id"] == len(town.bills) / len(customers)
        assert profile.duplicate_keys == 0
        assert profile.age_days == 2  # the clock stands at 2 November
        assert profile.missing_months == ()
        assert profile.previous == (date(2026, 9, 30), len(town.bills))
        assert profile["amount"].mean == pytest.approx(
            sum(fees[2] for fees in town.bills.values()) / 100 / len(town.bills)
        )

    def test_b13_what_is_out_of_range_does_not_get_in_and_is_named(self, own_town, tools) -> None:
        header = (
            "客户编号",
            "客户名称",
            "性别",
            "出生年",
            "客户类型",
            "地址编号",
            "网格",
            "客户经理",
            "入网日期",
        )
        rows = [[v or "" for v in row] + ["2011年03月05日"] for row in own_town.customers]
        rows[2][3] = "1790"
        file = tools.write_csv(own_town.folder / "crm2.csv", [header, *rows], "gbk")
        report = own_town.ws.ingest(file, "crm_customers", "2026-11-30")
        (refused,) = own_town.ws.quarantine.rows(report.quarantine_id).to_pylist()
        assert (refused["line"], refused["column"]) == (4, "出生年")
        assert refused["reason_zh"]
        assert refused["reason_en"]

    def test_b13_a_measure_beyond_its_limit_is_a_finding_in_both_languages(self, town) -> None:
        profile = town.ws.quality("customer", OCTOBER)
        found = profile.findings({"missing": 0.3})
        missing = {finding.column: finding.value for finding in found if finding.kind == "missing"}
        assert missing["gender"] == pytest.approx(3 / 8)  # the three enterprises
        assert "customer.gender" in found[0].message["en"]
        assert "缺失" in found[0].message["zh"]

    def test_b13_ids_that_point_nowhere_are_found(self, town) -> None:
        reports = check_references(
            town.ws.view, OCTOBER, town.ws.contracts["subscription"], town.ws.engine
        )
        orphans = {report.column: report.orphans for report in reports}
        # no account system was taken in: all eleven accounts point nowhere, everything else holds
        assert orphans["account_id"] == len(town.mobiles) + len(town.lines)
        assert orphans["customer_id"] == 0
        assert orphans["resource_id"] == 0
        assert orphans["product_id"] == 0


@pytest.fixture
def two_systems(own_town: SimpleNamespace, tools) -> SimpleNamespace:
    """The platform's bills beside those of the production system, which differ in two places."""
    ws = own_town.ws
    tools.define(ws, "contracts", "bill_production", PRODUCTION)
    tools.define(ws, "mappings", "production", PRODUCTION_MAPPING)
    own_town.ws = tools.open_at(own_town.folder / "ws")
    production = {user: fees[2] for user, fees in own_town.bills.items()}
    production["S003"] = 12050  # production has corrected this bill since
    del production["L004"]  # and does not know this line
    own_town.deliver = lambda bills, month: own_town.ws.ingest(
        tools.write_csv(
            own_town.folder / f"production-{month}.csv",
            [("user_no", "fee_fen"), *bills.items()],
            "utf-8",
        ),
        "production",
        month,
    )
    own_town.production = production
    own_town.deliver(production, OCTOBER)
    return own_town


CHECK = DifferenceCheck("bill", "bill_production", ("subscription_id",), ("amount",), 0.005)


def compare(ws, month: date = OCTOBER):
    """Hold the platform's bills against those of production."""
    left, right = ws.view.get("bill", month), ws.view.get("bill_production", month)
    return compare_snapshots(left, right, CHECK.key, CHECK.columns, CHECK.tolerance, ws.engine)


@pytest.mark.mission("P007")
class TestDifference:
    """B-65: differences between platform and production are found and reported back."""

    def test_b65_each_difference_is_shown_with_both_values(self, two_systems) -> None:
        report = compare(two_systems.ws)
        platform = {user: Decimal(fees[2]) / 100 for user, fees in two_systems.bills.items()}
        other = {user: Decimal(fen) / 100 for user, fen in two_systems.production.items()}
        both = platform.keys() & other.keys()
        assert report.matched == len(both)
        assert report.only_left == len(platform.keys() - other.keys())
        assert report.differing["amount"] == sum(platform[user] != other[user] for user in both)
        shown = {
            (r["kind"], r["subscription_id"], r["left"], r["right"])
            for r in report.sample.to_pylist()
        }
        assert shown == {
            ("only_left", "L004", None, None),
            ("differing", "S003", "102.10", "120.50"),
        }
        assert not report.agrees

    def test_b65_the_owner_gets_a_file_with_what_is_wrong_and_until_when(self, two_systems) -> None:
        ws = two_systems.ws
        book = ws.problems
        problem = book.open_problem(problem_of_difference(compare(ws), CHECK), "analyst")
        book.assign(problem.problem_id, "计费系统", "analyst", due_on=date(2026, 11, 1))
        files = book.feed_back(two_systems.folder / "feedback", "analyst")
        (file,) = [path for path in files if path.suffix == ".csv"]
        assert "计费系统" in file.name
        with file.open(encoding="utf-8-sig") as text:
            (row,) = csv.DictReader(text)
        assert row["problem_id"] == problem.problem_id
        assert "2" in row["title_zh"]  # two keys do not agree
        assert row["is_overdue"] == "true"  # it was due yesterday
        assert book.get(problem.problem_id).state == "fed_back"


@pytest.mark.mission("P007")
class TestFollowedUntilSolved:
    """B-66: a problem lives until the data pass the check, and comes back when they fail again."""

    def test_b66_solved_by_the_data_and_opened_again_by_them(self, two_systems) -> None:
        ws, book = two_systems.ws, two_systems.ws.problems
        problem = book.open_problem(problem_of_difference(compare(ws), CHECK), "analyst")
        assert book.recheck(bench(ws)) == ()  # nothing has been mended: it stays open
        agreed = {user: fees[2] for user, fees in two_systems.bills.items()}
        two_systems.deliver(agreed, OCTOBER)  # production delivers what is right
        (solved,) = book.recheck(bench(ws))
        assert (solved.problem_id, solved.state) == (problem.problem_id, "solved")
        two_systems.deliver(two_systems.production, OCTOBER)  # and falls back
        (again,) = book.recheck(bench(ws))
        assert again.state == "open"
        assert [event.state for event in again.history] == ["open", "solved", "open"]

    def test_b66_a_finding_of_the_profile_is_followed_too(self, own_town, tools) -> None:
        ws, book = own_town.ws, own_town.ws.problems
        (finding,) = [
            f for f in ws.quality("customer", OCTOBER).findings({"missing": 0.3})
            if f.column == "gender" and f.kind == "missing"
        ]  # fmt: skip
        problem = book.open_problem(problem_of_finding(finding), "analyst")
        rows = ws.view.get("customer", OCTOBER).read()
        at = rows.column_names.index("gender")
        known = [value or "F" for value in rows["gender"].to_pylist()]
        tools.extract(ws, rows.set_column(at, "gender", [known]), "customer", OCTOBER)
        assert [p.problem_id for p in book.recheck(bench(ws))] == [problem.problem_id]
        assert book.get(problem.problem_id).state == "solved"

    def test_b66_the_book_outlives_the_session_and_one_problem_is_one(
        self, two_systems, tools
    ) -> None:
        ws = two_systems.ws
        problem = problem_of_difference(compare(ws), CHECK)
        ws.problems.open_problem(problem, "analyst")
        again = tools.open_at(two_systems.folder / "ws")
        again.problems.open_problem(problem, "another analyst")
        listed = again.problems.list_problems(state="open")
        assert [p.problem_id for p in listed] == [problem.problem_id]
        assert [event.by for event in listed[0].history] == ["analyst"]


@pytest.mark.mission("P007")
class TestFoundInContact:
    """B-64: who talks with the customer finds what is wrong in the data."""

    def test_b64_a_customer_says_his_year_of_birth_is_wrong(self, own_town, tools) -> None:
        ws, book = own_town.ws, own_town.ws.problems
        said = {"zh": "客户称出生年有误", "en": "The customer says the year of birth is wrong"}
        problem = book.open_problem(
            problem_of_report("C002", "customer", "birth_year", "1955", said), "seat 17"
        )
        assert book.recheck(bench(ws)) == ()
        rows = ws.view.get("customer", OCTOBER).read()
        pairs = rows.select(["customer_id", "birth_year"]).to_pylist()
        years = [1956 if r["customer_id"] == "C002" else r["birth_year"] for r in pairs]
        at = rows.column_names.index("birth_year")
        tools.extract(ws, rows.set_column(at, "birth_year", [years]), "customer", OCTOBER)
        (mended,) = book.recheck(bench(ws))
        assert (mended.problem_id, mended.customer_id) == (problem.problem_id, "C002")
        assert mended.state == "solved"

    def test_b64_wrong_numbers_and_wrong_tags_are_counted_from_the_seats_reports(
        self, carried
    ) -> None:
        ws = carried.ws
        (deployment,) = list_deployments(ws.view, carried.campaign_id)
        table = front_line_report(
            deployment.assignments(ws.view), read_outcomes(ws.view, deployment.deployment_id)
        )
        by_problem: dict[tuple[str, str | None], int] = {}
        for row in table.to_pylist():
            key = (row["problem"], row["tag"])
            by_problem[key] = by_problem.get(key, 0) + row["reports"]
        assert by_problem == {
            ("wrong_number", None): sum(r["reason"] == "wrong_number" for r in carried.reported),
            ("wrong_tag", "arpu"): sum(r["reason"] == "wrong_tag:arpu" for r in carried.reported),
        }
