"""The closure of the org tree under moves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bihuan.server.control import (
    PAIRS,
    TIERS,
    UNDER,
    Control,
    OrgUnit,
    Scope,
    UnitOfWork,
    attach,
    closure_pairs,
    detach,
)

_WHY = "a test"
_RUNS = itertools.count()


def transitive(parents: dict[str, str | None]) -> set[tuple[str, str, int]]:
    """The closure by the definition: reach, one step at a time, until nothing is new."""
    pairs = {(unit, unit, 0) for unit in parents}
    while True:
        more = {
            (parent, below, depth + 1)
            for above, below, depth in pairs
            if (parent := parents[above]) is not None
        }
        if more <= pairs:
            return pairs
        pairs |= more


def stored(work: UnitOfWork, prefix: str) -> set[tuple[str, str, int]]:
    found = work.unscoped(
        sa.select(PAIRS).where(PAIRS.c.descendant_id.startswith(prefix, autoescape=True)), _WHY
    )
    return {(row.ancestor_id, row.descendant_id, row.depth) for row in found}


@st.composite
def trees(draw: st.DrawFn) -> dict[str, str | None]:
    size = draw(st.integers(2, 14))
    parents: dict[str, str | None] = {"u0": None}
    for number in range(1, size):
        parents[f"u{number}"] = f"u{draw(st.integers(0, number - 1))}"
    return parents


def plant(work: UnitOfWork, parents: dict[str, str | None]) -> None:
    for unit, parent in parents.items():
        work.session.add(OrgUnit(unit_id=unit, parent_id=parent, tier="grid", name_zh=unit))
        work.session.flush()
    work.unscoped(sa.insert(PAIRS).values(list(closure_pairs(parents))), _WHY)


def is_below(parents: dict[str, str | None], unit: str, above: str) -> bool:
    step: str | None = unit
    while step is not None and step != above:
        step = parents[step]
    return step == above


class TestMoves:
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(tree=trees(), moves=st.lists(st.tuples(st.integers(0, 13), st.integers(0, 13))))
    def test_closure_is_the_transitive_closure_of_parents(
        self, control: Control, tree: dict[str, str | None], moves: list[tuple[int, int]]
    ) -> None:
        prefix = f"r{next(_RUNS)}-"
        parents = {prefix + u: p and prefix + p for u, p in tree.items()}
        with control.work(Scope.everything()) as work:
            plant(work, parents)
            assert stored(work, prefix) == transitive(parents)
            for unit_number, parent_number in moves:
                unit, parent = f"{prefix}u{unit_number}", f"{prefix}u{parent_number}"
                if unit not in parents or parent not in parents:
                    continue
                if parents[unit] is None or is_below(parents, parent, unit):
                    continue
                work.unscoped(detach(unit), _WHY)
                work.unscoped(attach(unit, parent), _WHY)
                parents[unit] = parent
                assert stored(work, prefix) == transitive(parents)

    def test_a_move_that_forgets_those_below_is_caught(self, control: Control) -> None:
        parents: dict[str, str | None] = {"x0": None, "x1": "x0", "x2": "x0", "x3": "x1"}
        with control.work(Scope.everything()) as work:
            plant(work, parents)
            only_itself = sa.delete(PAIRS).where(
                PAIRS.c.descendant_id == "x1", PAIRS.c.ancestor_id == "x0"
            )
            work.unscoped(only_itself, _WHY)
            moved = [{"ancestor_id": a, "descendant_id": "x1", "depth": d} for a, d in
                     (("x2", 1), ("x0", 2))]  # fmt: skip
            work.unscoped(sa.insert(PAIRS).values(moved), _WHY)
            parents["x1"] = "x2"
            assert stored(work, "x") != transitive(parents)

    def test_only_the_moved_subtree_changes(self, control: Control) -> None:
        with control.work(Scope.everything()) as work:
            before = {
                pair
                for pair in stored(work, "")
                if not pair[1].startswith(("grid-a11", "ceo", "se"))
            }
            work.unscoped(detach("grid-a11"), _WHY)
            work.unscoped(attach("grid-a11", "county-b1"), _WHY)
            after = stored(work, "")
        assert before <= after
        assert ("city-b", "seller-a11", 4) in after
        assert ("city-a", "seller-a11", 4) not in after


class TestTiers:
    def test_a_parent_is_always_of_a_higher_tier(self) -> None:
        # the import relies on it: rows in order of tier are rows in order of the tree
        for tier, parents in UNDER.items():
            for parent in parents:
                assert TIERS.index(parent) < TIERS.index(tier)

    @pytest.mark.parametrize("tier", TIERS[1:])
    def test_every_tier_has_a_place(self, tier: str) -> None:
        assert UNDER[tier]


def test_pairs_of_some_units_only() -> None:
    pairs: Iterator[dict[str, object]] = closure_pairs({"a": None, "b": "a", "c": "b"}, ["c"])
    assert [(p["ancestor_id"], p["depth"]) for p in pairs] == [("c", 0), ("b", 1), ("a", 2)]
