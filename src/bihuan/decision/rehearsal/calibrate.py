"""What earlier contacts say about the rates that a plan claims.

A plan claims an acceptance rate for every cell, that is offer x channel. Earlier campaigns have
shown rates of the same cells, of other offers through the same channel, and routine contacts have
shown rates of the channel alone. On the logit scale the true rate of a cell lies off the claim by

    common error + error of the channel + error of the offer + error of the cell + drift,

each normal. Earlier campaigns have seen that sum with binomial noise; the rehearsed one has the
errors in common with them and a drift of its own. That is a Gaussian process with a binomial
likelihood, solved by Laplace's approximation; how large the drift is, is learnt from how much
campaigns differed, with a half-normal prior.

References
----------
.. [1] Rasmussen and Williams (2006), Gaussian Processes for Machine Learning, section 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit, log_expit, logit

from bihuan.kernel import UserError

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

LOWEST_RATE = 1e-4  # logits of 0 and 1 are not finite
NEWTON_STEPS = 40
CENTRE_STEPS = 12
DRIFT_STEPS = 12  # points of the grid of drifts, from 0 to three prior scales
MOST_OBSERVATIONS = 400  # the newest; the cost grows with the third power


class HistoryError(UserError):
    """A history of contacts that contradicts itself."""


@dataclass(frozen=True, slots=True)
class PastContacts:
    """What came of earlier contacts with one offer through one channel in one campaign.

    Parameters
    ----------
    campaign_id
        The campaign they belonged to.
    offer_id
        Offer; empty where only the channel is on record (routine contacts).
    channel
        Channel kind.
    contacts
        Contacts sent, > 0.
    accepted
        Those that ended in a yes, 0..contacts.
    ordered
        Those that ended in an order, 0..accepted.

    Raises
    ------
    HistoryError
        If the counts contradict each other.
    """

    campaign_id: str
    offer_id: str
    channel: str
    contacts: int
    accepted: int
    ordered: int

    def __post_init__(self) -> None:
        if not (0 <= self.ordered <= self.accepted <= self.contacts and self.contacts > 0):
            raise HistoryError(
                f"History of '{self.campaign_id}', offer '{self.offer_id}', {self.channel}: "
                f"{self.ordered} ordered, {self.accepted} accepted of {self.contacts} contacts.",
                remedy="Orders are among the accepted, those among the contacts.",
                zh=f"方案 {self.campaign_id} 的历史自相矛盾：接触 {self.contacts}，"
                f"同意 {self.accepted}，订购 {self.ordered}。请核对回单。",
            )


@dataclass(frozen=True, slots=True)
class Assumptions:
    """How far claims and campaigns are expected to be off; standard deviations in logit.

    Parameters
    ----------
    common, channel, offer, cell
        Errors of the planner's rates: of all together, of a channel, of an offer, of one offer
        in one channel.
        0.5 means that a claimed 10 % is between about 4 % and 23 % in 19 of 20 cases.
    routine
        How far an unnamed offer of the routine may be off a channel's usual rate.
    drift
        Prior scale of what changes from one campaign to the next; 0 if nothing does.
    level
        Probability that an interval holds what will happen, between 0 and 1.
    draws
        Simulated campaigns behind an interval.
    """

    common: float = 0.5
    channel: float = 0.3
    offer: float = 0.3
    cell: float = 0.2
    routine: float = 1.0
    drift: float = 0.15
    level: float = 0.9
    draws: int = 4000

    def __post_init__(self) -> None:
        spreads = (
            self.common, self.channel, self.offer, self.cell, self.routine, self.drift
        )  # fmt: skip
        if min(spreads) < 0 or not 0 < self.level < 1 or self.draws < 100:
            raise UserError(
                f"Assumptions of a rehearsal are impossible: {self}.",
                remedy="Give spreads >= 0, a level between 0 and 1 and at least 100 draws.",
                zh="预演假设有误：离散度不得为负，置信水平须在 0 到 1 之间，模拟次数至少 100。",
            )


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """How far the claimed rates of the cells are off, drawn from what history leaves open.

    Parameters
    ----------
    shift
        Added to the logit of a claimed rate, shape ``(draws, n_cells)``.
    drift
        Mean of the learnt drift between campaigns, in logit, >= 0.
    past
        Earlier contacts and acceptances of each cell itself, shape ``(n_cells, 2)``.
    """

    shift: Floats
    drift: float
    past: Indices


def calibrate(
    claims: Mapping[tuple[str, str], float],
    history: Sequence[PastContacts],
    *,
    assumptions: Assumptions,
    rng: np.random.Generator,
) -> Calibration:
    """Draw how far claimed rates are off, given what earlier contacts have shown.

    Parameters
    ----------
    claims
        Claimed rate by offer id and channel kind, 0..1.
    history
        Earlier contacts, oldest first. Cells of channels that the plan does not use say
        something about the common error only if their offer and channel have a claim, so they
        are left out.
    assumptions
        Spreads and number of draws.
    rng
        Of the draws.

    Returns
    -------
    Calibration
        In the order of ``claims``. Without history it is what ``assumptions`` say.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> past = [PastContacts("c", "pack", "sms", 10_000, 500, 400)]
    >>> found = calibrate(
    ...     {("pack", "sms"): 0.1}, past, assumptions=Assumptions(drift=0.0), rng=rng
    ... )
    >>> round(float(expit(logit(0.1) + found.shift.mean())), 3)
    0.05
    """
    cells = list(claims)
    seen = [row for row in history if any(row.channel == channel for _, channel in cells)]
    seen = seen[-MOST_OBSERVATIONS:]
    own = np.zeros((len(cells), 2), dtype=np.int64)
    for row in seen:
        if (row.offer_id, row.channel) in claims:
            own[cells.index((row.offer_id, row.channel))] += (row.contacts, row.accepted)
    process = _Process(claims, seen, assumptions)
    # middles of even steps, so that every point stands for as much of the prior
    steps = (np.arange(DRIFT_STEPS) + 0.5) / DRIFT_STEPS
    grid = 3 * assumptions.drift * steps if assumptions.drift else np.zeros(1)
    fits = [process.fit(drift) for drift in grid]
    evidence = np.array([fit.evidence for fit in fits])
    if assumptions.drift:
        evidence = evidence - 0.5 * (grid / assumptions.drift) ** 2
    weight = np.exp(evidence - evidence.max())
    weight /= weight.sum()
    shift = np.empty((assumptions.draws, len(cells)))
    of_drift = rng.choice(len(grid), size=assumptions.draws, p=weight)
    for i, fit in enumerate(fits):
        at = np.flatnonzero(of_drift == i)
        noise = rng.standard_normal((len(at), len(cells)))
        shift[at] = fit.mean + noise @ fit.root.T
    return Calibration(shift, float(weight @ grid), own)


def bounded_logit(rate: Floats) -> Floats:
    """Return the logit of rates, kept off 0 and 1.

    Parameters
    ----------
    rate
        0..1, of any shape.
    """
    return np.asarray(logit(np.clip(rate, LOWEST_RATE, 1 - LOWEST_RATE)), dtype=np.float64)


def centre_of(logits: Floats, variance: Floats) -> Floats:
    """Return the mean logit with which a doubtful rate is the given one on average.

    Without history the expected rate shall be the claimed one; the rate at the mean logit is not,
    because the logistic curve bends.

    Parameters
    ----------
    logits
        Of the rates wanted on average, shape ``(n,)``.
    variance
        Of the logit, >= 0, shape ``(n,)``.

    Examples
    --------
    >>> round(float(centre_of(np.array([-2.0]), np.array([1.0]))[0]), 2)
    -2.35
    """
    node, weight = np.polynomial.hermite_e.hermegauss(24)
    weight = weight / weight.sum()
    spread = np.sqrt(variance)[:, None] * node
    wanted, found = expit(logits), logits.copy()
    for _ in range(CENTRE_STEPS):
        rate = expit(found[:, None] + spread)
        slope = (rate * (1 - rate)) @ weight
        found = found - np.clip((rate @ weight - wanted) / np.maximum(slope, 1e-12), -1, 1)
    return np.asarray(found)


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """The posterior of the cells' shifts under one drift: mean, root of covariance, evidence."""

    mean: Floats
    root: Floats
    evidence: float


class _Process:
    """The Gaussian process over (campaign, offer, channel); a drift of 0 is the base case."""

    def __init__(
        self,
        claims: Mapping[tuple[str, str], float],
        seen: Sequence[PastContacts],
        assumptions: Assumptions,
    ) -> None:
        target = [("", offer, channel) for offer, channel in claims]
        points = [(row.campaign_id, row.offer_id, row.channel) for row in seen]
        usual = {
            channel: float(np.mean([r for (_, c), r in claims.items() if c == channel]))
            for _, channel in claims
        }
        rates = [claims.get((row.offer_id, row.channel), usual[row.channel]) for row in seen]
        self.rate = np.array([*rates, *claims.values()])
        self.n = np.array([row.contacts for row in seen], dtype=np.float64)
        self.y = np.array([row.accepted for row in seen], dtype=np.float64)
        both = points + target
        self.split = len(points)
        self.base = _covariance(both, set(claims), assumptions)
        campaign = np.array([point[0] for point in both], dtype=object)
        self.same_campaign = (campaign[:, None] == campaign[None, :]).astype(np.float64)

    def fit(self, drift: float) -> _Fit:
        """Return the posterior under a drift of that standard deviation."""
        k = self.split
        cov = self.base + drift**2 * self.same_campaign
        logits = bounded_logit(self.rate)
        centre = centre_of(logits, np.diag(cov)) - logits
        if not k:
            return _Fit(centre, _root(cov), 0.0)
        within, across = cov[:k, :k], cov[:k, k:]
        weight, gradient, evidence = self._mode(within, logits[:k] + centre[:k])
        root = np.sqrt(weight)
        factor = cho_factor(np.eye(k) + root[:, None] * within * root[None, :])
        solved = cho_solve(factor, root[:, None] * across)
        posterior = cov[k:, k:] - (root[:, None] * across).T @ solved
        return _Fit(centre[k:] + across.T @ gradient, _root(posterior), evidence)

    def _mode(self, cov: Floats, offset: Floats) -> tuple[Floats, Floats, float]:
        """Return weights and gradient at the mode, and the evidence [1, algorithm 3.1]."""
        f, a = np.zeros(self.split), np.zeros(self.split)
        goal = self._goal(offset + f, float(a @ f))
        for _ in range(NEWTON_STEPS):
            weight, gradient, root = self._curve(offset + f)
            b = weight * f + gradient
            factor = cho_factor(np.eye(self.split) + root[:, None] * cov * root[None, :])
            step = b - root * cho_solve(factor, root * (cov @ b)) - a
            size, new = 2.0, -np.inf
            while new < goal and size > 1e-6:  # a full step may overshoot at extreme rates
                size /= 2
                trial = a + size * step
                new = self._goal(offset + cov @ trial, float(trial @ cov @ trial))
            a, f = trial, cov @ trial
            if new - goal < 1e-9 * max(1.0, abs(new)):
                break
            goal = new
        weight, gradient, root = self._curve(offset + f)
        _, log_size = np.linalg.slogdet(np.eye(self.split) + root[:, None] * cov * root[None, :])
        return weight, gradient, self._goal(offset + f, float(a @ f)) - 0.5 * float(log_size)

    def _curve(self, eta: Floats) -> tuple[Floats, Floats, Floats]:
        """Return curvature and slope of the likelihood, and the root of the curvature."""
        rate = expit(eta)
        weight = np.maximum(self.n * rate * (1 - rate), 1e-12)
        return weight, self.y - self.n * rate, np.sqrt(weight)

    def _goal(self, eta: Floats, penalty: float) -> float:
        likelihood = self.y * log_expit(eta) + (self.n - self.y) * log_expit(-eta)
        return float(likelihood.sum()) - 0.5 * penalty


def _covariance(
    points: Sequence[tuple[str, str, str]], claimed: set[tuple[str, str]], spread: Assumptions
) -> Floats:
    """Return the covariance of the shifts without drift, shape ``(n_points, n_points)``."""
    channel = np.array([point[2] for point in points], dtype=object)
    offer = np.array([point[1] for point in points], dtype=object)
    cell = np.array([f"{point[1]}\x00{point[2]}" for point in points], dtype=object)
    # an offer without a claim is compared with the channel's usual one: it may be anything
    own = np.where(
        [(point[1], point[2]) in claimed for point in points], spread.cell, spread.routine
    )
    same_cell = (cell[:, None] == cell[None, :]) * (own[:, None] * own[None, :])
    same_channel = (channel[:, None] == channel[None, :]) * spread.channel**2
    same_offer = (offer[:, None] == offer[None, :]) * spread.offer**2
    return np.asarray(spread.common**2 + same_channel + same_offer + same_cell, dtype=np.float64)


def _root(cov: Floats) -> Floats:
    """Return a root of a covariance that may be singular."""
    value, vector = np.linalg.eigh((cov + cov.T) / 2)
    return np.asarray(vector * np.sqrt(np.maximum(value, 0.0)), dtype=np.float64)
