"""Together two limits allow what both allow; tighter means a part of it."""

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.strategy.policy import Cap, Hours
from bihuan.strategy.policy.limit import is_looser, is_within, meet

CAPS = st.builds(Cap, st.integers(1, 6), st.integers(0, 3))
RANGES = st.lists(st.tuples(st.integers(0, 23), st.integers(1, 24)), max_size=3).map(
    lambda pairs: Hours.parse([f"{a:02d}:00-{b:02d}:00" for a, b in pairs if a < b])
)


def keeps(days: tuple[int, ...], cap: Cap) -> bool:
    """Whether contacts on these days keep a cap, counted window by window."""
    return all(sum(days[start : start + cap.days]) <= cap.most for start in range(len(days)))


class TestCap:
    @settings(max_examples=40, deadline=None)
    @given(CAPS, CAPS)
    def test_one_implies_the_other_exactly_if_no_calendar_tells_them_apart(
        self, one: Cap, other: Cap
    ) -> None:
        # every calendar of 6 days with up to 2 contacts a day, and the worst one of 12
        calendars = list(product(range(3), repeat=6))
        worst = tuple(one.most if day % one.days == 0 else 0 for day in range(12))
        if one.implies(other):
            assert all(keeps(days, other) for days in calendars if keeps(days, one))
            assert keeps(worst, other)
        else:
            assert keeps(worst, one)
            assert not keeps(worst, other)

    @given(st.lists(CAPS, min_size=1, max_size=4), st.lists(CAPS, min_size=1, max_size=4))
    def test_caps_over_other_windows_all_hold(self, one: list[Cap], other: list[Cap]) -> None:
        both = meet("caps.any", tuple(one), tuple(other))
        assert isinstance(both, tuple)
        for cap in [*one, *other]:
            assert any(kept.implies(cap) for kept in both)
        assert set(both) <= {*one, *other}

    def test_a_cap_is_looser_only_where_it_says_less(self) -> None:
        month = (Cap(30, 2),)
        assert is_looser("caps.sms", (Cap(30, 3),), month)
        assert is_looser("caps.sms", (Cap(7, 2),), month)  # two a month are never three a week
        assert not is_looser("caps.sms", (Cap(7, 1),), month)  # says more: not two in one week
        assert not is_looser("caps.sms", (Cap(30, 1),), month)
        assert not is_looser("caps.sms", (Cap(90, 3),), month)


class TestHours:
    @given(RANGES, RANGES)
    def test_together_they_allow_what_both_allow(self, one: Hours, other: Hours) -> None:
        both = one.meet(other)
        for minute in range(0, 24 * 60, 30):
            assert both.contain(minute) == (one.contain(minute) and other.contain(minute))
        assert one.is_within(other) == all(
            other.contain(m) for m in range(0, 24 * 60, 30) if one.contain(m)
        )

    def test_ranges_that_touch_are_one(self) -> None:
        assert str(Hours.parse(["12:00-14:00", "09:00-12:00"])) == "09:00-14:00"

    @pytest.mark.parametrize("text", ["20:00-08:00", "9-12", "09:00-09:00", "09:00-24:30"])
    def test_a_text_that_is_no_range_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=text):
            Hours.parse([text])


class TestMeet:
    @pytest.mark.parametrize(
        ("facet", "one", "other", "both"),
        [
            ("price.low", 5.0, 8.0, 8.0),
            ("price.high", 5.0, 8.0, 5.0),
            ("max_discount", 0.3, 0.2, 0.2),
            ("budget", 100.0, 70.0, 70.0),
            ("channels", frozenset({"sms", "app"}), frozenset({"app"}), frozenset({"app"})),
        ],
    )
    def test_the_tighter_one_holds(self, facet: str, one, other, both) -> None:
        assert meet(facet, one, other) == meet(facet, other, one) == both
        assert is_within(facet, both, one)
        assert is_within(facet, both, other)
        assert is_looser(facet, one, other) == (both != one)
