"""The text form: what planners may type, what they are told, and the way back."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.audience import (
    And,
    AudienceSyntaxError,
    Between,
    Compare,
    Everyone,
    Flag,
    In,
    Member,
    Missing,
    Nobody,
    Not,
    Or,
    from_json,
    parse,
    to_json,
    to_text,
)
from bihuan.audience.algebra import AudienceTooLargeError
from bihuan.audience.text import TEXT_DEPTH, TEXT_SIZE
from bihuan.audience.words import excerpt

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
names = st.one_of(
    st.sampled_from(
        ["arpu", "has_contract", "月均收入", "5G流量", "and", "NOT", "为空", "大于", "a b"]
    ),
    texts.filter(bool),
)
numbers = st.one_of(
    st.integers(-(10**20), 10**20),
    st.decimals(
        allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=4
    ),
    st.floats(allow_nan=False, allow_infinity=False),
)
families = [numbers, texts, st.dates()]
values = st.one_of(st.booleans(), *families)
atoms = st.one_of(
    st.builds(Compare, names, st.sampled_from(["=", "!="]), values),
    st.builds(Compare, names, st.sampled_from(["<", "<=", ">", ">="]), st.one_of(*families)),
    st.one_of(
        *(st.builds(In, names, st.lists(family, max_size=3).map(tuple))
          for family in [*families, st.booleans()])
    ),
    st.one_of(*(st.builds(Between, names, family, family) for family in families)),
    st.builds(Flag, names),
    st.builds(Missing, names),
    st.builds(Member, texts.filter(bool)),
    st.just(Everyone()),
    st.just(Nobody()),
)  # fmt: skip
nodes = st.recursive(
    atoms,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=2, max_size=4).map(lambda parts: Or(tuple(parts))),
        st.builds(Not, inner),
    ),
    max_leaves=12,
)


def check_answer(text):
    """A text is either read, and then written and read alike, or refused with its place."""
    error = refusal(text)
    if error is None:
        node = parse(text)
        assert parse(to_text(node)) == node
    else:
        assert 0 <= error.position <= len(text)
        assert "^" in error.message
        assert "^" in error.zh


def refusal(text):
    try:
        parse(text)
    except AudienceSyntaxError as error:
        return error
    return None


class TestRoundTrip:
    @settings(max_examples=250, deadline=None, derandomize=True)
    @given(nodes)
    def test_a_written_tree_is_read_again(self, node):
        assert parse(to_text(node)) == node

    @settings(max_examples=250, deadline=None, derandomize=True)
    @given(nodes)
    def test_a_stored_tree_is_read_again(self, node):
        assert from_json(to_json(node)) == node

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(st.text(max_size=40))
    def test_any_text_is_read_or_refused_with_its_place(self, text):
        check_answer(text)

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(
        st.lists(
            st.sampled_from(
                ["(", ")", "and", "or", "not", "in", "between", "is", "missing", "a", "1", "'x'",
                 "=", ">=", ",", "audience", "everyone", "2026-01-31", "true", "且", "介于", "之间"]
            ),
            max_size=12,
        ).map(" ".join)
    )  # fmt: skip
    def test_any_words_are_read_or_refused_with_their_place(self, text):
        check_answer(text)


class TestParse:
    @pytest.mark.parametrize(
        ("text", "node"),
        [
            ("has_contract", Flag("has_contract")),
            ("x = true", Compare("x", "=", True)),
            ("x == FALSE", Compare("x", "=", False)),
            ("x <> 1", Compare("x", "!=", 1)),
            ("x≥1", Compare("x", ">=", 1)),
            ("x ≠ 'a'", Compare("x", "!=", "a")),
            ("x>-58.370", Compare("x", ">", Decimal("-58.37"))),
            ("x > +5.0e3", Compare("x", ">", 5000)),
            ("x in ()", In("x", ())),
            ("x IN (1,2)", In("x", (1, 2))),
            ("x not in ('a')", Not(In("x", ("a",)))),
            ("x not between 1 and 2", Not(Between("x", 1, 2))),
            ("x is missing", Missing("x")),
            ("x is null", Missing("x")),
            ("x is not missing", Not(Missing("x"))),
            ("d >= 2026-01-31", Compare("d", ">=", date(2026, 1, 31))),
            ("d >= '2026-01-31'", Compare("d", ">=", "2026-01-31")),
            ('x = "it\'s"', Compare("x", "=", "it's")),
            ("x = 'it''s'", Compare("x", "=", "it's")),
            ("x = “它说:‘好’”", Compare("x", "=", "它说:‘好’")),
            ("`a b` = 1", Compare("a b", "=", 1)),
            ("`and`", Flag("and")),
            ("`a``b`", Flag("a`b")),
            ("audience('高价值')", Member("高价值")),
            ("not not a", Not(Not(Flag("a")))),
            ("a and b or c", Or((And((Flag("a"), Flag("b"))), Flag("c")))),
            ("a and (b and c)", And((Flag("a"), And((Flag("b"), Flag("c")))))),
            ("((a))", Flag("a")),
            ("everyone or nobody", Or((Everyone(), Nobody()))),
            ("a\n  and\tb", And((Flag("a"), Flag("b")))),
            ("5G流量 > 3", Compare("5G流量", ">", 3)),
        ],
    )
    def test_reads(self, text, node):
        assert parse(text) == node

    @pytest.mark.parametrize(
        ("chinese", "english"),
        [
            ("甲 且 乙 并且 丙 与 丁", "甲 and 乙 and 丙 and 丁"),
            ("甲 或 非 乙 或者 不 丙", "甲 or not 乙 or not 丙"),
            ("城市 属于 （“石家庄”、“保定”）", "城市 in ('石家庄', '保定')"),
            ("城市 不属于（'石家庄'）", "城市 not in ('石家庄')"),
            ("在网月数 介于 12 和 24 之间 且 甲", "在网月数 between 12 and 24 and 甲"),
            ("在网月数 介于 12 与 24", "在网月数 between 12 and 24"),
            ("在网月数 不介于 12 到 24 之间", "在网月数 not between 12 and 24"),
            ("收入 大于等于 ８０．５", "收入 >= 80.5"),
            ("收入 不小于 80 或 收入 至少 80", "收入 >= 80 or 收入 >= 80"),
            ("收入 小于 80 且 收入 低于 80", "收入 < 80 and 收入 < 80"),
            ("收入 不超过 80 且 收入 ＜＝ 80", "收入 <= 80 and 收入 <= 80"),
            ("城市 不等于 '石家庄'", "城市 != '石家庄'"),
            (
                "城市 为空 或 城市 不为空 或 城市 缺失",
                "城市 is missing or 城市 is not missing or 城市 is missing",
            ),
            ("甲 等于 是 或 甲 = 假", "甲 = true or 甲 = false"),
            (
                "客户群（'高价值'） 或 所有客户 或 无客户",
                "audience('高价值') or everyone or nobody",
            ),
            ("ＡＲＰＵ　＞　80", "ARPU > 80"),
        ],
    )
    def test_reads_chinese_like_english(self, chinese, english):
        assert parse(chinese) == parse(english)

    @pytest.mark.parametrize(
        ("text", "position", "word"),
        [
            ("", 0, "expected a condition"),
            ("arpu >=", 7, "expected a value"),
            ("arpu >= and x", 8, "expected a value"),
            ("arpu => 80", 6, "expected a value"),
            ("a and", 5, "expected a condition"),
            ("a b", 2, "expected 'and', 'or' or the end"),
            ("a adn b", 2, "Did you mean 'and'?"),
            ("(a", 2, "expected ')'"),
            ("a)", 1, "expected 'and'"),
            ("x in 'a'", 5, "expected '('"),
            ("x in ('a' 'b')", 10, "expected ','"),
            ("x in ('a',)", 10, "expected a value"),
            ("x between 1", 11, "'and' between the two ends"),
            ("x is 5", 5, "expected 'missing'"),
            ("x = null", 4, "x is missing"),
            ("x = 石家庄", 4, "Put a text in quotes: '石家庄'"),
            ("x > 80元", 4, "without a unit"),
            ("x = 'abc", 4, "never closed"),
            ("x = “abc", 4, "never closed"),
            ("`abc", 0, "never closed"),
            ("``", 0, "empty"),
            ("x > 2026-02-30", 4, "no day 2026-02-30"),
            ("x in (1, 'a')", 6, "one kind"),
            ("x > true", 4, "no order"),
            ("x between true and false", 10, "no order"),
            ("a # b", 2, "no meaning here"),
            ("a and\n  b or or c", 13, "Line 2, column 8"),
            ("audience(x)", 9, "the id of an audience in quotes"),
            ("audience('')", 9, "the id of an audience in quotes"),
            ("x = 1e999", 4, "outside the range"),
            ("x = 'a\0b'", 4, "no table can hold"),
            ("not", 3, "expected a condition"),
        ],
    )
    def test_refuses_with_the_place(self, text, position, word):
        with pytest.raises(AudienceSyntaxError) as caught:
            parse(text)
        assert caught.value.position == position
        assert word in str(caught.value)
        assert caught.value.zh

    def test_the_caret_stands_under_the_wrong_word(self):
        with pytest.raises(AudienceSyntaxError) as caught:
            parse("城市 = '石家庄' 而且 x")
        lines = caught.value.message.splitlines()
        assert lines[1].strip() == "城市 = '石家庄' 而且 x"
        assert lines[2] == "    " + " " * len("ChCh = 'ShJiZh' ") + "^^^^"
        assert (caught.value.line, caught.value.column) == (1, 12)

    def test_a_long_line_is_cut_around_the_place(self):
        shown = excerpt("a" * 500 + "!" + "b" * 500, 500, 501)
        assert max(map(len, shown.splitlines())) < 130
        line, caret = shown.splitlines()
        assert line[caret.index("^")] == "!"


class TestLimits:
    def test_ten_thousand_terms_are_read(self):
        text = " or ".join(f"t{i} = {i}" for i in range(10_000))
        node = parse(text)
        assert len(node.parts) == 10_000
        assert to_text(node) == text

    def test_ten_thousand_values_are_read(self):
        assert len(parse(f"x in ({', '.join(map(str, range(10_000)))})").values) == 10_000

    def test_more_than_the_limit_is_refused(self):
        with pytest.raises(AudienceTooLargeError, match="20,000"):
            parse(" or ".join(f"t{i}" for i in range(TEXT_SIZE + 1)))
        with pytest.raises(AudienceTooLargeError, match="20,000"):
            parse(f"x in ({', '.join(map(str, range(TEXT_SIZE)))})")

    @pytest.mark.parametrize("nest", ["not " * 10_000 + "a", "(" * 10_000 + "a" + ")" * 10_000])
    def test_ten_thousand_levels_are_refused_not_crashed(self, nest):
        with pytest.raises(AudienceTooLargeError, match="48 levels") as caught:
            parse(nest)
        assert "48" in caught.value.zh

    def test_the_deepest_text_is_read(self):
        assert parse("(" * TEXT_DEPTH + "a" + ")" * TEXT_DEPTH) == Flag("a")
        assert parse("not " * TEXT_DEPTH + "a").depth == TEXT_DEPTH + 1


class TestToText:
    def test_uses_no_needless_parentheses(self):
        text = "a and not b and (c or d and not (e or f)) and x not in (1, 2.5)"
        assert to_text(parse(text)) == text

    def test_quotes_names_that_are_words_of_the_language(self):
        for name in ("and", "AND", "为空", "大于", "是", "a b", "1a", "Ａ", "a-b", "`"):
            assert parse(to_text(Flag(name))) == Flag(name)
        assert to_text(Flag("月均收入")) == "月均收入"
