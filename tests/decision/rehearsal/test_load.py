"""Channel load: spread within the room of each day, and what does not fit is said."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihuan.decision.rehearsal import DailyCapacity, level_fill, spread_load, working_days
from bihuan.kernel import UserError

FIRST = date(2026, 11, 2)
WEEK = tuple(FIRST + timedelta(days=i) for i in range(5))
OPEN = DailyCapacity({}, {})


class TestDays:
    def test_days_of_several_steps_once_each_without_rest_days(self):
        steps = [(FIRST, FIRST + timedelta(days=6)), (FIRST, FIRST + timedelta(days=1))]
        assert working_days(steps, rest_days=frozenset({5, 6})) == WEEK


class TestFill:
    @given(
        st.floats(0, 1e6),
        st.lists(st.floats(0, 1e5), min_size=1, max_size=30),
    )
    def test_it_is_whole_within_room_and_as_level_as_can_be(self, total, rooms):
        room = np.array(rooms)
        found = level_fill(total, room)
        assert (found <= room + 1e-9).all()
        assert found.sum() == pytest.approx(min(total, room.sum()), rel=1e-9, abs=1e-6)
        not_full = found < room - 1e-6
        if not_full.any():  # nobody is above a day that still has room
            assert found.max() <= found[not_full].min() + 1e-6

    def test_open_days_take_the_same(self):
        assert level_fill(10.0, np.full(4, np.inf)).tolist() == [2.5] * 4


class TestSpread:
    def test_contacts_go_to_the_days_that_have_room(self):
        busy = {(WEEK[0], "outbound", "u1"): 30.0, (WEEK[1], "outbound", "u1"): 10.0}
        seats = DailyCapacity({}, {("outbound", "u1"): 40.0})
        found = spread_load({("outbound", "u1"): 100.0}, busy, WEEK, seats)
        planned = [day.planned for day in found.days]
        assert planned == pytest.approx([10, 22.5, 22.5, 22.5, 22.5])
        assert [day.live for day in found.days] == [30, 10, 0, 0, 0]
        assert found.overflow == 0
        assert found.peak == pytest.approx(1.0)

    def test_what_fits_on_no_day_is_overflow_with_its_desk_first(self):
        seats = DailyCapacity({}, {("outbound", "u1"): 10.0, ("outbound", "u2"): 100.0})
        planned = {("outbound", "u1"): 80.0, ("outbound", "u2"): 80.0}
        found = spread_load(planned, {}, WEEK, seats)
        assert found.overflow == pytest.approx(30)
        assert (found.desks[0].org_unit_id, found.desks[0].overflow) == ("u1", 30)
        assert found.desks[1].overflow == 0

    def test_a_channel_may_be_full_although_every_desk_has_room(self):
        seats = DailyCapacity({"sms": 20.0}, {})
        found = spread_load({("sms", "u1"): 80.0, ("sms", "u2"): 80.0}, {}, WEEK, seats)
        assert found.overflow == pytest.approx(60)
        assert {day.planned for day in found.days} == {20.0}
        assert {day.capacity for day in found.days} == {20.0}
        assert [(c.channel, c.overflow, c.peak) for c in found.channels] == [("sms", 60.0, 1.0)]

    def test_live_campaigns_of_other_units_fill_the_channel_too(self):
        busy = {(day, "sms", "elsewhere"): 15.0 for day in WEEK}
        found = spread_load({("sms", "u1"): 50.0}, busy, WEEK, DailyCapacity({"sms": 20.0}, {}))
        assert found.overflow == pytest.approx(25)
        assert {day.planned for day in found.days} == {5.0}
        assert found.peak == pytest.approx(1.0)

    def test_nothing_is_lost(self):
        rng = np.random.default_rng(5)
        planned = {
            (channel, f"u{i}"): float(rng.integers(0, 90)) for channel in "ab" for i in range(20)
        }
        seats = DailyCapacity({"a": 150.0}, {desk: float(rng.integers(0, 20)) for desk in planned})
        found = spread_load(planned, {}, WEEK, seats)
        done = sum(day.planned for day in found.days)
        assert done + found.overflow == pytest.approx(sum(planned.values()))

    def test_without_a_day_nothing_can_be_done(self):
        found = spread_load({("sms", None): 9.0}, {}, (), OPEN)
        assert (found.overflow, found.days) == (9.0, ())

    def test_a_live_load_beyond_capacity_shows_as_such(self):
        busy = {(day, "sms", None): 30.0 for day in WEEK}
        found = spread_load({("sms", None): 5.0}, busy, WEEK, DailyCapacity({"sms": 20.0}, {}))
        assert found.peak == pytest.approx(1.5)
        assert found.overflow == 5.0

    def test_a_negative_capacity_is_refused(self):
        with pytest.raises(UserError, match="daily capacity of sms is -1"):
            DailyCapacity({"sms": -1.0}, {})
