"""Deriving 100 tags beside one hand-written DuckDB query that writes the same 100 columns.

A lake of customers x 12 months is made from a seed. In turn, each in a process of its own: the
tags are derived (checked, published, with lineage, one table per source and level), and the
query writes one Parquet file. Two hand-written forms are timed, with ``FILTER`` as the text books
have it and with ``CASE``, which DuckDB runs faster; the ratio is against the faster of the two.
All values are compared: exactly, sums of floating-point numbers to 1e-9.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bihuan.data import DuckDBEngine, Lake, load_contracts
from bihuan.kernel import FixedClock, SilentProgress, random_stream
from bihuan.tag import TagDefinition, TagDictionary, derive, parse_definition

SEED = 20261031
AS_OF = date(2026, 10, 31)
ROUNDS = 3
_CLOCK = datetime(2026, 11, 1, tzinfo=UTC)
_CITIES = [f"13{city:02d}" for city in range(1, 12)]


def run(size: int | None, instance: Path | None, out: Path | None) -> dict[str, Any]:
    """Time both; return seconds, ratio, peak memory and a table for people.

    Parameters
    ----------
    size
        Customers; None = 1,000,000.
    instance
        A lake to use instead of generated rows; must hold the tables made here up to 2026-10-31.
    out
        Folder in which lake and results are kept; None = a temporary one, removed at the end.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-derive-")) if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _run(size or 1_000_000, instance, folder)
    finally:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)


def _run(size: int, instance: Path | None, folder: Path) -> dict[str, Any]:
    source = folder / "source" if instance is None else instance
    made = time.perf_counter()
    if instance is None:
        _in_own_process(make_lake, source, size)
    made = time.perf_counter() - made
    seconds: dict[str, list[float]] = {"derive": [], "filter": [], "case": []}
    cpu: dict[str, list[float]] = {"derive": [], "filter": [], "case": []}
    memory: dict[str, float] = {}
    again = 0.0
    for turn in range(ROUNDS):
        lake, target = folder / f"lake-{turn}", folder / f"hand-{turn}"
        wall, busy, again, memory["derive"] = _in_own_process(time_derive, source, lake)
        seconds["derive"].append(wall)
        cpu["derive"].append(busy)
        for style in ("filter", "case"):
            parquet = target.with_suffix(f".{style}.parquet")
            wall, busy, memory[style] = _in_own_process(time_query, source, parquet, style)
            seconds[style].append(wall)
            cpu[style].append(busy)
    compared = _in_own_process(
        compare, lake, [target.with_suffix(f".{s}.parquet") for s in ("filter", "case")]
    )
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    busy_middle = {name: statistics.median(times) for name, times in cpu.items()}
    rows = Lake(source).view()
    return {
        "customers": rows.get("customer", AS_OF).rows,
        "fact_rows": sum(rows.get(t, d).rows for t in ("usage", "bill") for d in rows.dates(t)),
        "tags": len(definitions()),
        "derive_seconds": middle["derive"],
        "query_filter_seconds": middle["filter"],
        "query_case_seconds": middle["case"],
        "ratio": middle["derive"] / min(middle["filter"], middle["case"]),
        "ratio_filter": middle["derive"] / middle["filter"],
        "ratio_cpu": busy_middle["derive"] / min(busy_middle["filter"], busy_middle["case"]),
        "unchanged_seconds": again,
        "derive_peak_gib": memory["derive"],
        "query_peak_gib": min(memory["filter"], memory["case"]),
        "values_compared": compared,
        "make_seconds": made,
        "all_seconds": seconds,
        "table": [
            {"what": what, "seconds": middle[key], "CPU seconds": busy_middle[key],
             "peak GiB": memory[key], "against derive": middle[key] / middle["derive"]}
            for what, key in (
                ("bihuan derive, 100 tags", "derive"),
                ("one DuckDB query with FILTER", "filter"),
                ("one DuckDB query with CASE", "case"),
            )
        ],
    }  # fmt: skip


def _in_own_process(task: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task where no earlier task has warmed anything or left memory behind."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_silence) as pool:
        return pool.submit(task, *arguments).result()


def _silence() -> None:
    """Keep DuckDB's progress bar, which a spawned process shows, off the printed result."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


# --- the rows ------------------------------------------------------------------------------------


def month_ends() -> list[date]:
    """Return the twelve month ends up to the date, oldest first."""
    months = [AS_OF.year * 12 + AS_OF.month - back for back in range(12)]
    return sorted(date(m // 12, m % 12 + 1, 1) - timedelta(1) for m in months)


def make_lake(root: Path, size: int) -> None:
    """Publish ``size`` customers with 1.2 lines each, 12 months of usage and bills, and events."""
    chance = random_stream(SEED, "bench", "derive")
    clock, lake = FixedClock(_CLOCK), Lake(root)
    schemas = {name: contract.schema for name, contract in load_contracts().items()}
    customers = pa.array(np.char.add("C", np.char.zfill(np.arange(size).astype("U8"), 8)))
    owner = np.concatenate([np.arange(size), chance.integers(size, size=size // 5)])
    lines = pa.array(np.char.add("S", np.char.zfill(np.arange(len(owner)).astype("U8"), 8)))
    level = chance.gamma(2.0, 1.0, len(owner))  # how much a line uses and pays, kept over months

    def publish(table: str, day: date, columns: dict[str, Any], rows: int) -> None:
        schema = schemas[table]
        full = [
            pa.array(
                columns[f.name], type=None if isinstance(columns[f.name], pa.Array) else f.type
            )
            if f.name in columns
            else pa.nulls(rows, f.type)
            for f in schema
        ]
        with lake.publication(clock) as publication:
            publication.add(table, day, pa.table(full, names=schema.names))

    publish("customer", AS_OF, _customers(chance, customers), size)
    publish("subscription", AS_OF, _subscriptions(chance, customers, lines, owner), len(owner))
    for day in month_ends():
        ids = {"subscription_id": lines, "customer_id": customers.take(pa.array(owner))}
        publish("usage", day, ids | _usage(chance, level), len(owner))
        publish("bill", day, ids | {"account_id": lines} | _bills(chance, level), len(owner))
        for table, rows in (("contact", size // 10), ("ticket", size // 25)):
            who = customers.take(pa.array(chance.integers(size, size=rows)))
            publish(table, day, {"customer_id": who} | _events(chance, table, day, rows), rows)


def _customers(chance: np.random.Generator, ids: pa.Array) -> dict[str, Any]:
    n = len(ids)
    return {
        "customer_id": ids,
        "gender": _codes(chance, n, ["F", "M"]),
        "birth_year": chance.integers(1940, 2008, n),
        "is_senior": pa.array(chance.random(n) < 0.15),
        "city_code": _codes(chance, n, _CITIES),
        "joined_on": pa.array(chance.integers(14000, 20700, n).astype("datetime64[D]")),
    }


def _subscriptions(
    chance: np.random.Generator, customers: pa.Array, lines: pa.Array, owner: np.ndarray
) -> dict[str, Any]:
    n = len(owner)
    ends = chance.integers(20700, 21500, n).astype("datetime64[D]")
    return {
        "subscription_id": lines,
        "customer_id": customers.take(pa.array(owner)),
        "service": _codes(chance, n, ["mobile", "broadband", "iptv"]),
        "product_id": _codes(chance, n, [f"plan_{i:02d}" for i in range(30)]),
        "status": _codes(chance, n, ["active"] * 8 + ["suspended", "disconnected"]),
        "tenure_months": chance.integers(0, 240, n),
        "contract_kind": _codes(chance, n, ["none", "month_to_month", "one_year", "two_year"]),
        "contract_ends_on": pa.array(ends, mask=chance.random(n) < 0.5),
        "monthly_fee": _money(chance.integers(1900, 39900, n)),
        "terminal_generation": _codes(chance, n, ["2g", "4g", "4g", "5g"]),
    }


def _usage(chance: np.random.Generator, level: np.ndarray) -> dict[str, Any]:
    n = len(level)
    noise = chance.gamma(4.0, 0.25, n)
    data = np.round(level * noise * 8000)
    return {
        "voice_minutes": np.round(level * chance.gamma(4.0, 0.25, n) * 90, 1),
        "data_mb": data,
        "g5_data_mb": np.round(data * chance.random(n)),
        "sms_count": chance.poisson(4, n),
        "mms_count": chance.poisson(0.1, n),
        "roaming_data_mb": np.where(chance.random(n) < 0.05, np.round(noise * 200), 0.0),
        "active_days": chance.integers(0, 32, n),
    }


def _bills(chance: np.random.Generator, level: np.ndarray) -> dict[str, Any]:
    n = len(level)
    cents = (level * chance.gamma(9.0, 1 / 9, n) * 4500).astype(np.int64)
    return {
        "amount": _money(cents),
        "cumulative_amount": _money(cents * 20),
        "overdue_amount": _money(np.where(chance.random(n) < 0.04, cents // 2, 0)),
        "discount_amount": _money(np.where(chance.random(n) < 0.3, cents // 10, 0)),
    }


def _events(chance: np.random.Generator, table: str, day: date, n: int) -> dict[str, Any]:
    first = np.datetime64(day.replace(day=1), "us")
    moment = pa.array(first + chance.integers(0, 27 * 86_400_000_000, n).astype("timedelta64[us]"))
    moment = moment.cast(pa.timestamp("us", tz="UTC"))
    ids = pa.array(np.char.add(f"{table[0]}{day:%y%m}", np.arange(n).astype("U8")))
    if table == "ticket":
        kinds = _codes(chance, n, ["complaint", "fault", "inquiry"])
        return {"ticket_id": ids, "kind": kinds, "severity": chance.integers(1, 6, n),
                "opened_at": moment}  # fmt: skip
    return {
        "contact_id": ids,
        "channel": _codes(chance, n, ["outbound", "sms", "app"]),
        "contacted_at": moment,
        "result": _codes(chance, n, ["no_answer", "refused", "interested", "accepted"]),
        "is_success": pa.array(chance.random(n) < 0.2),
    }


def _codes(chance: np.random.Generator, n: int, codes: list[str]) -> pa.Array:
    indices = pa.array(chance.integers(len(codes), size=n).astype(np.int32))
    return pa.DictionaryArray.from_arrays(indices, pa.array(codes)).dictionary_decode()


def _money(cents: np.ndarray) -> pa.Array:
    wide = np.empty((len(cents), 2), dtype=np.int64)  # a decimal is 128 bits, low half first
    wide[:, 0], wide[:, 1] = cents, np.where(cents < 0, -1, 0)
    return pa.Array.from_buffers(pa.decimal128(18, 2), len(cents), [None, pa.py_buffer(wide)])


# --- the tags ------------------------------------------------------------------------------------


def definitions() -> list[TagDefinition]:
    """Return the hundred tags: 92 base tags of six sources, 6 portrait and 2 marketing tags."""
    text = {"zh": "基准测试", "en": "Benchmark"}
    shared = {
        "subject": "customer", "means": "statistics", "category": "基准", "owner": "bench",
        "state": "live", "title": text, "meaning": text, "definition": text,
    }  # fmt: skip
    return [
        parse_definition({**shared, "name": name, "layer": layer, "type": type_,
                          "expression": sql} | extra)
        for name, layer, type_, sql, extra in _tags()
    ]  # fmt: skip


_Tag = tuple[str, str, str, str, dict[str, Any]]


def _tags() -> Iterator[_Tag]:
    yield from _usage_tags()
    yield from _bill_tags()
    for name, type_, sql, default in _STATE_TAGS["subscription"]:
        yield name, "base", type_, sql, _with({"source": "subscription"}, default)
    for name, type_, sql, default in _STATE_TAGS["customer"]:
        yield name, "base", type_, sql, _with({"source": "customer"}, default)
    for window in (1, 3, 6):
        for table, kind, condition in _COUNTS:
            sql = f"count(*) filter (where {condition})"
            extra = {"source": table, "window_months": window, "default": 0}
            yield f"{kind}_{window}m", "base", "integer", sql, extra
    yield (
        "severity_12m",
        "base",
        "integer",
        "max(severity)",
        {"source": "ticket", "window_months": 12},
    )
    for name, layer, type_, sql in _UPPER_TAGS:
        yield name, layer, type_, sql, {}


def _with(extra: dict[str, Any], default: Any) -> dict[str, Any]:
    return extra if default is None else extra | {"default": default}


def _usage_tags() -> Iterator[_Tag]:
    measures = (
        "voice_minutes",
        "data_mb",
        "g5_data_mb",
        "sms_count",
        "roaming_data_mb",
        "active_days",
    )
    plan = [("avg", 1), ("avg", 3), ("avg", 6), ("avg", 12), ("max", 3), ("max", 12), ("sum", 3)]
    for column in measures:
        whole = column in ("sms_count", "active_days")
        for function, window in plan:
            type_ = "integer" if whole and function != "avg" else "number"
            extra = {"source": "usage", "window_months": window}
            yield f"{column}_{function}_{window}m", "base", type_, f"{function}({column})", extra


def _bill_tags() -> Iterator[_Tag]:
    for column in ("amount", "discount_amount", "overdue_amount"):
        for function, window in (
            ("avg", 1),
            ("avg", 3),
            ("avg", 6),
            ("sum", 12),
            ("max", 6),
            ("min", 6),
        ):
            extra = {"source": "bill", "window_months": window}
            yield f"{column}_{function}_{window}m", "base", "money", f"{function}({column})", extra
    for window in (3, 6, 12):
        extra = {"source": "bill", "window_months": window, "default": 0}
        sql = "count(*) filter (where overdue_amount > 0)"
        yield f"overdue_count_{window}m", "base", "integer", sql, extra
        sql = "sum(amount) filter (where months_ago = 0) / avg(amount)"
        yield (
            f"amount_trend_{window}m",
            "base",
            "number",
            sql,
            {"source": "bill", "window_months": window},
        )


_COUNTS = (
    ("contact", "contact_count", "contact_id is not null"),
    ("contact", "contact_failed", "not is_success"),
    ("ticket", "complaint_count", "kind = 'complaint'"),
    ("ticket", "fault_count", "kind = 'fault'"),
)
_STATE_TAGS: dict[str, list[tuple[str, str, str, Any]]] = {
    "subscription": [
        ("line_count", "integer", "count(*)", 0),
        ("active_count", "integer", "count(*) filter (where status = 'active')", 0),
        ("is_suspended", "boolean", "bool_or(status = 'suspended')", False),
        ("tenure_months", "integer", "max(tenure_months)", None),
        ("monthly_fee", "money", "sum(monthly_fee)", None),
        ("has_contract", "boolean", "bool_or(contract_kind in ('one_year', 'two_year'))", False),
        ("contract_ends_on", "date", "min(contract_ends_on)", None),
        ("terminal", "string", "max(terminal_generation)", None),
    ],
    "customer": [
        ("gender", "string", "gender", None),
        ("age", "integer", "2026 - birth_year", None),
        ("is_senior", "boolean", "is_senior", None),
        ("city", "string", "city_code", None),
        ("customer_months", "integer", "date_diff('month', joined_on, date '2026-10-31')", None),
    ],
}
_UPPER_TAGS = (
    ("value_band", "portrait", "string", "case when amount_avg_3m >= 200 then 'top' "
     "when amount_avg_3m >= 100 then 'high' when amount_avg_3m >= 50 then 'middle' else 'low' end"),
    ("data_heavy", "portrait", "boolean", "data_mb_avg_3m >= 20000"),
    ("complaint_sensitive", "portrait", "boolean", "complaint_count_3m >= 2"),
    ("declining", "portrait", "boolean", "coalesce(amount_trend_6m < 0.7, false)"),
    ("payment_risk", "portrait", "boolean", "overdue_count_6m >= 2"),
    ("g5_share", "portrait", "number", "g5_data_mb_avg_3m / data_mb_avg_3m"),
    ("retention_focus", "marketing", "boolean",
     "value_band in ('top', 'high') and (declining or complaint_sensitive)"),
    ("upgrade_5g", "marketing", "boolean", "data_heavy and terminal <> '2g' and not is_suspended"),
)  # fmt: skip


# --- the two contestants -------------------------------------------------------------------------


def time_derive(source: Path, root: Path) -> tuple[float, float, float, float]:
    """Derive into a lake that shares the source tables.

    Returns seconds, CPU seconds, seconds of a second run that finds nothing changed, peak GiB.
    """
    root.mkdir(parents=True)
    shutil.copy(source / "HEAD.json", root)
    for table in source.iterdir():
        if table.is_dir() and not table.name.startswith("."):
            (root / table.name).symlink_to(table.resolve())
    dictionary = TagDictionary(definitions())
    times, busy = [], []
    for _ in range(2):
        start, start_busy = time.perf_counter(), time.process_time()
        report = derive(
            dictionary,
            Lake(root),
            AS_OF,
            engine=DuckDBEngine(),
            clock=FixedClock(_CLOCK),
            progress=SilentProgress(),
        )
        times.append(time.perf_counter() - start)
        busy.append(time.process_time() - start_busy)
        assert not report.pending, report.pending
    return times[0], busy[0], times[1], _peak_gib()


def time_query(source: Path, target: Path, style: str) -> tuple[float, float, float]:
    """Run the hand-written query; return seconds, CPU seconds and peak GiB."""
    sql = hand_written(Lake(source), target, style)
    start, start_busy = time.perf_counter(), time.process_time()
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(sql)
    return time.perf_counter() - start, time.process_time() - start_busy, _peak_gib()


def hand_written(lake: Lake, target: Path, style: str) -> str:
    """Write the query that a person would write: one CTE per source, joined to the customers."""
    view, ctes, joins, columns = lake.view(), [], [], []
    tags = list(_tags())
    for source in ("usage", "bill", "subscription", "contact", "ticket"):
        mine = [tag for tag in tags if tag[4].get("source") == source]
        dates = view.dates(source)
        scans = " UNION ALL ".join(
            f"SELECT *, {(AS_OF.year - d.year) * 12 + AS_OF.month - d.month} AS months_ago "
            f"FROM read_parquet('{view.get(source, d).files[0]}')"
            for d in dates
        )
        aggregates = ", ".join(f"{_by_hand(tag, style, len(dates))} AS {tag[0]}" for tag in mine)
        ctes.append(
            f"{source} AS (SELECT customer_id, {aggregates} FROM ({scans}) GROUP BY customer_id)"
        )
        joins.append(f"LEFT JOIN {source} USING (customer_id)")
    for name, layer, type_, sql, extra in tags:
        if layer == "base":
            value = name if extra["source"] != "customer" else sql
            value = f"COALESCE({value}, {extra['default']})" if "default" in extra else value
            columns.append(f"CAST({value} AS {_SQL_TYPES[type_]}) AS {name}")
    upper = {
        layer: ", ".join(f"{sql} AS {name}" for name, at, _, sql, _ in tags if at == layer)
        for layer in ("portrait", "marketing")
    }
    customers = view.get("customer", AS_OF).files[0]
    return (
        f"COPY (WITH {', '.join(ctes)}, base AS (SELECT customer_id, {', '.join(columns)} "
        f"FROM read_parquet('{customers}') {' '.join(joins)}), "
        f"portrait AS (SELECT *, {upper['portrait']} FROM base) "
        f"SELECT *, {upper['marketing']} FROM portrait ORDER BY customer_id) TO '{target}' "
        "(FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1)"
    )


_SQL_TYPES = {
    "string": "VARCHAR", "integer": "BIGINT", "number": "DOUBLE", "money": "DECIMAL(18,2)",
    "boolean": "BOOLEAN", "date": "DATE",
}  # fmt: skip


def _by_hand(tag: _Tag, style: str, months: int) -> str:
    """Write one aggregate with its window, as ``FILTER`` or as ``CASE``."""
    name, _, _, sql, extra = tag
    window = extra.get("window_months", 1)
    if name.startswith("amount_trend"):
        parts = [("sum(amount)", "months_ago = 0"), ("avg(amount)", f"months_ago < {window}")]
        return " / ".join(_aggregate(call, condition, style) for call, condition in parts)
    if "filter" in sql:
        call, condition = sql[:-1].split(" filter (where ")
        return _aggregate(call, f"{condition} AND months_ago < {window}", style)
    return sql if window >= months else _aggregate(sql, f"months_ago < {window}", style)


def _aggregate(call: str, condition: str, style: str) -> str:
    if style == "filter":
        return f"{call} FILTER (WHERE {condition})"
    function, value = call[:-1].split("(", maxsplit=1)
    return f"{function}(CASE WHEN {condition} THEN {'1' if value == '*' else value} END)"


def compare(root: Path, targets: list[Path]) -> int:
    """Compare every value of every tag with each hand-written result; return how many."""
    view, compared = Lake(root).view(), 0
    tables = [t for t in view.tables if t.startswith("tag__")]
    for target in targets:
        hand_ids = pq.read_table(target, columns=["customer_id"])["customer_id"]
        for table in tables:
            stored = view.get(table, AS_OF).read()
            assert stored["customer_id"].equals(hand_ids), f"{table}: other ids or order"
            for name in stored.column_names[1:]:
                _assert_equal(name, stored[name], pq.read_table(target, columns=[name])[name])
                compared += len(hand_ids)
    assert compared == len(targets) * len(hand_ids) * len(definitions())
    return compared


def _assert_equal(name: str, ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> None:
    if not pa.types.is_floating(ours.type):
        assert ours.equals(theirs.cast(ours.type)), f"'{name}' differs"
        return
    mine = ours.to_numpy(zero_copy_only=False)
    hand = theirs.to_numpy(zero_copy_only=False)
    hand = np.where(np.isfinite(hand), hand, np.nan)  # what the tag room calls missing
    same = np.isclose(mine, hand, rtol=1e-9, atol=1e-12, equal_nan=True)
    assert same.all(), f"'{name}' differs in {int((~same).sum())} rows"
