"""P066: the scheme workflow, analysis to approval, over HTTP in a running service."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from .plan_desk import (
    VALID,
    approve,
    approved,
    assess,
    content,
    cover,
    draft,
    unit_of,
)


@pytest.fixture(scope="module")
def desk(plan_service: SimpleNamespace) -> SimpleNamespace:
    """A city planner, a county planner, and approvers above; plans of the kind are assessed."""
    people = {
        "city": plan_service.enter("demo-planner"),
        "county": plan_service.enter("demo-county-planner"),
        "above_county": plan_service.enter("demo-city-approver"),
        "top": plan_service.enter("demo-approver"),
        "director": plan_service.enter("demo-director"),
        "province": plan_service.enter("demo-province-planner"),
    }
    cover(people["province"], unit_of(people["province"]))
    units = {name: unit_of(person) for name, person in people.items()}
    return SimpleNamespace(**people, units=units)


@pytest.mark.mission("P066")
class TestSteps:
    """B-23, B-42 to B-46: four steps, each on record, bound to one content."""

    def test_b42_to_b46_a_plan_is_analysed_rehearsed_and_judged_before_it_is_filed(
        self, desk: SimpleNamespace
    ) -> None:
        plan_id = draft(desk.city, desk.units["city"])
        path = f"/plans/{plan_id}"
        too_early = desk.city.post(f"{path}/filing", {}, match=desk.city.get(path).headers["ETag"])
        assert too_early.status_code == 422
        assert "rehearse" in too_early.json()["en"]
        assess(desk.city, plan_id)
        (rehearsal,) = desk.city.see(f"{path}/rehearsals")["items"]
        assert set(rehearsal["judgements"]) == {
            "feasibility", "reasonableness", "soundness", "effect",
        }  # fmt: skip
        assert 0 < rehearsal["contacts"] <= rehearsal["customers"]
        assert desk.city.see(path)["state"] == "assessed"
        (analysis,) = desk.city.see(f"{path}/analyses")["items"]
        said = desk.city.see(f"{path}/revisions/0")["content"]
        assert said["analysis"]["content_hash"] == analysis["content_hash"]

    def test_b44_a_plan_that_names_no_such_offer_or_field_is_not_rehearsed(
        self, desk: SimpleNamespace
    ) -> None:
        wrong = content()
        wrong["campaign"]["mix"][0]["offer"] = "no_such_pack"
        body = {
            "unit_id": desk.units["city"], "kind": "pack", "content": wrong,
            "title": {"zh": "误", "en": "wrong"},
        }  # fmt: skip
        plan = desk.city.make("/plans", body)
        answer = desk.city.post(f"/plans/{plan['plan_id']}/rehearsals", {"as_of": "2026-10-31"})
        assert answer.status_code == 422
        assert "no_such_pack" in answer.json()["zh"]


@pytest.mark.mission("P066")
class TestApproval:
    """B-47 filed level by level for the record, B-48 approved by the superior department."""

    def test_b47_b48_a_plan_goes_up_and_is_approved_by_another_of_exactly_what_was_read(
        self, desk: SimpleNamespace
    ) -> None:
        plan_id = approved(desk.city, desk.units["city"])
        path = f"/plans/{plan_id}"
        waiting = {step["plan_id"] for step in desk.top.see("/waiting-approvals")["items"]}
        assert plan_id in waiting
        tag = desk.top.get(path).headers["ETag"]
        unread = desk.top.post(f"{path}/approval", {"content_hash": "0" * 64}, match=tag)
        assert unread.status_code == 412
        assert approve(desk.top, plan_id)["state"] == "approved"
        (step,) = desk.city.see(f"{path}/steps")["items"]
        assert (step["kind"], step["state"]) == ("decide", "approved")
        second = desk.director.post(
            f"{path}/approval",
            {"content_hash": desk.director.see(path)["content_hash"]},
            match=desk.director.get(path).headers["ETag"],
        )
        assert second.status_code == 409
        events = [move["event"] for move in desk.city.see(f"{path}/moves")["items"]]
        assert events == ["approve", "file", "assess", "rehearse", "analyse"]

    def test_b48_a_planner_approves_nothing(self, desk: SimpleNamespace) -> None:
        plan_id = approved(desk.city, desk.units["city"])
        path = f"/plans/{plan_id}"
        seen = desk.city.get(path)
        body = {"content_hash": seen.json()["content_hash"]}
        answer = desk.city.post(f"{path}/approval", body, match=seen.headers["ETag"])
        assert answer.status_code == 403

    def test_b47_a_county_plan_is_decided_by_its_city_where_the_policy_says_so(
        self, desk: SimpleNamespace
    ) -> None:
        if desk.units["county"] == desk.units["city"]:
            pytest.skip("this operator has no counties")
        plan_id = approved(desk.county, desk.units["county"], desk.above_county)
        (step,) = desk.county.see(f"/plans/{plan_id}/steps")["items"]
        assert step["at_unit_id"] == desk.units["above_county"]
        assert desk.county.see(f"/plans/{plan_id}")["state"] == "approved"

    def test_b48_a_large_budget_takes_two_people_at_the_top(self, desk: SimpleNamespace) -> None:
        plan_id = approved(desk.city, desk.units["city"], desk.top, budget=500_001)
        path = f"/plans/{plan_id}"
        assert desk.city.see(path)["state"] == "filed"
        again = desk.top.post(
            f"{path}/approval",
            {"content_hash": desk.top.see(path)["content_hash"]},
            match=desk.top.get(path).headers["ETag"],
        )
        assert again.status_code == 422
        assert approve(desk.director, plan_id)["state"] == "approved"

    def test_b48_an_edit_after_approval_needs_everything_again(self, desk: SimpleNamespace) -> None:
        plan_id = approved(desk.city, desk.units["city"], desk.top)
        path = f"/plans/{plan_id}"
        tag = desk.city.get(path).headers["ETag"]
        changed = desk.city.put(f"{path}/content", {"content": content(budget=49_000)}, match=tag)
        assert changed.json()["state"] == "drafting"
        (step,) = desk.city.see(f"{path}/steps")["items"]
        assert step["state"] == "void"
        answer = desk.city.post(f"{path}/filing", {}, match=changed.headers["ETag"])
        assert answer.status_code == 422

    def test_b48_returned_with_a_comment_and_delegated_to_a_colleague(
        self, desk: SimpleNamespace
    ) -> None:
        plan_id = approved(desk.city, desk.units["city"])
        path = f"/plans/{plan_id}"
        desk.top.do(f"{path}/return", {"comment": "对照组太小"})
        assert desk.city.see(path)["state"] == "drafting"
        assert desk.city.see(f"{path}/moves")["items"][0]["comment"] == "对照组太小"
        assess(desk.city, plan_id)
        desk.city.do(f"{path}/filing", {})
        director = desk.director.see("/me")["account_id"]
        desk.top.do(f"{path}/delegation", {"account_id": director, "why": "出差"})
        approve(desk.director, plan_id)
        step = desk.city.see(f"{path}/steps")["items"][0]
        assert (step["delegated_to"], step["decided_by"]) == (director, director)


@pytest.mark.mission("P066")
class TestImpact:
    """Automated decisions on persons need an assessment of their impact first."""

    def test_b48_without_one_nothing_is_filed(self, desk: SimpleNamespace) -> None:
        body = {
            "unit_id": desk.units["city"], "kind": "upgrade", "content": content(),
            "title": {"zh": "升档", "en": "upgrade"},
        }  # fmt: skip
        plan_id = desk.city.make("/plans", body)["plan_id"]
        assess(desk.city, plan_id)
        path = f"/plans/{plan_id}"
        refused = desk.city.post(f"{path}/filing", {}, match=desk.city.get(path).headers["ETag"])
        assert refused.status_code == 422
        assert "影响评估" in refused.json()["zh"]
        parts = ("purpose", "necessity", "data", "rights", "measures")
        impact = {
            "unit_id": desk.units["city"], "plan_id": plan_id, "conclusion": "acceptable",
            "document": dict.fromkeys(parts, "已评估"), **VALID,
        }  # fmt: skip
        desk.city.make("/impact-assessments", impact)
        desk.city.do(f"{path}/filing", {})
        assert desk.city.see(path)["state"] == "filed"
