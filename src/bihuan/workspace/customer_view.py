"""What a 360 view of one customer holds: records, connections, preferences, tags, a time line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeAlias

Text: TypeAlias = Mapping[str, str]
"""A text by language, ``zh`` and ``en``."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One value with what it says.

    Parameters
    ----------
    name, title, unit
        Column or tag, what it is called by language, and the unit of its values.
    value
        As stored; None = not known.
    text
        The value as people read it: a code by its title, by language.
    """

    name: str
    title: Text
    value: Any
    text: Text
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of one snapshot.

    Parameters
    ----------
    table, meaning
        Lake table, and what a row of it is.
    as_of
        Date of the snapshot it was read from.
    facts
        Its columns.
    """

    table: str
    meaning: Text
    as_of: date
    facts: tuple[Fact, ...]

    def __getitem__(self, column: str) -> Any:
        """Return the value of a column."""
        return next(fact.value for fact in self.facts if fact.name == column)


@dataclass(frozen=True, slots=True)
class Connection:
    """How one subscription hangs together with what serves it; None where nothing is known.

    Parameters
    ----------
    subscription_id
        The subscription.
    address, resource, product
        Where it is, what of the network it occupies, its main plan.
    staff, channel
        The customer's account manager, and the channel in which that person works.
    """

    subscription_id: str
    address: Record | None
    resource: Record | None
    product: Record | None
    staff: Record | None
    channel: Record | None


@dataclass(frozen=True, slots=True)
class TagMark:
    """One tag of the customer.

    Parameters
    ----------
    fact
        Name, title and value.
    layer, means
        How far it is from the data, and by what means it was set: ``experience`` says that people
        judged, by a rule.
    as_of
        Date for which it was derived.
    """

    fact: Fact
    layer: str
    means: str
    as_of: date


@dataclass(frozen=True, slots=True)
class TagGroup:
    """The customer's tags of one category, and the categories below it.

    Parameters
    ----------
    name, path
        Its own name, and the names from the first level down.
    tags, groups
        The tags at it, and what is below.
    """

    name: str
    path: str
    tags: tuple[TagMark, ...]
    groups: tuple[TagGroup, ...]

    def walk(self) -> Iterator[TagMark]:
        """Give every tag at it and below it."""
        yield from self.tags
        for group in self.groups:
            yield from group.walk()


@dataclass(frozen=True, slots=True)
class Preference:
    """One place of a ranking.

    Parameters
    ----------
    rank
        1 = most preferred.
    code, title
        What is preferred.
    score
        Degree, where a score tag says it; None otherwise.
    """

    rank: int
    code: str
    title: Text
    score: float | None


@dataclass(frozen=True, slots=True)
class Happening:
    """One entry of the time line.

    Parameters
    ----------
    kind
        ``event``, ``ticket``, ``contact``, ``order``, ``payment`` or ``bill``.
    at
        Moment in UTC; of a bill, the last day of its month.
    title
        What happened, by language.
    record
        The row behind it, with its as-of date.
    """

    kind: str
    at: datetime | date
    title: Text
    record: Record


@dataclass(frozen=True, slots=True)
class CustomerView:
    """Everything known of one customer, each piece with its date.

    Parameters
    ----------
    customer_id, as_of
        Whose view, and up to when.
    customer, accounts, subscriptions
        The basic view (基础视图).
    family, group, unit
        Family record, household or enterprise group, and the unit that owns the customer.
    off_net
        What is known of a customer of another network; None for our own.
    connections
        Customer, address, resource, product, channel and staff, one entry per subscription.
    features
        Value orientation, personality and other features (心理性格、价值特征), as tags.
    preferences
        Ranking by kind: ``service``, ``product``, ``channel``, ``payment``, ``interest``.
    tags
        Every tag with a value, in the tree of categories.
    timeline
        What happened within the last twelve months, newest first.
    refuses_profiling
        Whether the customer refuses profiling: then features and preferences are empty, and only
        base tags are shown.
    missing
        Tables that have no snapshot to show.
    """

    customer_id: str
    as_of: date
    customer: Record
    accounts: tuple[Record, ...]
    subscriptions: tuple[Record, ...]
    family: Record | None
    group: Record | None
    unit: Record | None
    off_net: Record | None
    connections: tuple[Connection, ...]
    features: Mapping[str, TagMark]
    preferences: Mapping[str, tuple[Preference, ...]]
    tags: TagGroup
    timeline: tuple[Happening, ...]
    refuses_profiling: bool
    missing: tuple[str, ...]

    def tag(self, name: str) -> Any:
        """Return the value of a tag; None = missing or not shown."""
        return next((m.fact.value for m in self.tags.walk() if m.fact.name == name), None)

    def to_text(self, language: str = "zh") -> str:
        """Return the view as plain text, in ``zh`` or ``en``."""
        lines = [f"{self.customer_id}  {self.as_of}"]
        for record in (self.customer, *self.accounts, *self.subscriptions):
            known = [f for f in record.facts if f.value is not None]
            lines.append(f"[{record.meaning[language]}] {record.as_of}")
            lines += [f"  {f.title[language]}: {f.text[language]}" for f in known]
        for kind, places in self.preferences.items():
            ranking = " > ".join(place.title[language] for place in places)
            lines.append(f"{_KINDS[kind][language]}: {ranking}")
        for mark in self.features.values():
            lines.append(f"{mark.fact.title[language]}: {mark.fact.text[language]}")
        lines += [f"{entry.at}  {entry.title[language]}" for entry in self.timeline]
        return "\n".join(lines)


_KINDS: Mapping[str, Text] = {
    "service": {"zh": "服务偏好", "en": "Service preference"},
    "product": {"zh": "产品偏好", "en": "Product preference"},
    "channel": {"zh": "渠道偏好", "en": "Channel preference"},
    "payment": {"zh": "缴费偏好", "en": "Payment preference"},
    "interest": {"zh": "兴趣偏好", "en": "Interest preference"},
}
PREFERENCE_KINDS = tuple(_KINDS)
