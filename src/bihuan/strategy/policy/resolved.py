"""The resolved view: what holds for one unit and one offer, and which level said so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bihuan.strategy.policy.limit import (
    ANY,
    Cap,
    Hours,
    Value,
    field_of,
    is_empty,
    meet,
    over,
    text_of,
)
from bihuan.strategy.policy.statement import PolicyStatement


@dataclass(frozen=True, slots=True)
class Step:
    """One statement that tightened a limit.

    Parameters
    ----------
    statement
        Who said it, where.
    tier
        Tier of the unit that said it.
    said
        What it said.
    left
        What was left after it.
    """

    statement: PolicyStatement
    tier: str
    said: Value
    left: Value


@dataclass(frozen=True, slots=True)
class ResolvedLimit:
    """A limit after all levels have spoken.

    Parameters
    ----------
    facet
        Which limit; see :data:`~bihuan.strategy.policy.limit.Limits`.
    trail
        The statements that set or tightened it, from the top down; at least one.
    """

    facet: str
    trail: tuple[Step, ...]

    @property
    def value(self) -> Value:
        """What holds."""
        return self.trail[-1].left

    @property
    def set_by(self) -> Step:
        """The last statement that tightened it: whom to ask for a change."""
        return self.trail[-1]


ResolvedLimits = Mapping[str, ResolvedLimit]


def resolve_limits(chain: Sequence[PolicyStatement], tiers: Sequence[str]) -> ResolvedLimits:
    """Let all statements of a path speak, from the top down and from general to specific.

    Parameters
    ----------
    chain
        Statements about the offer, in that order.
    tiers
        Tier of the unit of each.
    """
    trails: dict[str, list[Step]] = {}
    for statement, tier in zip(chain, tiers, strict=True):
        for facet, said in statement.limits.items():
            trail = trails.setdefault(facet, [])
            left = meet(facet, trail[-1].left, said) if trail else said
            if not trail or left != trail[-1].left:
                trail.append(Step(statement, tier, said, left))
    return {facet: ResolvedLimit(facet, tuple(trail)) for facet, trail in trails.items()}


def whole(limits: ResolvedLimits, facet: str) -> Value | None:
    """Return what holds for a facet together with that of all channels; None if nothing does."""
    values = [limits[name].value for name in over(facet) if name in limits]
    if not values:
        return None
    return values[0] if len(values) == 1 else meet(facet, *values)


def empty_facets(limits: ResolvedLimits) -> tuple[str, ...]:
    """Return the facets of which nothing is left: no channel, no hour, no price."""
    found = []
    for facet in limits:
        value = whole(limits, facet)
        if value is not None and is_empty(facet, value):
            found.append(facet)
    low, high = limits.get("price.low"), limits.get("price.high")
    if low is not None and high is not None and low.value > high.value:  # type: ignore[operator]
        found.append("price.low")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class ResolvedPolicy:
    """What a unit may do with an offer, after all levels have spoken.

    Parameters
    ----------
    unit_id, offer_id, kind
        For whom and for what; ``kind`` is the offer's.
    limits
        By facet; a facet that nobody spoke of is not there and not limited.
    decided_by
        Units on the path that may set the strategy for this kind of offer, from the top down.
    framed_by
        Units on the path that may set bounds alone.
    is_decided
        Whether somebody has: a kind that needs a lower level's detail is not decided by the
        frame alone.
    """

    unit_id: str
    offer_id: str
    kind: str
    limits: ResolvedLimits
    decided_by: tuple[str, ...]
    framed_by: tuple[str, ...]
    is_decided: bool

    @property
    def is_offered(self) -> bool:
        """Whether the unit may offer it at all."""
        limit = self.limits.get("offers")
        return limit is None or self.offer_id in limit.value  # type: ignore[operator]

    @property
    def channels(self) -> frozenset[str] | None:
        """Channel kinds allowed; None = not limited."""
        return self._value("channels")  # type: ignore[return-value]

    def allows(self, channel: str) -> bool:
        """Whether the offer may be offered through a channel kind by this unit."""
        channels = self.channels
        return self.is_offered and (channels is None or channel in channels)

    def hours(self, channel: str) -> Hours | None:
        """Return the local hours in which the channel may be used; None = not limited."""
        return whole(self.limits, f"hours.{channel}")  # type: ignore[return-value]

    def caps(self, channel: str = ANY) -> tuple[Cap, ...]:
        """Return the caps on contacts through the channel; ``any``: on those of all channels.

        The caps of all channels together are not among those of one channel: they count other
        contacts.
        """
        limit = self.limits.get(f"caps.{channel}")
        return () if limit is None else limit.value  # type: ignore[return-value]

    @property
    def price_band(self) -> tuple[float, float]:
        """Lowest and highest monthly price, in the workspace's currency; 0 and inf if open."""
        low, high = self._value("price.low"), self._value("price.high")
        return (
            0.0 if low is None else float(low),  # type: ignore[arg-type]
            float("inf") if high is None else float(high),  # type: ignore[arg-type]
        )

    @property
    def max_discount(self) -> float | None:
        """Greatest discount as a share of what the customer pays, 0 to 1; None = not limited."""
        return self._value("max_discount")  # type: ignore[return-value]

    @property
    def scripts(self) -> frozenset[str] | None:
        """Ids of the scripts that may be used; None = not limited."""
        return self._value("scripts")  # type: ignore[return-value]

    @property
    def budget(self) -> float | None:
        """What a campaign may cost, in the workspace's currency; None = not limited."""
        return self._value("budget")  # type: ignore[return-value]

    def set_by(self, facet: str) -> Step | None:
        """Return the last statement that tightened a limit; None if nobody spoke of it."""
        limit = self.limits.get(facet)
        return None if limit is None else limit.set_by

    def rows(self) -> list[dict[str, str]]:
        """Return one row per statement that counts, for a table.

        Returns
        -------
        list of dict
            ``field``, ``tier``, ``unit``, ``policy``, ``said``, ``left``, ``place``; the last
            row of a field says what holds.
        """
        return [
            {
                "field": facet,
                "tier": step.tier,
                "unit": step.statement.unit_id,
                "policy": step.statement.policy_id,
                "said": text_of(step.said),
                "left": text_of(step.left),
                "place": step.statement.place,
            }
            for facet, limit in sorted(self.limits.items(), key=lambda item: field_of(item[0]))
            for step in limit.trail
        ]

    def _value(self, facet: str) -> Value | None:
        limit = self.limits.get(facet)
        return None if limit is None else limit.value
