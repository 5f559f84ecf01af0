"""P060: strategies are made for specific users, deployed from one point, changed everywhere at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace

import pyarrow.compute as pc
import pytest

from bihuan.delivery import assignment_id
from bihuan.kernel import SystemClock

from .by_hand import OCTOBER, define
from .served import Person, lay_out, serving

TODAY = SystemClock().now().date()
OFFERS = tuple(f"six_{number}" for number in range(1, 7))
CATALOGUE = "offers:\n" + "".join(
    f"""  - offer_id: {offer}
    title: {{zh: 六大策略之{number}, en: "Strategy {number} of six"}}
    kind: addon
    category: data
    products: [{offer}]
    price: 10
    months: 1
    margin: {margin}
    eligibility: "not is_disconnected and arpu >= {least}"
    channels: [sms, app]
"""
    for number, (offer, margin, least) in enumerate(
        zip(OFFERS, (5, 6, 7, 8, 9, 10), (0, 20, 40, 60, 80, 100), strict=True), start=1
    )
)
CHANNELS = ("sms", "app")
PASSED = {"verdict": "pass", "comment": "预演结果可行"}
IMPACT = dict.fromkeys(("purpose", "necessity", "data", "rights", "measures"), "已评估")


def content(name: str, offers: tuple[str, ...]) -> dict:
    """What a plan of these offers says, each through two channels."""
    return {
        "campaign": {
            "campaign_id": name,
            "title": {"zh": "流量经营", "en": "Data growth"},
            "goal": {
                "metric": "accepted",
                "target": 0.01,
                "reason": {"zh": "流量增长放缓", "en": "slower growth"},
                "needs": {"zh": "更多流量", "en": "more data"},
                "starts_on": TODAY.isoformat(),
                "ends_on": (TODAY + timedelta(days=30)).isoformat(),
            },
            "audience": "not is_disconnected",
            "control_share": 0.1,
            "keep_lists": ["complaint_sensitive"],  # its tag is not derived in this workspace
            "channels": {c: {"capacity": 5000, "unit_cost": 0.01} for c in CHANNELS},
            "scripts": {"words": {"zh": "您好，为您推荐", "en": "An offer for you"}},
            "mix": [
                {
                    "offer": offer,
                    "promotion": {"zh": "优惠", "en": "reduced"},
                    "channels": {c: {"script": "words", "acceptance": 0.1} for c in CHANNELS},
                }
                for offer in offers
            ],
        },
        "audience": {"rule": "not is_disconnected", "as_of": OCTOBER.isoformat()},
    }


def approved(service: SimpleNamespace, name: str, offers: tuple[str, ...]) -> str:
    """Take a plan of the province through the four steps; return its id."""
    planner, approver = service.enter("demo-province-planner"), service.enter("demo-approver")
    (unit,) = {post["unit_id"] for post in planner.see("/me")["posts"]}
    impact = {
        "unit_id": unit,
        "kind": "pack",
        "document": IMPACT,
        "conclusion": "with_measures",
        "valid_from": TODAY.isoformat(),
        "valid_until": (TODAY + timedelta(days=300)).isoformat(),
    }
    planner.make("/impact-assessments", impact)
    plan = planner.make(
        "/plans",
        {
            "unit_id": unit,
            "kind": "pack",
            "title": {"zh": name, "en": name},
            "content": content(name, offers),
        },
    )
    path = f"/plans/{plan['plan_id']}"
    document = {"market": {"zh": "稳中有降"}, "competition": ["异网低价套餐"]}
    planner.make(f"{path}/analyses", {"document": document})
    planner.make(f"{path}/rehearsals", {"as_of": OCTOBER.isoformat(), "sample": 300})
    four = dict.fromkeys(("feasibility", "reasonableness", "soundness", "effect"), PASSED)
    planner.make(f"{path}/assessments", four)
    planner.do(f"{path}/filing", {"comment": "请审批"})
    for person in (approver, service.enter("demo-director")):
        seen = person.see(path)
        if seen["state"] == "filed":
            person.do(f"{path}/approval", {"content_hash": seen["content_hash"]})
    assert planner.see(path)["state"] == "approved"
    return str(plan["plan_id"])


def ended(person: Person, job: dict) -> dict:
    """Wait until a job is done; return what came out."""
    waiting = threading.Event()
    for _ in range(600):
        seen = person.see(f"/jobs/{job['job_id']}")
        if seen["state"] in ("succeeded", "failed", "cancelled"):
            break
        waiting.wait(0.25)
    assert seen["state"] == "succeeded", seen
    return dict(seen["result"])


def deployed(service: SimpleNamespace, plan_id: str) -> dict:
    """Deploy in one click and wait until the worker is done."""
    planner = service.enter("demo-province-planner")
    ended(planner, planner.make(f"/plans/{plan_id}/deployments", {"as_of": OCTOBER.isoformat()}))
    (found,) = planner.see("/deployments", plan_id=plan_id)["items"]
    return dict(found)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A service whose province has one deployed plan; its catalogue of key moments is empty."""
    folder = tmp_path_factory.mktemp("one-point") / "ws"
    ws = lay_out(folder)
    (folder / "moments" / "standard.yaml").unlink()  # it asks for tags of other networks
    define(ws, "offers", "six", CATALOGUE)
    people: dict[str, Person] = {}
    with serving(folder) as url:

        def enter(name: str) -> Person:
            if name not in people:
                people[name] = Person(url, name)
            return people[name]

        service = SimpleNamespace(ws=ws, enter=enter)
        plan_id = approved(service, "six-strategies", OFFERS)
        found = deployed(service, plan_id)
        yield SimpleNamespace(service=service, plan_id=plan_id, deployment=found, enter=enter)
        for person in people.values():
            person.http.close()


@pytest.mark.mission("P060")
class TestOnePoint:
    def test_one_click_makes_an_approved_plan_live(self, world):
        assert world.deployment["state"] == "live"
        assert world.deployment["planned"] > 500
        planner = world.enter("demo-province-planner")
        assert planner.see(f"/plans/{world.plan_id}")["state"] == "executing"

    def test_several_strategies_go_out_as_work_orders_from_one_point(self, world):
        """D-33: six strategies, one deployment; every order counted under its strategy."""
        strategies = world.deployment["strategies"]
        assert set(strategies) <= set(OFFERS)
        assert len(strategies) >= 3
        assert sum(strategies.values()) == world.deployment["planned"]

    def test_each_order_is_one_user_s_own_strategy(self, world):
        """D-45: which offer, channel and script a user gets is in the lake, once per user."""
        view = world.service.ws.lake.view()
        rows = view.get(world.deployment["lake_table"]).read()
        assert rows.num_rows == world.deployment["planned"]
        assert pc.count_distinct(rows["customer_id"]).as_py() == rows.num_rows
        assert set(rows["script_id"].to_pylist()) == {"words"}
        for row in rows.slice(0, 5).to_pylist():
            assert row["assignment_id"] == assignment_id(
                row["deployment_id"], row["customer_id"], row["step"], row["generation"]
            )

    def test_counts_by_channel_and_unit_add_up(self, world):
        director = world.enter("demo-director")
        path = f"/deployments/{world.deployment['deployment_id']}"
        counts = director.see(f"{path}/counts")
        assert sum(row["planned"] for row in counts) == world.deployment["planned"]
        report = director.see(f"{path}/reconciliation")
        assert report["reconciles"]
        assert report["totals"]["pending"] == world.deployment["planned"]
        assert all(row["difference"] == 0 for row in report["lists"])

    def test_twice_is_once(self, world):
        again = deployed(world.service, world.plan_id)
        assert again["deployment_id"] == world.deployment["deployment_id"]
        assert again["live_at"] == world.deployment["live_at"]

    def test_what_is_not_approved_is_not_deployed(self, world):
        planner = world.enter("demo-province-planner")
        (unit,) = {post["unit_id"] for post in planner.see("/me")["posts"]}
        body = {"unit_id": unit, "kind": "pack", "title": {"zh": "草稿", "en": "draft"},
                "content": content("draft-only", OFFERS[:1])}  # fmt: skip
        plan = planner.make("/plans", body)
        refused = planner.post(f"/plans/{plan['plan_id']}/deployments", {"as_of": None})
        assert refused.status_code == 422
        assert refused.json()["zh"]
        assert planner.see("/deployments", plan_id=plan["plan_id"])["items"] == []


@pytest.mark.mission("P060")
class TestAllChannelsAtOnce:
    def read(self, world, channel: str) -> dict:
        director = world.enter("demo-director")
        (unit,) = {post["unit_id"] for post in director.see("/me")["posts"]}
        return dict(director.see(f"/current-strategies/{unit}/{channel}"))

    def publish(self, world, *deployments: str) -> dict:
        operator = world.enter("demo-channel-operator")
        (unit,) = {post["unit_id"] for post in operator.see("/me")["posts"]}
        body = {"unit_id": unit, "title": "流量经营", "deployment_ids": list(deployments)}
        return operator.make("/strategy-releases", body)

    def test_every_channel_gets_its_part_of_one_release(self, world):
        """D-29, D-46: unified strategies, distributed to all channels from one point."""
        release = self.publish(world, world.deployment["deployment_id"])
        seen = [self.read(world, channel) for channel in CHANNELS]
        assert {part["release_id"] for part in seen} == {release["release_id"]}
        planned = sum(s["planned"] for part in seen for s in part["strategies"])
        assert planned == world.deployment["planned"]

    def test_channels_change_together_and_say_so(self, world):
        """D-47: updated in all channels at the same time, with each channel's lag on record."""
        self.publish(world)
        assert [self.read(world, c)["strategies"] for c in CHANNELS] == [[], []]
        release = self.publish(world, world.deployment["deployment_id"])
        assert {self.read(world, c)["number"] for c in CHANNELS} == {release["number"]}
        operator = world.enter("demo-channel-operator")
        path = f"/strategy-releases/{release['release_id']}/acknowledgements"
        for channel in CHANNELS:
            body = {"channel": channel, "unit_id": release["unit_id"]}
            assert operator.put(path, body, match="*").status_code == 200
        lags = {row["channel"]: row["lag_seconds"] for row in operator.see(path)}
        assert set(lags) == set(CHANNELS)
        assert all(lag >= 0 for lag in lags.values())

    def test_who_read_an_older_release_is_refused(self, world):
        operator = world.enter("demo-channel-operator")
        (unit,) = {post["unit_id"] for post in operator.see("/me")["posts"]}
        body = {"unit_id": unit, "title": "旧", "deployment_ids": [], "after": 999}
        assert operator.post("/strategy-releases", body).status_code == 412


@pytest.mark.mission("P060")
class TestStopSwitch:
    def test_stops_in_part_and_goes_on(self, world):
        planner = world.enter("demo-province-planner")
        path = f"/deployments/{world.deployment['deployment_id']}"
        body = {"channels": ["sms"], "reason": "客户投诉，先核实"}
        (stop,) = planner.post(f"{path}/pause", body).json()
        assert (stop["channels"], stop["is_whole"], stop["lifted_at"]) == (["sms"], False, None)
        (lifted,) = planner.post(f"{path}/resumption", {"why": "已核实"}).json()
        assert lifted["stop_id"] == stop["stop_id"]
        assert lifted["lifted_at"]

    def test_lists_go_out_but_not_while_stopped_and_never_twice(self, world):
        planner = world.enter("demo-province-planner")
        deployment_id = world.deployment["deployment_id"]
        counts = planner.see(f"/deployments/{deployment_id}/counts")
        channel = max(counts, key=lambda count: count["planned"])["channel"]
        kind = {"kind": "lists", "arguments": {"deployment_id": deployment_id, "channel": channel}}
        told = planner.post(f"/deployments/{deployment_id}/pause", {"reason": "先核实"})
        assert told.status_code < 300, told.text
        stopped = ended(planner, planner.make("/jobs", kind))
        assert stopped["stopped"]
        assert stopped["held"] == stopped["planned"] > 0
        planner.post(f"/deployments/{deployment_id}/resumption", {"why": "已核实"})
        went = ended(planner, planner.make("/jobs", kind))
        assert went["sent"] + went["suppressed"] == went["planned"] == stopped["planned"]
        files = sorted(world.service.ws.layout.lists.rglob("*.csv"))
        lines = [line for file in files for line in file.read_text("utf-8-sig").splitlines()[1:]]
        assert len(lines) == len(set(lines)) == went["sent"] > 0
        again = ended(planner, planner.make("/jobs", kind))
        assert (again["sent"], again["repeated"]) == (0, went["sent"])

    def test_nobody_outside_may_stop_it(self, world):
        seat = world.enter("demo-outbound-seat")
        path = f"/deployments/{world.deployment['deployment_id']}/pause"
        assert seat.post(path, {"reason": "x"}).status_code == 403
