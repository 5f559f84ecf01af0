"""What a campaign's limits mean for the customers at hand: weights, members, bounds."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.decision import Limit, StrategyBoard
from bihuan.kernel import UserError
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign, CampaignLimit, OrgTree

Floats = NDArray[np.float64]
CONTACTS = {
    "outbound": "call", "sms": "SMS", "email": "email", "mail": "letter", "app": "message",
    "wechat": "message", "hall": "visit", "account_manager": "visit",
}  # fmt: skip
_KINDS = {"sales_at_most": "sales", "sales_at_least": "minimum"}


class LimitUnitError(UserError):
    """A campaign names an org unit that the lake does not hold."""


@dataclass(frozen=True, slots=True, eq=False)
class CampaignLimits:
    """The limits of a campaign over the customers of a batch.

    Parameters
    ----------
    limits
        In the order of the campaign: channels, offers, budget, then its ``limits``.
    units
        Org units whose customers a limit is for, by the limit's name; limits not named are for
        all.
    """

    limits: tuple[Limit, ...]
    units: Mapping[str, frozenset[str]]


def campaign_limits(
    rooms: Rooms,
    campaign: Campaign,
    board: StrategyBoard,
    units: pa.Array,
    as_of: date,
    *,
    context: Floats | float = 1.0,
) -> CampaignLimits:
    """Build the limits of a campaign.

    Parameters
    ----------
    rooms
        The operator.
    campaign
        Capacities, maxima, budget, limits.
    board
        Its candidates.
    units
        Org unit of each customer, shape ``(n,)``.
    as_of
        Date of the data; the org units are those of the newest snapshot up to it.
    context
        Factor on the chance of a sale, by which expected sales are counted: one number, or shape
        ``(n, m)``.

    Raises
    ------
    LimitUnitError
        If a unit named is not there; names file and field.
    """
    subtree = _subtrees(rooms, campaign, as_of)
    found: list[Limit] = []
    units_of: dict[str, frozenset[str]] = {}

    def add(limit: Limit, unit: str = "") -> None:
        members = None
        if unit:
            units_of[limit.name] = subtree[unit]
            inside = pa.array(sorted(subtree[unit]), pa.string())
            members = pc.is_in(units, value_set=inside).to_numpy(zero_copy_only=False)
        found.append(
            Limit(
                limit.name, limit.kind, limit.weight, limit.bound, members, limit.unit,
                penalty=limit.penalty,
            )
        )  # fmt: skip

    channels = np.array([candidate.channel for candidate in board.candidates])
    offers = np.array([candidate.offer_id for candidate in board.candidates])
    for kind, plan in campaign.channels.items():
        uses = (channels == kind).astype(np.float64)
        unit_of = CONTACTS.get(kind, "contact")
        if plan.capacity is not None:
            add(Limit(kind, "capacity", uses, plan.capacity, unit=unit_of))
        for unit, bound in plan.capacity_by_unit.items():
            add(Limit(f"{kind} @ {unit}", "capacity", uses, bound, unit=unit_of), unit)
    for item in campaign.mix:
        if item.maximum is not None:
            uses = (offers == item.offer_id).astype(np.float64)
            add(Limit(item.offer_id, "maximum", uses, item.maximum))
    if campaign.budget is not None:
        add(Limit("budget", "budget", _spent(board), campaign.budget))
    for own in campaign.limits:
        add(_limit(own, board, context), own.unit)
    return CampaignLimits(tuple(found), units_of)


def _limit(own: CampaignLimit, board: StrategyBoard, context: Floats | float) -> Limit:
    counts = np.array([own.covers(c.offer_id, c.channel) for c in board.candidates], np.float64)
    penalty = math.nan if own.penalty is None else own.penalty
    if own.kind == "budget":
        return Limit(own.name, "budget", counts * _spent(board), own.bound)
    if own.kind in ("maximum", "minimum"):
        return Limit(own.name, own.kind, counts, own.bound, penalty=penalty)
    chance = np.nan_to_num(board.propensity)
    if np.ndim(context):
        # one weight per pair only where the chance differs: such a limit has no price for others
        chance = np.minimum(chance * np.nan_to_num(context), 1.0)
    return Limit(
        own.name, _KINDS[own.kind], counts * chance, own.bound, unit="sale", penalty=penalty
    )


def _spent(board: StrategyBoard) -> Floats:
    """Return what a contact is expected to cost: itself, and the gifts of a sale."""
    gift = np.array([strategy.offer.cost for strategy in board.strategies])
    return np.asarray(board.cost + np.nan_to_num(board.propensity) * gift)


def _subtrees(rooms: Rooms, campaign: Campaign, as_of: date) -> dict[str, frozenset[str]]:
    """Return every unit that the campaign names, with all units under it."""
    named = dict(_named_units(campaign))
    if not named:
        return {}
    found = rooms.lake.view().upto("org_unit", as_of)
    tree = OrgTree.from_table(found[-1].read()) if found else OrgTree([])
    for unit, field in named.items():
        if unit not in tree:
            raise _unknown(campaign, unit, field, tree, as_of)
    return {unit: frozenset(tree.subtree(unit)) for unit in named}


def _named_units(campaign: Campaign) -> Iterable[tuple[str, str]]:
    """Yield each unit named, with the field that names it; the first field last, so it counts."""
    for index in reversed(range(len(campaign.limits))):
        if campaign.limits[index].unit:
            yield campaign.limits[index].unit, f"limits[{index}].unit"
    for kind, plan in reversed(list(campaign.channels.items())):
        for unit in plan.capacity_by_unit:
            yield unit, f"channels.{kind}.capacity_by_unit"


def _unknown(
    campaign: Campaign, unit: str, field: str, tree: OrgTree, as_of: date
) -> LimitUnitError:
    place = f"{campaign.file or campaign.campaign_id}.{field}"
    if not len(tree):
        return LimitUnitError(
            f"{place} names the org unit '{unit}', and there are no org units up to {as_of}.",
            remedy="Take the table org_unit in first, or leave units out of the campaign.",
            zh=f"{place} 指定了组织单元 {unit}，但截至 {as_of} 没有组织单元数据。"
            "请先导入 org_unit 表，或在方案中去掉组织单元。",
        )
    near = difflib.get_close_matches(unit, tree.unit_ids, n=3) or list(tree.unit_ids[:3])
    return LimitUnitError(
        f"{place} names the org unit '{unit}', which does not exist at {as_of}.",
        remedy=f"Did you mean: {', '.join(near)}?",
        zh=f"{place} 指定的组织单元 {unit} 在 {as_of} 不存在。您是否要找：{'、'.join(near)}？",
    )
