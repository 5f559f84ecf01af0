"""What a contact is worth: propensity x margin x context x lever - contact cost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bihuan.kernel import UserError

FACTORS = ("propensity", "margin", "context", "lever", "cost")


class FactorError(UserError):
    """Factors that cannot be read as the value of contacts."""


@dataclass(frozen=True, slots=True, order=True)
class Candidate:
    """One thing that may be done with a customer: an offer through a channel at a step.

    Parameters
    ----------
    offer_id
        Offer of the catalogue.
    channel
        Channel kind (``outbound``, ``sms``, ...).
    step
        Wave of the campaign, 1 = the first.

    Examples
    --------
    >>> Candidate("contract_24", "outbound").name
    'contract_24 · outbound · 1'
    """

    offer_id: str
    channel: str
    step: int = 1

    @property
    def name(self) -> str:
        """Offer, channel and step in one text."""
        return f"{self.offer_id} · {self.channel} · {self.step}"


def expected_value(
    propensity: ArrayLike,
    margin: ArrayLike,
    cost: ArrayLike,
    *,
    context: ArrayLike = 1.0,
    lever: ArrayLike = 1.0,
    off: Collection[str] = (),
) -> NDArray[np.float64]:
    """Return what contacting each customer with each candidate is expected to bring.

    Parameters
    ----------
    propensity
        Probability that the contact ends in a sale, 0..1, shape ``(n_customers, n_candidates)``.
        Where effects were learnt, the difference that the contact makes.
    margin
        Of one sale over the life of the product, in the workspace's currency.
    cost
        Of one contact, in the workspace's currency, >= 0.
    context
        How much the present situation of the customer raises or lowers the propensity (a key
        moment, a scene); a factor >= 0.
    lever
        What the business wants to push, per candidate or pair; a factor >= 0.
    off
        Names of factors to leave out: ``propensity``, ``margin``, ``context`` and ``lever``
        count as 1, ``cost`` as 0.

    Returns
    -------
    numpy.ndarray
        In the workspace's currency per contact, float64, shape ``(n_customers, n_candidates)``.
        NaN (not eligible) wherever a factor in use is NaN.

    Raises
    ------
    FactorError
        If a factor has a shape that does not fit, lies outside its range, or ``off`` names
        something else.

    Notes
    -----
    Every factor but the propensity is one number, one per candidate ``(n_candidates,)``, one per
    customer ``(n_customers, 1)`` or one per pair. The propensity gives the shape even when it is
    off, and its NaN stay not eligible.

    Examples
    --------
    >>> expected_value([[0.1, 0.02]], [300.0, 900.0], [6.0, 0.1]).round(2).tolist()
    [[24.0, 17.9]]
    >>> expected_value([[0.1, np.nan]], [300.0, 900.0], [6.0, 0.1], off=["cost"]).tolist()
    [[30.0, nan]]
    """
    unknown = sorted(set(off) - set(FACTORS))
    if unknown:
        raise FactorError(
            f"No factor is called {unknown[0]!r}.",
            remedy=f"Choose from {', '.join(FACTORS)}.",
            zh=f"没有名为“{unknown[0]}”的因子,请从 {'、'.join(FACTORS)} 中选择。",
        )
    chance = np.asarray(propensity, dtype=np.float64)
    if chance.ndim != 2:
        raise FactorError(
            f"propensity has shape {chance.shape}.",
            remedy="Give one row per customer and one column per candidate.",
            zh=f"propensity 的形状为 {chance.shape},应为“客户 × 候选”。",
        )
    _require_range("propensity", chance, high=1.0)
    value = np.where(np.isnan(chance), np.nan, 1.0) if "propensity" in off else chance.copy()
    factors = {"margin": margin, "context": context, "lever": lever}
    for name, factor in factors.items():
        if name not in off:
            # a sale may lose money, so a margin may be negative; the other two may not
            value *= _fit(name, factor, chance.shape, low=-np.inf if name == "margin" else 0.0)
    if "cost" not in off:
        value -= _fit("cost", cost, chance.shape, low=0.0)
    return value


def require_candidates(candidates: Sequence[Candidate]) -> None:
    """Raise :class:`FactorError` if a candidate stands twice in the list."""
    seen: set[Candidate] = set()
    for candidate in candidates:
        if candidate in seen:
            raise FactorError(
                f"Candidate '{candidate.name}' is listed twice.",
                remedy="List every offer, channel and step once.",
                zh=f"候选“{candidate.name}”重复出现,请只列一次。",
            )
        seen.add(candidate)


def _fit(
    name: str, factor: ArrayLike, shape: tuple[int, ...], *, low: float
) -> NDArray[np.float64]:
    array = np.asarray(factor, dtype=np.float64)
    n, m = shape
    if array.shape not in ((), (m,), (n, 1), (n, m)):
        raise FactorError(
            f"{name} has shape {array.shape}; there are {n} customers and {m} candidates.",
            remedy=f"Give one number, or an array of shape ({m},), ({n}, 1) or ({n}, {m}).",
            zh=f"{name} 的形状为 {array.shape},与 {n} 位客户、{m} 个候选不符。",
        )
    _require_range(name, array, low=low)
    return array


def _require_range(
    name: str, array: NDArray[np.float64], *, low: float = 0.0, high: float = np.inf
) -> None:
    bad = (array < low) | (array > high) | np.isinf(array)
    if bad.any():
        at = tuple(int(i) for i in np.argwhere(bad)[0])
        reach = f"{low:g}..{high:g}"
        raise FactorError(
            f"{name} is {array[at]} at position {at}.",
            remedy=f"Give finite numbers within {reach}; NaN means not eligible.",
            zh=f"{name} 在位置 {at} 的值为 {array[at]},应为 {reach} 之间的有限数,不可选用 NaN。",
        )
