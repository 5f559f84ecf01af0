"""The next best offers of a table of customers: the recommender's answers, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.decision.recommendation.ranking import Ranking
from bihuan.decision.recommendation.reason import LANGUAGES, say_many
from bihuan.decision.recommendation.recommender import Assessed, Question, Recommender
from bihuan.decision.recommendation.strategy import Cases, Mask
from bihuan.kernel import UserError

CHUNK = 4_000_000  # pairs of customer and strategy held at a time
PER = ("offer", "campaign", "strategy")
SCHEMA = pa.schema(
    [
        ("customer_id", pa.string()),
        ("rank", pa.int64()),
        ("campaign_id", pa.string()),
        ("offer_id", pa.string()),
        ("channel", pa.string()),
        ("step", pa.int64()),
        ("net", pa.float64()),
        ("value", pa.float64()),
        ("charge", pa.float64()),
        ("propensity", pa.float64()),
        ("by_hand", pa.bool_()),
        ("reason_zh", pa.string()),
        ("reason_en", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked of a table of customers.

    Parameters
    ----------
    channel
        Only through this channel; None for all.
    top
        How many recommendations at most.
    per
        ``offer``: of each offer the best channel. ``campaign``: of each campaign the best
        strategy. ``strategy``: everything.
    """

    channel: str | None = None
    top: int = 3
    per: str = "offer"

    def __post_init__(self) -> None:
        if self.per not in PER:
            raise UserError(
                f"There is no ranking per '{self.per}'.",
                remedy=f"Choose from {', '.join(PER)}.",
                zh=f"没有“{self.per}”排序方式,可选:{'、'.join(PER)}。",
            )


def recommend_table(
    recommender: Recommender,
    cases: Cases,
    tags: pa.Table,
    *,
    moments: Mask | None = None,
    wish: Wish | None = None,
) -> pa.Table:
    """Return the best things to do with each of many customers.

    Parameters
    ----------
    recommender
        As for one customer.
    cases
        What is known of them.
    tags
        Their values of :func:`told_tags`, in the order of ``cases``.
    moments
        At which of the board's ``moment_ids`` each is, ``(n, n_moments)``; None: at none.
    wish
        How many, per what, through which channel.

    Returns
    -------
    pyarrow.Table
        :data:`SCHEMA`: customers in the order of ``cases``, best first; no row for whom nothing
        is worth it. Amounts in the workspace's currency.
    """
    wish = wish or Wish()
    parts = [SCHEMA.empty_table()]
    for rows, question in _questions(recommender, cases, moments, wish.channel):
        assessed = recommender.assess(question)
        ranking = assessed.rank(top=wish.top, group=recommender.groups[wish.per])
        told = tags.slice(rows.start, rows.stop - rows.start)
        ids = cases.customer_id[rows]
        parts.append(_rows(recommender, ids, told, (assessed, ranking), question.moments))
    return pa.concat_tables(parts).combine_chunks()


def told_tags(recommender: Recommender) -> tuple[str, ...]:
    """Return the tags whose values reasons quote."""
    return tuple(sorted({fact.tag for facts in recommender.facts for fact in facts if fact.tag}))


def _questions(
    recommender: Recommender, cases: Cases, moments: Mask | None, channel: str | None
) -> Iterator[tuple[slice, Question]]:
    board, n = recommender.board, len(cases.customer_id)
    flags, numbers = board.flags(cases), board.numbers(cases.numbers, n)
    units = pa.nulls(n, pa.string()) if cases.org_unit_id is None else cases.org_unit_id
    step = max(1, CHUNK // max(1, len(board.candidates)))
    row, column = _planned(recommender, cases)
    for start in range(0, n, step):
        rows = slice(start, min(start + step, n))
        policy, charge, bonus = recommender.of_units(units[rows])
        here = (row >= rows.start) & (row < rows.stop)
        at = row[here] - rows.start, column[here]
        charge[at] = bonus[at]
        yield (
            rows,
            Question(
                flags=flags[rows],
                numbers=numbers[rows],
                moments=None if moments is None else moments[rows],
                policy=policy,
                charge=charge,
                by_hand=recommender.by_hand(cases.customer_id[rows]),
                channel=channel,
                ways=board.way_factors(cases.customer_id[rows]),
            ),
        )


def _planned(recommender: Recommender, cases: Cases) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return row and column of every contact that is planned already."""
    nothing = np.zeros(0, np.int64)
    if cases.planned is None or not cases.planned.num_rows:
        return nothing, nothing
    board, plan = recommender.board, cases.planned
    names = ("campaign_id", "offer_id", "channel", "step")
    known = pa.table(
        {
            "campaign_id": [s.campaign_id for s in board.strategies],
            "offer_id": [c.offer_id for c in board.candidates],
            "channel": [c.channel for c in board.candidates],
            "step": pa.array([c.step for c in board.candidates], pa.int64()),
            "column": pa.array(range(len(board.candidates)), pa.int64()),
        }
    )
    found = plan.join(known, list(names), join_type="inner")
    row = pc.index_in(found["customer_id"], value_set=cases.customer_id)
    inside = pc.is_valid(row)
    column = found["column"].filter(inside).to_numpy()
    return row.drop_null().to_numpy().astype(np.int64), column


def _rows(
    recommender: Recommender,
    ids: pa.Array,
    told: pa.Table,
    found: tuple[Assessed, Ranking],
    moments: Mask | None,
) -> pa.Table:
    assessed, ranking = found
    row, rank = np.nonzero(ranking.candidate >= 0)
    column = ranking.candidate[row, rank].astype(np.intp)
    board = recommender.board
    value, charge = assessed.value[row, column], assessed.charge[row, column]
    by_hand = np.zeros(len(row), np.bool_)
    if assessed.forced is not None:
        by_hand = assessed.forced[row, column]

    def of(names: list[str]) -> pa.Array:
        return pa.array(names, pa.string()).take(pa.array(column))

    reasons = _reasons(recommender, told.take(pa.array(row)), column,
                       None if moments is None else moments[row])  # fmt: skip
    columns = {
        "customer_id": ids.take(pa.array(row)).cast(pa.string()),
        "rank": pa.array(rank + 1, pa.int64()),
        "campaign_id": of([s.campaign_id for s in board.strategies]),
        "offer_id": of([c.offer_id for c in board.candidates]),
        "channel": of([c.channel for c in board.candidates]),
        "step": pa.array(np.array([c.step for c in board.candidates], np.int64)[column]),
        "net": value - charge,
        "value": value,
        "charge": charge,
        "propensity": board.propensity[column],
        "by_hand": by_hand,
        "reason_zh": reasons["zh"],
        "reason_en": reasons["en"],
    }
    return pa.table(columns, schema=SCHEMA)


def _reasons(
    recommender: Recommender, told: pa.Table, column: NDArray[np.intp], moments: Mask | None
) -> Mapping[str, pa.Array]:
    """Put the reasons of all rows into words: one piece per strategy and set of moments."""
    board = recommender.board
    active = np.zeros((len(column), 0), np.bool_) if moments is None else moments
    patterns, pattern = np.unique(active, axis=0, return_inverse=True)
    key = column * max(len(patterns), 1) + pattern.reshape(-1)
    order = np.argsort(key, kind="stable")
    ends = np.flatnonzero(np.diff(key[order], append=-1)) + 1
    texts: dict[str, list[pa.Array]] = {language: [] for language in LANGUAGES}
    begin = 0
    for end in ends.tolist() if len(order) else []:
        rows = order[begin:end]
        begin = end
        which, now = int(column[rows[0]]), active[rows[0]]
        context = {m for m, on in zip(board.moment_ids, now, strict=False) if on}
        titles = recommender.moments_told(which, context) if context else ()
        some = told.take(pa.array(rows))
        for language in LANGUAGES:
            texts[language].append(
                say_many(
                    board.strategies[which], recommender.facts[which], recommender.words, some,
                    language, [title[language] for title in titles],
                )
            )  # fmt: skip
    back = pa.array(np.argsort(order, kind="stable"))
    empty = pa.array([], pa.string())
    return {name: pc.take(pa.concat_arrays([empty, *parts]), back) for name, parts in texts.items()}
