"""The exclusive contract family: a fixed number of slots, each filled or marked empty.

A family (专属合约产品体系) has one slot per sub-category, e.g. three kinds of benefit in three
bands of spending and two terms. Every customer of the family's audience shall find exactly one
contract of a kind and term: bands must not overlap, and what is left open is said.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from bihuan.audience import Node
from bihuan.kernel import UserError
from bihuan.offer.catalogue import Catalogue
from bihuan.offer.exclusive import exclusive_wording
from bihuan.offer.facts import Facts, Needs
from bihuan.offer.offer import Offer
from bihuan.offer.possible import may_hold

SLOTS = 18
_STEP = 0.01  # a cent below an edge is outside


class ContractFamilyError(UserError):
    """A contract family has slots that are open, doubled or overlapping."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One sub-category.

    Parameters
    ----------
    number
        1, 2, ... up to the family's size.
    kind
        Kind of benefit: ``fee`` (话费合约), ``terminal``, ``gift``, ...
    title
        By language.
    low, high
        Band of the family's tag: ``low <= value < high``; ``inf`` where open.
    months
        Term.
    offer_id
        The offer that fills it; None if it is empty.
    empty
        Why it is empty, by language; None if it is filled.
    """

    number: int
    kind: str
    title: Mapping[str, str]
    low: float
    high: float
    months: int
    offer_id: str | None
    empty: Mapping[str, str] | None

    def overlaps(self, other: Slot) -> bool:
        """Whether both are of one kind and term and share a part of the band."""
        same = (self.kind, self.months) == (other.kind, other.months)
        return same and self.low < other.high and other.low < self.high


@dataclass(frozen=True, slots=True)
class FamilyReport:
    """What the check of a family found.

    Parameters
    ----------
    size
        How many slots the family must have.
    filled, empty
        Numbers of the slots that hold an offer, and of those marked empty.
    problems
        What must be changed, by language; empty if nothing.
    """

    size: int
    filled: tuple[int, ...]
    empty: tuple[int, ...]
    problems: tuple[Mapping[str, str], ...]

    @property
    def is_sound(self) -> bool:
        """Whether every slot is there, filled or marked empty, and no two overlap."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class FamilyFit:
    """How a family meets its customers.

    Parameters
    ----------
    customers
        In the family's audience.
    eligible
        Per slot number the customers of the audience whom its offer admits.
    doubled
        Per ``(kind, months)`` the customers whom more than one slot admits.
    unserved
        Per ``(kind, months)`` the customers whom none admits.
    """

    customers: int
    eligible: Mapping[int, int]
    doubled: Mapping[tuple[str, int], int]
    unserved: Mapping[tuple[str, int], int]


@dataclass(frozen=True, slots=True)
class ContractFamily:
    """A family of exclusive contracts.

    Parameters
    ----------
    family_id, title
        Stable id, and title by language.
    size
        How many slots there must be.
    audience
        Whom it is for, as written (拍照中高端客户: a snapshot's or a tag's audience).
    tag
        Numeric tag that the bands cut.
    slots
        Ordered by number.
    greeting, note
        Words of exclusiveness that scripts carry, by language.
    """

    family_id: str
    title: Mapping[str, str]
    size: int
    audience: Node
    tag: str
    slots: tuple[Slot, ...]
    greeting: Mapping[str, str]
    note: Mapping[str, str]

    @property
    def offer_ids(self) -> tuple[str, ...]:
        """Offers of the family, by slot."""
        return tuple(slot.offer_id for slot in self.slots if slot.offer_id is not None)

    def slot_of(self, offer_id: str) -> Slot | None:
        """Return the slot that an offer fills, or None."""
        return next((slot for slot in self.slots if slot.offer_id == offer_id), None)

    def needs(self, catalogue: Catalogue) -> Needs:
        """Return what :meth:`fit` reads of customers."""
        offers = [catalogue.get(offer_id) for offer_id in self.offer_ids]
        return Needs(nodes=frozenset({self.audience, *(offer.eligibility for offer in offers)}))

    def check(self, catalogue: Catalogue) -> FamilyReport:
        """Hold the slots against each other and against the catalogue."""
        return FamilyReport(
            size=self.size,
            filled=tuple(slot.number for slot in self.slots if slot.offer_id is not None),
            empty=tuple(slot.number for slot in self.slots if slot.offer_id is None),
            problems=(*self._slot_problems(), *self._offer_problems(catalogue)),
        )

    def require_sound(self, catalogue: Catalogue) -> FamilyReport:
        """Return the report of :meth:`check` if there is nothing to object to.

        Raises
        ------
        ContractFamilyError
            Naming every problem.
        """
        report = self.check(catalogue)
        if report.problems:
            raise ContractFamilyError(
                f"Contract family '{self.family_id}': "
                + "; ".join(problem["en"] for problem in report.problems)
                + ".",
                remedy="Correct the slots, or mark those that are open with empty: {zh, en}.",
                zh=f"合约产品体系 {self.family_id}："
                + "；".join(problem["zh"] for problem in report.problems)
                + "。请修正，尚无产品的小类请写明 empty。",
            )
        return report

    def fit(
        self, catalogue: Catalogue, facts: Facts, *, members: pa.Array | None = None
    ) -> FamilyFit:
        """Count whom each slot admits, and for whom a kind and term offers two contracts or none.

        Parameters
        ----------
        catalogue
            The offers.
        facts
            What :meth:`needs` asks for.
        members
            Ids of a snapshot cohort, outside of which nobody counts; None: the whole audience.
        """
        inside = facts.flags[self.audience]
        if members is not None:
            frozen = pc.is_in(facts.ids, value_set=members)
            inside = inside & frozen.to_numpy(zero_copy_only=False)
        admits: dict[int, NDArray[np.bool_]] = {}
        for slot in self.slots:
            if slot.offer_id is not None:
                offer = catalogue.get(slot.offer_id)
                admits[slot.number] = inside & facts.flags[offer.eligibility]
        doubled, unserved = {}, {}
        for line in sorted({(slot.kind, slot.months) for slot in self.slots}):
            mine = [s.number for s in self.slots if (s.kind, s.months) == line]
            times = np.zeros(len(facts), dtype=np.int64)
            for number in mine:
                times += admits.get(number, np.zeros(len(facts), dtype=bool))
            doubled[line] = int((times > 1).sum())
            unserved[line] = int((inside & (times == 0)).sum())
        return FamilyFit(
            customers=int(inside.sum()),
            eligible={number: int(flags.sum()) for number, flags in admits.items()},
            doubled=doubled,
            unserved=unserved,
        )

    def wording(self, script: Mapping[str, str], offer: Offer) -> dict[str, str]:
        """Return a script with the words of VIP status and exclusive service put before it.

        Parameters
        ----------
        script
            What is said, by language.
        offer
            Only an offer with ``exclusive: true`` is spoken of so; a script that says the words
            already is left as it is.
        """
        return exclusive_wording(script, offer, greeting=self.greeting, note=self.note)

    def _slot_problems(self) -> Iterator[Mapping[str, str]]:
        numbers = [slot.number for slot in self.slots]
        for number in range(1, self.size + 1):
            if numbers.count(number) == 0:
                yield {"zh": f"缺少第 {number} 小类", "en": f"slot {number} is missing"}
            elif numbers.count(number) > 1:
                yield {"zh": f"第 {number} 小类重复", "en": f"slot {number} stands twice"}
        for number in sorted({n for n in numbers if n > self.size}):
            yield {
                "zh": f"第 {number} 小类超出共 {self.size} 个小类",
                "en": f"slot {number} is beyond the {self.size} of the family",
            }
        for a, b in combinations(self.slots, 2):
            if a.overlaps(b):
                yield {
                    "zh": f"第 {a.number} 与第 {b.number} 小类的档位重叠"
                    f"（{a.low:g}–{a.high:g} 与 {b.low:g}–{b.high:g}）",
                    "en": f"slots {a.number} and {b.number} overlap "
                    f"({a.low:g}–{a.high:g} and {b.low:g}–{b.high:g})",
                }
            if a.offer_id is not None and a.offer_id == b.offer_id:
                yield {
                    "zh": f"第 {a.number} 与第 {b.number} 小类使用同一产品 {a.offer_id}",
                    "en": f"slots {a.number} and {b.number} hold the same offer {a.offer_id}",
                }

    def _band_problems(self, slot: Slot, offer: Offer) -> Iterator[Mapping[str, str]]:
        """Hold an offer's eligibility against the band of its slot, without any data."""
        for value, inside in _edge_cases(slot):
            if may_hold(offer.eligibility, {self.tag: value}) != inside:
                shown = f"{self.tag} = {value:g}"
                zh = "不含" if inside else "超出档位，包含"
                en = "does not admit" if inside else "reaches beyond the band and admits"
                yield _of(slot, f"产品 {offer.offer_id} 的办理条件{zh} {shown}",
                          f"eligibility of {offer.offer_id} {en} {shown}")  # fmt: skip

    def _offer_problems(self, catalogue: Catalogue) -> Iterator[Mapping[str, str]]:
        for slot in self.slots:
            offer = None if slot.offer_id is None else catalogue.find(slot.offer_id)
            if slot.offer_id is not None and offer is None:
                yield _of(slot, f"产品 {slot.offer_id} 不在目录中",
                          f"offer {slot.offer_id} is not in the catalogue")  # fmt: skip
            if offer is None:
                continue
            if offer.status == "retired":
                yield _of(slot, f"产品 {offer.offer_id} 已下架", f"{offer.offer_id} is retired")
            if offer.months != slot.months:
                yield _of(slot, f"产品 {offer.offer_id} 合约期为 {offer.months} 个月，应为"
                          f" {slot.months}", f"{offer.offer_id} runs {offer.months} months, "
                          f"not {slot.months}")  # fmt: skip
            yield from self._band_problems(slot, offer)
            if not offer.exclusive:
                yield _of(slot, f"产品 {offer.offer_id} 未标记 exclusive",
                          f"{offer.offer_id} is not marked exclusive: true")  # fmt: skip


def _edge_cases(slot: Slot) -> Iterator[tuple[float, bool]]:
    """Return values about the edges of a band, and whether they lie inside."""
    yield slot.low, True
    if slot.low > 0:
        yield slot.low - _STEP, False
    if math.isfinite(slot.high):
        yield slot.high - _STEP, True
        yield slot.high, False


def _of(slot: Slot, zh: str, en: str) -> Mapping[str, str]:
    return {"zh": f"第 {slot.number} 小类：{zh}", "en": f"slot {slot.number}: {en}"}
