"""What one customer may get together."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.decision import AllocationError, ContactRules, Lag, Window
from bihuan.decision.allocation.rules import list_bundles


@st.composite
def rule_sets(draw: st.DrawFn, candidates: int = 6) -> ContactRules:
    """Draw rules with conflicts, windows and followers that agree with each other."""
    n = draw(st.integers(1, candidates))
    bits = draw(st.lists(st.booleans(), min_size=n * n, max_size=n * n))
    upper = np.triu(np.array(bits).reshape(n, n), 1)
    conflicts = upper | upper.T
    follows = np.full(n, -1)
    for j in range(1, n):
        if draw(st.integers(0, 3)) == 0:
            wanted = draw(st.integers(0, j - 1))
            conflicts[j, wanted] = conflicts[wanted, j] = False
            follows[j] = wanted
    for j in range(n):  # what follows must not be shut out by a chain
        at = int(follows[j])
        while at >= 0:
            conflicts[j, at] = conflicts[at, j] = False
            at = int(follows[at])
    windows = []
    if draw(st.booleans()):
        members = np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        windows.append(Window(members, draw(st.integers(0, 2))))
    most = draw(st.integers(1, 4))
    return ContactRules(n, most, tuple(windows), conflicts, follows)


def allowed_by_hand(rules: ContactRules, chosen: tuple[int, ...]) -> bool:
    if len(chosen) > rules.most:
        return False
    if any(rules.conflicts[a, b] for a, b in itertools.combinations(chosen, 2)):
        return False
    if any(sum(window.members[j] for j in chosen) > window.most for window in rules.windows):
        return False
    return all(rules.follows[j] < 0 or rules.follows[j] in chosen for j in chosen)


class TestListBundles:
    @settings(max_examples=150, deadline=None)
    @given(rules=rule_sets(), data=st.data())
    def test_lists_every_set_that_is_allowed_and_no_other(self, rules, data):
        n = rules.n_candidates
        open_of = [
            sorted(data.draw(st.sets(st.integers(0, n - 1)), label=f"customer {i}"))
            for i in range(3)
        ]
        customer = np.repeat(np.arange(3), [len(own) for own in open_of])
        candidate = np.array([j for own in open_of for j in own], dtype=np.int64)
        found = {
            (int(customer[row[0]]), tuple(int(candidate[p]) for p in row if p >= 0))
            for row in list_bundles(customer, candidate, rules)
        }
        wanted = {
            (i, chosen)
            for i, own in enumerate(open_of)
            for size in range(1, len(own) + 1)
            for chosen in itertools.combinations(own, size)
            if allowed_by_hand(rules, chosen)
        }
        assert found == wanted
        assert all(rules.allows(chosen) for _, chosen in wanted)


class TestSpaced:
    def test_a_lag_holds_from_the_first_to_the_second_only(self):
        call, text = np.array([True, False, False]), np.array([False, True, True])
        rules = ContactRules.spaced([10, 15, 5], [Lag(call, text, 7)], most=3)
        assert rules.conflicts[0, 1], "a text five days after the call"
        assert not rules.conflicts[0, 2], "a text before the call is free"
        assert rules.conflicts[1, 0], "a conflict holds both ways"

    def test_the_last_day_of_the_lag_counts_and_the_next_does_not(self):
        call = np.array([True, True, True])
        rules = ContactRules.spaced([0, 90, 91], [Lag(call, call, 90)], most=3)
        assert rules.conflicts[0, 1]
        assert not rules.conflicts[0, 2]


class TestRefusals:
    @pytest.mark.parametrize("days", [-1.0, float("nan")])
    def test_a_lag_that_cannot_be_is_named_by_its_row(self, days):
        both = np.ones(2, dtype=bool)
        with pytest.raises(AllocationError, match="Lag 1") as refusal:
            ContactRules.spaced([0, 1], [Lag(both, both, 3), Lag(both, both, days)], most=2)
        assert refusal.value.remedy
        assert "第 1 条" in refusal.value.zh

    def test_candidates_that_follow_each_other_in_a_circle(self):
        with pytest.raises(AllocationError, match=r"circle: \[0, 1, 2, 0\]"):
            ContactRules(3, 3, follows=np.array([1, 2, 0]))

    def test_a_candidate_that_conflicts_with_what_it_follows(self):
        conflicts = np.zeros((3, 3), dtype=bool)
        conflicts[2, 0] = conflicts[0, 2] = True
        with pytest.raises(AllocationError, match="Candidate 2 must come with 0"):
            ContactRules(3, 3, conflicts=conflicts, follows=np.array([-1, 0, 1]))

    def test_conflicts_one_way_or_with_oneself(self):
        one_way = np.array([[False, True], [False, False]])
        with pytest.raises(AllocationError, match="0 and 1 conflict one way"):
            ContactRules(2, 2, conflicts=one_way)
        with pytest.raises(AllocationError, match="Candidate 1 conflicts with itself"):
            ContactRules(2, 2, conflicts=np.diag([False, True]))

    def test_numbers_out_of_range(self):
        with pytest.raises(AllocationError, match="0 contacts per customer"):
            ContactRules(2, 0)
        with pytest.raises(AllocationError, match="Window 0"):
            ContactRules(2, 1, (Window(np.ones(3, dtype=bool), 1),))
        with pytest.raises(AllocationError, match="unknown candidate"):
            ContactRules(2, 2, follows=np.array([-1, 5]))
