"""Step one, qualitative (定性): which tags matter for a goal, by history or by experience.

History is tag values at one date and what became of the same customers afterwards. Each tag is
put into bins, and what the bins tell about the goal is measured. A tag that tells too much is more
often a leak than a discovery, so each is also held against the ways in which an answer slips into
a question.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience.algebra import Node
from bihuan.audience.coverage import NotEstimable
from bihuan.audience.segment.binning import Bin, Binned, count_bins, merge, pool_monotone
from bihuan.audience.segment.leak import Descent, Goal, Leak, read_goal
from bihuan.audience.snapshot import require_tags
from bihuan.audience.text import to_text
from bihuan.data import Engine
from bihuan.tag import TagDictionary, TagTable

Floats: TypeAlias = NDArray[np.float64]
Text: TypeAlias = Mapping[str, str]

BINS = 10
LEAST_EVENTS = 30
LEAST_BIN_ROWS = 30


@dataclass(frozen=True, slots=True)
class Figures:
    """What a tag tells about the goal.

    Parameters
    ----------
    information_value
        Sum over the bins of the difference between the shares of events and of others, times the
        logarithm of their ratio; half a customer is added to every cell. Below 0.02 hardly
        anything, above 0.3 strong.
    mutual_information
        In bits, less what as many bins show by chance (Miller and Madow), at least 0.
    area
        Area under the curve if customers are ordered by the rate of their bin, 0.5..1. The order
        comes from the same data, so it is a little too good.
    lift
        Rate of the best bin over the rate of all.
    best
        The bin of at least 30 customers with the highest rate.
    by_chance
        Probability that bins as unlike as these, or more, come about if the tag has nothing to
        do with the goal (chi-squared test).
    """

    information_value: float
    mutual_information: float
    area: float
    lift: float
    best: Bin
    by_chance: float

    @property
    def is_real(self) -> bool:
        """Whether the bins differ by more than chance explains (5 %)."""
        return self.by_chance <= 0.05


@dataclass(frozen=True, slots=True)
class TagRelevance:
    """One tag held against the goal.

    Parameters
    ----------
    tag
        Its name.
    title
        By language.
    known
        Customers whose tag has a value.
    events
        Those of all customers, with a value or without, for whom the goal came true.
    missing_share
        Part of the customers without a value, 0..1.
    binning
        ``equal_frequency``, ``monotone`` (neighbours pooled until rates only rise or only fall)
        or ``categories``.
    bins
        Known values, then, if there are any, the customers without one.
    figures
        :class:`NotEstimable` if there are too few events or only one bin.
    leaks
        Reasons for suspicion.
    pinned
        Why a planner takes it whatever the figures say; empty if nobody does.
    """

    tag: str
    title: Text
    known: int
    events: int
    missing_share: float
    binning: str
    bins: tuple[Bin, ...]
    figures: Figures | NotEstimable
    leaks: tuple[Leak, ...] = ()
    pinned: str = ""

    @property
    def value(self) -> float:
        """The information value, or -1 where it cannot be told; for ordering."""
        return -1.0 if isinstance(self.figures, NotEstimable) else self.figures.information_value


@dataclass(frozen=True, slots=True)
class Relevance:
    """Tags by what they tell about a goal.

    Parameters
    ----------
    rows
        Customers with a known answer.
    events
        Those for whom the goal came true.
    unknown
        Customers of the audience whose answer is not known; they are left out.
    tags
        Pinned ones first, then by information value; those that cannot be told last.
    skipped
        Tags asked for that have no values at that date, with the reason by language.
    """

    rows: int
    events: int
    unknown: int
    tags: tuple[TagRelevance, ...]
    skipped: Mapping[str, Text] = field(default_factory=dict)

    def __getitem__(self, tag: str) -> TagRelevance:
        """Return what is known about one tag; raise KeyError if it was not asked for."""
        for found in self.tags:
            if found.tag == tag:
                return found
        raise KeyError(tag)

    def key_tags(self, count: int = 10) -> tuple[TagRelevance, ...]:
        """Return the pinned tags and the best of the others, above suspicion and above chance."""
        chosen = [
            tag
            for tag in self.tags
            if tag.pinned
            or not (tag.leaks or isinstance(tag.figures, NotEstimable) or not tag.figures.is_real)
        ]
        return tuple(chosen[:count])

    def to_table(self) -> pa.Table:
        """Return one row per tag: names, figures (null if not estimable), counts, warnings."""
        return pa.Table.from_pylist([_row(tag) for tag in self.tags], schema=_SCHEMA)


def rank_tags(  # noqa: PLR0913 - a question, where it is asked, and how strictly
    goal: Goal,
    tags: TagTable,
    names: Sequence[str],
    *,
    engine: Engine,
    within: Node | None = None,
    dictionary: TagDictionary | None = None,
    pinned: Mapping[str, str] | None = None,
    monotone: bool = False,
    least_events: int = LEAST_EVENTS,
) -> Relevance:
    """Rank tags by what they tell about a goal.

    Parameters
    ----------
    goal
        What customers shall do.
    tags
        Tag values at the date from which the goal is foretold.
    names
        Tags to rank; those without values at that date are skipped with the reason.
    engine
        Two scans per 40 tags.
    within
        Look only at members of this audience; None: the whole base.
    dictionary
        Tells what tags are made from; without it leaks by descent are not looked for.
    pinned
        Tags that a planner takes by experience, with his reason.
    monotone
        Pool neighbouring bins of numbers and dates until rates only rise or only fall. A tag
        whose middle is best shows less of it.
    least_events
        With fewer events, or fewer customers without one, nothing is estimated.

    Raises
    ------
    GoalError
        If rows lack a column or name a customer twice.
    AudienceError
        If goal or audience do not bind, or a tag is unknown.

    References
    ----------
    .. [1] Siddiqi (2006), Credit Risk Scorecards, ch. 6 (information value and its bands).
    .. [2] Miller (1955), Note on the bias of information estimates.
    """
    pins = pinned or {}
    asked = list(dict.fromkeys([*pins, *names]))
    skipped = {name: tags.pending[name] for name in asked if name in tags.pending}
    wanted = [name for name in asked if name not in skipped]
    require_tags(wanted, tags)
    answers, unknown = read_goal(goal, tags, engine, within)
    events = int(pc.sum(answers["event"]).as_py() or 0)
    descent = Descent.of(goal, tags, dictionary)
    bins = 2 * BINS if monotone else BINS
    ranked = []
    for binned in count_bins(tags, wanted, answers, engine=engine, bins=bins):
        shown = _pooled(binned) if monotone and binned.is_ordered else binned
        ordered = "monotone" if monotone else "equal_frequency"
        cells = (*shown.bins, *((shown.missing,) if shown.missing.rows else ()))
        figures = _figures(shown, cells, least_events)
        area = None if isinstance(figures, NotEstimable) else figures.area
        ranked.append(
            TagRelevance(
                tag=shown.tag,
                title=tags.fields[shown.tag].title,
                known=answers.num_rows - shown.missing.rows,
                events=events,
                missing_share=shown.missing.rows / max(1, answers.num_rows),
                binning=ordered if shown.is_ordered else "categories",
                bins=cells,
                figures=figures,
                leaks=descent.leaks(shown.tag, area),
                pinned=pins.get(shown.tag, ""),
            )
        )
    ranked.sort(key=lambda tag: (not tag.pinned, -tag.value, tag.tag))
    return Relevance(answers.num_rows, events, unknown, tuple(ranked), skipped)


# ------------------------------------------------------------------------------------------ inside


def _row(tag: TagRelevance) -> dict[str, object]:
    row: dict[str, object] = {
        "tag": tag.tag,
        "title_zh": tag.title["zh"],
        "title_en": tag.title["en"],
        "known": tag.known,
        "events": tag.events,
        "missing_share": tag.missing_share,
        "binning": tag.binning,
        "leaks": [leak.kind for leak in tag.leaks],
        "pinned": tag.pinned,
    }
    told = tag.figures
    if isinstance(told, NotEstimable):
        return row | {"not_estimable": told.reason["en"]}
    figures = ("information_value", "mutual_information", "area", "lift", "by_chance")
    return (
        row
        | {name: getattr(told, name) for name in figures}
        | {"best": to_text(told.best.condition)}
    )


def _pooled(binned: Binned) -> Binned:
    """Pool neighbours so that rates only rise, or only fall, as they do on the whole."""
    if len(binned.bins) < 2:
        return binned
    rows = np.array([found.rows for found in binned.bins], dtype=np.float64)
    events = np.array([found.events for found in binned.bins], dtype=np.float64)
    place = np.arange(len(rows)) - np.average(np.arange(len(rows)), weights=rows)
    rising = bool((place * (events - rows * events.sum() / rows.sum())).sum() >= 0)
    bins = merge(binned.bins, pool_monotone(events, rows, rising=rising))
    return Binned(binned.tag, True, bins, binned.missing, binned.distinct)


def _figures(binned: Binned, cells: Sequence[Bin], least_events: int) -> Figures | NotEstimable:
    """Measure what bins tell, or say why it cannot be told."""
    if binned.is_crowded:
        return NotEstimable(
            {
                "zh": f"有 {binned.distinct} 个不同取值，无法作为分类。",
                "en": f"It has {binned.distinct} different values: names, not categories.",
            }
        )
    rows = np.array([cell.rows for cell in cells], dtype=np.float64)
    events = np.array([cell.events for cell in cells], dtype=np.float64)
    others = rows - events
    if min(events.sum(), others.sum()) < least_events:
        few = int(min(events.sum(), others.sum()))
        return NotEstimable(
            {
                "zh": f"目标达成或未达成的客户只有 {few} 户，少于 {least_events} 户。",
                "en": f"Only {few} customers did it, or only {few} did not; "
                f"at least {least_events} of both are needed.",
            }
        )
    if len(cells) < 2:
        return NotEstimable(
            {"zh": "所有客户取值相同或只有一个区间。", "en": "All customers are in one bin."}
        )
    large = [cell for cell in cells if cell.rows >= LEAST_BIN_ROWS] or list(cells)
    best = max(large, key=lambda cell: cell.rate or 0.0)
    return Figures(
        information_value=information_value(events, others),
        mutual_information=mutual_information(events, others),
        area=_area(events, others),
        lift=(best.rate or 0.0) / float(events.sum() / rows.sum()),
        best=best,
        by_chance=_by_chance(events, others),
    )


def information_value(events: Floats, others: Floats) -> float:
    """Return the information value of bins; half a customer is added to every cell.

    Examples
    --------
    >>> information_value(np.array([10.0, 10.0]), np.array([50.0, 50.0]))
    0.0
    """
    p, q = (events + 0.5) / (events + 0.5).sum(), (others + 0.5) / (others + 0.5).sum()
    return float(((p - q) * np.log(p / q)).sum())


def mutual_information(events: Floats, others: Floats) -> float:
    """Return the mutual information of bin and goal in bits, less its bias, at least 0."""
    cells = np.stack([events, others])
    total = cells.sum()
    expected = np.outer(cells.sum(axis=1), cells.sum(axis=0)) / total
    seen = cells > 0
    plain = float((cells[seen] / total * np.log2(cells[seen] / expected[seen])).sum())
    bias = (len(events) - 1) / (2 * float(total) * float(np.log(2)))
    return max(0.0, plain - bias)


def _area(events: Floats, others: Floats) -> float:
    order = np.argsort(-events / (events + others), kind="stable")
    hits = np.append(0.0, np.cumsum(events[order])) / events.sum()
    false = np.append(0.0, np.cumsum(others[order])) / others.sum()
    return float(((false[1:] - false[:-1]) * (hits[1:] + hits[:-1]) / 2).sum())


def _by_chance(events: Floats, others: Floats) -> float:
    """Return the chi-squared test's probability; every bin has somebody."""
    from scipy.special import gammaincc  # scipy.stats says the same and takes seconds to import

    cells = np.stack([events, others])
    expected = np.outer(cells.sum(axis=1), cells.sum(axis=0)) / cells.sum()
    statistic = float(((cells - expected) ** 2 / expected).sum())
    return float(gammaincc((len(events) - 1) / 2, statistic / 2))


_SCHEMA = pa.schema(
    [
        ("tag", pa.string()),
        ("title_zh", pa.string()),
        ("title_en", pa.string()),
        ("information_value", pa.float64()),
        ("mutual_information", pa.float64()),
        ("area", pa.float64()),
        ("lift", pa.float64()),
        ("best", pa.string()),
        ("by_chance", pa.float64()),
        ("known", pa.int64()),
        ("events", pa.int64()),
        ("missing_share", pa.float64()),
        ("binning", pa.string()),
        ("leaks", pa.list_(pa.string())),
        ("pinned", pa.string()),
        ("not_estimable", pa.string()),
    ]
)
