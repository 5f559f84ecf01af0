"""Power services by customer class: what a class is entitled to, offered and told.

Classes (优质客户, 高质量用电需求客户, ...) stand in ``power_services/*.yaml``, each an audience
over tags; a class that was found by clustering or rules and became a tag serves as well. Each
class has services (a VIP counter, an overdraft of charges, a discount for prepayment), offers, and
a place for each kind of business.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bihuan.audience import Node
from bihuan.kernel import UserError
from bihuan.offer.catalogue import Catalogue
from bihuan.offer.facts import Facts, Needs

Floats: TypeAlias = NDArray[np.float64]
SERVICES = ("vip_counter", "overdraft", "prepayment_discount", "other")


class PowerServiceError(UserError):
    """Power services are asked for something they cannot give."""


@dataclass(frozen=True, slots=True)
class Service:
    """One service that a class is entitled to.

    Parameters
    ----------
    kind
        ``vip_counter``, ``overdraft``, ``prepayment_discount`` or ``other``.
    title
        By language.
    share, of, most
        For an overdraft: ``share`` of the money tag ``of``, at most ``most``, in the workspace's
        currency.
    steps
        For a prepayment discount: ``(amount from, share of the amount)``, amounts rising.
    """

    kind: str
    title: Mapping[str, str]
    share: float = 0.0
    of: str | None = None
    most: float = float("inf")
    steps: tuple[tuple[float, float], ...] = ()

    def overdraft(self, facts: Facts) -> Floats:
        """Return the overdraft limit in the workspace's currency, shape ``(n,)``.

        Rounded down to a whole unit; NaN where the tag is missing, which grants none.
        """
        if self.of is None:
            return np.full(len(facts), np.nan)
        return np.floor(np.minimum(self.share * np.maximum(facts.numbers[self.of], 0), self.most))

    def discount(self, amount: float) -> float:
        """Return what is taken off a prepayment, in the workspace's currency.

        Examples
        --------
        >>> prepay = Service("prepayment_discount", {}, steps=((500, 0.01), (2000, 0.02)))
        >>> prepay.discount(499), prepay.discount(500), prepay.discount(2000)
        (0.0, 5.0, 40.0)
        """
        place = bisect.bisect_right([start for start, _ in self.steps], amount)
        return round(amount * self.steps[place - 1][1], 2) if place else 0.0


@dataclass(frozen=True, slots=True)
class ServiceClass:
    """A class of power customers and what is arranged for it.

    Parameters
    ----------
    class_id, title
        Stable id, and title by language.
    audience
        As written.
    services
        What it is entitled to.
    offers
        Offer ids that are offered to it, first choice first.
    channels
        Per kind of business (``pay``, ``repair``, ...) the channels it may be placed in, as the
        values of ``channel_tag``; first choice first.
    hint
        What staff should know and do, by language.
    """

    class_id: str
    title: Mapping[str, str]
    audience: Node
    services: tuple[Service, ...]
    offers: tuple[str, ...]
    channels: Mapping[str, tuple[str, ...]]
    hint: Mapping[str, str]

    def find_service(self, kind: str) -> Service | None:
        """Return the service of that kind, or None."""
        return next((service for service in self.services if service.kind == kind), None)


@dataclass(frozen=True, slots=True)
class Caution:
    """A state of a customer in which marketing would annoy.

    Parameters
    ----------
    audience
        As written.
    text
        What staff are told, by language.
    """

    audience: Node
    text: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class StaffHint:
    """What staff see of one customer before they speak.

    Parameters
    ----------
    customer_id, class_id
        Whose, and the class; None if the customer is in none.
    offers
        Offer ids to offer, first choice first; empty where marketing is to be left.
    overdraft
        Limit in the workspace's currency; None = not entitled, or not known.
    cautions
        Why marketing is to be left now, by language; empty = none.
    text
        All of it in sentences, by language.
    """

    customer_id: str
    class_id: str | None
    offers: tuple[str, ...]
    overdraft: float | None
    cautions: tuple[Mapping[str, str], ...]
    text: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PowerServices:
    """Services by class.

    Parameters
    ----------
    scheme_id, title
        Stable id, and title by language.
    channel_tag
        Text tag that holds the channel a customer uses most.
    classes
        Most privileged first; a customer belongs to the first that admits him.
    cautions
        When marketing is to be left.
    """

    scheme_id: str
    title: Mapping[str, str]
    channel_tag: str
    classes: tuple[ServiceClass, ...]
    cautions: tuple[Caution, ...]

    def needs(self, catalogue: Catalogue) -> Needs:
        """Return what the arrangement reads of customers."""
        offers = [catalogue.get(name) for one in self.classes for name in one.offers]
        nodes = [one.audience for one in self.classes] + [one.audience for one in self.cautions]
        of = {service.of for one in self.classes for service in one.services if service.of}
        return Needs(
            nodes=frozenset(nodes) | frozenset(offer.eligibility for offer in offers),
            numbers=frozenset(of),
            texts=frozenset({self.channel_tag}),
        )

    def classify(self, facts: Facts) -> NDArray[np.int64]:
        """Return the position of each customer's class, shape ``(n,)``; -1 = none."""
        found = np.full(len(facts), -1, dtype=np.int64)
        for k in reversed(range(len(self.classes))):
            found[facts.flags[self.classes[k].audience]] = k
        return found

    def arrange(self, catalogue: Catalogue, facts: Facts) -> pa.Table:
        """Return what is arranged for each customer.

        Parameters
        ----------
        catalogue
            The offers.
        facts
            What :meth:`needs` asks for.

        Returns
        -------
        pyarrow.Table
            One row per customer: ``customer_id, class`` (null = none), ``vip_counter`` (boolean),
            ``overdraft`` (limit, null = not entitled or not known), ``prepayment_discount``
            (largest share of the amount, null = not entitled), ``offers`` (list of offer ids the
            customer is eligible for, first choice first; empty where marketing is to be left),
            ``leave_alone`` (boolean).
        """
        n, at = len(facts), self.classify(facts)
        counter, leave = np.zeros(n, dtype=bool), self._leave(facts)
        overdraft, discount = np.full(n, np.nan), np.full(n, np.nan)
        choice: list[NDArray[np.bool_]] = []
        names: list[str] = []
        for k, one in enumerate(self.classes):
            mine = at == k
            counter |= mine & (one.find_service("vip_counter") is not None)
            granted, prepay = one.find_service("overdraft"), one.find_service("prepayment_discount")
            if granted is not None:
                overdraft[mine] = granted.overdraft(facts)[mine]
            if prepay is not None and prepay.steps:
                discount[mine] = max(share for _, share in prepay.steps)
            for name in one.offers:
                names.append(name)
                choice.append(mine & ~leave & facts.flags[catalogue.get(name).eligibility])
        ids = pa.array([one.class_id for one in self.classes], pa.string())
        return pa.table(
            {
                "customer_id": facts.ids,
                "class": ids.take(pa.array(at, mask=at < 0)),
                "vip_counter": pa.array(counter),
                "overdraft": pa.array(overdraft, from_pandas=True),
                "prepayment_discount": pa.array(discount, from_pandas=True),
                "offers": _lists(names, choice, n),
                "leave_alone": pa.array(leave),
            }
        )

    def hint(self, catalogue: Catalogue, facts: Facts) -> StaffHint:
        """Return what staff see of one customer, from the same arrangement as everybody's.

        Parameters
        ----------
        catalogue
            The offers.
        facts
            Of one customer.

        Raises
        ------
        PowerServiceError
            If the facts are not of exactly one customer.
        """
        if len(facts) != 1:
            raise PowerServiceError(
                f"A hint is for one customer, not for {len(facts)}.",
                remedy="Ask for one customer; for many there is the arrangement.",
                zh=f"提示一次只针对一位客户，现有 {len(facts)} 位；批量请使用 arrange。",
            )
        row = self.arrange(catalogue, facts).to_pylist()[0]
        cautions = tuple(c.text for c in self.cautions if facts.flags[c.audience][0])
        at = int(self.classify(facts)[0])
        own = self.classes[at] if at >= 0 else None
        return StaffHint(
            customer_id=row["customer_id"],
            class_id=row["class"],
            offers=tuple(row["offers"]),
            overdraft=row["overdraft"],
            cautions=cautions,
            text={
                language: _sentences(own, row, cautions, catalogue, language)
                for language in ("zh", "en")
            },
        )

    def position_channels(self, facts: Facts) -> pa.Table:
        """Say for each class and business into which channel it belongs.

        Of the channels that the class's business may be placed in, the one that most members use
        is taken; if none uses any of them, the first named.

        Parameters
        ----------
        facts
            What :meth:`needs` asks for.

        Returns
        -------
        pyarrow.Table
            ``class, business, channel, members, users, share``: users are the members whose usual
            channel it is, share their part of the members whose channel is known (null if of
            none); ordered as written.
        """
        at = self.classify(facts)
        used = np.array(facts.texts[self.channel_tag].to_pylist(), dtype=object)
        rows = []
        for k, one in enumerate(self.classes):
            names, counts = _count(used[at == k])
            users = dict(zip(names, counts, strict=True))
            for business, allowed in one.channels.items():
                best = max(allowed, key=lambda channel: users.get(channel, 0))
                known = sum(counts)
                rows.append(
                    {
                        "class": one.class_id,
                        "business": business,
                        "channel": best,
                        "members": int((at == k).sum()),
                        "users": users.get(best, 0),
                        "share": users.get(best, 0) / known if known else None,
                    }
                )
        return pa.Table.from_pylist(rows, _POSITION)

    def _leave(self, facts: Facts) -> NDArray[np.bool_]:
        leave = np.zeros(len(facts), dtype=bool)
        for caution in self.cautions:
            leave |= facts.flags[caution.audience]
        return leave


_POSITION = pa.schema(
    [
        ("class", pa.string()),
        ("business", pa.string()),
        ("channel", pa.string()),
        ("members", pa.int64()),
        ("users", pa.int64()),
        ("share", pa.float64()),
    ]
)


def _lists(names: list[str], choice: list[NDArray[np.bool_]], n: int) -> pa.Array:
    if not names:
        return pa.array([[]] * n, pa.list_(pa.string()))
    picked = np.stack(choice, axis=1)
    _, column = np.nonzero(picked)
    offsets = np.concatenate([[0], np.cumsum(picked.sum(axis=1))])
    values = pa.array(names, pa.string()).take(pa.array(column))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values)


def _count(used: NDArray[np.object_]) -> tuple[list[str], list[int]]:
    known = np.array([value for value in used if value is not None], dtype=str)
    names, counts = np.unique(known, return_counts=True)
    return names.tolist(), counts.tolist()


def _sentences(
    own: ServiceClass | None,
    row: Mapping[str, object],
    cautions: tuple[Mapping[str, str], ...],
    catalogue: Catalogue,
    language: str,
) -> str:
    zh = language == "zh"
    stop, join = ("。", "、") if zh else (". ", ", ")
    if own is None:
        told = ["普通客户，按标准服务" if zh else "Standard service"]
    else:
        told = [own.title[language], own.hint[language]]
        if own.services:
            titles = join.join(service.title[language] for service in own.services)
            told.append(f"可享：{titles}" if zh else f"Entitled to: {titles}")
    if row["overdraft"] is not None:
        told.append(
            f"电费透支额度 {row['overdraft']:g}" if zh else f"Overdraft up to {row['overdraft']:g}"
        )
    told += [caution[language] for caution in cautions]
    names = [catalogue.get(str(name)).title[language] for name in list(row["offers"])]  # type: ignore[call-overload]
    if names:
        told.append(f"可推荐：{join.join(names)}" if zh else f"Offer: {join.join(names)}")
    elif cautions:
        told.append("本次不做营销" if zh else "No marketing this time")
    return (stop.join(told) + stop).strip()
