"""P124: response, revenue, cost and return, reconciled by a calculation of its own."""

from __future__ import annotations

from collections import Counter, defaultdict
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import yaml

from bihuan.evaluation import NotEstimable, Prices, estimate_effect, roi
from bihuan.feedback import read_outcomes

UNIT_COST = {"outbound": 2.0, "sms": 0.05, "app": 0.01}
REACHED = ("delivered", "connected", "refused", "accepted", "ordered")


@pytest.fixture(scope="module")
def books(carried: SimpleNamespace, tools) -> SimpleNamespace:
    """The campaign in the accountant's hand: every figure from the rows that the seats reported."""
    offers = {offer["offer_id"]: offer for offer in yaml.safe_load(tools.offers)["offers"]}
    stages: dict[str, set[str]] = defaultdict(set)
    logged: dict[str, float] = defaultdict(float)
    for row in carried.reported:
        stages[row["assignment_id"]].add(row["stage"])
        logged[row["assignment_id"]] += float(row["cost"] or 0)
    lines: dict[str, Counter[str]] = defaultdict(Counter)
    for row in carried.assignments:
        found, line = stages[row["assignment_id"]], lines[row["channel"]]
        line["planned"] += 1
        if found & set(REACHED):
            line["contacts"] += 1
            # what the call centre has billed, else the price of the channel
            line["contact_cost"] += logged[row["assignment_id"]] or UNIT_COST[row["channel"]]
        if "ordered" in found:
            line["orders"] += 1
            line["offer_cost"] += offers[row["offer_id"]]["cost"]
            line["revenue"] += offers[row["offer_id"]]["margin"]
    judged = carried.ws.evaluate(carried.campaign_id, carried.last, carried.last)
    ordered = {
        row["customer_id"]
        for row in carried.assignments
        if "ordered" in stages[row["assignment_id"]]
    }
    return SimpleNamespace(
        lines=lines, judged=judged, ordered=ordered, offers=offers, stages=stages
    )


def comparable(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Leave out strata with fewer than two customers in an arm: they cannot be compared."""
    arms = Counter((row["stratum"], row["arm"]) for row in rows)
    fit = {s for s, _ in arms if min(arms[s, "treatment"], arms[s, "control"]) >= 2}
    return [row for row in rows if row["stratum"] in fit]


def total(books: SimpleNamespace, name: str) -> float:
    return sum(line[name] for line in books.lines.values())


def planned(world: SimpleNamespace) -> list[dict[str, object]]:
    """Return the logged decisions of both arms."""
    rows = world.plan.decisions.to_pylist()
    return [row for row in rows if row["arm"] != "none"]


def stratified_difference(rows: list[dict[str, object]], response: dict[str, float]) -> float:
    """Weigh the difference of means of each stratum by its customers, as in any textbook."""
    strata: dict[str, list[dict[str, object]]] = defaultdict(list)
    for row in rows:
        strata[row["stratum"]].append(row)
    estimate = 0.0
    for members in strata.values():
        means = [
            np.mean([response.get(r["customer_id"], 0.0) for r in members if r["arm"] == arm])
            for arm in ("treatment", "control")
        ]
        estimate += (means[0] - means[1]) * len(members) / len(rows)
    return float(estimate)


def adjusted_difference(rows: list[dict[str, object]], response: dict[str, float]) -> float:
    """Lin's (2013) adjustment by least squares: a line per arm, read off at the stratum's mean."""
    strata = sorted({row["stratum"] for row in rows})
    x = np.array([row["expected_value"] for row in rows])
    y = np.array([response.get(row["customer_id"], 0.0) for row in rows])
    of = np.array([strata.index(row["stratum"]) for row in rows])
    treated = np.array([row["arm"] == "treatment" for row in rows])
    share = np.bincount(of) / len(rows)
    centre = np.bincount(of, weights=x) / np.bincount(of)
    means = []
    for arm in (treated, ~treated):
        design = np.column_stack([np.eye(len(strata))[of[arm]], x[arm]])
        found, *_ = np.linalg.lstsq(design, y[arm], rcond=None)
        means.append(float(share @ (found[:-1] + found[-1] * centre)))
    return means[0] - means[1]


@pytest.mark.mission("P124")
class TestResponse:
    """G-50: 响应分析."""

    def test_g50_every_reported_row_came_in_and_a_second_time_changes_nothing(
        self, carried
    ) -> None:
        report = carried.outcome_report
        assert (report.received, report.stored) == (len(carried.reported), len(carried.reported))
        (deployment_id,) = {row["deployment_id"] for row in carried.assignments}
        rows = read_outcomes(carried.ws.view, deployment_id).to_pylist()
        by_hand = [row for row in rows if row["source"] == "回单"]
        assert len(by_hand) == len(carried.reported)
        again = carried.ws.record_outcomes(carried.campaign_id, carried.file)
        assert (again.stored, again.duplicate) == (0, len(carried.reported))

    def test_g50_response_by_channel_from_plan_to_order(self, books) -> None:
        funnel = {row.key: row for row in books.judged.funnel.by_channel}
        assert set(funnel) == set(books.lines)
        for channel, line in books.lines.items():
            row = funnel[channel]
            assert row.planned == line["planned"]
            assert row.ends.ordered == line["orders"]
            assert row.ends.total == row.planned  # every assignment ends in exactly one state

    def test_g50_response_rates_of_both_arms(self, carried, books) -> None:
        rows = planned(carried)
        treated = [row for row in rows if row["arm"] == "treatment"]
        effect = books.judged.effect
        assert effect.n_treatment == len(treated) == len(carried.assignments)
        assert effect.n_control == len(rows) - len(treated)
        assert books.judged.roi.total.gross_rate == len(books.ordered) / len(treated)
        response = dict.fromkeys(books.ordered, 1.0)
        plain = estimate_effect(carried.plan.decisions, responses(response), when_absent=0.0)
        assert plain.estimate == pytest.approx(stratified_difference(rows, response))
        assert effect.estimate == pytest.approx(adjusted_difference(rows, response))
        assert effect.low < plain.estimate < effect.high


@pytest.mark.mission("P124")
class TestRevenueAndCost:
    """G-51: 收入分析; G-52: 成本分析."""

    def test_g51_gross_revenue_is_the_worth_of_all_orders(self, books) -> None:
        assert books.judged.roi.total.gross_revenue == pytest.approx(total(books, "revenue"))
        for line in books.judged.roi.by_channel:
            assert line.gross_revenue == pytest.approx(books.lines[line.key]["revenue"])

    def test_g51_incremental_revenue_is_what_the_orders_of_both_arms_say(
        self, carried, books
    ) -> None:
        rows = planned(carried)
        worth = {
            row["customer_id"]: float(books.offers[row["offer_id"]]["margin"])
            for row in rows
            if row["customer_id"] in books.ordered
        }
        by_hand = adjusted_difference(rows, worth) * len(carried.assignments)
        found = books.judged.roi.incremental_revenue
        assert found.value == pytest.approx(by_hand)
        assert found.low < found.value < found.high
        # nobody in control was contacted, so here all orders were caused: gross is close by
        assert found.value == pytest.approx(total(books, "revenue"), rel=0.05)

    def test_g52_cost_of_contacts_and_of_offers(self, books) -> None:
        line = books.judged.roi.total
        assert line.contacts == total(books, "contacts")
        assert line.contact_cost == pytest.approx(total(books, "contact_cost"))
        assert line.offer_cost == pytest.approx(total(books, "offer_cost"))
        assert line.cost == pytest.approx(total(books, "contact_cost") + total(books, "offer_cost"))
        for found in books.judged.roi.by_channel:
            assert found.contact_cost == pytest.approx(books.lines[found.key]["contact_cost"])
            assert found.contacts == books.lines[found.key]["contacts"]

    def test_g52_an_unknown_cost_is_not_taken_for_nought(self, carried, books) -> None:
        rows = pa.Table.from_pylist(carried.assignments)
        outcomes = pa.Table.from_pylist(
            [{"assignment_id": r["assignment_id"], "stage": r["stage"]} for r in carried.reported]
        )
        with pytest.raises(Exception, match="neither logged in the outcomes nor given"):
            roi(rows, outcomes, books.judged.effect, Prices(contact_cost={"sms": 0.05}))


@pytest.mark.mission("P124")
class TestReturn:
    """G-53: 投资回报分析."""

    def test_g53_return_is_caused_profit_over_cost(self, books) -> None:
        account = books.judged.roi
        cost = total(books, "contact_cost") + total(books, "offer_cost")
        revenue = account.incremental_revenue
        assert account.incremental_profit.value == pytest.approx(revenue.value - cost)
        assert account.roi.value == pytest.approx((revenue.value - cost) / cost)
        assert account.roi.low == pytest.approx((revenue.low - cost) / cost)
        assert account.roi.high == pytest.approx((revenue.high - cost) / cost)
        assert account.gross_roi == pytest.approx((total(books, "revenue") - cost) / cost)
        assert account.cost_per_sale.value == pytest.approx(cost / account.incremental_sales.value)

    def test_g53_the_command_line_says_the_same(self, carried, books, shell) -> None:
        told = shell(
            "evaluate", carried.campaign_id, "--as-of", str(carried.last),
            "--responses-as-of", str(carried.last), workspace=carried.folder / "ws",
        )  # fmt: skip
        assert told.code == 0, told.err
        assert told.result["roi"]["roi"]["value"] == pytest.approx(books.judged.roi.roi.value)
        assert told.result["roi"]["total"]["orders"] == len(books.ordered)
        assert told.result["effect"]["estimate"] == pytest.approx(books.judged.effect.estimate)

    def test_g53_without_control_the_return_is_refused_and_gross_is_called_gross(
        self, carried, books
    ) -> None:
        decisions = carried.plan.decisions
        alone = decisions.filter(pc.equal(decisions["arm"], "treatment"))
        effect = estimate_effect(
            alone, responses(dict.fromkeys(books.ordered, 1.0)), when_absent=0.0
        )
        assert isinstance(effect, NotEstimable)
        outcomes = pa.Table.from_pylist(
            [{"assignment_id": r["assignment_id"], "stage": r["stage"]} for r in carried.reported]
        )
        margins = {offer: float(o["margin"]) for offer, o in books.offers.items()}
        account = roi(
            pa.Table.from_pylist(carried.assignments), outcomes, effect, Prices(UNIT_COST, margins)
        )
        for figure in (account.incremental_sales, account.incremental_profit, account.roi):
            assert isinstance(figure, NotEstimable)
        assert account.total.orders == len(books.ordered)
        assert isinstance(account.gross_roi, float)


@pytest.mark.mission("P124")
class TestRetention:
    """G-50 to G-53 where the response is that a customer stays: gross says nothing, effect does."""

    def test_g50_who_stayed_is_read_from_the_new_months_data(self, turned, tools) -> None:
        months = sorted(turned.ws.view.dates("subscription"))
        after = tools.read(turned.ws, "subscription", months[4])
        stayed = {row["customer_id"]: float(not row["left_in_month"]) for row in after}
        rows = comparable(planned(turned))
        effect = turned.judgement.effect
        assert effect.estimate == pytest.approx(adjusted_difference(rows, stayed))
        plain = stratified_difference(rows, stayed)
        assert effect.low < plain < effect.high

    def test_g51_g53_the_account_adds_up(self, turned, tools) -> None:
        account, ws = turned.judgement.roi, turned.ws
        outcomes = read_outcomes(ws.view, turned.deployment.deployment_id).to_pylist()
        spent = sum(float(row["cost"] or 0) for row in outcomes)
        ordered = {row["assignment_id"] for row in outcomes if row["stage"] == "ordered"}
        gifts = {"keep_12": 3, "keep_24": 8, "data_pack": 2}
        offer_of = {
            row["assignment_id"]: row["offer_id"]
            for row in turned.deployment.assignments(ws.view).read().to_pylist()
        }
        given = sum(gifts[offer_of[i]] for i in ordered)
        assert account.total.contact_cost == pytest.approx(spent)
        assert account.total.offer_cost == pytest.approx(given)
        worth = turned.judgement.worth
        assert account.incremental_revenue.value == pytest.approx(
            worth.estimate * worth.n_treatment
        )
        assert account.incremental_profit.value == pytest.approx(
            account.incremental_revenue.value - spent - given
        )

    def test_g51_the_worth_of_staying_is_the_margin_of_the_offer_planned(
        self, turned, tools
    ) -> None:
        ws = turned.ws
        fees = ws.tags("2026-10-31").read(ws.engine, ["monthly_fee"]).to_pylist()
        fee = {row["customer_id"]: float(row["monthly_fee"] or 0) for row in fees}
        per_unit = {"keep_12": 5.4, "keep_24": 10.8, "data_pack": 4.0}
        after = tools.read(ws, "subscription", sorted(ws.view.dates("subscription"))[4])
        stayed = {row["customer_id"]: float(not row["left_in_month"]) for row in after}
        rows = comparable(planned(turned))
        value = {
            r["customer_id"]: stayed[r["customer_id"]]
            * per_unit[r["offer_id"]]
            * fee[r["customer_id"]]
            for r in rows
        }
        assert turned.judgement.worth.estimate == pytest.approx(adjusted_difference(rows, value))


def responses(found: dict[str, float]) -> pa.Table:
    return pa.table({"customer_id": list(found), "response": list(found.values())})
