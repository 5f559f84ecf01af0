"""What a scheme is designed on: customers, scores, margins, chances by channel, preferences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import (
    Node,
    apply_suppression,
    bind,
    parse,
    read_flags,
    standard_suppression,
)
from bihuan.evaluation.indicator import UnitTree
from bihuan.kernel import UserError
from bihuan.offer import Offer
from bihuan.server.app.errors import RefusedError, missing
from bihuan.server.app.scheme.terms import SchemeTerms
from bihuan.server.app.service import Service
from bihuan.step import read_history
from bihuan.tag import TagTable

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """Customers who come into question, and what each contact would be worth.

    Parameters
    ----------
    ids, units
        Customers, and the org unit of each (missing where it has none).
    score
        Shape ``(n,)``.
    candidates
        Offer and channel of each column.
    chance
        Chance of a sale, shape ``(n, m)``; NaN where the customer is not eligible.
    plain
        The same before the customer's preferred ways.
    value, spent
        Expected value less cost, and expected cost, shape ``(n, m)``.
    effect
        Expected change of the goal's metric by a contact, shape ``(n, m)``.
    room
        Columns of each channel with a capacity, and the capacity.
    rates
        What the chances rest on, by offer and channel.
    tree
        Org tree of the date.
    notes
        By language.
    """

    ids: pa.Array
    units: list[str | None]
    score: Floats
    candidates: tuple[tuple[Offer, str], ...]
    chance: Floats
    plain: Floats
    value: Floats
    spent: Floats
    effect: Floats
    room: tuple[tuple[tuple[int, ...], float], ...]
    rates: tuple[Mapping[str, Any], ...]
    tree: UnitTree
    notes: tuple[Mapping[str, str], ...]


def read_case(
    service: Service, offers: Sequence[Offer], unit_id: str, terms: SchemeTerms, as_of: date
) -> Reading:
    """Read what a scheme is designed on.

    Raises
    ------
    NotFoundError
        If the unit is not in the lake's tree.
    RefusedError
        If no channel sells any of the offers, or nobody comes into question.
    """
    ws = service.workspace
    tags = ws.tags(as_of)
    candidates = tuple(
        (offer, channel)
        for offer in offers
        for channel in terms.channels
        if channel in offer.channels
    )
    if not candidates:
        raise RefusedError(
            "None of the channels sells the product.",
            remedy=f"Choose from: {', '.join(sorted({c for o in offers for c in o.channels}))}.",
            zh="所选渠道均不能销售该产品，请更换渠道。",
        )
    tree = UnitTree.at(ws.view, as_of)
    if unit_id not in tree.parent:
        raise missing("org unit", "组织单元", unit_id)
    ids, units, eligible = _customers(service, offers, tree.below(unit_id), terms, tags)
    names = sorted({terms.score} | {o.margin.tag for o in offers if o.margin.tag})
    numbers = _numbers(service, tags, ids, names)
    is_scored = ~np.isnan(numbers[terms.score])
    kept = np.flatnonzero(is_scored)
    ids, units = ids.take(pa.array(kept)), [units[i] for i in kept]
    numbers = {name: column[kept] for name, column in numbers.items()}
    if not len(kept):
        raise RefusedError(
            "Nobody comes into question: no customer is left with a score.",
            remedy="Widen `within`, or look at the suppression counts.",
            zh="没有符合条件且有评分的客户，请放宽范围或查看剔除明细。",
        )
    rates = _rates(service, candidates, terms)
    liked, notes = _preferences(service, as_of, ids, [channel for _, channel in candidates])
    plain = _chances(numbers[terms.score], rates, terms)
    chance = plain * liked
    possible = np.column_stack([eligible[offer.offer_id][kept] for offer, _ in candidates])
    chance = np.where(possible & (liked > 0), np.clip(chance, 0.0, 1.0), np.nan)
    value, spent, effect = _worth(chance, numbers, candidates, terms)
    return Reading(
        ids, units, numbers[terms.score], candidates, chance, plain, value, spent, effect,
        _room(candidates, terms), rates, tree, notes,
    )  # fmt: skip


def _customers(
    service: Service,
    offers: Sequence[Offer],
    below: Sequence[str],
    terms: SchemeTerms,
    tags: TagTable,
) -> tuple[pa.Array, list[str | None], dict[str, NDArray[np.bool_]]]:
    """Return who is left after suppression in the units, and who may be offered what."""
    ws = service.workspace
    base = parse(terms.within)
    kept = apply_suppression(base, standard_suppression(), tags, engine=ws.engine).kept
    ids = kept[tags.id_column].combine_chunks()
    rows = ws.view.get("customer", tags.as_of).read(["customer_id", "org_unit_id"])
    at = pc.index_in(ids, value_set=rows["customer_id"].combine_chunks())
    unit = rows["org_unit_id"].take(at).combine_chunks()
    inside = pc.is_in(unit, value_set=pa.array(list(below), pa.string()))
    ids, unit = ids.filter(inside), unit.filter(inside)
    nodes: list[Node] = [bind(offer.eligibility, tags.fields) for offer in offers]
    everyone, flags = read_flags(nodes, tags, engine=ws.engine)
    place = pc.index_in(ids, value_set=everyone.combine_chunks()).to_numpy().astype(np.int64)
    eligible = {offer.offer_id: flags[place, i] for i, offer in enumerate(offers)}
    return ids, unit.to_pylist(), eligible


def _numbers(
    service: Service, tags: TagTable, ids: pa.Array, names: Sequence[str]
) -> dict[str, Floats]:
    table = tags.read(service.workspace.engine, names)
    at = pc.index_in(ids, value_set=table[tags.id_column].combine_chunks())
    return {
        name: np.asarray(
            table[name].take(at).cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64
        )
        for name in names
    }


def _rates(
    service: Service, candidates: Sequence[tuple[Offer, str]], terms: SchemeTerms
) -> tuple[Mapping[str, Any], ...]:
    """Return the share of contacts that ended in a sale, drawn towards the experience value."""
    history = read_history(service.workspace.rooms, terms.starts_on)
    found = []
    for offer, channel in candidates:
        prior = terms.channels[channel].acceptance
        own = [h for h in history if h.offer_id == offer.offer_id and h.channel == channel]
        contacts, sales = sum(h.contacts for h in own), sum(h.ordered for h in own)
        rate = (sales + terms.prior_contacts * prior) / (contacts + terms.prior_contacts)
        found.append(
            {
                "offer_id": offer.offer_id, "channel": channel, "contacts": contacts,
                "sales": sales, "experience": prior, "rate": rate,
            }
        )  # fmt: skip
    return tuple(found)


def _chances(
    score: Floats,
    rates: Sequence[Mapping[str, Any]],
    terms: SchemeTerms,
) -> Floats:
    rate = np.array([one["rate"] for one in rates], dtype=np.float64)
    if terms.kind == "risk":
        return np.broadcast_to(rate, (len(score), len(rate))).copy()
    contacts: dict[str, int] = {}
    for one in rates:
        contacts[one["channel"]] = contacts.get(one["channel"], 0) + int(one["contacts"])
    reference = terms.reference or max(contacts, key=lambda name: (contacts[name], name))
    of_reference = np.mean(
        [one["rate"] for one in rates if one["channel"] == reference]
        or [terms.channels[reference].acceptance]
    )
    factor = rate / of_reference if of_reference > 0 else np.ones_like(rate)
    return np.asarray(score[:, None] * factor[None, :])


def _preferences(
    service: Service, as_of: date, ids: pa.Array, channels: Sequence[str]
) -> tuple[Floats, tuple[Mapping[str, str], ...]]:
    try:
        matrix = service.workspace.strategy.preference_matrix(as_of, ids, channels)
    except UserError as error:  # no history, or tags that the ways are told by are not there
        note = {
            "zh": f"渠道偏好未计入：{error.text('zh')}",
            "en": f"Preferred ways are left out: {error.message}",
        }
        return np.ones((len(ids), len(channels))), (note,)
    return np.asarray(matrix, dtype=np.float64), ()


def _worth(
    chance: Floats,
    numbers: Mapping[str, Floats],
    candidates: Sequence[tuple[Offer, str]],
    terms: SchemeTerms,
) -> tuple[Floats, Floats, Floats]:
    """Return expected value less cost, expected cost, and expected effect on the goal."""
    n = len(chance)
    margin = np.column_stack([offer.margin.of(numbers, n) for offer, _ in candidates])
    gift = np.array([offer.cost for offer, _ in candidates])
    cost = np.array([terms.channels[channel].unit_cost for _, channel in candidates])
    effect = chance
    if terms.kind == "risk":
        effect = chance * terms.kept_share * numbers[terms.score][:, None]
    spent = chance * gift + cost
    return effect * margin - spent, spent, effect


def _room(
    candidates: Sequence[tuple[Offer, str]], terms: SchemeTerms
) -> tuple[tuple[tuple[int, ...], float], ...]:
    found = []
    for channel, held in terms.channels.items():
        columns = tuple(i for i, (_, name) in enumerate(candidates) if name == channel)
        if held.capacity is not None and columns:
            found.append((columns, float(held.capacity)))
    return tuple(found)
