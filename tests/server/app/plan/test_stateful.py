"""Whatever people do in whatever order: nothing deploys that lacks an approval.

``BIHUAN_SEQUENCES`` says how many sequences are run (40 unless said; 100,000 for a release).
``BIHUAN_SEED`` gives another line of chance.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.server.conftest import START, TREE

from bihuan.kernel import FixedClock, UserError
from bihuan.server.app.plan import approval, draft, gate, machine, steps, stop
from bihuan.server.app.plan.approval import FilingTerms
from bihuan.server.control import OrgUnit, Plan, Scope, UnitOfWork, attach, detach

from .ground import OneConnectionControl
from .model import Model, Paper, holds, plain_hash
from .office import PASSED, PEOPLE, Office, actor, content, hire, rehearsal

SEQUENCES = int(os.environ.get("BIHUAN_SEQUENCES", "40"))
SEED = int(os.environ.get("BIHUAN_SEED", "20261122"))
STEPS = 15
DEFECT_SEQUENCES = 400
WRITERS = st.sampled_from(("both-a", "planner-a1", "planner-a", "planner-p"))
DECIDERS = st.sampled_from(
    ("approver-a", "approver-a2", "approver-b", "approver-p", "approver-p2", "both-a")
)
BACK = st.integers(0, 3)
RARELY = st.sampled_from((False, False, False, True))


class PlanSequences(RuleBasedStateMachine):
    """People of every kind work on a plan; the model knows what may deploy.

    Some rules wait until the plan's state gives them a chance; ``disturb`` does anything at any
    time. An operation that is refused must leave nothing behind, so it is rolled back by the real
    unit of work and the model does not hear of it.
    """

    ground: ClassVar[OneConnectionControl | None] = None

    def __init__(self) -> None:
        super().__init__()
        if PlanSequences.ground is None:
            PlanSequences.ground = OneConnectionControl(dict(TREE), FixedClock(START))
            hire(PlanSequences.ground)
            Office(PlanSequences.ground).cover()
            PlanSequences.ground.keep()
        self.control = PlanSequences.ground
        self.model = Model(dict(TREE))
        self.plan_id = ""
        self.state = ""
        self.seen: list[str] = []
        self.changed = False

    def teardown(self) -> None:
        self.control.forget()

    # how things are done

    def attempt(self, account: str, action: str, do: Callable[..., Any]) -> Any:
        """Let ``account`` try something on the plan; None where it is refused."""
        who = actor(account)
        try:
            with self.control.work(who.scope(action), account_id=account) as work:
                plan = draft.get_plan(work, self.plan_id)
                done = do(work, who, plan)
        except UserError:
            return None
        self.changed, self.state = True, plan.state
        return done or True

    @property
    def paper(self) -> Paper:
        return self.model.papers[self.plan_id]

    # what people do

    @initialize(account=WRITERS, filer=WRITERS, high=st.booleans(), large=st.booleans())
    def begin(self, account: str, filer: str, high: bool, large: bool) -> None:
        unit = PEOPLE[account][0][1]
        with self.control.work(actor(account).scope("plan.edit"), account_id=account) as work:
            new = draft.NewPlan(unit, "retention", {"zh": "维系", "en": "keeping"}, said(0))
            plan = draft.open_plan(work, actor(account), new)
        self.plan_id, self.state = plan.plan_id, plan.state
        self.model.papers[plan.plan_id] = Paper(unit, plain_hash(said(0)), {account})
        self.seen = [plain_hash(said(0))]
        self.prepare_and_file(filer, high, large)

    @rule(account=WRITERS, budget=st.integers(0, 2))
    def edit(self, account: str, budget: int) -> None:
        if self.attempt(
            account, "plan.edit", lambda w, who, p: draft.edit_plan(w, who, p, said(budget))
        ):
            self.paper.content_hash = plain_hash(said(budget))
            self.paper.makers.add(account)
            self.paper.reset()
            self.seen.append(self.paper.content_hash)

    def rehearse(self, account: str) -> None:
        self.attempt(account, "plan.edit", _rehearse)

    @precondition(lambda self: self.state in ("drafting", "rehearsed", "assessed"))
    @rule(account=WRITERS, high=st.booleans(), large=st.booleans())
    def prepare_and_file(self, account: str, high: bool, large: bool) -> None:
        terms = FilingTerms(
            review_customers=10 if large else 10**6, tiers=(("province",),) if high else ()
        )

        def do(work: UnitOfWork, who: Any, plan: Plan) -> Any:
            if plan.state == "drafting":
                _rehearse(work, who, plan)
            if plan.state == "rehearsed":
                draft.record_assessment(work, who, plan, PASSED)
            return approval.file_plan(work, who, plan, terms)

        if self.attempt(account, "plan.edit", do):
            self.paper.reset()
            self.paper.makers.add(account)
            self.paper.wants_province, self.paper.wants_review = high, large

    def approve(self, account: str, seen: str) -> None:
        if self.attempt(
            account,
            "plan.approve",
            lambda w, who, p: approval.approve_plan(w, who, p, content_hash=seen),
        ):
            self.model.take(self.paper, account, seen, is_last=self.state == "approved")

    @precondition(lambda self: self.state == "filed")
    @rule(picks=st.lists(st.integers(0, 3), min_size=2, max_size=6))
    def approve_in_turn(self, picks: list[int]) -> None:
        """Approvers of the levels on the way up try one after the other, makers first."""
        for pick in picks:
            levels = self.model.required(self.paper)
            unit = levels[min(len(self.paper.given), len(levels) - 1)]
            holders = [account for account in PEOPLE if holds(account, unit)]
            holders.sort(key=lambda account: account not in self.paper.makers)
            if self.state == "filed":
                self.approve(holders[pick % len(holders)], self.seen[-1])

    @precondition(lambda self: self.state == "filed")
    @rule(picks=st.lists(st.integers(0, 3), min_size=2, max_size=6))
    def approve_in_turn_again(self, picks: list[int]) -> None:
        """The same once more, for approvals are what this is about."""
        self.approve_in_turn(picks)

    @precondition(lambda self: self.state == "filed" and len(self.seen) > 1)
    @rule(accounts=st.lists(DECIDERS, min_size=1, max_size=3), back=st.integers(1, 3))
    def approve_replayed(self, accounts: list[str], back: int) -> None:
        """An approval of what was filed before arrives late, or again."""
        seen = self.seen[max(0, len(self.seen) - 1 - back)]
        for account in accounts:
            if self.state == "filed":
                self.approve(account, seen)

    def give_back(self, account: str) -> None:
        if self.attempt(
            account,
            "plan.approve",
            lambda w, who, p: approval.return_plan(w, who, p, comment="again"),
        ):
            self.paper.reset()

    def take_back(self, account: str) -> None:
        if self.attempt(account, "plan.edit", approval.take_back):
            self.paper.reset()

    def delegate(self, account: str, to: str) -> None:
        step = self.attempt(
            account,
            "plan.approve",
            lambda w, who, p: approval.delegate_step(w, who, p, to, why="away"),
        )
        if step:
            self.paper.delegates.setdefault(step.at_unit_id, set()).add(to)

    @rule(unit=st.sampled_from(("county-a1", "county-a2")), to=st.sampled_from("ab"), told=RARELY)
    def move_unit(self, unit: str, to: str, told: bool) -> None:
        parent = f"city-{to}"
        if self.model.parent[unit] == parent:
            return
        with self.control.work(Scope.everything()) as work:
            work.session.get_one(OrgUnit, unit).parent_id = parent
            work.unscoped(detach(unit), "the tree itself")
            work.unscoped(attach(unit, parent), "the tree itself")
            if told:
                approval.rederive_steps(work, [unit])
        self.model.parent[unit] = parent
        self.changed = True

    @precondition(lambda self: self.state == "executing")
    @rule(account=DECIDERS)
    def stop(self, account: str) -> None:
        if self.attempt(
            account, "plan.stop", lambda w, who, p: stop.pause(w, who, p, reason="stop")
        ):
            self.paper.stopped = True

    def go_on(self, account: str) -> None:
        if self.attempt(account, "plan.stop", stop.resume):
            self.paper.stopped = False

    @precondition(lambda self: self.state != "filed")
    @rule(account=WRITERS)
    def deploy(self, account: str) -> None:
        def do(work: UnitOfWork, who: Any, plan: Plan) -> gate.ApprovedPlan:
            approved = gate.require_deployable(work, plan.plan_id)
            gate.mark_deployed(work, plan.plan_id, work.new_id("deployment"))
            return approved

        deployed = self.attempt(account, "deployment.run", do)
        if deployed:
            self.require_right(deployed)

    @rule(account=DECIDERS, to=DECIDERS, writer=WRITERS, what=st.integers(0, 7), back=BACK)
    def disturb(self, account: str, to: str, writer: str, what: int, back: int) -> None:
        """Do anything else, whether or not it is its time."""
        seen = self.seen[max(0, len(self.seen) - 1 - back)]
        (
            lambda: self.delegate(account, to),
            lambda: self.approve(account, seen),
            lambda: self.take_back(writer),
            lambda: self.give_back(account),
            lambda: self.stop(account),
            lambda: self.go_on(account),
            lambda: self.rehearse(writer),
            lambda: self.void(account),
        )[what]()

    def void(self, account: str) -> None:
        if self.attempt(
            account,
            "plan.approve",
            lambda w, who, p: approval.void_plan(w, who, p, comment="no"),
        ):
            self.paper.reset()

    # what must be so

    def require_right(self, deployed: gate.ApprovedPlan) -> None:
        stored = plain_hash(dict(deployed.content))
        said_by_rules = (self.paper.content_hash, self.paper.passed, self.paper.stopped)
        assert said_by_rules == (stored, deployed.content_hash, False), self.paper

    @invariant()
    def nothing_unapproved_deploys(self) -> None:
        """No content deploys, or is called approved, that lacks an approval by rights."""
        if not self.changed:
            return
        self.changed = False
        with self.control.work(Scope.everything(), read_only=True) as work:
            plan = draft.get_plan(work, self.plan_id)
            if plan.state in ("approved", "executing", "paused"):
                assert self.paper.passed == plan.content_hash, f"{plan.state}: {self.paper}"
            try:
                self.require_right(gate.require_deployable(work, plan.plan_id))
            except UserError:
                return


def said(budget: int) -> dict[str, Any]:
    """Return a complete content; one of a few, so that old ones come again."""
    return {**content(budget=budget), "analysis": {"analysis_id": "a", "content_hash": "h"}}


def _rehearse(work: UnitOfWork, who: Any, plan: Plan) -> Any:
    return draft.record_rehearsal(work, who, plan, rehearsal(), content_hash=plan.content_hash)


def run(sequences: int, *, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    """Run so many random sequences; AssertionError where the invariant breaks."""
    run_state_machine_as_test(
        seed(SEED)(PlanSequences),
        settings=settings(
            max_examples=sequences,
            stateful_step_count=STEPS,
            phases=phases,
            deadline=None,
            database=None,
            derandomize=False,
            print_blob=False,
            suppress_health_check=list(HealthCheck),
        ),
    )


class TestSequences:
    def test_nothing_unapproved_deploys(self) -> None:
        run(SEQUENCES)

    def test_a_missing_check_of_makers_is_caught(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(steps, "makers_of", _nobody)
        monkeypatch.setattr(approval, "makers_of", _nobody)
        monkeypatch.setattr(gate, "makers_of", _nobody)
        with pytest.raises(AssertionError):
            run(DEFECT_SEQUENCES, phases=(Phase.generate,))

    def test_a_missing_check_of_the_hash_seen_is_caught(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(approval, "require_seen", lambda plan, filing, content_hash: None)
        with pytest.raises(AssertionError):
            run(DEFECT_SEQUENCES, phases=(Phase.generate,))

    def test_an_edit_that_does_not_void_is_caught(self, monkeypatch: pytest.MonkeyPatch) -> None:
        moves = {
            **machine.MOVES,
            ("approved", "edit"): "approved",
            ("filed", "edit"): "filed",
        }
        monkeypatch.setattr(machine, "MOVES", moves)
        monkeypatch.setattr(draft, "end_filing", lambda work, plan, state: None)
        with pytest.raises(AssertionError):
            run(DEFECT_SEQUENCES, phases=(Phase.generate,))

    def test_an_edit_that_does_not_void_behind_a_gate_without_hashes_is_caught(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        moves = {**machine.MOVES, ("approved", "edit"): "executing"}
        monkeypatch.setattr(machine, "MOVES", moves)
        monkeypatch.setattr(draft, "end_filing", lambda work, plan, state: None)
        monkeypatch.setattr(gate, "is_same_content", lambda hashes, content: True)
        with pytest.raises(AssertionError):
            run(DEFECT_SEQUENCES, phases=(Phase.generate,))

    def test_a_gate_that_forgets_stops_is_caught(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gate, "DEPLOYABLE", ("approved", "executing", "paused"))
        monkeypatch.setattr(gate, "stops", lambda work, plan_id: [])
        with pytest.raises(AssertionError):
            run(DEFECT_SEQUENCES, phases=(Phase.generate,))


def _nobody(work: UnitOfWork, plan: Plan) -> frozenset[str]:
    return frozenset()
