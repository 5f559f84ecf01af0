"""An audience that can hold is never said not to: held against every way the rest can be."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.audience import And, Everyone, Flag, Member, Missing, Nobody, Node, Not, Or, match
from bihuan.offer.possible import may_hold

TAGS = ("a", "b", "c")
leaf = st.one_of(
    st.sampled_from(TAGS).map(Flag),
    st.sampled_from(TAGS).map(Missing),
    st.just(Everyone()),
    st.just(Nobody()),
)
nodes = st.recursive(
    leaf,
    lambda inner: st.one_of(
        inner.map(Not),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: And(tuple(parts))),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: Or(tuple(parts))),
    ),
    max_leaves=8,
)


@given(nodes, st.fixed_dictionaries({"a": st.sampled_from([True, False, None])}))
@settings(max_examples=200, deadline=None)
def test_what_holds_for_some_rest_may_hold(node: Node, known: dict[str, Any]) -> None:
    rests = product([True, False, None], repeat=2)
    if any(match(node, known | dict(zip("bc", rest, strict=True))) for rest in rests):
        assert may_hold(node, known)


@given(nodes, st.tuples(*[st.sampled_from([True, False, None])] * 3))
@settings(max_examples=200, deadline=None)
def test_with_all_known_it_is_the_truth(node: Node, values: tuple[Any, ...]) -> None:
    known = dict(zip(TAGS, values, strict=True))
    assert may_hold(node, known) is match(node, known)


@pytest.mark.parametrize("node", [Member("x"), Not(Member("x"))])
def test_a_saved_audience_is_open(node: Node) -> None:
    assert may_hold(node, {})
