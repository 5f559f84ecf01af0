"""From the lake and the definitions to the recommender: who gets what next, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import product
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bihuan.audience import AudienceError
from bihuan.decision import (
    BoardError,
    ContactCap,
    PriceBook,
    Recommender,
    Situation,
    Strategy,
    StrategyBoard,
    Wish,
    Wording,
    recommend_table,
    told_tags,
)
from bihuan.kernel import UserError
from bihuan.step.board import (
    DecisionRules,
    active_moments,
    make_board,
    read_ways,
    strategies_of,
)
from bihuan.step.facts import Lots, gather_cases, newest
from bihuan.step.facts_single import decided_at, read_lots
from bihuan.step.rooms import Rooms
from bihuan.strategy import Campaign, PolicyBook, PreferredWays
from bihuan.strategy.policy import Cap
from bihuan.strategy.preference import PreferenceError
from bihuan.tag import TagDictionary, TagField, TagNotDerivedError, TagTable

ANY = "any"


class NothingLiveError(UserError):
    """No campaign is live on the day asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Live:
    """What is live on a day, ready to be asked.

    Parameters
    ----------
    recommender
        Over all live campaigns.
    decided
        Date on whose data each of them was last decided; those never decided are not there.
    lots
        Who is held out, and what is planned already.
    left_out
        Live campaigns that cannot be asked, with the reason by language: a rule names a tag
        without values.
    """

    recommender: Recommender
    decided: Mapping[str, date]
    lots: Lots
    left_out: Mapping[str, Mapping[str, str]]


def open_live(
    rooms: Rooms, campaigns: Sequence[Campaign], tags: TagTable, *, day: date, rules: DecisionRules
) -> Live:
    """Prepare the recommender over the campaigns that are live on ``day``.

    Parameters
    ----------
    rooms
        The operator.
    campaigns
        Of which those are taken whose period holds the day.
    tags
        Tag values at the date that customers are seen at.
    day
        Of the contact.
    rules
        Of the workspace.

    Raises
    ------
    NothingLiveError
        If there is none.
    """
    live = [c for c in campaigns if c.goal.starts_on <= day <= c.goal.ends_on]
    strategies: list[Strategy] = []
    left_out: dict[str, Mapping[str, str]] = {}
    ways: PreferredWays | None = None
    for campaign in live:
        mine = strategies_of(campaign, rooms.catalogue)
        try:
            ways = ways or read_ways(rooms, tags, mine)
            make_board(mine, tags.fields, rooms.catalogue, day=day, rules=rules, ways=ways)
        except (AudienceError, TagNotDerivedError, BoardError, PreferenceError) as error:
            left_out[campaign.campaign_id] = {"en": error.message, "zh": error.text("zh")}
            continue
        strategies += mine
    if not strategies:
        raise NothingLiveError(
            f"No campaign can be asked on {day} ({len(campaigns)} defined, {len(live)} live).",
            remedy="Define a campaign whose period holds the day, and derive its tags."
            + "".join(f" {name}: {why['en']}" for name, why in left_out.items()),
            zh=f"{day} 没有可用的营销方案(已定义 {len(campaigns)} 个,生效 {len(live)} 个),"
            "请定义覆盖该日的方案并派生其标签。",
        )
    board = make_board(strategies, tags.fields, rooms.catalogue, day=day, rules=rules, ways=ways)
    view = rooms.lake.view()
    names = dict.fromkeys(s.campaign_id for s in strategies)
    decided = {name: at for name in names if (at := decided_at(view, name, tags.as_of))}
    logs = {name: view.get("decision", at).lineage["campaigns"][name] for name, at in
            decided.items()}  # fmt: skip
    prices = {
        name: PriceBook.from_json(log["prices"]) for name, log in logs.items() if "prices" in log
    }
    situation = Situation(prices, rules.overrides, rules.policies)
    words = wording(rooms.dictionary, tags.fields, rooms.currency)
    recommender = Recommender(board, words, situation)
    return Live(recommender, decided, read_lots(view, decided), left_out)


def recommend_many(
    rooms: Rooms,
    live: Live,
    tags: TagTable,
    customer_id: pa.Array,
    *,
    rules: DecisionRules,
    wish: Wish | None = None,
) -> pa.Table:
    """Return the next best offers of many customers; see :mod:`bihuan.decision.recommendation`.

    Parameters
    ----------
    rooms, live, rules
        As for :func:`open_live`.
    tags
        Tag values.
    customer_id
        Who, each once.
    wish
        How many, per what, through which channel.
    """
    recommender = live.recommender
    board: StrategyBoard = recommender.board
    opt_out_at = newest(rooms.lake.view(), "opt_out", board.day)
    cases = gather_cases(rooms, board, tags, customer_id, lots=live.lots, opt_out_at=opt_out_at)
    rows = tags.read(rooms.engine, told_tags(recommender))
    told = rows.take(pc.index_in(customer_id, value_set=rows[tags.id_column]))
    moments = active_moments(board, rules.detected, customer_id)
    some = moments if np.any(moments) else None
    return recommend_table(recommender, cases, told, moments=some, wish=wish)


def wording(dictionary: TagDictionary, fields: Mapping[str, TagField], currency: str) -> Wording:
    """Return how tags are named and counted for people."""
    definitions = {name: dictionary.get(name) for name in fields}
    return Wording(
        fields=fields,
        units={name: tag.unit or "" for name, tag in definitions.items()},
        codes={name: tag.codes or {} for name, tag in definitions.items()},
        currency=currency,
    )


def contact_caps(
    book: PolicyBook, units: Sequence[str | None], campaigns: Sequence[Campaign]
) -> tuple[ContactCap, ...]:
    """Return the caps on contacts that policies lay down, as rules of the funnel.

    Parameters
    ----------
    book
        Policies over the org tree.
    units
        Units of the customers, each once; None = customers without a unit, for whom the caps
        of all tops hold.
    campaigns
        Whose offers and channels are asked for.
    """
    offers = sorted({item.offer_id for c in campaigns for item in c.mix})
    channels = sorted({kind for c in campaigns for kind in c.channels})
    where: dict[tuple[str, int, int], dict[str, set[str]]] = {}
    for unit, offer in product(units, offers):
        for channel, cap in _caps(book, unit, offer, channels):
            key = (channel, cap.days, cap.most)
            where.setdefault(key, {}).setdefault(unit or "", set()).add(offer)
    rules = []
    for (channel, days, most), by_unit in sorted(where.items()):
        groups: dict[frozenset[str], set[str]] = {}
        for unit_id, of in by_unit.items():
            groups.setdefault(frozenset(of), set()).add(unit_id)
        for number, (of_offers, in_units) in enumerate(groups.items()):
            rules.append(_cap_rule((channel, days, most), number, of_offers, in_units))
    return tuple(rules)


def _caps(
    book: PolicyBook, unit: str | None, offer: str, channels: Sequence[str]
) -> Iterator[tuple[str, Cap]]:
    for anchor in book.tree.roots if unit is None else (unit,):
        limits = book.limits(anchor, offer)
        for channel in (ANY, *channels):
            limit = limits.get(f"caps.{channel}")
            caps = cast("tuple[Cap, ...]", limit.value) if limit else ()
            yield from ((channel, cap) for cap in caps)


def _cap_rule(
    cap: tuple[str, int, int], number: int, offers: frozenset[str], units: set[str]
) -> ContactCap:
    channel, days, most = cap
    kinds = frozenset() if channel == ANY else frozenset({channel})
    zh = "各渠道合计" if channel == ANY else channel
    en = "all channels together" if channel == ANY else channel
    return ContactCap(
        name=f"cap_{channel}_{days}d_{most}" + (f"_{number + 1}" if number else ""),
        title={
            "zh": f"已达接触频次上限({zh},{days}天内最多{most}次)",
            "en": f"Contacted as often as allowed ({en}, {most} in {days} days)",
        },
        days=days,
        most=most,
        channels=kinds,
        counted=kinds,
        units=frozenset(units),
        offers=offers,
    )
