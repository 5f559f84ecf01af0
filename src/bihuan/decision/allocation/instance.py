"""Public instances: several contacts per customer, with conflicts and minimums.

Reads the customer assignment instances of Bigler, Kammermann and Baumann [1]_: activities on
days and channels, eligible pairs with expected profit and response probability, budgets, minimum
and maximum assignments and sales, at most so many contacts per customer within some days, and
conflict rules with a lag.

Contact limits and conflicts become the rules of each customer, sales a measure of each pair; the
rest is an allocation like any other.

Maximums, budgets, contact limits and conflicts are hard. Minimums are soft: a missing unit costs
``penalty``, by default twice the greatest expected profit of a pair, so a minimum is missed only
where it cannot be met or where meeting it would cost more than that.

References
----------
.. [1] Bigler, Kammermann, Baumann (2023), A matheuristic for a customer assignment problem in
   direct marketing, European Journal of Operational Research 304(2), 689-708.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from bihuan.decision.allocation.allocate import allocate
from bihuan.decision.allocation.limit import ROUNDING, Limit
from bihuan.decision.allocation.options import Floats, Indices
from bihuan.decision.allocation.pairs import Pairs, narrow
from bihuan.decision.allocation.rules import ContactRules, Window
from bihuan.kernel import DefectError, Progress, UserError

ALL = "ALL"
MAXIMA = ("Maximum assignment", "Maximum sales", "Budget")
MINIMA = ("Minimum assignment", "Minimum sales")
CONTACTS = "Maximum contact"
SALES = "sales"


class InstanceError(UserError):
    """A folder that cannot be read as an instance."""


@dataclass(frozen=True, slots=True)
class Activity:
    """One direct marketing activity.

    Parameters
    ----------
    activity_id
        As in the file.
    day
        On which it takes place.
    channel, products
        What it is and for what.
    cost
        Per assignment.
    """

    activity_id: int
    day: int
    channel: str
    products: frozenset[str]
    cost: float


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of table 3: a bound over the activities that it covers.

    Parameters
    ----------
    name
        Index and type, for example ``3 Maximum assignment``.
    kind
        Type, as in the file.
    covers
        Positions of the activities.
    bound
        In assignments, expected sales, money or contacts, as the type says.
    """

    name: str
    kind: str
    covers: tuple[int, ...]
    bound: float


@dataclass(frozen=True, slots=True, eq=False)
class Instance:
    """An instance as read.

    Parameters
    ----------
    activities
        In file order.
    rules
        In file order.
    conflicts
        Which pairs of activities one customer may not both get, shape ``(a, a)``, symmetric.
    customer, activity, profit, probability
        One entry per eligible pair, by customer; ``activity`` is a position.
    """

    activities: tuple[Activity, ...]
    rules: tuple[Rule, ...]
    conflicts: NDArray[np.bool_]
    customer: Indices
    activity: Indices
    profit: Floats
    probability: Floats


@dataclass(frozen=True, slots=True, eq=False)
class InstanceSolution:
    """Assignments for an instance and their certificate.

    Parameters
    ----------
    customer, activity
        Chosen pairs, by customer then activity (ids as in the files).
    value
        Total expected profit.
    objective
        Value less the penalties of missed minimums.
    bound
        No assignment that misses no more of the minimums is worth more.
    gap
        ``(bound - value) / |bound|``.
    shortfall
        Missing units by name, of the minimums that are missed.
    violated_hard
        Hard rules that do not hold; 0, checked.
    seconds
        Wall time.
    """

    customer: Indices
    activity: Indices
    value: float
    objective: float
    bound: float
    gap: float
    shortfall: Mapping[str, float]
    violated_hard: int
    seconds: float


def load_instance(folder: Path) -> Instance:
    """Read ``table1.csv`` to ``table4.csv`` (plain or gzipped) of an instance.

    Raises
    ------
    InstanceError
        If a table is missing or holds something unknown; names table and row.
    """
    activities = tuple(
        Activity(
            activity_id=int(row["Activity"]),
            day=int(row["Day"]),
            channel=row["Channel"].strip(),
            products=frozenset(_split(row["TargetProducts"])),
            cost=float(row["Cost"]),
        )
        for row in _rows(folder, "table1")
    )
    rules = tuple(_rule(row, activities) for row in _rows(folder, "table3"))
    conflicts = np.zeros((len(activities), len(activities)), dtype=np.bool_)
    for row in _rows(folder, "table4"):
        first = _match(activities, row["Channel1"], row["TargetProduct1"])
        second = _match(activities, row["Channel2"], row["TargetProduct2"])
        for a in first:
            for b in second:
                if a != b and 0 <= activities[b].day - activities[a].day <= float(row["Lag"]):
                    conflicts[a, b] = conflicts[b, a] = True
    pairs = pa_csv.read_csv(pa.BufferReader(_content(folder, "table2")))
    place = {activity.activity_id: i for i, activity in enumerate(activities)}
    ids = pairs["Activity"].to_numpy()
    unknown = set(np.unique(ids).tolist()) - set(place)
    if unknown:
        raise InstanceError(
            f"table2 names activity {min(unknown)}, which table1 does not have.",
            remedy="Check that the tables belong to one instance.",
            zh=f"table2 中的活动 {min(unknown)} 不在 table1 中,请检查文件是否配套。",
        )
    activity = np.array([place.get(i, 0) for i in range(int(ids.max(initial=0)) + 1)])[ids]
    customer = pairs["Customer"].to_numpy()
    order = np.lexsort((activity, customer))
    return Instance(
        activities=activities,
        rules=rules,
        conflicts=conflicts,
        customer=customer[order],
        activity=activity[order],
        profit=pairs["ExpectedProfit"].to_numpy()[order].astype(np.float64),
        probability=pairs["ResponseProbability"].to_numpy()[order].astype(np.float64),
    )


def solve_instance(
    instance: Instance,
    *,
    tolerance: float = 1e-3,
    penalty: float | None = None,
    progress: Progress | None = None,
) -> InstanceSolution:
    """Choose assignments of greatest expected profit under the rules of an instance.

    Parameters
    ----------
    instance
        As read.
    tolerance
        Relative gap at which the search may stop.
    penalty
        Cost of one missing unit of a minimum; None: twice the greatest expected profit of a pair.
    progress
        Shows the steps and can stop the work.
    """
    begun = time.perf_counter()
    price = 2.0 * float(instance.profit.max(initial=0.0)) if penalty is None else penalty
    pairs, limits, rules, customers = _problem(instance, price)
    plan = allocate(pairs, limits, rules=rules, tolerance=tolerance, progress=progress)
    row, place = np.nonzero(plan.contacts >= 0)
    taken = np.stack([customers[row], plan.contacts[row, place]], axis=1)
    key = instance.customer * len(instance.activities) + instance.activity
    pair = np.sort(np.searchsorted(key, taken @ [len(instance.activities), 1]))
    violated, shortfall = _check(instance, pair)
    if violated:
        raise DefectError(f"The assignment breaks {', '.join(violated)}.")
    names = [activity.activity_id for activity in instance.activities]
    return InstanceSolution(
        customer=instance.customer[pair],
        activity=np.array(names, dtype=np.int64)[instance.activity[pair]],
        value=plan.value,
        objective=plan.value - price * math.fsum(shortfall.values()),
        bound=plan.bound,
        gap=plan.gap,
        shortfall=shortfall,
        violated_hard=len(violated),
        seconds=time.perf_counter() - begun,
    )


def _rows(folder: Path, table: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(_content(folder, table).decode("utf-8-sig"))))


def _content(folder: Path, table: str) -> bytes:
    plain, packed = folder / f"{table}.csv", folder / f"{table}.csv.gz"
    if plain.exists():
        return plain.read_bytes()
    if packed.exists():
        return gzip.decompress(packed.read_bytes())
    raise InstanceError(
        f"The instance has no {table}.csv.",
        remedy="Give the folder that holds table1.csv to table4.csv.",
        zh=f"实例目录中没有 {table}.csv,请给出包含 table1.csv 至 table4.csv 的目录。",
    )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(";")]


def _match(activities: Sequence[Activity], channels: str, products: str) -> list[int]:
    wanted_channels, wanted_products = set(_split(channels)), set(_split(products))
    return [
        i
        for i, activity in enumerate(activities)
        if (ALL in wanted_channels or activity.channel in wanted_channels)
        and (ALL in wanted_products or activity.products & wanted_products)
    ]


def _rule(row: Mapping[str, str], activities: Sequence[Activity]) -> Rule:
    kind = row["Type"].strip()
    if kind not in (*MAXIMA, *MINIMA, CONTACTS):
        raise InstanceError(
            f"table3, index {row['Index']}: constraint type '{kind}' is not known.",
            remedy=f"Known types: {', '.join((*MAXIMA, *MINIMA, CONTACTS))}.",
            zh=f"table3 第 {row['Index']} 条的约束类型“{kind}”未知。",
        )
    first, last = float(row["StartDay"]), float(row["EndDay"])
    covers = _match(activities, row["Channels"], row["TargetProducts"])
    within = tuple(i for i in covers if first <= activities[i].day <= last)
    return Rule(f"{row['Index']} {kind}", kind, within, float(row["Bound"]))


def _problem(
    instance: Instance, penalty: float
) -> tuple[Pairs, list[Limit], ContactRules, Indices]:
    """Write an instance as an allocation; also say who the customers are."""
    n = len(instance.activities)
    customers, row = np.unique(instance.customer, return_inverse=True)
    start = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(customers)))])
    pairs = Pairs(
        start=start.astype(np.int64),
        candidate=instance.activity.astype(narrow(n)),
        value=instance.profit,
        n_candidates=n,
        group=np.zeros(len(customers), dtype=np.uint8),
        measures=instance.probability[None, :],
        measure_names=(SALES,),
    )
    limits, windows = [], []
    most = max(int(np.diff(start).max(initial=1)), 1)  # nobody can get more than is open
    for rule in instance.rules:
        covers = np.zeros(n, dtype=np.bool_)
        covers[list(rule.covers)] = True
        if rule.kind == CONTACTS and covers.all() and rule.bound >= 1:
            most = min(most, int(rule.bound))
        elif rule.kind == CONTACTS:
            windows.append(Window(covers, int(rule.bound)))
        else:
            limits.append(_limit(rule, instance.activities, penalty))
    return pairs, limits, ContactRules(n, most, tuple(windows), instance.conflicts), customers


def _limit(rule: Rule, activities: Sequence[Activity], penalty: float) -> Limit:
    weight = np.zeros(len(activities))
    for i in rule.covers:
        weight[i] = activities[i].cost if rule.kind == "Budget" else 1.0
    return Limit(
        name=rule.name,
        kind="minimum" if rule.kind in MINIMA else rule.kind,
        weight=weight,
        bound=rule.bound,
        unit="contact",
        measure=SALES if rule.kind.endswith(SALES) else "",
        penalty=penalty,
    )


def _check(instance: Instance, pair: Indices) -> tuple[list[str], dict[str, float]]:
    """Return the hard rules that ``pair`` breaks and what is missing of the minimums."""
    violated, shortfall = [], {}
    activity, customer = instance.activity[pair], instance.customer[pair]
    cost = np.array([a.cost for a in instance.activities])
    for rule in instance.rules:
        inside = np.isin(activity, rule.covers)
        if rule.kind == CONTACTS:
            _, contacts = np.unique(customer[inside], return_counts=True)
            used = float(contacts.max(initial=0))
        elif rule.kind == "Budget":
            used = float(cost[activity[inside]].sum())
        elif rule.kind.endswith("sales"):
            used = float(instance.probability[pair[inside]].sum())
        else:
            used = float(inside.sum())
        if rule.kind in MINIMA and used < rule.bound * (1 - ROUNDING):
            shortfall[rule.name] = rule.bound - used
        if rule.kind not in MINIMA and used > rule.bound * (1 + ROUNDING):
            violated.append(rule.name)
    clash = np.zeros(len(pair), dtype=np.bool_)
    for lag in range(1, len(instance.activities)):
        same = customer[lag:] == customer[:-lag]
        if not same.any():
            break
        clash[lag:] |= same & instance.conflicts[activity[lag:], activity[:-lag]]
    if clash.any():
        violated.append("conflicts")
    return violated, shortfall
