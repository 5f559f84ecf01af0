from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bihuan.kernel import Money, UserError

cents = st.integers(min_value=-(10**15), max_value=10**15)


class TestOf:
    @pytest.mark.parametrize(
        ("amount", "minor"),
        [
            ("58.37", 5837),
            (1, 100),
            (0.1, 10),
            (Decimal("-0.01"), -1),
            ("2.675", 268),
            ("0.005", 0),
            ("0.015", 2),
            ("-0.005", 0),
        ],
    )
    def test_half_a_minor_unit_rounds_to_even(self, amount, minor):
        assert Money.of(amount).minor == minor

    def test_a_float_means_what_it_prints(self):
        # 1.005 is stored as 1.00499999999999989...; the one who typed it meant 1.005
        assert Money.of(1.005) == Money.of("1.005")

    @given(cents)
    def test_amount_and_of_are_inverse(self, minor):
        assert Money.of(Money(minor).amount) == Money(minor)


class TestArithmetic:
    @given(st.lists(cents, max_size=50))
    def test_sums_are_exact(self, values):
        total = Money(0)
        for value in values:
            total = total + Money(value)
        assert total.minor == sum(values)

    def test_a_sum_of_floats_would_not_be(self):
        assert sum([0.1] * 10) != 1.0
        assert sum((Money.of("0.1") for _ in range(10)), Money(0)) == Money.of(1)

    def test_subtraction_negation_and_multiples(self):
        assert Money.of(3) - Money.of(5) == -Money.of(2)
        assert Money.of("19.99") * 3 == Money.of("59.97")

    @pytest.mark.parametrize("act", [lambda a, b: a + b, lambda a, b: a - b])
    def test_currencies_do_not_mix(self, act):
        with pytest.raises(UserError, match="USD"):
            act(Money(1, "CNY"), Money(1, "USD"))

    def test_amounts_are_ordered(self):
        assert sorted([Money(3), Money(-1), Money(2)]) == [Money(-1), Money(2), Money(3)]


class TestText:
    @pytest.mark.parametrize(
        ("money", "text"),
        [
            (Money.of("1234567.5"), "¥1,234,567.50"),
            (Money.of("-0.01"), "-¥0.01"),
            (Money(5, "USD"), "$0.05"),
            (Money(100, "CHF"), "CHF 1.00"),
        ],
    )
    def test_it_reads_as_money(self, money, text):
        assert str(money) == text
