"""When schedules are due: by the wall clock, through changes of the clock, never by guess."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihuan.server.app.job import Cron, CronError


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def walls(cron: Cron, start: str, end: str) -> list[str]:
    """Return the due times as a clock on that wall shows them."""
    times = cron.times(at(start), at(end))
    return [moment.astimezone(cron.zone).strftime("%d %H:%M%z") for moment in times]


class TestShanghai:
    def test_is_read_on_its_wall_clock(self):
        assert Cron("0 6 1 * *").next(at("2026-10-31T12:00")) == at("2026-10-31T22:00")

    def test_a_time_that_is_due_now_is_not_due_after_now(self):
        cron = Cron("0 6 * * *")
        assert cron.next(at("2026-10-31T22:00")) == at("2026-11-01T22:00")

    def test_a_sixth_field_in_front_is_the_second(self):
        assert Cron("*/20 * * * * *").times(at("2026-10-31T00:00"), at("2026-10-31T00:01")) == [
            at("2026-10-31T00:00:20"), at("2026-10-31T00:00:40"), at("2026-10-31T00:01:00"),
        ]  # fmt: skip

    def test_what_never_comes_is_none(self):
        assert Cron("0 0 30 2 *").next(at("2026-01-01T00:00")) is None


class TestChangeOfTheClock:
    """Berlin, 2026: forward on 29 March at 01:00Z, back on 25 October at 01:00Z."""

    def test_a_time_that_comes_twice_is_due_the_first_time(self):
        cron = Cron("30 2 * * *", "Europe/Berlin")
        assert walls(cron, "2026-10-24T12:00", "2026-10-26T12:00") == [
            "25 02:30+0200", "26 02:30+0100",
        ]  # fmt: skip

    def test_a_time_that_does_not_come_is_due_when_it_would_have_been(self):
        cron = Cron("30 2 * * *", "Europe/Berlin")
        assert walls(cron, "2026-03-28T12:00", "2026-03-30T12:00") == [
            "29 03:30+0200", "30 02:30+0200",
        ]  # fmt: skip

    def test_none_of_several_is_left_out_in_spring(self):
        cron = Cron("0,30 2,4 * * *", "Europe/Berlin")
        assert walls(cron, "2026-03-29T00:30", "2026-03-29T03:00") == [
            "29 03:00+0200", "29 03:30+0200", "29 04:00+0200", "29 04:30+0200",
        ]  # fmt: skip

    def test_every_quarter_of_an_hour_goes_on_through_the_hour_that_comes_twice(self):
        cron = Cron("*/15 * * * *", "Europe/Berlin")
        times = cron.times(at("2026-10-24T23:00"), at("2026-10-25T03:00"))
        assert {b - a for a, b in pairwise(times)} == {timedelta(minutes=15)}
        assert len(times) == 16

    def test_every_quarter_of_an_hour_goes_on_through_the_hour_left_out(self):
        cron = Cron("*/15 * * * *", "Europe/Berlin")
        times = cron.times(at("2026-03-28T23:00"), at("2026-03-29T03:00"))
        assert {b - a for a, b in pairwise(times)} == {timedelta(minutes=15)}

    @pytest.mark.parametrize("expression", ["15 * * * *", "0,30 1-4 * * *", "45 2 * * 0"])
    @pytest.mark.parametrize("day", ["2026-03-29", "2026-10-25"])
    @given(seconds=st.integers(0, 6 * 3600))
    def test_the_times_do_not_hang_on_where_one_looks_from(self, expression, day, seconds):
        cron = Cron(expression, "Europe/Berlin")
        start, end = at(f"{day}T00:00") - timedelta(hours=2), at(f"{day}T05:00")
        middle = start + timedelta(seconds=seconds)
        whole = cron.times(start, end)
        assert whole == sorted(set(whole))
        assert [t for t in whole if t > middle] == cron.times(middle, end)


class TestNewest:
    @given(days=st.floats(0, 400), expression=st.sampled_from(
        ["0 6 * * *", "*/7 * * * *", "0 0 1 1 *", "15 8 * * 1"]))  # fmt: skip
    def test_is_the_last_of_all(self, days, expression):
        cron = Cron(expression, "Europe/Berlin")
        until = at("2026-11-02T01:00")
        after = until - timedelta(days=min(days, 3) if "*/" in expression else days)
        times = cron.times(after, until, most=10_000)
        assert cron.newest(after, until) == (times[-1] if times else None)

    def test_is_quick_after_a_long_silence(self):
        cron = Cron("* * * * * *")
        until = at("2026-11-02T01:00")
        assert cron.newest(until - timedelta(days=3650), until) == until


class TestRefused:
    @pytest.mark.parametrize(
        "expression",
        ["", "* * * *", "60 * * * *", "@daily", "R * * * *", "H * * * *", "0 6 * * * * *",
         "* * * * mon-xyz", "0 6 1 13 *"],
    )  # fmt: skip
    def test_what_is_no_cron_expression(self, expression):
        with pytest.raises(CronError, match="not a cron expression") as told:
            Cron(expression)
        assert "cron" in told.value.zh

    @pytest.mark.parametrize("zone", ["", "Mars/Base", "../etc/passwd", "Asia"])
    def test_what_is_no_time_zone(self, zone):
        with pytest.raises(CronError, match="no time zone"):
            Cron("0 6 * * *", zone)
