"""Freezing and exporting a deployment beside plain DuckDB that writes the same columns.

Decisions are made from a seed: 18 offers, six channels, eleven units, one customer in ten held
out. In turn, each in a process of its own: the decisions are deployed from a snapshot of the lake
(checked, hashed, ranked, written by channel and unit, published), counted by channel and unit,
and written as target lists; and DuckDB alone ranks and hashes the same rows into one
Parquet file and copies the same list columns, partitioned by channel and unit, as CSV and as
Parquet. Plain DuckDB checks nothing, guards no cell against formulas, promises no order within a
list, writes no manifest, and leaves half a folder behind if it is killed.

Last, the whole click: an approved plan of six offers through the service over SQLite, from the gate
and its control rows over the frozen assignments to live and reconciled.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bihuan.data import Lake
from bihuan.delivery import TOUCHPOINTS, FileChannel, ListLayout, deploy, list_deployments
from bihuan.kernel import FixedClock, random_stream
from bihuan.server.app.deployment import deploy_plan

WORLD = Path(__file__).parents[1] / "tests" / "server" / "app" / "deployment_world.py"
SEED = 20261031
ROUNDS = 3
OFFERS, UNITS = 18, 11
DECIDED = datetime(2026, 10, 31, 2, tzinfo=UTC)
DEPLOYED = DECIDED + timedelta(hours=1)
CAMPAIGN = "bench"
SCRIPTS = {
    (f"offer-{offer:02d}", channel): f"script-{offer:02d}-{channel}"
    for offer in range(OFFERS)
    for channel in TOUCHPOINTS
}
TEXTS = {name: f"您好,为您推荐 {name},详询 10010。" for name in SCRIPTS.values()}
LIST = (
    "priority, assignment_id, campaign_id, channel, org_unit_id, customer_id, offer_id,"
    " script_id, script, valid_from, valid_until"
)


def run(size: int | None, instance: Path | None, out: Path | None) -> dict[str, Any]:
    """Time both; return seconds, ratios, peak memory and a table for people.

    Parameters
    ----------
    size
        Assignments; None = 1,000,000.
    instance
        A folder with ``decision.parquet`` to use instead of generated rows: one campaign named
        ``bench``, with the offers and channels of the generated ones.
    out
        Folder in which lake and lists are kept; None = a temporary one, removed at the end.
    """
    folder = Path(tempfile.mkdtemp(prefix="bench-deploy-")) if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _run(size or 1_000_000, instance, folder)
    finally:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)


def _run(size: int, instance: Path | None, folder: Path) -> dict[str, Any]:
    decisions = folder / "decision.parquet"
    if instance is None:
        _in_own_process(make_decisions, decisions, size)
    else:
        decisions = instance / "decision.parquet"
    tasks: dict[str, Callable[..., tuple[int, float, float, float]]] = {
        "freeze": time_freeze,
        "export": time_export,
        "plain_freeze": time_plain_freeze,
        "plain_csv": time_plain_csv,
        "plain_parquet": time_plain_parquet,
    }
    rows: dict[str, int] = {}
    wall: dict[str, list[float]] = {name: [] for name in tasks}
    busy: dict[str, list[float]] = {name: [] for name in tasks}
    peak: dict[str, float] = {}
    for turn in range(ROUNDS if size <= 2_000_000 else 1):
        place = folder / f"turn-{turn}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        for name, task in tasks.items():
            rows[name], seconds, cpu, peak[name] = _in_own_process(task, decisions, place)
            wall[name].append(seconds)
            busy[name].append(cpu)
    if len(set(rows.values())) != 1:
        raise AssertionError(f"The two sides wrote different numbers of rows: {rows}.")
    _in_own_process(build_plan, folder / "click", size)
    clicked = _in_own_process(time_click, folder / "click")
    seconds_of = {name: statistics.median(times) for name, times in wall.items()}
    cpu_of = {name: statistics.median(times) for name, times in busy.items()}
    plain = seconds_of["plain_csv"] + seconds_of["plain_parquet"]
    plain_cpu = cpu_of["plain_csv"] + cpu_of["plain_parquet"]
    return {
        "assignments": rows["freeze"],
        "click_assignments": clicked[0],
        "click_seconds": clicked[1],
        "click_cpu_seconds": clicked[2],
        "click_peak_gib": clicked[3],
        "lists": len(TOUCHPOINTS) * UNITS,
        "freeze_seconds": seconds_of["freeze"],
        "export_seconds": seconds_of["export"],
        "plain_freeze_seconds": seconds_of["plain_freeze"],
        "plain_export_seconds": plain,
        "freeze_ratio": seconds_of["freeze"] / seconds_of["plain_freeze"],
        "export_ratio": seconds_of["export"] / plain,
        "export_ratio_cpu": cpu_of["export"] / plain_cpu,
        "peak_gib": peak,
        "all_seconds": wall,
        "table": [
            {
                "what": what,
                "seconds": seconds_of[key],
                "CPU seconds": cpu_of[key],
                "peak GiB": peak[key],
            }
            for what, key in (
                ("bihuan: check, hash, freeze, publish, count", "freeze"),
                ("bihuan: lists as CSV and Parquet, hashed", "export"),
                ("plain DuckDB: rank, hash, one Parquet", "plain_freeze"),
                ("plain DuckDB: COPY partitioned CSV", "plain_csv"),
                ("plain DuckDB: COPY partitioned Parquet", "plain_parquet"),
            )
        ]
        + [
            {
                "what": "bihuan: the whole click, live and reconciled",
                "seconds": clicked[1],
                "CPU seconds": clicked[2],
                "peak GiB": clicked[3],
            }
        ],
    }


def make_decisions(path: Path, size: int) -> None:
    """Write decisions such that ``size`` of them are treatment."""
    chance = random_stream(SEED, "bench", "deploy")
    n = size + size // 9
    customers = np.char.add("C", np.char.zfill(np.arange(n).astype("U9"), 9))
    channel = pa.DictionaryArray.from_arrays(
        pa.array(chance.integers(0, len(TOUCHPOINTS), n, dtype=np.int32)), list(TOUCHPOINTS)
    ).cast(pa.string())
    offers = [f"offer-{offer:02d}" for offer in range(OFFERS)]
    units = [f"unit-{unit:02d}" for unit in range(UNITS)]
    held = np.zeros(n, dtype=np.int32)
    held[chance.permutation(n)[: n - size]] = 1

    def pick(names: list[str], at: np.ndarray[Any, Any]) -> pa.Array:
        return pa.DictionaryArray.from_arrays(pa.array(at, pa.int32()), names).cast(pa.string())

    rows = pa.table(
        {
            "decision_id": np.char.replace(customers, "C", "D"),
            "campaign_id": pick([CAMPAIGN], np.zeros(n)),
            "customer_id": customers,
            "arm": pick(["treatment", "control"], held),
            "treatment_probability": np.full(n, size / n),
            "stratum": channel,
            "offer_id": pick(offers, chance.integers(0, OFFERS, n)),
            "channel": channel,
            "org_unit_id": pick(units, chance.integers(0, UNITS, n)),
            "step": np.ones(n, dtype=np.int64),
            "expected_value": np.round(chance.gamma(2.0, 10.0, n), 4),
            "decided_at": pa.array(np.full(n, np.datetime64("2026-10-31T02:00:00", "us"))).cast(
                pa.timestamp("us", tz="UTC")
            ),
        }
    )
    pq.write_table(rows, path, row_group_size=122_880, compression="zstd", compression_level=1)


def time_freeze(decisions: Path, place: Path) -> tuple[int, float, float, float]:
    """Deploy the decisions into a new lake."""
    clock, lake = FixedClock(DEPLOYED), Lake(place / "lake")
    with (
        lake.publication(clock) as publication,
        publication.folder("decision", DECIDED.date()) as folder,
    ):
        os.link(decisions, folder / "part-00000.parquet")
    logged = lake.view().get("decision")
    period = (DEPLOYED.date(), DEPLOYED.date() + timedelta(days=29))

    def work() -> int:
        made = deploy(
            logged, campaign_id=CAMPAIGN, lake=lake, clock=clock, period=period, scripts=SCRIPTS
        )
        counted = made.counts(lake.view())
        return int(pc.sum(counted["planned"]).as_py())

    return _timed(work)


def time_export(decisions: Path, place: Path) -> tuple[int, float, float, float]:
    """Write the frozen assignments as target lists."""
    del decisions
    view = Lake(place / "lake").view()
    (made,) = list_deployments(view)
    layout = ListLayout(scripts=TEXTS)
    channel = FileChannel(place / "lists", clock=FixedClock(DEPLOYED), layout=layout)

    def work() -> int:
        return int(channel.send(made.assignments(view).read()).num_rows)

    return _timed(work)


def time_plain_freeze(decisions: Path, place: Path) -> tuple[int, float, float, float]:
    """Rank and hash the same rows with DuckDB alone, into one Parquet file."""
    rows = pq.read_table(decisions)

    def work() -> int:
        with duckdb.connect() as connection:
            connection.register("decision", rows)
            connection.register("script", _scripts())
            return _copied(
                connection,
                "SELECT substr(sha256('bench' || customer_id || step), 1, 20) AS assignment_id,"
                " 'bench' AS deployment_id, campaign_id, customer_id, step, 0 AS generation,"
                " d.offer_id, d.channel, org_unit_id, script_id, row_number() OVER (PARTITION BY"
                " d.channel, org_unit_id ORDER BY expected_value DESC, customer_id) AS priority,"
                " expected_value, DATE '2026-10-31' AS valid_from, DATE '2026-11-29' AS valid_until"
                " FROM decision d LEFT JOIN script s ON d.offer_id = s.offer_id"
                " AND d.channel = s.channel WHERE arm = 'treatment'",
                place / "plain.parquet",
                "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1",
            )

    return _timed(work)


def time_plain_csv(decisions: Path, place: Path) -> tuple[int, float, float, float]:
    """Copy the list columns as CSV, partitioned by channel and unit."""
    del decisions
    return _timed(lambda: _plain_lists(place, "csv", "FORMAT csv, HEADER"))


def time_plain_parquet(decisions: Path, place: Path) -> tuple[int, float, float, float]:
    """Copy the list columns as Parquet, partitioned by channel and unit."""
    del decisions
    options = "FORMAT parquet, COMPRESSION zstd, COMPRESSION_LEVEL 1"
    return _timed(lambda: _plain_lists(place, "parquet", options))


def _plain_lists(place: Path, ending: str, options: str) -> int:
    with duckdb.connect() as connection:
        rows = pq.read_table(place / "plain.parquet")
        connection.register("assignment", rows)
        connection.register("text", _texts())
        return _copied(
            connection,
            f"SELECT {LIST} FROM assignment LEFT JOIN text USING (script_id)",
            place / f"plain-{ending}",
            f"{options}, PARTITION_BY (channel, org_unit_id), WRITE_PARTITION_COLUMNS true",
        )


def _copied(connection: duckdb.DuckDBPyConnection, select: str, target: Path, options: str) -> int:
    row = connection.execute(f"COPY ({select}) TO '{target}' ({options})").fetchone()
    return int(row[0]) if row else 0


def _scripts() -> pa.Table:
    rows = [{"offer_id": o, "channel": c, "script_id": s} for (o, c), s in SCRIPTS.items()]
    return pa.Table.from_pylist(rows)


def build_plan(folder: Path, size: int) -> None:
    """Lay out a service with an approved plan whose decisions treat about ``size`` customers."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _, plan_id = _world().build(folder, n=size * 10 // 9)
    (folder / "plan").write_text(plan_id, encoding="utf-8")


def time_click(folder: Path) -> tuple[int, float, float, float]:
    """Deploy the plan; return its rows, seconds, CPU seconds and the peak memory in GiB."""
    world = _world()
    service = world.open_world(folder)
    plan_id = (folder / "plan").read_text(encoding="utf-8")

    def work() -> int:
        row = deploy_plan(service, world.PLANNER, plan_id, as_of=world.AS_OF)
        if row.state != "live" or not row.reconciliation["reconciles"]:
            raise AssertionError(f"{row.state}: {row.reconciliation}")
        return int(row.planned)

    return _timed(work)


def _world() -> ModuleType:
    spec = importlib.util.spec_from_file_location("deployment_world", WORLD)
    assert spec is not None
    assert spec.loader is not None
    world = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(world)
    return world


def _texts() -> pa.Table:
    return pa.table({"script_id": list(TEXTS), "script": list(TEXTS.values())})


def _timed(work: Callable[[], int]) -> tuple[int, float, float, float]:
    """Return what ``work`` returns, its seconds, its CPU seconds and the peak memory in GiB."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    started = time.perf_counter()
    rows = work()
    seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return rows, seconds, cpu, after.ru_maxrss / 2**20


def _in_own_process(task: Callable[..., Any], *arguments: Any) -> Any:
    """Run a task where no earlier task has warmed anything or left memory behind."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=_silence) as pool:
        return pool.submit(task, *arguments).result()


def _silence() -> None:
    """Keep DuckDB's progress bar, which a spawned process shows, off the printed result."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
