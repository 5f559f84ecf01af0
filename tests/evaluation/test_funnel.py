from collections import Counter
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from bihuan.evaluation import EvaluationInputError, funnel, review_process, sample_lost
from bihuan.evaluation.funnel import STEPS, Ends
from bihuan.feedback import STAGE_RANKS, fold_outcomes
from bihuan.kernel import random_stream


def plan(*rows):
    names = ("assignment_id", "channel", "offer_id", "org_unit_id")
    return pa.table({name: [row[i] for row in rows] for i, name in enumerate(names)})


def seen(*rows):
    return pa.table(
        {
            "assignment_id": [row[0] for row in rows],
            "stage": [row[1] for row in rows],
            "reason": pa.array([row[2] if len(row) > 2 else None for row in rows], "string"),
        }
    )


@pytest.fixture
def campaign():
    calls = [(f"c{i}", "outbound", "o1" if i < 5 else "o2", "u1") for i in range(10)]
    texts = [(f"s{i}", "sms", "o1", "u2") for i in range(6)]
    outcomes = seen(
        ("c0", "suppressed", "red list"),
        ("c1", "failed", "no such number"),
        ("c2", "unknown"),
        ("c3", "expired"),
        ("c4", "delivered"),
        ("c5", "delivered"),
        ("c5", "connected"),
        ("c6", "refused", "too dear"),
        ("c7", "refused", "too dear"),
        ("c8", "accepted"),
        ("c9", "ordered"),
        ("c9", "accepted"),
        ("s0", "delivered"),
        ("s1", "delivered"),
        ("s2", "delivered"),
        ("s3", "ordered"),
        ("s4", "failed"),
    )
    return plan(*calls, *texts), outcomes


class TestFunnel:
    def test_every_assignment_ends_in_exactly_one_state(self, campaign):
        result = funnel(*campaign)
        assert result.overall.ends == Ends(
            pending=1, suppressed=1, failed=2, expired=1, unknown=1, delivered=4,
            connected=1, refused=2, accepted=1, ordered=2,
        )  # fmt: skip
        assert result.overall.ends.total == 16

    def test_counts_and_rates_by_channel(self, campaign):
        outbound, sms = funnel(*campaign).by_channel
        assert dict(zip(STEPS, outbound.reached, strict=True)) == {
            "planned": 10, "sent": 9, "delivered": 6, "connected": 5, "accepted": 2, "ordered": 1,
        }  # fmt: skip
        assert [step.rate for step in outbound.steps] == pytest.approx(
            [0.9, 6 / 9, 5 / 6, 0.4, 0.5]
        )
        assert sms.reached == (6, 6, 4, 4, 1, 1)  # SMS reports no connection: loss at acceptance

    def test_a_channel_that_never_reports_a_connection_is_named(self, campaign):
        assert funnel(*campaign).silent_channels == ("sms",)

    def test_parts_add_up_to_the_whole(self, campaign):
        result = funnel(*campaign)
        for parts in (result.by_channel, result.by_offer, result.by_org_unit, result.by_script):
            assert tuple(map(sum, zip(*(row.reached for row in parts), strict=True))) == (
                result.overall.reached
            )
            assert sum(row.ends.total for row in parts) == 16

    def test_the_break_is_where_most_are_lost_and_never_the_suppression(self, campaign):
        result = funnel(*campaign)
        outbound = result.by_channel[0].break_point
        # three are lost before delivery and three at acceptance: the earlier step is named
        assert (outbound.before, outbound.after, outbound.lost) == ("sent", "delivered", 3)
        sms = result.by_channel[1].break_point
        assert (sms.after, sms.lost) == ("accepted", 3)
        mostly_suppressed = funnel(
            plan(*((f"{i}", "sms", "o", "u") for i in range(5))),
            seen(*((f"{i}", "suppressed") for i in range(4)), ("4", "failed")),
        )
        assert mostly_suppressed.overall.break_point.after == "delivered"

    def test_order_of_rows_and_repeats_do_not_matter(self, campaign):
        assignments, outcomes = campaign
        shuffled = outcomes.take(random_stream(1, "rows").permutation(outcomes.num_rows))
        again = funnel(assignments, pa.concat_tables([shuffled, outcomes]))
        assert again.overall == funnel(assignments, outcomes).overall
        assert again.reasons == funnel(assignments, outcomes).reasons

    def test_contacts_of_suppressed_customers_are_reported(self):
        result = funnel(
            plan(("a", "sms", "o", "u"), ("b", "sms", "o", "u")),
            seen(("a", "suppressed"), ("a", "delivered"), ("b", "suppressed")),
        )
        assert result.conflicts == 1
        assert result.overall.ends == Ends(suppressed=1, delivered=1)

    def test_outcomes_without_assignment_are_counted_and_left_out(self, campaign):
        assignments, outcomes = campaign
        stray = pa.concat_tables([outcomes, seen(("zz", "ordered"))])
        assert funnel(assignments, stray).strays == 1
        assert funnel(assignments, stray).overall == funnel(assignments, outcomes).overall

    def test_reasons_are_counted_per_channel_and_state(self, campaign):
        first = funnel(*campaign).reasons[0]
        assert (first.channel, first.state, first.reason, first.count) == (
            "outbound", "refused", "too dear", 2,
        )  # fmt: skip

    def test_an_empty_plan_is_an_empty_funnel(self):
        empty = pa.table(
            {"assignment_id": pa.array([], "string"), "channel": pa.array([], "string")}
        )
        result = funnel(empty, seen(("a", "ordered")))
        assert result.overall.reached == (0,) * 6
        assert result.overall.break_point is None
        assert result.overall.order_rate is None

    def test_a_repeated_assignment_is_refused(self):
        twice = plan(("a", "sms", "o", "u"), ("a", "sms", "o", "u"))
        with pytest.raises(EvaluationInputError, match="more than once"):
            funnel(twice, seen(("a", "ordered")))


class TestReviewProcess:
    def test_names_the_break_the_advice_and_the_reason(self, campaign):
        findings = {finding.channel: finding for finding in review_process(funnel(*campaign))}
        assert findings["outbound"].step.after == "delivered"
        assert findings["outbound"].top_reason == "no such number"
        assert findings["sms"].step.after == "accepted"
        assert "卖点" in findings["sms"].advice.zh

    def test_largest_loss_first_and_no_finding_without_loss(self):
        result = funnel(plan(("a", "sms", "o", "u")), seen(("a", "ordered")))
        assert review_process(result) == ()


class TestSampleLost:
    def test_draws_only_what_was_lost_there(self, campaign):
        assignments, outcomes = campaign
        finding = review_process(funnel(assignments, outcomes))[0]
        assert finding.channel == "outbound"
        rng = random_stream(1, "sample")
        drawn = sample_lost(assignments, outcomes, finding, 2, rng)
        assert drawn.num_rows == 2
        everything = sample_lost(assignments, outcomes, finding, 99, rng)
        assert everything["assignment_id"].to_pylist() == ["c1", "c2", "c3"]

    def test_a_silent_channel_gives_what_was_delivered_in_vain(self, campaign):
        assignments, outcomes = campaign
        finding = review_process(funnel(assignments, outcomes))[1]
        drawn = sample_lost(assignments, outcomes, finding, 99, random_stream(1, "sample"))
        assert drawn["assignment_id"].to_pylist() == ["s0", "s1", "s2"]


class TestOneRule:
    """The funnel and the fold of outcomes tell the same end of every assignment."""

    @pytest.mark.parametrize("seed", range(20))
    def test_any_outcomes_in_any_order_end_alike(self, seed):
        rng = np.random.default_rng(seed)
        stages, n = list(STAGE_RANKS), 60
        ids = [f"a{i}" for i in range(n)]
        plan = pa.table(
            {
                "assignment_id": ids, "channel": ["outbound"] * n, "deployment_id": ["d"] * n,
                "campaign_id": ["c"] * n, "customer_id": ids, "offer_id": ["o"] * n,
                "org_unit_id": ["u"] * n, "valid_until": [date(2026, 11, 30)] * n,
            }
        )  # fmt: skip
        k = 200
        at = [datetime(2026, 11, 2, tzinfo=UTC) + timedelta(hours=int(h)) for h in
              rng.integers(0, 6, k)]  # fmt: skip
        outcomes = pa.table(
            {
                "outcome_id": [f"o{i:03d}" for i in range(k)],
                "assignment_id": [ids[i] for i in rng.integers(0, n - 5, k)],
                "stage": [stages[i] for i in rng.integers(0, len(stages), k)],
                "occurred_at": at,
                "amount": pa.nulls(k, pa.decimal128(18, 2)),
                "cost": pa.nulls(k, pa.decimal128(18, 2)),
                "reason": pa.nulls(k, pa.string()),
            }
        )
        folded = fold_outcomes(plan, outcomes, today=date(2026, 11, 3))
        ends = funnel(plan, outcomes).overall.ends
        counts = Counter(folded["state"].to_pylist())
        assert {s: getattr(ends, s) for s in (*stages, "pending")} == {
            s: counts.get(s, 0) for s in (*stages, "pending")
        }

    def test_of_delivered_and_failed_the_later_counts(self):
        plan = pa.table({"assignment_id": ["a", "b"], "channel": ["sms", "sms"]})
        early, late = datetime(2026, 11, 2, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
        outcomes = pa.table(
            {
                "assignment_id": ["a", "a", "b", "b"],
                "stage": ["delivered", "failed", "delivered", "failed"],
                "occurred_at": [early, late, late, early],
            }
        )
        assert funnel(plan, outcomes).overall.ends == Ends(failed=1, delivered=1)
