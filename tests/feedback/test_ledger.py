"""Both rooms together: gate, file channel, front line, and the sum at the end."""

from __future__ import annotations

from datetime import timedelta

import pyarrow.compute as pc
import pytest

from bihuan.delivery import FileChannel, FinalGate, GatePolicy, dispatch, no_opt_outs
from bihuan.feedback import OutcomeLedger
from bihuan.kernel import DefectError


@pytest.fixture
def ledger(world):
    return OutcomeLedger(
        world.lake, world.deployment, world.quarantine, world.clock, engine=world.engine
    )


@pytest.fixture
def send(world, ledger):
    """Send what may be sent, through lists."""

    def run(**policy):
        return dispatch(
            world.assignments,
            FileChannel(world.folder / "out", clock=world.clock, engine=world.engine),
            gate=FinalGate(GatePolicy(**policy), no_opt_outs(), world.engine),
            states=ledger.states(),
            record=ledger.record,
            clock=world.clock,
            engine=world.engine,
        )

    return run


class TestLedger:
    def test_every_assignment_is_accounted_for(self, world, ledger, send, make_outcomes):
        assert ledger.reconcile().pending == 60
        done = send(stopped_channels=frozenset({"sms"}))
        assert (done.suppressed, done.sent) == (20, 40)
        found = ledger.reconcile()
        assert (found.suppressed, found.unknown, found.pending) == (20, 40, 0)
        rows = world.assignments
        calls = rows.filter(pc.equal(rows["channel"], "outbound"))
        world.ingest(make_outcomes(calls, "refused"))
        found = ledger.reconcile()
        assert (found.delivered, found.unknown, found.is_done) == (20, 20, False)

    def test_a_second_round_lists_only_what_was_held(self, world, ledger, send):
        send(stopped_channels=frozenset({"sms"}))
        world.clock.advance(timedelta(minutes=30))
        again = send()
        assert (again.repeated, again.suppressed, again.sent) == (40, 0, 20)
        listed = (world.folder / "out").rglob("*.csv")
        lines = sum(len(path.read_bytes().splitlines()) - 1 for path in listed)
        assert lines == 60
        assert ledger.reconcile().unknown == 60

    def test_a_third_round_after_a_restart_changes_nothing(self, world, ledger, send):
        send()
        head = world.head
        send()
        assert world.head == head

    def test_validity_ends_what_was_never_sent(self, world, ledger):
        world.clock.advance(timedelta(days=30))
        assert ledger.reconcile().expired == 60

    def test_an_outcome_that_cannot_be_stored_stops_the_sending(self, world, ledger, make_outcomes):
        with pytest.raises(DefectError, match="unknown_stage"):
            ledger.record(make_outcomes(world.assignments, "nonsense"))
