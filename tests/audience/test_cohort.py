"""Cohorts: frozen, whole, followed with their losses."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from bihuan.audience import (
    NotEstimable,
    find_cohort,
    follow_cohort,
    follow_table,
    list_cohorts,
    lost_members,
    parse,
    take_cohort,
    take_snapshot,
)
from bihuan.audience.segment import following as following_module
from bihuan.audience.segment.cohort import CohortError
from bihuan.data import Lake
from bihuan.kernel import DefectError

THEN, LATER = date(2026, 9, 30), date(2026, 10, 31)
KEPT = parse("not on_red_list and arpu >= 50")  # who leaves, or drops to low-end, is lost


def row(customer, arpu, months, gone=False):
    arpu = None if arpu is None else Decimal(arpu)
    return {
        "customer_id": customer, "arpu": arpu, "tenure_months": months, "on_red_list": gone
    }  # fmt: skip


BEFORE = [
    row("a", 100, 5), row("b", 200, 6), row("c", 150, 7), row("d", None, 8), row("e", 120, 1),
    row("x", 20, 5), row("y", 60, 5), row("z", 70, 5),
]  # fmt: skip
AFTER = [  # b has left the base, c has gone, e has dropped to low-end, n is new
    row("a", 110, 6), row("c", 150, 8, gone=True), row("d", 90, 9), row("e", 30, 2),
    row("x", 80, 6), row("y", 60, 6), row("n", 500, 0),
]  # fmt: skip


@pytest.fixture
def world(harness, tmp_path, engine, clock):
    lake = Lake(tmp_path / "lake")
    tags = harness.store_tags(lake, harness.FIELDS, BEFORE, as_of=THEN)
    later = harness.store_tags(lake, harness.FIELDS, AFTER, as_of=LATER)
    where = {"lake": lake, "engine": engine, "clock": clock}

    def take(name="mid_high", text="arpu >= 100 or arpu is missing", values=("arpu",)):
        snapshot = take_snapshot(parse(text), tags, **where)
        return take_cohort(name, snapshot, tags, values=values, who="t", why="w", **where)

    return {"lake": lake, "tags": tags, "later": later, "take": take, "engine": engine}


class TestTakeCohort:
    def test_members_and_rest_are_the_whole_base(self, world):
        cohort = world["take"]()
        assert (cohort.members, cohort.rest, cohort.as_of) == (5, 3, THEN)
        rows = cohort.stored.read().to_pylist()
        assert [r["customer_id"] for r in rows if r["in_cohort"]] == ["a", "b", "c", "d", "e"]
        assert [r["customer_id"] for r in rows if not r["in_cohort"]] == ["x", "y", "z"]

    def test_the_same_is_found_and_another_is_refused(self, world):
        cohort = world["take"]()
        assert world["take"]() == cohort
        with pytest.raises(CohortError, match="never replaced"):
            world["take"](text="arpu >= 120")
        assert find_cohort(world["lake"].view(), "mid_high") == cohort
        world["take"]("other", "arpu < 100")
        assert [c.name for c in list_cohorts(world["lake"].view())] == ["mid_high", "other"]

    def test_nobody_is_no_cohort(self, world):
        with pytest.raises(CohortError, match="empty"):
            world["take"](text="arpu > 9000")

    def test_new_values_of_the_same_date_do_not_change_it(self, world, harness):
        cohort = world["take"]()
        harness.store_tags(world["lake"], harness.FIELDS, BEFORE[:2], as_of=THEN)
        again = find_cohort(world["lake"].view(), "mid_high")
        assert again.stored.read() == cohort.stored.read()


class TestFollowCohort:
    def test_who_left_stays_a_member_and_is_counted_as_lost(self, world):
        own, rest = follow_cohort(world["take"](), world["later"], KEPT, engine=world["engine"])
        assert (own.size, own.absent, own.dropped, own.kept) == (5, 1, 2, 2)
        assert own.retained == pytest.approx(2 / 5)
        assert own.low < own.retained < own.high
        assert (rest.group, rest.size, rest.absent, rest.kept) == ("rest", 3, 1, 2)

    def test_values_then_and_now_of_the_same_people(self, world):
        own, rest = follow_cohort(world["take"](), world["later"], KEPT, engine=world["engine"])
        value = own.values[0]
        assert (value.known, value.then, value.now) == (1, 100, 110)  # a; d was not known then
        assert value.kept_value == pytest.approx((110 + 90) / (100 + 200 + 150 + 120))
        assert rest.values[0].kept_value == pytest.approx((80 + 60) / (20 + 60 + 70))

    def test_forgetting_the_losses_would_flatter(self, world, monkeypatch):
        """The defect: an inner join, by which only those still there are looked at."""
        cohort = world["take"]()
        right = following_module._joined

        def inner(*given):
            query, sources = right(*given)
            query.args["joins"][0].set("side", None)
            return query, sources

        monkeypatch.setattr(following_module, "_joined", inner)
        with pytest.raises(DefectError, match="taken with 5 members"):
            follow_cohort(cohort, world["later"], KEPT, engine=world["engine"])

    def test_against_another_cohort(self, world):
        one, two = world["take"](), world["take"]("low", "arpu < 100")
        found = follow_cohort(one, world["later"], KEPT, engine=world["engine"], against=two)
        assert [(f.group, f.size) for f in found] == [("cohort", 5), ("low", 3)]

    def test_only_forward(self, world):
        late = world["later"]
        cohort = world["take"]()
        back = {**vars(late), "as_of": date(2026, 8, 31)}
        with pytest.raises(CohortError, match="cannot be followed"):
            follow_cohort(cohort, type(late)(**back), KEPT, engine=world["engine"])

    def test_a_worthless_group_has_no_kept_value(self, world):
        cohort = world["take"]("new", "tenure_months = 8", ("arpu",))
        found = follow_cohort(cohort, world["later"], parse("everyone"), engine=world["engine"])
        assert isinstance(found[0].values[0].kept_value, NotEstimable)

    def test_table(self, world):
        steps = follow_cohort(world["take"](), world["later"], KEPT, engine=world["engine"])
        rows = follow_table(steps).to_pylist()
        assert [(r["group"], r["kept"], r["size"]) for r in rows] == [
            ("cohort", 2, 5), ("rest", 2, 3)
        ]  # fmt: skip


class TestLostMembers:
    def test_who_and_how(self, world):
        rows = lost_members(world["take"](), world["later"], KEPT, engine=world["engine"])
        assert [(r["customer_id"], r["how"], r["arpu"]) for r in rows.to_pylist()] == [
            ("b", "absent", 200), ("c", "dropped", 150), ("e", "dropped", 120)
        ]  # fmt: skip
