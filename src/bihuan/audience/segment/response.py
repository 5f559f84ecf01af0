"""How many of those contacted will respond: from a score, or from history by bins of a tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from bihuan.audience.algebra import Compare, Node, all_of
from bihuan.audience.coverage import NotEstimable
from bihuan.audience.segment.binning import count_bins, merge, pool_monotone
from bihuan.audience.segment.leak import Goal, read_goal
from bihuan.audience.segment.reader import Ordered, Reader, Side, require_numeric
from bihuan.audience.segment.rule import wilson
from bihuan.data import Engine
from bihuan.tag import TagTable

Floats: TypeAlias = NDArray[np.float64]
LEAST_RESPONSES = 30


class Expectation(Protocol):
    """Foretells responses."""

    def responses(
        self, tag: str, values: Sequence[Ordered], side: Side, within: Node, reader: Reader
    ) -> Floats:
        """Return the responses expected of everyone from each value on, shape ``(n_values,)``."""
        ...


@dataclass(frozen=True, slots=True)
class ScoreSum:
    """Each customer responds with the probability that a score tag says.

    Parameters
    ----------
    score
        A tag with calibrated probabilities, 0..1; who has none is taken not to respond.
    """

    score: str

    def responses(
        self, tag: str, values: Sequence[Ordered], side: Side, within: Node, reader: Reader
    ) -> Floats:
        """Sum the score over everyone from each value on."""
        parts = [all_of([within, at_or_beyond(tag, value, side)]) for value in values]
        return np.array([float(reader.total(self.score, part)) for part in parts])


@dataclass(frozen=True, slots=True)
class RateByBin:
    """Customers respond as those of the same bin did before.

    Parameters
    ----------
    tag
        The tag whose values were put into bins.
    edges
        Inner bounds; a bin holds its upper bound.
    known, hits
        Customers with a known answer and responses, per bin.
    rates
        Response rate of each bin, 0..1; with ``monotone`` those of pooled neighbours.
    low, high
        95 % Wilson intervals of the rates.
    monotone
        ``rising``, ``falling`` or empty.
    """

    tag: str
    edges: tuple[Ordered, ...]
    known: tuple[int, ...]
    hits: tuple[int, ...]
    rates: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    monotone: str

    def responses(
        self, tag: str, values: Sequence[Ordered], side: Side, within: Node, reader: Reader
    ) -> Floats:
        """Add up, bin by bin, customers from each value on times the rate of their bin."""
        parts = [
            all_of([within, self._condition(i), at_or_beyond(tag, value, side)])
            for value in values
            for i in range(len(self.rates))
        ]
        counts = reader.counts(parts).reshape(len(values), len(self.rates))
        found: Floats = counts @ np.array(self.rates)
        return found

    def _condition(self, i: int) -> Node:
        over = [Compare(self.tag, ">", self.edges[i - 1])] if i else []
        upto = [Compare(self.tag, "<=", self.edges[i])] if i < len(self.edges) else []
        return all_of([*over, *upto])


def learn_rates(  # noqa: PLR0913 - what, from which data, and how it is put into bins
    tag: str,
    goal: Goal,
    tags: TagTable,
    *,
    engine: Engine,
    within: Node | None = None,
    bins: int = 10,
    monotone: Side | None = None,
) -> RateByBin | NotEstimable:
    """Learn from history how often customers responded, by bins of a tag.

    Parameters
    ----------
    tag
        A number, an amount of money or a whole number.
    goal
        Who responded.
    tags
        Tag values as they were before.
    engine
        Runs the queries.
    within
        Only members of this audience; None: all.
    bins
        Bins of about equal numbers of customers.
    monotone
        ``top``: rates may only rise with the tag, ``bottom``: only fall; neighbours that do
        otherwise are pooled. None: as they were.

    Returns
    -------
    RateByBin or NotEstimable
        The latter with fewer than 30 responses among customers whose tag is known.
    """
    require_numeric(tag, tags)
    answers, _ = read_goal(goal, tags, engine, within)
    binned = next(count_bins(tags, [tag], answers, engine=engine, bins=bins))
    hits = sum(found.events for found in binned.bins)
    if hits < LEAST_RESPONSES:
        return NotEstimable(
            {
                "zh": f"历史上只有 {hits} 次响应，少于 {LEAST_RESPONSES} 次，无法估计响应率。",
                "en": f"History has {hits} responses, fewer than {LEAST_RESPONSES}.",
            }
        )
    pooled = binned.bins
    if monotone is not None:
        rows = np.array([found.rows for found in pooled], dtype=np.float64)
        events = np.array([found.events for found in pooled], dtype=np.float64)
        pooled = merge(pooled, pool_monotone(events, rows, rising=monotone == "top"))
    ends = [wilson(found.events, found.rows) for found in pooled]
    return RateByBin(
        tag=tag,
        edges=tuple(_upper(found.condition) for found in pooled[:-1]),
        known=tuple(found.rows for found in pooled),
        hits=tuple(found.events for found in pooled),
        rates=tuple(found.events / found.rows for found in pooled),
        low=tuple(low for low, _ in ends),
        high=tuple(high for _, high in ends),
        monotone={"top": "rising", "bottom": "falling", None: ""}[monotone],
    )


def at_or_beyond(tag: str, value: Ordered, side: Side) -> Compare:
    """Return the condition that lets in a value and everything beyond it."""
    return Compare(tag, ">=" if side == "top" else "<=", value)


def _upper(condition: Node) -> Ordered:
    """Return the upper bound of a bin; only the last has none."""
    parts = getattr(condition, "parts", (condition,))
    found = next(p.value for p in parts if isinstance(p, Compare) and p.op == "<=")
    return cast("Ordered", found)
