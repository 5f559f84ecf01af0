"""Found, compared, copied, shared, rated; and the results behind good cases."""

from __future__ import annotations

from datetime import date

import pytest

from bihuan.server.app.errors import ConflictError, NotFoundError, RefusedError
from bihuan.server.app.plan import library, mark_deployed, result
from bihuan.server.app.plan.draft import current_revision, edit_plan, get_plan
from bihuan.server.app.plan.library import Copy, Wanted
from bihuan.server.app.plan.machine import IllegalMoveError
from bihuan.strategy.campaign import METRICS

from .office import Office, actor, content

MEASURED = {
    "metric": "retained",
    "response": 0.81,
    "effect": {"estimate": 0.03, "low": 0.01, "high": 0.05},
    "roi": {"estimate": 1.2, "low": 0.4, "high": 2.0},
    "treated": 800,
    "held_out": 200,
}


def shelved(office: Office, account="planner-a1", unit="county-a1", measured=MEASURED, **said):
    """Return a plan that went all the way into the library."""
    plan_id = office.approved(account, unit, **said)
    with office.work(account, "deployment.run") as work:
        mark_deployed(work, plan_id, f"d-{plan_id}")
    with office.on(plan_id, account) as (work, who, plan):
        result.complete_plan(work, who, plan)
    with office.on(plan_id, account) as (work, who, plan):
        result.record_evaluation(work, who, plan, measured)
    with office.on(plan_id, account) as (work, who, plan):
        result.shelve_plan(work, who, plan)
    return plan_id


def found(office: Office, account: str = "planner-p", **wanted) -> set[str]:
    with office.work(account) as work:
        rows = work.session.scalars(library.find_plans(work, Wanted(**wanted)))
        return {row.plan_id for row in rows}


class TestSearch:
    def test_by_words_in_both_languages_and_by_every_filter(self, office: Office) -> None:
        a = shelved(office)
        b = office.open("planner-b", "city-b", audience="arpu >= 80", budget=5)
        with office.on(b, "planner-b") as (work, who, plan):
            said = content(
                channels={"app": {"unit_cost": 0}},
                goal={"metric": "revenue", "starts_on": "2027-01-01", "ends_on": "2027-01-31"},
                mix=[{"offer": "gift_basic_12", "promotion": {"zh": "赠礼", "en": "Gift"}}],
            )
            edit_plan(work, who, plan, said, title={"zh": "赠礼 100%_活动", "en": "Gifts"})
        assert found(office) == {a, b}
        for wanted, plans in (
            ({"text": "返还话费"}, {a}),
            ({"text": "GIFT 赠礼"}, {b}),
            ({"text": "赠礼 返还"}, set()),
            ({"text": "100%_"}, {b}),
            ({"text": "%"}, {b}),
            ({"text": "churn_score"}, {a, b}),
            ({"channel": "app"}, {b}),
            ({"channel": "ap"}, set()),
            ({"state": "library"}, {a}),
            ({"result": "positive"}, {a}),
            ({"kind": "retention"}, {a, b}),
            ({"unit_id": "city-a"}, {a}),
            ({"since": date(2026, 12, 1)}, {b}),
            ({"until": date(2026, 12, 1)}, {a}),
        ):
            assert found(office, **wanted) == plans, wanted

    def test_others_see_only_what_is_shared(self, office: Office) -> None:
        a = shelved(office, "planner-a", "city-a")
        assert found(office, "planner-b") == set()
        with office.on(a, "approver-p", "plan.share") as (work, who, plan):
            library.share_plan(work, who, plan, "all")
        assert found(office, "planner-b") == {a}
        with office.work("planner-b") as work:
            assert current_revision(work, get_plan(work, a)).number == 2
            assert work.session.scalars(
                library.revisions_of(work, get_plan(work, a))
            ).one().number == 2  # fmt: skip

    def test_an_unapproved_plan_is_not_shared_and_an_edit_takes_it_back(
        self, office: Office
    ) -> None:
        a = office.approved("planner-a", "city-a")
        with office.on(a, "approver-p", "plan.share") as (work, who, plan):
            library.share_plan(work, who, plan, "down")
        assert found(office, "planner-a1") == {a}
        with office.on(a, "planner-a") as (work, who, plan):
            edit_plan(work, who, plan, content(budget=1))
        assert found(office, "planner-a1") == set()
        with (
            pytest.raises(RefusedError, match="approved"),
            office.on(a, "approver-p", "plan.share") as (work, who, plan),
        ):
            library.share_plan(work, who, plan, "down")


class TestVersions:
    def test_any_two_versions_are_compared_by_field(self, office: Office) -> None:
        a = office.open()
        for budget in (1, 2):
            with office.on(a, "planner-a1") as (work, who, plan):
                edit_plan(work, who, plan, content(budget=budget), note=f"to {budget}")
        with office.on(a, "planner-a1") as (work, _, plan):
            texts = [str(c) for c in library.compare_revisions(work, plan, 1, 3)]
            assert texts == ["campaign.budget: 60000 → 2"]
            assert library.get_revision(work, plan, 2).note == "to 1"
            with pytest.raises(NotFoundError):
                library.compare_revisions(work, plan, 1, 9)

    def test_two_plans_are_compared(self, office: Office) -> None:
        a, b = office.open(), office.open(budget=9)
        with office.work("planner-a1") as work:
            (change,) = library.compare_plans(work, get_plan(work, a), get_plan(work, b))
        assert change.path == "campaign.budget"


class TestCopies:
    def test_a_copy_keeps_its_origin_and_counts_as_a_use(self, office: Office) -> None:
        a = shelved(office, "planner-a", "city-a")
        with office.on(a, "approver-p", "plan.share") as (work, who, plan):
            library.share_plan(work, who, plan, "all")
        copy = Copy("city-b", {"zh": "仿", "en": "copy"}, "keep-b", changes={"budget": 3})
        with office.on(a, "planner-b") as (work, who, plan):
            new = library.copy_as_template(work, who, plan, copy)
            said = current_revision(work, new).content
            assert (new.state, new.origin_id) == ("drafting", a)
            assert new.origin_revision_id == plan.revision_id
        assert said["campaign"]["campaign_id"] == "keep-b"
        assert said["campaign"]["budget"] == 3
        assert "analysis" not in said  # of another market
        with office.work("planner-a") as work:
            assert library.marks_of(work, "plan", [a])[a].uses == 1


class TestCases:
    def test_a_good_case_carries_its_effect_and_is_copied_by_another_city(
        self, office: Office
    ) -> None:
        a = shelved(office, "planner-a", "city-a")
        with office.on(a, "approver-p", "plan.share") as (work, who, plan):
            case_id = library.share_case(work, who, plan, lesson="先易后难").case_id
        with office.work("planner-b") as work:
            case = library.get_case(work, case_id)
            assert case.measured["effect"] == [0.03, 0.01, 0.05]
            assert case.measured["roi"] == [1.2, 0.4, 2.0]
            assert [c.case_id for c in work.session.scalars(library.find_cases(work, text="先易"))]
            copy = Copy("city-b", {"zh": "仿", "en": "copy"})
            library.copy_as_template(work, actor("planner-b"), case, copy)
            library.rate(work, actor("planner-b"), case, 4)
        with office.work("planner-p") as work:
            case = library.get_case(work, case_id)
            library.rate(work, actor("planner-p"), case, 1)
            library.rate(work, actor("planner-p"), case, 5)
            marks = library.marks_of(work, "case", [case_id])[case_id]
        assert (marks.uses, marks.ratings, marks.stars) == (1, 2, 4.5)
        with (
            pytest.raises(ConflictError),
            office.on(a, "approver-p", "plan.share") as (work, who, plan),
        ):
            library.share_case(work, who, plan, lesson="twice")

    @pytest.mark.parametrize(
        ("effect", "label"),
        [
            ({"estimate": 0.01, "low": -0.01, "high": 0.03}, "open"),
            ({"estimate": -0.02, "low": -0.03, "high": -0.01}, "negative"),
            ({"reason": {"zh": "没有对照组", "en": "no control"}}, "unknown"),
        ],
    )
    def test_what_did_not_work_is_kept_but_is_no_good_case(
        self, office: Office, effect: dict, label: str
    ) -> None:
        a = shelved(office, "planner-a", "city-a", {**MEASURED, "effect": effect})
        assert found(office, result=label) == {a}
        with (
            pytest.raises(RefusedError, match="above nought"),
            office.on(a, "approver-p", "plan.share") as (work, who, plan),
        ):
            library.share_case(work, who, plan, lesson="x")

    @pytest.mark.parametrize(
        "change",
        [
            {"metric": "happiness"},
            {"effect": {"estimate": 1, "low": 2, "high": 3}},
            {"effect": {}},
            {"effect": None},
            {"roi": {"estimate": float("nan"), "low": 0, "high": 1}},
            {"treated": -1},
            {"held_out": True},
        ],
    )
    def test_a_wrong_result_is_refused(self, office: Office, change: dict) -> None:
        a = office.approved("planner-a", "city-a")
        with office.work("planner-a", "deployment.run") as work:
            mark_deployed(work, a, "d")
        with office.on(a, "planner-a") as (work, who, plan):
            result.complete_plan(work, who, plan)
        with (
            pytest.raises(RefusedError, match="result is wrong"),
            office.on(a, "planner-a") as (work, who, plan),
        ):
            result.record_evaluation(work, who, plan, {**MEASURED, **change})

    def test_only_what_was_carried_out_is_measured(self, office: Office) -> None:
        a = office.approved()
        with (
            pytest.raises(IllegalMoveError),
            office.on(a, "planner-a1") as (work, who, plan),
        ):
            result.record_evaluation(work, who, plan, MEASURED)

    def test_results_are_measured_in_what_goals_are(self) -> None:
        assert result.METRICS == METRICS

    def test_stars_are_one_to_five(self, office: Office) -> None:
        a = office.open()
        with pytest.raises(RefusedError), office.on(a, "planner-a1") as (work, who, plan):
            library.rate(work, who, plan, 6)
