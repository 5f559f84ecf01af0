"""Builders of allocation problems and their exact answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp

from bihuan.decision import Candidate, DecisionInputs, Limit
from bihuan.kernel import FixedClock, random_stream

Problem = tuple[NDArray[np.float64], list[Limit]]


def exact_optimum(value: NDArray[np.float64], limits: Sequence[Limit], *, whole: bool) -> float:
    """Solve the integer program (or its linear relaxation) with HiGHS, all pairs at once."""
    row, column = np.nonzero(value > 0)
    gain = value[row, column]
    if not len(gain):
        return 0.0
    matrix = np.zeros((len(value) + len(limits), len(gain)))
    matrix[row, np.arange(len(gain))] = 1
    for i, limit in enumerate(limits):
        weight = limit.weight[column] if limit.weight.ndim == 1 else limit.weight[row, column]
        inside = 1.0 if limit.members is None else limit.members[row]
        matrix[len(value) + i] = weight * inside
    bound = np.concatenate([np.ones(len(value)), [limit.bound for limit in limits]])
    result = milp(
        -gain,
        constraints=LinearConstraint(matrix, ub=bound),
        integrality=np.full(len(gain), int(whole)),
        bounds=Bounds(0, 1),
        options={"mip_rel_gap": 0},
    )
    return float(-result.fun)


def permuted(value: NDArray[np.float64], limits: Sequence[Limit], order: NDArray) -> Problem:
    """Return the same problem with its customers in another order."""
    return value[order], [
        replace(
            limit,
            weight=limit.weight if limit.weight.ndim == 1 else limit.weight[order],
            members=None if limit.members is None else limit.members[order],
        )
        for limit in limits
    ]


def campaign_problem(n: int, m: int, seed: int, *, units: int = 1) -> Problem:
    """Make a problem of the size of a real campaign: m candidates over 6 channels and m/6 offers.

    Limits: six channel capacities per unit, a budget, and a maximum per offer; all of them bind
    or nearly bind.
    """
    rng = random_stream(seed, "campaign problem")
    channel, offer = np.arange(m) % 6, np.arange(m) // 6
    unit = rng.integers(units, size=n)
    margin = 10.0 + 4.0 * offer
    taste = rng.normal(size=(n, 1)) * 0.8 + rng.normal(size=(n, offer.max() + 1))[:, offer]
    reach = np.array([1.6, 0.4, 0.5, 1.8, 1.3, 0.6])[channel]
    cost = np.array([2.0, 0.05, 0.01, 0.8, 2.5, 0.03])[channel]
    value = (
        margin * reach / (1 + np.exp(3.0 - taste)) * rng.lognormal(sigma=0.1, size=(n, m)) - cost
    )
    value[rng.random((n, m)) > 0.4] = np.nan
    limits = [Limit("budget", "budget", cost, 0.25 * n)]
    for u in range(units):
        for c in range(6):
            name, weight = f"channel_{c}_unit_{u}", (channel == c).astype(float)
            limits.append(Limit(name, "capacity", weight, n // units // 10, unit == u))
    limits += [
        Limit(f"offer_{o}", "maximum", (offer == o).astype(float), n // 15)
        for o in range(offer.max() + 1)
    ]
    return value, limits


@pytest.fixture(scope="session")
def lab() -> SimpleNamespace:
    """The functions above, for tests of this folder."""
    return SimpleNamespace(
        exact_optimum=exact_optimum, permuted=permuted, campaign_problem=campaign_problem
    )


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 10, 31, 8, tzinfo=UTC))


@pytest.fixture(scope="session")
def make_inputs() -> Callable[..., DecisionInputs]:
    """Return a builder of the inputs of one campaign over two offers and three channels."""

    def make(n: int = 400, seed: int = 3, **changes: object) -> DecisionInputs:
        rng = random_stream(seed, "inputs")
        candidates = tuple(
            Candidate(offer, channel)
            for offer in ("contract_12", "data_pack")
            for channel in ("outbound", "sms", "app")
        )
        m = len(candidates)
        is_outbound = np.array([c.channel == "outbound" for c in candidates])
        is_pack = np.array([c.offer_id == "data_pack" for c in candidates])
        units = rng.integers(3, size=n)
        cost = np.array([6.0, 0.1, 0.0, 6.0, 0.1, 0.0])
        propensity = rng.beta(1.5, 8, size=(n, m))
        has_app = rng.random(n) < 0.3
        propensity[np.ix_(~has_app, [c.channel == "app" for c in candidates])] = np.nan
        propensity[rng.random(n) < 0.1] = 0.0
        seats = [
            Limit(f"seats_{u}", "capacity", is_outbound.astype(float), 12, units == u, unit="call")
            for u in range(3)
        ]
        limits = (
            *seats,
            Limit("packs", "maximum", is_pack.astype(float), 60),
            Limit("texts", "capacity", np.array([0.0, 1, 0, 0, 1, 0]), 100.0, unit="SMS"),
            Limit("budget", "budget", cost, 220.0),
        )
        inputs = DecisionInputs(
            campaign_id="retention_2026_11",
            as_of=date(2026, 10, 31),
            customer_id=pa.array([f"c{i:05d}" for i in range(n)]),
            candidates=candidates,
            propensity=propensity,
            margin=np.array([120.0, 120.0, 120.0, 60.0, 60.0, 60.0]),
            cost=cost,
            org_unit_id=pa.array([f"u{u}" for u in units]),
            limits=limits,
        )
        return replace(inputs, **changes)

    return make
