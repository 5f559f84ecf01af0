"""Allocation beside the exact solver and beside what a planner would do without one.

Without ``--size`` and ``--instance``: 10,000 customers against HiGHS (all pairs at once, linear
and whole), then 100,000 and 1,000,000 x 36 with the certificate alone. With ``--size``: that many
customers. With ``--instance``: a folder of the public customer assignment instances; ``--out``
receives ``assignment.csv`` (``Customer,Activity``).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from bihuan.decision import Limit, allocate
from bihuan.decision.instance import load_instance, solve_instance
from bihuan.kernel import random_stream

OFFERS, CHANNELS, CITIES = 6, 6, 11
OFFER = np.arange(OFFERS * CHANNELS) // CHANNELS
CHANNEL = np.arange(OFFERS * CHANNELS) % CHANNELS
OPEN_CHANNEL = 2  # the app has no capacity to run out of
EXACT_CUSTOMERS = 20_000  # beyond this HiGHS takes minutes
GREEDY_CUSTOMERS = 100_000  # the baselines loop over pairs in Python
MILP_SECONDS = 120.0
COLUMNS = {
    "customers": "customers",
    "seconds": "seconds",
    "gap": "gap",
    "/ LP": "of_lp",
    "/ MILP": "of_milp",
    "MILP s": "milp_seconds",
    "x campaigns": "to_campaigns",
    "x greedy": "to_global",
}

Problem = tuple[NDArray[np.float64], list[Limit]]


def run(size: int | None, instance: Path | None, out: Path | None) -> dict[str, Any]:
    """Run the benchmark; see the module's text."""
    if instance is not None:
        return _run_instance(instance, out)
    rows = [_measure(n) for n in ([size] if size else [10_000, 100_000, 1_000_000])]
    largest = rows[-1]
    return {
        "gap": max(row["gap"] for row in rows),
        "seconds": largest["seconds"],
        "value": largest["value"],
        "bound": largest["bound"],
        "ratio_to_milp": rows[0]["of_milp"],
        "ratio_to_greedy_by_campaign": rows[0]["to_campaigns"],
        "ratio_to_greedy_by_value": rows[0]["to_global"],
        "runs": [dict(row) for row in rows],
        "table": [{title: row[name] for title, name in COLUMNS.items()} for row in rows],
    }


def campaign(n: int, seed: int = 1) -> Problem:
    """Make a problem: 6 offers x 6 channels, a quarter of the pairs eligible, 77 limits.

    Channel capacities (scaled from 600 k calls, 8 M texts ... for 67 M customers), one budget per
    offer with its own cost, and a maximum per city and channel. Nearly all of them bind.
    """
    rng = random_stream(seed, "bench", "allocation")
    share = np.arange(1, CITIES + 1) ** -0.6
    share /= share.sum()
    city = rng.choice(CITIES, n, p=share)
    margin = np.array([8.0, 12, 20, 30, 45, 60])[OFFER]
    effect = np.array([1.6, 0.35, 0.5, 1.8, 1.3, 0.55])[CHANNEL]
    contact_cost = np.array([2.0, 0.05, 0.01, 0.8, 2.5, 0.03])[CHANNEL]
    wealth = rng.permutation(np.linspace(1.5, 0.6, CITIES))[city][:, None]
    value = np.empty((n, OFFERS * CHANNELS))
    for at in range(0, n, 100_000):
        part = slice(at, min(at + 100_000, n))
        rows = part.stop - at
        taste = 0.6 * rng.normal(size=(rows, 1)) + 0.8 * rng.normal(size=(rows, OFFERS))
        chance = 1 / (1 + np.exp(3.2 - taste))
        noise = rng.lognormal(sigma=0.2, size=(rows, OFFERS * CHANNELS))
        block = chance[:, OFFER] * margin * wealth[part] * effect * noise - contact_cost
        fits = (rng.random((rows, OFFERS)) < 0.55)[:, OFFER]
        fits &= (rng.random((rows, CHANNELS)) < 0.55)[:, CHANNEL]
        value[part] = np.where(fits, block, np.nan)
    return value, _campaign_limits(n, city, share)


def _campaign_limits(n: int, city: NDArray[np.int64], share: NDArray[np.float64]) -> list[Limit]:
    scale = n / 67e6
    capacity = np.array([600e3, 8e6, np.inf, 1e6, 500e3, 3e6]) * scale
    budget = np.array([3e6, 4e6, 6e6, 7e6, 7e6, 5e6]) * 3 * scale
    cost = np.array([1.0, 1.5, 2, 3, 4, 6])
    channels = [c for c in range(CHANNELS) if c != OPEN_CHANNEL]
    on = {c: (c == CHANNEL).astype(float) for c in channels}
    limits = [Limit(f"capacity {c}", "capacity", on[c], np.floor(capacity[c])) for c in channels]
    limits += [
        Limit(f"budget {o}", "budget", np.where(o == OFFER, cost[o], 0.0), np.floor(budget[o]))
        for o in range(OFFERS)
    ]
    limits += [
        Limit(
            f"city {g} channel {c}",
            "capacity",
            on[c],
            np.floor(1.25 * share[g] * capacity[c]),
            city == g,
        )
        for g in range(CITIES)
        for c in channels
    ]
    return limits


def _measure(n: int) -> dict[str, Any]:
    value, limits = campaign(n)
    plan = allocate(value, limits, tolerance=1e-4)
    row: dict[str, Any] = {
        "customers": n,
        "pairs": int((value > 0).sum()),
        "seconds": plan.seconds,
        "value": plan.value,
        "bound": plan.bound,
        "gap": plan.gap,
        "binding": sum(use.is_binding for use in plan.limits),
        "of_lp": None,
        "lp_seconds": None,
        "of_milp": None,
        "milp_seconds": None,
        "to_campaigns": None,
        "to_global": None,
    }
    if n <= EXACT_CUSTOMERS:
        for name, whole in (("lp", False), ("milp", True)):
            begun = time.perf_counter()
            optimum = _exact(value, limits, whole=whole)
            row[f"of_{name}"] = plan.value / optimum
            row[f"{name}_seconds"] = time.perf_counter() - begun
    if n <= GREEDY_CUSTOMERS:
        row["to_campaigns"] = plan.value / greedy(value, limits, by_campaign=True)
        row["to_global"] = plan.value / greedy(value, limits, by_campaign=False)
    return row


def _exact(value: NDArray[np.float64], limits: list[Limit], *, whole: bool) -> float:
    """Return what HiGHS finds on all pairs at once."""
    row, column = np.nonzero(value > 0)
    e = np.arange(len(row))
    parts = [csr_array((np.ones(len(row)), (row, e)), shape=(len(value), len(row)))]
    for limit in limits:
        inside = 1.0 if limit.members is None else limit.members[row]
        parts.append(csr_array((limit.weight[column] * inside)[None, :]))
    bound = np.concatenate([np.ones(len(value)), [limit.bound for limit in limits]])
    result = milp(
        -value[row, column],
        constraints=LinearConstraint(vstack(parts).tocsr(), ub=bound),
        integrality=np.full(len(row), int(whole)),
        bounds=Bounds(0, 1),
        options={"time_limit": MILP_SECONDS, "mip_rel_gap": 1e-6},
    )
    return float(-result.fun) if result.fun is not None else float("nan")


def greedy(value: NDArray[np.float64], limits: list[Limit], *, by_campaign: bool) -> float:
    """Return the worth of going through pairs in order and taking what still fits.

    Parameters
    ----------
    value
        Shape ``(n_customers, n_candidates)``.
    limits
        With a weight per candidate.
    by_campaign
        Offers one after another, greatest mean value first, best customers first within an offer
        (what campaign tools do); otherwise all pairs by value.
    """
    row, column = np.nonzero(value > 0)
    gain = value[row, column]
    rank = np.zeros(OFFERS)
    if by_campaign:
        mean = [gain[OFFER[column] == o].mean() for o in range(OFFERS)]
        rank = np.argsort(np.argsort(-np.array(mean))).astype(float)
    order = np.lexsort((-gain, rank[OFFER[column]]))
    left = [limit.bound for limit in limits]
    uses: list[list[tuple[int, float, NDArray[np.bool_] | None]]] = [
        [(k, float(x.weight[j]), x.members) for k, x in enumerate(limits) if x.weight[j] > 0]
        for j in range(value.shape[1])
    ]
    is_taken = np.zeros(len(value), dtype=np.bool_)
    total = 0.0
    for i, j, worth in zip(row[order].tolist(), column[order].tolist(), gain[order], strict=True):
        if is_taken[i]:
            continue
        own = [(k, w) for k, w, members in uses[j] if members is None or members[i]]
        if all(left[k] >= w for k, w in own):
            is_taken[i] = True
            total += worth
            for k, w in own:
                left[k] -= w
    return total


def _run_instance(folder: Path, out: Path | None) -> dict[str, Any]:
    solution = solve_instance(load_instance(folder), tolerance=1e-4)
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
