"""The next best offer of one customer beside what a service would do without it.

200 strategies (25 campaigns x 8 offers and channels) with 83 different rules (75 of audiences, 8 of
offers), against one profile in memory: gates, value, prices, top three, reasons in both languages.
Beside it the same rules and values as one SQL statement over a table of one row in DuckDB (no
reasons), and the same rules walked through one after another. ``--size``: profiles, 2,000 by
default; as many are decided as a batch with the same code.
"""

from __future__ import annotations

import time
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from bihuan.audience import Everyone, match, parse, predicate
from bihuan.data import ColumnType
from bihuan.decision import (
    Candidate,
    Case,
    Cases,
    Recommender,
    Strategy,
    StrategyBoard,
    Wording,
    recommend,
)
from bihuan.kernel import random_stream
from bihuan.offer import Catalogue, Margin, Offer
from bihuan.tag import TagField

DAY = date(2026, 11, 2)
CHANNELS = ("outbound", "sms", "app", "hall")
CAMPAIGNS, OFFERS = 25, 8
TITLE = {
    "arpu": {"zh": "月均消费", "en": "Monthly revenue"},
    "dou": {"zh": "月均流量", "en": "Data per month"},
    "risk": {"zh": "流失风险", "en": "Risk of leaving"},
    "tenure_months": {"zh": "网龄", "en": "Tenure"},
}
FIELDS = {
    name: TagField(name, kind, None, TITLE[name])
    for name, kind in (
        ("arpu", ColumnType.NUMBER),
        ("dou", ColumnType.NUMBER),
        ("risk", ColumnType.NUMBER),
        ("tenure_months", ColumnType.INTEGER),
    )
}


def run(size: int | None, instance: Path | None, out: Path | None) -> dict[str, Any]:
    """Run the benchmark; see the module's text."""
    del instance, out
    n = size or 2_000
    strategies = _strategies()
    catalogue = Catalogue({s.offer.offer_id: s.offer for s in strategies}.values())
    made = Recommender(
        StrategyBoard(strategies, FIELDS, catalogue, day=DAY),
        Wording(FIELDS, {"arpu": "currency", "dou": "MB", "tenure_months": "month"}, {}),
    )
    profiles = _profiles(n)
    ours, answers = _timed(profiles, lambda p: len(made.for_profile(p, case=Case("c"))))
    sql, found = _timed(profiles[:300], _sql(strategies))
    walked, _ = _timed(profiles, lambda p: sum(_passes(s, p) for s in strategies))
    batch = _batch(made.board, profiles)
    figures = {
        "strategies": len(strategies),
        "profiles": n,
        "recommended": answers,
        "one_ms": 1e3 * float(np.median(ours)),
        "one_p99_ms": 1e3 * float(np.quantile(ours, 0.99)),
        "sql_ms": 1e3 * float(np.median(sql)),
        "walk_ms": 1e3 * float(np.median(walked)),
        "batch_ms_per_1000": 1e6 * batch / n,
        "sql_answers": found,
    }
    figures["ratio_to_sql"] = figures["sql_ms"] / figures["one_ms"]
    figures["ratio_to_walk"] = figures["walk_ms"] / figures["one_ms"]
    names = ("one_ms", "one_p99_ms", "sql_ms", "walk_ms", "batch_ms_per_1000", "ratio_to_sql")
    return figures | {"table": [{name: figures[name] for name in names}]}


def _strategies() -> list[Strategy]:
    found = []
    for c in range(CAMPAIGNS):
        for o in range(OFFERS):
            offer = Offer(
                offer_id=f"offer_{o}",
                title={"zh": f"套餐{o}", "en": f"Offer {o}"},
                kind="addon",
                products=(f"p{o}",),
                price=10.0 + 5 * o,
                months=12,
                margin=Margin(20.0 + 3 * o),
                cost=2.0,
                eligibility=parse(f"dou >= {200 * o} or tenure_months >= {6 * o + 3}"),
                excludes=frozenset(),
                channels=frozenset(CHANNELS),
            )
            audience = parse(
                f"arpu >= {20 + 2 * c + o % 3} and (risk < 0.{9 - c % 5}5 or tenure_months > {c})"
            )
            found.append(
                Strategy(
                    campaign_id=f"campaign_{c}",
                    campaign_title={"zh": f"方案{c}", "en": f"Campaign {c}"},
                    candidate=Candidate(offer.offer_id, CHANNELS[(c + o) % 4]),
                    offer=offer,
                    audience=audience,
                    exclusions=(),
                    propensity=0.02 + 0.001 * ((7 * c + 3 * o) % 60),
                    cost=0.05,
                )
            )
    return found


def _profiles(n: int) -> list[dict[str, Any]]:
    rng = random_stream(3, "bench", "decisions")
    columns = {
        "arpu": rng.gamma(3, 25, n).round(2),
        "dou": rng.gamma(2, 2500, n).round(1),
        "risk": rng.random(n).round(4),
    }
    tenure = rng.integers(0, 120, n)
    return [
        {name: float(values[i]) for name, values in columns.items()}
        | {"tenure_months": int(tenure[i])}
        for i in range(n)
    ]


def _timed(profiles: list[dict[str, Any]], ask: Any) -> tuple[list[float], int]:
    for profile in profiles[:50]:
        ask(profile)
    seconds, answers = [], 0
    for profile in profiles:
        begun = time.perf_counter()
        answers += ask(profile)
        seconds.append(time.perf_counter() - begun)
    return seconds, answers


def _passes(strategy: Strategy, profile: dict[str, Any]) -> bool:
    return match(strategy.audience, profile) and match(strategy.offer.eligibility, profile)


def _sql(strategies: list[Strategy]) -> Any:
    """Return what asks DuckDB for the best three of one profile."""
    connection = duckdb.connect()
    rows = " union all ".join(
        f"select {i} as strategy, {s.propensity * (s.offer.margin.fixed - 2) - s.cost} as value "
        f"from profile where ({_text(s.audience)}) and ({_text(s.offer.eligibility)})"
        for i, s in enumerate(strategies)
    )
    text = f"select * from ({rows}) where value > 0 order by value desc limit 3"

    def ask(profile: dict[str, Any]) -> int:
        connection.register("profile", pa.table({name: [v] for name, v in profile.items()}))
        return len(connection.execute(text).fetchall())

    return ask


def _text(node: Any) -> str:
    return "true" if isinstance(node, Everyone) else predicate(node).sql(dialect="duckdb")


def _batch(board: StrategyBoard, profiles: list[dict[str, Any]]) -> float:
    """Return the seconds that gates and values of all profiles take at once."""
    flags = np.array([[match(rule, p) for rule in board.rules] for p in profiles], dtype=np.bool_)
    cases = Cases(
        customer_id=pa.array([f"c{i}" for i in range(len(profiles))]),
        rules=flags,
        numbers={tag: np.array([float(p[tag]) for p in profiles]) for tag in board.number_tags},
    )
    begun = time.perf_counter()
    keep = board.keep(board.flags(cases))
    value = np.where(keep, board.value(board.numbers(cases.numbers, len(profiles))), np.nan)
    recommend(value, 0.0 * value)
    return time.perf_counter() - begun
