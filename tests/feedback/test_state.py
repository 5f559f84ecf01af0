"""Folding outcomes to states: the same whatever the order, and the sum always holds."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.data import DuckDBEngine
from bihuan.feedback import Reconciliation, fold_outcomes, reconcile, state
from bihuan.feedback.store import OUTCOME, STAGES
from bihuan.kernel import DefectError

START = datetime(2026, 11, 2, 2, tzinfo=UTC)
TODAY = date(2026, 11, 3)
ENGINE = DuckDBEngine(threads=1)
NAMES = ("a", "b", "c")
MONEY = pa.decimal128(18, 2)

ASSIGNMENTS = pa.table(
    {
        "assignment_id": list(NAMES),
        "deployment_id": ["d"] * 3,
        "campaign_id": ["autumn"] * 3,
        "customer_id": ["c-1", "c-2", "c-3"],
        "offer_id": ["o"] * 3,
        "channel": ["sms"] * 3,
        "org_unit_id": ["u"] * 3,
        "valid_until": pa.array([date(2026, 11, 3), date(2026, 11, 3), date(2026, 11, 2)]),
    }
)


def rows_of(*outcomes: tuple[str, str, int]) -> pa.Table:
    """Return outcomes (assignment, stage, minutes); amount 10 for orders, cost 1 for each."""
    rows = [
        {
            "outcome_id": f"{name}-{stage}-{minutes}",
            "assignment_id": name,
            "deployment_id": "d",
            "customer_id": "c",
            "stage": stage,
            "occurred_at": START + timedelta(minutes=minutes),
            "amount": Decimal("10.00") if stage == "ordered" else None,
            "cost": Decimal("1.00"),
            "reason": f"at {minutes}",
        }
        for name, stage, minutes in outcomes
    ]
    return pa.Table.from_pylist(rows, schema=OUTCOME.schema)


def fold(outcomes: pa.Table, today: date = TODAY) -> pa.Table:
    return fold_outcomes(ASSIGNMENTS, outcomes, today=today, engine=ENGINE)


def state_of_a(*outcomes: tuple[str, int]) -> str:
    return fold(rows_of(*(("a", *outcome) for outcome in outcomes)))["state"][0].as_py()


def expected_state(outcomes: list[tuple[str, int]]) -> str:
    """The rule written anew, for one assignment: what the fold must give."""
    for group in (("ordered",), ("accepted", "refused"), ("connected",), ("delivered", "failed")):
        found = [(at, stage in ("refused", "failed"), stage) for stage, at in outcomes
                 if stage in group]  # fmt: skip
        if found:
            return max(found)[2]
    for stage in ("unknown", "expired", "suppressed"):
        if any(stage == other for other, _ in outcomes):
            return stage
    return "pending"


stories = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(STAGES), st.integers(0, 5)), max_size=18
)


class TestFold:
    @given(stories, st.randoms(use_true_random=False))
    @settings(max_examples=30, deadline=None)
    def test_order_and_repeats_do_not_matter(self, story, shuffle):
        outcomes = rows_of(*dict.fromkeys(story))
        first = fold(outcomes)
        again = story + [one for one in story if shuffle.random() < 0.5]
        shuffle.shuffle(again)
        assert fold(rows_of(*again)) == first
        for name, found in zip(NAMES, first["state"].to_pylist(), strict=True):
            expected = expected_state([(stage, at) for one, stage, at in story if one == name])
            if name == "c" and expected == "pending":
                expected = "expired"  # its validity is over
            assert found == expected

    def test_a_fold_that_takes_the_last_arrival_is_caught(self):
        """The seeded defect: whatever came last is the state."""

        def last_arrival(outcomes: pa.Table) -> str:
            return outcomes["stage"].to_pylist()[-1]

        rows = rows_of(("a", "ordered", 3), ("a", "delivered", 1))
        turned = rows.take([1, 0])
        assert last_arrival(rows) != last_arrival(turned)
        assert fold(rows) == fold(turned)

    @pytest.mark.parametrize(
        ("outcomes", "found"),
        [
            ((), "pending"),
            ((("suppressed", 0), ("delivered", 9)), "delivered"),
            ((("delivered", 0), ("suppressed", 9)), "delivered"),
            ((("unknown", 9), ("delivered", 0)), "delivered"),
            ((("unknown", 9), ("failed", 0)), "failed"),
            ((("delivered", 0), ("failed", 1)), "failed"),
            ((("failed", 0), ("delivered", 1)), "delivered"),
            ((("failed", 9), ("connected", 0)), "connected"),
            ((("refused", 0), ("accepted", 1)), "accepted"),
            ((("accepted", 0), ("refused", 1)), "refused"),
            ((("accepted", 1), ("refused", 1)), "refused"),
            ((("ordered", 0), ("refused", 9)), "ordered"),
            ((("suppressed", 0), ("expired", 1)), "expired"),
            ((("expired", 5), ("unknown", 1)), "unknown"),
        ],
    )
    def test_rules(self, outcomes, found):
        assert state_of_a(*outcomes) == found
        assert state_of_a(*reversed(outcomes)) == found

    def test_pending_ends_with_the_validity(self):
        assert fold(rows_of())["state"].to_pylist() == ["pending", "pending", "expired"]
        late = fold(rows_of(), date(2026, 11, 4))
        assert late["state"].to_pylist() == ["expired"] * 3

    def test_sums_count_each_outcome_once(self):
        rows = rows_of(("a", "delivered", 0), ("a", "ordered", 5))
        row = fold(pa.concat_tables([rows, rows])).slice(0, 1).to_pylist()[0]
        assert (row["amount"], row["cost"], row["outcomes"]) == (Decimal("10.00"), Decimal(2), 2)
        assert row["first_contact_at"] == START
        assert row["reason"] == "at 5"
        assert fold(rows).schema.field("amount").type == MONEY

    def test_outcomes_of_others_are_passed_over(self):
        assert fold(rows_of(("z", "ordered", 1))) == fold(rows_of())

    def test_every_stage_has_a_rank(self, monkeypatch):
        monkeypatch.setattr(state, "STAGE_RANKS", {"delivered": (1, 0)})
        with pytest.raises(DefectError, match="without a rank"):
            fold(rows_of())


class TestReconcile:
    @given(stories)
    @settings(max_examples=15, deadline=None)
    def test_the_sum_holds_for_every_story(self, story):
        found = reconcile(fold(rows_of(*dict.fromkeys(story))), planned=3)
        parts = found.suppressed + found.failed + found.expired + found.unknown + found.pending
        assert found.planned == found.delivered + parts == 3
        assert sum(found.by_state.values()) == 3

    def test_delivered_means_delivered_or_further(self):
        rows = rows_of(("a", "ordered", 1), ("b", "refused", 1), ("c", "delivered", 1))
        found = reconcile(fold(rows), planned=3)
        assert (found.delivered, found.by_state["ordered"], found.is_done) == (3, 1, True)

    def test_what_is_in_doubt_is_not_done(self):
        rows = rows_of(("a", "unknown", 1), ("b", "delivered", 1), ("c", "delivered", 1))
        assert not reconcile(fold(rows), planned=3).is_done

    def test_a_fold_that_loses_silent_assignments_is_caught(self, monkeypatch):
        """The seeded defect: an inner join drops assignments of which nothing was heard."""
        inner = state._FOLD.replace("LEFT JOIN", "JOIN")
        monkeypatch.setattr(state, "_FOLD", inner)
        with pytest.raises(DefectError, match="states differ"):
            reconcile(fold(rows_of(("a", "delivered", 1))), planned=3)

    def test_a_state_that_does_not_exist_is_caught(self):
        states = pa.table({"state": ["delivered", "lost"]})
        with pytest.raises(DefectError, match="do not exist"):
            reconcile(states, planned=2)

    def test_parts_must_make_the_whole(self):
        with pytest.raises(DefectError):
            Reconciliation(2, 1, 0, 0, 0, 0, 0, {})


class TestOnTheLake:
    def test_states_of_a_real_deployment(self, world, make_outcomes):
        world.ingest(make_outcomes(world.assignments.slice(0, 40)))
        world.ingest(make_outcomes(world.assignments.slice(0, 10), stage="ordered"))
        states = fold_outcomes(
            world.deployment.assignments(world.lake.view()),
            world.outcomes(),
            today=TODAY,
            engine=ENGINE,
        )
        found = reconcile(states, planned=world.deployment.planned)
        assert (found.delivered, found.pending) == (40, 20)
        assert pc.sum(pc.equal(states["state"], "ordered")).as_py() == 10
