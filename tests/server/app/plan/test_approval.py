"""Who approves, in which order, of what; and what voids it."""

from __future__ import annotations

from datetime import timedelta

import pytest
import sqlalchemy as sa

from bihuan.kernel import FixedClock
from bihuan.server.app.errors import ConflictError, NotFoundError, RefusedError, StaleError
from bihuan.server.app.plan import NotApprovedError, require_deployable
from bihuan.server.app.plan.approval import (
    MakerCheckerError,
    NotYourStepError,
    approve_plan,
    delegate_step,
    rederive_steps,
    return_plan,
    take_back,
    void_plan,
    withdraw_plan,
)
from bihuan.server.app.plan.draft import (
    current_revision,
    edit_plan,
    get_plan,
    record_analysis,
    record_assessment,
    record_rehearsal,
)
from bihuan.server.app.plan.impact import get_impact, revoke_impact
from bihuan.server.app.plan.machine import IllegalMoveError, UnmetGuardError
from bihuan.server.app.plan.steps import NoApproverError, find_filing, steps_of
from bihuan.server.control import (
    AuditEntry,
    OrgUnit,
    Plan,
    PlanMove,
    PlanRevision,
    Scope,
    StaffPost,
    UnitOfWork,
    attach,
    detach,
)

from .office import PASSED, Office, actor, content, rehearsal


def levels(office: Office, plan_id: str) -> list[tuple[str, str, str]]:
    """Return unit, kind and state of every step of the newest filing."""
    with office.control.work(Scope.everything(), read_only=True) as work:
        plan = get_plan(work, plan_id)
        found = [
            filing
            for state in ("open", "approved", "returned", "withdrawn", "void")
            if (filing := find_filing(work, plan, state)) is not None
        ]
        filing = max(found, key=lambda one: one.number)
        return [(s.at_unit_id, s.kind, s.state) for s in steps_of(work, filing)]


def ready(office: Office, account: str = "planner-a1", unit: str = "county-a1", **said) -> str:
    office.cover()
    plan_id = office.open(account, unit, **said)
    office.assess(plan_id, account)
    return plan_id


def move_unit(work: UnitOfWork, unit: str, parent: str) -> None:
    """Hang a unit and its subtree under another parent."""
    row = work.session.get_one(OrgUnit, unit)
    row.parent_id = parent
    work.session.flush()
    work.unscoped(detach(unit), "the tree itself")
    work.unscoped(attach(unit, parent), "the tree itself")


class TestLevels:
    def test_the_next_superior_with_an_approver_decides(self, office: Office) -> None:
        plan_id = ready(office)
        office.file(plan_id)
        assert levels(office, plan_id) == [("city-a", "decide", "open")]
        office.approve(plan_id, "approver-a")
        assert office.state(plan_id) == "approved"
        with office.work("planner-a1") as work:
            approved = require_deployable(work, plan_id)
        assert [(a.unit_id, a.by) for a in approved.approvals] == [("city-a", "approver-a")]
        assert approved.content["campaign"]["budget"] == 60000

    def test_the_offer_kind_says_who_decides_and_levels_between_record(
        self, office: Office
    ) -> None:
        plan_id = ready(office)
        office.file(plan_id, tiers=(("province",), ("city",)))
        assert levels(office, plan_id) == [
            ("city-a", "record", "open"),
            ("province", "decide", "waiting"),
        ]
        with pytest.raises(NotYourStepError, match="city-a"):
            office.approve(plan_id, "approver-p")
        office.approve(plan_id, "approver-a")
        assert office.state(plan_id) == "filed"
        office.approve(plan_id, "approver-p")
        assert office.state(plan_id) == "approved"

    @pytest.mark.parametrize(("customers", "budget"), [(100_001, 60_000), (10, 500_001)])
    def test_a_large_plan_takes_one_further_person_at_the_top(
        self, office: Office, customers: int, budget: int
    ) -> None:
        office.cover()
        plan_id = office.open("planner-p", "province", budget=budget)
        office.assess(plan_id, "planner-p", customers)
        office.file(plan_id, "planner-p")
        assert [kind for _, kind, _ in levels(office, plan_id)] == ["decide", "review"]
        office.approve(plan_id, "approver-p")
        with pytest.raises(MakerCheckerError, match="further person"):
            office.approve(plan_id, "approver-p")
        office.approve(plan_id, "approver-p2")
        assert office.state(plan_id) == "approved"

    def test_a_plan_at_the_threshold_needs_none(self, office: Office) -> None:
        plan_id = ready(office, budget=500_000)
        office.file(plan_id)
        assert len(levels(office, plan_id)) == 1

    def test_a_level_without_approvers_is_passed_over_and_none_at_all_refuses(
        self, office: Office
    ) -> None:
        plan_id = ready(office)
        with office.control.work(Scope.everything()) as work:
            for post in work.session.scalars(
                sa.select(StaffPost).where(StaffPost.unit_id == "city-a")
            ):
                post.status = "ended"
        office.file(plan_id)
        assert levels(office, plan_id) == [("province", "decide", "open")]
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            take_back(work, who, plan)
        with office.control.work(Scope.everything()) as work:
            for post in work.session.scalars(sa.select(StaffPost)):
                post.status = "ended"
        with pytest.raises(NoApproverError, match="province"):
            office.file(plan_id)
        assert office.state(plan_id) == "assessed"


class TestFourEyes:
    def test_no_maker_approves(self, office: Office) -> None:
        plan_id = ready(office, "both-a")
        office.file(plan_id, "both-a")
        with pytest.raises(MakerCheckerError, match="both-a"):
            office.approve(plan_id, "both-a")

    def test_who_only_files_or_once_wrote_a_line_is_a_maker_too(self, office: Office) -> None:
        plan_id = ready(office)
        office.file(plan_id, "both-a")
        with pytest.raises(MakerCheckerError):
            office.approve(plan_id, "both-a")
        with office.on(plan_id, "approver-a", "plan.approve") as (work, who, plan):
            return_plan(work, who, plan, comment="again")
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            edit_plan(work, who, plan, content(budget=1))
        office.assess(plan_id)
        office.file(plan_id)
        with pytest.raises(MakerCheckerError):
            office.approve(plan_id, "both-a")

    def test_not_through_delegation_either(self, office: Office) -> None:
        plan_id = ready(office, "both-a")
        office.file(plan_id, "both-a")
        with (
            pytest.raises(MakerCheckerError),
            office.on(plan_id, "approver-a", "plan.approve") as (work, who, plan),
        ):
            delegate_step(work, who, plan, "both-a", why="holiday")
        with (
            pytest.raises(MakerCheckerError),
            office.on(plan_id, "both-a", "plan.approve") as (work, who, plan),
        ):
            delegate_step(work, who, plan, "approver-a2", why="a way around")

    def test_delegated_to_a_colleague_above_it_is_decided_and_recorded(
        self, office: Office
    ) -> None:
        plan_id = ready(office)
        office.file(plan_id)
        with office.on(plan_id, "approver-a", "plan.approve") as (work, who, plan):
            delegate_step(work, who, plan, "approver-p", why="holiday")
        office.approve(plan_id, "approver-p")
        with office.on(plan_id, "approver-a", "plan.approve") as (work, _, plan):
            filing = find_filing(work, plan, "approved")
            assert filing is not None
            (step,) = steps_of(work, filing)
        assert (step.delegated_by, step.delegated_to) == ("approver-a", "approver-p")
        assert (step.decided_by, step.delegated_why) == ("approver-p", "holiday")

    @pytest.mark.parametrize("to", ["approver-b", "planner-a", "approver-a", "nobody"])
    def test_not_to_somebody_of_another_branch_or_without_the_post(
        self, office: Office, to: str
    ) -> None:
        plan_id = ready(office)
        office.file(plan_id)
        with (
            pytest.raises(RefusedError, match="cannot decide this step"),
            office.on(plan_id, "approver-a", "plan.approve") as (work, who, plan),
        ):
            delegate_step(work, who, plan, to, why="x")


class TestContent:
    def test_an_edit_voids_every_approval_and_keeps_it_as_history(self, office: Office) -> None:
        plan_id = office.approved()
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            edit_plan(work, who, plan, content(budget=70_000))
        assert office.state(plan_id) == "drafting"
        assert levels(office, plan_id) == [("city-a", "decide", "void")]
        with pytest.raises(NotApprovedError, match="planning"), office.work("planner-a1") as work:
            require_deployable(work, plan_id)
        with (
            pytest.raises(IllegalMoveError),
            office.on(plan_id, "planner-a1") as (work, who, plan),
        ):
            record_assessment(work, who, plan, PASSED)

    def test_an_approval_of_what_was_filed_before_is_refused(self, office: Office) -> None:
        plan_id = ready(office)
        office.file(plan_id)
        with office.on(plan_id, "approver-a", "plan.approve") as (_, _, plan):
            seen = plan.content_hash
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            edit_plan(work, who, plan, content(budget=999))
        office.assess(plan_id)
        office.file(plan_id)
        with (
            pytest.raises(StaleError),
            office.on(plan_id, "approver-a", "plan.approve") as (work, who, plan),
        ):
            approve_plan(work, who, plan, content_hash=seen)

    def test_content_changed_behind_the_workflow_does_not_deploy(self, office: Office) -> None:
        plan_id = office.approved()
        with office.control.work(Scope.everything()) as work:
            plan = work.session.get_one(Plan, plan_id)
            table = PlanRevision.__table__
            work.unscoped(
                sa.update(table)
                .where(table.c.revision_id == plan.revision_id)
                .values(content=content(budget=9_999_999)),
                "a hand in the database",
            )
        with pytest.raises(NotApprovedError, match="another"), office.work("planner-a1") as work:
            require_deployable(work, plan_id)

    def test_a_rehearsal_of_what_was_edited_meanwhile_is_not_recorded(self, office: Office) -> None:
        plan_id = office.open()
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            before = plan.content_hash
            edit_plan(work, who, plan, content(budget=5))
        with (
            pytest.raises(StaleError),
            office.on(plan_id, "planner-a1") as (work, who, plan),
        ):
            record_rehearsal(work, who, plan, rehearsal(), content_hash=before)


class TestGates:
    def test_filing_needs_analysis_rehearsal_assessment_and_impact(self, office: Office) -> None:
        plan_id = office.open()
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            record_rehearsal(work, who, plan, rehearsal(), content_hash=plan.content_hash)
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            record_assessment(work, who, plan, PASSED)
        with pytest.raises(UnmetGuardError, match="market analysis"):
            office.file(plan_id)
        office.assess(plan_id)
        with pytest.raises(UnmetGuardError, match="impact assessment"):
            office.file(plan_id)
        office.cover()
        office.file(plan_id)
        assert office.state(plan_id) == "filed"

    def test_a_plan_whose_customers_people_choose_needs_no_impact_assessment(
        self, office: Office
    ) -> None:
        plan_id = office.open()
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            edit_plan(work, who, plan, {**content(), "decision": "by_hand"})
        office.assess(plan_id)
        office.file(plan_id)
        assert office.state(plan_id) == "filed"

    def test_an_impact_assessment_ends_and_with_it_the_approval(
        self, office: Office, clock: FixedClock
    ) -> None:
        plan_id = office.approved(goal={**content()["campaign"]["goal"], "ends_on": "2028-11-30"})
        clock.advance(timedelta(days=400))
        with pytest.raises(NotApprovedError, match="impact"), office.work("planner-a1") as work:
            require_deployable(work, plan_id)

    def test_a_revoked_one_counts_no_more(self, office: Office) -> None:
        impact_id = office.cover()
        plan_id = office.open()
        office.assess(plan_id)
        with office.work("planner-p", "impact.manage") as work:
            revoke_impact(work, actor("planner-p"), get_impact(work, impact_id), why="wrong")
        with pytest.raises(UnmetGuardError, match="impact"):
            office.file(plan_id)

    def test_an_approval_ends_with_the_period(self, office: Office, clock: FixedClock) -> None:
        plan_id = office.approved()
        clock.advance(timedelta(days=29))
        with pytest.raises(NotApprovedError, match="ended"), office.work("planner-a1") as work:
            require_deployable(work, plan_id)

    def test_a_failed_assessment_is_not_filed(self, office: Office) -> None:
        office.cover()
        plan_id = office.open()
        office.assess(plan_id)
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            failed = {**PASSED, "effect": {"verdict": "fail", "comment": "no"}}
            record_assessment(work, who, plan, failed)
        with pytest.raises(UnmetGuardError, match="failed"):
            office.file(plan_id)

    def test_the_newest_assessment_counts_though_the_clock_went_back(
        self, office: Office, clock: FixedClock
    ) -> None:
        office.cover()
        plan_id = office.open()
        office.assess(plan_id)
        clock.advance(timedelta(hours=-2))
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            failed = {**PASSED, "effect": {"verdict": "fail", "comment": "no"}}
            record_assessment(work, who, plan, failed)
        with pytest.raises(UnmetGuardError, match="failed"):
            office.file(plan_id)

    def test_a_judgement_better_than_the_rehearsal_says_why(self, office: Office) -> None:
        plan_id = office.open()
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            found = rehearsal(verdict="warn")
            record_rehearsal(work, who, plan, found, content_hash=plan.content_hash)
        bare = {name: {"verdict": "pass"} for name in PASSED}
        with (
            pytest.raises(RefusedError, match="without a reason"),
            office.on(plan_id, "planner-a1") as (work, who, plan),
        ):
            record_assessment(work, who, plan, bare)
        with (
            pytest.raises(RefusedError, match="judges"),
            office.on(plan_id, "planner-a1") as (work, who, plan),
        ):
            record_assessment(work, who, plan, {"effect": {"verdict": "pass"}})
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            assert record_assessment(work, who, plan, PASSED).verdict == "pass"


class TestMoves:
    def test_returned_with_a_comment_and_filed_again(self, office: Office) -> None:
        plan_id = ready(office)
        office.file(plan_id)
        with (
            pytest.raises(RefusedError, match="comment"),
            office.on(plan_id, "approver-a", "plan.approve") as (work, who, plan),
        ):
            return_plan(work, who, plan, comment=" ")
        with office.on(plan_id, "approver-a", "plan.approve") as (work, who, plan):
            return_plan(work, who, plan, comment="对照组太小")
        assert office.state(plan_id) == "drafting"
        assert levels(office, plan_id) == [("city-a", "decide", "returned")]
        office.assess(plan_id)
        office.file(plan_id)
        assert levels(office, plan_id) == [("city-a", "decide", "open")]

    def test_a_late_approver_of_the_level_meets_a_conflict(self, office: Office) -> None:
        plan_id = ready(office)
        office.file(plan_id, tiers=(("province",),))
        office.approve(plan_id, "approver-a")
        with pytest.raises(ConflictError, match="approver-a"):
            office.approve(plan_id, "approver-a2")
        office.approve(plan_id, "approver-p")
        with pytest.raises(ConflictError, match="approver-p"):
            office.approve(plan_id, "approver-p2")

    def test_an_approved_plan_goes_back_or_is_voided_and_deploys_no_more(
        self, office: Office
    ) -> None:
        plan_id = office.approved()
        with (
            pytest.raises(NotYourStepError),
            office.on(plan_id, "approver-p", "plan.approve") as (work, who, plan),
        ):
            return_plan(work, who, plan, comment="not mine")
        with office.on(plan_id, "approver-a", "plan.approve") as (work, who, plan):
            void_plan(work, who, plan, comment="stop it")
        with pytest.raises(NotApprovedError), office.work("planner-a1") as work:
            require_deployable(work, plan_id)
        with (
            pytest.raises(IllegalMoveError, match="copy it"),
            office.on(plan_id, "planner-a1") as (work, who, plan),
        ):
            withdraw_plan(work, who, plan)

    def test_everything_is_on_record(self, office: Office) -> None:
        plan_id = office.approved()
        with office.control.work(Scope.everything(), read_only=True) as work:
            moves = work.session.scalars(
                sa.select(PlanMove).where(PlanMove.plan_id == plan_id).order_by(PlanMove.number)
            ).all()
            entries = (
                work.unscoped(
                    sa.select(AuditEntry.action)
                    .where(AuditEntry.subject_id == plan_id)
                    .order_by(AuditEntry.sequence),
                    "the trail has no units",
                )
                .scalars()
                .all()
            )
        assert [m.event for m in moves] == ["analyse", "rehearse", "assess", "file", "approve"]
        assert entries == [
            "plan.open", "plan.analyse", "plan.rehearse", "plan.assess", "plan.file",
            "plan.approve",
        ]  # fmt: skip
        assert moves[-1].by == "approver-a"

    def test_an_analysis_is_part_of_what_is_approved(self, office: Office) -> None:
        plan_id = office.open()
        with office.on(plan_id, "planner-a1") as (work, who, plan):
            before = plan.content_hash
            analysis = record_analysis(work, who, plan, {"market": "m", "competition": "c"})
            assert plan.content_hash != before
            named = current_revision(work, plan).content["analysis"]
        assert named["content_hash"] == analysis.content_hash
        with (
            pytest.raises(RefusedError, match="competition"),
            office.on(plan_id, "planner-a1") as (work, who, plan),
        ):
            record_analysis(work, who, plan, {"market": "m"})


class TestTreeMoves:
    def test_open_levels_follow_the_tree_and_decided_ones_stay(self, office: Office) -> None:
        plan_id = ready(office)
        office.file(plan_id, tiers=(("province",),))
        office.approve(plan_id, "approver-a")
        with office.control.work(Scope.everything()) as work:
            move_unit(work, "county-a1", "city-b")
            assert rederive_steps(work, ["county-a1"]) == 1
        assert levels(office, plan_id) == [
            ("city-a", "record", "approved"),
            ("province", "decide", "waiting"),
            ("city-b", "record", "open"),
        ]
        with pytest.raises(NotYourStepError, match="city-b"):
            office.approve(plan_id, "approver-p")
        office.approve(plan_id, "approver-b")
        office.approve(plan_id, "approver-p")
        assert office.state(plan_id) == "approved"

    def test_a_decision_after_a_move_nobody_told_of_uses_the_tree_as_it_is(
        self, office: Office
    ) -> None:
        plan_id = ready(office)
        office.file(plan_id)
        with office.control.work(Scope.everything()) as work:
            move_unit(work, "county-a1", "city-b")
        with pytest.raises(NotFoundError), office.on(plan_id, "approver-a", "plan.approve"):
            pass  # the plan is not in city-a any more
        office.approve(plan_id, "approver-b")
        assert levels(office, plan_id) == [
            ("city-a", "decide", "superseded"),
            ("city-b", "decide", "approved"),
        ]

    def test_an_approved_plan_keeps_its_approval(self, office: Office) -> None:
        plan_id = office.approved()
        with office.control.work(Scope.everything()) as work:
            move_unit(work, "county-a1", "city-b")
            rederive_steps(work, ["county-a1"])
        with office.work("planner-a1") as work:
            assert require_deployable(work, plan_id).approvals[0].unit_id == "city-a"
