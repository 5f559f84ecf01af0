"""P071: several levels, local innovation, templates; over HTTP in a running service."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from .plan_desk import (
    approved,
    assess,
    content,
    cover,
    unit_of,
)

STAGES = ["select_customers", "product_design", "execution", "evaluation"]
LIMITS = [
    {"field": "campaign.control_share", "low": 0.1, "high": 0.3},
    {"field": "campaign.channels", "allowed": ["app", "sms"]},
    {"field": "campaign.channels.*.capacity", "high": 1000},
    {"field": "campaign.mix[].offer", "allowed": ["data_pack_10g", "data_pack_30g"]},
    {"field": "stages[].stage", "in_order": STAGES},
]


@pytest.fixture(scope="module")
def desk(plan_service: SimpleNamespace) -> SimpleNamespace:
    """Province and city planners, and who approves."""
    province, city = plan_service.enter("demo-province-planner"), plan_service.enter("demo-planner")
    top, director = plan_service.enter("demo-approver"), plan_service.enter("demo-director")
    cover(province, unit_of(province))
    body = {
        "unit_id": unit_of(province), "kind": "pack", "limits": LIMITS,
        "title": {"zh": "全省流量包框架", "en": "frame"},
        "template": {"stages": [{"stage": stage} for stage in STAGES]},
    }  # fmt: skip
    frame_id = province.make("/plan-frames", body)["frame_id"]
    province.do(f"/plan-frames/{frame_id}/publication")
    return SimpleNamespace(
        province=province, city=city, top=top, director=director, frame_id=frame_id,
        unit=unit_of(city), whole=unit_of(province),
    )  # fmt: skip


def inside(desk: SimpleNamespace, **said: object) -> dict:
    return {
        "unit_id": desk.unit, "title": {"zh": "本地流量包", "en": "local"},
        "content": content(**said),
    }  # fmt: skip


@pytest.mark.mission("P071")
class TestLocalInnovation:
    """B-08 guided from above, B-09 and B-15 free below, E-52 one template for the region."""

    def test_b08_b09_e52_a_city_opens_its_own_plan_in_the_frame_with_the_regions_stages(
        self, desk: SimpleNamespace
    ) -> None:
        plan = desk.city.make(f"/plan-frames/{desk.frame_id}/plans", inside(desk))
        said = desk.city.see(f"/plans/{plan['plan_id']}/revisions/0")["content"]
        assert [stage["stage"] for stage in said["stages"]] == STAGES
        assess(desk.city, plan["plan_id"])
        desk.city.do(f"/plans/{plan['plan_id']}/filing", {})
        assert desk.city.see(f"/plans/{plan['plan_id']}")["frame_id"] == desk.frame_id

    @pytest.mark.parametrize(
        ("said", "field"),
        [
            ({"control_share": 0.05}, "campaign.control_share = 0.05 (low 0.1, high 0.3)"),
            ({"channels": {"sms": {"capacity": 5000}}}, "campaign.channels.sms.capacity = 5000"),
            ({"channels": {"outbound": {"capacity": 5}}}, "campaign.channels"),
            ({"mix": [{"offer": "vip_fee_mid_12"}]}, "campaign.mix[0].offer"),
        ],
    )
    def test_b15_what_leaves_the_frame_is_refused_with_the_limits(
        self, desk: SimpleNamespace, said: dict, field: str
    ) -> None:
        answer = desk.city.post(f"/plan-frames/{desk.frame_id}/plans", inside(desk, **said))
        assert answer.status_code == 422
        assert field in answer.json()["en"]
        assert desk.frame_id in answer.json()["zh"]

    def test_e52_a_plan_with_other_stages_is_refused(self, desk: SimpleNamespace) -> None:
        body = inside(desk)
        body["content"]["stages"] = [{"stage": "execution"}, {"stage": "select_customers"}]
        answer = desk.city.post(f"/plan-frames/{desk.frame_id}/plans", body)
        assert answer.status_code == 422
        assert "in_order" in answer.json()["en"]

    def test_b08_the_city_does_not_change_the_frame(self, desk: SimpleNamespace) -> None:
        path = f"/plan-frames/{desk.frame_id}"
        tag = desk.city.get(path).headers["ETag"]
        assert desk.city.post(f"{path}/withdrawal", match=tag).status_code == 403


@pytest.mark.mission("P071")
class TestTwoLevels:
    """E-04 one plan of the province, carried out by cities; B-28 regularly."""

    def test_e04_cities_carry_out_what_the_province_had_approved(
        self, desk: SimpleNamespace
    ) -> None:
        plan_id = approved(desk.province, desk.whole, desk.top)
        children = desk.province.make(f"/plans/{plan_id}/children", {"units": [desk.unit]})
        (child,) = children["items"]
        assert (child["unit_id"], child["state"]) == (desk.unit, "approved")
        parent = desk.province.see(f"/plans/{plan_id}")
        assert (parent["state"], parent["content_hash"]) == ("executing", child["content_hash"])
        assert desk.city.see(f"/plans/{child['plan_id']}")["parent_id"] == plan_id
        assert desk.city.see(f"/plans/{child['plan_id']}/active-stops") == []
        desk.province.make(f"/plans/{plan_id}/stops", {"reason": "投诉上升"})
        (stop,) = desk.city.see(f"/plans/{child['plan_id']}/active-stops")
        assert stop["is_whole"]
        desk.province.do(f"/plans/{plan_id}/resumption", {})
        assert desk.city.see(f"/plans/{child['plan_id']}/active-stops") == []

    def test_b28_a_regular_plan_keeps_its_approval_until_its_schedule_ends(
        self, desk: SimpleNamespace
    ) -> None:
        plan_id = approved(desk.city, desk.unit, desk.top)
        plan = desk.city.see(f"/plans/{plan_id}")
        assert plan["valid_until"] == "2099-12-31"
        assert plan["next_run_at"].endswith("-01T01:00:00Z")  # 9 o'clock on the 1st, there
