"""P067: the scheme library keeps customised schemes for reuse."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from .plan_desk import (
    approved,
    content,
    cover,
    draft,
    unit_of,
)


@pytest.fixture(scope="module")
def desk(plan_service: SimpleNamespace) -> SimpleNamespace:
    """A city planner and the top."""
    city, top = plan_service.enter("demo-planner"), plan_service.enter("demo-approver")
    province = plan_service.enter("demo-province-planner")
    cover(province, unit_of(province))
    return SimpleNamespace(city=city, top=top, unit=unit_of(city), province=province)


@pytest.mark.mission("P067")
class TestLibrary:
    """B-24 stored for reuse: found, told apart, copied."""

    def test_b24_found_by_words_in_both_languages_and_by_channel(
        self, desk: SimpleNamespace
    ) -> None:
        plan_id = draft(
            desk.city, desk.unit, title={"zh": "夜间流量", "en": "Night owls"}, name="night"
        )
        for wanted in ({"text": "夜间"}, {"text": "night OWLS"}, {"text": "owls 流量饱和"}):
            found = desk.city.see("/plans", channel="app", **wanted)["items"]
            assert [plan["plan_id"] for plan in found] == [plan_id], wanted
        assert desk.city.see("/plans", text="夜间", channel="hall")["items"] == []

    def test_b24_two_versions_are_compared_field_by_field(self, desk: SimpleNamespace) -> None:
        plan_id = draft(desk.city, desk.unit)
        path = f"/plans/{plan_id}"
        tag = desk.city.get(path).headers["ETag"]
        desk.city.put(f"{path}/content", {"content": content(control_share=0.3)}, match=tag)
        (change,) = desk.city.see(f"{path}/differences", old=1, new=2)
        assert (change["path"], change["old"], change["new"]) == (
            "campaign.control_share", 0.2, 0.3,
        )  # fmt: skip

    def test_b24_an_approved_plan_is_shared_and_copied_with_its_origin(
        self, desk: SimpleNamespace
    ) -> None:
        plan_id = approved(desk.city, desk.unit, desk.top)
        tag = desk.top.get(f"/plans/{plan_id}").headers["ETag"]
        assert (
            desk.top.put(f"/plans/{plan_id}/sharing", {"sharing": "all"}, match=tag).status_code
            == 200
        )
        body = {
            "plan_id": plan_id, "unit_id": unit_of(desk.province), "campaign_id": "packs-again",
            "title": {"zh": "再用", "en": "again"}, "changes": {"budget": 1000},
        }  # fmt: skip
        copy = desk.province.make("/plan-copies", body)
        assert (copy["origin_id"], copy["state"]) == (plan_id, "drafting")
        said = desk.province.see(f"/plans/{copy['plan_id']}/revisions/0")["content"]["campaign"]
        assert (said["campaign_id"], said["budget"]) == ("packs-again", 1000)
        assert said["mix"] == content()["campaign"]["mix"]
        origins = desk.province.see("/plans", origin_id=plan_id)["items"]
        assert [plan["plan_id"] for plan in origins] == [copy["plan_id"]]

    def test_b24_readers_rate_once_each(self, desk: SimpleNamespace) -> None:
        plan_id = draft(desk.city, desk.unit)
        for person, stars in ((desk.city, 2), (desk.city, 4), (desk.top, 5)):
            answer = person.put(f"/plans/{plan_id}/rating", {"stars": stars}, match="")
            assert answer.status_code == 200, answer.text
        assert answer.json()["ratings"] == 2
        assert answer.json()["stars"] == 4.5
