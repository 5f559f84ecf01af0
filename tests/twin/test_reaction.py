"""Reactions follow the hidden truth, whatever the order and however often they are asked for."""

from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bihuan.kernel import DefectError, SystemClock, hash_id
from bihuan.twin import SimulatedChannels, Truth, draw_truth, next_month
from bihuan.twin.truth import COMPLETION

N = 40_000
IDS = [f"c{i:06d}" for i in range(N)]


@pytest.fixture(scope="module")
def truth() -> Truth:
    logit = np.linspace(-3, 1, N)
    return draw_truth(IDS, logit, ("gift", "fee"), seed=3)


@pytest.fixture(scope="module")
def assignments() -> pa.Table:
    return pa.table(
        {
            "assignment_id": [hash_id("d", customer) for customer in IDS],
            "deployment_id": ["d"] * N,
            "customer_id": IDS,
            "offer_id": ["gift", "fee"] * (N // 2),
            "channel": ["outbound"] * N,
            "valid_from": [date(2026, 11, 1)] * N,
        }
    )


@pytest.fixture(scope="module")
def outcomes(truth: Truth, assignments: pa.Table) -> pa.Table:
    return channels(truth).send(assignments)


def channels(truth: Truth) -> SimulatedChannels:
    return SimulatedChannels(truth, {"outbound": 2.0}, {"gift": 10.0}, seed=3, clock=SystemClock())


def count(outcomes: pa.Table, stage: str) -> int:
    return int(pc.sum(pc.equal(outcomes["stage"], stage)).as_py())


class TestSend:
    def test_shares_follow_the_truth(self, truth: Truth, outcomes: pa.Table) -> None:
        rows = np.arange(N)
        trait = truth.channels["outbound"]
        accept = np.where(rows % 2 == 0, truth.accept(rows, "gift", "outbound"),
                          truth.accept(rows, "fee", "outbound"))  # fmt: skip
        connected = trait.delivered * truth.connect(rows, "outbound")
        tolerance = 4 * np.sqrt(N) / 2  # four standard deviations of a count
        assert abs(count(outcomes, "delivered") - N * trait.delivered) < tolerance
        assert abs(count(outcomes, "connected") - connected.sum()) < tolerance
        assert abs(count(outcomes, "accepted") - (connected * accept).sum()) < tolerance
        ordered = COMPLETION * (connected * accept).sum()
        assert abs(count(outcomes, "ordered") - ordered) < tolerance

    def test_every_assignment_arrives_or_fails(self, outcomes: pa.Table) -> None:
        assert count(outcomes, "delivered") + count(outcomes, "failed") == N

    def test_sending_again_or_in_another_order_changes_nothing(
        self, truth: Truth, assignments: pa.Table, outcomes: pa.Table
    ) -> None:
        shuffled = assignments.take(np.random.default_rng(1).permutation(N))
        again = channels(truth).send(shuffled)
        assert again.sort_by("outcome_id") == outcomes.sort_by("outcome_id")

    def test_an_unknown_customer_is_our_defect(self, truth: Truth, assignments: pa.Table) -> None:
        stranger = assignments.slice(0, 1).set_column(2, "customer_id", pa.array(["x"]))
        with pytest.raises(DefectError, match="does not simulate"):
            channels(truth).send(stranger)

    def test_nobody_to_send_to(self, truth: Truth, assignments: pa.Table) -> None:
        assert channels(truth).send(assignments.slice(0, 0)).num_rows == 0


class TestNextMonth:
    def test_effect_is_the_truth(
        self, truth: Truth, assignments: pa.Table, outcomes: pa.Table
    ) -> None:
        effects = truth.effect_on_retention(
            IDS, assignments["offer_id"].to_pylist(), assignments["channel"].to_pylist()
        )
        with_contact = next_month(truth, outcomes, assignments, seed=11)
        without = next_month(truth, outcomes.slice(0, 0), assignments.slice(0, 0), seed=11)
        stayed = pc.mean(pc.invert(with_contact["left_in_month"])).as_py()
        would_have = pc.mean(pc.invert(without["left_in_month"])).as_py()
        # common draws of fate: the difference is far less noisy than either share
        assert stayed - would_have == pytest.approx(effects.mean(), abs=0.006)
        assert effects.mean() > 0.01

    def test_fate_is_one_draw_per_customer(self, truth: Truth, assignments: pa.Table) -> None:
        nothing = assignments.slice(0, 0)
        none = pa.table({"stage": pa.array([], pa.string()),
                         "customer_id": pa.array([], pa.string())})  # fmt: skip
        assert next_month(truth, none, nothing, seed=2) == next_month(truth, none, nothing, seed=2)

    def test_a_contact_can_drive_away(self, truth: Truth) -> None:
        effects = truth.effect_on_retention(IDS, ["gift"] * N, ["outbound"] * N)
        assert (effects < 0).any()
