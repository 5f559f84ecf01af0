"""What a plan says: its form, its hash, its differences; and the machine's own table."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihuan.kernel import DefectError
from bihuan.server.app.plan import machine
from bihuan.server.app.plan.content import (
    ContentError,
    checked_content,
    content_hash,
    differences,
    head_of,
    is_complete,
    normalised,
)
from bihuan.server.app.plan.draft import NewPlan, current_revision, get_plan, open_plan
from bihuan.server.app.plan.machine import EVENTS, FINAL, GUARDS, MOVES, STATES
from bihuan.server.control import MarketAnalysis, PlanRevision

from .office import Office, actor, content

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(-1e15, 1e15).filter(lambda x: x == 0 or abs(x) >= 1e-9)
    | st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text("abc中", min_size=1, max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


class TestForm:
    @pytest.mark.parametrize(
        ("said", "named"),
        [
            ({"campain": {}}, "campain"),
            ({"campaign": []}, "campaign"),
            ({"campaign": {"budgt": 1}}, r"campaign\.budgt"),
            ({"stages": {}}, "stages"),
            ({"decision": "maybe"}, "decision"),
            ({"terms": {"x": float("nan")}}, r"terms\.x"),
            ({"terms": {"x": 1e300}}, r"terms\.x"),
            ({"terms": {"x": "a\x00"}}, r"terms\.x"),
            ({"terms": {"x": "\ud800"}}, r"terms\.x"),
            ({"terms": {1: 2}}, r"terms\.1"),
            ({"terms": {"x": object()}}, r"terms\.x"),
            ({"terms": {"x": "y" * 1_000_001}}, "longer"),
        ],
    )
    def test_what_has_not_the_form_is_refused_by_name(self, said: dict, named: str) -> None:
        with pytest.raises(ContentError, match=named):
            checked_content(said)

    def test_too_deep(self) -> None:
        deep: dict = {}
        for _ in range(30):
            deep = {"x": deep}
        with pytest.raises(ContentError, match="nested"):
            checked_content({"terms": deep})

    def test_complete_needs_every_part(self) -> None:
        assert is_complete(content())
        for field in ("goal", "audience", "mix", "channels", "control_share"):
            assert not is_complete(content(**{field: None}))
        assert is_complete(content(control_share=0))

    def test_the_head_is_what_lists_need(self) -> None:
        head = head_of(content(), "标题", "Title")
        assert (head.starts_on, head.ends_on) == (date(2026, 11, 1), date(2026, 11, 30))
        assert head.budget == Decimal(60000)
        assert head.channels == ("outbound", "sms")
        for word in ("标题", "more customers leave", "churn_score", "返还话费", "fee_basic_12"):
            assert word in head.words
        assert head_of({"campaign": {"goal": 5, "budget": "x", "mix": [3]}}).budget is None


class TestHash:
    @given(PLAIN)
    def test_normalising_twice_changes_nothing(self, value) -> None:
        once = normalised(value)
        assert normalised(once) == once
        assert content_hash({"x": normalised(once)}) == content_hash({"x": once})

    def test_a_whole_float_is_the_integer(self) -> None:
        first, second = (checked_content(content(budget=b)) for b in (60000, 60000.0))
        assert content_hash(first) == content_hash(second)

    def test_every_database_gives_back_what_was_hashed(self, office: Office) -> None:
        said = {
            **content(budget=0.1 + 0.2),
            "terms": {"a": 1e-7, "b": -0.0, "c": 2**53, "d": 1.0, "e": '中\u2028\\"', "f": []},
        }
        with office.work("planner-a1") as work:
            new = NewPlan("county-a1", "retention", {"zh": "x", "en": "x"}, said)
            plan_id = open_plan(work, actor("planner-a1"), new).plan_id
        with office.work("planner-a1") as work:
            plan = get_plan(work, plan_id)
            assert content_hash(current_revision(work, plan).content) == plan.content_hash

    def test_a_revision_never_changes(self, office: Office) -> None:
        plan_id = office.open()
        with pytest.raises(DefectError, match="history"), office.work("planner-a1") as work:
            current_revision(work, get_plan(work, plan_id)).content = {}
        with pytest.raises(DefectError, match="history"), office.work("planner-a1") as work:
            current_revision(work, get_plan(work, plan_id)).author_id = "planner-a"

    def test_an_analysis_never_changes(self, office: Office) -> None:
        plan_id = office.open()
        office.assess(plan_id)
        with pytest.raises(DefectError, match="history"), office.work("planner-a1") as work:
            work.session.query(MarketAnalysis).one().document = {}
        with office.work("planner-a1") as work:
            assert work.session.query(PlanRevision).count() == 2


class TestDifferences:
    def test_fields_are_named_by_path_and_items_by_name(self) -> None:
        old = content()
        new = content(
            budget=70000,
            risk_tag="churn_score",
            mix=[
                {"offer": "gift", "promotion": {"zh": "礼", "en": "gift"}, "channels": {}},
                {**old["campaign"]["mix"][0], "promotion": {"zh": "改", "en": "changed"}},
            ],
        )
        del new["campaign"]["control_share"]
        found = {change.path: change for change in differences(old, new)}
        assert str(found["campaign.budget"]) == "campaign.budget: 60000 → 70000"
        assert found["campaign.risk_tag"].kind == "added"
        assert found["campaign.control_share"].kind == "removed"
        assert found["campaign.mix[fee_basic_12].promotion.zh"].new == "改"
        assert found["campaign.mix[gift].promotion.zh"].kind == "added"
        assert differences(old, old) == ()

    @given(PLAIN, PLAIN)
    def test_none_if_and_only_if_the_same(self, a, b) -> None:
        old, new = {"x": normalised(a)}, {"x": normalised(b)}
        assert (differences(old, new) == ()) == (content_hash(old) == content_hash(new))


class TestMachine:
    def test_the_table_speaks_of_known_states_and_events(self) -> None:
        assert {state for state, _ in MOVES} | set(MOVES.values()) == set(STATES)
        assert {event for _, event in MOVES} == set(EVENTS)
        assert set(GUARDS) <= set(EVENTS)

    def test_final_states_have_no_way_out_and_all_others_have(self) -> None:
        for state in STATES:
            assert (machine.events_from(state) == ()) == (state in FINAL)

    def test_every_state_is_reached_from_the_first(self) -> None:
        reached, wave = {"analysis"}, ["analysis"]
        while wave:
            state = wave.pop()
            for event in machine.events_from(state):
                after = MOVES[state, event]
                if after not in reached:
                    reached.add(after)
                    wave.append(after)
        assert reached == set(STATES)

    def test_only_approval_leads_to_approved_and_only_deployment_from_there_to_executing(
        self,
    ) -> None:
        into = {(s, e) for (s, e), after in MOVES.items() if after == "approved"}
        assert into == {("filed", "approve")}
        into = {(s, e) for (s, e), after in MOVES.items() if after == "executing"}
        assert into == {("approved", "deploy"), ("executing", "deploy"), ("paused", "resume")}

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("event", EVENTS)
    def test_an_illegal_move_says_what_is_allowed(self, state: str, event: str) -> None:
        plan = SimpleNamespace(state=state)
        if (state, event) in MOVES:
            machine.require_allowed(plan, event)
            return
        with pytest.raises(machine.IllegalMoveError) as refusal:
            machine.require_allowed(plan, event)
        for name in machine.events_from(state):
            assert EVENTS[name]["en"] in str(refusal.value)
            assert EVENTS[name]["zh"] in refusal.value.zh

    def test_a_caller_that_states_no_fact_is_a_defect(self) -> None:
        with pytest.raises(DefectError, match="deployable"):
            machine.require_guards("deploy", {})
        with pytest.raises(DefectError, match="event"):
            machine.require_allowed(SimpleNamespace(state="filed"), "dance")
