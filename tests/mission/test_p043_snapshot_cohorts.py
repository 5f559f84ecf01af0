"""P043: mid/high-end customers are frozen (拍照) at a date, served, and compared month by month."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bihuan.kernel import UserError

MID_HIGH = "arpu >= 80 and not is_disconnected"
KEPT = "not is_disconnected and arpu >= 50"  # who leaves or drops to low-end is not retained
NAMES = ("arpu", "dou", "is_disconnected")


def rows_at(ws, day):
    rows = ws.tags(day).read(ws.engine, NAMES).to_pylist()
    return {row["customer_id"]: row for row in rows}


@pytest.fixture(scope="module")
def world(operator, tmp_path_factory, tools) -> SimpleNamespace:
    """The operator; after the photograph some members vanish from the newest month's extracts."""
    import shutil

    folder = tmp_path_factory.mktemp("cohort") / "operator"
    shutil.copytree(operator.folder, folder)
    ws = tools.open_at(folder / "ws")
    first, last = operator.months[1], operator.last
    cohort = ws.cohorts.take("mid_high_2026_08", MID_HIGH, first, who="retention", why="contracts")
    then = rows_at(ws, first)
    members = sorted(
        c for c, r in then.items() if r["arpu"] is not None and r["arpu"] >= 80
        and not r["is_disconnected"]
    )  # fmt: skip
    gone = set(members[::40])
    customers = ws.view.get("customer", last).read()
    keep = [c not in gone for c in customers["customer_id"].to_pylist()]
    tools.extract(ws, customers.filter(keep), "customer", last)
    ws.refresh_tags(last)
    return SimpleNamespace(
        ws=ws, cohort=cohort, first=first, last=last, then=then, members=members, gone=gone,
        now=rows_at(ws, last), months=operator.months[1:],
    )  # fmt: skip


@pytest.mark.mission("P043")
class TestCohort:
    """E-27: 拍照中高端客户: frozen as a snapshot for service and comparison."""

    def test_e27_the_members_of_that_day_and_no_others(self, world) -> None:
        assert world.cohort.members == len(world.members)
        assert world.cohort.members + world.cohort.rest == len(world.then)
        frozen = world.cohort.stored.read().to_pylist()
        assert [r["customer_id"] for r in frozen if r["in_cohort"]] == world.members
        assert (world.cohort.who, world.cohort.why) == ("retention", "contracts")
        assert [c.name for c in world.ws.cohorts.list()] == ["mid_high_2026_08"]

    def test_e27_a_photograph_is_not_retouched(self, world) -> None:
        again = world.ws.cohorts.take(
            "mid_high_2026_08", MID_HIGH, world.first, who="retention", why="contracts"
        )
        assert again == world.cohort
        with pytest.raises(UserError, match="never replaced"):
            world.ws.cohorts.take("mid_high_2026_08", "arpu >= 200", world.first)
        with pytest.raises(UserError, match="There is no cohort 'unknown'"):
            world.ws.cohorts.follow("unknown")

    def test_e27_month_by_month_against_those_outside(self, world) -> None:
        follow = world.ws.cohorts.follow("mid_high_2026_08", kept=KEPT)
        assert [step.as_of for step in follow.of()] == list(world.months)
        assert [step.as_of for step in follow.of("rest")] == list(world.months)
        step, rest = follow.of()[-1], follow.of("rest")[-1]

        def kept(customer: str) -> bool:
            row = world.now.get(customer)
            return bool(
                row and not row["is_disconnected"] and row["arpu"] is not None and row["arpu"] >= 50
            )

        others = [c for c in world.then if c not in set(world.members)]
        assert step.size == len(world.members)
        assert step.kept == sum(map(kept, world.members))
        assert rest.kept == sum(map(kept, others))
        assert step.retained == pytest.approx(step.kept / len(world.members))
        assert follow.of()[0].retained == 1.0

    def test_e27_who_left_the_base_stays_a_member_and_counts_as_lost(self, world) -> None:
        step = world.ws.cohorts.follow("mid_high_2026_08", [world.last], kept=KEPT).of()[0]
        assert step.absent == len(world.gone) > 0
        assert step.size == step.kept + step.dropped + step.absent
        lost = world.ws.cohorts.lost("mid_high_2026_08", world.last, kept=KEPT).to_pylist()
        assert {row["customer_id"] for row in lost if row["how"] == "absent"} == world.gone
        assert len(lost) == step.lost
        # the defect: dividing by those still there would flatter
        assert step.kept / (step.size - step.absent) > step.retained

    def test_e27_arpu_and_dou_then_and_now_of_the_same_people(self, world) -> None:
        step = world.ws.cohorts.follow("mid_high_2026_08", [world.last], kept=KEPT).of()[0]
        for value in step.values:
            pairs = [
                (world.then[c][value.tag], world.now[c][value.tag])
                for c in world.members
                if c in world.now
                and not world.now[c]["is_disconnected"]
                and (world.now[c]["arpu"] or 0) >= 50
                and world.then[c][value.tag] is not None
                and world.now[c][value.tag] is not None
            ]
            assert value.known == len(pairs)
            assert value.then == pytest.approx(sum(float(a) for a, _ in pairs) / len(pairs))
            assert value.now == pytest.approx(sum(float(b) for _, b in pairs) / len(pairs))
            worth = sum(float(world.then[c][value.tag] or 0) for c in world.members)
            assert value.kept_value == pytest.approx(sum(float(b) for _, b in pairs) / worth)

    def test_e27_against_another_cohort_as_table_and_chart(self, world) -> None:
        ws = world.ws
        low = ws.cohorts.take("low_2026_08", "arpu < 80 and not is_disconnected", world.first)
        follow = ws.cohorts.follow(
            "mid_high_2026_08", [world.last], kept="not is_disconnected", against="low_2026_08"
        )
        assert [(s.group, s.size) for s in follow.steps] == [
            ("cohort", world.cohort.members), ("low_2026_08", low.members)
        ]  # fmt: skip
        rows = follow.table().to_pylist()
        assert {"arpu_then", "arpu_now", "dou_kept", "retained"} <= set(rows[0])
        chart = follow.chart()
        assert [point["group"] for point in chart] == ["cohort", "low_2026_08"]
        assert all(p["low"] <= p["retained"] <= p["high"] for p in chart)
