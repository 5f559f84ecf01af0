"""Freezing decisions into assignments: ids, idempotency, refusals, sharing the lake."""

from __future__ import annotations

import itertools
import json
import struct
from datetime import date, timedelta
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from bihuan.data import DuckDBEngine, Lake, load_contracts
from bihuan.delivery import (
    CONTRACTS,
    DeploymentConflictError,
    DeploymentNotFoundError,
    assignment_id,
    find_deployment,
    freeze,
    get_deployment,
    list_deployments,
)
from bihuan.delivery.channel import UnknownChannelError
from bihuan.delivery.logged import (
    DecisionShapeError,
    MissingScriptError,
    UnloggedDecisionError,
)
from bihuan.delivery.reading import CONTENT_KEY, DECISION_COLUMNS, decision_content_hash
from bihuan.delivery.siphash import siphash128
from bihuan.delivery.sql import TextPart, row_hash_id
from bihuan.kernel import (
    Cancelled,
    CancelToken,
    DefectError,
    SilentProgress,
    UserError,
    hash_id,
)


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

    def test_gives_the_reference_implementation_s_vectors(self):
        """The first lines of the authors' vectors for 128 bits."""
        key = bytes(range(16))
        wanted = ("a3817f04ba25a8e66df67214c7550293", "da87c1d86b99af44347659119b22fc45")
        assert tuple(siphash128(key, bytes(range(n))).hex() for n in (0, 1)) == wanted

    @given(
        st.lists(st.tuples(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 99)))
    )
    @settings(max_examples=30, deadline=None)
    def test_columns_and_single_rows_give_the_same_id_for_any_text(self, cases):
        cases += [("", 1), ('a"b\\c', 2), ("张三\u2028\x7f😀", 3), ("x" * 257, 4)]
        names, steps = [name for name, _ in cases], np.array([s for _, s in cases], np.int32)
        terms = SimpleNamespace(deployment_id="d\"'\\", generation=2)
        found = freeze._ids(freeze.id_digests(terms, pa.array(names), steps)).to_pylist()
        assert found == [assignment_id("d\"'\\", name, step, 2) for name, step in cases]

    @given(st.text(), st.text(), st.integers(1, 99), st.integers(1, 99))
    def test_parts_are_kept_apart(self, a, b, step, other):
        first, second = assignment_id("d", a, step, 0), assignment_id("d", b, other, 0)
        assert (first == second) == ((a, step) == (b, other))
        assert assignment_id("d", a, step, 1) != first != assignment_id("e", a, step, 0)

    @given(st.lists(st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]))))
    @settings(max_examples=30, deadline=None)
    def test_sql_equals_hash_id_for_any_text(self, texts):
        rows = pa.table({"customer_id": pa.array([*texts, None, 'a"b\\c', "张三\u2028\x7f😀"])})
        query = exp.select(row_hash_id("d\"'\\", TextPart("customer_id"), 7).as_("id")).from_("t")
        found = DuckDBEngine(threads=1).query(query, {"t": rows})["id"].to_pylist()
        assert found == [hash_id("d\"'\\", text, 7) for text in rows["customer_id"].to_pylist()]

    def test_ids_are_unique(self, assignments):
        assert pc.count_distinct(assignments["assignment_id"]).as_py() == assignments.num_rows


def by_hand(rows: pa.Table) -> str:
    """The documented content hash, one row at a time."""

    def text(value: str | None) -> bytes:
        return bytes(16) if value is None else siphash128(CONTENT_KEY, value.encode())

    def double(value: float | None) -> bytes:
        return struct.pack("<d", float("nan") if value is None or value != value else value)

    names = ("decision_id", "campaign_id", "customer_id", "arm", "stratum", "offer_id")
    total = 0
    for row in rows.to_pylist():
        message = b"".join(text(row[name]) for name in (*names, "channel", "org_unit_id"))
        message += struct.pack("<q", -(2**63) if row["step"] is None else row["step"])
        message += double(row["treatment_probability"]) + double(row["expected_value"])
        message += struct.pack("<q", int(row["decided_at"].timestamp() * 1_000_000))
        total += int.from_bytes(siphash128(CONTENT_KEY, message), "little")
    return hash_id("decision content", rows.num_rows, f"{total % 2**128:032x}", length=64)


class TestContentHash:
    def test_is_the_documented_sum_of_row_hashes(self, make_decisions):
        values = [None, float("nan"), -0.0, 1e300, *[0.5] * 46]
        names = ["", "张三\u2028😀", "x" * 300, *[f"c-{i}" for i in range(47)]]
        rows = make_decisions(
            50, stratum=pa.nulls(50, pa.string()), expected_value=values, customer_id=names
        )
        assert decision_content_hash(rows) == by_hand(rows)

    def test_does_not_depend_on_types_or_chunks(self, make_decisions):
        rows = make_decisions(300)
        wide = pa.table(
            {
                name: rows[name].dictionary_encode()
                if name in ("arm", "channel", "offer_id")
                else rows[name].cast(pa.large_string())
                if pa.types.is_string(rows.schema.field(name).type)
                else rows[name]
                for name in rows.column_names
            }
        )
        pieces = pa.concat_tables([wide.slice(0, 7), wide.slice(7)])
        assert decision_content_hash(pieces) == decision_content_hash(rows)

    def test_does_not_depend_on_row_order_but_on_every_value(self, make_decisions):
        rows = make_decisions(80)
        original = decision_content_hash(rows)
        assert decision_content_hash(shuffled(rows)) == original
        moved = pa.array([rows["decided_at"][0].as_py() + timedelta(seconds=1)] * 80)
        for column in DECISION_COLUMNS:
            changed = rows[column].to_pylist()
            changed[3] = {
                pa.string(): "x",
                pa.int64(): 7,
                pa.float64(): 0.25,
            }.get(rows.schema.field(column).type, moved[0].as_py())
            at = rows.schema.get_field_index(column)
            other = rows.set_column(at, column, pa.array(changed, rows.schema.field(column).type))
            assert decision_content_hash(other) != original, column

    def test_a_row_twice_is_another_content(self, make_decisions):
        rows = make_decisions(20)
        twice = pa.concat_tables([rows, rows.slice(3, 1)])
        other = pa.concat_tables([rows, rows.slice(4, 1)])
        assert len({decision_content_hash(r) for r in (rows, twice, other)}) == 3

    def test_values_that_change_places_are_seen(self, make_decisions):
        """A sum over columns instead of rows would miss this."""
        rows = make_decisions(20)
        names = rows["customer_id"].to_pylist()
        names[0], names[1] = names[1], names[0]
        at = rows.schema.get_field_index("customer_id")
        other = rows.set_column(at, "customer_id", pa.array(names))
        assert decision_content_hash(other) != decision_content_hash(rows)


class TestSnapshot:
    """A deployment from the lake, block by block, is the one from memory."""

    def publish(self, lake, clock, *tables, rows_per_group=100):
        with (
            lake.publication(clock) as publication,
            publication.folder("decision", date(2026, 11, 1)) as folder,
        ):
            for number, rows in enumerate(tables):
                path = folder / f"part-{number:05d}.parquet"
                pq.write_table(rows, path, row_group_size=rows_per_group)
        return lake.view().get("decision")

    def test_gives_the_same_deployment_and_assignments(
        self, run_deploy, make_decisions, clock, tmp_path
    ):
        rows = make_decisions()
        found = []
        for name, parts in (("a", None), ("b", (rows.slice(0, 250), rows.slice(250)))):
            lake = Lake(tmp_path / name)
            source = rows if parts is None else self.publish(lake, clock, *parts)
            made = run_deploy(source, lake=lake)
            found.append((made, made.assignments(lake.view()).read()))
        assert found[0][0] == found[1][0]
        assert found[0][1].equals(found[1][1])

    def test_passes_over_other_campaigns_of_the_day(self, run_deploy, make_decisions, lake, clock):
        rows = make_decisions()
        spring = make_decisions(300, campaign_id=["spring"] * 300)
        mixed = shuffled(pa.concat_tables([rows, spring]))
        made = run_deploy(self.publish(lake, clock, mixed))
        other = Lake(lake.root.parent / "other")
        assert made == run_deploy(rows, lake=other)
        assert made.assignments(lake.view()).read().equals(made.assignments(other.view()).read())

    def test_refuses_what_a_table_would_be_refused_for(
        self, run_deploy, make_decisions, lake, clock
    ):
        names = [f"c-{i:07d}" for i in range(600)]
        names[9] = names[0]
        snapshot = self.publish(lake, clock, make_decisions(customer_id=names))
        with pytest.raises(DecisionShapeError, match="more than one decision"):
            run_deploy(snapshot)
        snapshot = self.publish(lake, clock, make_decisions().drop_columns(["step"]))
        with pytest.raises(DefectError, match="step"):
            run_deploy(snapshot)


class TestParts:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(freeze, "PART_ROWS", 40)
        monkeypatch.setattr(freeze, "MOST_ROWS", 60)
        monkeypatch.setattr(freeze, "GROUP_ROWS", 16)

    def test_hold_one_channel_and_consecutive_units_in_order(
        self, run_deploy, make_decisions, lake
    ):
        made = run_deploy(make_decisions(900))
        files = made.assignments(lake.view()).files
        tables = [pq.read_table(path, partitioning=None) for path in files]
        assert len(tables) > 12
        seen: list[tuple[str, str, int]] = []
        for rows in tables:
            assert len(set(rows["channel"].to_pylist())) == 1
            assert rows.num_rows <= 60 + 40
            names = ("channel", "org_unit_id", "priority")
            seen += zip(*(rows[name].to_pylist() for name in names), strict=True)
        assert seen == sorted(seen)
        assert len(seen) == made.planned

    def test_a_long_list_goes_on_in_the_next_part(self, run_deploy, make_decisions, lake):
        rows = make_decisions(400, channel=["sms"] * 400, org_unit_id=pa.nulls(400, pa.string()))
        made = run_deploy(rows)
        files = made.assignments(lake.view()).files
        assert [pq.read_metadata(path).num_rows for path in files] == [60] * 6
        ranks = made.assignments(lake.view()).read()["priority"].to_pylist()
        assert ranks == list(range(1, 361))


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
        counter = itertools.count()

        def by_row_number(terms: object, customers: pa.Array, steps: np.ndarray) -> np.ndarray:
            numbers = [next(counter) for _ in range(len(customers))]
            return np.array([numbers, numbers], np.uint64)

        monkeypatch.setattr(freeze, "id_digests", by_row_number)
        a = run_deploy(make_decisions(), generation=1)
        b = run_deploy(make_decisions(), generation=2)
        ids = [ids_by_customer(d.assignments(lake.view()).read()) for d in (a, b)]
        assert ids[0] != ids[1]
        for row in a.assignments(lake.view()).read().slice(0, 3).to_pylist():
            assert row["assignment_id"] != assignment_id(
                a.deployment_id, row["customer_id"], row["step"], 1
            )

    def test_ties_are_ranked_by_id_whatever_the_order_of_rows(
        self, run_deploy, make_decisions, lake
    ):
        rows = make_decisions(300, expected_value=np.repeat([3.0, -0.0, 0.0], 100))
        a, b = run_deploy(rows, generation=1), run_deploy(shuffled(rows), generation=2)
        for made in (a, b):
            found = made.assignments(lake.view()).read().to_pylist()
            for place, group in itertools.groupby(
                found, key=lambda row: (row["channel"], row["org_unit_id"])
            ):
                ranked = list(group)
                keys = [(-row["expected_value"], row["assignment_id"]) for row in ranked]
                assert keys == sorted(keys), place

    def test_ids_hang_on_the_customer_alone(self, run_deploy, make_decisions, lake, tmp_path):
        """The check that catches the defect above."""
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
