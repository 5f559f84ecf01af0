"""Freezing decisions into assignments: ids, idempotency, refusals, sharing the lake."""

from __future__ import annotations

import hashlib
import json
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from bihuan.data import DuckDBEngine, load_contracts
from bihuan.delivery import (
    CONTRACTS,
    DeploymentConflictError,
    DeploymentNotFoundError,
    assignment_id,
    deployment,
    find_deployment,
    get_deployment,
    list_deployments,
)
from bihuan.delivery.channel import UnknownChannelError
from bihuan.delivery.logged import (
    DecisionShapeError,
    MissingScriptError,
    UnloggedDecisionError,
    decision_content_hash,
)
from bihuan.delivery.sql import TextPart, row_hash_id
from bihuan.kernel import Cancelled, CancelToken, SilentProgress, UserError, hash_id


def shuffled(rows: pa.Table) -> pa.Table:
    return rows.take(np.random.default_rng(8).permutation(rows.num_rows))


def ids_by_customer(rows: pa.Table) -> dict[str, str]:
    return dict(
        zip(rows["customer_id"].to_pylist(), rows["assignment_id"].to_pylist(), strict=True)
    )


class TestAssignmentId:
    def test_sql_and_python_give_the_same_id(self, assignments):
        for row in assignments.to_pylist():
            python = assignment_id(
                row["deployment_id"], row["customer_id"], row["step"], row["generation"]
            )
            assert row["assignment_id"] == python

    @given(st.lists(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]))))
    @settings(max_examples=30, deadline=None)
    def test_sql_equals_hash_id_for_any_text(self, texts):
        rows = pa.table({"customer_id": pa.array([*texts, None, 'a"b\\c', "张三\u2028\x7f😀"])})
        query = exp.select(row_hash_id("d\"'\\", TextPart("customer_id"), 7).as_("id")).from_("t")
        found = DuckDBEngine(threads=1).query(query, {"t": rows})["id"].to_pylist()
        assert found == [hash_id("d\"'\\", text, 7) for text in rows["customer_id"].to_pylist()]

    def test_ids_are_unique(self, assignments):
        assert pc.count_distinct(assignments["assignment_id"]).as_py() == assignments.num_rows


class TestContentHash:
    def test_is_the_documented_hash_of_the_sorted_lines(self, make_decisions, engine):
        rows = make_decisions(50, stratum=pa.nulls(50, pa.string()))
        names = ("decision_id", "campaign_id", "customer_id", "arm", "stratum", "offer_id")
        names += ("channel", "org_unit_id", "step", "treatment_probability", "expected_value")
        lines = []
        for row in rows.to_pylist():
            cells = ["\x1e" if row[name] is None else str(row[name]) for name in names]
            cells.append(str(int(row["decided_at"].timestamp() * 1_000_000)))
            lines.append("".join(cell + "\x1f" for cell in cells))
        expected = hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
        assert decision_content_hash(rows, engine) == expected

    def test_does_not_depend_on_row_order_but_on_every_value(self, make_decisions, engine):
        rows = make_decisions(80)
        original = decision_content_hash(rows, engine)
        assert decision_content_hash(shuffled(rows), engine) == original
        for column, value in (("offer_id", "x"), ("arm", "control"), ("expected_value", 1.0)):
            changed = rows[column].to_pylist()
            changed[3] = value
            at = rows.schema.get_field_index(column)
            other = rows.set_column(at, column, pa.array(changed))
            assert decision_content_hash(other, engine) != original


class TestDeploy:
    def test_freezes_exactly_the_treatment_rows(self, run_deploy, make_decisions, lake):
        decisions = make_decisions()
        deployed = run_deploy(decisions)
        rows = deployed.assignments(lake.view()).read()
        treated = decisions.filter(pc.equal(decisions["arm"], "treatment"))
        assert deployed.planned == rows.num_rows == treated.num_rows
        assert set(rows["customer_id"].to_pylist()) == set(treated["customer_id"].to_pylist())

    def test_rows_keep_the_contract(self, assignments):
        contract = load_contracts([CONTRACTS])["assignment"]
        assert tuple(assignments.column_names) == contract.names
        for column in contract.columns:
            assert assignments.schema.field(column.name).type == column.type.arrow, column.name
            assert column.nullable or assignments[column.name].null_count == 0, column.name

    def test_register_keeps_the_contract(self, run_deploy, make_decisions, lake):
        run_deploy(make_decisions())
        rows = lake.view().get("deployment").read()
        assert rows.schema.equals(
            pa.schema(
                [f.with_nullable(True) for f in load_contracts([CONTRACTS])["deployment"].schema]
            )
        )

    def test_priority_ranks_by_value_within_channel_and_unit(self, assignments):
        places: dict[tuple[str, str], list[tuple[int, float]]] = {}
        for row in assignments.to_pylist():
            place = places.setdefault((row["channel"], row["org_unit_id"]), [])
            place.append((row["priority"], row["expected_value"]))
        assert len(places) == 24
        for place in places.values():
            place.sort()
            assert [rank for rank, _ in place] == list(range(1, len(place) + 1))
            values = [value for _, value in place]
            assert values == sorted(values, reverse=True)

    def test_missing_and_nan_values_come_last(self, run_deploy, make_decisions, lake):
        values = pa.array([None, float("nan"), -5.0, 3.0])
        decisions = make_decisions(
            4, expected_value=values, channel=["sms"] * 4, org_unit_id=["u"] * 4
        )
        rows = run_deploy(decisions).assignments(lake.view()).read().sort_by("priority")
        assert rows["expected_value"].to_pylist() == [3.0, -5.0, None, None]

    def test_scripts_and_validity(self, run_deploy, make_decisions, lake):
        rows = (
            run_deploy(make_decisions(), period=(date(2026, 11, 1), date(2026, 11, 2)))
            .assignments(lake.view())
            .read()
        )
        days = {(r["valid_from"], r["valid_until"]) for r in rows.to_pylist()}
        assert days == {(date(2026, 11, 2), date(2026, 11, 2))}
        for row in rows.to_pylist():
            assert row["script_id"] == row["offer_id"].replace("offer", "script")

    def test_validity_begins_on_the_local_day(self, run_deploy, make_decisions, clock):
        clock.advance(timedelta(hours=15))  # 17:00 UTC is already the next day in Shanghai
        assert run_deploy(make_decisions(20)).valid_from == date(2026, 11, 3)

    def test_campaign_without_scripts(self, run_deploy, make_decisions, lake):
        rows = run_deploy(make_decisions(20), scripts={}).assignments(lake.view()).read()
        assert rows["script_id"].null_count == rows.num_rows


class TestDeployTwice:
    def test_changes_nothing_and_returns_the_first(self, run_deploy, make_decisions, lake, clock):
        first = run_deploy(make_decisions())
        head = (lake.root / "HEAD.json").read_bytes()
        clock.advance(timedelta(days=3))
        assert run_deploy(make_decisions()) == first
        assert (lake.root / "HEAD.json").read_bytes() == head

    def test_row_order_does_not_matter(self, run_deploy, make_decisions, lake):
        first = run_deploy(make_decisions())
        assert run_deploy(shuffled(make_decisions())) == first

    def test_other_decisions_of_the_same_generation_are_refused(self, run_deploy, make_decisions):
        first = run_deploy(make_decisions())
        with pytest.raises(DeploymentConflictError, match="generation 1") as refusal:
            run_deploy(make_decisions(599))
        assert first.deployment_id in refusal.value.message
        assert "代次 1" in refusal.value.text("zh")

    def test_other_terms_are_refused(self, run_deploy, make_decisions):
        run_deploy(make_decisions())
        with pytest.raises(DeploymentConflictError, match="other validity or scripts"):
            run_deploy(make_decisions(), period=(date(2026, 11, 2), date(2026, 11, 16)))

    def test_a_raised_generation_stands_beside_the_first(self, run_deploy, make_decisions, lake):
        first = run_deploy(make_decisions())
        second = run_deploy(make_decisions(), generation=1)
        assert first.deployment_id != second.deployment_id
        both = [ids_by_customer(d.assignments(lake.view()).read()) for d in (first, second)]
        assert set(both[0].values()).isdisjoint(both[1].values())
        with pytest.raises(DeploymentConflictError):
            run_deploy(make_decisions(599), generation=0)

    def test_campaigns_share_the_register_without_overwriting(
        self, run_deploy, make_decisions, lake
    ):
        names = [f"camp-{i}" for i in range(4)]
        made = [
            run_deploy(make_decisions(30, campaign_id=[name] * 30), campaign_id=name)
            for name in names
        ]
        view = lake.view()
        assert {d.campaign_id for d in list_deployments(view)} == set(names)
        for one in made:
            assert get_deployment(view, one.deployment_id) == one
            assert list_deployments(view, one.campaign_id) == (one,)
            assert one.assignments(view).rows == one.planned

    def test_id_that_depends_on_row_order_is_caught(
        self, run_deploy, make_decisions, lake, monkeypatch
    ):
        """The seeded defect: ids counted instead of hashed."""

        def by_row_number(*parts: object) -> exp.Expr:
            return exp.maybe_parse(
                "CAST(ROW_NUMBER() OVER (ORDER BY decision.decision_order) AS TEXT)"
            )

        monkeypatch.setattr(deployment, "row_hash_id", by_row_number)

        def order(rows: pa.Table) -> pa.Table:
            return rows.append_column("decision_order", pa.array(range(rows.num_rows)))

        a = run_deploy(order(make_decisions()), generation=1)
        b = run_deploy(order(shuffled(make_decisions())), generation=2)
        ids = [ids_by_customer(d.assignments(lake.view()).read()) for d in (a, b)]
        assert ids[0] != ids[1]

    def test_ids_hang_on_the_customer_alone(self, run_deploy, make_decisions, lake, tmp_path):
        """The check that catches the defect above."""
        from bihuan.data import Lake

        other = Lake(tmp_path / "other")
        a = run_deploy(make_decisions())
        b = run_deploy(shuffled(make_decisions()), lake=other)
        assert ids_by_customer(a.assignments(lake.view()).read()) == ids_by_customer(
            b.assignments(other.view()).read()
        )


class TestRefusals:
    def refuse(self, run_deploy, lake, decisions, error, match, **terms):
        with pytest.raises(error, match=match) as refusal:
            run_deploy(decisions, **terms)
        assert refusal.value.remedy
        assert refusal.value.zh
        assert lake.view().tables == ()

    def test_decided_later_than_now(self, run_deploy, make_decisions, lake, clock):
        clock.advance(timedelta(hours=-2))
        match = "600 decisions were not decided before now"
        self.refuse(run_deploy, lake, make_decisions(), UnloggedDecisionError, match)

    def test_not_logged(self, run_deploy, make_decisions, lake):
        nothing = pa.nulls(600, pa.timestamp("us", tz="UTC"))
        decisions = make_decisions(decided_at=nothing)
        self.refuse(run_deploy, lake, decisions, UnloggedDecisionError, "not decided before")

    @pytest.mark.parametrize("probability", [None, -0.1, 1.1, 0.0, float("nan")])
    def test_without_a_possible_probability(self, run_deploy, make_decisions, lake, probability):
        values = [0.9] * 599 + [0.9]
        values[0] = probability
        decisions = make_decisions(treatment_probability=pa.array(values, pa.float64()))
        match = "1 decisions have no treatment probability.*c-0000000"
        self.refuse(run_deploy, lake, decisions, UnloggedDecisionError, match)

    def test_control_that_was_never_drawn(self, run_deploy, make_decisions, lake):
        decisions = make_decisions(treatment_probability=np.ones(600))
        self.refuse(run_deploy, lake, decisions, UnloggedDecisionError, "60 decisions have no")

    def test_another_campaign(self, run_deploy, make_decisions, lake):
        decisions = make_decisions(campaign_id=["autumn"] * 599 + ["spring"])
        self.refuse(run_deploy, lake, decisions, DecisionShapeError, "another campaign")

    def test_customer_twice(self, run_deploy, make_decisions, lake):
        names = [f"c-{i:07d}" for i in range(600)]
        names[9] = names[0]  # one in control, one in treatment: the experiment is broken
        decisions = make_decisions(customer_id=names)
        self.refuse(run_deploy, lake, decisions, DecisionShapeError, "more than one decision")

    def test_control_characters_in_an_id(self, run_deploy, make_decisions, lake):
        decisions = make_decisions(customer_id=["c\x1f1", *[f"c-{i}" for i in range(599)]])
        self.refuse(run_deploy, lake, decisions, DecisionShapeError, "control characters")

    def test_treatment_without_offer_or_step(self, run_deploy, make_decisions, lake):
        for column, kind, match in (
            ("offer_id", pa.string(), "without offer or channel"),
            ("channel", pa.string(), "without offer or channel"),
            ("step", pa.int64(), "have no step"),
        ):
            decisions = make_decisions(**{column: pa.nulls(600, kind)})
            self.refuse(run_deploy, lake, decisions, DecisionShapeError, match)

    def test_unknown_channel(self, run_deploy, make_decisions, lake):
        decisions = make_decisions(channel=["pigeon"] * 600)
        self.refuse(run_deploy, lake, decisions, UnknownChannelError, "pigeon")

    def test_missing_script(self, run_deploy, make_decisions, lake):
        scripts = {("offer-0", "sms"): "s"}
        self.refuse(
            run_deploy, lake, make_decisions(), MissingScriptError, "without", scripts=scripts
        )

    def test_nobody_to_treat(self, run_deploy, make_decisions, lake):
        decisions = make_decisions(arm=["none"] * 600)
        self.refuse(run_deploy, lake, decisions, DecisionShapeError, "nothing to deploy")

    def test_no_days(self, run_deploy, make_decisions, lake):
        period = (date(2026, 11, 3), date(2026, 11, 2))
        said = "from 2026-11-03 to 2026-11-02"
        self.refuse(run_deploy, lake, make_decisions(), UserError, said, period=period)

    def test_unknown_deployment(self, run_deploy, make_decisions, lake):
        made = run_deploy(make_decisions())
        assert find_deployment(lake.view(), "nope") is None
        with pytest.raises(DeploymentNotFoundError, match=made.deployment_id):
            get_deployment(lake.view(), "nope")

    def test_cancelled_work_publishes_nothing(self, run_deploy, make_decisions, lake):
        token = CancelToken()
        token.cancel()
        with pytest.raises(Cancelled):
            run_deploy(make_decisions(), progress=SilentProgress(token))
        assert lake.view().tables == ()


@pytest.mark.slow
class TestCrash:
    def test_killed_at_any_step_it_leaves_all_or_nothing(self, crash, tmp_path):
        report = json.loads(crash("deploy", tmp_path))
        assert report["crashed"] >= 5
        assert report["completed"]
        assert report["broken"] == []
