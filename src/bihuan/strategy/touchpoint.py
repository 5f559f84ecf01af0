"""Touchpoints (halls, seats, pages): how digital each is, and which strategies suit it.

The degree of digitisation is the weighted share of the abilities that a touchpoint has (recognise
the customer, show a screen, take an order online, ...). Which abilities there are, what they weigh
and who has them stands in ``touchpoints/*.yaml``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from bihuan.audience import Node
from bihuan.kernel import UserError
from bihuan.kernel.document import Document, DocumentError
from bihuan.offer import Catalogue
from bihuan.strategy.policy.statement import channel_kinds
from bihuan.strategy.script.script import read_audience


class UnknownTouchpointError(UserError):
    """There is no touchpoint of that id."""


@dataclass(frozen=True, slots=True)
class TouchpointKind:
    """A kind of touchpoint.

    Parameters
    ----------
    kind
        Its name; outlets of the lake have the kinds ``own``, ``franchised``, ``partner``,
        ``kiosk``.
    channel
        Channel kind through which it works.
    abilities
        What touchpoints of the kind can do, unless one is listed by itself.
    """

    kind: str
    channel: str
    abilities: frozenset[str]


@dataclass(frozen=True, slots=True)
class Touchpoint:
    """A place where customers are met: a hall, a team of seats, a page.

    Parameters
    ----------
    touchpoint_id
        Its id; of an outlet the outlet id.
    kind, channel
        What it is and through which channel kind it works.
    unit_id
        Org unit whose customers it serves, with all units below.
    title
        By language.
    abilities
        What it can do.
    degree
        Degree of digitisation, 0 to 1.
    size
        How much it takes beside others of the same unit (counters, seats), > 0.
    """

    touchpoint_id: str
    kind: str
    channel: str
    unit_id: str
    title: Mapping[str, str]
    abilities: frozenset[str]
    degree: float
    size: float


@dataclass(frozen=True, slots=True)
class TouchpointStrategy:
    """What touchpoints of some sort shall offer, to whom.

    Parameters
    ----------
    strategy_id, title, action
        Which one; what the touchpoint does, by language.
    kinds
        Kinds of touchpoint; empty = all.
    low, high
        Band of the degree of digitisation, both ends included.
    needs
        Abilities without which it cannot be done.
    audience
        To whom.
    preference
        Least share of the customer's preference that the channel must have, 0 to 1.
    offers
        Offer ids; a customer is given the first that suits.
    priority
        Of several that suit a customer at a touchpoint the greatest is taken, then the one
        written first.
    place
        File and position, for messages.
    """

    strategy_id: str
    title: Mapping[str, str]
    action: Mapping[str, str]
    kinds: frozenset[str]
    low: float
    high: float
    needs: frozenset[str]
    audience: Node
    preference: float
    offers: tuple[str, ...]
    priority: int
    place: str

    def suits(self, touchpoint: Touchpoint) -> bool:
        """Whether it can be done at a touchpoint."""
        return (
            (not self.kinds or touchpoint.kind in self.kinds)
            and self.low <= touchpoint.degree <= self.high
            and self.needs <= touchpoint.abilities
        )


class TouchpointBook:
    """Kinds of touchpoints, single ones, and strategies.

    Parameters
    ----------
    weights
        Weight of each ability, > 0.
    kinds
        By name.
    listed
        Touchpoints listed by themselves, with or without a unit, by id.
    strategies
        In the order in which they are tried.
    preference
        Tag with the score of a customer's preference, by channel kind.
    """

    def __init__(
        self,
        weights: Mapping[str, float],
        kinds: Mapping[str, TouchpointKind],
        listed: Mapping[str, Document],
        strategies: Sequence[TouchpointStrategy],
        preference: Mapping[str, str],
    ) -> None:
        self.weights = weights
        self.kinds = kinds
        self.strategies = tuple(sorted(strategies, key=lambda s: -s.priority))
        self.preference = preference
        self._listed = listed

    @classmethod
    def load(cls, places: Path | Sequence[Path], catalogue: Catalogue) -> TouchpointBook:
        """Read touchpoint files.

        Parameters
        ----------
        places
            Folders with YAML files, or files.
        catalogue
            Where the strategies' offers must stand.

        Raises
        ------
        DocumentError
            If a field is missing or wrong, or something stands twice; names file and field.
        UnknownOfferError
            If an offer is not in the catalogue.
        """
        reader = _Reader()
        for place in [places] if isinstance(places, Path) else places:
            for path in sorted(place.glob("*.yaml")) if place.is_dir() else [place]:
                reader.read(Document.read(path))
        return reader.book(catalogue)

    def degree(self, abilities: frozenset[str]) -> float:
        """Return the degree of digitisation that abilities make, 0 to 1."""
        whole = sum(self.weights.values())
        return sum(self.weights[a] for a in abilities) / whole if whole else 0.0

    def touchpoints(self, outlets: pa.Table | None = None) -> tuple[Touchpoint, ...]:
        """Return every touchpoint: the open outlets of the lake and those listed.

        Parameters
        ----------
        outlets
            Rows of the lake table ``outlet``; None where there are none.

        Raises
        ------
        DocumentError
            If an outlet's kind is not described, or a listed one that is no outlet lacks kind or
            unit.
        """
        found = []
        seen = set()
        for row in [] if outlets is None else outlets.to_pylist():
            seen.add(row["outlet_id"])
            if row.get("status") in (None, "open"):
                found.append(self._outlet(row))
        for name, part in self._listed.items():
            if name not in seen:
                found.append(self._single(name, part))
        return tuple(found)

    def _outlet(self, row: Mapping[str, object]) -> Touchpoint:
        name, part = str(row["outlet_id"]), self._listed.get(str(row["outlet_id"]))
        kind = self.kinds.get(str(row.get("kind")))
        if kind is None:
            raise DocumentError(
                f"Outlet '{name}' is of the kind '{row.get('kind')}', which touchpoints/ does not"
                " describe.",
                remedy="Add the kind under kinds: with its channel and abilities.",
                zh=f"网点 {name} 的类型 {row.get('kind')} 未在 touchpoints/ 中说明。"
                "请在 kinds: 下补充其渠道与能力。",
            )
        zh, en = row.get("name_zh") or name, row.get("name_en") or name
        return self._make(
            name, kind, str(row["org_unit_id"]), {"zh": str(zh), "en": str(en)}, part,
            float(str(row.get("seat_count") or 1)),
        )  # fmt: skip

    def _single(self, name: str, part: Document) -> Touchpoint:
        kind = self.kinds[part.choice("kind", self.kinds)]
        return self._make(name, kind, part.text("unit"), part.titles("title"), part, 1.0)

    def _make(
        self,
        name: str,
        kind: TouchpointKind,
        unit: str,
        title: Mapping[str, str],
        part: Document | None,
        size: float,
    ) -> Touchpoint:
        abilities = kind.abilities
        if part is not None and part.has("abilities"):
            abilities = _abilities(part, self.weights)
        if part is not None:
            size = part.number("size", max(size, 1.0), low=1e-6)
        return Touchpoint(
            name, kind.kind, kind.channel, unit, title, abilities, self.degree(abilities),
            max(size, 1e-6),
        )  # fmt: skip


class _Reader:
    """Puts the parts of several files together."""

    def __init__(self) -> None:
        self.weights: dict[str, float] = {}
        self.kinds: list[Document] = []
        self.listed: dict[str, Document] = {}
        self.strategies: list[Document] = []
        self.preference: dict[str, str] = {}

    def read(self, top: Document) -> None:
        top.allow("note", "abilities", "kinds", "touchpoints", "strategies", "preference")
        abilities = top.find_part("abilities")
        for name in [] if abilities is None else abilities.fields():
            part = abilities.part(name).allow("weight", "title")  # type: ignore[union-attr]
            part.titles("title")
            self.weights[name] = part.number("weight", low=1e-6)
        preference = top.find_part("preference")
        for channel in [] if preference is None else preference.fields():
            _require_channel(preference, channel, channel)  # type: ignore[arg-type]
            self.preference[channel] = preference.text(channel)  # type: ignore[union-attr]
        self.kinds += top.parts("kinds")
        self.strategies += top.parts("strategies")
        for part in top.parts("touchpoints"):
            part.allow("touchpoint_id", "kind", "unit", "title", "abilities", "size")
            name = part.text("touchpoint_id")
            if name in self.listed:
                raise part.refuse("touchpoint_id", f"'{name}' stands twice", "List it once.")
            self.listed[name] = part

    def book(self, catalogue: Catalogue) -> TouchpointBook:
        kinds = {}
        for part in self.kinds:
            part.allow("kind", "channel", "abilities")
            _require_channel(part, "channel", part.text("channel"))
            name = part.text("kind")
            if name in kinds:
                raise part.refuse("kind", f"'{name}' stands twice", "Describe it once.")
            kinds[name] = TouchpointKind(name, part.text("channel"), _abilities(part, self.weights))
        strategies = [self._strategy(part, kinds, catalogue) for part in self.strategies]
        names = [strategy.strategy_id for strategy in strategies]
        for part, name in zip(self.strategies, names, strict=True):
            if names.count(name) > 1:
                raise part.refuse("strategy_id", f"'{name}' stands twice", "Name each once.")
        book = TouchpointBook(self.weights, kinds, self.listed, strategies, self.preference)
        for part in self.listed.values():  # a wrong one is told now and not when it is used
            if part.has("abilities"):
                _abilities(part, self.weights)
            if part.has("kind"):
                part.choice("kind", kinds)
        return book

    def _strategy(
        self, part: Document, kinds: Mapping[str, TouchpointKind], catalogue: Catalogue
    ) -> TouchpointStrategy:
        part.allow(
            "strategy_id", "title", "action", "kinds", "digitisation", "needs", "audience",
            "preference", "offers", "priority", "note",
        )  # fmt: skip
        band = part.find_part("digitisation") or Document({}, part.where)
        band.allow("low", "high")
        for kind in part.texts("kinds"):
            if kind not in kinds:
                raise part.refuse("kinds", f"names '{kind}'", f"Known: {', '.join(sorted(kinds))}.")
        offers = part.texts("offers")
        if not offers:
            raise part.refuse("offers", "is empty", "Name at least one offer.")
        return TouchpointStrategy(
            strategy_id=part.text("strategy_id"),
            title=part.titles("title"),
            action=part.titles("action"),
            kinds=frozenset(part.texts("kinds")),
            low=band.number("low", 0.0, low=0, high=1),
            high=band.number("high", 1.0, low=0, high=1),
            needs=_abilities(part, self.weights, "needs"),
            audience=read_audience(part),
            preference=part.number("preference", 0.0, low=0, high=1),
            offers=tuple(catalogue.get(offer).offer_id for offer in offers),
            priority=part.whole("priority", 0),
            place=f"{part.where} ({part.text('strategy_id')})",
        )


def _abilities(
    part: Document, weights: Mapping[str, float], name: str = "abilities"
) -> frozenset[str]:
    found = part.texts(name)
    for ability in found:
        if ability not in weights:
            raise part.refuse(name, f"names '{ability}'", f"Known: {', '.join(sorted(weights))}.")
    return frozenset(found)


def _require_channel(part: Document, name: str, channel: str) -> None:
    if channel not in channel_kinds():
        raise part.refuse(
            name, f"names the unknown channel '{channel}'",
            f"Choose from: {', '.join(channel_kinds())}.",
        )  # fmt: skip
