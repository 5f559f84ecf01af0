"""The marketing map (营销地图): per org unit, stage and segment what to do and for how many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow as pa

from bihuan.data import Engine
from bihuan.kernel.document import Document
from bihuan.offer import Catalogue
from bihuan.strategy.cube import NOWHERE, Axis, band_number, parse_axis, read_rule
from bihuan.strategy.lifecycle.place import count_places
from bihuan.strategy.lifecycle.stage import LifeCycle, LifeCycleError
from bihuan.strategy.policy import OrgTree, OrgUnit
from bihuan.tag import TagDictionary, TagTable

UNIT_TAG = "org_unit"


@dataclass(frozen=True, slots=True)
class Target:
    """How much of a strategy is to be done.

    Parameters
    ----------
    share
        Of the customers it is meant for, the share to be approached, 0..1.
    acceptance
        Expected share of these who accept, 0..1; an experience value of the planner.
    """

    share: float
    acceptance: float


@dataclass(frozen=True, slots=True)
class MapPlan:
    """A marketing map as its file says it.

    Parameters
    ----------
    name, title
        Of the file.
    life_cycle
        Stages and strategies.
    tier
        Tier of the org units shown, unless asked otherwise.
    segments
        Parts of the customers beside the stages.
    targets
        By strategy id; strategies not named are shown without a target.
    staff_channels
        Channel kinds that take a person's time.
    contacts_per_day, days
        What one person can do, and in how many days.
    """

    name: str
    title: Mapping[str, str]
    life_cycle: LifeCycle
    tier: str
    segments: Axis
    targets: Mapping[str, Target]
    staff_channels: frozenset[str]
    contacts_per_day: float
    days: int

    @property
    def contacts_per_head(self) -> float:
        """Contacts that one person can make in the period."""
        return self.contacts_per_day * self.days


@dataclass(frozen=True, slots=True)
class MapRow:
    """What one unit does for the customers of one stage and segment.

    Parameters
    ----------
    unit_id, unit
        The org unit and its name by language.
    stage, segment
        Codes.
    strategy_id
        Missing where no strategy is meant for them.
    size
        Customers.
    wanted, target
        Customers to approach by the plan, and those whom the unit's staff can approach.
    expected
        Sales expected of the target.
    offers
        Ids of the offers, the first preferred.
    channel
        The channel preferred.
    staff
        People of the unit and below it who work in that channel; None for channels without.
    """

    unit_id: str
    unit: Mapping[str, str]
    stage: str
    segment: str
    strategy_id: str | None
    size: int
    wanted: int
    target: int
    expected: float
    offers: tuple[str, ...]
    channel: str | None
    staff: int | None


@dataclass(frozen=True, slots=True)
class MarketingMap:
    """The guide for the front line.

    Parameters
    ----------
    plan
        Of which it was made.
    as_of
        Date of the tags.
    tier
        Of the units.
    rows
        By unit, stage, segment; every customer of a known unit stands in one row.
    homeless
        Customers whose unit is not known, or has none of that tier above it.
    """

    plan: MapPlan
    as_of: date
    tier: str
    rows: tuple[MapRow, ...]
    homeless: int

    @property
    def life_cycle(self) -> LifeCycle:
        """Stages and strategies."""
        return self.plan.life_cycle

    @property
    def units(self) -> dict[str, Mapping[str, str]]:
        """Names of the units by id, in the order of the tree."""
        return {row.unit_id: row.unit for row in self.rows}

    def of_unit(self, unit_id: str) -> tuple[MapRow, ...]:
        """Return the rows of a unit; raise :class:`LifeCycleError` if it is not on the map."""
        found = tuple(row for row in self.rows if row.unit_id == unit_id)
        if not found:
            have = ", ".join(list(self.units)[:5]) or "none"
            raise LifeCycleError(
                f"The map shows no unit '{unit_id}' of tier '{self.tier}'.",
                remedy=f"It shows: {have}, ...",
                zh=f"营销地图（{self.tier}）没有单元 {unit_id}，现有：{have} 等。",
            )
        return found

    def table(self, language: str = "zh") -> pa.Table:
        """Return the rows for people, with names, wording and offers.

        Parameters
        ----------
        language
            ``zh`` or ``en``.
        """
        cells = [self._cells(row, language) for row in self.rows]
        return pa.Table.from_pylist(cells, schema=_SCHEMA)

    def _cells(self, row: MapRow, language: str) -> dict[str, Any]:
        strategy = self.life_cycle.strategy(row.strategy_id) if row.strategy_id else None
        stage = "—" if row.stage == NOWHERE else self.life_cycle.stage(row.stage).title[language]
        return {
            "unit_id": row.unit_id,
            "unit": row.unit[language],
            "stage": stage,
            "segment": self.plan.segments.title_of(row.segment)[language],
            "strategy": strategy.title[language] if strategy else None,
            "size": row.size,
            "wanted": row.wanted,
            "target": row.target,
            "expected_sales": row.expected,
            "offers": list(row.offers),
            "channel": row.channel,
            "script": strategy.script[language] if strategy else None,
            "staff": row.staff,
        }


_SCHEMA = pa.schema(
    [(n, pa.string()) for n in ("unit_id", "unit", "stage", "segment", "strategy")]
    + [(n, pa.int64()) for n in ("size", "wanted", "target")]
    + [("expected_sales", pa.float64()), ("offers", pa.list_(pa.string()))]
    + [("channel", pa.string()), ("script", pa.string()), ("staff", pa.int64())]
)


@dataclass(frozen=True, slots=True)
class Ground:
    """What a map is drawn on: the organisation, its people and its offers.

    Parameters
    ----------
    tree
        Org units.
    staff
        Rows of the lake table ``staff``: ``org_unit_id``, ``channel_id``, ``status``.
    channel_kinds
        Kind by channel id.
    catalogue
        The offers.
    """

    tree: OrgTree
    staff: pa.Table
    channel_kinds: Mapping[str, str]
    catalogue: Catalogue

    def heads(self, tier: str) -> dict[str, dict[str, int]]:
        """Count the active staff of each unit of a tier and of those below, by channel kind."""
        found: dict[str, dict[str, int]] = {}
        for person in self.staff.select(["org_unit_id", "channel_id", "status"]).to_pylist():
            unit = person["org_unit_id"]
            if person["status"] == "left" or unit not in self.tree:
                continue
            above = self.tree.ancestor(unit, tier)
            if above is not None:
                kind = self.channel_kinds.get(person["channel_id"], person["channel_id"])
                counts = found.setdefault(above, {})
                counts[kind] = counts.get(kind, 0) + 1
        return found


def load_map(path: Path, dictionary: TagDictionary, life_cycle: LifeCycle) -> MapPlan:
    """Read a map file.

    Parameters
    ----------
    path
        YAML file with ``segments``, ``targets`` and ``staff``.
    dictionary
        Gives codes and titles of the segments' tag.
    life_cycle
        Whose strategies the targets may name.

    Raises
    ------
    DocumentError
        If a field is missing or of the wrong form, or a strategy is not known.
    """
    top = Document.read(path).allow(
        "map", "title", "note", "tier", "life_cycle", "segments", "targets", "staff"
    )
    part = top.part("targets")
    known = {strategy.strategy_id for strategy in life_cycle.strategies}
    targets = {}
    for name in part.fields():
        if name not in known:
            raise part.refuse(
                name, "is not a strategy", f"Choose from: {', '.join(sorted(known))}."
            )
        target = part.part(name).allow("share", "acceptance")
        targets[name] = Target(
            target.number("share", low=0, high=1), target.number("acceptance", 0.0, low=0, high=1)
        )
    staff = top.part("staff").allow("channels", "contacts_per_day", "days")
    return MapPlan(
        name=top.text("map", path.stem),
        title=top.titles("title"),
        life_cycle=life_cycle,
        tier=top.text("tier", "county"),
        segments=parse_axis(top.part("segments"), dictionary, {}),
        targets=targets,
        staff_channels=frozenset(staff.texts("channels")),
        contacts_per_day=staff.number("contacts_per_day", low=0),
        days=staff.whole("days", low=1),
    )


def draw_map(
    plan: MapPlan, tags: TagTable, ground: Ground, *, engine: Engine, tier: str | None = None
) -> MarketingMap:
    """Make the guide of every unit of a tier.

    Parameters
    ----------
    plan
        Stages, strategies, segments, targets, what people can do.
    tags
        Tag values at one date; the tag ``org_unit`` says who is in charge of a customer.
    ground
        Org units, staff and offers.
    engine
        Runs one query.
    tier
        Tier of the units shown; None: the plan's.

    Returns
    -------
    MarketingMap
        A unit's staff work down the strategies in the order of precedence; what they cannot do is
        in ``wanted`` and not in ``target``.
    """
    shown = tier or plan.tier
    if not ground.tree.at_tier(shown):
        raise LifeCycleError(
            f"There is no org unit of tier '{shown}'.",
            remedy="Choose a tier that the organisation has, for example county.",
            zh=f"没有层级为 {shown} 的组织单元，请选择已有的层级，如 county。",
        )
    nodes = [read_rule(band.who, tags).node for band in plan.segments.bands]
    counted = count_places(
        plan.life_cycle,
        tags,
        {"unit": UNIT_TAG, "segment": band_number(nodes, tags)},
        engine=engine,
    )
    sizes: dict[tuple[str, str, str, str | None], int] = {}
    homeless = 0
    for row in counted.to_pylist():
        unit = row["unit"] if row["unit"] in ground.tree else None
        above = ground.tree.ancestor(unit, shown) if unit else None
        if above is None:
            homeless += row["size"]
            continue
        segment = plan.segments.codes[row["segment"]]
        key = (above, row["stage"] or NOWHERE, segment, row["strategy"])
        sizes[key] = sizes.get(key, 0) + row["size"]
    by_unit: dict[str, dict[tuple[str, str, str | None], int]] = {}
    for key, size in sizes.items():
        by_unit.setdefault(key[0], {})[key[1:]] = size
    heads = ground.heads(shown)
    rows = [
        row
        for unit_id in ground.tree.at_tier(shown)
        if unit_id in by_unit
        for row in _rows_of(
            ground.tree.get(unit_id), by_unit[unit_id], plan,
            (tags.as_of, ground.catalogue, heads.get(unit_id, {})),
        )
    ]  # fmt: skip
    return MarketingMap(plan, tags.as_of, shown, tuple(rows), homeless)


def _rows_of(
    unit: OrgUnit,
    sizes: Mapping[tuple[str, str, str | None], int],
    plan: MapPlan,
    world: tuple[date, Catalogue, Mapping[str, int]],
) -> list[MapRow]:
    """Write a unit's rows; its people's time goes to the strategies in order of precedence."""
    life_cycle = plan.life_cycle
    as_of, catalogue, heads = world
    time = {kind: heads.get(kind, 0) * plan.contacts_per_head for kind in plan.staff_channels}
    order = [strategy.strategy_id for strategy in life_cycle.strategies]
    stages = [*(stage.code for stage in life_cycle.in_order), NOWHERE]
    segments = plan.segments.shown
    goals = _wanted(plan, sizes)
    rows = []
    by_precedence = sorted(
        sizes, key=lambda k: (order.index(k[2]) if k[2] else len(order), stages.index(k[0]))
    )
    for stage, segment, strategy_id in by_precedence:
        size = sizes[stage, segment, strategy_id]
        strategy = life_cycle.strategy(strategy_id) if strategy_id else None
        goal = plan.targets.get(strategy_id or "", Target(0.0, 0.0))
        wanted = goals[stage, segment, strategy_id]
        channel = _channel(strategy.channels, time, wanted) if strategy else None
        target = wanted
        if channel in time:
            target = min(wanted, int(time[channel]))
            time[channel] -= target
        offers = strategy.offers(catalogue, as_of) if strategy else ()
        rows.append(
            MapRow(
                unit_id=unit.unit_id,
                unit=unit.title,
                stage=stage,
                segment=segment,
                strategy_id=strategy_id,
                size=size,
                wanted=wanted,
                target=target,
                expected=target * goal.acceptance,
                offers=tuple(offer.offer_id for offer in offers),
                channel=channel,
                staff=heads.get(channel or "", 0) if channel in time else None,
            )
        )
    return sorted(
        rows, key=lambda row: (stages.index(row.stage), segments.index(row.segment),
                               row.strategy_id or ""),
    )  # fmt: skip


def _wanted(
    plan: MapPlan, sizes: Mapping[tuple[str, str, str | None], int]
) -> dict[tuple[str, str, str | None], int]:
    """Share out each strategy's target among its rows by largest remainder, so none is lost."""
    found = dict.fromkeys(sizes, 0)
    for strategy_id, goal in plan.targets.items():
        keys = [key for key in sizes if key[2] == strategy_id]
        left = round(goal.share * sum(sizes[key] for key in keys))
        for key in keys:
            found[key] = int(goal.share * sizes[key])
            left -= found[key]
        by_rest = sorted(keys, key=lambda k: goal.share * sizes[k] - found[k], reverse=True)
        for key in by_rest[: max(left, 0)]:
            found[key] += 1
    return found


def _channel(channels: Sequence[str], time: Mapping[str, float], wanted: int) -> str:
    """Return the first channel with time for all, else the one of these that has most."""
    for channel in channels:
        if time.get(channel, float("inf")) >= wanted:
            return channel
    return max(channels, key=lambda channel: time.get(channel, float("inf")))
