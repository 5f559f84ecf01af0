"""P072: the knowledge base and shared experience, over HTTP in a running service."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from .plan_desk import (
    unit_of,
)


@pytest.fixture(scope="module")
def entry(plan_service: SimpleNamespace) -> SimpleNamespace:
    """An analyst's entry on a data problem, reviewed by a colleague."""
    analyst, planner = (
        plan_service.enter("demo-analyst"),
        plan_service.enter("demo-province-planner"),
    )
    body = {
        "unit_id": unit_of(analyst), "category": "data_quality", "title": "账单重复行的处理",
        "problem": "重跑后同一账期出现两行", "solution": "按账期与账户去重，保留最后一次",
        "labels": ["去重", "账单"], "links": [{"kind": "table", "id": "bill"}],
    }  # fmt: skip
    made = analyst.make("/knowledge-entries", body)
    path = f"/knowledge-entries/{made['entry_id']}"
    hidden = plan_service.enter("demo-hall-clerk").get(path).status_code
    analyst.do(f"{path}/submission")
    own = analyst.post(f"{path}/review", {"accept": True}, match=analyst.get(path).headers["ETag"])
    planner.do(f"{path}/review", {"accept": True})
    return SimpleNamespace(path=path, hidden=hidden, own=own, analyst=analyst, body=body)


@pytest.mark.mission("P072")
class TestKnowledge:
    """B-67 data quality solutions and experience are kept and shared."""

    def test_b67_a_draft_is_seen_at_home_and_a_reviewed_entry_by_everybody(
        self,
        plan_service: SimpleNamespace,
        entry: SimpleNamespace,
    ) -> None:
        assert entry.hidden == 404
        assert entry.own.status_code == 422  # nobody reviews what they wrote
        clerk = plan_service.enter("demo-hall-clerk")
        assert clerk.see(entry.path)["solution"] == entry.body["solution"]

    def test_b67_found_by_words_by_label_and_by_the_table_it_is_about(
        self,
        plan_service: SimpleNamespace,
        entry: SimpleNamespace,
    ) -> None:
        clerk = plan_service.enter("demo-hall-clerk")
        entry_id = entry.path.rsplit("/", 1)[1]
        for wanted in (
            {"text": "重跑 去重"},
            {"label": "账单"},
            {"link_kind": "table", "link_id": "bill"},
            {"category": "data_quality"},
        ):
            found = clerk.see("/knowledge-entries", **wanted)["items"]
            assert entry_id in {one["entry_id"] for one in found}, wanted
        assert clerk.see("/knowledge-entries", text="重跑 无关")["items"] == []

    def test_b67_readers_say_whether_it_helped(
        self,
        plan_service: SimpleNamespace,
        entry: SimpleNamespace,
    ) -> None:
        for name, helpful in (
            ("demo-hall-clerk", False), ("demo-hall-clerk", True), ("demo-director", False),
        ):  # fmt: skip
            answer = plan_service.enter(name).put(
                f"{entry.path}/vote", {"helpful": helpful}, match=""
            )
            assert answer.status_code == 200, answer.text
        assert (answer.json()["helpful"], answer.json()["unhelpful"]) == (1, 1)


@pytest.mark.mission("P072")
class TestCases:
    """B-04 good cases are shared, with what was measured; nothing else is called one."""

    def test_b04_a_plan_without_a_measured_effect_is_no_good_case(
        self,
        plan_service: SimpleNamespace,
    ) -> None:
        planner = plan_service.enter("demo-planner")
        body = {
            "unit_id": unit_of(planner), "kind": "pack", "title": {"zh": "试", "en": "try"},
        }  # fmt: skip
        plan_id = planner.make("/plans", body)["plan_id"]
        answer = planner.post("/good-cases", {"plan_id": plan_id, "lesson": "很好"})
        assert answer.status_code == 422
        assert "经测量" in answer.json()["zh"]
