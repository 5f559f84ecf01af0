"""Small operators for the tag room: random rows with gaps, repeated ids and missing values."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from bihuan.data import DuckDBEngine, Lake, TableContract, load_contracts
from bihuan.kernel import FixedClock, SilentProgress
from bihuan.tag import (
    LIBRARY_FOLDER,
    DeriveReport,
    TagDefinition,
    TagDictionary,
    derive,
    parse_definition,
)

MONTH_ENDS = [date(2026, 7, 31), date(2026, 8, 31), date(2026, 9, 30), date(2026, 10, 31)]
AS_OF = MONTH_ENDS[-1]


@pytest.fixture(scope="session")
def contracts() -> dict[str, TableContract]:
    return load_contracts()


@pytest.fixture(scope="session")
def library(contracts) -> TagDictionary:
    return TagDictionary.load(LIBRARY_FOLDER, contracts=contracts)


@pytest.fixture(scope="session")
def engine() -> DuckDBEngine:
    return DuckDBEngine(threads=2)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 2, 8, tzinfo=UTC))


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def define(name: str, **fields: Any) -> TagDefinition:
    """Make a live tag; a plain statistic of a customer's bills where ``fields`` say nothing."""
    text = {"zh": f"{name} 的说明", "en": f"About {name}"}
    given = {
        "layer": "base",
        "subject": "customer",
        "means": "statistics",
        "type": "number",
        "category": "测试/标签",
        "owner": "tests",
        "state": "live",
        "title": text,
        "meaning": text,
        "definition": text,
    }
    if not {"expression", "model"} & set(fields):
        given |= {"source": "bill", "expression": "sum(amount)"}
    if "expression" in fields and not {"source", "model", "layer"} & set(fields):
        given |= {"source": "bill"}
    return parse_definition({**given, "name": name, **fields}, origin=f"{name}.yaml:1")


@pytest.fixture(name="define", scope="session")
def define_fixture() -> Callable[..., TagDefinition]:
    return define


class Operator:
    """Rows of every contract table, made at random, published as snapshots.

    Customers ``C00..``: the last two have no subscription, and bills and usage also name a
    customer who is not in the customer table.
    """

    def __init__(self, contracts: dict[str, TableContract], seed: int, customers: int = 12) -> None:
        self.contracts = contracts
        self.random = np.random.default_rng(seed)
        self.ids = [f"C{i:02d}" for i in range(customers)]
        owners = [*self.ids[:-2], "C99"]
        self.lines = {f"S{i:03d}": owners[i % len(owners)] for i in range(int(1.5 * customers))}

    def table(self, name: str, rows: list[dict[str, Any]]) -> pa.Table:
        schema = self.contracts[name].schema
        return pa.Table.from_pylist(rows, schema=schema)

    def pick(self, *values: Any) -> Any:
        return values[int(self.random.integers(len(values)))]

    def money(self, high: int = 300) -> Decimal | None:
        return self.pick(None, *[Decimal(int(self.random.integers(high * 100))) / 100] * 6)

    def number(self, high: float = 9000.0) -> float | None:
        return self.pick(None, 0.0, *[round(float(self.random.random() * high), 3)] * 5)

    def customer(self, day: date) -> pa.Table:
        rows = [
            {
                "customer_id": c,
                "kind": self.pick("individual", "enterprise", None),
                "gender": self.pick("F", "M", None),
                "birth_year": self.pick(None, 1950, 1985, 2003),
                "is_senior": self.pick(True, False, None),
                "city_code": self.pick("1301", "1306", None),
                "org_unit_id": self.pick("U1", "U2", None),
                "manager_staff_id": self.pick("P1", "P2", None),
                "joined_on": self.pick(None, date(2020, 2, 29), date(2026, 9, 30)),
            }
            for c in self.ids
        ]
        order = self.random.permutation(len(rows))  # tags are ordered by id whatever the source
        return self.table("customer", [rows[i] for i in order])

    def subscription(self, day: date) -> pa.Table:
        return self.table(
            "subscription",
            [
                {
                    "subscription_id": s,
                    "customer_id": c,
                    "service": self.pick("mobile", "broadband", "leased_line"),
                    "product_id": self.pick("plan_a", "plan_b", None),
                    "status": self.pick("active", "active", "suspended", "disconnected"),
                    "tenure_months": self.pick(None, 1, 12, 70),
                    "contract_kind": self.pick("none", "month_to_month", "one_year", "two_year"),
                    "contract_ends_on": self.pick(
                        None, day + timedelta(20), day + timedelta(400), day - timedelta(3)
                    ),
                    "monthly_fee": self.pick(None, Decimal("58.00"), Decimal("128.00")),
                    "terminal_generation": self.pick(None, "2g", "4g", "5g"),
                    "left_in_month": self.pick(True, False, None),
                }
                for s, c in self.lines.items()
            ],
        )

    def account(self, day: date) -> pa.Table:
        return self.table(
            "account",
            [
                {
                    "account_id": f"A{c}",
                    "customer_id": c,
                    "payment_method": self.pick("card", "cash", None),
                    "is_paperless": self.pick(True, False, None),
                    "balance": self.money(),
                }
                for c in self.ids[1:]
            ],
        )

    def usage(self, day: date) -> pa.Table:
        return self.table(
            "usage",
            [
                {
                    "subscription_id": s,
                    "customer_id": c,
                    "voice_minutes": self.number(600),
                    "data_mb": self.number(40000),
                    "g5_data_mb": self.number(9000),
                    "sms_count": self.pick(None, 0, 3, 40),
                    "mms_count": self.pick(0, 1),
                    "roaming_data_mb": self.number(50),
                    "active_days": self.pick(None, 0, 12, 31),
                }
                for s, c in self.lines.items()
                if self.random.random() < 0.8
            ],
        )

    def bill(self, day: date) -> pa.Table:
        return self.table(
            "bill",
            [
                {
                    "account_id": f"A{c}",
                    "subscription_id": s,
                    "customer_id": c,
                    "amount": self.money(),
                    "cumulative_amount": self.money(9000),
                    "overdue_amount": self.pick(None, Decimal(0), Decimal("12.30")),
                    "discount_amount": self.pick(None, Decimal(0), Decimal("5.00")),
                }
                for s, c in self.lines.items()
                if self.random.random() < 0.8
            ],
        )

    def _moment(self, day: date) -> datetime:
        seconds = int(self.random.integers(86400 * 27))
        return datetime(day.year, day.month, 1, tzinfo=UTC) + timedelta(seconds=seconds)

    def contact(self, day: date) -> pa.Table:
        return self.table(
            "contact",
            [
                {
                    "contact_id": f"K{day:%m}{i:03d}",
                    "customer_id": self.pick(*self.ids),
                    "channel": self.pick("outbound", "sms"),
                    "staff_id": self.pick("P1", "P2", None),
                    "contacted_at": self._moment(day),
                    "result": self.pick("no_answer", "refused", "accepted"),
                    "is_success": self.pick(True, False, False, False),
                }
                for i in range(8)
            ],
        )

    def ticket(self, day: date) -> pa.Table:
        return self.table(
            "ticket",
            [
                {
                    "ticket_id": f"T{day:%m}{i:03d}",
                    "customer_id": self.pick(*self.ids),
                    "subscription_id": self.pick(None, *self.lines),
                    "kind": self.pick("complaint", "fault", "inquiry"),
                    "severity": self.pick(None, 1, 3, 5),
                    "opened_at": self._moment(day),
                }
                for i in range(10)
            ],
        )

    def event(self, day: date) -> pa.Table:
        return self.table(
            "event",
            [
                {
                    "event_id": f"E{day:%m}{i:03d}",
                    "customer_id": self.pick(None, *self.ids),
                    "kind": "view",
                    "occurred_at": self._moment(day),
                    "channel": self.pick("app", "web", None),
                }
                for i in range(15)
            ],
        )

    def customer_list(self, day: date) -> pa.Table:
        rows = [(c, k) for c in self.ids for k in ("red", "black") if self.random.random() < 0.2]
        return self.table("customer_list", [{"customer_id": c, "list_kind": k} for c, k in rows])

    def opt_out(self, day: date) -> pa.Table:
        kinds = ("no_marketing", "no_profiling")
        rows = [
            {"customer_id": c, "kind": k, "channel": "all", "since": date(2026, 1, 1)}
            for c in self.ids
            for k in kinds
            if self.random.random() < 0.3
        ]
        return self.table("opt_out", rows)

    def holding(self, day: date) -> pa.Table:
        rows = [
            {"subscription_id": s, "product_id": p, "customer_id": c, "status": "active"}
            for s, c in self.lines.items()
            for p in ("video", "backup")
            if self.random.random() < 0.5
        ]
        return self.table("holding", rows)

    def org_unit(self, day: date) -> pa.Table:
        tiers = [("U1", "city"), ("U2", "county"), ("U3", "grid")]
        return self.table("org_unit", [{"org_unit_id": u, "tier": t} for u, t in tiers])

    def staff(self, day: date) -> pa.Table:
        rows = [("P1", "U1", "active"), ("P2", "U1", "left"), ("P3", "U2", "active")]
        return self.table(
            "staff", [{"staff_id": p, "org_unit_id": u, "status": s} for p, u, s in rows]
        )

    def channel(self, day: date) -> pa.Table:
        rows = [("H1", "hall", "passive"), ("O1", "outbound", "active")]
        return self.table(
            "channel",
            [{"channel_id": c, "kind": k, "direction": d, "org_unit_id": "U1"} for c, k, d in rows],
        )

    STATES = (
        *("customer", "subscription", "account", "customer_list", "opt_out", "holding"),
        *("org_unit", "staff", "channel"),
    )
    FACTS = ("usage", "bill", "contact", "ticket", "event")

    def publish(self, lake: Lake, clock: FixedClock, *names: str) -> Operator:
        """Publish tables (default: all); states at the last month end, facts at each."""
        clock.advance(timedelta(minutes=1))
        with lake.publication(clock) as publication:
            for name in names or (*self.STATES, *self.FACTS):
                for day in MONTH_ENDS if name in self.FACTS else [AS_OF]:
                    publication.add(name, day, getattr(self, name)(day))
        return self


@pytest.fixture(scope="session")
def published(contracts, tmp_path_factory) -> tuple[Operator, Path]:
    """An operator of all tables and the lake that holds them, made once."""
    root = tmp_path_factory.mktemp("operator") / "lake"
    clock = FixedClock(datetime(2026, 11, 1, tzinfo=UTC))
    return Operator(contracts, seed=7).publish(Lake(root), clock), root


@pytest.fixture
def operator(published, lake) -> Operator:
    """All tables of a small operator, in ``lake``."""
    made, root = published
    shutil.copytree(root, lake.root, dirs_exist_ok=True)
    return made


@pytest.fixture
def make_operator(contracts) -> Callable[..., Operator]:
    return lambda seed, customers=12: Operator(contracts, seed, customers)


@pytest.fixture
def derive_tags(lake, clock, engine) -> Callable[..., DeriveReport]:
    """Derive in ``lake`` at the last month end."""

    def run(dictionary: TagDictionary, **given: Any) -> DeriveReport:
        clock.advance(timedelta(minutes=1))
        settings = {"engine": engine, "clock": clock, "progress": SilentProgress()} | given
        return derive(
            dictionary, settings.pop("lake", lake), settings.pop("as_of", AS_OF), **settings
        )

    return run
