"""The strategy centre: strategies go out from one point and change in all channels at once.

A release is the whole set of strategies that the channels of a unit work by; it never changes.
One row, the unit's head, names the release that holds and is switched to the next. A channel
reads the head and its release in one statement, so it sees the old set or the new, never some of
each, and no two channels can differ once the switch is committed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import sqlalchemy as sa

from bihuan.kernel import canonical_json, hash_id
from bihuan.kernel.crash import crash_point
from bihuan.server.app.deployment.record import frozen_deployment, get_deployment
from bihuan.server.app.errors import RefusedError, StaleError, missing
from bihuan.server.app.plan.content import parsed_campaign
from bihuan.server.app.service import Service
from bihuan.server.app.unit_scope import require_units
from bihuan.server.control import (
    OrgClosure,
    PlanRevision,
    StrategyAcknowledgement,
    StrategyHead,
    StrategyRelease,
    UnitOfWork,
)

MOST_ITEMS = 500


@dataclass(frozen=True, slots=True)
class ChannelStrategies:
    """What one channel works by.

    Parameters
    ----------
    release_id, number
        The release, and its number within its unit; the same for every channel at one moment.
        None and 0 where nothing was ever released.
    unit_id
        Whose release it is: the asking unit's or the nearest above that has one.
    channel
        Channel kind.
    strategies
        Those of the release that use the channel, each with its ``script_id`` and ``planned``.
    """

    release_id: str | None
    number: int
    unit_id: str
    channel: str
    strategies: tuple[Mapping[str, Any], ...]


def strategies_of(service: Service, work: UnitOfWork, deployment_id: str) -> list[dict[str, Any]]:
    """Return the strategies that a live deployment carries: one per offer of its mix.

    Each is the offer for the customers whom the model results chose, through their channels, with
    the script that is said there, and how many customers that is.

    Parameters
    ----------
    service
        Where the offers and the lake are.
    work
        A unit of work that sees the deployment.
    deployment_id
        Live.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    RefusedError
        If it is not live.
    """
    row = get_deployment(work, deployment_id)
    if row.state != "live":
        raise RefusedError(
            f"Deployment {deployment_id} is {row.state}; only live ones go to the channels.",
            remedy="Deploy its plan first.",
            zh=f"部署 {deployment_id} 状态为 {row.state}，只有已生效的部署才能发布到渠道。",
        )
    with work.beyond("a plan carried out below an approval shows what was approved"):
        revision = work.session.get_one(PlanRevision, row.revision_id)
    campaign = parsed_campaign(revision.content, service.workspace.catalogue)
    view = service.workspace.lake.view()
    counts: dict[tuple[str, str], int] = {}
    frozen = frozen_deployment(view, row)
    for count in frozen.counts(view, service.workspace.engine).to_pylist():
        key = (count["offer_id"], count["channel"])
        counts[key] = counts.get(key, 0) + count["planned"]
    by_offer: dict[str, dict[str, Any]] = {}
    for item, kind in campaign.candidates():
        if (item.offer_id, kind) not in counts:
            continue
        strategy = by_offer.setdefault(
            item.offer_id,
            {
                "strategy_id": f"{campaign.campaign_id}:{item.offer_id}",
                "title": dict(campaign.title),
                "offer_id": item.offer_id,
                "audience": str(revision.content["campaign"]["audience"]),
                "deployment_id": deployment_id,
                "lake_table": frozen.table,
                "channels": {},
            },
        )
        planned = counts[item.offer_id, kind]
        strategy["channels"][kind] = {"script_id": item.scripts.get(kind), "planned": planned}
    return list(by_offer.values())


def publish_release(
    work: UnitOfWork,
    service: Service,
    unit_id: str,
    *,
    title: str,
    deployment_ids: Sequence[str],
    after: int | None = None,
) -> StrategyRelease:
    """Distribute the strategies of deployments to every channel of a unit, all at one moment.

    Parameters
    ----------
    work
        In the scope of ``strategy.publish``; the channels read it from the commit on.
    service
        Where offers and lake are.
    unit_id
        For which unit and all below it that have no release of their own.
    title
        What people call it.
    deployment_ids
        Live deployments whose strategies it holds; empty: the channels stop using any.
    after
        Number of the release that it replaces, 0 for none; None: whichever stands.

    Returns
    -------
    StrategyRelease
        The same content again is the standing release.

    Raises
    ------
    NotFoundError, RefusedError
        If a deployment or the unit is not within reach, or a deployment is not live.
    StaleError
        If another release was published since the caller looked.
    """
    crash_point("release.before_items")
    require_units(work, [unit_id])
    items = [
        item
        for deployment_id in sorted(set(deployment_ids))
        for item in strategies_of(service, work, deployment_id)
    ]
    release = record_release(work, unit_id, title, items, after)
    crash_point("release.before_switch")
    switch_to(work, release)
    crash_point("release.switched")
    work.after_commit(partial(crash_point, "release.committed"))
    return release


def record_release(
    work: UnitOfWork, unit_id: str, title: str, items: list[dict[str, Any]], after: int | None
) -> StrategyRelease:
    """Record a release that no channel reads yet; the same again is the last one.

    Parameters
    ----------
    work
        In the scope of ``strategy.publish``.
    unit_id, title, items, after
        As for :func:`publish_release`; items as :class:`StrategyRelease` keeps them.
    """
    if len(items) > MOST_ITEMS:
        raise RefusedError(
            f"A release holds at most {MOST_ITEMS} strategies, not {len(items)}.",
            remedy="Release fewer deployments.",
            zh=f"一次发布最多 {MOST_ITEMS} 条策略，当前 {len(items)} 条，请减少部署数量。",
        )
    content = hash_id("strategy release", unit_id, canonical_json(items), length=64)
    head = work.session.get(StrategyHead, unit_id)
    standing = 0 if head is None else head.number
    if after is not None and after != standing:
        raise _stale(standing)
    newest = work.session.scalars(
        sa.select(StrategyRelease)
        .where(StrategyRelease.unit_id == unit_id)
        .order_by(StrategyRelease.number.desc())
        .limit(1)
    ).first()
    if newest is not None and newest.content_hash == content:
        return newest
    release = StrategyRelease(
        release_id=work.new_id("release"),
        unit_id=unit_id,
        sharing="down",
        number=1 if newest is None else newest.number + 1,
        title=title,
        items=items,
        content_hash=content,
        by=work.account_id,
        at=work.now,
    )
    work.session.add(release)
    return release


def switch_to(work: UnitOfWork, release: StrategyRelease) -> StrategyHead:
    """Let every channel of the release's unit read it, from the commit on; again does nothing.

    Raises
    ------
    StaleError
        If a later release stands.
    """
    head = work.session.get(StrategyHead, release.unit_id, with_for_update=True)
    if head is not None and head.number >= release.number:
        if head.release_id == release.release_id:
            return head
        raise _stale(head.number)
    if head is None:
        head = StrategyHead(unit_id=release.unit_id)
        work.session.add(head)
    head.release_id, head.number, head.switched_at = release.release_id, release.number, work.now
    work.audit(
        "strategy.publish", "release", release.release_id,
        unit=release.unit_id, number=release.number, strategies=len(release.items),
    )  # fmt: skip
    return head


def current_release(work: UnitOfWork, unit_id: str, channel: str) -> ChannelStrategies | None:
    """Return what a channel of a unit works by now; None if nothing was ever released for it.

    Parameters
    ----------
    work
        Any unit of work.
    unit_id
        Where the channel works; the nearest release at or above the unit holds.
    channel
        Channel kind.
    """
    return current_releases(work, unit_id, [channel]).get(channel)


def current_releases(
    work: UnitOfWork, unit_id: str, channels: Sequence[str] | None = None
) -> dict[str, ChannelStrategies]:
    """Return what several channels of a unit work by at one moment, all by the same release.

    Read with one statement: in PostgreSQL two statements of one transaction may stand on either
    side of a switch.

    Parameters
    ----------
    work, unit_id
        As for :func:`current_release`.
    channels
        Channel kinds; None: those that the release uses.

    Returns
    -------
    dict
        By channel kind; empty if nothing was ever released for the unit.
    """
    nearest = (
        sa.select(StrategyHead, StrategyRelease)
        .join(StrategyRelease, StrategyRelease.release_id == StrategyHead.release_id)
        .join(OrgClosure, OrgClosure.ancestor_id == StrategyHead.unit_id)
        .where(OrgClosure.descendant_id == unit_id)
        .order_by(OrgClosure.depth)
        .limit(1)
    )
    found = work.session.execute(nearest, execution_options={"populate_existing": True}).first()
    if found is None:
        return {}
    head, release = found
    used = sorted({channel for item in release.items for channel in item["channels"]})
    return {
        channel: ChannelStrategies(
            release.release_id, release.number, head.unit_id, channel, _of(release, channel)
        )
        for channel in (used if channels is None else channels)
    }


def _of(release: StrategyRelease, channel: str) -> tuple[Mapping[str, Any], ...]:
    return tuple(
        {**{k: v for k, v in item.items() if k != "channels"}, **item["channels"][channel]}
        for item in release.items
        if channel in item["channels"]
    )


def standing_release(work: UnitOfWork, unit_id: str, channel: str) -> ChannelStrategies:
    """Return what a channel of a unit within reach works by; without a release, nothing.

    Raises
    ------
    NotFoundError
        If the unit is not within reach.
    """
    require_units(work, [unit_id])
    found = current_release(work, unit_id, channel)
    return found or ChannelStrategies(None, 0, unit_id, channel, ())


def standing_releases(work: UnitOfWork, unit_id: str) -> list[ChannelStrategies]:
    """Return what all channels of a unit within reach work by, read at one moment.

    Raises
    ------
    NotFoundError
        If the unit is not within reach.
    """
    require_units(work, [unit_id])
    return list(current_releases(work, unit_id).values())


def get_release(work: UnitOfWork, release_id: str) -> StrategyRelease:
    """Return a release.

    Raises
    ------
    NotFoundError
        If there is none within reach.
    """
    row = work.session.get(StrategyRelease, release_id)
    if row is None:
        raise missing("strategy release", "策略发布", release_id)
    return row


def find_releases(unit_id: str | None = None) -> sa.Select[StrategyRelease]:
    """Return the statement that lists releases, of one unit or all."""
    statement = sa.select(StrategyRelease)
    return statement if unit_id is None else statement.where(StrategyRelease.unit_id == unit_id)


def acknowledge(
    work: UnitOfWork, release_id: str, channel: str, unit_id: str
) -> StrategyAcknowledgement:
    """Record that a channel of a unit works by a release; again keeps the first time.

    Parameters
    ----------
    work
        In a scope that holds the unit.
    release_id
        The release that stands for the unit.
    channel
        Channel kind.
    unit_id
        Where the channel works.

    Raises
    ------
    NotFoundError
        If there is no such release within reach.
    RefusedError
        If another release stands for the unit.
    """
    require_units(work, [unit_id])
    found = work.session.get(StrategyAcknowledgement, (release_id, channel, unit_id))
    if found is not None:
        return found
    release = get_release(work, release_id)
    now = current_release(work, unit_id, channel)
    if now is None or now.release_id != release_id:
        raise RefusedError(
            f"Release {release_id} does not stand for {unit_id}.",
            remedy="Read the current release and work by that.",
            zh=f"{unit_id} 当前生效的策略发布不是 {release_id}，请读取当前发布。",
        )
    head = work.session.get_one(StrategyHead, release.unit_id)
    row = StrategyAcknowledgement(
        release_id=release_id,
        channel=channel,
        unit_id=unit_id,
        at=work.now,
        lag_seconds=(work.now - head.switched_at).total_seconds(),
    )
    work.session.add(row)
    crash_point("release.acknowledged")
    return row


def acknowledgements_of(work: UnitOfWork, release_id: str) -> list[StrategyAcknowledgement]:
    """Return who within reach works by a release, first come first."""
    statement = (
        sa.select(StrategyAcknowledgement)
        .where(StrategyAcknowledgement.release_id == release_id)
        .order_by(StrategyAcknowledgement.at, StrategyAcknowledgement.channel)
    )
    return list(work.session.scalars(statement))


def _stale(standing: int) -> StaleError:
    return StaleError(
        f"Release {standing} stands by now.",
        remedy="Read it, and publish again if you still want to.",
        zh=f"当前已有第 {standing} 版发布，请查看后再决定是否发布。",
    )
