"""Builders of decision logs and responses with known truth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest

from bihuan.kernel import random_stream


@dataclass(frozen=True)
class Trial:
    """A randomised campaign whose potential responses are known."""

    decisions: pa.Table
    response: pa.Table
    covariates: pa.Table
    true_effect: float


def decision_log(customer, stratum, treated, probability, campaign="c1"):
    n = len(customer)
    return pa.table(
        {
            "decision_id": [f"d{i}" for i in range(n)],
            "campaign_id": [campaign] * n,
            "customer_id": list(customer),
            "arm": np.where(treated, "treatment", "control"),
            "treatment_probability": np.asarray(probability, dtype=float),
            "stratum": list(stratum),
        }
    )


@pytest.fixture(scope="session")
def log() -> Callable[..., pa.Table]:
    return decision_log


@pytest.fixture(scope="session")
def trial() -> Callable[..., Trial]:
    """Build a trial: strata of given sizes, complete randomisation, effect varying by customer."""

    def build(sizes=(3000, 2000, 1000), control=0.2, base=0.1, effect=0.05, seed=1, biased=False):
        rng = random_stream(seed, "trial")
        stratum = np.repeat([f"s{i}" for i in range(len(sizes))], sizes)
        n = len(stratum)
        x = rng.normal(size=n)
        p0 = np.clip(base + 0.05 * x, 0, 1)
        p1 = np.clip(p0 + effect * (1 + 0.5 * rng.normal(size=n)), 0, 1)
        treated = np.ones(n, dtype=bool)
        probability = np.empty(n)
        for name in np.unique(stratum):
            members = np.flatnonzero(stratum == name)
            held = round(control * len(members))
            # the biased twin holds out those who would respond least
            order = np.argsort(p0[members]) if biased else rng.permutation(len(members))
            treated[members[order[:held]]] = False
            probability[members] = 1 - held / len(members)
        draw = rng.random(n)
        y = draw < np.where(treated, p1, p0)
        customer = [f"k{i:06d}" for i in range(n)]
        return Trial(
            decision_log(customer, stratum, treated, probability),
            pa.table({"customer_id": customer, "response": y}),
            pa.table({"customer_id": customer, "fee": x, "tenure": rng.normal(size=n)}),
            float(np.mean(p1 - p0)),
        )

    return build
