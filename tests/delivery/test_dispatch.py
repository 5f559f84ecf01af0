"""One round of sending with a crash in it: nobody is reached twice, nothing is unrecorded."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bihuan.delivery import (
    Dispatch,
    FileChannel,
    FinalGate,
    GatePolicy,
    dispatch,
    no_opt_outs,
    receipt_rows,
)
from bihuan.kernel import DefectError


class Gateway:
    """A gateway in memory that keeps its own ledger, and may die before it answers."""

    def __init__(self, engine, clock) -> None:
        self.engine, self.clock = engine, clock
        self.ledger: list[str] = []
        self.dies = False

    def send(self, assignments: pa.Table) -> pa.Table:
        self.ledger += assignments["assignment_id"].to_pylist()
        if self.dies:
            raise ConnectionError
        return receipt_rows(
            assignments,
            stage="delivered",
            reason="ok",
            occurred_at=self.clock.now(),
            source="gateway",
            engine=self.engine,
        )


def newest_states(recorded: list[pa.Table]) -> pa.Table:
    """Return the last stage written of each assignment."""
    states: dict[str, dict[str, str]] = {}
    for rows in recorded:
        for row in rows.to_pylist():
            states[row["assignment_id"]] = {"state": row["stage"], "reason": row["reason"]}
    rows = [{"assignment_id": key} | row for key, row in states.items()]
    names = ("assignment_id", "state", "reason")
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names]))


@pytest.fixture
def sms(assignments):
    return assignments.filter(pc.equal(assignments["channel"], "sms"))


@pytest.fixture
def gateway(engine, clock):
    return Gateway(engine, clock)


@pytest.fixture
def run(gateway, engine, clock):
    """Run a round with the given states and record."""

    def go(rows, states, record, **policy):
        gate = FinalGate(GatePolicy(**policy), no_opt_outs(), engine)
        return dispatch(
            rows, gateway, gate=gate, states=states, record=record, clock=clock, engine=engine
        )

    return go


class TestDispatch:
    def test_parts_make_up_the_whole(self, run, assignments):
        recorded: list[pa.Table] = []
        done = run(assignments, None, recorded.append, stopped_channels=frozenset({"sms"}))
        assert done.planned == done.repeated + done.suppressed + done.sent == assignments.num_rows
        assert done.reasons == {"stopped": done.suppressed}
        assert done.receipts.num_rows == done.sent

    def test_second_round_sends_nobody_again(self, run, gateway, assignments):
        recorded: list[pa.Table] = []
        run(assignments, None, recorded.append)
        again = run(assignments, newest_states(recorded), recorded.append)
        assert (again.sent, again.repeated) == (0, assignments.num_rows)
        assert len(gateway.ledger) == len(set(gateway.ledger)) == assignments.num_rows

    def test_crash_between_send_and_receipt_leaves_unknown_and_no_resend(self, run, gateway, sms):
        recorded: list[pa.Table] = []
        gateway.dies = True
        with pytest.raises(ConnectionError):
            run(sms, None, recorded.append)
        gateway.dies = False
        states = newest_states(recorded)
        assert set(states["state"].to_pylist()) == {"unknown"}
        again = run(sms, states, recorded.append)
        assert (again.sent, again.repeated) == (0, sms.num_rows)
        assert len(gateway.ledger) == len(set(gateway.ledger)) == sms.num_rows

    def test_recording_only_after_the_send_would_send_twice(self, run, gateway, sms):
        """The seeded defect: without the write-ahead record the check above fails."""
        recorded: list[pa.Table] = []

        def late(rows: pa.Table) -> None:
            if "intent" not in rows["reason"].to_pylist():
                recorded.append(rows)

        gateway.dies = True
        with pytest.raises(ConnectionError):
            run(sms, None, late)
        gateway.dies = False
        run(sms, newest_states(recorded), late)
        assert len(gateway.ledger) == 2 * len(set(gateway.ledger))

    def test_a_keyed_channel_is_asked_again(self, run, gateway, assignments):
        app = assignments.filter(pc.equal(assignments["channel"], "app"))
        recorded: list[pa.Table] = []
        gateway.dies = True
        with pytest.raises(ConnectionError):
            run(app, None, recorded.append)
        gateway.dies = False
        assert run(app, newest_states(recorded), recorded.append).sent == app.num_rows

    def test_a_channel_that_keeps_silent_is_a_defect(self, run, gateway, sms):
        gateway.send = lambda rows: receipt_rows(
            rows.slice(1),
            stage="delivered",
            reason="ok",
            occurred_at=gateway.clock.now(),
            source="gateway",
            engine=gateway.engine,
        )
        with pytest.raises(DefectError, match="no receipt for 1"):
            run(sms, None, lambda rows: None)

    def test_suppressed_rows_are_recorded_before_anything_is_sent(self, run, gateway, assignments):
        seen: list[int] = []
        run(
            assignments,
            None,
            lambda rows: seen.append(len(gateway.ledger)),
            stopped_channels=frozenset({"sms"}),
        )
        assert seen[:2] == [0, 0]  # suppressed rows and intents
        assert seen[2] > 0  # receipts

    def test_lists_interrupted_after_the_gate_are_written_by_the_next_round(
        self, engine, clock, assignments, tmp_path, monkeypatch
    ):
        lists = FileChannel(tmp_path, clock=clock, engine=engine)
        gate = FinalGate(GatePolicy(), no_opt_outs(), engine)
        recorded: list[pa.Table] = []

        def run(states: pa.Table | None) -> Dispatch:
            return dispatch(
                assignments,
                lists,
                gate=gate,
                states=states,
                record=recorded.append,
                clock=clock,
                engine=engine,
            )

        def full(*_: object) -> None:
            raise OSError

        with monkeypatch.context() as patch:
            patch.setattr(FileChannel, "_format", full)
            with pytest.raises(OSError):  # noqa: PT011 - the disk is full
                run(None)
        assert sum(rows.num_rows for rows in recorded) == 0  # no intent stands in the way
        assert run(None).sent == assignments.num_rows
        again = run(newest_states(recorded))
        assert (again.sent, again.repeated) == (0, assignments.num_rows)
