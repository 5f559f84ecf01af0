"""What a change of policy would touch, asked before anything is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from bihuan.strategy.campaign import Campaign
from bihuan.strategy.policy.conflict import PolicyConflict
from bihuan.strategy.policy.limit import text_of
from bihuan.strategy.policy.resolved import ResolvedLimit
from bihuan.strategy.policy.statement import PolicyStatement
from bihuan.strategy.policy.verdict import Violation, campaign_units, check_campaign

if TYPE_CHECKING:  # the book offers this question as its method
    from bihuan.strategy.policy.book import PolicyBook

OPEN = "open"


@dataclass(frozen=True, slots=True)
class PolicyChange:
    """One edit: a statement put in (new, or instead of the one of its id), or taken out.

    Parameters
    ----------
    policy_id
        Which statement.
    statement
        What shall stand; None to take it out.
    """

    policy_id: str
    statement: PolicyStatement | None

    @classmethod
    def put(cls, statement: PolicyStatement) -> PolicyChange:
        """Return the change that puts a statement in."""
        return cls(statement.policy_id, statement)

    @classmethod
    def withdraw(cls, policy_id: str) -> PolicyChange:
        """Return the change that takes a statement out."""
        return cls(policy_id, None)

    @classmethod
    def approve(cls, statement: PolicyStatement) -> PolicyChange:
        """Return the change that puts a draft in force."""
        return cls(statement.policy_id, replace(statement, status="approved"))


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A limit that would be another one.

    Parameters
    ----------
    unit_id
        Where, and below it down to the next unit named for the same offers.
    offers
        Offer ids.
    facet
        Which limit.
    before, after
        As text; ``open`` = not limited.
    """

    unit_id: str
    offers: tuple[str, ...]
    facet: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class CampaignImpact:
    """What a change would do to a campaign.

    Parameters
    ----------
    campaign_id
        Which campaign.
    offers
        Offers of its mix whose policy would change where it runs.
    broken, mended
        Violations that would be new, and that would be gone.
    """

    campaign_id: str
    offers: tuple[str, ...]
    broken: tuple[Violation, ...]
    mended: tuple[Violation, ...]


@dataclass(frozen=True, slots=True)
class Impact:
    """What a change would touch.

    Parameters
    ----------
    conflicts
        Conflicts that it would make; with any, it cannot be written.
    fields
        Limits that would be others.
    units, offers
        Units and offers for which something would be another.
    campaigns
        Live campaigns that would be touched.
    customers
        Customers of the touched units, by unit; empty if no customers were given.
    is_in_force
        Whether it would hold at once; a draft changes nothing before it is approved, and then
        ``fields`` says what it would change.
    """

    conflicts: tuple[PolicyConflict, ...]
    fields: tuple[FieldChange, ...]
    units: tuple[str, ...]
    offers: tuple[str, ...]
    campaigns: tuple[CampaignImpact, ...]
    customers: Mapping[str, int]
    is_in_force: bool

    @property
    def customer_count(self) -> int:
        """Customers of all touched units."""
        return sum(self.customers.values())


def what_if(
    book: PolicyBook,
    changes: PolicyChange | Sequence[PolicyChange],
    *,
    campaigns: Iterable[Campaign] = (),
    customers: pa.Table | None = None,
) -> Impact:
    """Say what a change would touch; nothing is changed.

    Parameters
    ----------
    book
        The policies as they are.
    changes
        One edit, or several made at once.
    campaigns
        Live campaigns to look at.
    customers
        Table with a column ``org_unit_id``, one row per customer.

    Raises
    ------
    UnknownUnitError, UnknownOfferError
        If a statement names what there is not.
    """
    edits = [changes] if isinstance(changes, PolicyChange) else list(changes)
    new = book.revised({edit.policy_id: edit.statement for edit in edits})
    tops = _touched_tops(book, edits)
    below = [unit for top in tops for unit in book.tree.subtree(top)]
    drafts = any(e.statement is not None and not e.statement.is_approved for e in edits)
    fields, units = _Comparison(book, new, drafts).run(tops, below)
    offers = tuple(sorted({offer for field in fields for offer in field.offers}))
    return Impact(
        conflicts=new.conflicts(below),
        fields=fields,
        units=units,
        offers=offers,
        campaigns=tuple(_campaigns(book, new, campaigns, units, offers)),
        customers={} if customers is None else _count(customers, units),
        is_in_force=not drafts,
    )


def _touched_tops(book: PolicyBook, edits: Sequence[PolicyChange]) -> list[str]:
    named = set()
    for edit in edits:
        old = book.find(edit.policy_id)
        named |= {s.unit_id for s in (old, edit.statement) if s is not None}
    return [
        unit
        for unit in sorted(named)
        if not any(other != unit and book.tree.covers(other, unit) for other in named)
    ]


@dataclass(frozen=True, slots=True)
class _Comparison:
    """Two books, compared where something is said; elsewhere it is as above."""

    book: PolicyBook
    new: PolicyBook
    drafts: bool

    def run(
        self, tops: Sequence[str], below: Sequence[str]
    ) -> tuple[tuple[FieldChange, ...], tuple[str, ...]]:
        """Return the limits that change, and the units for which any does."""
        fields: list[FieldChange] = []
        touched: dict[str, frozenset[str]] = {}  # offers whose policy changes, by unit
        for unit in below:  # every unit before those under it
            parent = self.book.tree.get(unit).parent_id
            above = frozenset() if unit in tops or parent is None else touched[parent]
            own = None if unit in tops else (*self.book.said_by(unit), *self.new.said_by(unit))
            if own == ():
                touched[unit] = above
                continue
            groups = list(self._groups(unit, own))
            found = [f for offers in groups for f in self._compare(unit, offers)]
            fields += found
            again = {offer for offers in groups for offer in offers}
            touched[unit] = (above - again) | {o for field in found for o in field.offers}
        return tuple(fields), tuple(unit for unit in below if touched[unit])

    def _groups(
        self, unit: str, own: Sequence[PolicyStatement] | None
    ) -> Iterator[tuple[str, ...]]:
        """Yield offers that have the same limits, as far as a unit's own statements reach."""
        named = self.book.named(unit) | self.new.named(unit)
        by_kind = self.book.offers_by_kind
        said = () if own is None else own
        is_all = own is None or any(s.rank == 0 for s in said)
        kinds = set(by_kind) if is_all else {s.kind for s in said if s.kind}
        for kind in sorted(kinds & set(by_kind)):
            rest = tuple(offer for offer in by_kind[kind] if offer not in named)
            if rest:
                yield rest
            yield from ((offer,) for offer in by_kind[kind] if offer in named)
        for offer_id in sorted({s.offer_id for s in said if s.offer_id}):
            if self.book.catalogue.get(offer_id).kind not in kinds:
                yield (offer_id,)

    def _compare(self, unit: str, offers: tuple[str, ...]) -> Iterator[FieldChange]:
        before = self.book.limits(unit, offers[0], drafts=self.drafts)
        after = self.new.limits(unit, offers[0], drafts=self.drafts)
        for facet in sorted({*before, *after}):
            old, new = before.get(facet), after.get(facet)
            if old is not None and new is not None and old.value == new.value:
                continue
            touched = offers
            if facet == "offers":  # a list of offers touches those that come or go
                touched = tuple(o for o in offers if _holds(old, o) != _holds(new, o))
            if touched:
                yield FieldChange(unit, touched, facet, _text(old), _text(new))


def _holds(limit: ResolvedLimit | None, offer_id: str) -> bool:
    return limit is None or offer_id in limit.value  # type: ignore[operator]


def _text(limit: ResolvedLimit | None) -> str:
    return OPEN if limit is None else text_of(limit.value)


def _campaigns(
    book: PolicyBook,
    new: PolicyBook,
    campaigns: Iterable[Campaign],
    units: Sequence[str],
    offers: Sequence[str],
) -> Iterator[CampaignImpact]:
    for campaign in campaigns:
        touched = tuple(i.offer_id for i in campaign.mix if i.offer_id in offers)
        where = campaign_units(book, campaign)
        if not touched or not any(book.tree.covers(top, unit) for top in where for unit in units):
            continue
        before, after = check_campaign(book, campaign), check_campaign(new, campaign)
        yield CampaignImpact(
            campaign.campaign_id,
            touched,
            broken=tuple(v for v in after if v not in before),
            mended=tuple(v for v in before if v not in after),
        )


def _count(customers: pa.Table, units: Sequence[str]) -> dict[str, int]:
    column = customers["org_unit_id"]
    hit = pc.value_counts(column.filter(pc.is_in(column, value_set=pa.array(units, pa.string()))))
    counts = {row["values"]: row["counts"] for row in hit.to_pylist()}
    return {unit: counts[unit] for unit in units if unit in counts}
