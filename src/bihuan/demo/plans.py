"""Plans of the demo in every state, brought there step by step by the demo's people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date
from typing import Any

import sqlalchemy as sa

from bihuan.kernel import Progress
from bihuan.kernel.document import read_yaml
from bihuan.pack import PACKS
from bihuan.server.app.actor import Actor
from bihuan.server.app.deployment import deploy_plan
from bihuan.server.app.identity import actor_of
from bihuan.server.app.plan.approval import (
    FilingTerms,
    approve_plan,
    file_plan,
    return_plan,
    void_plan,
    withdraw_plan,
)
from bihuan.server.app.plan.draft import (
    NewPlan,
    get_plan,
    open_plan,
    record_analysis,
    record_assessment,
    record_rehearsal,
)
from bihuan.server.app.plan.impact import NewImpact, record_impact
from bihuan.server.app.plan.library import share_plan
from bihuan.server.app.plan.prepare import RehearsalWish, run_rehearsal
from bihuan.server.app.plan.result import complete_plan, record_evaluation, shelve_plan
from bihuan.server.app.plan.stop import pause
from bihuan.server.app.service import Service
from bihuan.server.app.sign_in import find_by_name
from bihuan.server.control import Plan

TITLES: Mapping[str, tuple[str, str]] = {
    "analysis": ("合约到期客户续约", "Renewing contracts that end"),
    "drafting": ("宽带用户增值推荐", "Services for broadband customers"),
    "rehearsed": ("老年客户关怀", "Caring for senior customers"),
    "assessed": ("高额账单客户关怀", "Caring for customers with high bills"),
    "filed": ("光纤客户保有", "Keeping fibre customers"),
    "returned": ("电子支票客户转自动缴费", "Moving customers to automatic payment"),
    "approved": ("新入网客户保有", "Keeping new customers"),
    "executing": ("月付客户专属合约", "Exclusive contracts for monthly customers"),
    "paused": ("无合约客户签约赠礼", "A gift on signing for customers without contract"),
    "completed": ("家庭客户保有", "Keeping families"),
    "evaluated": ("套餐升级客户回访", "Calling back customers who upgraded"),
    "library": ("存量客户保有（上期）", "Keeping customers (last turn)"),
    "withdrawn": ("流失预警短信提醒", "Warning messages by SMS"),
    "voided": ("节日大促群发短信", "A holiday sale to everybody by SMS"),
}
"""What a plan that stops at each state is called; sample content of ours."""
ORDER = (
    "analysis", "drafting", "rehearsed", "assessed", "filed", "approved", "executing", "completed",
    "evaluated", "library",
)  # fmt: skip
BRANCHES = {
    "returned": "filed", "paused": "executing", "withdrawn": "drafting", "voided": "approved",
}  # fmt: skip
"""States off the way, and where the way is left."""
_TEXT = "示例内容（本项目自拟） · sample content of ours"
_FOUR = ("feasibility", "reasonableness", "soundness", "effect")


def lay_out_plans(service: Service, as_of: date, progress: Progress) -> dict[str, int]:
    """Bring a plan to every state; return how many stand in each.

    The rehearsal runs once, because all have the same campaign but for its name; deployments are
    real.

    Parameters
    ----------
    service
        Over a workspace that holds the retention turn, its people laid out.
    as_of
        Date of the data.
    progress
        Where the work is reported.
    """
    office = _Office(service, as_of)
    with progress.task("plans", total=len(TITLES), unit="plan") as task:
        for state in TITLES:
            office.bring(state)
            task.advance()
    with service.system_work(read_only=True) as work:
        return dict(Counter(work.session.scalars(sa.select(Plan.state))))


class _Office:
    def __init__(self, service: Service, as_of: date) -> None:
        self.service = service
        self.as_of = as_of
        self.planner = self._actor("demo-province-planner")
        self.approver = self._actor("demo-approver")
        self.director = self._actor("demo-director")
        self._rehearsal: dict[str, Any] | None = None
        with service.work(self.planner, "impact.manage") as work:
            record_impact(
                work,
                self.planner,
                NewImpact(
                    unit_id=self.planner.home_unit_id,
                    plan_id=None,
                    kind="retention",
                    document=dict.fromkeys(
                        ("purpose", "necessity", "data", "rights", "measures"), _TEXT
                    ),
                    conclusion="with_measures",
                    valid_from=date(2026, 1, 1),
                    valid_until=date(2099, 12, 31),
                ),
            )

    def bring(self, state: str) -> None:
        """Bring one plan to ``state``."""
        plan_id = self._open(state)
        last = BRANCHES.get(state, state)
        for step in ORDER[1 : ORDER.index(last) + 1]:
            getattr(self, f"_to_{step}")(plan_id)
        if state in BRANCHES:
            getattr(self, f"_to_{state}")(plan_id)

    def _open(self, state: str) -> str:
        zh, en = TITLES[state]
        content: dict[str, Any] = {}
        if state != "analysis":
            content = {"campaign": _campaign(state, zh, en)}
        new = NewPlan(
            unit_id=self.planner.home_unit_id, kind="retention", title={"zh": zh, "en": en},
            content=content, note=_TEXT,
        )  # fmt: skip
        with self.service.work(self.planner, "plan.edit") as work:
            return open_plan(work, self.planner, new).plan_id

    def _to_drafting(self, plan_id: str) -> None:
        document = {"market": {"zh": "存量竞争", "en": "a saturated market"},
                    "competition": {"zh": "低价套餐", "en": "cheap plans"}}  # fmt: skip
        with self.service.work(self.planner, "plan.edit") as work:
            record_analysis(work, self.planner, get_plan(work, plan_id), document)

    def _to_rehearsed(self, plan_id: str) -> None:
        if self._rehearsal is None:
            wish = RehearsalWish(self.as_of, sample=1_000)
            self._rehearsal, _ = run_rehearsal(self.service, self.planner, plan_id, wish)
        with self.service.work(self.planner, "plan.edit") as work:
            plan = get_plan(work, plan_id)
            record_rehearsal(
                work, self.planner, plan, self._rehearsal, content_hash=plan.content_hash
            )

    def _to_assessed(self, plan_id: str) -> None:
        judged = {name: {"verdict": "pass", "comment": _TEXT} for name in _FOUR}
        with self.service.work(self.planner, "plan.edit") as work:
            record_assessment(work, self.planner, get_plan(work, plan_id), judged)

    def _to_filed(self, plan_id: str) -> None:
        with self.service.work(self.planner, "plan.edit") as work:
            file_plan(work, self.planner, get_plan(work, plan_id), FilingTerms())

    def _to_approved(self, plan_id: str) -> None:
        for decider in (self.approver, self.director):
            with self.service.work(decider, "plan.approve") as work:
                plan = get_plan(work, plan_id)
                if plan.state == "filed":
                    approve_plan(work, decider, plan, content_hash=plan.content_hash)

    def _to_executing(self, plan_id: str) -> None:
        deploy_plan(self.service, self.planner, plan_id, as_of=self.as_of)

    def _to_completed(self, plan_id: str) -> None:
        with self.service.work(self.planner, "plan.edit") as work:
            complete_plan(work, self.planner, get_plan(work, plan_id))

    def _to_evaluated(self, plan_id: str) -> None:
        unknown = {
            "reason": {"zh": "演示方案未实际接触客户", "en": "the demo's plan contacted nobody"}
        }
        result = {"metric": "retained", "effect": unknown, "roi": unknown, "treated": 0,
                  "held_out": 0}  # fmt: skip
        with self.service.work(self.planner, "plan.edit") as work:
            record_evaluation(work, self.planner, get_plan(work, plan_id), result)

    def _to_library(self, plan_id: str) -> None:
        with self.service.work(self.planner, "plan.edit") as work:
            shelve_plan(work, self.planner, get_plan(work, plan_id))
        with self.service.work(self.planner, "plan.share") as work:
            share_plan(work, self.planner, get_plan(work, plan_id), "all")

    def _to_returned(self, plan_id: str) -> None:
        with self.service.work(self.approver, "plan.approve") as work:
            plan = get_plan(work, plan_id)
            return_plan(work, self.approver, plan, comment="请补充对照组说明")

    def _to_paused(self, plan_id: str) -> None:
        with self.service.work(self.planner, "plan.stop") as work:
            pause(work, self.planner, get_plan(work, plan_id), reason="客户投诉增多，先行核查")

    def _to_withdrawn(self, plan_id: str) -> None:
        with self.service.work(self.planner, "plan.edit") as work:
            withdraw_plan(work, self.planner, get_plan(work, plan_id))

    def _to_voided(self, plan_id: str) -> None:
        with self.service.work(self.approver, "plan.approve") as work:
            plan = get_plan(work, plan_id)
            void_plan(work, self.approver, plan, comment="与省公司统一活动重复，作废")

    def _actor(self, name: str) -> Actor:
        with self.service.system_work(read_only=True) as work:
            account = find_by_name(work, name)
            found = None if account is None else actor_of(work, account.account_id)
        assert found is not None  # laid out just before
        return found


def _campaign(state: str, zh: str, en: str) -> dict[str, Any]:
    """Return the retention campaign with one offer, two channels and a name of its own."""
    file = next((PACKS["retention"] / "campaigns").glob("*.yaml"))
    whole: dict[str, Any] = read_yaml(file.read_text(encoding="utf-8"))
    offer = dict(whole["mix"][0])
    offer["channels"] = {name: offer["channels"][name] for name in ("sms", "app")}
    scripts = [told["script"] for told in offer["channels"].values()]
    return {
        **whole,
        "campaign_id": f"demo-{state}",
        "title": {"zh": zh, "en": en},
        "mix": [offer],
        "channels": {name: whole["channels"][name] for name in ("sms", "app")},
        "scripts": {name: whole["scripts"][name] for name in scripts},
    }
