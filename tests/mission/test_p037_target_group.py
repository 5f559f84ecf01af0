"""P037: split customers by tags, find the target group, lock it, and hand out the target list."""

from __future__ import annotations

import csv
import statistics
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest

import bihuan as bh
from bihuan.audience import describe, overlap
from bihuan.model import find_threshold, threshold_table

TARGET = "churn_score >= 0.04 and arpu >= 50 and not has_contract"


def values(world: SimpleNamespace, *names: str) -> list[dict[str, object]]:
    """Return every customer with some tags, ordered by id."""
    ws: bh.Workspace = world.ws
    return ws.tags(world.last).read(ws.engine, names).to_pylist()


def is_target(row: dict[str, object]) -> bool:
    score = row["churn_score"]
    return score is not None and score >= 0.04 and row["arpu"] >= 50 and not row["has_contract"]


@pytest.mark.mission("P037")
class TestTargetList:
    """A-47: 得出可供营销的目标数据清单: model and rule end in a list that marketing can use."""

    def test_a47_the_list_with_its_columns_from_the_command_line(
        self, scored, shell, tmp_path: Path
    ) -> None:
        told = shell(
            "audience", TARGET, "--as-of", str(scored.last), "--suppress",
            "--out", str(tmp_path / "list.csv"), "--columns", "arpu,churn_score",
            workspace=scored.folder / "ws",
        )  # fmt: skip
        assert told.code == 0, told.err
        names = ("churn_score", "arpu", "has_contract", "undisturbed")
        target = [row for row in values(scored, *names) if is_target(row)]
        kept = [row for row in target if not row["undisturbed"]]
        assert told.result["members"] == len(target)
        assert told.result["remaining"] == told.result["rows"] == len(kept)
        with (tmp_path / "list.csv").open(encoding="utf-8-sig") as file:
            listed = list(csv.DictReader(file))
        assert [(r["customer_id"], Decimal(r["arpu"])) for r in listed] == [
            (r["customer_id"], r["arpu"]) for r in kept
        ]
        assert [float(r["churn_score"]) for r in listed] == [
            pytest.approx(r["churn_score"]) for r in kept
        ]

    def test_a47_the_list_in_the_notebook_is_the_same(self, scored) -> None:
        rows = scored.ws.members(TARGET, scored.last, ["arpu"]).to_pylist()
        expected = [
            r for r in values(scored, "churn_score", "arpu", "has_contract") if is_target(r)
        ]
        assert rows == [{"customer_id": r["customer_id"], "arpu": r["arpu"]} for r in expected]


@pytest.mark.mission("P037")
class TestSegments:
    """B-11: differentiated needs, precise segments; B-20: by preference out of the whole view."""

    # what a customer prefers: data, voice, both, or little of either
    GROUPS: ClassVar = {
        "data": "dou >= 5000 and mou < 150",
        "voice": "dou < 5000 and mou >= 150",
        "both": "dou >= 5000 and mou >= 150",
        "little": "dou < 5000 and mou < 150",
        "silent": "dou is missing",
    }

    def test_b11_segments_part_the_base_without_gap_and_without_overlap(self, scored) -> None:
        ws, last = scored.ws, scored.last
        snapshots = {name: ws.take_snapshot(rule, last) for name, rule in self.GROUPS.items()}
        found = overlap(snapshots, engine=ws.engine)
        assert found.covered == ws.tags(last).rows
        assert found.shared == 0

    def test_b20_the_segment_of_each_customer_is_the_one_his_use_says(self, scored) -> None:
        ws, last = scored.ws, scored.last
        rows = values(scored, "dou", "mou")

        def segment(row: dict[str, object]) -> str:
            if row["dou"] is None:
                return "silent"
            data, voice = row["dou"] >= 5000, row["mou"] >= 150
            return "both" if data and voice else "data" if data else "voice" if voice else "little"

        for name, rule in self.GROUPS.items():
            expected = [row["customer_id"] for row in rows if segment(row) == name]
            assert ws.members(rule, last)["customer_id"].to_pylist() == expected, name

    def test_b11_needs_differ_and_the_difference_is_told(self, scored) -> None:
        ws, last = scored.ws, scored.last
        tags = ws.tags(last)
        told = describe(
            ws.take_snapshot(self.GROUPS["data"], last),
            tags,
            ["dou", "mou", "age"],
            engine=ws.engine,
        )
        contrast = {tag.tag: tag for tag in told.tags}
        rows = [r for r in values(scored, "dou", "mou", "age") if r["dou"] is not None]
        mine = [r for r in rows if r["dou"] >= 5000 and r["mou"] < 150]
        for name in ("dou", "mou", "age"):
            mean = statistics.mean(r[name] for r in mine)
            base = statistics.mean(r[name] for r in values(scored, name) if r[name] is not None)
            assert contrast[name].mean == pytest.approx(mean)
            assert contrast[name].base_mean == pytest.approx(base)
            assert contrast[name].index == pytest.approx(100 * mean / base)
        assert told.most_distinct(1)[0].tag in ("dou", "mou")


@pytest.mark.mission("P037")
class TestThreeSteps:
    """E-06: 定性, 定细, 定量: key tags, tag operations (and, or, not), thresholds to resources."""

    def test_e06_tag_operations_give_small_groups_of_equal_characteristics(self, scored) -> None:
        rule = (
            "(value_band in ('high', 'top') or tenure_months >= 36)"
            " and not (has_contract or complaint_sensitive) and age_band = 'middle'"
        )
        names = ("value_band", "tenure_months", "has_contract", "complaint_sensitive", "age_band")
        expected = [
            row["customer_id"]
            for row in values(scored, *names)
            if (row["value_band"] in ("high", "top") or row["tenure_months"] >= 36)
            and not (row["has_contract"] or row["complaint_sensitive"])
            and row["age_band"] == "middle"
        ]
        found = scored.ws.members(rule, scored.last, ["age_band", "has_contract"])
        assert found["customer_id"].to_pylist() == expected
        assert set(found["age_band"].to_pylist()) == {"middle"}
        assert set(found["has_contract"].to_pylist()) == {False}

    def test_e06_the_threshold_is_moved_until_the_group_fits_the_seats(self, scored) -> None:
        rows = [r for r in values(scored, "churn_score") if r["churn_score"] is not None]
        score = np.array([row["churn_score"] for row in rows])
        table = threshold_table(score, probability=score)
        seats = 180
        cut = find_threshold(table, size=seats)
        count = scored.ws.count(f"churn_score > {cut.value!r}", scored.last)
        assert count.members == cut.size == (score > cut.value).sum()
        assert 0.9 * seats < cut.size <= seats
        assert cut.response == pytest.approx(score[score > cut.value].mean())


@pytest.mark.mission("P037")
class TestLockedTarget:
    """B-43: mine the group that matches; G-22: the target group is defined and locked."""

    def test_b43_the_matching_group_has_more_of_what_the_offer_needs(self, scored) -> None:
        """For a retention offer the group mined by the model really is more likely to leave."""
        ws, last = scored.ws, scored.last
        count = ws.count("not is_disconnected", last).members
        best = sorted(
            (r["churn_score"] for r in values(scored, "churn_score") if r["churn_score"]),
            reverse=True,
        )
        group = ws.members(f"churn_score >= {best[count // 10]!r}", last)["customer_id"].to_pylist()
        living = ws.members("not is_disconnected", last)["customer_id"].to_pylist()
        truth = scored.truth

        def leaving(ids: list[str]) -> float:
            return float(truth.leave[truth.rows_of(ids)].mean())

        assert leaving(group) > 1.8 * leaving(living)

    def test_g22_locked_members_stay_when_the_data_change(self, own_operator, tools) -> None:
        ws, last = own_operator.ws, own_operator.last
        rule = "arpu >= 100 and not is_disconnected"
        locked = ws.take_snapshot(rule, last)
        before = locked.members()["customer_id"].to_pylist()
        bills = ws.view.get("bill", last).read()
        at = bills.column_names.index("amount")
        dearer = bills.set_column(at, "amount", [[a * 2 for a in bills["amount"].to_pylist()]])
        tools.extract(ws, dearer, "bill", last)
        ws.refresh_tags(last)
        after = ws.take_snapshot(rule, last)
        assert after.id != locked.id
        assert after.size > locked.size
        assert locked.members()["customer_id"].to_pylist() == before

    def test_g22_the_same_group_said_in_other_words_is_the_same_group(self, scored) -> None:
        ws, last = scored.ws, scored.last
        one = ws.take_snapshot("arpu >= 100 and not is_disconnected", last)
        other = ws.take_snapshot("not (is_disconnected or not arpu >= 100)", last)
        assert one.id == other.id
        assert ws.take_snapshot("arpu >= 101 and not is_disconnected", last).id != one.id

    def test_g22_a_tag_that_does_not_exist_is_refused_with_the_nearest(self, scored) -> None:
        with pytest.raises(bh.UserError) as caught:
            scored.ws.count("arpus >= 100", scored.last)
        assert "arpu" in caught.value.text("en")
        assert "arpus" in caught.value.text("zh")
