"""The final gate: every reason, at its border, and never a silent drop."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bihuan.delivery import (
    RECEIPT_SCHEMA,
    ContactHours,
    FinalGate,
    GatePolicy,
    load_opt_outs,
    no_opt_outs,
)
from bihuan.delivery.channel import UnknownChannelError
from bihuan.delivery.final_gate import GATE_REASONS, OPT_OUT_SCHEMA, OptOutUnknownError
from bihuan.kernel import DefectError

MORNING = datetime(2026, 11, 2, 2, 0, tzinfo=UTC)  # 10:00 in Shanghai


def opt_out(customer: str, channel: str | None, since: date | None, kind: str = "no_marketing"):
    row = {"customer_id": customer, "kind": kind, "channel": channel, "since": since}
    return pa.Table.from_pylist([row], schema=OPT_OUT_SCHEMA)


def held(gate: FinalGate, rows: pa.Table, now: datetime = MORNING) -> dict[str, str]:
    """Return the reason for each assignment that the gate holds back."""
    result = gate.check(rows, now)
    assert result.sent.num_rows + result.suppressed.num_rows == rows.num_rows
    return {row["assignment_id"]: row["reason"] for row in result.suppressed.to_pylist()}


@pytest.fixture
def gate_with(engine):
    def make(opt_outs: pa.Table | None = None, **policy: object) -> FinalGate:
        return FinalGate(GatePolicy(**policy), opt_outs or no_opt_outs(), engine)

    return make


class TestOptOut:
    def test_holds_all_channels_or_one(self, gate_with, assignments):
        first = assignments.slice(0, 1).to_pylist()[0]
        customer, channel = first["customer_id"], first["channel"]
        other = "sms" if channel != "sms" else "app"
        for name, expected in (("all", 1), (channel, 1), (other, 0), (None, 1)):
            reasons = held(gate_with(opt_out(customer, name, date(2026, 11, 2))), assignments)
            assert list(reasons.values()) == ["opt_out"] * expected, name

    def test_holds_from_its_date_on(self, gate_with, assignments):
        customer = assignments["customer_id"][0].as_py()
        for since, expected in (
            (date(2026, 11, 2), 1),
            (date(2026, 11, 3), 0),
            (date(2020, 1, 1), 1),
            (None, 1),
        ):
            reasons = held(gate_with(opt_out(customer, "all", since)), assignments)
            assert len(reasons) == expected, since

    def test_its_day_begins_in_the_market(self, gate_with, assignments):
        customer = assignments["customer_id"][0].as_py()
        gate = gate_with(opt_out(customer, "all", date(2026, 11, 3)))
        late = datetime(2026, 11, 2, 16, 30, tzinfo=UTC)  # half past midnight in Shanghai
        assert "opt_out" in held(gate, assignments, late).values()

    def test_repeated_refusals_hold_a_row_once(self, gate_with, assignments):
        customer = assignments["customer_id"][0].as_py()
        channel = assignments["channel"][0].as_py()
        rows = [opt_out(customer, name, date(2026, 1, 1)) for name in ("all", channel, "all")]
        assert len(held(gate_with(pa.concat_tables(rows)), assignments)) == 1

    def test_refusing_profiling_is_another_thing(self, gate_with, assignments):
        customer = assignments["customer_id"][0].as_py()
        refusal = opt_out(customer, "all", date(2026, 1, 1), "no_profiling")
        assert held(gate_with(refusal), assignments) == {}

    def test_who_refuses_profiling_is_not_sent_what_a_profile_chose(self, gate_with, assignments):
        customer = assignments["customer_id"][0].as_py()
        mine = assignments.filter(pc.equal(assignments["customer_id"], customer))
        for since, expected in ((date(2026, 1, 1), "no_profiling"), (date(2027, 1, 1), None)):
            gate = gate_with(opt_out(customer, "hall", since, "no_profiling"))
            gate = replace(gate, policy=replace(gate.policy, profiles=True))
            reasons = held(gate, assignments)
            wanted = set(mine["assignment_id"].to_pylist()) if expected else set()
            assert set(reasons) == wanted
            assert set(reasons.values()) == ({expected} if expected else set())

    def test_not_knowing_is_not_nobody(self, lake, clock):
        with pytest.raises(OptOutUnknownError, match="opt_out"):
            load_opt_outs(lake.view())
        with lake.publication(clock) as publication:
            publication.add("opt_out", date(2026, 10, 31), opt_out("c", "all", date(2026, 1, 1)))
        assert load_opt_outs(lake.view()).num_rows == 1


class TestValidity:
    def test_window_is_closed_at_both_ends(self, gate_with, assignments):
        gate = gate_with()
        reasons = {
            day: set(held(gate, assignments, MORNING + timedelta(days=day)).values())
            for day in (-1, 0, 13, 14)
        }
        assert reasons == {-1: {"not_yet_valid"}, 0: set(), 13: set(), 14: {"expired"}}

    def test_what_is_too_late_has_the_stage_expired(self, gate_with, assignments):
        result = gate_with().check(assignments, MORNING + timedelta(days=20))
        assert set(result.suppressed["stage"].to_pylist()) == {"expired"}
        assert result.reasons == {"expired": assignments.num_rows}

    def test_no_window_means_no_sending(self, gate_with, assignments):
        at = assignments.schema.get_field_index("valid_until")
        rows = assignments.set_column(
            at, "valid_until", pa.nulls(assignments.num_rows, pa.date32())
        )
        assert set(held(gate_with(), rows).values()) == {"expired"}


class TestQuietHours:
    @pytest.mark.parametrize(
        ("hour", "minute", "quiet"), [(0, 59, True), (1, 0, False), (11, 59, False), (12, 0, True)]
    )
    def test_default_is_nine_to_eight_in_the_market(
        self, gate_with, assignments, hour, minute, quiet
    ):
        now = MORNING.replace(hour=hour, minute=minute)
        result = gate_with().check(assignments, now)
        disturbing = {"outbound", "sms", "app", "account_manager", "wechat"}
        assert set(result.suppressed["channel"].to_pylist()) == (disturbing if quiet else set())

    def test_a_hall_waits_for_the_customer(self, gate_with, assignments):
        result = gate_with().check(assignments, MORNING.replace(hour=20))
        assert set(result.sent["channel"].to_pylist()) == {"hall"}

    def test_policy_by_channel(self, gate_with, assignments):
        gate = gate_with(hours={"sms": ContactHours(time(12), time(13)), "outbound": None})
        assert set(gate.policy.quiet_channels(MORNING)) == {"sms"}
        night = MORNING.replace(hour=18)
        assert "outbound" in gate.check(assignments, night).sent["channel"].to_pylist()

    def test_lists_may_be_written_at_night(self, engine, assignments):
        gate = FinalGate(GatePolicy.for_lists(), no_opt_outs(), engine)
        # 18:00 UTC is two in the morning of the next day, still within the validity
        assert held(gate, assignments, MORNING.replace(hour=18)) == {}

    def test_another_zone(self, gate_with, assignments):
        gate = gate_with(zone="America/New_York")  # 21:00 of the day before
        assert "sms" in gate.policy.quiet_channels(MORNING)

    def test_unknown_channel_is_refused(self):
        with pytest.raises(UnknownChannelError):
            GatePolicy(hours={"pigeon": None})


class TestStopSwitch:
    def test_everything_a_campaign_or_a_channel(self, gate_with, assignments):
        n = assignments.num_rows
        sms = pc.sum(pc.equal(assignments["channel"], "sms")).as_py()
        for policy, expected in (
            ({"stop_all": True}, n),
            ({"stopped_campaigns": frozenset({"autumn"})}, n),
            ({"stopped_campaigns": frozenset({"spring"})}, 0),
            ({"stopped_channels": frozenset({"sms"})}, sms),
        ):
            assert list(held(gate_with(**policy), assignments).values()) == ["stopped"] * expected

    @pytest.mark.parametrize(
        "part",
        [("sms", ""), ("", "grid-01"), ("sms", "grid-01"), ("", ""), ("sms", "nowhere")],
    )
    def test_parts_by_channel_and_unit(self, gate_with, assignments, part):
        channel, unit = part
        wanted = {
            row["assignment_id"]
            for row in assignments.to_pylist()
            if channel in ("", row["channel"]) and unit in ("", row["org_unit_id"])
        }
        assert set(held(gate_with(stopped_parts=frozenset({part})), assignments)) == wanted

    def test_rows_of_no_unit_stop_with_everything_only(self, gate_with, assignments):
        at = assignments.schema.get_field_index("org_unit_id")
        nowhere = pa.nulls(assignments.num_rows, pa.string())
        rows = assignments.set_column(at, "org_unit_id", nowhere)
        assert held(gate_with(stopped_parts=frozenset({("", "grid-01")})), rows) == {}
        everything = held(gate_with(stopped_parts=frozenset({("", "")})), rows)
        assert len(everything) == rows.num_rows

    def test_a_lasting_reason_is_named_before_a_passing_one(self, gate_with, assignments):
        customer = assignments["customer_id"][0].as_py()
        gate = gate_with(opt_out(customer, "all", date(2026, 1, 1)), stop_all=True)
        assert sorted(set(held(gate, assignments).values())) == ["opt_out", "stopped"]


class TestNothingIsLost:
    def test_suppressed_rows_are_outcomes(self, gate_with, assignments):
        result = gate_with(stop_all=True).check(assignments, MORNING)
        assert result.suppressed.schema.equals(RECEIPT_SCHEMA)
        assert set(result.suppressed["reason"].to_pylist()) <= set(GATE_REASONS)
        assert result.sent.schema == assignments.schema

    def test_the_same_check_writes_the_same_rows(self, gate_with, assignments):
        gate = gate_with(stop_all=True)
        assert (
            gate.check(assignments, MORNING).suppressed
            == gate.check(assignments, MORNING).suppressed
        )

    def test_no_assignments(self, gate_with, assignments):
        result = gate_with().check(assignments.slice(0, 0), MORNING)
        assert (result.sent.num_rows, result.suppressed.num_rows) == (0, 0)

    def test_a_gate_that_drops_silently_is_caught(self, assignments, engine):
        """The seeded defect: what may not be sent is filtered away instead of reported."""

        class DroppingGate(FinalGate):
            def _judge(self, assignments: pa.Table, now: datetime) -> pa.Table:
                judged = FinalGate._judge(self, assignments, now)
                return judged.filter(pc.is_null(judged["reason"]))

        gate = DroppingGate(GatePolicy(stopped_channels=frozenset({"sms"})), no_opt_outs(), engine)
        with pytest.raises(DefectError, match="pass or hold every assignment"):
            gate.check(assignments, MORNING)

    def test_a_gate_that_doubles_rows_is_caught(self, assignments, engine):
        class DoublingGate(FinalGate):
            def _judge(self, assignments: pa.Table, now: datetime) -> pa.Table:
                judged = FinalGate._judge(self, assignments, now)
                return pa.concat_tables([judged.slice(0, judged.num_rows - 1), judged.slice(0, 1)])

        with pytest.raises(DefectError, match="pass or hold"):
            DoublingGate(GatePolicy(), no_opt_outs(), engine).check(assignments, MORNING)
