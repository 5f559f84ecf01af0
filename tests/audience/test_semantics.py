"""One algebra, every reader, one truth."""

from __future__ import annotations

import os
from decimal import Decimal

import numpy as np
import pytest
from sqlglot import exp

from bihuan.audience import Compare, In, Not, bind, normalise, predicate
from bihuan.audience.algebra import And, Between, Or
from bihuan.kernel import random_stream

TREES = 2_500  # each is read before and after normalising: 5,000 expressions per reader
PROFILES = 20


@pytest.fixture(scope="module")
def world(harness):
    """Random trees, their bound form, profiles and the right answers, made once."""
    trees = list(harness.random_trees(11, TREES))
    profiles = harness.random_profiles(random_stream(12, "profiles"), PROFILES)
    return {
        "trees": trees,
        "bound": [bind(tree, harness.FIELDS) for tree in trees],
        "profiles": profiles,
        "right": harness.expected_answers(trees, profiles),
    }


def _difference(trees, profiles, answers, right):
    wrong = np.argwhere(answers != right)
    if not len(wrong):
        return ""
    i, j = wrong[0]
    return f"{len(wrong)} wrong, first: {trees[i]} for {profiles[j]}: {answers[i, j]}"


class TestTruthTable:
    def test_has_at_least_120_cases(self, harness):
        assert len(harness.load_cases()) >= 120

    def test_each_reader_answers_every_case(self, harness):
        for name, reader in harness.READERS.items():
            assert harness.wrong_cases(reader) == [], name

    def test_the_reference_answers_every_case(self, harness):
        from bihuan.audience import parse

        titles = {field.title["zh"]: name for name, field in harness.FIELDS.items()}
        for case in harness.load_cases():
            text = case.text
            for title, name in titles.items():
                text = text.replace(title, name)
            assert harness.reference(parse(text), case.profile) == case.expected, case


class TestGeneratedTrees:
    def test_the_trees_are_neither_trivial_nor_one_sided(self, world):
        share = world["right"].mean(axis=1)
        assert 0.35 < share.mean() < 0.65
        assert ((share > 0) & (share < 1)).mean() > 0.5

    def test_each_reader_gives_the_meaning_of_every_bound_tree(self, harness, world):
        for name, reader in harness.READERS.items():
            answers = reader(world["bound"], world["profiles"])
            problem = _difference(world["trees"], world["profiles"], answers, world["right"])
            assert not problem, f"{name}: {problem}"

    def test_each_reader_gives_the_same_after_normalising(self, harness, world):
        normal = [normalise(node) for node in world["bound"]]
        for name, reader in harness.READERS.items():
            answers = reader(normal, world["profiles"])
            problem = _difference(world["trees"], world["profiles"], answers, world["right"])
            assert not problem, f"{name}: {problem}"


class TestManyTrees:
    """``BIHUAN_EXPRESSIONS=200000 pytest -k TestManyTrees`` runs the long form."""

    @pytest.mark.slow
    def test_all_readers_agree_on_other_trees_and_profiles(self, harness):
        wanted = int(os.environ.get("BIHUAN_EXPRESSIONS", "5000"))
        for part in range(-(-wanted // 5_000)):
            trees = list(harness.random_trees(1_000 + part, 5_000))
            bound = [bind(tree, harness.FIELDS) for tree in trees]
            profiles = harness.random_profiles(random_stream(part, "others"), PROFILES)
            first, *others = (read(bound, profiles) for read in harness.READERS.values())
            for answers in others:
                assert not _difference(trees, profiles, answers, first)


# ------------------------------------------------------------------------ readers with one defect


def three_valued_not(harness):
    def bare(tree):
        return tree.transform(lambda e: e.this if isinstance(e, exp.Coalesce) else e)

    return lambda nodes, profiles: harness.read_in_sql(nodes, profiles, mend=bare)


def _rewritten(harness, change, reader):
    def rewrite(node):
        match node:
            case And(parts=parts) | Or(parts=parts):
                return type(node)(tuple(rewrite(part) for part in parts))
            case Not(part=part):
                return Not(rewrite(part))
        return change(node)

    return lambda nodes, profiles: reader([rewrite(node) for node in nodes], profiles)


def different_as_complement(harness):
    def change(node):
        if isinstance(node, Compare) and node.op == "!=":
            return Not(Compare(node.tag, "=", node.value))
        return node

    return _rewritten(harness, change, harness.read_in_memory)


def money_as_float(harness):
    def reader(nodes, profiles):
        floats = [
            {k: float(v) if isinstance(v, Decimal) else v for k, v in profile.items()}
            for profile in profiles
        ]
        return harness.read_in_memory(nodes, floats)

    return reader


def nan_as_value(harness):
    return lambda nodes, profiles: harness.read_in_sql(
        nodes, profiles, column=lambda tag: exp.column(tag, quoted=True)
    )


def range_without_its_end(harness):
    def change(node):
        if isinstance(node, Between):
            return And((Compare(node.tag, ">=", node.low), Compare(node.tag, "<", node.high)))
        return node

    return _rewritten(harness, change, harness.read_in_memory)


def text_without_case(harness):
    def change(node):
        if isinstance(node, Compare) and isinstance(node.value, str):
            return Compare(node.tag, node.op, node.value.lower())
        return node

    return _rewritten(harness, change, harness.read_in_memory)


DEFECTS = [
    three_valued_not,
    different_as_complement,
    money_as_float,
    nan_as_value,
    range_without_its_end,
    text_without_case,
]


class TestHarness:
    """The harness must be able to fail: each defect is caught by the table and by the trees."""

    @pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.__name__)
    def test_the_table_catches(self, harness, defect):
        assert harness.wrong_cases(defect(harness))

    @pytest.mark.parametrize("defect", DEFECTS, ids=lambda d: d.__name__)
    def test_the_trees_catch(self, harness, world, defect):
        some = slice(0, 300)
        answers = defect(harness)(world["bound"][some], world["profiles"])
        assert (answers != world["right"][some]).any()


class TestSqlOfManyParts:
    def test_ten_thousand_parts_are_read(self, harness):
        parts = tuple(
            Compare("arpu" if i % 2 else "balance", "=", Decimal(i) / 100) for i in range(10_000)
        )
        profiles = [{"arpu": Decimal("99.99")}, {"arpu": Decimal("100.01")}, {}]
        node = bind(Or(parts), harness.FIELDS)
        for reader in harness.READERS.values():
            assert reader([node], profiles).tolist() == [[True, False, False]]

    def test_a_list_of_ten_thousand_values_is_read(self, harness):
        node = bind(In("arpu", tuple(Decimal(i) / 100 for i in range(10_000))), harness.FIELDS)
        profiles = [{"arpu": Decimal("99.99")}, {"arpu": Decimal("100.01")}, {}]
        for reader in harness.READERS.values():
            assert reader([node], profiles).tolist() == [[True, False, False]]

    def test_the_deepest_tree_is_read(self, harness):
        node = Compare("arpu", "=", 1)
        while node.depth < 64:
            node = Not(node) if node.depth % 2 else And((Compare("arpu", "!=", 2), node))
        profiles = [{"arpu": Decimal("1")}, {"arpu": Decimal("2")}, {}]
        node = bind(node, harness.FIELDS)
        right = harness.expected_answers([node], profiles)
        for reader in harness.READERS.values():
            assert (reader([node], profiles) == right).all()


class TestPredicate:
    def test_spark_reads_the_same_nodes(self, harness):
        text = predicate(
            bind(And((Compare("brand", "=", "o'x\\"), Compare("churn_score", "<", 0.5))),
                 harness.FIELDS)
        ).sql("spark")  # fmt: skip
        assert "COALESCE(`brand` = 'o\\'x\\\\', FALSE)" in text
        assert "CAST('0.5' AS DOUBLE)" in text

    def test_a_value_can_never_become_code(self, harness):
        evil = "'; DROP TABLE customer; --"
        answers = harness.read_in_sql(
            [bind(Compare("brand", "=", evil), harness.FIELDS)], [{"brand": evil}, {"brand": "x"}]
        )
        assert answers.tolist() == [[True, False]]
