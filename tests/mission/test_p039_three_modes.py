"""P039: audiences by the clock (固化场景), by a saved filter (自助配置), by exploring (交互)."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest

from bihuan.kernel import DefectError, UserError

SCENE = """
title: {zh: 高价值无合约客户, en: Valuable customers without contract}
audience: arpu >= 80 and not has_contract and not is_disconnected
cron: 0 6 2 * *
time_zone: Asia/Shanghai
owner: 市场部
starts_on: 2026-10-01
valid_until: 2027-06-30
expected_size: [50, 2000]
maximum_age_days: 10
catch_up: each
on_failure: retry
"""
FILTER = """
title: {zh: 高消费客户, en: Customers with high spending}
audience: arpu >= {least} and age_band in {ages} and not is_disconnected
owner: 市场部
columns: [arpu, tenure_months]
parameters:
  - {name: least, title: {zh: 最低消费, en: Least ARPU}, type: number, range: [0, 1000], default: 80}
  - {name: ages, title: {zh: 年龄段, en: Age bands}, type: list}
"""
CHILD = """
import sys
from datetime import datetime
import bihuan as bh
from bihuan.kernel import FixedClock
ws = bh.open_workspace(sys.argv[1], clock=FixedClock(datetime.fromisoformat(sys.argv[2])))
sys.stdout.write(str(len(ws.scenes.run_due())))
"""
SEVEN = datetime(2026, 11, 1, 23, tzinfo=UTC)  # seven in the morning of 2 November in the market


def values(world, *names):
    return world.ws.tags(world.last).read(world.ws.engine, names).to_pylist()


def is_member(row) -> bool:
    return row["arpu"] >= 80 and not row["has_contract"] and not row["is_disconnected"]


@pytest.mark.mission("P039")
class TestFixedScenes:
    """B-38: fixed scenes, run by the clock, never silently stale."""

    def test_b38_missed_months_are_caught_up_each_with_the_data_of_its_time(
        self, own_operator
    ) -> None:
        ws = own_operator.ws
        scene = ws.scenes.add("valuable", SCENE)
        assert (ws.scenes.list(), scene.owner) == (["valuable"], "市场部")
        runs = ws.scenes.run_due(SEVEN)
        assert [(run.state, run.as_of) for run in runs] == [
            ("done", month) for month in own_operator.months[-2:]
        ]
        expected = sum(
            is_member(row)
            for row in values(own_operator, "arpu", "has_contract", "is_disconnected")
        )
        assert runs[-1].count == expected
        members = ws.take_snapshot(scene.text, own_operator.last)
        assert runs[-1].snapshot_id == members.id
        assert ws.scenes.run_due(SEVEN + timedelta(hours=5)) == []
        assert ws.scenes.history("valuable") == runs

    def test_b38_two_processes_at_once_take_it_once(self, own_operator) -> None:
        own_operator.ws.scenes.add("valuable", SCENE)
        folder = str(own_operator.folder / "ws")
        command = [sys.executable, "-c", CHILD, folder, SEVEN.isoformat()]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        found = sorted(int(process.communicate(timeout=100)[0]) for process in started)
        assert found == [0, 2]
        assert len(own_operator.ws.scenes.history("valuable")) == 2

    def test_b38_old_data_fail_and_the_last_count_keeps_its_date(self, own_operator, tools) -> None:
        ws = own_operator.ws
        ws.scenes.add("valuable", SCENE)
        good = ws.scenes.run_due(SEVEN)[-1]
        december = datetime(2026, 12, 2, 1, tzinfo=UTC)  # November's data were not delivered
        stale = ws.scenes.run_due(december)[-1]
        assert stale.state == "stale"
        assert "32 days old" in stale.reason["en"]
        status = ws.scenes.status(december + timedelta(hours=1))[0]
        assert status.state == "late"
        assert (status.last_good.count, status.last_good.as_of) == (good.count, own_operator.last)
        assert status.late_by == timedelta(hours=4)  # it was due at six, 22:00 UTC the day before
        assert status.said.startswith(f"{good.count:,} as of 2026-10-31, late by 4:00:00: stale:")
        assert status.data_age_days == 32
        # the defect: a scene that does not ask how old its data are takes October's for December's
        tools.define(ws, "scenes", "careless", SCENE.replace("days: 10", "days: 9999"))
        careless = [run for run in ws.scenes.run_due(december) if run.scene == "careless"][-1]
        assert (careless.state, careless.as_of) == ("done", own_operator.last)

    def test_b38_an_implausible_count_is_not_taken_for_good(self, own_operator) -> None:
        ws = own_operator.ws
        ws.scenes.add("valuable", SCENE.replace("[50, 2000]", "[5, 20]"))
        run = ws.scenes.run_due(SEVEN)[-1]
        assert run.state == "out_of_range"
        assert ws.scenes.status(SEVEN)[0].last_good is None

    def test_b38_a_tag_that_went_away_is_the_recorded_reason(self, own_operator, tools) -> None:
        ws = own_operator.ws
        with pytest.raises(UserError, match="arppu"):
            ws.scenes.add("wrong", SCENE.replace("arpu", "arppu"))
        assert ws.scenes.list() == []
        tools.define(ws, "scenes", "wrong", SCENE.replace("arpu", "arppu"))
        run = ws.scenes.run_due(SEVEN)[-1]
        assert (run.state, run.is_final) == ("failed", False)
        assert "arppu" in run.reason["en"]
        tools.define(ws, "scenes", "broken", "title: [")
        assert list(ws.scenes.broken()) == ["broken"]
        assert len(ws.scenes.status(SEVEN)) == 1

    def test_b38_a_history_that_was_tampered_with_is_not_believed(self, own_operator) -> None:
        ws = own_operator.ws
        ws.scenes.add("valuable", SCENE)
        ws.scenes.run_due(SEVEN)
        file = ws.layout.root / "runs" / "scenes" / "valuable.jsonl"
        file.write_bytes(b"\n".join(file.read_bytes().split(b"\n")[1:]))
        with pytest.raises(DefectError, match="line 1 is damaged"):
            ws.scenes.history("valuable")


@pytest.mark.mission("P039")
class TestSelfService:
    """B-39: self-service configured filters; a clerk fills in blanks and takes the list out."""

    @pytest.fixture
    def filled(self, own_operator):
        ws = own_operator.ws
        ws.filters.add("spenders", FILTER)
        return own_operator, {"least": 120, "ages": ["young", "middle"]}

    def expected(self, world, least, ages):
        rows = values(world, "arpu", "age_band", "is_disconnected", "tenure_months")
        return [
            row
            for row in rows
            if row["arpu"] >= least and row["age_band"] in ages and not row["is_disconnected"]
        ]

    def test_b39_preview_counts_before_anything_is_taken(self, filled) -> None:
        world, blanks = filled
        preview = world.ws.filters.preview("spenders", world.last, **blanks)
        assert preview.members == len(self.expected(world, 120, ["young", "middle"]))
        assert preview.base == world.ws.tags(world.last).rows
        default = world.ws.filters.preview("spenders", world.last, ages=["young"])
        assert default.members == len(self.expected(world, 80, ["young"]))
        assert world.ws.filters.extracts() == []

    def test_b39_the_list_in_three_formats_and_on_record(self, filled, tmp_path) -> None:
        world, blanks = filled
        ws, expected = world.ws, self.expected(world, 120, ["young", "middle"])
        ids = [row["customer_id"] for row in expected]
        for ending in ("csv", "parquet", "xlsx"):
            taken = ws.filters.extract(
                "spenders", world.last, tmp_path / f"list.{ending}", who="clerk 7", why="hall day",
                **blanks,
            )  # fmt: skip
            assert taken.rows == len(expected)
        with (tmp_path / "list.csv").open(encoding="utf-8-sig") as file:
            assert [row["customer_id"] for row in csv.DictReader(file)] == ids
        rows = pq.read_table(tmp_path / "list.parquet")
        assert rows["customer_id"].to_pylist() == ids
        assert rows["arpu"].to_pylist() == [row["arpu"] for row in expected]
        assert (tmp_path / "list.xlsx").stat().st_size > 1000
        record = ws.filters.extracts()
        assert [(r.who, r.why, r.rows, r.file) for r in record] == [
            ("clerk 7", "hall day", len(ids), f"list.{e}") for e in ("csv", "parquet", "xlsx")
        ]
        assert record[0].values == {"least": 120, "ages": ["young", "middle"]}

    def test_b39_nobody_takes_a_list_without_saying_who_and_why(self, filled, tmp_path) -> None:
        world, blanks = filled
        with pytest.raises(UserError, match="who and why"):
            world.ws.filters.extract(
                "spenders", world.last, tmp_path / "list.csv", who="clerk", why=" ", **blanks
            )
        assert not (tmp_path / "list.csv").exists()

    def test_b39_what_a_clerk_types_cannot_widen_the_filter(self, filled) -> None:
        world, _ = filled
        typed = ["young') or arpu >= 0 or age_band in ('old"]
        with pytest.raises(UserError):
            world.ws.filters.preview("spenders", world.last, ages=typed)
        with pytest.raises(UserError, match=r"within 0 \.\. 1000"):
            world.ws.filters.preview("spenders", world.last, least=-5, ages=["young"])
        with pytest.raises(UserError, match="not been filled in"):
            world.ws.filters.preview("spenders", world.last)


@pytest.mark.mission("P039")
class TestExploration:
    """B-40: interactive exploration: count, table, distribution, threshold, sample at once."""

    def test_b40_every_answer_is_the_one_counted_by_hand(self, scored) -> None:
        asked = scored.ws.explore(scored.last)
        rows = values(scored, "arpu", "has_contract", "is_disconnected", "age_band")
        inside = [row for row in rows if is_member(row)]
        within = "arpu >= 80 and not has_contract and not is_disconnected"
        assert asked.count(within).members == len(inside)
        assert asked.counts([within, f"not ({within})"]) == [len(inside), len(rows) - len(inside)]
        table = asked.cross(["age_band", "has_contract"])
        tally = Counter((row["age_band"], row["has_contract"]) for row in rows)
        for i, age in enumerate(table.values[0]):
            for j, contract in enumerate(table.values[1]):
                assert table.counts[i, j] == tally[age, contract]
        histogram = asked.histogram("arpu", within, bins=10)
        assert histogram.counts.sum() == len(inside)
        arpu = sorted((row["arpu"] for row in inside), reverse=True)
        cut = asked.threshold("arpu", 100, within)
        assert cut.value == arpu[99]
        sample = asked.sample(40, within, seed=3).to_pylist()
        assert sample == asked.sample(40, within, seed=3).to_pylist()
        assert set(sample) <= {row["customer_id"] for row in inside}
        assert len(set(sample)) == 40
