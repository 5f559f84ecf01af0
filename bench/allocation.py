"""Allocation beside the exact solver and beside what a planner would do without one.

Without ``--size`` and ``--instance``: 10,000 customers against HiGHS (all pairs at once, linear
and whole) and against two greedy ways, then 100,000 and 1,000,000 with the certificate alone.
With ``--size``: that many customers, from memory, from Parquet files (a process of its own), and
up to 5 million with two contacts each and days between them. With ``--instance``: a folder of the
public customer assignment instances; ``--out`` receives ``assignment.csv`` (``Customer,Activity``).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from bench.allocation_case import (
    CITIES,
    OFFER,
    OFFERS,
    campaign,
    limits_of,
    spaced_rules,
)
from bihuan.decision import Allocation, Limit, Pairs, allocate
from bihuan.decision.allocation.files import PairFiles, allocate_files, write_pairs
from bihuan.decision.allocation.instance import load_instance, solve_instance

TOLERANCE = 1e-4
EXACT_CUSTOMERS = 10_000  # beyond this HiGHS takes many minutes
GREEDY_CUSTOMERS = 200_000  # the baselines loop over pairs in Python
SPACED_CUSTOMERS = 5_000_000
MILP_SECONDS = 240.0
PART = 5_000_000
COLUMNS = {
    "customers": "customers",
    "from": "source",
    "each": "most",
    "s": "seconds",
    "GB": "peak_gb",
    "gap": "gap",
    "/ MILP": "of_milp",
    "x campaigns": "to_campaigns",
    "x greedy": "to_global",
}
Row = dict[str, Any]


def run(size: int | None, instance: Path | None, out: Path | None) -> dict[str, Any]:
    """Run the benchmark; see the module's text."""
    if instance is not None:
        return _run_instance(instance, out)
    if size:
        rows = [_measure(size), *_measure_files(size)]
        if size <= SPACED_CUSTOMERS:
            rows.append(_measure(size, spaced=True))
    else:
        rows = [_measure(n) for n in (EXACT_CUSTOMERS, 100_000, 1_000_000)]
    single = [row for row in rows if row["source"] == "memory" and row["most"] == 1]
    streamed = [row for row in rows if row["source"] == "files"]
    return {
        "gap": max(row["gap"] for row in rows),
        "seconds": single[-1]["seconds"],
        "peak_gb": single[-1]["peak_gb"],
        "value": single[-1]["value"],
        "bound": single[-1]["bound"],
        "violated_hard": sum(row["violated_hard"] for row in rows),
        "shortfall_soft": single[-1]["shortfall_soft"],
        "ratio_to_milp": rows[0]["of_milp"],
        "ratio_to_greedy_by_campaign": rows[0]["to_campaigns"],
        "ratio_to_greedy_by_value": rows[0]["to_global"],
        "files_to_memory": streamed[0]["seconds"] / single[-1]["seconds"] if streamed else None,
        "runs": rows,
        "table": [{title: row[name] for title, name in COLUMNS.items()} for row in rows],
    }


def _measure(n: int, *, spaced: bool = False) -> Row:
    pairs, limits = campaign(n)
    rules = spaced_rules() if spaced else None
    _warm(spaced=spaced)
    plan = allocate(pairs, limits, rules=rules, tolerance=TOLERANCE)
    row = _row(plan, n, "memory", 2 if spaced else 1) | {"pairs": pairs.n_pairs}
    if n <= EXACT_CUSTOMERS and not spaced:
        missed = plan.value - _penalty(plan, limits, pairs)
        for name, whole in (("lp", False), ("milp", True)):
            begun = time.perf_counter()
            optimum = _exact(pairs, limits, whole=whole)
            row[f"of_{name}"] = None if optimum is None else missed / optimum
            row[f"{name}_seconds"] = time.perf_counter() - begun
    if n <= GREEDY_CUSTOMERS and not spaced:
        row["to_campaigns"] = plan.value / greedy(pairs, limits, by_campaign=True)[0]
        value, missing = greedy(pairs, limits, by_campaign=False)
        row["to_global"], row["greedy_misses"] = plan.value / value, missing
    return row


def _measure_files(n: int) -> list[Row]:
    """Write the case as Parquet parts and allocate them in a process that holds nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        parts = Path(folder) / "pairs"
        parts.mkdir()
        pairs, _ = campaign(n)
        for i, at in enumerate(range(0, n, PART)):
            rows = np.arange(at, min(at + PART, n))
            write_pairs(parts / f"part-{i:04d}.parquet", pairs.take(rows))
        del pairs
        command = [sys.executable, "-m", "bench.allocation", str(n), folder]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        row: Row = json.loads(done.stdout.splitlines()[-1])
        return [row]


def _from_files(n: int, folder: Path) -> Row:
    files = PairFiles(tuple(sorted((folder / "pairs").glob("*.parquet"))), len(OFFER), CITIES)
    _warm()
    plan = allocate_files(files, limits_of(n), folder / "out", tolerance=TOLERANCE)
    return _row(plan, n, "files", 1)


def _warm(*, spaced: bool = False) -> None:
    """Load the compiled loops, which are kept on disk, before anything is timed."""
    pairs, limits = campaign(150_000 if not spaced else 30_000)
    allocate(pairs, limits, rules=spaced_rules() if spaced else None, tolerance=TOLERANCE)


def _row(plan: Allocation, n: int, source: str, most: int) -> Row:
    return {
        "customers": n,
        "source": source,
        "most": most,
        "seconds": plan.seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "value": plan.value,
        "bound": plan.bound,
        "gap": plan.gap,
        "binding": sum(use.is_binding for use in plan.limits),
        "violated_hard": len(plan.violated),
        "shortfall_soft": dict(plan.shortfall),
        **dict.fromkeys(
            ("of_lp", "lp_seconds", "of_milp", "milp_seconds", "to_campaigns", "to_global",
             "greedy_misses")
        ),
    }  # fmt: skip


def _penalty(plan: Allocation, limits: list[Limit], pairs: Pairs) -> float:
    return 10 * float(pairs.value.max()) * sum(plan.shortfall.values()) if limits else 0.0


def _exact(pairs: Pairs, limits: list[Limit], *, whole: bool) -> float | None:
    """Return what HiGHS finds on all pairs at once; missed minimums cost as they do in ours."""
    p, n = pairs.n_pairs, pairs.n_customers
    owner, entry = np.repeat(np.arange(n), np.diff(pairs.start)), np.arange(p)
    floors = [i for i, limit in enumerate(limits) if limit.is_floor]
    row, column, weight = [owner], [entry], [np.ones(p)]
    for i, limit in enumerate(limits):
        used = limit.weight[pairs.candidate]
        if limit.members is not None:
            used = used * limit.members[pairs.group[owner]]
        inside = np.flatnonzero(used)
        row.append(np.full(len(inside), n + i))
        column.append(inside)
        weight.append(-used[inside] if limit.is_floor else used[inside])
    row.append(n + np.array(floors))
    column.append(p + np.arange(len(floors)))
    weight.append(-np.ones(len(floors)))
    size = (n + len(limits), p + len(floors))
    entries = (np.concatenate(weight), (np.concatenate(row), np.concatenate(column)))
    bound = [-limit.bound if limit.is_floor else limit.bound for limit in limits]
    penalty = np.full(len(floors), 10 * float(pairs.value.max()))
    result = milp(
        np.concatenate([-pairs.value.astype(np.float64), penalty]),
        constraints=LinearConstraint(csr_array(entries, shape=size), ub=[*np.ones(n), *bound]),
        integrality=np.concatenate([np.full(p, int(whole)), np.zeros(len(floors))]),
        bounds=Bounds(0, np.concatenate([np.ones(p), np.full(len(floors), np.inf)])),
        options={"time_limit": MILP_SECONDS, "mip_rel_gap": 1e-6},
    )
    return None if result.fun is None else float(-result.fun)


def greedy(pairs: Pairs, limits: list[Limit], *, by_campaign: bool) -> tuple[float, float]:
    """Go through pairs in order and take what still fits; minimums are not looked at.

    Parameters
    ----------
    pairs, limits
        The case.
    by_campaign
        Offers one after another, greatest mean value first, best customers first within an offer
        (what campaign tools do); otherwise all pairs by value.

    Returns
    -------
    tuple of float
        What the plan is worth, and the contacts that are missing of the minimums.
    """
    owner = np.repeat(np.arange(pairs.n_customers), np.diff(pairs.start))
    gain, candidate = pairs.value.astype(np.float64), pairs.candidate
    rank = np.zeros(OFFERS)
    if by_campaign:
        mean = [gain[OFFER[candidate] == o].mean() for o in range(OFFERS)]
        rank = np.argsort(np.argsort(-np.array(mean))).astype(float)
    order = np.lexsort((-gain, rank[OFFER[candidate]]))
    left = [limit.bound for limit in limits]
    own = _uses(limits, pairs.n_groups, pairs.n_candidates)
    is_taken = np.zeros(pairs.n_customers, dtype=np.bool_)
    total = 0.0
    cell = pairs.group[owner].astype(int) * pairs.n_candidates + candidate
    for i, c, worth in zip(
        owner[order].tolist(), cell[order].tolist(), gain[order].tolist(), strict=True
    ):
        if is_taken[i] or any(w > left[k] and not limits[k].is_floor for k, w in own[c]):
            continue
        is_taken[i] = True
        total += worth
        for k, w in own[c]:
            left[k] -= w
    short = sum(max(rest, 0.0) for rest, limit in zip(left, limits, strict=True) if limit.is_floor)
    return total, short


def _uses(limits: list[Limit], n_groups: int, n_candidates: int) -> list[list[tuple[int, float]]]:
    cells: list[list[tuple[int, float]]] = [[] for _ in range(n_groups * n_candidates)]
    for k, limit in enumerate(limits):
        groups: NDArray[np.int64] = (
            np.arange(n_groups) if limit.members is None else np.flatnonzero(limit.members)
        )
        for g in groups.tolist():
            for j in np.flatnonzero(limit.weight).tolist():
                cells[g * n_candidates + j].append((k, float(limit.weight[j])))
    return cells


def _run_instance(folder: Path, out: Path | None) -> dict[str, Any]:
    solution = solve_instance(load_instance(folder), tolerance=TOLERANCE)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        table = pa.table({"Customer": solution.customer, "Activity": solution.activity})
        options = pa_csv.WriteOptions(quoting_style="none", quoting_header="none")
        pa_csv.write_csv(table, out / "assignment.csv", options)
    row = {
        "instance": folder.name,
        "assignments": len(solution.customer),
        "value": solution.value,
        "objective": solution.objective,
        "bound": solution.bound,
        "gap": solution.gap,
        "seconds": solution.seconds,
        "violated_hard": solution.violated_hard,
    }
    return {
        **row,
        "shortfall_soft": dict(solution.shortfall),
        "penalty": "twice the greatest expected profit of a pair, per missing unit",
        "unsupported": [],
        "table": [row],
    }


if __name__ == "__main__":
    print(json.dumps(_from_files(int(sys.argv[1]), Path(sys.argv[2]))))
