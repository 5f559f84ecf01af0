"""Seeing a customer's number in clear: allowed, reasoned, counted, remembered."""

from __future__ import annotations

from dataclasses import dataclass
from zoneinfo import ZoneInfo

from sqlalchemy.dialects import postgresql, sqlite
from sqlglot import exp

from bihuan.data import LakeView
from bihuan.data.personal import reveal_values
from bihuan.delivery import MARKET_ZONE
from bihuan.server.app.actor import Actor
from bihuan.server.app.errors import RefusedError
from bihuan.server.app.permission import denied
from bihuan.server.app.personal.customer import get_place, protector_of, remember_alias
from bihuan.server.app.service import Service
from bihuan.server.control import DisclosureDay, UnitOfWork

CUSTOMERS_PER_DAY = 100
"""Numbers that one account may see in clear on one day of the market's zone. A person who calls
does not call more; whoever copies does."""
_SHORTEST_REASON = 4


class DisclosureLimitError(RefusedError):
    """The account has seen as many numbers in clear as one may on a day."""


@dataclass(frozen=True, slots=True)
class RevealedNumber:
    """A number in clear; shown once, kept nowhere."""

    subscription_id: str
    service: str
    number: str


def reveal_numbers(
    service: Service, work: UnitOfWork, actor: Actor, customer_id: str, reason: str
) -> list[RevealedNumber]:
    """Return a customer's numbers in clear.

    Parameters
    ----------
    service, work, actor
        Who asks; ``work`` is in the scope of ``customer.unmask``.
    customer_id
        The customer.
    reason
        Why, in words; kept in the audit trail. The number never is.

    Raises
    ------
    PermissionDeniedError
        If no post of the actor grants it.
    NotFoundError
        If the customer is not within reach.
    RefusedError
        If there is no reason, or the day's bound is reached (:class:`DisclosureLimitError`).
    """
    if not actor.may("customer.unmask"):
        raise denied("customer.unmask")
    told = " ".join(reason.split())
    if len(told) < _SHORTEST_REASON:
        raise RefusedError(
            "Say why you need the number.",
            remedy="Write the reason in a few words; the auditors read it.",
            zh="请写明查看号码的原因，审计人员会看到。",
        )
    place = get_place(service, work, customer_id)
    _count(work, actor)
    numbers = _numbers(service, customer_id)
    work.audit(
        "customer.unmask", "customer", remember_alias(service, work, customer_id),
        reason=told, unit=place.unit_id, numbers=len(numbers),
    )  # fmt: skip
    return numbers


def _count(work: UnitOfWork, actor: Actor) -> None:
    """Take one of the day's disclosures in a single statement, so that two cannot share it."""
    day = work.now.astimezone(ZoneInfo(MARKET_ZONE)).date()
    is_sqlite = work.session.get_bind().dialect.name == "sqlite"
    insert = (sqlite.insert if is_sqlite else postgresql.insert)(DisclosureDay)
    taken = work.unscoped(
        insert.values(account_id=actor.account_id, day=day, used=1)
        .on_conflict_do_update(
            index_elements=["account_id", "day"],
            set_={"used": DisclosureDay.used + 1},
            where=DisclosureDay.used < CUSTOMERS_PER_DAY,
        )
        .returning(DisclosureDay.used),
        "an account's own counter",
    ).all()
    if not taken:
        raise DisclosureLimitError(
            f"You have seen {CUSTOMERS_PER_DAY} customers' numbers today; that is the limit.",
            remedy="Go on tomorrow, or ask for a list through a channel.",
            zh=f"您今天已查看 {CUSTOMERS_PER_DAY} 位客户的号码，已达上限，请明天再来。",
        )


def _numbers(service: Service, customer_id: str) -> list[RevealedNumber]:
    workspace = service.workspace
    view: LakeView = workspace.view
    snapshot = view.find("subscription")
    if snapshot is None:
        return []
    query = (
        exp.select("subscription_id", "service")
        .from_("subscription")
        .where(exp.column("customer_id").eq(exp.Literal.string(customer_id)))
        .order_by("subscription_id")
    )
    rows = workspace.engine.query(query, {"subscription": snapshot}).to_pylist()
    found = reveal_values(
        view,
        workspace.contracts["subscription"],
        "number",
        where=("subscription_id", [row["subscription_id"] for row in rows]),
        cipher=protector_of(service).cipher,
        engine=workspace.engine,
        as_of=snapshot.as_of,
    )
    return [
        RevealedNumber(row["subscription_id"], row["service"] or "", found[row["subscription_id"]])
        for row in rows
        if row["subscription_id"] in found
    ]
