"""How many the plan reaches: from the audience to the contacts, step by step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import SuppressionReport
from bihuan.decision.allocation.limit import Limit
from bihuan.decision.assign import hash_customers
from bihuan.decision.plan import Plan
from bihuan.kernel import DefectError, UserError


class SampleError(UserError):
    """A sample size that is no size."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Whom a rehearsal looks at.

    Parameters
    ----------
    size
        Customers rehearsed, after suppression.
    population
        Customers of the audience after suppression.
    """

    size: int
    population: int

    @property
    def is_whole(self) -> bool:
        """Whether everybody is rehearsed."""
        return self.size == self.population

    @property
    def scale(self) -> float:
        """Customers of the audience per customer rehearsed, >= 1."""
        return self.population / max(self.size, 1)

    def error(self, hits: int) -> float:
        """Return the standard error of ``hits * scale``, in customers of the audience.

        Parameters
        ----------
        hits
            Customers of the sample with some property.
        """
        if self.is_whole or not self.size:
            return 0.0
        share = (hits + 0.5) / (self.size + 1)
        left_out = 1 - self.size / self.population
        return float(self.population * np.sqrt(share * (1 - share) / self.size * left_out))


def draw_sample(
    ids: pa.Array, wanted: int | float | None, *, seed: int
) -> tuple[NDArray[np.int64], Sample]:
    """Choose the customers to rehearse, by lot.

    Parameters
    ----------
    ids
        Customers left after suppression, each once.
    wanted
        A number of customers (int), a share of them (float, 0 < share <= 1), or None for all.
    seed
        The same seed chooses the same customers, also if others come or go around them.

    Returns
    -------
    tuple
        Positions in ``ids``, ascending, and the sample's size. A number above the population
        takes all.

    Raises
    ------
    SampleError
        If the number is below 1 or the share outside 0..1.

    Examples
    --------
    >>> ids = pa.array([f"c{i}" for i in range(10)])
    >>> at, sample = draw_sample(ids, 0.3, seed=1)
    >>> len(at), sample.scale.__round__(2)
    (3, 3.33)
    """
    n = len(ids)
    if wanted is None:
        return np.arange(n), Sample(n, n)
    is_share = isinstance(wanted, float)
    if isinstance(wanted, bool) or not wanted > 0 or (is_share and wanted > 1):
        raise SampleError(
            f"A sample of {wanted!r} is not possible.",
            remedy="Give a number of customers such as 5000, or a share such as 0.1.",
            zh=f"样本量 {wanted!r} 无效,请给出客户数(如 5000)或比例(如 0.1)。",
        )
    size = min(n, max(1, round(wanted * n)) if is_share else int(wanted))
    lots = hash_customers(ids, seed, "rehearsal")
    chosen = np.sort(np.argsort(lots, kind="stable")[:size])
    return chosen, Sample(size, n)


def scale_limits(limits: Sequence[Limit], sample: Sample) -> tuple[Limit, ...]:
    """Return the limits that a sample stands under.

    Parameters
    ----------
    limits
        Of the whole audience.
    sample
        Whom the plan is made for.

    Returns
    -------
    tuple of Limit
        Bounds divided by the sample's scale. Limits on the same thing for different customers
        (seats of many units) are rounded to whole numbers together, so that the sum is right
        though each of them may be too small to be divided. Money and expected sales can be
        divided and are not rounded.
    """
    if sample.is_whole:
        return tuple(limits)
    carried: dict[tuple[str, bytes], float] = {}
    found = []
    for limit in limits:
        bound = limit.bound / sample.scale
        counts = limit.weight.ndim == 1 and bool((limit.weight % 1 == 0).all())
        if limit.members is not None and np.isfinite(bound) and counts:
            key = (limit.kind, limit.weight.tobytes())
            total = carried.get(key, 0.0) + bound
            bound = np.floor(total + 0.5) - np.floor(carried.get(key, 0.0) + 0.5)
            carried[key] = total
        found.append(replace(limit, bound=bound))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class ReachStep:
    """One step on the way from the audience to the contacts.

    Parameters
    ----------
    phase
        ``audience``, ``suppression``, one of the funnel's five, ``allocation`` or ``hold_out``.
    name, title
        Code and words.
    dropped, left
        Customers who end here and who go on; of the whole audience.
    error
        Standard error of ``left`` where a sample was rehearsed, else 0.
    """

    phase: str
    name: str
    title: Mapping[str, str]
    dropped: int
    left: int
    error: float = 0.0


def reach_steps(
    plan: Plan, suppression: SuppressionReport, sample: Sample
) -> tuple[ReachStep, ...]:
    """Return who falls where, from the audience to the contacts; the steps add up.

    Parameters
    ----------
    plan
        Of the sample.
    suppression
        Of the whole audience.
    sample
        What the plan was made for; later steps are raised to the whole audience.

    Raises
    ------
    DefectError
        If the steps do not add up to the plan's contacts.
    """
    size = suppression.size
    steps = [ReachStep("audience", "audience", {"zh": "目标客户群", "en": "Audience"}, 0, size)]
    steps += [
        ReachStep("suppression", count.name, count.title, count.removed, count.remaining)
        for count in suppression.counts
    ]
    after = [
        (count.phase, count.name, count.title, count.customers_left) for count in plan.funnel.counts
    ]
    planned = int((plan.allocation.choice >= 0).sum())
    contacts = int((plan.contacts >= 0).sum())
    after += [
        ("allocation", "over_limit", {"zh": "名额或预算不足", "en": "No room within the limits"},
         planned),
        ("hold_out", "held_out", {"zh": "抽签留作对照", "en": "Held out by lot"}, contacts),
    ]  # fmt: skip
    before = suppression.remaining
    for phase, name, title, hits in after:
        left = round(hits * sample.scale)
        steps.append(ReachStep(phase, name, title, before - left, left, sample.error(hits)))
        before = left
    if any(step.dropped < 0 for step in steps):
        raise DefectError("A step of the reach has more customers left than came in.")
    logged = int(pc.sum(pc.equal(plan.decisions["arm"], "treatment")).as_py() or 0)
    if contacts != logged:
        raise DefectError(f"{contacts} contacts planned, {logged} in the decisions.")
    return tuple(steps)
