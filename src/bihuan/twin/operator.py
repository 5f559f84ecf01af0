"""A simulated operator: months of customers, usage, bills, tickets and contacts in the lake.

Customers are vectors, months a loop. What a customer does hangs together: income drives plan and
bill, digital habit drives data, a contract near its end, a complaint and falling usage drive
leaving. Two hidden parts (traits and an own risk) never reach the lake.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.special import expit

from bihuan.data import Lake, Publication, TableContract
from bihuan.kernel import Clock, Progress, UserError, random_stream
from bihuan.twin.month import month_ends
from bihuan.twin.off_net import add_off_net, draw_off_net
from bihuan.twin.organisation import PLANS, build_territory, in_contract, organisation_tables
from bihuan.twin.standing import PAYMENTS, Standing, StandingBase
from bihuan.twin.truth import Floats, Truth, draw_truth

Ints = NDArray[np.int64]
CONTRACT_KINDS = np.array(["none", "month_to_month", "one_year", "two_year"])


@dataclass(frozen=True, slots=True)
class TwinSettings:
    """How large the simulated operator is and which months it has lived.

    Parameters
    ----------
    customers
        Customers at the start, >= 1.
    months
        Months of history, >= 1.
    last
        Snapshot date of the newest month; a month's last day.
    seed
        Everything simulated hangs on it.
    off_net_share
        Customers of other networks as a share of all whom the operator knows, 0 <= share < 1; they
        come on top of ``customers``.
    """

    customers: int = 10_000
    months: int = 12
    last: date = date(2026, 10, 31)
    seed: int = 7
    off_net_share: float = 0.0

    def month_ends(self) -> list[date]:
        """Return the snapshot dates, oldest first."""
        return month_ends(self.last, self.months)

    @property
    def off_net_customers(self) -> int:
        """Number of customers of other networks."""
        return round(self.customers * self.off_net_share / (1 - self.off_net_share))


@dataclass(frozen=True, slots=True)
class TwinReport:
    """What was generated.

    Parameters
    ----------
    truth
        The hidden response of the customers still there at the end.
    rows
        Rows written, by table, over all months.
    seconds
        Wall time.
    """

    truth: Truth
    rows: Mapping[str, int]
    seconds: float


def generate_operator(
    settings: TwinSettings,
    lake: Lake,
    contracts: Mapping[str, TableContract],
    *,
    offer_ids: tuple[str, ...] = (),
    clock: Clock,
    progress: Progress,
) -> TwinReport:
    """Write a simulated operator's months into the lake, one publication per month.

    Parameters
    ----------
    settings
        Size, months and seed.
    lake
        Where to; months already there are replaced.
    contracts
        The built-in table contracts.
    offer_ids
        Offers whose hidden response is drawn.
    clock, progress
        Moment of publication; one step per month.

    Returns
    -------
    TwinReport
        With the truth that was not written.
    """
    if settings.customers < 1 or settings.months < 1:
        raise UserError(
            "A simulated operator needs at least one customer and one month.",
            remedy="Choose larger numbers.",
            zh="模拟运营商至少需要一位客户和一个月份，请选择更大的数值。",
        )
    if not 0 <= settings.off_net_share < 1:
        raise UserError(
            f"The share of off-net customers is {settings.off_net_share}.",
            remedy="Write a share from 0 up to, but not including, 1.",
            zh=f"异网客户占比为 {settings.off_net_share}，应不小于 0 且小于 1。",
        )
    started = time.perf_counter()
    population = _Population(settings)
    standing = Standing(_base_of(population), settings.last, settings.seed)
    off_net = draw_off_net(settings.off_net_customers, population.territory, settings.seed)
    organisation = organisation_tables(contracts)
    rows: dict[str, int] = {}
    with progress.task("simulate", total=settings.months, unit="month") as task:
        for as_of in settings.month_ends():
            tables = population.live_month(as_of)
            tables |= standing.month(as_of, population.tenure)
            tables |= {name: _as_columns(table) for name, table in organisation.items()}
            tables = add_off_net(tables, off_net, as_of)
            with lake.publication(clock) as publication:
                _publish(publication, tables, contracts, as_of, settings.seed, rows)
            task.advance()
    alive = np.flatnonzero(population.active)
    truth = draw_truth(
        population.ids[alive].tolist(),
        population.leave_logit()[alive],
        offer_ids,
        seed=settings.seed,
    )
    return TwinReport(truth, rows, time.perf_counter() - started)


def _base_of(population: _Population) -> StandingBase:
    territory = population.territory
    return StandingBase(
        ids=population.arrow_ids,
        accounts=population.accounts,
        birth_year=population.birth_year,
        digital=population.digital,
        payment=population.payment,
        places=tuple(
            np.array(codes)[population.grid].tolist()
            for codes in (territory.city_codes, territory.county_codes, territory.grids)
        ),
    )


def _as_columns(table: pa.Table) -> dict[str, object]:
    return {name: table[name] for name in table.column_names}


def _publish(
    publication: Publication,
    tables: Mapping[str, Mapping[str, object]],
    contracts: Mapping[str, TableContract],
    as_of: date,
    seed: int,
    rows: dict[str, int],
) -> None:
    for name, columns in tables.items():
        table = in_contract(contracts[name], columns)
        publication.add(name, as_of, table, lineage={"source": "twin", "seed": seed})
        rows[name] = rows.get(name, 0) + table.num_rows


class _Population:
    """The living: one array entry per customer, moved on month by month."""

    def __init__(self, settings: TwinSettings) -> None:
        self.rng = random_stream(settings.seed, "population")
        rng, n = self.rng, settings.customers
        self.ids = np.char.add("c", np.char.zfill(np.arange(n).astype(str), 9))
        self.arrow_ids = pa.array(self.ids.tolist())
        self.subscriptions = pc.binary_join_element_wise("s", self.arrow_ids, "")
        self.accounts = pc.binary_join_element_wise("a", self.arrow_ids, "")
        self.income = rng.standard_normal(n)
        self.digital = 0.3 * self.income + 0.95 * rng.standard_normal(n)
        self.birth_year = np.clip(1984 + 6 * self.digital + 13 * rng.standard_normal(n), 1930, 2008)
        self.plan = np.clip(
            np.round(1.9 + 1.1 * self.income + 0.5 * rng.standard_normal(n)), 0, len(PLANS) - 1
        ).astype(np.int64)
        self.tenure = np.floor(rng.gamma(1.4, 28, n)).astype(np.int64)
        self.contract = rng.choice(4, n, p=[0.25, 0.3, 0.27, 0.18])
        self.contract_left = np.where(self.contract >= 2, rng.integers(0, 24, n), 0)
        self.data_level = 0.8 * self.digital + 0.5 * rng.standard_normal(n)
        self.voice_level = -0.25 * self.digital + rng.standard_normal(n)
        self.complaints = np.zeros(n)
        self.usage_trend = np.zeros(n)
        self.cumulative = 30.0 * self.tenure
        self.active = np.ones(n, dtype=np.bool_)
        self.left_now = np.zeros(n, dtype=np.bool_)
        self.territory = build_territory()
        self.grid = rng.choice(len(self.territory.grids), n, p=self.territory.weights)
        self.terminal = np.clip(
            np.round(3.3 + 0.5 * self.digital + 0.6 * rng.standard_normal(n)), 2, 5
        ).astype(np.int64)
        self.payment = rng.integers(0, len(PAYMENTS), n)
        self.prices = np.array([price for *_, price, _ in PLANS])
        self.month = 0

    def leave_logit(self) -> Floats:
        """Return the visible part of the logit of leaving in the coming month."""
        bound = np.where(self.contract_left > 0, 1.0, 0.0)
        expiring = ((self.contract >= 2) & (self.contract_left <= 2)).astype(float)
        return np.asarray(
            -3.1 - 1.5 * bound + 0.9 * expiring + 0.7 * self.complaints - 0.9 * self.usage_trend
            - 0.35 * np.log1p(self.tenure / 12) + 0.15 * (self.plan >= 3) * (self.income < 0)
        )  # fmt: skip

    def live_month(self, as_of: date) -> dict[str, dict[str, object]]:
        """Let one month pass and return its period, event and subscription rows."""
        rng, n = self.rng, len(self.ids)
        if self.month:
            leave = expit(self.leave_logit() + 0.4 * rng.standard_normal(n))
            self.left_now = self.active & (rng.random(n) < leave)
        step = 0.25 * rng.standard_normal(n)
        self.usage_trend = 0.6 * self.usage_trend + 0.4 * step
        self.data_level = 0.96 * self.data_level + step
        self.voice_level = 0.97 * self.voice_level + 0.2 * rng.standard_normal(n)
        self.tenure += 1
        self.contract_left = np.maximum(self.contract_left - 1, 0)
        new_complaints = rng.poisson(0.03 + 0.03 * (self.usage_trend < -0.15), n)
        self.complaints = 0.7 * self.complaints + new_complaints
        living = np.flatnonzero(self.active)
        tables = {
            "usage": self._usage(living),
            "bill": self._bill(living),
            "subscription": self._subscription(as_of),
            "ticket": self._ticket(as_of, new_complaints),
            "contact": self._contact(as_of, living),
        }
        self.active &= ~self.left_now
        self.left_now = np.zeros(n, dtype=np.bool_)
        self.month += 1
        return tables

    def _usage(self, living: Ints) -> dict[str, object]:
        rng, k = self.rng, len(living)
        data = np.exp(8.3 + 0.75 * self.data_level[living] + 0.15 * rng.standard_normal(k))
        voice = np.exp(4.6 + 0.7 * self.voice_level[living] + 0.2 * rng.standard_normal(k))
        five_g = np.where(self.terminal[living] == 5, rng.beta(4, 2, k), 0.0)
        return {
            "subscription_id": self.subscriptions.take(pa.array(living)),
            "customer_id": self.arrow_ids.take(pa.array(living)),
            "voice_minutes": np.round(voice, 1),
            "data_mb": np.round(data, 1),
            "g5_data_mb": np.round(data * five_g, 1),
            "sms_count": rng.poisson(6, k),
            "mms_count": rng.poisson(0.2, k),
            "roaming_data_mb": np.round(np.where(rng.random(k) < 0.03, rng.gamma(2, 90, k), 0), 1),
            "active_days": np.minimum(30, rng.poisson(24 + 3 * (self.digital[living] > 0), k)),
        }

    def _bill(self, living: Ints) -> dict[str, object]:
        rng, k = self.rng, len(living)
        overage = rng.gamma(1.2, 4 + 2 * (self.data_level[living] > 1), k)
        discount = np.where(self.contract[living] == 3, 10.0, 0.0)
        amount = np.round(self.prices[self.plan[living]] + overage - discount, 2)
        self.cumulative[living] += amount
        return {
            "account_id": self.accounts.take(pa.array(living)),
            "subscription_id": self.subscriptions.take(pa.array(living)),
            "customer_id": self.arrow_ids.take(pa.array(living)),
            "amount": amount,
            "cumulative_amount": np.round(self.cumulative[living], 2),
            "overdue_amount": np.where(rng.random(k) < 0.04, amount, 0.0),
            "discount_amount": discount,
        }

    def _subscription(self, as_of: date) -> dict[str, object]:
        rng, n = self.rng, len(self.ids)
        suspended = rng.random(n) < 0.01
        here = self.active & ~self.left_now
        status = np.where(here, np.where(suspended, "suspended", "active"), "disconnected")
        ends = np.where(self.contract_left > 0, 30 * self.contract_left, 0)
        names = pa.array([plan[0] for plan in PLANS])
        return {
            "subscription_id": self.subscriptions,
            "account_id": self.accounts,
            "customer_id": self.arrow_ids,
            "service": _repeat("mobile", n),
            "product_id": names.take(pa.array(self.plan)),
            "status": pa.array(status.tolist()),
            "activated_on": _days(as_of, 30 * self.tenure),
            "tenure_months": self.tenure.copy(),
            "contract_kind": pa.array(CONTRACT_KINDS).take(pa.array(self.contract)),
            "contract_ends_on": pc.if_else(
                pa.array(self.contract_left > 0), _days(as_of, -ends), pa.scalar(None, pa.date32())
            ),
            "monthly_fee": self.prices[self.plan],
            "terminal_generation": pa.array(["2g", "2g", "2g", "3g", "4g", "5g"]).take(
                pa.array(self.terminal)
            ),
            "left_in_month": self.left_now.copy(),
        }

    def _ticket(self, as_of: date, complaints: Ints) -> dict[str, object]:
        who = np.flatnonzero(self.active & (complaints > 0))
        return {
            "ticket_id": pc.binary_join_element_wise(
                f"t{as_of:%Y%m}", self.arrow_ids.take(pa.array(who)), "-"
            ),
            "customer_id": self.arrow_ids.take(pa.array(who)),
            "subscription_id": self.subscriptions.take(pa.array(who)),
            "kind": _repeat("complaint", len(who)),
            "severity": self.rng.integers(1, 6, len(who)),
            "opened_at": self._moments(as_of, len(who)),
        }

    def _contact(self, as_of: date, living: Ints) -> dict[str, object]:
        rng = self.rng
        who = living[rng.random(len(living)) < 0.06]
        success = rng.random(len(who)) < 0.12
        channel = pa.array(["outbound", "sms"]).take(pa.array(rng.integers(0, 2, len(who))))
        return {
            "contact_id": pc.binary_join_element_wise(
                f"k{as_of:%Y%m}", self.arrow_ids.take(pa.array(who)), "-"
            ),
            "customer_id": self.arrow_ids.take(pa.array(who)),
            "campaign_id": _repeat(f"routine-{as_of:%Y-%m}", len(who)),
            "channel": channel,
            "contacted_at": self._moments(as_of, len(who)),
            "result": pa.array(np.where(success, "accepted", "refused").tolist()),
            "is_success": success,
        }

    def _moments(self, as_of: date, k: int) -> pa.Array:
        """Return moments between 09:00 and 20:00 (UTC+8) within the month of ``as_of``."""
        first = datetime(as_of.year, as_of.month, 1, 1, tzinfo=UTC)
        days = self.rng.integers(0, as_of.day, k) * 86_400
        seconds = days + self.rng.integers(0, 11 * 3_600, k)
        micros = (int(first.timestamp()) + seconds) * 1_000_000
        return pa.array(micros, pa.int64()).cast(pa.timestamp("us", tz="UTC"))


def _repeat(value: object, n: int) -> pa.Array:
    return pa.repeat(value if isinstance(value, pa.Scalar) else pa.scalar(value), n)


def _days(as_of: date, back: Ints) -> pa.Array:
    epoch = (as_of - date(1970, 1, 1)).days
    return pa.array((epoch - back).astype(np.int32)).cast(pa.date32())
