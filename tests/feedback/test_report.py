"""What the front line found wrong, counted."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.feedback import front_line_report
from bihuan.feedback.report import PROBLEMS, problem_title


def of_channel(world, channel: str) -> pa.Table:
    return world.assignments.filter(pc.equal(world.assignments["channel"], channel))


def report(world) -> list[dict[str, object]]:
    return front_line_report(world.assignments, world.outcomes(), engine=world.engine).to_pylist()


class TestFrontLineReport:
    def test_counts_by_problem_tag_offer_and_channel(self, world, make_outcomes):
        calls = of_channel(world, "outbound").filter(pc.field("offer_id") == "offer-1")
        assert calls.num_rows == 10
        reasons = ["wrong_number"] * 3 + ["wrong_tag:is_5g; wrong_tag:arpu"] * 2 + [None] * 5
        world.ingest(make_outcomes(calls, "connected", reason=reasons))
        found = {(row["problem"], row["tag"]): row for row in report(world)}
        assert set(found) == {
            ("wrong_number", None),
            ("wrong_tag", "is_5g"),
            ("wrong_tag", "arpu"),
        }
        row = found["wrong_number", None]
        assert (row["offer_id"], row["channel"]) == ("offer-1", "outbound")
        assert (row["reports"], row["touched"], row["share"]) == (3, 10, 0.3)
        assert found["wrong_tag", "arpu"]["share"] == 0.2
        assert report(world)[0]["reports"] == 3

    def test_an_assignment_counts_once_however_often_it_is_reported(self, world, make_outcomes):
        calls = of_channel(world, "outbound").slice(0, 1)
        for stage in ("connected", "refused"):
            world.ingest(make_outcomes(calls, stage, reason=["wrong_person"]))
        (row,) = report(world)
        assert (row["problem"], row["reports"]) == ("wrong_person", 1)

    def test_lists_and_held_rows_are_not_touched(self, world, make_outcomes):
        calls = of_channel(world, "outbound").filter(pc.field("offer_id") == "offer-1")
        world.ingest(make_outcomes(calls, "unknown", reason=["listed"] * 10))
        world.ingest(make_outcomes(calls.slice(0, 2), "failed", reason=["wrong_number"] * 2))
        (row,) = report(world)
        assert (row["reports"], row["touched"], row["share"]) == (2, 2, 1.0)

    def test_other_reasons_are_no_problem_of_the_data(self, world, make_outcomes):
        world.ingest(make_outcomes(world.assignments, reason=["busy"] * 60))
        assert report(world) == []

    def test_nothing_came_yet(self, world):
        assert report(world) == []

    def test_titles_in_both_languages(self):
        assert problem_title("wrong_number", "zh") == "号码错误"
        assert problem_title("other", "en") == "other"
        assert all(set(title) == {"zh", "en"} for title in PROBLEMS.values())
