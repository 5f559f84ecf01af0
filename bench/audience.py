"""Five questions about a whole customer base, beside DuckDB, Polars and ClickHouse (chDB).

The twin draws the base: twenty tags (twelve flags of 0.1 % to 60 %, five coded tags, three
numbers), every customer independently, which is the worst case for any compression. In turn, each
engine in a process of its own on the same rows, warm, answers:

- Q1: ``(b40 or b10) and not b05 and arpu >= 58.37 and city in (3 of 11)``: how many?
- Q2: twelve conditions, with ranges of three numbers and a list of 20 of 400 tariffs: how many?
- Q3: city by life-cycle stage inside the audience of Q1.
- Q4: the exact ARPU threshold that leaves 3 % of the base, inside Q1 without its ARPU condition.
- Q5: the row numbers of Q1's customers into a Parquet file.

Answers must be equal. Peers read their own formats and small column types, not the lake's file:
DuckDB its database file, Polars Arrow files and (``polars_ram``) columns held in memory, chDB a
MergeTree. ``bandwidth_share`` is the bytes of the planes a question needs, per second, over what
the same cores read from the same mapped files in a plain loop.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

SEED = 20261031
AS_OF = date(2026, 10, 31)
ROUNDS = 7
QUESTIONS = ("Q1", "Q2", "Q3", "Q4", "Q5")
CITIES = (1, 4, 7)
MORE_CITIES = (0, 2, 3, 7, 9)
TARIFFS = tuple(range(3, 400, 20))
_CLOCK = datetime(2026, 11, 1, tzinfo=UTC)


def run(size: int | None, instance: Path | None, out: Path | None) -> dict[str, Any]:
    """Time all engines; return milliseconds, ratios and a table for people.

    Parameters
    ----------
    size
        Customers; None = 67,000,000.
    instance
        Not used.
    out
        Folder in which base, index and the peers' files are kept, and found again by the next
        run; None = a temporary one, removed at the end.
    """
    del instance
    folder = Path(tempfile.mkdtemp(prefix="bench-audience-")) if out is None else out
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _run(size or 67_000_000, folder)
    finally:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)


def _run(size: int, folder: Path) -> dict[str, Any]:
    built = _alone(prepare, folder, size)
    measured = {name: _alone(time_engine, name, folder, size) for name in ENGINES}
    ours = measured["bihuan"]
    for name, found in measured.items():
        if found["answers"] != ours["answers"]:
            raise AssertionError(f"{name} answers {found['answers']}, Bihuan {ours['answers']}")
    files = ("duckdb", "polars_files", "chdb")
    ms = {name: found["ms"] for name, found in measured.items()}
    best = {q: min(ms[name][q] for name in files) for q in QUESTIONS}
    bandwidth = ours["bandwidth_gb_s"]
    speed = {q: ours["bytes"][q] / ms["bihuan"][q] / 1e6 for q in QUESTIONS if q != "Q5"}
    table = [
        {
            "engine": name,
            **{q: ms[name][q] for q in QUESTIONS},
            "peak MB": measured[name]["peak_mb"],
        }
        for name in ENGINES
    ]
    return {
        "table": table,
        "customers": size,
        "ms": ms["bihuan"],
        "ratio_best_peer": {q: best[q] / ms["bihuan"][q] for q in QUESTIONS},
        "ratio_polars_ram": {q: ms["polars_ram"][q] / ms["bihuan"][q] for q in QUESTIONS},
        "bandwidth_share": {q: speed[q] / bandwidth for q in speed},
        "bandwidth_gb_s": bandwidth,
        "peers_ms": {name: ms[name] for name in ENGINES if name != "bihuan"},
        "answers": ours["answers"],
        **built,
        **{key: ours[key] for key in ("peak_mb", "first_answer_s", "profile_ms", "users_8")},
        **_alone(time_open),
    }


# ----------------------------------------------------------------------------------------- making


def prepare(folder: Path, size: int) -> dict[str, Any]:
    """Draw the base, build the index; return seconds and sizes."""
    from bihuan.data import Lake
    from bihuan.kernel import FixedClock, SilentProgress
    from bihuan.tag import build_index
    from bihuan.twin.base import base_tags, generate_base

    lake = Lake(folder / "lake")
    if "tag__customer__base" not in lake.view().tables:
        generate_base(
            lake, size, AS_OF, seed=SEED, clock=FixedClock(_CLOCK), progress=SilentProgress()
        )
    tags = base_tags(lake, AS_OF)
    if tags.rows != size:
        raise ValueError(f"{folder} holds {tags.rows:,} customers, not {size:,}: choose another.")
    build_index(tags, folder / "warm", only=["has_family_plan", "arpu"])  # compiled, pages warm
    report = build_index(tags, folder / "index")
    seconds = {}
    for tag in ("has_family_plan", "tariff", "arpu", "dou"):
        shutil.rmtree(folder / "one", ignore_errors=True)
        seconds[tag] = _rebuild_one(folder, tags, tag)
    shutil.rmtree(folder / "warm")
    shutil.rmtree(folder / "one")
    planes = (folder / "index").rglob("*")
    return {
        "index_mb": sum(path.stat().st_size for path in planes if path.is_file()) / 1e6,
        "index_s": report.seconds,
        "rebuild_one_tag_s": seconds,
    }


def _rebuild_one(folder: Path, tags: Any, tag: str) -> float:
    """Time one tag of an index whose other parts are there already."""
    from bihuan.tag import build_index

    build_index(tags, folder / "one", only=["net"])
    started = time.perf_counter()
    build_index(tags, folder / "one", only=[tag])
    return time.perf_counter() - started


def _parquet(folder: Path) -> str:
    return str(next((folder / "lake" / "tag__customer__base").rglob("*.parquet")))


# -------------------------------------------------------------------------------------- questions


def _wanted(size: int) -> int:
    return max(round(size * 2 / 67), 1)


def _sql(size: int) -> dict[str, str]:
    within = (
        f"(has_family_plan OR has_terminal_contract) AND NOT has_opted_out AND city IN {CITIES}"
    )
    first = f"{within} AND arpu >= 58.37"
    second = (
        "(has_family_plan OR has_terminal_contract) AND NOT has_opted_out AND uses_app"
        " AND (has_broadband OR has_5g_terminal) AND NOT is_key_customer"
        " AND arpu BETWEEN 30 AND 120 AND dou >= 20000 AND tenure >= 24"
        f" AND city IN {MORE_CITIES} AND tariff IN {TARIFFS} AND stage IN (1, 2) AND NOT complained"
    )
    return {
        "Q1": f"SELECT count(*) FROM t WHERE {first}",
        "Q2": f"SELECT count(*) FROM t WHERE {second}",
        "Q3": f"SELECT city, stage, count(*) FROM t WHERE {first} GROUP BY ALL ORDER BY ALL",
        "Q4": (
            "SELECT max(arpu) FROM (SELECT arpu, sum(n) OVER (ORDER BY arpu DESC) AS above FROM"
            f" (SELECT arpu, count(*) AS n FROM t WHERE {within} GROUP BY arpu))"
            f" WHERE above >= {_wanted(size)}"
        ),
        "Q5": f"SELECT id FROM t WHERE {first}",
    }


def _ours(folder: Path, size: int) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    from bihuan.audience import ProgramReader
    from bihuan.tag import open_index

    started = time.perf_counter()
    reader = ProgramReader(open_index(folder / "index", "customer", AS_OF))
    within = (
        f"(has_family_plan or has_terminal_contract) and not has_opted_out and city in {CITIES}"
    )
    first = f"{within} and arpu >= 58.37"
    second = (
        "(has_family_plan or has_terminal_contract) and not has_opted_out and uses_app"
        " and (has_broadband or has_5g_terminal) and not is_key_customer"
        " and arpu between 30 and 120 and dou >= 20000 and tenure >= 24"
        f" and city in {MORE_CITIES} and tariff in {TARIFFS} and stage in (1, 2) and not complained"
    )
    reader.count(first)
    extra = {"first_answer_s": time.perf_counter() - started, "reader": reader,
             "texts": {"Q1": first, "Q2": second, "Q3": first, "Q4": within}}  # fmt: skip
    return {
        "Q1": lambda: reader.count(first),
        "Q2": lambda: reader.count(second),
        "Q3": lambda: reader.cross(["city", "stage"], first).counts[list(CITIES)].ravel().tolist(),
        "Q4": lambda: reader.threshold("arpu", _wanted(size), within).value,
        "Q5": lambda: reader.write_members(first, folder / "ours.parquet", ids="row"),
    }, extra


def _duckdb(folder: Path, size: int) -> dict[str, Callable[[], Any]]:
    import duckdb

    path = folder / "duckdb.db"
    if not path.exists():
        with duckdb.connect(str(path)) as connection:
            connection.execute("SET enable_progress_bar = false")
            connection.execute(
                "CREATE TABLE t AS SELECT (row_number() OVER () - 1)::UINTEGER AS id,"
                " * EXCLUDE (customer_id) REPLACE (city::UTINYINT AS city, county::USMALLINT AS"
                " county, tariff::USMALLINT AS tariff, stage::UTINYINT AS stage, net::UTINYINT AS"
                f" net, dou::INTEGER AS dou, tenure::USMALLINT AS tenure) FROM '{_parquet(folder)}'"
            )
    connection = duckdb.connect(str(path), read_only=True)
    connection.execute("SET enable_progress_bar = false")
    sql, target = _sql(size), folder / "duckdb.parquet"

    def ask(question: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql[question]).fetchall()

    return {
        "Q1": lambda: ask("Q1")[0][0],
        "Q2": lambda: ask("Q2")[0][0],
        "Q3": lambda: [row[2] for row in ask("Q3")],
        "Q4": lambda: ask("Q4")[0][0],
        "Q5": lambda: connection.execute(
            f"COPY ({sql['Q5']}) TO '{target}' (FORMAT parquet)"
        ).fetchall()[0][0],
    }


def _polars_columns() -> list[Any]:
    import polars as pl

    small = {"city": pl.UInt8, "county": pl.UInt16, "tariff": pl.UInt16, "stage": pl.UInt8,
             "net": pl.UInt8, "dou": pl.Int32, "tenure": pl.UInt16}  # fmt: skip
    return [pl.col(name).cast(kind) for name, kind in small.items()]


def _polars(frame: Any, folder: Path, size: int) -> dict[str, Callable[[], Any]]:
    import polars as pl

    c = pl.col
    within = (
        (c("has_family_plan") | c("has_terminal_contract"))
        & ~c("has_opted_out")
        & c("city").is_in(CITIES)
    )
    first = within & (c("arpu") >= 58.37)
    second = (
        (c("has_family_plan") | c("has_terminal_contract"))
        & ~c("has_opted_out")
        & c("uses_app")
        & (c("has_broadband") | c("has_5g_terminal"))
        & ~c("is_key_customer")
        & c("arpu").is_between(30, 120)
        & (c("dou") >= 20000)
        & (c("tenure") >= 24)
        & c("city").is_in(MORE_CITIES)
        & c("tariff").is_in(TARIFFS)
        & c("stage").is_in([1, 2])
        & ~c("complained")
    )
    wanted = _wanted(size)

    def one(query: Any) -> Any:
        return query.collect(engine="streaming").item()

    def by_value() -> float:
        found = frame.filter(within).group_by("arpu").len().collect(engine="streaming")
        found = found.sort("arpu", descending=True).with_columns(c("len").cum_sum())
        return float(found.filter(c("len") >= wanted)["arpu"][0])

    def by_rank() -> float:
        return float(one(frame.filter(within).select(c("arpu").top_k(wanted).min())))

    def cross() -> list[int]:
        found = frame.filter(first).group_by("city", "stage").len().collect(engine="streaming")
        return list(found.sort("city", "stage")["len"])

    def write() -> int:
        found = frame.filter(first).select("id").collect(engine="streaming")
        found.write_parquet(folder / "polars.parquet")
        return int(found.height)

    quicker = min((by_value, by_rank), key=lambda ask: _median(ask, 2))
    return {
        "Q1": lambda: one(frame.filter(first).select(pl.len())),
        "Q2": lambda: one(frame.filter(second).select(pl.len())),
        "Q3": cross,
        "Q4": quicker,
        "Q5": write,
    }


def _polars_files(folder: Path, size: int) -> dict[str, Callable[[], Any]]:
    import polars as pl

    path = folder / "polars.arrow"
    if not path.exists():
        rows = pl.scan_parquet(_parquet(folder)).drop("customer_id").with_columns(_polars_columns())
        rows.with_row_index("id").sink_ipc(path, compression="uncompressed")
    return _polars(pl.scan_ipc(path), folder, size)


def _polars_ram(folder: Path, size: int) -> dict[str, Callable[[], Any]]:
    import polars as pl

    used = ["has_family_plan", "has_terminal_contract", "has_opted_out", "is_key_customer",
            "complained", "uses_app", "has_broadband", "has_5g_terminal"]  # fmt: skip
    rows = pl.scan_parquet(_parquet(folder))
    numbers = [c for c in _polars_columns() if c.meta.output_name() not in ("county", "net")]
    held = rows.select([*used, "arpu", *numbers]).with_row_index("id").collect(engine="streaming")
    return _polars(held.rechunk().lazy(), folder, size)


def _chdb(folder: Path, size: int) -> dict[str, Callable[[], Any]]:
    from chdb import session

    place = folder / "chdb"
    is_new = not place.exists()
    connection = session.Session(str(place))
    if is_new:
        connection.query("CREATE DATABASE IF NOT EXISTS b")
        connection.query(
            "CREATE TABLE b.t ENGINE = MergeTree ORDER BY tuple() AS SELECT"
            " toUInt32(substring(customer_id, 2)) AS id, * EXCEPT (customer_id, city, county,"
            " tariff, stage, net, dou, tenure), toUInt8(assumeNotNull(city)) AS city,"
            " toUInt16(assumeNotNull(county)) AS county, toUInt16(assumeNotNull(tariff)) AS tariff,"
            " toUInt8(assumeNotNull(stage)) AS stage, toUInt8(assumeNotNull(net)) AS net,"
            " toInt32(assumeNotNull(dou)) AS dou, toUInt16(assumeNotNull(tenure)) AS tenure"
            f" FROM file('{_parquet(folder)}', Parquet)"
            " SETTINGS schema_inference_make_columns_nullable = 0"
        )
    sql = {q: text.replace("FROM t ", "FROM b.t ") for q, text in _sql(size).items()}
    target = folder / "chdb.parquet"

    def ask(text: str) -> list[list[str]]:
        return [line.split(",") for line in str(connection.query(text, "CSV")).split()]

    def write() -> int:
        target.unlink(missing_ok=True)
        connection.query(f"{sql['Q5']} INTO OUTFILE '{target}' FORMAT Parquet")
        import pyarrow.parquet as pq

        return int(pq.read_metadata(target).num_rows)

    group = sql["Q3"].replace(
        "GROUP BY ALL ORDER BY ALL", "GROUP BY city, stage ORDER BY city, stage"
    )
    return {
        "Q1": lambda: int(ask(sql["Q1"])[0][0]),
        "Q2": lambda: int(ask(sql["Q2"])[0][0]),
        "Q3": lambda: [int(row[2]) for row in ask(group)],
        "Q4": lambda: float(ask(sql["Q4"])[0][0]),
        "Q5": write,
    }


ENGINES: Mapping[str, Callable[..., Any]] = {
    "bihuan": _ours,
    "polars_ram": _polars_ram,
    "polars_files": _polars_files,
    "duckdb": _duckdb,
    "chdb": _chdb,
}


# -------------------------------------------------------------------------------------- measuring


def time_engine(name: str, folder: Path, size: int) -> dict[str, Any]:
    """Ask one engine everything; return medians, answers and what else was measured."""
    made = ENGINES[name](folder, size)
    questions, extra = made if isinstance(made, tuple) else (made, {})
    answers = {q: ask() for q, ask in questions.items()}  # and warm
    result: dict[str, Any] = {
        "answers": answers,
        "ms": {q: _median(ask, ROUNDS) * 1e3 for q, ask in questions.items()},
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    if extra:
        result |= _measure_ours(extra, size)
        result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return result


def _measure_ours(extra: dict[str, Any], size: int) -> dict[str, Any]:
    from bihuan.audience import bind, normalise, parse, tags_of
    from bihuan.audience.program import Compiler

    reader, texts = extra["reader"], extra["texts"]
    more = {"Q3": ("city", "stage"), "Q4": ("arpu",)}
    sizes = {}
    for question, text in texts.items():
        compiler = Compiler(reader.index.planes)
        compiler.tree(normalise(bind(parse(text), reader.index.fields)))
        for tag in more.get(question, ()):
            for bit in range(reader.index.planes(tag).encoding.bits):
                compiler.bit(tag, bit)
        sizes[question] = len(compiler.addresses) * size / 8
    tags = sorted({tag for text in texts.values() for tag in tags_of(parse(text))})
    name = f"C{size // 2:09d}"
    return {
        "bytes": sizes,
        "bandwidth_gb_s": _bandwidth(reader.index, tags),
        "first_answer_s": extra["first_answer_s"],
        "profile_ms": _median(lambda: reader.profile(name), 20) * 1e3,
        "users_8": _users(reader, texts["Q1"]),
    }


def _bandwidth(index: Any, tags: list[str]) -> float:
    """Read mapped planes from end to end on all cores; return GB/s."""
    from numba import njit

    from bihuan.kernel import on_each_part

    @njit(nogil=True)
    def read(words: Any) -> Any:
        found = np.uint64(0)
        for i in range(len(words)):
            found |= words[i]
        return found

    planes = [index.planes(tag).planes.reshape(-1) for tag in tags]
    read(planes[0][:8])

    def all_of_them() -> None:
        for words in planes:
            on_each_part(lambda start, end, words=words: read(words[start:end]), len(words))

    return sum(words.nbytes for words in planes) / _median(all_of_them, ROUNDS) / 1e9


def _users(reader: Any, text: str) -> float:
    """Return how many questions per second eight users get answered, over what one gets."""

    def throughput(users: int, each: int) -> float:
        threads = [
            threading.Thread(target=lambda: [reader.count(text) for _ in range(each)])
            for _ in range(users)
        ]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return users * each / (time.perf_counter() - started)

    one = statistics.median(throughput(1, 16) for _ in range(3))
    return statistics.median(throughput(8, 4) for _ in range(3)) / one


def time_open() -> dict[str, Any]:
    """Time opening an index of 672 tags; its size does not depend on the customers."""
    import pyarrow as pa

    from bihuan.data import ColumnType, Lake
    from bihuan.kernel import FixedClock
    from bihuan.tag import Subject, TagField, TagTable, build_index, open_index

    with tempfile.TemporaryDirectory() as folder:
        lake = Lake(Path(folder) / "lake")
        names = [f"tag_{i:03d}" for i in range(672)]
        fields = {n: TagField(n, ColumnType.INTEGER, None, {"zh": n, "en": n}) for n in names}
        ids = [f"C{i * 7:06d}" for i in range(1000)]
        columns = {name: [(i * k) % 97 for k in range(1000)] for i, name in enumerate(fields)}
        with lake.publication(FixedClock(_CLOCK)) as publication:
            publication.add("tag__customer__x", AS_OF, pa.table({"customer_id": ids, **columns}))
        snapshot = lake.view().get("tag__customer__x", AS_OF)
        tags = TagTable(
            Subject.CUSTOMER, AS_OF, "customer_id", fields,
            dict.fromkeys(fields, snapshot.id), {}, {"tag__customer__x": snapshot}, 1000,
        )  # fmt: skip
        root = Path(folder) / "index"
        build_index(tags, root)
        opened = _median(lambda: open_index(root, "customer", AS_OF).fields, ROUNDS)
        index = open_index(root, "customer", AS_OF)
        index.profile(ids[5])
        return {
            "open_672_ms": opened * 1e3,
            "profile_672_ms": _median(lambda: index.profile(ids[500]), 20) * 1e3,
        }


def _median(ask: Callable[[], Any], rounds: int) -> float:
    seconds = []
    for _ in range(rounds):
        started = time.perf_counter()
        ask()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def _alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run in a process of its own, so that nobody warms or fills another's memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()
