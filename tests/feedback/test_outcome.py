"""Taking outcomes in: received = stored + duplicate + quarantined, whatever comes."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bihuan.data import load_contracts
from bihuan.delivery import RECEIPT_SCHEMA, Stage
from bihuan.feedback import (
    CONTRACTS,
    OutcomeFileError,
    OutcomeQuarantine,
    OutcomeReport,
    judge,
    outcome,
    outcome_table,
    store,
)
from bihuan.feedback.quarantine import REASONS
from bihuan.kernel import DefectError

HEADER = "outcome_id,assignment_id,customer_id,stage,occurred_at,amount,reason\n"


def line(world, at: int, key: str, stage: str = "delivered", **cells: str) -> str:
    """Return the CSV line of an outcome with the id ``key``; ``cells`` replace values."""
    row = world.assignments.slice(at, 1).to_pylist()[0]
    values = {
        "outcome_id": key,
        "assignment_id": row["assignment_id"],
        "customer_id": row["customer_id"],
        "stage": stage,
        "occurred_at": "2026-11-02 10:30:00",
        "amount": "",
        "reason": "",
    }
    return ",".join((values | cells).values()) + "\n"


def counts(report: OutcomeReport) -> tuple[int, int, int, int]:
    return report.received, report.stored, report.duplicate, report.quarantined


class TestContract:
    def test_is_the_schema_in_which_the_delivery_room_writes_receipts(self):
        contract = load_contracts([CONTRACTS])["outcome"]
        assert contract.schema.equals(RECEIPT_SCHEMA)
        assert set(contract["stage"].codes) == {stage.value for stage in Stage}

    def test_every_reason_speaks_both_languages(self):
        assert all(set(title) == {"zh", "en"} for title in REASONS.values())


class TestIngest:
    def test_stores_in_the_contract(self, world, make_outcomes):
        report = world.ingest(make_outcomes(world.assignments))
        assert counts(report) == (60, 60, 0, 0)
        rows = world.outcomes()
        assert rows.schema.equals(load_contracts([CONTRACTS])["outcome"].schema)
        assert set(rows["deployment_id"].to_pylist()) == {world.deployment.deployment_id}

    def test_csv_values_arrive_typed(self, world):
        text = HEADER + line(world, 0, "o-1", "ordered", amount="58.30", reason="x;y")
        assert counts(world.ingest(world.csv("a.csv", text))) == (1, 1, 0, 0)
        (row,) = world.outcomes().to_pylist()
        assert row["amount"] == Decimal("58.30")
        assert row["reason"] == "x;y"
        assert row["cost"] is None
        # a moment without a zone is local: 10:30 in Shanghai
        assert row["occurred_at"] == datetime(2026, 11, 2, 2, 30, tzinfo=UTC)

    @pytest.mark.parametrize(
        "moment",
        [
            "2026-11-02 02:30:00Z",
            "2026-11-02T10:30:00+08:00",
            "2026-11-02 10:30:00.000+08",
            "2026-11-01 21:30:00-0500",
            "2026-11-02 10:30",
            "2026/11/02 10:30:00",
        ],
    )
    def test_moments_in_all_usual_forms(self, world, moment):
        text = HEADER + line(world, 0, "o-1", occurred_at=moment)
        report = world.ingest(world.csv("a.csv", text))
        assert counts(report) == (1, 1, 0, 0), report.reasons
        assert world.outcomes()["occurred_at"][0].as_py() == datetime(
            2026, 11, 2, 2, 30, tzinfo=UTC
        )

    def test_a_date_alone_is_local_midnight(self, world):
        text = HEADER + line(world, 0, "o-1", occurred_at="2026-11-02")
        assert counts(world.ingest(world.csv("a.csv", text))) == (1, 1, 0, 0)
        assert world.outcomes()["occurred_at"][0].as_py() == datetime(2026, 11, 1, 16, tzinfo=UTC)

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gbk", "gb18030"])
    def test_encodings(self, world, encoding):
        text = HEADER + line(world, 0, "o-1", reason="客户在外地").replace("\n", "\r\n")
        assert counts(world.ingest(world.csv("a.csv", text, encoding))) == (1, 1, 0, 0)
        assert world.outcomes()["reason"].to_pylist() == ["客户在外地"]

    def test_parquet_with_other_types(self, world, make_outcomes, tmp_path):
        rows = make_outcomes(
            world.assignments,
            stage="ordered",
            amount=np.full(60, 12.5),
            occurred_at=pa.array([datetime(2026, 11, 2, 10, 30)] * 60, pa.timestamp("ns")),  # noqa: DTZ001
        )
        pq.write_table(rows, tmp_path / "a.parquet")
        assert counts(world.ingest(tmp_path / "a.parquet")) == (60, 60, 0, 0)
        first = world.outcomes().slice(0, 1).to_pylist()[0]
        assert first["amount"] == Decimal("12.50")
        assert first["occurred_at"] == datetime(2026, 11, 2, 2, 30, tzinfo=UTC)

    def test_other_columns_are_named_and_ignored(self, world, make_outcomes):
        rows = make_outcomes(world.assignments).append_column("mood", [["x"] * 60])
        assert world.ingest(rows).ignored_columns == ("mood",)

    def test_no_rows(self, world, make_outcomes):
        head = world.head
        assert counts(world.ingest(make_outcomes(world.assignments).slice(0, 0))) == (0, 0, 0, 0)
        assert counts(world.ingest(world.csv("a.csv", HEADER))) == (0, 0, 0, 0)
        assert world.head == head


class TestRepeats:
    def test_the_same_file_twice_changes_nothing(self, world, make_outcomes):
        rows = make_outcomes(world.assignments)
        world.ingest(rows)
        head, kept = world.head, sorted(world.quarantine.rglob("*.parquet"))
        world.clock.advance(timedelta(days=2))
        assert counts(world.ingest(rows)) == (60, 0, 60, 0)
        assert world.head == head
        assert sorted(world.quarantine.rglob("*.parquet")) == kept

    def test_the_same_bad_file_twice_changes_nothing(self, world):
        path = world.csv("a.csv", HEADER + line(world, 0, "o-1", "nonsense") + "short,line\n")
        assert counts(world.ingest(path)) == (2, 0, 0, 2)
        before = {p: p.read_bytes() for p in world.quarantine.rglob("*.parquet")}
        again = world.ingest(path)
        assert counts(again) == (2, 0, 0, 2)
        assert again.quarantine_id is None
        assert {p: p.read_bytes() for p in world.quarantine.rglob("*.parquet")} == before

    def test_overlapping_files(self, world, make_outcomes):
        rows = make_outcomes(world.assignments)
        assert counts(world.ingest(rows.slice(0, 40))) == (40, 40, 0, 0)
        assert counts(world.ingest(rows.slice(20, 40))) == (40, 20, 20, 0)
        assert world.outcomes().num_rows == 60

    def test_rows_twice_in_one_file(self, world, make_outcomes):
        rows = make_outcomes(world.assignments)
        assert counts(world.ingest(pa.concat_tables([rows, rows]))) == (120, 60, 60, 0)

    def test_the_same_outcome_from_csv_and_from_parquet(self, world, tmp_path):
        path = world.csv("a.csv", HEADER + line(world, 0, "o-1", amount="5"))
        world.ingest(path)
        pq.write_table(world.outcomes(), tmp_path / "b.parquet")
        assert counts(world.ingest(tmp_path / "b.parquet")) == (1, 0, 1, 0)

    def test_days_apart(self, world, make_outcomes):
        rows = make_outcomes(world.assignments)
        world.ingest(rows.slice(0, 30))
        world.clock.advance(timedelta(days=1))
        assert counts(world.ingest(rows)) == (60, 30, 30, 0)
        table = outcome_table(world.deployment.deployment_id)
        assert world.lake.view().dates(table) == (date(2026, 11, 2), date(2026, 11, 3))

    def test_dedupe_by_file_name_is_caught(self, world, make_outcomes, tmp_path, monkeypatch):
        """The seeded defect: a store that knows the files it has seen, not the outcomes."""
        seen: set[str] = set()
        monkeypatch.setattr(judge, "outcome_snapshots", lambda *_: ())

        def ingest(path):
            if path.name not in seen:
                seen.add(path.name)
                world.ingest(path)

        rows = make_outcomes(world.assignments)
        for name in ("a.parquet", "a.parquet", "a_copy.parquet"):
            pq.write_table(rows, tmp_path / name)
            ingest(tmp_path / name)
        ids = world.outcomes()["outcome_id"].to_pylist()
        assert len(ids) != len(set(ids))

    def test_a_renamed_file_changes_nothing(self, world, make_outcomes, tmp_path):
        """The check that catches the defect above."""
        rows = make_outcomes(world.assignments)
        for name in ("a.parquet", "a.parquet", "a_copy.parquet"):
            pq.write_table(rows, tmp_path / name)
            world.ingest(tmp_path / name)
        ids = world.outcomes()["outcome_id"].to_pylist()
        assert len(ids) == len(set(ids)) == 60


class TestConflict:
    def test_the_first_stays(self, world):
        world.ingest(world.csv("a.csv", HEADER + line(world, 0, "o-1", "accepted")))
        report = world.ingest(world.csv("b.csv", HEADER + line(world, 0, "o-1", "refused")))
        assert counts(report) == (1, 0, 0, 1)
        assert report.reasons == {"conflict": 1}
        assert world.outcomes()["stage"].to_pylist() == ["accepted"]

    def test_within_one_file(self, world):
        text = (
            HEADER
            + line(world, 0, "o-1", "accepted")
            + line(world, 0, "o-1", "refused")
            + line(world, 0, "o-1", "accepted")
        )
        assert counts(world.ingest(world.csv("a.csv", text))) == (3, 1, 1, 1)
        assert world.outcomes()["stage"].to_pylist() == ["accepted"]

    def test_a_bad_row_does_not_take_the_id(self, world):
        text = HEADER + line(world, 0, "o-1", "nonsense") + line(world, 0, "o-1", "accepted")
        assert counts(world.ingest(world.csv("a.csv", text))) == (2, 1, 0, 1)


class TestQuarantine:
    @pytest.mark.parametrize(
        ("cells", "reason", "column"),
        [
            ({"outcome_id": ""}, "missing_value", "outcome_id"),
            ({"outcome_id": "  "}, "missing_value", "outcome_id"),
            ({"occurred_at": ""}, "missing_value", "occurred_at"),
            ({"occurred_at": "soon"}, "bad_value", "occurred_at"),
            ({"occurred_at": "2026-02-30 10:00:00"}, "bad_value", "occurred_at"),
            ({"amount": "a lot"}, "bad_value", "amount"),
            ({"amount": '"1,234.50"'}, "bad_value", "amount"),
            ({"stage": "Delivered"}, "unknown_stage", None),
            ({"assignment_id": "nobody"}, "unknown_assignment", None),
            ({"customer_id": "c-00001x"}, "wrong_customer", None),
            ({"occurred_at": "2026-11-02 12:00:01"}, "in_the_future", None),
            ({"occurred_at": "2026-11-01 23:59:59"}, "before_valid", None),
        ],
    )
    def test_says_why_and_keeps_the_row_as_it_came(self, world, cells, reason, column):
        text = HEADER + line(world, 1, "good") + line(world, 0, "o-1", **cells)
        report = world.ingest(world.csv("calls.csv", text))
        assert counts(report) == (2, 1, 0, 1)
        assert report.reasons == {reason: 1}
        (row,) = OutcomeQuarantine(world.quarantine).rows().to_pylist()
        assert (row["reason_code"], row["reason_column"]) == (reason, column)
        assert (row["source"], row["position"]) == ("calls.csv", 2)
        for name, text_ in cells.items():
            assert (row[f"raw_{name}"] or "").strip() == text_.strip(' "')

    def test_now_itself_is_not_the_future(self, world):
        text = HEADER + line(world, 0, "o-1", occurred_at="2026-11-02 12:00:00")
        assert world.ingest(world.csv("a.csv", text)).stored == 1

    def test_what_the_gate_held_back_may_be_before_the_validity(self, world):
        text = HEADER + line(world, 0, "o-1", "suppressed", occurred_at="2026-11-01 10:00:00")
        assert world.ingest(world.csv("a.csv", text)).stored == 1

    def test_lines_of_a_wrong_width_are_kept_with_their_number(self, world):
        text = (
            HEADER + line(world, 0, "o-1") + "a,b\n" + line(world, 1, "o-2") + "1,2,3,4,5,6,7,8\n"
        )
        report = world.ingest(world.csv("a.csv", text))
        assert counts(report) == (4, 2, 0, 2)
        rows = OutcomeQuarantine(world.quarantine).rows().to_pylist()
        assert [(row["position"], row["raw_text"]) for row in rows] == [
            (2, "a,b"),
            (4, "1,2,3,4,5,6,7,8"),
        ]

    def test_another_deployments_rows_wait_and_are_replayed_there(self, world, make_outcomes):
        other = world.deploy("spring")
        rows = make_outcomes(other.assignments(world.lake.view()).read())
        rows = rows.append_column("deployment_id", [[other.deployment_id] * 60])
        report = world.ingest(rows)
        assert report.reasons == {"other_deployment": 60}
        assert counts(world.replay(deployment=other)) == (60, 60, 0, 0)
        assert OutcomeQuarantine(world.quarantine).rows().num_rows == 0

    def test_counts_hold_for_a_wild_mixture(self, world, make_outcomes):
        draw = np.random.default_rng(5)
        good = make_outcomes(world.assignments)
        received = stored = 0
        for _ in range(6):
            rows = good.take(draw.integers(0, 60, 40))
            stages = rows["stage"].to_pylist()
            ids = rows["assignment_id"].to_pylist()
            for at in draw.integers(0, 40, 8):
                stages[at] = draw.choice(["failed", "nonsense", "accepted"])
            for at in draw.integers(0, 40, 4):
                ids[at] = "nobody"
            rows = rows.set_column(3, "stage", [stages]).set_column(1, "assignment_id", [ids])
            report = world.ingest(rows)
            received, stored = received + report.received, stored + report.stored
        assert received == 240
        assert world.outcomes().num_rows == stored
        assert len(set(world.outcomes()["outcome_id"].to_pylist())) == stored

    def test_a_report_that_does_not_add_up_is_a_defect(self):
        with pytest.raises(DefectError, match="lost or doubled"):
            OutcomeReport(received=3, stored=1, duplicate=1, quarantined=0, reasons={})


class TestReplay:
    def test_when_the_moment_has_come(self, world):
        text = HEADER + line(world, 0, "o-1", occurred_at="2026-11-02 15:00:00")
        world.ingest(world.csv("a.csv", text))
        assert counts(world.replay()) == (1, 0, 0, 1)
        world.clock.advance(timedelta(hours=5))
        assert counts(world.replay()) == (1, 1, 0, 0)
        assert counts(world.replay()) == (0, 0, 0, 0)

    def test_when_the_deployment_becomes_known(self, world, make_outcomes, tmp_path):
        from bihuan.data import Lake

        elsewhere = Lake(tmp_path / "elsewhere")
        rows = make_outcomes(world.assignments)
        deployment_id = world.deployment.deployment_id
        early = outcome.ingest_outcomes(
            elsewhere,
            rows,
            deployment=deployment_id,
            quarantine_folder=world.quarantine,
            clock=world.clock,
        )
        assert early.reasons == {"unknown_assignment": 60}
        assert counts(world.replay(deployment=deployment_id)) == (60, 60, 0, 0)

    def test_what_arrived_otherwise_meanwhile_is_a_duplicate(self, world):
        text = HEADER + line(world, 0, "o-1", occurred_at="2026-11-02 15:00:00")
        path = world.csv("a.csv", text)
        world.ingest(path)
        world.clock.advance(timedelta(hours=5))
        assert counts(world.ingest(path)) == (1, 1, 0, 0)
        assert counts(world.replay()) == (1, 0, 1, 0)
        assert OutcomeQuarantine(world.quarantine).rows().num_rows == 0

    def test_the_present_reason_is_shown(self, world):
        row = line(world, 0, "o-1", "accepted", occurred_at="2026-11-02 15:00:00")
        world.ingest(world.csv("a.csv", HEADER + row))
        world.ingest(world.csv("b.csv", HEADER + line(world, 0, "o-1")))
        world.clock.advance(timedelta(hours=5))
        assert world.replay().reasons == {"conflict": 1}
        rows = OutcomeQuarantine(world.quarantine).rows()
        assert rows["reason_code"].to_pylist() == ["conflict"]


class TestRefusedFiles:
    def refuse(self, world, path, match):
        head = world.head
        with pytest.raises(OutcomeFileError, match=match) as refusal:
            world.ingest(path)
        assert refusal.value.remedy
        assert refusal.value.zh
        assert world.head == head

    def test_empty(self, world):
        self.refuse(world, world.csv("a.csv", ""), "lacks the columns")

    def test_missing_column(self, world):
        self.refuse(world, world.csv("a.csv", "outcome_id,stage\n1,2\n"), "assignment_id")

    def test_column_twice(self, world):
        self.refuse(world, world.csv("a.csv", HEADER.strip() + ",stage\n"), "twice")

    def test_neither_encoding(self, world):
        path = world.folder / "a.csv"
        path.write_bytes(HEADER.encode() + b"\xff\xff\xff\n")
        self.refuse(world, path, "neither UTF-8 nor GBK")

    def test_truncated_parquet(self, world, make_outcomes):
        path = world.folder / "a.parquet"
        pq.write_table(make_outcomes(world.assignments), path)
        path.write_bytes(path.read_bytes()[:-200])
        self.refuse(world, path, "a.parquet cannot be read")

    def test_absent(self, world):
        self.refuse(world, world.folder / "no.parquet", "no.parquet")


class TestStore:
    def test_a_small_file_does_not_rewrite_what_is_there(self, world, make_outcomes):
        rows = make_outcomes(world.assignments)
        table = outcome_table(world.deployment.deployment_id)
        world.ingest(rows.slice(0, 50))
        (first,) = world.lake.view().get(table).files
        world.ingest(rows.slice(50))
        old, new = world.lake.view().get(table).files
        assert old.stat().st_ino == first.stat().st_ino  # the same bytes on disk, linked
        assert pq.read_metadata(new).num_rows == 10

    def test_sweeping_old_snapshots_keeps_the_linked_parts(self, world, make_outcomes):
        rows = make_outcomes(world.assignments)
        for at in range(0, 60, 20):
            world.ingest(rows.slice(at, 20))
        assert world.lake.sweep() == 2
        assert world.outcomes().num_rows == 60

    def test_many_small_parts_are_written_together(self, world, make_outcomes, monkeypatch):
        monkeypatch.setattr(store, "MOST_PARTS", 3)
        rows = make_outcomes(world.assignments)
        table = outcome_table(world.deployment.deployment_id)
        parts = []
        for at in range(0, 60, 12):
            world.ingest(rows.slice(at, 12))
            parts.append(len(world.lake.view().get(table).files))
        assert parts == [1, 2, 3, 1, 2]
        assert sorted(world.outcomes()["outcome_id"].to_pylist()) == sorted(
            rows["outcome_id"].to_pylist()
        )

    def test_a_file_system_without_links(self, world, make_outcomes, monkeypatch):
        def no_link(*_: object) -> None:
            raise OSError

        monkeypatch.setattr(store.os, "link", no_link)
        rows = make_outcomes(world.assignments)
        world.ingest(rows.slice(0, 50))
        world.ingest(rows.slice(50))
        assert world.outcomes().num_rows == 60


@pytest.mark.slow
class TestCrash:
    @pytest.mark.parametrize("scenario", ["ingest", "replay"])
    def test_killed_at_any_step_nothing_is_lost_or_doubled(self, crash, tmp_path, scenario):
        report = json.loads(crash(scenario, tmp_path))
        assert report["crashed"] >= 5
        assert report["completed"]
        assert report["broken"] == []

    def test_publishing_before_quarantine_is_caught(self, crash, tmp_path):
        """The seeded defect: the same kills, with the two writes in the wrong order."""
        report = json.loads(crash("ingest_late_quarantine", tmp_path))
        assert report["completed"]
        assert report["broken"]
