from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bihuan.kernel import FixedClock, SystemClock


class TestFixedClock:
    def test_it_stands_still_until_it_is_moved(self):
        clock = FixedClock(datetime(2026, 10, 31, tzinfo=UTC))
        assert clock.now() == clock.now()
        clock.advance(timedelta(days=1))
        assert clock.now() == datetime(2026, 11, 1, tzinfo=UTC)
        clock.advance(timedelta(days=-2))
        assert clock.now() == datetime(2026, 10, 30, tzinfo=UTC)


class TestSystemClock:
    def test_it_tells_utc_with_its_zone(self):
        now = SystemClock().now()
        assert now.utcoffset() == timedelta(0)

    def test_it_does_not_go_back(self):
        clock = SystemClock()
        assert clock.now() <= clock.now()
