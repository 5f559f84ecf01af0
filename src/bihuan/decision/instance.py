"""Public instances: several contacts per customer, with conflicts and minimums.

Reads the customer assignment instances of Bigler, Kammermann and Baumann [1]_: activities on
days and channels, eligible pairs with expected profit and response probability, budgets, minimum
and maximum assignments and sales, at most so many contacts per customer within some days, and
conflict rules with a lag.

Every set of activities that one customer may get together becomes one option (a *bundle*). So
conflicts and contact limits hold by construction, as an integer problem per customer and not as a
weak linear relaxation, and the rest is the same problem with at most one option per customer.

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
from scipy.sparse import csr_array

from bihuan.decision.options import ROUNDING, Floats, Indices, Options
from bihuan.decision.price import find_prices
from bihuan.decision.repair import make_plan
from bihuan.kernel import DefectError, Progress, SilentProgress, UserError

ALL = "ALL"
MAXIMA = ("Maximum assignment", "Maximum sales", "Budget")
MINIMA = ("Minimum assignment", "Minimum sales")
CONTACTS = "Maximum contact"


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
        No assignment has a greater objective.
    gap
        ``(bound - objective) / |bound|``.
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
    with (progress or SilentProgress()).task("allocate", unit="steps") as task:
        bundle = _bundles(instance)
        options = _options(instance, bundle, price)
        task.advance()
        pricing = find_prices(options, report=task.advance)
        plan = make_plan(options, pricing, tolerance=tolerance, report=task.advance)
    taken = bundle[plan.choice[plan.choice >= 0]]
    pair = np.sort(taken[taken >= 0])
    violated, shortfall = _check(instance, pair)
    if violated:
        raise DefectError(f"The assignment breaks {', '.join(violated)}.")
    names = [activity.activity_id for activity in instance.activities]
    return InstanceSolution(
        customer=instance.customer[pair],
        activity=np.array(names, dtype=np.int64)[instance.activity[pair]],
        value=math.fsum(instance.profit[pair]),
        objective=plan.value,
        bound=pricing.bound,
        gap=(pricing.bound - plan.value) / max(abs(pricing.bound), 1e-300),
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


def _bundles(instance: Instance) -> Indices:
    """Return all sets of pairs that one customer may get together.

    Shape ``(n_bundles, largest)``, positions of pairs, -1 where the set is smaller; by customer.
    """
    n = len(instance.customer)
    end = np.searchsorted(instance.customer, instance.customer, side="right")
    level = np.arange(n)[:, None]
    level = level[_within_contacts(instance, level)]
    levels = []
    while len(level):
        levels.append(level)
        last = level[:, -1]
        more = end[last] - last - 1
        base = np.repeat(np.arange(len(level)), more)
        step = np.arange(len(base)) - np.repeat(np.cumsum(more) - more, more)
        added = last[base] + 1 + step
        rivals = instance.conflicts[
            instance.activity[level[base]], instance.activity[added][:, None]
        ]
        grown = np.column_stack([level[base], added])[~rivals.any(axis=1)]
        level = grown[_within_contacts(instance, grown)]
    width = max(len(levels), 1)
    padded = [
        np.pad(part, ((0, 0), (0, width - part.shape[1])), constant_values=-1) for part in levels
    ]
    bundles = np.concatenate([np.empty((0, width), dtype=np.int64), *padded])
    return bundles[np.argsort(instance.customer[bundles[:, 0]], kind="stable")]


def _within_contacts(instance: Instance, level: Indices) -> NDArray[np.bool_]:
    fine = np.ones(len(level), dtype=np.bool_)
    for rule in instance.rules:
        if rule.kind == CONTACTS:
            covered = np.zeros(len(instance.activities), dtype=np.int64)
            covered[list(rule.covers)] = 1
            fine &= covered[instance.activity[level]].sum(axis=1) <= rule.bound
    return fine


def _options(instance: Instance, bundle: Indices, penalty: float) -> Options:
    """Make every bundle an option; sales differ between customers, so they are extra weights."""
    rules = [rule for rule in instance.rules if rule.kind != CONTACTS]
    present = bundle >= 0
    holds = np.zeros((len(instance.activities), len(rules)))
    extra: dict[int, Floats] = {}
    for i, rule in enumerate(rules):
        sign = -1.0 if rule.kind in MINIMA else 1.0
        covers = list(rule.covers)
        if rule.kind.endswith("sales"):
            weight = np.zeros(len(instance.activities))
            weight[covers] = sign
            sale = weight[instance.activity] * instance.probability
            extra[i] = np.where(present, sale[bundle], 0.0).sum(axis=1)
        else:
            cost = [a.cost if rule.kind == "Budget" else 1.0 for a in instance.activities]
            holds[covers, i] = sign * np.array(cost)[covers]
    activity = np.where(present, instance.activity[bundle], -1)
    sets, kind = np.unique(np.sort(activity, axis=1), axis=0, return_inverse=True)
    usage = np.where(sets[:, :, None] >= 0, holds[sets], 0.0).sum(axis=1)
    customer = instance.customer[bundle[:, 0]]
    first = np.flatnonzero(np.diff(customer, prepend=customer[:1] - 1))
    soft = np.array([rule.kind in MINIMA for rule in rules], dtype=np.bool_)
    bound = np.array([rule.bound for rule in rules])
    return Options(
        start=np.append(first, len(customer)),
        value=np.where(present, instance.profit[bundle], 0.0).sum(axis=1),
        kind=kind.ravel().astype(np.int32),
        extra=extra,
        usage=csr_array(usage),
        bound=np.where(soft, -bound, bound),
        ceiling=np.where(soft, penalty, np.inf),
        group=np.zeros(len(first), dtype=np.int32),
        customer=customer[first],
        mass=np.ones(len(first)),
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
