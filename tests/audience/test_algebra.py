"""Nodes, literals, limits."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from bihuan.audience import And, Between, Compare, Everyone, Flag, In, Nobody, Not, Or
from bihuan.audience.algebra import (
    MAX_DEPTH,
    MAX_SIZE,
    AudienceTooLargeError,
    Span,
    all_of,
    any_of,
    tags_of,
    walk,
)
from bihuan.audience.literal import AudienceError, LiteralError, day_of, literal


class TestEquality:
    def test_a_number_is_what_it_is_worth_however_it_is_written(self):
        assert (
            Compare("x", "=", 80) == Compare("x", "=", Decimal("80.00")) == Compare("x", "=", 80.0)
        )
        assert Compare("x", "=", 0.1) == Compare("x", "=", Decimal("0.1"))
        assert hash(Compare("x", "=", 0.1)) == hash(Compare("x", "=", Decimal("0.10")))

    def test_true_is_not_one(self):
        assert Compare("x", "=", True) != Compare("x", "=", 1)
        assert len({Compare("x", "=", True), Compare("x", "=", 1)}) == 2

    def test_a_text_is_not_a_date_nor_a_number(self):
        assert Compare("x", "=", "2026-01-31") != Compare("x", "=", date(2026, 1, 31))
        assert Compare("x", "=", "80") != Compare("x", "=", 80)

    def test_kinds_of_node_differ(self):
        parts = (Flag("a"), Flag("b"))
        assert And(parts) != Or(parts)
        assert Everyone() != Nobody()
        assert Flag("a") != "a"

    def test_where_a_node_was_written_does_not_count(self):
        assert Flag("a", span=Span("a", 0, 1)) == Flag("a")

    def test_order_counts_until_normalised(self):
        assert And((Flag("a"), Flag("b"))) != And((Flag("b"), Flag("a")))

    def test_nodes_are_frozen(self):
        with pytest.raises(AttributeError):
            Flag("a").tag = "b"


class TestLiteral:
    @pytest.mark.parametrize(
        "value",
        [
            math.nan,
            math.inf,
            -math.inf,
            Decimal("NaN"),
            Decimal("sNaN"),
            Decimal("Infinity"),
            Decimal("1e400"),
            Decimal("1e-400"),
            Decimal("1." + "1" * 38),
            10**400,
            "a\0b",
            "\ud800",
            None,
            datetime(2026, 1, 31, tzinfo=UTC),
            b"x",
            [1],
        ],
    )
    def test_refuses_what_no_tag_can_equal(self, value):
        with pytest.raises(LiteralError) as caught:
            Compare("x", "=", value)
        assert caught.value.zh

    def test_whole_decimals_become_integers_without_rounding(self):
        assert literal(Decimal("1" * 38)) == int("1" * 38)
        assert type(literal(Decimal("80.00"))) is int
        assert literal(Decimal("58.370")).as_tuple() == Decimal("58.37").as_tuple()

    def test_zero_has_no_sign(self):
        assert str(literal(-0.0)) == "0.0"
        assert literal(Decimal("-0.00")) == 0
        assert str(literal(Decimal("-0.00"))) == "0"

    def test_days_have_one_form(self):
        assert day_of("2026-01-31") == date(2026, 1, 31)
        for text in ("20260131", "2026-W05-6", "2026-1-31", "2026-02-30", ""):
            with pytest.raises(ValueError, match=r"isoformat|day|written"):
                day_of(text)


class TestNode:
    def test_values_of_one_condition_are_of_one_kind(self):
        with pytest.raises(LiteralError, match="one kind"):
            In("x", (1, "1"))
        with pytest.raises(LiteralError, match="one kind"):
            In("x", (True, 1))
        with pytest.raises(LiteralError, match="one kind"):
            Between("x", 1, date(2026, 1, 31))

    def test_true_and_false_have_no_order(self):
        with pytest.raises(LiteralError, match="no order"):
            Compare("x", "<", True)
        with pytest.raises(LiteralError, match="no order"):
            Between("x", False, True)

    def test_refuses_an_unknown_comparison_and_an_empty_name(self):
        with pytest.raises(AudienceError, match="not a comparison"):
            Compare("x", "~", 1)
        with pytest.raises(AudienceError, match="tag name"):
            Flag("")

    def test_and_or_join_at_least_two(self):
        with pytest.raises(AudienceError, match="at least two"):
            And((Flag("a"),))
        assert all_of([]) == Everyone()
        assert any_of([]) == Nobody()
        assert all_of([Flag("a")]) == any_of([Flag("a")]) == Flag("a")

    def test_depth_and_size(self):
        node = And((Not(Flag("a")), In("b", (1, 2, 3))))
        assert (node.depth, node.size) == (3, 7)

    def test_walk_and_tags(self):
        node = Or((Not(Flag("b")), And((Compare("a", "=", 1), Flag("b")))))
        assert [type(part).__name__ for part in walk(node)] == [
            "Or", "Not", "Flag", "And", "Compare", "Flag",
        ]  # fmt: skip
        assert tags_of(node) == ("a", "b")


class TestLimits:
    def test_the_deepest_tree_can_be_built_compared_and_shown(self):
        def deepest():
            node = Flag("a")
            for _ in range(MAX_DEPTH - 1):
                node = Not(node)
            return node

        assert deepest() == deepest()
        assert hash(deepest()) == hash(deepest())
        assert repr(deepest()).count("Not(") == MAX_DEPTH - 1
        with pytest.raises(AudienceTooLargeError, match="64 levels"):
            Not(deepest())

    def test_the_widest_tree_is_limited(self):
        parts = tuple(Flag(f"t{i}") for i in range(MAX_SIZE))
        with pytest.raises(AudienceTooLargeError, match="50,000 terms"):
            Or(parts)
        assert Or(parts[:-1]).size == MAX_SIZE
        with pytest.raises(AudienceTooLargeError):
            In("x", tuple(range(MAX_SIZE)))
