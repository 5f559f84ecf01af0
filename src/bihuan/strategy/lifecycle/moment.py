"""Key moments (关键时刻) of marketing and service: the catalogue, its slots and its rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import Everyone, Node, parse
from bihuan.kernel.document import Document
from bihuan.offer import Catalogue, Offer
from bihuan.strategy.lifecycle.choice import OfferChoice, parse_choice
from bihuan.strategy.lifecycle.stage import STAGES

KINDS: Mapping[str, Mapping[str, str]] = {
    "marketing": {"zh": "营销", "en": "Marketing"},
    "service": {"zh": "服务", "en": "Service"},
}
SLOTS = 34
"""Slots of the catalogue unless its file says otherwise."""


@dataclass(frozen=True, slots=True)
class EventRule:
    """A moment that begins with something that happened.

    Parameters
    ----------
    table
        Lake table whose rows are what happens (``ticket``, ``event``, ``product_order``, ...).
    when
        Which rows; conditions on the table's columns.
    day
        Column that says when.
    days
        How many days the moment lasts, that of the event included, >= 1.
    """

    table: str
    when: Node
    day: str
    days: int


@dataclass(frozen=True, slots=True)
class Moment:
    """One key moment.

    Parameters
    ----------
    moment_id
        Unique in the catalogue.
    title, action
        What it is and what is done then, by language.
    stage
        Life-cycle stage it belongs to.
    kind
        ``marketing`` or ``service``.
    supported
        Whether the system can see it.
    rule
        Customers for whom it is now (over tags), or an event; None if it is not supported.
    lacks
        By language, which data it would take; None if it is supported.
    choice, channels
        Offers and channel kinds that it concerns; channels empty = all.
    factor
        By which it multiplies the propensity of these, >= 0: above 1 for an occasion, 0 for a
        moment at which one does not sell.
    """

    moment_id: str
    title: Mapping[str, str]
    action: Mapping[str, str]
    stage: str
    kind: str
    supported: bool
    rule: Node | EventRule | None
    lacks: Mapping[str, str] | None
    choice: OfferChoice
    channels: frozenset[str]
    factor: float

    def concerns(self, offer: Offer, channel: str) -> bool:
        """Whether an offer through a channel is concerned."""
        return self.choice.takes(offer) and (not self.channels or channel in self.channels)


@dataclass(frozen=True, slots=True)
class MomentBook:
    """A catalogue of key moments.

    Parameters
    ----------
    name, title
        Of the file.
    customers
        The valued customers whom it is for.
    moments
        One per slot.
    """

    name: str
    title: Mapping[str, str]
    customers: Node
    moments: tuple[Moment, ...]

    @property
    def supported(self) -> tuple[Moment, ...]:
        """The moments that the system can see."""
        return tuple(moment for moment in self.moments if moment.supported)

    @property
    def unsupported(self) -> tuple[Moment, ...]:
        """The moments for which data are missing."""
        return tuple(moment for moment in self.moments if not moment.supported)

    def of_stage(self, stage: str) -> tuple[Moment, ...]:
        """Return the moments of a life-cycle stage."""
        return tuple(moment for moment in self.moments if moment.stage == stage)

    def factor(self, moment_ids: Iterable[str], offer: Offer, channel: str) -> float:
        """Return the factor of one offer through one channel for a customer at some moments.

        Parameters
        ----------
        moment_ids
            At which moments the customer is.
        offer, channel
            What would be offered.

        Returns
        -------
        float
            The strongest rise times the strongest fall; 1 without any.
        """
        chosen = set(moment_ids)
        factors = [
            moment.factor
            for moment in self.moments
            if moment.moment_id in chosen and moment.concerns(offer, channel)
        ]
        return max([1.0, *factors]) * min([1.0, *factors])

    def table(self, language: str = "zh") -> pa.Table:
        """Return one row per slot: id, title, stage, kind, whether supported, action, lacks."""
        return pa.table(
            {
                "moment_id": [m.moment_id for m in self.moments],
                "title": [m.title[language] for m in self.moments],
                "stage": [m.stage for m in self.moments],
                "kind": [m.kind for m in self.moments],
                "supported": [m.supported for m in self.moments],
                "action": [m.action[language] for m in self.moments],
                "lacks": pa.array(
                    [m.lacks[language] if m.lacks else None for m in self.moments], pa.string()
                ),
            }
        )


def moment_factors(
    book: MomentBook,
    detected: pa.Table,
    customer_id: pa.Array,
    candidates: Sequence[tuple[str, str]],
    catalogue: Catalogue,
) -> NDArray[np.float64]:
    """Return what the present moments multiply each customer's propensities by.

    Parameters
    ----------
    book
        The catalogue of moments.
    detected
        ``customer_id`` and ``moment_id``, from :func:`detect`.
    customer_id
        Rows of the result, length n.
    candidates
        Offer id and channel kind of its columns, m pairs.
    catalogue
        The offers.

    Returns
    -------
    numpy.ndarray
        Shape ``(n, m)``, >= 0; 1 where there is no moment. The context factor of the decision.
    """
    rise = np.ones((len(customer_id), len(candidates)))
    fall = np.ones_like(rise)
    offers = [(catalogue.get(offer_id), channel) for offer_id, channel in candidates]
    for moment in book.supported:
        concerned = np.array([moment.concerns(offer, channel) for offer, channel in offers])
        if moment.factor == 1 or not concerned.any():
            continue
        here = detected.filter(pc.equal(detected["moment_id"], moment.moment_id))
        at = pc.index_in(here["customer_id"], value_set=customer_id).drop_null().to_numpy()
        where = np.ix_(np.unique(at.astype(np.int64)), np.flatnonzero(concerned))
        rise[where] = np.maximum(rise[where], moment.factor)
        fall[where] = np.minimum(fall[where], moment.factor)
    product: NDArray[np.float64] = rise * fall
    return product


def load_moments(path: Path) -> MomentBook:
    """Read a catalogue of key moments.

    Parameters
    ----------
    path
        YAML file with a list under ``moments``.

    Raises
    ------
    DocumentError
        If a field is missing or of the wrong form, the number of moments is not that of the
        slots, a stage has none, or a supported moment has no rule.
    """
    top = Document.read(path).allow("moment_book", "title", "note", "slots", "customers", "moments")
    moments = tuple(_parse_moment(part) for part in top.parts("moments"))
    slots = top.whole("slots", SLOTS, low=1)
    if len(moments) != slots:
        raise top.refuse("moments", f"holds {len(moments)}", f"Fill exactly {slots} slots.")
    ids = [moment.moment_id for moment in moments]
    twice = sorted({moment_id for moment_id in ids if ids.count(moment_id) > 1})
    if twice:
        raise top.refuse("moments", f"has '{twice[0]}' twice", "Give each its own id.")
    bare = [stage for stage in STAGES if stage not in {moment.stage for moment in moments}]
    if bare:
        raise top.refuse("moments", f"has none of the stage '{bare[0]}'", "Cover every stage.")
    customers = parse(top.text("customers")) if top.has("customers") else Everyone()
    return MomentBook(top.text("moment_book", path.stem), top.titles("title"), customers, moments)


def _parse_moment(part: Document) -> Moment:
    part.allow("id", "title", "action", "stage", "kind", "supported", "when", "event", "lacks",
               "offers", "channels", "factor")  # fmt: skip
    supported = part.flag("supported")
    rules = [field for field in ("when", "event") if part.has(field)]
    if supported and len(rules) != 1:
        raise part.refuse("when", "or event is needed once", "Say how the moment is seen.")
    if not supported and (rules or not part.has("lacks")):
        raise part.refuse("lacks", "must stand instead of a rule", "Say which data are missing.")
    rule: Node | EventRule | None = None
    if rules == ["when"]:
        rule = parse(part.text("when"))
    elif rules:
        rule = _parse_event(part.part("event"))
    return Moment(
        moment_id=part.text("id"),
        title=part.titles("title"),
        action=part.titles("action"),
        stage=part.choice("stage", tuple(STAGES)),
        kind=part.choice("kind", tuple(KINDS)),
        supported=supported,
        rule=rule,
        lacks=None if supported else part.titles("lacks"),
        choice=parse_choice(part.find_part("offers")),
        channels=frozenset(part.texts("channels")),
        factor=part.number("factor", 1.0, low=0, high=10),
    )


def _parse_event(part: Document) -> EventRule:
    part.allow("table", "when", "day", "days")
    return EventRule(
        table=part.text("table"),
        when=parse(part.text("when", "everyone")),
        day=part.text("day"),
        days=part.whole("days", 30, low=1),
    )
