"""P070: new scenes beside the existing ones (A-22 不断增补新的场景), while the service runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bihuan.tag import LIBRARY_FOLDER

from .by_hand import OCTOBER, define, open_at
from .live_campaigns import GROW, OFFERS, campaign
from .served import Person, lay_out, serving

SCENE: dict[str, Any] = {
    "title": {"zh": "低消费长期在网", "en": "Long with us, low spending"},
    "goal": {"zh": "升档", "en": "Move up"},
    "audience": "tenure_months >= {months} and not is_disconnected",
    "parameters": [
        {"name": "months", "title": {"zh": "在网月数", "en": "Months"}, "type": "integer",
         "default": 24}
    ],
    "offer_kinds": ["plan", "addon"],
    "touchpoints": [
        {"channel": "sms", "path": {"zh": "短信回复办理", "en": "Reply to order"},
         "requirement": {"zh": "9 至 20 点", "en": "From 9 to 20 o'clock"}}
    ],
}  # fmt: skip


def add(world: SimpleNamespace, name: str, **changes: Any) -> Any:
    body = {"unit_id": "province", "name": name, "document": SCENE | changes, "note": "增补"}
    return world.enter("demo-product-manager").post("/scenes", body)


@pytest.mark.mission("P070")
class TestScenesAreAddedWhileTheServiceRuns:
    def test_a_new_scene_is_counted_at_once(self, served: SimpleNamespace) -> None:
        made = add(served, "p070_long")
        assert made.status_code == 201, made.text
        path = f"/scenes/{made.json()['scene_id']}"
        planner = served.enter("demo-province-planner")
        counted = planner.post(f"{path}/count", {}).json()
        exact = served.ws.count("tenure_months >= 24 and not is_disconnected", counted["as_of"])
        assert counted["members"] == exact.members > 0
        fewer = planner.post(f"{path}/count", {"values": {"months": 60}}).json()
        assert fewer["members"] < counted["members"]

    def test_a_scene_that_fits_no_tag_or_channel_is_refused_with_the_place(
        self,
        served: SimpleNamespace,
    ) -> None:
        for changes, told in (
            ({"audience": "tenure_month >= {months}"}, "tenure_month"),
            ({"offer_kinds": ["loan"]}, "loan"),
            ({"touchpoints": [SCENE["touchpoints"][0] | {"channel": "pigeon"}]}, "pigeon"),
        ):
            answer = add(served, "p070_wrong", **changes)
            assert answer.status_code == 422, answer.text
            assert told in answer.json()["zh"]

    def test_existing_scenes_go_on_and_versions_stay(self, served: SimpleNamespace) -> None:
        manager = served.enter("demo-product-manager")
        first = add(served, "p070_first").json()
        before = manager.see(f"/scenes/{first['scene_id']}")
        second = add(served, "p070_second").json()
        assert manager.see(f"/scenes/{first['scene_id']}") == before
        path = f"/scenes/{second['scene_id']}"
        seen = manager.get(path)
        changed = manager.put(
            path, {"document": SCENE | {"audience": "tenure_months > {months}"}, "note": "大于"},
            match=seen.headers["ETag"],
        )  # fmt: skip
        assert changed.status_code == 200, changed.text
        stale = manager.put(path, {"document": SCENE}, match=seen.headers["ETag"])
        assert stale.status_code == 412
        manager.do(f"{path}/disablement", {"note": "停用"})
        planner = served.enter("demo-province-planner")
        assert planner.post(f"{path}/count", {}).status_code == 422
        versions = manager.see(f"{path}/versions")
        assert [(v["number"], v["status"]) for v in versions] == [
            (1, "active"), (2, "active"), (3, "disabled"),
        ]  # fmt: skip

    def test_a_city_sees_the_provinces_scene_and_does_not_change_it(
        self,
        served: SimpleNamespace,
    ) -> None:
        made = add(served, "p070_frame").json()
        planner = served.enter("demo-planner")
        path = f"/scenes/{made['scene_id']}"
        seen = planner.get(path)
        assert seen.status_code == 200
        answer = planner.post(f"{path}/disablement", {"note": ""}, match=seen.headers["ETag"])
        assert answer.status_code in (403, 404)
        assert planner.see(path)["status"] == "active"


@pytest.fixture(scope="module")
def selling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A service with a live campaign that sells two offers through two channels."""
    folder: Path = tmp_path_factory.mktemp("p070") / "ws"
    ws = lay_out(folder)
    for file in LIBRARY_FOLDER.glob("*.yaml"):
        shutil.copy(file, ws.layout.definitions("tags"))
    define(ws, "offers", "p070", OFFERS)
    text = campaign(
        "grow", ("流量经营", "Growing data"), GROW, audience="not is_disconnected",
        seats={"sms": (None, 0.05), "app": (None, 0.01)}, period=("2026-11-01", "2099-12-31"),
    )  # fmt: skip
    define(ws, "campaigns", "grow", text)
    ws = open_at(folder)
    ws.refresh_tags(OCTOBER)
    ws.decide("grow", OCTOBER)
    with serving(folder, worker=False) as url:
        manager, planner = Person(url, "demo-product-manager"), Person(url, "demo-province-planner")
        yield SimpleNamespace(ws=ws, manager=manager, planner=planner)
        manager.http.close()
        planner.http.close()


@pytest.mark.mission("P070")
class TestScenesRecommendAtOnce:
    def test_only_what_the_scene_offers_through_its_touchpoints(
        self, selling: SimpleNamespace
    ) -> None:
        document = SCENE | {"offer_kinds": ["vas"]}
        body = {"unit_id": "province", "name": "p070_sell", "document": document, "note": ""}
        path = f"/scenes/{selling.manager.make('/scenes', body)['scene_id']}"
        rule = "tenure_months >= 24 and not is_disconnected"
        inside = selling.ws.members(rule, OCTOBER)["customer_id"].to_pylist()[:15]
        found = []
        for customer in inside:
            answer = selling.planner.post(f"{path}/recommendation", {"customer_id": customer})
            assert answer.status_code == 200, answer.text
            assert answer.json()["is_member"]
            found += answer.json()["items"]
        assert {(item["offer_id"], item["channel"]) for item in found} == {("video_pass", "sms")}
        outside = selling.ws.members("tenure_months < 24 and not is_disconnected", OCTOBER)
        customer = outside["customer_id"][0].as_py()
        advice = selling.planner.post(f"{path}/recommendation", {"customer_id": customer}).json()
        assert (advice["is_member"], advice["items"]) == (False, [])
