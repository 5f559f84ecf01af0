"""What happened becomes contact history and responses: the loop closes in the data."""

from __future__ import annotations

from datetime import date, timedelta

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from bihuan.data import load_contracts
from bihuan.feedback import publish_contacts, response_by_customer
from bihuan.kernel import DefectError

NOVEMBER = date(2026, 11, 30)
CONTACT = load_contracts()["contact"]


def publish(world) -> dict[date, int]:
    return publish_contacts(world.lake, world.deployment, clock=world.clock, engine=world.engine)


def contacts(world, month: date = NOVEMBER) -> pa.Table:
    return world.lake.view().get("contact", month).read()


def results(world) -> dict[str, str]:
    return {row["contact_id"]: row["result"] for row in contacts(world).to_pylist()}


class TestPublishContacts:
    @pytest.mark.parametrize(
        ("stage", "reason", "result", "success"),
        [
            ("delivered", None, "no_answer", False),
            ("failed", "wrong_number", "not_delivered", False),
            ("connected", None, "no_answer", False),
            ("connected", "busy;interested", "interested", False),
            ("connected", "disinterested", "no_answer", False),
            ("refused", None, "refused", False),
            ("accepted", None, "accepted", True),
            ("ordered", None, "accepted", True),
            ("unknown", "intent", "no_answer", False),
        ],
    )
    def test_each_end_has_its_result(self, world, make_outcomes, stage, reason, result, success):
        rows = make_outcomes(world.assignments.slice(0, 1), stage, reason=pa.array([reason]))
        world.ingest(rows)
        assert publish(world) == {NOVEMBER: 1}
        (row,) = contacts(world).to_pylist()
        assert (row["result"], row["is_success"]) == (result, success)
        assert row["contact_id"] == rows["assignment_id"][0].as_py()
        assert row["campaign_id"] == "autumn"

    @pytest.mark.parametrize(
        ("stage", "reason"),
        [("suppressed", "opt_out"), ("expired", "expired"), ("unknown", "listed")],
    )
    def test_what_reached_nobody_is_no_contact(self, world, make_outcomes, stage, reason):
        world.ingest(make_outcomes(world.assignments, stage, reason=[reason] * 60))
        assert publish(world) == {}
        assert "contact" not in world.lake.view().tables

    def test_keeps_the_contract(self, world, make_outcomes):
        world.ingest(make_outcomes(world.assignments))
        publish(world)
        assert contacts(world).schema.equals(CONTACT.schema)

    def test_again_changes_no_row_and_more_outcomes_bring_it_up_to_date(self, world, make_outcomes):
        world.ingest(make_outcomes(world.assignments))
        publish(world)
        first = contacts(world)
        publish(world)
        assert contacts(world) == first
        world.ingest(make_outcomes(world.assignments.slice(0, 5), "refused"))
        assert publish(world) == {NOVEMBER: 60}
        assert sorted(results(world).values()).count("refused") == 5

    def test_rows_of_other_origin_stay(self, world, make_outcomes):
        other = CONTACT.schema.empty_table().to_pylist()
        other.append(
            {
                "contact_id": "call-1",
                "customer_id": "c-9",
                "channel": "outbound",
                "contacted_at": world.clock.now(),
                "result": "refused",
                "is_success": False,
            }
        )
        rows = pa.Table.from_pylist(other, schema=CONTACT.schema).drop_columns("staff_id")
        with world.lake.publication(world.clock) as publication:
            publication.add("contact", NOVEMBER, rows)
        world.ingest(make_outcomes(world.assignments))
        publish(world)
        publish(world)
        assert contacts(world).num_rows == 61
        assert results(world)["call-1"] == "refused"

    def test_two_deployments_share_the_month(self, world, make_outcomes):
        world.ingest(make_outcomes(world.assignments))
        publish(world)
        spring = world.deploy("spring")
        world.ingest(make_outcomes(spring.assignments(world.lake.view()).read()), deployment=spring)
        publish_contacts(world.lake, spring, clock=world.clock, engine=world.engine)
        assert contacts(world).num_rows == 120

    def test_the_month_ends_in_the_market(self, world, make_outcomes):
        world.clock.advance(timedelta(days=31))
        late = pa.array([world.clock.now().replace(month=11, day=30, hour=17)] * 60)
        world.ingest(make_outcomes(world.assignments, occurred_at=late))
        assert publish(world) == {date(2026, 12, 31): 60}

    def test_a_late_report_moves_a_contact_to_its_month(self, world, make_outcomes):
        one = world.assignments.slice(0, 1)
        world.clock.advance(timedelta(days=31))
        world.ingest(make_outcomes(one, "refused", occurred_at=pa.array([world.clock.now()])))
        assert publish(world) == {date(2026, 12, 31): 1}
        world.ingest(make_outcomes(one))  # it was delivered in November already
        assert publish(world) == {NOVEMBER: 1}
        assert contacts(world, date(2026, 12, 31)).num_rows == 0

    def test_the_next_turn_sees_the_failed_contacts(self, world, make_outcomes):
        """What the tag failed_contact_count_3m counts."""
        world.ingest(make_outcomes(world.assignments.slice(0, 20), "refused"))
        world.ingest(make_outcomes(world.assignments.slice(20, 5), "ordered"))
        publish(world)
        rows = contacts(world)
        counted = duckdb.sql(
            "SELECT count(*) FILTER (NOT is_success) AS failed, count(*) AS all_ FROM rows"
        ).fetchone()
        assert counted == (20, 25)
        assert rows.num_rows == 25


class TestResponseByCustomer:
    def customers(self) -> pa.Table:
        return pa.table({"customer_id": ["c-00000", "c-00001", "c-00002", "x", "x"]})

    def test_orders_of_both_arms(self):
        orders = pa.table({"customer_id": ["x", "x", "y"], "amount": [5.0, 2.5, 9.0]})
        rows = response_by_customer(self.customers(), orders=orders).to_pylist()
        assert [tuple(row.values()) for row in rows] == [
            ("c-00000", 0.0, 0.0),
            ("c-00001", 0.0, 0.0),
            ("c-00002", 0.0, 0.0),
            ("x", 1.0, 7.5),
        ]

    def test_outcomes(self, world, make_outcomes):
        rows = world.assignments
        mine = rows.filter(pc.is_in(rows["customer_id"], pa.array(["c-00000", "c-00001"])))
        world.ingest(make_outcomes(mine, "accepted"))
        world.ingest(make_outcomes(rows, "refused"))
        found = response_by_customer(self.customers(), world.outcomes())
        assert found["response"].to_pylist() == [1.0, 1.0, 0.0, 0.0]
        assert found.schema.field("response").type == pa.float64()
        ordered = response_by_customer(self.customers(), world.outcomes(), stages=("ordered",))
        assert sum(ordered["response"].to_pylist()) == 0

    def test_both_or_neither_source_is_a_defect(self, world):
        with pytest.raises(DefectError, match="one of the two"):
            response_by_customer(self.customers())
        with pytest.raises(DefectError, match="one of the two"):
            response_by_customer(self.customers(), world.outcomes(), orders=self.customers())
