"""One harness for every reader of the algebra.

A reader is a function of bound trees and profiles; a further one is plugged in by one line in
``READERS``. What it must answer is said by ``cases.yaml`` and by :func:`reference`, which spells
the table of meanings out in the slowest and plainest way, on the *unbound* tree.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from sqlglot import exp

from bihuan.audience import (
    And,
    Between,
    Compare,
    Everyone,
    Flag,
    In,
    Missing,
    Nobody,
    Node,
    Not,
    Or,
    ProgramReader,
    bind,
    matcher,
    parse,
    predicate,
    profile_of,
    tag_columns,
)
from bihuan.data import ColumnType, DuckDBEngine, Lake
from bihuan.kernel import Clock, FixedClock, random_stream
from bihuan.tag import Subject, TagField, TagTable, build_index, open_index

Profile = Mapping[str, Any]
Reader = Callable[[Sequence[Node], Sequence[Profile]], np.ndarray]


def _field(name: str, kind: str, zh: str, codes: Sequence[str] | None = None) -> TagField:
    return TagField(
        name=name,
        type=ColumnType(kind),
        codes=None if codes is None else frozenset(codes),
        title={"zh": zh, "en": name.replace("_", " ").title()},
    )


FIELDS: dict[str, TagField] = {
    field.name: field
    for field in (
        _field("arpu", "money", "月均收入"),
        _field("balance", "money", "账户余额"),
        _field("tenure_months", "integer", "在网月数"),
        _field("mms_count", "integer", "彩信条数"),
        _field("churn_score", "number", "离网概率"),
        _field("has_contract", "boolean", "有合约"),
        _field("on_red_list", "boolean", "红名单"),
        _field("city", "string", "城市", ("石家庄", "保定", "唐山")),
        _field("brand", "string", "品牌"),
        _field("joined_on", "date", "入网日期"),
        _field("last_seen", "timestamp", "最近登录"),
    )
}


# ---------------------------------------------------------------------------------------- readers


def read_in_memory(nodes: Sequence[Node], profiles: Sequence[Profile]) -> np.ndarray:
    tests = [matcher(node) for node in nodes]
    return np.array([[test(profile) for profile in profiles] for test in tests], dtype=bool)


def read_in_sql(
    nodes: Sequence[Node],
    profiles: Sequence[Profile],
    column: Callable[[str], exp.Expression] | None = None,
    mend: Callable[[exp.Expression], exp.Expression] = lambda tree: tree,
    batch: int = 250,
) -> np.ndarray:
    """Read many trees as the columns of few queries over one small table."""
    table = profile_table(profiles)
    column = column or tag_columns(FIELDS)
    engine = DuckDBEngine(threads=1)
    rows: list[np.ndarray] = []
    for start in range(0, len(nodes), batch):
        flags = [
            exp.alias_(mend(predicate(node, column)), f"e{i}", copy=False)
            for i, node in enumerate(nodes[start : start + batch])
        ]
        query = (
            exp.Select(expressions=flags).from_("profiles", copy=False).order_by("row_", copy=False)
        )
        answer = engine.query(query, {"profiles": table})
        rows += [
            np.array([value is True for value in found.to_pylist()]) for found in answer.columns
        ]
    return np.array(rows, dtype=bool).reshape(len(nodes), len(profiles))


def read_in_planes(nodes: Sequence[Node], profiles: Sequence[Profile]) -> np.ndarray:
    """Write the profiles into a lake, index them, and run every tree as a program."""
    rows = [{**profile, "customer_id": f"c{i:06d}"} for i, profile in enumerate(profiles)]
    answers = np.zeros((len(nodes), len(profiles)), dtype=bool)
    with tempfile.TemporaryDirectory() as folder:
        tags = store_tags(Lake(Path(folder) / "lake"), FIELDS, rows)
        build_index(tags, Path(folder) / "index")
        reader = ProgramReader(open_index(Path(folder) / "index", "customer", AS_OF))
        for i, node in enumerate(nodes):
            answers[i, reader.rows(node)] = True
    return answers


READERS: dict[str, Reader] = {
    "memory": read_in_memory,
    "sql": read_in_sql,
    "planes": read_in_planes,
}


def profile_table(profiles: Sequence[Profile]) -> pa.Table:
    columns = {
        name: pa.array([profile.get(name) for profile in profiles], field.type.arrow)
        for name, field in FIELDS.items()
    }
    return pa.table({"row_": pa.array(range(len(profiles))), **columns})


# -------------------------------------------------------------------------------------- reference


def reference(node: Node, profile: Profile) -> bool:
    """Answer by the table of meanings, word by word, from the tree as written."""
    match node:
        case And(parts=parts) | Or(parts=parts):
            answers = {reference(part, profile) for part in parts}
            return False not in answers if isinstance(node, And) else True in answers
        case Not(part=part):
            return not reference(part, profile)
        case Everyone() | Nobody():
            return isinstance(node, Everyone)
    value = _value(profile, node.tag)
    if isinstance(node, Missing) or value is None:
        return isinstance(node, Missing) and value is None
    return _holds(node, value, FIELDS[node.tag].type)


def _holds(node: Node, value: Any, kind: ColumnType) -> bool:
    match node:
        case Flag():
            return value is True
        case In(values=values):
            return value in [_literal(kind, literal) for literal in values]
        case Between(low=low, high=high):
            return _literal(kind, low) <= value <= _literal(kind, high)
    wanted = _literal(kind, node.value)
    return {
        "=": lambda: value == wanted,
        "!=": lambda: value != wanted,
        "<": lambda: value < wanted,
        "<=": lambda: value <= wanted,
        ">": lambda: value > wanted,
        ">=": lambda: value >= wanted,
    }[node.op]()


def _value(profile: Profile, tag: str) -> Any:
    value = profile.get(tag)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if FIELDS[tag].type in (ColumnType.MONEY, ColumnType.INTEGER):
        return Fraction(value)
    return value


def _literal(kind: ColumnType, value: Any) -> Any:
    if kind is ColumnType.NUMBER:
        return float(value)
    if kind in (ColumnType.MONEY, ColumnType.INTEGER):
        return Fraction(repr(value) if isinstance(value, float) else value)
    if kind is ColumnType.DATE and isinstance(value, str):
        return date.fromisoformat(value)
    return value


# ------------------------------------------------------------------------------------------ cases


@dataclass(frozen=True)
class Case:
    text: str
    profile: Profile
    expected: bool


def load_cases() -> list[Case]:
    groups = yaml.safe_load(Path(__file__).with_name("cases.yaml").read_text(encoding="utf-8"))
    cases: list[Case] = []
    for group in groups:
        raw = group["profile"]
        nan = {k: v for k, v in raw.items() if isinstance(v, float) and math.isnan(v)}
        profile = {**profile_of(raw, FIELDS), **nan}  # which profile_of would turn into None
        cases += [
            Case(text, profile, side == "in") for side in ("in", "out") for text in group[side]
        ]
    return cases


def wrong_cases(reader: Reader) -> list[Case]:
    """Return the cases of the shared table that ``reader`` answers wrongly."""
    cases = load_cases()
    profiles = [case.profile for case in cases]
    answers = reader([bind(parse(case.text), FIELDS) for case in cases], profiles)
    return [case for i, case in enumerate(cases) if bool(answers[i, i]) != case.expected]


# ---------------------------------------------------------------------------------- random trees

_D = Decimal
POOLS: dict[str, list[Any]] = {
    "arpu": [_D("0"), _D("58.36"), _D("58.37"), _D("58.38"), _D("80"), _D("-3.05"), _D("0.01")],
    "balance": [_D("9999999999999999.98"), _D("9999999999999999.99"), _D("-9999999999999999.99"),
                _D("90071992547409.93"), _D("90071992547409.92"), _D("0")],
    "tenure_months": [0, 1, 11, 12, 13, 24, -1],
    "mms_count": [9007199254740992, 9007199254740993, 2**63 - 1, -(2**63) + 1, 0, 5],
    "churn_score": [0.1, 0.10000000000000002, 0.5, 0.0, -0.0, 1e-300, math.inf, math.nan, 1.0],
    "has_contract": [True, False],
    "on_red_list": [True, False],
    "city": ["石家庄", "保定", "唐山"],
    "brand": ["", "A", "a", "o'x", "石", "😀", "\uff21", "a "],
    "joined_on": [date(2024, 2, 29), date(2026, 1, 31), date(2026, 2, 1), date(1, 1, 1)],
    "last_seen": [None],
}  # fmt: skip
"""The values of profiles; literals come from them and from beside them."""

BESIDE: dict[str, list[Any]] = {
    "arpu": [_D("58.375"), _D("58.370000001"), _D("1e25"), _D("-1e25"), 58.37],
    "balance": [_D("1e17"), _D("-1e17"), _D("10000000000000000"), _D("0.005"), _D("0.015")],
    "tenure_months": [_D("11.5"), _D("12.0000001"), 12.0, 23.5],
    "mms_count": [2**63, -(2**64), _D("0.1"), 10**30],
    "churn_score": [_D("0.10000000000000000001"), _D("0.100000000000000005"), 0.5],
    "joined_on": ["2026-01-31", "2024-02-29", "9999-12-31"],
    "brand": ["A a", "z", "\\", "%"],
}


def random_profiles(rng: np.random.Generator, count: int) -> list[Profile]:
    """Profiles with every value of the pools, a third missing; the first is empty."""
    columns = {
        tag: np.resize(rng.permutation(len(pool) + len(pool) // 2), count)
        for tag, pool in POOLS.items()
    }
    return [{}] + [
        {tag: POOLS[tag][at[i]] for tag, at in columns.items() if at[i] < len(POOLS[tag])}
        for i in range(1, count)
    ]


def random_tree(rng: np.random.Generator, depth: int = 4) -> Node:
    """A tree as a planner could write it: up to ``depth`` levels, literals at the boundaries."""
    draw = rng.random()
    if depth > 1 and draw < 0.55:
        kind = And if rng.random() < 0.5 else Or
        return kind(tuple(random_tree(rng, depth - 1) for _ in range(rng.integers(2, 4))))
    if depth > 1 and draw < 0.75:
        return Not(random_tree(rng, depth - 1))
    return random_condition(rng)


def random_condition(rng: np.random.Generator) -> Node:
    draw = rng.random()
    if draw < 0.04:
        return Everyone() if rng.random() < 0.5 else Nobody()
    tag = list(POOLS)[rng.integers(len(POOLS))]
    if draw < 0.15 or tag == "last_seen":
        return Missing(tag)
    if tag in ("has_contract", "on_red_list"):
        return _random_boolean(rng, tag)
    if draw < 0.40:
        return In(tag, _same_kind([random_literal(rng, tag) for _ in range(rng.integers(0, 4))]))
    low, high = random_literal(rng, tag), random_literal(rng, tag)
    if draw < 0.55 and tag != "city" and len(_same_kind([low, high])) == 2:
        return Between(tag, low, high)
    operators = ("=", "!=") if tag == "city" else ("=", "!=", "<", "<=", ">", ">=")
    return Compare(tag, operators[rng.integers(len(operators))], low)


def _random_boolean(rng: np.random.Generator, tag: str) -> Node:
    value = bool(rng.random() < 0.5)
    choices = (Flag(tag), Compare(tag, "=", value), Compare(tag, "!=", value), In(tag, (value,)))
    return choices[rng.integers(len(choices))]


def random_literal(rng: np.random.Generator, tag: str) -> Any:
    pool = [
        value
        for value in [*POOLS[tag], *BESIDE.get(tag, [])]
        if not (isinstance(value, float) and not math.isfinite(value))
    ]
    return pool[rng.integers(len(pool))]


def _same_kind(values: list[Any]) -> tuple[Any, ...]:
    texts = [value for value in values if isinstance(value, str)]
    return tuple(texts or values) if len(texts) in (0, len(values)) else tuple(texts)


def random_trees(seed: int, count: int) -> Iterator[Node]:
    rng = random_stream(seed, "trees")
    return (random_tree(rng) for _ in range(count))


def expected_answers(nodes: Sequence[Node], profiles: Sequence[Profile]) -> np.ndarray:
    return np.array([[reference(node, profile) for profile in profiles] for node in nodes])


# -------------------------------------------------------------------------------- tags in a lake

AS_OF = date(2026, 10, 31)


def store_tags(
    lake: Lake,
    fields: Mapping[str, TagField],
    rows: Sequence[Mapping[str, Any]],
    *,
    as_of: date = AS_OF,
    clock: Clock | None = None,
) -> TagTable:
    """Publish tag values in two lake tables, as derivation does, and return their table.

    Each row has ``customer_id``; tags that it does not name are missing.
    """
    clock = clock or FixedClock(datetime(2026, 11, 1, tzinfo=UTC))
    ordered = sorted(rows, key=lambda row: row["customer_id"])
    names = list(fields)
    groups = {"tag__customer__first": names[::2], "tag__customer__second": names[1::2]}
    with lake.publication(clock) as publication:
        for table, group in groups.items():
            columns = {
                name: pa.array([row.get(name) for row in ordered], fields[name].type.arrow)
                for name in group
            }
            ids = pa.array([row["customer_id"] for row in ordered], pa.string())
            publication.add(table, as_of, pa.table({"customer_id": ids, **columns}))
    view = lake.view()
    snapshots = {table: view.get(table, as_of) for table, group in groups.items() if group}
    return TagTable(
        subject=Subject.CUSTOMER,
        as_of=as_of,
        id_column="customer_id",
        fields=fields,
        versions={name: s.id for table, s in snapshots.items() for name in groups[table]},
        pending={},
        snapshots=snapshots,
        rows=len(rows),
    )


class CountingEngine(DuckDBEngine):
    """DuckDB that remembers how often it was asked."""

    def __init__(self) -> None:
        super().__init__(threads=1)
        self.asked = 0

    def query(self, query: exp.Query, sources: Mapping[str, Any]) -> pa.Table:
        self.asked += 1
        return super().query(query, sources)

    def write(self, query: exp.Query, sources: Mapping[str, Any], folder: Path) -> int:
        self.asked += 1
        return super().write(query, sources, folder)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(tmp_path_factory.mktemp("lake"))


@pytest.fixture(scope="module")
def clock() -> FixedClock:
    return FixedClock(datetime(2026, 11, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def engine() -> CountingEngine:
    return CountingEngine()


@pytest.fixture(scope="session")
def harness() -> SimpleNamespace:
    """Everything above, for the tests of this folder."""
    return SimpleNamespace(
        FIELDS=FIELDS,
        READERS=READERS,
        POOLS=POOLS,
        load_cases=load_cases,
        wrong_cases=wrong_cases,
        random_profiles=random_profiles,
        random_tree=random_tree,
        random_trees=random_trees,
        expected_answers=expected_answers,
        reference=reference,
        field=_field,
        store_tags=store_tags,
        AS_OF=AS_OF,
        read_in_memory=read_in_memory,
        read_in_sql=read_in_sql,
    )
