"""What an expression may say, and the position of what it may not."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import exp

from bihuan.tag.expression import (
    AGGREGATES,
    SCALARS,
    ExpressionError,
    at_date,
    canonical_text,
    check_aggregation,
    check_columns,
    excerpt,
    parse_expression,
)


def refuse(text: str, thresholds=None) -> ExpressionError:
    with pytest.raises(ExpressionError) as caught:
        parse_expression(text, thresholds)
    return caught.value


def span_when_read(text: str) -> tuple[int, int]:
    try:
        parse_expression(text)
    except ExpressionError as error:
        return error.span
    return 0, 1


def pointed_at(error: ExpressionError, text: str) -> str:
    return text[slice(*error.span)]


class TestParse:
    @pytest.mark.parametrize(
        "text",
        [
            "amount",
            "sum(amount) filter (where kind = 'complaint' and months_ago < 2) / count(*)",
            "case when arpu >= 80 then 'high' when arpu is null then null else 'low' end",
            "count(distinct product_id)",
            "date_diff('day', as_of, contract_ends_on) between 0 and 60",
            "city in ('石家庄', '保定') and not has_contract",
            "cast(round(avg(amount)) as bigint)",
            "kind like 'com%' or coalesce(x, 0) <> 1 or -y > 3.5e2",
            "quantile_cont(amount, 0.9)",
            "extract(year from as_of) - birth_year",
            "contract_ends_on < as_of + interval 3 month",
            "greatest(a, b) // 2 % 7",
            "a is distinct from b",
        ],
    )
    def test_it_takes_what_a_tag_may_say(self, text):
        assert parse_expression(text).text == text

    @pytest.mark.parametrize(
        ("text", "at", "says"),
        [
            ("sum(amount) over (order by x)", "sum(amount) over (order by x", "window function"),
            ("amount > (select 1)", "1", "own"),
            ("exists (select x from y)", "x from y", "one source"),
            ("now()", "now()", "Use as_of"),
            ("a > current_date", "current_date", "Use as_of"),
            ("random() < 0.5", "random()", "the same each time"),
            ("read_csv('/etc/passwd')", "read_csv('/etc/passwd')", "not allowed"),
            ("first(amount)", "first(amount)", "order of the rows"),
            ("string_agg(kind)", "string_agg(kind)", "order of the rows"),
            ("averag(amount)", "averag(amount)", "Did you mean 'avg'?"),
            ("frobnicate(amount)", "frobnicate(amount)", "Allowed: arg_max"),
            ("t.amount", "t.amount", "column's name alone"),
            ("amount as x", "amount as x", "name already"),
            ("cast(a as struct(x int))", "cast(a as struct(x", "cannot be cast"),
            ("count(distinct a, b)", "a, b", "distinct takes one value"),
            ("sum(a) +", "+", "something is missing here"),
            ("1; drop table customer", "1; drop table customer", "one expression"),
            ("set x = 1", "x = 1", "not allowed"),
            ("a > ?", "a > ?", "a threshold has a name"),
            ("'open", "'open", "not closed"),
            ("", "", "cannot be read"),
        ],
    )
    def test_it_refuses_the_rest_and_points_at_it(self, text, at, says):
        error = refuse(text)
        assert says in str(error)
        assert pointed_at(error, text).rstrip(")") == at.rstrip(")")
        assert error.zh

    def test_the_excerpt_shows_line_column_and_carets_below_the_word(self):
        text = "arpu > 1\nand city in ('石家庄') and frob(x)"
        line, column, shown = excerpt(text, refuse(text).span)
        assert (line, column) == (2, text.split("\n")[1].index("frob") + 1)
        above, below = shown.split("\n")
        # Chinese letters take two columns of a terminal
        assert below.index("^") - above.index("frob") == len("石家庄")
        assert below.count("^") == len("frob(x)")

    def test_a_very_long_or_deep_expression_is_refused_not_a_crash(self):
        assert "longer than" in str(refuse("1+" * 6000 + "1"))
        assert "cannot be read" in str(refuse("(" * 4000))
        assert "cannot be read" in str(refuse("(" * 4000 + "a" + ")" * 4000))

    @given(st.text(max_size=40))
    def test_any_text_is_read_or_refused_with_a_span_inside_it(self, text):
        span = span_when_read(text)
        assert 0 <= span[0] <= span[1] <= max(len(text), 1)
        assert excerpt(text, span)[0] >= 1

    def test_comments_do_not_reach_the_engine(self):
        tree = parse_expression("amount /* drop */ + 1 -- now").tree
        assert tree.sql("duckdb") == "amount + 1"

    def test_equal_expressions_have_one_canonical_text(self):
        left = canonical_text("SUM( amount )/2")
        assert left == canonical_text("sum(amount) / 2 -- half")
        assert left != canonical_text("sum(amount) / 3")
        assert canonical_text("sum(") == "sum("

    def test_every_listed_function_exists_in_the_engine(self):
        import duckdb

        known = {
            row[0] for row in duckdb.sql("SELECT function_name FROM duckdb_functions()").fetchall()
        }
        grammar = {"coalesce", "nullif", "extract", "if"}  # words of the grammar, not functions
        assert (set(AGGREGATES) | set(SCALARS)) - grammar <= known


class TestThresholds:
    def test_values_and_lists_stand_for_their_names(self):
        parsed = parse_expression(
            "arpu >= $high and plan in $plans and since > $day",
            {"high": 80.5, "plans": ("a", "b'c"), "day": date(2026, 1, 1)},
        )
        assert parsed.tree.sql("duckdb") == (
            "arpu >= 80.5 AND plan IN ('a', 'b''c') AND since > CAST('2026-01-01' AS DATE)"
        )

    @pytest.mark.parametrize(
        ("text", "thresholds", "at"),
        [
            ("arpu >= $high", {}, "$high"),
            ("arpu >= 80", {"high": 80}, "arpu >= 80"),
            ("arpu >= $high", {"high": (1, 2)}, "$high"),
            ("plan in $plans", {"plans": "a"}, "$plans"),
        ],
    )
    def test_missing_unused_and_misplaced_thresholds_are_refused(self, text, thresholds, at):
        assert pointed_at(refuse(text, thresholds), text) == at


class TestSafety:
    def test_every_division_guards_against_zero(self):
        assert parse_expression("a / b / 2").tree.sql("duckdb") == "a / NULLIF(b, 0) / 2"
        assert "NULLIF(0, 0)" in parse_expression("a / 0").tree.sql("duckdb")

    def test_as_of_is_the_date(self):
        tree = at_date(parse_expression("as_of > x").tree, date(2026, 10, 31))
        assert tree.sql("duckdb") == "CAST('2026-10-31' AS DATE) > x"
        assert parse_expression("as_of > x").columns == ("x",)


class TestCheckColumns:
    def test_an_unknown_column_is_named_with_its_nearest(self):
        parsed = parse_expression("sum(amount) + max(amout)")
        with pytest.raises(ExpressionError, match="Did you mean 'amount'") as caught:
            check_columns(parsed, ["amount", "account_id"], "Table 'bill'", "表 bill")
        assert caught.value.span == (18, 23)

    def test_names_are_case_sensitive_as_in_the_contract(self):
        with pytest.raises(ExpressionError, match="'amount'"):
            check_columns(parse_expression("Amount"), ["amount"], "It", "它")


class TestCheckAggregation:
    @pytest.mark.parametrize(
        ("text", "at"),
        [
            ("avg(sum(amount))", "sum(amount)"),
            ("max(amount) filter (where sum(x) > 1)", "sum(x)"),
            ("sum(amount) + amount", "amount"),
            ("months_ago", "months_ago"),
            ("as_of", "as_of"),
        ],
    )
    def test_of_many_rows_every_column_is_inside_one_aggregate(self, text, at):
        parsed = parse_expression(text)
        with pytest.raises(ExpressionError) as caught:
            check_aggregation(parsed, many_rows=True, what="Table 't'", what_zh="表 t")
        start, end = caught.value.span
        assert text[start:end] == at
        assert start == text.rindex(at)

    def test_of_one_row_there_is_nothing_to_aggregate(self):
        text = "1 + max(birth_year)"
        with pytest.raises(ExpressionError, match="one row per subject") as caught:
            check_aggregation(parse_expression(text), many_rows=False, what="t", what_zh="t")
        assert pointed_at(caught.value, text) == "max(birth_year)"

    def test_constants_and_as_of_may_stand_beside_aggregates(self):
        parsed = parse_expression("date_diff('day', min(since), as_of) + 1")
        check_aggregation(parsed, many_rows=True, what="t", what_zh="t")

    def test_the_defective_check_that_only_counts_parentheses_is_caught(self):
        """A check that asks only whether an aggregate is somewhere lets the first case through."""
        parsed = parse_expression("sum(amount) + amount")
        assert parsed.aggregates  # what the defective check looks at
        assert isinstance(parsed.tree, exp.Add)
        with pytest.raises(ExpressionError):
            check_aggregation(parsed, many_rows=True, what="t", what_zh="t")
