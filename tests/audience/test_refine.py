"""Live counts: what each condition does, alone, in order, and last."""

from __future__ import annotations

import numpy as np
import pytest

from bihuan.audience import And, Not, Or, bind, match, parse, profile_of
from bihuan.audience.algebra import AudienceTooLargeError
from bihuan.audience.segment.reader import SqlReader
from bihuan.audience.segment.refine import explain_counts
from bihuan.data import Lake
from bihuan.kernel import random_stream

from .crowd import crowd

ROWS = crowd(400)


@pytest.fixture(scope="module")
def reader(harness, tmp_path_factory, engine):
    lake = Lake(tmp_path_factory.mktemp("crowd"))
    return SqlReader(harness.store_tags(lake, harness.FIELDS, ROWS), engine)


@pytest.fixture(scope="module")
def profiles(harness):
    return [profile_of(row, harness.FIELDS) for row in ROWS]


class TestExplainCounts:
    def test_waterfall_of_a_planner_s_sentence(self, reader, profiles, harness, engine):
        text = "(arpu >= 80 or mms_count > 3) and not has_contract and city in ('保定', '唐山')"
        tree = bind(parse(text), harness.FIELDS)
        before = engine.asked
        told = explain_counts(tree, reader)
        assert engine.asked - before == 1
        assert told.base == len(ROWS)
        assert told.members == sum(match(tree, p) for p in profiles)
        first, _, _, second, third = told.conditions[1:]
        parts = tree.parts
        assert [c.node for c in (first, second, third)] == list(parts)
        assert told.base + first.step + second.step + third.step == told.members
        assert third.after == told.members
        without = And(parts[:2])
        assert third.last == told.members - sum(match(without, p) for p in profiles)

    def test_or_adds(self, reader, profiles, harness):
        tree = bind(parse("arpu >= 80 or mms_count > 3"), harness.FIELDS)
        _, first, second = explain_counts(tree, reader).conditions
        assert first.step == first.alone == first.after
        assert second.after == first.after + second.step
        only_second = And((tree.parts[1], Not(tree.parts[0])))
        assert second.last == second.step == sum(match(only_second, p) for p in profiles)

    def test_an_idle_condition_is_named(self, reader, harness):
        tree = bind(parse("arpu >= 80 and arpu >= 20 and has_contract"), harness.FIELDS)
        assert [c.text for c in explain_counts(tree, reader).idle] == ["arpu >= 20"]

    def test_within(self, reader, profiles, harness):
        tree = bind(parse("arpu >= 80 and mms_count > 1"), harness.FIELDS)
        within = bind(parse("has_contract"), harness.FIELDS)
        told = explain_counts(tree, reader, within=within)
        inside = [p for p in profiles if match(within, p)]
        assert (told.base, told.members) == (len(inside), sum(match(tree, p) for p in inside))

    def test_generated_trees_against_counting_by_hand(self, reader, profiles, harness):
        rng = random_stream(11, "refine")
        checked = 0
        for tree in (bind(harness.random_tree(rng), harness.FIELDS) for _ in range(40)):
            told = explain_counts(tree, reader)
            assert told.members == sum(match(tree, p) for p in profiles)
            for part in told.conditions[1:]:
                assert part.alone == sum(match(part.node, p) for p in profiles)
                checked += 1
            if isinstance(tree, (And, Or)):
                top = [part for part in told.conditions if part.depth == 1]
                assert top[-1].after == told.members
                start = told.base if isinstance(tree, And) else 0
                assert start + sum(part.step for part in top) == told.members
        assert checked > 100

    def test_too_many_parts_are_refused(self, reader, harness):
        tree = And(tuple(bind(parse(f"arpu > {n}"), harness.FIELDS) for n in range(201)))
        with pytest.raises(AudienceTooLargeError, match="201 parts"):
            explain_counts(tree, reader)

    def test_a_counter_that_forgets_the_siblings_is_caught(self, reader, profiles, harness):
        """The defect: counting each part alone, as if conditions did not narrow each other."""

        class Forgetful:
            def counts(self, nodes):
                return np.array([sum(match(last(n), p) for p in profiles) for n in nodes])

        def last(node):
            return last(node.parts[-1]) if isinstance(node, And) else node

        tree = bind(parse("arpu >= 80 and not has_contract"), harness.FIELDS)
        right, wrong = explain_counts(tree, reader), explain_counts(tree, Forgetful())
        assert right.members == sum(match(tree, p) for p in profiles)
        assert wrong.members != right.members
