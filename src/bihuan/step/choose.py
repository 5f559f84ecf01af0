"""tag → audience: whom a campaign is for, and who of them is left out and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from bihuan.audience import (
    AudienceSnapshot,
    SuppressionReport,
    apply_suppression,
    standard_suppression,
    take_snapshot,
)
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign
from bihuan.tag import TagTable, read_tags


@dataclass(frozen=True, slots=True)
class Target:
    """The audience of a campaign at a date.

    Parameters
    ----------
    snapshot
        All members, before suppression; content-addressed.
    suppression
        Who was left out and why, and who remains.
    tags
        The tags at that date.
    """

    snapshot: AudienceSnapshot
    suppression: SuppressionReport
    tags: TagTable


def choose_audience(rooms: Rooms, campaign: Campaign, as_of: date) -> Target:
    """Freeze a campaign's audience and take out whom the standard exclusions name."""
    tags = read_tags(rooms.lake.view(), rooms.dictionary, "customer", as_of)
    snapshot = take_snapshot(
        campaign.audience, tags, lake=rooms.lake, engine=rooms.engine, clock=rooms.clock
    )
    suppression = apply_suppression(
        campaign.audience,
        standard_suppression(keep=campaign.keep_lists),
        tags,
        engine=rooms.engine,
    )
    return Target(snapshot, suppression, tags)
