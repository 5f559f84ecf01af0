"""What a plan is expected to bring, as intervals: conversions, cost, profit, effect on the goal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from bihuan.decision.rehearsal.calibrate import (
    Assumptions,
    Calibration,
    PastContacts,
    bounded_logit,
    calibrate,
)
from bihuan.decision.value import Candidate
from bihuan.kernel import NotEstimable, UserError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

BINS = 16  # customers of one cell with nearly the same propensity are drawn together
NO_CONTACT = NotEstimable({"zh": "方案没有任何接触。", "en": "The plan makes no contact."})


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure that is not known yet.

    Parameters
    ----------
    mean
        Expected value.
    low, high
        Between them it lies with the probability stated beside it.
    """

    mean: float
    low: float
    high: float

    def contains(self, value: float) -> bool:
        """Whether a figure that came out lies inside, the ends included."""
        return self.low <= value <= self.high


@dataclass(frozen=True, slots=True)
class CellForecast:
    """One offer through one channel.

    Parameters
    ----------
    offer_id, channel
        The cell.
    contacts
        Planned contacts, held-out customers not counted.
    claimed
        Acceptances that the plan's own propensities add up to.
    expected
        Acceptances to be expected in the light of history.
    past_contacts, past_accepted
        Earlier contacts of this very cell, and how many of them accepted.
    overclaim
        Claimed rate over the rate that history lets expect.
    p_value
        Two-sided chance of an error of the claim at least as large, given history.
    """

    offer_id: str
    channel: str
    contacts: int
    claimed: float
    expected: Interval
    past_contacts: int
    past_accepted: int
    overclaim: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the plan is expected to bring; intervals hold with probability ``level``.

    Parameters
    ----------
    level
        Of every interval.
    contacts
        Planned contacts.
    claimed
        Acceptances that the plan's own propensities add up to.
    conversions
        Acceptances to be expected; sampling noise and doubt about the rates included.
    spend
        Contacts and gifts, in the workspace's currency.
    profit
        Margin of the conversions less spend, in the workspace's currency.
    roi
        Profit over spend; not estimable where nothing is spent.
    cost_per_conversion
        Spend over conversions, in the workspace's currency.
    effect
        Mean rise of the goal's metric per contacted customer.
    goal_chance
        Probability that the effect reaches the goal's target.
    loss_chance
        Probability of a profit below 0.
    backing
        Share of the expected conversions whose own cell has been tried before, 0..1.
    overclaim, p_value
        As for a cell, over the whole plan.
    drift
        How far campaigns have differed from each other, standard deviation in logit.
    cells
        By offer and channel, in the order of the candidates.
    """

    level: float
    contacts: int
    claimed: float
    conversions: Interval
    spend: Interval
    profit: Interval
    roi: Interval | NotEstimable
    cost_per_conversion: Interval | NotEstimable
    effect: Interval | NotEstimable
    goal_chance: float | NotEstimable
    loss_chance: float
    backing: float | NotEstimable
    overclaim: float | NotEstimable
    p_value: float
    drift: float
    cells: tuple[CellForecast, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Contacts:
    """The contacts that a plan would really make, one entry each, shape ``(k,)``.

    Parameters
    ----------
    candidate
        Position in the plan's candidates.
    propensity
        Claimed probability of acceptance, 0..1.
    margin
        Earned by an acceptance after its gift, in the workspace's currency.
    gift
        Spent on an acceptance, in the workspace's currency, >= 0.
    cost
        Spent on the contact, in the workspace's currency, >= 0.
    metric
        What one acceptance adds to the goal's metric of its customer; or why it is not known.
    scale
        Contacts of the whole audience per contact here; 1 unless a sample is rehearsed.
    scale_error
        Relative standard error of the number of contacts that comes from sampling.
    """

    candidate: Ints
    propensity: Floats
    margin: Floats
    gift: Floats
    cost: Floats
    metric: Floats | NotEstimable
    scale: float = 1.0
    scale_error: float = 0.0


def forecast(
    candidates: Sequence[Candidate],
    contacts: Contacts,
    history: Sequence[PastContacts],
    *,
    target: float,
    assumptions: Assumptions,
    rng: np.random.Generator,
) -> Forecast:
    """Say what the contacts will bring, in the light of what earlier ones have brought.

    Parameters
    ----------
    candidates
        Of the plan.
    contacts
        Treated customers alone.
    history
        Earlier contacts, oldest first; may be empty, then the claims stand with the spread that
        ``assumptions`` give them.
    target
        Wanted effect on the goal's metric per contacted customer.
    assumptions
        Spreads, level and number of draws.
    rng
        Of the draws; the same one gives the same forecast.

    Returns
    -------
    Forecast
        Every draw is one campaign: rates drawn from what history leaves open, then one binomial
        draw for each group of customers with the same propensity.

    Raises
    ------
    UserError
        If an array has another length than the others, or a propensity is not within 0..1.
    """
    _require_contacts(contacts)
    groups = _group(candidates, contacts)
    claims = {key: group.claimed / group.count.sum() for key, group in groups.items()}
    found = calibrate(claims, history, assumptions=assumptions, rng=rng)
    spread = 1 + contacts.scale_error * rng.standard_normal(assumptions.draws)
    size = contacts.scale * np.maximum(spread, 0.0)
    draws = _Draws(size, contacts, assumptions.draws)
    cells = [
        draws.add(key, group, found, i, assumptions.level, rng)
        for i, (key, group) in enumerate(groups.items())
    ]
    return draws.total(tuple(cells), target, found, assumptions.level)


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """The contacts of one cell in bins of like propensity; arrays of shape ``(bins,)``."""

    count: Ints
    logit: Floats
    margin: Floats
    gift: Floats
    metric: Floats | None
    claimed: float


def _group(candidates: Sequence[Candidate], contacts: Contacts) -> dict[tuple[str, str], _Group]:
    """Put the contacts into cells, and those into bins; steps of one cell belong together."""
    keys = [(c.offer_id, c.channel) for c in candidates]
    order = list(dict.fromkeys(keys))
    cell = np.array([order.index(key) for key in keys], dtype=np.int64)[contacts.candidate]
    groups = {}
    for i, key in enumerate(order):
        at = np.flatnonzero(cell == i)
        if len(at):
            groups[key] = _bin(contacts, at)
    return groups


def _bin(contacts: Contacts, at: Ints) -> _Group:
    chance = contacts.propensity[at]
    place = np.argsort(chance, kind="stable")
    label = np.empty(len(at), dtype=np.int64)
    label[place] = np.arange(len(at)) * BINS // len(at)
    count = np.bincount(label, minlength=BINS)
    used = count > 0
    weight = np.maximum(chance, 1e-12)  # who accepts is whoever is likely to
    total = np.bincount(label, weights=weight, minlength=BINS)[used]

    def mean(values: Floats) -> Floats:
        return np.asarray(np.bincount(label, weights=weight * values, minlength=BINS)[used] / total)

    metric = contacts.metric
    return _Group(
        count=count[used],
        logit=bounded_logit(np.bincount(label, weights=chance, minlength=BINS)[used] / count[used]),
        margin=mean(contacts.margin[at]),
        gift=mean(contacts.gift[at]),
        metric=None if isinstance(metric, NotEstimable) else mean(metric[at]),
        claimed=float(chance.sum()),
    )


class _Draws:
    """Sums over the cells, draw by draw."""

    def __init__(self, size: Floats, contacts: Contacts, n: int) -> None:
        self.size, self.contacts = size, contacts
        self.conversions, self.mean_rate = np.zeros(n), np.zeros(n)
        self.margin, self.gift, self.metric = np.zeros(n), np.zeros(n), np.zeros(n)
        self.backed = self.claimed = 0.0

    def add(
        self,
        key: tuple[str, str],
        group: _Group,
        found: Calibration,
        column: int,
        level: float,
        rng: np.random.Generator,
    ) -> CellForecast:
        """Draw one cell and add it to the sums."""
        rate = expit(group.logit[None, :] + found.shift[:, column, None])
        number = np.rint(group.count[None, :] * self.size[:, None]).astype(np.int64)
        yes = rng.binomial(number, rate).astype(np.float64)
        cell = yes.sum(axis=1)
        self.conversions += cell
        self.margin += yes @ group.margin
        self.gift += yes @ group.gift
        if group.metric is not None:
            self.metric += yes @ group.metric
        expected = rate @ group.count
        self.mean_rate += expected
        self.claimed += group.claimed
        past = found.past[column]
        if past[0]:
            self.backed += float(cell.mean())
        return CellForecast(
            offer_id=key[0],
            channel=key[1],
            contacts=int(np.rint(group.count.sum() * self.contacts.scale)),
            claimed=group.claimed * self.contacts.scale,
            expected=interval(cell, level),
            past_contacts=int(past[0]),
            past_accepted=int(past[1]),
            overclaim=group.claimed / max(float(expected.mean()), 1e-12),
            p_value=_two_sided(expected, group.claimed),
        )

    def total(
        self, cells: tuple[CellForecast, ...], target: float, found: Calibration, level: float
    ) -> Forecast:
        """Put the sums together."""
        contacts = self.contacts
        number = len(contacts.candidate) * self.size
        spend = self.gift + contacts.cost.sum() * self.size
        profit = self.margin - contacts.cost.sum() * self.size  # the margin has paid the gift
        some, converted = number > 0, float(self.conversions.mean())
        effect: Interval | NotEstimable = NO_CONTACT
        chance: float | NotEstimable = NO_CONTACT
        if isinstance(contacts.metric, NotEstimable):
            effect = chance = contacts.metric
        elif some.any():
            rise = self.metric[some] / number[some]
            effect, chance = interval(rise, level), float((rise >= target).mean())
        return Forecast(
            level=level,
            contacts=int(np.rint(len(contacts.candidate) * contacts.scale)),
            claimed=self.claimed * contacts.scale,
            conversions=interval(self.conversions, level),
            spend=interval(spend, level),
            profit=interval(profit, level),
            roi=_ratio(profit, spend, level),
            cost_per_conversion=_ratio(spend, self.conversions, level),
            effect=effect,
            goal_chance=chance,
            loss_chance=float((profit < 0).mean()),
            backing=self.backed / converted if converted else NO_CONTACT,
            overclaim=(
                self.claimed / float(self.mean_rate.mean()) if self.mean_rate.any() else NO_CONTACT
            ),
            p_value=_two_sided(self.mean_rate, self.claimed) if cells else 1.0,
            drift=found.drift,
            cells=cells,
        )


def interval(draws: Floats, level: float) -> Interval:
    """Return mean and central interval of draws.

    Parameters
    ----------
    draws
        Shape ``(n,)``, n >= 1.
    level
        Probability inside, between 0 and 1.

    Examples
    --------
    >>> interval(np.arange(101.0), 0.5)
    Interval(mean=50.0, low=25.0, high=75.0)
    """
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(draws.mean()), float(low), float(high))


def _ratio(above: Floats, below: Floats, level: float) -> Interval | NotEstimable:
    some = below > 0
    if some.mean() < 0.99:  # then the ratio has no mean worth stating
        return NotEstimable(
            {"zh": "分母可能为零，无法估计比值。", "en": "The denominator may well be 0."}
        )
    return interval(above[some] / below[some], level)


def _two_sided(draws: Floats, claim: float) -> float:
    below = float((draws <= claim).mean())
    return min(1.0, 2 * max(min(below, 1 - below), 0.5 / len(draws)))


def _require_contacts(contacts: Contacts) -> None:
    lengths = {
        len(contacts.candidate), len(contacts.propensity), len(contacts.margin),
        len(contacts.gift), len(contacts.cost),
        len(contacts.candidate) if isinstance(contacts.metric, NotEstimable)
        else len(contacts.metric),
    }  # fmt: skip
    chance = contacts.propensity
    if len(lengths) != 1 or not ((chance >= 0) & (chance <= 1)).all() or contacts.scale <= 0:
        raise UserError(
            f"Contacts of a rehearsal do not go together: lengths {sorted(lengths)}, scale "
            f"{contacts.scale}, or a propensity outside 0..1.",
            remedy="Give one entry per contact in every array.",
            zh=f"预演的接触数据不一致：长度 {sorted(lengths)}，放大倍数 {contacts.scale}，"
            "或响应概率不在 0 到 1 之间。",
        )
