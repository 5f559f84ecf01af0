from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bihuan.decision.allocation.instance import (
    CONTACTS,
    MINIMA,
    Instance,
    InstanceError,
    load_instance,
    solve_instance,
)

TABLE1 = """Activity,Day,Channel,TargetProducts,Cost
1,1,call center,2,9.0
2,30,call center,1;2,9.0
3,31,text message,1,0.1
4,60,email,3,0.0
"""
TABLE2 = """Customer,Activity,ExpectedProfit,ResponseProbability
{pairs}"""
TABLE3 = """Index,Type,StartDay,EndDay,Channels,TargetProducts,Bound
1,Budget,1,60,call center,ALL,19.0
2,Maximum assignment,1,40,call center; text message,ALL,4
3,Minimum assignment,1,60,email,ALL,2
4,Maximum sales,1,60,ALL,2,0.5
5,Minimum sales,1,60,ALL,1,0.3
6,Maximum contact,1,60,ALL,ALL,2
"""
TABLE4 = """Index,Channel1,TargetProduct1,Channel2,TargetProduct2,Lag
1,call center,ALL,call center,ALL,29
2,text message,ALL,email,ALL,20
"""


def write(folder: Path, pairs: list[tuple[int, int, float, float]], **tables: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = "\n".join(",".join(str(x) for x in pair) for pair in pairs)
    texts = {"table1": TABLE1, "table3": TABLE3, "table4": TABLE4, **tables}
    texts["table2"] = TABLE2.format(pairs=rows + "\n")
    for name, text in texts.items():
        (folder / f"{name}.csv").write_text(text, encoding="utf-8")
    return folder


def best_by_trying(instance: Instance, penalty: float) -> float:
    """Try every set of pairs."""
    cost = np.array([a.cost for a in instance.activities])
    best = -np.inf
    for bits in itertools.product([False, True], repeat=len(instance.customer)):
        pair = np.flatnonzero(bits)
        activity, customer = instance.activity[pair], instance.customer[pair]
        worth, is_fine = float(instance.profit[pair].sum()), True
        for i, j in itertools.combinations(range(len(pair)), 2):
            is_fine &= not (
                customer[i] == customer[j] and instance.conflicts[activity[i], activity[j]]
            )
        for rule in instance.rules:
            inside = np.isin(activity, rule.covers)
            used = {
                "Budget": cost[activity[inside]].sum(),
                "assignment": inside.sum(),
                "sales": instance.probability[pair[inside]].sum(),
                "contact": np.bincount(customer[inside], minlength=1).max(),
            }[rule.kind.split()[-1]]
            if rule.kind in MINIMA:
                worth -= penalty * max(0.0, rule.bound - used)
            else:
                is_fine &= used <= rule.bound + 1e-9
        if is_fine:
            best = max(best, worth)
    return best


class TestLoadInstance:
    def test_reads_activities_rules_and_conflicts(self, tmp_path):
        instance = load_instance(write(tmp_path, [(7, 2, 5.0, 0.1), (3, 1, 4.0, 0.2)]))
        assert instance.customer.tolist() == [3, 7]
        assert [instance.activities[a].activity_id for a in instance.activity] == [1, 2]
        covers = {rule.name: rule.covers for rule in instance.rules}
        assert covers["2 Maximum assignment"] == (0, 1, 2)
        assert covers["4 Maximum sales"] == (0, 1)
        assert instance.conflicts.sum() == 2  # 29 days apart clash, 30 days would not
        assert instance.rules[-1].kind == CONTACTS

    def test_says_which_table_is_missing_or_wrong(self, tmp_path):
        with pytest.raises(InstanceError, match=r"table1\.csv"):
            load_instance(tmp_path)
        with pytest.raises(InstanceError, match="activity 9"):
            load_instance(write(tmp_path, [(1, 9, 1.0, 0.1)]))
        wrong = TABLE3 + "7,Average sales,1,60,ALL,ALL,1\n"
        with pytest.raises(InstanceError, match="index 7: constraint type 'Average sales'"):
            load_instance(write(tmp_path, [(1, 1, 1.0, 0.1)], table3=wrong))


class TestSolveInstance:
    @settings(max_examples=40, deadline=None)
    @given(seed=st.integers(0, 10_000), penalty=st.sampled_from([0.0, 3.0, 100.0]))
    def test_is_as_good_as_trying_everything(self, tmp_path_factory, seed, penalty):
        rng = np.random.default_rng(seed)
        cells = [(c, a) for c in range(1, 5) for a in range(1, 5)]
        chosen = rng.choice(len(cells), size=rng.integers(1, 11), replace=False)
        pairs = [
            (*cells[i], round(float(rng.normal(4, 6)), 2), round(float(rng.random()), 2))
            for i in chosen
        ]
        instance = load_instance(write(tmp_path_factory.mktemp("instance"), pairs))
        best = best_by_trying(instance, penalty)
        solution = solve_instance(instance, penalty=penalty, tolerance=1e-6)
        assert solution.violated_hard == 0
        assert solution.objective == pytest.approx(best, rel=1e-5, abs=1e-6)
        assert solution.bound >= best - 1e-6
        missing = penalty * sum(solution.shortfall.values())
        assert solution.objective == pytest.approx(solution.value - missing, abs=1e-6)
