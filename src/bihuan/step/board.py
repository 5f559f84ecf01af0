"""From campaigns, catalogue, levers, policies to the board on which is decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import Everyone, parse, standard_suppression
from bihuan.decision import (
    NO_LEVERS,
    BoardRules,
    Candidate,
    ContactCap,
    LeverBook,
    Override,
    PairPolicy,
    Strategy,
    StrategyBoard,
)
from bihuan.offer import Catalogue, Matching
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign, PreferredWays, preferred_channel
from bihuan.strategy.lifecycle import Moment
from bihuan.strategy.preference import PreferenceRequest
from bihuan.tag import TagField, TagTable

ASKED = "network = 'on_net' and not is_disconnected"
"""Customers whose preferred ways are learnt, as on the strategy desk."""
Acceptance: TypeAlias = Mapping[tuple[str, str], float]
"""Expected share of contacted customers who accept, by (offer id, channel kind), 0 to 1."""


@dataclass(frozen=True, slots=True)
class DecisionRules:
    """What a workspace has laid down for all its campaigns.

    Parameters
    ----------
    levers
        Factors and fit rules.
    contacts
        Caps and lags, by the contacts that the lake holds.
    policies
        Frames of the org units; None where there are none.
    overrides
        What people have laid down for single customers.
    moments
        Key moments that raise or lower the chance of a sale.
    detected
        ``customer_id, moment_id``: who is at which of them; None: nobody.
    off
        Factors of the value to leave out; see :func:`bihuan.decision.expected_value`.
    matchings
        Matching principles by name, for campaigns that ask that offers suit by them.
    """

    levers: LeverBook = NO_LEVERS
    contacts: tuple[ContactCap, ...] = ()
    policies: PairPolicy | None = None
    overrides: tuple[Override, ...] = ()
    moments: tuple[Moment, ...] = ()
    detected: pa.Table | None = None
    off: tuple[str, ...] = ()
    matchings: Mapping[str, Matching] = field(default_factory=dict)


def experience(campaign: Campaign) -> Acceptance:
    """Return the planner's experience values of a campaign."""
    return {(item.offer_id, kind): item.acceptance[kind] for item, kind in campaign.candidates()}


def strategies_of(
    campaign: Campaign,
    catalogue: Catalogue,
    acceptance: Acceptance | None = None,
    *,
    is_chosen: bool = False,
) -> tuple[Strategy, ...]:
    """Return what a campaign may do, as columns of a board.

    Parameters
    ----------
    campaign, catalogue
        Mix and offers.
    acceptance
        What earlier turns have taught; None takes the planner's experience values.
    is_chosen
        Whether audience and suppression have been applied already.
    """
    chances = acceptance or experience(campaign)
    return tuple(
        Strategy(
            campaign_id=campaign.campaign_id,
            campaign_title=campaign.title,
            candidate=Candidate(item.offer_id, kind),
            offer=catalogue.get(item.offer_id),
            audience=Everyone() if is_chosen else campaign.audience,
            exclusions=()
            if is_chosen
            else standard_suppression(keep=campaign.keep_lists).exclusions,
            propensity=chances[item.offer_id, kind],
            cost=campaign.channels[kind].unit_cost,
            risk_tag=campaign.risk_tag,
            kept_share=campaign.kept_share,
            preferred_ways=campaign.preferred_ways,
            matching=campaign.matching,
        )
        for item, kind in campaign.candidates()
    )


def make_board(
    strategies: Iterable[Strategy],
    fields: Mapping[str, TagField],
    catalogue: Catalogue,
    *,
    day: date,
    rules: DecisionRules,
    ways: PreferredWays | None = None,
) -> StrategyBoard:
    """Prepare a board under the rules of a workspace.

    Parameters
    ----------
    strategies, fields, catalogue, day
        See :class:`bihuan.decision.StrategyBoard`.
    rules
        Of the workspace.
    ways
        From :func:`read_ways`.
    """
    return StrategyBoard(
        tuple(strategies),
        fields,
        catalogue,
        day=day,
        rules=BoardRules(
            rules.levers, rules.contacts, rules.moments, rules.off, rules.matchings, ways
        ),
    )


def read_ways(rooms: Rooms, tags: TagTable, strategies: Iterable[Strategy]) -> PreferredWays | None:
    """Return the customers' preferred ways of contact; None where no campaign asks for them.

    Parameters
    ----------
    rooms
        The operator.
    tags
        Tag values; the history is that of the twelve months up to their date.
    strategies
        Of the campaigns.

    Raises
    ------
    PreferenceError
        If a campaign asks for them and there is no contact in those months.
    """
    if all(strategy.preferred_ways == "off" for strategy in strategies):
        return None
    request = PreferenceRequest(tags, within=parse(ASKED))
    return PreferredWays(preferred_channel(request, rooms.lake.view(), engine=rooms.engine))


def policy_masks(
    board: StrategyBoard, rules: DecisionRules, units: pa.Array
) -> dict[str, NDArray[np.bool_]]:
    """Return the gate ``policy`` if there are policies; ``(n, n_strategies)``."""
    if rules.policies is None:
        return {}
    pairs = [(candidate.offer_id, candidate.channel) for candidate in board.candidates]
    return {"policy": rules.policies.allowed(units, pairs)}


def active_moments(
    board: StrategyBoard, detected: pa.Table | None, customer_id: pa.Array
) -> NDArray[np.bool_]:
    """Return at which of a board's moments each customer is, ``(n, n_moments)``."""
    active = np.zeros((len(customer_id), len(board.moment_ids)), dtype=np.bool_)
    if detected is not None:
        for i, moment in enumerate(board.moment_ids):
            inside = detected.filter(pc.equal(detected["moment_id"], moment))["customer_id"]
            rows = pc.is_in(customer_id, value_set=inside.combine_chunks())
            active[:, i] = rows.to_numpy(zero_copy_only=False)
    return active
