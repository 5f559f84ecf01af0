"""People with posts on the small org tree, and what plans of theirs say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from bihuan.server.app.actor import Actor, Post
from bihuan.server.app.plan.approval import FilingTerms, approve_plan, file_plan
from bihuan.server.app.plan.draft import (
    NewPlan,
    get_plan,
    open_plan,
    record_analysis,
    record_assessment,
    record_rehearsal,
)
from bihuan.server.app.plan.impact import NewImpact, record_impact
from bihuan.server.app.plan.reach import today
from bihuan.server.control import Account, Control, Plan, Scope, Staff, StaffPost, UnitOfWork

PEOPLE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "planner-a1": (("planner", "county-a1"),),
    "planner-a1x": (("planner", "county-a1"),),
    "planner-a": (("planner", "city-a"),),
    "planner-b": (("planner", "city-b"),),
    "planner-p": (("planner", "province"),),
    "approver-a1": (("approver", "county-a1"),),
    "approver-a": (("approver", "city-a"),),
    "approver-a2": (("approver", "city-a"),),
    "approver-b": (("approver", "city-b"),),
    "approver-p": (("approver", "province"),),
    "approver-p2": (("director", "province"),),
    "both-a": (("planner", "county-a1"), ("approver", "city-a")),
    "grid-a11": (("grid_manager", "grid-a11"),),
}
JUDGED = ("feasibility", "reasonableness", "soundness", "effect")
PASSED = {name: {"verdict": "pass", "comment": "as rehearsed"} for name in JUDGED}


def actor(account: str) -> Actor:
    """Return the account with its posts."""
    posts = tuple(Post(role, unit) for role, unit in PEOPLE[account])
    return Actor(account, posts[0].unit_id, posts)


def hire(control: Control) -> None:
    """Give everybody of PEOPLE an account and posts."""
    with control.work(Scope.everything()) as work:
        for account, posts in PEOPLE.items():
            unit = posts[0][1]
            work.session.add(Staff(staff_id=f"s-{account}", unit_id=unit, name_zh=account))
        work.session.flush()
        for account, posts in PEOPLE.items():
            unit = posts[0][1]
            work.session.add(
                Account(
                    account_id=account,
                    unit_id=unit,
                    name=account,
                    staff_id=f"s-{account}",
                    title_zh=account,
                    opened_at=work.now,
                )
            )
            for number, (role, place) in enumerate(posts):
                work.session.add(
                    StaffPost(
                        post_id=f"{account}-{number}",
                        staff_id=f"s-{account}",
                        unit_id=place,
                        role=role,
                        layer="management",
                        since=work.now,
                    )
                )


def content(**changes: Any) -> dict[str, Any]:
    """Return what a complete plan says, with fields of ``campaign`` changed."""
    campaign: dict[str, Any] = {
        "campaign_id": "keep-2026-11",
        "title": {"zh": "存量客户保有", "en": "Keeping customers"},
        "goal": {
            "metric": "retained",
            "target": 0.02,
            "reason": {"zh": "离网上升", "en": "more customers leave"},
            "needs": {"zh": "关注与实惠", "en": "care and savings"},
            "starts_on": "2026-11-01",
            "ends_on": "2026-11-30",
        },
        "audience": "churn_score >= 0.1 and not has_left",
        "control_share": 0.2,
        "budget": 60000,
        "channels": {
            "sms": {"capacity": 500, "unit_cost": 0.05},
            "outbound": {"capacity": 100, "unit_cost": 2},
        },
        "scripts": {"s1": {"zh": "您好", "en": "hello"}},
        "mix": [
            {
                "offer": "fee_basic_12",
                "promotion": {"zh": "返还话费", "en": "credit on every bill"},
                "channels": {"sms": {"script": "s1", "acceptance": 0.1}},
            }
        ],
    }
    return {"campaign": {**campaign, **changes}}


def rehearsal(customers: int = 1000, contacts: int = 400, verdict: str = "pass") -> dict[str, Any]:
    """Return the head of a rehearsal as the workspace files it."""
    return {
        "rehearsal_id": "0123456789abcdef0123",
        "as_of": "2026-10-31",
        "sample": {"size": customers, "population": customers},
        "findings": {"reach": [{"left": customers}, {"left": contacts}]},
        "judgements": [{"name": name, "verdict": verdict, "score": 90} for name in JUDGED],
    }


class Office:
    """The people at work on one control database."""

    def __init__(self, control: Control) -> None:
        self.control = control

    @contextmanager
    def work(self, account: str, action: str = "plan.edit") -> Iterator[UnitOfWork]:
        """Open a unit of work of ``account`` in the scope of ``action``."""
        who = actor(account)
        with self.control.work(who.scope(action), account_id=account) as work:
            yield work

    @contextmanager
    def on(
        self, plan_id: str, account: str, action: str = "plan.edit"
    ) -> Iterator[tuple[UnitOfWork, Actor, Plan]]:
        """Open a unit of work, with the actor and the plan."""
        with self.work(account, action) as work:
            yield work, actor(account), get_plan(work, plan_id)

    def open(self, account: str = "planner-a1", unit: str = "county-a1", **changes: Any) -> str:
        """Open a complete plan of the kind retention; return its id."""
        said = content(**changes)
        with self.work(account) as work:
            new = NewPlan(unit, "retention", {"zh": "维系", "en": "keeping"}, said)
            return open_plan(work, actor(account), new).plan_id

    def cover(self, account: str = "planner-p", unit: str = "province") -> str:
        """Record an impact assessment of retention plans."""
        with self.work(account, "impact.manage") as work:
            return record_impact(work, actor(account), impact(work, unit)).impact_id

    def assess(self, plan_id: str, account: str = "planner-a1", customers: int = 1000) -> None:
        """Take a draft through analysis, rehearsal and assessment."""
        with self.on(plan_id, account) as (work, who, plan):
            record_analysis(work, who, plan, {"market": {"zh": "稳"}, "competition": ["x"]})
        with self.on(plan_id, account) as (work, who, plan):
            record_rehearsal(work, who, plan, rehearsal(customers), content_hash=plan.content_hash)
        with self.on(plan_id, account) as (work, who, plan):
            record_assessment(work, who, plan, PASSED)

    def file(self, plan_id: str, account: str = "planner-a1", **terms: Any) -> None:
        """File an assessed plan."""
        with self.on(plan_id, account) as (work, who, plan):
            file_plan(work, who, plan, FilingTerms(**terms))

    def approve(self, plan_id: str, account: str) -> None:
        """Approve the open step, having seen what is filed."""
        with self.on(plan_id, account, "plan.approve") as (work, who, plan):
            approve_plan(work, who, plan, content_hash=plan.content_hash)

    def approved(self, account: str = "planner-a1", unit: str = "county-a1", **said: Any) -> str:
        """Return an approved plan of ``unit``."""
        self.cover()
        plan_id = self.open(account, unit, **said)
        self.assess(plan_id, account)
        self.file(plan_id, account)
        self.approve(plan_id, "approver-p" if unit.startswith(("city", "prov")) else "approver-a")
        return plan_id

    def state(self, plan_id: str) -> str:
        """Return the plan's state."""
        with self.control.work(Scope.everything(), read_only=True) as work:
            return get_plan(work, plan_id).state


def impact(work: UnitOfWork, unit: str, **changes: Any) -> NewImpact:
    """Return an impact assessment of retention plans, valid for this year."""
    day = today(work)
    values: dict[str, Any] = {
        "unit_id": unit,
        "plan_id": None,
        "kind": "retention",
        "document": dict.fromkeys(("purpose", "necessity", "data", "rights", "measures"), "已评估"),
        "conclusion": "with_measures",
        "valid_from": day,
        "valid_until": day.replace(year=day.year + 1),
        **changes,
    }
    return NewImpact(**values)
