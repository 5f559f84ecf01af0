"""The register of channel kinds, receipts, and the guard against sending twice."""

from __future__ import annotations

from datetime import time

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bihuan.data import load_contracts
from bihuan.delivery import (
    CHANNEL_KINDS,
    RECEIPT_SCHEMA,
    TOUCHPOINTS,
    ContactHours,
    Stage,
    guard_repeats,
    receipt_rows,
)
from bihuan.delivery.channel import UnknownChannelError
from bihuan.kernel import DefectError, UserError


class TestRegister:
    def test_knows_every_kind_of_the_channel_contract(self):
        assert set(CHANNEL_KINDS) == set(load_contracts()["channel"]["kind"].codes)

    def test_names_the_six_touchpoints(self):
        assert TOUCHPOINTS == ("outbound", "sms", "app", "hall", "account_manager", "wechat")

    def test_every_kind_has_both_titles(self):
        assert all(set(kind.title) == {"zh", "en"} for kind in CHANNEL_KINDS.values())

    def test_a_dialler_and_plain_sms_take_no_key(self):
        assert not CHANNEL_KINDS["outbound"].is_keyed
        assert not CHANNEL_KINDS["sms"].is_keyed
        assert CHANNEL_KINDS["app"].is_keyed

    def test_only_active_kinds_disturb(self):
        assert all(kind.is_active for kind in CHANNEL_KINDS.values() if kind.hours)

    def test_unknown_kind_lists_the_known(self):
        assert "account_manager" in UnknownChannelError.of("pigeon").remedy


class TestContactHours:
    def test_opening_is_included_and_closing_is_not(self):
        hours = ContactHours(time(9), time(20))
        assert [hours.contain(time(h, m)) for h, m in ((8, 59), (9, 0), (19, 59), (20, 0))] == [
            False,
            True,
            True,
            False,
        ]

    def test_must_open_before_they_close(self):
        with pytest.raises(UserError, match="cannot open"):
            ContactHours(time(20), time(9))


class TestReceiptRows:
    def test_have_the_schema_and_one_row_each(self, assignments, clock, engine):
        rows = receipt_rows(
            assignments,
            stage="delivered",
            reason=None if "reason" in assignments.column_names else "ok",
            occurred_at=clock.now(),
            source="gateway",
            engine=engine,
        )
        assert rows.schema.equals(RECEIPT_SCHEMA)
        assert rows.num_rows == assignments.num_rows
        assert rows["cost"].null_count == rows.num_rows

    def test_the_same_receipt_has_the_same_id_and_another_has_another(
        self, assignments, clock, engine
    ):
        def ids(stage: str) -> list[str]:
            rows = receipt_rows(
                assignments,
                stage=stage,
                reason="x",
                occurred_at=clock.now(),
                source="s",
                engine=engine,
            )
            return sorted(rows["outcome_id"].to_pylist())

        assert ids("delivered") == ids("delivered")
        assert set(ids("delivered")).isdisjoint(ids("failed"))


class TestGuardRepeats:
    def states(self, rows: pa.Table, **state_by_channel: str) -> pa.Table:
        states = [state_by_channel.get(c, "pending") for c in rows["channel"].to_pylist()]
        reasons = pa.nulls(rows.num_rows, pa.string())
        return pa.table(
            {"assignment_id": rows["assignment_id"], "state": states, "reason": reasons}
        )

    def test_nothing_sent_yet(self, assignments, engine):
        fresh, repeated = guard_repeats(assignments, None, engine)
        assert fresh.num_rows == assignments.num_rows
        assert repeated.num_rows == 0

    def test_an_assignment_without_a_state_is_pending(self, assignments, engine):
        none = self.states(assignments).slice(0, 0)
        fresh, _ = guard_repeats(assignments, none, engine)
        assert fresh.num_rows == assignments.num_rows

    @pytest.mark.parametrize("state", ["delivered", "failed", "expired", "connected", "ordered"])
    def test_settled_assignments_are_not_sent_again(self, assignments, engine, state):
        fresh, repeated = guard_repeats(assignments, self.states(assignments, app=state), engine)
        assert set(repeated["channel"].to_pylist()) == {"app"}
        assert fresh.num_rows + repeated.num_rows == assignments.num_rows
        assert "app" not in fresh["channel"].to_pylist()

    def test_unknown_is_asked_again_only_where_there_is_a_key(self, assignments, engine):
        states = self.states(assignments, app="unknown", sms="unknown", outbound="unknown")
        _, repeated = guard_repeats(assignments, states, engine)
        assert set(repeated["channel"].to_pylist()) == {"sms", "outbound"}

    def test_what_stands_on_a_list_is_not_sent_another_way(self, assignments, engine):
        states = self.states(assignments, app="unknown")
        states = states.set_column(2, "reason", [["listed"] * assignments.num_rows])
        _, repeated = guard_repeats(assignments, states, engine)
        assert set(repeated["channel"].to_pylist()) == {"app"}

    def test_suppressed_may_be_sent_later(self, assignments, engine):
        _, repeated = guard_repeats(assignments, self.states(assignments, sms="suppressed"), engine)
        assert repeated.num_rows == 0

    def test_two_states_for_one_assignment_are_a_defect(self, assignments, engine):
        states = self.states(assignments)
        with pytest.raises(DefectError, match="met"):
            guard_repeats(assignments, pa.concat_tables([states, states]), engine)

    def test_stages_are_the_codes_of_the_outcome(self):
        assert {stage.value for stage in Stage} >= {"unknown", "suppressed", "delivered"}

    def test_columns_stay(self, assignments, engine):
        fresh, repeated = guard_repeats(assignments, self.states(assignments, app="failed"), engine)
        assert fresh.schema == repeated.schema
        assert fresh.column_names == assignments.column_names
        assert pc.count_distinct(fresh["assignment_id"]).as_py() == fresh.num_rows
