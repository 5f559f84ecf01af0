"""What a board is made of: strategies, contact rules, and what is known of customers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import Exclusion, Node
from bihuan.decision.lever import NO_LEVERS, LeverBook
from bihuan.decision.value import Candidate
from bihuan.kernel import UserError
from bihuan.offer import Matching, Offer
from bihuan.strategy import PreferredWays
from bihuan.strategy.lifecycle import Moment

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


class BoardError(UserError):
    """Strategies and rules that do not go together."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """One thing that one campaign may do with a customer.

    Parameters
    ----------
    campaign_id, campaign_title
        The campaign, and its title by language.
    candidate
        Offer, channel and step.
    offer
        The offer itself.
    audience
        Whom the campaign is for.
    exclusions
        Who is left out of it.
    propensity
        Chance that a contact ends in a sale, 0..1; NaN = not known.
    cost
        Of one contact, in the workspace's currency, >= 0.
    risk_tag, kept_share, preferred_ways, matching
        See :class:`bihuan.strategy.Campaign`.
    """

    campaign_id: str
    campaign_title: Mapping[str, str]
    candidate: Candidate
    offer: Offer
    audience: Node
    exclusions: tuple[Exclusion, ...]
    propensity: float
    cost: float
    risk_tag: str | None = None
    kept_share: float = 1.0
    preferred_ways: str = "off"
    matching: str = ""


class PairPolicy(Protocol):
    """Who may sell what through which channel; :class:`bihuan.strategy.PolicyBook` is one."""

    def allowed(self, unit_ids: pa.Array, candidates: Sequence[tuple[str, str]]) -> Mask:
        """Return whether each unit may use each (offer id, channel kind); ``(n, m)``."""
        ...


@dataclass(frozen=True, slots=True)
class ContactCap:
    """At most so many contacts in a time window before a contact: a cap, or a lag.

    Parameters
    ----------
    name, title
        Code of the stage of the funnel, and title by language.
    days
        Length of the window, >= 1: a contact that many days ago no longer counts.
    most
        Contacts allowed in the window before this one; with 1, the next is allowed only when
        the last is ``days`` ago.
    channels
        Channel kinds to which the rule applies; empty = all.
    counted
        Channel kinds whose contacts count; empty = all.
    units
        Org units whose customers it is for; empty = all. The empty text stands for no unit.
    offers
        Offers to which it applies; empty = all.

    Examples
    --------
    No outbound call within 90 days of one:

    >>> calls = frozenset({"outbound"})
    >>> rule = ContactCap("call_lag", {}, 90, 1, channels=calls, counted=calls)
    >>> today = date(2026, 11, 2)
    >>> rule.allows([("outbound", date(2026, 8, 5))], today)
    False
    >>> rule.allows([("outbound", date(2026, 8, 4)), ("sms", date(2026, 11, 1))], today)
    True
    """

    name: str
    title: Mapping[str, str]
    days: int
    most: int
    channels: frozenset[str] = frozenset()
    counted: frozenset[str] = frozenset()
    units: frozenset[str] = frozenset()
    offers: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.days < 1 or self.most < 0:
            raise BoardError(
                f"Contact cap '{self.name}' allows {self.most} in {self.days} days.",
                remedy="Give at least 0 contacts in at least 1 day.",
                zh=f"接触规则“{self.name}”无效:{self.days} 天内最多 {self.most} 次,"
                "天数至少为 1,次数不小于 0。",
            )

    def governs(self, candidate: Candidate) -> bool:
        """Whether it applies to a candidate."""
        return (not self.channels or candidate.channel in self.channels) and (
            not self.offers or candidate.offer_id in self.offers
        )

    def allows(self, contacts: Iterable[tuple[str, date]], day: date) -> bool:
        """Whether one more contact is allowed on ``day`` after these (channel, day)."""
        first = day - timedelta(days=self.days)
        seen = sum(
            1
            for channel, at in contacts
            if first < at <= day and (not self.counted or channel in self.counted)
        )
        return seen < self.most


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of one customer beside the tags.

    Parameters
    ----------
    customer_id
        Who it is, for overrides; empty for somebody unknown.
    held
        Products held now.
    closed
        Channel kinds from which the customer opted out; ``all`` closes every one.
    contacts
        Earlier contacts: channel kind and day.
    org_unit_id
        Unit in charge; None if unknown.
    held_out
        Campaigns in whose control group the customer is: they must not touch him.
    moments
        Key moments at which he is, by id.
    planned
        Campaign id and candidate of contacts that the last batches planned for him: their room is
        taken already, so they are charged nothing.
    """

    customer_id: str = ""
    held: frozenset[str] = frozenset()
    closed: frozenset[str] = frozenset()
    contacts: tuple[tuple[str, date], ...] = ()
    org_unit_id: str | None = None
    held_out: frozenset[str] = frozenset()
    moments: frozenset[str] = frozenset()
    planned: tuple[tuple[str, Candidate], ...] = ()


NOTHING_KNOWN = Case()


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """The same of many customers.

    Parameters
    ----------
    customer_id
        Rows, each id once, shape ``(n,)``.
    rules
        Who meets each of the board's ``rules``, shape ``(n, n_rules)``.
    numbers
        Numeric tags of the board's ``number_tags`` by name, NaN = missing, each of shape
        ``(n,)``.
    held, opt_out, contact
        Rows of the lake tables: ``customer_id`` and ``product_id``; ``customer_id``, ``kind``
        and ``channel``; ``customer_id``, ``channel`` and ``day`` (date32). None where the table
        is absent.
    org_unit_id
        Unit in charge, shape ``(n,)``; None if there are none.
    held_out
        Customers in the control group by campaign id.
    planned
        ``customer_id, campaign_id, offer_id, channel, step`` of contacts that the last batches
        planned; None: nothing.
    suits
        Which offers suit each by the principles of the board's ``suits``, by their name, each of
        shape ``(n, n_offers)``.
    """

    customer_id: pa.Array
    rules: Mask
    numbers: Mapping[str, Floats]
    held: pa.Table | None = None
    opt_out: pa.Table | None = None
    contact: pa.Table | None = None
    org_unit_id: pa.Array | None = None
    held_out: Mapping[str, pa.Array] = field(default_factory=dict)
    planned: pa.Table | None = None
    suits: Mapping[str, Mask] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BoardRules:
    """What holds for all strategies of a board.

    Parameters
    ----------
    levers
        Factors and fit rules.
    contacts
        Caps and lags.
    moments
        Key moments that raise or lower the chance of a sale.
    off
        Factors of the value to leave out; see :func:`bihuan.decision.expected_value`.
    matchings
        Matching principles by name, of which campaigns may ask that offers suit by them.
    ways
        Preferred ways of contact, for campaigns that ask for them; None: not known.
    """

    levers: LeverBook = NO_LEVERS
    contacts: tuple[ContactCap, ...] = ()
    moments: tuple[Moment, ...] = ()
    off: tuple[str, ...] = ()
    matchings: Mapping[str, Matching] = field(default_factory=dict)
    ways: PreferredWays | None = None


def count_contacts(cases: Cases, rule: ContactCap, day: date) -> NDArray[np.int64]:
    """Return how many contacts of each customer count for a rule on ``day``, shape ``(n,)``."""
    contact = cases.contact
    if contact is None:
        return np.zeros(len(cases.customer_id), dtype=np.int64)
    first = pa.scalar(day - timedelta(days=rule.days), pa.date32())
    inside = pc.and_(
        pc.greater(contact["day"], first), pc.less_equal(contact["day"], pa.scalar(day))
    )
    if rule.counted:
        kinds = pa.array(sorted(rule.counted), pa.string())
        inside = pc.and_(inside, pc.is_in(contact["channel"], value_set=kinds))
    rows = pc.index_in(contact.filter(inside)["customer_id"], value_set=cases.customer_id)
    at = rows.drop_null().to_numpy()
    return np.bincount(at, minlength=len(cases.customer_id)).astype(np.int64)
