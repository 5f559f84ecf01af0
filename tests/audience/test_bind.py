"""Binding: names, types, codes, saved audiences."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from bihuan.audience import (
    And,
    Compare,
    Flag,
    In,
    Member,
    Missing,
    Nobody,
    Not,
    Or,
    UnknownTagError,
    bind,
    parse,
    to_text,
)
from bihuan.audience.algebra import AudienceTooLargeError, walk
from bihuan.audience.bind import (
    AudienceCycleError,
    TagTypeError,
    UnknownAudienceError,
    UnknownCodeError,
)
from bihuan.data import ColumnType
from bihuan.tag import TagField


@pytest.fixture
def fields(harness):
    return harness.FIELDS


class TestNames:
    def test_titles_stand_for_names(self, fields):
        assert bind(parse("月均收入 > 80 and Has_Contract"), {**fields, "Has_Contract": fields[
            "has_contract"]}) == parse("arpu > 80 and has_contract")  # fmt: skip
        assert bind(parse("`Tenure Months` > 80"), fields) == parse("tenure_months > 80")

    def test_a_name_wins_over_a_title(self, fields):
        odd = TagField("x", ColumnType.MONEY, None, {"zh": "arpu", "en": "x"})
        assert bind(parse("arpu > 80"), {**fields, "x": odd}).tag == "arpu"

    def test_a_title_of_two_tags_is_refused(self, fields):
        twin = TagField("arpu_2", ColumnType.MONEY, None, {"zh": "月均收入", "en": "ARPU 2"})
        with pytest.raises(UnknownTagError, match=r"(?s)2 tags.*arpu, arpu_2"):
            bind(parse("月均收入 > 80"), {**fields, "arpu_2": twin})

    def test_an_unknown_name_is_refused_with_place_and_nearest(self, fields):
        with pytest.raises(UnknownTagError) as caught:
            bind(parse("has_contract and\n  arppu > 80"), fields)
        error = caught.value
        assert error.message.startswith("Line 2, column 3: there is no tag 'arppu'.")
        assert "\n      arppu > 80\n      ^^^^^" in error.message
        assert "arpu" in error.remedy
        assert "第 2 行第 3 列" in error.zh

    def test_an_unknown_title_is_told_near_titles(self, fields):
        with pytest.raises(UnknownTagError, match="月均收入"):
            bind(parse("月均收人 > 80"), fields)

    def test_without_text_the_condition_is_shown(self, fields):
        with pytest.raises(
            UnknownTagError, match="In the condition nonsense > 80: there is no tag"
        ):
            bind(Compare("nonsense", ">", 80), fields)

    def test_words_without_blanks_are_explained(self, fields):
        with pytest.raises(UnknownTagError, match="put blanks around it"):
            bind(parse("发展规模情况大于等于八十"), fields)


class TestTypes:
    @pytest.mark.parametrize(
        ("text", "start", "word"),
        [
            ("arpu", 0, "cannot stand alone"),
            ("city", 0, "= 'x'"),
            ("arpu >= '80'", 8, "a number without quotes"),
            ("arpu = true", 7, "cannot be compared with the boolean true"),
            ("tenure_months = 2026-01-31", 16, "cannot be compared with the date"),
            ("churn_score > 'x'", 14, "for example 0.5"),
            ("churn_score > 1.8e308", 14, "for example 0.5"),
            ("brand = 5", 8, "a text in quotes"),
            ("brand = 2026-01-31", 8, "a text in quotes"),
            ("city in (1, 2)", 9, "a text in quotes"),
            ("has_contract = 1", 15, "true or false"),
            ("has_contract in ('true')", 17, "true or false"),
            ("has_contract between 0 and 1", 0, "no order"),
            ("joined_on > 5", 12, "a date, for example 2026-01-31"),
            ("joined_on > '2026/01/31'", 12, "a date, for example 2026-01-31"),
            ("joined_on in ('2026-01-31', '2026-02-30')", 28, "a date"),
            ("joined_on between '2026-01-01' and 'x'", 35, "a date"),
            ("city > '石家庄'", 0, "no order"),
            ("city between '石家庄' and '保定'", 0, "no order"),
            ("last_seen > 2026-01-31", 12, "moment in time"),
            ("last_seen", 0, "cannot stand alone"),
        ],
    )
    def test_refuses_what_does_not_fit_with_its_place(self, fields, text, start, word):
        with pytest.raises(TagTypeError) as caught:
            bind(parse(f"everyone and {text}"), fields)
        assert f"Line 1, column {len('everyone and ') + start + 1}:" in caught.value.message
        assert word in str(caught.value)
        assert caught.value.zh

    def test_literals_take_the_type_of_the_tag(self, fields):
        node = bind(parse("churn_score > 0.5 and joined_on > '2026-01-31'"), fields)
        score, day = node.parts
        assert type(score.value) is float
        assert day.value == date(2026, 1, 31)
        assert type(bind(Compare("arpu", "=", 58.37), fields).value) is Decimal
        assert type(bind(Compare("tenure_months", "=", 12.0), fields).value) is int

    def test_an_unknown_code_is_refused_with_the_nearest(self, fields):
        with pytest.raises(UnknownCodeError) as caught:
            bind(parse("city in ('石家庄', '石家庄市')"), fields)
        assert "column 17" in caught.value.message
        assert "Did you mean: '石家庄'?" in caught.value.remedy
        with pytest.raises(UnknownCodeError, match="It can be: '保定', '唐山', '石家庄'"):
            bind(parse("city != 'X'"), fields)

    def test_an_open_text_takes_every_value(self, fields):
        assert bind(parse("brand = '无此品牌'"), fields) == parse("brand = '无此品牌'")


class TestGrid:
    @pytest.mark.parametrize(
        ("text", "bound"),
        [
            ("tenure_months > 58.5", "tenure_months >= 59"),
            ("tenure_months >= 58.5", "tenure_months >= 59"),
            ("tenure_months < 58.5", "tenure_months <= 58"),
            ("tenure_months < -58.5", "tenure_months <= -59"),
            ("tenure_months > -58.5", "tenure_months >= -58"),
            ("tenure_months = 58.5", "nobody"),
            ("tenure_months != 58.5", "tenure_months is not missing"),
            ("tenure_months in (1, 1.5, 2)", "tenure_months in (1, 2)"),
            ("tenure_months in (1.5)", "nobody"),
            ("tenure_months between 1.5 and 2", "tenure_months >= 2 and tenure_months <= 2"),
            ("tenure_months > 58", "tenure_months > 58"),
            ("tenure_months < 9223372036854775808", "tenure_months is not missing"),
            ("tenure_months > 9223372036854775808", "nobody"),
            ("tenure_months >= -9223372036854775809", "tenure_months is not missing"),
            ("arpu >= 58.375", "arpu >= 58.38"),
            ("arpu <= 58.375", "arpu <= 58.37"),
            ("arpu < 58.37", "arpu < 58.37"),
            ("arpu <= 9999999999999999.999", "arpu <= 9999999999999999.99"),
            ("arpu <= 10000000000000000", "arpu is not missing"),
            ("arpu < -1e300", "nobody"),
            ("arpu > 1e-300", "arpu >= 0.01"),
            ("arpu >= -1e-300", "arpu >= 0"),
        ],
    )
    def test_bounds_move_to_values_that_the_tag_can_have(self, fields, text, bound):
        assert to_text(bind(parse(text), fields)) == bound


class TestBind:
    def test_twice_changes_nothing(self, harness):
        for tree in harness.random_trees(31, 500):
            once = bind(tree, harness.FIELDS)
            assert bind(once, harness.FIELDS) == once

    def test_leaves_no_member_and_only_literals_of_the_tags_types(self, harness):
        allowed = {
            ColumnType.MONEY: (int, Decimal),
            ColumnType.INTEGER: (int,),
            ColumnType.NUMBER: (float,),
            ColumnType.STRING: (str,),
            ColumnType.BOOLEAN: (bool,),
            ColumnType.DATE: (date,),
        }
        for tree in harness.random_trees(32, 500):
            for node in walk(bind(tree, harness.FIELDS)):
                values = getattr(node, "values", ())
                values = (node.value,) if isinstance(node, Compare) else values
                for value in values:
                    assert type(value) in allowed[harness.FIELDS[node.tag].type]


class TestMember:
    def test_a_saved_audience_takes_its_place(self, fields):
        saved = {
            "rich": parse("月均收入 >= 200"),
            "loyal": parse("audience('rich') and has_contract"),
        }
        node = bind(parse("audience('loyal') or audience('rich')"), fields, saved)
        assert node == parse("(arpu >= 200 and has_contract) or arpu >= 200")

    def test_an_unknown_one_is_refused_with_the_nearest(self, fields):
        with pytest.raises(UnknownAudienceError, match="Did you mean: loyal") as caught:
            bind(parse("arpu > 1 and audience('loyl')"), fields, {"loyal": Flag("has_contract")})
        assert "column 14" in caught.value.message
        with pytest.raises(UnknownAudienceError, match="None is saved yet"):
            bind(Member("x"), fields)

    def test_a_circle_is_refused_and_named(self, fields):
        saved = {"a": Not(Member("b")), "b": Or((Member("c"), Flag("has_contract"))),
                 "c": Member("a")}  # fmt: skip
        with pytest.raises(AudienceCycleError, match="a → b → c → a"):
            bind(Member("a"), fields, saved)
        with pytest.raises(AudienceCycleError, match="b → c → a → b"):
            bind(Member("b"), fields, saved)
        with pytest.raises(AudienceCycleError, match="x → x"):
            bind(Member("x"), fields, {"x": Member("x")})

    def test_two_ways_to_one_audience_are_no_circle(self, fields):
        saved = {"a": And((Member("b"), Not(Member("b")))), "b": Flag("has_contract")}
        assert bind(Member("a"), fields, saved) == parse("has_contract and not has_contract")

    def test_a_wrong_saved_audience_is_named(self, fields):
        with pytest.raises(UnknownTagError, match=r"Saved audience 'old'.*no tag 'gone'") as caught:
            bind(Member("old"), fields, {"old": parse("gone > 5")})
        assert "已保存的客户群“old”" in caught.value.zh

    def test_long_chains_and_doubling_are_refused_not_crashed(self, fields):
        chain = {f"a{i}": Member(f"a{i + 1}") for i in range(5_000)}
        with pytest.raises(AudienceTooLargeError):
            bind(Member("a0"), fields, chain)
        nested = {f"a{i}": Not(Member(f"a{i + 1}")) for i in range(5_000)}
        with pytest.raises(AudienceTooLargeError):
            bind(Member("a0"), fields, nested)
        doubling = {f"a{i}": And((Member(f"a{i + 1}"), Member(f"a{i + 1}"))) for i in range(40)}
        with pytest.raises(AudienceTooLargeError):
            bind(Member("a0"), fields, {**doubling, "a40": Flag("has_contract")})

    def test_a_chain_of_forty_is_bound(self, fields):
        chain = {f"a{i}": Not(Member(f"a{i + 1}")) for i in range(40)}
        node = bind(Member("a0"), fields, {**chain, "a40": Missing("arpu")})
        assert node.depth == 41


def test_an_empty_list_selects_nobody(fields):
    assert bind(In("city", ()), fields) == Nobody()
