"""Derived values held against plain Python over generated rows; incremental against full runs.

The oracle below reads rows as Python objects and knows nothing of SQL: for each tag it has a
function from a subject's rows in the window to the value.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bihuan.data import DuckDBEngine, Lake, load_contracts
from bihuan.kernel import FixedClock, SilentProgress
from bihuan.tag import TagDictionary, derive, read_tags
from bihuan.tag import query as query_module

CONTRACTS = load_contracts()
DAYS = [date(2026, 7, 31), date(2026, 8, 31), date(2026, 9, 30), date(2026, 10, 31)]
AS_OF = DAYS[-1]
ENGINE = DuckDBEngine(threads=1)
CUSTOMERS = ["C0", "C1", "C2", "C3"]

Rows = list[dict[str, Any]]
Oracle = Callable[[Rows], Any]


def some(rows: Rows, column: str) -> list[Any]:
    return [row[column] for row in rows if row[column] is not None]


def or_none(function: Callable[[list[Any]], Any]) -> Callable[[list[Any]], Any]:
    return lambda found: function(found) if found else None


def divided(left: Any, right: Any) -> float | None:
    return None if left is None or not right else float(left) / float(right)


TAGS: dict[str, tuple[str, str, Any, Oracle]] = {
    "total": ("sum(amount)", "money", None, lambda r: or_none(sum)(some(r, "amount"))),
    "mean": ("avg(amount)", "number", None, lambda r: or_none(statistics.mean)(some(r, "amount"))),
    "mean_money": (
        "avg(amount)",
        "money",
        0,
        lambda r: or_none(statistics.mean)(some(r, "amount")),
    ),
    "least": ("min(amount)", "money", None, lambda r: or_none(min)(some(r, "amount"))),
    "rows": ("count(*)", "integer", 0, len),
    "filled": ("count(discount_amount)", "integer", 0, lambda r: len(some(r, "discount_amount"))),
    "lines": (
        "count(distinct subscription_id)",
        "integer",
        0,
        lambda r: len(set(some(r, "subscription_id"))),
    ),
    "months": (
        "count(distinct months_ago)",
        "integer",
        0,
        lambda r: len({row["months_ago"] for row in r}),
    ),
    "dear": (
        "count(*) filter (where amount > $x or discount_amount = 0)",
        "integer",
        0,
        lambda r: sum(
            (row["amount"] is not None and row["amount"] > 100) or row["discount_amount"] == 0
            for row in r
        ),
    ),
    "any_dear": (
        "bool_or(amount > $x)",
        "boolean",
        False,
        lambda r: or_none(any)([a > 100 for a in some(r, "amount")]),
    ),
    "all_dear": (
        "bool_and(amount > $x)",
        "boolean",
        None,
        lambda r: or_none(all)([a > 100 for a in some(r, "amount")]),
    ),
    "share": (
        "sum(discount_amount) / sum(amount)",
        "number",
        None,
        lambda r: divided(
            or_none(sum)(some(r, "discount_amount")), or_none(sum)(some(r, "amount"))
        ),
    ),
    "dearest_line": (
        "arg_max(subscription_id, amount)",
        "string",
        None,
        lambda r: max(
            ((row["amount"], row["subscription_id"]) for row in r if row["amount"] is not None),
            default=(None, None),
        )[1],
    ),
    "trend": (
        "sum(amount) filter (where months_ago = 0) / avg(amount)",
        "number",
        None,
        lambda r: divided(
            or_none(sum)(
                [x["amount"] for x in r if not x["months_ago"] and x["amount"] is not None]
            ),
            or_none(statistics.mean)(some(r, "amount")),
        ),
    ),
}

amounts = st.none() | st.integers(-2, 30_000).map(lambda cents: Decimal(cents) / 100)
rows_of_a_month = st.lists(
    st.fixed_dictionaries(
        {
            "customer_id": st.sampled_from([*CUSTOMERS[:3], "C9"]),
            "amount": amounts,
            "discount_amount": st.none() | st.sampled_from([Decimal(0), Decimal("1.25")]),
        }
    ),
    max_size=7,
)
histories = st.fixed_dictionaries(
    {day: st.none() | rows_of_a_month for day in DAYS[:-1]} | {AS_OF: rows_of_a_month}
)


def publish(lake: Lake, clock: FixedClock, history: dict[date, list | None], customers=CUSTOMERS):
    clock.advance(timedelta(minutes=1))
    with lake.publication(clock) as publication:
        rows = [{"customer_id": c} for c in reversed(customers)]
        schema = CONTRACTS["customer"].schema
        publication.add("customer", AS_OF, pa.Table.from_pylist(rows, schema=schema))
        for day, month in history.items():
            if month is not None:
                full = [
                    row | {"account_id": "A", "subscription_id": f"S{number}"}
                    for number, row in enumerate(month)
                ]
                table = pa.Table.from_pylist(full, schema=CONTRACTS["bill"].schema)
                publication.add("bill", day, table)


def definitions(define, windows: dict[str, int]) -> list:
    return [
        define(
            name,
            expression=sql,
            type=type_,
            default=default,
            window_months=windows.get(name, 1),
            **({"thresholds": {"x": 100}} if "$x" in sql else {}),
        )
        for name, (sql, type_, default, _) in TAGS.items()
    ]


def expected(history: dict[date, list | None], name: str, window: int, customer: str) -> Any:
    _, type_, default, oracle = TAGS[name]
    rows = [
        row | {"months_ago": AS_OF.month - day.month, "subscription_id": f"S{number}"}
        for day, month in history.items()
        if AS_OF.month - day.month < window
        for number, row in enumerate(month or [])
        if row["customer_id"] == customer
    ]
    if not rows:
        return Decimal(default) if type_ == "money" and default is not None else default
    value = oracle(rows)
    if type_ == "money" and value is not None:
        return Decimal(value).quantize(Decimal("0.01"), ROUND_HALF_UP)
    return value


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and right is not None:
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12)
    return bool(left == right)


def derived(define, history, windows, root: Path) -> dict[str, dict[str, Any]]:
    clock, lake = FixedClock(datetime(2026, 11, 1, tzinfo=UTC)), Lake(root)
    publish(lake, clock, history)
    dictionary = TagDictionary(definitions(define, windows), CONTRACTS)
    derive(dictionary, lake, AS_OF, engine=ENGINE, clock=clock, progress=SilentProgress())
    table = read_tags(lake.view(), dictionary, "customer", AS_OF)
    rows = table.read(ENGINE, list(table.fields)).to_pylist()
    return {row.pop("customer_id"): row for row in rows}


def differences(found: dict, history: dict, windows: dict[str, int]) -> list[str]:
    return [
        f"{customer} {name} over {windows.get(name, 1)}: {found[customer][name]!r} "
        f"is not {expected(history, name, windows.get(name, 1), customer)!r}"
        for customer in CUSTOMERS
        for name in found[customer]
        if not same(found[customer][name], expected(history, name, windows.get(name, 1), customer))
    ]


class TestValuesEqualPlainPython:
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(histories, st.fixed_dictionaries({name: st.integers(1, 4) for name in TAGS}))
    def test_for_any_rows_and_windows(self, define, history, windows):
        with tempfile.TemporaryDirectory() as folder:
            found = derived(define, history, windows, Path(folder))
        assert set(found) == set(CUSTOMERS)
        assert differences(found, history, windows) == []

    @pytest.mark.parametrize(
        ("defect", "caught_by"),
        [
            ("windows are not applied", {"rows", "total"}),
            ("the default is given for every missing value", {"any_dear"}),
        ],
    )
    def test_the_check_catches_a_defect(self, define, monkeypatch, tmp_path, defect, caught_by):
        if defect == "windows are not applied":
            monkeypatch.setattr(query_module, "_limit", lambda aggregate, condition: None)
        else:
            original = query_module._facts_query

            def defective(tags, as_of, part, *, months):
                tree = original(tags, as_of, part, months=months)
                for case in tree.find_all(query_module.exp.Case):
                    if case.args.get("default") is not None:  # coalesce(value, default) instead
                        case.args["ifs"][0].set("this", case.args["ifs"][0].args["true"].is_(
                            query_module.exp.null()).not_())  # fmt: skip
                return tree

            monkeypatch.setattr(query_module, "_facts_query", defective)
        bill = {"customer_id": "C0", "amount": Decimal(3), "discount_amount": None}
        empty = bill | {"amount": None}
        history = {DAYS[1]: [bill, bill], DAYS[2]: [bill], AS_OF: [empty]}
        windows = {"rows": 1, "total": 1, "any_dear": 1, "months": 4}
        wrong = differences(derived(define, history, windows, tmp_path), history, windows)
        assert caught_by <= {text.split()[1] for text in wrong}


class TestIncrementalEqualsFull:
    """After any changes of rows and definitions, a run on top of the earlier runs gives the same
    tables as a first run in an empty lake.
    """

    steps = st.lists(
        st.one_of(
            st.tuples(st.just("bill"), st.sampled_from(DAYS), rows_of_a_month),
            st.tuples(st.just("window"), st.sampled_from(sorted(TAGS)), st.integers(1, 4)),
            st.tuples(st.just("customers"), st.integers(1, 4)),
            st.tuples(st.just("drop"), st.sampled_from(sorted(TAGS))),
            st.tuples(st.just("nothing")),
        ),
        min_size=1,
        max_size=4,
    )

    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
    @given(histories, steps)
    def test_for_any_changes(self, define, history, steps):
        with tempfile.TemporaryDirectory() as folder:
            world = _World(define, Path(folder) / "kept", dict(history))
            world.derive()
            for step in steps:
                world.change(step)
                world.derive()
            assert world.tables() == world.afresh(Path(folder) / "fresh").tables()

    def test_the_check_catches_a_fingerprint_that_forgets_the_sources(
        self, define, monkeypatch, tmp_path
    ):
        import importlib

        module = importlib.import_module("bihuan.tag.derive")
        monkeypatch.setattr(
            module, "hash_id", lambda *parts: repr([p for p in parts if p != 1])[:20]
        )
        bill = {"customer_id": "C0", "amount": Decimal(3), "discount_amount": None}
        world = _World(define, tmp_path / "kept", {AS_OF: [bill]})
        world.derive()
        world.change(("bill", AS_OF, [bill | {"amount": Decimal(4)}]))
        world.derive()
        assert world.tables() != world.afresh(tmp_path / "fresh").tables()


class _World:
    """A lake, its rows and definitions, with changes made to them."""

    def __init__(self, define, root: Path, history: dict) -> None:
        self.define, self.history, self.customers = define, history, CUSTOMERS
        self.windows: dict[str, int] = {}
        self.dropped: set[str] = set()
        self.lake, self.clock = Lake(root), FixedClock(datetime(2026, 11, 1, tzinfo=UTC))
        publish(self.lake, self.clock, history)

    def change(self, step: tuple) -> None:
        match step:
            case ("bill", day, rows):
                self.history[day] = rows
                publish(self.lake, self.clock, {day: rows}, self.customers)
            case ("window", name, window):
                self.windows[name] = window
            case ("customers", n):
                self.customers = CUSTOMERS[:n]
                publish(self.lake, self.clock, {}, self.customers)
            case ("drop", name):
                self.dropped.add(name)

    def dictionary(self) -> TagDictionary:
        tags = [t for t in definitions(self.define, self.windows) if t.name not in self.dropped]
        upper = []
        if not {"total", "rows"} & self.dropped:
            upper = [
                self.define("rich", layer="portrait", expression="total > 50", type="boolean"),
                self.define("busy", layer="portrait", expression="rows > 2", type="boolean"),
                self.define("both", layer="marketing", expression="rich and busy", type="boolean"),
            ]
        return TagDictionary([*tags, *upper], CONTRACTS)

    def derive(self) -> None:
        self.clock.advance(timedelta(minutes=1))
        derive(
            self.dictionary(),
            self.lake,
            AS_OF,
            engine=ENGINE,
            clock=self.clock,
            progress=SilentProgress(),
        )

    def afresh(self, root: Path) -> _World:
        other = _World(self.define, root, self.history)
        publish(other.lake, other.clock, {}, self.customers)
        other.windows, other.dropped = self.windows, self.dropped
        other.derive()
        return other

    def tables(self) -> list[dict[str, Any]]:
        table = read_tags(self.lake.view(), self.dictionary(), "customer", AS_OF)
        rows = table.read(ENGINE, sorted(table.fields)).to_pylist()
        return [
            {k: float(f"{v:.12g}") if isinstance(v, float) else v for k, v in row.items()}
            for row in rows
        ]
