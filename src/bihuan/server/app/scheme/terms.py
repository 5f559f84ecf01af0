"""What a planner says before a scheme is designed; everything else comes from the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from bihuan.kernel.document import Document
from bihuan.server.app.scheme.threshold import Bounds

KINDS = ("propensity", "risk")
"""What the score is: the chance that a contact ends in a sale, or that the customer leaves."""


@dataclass(frozen=True, slots=True)
class ChannelTerms:
    """What is known of a channel before there is any history.

    Parameters
    ----------
    unit_cost
        Of one contact, in the workspace's currency.
    acceptance
        Experience value: share of contacts that end in a sale, 0 to 1.
    capacity
        Contacts over the whole scheme; None where open.
    """

    unit_cost: float
    acceptance: float
    capacity: int | None = None


@dataclass(frozen=True, slots=True)
class SchemeTerms:
    """The order for a scheme.

    Parameters
    ----------
    score
        Customer tag, 0 to 1.
    kind
        One of :data:`KINDS`.
    channels
        By channel kind.
    starts_on, ends_on
        Period, both days included.
    model
        Model of ``models/`` that gives the score; learnt where the score is not there. Empty:
        the score must be there.
    within
        Customers who come into question.
    kept_share
        With ``risk``: of those who would leave and accept, the share expected to stay.
    bounds
        Size and budget.
    reference
        With ``propensity``: channel whose chance of a sale the score is; empty: the one with the
        most contacts in the history.
    base_rate
        With ``propensity``: share of customers who would buy without contact, for the control
        group's size.
    prior_contacts
        Contacts that an experience value is worth beside the history.
    wanted_power, most_control
        Of the control group: chance of seeing the effect, and the greatest share held out.
    rehearse
        Whether the scheme is rehearsed.
    """

    score: str
    kind: str
    channels: Mapping[str, ChannelTerms]
    starts_on: date
    ends_on: date
    model: str = ""
    within: str = "everyone"
    kept_share: float = 0.5
    bounds: Bounds = field(default_factory=Bounds)
    reference: str = ""
    base_rate: float = 0.005
    prior_contacts: float = 50.0
    wanted_power: float = 0.8
    most_control: float = 0.3
    rehearse: bool = True


def parse_terms(document: Mapping[str, Any]) -> SchemeTerms:
    """Read an order; raise DocumentError naming the field that is wrong."""
    top = Document(dict(document), "terms").allow(
        "score", "kind", "channels", "starts_on", "ends_on", "model", "within", "kept_share",
        "least", "most", "budget", "reference", "base_rate", "prior_contacts", "wanted_power",
        "most_control", "rehearse",
    )  # fmt: skip
    channels = top.part("channels")
    terms = SchemeTerms(
        score=top.text("score"),
        kind=top.choice("kind", KINDS),
        channels={kind: _channel(channels.part(kind)) for kind in channels.fields()},
        starts_on=top.day("starts_on"),
        ends_on=top.day("ends_on"),
        model=top.text("model", ""),
        within=top.text("within", "everyone"),
        kept_share=top.number("kept_share", 0.5, low=0, high=1),
        bounds=Bounds(
            top.whole("least", 1, low=1),
            top.whole("most", low=1) if top.has("most") else None,
            top.number("budget", low=0) if top.has("budget") else None,
        ),
        reference=top.text("reference", ""),
        base_rate=top.number("base_rate", 0.005, low=1e-6, high=0.999),
        prior_contacts=top.number("prior_contacts", 50.0, low=1e-9),
        wanted_power=top.number("wanted_power", 0.8, low=0.06, high=0.999),
        most_control=top.number("most_control", 0.3, low=0.01, high=0.9),
        rehearse=top.flag("rehearse", True),
    )
    if not terms.channels:
        raise top.refuse("channels", "is empty", "Name at least one channel.")
    if terms.ends_on < terms.starts_on:
        raise top.refuse("ends_on", "is before starts_on", "Give the last day of the period.")
    if terms.reference and terms.reference not in terms.channels:
        raise top.refuse("reference", "is no channel of the scheme", "Choose one of channels.")
    return terms


def _channel(part: Document) -> ChannelTerms:
    part.allow("unit_cost", "acceptance", "capacity")
    return ChannelTerms(
        unit_cost=part.number("unit_cost", low=0),
        acceptance=part.number("acceptance", low=0, high=1),
        capacity=part.whole("capacity") if part.has("capacity") else None,
    )
