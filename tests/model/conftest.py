"""Real data sets and small generators with known truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv
import pytest
from threadpoolctl import threadpool_limits

import bihuan.model
from bihuan.model import BuiltModel, LabelledFrame, ModelSpec, build_model
from bihuan.model.steps.learner import BoostedSettings

PACK = Path(bihuan.model.__file__).parents[1] / "pack"
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Matrix products on one thread: the suite shares its cores with other workers."""
    with threadpool_limits(limits=1):
        yield


@pytest.fixture(scope="session")
def telco() -> LabelledFrame:
    """7,043 customers of a made-up telecom; 1,869 left. No dates."""
    table = csv.read_csv(
        PACK / "retention" / "telco_customer_churn.csv.gz",
        convert_options=csv.ConvertOptions(strings_can_be_null=True, null_values=["", " "]),
    )
    return LabelledFrame(
        ids=table["customerID"],
        features=table.drop_columns(["customerID", "Churn"]),
        label=pc.equal(table["Churn"], "Yes"),
        lineage={"file": "telco_customer_churn.csv.gz"},
    )


@pytest.fixture(scope="session")
def bank() -> LabelledFrame:
    """41,188 calls of a real campaign in date order, without `duration`; period = month."""
    table = csv.read_csv(
        PACK / "replay" / "bank_additional_full.csv.gz",
        parse_options=csv.ParseOptions(delimiter=";"),
        convert_options=csv.ConvertOptions(strings_can_be_null=True, null_values=["unknown"]),
    )
    month = np.array([MONTHS.index(name) for name in table["month"].to_pylist()])
    year = 2008 + np.cumsum(np.diff(month, prepend=month[0]) < 0)
    return LabelledFrame(
        ids=pa.array(np.arange(len(month)).astype(str)),
        features=table.drop_columns(["y", "duration"]),
        label=pc.equal(table["y"], "yes"),
        period=(year * 12 + month).astype(np.int32),
    )


@pytest.fixture(scope="session")
def bank_duration() -> np.ndarray:
    """Seconds of each call, known only after it: what a leak looks like in real data."""
    table = csv.read_csv(
        PACK / "replay" / "bank_additional_full.csv.gz",
        parse_options=csv.ParseOptions(delimiter=";"),
    )
    return table["duration"].to_numpy().astype(float)


class Truth:
    """Customers whose response probability is known."""

    def __init__(self, n: int, seed: int, *, intercept: float = -1.5, n_periods: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.arpu = rng.gamma(3.0, 30.0, n)
        self.tenure = rng.integers(0, 72, n)
        self.contract = rng.choice(["none", "one_year", "two_year"], n, p=[0.5, 0.3, 0.2])
        self.complained = rng.random(n) < 0.15
        self.noise = rng.normal(size=n)
        self.logit = (
            intercept
            + 0.01 * (self.arpu - 90)
            - 0.03 * (self.tenure - 36)
            + np.select([self.contract == "none", self.contract == "two_year"], [0.7, -0.9], 0.0)
            + 0.8 * self.complained
        )
        self.probability = 1 / (1 + np.exp(-self.logit))
        self.label = rng.random(n) < self.probability
        self.period = np.sort(rng.integers(0, n_periods, n)).astype(np.int32) if n_periods else None

    @property
    def features(self) -> pa.Table:
        return pa.table(
            {
                "arpu": self.arpu,
                "tenure": self.tenure,
                "contract": self.contract,
                "complained": self.complained,
                "noise": self.noise,
            }
        )

    @property
    def frame(self) -> LabelledFrame:
        n = len(self.label)
        ids = pa.array([f"c{i:07d}" for i in range(n)])
        return LabelledFrame(ids, self.features, self.label, self.period)


@pytest.fixture(scope="session")
def make_truth() -> type[Truth]:
    return Truth


@pytest.fixture(scope="session")
def truth() -> Truth:
    return Truth(6_000, 1)


@pytest.fixture(scope="session")
def churn_model(telco) -> BuiltModel:
    """A blend on the telecom's customers, with titles, as the registry and the scorer meet it."""
    spec = ModelSpec(
        name="churn",
        title={"zh": "离网预警", "en": "Churn"},
        label={"zh": "当月离网", "en": "Left within the month"},
        owner="retention team",
        learner="blend",
        boosted=BoostedSettings(trees=40),
        titles={"Contract": {"zh": "合约", "en": "Contract"}},
        code_titles={"Contract": {"Month-to-month": {"zh": "按月", "en": "monthly"}}},
    )
    return build_model(telco, spec, seed=0)
