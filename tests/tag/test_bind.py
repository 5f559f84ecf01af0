"""Definitions held against contracts and against each other: everything refused, with its place."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.data import load_contracts
from bihuan.tag import TagDefinitionError, TagDictionary
from bihuan.tag import bind as bind_module

CONTRACTS = load_contracts()


def refuse(*tags) -> TagDefinitionError:
    with pytest.raises(TagDefinitionError) as caught:
        TagDictionary(tags, CONTRACTS)
    return caught.value


class TestOneTag:
    @pytest.mark.parametrize(
        ("fields", "says"),
        [
            ({"source": "bil"}, "there is no table 'bil'. Did you mean 'bill'"),
            ({"expression": "sum(amout)"}, "line 1, column 5: Table 'bill' has no 'amout'"),
            ({"expression": "amount"}, "column 1: Table 'bill' has several rows per subject"),
            ({"expression": "avg(max(amount))"}, "column 5: An aggregate in the wrong place"),
            ({"expression": "max(birth_year)", "source": "customer"}, "one row per subject"),
            ({"expression": "sum(amount) over ()"}, "window function"),
            ({"expression": "sum(account_id)"}, "engine refuses it: No function matches"),
            ({"expression": "1 +\n sum(account_id)"}, "line 2, column 2"),
            ({"expression": "sum(amount)", "type": "string"}, "gives decimal128(38, 2)"),
            ({"expression": "avg(amount)", "type": "integer"}, "cast(round(...) as bigint)"),
            (
                {"expression": "max(opened_at)", "source": "ticket", "type": "date"},
                "gives timestamp",
            ),
            ({"expression": "amount > 1", "source": "bill"}, "outside an aggregate"),
            (
                {"layer": "portrait", "source": "bill", "expression": "sum(amount)"},
                "other tags or a",
            ),
            ({"means": "experience"}, "a base tag is objective"),
            ({"means": "direct"}, "a column as it is"),
            ({"library": "management"}, "belongs to the customer library"),
            ({"source": "staff", "expression": "count(*)"}, "no column 'customer_id'"),
            (
                {"source": "subscription", "expression": "count(*)", "window_months": 3},
                "as_of only",
            ),
            ({"codes": {"a": {"zh": "甲", "en": "A"}}}, "only a tag of type string has codes"),
            ({"default": "much"}, "'much' is not of type number"),
            ({"default": True}, "True is not of type number"),
            ({"layer": "portrait", "expression": "x", "default": 1}, "use coalesce"),
            (
                {"layer": "portrait", "expression": "x", "window_months": 2},
                "only a tag with a source",
            ),
            ({"model": "churn"}, "has means: mining and no source"),
            ({"layer": "portrait", "expression": "1 + 1"}, "reads nothing"),
            ({"category": "/"}, "category: empty"),
            ({"default": float("inf")}, "inf is not of type number"),
            ({"window_months": 5000}, "more than a tag may look back"),
            ({"model": "churn 1", "means": "mining"}, "use lower-case letters"),
        ],
    )
    def test_it_is_refused_with_file_tag_and_field(self, define, fields, says):
        error = refuse(define("bad", **fields))
        assert says in str(error)
        assert str(error).startswith("bad.yaml:1: tag 'bad'")
        assert "标签 bad" in error.text("zh")

    @pytest.mark.parametrize(
        "name", ["Arpu", "1st", "and", "as_of", "customer_id", "months_ago", "月"]
    )
    def test_a_name_that_cannot_be_typed_in_an_expression_is_refused(self, define, name):
        assert "cannot be a tag's name" in str(refuse(define(name)))

    def test_a_default_outside_the_codes_is_refused(self, define):
        codes = {"a": {"zh": "甲", "en": "A"}}
        tag = define("x", expression="max(account_id)", type="string", codes=codes, default="b")
        assert "not one of the codes" in str(refuse(tag))

    def test_the_message_shows_the_line_with_carets(self, define):
        text = refuse(define("bad", expression="sum(amount)\n+ max(amout)")).message
        assert "    + max(amout)\n          ^^^^^" in text

    def test_all_problems_are_told_at_once(self, define):
        error = refuse(define("a", expression="sum(x)"), define("b", source="bil"), define("c"))
        assert len(error.problems) == 2

    def test_the_four_means_are_taken(self, define):
        TagDictionary(
            [
                define("direct_", means="direct", source="customer", expression="is_senior",
                       type="boolean"),
                define("picked", means="direct", source="account", type="string",
                       expression="max(payment_method)"),
                define("counted", means="statistics"),
                define("mined", means="mining", model="churn", layer="marketing"),
                define("judged", means="experience", layer="portrait", type="boolean",
                       expression="counted > $much", thresholds={"much": 100}),
            ],
            CONTRACTS,
        )  # fmt: skip


class TestCycles:
    def test_a_cycle_is_named_by_its_path_and_place(self, define):
        tags = [
            define("a", layer="portrait", expression="b + 1"),
            define("b", layer="portrait", expression="c + 1"),
            define("c", layer="portrait", expression="2 * a"),
            define("above", layer="portrait", expression="a"),
        ]
        error = refuse(*tags)
        assert "a -> b -> c -> a" in str(error)
        assert "c.yaml:1: tag 'c', expression, line 1, column 5" in str(error)

    def test_a_tag_on_itself_is_a_cycle(self, define):
        assert "a -> a" in str(refuse(define("a", layer="portrait", expression="a + 1")))

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_random_graphs_are_ordered_or_refused_as_reachability_says(self, define, data):
        n = data.draw(st.integers(1, 6))
        edges = data.draw(
            st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=9)
        )
        needs = {i: sorted(b for a, b in edges if a == i) for i in range(n)}
        bound = {f"t{i}": _Bound(tuple(f"t{j}" for j in needs[i])) for i in range(n)}
        reach = {i: set(needs[i]) for i in range(n)}
        for k, i in itertools.product(range(n), range(n)):
            if k in reach[i]:
                reach[i] |= reach[k]
        if any(i in reach[i] for i in range(n)):
            with pytest.raises(_Circle):
                _order(bound)
        else:
            order = _order(bound)
            assert sorted(order) == sorted(bound)
            for i in range(n):
                for j in needs[i]:
                    assert order.index(f"t{j}") < order.index(f"t{i}")


class _Circle(Exception):
    pass


class _Bound:
    def __init__(self, upstream):
        self.upstream = upstream


def _order(bound):
    """Run the ordering with an error that needs no expressions."""

    def cycle(bound, path):
        assert path[0] == path[-1]
        assert all(b in bound[a].upstream for a, b in itertools.pairwise(path))
        raise _Circle

    original, bind_module._cycle = bind_module._cycle, cycle
    try:
        return bind_module._order(bound)
    finally:
        bind_module._cycle = original


class TestLayers:
    @pytest.mark.parametrize(
        ("lower", "upper", "allowed"),
        [
            ("base", "base", True),
            ("base", "portrait", True),
            ("base", "marketing", True),
            ("portrait", "base", False),
            ("portrait", "portrait", True),
            ("portrait", "marketing", True),
            ("marketing", "base", False),
            ("marketing", "portrait", False),
            ("marketing", "marketing", True),
        ],
    )
    def test_layers_build_upwards_only(self, define, lower, upper, allowed):
        used = define("used", layer=lower, **({} if lower == "base" else {"expression": "ground"}))
        tags = [define("ground"), used, define("user", layer=upper, source=None, expression="used")]
        if allowed:
            assert TagDictionary(tags, CONTRACTS).names.index("used") == 1
        else:
            assert f"A {upper} tag cannot use the {lower} tag 'used'" in str(refuse(*tags))

    def test_a_tag_of_another_subject_is_unknown(self, define):
        line = define("line_fee", subject="subscription", means="direct", source="subscription",
                      expression="monthly_fee", type="money")  # fmt: skip
        user = define("user", layer="portrait", expression="line_fee > 3", type="boolean")
        assert "dictionary of customer tags has no 'line_fee'" in str(refuse(line, user))


class TestStates:
    @pytest.mark.parametrize("state", ["draft", "test", "retired"])
    def test_a_live_tag_stands_on_live_tags_only(self, define, state):
        tags = [define("used", state=state), define("user", layer="portrait", expression="used")]
        assert f"cannot use 'used', which is in state {state}" in str(refuse(*tags))

    @pytest.mark.parametrize("state", ["draft", "test", "retired"])
    def test_a_tag_that_is_not_live_may_stand_on_any(self, define, state):
        tags = [define("used", state="draft"),
                define("user", layer="portrait", expression="used", state=state)]  # fmt: skip
        assert len(TagDictionary(tags, CONTRACTS)) == 2
